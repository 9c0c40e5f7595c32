//! How does a request go over an HTTP/1.1 connection to an app, and its answer come back?
//!
//! Nothing runs beside the request: it owns the connection while it is sent, the body of its answer
//! while that is read, and the pool in between. Only a body that is still on its way when its answer
//! begins goes on in a task of its own.
//!
//! We write the framing, one of three and from the body alone (S-FRAME-1). Of an answer as little is
//! taken for granted as of a request: what has no single reading ends the connection (S-FRAME-13), and
//! only one that is clean on both sides serves another request (S-FRAME-8).

mod answer;
mod decode;
mod exchange;
mod head;
mod probe;
mod raw;
mod upload;
mod wire;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

pub use answer::Answer;
pub use exchange::Unanswered;
use http::{Request, Response};
pub use probe::probe;
pub use raw::Raw;
use wire::Wire;

use super::connect::Placed;
use crate::proxy::body::RequestBody;

/// Largest head of an answer.
const MAX_HEAD: usize = 64 * 1024;
/// Largest trailers: they are thrown away, and nothing honest says more there than in a field.
const MAX_TRAILERS: usize = 16 * 1024;
/// Most fields of a head, and of trailers.
const MAX_FIELDS: usize = 100;
/// Most interim answers (1xx) to a request. A few hints are usual; each is work for the gate, and none of them
/// is an answer for its client.
const MAX_INTERIM: usize = 32;

/// Why there is no answer, or not the whole of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the app closed the connection in the middle of its answer")]
    Closed,
    #[error("the connection to the app broke")]
    Io(#[source] io::Error),
    #[error("the body of the request broke off")]
    Request,
    #[error("the head of the answer cannot be read")]
    Head(#[source] httparse::Error),
    #[error("the head of the answer has a status, name or value that is none")]
    Field(#[source] http::Error),
    #[error("the head of the answer is too large")]
    HeadTooLarge,
    #[error("the app sends one interim answer (1xx) after the other")]
    Interim,
    #[error("the answer's length has no single reading")]
    Length,
    #[error("the answer has a transfer coding other than chunked")]
    Coding,
    #[error("the answer's chunks cannot be read: {0}")]
    Chunks(&'static str),
}

impl Error {
    /// Whether it is HTTP/1.1 that came, and none that has one reading.
    #[must_use]
    pub fn is_nonsense(&self) -> bool {
        match self {
            Self::Closed | Self::Io(_) | Self::Request | Self::Head(_) => false,
            Self::Field(_) | Self::HeadTooLarge | Self::Interim | Self::Length | Self::Coding | Self::Chunks(_) => true,
        }
    }

    /// Whether the connection ended, as against an answer that made no sense.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof, WriteZero};
        match self {
            Self::Closed => true,
            Self::Io(error) => {
                matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof | WriteZero)
            }
            _ => false,
        }
    }
}

/// A connection, for one request at a time.
#[derive(Debug)]
pub struct Connection(Rc<RefCell<Wire>>);

impl Connection {
    /// `upload_silence`: see [`crate::domain::upstream::Upstream`].
    #[must_use]
    pub fn new(io: Placed, upload_silence: Duration) -> Self {
        Self(Rc::new(RefCell::new(Wire::new(io, upload_silence))))
    }

    /// Whether another request may go over it as far as this side knows: the last one was sent whole, its
    /// answer ended as it said, nothing surplus came, and neither side wants to close (S-FRAME-8).
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.0.borrow().is_clean()
    }

    /// Whether it still waits for a request. Whatever an app sends without being asked, the end included,
    /// is nobody's answer: the connection is not to be used.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.0.borrow_mut().is_idle()
    }

    /// Before it waits: what only a large answer needed goes.
    pub fn rest(&self) {
        self.0.borrow_mut().rest();
    }

    /// Sends a request, and waits for the head of its answer. Dropped before that, the connection is not
    /// clean any more.
    pub fn send(
        &self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Answer>, Unanswered>> + use<> {
        exchange::send(Rc::clone(&self.0), request)
    }

    #[cfg(test)]
    pub(super) async fn for_tests() -> (Self, tokio::net::TcpStream) {
        use super::connect::UpstreamIo;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gate = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let place = super::places::Places::new(9).take(&crate::domain::route::AppName::new("app")).unwrap();
        let connection = Self::new(Placed::new(UpstreamIo::Plain(gate), place), Duration::from_secs(30));
        (connection, listener.accept().await.unwrap().0)
    }

    /// The bytes behind a 101, which are no HTTP.
    #[must_use]
    pub fn raw(&self) -> Raw {
        Raw::new(Rc::clone(&self.0))
    }
}
