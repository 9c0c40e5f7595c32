//! The second factors that a person can show, one file each.

pub mod backup;
pub mod totp;

pub use backup::BackupCode;
pub use totp::{TotpCode, TotpKey};
