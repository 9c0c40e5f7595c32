//! Who gives way when the gate fills up? Those who only hold a place: with a connection from each of many
//! addresses, and not a request on any, a flood would keep out everybody who has something to ask, signed in or
//! not (S-LIM-3). So connections on which nothing is asked stand in a queue, and when places become scarce, each
//! that is taken sends away whoever has stood there longest. Browsers open idle connections anew by themselves;
//! nginx and others do the same. A connection with a request under way never gives way.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::limits::PARK_AFTER;

/// Connections on which nothing is asked, first come first.
#[derive(Debug, Default)]
pub struct Queue {
    told: Notify,
    length: AtomicUsize,
}

impl Queue {
    /// How many stand in it.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    /// Sends the first of them away, if there is one.
    pub fn next(&self) {
        // Without anybody in it the word would wait for whoever comes next.
        if self.length() > 0 {
            self.told.notify_one();
        }
    }
}

/// A connection's way of hearing that its place is needed; without a queue it never hears it.
#[derive(Clone, Debug, Default)]
pub struct Room(Option<Arc<Queue>>);

/// Ready when the place of a connection is needed. Boxed: an idle connection is to be small.
pub type Needed = Pin<Box<dyn Future<Output = ()>>>;

impl Room {
    #[must_use]
    pub fn of(queue: &Arc<Queue>) -> Self {
        Self(Some(Arc::clone(queue)))
    }

    /// For whoever was told and has something to do by now: the next in the queue goes instead. A word kept to
    /// oneself would be a place that nobody gives back.
    pub fn pass_on(&self) {
        if let Self(Some(queue)) = self {
            queue.next();
        }
    }

    /// Stands in the queue from now on.
    #[must_use]
    pub fn needed(&self) -> Needed {
        let Self(queue) = self.clone();
        Box::pin(async move {
            let Some(queue) = queue else { return std::future::pending().await };
            queue.length.fetch_add(1, Ordering::Relaxed);
            let _left = Left(&queue);
            queue.told.notified().await;
        })
    }

    /// Stands in the queue after a while: a request may be on its way, and what is lost on a new connection no
    /// browser sends again.
    #[must_use]
    pub fn needed_later(&self) -> Needed {
        let room = self.clone();
        Box::pin(async move {
            Box::pin(tokio::time::sleep(PARK_AFTER)).await;
            room.needed().await;
        })
    }
}

struct Left<'a>(&'a Queue);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.length.fetch_sub(1, Ordering::Relaxed);
    }
}

/// For a place in a `select!` that is not always taken.
pub(super) async fn told(needed: &mut Option<Needed>) {
    match needed {
        Some(needed) => needed.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll};

    use futures_util::task::noop_waker;

    use super::*;

    #[test]
    fn who_stood_longest_goes_first_and_nobody_for_nothing() {
        let queue = Arc::new(Queue::default());
        queue.next();
        let room = Room::of(&queue);
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        let mut goes = |needed: &mut Needed| needed.as_mut().poll(&mut cx) == Poll::Ready(());
        let (mut first, mut second, mut third) = (room.needed(), room.needed(), room.needed());
        assert!(!goes(&mut first) && !goes(&mut second) && !goes(&mut third), "nobody was in the queue then");
        queue.next();
        assert!(!goes(&mut second) && goes(&mut first));
        // Whoever leaves before he hears it passes it on.
        queue.next();
        drop(second);
        assert!(goes(&mut third));
        // And so does who hears it and cannot go.
        let mut fourth = room.needed();
        assert!(!goes(&mut fourth));
        room.pass_on();
        assert!(goes(&mut fourth));
        assert_eq!(queue.length.load(Ordering::Relaxed), 0);
        assert!(!goes(&mut Room::default().needed()));
    }
}
