//! The policy language, typed: rules are matched top to bottom, the first whose `match` holds decides.

pub mod decision;
pub mod evaluate;
pub mod matcher;
pub mod permit;
pub mod rule;
pub mod trace;

pub use decision::{Challenge, Decision, Deny, DenyReason};
pub use evaluate::{Facts, decide};
pub use permit::Permit;
pub use rule::{Allow, Outcome, Policy, Rule, RuleName, Who};
