//! How is a connection to an app opened? To an address of the configuration and nowhere else
//! (S-UP-1); nothing of a request has a say in it.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::h1;
use super::places::Place;
use super::tls::{Offer, TlsConfigs, TlsSetupError};
use crate::domain::host::Scheme;
use crate::domain::upstream::{Protocol, Upstream, UpstreamUrl};
use crate::proxy::body::RequestBody;

/// Largest buffer of what is sent on one HTTP/2 connection; hyper's own default is 400 KiB, and a
/// thousand slow readers would hold it a thousand times.
const MAX_BUFFER: usize = 128 * 1024;
/// Largest response head, as HTTP/2 counts.
const MAX_HEAD_H2: u32 = 64 * 1024;
/// Requests at a time on one HTTP/2 connection; a further one opens another connection.
pub(super) const MAX_STREAMS: u32 = 100;
/// hyper's count of streams until the app has said its own: one that hardly any app says.
pub(super) const UNSETTLED: usize = 7;
/// What an answer may have sent that its client did not read yet. The connection takes that much
/// for all its streams together, so that slow readers never hold up the others.
const STREAM_WINDOW: u32 = 64 * 1024;

/// Why there is no connection. Addresses are for the log alone (S-UP-7).
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("as many connections to apps are open as this process may have")]
    NoPlace,
    #[error("the upstream did not take the connection")]
    Refused(#[source] io::Error),
    #[error("the upstream did not take the connection in time")]
    TimedOut,
    #[error("the TLS handshake with the upstream failed")]
    Tls(#[source] io::Error),
    #[error("TLS to the upstream cannot be set up")]
    Setup(#[from] TlsSetupError),
    #[error("the upstream's host is no name that a certificate can carry")]
    Name,
    #[error("the upstream does not speak HTTP/2")]
    NoHttp2,
    #[error("the connection to the upstream could not be started")]
    Http(#[source] hyper::Error),
}

/// What a request needs of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// HTTP/1.1 and nothing else: it will switch to WebSocket, or sign the connection in.
    Http1,
    /// What the app's file says.
    Configured,
}

/// A new connection. The caller runs the driver of HTTP/2.
#[expect(clippy::large_enum_variant, reason = "taken apart at once, and once for each connection")]
pub enum Opened {
    Http1(h1::Connection),
    Http2(http2::SendRequest<RequestBody>, http2::Connection<TokioIo<Placed>, RequestBody, LocalExecutor>),
}

/// Opens a connection within the upstream's connect limit, TLS included.
pub async fn open(
    url: &UpstreamUrl,
    upstream: &Upstream,
    tls: &TlsConfigs,
    place: Place,
    want: Want,
) -> Result<Opened, ConnectError> {
    let protocol = if want == Want::Http1 { Protocol::Http1 } else { upstream.protocol };
    let (io, spoken) = tokio::time::timeout(upstream.connect_timeout, open_io(url, upstream, protocol, tls))
        .await
        .map_err(|_| ConnectError::TimedOut)??;
    let io = Placed::new(io, place);
    match spoken {
        Spoken::Http1 => Ok(Opened::Http1(h1::Connection::new(io, upstream.upload_silence))),
        Spoken::Http2 => {
            let mut builder = http2::Builder::new(LocalExecutor);
            builder
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(STREAM_WINDOW * MAX_STREAMS)
                .initial_max_send_streams(UNSETTLED)
                .max_header_list_size(MAX_HEAD_H2)
                .max_send_buf_size(MAX_BUFFER)
                // A connection that died in silence takes many requests with it.
                .keep_alive_interval(Duration::from_secs(30))
                .keep_alive_timeout(Duration::from_secs(20));
            let (sender, driver) = builder.handshake(TokioIo::new(io)).await.map_err(ConnectError::Http)?;
            Ok(Opened::Http2(sender, driver))
        }
    }
}

/// What both sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Http1,
    Http2,
}

/// The bare connection, with TLS where the address asks for it; the caller limits the time.
pub(super) async fn open_io(
    url: &UpstreamUrl,
    upstream: &Upstream,
    protocol: Protocol,
    tls: &TlsConfigs,
) -> Result<(UpstreamIo, Spoken), ConnectError> {
    let tcp = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(ConnectError::Refused)?;
    // Without it the second small write of a request waits for an acknowledgement.
    tcp.set_nodelay(true).map_err(ConnectError::Refused)?;
    match url.scheme {
        Scheme::Http => {
            let spoken = if protocol == Protocol::Http2 { Spoken::Http2 } else { Spoken::Http1 };
            Ok((UpstreamIo::Plain(tcp), spoken))
        }
        Scheme::Https => {
            let name = upstream.server_name.as_ref().unwrap_or(&url.host);
            let name = ServerName::try_from(name.clone()).map_err(|_| ConnectError::Name)?;
            let offer = match protocol {
                Protocol::Http1 => Offer::Http1,
                Protocol::Http2 => Offer::Http2,
                Protocol::Auto => Offer::Both,
            };
            let config = tls.config(upstream, offer).await?;
            let stream = TlsConnector::from(config).connect(name, tcp).await.map_err(ConnectError::Tls)?;
            let agreed = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let spoken = match (agreed, protocol) {
                (true, _) => Spoken::Http2,
                // It answered without a word on protocols: then it speaks HTTP/1.1.
                (false, Protocol::Http2) => return Err(ConnectError::NoHttp2),
                (false, Protocol::Http1 | Protocol::Auto) => Spoken::Http1,
            };
            Ok((UpstreamIo::Tls(Box::new(stream)), spoken))
        }
    }
}

/// Runs the parts of an HTTP/2 connection on the thread that it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// A connection for requests, and its place among all.
#[derive(Debug)]
pub struct Placed {
    io: UpstreamIo,
    _place: Place,
}

impl Placed {
    #[must_use]
    pub fn new(io: UpstreamIo, place: Place) -> Self {
        Self { io, _place: place }
    }

    /// Tells the other side of TLS that this is the end and no cut (RFC 8446 section 6.1), if it can be told at
    /// once. The end of TCP says so itself.
    pub fn say_end(&mut self) {
        if let UpstreamIo::Tls(io) = &mut self.io {
            let _ = Pin::new(io).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }
}

impl AsyncRead for Placed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

/// A connection to an app.
#[derive(Debug)]
pub enum UpstreamIo {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for UpstreamIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
