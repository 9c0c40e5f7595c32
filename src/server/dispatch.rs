//! Where a request goes: read its target once, strip what a client may not say, then ours or an app's.
//!
//! The order matters and stands in one place: limits of the head, method, host, who the client
//! is, strip (S-ID-1: on every route, before anything can read a header), and only then the route.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::runtime::Handle;

use super::client_addr::{self, Seen};
use super::conn::{ConnInfo, OneTooMany};
use super::limits::{self, Connections};
use super::ops::Readiness;
use super::refuse::{self, Refusal};
use super::target;
use super::unexpected::{Notices, Unexpected};
use super::wiring;
use crate::base::clock::{SharedClock, Timestamp};
use crate::base::ids::RequestId;
use crate::base::net::ClientIp;
use crate::base::rng::{Pieces, SharedRng};
use crate::config::Snapshot;
use crate::domain::host::{HostName, Scheme};
use crate::domain::method;
use crate::domain::portal::{PREFIX, PortalRoute};
use crate::domain::route::{Identity, Route};
use crate::pages::Pages;
use crate::portal::{Portal, PortalRequest};
use crate::proxy::body::{Finish, ProxyBody};
use crate::proxy::error::ProxyError;
use crate::proxy::{self, Inbound, LocalPools, ProxyShared};
use crate::telemetry::access_log::{AccessLog, AccessRecord, Begun, SENT_PATH_CHARS};
use crate::telemetry::metrics::Metrics;

/// What all threads share.
pub struct EdgeShared {
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub proxy: Arc<ProxyShared>,
    pub portal: Arc<Portal>,
    pub pages: Arc<Pages>,
    pub metrics: Arc<Metrics>,
    pub access_log: Arc<AccessLog>,
    pub readiness: Arc<Readiness>,
    pub connections: Arc<Connections>,
    pub notices: Notices,
    pub background: Handle,
    pub clock: SharedClock,
    pub rng: SharedRng,
}

impl EdgeShared {
    /// Counts what came in place of what a listener speaks, and says so, seldom.
    pub(super) fn notice(&self, what: Unexpected, local: SocketAddr, peer: SocketAddr) {
        self.notices.came(what, local, peer, self.clock.now(), &self.metrics);
    }
}

/// One thread's view: what is shared, and its own pools.
pub struct Edge {
    pub shared: Arc<EdgeShared>,
    pools: Rc<LocalPools>,
    /// Randomness of request ids.
    ids: Pieces,
}

/// What is known of a request once its head was accepted.
struct Head {
    id: RequestId,
    now: Timestamp,
    started: Instant,
    snapshot: Arc<Snapshot>,
    host: HostName,
    seen: Seen,
}

impl Edge {
    #[must_use]
    pub fn new(shared: Arc<EdgeShared>) -> Self {
        let (pools, ids) = (LocalPools::new(), Pieces::new(Arc::clone(&shared.rng)));
        Self { shared, pools, ids }
    }

    /// The thread's tick: log lines are handed over, idle upstream connections are given up.
    pub fn tick(&self) {
        self.shared.access_log.flush();
        self.pools.reap();
        if self.shared.proxy.places.are_scarce() {
            self.pools.give_up_idle();
        }
    }

    /// Answers one request of a proxy listener.
    pub async fn dispatch(&self, conn: &ConnInfo, mut request: Request<Incoming>) -> Response<ProxyBody> {
        let shared = &self.shared;
        let now = shared.clock.now();
        let id = RequestId::new(now, &self.ids);
        let started = Instant::now();
        let snapshot = shared.snapshot.load_full();
        if conn.memory.is_first_request() && speaks_for_others(&request) {
            let peer = ClientIp::new(conn.peer.ip());
            if !snapshot.trusted_proxies.contains(peer) {
                shared.notices.fields_ignored(peer);
            }
        }
        let (host, seen) = match read_head(conn, &request, &snapshot) {
            Ok(read) => read,
            Err(refusal) => return self.refuse(refusal, &request, conn, &snapshot, (id, now, started)),
        };
        let head = Head { id, now, started, snapshot, host, seen };
        if request.extensions().get::<OneTooMany>().is_some() {
            return self.refuse_known(Refusal::OneTooMany, &request, &head);
        }
        let route = head.snapshot.routes.find(&head.host).cloned();
        // Without a portal host each app's host serves the sign-in pages itself.
        let is_portal_host = head.snapshot.portal.as_ref().is_some_and(|p| p.host == head.host);
        // What goes to an app is checked there, with what the app is known to bear.
        let for_an_app = route.is_some() && !is_portal_host && !is_gates(request.uri().path());
        if for_an_app && conn.kept {
            return self.refuse_known(Refusal::Full, &request, &head);
        }
        if !for_an_app
            && let Err(error) = proxy::framing::check(request.method(), request.headers(), request.body(), false)
        {
            let refusal = match error {
                ProxyError::Coding => Refusal::Coding,
                ProxyError::Expect => Refusal::Expect,
                _ => Refusal::BodyBroken,
            };
            return close(request.version(), self.refuse_known(refusal, &request, &head));
        }
        // Before anything is stripped: it says what came.
        let ours = is_portal_host || route.is_some();
        // `OPTIONS *` asks the server and not one of its paths (RFC 9110 section 9.3.7): there is no rule
        // that could judge it, so no app hears of it.
        if request.uri().path() == target::ASTERISK && ours {
            return self.logged(record(&request, &head, None), methods());
        }
        if let Some(told) =
            wiring::told(conn, &request, &head.host, &head.seen, &shared.proxy.keys, now).filter(|_| ours)
        {
            return self.logged(record(&request, &head, None), told);
        }
        let nobody = Identity::default();
        let identity = route.as_ref().map_or(&nobody, |r| &r.identity);
        proxy::headers::strip::client(request.headers_mut(), identity);
        match (route, is_portal_host) {
            (route, portal) if portal || is_ours(request.uri().path()) => {
                // The page that says so links its stylesheet on the host that was asked.
                let is_static = matches!(PortalRoute::parse(request.uri().path()), Some(PortalRoute::Static(_)));
                if route.is_none() && !portal && !is_static {
                    return self.refuse_known(Refusal::NoSuchHost, &request, &head);
                }
                // Boxed, like all that few requests do: the future of every request would be as large.
                Box::pin(self.own(request, head, route, portal)).await
            }
            (Some(route), _) => {
                let inbound = Inbound {
                    id: head.id,
                    client: head.seen.client,
                    peer: conn.peer,
                    scheme: head.seen.scheme,
                    host: head.host,
                    route,
                    snapshot: head.snapshot,
                    now: head.now,
                    started: head.started,
                };
                proxy::handle(&shared.proxy, &self.pools, &conn.memory, inbound, request).await
            }
            (None, _) => self.refuse_known(Refusal::NoSuchHost, &request, &head),
        }
    }

    /// Pages and endpoints of ours.
    async fn own(
        &self,
        request: Request<Incoming>,
        head: Head,
        app: Option<Arc<Route>>,
        is_portal_host: bool,
    ) -> Response<ProxyBody> {
        let shared = &self.shared;
        let Some(route) =
            PortalRoute::parse(request.uri().path()).filter(|r| is_portal_host || *r != PortalRoute::Root)
        else {
            return self.refuse_known(Refusal::NotFound, &request, &head);
        };
        let mut line = record(&request, &head, app.as_ref());
        // A page of ours has one spelling, and no secret stands in it.
        line.path = line.sent_path.take().unwrap_or_default();
        let mut finish = Finish::new(Box::new(line), Arc::clone(&shared.access_log));
        let response = self.portal(request, &head, app, is_portal_host, route).await;
        finish.record().status = response.status().as_u16();
        response.map(|body| ProxyBody::full(body).logged(finish))
    }

    async fn portal(
        &self,
        request: Request<Incoming>,
        head: &Head,
        app: Option<Arc<Route>>,
        is_portal_host: bool,
        route: PortalRoute,
    ) -> Response<Bytes> {
        let shared = &self.shared;
        let (parts, body) = request.into_parts();
        let collected =
            tokio::time::timeout(limits::OWN_BODY_TIME, Limited::new(body, limits::OWN_BODY).collect()).await;
        let refused = |refusal| {
            let bare = Request::from_parts(parts.clone(), ());
            refuse::respond(shared, refusal, &bare, &head.snapshot, head.id, head.now)
        };
        let body = match collected {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => return refused(Refusal::TooLarge),
            Ok(Err(_)) => return refused(Refusal::BodyBroken),
            Err(_) => return refused(Refusal::TooSlow),
        };
        let asked = PortalRequest {
            id: head.id,
            client: head.seen.client,
            scheme: head.seen.scheme,
            host: head.host.clone(),
            on_portal: is_portal_host || head.snapshot.portal.is_none(),
            app,
            route,
            method: parts.method.clone(),
            headers: parts.headers.clone(),
            query: parts.uri.query().map(ToOwned::to_owned),
            body,
            snapshot: Arc::clone(&head.snapshot),
            // A code is of the moment in which it has come, however early its head was (S-TOTP-2).
            now: shared.clock.now(),
        };
        // On the background runtime: sign-in waits for disks and hashes, which must not hold up
        // the requests of this thread.
        match shared.background.spawn(Arc::clone(&shared.portal).handle(asked)).await {
            Ok(response) => response,
            Err(error) => {
                tracing::error!(request = %head.id, panicked = error.is_panic(), "a page of ours was not finished");
                refused(Refusal::Internal)
            }
        }
    }

    fn refuse_known(&self, refusal: Refusal, request: &Request<Incoming>, head: &Head) -> Response<ProxyBody> {
        let mut line = record(request, head, None);
        line.why = Some(refusal.word());
        let response = refuse::respond(&self.shared, refusal, request, &head.snapshot, head.id, head.now);
        self.logged(line, response)
    }

    /// A head that was not accepted: there is no host, and the client is whoever connected.
    fn refuse(
        &self,
        refusal: Refusal,
        request: &Request<Incoming>,
        conn: &ConnInfo,
        snapshot: &Arc<Snapshot>,
        (id, now, started): (RequestId, Timestamp, Instant),
    ) -> Response<ProxyBody> {
        let client = ClientIp::new(conn.peer.ip());
        let begun = Begun { at: now, started, id, client, policy: snapshot.version() };
        let mut line = AccessRecord::begin(begun, request.method(), request.version(), request.headers());
        line.sent_path = Some(cut(request.uri().path()));
        line.why = Some(refusal.word());
        let response = refuse::respond(&self.shared, refusal, request, snapshot, id, now);
        close(request.version(), self.logged(line, response))
    }

    /// An answer of ours, with its line in the log.
    fn logged(&self, mut line: AccessRecord, response: Response<Bytes>) -> Response<ProxyBody> {
        line.status = response.status().as_u16();
        let finish = Finish::new(Box::new(line), Arc::clone(&self.shared.access_log));
        response.map(|body| ProxyBody::full(body).logged(finish))
    }
}

/// What the gate answers itself on the host of an app.
fn is_gates(path: &str) -> bool {
    path == target::ASTERISK || is_ours(path)
}

/// Under our prefix, in whatever letters: nothing there may reach an app (DESIGN section 4).
/// Escaped spellings of it are refused by `CanonicalPath::parse`.
fn is_ours(path: &str) -> bool {
    let bare = PREFIX.trim_end_matches('/').len();
    path.get(..bare).is_some_and(|start| start.eq_ignore_ascii_case(&PREFIX[..bare]))
        && matches!(path.as_bytes().get(bare), None | Some(b'/'))
}

/// Whether fields of a request say who its client is, as a proxy's do.
fn speaks_for_others<B>(request: &Request<B>) -> bool {
    ["x-forwarded-for", "x-forwarded-proto"].iter().any(|field| request.headers().contains_key(*field))
}

fn read_head<B>(conn: &ConnInfo, request: &Request<B>, snapshot: &Snapshot) -> Result<(HostName, Seen), Refusal> {
    check_sizes(request)?;
    method::check(request.method()).map_err(Refusal::Method)?;
    let seen = match conn.fields_may_tell {
        true => client_addr::resolve(conn.peer, conn.scheme, request.headers(), &snapshot.trusted_proxies),
        false => Ok(Seen::by_itself(conn.peer, conn.scheme)),
    }
    .map_err(Refusal::Address)?;
    // A clear-text listener off loopback is only for proxies that say `https` (DESIGN "For scripts"):
    // a stranger who found it, or a proxy that took the request in clear, gets nothing.
    if seen.scheme == Scheme::Http && !conn.local.ip().is_loopback() {
        return Err(Refusal::ClearText);
    }
    let host = target::host_by(request, seen.scheme, |sent, scheme| conn.memory.host_name(sent, scheme))
        .map_err(Refusal::Target)?;
    target::raw_path(request).map_err(Refusal::Target)?;
    Ok((host, seen))
}

/// SECURITY.md section 3. hyper bounds the whole head; the parts are ours to measure.
fn check_sizes<B>(request: &Request<B>) -> Result<(), Refusal> {
    let target = request.uri().path_and_query().map_or(0, |p| p.as_str().len());
    // The line also holds the method, two blanks and `HTTP/1.1`.
    if target + request.method().as_str().len() + 10 > limits::REQUEST_LINE {
        return Err(Refusal::UriTooLong);
    }
    let headers = request.headers();
    let mut all = 0;
    for (name, value) in headers {
        let one = name.as_str().len() + value.len() + 4;
        if one > limits::ONE_HEADER {
            return Err(Refusal::HeadersTooLarge);
        }
        all += one;
    }
    if all > limits::ALL_HEADERS || headers.len() > limits::HEADERS {
        return Err(Refusal::HeadersTooLarge);
    }
    Ok(())
}

fn record<B>(request: &Request<B>, head: &Head, app: Option<&Arc<Route>>) -> AccessRecord {
    let (client, policy) = (head.seen.client, head.snapshot.version());
    let begun = Begun { at: head.now, started: head.started, id: head.id, client, policy };
    let mut record = AccessRecord::begin(begun, request.method(), request.version(), request.headers());
    record.host = Some(head.host.clone());
    record.sent_path = Some(cut(request.uri().path()));
    record.app = app.map(|a| a.app.clone());
    record
}

/// What may be asked of the gate at all.
fn methods() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::ALLOW, refuse::METHODS);
    response
}

/// What such a sender has in flight behind this head is anybody's guess.
fn close(version: http::Version, mut response: Response<ProxyBody>) -> Response<ProxyBody> {
    if version < http::Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// As much of a path that nobody judged as the log holds.
fn cut(path: &str) -> String {
    path.chars().take(SENT_PATH_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The future of each request is moved into its box, byte by byte, and takes as much from the
    /// allocator.
    #[test]
    fn the_future_of_a_request_stays_small() {
        fn size<'a, F: Future>(_: impl FnOnce(&'a Edge, &'a ConnInfo, Request<Incoming>) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size(Edge::dispatch);
        assert!(bytes <= 5120, "{bytes} bytes: box what few requests do");
    }

    #[test]
    fn nothing_under_the_prefix_is_anybody_elses() {
        for ours in ["/.stepgate", "/.stepgate/", "/.stepgate/login", "/.STEPGATE/x"] {
            assert!(is_ours(ours), "{ours}");
        }
        for theirs in ["/", "/.stepgatex", "/x/.stepgate/", "/.step"] {
            assert!(!is_ours(theirs), "{theirs}");
        }
    }

    #[test]
    fn a_clear_text_listener_off_loopback_serves_only_what_its_proxy_calls_https() {
        let (snapshot, _) = crate::config::from_text(
            "version: 1\nlisten: [{ addr: \"0.0.0.0:80\", role: proxy }]\ntrusted_proxies: [10.0.0.4/32]\nportal: { host: login.test, title: T }\napps: [{ app: a, hosts: [a.test], upstream: { urls: [\"http://127.0.0.1:9\"] } }]\n",
            std::path::Path::new("."),
            crate::config::Purpose::Check,
        )
        .unwrap();
        let ask = |local: &str, peer: &str, proto: Option<&str>| {
            let conn = ConnInfo {
                peer: peer.parse().unwrap(),
                local: local.parse().unwrap(),
                scheme: Scheme::Http,
                fields_may_tell: true,
                requests: None,
                kept: false,
                room: crate::server::room::Room::default(),
                memory: proxy::ConnMemory::default(),
            };
            let mut request = Request::builder().uri("/").header("host", "a.test");
            if let Some(proto) = proto {
                request = request.header("x-forwarded-proto", proto);
            }
            read_head(&conn, &request.body(()).unwrap(), &snapshot).map(|_| ())
        };
        assert_eq!(ask("10.0.0.9:80", "10.0.0.4:999", Some("https")), Ok(()));
        assert_eq!(ask("10.0.0.9:80", "10.0.0.4:999", Some("http")), Err(Refusal::ClearText));
        assert_eq!(ask("10.0.0.9:80", "192.0.2.1:999", Some("https")), Err(Refusal::ClearText), "a stranger's word");
        assert_eq!(ask("127.0.0.1:80", "127.0.0.1:999", None), Ok(()));
    }

    fn sized(target: usize, header: usize, count: usize) -> Result<(), Refusal> {
        let mut request = Request::builder().uri(format!("/{}", "a".repeat(target)));
        for at in 0..count {
            request = request.header(format!("x-{at}"), "v".repeat(header));
        }
        check_sizes(&request.body(()).unwrap())
    }

    #[test]
    fn s_lim_1_the_head_has_its_limits() {
        // `GET /... HTTP/1.1` in 8 KiB: 3 + 10 bytes go to the rest of the line, one to the slash.
        assert_eq!(sized(8 * 1024 - 14, 1, 1), Ok(()));
        assert_eq!(sized(8 * 1024 - 13, 1, 1), Err(Refusal::UriTooLong));
        assert_eq!(sized(1, 16 * 1024 - 7, 1), Ok(()));
        assert_eq!(sized(1, 16 * 1024 - 6, 1), Err(Refusal::HeadersTooLarge));
        assert_eq!(sized(1, 12 * 1024, 3), Err(Refusal::HeadersTooLarge));
        assert_eq!(sized(1, 1, 100), Ok(()));
        assert_eq!(sized(1, 1, 101), Err(Refusal::HeadersTooLarge));
    }
}
