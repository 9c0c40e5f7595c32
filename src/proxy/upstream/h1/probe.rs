//! Would an answer be taken? For who asks an address itself, on a connection of its own and any runtime.

use bytes::BytesMut;
use http::{Request, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Error;
use super::head::{self, Framing};

/// Sends a request without a body, and reads the head of its answer as that of any request is read: what no request
/// could pass on is no answer here either.
pub async fn probe(mut io: impl AsyncRead + AsyncWrite + Unpin, request: Request<()>) -> Result<StatusCode, Error> {
    let (mut request, ()) = request.into_parts();
    let mut output = Vec::new();
    head::write(&mut output, &request, Framing::None);
    io.write_all(&output).await.map_err(Error::Io)?;
    io.flush().await.map_err(Error::Io)?;
    let (mut input, mut interim) = (BytesMut::new(), 0);
    loop {
        if io.read_buf(&mut input).await.map_err(Error::Io)? == 0 {
            return Err(Error::Closed);
        }
        if let Some(head) = head::read(&mut input, &request.method, &mut request.headers, &mut interim)? {
            return Ok(head.status);
        }
    }
}
