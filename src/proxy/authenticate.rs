//! Who sends this request, by the cookie it shows?

use std::sync::Arc;

use http::{HeaderMap, Method};

use super::ProxyShared;
use super::error::ProxyError;
use super::gate::Inbound;
use super::memory::ConnMemory;
use crate::domain::authn::Authn;
use crate::session::{BadCookie, LiveSession, Lookup, Presented};

/// The result of looking at a request's credentials. What is there and bad is an error, so that
/// it can never fall through to anonymous, on public paths neither (S-SESS-6, CVE-2026-25748).
#[derive(Debug)]
pub struct Who {
    pub authn: Authn,
    pub session: Option<Arc<LiveSession>>,
    /// A session cookie was shown, whatever it was worth.
    pub has_cookie: bool,
}

impl Who {
    fn anonymous(has_cookie: bool) -> Self {
        Self { authn: Authn::Anonymous, session: None, has_cookie }
    }

    fn known(session: Arc<LiveSession>) -> Self {
        Self { authn: Authn::Known(Arc::clone(&session.authn)), session: Some(session), has_cookie: true }
    }
}

/// Finds the session: in memory without waiting, else in the store, on the background.
pub async fn authenticate(
    shared: &Arc<ProxyShared>,
    memory: &ConnMemory,
    inbound: &Inbound,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Who, ProxyError> {
    let token = match memory.cookies.read(headers, &inbound.host, &shared.keys, inbound.now) {
        Presented::Absent => return Ok(Who::anonymous(false)),
        Presented::Bad(BadCookie::Expired) => return Ok(Who::anonymous(true)),
        Presented::Bad(bad) => return Err(ProxyError::Cookie(bad)),
        Presented::Token(token) => token,
    };
    let lookup = match shared.sessions.cached(&token, &inbound.snapshot.sessions, inbound.now) {
        Some(lookup) => lookup,
        None => {
            let (sessions, now) = (Arc::clone(&shared.sessions), inbound.now);
            let load = shared.background.spawn(async move { sessions.load(token, now).await });
            load.await.map_err(|_| ProxyError::Stopping)?.map_err(|error| {
                shared.metrics.session_reads_failed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                ProxyError::Store(error)
            })?
        }
    };
    match lookup {
        Lookup::Live(session) => Ok(Who::known(session)),
        // The answers of parallel tabs may still be read with the id that a step-up replaced.
        Lookup::OldId(session) if matches!(*method, Method::GET | Method::HEAD) => Ok(Who::known(session)),
        Lookup::OldId(_) => Err(ProxyError::OldId),
        Lookup::Gone => Ok(Who::anonymous(true)),
    }
}
