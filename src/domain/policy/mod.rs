//! The policy language, typed: rules are matched top to bottom, the first whose `match` holds decides.

pub mod answer;
mod argument;
pub mod content;
pub mod decision;
pub mod destination;
pub mod evaluate;
pub mod exception;
pub mod hours;
mod index;
pub mod lockdown;
pub mod matcher;
pub mod pattern;
pub mod permit;
pub mod rule;
pub mod sample;
pub mod shadow;
pub mod spelling;
pub mod trace;
mod unnamed;

pub use answer::{Answer, Redirect, Respond};
pub use content::{Content, Media, any_method};
pub use decision::{Challenge, Decision, Deny, DenyReason};
pub use evaluate::{Facts, Seen, decide};
pub use exception::Exception;
pub use matcher::{is_override_name, override_method, override_methods};
pub use permit::Permit;
pub use rule::{Allow, KEEP_BODY, Outcome, Place, Policy, Rule, RuleName, Who};
pub use shadow::{Shadow, ShadowVerdict};
pub use trace::{TraceSink, TraceTable};
