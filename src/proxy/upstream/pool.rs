//! Which address of an app takes the next request, and which connections wait for one? One pool per
//! thread, so that choosing, taking and giving back needs no lock and a connection never changes
//! threads.
//!
//! The choice goes by what this thread has in hand: asking the other threads would cost every
//! request a shared counter, and the kernel deals connections out to the threads evenly enough.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use futures_util::future::Either;
use http::{Request, Response};
use hyper::client::conn::http2;
use tokio::time::Instant;

use super::answer::{AnswerBody, Unanswered};
use super::connect::Want;
use super::h1;
use super::health::{Address, Health, Standing};
use super::load::{Load, Stream};
use super::pin::{Holder, Pin};
use crate::domain::host::Scheme;
use crate::domain::route::{AppName, Route};
use crate::domain::upstream::{Protocol, Upstream, UpstreamUrl};
use crate::proxy::body::RequestBody;
use crate::telemetry::metrics::{AppMetrics, Metrics};

/// A connection that waited longer is closed. Most apps close theirs sooner, and that is seen.
const MAX_IDLE: Duration = Duration::from_secs(55);
/// A request that cannot be tried again takes only a connection used this recently: an app's
/// closing of an older one may just be on its way (S-FRAME-9 forbids the retry that would hide it).
const FRESH: Duration = Duration::from_secs(1);
/// Waiting connections for each address and thread: as many as a few busy HTTP/2 clients have requests
/// under way, or what one answer closes the next request opens. Where sockets are scarce, all are given up.
const MAX_WAITING: usize = 1024;

/// The connections of one thread, and its handles to the counters of apps.
#[derive(Debug, Default)]
pub struct LocalPools {
    /// By the address of the `Arc<Upstream>`, which the value keeps alive: no string is hashed per
    /// request, and a reload starts with an empty pool.
    upstreams: RefCell<HashMap<usize, Rc<Addresses>, RandomState>>,
    metrics: RefCell<HashMap<AppName, Arc<AppMetrics>, RandomState>>,
}

/// What one thread holds of one upstream.
#[derive(Debug)]
pub struct Addresses {
    upstream: Arc<Upstream>,
    /// In the order of the file.
    slots: Vec<Rc<Slot>>,
    /// Where the search begins, so that equals take turns.
    next: Cell<usize>,
}

/// What one thread holds of one address.
#[derive(Debug)]
pub struct Slot {
    index: usize,
    address: Arc<Address>,
    /// Requests, streams and tunnels under way on this thread.
    busy: Cell<u32>,
    /// What a warming address did not take yet of its share, in thousandths of a request.
    owed: Cell<u32>,
    waiting: RefCell<Vec<Waiting>>,
    /// HTTP/2 connections, each with many requests on it; nearly always one.
    shared: RefCell<Vec<Shared>>,
    /// Whether HTTP/2 is to be tried; an upstream that chose HTTP/1.1 once is not asked again.
    protocol: Cell<Protocol>,
    /// Held while a connection is opened that others will share.
    opening: tokio::sync::Mutex<()>,
    /// A reload removed the upstream: nothing is kept any more.
    closed: Cell<bool>,
}

#[derive(Debug)]
struct Waiting {
    connection: h1::Connection,
    since: Instant,
}

/// An HTTP/2 connection.
#[derive(Debug)]
struct Shared {
    sender: http2::SendRequest<RequestBody>,
    load: Rc<Load>,
}

/// What a connection is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// A GET or HEAD without a body, which is sent again should the app just have closed the connection.
    Repeatable,
    Bodyless,
    Body,
    /// A body after which the connection is closed. Of those that wait none is spent on it, and an app may
    /// just be closing one (S-FRAME-9).
    LastBody,
}

impl LocalPools {
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// What this thread holds of an app's upstream.
    pub fn addresses(&self, health: &Health, route: &Route) -> Rc<Addresses> {
        let upstream = &route.upstream;
        let mut upstreams = self.upstreams.borrow_mut();
        let made = || Rc::new(Addresses::new(upstream, |url| health.address(&route.app, url)));
        Rc::clone(upstreams.entry(Arc::as_ptr(upstream).addr()).or_insert_with(made))
    }

    /// Closes what waited too long, was closed by the app, or belongs to no policy any more. To be
    /// called at each tick of the thread.
    pub fn reap(&self) {
        self.upstreams.borrow_mut().retain(|_, addresses| {
            let orphan = Arc::strong_count(&addresses.upstream) == 1;
            for slot in &addresses.slots {
                if orphan {
                    slot.closed.set(true);
                }
                let keep = |w: &Waiting| !orphan && w.since.elapsed() < MAX_IDLE && w.connection.is_idle();
                slot.waiting.borrow_mut().retain(keep);
                // Requests that are under way hold what they need of it themselves.
                let keep = |s: &Shared| !orphan && !s.sender.is_closed() && s.load.idle().is_none_or(|i| i < MAX_IDLE);
                slot.shared.borrow_mut().retain(keep);
            }
            !orphan
        });
    }

    /// Closes every connection of this thread that waits for a request.
    pub fn give_up_idle(&self) {
        for addresses in self.upstreams.borrow().values() {
            for slot in &addresses.slots {
                slot.waiting.borrow_mut().clear();
                slot.shared.borrow_mut().retain(|s| s.load.idle().is_none());
            }
        }
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
}

impl Addresses {
    fn new(upstream: &Arc<Upstream>, address: impl Fn(&UpstreamUrl) -> Arc<Address>) -> Self {
        let slot = |(index, url)| {
            Rc::new(Slot {
                index,
                address: address(url),
                busy: Cell::new(0),
                owed: Cell::new(0),
                waiting: RefCell::default(),
                shared: RefCell::default(),
                protocol: Cell::new(match (upstream.protocol, url.scheme) {
                    // Without TLS there is nothing to agree on it by.
                    (Protocol::Auto, Scheme::Http) => Protocol::Http1,
                    (protocol, _) => protocol,
                }),
                opening: tokio::sync::Mutex::default(),
                closed: Cell::new(false),
            })
        };
        let slots = upstream.urls.iter().enumerate().map(slot).collect();
        Self { upstream: Arc::clone(upstream), slots, next: Cell::new(0) }
    }

    #[must_use]
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// The address for the next request: of those that are well, the one with the fewest requests
    /// in hand; equals take turns. Ejected ones only when nothing else is left, for an ejection is
    /// a guess; `None` when the checks of all say that they are down, or all were `tried`.
    #[must_use]
    pub fn choose(&self, health: &Health, tried: Tried) -> Option<Rc<Slot>> {
        // The common app has one address, and nothing to choose.
        if let [only] = self.slots.as_slice() {
            return (!tried.holds(0) && !only.address.is_down()).then(|| Rc::clone(only));
        }
        // The clock is read only while something is out of the ordinary.
        let now = if self.slots.iter().all(|s| s.address.is_calm()) { 0 } else { health.now() };
        self.choose_at(now, tried)
    }

    fn choose_at(&self, now: u64, tried: Tried) -> Option<Rc<Slot>> {
        let count = self.slots.len();
        let first = self.next.get();
        self.next.set(first.wrapping_add(1));
        let slow_start = self.upstream.slow_start;
        let in_turn = (0..count).filter_map(|n| self.slots.get(first.wrapping_add(n).checked_rem(count)?));
        let open = in_turn.filter(|slot| !tried.holds(slot.index)).filter_map(|slot| {
            let (rank, favour) = match slot.address.standing(now, slow_start) {
                Standing::Ready => (0, 1),
                // In its turn it goes before its equals, or their order might never let it.
                Standing::Warming(share) if slot.has_its_turn(share, count) => (0, 0),
                Standing::Warming(_) => (1, 1),
                Standing::Ejected => (2, 1),
                Standing::Down => return None,
            };
            Some((slot, (rank, slot.busy.get(), favour)))
        });
        // The first of the least, so that the order of turns holds among equals.
        open.min_by_key(|(_, key)| *key).map(|(slot, _)| Rc::clone(slot))
    }

    /// Whether a slot is one of these, and not of an upstream that a reload replaced.
    #[must_use]
    pub fn holds(&self, slot: &Rc<Slot>) -> bool {
        self.slots.get(slot.index).is_some_and(|own| Rc::ptr_eq(own, slot))
    }

    /// Whether requests would find another address than this one.
    #[must_use]
    pub fn has_another(&self, than: usize, now: u64) -> bool {
        let well =
            |s: &Rc<Slot>| matches!(s.address.standing(now, Duration::ZERO), Standing::Ready | Standing::Warming(_));
        self.slots.iter().any(|slot| slot.index != than && well(slot))
    }
}

/// Addresses that one request has tried, by their place in the file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried(u64);

impl Tried {
    #[must_use]
    pub fn with(self, index: usize) -> Self {
        Self(self.0 | bit(index))
    }

    fn holds(self, index: usize) -> bool {
        self.0 & bit(index) != 0
    }
}

/// [`crate::domain::upstream::MAX_ADDRESSES`] fit.
fn bit(index: usize) -> u64 {
    u32::try_from(index).ok().and_then(|index| 1_u64.checked_shl(index)).unwrap_or(0)
}

impl Slot {
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Adds this share (in thousandths) of what one of `count` addresses gets of each request; true
    /// when it has come to a whole request.
    fn has_its_turn(&self, share: u32, count: usize) -> bool {
        let whole = u32::try_from(count).unwrap_or(u32::MAX).saturating_mul(1000);
        let owed = self.owed.get().saturating_add(share);
        let is_due = owed >= whole;
        self.owed.set(if is_due { owed - whole } else { owed });
        is_due
    }

    /// A connection for the next request: a waiting one, or one with room for one more.
    #[must_use]
    pub fn take(self: &Rc<Self>, want: Want, carries: Carries) -> Option<Lease> {
        if self.may_share(want)
            && let Some(lease) = self.share(matches!(carries, Carries::Repeatable | Carries::Bodyless))
        {
            return Some(lease);
        }
        let longest = match carries {
            Carries::Repeatable => MAX_IDLE,
            Carries::Bodyless | Carries::Body => FRESH,
            Carries::LastBody => return None,
        };
        let mut waiting = self.waiting.borrow_mut();
        // The last one back is the first one out: the others, which came back before it, may grow old and go.
        while let Some(Waiting { connection, .. }) = waiting.pop_if(|last| last.since.elapsed() < longest) {
            if connection.is_idle() {
                drop(waiting);
                return Some(self.lease(connection));
            }
        }
        None
    }

    /// Whether a connection for this may be one that others use too.
    #[must_use]
    pub fn may_share(&self, want: Want) -> bool {
        want == Want::Configured && self.protocol.get() != Protocol::Http1
    }

    /// The upstream was asked and chose HTTP/1.1.
    pub fn speaks_http1(&self) {
        if self.protocol.get() == Protocol::Auto {
            self.protocol.set(Protocol::Http1);
        }
    }

    pub async fn opening(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.opening.lock().await
    }

    /// A place on an HTTP/2 connection that has room. An app says that it did not process a request
    /// (GOAWAY, REFUSED_STREAM), but what was sent of a body is gone: those keep away from a
    /// connection that was idle for long, as they do in HTTP/1.1.
    #[must_use]
    pub fn share(self: &Rc<Self>, bodyless: bool) -> Option<Lease> {
        let longest = if bodyless { MAX_IDLE } else { FRESH };
        let mut shared = self.shared.borrow_mut();
        shared.retain(|s| !s.sender.is_closed());
        let room = |s: &&Shared| s.load.has_room() && s.load.idle().is_none_or(|idle| idle < longest);
        let found = shared.iter().find(room)?;
        let sender = Sender::Http2 { sender: found.sender.clone(), _stream: Stream::new(&found.load) };
        Some(Lease { sender, busy: Busy::new(self), home: Home::Nowhere })
    }

    /// A new connection, to come back here after its first request.
    #[must_use]
    pub fn lease(self: &Rc<Self>, connection: h1::Connection) -> Lease {
        Lease { sender: Sender::Http1(connection), busy: Busy::new(self), home: Home::Pool }
    }

    /// A place on a new HTTP/2 connection, which others may use from now on.
    #[must_use]
    pub fn lease_shared(self: &Rc<Self>, sender: http2::SendRequest<RequestBody>, load: Rc<Load>) -> Lease {
        let stream = Stream::new(&load);
        if !self.closed.get() {
            self.shared.borrow_mut().push(Shared { sender: sender.clone(), load });
        }
        Lease { sender: Sender::Http2 { sender, _stream: stream }, busy: Busy::new(self), home: Home::Nowhere }
    }

    fn put(&self, connection: h1::Connection) {
        if self.closed.get() {
            return;
        }
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= MAX_WAITING {
            waiting.remove(0);
        }
        connection.rest();
        waiting.push(Waiting { connection, since: Instant::now() });
    }
}

/// Counts as one request in hand while it lives. Holds the slot itself: a lease that outlives a
/// reload can come home to its own address alone, never to whatever took the place of it in memory.
#[derive(Debug)]
struct Busy(Rc<Slot>);

impl Busy {
    fn new(slot: &Rc<Slot>) -> Self {
        slot.busy.set(slot.busy.get().saturating_add(1));
        Self(Rc::clone(slot))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get().saturating_sub(1));
    }
}

#[derive(Debug)]
enum Sender {
    Http1(h1::Connection),
    Http2 { sender: http2::SendRequest<RequestBody>, _stream: Stream },
}

/// One connection in use, or one place on an HTTP/2 connection. Dropped, it is closed; only [`Lease::give_back`] keeps it.
#[derive(Debug)]
pub struct Lease {
    sender: Sender,
    busy: Busy,
    home: Home,
}

/// Where a connection goes when its answer was read.
#[derive(Debug)]
enum Home {
    Pool,
    Nowhere,
    /// Back to the client connection that signed it in.
    Pin(Rc<Pin>),
}

impl Lease {
    /// Sends a request that is shaped for this connection (see [`Lease::is_http2`]).
    pub fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<AnswerBody>, Unanswered>> + use<> {
        match &mut self.sender {
            Sender::Http1(connection) => {
                let sent = connection.send(request);
                Either::Left(async { Ok(sent.await?.map(AnswerBody::Http1)) })
            }
            // Boxed: the future of every request would be as large.
            Sender::Http2 { sender, .. } => {
                let sent = sender.try_send_request(request);
                Either::Right(Box::pin(async { Ok(sent.await?.map(AnswerBody::Http2)) }))
            }
        }
    }

    /// The bytes behind a 101 on it.
    #[must_use]
    pub fn raw(&self) -> Option<h1::Raw> {
        match &self.sender {
            Sender::Http1(connection) => Some(connection.raw()),
            Sender::Http2 { .. } => None,
        }
    }

    #[must_use]
    pub fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2 { .. })
    }

    /// The address that it leads to.
    #[must_use]
    pub fn slot(&self) -> &Rc<Slot> {
        &self.busy.0
    }

    /// Which of the upstream's addresses it leads to.
    #[must_use]
    pub fn index(&self) -> usize {
        self.busy.0.index
    }

    /// This connection serves no second request: the app authenticated it for nobody who could be
    /// told (S-UP-6), may have left bytes of a body unread (S-FRAME-6), or it was opened for a tunnel.
    pub fn never_again(&mut self) {
        self.home = Home::Nowhere;
    }

    /// The app signs in this connection: it serves the client connection of this pin from now on, and
    /// nobody else (S-UP-6).
    pub fn belongs_to(&mut self, pin: &Rc<Pin>, holder: Holder) {
        pin.expect(holder);
        self.home = Home::Pin(Rc::clone(pin));
    }

    /// Back to the pool after the answer was read to its end; closed unless the request was sent whole too,
    /// nothing surplus came, and nobody wants to close (S-FRAME-8).
    pub fn give_back(self) {
        let Self { sender, busy, home } = self;
        match (sender, home) {
            (Sender::Http1(connection), _) if !connection.is_clean() => {}
            (Sender::Http1(connection), Home::Pool) => busy.0.put(connection),
            (Sender::Http1(connection), Home::Pin(pin)) => pin.keep(&busy.0, connection),
            (Sender::Http1(_), Home::Nowhere) | (Sender::Http2 { .. }, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: u16) -> Addresses {
        let url = |n| UpstreamUrl { scheme: Scheme::Http, host: "10.0.4.11".into(), port: 8000 + n };
        let upstream = Arc::new(Upstream::at((0..count).map(url).collect()));
        Addresses::new(&upstream, Address::for_tests)
    }

    fn chosen(addresses: &Addresses, now: u64, times: usize) -> Vec<usize> {
        let mut counts = vec![0; addresses.slots.len()];
        for _ in 0..times {
            if let Some(slot) = addresses.choose_at(now, Tried::default()) {
                counts[slot.index] += 1;
            }
        }
        counts
    }

    fn eject(addresses: &Addresses, index: usize, now: u64) {
        for _ in 0..3 {
            addresses.slots[index].address.failed(now, || addresses.has_another(index, now));
        }
    }

    #[test]
    fn the_address_with_the_fewest_requests_in_hand_takes_the_next_and_equals_take_turns() {
        let all = addresses(3);
        assert_eq!(chosen(&all, 0, 9), [3, 3, 3]);
        let held = [Busy::new(&all.slots[0]), Busy::new(&all.slots[0]), Busy::new(&all.slots[2])];
        assert_eq!(chosen(&all, 0, 9), [0, 9, 0]);
        drop(held);
        assert_eq!(chosen(&all, 0, 9), [3, 3, 3]);
    }

    #[test]
    fn an_ejected_address_is_passed_over_and_the_last_one_stays() {
        let all = addresses(2);
        eject(&all, 0, 1);
        assert_eq!(chosen(&all, 1, 4), [0, 4]);
        eject(&all, 1, 1);
        assert_eq!(chosen(&all, 1, 4), [0, 4], "somebody has to answer");
        all.slots[1].address.answered();
        assert_eq!(chosen(&all, 10_001, 400), [20, 380], "a tenth of its share at first");
        assert_eq!(chosen(&all, 15_001, 400), [100, 300], "half of it later");
        assert_eq!(chosen(&all, 20_001, 4), [2, 2]);
    }

    #[test]
    fn threads_that_ejected_the_last_two_at_once_leave_both_in_use() {
        let all = addresses(2);
        for slot in &all.slots {
            for _ in 0..3 {
                slot.address.failed(1, || true);
            }
        }
        assert_eq!(chosen(&all, 1, 4), [2, 2]);
    }

    #[test]
    fn none_is_chosen_when_the_checks_of_all_fail_and_one_that_passes_wins_over_a_guess() {
        let all = addresses(2);
        all.slots[0].address.checked(false, "503", 1);
        eject(&all, 1, 1);
        assert_eq!(chosen(&all, 1, 4), [0, 4]);
        all.slots[1].address.checked(false, "503", 1);
        assert_eq!(chosen(&all, 1, 4), [0, 0]);
    }

    #[tokio::test]
    async fn a_connection_that_outlives_its_upstream_is_not_kept_for_whatever_comes_after() {
        let all = addresses(1);
        let slot = Rc::clone(&all.slots[0]);
        let (kept, _app) = h1::Connection::for_tests().await;
        slot.lease(kept).give_back();
        assert_eq!(slot.waiting.borrow().len(), 1);
        let (late, _app) = h1::Connection::for_tests().await;
        let lease = slot.lease(late);
        let pools = LocalPools::new();
        pools.upstreams.borrow_mut().insert(1, Rc::new(all));
        pools.reap();
        assert!(pools.upstreams.borrow().is_empty());
        lease.give_back();
        assert_eq!(slot.waiting.borrow().len(), 0);
    }

    #[test]
    fn an_address_is_tried_once() {
        let all = addresses(2);
        let tried = Tried::default().with(1);
        assert!((0..4).all(|_| all.choose_at(0, tried).is_some_and(|s| s.index == 0)));
        assert!(all.choose_at(0, tried.with(0)).is_none());
    }
}
