//! The apps, rules, levels and exceptions of two configurations side by side, in the words of the files: for
//! `stepgate diff` and for `stepgate apply`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::Snapshot;
use crate::domain::level::{Level, Requirement};
use crate::domain::policy::matcher::Matcher;
use crate::domain::policy::{Allow, Answer, Exception, KEEP_BODY, Outcome, Rule, Who};
use crate::domain::posture::Posture;
use crate::domain::route::Route;

/// What stands for the app where a change is none of an app.
const NO_APP: &str = "-";

/// One thing that is another one.
pub struct Change {
    /// `-` for what is not an app's.
    pub app: String,
    pub what: What,
    pub before: Option<String>,
    pub after: Option<String>,
}

pub enum What {
    Of(&'static str),
    /// A key of the file; its values are not told.
    Key(&'static str),
    Rule {
        kind: &'static str,
        rule: String,
    },
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Of(kind) => f.write_str(kind),
            Self::Key(key) => write!(f, "`{key}` is different"),
            Self::Rule { kind, rule } => write!(f, "rule {rule} {kind}"),
        }
    }
}

/// In one line.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { app, what, before, after } = self;
        if app != NO_APP {
            write!(f, "{app}: ")?;
        }
        match (before, after) {
            (Some(was), Some(is)) => write!(f, "{what}: {was}, now {is}"),
            (Some(said), None) | (None, Some(said)) => write!(f, "{what}: {said}"),
            (None, None) => write!(f, "{what}"),
        }
    }
}

#[must_use]
pub fn changes(old: &Snapshot, new: &Snapshot) -> Vec<Change> {
    let mut changes = Vec::new();
    levels(old, new, &mut changes);
    settings(old, new, &mut changes);
    for route in old.routes.iter() {
        match new.routes.app(route.app.as_str()) {
            Some(other) => app((old, route), (new, other), &mut changes),
            None => changes.push(of(route, "app removed", Some(hosts(route)), None)),
        }
    }
    for route in new.routes.iter().filter(|route| old.routes.app(route.app.as_str()).is_none()) {
        changes.push(of(route, "app added", None, Some(hosts(route))));
    }
    changes
}

fn of(route: &Route, kind: &'static str, before: Option<String>, after: Option<String>) -> Change {
    Change { app: route.app.to_string(), what: What::Of(kind), before, after }
}

fn levels(old: &Snapshot, new: &Snapshot, changes: &mut Vec<Change>) {
    for posture in Posture::ALL {
        posture_levels(old, new, posture, changes);
    }
    let names: BTreeSet<&str> = old.levels.iter().chain(&new.levels).map(|level| level.name.as_str()).collect();
    for name in names {
        let said = |snapshot: &Snapshot| snapshot.level(name).map(|level| format!("{name}: {}", level_words(level)));
        let (before, after) = (said(old), said(new));
        if before != after {
            changes.push(Change { app: NO_APP.to_owned(), what: What::Of("level"), before, after });
        }
    }
}

/// What stands in the place of levels in a posture.
fn posture_levels(old: &Snapshot, new: &Snapshot, posture: Posture, changes: &mut Vec<Change>) {
    let all = |snapshot: &Snapshot| snapshot.postures.levels(posture).to_vec();
    let (was, is) = (all(old), all(new));
    let names: BTreeSet<&str> = was.iter().chain(&is).map(|level| level.name.as_str()).collect();
    for name in names {
        let said = |levels: &[Arc<Level>]| {
            let level = levels.iter().find(|level| level.name.as_str() == name)?;
            Some(format!("{name} in {posture}: {}", requirement(&level.requirement)))
        };
        let (before, after) = (said(&was), said(&is));
        if before != after {
            changes.push(Change { app: NO_APP.to_owned(), what: What::Of("level"), before, after });
        }
    }
}

/// What no verdict hangs on is told by its key alone: whoever reads "no difference" must be able to trust it.
fn settings(old: &Snapshot, new: &Snapshot, changes: &mut Vec<Change>) {
    let said = |s: &Snapshot| {
        [
            ("listen", format!("{:?}", s.listeners)),
            ("postures.lockdown", format!("{:?}", s.postures.closed)),
            ("trusted_proxies", format!("{:?}", s.trusted_proxies)),
            ("portal", format!("{:?} {:?} {:?}", s.portal, s.title, s.help)),
            ("sessions", format!("{:?}", s.sessions)),
            ("factors", format!("{:?}", s.factors)),
            ("state", format!("{:?}", s.state)),
            ("store", format!("{:?}", s.store)),
            ("smtp", format!("{:?}", s.smtp)),
            ("sms", format!("{:?}", s.sms)),
            ("keys", format!("{:?}", s.keys)),
            ("admin", format!("{:?}", s.admin)),
            ("watch", s.watch.to_string()),
        ]
    };
    keys(NO_APP, (old, said(old)), (new, said(new)), changes);
}

fn keys<const N: usize>(
    app: &str,
    (old, was): (&Snapshot, [(&'static str, String); N]),
    (new, is): (&Snapshot, [(&'static str, String); N]),
    changes: &mut Vec<Change>,
) {
    let different = was.iter().zip(&is).filter(|((_, was), (_, is))| {
        // A candidate to `apply` has its paths from the directory of the gate's own files already.
        was != is && beside(old, was) != beside(new, is)
    });
    changes.extend(different.map(|((key, _), _)| Change {
        app: app.to_owned(),
        what: What::Key(key),
        before: None,
        after: None,
    }));
}

/// Paths as seen from the main file: a candidate in another directory names the same files.
fn beside(snapshot: &Snapshot, text: &str) -> String {
    let base = snapshot.files.first().and_then(|main| main.parent()).and_then(Path::to_str);
    base.filter(|base| !base.is_empty()).map_or_else(|| text.to_owned(), |base| text.replace(&format!("{base}/"), ""))
}

fn app((from, old): (&Snapshot, &Arc<Route>), (to, new): (&Snapshot, &Arc<Route>), changes: &mut Vec<Change>) {
    let mut differs = |kind, before: String, after: String| {
        if before != after {
            changes.push(of(old, kind, Some(before), Some(after)));
        }
    };
    differs("hosts", hosts(old), hosts(new));
    let addresses = |route: &Route| route.upstream.urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    differs("upstream", addresses(old), addresses(new));
    differs("default", outcome(&old.policy.default), outcome(&new.policy.default));
    let lockdown = |route: &Route| if route.policy.default_stays_open() { "open" } else { "closed" }.to_owned();
    differs("lockdown", lockdown(old), lockdown(new));
    let settled = |route: &Route| {
        let mut upstream = (*route.upstream).clone();
        upstream.urls.clear();
        [
            ("upstream", format!("{upstream:?}")),
            ("paths", format!("{:?}", route.policy.forms)),
            ("title", route.title.clone()),
            ("identity", format!("{:?}", route.identity)),
            ("limits", format!("{:?}", route.limits)),
            ("websocket_origins", format!("{:?}", route.websocket_origins)),
            ("harden", format!("{:?} {:?}", route.harden, route.trusted_origins)),
            ("cookie_domains", format!("{:?}", route.cookie_domains)),
            ("app_cookies", format!("{:?}", route.app_cookies)),
            ("tunnel_idle", format!("{:?}", route.tunnel_idle)),
        ]
    };
    keys(old.app.as_str(), (from, settled(old)), (to, settled(new)), changes);
    let (before, after) = (old.policy.in_the_file(), new.policy.in_the_file());
    let named = |rules: &[Rule], name: &str| rules.iter().position(|rule| rule.name.as_str() == name);
    let change = |kind, rule: &Rule, before: Option<String>, after: Option<String>| {
        let what = What::Rule { kind, rule: rule.name.to_string() };
        Change { app: old.app.to_string(), what, before, after }
    };
    for rule in before.iter().filter(|rule| named(after, rule.name.as_str()).is_none()) {
        changes.push(change("removed", rule, Some(said(rule)), None));
    }
    let common: Vec<&Rule> = after.iter().filter(|rule| named(before, rule.name.as_str()).is_some()).collect();
    let places: Vec<usize> = common.iter().filter_map(|rule| named(before, rule.name.as_str())).collect();
    let kept = longest_rising(&places);
    for (at, rule) in after.iter().enumerate() {
        let Some(was) = named(before, rule.name.as_str()) else {
            changes.push(change("added", rule, None, Some(said(rule))));
            continue;
        };
        if let Some(old_rule) = before.get(was)
            && said(old_rule) != said(rule)
        {
            changes.push(change("changed", rule, Some(said(old_rule)), Some(said(rule))));
        }
        if !kept.contains(&was) {
            let place = |rules: &[Rule], at: usize| match at.checked_sub(1).and_then(|above| rules.get(above)) {
                Some(above) => format!("{}. of {}, below {}", at + 1, rules.len(), above.name),
                None => format!("1. of {}", rules.len()),
            };
            changes.push(change("moved", rule, Some(place(before, was)), Some(place(after, at))));
        }
    }
    let (before, after) = (old.policy.exceptions(), new.policy.exceptions());
    let said = |all: &[Arc<Exception>]| all.iter().map(|e| exception(e)).collect::<BTreeSet<String>>();
    let (before, after) = (said(before), said(after));
    for gone in before.difference(&after) {
        changes.push(of(old, "exception removed", Some(gone.clone()), None));
    }
    for come in after.difference(&before) {
        changes.push(of(old, "exception added", None, Some(come.clone())));
    }
}

/// The most of these numbers that stand in rising order; what is not among them was moved.
fn longest_rising(numbers: &[usize]) -> BTreeSet<usize> {
    // The least end of a row of each length, and what stood before each number in its row.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = vec![None; numbers.len()];
    for (at, number) in numbers.iter().enumerate() {
        let length = ends.partition_point(|end| numbers.get(*end).is_some_and(|other| other < number));
        if let Some(slot) = before.get_mut(at) {
            *slot = length.checked_sub(1).and_then(|shorter| ends.get(shorter)).copied();
        }
        match ends.get_mut(length) {
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    let mut kept = BTreeSet::new();
    let mut next = ends.last().copied();
    while let Some(at) = next {
        kept.extend(numbers.get(at));
        next = before.get(at).copied().flatten();
    }
    kept
}

fn hosts(route: &Route) -> String {
    route.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A rule in the words of the file, without its name.
fn said(rule: &Rule) -> String {
    let mut parts = Vec::new();
    let conditions = conditions(&rule.matcher);
    parts.push(if conditions.is_empty() { "everything".to_owned() } else { conditions.join(", ") });
    parts.push(format!("→ {}", outcome(&rule.outcome)));
    match rule.answer.as_deref() {
        Some(Answer::Redirect(redirect)) => {
            parts.push(format!("redirect {} {}", redirect.status.as_u16(), redirect.target()))
        }
        Some(Answer::Respond(respond)) => {
            parts.push(format!(
                "respond {} {} ({} B)",
                respond.status.as_u16(),
                respond.content_type,
                respond.body.len()
            ));
        }
        None => {}
    }
    if rule.keep_body != KEEP_BODY {
        parts.push(format!("keep_body {} B", rule.keep_body));
    }
    if rule.stays_open {
        parts.push("open in a lockdown".to_owned());
    }
    if rule.shadow {
        parts.push("shadow".to_owned());
    }
    parts.join(" ")
}

fn conditions(matcher: &Matcher) -> Vec<String> {
    let mut parts = Vec::new();
    if !matcher.paths.is_empty() {
        parts.push(matcher.paths.iter().map(|path| path.as_str()).collect::<Vec<_>>().join(" or "));
    }
    if !matcher.methods.is_empty() {
        parts.push(matcher.methods.iter().map(|method| method.as_str()).collect::<Vec<_>>().join(" or "));
    }
    for condition in &matcher.query {
        parts.push(format!("?{}={}", condition.name(), condition.values().join("|")));
    }
    for condition in &matcher.form {
        parts.push(format!("form {}={}", condition.name(), condition.values().join("|")));
    }
    for condition in &matcher.json {
        parts.push(format!("json {}={}", condition.name(), condition.values().join("|")));
    }
    if let Some((names, set)) = &matcher.from {
        let nets: Vec<String> = set.iter().map(ToString::to_string).collect();
        let nets = nets.join(", ");
        parts.push(if *names == nets { format!("from {nets}") } else { format!("from {names} ({nets})") });
    }
    if let Some(hours) = &matcher.hours {
        parts.push(format!("at {}", hours.as_str()));
    }
    if !matcher.who.is_empty() {
        parts.push(format!("as {}", people(&matcher.who)));
    }
    if !matcher.postures.is_empty() {
        let postures: Vec<&str> = matcher.postures.iter().map(|posture| posture.as_str()).collect();
        parts.push(format!("in {}", postures.join(" or ")));
    }
    parts
}

fn outcome(outcome: &Outcome) -> String {
    let allow = |allow: &Allow| match allow.0.as_slice() {
        [Who::Anyone] => String::new(),
        some => format!(" for {}", people(some)),
    };
    match outcome {
        Outcome::Deny { sentence } => format!("deny {sentence:?}"),
        Outcome::Public { allow: who } => format!("no sign-in{}", allow(who)),
        Outcome::Require { allow: who, level } => format!("{}{}", level.name, allow(who)),
    }
}

fn people(who: &[Who]) -> String {
    let one = |who: &Who| match who {
        Who::Anyone => "anyone".to_owned(),
        Who::User(name) => format!("user:{name}"),
        Who::Group(name) => format!("group:{name}"),
    };
    who.iter().map(one).collect::<Vec<_>>().join(" or ")
}

fn exception(exception: &Exception) -> String {
    let rules: Vec<&str> = exception.rules.iter().map(|rule| rule.as_str()).collect();
    format!(
        "{} for {} at {} until {} ({})",
        exception.level.name,
        people(&exception.who),
        rules.join(", "),
        exception.until,
        exception.ticket
    )
}

/// A level in the words of the file.
fn requirement(requirement: &Requirement) -> String {
    let Requirement { factors, max_age, phishing_resistant, user_verified, kinds, remember } = requirement;
    let mut parts = vec![format!("factors {factors}")];
    parts.extend(max_age.map(|age| format!("max_age {}s", age.as_secs())));
    if *phishing_resistant {
        parts.push("phishing_resistant".to_owned());
    }
    if *user_verified {
        parts.push("user_verified".to_owned());
    }
    parts.extend(
        kinds
            .as_ref()
            .map(|kinds| format!("kinds {}", kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", "))),
    );
    parts.extend(remember.map(|life| format!("remember {}s", life.as_secs())));
    parts.join(", ")
}

fn level_words(level: &Level) -> String {
    let own = requirement(&level.requirement);
    match &level.grace {
        Some(grace) => format!("{own}, grace {} until {}", grace.level, grace.until),
        None => own,
    }
}

/// A level by its name, and by its words where the other configuration means something else by it.
#[must_use]
pub fn level_said(level: &Level, other: &Snapshot) -> String {
    match other.level(level.name.as_str()) {
        Some(same) if **same == *level => level.name.to_string(),
        Some(_) | None => format!("{} ({})", level.name, level_words(level)),
    }
}

#[cfg(test)]
mod tests {
    use super::longest_rising;

    #[test]
    fn what_stands_in_order_was_not_moved() {
        let kept = |numbers: &[usize]| longest_rising(numbers).into_iter().collect::<Vec<_>>();
        assert_eq!(kept(&[]), [0_usize; 0]);
        assert_eq!(kept(&[0, 1, 2]), [0, 1, 2]);
        assert_eq!(kept(&[2, 0, 1, 3]), [0, 1, 3], "the first was moved, and nothing else");
        assert_eq!(kept(&[1, 2, 3, 0]), [1, 2, 3]);
    }
}
