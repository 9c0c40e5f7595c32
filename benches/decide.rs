//! `decide()` in a loop, to be counted by callgrind: `benches/instructions` runs it with two
//! lengths and takes the difference, so that start-up costs nothing.
//!
//!     decide RULES TIMES

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench stops at the first surprise")]

use std::hint::black_box;

use stepgate::base::clock::Timestamp;
use stepgate::base::ids::{SessionId, UserId};
use stepgate::base::net::ClientIp;
use stepgate::base::rng::SeededRng;
use stepgate::config;
use stepgate::domain::authn::{Authn, AuthnContext};
use stepgate::domain::factor::{FactorKind, FactorUse};
use stepgate::domain::path::CanonicalPath;
use stepgate::domain::policy::{Decision, Facts, decide};
use stepgate::domain::user::{GroupName, UserName};

fn main() {
    let mut args = std::env::args().skip(1).filter(|a| !a.starts_with('-'));
    let rules: usize = args.next().map_or(5, |a| a.parse().unwrap());
    let times: usize = args.next().map_or(1000, |a| a.parse().unwrap());
    let dir = std::env::temp_dir().join(format!("stepgate-decide-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("stepgate.yaml");
    write_policy(&file, rules);
    let snapshot = config::load(&file).map_err(|f| f.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap().0;
    std::fs::remove_dir_all(&dir).unwrap();
    let route = snapshot.routes.app("wiki").unwrap();
    let now = Timestamp::from_secs(1_800_000_000);
    let rng = SeededRng::new(1);
    let shown = |kind| FactorUse { kind, at: now, phishing_resistant: false, user_verified: false, credential: None };
    let authn = Authn::Known(std::sync::Arc::new(AuthnContext {
        user: UserId::new(now, &*rng),
        name: UserName::parse("ann").unwrap(),
        display: String::new(),
        email: None,
        groups: vec![GroupName::parse("staff").unwrap()],
        session: SessionId::new(now, &*rng),
        evidence: vec![shown(FactorKind::Password), shown(FactorKind::Totp)],
    }));
    let path = format!("/area{}/page/view", rules - 1);
    let mut allowed = 0;
    for _ in 0..times {
        let path = CanonicalPath::parse(black_box(&path), route.policy.forms).unwrap();
        let facts = Facts {
            method: &http::Method::GET,
            also_methods: &[],
            path: &path,
            query: None,
            client: ClientIp::new([192, 0, 2, 7].into()),
            authn: &authn,
            now,
        };
        allowed += usize::from(matches!(decide(&route.policy, &facts, &mut ()), Decision::Allow(_)));
    }
    assert_eq!(allowed, times);
    println!("{allowed} allowed with {rules} rules");
}

fn write_policy(file: &std::path::Path, rules: usize) {
    let mut text = String::from(
        "version: 1\nlisten: [{ addr: \"127.0.0.1:0\", role: proxy }]\nportal: { host: login.test, title: Bench }\napps:\n  - app: wiki\n    hosts: [app.test]\n    upstream: { urls: [\"http://127.0.0.1:9\"] }\n    rules:\n",
    );
    for at in 0..rules {
        text.push_str(&format!(
            "      - {{ name: r{at}, match: {{ path: /area{at}/** , methods: [GET, POST] }}, allow: [group:staff], require: mfa }}\n"
        ));
    }
    std::fs::write(file, text).unwrap();
}
