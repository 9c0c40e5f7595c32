//! `stepgate doctor` at a set-up that has something wrong with it, and at one that has not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use serde_json::Value;

use crate::harness::app::RecordingApp;

/// A gate behind a program that stands in front of it on another port.
struct SetUp {
    dir: tempfile::TempDir,
    front: TcpListener,
    gate: Option<(Child, SocketAddr)>,
    _app: RecordingApp,
}

impl SetUp {
    fn new() -> Self {
        let (dir, app) = (tempfile::tempdir().unwrap(), RecordingApp::start());
        let front = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = front.local_addr().unwrap().port();
        let text = format!(
            "version: 1\nlisten: [{{ addr: \"127.0.0.1:0\", role: proxy }}]\nstate: state\napps:\n  - app: wiki\n    \
             hosts: [\"app.localhost:{port}\"]\n    upstream: {{ urls: [\"http://{}\"] }}\n    require: none\n",
            app.addr
        );
        std::fs::write(dir.path().join("stepgate.yaml"), text).unwrap();
        let mut set_up = Self { dir, front, gate: None, _app: app };
        assert!(set_up.stepgate(&["user", "add", "ann", "--link"]).status.success());
        let mut child = set_up
            .command(&["serve", "--log-format", "json", "--threads", "1"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (found, addr) = mpsc::channel();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                if line["message"] == "listening" {
                    let _ = found.send(line["addr"].as_str().unwrap().parse().unwrap());
                }
            }
        });
        let addr = addr.recv().unwrap();
        set_up.gate = Some((child, addr));
        set_up
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stepgate"));
        command.args(words).arg("--config").arg(self.dir.path().join("stepgate.yaml"));
        command
    }

    fn stepgate(&self, words: &[&str]) -> std::process::Output {
        self.command(words).output().unwrap()
    }

    /// Runs the doctor while `front` answers its one connection; exit code and findings.
    fn doctor(&self, front: impl FnOnce(TcpStream, SocketAddr) + Send + 'static) -> (i32, Vec<Value>) {
        let (listener, gate) = (self.front.try_clone().unwrap(), self.gate.as_ref().unwrap().1);
        let standing = std::thread::spawn(move || front(listener.accept().unwrap().0, gate));
        let out = self.stepgate(&["doctor", "--json"]);
        standing.join().unwrap();
        let report: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(report["ok"], out.status.success());
        (out.status.code().unwrap(), report["findings"].as_array().unwrap().clone())
    }
}

impl Drop for SetUp {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.gate {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Passes one request on, its head changed, and the answer back.
fn pass(mut client: TcpStream, gate: SocketAddr, change: impl Fn(&str) -> String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let mut upstream = TcpStream::connect(gate).unwrap();
    upstream.write_all(change(std::str::from_utf8(&head).unwrap()).as_bytes()).unwrap();
    std::io::copy(&mut upstream, &mut client).unwrap();
    client.shutdown(Shutdown::Both).unwrap();
}

fn told(findings: &[Value], weight: &str) -> String {
    let of = findings.iter().filter(|f| f["weight"] == weight);
    of.map(|f| format!("{}: {}\n  {}\n", f["about"], f["what"], f["todo"])).collect()
}

#[test]
fn a_set_up_that_is_right_is_called_right() {
    let set_up = SetUp::new();
    let (code, findings) = set_up.doctor(|client, gate| pass(client, gate, str::to_owned));
    assert_eq!(code, 0, "{}", told(&findings, "problem"));
    let fine = told(&findings, "fine");
    for good in
        ["the configuration is good", "the key ring opens", "at no address that others reach", "leads to this gate"]
    {
        assert!(fine.contains(good), "{good}: {fine}");
    }
}

#[test]
fn what_stands_in_front_and_is_not_trusted_is_named_with_what_to_do() {
    let set_up = SetUp::new();
    let forwards = |head: &str| head.replacen("\r\n", "\r\nX-Forwarded-For: 192.0.2.7\r\n", 1);
    let (code, findings) = set_up.doctor(move |client, gate| pass(client, gate, forwards));
    let problems = told(&findings, "problem");
    assert_eq!(code, 1);
    assert!(
        problems.contains("sends x-forwarded-for") && problems.contains("add 127.0.0.1 to `trusted_proxies`"),
        "{problems}"
    );
}

#[test]
fn a_proxy_that_replaces_the_host_and_a_stranger_at_the_address_are_told_apart() {
    let set_up = SetUp::new();
    let replaces = |head: &str| {
        let host = head.lines().find(|l| l.to_ascii_lowercase().starts_with("host:")).unwrap();
        head.replace(host, "host: 127.0.0.1:8080")
    };
    let (code, findings) = set_up.doctor(move |client, gate| pass(client, gate, replaces));
    let problems = told(&findings, "problem");
    assert!(
        code == 1 && problems.contains("replaces Host") && problems.contains("proxy_set_header Host"),
        "{problems}"
    );
    let (code, findings) = set_up.doctor(|mut client, _| {
        let mut head = [0; 1024];
        let _ = client.read(&mut head).unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nwelcome").unwrap();
    });
    assert!(code == 1 && told(&findings, "problem").contains("something else answers here"), "{findings:?}");
}

#[test]
fn s_up_9_an_app_that_answers_around_the_gate_is_found() {
    let set_up = SetUp::new();
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = open.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in open.incoming().map_while(Result::ok) {
            std::thread::spawn(move || pass_nothing(client));
        }
    });
    let file = set_up.dir.path().join("stepgate.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let upstream = text.split("urls: [\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    std::fs::write(&file, text.replace(&upstream, &format!("http://127.0.0.1:{port}"))).unwrap();
    let (code, findings) = set_up.doctor(|client, gate| pass(client, gate, str::to_owned));
    let reached_from_outside = nix::ifaddrs::getifaddrs()
        .unwrap()
        .filter_map(|i| i.address?.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::ip))
        .any(|ip| !ip.is_loopback());
    let problems = told(&findings, "problem");
    // A machine without a network has no way around.
    assert_eq!(problems.contains("answers without the gate"), reached_from_outside, "{problems}");
    assert_eq!(code, i32::from(reached_from_outside));
}

#[test]
fn an_app_that_speaks_http_2_alone_is_asked_in_it() {
    let set_up = SetUp::new();
    let (tell, told_addr) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut connection) = h2::server::handshake(stream).await else { continue };
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    respond.send_response(http::Response::new(()), true).unwrap();
                }
            }
        });
    });
    let app = told_addr.recv().unwrap();
    let file = set_up.dir.path().join("stepgate.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let before = text.split("urls: [\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let spoken = |protocol: &str| {
        let urls = format!("urls: [\"http://{app}\"], protocol: {protocol}");
        std::fs::write(&file, text.replace(&format!("urls: [\"{before}\"]"), &urls)).unwrap();
        told(&set_up.doctor(|client, gate| pass(client, gate, str::to_owned)).1, "problem")
    };
    assert!(!spoken("http2").contains("does not answer"));
    assert!(spoken("http1").contains("HTTP/2 only"), "and what may be the matter is said where it is not");
}

#[test]
fn what_keeps_an_app_or_the_state_from_being_right_is_found() {
    use std::os::unix::fs::PermissionsExt;
    let set_up = SetUp::new();
    let file = set_up.dir.path().join("stepgate.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\"] }", "\"], path_prefix: /base, health: { path: /up, expect: 204 } }"))
        .unwrap();
    let state = set_up.dir.path().join("state");
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o777)).unwrap();
    let (code, findings) = set_up.doctor(|client, gate| pass(client, gate, str::to_owned));
    let problems = told(&findings, "problem");
    assert_eq!(code, 1);
    assert!(problems.contains("answers /base/up with 200 OK: it counts as down"), "{problems}");
    assert!(problems.contains("anybody on this machine may write in it"), "{problems}");
}

fn pass_nothing(mut client: TcpStream) {
    let mut head = [0; 4096];
    let _ = client.read(&mut head);
    let _ = client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
}

#[test]
fn every_fault_of_the_file_is_a_finding_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("stepgate.yaml");
    std::fs::write(&file, "version: 1\nlisten: [{ addr: \"127.0.0.1:1\", role: proxie }]\nappz: []\n").unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_stepgate")).args(["doctor", "--config"]).arg(&file).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(text.contains("stepgate.yaml:2:") && text.contains("stepgate.yaml:3:1"), "{text}");
}
