//! What does each step of a request cost, in instructions? `benches/instructions` runs this under
//! callgrind, told to count inside [`counted`] alone: neither start-up nor the making of inputs
//! costs anything. Never timed.
//!
//!     steps WHICH TIMES

#![expect(clippy::unwrap_used, clippy::panic, reason = "a bench stops at the first surprise")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderValue};
use http::{HeaderMap, HeaderName, Method};
use stepgate::base::clock::Timestamp;
use stepgate::base::ids::{SessionId, UserId};
use stepgate::base::net::ClientIp;
use stepgate::base::rng::SeededRng;
use stepgate::config::{self, Purpose};
use stepgate::crypto::KeyRing;
use stepgate::crypto::assertion::AssertionSigner;
use stepgate::domain::authn::{Authn, AuthnContext};
use stepgate::domain::factor::{FactorKind, FactorUse};
use stepgate::domain::host::{HostName, Scheme};
use stepgate::domain::level::LevelName;
use stepgate::domain::path::CanonicalPath;
use stepgate::domain::policy::{Content, Decision, Facts, decide};
use stepgate::domain::route::Route;
use stepgate::domain::user::{GroupName, UserName};
use stepgate::proxy::headers::forwarded::{self, Via};
use stepgate::proxy::headers::identity::{Mint, Prepared};
use stepgate::proxy::headers::{hop, strip};
use stepgate::session::cookie;
use stepgate::session::{CookieMemo, Presented, SessionToken};

/// The other fields are those of a browser (`benches/lab.py` sends the same).
const BROWSER: [(&str, &str); 9] = [
    ("host", "app.test"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-GB,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br"),
    ("referer", "http://app.test/area7/"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "same-origin"),
];

fn main() {
    let mut args = std::env::args().skip(1).filter(|a| !a.starts_with('-'));
    // `cargo bench` says no step: there is nothing to time here.
    let Some(which) = args.next() else { return };
    let times: usize = args.next().map_or(1000, |a| a.parse().unwrap());
    match which.as_str() {
        "path" => path(times, "/area7/page/view"),
        "path-escaped" => path(times, "/area7/M%C3%BCller/caf%C3%A9%20menu"),
        "decide-5-rules" => decision(times, 5),
        "decide-50-rules" => decision(times, 50),
        "decide-500-rules" => decision(times, 500),
        "decide-5000-rules" => decision(times, 5000),
        "cookie" => cookie_of_a_new_connection(times),
        "cookie-again" => cookie_again(times),
        "headers" => headers(times),
        other => panic!("no step is called {other}"),
    }
}

/// The one function that callgrind looks into. It must stay a function, and nothing else may bear its name.
#[inline(never)]
fn counted<T>(step: impl FnOnce() -> T) -> T {
    step()
}

fn now() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

fn host() -> HostName {
    HostName::parse(b"app.test", Scheme::Http).unwrap()
}

fn route(rules: usize) -> Arc<Route> {
    let mut text = String::from(
        "version: 1\nlisten: [{ addr: \"127.0.0.1:0\", role: proxy }]\nportal: { host: login.test, title: Bench }\napps:\n  - app: wiki\n    hosts: [app.test]\n    upstream: { urls: [\"http://127.0.0.1:9\"] }\n    identity: { headers: [remote-user], assertion: true }\n    rules:\n",
    );
    for at in 0..rules {
        text.push_str(&format!(
            "      - {{ name: r{at}, match: {{ path: /area{at}/**, methods: [GET, POST] }}, allow: [group:staff], require: mfa }}\n"
        ));
    }
    let loaded = config::from_text(&text, Path::new("/"), Purpose::Serve);
    let faults = |f: Vec<config::Fault>| f.iter().map(ToString::to_string).collect::<Vec<_>>();
    Arc::clone(loaded.map_err(faults).unwrap().0.routes.app("wiki").unwrap())
}

fn ann() -> Arc<AuthnContext> {
    let rng = SeededRng::new(1);
    let shown = |kind| FactorUse {
        kind,
        at: now(),
        phishing_resistant: false,
        user_verified: false,
        credential: None,
        remembered: false,
    };
    Arc::new(AuthnContext {
        user: UserId::new(now(), &*rng),
        name: UserName::parse("ann").unwrap(),
        display: String::from("Ann"),
        email: None,
        groups: vec![GroupName::parse("staff").unwrap()],
        session: SessionId::new(now(), &*rng),
        ever_enrolled: true,
        evidence: vec![shown(FactorKind::Password), shown(FactorKind::Totp)],
    })
}

fn path(times: usize, text: &str) {
    let forms = route(5).policy.forms;
    for _ in 0..times {
        counted(|| CanonicalPath::parse(black_box(text), forms)).unwrap();
    }
}

/// The last rule is the one that matches.
fn decision(times: usize, rules: usize) {
    let route = route(rules);
    let authn = Authn::Known(ann());
    let path = CanonicalPath::parse(&format!("/area{}/page/view", rules - 1), route.policy.forms).unwrap();
    for _ in 0..times {
        let facts = Facts {
            method: &Method::GET,
            also_methods: &[],
            content: &Content::Nothing,
            path: &path,
            query: None,
            client: ClientIp::new([192, 0, 2, 7].into()),
            authn: &authn,
            now: now(),
        };
        let decided = counted(|| decide(&route.policy, black_box(&facts), &mut ()));
        assert!(matches!(decided, Decision::Allow(_)));
    }
}

/// A browser's fields, the session cookie among four.
fn fields(keys: &KeyRing) -> HeaderMap {
    let token = SessionToken::generate(&*SeededRng::new(2));
    let set = cookie::set_cookie(&token, &host(), keys, now(), Duration::from_secs(36_000));
    let ours = set.to_str().unwrap().split(';').next().unwrap().to_owned();
    let mut headers = HeaderMap::new();
    for (name, value) in BROWSER {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let all = format!("{ours}; theme=dark; sid=8f14e45fceea167a5a36dedd4bea2543; lang=en");
    headers.insert(COOKIE, HeaderValue::try_from(all).unwrap());
    headers
}

/// Found among the others, its MAC checked, its claims read.
fn cookie_of_a_new_connection(times: usize) {
    let keys = KeyRing::ephemeral(&*SeededRng::new(7));
    let (headers, host) = (fields(&keys), host());
    for _ in 0..times {
        let read = counted(|| cookie::read(black_box(&headers), &host, &keys, now()));
        assert!(matches!(read, Presented::Token(_)));
    }
}

/// The same bytes as with the last request of the connection.
fn cookie_again(times: usize) {
    let keys = Arc::new(KeyRing::ephemeral(&*SeededRng::new(7)));
    let (headers, host, memo) = (fields(&keys), host(), CookieMemo::default());
    memo.read(&headers, &host, &keys, now());
    for _ in 0..times {
        let read = counted(|| memo.read(black_box(&headers), &host, &keys, now()));
        assert!(matches!(read, Presented::Token(_)));
    }
}

/// From a client's fields to the app's: the order of `server::dispatch` and `proxy::forward::head`.
fn headers(times: usize) {
    let rng = SeededRng::new(7);
    let keys = Arc::new(KeyRing::ephemeral(&*rng));
    let (route, ann, signer, via) = (route(5), ann(), AssertionSigner::from_ring(&keys), Via::new(&*rng));
    let (sent, host, memo, level) = (fields(&keys), host(), CookieMemo::default(), LevelName::new("mfa"));
    memo.read(&sent, &host, &keys, now());
    let prepared = Prepared::new(&route, Some(&ann));
    let client = HeaderValue::from_static("192.0.2.7");
    let issuer = || String::from("http://login.test");
    let mint = || Mint { signer: &signer, issuer: &issuer, level: Some(&level), now: now() };
    // The assertion is minted once in 30 s, not here.
    prepared.insert_assertion(&mut sent.clone(), mint(), &ann);
    for _ in 0..times {
        let mut headers = sent.clone();
        counted(|| {
            strip::client(&mut headers, &route.identity);
            hop::remove(&mut headers);
            headers.remove(CONTENT_LENGTH);
            headers.remove(EXPECT);
            memo.strip_ours(&mut headers);
            let public = HeaderValue::from_str(host.as_str()).unwrap();
            forwarded::insert(&mut headers, client.clone(), Scheme::Http, &host, &public);
            via.insert(&mut headers).unwrap();
            headers.insert(HOST, public);
            prepared.insert(&mut headers);
            prepared.insert_assertion(&mut headers, mint(), &ann);
        });
        assert!(headers.contains_key("remote-user") && headers.contains_key("x-stepgate-assertion"));
    }
}
