//! The kinds of requests and people that policies tell apart: for each condition of a rule something that meets it,
//! and something that does not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use ipnet::IpNet;

use crate::base::clock::Timestamp;
use crate::base::net::ClientIp;
use crate::config::expect::nowhere;
use crate::domain::policy::content::Content;
use crate::domain::policy::{Outcome, Policy, Rule, Who};

/// Half hours of a week: no `hours` is finer in practice.
const WEEK: u32 = 7 * 48;

/// One request but for who sends it.
pub struct Request {
    pub method: Method,
    pub target: String,
    pub content: Arc<Content>,
    pub client: ClientIp,
    pub now: Timestamp,
    /// As people read it.
    pub said: String,
}

/// Every request that one of these policies of an app may judge by another rule than its neighbours.
pub fn requests(policies: &[&Policy], now: Timestamp) -> Vec<Request> {
    let rules: Vec<&Rule> = policies.iter().flat_map(|policy| policy.in_the_file()).collect();
    let mut targets: BTreeSet<String> = ["/", "/some/page"].map(str::to_owned).into();
    let mut bodies = vec![(Arc::new(Content::Nothing), String::new())];
    for policy in policies {
        for sample in policy.in_the_file().iter().flat_map(|rule| rule.matcher.samples(policy.forms)) {
            if let Some((_, text)) = &sample.body {
                let said = format!(" with {text}");
                if !bodies.iter().any(|(_, other)| *other == said) {
                    bodies.push((Arc::new(sample.content()), said));
                }
            }
            targets.insert(sample.path);
        }
    }
    let mut methods = vec![Method::GET, Method::POST];
    for rule in &rules {
        for method in &rule.matcher.methods {
            // A rule for GET holds for HEAD.
            let by_get = *method == Method::HEAD && rule.matcher.methods.contains(&Method::GET);
            if by_get || methods.contains(method) {
                continue;
            }
            methods.push(method.clone());
        }
    }
    let mut clients = vec![(nowhere(), String::new())];
    for (_, set) in rules.iter().filter_map(|rule| rule.matcher.from.as_ref()) {
        for net in set.iter() {
            let client = first_of(net);
            if !clients.iter().any(|(other, _)| *other == client) {
                clients.push((client, format!(" from {}", client.addr())));
            }
        }
    }
    let queries = queries(&rules);
    let moments = moments(&rules, now);
    let mut all = Vec::new();
    for path in &targets {
        for query in &queries {
            let target = format!("{path}{query}");
            for method in &methods {
                // A body with GET is refused before any rule, or means nothing.
                let bodies =
                    if *method == Method::GET { bodies.get(..1).unwrap_or_default() } else { bodies.as_slice() };
                for (content, with) in bodies {
                    for (client, from) in &clients {
                        for (moment, at) in &moments {
                            all.push(Request {
                                method: method.clone(),
                                target: target.clone(),
                                content: Arc::clone(content),
                                client: *client,
                                now: *moment,
                                said: format!("{method} {target}{with}{from}{at}"),
                            });
                        }
                    }
                }
            }
        }
    }
    all
}

/// Everybody whom one of these policies names, each by themselves; somebody whom none names; nobody.
pub fn people(policies: &[&Policy]) -> BTreeSet<Who> {
    let mut named = BTreeSet::new();
    for policy in policies {
        let rules = policy.in_the_file();
        let outcomes = rules.iter().map(|rule| &rule.outcome).chain([&policy.default]);
        let allowed = outcomes.flat_map(|outcome| match outcome {
            Outcome::Public { allow } | Outcome::Require { allow, .. } => allow.0.as_slice(),
            Outcome::Deny { .. } => &[],
        });
        let selected = rules.iter().flat_map(|rule| &rule.matcher.who);
        let excepted = policy.exceptions().iter().flat_map(|exception| &exception.who);
        named.extend(allowed.chain(selected).chain(excepted).filter(|who| **who != Who::Anyone).cloned());
    }
    named
}

fn queries(rules: &[&Rule]) -> Vec<String> {
    let mut queries = vec![String::new()];
    for rule in rules.iter().filter(|rule| !rule.matcher.query.is_empty()) {
        let first = |condition: &crate::domain::policy::matcher::QueryCondition| {
            let value = condition.values().first().map(String::as_str).unwrap_or_default();
            form_urlencoded::Serializer::new(String::new()).append_pair(condition.name(), value).finish()
        };
        // All that the rule asks for at once.
        let query = format!("?{}", rule.matcher.query.iter().map(first).collect::<Vec<_>>().join("&"));
        if !queries.contains(&query) {
            queries.push(query);
        }
    }
    queries
}

/// One moment for each set of `hours` that hold at once over a week, now among them.
fn moments(rules: &[&Rule], now: Timestamp) -> Vec<(Timestamp, String)> {
    let hours: Vec<_> = rules.iter().filter_map(|rule| rule.matcher.hours.as_ref()).collect();
    let holding = |at: Timestamp| hours.iter().map(|hours| hours.holds(at)).collect::<Vec<bool>>();
    let mut seen = vec![holding(now)];
    let mut moments = vec![(now, String::new())];
    for half_hours in 1..=(if hours.is_empty() { 0 } else { WEEK }) {
        let at = now.plus(Duration::from_secs(30 * 60) * half_hours);
        let set = holding(at);
        if !seen.contains(&set) {
            seen.push(set);
            moments.push((at, format!(" at {at}")));
        }
    }
    moments
}

fn first_of(net: &IpNet) -> ClientIp {
    ClientIp::new(net.hosts().next().unwrap_or(net.addr()))
}
