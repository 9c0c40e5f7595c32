//! What does the trail say, and can it be believed? Reading, exporting and verifying it. Rows are
//! written by `Tx::commit` alone, together with the change they tell of.

pub mod export;
pub mod operator;
pub mod verify;

pub use export::{ExportError, Format, Page, export};
pub use operator::{operator, operator_account};
pub use verify::{Anchor, Finding, Report, verify};
