//! Where an app lives: a description, not a connection.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::host::Scheme;
use crate::base::secret::Secret;

/// One address of an app. Only configuration makes it; nothing of a request ever does (S-UP-1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamUrl {
    pub scheme: Scheme,
    /// Host name or address, without brackets.
    pub host: String,
    pub port: u16,
}

impl UpstreamUrl {
    /// `HOST`, or `HOST:PORT` where the port is not the scheme's own, as a `Host` field has it.
    #[must_use]
    pub fn authority(&self) -> String {
        let name = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.scheme.default_port() { name } else { format!("{name}:{}", self.port) }
    }
}

/// As the file writes it; safe as a metric label, for it comes from nowhere else.
impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

/// Most addresses of one app.
pub const MAX_ADDRESSES: usize = 64;

/// An app's upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// 1 to [`MAX_ADDRESSES`], all different. Each request goes to the one that has the fewest in
    /// hand, among those that are well.
    pub urls: Vec<UpstreamUrl>,
    /// Extra roots (PEM) for `https` upstreams with a private CA.
    pub ca: Option<PathBuf>,
    /// `true` skips certificate verification; the key says `dangerously_insecure`.
    pub insecure: bool,
    /// Shown to an `https` upstream that asks who connects.
    pub client_certificate: Option<ClientCertificate>,
    /// The name that an `https` upstream's certificate must carry, and that SNI asks for, where it
    /// is not the host of the URL.
    pub server_name: Option<String>,
    pub protocol: Protocol,
    /// Where the app lives on its server: stands before every path that is sent, and is taken off the
    /// paths that come back. Begins with `/` and does not end with one; empty for an app at the root.
    pub path_prefix: String,
    /// `preserve_host: true` (the default): the app sees the public Host.
    pub preserve_host: bool,
    /// Whether the app's server reads every request body to its end, or closes (RFC 9112 section 9.3): then a
    /// connection may be used again after a request with a body.
    pub reads_bodies: bool,
    /// GET and HEAD bodies are refused unless the app says it needs them (S-FRAME-6).
    pub get_body: bool,
    pub connect_timeout: Duration,
    pub first_byte_timeout: Duration,
    /// Longest silence in the middle of an answer; `None`: as long as the client waits.
    pub idle_timeout: Option<Duration>,
    /// How long an app that has answered whole may take no byte of what it is still sent. Not for the file: an
    /// app that reads on, however slowly, is never near it (buffers of megabytes lie between), and one that does
    /// not costs a stranger no more than one request to hold two connections.
    pub upload_silence: Duration,
    /// Asks each address whether it is well; without it only the faults of requests tell.
    pub health: Option<HealthCheck>,
    /// How long an address that came back takes to get its full share; zero: at once.
    pub slow_start: Duration,
}

impl Upstream {
    /// With every other key at its default.
    #[must_use]
    pub fn at(urls: Vec<UpstreamUrl>) -> Self {
        Self {
            urls,
            ca: None,
            insecure: false,
            client_certificate: None,
            server_name: None,
            protocol: Protocol::Http1,
            path_prefix: String::new(),
            preserve_host: true,
            reads_bodies: false,
            get_body: false,
            connect_timeout: Duration::from_secs(5),
            first_byte_timeout: Duration::from_secs(60),
            idle_timeout: None,
            upload_silence: Duration::from_secs(30),
            health: None,
            slow_start: Duration::from_secs(10),
        }
    }
}

impl Upstream {
    /// What of the app's own path stands after its prefix; `None` where it lies outside of it.
    /// `tail` is a path with what follows it (query, fragment).
    #[must_use]
    pub fn without_prefix<'p>(&self, tail: &'p str) -> Option<&'p str> {
        let rest = tail.strip_prefix(self.path_prefix.as_str())?;
        (rest.is_empty() || rest.starts_with(['/', '?', '#'])).then_some(rest)
    }
}

/// What is spoken to an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Protocol {
    /// Each request has its connection for itself: what one person does to it reaches nobody else.
    #[default]
    Http1,
    /// Many requests on one connection; over `http` without asking first (prior knowledge).
    Http2,
    /// What an `https` upstream prefers; over `http` as [`Protocol::Http1`].
    Auto,
}

/// How an address is asked whether it is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Origin form: begins with `/`, may hold a query.
    pub path: String,
    pub every: Duration,
    /// For connection and head together.
    pub timeout: Duration,
    /// Good answers in a row that bring an address back, bad ones that take it out; at least 1.
    pub healthy_after: u32,
    pub unhealthy_after: u32,
    /// Statuses that count as good; empty: 200 to 399.
    pub expect: Vec<u16>,
}

impl HealthCheck {
    /// With every other key at its default.
    #[must_use]
    pub fn of(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            every: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            healthy_after: 2,
            unhealthy_after: 3,
            expect: Vec::new(),
        }
    }

    #[must_use]
    pub fn is_good(&self, status: u16) -> bool {
        if self.expect.is_empty() { (200..400).contains(&status) } else { self.expect.contains(&status) }
    }
}

/// Who the gate is to an upstream that asks.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// PEM: the certificate, then what leads to its root.
    pub certificate: PathBuf,
    /// PEM.
    pub key: Arc<Secret<String>>,
}

impl PartialEq for ClientCertificate {
    fn eq(&self, other: &Self) -> bool {
        self.certificate == other.certificate && self.key.expose() == other.key.expose()
    }
}

impl Eq for ClientCertificate {}

impl Hash for ClientCertificate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.certificate.hash(state);
        self.key.expose().hash(state);
    }
}
