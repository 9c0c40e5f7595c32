//! What holds where a condition does not: a rule with `from`, `hours` or `who` and no word for the others, and an
//! exception that asks for more than what it lets people off.

use std::sync::Arc;

use super::Context;
use super::rules::lets_in_more;
use crate::config::yaml::Node;
use crate::domain::level::Level;
use crate::domain::policy::{Outcome, Policy, Rule, RuleName};

/// A rule that holds from one place, at some hours or for some people alone: told where others come to something
/// weaker that was not written for this place.
pub(super) fn without_else(context: &mut Context<'_>, file: &Arc<str>, app: &Node, policy: &Policy) {
    let nodes = app.get("rules").map(Node::items).unwrap_or_default();
    let rules = policy.in_the_file();
    for (at, (rule, node)) in rules.iter().zip(nodes).enumerate() {
        let conditions = conditions(rule);
        // Without a path the app's own words are the other case, and stand beside it.
        if conditions.is_empty() || rule.matcher.paths.is_empty() || rule.shadow || rule.answer.is_some() {
            continue;
        }
        let below = || rules.iter().skip(at + 1).filter(|other| !other.shadow);
        let covered = |other: &Rule| {
            other.matcher.paths.is_empty()
                || rule.matcher.paths.iter().all(|path| other.matcher.paths.iter().any(|p| p.covers(path)))
        };
        // Somebody thought of this place: by the same words, or for all that this rule holds for.
        let is_else = |other: &&Rule| {
            rule.matcher.paths.iter().any(|path| other.matcher.paths.iter().any(|p| p.as_str() == path.as_str()))
        };
        if below().any(|other| is_else(&other)) {
            continue;
        }
        let next =
            below().find(|other| covered(other) && !other.matcher.has_further_conditions() && methods(other, rule));
        let (outcome, by) = next.map_or((&policy.default, "the app's own `allow` and `require`".to_owned()), |other| {
            (&other.outcome, format!("rule {:?} (line {})", other.name.as_str(), other.place.line))
        });
        if let Some(less) = lets_in_more(&rule.outcome, outcome) {
            let name = rule.name.as_str();
            let message = format!("rule {name:?} holds only {conditions}: else {by} decides, which {less}");
            let hint = "write a rule for the same path below it, with `deny` or with what is meant";
            context.report.warn_with(file, node.at, message, hint.to_owned());
        }
    }
}

fn conditions(rule: &Rule) -> String {
    let mut parts = Vec::new();
    if let Some((names, _)) = &rule.matcher.from {
        parts.push(format!("from {names}"));
    }
    if let Some(hours) = &rule.matcher.hours {
        parts.push(format!("at {}", hours.as_str()));
    }
    if !rule.matcher.who.is_empty() {
        parts.push("for `who` it names".to_owned());
    }
    parts.join(" and ")
}

/// Whether `other` holds for every method that `rule` does.
fn methods(other: &Rule, rule: &Rule) -> bool {
    other.matcher.methods.is_empty()
        || (!rule.matcher.methods.is_empty() && rule.matcher.methods.iter().all(|m| other.matcher.takes(m)))
}

/// An exception stands in where the rule's own level is not met; one that asks for more lets nobody off anything.
pub(super) fn stricter(
    context: &mut Context<'_>,
    file: &Arc<str>,
    node: &Node,
    policy: &Policy,
    rules: &[RuleName],
    level: &Level,
) {
    for name in rules {
        let found = policy.in_the_file().iter().find(|rule| rule.name == *name);
        let Outcome::Require { level: own, .. } = found.map_or(&policy.default, |rule| &rule.outcome) else { continue };
        let (asked, own_asks) = (&level.requirement, &own.requirement);
        let older = asked.max_age.is_some_and(|age| own_asks.max_age.is_none_or(|other| other > age));
        let more = asked.factors > own_asks.factors
            || older
            || (asked.phishing_resistant && !own_asks.phishing_resistant)
            || (asked.user_verified && !own_asks.user_verified);
        let less = asked.factors < own_asks.factors
            || own_asks.max_age.is_some_and(|age| asked.max_age.is_none_or(|other| other > age))
            || (own_asks.phishing_resistant && !asked.phishing_resistant)
            || (own_asks.user_verified && !asked.user_verified);
        if more && !less {
            let message = format!(
                "the exception asks for {}, which is more than the {} of rule {:?}: it lets nobody off",
                level.name,
                own.name,
                name.as_str()
            );
            let hint = "to ask these people for more, write a rule with `who` above it";
            let at = node.get("require").map_or(node.at, |require| require.at);
            context.report.warn_with(file, at, message, hint.to_owned());
        }
    }
}
