//! A gate in front of a recorder, which is the app of the host `a`.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use tempfile::TempDir;

use super::corpus::unescaped;
use super::recorder::{Framing, Recorder, Seen};
use crate::harness::World;
use crate::harness::tls::{certificate, trusting};

const RULES: &str = "rules: [{ match: { path: /** }, allow: [anyone], require: none }]";

fn apps(app: &Recorder) -> String {
    format!("apps: [{{ app: a, hosts: [a], upstream: {{ urls: [\"http://{}\"] }}, {RULES} }}]", app.addr)
}

pub fn in_front_of(app: &Recorder) -> World {
    World::new().app(RULES).main(&apps(app)).start()
}

/// The same behind TLS.
pub struct OverTls {
    pub world: World,
    pub addr: SocketAddr,
    pem: String,
    _certificates: TempDir,
}

impl OverTls {
    pub fn in_front_of(app: &Recorder) -> Self {
        let certificates = tempfile::tempdir().unwrap();
        let pem = certificate(certificates.path(), "a", &["a"]);
        let tls = format!("tls: {{ certificates: {} }}", certificates.path().display());
        let listener = format!("{{ addr: \"127.0.0.1:0\", role: proxy, {tls} }}");
        let world = World::new().app(RULES).main(&apps(app)).listen(&listener).start();
        Self { addr: world.other_proxy(), world, pem, _certificates: certificates }
    }

    pub fn trust(&self) -> Arc<ClientConfig> {
        trusting(&self.pem, "h2")
    }
}

/// A request that a case says the app sees.
#[derive(Debug)]
pub struct Expected {
    line: String,
    framing: Framing,
    body: Vec<u8>,
}

impl Expected {
    /// Those of the values of `sees` that are requests which come to their end.
    pub fn all<'c>(said: impl Iterator<Item = &'c [u8]>) -> Vec<Self> {
        said.filter(|said| ![&b"nothing"[..], b"cut"].contains(said)).map(Self::read).collect()
    }

    fn read(said: &[u8]) -> Self {
        if said == b"canary" {
            return Self { line: "GET /canary HTTP/1.1".into(), framing: Framing::None, body: Vec::new() };
        }
        let mut words = said.splitn(4, |b| *b == b' ');
        let mut word = || words.next().map(|w| String::from_utf8(w.to_vec()).unwrap());
        let (method, target, framing) = (word().unwrap(), word().unwrap(), word().unwrap());
        let framing = match framing.as_str() {
            "none" => Framing::None,
            "length" => Framing::Length,
            "chunked" => Framing::Chunked,
            other => panic!("no framing: {other}"),
        };
        let line = format!("{method} {target} HTTP/1.1");
        Self { line, framing, body: words.next().unwrap_or_default().to_vec() }
    }

    pub fn is(&self, seen: &Seen) -> bool {
        seen.line == self.line && seen.framing == self.framing && seen.body.as_deref() == Some(&self.body)
    }
}

#[test]
fn what_a_case_expects_is_read_as_it_says() {
    let said = [&b"nothing"[..], b"cut", b"canary", &unescaped(r"POST /x length a b\r\n", &[])];
    let read = Expected::all(said.into_iter());
    assert_eq!((read.len(), read[0].line.as_str()), (2, "GET /canary HTTP/1.1"));
    assert_eq!((read[1].line.as_str(), read[1].body.as_slice()), ("POST /x HTTP/1.1", &b"a b\r\n"[..]));
}
