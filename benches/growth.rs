//! What does a step of a request cost as what it searches grows? `benches/growth` runs this and draws the curves.
//!
//!     growth rules|apps|sessions HOW_MANY
//!
//! Prints nanoseconds of CPU a step and resident bytes for each one of HOW_MANY, as JSON. What is searched is chosen at
//! random, so that caches help as little as they do in production.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a bench stops at the first surprise")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::Method;
use stepgate::base::clock::{Clock, ManualClock, Timestamp};
use stepgate::base::ids::{SessionId, UserId};
use stepgate::base::net::ClientIp;
use stepgate::base::rng::SystemRng;
use stepgate::config::snapshot::{SessionLimits, StoreSettings};
use stepgate::config::{self, Purpose, Snapshot};
use stepgate::crypto::chain::ChainKey;
use stepgate::domain::audit::{Action, Actor, AuditEvent, Outcome};
use stepgate::domain::authn::{Authn, AuthnContext};
use stepgate::domain::factor::{FactorKind, FactorUse};
use stepgate::domain::host::{HostName, Scheme};
use stepgate::domain::path::CanonicalPath;
use stepgate::domain::policy::{Content, Decision, Facts, decide};
use stepgate::domain::user::{GroupName, UserName};
use stepgate::session::issue::{self, NewSession};
use stepgate::session::{Lookup, SessionToken, Sessions};
use stepgate::store::{NewUser, Store};

const STEPS: usize = 200_000;
const ROUNDS: usize = 7;
/// People who come into the store with one commit.
const TOGETHER: usize = 5_000;

fn main() {
    let mut args = std::env::args().skip(1).filter(|a| !a.starts_with('-'));
    // `cargo bench` says nothing: there is no curve of one point.
    let (Some(which), Some(many)) = (args.next(), args.next()) else { return };
    let many = many.parse().unwrap();
    let (ns, bytes) = match which.as_str() {
        "rules" => rules(many),
        "apps" => apps(many),
        "sessions" => sessions(many),
        other => panic!("nothing is called {other}"),
    };
    println!("{}", serde_json::json!({ "ns": ns, "bytes": bytes }));
}

/// The median of several rounds, each of `STEPS` steps on what chance chooses among `many`.
fn timed(many: usize, mut step: impl FnMut(usize)) -> f64 {
    let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let before = on_cpu();
            for _ in 0..STEPS {
                // Marsaglia's xorshift: cheap beside what is measured.
                chance ^= chance << 13;
                chance ^= chance >> 7;
                chance ^= chance << 17;
                step(usize::try_from(chance >> 33).unwrap() % many);
            }
            (on_cpu() - before) as f64 / STEPS as f64
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

/// Nanoseconds that this thread has run: what else the machine does is not the step's cost.
fn on_cpu() -> u64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    told.split_whitespace().next().unwrap().parse().unwrap()
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn now() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

fn loaded(apps: &str) -> Snapshot {
    let text = format!(
        "version: 1\nlisten: [{{ addr: \"127.0.0.1:0\", role: proxy }}]\nportal: {{ host: login.test, title: Bench }}\napps:\n{apps}"
    );
    let faults = |f: Vec<config::Fault>| f.iter().map(ToString::to_string).collect::<Vec<_>>();
    config::from_text(&text, Path::new("/"), Purpose::Serve).map_err(faults).unwrap().0
}

/// One app with as many rules, each for an area of its own; every area is asked for.
fn rules(many: usize) -> (f64, f64) {
    let mut text = String::from(
        "  - app: wiki\n    hosts: [app.test]\n    upstream: { urls: [\"http://127.0.0.1:9\"] }\n    rules:\n",
    );
    for at in 0..many {
        text.push_str(&format!(
            "      - {{ name: r{at}, match: {{ path: /area{at}/**, methods: [GET, POST] }}, allow: [group:staff], require: mfa }}\n"
        ));
    }
    let before = resident();
    let snapshot = loaded(&text);
    let bytes = per_one(before, many);
    let route = Arc::clone(snapshot.routes.app("wiki").unwrap());
    let shown = |kind| FactorUse {
        kind,
        at: now(),
        phishing_resistant: false,
        user_verified: false,
        credential: None,
        remembered: false,
    };
    let authn = Authn::Known(Arc::new(AuthnContext {
        user: UserId::new(now(), &SystemRng),
        name: UserName::parse("ann").unwrap(),
        display: String::from("Ann"),
        email: None,
        groups: vec![GroupName::parse("staff").unwrap()],
        session: SessionId::new(now(), &SystemRng),
        ever_enrolled: true,
        evidence: vec![shown(FactorKind::Password), shown(FactorKind::Totp)],
    }));
    let paths: Vec<CanonicalPath> = (0..many)
        .map(|at| CanonicalPath::parse(&format!("/area{at}/page/view"), route.policy.forms).unwrap())
        .collect();
    let ns = timed(many, |at| {
        let facts = Facts {
            method: &Method::GET,
            also_methods: &[],
            content: &Content::Nothing,
            path: &paths[at],
            query: None,
            client: ClientIp::new([192, 0, 2, 7].into()),
            authn: &authn,
            now: now(),
        };
        assert!(matches!(decide(&route.policy, black_box(&facts), &mut ()), Decision::Allow(_)));
    });
    (ns, bytes)
}

/// From the host of a request to its app.
fn apps(many: usize) -> (f64, f64) {
    let mut text = String::new();
    for at in 0..many {
        text.push_str(&format!(
            "  - app: app{at}\n    hosts: [app{at}.test]\n    upstream: {{ urls: [\"http://127.0.0.1:9\"] }}\n    rules: [{{ name: all, match: {{ path: /** }}, require: mfa }}]\n"
        ));
    }
    let before = resident();
    let snapshot = loaded(&text);
    let bytes = per_one(before, many);
    let hosts: Vec<HostName> =
        (0..many).map(|at| HostName::parse(format!("app{at}.test").as_bytes(), Scheme::Http).unwrap()).collect();
    let ns = timed(many, |at| assert!(snapshot.routes.find(black_box(&hosts[at])).is_some()));
    (ns, bytes)
}

/// From a token to its live session, when each person has one and all are in memory.
fn sessions(many: usize) -> (f64, f64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(now());
    let snapshot = Arc::new(ArcSwap::from_pointee(loaded(
        "  - { app: wiki, hosts: [app.test], upstream: { urls: [\"http://127.0.0.1:9\"] } }\n",
    )));
    let limits = snapshot.load().sessions.clone();
    let (cached, tokens, bytes) = runtime.block_on(async {
        let store = Store::open(&StoreSettings::Sqlite, dir.path(), ChainKey::new([7; 32])).await.unwrap();
        let mut tokens: Vec<SessionToken> = Vec::with_capacity(many);
        while tokens.len() < many {
            let upto = many.min(tokens.len() + TOGETHER);
            tokens.extend(sign_in(&store, tokens.len()..upto, &limits).await);
        }
        let all = Sessions::new(store, clock.clone(), tokio::runtime::Handle::current(), snapshot);
        let before = resident();
        for token in &tokens {
            assert!(matches!(all.load(token.clone(), clock.now()).await, Ok(Lookup::Live(_))));
        }
        (all, tokens, per_one(before, many))
    });
    let ns = timed(many, |at| {
        assert!(matches!(cached.cached(black_box(&tokens[at]), &limits, now()), Some(Lookup::Live(_))));
    });
    (ns, bytes)
}

async fn sign_in(store: &Store, people: std::ops::Range<usize>, limits: &SessionLimits) -> Vec<SessionToken> {
    let host = HostName::parse(b"app.test", Scheme::Http).unwrap();
    let shown = |kind| FactorUse {
        kind,
        at: now(),
        phishing_resistant: false,
        user_verified: false,
        credential: None,
        remembered: false,
    };
    let evidence = [shown(FactorKind::Password), shown(FactorKind::Totp)];
    let mut tx = store.begin().await.unwrap();
    let mut tokens = Vec::with_capacity(people.len());
    for at in people {
        let id = UserId::new(now(), &SystemRng);
        let new = NewUser {
            id,
            name: UserName::parse(&format!("person{at}")).unwrap(),
            display: format!("Person {at}"),
            email: None,
            groups: vec![GroupName::parse("staff").unwrap()],
            first_login_until: None,
            now: now(),
        };
        assert!(tx.insert_user(&new).await.unwrap());
        let new = NewSession {
            user: id,
            epoch: 0,
            address: "192.0.2.7",
            user_agent: "Firefox",
            evidence: &evidence,
            host: &host,
        };
        tokens.push(issue::open(&mut tx, &new, limits, now(), &SystemRng).await.unwrap().token);
    }
    let event = AuditEvent::new(now(), Actor::System, Action::SignIn, Outcome::Success, "bench");
    tx.commit(&[event]).await.unwrap();
    tokens
}

/// Growth of the resident set since `before`, for each one.
fn per_one(before: u64, many: usize) -> f64 {
    resident().saturating_sub(before) as f64 / many as f64
}
