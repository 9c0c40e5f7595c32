//! Is there a form out of which an app reads another method than the gate does, or a field that no rule sees?
#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use stepgate::base::clock::Timestamp;
use stepgate::base::net::ClientIp;
use stepgate::config::{Purpose, Snapshot, from_text};
use stepgate::domain::authn::Authn;
use stepgate::domain::path::{CanonicalPath, PathForms};
use stepgate::domain::policy::{Content, Decision, Facts, Media, decide, override_methods};
use stepgate::proxy::form::{in_body, kind};
use stepgate_fuzz::naive;

const CHANGE: [Method; 3] = [Method::PUT, Method::PATCH, Method::DELETE];

// A line with the type (none where it is empty), one with the coding, then the body.
fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(3, |b| *b == b'\n');
    let (Some(of_type), Some(coding), Some(body)) = (parts.next(), parts.next(), parts.next()) else { return };
    let mut headers = HeaderMap::new();
    for (name, values) in [(CONTENT_TYPE, of_type), (CONTENT_ENCODING, coding)] {
        // `|` between two fields of the name.
        for value in values.split(|b| *b == b'|').filter(|v| !v.is_empty()) {
            let Ok(value) = HeaderValue::from_bytes(value) else { return };
            headers.append(&name, value);
        }
    }
    let found = in_body(kind(&headers), &Bytes::copy_from_slice(body));
    // What cannot be read may be any method.
    let has = |method: &Method| found.as_ref().is_none_or(|found| found.contains(method));
    let is = |text: &[u8]| of_type.trim_ascii().to_ascii_lowercase().starts_with(text);
    let names = |word: &[u8]| of_type.windows(word.len()).any(|w| w == word);
    let coded = |value: &HeaderValue| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    let plain = !headers.get_all(CONTENT_ENCODING).iter().any(coded);
    if plain && (of_type.is_empty() || is(b"application/x-www-form-urlencoded")) {
        let read = naive_form(body);
        assert!(read.iter().all(has), "{read:?} and {found:?}");
    }
    if plain
        && (names(b"/json") || names(b"+json"))
        && let Some(method) = naive_json(body)
    {
        assert!(has(&method), "{method} and {found:?}");
    }
    if is(b"multipart/") || !plain && is(b"application/") {
        let parts = body.windows(8).any(|w| w.eq_ignore_ascii_case(b"_method\""));
        assert!(!parts || found.is_none(), "{found:?}");
    }
    let content = Content::read(Media::of(&headers), body);
    let is_delete = |(name, value): (Vec<u8>, Vec<u8>)| naive::php_name(&name) == b"action" && value == b"delete";
    let deletes = |separators: &[u8]| naive::pairs(body, separators).any(is_delete);
    // Whatever the type says: an app may look at none.
    if deletes(b"&") || deletes(b"&;") {
        assert!(is_denied("/form", None, &content), "{content:?}");
    }
    if serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|document| document["action"] == "delete") {
        assert!(is_denied("/json", None, &content) && is_denied("/form", None, &content), "{content:?}");
    }
    if let Ok(query) = std::str::from_utf8(body)
        && deletes(b"&")
    {
        for path in ["/form", "/json"] {
            assert!(is_denied(path, Some(query), &Content::Nothing));
        }
    }
    // The query is read by the same eyes.
    if let Ok(query) = std::str::from_utf8(body) {
        let found = override_methods(Some(query));
        let read = naive_form(body);
        assert!(read.iter().all(|method| found.contains(method)), "{read:?} and {found:?}");
    }
});

/// Whether a rule about the field refuses it.
fn is_denied(path: &str, query: Option<&str>, content: &Content) -> bool {
    static POLICY: OnceLock<Snapshot> = OnceLock::new();
    const FILE: &str = "version: 1\nlisten: [{ addr: \"127.0.0.1:80\", role: proxy }]\napps:\n- app: a\n  hosts: [a.test]\n  upstream: { urls: [\"http://127.0.0.1:9\"] }\n  allow: [anyone]\n  require: none\n  rules:\n  - { match: { path: /form, form: { action: delete } }, deny: Not that. }\n  - { match: { path: /json, json: { action: delete } }, deny: Not that. }\n";
    let snapshot = POLICY.get_or_init(|| from_text(FILE, Path::new("."), Purpose::Check).expect("a sound file").0);
    let policy = &snapshot.routes.app("a").expect("the app").policy;
    let facts = Facts {
        method: &Method::POST,
        also_methods: &[],
        path: &CanonicalPath::parse(path, PathForms::default()).expect("a path"),
        query,
        content,
        client: ClientIp::new([192, 0, 2, 7].into()),
        authn: &Authn::Anonymous,
        now: Timestamp::from_secs(1_800_000_000),
    };
    matches!(decide(policy, &facts, &mut ()), Decision::Deny(_))
}

/// What Rack (`&`, older ones `;` too) and PHP make of it.
fn naive_form(body: &[u8]) -> Vec<Method> {
    let all = naive::pairs(body, b"&").chain(naive::pairs(body, b"&;"));
    let named = all.filter(|(name, _)| matches!(name.as_slice(), b"_method") || naive::php_name(name) == b"_method");
    let methods = named.filter_map(|(_, value)| Method::from_bytes(&value.trim_ascii().to_ascii_uppercase()).ok());
    methods.filter(|method| CHANGE.contains(method)).collect()
}

/// What Laravel makes of it, which looks for no more of the type than a word.
fn naive_json(body: &[u8]) -> Option<Method> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let method = value.get("_method")?.as_str()?.to_ascii_uppercase();
    Method::from_bytes(method.as_bytes()).ok().filter(|method| CHANGE.contains(method))
}
