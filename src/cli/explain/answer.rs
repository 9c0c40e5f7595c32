//! What `explain` found out, as text for people and as JSON for scripts.

use std::fmt::Write as _;

use std::sync::Arc;

use http::Method;
use serde_json::{Value as Json, json};

use super::{ExplainArgs, Person};
use crate::base::clock::Timestamp;
use crate::config::Snapshot;
use crate::config::expect::Question;
use crate::domain::level::{Missing, Why};
use crate::domain::path::CanonicalPath;
use crate::domain::policy::lockdown::LOCKDOWN;
use crate::domain::policy::matcher::{Matcher, Miss};
use crate::domain::policy::trace::TraceRow;
use crate::domain::policy::{
    Answer as PolicyAnswer, Content, Decision, DenyReason, Exception, Outcome, Seen, Shadow, ShadowVerdict, TraceTable,
    Who,
};
use crate::domain::posture::Posture;
use crate::domain::route::Route;
use crate::domain::user::GroupName;

/// What `explain` found out.
#[derive(Debug)]
pub(super) struct Answer {
    /// The request in one line.
    pub(super) asked: String,
    /// Who, with what, from where, when.
    pub(super) circumstances: String,
    pub(super) verdict: &'static str,
    pub(super) posture: Posture,
    pub(super) app: Option<String>,
    pub(super) rule: Option<String>,
    /// `file:line` of the rule.
    pub(super) place: Option<String>,
    pub(super) level: Option<String>,
    pub(super) missing: Option<Missing>,
    /// What the rule says in place of the app.
    pub(super) answer: Option<String>,
    /// Where a redirect sends this very request.
    pub(super) location: Option<String>,
    /// What let the person off the rule's level.
    pub(super) exception: Option<Arc<Exception>>,
    /// Until when they may pass without a second factor, where that is why they pass.
    pub(super) grace: Option<Timestamp>,
    /// A rule that is not enforced would have decided.
    pub(super) shadow: Option<Shadow>,
    /// A sentence that says why.
    pub(super) reason: String,
    /// Further things to know.
    pub(super) notes: Vec<String>,
    pub(super) rows: Vec<Row>,
}

/// One rule in the trace.
#[derive(Debug)]
pub(super) struct Row {
    rule: String,
    place: String,
    mark: Mark,
    condition: Option<&'static str>,
    wanted: String,
    seen: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Matched,
    Missed,
    NotReached,
    /// It would decide, and is not enforced.
    Shadow,
    /// It depends on something that was not said.
    NotKnown,
}

pub(super) fn settle(answer: &mut Answer, snapshot: &Snapshot, route: &Route, decision: &Decision, person: &Person) {
    let rule = match decision {
        Decision::Allow(permit) => permit.rule(),
        Decision::Challenge(challenge) => &challenge.rule,
        Decision::Deny(deny) => &deny.rule,
    };
    let found = route.policy.rule(rule);
    answer.rule = Some(rule.to_string());
    if rule.as_str() != LOCKDOWN {
        let place = found.map_or(&route.policy.default_place, |r| &r.place);
        answer.place = Some(format!("{}:{}", place.file, place.line));
    }
    let outcome = found.map_or(&route.policy.default, |r| &r.outcome);
    match decision {
        Decision::Allow(permit) => {
            answer.verdict = "allow";
            answer.level = Some(permit.level().map_or_else(|| "none".to_owned(), ToString::to_string));
            answer.reason = match permit.level() {
                Some(level) => format!("what was shown is enough for `{level}`"),
                None => "nobody is asked who they are".to_owned(),
            };
            if let Some(until) = permit.grace() {
                answer.notes.push(format!("a second factor is not asked for until {until}: they never had one"));
                answer.grace = Some(until);
            }
            answer.answer = permit.answer().map(|answer| match &**answer {
                PolicyAnswer::Redirect(redirect) => {
                    format!("redirect {} {}", redirect.status.as_u16(), redirect.target())
                }
                PolicyAnswer::Respond(respond) => format!("respond {}", respond.status.as_u16()),
            });
        }
        Decision::Challenge(challenge) => {
            answer.verdict = "challenge";
            answer.level = Some(challenge.level.name.to_string());
            answer.reason =
                format!("`{}` is asked for: {}", challenge.level.name, asked_for(snapshot, &challenge.missing));
            answer.missing = Some(challenge.missing.clone());
        }
        Decision::Deny(deny) => {
            answer.verdict = "deny";
            answer.reason = match &deny.reason {
                DenyReason::Rule { sentence } => sentence.to_string(),
                DenyReason::NotAllowed => match outcome {
                    Outcome::Public { allow } | Outcome::Require { allow, .. } => {
                        format!("only {} may pass", names(&allow.0))
                    }
                    Outcome::Deny { sentence } => sentence.to_string(),
                },
            };
            if !person.groups_known {
                answer.notes.push("the groups of the account are not known: give --groups".to_owned());
            }
        }
    }
}

/// Names what lets this person off the level of the rule, or did until it ended.
pub(super) fn excepted(answer: &mut Answer, route: &Route, decision: &Decision, person: &Person, now: Timestamp) {
    let (rule, exception) = match decision {
        Decision::Allow(permit) => (permit.rule(), permit.exception()),
        Decision::Challenge(challenge) => (&challenge.rule, challenge.exception.as_ref()),
        Decision::Deny(_) => return,
    };
    let rule_level = route.policy.rule(rule).map_or(&route.policy.default, |r| &r.outcome);
    if let (Some(exception), Outcome::Require { level, .. }) = (exception, rule_level) {
        let Exception { place, ticket, approved_by, until, .. } = &**exception;
        answer.notes.push(format!(
            "let off `{}` by the exception {ticket} ({}:{}), approved by {approved_by}, until {until}",
            level.name, place.file, place.line
        ));
        answer.exception = Some(Arc::clone(exception));
        return;
    }
    let Some(context) = person.authn.known() else { return };
    let ended = route.policy.exceptions().iter().filter(|e| e.has_ended(now));
    for e in ended.filter(|e| answer.verdict == "challenge" && e.is_for(rule, &context.name, &context.groups)) {
        answer.notes.push(format!("the exception {} ended at {}: it lets nobody off any more", e.ticket, e.until));
    }
}

fn exception_json(exception: &Exception) -> Json {
    json!({
        "ticket": &*exception.ticket,
        "approved_by": &*exception.approved_by,
        "until": exception.until.to_string(),
        "level": exception.level.name.as_str(),
        "place": format!("{}:{}", exception.place.file, exception.place.line),
    })
}

/// Notes what a rule would have said that is tried and not enforced yet.
pub(super) fn shadowed(answer: &mut Answer, route: &Route, shadow: Shadow) {
    let (verdict, level) = shadow_words(&shadow);
    let rule = route.policy.in_the_file().iter().find(|rule| rule.name == shadow.rule);
    let place = rule.map(|rule| format!(" ({}:{})", rule.place.file, rule.place.line)).unwrap_or_default();
    let level = level.map(|level| format!(" {level}")).unwrap_or_default();
    answer.notes.push(format!("shadow rule {}{place} would say {verdict}{level}", shadow.rule));
    answer.shadow = Some(shadow);
}

fn shadow_words(shadow: &Shadow) -> (&'static str, Option<&str>) {
    match &shadow.verdict {
        ShadowVerdict::Allow => ("allow", None),
        ShadowVerdict::Challenge(level) => ("challenge", Some(level.as_str())),
        ShadowVerdict::Deny => ("deny", None),
    }
}

fn shadow_json(shadow: &Shadow) -> Json {
    let (verdict, level) = shadow_words(shadow);
    json!({ "rule": shadow.rule.as_str(), "verdict": verdict, "level": level })
}

/// Where the browser goes next, where a rule redirects; `origin` is that of the request.
pub(super) fn sent_to(route: &Route, decision: &Decision, target: &str, origin: &str) -> Option<String> {
    let Decision::Allow(permit) = decision else { return None };
    let PolicyAnswer::Redirect(redirect) = &**permit.answer()? else { return None };
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let location = redirect.location(&CanonicalPath::parse(path, route.policy.forms).ok()?, query);
    Some(if location.starts_with('/') { format!("{origin}{location}") } else { location })
}

/// What the person would be asked, in words.
fn asked_for(snapshot: &Snapshot, missing: &Missing) -> String {
    let why = match missing.why {
        Why::Login => "nobody is signed in",
        Why::MoreFactors => "one more factor is missing",
        Why::Stale => "what was shown is too old",
        Why::Stronger => "what was shown is of another kind",
    };
    // What nobody can enroll in this version would send people looking for it.
    let kinds: Vec<&str> = missing.any_of.iter().filter(|k| snapshot.offers(**k)).map(|k| k.as_str()).collect();
    if kinds.is_empty() && !missing.any_of.is_empty() {
        return format!("{why}, and no factor of this version can show it");
    }
    match (missing.password, kinds.is_empty()) {
        (true, true) => format!("{why}; the password is next"),
        (true, false) => format!("{why}; the password is next, then one of {}", kinds.join(", ")),
        (false, false) => format!("{why}; one of {} is next", kinds.join(", ")),
        (false, true) => why.to_owned(),
    }
}

pub(super) fn rows(
    route: &Route,
    trace: &TraceTable,
    args: &ExplainArgs,
    person: &Person,
    question: &Question<'_>,
) -> Vec<Row> {
    let rules = route.policy.in_the_file().iter();
    trace
        .rows
        .iter()
        .zip(rules)
        .map(|(row, rule)| self::row(row, &rule.matcher, trace, args, person, question, route.policy.posture()))
        .collect()
}

fn row(
    row: &TraceRow,
    matcher: &Matcher,
    trace: &TraceTable,
    args: &ExplainArgs,
    person: &Person,
    question: &Question<'_>,
    posture: Posture,
) -> Row {
    let mut out = Row {
        rule: row.rule.clone(),
        place: format!("{}:{}", row.file, row.line),
        mark: Mark::Missed,
        condition: None,
        wanted: String::new(),
        seen: String::new(),
    };
    let miss = match row.seen {
        Seen::Matched => {
            out.mark = Mark::Matched;
            return out;
        }
        Seen::NotReached => {
            out.mark = Mark::NotReached;
            return out;
        }
        Seen::Shadow => {
            out.mark = Mark::Shadow;
            return out;
        }
        Seen::Missed(miss) => miss,
    };
    let person_name = || question.authn.known().map_or_else(|| "nobody".to_owned(), |c| c.name.to_string());
    let (condition, wanted, seen) = match miss {
        Miss::Posture => {
            let wanted: Vec<&str> = matcher.postures.iter().map(|p| p.as_str()).collect();
            ("posture", wanted.join(", "), posture.to_string())
        }
        Miss::Path => {
            let paths: Vec<&str> = matcher.paths.iter().map(|p| p.as_str()).collect();
            ("path", paths.join(", "), trace.path.clone())
        }
        Miss::Method => {
            let methods: Vec<&str> = matcher.methods.iter().map(Method::as_str).collect();
            ("method", methods.join(", "), trace.method.clone())
        }
        Miss::Query => {
            let wanted = matcher.query.iter().map(|q| format!("{}={}", q.name(), q.values().join("|")));
            let query = question.target.split_once('?').map_or("no query", |(_, q)| q);
            ("query", wanted.collect::<Vec<_>>().join(", "), query.to_owned())
        }
        Miss::Form => {
            let wanted = matcher.form.iter().map(|f| format!("{}={}", f.name(), f.values().join("|")));
            let seen = carried(question.content, &mut out.mark);
            ("form", wanted.collect::<Vec<_>>().join(", "), seen.to_owned())
        }
        Miss::Json => {
            let wanted = matcher.json.iter().map(|f| format!("{}={}", f.name(), f.values().join("|")));
            let seen = carried(question.content, &mut out.mark);
            ("json", wanted.collect::<Vec<_>>().join(", "), seen.to_owned())
        }
        Miss::From => {
            let wanted = matcher.from.as_ref().map(|(names, _)| names.clone()).unwrap_or_default();
            match args.from {
                Some(ip) => ("from", wanted, ip.to_string()),
                None => {
                    out.mark = Mark::NotKnown;
                    ("from", wanted, "give --from".to_owned())
                }
            }
        }
        Miss::Hours => {
            let hours = matcher.hours.as_ref();
            let local = hours.map(|h| h.local(question.now)).unwrap_or_default();
            ("hours", hours.map(|h| h.as_str().to_owned()).unwrap_or_default(), local)
        }
        Miss::Who if !person.groups_known && matcher.who.iter().any(|w| matches!(w, Who::Group(_))) => {
            out.mark = Mark::NotKnown;
            ("who", names(&matcher.who), "give --groups".to_owned())
        }
        Miss::Who => ("who", names(&matcher.who), person_name()),
        Miss::WhoUnknown => ("who", names(&matcher.who), "nobody is signed in".to_owned()),
    };
    out.condition = Some(condition);
    out.wanted = wanted;
    out.seen = seen;
    out
}

/// What stands in the place of the fields that a rule misses. A request about whose body nothing was said was judged
/// as one without, which is perhaps not what was meant.
fn carried(content: &Content, mark: &mut Mark) -> &'static str {
    match content {
        Content::Nothing => {
            *mark = Mark::NotKnown;
            "no body: give --form or --json-body"
        }
        Content::Form(_) => "another form",
        Content::Json(_) => "another document",
        Content::Unread => "a body that holds anything",
    }
}

fn names(who: &[Who]) -> String {
    let texts = who.iter().map(|w| match w {
        Who::Anyone => "anyone".to_owned(),
        Who::User(name) => format!("user:{name}"),
        Who::Group(name) => format!("group:{name}"),
    });
    texts.collect::<Vec<_>>().join(", ")
}

pub(super) fn circumstances(args: &ExplainArgs, person: &Person, posture: Posture, now: Timestamp) -> String {
    let mut text = match person.authn.known() {
        None => "nobody signed in".to_owned(),
        Some(context) => {
            let groups: Vec<&str> = context.groups.iter().map(GroupName::as_str).collect();
            let groups = match (person.groups_known, groups.is_empty()) {
                (false, _) => "groups not known".to_owned(),
                (true, true) => "no groups".to_owned(),
                (true, false) => groups.join(", "),
            };
            let shown =
                args.at.as_deref().map_or_else(|| "their password".to_owned(), |l| format!("just what `{l}` asks for"));
            format!("as {} ({groups}), having shown {shown}", context.name)
        }
    };
    match args.from {
        Some(ip) => {
            let _ = write!(text, ", from {ip}");
        }
        None => text.push_str(", from no known network"),
    }
    match args.body.content() {
        Content::Nothing => {}
        Content::Unread => text.push_str(", sending what no rule can look into"),
        Content::Json(_) => text.push_str(", sending a JSON document"),
        Content::Form(_) => {
            let fields: Vec<String> = args.body.form.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let _ = write!(text, ", sending {}", fields.join(" "));
        }
    }
    if posture != Posture::Normal {
        let _ = write!(text, ", in the posture {posture}");
    }
    let _ = write!(text, ", at {now}");
    text
}

impl Mark {
    fn sign(self) -> &'static str {
        match self {
            Self::Matched => "✓",
            Self::Missed => "✗",
            Self::NotReached => "·",
            Self::Shadow => "~",
            Self::NotKnown => "?",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Matched => "matched",
            Self::Missed => "missed",
            Self::NotReached => "not_reached",
            Self::Shadow => "shadow",
            Self::NotKnown => "not_known",
        }
    }
}

impl Row {
    fn why(&self) -> String {
        match (self.mark, self.condition) {
            (Mark::Matched, _) => "matched: this rule decides".to_owned(),
            (Mark::NotReached, _) => "not reached".to_owned(),
            (Mark::Shadow, _) => "matched: shadow, not enforced".to_owned(),
            (Mark::NotKnown, Some(condition)) => {
                format!("{condition}: wants {}, not known ({})", self.wanted, self.seen)
            }
            (Mark::Missed | Mark::NotKnown, condition) => {
                format!("{}: wants {}, seen {}", condition.unwrap_or("match"), self.wanted, self.seen)
            }
        }
    }
}

impl Answer {
    pub(super) fn json(&self) -> Json {
        let missing = self.missing.as_ref().map(|m| {
            let why = match m.why {
                Why::Login => "login",
                Why::MoreFactors => "more_factors",
                Why::Stale => "stale",
                Why::Stronger => "stronger",
            };
            json!({ "why": why, "password": m.password, "any_of": m.any_of })
        });
        let trace = self.rows.iter().map(|row| {
            json!({
                "rule": row.rule,
                "place": row.place,
                "mark": row.mark.word(),
                "condition": row.condition,
                "wanted": row.condition.map(|_| &row.wanted),
                "seen": row.condition.map(|_| &row.seen),
            })
        });
        json!({
            "verdict": self.verdict,
            "posture": self.posture.as_str(),
            "app": self.app,
            "rule": self.rule,
            "place": self.place,
            "level": self.level,
            "missing": missing,
            "answer": self.answer,
            "location": self.location,
            "grace": self.grace.map(|until| until.to_string()),
            "exception": self.exception.as_deref().map(exception_json),
            "shadow": self.shadow.as_ref().map(shadow_json),
            "reason": self.reason,
            "notes": self.notes,
            "trace": trace.collect::<Vec<_>>(),
        })
    }

    pub(super) fn text(&self) -> String {
        let mut out = format!("{}\n{}\n\n", self.asked, self.circumstances);
        let _ = write!(out, "{}", self.verdict.to_uppercase());
        if let (Some(rule), Some(place)) = (&self.rule, &self.place) {
            let what = if rule == "default" { "the app's default".to_owned() } else { format!("rule {rule}") };
            let _ = write!(out, " by {what} ({place})");
        } else if self.rule.as_deref() == Some(LOCKDOWN) {
            out.push_str(" by the lockdown");
        }
        let _ = writeln!(out, ": {}", self.reason);
        if let Some(answer) = &self.answer {
            let _ = write!(out, "the gate answers itself: {answer}");
            let _ = match &self.location {
                Some(location) => writeln!(out, ", here to {location}"),
                None => writeln!(out),
            };
        }
        for note in &self.notes {
            let _ = writeln!(out, "note: {note}");
        }
        if self.rows.is_empty() {
            return out;
        }
        out.push('\n');
        let wide = |f: &dyn Fn(&Row) -> usize| self.rows.iter().map(f).max().unwrap_or(0).min(48);
        let (rules, places) = (wide(&|r| r.rule.chars().count()), wide(&|r| r.place.chars().count()));
        for row in &self.rows {
            let _ = writeln!(out, "  {} {:rules$}  {:places$}  {}", row.mark.sign(), row.rule, row.place, row.why());
        }
        if self.rule.as_deref() == Some("default") {
            let _ = writeln!(
                out,
                "  {} {:rules$}  {:places$}  no rule matched",
                Mark::Matched.sign(),
                "default",
                self.place.as_deref().unwrap_or("")
            );
        }
        out
    }
}
