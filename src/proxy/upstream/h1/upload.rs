//! How does a request's body go out? Small pieces are gathered behind the head into one write, large ones
//! go as they are; the next is asked for only when the last was taken (no buffer grows with a body).

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use tokio::time::{Instant, Sleep};

use super::head::Framing;
use super::wire::Wire;
use crate::proxy::body::RequestBody;

/// A piece this small is copied: that costs less than a write of its own.
const COPIED: usize = 8 * 1024;
/// So much is gathered before it is written.
const GATHERED: usize = 16 * 1024;

/// The rest of a request that is still to be sent.
#[derive(Debug)]
pub(super) struct Upload {
    body: RequestBody,
    framing: Framing,
    /// Of the length that was said.
    left: u64,
    /// What is written without being copied.
    piece: Bytes,
    /// The line end behind it is still to come.
    owes_line_end: bool,
    /// All of it stands in the wire's output.
    ended: bool,
}

#[derive(Debug)]
pub(super) enum Failed {
    /// The body broke off: the app must not take what it has for the whole (S-FRAME-4).
    Body,
    Io(io::Error),
}

impl Upload {
    pub(super) fn new(body: RequestBody) -> Self {
        let framing = match (&body, body.size_hint().exact()) {
            (RequestBody::Empty, _) => Framing::None,
            (RequestBody::Full(_) | RequestBody::Client(_), Some(length)) => Framing::Length(length),
            (RequestBody::Full(_) | RequestBody::Client(_), None) => Framing::Chunked,
        };
        let left = if let Framing::Length(length) = framing { length } else { 0 };
        let ended = matches!(framing, Framing::None | Framing::Length(0));
        Self { body, framing, left, piece: Bytes::new(), owes_line_end: false, ended }
    }

    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    /// Ready when the request was written whole.
    pub(super) fn poll(&mut self, wire: &mut Wire, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        loop {
            let waits = self.gather(wire, cx)?;
            match wire.poll_write(cx, &mut self.piece) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Failed::Io(error))),
                Poll::Pending => return Poll::Pending,
            }
            if self.ended {
                wire.sent = true;
                return Poll::Ready(Ok(()));
            }
            if waits {
                return Poll::Pending;
            }
        }
    }

    /// Takes what the body has ready; true when it has nothing more for now.
    fn gather(&mut self, wire: &mut Wire, cx: &mut Context<'_>) -> Result<bool, Failed> {
        while !self.ended && self.piece.is_empty() && wire.output.len() < GATHERED {
            if std::mem::take(&mut self.owes_line_end) {
                wire.output.extend_from_slice(b"\r\n");
            }
            if self.framing == Framing::Chunked && self.body.is_end_stream() {
                self.end(wire)?;
                break;
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                // Trailers of clients are dropped (S-FRAME-5).
                Poll::Ready(Some(Ok(frame))) => self.add(frame.into_data().unwrap_or_default(), wire)?,
                Poll::Ready(Some(Err(_))) => return Err(Failed::Body),
                Poll::Ready(None) => self.end(wire)?,
                Poll::Pending => return Ok(true),
            }
        }
        Ok(false)
    }

    fn add(&mut self, data: Bytes, wire: &mut Wire) -> Result<(), Failed> {
        if data.is_empty() {
            // As a chunk it would be the end.
            return Ok(());
        }
        let chunked = self.framing == Framing::Chunked;
        if chunked {
            write!(wire.output, "{:x}\r\n", data.len()).map_err(Failed::Io)?;
        } else {
            // More than was said would be the next request.
            self.left = self.left.checked_sub(data.len() as u64).ok_or(Failed::Body)?;
            self.ended = self.left == 0;
        }
        if data.len() > COPIED {
            (self.piece, self.owes_line_end) = (data, chunked);
            return Ok(());
        }
        wire.output.extend_from_slice(&data);
        if chunked {
            wire.output.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    fn end(&mut self, wire: &mut Wire) -> Result<(), Failed> {
        match self.framing {
            Framing::Chunked => wire.output.extend_from_slice(b"0\r\n\r\n"),
            // Less than was said.
            Framing::Length(_) if self.left > 0 => return Err(Failed::Body),
            Framing::Length(_) | Framing::None => {}
        }
        self.ended = true;
        Ok(())
    }
}

/// Sends the rest while somebody else reads the answer: a client that reads nothing before it has sent
/// everything must not wait for itself. Ends with the answer's reader, or with the app, if that comes first.
///
/// Once the answer has come to its end, nobody waits for the two any more, and that the client is gone stands
/// behind bytes that are read only when the app takes those before them. So the app has a limit then, as the
/// client always has (its body says when that is too slow).
pub(super) fn go_on(wire: Rc<RefCell<Wire>>, mut upload: Upload) {
    let mut stuck = Stuck::new(wire.borrow().upload_silence);
    tokio::task::spawn_local(poll_fn(move |cx| {
        let wire = &mut *wire.borrow_mut();
        if wire.abandoned {
            return Poll::Ready(());
        }
        match upload.poll(wire, cx) {
            Poll::Ready(Err(Failed::Body)) => {
                wire.broken = true;
                if let Some(reader) = wire.reader.take() {
                    reader.wake();
                }
                Poll::Ready(())
            }
            // The app may have said all it wants to say before it stopped reading.
            Poll::Ready(Ok(()) | Err(Failed::Io(_))) => Poll::Ready(()),
            // Nobody else would see that the app is gone.
            Poll::Pending if wire.answered && wire.poll_fill(cx).is_ready() => Poll::Ready(()),
            Poll::Pending if wire.answered && stuck.poll_too_long(wire, cx).is_ready() => Poll::Ready(()),
            Poll::Pending => {
                wire.sender = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }));
}

/// How long an app has taken nothing.
#[derive(Debug)]
struct Stuck {
    limit: Duration,
    /// What was written by then.
    wrote: u64,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stuck {
    fn new(limit: Duration) -> Self {
        Self { limit, wrote: 0, timer: None }
    }

    fn poll_too_long(&mut self, wire: &Wire, cx: &mut Context<'_>) -> Poll<()> {
        if !wire.is_stuck {
            // It waits for the client.
            self.timer = None;
            return Poll::Pending;
        }
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if self.wrote != wire.wrote {
            self.wrote = wire.wrote;
            timer.as_mut().reset(Instant::now() + limit);
        }
        timer.as_mut().poll(cx)
    }
}
