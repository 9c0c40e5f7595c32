//! `stepgate apply`, `rollback`, `history`: a policy from elsewhere, in force until somebody says that it may
//! stay; and back.

use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value as Json, json};

use super::check::{exit, say};
use super::{Global, Usage};
use crate::app::{self, Answer, Applied, Ask, Candidate, ControlError, Findings, Record, Refused, Source, source_name};
use crate::audit::operator;
use crate::base::clock::{Clock, SystemClock, Timestamp};
use crate::config::snapshot::Version;
use crate::config::{self, Origin, Purpose};
use crate::domain::audit::printable;

/// Put a policy in force that stands elsewhere, for a time: it is taken back by itself, also by a gate that
/// was killed and started again, unless `stepgate apply --confirm` comes before.
#[derive(Debug, clap::Args)]
pub struct ApplyArgs {
    /// A main file, or a directory with one. What it includes stands beside it; other relative paths
    /// (certificates, secrets, state) start where those of the gate's own main file do.
    #[arg(required_unless_present_any = ["confirm", "history"], conflicts_with_all = ["confirm", "history"])]
    candidate: Option<PathBuf>,
    /// What is in force may stay: the policy of this number, as `apply` printed it. It may be left out by the account
    /// that applied it, unless what was applied before was never confirmed.
    #[arg(long, value_name = "NUMBER", num_args = 0..=1)]
    confirm: Option<Option<u32>>,
    /// The same as `stepgate history`.
    #[arg(long, conflicts_with = "confirm")]
    history: bool,
    /// How long it waits for that: 1s to 24h.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = within)]
    confirm_within: Duration,
    /// Do not ask before.
    #[arg(long, short = 'y')]
    yes: bool,
    /// Only say what the gate finds and what would change.
    #[arg(long, conflicts_with_all = ["confirm", "history", "yes"])]
    dry_run: bool,
    /// Also where somebody would be locked out by it.
    #[arg(long)]
    lockout_is_meant: bool,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Put an older policy in force again, at once and for good. Works while the gate is down, too.
#[derive(Debug, clap::Args)]
pub struct RollbackArgs {
    /// The number of a policy (`stepgate history`), or `files`; what was in force before when left out.
    to: Option<To>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Say which policies were applied, when and by whom, and which is in force.
#[derive(Debug, clap::Args)]
pub struct HistoryArgs {
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug)]
struct To(Source);

impl FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "files" {
            return Ok(Self(None));
        }
        text.parse().map(|number| Self(Some(number))).map_err(|_| "the number of a policy, or `files`".to_owned())
    }
}

fn within(text: &str) -> Result<Duration, String> {
    let within = config::duration(text)?;
    let most = Duration::from_secs(24 * 3600);
    if (Duration::from_secs(1)..=most).contains(&within) { Ok(within) } else { Err("from 1s to 24h".to_owned()) }
}

/// Exit 0 when it is in force (with `--dry-run`: when it could be), 1 when it is not, 3 without a gate.
pub fn run(args: &ApplyArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let Some(candidate) = &args.candidate else {
        return if args.history { history(&HistoryArgs { json: args.json }, global) } else { confirm(args, global) };
    };
    let state = state_of(global)?;
    let Some(candidate) = collect(candidate, args, global)? else { return Ok(exit(false)) };
    let findings = match app::ask(&state, &Ask::Check { candidate: candidate.clone() })? {
        Answer::Checked(findings) => findings,
        other => return refused(other, args.json),
    };
    let good = findings.is_good(args.lockout_is_meant);
    if !args.json {
        tell(&findings, args.lockout_is_meant)?;
    }
    if !good || args.dry_run {
        if args.json {
            say(&format!("{:#}", findings_json(&findings, if good { "good" } else { "refused" })))?;
        } else if !good {
            say("Nothing was put in force.")?;
        }
        return Ok(exit(good));
    }
    if findings.hash == findings.now {
        return told(
            args.json,
            json!({ "outcome": "in_force_already", "hash": findings.hash }),
            "This is the policy in force already.",
        );
    }
    if !args.yes && !agreed(args.confirm_within)? {
        return told(args.json, json!({ "outcome": "not_wanted" }), "Nothing was put in force.").map(|_| exit(false));
    }
    let within_ms = u64::try_from(args.confirm_within.as_millis()).unwrap_or(u64::MAX);
    let (lockout_is_meant, sudo_by) = (args.lockout_is_meant, operator::sudo_by());
    match app::ask(&state, &Ask::Apply { candidate, within_ms, lockout_is_meant, sudo_by })? {
        Answer::Applied(applied) => in_force(&applied, args.json),
        other => refused(other, args.json),
    }
}

fn in_force(applied: &Applied, json: bool) -> anyhow::Result<ExitCode> {
    let Applied { number, findings, until, back_to } = applied;
    if json {
        let mut document = findings_json(findings, "applied");
        document["policy"] = json!(number);
        document["confirm_until"] = json!(until.to_string());
        document["back_to"] = source_json(*back_to);
        say(&format!("{document:#}"))?;
        return Ok(exit(true));
    }
    say(&format!("In force: policy {number} ({}).", version(&findings.hash)))?;
    say(&format!(
        "Try it now. It is taken back at {} UTC, to {}, unless you say:",
        second(*until),
        source_name(*back_to)
    ))?;
    say(&format!("    stepgate apply --confirm {number}"))?;
    Ok(exit(true))
}

fn confirm(args: &ApplyArgs, global: &Global) -> anyhow::Result<ExitCode> {
    match app::ask(&state_of(global)?, &Ask::Confirm { number: args.confirm.flatten(), sudo_by: operator::sudo_by() })?
    {
        Answer::Confirmed { number, hash } => told(
            args.json,
            json!({ "outcome": "confirmed", "policy": number, "hash": hash }),
            &format!(
                "Confirmed: policy {number} ({}) stays in force, until another is applied or the gate's own files change.",
                version(&hash)
            ),
        ),
        other => refused(other, args.json),
    }
}

/// Exit 0 when it is in force, or will be when the gate starts.
pub fn roll_back(args: &RollbackArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let state = state_of(global)?;
    let to = args.to.map(|To(source)| source);
    match app::ask(&state, &Ask::RollBack { to, sudo_by: operator::sudo_by() }) {
        Ok(Answer::RolledBack { source, hash }) => told(
            args.json,
            json!({ "outcome": "rolled_back", "to": source_json(source), "hash": hash }),
            &format!("In force: {} ({}).", source_name(source), version(&hash)),
        ),
        Ok(other) => refused(other, args.json),
        Err(ControlError::NotRunning { .. }) => {
            let rolled = app::roll_back_at_rest(&way_to_state(global)?, to, SystemClock.now())?;
            match rolled {
                Ok(source) => told(
                    args.json,
                    json!({ "outcome": "rolled_back", "to": source_json(source), "when": "start" }),
                    &format!("The gate does not run. When it starts: {}.", source_name(source)),
                ),
                Err(why) => refused(Answer::Refused(Refused::Other(why)), args.json),
            }
        }
        Err(error) => Err(error.into()),
    }
}

pub fn history(args: &HistoryArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let state = state_of(global)?;
    let record = Record::read(&state).context("the history cannot be read")?.unwrap_or_default();
    if args.json {
        let events = record.events.iter().rev().map(|event| {
            json!({
                "at": event.at.to_string(), "by": event.by, "what": event.what, "policy": source_json(event.source),
                "hash": event.hash,
            })
        });
        let kept = record.policies.iter().rev().map(|kept| {
            json!({
                "policy": kept.number, "hash": kept.hash, "at": kept.at.to_string(), "by": kept.by, "from": kept.from,
            })
        });
        let document = json!({
            "in_force": source_json(record.in_force),
            "confirm_until": record.pending.as_ref().map(|pending| pending.until.to_string()),
            "events": events.collect::<Vec<_>>(),
            "kept": kept.collect::<Vec<_>>(),
        });
        say(&format!("{document:#}"))?;
        return Ok(exit(true));
    }
    if record.events.is_empty() {
        say("No policy was applied here: the files are in force.")?;
        return Ok(exit(true));
    }
    let until =
        record.pending.as_ref().map(|pending| format!(", until {} UTC unless it is confirmed", second(pending.until)));
    say(&format!("In force: {}{}.", source_name(record.in_force), until.unwrap_or_default()))?;
    for event in record.events.iter().rev() {
        let (at, source, what) = (second(event.at), source_name(event.source), event.what.words());
        say(&format!("{at}  {source:10}  {what:29}  {:12}  {}", version(&event.hash), printable(&event.by)))?;
    }
    say("To go back to (`stepgate rollback N`, or `files`):")?;
    for kept in record.policies.iter().rev() {
        let (at, version) = (second(kept.at), version(&kept.hash));
        say(&format!("{at}  policy {:3}  {version:12}  from {}", kept.number, printable(&kept.from)))?;
    }
    Ok(exit(true))
}

/// Says beside an answer from the files that the gate works with something else.
#[expect(clippy::print_stderr, reason = "a note for the person at the terminal, beside what programs read")]
pub(super) fn note_what_is_in_force(state: &Path) {
    // Whoever may not look there is told nothing, as before.
    let Ok(Some(record)) = Record::read(state) else { return };
    if record.in_force.is_some() {
        let name = source_name(record.in_force);
        eprintln!("stepgate: note: this is about the files; the gate works with {name}, which was applied over them");
    }
}

fn way_to_state(global: &Global) -> anyhow::Result<config::Snapshot> {
    config::load_state(&global.config)
        .map(|(snapshot, _)| snapshot)
        .map_err(|faults| app::StartError::Config(faults).into())
}

fn state_of(global: &Global) -> anyhow::Result<PathBuf> {
    Ok(way_to_state(global)?.state)
}

/// The files of a candidate, where they have no fault; faults are told, and then there is none.
fn collect(path: &Path, args: &ApplyArgs, global: &Global) -> anyhow::Result<Option<Candidate>> {
    if !path.exists() {
        return Err(Usage(format!("there is no {}", path.display())).into());
    }
    let main = if path.is_dir() { main_in(path, global)? } else { path.to_owned() };
    let origin = Origin { main: &main, base: Origin::of(&global.config).base, shown: None };
    let snapshot = match config::load_from(&origin, Purpose::Check) {
        Ok((snapshot, _)) => snapshot,
        Err(faults) => {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            let findings = Findings { faults, ..Findings::default() };
            if args.json {
                say(&format!("{:#}", findings_json(&findings, "refused")))?;
            } else {
                tell(&findings, false)?;
                if std::fs::read_to_string(&main).is_ok_and(|text| text.lines().any(|line| line.starts_with("app:"))) {
                    say("This is the file of one app: give the directory of the main file that includes it.")?;
                }
                say("Nothing was put in force.")?;
            }
            return Ok(None);
        }
    };
    let mut files = Vec::new();
    let mut bytes = 0;
    for file in &snapshot.files {
        let content = std::fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
        bytes += content.len();
        if bytes > app::MOST_BYTES {
            bail!("the files are larger than {} MiB together", app::MOST_BYTES >> 20);
        }
        files.push((origin.beside(file).to_owned(), data_encoding::BASE64.encode(&content)));
    }
    let shown = main.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let shown = std::path::absolute(shown).unwrap_or_else(|_| shown.to_owned());
    Ok(Some(Candidate { shown, main: origin.beside(&main).to_owned(), files }))
}

/// A main file is named as the gate's own, or as usual.
fn main_in(directory: &Path, global: &Global) -> anyhow::Result<PathBuf> {
    let own = global.config.file_name().map(|name| directory.join(name));
    let usual = directory.join("stepgate.yaml");
    let found = own.into_iter().chain([usual.clone()]).find(|path| path.is_file());
    found.ok_or_else(|| Usage(format!("there is no {}: name the main file", usual.display())).into())
}

fn tell(findings: &Findings, lockout_is_meant: bool) -> io::Result<()> {
    for fault in &findings.faults {
        say(fault)?;
    }
    let kind = if lockout_is_meant { "locks out, as is meant" } else { "locks out" };
    for locked in &findings.locked_out {
        say(&format!("{kind}: {locked}"))?;
    }
    if !findings.locked_out.is_empty() && !lockout_is_meant {
        say("Give those accounts what it asks for first; where it is meant, say --lockout-is-meant.")?;
    }
    for warning in &findings.warnings {
        say(&format!("warning: {warning}"))?;
    }
    if !findings.hash.is_empty() && findings.faults.is_empty() {
        say(&format!("From {} to {}:", version(&findings.now), version(&findings.hash)))?;
        for change in &findings.changes {
            say(&format!("  {change}"))?;
        }
        if findings.changes.is_empty() {
            say("  nothing that the files say")?;
        }
    }
    Ok(())
}

fn agreed(within: Duration) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(Usage("nobody can be asked here: say --yes".to_owned()).into());
    }
    let mut out = io::stderr();
    write!(out, "Put it in force, for {} s unless it is confirmed? [y/N] ", within.as_secs())?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn told(json: bool, document: Json, text: &str) -> anyhow::Result<ExitCode> {
    say(&if json { format!("{document:#}") } else { text.to_owned() })?;
    Ok(exit(true))
}

fn refused(answer: Answer, json: bool) -> anyhow::Result<ExitCode> {
    match answer {
        Answer::Refused(Refused::NotGood(findings)) => {
            if json {
                say(&format!("{:#}", findings_json(&findings, "refused")))?;
            } else {
                tell(&findings, false)?;
                say("Nothing was put in force.")?;
            }
        }
        Answer::Refused(Refused::Other(why)) => {
            told(json, json!({ "outcome": "refused", "why": why }), &format!("Refused: {why}"))?;
        }
        other => bail!("the gate answered something else: {other:?}"),
    }
    Ok(exit(false))
}

fn findings_json(findings: &Findings, outcome: &str) -> Json {
    let Findings { hash, now, faults, locked_out, warnings, changes } = findings;
    json!({
        "outcome": outcome, "hash": hash, "hash_before": now, "faults": faults, "locked_out": locked_out,
        "warnings": warnings, "changes": changes,
    })
}

/// The number of a policy, or "files".
fn source_json(source: Source) -> Json {
    source.map_or_else(|| json!("files"), |number| json!(number))
}

fn version(hash: &str) -> String {
    Version::of(hash).map_or_else(|| "unknown".to_owned(), |version| version.to_string())
}

/// "2026-11-24 10:00:00".
fn second(at: Timestamp) -> String {
    at.to_string().get(..19).map(|text| text.replace('T', " ")).unwrap_or_default()
}
