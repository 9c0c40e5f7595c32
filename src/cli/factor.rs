//! `stepgate factor`: a person's second factors, beside a running `serve`.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::short_id;
use super::state::{self, Needs, State};
use super::user::{named, operator, print, table};
use super::{Global, Usage};
use crate::auth::factors::HotpToken;
use crate::auth::plan::Enrolled;
use crate::auth::users::Operator;
use crate::base::ids::CredentialId;
use crate::base::secret::Secret;
use crate::domain::factor::FactorKind;
use crate::domain::phone::PhoneNumber;
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
    /// Enroll an authenticator app or a code generator: prints the otpauth:// address, and a QR code in a terminal. Or
    /// set the number that codes go to.
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
    /// hotp: read the secret of a code generator that is made already from standard input, as an otpauth://hotp/
    /// address, in base32 or in hexadecimal. Without it a new one is made.
    #[arg(long)]
    secret_stdin: bool,
    /// The same from a file.
    #[arg(long, value_name = "FILE", conflicts_with = "secret_stdin")]
    secret_file: Option<PathBuf>,
    /// hotp: the counter of its next code, where the secret is no address.
    #[arg(long, value_name = "N", default_value_t = 0)]
    counter: u64,
    /// hotp: how many digits its codes have, where the secret is no address.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u32).range(6..=8))]
    digits: u32,
    /// sms: the number that codes go to, with its country code.
    #[arg(long, value_name = "NUMBER")]
    phone: Option<String>,
    /// What the person calls it, for instance the device; "Authenticator app" or "Code generator" when left out.
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AddKind {
    /// An authenticator app, by the clock (RFC 6238).
    Totp,
    /// A code generator that counts its presses (RFC 4226): a fob, a card or an app.
    Hotp,
    /// The number that codes go to by text message; in place of an older one.
    Sms,
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
        FactorCommand::Add(args) => add(&state, &operator, &args).await?,
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

async fn add(state: &State, operator: &Operator, args: &AddArgs) -> anyhow::Result<()> {
    let handed_over = args.secret_stdin || args.secret_file.is_some();
    if args.kind == AddKind::Sms || args.phone.is_some() {
        return set_number(state, operator, args).await;
    }
    if args.kind == AddKind::Totp && (handed_over || args.counter != 0 || args.digits != 6) {
        let what = "--secret-stdin, --secret-file, --counter and --digits are of hotp";
        return Err(Usage(what.to_owned()).into());
    }
    let user = named(state, &args.name).await?;
    let label = args.label.as_deref().map(display_text).transpose().context("the label")?.filter(|l| !l.is_empty());
    let (kind, (id, uri)) = match args.kind {
        AddKind::Totp => {
            (FactorKind::Totp, state.auth.operator_adds_totp(operator, &state.snapshot, &user, label).await?)
        }
        AddKind::Hotp => {
            let token = if handed_over { Some(read_token(args)?) } else { None };
            (FactorKind::Hotp, state.auth.operator_adds_hotp(operator, &state.snapshot, &user, token, label).await?)
        }
        AddKind::Sms => return Ok(()),
    };
    let uri = uri.expose();
    if handed_over {
        // Whoever handed the secret over has it: it is not shown again.
        return match args.json {
            true => print(&format!("{:#}", json!({ "id": id.to_string(), "kind": kind.as_str(), "uri": null }))),
            false => print(&format!("Added for {}.", user.name)),
        };
    }
    if args.json {
        let object = json!({ "id": id.to_string(), "kind": kind.as_str(), "uri": uri });
        return print(&format!("{object:#}"));
    }
    if std::io::stdout().is_terminal() {
        print(&qr::terminal(uri))?;
    }
    print(uri)
}

/// A number that an operator vouches for: no code proves it.
async fn set_number(state: &State, operator: &Operator, args: &AddArgs) -> anyhow::Result<()> {
    let (AddKind::Sms, Some(typed)) = (args.kind, &args.phone) else {
        return Err(Usage("sms and --phone NUMBER go together".to_owned()).into());
    };
    if args.secret_stdin || args.secret_file.is_some() || args.label.is_some() {
        return Err(Usage("a number has no secret, and its label is the number".to_owned()).into());
    }
    let number = PhoneNumber::parse(typed).with_context(|| format!("{typed:?} is no number"))?;
    let Some(sms) = state.snapshot.sms.as_ref().filter(|_| state.snapshot.codes_by_sms()) else {
        bail!("codes by text message are off: write `sms` and `factors: {{ sms: {{ codes: true }} }}`");
    };
    if !number.begins_with_any(&sms.allow_prefixes) {
        bail!("the number begins with none of `sms.allow_prefixes`: {}", sms.allow_prefixes.join(", "));
    }
    let user = named(state, &args.name).await?;
    let id = state.auth.operator_adds_number(operator, &user, &number).await?;
    match args.json {
        true => print(&format!("{:#}", json!({ "id": id.to_string(), "kind": "sms", "label": number.masked() }))),
        false => print(&format!("Codes of {} go to {}.", user.name, number.masked())),
    }
}

/// Secrets are never arguments: those stand in the process list and in shell histories.
fn read_token(args: &AddArgs) -> anyhow::Result<HotpToken> {
    let text = match &args.secret_file {
        Some(file) => {
            Secret::new(std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?)
        }
        None => {
            let mut text = String::new();
            std::io::stdin().take(4096).read_to_string(&mut text).context("reading the secret")?;
            Secret::new(text)
        }
    };
    HotpToken::read(text.expose(), args.counter, args.digits).context("the secret")
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
