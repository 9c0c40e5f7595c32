//! The body of a request: how fast its client must send it, how much, and how far it has come.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::BodyError;
use crate::base::budget::Share;

/// Longest silence of a client in the middle of its request body.
const CLIENT_IDLE: Duration = Duration::from_secs(30);
/// Time of waiting for the client over which its rate is judged.
const RATE_WINDOW: Duration = Duration::from_secs(30);
/// Least bytes in one [`RATE_WINDOW`]: 500 a second.
const LEAST_BYTES: u64 = 500 * 30;

/// How far a request body has come; shared by the body (which its connection owns) and whoever waits for
/// the answer to it.
#[derive(Debug)]
pub struct Progress {
    /// When the last piece went to the upstream, or the request began.
    last: Cell<Instant>,
    fault: Cell<Option<ClientFault>>,
    pub(super) bytes: Cell<u64>,
    /// The client owes nothing more of its body.
    whole: Cell<bool>,
    /// An app may have seen some of it.
    handed_over: Cell<bool>,
    /// All that came of it is taken, and more was asked for.
    awaits_client: Cell<bool>,
}

/// What a client did wrong in its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFault {
    TooLarge,
    Stalled,
    Broken,
    /// Not wrong, but over: the session behind the upload ended.
    SessionEnded,
}

impl Progress {
    #[must_use]
    pub fn start() -> Rc<Self> {
        Rc::new(Self {
            last: Cell::new(Instant::now()),
            fault: Cell::new(None),
            bytes: Cell::new(0),
            whole: Cell::new(true),
            handed_over: Cell::new(false),
            awaits_client: Cell::new(false),
        })
    }

    /// Whether the whole body of the request, if it has one, came from the client.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole.get()
    }

    /// From here on an app may see some of it.
    pub fn hand_over(&self) {
        self.handed_over.set(true);
    }

    #[must_use]
    pub fn was_handed_over(&self) -> bool {
        self.handed_over.get()
    }

    #[must_use]
    pub fn last(&self) -> Instant {
        self.last.get()
    }

    #[must_use]
    pub fn fault(&self) -> Option<ClientFault> {
        self.fault.get()
    }

    /// Since when a piece of it waits for the app; `None` when nothing does.
    pub(super) fn waits_for_app(&self) -> Option<Instant> {
        (!self.is_whole() && !self.awaits_client.get()).then(|| self.last())
    }

    fn goes_on(&self) {
        self.last.set(Instant::now());
        self.awaits_client.set(false);
    }

    fn count(&self, bytes: usize) {
        self.goes_on();
        self.bytes.set(self.bytes.get() + bytes as u64);
    }
}

/// A request body on its way to the app. Trailers of clients are dropped (S-FRAME-5).
#[derive(Debug)]
pub enum RequestBody {
    Empty,
    /// Read whole before, to be judged.
    Full(Option<Bytes>),
    Client(Box<ClientBody>),
}

#[derive(Debug)]
pub struct ClientBody {
    /// What was read before, to be judged.
    prefix: Option<Bytes>,
    incoming: Incoming,
    /// It has said that nothing more comes.
    ended_itself: bool,
    /// What holds the place of what was read.
    room: Option<Arc<Share>>,
    left: u64,
    progress: Rc<Progress>,
    pace: Pace,
    ended: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl ClientBody {
    #[must_use]
    pub fn new(incoming: Incoming, max: u64, progress: Rc<Progress>) -> Box<Self> {
        progress.whole.set(false);
        Box::new(Self {
            prefix: None,
            incoming,
            ended_itself: false,
            room: None,
            left: max,
            progress,
            pace: Pace::default(),
            ended: None,
        })
    }

    /// Breaks off when the session behind it ends: nobody goes on writing after a sign-out (S-WS-2).
    pub fn end_with(&mut self, session: CancellationToken) {
        self.ended = Some(Box::pin(session.cancelled_owned()));
    }

    /// A call whose messages come when they come: silence of this length ends it, and no rate is
    /// asked of it.
    #[must_use]
    pub fn may_be_silent(mut self: Box<Self>, longest: Duration) -> Box<Self> {
        self.pace.silence = Some(longest);
        self
    }

    /// Its length, where the client said it.
    #[must_use]
    pub fn declared(&self) -> Option<u64> {
        self.incoming.size_hint().exact().map(|rest| self.read_before() + rest)
    }

    /// Whether it is known to be more than this.
    #[must_use]
    pub fn is_longer_than(&self, limit: usize) -> bool {
        self.read_before() + self.incoming.size_hint().lower() > limit as u64
    }

    fn read_before(&self) -> u64 {
        self.prefix.as_ref().map_or(0, |bytes| bytes.len() as u64)
    }

    /// Reads until the end, until it holds more than `limit`, or until there is no `room`, and leaves all of it where
    /// it is: it goes on as it came, with its length or without one. Beside it comes what it is; the room is held until
    /// nobody has it any more, and taken for what has come: who only announces a body takes nothing from others.
    pub async fn look(mut self: Box<Self>, limit: usize, mut room: Share) -> Result<(Box<Self>, Looked), ClientFault> {
        let mut all = BytesMut::new();
        let mut only = Bytes::new();
        let mut no_room = false;
        let whole = loop {
            match poll_fn(|cx| self.poll(cx)).await {
                // The common form comes in one piece, and is not copied.
                Some(Ok(frame)) if all.is_empty() && only.is_empty() => only = frame.into_data().unwrap_or_default(),
                Some(Ok(frame)) => {
                    all.extend_from_slice(&std::mem::take(&mut only));
                    all.extend_from_slice(frame.data_ref().map_or(b"", |data| data));
                }
                Some(Err(_)) => return Err(self.progress.fault().unwrap_or(ClientFault::Broken)),
                None => break true,
            }
            let length = all.len().max(only.len());
            if length > limit {
                break false;
            }
            if !room.grow_to(length) {
                no_room = true;
                break false;
            }
            if self.incoming.is_end_stream() {
                break true;
            }
        };
        let all = if all.is_empty() { only } else { all.freeze() };
        let room = Arc::new(room);
        self.room = Some(Arc::clone(&room));
        self.prefix = (!all.is_empty()).then(|| all.clone());
        let looked = match whole {
            true => Looked::Whole(all, room),
            false if no_room => Looked::NoRoom,
            false => Looked::TooLong,
        };
        Ok((self, looked))
    }

    /// Reads until the end or until it holds more than `limit`.
    pub async fn gather(
        mut self: Box<Self>,
        limit: usize,
        mut has_room: impl FnMut(usize) -> bool,
    ) -> Result<Gathered, ClientFault> {
        let mut all = BytesMut::new();
        loop {
            match poll_fn(|cx| self.poll(cx)).await {
                // The common form comes in one piece, and is not copied.
                Some(Ok(frame)) if all.is_empty() && self.incoming.is_end_stream() => {
                    let data = frame.into_data().unwrap_or_default();
                    if data.len() > limit {
                        self.prefix = Some(data);
                        return Ok(Gathered::More(self));
                    }
                    return Ok(if has_room(data.len()) { Gathered::Whole(data) } else { Gathered::NoRoom });
                }
                Some(Ok(frame)) => all.extend_from_slice(frame.data_ref().map_or(b"", |data| data)),
                Some(Err(_)) => return Err(self.progress.fault().unwrap_or(ClientFault::Broken)),
                None => return Ok(Gathered::Whole(all.freeze())),
            }
            if all.len() > limit {
                self.prefix = Some(all.freeze());
                return Ok(Gathered::More(self));
            }
            if !has_room(all.len()) {
                return Ok(Gathered::NoRoom);
            }
        }
    }

    fn fail(&self, fault: ClientFault, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.progress.fault.set(Some(fault));
        Poll::Ready(Some(Err(error)))
    }

    /// The next piece of data; every error is noted in the progress as the client's fault.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            // Before each piece, and woken by it while the client is silent.
            if self.ended.as_mut().is_some_and(|ended| ended.as_mut().poll(cx).is_ready()) {
                self.ended = None;
                return self.fail(ClientFault::SessionEnded, BodyError::SessionEnded);
            }
            if let Some(prefix) = self.prefix.take() {
                // Counted when it was read.
                self.progress.goes_on();
                self.room = None;
                return Poll::Ready(Some(Ok(Frame::data(prefix))));
            }
            if self.ended_itself {
                return Poll::Ready(None);
            }
            let data = match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.pace.got(frame.data_ref().map_or(0, Bytes::len));
                    match frame.into_data() {
                        Ok(data) => data,
                        Err(_trailers) => continue,
                    }
                }
                Poll::Ready(Some(Err(error))) => return self.fail(ClientFault::Broken, BodyError::Client(error)),
                Poll::Ready(None) => {
                    self.progress.whole.set(true);
                    self.ended_itself = true;
                    return Poll::Ready(None);
                }
                Poll::Pending if self.pace.poll_too_slow(cx) => {
                    return self.fail(ClientFault::Stalled, BodyError::Stalled);
                }
                Poll::Pending => {
                    self.progress.awaits_client.set(true);
                    return Poll::Pending;
                }
            };
            let Some(left) = self.left.checked_sub(data.len() as u64) else {
                return self.fail(ClientFault::TooLarge, BodyError::TooLarge);
            };
            self.left = left;
            self.progress.count(data.len());
            // Nobody asks again where the length was known.
            self.progress.whole.set(self.incoming.is_end_stream());
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
    }
}

/// What [`ClientBody::look`] saw.
#[derive(Debug)]
pub enum Looked {
    Whole(Bytes, Arc<Share>),
    TooLong,
    /// What has come of it is more than there is room for.
    NoRoom,
}

/// What [`ClientBody::gather`] read.
#[derive(Debug)]
pub enum Gathered {
    Whole(Bytes),
    More(Box<ClientBody>),
    /// There is no room for what has come of it.
    NoRoom,
}

/// The client's pace. Only time spent waiting for the client counts: an upstream that takes its
/// time is not the client's fault.
#[derive(Debug, Default)]
struct Pace {
    /// Since when nothing came.
    silent_since: Option<Instant>,
    /// From when on the present silence is not yet in `waited`.
    mark: Option<Instant>,
    /// Waited in this window before `mark`, and bytes that came in it.
    waited: Duration,
    bytes: u64,
    /// Instead of [`CLIENT_IDLE`], and then without a rate.
    silence: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    fn got(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.silent_since = None;
        if let Some(mark) = self.mark.take() {
            self.waited += mark.elapsed();
        }
    }

    /// Whether the client is too slow, asked when there is nothing to read; wakes the task when
    /// that may have changed.
    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            let now = Instant::now();
            let silent_since = *self.silent_since.get_or_insert(now);
            let mark = *self.mark.get_or_insert(now);
            let longest = self.silence.unwrap_or(CLIENT_IDLE);
            if now.duration_since(silent_since) >= longest {
                return true;
            }
            let left = RATE_WINDOW.saturating_sub(self.waited + now.duration_since(mark));
            if self.silence.is_none() && left.is_zero() {
                if self.bytes < LEAST_BYTES {
                    return true;
                }
                (self.mark, self.waited, self.bytes) = (Some(now), Duration::ZERO, 0);
                continue;
            }
            let end = silent_since + longest;
            let due = if self.silence.is_some() { end } else { end.min(now + left) };
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            // Moved only when it is late or has fired: re-arming on every frame would cost more
            // than the frame.
            if timer.deadline() > due {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return false;
            }
            timer.as_mut().reset(due);
            if timer.as_mut().poll(cx).is_pending() {
                return false;
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Self::Client(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            Self::Client(body) => body.prefix.is_none() && (body.ended_itself || body.incoming.is_end_stream()),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Self::Client(body) => {
                // Unknown stays unknown: chunked arrives as chunked.
                body.declared().map_or_else(SizeHint::new, SizeHint::with_exact)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn too_slow(mut pace: Pace) -> bool {
        poll_fn(|cx| Poll::Ready(pace.poll_too_slow(cx))).await
    }

    fn ago(seconds: u64) -> Option<Instant> {
        Some(Instant::now().checked_sub(Duration::from_secs(seconds)).expect("the machine is up for minutes"))
    }

    #[tokio::test]
    async fn s_lim_1_a_silent_or_dripping_body_is_ended_and_a_waiting_one_is_not() {
        let pace = |silent, waited, bytes| Pace {
            silent_since: ago(silent),
            mark: ago(silent),
            waited: Duration::from_secs(waited),
            bytes,
            silence: None,
            timer: None,
        };
        let call = |silent| Pace { silence: Some(Duration::from_secs(600)), ..pace(silent, 0, 0) };
        assert!(!too_slow(call(599)).await, "a call may be silent for as long as a WebSocket");
        assert!(too_slow(call(600)).await);
        assert!(!too_slow(Pace::default()).await);
        assert!(!too_slow(pace(29, 0, 0)).await);
        assert!(too_slow(pace(30, 0, 1 << 20)).await, "silent");
        assert!(too_slow(pace(1, 29, 14_999)).await, "under 500 bytes a second");
        assert!(!too_slow(pace(1, 29, 15_000)).await);
        assert!(!too_slow(pace(1, 28, 0)).await, "the window is not over");
    }

    #[tokio::test]
    async fn a_window_that_was_met_starts_the_next_one() {
        let mut pace = Pace {
            silent_since: ago(1),
            mark: ago(1),
            waited: Duration::from_secs(29),
            bytes: 15_000,
            ..Pace::default()
        };
        assert!(!poll_fn(|cx| Poll::Ready(pace.poll_too_slow(cx))).await);
        assert_eq!((pace.waited, pace.bytes), (Duration::ZERO, 0));
        assert!(pace.timer.is_some(), "something wakes the task when the client stays silent");
    }
}
