//! Which connections to apps wait for their next request? One pool per thread, so that taking and
//! giving back needs no lock and a connection never changes threads.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio::time::Instant;

use super::connect::Sender;
use crate::domain::route::AppName;
use crate::domain::upstream::Upstream;
use crate::telemetry::metrics::{AppMetrics, Metrics};

/// A connection that waited longer is closed. Most apps close theirs sooner, and that is seen.
const MAX_IDLE: Duration = Duration::from_secs(55);
/// A request that cannot be tried again takes only a connection used this recently: an app's
/// closing of an older one may just be on its way (S-FRAME-9 forbids the retry that would hide it).
const FRESH: Duration = Duration::from_secs(1);
/// Waiting connections for each address and thread.
const MAX_WAITING: usize = 256;

/// The connections of one thread, and its handles to the counters of apps.
#[derive(Debug, Default)]
pub struct LocalPools {
    /// By the address of the `Arc`, which the entry keeps alive: no string is hashed per request,
    /// and a reload that changes an upstream starts with an empty pool.
    upstreams: RefCell<HashMap<usize, PerUpstream, RandomState>>,
    metrics: RefCell<HashMap<AppName, Arc<AppMetrics>, RandomState>>,
}

#[derive(Debug)]
struct PerUpstream {
    upstream: Arc<Upstream>,
    next: usize,
    /// One list for each address, in the order of the file.
    waiting: Vec<Vec<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    sender: Sender,
    since: Instant,
}

impl LocalPools {
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// The address that is next in turn, and a waiting connection to it if there is one.
    pub fn take(self: &Rc<Self>, upstream: &Arc<Upstream>, may_retry: bool) -> (usize, Option<Lease>) {
        let key = key(upstream);
        let mut upstreams = self.upstreams.borrow_mut();
        let entry = upstreams.entry(key).or_insert_with(|| PerUpstream {
            upstream: Arc::clone(upstream),
            next: 0,
            waiting: upstream.urls.iter().map(|_| Vec::new()).collect(),
        });
        let index = entry.next.checked_rem(entry.waiting.len()).unwrap_or(0);
        entry.next = entry.next.wrapping_add(1);
        let Some(waiting) = entry.waiting.get_mut(index) else { return (0, None) };
        let longest = if may_retry { MAX_IDLE } else { FRESH };
        // The last one back is the first one out: the others may then grow old and go.
        let ready = waiting.iter().rposition(|w| w.sender.is_ready() && w.since.elapsed() < longest);
        let found = ready.map(|at| waiting.remove(at));
        (index, found.map(|w| Lease { sender: w.sender, home: Rc::downgrade(self), key, index, reusable: true }))
    }

    /// A new connection, to come back here after its first request.
    #[must_use]
    pub fn lease(self: &Rc<Self>, upstream: &Arc<Upstream>, index: usize, sender: Sender) -> Lease {
        Lease { sender, home: Rc::downgrade(self), key: key(upstream), index, reusable: true }
    }

    /// Closes what waited too long, was closed by the app, or belongs to no policy any more. To be
    /// called at each tick of the thread.
    pub fn reap(&self) {
        self.upstreams.borrow_mut().retain(|_, entry| {
            let orphan = Arc::strong_count(&entry.upstream) == 1;
            for waiting in &mut entry.waiting {
                waiting.retain(|w| !orphan && !w.sender.is_closed() && w.since.elapsed() < MAX_IDLE);
            }
            !orphan
        });
    }

    /// The counters of an app.
    #[must_use]
    pub fn metrics(&self, all: &Metrics, app: &AppName) -> Arc<AppMetrics> {
        if let Some(found) = self.metrics.borrow().get(app) {
            return Arc::clone(found);
        }
        let found = all.app(app);
        self.metrics.borrow_mut().insert(app.clone(), Arc::clone(&found));
        found
    }

    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.upstreams.borrow().values().flat_map(|e| &e.waiting).map(Vec::len).sum()
    }

    fn put(&self, lease: Lease) {
        let mut upstreams = self.upstreams.borrow_mut();
        let Some(waiting) = upstreams.get_mut(&lease.key).and_then(|e| e.waiting.get_mut(lease.index)) else { return };
        if waiting.len() >= MAX_WAITING {
            waiting.remove(0);
        }
        waiting.push(Waiting { sender: lease.sender, since: Instant::now() });
    }
}

fn key(upstream: &Arc<Upstream>) -> usize {
    Arc::as_ptr(upstream).addr()
}

/// One connection in use. Dropped, it is closed; only [`Lease::give_back`] keeps it.
#[derive(Debug)]
pub struct Lease {
    sender: Sender,
    home: Weak<LocalPools>,
    key: usize,
    index: usize,
    reusable: bool,
}

impl Lease {
    pub fn sender(&mut self) -> &mut Sender {
        &mut self.sender
    }

    /// Which of the upstream's addresses it leads to.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// This connection serves no second request: the app authenticated it (S-UP-6), may have left
    /// bytes of a body unread (S-FRAME-6), or it was opened for a tunnel.
    pub fn never_again(&mut self) {
        self.reusable = false;
    }

    /// Back to the pool after the answer was read to its end. hyper calls it ready only once the
    /// request was sent whole too and nothing surplus came; until then nobody gets it (S-FRAME-8).
    pub fn give_back(self) {
        if !self.reusable || self.sender.is_closed() {
            return;
        }
        if let Some(home) = self.home.upgrade() {
            home.put(self);
        }
    }
}
