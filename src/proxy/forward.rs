//! How does an allowed request reach the app, and its answer the client?
//!
//! Forwarding takes a [`Permit`], which only `decide` makes.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONNECTION, HOST, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, request, response};
use tokio::time::Instant;

use super::ProxyShared;
use super::again::Again;
use super::body::{Carriage, Patience, Progress, ProxyBody, RequestBody};
use super::error::ProxyError;
use super::gate::Inbound;
use super::headers::{response as hygiene, trailers};
use super::live::{Judged, Watch};
use super::memory::ConnMemory;
use super::shape;
use super::upgrade::{self, Handshake};
use super::upstream::answer::{AnswerBody, AnswerError, Unanswered};
use super::upstream::connect::Want;
use super::upstream::dial::{blame, dial};
use super::upstream::h1::{self, Raw};
use super::upstream::pin::{self, Holder};
use super::upstream::pool::{Addresses, Carries, Lease, LocalPools, Slot, Tried};
use crate::domain::policy::Permit;
use crate::domain::upstream::Upstream;
use crate::session::{LiveSession, app_cookies};

/// An app that has not answered by then may take its time (a long poll): from then on the request is among those
/// that end with their session, or with a reload that would deny them. The timer of the first byte says when, so that
/// a quick answer pays nothing for it; with the interval at which ended sessions are read it stays under the second of
/// S-WS-2.
const WATCHED_AFTER: Duration = Duration::from_millis(250);

/// A request that was allowed, with all that carrying it needs.
#[derive(Clone, Copy)]
pub struct Allowed<'a> {
    pub shared: &'a Arc<ProxyShared>,
    pub pools: &'a Rc<LocalPools>,
    pub memory: &'a ConnMemory,
    pub inbound: &'a Inbound,
    pub permit: &'a Permit,
    pub session: Option<&'a Arc<LiveSession>>,
    /// Then there may be trailers, and several requests at a time on the client's connection.
    pub client_is_http2: bool,
}

impl Allowed<'_> {
    /// Whether the answer may be about somebody.
    fn personal(&self) -> bool {
        self.permit.level().is_some() || self.permit.subject().is_some()
    }

    /// Who holds a connection to the app that this request signs in. Nobody over HTTP/2, where requests
    /// run side by side and browsers do not try.
    fn holder(&self) -> Option<Holder> {
        if self.client_is_http2 {
            return None;
        }
        pin::holder(self.session.map(|s| &**s), self.inbound.client, self.inbound.peer)
    }

    /// Who shows cookies of the app, and gets them.
    pub(super) fn cookie_holder(&self) -> app_cookies::Holder<'_> {
        app_cookies::Holder {
            keys: &self.shared.keys,
            route: &self.inbound.route,
            session: self.session.map(|s| s.authn.session),
            names: &self.shared.bound_names,
        }
    }

    /// Over this request, from before it is sent to the end of its answer.
    fn watch(&self, judged: Arc<Judged>) -> Watch {
        Watch::new(judged, self.session.map(|s| s.ended.clone()), Arc::clone(&self.shared.live))
    }

    /// The answer's fields made fit for the client; counts the cookies that were dropped.
    fn clean(&self, parts: &mut response::Parts, index: usize, method: &Method) -> Result<(), ProxyError> {
        let url = self.inbound.route.upstream.urls.get(index).ok_or(ProxyError::UpstreamFraming)?;
        let seen = hygiene::Seen {
            route: &self.inbound.route,
            upstream: url,
            scheme: self.inbound.scheme,
            host: &self.inbound.host,
            personal: self.personal(),
            length_only: *method == Method::HEAD || parts.status == StatusCode::NOT_MODIFIED,
        };
        let dropped = hygiene::clean(&mut parts.headers, seen).map_err(|_| ProxyError::UpstreamFraming)?;
        let too_long = self.cookie_holder().bind(&mut parts.headers);
        if too_long > 0 {
            let app = self.inbound.route.app.as_str();
            tracing::debug!(app, "a cookie too long to be sealed was left out; `pass` lets it through");
        }
        let dropped = dropped + too_long;
        if dropped > 0 {
            let metrics = self.pools.metrics(&self.shared.metrics, &self.inbound.route.app);
            metrics.cookies_dropped.fetch_add(dropped, std::sync::atomic::Ordering::Relaxed);
        }
        // What hyper left for itself (upgrades, header case) must not meet hyper's server side;
        // the app's own reason phrase stays.
        let reason = parts.extensions.remove::<hyper::ext::ReasonPhrase>();
        parts.extensions.clear();
        if let Some(reason) = reason {
            parts.extensions.insert(reason);
        }
        parts.version = Version::HTTP_11;
        Ok(())
    }
}

/// Carries the request and returns the app's answer, its body streaming.
pub async fn forward(
    allowed: Allowed<'_>,
    parts: &mut request::Parts,
    body: RequestBody,
    progress: Rc<Progress>,
    judged: Arc<Judged>,
) -> Result<Response<ProxyBody>, ProxyError> {
    let Allowed { shared, pools, memory, inbound, .. } = allowed;
    let upstream = &inbound.route.upstream;
    let method = parts.method.clone();
    let bodyless = matches!(body, RequestBody::Empty);
    let sent_body = !bodyless;
    let reads = matches!(method, Method::GET | Method::HEAD);
    let get_body = sent_body && reads;
    let carries = match (bodyless, reads) {
        (true, true) => Carries::Repeatable,
        (true, false) => Carries::Bodyless,
        (false, _) if upstream.reads_bodies => Carries::Body,
        // An app that answers without reading the body takes it for its next request, with whatever identity
        // stands in there and past every rule; no other request need come for that (CL.0). So it is told to
        // close. NTLM is no exception, for anybody can say that he speaks it: it begins again after a form.
        (false, _) => Carries::LastBody,
    };
    let (may_retry, closes) = (carries == Carries::Repeatable, carries == Carries::LastBody);
    let signs_in_connection = authenticates_connection(&parts.headers, AUTHORIZATION);

    // Who signs in a connection needs one for itself, which HTTP/2 does not give (S-UP-6).
    let want = if signs_in_connection { Want::Http1 } else { Want::Configured };
    let addresses = pools.addresses(&shared.health, &inbound.route);
    let signed_in = memory.pinned().and_then(|pin| pin.take(&addresses, allowed.holder()));
    let stays_signed_in = signed_in.is_some();
    let (reused, mut lease) = match signed_in {
        Some(lease) => (true, lease),
        None => {
            let slot = addresses.choose(&shared.health, Tried::default()).ok_or(ProxyError::NoUpstream)?;
            match slot.take(want, carries) {
                Some(lease) => (true, lease),
                None => (false, Box::pin(dial(shared, pools, &addresses, slot, want)).await?),
            }
        }
    };
    host(upstream, lease.index(), &mut parts.headers);
    // Over HTTP/1.1 a request without a body comes back whole. Over HTTP/2 it is copied where it may be needed: on a
    // connection in use that the app may be closing, or where a further address may be asked.
    let has_others = may_retry && upstream.urls.len() > 1;
    let again = (lease.is_http2() && (has_others || (reused && bodyless))).then(|| Again::of(parts));
    let mut watch = allowed.watch(judged);
    // It may have waited for its body or for a connection: what was judged is not carried out under a session that
    // has ended since, or a policy that is gone (S-SESS-3, S-WS-2).
    still_live(&watch)?;
    progress.hand_over();
    let sent = transmit(&mut lease, take(parts, body), closes);
    let sent = answered(pin!(sent), upstream, &progress, &mut watch).await;
    let response = match sent {
        Ok(response) => response,
        Err(failed) => {
            let retry = Retry { shared, pools, addresses: &addresses, progress: &progress, want, closes };
            let sent = Sent { reused, repeatable: may_retry };
            Box::pin(retry.run(&mut lease, failed, again.as_ref(), sent, &mut watch)).await?
        }
    };
    let is_signed_in =
        stays_signed_in || signs_in_connection || authenticates_connection(response.headers(), WWW_AUTHENTICATE);
    // What is still to come of the body would reach the app behind its answer, and an app that does not
    // wait for it reads it as the next request on the connection: somebody else's (S-FRAME-8).
    let answered_early = !lease.is_http2() && !progress.is_whole();
    match allowed.holder() {
        _ if closes || get_body || answered_early => lease.never_again(),
        Some(holder) if is_signed_in => lease.belongs_to(memory.pin(), holder),
        None if is_signed_in => lease.never_again(),
        // An app that refuses or redirects may not have read the body (CL.0): what it left would be read
        // as the next request. A new connection for each such form costs little.
        _ if sent_body && !lease.is_http2() && !response.status().is_success() => lease.never_again(),
        Some(_) | None => {}
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(to_blame(shared, &addresses, &lease, ProxyError::UpstreamUpgrade, &progress));
    }
    well(shared, &lease);
    answer(allowed, &method, response, Carriage { lease, watch, patience: patience(upstream, Some(progress)) })
}

/// A request that met no answer, and where else it may go (S-FRAME-9).
struct Retry<'a> {
    shared: &'a Arc<ProxyShared>,
    pools: &'a Rc<LocalPools>,
    addresses: &'a Rc<Addresses>,
    progress: &'a Progress,
    want: Want,
    closes: bool,
}

/// How it was sent.
#[derive(Clone, Copy)]
struct Sent {
    /// On a connection that others had before.
    reused: bool,
    /// A GET or HEAD without a body.
    repeatable: bool,
}

impl Retry<'_> {
    /// Sends it once more on a fresh connection, where the one that it was sent on may just have been closed;
    /// and if that meets no answer either, to another address. To one other alone: a request that ends each
    /// app that reads it must not go through all of them.
    async fn run(
        &self,
        lease: &mut Lease,
        mut failed: Failed,
        again: Option<&Again>,
        sent: Sent,
        watch: &mut Watch,
    ) -> Result<Response<AnswerBody>, ProxyError> {
        let may_go_again = match failed {
            // Not a byte was written: another connection may take any request.
            Failed::Before(..) => true,
            // The app says itself that it did nothing with it.
            Failed::Unprocessed(_) => sent.reused,
            Failed::Closed(..) => sent.reused && sent.repeatable,
            Failed::Other(_) | Failed::TimedOut | Failed::Over(_) => false,
        };
        if may_go_again && let Some(request) = failed.request(again) {
            let slot = Rc::clone(lease.slot());
            match self.send(lease, slot, request, watch).await? {
                Ok(response) => return Ok(response),
                Err(next) => failed = next,
            }
        }
        let another = match failed {
            Failed::Before(..) | Failed::Unprocessed(_) | Failed::Closed(..) if sent.repeatable => {
                self.another(lease.index()).zip(failed.request(again))
            }
            _ => None,
        };
        let error = self.blamed(lease, failed);
        // What the client did itself is no reason to ask anybody else.
        let (ProxyError::Upstream(_), Some((slot, request))) = (&error, another) else { return Err(error) };
        self.send(lease, slot, request, watch).await?.map_err(|failed| self.blamed(lease, failed))
    }

    async fn send(
        &self,
        lease: &mut Lease,
        slot: Rc<Slot>,
        mut request: Request<RequestBody>,
        watch: &mut Watch,
    ) -> Result<Result<Response<AnswerBody>, Failed>, ProxyError> {
        let upstream = self.addresses.upstream();
        *lease = dial(self.shared, self.pools, self.addresses, slot, self.want).await?;
        host(upstream, lease.index(), request.headers_mut());
        let sent = transmit(lease, request, self.closes);
        Ok(answered(pin!(sent), upstream, self.progress, watch).await)
    }

    /// Another address that is well; an ejected one would only make the client wait longer.
    fn another(&self, than: usize) -> Option<Rc<Slot>> {
        let health = &self.shared.health;
        let is_there = self.addresses.has_another(than, health.now());
        is_there.then(|| self.addresses.choose(health, Tried::default().with(than))).flatten()
    }

    fn blamed(&self, lease: &Lease, failed: Failed) -> ProxyError {
        to_blame(self.shared, self.addresses, lease, failed.into_error(self.progress), self.progress)
    }
}

/// The app answered, whatever it said.
fn well(shared: &ProxyShared, lease: &Lease) {
    let address = lease.slot().address();
    address.answered();
    shared.troubles.answered(address.app(), address.url());
}

/// Passes an error on; where it is the address's doing, it counts against it.
fn to_blame(
    shared: &ProxyShared,
    addresses: &Addresses,
    lease: &Lease,
    error: ProxyError,
    progress: &Progress,
) -> ProxyError {
    match &error {
        // It was waiting for the client, or would not read more: a stranger's unfinished uploads must not have it
        // ejected.
        ProxyError::Upstream(_) | ProxyError::UpstreamTimedOut if !progress.is_whole() => {}
        // A gRPC server does this to a browser that looks by: the address works, and a stranger must
        // not be able to have it ejected so.
        ProxyError::Upstream(cause) if cause.h2().is_some_and(|e| e.is_remote() && e.is_reset()) => {}
        ProxyError::Upstream(_) | ProxyError::UpstreamTimedOut | ProxyError::UpstreamUpgrade => {
            blame(shared, addresses, lease.slot());
        }
        _ => {}
    }
    error
}

/// Nothing is asked of the app after the right to ask it ended, and what it says then is not this client's to see.
fn still_live(watch: &Watch) -> Result<(), ProxyError> {
    if watch.is_over() { Err(over(watch)) } else { Ok(()) }
}

fn over(watch: &Watch) -> ProxyError {
    if watch.has_session_ended() { ProxyError::SessionEnded } else { ProxyError::PolicyChanged }
}

/// The app's answer as the client gets it.
fn answer(
    allowed: Allowed<'_>,
    method: &Method,
    response: Response<AnswerBody>,
    carriage: Carriage,
) -> Result<Response<ProxyBody>, ProxyError> {
    let (mut parts, body) = response.into_parts();
    still_live(&carriage.watch)?;
    allowed.clean(&mut parts, carriage.lease.index(), method)?;
    let trailers = allowed.client_is_http2 && carriage.lease.is_http2() && trailers::is_grpc(&parts.headers);
    Ok(Response::from_parts(parts, ProxyBody::upstream(body, carriage, trailers)))
}

/// How long an answer may be silent, with what is still on its way of the request.
fn patience(upstream: &Upstream, upload: Option<Rc<Progress>>) -> Patience {
    if let Some(limit) = upstream.idle_timeout {
        return Patience::For(limit);
    }
    let upload = upload.filter(|upload| !upload.is_whole()).map(|upload| (upload, upstream.first_byte_timeout));
    Patience::WhileClientWaits { upload }
}

/// What became of a WebSocket handshake.
pub enum Handshaken {
    Switched(Switched),
    /// The app answered with something else, which is carried like any answer.
    Answered(Response<ProxyBody>),
}

/// A connection on which the app agreed to speak WebSocket.
pub struct Switched {
    pub response: Response<ProxyBody>,
    pub upstream: Raw,
    pub lease: Lease,
    pub judged: Arc<Judged>,
}

/// Carries a WebSocket handshake on a connection of its own, which never goes to the pool.
pub async fn switch(
    allowed: Allowed<'_>,
    parts: &mut request::Parts,
    handshake: &Handshake,
    judged: Arc<Judged>,
) -> Result<Handshaken, ProxyError> {
    let Allowed { shared, pools, inbound, .. } = allowed;
    let upstream = &inbound.route.upstream;
    let method = parts.method.clone();
    let addresses = pools.addresses(&shared.health, &inbound.route);
    let slot = addresses.choose(&shared.health, Tried::default()).ok_or(ProxyError::NoUpstream)?;
    let mut lease = Box::pin(dial(shared, pools, &addresses, slot, Want::Http1)).await?;
    lease.never_again();
    host(upstream, lease.index(), &mut parts.headers);
    let progress = Progress::start();
    let mut watch = allowed.watch(Arc::clone(&judged));
    let sent = transmit(&mut lease, take(parts, RequestBody::Empty), false);
    let sent = answered(pin!(sent), upstream, &progress, &mut watch).await;
    let response =
        sent.map_err(|failed| to_blame(shared, &addresses, &lease, failed.into_error(&progress), &progress))?;
    well(shared, &lease);
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let carriage = Carriage { lease, watch, patience: patience(upstream, None) };
        return answer(allowed, &method, response, carriage).map(Handshaken::Answered);
    }
    let upstream = lease.raw().ok_or(ProxyError::UpstreamUpgrade)?;
    let (mut parts, _) = response.into_parts();
    handshake.check(&parts)?;
    still_live(&watch)?;
    allowed.clean(&mut parts, lease.index(), &method)?;
    upgrade::ask(&mut parts.headers);
    let response = Response::from_parts(parts, ProxyBody::empty());
    Ok(Handshaken::Switched(Switched { response, upstream, lease, judged }))
}

/// The app sees the public host unless its file says otherwise.
fn host(upstream: &Upstream, index: usize, headers: &mut HeaderMap) {
    if upstream.preserve_host {
        return;
    }
    let Some(url) = upstream.urls.get(index) else { return };
    if let Ok(value) = HeaderValue::try_from(url.authority()) {
        headers.insert(HOST, value);
    }
}

/// The request made of a head that is needed no longer where it stands.
fn take(parts: &mut request::Parts, body: RequestBody) -> Request<RequestBody> {
    Request::from_parts(std::mem::replace(parts, Request::new(()).into_parts().0), body)
}

/// An error with its causes in one line, for the log.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Why no answer came over one connection.
enum Failed {
    /// Nothing was written; the request is whole.
    Before(Option<Box<Request<RequestBody>>>, AnswerError),
    /// The app refused it before it did anything with it (RFC 9113 section 8.7).
    Unprocessed(AnswerError),
    /// The connection ended before a whole head came; a request without a body may still be there.
    Closed(AnswerError, Option<Box<Request<RequestBody>>>),
    /// What came was no answer, or our own side failed.
    Other(AnswerError),
    TimedOut,
    /// Nobody may have the answer any more.
    Over(ProxyError),
}

impl Failed {
    /// The request to send once more: it came back whole, or was copied.
    fn request(&mut self, again: Option<&Again>) -> Option<Request<RequestBody>> {
        let came_back = match self {
            Self::Before(request, _) | Self::Closed(_, request) => request.take(),
            Self::Unprocessed(_) | Self::Other(_) | Self::TimedOut | Self::Over(_) => None,
        };
        came_back.map(|request| *request).or_else(|| again.map(Again::request))
    }

    /// A fault that the client caused counts before what the upstream then did.
    fn into_error(self, progress: &Progress) -> ProxyError {
        match (progress.fault(), self) {
            (Some(fault), _) => fault.into(),
            (None, Self::TimedOut) => ProxyError::UpstreamTimedOut,
            (None, Self::Over(error)) => error,
            (None, Self::Other(AnswerError::Http1(h1::Error::Coding))) => ProxyError::UpstreamFraming,
            (None, Self::Before(_, error) | Self::Unprocessed(error) | Self::Closed(error, _) | Self::Other(error)) => {
                ProxyError::Upstream(error)
            }
        }
    }
}

/// Hands a request over to its connection, in the shape that it takes there.
fn transmit(
    lease: &mut Lease,
    mut request: Request<RequestBody>,
    closes: bool,
) -> impl Future<Output = Result<Response<AnswerBody>, Unanswered>> + use<> {
    if lease.is_http2() {
        shape::http2(&mut request, lease.slot().address().url().scheme);
    } else {
        shape::http1(&mut request);
        if closes {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
    lease.send(request)
}

/// Waits for the head, at most the first-byte limit after the last piece of body went out. What was sent
/// stays where it is: it is as large as the request.
async fn answered<F>(
    sent: Pin<&mut F>,
    upstream: &Upstream,
    progress: &Progress,
    watch: &mut Watch,
) -> Result<Response<AnswerBody>, Failed>
where
    F: Future<Output = Result<Response<AnswerBody>, Unanswered>>,
{
    match within(sent, upstream.first_byte_timeout, progress, watch).await? {
        None => Err(Failed::TimedOut),
        Some(Ok(response)) => Ok(response),
        Some(Err(Unanswered { error, request, touched })) => Err(match request {
            request @ Some(_) if !touched => Failed::Before(request, error),
            _ if error.is_unprocessed() => Failed::Unprocessed(error),
            request if error.is_closed() => Failed::Closed(error, request),
            _ => Failed::Other(error),
        }),
    }
}

/// `None` when neither an answer nor a further piece of the request's body came for `limit`.
async fn within<F: Future>(
    mut future: Pin<&mut F>,
    limit: Duration,
    progress: &Progress,
    watch: &mut Watch,
) -> Result<Option<F::Output>, Failed> {
    let mut timer = pin!(tokio::time::sleep(limit.min(WATCHED_AFTER)));
    let mut is_watched = false;
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(Some(output)));
        }
        // Outside of tokio's budget: an app that talks on and on without an answer may have used up this turn of
        // the task, and the next one, and would never be too late.
        while pin!(tokio::task::unconstrained(timer.as_mut())).poll(cx).is_ready() {
            is_watched = true;
            // An upload may take longer than the limit as long as it moves.
            let due = progress.last() + limit;
            if due <= Instant::now() {
                return Poll::Ready(Ok(None));
            }
            timer.as_mut().reset(due);
        }
        // Asked both ways, for the same reason.
        if is_watched && (watch.poll_over(cx).is_ready() || watch.is_over()) {
            return Poll::Ready(Err(Failed::Over(over(watch))));
        }
        Poll::Pending
    })
    .await
}

/// NTLM and Negotiate sign in the connection, not the request: whoever came next on it would be
/// the person before (S-UP-6).
fn authenticates_connection(headers: &HeaderMap, field: HeaderName) -> bool {
    headers.get_all(field).iter().any(|value| {
        // Several challenges may stand in one field, and between scheme and token any blank.
        value.as_bytes().split(|b| *b == b',').any(|challenge| {
            let scheme = challenge.trim_ascii().split(u8::is_ascii_whitespace).next().unwrap_or_default();
            scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
        })
    })
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::proxy::live::LiveConnections;

    #[tokio::test]
    async fn s_lim_1_s_ws_2_an_app_that_never_lets_go_of_its_turn_is_given_up_as_well() {
        let talk = || async {
            loop {
                tokio::task::consume_budget().await;
            }
        };
        let progress = Progress::start();
        let session = CancellationToken::new();
        let judged = Arc::new(Judged::for_tests());
        let mut watch = Watch::new(judged, Some(session.clone()), LiveConnections::new());
        let soon = Duration::from_secs(20);
        let given_up: Result<Option<()>, Failed> =
            tokio::time::timeout(soon, within(pin!(talk()), Duration::from_millis(20), &progress, &mut watch))
                .await
                .expect("it has an end");
        assert!(matches!(given_up, Ok(None)), "by the time");
        session.cancel();
        let given_up: Result<Option<()>, Failed> =
            tokio::time::timeout(soon, within(pin!(talk()), Duration::from_secs(600), &progress, &mut watch))
                .await
                .expect("it has an end");
        assert!(matches!(given_up, Err(Failed::Over(_))), "by the session");
    }
}
