//! Where log lines go: standard error, as JSON for machines or as text for a terminal.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    Text,
    Json,
}

/// Starts logging. `STEPGATE_LOG` filters (`info` by default; `stepgate=debug`).
///
/// The first call wins; later ones change nothing, so that tests may start many gates.
pub fn init(format: LogFormat) {
    let filter = EnvFilter::try_from_env("STEPGATE_LOG").unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let json = match format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        // Else a line that cannot be written (disk full, journald gone) is told by `eprintln!`, which
        // panics where standard error is what cannot be written: the request ends with 500, and a
        // background task, such as the one that reads revocations, for good.
        .log_internal_errors(false)
        .with_target(false);
    // `try_init` fails when a subscriber is there already, which is what "the first wins" means.
    let _ = if json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).try_init()
    };
}
