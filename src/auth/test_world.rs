//! A whole gate's worth of accounts in a temporary directory, with a clock and randomness that
//! tests hold in their hands.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tempfile::TempDir;

use super::factors::TotpKey;
use super::users::{Draft, FirstPassword, Operator};
use super::{Auth, Visit};
use crate::base::clock::{Clock, ManualClock, Timestamp};
use crate::base::ids::RequestId;
use crate::base::net::{ClientIp, NetworkSet};
use crate::base::rng::{SeededRng, SharedRng};
use crate::base::secret::Secret;
use crate::config::snapshot::{FactorSettings, Portal, SessionLimits, Snapshot, StoreSettings};
use crate::crypto::chain::ChainKey;
use crate::crypto::{KeyRing, PasswordPool};
use crate::domain::factor::FactorKind;
use crate::domain::host::{HostName, Scheme};
use crate::domain::level::{Level, LevelName, Requirement};
use crate::domain::path::PathForms;
use crate::domain::policy::rule::Place;
use crate::domain::policy::{Allow, Outcome, Policy, Who};
use crate::domain::route::{AppLimits, AppName, Identity, JUDGE_BODY, Route, RouteTable};
use crate::domain::upstream::{Upstream, UpstreamUrl};
use crate::domain::user::{GroupName, User, UserName};
use crate::session::Sessions;
use crate::store::Store;

/// Long, not on any list, without the person's name.
pub(crate) const PASSWORD: &str = "correct horse battery";

pub(crate) struct World {
    pub auth: Arc<Auth>,
    pub sessions: Arc<Sessions>,
    pub clock: Arc<ManualClock>,
    pub snapshot: Arc<Snapshot>,
    _state: TempDir,
}

impl World {
    pub(crate) async fn with(snapshot: Snapshot) -> Self {
        let state = tempfile::tempdir().expect("a directory");
        let rng: SharedRng = SeededRng::new(42);
        let keys = Arc::new(KeyRing::ephemeral(&*rng));
        let store = Store::open(&StoreSettings::Sqlite, state.path(), ChainKey::new([7; 32])).await.expect("opens");
        let passwords = PasswordPool::new(2, Arc::clone(&keys), Arc::clone(&rng));
        let clock = ManualClock::at(Timestamp::from_secs(1_800_000_000));
        let snapshot = Arc::new(snapshot);
        let shared = Arc::new(ArcSwap::new(Arc::clone(&snapshot)));
        let sessions = Sessions::new(store.clone(), clock.clone(), tokio::runtime::Handle::current(), shared);
        let auth = Auth::new(store, keys, passwords, Some(Arc::clone(&sessions)), rng);
        Self { auth, sessions, clock, snapshot, _state: state }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn later(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }

    pub(crate) fn operator(&self) -> Operator {
        Operator { account: "root".to_owned(), now: self.now() }
    }

    /// A visit from one address.
    pub(crate) fn visit(&self) -> Visit<'_> {
        self.visit_from("203.0.113.9")
    }

    pub(crate) fn visit_from(&self, address: &str) -> Visit<'_> {
        Visit {
            now: self.now(),
            client: ClientIp::new(address.parse().expect("an address")),
            user_agent: Some("Firefox".to_owned()),
            request: RequestId::new(self.now(), &*self.auth.rng),
            snapshot: &self.snapshot,
        }
    }

    /// An account with [`PASSWORD`], its `first_login` window open.
    pub(crate) async fn user(&self, name: &str) -> User {
        let draft = Draft {
            name: UserName::parse(name).expect("a name"),
            display: name.to_owned(),
            email: None,
            groups: vec![GroupName::parse("staff").expect("a group")],
        };
        let password = FirstPassword::Given(Secret::new(PASSWORD.to_owned()));
        let added = self.auth.add_user(&self.operator(), &self.snapshot, draft, password).await;
        added.expect("added").0
    }

    /// An account with an authenticator app; the key is the phone's.
    pub(crate) async fn user_with_phone(&self, name: &str) -> (User, TotpKey) {
        let user = self.user(name).await;
        self.auth.operator_adds_totp(&self.operator(), &self.snapshot, &user, None).await.expect("added");
        (self.again(&user).await, self.phone_of(&user).await)
    }

    pub(crate) async fn phone_of(&self, user: &User) -> TotpKey {
        let credentials = self.auth.store.credentials(user.id).await.expect("reads");
        self.auth.totp_key(credentials.last().expect("one")).expect("opens")
    }

    pub(crate) async fn again(&self, user: &User) -> User {
        self.auth.store.user_by_id(user.id).await.expect("reads").expect("there")
    }

    /// What the phone shows now.
    pub(crate) fn code(&self, phone: &TotpKey) -> String {
        phone.code(phone.step_at(self.now())).to_string()
    }

    /// A code that no step near now has.
    pub(crate) fn wrong_code(&self, phone: &TotpKey) -> String {
        let here = phone.step_at(self.now());
        let near: Vec<String> = (-30..=30).map(|offset| phone.code(here + offset).to_string()).collect();
        (0..).map(|n| format!("{n:06}")).find(|code| !near.contains(code)).expect("one is free")
    }

    /// The trail's rows as text, oldest first.
    pub(crate) async fn trail(&self) -> Vec<String> {
        let rows = self.auth.store.audit_rows(&crate::store::AuditFilter::default(), 0, 10_000).await.expect("reads");
        rows.into_iter().map(|row| row.payload).collect()
    }
}

pub(crate) fn host(name: &str) -> HostName {
    HostName::parse(name.as_bytes(), Scheme::Https).expect("a host")
}

/// `login.corp.example` before payroll (`mfa`) and wiki (`mfa`).
pub(crate) fn snapshot(portal: bool) -> Snapshot {
    let levels = levels();
    Snapshot {
        generation: 1,
        hash: String::new(),
        listeners: Vec::new(),
        trusted_proxies: NetworkSet::new(vec!["10.0.0.0/8".parse().expect("a network")]),
        portal: portal.then(|| Portal { host: host("login.corp.example"), scheme: Scheme::Https }),
        title: "Example Corp".to_owned(),
        help: Some("Service desk, ext. 4000".to_owned()),
        routes: RouteTable::new(vec![
            route("payroll", "payroll.corp.example", &levels),
            route("wiki", "wiki.corp.example", &levels),
        ]),
        levels,
        posture: Default::default(),
        postures: Default::default(),
        sessions: SessionLimits { idle: Duration::from_secs(900), max: Duration::from_secs(36_000), per_user: 10 },
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
            first_login: Duration::from_secs(86_400),
            password_min: 8,
            passkeys: true,
            key_after_code: false,
        },
        state: PathBuf::new(),
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

fn levels() -> Vec<Arc<Level>> {
    let level = |name: &str, factors, minutes: u64, phishing_resistant| {
        let max_age = Some(Duration::from_secs(minutes * 60));
        let requirement =
            Requirement { factors, max_age, phishing_resistant, user_verified: false, kinds: None, remember: None };
        Arc::new(Level { name: LevelName::new(name), requirement, grace: None })
    };
    let mut levels = vec![
        level("password", 1, 600, false),
        level("mfa", 2, 600, false),
        level("fresh", 2, 10, false),
        level("strong", 2, 10, true),
    ];
    let mut app = level("app", 2, 600, false).requirement.clone();
    app.kinds = Some(vec![FactorKind::Totp]);
    levels.push(Arc::new(Level { name: LevelName::new("app"), requirement: app, grace: None }));
    levels
}

fn route(app: &str, at: &str, levels: &[Arc<Level>]) -> Arc<Route> {
    let mfa = levels.iter().find(|l| l.name.as_str() == "mfa").expect("built in");
    let default = Outcome::Require { allow: Allow(vec![Who::Anyone]), level: Arc::clone(mfa) };
    let place = Place { file: "test.yaml".into(), line: 1, column: 1 };
    Arc::new(Route {
        app: AppName::new(app),
        title: app.to_owned(),
        hosts: vec![host(at)],
        upstream: Arc::new(Upstream::at(vec![UpstreamUrl {
            scheme: Scheme::Http,
            host: "127.0.0.1".to_owned(),
            port: 9,
        }])),
        identity: Identity::default(),
        policy: Policy::new(Vec::new(), default, place, PathForms::default()),
        limits: AppLimits { max_body: 1 << 30, judge_body: JUDGE_BODY },
        websocket_origins: Vec::new(),
        harden: Default::default(),
        trusted_origins: Vec::new(),
        app_cookies: Default::default(),
        cookie_domains: Vec::new(),
        tunnel_idle: Duration::from_secs(600),
    })
}
