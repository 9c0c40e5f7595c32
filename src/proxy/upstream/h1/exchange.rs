//! One request, from its first byte to the head of its answer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::{Request, Response, StatusCode, Version, request};

use super::answer::Answer;
use super::head::{self, Head};
use super::upload::{self, Failed, Upload};
use super::wire::Wire;
use super::{Error, MAX_HEAD};
use crate::proxy::body::RequestBody;

/// A request that was not answered.
#[derive(Debug)]
pub struct Unanswered {
    pub error: Error,
    /// The request, where it had no body and so is still whole when the connection ended.
    pub request: Option<Box<Request<RequestBody>>>,
    /// A byte of it may have reached the app (S-FRAME-9).
    pub touched: bool,
}

/// Sends a request, and waits for the head of its answer.
pub(super) async fn send(
    wire: Rc<RefCell<Wire>>,
    request: Request<RequestBody>,
) -> Result<Response<Answer>, Unanswered> {
    let (mut request, body) = request.into_parts();
    let is_bodyless = matches!(body, RequestBody::Empty);
    let mut upload = Some(Upload::new(body));
    {
        let wire = &mut *wire.borrow_mut();
        wire.begin();
        let framing = upload.as_ref().map_or(head::Framing::None, Upload::framing);
        wire.keeps &= head::write(&mut wire.output, &request, framing);
    }
    let mut refused = None;
    let got = poll_fn(|cx| poll(&mut wire.borrow_mut(), &mut upload, &mut refused, &mut request, cx)).await;
    let head = match got {
        Ok(head) => head,
        Err(error) => {
            let touched = wire.borrow().touched;
            // An answer that made no sense may have taken the place of its fields.
            let is_whole = is_bodyless && error.is_closed();
            let request = is_whole.then(|| Box::new(Request::from_parts(request, RequestBody::Empty)));
            return Err(Unanswered { error, request, touched });
        }
    };
    let mut response = Response::new(());
    (*response.status_mut(), *response.headers_mut()) = (head.status, request.headers);
    *response.version_mut() = Version::HTTP_11;
    if let Some(reason) = head.reason {
        response.extensions_mut().insert(reason);
    }
    {
        let wire = &mut *wire.borrow_mut();
        wire.keeps &= head.keeps && refused.is_none();
        // Of what comes behind a 101 nothing is an answer.
        wire.answered = head.body.is_done() && head.status != StatusCode::SWITCHING_PROTOCOLS;
    }
    if let Some(upload) = upload {
        upload::go_on(Rc::clone(&wire), upload);
    }
    Ok(response.map(|()| Answer::new(wire, head.body)))
}

/// The request goes out and the answer comes in side by side: an app may answer before it has read all.
fn poll(
    wire: &mut Wire,
    upload: &mut Option<Upload>,
    refused: &mut Option<io::Error>,
    request: &mut request::Parts,
    cx: &mut Context<'_>,
) -> Poll<Result<Head, Error>> {
    if let Some(sending) = upload {
        match sending.poll(wire, cx) {
            Poll::Ready(Ok(())) => *upload = None,
            Poll::Ready(Err(Failed::Body)) => return Poll::Ready(Err(Error::Request)),
            // What it said before it stopped reading is still to be read.
            Poll::Ready(Err(Failed::Io(error))) => (*upload, *refused) = (None, Some(error)),
            Poll::Pending => {}
        }
    }
    loop {
        let before = wire.input.len();
        let end = match wire.poll_fill(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(1..)) => None,
            Poll::Ready(Ok(0)) => Some(Error::Closed),
            Poll::Ready(Err(error)) => Some(Error::Io(error)),
        };
        if let Some(end) = end {
            return Poll::Ready(Err(refused.take().map_or(end, Error::Io)));
        }
        // Only the end of a line can be the end of a head; that it is none may be seen at once.
        let fresh = wire.input.get(before..).unwrap_or_default();
        if before == 0 || fresh.contains(&b'\n') || wire.input.len() >= MAX_HEAD {
            match head::read(&mut wire.input, &request.method, &mut request.headers, &mut wire.interim) {
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}
