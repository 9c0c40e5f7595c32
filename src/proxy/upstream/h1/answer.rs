//! The body of an answer, as it comes.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::SizeHint;

use super::Error;
use super::decode::{Decoder, Step};
use super::wire::Wire;

/// Dropped before its end, its connection serves no other request.
#[derive(Debug)]
pub struct Answer {
    wire: Rc<RefCell<Wire>>,
    decoder: Decoder,
}

impl Answer {
    pub(super) fn new(wire: Rc<RefCell<Wire>>, decoder: Decoder) -> Self {
        Self { wire, decoder }
    }

    /// The next piece: of what was read before, or of one read.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let wire = &mut *self.wire.borrow_mut();
        loop {
            match self.decoder.next(&mut wire.input) {
                Ok(Step::Data(data)) => {
                    wire.answered |= self.decoder.is_done();
                    return Poll::Ready(Some(Ok(data)));
                }
                Ok(Step::End) => {
                    wire.answered = true;
                    return Poll::Ready(None);
                }
                Ok(Step::More) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            if wire.broken {
                return Poll::Ready(Some(Err(Error::Request)));
            }
            let Poll::Ready(got) = wire.poll_fill(cx) else {
                if !wire.sent {
                    wire.reader = Some(cx.waker().clone());
                }
                return Poll::Pending;
            };
            match got {
                Ok(1..) => {}
                Ok(0) => match self.decoder.closed() {
                    Ok(()) => {}
                    Err(error) => return Poll::Ready(Some(Err(error))),
                },
                Err(error) => return Poll::Ready(Some(Err(Error::Io(error)))),
            }
        }
    }

    /// Whether it has ended for sure.
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.decoder.is_done()
    }

    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        self.decoder.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let wire = &mut *self.wire.borrow_mut();
        wire.abandoned = !wire.answered;
        if let Some(sender) = wire.sender.take() {
            sender.wake();
        }
    }
}
