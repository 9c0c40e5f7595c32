//! Where an app lives: a description, not a connection.

use std::path::PathBuf;
use std::time::Duration;

use super::host::Scheme;

/// One address of an app. Only configuration makes it; nothing of a request ever does (S-UP-1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamUrl {
    pub scheme: Scheme,
    /// Host name or address, without brackets.
    pub host: String,
    pub port: u16,
}

/// An app's upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// At least one. Several are used in turn (health checks are a later issue).
    pub urls: Vec<UpstreamUrl>,
    /// Extra roots (PEM) for `https` upstreams with a private CA.
    pub ca: Option<PathBuf>,
    /// `true` skips certificate verification; the key says `dangerously_insecure`.
    pub insecure: bool,
    /// `preserve_host: true` (the default): the app sees the public Host.
    pub preserve_host: bool,
    /// GET and HEAD bodies are refused unless the app says it needs them (S-FRAME-6).
    pub get_body: bool,
    pub connect_timeout: Duration,
    pub first_byte_timeout: Duration,
}
