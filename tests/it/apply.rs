//! A policy from elsewhere is in force until somebody says that it may stay, whatever happens to the gate.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value as Json;

use crate::harness::program::Served;
use crate::harness::{exchange, send};

struct World {
    dir: tempfile::TempDir,
    app: String,
}

impl World {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), app: "http://127.0.0.1:9".into() }
    }

    fn text(&self, rule: &str) -> String {
        format!(
            "version: 1\nlisten:\n  - {{ addr: \"127.0.0.1:0\", role: proxy }}\n  - {{ addr: \"127.0.0.1:0\", role: ops }}\nportal: {{ host: login.test }}\nstate: state\napps:\n  - app: wiki\n    hosts: [app.test]\n    upstream: {{ urls: [\"{}\"] }}\n    rules: [{{ name: all, match: {{ path: /** }}, {rule} }}]\n",
            self.app
        )
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("stepgate.yaml")
    }

    /// The gate's own files.
    fn files(&self, rule: &str) {
        std::fs::write(self.file(), self.text(rule)).unwrap();
    }

    /// A directory with another policy.
    fn candidate(&self, name: &str, text: &str) -> PathBuf {
        let directory = self.dir.path().join("new").join(name);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("stepgate.yaml"), text).unwrap();
        directory
    }

    fn start(&self) -> Served {
        Served::start(self.dir.path())
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stepgate"));
        command.args(words).arg("--config").arg(self.file()).stdin(std::process::Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> (i32, String) {
        said(&self.command(words).output().unwrap())
    }

    #[track_caller]
    fn good(&self, words: &[&str]) -> String {
        let (code, text) = self.run(words);
        assert_eq!(code, 0, "{words:?}: {text}");
        text
    }

    fn apply(&self, candidate: &Path, more: &[&str]) -> (i32, String) {
        let words = [&["apply", candidate.to_str().unwrap(), "--yes"], more].concat();
        self.run(&words)
    }

    /// The record, with the time of confirmation over.
    fn let_time_pass(&self) {
        let path = self.dir.path().join("state/policy/record.json");
        let mut record: Json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        record["pending"]["until"] = record["pending"]["since"].clone();
        std::fs::write(&path, record.to_string()).unwrap();
    }

    fn history(&self) -> Json {
        serde_json::from_str(&self.good(&["history", "--json"])).unwrap()
    }
}

fn said(out: &Output) -> (i32, String) {
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (out.status.code().unwrap(), text)
}

fn ready(gate: &Served) -> Json {
    exchange(gate.ops, b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap().json()
}

/// As a power cut would.
fn kill(mut gate: Served) {
    gate.child.kill().unwrap();
    gate.child.wait().unwrap();
}

const CLOSED: &str = "deny: \"Closed.\"";
const OPEN: &str = "require: mfa";
const TAKEN_BACK: &str = "nobody confirmed the policy that was applied: the files are in force again";

#[test]
fn what_nobody_confirms_goes_back_by_itself() {
    let world = World::new();
    world.files(CLOSED);
    let mut gate = world.start();
    let new = world.candidate("open", &world.text(OPEN));
    let (code, text) = world.apply(&new, &["--confirm-within", "1s"]);
    assert_eq!(code, 0, "{text}");
    for said in ["wiki: rule all changed: /** → deny \"Closed.\", now /** → mfa", "In force: policy 1 ("] {
        assert!(text.contains(said), "{text}");
    }
    assert!(text.ends_with("    stepgate apply --confirm 1\n"), "{text}");
    gate.until(TAKEN_BACK);
    assert_eq!(gate.get(gate.proxy, "/"), 403);
    assert_eq!(ready(&gate)["config"]["source"], "the files");
    let (code, text) = world.run(&["apply", "--confirm"]);
    assert!(code == 1 && text.contains("nothing waits to be confirmed"), "{text}");
    let events = world.history()["events"].clone();
    let what: Vec<&str> = events.as_array().unwrap().iter().map(|event| event["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["reverted", "applied"], "newest first");
    assert!(gate.command(&["audit", "tail"], "").contains("Nobody confirmed the policy"), "it is in the trail");
}

#[test]
fn who_comes_late_confirms_nothing_that_was_applied_since() {
    let world = World::new();
    world.files(CLOSED);
    let gate = world.start();
    let open = world.candidate("open", &world.text(OPEN));
    assert_eq!(world.apply(&open, &[]).0, 0);
    world.good(&["rollback"]);
    assert_eq!(world.apply(&world.candidate("other", &world.text("deny: \"Other.\"")), &[]).0, 0);
    for (late, why) in [
        (&["apply", "--confirm"][..], "policy 2 waits to be confirmed: say `stepgate apply --confirm 2`"),
        (&["apply", "--confirm", "1"], "policy 1 does not wait to be confirmed, policy 2 does"),
    ] {
        let (code, text) = world.run(late);
        assert!(code == 1 && text.contains(why), "{text}");
        assert!(ready(&gate)["config"]["confirm_until"].is_string(), "nothing was confirmed");
    }
    assert!(world.good(&["apply", "--confirm", "2"]).starts_with("Confirmed: policy 2 ("));
    // Nothing is late now; but what another account applied is that one's to confirm, or somebody names it.
    let mut by_another = world.command(&["apply", open.to_str().unwrap(), "--yes"]);
    assert_eq!(said(&by_another.env("SUDO_USER", "eve").output().unwrap()).0, 0);
    let (code, text) = world.run(&["apply", "--confirm"]);
    assert!(code == 1 && text.contains("policy 3 waits to be confirmed"), "{text}");
    assert!(ready(&gate)["config"]["confirm_until"].is_string(), "nothing was confirmed");
    world.good(&["apply", "--confirm", "3"]);
    assert_eq!(world.apply(&world.candidate("closed", &world.text(CLOSED)), &[]).0, 0);
    assert!(world.good(&["apply", "--confirm"]).starts_with("Confirmed: policy 4 ("));
}

#[test]
fn what_is_confirmed_stays_over_kill_and_restart_until_somebody_goes_back() {
    let world = World::new();
    world.files(CLOSED);
    let gate = world.start();
    let before = ready(&gate)["config"]["hash"].clone();
    let new = world.candidate("open", &world.text(OPEN));
    assert_eq!(world.apply(&new, &[]).0, 0);
    assert_eq!(gate.get(gate.proxy, "/"), 401);
    let told = ready(&gate);
    assert_eq!(told["config"]["source"], "policy 1");
    assert!(told["config"]["confirm_until"].is_string() && told["config"]["hash"] != before, "{told}");
    let text = world.good(&["apply", "--confirm"]);
    assert!(text.starts_with("Confirmed: policy 1 ("), "{text}");
    // What it was made from is not needed any more.
    std::fs::remove_dir_all(&new).unwrap();
    kill(gate);
    let mut gate = world.start();
    assert_eq!(gate.get(gate.proxy, "/"), 401);
    assert_eq!(ready(&gate)["config"]["confirm_until"], Json::Null);
    // A signal for a new certificate is no wish for the old files.
    gate.signal("HUP");
    gate.until("the policy that was applied was read again: the files are as they were");
    assert_eq!(gate.get(gate.proxy, "/"), 401);
    let note = world.good(&["check"]);
    assert!(note.contains("the gate works with policy 1"), "{note}");

    let text = world.good(&["rollback"]);
    assert!(text.starts_with("In force: the files ("), "{text}");
    assert_eq!(gate.get(gate.proxy, "/"), 403);
    assert_eq!(ready(&gate)["config"]["hash"], before);
    let text = world.good(&["rollback", "1"]);
    assert!(text.starts_with("In force: policy 1 ("), "{text}");
    assert_eq!(gate.get(gate.proxy, "/"), 401);
    let (code, text) = world.run(&["rollback", "7"]);
    assert!(code == 1 && text.contains("there is no policy 7 to go back to; there is: 1, files"), "{text}");
    // Also while the gate is down.
    kill(gate);
    let text = world.good(&["rollback", "files"]);
    assert!(text.contains("When it starts: the files."), "{text}");
    let gate = world.start();
    assert_eq!(gate.get(gate.proxy, "/"), 403);
    assert_eq!(world.run(&["apply", "--confirm"]).0, 1);
    drop(gate);
    assert_eq!(world.run(&["apply", "--confirm"]).0, 3, "without a gate nobody has seen it work");
}

#[test]
fn a_gate_that_is_killed_meanwhile_takes_it_back_all_the_same() {
    let world = World::new();
    world.files(CLOSED);
    let new = world.candidate("open", &world.text(OPEN));
    let gate = world.start();
    assert_eq!(world.apply(&new, &["--confirm-within", "1h"]).0, 0);
    kill(gate);
    // In time it goes on as it was, and may be confirmed.
    let gate = world.start();
    assert_eq!(gate.get(gate.proxy, "/"), 401);
    kill(gate);
    // Too late it never serves again.
    world.let_time_pass();
    let gate = world.start();
    assert_eq!(gate.get(gate.proxy, "/"), 403);
    assert_eq!(world.run(&["apply", "--confirm"]).0, 1);
    assert_eq!(world.history()["in_force"], "files");
    kill(gate);

    // A time that ends while the new process serves.
    let gate = world.start();
    assert_eq!(world.apply(&new, &["--confirm-within", "2s"]).0, 0);
    kill(gate);
    let gate = world.start();
    while gate.get(gate.proxy, "/") != 403 {}
    assert_eq!(world.history()["in_force"], "files");
}

#[test]
fn whenever_it_is_killed_the_next_one_serves_one_of_the_two_policies_and_ends_with_the_old() {
    for round in 0..6 {
        let world = World::new();
        world.files(CLOSED);
        let new = world.candidate("open", &world.text(OPEN));
        let gate = world.start();
        let words = ["apply", new.to_str().unwrap(), "--yes", "--confirm-within", "1h"];
        let mut command = world
            .command(&words)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Somewhere between the question and the answer.
        let directory = world.dir.path().join("state/policy");
        match round {
            0 => {}
            1 => while !directory.join("draft").exists() && command.try_wait().unwrap().is_none() {},
            2 => while !directory.join("1").exists() && command.try_wait().unwrap().is_none() {},
            3 => while !directory.join("record.json").exists() && command.try_wait().unwrap().is_none() {},
            4 => while gate.get(gate.proxy, "/") == 403 && command.try_wait().unwrap().is_none() {},
            _ => drop(command.wait().unwrap()),
        }
        kill(gate);
        command.wait().unwrap();
        let gate = world.start();
        let in_force = world.history()["in_force"].clone();
        let served = gate.get(gate.proxy, "/");
        assert_eq!(served, if in_force == "files" { 403 } else { 401 }, "{round}: {in_force}");
        kill(gate);
        if in_force != "files" {
            world.let_time_pass();
        }
        let gate = world.start();
        assert_eq!(gate.get(gate.proxy, "/"), 403, "{round}");
        kill(gate);
    }
}

#[test]
fn s_conf_2_what_is_not_good_is_never_in_force() {
    let world = World::new();
    world.files(OPEN);
    let gate = world.start();
    gate.command(&["user", "add", "ann", "--password-stdin"], "ann walks slowly home");
    gate.command(&["factor", "add", "ann", "totp", "--json"], "");
    let test = "    tests: [{ get: /x, expect: allow }]\n";
    for (name, text, why) in [
        ("fault", world.text("require: mfaa"), "did you mean"),
        ("test", world.text(CLOSED) + test, "expected allow, got deny"),
        ("state", world.text(CLOSED).replace("state: state", "state: other"), "`state` cannot change while serving"),
        ("locked", world.text("allow: [group:nobody]"), "locks out: wiki: no account could reach any page"),
    ] {
        let (code, text) = world.apply(&world.candidate(name, &text), &[]);
        assert!(code == 1 && text.contains(why) && text.contains("Nothing was put in force."), "{name}: {text}");
        assert_eq!(gate.get(gate.proxy, "/"), 401, "{name}");
    }
    assert_eq!(world.history()["in_force"], "files");
    // The last, where it is meant.
    let locked = world.dir.path().join("new/locked");
    let (code, text) = world.apply(&locked, &["--lockout-is-meant", "--json"]);
    let told: Json = serde_json::from_str(&text).unwrap();
    assert!(code == 0 && told["outcome"] == "applied" && told["policy"] == 1 && told["back_to"] == "files", "{text}");
    // One at a time.
    let (code, text) = world.apply(&world.candidate("closed", &world.text(CLOSED)), &[]);
    assert!(code == 1 && text.contains("policy 1 waits to be confirmed"), "{text}");
    // Nobody is asked where nobody is.
    let (code, text) = world.run(&["apply", world.dir.path().join("new/closed").to_str().unwrap()]);
    assert!(code == 2 && text.contains("--yes"), "{text}");
}

#[test]
fn what_was_changed_last_holds() {
    let world = World::new();
    world.files(CLOSED);
    let mut gate = world.start();
    assert_eq!(world.apply(&world.candidate("open", &world.text(OPEN)), &[]).0, 0);
    // A faulty file takes nothing from what was applied.
    world.files("require: mfaa");
    gate.until("the configuration was not taken; the old one stays in force");
    assert_eq!(gate.get(gate.proxy, "/"), 401);
    world.files("respond: { status: 418, body: hello }, allow: [anyone], require: none");
    gate.until("the configuration was taken");
    assert_eq!(gate.get(gate.proxy, "/"), 418);
    assert_eq!(ready(&gate)["config"]["source"], "the files");
    assert_eq!(world.history()["events"][0]["what"], "files_taken");
    // Also where they were changed while the gate was down.
    assert_eq!(world.apply(&world.candidate("open", &world.text(OPEN)), &[]).0, 0);
    world.good(&["apply", "--confirm", "2"]);
    kill(gate);
    world.files(CLOSED);
    let gate = world.start();
    assert_eq!(gate.get(gate.proxy, "/"), 403);
}

#[test]
fn a_policy_comes_whole_with_what_it_includes_and_answers_with() {
    let world = World::new();
    world.files(CLOSED);
    let gate = world.start();
    let main = world.text(CLOSED);
    let (main, app) = main.split_once("apps:\n").unwrap();
    let new = world.candidate("whole", &format!("{main}include: [apps.d/*.yaml]\n"));
    std::fs::create_dir_all(new.join("apps.d")).unwrap();
    std::fs::create_dir_all(new.join("pages")).unwrap();
    let app = app.replace("  - app", "app").replace("\n    ", "\n");
    let app = app.replace(CLOSED, "respond: { file: pages/hello.html }, allow: [anyone], require: none");
    std::fs::write(new.join("apps.d/wiki.yaml"), app).unwrap();
    std::fs::write(new.join("pages/hello.html"), "<p>hello</p>").unwrap();
    let (code, text) = world.apply(&new, &[]);
    assert_eq!(code, 0, "{text}");
    world.good(&["apply", "--confirm"]);
    std::fs::remove_dir_all(&new).unwrap();
    kill(gate);
    let gate = world.start();
    let answer = exchange(gate.proxy, b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "<p>hello</p>"));
    // Its files are what they were, or they are not used.
    let page = world.dir.path().join("state/policy/1/pages/hello.html");
    std::fs::write(&page, "<p>changed</p>").unwrap();
    kill(gate);
    let (code, text) = said(&world.command(&["serve"]).output().unwrap());
    assert!(
        code == 3 && text.contains("are not those that were applied") && text.contains("stepgate rollback"),
        "{text}"
    );
    world.good(&["rollback", "files"]);
    let gate = world.start();
    assert_eq!(gate.get(gate.proxy, "/"), 403);
}

/// S-WS-2: what is open under a verdict of the past is judged again.
#[test]
fn s_ws_2_a_stream_that_an_applied_policy_would_not_allow_ends() {
    let mut world = World::new();
    let app = TcpListener::bind("127.0.0.1:0").unwrap();
    world.app = format!("http://{}", app.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in app.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n");
            open.push(stream);
        }
    });
    world.files("allow: [anyone], require: none");
    let gate = world.start();
    let mut stream = send(gate.proxy, b"GET /events HTTP/1.1\r\nHost: app.test\r\n\r\n");
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    while !String::from_utf8_lossy(&seen).contains("data: one") {
        let n = stream.read(&mut piece).unwrap();
        assert!(n > 0, "{seen:?}");
        seen.extend_from_slice(&piece[..n]);
    }
    assert_eq!(world.apply(&world.candidate("closed", &world.text(CLOSED)), &[]).0, 0);
    // It ends, by an end or a reset: whoever waits until the patience of the harness is over reads from one that
    // is still open.
    let end = loop {
        match stream.read(&mut piece) {
            Ok(0) => break None,
            Ok(_) => {}
            Err(error) => break Some(error.kind()),
        }
    };
    assert!(!matches!(end, Some(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "the stream is still open");
    assert_eq!(gate.get(gate.proxy, "/events"), 403);
}

#[test]
fn only_the_owner_of_the_state_is_obeyed() {
    let world = World::new();
    world.files(CLOSED);
    let mut gate = world.start();
    let state = world.dir.path().join("state");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&state.join("control.sock")), mode(&state)), (0o600, 0o700));
    assert_eq!(world.apply(&world.candidate("open", &world.text(OPEN)), &[]).0, 0);
    assert_eq!((mode(&state.join("policy")), mode(&state.join("policy/record.json"))), (0o700, 0o600));
    // Root can be somebody else; another account cannot.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    for path in [world.dir.path(), &state] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::set_permissions(state.join("control.sock"), std::fs::Permissions::from_mode(0o666)).unwrap();
    let mut stranger = Command::new("python3");
    // Hung up on, whether before it has asked or after.
    let ask = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\nanswer=b''\ntry:\n s.sendall(b'{\"confirm\":{\"sudo_by\":null}}')\n s.shutdown(1)\n answer=s.recv(100)\nexcept OSError: pass\nprint(answer)";
    let out = stranger.args(["-c", ask]).arg(state.join("control.sock")).uid(65534).gid(65534).output().unwrap();
    gate.until("a command of an account that does not own the state was sent away");
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "b''", "{}", said(&out).1);
    assert!(ready(&gate)["config"]["confirm_until"].is_string(), "nothing was confirmed");
}

/// A rule whose level means something else now is the rule that it was; a copy elsewhere differs in nothing.
#[test]
fn what_apply_tells_is_what_the_files_say() {
    let world = World::new();
    let own = format!("{}levels: {{ money: {{ factors: 1, max_age: 10m }} }}\n", world.text("require: money"));
    std::fs::write(world.file(), &own).unwrap();
    let gate = world.start();
    let changes = |text: &str| -> Json {
        let candidate = world.candidate("told", text);
        let told = world.good(&["apply", candidate.to_str().unwrap(), "--dry-run", "--json"]);
        serde_json::from_str::<Json>(&told).unwrap()["changes"].clone()
    };
    assert_eq!(changes(&own), serde_json::json!([]));
    assert_eq!(
        changes(&own.replace("max_age: 10m", "max_age: 5m")),
        serde_json::json!(["level: money: factors 1, max_age 600s, now money: factors 1, max_age 300s"])
    );
    assert_eq!(
        changes(&own.replace("state: state\n", "state: state\nsessions: { idle: 20m }\n")),
        serde_json::json!(["`sessions` is different"])
    );
    kill(gate);
}
