//! Does a session cookie open that the gate did not sign, or that says something else than it must?
#![no_main]

use std::sync::LazyLock;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use stepgate::base::clock::Timestamp;
use stepgate::base::rng::SeededRng;
use stepgate::crypto::KeyRing;
use stepgate::domain::host::{HostName, Scheme};
use stepgate::session::{BadCookie, Presented, cookie};
use stepgate_fuzz::split;

const NOW: i64 = 1_795_000_000;
static KEYS: LazyLock<KeyRing> = LazyLock::new(|| KeyRing::ephemeral(&*SeededRng::new(7)));

fn read(token: &[u8]) -> Option<Presented> {
    let value = [cookie::NAME.as_bytes(), b"=", token].concat();
    let mut headers = HeaderMap::new();
    headers.insert(COOKIE, HeaderValue::from_bytes(&value).ok()?);
    let host = HostName::parse(b"app.example", Scheme::Https).expect("a host");
    Some(cookie::read(&headers, &host, &KEYS, Timestamp::from_secs(NOW)))
}

fuzz_target!(|data: &[u8]| {
    let Some(([how], text)) = split(data) else { return };
    match how % 3 {
        // Whatever somebody made up.
        0 => check(text),
        // A good token in which some bytes are others: pairs of a place and a byte.
        1 => {
            let claims = format!(r#"{{"sid":"AAAAAAAAAAAAAAAAAAAAAA","aud":"app.example","iat":1,"exp":{}}}"#, NOW + 9);
            let mut token = KEYS.sign_session_jwt(claims.as_bytes()).into_bytes();
            for edit in text.chunks_exact(2) {
                let at = usize::from(edit[0]) % token.len();
                token[at] = edit[1];
            }
            check(&token);
        }
        // Claims that the gate never makes, under its own signature.
        _ => {
            let token = KEYS.sign_session_jwt(text);
            assert_eq!(KEYS.open_session_jwt(token.as_bytes()).as_deref(), Ok(text));
            check(token.as_bytes());
        }
    }
});

fn check(token: &[u8]) {
    let opened = KEYS.open_session_jwt(token);
    if let Ok(payload) = &opened {
        // A token has one spelling: signing what it says gives its very bytes.
        assert_eq!(KEYS.sign_session_jwt(payload).as_bytes(), token);
    }
    let Some(Presented::Token(_)) = read(token) else {
        if let (Some(Presented::Bad(bad)), Err(_)) = (read(token), &opened) {
            assert!(matches!(bad, BadCookie::Malformed | BadCookie::Forged | BadCookie::Doubled), "{bad:?}");
        }
        return;
    };
    let payload = opened.expect("only what is signed names a session");
    let claims: serde_json::Value = serde_json::from_slice(&payload).expect("claims");
    assert_eq!(claims["aud"], "app.example");
    assert!(claims["exp"].as_i64().is_some_and(|exp| exp > NOW), "{claims}");
    assert!(claims["iat"].is_i64(), "{claims}");
    assert_eq!(claims["sid"].as_str().map(str::len), Some(22), "{claims}");
    assert_eq!(claims.as_object().map(serde_json::Map::len), Some(4), "{claims}");
}
