//! What does a gate know of what happened beside it: at another gate, by a command?

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::path::Path;

use crate::harness::app::RecordingApp;
use crate::harness::program::Served;
use crate::harness::{Browser, Person, send};
use crate::store::{drop_database, scratch_database};

/// An app whose answers never end: a socket, a stream of events, a download.
fn endless_app() -> RecordingApp {
    let app = RecordingApp::start();
    // The harness's app keeps a connection whose answer seems to say a length.
    app.answers(|request| {
        let answer = match request.line.split(' ').nth(1) {
            Some("/socket") => {
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-Content-Length: 0\r\n\r\n"
            }
            Some("/events") => {
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
                 9\r\ndata: 1\n\n\r\n"
            }
            Some("/iso") => "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegin",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        };
        answer.as_bytes().to_vec()
    });
    app
}

fn gate(dir: &Path, app: &RecordingApp, main: &str) -> Served {
    std::fs::create_dir_all(dir).unwrap();
    let text = format!(
        "version: 1\nlisten:\n  - {{ addr: \"127.0.0.1:0\", role: proxy }}\n  - {{ addr: \"127.0.0.1:0\", role: ops }}\nportal: {{ host: login.test, title: Example Corp }}\nstate: {}\n{main}apps:\n  - {{ app: wiki, hosts: [app.test], upstream: {{ urls: [\"http://{}\"] }} }}\n",
        dir.join("state").display(),
        app.addr
    );
    std::fs::write(dir.join("stepgate.yaml"), text).unwrap();
    Served::start(dir)
}

fn signed_in(gate: &Served, person: &Person) -> Browser {
    let mut browser = Browser::new(gate.proxy);
    let page = browser.open("http://app.test/");
    let page = browser.submit(&page, &[("username", &person.name), ("password", &person.password)]);
    let landed = browser.submit(&page, &[("code", &Served::code(person))]);
    assert_eq!(landed.reply.text(), "ok");
    browser
}

/// A socket, a stream of events and a download of this browser, under way.
fn live(browser: &Browser) -> [TcpStream; 3] {
    let of_app = browser.cookies.iter().filter(|(host, _, _)| host == "app.test");
    let cookie: Vec<String> = of_app.map(|(_, name, value)| format!("{name}={value}")).collect();
    let cookie = cookie.join("; ");
    let opens = |path: &str, more: &str, status: &str, begins: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: app.test\r\nCookie: {cookie}\r\n{more}\r\n");
        let mut stream = send(browser.gate, head.as_bytes());
        let mut got = Vec::new();
        while !String::from_utf8_lossy(&got).contains(begins) {
            let mut piece = [0; 4096];
            let n = stream.read(&mut piece).unwrap();
            assert_ne!(n, 0, "{path}: {}", String::from_utf8_lossy(&got));
            got.extend_from_slice(&piece[..n]);
        }
        assert!(got.starts_with(format!("HTTP/1.1 {status}").as_bytes()), "{}", String::from_utf8_lossy(&got));
        stream
    };
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://app.test\r\n";
    [
        opens("/socket", upgrade, "101", "\r\n\r\n"),
        opens("/events", "", "200", "data: 1\n\n\r\n"),
        opens("/iso", "", "200", "begin"),
    ]
}

/// Waits for the end of all three, and says what came before it.
fn ends(streams: [TcpStream; 3]) -> [Vec<u8>; 3] {
    streams.map(|mut stream| {
        let mut rest = Vec::new();
        match stream.read_to_end(&mut rest) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("it outlives its session"),
            // What a connection that is cut short comes to is the system's choice.
            Ok(_) | Err(_) => rest,
        }
    })
}

/// A close frame that says 1008, policy violation; the others are cut and not finished.
const SAID: [&[u8]; 3] = [&[0x88, 2, 0x03, 0xf0], b"", b""];

fn is_sent_away(browser: &Browser) {
    let mut again = browser.clone();
    assert_eq!(again.request("GET", "http://app.test/", &[("accept", "application/json")], None).status, 401);
}

#[test]
fn s_ws_2_a_command_beside_the_gate_ends_what_runs() {
    let (dir, app) = (tempfile::tempdir().unwrap(), endless_app());
    let gate = gate(dir.path(), &app, "");
    let (ann, bob) = (signed_in(&gate, &gate.add_person("ann")), signed_in(&gate, &gate.add_person("bob")));
    let (of_ann, mut of_bob) = (live(&ann), live(&bob));
    gate.command(&["session", "end", "--user", "ann"], "");
    assert_eq!(ends(of_ann), SAID);
    is_sent_away(&ann);
    // Bob's go on.
    for stream in &mut of_bob {
        stream.set_nonblocking(true).unwrap();
        assert_eq!(stream.read(&mut [0]).map_err(|e| e.kind()), Err(ErrorKind::WouldBlock));
        stream.set_nonblocking(false).unwrap();
    }
    gate.command(&["session", "end", "--all"], "");
    assert_eq!(ends(of_bob), SAID);
    is_sent_away(&bob);
}

#[test]
fn s_ws_2_a_sign_out_at_another_replica_ends_what_runs_here() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some((server, database, url)) = runtime.block_on(scratch_database()) else { return };
    let (dir, app) = (tempfile::tempdir().unwrap(), endless_app());
    let (url_file, keys) = (dir.path().join("url"), dir.path().join("keyring.json"));
    std::fs::write(&url_file, url).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&url_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let store = format!("store: {{ url: {{ file: {} }}, keys: {{ file: {} }} }}\n", url_file.display(), keys.display());
    let here = gate(&dir.path().join("here"), &app, &store);
    let there = gate(&dir.path().join("there"), &app, &store);

    let ann = signed_in(&here, &here.add_person("ann"));
    let bob = signed_in(&here, &there.add_person("bob"));
    let (of_ann, of_bob) = (live(&ann), live(&bob));
    let mut elsewhere = Browser { gate: there.proxy, ..ann.clone() };
    let page = elsewhere.open("http://app.test/.stepgate/logout");
    elsewhere.submit(&page, &[]);
    assert_eq!(ends(of_ann), SAID);
    is_sent_away(&ann);

    there.command(&["session", "end", "--user", "bob"], "");
    assert_eq!(ends(of_bob), SAID);
    is_sent_away(&bob);
    drop((here, there));
    runtime.block_on(drop_database(&server, &database));
}
