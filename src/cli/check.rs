//! `stepgate check`: are the files good, and do their own tests hold?

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Value as Json, json};

use super::Global;
use crate::app;
use crate::base::clock::{Clock, SystemClock};
use crate::config::expect::TestFailure;
use crate::config::{Fault, Purpose, Snapshot, Warning, due, load_for, run_tests};

/// Read the configuration, say everything that is wrong with it, and run its tests.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// Certificates with their keys, secrets and the state directory must be usable too, by the
    /// account that runs this: use the gate's own. Whether ports are free and a database answers
    /// shows when `serve` starts.
    #[arg(long)]
    serve: bool,
}

/// Exit 0 when `serve` would take the files (certificates and secrets apart), 1 otherwise.
pub fn run(args: &CheckArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let purpose = if args.serve { Purpose::Serve } else { Purpose::Check };
    let (snapshot, mut warnings, mut faults) = match load_for(&global.config, purpose) {
        Ok((snapshot, warnings)) => (Some(snapshot), warnings, Vec::new()),
        Err(faults) => (None, Vec::new(), faults),
    };
    if let (true, Some(snapshot)) = (args.serve, &snapshot) {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let app::Rehearsal { faults: found, warnings: also } =
            app::rehearse(snapshot, SystemClock.now(), runtime.handle());
        let whole = |message| Fault::of_file(&global.config.display().to_string(), message);
        faults.extend(found.into_iter().map(|error| whole(format!("{:#}", anyhow::Error::from(error)))));
        warnings.extend(also.into_iter().map(|message| Warning(whole(message))));
    }
    warnings.extend(snapshot.iter().flat_map(|s| due(s, SystemClock.now())));
    let failures = snapshot.as_ref().map(|s| run_tests(s, SystemClock.now())).unwrap_or_default();
    let good = faults.is_empty() && failures.is_empty();
    if args.json {
        let report = json!({
            "ok": good,
            "faults": faults.iter().map(fault_json).collect::<Vec<_>>(),
            "warnings": warnings.iter().map(|Warning(w)| fault_json(w)).collect::<Vec<_>>(),
            "failed_tests": failures.iter().map(failure_json).collect::<Vec<_>>(),
        });
        say(&format!("{report:#}"))?;
        return Ok(exit(good));
    }
    for fault in &faults {
        say(&format!("{fault}"))?;
    }
    for warning in &warnings {
        say(&format!("warning: {warning}"))?;
    }
    for failure in &failures {
        say(&format!("test failed: {failure}"))?;
    }
    say(&summary(&global.config.display().to_string(), snapshot.as_ref(), faults.len(), failures.len()))?;
    Ok(exit(good))
}

fn summary(file: &str, snapshot: Option<&Snapshot>, faults: usize, failures: usize) -> String {
    let Some(snapshot) = snapshot.filter(|_| faults == 0) else {
        return format!("{file}: {}", counted(faults, "fault", "faults"));
    };
    let apps = counted(snapshot.routes.iter().count(), "app", "apps");
    let rules = counted(snapshot.routes.iter().map(|r| r.policy.in_the_file().len()).sum(), "rule", "rules");
    let tests = counted(snapshot.tests.len(), "test", "tests");
    let verdict = if failures == 0 { "good".to_owned() } else { format!("{failures} failed") };
    format!("{file}: {apps}, {rules}, {tests}: {verdict}")
}

fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn fault_json(fault: &Fault) -> Json {
    json!({
        "file": &*fault.file,
        "line": fault.line,
        "column": fault.column,
        "message": fault.message,
        "hint": fault.hint,
    })
}

/// The same shape as a fault.
fn failure_json(failure: &TestFailure) -> Json {
    let place = &failure.test.place;
    let text = failure.to_string();
    let message = text.strip_prefix(&format!("{place}: ")).unwrap_or(&text);
    json!({ "file": &*place.file, "line": place.line, "column": place.column, "message": message, "hint": null })
}

/// One line to standard output. A reader who went away (`| head`) has read enough.
pub(super) fn say(line: &str) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{line}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

pub(super) fn exit(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::from(1) }
}
