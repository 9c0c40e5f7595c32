//! What does an app receive of a request's head?
//!
//! It is built from typed parts; the client's framing is never copied, the connection derives one from the body
//! (S-FRAME-1).

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, Uri, Version, request};

use super::ProxyShared;
use super::error::ProxyError;
use super::forward::Allowed;
use super::gate::{self, Inbound};
use super::headers::identity::{Mint, Prepared};
use super::headers::{forwarded, hop};
use crate::domain::path::CanonicalPath;
use crate::domain::policy::Permit;
use crate::session::LiveSession;

/// The upstream request head: target from the path that was judged, framing left to the connection.
pub fn head(allowed: Allowed<'_>, parts: &mut request::Parts, path: &CanonicalPath) -> Result<(), ProxyError> {
    let Allowed { shared, memory, inbound, permit, session, .. } = allowed;
    parts.uri = target(&parts.uri, path, &inbound.route.upstream.path_prefix)?;
    parts.version = Version::HTTP_11;
    // hyper's own notes about the client's connection (its upgrade among them) stay behind.
    parts.extensions.clear();
    let headers = &mut parts.headers;
    hop::remove(headers);
    headers.remove(CONTENT_LENGTH);
    // The gate itself answers 100-continue (S-FRAME-7).
    headers.remove(EXPECT);
    memory.cookies.strip_ours(headers);
    let of_others = allowed.cookie_holder().open(headers, &memory.app_cookies);
    if of_others > 0 {
        let metrics = allowed.pools.metrics(&shared.metrics, &inbound.route.app);
        metrics.cookies_of_others.fetch_add(of_others, std::sync::atomic::Ordering::Relaxed);
    }
    let public = memory.host_value(&inbound.host);
    forwarded::insert(headers, memory.client(inbound.client), inbound.scheme, &inbound.host, &public);
    shared.via.insert(headers).map_err(|_| ProxyError::Loop)?;
    headers.insert(HOST, public);
    // Last, so that nothing above could name one away (S-ID-3).
    identity(shared, inbound, permit, session, headers);
    Ok(())
}

fn identity(
    shared: &ProxyShared,
    inbound: &Inbound,
    permit: &Permit,
    session: Option<&Arc<LiveSession>>,
    headers: &mut HeaderMap,
) {
    let route = &inbound.route;
    let (Some(who), Some(session)) = (permit.subject(), session) else {
        if !route.identity.headers.is_empty() {
            Prepared::new(route, permit.subject().map(|who| &**who)).insert(headers);
        }
        return;
    };
    let prepared = gate::prepared(session, route, who);
    prepared.insert(headers);
    if route.identity.assertion {
        let issuer = || match &inbound.snapshot.portal {
            Some(portal) => format!("{}://{}", portal.scheme.as_str(), portal.host),
            None => format!("{}://{}", inbound.scheme.as_str(), inbound.host),
        };
        let mint = Mint { signer: &shared.signer, issuer: &issuer, level: permit.level(), now: inbound.now };
        prepared.insert_assertion(headers, mint, who);
    }
}

/// The same bytes that were judged, behind the app's own prefix, with the query as it came (S-PATH-1,
/// S-PATH-7). No canonical path has a dot segment, so none leaves the prefix.
fn target(uri: &Uri, path: &CanonicalPath, prefix: &str) -> Result<Uri, ProxyError> {
    let judged = path.as_str();
    // `path()` says of `?x` that it is `/`.
    let is_same = |sent: &&PathAndQuery| sent.path() == judged && sent.as_str().starts_with('/');
    let same = uri.path_and_query().filter(|sent| prefix.is_empty() && is_same(sent));
    let target = match (same, uri.query()) {
        (Some(sent), _) => Ok(sent.clone()),
        (None, None) => PathAndQuery::from_maybe_shared(Bytes::from(format!("{prefix}{judged}"))),
        (None, Some(query)) => PathAndQuery::from_maybe_shared(Bytes::from(format!("{prefix}{judged}?{query}"))),
    };
    let target = target.map_err(|_| ProxyError::Path(unforwardable()))?;
    Ok(Uri::from(target))
}

/// A canonical path is visible ASCII and so always a target; the refusal is for the day it is not.
fn unforwardable() -> crate::domain::path::PathError {
    crate::domain::path::PathError::RawCharacter
}
