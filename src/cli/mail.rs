//! `stepgate mail`: does our mail arrive?

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use clap::{Args, Subcommand};
use lettre::address::Address;
use serde_json::json;

use super::user::print;
use super::{Global, state};
use crate::base::ids::MailId;
use crate::base::rng::SystemRng;
use crate::config::{self, Purpose, Snapshot};
use crate::notify::{Mail, Relay, RelayError};

#[derive(Debug, Args)]
pub struct MailArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send one mail to an address by the relay of the configuration, and say what the relay answered.
    Test {
        address: String,
        /// One JSON document.
        #[arg(long)]
        json: bool,
    },
}

/// Exit 0 when the relay took it, 1 when it refused the recipient or the mail, 3 when it cannot be used at all.
pub async fn run(args: MailArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let Command::Test { address, json } = args.command;
    let to: Address = address.parse().map_err(|e| anyhow!("{address:?} is no e-mail address: {e}"))?;
    let snapshot = match config::load_for(&global.config, Purpose::State) {
        Ok((snapshot, _)) => snapshot,
        Err(faults) => return Err(crate::app::StartError::Config(faults).into()),
    };
    let Some(settings) = &snapshot.smtp else {
        bail!("the configuration has no `smtp`: nobody is written to");
    };
    if settings.login.as_ref().is_some_and(|login| login.password.expose().is_empty()) {
        bail!("the password of the relay cannot be read by this account; `stepgate check --serve` says why");
    }
    let relay = format!("{}:{}", settings.host, settings.port);
    let mut connection = match Relay::connect(settings).await {
        Ok(connection) => connection,
        Err(error) => return failed(&relay, error),
    };
    let encrypted = connection.is_encrypted();
    let sent = match connection.send(settings, &letter(&snapshot, to)).await {
        Ok(sent) => sent,
        Err(error) => return failed(&relay, error),
    };
    connection.quit().await;
    if json {
        let told =
            json!({ "relay": relay, "encrypted": encrypted, "from": settings.from.to_string(), "answer": sent.0 });
        print(&format!("{told:#}"))?;
    } else {
        let how = if encrypted { "over TLS" } else { "in clear" };
        print(&format!("{relay} took it, {how}, from {}: {}", settings.from, sent.0))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What failed, and what to do about it.
fn failed(relay: &str, error: RelayError) -> anyhow::Result<ExitCode> {
    writeln!(io::stderr(), "stepgate: the relay {relay}: {error} - {}", error.remedy())?;
    Ok(state::exit_code(&error.into()))
}

fn letter(snapshot: &Snapshot, to: Address) -> Mail {
    let now = state::now();
    Mail {
        id: MailId::new(now, &SystemRng).to_string(),
        to,
        subject: format!("{}: a test", snapshot.title),
        text: format!(
            "This is a test of the mail of {}, sent from the command line at {now}.\n\nThere is nothing to do.\n",
            snapshot.title
        ),
        at: now,
    }
}
