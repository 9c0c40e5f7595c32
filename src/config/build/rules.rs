//! The policy of one app: rules, and the mistakes that only show when they stand side by side.

use std::sync::Arc;

use http::Method;

use super::{Context, answer, otherwise, who};
use crate::config::fault::{did_you_mean, place};
use crate::config::values;
use crate::config::yaml::{Node, Value};
use crate::domain::level::{Level, LevelName, Requirement};
use crate::domain::path::PathForms;
use crate::domain::policy::hours::Hours;
use crate::domain::policy::lockdown::LOCKDOWN;
use crate::domain::policy::matcher::{FormCondition, JsonCondition, Matcher, QueryCondition};
use crate::domain::policy::pattern::PathPattern;
use crate::domain::policy::{Allow, KEEP_BODY, Outcome, Policy, Rule, RuleName, Who};
use crate::domain::posture::Posture;

/// RFC 9110 and WebDAV.
const METHODS: [&str; 19] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
    "REPORT",
    "SEARCH",
    "MKCALENDAR",
];
/// What the matcher is made of.
const CONDITIONS: [&str; 9] = ["path", "methods", "query", "form", "json", "from", "hours", "who", "posture"];

/// What `require` says.
#[derive(Clone)]
enum Demand {
    None,
    Level(Arc<Level>),
}

pub(super) fn policy(context: &mut Context<'_>, file: &Arc<str>, app: &Node, forms: PathForms) -> Policy {
    let allow = app.get("allow").map(|n| allow(context, file, n));
    let default_demand = match app.get("require") {
        Some(node) => demand(context, file, node, "the app"),
        None => named(context, "mfa"),
    };
    let default = outcome(context, file, app, "the app", allow.as_ref(), None, &default_demand);

    let default_stays_open = app.get("lockdown").and_then(Node::text) == Some("open");
    let mut rules: Vec<Rule> = Vec::new();
    // Whose patterns were all understood: a rule that lost some must not be held against others.
    let mut sound: Vec<bool> = Vec::new();
    for (i, node) in app.get("rules").map(Node::items).unwrap_or_default().iter().enumerate() {
        let given = node.get("name").and_then(Node::text);
        let name = given.map_or_else(|| format!("rule-{}", i + 1), str::to_owned);
        let name_at = node.get("name").map_or(node.at, |n| n.at);
        if name == "default" {
            context.report.fault(file, name_at, "the name `default` means the app's own `allow` and `require`");
        }
        if name == LOCKDOWN {
            context.report.fault(file, name_at, "the name `lockdown` means what the posture of that name closes");
        }
        if let Some(other) = rules.iter().find(|r| r.name.as_str() == name) {
            let message = format!("another rule has the name {name:?} already (line {})", other.place.line);
            context.report.fault(file, name_at, message);
        }
        let matcher = node.get("match").map(|n| matcher(context, file, n, forms)).unwrap_or_default();
        let label = format!("rule {name:?}");
        let own = node.get("allow").map(|n| self::allow(context, file, n));
        let demanded = match node.get("require") {
            Some(n) => demand(context, file, n, &label),
            None => default_demand.clone(),
        };
        let outcome = outcome(context, file, node, &label, own.as_ref(), allow.as_ref(), &demanded);
        let answer = answer::answer(context, file, node, &label, &matcher);
        let stays_open = node.get("lockdown").and_then(Node::text).map_or(default_stays_open, |t| t == "open");
        if matcher.postures == [Posture::Lockdown]
            && !stays_open
            && context.closed_to_all
            && !matches!(outcome, Outcome::Deny { .. })
        {
            let message = format!("{label} holds in a lockdown alone, which closes it to everybody");
            let hint = "say `lockdown: open`, or name in `postures.lockdown.allow` for whom it is";
            context.report.warn_with(file, node.at, message, hint.to_owned());
        }
        let shadow = node.get("shadow").and_then(Node::bool).unwrap_or(false);
        let keep_body =
            node.get("keep_body").and_then(Node::text).and_then(|t| values::kept_size(t).ok()).unwrap_or(KEEP_BODY);
        let place = place(file, node.at);
        let rule = Rule { name: RuleName::new(&name), place, matcher, outcome, answer, shadow, keep_body, stays_open };
        let written = node.get("match").and_then(|m| m.get("path")).map_or(0, |p| p.one_or_many().len());
        // What is not enforced hides nothing that is.
        let above = rules.iter().zip(&sound).filter(|(above, sound)| **sound && (shadow || !above.shadow));
        let above: Vec<&Rule> = above.map(|(rule, _)| rule).collect();
        // A condition that was mistyped is one that the rule has and that is not known here.
        let conditions = node.get("match").map(Node::entries).unwrap_or_default();
        let understood = node.has("match")
            && rule.matcher.paths.len() == written
            && conditions.iter().all(|c| CONDITIONS.contains(&c.key.as_str()));
        lint(context, file, node, &rule, if understood { &above } else { &[] });
        not_ours(context, file, node);
        matches_all(context, file, node);
        opens_widely(context, file, node, &rule, &default);
        sound.push(understood);
        rules.push(rule);
    }
    let nodes = app.get("rules").map(Node::items).unwrap_or_default();
    for (at, node) in nodes.iter().enumerate().filter(|(at, _)| sound.get(*at) == Some(&true)) {
        one_level_alone(context, file, node, (&rules, at), &default, forms);
    }
    let policy = Policy::new(rules, default, place(file, app.at), forms).with_default_open(default_stays_open);
    otherwise::without_else(context, file, app, &policy);
    policy
}

/// `/admin/*` guards one level, and `/admin*` no directory at all: told where what lies deeper is left to
/// a rule, or to the app's own words, that let in more than this one, and no rule is about that place.
fn one_level_alone(
    context: &mut Context<'_>,
    file: &Arc<str>,
    node: &Node,
    (rules, at): (&[Rule], usize),
    default: &Outcome,
    forms: PathForms,
) {
    let Some(rule) = rules.get(at).filter(|rule| rule.answer.is_none()) else { return };
    let written = node.get("match").and_then(|m| m.get("path")).map(Node::one_or_many).unwrap_or_default();
    for (pattern, item) in rule.matcher.paths.iter().zip(written).filter(|(pattern, _)| !pattern.is_regex()) {
        let Some(root) = pattern.as_str().strip_suffix('*').filter(|root| !root.contains('*')) else { continue };
        let (directory, deeper) = match root.strip_suffix('/') {
            Some(directory) => (directory, format!("{directory}/a/b")),
            None => (root, format!("{root}/a")),
        };
        let Ok(deeper) = PathPattern::glob(&deeper, forms) else { continue };
        let holds = |rule: &Rule| rule.matcher.paths.is_empty() || rule.matcher.paths.iter().any(|p| p.covers(&deeper));
        let place = format!("{directory}/");
        let about = |rule: &Rule| rule.matcher.paths.iter().any(|p| p.as_str().starts_with(&place));
        // The place itself has no name: `/*`.
        let others = || rules.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, rule)| rule);
        if directory.is_empty()
            || holds(rule)
            || others().any(|other| {
                about(other) && other.matcher.paths.iter().any(|p| p.as_str().contains("**") || p.is_regex())
            })
        {
            continue;
        }
        // One that asks for more than path and method may not hold: then the next is asked.
        let next = others().find(|other| holds(other) && !other.matcher.has_further_conditions());
        let (outcome, by) = next.map_or((default, "the app's own `allow` and `require`".to_owned()), |other| {
            (&other.outcome, format!("rule {:?} (line {})", other.name.as_str(), other.place.line))
        });
        if let Some(less) = lets_in_more(&rule.outcome, outcome) {
            context.report.warn_with(
                file,
                item.at,
                format!("{} leaves {} to {by}, which {less}", pattern.as_str(), deeper.as_str()),
                format!(
                    "write {directory}/** for any depth{}; where it is meant, a rule for {directory}/** that says so ends this warning",
                    if root == directory { format!(" (and {directory} for itself)") } else { String::new() }
                ),
            );
        }
    }
}

/// Whom `other` lets in that `rule` would not, where that shows without knowing anybody's groups.
pub(super) fn lets_in_more(rule: &Outcome, other: &Outcome) -> Option<&'static str> {
    let wider =
        |own: &Allow, other: &Allow| !own.0.contains(&Who::Anyone) && other.0.iter().any(|who| !own.0.contains(who));
    match (rule, other) {
        (Outcome::Public { .. }, _) | (_, Outcome::Deny { .. }) => None,
        (_, Outcome::Public { .. }) => Some("asks for no sign-in"),
        (Outcome::Deny { .. }, Outcome::Require { .. }) => Some("lets people in"),
        (Outcome::Require { allow, .. }, Outcome::Require { allow: others, .. }) if wider(allow, others) => {
            Some("lets other people in")
        }
        (Outcome::Require { level, .. }, Outcome::Require { level: others, .. }) => {
            asks_for_less(&others.requirement, &level.requirement).then_some("asks for less")
        }
    }
}

/// Whether `other` is content with something that `own` is not.
pub(super) fn asks_for_less(other: &Requirement, own: &Requirement) -> bool {
    let older = own.max_age.is_some_and(|age| other.max_age.is_none_or(|others| others > age));
    let longer = other.remember.is_some_and(|life| own.remember.is_none_or(|owns| life > owns));
    other.factors < own.factors
        || older
        || longer
        || (own.phishing_resistant && !other.phishing_resistant)
        || (own.user_verified && !other.user_verified)
}

fn allow(context: &mut Context<'_>, file: &Arc<str>, node: &Node) -> Allow {
    // Anything but a list was told already.
    if matches!(&node.value, Value::List(items) if items.is_empty()) {
        context.report.fault_with(
            file,
            node.at,
            "`allow` names nobody",
            "write `deny: \"why\"` to let nobody in, or [anyone]".to_owned(),
        );
    }
    Allow(who(node.items()))
}

/// Puts `allow`, `require` and `deny` together.
fn outcome(
    context: &mut Context<'_>,
    file: &Arc<str>,
    node: &Node,
    label: &str,
    own: Option<&Allow>,
    inherited: Option<&Allow>,
    demand: &Demand,
) -> Outcome {
    if let Some(sentence) = node.get("deny") {
        for key in ["allow", "require", "redirect", "respond", "keep_body"] {
            if let Some(other) = node.get(key) {
                let message = format!("{label} denies: `{key}` beside `deny` would never be asked");
                context.report.fault(file, other.at, message);
            }
        }
        return Outcome::Deny { sentence: sentence.text().unwrap_or_default().into() };
    }
    let allow = own.or(inherited).cloned().unwrap_or_else(|| Allow(vec![Who::Anyone]));
    match demand {
        Demand::Level(level) => Outcome::Require { allow, level: Arc::clone(level) },
        Demand::None => {
            // An entry that could not be read was told, and may have been `anyone`.
            let read = node.get("allow").is_none_or(|n| who(n.items()).len() == n.one_or_many().len());
            if read && !allow.0.contains(&Who::Anyone) {
                let at = node.get("require").map_or(node.at, |n| n.at);
                context.report.fault_with(
                    file,
                    at,
                    format!("{label} opens its paths to everyone (`require: none`), but `allow` names only some"),
                    "write `allow: [anyone]` beside it, or require a level".to_owned(),
                );
            }
            Outcome::Public { allow: Allow(vec![Who::Anyone]) }
        }
    }
}

/// Reads `require`; after a fault the strictest of the built-in levels stands in.
fn demand(context: &mut Context<'_>, file: &Arc<str>, node: &Node, label: &str) -> Demand {
    match node.text() {
        Some("none") => Demand::None,
        Some("token") => {
            context.report.fault(file, node.at, "the level `token` is not supported yet in this version");
            named(context, "strong")
        }
        Some(name) => match level(context, name) {
            Some(level) => {
                if !reachable(&level.requirement) {
                    let message =
                        format!("{label} asks for `{name}`, which no factor of this version can show: nobody passes");
                    context.report.warn(file, node.at, message);
                }
                Demand::Level(level)
            }
            None => {
                let known = context.levels.iter().map(|l| l.name.as_str()).chain(["none"]);
                let open = matches!(name, "public" | "open" | "anyone" | "anonymous" | "off" | "no");
                let hint = open.then(|| "without a sign-in: `require: none`".to_owned());
                let hint = hint
                    .or_else(|| did_you_mean(name, known.clone()))
                    .unwrap_or_else(|| format!("levels: {}", known.collect::<Vec<_>>().join(", ")));
                context.report.fault_with(file, node.at, format!("unknown level {name:?} in {label}"), hint);
                named(context, "strong")
            }
        },
        None => named(context, "strong"),
    }
}

pub(super) fn reachable(requirement: &Requirement) -> bool {
    let missing = requirement.missing(&[], crate::base::clock::Timestamp::from_millis(0));
    missing.is_some_and(|m| m.any_of.iter().any(|k| k.is_available()) || (requirement.factors == 1 && m.password))
}

fn level(context: &Context<'_>, name: &str) -> Option<Arc<Level>> {
    context.levels.iter().find(|l| l.name.as_str() == name).cloned()
}

fn named(context: &Context<'_>, name: &str) -> Demand {
    // The built-in levels are always there; were one not, a level that nobody meets is the safe one.
    Demand::Level(level(context, name).unwrap_or_else(|| {
        let requirement = Requirement {
            factors: 2,
            max_age: None,
            phishing_resistant: true,
            user_verified: true,
            kinds: Some(Vec::new()),
            remember: None,
        };
        Arc::new(Level { name: LevelName::new(name), requirement, grace: None })
    }))
}

fn matcher(context: &mut Context<'_>, file: &Arc<str>, node: &Node, forms: PathForms) -> Matcher {
    let mut paths = Vec::new();
    for item in node.get("path").map(Node::one_or_many).unwrap_or_default() {
        let (at, pattern) = match (item.text(), item.get("regex").and_then(|r| Some((r.at, r.text()?)))) {
            (Some(text), _) => match text.strip_prefix("regex:") {
                Some(regex) => (item.at, PathPattern::regex(regex.trim_start())),
                None => (item.at, PathPattern::glob(text, forms)),
            },
            (None, Some((at, regex))) => (at, PathPattern::regex(regex)),
            (None, None) => continue,
        };
        match pattern {
            Ok(pattern) => {
                if let Some(open) = pattern.is_regex().then(|| open_end(pattern.as_str())).flatten() {
                    let message = format!(
                        "the regex {:?} is matched against the whole path, though it is written as one that is not",
                        pattern.as_str()
                    );
                    context.report.warn_with(file, at, message, open.to_owned());
                }
                paths.push(pattern);
            }
            Err(error) => {
                let plain = |t: &&str| !t.starts_with('/') && !t.contains("://") && !t.starts_with("regex:");
                let hint = item.text().filter(plain).map(with_a_slash);
                context.report.fault_with(file, at, error.to_string(), hint);
            }
        }
    }
    for (key, list) in ["path", "methods", "who", "posture"].map(|key| (key, node.get(key))) {
        if let Some(list) = list.filter(|l| l.one_or_many().is_empty()) {
            context.report.fault(file, list.at, format!("`{key}` is empty: leave it out, or name something"));
        }
    }
    for item in node.get("methods").map(Node::one_or_many).unwrap_or_default() {
        // Apps may have methods of their own; one letter beside a known one is a slip.
        let slip = item.text().filter(|t| !METHODS.contains(t)).and_then(|t| Some((t, did_you_mean(t, METHODS)?)));
        if let Some((text, hint)) = slip {
            context.report.warn_with(file, item.at, format!("{text} is a method that few apps have"), hint);
        }
    }
    let methods = node
        .get("methods")
        .map(Node::one_or_many)
        .unwrap_or_default()
        .iter()
        .filter_map(Node::text)
        .filter_map(|t| Method::from_bytes(t.as_bytes()).ok())
        .collect();
    let query = fields(node, "query", QueryCondition::new);
    let form = fields(node, "form", FormCondition::new);
    let json = fields(node, "json", JsonCondition::new);
    if let (Some(json), true) = (node.get("json"), node.has("form")) {
        let message = "`form` and `json` in one `match`: a body is one of them, and this rule could never surely hold";
        context.report.fault(file, json.at, message);
    }
    let from = node.get("from").map(|n| {
        let names: Vec<&str> = n.one_or_many().iter().filter_map(Node::text).collect();
        (names.join(", "), context.network_set(file, n))
    });
    let hours = node.get("hours").and_then(Node::text).and_then(|t| Hours::parse(t).ok());
    let who = who(node.get("who").map(Node::one_or_many).unwrap_or_default());
    if let Some(n) = node.get("who").filter(|_| who.contains(&Who::Anyone) && who.len() > 1) {
        context.report.fault(file, n.at, "`who` holds `anyone` and others: `anyone` means every signed-in person");
    }
    let postures = node.get("posture").map(Node::one_or_many).unwrap_or_default().iter();
    let postures = postures.filter_map(Node::text).filter_map(Posture::parse).collect();
    Matcher { paths, methods, query, form, json, from, hours, who, postures }
}

/// Patterns of other programs are paths here: `/g/:id` holds for the address with these very letters, and for no other.
fn not_ours(context: &mut Context<'_>, file: &Arc<str>, node: &Node) {
    // Names that begin with a dot are closed by `/.*`.
    let denies = node.has("deny") || node.has("respond");
    for item in node.get("match").and_then(|m| m.get("path")).map(Node::one_or_many).unwrap_or_default() {
        let Some(text) = item.text().filter(|text| text.starts_with('/')) else { continue };
        if let Some(ours) = in_our_words(text, denies).filter(|ours| ours != text) {
            context.report.warn_with(
                file,
                item.at,
                format!(
                    "{text:?} stands for itself alone: only `*` (one segment) and `**` (any depth) stand for others"
                ),
                format!("write {ours:?}; where paths are really so, {{ regex: ... }} says it"),
            );
        }
    }
}

/// A pattern as routers (`:id`, `<id>`), regular expressions (`(.*)`, `$`) and the like have it, in our words.
fn in_our_words(text: &str, denies: bool) -> Option<String> {
    let whole = text.strip_suffix('$').unwrap_or(text);
    let name = |name: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        !name.is_empty() && name.bytes().all(plain)
    };
    let mut found = Vec::new();
    let last = whole.split('/').count().checked_sub(1)?;
    for (at, segment) in whole.split('/').enumerate() {
        let between = |open: char, close: char| segment.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
        let routed = segment.strip_prefix(':');
        let rest_of_it = routed.and_then(|r| r.strip_suffix(['*', '+'])).is_some_and(name);
        found.push(match segment {
            ".*" if denies => segment,
            ".*" | ".+" | "(.*)" | "(.+)" | "(.*?)" if at == last => "**",
            ".*" | ".+" | "(.*)" | "(.+)" => "*",
            _ if rest_of_it => "**",
            _ if routed.is_some_and(name) => "*",
            _ => match between('<', '>') {
                Some(inner) if inner.starts_with("path:") => "**",
                Some(inner) if inner.split(':').all(name) => "*",
                Some(_) | None => segment,
            },
        });
    }
    Some(found.join("/"))
}

/// `match: {}` says nothing of what the rule is for.
fn matches_all(context: &mut Context<'_>, file: &Arc<str>, node: &Node) {
    if let Some(all) = node.get("match").filter(|m| matches!(&m.value, Value::Map(entries) if entries.is_empty())) {
        context.report.warn_with(
            file,
            all.at,
            "`match` is empty: the rule holds for every request, and nothing below it is asked",
            "write { path: /** } where that is meant; the app's own `allow` and `require` say the same".to_owned(),
        );
    }
}

/// `require: none` is as plain as words are, and narrow rules mean it. One that opens all of an app, or a place with
/// a name of those that are not for everybody, says so by `allow: [anyone]`.
fn opens_widely(context: &mut Context<'_>, file: &Arc<str>, node: &Node, rule: &Rule, default: &Outcome) {
    const CLOSED: [&str; 12] = [
        "admin",
        "administrator",
        "manage",
        "manager",
        "management",
        "internal",
        "private",
        "console",
        "settings",
        "users",
        "actuator",
        "debug",
    ];
    let Some(require) = node.get("require").filter(|_| !node.has("allow") && !node.has("deny")) else { return };
    let strict = matches!(default, Outcome::Require { .. } | Outcome::Deny { .. });
    if !matches!(rule.outcome, Outcome::Public { .. }) || !strict || rule.answer.is_some() || rule.shadow {
        return;
    }
    let matcher = &rule.matcher;
    // A regular expression for everything is a fault of its own: it opens by the end of the path alone.
    let everything = (matcher.paths.is_empty() || matcher.paths.iter().any(|p| p.as_str() == "/**"))
        && !matcher.has_further_conditions()
        && matcher.methods.is_empty();
    let closed = matcher
        .paths
        .iter()
        .map(PathPattern::as_str)
        .find(|path| path.split('/').any(|segment| CLOSED.contains(&segment.to_ascii_lowercase().as_str())));
    let what = match (everything, closed) {
        (true, _) => "every path of the app",
        (false, Some(path)) => path,
        (false, None) => return,
    };
    context.report.warn_with(
        file,
        require.at,
        format!("rule {:?} opens {what} to everybody, without a sign-in", rule.name.as_str()),
        "where that is meant, write `allow: [anyone]` beside it; else name a level".to_owned(),
    );
}

/// The names of `query`, `form` or `json` and what they may be.
fn fields<T>(node: &Node, key: &str, make: fn(&str, Vec<String>) -> T) -> Vec<T> {
    let entries = node.get(key).map(Node::entries).unwrap_or_default().iter();
    let texts = |node: &Node| node.one_or_many().iter().filter_map(Node::text).map(str::to_owned).collect();
    entries.map(|entry| make(&entry.key, texts(&entry.node))).collect()
}

/// What to write where a regular expression is anchored at one end only, or in one of its branches: in
/// other tools the other end is open, and here it is not.
fn open_end(regex: &str) -> Option<&'static str> {
    let (start, end) = (regex.starts_with('^'), regex.ends_with('$') && !regex.ends_with("\\$"));
    let mut depth = 0_usize;
    let branches = regex.bytes().any(|b| {
        match b {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        b == b'|' && depth == 0
    });
    match (start, end) {
        (true, true) | (true, false) | (false, true) if branches => {
            Some("leave out ^ and $; a branch that goes on ends in .*")
        }
        (true, false) if !regex.ends_with(".*") => Some("leave out ^; where the path may go on, end it in .*"),
        (false, true) if !regex.starts_with(".*") => {
            Some("leave out $; where the path may begin otherwise, start it with .*")
        }
        _ => None,
    }
}

/// What was probably meant by a pattern without a slash at its start.
fn with_a_slash(pattern: &str) -> String {
    if pattern.starts_with('^') {
        return format!("a regular expression is written {{ regex: {pattern:?} }}");
    }
    // `/*.css` would open by the end of the path alone, which no public rule may.
    match pattern.strip_prefix("**/").unwrap_or(pattern) {
        wild if pattern.starts_with('*') => format!("name the directory: {:?}", format!("/static/**/{wild}")),
        plain => format!("did you mean {:?}?", format!("/{plain}")),
    }
}

/// Mistakes of a rule among the others.
fn lint(context: &mut Context<'_>, file: &Arc<str>, node: &Node, rule: &Rule, above: &[&Rule]) {
    let name = rule.name.as_str();
    if let Some(over) = above.iter().find(|r| r.matcher.covers(&rule.matcher)) {
        context.report.fault_with(
            file,
            node.at,
            format!(
                "rule {name:?} can never be reached: {:?} (line {}) matches everything it does",
                over.name.as_str(),
                over.place.line
            ),
            "the first rule that matches decides: move the narrower one above".to_owned(),
        );
    }
    if !matches!(rule.outcome, Outcome::Public { .. }) {
        return;
    }
    // What the gate answers itself opens nothing of the app.
    let opens = rule.answer.is_none();
    if let Some(pattern) = rule.matcher.paths.iter().find(|p| opens && p.by_suffix_alone()) {
        let at = node.get("match").and_then(|m| m.get("path")).map_or(node.at, |p| p.at);
        context.report.fault_with(
            file,
            at,
            format!(
                "rule {name:?} opens {:?} by the end of the path alone: many apps answer /account.php/x.css or /account.css like /account",
                pattern.as_str()
            ),
            "name the directory: /static/**/*.css".to_owned(),
        );
    }
    if !rule.matcher.who.is_empty() {
        let at = node.get("match").and_then(|m| m.get("who")).map_or(node.at, |w| w.at);
        context.report.fault(
            file,
            at,
            format!("rule {name:?} selects people, but with `require: none` nobody signs in"),
        );
    }
}
