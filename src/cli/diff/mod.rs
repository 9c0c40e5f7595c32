//! `stepgate diff OLD NEW`: what changes for whom between two configurations. The rules as the files have them, and
//! what `decide()` says before and after to every kind of request and person that either of them tells apart.

mod replay;
mod requests;
mod verdicts;

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value as Json, json};

use self::replay::{Replay, Replayer};
use self::verdicts::{Compared, Difference};
use super::check::say;
use super::state::{Needs, open};
use super::user::table;
use super::{Global, USAGE, Usage};
use crate::base::clock::{Clock, SystemClock, Timestamp};
use crate::config::{self, Change, Purpose, Snapshot, What, duration, load_for};
use crate::domain::posture::Posture;

/// Say what changes between two configurations: rules, and verdicts by request and person.
#[derive(Debug, clap::Args)]
pub struct DiffArgs {
    /// The main file of the configuration as it is, or the directory of its stepgate.yaml.
    old: PathBuf,
    /// The main file of the configuration as it is to be, or its directory.
    new: PathBuf,
    /// The moment; now when left out. Where rules have `hours`, moments inside and outside of them are tried too.
    #[arg(long, value_name = "RFC3339")]
    time: Option<String>,
    /// The posture of the gate in which requests are asked; the files' own words are compared for all of them.
    #[arg(long, value_name = "POSTURE", default_value = "normal", value_parser = super::posture::parse)]
    posture: Posture,
    /// Ask every decision of these access logs again under both (`-`: standard input); the groups of people are those
    /// of the accounts that OLD leads to. May stand more than once.
    #[arg(long, value_name = "LOG")]
    replay: Vec<PathBuf>,
    /// Of the logs, only the last so many days or hours, such as 7d or 12h.
    #[arg(long, value_name = "TIME", requires = "replay")]
    since: Option<String>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// So many requests of one change are named.
const SHOWN: usize = 3;

/// Exit 0 when nothing changes, 1 when something does, 2 when one of them has faults.
pub async fn run(args: &DiffArgs) -> anyhow::Result<ExitCode> {
    let now = match &args.time {
        Some(text) => Timestamp::parse_rfc3339(text)
            .map_err(|_| Usage(format!("{text:?} is no time: write it like 2026-11-24T14:30:00Z")))?,
        // Whole seconds, as people write them.
        None => Timestamp::from_secs(SystemClock.now().as_secs()),
    };
    let (Some(old), Some(new)) = (read(&main_file(&args.old))?, read(&main_file(&args.new))?) else {
        return Ok(ExitCode::from(USAGE));
    };
    let changes = config::changes(&old, &new);
    let (old, new) = (old.under(args.posture), new.under(args.posture));
    let compared = verdicts::compare(&old, &new, now);
    let replay = match args.replay.is_empty() {
        true => None,
        false => Some(replayed(args, &old, &new, now).await?),
    };
    let same = changes.is_empty() && compared.differences.is_empty() && replay.as_ref().is_none_or(Replay::is_same);
    if args.json {
        let mut report = report(&changes, &compared);
        report["same"] = same.into();
        report["replay"] = replay.map_or(Json::Null, |replay| replay.report());
        say(&format!("{report:#}"))?;
    } else {
        show(&changes, &compared)?;
        if let Some(replay) = &replay {
            show_replay(replay)?;
        }
    }
    Ok(ExitCode::from(u8::from(!same)))
}

/// Reads the logs through both configurations.
async fn replayed(args: &DiffArgs, old: &Snapshot, new: &Snapshot, now: Timestamp) -> anyhow::Result<Replay> {
    let since = args.since.as_deref().map(duration).transpose().map_err(Usage)?.map(|since| now.minus(since));
    let state = open(&Global { config: main_file(&args.old) }, Needs::Settings).await?;
    let users = state.store.users().await?;
    let mut replayer = Replayer::new(old, new, &users, since);
    for log in &args.replay {
        let reading = || format!("reading {}", log.display());
        if log.as_os_str() == "-" {
            replayer.read(io::stdin().lock()).with_context(reading)?;
        } else {
            replayer.read(BufReader::new(File::open(log).with_context(reading)?)).with_context(reading)?;
        }
    }
    Ok(replayer.end())
}

fn show_replay(replay: &Replay) -> anyhow::Result<()> {
    say("")?;
    if replay.requests == 0 {
        say("The log holds no decision that could be asked again.")?;
    } else {
        let (changed, of, people) = (replay.changed_requests(), replay.requests, replay.changed_people());
        say(&format!("{changed} of {of} requests of the log come to something else, {people} people among them."))?;
    }
    if !replay.changed.is_empty() {
        let mut shown = table(&["APP", "RULE", "BEFORE", "AFTER", "REQUESTS", "PEOPLE"]);
        for changed in &replay.changed {
            let (old, new) = &changed.rules;
            let rule = if old == new { old.clone() } else { format!("{old}, now {new}") };
            let mut people: Vec<&str> = changed.people.iter().take(SHOWN).map(String::as_str).collect();
            let more = format!("and {} more", changed.people.len().saturating_sub(SHOWN));
            if changed.people.len() > SHOWN {
                people.push(&more);
            }
            let people = if people.is_empty() { "strangers".to_owned() } else { people.join(", ") };
            let requests = changed.requests.to_string();
            shown.add_row([&changed.app, &rule, &changed.before, &changed.after, &requests, &people]);
        }
        say(&shown.to_string())?;
    }
    let (before, after) = replay.per_day();
    let days = replay.person_days;
    say(&format!(
        "Prompts per person and day: {before:.2} before, {after:.2} after ({:+.2}), over {days} days of people.",
        after - before
    ))?;
    for (count, what) in [
        (replay.unread, "lines could not be asked again: another program's, cut off, or of an app that OLD has not"),
        (replay.unknown.len() as u64, "people have no account any more: asked as if they were in no group"),
    ] {
        if count > 0 {
            say(&format!("{count} {what}."))?;
        }
    }
    if replay.reads_query {
        say("The log holds nothing of queries and bodies: rules that look at one were asked as if there were none.")?;
    }
    Ok(())
}

/// Whoever compares two checkouts names two directories.
fn main_file(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("stepgate.yaml") } else { path.to_owned() }
}

/// The configuration; `None` where it has faults, which are told.
fn read(path: &Path) -> anyhow::Result<Option<Snapshot>> {
    match load_for(path, Purpose::Check) {
        Ok((snapshot, _)) => Ok(Some(snapshot)),
        Err(faults) => {
            for fault in &faults {
                say(&format!("{fault}"))?;
            }
            Ok(None)
        }
    }
}

fn show(changes: &[Change], compared: &Compared) -> anyhow::Result<()> {
    if changes.is_empty() {
        say("Nothing that the files say is different.")?;
    }
    for Change { app, what, before, after } in changes {
        say(&format!("{app}: {what}"))?;
        for (sign, text) in [("-", before), ("+", after)] {
            if let Some(text) = text {
                say(&format!("  {sign} {text}"))?;
            }
        }
    }
    say("")?;
    let Compared { differences, asked, people } = compared;
    let tried = format!(
        "{asked} questions were asked of both: the requests that either tells apart, each as {people} kinds of people."
    );
    if differences.is_empty() {
        say(&format!("No verdict changes. {tried}"))?;
        return Ok(());
    }
    let mut shown = table(&["APP", "WHO", "BEFORE", "AFTER", "REQUESTS"]);
    for Difference { app, who, before, after, requests } in differences {
        let mut named: Vec<&str> = requests.iter().take(SHOWN).map(String::as_str).collect();
        let more = format!("and {} more", requests.len().saturating_sub(SHOWN));
        if requests.len() > SHOWN {
            named.push(&more);
        }
        shown.add_row([app.as_str(), who, before, after, &named.join("\n")]);
    }
    say(&shown.to_string())?;
    say("")?;
    say(&tried)?;
    Ok(())
}

fn report(changes: &[Change], compared: &Compared) -> Json {
    let change = |change: &Change| {
        let (kind, rule) = match &change.what {
            What::Of(kind) | What::Key(kind) => (*kind, None),
            What::Rule { kind, rule } => (*kind, Some(rule)),
        };
        json!({ "app": change.app, "what": kind, "rule": rule, "before": change.before, "after": change.after })
    };
    let difference = |d: &Difference| json!({ "app": d.app, "who": d.who, "before": d.before, "after": d.after, "requests": d.requests });
    json!({
        "same": changes.is_empty() && compared.differences.is_empty(),
        "changes": changes.iter().map(change).collect::<Vec<_>>(),
        "verdicts": compared.differences.iter().map(difference).collect::<Vec<_>>(),
        "asked": compared.asked,
        "people": compared.people,
    })
}
