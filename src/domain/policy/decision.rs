//! The verdict on one request.

use std::sync::Arc;

use super::exception::Exception;
use super::permit::Permit;
use super::rule::RuleName;
use crate::domain::level::{Level, Missing};

/// What the gate does with a request. A path that cannot be read never gets here: `reject` comes
/// from [`CanonicalPath`](crate::domain::path::CanonicalPath).
#[derive(Clone, Debug)]
pub enum Decision {
    Allow(Permit),
    Challenge(Challenge),
    Deny(Deny),
}

/// More must be shown; what exactly stands in `missing`.
#[derive(Clone, Debug)]
pub struct Challenge {
    pub rule: RuleName,
    /// The rule's, or the one that `exception` puts in its place.
    pub level: Arc<Level>,
    pub missing: Missing,
    pub exception: Option<Arc<Exception>>,
    /// The largest form that is kept meanwhile, in bytes.
    pub keep_body: u64,
}

#[derive(Clone, Debug)]
pub struct Deny {
    pub rule: RuleName,
    pub reason: DenyReason,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DenyReason {
    /// The rule denies, with the sentence for the person.
    Rule { sentence: Arc<str> },
    /// The rule's `allow` does not name this person.
    NotAllowed,
}
