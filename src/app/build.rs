//! From configuration files to working parts: the one place where everything is put together.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::runtime::Handle;

use super::apply::{self, Beginning, Standing};
use super::state::{IfAbsent, Opened, lock_state, open_state};
use super::{posture, rehearse, reload, tasks};
use crate::auth::Auth;
use crate::base::budget::Budget;
use crate::base::clock::{SharedClock, SystemClock, Timestamp};
use crate::base::rng::{SharedRng, SystemRng};
use crate::config::expect::TestFailure;
use crate::config::snapshot::Listener;
use crate::config::{self, Fault, Snapshot};
use crate::crypto::keyring::KeyRing;
use crate::crypto::{AssertionSigner, KeyRingError, PasswordPool};
use crate::domain::audit::{Action, Actor, AuditEvent, Outcome};
use crate::notify::{Letters, Postman};
use crate::pages::Pages;
use crate::portal::Portal;
use crate::proxy::denials::Denials;
use crate::proxy::headers::forwarded::Via;
use crate::proxy::live::LiveConnections;
use crate::proxy::troubles::Troubles;
use crate::proxy::upstream::health::Health;
use crate::proxy::upstream::places::Places;
use crate::proxy::upstream::tls::{TlsConfigs, TlsSetupError};
use crate::proxy::{JUDGED_BODIES, ProxyShared};
use crate::server::dispatch::EdgeShared;
use crate::server::limits::Connections;
use crate::server::listen::BindError;
use crate::server::ops::Readiness;
use crate::server::tls::{Certificates, TlsError};
use crate::server::unexpected::Notices;
use crate::session::KeptForms;
use crate::session::Sessions;
use crate::store::{Refusal, ServeLock, Store, StoreError, Teller};
use crate::telemetry::access_log::{AccessLog, AccessLogTarget};
use crate::telemetry::metrics::Metrics;

/// What is not in the file: how this process runs.
pub struct Options {
    /// Data threads; one per processor when absent.
    pub threads: Option<usize>,
    pub clock: SharedClock,
    pub rng: SharedRng,
    pub access_log: AccessLogTarget,
    /// Use sockets that systemd passed.
    pub inherit_sockets: bool,
    /// Take signals, which is the whole process's business: not in a test.
    pub signals: bool,
    /// Reload when a file changes.
    pub watch_config: bool,
    /// The right to serve the state, where the caller has taken it already.
    pub lock: Option<ServeLock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: None,
            clock: Arc::new(SystemClock),
            rng: Arc::new(SystemRng),
            access_log: AccessLogTarget::Stdout,
            inherit_sockets: true,
            signals: false,
            watch_config: true,
            lock: None,
        }
    }
}

/// Why the gate did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the configuration has {} to mend:\n{}", count(.0.len(), "fault", "faults"), lines(.0))]
    Config(Vec<Fault>),
    #[error("{} of the policy's own tests failed:\n{}", .0.len(), lines(.0))]
    Tests(Vec<TestFailure>),
    #[error("the state directory {} cannot be used", path.display())]
    State { path: PathBuf, source: io::Error },
    #[error(
        "there is no state at {}: `stepgate serve` makes it, or the first `stepgate user add`; if it should be there, \
         look at `state:` and `store:` in the configuration",
        path.display()
    )]
    NoState { path: PathBuf },
    #[error(
        "the key ring {} is missing, and the database of {} is sealed with it: restore the ring from its backup \
         (a new one would open nothing of what is there)",
        path.display(),
        state.display()
    )]
    KeysLost { path: PathBuf, state: PathBuf },
    #[error(
        "the key ring {} is there since {made}, but its database is not: {database} holds nothing. Restore it from its \
         backup, or look at `state:` and `store:` in the configuration. To begin anew, without accounts and with an \
         empty trail, move the ring away first (mv {0} {0}.old), and keep it as long as backups that it opens",
        path.display()
    )]
    DatabaseLost { path: PathBuf, made: Timestamp, database: String },
    #[error(
        "{} belongs to the account {owner} and is closed to {we}: run this as {owner} (sudo -u {owner} stepgate ...), \
         or give the whole state directory to the account that the gate runs as (chown -R)",
        path.display()
    )]
    NotOurs { path: PathBuf, owner: String, we: String },
    #[error("{why} (the policies that were applied are in {}; `stepgate rollback` takes another one, or `stepgate rollback files`)", state.join("policy").display())]
    Applied { state: PathBuf, why: String },
    #[error("the key ring cannot be used")]
    Keys(#[from] KeyRingError),
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the TLS of an upstream cannot be set up")]
    UpstreamTls(#[from] TlsSetupError),
    #[error("the access log cannot be written")]
    AccessLog(#[source] io::Error),
    #[error("a thread or runtime could not be started")]
    Runtime(#[source] io::Error),
}

impl StartError {
    /// The state or a service cannot be reached, as against a file that has to be mended.
    #[must_use]
    pub fn is_out_of_reach(&self) -> bool {
        match self {
            Self::Store(error) => is_out_of_reach(error),
            Self::State { .. }
            | Self::NoState { .. }
            | Self::KeysLost { .. }
            | Self::DatabaseLost { .. }
            | Self::NotOurs { .. }
            | Self::Applied { .. }
            | Self::Keys(_)
            | Self::Bind(_)
            | Self::AccessLog(_)
            | Self::Runtime(_) => true,
            Self::Config(_) | Self::Tests(_) | Self::Tls(_) | Self::UpstreamTls(_) => false,
        }
    }
}

/// The database does not answer, or is held by another: exit code 3. What somebody has to mend, or
/// has changed meanwhile, is a refusal.
#[must_use]
pub fn is_out_of_reach(error: &StoreError) -> bool {
    match error {
        StoreError::Unavailable(_) | StoreError::Busy | StoreError::Corrupt(_) | StoreError::Ours(_) => true,
        StoreError::Refused(Refusal::AlreadyServed) => true,
        StoreError::Refused(
            Refusal::BadUrl | Refusal::AsynchronousCommit | Refusal::NewerSchema { .. } | Refusal::File(_),
        )
        | StoreError::Conflict
        | StoreError::Unaudited => false,
    }
}

fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn lines<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The parts of a running gate.
pub struct Core {
    pub config_path: PathBuf,
    /// What is in force.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// What the files say, for the posture `normal`.
    pub normal: ArcSwap<Snapshot>,
    pub store: Store,
    pub keys: Arc<KeyRing>,
    pub sessions: Arc<Sessions>,
    pub auth: Arc<Auth>,
    pub proxy: Arc<ProxyShared>,
    pub edge: Arc<EdgeShared>,
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    pub postman: Arc<Postman>,
    pub certificates: Vec<Arc<Certificates>>,
    pub background: Handle,
    pub clock: SharedClock,
    pub rng: SharedRng,
    /// What the files looked like when they were last read; held while a policy is put in force.
    reloading: Mutex<reload::Stamps>,
    /// Which policy is in force. Taken after `reloading` by whoever needs both.
    standing: Mutex<Standing>,
    /// Held for as long as the process serves: a second `serve` on one SQLite state is refused.
    _locks: Vec<ServeLock>,
}

/// Builds everything but the listeners. Blocks on the background runtime.
pub fn build(config: &Path, options: Options, background: &Handle) -> Result<Arc<Core>, StartError> {
    let Options { clock, rng, access_log, lock, .. } = options;
    let mut locks = Vec::from_iter(lock);
    let Beginning { mut snapshot, warnings, standing } = apply::begin(config, clock.now(), |way| {
        // The caller's may be of another directory: the file has the last word on where the state is.
        if !locks.iter().any(|lock| lock.is_of(&way.state)) {
            locks.push(lock_state(&way.store, &way.state)?);
        }
        Ok(())
    })?;
    for warning in warnings.into_iter().chain(config::due(&snapshot, clock.now())) {
        tracing::warn!("{warning}");
    }
    let failed = config::run_tests(&snapshot, clock.now());
    // A machine that starts again at night must serve the policy that it served by day. A reload is refused, for
    // somebody is there who reads why.
    let (by_the_clock, failed) = config::fail_by_the_clock(&snapshot, failed, clock.now());
    if !failed.is_empty() {
        return Err(StartError::Tests(failed));
    }
    for failure in by_the_clock {
        tracing::error!(
            "a test of the policy fails at this hour and passes at another, so the gate starts; give it a `time:`: {failure}"
        );
    }
    snapshot.generation = 1;
    let certificates = rehearse::certificates(&snapshot)?;
    for warning in rehearse::names_without_certificate(&snapshot, &certificates) {
        tracing::warn!("{warning}");
    }
    rehearse::warn_of_open_keys(&certificates);
    for certificates in &certificates {
        tasks::say_certificates(certificates, "certificates are in force");
        rehearse::warn_of_ends(certificates, clock.now());
    }
    // The caller's may be of another directory: the file has the last word on where the state is.
    if !locks.iter().any(|lock| lock.is_of(&snapshot.state)) {
        locks.push(lock_state(&snapshot.store, &snapshot.state)?);
    }
    let opened = background.block_on(open_state(&snapshot, IfAbsent::Make, clock.now(), &*rng))?;
    let Opened { keys, store, keys_created } = opened;

    let now = clock.now();
    let metrics = Metrics::new();
    metrics.show_events(store.counts());
    tasks::show_ends(&metrics, &certificates);
    metrics.store_up.store(1, Ordering::Relaxed);
    let readiness = Arc::new(Readiness::default());
    readiness.store(true);
    readiness.config_taken(snapshot.generation, &snapshot.hash, now);
    let (source, confirm_until) = standing.told();
    readiness.policy_of(source, confirm_until);
    record_load(&metrics, now.as_secs());
    metrics.show_policy(snapshot.version());
    metrics.show_apps(snapshot.routes.iter().map(|route| route.app.clone()));
    let access_log = AccessLog::open(&access_log, Arc::clone(&metrics)).map_err(StartError::AccessLog)?;
    let stamps = reload::stamps_of(&snapshot);
    let normal = ArcSwap::from_pointee(snapshot);
    let posture = background.block_on(store.posture())?;
    let in_force = normal.load().under(posture::in_force(posture.as_ref(), now));
    let snapshot = Arc::new(ArcSwap::from_pointee(in_force));
    // Half the processors: a storm of sign-ins must leave room for the apps (PERFORMANCE 5).
    let hashers = (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1);
    let passwords = PasswordPool::new(hashers, Arc::clone(&keys), Arc::clone(&rng));
    let sessions = Sessions::new(store.clone(), Arc::clone(&clock), background.clone(), Arc::clone(&snapshot));
    let auth = Auth::new(store.clone(), Arc::clone(&keys), passwords, Some(Arc::clone(&sessions)), Arc::clone(&rng));
    let pages = Pages::new();
    let letters = Letters::new(
        Arc::clone(&snapshot),
        Arc::clone(&keys),
        Arc::clone(&pages),
        Arc::clone(&rng),
        Some(Arc::clone(&metrics)),
    );
    store.tell_by(Arc::clone(&letters) as Arc<dyn Teller>);
    auth.write_by(letters);
    let postman = Postman::new(store.clone(), Arc::clone(&keys), Arc::clone(&clock), &rng, Arc::clone(&metrics));
    let signer = Arc::new(AssertionSigner::from_ring(&keys));
    let kept = KeptForms::new(store.clone(), Arc::clone(&keys), Arc::clone(&rng));
    let portal =
        Portal::new(Arc::clone(&auth), Arc::clone(&sessions), Arc::clone(&pages), Arc::clone(&kept), signer.jwks());
    let most = Sockets::claim();
    let tls = Arc::new(TlsConfigs::new(background.clone()));
    let proxy = Arc::new(ProxyShared {
        sessions: Arc::clone(&sessions),
        keys: Arc::clone(&keys),
        signer,
        pages: Arc::clone(&pages),
        metrics: Arc::clone(&metrics),
        access_log: Arc::clone(&access_log),
        denials: Denials::start(store.clone(), background, Arc::clone(&metrics)),
        background: background.clone(),
        rng: Arc::clone(&rng),
        clock: Arc::clone(&clock),
        live: LiveConnections::new(),
        health: Health::new(background.clone(), Arc::clone(&metrics), Arc::clone(&tls)),
        troubles: Troubles::start(background),
        tls,
        places: Places::new(most.upstreams),
        via: Via::new(&*rng),
        bound_names: Default::default(),
        kept,
        judged_bodies: Budget::new(JUDGED_BODIES),
    });
    proxy.prepare(&snapshot.load())?;
    proxy.follow(&snapshot.load());
    let edge = Arc::new(EdgeShared {
        snapshot: Arc::clone(&snapshot),
        proxy: Arc::clone(&proxy),
        portal,
        pages,
        metrics: Arc::clone(&metrics),
        access_log,
        readiness: Arc::clone(&readiness),
        connections: Connections::new(most.clients, most.upstreams),
        notices: Notices::default(),
        background: background.clone(),
        clock: Arc::clone(&clock),
        rng: Arc::clone(&rng),
    });
    let mut events = vec![AuditEvent::new(now, Actor::System, Action::Start, Outcome::Success, "The gate started.")];
    if keys_created {
        let reason = "A new key ring was made in the state directory.";
        events.push(AuditEvent::new(now, Actor::System, Action::KeysCreate, Outcome::Success, reason));
    }
    background.block_on(store.audit_only(&events))?;
    let core = Arc::new(Core {
        config_path: config.to_owned(),
        snapshot,
        normal,
        store,
        keys,
        sessions,
        auth,
        proxy,
        edge,
        metrics,
        readiness,
        postman,
        certificates,
        background: background.clone(),
        clock,
        rng,
        reloading: Mutex::new(stamps),
        standing: Mutex::new(standing),
        _locks: locks,
    });
    posture::show(&core, posture.as_ref(), now);
    Ok(core)
}

impl Core {
    /// The right to put a policy in force.
    pub(super) fn hold(&self) -> MutexGuard<'_, reload::Stamps> {
        self.reloading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which policy that is.
    pub(super) fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The TLS configuration of a listener; each directory is read once, however many listen with it.
    pub(super) fn tls_for(&self, listener: &Listener) -> Result<Option<Arc<ServerConfig>>, TlsError> {
        let Some(files) = &listener.tls else { return Ok(None) };
        let found = self.certificates.iter().find(|c| c.source() == files.certificates);
        found.map(Certificates::server_config).transpose()
    }
}

fn record_load(metrics: &Metrics, at_secs: i64) {
    use std::sync::atomic::Ordering::Relaxed;
    metrics.last_reload_success.store(1, Relaxed);
    metrics.last_reload_at_secs.store(at_secs, Relaxed);
    metrics.config_generation.store(1, Relaxed);
    metrics.last_certificate_reload_success.store(1, Relaxed);
}

/// How many sockets may be open.
struct Sockets {
    clients: usize,
    upstreams: usize,
}

impl Sockets {
    /// 80 % of the descriptors, after raising the soft limit to the hard one: 50 for clients and 30 for
    /// upstreams, so that neither takes the other's; the rest is for the store and files.
    fn claim() -> Self {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        const FALLBACK: u64 = 1024;
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((FALLBACK, FALLBACK));
        let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard);
        let tenths = |n: u64| usize::try_from(raised / 10 * n).unwrap_or(usize::MAX);
        Self { clients: tenths(5), upstreams: tenths(3) }
    }
}
