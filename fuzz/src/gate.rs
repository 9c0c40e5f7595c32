//! One gate in this process, and connections to it that end when their input does.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use stepgate::app::{self, Options};
use stepgate::base::clock::{Clock, ManualClock, Timestamp};
use stepgate::base::ids::UserId;
use stepgate::base::net::ClientIp;
use stepgate::base::rng::{SeededRng, SharedRng};
use stepgate::config::Snapshot;
use stepgate::crypto::KeyRing;
use stepgate::domain::audit::{Action, Actor, AuditEvent, Outcome};
use stepgate::domain::authn::Authn;
use stepgate::domain::factor::{FactorKind, FactorUse};
use stepgate::domain::host::{HostName, Scheme};
use stepgate::domain::user::UserName;
use stepgate::proxy::ConnMemory;
use stepgate::server::conn::{self, Answer, ConnInfo, Stream};
use stepgate::server::dispatch::{Edge, EdgeShared};
use stepgate::server::room::Room;
use stepgate::session::issue::{self, NewSession};
use stepgate::session::{Lookup, cookie};
use stepgate::store::NewUser;
use stepgate::telemetry::access_log::AccessLogTarget;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::{data_thread, on_a_data_thread};

pub const HOST: &str = "app.example";
const NOON: i64 = 1_795_176_000;

/// Longer than anything takes whose peer is gone.
const PATIENCE: Duration = Duration::from_secs(8);
/// So many looks at all sockets without anything new, and the gate has no more to say.
const QUIET: u32 = 48;

pub struct Gate {
    pub app: App,
    edge: Arc<EdgeShared>,
    /// `name=value` of somebody who has shown a password.
    pub cookie: String,
    pub ann: Authn,
    pub now: Timestamp,
    _running: app::Gate,
    _state: tempfile::TempDir,
}

/// `/pub` is open to read, but for what is below `/pub/admin`; the rest asks for a password.
fn configuration(app: std::net::SocketAddr, state: &std::path::Path) -> String {
    format!(
        "version: 1\nlisten: [{{ addr: \"127.0.0.1:0\", role: proxy }}]\nportal: {{ host: login.example, title: T }}\n\
         trusted_proxies: [10.0.0.0/8]\nstate: {}\napps:\n- app: wiki\n  hosts: [{HOST}]\n  \
         upstream: {{ urls: [\"http://{app}\"] }}\n  identity: {{ headers: [remote-user] }}\n  require: password\n  \
         rules:\n  - {{ name: closed, match: {{ path: /pub/admin/** }}, deny: Closed. }}\n  \
         - {{ name: fixed, match: {{ path: /pub/**, methods: [PUT, PATCH, DELETE] }}, deny: For reading. }}\n  \
         - {{ name: open, match: {{ path: /pub/** }}, allow: [anyone], require: none }}\n",
        state.display()
    )
}

impl Gate {
    /// The one of this process. A panic anywhere ends the process: tasks would swallow it.
    pub fn get() -> &'static Self {
        thread_local! {
            static GATE: &'static Gate = Box::leak(Box::new(Gate::start()));
        }
        GATE.with(|gate| *gate)
    }

    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (socket, addr) = App::socket();
        let file = dir.path().join("stepgate.yaml");
        std::fs::write(&file, configuration(addr, &dir.path().join("state"))).expect("a file");
        let clock = ManualClock::at(Timestamp::from_secs(NOON));
        let rng: SharedRng = SeededRng::new(7);
        let options = Options {
            threads: Some(1),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            rng: Arc::clone(&rng),
            access_log: AccessLogTarget::Off,
            inherit_sockets: false,
            watch_config: false,
            lock: None,
            signals: false,
        };
        let running = app::start(&file, options).unwrap_or_else(|e| panic!("{e}: {e:?}"));
        let core = Arc::clone(running.core());
        let (cookie, ann) = running.block_on(signed_in(Arc::clone(&core))).expect("a runtime");
        let given = &core.edge;
        let edge = Arc::new(EdgeShared {
            snapshot: Arc::clone(&given.snapshot),
            proxy: Arc::clone(&given.proxy),
            portal: Arc::clone(&given.portal),
            pages: Arc::clone(&given.pages),
            metrics: Arc::clone(&given.metrics),
            access_log: Arc::clone(&given.access_log),
            readiness: Arc::clone(&given.readiness),
            connections: Arc::clone(&given.connections),
            notices: Default::default(),
            background: data_thread(),
            clock: Arc::clone(&given.clock),
            rng: Arc::clone(&given.rng),
        });
        let app = on_a_data_thread(async {
            // A write to a closed socket is an error, as in the product: Rust's own start, which
            // libFuzzer takes the place of, sees to it there.
            drop(tokio::signal::unix::signal(tokio::signal::unix::SignalKind::pipe()).expect("a signal"));
            App::start(socket)
        });
        Self { app, edge, cookie, ann, now: clock.now(), _running: running, _state: dir }
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.edge.snapshot.load_full()
    }

    pub fn keys(&self) -> &KeyRing {
        &self.edge.proxy.keys
    }

    /// How many requests the policy has let through so far.
    pub fn allowed(&self) -> u64 {
        let text = self.edge.metrics.render();
        let lines = text.lines().filter(|l| l.contains("verdict=\"allow\"") && !l.starts_with('#'));
        let counts: Vec<u64> = lines.filter_map(|l| l.rsplit(' ').next()?.parse().ok()).collect();
        assert!(counts.len() <= 1, "{text}");
        counts.first().copied().unwrap_or(0)
    }

    /// One connection: `pieces` are sent one after the other, each when the gate has no more to say
    /// to the one before. Returns what came back, once the gate and the app have let go of it.
    pub async fn serve(
        &self,
        stream: Stream,
        mut client: impl AsyncRead + AsyncWrite + Unpin,
        from: &str,
        pieces: &[&[u8]],
    ) -> Vec<u8> {
        let edge = Rc::new(Edge::new(Arc::clone(&self.edge)));
        let steps: Rc<Cell<u64>> = Rc::default();
        let answer: Answer<_> = {
            let (edge, steps) = (Rc::clone(&edge), Rc::clone(&steps));
            Rc::new(move |conn, request| {
                let (edge, steps) = (Rc::clone(&edge), Rc::clone(&steps));
                Box::pin(async move {
                    let answer = edge.dispatch(&conn, request).await;
                    steps.set(steps.get() + 1);
                    answer
                })
            })
        };
        let peer: SocketAddr = from.parse().expect("an address");
        let place = self.edge.connections.admit(ClientIp::new(peer.ip()), false).expect("a place");
        let requests = place.requests().expect("it is counted");
        // Each request under way holds one.
        let holders = Arc::strong_count(&requests);
        let info = ConnInfo {
            peer,
            local: "127.0.0.1:443".parse().expect("an address"),
            scheme: Scheme::Https,
            fields_may_tell: true,
            requests: Some(Arc::clone(&requests)),
            kept: false,
            room: Room::default(),
            memory: ConnMemory::default(),
        };
        let serving = tokio::task::spawn_local(conn::serve(stream, info, answer, CancellationToken::new()));
        let mut answers = Vec::new();
        let mut sent: Vec<u8> = Vec::new();
        let mut writable = true;
        for piece in pieces {
            sent.extend_from_slice(piece);
            let (mut seen, mut quiet) = (0, 0);
            while quiet < QUIET {
                quiet += 1;
                tokio::task::yield_now().await;
                if !sent.is_empty() && writable {
                    match now(client.write(&sent)).await {
                        Some(Ok(n)) => {
                            sent.drain(..n);
                            quiet = 0;
                        }
                        Some(Err(_)) => writable = false,
                        None => {}
                    }
                }
                if let Some(Ok(1..)) = now(client.read_buf(&mut answers)).await {
                    quiet = 0;
                }
                let steps = self.app.steps() + steps.get();
                if std::mem::replace(&mut seen, steps) != steps {
                    quiet = 0;
                }
            }
        }
        let _ = client.shutdown().await;
        let ended = tokio::time::timeout(PATIENCE, async {
            // Read on, as a peer that closed its side does; a full buffer would be the peer's own fault.
            let mut sink = Vec::new();
            let _ = client.read_to_end(&mut sink).await;
            answers.append(&mut sink);
            drop(client);
            let _ = serving.await;
            drop(edge);
            while self.app.open() > 0 {
                tokio::task::yield_now().await;
            }
        });
        assert!(ended.await.is_ok(), "the peer is gone and the connection is still there");
        assert_eq!(Arc::strong_count(&requests), holders, "a request takes its place for ever");
        answers
    }
}

/// What a future has ready at once.
async fn now<F: Future>(future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

/// Ann, with a session at the app that is in memory already.
async fn signed_in(core: Arc<app::Core>) -> (String, Authn) {
    let now = core.clock.now();
    let user = UserId::new(now, &*core.rng);
    let name = UserName::parse("ann").expect("a name");
    let mut tx = core.store.begin().await.expect("a store");
    let new = NewUser {
        id: user,
        name,
        display: "Ann Example".into(),
        email: None,
        groups: Vec::new(),
        first_login_until: None,
        now,
    };
    assert!(tx.insert_user(&new).await.expect("a store"));
    let kind = FactorKind::Password;
    let evidence = [FactorUse {
        kind,
        at: now,
        phishing_resistant: false,
        user_verified: false,
        credential: None,
        remembered: false,
    }];
    let host = HostName::parse(HOST.as_bytes(), Scheme::Https).expect("a host");
    let new =
        NewSession { user, epoch: 0, address: "192.0.2.7", user_agent: "Firefox", evidence: &evidence, host: &host };
    let limits = core.snapshot.load().sessions.clone();
    let opened = issue::open(&mut tx, &new, &limits, now, &*core.rng).await.expect("a session");
    let event = AuditEvent::new(now, Actor::System, Action::SignIn, Outcome::Success, "fuzz");
    tx.commit(&[event]).await.expect("a store");
    let set = cookie::set_cookie(&opened.token, &host, &core.keys, now, Duration::from_secs(3600));
    let cookie = set.to_str().expect("text").split(';').next().expect("a pair").to_owned();
    match core.sessions.load(opened.token, now).await.expect("a store") {
        Lookup::Live(live) => (cookie, Authn::Known(Arc::clone(&live.authn))),
        _ => panic!("the session that was just opened is gone"),
    }
}
