//! Which policies were applied, which of them is in force, and who put it there: what outlives a crash.
//!
//! Everything stands in the directory `policy` of the state: `record.json`, and a directory for each of the
//! last [`KEPT`] policies, numbered. The record is replaced as a whole, and only after what it names is on
//! the disk: whenever the process is killed, the next one finds either what was before or what is after.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;
use crate::base::owner;
use crate::config::snapshot::Version;

/// Policies whose files stay, to go back to.
pub const KEPT: usize = 10;
/// Events that the history tells.
const EVENTS: usize = 200;
/// Nobody writes by hand what is larger, and the process would hold all of it.
pub const MOST_BYTES: usize = 32 << 20;
const MOST_FILES: usize = 5000;

const RECORD: &str = "record.json";
const DRAFT: &str = "draft";

/// What holds: a policy that was applied, by its number, or the files that the gate was started with.
pub type Source = Option<u32>;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The number of the newest policy.
    pub newest: u32,
    pub in_force: Source,
    /// What the files were when that was decided: once they are others, they are newer.
    pub files_hash: String,
    pub pending: Option<Pending>,
    /// Oldest first.
    pub policies: Vec<Kept>,
    pub events: Vec<Event>,
}

/// What is in force for a time, unless somebody confirms it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    pub since: Timestamp,
    pub until: Timestamp,
    pub back_to: Source,
}

/// A policy whose files are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    pub number: u32,
    pub hash: String,
    /// Its main file, in its directory.
    pub main: PathBuf,
    pub at: Timestamp,
    pub by: String,
    /// Where it came from.
    pub from: String,
    /// What it took the place of.
    pub over: Source,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    pub at: Timestamp,
    pub by: String,
    pub what: What,
    pub source: Source,
    pub hash: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Applied,
    Confirmed,
    /// Nobody confirmed what was applied: this is in force again.
    Reverted,
    RolledBack,
    /// The files were changed since, or could be read again: they are newer.
    FilesTaken,
}

impl What {
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Confirmed => "confirmed",
            Self::Reverted => "in force again: not confirmed",
            Self::RolledBack => "rolled back to",
            Self::FilesTaken => "the files changed",
        }
    }
}

/// The files of a policy that somebody wants in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// The directory that messages name, as whoever sent it sees it.
    pub shown: PathBuf,
    pub main: PathBuf,
    /// Paths from that directory, and what stands there in Base64.
    pub files: Vec<(PathBuf, String)>,
}

/// How a source is spoken of.
#[must_use]
pub fn name(source: Source) -> String {
    source.map_or_else(|| "the files".to_owned(), |number| format!("policy {number}"))
}

impl Record {
    /// `None` where nothing was ever applied.
    pub fn read(state: &Path) -> io::Result<Option<Self>> {
        let path = directory(state).join(RECORD);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| {
                let told = format!(
                    "{} cannot be understood: {error}. Move it away, and the gate starts with its files",
                    path.display()
                );
                io::Error::new(io::ErrorKind::InvalidData, told)
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io::Error::new(error.kind(), format!("{} cannot be read: {error}", path.display()))),
        }
    }

    /// Puts it in the place of the one before; when this returns, it survives a power cut.
    pub fn write(&self, state: &Path) -> io::Result<()> {
        let directory = made(state)?;
        let (draft, path) = (directory.join(".record"), directory.join(RECORD));
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        match std::fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        write_new(&draft, &text)?;
        std::fs::rename(&draft, &path)?;
        File::open(&directory)?.sync_all()
    }

    #[must_use]
    pub fn policy(&self, number: u32) -> Option<&Kept> {
        self.policies.iter().find(|kept| kept.number == number)
    }

    pub fn tell(&mut self, event: Event) {
        self.events.push(event);
        let more = self.events.len().saturating_sub(EVENTS);
        self.events.drain(..more);
    }

    /// The one before is in force again: nobody confirmed what is.
    pub fn take_back(&mut self, now: Timestamp) {
        let Some(pending) = self.pending.take() else { return };
        self.in_force = pending.back_to;
        let hash = self.hash_of(self.in_force).to_owned();
        self.tell(Event { at: now, by: "stepgate".into(), what: What::Reverted, source: self.in_force, hash });
    }

    /// The files are newer than what was applied.
    pub fn take_files(&mut self, hash: &str, now: Timestamp) {
        (self.in_force, self.pending) = (None, None);
        hash.clone_into(&mut self.files_hash);
        let (by, hash) = ("stepgate".to_owned(), hash.to_owned());
        self.tell(Event { at: now, by, what: What::FilesTaken, source: None, hash });
    }

    /// What a rollback leads to: what was asked for, or what was in force before.
    pub fn goal(&self, asked: Option<Source>) -> Result<Source, String> {
        let kept = || {
            let numbers = self.policies.iter().rev().map(|kept| kept.number.to_string());
            numbers.chain(["files".to_owned()]).collect::<Vec<_>>().join(", ")
        };
        let to = match (asked, self.in_force) {
            (Some(to), _) => to,
            (None, Some(number)) => self.policy(number).and_then(|kept| kept.over),
            (None, None) => return Err(format!("the files are in force: say what to go back to ({})", kept())),
        };
        match to {
            to if to == self.in_force => Err(format!("already in force: {}", name(to))),
            Some(number) if self.policy(number).is_none() => {
                Err(format!("there is no policy {number} to go back to; there is: {}", kept()))
            }
            to => Ok(to),
        }
    }

    /// As [`Self::goal`] said.
    pub fn roll_back(&mut self, to: Source, by: &str, hash: &str, now: Timestamp) {
        self.pending = None;
        self.in_force = to;
        if to.is_none() {
            hash.clone_into(&mut self.files_hash);
        }
        self.tell(Event { at: now, by: by.to_owned(), what: What::RolledBack, source: to, hash: hash.to_owned() });
    }

    /// Lets the oldest go, but none that may be wanted at once. The record has to be written before their
    /// files are removed by [`sweep`].
    pub fn forget_old(&mut self) {
        let back_to = self.pending.as_ref().and_then(|pending| pending.back_to);
        let over = self.in_force.and_then(|number| self.policy(number)?.over);
        let needed = [self.in_force, back_to, over];
        while self.policies.len() > KEPT {
            let Some(at) = self.policies.iter().position(|kept| !needed.contains(&Some(kept.number))) else { return };
            self.policies.remove(at);
        }
    }

    /// Whether what is in force for a time has had it. A clock that went back before it was applied says
    /// nothing of how long ago that was.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.pending.as_ref().is_some_and(|pending| now >= pending.until || now < pending.since)
    }

    /// Whether this account can only mean what waits when it confirms without a number: it applied that, and what was
    /// applied before was confirmed, so that nobody comes late for it.
    #[must_use]
    pub fn is_plain_to(&self, by: &str) -> bool {
        let mut back = self.events.iter().rev();
        let applied_it = back.by_ref().find(|event| event.what == What::Applied).is_some_and(|event| event.by == by);
        let before = back.find(|event| matches!(event.what, What::Applied | What::Confirmed));
        applied_it && before.is_none_or(|event| event.what == What::Confirmed)
    }

    /// The hash of what is named, where its files were kept.
    #[must_use]
    pub fn hash_of(&self, source: Source) -> &str {
        match source {
            Some(number) => self.policy(number).map_or("", |kept| &kept.hash),
            None => &self.files_hash,
        }
    }

    /// Beside a hash, its first digits.
    #[must_use]
    pub fn version_of(&self, source: Source) -> String {
        Version::of(self.hash_of(source)).map(|version| version.to_string()).unwrap_or_default()
    }
}

fn directory(state: &Path) -> PathBuf {
    state.join("policy")
}

/// Where the main file of a policy stands.
#[must_use]
pub fn main_of(state: &Path, kept: &Kept) -> PathBuf {
    directory(state).join(kept.number.to_string()).join(&kept.main)
}

/// Where the main file of a draft stands.
#[must_use]
pub fn main_of_draft(state: &Path, candidate: &Candidate) -> PathBuf {
    directory(state).join(DRAFT).join(&candidate.main)
}

/// Writes the files of a candidate to the disk, under no number yet.
pub fn write_draft(state: &Path, candidate: &Candidate) -> io::Result<()> {
    let wrong = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    if candidate.files.len() > MOST_FILES {
        return Err(wrong(format!("a policy of {} files: at most {MOST_FILES} are taken", candidate.files.len())));
    }
    let inside = |path: &Path| path.components().all(|c| matches!(c, Component::Normal(_)));
    let draft = made(state)?.join(DRAFT);
    remove(&draft)?;
    make(&draft)?;
    for (path, content) in &candidate.files {
        if !inside(path) || path.as_os_str().is_empty() {
            return Err(wrong(format!("{} leads out of the directory of the policy", path.display())));
        }
        let content = data_encoding::BASE64.decode(content.as_bytes()).map_err(|e| wrong(e.to_string()))?;
        let path = draft.join(path);
        let above = path.parent().unwrap_or(&draft);
        make(above)?;
        write_new(&path, &content)?;
        File::open(above)?.sync_all()?;
    }
    File::open(&draft)?.sync_all()
}

/// Gives the draft its number, for good.
pub fn keep_draft(state: &Path, number: u32) -> io::Result<()> {
    let directory = directory(state);
    let path = directory.join(number.to_string());
    // Left by a process that was killed before its record named it.
    remove(&path)?;
    std::fs::rename(directory.join(DRAFT), path)?;
    File::open(&directory)?.sync_all()
}

/// Removes what the record does not name. What cannot be removed stays and harms nobody.
pub fn sweep(state: &Path, record: &Record) {
    let entries = std::fs::read_dir(directory(state)).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let number = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        if number.is_none_or(|number| record.policy(number).is_none())
            && let Err(error) = remove(&path)
        {
            tracing::warn!(path = %path.display(), error = %error, "the files of an old policy stay");
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn made(state: &Path) -> io::Result<PathBuf> {
    let directory = directory(state);
    make(&directory)?;
    Ok(directory)
}

/// For the owner of the state alone, also where root runs this.
fn make(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    owner::as_its_directory(&File::open(directory)?, directory)
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    owner::as_its_directory(&file, path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(number: u32, over: Source) -> Kept {
        let (hash, main) = (format!("{number:064}"), "stepgate.yaml".into());
        Kept { number, hash, main, at: Timestamp::from_secs(1), by: "root".into(), from: "/tmp/new".into(), over }
    }

    fn candidate(files: &[(&str, &str)]) -> Candidate {
        let files = files.iter().map(|(path, text)| (path.into(), data_encoding::BASE64.encode(text.as_bytes())));
        Candidate { shown: "/tmp/new".into(), main: "stepgate.yaml".into(), files: files.collect() }
    }

    #[test]
    fn what_may_be_wanted_at_once_is_never_let_go() {
        let mut record = Record { in_force: Some(1), ..Record::default() };
        record.policies.extend((1..=15).map(|n| kept(n, (n == 1).then_some(2))));
        record.pending =
            Some(Pending { since: Timestamp::from_secs(1), until: Timestamp::from_secs(2), back_to: Some(3) });
        record.forget_old();
        let left: Vec<u32> = record.policies.iter().map(|kept| kept.number).collect();
        assert_eq!(left, [1, 2, 3, 9, 10, 11, 12, 13, 14, 15]);
    }

    #[test]
    fn a_clock_that_went_back_lets_nothing_stay_unconfirmed() {
        let (since, until) = (Timestamp::from_secs(100), Timestamp::from_secs(220));
        let record = Record { pending: Some(Pending { since, until, back_to: None }), ..Record::default() };
        for (now, overdue) in [(99, true), (100, false), (219, false), (220, true)] {
            assert_eq!(record.is_overdue(Timestamp::from_secs(now)), overdue, "{now}");
        }
    }

    #[test]
    fn a_candidate_stays_in_its_directory_and_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let state = tempfile::tempdir().unwrap();
        for path in ["../x.yaml", "/etc/x.yaml", "a/../../x.yaml", "./x.yaml", ""] {
            assert!(write_draft(state.path(), &candidate(&[(path, "x")])).is_err(), "{path}");
        }
        write_draft(state.path(), &candidate(&[("stepgate.yaml", "a"), ("apps.d/wiki.yaml", "b")])).unwrap();
        keep_draft(state.path(), 7).unwrap();
        let mode = |path: &str| {
            std::fs::metadata(state.path().join("policy/7").join(path)).unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode(""), mode("apps.d"), mode("apps.d/wiki.yaml")), (0o700, 0o700, 0o600));
        sweep(state.path(), &Record { policies: vec![kept(7, None)], ..Record::default() });
        assert!(state.path().join("policy/7/stepgate.yaml").is_file());
        sweep(state.path(), &Record::default());
        assert!(!state.path().join("policy/7").exists());
    }

    #[test]
    fn a_record_that_cannot_be_understood_is_no_record_of_nothing() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(state.path()).unwrap(), None);
        let record = Record { newest: 3, policies: vec![kept(3, None)], ..Record::default() };
        record.write(state.path()).unwrap();
        record.write(state.path()).unwrap();
        assert_eq!(Record::read(state.path()).unwrap(), Some(record));
        std::fs::write(state.path().join("policy/record.json"), "{").unwrap();
        assert!(Record::read(state.path()).is_err());
    }
}
