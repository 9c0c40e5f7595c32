//! What `decide()` says before and after, and to whom.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::requests::{Request, people, requests};
use crate::base::clock::Timestamp;
use crate::base::ids::{SessionId, UserId};
use crate::config::expect::{Question, ask};
use crate::config::{Snapshot, level_said};
use crate::domain::authn::{Authn, AuthnContext};
use crate::domain::policy::{Decision, Policy, Who};
use crate::domain::route::Route;
use crate::domain::user::{GroupName, UserName};

/// The same people are told something else about these requests.
pub struct Difference {
    pub app: String,
    pub who: String,
    pub before: String,
    pub after: String,
    pub requests: Vec<String>,
}

pub struct Compared {
    pub differences: Vec<Difference>,
    /// Questions asked of each configuration.
    pub asked: usize,
    /// The most kinds of people of one app.
    pub people: usize,
}

pub fn compare(old: &Snapshot, new: &Snapshot, now: Timestamp) -> Compared {
    let mut compared = Compared { differences: Vec::new(), asked: 0, people: 0 };
    let apps: BTreeSet<&str> = old.routes.iter().chain(new.routes.iter()).map(|route| route.app.as_str()).collect();
    for app in apps {
        let (before, after) = (old.routes.app(app), new.routes.app(app));
        // An app that comes or goes is told as such: every verdict about it would be another.
        let (Some(before), Some(after)) = (before, after) else { continue };
        let policies = [&before.policy, &after.policy];
        let persons = persons(&policies);
        let mut found: BTreeMap<(String, String, String), Vec<String>> = BTreeMap::new();
        compared.people = compared.people.max(persons.len());
        for request in requests(&policies, now) {
            let mut asked = Vec::with_capacity(persons.len());
            for (who, authn) in &persons {
                compared.asked += 1;
                let was = verdict(before, &request, authn, new);
                let is = verdict(after, &request, authn, old);
                if was != is {
                    asked.push((who, was, is));
                }
            }
            // Whoever nobody names fares as everybody does who is not told apart: one line, not twenty.
            let all = asked.len() == persons.len()
                && asked.windows(2).all(|pair| pair[0].1 == pair[1].1 && pair[0].2 == pair[1].2);
            if let (true, Some((_, was, is))) = (all, asked.first()) {
                found.entry(("everybody".to_owned(), was.clone(), is.clone())).or_default().push(request.said);
                continue;
            }
            for (who, was, is) in asked {
                found.entry((who.clone(), was, is)).or_default().push(request.said.clone());
            }
        }
        for ((who, before, after), requests) in together(found) {
            compared.differences.push(Difference { app: app.to_owned(), who, before, after, requests });
        }
    }
    compared
}

/// People who fare alike at the same requests stand in one line.
fn together(found: BTreeMap<(String, String, String), Vec<String>>) -> Vec<((String, String, String), Vec<String>)> {
    let mut lines: Vec<((String, String, String), Vec<String>)> = Vec::new();
    for ((who, before, after), requests) in found {
        match lines.iter_mut().find(|((_, b, a), others)| *b == before && *a == after && *others == requests) {
            Some(((everyone, _, _), _)) => {
                everyone.push_str(", ");
                everyone.push_str(&who);
            }
            None => lines.push(((who, before, after), requests)),
        }
    }
    lines
}

/// Nobody, somebody whom no rule names, and everybody whom one does, none of whom has shown anything of late: then
/// the verdict names what would be asked of them.
fn persons(policies: &[&Policy]) -> Vec<(String, Authn)> {
    let known = |name: &str, groups: Vec<GroupName>| {
        let name = UserName::parse(name).ok()?;
        let context = AuthnContext {
            user: UserId::nil(),
            display: String::new(),
            email: None,
            groups,
            session: SessionId::nil(),
            ever_enrolled: true,
            evidence: Vec::new(),
            name,
        };
        Some(Authn::Known(Arc::new(context)))
    };
    let mut persons = vec![("a stranger".to_owned(), Authn::Anonymous)];
    persons.extend(known("somebody-else", Vec::new()).map(|authn| ("any account".to_owned(), authn)));
    for who in people(policies) {
        let person = match &who {
            Who::Anyone => continue,
            Who::User(name) => known(name.as_str(), Vec::new()).map(|authn| (format!("user:{name}"), authn)),
            Who::Group(name) => {
                known("somebody-else", vec![name.clone()]).map(|authn| (format!("group:{name}"), authn))
            }
        };
        persons.extend(person);
    }
    persons
}

/// In a few words, for two of them to be compared.
fn verdict(route: &Route, request: &Request, authn: &Authn, other: &Snapshot) -> String {
    let question = Question {
        method: &request.method,
        target: &request.target,
        content: &request.content,
        client: request.client,
        authn,
        now: request.now,
    };
    match ask(route, &question, &mut ()) {
        Err(_) => "refused with 400".to_owned(),
        Ok(Decision::Deny(_)) => "denied".to_owned(),
        Ok(Decision::Challenge(challenge)) => level_said(&challenge.level, other),
        Ok(Decision::Allow(permit)) if permit.answer().is_some() => "answered by the gate".to_owned(),
        Ok(Decision::Allow(_)) => "no sign-in".to_owned(),
    }
}
