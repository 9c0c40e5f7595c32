//! `check --with-store`: rules whose people cannot give what they ask for, by the accounts as they are.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::base::clock::Timestamp;
use crate::base::ids::UserId;
use crate::config::{Fault, Snapshot, Warning};
use crate::domain::factor::{FactorKind, FactorUse};
use crate::domain::level::Level;
use crate::domain::policy::{Outcome, Place, Policy, RuleName, Who};
use crate::domain::user::{User, UserStatus};

/// So many people of one rule are named.
const NAMED: usize = 5;

/// The accounts, with what each of them could show.
pub struct Accounts {
    pub users: Vec<User>,
    pub kinds: HashMap<UserId, Vec<FactorKind>>,
    pub with_password: HashSet<UserId>,
}

/// Rules some of whose people have nothing that meets their level, and rules that nobody meets; then the console.
pub fn warnings(snapshot: &Snapshot, accounts: &Accounts, now: Timestamp) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for route in snapshot.routes.iter() {
        let policy = &route.policy;
        for rule in policy.in_the_file() {
            let Outcome::Require { allow, level } = &rule.outcome else { continue };
            let what = format!("rule {:?} of {}", rule.name.as_str(), route.app);
            let asked = Asked { policy, rule: &rule.name, allow: &allow.0, who: &rule.matcher.who, level };
            warnings.extend(about(&what, &rule.place, &asked, accounts, now));
        }
        if let Outcome::Require { allow, level } = &policy.default {
            let what = format!("{} itself", route.app);
            let asked = Asked { policy, rule: &policy.default_name, allow: &allow.0, who: &[], level };
            warnings.extend(about(&what, &policy.default_place, &asked, accounts, now));
        }
    }
    warnings.extend(console(snapshot, accounts, now));
    warnings
}

/// Whom a rule lets in, and what it asks of them.
struct Asked<'a> {
    policy: &'a Policy,
    rule: &'a RuleName,
    allow: &'a [Who],
    who: &'a [Who],
    level: &'a Level,
}

impl Asked<'_> {
    /// Whether somebody is one of its people and could be here at all.
    fn is_for(&self, user: &User) -> bool {
        let named = |list: &[Who]| list.iter().any(|who| who.names(&user.name, &user.groups));
        user.status == UserStatus::Active && named(self.allow) && (self.who.is_empty() || named(self.who))
    }

    fn is_met_by(&self, user: &User, accounts: &Accounts, now: Timestamp) -> bool {
        let excepted = self.policy.lets_off(self.rule, &user.name, &user.groups, now).next();
        accounts.meets(user, excepted.map_or(self.level, |exception| &exception.level), now)
    }
}

impl Accounts {
    /// Whether everything that somebody has, shown now, is enough.
    pub fn meets(&self, user: &User, level: &Level, now: Timestamp) -> bool {
        let password = self.with_password.contains(&user.id).then_some(FactorKind::Password);
        let kinds = self.kinds.get(&user.id).map_or(&[][..], Vec::as_slice);
        let shown = |kind: FactorKind| FactorUse {
            kind,
            at: now,
            phishing_resistant: matches!(kind, FactorKind::Webauthn | FactorKind::ClientCertificate),
            user_verified: kind == FactorKind::Webauthn,
            credential: None,
            remembered: false,
        };
        let evidence: Vec<FactorUse> = password.into_iter().chain(kinds.iter().copied()).map(shown).collect();
        level.requirement.missing(&evidence, now).is_none()
    }
}

fn about(what: &str, place: &Place, asked: &Asked<'_>, accounts: &Accounts, now: Timestamp) -> Option<Warning> {
    let people: Vec<&User> = accounts.users.iter().filter(|user| asked.is_for(user)).collect();
    let without: Vec<&User> = people.iter().copied().filter(|user| !asked.is_met_by(user, accounts, now)).collect();
    let level = &asked.level.name;
    let message = if people.is_empty() {
        format!("{what} lets in nobody: no active account is one of those it names")
    } else if without.len() == people.len() {
        format!(
            "{what} asks for {level}, and none of the {} accounts that it lets in has what that takes",
            people.len()
        )
    } else if !without.is_empty() {
        let mut names: Vec<&str> = without.iter().take(NAMED).map(|user| user.name.as_str()).collect();
        let more = format!("and {} more", without.len().saturating_sub(NAMED));
        if without.len() > NAMED {
            names.push(&more);
        }
        let (n, of) = (without.len(), people.len());
        format!(
            "{what} asks for {level}, which {n} of {of} accounts that it lets in have nothing for: {}",
            names.join(", ")
        )
    } else {
        return None;
    };
    let hint = if people.is_empty() {
        "`stepgate user list` shows who is in which group".to_owned()
    } else {
        "`stepgate user link NAME` lets somebody enroll".to_owned()
    };
    Some(warning(place, message, hint))
}

/// The console asks for `strong` of everybody.
fn console(snapshot: &Snapshot, accounts: &Accounts, now: Timestamp) -> Option<Warning> {
    let level = Arc::clone(snapshot.level("strong")?);
    if snapshot.admin.is_empty() {
        return None;
    }
    let named = |user: &&User| {
        user.status == UserStatus::Active && snapshot.admin.iter().any(|who| who.names(&user.name, &user.groups))
    };
    let people: Vec<&User> = accounts.users.iter().filter(named).collect();
    if people.iter().any(|user| accounts.meets(user, &level, now)) {
        return None;
    }
    let message = if people.is_empty() {
        "`admin.allow` names no active account: nobody could open the console".to_owned()
    } else {
        "nobody whom `admin.allow` names has what the level strong takes: nobody could open the console".to_owned()
    };
    let file = snapshot.files.first().map(|file| file.display().to_string()).unwrap_or_default();
    Some(Warning(Fault::of_file(&file, message)))
}

fn warning(place: &Place, message: String, hint: String) -> Warning {
    let file = Arc::clone(&place.file);
    Warning(Fault { file, line: place.line, column: place.column, message, hint: Some(hint) })
}
