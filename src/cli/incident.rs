//! `stepgate incident`: what did people say was not them, and has anybody looked into it?

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::Global;
use super::short_id;
use super::state::{self, Needs, State};
use super::user::{print, table};
use crate::audit::operator;
use crate::base::ids::{IncidentId, UserId};
use crate::domain::audit::{Action, AuditEvent, Outcome};
use crate::domain::user::display_text;
use crate::store::{IncidentRow, actor_name};

#[derive(Debug, Args)]
pub struct IncidentArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what people said was not them and nobody has closed, newest first.
    List {
        /// Those that were closed too.
        #[arg(long)]
        all: bool,
        /// A JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Close one: somebody has looked into it.
    Close {
        /// As `incident list` shows it; its first digits are enough where no other open one begins so.
        id: String,
        /// What was found, for whoever reads it later.
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
}

/// One incident in `--json`; stable.
#[derive(Serialize)]
struct Shown {
    id: IncidentId,
    user: Option<String>,
    user_id: UserId,
    /// What the notice told of.
    about: &'static str,
    happened_at: String,
    opened_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    factor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

pub async fn run(args: IncidentArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let state = state::open(global, Needs::State).await?;
    match args.command {
        Command::List { all, json } => list(&state, all, json).await,
        Command::Close { id, note } => close(&state, &id, note).await,
    }
}

async fn list(state: &State, all: bool, json: bool) -> anyhow::Result<ExitCode> {
    let shown: Vec<Shown> = state.store.incidents(all).await?.into_iter().map(shown).collect();
    if json {
        print(&serde_json::to_string_pretty(&shown)?)?;
    } else if shown.is_empty() {
        print("No incident is open.")?;
    } else {
        let mut table = table(&["ID", "ACCOUNT", "ABOUT", "HAPPENED", "FROM", "CLOSED"]);
        for row in shown {
            let closed = match (row.closed_at, row.closed_by) {
                (Some(at), Some(by)) => format!("{at} by {by}"),
                _ => "-".to_owned(),
            };
            table.add_row([
                row.id.to_string(),
                row.user.unwrap_or_else(|| row.user_id.to_string()),
                row.about.to_owned(),
                row.happened_at,
                row.address.unwrap_or_else(|| "-".to_owned()),
                closed,
            ]);
        }
        print(&table.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn close(state: &State, given: &str, note: Option<String>) -> anyhow::Result<ExitCode> {
    let id: IncidentId = match given.parse() {
        Ok(whole) => whole,
        Err(_) => {
            let open = state.store.incidents(false).await?.into_iter().map(shown);
            let all = open.map(|row| {
                let user = row.user.unwrap_or_else(|| row.user_id.to_string());
                (row.id, format!("{user}: {} at {}", row.about, row.happened_at))
            });
            short_id::find(given, all, "open incident")?
        }
    };
    let note = note.as_deref().map(display_text).transpose().context("the note")?;
    let (now, actor) = (state.clock.now(), operator());
    let by = actor_name(&actor).unwrap_or_default().to_owned();
    let mut tx = state.store.begin().await?;
    let Some(user) = tx.close_incident(id, &by, note.as_deref(), now).await? else {
        tx.rollback().await;
        bail!("no open incident has the id {id}");
    };
    let event = AuditEvent::new(now, actor, Action::IncidentClose, Outcome::Success, "An incident was closed.");
    let name = state.store.user_by_id(user).await?.map(|user| user.name.to_string()).unwrap_or_default();
    tx.commit(&[event.about(user, &name)]).await?;
    print(&format!("Incident {id} is closed."))?;
    Ok(ExitCode::SUCCESS)
}

fn shown(row: IncidentRow) -> Shown {
    Shown {
        id: row.id,
        user: row.name,
        user_id: row.user,
        about: row.kind.as_str(),
        happened_at: row.event.at.to_string(),
        opened_at: row.opened_at.to_string(),
        address: row.event.address,
        factor: row.event.factor,
        closed_at: row.closed_at.map(|at| at.to_string()),
        closed_by: row.closed_by,
        note: row.note,
    }
}
