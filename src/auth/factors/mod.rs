//! The second factors that a person can show, one file each: how it is listed, and what makes an
//! answer right. `docs/adding-a-factor.md` goes through what a further one needs.

pub mod backup;
pub mod email;
pub mod hotp;
pub mod sms;
pub mod totp;
pub mod webauthn;

pub use backup::BackupCode;
pub use hotp::{HotpKey, HotpToken, NoToken};
pub use totp::{NotTakenOver, TotpCode, TotpKey};

use super::plan::{Enrolled, Way};

/// One way for each kind that this person could show today, the most useful kind first.
pub(super) fn ways(enrolled: &Enrolled) -> Vec<Way> {
    let all = [
        webauthn::way(enrolled),
        totp::way(enrolled),
        hotp::way(enrolled),
        sms::way(enrolled),
        email::way(enrolled),
        backup::way(enrolled),
    ];
    all.into_iter().flatten().collect()
}
