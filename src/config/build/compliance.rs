//! `compliance:` what of a published standard the files say otherwise. Each finding names its clause. It maps what the
//! configuration can show to clauses, and certifies nothing: most of a standard is about people, machines and paper.

use std::sync::Arc;
use std::time::Duration;

use super::{Context, Source};
use crate::config::snapshot::{FactorSettings, Listener, SessionLimits};
use crate::config::yaml::{Mark, Node};
use crate::domain::level::Level;
use crate::domain::policy::{Outcome, Place};
use crate::domain::route::RouteTable;

pub(in crate::config) static PROFILES: [&str; 4] = ["nist-aal2", "nist-aal3", "pci-dss-4", "owasp-asvs-5"];

/// What a profile asks of the settings that a file can change.
struct Profile {
    name: &'static str,
    /// The clause that asks for two factors.
    factors: &'static str,
    /// The clause that asks that they withstand phishing, where one does.
    phishing: Option<&'static str>,
    /// The longest `idle` and `max`, with their clause.
    idle: Option<(Duration, &'static str)>,
    max: Option<(Duration, &'static str)>,
    /// The shortest password, with its clause.
    password: (usize, &'static str),
    /// The shortest where a password alone is enough.
    password_alone: Option<(usize, &'static str)>,
    /// The clause that a code is good for no longer than it is shown.
    code: Option<&'static str>,
}

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

fn profile(name: &str) -> Option<Profile> {
    Some(match name {
        "nist-aal2" => Profile {
            name: "NIST SP 800-63B-4, AAL2",
            factors: "2.2.1",
            phishing: None,
            idle: Some((HOUR, "2.2.3")),
            max: Some((HOUR.saturating_mul(24), "2.2.3")),
            password: (8, "3.1.1.2"),
            password_alone: Some((15, "3.1.1.2")),
            code: None,
        },
        "nist-aal3" => Profile {
            name: "NIST SP 800-63B-4, AAL3",
            factors: "2.3.1",
            phishing: Some("2.3.2"),
            idle: Some((MINUTE.saturating_mul(15), "2.3.3")),
            max: Some((HOUR.saturating_mul(12), "2.3.3")),
            password: (8, "3.1.1.2"),
            password_alone: Some((15, "3.1.1.2")),
            code: None,
        },
        "pci-dss-4" => Profile {
            name: "PCI DSS 4.0.1",
            factors: "8.4.2",
            phishing: None,
            idle: Some((MINUTE.saturating_mul(15), "8.2.8")),
            max: None,
            password: (12, "8.3.6"),
            password_alone: None,
            code: None,
        },
        "owasp-asvs-5" => Profile {
            name: "OWASP ASVS 5.0",
            factors: "6.3.3",
            phishing: None,
            // It asks for limits that are justified against NIST's; those of AAL2 need no such paper.
            idle: Some((HOUR, "7.1.1, 7.3.1")),
            max: Some((HOUR.saturating_mul(24), "7.1.1, 7.3.2")),
            password: (8, "6.2.1"),
            password_alone: Some((15, "6.2.1, recommended")),
            code: Some("6.5.5"),
        },
        _ => return None,
    })
}

/// Everything that the whole configuration is held against.
pub(super) struct Held<'a> {
    pub(super) routes: &'a RouteTable,
    pub(super) sessions: &'a SessionLimits,
    pub(super) factors: &'a FactorSettings,
    pub(super) listeners: &'a [Listener],
}

pub(super) fn check(context: &mut Context<'_>, main: &Source, held: &Held<'_>) {
    let Some(node) = main.root.get("compliance") else { return };
    let named = node.get("profile").map(Node::one_or_many).unwrap_or_default();
    for (at, profile) in named.iter().filter_map(|n| Some((n.at, profile(n.text()?)?))) {
        Findings { context: &mut *context, main, at, profile }.all(held);
    }
}

struct Findings<'c, 'd, 'm> {
    context: &'c mut Context<'d>,
    main: &'m Source,
    /// Where the profile is named: the place of what stands nowhere.
    at: Mark,
    profile: Profile,
}

impl Findings<'_, '_, '_> {
    fn all(&mut self, held: &Held<'_>) {
        let Held { routes, sessions, factors, listeners } = *held;
        let mut alone = false;
        for route in routes.iter() {
            let policy = &route.policy;
            let rules = policy.in_the_file().iter().map(|rule| (rule.name.as_str(), &rule.place, &rule.outcome));
            for (rule, place, outcome) in rules.chain([("default", &policy.default_place, &policy.default)]) {
                if let Outcome::Require { level, .. } = outcome {
                    alone |= level.requirement.factors < 2;
                    self.level(place, &format!("rule {rule:?} of {}", route.app), level);
                }
            }
            for exception in policy.exceptions() {
                let what = format!("the exception {}", exception.ticket);
                alone |= exception.level.requirement.factors < 2;
                self.level(&exception.place, &what, &exception.level);
            }
        }
        self.limits(sessions);
        self.passwords(factors, alone);
        if let Some(clause) = self.profile.code
            && (factors.totp_drift > 0 || factors.totp_period > Duration::from_secs(30))
        {
            let at = self.place(&["factors", "totp"]);
            self.warn(at, clause, "a code is taken for longer than 30 s", "factors: { totp: { drift: 0 } }");
        }
        for listener in listeners.iter().filter(|l| l.tls.is_none() && l.role == crate::config::snapshot::Role::Proxy) {
            if !listener.addr.ip().is_loopback() && self.profile.name.starts_with("PCI") {
                let at = self.place(&["listen"]);
                let what = format!(
                    "{} speaks clear text: what stands in front must be on a network that counts as private",
                    listener.addr
                );
                self.warn(at, "4.2.1", &what, "tls: { certificates: DIR }");
            }
        }
    }

    fn level(&mut self, place: &Place, what: &str, level: &Level) {
        let phishing = self.profile.phishing;
        let (clause, message) = match phishing {
            _ if level.requirement.factors < 2 => (self.profile.factors, "is content with one factor"),
            Some(clause) if !level.requirement.phishing_resistant => (clause, "takes factors that can be phished"),
            Some(_) | None => return,
        };
        // Only what these files have, and somebody can show.
        let good = |l: &&Arc<Level>| {
            let asked = &l.requirement;
            asked.factors >= 2 && (phishing.is_none() || asked.phishing_resistant) && super::rules::reachable(asked)
        };
        let mut known: Vec<&Arc<Level>> = self.context.levels.iter().filter(good).collect();
        known.sort_by_key(|level| !matches!(level.name.as_str(), "mfa" | "strong"));
        let hint = match (phishing, known.first()) {
            (None, Some(level)) => format!("write a level of two factors, such as {}", level.name),
            (Some(_), Some(level)) => format!("write a level that cannot be phished, such as {}", level.name),
            (None, None) => {
                "no level of these files is one of two factors that can be shown: levels: { two: { factors: 2 } }"
                    .to_owned()
            }
            (Some(_), None) => {
                "no level of these files is one that can be shown and not be phished; security keys and \
                passkeys can: levels: { key: { factors: 2, phishing_resistant: true, kinds: [webauthn] } }"
                    .to_owned()
            }
        };
        let message = format!("{}: {what} asks for {}, which {message}", self.clause(clause), level.name);
        let at = Mark { line: place.line, column: place.column };
        self.context.report.warn_with(&place.file, at, message, hint);
    }

    fn limits(&mut self, sessions: &SessionLimits) {
        for (key, ours, most) in [("idle", sessions.idle, self.profile.idle), ("max", sessions.max, self.profile.max)] {
            if let Some((most, clause)) = most.filter(|(most, _)| ours > *most) {
                let at = self.place(&["sessions", key]);
                let what =
                    format!("`sessions.{key}` is {} min; the most is {} min", ours.as_secs() / 60, most.as_secs() / 60);
                self.warn(at, clause, &what, &format!("sessions: {{ {key}: {}m }}", most.as_secs() / 60));
            }
        }
    }

    fn passwords(&mut self, factors: &FactorSettings, alone: bool) {
        let (least, clause) = match self.profile.password_alone.filter(|_| alone) {
            Some(more) => more,
            None => self.profile.password,
        };
        if factors.password_min < least {
            let at = self.place(&["factors", "password"]);
            let why = if alone && self.profile.password_alone.is_some() { " where one factor is enough" } else { "" };
            let what = format!("new passwords may have {} characters; the least{why} is {least}", factors.password_min);
            self.warn(at, clause, &what, &format!("factors: {{ password: {{ min: {least} }} }}"));
        }
    }

    fn place(&self, keys: &[&str]) -> Mark {
        let mut node = Some(&self.main.root);
        let mut at = self.at;
        for key in keys {
            node = node.and_then(|node| node.get(key));
            at = node.map_or(at, |node| node.at);
        }
        at
    }

    fn clause(&self, clause: &str) -> String {
        format!("{} {clause}", self.profile.name)
    }

    fn warn(&mut self, at: Mark, clause: &str, what: &str, write: &str) {
        let message = format!("{}: {what}", self.clause(clause));
        self.context.report.warn_with(&self.main.name, at, message, format!("write {write}"));
    }
}
