//! `stepgate user`: accounts, beside a running `serve`. What it changes bites there within a second.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Read, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use lettre::address::Address;
use serde_json::{Value, json};

use super::newcomers::SheetArgs;
use super::progress::{ProgressArgs, RemindArgs};
use super::state::{self, Needs, State};
use super::{Global, Usage};
use crate::audit::operator_account;
use crate::auth::link::Link;
use crate::auth::users::{Draft, FirstPassword, Operator};
use crate::base::clock::Timestamp;
use crate::base::ids::UserId;
use crate::base::secret::Secret;
use crate::config::did_you_mean;
use crate::config::snapshot::Snapshot;
use crate::domain::user::{GroupName, User, UserName, UserStatus, display_text};
use crate::store::{LinkKind, Store};

#[derive(Debug, Args)]
pub struct UserArgs {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Add an account. With a password, a first factor may be enrolled within `factors.first_login`.
    Add(AddArgs),
    /// Add everybody of a spreadsheet (CSV), each with a one-time sign-up link; a second run adds nobody twice.
    Import(SheetArgs),
    /// List all accounts.
    List(JsonArgs),
    /// Say who has no second factor yet, what each of them waits for, and when they were reminded. Exit code 0 when
    /// everybody has one, 1 when somebody has none.
    Progress(ProgressArgs),
    /// Remind people by mail to set up a second factor. The mail holds no link that signs anybody in.
    Remind(RemindArgs),
    /// Show one account with its ways to sign in and its sessions.
    Show(NameArgs),
    /// Set a password; the person's sessions end.
    SetPassword(SetPasswordArgs),
    /// Show the groups of an account, or replace them.
    Groups(GroupsArgs),
    /// Change the display name or the e-mail address.
    Change(ChangeArgs),
    /// Forbid signing in; the person's sessions end.
    Disable(NameArgs),
    /// Allow signing in again.
    Enable(NameArgs),
    /// End the pause after too many wrong passwords or codes: tries begin anew.
    Unpause(NameArgs),
    /// Remove an account with all its secrets. Its name is free again, its id never is.
    Remove(NameArgs),
    /// Print a one-time link: sign-up, or an access pass for an account that had a factor. Also the way
    /// out of a sign-up that stopped half-way; the older link is void.
    Link(NameArgs),
}

#[derive(Debug, Args)]
struct AddArgs {
    /// The sign-in name.
    name: String,
    /// The name that people read.
    #[arg(long, value_name = "TEXT")]
    display: Option<String>,
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// May be given several times.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    #[command(flatten)]
    password: PasswordSource,
    /// Let the person choose the password, behind a one-time sign-up link.
    #[arg(long, conflicts_with_all = ["password_stdin", "password_file"])]
    link: bool,
    #[arg(long)]
    json: bool,
}

/// Secrets are never arguments: those stand in the process list and in shell histories.
#[derive(Debug, Args)]
struct PasswordSource {
    /// Read the password from standard input.
    #[arg(long)]
    password_stdin: bool,
    /// Read the password from a file.
    #[arg(long, value_name = "FILE", conflicts_with = "password_stdin")]
    password_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct SetPasswordArgs {
    name: String,
    #[command(flatten)]
    password: PasswordSource,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ChangeArgs {
    name: String,
    /// The name that people read; an empty one takes it away.
    #[arg(long, value_name = "TEXT", required_unless_present_any = ["email", "no_email"])]
    display: Option<String>,
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// Take the e-mail address away.
    #[arg(long, conflicts_with = "email")]
    no_email: bool,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct GroupsArgs {
    name: String,
    /// The new groups, in place of all that are there.
    groups: Vec<String>,
    /// Add one and keep the others.
    #[arg(long, value_name = "GROUP", conflicts_with = "groups")]
    add: Vec<String>,
    /// Take one away and keep the others.
    #[arg(long, value_name = "GROUP", conflicts_with = "groups")]
    remove: Vec<String>,
    /// Take all away.
    #[arg(long, conflicts_with_all = ["groups", "add", "remove"])]
    none: bool,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct NameArgs {
    name: String,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct JsonArgs {
    #[arg(long)]
    json: bool,
}

pub async fn run(args: UserArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let needs = match &args.command {
        UserCommand::Add(_) | UserCommand::Import(_) => Needs::SettingsAndMake,
        UserCommand::SetPassword(_) => Needs::Settings,
        UserCommand::Remind(_) => Needs::Settings,
        UserCommand::List(_)
        | UserCommand::Progress(_)
        | UserCommand::Show(_)
        | UserCommand::Groups(_)
        | UserCommand::Change(_)
        | UserCommand::Disable(_)
        | UserCommand::Enable(_)
        | UserCommand::Unpause(_)
        | UserCommand::Remove(_)
        | UserCommand::Link(_) => Needs::State,
    };
    let state = state::open(global, needs).await?;
    let operator = operator(&state);
    match args.command {
        UserCommand::Add(args) => add(&state, &operator, args).await?,
        UserCommand::Import(args) => return super::newcomers::run(&state, args).await,
        UserCommand::List(args) => list(&state, args.json).await?,
        UserCommand::Progress(args) => return super::progress::run(&state, args).await,
        UserCommand::Remind(args) => return super::progress::remind(&state, args).await,
        UserCommand::Show(args) => show(&state, &args).await?,
        UserCommand::SetPassword(args) => set_password(&state, &operator, args).await?,
        UserCommand::Groups(args) => groups(&state, &operator, args).await?,
        UserCommand::Change(args) => change(&state, &operator, args).await?,
        UserCommand::Disable(args) => enable(&state, &operator, &args, false).await?,
        UserCommand::Enable(args) => enable(&state, &operator, &args, true).await?,
        UserCommand::Unpause(args) => unpause(&state, &operator, &args).await?,
        UserCommand::Remove(args) => remove(&state, &operator, &args).await?,
        UserCommand::Link(args) => link(&state, &operator, &args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn add(state: &State, operator: &Operator, args: AddArgs) -> anyhow::Result<()> {
    let name = UserName::parse(&args.name)?;
    let draft = Draft {
        display: display_text(args.display.as_deref().unwrap_or_default()).context("the display name")?,
        email: args.email.as_deref().map(email).transpose()?,
        groups: parse_groups(&args.groups)?,
        name,
    };
    warn_of_unnamed(state, draft.groups.iter())?;
    let password = if args.link {
        FirstPassword::ByLink
    } else {
        FirstPassword::Given(read(&args.password, ", or let the person choose it: --link")?)
    };
    let (user, link) = state.auth.add_user(operator, &state.snapshot, draft, password).await?;
    if args.json {
        let mut object = user_json(&user);
        object["link"] = link.as_ref().map_or(Value::Null, |link| link_json(&state.snapshot, link));
        return print(&format!("{object:#}"));
    }
    match &link {
        Some(link) => print_link(&state.snapshot, link),
        None => print(&format!(
            "Added {}. A first factor may be enrolled until {}.",
            user.name,
            user.first_login_until.map(|until| until.to_string()).unwrap_or_default(),
        )),
    }
}

async fn list(state: &State, as_json: bool) -> anyhow::Result<()> {
    let users = state.store.users().await?;
    let mut kinds = state.store.factor_kinds().await?;
    let links = state.store.links(operator(state).now).await?;
    let link_of = |user: &User| links.iter().find(|(of, ..)| *of == user.id);
    let mut kinds_of = |user: &User| kinds.remove(&user.id).unwrap_or_default();
    if as_json {
        let with_factors = |user: &User| {
            let mut object = user_json(user);
            object["factor_kinds"] = json!(kinds_of(user));
            object["link"] = link_of(user).map_or(Value::Null, pending_json);
            object
        };
        let all: Vec<Value> = users.iter().map(with_factors).collect();
        return print(&format!("{:#}", Value::from(all)));
    }
    let mut table = table(&["NAME", "DISPLAY", "GROUPS", "STATUS", "FACTORS"]);
    for user in &users {
        // What is there now: someone whose factors were reset has none, whatever they had.
        let names: Vec<&str> = kinds_of(user).iter().map(|kind| kind.as_str()).collect();
        let factor = match (names.is_empty(), user.first_login_until) {
            (false, _) => names.join(", "),
            (true, Some(until)) if operator(state).now < until => format!("none, may enroll until {until}"),
            (true, _) => "none".to_owned(),
        };
        let factor = match link_of(user) {
            Some((_, kind, until)) => format!("{factor}, {} until {until}", link_word(*kind)),
            None => factor,
        };
        table.add_row([user.name.as_str(), or_dash(&user.display), &joined(&user.groups), status(user), &factor]);
    }
    print(&table.to_string())
}

async fn show(state: &State, args: &NameArgs) -> anyhow::Result<()> {
    let user = named(state, &args.name).await?;
    let enrolled = state.auth.factors_of(&user).await?;
    let sessions = super::session::alive(state, Some(user.id), operator(state).now).await?;
    let has_password = state.store.password_hash(user.id).await?.is_some();
    let now = operator(state).now;
    let link = state.store.links(now).await?.into_iter().find(|(of, ..)| *of == user.id);
    let paused_until = state.auth.paused_until(&user, now).await?;
    let imported = state.store.imported_scheme(user.id).await?;
    if args.json {
        let mut object = user_json(&user);
        object["has_password"] = has_password.into();
        object["password_scheme"] = json!(imported.map(|scheme| scheme.to_string()));
        object["factors"] = super::factor::factors_json(&enrolled);
        object["sessions"] = sessions.len().into();
        object["link"] = link.as_ref().map_or(Value::Null, pending_json);
        object["paused_until"] = paused_until.map(|until| until.to_string()).into();
        return print(&format!("{object:#}"));
    }
    let mut text = String::new();
    let mut line = |key: &str, value: &str| {
        let _ = writeln!(text, "{key:<12}{value}");
    };
    line("name", user.name.as_str());
    line("id", &user.id.to_string());
    line("display", or_dash(&user.display));
    line("email", user.email.as_deref().unwrap_or("-"));
    line("groups", &joined(&user.groups));
    line("status", status(&user));
    line("added", &user.created_at.to_string());
    match imported {
        Some(scheme) => line("password", &format!("set, {scheme} until the next sign-in")),
        None => line("password", if has_password { "set" } else { "not set" }),
    }
    line("sessions", &sessions.len().to_string());
    if let Some((_, kind, until)) = &link {
        line("link", &format!("{}, not used yet, until {until}", link_word(*kind)));
    }
    if let Some(until) = paused_until {
        line("paused", &format!("after too many tries, until {until}; `stepgate user unpause {}` ends it", user.name));
    }
    for factor in enrolled.credentials.iter() {
        line("factor", &format!("{} \"{}\" {}", factor.kind, factor.label, factor.id));
    }
    if let Some(set) = &enrolled.backup {
        line("factor", &format!("backup_codes {} of {} left", set.left, set.made));
    }
    print(text.trim_end())
}

async fn set_password(state: &State, operator: &Operator, args: SetPasswordArgs) -> anyhow::Result<()> {
    let user = named(state, &args.name).await?;
    let password = read(&args.password, "")?;
    state.auth.set_password(operator, &state.snapshot, &user, &password).await?;
    done(args.json, &user, &format!("The password of {} is set; their sessions ended.", user.name))
}

async fn groups(state: &State, operator: &Operator, args: GroupsArgs) -> anyhow::Result<()> {
    let mut user = named(state, &args.name).await?;
    let changes = args.none || !args.groups.is_empty() || !args.add.is_empty() || !args.remove.is_empty();
    if changes {
        let mut groups = match args.none || !args.groups.is_empty() {
            true => parse_groups(&args.groups)?,
            false => user.groups.clone(),
        };
        let remove = parse_groups(&args.remove)?;
        for group in remove.iter().filter(|group| !groups.contains(group)) {
            writeln!(io::stderr(), "stepgate: {} was not in the group {}", user.name, group.as_str())?;
        }
        groups.retain(|group| !remove.contains(group));
        groups.extend(parse_groups(&args.add)?);
        groups.sort();
        groups.dedup();
        warn_of_unnamed(state, groups.iter().filter(|group| !user.groups.contains(group)))?;
        state.auth.set_groups(operator, &user, &groups).await?;
        user.groups = groups;
    }
    if args.json {
        return print(&format!("{:#}", user_json(&user)));
    }
    print(&joined(&user.groups))
}

/// A group that no rule names opens nothing: mostly a typing mistake. It may still be for an app that reads groups.
fn warn_of_unnamed<'g>(state: &State, groups: impl Iterator<Item = &'g GroupName>) -> io::Result<()> {
    let named = state.snapshot.groups_named();
    if !state.settings_known || state.snapshot.routes.iter().next().is_none() {
        return Ok(());
    }
    for group in groups.filter(|group| !named.contains(*group)) {
        let near = did_you_mean(group.as_str(), named.iter().map(GroupName::as_str));
        let near = near.map(|hint| format!(" - {hint}")).unwrap_or_default();
        writeln!(io::stderr(), "stepgate: warning: no rule names the group {:?}{near}", group.as_str())?;
    }
    Ok(())
}

async fn change(state: &State, operator: &Operator, args: ChangeArgs) -> anyhow::Result<()> {
    let mut user = named(state, &args.name).await?;
    let display = args.display.as_deref().map(display_text).transpose().context("the display name")?;
    let email = match (args.email, args.no_email) {
        (Some(address), _) => Some(Some(email(&address)?)),
        (None, true) => Some(None),
        (None, false) => None,
    };
    state.auth.set_profile(operator, &mut user, display, email).await?;
    done(args.json, &user, &format!("{} is changed; apps read it with the next request.", user.name))
}

async fn enable(state: &State, operator: &Operator, args: &NameArgs, enabled: bool) -> anyhow::Result<()> {
    let mut user = named(state, &args.name).await?;
    state.auth.set_enabled(operator, &user, enabled).await?;
    user.status = if enabled { UserStatus::Active } else { UserStatus::Disabled };
    let text = match enabled {
        true => format!("{} may sign in again.", user.name),
        false => format!("{} is disabled; their sessions ended.", user.name),
    };
    done(args.json, &user, &text)
}

async fn unpause(state: &State, operator: &Operator, args: &NameArgs) -> anyhow::Result<()> {
    let user = named(state, &args.name).await?;
    let text = match state.auth.unpause(operator, &user).await? {
        true => format!("Tries of {} begin anew.", user.name),
        false => format!(
            "No tries of {} were counted. A whole address or network may pause as well: that ends by itself, and \
             `stepgate audit tail` says who tried from where.",
            user.name
        ),
    };
    done(args.json, &user, &text)
}

async fn remove(state: &State, operator: &Operator, args: &NameArgs) -> anyhow::Result<()> {
    let user = named(state, &args.name).await?;
    state.auth.remove_user(operator, &user).await?;
    done(args.json, &user, &format!("{} is removed.", user.name))
}

async fn link(state: &State, operator: &Operator, args: &NameArgs) -> anyhow::Result<()> {
    let user = named(state, &args.name).await?;
    if user.status != UserStatus::Active {
        bail!("{} is disabled: a link would open nothing", user.name);
    }
    // Before it is made: one that leads to the wrong host is spent for nothing.
    if !state.settings_known && state.snapshot.portal.is_none() {
        bail!("where the link must lead cannot be read from the configuration; `stepgate check` says what to mend");
    }
    let link = state.auth.link(operator, &user).await?;
    match args.json {
        true => print(&format!("{:#}", link_json(&state.snapshot, &link))),
        false => print_link(&state.snapshot, &link),
    }
}

/// The account of that name.
pub(super) async fn named(state: &State, name: &str) -> anyhow::Result<User> {
    account(&state.store, name).await?.map_err(|unknown| anyhow!(unknown))
}

/// The account of that name, or the one sentence that every command has for a name nobody has.
pub(super) async fn account(store: &Store, name: &str) -> anyhow::Result<Result<User, String>> {
    if let Ok(parsed) = UserName::parse(name)
        && let Some(user) = store.user_by_name(&parsed).await?
    {
        return Ok(Ok(user));
    }
    let all = store.users().await?;
    let near = did_you_mean(name, all.iter().map(|user| user.name.as_str()));
    let near = near.map(|hint| format!(" - {hint}")).unwrap_or_default();
    Ok(Err(format!("no account has the name {name:?}{near}")))
}

/// Who runs this command, for the trail: the account of the operating system, which the
/// environment cannot change.
pub(super) fn operator(state: &State) -> Operator {
    Operator { account: operator_account(), now: state.clock.now() }
}

fn read(source: &PasswordSource, or: &str) -> anyhow::Result<Secret<String>> {
    let mut text = match &source.password_file {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?,
        None if source.password_stdin => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).context("reading the password from standard input")?;
            text
        }
        None if io::stdin().is_terminal() => dialoguer::Password::new()
            .with_prompt("New password")
            .with_confirmation("Again", "The two are not the same.")
            .interact()?,
        None => {
            return Err(Usage(format!("give the password by --password-stdin or --password-file{or}")).into());
        }
    };
    // What `echo` and editors add is not part of it.
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(Secret::new(text))
}

pub(super) fn email(text: &str) -> anyhow::Result<String> {
    // What a relay could not be asked to deliver to: the person would be told of nothing.
    let address: Address = text.parse().map_err(|why| anyhow!("{text:?} is no e-mail address: {why}"))?;
    if text.len() > 254 {
        bail!("{text:?} is no e-mail address: it is too long");
    }
    Ok(address.to_string())
}

fn parse_groups(names: &[String]) -> anyhow::Result<Vec<GroupName>> {
    let mut groups = Vec::with_capacity(names.len());
    for name in names {
        if name.contains(',') {
            let each = name.split(',').collect::<Vec<_>>().join(" --group ");
            return Err(
                Usage(format!("{name:?} is several groups: name each by itself, such as --group {each}")).into()
            );
        }
        let group = GroupName::parse(name).with_context(|| format!("the group {name:?}"))?;
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    Ok(groups)
}

fn joined(groups: &[GroupName]) -> String {
    let names: Vec<&str> = groups.iter().map(GroupName::as_str).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

fn status(user: &User) -> &'static str {
    match user.status {
        UserStatus::Active => "active",
        UserStatus::Disabled => "disabled",
    }
}

/// The one shape of an account in `--json`.
fn user_json(user: &User) -> Value {
    json!({
        "name": user.name.as_str(),
        "id": user.id.to_string(),
        "display": user.display,
        "email": user.email,
        "groups": user.groups.iter().map(GroupName::as_str).collect::<Vec<_>>(),
        "status": status(user),
        "created_at": user.created_at.to_string(),
        "first_login_until": user.first_login_until.map(|until| until.to_string()),
        "ever_enrolled": user.ever_enrolled,
    })
}

fn link_word(kind: LinkKind) -> &'static str {
    match kind {
        LinkKind::SignUp => "sign-up link",
        LinkKind::AccessPass => "access pass",
    }
}

/// A link that was not used yet. Its address is nowhere any more.
fn pending_json((_, kind, until): &(UserId, LinkKind, Timestamp)) -> Value {
    json!({ "kind": link_kind(*kind), "expires_at": until.to_string() })
}

pub(super) fn link_kind(kind: LinkKind) -> &'static str {
    match kind {
        LinkKind::SignUp => "sign_up",
        LinkKind::AccessPass => "access_pass",
    }
}

pub(super) fn link_json(snapshot: &Snapshot, link: &Link) -> Value {
    json!({
        "url": link_url(snapshot, link),
        "kind": link_kind(link.kind),
        "expires_at": link.expires_at.to_string(),
    })
}

/// The address alone on standard output, so that scripts can take it; what it is beside it.
#[expect(clippy::print_stderr, reason = "the explanation is for the person at the terminal")]
fn print_link(snapshot: &Snapshot, link: &Link) -> anyhow::Result<()> {
    let what = match link.kind {
        LinkKind::SignUp => "Sign-up link",
        LinkKind::AccessPass => "Access pass: it opens the set-up of a new way to sign in, and nothing else",
    };
    eprintln!("{what}. Works once, until {}:", link.expires_at);
    print(&link_url(snapshot, link))
}

pub(super) fn link_url(snapshot: &Snapshot, link: &Link) -> String {
    format!("{}{}", snapshot.own_origin().unwrap_or_default(), *link.path)
}

fn done(as_json: bool, user: &User, text: &str) -> anyhow::Result<()> {
    if as_json { print(&format!("{:#}", user_json(user))) } else { print(text) }
}

pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    table
}

/// A command's output. A reader that went away (`| head`) has what it wanted; `println!` would panic.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
