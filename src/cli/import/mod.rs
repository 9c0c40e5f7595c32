//! `stepgate import`: what another system has, in our words. It says what would become of rules and people, and
//! changes nothing unless it is told to.

mod authelia;
mod htpasswd;
mod oauth2_proxy;
mod people;
mod rules;
mod written;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use self::authelia::{Files, Kind};
use self::people::{People, note};
use self::rules::{Converted, Row};
use self::written::Written;
use super::check::{exit, say};
use super::user::table;
use super::{Global, Usage};
use crate::domain::host::{HostName, Scheme};

#[derive(Debug, Args)]
pub struct ImportArgs {
    #[command(subcommand)]
    command: ImportCommand,
}

#[derive(Debug, Subcommand)]
enum ImportCommand {
    /// People of an htpasswd file: those whose hash is not too weak sign in with their password, the others by a
    /// sign-up link.
    Htpasswd(HtpasswdArgs),
    /// Rules of Authelia's configuration.yml, people of its users file, authenticators of
    /// `authelia storage user totp export`; any of these files, in one go.
    Authelia(AutheliaArgs),
    /// The upstream, routes and sessions of oauth2-proxy's .cfg or alpha YAML.
    Oauth2Proxy(Oauth2ProxyArgs),
}

#[derive(Debug, Args)]
struct HtpasswdArgs {
    file: PathBuf,
    /// Add the people; without it, only say who would be added.
    #[arg(long)]
    apply: bool,
}

#[derive(Debug, Args)]
struct AutheliaArgs {
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// A host that rules for *.example.com hold for, and where the app behind it lives. May stand more than once.
    #[arg(long = "app", value_name = "HOST[=URL]")]
    apps: Vec<String>,
    #[command(flatten)]
    out: OutArgs,
    /// Add the people; without it, only say who would be added.
    #[arg(long)]
    apply: bool,
}

#[derive(Debug, Args)]
struct Oauth2ProxyArgs {
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The host that people open, where the files do not say it.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    #[command(flatten)]
    out: OutArgs,
}

#[derive(Debug, Args)]
struct OutArgs {
    /// Write stepgate.yaml, apps.d/ and the schemas for editors there, over nothing that is there; without it, the
    /// configuration goes to standard output.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Exit 0 when all came over (some of it with notes), 1 when somebody or something was left out.
pub async fn run(args: ImportArgs, global: &Global) -> anyhow::Result<ExitCode> {
    match args.command {
        ImportCommand::Htpasswd(args) => {
            let mut people = People::default();
            htpasswd::read(&text(&args.file)?, &mut people);
            if people.is_empty() {
                anyhow::bail!("{}: there is nobody in it", args.file.display());
            }
            Ok(exit(people::people(people, args.apply, global).await?))
        }
        ImportCommand::Authelia(args) => {
            let apps = args.apps.iter().map(|app| host_and_address(app)).collect::<Result<Vec<_>, _>>()?;
            let mut found = Files::default();
            for file in &args.files {
                let name = file.display().to_string();
                let said = match authelia::read(&name, &text(file)?, &apps, &mut found)? {
                    Kind::Configuration => "a configuration".to_owned(),
                    Kind::Users(n) => format!("a file of users: {n}"),
                    Kind::Authenticators(n) => format!("an export of authenticators: {n}"),
                };
                note(&format!("{name} is {said}"))?;
            }
            let Files { people, converted } = found;
            let mut whole = true;
            if let Some(converted) = converted {
                whole = configuration(converted, args.out.out.as_deref())?;
            }
            if !people.is_empty() {
                whole &= people::people(people, args.apply, global).await?;
            } else if args.apply {
                return Err(
                    Usage("there are no people in these files for --apply: name the file of users".to_owned()).into()
                );
            }
            Ok(exit(whole))
        }
        ImportCommand::Oauth2Proxy(args) => {
            let files = args
                .files
                .iter()
                .map(|file| Ok((file.display().to_string(), text(file)?)))
                .collect::<anyhow::Result<Vec<_>>>()?;
            let host = args.host.as_deref().map(host).transpose()?;
            Ok(exit(configuration(oauth2_proxy::convert(&files, host)?, args.out.out.as_deref())?))
        }
    }
}

/// Hands the configuration out, then the table of rules before and after. `false` when something was left out, or
/// what was made has a fault.
fn configuration(converted: Converted, out: Option<&Path>) -> anyhow::Result<bool> {
    let Converted { mut written, mut rows } = converted;
    let (faults, hidden) = written.settle();
    rules::tell_hidden(&mut rows, &hidden);
    hand_out(&written, out)?;
    let mut shown = table(&["RULE", "BEFORE", "APP", "HERE", "KEPT"]);
    for Row { number, before, app, after, kept } in &rows {
        let number = if *number == 0 { "-".to_owned() } else { number.to_string() };
        shown.add_row([number.as_str(), before, app, &written::short(after), kept.word()]);
    }
    writeln!(io::stderr(), "{shown}")?;
    let count = |kept: rules::Kept| rows.iter().filter(|row| row.kept == kept).count();
    note(&format!(
        "{} as before, {} with a note, {} stricter, {} left out. Compare them: `stepgate explain METHOD URL --as NAME`, `stepgate who-can`",
        count(rules::Kept::Exactly),
        count(rules::Kept::Noted),
        count(rules::Kept::Stricter),
        count(rules::Kept::LeftOut)
    ))?;
    for fault in &faults {
        note(&format!("to be mended before it serves: {fault}"))?;
    }
    Ok(faults.is_empty() && count(rules::Kept::LeftOut) == 0)
}

fn hand_out(written: &Written, out: Option<&Path>) -> anyhow::Result<()> {
    let Some(dir) = out else { return Ok(say(written.whole().trim_end())?) };
    for path in written.write(dir)? {
        say(&path.display().to_string())?;
    }
    Ok(())
}

fn text(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}

fn host(text: &str) -> anyhow::Result<String> {
    let lower = text.to_ascii_lowercase();
    HostName::parse(lower.as_bytes(), Scheme::Https).map_err(|error| Usage(format!("{text:?} is no host: {error}")))?;
    Ok(lower)
}

fn host_and_address(text: &str) -> anyhow::Result<(String, Option<String>)> {
    match text.split_once('=') {
        Some((name, address)) => Ok((host(name)?, Some(address.to_owned()))),
        None => Ok((host(text)?, None)),
    }
}
