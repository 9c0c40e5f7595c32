//! How do the frames of an HTTP/2 connection come into few TLS records, and few writes?
//!
//! h2 writes and flushes the frames of each stream by themselves, however many streams have something
//! to say at the same time. They are held here until the connection was polled to its end, and then go
//! together; nothing waits for a timer.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One TLS record.
const MOST: usize = 16 * 1024;
/// As many slices as go into one write; h2 gives two.
const SLICES: usize = 8;

/// A stream in two hands: hyper writes to it, and whoever drives hyper sends what was written.
#[derive(Debug)]
pub(super) struct Together<T>(Rc<RefCell<Held<T>>>);

#[derive(Debug)]
struct Held<T> {
    io: T,
    /// Without memory while there is nothing to send: idle connections are many.
    bytes: Vec<u8>,
    /// So much of `bytes` was taken already.
    sent: usize,
    /// The client does not take what was sent last: from then on a flush is one, so that no more is
    /// asked of the apps than the client takes.
    is_blocked: bool,
}

impl<T> Clone for Together<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Together<T> {
    pub(super) fn new(io: T) -> Self {
        Self(Rc::new(RefCell::new(Held { io, bytes: Vec::new(), sent: 0, is_blocked: false })))
    }

    /// Sends what is held. To be asked after each poll of the connection.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let held = &mut *self.0.borrow_mut();
        if held.bytes.is_empty() && !held.is_blocked {
            return Poll::Ready(Ok(()));
        }
        held.poll_flush(cx)
    }
}

impl<T: AsyncWrite + Unpin> Held<T> {
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_blocked = true;
        ready!(self.poll_empty(cx))?;
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.is_blocked = false;
        Poll::Ready(Ok(()))
    }

    fn poll_empty(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.io).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                some => self.sent += some,
            }
        }
        (self.bytes, self.sent) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let all: usize = slices.iter().map(|slice| slice.len()).sum();
        if self.bytes.len() + all <= MOST {
            if self.bytes.is_empty() {
                self.bytes.reserve_exact(MOST);
            }
            slices.iter().for_each(|slice| self.bytes.extend_from_slice(slice));
            return Poll::Ready(Ok(all));
        }
        // More than is worth a copy: it goes behind what is held, in the same write.
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let mut both = [IoSlice::new(&[]); SLICES];
            let [first, others @ ..] = &mut both;
            *first = IoSlice::new(rest);
            others.iter_mut().zip(slices).for_each(|(other, slice)| *other = *slice);
            let taken = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &both))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            match taken.checked_sub(rest.len()) {
                None => self.sent += taken,
                Some(new) => {
                    (self.bytes, self.sent) = (Vec::new(), 0);
                    if new > 0 {
                        return Poll::Ready(Ok(new));
                    }
                }
            }
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Together<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Together<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, bufs)
    }

    /// h2 then gives the head of a frame and what it holds at once.
    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What is held goes when the connection was polled to its end.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let held = &mut *self.0.borrow_mut();
        if held.is_blocked { held.poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let held = &mut *self.0.borrow_mut();
        ready!(held.poll_empty(cx))?;
        Pin::new(&mut held.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn write(to: &mut Together<impl AsyncWrite + Unpin>, head: &[u8], data: &[u8]) -> usize {
        let slices = [IoSlice::new(head), IoSlice::new(data)];
        poll_fn(|cx| Pin::new(&mut *to).poll_write_vectored(cx, &slices)).await.unwrap()
    }

    #[tokio::test]
    async fn what_is_written_goes_together_and_in_order() {
        let (ours, mut client) = tokio::io::duplex(1 << 20);
        let mut both = Together::new(ours);
        let mut expected = Vec::new();
        // Small frames, large ones, and those at the edge of what is held.
        for (n, len) in (0_u8..).zip([0, 1, 1000, MOST - 1100, 98, MOST, MOST + 1, 5, 60_000, 1]) {
            let (head, data) = ([n; 9], vec![n; len]);
            let mut left: Vec<u8> = [&head[..], &data].concat();
            expected.extend_from_slice(&left);
            while !left.is_empty() {
                let (a, b) = left.split_at(left.len().min(9));
                let taken = write(&mut both, a, b).await;
                left.drain(..taken);
            }
            both.flush().await.unwrap();
        }
        poll_fn(|cx| both.poll_send(cx)).await.unwrap();
        assert_eq!(both.0.borrow().bytes.capacity(), 0, "an idle connection holds nothing");
        let mut got = vec![0; expected.len()];
        client.read_exact(&mut got).await.unwrap();
        assert!(got == expected);

        write(&mut both, b"bye", b"").await;
        both.shutdown().await.unwrap();
        got.clear();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"bye", "what is held goes before the end");
    }

    #[tokio::test]
    async fn s_lim_1_a_client_that_takes_nothing_is_not_written_for() {
        let (ours, mut client) = tokio::io::duplex(100);
        let mut both = Together::new(ours);
        write(&mut both, &[1; 150], b"").await;
        let is_pending = async |both: &mut Together<_>| {
            poll_fn(|cx| Poll::Ready(Pin::new(&mut *both).poll_flush(cx).is_pending())).await
        };
        assert!(!is_pending(&mut both).await, "it may take what is held");
        assert!(poll_fn(|cx| Poll::Ready(both.poll_send(cx).is_pending())).await);
        assert!(is_pending(&mut both).await, "h2 asks no stream for more");
        let mut got = [0; 150];
        client.read_exact(&mut got[..100]).await.unwrap();
        assert!(!is_pending(&mut both).await);
        client.read_exact(&mut got[100..]).await.unwrap();
        assert_eq!(got, [1; 150]);
    }
}
