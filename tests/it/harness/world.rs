//! One gate with everything around it, for one test.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use stepgate::app::{self, Gate, Options};
use stepgate::auth::users::{Draft, FirstPassword, Operator};
use stepgate::base::clock::{Clock, ManualClock, Timestamp};
use stepgate::base::rng::SystemRng;
use stepgate::base::secret::Secret;
use stepgate::config::snapshot::Role;
use stepgate::domain::user::{GroupName, User, UserName};
use stepgate::telemetry::access_log::AccessLogTarget;
use tempfile::TempDir;

use super::app::RecordingApp;
use super::browser::{Browser, Page, Person};

/// Friday, 2026-11-20 12:00:00 UTC.
pub const NOON: i64 = 1_795_176_000;

/// What differs from the plain world: portal `login.test`, app `wiki` on `app.test`.
#[derive(Default)]
pub struct WorldBuilder {
    app: String,
    listen: String,
    main: String,
}

impl WorldBuilder {
    /// A further listener, as one line of the file.
    pub fn listen(mut self, line: &str) -> Self {
        self.listen.push_str(&format!("  - {line}\n"));
        self
    }

    /// Further keys of the main file.
    pub fn main(mut self, yaml: &str) -> Self {
        self.main.push_str(yaml);
        self.main.push('\n');
        self
    }

    /// Further keys of the app `wiki`: rules, identity, allow ... (`require: mfa` unless given).
    pub fn app(mut self, yaml: &str) -> Self {
        self.app.push_str(yaml);
        self.app.push('\n');
        self
    }

    pub fn start(self) -> World {
        let dir = tempfile::tempdir().unwrap();
        let backend = RecordingApp::start();
        self.write(&dir, &backend);
        let clock = ManualClock::at(Timestamp::from_secs(NOON));
        let gate = launch(&dir, &clock);
        let addr = address(&gate, Role::Proxy);
        World { dir, gate: Some(gate), clock, backend, addr }
    }

    fn write(&self, dir: &TempDir, backend: &RecordingApp) {
        let main = format!(
            "version: 1\nlisten:\n  - {{ addr: \"127.0.0.1:0\", role: proxy }}\n  - {{ addr: \"127.0.0.1:0\", role: ops }}\n{}portal: {{ host: login.test, title: Example Corp }}\nstate: {}\ninclude: [apps.d/*.yaml]\n{}",
            self.listen,
            dir.path().join("state").display(),
            self.main,
        );
        std::fs::write(dir.path().join("stepgate.yaml"), main).unwrap();
        let apps = dir.path().join("apps.d");
        std::fs::create_dir_all(&apps).unwrap();
        let app =
            format!("app: wiki\nhosts: [app.test]\nupstream: {{ urls: [\"http://{}\"] }}\n{}", backend.addr, self.app);
        std::fs::write(apps.join("wiki.yaml"), app).unwrap();
    }
}

fn launch(dir: &TempDir, clock: &Arc<ManualClock>) -> Gate {
    let options = Options {
        threads: Some(2),
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        rng: Arc::new(SystemRng),
        access_log: AccessLogTarget::File(dir.path().join("access.log")),
        inherit_sockets: false,
        signals: false,
        watch_config: false,
        lock: None,
    };
    app::start(&dir.path().join("stepgate.yaml"), options).unwrap_or_else(|e| panic!("{e}: {e:?}"))
}

fn address(gate: &Gate, role: Role) -> SocketAddr {
    gate.addresses().iter().find(|(r, _)| *r == role).map(|(_, a)| *a).unwrap()
}

pub struct World {
    dir: TempDir,
    gate: Option<Gate>,
    pub clock: Arc<ManualClock>,
    pub backend: RecordingApp,
    pub addr: SocketAddr,
}

impl World {
    #[expect(clippy::new_ret_no_self, reason = "`World::new()...start()` reads as the story begins")]
    pub fn new() -> WorldBuilder {
        WorldBuilder::default()
    }

    pub fn gate(&self) -> &Gate {
        self.gate.as_ref().unwrap()
    }

    pub fn ops(&self) -> SocketAddr {
        address(self.gate(), Role::Ops)
    }

    pub fn redirect(&self) -> SocketAddr {
        address(self.gate(), Role::Redirect)
    }

    /// The last proxy listener of the file: the one that a test added.
    pub fn other_proxy(&self) -> SocketAddr {
        self.gate().addresses().iter().rev().find(|(r, _)| *r == Role::Proxy).map(|(_, a)| *a).unwrap()
    }

    pub fn app_file(&self) -> PathBuf {
        self.dir.path().join("apps.d/wiki.yaml")
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn wait_clock(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Ends the gate and starts it again on the same state.
    pub fn restart(&mut self) {
        self.gate.take().unwrap().cut();
        let gate = launch(&self.dir, &self.clock);
        self.addr = address(&gate, Role::Proxy);
        self.gate = Some(gate);
    }

    pub fn browser(&self) -> Browser {
        Browser::new(self.addr)
    }

    pub fn program(&self) -> Browser {
        Browser::program(self.addr)
    }

    pub fn on_background<F: Future>(&self, future: F) -> F::Output {
        self.gate().block_on(future).unwrap()
    }

    pub fn operator(&self) -> Operator {
        Operator { account: "tester".into(), now: self.now() }
    }

    /// An account with a password and nothing else: its `first_login` window is open.
    pub fn add_user(&self, name: &str, groups: &[&str]) -> Person {
        let core = self.gate().core();
        let password = format!("{name} walks slowly home");
        let draft = Draft {
            name: UserName::parse(name).unwrap(),
            display: name.to_uppercase(),
            email: Some(format!("{}@corp.example", name.replace(|c: char| !c.is_ascii(), "x"))),
            groups: groups.iter().map(|g| GroupName::parse(g).unwrap()).collect(),
        };
        let first = FirstPassword::Given(Secret::new(password.clone()));
        let snapshot = core.snapshot.load_full();
        self.on_background(core.auth.add_user(&self.operator(), &snapshot, draft, first)).unwrap();
        Person { name: name.into(), password, seed: None }
    }

    /// An account with password and authenticator, ready to sign in.
    pub fn add_person(&self, name: &str, groups: &[&str]) -> Person {
        let mut person = self.add_user(name, groups);
        let core = self.gate().core();
        let user = self.user(name);
        let snapshot = core.snapshot.load_full();
        let operator = self.operator();
        let adding = core.auth.operator_adds_totp(&operator, &snapshot, &user, None);
        let (_, uri) = self.on_background(adding).unwrap();
        person.seed = Some(seed_of(uri.expose()));
        person
    }

    pub fn user(&self, name: &str) -> User {
        let store = self.gate().core().store.clone();
        let name = UserName::parse(name).unwrap();
        self.on_background(async move { store.user_by_name(&name).await }).unwrap().unwrap()
    }

    /// The code that the person's authenticator shows now.
    pub fn code(&self, person: &Person) -> String {
        code_at(person.seed.as_deref().unwrap(), self.now())
    }

    /// Moves the clock so that the authenticator shows a code that was not used yet.
    pub fn next_code(&self, person: &Person) -> String {
        self.wait_clock(Duration::from_secs(30));
        self.code(person)
    }

    /// Opens `url`, signs in with password and code, ends where the gate leads.
    pub fn sign_in(&self, browser: &mut Browser, person: &Person, url: &str) -> Page {
        let page = browser.open(url);
        let page = browser.submit(&page, &[("username", &person.name), ("password", &person.password)]);
        let code = self.next_code(person);
        browser.submit(&page, &[("code", &code)])
    }
}

impl World {
    /// Drains the gate, as SIGTERM does.
    pub fn stop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.stop();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.cut();
        }
    }
}

/// The secret of an `otpauth://` address.
pub fn seed_of(uri: &str) -> String {
    let query = uri.split_once('?').unwrap().1;
    form_urlencoded::parse(query.as_bytes()).find(|(n, _)| n == "secret").unwrap().1.into_owned()
}

/// RFC 6238 with SHA-1, 6 digits, 30 s.
pub fn code_at(seed: &str, at: Timestamp) -> String {
    let key = data_encoding::BASE32_NOPAD.decode(seed.as_bytes()).unwrap();
    let step = u64::try_from(at.as_secs() / 30).unwrap();
    // Written out here, so that the gate's own generator is not judged by itself.
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &key);
    let tag = aws_lc_rs::hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[19] & 0xf);
    let word = u32::from_be_bytes([tag[at], tag[at + 1], tag[at + 2], tag[at + 3]]) & 0x7fff_ffff;
    format!("{:06}", word % 1_000_000)
}
