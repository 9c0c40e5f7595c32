//! `stepgate serve`: run the gate until a signal.

use std::process::ExitCode;

use anyhow::Context;

use super::Global;
use crate::app::{self, Options};
use crate::base::version;
use crate::telemetry::log::{self, LogFormat};

#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// How log lines on standard error look: text on a terminal, JSON elsewhere.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,

    /// Data threads; one per processor by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

pub fn run(args: ServeArgs, global: &Global) -> anyhow::Result<ExitCode> {
    log::init(args.log_format);
    tracing::info!(version = version::VERSION, commit = version::COMMIT, config = %global.config.display(), "starting");
    // A core dump would hold the key ring (S-KEY-3). A failure here leaves what the system set.
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0) {
        tracing::warn!(error = %error, "core dumps could not be switched off");
    }
    let options = Options { threads: args.threads.map(usize::from), signals: true, ..Options::default() };
    let gate = app::start(&global.config, options).context("the gate did not start")?;
    gate.run_until_signal();
    Ok(ExitCode::SUCCESS)
}
