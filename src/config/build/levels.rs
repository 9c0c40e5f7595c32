//! Levels: the built-in ones, and what the file makes of them.

use std::sync::Arc;
use std::time::Duration;

use super::{Context, Source, duration_of};
use crate::config::fault::did_you_mean;
use crate::config::values;
use crate::config::yaml::{Entry, Node};
use crate::domain::factor::FactorKind;
use crate::domain::level::{Grace, Level, LevelName, Requirement};

const MINUTE: u64 = 60;

/// The levels that every file knows. `none` is no level but its absence, and `token` is for API
/// tokens, which come later.
fn built_in() -> Vec<(&'static str, Requirement)> {
    let require = |factors, minutes: Option<u64>, phishing_resistant| Requirement {
        factors,
        max_age: minutes.map(|m| Duration::from_secs(m * MINUTE)),
        phishing_resistant,
        user_verified: false,
        kinds: None,
        remember: None,
    };
    vec![
        ("password", require(1, None, false)),
        ("mfa", require(2, Some(10 * 60), false)),
        ("fresh", require(2, Some(10), false)),
        ("strong", require(2, Some(10), true)),
    ]
}

pub(super) fn levels(context: &mut Context<'_>, main: &Source) -> Vec<Arc<Level>> {
    let mut all = built_in();
    let mut own: Vec<(String, Requirement)> = Vec::new();
    let mut graces: Vec<(&str, &Node)> = Vec::new();
    for entry in main.root.get("levels").map(Node::entries).unwrap_or_default() {
        if matches!(entry.key.as_str(), "none" | "token") {
            let message = format!("the level `{}` is built in and cannot be redefined", entry.key);
            context.report.fault(&main.name, entry.key_at, message);
            continue;
        }
        let Some(requirement) = requirement(context, main, entry) else { continue };
        graces.extend(entry.node.get("grace").map(|node| (entry.key.as_str(), node)));
        match all.iter_mut().find(|(name, _)| *name == entry.key) {
            Some((_, built_in)) => *built_in = requirement,
            None => own.push((entry.key.clone(), requirement)),
        }
    }
    let all = all.into_iter().map(|(name, requirement)| (name.to_owned(), requirement));
    let plain = |(name, requirement): (String, _)| Level { name: LevelName::new(&name), requirement, grace: None };
    let mut levels: Vec<Level> = all.chain(own).map(plain).collect();
    // When all are known, for one may name another.
    for (name, node) in graces {
        let grace = grace(context, main, name, node, &levels);
        if let Some(level) = levels.iter_mut().find(|level| level.name.as_str() == name) {
            level.grace = grace;
        }
    }
    levels.into_iter().map(Arc::new).collect()
}

/// Four hundred days is the longest that browsers keep a cookie (RFC 6265bis section 5.5).
const LONGEST_MEMORY: Duration = Duration::from_secs(400 * 86_400);

/// A browser that was remembered stands for a second factor, and for nothing that makes one strong.
fn remember_fits(context: &mut Context<'_>, main: &Source, entry: &Entry, remember: &Node, requirement: &Requirement) {
    let name = &entry.key;
    let message = if requirement.factors < 2 {
        format!("the level `{name}` asks for no second factor: there is nothing to remember")
    } else if requirement.phishing_resistant || requirement.user_verified {
        format!("the level `{name}` asks for a key at hand, which no remembered browser is")
    } else if requirement.remember.is_some_and(|life| life < Duration::from_secs(86_400) || life > LONGEST_MEMORY) {
        "`remember` is from 1d to 400d, the longest that browsers keep a cookie".to_owned()
    } else {
        return;
    };
    context.report.fault(&main.name, remember.at, message);
}

/// Time to set up a second factor. It is for levels that ask for one, and lets in by one factor: anything else would
/// be a rule by another name.
fn grace(context: &mut Context<'_>, main: &Source, name: &str, node: &Node, levels: &[Level]) -> Option<Grace> {
    let at = node.get("require")?;
    let wanted = at.text()?;
    let level = levels.iter().find(|level| level.name.as_str() == name)?;
    let Some(instead) = levels.iter().find(|level| level.name.as_str() == wanted) else {
        let hint = match wanted {
            "none" => Some("nobody is let in unasked; the least is `password`".to_owned()),
            _ => did_you_mean(wanted, levels.iter().map(|level| level.name.as_str())),
        };
        context.report.fault_with(&main.name, at.at, format!("unknown level {wanted:?} in a grace"), hint);
        return None;
    };
    let Requirement { factors, phishing_resistant, user_verified, .. } = &level.requirement;
    if *factors < 2 {
        let message = format!("the level `{name}` asks for no second factor: there is nothing to give time for");
        context.report.fault(&main.name, node.at, message);
        return None;
    }
    if *phishing_resistant || *user_verified {
        let message = format!("the level `{name}` is there to withstand a stolen password: it has no grace");
        let hint = "give it to a level without `phishing_resistant` and `user_verified`".to_owned();
        context.report.fault_with(&main.name, node.at, message, hint);
        return None;
    }
    if instead.requirement.factors >= 2 {
        let message = format!("`{wanted}` asks for a second factor, which is what people in a grace do not have");
        context.report.fault(&main.name, at.at, message);
        return None;
    }
    let until = values::until(node.get("until")?.text()?).ok()?;
    Some(Grace { until, level: instead.name.clone(), requirement: instead.requirement.clone() })
}

pub(super) fn requirement(context: &mut Context<'_>, main: &Source, entry: &Entry) -> Option<Requirement> {
    let node = &entry.node;
    let flag = |key: &str| node.get(key).and_then(Node::bool).unwrap_or(false);
    let kinds: Option<Vec<FactorKind>> = node
        .get("kinds")
        .map(|kinds| kinds.items().iter().filter_map(Node::text).filter_map(FactorKind::parse).collect());
    let requirement = Requirement {
        factors: node.get("factors").and_then(Node::int).and_then(|n| u8::try_from(n).ok())?,
        max_age: duration_of(node.get("max_age")),
        phishing_resistant: flag("phishing_resistant"),
        user_verified: flag("user_verified"),
        kinds,
        remember: duration_of(node.get("remember")),
    };
    for (kind, codes, needs) in
        [(FactorKind::Email, "codes by e-mail", "smtp"), (FactorKind::Sms, "codes by text message", "sms")]
    {
        let on = main.root.get("factors").and_then(|f| f.get(kind.as_str())).and_then(|k| k.get("codes"));
        if let Some(at) = node.get("kinds").map(|kinds| kinds.at)
            && requirement.kinds.as_ref().is_some_and(|kinds| kinds.contains(&kind))
            && on.and_then(Node::bool) != Some(true)
        {
            context.report.warn_with(
                &main.name,
                at,
                format!("the level `{}` counts {kind}, and nobody can show it: {codes} are off", entry.key),
                format!("turn them on: factors: {{ {kind}: {{ codes: true }} }}, and `{needs}`"),
            );
        }
    }
    if let Some(remember) = node.get("remember") {
        remember_fits(context, main, entry, remember, &requirement);
    }
    let mut impossible = |at, why: &str| {
        context.report.fault(&main.name, at, format!("nobody can ever meet the level `{}`: {why}", entry.key));
    };
    if let Some(max_age) = node.get("max_age")
        && requirement.max_age.is_some_and(|age| age < Duration::from_secs(1))
    {
        impossible(max_age.at, "`max_age` is under 1s");
    }
    // Asked of nothing at all, a level names what would meet it; no kind means nothing does.
    let missing = requirement.missing(&[], crate::base::clock::Timestamp::from_millis(0));
    let offered = missing.as_ref().is_some_and(|m| !m.any_of.is_empty());
    let password = missing.is_some_and(|m| m.password)
        && requirement.factors == 1
        && !requirement.phishing_resistant
        && !requirement.user_verified;
    if !offered && !password {
        let at = node.get("kinds").map_or(node.at, |k| k.at);
        impossible(at, "no kind of factor has all that it asks for");
    }
    Some(requirement)
}
