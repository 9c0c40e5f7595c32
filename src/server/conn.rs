//! One connection: HTTP/1.1 or HTTP/2 by ALPN, its deadlines, and the parking of idle ones.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::in_flight::{Activity, Guard, InFlight, Waiting};
use super::limits::{self, Requests, UnderWay};
use super::room::{self, Needed, Room};
use super::stream::Counted;
pub use super::stream::Stream;
use super::together::Together;
use super::unexpected::Unexpected;
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
    pub requests: Option<Arc<Requests>>,
    /// It holds a place that is kept for signing in.
    pub kept: bool,
    /// How it hears that its place is needed, while nothing is asked on it.
    pub room: Room,
    /// What earlier requests of this connection came to.
    pub memory: ConnMemory,
}

/// Answers one request. Boxed: hyper's connection must be movable to be parked.
pub type Answer<B> = Rc<dyn Fn(Rc<ConnInfo>, Request<Incoming>) -> Pin<Box<dyn Future<Output = Response<B>>>>>;

/// Serves a stream until it ends, idles out, or the gate drains. What it tells is what came in place of HTTP.
pub async fn serve<B>(stream: Stream, info: ConnInfo, answer: Answer<B>, drain: CancellationToken) -> Option<Unexpected>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let info = Rc::new(info);
    let activity = Arc::new(Activity::default());
    let outcome = if stream.is_h2() {
        http2(stream, info, answer, drain, &activity).await
    } else {
        http1(stream, info, answer, drain, &activity).await
    };
    let error = outcome.err()?;
    tracing::debug!(error = %error, "a client connection ended early");
    activity.unexpected.get().copied()
}

async fn http1<B>(
    mut stream: Stream,
    info: Rc<ConnInfo>,
    answer: Answer<B>,
    drain: CancellationToken,
    activity: &Arc<Activity>,
) -> io::Result<()>
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
        .max_buf_size(limits::ANSWER_BUFFER)
        .half_close(false)
        // PERFORMANCE 3.5: small bodies are copied behind the head into one write.
        .writev(false);
    let mut service = Service { info, answer, activity: Arc::clone(activity), waiting: None };
    let mut may_idle = limits::REQUEST_HEAD;
    let room = service.info.room.clone();
    let mut needed = room.needed_later();
    loop {
        // Parked: no hyper state, no buffers; only the socket and this small future.
        if !stream.holds_bytes() {
            let over = tokio::select! {
                // A request that came in the same moment goes first.
                biased;
                ready = stream.tcp().readable() => ready.map(|()| false)?,
                () = tokio::time::sleep(may_idle) => true,
                () = drained(&drain) => true,
                () = needed => true,
            };
            if over {
                return Box::pin(stream.take_leave()).await;
            }
        }
        let io = TokioIo::new(Counted::new(stream, activity));
        let active = Active { connection: builder.serve_connection(io, service).with_upgrades() };
        match Box::pin(active.run(activity, &drain, &room)).await? {
            None => return Ok(()),
            Some((parked, again)) => (stream, service) = (parked, again),
        }
        service.info.memory.forget();
        may_idle = limits::KEEP_ALIVE_IDLE;
        needed = room.needed();
    }
}

/// Until the gate drains and nothing came all the same. Boxed: an idle connection is to be small.
async fn drained(drain: &CancellationToken) {
    drain.cancelled().await;
    Box::pin(tokio::time::sleep(limits::DRAIN_LINGER)).await;
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
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
    async fn run(
        mut self,
        activity: &Activity,
        drain: &CancellationToken,
        room: &Room,
    ) -> io::Result<Option<(Stream, Service<B>)>> {
        // While a head takes its time: in the queue of those who only hold a place.
        let mut needed: Option<Needed> = None;
        // Once the gate drains: when this connection ends, should nothing come on it until then.
        let mut leave_at: Option<Instant> = None;
        let mut leaving = false;
        loop {
            let before = (activity.bytes_read.load(Ordering::Relaxed), activity.served.load(Ordering::Relaxed));
            tokio::select! {
                // The drain first: a request that arrives with it is answered as the last one.
                biased;
                () = drain.cancelled(), if leave_at.is_none() => {
                    activity.draining.store(true, Ordering::Relaxed);
                    leave_at = Some(Instant::now() + limits::DRAIN_LINGER);
                }
                done = &mut self.connection => return done.map(|()| None).map_err(io::Error::other),
                () = at(leave_at), if !leaving => {
                    leaving = true;
                    Pin::new(&mut self.connection).graceful_shutdown();
                }
                () = room::told(&mut needed) => {
                    needed = None;
                    let now = (activity.in_flight.load(Ordering::Relaxed), activity.served.load(Ordering::Relaxed));
                    if now == (0, before.1) {
                        return Ok(None);
                    }
                    room.pass_on();
                }
                () = tokio::time::sleep(limits::PARK_AFTER) => {
                    let after = (activity.bytes_read.load(Ordering::Relaxed), activity.served.load(Ordering::Relaxed));
                    // hyper reads on while an answer is waited for, and so sees its client go; not once it holds a
                    // byte behind the request.
                    activity.look.store(activity.in_flight.load(Ordering::Relaxed) > 0, Ordering::Relaxed);
                    let idle = activity.in_flight.load(Ordering::Relaxed) == 0 && before == after;
                    // A head that has begun to arrive stays with hyper and its deadline.
                    if idle && leave_at.is_none() && after.1 > 0 && activity.is_between_requests() {
                        let Some(parts) = self.connection.into_parts() else { return Ok(None) };
                        if !parts.read_buf.is_empty() {
                            return Ok(None);
                        }
                        return Ok(Some((parts.io.into_inner().stream, parts.service)));
                    }
                    let only_holds = activity.in_flight.load(Ordering::Relaxed) == 0 && before.1 == after.1;
                    match (only_holds, &needed) {
                        (true, None) => needed = Some(room.needed()),
                        (true, Some(_)) => {}
                        (false, _) => needed = None,
                    }
                }
            }
        }
    }
}

async fn http2<B>(
    stream: Stream,
    info: Rc<ConnInfo>,
    answer: Answer<B>,
    drain: CancellationToken,
    activity: &Arc<Activity>,
) -> io::Result<()>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let waiting = Waiting::new();
    let (kept, room) = (info.kept, info.room.clone());
    let mut needed = Some(room.needed_later());
    let mut served_then = 0;
    // Asked to make room: when it goes, should nothing have come on it until then.
    let mut leave_at: Option<Instant> = None;
    let service = Service { info, answer, activity: Arc::clone(activity), waiting: Some(Rc::clone(&waiting)) };
    let mut builder = hyper::server::conn::http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        // A second stream on a kept place is refused by h2, and its client may send it again elsewhere.
        .max_concurrent_streams(if kept { limits::REQUESTS_PER_KEPT } else { 100 })
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(100)
        .max_send_buf_size(limits::ANSWER_BUFFER)
        .max_header_list_size(u32::try_from(limits::ALL_HEADERS).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let together = Together::new(Counted::new(stream, activity));
    let mut connection = Box::pin(builder.serve_connection(TokioIo::new(together.clone()), service));
    let mut closing = false;
    let mut idle_since_served = None;
    loop {
        tokio::select! {
            done = poll_fn(|cx| match (connection.as_mut().poll(cx), together.poll_send(cx)) {
                (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
                (done, _) => done.map_err(io::Error::other),
            }) => return done,
            () = drain.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = waiting.full.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = room::told(&mut needed) => {
                needed = None;
                let served = activity.served.load(Ordering::Relaxed);
                if closing {
                    room.pass_on();
                } else if activity.in_flight.load(Ordering::Relaxed) == 0 && served == served_then {
                    closing = true;
                    connection.as_mut().graceful_shutdown();
                    leave_at = Some(Instant::now() + limits::DRAIN_LINGER);
                } else {
                    room.pass_on();
                    (served_then, needed) = (served, Some(room.needed_later()));
                }
            }
            () = at(leave_at) => {
                leave_at = None;
                if activity.in_flight.load(Ordering::Relaxed) == 0 {
                    return Ok(());
                }
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
        let under_way = match &self.info.requests {
            None => None,
            Some(requests) => {
                let taken = UnderWay::of(requests);
                if taken.is_none() {
                    request.extensions_mut().insert(OneTooMany);
                }
                taken
            }
        };
        let guard = Guard::new(&self.activity, under_way);
        let most = if self.info.kept { limits::REQUESTS_PER_KEPT } else { limits::REQUESTS_PER_CONNECTION };
        if self.info.kept && served > most {
            // Over HTTP/2 more may come before the client learns that the connection ends.
            request.extensions_mut().insert(OneTooMany);
        }
        let last = served >= most;
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
        let Some(guard) = self.guard.take() else { return Poll::Pending };
        if (self.last || guard.drains()) && response.version() <= http::Version::HTTP_11 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let waiting = self.waiting.take();
        Poll::Ready(Ok(response.map(|body| InFlight::new(body, waiting.as_deref(), guard))))
    }
}

/// Stands in the extensions of a request whose address has as many under way as it may.
#[derive(Clone, Copy, Debug)]
pub struct OneTooMany;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use http_body::Frame;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpSocket, TcpStream};
    use tokio::task::LocalSet;

    use super::*;

    const PIECE: &[u8] = &[b'x'; 32 * 1024];

    /// An answer without an end that counts what is taken of it.
    struct Endless(Rc<Cell<usize>>);

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            self.0.set(self.0.get() + PIECE.len());
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(PIECE)))))
        }
    }

    /// Both ends of a connection, in whose sockets there is room for little.
    async fn narrow() -> (TcpStream, TcpStream) {
        let small = || {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_send_buffer_size(4096).unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            socket
        };
        let socket = small();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener: TcpListener = socket.listen(1).unwrap();
        let client = small().connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    /// How much is taken of the answers to `sent` while its client reads nothing.
    async fn taken(sent: Vec<u8>, is_http2: bool) -> usize {
        let (mut client, gate) = narrow().await;
        let info = Rc::new(ConnInfo {
            peer: gate.peer_addr().unwrap(),
            local: gate.local_addr().unwrap(),
            scheme: Scheme::Https,
            fields_may_tell: false,
            requests: None,
            kept: false,
            room: Room::default(),
            memory: ConnMemory::default(),
        });
        let taken = Rc::new(Cell::new(0));
        let counter = Rc::clone(&taken);
        let answer: Answer<Endless> = Rc::new(move |_, _| {
            let body = Endless(Rc::clone(&counter));
            Box::pin(async move { Response::new(body) })
        });
        client.write_all(&sent).await.unwrap();
        let served = async move {
            let (stream, drain, activity) = (Stream::plain(gate, ()), CancellationToken::new(), Arc::default());
            if is_http2 {
                http2(stream, info, answer, drain, &activity).await
            } else {
                http1(stream, info, answer, drain, &activity).await
            }
        };
        let still = async {
            loop {
                let before = taken.get();
                for _ in 0..2000 {
                    tokio::task::yield_now().await;
                }
                if before > 0 && before == taken.get() {
                    return;
                }
            }
        };
        tokio::select! {
            ended = served => panic!("it goes on: {ended:?}"),
            () = still => {}
        }
        drop(client);
        taken.get()
    }

    #[tokio::test]
    async fn s_lim_3_a_client_that_does_not_read_fills_no_more_than_its_buffer() {
        let taken = LocalSet::new().run_until(taken(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), false)).await;
        assert!(taken <= 320 * 1024, "{taken} bytes");
    }

    #[tokio::test]
    async fn s_lim_3_no_stream_of_a_client_that_does_not_read_fills_more_than_its_buffer() {
        const STREAMS: u32 = 16;
        let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
            let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
            [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
        };
        let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // SETTINGS_INITIAL_WINDOW_SIZE and the window of the connection: as large as they can be.
        sent.extend(frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
        sent.extend(frame(8, 0, 0, &[0x7f, 0xff, 0, 0]));
        for stream in (0..STREAMS).map(|n| 2 * n + 1) {
            // `:method: GET`, `:path: /`, `:scheme: https` of the static table.
            sent.extend(frame(1, 5, stream, &[0x82, 0x84, 0x87]));
        }
        let taken = LocalSet::new().run_until(taken(sent, true)).await;
        assert!(taken <= STREAMS as usize * 200 * 1024, "{taken} bytes of {STREAMS} streams");
    }
}
