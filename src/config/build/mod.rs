//! From a checked tree to a typed [`Snapshot`]: what needs more than one value to be judged.
//!
//! Every function here goes on after a fault with what it has, so that one run tells everything.

mod answer;
mod app;
mod circles;
mod compliance;
mod exceptions;
mod identity;
mod levels;
mod listen;
mod otherwise;
mod postures;
mod rules;
mod sms;
mod smtp;
mod tests;
mod upstream;

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub(super) use self::answer::{AnswerFile, media_type, redirect_target};
use self::circles::Placed;
pub(super) use self::compliance::PROFILES;
use super::fault::{Report, did_you_mean};
use super::snapshot::{FactorSettings, Listener, Portal, Role, SessionLimits, Snapshot, StoreSettings};
use super::values;
use super::yaml::{Mark, Node, Value};
use super::{Purpose, expect::PolicyTest, keys, shape};
use crate::base::net::NetworkSet;
use crate::base::secret::Secret;
use crate::domain::host::{HostName, Scheme};
use crate::domain::level::Level;
use crate::domain::policy::Who;
use crate::domain::posture::Posture;
use crate::domain::route::{Route, RouteTable};
use crate::domain::user::{GroupName, UserName};

/// A file that was read: its name for messages and its tree.
pub(super) struct Source {
    pub(super) name: Arc<str>,
    pub(super) root: Node,
}

/// What the parts of a file need to know of the whole.
pub(super) struct Context<'a> {
    pub(super) report: &'a mut Report,
    pub(super) purpose: Purpose,
    /// Relative paths start here: the directory of the main file.
    pub(super) directory: &'a Path,
    /// Where what belongs to the policy starts: the same, but for files that wait to be put in force.
    home: &'a Path,
    networks: Vec<(String, Vec<IpNet>)>,
    levels: Vec<Arc<Level>>,
    /// A lockdown leaves open what is marked, and nothing besides to anybody.
    closed_to_all: bool,
    scheme: Scheme,
    /// The state directory: nothing in it is ever an answer.
    state: PathBuf,
    /// Files that rules answer with, as they were read.
    answers: Vec<AnswerFile>,
    /// Files that hold a secret.
    secrets: Vec<PathBuf>,
}

/// Makes the snapshot of the main file and the app files. With faults in the report it is not to
/// be used. Beside it stand the further files that are part of the policy.
pub(super) fn build(
    main: &Source,
    apps: &[Source],
    (directory, home): (&Path, &Path),
    purpose: Purpose,
    report: &mut Report,
) -> (Snapshot, Vec<AnswerFile>) {
    let root = &main.root;
    let networks = networks(root);
    let state = below(directory, root.get("state").and_then(Node::text).unwrap_or("state"));
    let mut context = Context {
        report,
        purpose,
        directory,
        home,
        networks,
        levels: Vec::new(),
        closed_to_all: true,
        scheme: Scheme::Https,
        state,
        answers: Vec::new(),
        secrets: Vec::new(),
    };
    let trusted_proxies = trusted(&mut context, main);
    let listeners = listen::listeners(&mut context, main, &trusted_proxies);
    let clear = listeners.iter().filter(|l| l.role == Role::Proxy).all(|l| l.tls.is_none());
    context.scheme = if clear && trusted_proxies.is_empty() { Scheme::Http } else { Scheme::Https };
    context.levels = levels::levels(&mut context, main);
    let postures = postures::postures(&mut context, main);
    context.closed_to_all = postures.closed.allow.is_empty();

    let portal_node = root.get("portal");
    let portal = portal_node.and_then(|p| p.get("host")).and_then(|node| {
        let host = HostName::parse(node.text()?.as_bytes(), context.scheme).ok()?;
        Some((Portal { host, scheme: context.scheme }, node.at))
    });
    let words = |key: &str| portal_node.and_then(|p| p.get(key)).and_then(Node::text).map(str::to_owned);
    if portal.is_none() {
        let at = portal_node.map_or(root.at, |p| p.at);
        context.report.warn(
            &main.name,
            at,
            "no `portal.host`: people sign in on each app's own host, where the app's scripts can watch, and once per app",
        );
    }

    let mut hosts: HashMap<HostName, (Arc<str>, Mark)> = HashMap::new();
    if let Some((portal, at)) = &portal {
        hosts.insert(portal.host.clone(), (Arc::from("the portal"), *at));
    }
    let mut names: HashMap<String, (Arc<str>, Mark)> = HashMap::new();
    let mut placed: Vec<Placed<'_>> = Vec::new();
    let mut tests: Vec<PolicyTest> = Vec::new();
    let inline = root.get("apps").map(Node::items).unwrap_or_default();
    let all = inline.iter().map(|node| (&main.name, node)).chain(apps.iter().map(|s| (&s.name, &s.root)));
    for (file, node) in all {
        if let Some(built) = app::app(&mut context, file, node, &mut hosts, &mut names) {
            placed.push(Placed { file, node, route: Arc::new(built.route) });
            tests.extend(built.tests);
        }
    }
    circles::redirects(&mut context, &placed);
    circles::upstreams(&mut context, &placed, &listeners);
    ports_without_a_host(&mut context, main, &hosts, &trusted_proxies);
    hosts_without_their_port(&mut context, main, portal.as_ref(), &placed, &listeners, &trusted_proxies);
    let routes: Vec<Arc<Route>> = placed.into_iter().map(|app| app.route).collect();
    if routes.is_empty() && context.report.faults.is_empty() {
        context.report.warn(&main.name, root.at, "there is no app: nothing is served but the sign-in");
    }

    let store = store(&mut context, main);
    let keys = root.get("store").and_then(|s| s.get("keys")).and_then(|node| ring_file(&mut context, main, node));
    let smtp = smtp::smtp(&mut context, main);
    let sms = sms::sms(&mut context, main);
    let admin = root.get("admin").and_then(|a| a.get("allow")).map(|n| who(n.items())).unwrap_or_default();
    answer::are_no_secrets(&mut context);
    let (routes, sessions, factors) =
        (RouteTable::new(routes), sessions(&mut context, main), factors(&mut context, main));
    let held = compliance::Held { routes: &routes, sessions: &sessions, factors: &factors, listeners: &listeners };
    compliance::check(&mut context, main, &held);
    let answers = std::mem::take(&mut context.answers);
    let snapshot = Snapshot {
        generation: 1,
        hash: String::new(),
        listeners,
        trusted_proxies,
        portal: portal.map(|(portal, _)| portal),
        title: words("title").unwrap_or_else(|| "Stepgate".to_owned()),
        help: words("help"),
        routes,
        levels: std::mem::take(&mut context.levels),
        posture: Posture::Normal,
        postures,
        sessions,
        factors,
        state: context.state,
        store,
        smtp,
        sms,
        keys,
        admin,
        tests,
        files: Vec::new(),
        watch: root.get("watch").and_then(Node::bool).unwrap_or(true),
    };
    (snapshot, answers)
}

impl Context<'_> {
    /// The networks that a list of names and networks means.
    fn network_set(&mut self, file: &Arc<str>, node: &Node) -> NetworkSet {
        let mut nets = Vec::new();
        for item in node.one_or_many() {
            let Some(text) = item.text() else { continue };
            if let Some((_, known)) = self.networks.iter().find(|(name, _)| name == text) {
                nets.extend_from_slice(known);
                continue;
            }
            match values::network(text) {
                Ok(net) => nets.push(net),
                Err(why) if text.contains(['/', ':']) || text.starts_with(|c: char| c.is_ascii_digit()) => {
                    self.report.fault(file, item.at, why);
                }
                Err(_) => {
                    let names = self.networks.iter().map(|(name, _)| name.as_str());
                    let hint = did_you_mean(text, names).unwrap_or_else(|| {
                        "give it a name under `networks`, or write an address such as 10.0.0.4 or 10.0.0.0/24"
                            .to_owned()
                    });
                    self.report.fault_with(file, item.at, format!("unknown network {text:?}"), hint);
                }
            }
        }
        NetworkSet::new(nets)
    }

    /// A path of the file, from the directory of the main file.
    fn path(&self, node: &Node) -> Option<PathBuf> {
        Some(below(self.directory, node.text()?))
    }

    /// Reads `{ file: }` or `{ env: }`. A secret that is not there is a fault, except for `check`,
    /// which runs where the secrets are not.
    fn secret(&mut self, file: &Arc<str>, node: &Node) -> Option<Arc<Secret<String>>> {
        let read = match (node.get("file"), node.get("env")) {
            (Some(path), None) => {
                let path = self.path(path)?;
                self.secrets.push(path.clone());
                std::fs::read_to_string(&path)
                    .map(|text| text.strip_suffix('\n').map(str::to_owned).unwrap_or(text))
                    .map_err(|e| format!("the secret {} cannot be read: {e}", path.display()))
            }
            (None, Some(name)) => {
                let name = name.text()?;
                std::env::var(name).map_err(|_| format!("the environment variable {name} is not set"))
            }
            // A literal in its place was told already, unseen.
            (None, None) if !matches!(node.value, Value::Map(_)) => return None,
            (Some(_), Some(_)) | (None, None) => {
                self.report.fault(file, node.at, "a reference to a secret has one key: `file` or `env`");
                return None;
            }
        };
        let read = read.and_then(|text| if text.is_empty() { Err("the secret is empty".to_owned()) } else { Ok(text) });
        match read {
            Ok(text) => Some(Arc::new(Secret::new(text))),
            Err(why) => {
                self.missing_here(file, node.at, why);
                (self.purpose != Purpose::Serve).then(|| Arc::new(Secret::new(String::new())))
            }
        }
    }

    /// Something that must be there to serve, and need not be where the file is only checked.
    fn missing_here(&mut self, file: &Arc<str>, at: Mark, message: String) {
        match self.purpose {
            Purpose::Serve => self.report.fault(file, at, message),
            Purpose::Check => self.report.warn(file, at, message),
            Purpose::State => {}
        }
    }
}

/// A browser names the port in `Host` where it is not the scheme's own. If people come straight to
/// such a listener and no host of the files has its port, each of them is answered 421, and every
/// link and redirect leads to a port where nobody listens.
fn ports_without_a_host(
    context: &mut Context<'_>,
    main: &Source,
    hosts: &HashMap<HostName, (Arc<str>, Mark)>,
    trusted: &NetworkSet,
) {
    if !trusted.is_empty() || hosts.is_empty() {
        return;
    }
    for node in main.root.get("listen").map(Node::items).unwrap_or_default() {
        if node.get("role").and_then(Node::text) != Some("proxy") {
            continue;
        }
        let Some(addr_node) = node.get("addr") else { continue };
        let Some(addr) = addr_node.text().and_then(|t| values::socket(t).ok()) else { continue };
        let (port, own) = (addr.port(), context.scheme.default_port());
        let named = hosts.keys().any(|host| host.port() == Some(port));
        if port == 0 || port == own || named {
            continue;
        }
        let example = hosts.keys().map(HostName::name).min().unwrap_or("app.localhost");
        context.report.warn_with(
            &main.name,
            addr_node.at,
            format!("no host has the port {port} of this listener: who comes by it is answered 421, and links lead to port {own}"),
            format!(
                "write the port into the hosts (\"{example}:{port}\"); or name what stands in front and passes requests on \
                 in `trusted_proxies`"
            ),
        );
    }
}

/// Where the ports of all proxy listeners are known and none is the scheme's own, a host that names
/// none of them can be reached by nobody. That all of them do is told once, by the listener.
fn hosts_without_their_port(
    context: &mut Context<'_>,
    main: &Source,
    portal: Option<&(Portal, Mark)>,
    apps: &[Placed<'_>],
    listeners: &[Listener],
    trusted: &NetworkSet,
) {
    let ports: Vec<u16> = listeners.iter().filter(|l| l.role == Role::Proxy).map(|l| l.addr.port()).collect();
    let own = context.scheme.default_port();
    let Some(port) = ports.first().filter(|_| !ports.contains(&0) && !ports.contains(&own)) else { return };
    let mut hosts: Vec<(Arc<str>, HostName, Mark)> = Vec::new();
    hosts.extend(portal.map(|(portal, at)| (Arc::clone(&main.name), portal.host.clone(), *at)));
    for app in apps {
        for node in app.node.get("hosts").map(Node::one_or_many).unwrap_or_default() {
            let host = node.text().and_then(|text| HostName::parse(text.as_bytes(), context.scheme).ok());
            hosts.extend(host.map(|host| (Arc::clone(app.file), host, node.at)));
        }
    }
    let named = |host: &HostName| host.port().is_some_and(|port| ports.contains(&port));
    // Behind a balancer the public port is another one, and so it may be where no host has ours.
    if trusted.is_empty() && hosts.iter().any(|(_, host, _)| named(host)) {
        for (file, host, at) in hosts.iter().filter(|(_, host, _)| !named(host)) {
            let message = format!(
                "nobody reaches the host {host}: no proxy listener has the port {}",
                host.port().unwrap_or(own)
            );
            context.report.warn_with(file, *at, message, format!("write \"{}:{port}\"", host.name()));
        }
    }
}

/// A path of a file, as a person would write it: no `./` before it.
pub(super) fn below(directory: &Path, text: &str) -> PathBuf {
    let path: PathBuf = directory.join(text).components().filter(|c| *c != Component::CurDir).collect();
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path }
}

fn networks(root: &Node) -> Vec<(String, Vec<IpNet>)> {
    let entries = root.get("networks").map(Node::entries).unwrap_or_default();
    entries
        .iter()
        .map(|entry| {
            let texts = entry.node.one_or_many().iter().filter_map(Node::text);
            (entry.key.clone(), texts.filter_map(|t| values::network(t).ok()).collect())
        })
        .collect()
}

/// Whoever may speak `X-Forwarded-For` may be anybody: all the world cannot be trusted (S-NET-4).
fn trusted(context: &mut Context<'_>, main: &Source) -> NetworkSet {
    let Some(node) = main.root.get("trusted_proxies") else { return NetworkSet::default() };
    for item in node.one_or_many() {
        let set = context.network_set(&main.name, item);
        if set.iter().any(|net| net.prefix_len() == 0) {
            context.report.fault_with(
                &main.name,
                item.at,
                "`trusted_proxies` holds every address: anybody could then say who they are",
                "name the addresses of your load balancers".to_owned(),
            );
        }
    }
    // Unknown names were told above, once.
    let mut quiet = Report::default();
    let mut silent = Context {
        report: &mut quiet,
        purpose: context.purpose,
        directory: context.directory,
        home: context.home,
        networks: context.networks.clone(),
        levels: Vec::new(),
        closed_to_all: true,
        scheme: context.scheme,
        state: PathBuf::new(),
        answers: Vec::new(),
        secrets: Vec::new(),
    };
    silent.network_set(&main.name, node)
}

/// Only what is wrong with the way to the state: `state` and `store`.
pub(super) fn state_faults(main: &Source, directory: &Path, report: &mut Report) {
    shape::check_keys(&main.name, &main.root, &keys::MAIN, &["state", "store"], report);
    let mut context = Context {
        report,
        purpose: Purpose::State,
        directory,
        home: directory,
        networks: Vec::new(),
        levels: Vec::new(),
        closed_to_all: true,
        scheme: Scheme::Https,
        state: PathBuf::new(),
        answers: Vec::new(),
        secrets: Vec::new(),
    };
    store(&mut context, main);
    if let Some(node) = main.root.get("store").and_then(|s| s.get("keys")) {
        ring_file(&mut context, main, node);
    }
}

fn store(context: &mut Context<'_>, main: &Source) -> StoreSettings {
    let Some(url) = main.root.get("store").and_then(|s| s.get("url")) else { return StoreSettings::Sqlite };
    // Whatever the files are read for, except to check them: without it there is no store.
    let purpose = context.purpose;
    if purpose == Purpose::State {
        context.purpose = Purpose::Serve;
    }
    let secret = context.secret(&main.name, url);
    context.purpose = purpose;
    let Some(secret) = secret else { return StoreSettings::Sqlite };
    let text = secret.expose();
    if !text.is_empty() && !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        context.report.fault(&main.name, url.at, "the store's URL does not start with postgres://");
    }
    StoreSettings::Postgres { url: secret }
}

fn ring_file(context: &mut Context<'_>, main: &Source, node: &Node) -> Option<PathBuf> {
    match (node.get("file"), node.get("env")) {
        (Some(file), None) => {
            let path = context.path(file)?;
            context.secrets.push(path.clone());
            Some(path)
        }
        _ => {
            context.report.fault(&main.name, node.at, "the key ring is a file: { file: ... }");
            None
        }
    }
}

fn sessions(context: &mut Context<'_>, main: &Source) -> SessionLimits {
    let node = main.root.get("sessions");
    let get = |key: &str| node.and_then(|n| n.get(key));
    let time = |key: &str, default: u64| duration_of(get(key)).unwrap_or(Duration::from_secs(default));
    let limits = SessionLimits {
        idle: time("idle", 15 * 60),
        max: time("max", 10 * 3600),
        per_user: get("per_user").and_then(Node::int).and_then(|n| u32::try_from(n).ok()).unwrap_or(10),
    };
    for key in ["idle", "max"] {
        if let Some(node) = get(key)
            && duration_of(Some(node)).is_some_and(|d| d < Duration::from_secs(10))
        {
            context.report.fault(&main.name, node.at, format!("`{key}` is under 10s: nobody could stay signed in"));
        }
    }
    if let Some(node) = get("idle")
        && limits.idle > limits.max
    {
        context.report.fault(&main.name, node.at, "`idle` is longer than `max`: it would never end a session");
    }
    limits
}

fn factors(context: &mut Context<'_>, main: &Source) -> FactorSettings {
    let node = main.root.get("factors");
    let get = |map: &str, key: &str| node.and_then(|n| n.get(map)).and_then(|n| n.get(key));
    let small = |map: &str, key: &str, default: i64| get(map, key).and_then(Node::int).unwrap_or(default);
    let period = duration_of(get("totp", "period")).unwrap_or(Duration::from_secs(30));
    if let Some(node) = get("totp", "period")
        && (period.subsec_nanos() != 0 || !(15..=120).contains(&period.as_secs()))
    {
        context.report.fault(&main.name, node.at, "`period` is whole seconds from 15s to 120s");
    }
    FactorSettings {
        totp_digits: u32::try_from(small("totp", "digits", 6)).unwrap_or(6),
        totp_period: period,
        totp_drift: u8::try_from(small("totp", "drift", 1)).unwrap_or(1),
        hotp_look_ahead: u8::try_from(small("hotp", "look_ahead", 5)).unwrap_or(5),
        hotp_enroll: get("hotp", "enroll").and_then(Node::bool).unwrap_or(false),
        email_codes: email_codes(context, main),
        sms_codes: sms::codes(context, main),
        sms_enroll: get("sms", "enroll").and_then(Node::bool).unwrap_or(true),
        backup_codes: u8::try_from(small("backup_codes", "count", 10)).unwrap_or(10),
        first_login: duration_of(node.and_then(|n| n.get("first_login"))).unwrap_or(Duration::from_secs(24 * 3600)),
        password_min: usize::try_from(small("password", "min", 8)).unwrap_or(8),
        passkeys: get("webauthn", "passkeys").and_then(Node::bool).unwrap_or(true),
        key_after_code: get("webauthn", "add_after").and_then(Node::text) == Some("code"),
    }
}

/// Off unless the file says so, and never without a word (S-OOB-1).
fn email_codes(context: &mut Context<'_>, main: &Source) -> bool {
    let Some(node) = main.root.get("factors").and_then(|n| n.get("email")).and_then(|n| n.get("codes")) else {
        return false;
    };
    if !matches!(node.value, Value::Bool(true)) {
        return false;
    }
    if main.root.get("smtp").is_none() {
        context.report.fault(&main.name, node.at, "codes by e-mail need a relay: write `smtp`");
    }
    context.report.warn(
        &main.name,
        node.at,
        "codes by e-mail are weak: whoever reads the mailbox has them (NIST SP 800-63B does not accept them); they count only \
         where a level's `kinds` names email",
    );
    true
}

fn duration_of(node: Option<&Node>) -> Option<Duration> {
    values::duration(node?.text()?).ok()
}

/// The entries of an `allow` or `who` list; wrong ones were told by the shape check.
fn who(items: &[Node]) -> Vec<Who> {
    items
        .iter()
        .filter_map(Node::text)
        .filter_map(|text| match text.split_once(':') {
            None if text == "anyone" => Some(Who::Anyone),
            Some(("user", name)) => UserName::parse(name).ok().map(Who::User),
            Some(("group", name)) => GroupName::parse(name).ok().map(Who::Group),
            _ => None,
        })
        .collect()
}
