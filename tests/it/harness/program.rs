//! The program itself, in a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use stepgate::base::clock::{Clock, SystemClock};

use super::browser::Person;
use super::exchange;
use super::world::{code_at, seed_of};

/// `stepgate serve` on the `stepgate.yaml` of a directory; it does not outlive its test.
pub struct Served {
    pub child: Child,
    /// `None`: nobody reads the log any more, and writing it fails.
    pub lines: Option<std::io::Lines<BufReader<ChildStderr>>>,
    /// Of the first listener of the file.
    pub proxy: SocketAddr,
    /// Of the second.
    pub ops: SocketAddr,
    /// Of those that follow.
    pub more: Vec<SocketAddr>,
    config: PathBuf,
}

impl Served {
    pub fn start(dir: &Path) -> Self {
        Self::run(Command::new(env!("CARGO_BIN_EXE_stepgate")), dir)
    }

    /// With so many file descriptors, and so with limits that a test can reach.
    pub fn with_files(dir: &Path, files: u32) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")]).arg(env!("CARGO_BIN_EXE_stepgate"));
        Self::run(command, dir)
    }

    fn run(mut command: Command, dir: &Path) -> Self {
        let config = dir.join("stepgate.yaml");
        let listeners = std::fs::read_to_string(&config).unwrap().matches("addr:").count();
        let mut child = command
            .args(["serve", "--log-format", "json", "--threads", "1", "--config"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut bound: Vec<SocketAddr> = Vec::new();
        while bound.len() < listeners {
            let line: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            if line["message"] == "listening" {
                bound.push(line["addr"].as_str().unwrap().parse().unwrap());
            }
        }
        let more = bound.split_off(2);
        Self { child, lines: Some(lines), proxy: bound[0], ops: bound[1], more, config }
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Reads the log up to the line that says `message`.
    pub fn until(&mut self, message: &str) -> serde_json::Value {
        self.until_some(|line| line["message"] == message)
    }

    /// The same up to a line that is looked for in another way.
    pub fn until_some(&mut self, is_it: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        loop {
            let line = self
                .lines
                .as_mut()
                .and_then(Iterator::next)
                .unwrap_or_else(|| panic!("the log ended before the line that was awaited"))
                .unwrap();
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if is_it(&line) {
                return line;
            }
        }
    }

    /// The status of an answer, 0 where none came.
    pub fn get(&self, addr: SocketAddr, path: &str) -> u16 {
        let head = format!("GET {path} HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n");
        exchange(addr, head.as_bytes()).map_or(0, |r| r.status)
    }

    /// A command beside the gate; `input` is typed in. What it printed.
    pub fn command(&self, words: &[&str], input: &str) -> String {
        let mut child = Command::new(env!("CARGO_BIN_EXE_stepgate"))
            .args(words)
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// The authenticator's code of now; each person's is good for one sign-in.
    pub fn code(person: &Person) -> String {
        code_at(person.seed.as_deref().unwrap(), SystemClock.now())
    }

    /// An account with password and authenticator.
    pub fn add_person(&self, name: &str) -> Person {
        let password = format!("{name} walks slowly home");
        self.command(&["user", "add", name, "--password-stdin"], &password);
        let told: serde_json::Value =
            serde_json::from_str(&self.command(&["factor", "add", name, "totp", "--json"], "")).unwrap();
        Person { name: name.into(), password, seed: Some(seed_of(told["uri"].as_str().unwrap())) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
