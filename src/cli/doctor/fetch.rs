//! One GET, straight to an address, as a program that nobody signed in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode, Version, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::proxy::upstream::h1;

/// For a connection, and for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
const MOST: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no connection: {0}")]
    Connect(std::io::Error),
    #[error("TLS failed: {0}")]
    Tls(std::io::Error),
    #[error("it took no HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("its answer cannot be taken: {0}")]
    Answer(#[from] h1::Error),
    #[error("the request cannot be written: {0}")]
    Request(#[from] http::Error),
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Late,
    #[error("the answer broke off")]
    Body,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    Http1,
    /// Without asking first, or as the TLS configuration offers it.
    Http2,
}

/// By HTTP/1.1, which everything in front of a gate speaks.
pub(super) async fn get(
    addr: SocketAddr,
    first: Option<&str>,
    tls: Option<(Arc<ClientConfig>, &str)>,
    host: &str,
    path: &str,
) -> Result<Answer, FetchError> {
    get_by(Spoken::Http1, addr, first, tls, host, path).await
}

/// `first`: what the connection begins with, before TLS. `tls`: the configuration and the name to verify.
pub(super) async fn get_by(
    spoken: Spoken,
    addr: SocketAddr,
    first: Option<&str>,
    tls: Option<(Arc<ClientConfig>, &str)>,
    host: &str,
    path: &str,
) -> Result<Answer, FetchError> {
    let request =
        Request::builder().header(header::USER_AGENT, "stepgate-doctor").header(header::ACCEPT, "application/json");
    let request = match spoken {
        Spoken::Http1 => request.uri(path).header(header::HOST, host).header(header::CONNECTION, "close"),
        Spoken::Http2 => {
            let scheme = if tls.is_some() { "https" } else { "http" };
            request.uri(format!("{scheme}://{host}{path}")).version(Version::HTTP_2)
        }
    };
    let request = request.body(Empty::<bytes::Bytes>::new())?;
    let work = async {
        let mut tcp = TcpStream::connect(addr).await.map_err(FetchError::Connect)?;
        if let Some(first) = first {
            tcp.write_all(first.as_bytes()).await.map_err(FetchError::Connect)?;
        }
        let Some((config, name)) = tls else { return ask(spoken, tcp, request).await };
        ask(spoken, secure(tcp, config, name).await?, request).await
    };
    tokio::time::timeout(PATIENCE, work).await.unwrap_or(Err(FetchError::Late))
}

/// The status of an app's answer, read by the gate's own client: what that cannot pass on is no answer.
pub(super) async fn status_of_app(
    addr: SocketAddr,
    tls: Option<(Arc<ClientConfig>, &str)>,
    host: &str,
    path: &str,
) -> Result<StatusCode, FetchError> {
    let request = Request::builder().uri(path).header(header::HOST, host).header(header::CONNECTION, "close");
    let request = request.header(header::USER_AGENT, "stepgate-doctor").header(header::ACCEPT, "application/json");
    let request = request.body(())?;
    let work = async {
        let tcp = TcpStream::connect(addr).await.map_err(FetchError::Connect)?;
        let Some((config, name)) = tls else { return Ok::<_, FetchError>(h1::probe(tcp, request).await?) };
        Ok(h1::probe(secure(tcp, config, name).await?, request).await?)
    };
    tokio::time::timeout(PATIENCE, work).await.unwrap_or(Err(FetchError::Late))
}

async fn secure(tcp: TcpStream, config: Arc<ClientConfig>, name: &str) -> Result<TlsStream<TcpStream>, FetchError> {
    let unusable = |e| FetchError::Tls(std::io::Error::new(std::io::ErrorKind::InvalidInput, e));
    let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned()).map_err(unusable)?;
    TlsConnector::from(config).connect(name, tcp).await.map_err(FetchError::Tls)
}

async fn ask<S>(spoken: Spoken, stream: S, request: Request<Empty<bytes::Bytes>>) -> Result<Answer, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    use hyper::client::conn::{http1, http2};
    let io = TokioIo::new(stream);
    let (answer, driver) = match spoken {
        Spoken::Http1 => {
            let (mut sender, driver) = http1::handshake(io).await?;
            let driver = tokio::spawn(driver);
            (sender.send_request(request).await?, driver)
        }
        Spoken::Http2 => {
            let (mut sender, driver) = http2::handshake(TokioExecutor::new(), io).await?;
            let driver = tokio::spawn(driver);
            (sender.send_request(request).await?, driver)
        }
    };
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, MOST).collect().await.map_err(|_| FetchError::Body)?.to_bytes().to_vec();
    driver.abort();
    Ok(Answer { status: parts.status, headers: parts.headers, body })
}
