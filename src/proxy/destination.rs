//! Where does a WebDAV COPY or MOVE write? Its `Destination` field is a second path of the request:
//! judged like the first ([`crate::domain::policy::destination`]), and sent as it was judged.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use super::error::ProxyError;
use super::gate::Inbound;
use crate::domain::host::{HostName, Scheme};
use crate::domain::policy::destination::{BadDestination, Destination, has_destination};
use crate::domain::policy::{Decision, Facts, Shadow, decide};
use crate::domain::upstream::Upstream;

const DESTINATION: HeaderName = HeaderName::from_static("destination");
const OVERWRITE: HeaderName = HeaderName::from_static("overwrite");

/// Judges a request at its own path and, where it names one, at the place that it writes to; there
/// the field is left as the app may read it. Beside it stands what a shadow rule would have said.
pub fn judge(
    facts: &Facts<'_>,
    headers: &mut HeaderMap,
    inbound: &Inbound,
) -> Result<(Decision, Option<Shadow>), ProxyError> {
    let policy = &inbound.route.policy;
    let Some(second) = named(facts, headers, inbound).map_err(ProxyError::Destination)? else {
        return Ok((decide(policy, facts, &mut ()), Shadow::of(policy, facts, None)));
    };
    let ruling = second.judge(policy, facts, &mut ()).map_err(ProxyError::Destination)?;
    let shadow = Shadow::of(policy, facts, Some(&second));
    if matches!(ruling.decision, Decision::Allow(_)) {
        insert(&second, headers, &inbound.route.upstream, &inbound.host);
    }
    Ok((ruling.decision, shadow))
}

/// What a request names, if it is of a method that has one.
fn named(facts: &Facts<'_>, headers: &HeaderMap, inbound: &Inbound) -> Result<Option<Destination>, BadDestination> {
    if !headers.contains_key(DESTINATION) || !has_destination(facts) {
        return Ok(None);
    }
    let mut values = headers.get_all(DESTINATION).iter();
    let (Some(only), None) = (values.next(), values.next()) else { return Err(BadDestination::Twice) };
    // `Overwrite: F` counts in the one way that all servers read.
    let mut said = headers.get_all(OVERWRITE).iter();
    let keeps = said.next().is_some_and(|v| v.as_bytes() == b"F") && said.next().is_none();
    Destination::read(only.as_bytes(), keeps, facts, &inbound.host, inbound.route.policy.forms).map(Some)
}

/// Writes the place as the app knows its own address: its scheme, and the Host that it is sent.
/// Servers refuse a `Destination` on what they take for another server.
fn insert(place: &Destination, headers: &mut HeaderMap, upstream: &Upstream, public: &HostName) {
    let url = upstream.urls.first();
    let scheme = url.map_or(Scheme::Http, |url| url.scheme);
    let host = url.filter(|_| !upstream.preserve_host).map_or_else(|| public.to_string(), |url| url.authority());
    let mut text = format!("{}://{host}{}{}", scheme.as_str(), upstream.path_prefix, place.path.as_str());
    if let Some(query) = &place.query {
        text.push('?');
        text.push_str(query);
    }
    // A canonical path is visible ASCII; without a value the app refuses the request itself.
    headers.remove(DESTINATION);
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(DESTINATION, value);
    }
}
