//! Whom do the Cookie fields name, and what of them does an app see?
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use stepgate::base::clock::Timestamp;
use stepgate::base::rng::SeededRng;
use stepgate::crypto::KeyRing;
use stepgate::domain::host::{HostName, Scheme};
use stepgate::session::{BadCookie, CookieMemo, Presented, SessionToken, carries_ours, cookie, strip_ours};
use stepgate_fuzz::naive;

struct World {
    keys: Arc<KeyRing>,
    host: HostName,
    now: Timestamp,
    /// A good `name=value` and the hash of its token.
    good: String,
    hash: [u8; 32],
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let rng = SeededRng::new(7);
    let keys = Arc::new(KeyRing::ephemeral(&*rng));
    let host = HostName::parse(b"app.example", Scheme::Https).expect("a host");
    let now = Timestamp::from_secs(1_795_000_000);
    let token = SessionToken::generate(&*rng);
    let set = cookie::set_cookie(&token, &host, &keys, now, Duration::from_secs(3600));
    let good = set.to_str().expect("text").split(';').next().expect("a pair").to_owned();
    World { keys, host, now, good, hash: token.hash() }
});

/// What can be compared of an answer.
fn gist(presented: &Presented) -> Result<Option<[u8; 32]>, BadCookie> {
    match presented {
        Presented::Absent => Ok(None),
        Presented::Token(token) => Ok(Some(token.hash())),
        Presented::Bad(bad) => Err(*bad),
    }
}

/// Lines are fields; `@` is the good cookie.
fn fields(lines: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.split(|b| *b == b'\n').take(8) {
        let parts: Vec<&[u8]> = line.split(|b| *b == b'@').take(6).collect();
        if let Ok(value) = HeaderValue::from_bytes(&parts.join(WORLD.good.as_bytes())) {
            headers.append(COOKIE, value);
        }
    }
    headers
}

fn values(headers: &HeaderMap) -> Vec<&[u8]> {
    headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect()
}

// The requests of one connection, apart by an empty line.
fuzz_target!(|data: &[u8]| {
    let world = &*WORLD;
    let memo = CookieMemo::default();
    let mut rest = data;
    for _ in 0..4 {
        let at = rest.windows(2).position(|w| w == b"\n\n").unwrap_or(rest.len());
        one_request(&fields(&rest[..at]), &memo, world);
        rest = rest.get(at + 2..).unwrap_or_default();
    }
});

fn one_request(headers: &HeaderMap, memo: &CookieMemo, world: &World) {
    let read = cookie::read(headers, &world.host, &world.keys, world.now);
    // What a connection remembers changes no answer.
    let remembered = memo.read(headers, &world.host, &world.keys, world.now);
    assert_eq!(gist(&read), gist(&remembered));
    let (mut stripped, mut by_memo) = (headers.clone(), headers.clone());
    strip_ours(&mut stripped);
    memo.strip_ours(&mut by_memo);
    assert_eq!(values(&stripped), values(&by_memo));

    if let Ok(Some(hash)) = gist(&read) {
        assert_eq!(hash, world.hash, "only what was given is good");
        let lines = values(headers).join(&b';');
        let copies = lines.windows(world.good.len()).filter(|w| *w == world.good.as_bytes()).count();
        assert!(copies >= 1);
    }
    // Nothing is left that anybody reads as ours, and no second look finds more.
    assert!(values(&stripped).len() <= 1);
    assert_eq!(gist(&cookie::read(&stripped, &world.host, &world.keys, world.now)), Ok(None));
    let mut again = stripped.clone();
    strip_ours(&mut again);
    assert_eq!(values(&again), values(&stripped));
    let came: Vec<Vec<u8>> = pieces(&values(headers));
    for piece in pieces(&values(&stripped)) {
        assert!(!carries_ours(&piece));
        assert!(came.contains(&piece), "{:?} never came", piece.escape_ascii().to_string());
        // As PHP reads it, and as Python does.
        let name = piece.split(|b| *b == b'=').next().unwrap_or_default();
        let python = String::from_utf8_lossy(name).trim().trim_matches('"').as_bytes().to_vec();
        for name in [python, naive::php_name(name), naive::php_name(&naive::decoded(name, true))] {
            let name = String::from_utf8_lossy(&name).to_ascii_lowercase();
            assert!(!name.starts_with("__host-http-stepgate"), "{name:?} reaches the app");
        }
    }
    // The app's own cookies all stay.
    let own = came.iter().filter(|piece| !carries_ours(piece) && !piece.is_empty()).count();
    assert_eq!(pieces(&values(&stripped)).iter().filter(|piece| !piece.is_empty()).count(), own);

    // One more of ours: two are refused, whatever the first was.
    for second in ["__Host-Http-stepgate=x", "__host-http-stepgate=x", world.good.as_str()] {
        let mut doubled = headers.clone();
        doubled.append(COOKIE, HeaderValue::from_str(second).expect("a value"));
        let gist = gist(&cookie::read(&doubled, &world.host, &world.keys, world.now));
        match read {
            Presented::Absent if second == world.good => assert_eq!(gist, Ok(Some(world.hash))),
            Presented::Absent => assert_eq!(gist, Err(BadCookie::Malformed)),
            Presented::Token(_) | Presented::Bad(_) => assert_eq!(gist, Err(BadCookie::Doubled)),
        }
    }
    let cleared = cookie::clear_all(headers, &world.host);
    assert!(cleared.len() <= 1 + 7 * 3, "{} fields", cleared.len());
}

fn pieces(fields: &[&[u8]]) -> Vec<Vec<u8>> {
    fields.iter().flat_map(|f| f.split(|b| *b == b';')).map(|p| p.trim_ascii_start().to_vec()).collect()
}
