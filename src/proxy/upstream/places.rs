//! How many sockets to apps may be open at a time? One client connection may carry a hundred requests
//! (HTTP/2), each of which holds a socket to a slow app: without a limit of their own they would take the
//! descriptors that sign-ins and the store need (S-LIM-3).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The places of all threads together.
#[derive(Debug)]
pub struct Places {
    taken: AtomicUsize,
    most: usize,
}

/// One open socket; gives its place back when dropped.
#[derive(Debug)]
pub struct Place(Arc<Places>);

impl Places {
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), most })
    }

    /// `None` when as many sockets are open as may be.
    #[must_use]
    pub fn take(self: &Arc<Self>) -> Option<Place> {
        let one_more = |taken| (taken < self.most).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Place(Arc::clone(self)))
    }

    /// So few are left that connections which only wait are given up on every thread.
    #[must_use]
    pub fn are_scarce(&self) -> bool {
        self.taken() > self.most / 4 * 3
    }

    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}
