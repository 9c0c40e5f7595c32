//! The program as an operator runs it: start, ready, reload by signal, drain.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::harness::program::Served;
use crate::harness::{exchange, read_reply, send, tls};

fn config(dir: &std::path::Path, rule: &str) {
    let text = format!(
        "version: 1\nlisten:\n  - {{ addr: \"127.0.0.1:0\", role: proxy }}\n  - {{ addr: \"127.0.0.1:0\", role: ops }}\nportal: {{ host: login.test, title: Example Corp }}\nstate: state\napps:\n  - app: wiki\n    hosts: [app.test]\n    upstream: {{ urls: [\"http://127.0.0.1:9\"] }}\n    rules: [{{ name: all, match: {{ path: /** }}, {rule} }}]\n"
    );
    std::fs::write(dir.join("stepgate.yaml"), text).unwrap();
}

#[test]
fn an_app_that_a_reload_takes_away_is_said() {
    let dir = tempfile::tempdir().unwrap();
    config(dir.path(), "require: mfa");
    let mut gate = Served::start(dir.path());
    let file = dir.path().join("stepgate.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("app: wiki", "app: shop")).unwrap();
    gate.signal("HUP");
    assert_eq!(gate.until("app wiki was removed: no file has it any more")["level"], "WARN");
    assert_eq!(gate.until("app shop was added")["level"], "INFO");
}

#[test]
fn without_watch_a_changed_file_waits_for_the_signal() {
    let dir = tempfile::tempdir().unwrap();
    config(dir.path(), "deny: \"Closed.\"");
    let file = dir.path().join("stepgate.yaml");
    let closed = std::fs::read_to_string(&file).unwrap();
    let open = closed.replace("deny: \"Closed.\"", "require: mfa");
    std::fs::write(&file, format!("{closed}watch: false\n")).unwrap();
    let mut gate = Served::start(dir.path());
    std::fs::write(&file, format!("{open}watch: false\n")).unwrap();
    gate.until("a file of the configuration has changed; with `watch: false` it waits for a reload");
    assert_eq!(gate.get(gate.proxy, "/"), 403);
    std::fs::write(&file, &open).unwrap();
    gate.signal("HUP");
    gate.until("the configuration was taken");
    assert_eq!(gate.get(gate.proxy, "/"), 401);
    // Now they are watched.
    std::fs::write(&file, &closed).unwrap();
    gate.until("the configuration was taken");
    assert_eq!(gate.get(gate.proxy, "/"), 403);
}

#[test]
fn a_policy_that_would_lock_everybody_out_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    config(dir.path(), "allow: [group:staff], require: mfa");
    let mut gate = Served::start(dir.path());
    gate.command(&["user", "add", "ann", "--group", "staff", "--password-stdin"], "ann walks slowly home");
    gate.command(&["factor", "add", "ann", "totp", "--json"], "");
    config(dir.path(), "allow: [group:stafff], require: mfa");
    gate.signal("HUP");
    let line = gate.until("the configuration was not taken; the old one stays in force");
    let why = line["why"].as_str().unwrap();
    assert!(why.contains("the `allow` of rule all names nobody who has an account"), "{why}");
    // A refusal in words is meant.
    config(dir.path(), "deny: \"Closed.\"");
    gate.signal("HUP");
    gate.until("the configuration was taken");
    assert_eq!(gate.get(gate.proxy, "/"), 403);
}

/// Compared across replicas, whose files need not stand in one place.
#[test]
fn the_policy_has_one_name_in_readyz_the_metrics_and_wherever_its_files_stand() {
    let places = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut seen = Vec::new();
    for dir in &places {
        config(dir.path(), "deny: \"Closed.\"");
        let gate = Served::start(dir.path());
        let ask = |path: &str| {
            let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            exchange(gate.ops, head.as_bytes()).unwrap()
        };
        let told = ask("/readyz").json();
        let (hash, version) = (told["config"]["hash"].as_str().unwrap(), told["config"]["version"].as_str().unwrap());
        assert!(hash.starts_with(version) && version.len() == 12, "{told}");
        assert!(ask("/metrics").text().contains(&format!("stepgate_config_info{{version=\"{version}\"}} 1")));
        seen.push(hash.to_owned());
    }
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn an_operator_starts_reloads_and_drains_the_gate_by_signals() {
    let dir = tempfile::tempdir().unwrap();
    config(dir.path(), "deny: \"Closed.\"");
    let mut gate = Served::start(dir.path());
    assert_eq!(gate.get(gate.ops, "/readyz"), 200);
    assert_eq!(gate.get(gate.proxy, "/"), 403);

    config(dir.path(), "require: mfa");
    gate.signal("HUP");
    gate.until("the configuration was taken");
    assert_eq!(gate.get(gate.proxy, "/"), 401);

    config(dir.path(), "require: mfaa");
    gate.signal("HUP");
    let line = gate.until("the configuration was not taken; the old one stays in force");
    assert!(line["why"].as_str().unwrap().contains("did you mean"), "{line}");
    assert_eq!(gate.get(gate.proxy, "/"), 401);

    // What only a start can change is named.
    let text = std::fs::read_to_string(dir.path().join("stepgate.yaml")).unwrap();
    std::fs::write(
        dir.path().join("stepgate.yaml"),
        text.replace("mfaa", "mfa").replace("state: state", "state: other"),
    )
    .unwrap();
    gate.signal("HUP");
    let line = gate.until("the configuration was not taken; the old one stays in force");
    assert!(line["why"].as_str().unwrap().starts_with("`state` cannot change while serving"), "{line}");

    // The state is nobody else's, and a second gate on it is refused.
    use std::os::unix::fs::PermissionsExt;
    let mode =
        |name: &str| std::fs::metadata(dir.path().join("state").join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("keyring.json"), mode("stepgate.db"), mode("")), (0o600, 0o600, 0o700));
    config(dir.path(), "require: mfa");
    let second = Command::new(env!("CARGO_BIN_EXE_stepgate"))
        .args(["serve", "--config"])
        .arg(dir.path().join("stepgate.yaml"))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(3), "{}", String::from_utf8_lossy(&second.stderr));

    gate.signal("TERM");
    assert_eq!(gate.child.wait().unwrap().code(), Some(0));
    gate.until("stopped");
}

#[test]
fn the_program_says_everywhere_in_the_same_words_which_one_it_is() {
    let dir = tempfile::tempdir().unwrap();
    config(dir.path(), "deny: \"Closed.\"");
    let gate = Served::start(dir.path());
    let told = gate.command(&["--version"], "");
    let version = told.trim().strip_prefix("stepgate ").unwrap();
    assert!(version.starts_with(concat!(env!("CARGO_PKG_VERSION"), " (")), "{version}");
    let ask = |path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n");
        String::from_utf8(exchange(gate.ops, head.as_bytes()).unwrap().body).unwrap()
    };
    let ready: serde_json::Value = serde_json::from_str(&ask("/readyz")).unwrap();
    assert_eq!(ready["version"], version);
    let info = concat!("stepgate_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\",commit=\"");
    assert!(ask("/metrics").lines().any(|line| line.starts_with(info) && line.ends_with("\"} 1")));
}

/// The usual faults of a set-up; what a peer sent is not repeated.
#[test]
fn what_does_not_speak_as_its_listener_does_is_in_the_log_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    config(dir.path(), "deny: \"Closed.\"");
    tls::certificate(dir.path(), "gate", &["app.test"]);
    let file = dir.path().join("stepgate.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let more = "role: ops }\n  - { addr: \"127.0.0.1:0\", role: proxy, tls: { certificates: gate.crt } }\n";
    std::fs::write(&file, text.replacen("role: ops }\n", more, 1)).unwrap();
    let mut gate = Served::start(dir.path());
    let (clear, tls) = (gate.proxy, gate.more[0]);
    let proxy_header = b"PROXY TCP4 192.0.2.7 198.51.100.1 1 443\r\nGET /secret HTTP/1.1\r\nHost: app.test\r\n\r\n";
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\0\x01\x01\xbb";
    let hello = b"\x16\x03\x01\0\x05\x01\0\0\x01\0";
    for (listener, sent, said) in [
        (clear, proxy_header.as_slice(), "a PROXY header came"),
        (clear, hello, "TLS came to a listener that speaks clear text"),
        (tls, v2, "a PROXY header came"),
        (tls, b"GET /secret HTTP/1.1\r\nHost: app.test\r\n\r\n", "plain HTTP came to a listener that speaks TLS"),
    ] {
        let _sent = send(listener, sent);
        let line = gate.until_some(|line| line["listener"] == listener.to_string());
        assert!(line["message"].as_str().unwrap().starts_with(said), "{line}");
        assert!(line["peer"] == "127.0.0.1" && !line.to_string().contains("secret"), "{line}");
    }
    let metrics = b"GET /metrics HTTP/1.1\r\nHost: ops\r\nConnection: close\r\n\r\n";
    let metrics = exchange(gate.ops, metrics).unwrap().text();
    for (came, count) in [("proxy_header", 2), ("plain_http", 1), ("tls", 1), ("no_proxy_header", 0)] {
        let shown = format!("stepgate_connections_unexpected_total{{came=\"{came}\"}} {count}");
        assert!(metrics.lines().any(|line| line == shown), "{shown}: {metrics}");
    }
}

#[test]
fn a_drain_answers_what_is_on_its_way_and_says_that_the_connection_ends() {
    let dir = tempfile::tempdir().unwrap();
    config(dir.path(), "deny: \"Closed.\"");
    let mut gate = Served::start(dir.path());
    let ask = b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";
    // Accepted before the next one is, and without a request so far.
    let mut new = TcpStream::connect(gate.proxy).unwrap();
    let mut kept = send(gate.proxy, ask);
    assert_eq!(read_reply(&mut kept, false).unwrap().header("connection"), None);
    gate.signal("TERM");
    // Nobody is taken any more, so every connection knows of the drain. The SYN of a newcomer is dropped, and
    // sent again by the kernel after a second.
    while TcpStream::connect_timeout(&gate.proxy, Duration::from_millis(50)).is_ok() {}
    for connection in [&mut new, &mut kept] {
        connection.write_all(ask).unwrap();
        let last = read_reply(connection, false).expect("an answer");
        assert_eq!((last.status, last.header("connection")), (403, Some("close")));
    }
    assert_eq!(gate.child.wait().unwrap().code(), Some(0));
}

#[test]
fn who_was_connected_before_a_drain_is_answered_though_nobody_was_accepted_yet() {
    let dir = tempfile::tempdir().unwrap();
    config(dir.path(), "deny: \"Closed.\"");
    let mut gate = Served::start(dir.path());
    // Stopped, it accepts nobody; the kernel finishes the handshakes and takes the requests.
    gate.signal("STOP");
    let waiting: Vec<_> = (0..400).map(|_| send(gate.proxy, b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n")).collect();
    gate.signal("TERM");
    gate.signal("CONT");
    for mut connection in waiting {
        let last = read_reply(&mut connection, false).expect("an answer, not a reset");
        // Not also that the connection ends: a thread may accept some before the signal is taken.
        assert_eq!(last.status, 403);
    }
    assert_eq!(gate.child.wait().unwrap().code(), Some(0));
}

#[test]
fn s_store_2_a_log_that_cannot_be_written_costs_its_lines_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    config(dir.path(), "deny: \"Closed.\"");
    let mut gate = Served::start(dir.path());
    gate.lines = None;
    std::fs::write(dir.path().join("stepgate.yaml"), "version: [").unwrap();
    gate.signal("HUP");
    // Both the refused file and the drain are said, to nobody.
    while !exchange(gate.ops, b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap()
        .text()
        .contains("refused\":\"")
    {}
    assert_eq!(gate.get(gate.proxy, "/"), 403);
    gate.signal("TERM");
    assert_eq!(gate.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reload_that_removes_an_app_removes_its_series() {
    let dir = tempfile::tempdir().unwrap();
    config(dir.path(), "deny: \"Closed.\"");
    let mut gate = Served::start(dir.path());
    assert_eq!(gate.get(gate.proxy, "/"), 403);
    let metrics = |gate: &Served| {
        exchange(gate.ops, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap().text()
    };
    assert!(metrics(&gate).contains("app=\"wiki\""));
    let file = dir.path().join("stepgate.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("app: wiki", "app: shop")).unwrap();
    gate.signal("HUP");
    gate.until("the configuration was taken");
    assert_eq!(gate.get(gate.proxy, "/"), 403);
    let after = metrics(&gate);
    assert!(after.contains("app=\"shop\"") && !after.contains("app=\"wiki\""), "{after}");
    gate.signal("TERM");
    assert_eq!(gate.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_file_with_mistakes_names_them_all_and_nothing_starts() {
    let dir = tempfile::tempdir().unwrap();
    config(dir.path(), "require: mfaa, alow: [anyone]");
    let out = Command::new(env!("CARGO_BIN_EXE_stepgate"))
        .args(["serve", "--config"])
        .arg(dir.path().join("stepgate.yaml"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{text}");
    assert!(text.contains("mfaa") && text.contains("alow") && text.contains("stepgate.yaml:11:57:"), "{text}");
}

/// Nobody edits a file at three in the morning; what held at noon must not keep the gate down then.
#[test]
fn a_test_that_fails_by_the_clock_alone_does_not_keep_the_gate_down() {
    let dir = tempfile::tempdir().unwrap();
    config(dir.path(), "require: fresh");
    let file = dir.path().join("stepgate.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let lee = "{ get: /x, as: lee, at: mfa, expect: allow }";
    let ended = "{ who: user:lee, rules: all, require: mfa, until: 2020-01-01, approved_by: kim, ticket: T-1 }";
    let with = |tests: &str| {
        std::fs::write(&file, format!("{text}    exceptions: [{ended}]\n    tests: [{tests}]\n")).unwrap();
    };
    with(lee);
    let mut gate = Served::start(dir.path());
    assert_eq!(gate.get(gate.ops, "/readyz"), 200);
    // Whoever edits is told, and so is whoever checks.
    gate.signal("HUP");
    let line = gate.until("the configuration was not taken; the old one stays in force");
    assert!(line["why"].as_str().unwrap().contains("it passes at another hour: give it a `time:`"), "{line}");
    let check = Command::new(env!("CARGO_BIN_EXE_stepgate")).args(["check", "--config"]).arg(&file).output().unwrap();
    let told = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    assert!(told.contains("the result of the test of GET /x changes with the clock"), "{told}");
    gate.signal("TERM");
    assert_eq!(gate.child.wait().unwrap().code(), Some(0));

    // A test that fails at any hour keeps it down.
    with(&format!("{lee}, {{ get: /x, as: lee, at: password, expect: allow }}"));
    let refused = Command::new(env!("CARGO_BIN_EXE_stepgate")).args(["serve", "--config"]).arg(&file).output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("1 of the policy's own tests failed"), "{told}");
}

#[test]
fn s_store_2_a_database_that_was_moved_away_under_the_gate_is_said_until_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    config(dir.path(), "deny: \"Closed.\"");
    let mut gate = Served::start(dir.path());
    let (state, moved) = (dir.path().join("state"), dir.path().join("moved"));
    std::fs::rename(&state, &moved).unwrap();
    let gone = "was moved away or deleted while the gate has it open";
    gate.until_some(|line| line["error"].as_str().is_some_and(|error| error.contains(gone)));
    let ready = || exchange(gate.ops, b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let told = ready();
    assert!(told.status == 503 && told.text().contains("was moved away or deleted"), "{}", told.text());
    std::fs::rename(&moved, &state).unwrap();
    while ready().status != 200 {}
}
