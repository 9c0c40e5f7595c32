//! One app: hosts, upstream, identity, policy.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Context, answer, duration_of, exceptions, identity, rules, tests, upstream};
use crate::config::expect::PolicyTest;
use crate::config::values;
use crate::config::yaml::{Mark, Node};
use crate::domain::host::HostName;
use crate::domain::path::{Like, PathForms};
use crate::domain::route::{AppCookies, AppLimits, AppName, Harden, JUDGE_BODY, Route};
use crate::domain::upstream::Upstream;

pub(super) struct Built {
    pub(super) route: Route,
    pub(super) tests: Vec<PolicyTest>,
}

/// Who has a host or a name already, and where it says so.
type Taken<K> = HashMap<K, (Arc<str>, Mark)>;

pub(super) fn app(
    context: &mut Context<'_>,
    file: &Arc<str>,
    node: &Node,
    hosts_taken: &mut Taken<HostName>,
    names_taken: &mut Taken<String>,
) -> Option<Built> {
    let name_node = node.get("app");
    let name = name_node.and_then(Node::text).and_then(AppName::parse);
    let mut doubled = false;
    if let (Some(name), Some(at)) = (&name, name_node.map(|n| n.at)) {
        match names_taken.get(name.as_str()) {
            Some((other, other_at)) => {
                let message = format!("another app has the name {name} already ({other}:{})", other_at.line);
                context.report.fault(file, at, message);
                doubled = true;
            }
            None => {
                names_taken.insert(name.as_str().to_owned(), (Arc::clone(file), at));
            }
        }
    }
    let label = name.as_ref().map_or("this app", AppName::as_str);

    let hosts = hosts(context, file, node, (label, doubled), hosts_taken);
    let mut upstream = upstream::upstream(context, file, node.get("upstream"));
    let identity = identity::identity(context, file, node.get("identity"));
    let forms = forms(node.get("paths"));
    let policy = rules::policy(context, file, node, forms);
    let excepted = exceptions::exceptions(context, file, node, &policy);
    let policy = policy.with_exceptions(excepted);
    if !node.has("upstream") {
        if answer::answers_everything(node, &policy.rules) {
            upstream = Some(Upstream::at(Vec::new()));
        } else {
            context.report.fault_with(
                file,
                node.at,
                "an app needs the key `upstream`",
                "without one, a rule for /** must answer what is left: `redirect`, `respond` or `deny`".to_owned(),
            );
        }
    }
    let texts = |key: &str| -> Vec<String> {
        let items = node.get(key).map(Node::items).unwrap_or_default();
        items.iter().filter_map(Node::text).map(str::to_owned).collect()
    };
    let websocket_origins = origins(context, file, node.get("websocket_origins"));
    let trusted_origins = origins(context, file, node.get("trusted_origins"));
    let harden = match node.get("harden").and_then(Node::text) {
        Some("enforce") => Harden::Enforce,
        Some("report_only") => Harden::ReportOnly,
        _ => Harden::Off,
    };
    let route = Route {
        title: node.get("title").and_then(Node::text).map_or_else(|| capitalised(label), str::to_owned),
        app: name.clone().unwrap_or_else(|| AppName::new("unnamed")),
        hosts,
        upstream: Arc::new(upstream?),
        identity,
        policy,
        limits: AppLimits {
            max_body: node.get("max_body").and_then(Node::text).and_then(|t| values::size(t).ok()).unwrap_or(1 << 30),
            judge_body: node
                .get("judge_body")
                .and_then(Node::text)
                .and_then(|t| values::judged_size(t).ok())
                .unwrap_or(JUDGE_BODY),
        },
        websocket_origins,
        harden,
        trusted_origins,
        cookie_domains: texts("cookie_domains")
            .iter()
            .map(|d| d.trim_start_matches('.').to_ascii_lowercase())
            .collect(),
        app_cookies: app_cookies(context, file, node.get("app_cookies")),
        tunnel_idle: duration_of(node.get("tunnel_idle")).unwrap_or(Duration::from_secs(600)),
    };
    let tests = tests::tests(context, file, node, &route);
    name.map(|_| Built { route, tests })
}

fn hosts(
    context: &mut Context<'_>,
    file: &Arc<str>,
    node: &Node,
    (label, doubled): (&str, bool),
    taken: &mut Taken<HostName>,
) -> Vec<HostName> {
    let mut hosts = Vec::new();
    let Some(list) = node.get("hosts") else { return hosts };
    for item in list.one_or_many() {
        let parsed = item.text().and_then(|t| HostName::parse(t.as_bytes(), context.scheme).ok());
        let Some(host) = parsed else { continue };
        match taken.get(&host) {
            // A copy of the app whose name was told; its hosts say the same again.
            Some((owner, _)) if doubled && **owner == *format!("the app {label} of {file}") => {}
            Some((owner, at)) => {
                let message = match **owner == *format!("the app {label} of {file}") {
                    true => format!("the host {host} is listed twice in this app (first in line {})", at.line),
                    false => format!("the host {host} belongs to {owner} already (line {})", at.line),
                };
                context.report.fault(file, item.at, message);
            }
            None => {
                taken.insert(host.clone(), (Arc::from(format!("the app {label} of {file}")), item.at));
                hosts.push(host);
            }
        }
    }
    if list.one_or_many().is_empty() {
        context.report.fault(file, list.at, "an app without a host can never be reached");
    }
    hosts
}

fn forms(node: Option<&Node>) -> PathForms {
    let Some(node) = node else { return PathForms::default() };
    let allowed = |form: &str| {
        node.get("allow").map(Node::one_or_many).unwrap_or_default().iter().any(|n| n.text() == Some(form))
    };
    PathForms {
        like: match node.get("like").and_then(Node::text) {
            Some("unix") => Some(Like::Unix),
            Some("iis") => Some(Like::Iis),
            Some("tomcat") => Some(Like::Tomcat),
            Some("php") => Some(Like::Php),
            _ => None,
        },
        allow_encoded_slash: allowed("encoded_slash"),
        allow_path_params: allowed("path_params"),
        allow_double_slash: allowed("double_slash"),
        allow_encoded_hash: allowed("encoded_hash"),
    }
}

fn app_cookies(context: &mut Context<'_>, file: &Arc<str>, node: Option<&Node>) -> AppCookies {
    let Some(node) = node else { return AppCookies::default() };
    if node.text() == Some("none") {
        return AppCookies::None;
    }
    let items = |key| node.get(key).map(Node::one_or_many).unwrap_or_default();
    let names = |key| -> Vec<String> { items(key).iter().filter_map(Node::text).map(str::to_owned).collect() };
    let (seal, pass) = (names("seal"), names("pass"));
    for item in items("pass") {
        if item.text().is_some_and(|name| seal.iter().any(|other| other == name)) {
            let message = "this cookie stands under `seal` and under `pass`: it can only be one of them";
            context.report.fault(file, item.at, message);
        }
    }
    AppCookies::Seal { seal, pass }
}

/// `https://HOST[:PORT]`, as browsers write `Origin`.
fn origins(context: &mut Context<'_>, file: &Arc<str>, node: Option<&Node>) -> Vec<String> {
    let mut out = Vec::new();
    for item in node.map(Node::items).unwrap_or_default() {
        let Some(text) = item.text() else { continue };
        match values::upstream_url(&text.to_ascii_lowercase()) {
            // As browsers write it (RFC 6454 section 6.1): without the scheme's own port.
            Ok(url) => out.push(format!("{}://{}", url.scheme.as_str(), url.authority())),
            Err(_) => {
                let message = format!("{text:?} is no origin: write it like https://other.corp.example");
                context.report.fault(file, item.at, message);
            }
        }
    }
    out
}

fn capitalised(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
