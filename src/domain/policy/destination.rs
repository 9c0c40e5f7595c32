//! Where else does a request act? A WebDAV COPY or MOVE names a second path (RFC 4918 section 10.3),
//! which is judged like the first.

use http::{Method, Uri};

use super::evaluate::{Facts, decide};
use super::matcher::override_methods;
use super::rule::Policy;
use super::{Decision, TraceSink};
use crate::domain::host::{HostName, Scheme};
use crate::domain::path::{CanonicalPath, PathError, PathForms};

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

/// The second place that a request acts on.
#[derive(Debug)]
pub struct Destination {
    pub path: CanonicalPath,
    pub query: Option<String>,
    /// What happens there besides the request's own method.
    methods: Vec<Method>,
    /// The same at the request's own path.
    methods_here: Vec<Method>,
}

/// What a request with a `Destination` comes to.
#[derive(Debug)]
pub struct Ruling {
    pub decision: Decision,
    /// The second place decided: the first alone would have let it pass.
    pub by_destination: bool,
}

/// Whether a server may read a `Destination` of such a request.
#[must_use]
pub fn has_destination(facts: &Facts<'_>) -> bool {
    let others = override_methods(facts.query);
    let mut every = std::iter::once(facts.method).chain(facts.also_methods).chain(&others);
    !every.all(|method| WITHOUT.contains(method))
}

impl Destination {
    /// Reads a field of a request to `host`; `keeps`: what stands there must stay (`Overwrite: F`).
    pub fn read(
        field: &[u8],
        keeps: bool,
        facts: &Facts<'_>,
        host: &HostName,
        forms: PathForms,
    ) -> Result<Self, BadDestination> {
        let uri = on_host(field, host)?;
        let path = CanonicalPath::parse(uri.path(), forms)?;
        // What is written there is put there, and what stood there is gone first (RFC 4918 section
        // 9.8.4), unless the client says otherwise.
        let others = override_methods(facts.query);
        let mut methods = [facts.also_methods, others.as_slice(), &[Method::PUT]].concat();
        if !keeps {
            methods.push(Method::DELETE);
        }
        // Both read what stands at their own path, and a MOVE takes it away (section 9.9).
        let mut methods_here = [facts.also_methods, &[Method::GET]].concat();
        let mut every = std::iter::once(facts.method).chain(facts.also_methods).chain(&others);
        if every.any(|method| method.as_str().eq_ignore_ascii_case("MOVE")) {
            methods_here.push(Method::DELETE);
        }
        Ok(Self { path, query: uri.query().map(ToOwned::to_owned), methods, methods_here })
    }

    /// Judges a request at its own path and at this place.
    pub fn judge<T: TraceSink>(
        &self,
        policy: &Policy,
        facts: &Facts<'_>,
        trace: &mut T,
    ) -> Result<Ruling, BadDestination> {
        let here = Facts { also_methods: &self.methods_here, ..*facts };
        let first = decide(policy, &here, &mut ());
        if matches!(first, Decision::Allow(_)) {
            let there = Facts { also_methods: &self.methods, path: &self.path, query: self.query.as_deref(), ..*facts };
            match decide(policy, &there, &mut ()) {
                // A rule answers there in the app's place: the app is not to write behind its back.
                Decision::Allow(permit) if permit.answer().is_some() => return Err(BadDestination::NotTheApps),
                Decision::Allow(_) => {}
                decision if T::ENABLED => {
                    let _ = decide(policy, &there, trace);
                    return Ok(Ruling { decision, by_destination: true });
                }
                decision => return Ok(Ruling { decision, by_destination: true }),
            }
        }
        if T::ENABLED {
            let _ = decide(policy, &here, trace);
        }
        Ok(Ruling { decision: first, by_destination: false })
    }
}

/// A path, or an address on this host: no app can reach another one through us.
fn on_host(field: &[u8], host: &HostName) -> Result<Uri, BadDestination> {
    let uri = Uri::try_from(field).map_err(|_| BadDestination::Unreadable)?;
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
