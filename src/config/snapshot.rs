//! Everything that a reload swaps, swapped whole: one `Arc<Snapshot>` serves a request from its
//! first byte to its last.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lettre::message::Mailbox;

use super::expect::PolicyTest;
use crate::base::net::NetworkSet;
use crate::base::secret::Secret;
use crate::domain::factor::FactorKind;
use crate::domain::host::{HostName, Scheme};
use crate::domain::level::Level;
use crate::domain::policy::Who;
use crate::domain::policy::lockdown::Postures;
use crate::domain::posture::Posture;
use crate::domain::route::{Route, RouteTable};
use crate::domain::user::GroupName;

#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Counts loads from 1; in `/readyz` and the metrics.
    pub generation: u64,
    /// SHA-256 of all files read, hex, by their places beside the main file: replicas can be compared by it.
    pub hash: String,
    pub listeners: Vec<Listener>,
    pub trusted_proxies: NetworkSet,
    pub portal: Option<Portal>,
    pub title: String,
    pub help: Option<String>,
    pub routes: RouteTable,
    pub levels: Vec<Arc<Level>>,
    /// Which of `postures` `routes` and `levels` are of; `normal` as the files are read.
    pub posture: Posture,
    pub postures: Postures,
    pub sessions: SessionLimits,
    pub factors: FactorSettings,
    pub state: PathBuf,
    pub store: StoreSettings,
    /// The relay for our mail; without it nobody is written to.
    pub smtp: Option<Arc<SmtpSettings>>,
    pub sms: Option<Arc<SmsSettings>>,
    /// Where the key ring stands; in the state directory when absent.
    pub keys: Option<PathBuf>,
    /// Who may use the admin console (a later version reads it).
    pub admin: Vec<Who>,
    /// The policy tests of all apps.
    pub tests: Vec<PolicyTest>,
    /// Read at start, for a reload to watch.
    pub files: Vec<PathBuf>,
    /// Whether a changed file is taken by itself.
    pub watch: bool,
}

/// How a policy is named where a whole hash is too long: the beginning of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Version([u8; Self::DIGITS]);

impl Version {
    pub const DIGITS: usize = 12;

    /// `None` for what has no hash.
    #[must_use]
    pub fn of(hash: &str) -> Option<Self> {
        hash.as_bytes().first_chunk().copied().map(Self)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub addr: SocketAddr,
    pub role: Role,
    pub tls: Option<TlsFiles>,
    /// Peers allowed to connect; `None` for everyone.
    pub from: Option<NetworkSet>,
    /// Every connection begins with a PROXY header of one of `trusted_proxies`.
    pub proxy_protocol: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Proxy,
    Redirect,
    Ops,
}

/// A directory of `NAME.crt`/`NAME.key` (or `.pem` with both) pairs, or one explicit pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificates: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portal {
    pub host: HostName,
    /// The scheme that browsers use to reach the portal and the apps.
    pub scheme: Scheme,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    pub idle: Duration,
    pub max: Duration,
    pub per_user: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactorSettings {
    pub totp_digits: u32,
    pub totp_period: Duration,
    pub totp_drift: u8,
    /// How many presses of a counting token that nobody typed are passed over.
    pub hotp_look_ahead: u8,
    /// Whether people may set one up on their account page; operators always may.
    pub hotp_enroll: bool,
    pub backup_codes: u8,
    /// People may confirm by a code sent to them, where a level names it.
    pub email_codes: bool,
    /// People may confirm by a code sent to their telephone.
    pub sms_codes: bool,
    /// And may say on their account page which one that is.
    pub sms_enroll: bool,
    pub first_login: Duration,
    pub password_min: usize,
    /// Whether a passkey alone may sign in.
    pub passkeys: bool,
    /// Whether a code is enough to add a security key; else it takes one that is there already.
    pub key_after_code: bool,
}

#[derive(Clone, Debug)]
pub enum StoreSettings {
    /// `stepgate.db` in the state directory.
    Sqlite,
    Postgres {
        url: Arc<Secret<String>>,
    },
}

/// How our mail leaves the house.
#[derive(Clone, Debug)]
pub struct SmtpSettings {
    pub host: String,
    pub port: u16,
    pub tls: SmtpTls,
    /// Further roots.
    pub ca: Option<PathBuf>,
    pub login: Option<SmtpLogin>,
    pub from: Mailbox,
    pub reply_to: Option<Mailbox>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    StartTls,
    Implicit,
    Off,
}

#[derive(Clone, Debug)]
pub struct SmtpLogin {
    pub username: String,
    pub password: Arc<Secret<String>>,
}

/// The gateway that sends text messages for us.
#[derive(Clone, Debug)]
pub struct SmsSettings {
    pub url: GatewayUrl,
    /// Further roots.
    pub ca: Option<PathBuf>,
    /// Its name may lead to an address that is not of the public network.
    pub private: bool,
    pub auth: SmsAuth,
    /// Signs each request.
    pub signing: Option<Arc<Secret<String>>>,
    pub body: SmsBody,
    /// Statuses by which it takes a message; of none: all from 200 to 299.
    pub success: Vec<u16>,
    /// How the numbers begin that messages may go to.
    pub allow_prefixes: Vec<String>,
    /// Messages in an hour, to everybody together.
    pub per_hour: u32,
}

/// Where requests go: the operator's alone to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayUrl {
    pub https: bool,
    /// Without the brackets of an IPv6 address.
    pub host: String,
    /// The host is an address, not a name.
    pub is_address: bool,
    pub port: u16,
    /// What stands in `Host`.
    pub authority: String,
    /// Path and query.
    pub target: String,
}

#[derive(Clone, Debug)]
pub enum SmsAuth {
    None,
    Basic { username: String, password: Arc<Secret<String>> },
    Bearer(Arc<Secret<String>>),
}

/// The body of a request, with the places `{to}`, `{text}` and `{id}` in its texts.
#[derive(Clone, Debug, PartialEq)]
pub enum SmsBody {
    Form(Vec<(String, String)>),
    Json(serde_json::Value),
}

impl Snapshot {
    /// What the files say, read for `normal`, as it is in a posture.
    #[must_use]
    pub fn under(&self, posture: Posture) -> Self {
        let mut snapshot = self.clone();
        if posture == Posture::Normal {
            return snapshot;
        }
        snapshot.posture = posture;
        for level in &mut snapshot.levels {
            *level = self.postures.level(posture, level);
        }
        let routes = self.routes.iter().map(|route| Arc::new(self.route_under(route, posture)));
        snapshot.routes = RouteTable::new(routes.collect());
        snapshot
    }

    /// One app of it, likewise.
    #[must_use]
    pub fn route_under(&self, route: &Route, posture: Posture) -> Route {
        Route { policy: route.policy.under(posture, &self.postures), ..route.clone() }
    }

    /// The beginning of the hash.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        Version::of(&self.hash)
    }

    /// The scheme that browsers use: `https` unless every proxy listener is clear text and no
    /// trusted proxy stands in front.
    #[must_use]
    pub fn public_scheme(&self) -> Scheme {
        self.portal.as_ref().map_or_else(
            || {
                let clear = self.listeners.iter().filter(|l| l.role == Role::Proxy).all(|l| l.tls.is_none());
                if clear && self.trusted_proxies.is_empty() { Scheme::Http } else { Scheme::Https }
            },
            |portal| portal.scheme,
        )
    }

    /// Every group that some rule, some exception or the admin console is for.
    #[must_use]
    pub fn groups_named(&self) -> BTreeSet<GroupName> {
        let of_rules = self.routes.iter().flat_map(|route| route.policy.whom());
        of_rules.chain(&self.admin).filter_map(Who::group).cloned().collect()
    }

    /// Whether people may confirm by a code in a mail, where a level names it.
    #[must_use]
    pub fn codes_by_email(&self) -> bool {
        self.factors.email_codes && self.smtp.is_some()
    }

    /// Whether people may confirm by a code in a text message.
    #[must_use]
    pub fn codes_by_sms(&self) -> bool {
        self.factors.sms_codes && self.sms.is_some()
    }

    /// Whether anybody could show a factor of this kind here. Of those that need more than this version the file says.
    #[must_use]
    pub fn offers(&self, kind: FactorKind) -> bool {
        kind.is_available() && (kind != FactorKind::Sms || self.codes_by_sms())
    }

    /// Where links in mails and from the command line lead: the portal, or the first app's own host where
    /// there is none. Never from a request (S-HOST-3).
    #[must_use]
    pub fn own_origin(&self) -> Option<String> {
        let host = match &self.portal {
            Some(portal) => Some(&portal.host),
            None => self.routes.iter().find_map(|route| route.hosts.first()),
        };
        host.map(|host| format!("{}://{host}", self.public_scheme().as_str()))
    }

    #[must_use]
    pub fn level(&self, name: &str) -> Option<&Arc<Level>> {
        self.levels.iter().find(|l| l.name.as_str() == name)
    }
}
