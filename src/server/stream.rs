//! A client's bytes: clear or TLS, counted as they come, with an end to the patience with a client that
//! takes none.

use std::any::Any;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::in_flight::Activity;
use super::limits;
use super::linger::Linger;
use super::unexpected::Unexpected;

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

    pub(super) fn tcp(&self) -> &TcpStream {
        match &self.io {
            Io::Plain(tcp) => tcp,
            Io::Tls(tls) => tls.get_ref().0,
        }
    }

    /// Whether the client has ended its side, read or not.
    fn is_client_gone(&self) -> bool {
        let ready = pin!(tokio::task::unconstrained(self.tcp().ready(Interest::READABLE)));
        match ready.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ready) => ready.is_ok_and(|ready| ready.is_read_closed()),
            Poll::Pending => false,
        }
    }

    /// Whether something waits above the socket. One read may bring the end of a handshake and the
    /// first request behind it: then rustls holds the request, and the socket says nothing more.
    pub(super) fn holds_bytes(&mut self) -> bool {
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

    /// Ends a connection on which nothing is under way. Over TLS that is said (`close_notify`): an end without it
    /// looks to the client like one that somebody forged (RFC 8446 6.1).
    pub(super) async fn take_leave(mut self) -> io::Result<()> {
        match &mut self.io {
            Io::Plain(_) => Ok(()),
            Io::Tls(tls) => tokio::time::timeout(limits::DRAIN_LINGER, tls.shutdown()).await.unwrap_or(Ok(())),
        }
    }

    /// True when ALPN agreed on HTTP/2.
    #[must_use]
    pub fn is_h2(&self) -> bool {
        matches!(&self.io, Io::Tls(tls) if tls.get_ref().1.alpn_protocol() == Some(b"h2"))
    }
}

/// A stream that counts what was read from it, and fails when its client stops reading: an answer
/// that nobody takes would hold its buffers, and its connection to the app, for ever. Tunnels go on
/// through it, so it holds for them too.
pub(super) struct Counted {
    pub(super) stream: Stream,
    activity: Arc<Activity>,
    patience: Duration,
    /// Set while the client takes nothing.
    stalled: Option<Pin<Box<tokio::time::Sleep>>>,
    /// Set when our side has ended.
    lingering: Option<Linger>,
}

impl Counted {
    pub(super) fn new(stream: Stream, activity: &Arc<Activity>) -> Self {
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
            let earlier = self.activity.bytes_read.fetch_add(read as u64, Ordering::Relaxed);
            if earlier == 0
                && let Some(what) = Unexpected::on_clear_text(buf.filled().get(before..).unwrap_or_default())
            {
                let _ = self.activity.unexpected.set(what);
            }
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
        // hyper flushes whenever it is polled. Whoever sends a byte behind a request and goes would leave it, and its
        // connection to the app, for as long as the app has nothing to say.
        let looks = self.activity.look.load(Ordering::Relaxed);
        if looks && self.activity.look.swap(false, Ordering::Relaxed) && self.stream.is_client_gone() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the client is gone")));
        }
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
