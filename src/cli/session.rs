//! `stepgate session`: who is signed in, and ending it.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::state::{self, Needs, State};
use super::user::{named, print, table};
use super::{Global, REFUSED};
use crate::audit::operator;
use crate::base::clock::Timestamp;
use crate::base::ids::{SessionId, UserId};
use crate::domain::audit::{Action, AuditEvent, Outcome, printable};
use crate::domain::user::UserName;
use crate::session::issue;
use crate::store::SessionRow;

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
    /// End sessions, on every replica and with all their live connections, within a second.
    End(EndArgs),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct EndArgs {
    /// The session, as `session list` shows it.
    id: Option<SessionId>,
    /// All sessions of this account.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// All sessions of everyone.
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

pub async fn run(args: SessionArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let state = state::open(global, Needs::State).await?;
    match args.command {
        Command::List { name, json } => list(&state, name.as_deref(), json).await,
        Command::End(EndArgs { id: Some(id), .. }) => end_one(&state, id).await,
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
    let limits = &state.snapshot.sessions;
    let alive = |row: &SessionRow| row.last_seen_at.age(now).is_none_or(|idle| idle < limits.idle);
    let shown: Vec<Shown> = state
        .store
        .sessions(now)
        .await?
        .into_iter()
        .filter(|(row, _)| only.is_none_or(|user| row.user == user) && alive(row))
        .map(|(row, name)| shown(row, name))
        .collect();
    if json {
        print(&serde_json::to_string_pretty(&shown)?)?;
    } else if shown.is_empty() {
        print("Nobody is signed in.")?;
    } else {
        let mut table = table(&["ID", "USER", "SIGNED IN", "LAST SEEN", "ENDS AT LATEST", "ADDRESS", "BROWSER"]);
        for s in shown {
            table.add_row([
                s.id.to_string(),
                s.user.to_string(),
                s.created_at,
                s.last_seen_at,
                s.expires_at,
                s.address,
                s.user_agent,
            ]);
        }
        print(&table.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn end_one(state: &State, id: SessionId) -> anyhow::Result<ExitCode> {
    let now = state.clock.now();
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
    let mut tx = state.store.begin().await?;
    let ended = tx.end_sessions_of(user.id, None, REASON, now).await?;
    let event = event(now, "The operator ended all sessions of an account.").about(user.id, user.name.as_str());
    tx.commit(&[event]).await?;
    told(ended)
}

async fn end_all(state: &State) -> anyhow::Result<ExitCode> {
    let now = state.clock.now();
    let mut tx = state.store.begin().await?;
    let ended = tx.end_all_sessions(REASON, now).await?;
    tx.commit(&[event(now, "The operator ended all sessions of everyone.")]).await?;
    told(ended)
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

fn told(ended: u64) -> anyhow::Result<ExitCode> {
    print(&format!("{ended} {} ended.", if ended == 1 { "session" } else { "sessions" }))?;
    Ok(ExitCode::SUCCESS)
}

fn refuse(why: &str) -> anyhow::Result<ExitCode> {
    writeln!(io::stderr(), "stepgate: {why}")?;
    Ok(ExitCode::from(REFUSED))
}
