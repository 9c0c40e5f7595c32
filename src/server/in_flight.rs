//! Which answers of a connection are not finished, and which of them does nobody take?

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Body;
use tokio_util::sync::CancellationToken;

use super::limits::UnderWay;
use super::unexpected::Unexpected;

/// What happens on a connection now, seen from outside hyper.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Requests whose answer is not finished, bodies included.
    pub(super) in_flight: AtomicU32,
    /// Bytes read so far: a half-sent head is not idle.
    pub(super) bytes_read: AtomicU64,
    /// What the first of them are, where HTTP does not begin so.
    pub(super) unexpected: OnceLock<Unexpected>,
    pub(super) served: AtomicU32,
    /// `bytes_read` when the last answer was finished.
    read_at_last_answer: AtomicU64,
    /// The last request came with a body, of which some may still be on its way.
    pub(super) had_body: AtomicBool,
    /// We said that the connection ends.
    pub(super) closing: AtomicBool,
    /// The gate drains: the next answer says that the connection ends.
    pub(super) draining: AtomicBool,
    /// Whether the client is still there is to be looked at.
    pub(super) look: AtomicBool,
}

impl Activity {
    /// Whether no byte came since the last answer was finished. What comes on a connection that
    /// ends is never a request.
    pub(super) fn is_between_requests(&self) -> bool {
        !self.closing.load(Ordering::Relaxed)
            && self.bytes_read.load(Ordering::Relaxed) == self.read_at_last_answer.load(Ordering::Relaxed)
    }
}

/// The answers of an HTTP/2 connection that wait for their client. A stream whose window is closed
/// is never written to, so the socket's own patience does not see it (S-LIM-1).
pub(super) struct Waiting<B> {
    answers: RefCell<Vec<Weak<Watched<B>>>>,
    /// Cancelled when the connection has served enough.
    pub(super) full: CancellationToken,
}

/// So many entries may be of answers that are over; each keeps the memory of its answer.
const OVER: usize = 64;

pub(super) struct Watched<B> {
    body: RefCell<Option<B>>,
    /// Since when a piece waits to be asked for; `None` while the app is waited for.
    since: Cell<Option<Instant>>,
}

impl<B> Waiting<B> {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self { answers: RefCell::default(), full: CancellationToken::new() })
    }

    fn watch(&self, body: B) -> Rc<Watched<B>> {
        let mut answers = self.answers.borrow_mut();
        if answers.len() == answers.capacity() {
            // Instead of growing: at most as many as there are streams are alive.
            answers.retain(|weak| weak.strong_count() > 0);
            answers.reserve(OVER);
        }
        let watched = Rc::new(Watched { body: RefCell::new(Some(body)), since: Cell::new(Some(Instant::now())) });
        answers.push(Rc::downgrade(&watched));
        watched
    }

    /// Lets go of the answers that nobody took a piece of for so long: of what the app holds for
    /// them, at once; their streams end when they are looked at again.
    pub(super) fn let_go(&self, patience: Duration) {
        self.answers.borrow_mut().retain(|weak| {
            let Some(watched) = weak.upgrade() else { return false };
            if watched.since.get().is_some_and(|since| since.elapsed() >= patience) {
                watched.body.borrow_mut().take();
                return false;
            }
            true
        });
    }
}

/// Falls when the answer's body is finished or dropped.
pub(super) struct Guard {
    activity: Arc<Activity>,
    _under_way: Option<UnderWay>,
}

impl Guard {
    pub(super) fn new(activity: &Arc<Activity>, under_way: Option<UnderWay>) -> Self {
        activity.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { activity: Arc::clone(activity), _under_way: under_way }
    }

    /// Whether the connection is to end with this answer, for the gate drains.
    pub(super) fn drains(&self) -> bool {
        self.activity.draining.load(Ordering::Relaxed)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Self { activity, .. } = self;
        activity.in_flight.fetch_sub(1, Ordering::Relaxed);
        activity.read_at_last_answer.store(activity.bytes_read.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// An answer's body that keeps its connection from being parked.
pub struct InFlight<B> {
    body: Kept<B>,
    _guard: Guard,
}

enum Kept<B> {
    Own(B),
    Watched(Rc<Watched<B>>),
}

impl<B> InFlight<B> {
    /// With `waiting`, of a connection whose streams are watched.
    pub(super) fn new(body: B, waiting: Option<&Waiting<B>>, guard: Guard) -> Self {
        let body = match waiting {
            None => Kept::Own(body),
            Some(waiting) => Kept::Watched(waiting.watch(body)),
        };
        Self { body, _guard: guard }
    }
}

/// Why an answer ends before its end.
#[derive(Debug, thiserror::Error)]
#[error("the client took nothing of its answer for too long")]
struct Stalled;

impl<B> Body for InFlight<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        let polled = match &mut self.body {
            Kept::Own(body) => Pin::new(body).poll_frame(cx),
            Kept::Watched(watched) => {
                let mut body = watched.body.borrow_mut();
                let Some(body) = body.as_mut() else { return Poll::Ready(Some(Err(Box::new(Stalled)))) };
                let polled = Pin::new(body).poll_frame(cx);
                // While the app has nothing, the client is not to blame.
                watched.since.set(polled.is_ready().then(Instant::now));
                polled
            }
        };
        polled.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.body {
            Kept::Own(body) => body.is_end_stream(),
            Kept::Watched(watched) => watched.body.borrow().as_ref().is_some_and(Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match &self.body {
            Kept::Own(body) => body.size_hint(),
            Kept::Watched(watched) => watched.body.borrow().as_ref().map(Body::size_hint).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io;

    use super::*;

    #[tokio::test]
    async fn s_lim_1_a_stream_that_nobody_reads_lets_go_of_its_app() {
        use http_body_util::{BodyExt, StreamBody};
        let waiting = Waiting::new();
        let (app, pieces) = tokio::sync::mpsc::unbounded_channel::<Result<http_body::Frame<Bytes>, io::Error>>();
        let pieces = futures_util::stream::unfold(pieces, |mut pieces| async { Some((pieces.recv().await?, pieces)) });
        let body = StreamBody::new(Box::pin(pieces));
        let mut answer = InFlight::new(body, Some(&*waiting), Guard::new(&Arc::default(), None));
        // Asked for a piece that the app does not have yet: the app's time, however long.
        assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut answer).poll_frame(cx))).await.is_pending());
        waiting.let_go(Duration::ZERO);
        app.send(Ok(http_body::Frame::data(Bytes::from_static(b"1")))).unwrap();
        assert!(answer.frame().await.unwrap().is_ok());
        // A piece was taken, and no further one is asked for.
        waiting.let_go(Duration::from_secs(60));
        assert!(!app.is_closed());
        waiting.let_go(Duration::ZERO);
        assert!(app.is_closed(), "what the app holds for it is free");
        assert!(answer.frame().await.unwrap().is_err());
    }

    #[test]
    fn s_lim_2_answers_that_are_over_are_not_kept_however_many_there_were() {
        let waiting = Waiting::new();
        let held: Vec<_> = (0..100).map(|n| waiting.watch(n)).collect();
        for n in 0..100_000 {
            drop(waiting.watch(n));
        }
        let kept = waiting.answers.borrow().capacity();
        assert!(kept <= 4 * (held.len() + OVER), "{kept} entries for {} streams", held.len());
        waiting.let_go(Duration::ZERO);
        assert!(held.iter().all(|watched| watched.body.borrow().is_none()), "those alive are all known");
    }
}
