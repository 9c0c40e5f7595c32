//! Takes new configuration files while serving: parse, check, run the tests, swap whole. What is
//! bad keeps the old policy and says why in the log, in `/readyz` and in a metric. Certificates are read
//! with them: whoever renewed one and said `reload` means now.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::build::Core;
use super::{apply, tasks};
use crate::base::clock::Timestamp;
use crate::config::snapshot::StoreSettings;
use crate::config::{self, Account, Origin, Snapshot};
use crate::domain::audit::{Action, Actor, AuditEvent, Outcome};
use crate::domain::factor::FactorKind;
use crate::domain::user::UserStatus;
use crate::store::{Store, StoreError};

/// Editors write in several steps; the files are read once they have been quiet for this long.
const QUIET: Duration = Duration::from_millis(300);
/// Behind the notices of the kernel, which network file systems do not give.
const POLL: Duration = Duration::from_secs(15);

/// Reads the files now. Blocks; call it from a blocking thread.
pub fn now(core: &Core) -> Result<(), String> {
    // One at a time. What is there is noted before it is read, so that the watcher does not read again
    // what a signal had read already, and a change in between is seen at its next look.
    let mut seen = core.hold();
    *seen = stamps(core);
    if let Err(why) = tasks::read_certificates(core) {
        tracing::error!(why, "the certificates were not taken; the old ones stay in force");
    }
    let at = core.clock.now();
    let outcome = load(core);
    let metrics = &core.metrics;
    metrics.last_reload_at_secs.store(at.as_secs(), Ordering::Relaxed);
    metrics.last_reload_success.store(i64::from(outcome.is_ok()), Ordering::Relaxed);
    match outcome {
        Ok(Loaded { snapshot, applied }) => {
            let (generation, hash) = (snapshot.generation, snapshot.hash.clone());
            swap(core, snapshot, at);
            if applied.is_none() {
                core.standing().take_files(core, &hash, at);
            }
            match applied {
                None => tracing::info!(generation, hash, "the configuration was taken"),
                Some(policy) => tracing::info!(
                    generation,
                    hash,
                    policy,
                    "the policy that was applied was read again: the files are as they were"
                ),
            }
            audit(core, at, Outcome::Success, "The configuration was read again and taken.");
            Ok(())
        }
        Err(why) => {
            metrics.reloads_failed.fetch_add(1, Ordering::Relaxed);
            core.readiness.config_refused(&why, at);
            tracing::error!(why, "the configuration was not taken; the old one stays in force");
            audit(
                core,
                at,
                Outcome::Failure,
                "The configuration was read again and refused; the old one stays in force.",
            );
            Err(why)
        }
    }
}

/// Puts a policy that was judged in the place of the one in force, whole.
pub(super) fn swap(core: &Core, snapshot: Snapshot, at: Timestamp) {
    let metrics = &core.metrics;
    let (generation, hash) = (snapshot.generation, snapshot.hash.clone());
    say_apps(&core.snapshot.load(), &snapshot);
    let in_force = snapshot.under(core.snapshot.load().posture);
    core.normal.store(Arc::new(snapshot));
    core.snapshot.store(Arc::new(in_force));
    core.readiness.config_taken(generation, &hash, at);
    metrics.show_policy(core.snapshot.load().version());
    metrics.reloads.fetch_add(1, Ordering::Relaxed);
    metrics.config_generation.store(i64::try_from(generation).unwrap_or(i64::MAX), Ordering::Relaxed);
    // Streams and tunnels that the new policy would not allow end now (S-WS-2).
    core.proxy.rejudge(&core.snapshot.load());
    core.proxy.follow(&core.snapshot.load());
    metrics.show_apps(core.snapshot.load().routes.iter().map(|route| route.app.clone()));
}

/// An app that is in no file any more may be a file that was lost or renamed.
fn say_apps(old: &Snapshot, new: &Snapshot) {
    for route in old.routes.iter().filter(|route| new.routes.app(route.app.as_str()).is_none()) {
        tracing::warn!("app {} was removed: no file has it any more", route.app.as_str());
    }
    for route in new.routes.iter().filter(|route| old.routes.app(route.app.as_str()).is_none()) {
        tracing::info!("app {} was added", route.app.as_str());
    }
}

/// What a reload found.
struct Loaded {
    snapshot: Snapshot,
    /// It is the policy that was applied, not the files.
    applied: Option<u32>,
}

fn load(core: &Core) -> Result<Loaded, String> {
    let old = core.normal.load();
    let lines = |faults: Vec<String>| faults.join("\n");
    let print = config::fingerprint(&core.config_path);
    let standing = core.standing();
    let over = standing.applied_over(print.as_ref().map(|print| print.hash.as_str()));
    let (mut snapshot, warnings, applied) = match over {
        Some((record, number)) => {
            let base = Origin::of(&core.config_path).base;
            let (mut snapshot, warnings) = apply::load_applied(&old.state, record, number, base)?;
            snapshot.files.clone_from(&old.files);
            (snapshot, warnings, Some(number))
        }
        None => {
            let loaded = config::load(&core.config_path);
            let (snapshot, warnings) =
                loaded.map_err(|faults| lines(faults.iter().map(ToString::to_string).collect()))?;
            (snapshot, warnings, None)
        }
    };
    drop(standing);
    for warning in warnings.into_iter().chain(config::due(&snapshot, core.clock.now())) {
        tracing::warn!("{warning}");
    }
    let Judged { faults, locked_out } = judge(core, &old, &snapshot, core.clock.now());
    if !faults.is_empty() {
        return Err(lines(faults));
    }
    if !locked_out.is_empty() {
        return Err(format!(
            "it would lock out whoever can come in now:\n{}\nGive those accounts what it asks for first. Where it is \
             meant: a rule with `deny:`, `stepgate apply --lockout-is-meant`, or a restart",
            lines(locked_out)
        ));
    }
    snapshot.generation = old.generation + 1;
    Ok(Loaded { snapshot, applied })
}

/// Why a policy whose files are right is not put in force.
pub(super) struct Judged {
    pub(super) faults: Vec<String>,
    pub(super) locked_out: Vec<String>,
}

/// Runs its tests, looks at what cannot change while serving and at who would be locked out, and makes what
/// it takes to reach its apps.
pub(super) fn judge(core: &Core, old: &Snapshot, snapshot: &Snapshot, now: Timestamp) -> Judged {
    let refused = |faults| Judged { faults, locked_out: Vec::new() };
    let failed = config::run_tests(snapshot, now);
    if !failed.is_empty() {
        let (by_the_clock, failed) = config::fail_by_the_clock(snapshot, failed, now);
        let timed = by_the_clock.iter().map(|f| format!("{f} - it passes at another hour: give it a `time:`"));
        return refused(failed.iter().map(ToString::to_string).chain(timed).collect());
    }
    let same_store = match (&snapshot.store, &old.store) {
        (StoreSettings::Sqlite, StoreSettings::Sqlite) => true,
        (StoreSettings::Postgres { url: new }, StoreSettings::Postgres { url }) => new.expose() == url.expose(),
        (StoreSettings::Sqlite, StoreSettings::Postgres { .. })
        | (StoreSettings::Postgres { .. }, StoreSettings::Sqlite) => false,
    };
    let changed: Vec<&str> = [
        ("`listen`", snapshot.listeners != old.listeners),
        ("`state`", snapshot.state != old.state),
        ("`store`", snapshot.keys != old.keys || !same_store),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(key))
    .collect();
    if !changed.is_empty() {
        let changed = changed.join(" and ");
        return refused(vec![format!(
            "{changed} cannot change while serving: restart the gate for that, or put it back"
        )]);
    }
    let locked_out = lockouts(core, old, snapshot);
    let faults = core.proxy.prepare(snapshot).err().map(|error| error.to_string());
    Judged { faults: Vec::from_iter(faults), locked_out }
}

/// Asked of the accounts as they are. Without a store nobody knows: then the files alone decide.
fn lockouts(core: &Core, old: &Snapshot, new: &Snapshot) -> Vec<String> {
    match core.background.block_on(accounts(&core.store, new)) {
        Ok(accounts) => config::lockouts(old, new, &accounts, core.clock.now()),
        Err(error) => {
            tracing::warn!(error = %error, "the accounts cannot be read: whether the new policy locks anybody out is not known");
            Vec::new()
        }
    }
}

/// Whoever can sign in, with what they could show under the new policy.
async fn accounts(store: &Store, new: &Snapshot) -> Result<Vec<Account>, StoreError> {
    let (with_password, mut kinds) = (store.with_password().await?, store.factor_kinds().await?);
    let users = store.users().await?.into_iter();
    let able = users.filter(|user| user.status == UserStatus::Active && with_password.contains(&user.id));
    Ok(able
        .map(|user| {
            let mut kinds = kinds.remove(&user.id).unwrap_or_default();
            kinds.retain(|kind| new.offers(*kind));
            kinds.extend(user.email.as_ref().filter(|_| new.codes_by_email()).map(|_| FactorKind::Email));
            Account { kinds, name: user.name, groups: user.groups }
        })
        .collect())
}

fn audit(core: &Core, at: Timestamp, outcome: Outcome, reason: &str) {
    let event = AuditEvent::new(at, Actor::System, Action::Reload, outcome, reason);
    let store = core.store.clone();
    core.background.spawn(async move {
        if let Err(error) = store.audit_only(&[event]).await {
            tracing::error!(error = %error, "a reload could not be written to the audit trail");
        }
    });
}

/// Watches the directories of the files (a watch on a file dies with its first atomic replace).
pub fn watch(core: &Arc<Core>, stop: &CancellationToken) {
    let (tell, told) = mpsc::channel(1);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|e| !e.kind.is_access()) {
            let _ = tell.try_send(());
        }
    })
    .inspect_err(|e| tracing::warn!(error = %e, "files are not watched, only polled"))
    .ok();
    if let Some(watcher) = &mut watcher {
        let mut directories: Vec<PathBuf> =
            core.snapshot.load().files.iter().filter_map(|f| directory_of(f).map(ToOwned::to_owned)).collect();
        directories.sort();
        directories.dedup();
        for directory in directories {
            if let Err(error) = watcher.watch(&directory, RecursiveMode::NonRecursive) {
                tracing::warn!(directory = %directory.display(), error = %error, "a directory is not watched, only polled");
            }
        }
    }
    core.background.spawn(follow(Arc::clone(core), told, watcher, stop.clone()));
}

async fn follow(
    core: Arc<Core>,
    mut told: mpsc::Receiver<()>,
    _watcher: Option<notify::RecommendedWatcher>,
    stop: CancellationToken,
) {
    let mut told_of = Stamps::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = told.recv() => {
                while tokio::time::timeout(QUIET, told.recv()).await.is_ok_and(|m| m.is_some()) {}
            }
            () = tokio::time::sleep(POLL) => {}
        }
        // Beside the tasks: neither a network file system that hangs nor a reload under way may hold their threads.
        let (looking, before) = (Arc::clone(&core), std::mem::take(&mut told_of));
        told_of = tokio::task::spawn_blocking(move || look(&looking, before)).await.unwrap_or_default();
    }
}

/// Reads the files if they have changed. `told_of`: what was said to have changed and waits for a reload.
fn look(core: &Core, told_of: Stamps) -> Stamps {
    let there = stamps(core);
    if *core.hold() == there {
        return told_of;
    }
    // Asked at each change, so that a reload can switch it off and on.
    if !core.snapshot.load().watch {
        if told_of != there {
            tracing::info!("a file of the configuration has changed; with `watch: false` it waits for a reload");
        }
        return there;
    }
    // What it came to is in the log, in `/readyz` and in a metric.
    let _ = now(core);
    told_of
}

/// The directory of a file, also of one that is named without.
fn directory_of(file: &Path) -> Option<&Path> {
    file.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

/// Path, size and time of files.
pub(super) type Stamps = Vec<(PathBuf, u64, Option<SystemTime>)>;

/// Size and time of every file read, and which files the directories hold now.
fn stamps(core: &Core) -> Stamps {
    stamps_of(&core.snapshot.load())
}

pub(super) fn stamps_of(snapshot: &Snapshot) -> Stamps {
    let mut paths: Vec<PathBuf> = snapshot.files.clone();
    for file in &snapshot.files {
        let Some(entries) = directory_of(file).and_then(|d| std::fs::read_dir(d).ok()) else { continue };
        let yaml = entries.flatten().map(|e| e.path());
        paths.extend(yaml.filter(|p| p.extension().is_some_and(|e| e == "yaml" || e == "yml")));
    }
    paths.sort();
    paths.dedup();
    paths
        .into_iter()
        .map(|path| {
            let meta = std::fs::metadata(&path);
            let size = meta.as_ref().map_or(0, std::fs::Metadata::len);
            let modified = meta.and_then(|m| m.modified()).ok();
            (path, size, modified)
        })
        .collect()
}
