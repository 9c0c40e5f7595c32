//! One connection: HTTP/1.1 or HTTP/2 by ALPN, its deadlines, and the parking of idle ones.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::limits;
use super::linger::Linger;
use crate::domain::host::Scheme;
use crate::proxy::ConnMemory;

/// What is known of a connection before its first request.
#[derive(Debug)]
pub struct ConnInfo {
    pub peer: SocketAddr,
    pub local: SocketAddr,
    pub scheme: Scheme,
    /// Whether fields of a request may name the client, should `peer` be a trusted proxy. Not where a
    /// balancer passed on bytes of a client that it has no address of.
    pub fields_may_tell: bool,
    /// Requests of this client's address that are under way; `None` where they are not counted.
    pub requests: Option<Arc<AtomicU32>>,
    /// What earlier requests of this connection came to.
    pub memory: ConnMemory,
}

/// Answers one request. Boxed: hyper's connection must be movable to be parked.
pub type Answer<B> = Rc<dyn Fn(Rc<ConnInfo>, Request<Incoming>) -> Pin<Box<dyn Future<Output = Response<B>>>>>;

/// A client's byte stream, and what counts its connection as open. They stay together when hyper
/// lets go of the connection to a WebSocket, which holds a socket like any other.
#[derive(Debug)]
pub struct Stream {
    io: Io,
    _open: Box<dyn Any + Send>,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// `open` is dropped with the stream.
    pub fn plain(tcp: TcpStream, open: impl Any + Send) -> Self {
        Self { io: Io::Plain(tcp), _open: Box::new(open) }
    }

    pub fn tls(tls: TlsStream<TcpStream>, open: impl Any + Send) -> Self {
        Self { io: Io::Tls(Box::new(tls)), _open: Box::new(open) }
    }

    fn tcp(&self) -> &TcpStream {
        match &self.io {
            Io::Plain(tcp) => tcp,
            Io::Tls(tls) => tls.get_ref().0,
        }
    }

    /// Whether something waits above the socket. One read may bring the end of a handshake and the
    /// first request behind it: then rustls holds the request, and the socket says nothing more.
    fn holds_bytes(&mut self) -> bool {
        match &mut self.io {
            Io::Plain(_) => false,
            // A fault is shown to hyper, which ends the connection.
            Io::Tls(tls) => tls
                .get_mut()
                .1
                .process_new_packets()
                .map_or(true, |state| state.plaintext_bytes_to_read() > 0 || state.peer_has_closed()),
        }
    }

    /// True when ALPN agreed on HTTP/2.
    #[must_use]
    pub fn is_h2(&self) -> bool {
        matches!(&self.io, Io::Tls(tls) if tls.get_ref().1.alpn_protocol() == Some(b"h2"))
    }
}

/// What happens on a connection now, seen from outside hyper.
#[derive(Debug, Default)]
struct Activity {
    /// Requests whose answer is not finished, bodies included.
    in_flight: AtomicU32,
    /// Bytes read so far: a half-sent head is not idle.
    bytes_read: AtomicU64,
    served: AtomicU32,
    /// `bytes_read` when the last answer was finished.
    read_at_last_answer: AtomicU64,
    /// The last request came with a body, of which some may still be on its way.
    had_body: AtomicBool,
    /// We said that the connection ends.
    closing: AtomicBool,
}

/// The answers of an HTTP/2 connection that wait for their client. A stream whose window is closed
/// is never written to, so the socket's own patience does not see it (S-LIM-1).
struct Waiting<B> {
    answers: RefCell<Vec<Weak<Watched<B>>>>,
    /// Cancelled when the connection has served enough.
    full: CancellationToken,
}

/// So many entries may be of answers that are over; each keeps the memory of its answer.
const OVER: usize = 64;

struct Watched<B> {
    body: RefCell<Option<B>>,
    /// Since when a piece waits to be asked for; `None` while the app is waited for.
    since: Cell<Option<Instant>>,
}

impl<B> Waiting<B> {
    fn new() -> Rc<Self> {
        Rc::new(Self { answers: RefCell::default(), full: CancellationToken::new() })
    }

    fn watch(&self, body: B) -> Rc<Watched<B>> {
        let mut answers = self.answers.borrow_mut();
        if answers.len() == answers.capacity() {
            // Instead of growing: at most as many as there are streams are alive.
            answers.retain(|weak| weak.strong_count() > 0);
            answers.reserve(OVER);
        }
        let watched = Rc::new(Watched { body: RefCell::new(Some(body)), since: Cell::new(Some(Instant::now())) });
        answers.push(Rc::downgrade(&watched));
        watched
    }

    /// Lets go of the answers that nobody took a piece of for so long: of what the app holds for
    /// them, at once; their streams end when they are looked at again.
    fn let_go(&self, patience: Duration) {
        self.answers.borrow_mut().retain(|weak| {
            let Some(watched) = weak.upgrade() else { return false };
            if watched.since.get().is_some_and(|since| since.elapsed() >= patience) {
                watched.body.borrow_mut().take();
                return false;
            }
            true
        });
    }
}

/// Serves a stream until it ends, idles out, or the gate drains.
pub async fn serve<B>(stream: Stream, info: ConnInfo, answer: Answer<B>, drain: CancellationToken)
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let info = Rc::new(info);
    let outcome = if stream.is_h2() {
        http2(stream, info, answer, drain).await
    } else {
        http1(stream, info, answer, drain).await
    };
    if let Err(error) = outcome {
        tracing::debug!(error = %error, "a client connection ended early");
    }
}

async fn http1<B>(mut stream: Stream, info: Rc<ConnInfo>, answer: Answer<B>, drain: CancellationToken) -> io::Result<()>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits::REQUEST_HEAD + limits::PARK_AFTER)
        // Without `max_headers`, hyper's own limit is 100 and needs no heap (SECURITY.md section 3).
        .max_header_size(limits::ALL_HEADERS + limits::REQUEST_LINE)
        .half_close(false)
        // PERFORMANCE 3.5: small bodies are copied behind the head into one write.
        .writev(false);
    let activity = Arc::new(Activity::default());
    let mut service = Service { info, answer, activity: Arc::clone(&activity), waiting: None };
    let mut may_idle = limits::REQUEST_HEAD;
    loop {
        // Parked: no hyper state, no buffers; only the socket and this small future.
        if !stream.holds_bytes() {
            tokio::select! {
                ready = stream.tcp().readable() => ready?,
                () = tokio::time::sleep(may_idle) => return Ok(()),
                () = drain.cancelled() => return Ok(()),
            }
        }
        let io = TokioIo::new(Counted::new(stream, &activity));
        let active = Active { connection: builder.serve_connection(io, service).with_upgrades() };
        match Box::pin(active.run(&activity, &drain)).await? {
            None => return Ok(()),
            Some((parked, again)) => (stream, service) = (parked, again),
        }
        service.info.memory.forget();
        may_idle = limits::KEEP_ALIVE_IDLE;
    }
}

type Http1<B> = hyper::server::conn::http1::UpgradeableConnection<TokioIo<Counted>, Service<B>>;

struct Active<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    connection: Http1<B>,
}

impl<B> Active<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Drives hyper; gives the stream back when the connection may be parked.
    async fn run(mut self, activity: &Activity, drain: &CancellationToken) -> io::Result<Option<(Stream, Service<B>)>> {
        let mut draining = false;
        loop {
            let before = (activity.bytes_read.load(Ordering::Relaxed), activity.served.load(Ordering::Relaxed));
            tokio::select! {
                done = &mut self.connection => return done.map(|()| None).map_err(io::Error::other),
                () = drain.cancelled(), if !draining => {
                    draining = true;
                    Pin::new(&mut self.connection).graceful_shutdown();
                }
                () = tokio::time::sleep(limits::PARK_AFTER) => {
                    let after = (activity.bytes_read.load(Ordering::Relaxed), activity.served.load(Ordering::Relaxed));
                    let idle = activity.in_flight.load(Ordering::Relaxed) == 0 && before == after;
                    // A head that has begun to arrive stays with hyper and its deadline.
                    if idle && !draining && after.1 > 0 && activity.is_between_requests() {
                        let Some(parts) = self.connection.into_parts() else { return Ok(None) };
                        if !parts.read_buf.is_empty() {
                            return Ok(None);
                        }
                        return Ok(Some((parts.io.into_inner().stream, parts.service)));
                    }
                }
            }
        }
    }
}

impl Activity {
    /// Whether no byte came since the last answer was finished. What comes on a connection that
    /// ends is never a request.
    fn is_between_requests(&self) -> bool {
        !self.closing.load(Ordering::Relaxed)
            && self.bytes_read.load(Ordering::Relaxed) == self.read_at_last_answer.load(Ordering::Relaxed)
    }
}

async fn http2<B>(stream: Stream, info: Rc<ConnInfo>, answer: Answer<B>, drain: CancellationToken) -> io::Result<()>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let activity = Arc::new(Activity::default());
    let waiting = Waiting::new();
    let service = Service { info, answer, activity: Arc::clone(&activity), waiting: Some(Rc::clone(&waiting)) };
    let mut builder = hyper::server::conn::http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(100)
        .max_header_list_size(u32::try_from(limits::ALL_HEADERS).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let mut connection = Box::pin(builder.serve_connection(TokioIo::new(Counted::new(stream, &activity)), service));
    let mut closing = false;
    let mut idle_since_served = None;
    loop {
        tokio::select! {
            done = connection.as_mut() => return done.map_err(io::Error::other),
            () = drain.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = waiting.full.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = tokio::time::sleep(limits::KEEP_ALIVE_IDLE / 2) => {
                waiting.let_go(limits::READER_STALL);
                let served = activity.served.load(Ordering::Relaxed);
                let idle = activity.in_flight.load(Ordering::Relaxed) == 0;
                // Asked to go and still there: before the client's preface hyper waits without a
                // limit, and whoever never sends one would hold the connection for ever.
                if closing && idle {
                    return Ok(());
                }
                // Idle over two looks in a row with nothing served between: 30 to 60 s.
                if idle && idle_since_served == Some(served) {
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                }
                idle_since_served = idle.then_some(served);
            }
        }
    }
}

/// Runs HTTP/2 streams on the thread of their connection.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

struct Service<B> {
    info: Rc<ConnInfo>,
    answer: Answer<B>,
    activity: Arc<Activity>,
    /// On HTTP/2.
    waiting: Option<Rc<Waiting<B>>>,
}

impl<B> hyper::service::Service<Request<Incoming>> for Service<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
{
    type Response = Response<InFlight<B>>;
    type Error = Infallible;
    type Future = Answering<B>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let served = self.activity.served.fetch_add(1, Ordering::Relaxed) + 1;
        let has_body = request.version() < http::Version::HTTP_2 && !request.body().is_end_stream();
        self.activity.had_body.store(has_body, Ordering::Relaxed);
        // HTTP/1 has one at a time, and the connections are counted.
        let counted = self.info.requests.as_ref().filter(|_| self.waiting.is_some()).map(limits::UnderWay::of);
        let guard = Guard::new(
            &self.activity,
            match counted {
                None => None,
                Some(Some(under_way)) => Some(under_way),
                Some(None) => {
                    request.extensions_mut().insert(OneTooMany);
                    None
                }
            },
        );
        let last = served >= limits::REQUESTS_PER_CONNECTION;
        if last && let Some(waiting) = &self.waiting {
            waiting.full.cancel();
        }
        Answering {
            answered: (self.answer)(Rc::clone(&self.info), request),
            last,
            guard: Some(guard),
            waiting: self.waiting.clone(),
        }
    }
}

/// An answer on its way. The one box of a request is inside.
struct Answering<B> {
    answered: Pin<Box<dyn Future<Output = Response<B>>>>,
    /// The connection has served enough.
    last: bool,
    guard: Option<Guard>,
    waiting: Option<Rc<Waiting<B>>>,
}

impl<B> Future for Answering<B> {
    type Output = Result<Response<InFlight<B>>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(mut response) = self.answered.as_mut().poll(cx) else { return Poll::Pending };
        if self.last && response.version() <= http::Version::HTTP_11 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let guard = self.guard.take();
        let waiting = self.waiting.take();
        Poll::Ready(Ok(response.map(|body| InFlight {
            body: match waiting {
                None => Kept::Own(body),
                Some(waiting) => Kept::Watched(waiting.watch(body)),
            },
            _guard: guard,
        })))
    }
}

/// Stands in the extensions of a request whose address has as many under way as it may.
#[derive(Clone, Copy, Debug)]
pub struct OneTooMany;

/// Falls when the answer's body is finished or dropped.
struct Guard {
    activity: Arc<Activity>,
    _under_way: Option<limits::UnderWay>,
}

impl Guard {
    fn new(activity: &Arc<Activity>, under_way: Option<limits::UnderWay>) -> Self {
        activity.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { activity: Arc::clone(activity), _under_way: under_way }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Self { activity, .. } = self;
        activity.in_flight.fetch_sub(1, Ordering::Relaxed);
        activity.read_at_last_answer.store(activity.bytes_read.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// An answer's body that keeps its connection from being parked.
pub struct InFlight<B> {
    body: Kept<B>,
    _guard: Option<Guard>,
}

enum Kept<B> {
    Own(B),
    Watched(Rc<Watched<B>>),
}

/// Why an answer ends before its end.
#[derive(Debug, thiserror::Error)]
#[error("the client took nothing of its answer for too long")]
struct Stalled;

impl<B> Body for InFlight<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        let polled = match &mut self.body {
            Kept::Own(body) => Pin::new(body).poll_frame(cx),
            Kept::Watched(watched) => {
                let mut body = watched.body.borrow_mut();
                let Some(body) = body.as_mut() else { return Poll::Ready(Some(Err(Box::new(Stalled)))) };
                let polled = Pin::new(body).poll_frame(cx);
                // While the app has nothing, the client is not to blame.
                watched.since.set(polled.is_ready().then(Instant::now));
                polled
            }
        };
        polled.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Kept::Own(body) => body.is_end_stream(),
            Kept::Watched(watched) => watched.body.borrow().as_ref().is_some_and(Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match &self.body {
            Kept::Own(body) => body.size_hint(),
            Kept::Watched(watched) => watched.body.borrow().as_ref().map(Body::size_hint).unwrap_or_default(),
        }
    }
}

/// A stream that counts what was read from it, and fails when its client stops reading: an answer
/// that nobody takes would hold its buffers, and its connection to the app, for ever. Tunnels go on
/// through it, so it holds for them too.
struct Counted {
    stream: Stream,
    activity: Arc<Activity>,
    patience: Duration,
    /// Set while the client takes nothing.
    stalled: Option<Pin<Box<tokio::time::Sleep>>>,
    /// Set when our side has ended.
    lingering: Option<Linger>,
}

impl Counted {
    fn new(stream: Stream, activity: &Arc<Activity>) -> Self {
        Self { stream, activity: Arc::clone(activity), patience: limits::READER_STALL, stalled: None, lingering: None }
    }

    /// An answer of the stream to a write, or the end of patience with it.
    fn patient<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let patience = self.patience;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client stopped reading"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = match &mut self.stream.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Io::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        };
        let read = buf.filled().len().saturating_sub(before);
        if read > 0 {
            self.activity.bytes_read.fetch_add(read as u64, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = match &mut self.stream.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Io::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        };
        self.patient(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = match &mut self.stream.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Io::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        };
        self.patient(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        matches!(&self.stream.io, Io::Plain(tcp) if tcp.is_write_vectored())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = match &mut self.stream.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Io::Tls(tls) => Pin::new(tls).poll_flush(cx),
        };
        self.patient(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.activity.closing.store(true, Ordering::Relaxed);
        if this.lingering.is_none() {
            let polled = match &mut this.stream.io {
                Io::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
                Io::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            };
            let ended = ready!(this.patient(cx, polled));
            if ended.is_err() || !this.activity.had_body.load(Ordering::Relaxed) {
                return Poll::Ready(ended);
            }
        }
        let tcp = match &mut this.stream.io {
            Io::Plain(tcp) => tcp,
            Io::Tls(tls) => tls.get_mut().0,
        };
        this.lingering.get_or_insert_with(Linger::new).poll(tcp, cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn s_lim_1_a_stream_that_nobody_reads_lets_go_of_its_app() {
        use http_body_util::{BodyExt, StreamBody};
        let waiting = Waiting::new();
        let (app, pieces) = tokio::sync::mpsc::unbounded_channel::<Result<http_body::Frame<Bytes>, io::Error>>();
        let pieces = futures_util::stream::unfold(pieces, |mut pieces| async { Some((pieces.recv().await?, pieces)) });
        let body = Kept::Watched(waiting.watch(StreamBody::new(Box::pin(pieces))));
        let mut answer = InFlight { body, _guard: None };
        // Asked for a piece that the app does not have yet: the app's time, however long.
        assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut answer).poll_frame(cx))).await.is_pending());
        waiting.let_go(Duration::ZERO);
        app.send(Ok(http_body::Frame::data(Bytes::from_static(b"1")))).unwrap();
        assert!(answer.frame().await.unwrap().is_ok());
        // A piece was taken, and no further one is asked for.
        waiting.let_go(Duration::from_secs(60));
        assert!(!app.is_closed());
        waiting.let_go(Duration::ZERO);
        assert!(app.is_closed(), "what the app holds for it is free");
        assert!(answer.frame().await.unwrap().is_err());
    }

    #[test]
    fn s_lim_2_answers_that_are_over_are_not_kept_however_many_there_were() {
        let waiting = Waiting::new();
        let held: Vec<_> = (0..100).map(|n| waiting.watch(n)).collect();
        for n in 0..100_000 {
            drop(waiting.watch(n));
        }
        let kept = waiting.answers.borrow().capacity();
        assert!(kept <= 4 * (held.len() + OVER), "{kept} entries for {} streams", held.len());
        waiting.let_go(Duration::ZERO);
        assert!(held.iter().all(|watched| watched.body.borrow().is_none()), "those alive are all known");
    }

    #[tokio::test]
    async fn s_lim_1_a_client_that_stops_reading_is_let_go() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        let mut gate = Counted::new(Stream::plain(tcp, ()), &Arc::default());
        let fill = async |gate: &mut Counted| loop {
            match poll_fn(|cx| Poll::Ready(Pin::new(&mut *gate).poll_write(cx, &[0; 65536]))).await {
                Poll::Ready(written) => assert!(written.unwrap() > 0),
                Poll::Pending => return,
            }
        };
        fill(&mut gate).await;
        assert!(gate.stalled.is_some());
        // Whoever takes something has the whole time again.
        let mut sink = vec![0; 1 << 20];
        while gate.stalled.is_some() {
            tokio::io::AsyncReadExt::read(&mut client, &mut sink).await.unwrap();
            let _ = poll_fn(|cx| Poll::Ready(Pin::new(&mut gate).poll_write(cx, b"x"))).await;
            tokio::task::yield_now().await;
        }
        gate.patience = Duration::from_millis(20);
        fill(&mut gate).await;
        let last = poll_fn(|cx| Pin::new(&mut gate).poll_write(cx, b"x")).await;
        assert_eq!(last.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
