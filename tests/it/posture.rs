//! One word makes every gate on this state more careful, within a second, and one makes it as it was.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::cli::{Desk, GOOD};
use crate::harness::app::{Recorded, RecordingApp};
use crate::harness::program::Served;
use crate::harness::{Browser, Person, World, exchange, send};
use crate::store::{drop_database, scratch_database};

const MAIN: &str = "postures:\n  elevated: { levels: { mfa: { factors: 2, max_age: 5m } } }\n  lockdown: { allow: [group:incident], say: \"We are looking into something.\" }\n";
const RULES: &str = r#"
require: mfa
rules:
  - { name: status, match: { path: /status }, allow: [anyone], require: none, lockdown: open }
  - { name: open, match: { path: /open }, allow: [anyone], require: none }
  - { name: export, match: { path: /export, posture: [elevated, lockdown] }, deny: "No exports at the moment." }
"#;

fn gate(dir: &Path, app: &RecordingApp, store: &str) -> Served {
    std::fs::create_dir_all(dir).unwrap();
    let rules: String = RULES.lines().map(|line| format!("    {line}\n")).collect();
    let text = format!(
        "version: 1\nlisten:\n  - {{ addr: \"127.0.0.1:0\", role: proxy }}\n  - {{ addr: \"127.0.0.1:0\", role: ops }}\nportal: {{ host: login.test, title: Example Corp }}\nstate: {}\n{store}{MAIN}apps:\n  - app: wiki\n    hosts: [app.test]\n    upstream: {{ urls: [\"http://{}\"] }}\n{rules}",
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

fn asks(browser: &Browser, path: &str) -> u16 {
    let url = format!("http://app.test{path}");
    browser.clone().request("GET", &url, &[("accept", "application/json")], None).status
}

/// The harness's app keeps a connection whose answer seems to say a length.
fn answers(request: &Recorded) -> Vec<u8> {
    let answer = if request.line.contains("/events") {
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nX-Content-Length: 0\r\n\r\n9\r\ndata: 1\n\n\r\n"
    } else {
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    };
    answer.as_bytes().to_vec()
}

/// A stream of events of this person, under way.
fn events(browser: &Browser) -> TcpStream {
    let of_app = browser.cookies.iter().filter(|(host, _, _)| host == "app.test");
    let cookie: Vec<String> = of_app.map(|(_, name, value)| format!("{name}={value}")).collect();
    let head = format!("GET /events HTTP/1.1\r\nHost: app.test\r\nCookie: {}\r\n\r\n", cookie.join("; "));
    let mut events = send(browser.gate, head.as_bytes());
    let mut got = Vec::new();
    // To the end of the chunk: nothing but the end may come behind it.
    while !got.ends_with(b"data: 1\n\n\r\n") {
        let mut piece = [0; 4096];
        let n = events.read(&mut piece).unwrap();
        assert_ne!(n, 0, "{}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&piece[..n]);
    }
    events
}

fn is_over(mut events: TcpStream) {
    let mut rest = Vec::new();
    match events.read_to_end(&mut rest) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("it outlives the lockdown"),
        Ok(_) | Err(_) => assert_eq!(rest, b""),
    }
}

fn readyz(gate: &Served, path: &str) -> String {
    let head = format!("GET {path} HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n");
    exchange(gate.ops, head.as_bytes()).unwrap().text()
}

#[test]
fn a_word_closes_all_that_is_not_marked_and_one_opens_it_again() {
    let (dir, app) = (tempfile::tempdir().unwrap(), RecordingApp::start());
    app.answers(answers);
    let mut gate = gate(dir.path(), &app, "");
    assert_eq!(gate.command(&["posture"], "").trim(), "normal");
    let (ann, dana) = (gate.add_person("ann"), gate.add_person("dana"));
    gate.command(&["user", "groups", "dana", "--add", "incident"], "");
    let (ann, dana) = (signed_in(&gate, &ann), signed_in(&gate, &dana));
    let stranger = Browser::new(gate.proxy);
    let all = |who: &Browser| ["/", "/status", "/open", "/export"].map(|path| asks(who, path));
    assert_eq!((all(&ann), all(&dana), all(&stranger)), ([200; 4], [200; 4], [401, 200, 200, 401]));
    let (of_ann, mut of_dana) = (events(&ann), events(&dana));

    let said = gate.command(&["posture", "elevated", "--for", "2h", "--why", "odd sign-ins"], "");
    assert!(said.starts_with("elevated until ") && said.contains(": odd sign-ins"), "{said}");
    assert_eq!(gate.until("the posture is elevated")["why"], "odd sign-ins");
    assert_eq!((all(&ann), all(&stranger)), ([200, 200, 200, 403], [401, 200, 200, 403]));

    gate.command(&["posture", "lockdown", "--why", "stolen key"], "");
    assert_eq!(gate.until("the posture is lockdown")["level"], "WARN");
    assert_eq!(all(&ann), [403, 200, 403, 403]);
    assert_eq!(all(&dana), [200, 200, 200, 403], "for her the rules hold as ever");
    assert_eq!(all(&stranger), [401, 200, 403, 403], "who signs in may be one of those");
    let page = ann.clone().get("http://app.test/");
    assert!(page.text().contains("We are looking into something."), "{}", page.text());
    // What ran is over with the word that closed it, but for whom it is not closed.
    is_over(of_ann);
    of_dana.set_nonblocking(true).unwrap();
    assert_eq!(of_dana.read(&mut [0]).map_err(|e| e.kind()), Err(ErrorKind::WouldBlock));

    // A reload changes the file, and not the posture.
    gate.signal("HUP");
    gate.until("the configuration was taken");
    assert_eq!(asks(&ann, "/"), 403);
    let ready: serde_json::Value = serde_json::from_str(&readyz(&gate, "/readyz")).unwrap();
    assert_eq!(ready["posture"], serde_json::json!({ "in_force": "lockdown", "until": null }));
    let metrics = readyz(&gate, "/metrics");
    assert!(metrics.contains("stepgate_posture{posture=\"lockdown\"} 1\n"), "{metrics}");
    assert!(metrics.contains("stepgate_posture{posture=\"normal\"} 0\n"), "{metrics}");
    let shown: serde_json::Value = serde_json::from_str(&gate.command(&["posture", "--json"], "")).unwrap();
    assert_eq!((shown["posture"].as_str(), shown["why"].as_str()), (Some("lockdown"), Some("stolen key")));

    // Nor does a restart.
    drop(gate);
    let mut gate = self::gate(dir.path(), &app, "");
    let ann = Browser { gate: gate.proxy, ..ann };
    assert_eq!(asks(&ann, "/"), 403);
    gate.command(&["posture", "normal", "--why", "key revoked"], "");
    gate.until("the posture is normal again");
    assert_eq!(all(&ann), [200; 4]);
    let trail = gate.command(&["audit", "tail", "--json"], "");
    for said in ["odd sign-ins (until ", "stolen key", "key revoked"] {
        assert!(trail.contains(said), "{said}: {trail}");
    }
}

#[test]
fn an_elevated_posture_asks_again_and_ends_by_itself() {
    let world = World::new().main(MAIN).app(RULES).start();
    let ann = world.add_person("ann", &[]);
    let mut browser = world.browser();
    world.sign_in(&mut browser, &ann, "http://app.test/");
    world.wait_clock(Duration::from_secs(6 * 60));
    assert_eq!(browser.get("http://app.test/").status, 200);
    let core = world.gate().core().clone();
    let posture = |posture, minutes: u64| {
        let (now, core) = (world.now(), core.clone());
        world.on_background(async move {
            let mut tx = core.store.begin().await.unwrap();
            let until = Some(now.plus(Duration::from_secs(minutes * 60)));
            let row =
                stepgate::store::PostureRow { posture, until, why: "w".into(), set_by: "ops".into(), set_at: now };
            tx.set_posture(&row).await.unwrap();
            tx.commit_unaudited(stepgate::store::Unaudited::Housekeeping).await.unwrap();
        });
    };
    let becomes = |wanted| {
        let begun = Instant::now();
        while core.snapshot.load().posture != wanted {
            assert!(begun.elapsed() < Duration::from_secs(20), "it never becomes {wanted}");
            std::thread::yield_now();
        }
    };
    use stepgate::domain::posture::Posture;
    posture(Posture::Elevated, 30);
    becomes(Posture::Elevated);
    let page = browser.open("http://app.test/");
    assert!(page.url.contains("login.test/.stepgate/step-up"), "{}", page.url);
    let page = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    assert_eq!(page.url, "http://app.test/", "what the portal asks for is what the gate asks for");
    world.wait_clock(Duration::from_secs(6 * 60));
    assert_eq!(asks(&browser, "/"), 401);
    world.wait_clock(Duration::from_secs(24 * 60));
    becomes(Posture::Normal);
    assert_eq!(asks(&browser, "/"), 401, "its session was idle too long");
}

#[test]
fn s_ws_2_a_lockdown_said_at_one_replica_ends_what_runs_at_another() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some((server, database, url)) = runtime.block_on(scratch_database()) else { return };
    let (dir, app) = (tempfile::tempdir().unwrap(), RecordingApp::start());
    app.answers(answers);
    let (url_file, keys) = (dir.path().join("url"), dir.path().join("keyring.json"));
    std::fs::write(&url_file, url).unwrap();
    std::fs::set_permissions(&url_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let store = format!("store: {{ url: {{ file: {} }}, keys: {{ file: {} }} }}\n", url_file.display(), keys.display());
    let here = gate(&dir.path().join("here"), &app, &store);
    let mut there = gate(&dir.path().join("there"), &app, &store);
    let ann = signed_in(&there, &here.add_person("ann"));
    let events = events(&ann);
    here.command(&["posture", "lockdown", "--why", "stolen key"], "");
    assert_eq!(there.until("the posture is lockdown")["why"], "stolen key");
    is_over(events);
    assert_eq!(asks(&ann, "/"), 403);
    drop((here, there));
    runtime.block_on(drop_database(&server, &database));
}

#[test]
fn what_cannot_be_meant_by_a_posture_is_told() {
    let check = |rules: &str, postures: &str| {
        let said = Desk::with(&format!("{GOOD}{rules}postures: {postures}\n")).run("check");
        format!("{}{}", said.out, said.err)
    };
    for (postures, says) in [
        ("{ lockdown: { allow: [anyone] } }", "`anyone` in a lockdown: it would close nothing"),
        ("{ elevated: { levels: { mfaa: { factors: 2 } } } }", "there is no level \"mfaa\""),
        ("{ elevated: { levels: { mfa: { factors: 1 } } } }", "in this posture the level `mfa` asks for less"),
    ] {
        let said = check("", postures);
        assert!(said.contains(says), "{says}: {said}");
    }
    let rule = "\x20 rules:\n\x20 - { name: l, match: { path: /l, posture: lockdown }, require: fresh }\n";
    let dead = "holds in a lockdown alone, which closes it to everybody";
    assert!(check(rule, "{ lockdown: { say: Closed } }").contains(dead));
    assert!(!check(rule, "{ lockdown: { allow: [group:incident] } }").contains(dead));
    assert!(!check(&rule.replace("require: fresh", "require: fresh, lockdown: open"), "{}").contains(dead));
}

#[test]
fn commands_answer_for_a_posture_before_it_is_said() {
    let rules = "\x20 rules:\n\
         \x20 - { name: status, match: { path: /status }, allow: [anyone], require: none, lockdown: open }\n\
         \x20 - { name: export, match: { path: /export, posture: elevated }, deny: \"Not now.\" }\n";
    let desk = Desk::with(&format!("{GOOD}{rules}"));
    let said = |line: &str| desk.run(line).out;
    let asked = "explain GET http://wiki.localhost:8080";
    assert!(said(&format!("{asked}/export --as ann --groups staff --at mfa")).contains("\n\nALLOW"));
    let elevated = said(&format!("{asked}/export --as ann --groups staff --at mfa --posture elevated"));
    assert!(elevated.contains("\n\nDENY") && elevated.contains("in the posture elevated"), "{elevated}");
    let lockdown = said(&format!("{asked}/page --as ann --groups staff --at mfa --posture lockdown"));
    assert!(lockdown.contains("\n\nDENY") && lockdown.contains("by the lockdown"), "{lockdown}");
    assert!(said(&format!("{asked}/status --posture lockdown")).contains("\n\nALLOW"));
    desk.write("new.yaml", &format!("{GOOD}{}", rules.replace(", lockdown: open", "").replace("elevated", "normal")));
    let diff = said("diff stepgate.yaml new.yaml --posture lockdown");
    assert!(diff.contains("open in a lockdown") && diff.contains("in elevated") && diff.contains("/status"), "{diff}");
    let proved = said("prove --posture elevated");
    assert!(proved.contains("export"), "{proved}");
}
