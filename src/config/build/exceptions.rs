//! The `exceptions:` of an app: who is let off which rule's level, and what no exception may do.

use std::sync::Arc;

use super::{Context, otherwise, who};
use crate::config::fault::{did_you_mean, place};
use crate::config::values;
use crate::config::yaml::Node;
use crate::domain::level::Level;
use crate::domain::policy::{Exception, Outcome, Policy, RuleName, Who};

pub(super) fn exceptions(
    context: &mut Context<'_>,
    file: &Arc<str>,
    app: &Node,
    policy: &Policy,
) -> Vec<Arc<Exception>> {
    let nodes = app.get("exceptions").map(Node::items).unwrap_or_default();
    nodes.iter().filter_map(|node| exception(context, file, node, policy)).map(Arc::new).collect()
}

fn exception(context: &mut Context<'_>, file: &Arc<str>, node: &Node, policy: &Policy) -> Option<Exception> {
    let who = who(node.get("who").map(Node::one_or_many).unwrap_or_default());
    if let Some(n) = node.get("who").filter(|n| who.contains(&Who::Anyone) || n.one_or_many().is_empty()) {
        let message = "an exception is for people by name or group: what holds for everyone is a rule's `require`";
        context.report.fault(file, n.at, message);
    }
    let named = node.get("rules").map(Node::one_or_many).unwrap_or_default();
    if let Some(n) = node.get("rules").filter(|_| named.is_empty()) {
        context.report.fault(file, n.at, "`rules` is empty: an exception is for rules by name");
    }
    let rules: Vec<RuleName> = named.iter().filter_map(|n| rule(context, file, n, policy)).collect();
    let text = |key: &str| node.get(key).and_then(Node::text);
    let level = node.get("require").and_then(|n| level(context, file, n));
    let approved_by = text("approved_by")?;
    if let Some(n) = node.get("approved_by")
        && who.iter().any(|w| matches!(w, Who::User(name) if name.as_str() == approved_by))
    {
        context.report.warn(file, n.at, format!("{approved_by} approves an exception for {approved_by}"));
    }
    let level = level?;
    otherwise::stricter(context, file, node, policy, &rules, &level);
    Some(Exception {
        place: place(file, node.at),
        who,
        rules,
        level,
        until: values::until(text("until")?).ok()?,
        approved_by: approved_by.into(),
        ticket: text("ticket")?.into(),
        reason: text("reason").map(Into::into),
    })
}

/// A rule whose level something else can stand in for.
fn rule(context: &mut Context<'_>, file: &Arc<str>, node: &Node, policy: &Policy) -> Option<RuleName> {
    let name = node.text()?;
    let found = policy.in_the_file().iter().find(|rule| rule.name.as_str() == name);
    let outcome = match found {
        Some(rule) => &rule.outcome,
        None if name == policy.default_name.as_str() => &policy.default,
        None => {
            let known = policy.in_the_file().iter().map(|rule| rule.name.as_str()).chain(["default"]);
            let hint = did_you_mean(name, known);
            context.report.fault_with(file, node.at, format!("this app has no rule {name:?}"), hint);
            return None;
        }
    };
    match outcome {
        Outcome::Require { .. } => return Some(RuleName::new(name)),
        Outcome::Deny { .. } => context.report.fault_with(
            file,
            node.at,
            format!("rule {name:?} denies: an exception lets people off a level, never past a `deny`"),
            "write a rule with `who` above it".to_owned(),
        ),
        Outcome::Public { .. } => {
            context.report.fault(
                file,
                node.at,
                format!("rule {name:?} asks for no level: there is nothing to let off"),
            );
        }
    }
    None
}

fn level(context: &mut Context<'_>, file: &Arc<str>, node: &Node) -> Option<Arc<Level>> {
    let name = node.text()?;
    if name == "none" {
        context.report.fault_with(
            file,
            node.at,
            "an exception lets nobody off signing in",
            "the least it can ask for is `password`".to_owned(),
        );
        return None;
    }
    let found = context.levels.iter().find(|l| l.name.as_str() == name).cloned();
    if found.is_none() {
        let known: Vec<&str> = context.levels.iter().map(|l| l.name.as_str()).collect();
        let hint = did_you_mean(name, known.iter().copied()).unwrap_or_else(|| format!("levels: {}", known.join(", ")));
        context.report.fault_with(file, node.at, format!("unknown level {name:?} in an exception"), hint);
    }
    found
}
