//! One gate with one app behind it, over real sockets: the app records every byte it is sent and
//! answers as the story says; clients write raw bytes, so that they may say anything.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::{HeaderName, Method};
use hyper_util::rt::{TokioIo, TokioTimer};
use stepgate::base::budget::Budget;
use stepgate::base::clock::{Clock, ManualClock, Timestamp};
use stepgate::base::ids::{RequestId, SessionId, UserId};
use stepgate::base::net::{ClientIp, NetworkSet};
use stepgate::base::rng::SystemRng;
use stepgate::config::Snapshot;
use stepgate::config::snapshot::{FactorSettings, Portal, SessionLimits, StoreSettings};
use stepgate::crypto::KeyRing;
use stepgate::crypto::assertion::AssertionSigner;
use stepgate::crypto::chain::ChainKey;
use stepgate::domain::audit::{Action, Actor, AuditEvent, Outcome as Result_};
use stepgate::domain::factor::{FactorKind, FactorUse};
use stepgate::domain::host::{HostName, Scheme};
use stepgate::domain::level::{Level, LevelName, Requirement};
use stepgate::domain::path::PathForms;
use stepgate::domain::policy::matcher::Matcher;
use stepgate::domain::policy::pattern::PathPattern;
use stepgate::domain::policy::rule::Place;
use stepgate::domain::policy::{Allow, KEEP_BODY, Outcome, Policy, Rule, RuleName, Who};
use stepgate::domain::route::{AppLimits, AppName, Identity, IdentityValue, JUDGE_BODY, Route, RouteTable};
use stepgate::domain::upstream::{Upstream, UpstreamUrl};
use stepgate::domain::user::{GroupName, UserName};
use stepgate::pages::Pages;
use stepgate::proxy::denials::Denials;
use stepgate::proxy::headers::forwarded::Via;
use stepgate::proxy::headers::strip;
use stepgate::proxy::live::LiveConnections;
use stepgate::proxy::troubles::Troubles;
use stepgate::proxy::upstream::health::Health;
use stepgate::proxy::upstream::places::Places;
use stepgate::proxy::upstream::tls::TlsConfigs;
use stepgate::proxy::{Inbound, JUDGED_BODIES, LocalPools, ProxyShared};
use stepgate::session::issue::{self, NewSession};
use stepgate::session::{KeptForms, Sessions, cookie};
use stepgate::store::{NewUser, Store};
use stepgate::telemetry::access_log::{AccessLog, AccessLogTarget};
use stepgate::telemetry::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

pub const HOST: &str = "app.example";
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a story on one thread, as a data thread of the gate runs.
pub fn story<F: Future>(told: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, told)
}

/// Waits for something that must happen; fails when it does not.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// Looks again and again until it holds.
pub async fn eventually(mut holds: impl FnMut() -> bool) {
    soon(async {
        while !holds() {
            between_looks().await;
        }
    })
    .await;
}

/// Leaves the one processor of a story to those who are looked at. No result hangs on its length:
/// the look decides, and [`soon`] says how long at most.
pub async fn between_looks() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

// --- the app -------------------------------------------------------------------------------------

/// One request as the app received it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which of the app's connections it came on, counted from 0.
    pub connection: usize,
    pub head: String,
    /// As on the wire, chunk framing included.
    pub body: Vec<u8>,
    /// The message came to its end.
    pub whole: bool,
}

impl Seen {
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    pub fn values(&self, name: &str) -> Vec<&str> {
        values(&self.head, name)
    }
}

fn values<'h>(head: &'h str, name: &str) -> Vec<&'h str> {
    let fields = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
    fields.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim()).collect()
}

/// What the app does with a request.
pub enum Reply {
    /// These bytes, and the connection stays.
    Say(String),
    /// These bytes, and the connection ends.
    SayAndClose(String),
    Vanish,
    /// Nothing, for as long as the gate waits.
    Hang,
    /// Bytes as the story sends them.
    Stream(mpsc::UnboundedReceiver<Vec<u8>>),
    /// 101 with the right accept value for the example key of RFC 6455, then every byte comes back.
    Echo,
}

pub fn ok(body: &str) -> Reply {
    Reply::Say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

type Script = Rc<dyn Fn(&Seen) -> Reply>;

pub struct App {
    pub addr: SocketAddr,
    seen: Rc<RefCell<Vec<Seen>>>,
    connections: Rc<Cell<usize>>,
    open: Rc<Cell<usize>>,
}

impl App {
    pub async fn start(script: impl Fn(&Seen) -> Reply + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (seen, connections) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(0)));
        let script: Script = Rc::new(script);
        let (all, count) = (Rc::clone(&seen), Rc::clone(&connections));
        let open: Rc<Cell<usize>> = Rc::default();
        let opened = Rc::clone(&open);
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.replace(count.get() + 1);
                let (all, script, open) = (Rc::clone(&all), Rc::clone(&script), Rc::clone(&opened));
                open.set(open.get() + 1);
                tokio::task::spawn_local(async move {
                    serve_app(stream, number, all, script).await;
                    open.set(open.get() - 1);
                });
            }
        });
        Self { addr, seen, connections, open }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    pub fn last(&self) -> Seen {
        self.seen.borrow().last().cloned().expect("the app was asked")
    }

    pub fn connections(&self) -> usize {
        self.connections.get()
    }

    /// Those that nobody closed yet.
    pub fn open(&self) -> usize {
        self.open.get()
    }
}

async fn serve_app(mut stream: TcpStream, connection: usize, all: Rc<RefCell<Vec<Seen>>>, script: Script) {
    let mut buffer = Vec::new();
    loop {
        let Some(end) = read_until(&mut stream, &mut buffer, b"\r\n\r\n").await else { return };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end);
        let length = values(&head, "content-length").first().and_then(|v| v.parse::<usize>().ok());
        let chunked = !values(&head, "transfer-encoding").is_empty();
        let end = if chunked {
            read_until(&mut stream, &mut buffer, b"0\r\n\r\n").await
        } else {
            read_exactly(&mut stream, &mut buffer, length.unwrap_or(0)).await
        };
        let whole = end.is_some();
        let body: Vec<u8> = buffer.drain(..end.unwrap_or(buffer.len())).collect();
        let seen = Seen { connection, head, body, whole };
        all.borrow_mut().push(seen.clone());
        if !whole {
            return;
        }
        match script(&seen) {
            Reply::Say(text) => stream.write_all(text.as_bytes()).await.unwrap(),
            Reply::SayAndClose(text) => return stream.write_all(text.as_bytes()).await.unwrap(),
            Reply::Vanish => return,
            Reply::Hang => {
                let _ = stream.read(&mut [0; 64]).await;
                return;
            }
            Reply::Stream(mut pieces) => {
                while let Some(piece) = pieces.recv().await {
                    if stream.write_all(&piece).await.is_err() {
                        return;
                    }
                }
                return;
            }
            Reply::Echo => {
                let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                return;
            }
        }
    }
}

async fn read_until(stream: &mut TcpStream, buffer: &mut Vec<u8>, end: &[u8]) -> Option<usize> {
    loop {
        if let Some(at) = buffer.windows(end.len()).position(|w| w == end) {
            return Some(at + end.len());
        }
        if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

async fn read_exactly(stream: &mut TcpStream, buffer: &mut Vec<u8>, length: usize) -> Option<usize> {
    while buffer.len() < length {
        if stream.read_buf(buffer).await.unwrap_or(0) == 0 {
            return None;
        }
    }
    Some(length)
}

// --- the policy ----------------------------------------------------------------------------------

pub fn level(name: &str, factors: u8, minutes: u64) -> Arc<Level> {
    let max_age = Some(Duration::from_secs(minutes * 60));
    let requirement =
        Requirement { factors, max_age, phishing_resistant: false, user_verified: false, kinds: None, remember: None };
    Arc::new(Level { name: LevelName::new(name), requirement, grace: None })
}

pub fn anyone() -> Allow {
    Allow(vec![Who::Anyone])
}

pub fn public() -> Outcome {
    Outcome::Public { allow: anyone() }
}

pub fn needs(level: &Arc<Level>) -> Outcome {
    Outcome::Require { allow: anyone(), level: Arc::clone(level) }
}

pub fn place() -> Place {
    Place { file: "apps.d/wiki.yaml".into(), line: 1, column: 1 }
}

pub fn rule(name: &str, glob: &str, methods: &[Method], outcome: Outcome) -> Rule {
    let paths = vec![PathPattern::glob(glob, PathForms::default()).unwrap()];
    let matcher = Matcher { paths, methods: methods.to_vec(), ..Matcher::default() };
    let name = RuleName::new(name);
    Rule {
        name,
        place: place(),
        matcher,
        outcome,
        answer: None,
        shadow: false,
        keep_body: KEEP_BODY,
        stays_open: false,
    }
}

pub fn policy(rules: Vec<Rule>) -> Policy {
    Policy::new(rules, needs(&level("password", 1, 600)), place(), PathForms::default())
}

/// `/pub/**` is public, everything else wants a password.
pub fn plain_policy() -> Policy {
    policy(vec![rule("open", "/pub/**", &[], public())])
}

pub fn remote_user() -> Identity {
    let header = HeaderName::from_static;
    Identity {
        headers: vec![
            (header("remote-user"), IdentityValue::User),
            (header("remote-groups"), IdentityValue::Groups { separator: ',' }),
            (header("remote-name"), IdentityValue::Name),
            (header("remote-email"), IdentityValue::Email),
        ],
        ..Identity::default()
    }
}

pub fn upstream(urls: &[SocketAddr]) -> Upstream {
    let url = |addr: &SocketAddr| UpstreamUrl { scheme: Scheme::Http, host: addr.ip().to_string(), port: addr.port() };
    Upstream::at(urls.iter().map(url).collect())
}

pub fn route(app: SocketAddr) -> Route {
    Route {
        app: AppName::new("wiki"),
        title: "Wiki".into(),
        hosts: vec![HostName::parse(HOST.as_bytes(), Scheme::Https).unwrap()],
        upstream: Arc::new(upstream(&[app])),
        identity: remote_user(),
        policy: plain_policy(),
        limits: AppLimits { max_body: 1 << 20, judge_body: JUDGE_BODY },
        websocket_origins: Vec::new(),
        harden: Default::default(),
        trusted_origins: Vec::new(),
        cookie_domains: Vec::new(),
        app_cookies: Default::default(),
        tunnel_idle: Duration::from_secs(600),
    }
}

fn snapshot(state: &Path, route: Route) -> Snapshot {
    let minutes = |n: u64| Duration::from_secs(n * 60);
    Snapshot {
        generation: 1,
        hash: String::new(),
        listeners: Vec::new(),
        trusted_proxies: NetworkSet::default(),
        portal: Some(Portal { host: HostName::parse(b"login.example", Scheme::Https).unwrap(), scheme: Scheme::Https }),
        title: "Example".into(),
        help: None,
        routes: RouteTable::new(vec![Arc::new(route)]),
        levels: Vec::new(),
        posture: Default::default(),
        postures: Default::default(),
        sessions: SessionLimits { idle: minutes(15), max: minutes(600), per_user: 10 },
        factors: FactorSettings {
            totp_digits: 6,
            totp_period: Duration::from_secs(30),
            totp_drift: 1,
            hotp_look_ahead: 5,
            hotp_enroll: false,
            backup_codes: 10,
            email_codes: false,
            sms_codes: false,
            sms_enroll: false,
            first_login: minutes(1440),
            password_min: 8,
            passkeys: true,
            key_after_code: false,
        },
        state: state.to_owned(),
        smtp: None,
        sms: None,
        store: StoreSettings::Sqlite,
        keys: None,
        admin: Vec::new(),
        tests: Vec::new(),
        files: Vec::new(),
        watch: true,
    }
}

// --- the gate ------------------------------------------------------------------------------------

pub struct World {
    pub addr: SocketAddr,
    /// Speaks HTTP/2, without asking first.
    pub h2_addr: SocketAddr,
    pub app: App,
    pub shared: Arc<ProxyShared>,
    pub store: Store,
    pub clock: Arc<ManualClock>,
    pub metrics: Arc<Metrics>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    dir: tempfile::TempDir,
}

/// Somebody who is signed in at the app's host.
pub struct Person {
    pub user: UserId,
    pub session: SessionId,
    pub cookie: String,
}

impl World {
    /// The plain policy, and an app that answers everything with `ok`.
    pub async fn plain() -> Self {
        Self::of(App::start(|_| ok("ok")).await, |_| {}).await
    }

    pub async fn of(app: App, change: impl FnOnce(&mut Route)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(Timestamp::from_secs(1_795_000_000));
        let store = Store::open(&StoreSettings::Sqlite, dir.path(), ChainKey::new([7; 32])).await.unwrap();
        let mut route = route(app.addr);
        change(&mut route);
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot(dir.path(), route)));
        let background = tokio::runtime::Handle::current();
        let keys = Arc::new(KeyRing::ephemeral(&SystemRng));
        let metrics = Metrics::new();
        let sessions = Sessions::new(store.clone(), clock.clone(), background.clone(), Arc::clone(&snapshot));
        let tls = Arc::new(TlsConfigs::new(background.clone()));
        let shared = Arc::new(ProxyShared {
            kept: KeptForms::new(store.clone(), Arc::clone(&keys), Arc::new(SystemRng)),
            judged_bodies: Budget::new(JUDGED_BODIES),
            sessions,
            signer: Arc::new(AssertionSigner::from_ring(&keys)),
            keys,
            pages: Pages::new(),
            metrics: Arc::clone(&metrics),
            access_log: AccessLog::open(&AccessLogTarget::Off, Arc::clone(&metrics)).unwrap(),
            denials: Denials::start(store.clone(), &background, Arc::clone(&metrics)),
            health: Health::new(background.clone(), Arc::clone(&metrics), Arc::clone(&tls)),
            troubles: Troubles::start(&background),
            tls,
            places: Places::new(1000),
            background,
            rng: Arc::new(SystemRng),
            clock: clock.clone(),
            live: LiveConnections::new(),
            via: Via::new(&SystemRng),
            bound_names: Default::default(),
        });
        shared.follow(&snapshot.load());
        let pools = LocalPools::new();
        let door = async |http2| {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            let (gate, pools) = (Arc::clone(&shared), Rc::clone(&pools));
            let (now, policies) = (Arc::clone(&clock), Arc::clone(&snapshot));
            tokio::task::spawn_local(async move {
                while let Ok((stream, peer)) = listener.accept().await {
                    let (gate, pools) = (Arc::clone(&gate), Rc::clone(&pools));
                    let (clock, policies) = (Arc::clone(&now), Arc::clone(&policies));
                    tokio::task::spawn_local(serve_gate(stream, peer, gate, pools, clock, policies, http2));
                }
            });
            addr
        };
        let (addr, h2_addr) = (door(false).await, door(true).await);
        Self { addr, h2_addr, app, shared, store, clock, metrics, snapshot, dir }
    }

    /// A reload: another policy takes effect, and what runs is judged by it.
    pub fn reload(&self, change: impl FnOnce(&mut Route)) {
        let mut next = route(self.app.addr);
        change(&mut next);
        let generation = self.snapshot.load().generation + 1;
        self.snapshot.store(Arc::new(Snapshot { generation, ..snapshot(self.dir.path(), next) }));
        self.shared.prepare(&self.snapshot.load()).unwrap();
        self.shared.follow(&self.snapshot.load());
        self.shared.rejudge(&self.snapshot.load());
    }

    pub async fn signs_in(&self, name: &str) -> Person {
        self.signs_in_as(name, &["staff"], None).await
    }

    pub async fn signs_in_as(&self, name: &str, groups: &[&str], email: Option<&str>) -> Person {
        let now = self.clock.now();
        let user = UserId::new(now, &SystemRng);
        let mut tx = self.store.begin().await.unwrap();
        let new = NewUser {
            id: user,
            name: UserName::parse(name).unwrap(),
            display: format!("{name} Example"),
            email: email.map(str::to_owned),
            groups: groups.iter().map(|g| GroupName::parse(g).unwrap()).collect(),
            first_login_until: None,
            now,
        };
        assert!(tx.insert_user(&new).await.unwrap());
        let kind = FactorKind::Password;
        let evidence = [FactorUse {
            kind,
            at: now,
            phishing_resistant: false,
            user_verified: false,
            credential: None,
            remembered: false,
        }];
        let host = HostName::parse(HOST.as_bytes(), Scheme::Https).unwrap();
        let new = NewSession {
            user,
            epoch: 0,
            address: "192.0.2.7",
            user_agent: "Firefox",
            evidence: &evidence,
            host: &host,
        };
        let limits = self.snapshot.load().sessions.clone();
        let opened = issue::open(&mut tx, &new, &limits, now, &SystemRng).await.unwrap();
        let event = AuditEvent::new(now, Actor::System, Action::SignIn, Result_::Success, "test");
        tx.commit(&[event]).await.unwrap();
        let set = cookie::set_cookie(&opened.token, &host, &self.shared.keys, now, Duration::from_secs(3600));
        let cookie = set.to_str().unwrap().split(';').next().unwrap().to_owned();
        Person { user, session: opened.session, cookie }
    }

    pub async fn ends(&self, person: &Person) {
        let now = self.clock.now();
        let mut tx = self.store.begin().await.unwrap();
        assert!(issue::end(&mut tx, person.session, "sign_out", now).await.unwrap());
        let event = AuditEvent::new(now, Actor::System, Action::SignOut, Result_::Success, "test");
        tx.commit(&[event]).await.unwrap();
        self.shared.sessions.poll_revocations().await;
    }

    pub async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.addr).await.unwrap(), buffer: Vec::new() }
    }

    /// One request on a connection of its own. `fields` end in CRLF each.
    pub async fn ask(&self, line: &str, fields: &str, body: &str) -> Answer {
        let mut client = self.connect().await;
        client.write(&format!("{line} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n{body}")).await;
        client.answer(!line.starts_with("HEAD")).await
    }

    pub async fn get(&self, path: &str, fields: &str) -> Answer {
        self.ask(&format!("GET {path}"), fields, "").await
    }

    pub async fn get_as(&self, person: &Person, path: &str) -> Answer {
        self.get(path, &format!("Cookie: {}\r\n", person.cookie)).await
    }
}

async fn serve_gate(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<ProxyShared>,
    pools: Rc<LocalPools>,
    clock: Arc<ManualClock>,
    policies: Arc<ArcSwap<Snapshot>>,
    http2: bool,
) {
    let memory = Rc::new(stepgate::proxy::ConnMemory::default());
    let service = hyper::service::service_fn(move |mut request| {
        let (shared, pools, memory) = (Arc::clone(&shared), Rc::clone(&pools), Rc::clone(&memory));
        let (snapshot, now) = (policies.load_full(), clock.now());
        async move {
            let host = HostName::parse(HOST.as_bytes(), Scheme::Https).unwrap();
            let route = Arc::clone(snapshot.routes.find(&host).expect("the one app"));
            strip::client(http::Request::headers_mut(&mut request), &route.identity);
            let inbound = Inbound {
                id: RequestId::new(now, &SystemRng),
                client: ClientIp::new(peer.ip()),
                peer,
                scheme: Scheme::Https,
                host,
                route,
                snapshot,
                now,
                started: Instant::now(),
            };
            Ok::<_, Infallible>(stepgate::proxy::handle(&shared, &pools, &memory, inbound, request).await)
        }
    });
    if http2 {
        let builder = hyper::server::conn::http2::Builder::new(LocalExecutor);
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        return;
    }
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).half_close(false);
    let _ = builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

/// Runs HTTP/2 streams on the one thread of a story.
#[derive(Clone, Copy)]
pub struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

// --- the client ----------------------------------------------------------------------------------

pub struct Client {
    pub stream: TcpStream,
    pub buffer: Vec<u8>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// The body came to its end as its framing says.
    pub whole: bool,
}

impl Answer {
    pub fn values(&self, name: &str) -> Vec<&str> {
        values(&self.head, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }
}

impl Client {
    pub async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    pub async fn head(&mut self) -> String {
        let end = soon(read_until(&mut self.stream, &mut self.buffer, b"\r\n\r\n")).await.expect("an answer");
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end);
        head
    }

    pub async fn answer(&mut self, has_body: bool) -> Answer {
        let head = self.head().await;
        let status: u16 = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status line");
        let none = !has_body || matches!(status, 100..=199 | 204 | 304);
        let length = values(&head, "content-length").first().and_then(|v| v.parse::<usize>().ok());
        let chunked = !values(&head, "transfer-encoding").is_empty();
        let end = match (none, chunked, length) {
            (true, _, _) => Some(0),
            (false, true, _) => soon(read_until(&mut self.stream, &mut self.buffer, b"0\r\n\r\n")).await,
            (false, false, Some(length)) => soon(read_exactly(&mut self.stream, &mut self.buffer, length)).await,
            (false, false, None) => soon(self.rest()).await,
        };
        let whole = end.is_some();
        let raw: Vec<u8> = self.buffer.drain(..end.unwrap_or(self.buffer.len())).collect();
        let body = if chunked { dechunked(&raw) } else { raw };
        Answer { status, head, body, whole }
    }

    async fn rest(&mut self) -> Option<usize> {
        while self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) > 0 {}
        Some(self.buffer.len())
    }

    /// Everything until the gate closes.
    pub async fn until_closed(&mut self) -> Vec<u8> {
        soon(self.rest()).await;
        std::mem::take(&mut self.buffer)
    }
}

fn dechunked(mut raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(at) = raw.windows(2).position(|w| w == b"\r\n") {
        let size = std::str::from_utf8(&raw[..at]).ok().and_then(|t| usize::from_str_radix(t, 16).ok()).unwrap_or(0);
        let data = raw.get(at + 2..at + 2 + size).unwrap_or_default();
        out.extend_from_slice(data);
        raw = raw.get(at + 4 + size..).unwrap_or_default();
        if size == 0 {
            break;
        }
    }
    out
}
