//! `stepgate doctor`: what is wrong with this set-up, as far as this machine can see, and what to do?
//!
//! `check` reads files; the doctor tries things: it opens the state, asks the apps, and goes the
//! way that a browser would go.

mod apps;
mod fetch;
mod machine;
mod mail;
mod names;
mod running;
mod sms;
mod tls;

use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;

use super::Global;
use super::check::{exit, say};
use crate::app;
use crate::base::clock::{Clock, SystemClock};
use crate::config::{self, Fault, Warning};

/// Try this set-up: state, certificates, names, apps, and what stands in front.
#[derive(Debug, clap::Args)]
pub struct DoctorArgs {
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// How bad it is. Problems make the exit code 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Weight {
    Problem,
    Warning,
    /// What was tried and is good.
    Fine,
    /// What was not tried, or cannot be known from here.
    Untried,
}

#[derive(Debug, Serialize)]
struct Finding {
    weight: Weight,
    /// What was looked at: a file, a host, an app.
    about: String,
    what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    todo: Option<String>,
}

impl Finding {
    fn problem(about: impl Into<String>, what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { weight: Weight::Problem, about: about.into(), what: what.into(), todo: Some(todo.into()) }
    }

    fn warning(about: impl Into<String>, what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { weight: Weight::Warning, about: about.into(), what: what.into(), todo: Some(todo.into()) }
    }

    fn untried(about: impl Into<String>, what: impl Into<String>) -> Self {
        Self { weight: Weight::Untried, about: about.into(), what: what.into(), todo: None }
    }

    fn fine(about: impl Into<String>, what: impl Into<String>) -> Self {
        Self { weight: Weight::Fine, about: about.into(), what: what.into(), todo: None }
    }
}

/// Exit 0 when nothing is wrong, 1 when something is.
pub async fn run(args: &DoctorArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let findings = examine(global).await;
    let good = findings.iter().all(|f| f.weight != Weight::Problem);
    if args.json {
        say(&format!("{:#}", json!({ "ok": good, "findings": findings })))?;
        return Ok(exit(good));
    }
    for weight in [Weight::Problem, Weight::Warning, Weight::Untried, Weight::Fine] {
        for finding in findings.iter().filter(|f| f.weight == weight) {
            let mark = match weight {
                Weight::Problem => "problem",
                Weight::Warning => "warning",
                Weight::Untried => "untried",
                Weight::Fine => "fine   ",
            };
            say(&format!("{mark}  {}: {}", finding.about, finding.what))?;
            if let Some(todo) = &finding.todo {
                say(&format!("         → {todo}"))?;
            }
        }
    }
    let count = |weight| findings.iter().filter(|f| f.weight == weight).count();
    let (problems, warnings) = (count(Weight::Problem), count(Weight::Warning));
    let said = match (problems, warnings) {
        (0, 0) => "Nothing is wrong as far as this machine can see.".to_owned(),
        (0, w) => format!("No problem, {w} to look at."),
        (p, w) => format!("{p} to mend, {w} to look at."),
    };
    say(&match count(Weight::Untried) {
        0 => said,
        n => format!("{said} Not tried: {n}."),
    })?;
    Ok(exit(good))
}

async fn examine(global: &Global) -> Vec<Finding> {
    let file = global.config.display().to_string();
    let config::Examined { snapshot, faults, warnings, state_is_known } = config::examine(&global.config);
    let mut good = faults.is_empty();
    let mut findings: Vec<Finding> = faults.into_iter().map(of_fault).collect();
    machine::files(&mut findings);
    let Some(snapshot) = snapshot else {
        findings.push(Finding::untried(&file, "nothing else was tried: the file cannot be read"));
        return findings;
    };
    if good {
        for failure in config::run_tests(&snapshot, SystemClock.now()) {
            good = false;
            let todo = "mend the rule or the test: `serve` takes no policy whose tests fail";
            findings.push(Finding::problem(&file, format!("test failed: {failure}"), todo));
        }
    }
    if good {
        findings.push(Finding::fine(&file, "the configuration is good"));
    }
    findings.extend(warnings.into_iter().chain(config::due(&snapshot, SystemClock.now())).map(|Warning(warned)| {
        let todo = warned.hint.clone().unwrap_or_else(|| "nothing, where that is meant".to_owned());
        Finding::warning(place(&warned), warned.message, todo)
    }));
    running::examine(&snapshot.listeners, &mut findings).await;
    machine::certificates(&snapshot, &mut findings);
    if good {
        let rehearsal = app::rehearse(&snapshot, SystemClock.now(), &tokio::runtime::Handle::current());
        findings.extend(rehearsal.faults.into_iter().map(|error| {
            Finding::problem(
                &file,
                format!("{:#}", anyhow::Error::from(error)),
                "`serve` would not start: mend it first",
            )
        }));
        findings.extend(
            rehearsal.warnings.into_iter().map(|what| Finding::warning(&file, what, "see `stepgate check --serve`")),
        );
    }
    let keys = if state_is_known { machine::state(&snapshot, &mut findings).await } else { None };
    if good {
        apps::examine(&snapshot, &mut findings).await;
        mail::examine(&snapshot, &mut findings).await;
        sms::examine(&snapshot, &mut findings).await;
        names::examine(&snapshot, keys.as_deref(), &mut findings).await;
    } else {
        findings.push(Finding::untried("apps and names", "what the files say of them is not sure yet"));
    }
    findings
}

fn of_fault(fault: Fault) -> Finding {
    Finding::problem(place(&fault), fault.message, fault.hint.unwrap_or_else(|| "mend the file".to_owned()))
}

/// As `check` writes it.
fn place(fault: &Fault) -> String {
    match fault.line {
        0 => fault.file.to_string(),
        line => format!("{}:{line}:{}", fault.file, fault.column),
    }
}
