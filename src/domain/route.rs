//! Which app answers for a host.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::host::HostName;
use super::policy::Policy;
use super::upstream::Upstream;
use crate::base::secret::Secret;

/// An app's name as the file gives it: `[a-z0-9-]`, at most 63 bytes. Safe as a metric label.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AppName(Arc<str>);

impl AppName {
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// `None` for anything but 1 to 63 of `[a-z0-9-]`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        ((1..=63).contains(&name.len()) && name.bytes().all(fine)).then(|| Self::new(name))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One value that an identity header may carry.
#[derive(Clone, Debug)]
pub enum IdentityValue {
    /// The sign-in name.
    User,
    /// Group names, joined by the separator.
    Groups {
        separator: char,
    },
    /// The display name.
    Name,
    Email,
    /// The stable `sub`.
    Subject,
    /// A fixed text from the file; sent on every request, signed in or not.
    Fixed(String),
    /// A fixed text by reference (`{ file: }`, `{ env: }`).
    FixedSecret(Arc<Secret<String>>),
}

/// How non-ASCII text is written into a header (S-ID-5): chosen by the app, never guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum HeaderEncoding {
    /// Raw UTF-8, as Authelia and oauth2-proxy send it.
    #[default]
    Utf8,
    /// RFC 8187 `UTF-8''Zo%C3%AB`.
    Rfc8187,
    /// Percent-encoded UTF-8 without a prefix.
    Percent,
}

/// What the app is told about the person.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Header name as sent (lower-case on the wire) and what it carries, dialects expanded.
    pub headers: Vec<(http::HeaderName, IdentityValue)>,
    /// `X-Stepgate-Assertion`.
    pub assertion: bool,
    pub encoding: HeaderEncoding,
    /// Client fields with a generic name (SECURITY.md 4.1) or odd bytes that this app really uses.
    pub pass_headers: Vec<String>,
}

/// Limits of one app.
#[derive(Clone, Debug)]
pub struct AppLimits {
    pub max_body: u64,
    /// The largest body whose fields a rule may depend on, in bytes.
    pub judge_body: usize,
}

/// What a rule may see of a body where the file says nothing else (SECURITY.md section 3).
pub const JUDGE_BODY: usize = 64 * 1024;

/// The hardening preset of one app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Harden {
    #[default]
    Off,
    /// Says in the access log what would be refused; changes nothing.
    ReportOnly,
    Enforce,
}

/// Whether the app's own cookies are bound to the session at the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppCookies {
    /// They belong to the browser, whoever sits before it.
    None,
    /// Those with `HttpOnly` or the name of a session are sealed for the session that received them.
    Seal {
        /// Names of further cookies; `NAME*` for all that begin so.
        seal: Vec<String>,
        /// Names of cookies that stay as they are.
        pass: Vec<String>,
    },
}

impl Default for AppCookies {
    fn default() -> Self {
        Self::Seal { seal: Vec::new(), pass: Vec::new() }
    }
}

/// One app: hosts, upstream, identity, policy.
#[derive(Clone, Debug)]
pub struct Route {
    pub app: AppName,
    /// For people: `title:`, or the name with a capital letter.
    pub title: String,
    pub hosts: Vec<HostName>,
    pub upstream: Arc<Upstream>,
    pub identity: Identity,
    pub policy: Policy,
    pub limits: AppLimits,
    /// Further origins that may open WebSockets (S-WS-1).
    pub websocket_origins: Vec<String>,
    /// Whether the gate closes the usual gaps of old apps.
    pub harden: Harden,
    /// Further origins whose pages may send what changes something, under `harden`.
    pub trusted_origins: Vec<String>,
    /// `Domain=` values that the app may set (S-COOK-3).
    pub cookie_domains: Vec<String>,
    pub app_cookies: AppCookies,
    pub tunnel_idle: Duration,
}

/// Host to app.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    by_host: HashMap<HostName, Arc<Route>, foldhash::fast::RandomState>,
    apps: Vec<Arc<Route>>,
}

impl RouteTable {
    /// The caller has checked that no two routes share a host.
    #[must_use]
    pub fn new(apps: Vec<Arc<Route>>) -> Self {
        let by_host = apps.iter().flat_map(|r| r.hosts.iter().map(move |h| (h.clone(), Arc::clone(r)))).collect();
        Self { by_host, apps }
    }

    #[must_use]
    pub fn find(&self, host: &HostName) -> Option<&Arc<Route>> {
        self.by_host.get(host)
    }

    #[must_use]
    pub fn app(&self, name: &str) -> Option<&Arc<Route>> {
        self.apps.iter().find(|r| r.app.as_str() == name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.apps.iter()
    }
}
