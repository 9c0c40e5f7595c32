//! `decide()`: the only maker of a [`Permit`](super::Permit).

use super::decision::{Decision, Deny, DenyReason};
use super::rule::{Policy, RuleName};
use super::trace::TraceSink;
use crate::base::clock::Timestamp;
use crate::base::net::ClientIp;
use crate::domain::authn::Authn;
use crate::domain::path::CanonicalPath;

/// All that a decision may depend on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub method: &'a http::Method,
    /// Methods that an override (`_method` in query or form) may turn this request into; judged
    /// as well, the strictest verdict wins (S-PATH-6).
    pub also_methods: &'a [http::Method],
    pub path: &'a CanonicalPath,
    /// The raw query without `?`, for `match: { query: }` alone; path rules never see it (S-PATH-7).
    pub query: Option<&'a str>,
    pub client: ClientIp,
    pub authn: &'a Authn,
    pub now: Timestamp,
}

/// Judges one request. Pure: the same facts give the same verdict for enforcement, `explain`,
/// `test` and everything else that asks.
pub fn decide(policy: &Policy, facts: &Facts<'_>, trace: &mut impl TraceSink) -> Decision {
    let _ = (policy, facts, trace);
    Decision::Deny(Deny { rule: RuleName::new("default"), reason: DenyReason::NotAllowed })
}
