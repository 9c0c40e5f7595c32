//! `stepgate factor`: a person's second factors, beside a running `serve`.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::Global;
use super::short_id;
use super::state::{self, Needs, State};
use super::user::{named, operator, print, table};
use crate::auth::plan::Enrolled;
use crate::auth::users::Operator;
use crate::base::ids::CredentialId;
use crate::domain::factor::FactorKind;
use crate::domain::user::display_text;
use crate::pages::qr;

#[derive(Debug, Args)]
pub struct FactorArgs {
    #[command(subcommand)]
    command: FactorCommand,
}

#[derive(Debug, Subcommand)]
enum FactorCommand {
    /// List the second factors of an account.
    List(NameArgs),
    /// Enroll one: prints the otpauth:// address, and a QR code in a terminal.
    Add(AddArgs),
    /// Make fresh backup codes, shown once; the old ones end.
    Codes(NameArgs),
    /// Remove one by its id; the person's sessions end.
    Remove(RemoveArgs),
    /// Remove all second factors; the person's sessions end. The way back is `user link`.
    Reset(NameArgs),
}

#[derive(Debug, Args)]
struct NameArgs {
    name: String,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct AddArgs {
    name: String,
    kind: AddKind,
    /// What the person calls it, for instance the device; "Authenticator app" when left out.
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AddKind {
    Totp,
}

#[derive(Debug, Args)]
struct RemoveArgs {
    name: String,
    /// As `factor list` shows it; its first digits are enough where no other begins so.
    id: String,
    #[arg(long)]
    json: bool,
}

pub async fn run(args: FactorArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let needs = match &args.command {
        FactorCommand::Add(_) | FactorCommand::Codes(_) => Needs::Settings,
        FactorCommand::List(_) | FactorCommand::Remove(_) | FactorCommand::Reset(_) => Needs::State,
    };
    let state = state::open(global, needs).await?;
    let operator = operator(&state);
    match args.command {
        FactorCommand::List(args) => list(&state, &args).await?,
        FactorCommand::Add(args) => match args.kind {
            AddKind::Totp => add_totp(&state, &operator, &args).await?,
        },
        FactorCommand::Codes(args) => codes(&state, &operator, &args).await?,
        FactorCommand::Remove(args) => remove(&state, &operator, &args).await?,
        FactorCommand::Reset(args) => reset(&state, &operator, &args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(state: &State, args: &NameArgs) -> anyhow::Result<()> {
    let user = named(state, &args.name).await?;
    let enrolled = state.auth.factors_of(&user).await?;
    if args.json {
        return print(&format!("{:#}", factors_json(&enrolled)));
    }
    if enrolled.credentials.is_empty() && enrolled.backup.is_none() {
        return print(&format!("{} has no second factor.", user.name));
    }
    let mut table = table(&["KIND", "LABEL", "ADDED", "LAST USED", "STATE", "ID"]);
    for factor in &enrolled.credentials {
        table.add_row([
            factor.kind.as_str().to_owned(),
            factor.label.clone(),
            factor.created_at.to_string(),
            factor.last_used_at.map_or("never".to_owned(), |at| at.to_string()),
            if factor.disabled_at.is_some() { "disabled" } else { "active" }.to_owned(),
            factor.id.to_string(),
        ]);
    }
    if let Some(set) = &enrolled.backup {
        let left = format!("{} of {} left", set.left, set.made);
        table.add_row(["backup_codes", "", &set.created_at.to_string(), "", &left, ""]);
    }
    print(&table.to_string())
}

async fn add_totp(state: &State, operator: &Operator, args: &AddArgs) -> anyhow::Result<()> {
    let user = named(state, &args.name).await?;
    let label = args.label.as_deref().map(display_text).transpose().context("the label")?.filter(|l| !l.is_empty());
    let (id, uri) = state.auth.operator_adds_totp(operator, &state.snapshot, &user, label).await?;
    let uri = uri.expose();
    if args.json {
        let object = json!({ "id": id.to_string(), "kind": FactorKind::Totp.as_str(), "uri": uri });
        return print(&format!("{object:#}"));
    }
    if std::io::stdout().is_terminal() {
        print(&qr::terminal(uri))?;
    }
    print(uri)
}

async fn codes(state: &State, operator: &Operator, args: &NameArgs) -> anyhow::Result<()> {
    let user = named(state, &args.name).await?;
    let codes = state.auth.operator_makes_codes(operator, &state.snapshot, &user).await?;
    match args.json {
        true => print(&format!("{:#}", json!({ "codes": codes.shown }))),
        false => print(&codes.shown.join("\n")),
    }
}

async fn remove(state: &State, operator: &Operator, args: &RemoveArgs) -> anyhow::Result<()> {
    let user = named(state, &args.name).await?;
    let id: CredentialId = match args.id.parse() {
        Ok(whole) => whole,
        Err(_) => {
            let enrolled = state.auth.factors_of(&user).await?;
            let all = enrolled.credentials.iter().map(|f| (f.id, format!("{} {:?}", f.kind, f.label)));
            short_id::find(&args.id, all, "factor")?
        }
    };
    if !state.auth.operator_removes_factor(operator, &user, id).await? {
        bail!("{} has no factor with the id {id}", user.name);
    }
    match args.json {
        true => print(&format!("{:#}", json!({ "removed": 1 }))),
        false => print("Removed; their sessions ended."),
    }
}

async fn reset(state: &State, operator: &Operator, args: &NameArgs) -> anyhow::Result<()> {
    let user = named(state, &args.name).await?;
    let removed = state.auth.reset_factors(operator, &user).await?;
    match args.json {
        true => print(&format!("{:#}", json!({ "removed": removed }))),
        false => print(&format!(
            "Removed {removed}; their sessions ended. `stepgate user link {}` lets them enroll anew.",
            user.name
        )),
    }
}

/// The one shape of second factors in `--json`. `left` and `made` are of backup codes alone.
pub(super) fn factors_json(enrolled: &Enrolled) -> Value {
    let mut all: Vec<Value> = enrolled
        .credentials
        .iter()
        .map(|factor| {
            json!({
                "id": factor.id.to_string(),
                "kind": factor.kind.as_str(),
                "label": factor.label,
                "created_at": factor.created_at.to_string(),
                "last_used_at": factor.last_used_at.map(|at| at.to_string()),
                "disabled_at": factor.disabled_at.map(|at| at.to_string()),
                "left": null,
                "made": null,
            })
        })
        .collect();
    if let Some(set) = &enrolled.backup {
        all.push(json!({
            "id": null,
            "kind": FactorKind::BackupCodes.as_str(),
            "label": "",
            "created_at": set.created_at.to_string(),
            "last_used_at": null,
            "disabled_at": null,
            "left": set.left,
            "made": set.made,
        }));
    }
    Value::from(all)
}
