//! How is a connection to an app opened? To an address of the configuration and nowhere else
//! (S-UP-1); nothing of a request has a say in it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tls::{TlsConfigs, TlsSetupError};
use crate::domain::host::Scheme;
use crate::domain::upstream::{Upstream, UpstreamUrl};
use crate::proxy::body::RequestBody;

/// Largest response head.
const MAX_HEAD: usize = 64 * 1024;
/// Largest buffer of one connection in each direction; hyper's own default is 400 KiB, and a
/// thousand slow readers would hold it a thousand times.
const MAX_BUFFER: usize = 128 * 1024;
/// Small bodies are copied behind the head into one write: -3 % at 1 KiB, +1 to +4 % at 100 KiB.
const WRITE_VECTORED: bool = false;

/// Why there is no connection. Addresses are for the log alone (S-UP-7).
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
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
    #[error("the connection to the upstream could not be started")]
    Http(#[source] hyper::Error),
}

pub type Sender = http1::SendRequest<RequestBody>;
pub type Driver = http1::Connection<TokioIo<UpstreamIo>, RequestBody>;

/// Opens a connection within the upstream's connect limit, TLS included. The caller runs the driver.
pub async fn open(url: &UpstreamUrl, upstream: &Upstream, tls: &TlsConfigs) -> Result<(Sender, Driver), ConnectError> {
    let io = tokio::time::timeout(upstream.connect_timeout, open_io(url, upstream, tls))
        .await
        .map_err(|_| ConnectError::TimedOut)??;
    http1::Builder::new()
        .writev(WRITE_VECTORED)
        .max_buf_size(MAX_BUFFER)
        .max_header_size(MAX_HEAD)
        .handshake(TokioIo::new(io))
        .await
        .map_err(ConnectError::Http)
}

/// The bare connection, with TLS where the address asks for it; the caller limits the time.
pub(super) async fn open_io(
    url: &UpstreamUrl,
    upstream: &Upstream,
    tls: &TlsConfigs,
) -> Result<UpstreamIo, ConnectError> {
    let tcp = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(ConnectError::Refused)?;
    // Without it the second small write of a request waits for an acknowledgement.
    tcp.set_nodelay(true).map_err(ConnectError::Refused)?;
    match url.scheme {
        Scheme::Http => Ok(UpstreamIo::Plain(tcp)),
        Scheme::Https => {
            let name = upstream.server_name.as_ref().unwrap_or(&url.host);
            let name = ServerName::try_from(name.clone()).map_err(|_| ConnectError::Name)?;
            let config = tls.config(upstream).await?;
            let stream = TlsConnector::from(config).connect(name, tcp).await.map_err(ConnectError::Tls)?;
            Ok(UpstreamIo::Tls(Box::new(stream)))
        }
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
