//! How many sockets to apps may be open at a time? One client connection may carry a hundred requests
//! (HTTP/2), each of which holds a socket to a slow app: without a limit of their own they would take the
//! descriptors that sign-ins and the store need (S-LIM-3). And without a share for each app, one that
//! hangs would take those of all others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;

use crate::domain::route::AppName;

/// The places of all threads together.
#[derive(Debug)]
pub struct Places {
    taken: AtomicUsize,
    most: usize,
    by_app: DashMap<AppName, Arc<AtomicUsize>>,
}

/// One open socket; gives its place back when dropped.
#[derive(Debug)]
pub struct Place {
    all: Arc<Places>,
    app: Arc<AtomicUsize>,
}

impl Places {
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), most, by_app: DashMap::new() })
    }

    /// `None` when as many sockets are open as may be, or three quarters of them by this app alone.
    #[must_use]
    pub fn take(self: &Arc<Self>, app: &AppName) -> Option<Place> {
        let share = match self.by_app.get(app) {
            Some(share) => Arc::clone(&share),
            None => Arc::clone(&self.by_app.entry(app.clone()).or_default()),
        };
        one_more(&share, self.most.div_ceil(4) * 3)?;
        if one_more(&self.taken, self.most).is_none() {
            share.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Place { all: Arc::clone(self), app: share })
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
        self.app.fetch_sub(1, Ordering::Relaxed);
        self.all.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

fn one_more(count: &AtomicUsize, most: usize) -> Option<()> {
    let next = |taken| (taken < most).then_some(taken + 1);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).ok().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_lim_3_an_app_that_hangs_leaves_sockets_to_the_others() {
        let places = Places::new(100);
        let (slow, well) = (AppName::new("slow"), AppName::new("well"));
        let held: Vec<_> = std::iter::from_fn(|| places.take(&slow)).collect();
        assert_eq!(held.len(), 75);
        let others: Vec<_> = std::iter::from_fn(|| places.take(&well)).collect();
        assert_eq!(others.len(), 25);
        drop(held);
        assert_eq!((places.taken(), places.take(&slow).is_some()), (25, true));
    }
}
