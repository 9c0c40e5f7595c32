//! `stepgate keys`: which keys does the ring hold?

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::state::Needs;
use super::user::{print, table};
use super::{Global, state};

#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the keys of the ring, the current one first; never their secrets.
    List {
        /// A JSON array.
        #[arg(long)]
        json: bool,
    },
}

/// One key in `--json`; stable.
#[derive(Serialize)]
struct Shown {
    id: String,
    created_at: String,
    current: bool,
}

pub async fn run(args: KeysArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let Command::List { json } = args.command;
    let state = state::open(global, Needs::State).await?;
    let shown = state.keys.key_infos().into_iter().map(|key| Shown {
        id: key.id,
        created_at: key.created.to_string(),
        current: key.current,
    });
    if json {
        print(&serde_json::to_string_pretty(&shown.collect::<Vec<_>>())?)?;
    } else {
        let mut table = table(&["ID", "CREATED", "USE"]);
        for key in shown {
            let used = if key.current { "seals and signs" } else { "opens and verifies" };
            table.add_row([key.id, key.created_at, used.to_owned()]);
        }
        print(&table.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}
