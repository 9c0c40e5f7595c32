//! What flows through an open WebSocket, and how does it end in a way that its page understands?
//!
//! The gate relays bytes and reads only frame boundaries of what goes to the client, so that a
//! close frame of its own can stand between two frames and never inside one.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;

use super::body::Finish;
use super::live::{LiveGuard, TunnelSlot};
use super::upstream::h1::Raw;
use super::upstream::pool::Lease;
use crate::telemetry::metrics::AppMetrics;

const BUFFER: usize = 8 * 1024;
/// The client's side is switched by hyper right after the 101; if it is not by then it never will be.
const SWITCH: Duration = Duration::from_secs(10);
/// For the last frame and the closing of both sides.
const FAREWELL: Duration = Duration::from_millis(500);

/// RFC 6455 section 7.4.1.
const GOING_AWAY: u16 = 1001;
const POLICY_VIOLATION: u16 = 1008;

/// An agreed tunnel: everything that lives as long as it does.
pub struct Tunnel {
    pub client: OnUpgrade,
    pub upstream: Raw,
    pub lease: Lease,
    pub live: LiveGuard,
    pub slot: TunnelSlot,
    pub idle: Duration,
    pub finish: Option<Finish>,
    pub metrics: Arc<AppMetrics>,
}

/// Counted while it lives, however it ends.
struct Counted(Arc<AppMetrics>);

impl Counted {
    fn new(metrics: Arc<AppMetrics>) -> Self {
        metrics.tunnels_open.fetch_add(1, Ordering::Relaxed);
        Self(metrics)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.tunnels_open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a tunnel ended.
enum End {
    /// Both sides closed, or one broke.
    Closed,
    Idle,
    /// The session ended, a reload would refuse it now, or the gate stops.
    Cut,
}

impl Tunnel {
    /// Relays until one of the ends. The traffic is no activity of the session (S-SESS-4).
    pub async fn run(self) {
        let Self { client, upstream, lease, live, slot, idle, mut finish, metrics } = self;
        let counted = Counted::new(metrics);
        let Ok(Ok(client)) = tokio::time::timeout(SWITCH, client).await else { return };
        let mut relay = Relay::new(client, upstream);
        let end = tokio::select! {
            // Asked first: a busy tunnel must end as surely as a silent one.
            biased;
            () = live.cut().cancelled() => End::Cut,
            end = relay.run(idle) => end,
        };
        let code = match end {
            End::Closed => None,
            End::Idle => Some(GOING_AWAY),
            End::Cut if live.going_away() => Some(GOING_AWAY),
            End::Cut => Some(POLICY_VIOLATION),
        };
        if let Some(code) = code {
            // A client that does not read is closed all the same.
            let _ = tokio::time::timeout(FAREWELL, relay.say_goodbye(code)).await;
        }
        if let Some(finish) = &mut finish {
            finish.tunnelled(relay.up.moved, relay.down.moved);
        }
        drop((slot, lease, counted));
    }
}

struct Relay {
    client: TokioIo<Upgraded>,
    upstream: Raw,
    up: Pipe,
    down: Pipe,
    /// Frames of what was written to the client.
    frames: Frames,
}

impl Relay {
    fn new(client: Upgraded, upstream: Raw) -> Self {
        Self {
            client: TokioIo::new(client),
            upstream,
            up: Pipe::default(),
            down: Pipe::default(),
            frames: Frames::default(),
        }
    }

    async fn run(&mut self, idle: Duration) -> End {
        let mut timer = pin!(tokio::time::sleep(idle));
        let mut last = Instant::now();
        poll_fn(|cx| {
            let before = self.up.moved + self.down.moved;
            let up = self.up.poll(cx, &mut self.client, &mut self.upstream, None);
            let down = self.down.poll(cx, &mut self.upstream, &mut self.client, Some(&mut self.frames));
            match (up, down) {
                (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(End::Closed),
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Closed),
                (Poll::Ready(Ok(())) | Poll::Pending, Poll::Pending) | (Poll::Pending, Poll::Ready(Ok(()))) => {}
            }
            if self.up.moved + self.down.moved != before {
                last = Instant::now();
            }
            while timer.as_mut().poll(cx).is_ready() {
                let due = last + idle;
                if due <= Instant::now() {
                    return Poll::Ready(End::Idle);
                }
                timer.as_mut().reset(due);
            }
            Poll::Pending
        })
        .await
    }

    /// Finishes the frame that the client is in the middle of, if it is at hand, and closes.
    async fn say_goodbye(&mut self, code: u16) -> io::Result<()> {
        let rest = self.down.pending();
        if let Some(until) = self.frames.until_boundary(rest) {
            let mut last: Vec<u8> = rest.get(..until).unwrap_or_default().to_vec();
            // FIN and opcode 8, unmasked as everything from a server, two bytes of payload.
            last.extend_from_slice(&[0x88, 2]);
            last.extend_from_slice(&code.to_be_bytes());
            self.client.write_all(&last).await?;
        }
        self.client.shutdown().await?;
        self.upstream.shutdown().await
    }
}

/// One direction.
#[derive(Default)]
struct Pipe {
    /// Taken when the first byte is due: a silent tunnel holds no buffer for a direction that it
    /// never used.
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    ended: bool,
    unflushed: bool,
    moved: u64,
}

impl Pipe {
    fn pending(&self) -> &[u8] {
        self.buffer.get(self.from..self.to).unwrap_or_default()
    }

    /// Ready when `reader` ended and `writer` was told so.
    fn poll<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        mut frames: Option<&mut Frames>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.from == self.to {
                if self.ended {
                    return Pin::new(writer).poll_shutdown(cx);
                }
                if self.fill(cx, reader)?.is_pending() {
                    if self.unflushed {
                        ready!(Pin::new(&mut *writer).poll_flush(cx))?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
                continue;
            }
            let pending = self.buffer.get(self.from..self.to).unwrap_or_default();
            let written = ready!(Pin::new(&mut *writer).poll_write(cx, pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if let Some(frames) = frames.as_deref_mut() {
                frames.feed(pending.get(..written).unwrap_or_default());
            }
            self.from += written;
            self.moved += written as u64;
            self.unflushed = true;
        }
    }

    fn fill<R: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, reader: &mut R) -> io::Result<Poll<()>> {
        if self.buffer.is_empty() {
            self.buffer.resize(BUFFER, 0);
        }
        let mut buf = ReadBuf::new(&mut self.buffer);
        match Pin::new(reader).poll_read(cx, &mut buf) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) => {
                (self.from, self.to) = (0, buf.filled().len());
                self.ended = self.to == 0;
                Ok(Poll::Ready(()))
            }
        }
    }
}

/// Where frames begin and end in a stream of them (RFC 6455 section 5.2).
#[derive(Clone, Debug, Default)]
struct Frames {
    /// The bytes of a frame's head so far: at most 14.
    head: Vec<u8>,
    payload_left: u64,
}

impl Frames {
    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let used = self.step(bytes);
            bytes = bytes.get(used..).unwrap_or_default();
        }
    }

    fn at_boundary(&self) -> bool {
        self.head.is_empty() && self.payload_left == 0
    }

    /// How many of `rest` end the frame that is under way; `None` when it ends beyond them.
    fn until_boundary(&self, rest: &[u8]) -> Option<usize> {
        let mut ahead = self.clone();
        let mut used = 0;
        while !ahead.at_boundary() {
            let left = rest.get(used..).filter(|left| !left.is_empty())?;
            used += ahead.step(left);
        }
        Some(used)
    }

    /// Takes at least one byte of a non-empty input, and none beyond the frame's end.
    fn step(&mut self, bytes: &[u8]) -> usize {
        if self.payload_left > 0 {
            let used = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(bytes.len());
            self.payload_left -= used as u64;
            return used;
        }
        self.head.extend(bytes.first());
        let length = self.head.get(1).copied().unwrap_or(0);
        let extended = match length & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if length & 0x80 == 0 { 0 } else { 4 };
        if self.head.len() >= 2 && self.head.len() == 2 + extended + mask {
            let more = self.head.get(2..2 + extended).unwrap_or_default();
            self.payload_left = match extended {
                0 => u64::from(length & 0x7f),
                _ => more.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)),
            };
            self.head.clear();
        }
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: usize) -> Vec<u8> {
        let mut out = vec![0x82];
        match payload {
            0..=125 => out.push(payload as u8),
            126..=65535 => {
                out.push(126);
                out.extend_from_slice(&(payload as u16).to_be_bytes());
            }
            _ => {
                out.push(127);
                out.extend_from_slice(&(payload as u64).to_be_bytes());
            }
        }
        out.resize(out.len() + payload, b'x');
        out
    }

    #[test]
    fn a_boundary_is_found_wherever_the_stream_is_cut() {
        for sizes in [vec![0, 5, 125], vec![126, 0, 70_000], vec![65_535, 65_536, 1]] {
            let stream: Vec<u8> = sizes.iter().flat_map(|n| frame(*n)).collect();
            let ends: Vec<usize> = sizes
                .iter()
                .scan(0, |sum, n| {
                    *sum += frame(*n).len();
                    Some(*sum)
                })
                .collect();
            for cut in [0, 1, 2, 3, 9, 100, 127, stream.len() - 1, stream.len()] {
                let mut frames = Frames::default();
                frames.feed(&stream[..cut]);
                let next = if cut == 0 { 0 } else { *ends.iter().find(|end| **end >= cut).unwrap() };
                assert_eq!(frames.until_boundary(&stream[cut..]), Some(next - cut), "{sizes:?} cut at {cut}");
                assert_eq!(frames.at_boundary(), next == cut);
            }
        }
    }

    #[test]
    fn a_frame_that_ends_beyond_what_is_at_hand_is_not_finished() {
        let mut frames = Frames::default();
        frames.feed(&frame(100)[..50]);
        assert_eq!(frames.until_boundary(&[b'x'; 10]), None);
    }
}
