//! The clear-text listener that only points at `https`.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;

use super::target;
use crate::config::Snapshot;
use crate::domain::host::{HostName, Scheme};

/// 308 for GET and HEAD of a configured host; everything else gets 403, so that no client learns
/// to send secrets in clear (S-HOST-4, ASVS 4.1.2). The target host comes from the configuration,
/// never from the request (S-HOST-3).
#[must_use]
pub fn answer<B>(request: &Request<B>, snapshot: &Snapshot) -> Response<Full<Bytes>> {
    let get = matches!(*request.method(), Method::GET | Method::HEAD);
    let location = get.then(|| location(request, snapshot)).flatten();
    let mut response = Response::new(Full::new(Bytes::from_static(b"This address answers over https only.\n")));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if let Some(location) = location {
        *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

fn location<B>(request: &Request<B>, snapshot: &Snapshot) -> Option<HeaderValue> {
    let asked = target::host(request, Scheme::Http).ok()?;
    let host = public_host(&asked, snapshot)?;
    let path = target::raw_path(request).ok().filter(|p| p.starts_with('/'))?;
    let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
    HeaderValue::try_from(format!("https://{host}{path}{query}")).ok()
}

/// The configured host of the same name; its port may differ from the redirect listener's.
fn public_host<'a>(asked: &HostName, snapshot: &'a Snapshot) -> Option<&'a HostName> {
    let portal = snapshot.portal.iter().map(|p| &p.host);
    let apps = snapshot.routes.iter().flat_map(|r| &r.hosts);
    portal.chain(apps).find(|h| h.name() == asked.name())
}
