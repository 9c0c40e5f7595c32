//! What becomes of everybody else when there is more than the gate can carry?

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use stepgate::domain::route::AppName;

use crate::harness::app::{Recorded, RecordingApp};
use crate::harness::program::Served;
use crate::harness::tls::{certificate, trusting};
use crate::harness::{Browser, exchange, read_reply, send};
use crate::wire::h2;

/// File descriptors of the gate: 255 client connections, 31 of them kept for signing in, and 153 sockets to
/// apps, a quarter of which are for one address.
const FILES: u32 = 512;
const ORDINARY: usize = 224;
const KEPT: usize = 31;
const REQUESTS_OF_AN_ADDRESS: usize = 38;
/// Connections with a request that never ends.
const BUSY: usize = 20;

/// A gate with little room in front of `app`: `/open/**` for everybody, the rest for who signed in.
fn small_gate(dir: &tempfile::TempDir, app: SocketAddr, further_listeners: &str, main: &str) -> Served {
    let text = format!(
        "version: 1\nlisten:\n  - {{ addr: \"127.0.0.1:0\", role: proxy }}\n  - {{ addr: \"127.0.0.1:0\", role: ops }}\n{further_listeners}{main}portal: {{ host: login.test, title: Example Corp }}\nstate: state\napps:\n  - app: wiki\n    hosts: [app.test]\n    upstream: {{ urls: [\"http://{app}\"] }}\n    rules:\n      - {{ match: {{ path: /open/** }}, allow: [anyone], require: none }}\n      - {{ match: {{ path: /** }}, require: mfa }}\n"
    );
    std::fs::write(dir.path().join("stepgate.yaml"), text).unwrap();
    Served::with_files(dir.path(), FILES)
}

/// The same with a second listener, which speaks TLS, and how one opens HTTP/2 to it.
fn small_gate_with_tls(dir: &tempfile::TempDir, app: SocketAddr) -> (Served, impl Fn() -> h2::Client) {
    let certs = dir.path().join("tls");
    std::fs::create_dir(&certs).unwrap();
    let pem = certificate(&certs, "a", &["a"]);
    let gate = small_gate(dir, app, "  - { addr: \"127.0.0.1:0\", role: proxy, tls: { certificates: tls } }\n", "");
    let addr = gate.more[0];
    (gate, move || h2::Client::open(addr, trusting(&pem, "h2")))
}

fn field(name: &str, value: &str) -> (Vec<u8>, Vec<u8>) {
    (name.as_bytes().to_vec(), value.as_bytes().to_vec())
}

fn asks(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// A connection that has had an answer and waits for the next request.
fn waiting(gate: SocketAddr) -> TcpStream {
    let mut stream = send(gate, asks("app.test", "/open/x").as_bytes());
    assert_eq!(read_reply(&mut stream, false).map(|r| r.status), Some(200));
    stream
}

/// A connection with a request under way that the gate waits for: its body never comes to its end.
fn busy(gate: SocketAddr) -> TcpStream {
    let head =
        "POST /.stepgate/login HTTP/1.1\r\nHost: login.test\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n";
    let mut stream = send(gate, head.as_bytes());
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream
}

/// Until it is so: the gate learns of a closed connection on its own time.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

fn gauge(gate: &Served, name: &str) -> i64 {
    let metrics = exchange(gate.ops, asks("ops\r\nConnection: close", "/metrics").as_bytes()).unwrap().text();
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name}: {metrics}")).parse().unwrap()
}

#[test]
fn s_lim_3_a_full_gate_still_signs_people_in_and_tells_how_it_is() {
    let (dir, app) = (tempfile::tempdir().unwrap(), RecordingApp::start());
    let gate = small_gate(&dir, app.addr, "", "");
    let ann = gate.add_person("ann");
    let mut browser = Browser::new(gate.proxy);
    let login = browser.get("http://app.test/mine").location().to_owned();
    let mut crowd: Vec<TcpStream> = (0..ORDINARY).map(|_| busy(gate.proxy)).collect();

    assert_eq!(gate.get(gate.ops, "/readyz"), 200);
    for path in ["/", "/open/x", "/.stepgatex"] {
        let mut stream = send(gate.proxy, asks("app.test", path).as_bytes());
        let refused = read_reply(&mut stream, false).unwrap();
        assert_eq!((refused.status, refused.json()["type"].as_str()), (503, Some("urn:stepgate:problem:overloaded")));
        assert!(
            refused.header("retry-after").is_some() && refused.header("connection") == Some("close"),
            "{refused:?}"
        );
        assert!(read_reply(&mut stream, false).is_none(), "its place is free again");
    }
    // The first one of the crowd goes on being served.
    crowd[0].write_all(b"username=a").unwrap();
    assert!(read_reply(&mut crowd[0], false).is_some_and(|r| r.status != 503));

    let page = browser.open(&login);
    assert_eq!(page.reply.status, 200);
    let page = browser.submit(&page, &[("username", &ann.name), ("password", &ann.password)]);
    let code = Served::code(&ann);
    let landed = browser.submit(&page, &[("code", &code)]);
    assert_eq!((landed.url.as_str(), landed.reply.status), ("http://app.test/mine", 503), "{}", landed.reply.text());
    assert!(app.received().is_empty());

    drop(crowd);
    eventually("there is room again", || gate.get(gate.proxy, "/") == 401);
    let there = browser.open("http://app.test/mine");
    assert_eq!((there.reply.status, there.reply.text().as_str()), (200, "ok"), "she is signed in");
}

/// Many addresses that hold a connection each and ask nothing: whoever has something to ask gets their places.
#[test]
fn s_lim_3_who_only_holds_a_connection_gives_way_to_who_has_something_to_ask() {
    let (dir, app) = (tempfile::tempdir().unwrap(), RecordingApp::start());
    let gate = small_gate(&dir, app.addr, "", "");
    let ann = gate.add_person("ann");
    let mut browser = Browser::new(gate.proxy);
    let page = browser.open("http://app.test/mine");
    let page = browser.submit(&page, &[("username", &ann.name), ("password", &ann.password)]);
    let landed = browser.submit(&page, &[("code", &Served::code(&ann))]);
    assert_eq!((landed.url.as_str(), landed.reply.status), ("http://app.test/mine", 200));
    let cookie = browser.cookie("app.test", "__Host-Http-stepgate").unwrap().to_owned();
    let mine = || {
        let fields = format!("Cookie: __Host-Http-stepgate={cookie}\r\nConnection: close\r\n");
        let asked = format!("GET /mine HTTP/1.1\r\nHost: app.test\r\n{fields}\r\n");
        exchange(gate.proxy, asked.as_bytes()).map(|r| r.status)
    };

    let mut working = busy(gate.proxy);
    let _crowd: Vec<TcpStream> = (1..ORDINARY).map(|_| waiting(gate.proxy)).collect();
    eventually("somebody with a session comes in", || mine() == Some(200));
    for _ in 0..20 {
        assert_eq!(mine(), Some(200), "and goes on");
    }
    working.write_all(b"username=a").unwrap();
    assert!(read_reply(&mut working, false).is_some(), "who has a request under way gives no way");
}

/// The word to give way stays with nobody who cannot go: a request that never ends would shield all who only hold
/// a place behind it.
#[test]
fn s_lim_3_who_has_a_request_under_way_passes_on_that_a_place_is_needed() {
    let (dir, app) = (tempfile::tempdir().unwrap(), RecordingApp::start());
    let (gate, open_h2) = small_gate_with_tls(&dir, app.addr);
    let post = [
        field(":method", "POST"),
        field(":scheme", "https"),
        field(":authority", "login.test"),
        field(":path", "/.stepgate/login"),
        field("content-length", "10"),
    ];
    let busy: Vec<h2::Client> = (0..BUSY)
        .map(|_| {
            let mut client = open_h2();
            client.write(&h2::frame(h2::HEADERS, h2::END_HEADERS, 1, &h2::block(&post))).unwrap();
            client
        })
        .collect();
    let idle: Vec<TcpStream> = (BUSY..ORDINARY).map(|_| waiting(gate.proxy)).collect();
    // The one that asks for the metrics is open as well.
    let open = || gauge(&gate, "stepgate_connections_open") - 1;
    let all = i64::try_from(ORDINARY).unwrap();
    // One that asked for the metrics a moment ago may still be counted.
    eventually("all stand in the queue, the busy ones first", || {
        gauge(&gate, "stepgate_connections_idle") == all && open() == all
    });
    let ask = || exchange(gate.proxy, asks("app.test\r\nConnection: close", "/open/x").as_bytes()).map(|r| r.status);
    assert_eq!(ask(), Some(503));
    eventually("one that only holds a place has gone", || open() < all);
    assert_eq!(ask(), Some(200));
    drop((busy, idle));
}

/// Whoever sits on a kept place is sent away, so that the flood that took the others cannot have these too.
#[test]
fn s_lim_3_a_kept_place_is_not_held_by_silence() {
    let (dir, app) = (tempfile::tempdir().unwrap(), RecordingApp::start());
    let gate = small_gate(&dir, app.addr, "", "");
    let _crowd: Vec<TcpStream> = (0..ORDINARY).map(|_| busy(gate.proxy)).collect();
    let login = || exchange(gate.proxy, asks("login.test", "/.stepgate/login").as_bytes()).map(|r| r.status);
    let half = "POST /.stepgate/login HTTP/1.1\r\nHost: login.test\r\nContent-Length: 10\r\n\r\nhalf";
    let mut silent: Vec<TcpStream> =
        (0..KEPT).map(|n| send(gate.proxy, if n % 2 == 0 { b"" } else { half.as_bytes() })).collect();
    eventually("every place is taken", || login().is_none());
    for stream in &mut silent {
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0, "closed, and nothing said");
    }
    eventually("the kept places are free", || login() == Some(200));
}

/// HTTP/2 carries many requests at once, and a kept place is for one.
#[test]
fn s_lim_3_a_kept_place_carries_one_request_over_http_2_too() {
    let (dir, app) = (tempfile::tempdir().unwrap(), RecordingApp::start());
    let (gate, open_h2) = small_gate_with_tls(&dir, app.addr);
    let login = [
        field(":method", "GET"),
        field(":scheme", "https"),
        field(":authority", "login.test"),
        field(":path", "/.stepgate/login"),
    ];
    let ask = |stream| h2::frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, stream, &h2::block(&login));
    // Answers, and streams that were refused so that their client may ask elsewhere (RFC 9113 section 8.7).
    let outcome = |asked: &[u32]| {
        let mut client = open_h2();
        client.write(&asked.iter().flat_map(|stream| ask(*stream)).collect::<Vec<u8>>()).unwrap();
        let (mut answers, mut refused) = (Vec::new(), 0);
        while answers.len() + refused < asked.len() {
            let frame = client.read().expect("each stream ends");
            match frame.kind {
                h2::HEADERS => answers.push(frame.status()),
                h2::RST_STREAM if frame.error() == h2::REFUSED_STREAM => refused += 1,
                _ => {}
            }
        }
        (answers, refused)
    };
    assert_eq!(outcome(&[1, 3, 5]), (vec![200, 200, 200], 0));
    let _crowd: Vec<TcpStream> = (0..ORDINARY).map(|_| busy(gate.proxy)).collect();
    assert_eq!(outcome(&[1, 3, 5]), (vec![200], 2));
}

#[test]
fn s_lim_3_with_every_socket_to_apps_in_use_requests_are_judged_first_and_sign_in_goes_on() {
    let world = crate::harness::World::new()
        .app("rules: [{ match: { path: /open/** }, allow: [anyone], require: none }, { match: { path: /** }, require: mfa }]")
        .start();
    let ann = world.add_person("ann", &[]);
    let places = &world.gate().core().proxy.places;
    let one_more = || ["one", "two"].iter().find_map(|app| places.take(&AppName::new(app)));
    let held: Vec<_> = std::iter::from_fn(one_more).collect();
    assert_eq!(world.program().get("http://app.test/x").status, 401, "who may not come in is not told more");
    assert_eq!(world.program().get("http://app.test/open/x").status, 503);
    let mut browser = world.browser();
    let landed = world.sign_in(&mut browser, &ann, "http://app.test/x");
    assert_eq!((landed.url.as_str(), landed.reply.status), ("http://app.test/x", 503), "{}", landed.reply.text());
    assert!(landed.reply.header("retry-after").is_some());
    assert_eq!(exchange(world.ops(), asks("x", "/readyz").as_bytes()).map(|r| r.status), Some(200));
    assert!(world.backend.received().is_empty());
    drop(held);
    assert_eq!(browser.get("http://app.test/x").status, 200);
}

#[test]
fn s_lim_1_requests_of_one_address_over_the_limit_get_429_and_nobody_elses_do() {
    let (dir, app) = (tempfile::tempdir().unwrap(), RecordingApp::start());
    let gate = small_gate(
        &dir,
        app.addr,
        "  - { addr: \"127.0.0.1:0\", role: proxy, proxy_protocol: true }\n",
        "trusted_proxies: [127.0.0.1]\n",
    );
    // The app answers as often as it is let to.
    let (lets, let_go) = mpsc::channel::<()>();
    let (came, arrived) = mpsc::channel();
    let (let_go, came) = (Arc::new(Mutex::new(let_go)), Mutex::new(came));
    app.answers(move |request| {
        if request.line.contains("slow") {
            came.lock().unwrap().send(()).unwrap();
            let _ = let_go.lock().unwrap().recv();
        }
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()
    });
    let from = |client: &str, path: &str| {
        let header = format!("PROXY TCP4 {client} 10.0.0.1 51000 80\r\n");
        send(gate.more[0], format!("{header}{}", asks("app.test", path)).as_bytes())
    };
    let mut under_way: Vec<TcpStream> = (0..REQUESTS_OF_AN_ADDRESS).map(|_| from("192.0.2.7", "/open/slow")).collect();
    for _ in &under_way {
        arrived.recv_timeout(Duration::from_secs(30)).unwrap();
    }
    for path in ["/open/x", "/"] {
        let refused = read_reply(&mut from("192.0.2.7", path), false).unwrap();
        assert_eq!((refused.status, refused.header("retry-after")), (429, Some("5")), "{path}");
    }
    assert_eq!(
        read_reply(&mut from("192.0.2.8", "/open/x"), false).map(|r| r.status),
        Some(200),
        "nobody else's limit"
    );
    let asked = |r: &Recorded| r.line.contains("slow") || r.one("x-forwarded-for") == "192.0.2.8";
    assert!(app.received().iter().all(asked), "what was refused reached no app");
    lets.send(()).unwrap();
    eventually("an answer that was taken makes room for a request", || {
        read_reply(&mut from("192.0.2.7", "/open/x"), false).is_some_and(|r| r.status == 200)
    });
    drop(lets);
    for stream in &mut under_way {
        assert_eq!(read_reply(stream, false).map(|r| r.status), Some(200));
    }
}
