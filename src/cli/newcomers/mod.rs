//! `stepgate user import`: an account and a one-time sign-up link for everybody of a spreadsheet, all or nobody.

mod sheet;

use std::collections::{HashMap, HashSet};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use serde_json::{Value, json};

use self::sheet::{Row, Sheet, fault};
use super::check::{exit, fault_json};
use super::state::State;
use super::user::{link_json, link_url, operator, print};
use crate::audit::export::csv_line;
use crate::auth::import::{Arrival, Newcomer};
use crate::auth::link::Link;
use crate::auth::users::Draft;
use crate::config::{Fault, did_you_mean};
use crate::domain::user::{GroupName, User};

#[derive(Debug, Args)]
pub struct SheetArgs {
    /// A CSV file whose first line names its columns: name, display, email, groups (`|` between several); `-` for
    /// standard input.
    file: PathBuf,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Add those whose rows are good; without it a single mistake adds nobody.
    #[arg(long)]
    partial: bool,
    /// Take groups that no rule and no account names.
    #[arg(long)]
    new_groups: bool,
    /// One object in place of the CSV: `people`, `faults`, `written`.
    #[arg(long)]
    json: bool,
}

/// What becomes of a row.
enum Fate {
    Added(Option<Link>),
    WouldBeAdded,
    /// They have an account already: it stays as it is.
    There,
}

impl Fate {
    fn word(&self) -> &'static str {
        match self {
            Self::Added(_) => "added",
            Self::WouldBeAdded => "would_be_added",
            Self::There => "exists",
        }
    }
}

/// The people on standard output, as CSV with the link of each, and everything else beside it. Exit 0 when everybody
/// of the sheet has an account now, 1 when there was a fault.
pub async fn run(state: &State, args: SheetArgs) -> anyhow::Result<ExitCode> {
    let (file, bytes) = contents(&args.file)?;
    let Sheet { rows, mut faults } = sheet::read(&file, &bytes);
    let accounts = state.store.users().await?;
    let rows = against_accounts(state, &file.as_str().into(), rows, &accounts, args.new_groups, &mut faults);
    faults.sort_by_key(|fault| (fault.line, fault.column));
    for fault in &faults {
        writeln!(io::stderr(), "{fault}")?;
    }
    let there: HashSet<&str> = accounts.iter().map(|user| user.name.as_str()).collect();
    let (old, new): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| there.contains(row.draft.name.as_str()));
    let refused = !faults.is_empty() && !args.partial;
    let written = !refused && !args.dry_run;
    let mut people: Vec<(Draft, Fate)> = Vec::with_capacity(old.len() + new.len());
    if written {
        let newcomers =
            new.into_iter().map(|row| Newcomer { draft: row.draft, disabled: false, old: None }).collect::<Vec<_>>();
        let operator = operator(state);
        let made = state.auth.import(&operator, &state.snapshot, newcomers, Vec::new()).await;
        people.extend(made.context("nobody was added")?.into_iter().map(arrived));
    } else {
        people.extend(new.into_iter().map(|row| (row.draft, Fate::WouldBeAdded)));
    }
    people.extend(old.into_iter().map(|row| (row.draft, Fate::There)));
    let added = people.iter().filter(|(_, fate)| !matches!(fate, Fate::There)).count();
    tell(state, &people, &faults, written, args.json)?;
    let there = people.len() - added;
    let sentence = match (refused, args.dry_run) {
        (true, _) => {
            format!("nobody was added: {} to mend (--partial adds the others)", counted(faults.len(), "fault"))
        }
        (false, true) => format!("{added} would be added, {there} have an account already; nothing was written"),
        (false, false) => format!("{added} added, {there} had an account already and stay as they are"),
    };
    writeln!(io::stderr(), "stepgate: {sentence}")?;
    if written && added > 0 {
        writeln!(io::stderr(), "stepgate: a link works once, for 72 h; `stepgate user progress` says who has used it")?;
    }
    Ok(exit(faults.is_empty()))
}

fn contents(path: &Path) -> anyhow::Result<(String, Vec<u8>)> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).context("reading standard input")?;
        return Ok(("standard input".to_owned(), bytes));
    }
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok((path.display().to_string(), bytes))
}

/// Those rows that do not clash with the accounts and the groups that are there.
fn against_accounts(
    state: &State,
    file: &Arc<str>,
    rows: Vec<Row>,
    accounts: &[User],
    new_groups: bool,
    faults: &mut Vec<Fault>,
) -> Vec<Row> {
    let folded: HashMap<String, &User> =
        accounts.iter().map(|user| (user.name.as_str().to_lowercase(), user)).collect();
    let addressed: HashMap<String, &User> =
        accounts.iter().filter_map(|user| Some((user.email.as_ref()?.to_lowercase(), user))).collect();
    let mut known = state.snapshot.groups_named();
    known.extend(accounts.iter().flat_map(|user| user.groups.iter().cloned()));
    let any_group = new_groups || state.snapshot.routes.iter().next().is_none();
    let mut good = Vec::with_capacity(rows.len());
    for row in rows {
        let before = faults.len();
        let Draft { name, email, groups, .. } = &row.draft;
        let account = folded.get(&name.as_str().to_lowercase());
        if let Some(user) = account.filter(|user| user.name != *name) {
            let message = format!("only letter case tells {name} from the account {}", user.name);
            faults.push(fault(file, row.cells.name, message, None));
        }
        let other = email.as_ref().and_then(|email| addressed.get(&email.to_lowercase()));
        if let (Some(user), None, Some(at)) = (other, account, row.cells.email) {
            let message = format!("the account {} has this address", user.name);
            let hint = "one person, two names? leave the address empty if not".to_owned();
            faults.push(fault(file, at, message, Some(hint)));
        }
        // Who has an account keeps the groups that they have.
        let unknown = |group: &&GroupName| !any_group && account.is_none() && !known.contains(*group);
        for group in groups.iter().filter(unknown) {
            let hint = did_you_mean(group.as_str(), known.iter().map(GroupName::as_str))
                .unwrap_or_else(|| "--new-groups takes it".to_owned());
            let message = format!("no rule and no account names the group {:?}", group.as_str());
            faults.push(fault(file, row.cells.groups.unwrap_or(row.cells.name), message, Some(hint)));
        }
        if faults.len() == before {
            good.push(row);
        }
    }
    good
}

fn arrived(arrival: Arrival) -> (Draft, Fate) {
    let Arrival { user, link } = arrival;
    let User { name, display, email, groups, .. } = user;
    (Draft { name, display, email, groups }, Fate::Added(link))
}

fn tell(state: &State, people: &[(Draft, Fate)], faults: &[Fault], written: bool, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        let of = |(draft, fate): &(Draft, Fate)| {
            let link = match fate {
                Fate::Added(Some(link)) => link_json(&state.snapshot, link),
                Fate::Added(None) | Fate::WouldBeAdded | Fate::There => Value::Null,
            };
            json!({
                "name": draft.name, "display": draft.display, "email": draft.email, "groups": draft.groups,
                "status": fate.word(), "link": link,
            })
        };
        let people: Vec<Value> = people.iter().map(of).collect();
        let faults: Vec<Value> = faults.iter().map(fault_json).collect();
        return print(&format!("{:#}", json!({ "people": people, "faults": faults, "written": written })));
    }
    let mut out = Vec::new();
    csv_line(
        &mut out,
        ["name", "display", "email", "groups", "status", "link", "expires_at"].map(str::to_owned).into_iter(),
    )?;
    for (draft, fate) in people {
        let (url, until) = match fate {
            Fate::Added(Some(link)) => (link_url(&state.snapshot, link), link.expires_at.to_string()),
            Fate::Added(None) | Fate::WouldBeAdded | Fate::There => Default::default(),
        };
        let groups: Vec<&str> = draft.groups.iter().map(GroupName::as_str).collect();
        let cells = [
            draft.name.to_string(),
            draft.display.clone(),
            draft.email.clone().unwrap_or_default(),
            groups.join("|"),
            fate.word().to_owned(),
            url,
            until,
        ];
        csv_line(&mut out, cells.into_iter())?;
    }
    match io::stdout().lock().write_all(&out) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => {
            written.context("the links were made, and could not be written: `stepgate user link NAME` makes new ones")
        }
    }
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
