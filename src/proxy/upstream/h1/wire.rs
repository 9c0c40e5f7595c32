//! What is known of the bytes of one connection?

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::proxy::upstream::connect::Placed;

/// Read at a time in the beginning: head and body of a common answer.
const FIRST_READ: usize = 8 * 1024;
/// Read at a time at most: large answers come in few reads, and a thousand slow readers hold it each.
const LARGEST_READ: usize = 128 * 1024;
/// Kept of what a request was written in.
const KEPT_OUTPUT: usize = 8 * 1024;

/// One connection, its buffers, and how far its present request has come.
#[derive(Debug)]
pub(super) struct Wire {
    io: Placed,
    /// Read, and not taken yet.
    pub(super) input: BytesMut,
    /// To be read at a time.
    room: usize,
    /// The last read was much smaller than that.
    was_small: bool,
    /// To be written: heads, small bodies, sizes of chunks.
    pub(super) output: Vec<u8>,
    /// How much of it is written.
    written: usize,
    /// Every byte that was ever written, so that two looks tell whether any was.
    pub(super) wrote: u64,
    /// The app does not take what is to be written.
    pub(super) is_stuck: bool,
    /// How long it may not, once it has answered.
    pub(super) upload_silence: Duration,
    /// A byte of this request was written.
    pub(super) touched: bool,
    /// Interim answers that came to it.
    pub(super) interim: usize,
    /// The request was written whole.
    pub(super) sent: bool,
    /// The answer ended as it said that it would.
    pub(super) answered: bool,
    /// Both sides would go on.
    pub(super) keeps: bool,
    /// The request's body broke off: what comes is no whole answer to it.
    pub(super) broken: bool,
    /// Nobody reads the answer any more, though it did not end.
    pub(super) abandoned: bool,
    /// Who waits for the answer, and who still sends, where those are two.
    pub(super) reader: Option<Waker>,
    pub(super) sender: Option<Waker>,
}

impl Wire {
    pub(super) fn new(io: Placed, upload_silence: Duration) -> Self {
        Self {
            io,
            input: BytesMut::new(),
            room: FIRST_READ,
            was_small: false,
            output: Vec::new(),
            written: 0,
            wrote: 0,
            is_stuck: false,
            upload_silence,
            touched: false,
            interim: 0,
            sent: true,
            answered: true,
            keeps: true,
            broken: false,
            abandoned: false,
            reader: None,
            sender: None,
        }
    }

    pub(super) fn begin(&mut self) {
        (self.touched, self.sent, self.answered, self.interim) = (false, false, false, 0);
    }

    pub(super) fn is_clean(&self) -> bool {
        self.sent && self.answered && self.keeps && !self.broken && self.input.is_empty()
    }

    pub(super) fn is_idle(&mut self) -> bool {
        if !self.is_clean() {
            return false;
        }
        let mut one = [0];
        let look = poll_fn(|cx| Pin::new(&mut self.io).poll_read(cx, &mut ReadBuf::new(&mut one)));
        // Nobody waits for it, and a task that has done much already must not take "ask later" for "idle".
        let look = pin!(tokio::task::unconstrained(look));
        look.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    pub(super) fn rest(&mut self) {
        if self.room > FIRST_READ {
            self.input = BytesMut::new();
        }
        if self.output.capacity() > KEPT_OUTPUT {
            self.output = Vec::new();
        }
        (self.reader, self.sender) = (None, None);
    }

    /// Reads once; 0 is the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(self.room);
        let room = self.input.capacity() - self.input.len();
        let got = ready!(pin!(self.io.read_buf(&mut self.input)).poll(cx))?;
        if got >= room {
            (self.room, self.was_small) = ((self.room * 2).min(LARGEST_READ), false);
        } else if got < self.room / 4 {
            // Twice in a row: the end of a large answer is small too.
            if std::mem::replace(&mut self.was_small, true) {
                (self.room, self.was_small) = ((self.room / 2).max(FIRST_READ), false);
            }
        } else {
            self.was_small = false;
        }
        Poll::Ready(Ok(got))
    }

    /// Writes what is to be written, then `piece`, and sees to it that it goes out.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, piece: &mut Bytes) -> Poll<io::Result<()>> {
        self.is_stuck = true;
        loop {
            let output = self.output.get(self.written..).unwrap_or_default();
            let io = Pin::new(&mut self.io);
            let wrote = match (output.is_empty(), piece.is_empty()) {
                (true, true) => break,
                (false, true) => ready!(io.poll_write(cx, output))?,
                (true, false) => ready!(io.poll_write(cx, piece))?,
                (false, false) => ready!(io.poll_write_vectored(cx, &[IoSlice::new(output), IoSlice::new(piece)]))?,
            };
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.touched = true;
            self.wrote = self.wrote.wrapping_add(wrote as u64);
            let of_output = wrote.min(output.len());
            self.written += of_output;
            piece.advance(wrote - of_output);
        }
        self.output.clear();
        self.written = 0;
        // TLS holds back what the socket did not take.
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.is_stuck = false;
        Poll::Ready(Ok(()))
    }

    pub(super) fn io(&mut self) -> Pin<&mut Placed> {
        Pin::new(&mut self.io)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // A request that broke off must look so.
        if self.sent {
            self.io.say_end();
        }
    }
}
