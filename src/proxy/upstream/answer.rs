//! What comes back from an app, whichever protocol it speaks?

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;

use super::h1;
use crate::proxy::body::RequestBody;

/// Why no answer came, or not the whole of it.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    #[error(transparent)]
    Http1(#[from] h1::Error),
    #[error(transparent)]
    Http2(#[from] hyper::Error),
}

impl AnswerError {
    /// What the other side of an HTTP/2 connection, or our own, said of it.
    #[must_use]
    pub fn h2(&self) -> Option<&h2::Error> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(error) => std::error::Error::source(error).and_then(|s| s.downcast_ref()),
        }
    }

    /// Whether the app said that the request reached nothing: it refused the stream, or is going away
    /// and names an earlier one as its last (RFC 9113 section 8.7).
    #[must_use]
    pub fn is_unprocessed(&self) -> bool {
        self.h2().is_some_and(|e| {
            e.is_remote() && (e.is_go_away() || (e.is_reset() && e.reason() == Some(h2::Reason::REFUSED_STREAM)))
        })
    }

    /// Whether the connection ended, as against an answer that made no sense.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        let error = match self {
            Self::Http1(error) => return error.is_closed(),
            Self::Http2(error) => error,
        };
        if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            return true;
        }
        let cause = std::error::Error::source(error).and_then(|s| s.downcast_ref::<std::io::Error>());
        cause.is_some_and(|io| {
            use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
            matches!(io.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
        })
    }
}

/// A request that was not answered.
#[derive(Debug)]
pub struct Unanswered {
    pub error: AnswerError,
    /// The request, where it is still whole.
    pub request: Option<Box<Request<RequestBody>>>,
    /// A byte of it may have reached the app.
    pub touched: bool,
}

impl From<h1::Unanswered> for Unanswered {
    fn from(failed: h1::Unanswered) -> Self {
        let h1::Unanswered { error, request, touched } = failed;
        Self { error: error.into(), request, touched }
    }
}

impl From<TrySendError<Request<RequestBody>>> for Unanswered {
    fn from(mut failed: TrySendError<Request<RequestBody>>) -> Self {
        let request = failed.take_message().map(Box::new);
        Self { touched: request.is_none(), request, error: failed.into_error().into() }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub enum AnswerBody {
    Http1(h1::Answer),
    Http2(Incoming),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        Poll::Ready(match self.get_mut() {
            Self::Http1(answer) => ready!(answer.poll_data(cx)).map(|data| Ok(Frame::data(data?))),
            Self::Http2(incoming) => ready!(Pin::new(incoming).poll_frame(cx)).map(|frame| Ok(frame?)),
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(answer) => answer.is_end(),
            Self::Http2(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(answer) => answer.size_hint(),
            Self::Http2(incoming) => incoming.size_hint(),
        }
    }
}
