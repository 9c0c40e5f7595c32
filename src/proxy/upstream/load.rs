//! How many requests are on an HTTP/2 connection to an app, and how many may be?

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::connect;

/// Longest wait for the settings of a new HTTP/2 connection.
const SETTLE: Duration = Duration::from_millis(250);

/// What is under way on an HTTP/2 connection.
#[derive(Debug)]
pub struct Load {
    streams: Cell<usize>,
    most: Cell<usize>,
    idle_since: Cell<Instant>,
    /// Told when the app's own limit is known.
    settled: Notify,
}

impl Load {
    #[must_use]
    pub fn new() -> Rc<Self> {
        let (streams, most) = (Cell::new(0), Cell::new(connect::UNSETTLED));
        Rc::new(Self { streams, most, idle_since: Cell::new(Instant::now()), settled: Notify::new() })
    }

    /// Waits for the first words of the app, which it sends without being asked (RFC 9113 section
    /// 3.4): until then nobody knows how many requests it takes, and what is too many would wait for
    /// streams that may never end. Not for long, for it may have said by chance what stood there.
    pub async fn settled(&self) {
        let _ = tokio::time::timeout(SETTLE, self.settled.notified()).await;
    }

    /// The app's own limit, under ours. One at least: on a connection that takes none, a request
    /// waits as it would for a slow app.
    pub fn limit(&self, most: usize) {
        if most != connect::UNSETTLED {
            self.settled.notify_one();
        }
        self.most.set(most.clamp(1, usize::try_from(connect::MAX_STREAMS).unwrap_or(1)));
    }

    pub(super) fn has_room(&self) -> bool {
        self.streams.get() < self.most.get()
    }

    /// `None` while a request is under way.
    pub(super) fn idle(&self) -> Option<Duration> {
        (self.streams.get() == 0).then(|| self.idle_since.get().elapsed())
    }
}

/// One request on an HTTP/2 connection, while it lives.
#[derive(Debug)]
pub(super) struct Stream(Rc<Load>);

impl Stream {
    pub(super) fn new(load: &Rc<Load>) -> Self {
        load.streams.set(load.streams.get() + 1);
        Self(Rc::clone(load))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let left = self.0.streams.get().saturating_sub(1);
        self.0.streams.set(left);
        if left == 0 {
            self.0.idle_since.set(Instant::now());
        }
    }
}
