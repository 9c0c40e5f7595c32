//! Authelia's `access_control` in our language. A rule that says something ours cannot say never becomes weaker by it.

use std::collections::BTreeSet;

use regex::Regex;

use super::authelia::scalar;
use super::written::{App, Hidden, Line, Written, list, plain, quoted, short};
use crate::config::yaml::{Node, Value};
use crate::domain::host::{HostName, Scheme};
use crate::domain::user::{GroupName, UserName};

/// The configuration in our words, and what became of each rule.
pub struct Converted {
    pub written: Written,
    pub rows: Vec<Row>,
}

/// One rule of theirs at one host.
pub struct Row {
    pub number: usize,
    pub before: String,
    pub app: String,
    pub after: String,
    pub kept: Kept,
}

/// How much of a rule came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    Exactly,
    /// With a note at its place.
    Noted,
    /// It holds for more requests than before, and asks for at least as much as what held there.
    Stricter,
    /// What is below it holds, which asks for at least as much.
    LeftOut,
}

impl Kept {
    pub fn word(self) -> &'static str {
        match self {
            Self::Exactly => "as before",
            Self::Noted => "see the note",
            Self::Stricter => "stricter",
            Self::LeftOut => "left out",
        }
    }
}

/// Their policies, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Policy {
    Bypass,
    OneFactor,
    TwoFactor,
    Deny,
}

impl Row {
    /// Whether this row is about `rule`, as the file of the app `app` has it.
    fn is_of(&self, app: &str, rule: &str) -> bool {
        let numbered = |name: &str| {
            let number = name.split('-').nth(1).unwrap_or_default();
            number.parse() == Ok(self.number)
        };
        let parts = rule.strip_prefix("{ name: ").and_then(|rest| rest.split_once(", "));
        self.app == app && parts.is_some_and(|(name, body)| numbered(name) && body == format!("{} }}", self.after))
    }
}

/// Tells in the table of the rules that were left out of the file, for nothing would ever reach them.
pub fn tell_hidden(rows: &mut [Row], hidden: &[Hidden]) {
    for Hidden { app, rule, over } in hidden {
        let number = over.split('-').nth(1).and_then(|n| n.parse::<usize>().ok());
        let above = rows.iter().find(|row| row.app == *app && Some(row.number) == number);
        // There it may have been reached; here what asks for at least as much stands above it.
        let stricter = above.is_some_and(|row| row.kept == Kept::Stricter);
        if let Some(row) = rows.iter_mut().find(|row| row.is_of(app, rule)) {
            row.after = format!("not in the file: {over} above it holds for all of it");
            row.kept = if stricter { Kept::Stricter } else { Kept::Exactly };
        }
    }
}

impl Policy {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "bypass" => Self::Bypass,
            "one_factor" => Self::OneFactor,
            "two_factor" => Self::TwoFactor,
            "deny" => Self::Deny,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::OneFactor => "one_factor",
            Self::TwoFactor => "two_factor",
            Self::Deny => "deny",
        }
    }

    /// As the outcome of a rule of ours.
    fn outcome(self, sentence: &str) -> String {
        match self {
            Self::Bypass => "allow: [anyone], require: none".to_owned(),
            Self::OneFactor => "require: password".to_owned(),
            Self::TwoFactor => "require: mfa".to_owned(),
            Self::Deny => format!("deny: {}", quoted(sentence)),
        }
    }
}

const NEVER_ASKED: &str = "never asked: a rule above holds for all of the host";
const SENTENCE: &str = "This page is closed.";

/// A rule of theirs.
struct Theirs<'a> {
    number: usize,
    line: u32,
    node: &'a Node,
    policy: Policy,
}

/// A condition of ours, and what was lost on the way.
#[derive(Default)]
struct Conditions {
    /// The parts of `match`, without `query`.
    parts: Vec<String>,
    /// Each set of these is a rule.
    queries: Vec<String>,
    notes: Vec<String>,
    /// What ours cannot say: without it the rule would hold for more requests.
    lost: Vec<String>,
    narrow: bool,
}

impl Conditions {
    /// Puts one condition together of those of its parts that came over; `lost` are the others.
    fn put(&mut self, key: &str, parts: &[String], lost: Vec<String>) {
        if self.narrow && !parts.is_empty() {
            self.notes.extend(lost.into_iter().map(|lost| format!("not taken over: {lost}")));
        } else if !lost.is_empty() {
            self.lost.extend(lost);
            return;
        }
        match parts {
            [] => {}
            [one] if key == "path" => self.parts.push(format!("path: {one}")),
            parts => self.parts.push(format!("{key}: [{}]", parts.join(", "))),
        }
    }
}

pub fn convert(file: &str, root: &Node, apps: &[(String, Option<String>)]) -> anyhow::Result<Converted> {
    let control = root.get("access_control");
    let default = control.and_then(|c| c.get("default_policy")).map(scalar);
    let default = match default.as_deref() {
        None | Some("") => Policy::Deny,
        Some(word) => {
            Policy::parse(word).ok_or_else(|| anyhow::anyhow!("{file}: default_policy: {word:?} is no policy"))?
        }
    };
    let mut theirs = Vec::new();
    for (i, node) in control.and_then(|c| c.get("rules")).map(Node::items).unwrap_or_default().iter().enumerate() {
        let word = node.get("policy").map(scalar).unwrap_or_default();
        let policy = Policy::parse(&word)
            .ok_or_else(|| anyhow::anyhow!("{file}:{}: rule {}: {word:?} is no policy", node.at.line, i + 1))?;
        theirs.push(Theirs { number: i + 1, line: node.at.line, node, policy });
    }
    let portal = portal_host(root);
    let (networks, bad_networks) = networks(root);
    let mut written =
        Written { main: main_file(file, root, portal.as_deref(), &networks, &bad_networks), apps: Vec::new() };
    let mut rows = Vec::new();
    let mut names: BTreeSet<String> = BTreeSet::new();
    for host in hosts(&theirs, apps, portal.as_deref()) {
        let name = app_name(&host, &mut names);
        let address = apps.iter().find(|(named, _)| *named == host).and_then(|(_, address)| address.as_deref());
        written.apps.push(app(file, &name, &host, address, &theirs, default, &networks, &mut rows));
    }
    for rule in &theirs {
        if !rows.iter().any(|row: &Row| row.number == rule.number) {
            let domains: Vec<String> = domains(rule.node).iter().map(Domain::said).collect();
            written.main.push(format!(
                "# {file}:{}: rule {} ({}) is for {}, which names no host: name the hosts with --app HOST.",
                rule.line,
                rule.number,
                rule.policy.name(),
                domains.join(", ")
            ));
            rows.push(Row {
                number: rule.number,
                before: said(rule),
                app: "-".to_owned(),
                after: "no host is known: --app HOST".to_owned(),
                kept: Kept::LeftOut,
            });
        }
    }
    rows.sort_by_key(|row| row.number);
    Ok(Converted { written, rows })
}

#[expect(clippy::too_many_arguments, reason = "what one app is made of")]
fn app(
    file: &str,
    name: &str,
    host: &str,
    address: Option<&str>,
    theirs: &[Theirs<'_>],
    default: Policy,
    networks: &[(String, Vec<String>)],
    rows: &mut Vec<Row>,
) -> App {
    let mut head = vec![format!("app: {name}"), format!("hosts: [{}]", plain(host))];
    match address {
        Some(address) => head.push(format!("upstream: {{ urls: [{}] }}", quoted(address))),
        None => {
            head.push(
                "# Authelia does not know where an app lives, the proxy beside it does: write its address here."
                    .to_owned(),
            );
            head.push(format!("upstream: {{ urls: [\"http://{}.invalid\"] }}", name));
        }
    }
    head.push("identity: { headers: [remote-user] }".to_owned());
    let here: Vec<(&Theirs<'_>, Vec<Option<String>>)> = theirs
        .iter()
        .map(|rule| (rule, domains(rule.node).iter().filter_map(|domain| domain.at(host)).collect::<Vec<_>>()))
        .filter(|(_, at)| !at.is_empty())
        .collect();
    // What stands below a rule for all of the host is never asked, there as here.
    let reached = here.iter().position(|(rule, who)| who.contains(&None) && holds_for_all(rule.node));
    let (here, hidden) = here.split_at(reached.map_or(here.len(), |at| at + 1));
    let mut rules: Vec<Line> = Vec::new();
    let mut own = None;
    // The rule above that asks strangers to sign in, whatever they open.
    let mut asks_strangers = None;
    for Fated { rule, conditions, fate } in fates(here, default, networks) {
        let row = |after: String, kept: Kept| Row {
            number: rule.number,
            before: said(rule),
            app: name.to_owned(),
            after,
            kept,
        };
        let place = format!("{file}:{}, rule {}: {}", rule.line, rule.number, said(rule));
        let Some((mut policy, mut kept)) = fate else {
            let mut comments = vec![place];
            comments.extend(conditions.lost.iter().chain(&conditions.notes).cloned());
            comments.push("left out: what holds in its place asks for at least as much".to_owned());
            rules.push(Line { comments, rule: None });
            rows.push(row("the rules below it".to_owned(), Kept::LeftOut));
            continue;
        };
        let mut notes = conditions.notes.clone();
        if let (Policy::Bypass, Some(above)) = (policy, asks_strangers) {
            notes.push(format!("rule {above} asks strangers to sign in first: so they are here"));
            (policy, kept) = (Policy::OneFactor, kept.max(Kept::Noted));
        }
        if policy != Policy::Bypass && conditions.parts.iter().any(|part| part.starts_with("who:")) {
            if conditions.parts.len() == 1 && conditions.queries.is_empty() {
                asks_strangers = asks_strangers.or(Some(rule.number));
            } else if default == Policy::Bypass
                || here.iter().any(|(other, _)| other.number > rule.number && other.policy == Policy::Bypass)
            {
                notes.push("Authelia asks strangers to sign in here; with Stepgate a rule below that asks for nothing lets them pass".to_owned());
                kept = kept.max(Kept::Noted);
            }
        }
        let mut comments = vec![place];
        comments.extend(conditions.lost.iter().cloned());
        if kept == Kept::Stricter {
            comments.push(if policy == rule.policy {
                "so it holds for more requests than before".to_owned()
            } else {
                "so it would let in more, and others less: it denies until somebody writes what is meant".to_owned()
            });
        }
        comments.extend(notes);
        let queries = if conditions.queries.is_empty() { vec![String::new()] } else { conditions.queries.clone() };
        let everything = conditions.parts.is_empty() && conditions.queries.is_empty();
        if everything && policy != Policy::Deny && holds_for_all(rule.node) {
            own = Some(policy);
            head.extend(comments.iter().map(|comment| format!("# {comment}")));
            rows.push(row(format!("the app's own: {}", policy.outcome(SENTENCE)), kept));
            continue;
        }
        for (i, query) in queries.iter().enumerate() {
            let mut parts = conditions.parts.clone();
            if !query.is_empty() {
                parts.push(format!("query: {{ {query} }}"));
            }
            if parts.is_empty() {
                parts.push("path: \"/**\"".to_owned());
            }
            let rule_name = if queries.len() == 1 {
                format!("authelia-{}", rule.number)
            } else {
                format!("authelia-{}-{}", rule.number, i + 1)
            };
            let body = format!("match: {{ {} }}, {}", parts.join(", "), policy.outcome(SENTENCE));
            rules.push(Line {
                comments: if i == 0 { std::mem::take(&mut comments) } else { Vec::new() },
                rule: Some(format!("{{ name: {rule_name}, {body} }}")),
            });
            rows.push(row(body, kept));
        }
    }
    for (rule, _) in hidden {
        rules.push(Line {
            comments: vec![
                format!("{file}:{}, rule {}: {}", rule.line, rule.number, said(rule)),
                NEVER_ASKED.to_owned(),
            ],
            rule: None,
        });
        rows.push(Row {
            number: rule.number,
            before: said(rule),
            app: name.to_owned(),
            after: NEVER_ASKED.to_owned(),
            kept: Kept::Exactly,
        });
    }
    let default = match own {
        Some(policy) => policy,
        None if default == Policy::Bypass && asks_strangers.is_some() => {
            head.push("# default_policy: bypass; a rule asks strangers to sign in first: so they are here.".to_owned());
            Policy::OneFactor
        }
        None => default,
    };
    match default {
        Policy::Bypass => head.extend(["allow: [anyone]".to_owned(), "require: none".to_owned()]),
        Policy::OneFactor => head.push("require: password".to_owned()),
        Policy::TwoFactor => head.push("require: mfa".to_owned()),
        Policy::Deny => {
            head.push("require: mfa".to_owned());
            rules.push(Line {
                comments: vec![format!("{file}: default_policy: deny")],
                rule: Some(format!(
                    "{{ name: authelia-default, match: {{ path: \"/**\" }}, {} }}",
                    Policy::Deny.outcome(SENTENCE)
                )),
            });
        }
    }
    App { name: name.to_owned(), head, rules }
}

fn holds_for_all(node: &Node) -> bool {
    !["resources", "methods", "networks", "subject", "query"].iter().any(|key| node.has(key))
}

/// A rule of theirs, and what becomes of it.
struct Fated<'a> {
    rule: &'a Theirs<'a>,
    conditions: Conditions,
    fate: Option<(Policy, Kept)>,
}

/// What becomes of each rule: its policy here, or nothing where what is below asks for at least as much.
fn fates<'a>(
    here: &'a [(&'a Theirs<'a>, Vec<Option<String>>)],
    default: Policy,
    networks: &[(String, Vec<String>)],
) -> Vec<Fated<'a>> {
    // From the last to the first: what is below a rule is what became of it.
    let (mut least, mut most) = (default, default);
    let mut fates = Vec::with_capacity(here.len());
    for (rule, who) in here.iter().rev() {
        // Where what is below asks for at least as much, a rule may hold for less than before.
        let conditions = conditions(rule.node, who, networks, rule.policy <= least);
        let fate = if conditions.lost.is_empty() {
            Some((rule.policy, if conditions.notes.is_empty() { Kept::Exactly } else { Kept::Noted }))
        } else if rule.policy <= least {
            None
        } else if rule.policy >= most {
            Some((rule.policy, Kept::Stricter))
        } else {
            Some((Policy::Deny, Kept::Stricter))
        };
        if let Some((policy, _)) = fate {
            (least, most) = match holds_for_all(rule.node) && who.contains(&None) {
                true => (policy, policy),
                false => (least.min(policy), most.max(policy)),
            };
        }
        fates.push(Fated { rule, conditions, fate });
    }
    fates.reverse();
    fates
}

/// What a rule of theirs is for, on one line.
fn said(rule: &Theirs<'_>) -> String {
    let mut parts = Vec::new();
    for key in ["domain", "domain_regex", "resources", "methods", "networks", "subject", "query"] {
        let Some(node) = rule.node.get(key) else { continue };
        parts.push(format!("{key} {}", flat(node)));
    }
    short(&format!("{}: {}", rule.policy.name(), parts.join(", ")))
}

fn flat(node: &Node) -> String {
    match &node.value {
        Value::List(items) if items.len() == 1 => items.first().map(flat).unwrap_or_default(),
        Value::List(items) => format!("[{}]", items.iter().map(flat).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) => {
            let inner: Vec<String> = entries.iter().map(|e| format!("{}={}", e.key, flat(&e.node))).collect();
            format!("({})", inner.join(" "))
        }
        _ => scalar(node),
    }
}

// --- hosts

enum Domain {
    Exactly(String),
    /// `*.example.com`, without the star.
    Below(String),
    /// `{user}.example.com`.
    User(String),
    /// `{group}.example.com`.
    Group(String),
    Regex(String, Option<Regex>),
}

impl Domain {
    /// Whether it holds for a host: `None` not, else with the person that it asks for there, if one.
    fn at(&self, host: &str) -> Option<Option<String>> {
        let label = |suffix: &str| host.strip_suffix(suffix).filter(|label| !label.is_empty() && !label.contains('.'));
        match self {
            Self::Exactly(name) => (name == host).then_some(None),
            Self::Below(suffix) => host.strip_suffix(suffix.as_str()).filter(|l| !l.is_empty()).map(|_| None),
            Self::User(suffix) => label(suffix).map(|label| Some(format!("user:{label}"))),
            Self::Group(suffix) => label(suffix).map(|label| Some(format!("group:{label}"))),
            Self::Regex(_, regex) => {
                let found = regex.as_ref()?.captures(host)?;
                let named = |name: &str| found.name(name).map(|m| m.as_str().to_owned());
                Some(match (named("User"), named("Group")) {
                    (Some(user), None) => Some(format!("user:{user}")),
                    (None, Some(group)) => Some(format!("group:{group}")),
                    // Both at once is nobody whom ours can name: no name holds a slash after its kind.
                    (Some(_), Some(_)) => Some("both".to_owned()),
                    (None, None) => None,
                })
            }
        }
    }

    fn said(&self) -> String {
        match self {
            Self::Exactly(name) => name.clone(),
            Self::Below(suffix) => format!("*{suffix}"),
            Self::User(suffix) => format!("{{user}}{suffix}"),
            Self::Group(suffix) => format!("{{group}}{suffix}"),
            Self::Regex(text, _) => format!("the regex {}", short(text)),
        }
    }
}

fn domains(node: &Node) -> Vec<Domain> {
    let many = |key: &str| node.get(key).map(Node::one_or_many).unwrap_or_default().iter().map(scalar);
    let named = many("domain").map(|text| {
        let text = text.trim().to_ascii_lowercase();
        if let Some(suffix) = text.strip_prefix("*") {
            return Domain::Below(suffix.to_owned());
        }
        match (text.strip_prefix("{user}"), text.strip_prefix("{group}")) {
            (Some(suffix), _) => Domain::User(suffix.to_owned()),
            (_, Some(suffix)) => Domain::Group(suffix.to_owned()),
            _ => Domain::Exactly(text),
        }
    });
    named.chain(many("domain_regex").map(|text| Domain::Regex(text.clone(), Regex::new(&text).ok()))).collect()
}

/// Every host that a rule or the command line names; the portal's is none of them.
fn hosts(theirs: &[Theirs<'_>], apps: &[(String, Option<String>)], portal: Option<&str>) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    let named = theirs.iter().flat_map(|rule| domains(rule.node)).filter_map(|domain| match domain {
        Domain::Exactly(name) => Some(name),
        _ => None,
    });
    for host in named.chain(apps.iter().map(|(host, _)| host.clone())) {
        let fine = HostName::parse(host.as_bytes(), Scheme::Https).is_ok();
        if fine && !hosts.contains(&host) && Some(host.as_str()) != portal {
            hosts.push(host);
        }
    }
    hosts
}

fn app_name(host: &str, names: &mut BTreeSet<String>) -> String {
    let clean = |text: &str| {
        let letters = text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
        letters.take(63).collect::<String>().trim_matches('-').to_owned()
    };
    let mut name = clean(host.split('.').next().unwrap_or(host));
    if name.is_empty() || names.contains(&name) {
        name = clean(host);
    }
    let mut free = name.clone();
    let mut n = 2;
    while !names.insert(free.clone()) {
        free = format!("{}-{n}", name.get(..58).unwrap_or(&name));
        n += 1;
    }
    free
}

// --- conditions

/// With `narrow`, what ours cannot say of several is left out alone, and the rule holds for the others.
fn conditions(node: &Node, at_host: &[Option<String>], networks: &[(String, Vec<String>)], narrow: bool) -> Conditions {
    let mut out = Conditions { narrow, ..Conditions::default() };
    resources(node, &mut out);
    if let Some(methods) = node.get("methods") {
        let methods: Vec<String> = methods.one_or_many().iter().map(|m| scalar(m).to_ascii_uppercase()).collect();
        if methods.iter().any(|m| m == "GET") && !methods.iter().any(|m| m == "HEAD") {
            out.notes.push("GET covers HEAD too".to_owned());
        }
        out.parts.push(format!("methods: {}", list(methods.iter().map(String::as_str))));
    }
    from(node, networks, &mut out);
    who(node, at_host, &mut out);
    queries(node, &mut out);
    out
}

fn resources(node: &Node, out: &mut Conditions) {
    let Some(resources) = node.get("resources") else { return };
    let (mut paths, mut lost): (Vec<String>, Vec<String>) = Default::default();
    let public = node.get("policy").map(scalar).as_deref() == Some("bypass");
    for text in resources.one_or_many().iter().map(scalar) {
        match paths_of(&text) {
            Ok(found) => {
                for Path { regex, note } in found {
                    if public && regex.starts_with(".*") {
                        lost.push(format!("the resource {}: {}", short(&text), anywhere(&text)));
                        continue;
                    }
                    out.notes.extend(note.map(|note| format!("{}: {note}", short(&text))));
                    paths.push(format!("{{ regex: {} }}", quoted(&regex)));
                }
            }
            Err(why) => lost.push(format!("the resource {}: {why}", short(&text))),
        }
    }
    out.put("path", &paths, lost);
}

/// A path rule of ours for a part of a resource of theirs.
struct Path {
    regex: String,
    note: Option<String>,
}

/// One path condition of ours, whole, and a note of what is not as before. With `public` it may not be by the end
/// of the path alone.
pub(super) fn path_of(resource: &str, public: bool) -> Result<(String, Option<String>), String> {
    let found = paths_of(resource)?;
    if public && found.iter().any(|path| path.regex.starts_with(".*")) {
        return Err(anywhere(resource).to_owned());
    }
    let notes: Vec<String> = found.iter().filter_map(|path| path.note.clone()).collect();
    let paths: Vec<String> = found.iter().map(|path| format!("{{ regex: {} }}", quoted(&path.regex))).collect();
    let path = match paths.as_slice() {
        [one] => one.clone(),
        more => format!("[{}]", more.join(", ")),
    };
    Ok((path, (!notes.is_empty()).then(|| notes.join("; "))))
}

/// Why a pattern that does not say how a path begins is none for a public rule.
fn anywhere(resource: &str) -> &'static str {
    if resource.ends_with('$') && !resource.ends_with("\\$") {
        "it opens what ends so under any directory, which a public rule may not"
    } else {
        "it opens whatever holds this anywhere, which a public rule may not: begin it with ^"
    }
}

/// Theirs holds anywhere in path and query, ours for the whole path alone.
fn paths_of(resource: &str) -> Result<Vec<Path>, String> {
    let mut paths = Vec::new();
    for branch in branches(resource) {
        let (start, rest) = match branch.strip_prefix('^') {
            Some(rest) => ("", rest),
            None => (".*", branch.as_str()),
        };
        let ended = rest.ends_with('$') && !rest.ends_with("\\$");
        let mut rest = if ended { rest.trim_end_matches('$').to_owned() } else { rest.to_owned() };
        let mut any_query = false;
        if ended {
            // The two ways in which Authelia's own pages allow for a query.
            for (with_query, path_alone) in
                [("([/?].*)?", "(/.*)?"), ("(\\?.*)?", ""), ("([?].*)?", ""), ("([?/].*)?", "(/.*)?")]
            {
                if let Some(before) = rest.strip_suffix(with_query) {
                    rest = format!("{before}{path_alone}");
                    any_query = true;
                }
            }
        }
        if rest.contains("\\?") || rest.contains("[?") || rest.contains("?]") {
            return Err("it asks for something in the query, which a path rule does not see".to_owned());
        }
        let end = if ended || rest.ends_with(".*") { "" } else { ".*" };
        let regex = format!("{start}{rest}{end}");
        Regex::new(&format!("^(?:{regex})$")).map_err(|_| "it is no regular expression here".to_owned())?;
        let mut notes = Vec::new();
        if start == ".*" {
            notes.push("it is open at its beginning, so it holds below any directory");
        }
        if end == ".*" {
            notes.push("it is open at its end, so it holds for whatever follows");
        }
        if ended && !any_query && !rest.ends_with(".*") && !rest.ends_with(".+") {
            notes.push("with Stepgate it holds with a query behind it too");
        }
        let note = (!notes.is_empty()).then(|| notes.join("; "));
        paths.push(Path { regex, note });
    }
    Ok(paths)
}

/// What stands between the `|` that are in no group.
fn branches(regex: &str) -> Vec<String> {
    let (mut depth, mut class, mut escaped) = (0_i32, false, false);
    let mut found = vec![String::new()];
    for c in regex.chars() {
        let ends = c == '|' && depth == 0 && !class && !escaped;
        match c {
            _ if escaped => {}
            '[' => class = true,
            ']' => class = false,
            '(' if !class => depth += 1,
            ')' if !class => depth -= 1,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
        match found.last_mut() {
            Some(last) if !ends => last.push(c),
            _ => found.push(String::new()),
        }
    }
    found
}

fn from(node: &Node, networks: &[(String, Vec<String>)], out: &mut Conditions) {
    let Some(from) = node.get("networks") else { return };
    let (mut names, mut lost): (Vec<String>, Vec<String>) = Default::default();
    for text in from.one_or_many().iter().map(scalar) {
        if networks.iter().any(|(name, _)| *name == text) {
            names.push(plain(&network_name(&text)));
        } else if let Some(net) = network(&text) {
            names.push(plain(&net));
        } else {
            lost.push(format!("the network {}, which is none", short(&text)));
        }
    }
    out.put("from", &names, lost);
}

fn who(node: &Node, at_host: &[Option<String>], out: &mut Conditions) {
    let mut subjects: Vec<Vec<String>> = node
        .get("subject")
        .map(Node::one_or_many)
        .unwrap_or_default()
        .iter()
        .map(|one| one.one_or_many().iter().map(scalar).collect())
        .collect();
    let had = !subjects.is_empty();
    // Programs with a token of Authelia's own: none of them comes here.
    subjects.retain(|all| !all.iter().any(|s| s.starts_with("oauth2:")));
    if had && subjects.is_empty() {
        out.lost.push("it is for OAuth 2.0 clients alone".to_owned());
        return;
    }
    let host: Vec<String> = at_host.iter().flatten().cloned().collect();
    let anybody_here = at_host.contains(&None);
    if !anybody_here && !subjects.is_empty() {
        out.lost.push(format!("who is {} as well as in `subject`", host.join(" or ")));
        return;
    }
    let (mut who, mut lost): (Vec<String>, Vec<String>) = Default::default();
    for all in if anybody_here { subjects } else { host.into_iter().map(|one| vec![one]).collect() } {
        match all.as_slice() {
            [one] if is_who(one) => who.push(plain(one)),
            [one] => lost.push(format!("the subject {}, whom no account here can be", short(one))),
            several => lost.push(format!("who is all of {} at once", short(&several.join(", ")))),
        }
    }
    out.put("who", &who, lost);
}

fn is_who(text: &str) -> bool {
    match text.split_once(':') {
        Some(("user", name)) => UserName::parse(name).is_ok(),
        Some(("group", name)) => GroupName::parse(name).is_ok(),
        _ => false,
    }
}

fn queries(node: &Node, out: &mut Conditions) {
    let Some(query) = node.get("query") else { return };
    let mut lost = Vec::new();
    // A list of lists; a list of maps is read as one of lists of one.
    for all in query.items() {
        let mut parts: Vec<String> = Vec::new();
        let before = lost.len();
        for one in all.one_or_many() {
            let field = |key: &str| one.get(key).map(scalar).unwrap_or_default();
            let (operator, key, value) = (field("operator"), field("key"), field("value"));
            match operator.as_str() {
                "equal" | "" if !value.is_empty() && !key.is_empty() => {
                    parts.push(format!("{}: [{}]", plain(&key), quoted(&value)));
                }
                other => {
                    let other = if other.is_empty() { "present" } else { other };
                    lost.push(format!("the query parameter {} by `{other}`", short(&key)));
                }
            }
        }
        if lost.len() == before {
            out.queries.push(parts.join(", "));
        }
    }
    if out.narrow && !out.queries.is_empty() {
        out.notes.extend(lost.into_iter().map(|lost| format!("not taken over: {lost}")));
    } else if !lost.is_empty() {
        out.queries.clear();
        out.lost.extend(lost);
    }
}

// --- the main file

fn main_file(
    file: &str,
    root: &Node,
    portal: Option<&str>,
    networks: &[(String, Vec<String>)],
    bad_networks: &[String],
) -> Vec<String> {
    let mut lines = vec![
        format!(
            "# Made by `stepgate import authelia` from {file}. Read the notes, write the apps' addresses, then `stepgate check`."
        ),
        "# Authelia holds `resources` against the path and the query; rules here see the path alone, decoded."
            .to_owned(),
    ];
    let carried = ["access_control", "session", "totp", "definitions", "server", "theme", "log", "default_2fa_method"];
    let others: Vec<&str> =
        root.entries().iter().map(|e| e.key.as_str()).filter(|key| !carried.contains(key)).collect();
    if !others.is_empty() {
        lines.push(format!("# Nothing was taken from: {}.", others.join(", ")));
    }
    if root.get("authentication_backend").is_some_and(|backend| backend.has("ldap")) {
        lines.push(
            "# People stand in LDAP there, which this version does not read: they need accounts here.".to_owned(),
        );
    }
    if root.get("identity_providers").is_some() {
        lines.push(
            "# Apps that sign in by OpenID Connect at Authelia do not by this gate: it stands before them instead."
                .to_owned(),
        );
    }
    lines.extend([
        "version: 1".to_owned(),
        "listen:".to_owned(),
        "  - { addr: \"[::]:443\", role: proxy, tls: { certificates: /etc/stepgate/tls } }".to_owned(),
        "  - { addr: \"[::]:80\", role: redirect }".to_owned(),
        "# A proxy that stays in front is named here, or its word on who the client is does not count.".to_owned(),
        "# trusted_proxies: [10.0.0.0/8]".to_owned(),
    ]);
    if !networks.is_empty() {
        lines.push("networks:".to_owned());
        for (name, nets) in networks {
            lines.push(format!("  {}: {}", network_name(name), list(nets.iter().map(String::as_str))));
        }
    }
    lines.extend(bad_networks.iter().map(|note| format!("# {note}")));
    let totp = root.get("totp");
    let issuer = totp.and_then(|t| t.get("issuer")).map(scalar).filter(|text| !text.trim().is_empty());
    if portal.is_some() || issuer.is_some() {
        let mut parts = Vec::new();
        parts.extend(portal.map(|host| format!("host: {}", plain(host))));
        parts.extend(issuer.map(|issuer| format!("title: {}", quoted(&issuer))));
        lines.push(format!("portal: {{ {} }}", parts.join(", ")));
    }
    session(root, &mut lines);
    if let Some(totp) = totp {
        let mut parts = Vec::new();
        let number = |key: &str| totp.get(key).map(scalar).and_then(|text| text.parse::<u32>().ok());
        parts.extend(number("digits").filter(|n| (6..=8).contains(n)).map(|n| format!("digits: {n}")));
        parts.extend(number("period").filter(|n| (15..=120).contains(n)).map(|n| format!("period: {n}s")));
        parts.extend(number("skew").map(|n| format!("drift: {}", n.min(2))));
        let digest = totp.get("algorithm").map(scalar).unwrap_or_default();
        if !digest.is_empty() && !digest.eq_ignore_ascii_case("sha1") {
            lines.push(format!(
                "# New authenticators go by SHA1 here, which every app knows; imported ones keep {digest}."
            ));
        }
        if !parts.is_empty() {
            lines.push(format!("factors: {{ totp: {{ {} }} }}", parts.join(", ")));
        }
    }
    lines
}

fn session(root: &Node, lines: &mut Vec<String>) {
    let Some(session) = root.get("session") else { return };
    let cookies = session.get("cookies").map(Node::items).unwrap_or_default();
    if cookies.len() > 1 {
        lines.push(format!(
            "# There are {} cookie domains; one portal signs people in for all apps here, whatever their domain.",
            cookies.len()
        ));
    }
    let value = |key: &str| {
        let own = cookies.first().and_then(|cookie| cookie.get(key));
        own.or_else(|| session.get(key)).map(scalar).filter(|text| !text.is_empty())
    };
    let mut parts = Vec::new();
    for (key, ours) in [("inactivity", "idle"), ("expiration", "max")] {
        let Some(text) = value(key) else { continue };
        match seconds(&text) {
            // Ours end sessions by `max` in any case, and say so of an `idle` that is longer.
            Some(secs) if secs >= 10 => {
                let most = value("expiration").and_then(|text| seconds(&text)).filter(|_| ours == "idle");
                parts.push(format!("{ours}: {}", duration(most.map_or(secs, |most| secs.min(most)))));
            }
            _ => lines.push(format!("# session.{key}: {} is not taken over.", short(&text))),
        }
    }
    if !parts.is_empty() {
        lines.push(format!("sessions: {{ {} }}", parts.join(", ")));
    }
    if value("remember_me").is_some() {
        lines.push("# There is no `remember_me` here: a session ends at `max`.".to_owned());
    }
}

fn portal_host(root: &Node) -> Option<String> {
    let session = root.get("session")?;
    let cookie = session.get("cookies").map(Node::items).unwrap_or_default().first()?;
    let url = cookie.get("authelia_url").map(scalar)?;
    let host = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest).split('/').next()?.to_ascii_lowercase();
    HostName::parse(host.as_bytes(), Scheme::Https).is_ok().then_some(host)
}

/// The networks by name, and a note for each one of which nothing can be read.
fn networks(root: &Node) -> (Vec<(String, Vec<String>)>, Vec<String>) {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut notes = Vec::new();
    let mut add = |name: String, nodes: &[Node]| {
        let texts: Vec<String> = nodes.iter().map(scalar).collect();
        let nets: Vec<String> = texts.iter().filter_map(|text| network(text)).collect();
        if nets.len() == texts.len() && !nets.is_empty() {
            found.push((name, nets));
        } else {
            notes.push(format!(
                "The network {} is not taken over: {} is no network.",
                short(&name),
                short(&texts.join(", "))
            ));
        }
    };
    let defined = root.get("definitions").and_then(|d| d.get("network")).map(Node::entries).unwrap_or_default();
    for entry in defined {
        add(entry.key.clone(), entry.node.one_or_many());
    }
    let older = root.get("access_control").and_then(|c| c.get("networks")).map(Node::items).unwrap_or_default();
    for entry in older {
        let name = entry.get("name").map(scalar).unwrap_or_default();
        add(name, entry.get("networks").map(Node::one_or_many).unwrap_or_default());
    }
    (found, notes)
}

/// A network as ours write it; Authelia takes a bare address for a network of one.
pub(super) fn network(text: &str) -> Option<String> {
    let text = text.trim();
    let net = text.parse::<ipnet::IpNet>().map(|net| net.trunc().to_string());
    net.ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(|ip| ip.to_string()))
}

fn network_name(name: &str) -> String {
    let letters = name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' });
    letters.take(63).collect()
}

/// `1h`, `5 minutes`, `1 day and 2 hours`, or seconds.
pub(super) fn seconds(text: &str) -> Option<u64> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(seconds);
    }
    let mut total = 0_u64;
    let squeezed: String = text.replace("and", "").split_whitespace().collect();
    let mut rest = squeezed.as_str();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|at| *at > 0)?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let factor = match unit {
            "s" | "second" | "seconds" => 1,
            "m" | "minute" | "minutes" => 60,
            "h" | "hour" | "hours" => 3600,
            "d" | "day" | "days" => 86_400,
            "w" | "week" | "weeks" => 7 * 86_400,
            "M" | "month" | "months" => 30 * 86_400,
            "y" | "year" | "years" => 365 * 86_400,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(factor)?)?;
        rest = after;
    }
    (total > 0).then_some(total)
}

pub(super) fn duration(secs: u64) -> String {
    match secs {
        secs if secs % 86_400 == 0 => format!("{}d", secs / 86_400),
        secs if secs % 3600 == 0 => format!("{}h", secs / 3600),
        secs if secs % 60 == 0 => format!("{}m", secs / 60),
        secs => format!("{secs}s"),
    }
}
