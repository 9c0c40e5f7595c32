//! What is different between two policies, in the words of whoever wrote them.

use super::Snapshot;
use crate::domain::policy::{Allow, Outcome, Rule, Who};
use crate::domain::route::Route;

/// One line for each app and each rule that is new, gone or different.
#[must_use]
pub fn changes(old: &Snapshot, new: &Snapshot) -> Vec<String> {
    let mut found = Vec::new();
    for before in old.routes.iter() {
        match new.routes.app(before.app.as_str()) {
            None => found.push(format!("app {} is gone", before.app)),
            Some(after) => app(before, after, &mut found),
        }
    }
    let added = new.routes.iter().filter(|route| old.routes.app(route.app.as_str()).is_none());
    found.extend(
        added.map(|route| format!("app {} is new, with {} rules", route.app, route.policy.in_the_file().len())),
    );
    if old.admin != new.admin {
        found.push("who the admins are is different".to_owned());
    }
    let requirement = |snapshot: &Snapshot, name: &str| snapshot.level(name).map(|level| level.requirement.clone());
    for level in &new.levels {
        let name = level.name.as_str();
        if requirement(old, name).is_some_and(|before| before != level.requirement) {
            found.push(format!("level {name} asks for something else"));
        }
    }
    found
}

fn app(before: &Route, after: &Route, found: &mut Vec<String>) {
    let app = &before.app;
    let (old, new) = (before.policy.in_the_file(), after.policy.in_the_file());
    for rule in old {
        match new.iter().find(|r| r.name == rule.name) {
            None => found.push(format!("{app}: rule {} is gone ({})", rule.name, says(rule))),
            Some(other) if of(rule) != of(other) => {
                let (was, is) = (says(rule), says(other));
                let how = if was == is {
                    format!("matches or does something else ({is})")
                } else {
                    format!("{was}, now {is}")
                };
                found.push(format!("{app}: rule {}: {how}", rule.name));
            }
            Some(_) => {}
        }
    }
    let added = new.iter().filter(|rule| !old.iter().any(|r| r.name == rule.name));
    found.extend(added.map(|rule| format!("{app}: rule {} is new ({})", rule.name, says(rule))));
    let order = |rules: &[Rule], others: &[Rule]| -> Vec<String> {
        let both = rules.iter().filter(|rule| others.iter().any(|r| r.name == rule.name));
        both.map(|rule| rule.name.to_string()).collect()
    };
    if order(old, new) != order(new, old) {
        found.push(format!("{app}: the rules stand in another order"));
    }
    if before.policy.default != after.policy.default {
        let (was, is) = (outcome(&before.policy.default), outcome(&after.policy.default));
        found.push(format!("{app}: what no rule matches: {was}, now {is}"));
    }
    if before.policy.forms != after.policy.forms {
        found.push(format!("{app}: `paths` is different"));
    }
    if before.hosts != after.hosts {
        found.push(format!("{app}: `hosts` are different"));
    }
    if before.upstream != after.upstream {
        found.push(format!("{app}: `upstream` is different"));
    }
    if format!("{:?}", before.identity) != format!("{:?}", after.identity) {
        found.push(format!("{app}: `identity` is different"));
    }
    let exceptions = |route: &Route| -> Vec<String> {
        let all = route.policy.exceptions().iter();
        all.map(|e| format!("{:?} {:?} {} {}", e.who, e.rules, e.level.name, e.until)).collect()
    };
    if exceptions(before) != exceptions(after) {
        found.push(format!("{app}: `exceptions` are different"));
    }
}

/// All of a rule but its place in the file.
fn of(rule: &Rule) -> String {
    format!("{:?} {:?} {:?} {} {}", rule.matcher, rule.outcome, rule.answer, rule.shadow, rule.keep_body)
}

fn says(rule: &Rule) -> String {
    let shadow = if rule.shadow { "shadow: " } else { "" };
    let answers = if rule.answer.is_some() { ", and answers itself" } else { "" };
    format!("{shadow}{}{answers}", outcome(&rule.outcome))
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Deny { .. } => "deny".to_owned(),
        Outcome::Public { allow } => format!("require none of {}", who(allow)),
        Outcome::Require { allow, level } => format!("require {} of {}", level.name, who(allow)),
    }
}

fn who(allow: &Allow) -> String {
    let names = allow.0.iter().map(|who| match who {
        Who::Anyone => "anyone".to_owned(),
        Who::User(name) => format!("user:{name}"),
        Who::Group(name) => format!("group:{name}"),
    });
    names.collect::<Vec<_>>().join(", ")
}
