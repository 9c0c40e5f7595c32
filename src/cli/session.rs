//! `stepgate session`: who is signed in, and ending it.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::short_id;
use super::state::{self, Needs, State};
use super::user::{named, print};
use super::{Global, REFUSED};
use crate::audit::operator;
use crate::base::clock::Timestamp;
use crate::base::ids::{RememberedId, SessionId, UserId};
use crate::domain::audit::{Action, AuditEvent, Outcome, printable};
use crate::domain::user::UserName;
use crate::session::issue;
use crate::store::{RememberedRow, SessionRow};

#[derive(Debug, Args)]
pub struct SessionArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the sessions that are alive, newest first.
    List {
        /// Only those of this account.
        name: Option<String>,
        /// A JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Show the browsers that are remembered: there a password alone meets the levels that have `remember`.
    Remembered {
        /// Only those of this account.
        name: Option<String>,
        /// A JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Forget remembered browsers: the second factor is asked for there again.
    Forget(ForgetArgs),
    /// End sessions, on every replica and with all their live connections, within a second.
    End(EndArgs),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct EndArgs {
    /// The session, as `session list` shows it; its first digits are enough where no other begins so.
    id: Option<String>,
    /// All sessions of this account.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// All sessions of everyone.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ForgetArgs {
    /// The browser, as `session remembered` shows it; its first digits are enough where no other begins so.
    id: Option<String>,
    /// All browsers of this account.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// All browsers of everyone.
    #[arg(long)]
    all: bool,
}

/// One session in `--json`; stable.
#[derive(Serialize)]
struct Shown {
    id: SessionId,
    user: UserName,
    user_id: UserId,
    created_at: String,
    last_seen_at: String,
    /// When it ends whatever happens.
    expires_at: String,
    address: String,
    user_agent: String,
}

/// What a terminal shows of a browser's own words; `--json` has all.
const BROWSER: usize = 76;

impl Shown {
    /// Three lines of at most 80 columns, where names and addresses are not very long ones.
    fn text(&self) -> String {
        // "2026-11-24T10:00:00.000Z": the second helps nobody.
        let minute = |time: &str| time.get(..16).unwrap_or(time).replace('T', " ");
        let (since, seen) = (minute(&self.created_at), minute(&self.last_seen_at));
        let ends = minute(&self.expires_at);
        let mut browser: String = self.user_agent.chars().take(BROWSER).collect();
        if browser.len() < self.user_agent.len() {
            browser.push('…');
        }
        format!(
            "{}  {} from {}\n  since {since}, seen {seen}, ends by {ends} (UTC)\n  {browser}",
            self.id, self.user, self.address
        )
    }
}

pub async fn run(args: SessionArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let state = state::open(global, Needs::State).await?;
    match args.command {
        Command::Remembered { name, json } => remembered(&state, name.as_deref(), json).await,
        Command::Forget(args) => forget(&state, args).await,
        Command::List { name, json } => list(&state, name.as_deref(), json).await,
        Command::End(EndArgs { id: Some(id), .. }) => end_one(&state, &id).await,
        Command::End(EndArgs { user: Some(name), .. }) => end_of(&state, &name).await,
        Command::End(_all) => end_all(&state).await,
    }
}

async fn list(state: &State, name: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let now = state.clock.now();
    let only = match name {
        Some(name) => Some(named(state, name).await?.id),
        None => None,
    };
    let alive = alive(state, only, now).await?;
    let shown: Vec<Shown> = alive.into_iter().map(|(row, name)| shown(row, name)).collect();
    if json {
        print(&serde_json::to_string_pretty(&shown)?)?;
    } else if shown.is_empty() {
        print("Nobody is signed in.")?;
    } else {
        // Seven columns fit no terminal.
        for s in shown {
            print(&s.text())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The sessions that somebody could still use: what is idle for too long is over, though nobody has written
/// its end down yet. What `list` shows is what `end` counts.
pub(super) async fn alive(
    state: &State,
    only: Option<UserId>,
    now: Timestamp,
) -> anyhow::Result<Vec<(SessionRow, UserName)>> {
    let idle = state.snapshot.sessions.idle;
    let mut sessions = state.store.sessions(now).await?;
    sessions.retain(|(row, _)| {
        only.is_none_or(|user| row.user == user) && row.last_seen_at.age(now).is_none_or(|unseen| unseen < idle)
    });
    Ok(sessions)
}

async fn remembered(state: &State, name: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let only = match name {
        Some(name) => Some(named(state, name).await?.id),
        None => None,
    };
    let mut all = state.store.all_remembered(state.clock.now()).await?;
    all.retain(|(row, _)| only.is_none_or(|user| row.user == user));
    if json {
        let shown = |(row, user): &(RememberedRow, UserName)| {
            serde_json::json!({
                "id": row.id, "user": user, "user_id": row.user, "factor": row.evidence.kind,
                "created_at": row.created_at.to_string(), "used_at": row.used_at.to_string(),
                "expires_at": row.expires_at.to_string(), "address": printable(&row.address),
                "user_agent": printable(&row.user_agent),
            })
        };
        let all: Vec<serde_json::Value> = all.iter().map(shown).collect();
        print(&serde_json::to_string_pretty(&all)?)?;
    } else if all.is_empty() {
        print("No browser is remembered.")?;
    } else {
        for (row, user) in all {
            let (id, address) = (row.id, printable(&row.address));
            let (since, used, until) = (row.created_at, row.used_at, row.expires_at);
            print(&format!("{id}  {user} from {address}\n  since {since}, used {used}\n  until {until}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Exit 1 when there was none to forget.
async fn forget(state: &State, args: ForgetArgs) -> anyhow::Result<ExitCode> {
    let now = state.clock.now();
    let mut all = state.store.all_remembered(now).await?;
    if let Some(name) = &args.user {
        let user = named(state, name).await?.id;
        all.retain(|(row, _)| row.user == user);
    } else if let Some(given) = &args.id {
        let known = all.iter().map(|(row, user)| (row.id, format!("{user} from {}", printable(&row.address))));
        let id: RememberedId = match given.parse() {
            Ok(whole) => whole,
            Err(_) => short_id::find(given, known, "remembered browser")?,
        };
        all.retain(|(row, _)| row.id == id);
    }
    let mut tx = state.store.begin().await?;
    let mut events = Vec::new();
    for (row, user) in &all {
        if tx.forget_remembered(row.user, row.id).await? {
            let reason = "The operator had a remembered browser forgotten.";
            let event = AuditEvent::new(now, operator(), Action::DeviceForget, Outcome::Success, reason);
            events.push(event.about(row.user, user.as_str()));
        }
    }
    if events.is_empty() {
        tx.rollback().await;
        return refuse("no such browser is remembered");
    }
    tx.commit(&events).await?;
    print(&format!("{} {} forgotten.", events.len(), if events.len() == 1 { "browser" } else { "browsers" }))?;
    Ok(ExitCode::SUCCESS)
}

async fn end_one(state: &State, given: &str) -> anyhow::Result<ExitCode> {
    let now = state.clock.now();
    let id = match given.parse() {
        Ok(whole) => whole,
        Err(_) => {
            let alive = alive(state, None, now).await?;
            let all = alive.iter().map(|(row, user)| (row.id, format!("{user} from {}", printable(&row.address))));
            short_id::find(given, all, "session")?
        }
    };
    let found = state.store.session(id).await?;
    let user = match &found {
        Some(row) => state.store.user_by_id(row.user).await?,
        None => None,
    };
    let mut tx = state.store.begin().await?;
    if !issue::end(&mut tx, id, REASON, now).await? {
        tx.rollback().await;
        return refuse("there is no such session, or it had ended");
    }
    let mut event = event(now, "The operator ended a session.").with_session(id);
    if let Some(user) = user {
        event = event.about(user.id, user.name.as_str());
    }
    tx.commit(&[event]).await?;
    told(1)
}

async fn end_of(state: &State, name: &str) -> anyhow::Result<ExitCode> {
    let user = named(state, name).await?;
    let now = state.clock.now();
    let alive = alive(state, Some(user.id), now).await?.len();
    let mut tx = state.store.begin().await?;
    tx.end_sessions_of(user.id, None, REASON, now).await?;
    let event = event(now, "The operator ended all sessions of an account.").about(user.id, user.name.as_str());
    tx.commit(&[event]).await?;
    told(alive)
}

async fn end_all(state: &State) -> anyhow::Result<ExitCode> {
    let now = state.clock.now();
    let alive = alive(state, None, now).await?.len();
    let mut tx = state.store.begin().await?;
    tx.end_all_sessions(REASON, now).await?;
    tx.commit(&[event(now, "The operator ended all sessions of everyone.")]).await?;
    told(alive)
}

const REASON: &str = "ended by the operator";

fn event(now: Timestamp, reason: &str) -> AuditEvent {
    AuditEvent::new(now, operator(), Action::SessionEnd, Outcome::Success, reason)
}

/// What came from a browser is made inert for the terminal (S-ADM-3).
fn shown(row: SessionRow, user: UserName) -> Shown {
    Shown {
        id: row.id,
        user,
        user_id: row.user,
        created_at: row.created_at.to_string(),
        last_seen_at: row.last_seen_at.to_string(),
        expires_at: row.expires_at.to_string(),
        address: printable(&row.address),
        user_agent: printable(&row.user_agent),
    }
}

fn told(ended: usize) -> anyhow::Result<ExitCode> {
    print(&format!("{ended} {} ended.", if ended == 1 { "session" } else { "sessions" }))?;
    Ok(ExitCode::SUCCESS)
}

fn refuse(why: &str) -> anyhow::Result<ExitCode> {
    writeln!(io::stderr(), "stepgate: {why}")?;
    Ok(ExitCode::from(REFUSED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_fits_a_terminal_and_keeps_the_id_that_ends_it() {
        let time = || "2026-11-24T10:00:00.000Z".to_owned();
        let shown = Shown {
            id: SessionId::nil(),
            user: UserName::parse("maria.fernandez").unwrap(),
            user_id: UserId::nil(),
            created_at: time(),
            last_seen_at: time(),
            expires_at: time(),
            address: "198.51.100.207".to_owned(),
            user_agent: "Mozilla/5.0 (X11; Linux x86_64) ".repeat(8),
        };
        let text = shown.text();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.starts_with(&SessionId::nil().to_string()) && text.ends_with('…'), "{text}");
    }
}
