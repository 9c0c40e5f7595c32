//! Is what an app receives what the policy judged, and what the client said?
//!
//! Three readers of one connection: the gate, the app with a strict parser, and a reader of our own
//! over the client's bytes. Each request that reaches the app must be one that the client sent, in
//! its order, with its body; be allowed by the policy as it stands there; and carry one framing and
//! no word of the client's on who they are.
#![no_main]

use std::net::IpAddr;

use http::Method;
use libfuzzer_sys::fuzz_target;
use stepgate::base::net::ClientIp;
use stepgate::domain::authn::Authn;
use stepgate::domain::path::CanonicalPath;
use stepgate::domain::policy::{Content, Decision, Facts, decide};
use stepgate::server::conn::Stream;
use stepgate_fuzz::gate::{Gate, HOST};
use stepgate_fuzz::wire::{Message, Read, Temper, read};
use stepgate_fuzz::{connection, input, naive, on_a_data_thread, split};

const PEERS: [&str; 2] = ["192.0.2.7", "10.0.0.4"];

fuzz_target!(|data: &[u8]| {
    let Some(([choice], text)) = split(data) else { return };
    let gate = Gate::get();
    let pieces = input::pieces(text, &gate.cookie);
    let sent = pieces.concat();
    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    let peer = PEERS[usize::from(choice & 1)];
    let before = gate.allowed();
    on_a_data_thread(async {
        let (stream, client) = connection();
        gate.serve(Stream::plain(stream, ()), client, &format!("{peer}:999"), &pieces).await
    });
    let arrived = gate.app.take();
    if arrived.is_empty() {
        return;
    }
    let allowed = gate.allowed() - before;
    assert!(u64::try_from(arrived.len()).is_ok_and(|n| n <= allowed), "{allowed} allowed: {arrived:#?}");
    let meant = said(&sent);
    let mut meant = meant.iter();
    for request in &arrived {
        own_fields(request, peer);
        let this = |said: &Message| is_of(request, said) && are_of(request, said, &gate.cookie);
        assert!(meant.any(this), "nobody sent {request:#?} in {}", sent.escape_ascii());
        verdict(gate, request);
    }
});

/// The requests that a client's bytes hold, up to where they are none any more.
fn said(mut bytes: &[u8]) -> Vec<Message> {
    let mut all = Vec::new();
    while let Read::Message(message, used) = read(bytes, Temper::Client) {
        bytes = &bytes[used..];
        all.push(message);
    }
    all
}

/// Path and query of a target, in whichever form.
fn target(raw: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let raw = raw.split(|b| *b == b'#').next().unwrap_or_default();
    let from = match raw.windows(3).position(|w| w == b"://") {
        Some(at) if !raw.starts_with(b"/") => {
            let behind = at + 3;
            raw[behind..].iter().position(|b| matches!(b, b'/' | b'?')).map_or(raw.len(), |slash| behind + slash)
        }
        _ => 0,
    };
    let raw = &raw[from..];
    let at = raw.iter().position(|b| *b == b'?').unwrap_or(raw.len());
    let path = if at == 0 { b"/".to_vec() } else { naive::decoded(&raw[..at], false) };
    (path, raw.get(at + 1..).unwrap_or_default().to_vec())
}

fn is_of(request: &Message, said: &Message) -> bool {
    let body =
        if request.whole { said.whole && request.body == said.body } else { said.body.starts_with(&request.body) };
    let hosts = said.values("host");
    let host = hosts.first().map(|h| h.to_ascii_lowercase()).unwrap_or_default();
    let host = host.split(|b| *b == b':').next() == Some(HOST.as_bytes());
    host && request.method == said.method && target(&request.target) == target(&said.target) && body
}

/// Fields of one connection, of the gate's own and such as turn a request into another one.
const NEVER: [&str; 21] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "te",
    "trailer",
    "http2-settings",
    "expect",
    "x-remote-user",
    "x-forwarded-user",
    "x-auth-request-user",
    "x-original-url",
    "x-rewrite-url",
    "x-original-uri",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "forwarded",
    "x-original-host",
    "x-host",
    "x-client-cert",
];

/// What the gate says itself stands there once, and is right.
fn own_fields(request: &Message, peer: &str) {
    let one = |name: &str| {
        let values = request.values(name);
        assert_eq!(values.len(), 1, "{name}: {request:#?}");
        String::from_utf8(values[0].to_vec()).unwrap_or_else(|_| panic!("{name}: {request:#?}"))
    };
    assert_eq!(one("host"), HOST);
    assert_eq!(one("x-forwarded-host"), HOST);
    one("via");
    let client = one("x-forwarded-for");
    assert_eq!(one("x-real-ip"), client);
    let client: IpAddr = client.parse().unwrap_or_else(|_| panic!("a client {client:?}"));
    let is_https = one("x-forwarded-proto") == "https";
    if peer == PEERS[0] {
        assert_eq!(client.to_string(), peer, "a stranger's word on who they are");
        assert!(is_https, "a stranger's word on how they came");
    }
    assert_eq!(one("x-forwarded-port"), if is_https { "443" } else { "80" });
    let user = one("remote-user");
    assert!(user.is_empty() || user == "ann", "{user:?}: {request:#?}");
    let name = if user.is_empty() { "" } else { "Ann Example" };
    assert_eq!([one("remote-name"), one("remote-groups"), one("remote-email")], [name, "", ""], "{request:#?}");
    let tunnel = request.values("upgrade");
    assert!(tunnel.is_empty() || tunnel == [b"websocket"], "{request:#?}");

    for (name, value) in &request.fields {
        let name = name.to_ascii_lowercase();
        let websocket = name == "connection" && !tunnel.is_empty() && value.eq_ignore_ascii_case(b"upgrade");
        // The gate's own word behind a body, which an app may leave unread (S-FRAME-8).
        let closing = name == "connection" && tunnel.is_empty() && value == b"close";
        assert!(websocket || closing || !NEVER.contains(&name.as_str()), "{name} reached the app: {request:#?}");
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{name} reached the app: {request:#?}");
        let ours = name == "cookie" && value.to_ascii_lowercase().starts_with(b"__host-http-stepgate");
        assert!(!ours, "{request:#?}");
    }
}

/// Who it is from, and every field that is not the gate's, are the client's own.
fn are_of(request: &Message, said: &Message, cookie: &str) -> bool {
    let cookies = said.values("cookie").join(&b';');
    let has_cookie = cookies.windows(cookie.len()).any(|w| w == cookie.as_bytes());
    if request.values("remote-user") != [b""] && !has_cookie {
        return false;
    }
    request.fields.iter().all(|(name, value)| {
        let name = name.to_ascii_lowercase();
        let of_the_gate = matches!(
            name.as_str(),
            "host" | "via" | "x-real-ip" | "content-length" | "transfer-encoding" | "upgrade" | "connection"
        );
        if of_the_gate || name.starts_with("x-forwarded-") || name.starts_with("remote-") {
            return true;
        }
        if name == "cookie" {
            let came: Vec<&[u8]> = cookies.split(|b| *b == b';').map(<[u8]>::trim_ascii).collect();
            return value.split(|b| *b == b';').map(<[u8]>::trim_ascii).all(|piece| came.contains(&piece));
        }
        let came = said.values(&name);
        came.contains(&value.as_slice()) && request.values(&name).len() <= came.len()
    })
}

/// The methods that an app may read out of a form or query.
fn overridden(request: &Message, query: &[u8]) -> Vec<Method> {
    let kind = request.values("content-type");
    let kind = kind.first().map(|v| v.to_ascii_lowercase());
    let is_form = kind.is_none_or(|k| k.starts_with(b"application/x-www-form-urlencoded"));
    let body: &[u8] = if request.method == "POST" && is_form && request.whole { &request.body } else { b"" };
    let all = naive::pairs(query, b"&").chain(naive::pairs(body, b"&"));
    let named = all.filter(|(name, _)| naive::php_name(name).eq_ignore_ascii_case(b"_method"));
    named.filter_map(|(_, value)| Method::from_bytes(&value.trim_ascii().to_ascii_uppercase()).ok()).collect()
}

fn verdict(gate: &Gate, request: &Message) {
    let raw = std::str::from_utf8(&request.target).expect("visible ASCII");
    let (path, query) = raw.split_once('?').map_or((raw, None), |(path, query)| (path, Some(query)));
    let snapshot = gate.snapshot();
    let policy = &snapshot.routes.app("wiki").expect("the app").policy;
    let canonical = CanonicalPath::parse(path, policy.forms).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    assert_eq!(canonical.as_str(), path, "what was judged is what is sent");
    let method = Method::from_bytes(request.method.as_bytes()).expect("a method");
    let is_ann = request.values("remote-user") == [b"ann"];
    let also = overridden(request, query.unwrap_or_default().as_bytes());
    let facts = Facts {
        method: &method,
        also_methods: &also,
        content: &Content::Nothing,
        path: &canonical,
        query,
        client: ClientIp::new([192, 0, 2, 7].into()),
        authn: if is_ann { &gate.ann } else { &Authn::Anonymous },
        now: gate.now,
    };
    let decision = decide(policy, &facts, &mut ());
    assert!(matches!(decision, Decision::Allow(_)), "{decision:?}: {request:#?}");

    // And without any of the gate's code: by the file, as people read it.
    let decoded = naive::decoded(&naive::decoded(path.as_bytes(), false), false);
    let text = String::from_utf8(decoded).expect("UTF-8").replace('\\', "/");
    let plain = text.split('/').map(|s| s.split(';').next().unwrap_or_default()).collect::<Vec<_>>().join("/");
    let is_below =
        |text: &str, folder: &str| text.strip_prefix(folder).is_some_and(|r| r.is_empty() || r.starts_with('/'));
    let resolved = naive::resolved(&plain);
    assert!(!is_below(&resolved.to_ascii_lowercase(), "/pub/admin"), "{request:#?}");
    assert!(!is_below(&resolved.to_ascii_lowercase(), "/.stepgate"), "{request:#?}");
    assert!(is_ann || is_below(&resolved, "/pub"), "{request:#?}");
    let changes = [&method].into_iter().chain(&also).any(|m| [Method::PUT, Method::PATCH, Method::DELETE].contains(m));
    assert!(!changes || !is_below(&resolved, "/pub"), "{request:#?}");
}
