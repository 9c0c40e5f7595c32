//! Starts the threads, waits for signals, drains, ends.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::build::{self, Core, Options, StartError};
use super::{control, reload, tasks};
use crate::config::snapshot::{Listener, Role};
use crate::domain::audit::{Action, Actor, AuditEvent, Outcome};
use crate::server::balance;
use crate::server::listen::{self, Bound, Inherited};
use crate::server::thread::{self, Door, Work};

/// How long answers may go on once draining began; a second signal cuts them.
const DRAIN: Duration = Duration::from_secs(30);

/// A running gate.
pub struct Gate {
    core: Arc<Core>,
    background: Option<Runtime>,
    threads: Vec<JoinHandle<()>>,
    /// Ops and redirect: ends last, so that `/readyz` says "draining" to the end.
    side: Option<JoinHandle<()>>,
    side_stop: CancellationToken,
    addresses: Vec<(Role, SocketAddr)>,
    drain: CancellationToken,
    cut: CancellationToken,
    signals: Option<Signals>,
}

/// The signals that a service gets. Until they are listened for, each of them kills.
struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn listen(background: &Runtime) -> std::io::Result<Self> {
        let _inside = background.enter();
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }
}

/// Loads the configuration, opens the state and every listener, and begins to serve.
pub fn start(config: &Path, options: Options) -> Result<Gate, StartError> {
    let threads = options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let mut inherited = if options.inherit_sockets { Inherited::from_env() } else { Inherited::default() };
    let background = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("background")
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    let (watch, take_signals) = (options.watch_config, options.signals);
    let core = build::build(config, options, background.handle())?;
    let snapshot = core.snapshot.load_full();
    let bound = listen::bind(&snapshot.listeners, threads, &mut inherited)?;
    for addr in inherited.left() {
        tracing::warn!(%addr, "systemd passed a socket that no listener of the file has: whoever connects there waits for ever");
    }
    let addresses: Vec<_> = bound.iter().map(|b| (b.listener.role, b.addr)).collect();
    let drain = CancellationToken::new();
    let cut = CancellationToken::new();
    let side_stop = CancellationToken::new();
    let (workers, side) = spawn(&core, bound, threads, [&drain, &cut, &side_stop])?;
    tasks::start(&core, &drain);
    control::listen(&core, &drain);
    watchdog(&core.background, &drain);
    if watch {
        reload::watch(&core, &drain);
    }
    // Before anybody is told that it is ready: whoever waits for that may reload or stop it at once.
    let signals = take_signals.then(|| Signals::listen(&background)).transpose().map_err(StartError::Runtime)?;
    for (role, addr) in &addresses {
        // Scripts wait for this line (DESIGN "For scripts").
        tracing::info!(role = name(*role), addr = %addr, "listening");
    }
    notify(&[sd_notify::NotifyState::Ready]);
    Ok(Gate {
        core,
        background: Some(background),
        threads: workers,
        side: Some(side),
        side_stop,
        addresses,
        drain,
        cut,
        signals,
    })
}

/// Proxy listeners go to the data threads, each with a socket of its own; ops and redirect to one
/// small thread beside them, so that a health check is answered when the data threads are busy.
fn spawn(
    core: &Arc<Core>,
    bound: Vec<Bound>,
    threads: usize,
    [drain, cut, side_stop]: [&CancellationToken; 3],
) -> Result<(Vec<JoinHandle<()>>, JoinHandle<()>), StartError> {
    let mut data: Vec<Vec<Door>> = (0..threads).map(|_| Vec::new()).collect();
    let mut side = Vec::new();
    for one in bound {
        let tls = core.tls_for(&one.listener)?;
        for (at, socket) in one.sockets.into_iter().enumerate() {
            let Listener { role, from, proxy_protocol, .. } = one.listener.clone();
            let handed_over = one.inherited;
            let door = Door { socket, local: one.addr, role, tls: tls.clone(), from, proxy_protocol, handed_over };
            match (role, data.get_mut(at)) {
                (Role::Proxy, Some(thread)) => thread.push(door),
                _ => side.push(door),
            }
        }
    }
    let begin = |name: String, doors, desk, drain: &CancellationToken, cut: &CancellationToken| {
        let work = Work { edge: Arc::clone(&core.edge), doors, desk, drain: drain.clone(), cut: cut.clone() };
        std::thread::Builder::new().name(name).spawn(move || thread::run(work)).map_err(StartError::Runtime)
    };
    let data = data.into_iter().zip(balance::desks(threads)).enumerate();
    let data = data.map(|(at, (doors, desk))| begin(format!("data-{at}"), doors, Some(desk), drain, cut));
    Ok((data.collect::<Result<_, _>>()?, begin("side".to_owned(), side, None, side_stop, side_stop)?))
}

impl Gate {
    /// The addresses actually bound, in the order of the file.
    #[must_use]
    pub fn addresses(&self) -> &[(Role, SocketAddr)] {
        &self.addresses
    }

    /// The parts, for tests and for `demo`.
    #[must_use]
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Reads the configuration again; on failure the old one stays in force and the text says why.
    pub fn reload(&self) -> Result<(), String> {
        reload::now(&self.core)
    }

    /// Runs a future on the background runtime, from a thread that is on none.
    pub fn block_on<F: Future>(&self, future: F) -> Option<F::Output> {
        self.background.as_ref().map(|runtime| runtime.block_on(future))
    }

    /// Serves until SIGTERM or SIGINT, then drains; a second signal cuts. SIGHUP reloads. Without
    /// `Options::signals` there is nothing to wait for.
    pub fn run_until_signal(mut self) {
        if let (Some(background), Some(signals)) = (&self.background, self.signals.take()) {
            background.block_on(self.follow(signals));
        }
        self.shut_down();
    }

    async fn follow(&self, Signals { mut term, mut int, mut hup }: Signals) {
        loop {
            tokio::select! {
                _ = hup.recv() => {
                    // Ready again whatever came of it: with the old policy where the new one was refused.
                    notify(&reloading());
                    let core = Arc::clone(&self.core);
                    let _ = tokio::task::spawn_blocking(move || reload::now(&core)).await;
                    notify(&[sd_notify::NotifyState::Ready]);
                }
                _ = term.recv() => break,
                _ = int.recv() => break,
            }
        }
        tracing::info!(seconds = DRAIN.as_secs(), "draining; a second signal cuts what is open");
        notify(&[sd_notify::NotifyState::Stopping]);
        self.core.readiness.draining();
        self.drain.cancel();
        let cut = self.cut.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(DRAIN) => {}
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            cut.cancel();
        });
    }

    /// Ends the gate: open answers may finish, for [`DRAIN`] at most.
    pub fn stop(self) {
        self.core.readiness.draining();
        self.drain.cancel();
        let cut = self.cut.clone();
        if let Some(background) = &self.background {
            background.spawn(async move {
                tokio::time::sleep(DRAIN).await;
                cut.cancel();
            });
        }
        self.shut_down();
    }

    /// Ends the gate at once, as `kill` would for clients; the state is closed properly.
    pub fn cut(self) {
        self.drain.cancel();
        self.cut.cancel();
        self.shut_down();
    }

    fn shut_down(mut self) {
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread had panicked");
            }
        }
        self.side_stop.cancel();
        if let Some(side) = self.side.take() {
            let _ = side.join();
        }
        self.core.edge.access_log.close();
        let Some(background) = self.background.take() else { return };
        let core = Arc::clone(&self.core);
        background.block_on(async move {
            // Activity not yet written down would shorten sessions at the next start.
            core.sessions.flush().await;
            let stop =
                AuditEvent::new(core.clock.now(), Actor::System, Action::Stop, Outcome::Success, "The gate stopped.");
            if let Err(error) = core.store.audit_only(&[stop]).await {
                tracing::warn!(error = %error, "the stop could not be written to the audit trail");
            }
            core.store.close().await;
        });
        background.shutdown_timeout(Duration::from_secs(5));
        tracing::info!("stopped");
    }
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Proxy => "proxy",
        Role::Redirect => "redirect",
        Role::Ops => "ops",
    }
}

/// What `Type=notify-reload` waits for: since when.
fn reloading() -> Vec<sd_notify::NotifyState<'static>> {
    let since = sd_notify::NotifyState::monotonic_usec_now().ok();
    std::iter::once(sd_notify::NotifyState::Reloading).chain(since).collect()
}

/// Tells systemd, where there is one.
fn notify(states: &[sd_notify::NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(error = %error, "systemd was not told");
    }
}

/// Keeps the watchdog of systemd quiet, when the unit asks for one.
fn watchdog(background: &tokio::runtime::Handle, stop: &CancellationToken) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let stop = stop.clone();
    background.spawn(async move {
        let mut ticks = tokio::time::interval(limit / 2);
        loop {
            tokio::select! {
                _ = ticks.tick() => notify(&[sd_notify::NotifyState::Watchdog]),
                () = stop.cancelled() => return,
            }
        }
    });
}
