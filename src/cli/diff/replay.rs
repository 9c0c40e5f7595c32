//! `diff --replay`: what the requests of the access log come to under both configurations.
//!
//! The log is the recording: each decision has a line, written off the request threads, cut by whoever rotates it, and
//! without anything of the query or the body (S-LOG-1). So rules that look at one are asked as if there were none.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::BufRead;
use std::sync::Arc;

use http::Method;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::base::clock::Timestamp;
use crate::base::ids::{SessionId, UserId};
use crate::base::net::ClientIp;
use crate::config::expect::{Question, ask};
use crate::config::{Snapshot, level_said};
use crate::domain::authn::{Authn, AuthnContext};
use crate::domain::factor::{FactorKind, FactorUse};
use crate::domain::level::Missing;
use crate::domain::policy::Decision;
use crate::domain::policy::content::Content;
use crate::domain::route::Route;
use crate::domain::user::{GroupName, User, UserName};

/// What of a line is needed.
#[derive(Deserialize)]
struct Line<'a> {
    time: &'a str,
    client: &'a str,
    method: &'a str,
    #[serde(borrow)]
    path: std::borrow::Cow<'a, str>,
    app: Option<&'a str>,
    verdict: Option<&'a str>,
    #[serde(borrow)]
    user: Option<std::borrow::Cow<'a, str>>,
    session: Option<&'a str>,
}

/// Requests that come to something else, by app, rule and verdict.
pub struct Changed {
    pub app: String,
    pub rules: (String, String),
    pub before: String,
    pub after: String,
    pub requests: u64,
    pub people: BTreeSet<String>,
}

#[derive(Default)]
pub struct Replay {
    pub changed: Vec<Changed>,
    pub requests: u64,
    /// Lines that hold no decision, or of before `since`.
    pub passed_over: u64,
    /// Decisions that cannot be asked again: a line of another program, an app that the old configuration has not.
    pub unread: u64,
    /// Decisions of people who have no account any more, asked as if they were in no group.
    pub unknown: HashSet<String>,
    pub person_days: usize,
    /// Questions for a password or factor that both would have asked.
    pub prompts: (u64, u64),
    /// Some rule looks at what the log does not hold.
    pub reads_query: bool,
}

/// Somebody's session in the replay: what they would have shown by now, under each configuration.
struct Sitting {
    name: UserName,
    groups: Arc<Vec<GroupName>>,
    evidence: [Authn; 2],
}

/// What is told in one line.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    app: String,
    rules: (String, String),
    before: String,
    after: String,
}

pub struct Replayer<'a> {
    snapshots: [&'a Snapshot; 2],
    since: Option<Timestamp>,
    accounts: HashMap<&'a str, Arc<Vec<GroupName>>>,
    sittings: HashMap<String, Sitting>,
    days: HashSet<(String, i64)>,
    changed: BTreeMap<Key, (u64, BTreeSet<String>)>,
    found: Replay,
}

impl<'a> Replayer<'a> {
    pub fn new(old: &'a Snapshot, new: &'a Snapshot, users: &'a [User], since: Option<Timestamp>) -> Self {
        let reads_query = [old, new]
            .iter()
            .flat_map(|snapshot| snapshot.routes.iter())
            .flat_map(|route| route.policy.in_the_file())
            .any(|rule| !rule.matcher.query.is_empty() || rule.matcher.reads_content());
        Self {
            snapshots: [old, new],
            since,
            accounts: users.iter().map(|user| (user.name.as_str(), Arc::new(user.groups.clone()))).collect(),
            sittings: HashMap::new(),
            days: HashSet::new(),
            changed: BTreeMap::new(),
            found: Replay { reads_query, ..Replay::default() },
        }
    }

    /// Asks every decision of a log again.
    pub fn read(&mut self, mut log: impl BufRead) -> std::io::Result<()> {
        let mut text = Vec::new();
        loop {
            text.clear();
            if log.read_until(b'\n', &mut text)? == 0 {
                return Ok(());
            }
            // A line that was cut by a full disk, or of something else in the same file.
            let line: Option<Line<'_>> = serde_json::from_slice(&text).ok();
            match line {
                Some(line) => self.line(&line),
                None if text.iter().all(u8::is_ascii_whitespace) => {}
                None => self.found.unread += 1,
            }
        }
    }

    pub fn end(mut self) -> Replay {
        self.found.person_days = self.days.len();
        self.found.changed = self
            .changed
            .into_iter()
            .map(|(Key { app, rules, before, after }, (requests, people))| Changed {
                app,
                rules,
                before,
                after,
                requests,
                people,
            })
            .collect();
        self.found.changed.sort_by_key(|changed| std::cmp::Reverse(changed.requests));
        self.found
    }

    fn line(&mut self, line: &Line<'_>) {
        let (Some(app), Some(_)) = (line.app, line.verdict) else {
            self.found.passed_over += 1;
            return;
        };
        let asked = (|| {
            let now = Timestamp::parse_rfc3339(line.time).ok()?;
            let method = Method::from_bytes(line.method.as_bytes()).ok()?;
            let client = ClientIp::new(line.client.parse().ok()?);
            Some((now, method, client, Arc::clone(self.snapshots[0].routes.app(app)?)))
        })();
        let Some((now, method, client, old)) = asked else {
            self.found.unread += 1;
            return;
        };
        if self.since.is_some_and(|since| now < since) {
            self.found.passed_over += 1;
            return;
        }
        let new = self.snapshots[1].routes.app(app).cloned();
        let question = |authn: &Authn, route: &Route| {
            let question =
                Question { method: &method, target: &line.path, content: &Content::Nothing, client, authn, now };
            ask(route, &question, &mut ())
        };
        let key = line.session.filter(|_| line.user.is_some());
        let sitting = key.and_then(|key| self.sitting(key, line.user.as_deref().unwrap_or_default()));
        // Without anything shown the verdict names what is asked for.
        let bare =
            sitting.as_ref().map_or(Authn::Anonymous, |sitting| known(&sitting.name, &sitting.groups, Vec::new()));
        let before = said(question(&bare, &old), self.snapshots[1]);
        let after = match &new {
            Some(route) => said(question(&bare, route), self.snapshots[0]),
            None => ("-".to_owned(), "no app".to_owned()),
        };
        self.found.requests += 1;
        if before.1 != after.1 {
            let key = Key { app: app.to_owned(), rules: (before.0, after.0), before: before.1, after: after.1 };
            let entry = self.changed.entry(key).or_default();
            entry.0 += 1;
            if let Some(user) = &line.user {
                entry.1.insert(user.clone().into_owned());
            }
        }
        let (Some(key), Some(mut sitting)) = (key, sitting) else { return };
        self.days.insert((sitting.name.as_str().to_owned(), now.as_secs().div_euclid(86_400)));
        for (side, route) in [Some(old), new].into_iter().enumerate() {
            let (Some(route), Some(authn)) = (route, sitting.evidence.get_mut(side)) else { continue };
            let Ok(Decision::Challenge(challenge)) = question(authn, &route) else { continue };
            // Nobody passes here: no page asks for what there is not.
            let Some(shown) = shown(&challenge.missing, now) else { continue };
            let prompts = if side == 0 { &mut self.found.prompts.0 } else { &mut self.found.prompts.1 };
            *prompts += 1;
            let Authn::Known(context) = &*authn else { continue };
            let mut evidence: Vec<FactorUse> =
                context.evidence.iter().filter(|old| !shown.iter().any(|new| new.kind == old.kind)).cloned().collect();
            evidence.extend(shown);
            *authn = known(&sitting.name, &sitting.groups, evidence);
        }
        self.sittings.insert(key.to_owned(), sitting);
    }

    /// Takes somebody's sitting out, or begins it.
    fn sitting(&mut self, session: &str, user: &str) -> Option<Sitting> {
        if let Some(sitting) = self.sittings.remove(session) {
            return Some(sitting);
        }
        let name = UserName::parse(user).ok()?;
        let groups = match self.accounts.get(user) {
            Some(groups) => Arc::clone(groups),
            None => {
                self.found.unknown.insert(user.to_owned());
                Arc::default()
            }
        };
        let nothing = known(&name, &groups, Vec::new());
        Some(Sitting { name, groups, evidence: [nothing.clone(), nothing] })
    }
}

fn known(name: &UserName, groups: &[GroupName], evidence: Vec<FactorUse>) -> Authn {
    Authn::Known(Arc::new(AuthnContext {
        user: UserId::nil(),
        name: name.clone(),
        display: String::new(),
        email: None,
        groups: groups.to_vec(),
        session: SessionId::nil(),
        ever_enrolled: true,
        evidence,
    }))
}

/// What somebody shows who is asked for this; `None` where no factor of this version is it.
fn shown(missing: &Missing, now: Timestamp) -> Option<Vec<FactorUse>> {
    let factor = missing.any_of.iter().copied().find(|kind| kind.is_available());
    if factor.is_none() && !missing.password {
        return None;
    }
    let seen = |kind: FactorKind| FactorUse {
        kind,
        at: now,
        phishing_resistant: matches!(kind, FactorKind::Webauthn | FactorKind::ClientCertificate),
        user_verified: kind == FactorKind::Webauthn,
        credential: None,
        remembered: false,
    };
    Some(missing.password.then_some(FactorKind::Password).into_iter().chain(factor).map(seen).collect())
}

/// The rule that decides, and what it says.
fn said(asked: Result<Decision, crate::domain::path::PathError>, other: &Snapshot) -> (String, String) {
    match asked {
        Err(_) => ("-".to_owned(), "refused with 400".to_owned()),
        Ok(Decision::Deny(deny)) => (deny.rule.to_string(), "denied".to_owned()),
        Ok(Decision::Challenge(challenge)) => (challenge.rule.to_string(), level_said(&challenge.level, other)),
        Ok(Decision::Allow(permit)) => (permit.rule().to_string(), "no sign-in".to_owned()),
    }
}

impl Replay {
    pub fn is_same(&self) -> bool {
        self.changed.is_empty() && self.prompts.0 == self.prompts.1
    }

    pub fn changed_requests(&self) -> u64 {
        self.changed.iter().map(|changed| changed.requests).sum()
    }

    pub fn changed_people(&self) -> usize {
        self.changed.iter().flat_map(|changed| &changed.people).collect::<BTreeSet<_>>().len()
    }

    /// Prompts per person and day, before and after.
    pub fn per_day(&self) -> (f64, f64) {
        #[expect(clippy::cast_precision_loss, reason = "a mean for people, of numbers far below 2^52")]
        let mean = |prompts: u64| prompts as f64 / self.person_days.max(1) as f64;
        (mean(self.prompts.0), mean(self.prompts.1))
    }

    pub fn report(&self) -> Json {
        let changed = |changed: &Changed| {
            json!({
                "app": changed.app, "rule_before": changed.rules.0, "rule_after": changed.rules.1,
                "before": changed.before, "after": changed.after, "requests": changed.requests, "people": changed.people,
            })
        };
        let (before, after) = self.per_day();
        json!({
            "requests": self.requests,
            "changed_requests": self.changed_requests(),
            "changed_people": self.changed_people(),
            "changed": self.changed.iter().map(changed).collect::<Vec<_>>(),
            "person_days": self.person_days,
            "prompts": { "before": self.prompts.0, "after": self.prompts.1 },
            "prompts_per_person_and_day": { "before": before, "after": after },
            "passed_over": self.passed_over,
            "unread": self.unread,
            "unknown_people": self.unknown.len(),
        })
    }
}
