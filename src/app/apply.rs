//! Puts a policy in force that somebody hands over, for a time, and takes it back unless it is confirmed.
//!
//! It is judged as files are: whole, with its own tests, and for whether it locks everybody out. The record
//! ([`super::applied`]) is written before the swap, so that a process that is killed between the two begins
//! again with a policy that had been judged, and with the same moment at which it is taken back.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::applied::{self, Candidate, Event, Kept, Pending, Record, Source, What};
use super::build::{Core, StartError};
use super::reload::{self, Judged};
use crate::audit::operator;
use crate::base::clock::Timestamp;
use crate::config::snapshot::Version;
use crate::config::{self, Origin, Purpose, Snapshot};
use crate::domain::audit::{Action, Actor, AuditEvent, Outcome, printable};

/// What the gate found in a candidate.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Findings {
    pub hash: String,
    /// Of the policy in force.
    pub now: String,
    /// Each keeps it from being put in force.
    pub faults: Vec<String>,
    /// These too, unless they are meant.
    pub locked_out: Vec<String>,
    pub warnings: Vec<String>,
    pub changes: Vec<String>,
}

impl Findings {
    #[must_use]
    pub fn is_good(&self, lockout_is_meant: bool) -> bool {
        self.faults.is_empty() && (self.locked_out.is_empty() || lockout_is_meant)
    }
}

/// What has become of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Applied {
    pub number: u32,
    pub findings: Findings,
    /// When it is taken back, unless it is confirmed.
    pub until: Timestamp,
    pub back_to: Source,
}

/// Why nothing was done.
#[derive(Clone, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum Refused {
    #[error("it is not good")]
    NotGood(Box<Findings>),
    #[error("{0}")]
    Other(String),
}

fn other(error: impl std::fmt::Display) -> Refused {
    Refused::Other(error.to_string())
}

/// What this process knows of the policy in force beyond its record.
#[derive(Debug, Default)]
pub struct Standing {
    pub(super) record: Option<Record>,
    waiting: Option<Waiting>,
    /// The record on the disk is not the one above.
    unwritten: bool,
}

/// When it is taken back, and to what without reading anything again.
#[derive(Debug)]
struct Waiting {
    /// By a clock that nobody sets; the time of day stands in the record.
    deadline: Instant,
    before: Option<Arc<Snapshot>>,
}

impl Standing {
    #[must_use]
    pub fn source(&self) -> Source {
        self.record.as_ref().and_then(|record| record.in_force)
    }

    fn is_due(&self, now: Timestamp) -> bool {
        let past = self.waiting.as_ref().is_some_and(|waiting| Instant::now() >= waiting.deadline);
        self.unwritten || past || self.record.as_ref().is_some_and(|record| record.is_overdue(now))
    }

    /// For `/readyz`: what it is, and when it is taken back.
    pub(super) fn told(&self) -> (String, Option<Timestamp>) {
        let pending = self.record.as_ref().and_then(|record| record.pending.as_ref());
        (applied::name(self.source()), pending.map(|pending| pending.until))
    }

    /// What was applied holds for as long as the files stay what they were then.
    pub(super) fn applied_over(&self, files_hash: Option<&str>) -> Option<(&Record, u32)> {
        let record = self.record.as_ref()?;
        let number = record.in_force?;
        (files_hash == Some(&record.files_hash)).then_some((record, number))
    }

    /// The files are newer than what was applied.
    pub(super) fn take_files(&mut self, core: &Core, hash: &str, at: Timestamp) {
        let Some(mut record) = self.record.clone().filter(|record| record.in_force.is_some()) else { return };
        record.take_files(hash, at);
        self.waiting = None;
        if let Err(error) = record.write(&core.snapshot.load().state) {
            // At the next start the files are found to be newer once more.
            tracing::error!(error = %error, "that the files are in force again could not be written down");
        }
        self.record = Some(record);
        tell(core, self);
    }
}

/// With what a process begins.
pub(super) struct Beginning {
    pub(super) snapshot: Snapshot,
    pub(super) warnings: Vec<config::Warning>,
    pub(super) standing: Standing,
}

/// The files, or what was applied over them. `lock` takes the right to serve the state: what a record says
/// may be changed with it alone.
pub(super) fn begin(
    config: &Path,
    now: Timestamp,
    lock: impl FnOnce(&Snapshot) -> Result<(), StartError>,
) -> Result<Beginning, StartError> {
    let files = |record| {
        let (snapshot, warnings) = config::load(config).map_err(StartError::Config)?;
        Ok(Beginning { snapshot, warnings, standing: Standing { record, ..Standing::default() } })
    };
    // The way to the state, whatever else is wrong with the files.
    let Ok((way, _)) = config::load_state(config) else { return files(None) };
    let state = &way.state;
    let unusable = |why: String| StartError::Applied { state: state.clone(), why };
    match Record::read(state) {
        Ok(Some(_)) => {}
        Ok(None) => return files(None),
        // Closed to this account: whoever opens the state says so in better words.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return files(None),
        Err(error) => return Err(unusable(error.to_string())),
    }
    lock(&way)?;
    let Some(mut record) = Record::read(state).map_err(|error| unusable(error.to_string()))? else {
        return files(None);
    };
    if record.in_force.is_none() {
        return files(Some(record));
    }
    let write = |record: &Record| record.write(state).map_err(|error| unusable(error.to_string()));
    let print = config::fingerprint(config).unwrap_or_default();
    if print.hash != record.files_hash {
        let found = files(None)?;
        tracing::warn!("{} was in force; the files have changed since and are taken", applied::name(record.in_force));
        record.take_files(&found.snapshot.hash, now);
        write(&record)?;
        return Ok(Beginning { standing: Standing { record: Some(record), ..Standing::default() }, ..found });
    }
    let base = Origin::of(config).base;
    let load = |record: &Record, source: Source| match source {
        None => config::load(config).map_err(|faults| lines(&faults)),
        Some(number) => load_applied(state, record, number, base),
    };
    let mut loaded = load(&record, record.in_force);
    let failed = loaded.as_ref().err().filter(|_| record.pending.is_some()).cloned();
    if failed.is_some() || record.is_overdue(now) {
        match failed {
            Some(why) => {
                tracing::error!(why, "{} cannot be used and was not confirmed", applied::name(record.in_force))
            }
            None => tracing::warn!("nobody confirmed {} in time", applied::name(record.in_force)),
        }
        record.take_back(now);
        write(&record)?;
        tracing::warn!("{} in force again", are(record.in_force));
        loaded = load(&record, record.in_force);
    }
    let (mut snapshot, warnings) = loaded
        .map_err(|why| unusable(format!("{} is in force and cannot be used: {why}", applied::name(record.in_force))))?;
    if let Some(number) = record.in_force {
        tracing::info!(policy = number, "a policy that was applied is in force, not the files");
        snapshot.files = print.files;
    }
    let waiting = record.pending.as_ref().map(|pending| {
        tracing::warn!(until = %pending.until, "it is taken back unless it is confirmed");
        let before = load(&record, pending.back_to).ok().map(|(before, _)| Arc::new(before));
        Waiting { deadline: Instant::now() + pending.until.until(now), before }
    });
    Ok(Beginning { snapshot, warnings, standing: Standing { record: Some(record), waiting, unwritten: false } })
}

/// Looks at a candidate and puts nothing in force.
pub fn check(core: &Core, candidate: &Candidate) -> Result<Findings, Refused> {
    let _alone = core.hold();
    let examined = examine(core, candidate, core.clock.now());
    if let Some(record) = &core.standing().record {
        applied::sweep(&core.snapshot.load().state, record);
    }
    examined.map(|(findings, _)| findings)
}

fn examine(core: &Core, candidate: &Candidate, now: Timestamp) -> Result<(Findings, Option<Snapshot>), Refused> {
    let state = &core.snapshot.load().state;
    applied::write_draft(state, candidate).map_err(other)?;
    let main = applied::main_of_draft(state, candidate);
    let origin = Origin { main: &main, base: base_of(core), shown: Some(&candidate.shown) };
    let old = core.normal.load_full();
    let mut findings = Findings { now: old.hash.clone(), ..Findings::default() };
    let (snapshot, warnings) = match config::load_from(&origin, Purpose::Serve) {
        Ok(loaded) => loaded,
        Err(faults) => {
            findings.faults = faults.iter().map(ToString::to_string).collect();
            return Ok((findings, None));
        }
    };
    findings.hash.clone_from(&snapshot.hash);
    let due = config::due(&snapshot, now);
    findings.warnings = warnings.into_iter().chain(due).map(|warning| warning.to_string()).collect();
    findings.changes = config::changes(&old, &snapshot).iter().map(ToString::to_string).collect();
    let Judged { faults, locked_out } = reload::judge(core, &old, &snapshot, now);
    (findings.faults, findings.locked_out) = (faults, locked_out);
    Ok((findings, Some(snapshot)))
}

/// Puts a candidate in force until `within` has passed.
pub fn apply(
    core: &Core,
    candidate: &Candidate,
    within: Duration,
    lockout_is_meant: bool,
    by: &Actor,
) -> Result<Applied, Refused> {
    let _alone = core.hold();
    let now = core.clock.now();
    let (findings, snapshot) = examine(core, candidate, now)?;
    let Some(snapshot) = snapshot.filter(|_| findings.is_good(lockout_is_meant)) else {
        return Err(Refused::NotGood(Box::new(findings)));
    };
    let mut standing = core.standing();
    let before = core.normal.load_full();
    let state = before.state.clone();
    let mut record = standing.record.clone().unwrap_or_default();
    if record.pending.is_some() {
        let todo =
            "confirm it (`stepgate apply --confirm` with its number) or take it back (`stepgate rollback`) first";
        return Err(Refused::Other(format!("{} waits to be confirmed: {todo}", applied::name(record.in_force))));
    }
    let back_to = record.in_force;
    // Also where they are not in force, being faulty: until they change once more they are older than this.
    record.files_hash = config::fingerprint(&core.config_path).map_or_else(|| before.hash.clone(), |print| print.hash);
    record.newest += 1;
    let (number, hash) = (record.newest, snapshot.hash.clone());
    let until = now.plus(within);
    record.policies.push(Kept {
        number,
        hash: hash.clone(),
        main: candidate.main.clone(),
        at: now,
        by: account(by),
        from: candidate.shown.display().to_string(),
        over: back_to,
    });
    record.in_force = Some(number);
    record.pending = Some(Pending { since: now, until, back_to });
    record.tell(Event { at: now, by: account(by), what: What::Applied, source: Some(number), hash });
    record.forget_old();
    // An act of a person that leaves no trace in the trail is not done (S-LOG-4).
    let reason = "The operator put a policy in force, until it is confirmed.";
    let mut event = event(by, Action::PolicyApply, reason, &snapshot, now);
    let changes = findings.changes.join("; ");
    event.told = event.told.map(|version| printable(&format!("{version}: {changes}")));
    write_down(core, event).map_err(other)?;
    applied::keep_draft(&state, number).and_then(|()| record.write(&state)).map_err(other)?;
    applied::sweep(&state, &record);
    standing.record = Some(record);
    standing.waiting = Some(Waiting { deadline: Instant::now() + within, before: Some(Arc::clone(&before)) });
    put_in_force(core, snapshot, &before, now);
    tell(core, &standing);
    tracing::warn!(policy = number, %until, "a policy was applied; it is taken back unless it is confirmed");
    Ok(Applied { number, findings, until, back_to })
}

/// What is in force stays, where it is what is `meant`: who comes late must not confirm what somebody else has applied
/// since.
pub fn confirm(core: &Core, meant: Option<u32>, by: &Actor) -> Result<(u32, String), Refused> {
    let _alone = core.hold();
    let now = core.clock.now();
    let mut standing = core.standing();
    let pending = standing.record.clone().filter(|record| record.pending.is_some());
    let (Some(mut record), Some(number)) = (pending, standing.source()) else {
        return Err(Refused::Other("nothing waits to be confirmed (`stepgate history` says what became of it)".into()));
    };
    let why = match meant {
        Some(meant) if meant != number => {
            Some(format!("policy {meant} does not wait to be confirmed, policy {number} does"))
        }
        None if !record.is_plain_to(&account(by)) => Some(format!("policy {number} waits to be confirmed")),
        Some(_) | None => None,
    };
    if let Some(why) = why {
        return Err(Refused::Other(format!("{why}: say `stepgate apply --confirm {number}` where that is meant")));
    }
    let past = standing.waiting.as_ref().is_none_or(|waiting| Instant::now() >= waiting.deadline);
    if past || record.is_overdue(now) {
        return Err(Refused::Other("too late: it is being taken back".into()));
    }
    record.pending = None;
    let hash = record.hash_of(Some(number)).to_owned();
    record.tell(Event { at: now, by: account(by), what: What::Confirmed, source: Some(number), hash: hash.clone() });
    let snapshot = core.snapshot.load_full();
    let reason = "The operator confirmed the policy that was applied.";
    audit(core, by, Action::PolicyConfirm, reason, &snapshot, now).map_err(other)?;
    record.write(&snapshot.state).map_err(other)?;
    standing.record = Some(record);
    standing.waiting = None;
    tell(core, &standing);
    tracing::info!(policy = number, "the policy that was applied is confirmed");
    Ok((number, hash))
}

/// Takes back what nobody confirmed in time; called again and again.
pub fn take_back_overdue(core: &Core) -> Result<(), String> {
    if !core.standing().is_due(core.clock.now()) {
        return Ok(());
    }
    let _alone = core.hold();
    let now = core.clock.now();
    let mut standing = core.standing();
    if !standing.is_due(now) {
        return Ok(());
    }
    let old = core.normal.load_full();
    if let Some(mut record) = standing.record.clone().filter(|record| record.pending.is_some()) {
        record.take_back(now);
        let before = match standing.waiting.as_ref().and_then(|waiting| waiting.before.as_ref()) {
            Some(before) => Snapshot::clone(before),
            None => read(core, &record, record.in_force, &old, now).map_err(|why| why.to_string())?,
        };
        // The policy first: whoever is locked out by the present one must not wait for a disk.
        put_in_force(core, before, &old, now);
        let told = are(record.in_force);
        let reason = "Nobody confirmed the policy that was applied; the one before is in force again.";
        later(core, Actor::System, Action::PolicyRevert, reason, now);
        standing.record = Some(record);
        standing.waiting = None;
        standing.unwritten = true;
        tell(core, &standing);
        // Last: whoever reads it and looks at `/readyz` finds it there.
        tracing::warn!("nobody confirmed the policy that was applied: {told} in force again");
    }
    if let Some(record) = &standing.record {
        // Where that cannot be, the next process finds it overdue.
        record.write(&old.state).map_err(|error| format!("that a policy was taken back cannot be written: {error}"))?;
    }
    standing.unwritten = false;
    Ok(())
}

/// Puts an older policy in force, or the files; `None` is the one before.
pub fn roll_back(core: &Core, to: Option<Source>, by: &Actor) -> Result<(Source, String), Refused> {
    let _alone = core.hold();
    let now = core.clock.now();
    let mut standing = core.standing();
    let Some(mut record) = standing.record.clone() else {
        return Err(Refused::Other("no policy was ever applied here: the files are in force".into()));
    };
    let to = record.goal(to).map_err(Refused::Other)?;
    let old = core.normal.load_full();
    let snapshot = read(core, &record, to, &old, now)?;
    record.roll_back(to, &account(by), &snapshot.hash, now);
    let reason = "The operator rolled back to a policy of before.";
    if let Err(error) = audit(core, by, Action::PolicyRollback, reason, &snapshot, now) {
        // Whoever rolls back is in trouble already.
        tracing::error!(error, "a rollback could not be written to the audit trail");
    }
    record.write(&old.state).map_err(other)?;
    applied::sweep(&old.state, &record);
    standing.record = Some(record);
    standing.waiting = None;
    let hash = snapshot.hash.clone();
    put_in_force(core, snapshot, &old, now);
    tell(core, &standing);
    tracing::warn!("rolled back: {} in force", are(to));
    Ok((to, hash))
}

/// The same for a gate that does not run: what it starts with. `way` leads to the state.
pub fn roll_back_at_rest(
    way: &Snapshot,
    to: Option<Source>,
    now: Timestamp,
) -> Result<Result<Source, String>, StartError> {
    let unusable = |error: std::io::Error| StartError::Applied { state: way.state.clone(), why: error.to_string() };
    let _lock = super::state::lock_state(&way.store, &way.state)?;
    let Some(mut record) = Record::read(&way.state).map_err(unusable)? else {
        return Ok(Err("no policy was ever applied here: the files are in force".to_owned()));
    };
    let to = match record.goal(to) {
        Ok(to) => to,
        Err(why) => return Ok(Err(why)),
    };
    let hash = record.hash_of(to).to_owned();
    record.roll_back(to, &operator::operator_account(), &hash, now);
    record.write(&way.state).map_err(unusable)?;
    Ok(Ok(to))
}

/// The policy of a source, read and judged anew. Whether it locks anybody out is not asked: it is the way
/// out of one that does.
fn read(core: &Core, record: &Record, source: Source, old: &Snapshot, now: Timestamp) -> Result<Snapshot, Refused> {
    let snapshot = match source {
        None => config::load(&core.config_path).map(|(snapshot, _)| snapshot).map_err(|faults| lines(&faults)),
        Some(number) => load_applied(&old.state, record, number, base_of(core)).map(|(snapshot, _)| snapshot),
    };
    let snapshot = snapshot.map_err(Refused::Other)?;
    let Judged { faults, .. } = reload::judge(core, old, &snapshot, now);
    if faults.is_empty() { Ok(snapshot) } else { Err(Refused::Other(faults.join("\n"))) }
}

/// The kept files of a policy, which have to be what they were.
pub(super) fn load_applied(
    state: &Path,
    record: &Record,
    number: u32,
    base: &Path,
) -> Result<(Snapshot, Vec<config::Warning>), String> {
    let kept = record.policy(number).ok_or_else(|| format!("the files of policy {number} are not kept"))?;
    let main = applied::main_of(state, kept);
    let origin = Origin { main: &main, base, shown: None };
    let (snapshot, warnings) = config::load_from(&origin, Purpose::Serve).map_err(|faults| lines(&faults))?;
    if snapshot.hash != kept.hash {
        let directory = main.parent().unwrap_or(&main).display();
        return Err(format!("the files of policy {number} ({directory}) are not those that were applied"));
    }
    Ok((snapshot, warnings))
}

fn lines<T: std::fmt::Display>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Where relative paths start, wherever the files of a policy stand.
fn base_of(core: &Core) -> &Path {
    Origin::of(&core.config_path).base
}

/// Swaps it in. What watches the files goes on watching those of the gate.
fn put_in_force(core: &Core, mut snapshot: Snapshot, before: &Snapshot, now: Timestamp) {
    snapshot.generation = before.generation + 1;
    snapshot.files.clone_from(&before.files);
    reload::swap(core, snapshot, now);
}

pub(super) fn tell(core: &Core, standing: &Standing) {
    let (source, until) = standing.told();
    core.readiness.policy_of(source, until);
}

/// "the files are", "policy 3 is".
fn are(source: Source) -> String {
    format!("{} {}", applied::name(source), if source.is_some() { "is" } else { "are" })
}

fn account(actor: &Actor) -> String {
    match actor {
        Actor::Operator { account } => account.clone(),
        Actor::User { name, .. } => name.clone(),
        Actor::UnknownUser { .. } | Actor::System => "stepgate".to_owned(),
    }
}

fn event(by: &Actor, action: Action, reason: &str, policy: &Snapshot, now: Timestamp) -> AuditEvent {
    let version = Version::of(&policy.hash).map(|version| version.to_string());
    let mut event = AuditEvent::new(now, by.clone(), action, Outcome::Success, reason);
    event.told = version.map(|version| format!("version {version}"));
    event
}

fn audit(
    core: &Core,
    by: &Actor,
    action: Action,
    reason: &str,
    policy: &Snapshot,
    now: Timestamp,
) -> Result<(), String> {
    write_down(core, event(by, action, reason, policy, now))
}

fn write_down(core: &Core, event: AuditEvent) -> Result<(), String> {
    let written = core.background.block_on(core.store.audit_only(&[event]));
    written.map_err(|error| format!("the audit trail cannot be written: {error}"))
}

/// For what must not wait for the store.
fn later(core: &Core, by: Actor, action: Action, reason: &str, now: Timestamp) {
    let event = event(&by, action, reason, &core.snapshot.load(), now);
    let store = core.store.clone();
    core.background.spawn(async move {
        if let Err(error) = store.audit_only(&[event]).await {
            tracing::error!(error = %error, "that a policy was taken back could not be written to the audit trail");
        }
    });
}
