//! `stepgate user progress`: who has not set up a second factor, and what each of them waits for; `user remind`.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use super::Usage;
use super::check::exit;
use super::state::State;
use super::user::{named, operator, print, table};
use crate::base::clock::Timestamp;
use crate::base::ids::UserId;
use crate::domain::audit::Action;
use crate::domain::user::{GroupName, User, UserStatus};
use crate::store::LinkKind;

#[derive(Debug, Args)]
pub struct ProgressArgs {
    /// Only the people of this group. May be given several times.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// One object: `accounts`, `enrolled`, `missing`.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct RemindArgs {
    /// Whom to write to.
    #[arg(required_unless_present = "all")]
    names: Vec<String>,
    /// Everybody whom `user progress` names and who has an address, but those who got a link or a reminder within
    /// the last 24 h.
    #[arg(long, conflicts_with = "names")]
    all: bool,
    #[arg(long)]
    json: bool,
}

/// A reminder a day is a nuisance already.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// What somebody without a second factor waits for.
enum Waits {
    /// A link that was not used yet.
    LinkPending(LinkKind, Timestamp),
    /// The last link ended unused, and there is no password.
    LinkExpired,
    /// Nobody made them a link.
    NoLink,
    /// Their next sign-in sets it up.
    MayEnrollUntil(Timestamp),
    /// They sign in with a password alone, which enrolls nothing any more.
    PasswordAlone,
    /// What they had is gone.
    HadOne,
}

struct Missing {
    user: User,
    waits: Waits,
    /// When they got a link or a reminder last.
    reminded_at: Option<Timestamp>,
}

struct Progress {
    accounts: usize,
    missing: Vec<Missing>,
}

async fn progress(state: &State, groups: &[String]) -> anyhow::Result<Progress> {
    let now = operator(state).now;
    let kinds = state.store.factor_kinds().await?;
    let with_password = state.store.with_password().await?;
    let links: HashMap<UserId, (LinkKind, Timestamp)> =
        state.store.links(now).await?.into_iter().map(|(user, kind, until)| (user, (kind, until))).collect();
    let made = state.store.last_about(Action::LinkCreate).await?;
    let reminders = state.store.last_about(Action::EnrollRemind).await?;
    let of_group =
        |user: &User| groups.is_empty() || user.groups.iter().any(|g| groups.iter().any(|w| w == g.as_str()));
    let users = state.store.users().await?;
    let users: Vec<User> = users.into_iter().filter(|u| u.status == UserStatus::Active && of_group(u)).collect();
    let accounts = users.len();
    let missing = users.into_iter().filter(|user| !kinds.contains_key(&user.id)).map(|user| {
        // Of an older account of that name they tell nothing.
        let last =
            |of: &HashMap<String, Timestamp>| of.get(user.name.as_str()).copied().filter(|at| *at >= user.created_at);
        let link_made = last(&made);
        let waits = match links.get(&user.id) {
            Some((kind, until)) => Waits::LinkPending(*kind, *until),
            None if user.ever_enrolled => Waits::HadOne,
            None if with_password.contains(&user.id) => match user.first_login_until {
                Some(until) if now < until => Waits::MayEnrollUntil(until),
                Some(_) | None => Waits::PasswordAlone,
            },
            None if link_made.is_some() => Waits::LinkExpired,
            None => Waits::NoLink,
        };
        Missing { waits, reminded_at: link_made.max(last(&reminders)), user }
    });
    Ok(Progress { accounts, missing: missing.collect() })
}

/// Exit 0 when everybody has a second factor, 1 when somebody has none.
pub async fn run(state: &State, args: ProgressArgs) -> anyhow::Result<ExitCode> {
    for group in &args.groups {
        if let Err(why) = GroupName::parse(group) {
            return Err(Usage(format!("the group {group:?}: {why}")).into());
        }
    }
    let Progress { accounts, missing } = progress(state, &args.groups).await?;
    let all = missing.is_empty();
    if args.json {
        let people: Vec<Value> = missing.iter().map(Missing::json).collect();
        let enrolled = accounts - people.len();
        print(&format!("{:#}", json!({ "accounts": accounts, "enrolled": enrolled, "missing": people })))?;
        return Ok(exit(all));
    }
    if !all {
        let mut rows = table(&["NAME", "EMAIL", "WAITS FOR", "REMINDED"]);
        for missing in &missing {
            rows.add_row([
                missing.user.name.to_string(),
                missing.user.email.clone().unwrap_or_else(|| "-".to_owned()),
                missing.waits.to_string(),
                missing.reminded_at.map_or_else(|| "-".to_owned(), |at| at.to_string()),
            ]);
        }
        print(&rows.to_string())?;
    }
    let pending = missing.iter().filter(|m| matches!(m.waits, Waits::LinkPending(..))).count();
    let expired = missing.iter().filter(|m| matches!(m.waits, Waits::LinkExpired)).count();
    print(&format!(
        "{} of {accounts} have a second factor; {} have none: {pending} with a link that waits, {expired} with one that \
         ended.",
        accounts - missing.len(),
        missing.len(),
    ))?;
    Ok(exit(all))
}

/// Exit 0 when everybody meant is written to, 1 when somebody is not.
pub async fn remind(state: &State, args: RemindArgs) -> anyhow::Result<ExitCode> {
    if state.snapshot.smtp.is_none() {
        bail!("there is no mail relay (`smtp:`) to send reminders by; `stepgate user progress` says whom to tell");
    }
    let operator = operator(state);
    let mut missing = progress(state, &[]).await?.missing;
    let mut left = Vec::new();
    if args.all {
        missing.retain(|m| m.reminded_at.and_then(|at| at.age(operator.now)).is_none_or(|age| age >= PAUSE));
    } else {
        for name in &args.names {
            let user = named(state, name).await?;
            if !missing.iter().any(|m| m.user.id == user.id) {
                left.push((user, "has a second factor, or is disabled"));
            }
        }
        missing.retain(|m| args.names.iter().any(|name| name == m.user.name.as_str()));
    }
    let (with, without): (Vec<Missing>, Vec<Missing>) = missing.into_iter().partition(|m| m.user.email.is_some());
    left.extend(without.into_iter().map(|m| (m.user, "has no e-mail address")));
    let users: Vec<User> = with.into_iter().map(|m| m.user).collect();
    state.auth.remind(&operator, &users).await?;
    if args.json {
        let names: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
        let left: Vec<Value> = left.iter().map(|(user, why)| json!({ "name": user.name, "why": why })).collect();
        print(&format!("{:#}", json!({ "reminded": names, "left": left })))?;
    } else {
        for user in &users {
            print(&format!("{} is reminded.", user.name))?;
        }
        for (user, why) in &left {
            writeln!(io::stderr(), "stepgate: {} is not reminded: {why}", user.name)?;
        }
    }
    Ok(exit(left.is_empty()))
}

impl Missing {
    fn json(&self) -> Value {
        let (link, until) = match &self.waits {
            Waits::LinkPending(kind, until) => (Some(super::user::link_kind(*kind)), Some(*until)),
            Waits::MayEnrollUntil(until) => (None, Some(*until)),
            Waits::LinkExpired | Waits::NoLink | Waits::PasswordAlone | Waits::HadOne => (None, None),
        };
        json!({
            "name": self.user.name,
            "display": self.user.display,
            "email": self.user.email,
            "groups": self.user.groups,
            "waits_for": self.waits.word(),
            "link": link,
            "until": until.map(|at| at.to_string()),
            "reminded_at": self.reminded_at.map(|at| at.to_string()),
        })
    }
}

impl Waits {
    fn word(&self) -> &'static str {
        match self {
            Self::LinkPending(..) => "link_pending",
            Self::LinkExpired => "link_expired",
            Self::NoLink => "no_link",
            Self::MayEnrollUntil(_) => "first_login",
            Self::PasswordAlone => "password_only",
            Self::HadOne => "factor_removed",
        }
    }
}

impl std::fmt::Display for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LinkPending(LinkKind::SignUp, until) => write!(f, "their sign-up link, until {until}"),
            Self::LinkPending(LinkKind::AccessPass, until) => write!(f, "their access pass, until {until}"),
            Self::LinkExpired => f.write_str("a new link: the last one ended unused"),
            Self::NoLink => f.write_str("a link"),
            Self::MayEnrollUntil(until) => write!(f, "their first sign-in, until {until}"),
            Self::PasswordAlone => f.write_str("a link: they have a password alone"),
            Self::HadOne => f.write_str("an access pass: what they had is gone"),
        }
    }
}
