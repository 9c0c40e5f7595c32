//! L3: who is this, by the cookie they sent? Issue, check, cache, end.

pub mod app_cookies;
pub mod cache;
pub mod cookie;
mod due;
pub mod issue;
mod jar;
pub mod kept;
mod live;
mod memo;
pub mod small;

pub use cache::{Lookup, Sessions};
pub use cookie::{BadCookie, Presented, SessionToken};
pub use jar::{carries_ours, strip_ours};
pub use kept::{FormGone, KeptForm, KeptForms};
pub use live::LiveSession;
pub use memo::CookieMemo;
