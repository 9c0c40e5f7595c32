//! `stepgate check`: are the files good, and do their own tests hold?

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::enrolled::{self, Accounts};
use super::state::{Needs, open};
use super::{Global, apply, sarif};
use crate::app;
use crate::base::clock::{Clock, SystemClock};
use crate::config::expect::TestFailure;
use crate::config::{Fault, Purpose, Snapshot, Warning, due, load_for, run_tests, untried};

/// Read the configuration, say everything that is wrong with it, and run its tests.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Print one JSON document.
    #[arg(long, conflicts_with_all = ["github", "sarif"])]
    json: bool,
    /// Print what GitHub Actions shows beside the lines of a pull request.
    #[arg(long, conflicts_with = "sarif")]
    github: bool,
    /// Print SARIF 2.1.0, the form in which code hosts and editors take findings.
    #[arg(long)]
    sarif: bool,
    /// Certificates with their keys, secrets and the state directory must be usable too, by the
    /// account that runs this: use the gate's own. Whether ports are free and a database answers
    /// shows when `serve` starts.
    #[arg(long)]
    serve: bool,
    /// Hold the rules against the accounts too: whom a rule lets in and who has nothing that it asks for.
    #[arg(long)]
    with_store: bool,
}

/// Exit 0 when `serve` would take the files (certificates and secrets apart), 1 otherwise.
pub async fn run(args: &CheckArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let purpose = if args.serve { Purpose::Serve } else { Purpose::Check };
    let (snapshot, mut warnings, mut faults) = match load_for(&global.config, purpose) {
        Ok((snapshot, warnings)) => (Some(snapshot), warnings, Vec::new()),
        Err(faults) => (None, Vec::new(), faults),
    };
    if let (true, Some(snapshot)) = (args.serve, &snapshot) {
        let app::Rehearsal { faults: found, warnings: also, ends } =
            app::rehearse(snapshot, SystemClock.now(), &tokio::runtime::Handle::current());
        let whole = |message| Fault::of_file(&global.config.display().to_string(), message);
        faults.extend(found.into_iter().map(|error| whole(format!("{:#}", anyhow::Error::from(error)))));
        warnings.extend(also.into_iter().chain(ends).map(|message| Warning(whole(message))));
    }
    warnings.extend(snapshot.iter().flat_map(|s| due(s, SystemClock.now())));
    if let Some(snapshot) = &snapshot {
        apply::note_what_is_in_force(&snapshot.state);
    }
    if let (true, Some(snapshot)) = (args.with_store, &snapshot) {
        let store = open(global, Needs::Settings).await?.store;
        let (users, kinds) = (store.users().await?, store.factor_kinds().await?);
        let accounts = Accounts { users, kinds, with_password: store.with_password().await? };
        warnings.extend(enrolled::warnings(snapshot, &accounts, SystemClock.now()));
    }
    let failures = snapshot.as_ref().map(|s| run_tests(s, SystemClock.now())).unwrap_or_default();
    let notes = snapshot.as_ref().map(|s| untried(s, SystemClock.now())).unwrap_or_default();
    let good = faults.is_empty() && failures.is_empty();
    if args.json {
        let report = json!({
            "ok": good,
            "faults": faults.iter().map(fault_json).collect::<Vec<_>>(),
            "warnings": warnings.iter().map(|Warning(w)| fault_json(w)).collect::<Vec<_>>(),
            "failed_tests": failures.iter().map(|failure| fault_json(&of_failure(failure))).collect::<Vec<_>>(),
            "notes": notes.iter().map(fault_json).collect::<Vec<_>>(),
        });
        say(&format!("{report:#}"))?;
        return Ok(exit(good));
    }
    if args.sarif {
        let tests: Vec<Fault> = failures.iter().map(of_failure).collect();
        let findings = faults.iter().map(|fault| (sarif::Kind::Fault, fault));
        let findings = findings.chain(tests.iter().map(|fault| (sarif::Kind::FailedTest, fault)));
        let findings = findings.chain(warnings.iter().map(|Warning(fault)| (sarif::Kind::Warning, fault)));
        let findings = findings.chain(notes.iter().map(|fault| (sarif::Kind::Untried, fault)));
        say(&format!("{:#}", sarif::document(findings)))?;
        return Ok(exit(good));
    }
    if args.github {
        let all = |faults: &[Fault], kind: &str| -> io::Result<()> {
            faults.iter().try_for_each(|fault| say(&annotation(kind, fault)))
        };
        all(&faults, "error")?;
        all(&failures.iter().map(of_failure).collect::<Vec<_>>(), "error")?;
        all(&warnings.iter().map(|Warning(fault)| fault.clone()).collect::<Vec<_>>(), "warning")?;
        all(&notes, "notice")?;
        say(&summary(&global.config.display().to_string(), snapshot.as_ref(), faults.len(), failures.len()))?;
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
    for note in &notes {
        say(&format!("note: {note}"))?;
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

pub(super) fn fault_json(fault: &Fault) -> Json {
    json!({
        "file": &*fault.file,
        "line": fault.line,
        "column": fault.column,
        "message": fault.message,
        "hint": fault.hint,
    })
}

fn of_failure(failure: &TestFailure) -> Fault {
    let place = &failure.test.place;
    let text = failure.to_string();
    let message = text.strip_prefix(&format!("{place}: ")).unwrap_or(&text).to_owned();
    Fault { file: Arc::clone(&place.file), line: place.line, column: place.column, message, hint: None }
}

/// A workflow command (docs.github.com, "Workflow commands for GitHub Actions"). What would end a field is
/// escaped: a file's words must not become a command of their own.
fn annotation(kind: &str, fault: &Fault) -> String {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let mut fields = format!("file={}", property(&fault.file));
    if fault.line > 0 {
        fields.push_str(&format!(",line={},col={}", fault.line, fault.column));
    }
    let hint = fault.hint.as_ref().map(|hint| format!(" - {hint}")).unwrap_or_default();
    format!("::{kind} {fields}::{}", data(&format!("{}{hint}", fault.message)))
}

/// What the files say, for commands that ask about the policy; their faults are told, and then there is none.
pub(super) fn sound_files(global: &Global) -> io::Result<Option<Snapshot>> {
    let faults = match load_for(&global.config, Purpose::Check) {
        Ok((snapshot, _)) => {
            apply::note_what_is_in_force(&snapshot.state);
            return Ok(Some(snapshot));
        }
        Err(faults) => faults,
    };
    for fault in &faults {
        say(&format!("{fault}"))?;
    }
    Ok(None)
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
