//! L8: the commands. Each file is one command of DESIGN's "For scripts"; this one reads the
//! arguments and turns outcomes into exit codes.

pub mod apply;
pub mod audit;
pub mod check;
pub mod demo;
pub mod diff;
pub mod doctor;
mod enrolled;
pub mod explain;
pub mod factor;
pub mod import;
pub mod incident;
pub mod keys;
pub mod mail;
mod newcomers;
pub mod posture;
mod progress;
pub mod prove;
mod sarif;
pub mod schema;
pub mod serve;
pub mod session;
mod short_id;
pub mod sms;
pub mod state;
pub mod test;
pub mod user;
pub mod who_can;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::base::version;
use crate::config;

/// 0 good, 1 a finding or refusal, 2 usage (clap), 3 the state or a service is out of reach.
pub const REFUSED: u8 = 1;
pub const USAGE: u8 = 2;
pub const OUT_OF_REACH: u8 = 3;

/// A command line that cannot be meant, found after clap had read it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The authenticating reverse proxy for legacy web apps.
#[derive(Debug, Parser)]
#[command(name = "stepgate", version = version::full(), max_term_width = 100, disable_help_subcommand = true)]
struct Arguments {
    /// The main configuration file [default: config/stepgate.yaml; where that is not there,
    /// /etc/stepgate/stepgate.yaml].
    #[arg(long, global = true, env = "STEPGATE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

/// What every command is given.
#[derive(Clone, Debug)]
pub struct Global {
    pub config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gate.
    Serve(serve::ServeArgs),
    /// Run a gate with a small legacy app behind it, on this machine alone, to try things.
    Demo(demo::DemoArgs),
    /// Add, change and remove accounts.
    User(user::UserArgs),
    /// Enroll, list and remove second factors.
    Factor(factor::FactorArgs),
    /// Read the configuration, say everything that is wrong with it, and run its tests.
    Check(check::CheckArgs),
    /// Put a policy from elsewhere in force, for a time unless it is confirmed.
    Apply(apply::ApplyArgs),
    /// Put an older policy in force again.
    Rollback(apply::RollbackArgs),
    /// Say which policies were applied, when and by whom.
    History(apply::HistoryArgs),
    /// Try this set-up: state, certificates, names, apps, and what stands in front.
    Doctor(doctor::DoctorArgs),
    /// Say what the gate would do with a request, and why.
    Explain(explain::ExplainArgs),
    /// Say who of all accounts can open a page, who after a further factor, and who cannot.
    WhoCan(who_can::WhoCanArgs),
    /// Show that no other spelling of a request goes round a rule; by the policy, or by asking the app.
    Prove(prove::ProveArgs),
    /// Say what changes between two configurations: rules, and verdicts by request and person.
    Diff(diff::DiffArgs),
    /// Run the tests of the policy files.
    Test(test::TestArgs),
    /// Print the JSON Schema of the configuration, for editors, or all options as a page.
    Schema(schema::SchemaArgs),
    /// Take over rules and people of another system: htpasswd, Authelia, oauth2-proxy.
    Import(import::ImportArgs),
    /// See who is signed in, and end sessions.
    Session(session::SessionArgs),
    /// See what people said was not them, and close it.
    Incident(incident::IncidentArgs),
    /// Try the mail relay.
    Mail(mail::MailArgs),
    /// Try the gateway for text messages.
    Sms(sms::SmsArgs),
    /// See the keys of the ring.
    Keys(keys::KeysArgs),
    /// See how careful the gate is, or say how careful it is to be.
    Posture(posture::PostureArgs),
    /// Read the audit trail, export it, prove that it is whole.
    Audit(audit::AuditArgs),
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Before anything speaks TLS: one provider for the process (DEPENDENCIES, rustls trap).
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let global = Global { config: arguments.config.unwrap_or_else(usual_config) };
    let outcome = match arguments.command {
        Command::Serve(args) => serve::run(args, &global),
        Command::Demo(args) => demo::run(args),
        Command::User(args) => block_on(user::run(args, &global)),
        Command::Factor(args) => block_on(factor::run(args, &global)),
        Command::Check(args) => block_on(check::run(&args, &global)),
        Command::Apply(args) => apply::run(&args, &global),
        Command::Rollback(args) => apply::roll_back(&args, &global),
        Command::History(args) => apply::history(&args, &global),
        Command::Doctor(args) => block_on(doctor::run(&args, &global)),
        Command::Explain(args) => block_on(explain::run(args, &global)),
        Command::WhoCan(args) => block_on(who_can::run(args, &global)),
        Command::Prove(args) => block_on(prove::run(args, &global)),
        Command::Diff(args) => block_on(diff::run(&args)),
        Command::Test(args) => test::run(&args, &global),
        Command::Schema(args) => schema::run(&args),
        Command::Import(args) => block_on(import::run(args, &global)),
        Command::Session(args) => block_on(session::run(args, &global)),
        Command::Incident(args) => block_on(incident::run(args, &global)),
        Command::Mail(args) => block_on(mail::run(args, &global)),
        Command::Sms(args) => block_on(sms::run(args, &global)),
        Command::Keys(args) => block_on(keys::run(args, &global)),
        Command::Posture(args) => block_on(posture::run(args, &global)),
        Command::Audit(args) => block_on(audit::run(args, &global)),
    };
    outcome.unwrap_or_else(|error| complain(&error))
}

/// The file of the directory one works in, or the installed one: at night nobody stands in the
/// right directory.
fn usual_config() -> PathBuf {
    let [here, installed] = config::USUAL.map(Path::new);
    // One that this account may not look at is there, and says so when it is read.
    let there = |path: &Path| path.try_exists().unwrap_or(true);
    if !there(here) && there(installed) { installed } else { here }.to_owned()
}

/// Runs the future of a short command.
fn block_on<F: Future<Output = anyhow::Result<ExitCode>>>(future: F) -> anyhow::Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(future)
}

#[expect(clippy::print_stderr, reason = "a command's error is for the person at the terminal")]
fn complain(error: &anyhow::Error) -> ExitCode {
    eprintln!("stepgate: {error:#}");
    state::exit_code(error)
}
