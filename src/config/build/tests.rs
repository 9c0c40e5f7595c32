//! The `tests:` of an app, read into requests and expectations.

use std::sync::Arc;

use http::Method;

use super::Context;
use crate::base::clock::Timestamp;
use crate::base::net::ClientIp;
use crate::config::expect::{Expect, PolicyTest, form_of};
use crate::config::fault::{did_you_mean, place};
use crate::config::yaml::Node;
use crate::domain::level::LevelName;
use crate::domain::policy::{Content, Media};
use crate::domain::posture::Posture;
use crate::domain::route::Route;
use crate::domain::user::{GroupName, UserName};

/// The keys that make a request.
const METHODS: [&str; 9] = ["get", "head", "post", "put", "patch", "delete", "options", "copy", "move"];

pub(super) fn tests(context: &mut Context<'_>, file: &Arc<str>, app: &Node, route: &Route) -> Vec<PolicyTest> {
    let mut out = Vec::new();
    for node in app.get("tests").map(Node::items).unwrap_or_default() {
        let requests: Vec<(Method, &str)> =
            METHODS.into_iter().filter_map(|key| Some((method(key)?, node.get(key)?.text()?))).collect();
        let named = METHODS.iter().filter(|key| node.has(key)).count();
        if named != 1 {
            context.report.fault(file, node.at, format!("a test makes one request: one of {}", METHODS.join(", ")));
        }
        let [(method, target)] = requests.as_slice() else { continue };
        let Some(expect) = node.get("expect").and_then(|n| expectation(context, file, n)) else { continue };
        let at = node.get("at").and_then(|n| level(context, file, n, n.text()?));
        let groups: Vec<GroupName> = node
            .get("groups")
            .map(Node::items)
            .unwrap_or_default()
            .iter()
            .filter_map(Node::text)
            .filter_map(|t| GroupName::parse(t).ok())
            .collect();
        let user = node.get("as").and_then(Node::text).and_then(|t| UserName::parse(t).ok());
        if let (false, Some(other)) =
            (node.has("as"), ["groups", "at", "enrolled"].into_iter().find_map(|k| node.get(k)))
        {
            context.report.fault(file, other.at, "who? a test with `groups`, `at` or `enrolled` needs `as: NAME`");
        }
        let destination = node.get("destination");
        if let Some(other) = destination.filter(|_| !node.has("copy") && !node.has("move")) {
            context.report.fault(file, other.at, "only `copy` and `move` have a `destination`");
        }
        out.push(PolicyTest {
            place: place(file, node.at),
            app: route.app.clone(),
            method: method.clone(),
            target: (*target).to_owned(),
            destination: destination.and_then(Node::text).map(str::to_owned),
            content: content(context, file, node),
            user,
            groups,
            at,
            enrolled: node.get("enrolled").and_then(Node::bool).unwrap_or(true),
            from: node.get("from").and_then(Node::text).and_then(|t| t.parse().ok()).map(ClientIp::new),
            time: node.get("time").and_then(Node::text).and_then(|t| Timestamp::parse_rfc3339(t).ok()),
            posture: node.get("posture").and_then(Node::text).and_then(Posture::parse).unwrap_or_default(),
            expect,
        });
    }
    out
}

/// What the request of a test sends.
fn content(context: &mut Context<'_>, file: &Arc<str>, node: &Node) -> Content {
    let unreadable = node.get("unreadable").filter(|n| n.bool() == Some(true));
    let given: Vec<&Node> = [node.get("form"), node.get("json"), unreadable].into_iter().flatten().collect();
    let [only] = given.as_slice() else {
        if let Some(second) = given.get(1) {
            let message = "a test sends one body: one of `form`, `json` and `unreadable`";
            context.report.fault(file, second.at, message);
        }
        return Content::Nothing;
    };
    if let (Some(_), key @ ("get" | "head")) = (given.first(), METHODS.iter().find(|k| node.has(k)).map_or("", |k| *k))
    {
        let message = format!("a {key} has no body: what stands in its query goes into the path");
        context.report.fault(file, only.at, message);
    }
    if let Some(fields) = node.get("form") {
        let fields = fields.entries().iter().flat_map(|field| {
            field.node.one_or_many().iter().filter_map(Node::text).map(|value| (field.key.as_str(), value))
        });
        return form_of(fields);
    }
    match node.get("json").and_then(Node::text) {
        Some(text) => Content::read(Media::Json, text.as_bytes()),
        None => Content::Unread,
    }
}

fn method(key: &str) -> Option<Method> {
    Method::from_bytes(key.to_ascii_uppercase().as_bytes()).ok()
}

fn expectation(context: &mut Context<'_>, file: &Arc<str>, node: &Node) -> Option<Expect> {
    let words: Vec<&str> = node.text()?.split_whitespace().collect();
    match words.as_slice() {
        ["allow"] => Some(Expect::Allow),
        ["deny"] => Some(Expect::Deny),
        ["reject"] => Some(Expect::Reject),
        ["challenge"] => Some(Expect::Challenge(None)),
        ["challenge", name] => level(context, file, node, name).map(|l| Expect::Challenge(Some(l))),
        _ => None,
    }
}

fn level(context: &mut Context<'_>, file: &Arc<str>, node: &Node, name: &str) -> Option<LevelName> {
    if context.levels.iter().any(|l| l.name.as_str() == name) {
        return Some(LevelName::new(name));
    }
    let hint = did_you_mean(name, context.levels.iter().map(|l| l.name.as_str()));
    context.report.fault_with(file, node.at, format!("unknown level {name:?} in a test"), hint);
    None
}
