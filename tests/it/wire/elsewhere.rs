//! Whom does the gate ask, and what does it make of bodies? Nobody but the app of the file (S-UP-1), and
//! nothing at all (S-UP-8).

use super::gate::in_front_of;
use super::recorder::{Framing, Recorder, Says};
use crate::harness::{World, exchange};

type Fields = Vec<(String, String)>;

fn ask(world: &World, head: &str, body: &[u8]) -> Option<(u16, Fields, Vec<u8>)> {
    let reply = exchange(world.addr, &[head.as_bytes(), body].concat())?;
    Some((reply.status, reply.headers, reply.body))
}

#[test]
fn s_up_1_no_word_of_a_client_or_an_app_makes_the_gate_ask_somebody_else() {
    let (app, inside) = (Recorder::start(), Recorder::start());
    let world = in_front_of(&app);
    let there = inside.addr;
    for (head, status) in [
        (format!("GET http://{there}/ HTTP/1.1\r\nHost: {there}\r\n"), 421),
        (format!("GET http://{there}/ HTTP/1.1\r\nHost: a\r\n"), 400),
        (format!("GET http://a/ HTTP/1.1\r\nHost: {there}\r\n"), 400),
        (format!("GET / HTTP/1.1\r\nHost: {there}\r\n"), 421),
        (format!("CONNECT {there} HTTP/1.1\r\nHost: {there}\r\n"), 405),
        (format!("CONNECT {there} HTTP/1.1\r\nHost: a\r\n"), 405),
        (format!("GET //{there}/ HTTP/1.1\r\nHost: a\r\n"), 400),
        (format!("GET @{there}/ HTTP/1.1\r\nHost: a\r\n"), 400),
    ] {
        let got = ask(&world, &format!("{head}Connection: close\r\n\r\n"), b"").map(|(status, _, _)| status);
        assert_eq!(got, Some(status), "{head}");
    }
    assert!(app.seen().is_empty());
    let said: String = [
        "X-Forwarded-Host",
        "X-Forwarded-Server",
        "X-Host",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Real-IP",
        "Forwarded",
        "Destination",
        "Referer",
        "Via",
    ]
    .iter()
    .map(|name| {
        let value = if *name == "Forwarded" { format!("host={there}") } else { format!("http://{there}/") };
        format!("{name}: {value}\r\n")
    })
    .collect();
    let got = ask(&world, &format!("GET /x HTTP/1.1\r\nHost: a\r\n{said}Connection: close\r\n\r\n"), b"");
    assert_eq!(got.map(|(status, _, _)| status), Some(200));
    assert_eq!(app.seen().len(), 1);
    // An app that is asked for a way to somebody else, and says it: the browser's business.
    for status in [301, 302, 303, 307, 308] {
        let answer = format!("HTTP/1.1 {status} Go\r\nLocation: http://{there}/x\r\nContent-Length: 0\r\n\r\n");
        app.says(move |_| Says::Whole(answer.clone().into_bytes()));
        let (got, fields, _) = ask(&world, "GET /go HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"").unwrap();
        assert_eq!(got, status);
        assert!(fields.contains(&("location".into(), format!("http://{there}/x"))));
    }
    assert!(inside.seen().is_empty() && inside.most() == 0, "nobody came");
}

/// `a=1&_method=DELETE&b=` and 20 000 times `x`, as gzip: 83 bytes. A real one has a factor of a thousand.
const BOMB: &str = "1f8b0800000000000203edc1a10d80301000c06dea3bc03bde55d613484930a406c1f85d03717747d4b23fd77bcf115bb6ec59\
                    cef800000000000000000000000000000000000000f8850538b13b76354e0000";

fn bomb() -> Vec<u8> {
    data_encoding::HEXLOWER.decode(BOMB.as_bytes()).unwrap()
}

fn post(bomb: &[u8], kind: &str) -> String {
    let length = bomb.len();
    format!(
        "POST /form HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\nContent-Encoding: gzip\r\n\
         Content-Length: {length}\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n"
    )
}

#[test]
fn s_up_8_what_is_compressed_passes_as_it_is_both_ways() {
    let app = Recorder::start();
    let world = in_front_of(&app);
    let bomb = bomb();
    let mut answer =
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", bomb.len()).into_bytes();
    answer.extend_from_slice(&bomb);
    app.says(move |_| Says::Whole(answer.clone()));
    let head = post(&bomb, "application/x-www-form-urlencoded");
    let (status, fields, body) = ask(&world, &head, &bomb).unwrap();
    assert_eq!((status, body.as_slice()), (200, bomb.as_slice()));
    assert!(fields.contains(&("content-encoding".into(), "gzip".into())));
    let seen = app.seen();
    assert_eq!((seen[0].framing, seen[0].body.as_deref()), (Framing::Length, Some(bomb.as_slice())));
    assert_eq!((seen[0].values("content-encoding"), seen[0].values("accept-encoding")), (vec!["gzip"], vec!["gzip"]));
}

/// Where a form decides, one that is compressed is not unpacked to be read: it may be anything.
#[test]
fn s_up_8_a_compressed_form_is_judged_as_what_cannot_be_read() {
    let app = Recorder::start();
    let rules = "rules: [{ match: { path: /**, methods: [DELETE] }, deny: \"No.\" }, \
                 { match: { path: /** }, allow: [anyone], require: none }]";
    let entry = format!("{{ app: a, hosts: [a], upstream: {{ urls: [\"http://{}\"] }}, {rules} }}", app.addr);
    let world = World::new().main(&format!("apps: [{entry}]")).start();
    let bomb = bomb();
    for kind in ["application/x-www-form-urlencoded", "application/json"] {
        assert_eq!(ask(&world, &post(&bomb, kind), &bomb).map(|(status, _, _)| status), Some(403), "{kind}");
    }
    // Nor is what says that it is compressed taken at its plain bytes.
    let head = post(b"a=1", "application/x-www-form-urlencoded");
    assert_eq!(ask(&world, &head, b"a=1").map(|(status, _, _)| status), Some(403));
    assert!(app.seen().is_empty());
    let plain = "POST /form HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                 Content-Length: 3\r\nConnection: close\r\n\r\na=1";
    assert_eq!(ask(&world, plain, b"").map(|(status, _, _)| status), Some(200), "it was the form");
    // Our own pages read nothing but plain forms either.
    let login = post(&bomb, "application/x-www-form-urlencoded").replace("/form", "/.stepgate/login");
    let (status, _, body) = ask(&world, &login.replace("Host: a", "Host: login.test"), &bomb).unwrap();
    assert!((400..500).contains(&status) && body.len() < 64 * 1024, "{status}");
}
