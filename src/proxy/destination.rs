//! Where does a WebDAV COPY or MOVE write? Its `Destination` field is a second path of the request
//! (RFC 4918 section 10.3): judged like the first, and sent as it was judged.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, Uri};

use super::error::ProxyError;
use super::gate::Inbound;
use crate::domain::host::{HostName, Scheme};
use crate::domain::path::{CanonicalPath, PathError};
use crate::domain::policy::{Decision, Facts, decide, override_methods};
use crate::domain::upstream::Upstream;

const DESTINATION: HeaderName = HeaderName::from_static("destination");
const OVERWRITE: HeaderName = HeaderName::from_static("overwrite");

/// Methods that no server reads a `Destination` for.
const WITHOUT: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// Why a `Destination` is not carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDestination {
    #[error("it stands more than once")]
    Twice,
    #[error("it is neither a path nor an address")]
    Unreadable,
    #[error("it is on another host")]
    OtherHost,
    #[error("the app does not answer there")]
    NotTheApps,
    #[error("{0}")]
    Path(#[from] PathError),
}

/// Judges a request at its own path and, where it names one, at the place that it writes to; there
/// the field is left as the app may read it.
pub fn judge(facts: &Facts<'_>, headers: &mut HeaderMap, inbound: &Inbound) -> Result<Decision, ProxyError> {
    let policy = &inbound.route.policy;
    let second = Destination::of(facts, headers, inbound).map_err(ProxyError::Destination)?;
    let first = decide(policy, facts, &mut ());
    let (Decision::Allow(_), Some(second)) = (&first, second) else { return Ok(first) };
    let there = decide(policy, &second.facts(facts), &mut ());
    if let Decision::Allow(permit) = &there {
        // A rule answers there in the app's place: the app is not to write behind its back.
        if permit.answer().is_some() {
            return Err(ProxyError::Destination(BadDestination::NotTheApps));
        }
        second.insert(headers, &inbound.route.upstream, &inbound.host);
        return Ok(first);
    }
    Ok(there)
}

/// The second place that a request acts on.
#[derive(Debug)]
struct Destination {
    path: CanonicalPath,
    query: Option<String>,
    /// What happens there besides the request's own method.
    methods: Vec<Method>,
}

impl Destination {
    /// What a request names, if it is of a method that has one.
    fn of(facts: &Facts<'_>, headers: &HeaderMap, inbound: &Inbound) -> Result<Option<Self>, BadDestination> {
        if !headers.contains_key(DESTINATION) {
            return Ok(None);
        }
        let others = override_methods(facts.query);
        let mut every = std::iter::once(facts.method).chain(facts.also_methods).chain(&others);
        if every.all(|method| WITHOUT.contains(method)) {
            return Ok(None);
        }
        let uri = read(headers, &inbound.host)?;
        let path = CanonicalPath::parse(uri.path(), inbound.route.policy.forms)?;
        // What is written there is put there, and what stood there is gone first (RFC 4918 section
        // 9.8.4), unless the client says otherwise in the one way that all servers read.
        let mut methods = [facts.also_methods, others.as_slice(), &[Method::PUT]].concat();
        let mut said = headers.get_all(OVERWRITE).iter();
        if !(said.next().is_some_and(|v| v.as_bytes() == b"F") && said.next().is_none()) {
            methods.push(Method::DELETE);
        }
        Ok(Some(Self { path, query: uri.query().map(ToOwned::to_owned), methods }))
    }

    /// The same request as it is at this place.
    fn facts<'f>(&'f self, facts: &Facts<'f>) -> Facts<'f> {
        Facts {
            method: facts.method,
            also_methods: &self.methods,
            path: &self.path,
            query: self.query.as_deref(),
            client: facts.client,
            authn: facts.authn,
            now: facts.now,
        }
    }

    /// Writes the place as the app knows its own address: its scheme, and the Host that it is sent.
    /// Servers refuse a `Destination` on what they take for another server.
    fn insert(&self, headers: &mut HeaderMap, upstream: &Upstream, public: &HostName) {
        let url = upstream.urls.first();
        let scheme = url.map_or(Scheme::Http, |url| url.scheme);
        let host = url.filter(|_| !upstream.preserve_host).map_or_else(|| public.to_string(), |url| url.authority());
        let mut text = format!("{}://{host}{}{}", scheme.as_str(), upstream.path_prefix, self.path.as_str());
        if let Some(query) = &self.query {
            text.push('?');
            text.push_str(query);
        }
        // A canonical path is visible ASCII; without a value the app refuses the request itself.
        headers.remove(DESTINATION);
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(DESTINATION, value);
        }
    }
}

/// A path, or an address on this host: no app can reach another one through us.
fn read(headers: &HeaderMap, host: &HostName) -> Result<Uri, BadDestination> {
    let mut values = headers.get_all(DESTINATION).iter();
    let (Some(only), None) = (values.next(), values.next()) else { return Err(BadDestination::Twice) };
    let uri = Uri::try_from(only.as_bytes()).map_err(|_| BadDestination::Unreadable)?;
    let scheme = match uri.scheme_str() {
        None if uri.authority().is_none() => return Ok(uri),
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        _ => return Err(BadDestination::Unreadable),
    };
    let authority = uri.authority().ok_or(BadDestination::Unreadable)?.as_str();
    match HostName::parse(authority.as_bytes(), scheme) {
        Ok(named) if named == *host => Ok(uri),
        Ok(_) => Err(BadDestination::OtherHost),
        Err(_) => Err(BadDestination::Unreadable),
    }
}
