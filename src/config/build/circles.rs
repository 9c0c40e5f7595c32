//! Does anything lead back to where it came from? Redirects that send people round, and apps whose
//! address is the gate's own.
//!
//! Only what is certain is a fault: where a condition, or who may pass, could end a circle, nothing is
//! said.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{Method, StatusCode};

use super::Context;
use crate::config::snapshot::Listener;
use crate::config::values;
use crate::config::yaml::{Mark, Node};
use crate::domain::host::{HostName, Scheme};
use crate::domain::path::CanonicalPath;
use crate::domain::policy::{Allow, Answer, Outcome, Redirect, Rule, Who};
use crate::domain::route::Route;
use crate::domain::upstream::UpstreamUrl;

/// Browsers give up after so many redirects (Fetch standard, HTTP-redirect fetch, step 5).
const MOST: usize = 20;

/// An app and where it stands.
pub(super) struct Placed<'a> {
    pub(super) file: &'a Arc<str>,
    pub(super) node: &'a Node,
    pub(super) route: Arc<Route>,
}

/// Finds redirects that lead back to themselves, over however many rules, apps and hosts.
pub(super) fn redirects(context: &mut Context<'_>, apps: &[Placed<'_>]) {
    let map = Map::new(context.scheme, apps);
    let mut told: HashSet<Spot> = HashSet::new();
    for (app, placed) in apps.iter().enumerate() {
        for (rule, redirect) in redirects_of(&placed.route) {
            let start = Spot { app, rule };
            if told.contains(&start) {
                continue;
            }
            let Some(circle) = map.circle(start, redirect) else { continue };
            let message = sentence(apps, start, redirect, &circle);
            context.report.fault(placed.file, mark(placed, rule), message);
            told.extend(circle);
        }
    }
}

/// A rule of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Spot {
    app: usize,
    rule: usize,
}

fn redirects_of(route: &Route) -> impl Iterator<Item = (usize, &Redirect)> {
    route.policy.rules.iter().enumerate().filter_map(|(at, rule)| Some((at, redirect_of(rule)?)))
}

fn redirect_of(rule: &Rule) -> Option<&Redirect> {
    match rule.answer.as_deref()? {
        Answer::Redirect(redirect) => Some(redirect),
        Answer::Respond(_) => None,
    }
}

/// Where a rule's redirect is written.
fn mark(app: &Placed<'_>, rule: usize) -> Mark {
    let rule = app.route.policy.rules.get(rule);
    let is_it = |node: &&Node| rule.is_some_and(|r| (r.place.line, r.place.column) == (node.at.line, node.at.column));
    let nodes = app.node.get("rules").map(Node::items).unwrap_or_default();
    let redirect = nodes.iter().find(is_it).and_then(|rule| rule.get("redirect"));
    redirect.map_or(app.node.at, |node| node.at)
}

/// What leads where.
struct Map<'a> {
    scheme: Scheme,
    apps: &'a [Placed<'a>],
    by_host: HashMap<&'a HostName, usize>,
}

impl<'a> Map<'a> {
    fn new(scheme: Scheme, apps: &'a [Placed<'a>]) -> Self {
        let hosts = |(app, placed): (usize, &'a Placed<'a>)| placed.route.hosts.iter().map(move |host| (host, app));
        Self { scheme, apps, by_host: apps.iter().enumerate().flat_map(hosts).collect() }
    }

    /// The rules of a circle that leads from a redirect back to it, in their order.
    fn circle(&self, start: Spot, redirect: &Redirect) -> Option<Vec<Spot>> {
        let rule = self.rule(start)?;
        let methods = &rule.matcher.methods;
        let get = methods.is_empty() || methods.contains(&Method::GET);
        let mut method = if get { Method::GET } else { methods.first()?.clone() };
        // All who are sent on by one rule must be sent on by the next: of several lists of people, somebody
        // may be in the first and not in the second.
        let mut only: Option<&Allow> = narrow(rule);
        // A path below the target could come to another end; its root is met by whoever types the rule's.
        let (mut app, mut path) = self.lands(start.app, redirect, "/")?;
        if !keeps_method(redirect) {
            method = Method::GET;
        }
        let mut visited: Vec<(Spot, String)> = Vec::new();
        loop {
            let route = &self.apps.get(app)?.route;
            let here = Spot { app, rule: route.policy.rule_for_all(&method, &path)? };
            let rule = self.rule(here)?;
            let next = redirect_of(rule)?;
            if let Some(allow) = narrow(rule) {
                if only.is_some_and(|only| only != allow) {
                    return None;
                }
                only = Some(allow);
            }
            let again = visited.iter().position(|(spot, at)| *spot == here && at == path.as_str());
            if let Some(from) = again.or_else(|| (visited.len() == MOST).then_some(0)) {
                let mut circle: Vec<Spot> = Vec::new();
                for (spot, _) in visited.into_iter().skip(from) {
                    if !circle.contains(&spot) {
                        circle.push(spot);
                    }
                }
                return circle.contains(&start).then_some(circle);
            }
            visited.push((here, path.as_str().to_owned()));
            (app, path) = self.lands(app, next, path.as_str())?;
            if !keeps_method(next) {
                method = Method::GET;
            }
        }
    }

    fn rule(&self, spot: Spot) -> Option<&'a Rule> {
        self.apps.get(spot.app)?.route.policy.rules.get(spot.rule)
    }

    /// The app and the path that a redirect of an app leads to; `None` where that is elsewhere.
    fn lands(&self, app: usize, redirect: &Redirect, from: &str) -> Option<(usize, CanonicalPath)> {
        let forms = |app: usize| self.apps.get(app).map(|placed| placed.route.policy.forms);
        let location = redirect.location(&CanonicalPath::parse(from, forms(app)?).ok()?, None);
        let location = location.split(['?', '#']).next().unwrap_or_default();
        let (app, path) = match location.split_once("://") {
            None => (app, location),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(self.scheme.as_str()) => {
                let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                let host = HostName::parse(host.as_bytes(), self.scheme).ok()?;
                (*self.by_host.get(&host)?, if path.is_empty() { "/" } else { path })
            }
            Some(_) => return None,
        };
        Some((app, CanonicalPath::parse(path, forms(app)?).ok()?))
    }
}

fn keeps_method(redirect: &Redirect) -> bool {
    matches!(redirect.status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT)
}

/// Whom a rule lets pass, where that is not everybody.
fn narrow(rule: &Rule) -> Option<&Allow> {
    match &rule.outcome {
        Outcome::Public { allow } | Outcome::Require { allow, .. } if !allow.0.contains(&Who::Anyone) => Some(allow),
        Outcome::Public { .. } | Outcome::Require { .. } | Outcome::Deny { .. } => None,
    }
}

fn sentence(apps: &[Placed<'_>], start: Spot, redirect: &Redirect, circle: &[Spot]) -> String {
    let rule = |spot: Spot| apps.get(spot.app).and_then(|placed| placed.route.policy.rules.get(spot.rule));
    let named = |spot: Spot| rule(spot).map(|rule| format!("{:?}", rule.name.as_str())).unwrap_or_default();
    let others: Vec<String> = circle
        .iter()
        .filter(|spot| **spot != start)
        .filter_map(|spot| {
            let place = &rule(*spot)?.place;
            let own = apps.get(start.app).is_some_and(|placed| **placed.file == *place.file);
            let at = if own { format!("line {}", place.line) } else { format!("{}:{}", place.file, place.line) };
            Some(format!("{} ({at})", named(*spot)))
        })
        .collect();
    let (name, target) = (named(start), redirect.target());
    match others.as_slice() {
        [] => format!("rule {name} sends to {target:?}, which it sends there again: browsers give up"),
        [one] => format!("rule {name} sends to {target:?}, and rule {one} from there back to it: browsers give up"),
        many => format!(
            "rule {name} sends to {target:?}, and the rules {} from there back to it: browsers give up",
            many.join(", ")
        ),
    }
}

/// Finds upstreams that are a listener of this gate: each request would come in again, and again.
pub(super) fn upstreams(context: &mut Context<'_>, apps: &[Placed<'_>], listeners: &[Listener]) {
    let own: HashSet<&str> = apps.iter().flat_map(|app| &app.route.hosts).map(HostName::name).collect();
    for placed in apps {
        let urls = placed.node.get("upstream").and_then(|upstream| upstream.get("urls"));
        for node in urls.map(Node::one_or_many).unwrap_or_default() {
            let Some(url) = node.text().and_then(|text| values::upstream_url(text).ok()) else { continue };
            let listener = listeners.iter().map(|l| l.addr).filter(|addr| addr.port() == url.port);
            if let Some(addr) = listener.clone().find(|addr| is_reached(*addr, &url)) {
                context.report.fault_with(
                    placed.file,
                    node.at,
                    format!("{url} is this gate's own listener {addr}: a request would come in again and again"),
                    "write the address at which the app itself listens".to_owned(),
                );
            } else if let Some(addr) = listener.clone().next().filter(|_| own.contains(url.host.as_str())) {
                context.report.warn_with(
                    placed.file,
                    node.at,
                    format!("{url} is a public name of this gate, which listens on {addr}: if it leads here, a request would come in again and again"),
                    "write the address at which the app itself listens".to_owned(),
                );
            }
        }
    }
}

/// Whether an upstream surely is a listener of this machine. What else a name leads to is not known here.
fn is_reached(listener: SocketAddr, url: &UpstreamUrl) -> bool {
    let local = url.host == "localhost" || url.host.ends_with(".localhost");
    let ip: Option<IpAddr> = url.host.parse().ok();
    let (ip, on) = (ip.map(|ip| ip.to_canonical()), listener.ip().to_canonical());
    let any = on.is_unspecified();
    match ip {
        None => local && (any || on.is_loopback()),
        Some(ip) if ip == on => true,
        // `[::]` takes IPv4 too.
        Some(ip) => any && (ip.is_loopback() || ip.is_unspecified()) && (listener.is_ipv6() || ip.is_ipv4()),
    }
}
