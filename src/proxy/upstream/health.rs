//! Which addresses of an app are well? Two sources say so: the faults of requests, which eject an
//! address for a while, and the checks of `health:`, whose word counts for more.
//!
//! All threads share one state for each address, in atomics: a request reads three of them and
//! takes no lock. An ejection is a guess from what a few requests met, so it never takes the last
//! address that is left; a check asked the address itself, and may say of all of them that they are
//! down: then the gate answers 503 and connects nowhere.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::check;
use super::tls::TlsConfigs;
use crate::config::Snapshot;
use crate::domain::route::{AppName, Route};
use crate::domain::upstream::{Upstream, UpstreamUrl};
use crate::telemetry::metrics::{AddressMetrics, Metrics};

/// Faults in a row, with no answer between, that eject an address.
const FAULTS: u32 = 3;
/// The first ejection; each further one takes twice as long as the one before.
const EJECTED: Duration = Duration::from_secs(10);
const EJECTED_AT_MOST: Duration = Duration::from_secs(300);
/// An address that kept its place for this long starts over with [`EJECTED`].
const FORGIVEN: Duration = Duration::from_secs(300);
/// How often ejections are looked through for those that are over.
const TICK: Duration = Duration::from_secs(1);

/// Milliseconds since [`Health`] was made, never zero: zero in an atomic means "not at all".
type Millis = u64;

/// How one address stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Ready,
    /// It came back a moment ago and takes this share of its requests, in thousandths.
    Warming(u32),
    Ejected,
    /// Its checks fail.
    Down,
}

/// What is known of one address, by all threads.
#[derive(Debug)]
pub struct Address {
    app: AppName,
    url: UpstreamUrl,
    metrics: Arc<AddressMetrics>,
    /// What its checks last said.
    down: AtomicBool,
    /// Whether anybody checks it. A check that was just taken away may still say its last word: it
    /// has no weight, for nobody would take it back.
    is_checked: AtomicBool,
    faults_in_a_row: AtomicU32,
    ejections_in_a_row: AtomicU32,
    ejected_until: AtomicU64,
    /// Since when it takes requests again; zero when it never was away, or is as warm as the rest.
    back_since: AtomicU64,
    /// As `back_since`, but kept: for how long it has held its place.
    last_back: AtomicU64,
}

impl Address {
    fn new(app: &AppName, url: &UpstreamUrl, metrics: Arc<AddressMetrics>) -> Arc<Self> {
        metrics.healthy.store(1, Relaxed);
        Arc::new(Self {
            app: app.clone(),
            url: url.clone(),
            metrics,
            down: AtomicBool::new(false),
            is_checked: AtomicBool::new(true),
            faults_in_a_row: AtomicU32::new(0),
            ejections_in_a_row: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            back_since: AtomicU64::new(0),
            last_back: AtomicU64::new(0),
        })
    }

    #[cfg(test)]
    pub(super) fn for_tests(url: &UpstreamUrl) -> Arc<Self> {
        Self::new(&AppName::new("wiki"), url, Arc::default())
    }

    #[must_use]
    pub fn url(&self) -> &UpstreamUrl {
        &self.url
    }

    #[must_use]
    pub fn app(&self) -> &AppName {
        &self.app
    }

    /// Nothing happened to it lately: it is ready, whatever time it is.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        !self.is_down() && self.ejected_until.load(Relaxed) == 0 && self.back_since.load(Relaxed) == 0
    }

    #[must_use]
    pub fn is_down(&self) -> bool {
        self.is_checked.load(Relaxed) && self.down.load(Relaxed)
    }

    #[must_use]
    pub fn standing(&self, now: Millis, slow_start: Duration) -> Standing {
        if self.is_down() {
            return Standing::Down;
        }
        if now < self.ejected_until.load(Relaxed) {
            return Standing::Ejected;
        }
        let since = self.back_since.load(Relaxed);
        let whole = millis(slow_start);
        let passed = now.saturating_sub(since);
        if since == 0 || passed >= whole {
            return Standing::Ready;
        }
        // A tenth from the first moment: an address without a request would never be seen to work.
        let share = passed.saturating_mul(1000).checked_div(whole).unwrap_or(1000).max(100);
        Standing::Warming(u32::try_from(share).unwrap_or(1000))
    }

    /// A head of an answer came, whatever its status: the app's own 503 is an answer.
    pub fn answered(&self) {
        // Looked at before it is written: the line stays shared between the threads.
        if self.faults_in_a_row.load(Relaxed) != 0 {
            self.faults_in_a_row.store(0, Relaxed);
        }
    }

    /// No connection, no answer, or one that cannot be passed on. Ejects the address after
    /// [`FAULTS`] in a row, unless no other would be left.
    pub fn failed(&self, now: Millis, another_is_left: impl FnOnce() -> bool) {
        self.metrics.faults.fetch_add(1, Relaxed);
        let faults = self.faults_in_a_row.fetch_add(1, Relaxed).saturating_add(1);
        let until = self.ejected_until.load(Relaxed);
        if faults < FAULTS || now < until || !another_is_left() {
            return;
        }
        let last_back = self.last_back.load(Relaxed);
        if now.saturating_sub(last_back) >= millis(FORGIVEN) {
            self.ejections_in_a_row.store(0, Relaxed);
        }
        let before = self.ejections_in_a_row.load(Relaxed);
        let long = EJECTED.saturating_mul(1_u32.checked_shl(before).unwrap_or(u32::MAX)).min(EJECTED_AT_MOST);
        let back = now + millis(long);
        // One of the threads that come here at once ejects it.
        if self.ejected_until.compare_exchange(until, back, Relaxed, Relaxed).is_err() {
            return;
        }
        self.ejections_in_a_row.store(before.saturating_add(1), Relaxed);
        self.back_since.store(back, Relaxed);
        self.last_back.store(back, Relaxed);
        // On probation: back again, one fault is enough.
        self.faults_in_a_row.store(FAULTS - 1, Relaxed);
        self.metrics.ejections.fetch_add(1, Relaxed);
        self.metrics.healthy.store(0, Relaxed);
        tracing::warn!(
            app = %self.app,
            upstream.address = %self.url,
            faults,
            seconds = long.as_secs(),
            "an address of an app is passed over for a while: its last requests all failed"
        );
    }

    /// Takes note of what has passed, off the request path.
    fn settle(&self, now: Millis, slow_start: Duration) {
        let until = self.ejected_until.load(Relaxed);
        if until != 0 && now >= until && self.ejected_until.compare_exchange(until, 0, Relaxed, Relaxed).is_ok() {
            self.show();
            tracing::info!(app = %self.app, upstream.address = %self.url, "an address of an app is tried again");
        }
        let since = self.back_since.load(Relaxed);
        if since != 0 && now >= since.saturating_add(millis(slow_start)) {
            let _ = self.back_since.compare_exchange(since, 0, Relaxed, Relaxed);
        }
    }

    /// The word of its checks; `why` names what a bad one met.
    pub(super) fn checked(&self, well: bool, why: &str, now: Millis) {
        if self.down.swap(!well, Relaxed) != well {
            return;
        }
        if well {
            self.back_since.store(now, Relaxed);
            self.last_back.store(now, Relaxed);
            tracing::info!(app = %self.app, upstream.address = %self.url, "an address of an app is well again");
        } else {
            tracing::warn!(
                app = %self.app,
                upstream.address = %self.url,
                why,
                "an address of an app fails its health checks and gets no requests"
            );
        }
        self.show();
    }

    fn show(&self) {
        let well = !self.is_down() && self.ejected_until.load(Relaxed) == 0;
        self.metrics.healthy.store(i64::from(well), Relaxed);
    }
}

fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The addresses of all apps of the configuration in force, and the tasks that check them.
#[derive(Debug)]
pub struct Health {
    began: Instant,
    addresses: DashMap<(AppName, UpstreamUrl), (Arc<Address>, Arc<Upstream>)>,
    metrics: Arc<Metrics>,
    tls: Arc<TlsConfigs>,
    background: Handle,
    checks: Mutex<Vec<Checking>>,
}

#[derive(Debug)]
struct Checking {
    address: Arc<Address>,
    upstream: Arc<Upstream>,
    host: String,
    task: AbortHandle,
}

impl Drop for Checking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Health {
    #[must_use]
    pub fn new(background: Handle, metrics: Arc<Metrics>, tls: Arc<TlsConfigs>) -> Arc<Self> {
        let health = Arc::new(Self {
            began: Instant::now(),
            addresses: DashMap::new(),
            metrics,
            tls,
            background,
            checks: Mutex::default(),
        });
        let weak = Arc::downgrade(&health);
        health.background.spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            loop {
                ticks.tick().await;
                let Some(health) = weak.upgrade() else { return };
                health.settle(health.now());
            }
        });
        health
    }

    #[must_use]
    pub fn now(&self) -> Millis {
        millis(self.began.elapsed()).max(1)
    }

    /// Follows a configuration that took effect: new addresses are checked, removed ones no longer,
    /// and what is known of those that stay is kept. Requests under way to a removed address end as
    /// they would have; its waiting connections are closed at the threads' next tick.
    pub fn follow(&self, snapshot: &Snapshot) {
        let mut kept = HashSet::new();
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running = std::mem::take(&mut *checks);
        for route in snapshot.routes.iter() {
            for url in &route.upstream.urls {
                let key = (route.app.clone(), url.clone());
                let address = self.keep(&key, &route.upstream);
                kept.insert(key);
                self.check(route, address, &mut running, &mut checks);
            }
        }
        self.addresses.retain(|key, (address, _)| {
            let stays = kept.contains(key);
            if !stays {
                self.metrics.forget_address(&key.0, &key.1.to_string());
                tracing::info!(app = %key.0, upstream.address = %address.url, "an address of an app was removed");
            }
            stays
        });
    }

    fn keep(&self, key: &(AppName, UpstreamUrl), upstream: &Arc<Upstream>) -> Arc<Address> {
        let mut entry = self.addresses.entry(key.clone()).or_insert_with(|| {
            let metrics = self.metrics.address(&key.0, &key.1.to_string());
            (Address::new(&key.0, &key.1, metrics), Arc::clone(upstream))
        });
        entry.1 = Arc::clone(upstream);
        Arc::clone(&entry.0)
    }

    /// Goes on with the task that checks an address, or starts another.
    fn check(&self, route: &Route, address: Arc<Address>, running: &mut Vec<Checking>, checks: &mut Vec<Checking>) {
        let Some(check) = &route.upstream.health else {
            address.is_checked.store(false, Relaxed);
            address.show();
            return;
        };
        if !address.is_checked.swap(true, Relaxed) {
            address.down.store(false, Relaxed);
        }
        let host = match route.hosts.first() {
            Some(host) if route.upstream.preserve_host => host.as_str().to_owned(),
            Some(_) | None => address.url.authority(),
        };
        let same = |c: &Checking| Arc::ptr_eq(&c.address, &address) && *c.upstream == *route.upstream && c.host == host;
        // A CA file may hold other bytes under the same name: `TlsConfigs` has them by now.
        if let Some(at) = running.iter().position(same) {
            checks.push(running.swap_remove(at));
            return;
        }
        let upstream = Arc::clone(&route.upstream);
        let asked = check::Asked { check: check.clone(), host: host.clone(), upstream: Arc::clone(&upstream) };
        let task = check::run(asked, Arc::clone(&address), Arc::clone(&self.tls), self.began);
        let task = self.background.spawn(task).abort_handle();
        checks.push(Checking { address, upstream, host, task });
    }

    /// What is known of an address. One that is in no configuration any more (a request that began
    /// before the reload) starts without a past.
    #[must_use]
    pub fn address(&self, app: &AppName, url: &UpstreamUrl) -> Arc<Address> {
        let found = self.addresses.get(&(app.clone(), url.clone()));
        found.map_or_else(|| Address::new(app, url, Arc::default()), |found| Arc::clone(&found.0))
    }

    fn settle(&self, now: Millis) {
        for entry in &self.addresses {
            let (address, upstream) = entry.value();
            address.settle(now, upstream.slow_start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::host::Scheme;

    const SLOW: Duration = Duration::from_secs(10);

    fn address() -> Arc<Address> {
        let url = UpstreamUrl { scheme: Scheme::Http, host: "10.0.4.11".into(), port: 8080 };
        Address::for_tests(&url)
    }

    fn fails(address: &Address, now: Millis, times: u32) {
        for _ in 0..times {
            address.failed(now, || true);
        }
    }

    #[test]
    fn three_faults_in_a_row_eject_and_an_answer_between_forgives() {
        let it = address();
        fails(&it, 1, 2);
        it.answered();
        fails(&it, 1, 2);
        assert_eq!(it.standing(1, SLOW), Standing::Ready);
        assert!(it.is_calm());
        fails(&it, 1, 1);
        assert_eq!(it.standing(1, SLOW), Standing::Ejected);
        assert!(!it.is_calm());
        assert_eq!(it.metrics.healthy.load(Relaxed), 0);
        assert_eq!(it.metrics.faults.load(Relaxed), 5);
        assert_eq!(it.metrics.ejections.load(Relaxed), 1);
    }

    #[test]
    fn each_ejection_is_longer_until_the_address_has_held_its_place() {
        let it = address();
        let mut now = 1;
        for seconds in [10, 20, 40, 80, 160, 300, 300] {
            fails(&it, now, if now == 1 { FAULTS } else { 1 });
            let over = now + seconds * 1000;
            assert_eq!(it.standing(over - 1, SLOW), Standing::Ejected, "{seconds} s");
            assert_ne!(it.standing(over, SLOW), Standing::Ejected, "{seconds} s");
            now = over;
            it.settle(now, SLOW);
        }
        it.answered();
        now += millis(FORGIVEN);
        fails(&it, now, FAULTS);
        assert_ne!(it.standing(now + 10_000, SLOW), Standing::Ejected, "it starts over with 10 s");
    }

    #[test]
    fn the_last_address_is_never_ejected() {
        let it = address();
        for _ in 0..100 {
            it.failed(1, || false);
        }
        assert_eq!(it.standing(1, SLOW), Standing::Ready);
    }

    #[test]
    fn an_address_that_came_back_gets_its_share_bit_by_bit() {
        let it = address();
        fails(&it, 1, FAULTS);
        let back = 10_001;
        it.settle(back, SLOW);
        assert_eq!(it.standing(back, SLOW), Standing::Warming(100), "never nothing");
        assert_eq!(it.standing(back + 5_000, SLOW), Standing::Warming(500));
        assert_eq!(it.standing(back + 10_000, SLOW), Standing::Ready);
        assert_eq!(it.standing(back, Duration::ZERO), Standing::Ready, "slow_start: 0s");
        assert!(!it.is_calm());
        it.settle(back + 10_000, SLOW);
        assert!(it.is_calm());
    }

    #[test]
    fn the_word_of_the_checks_stands_above_a_guess() {
        let it = address();
        it.checked(false, "503", 1);
        assert_eq!(it.standing(1, SLOW), Standing::Down);
        fails(&it, 1, FAULTS);
        it.settle(20_000, SLOW);
        assert_eq!(it.standing(20_000, SLOW), Standing::Down);
        it.checked(true, "", 20_000);
        assert_eq!(it.standing(20_000, SLOW), Standing::Warming(100));
        assert_eq!(it.metrics.healthy.load(Relaxed), 1);
    }
}
