//! `stepgate doctor` at a set-up that has something wrong with it, and at one that has not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use serde_json::Value;
use stepgate::base::clock::{Clock, SystemClock};

use crate::harness::app::RecordingApp;
use crate::harness::{exchange, tls};

/// A gate behind a program that stands in front of it on another port.
struct SetUp {
    dir: tempfile::TempDir,
    front: TcpListener,
    gate: Option<Running>,
    _app: RecordingApp,
}

struct Running {
    child: Child,
    proxy: SocketAddr,
    ops: SocketAddr,
    log: mpsc::Receiver<Value>,
}

impl Running {
    /// Waits for the line of its log that says `message`.
    fn until(&self, message: &str) -> Value {
        self.until_some(message, |said| said == message)
    }

    fn until_it_begins(&self, start: &str) -> Value {
        self.until_some(start, |said| said.starts_with(start))
    }

    fn until_some(&self, awaited: &str, is_it: impl Fn(&str) -> bool) -> Value {
        loop {
            let line = self.log.recv().unwrap_or_else(|_| panic!("the log ended before {awaited:?}"));
            if line["message"].as_str().is_some_and(&is_it) {
                return line;
            }
        }
    }

    fn metrics(&self) -> String {
        exchange(self.ops, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap().text()
    }
}

impl SetUp {
    fn new() -> Self {
        Self::with("role: proxy", "")
    }

    /// `proxy` are the keys of the listener, `main` further keys of the file.
    fn with(proxy: &str, main: &str) -> Self {
        let (dir, app) = (tempfile::tempdir().unwrap(), RecordingApp::start());
        let front = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = front.local_addr().unwrap().port();
        tls::certificate(dir.path(), "gate", &["app.localhost"]);
        let text = format!(
            "version: 1\nlisten:\n  - {{ addr: \"127.0.0.1:0\", {proxy} }}\n  - {{ addr: \"127.0.0.1:0\", role: ops }}\n\
             {main}state: state\napps:\n  - app: wiki\n    \
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
        let (say, log) = mpsc::channel::<Value>();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = say.send(serde_json::from_str(&line).unwrap_or_default());
            }
        });
        let mut bound = log.iter().filter(|line| line["message"] == "listening");
        let mut addr = || bound.next().unwrap()["addr"].as_str().unwrap().parse().unwrap();
        let (proxy, ops) = (addr(), addr());
        set_up.gate = Some(Running { child, proxy, ops, log });
        set_up
    }

    fn running(&self) -> &Running {
        self.gate.as_ref().unwrap()
    }

    fn change(&self, from: &str, to: &str) {
        let file = self.dir.path().join("stepgate.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&file, text.replace(from, to)).unwrap();
    }

    fn reload(&self) {
        let pid = self.running().child.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    }

    /// The file as the gate has it now, with the ports that it got: as an operator would have written it.
    /// Under a name that the gate does not look at.
    fn with_ports(&self) -> std::path::PathBuf {
        let text = std::fs::read_to_string(self.dir.path().join("stepgate.yaml")).unwrap();
        let gate = self.running();
        let text = text.replacen("127.0.0.1:0", &gate.proxy.to_string(), 1);
        let file = self.dir.path().join("with-ports.conf");
        std::fs::write(&file, text.replacen("127.0.0.1:0", &gate.ops.to_string(), 1)).unwrap();
        file
    }

    /// Runs the doctor with a file, on a machine that trusts the gate's certificate and has nothing in front.
    fn doctor_with(&self, file: &std::path::Path) -> (i32, Vec<Value>) {
        let out = Command::new(env!("CARGO_BIN_EXE_stepgate"))
            .args(["doctor", "--json", "--config"])
            .arg(file)
            .env("SSL_CERT_FILE", self.dir.path().join("gate.crt"))
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&out.stdout).unwrap();
        (out.status.code().unwrap(), report["findings"].as_array().unwrap().clone())
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
        let (listener, gate) = (self.front.try_clone().unwrap(), self.running().proxy);
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
        if let Some(gate) = &mut self.gate {
            let _ = gate.child.kill();
            let _ = gate.child.wait();
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
        problems.contains("sends x-forwarded-for")
            && problems.contains("add the line `trusted_proxies: [\\\"127.0.0.1\\\"]` to the main file"),
        "{problems}"
    );
}

/// Ends TLS with the certificate of the gate, and answers clear text as nginx does at such a port.
fn ends_tls(set_up: &SetUp, certificate: &str, connections: usize) -> std::thread::JoinHandle<()> {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let file = |ending: &str| set_up.dir.path().join(format!("{certificate}.{ending}"));
    let chain = vec![CertificateDer::from_pem_file(file("crt")).unwrap()];
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(file("key")).unwrap())
        .unwrap();
    let config = std::sync::Arc::new(config);
    let (listener, gate) = (set_up.front.try_clone().unwrap(), set_up.running().proxy);
    std::thread::spawn(move || {
        for mut client in listener.incoming().take(connections).map(Result::unwrap) {
            let mut first = [0];
            client.peek(&mut first).unwrap();
            if first != [0x16] {
                let _ = client.read(&mut [0; 4096]);
                let told = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                client.write_all(told).unwrap();
                continue;
            }
            let session = rustls::ServerConnection::new(std::sync::Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(session, client);
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                // A client that does not take the certificate ends here.
                if !stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    break;
                }
                head.push(byte[0]);
            }
            let Ok(head) = String::from_utf8(head) else { continue };
            if head.is_empty() {
                continue;
            }
            let mut upstream = TcpStream::connect(gate).unwrap();
            let head = head.replacen("\r\n", "\r\nX-Forwarded-Proto: https\r\n", 1);
            upstream.write_all(head.as_bytes()).unwrap();
            let mut answer = Vec::new();
            upstream.read_to_end(&mut answer).unwrap();
            stream.write_all(&answer).unwrap();
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        }
    })
}

#[test]
fn a_proxy_that_ends_tls_and_is_not_trusted_is_found_although_the_files_know_of_clear_text_alone() {
    let set_up = SetUp::new();
    let front = ends_tls(&set_up, "gate", 2);
    let (code, findings) = set_up.doctor_with(&set_up.with_ports());
    front.join().unwrap();
    let problems = told(&findings, "problem");
    assert_eq!(code, 1);
    assert!(problems.contains("a proxy at 127.0.0.1 that ends their TLS is not in `trusted_proxies`"), "{problems}");
    assert!(problems.contains("add the line `trusted_proxies: [\\\"127.0.0.1\\\"]` to the main file"), "{problems}");
    // And `serve` said so too.
    set_up.running().until(
        "X-Forwarded-* from this address is ignored: it is not in `trusted_proxies`; name it there, if it is your proxy",
    );
}

#[test]
fn a_certificate_that_browsers_refuse_is_told_by_what_is_wrong_with_it() {
    let set_up = SetUp::with("role: proxy, tls: { certificates: gate.crt }", "");
    let dir = set_up.dir.path();
    let (port, own) = (set_up.front.local_addr().unwrap().port(), set_up.running().proxy.port());
    set_up.change(&format!("app.localhost:{port}"), &format!("app.localhost:{own}"));
    let file = set_up.with_ports();
    let said = |trusted: &str| {
        let out = Command::new(env!("CARGO_BIN_EXE_stepgate"))
            .args(["doctor", "--config"])
            .arg(&file)
            .env("SSL_CERT_FILE", dir.join(trusted))
            .output()
            .unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    tls::certificate(dir, "else", &["else.test"]);
    let text = said("else.crt");
    assert!(
        text.contains("its certificate is self-signed") && text.contains("SSL_CERT_FILE=FILE stepgate doctor"),
        "{text}"
    );

    let renew = |names: &[&str], until: (i32, u8)| {
        let mut asked =
            rcgen::CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
        asked.not_after = rcgen::date_time_ymd(until.0, until.1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(dir.join("gate.crt"), asked.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(dir.join("gate.key"), key.serialize_pem()).unwrap();
        set_up.running().log.try_iter().for_each(drop);
        set_up.reload();
        set_up.running().until("new certificates are in force")
    };
    let line = renew(&["other.test"], (2300, 1));
    assert_eq!((line["names"].as_str(), line["ends"].as_str()), (Some("other.test"), Some("2300-01-01T00:00:00.000Z")));
    assert!(said("gate.crt").contains("its certificate is for other names"));
    renew(&["app.localhost"], (2020, 1));
    assert!(said("gate.crt").contains("its certificate has ended"));
}

#[test]
fn a_certificate_that_has_ended_or_soon_will_is_told_before_it_is_taken_and_when_it_is() {
    let set_up = SetUp::with("role: proxy, tls: { certificates: gate.crt }", "");
    let crt = set_up.dir.path().join("gate.crt");
    let put = |names: &[&str], end: u64| {
        let names: Vec<_> = names.iter().map(|n| (*n).to_owned()).collect();
        let mut asked = rcgen::CertificateParams::new(names).unwrap();
        asked.not_after = rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(end);
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(&crt, asked.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(set_up.dir.path().join("gate.key"), key.serialize_pem()).unwrap();
    };
    let checked = || String::from_utf8(set_up.stepgate(&["check", "--serve"]).stdout).unwrap();
    let about = format!("the certificate of app.localhost ({})", crt.display());
    let now = u64::try_from(SystemClock.now().as_secs()).unwrap();
    let (soon, later) = (now + 13 * 86_400, now + 20 * 86_400);
    assert!(!checked().contains(" ends within 14 days") && !checked().contains(" ended at "), "{}", checked());

    put(&["app.localhost", "app.test"], later);
    assert!(!checked().contains(&about), "{}", checked());
    put(&["app.localhost", "app.test"], soon);
    assert!(checked().contains(&format!("{about} ends within 14 days, at ")), "{}", checked());
    set_up.reload();
    let said = set_up.running().until_it_begins(&format!("{about} ends within 14 days, at "));
    assert_eq!(said["level"], "WARN");
    let gauge = |end: u64| format!("stepgate_certificate_end_seconds{{certificate=\"app.localhost\"}} {end}\n");
    set_up.running().until("the configuration was taken");
    let metrics = set_up.running().metrics();
    assert!(metrics.contains(&gauge(soon)), "{metrics}");

    put(&["app.localhost"], 1_577_836_800);
    let ended = format!(
        "{about} ended at 2020-01-01T00:00:00.000Z, and browsers refuse it: renew it: the gate takes new files by itself"
    );
    assert!(checked().contains(&ended), "{}", checked());
    set_up.reload();
    assert_eq!(set_up.running().until_it_begins(&ended)["level"], "ERROR");
    set_up.running().until("the configuration was taken");
    let metrics = set_up.running().metrics();
    assert!(metrics.contains(&gauge(1_577_836_800)) && !metrics.contains(&gauge(soon)), "{metrics}");

    // One without a name goes by its file.
    put(&[], later);
    set_up.reload();
    set_up.running().until("the configuration was taken");
    let metrics = set_up.running().metrics();
    assert!(metrics.contains(&format!("{{certificate=\"{}\"}} {later}\n", crt.display())), "{metrics}");
}

#[test]
fn a_private_key_that_anybody_may_read_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let set_up = SetUp::with("role: proxy, tls: { certificates: gate.crt }", "");
    let key = set_up.dir.path().join("gate.key");
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let told = || String::from_utf8(set_up.stepgate(&["check", "--serve"]).stdout).unwrap();
    let open = format!("may read the private key {0}: chmod o-rwx {0}", key.display());
    mode(&key, 0o644);
    mode(set_up.dir.path(), 0o755);
    assert!(told().contains(&open), "{}", told());
    mode(&key, 0o640);
    assert!(!told().contains("may read the private key"));
    mode(&key, 0o644);
    mode(set_up.dir.path(), 0o700);
    assert!(!told().contains("may read the private key"), "nobody comes as far as the file");
}

#[test]
fn before_the_first_serve_the_names_are_said_to_be_untried() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("stepgate.yaml");
    let text = "version: 1\nlisten: [{ addr: \"127.0.0.1:1\", role: proxy }]\nportal: { host: \"login.localhost:1\" }\n\
                apps: [{ app: a, hosts: [\"a.localhost:1\"], upstream: { urls: [\"http://127.0.0.1:2\"] } }]\n";
    std::fs::write(&file, text).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_stepgate")).args(["doctor", "--config"]).arg(&file).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("whether they lead to this gate was not tried: there is no key ring"), "{text}");
    assert!(text.contains("start the app, or mend `upstream.urls`: people get 502 now"), "{text}");
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
    assert!(text.contains("there is no state yet"), "what needs no policy is tried all the same: {text}");
}

#[test]
fn a_gate_that_refused_its_files_is_found_out_although_the_files_are_good_by_now() {
    let set_up = SetUp::new();
    let good = set_up.with_ports();
    let (_, findings) = set_up.doctor_with(&good);
    assert!(told(&findings, "fine").contains("works with the configuration of 20"), "{findings:?}");

    set_up.change("require: none", "require: nobody");
    set_up.reload();
    set_up.running().until("the configuration was not taken; the old one stays in force");
    let (code, findings) = set_up.doctor_with(&good);
    let problems = told(&findings, "problem");
    assert_eq!(code, 1);
    assert!(problems.contains("still works with the configuration of 20"), "{problems}");
    assert!(problems.contains("unknown level \\\"nobody\\\""), "{problems}");

    // With the bad file itself: its faults with their places, and what can be tried without it.
    let (code, findings) = set_up.doctor_with(&set_up.with_ports());
    let problems = told(&findings, "problem");
    assert!(code == 1 && problems.contains("with-ports.conf:10:") && problems.contains("still works"), "{problems}");
    assert!(told(&findings, "fine").contains("the key ring opens"), "{findings:?}");
    assert!(told(&findings, "untried").contains("apps and names"), "{findings:?}");
}

#[test]
fn a_policy_whose_own_tests_fail_is_not_called_good() {
    let set_up = SetUp::new();
    let file = set_up.with_ports();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}    tests: [{{ get: /, expect: deny }}]\n")).unwrap();
    let (code, findings) = set_up.doctor_with(&file);
    assert!(code == 1 && told(&findings, "problem").contains("expected deny, got allow"), "{findings:?}");
    assert!(!told(&findings, "fine").contains("the configuration is good"), "{findings:?}");
}

const BEHIND_A_BALANCER: &str = "role: proxy, proxy_protocol: true, tls: { certificates: gate.crt }";

#[test]
fn a_listener_that_waits_for_a_balancers_word_is_given_one() {
    let set_up = SetUp::with(BEHIND_A_BALANCER, "trusted_proxies: [127.0.0.1]\n");
    let front = set_up.front.local_addr().unwrap().port();
    set_up.change(&format!("app.localhost:{front}"), &format!("app.localhost:{}", set_up.running().proxy.port()));
    set_up.reload();
    set_up.running().until("the configuration was taken");
    let file = set_up.with_ports();
    let (code, findings) = set_up.doctor_with(&file);
    assert_eq!(code, 0, "{}", told(&findings, "problem"));
    assert!(told(&findings, "fine").contains("takes its client from the PROXY header"), "{findings:?}");

    // From a machine whose word it would not take, there is nothing to be learned and nothing to mend.
    let text = std::fs::read_to_string(&file).unwrap().replace("[127.0.0.1]", "[203.0.113.9]");
    std::fs::write(&file, text).unwrap();
    let (code, findings) = set_up.doctor_with(&file);
    assert!(code == 0 && told(&findings, "untried").contains("cannot be tried from here"), "{findings:?}");
}

#[test]
fn certificates_that_cannot_be_used_are_counted_and_found_while_the_old_ones_are_shown() {
    let set_up = SetUp::with("role: proxy, tls: { certificates: gate.crt }", "");
    let file = set_up.with_ports();
    let key = set_up.dir.path().join("gate.key");
    let right = std::fs::read(&key).unwrap();
    assert!(set_up.running().metrics().contains("stepgate_certificate_last_reload_success 1\n"));
    tls::certificate(set_up.dir.path(), "other", &["other.test"]);
    std::fs::copy(set_up.dir.path().join("other.key"), &key).unwrap();
    set_up.reload();
    set_up.running().until("the certificates were not taken; the old ones stay in force");
    let metrics = set_up.running().metrics();
    assert!(metrics.contains("stepgate_certificate_last_reload_success 0\n"), "{metrics}");
    assert!(!metrics.contains("stepgate_certificate_reloads_failed_total 0\n"), "{metrics}");
    let (_, findings) = set_up.doctor_with(&file);
    let problems = told(&findings, "problem");
    assert!(problems.contains("still shows the old certificates") && problems.contains("is not the private key of"));

    std::fs::write(&key, right).unwrap();
    set_up.running().log.try_iter().for_each(drop);
    set_up.reload();
    set_up.running().until("the configuration was taken");
    assert!(set_up.running().metrics().contains("stepgate_certificate_last_reload_success 1\n"));
}
