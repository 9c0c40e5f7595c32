//! `stepgate audit`: read the trail, take it elsewhere, prove that it is whole.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::state::Needs;
use super::{Global, REFUSED, state};
use crate::audit::verify::MOST;
use crate::audit::{Anchor, ExportError, Finding, Format, Page, Report, export, verify};
use crate::base::clock::Timestamp;
use crate::config::did_you_mean;
use crate::domain::audit::{Action, Reference, printable};
use crate::domain::user::UserName;
use crate::store::{AuditFilter, AuditRow, Store};

#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the newest events, the latest last.
    Tail {
        /// How many.
        #[arg(short, default_value_t = 20, value_name = "N")]
        n: u32,
        /// Go on showing events as they come, until interrupted.
        #[arg(long)]
        follow: bool,
        /// One JSON object on each line.
        #[arg(long)]
        json: bool,
        /// Only what this account did, or what was done to it.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// Only this action, for instance `sign_in`.
        #[arg(long, value_name = "ACTION", value_parser = action)]
        action: Option<Action>,
        /// Only what belongs to the reference that a page or an answer of the gate showed, one fact on
        /// each line. Its first 13 digits are nearly always enough, 8 name about a minute.
        #[arg(long, value_name = "REFERENCE")]
        request: Option<Reference>,
    },
    /// Write the whole trail to standard output.
    Export {
        #[arg(long, value_enum, default_value_t = ExportFormat::Jsonl)]
        format: ExportFormat,
        /// From this time on, for instance 2026-11-01T00:00:00Z.
        #[arg(long, value_name = "RFC3339", value_parser = Timestamp::parse_rfc3339)]
        since: Option<Timestamp>,
        /// Up to this time, which is not included.
        #[arg(long, value_name = "RFC3339", value_parser = Timestamp::parse_rfc3339)]
        until: Option<Timestamp>,
    },
    /// Check that no row was edited, removed, swapped or cut off. Exit code 1 when one was.
    Verify {
        /// An end of the trail that an earlier `verify` printed and that was kept elsewhere: finds
        /// also a trail that was replaced by an older copy of itself.
        #[arg(long, value_name = "SEQ:HASH", value_parser = anchor)]
        anchor: Option<Anchor>,
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExportFormat {
    Jsonl,
    Csv,
}

fn action(text: &str) -> Result<Action, String> {
    serde_json::from_value(text.into()).map_err(|error| {
        // serde names them all, the only list that cannot be forgotten when an action is added.
        let error = error.to_string();
        let known = error.split_once("expected one of ").map_or("", |(_, known)| known).replace('`', "");
        let near = did_you_mean(text, known.split(", ")).map(|hint| format!(" {hint}")).unwrap_or_default();
        format!("there is no such action.{near} The actions are: {known}")
    })
}

fn anchor(text: &str) -> Result<Anchor, String> {
    Anchor::parse(text).ok_or_else(|| "it looks like 120:9f86d0…, as `audit verify` prints it".to_owned())
}

pub async fn run(args: AuditArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let store = &state::open(global, Needs::State).await?.store;
    let done = match args.command {
        Command::Tail { n, follow, json, user, action, request } => {
            let format = match (json, &request) {
                (true, _) => Format::JsonLines,
                (false, Some(_)) => Format::Facts,
                (false, None) => Format::Lines,
            };
            let filter = AuditFilter { user, action, request, since: None, until: None };
            tail(store, &filter, n, follow, format).await
        }
        Command::Export { format, since, until } => {
            let format = match format {
                ExportFormat::Jsonl => Format::JsonLines,
                ExportFormat::Csv => Format::Csv,
            };
            let filter = AuditFilter { since, until, ..AuditFilter::default() };
            let mut out = io::BufWriter::new(io::stdout());
            export(store, &filter, format, &mut out).await.map(|()| ExitCode::SUCCESS)
        }
        Command::Verify { anchor, json } => prove(store, anchor.as_ref(), json).await,
    };
    match done {
        // The reader went away (`| head`): it has what it wanted.
        Err(ExportError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        other => Ok(other?),
    }
}

async fn tail(
    store: &Store,
    filter: &AuditFilter,
    n: u32,
    follow: bool,
    format: Format,
) -> Result<ExitCode, ExportError> {
    // Where to go on is asked first: a row that comes in between is then shown, not lost.
    let mut after = store.audit_head().await?.map_or(0, |head| head.seq);
    let rows = store.audit_tail(filter, n).await?;
    after = rows.last().map_or(after, |row| row.seq.max(after));
    show(format, &rows)?;
    if rows.is_empty() && !follow {
        nothing_found(store, filter).await?;
    }
    if let Some(begun) = filter.request.as_ref().filter(|request| !request.is_whole()) {
        let events = rows.iter().filter_map(|row| serde_json::from_str::<serde_json::Value>(&row.payload).ok());
        let references: BTreeSet<String> =
            events.filter_map(|e| Some(e.get("request")?.as_str()?.to_owned())).collect();
        let references = references.len();
        if references > 1 {
            writeln!(
                io::stderr(),
                "stepgate: {references} references begin with {}, of about the same minute: give more of it.",
                begun.as_str()
            )?;
        }
    }
    if !follow {
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
        let rows = store.audit_rows(filter, after, 1000).await?;
        after = rows.last().map_or(after, |row| row.seq);
        show(format, &rows)?;
    }
}

/// An empty answer says what it means: to standard error, so that scripts still read nothing.
async fn nothing_found(store: &Store, filter: &AuditFilter) -> Result<(), ExportError> {
    let mut err = io::stderr().lock();
    if let Some(reference) = &filter.request {
        let is = if reference.is_whole() { "is" } else { "begins with" };
        writeln!(
            err,
            "stepgate: no event has a reference that {is} {}. Events are sign-ins, refusals by a rule and changes; every other \
             answer has one line in the access log, with the reference as `id` (`serve` writes it to standard output).",
            reference.as_str()
        )?;
    } else if let Some(name) = &filter.user {
        let there = match UserName::parse(name) {
            Ok(name) => store.user_by_name(&name).await?.is_some(),
            Err(_no_name) => false,
        };
        let (name, what) = (printable(name), if there { "" } else { ", and no account has this name" });
        writeln!(err, "stepgate: no event names {name}{what}.")?;
    } else {
        writeln!(err, "stepgate: no event matches.")?;
    }
    Ok(())
}

fn show(format: Format, rows: &[AuditRow]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    Page { format, rows }.write(&mut out)?;
    out.flush()
}

async fn prove(store: &Store, anchor: Option<&Anchor>, json: bool) -> Result<ExitCode, ExportError> {
    let report = verify(store, anchor).await?;
    let mut out = io::stdout().lock();
    let last = report.last.as_ref().map(ToString::to_string);
    if json {
        let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        let whole = findings.is_empty();
        writeln!(
            out,
            "{}",
            serde_json::json!({ "whole": whole, "rows": report.rows, "anchor": last, "findings": findings })
        )?;
    } else if report.findings.is_empty() {
        writeln!(out, "The trail is whole: {} rows.", report.rows)?;
        if let Some(last) = last {
            writeln!(out, "Its end, to keep elsewhere: {last}")?;
        }
    } else if wrong_ring(&report) {
        writeln!(
            out,
            "The key ring is not the one that this trail was written with, so nothing in it can be judged: put the right \
             ring back, then verify again."
        )?;
    } else {
        writeln!(out, "The trail was changed by other hands than the gate's:")?;
        for finding in &report.findings {
            writeln!(out, "  {finding}")?;
        }
        if report.findings.len() >= MOST {
            writeln!(out, "  (more is wrong; the list ends here)")?;
        }
    }
    Ok(if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

/// Not a row fits and neither does the end: nobody edits every single row.
fn wrong_ring(report: &Report) -> bool {
    let edited = report.findings.iter().filter(|f| matches!(f, Finding::Edited { .. })).count();
    let every = usize::try_from(report.rows).unwrap_or(usize::MAX);
    // The list ends at MOST; what did not fit in it could only be more of the same.
    let head = report.findings.contains(&Finding::HeadChanged) || report.findings.len() >= MOST;
    every > 0 && head && edited >= every.min(MOST - 1)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        audit: AuditArgs,
    }

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(std::iter::once("audit").chain(line.split(' '))).map(|cli| cli.audit.command)
    }

    #[test]
    fn what_cannot_be_meant_is_a_usage_error() {
        for good in [
            "tail",
            "tail -n 5 --follow --json --user ann --action sign_in",
            "tail --request 019aa2f4-6b1c-7c3e-9d2a-5f0b8c7d6e5f",
            "tail --request 019AA2F4-6B1C-7C3E-9D2A-5F0B8C7D6E5F",
            "tail --request 019aa2f46b1c7c3e9d2a5f0b8c7d6e5f",
            "tail --request 019aa2f4",
            "tail --request 019AA2F4-6b1",
            "export --format csv --since 2026-11-01T00:00:00Z --until 2026-12-01T00:00:00Z",
            "verify --json",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "tail --action SignIn",
            "tail --request 019aa2f",
            "tail --request 019aa2f%",
            "tail --request 019aa2f4-6b1c-7c3e-9d2a-5f0b8c7d6e5f0",
            "export --since yesterday",
            "export --format xml",
            "verify --anchor 1:x",
        ] {
            assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
