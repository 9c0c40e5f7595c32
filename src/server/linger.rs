//! How does a connection end whose client may still be sending its body?
//!
//! A socket that is closed with unread bytes in it is reset, and the reset overtakes the answer:
//! somebody whose upload was refused would be told "connection reset" in place of what is wrong
//! (RFC 9112 section 9.6). So the gate says that it ends, and lets what still comes fall.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// Longest without a byte, and altogether.
const IDLE: Duration = Duration::from_secs(5);
const ALL: Duration = Duration::from_secs(30);

/// Reads and forgets until the client ends too, or time is up.
#[derive(Debug)]
pub struct Linger {
    idle: Duration,
    end: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Linger {
    pub fn new() -> Self {
        Self::within(IDLE, ALL)
    }

    fn within(idle: Duration, all: Duration) -> Self {
        let now = Instant::now();
        Self { idle, end: now + all, timer: Box::pin(sleep_until(now + idle)) }
    }

    /// Ready when the socket may be closed. Under TLS this reads records, which nobody opens.
    pub fn poll(&mut self, tcp: &mut TcpStream, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 16 * 1024];
        let mut came = false;
        loop {
            let mut sink = ReadBuf::new(&mut bytes);
            match Pin::new(&mut *tcp).poll_read(cx, &mut sink) {
                Poll::Ready(Ok(())) if !sink.filled().is_empty() => came = true,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        if came {
            self.timer.as_mut().reset((Instant::now() + self.idle).min(self.end));
        }
        ready!(self.timer.as_mut().poll(cx));
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_client_that_goes_ends_it_and_so_does_one_that_only_stays() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mut client, (mut gate, _)) =
            tokio::try_join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept()).unwrap();
        let mut linger = Linger::within(Duration::from_millis(20), ALL);
        poll_fn(|cx| linger.poll(&mut gate, cx)).await;

        client.write_all(&[0; 100_000]).await.unwrap();
        client.shutdown().await.unwrap();
        let mut linger = Linger::new();
        poll_fn(|cx| linger.poll(&mut gate, cx)).await;
        assert_eq!(tokio::io::AsyncReadExt::read(&mut gate, &mut [0; 1]).await.unwrap(), 0, "everything was read");
    }
}
