//! Reads the files: the main one, what it includes, and whether anybody else may write them.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::build::{Source, below, build, state_faults};
use super::fault::{Fault, Report, Warning};
use super::yaml::{Mark, Node};
use super::{Snapshot, keys, shape, yaml};

/// What the files are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Certificates and secrets must be there.
    Serve,
    /// They need not be: policy is checked in CI too, where they are not.
    Check,
    /// Only what leads to the state must be there, for the commands beside a running gate.
    State,
}

/// Reads the main file and everything it includes, to serve with it.
pub fn load(path: &Path) -> Result<(Snapshot, Vec<Warning>), Vec<Fault>> {
    load_for(path, Purpose::Serve)
}

/// As [`load`], for a purpose.
pub fn load_for(path: &Path, purpose: Purpose) -> Result<(Snapshot, Vec<Warning>), Vec<Fault>> {
    load_from(&Origin::of(path), purpose)
}

/// As [`load`], for files that do not stand where they will be at work, and for a purpose.
pub fn load_from(origin: &Origin<'_>, purpose: Purpose) -> Result<(Snapshot, Vec<Warning>), Vec<Fault>> {
    let read = read_all(origin, purpose)?;
    finish(read.snapshot, read.report)
}

/// Which files are read, and where the paths in them start.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The main file. What it includes and what rules answer with stand beside it.
    pub main: &'a Path,
    /// Where every other path starts: state, certificates, secrets.
    pub base: &'a Path,
    /// The directory that messages name in place of the main file's.
    pub shown: Option<&'a Path>,
}

impl<'a> Origin<'a> {
    /// A main file where it is at work.
    #[must_use]
    pub fn of(main: &'a Path) -> Self {
        Self { main, base: directory_of(main), shown: None }
    }

    fn home(&self) -> &'a Path {
        directory_of(self.main)
    }

    /// A file of the policy as seen from the main one: where all of them stand changes no policy.
    #[must_use]
    pub fn beside<'p>(&self, path: &'p Path) -> &'p Path {
        let home = self.home();
        path.strip_prefix(if home == Path::new(".") { Path::new("") } else { home }).unwrap_or(path)
    }
}

fn directory_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// What commands for an incident need: `state` and `store` must be right. Every other fault comes
/// back beside the snapshot, which then is not to be judged by: a wrong word in a rule must not keep
/// anybody from disabling an account while the gate runs on with the policy it had.
pub fn load_state(path: &Path) -> Result<(Snapshot, Vec<Fault>), Vec<Fault>> {
    let Read { main, snapshot, mut report } = read_all(&Origin::of(path), Purpose::State)?;
    tidy(&mut report);
    let about_state = faults_of_state(&main, path, &report);
    if about_state.is_empty() { Ok((snapshot, report.faults)) } else { Err(about_state) }
}

/// Which files there are, and the hash over them, right or wrong.
#[derive(Clone, Debug, Default)]
pub struct Fingerprint {
    pub hash: String,
    pub files: Vec<PathBuf>,
}

/// `None` where there is no main file that can be read.
#[must_use]
pub fn fingerprint(path: &Path) -> Option<Fingerprint> {
    let Read { snapshot, .. } = read_all(&Origin::of(path), Purpose::State).ok()?;
    Some(Fingerprint { hash: snapshot.hash, files: snapshot.files })
}

/// What the files say and what is wrong with them, for `doctor`.
pub struct Examined {
    /// Whatever could be read, where the main file could. With faults it is not to be judged by.
    pub snapshot: Option<Snapshot>,
    pub faults: Vec<Fault>,
    pub warnings: Vec<Warning>,
    /// Nothing is wrong with the way to the state.
    pub state_is_known: bool,
}

/// Reads the files to look at what they lead to, as far as they can be read.
#[must_use]
pub fn examine(path: &Path) -> Examined {
    match read_all(&Origin::of(path), Purpose::Serve) {
        Ok(Read { main, snapshot, mut report }) => {
            tidy(&mut report);
            let state_is_known = faults_of_state(&main, path, &report).is_empty();
            let Report { faults, warnings } = report;
            Examined { snapshot: Some(snapshot), faults, warnings, state_is_known }
        }
        Err(faults) => Examined { snapshot: None, faults, warnings: Vec::new(), state_is_known: false },
    }
}

fn tidy(report: &mut Report) {
    report.faults.sort();
    report.faults.dedup();
    report.warnings.sort();
    report.warnings.dedup();
}

fn faults_of_state(main: &Source, path: &Path, report: &Report) -> Vec<Fault> {
    let mut about_state = Report::default();
    state_faults(main, path.parent().unwrap_or(Path::new(".")), &mut about_state);
    // What is wrong with the main file as a whole (anybody may write it) is wrong with `state` too.
    about_state.faults.extend(report.faults.iter().filter(|f| f.line == 0 && f.file == main.name).cloned());
    about_state.faults
}

/// The files as they were read, with everything that is wrong with them.
struct Read {
    main: Source,
    snapshot: Snapshot,
    report: Report,
}

fn read_all(origin: &Origin<'_>, purpose: Purpose) -> Result<Read, Vec<Fault>> {
    let mut report = Report::default();
    let (path, home) = (origin.main, origin.home());
    let mut files = Vec::new();
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let Some(main) = read(path, origin, &keys::MAIN, &mut digest, &mut files, &mut report) else {
        if let Some(fault) = report.faults.last_mut().filter(|fault| fault.line == 0) {
            explain_unread(fault, path);
        }
        return Err(report.faults);
    };
    let mut apps = Vec::new();
    let mut broken = false;
    for included in includes(&main, home, &mut report) {
        match read(&included, origin, &keys::APP, &mut digest, &mut files, &mut report) {
            Some(source) => apps.push(source),
            None => broken = true,
        }
    }
    let (mut snapshot, answers) = build(&main, &apps, (origin.base, home), purpose, &mut report);
    for answer in answers {
        digest.update(origin.beside(&answer.path).as_os_str().as_encoded_bytes());
        digest.update(&answer.body.len().to_le_bytes());
        digest.update(&answer.body);
        files.push(answer.path);
    }
    if broken {
        // What an unreadable file holds is unknown; "no app" would be a second complaint of it.
        report.warnings.clear();
    }
    snapshot.files = files;
    snapshot.hash = data_encoding::HEXLOWER.encode(digest.finish().as_ref());
    Ok(Read { main, snapshot, report })
}

/// Where the main file is looked for when nobody says where it is, in this order: in the directory one
/// works in, then where it is installed.
pub const USUAL: [&str; 2] = ["config/stepgate.yaml", "/etc/stepgate/stepgate.yaml"];

/// Says of a main file that cannot be read what was tried, and how to name another.
fn explain_unread(fault: &mut Fault, path: &Path) {
    const CHOOSE: &str = "name it: --config FILE, or STEPGATE_CONFIG=FILE in the environment";
    let hint = match std::fs::metadata(path) {
        Ok(about) if about.is_dir() => CHOOSE.to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let here = std::env::current_dir().ok().filter(|_| path.is_relative());
            let here = here.map(|here| format!(" in {}", here.display())).unwrap_or_default();
            let [first, second] = USUAL;
            let second = if path == Path::new(first) { format!(", and no {second} either") } else { String::new() };
            fault.message = format!("there is no such file{here}{second}");
            CHOOSE.to_owned()
        }
        _ => "run this as the account that the gate runs as (sudo -u stepgate ...)".to_owned(),
    };
    fault.hint = Some(hint);
}

/// The main file as a text, for tests and for `demo`; `directory` is where relative paths start.
/// Nothing is included.
pub fn from_text(text: &str, directory: &Path, purpose: Purpose) -> Result<(Snapshot, Vec<Warning>), Vec<Fault>> {
    let mut report = Report::default();
    let name: Arc<str> = "stepgate.yaml".into();
    let Some(main) = parse(&name, text, &keys::MAIN, &mut report) else { return Err(report.faults) };
    let (mut snapshot, _) = build(&main, &[], (directory, directory), purpose, &mut report);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    snapshot.hash = data_encoding::HEXLOWER.encode(digest.as_ref());
    finish(snapshot, report)
}

fn finish(snapshot: Snapshot, mut report: Report) -> Result<(Snapshot, Vec<Warning>), Vec<Fault>> {
    tidy(&mut report);
    if report.faults.is_empty() { Ok((snapshot, report.warnings)) } else { Err(report.faults) }
}

fn read(
    path: &Path,
    origin: &Origin<'_>,
    shape: &'static shape::Shape,
    digest: &mut aws_lc_rs::digest::Context,
    files: &mut Vec<PathBuf>,
    report: &mut Report,
) -> Option<Source> {
    let beside = origin.beside(path);
    let shown = origin.shown.map(|directory| directory.join(beside));
    let name: Arc<str> = shown.as_deref().unwrap_or(path).display().to_string().into();
    let text = match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => {
            let (good, _) = error.as_bytes().split_at(error.utf8_error().valid_up_to());
            let line = 1 + good.iter().filter(|b| **b == b'\n').count();
            let at = Mark { line: u32::try_from(line).unwrap_or(u32::MAX), column: 1 };
            report.fault(&name, at, "this line is not UTF-8: save the file as UTF-8");
            return None;
        }
        Err(error) => {
            report.fault(&name, Mark::default(), format!("cannot be read: {error}"));
            return None;
        }
    };
    files.push(path.to_owned());
    // The main file is that, whatever its name.
    if path != origin.main {
        digest.update(beside.as_os_str().as_encoded_bytes());
    }
    digest.update(&[0]);
    digest.update(text.as_bytes());
    digest.update(&[0]);
    if world_writable(path) {
        report.fault_with(
            &name,
            Mark::default(),
            "anybody on this machine may write this file, and with it the policy",
            "chmod o-w it".to_owned(),
        );
    }
    let directory = directory_of(path);
    if others_may_replace(directory) {
        let message = format!(
            "anybody on this machine may put another file in its place: {} is open to all",
            directory.display()
        );
        report.fault_with(&name, Mark::default(), message, "chmod o-w the directory".to_owned());
    }
    parse(&name, &text, shape, report)
}

fn parse(name: &Arc<str>, text: &str, shape: &'static shape::Shape, report: &mut Report) -> Option<Source> {
    match yaml::parse(text) {
        Ok(root) => {
            shape::check(name, &root, shape, report);
            Some(Source { name: Arc::clone(name), root })
        }
        Err(error) => {
            report.fault(name, error.at, error.message);
            None
        }
    }
}

/// The files that `include:` names, in the order of their names. Only what lies in the main file's
/// directory counts: elsewhere somebody else may write.
fn includes(main: &Source, directory: &Path, report: &mut Report) -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = Vec::new();
    let mut beside: Vec<(Mark, PathBuf)> = Vec::new();
    let home = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    for node in main.root.get("include").map(Node::one_or_many).unwrap_or_default() {
        let Some(text) = node.text() else { continue };
        let inside = Path::new(text).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !inside {
            let from_there = Path::new(text).strip_prefix(directory).or_else(|_| Path::new(text).strip_prefix(&home));
            let hint = from_there.map(|rest| format!("write it from there: {}", rest.display()));
            let message = format!("{text:?} leads out of the directory of this file");
            report.fault_with(&main.name, node.at, message, hint.ok());
            continue;
        }
        let escaped = PathBuf::from(glob::Pattern::escape(&directory.to_string_lossy()));
        let pattern = below(&escaped, text).to_string_lossy().into_owned();
        let found = match glob::glob(&pattern) {
            Ok(found) => found,
            Err(error) => {
                report.fault(&main.name, node.at, format!("{text:?} is no pattern of files: {}", error.msg));
                continue;
            }
        };
        let before = out.len();
        for path in found.filter_map(Result::ok).filter(|p| p.is_file()) {
            let real = path.canonicalize().unwrap_or_else(|_| path.clone());
            if !real.starts_with(&home) {
                let message = format!("{} is a link that leads out of the directory of this file", path.display());
                report.fault(&main.name, node.at, message);
            } else if !out.contains(&path) {
                out.push(path);
            }
        }
        let mut near = other_ending(&pattern);
        near.extend(out.iter().skip(before).flat_map(|path| yaml_beside(path, &home)));
        if out.len() == before {
            let hint = match near.first() {
                Some(near) => format!("there is {}", near.display()),
                None => "an app whose file is missing would be gone in silence: take the line out while there is none"
                    .into(),
            };
            report.fault_with(&main.name, node.at, format!("{text:?} names no file"), hint);
        }
        beside.extend(near.into_iter().map(|path| (node.at, path)));
    }
    beside.sort_by(|a, b| a.1.cmp(&b.1));
    beside.dedup_by(|a, b| a.1 == b.1);
    for (at, path) in beside.into_iter().filter(|(_, path)| !out.contains(path)) {
        let message = format!("{} is not included: nothing in it counts", path.display());
        let hint = "name it as `include` does, or end its name in .off where that is meant".to_owned();
        report.warn_with(&main.name, at, message, hint);
    }
    out
}

/// What a pattern for `.yaml` would find as `.yml`, and the other way round.
fn other_ending(pattern: &str) -> Vec<PathBuf> {
    let other = match (pattern.strip_suffix(".yaml"), pattern.strip_suffix(".yml")) {
        (Some(stem), _) => format!("{stem}.yml"),
        (None, Some(stem)) => format!("{stem}.yaml"),
        (None, None) => return Vec::new(),
    };
    let found = glob::glob(&other).map(|found| found.filter_map(Result::ok).collect()).unwrap_or_default();
    found_yaml(found)
}

/// The YAML files in the directory of one that is included. In that of the main file stand others by
/// right: the main file, that of another gate, `docker-compose.yml`.
fn yaml_beside(included: &Path, home: &Path) -> Vec<PathBuf> {
    let Some(directory) = included.parent().filter(|d| d.canonicalize().is_ok_and(|real| real != home)) else {
        return Vec::new();
    };
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    found_yaml(entries.map(|entry| directory.join(entry.file_name())).collect())
}

/// Without those of editors, which begin with a dot.
fn found_yaml(mut paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    paths.retain(|p| p.extension().is_some_and(|e| e == "yaml" || e == "yml") && !hidden(p) && p.is_file());
    paths.sort();
    paths
}

#[cfg(unix)]
fn world_writable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o002 != 0)
}

/// A sticky directory (/tmp) keeps everybody's hands off the files of others.
#[cfg(unix)]
fn others_may_replace(directory: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(directory).is_ok_and(|m| m.permissions().mode() & 0o1002 == 0o002)
}

#[cfg(not(unix))]
fn others_may_replace(_directory: &Path) -> bool {
    false
}

#[cfg(not(unix))]
fn world_writable(_path: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minimal_file_is_enough_and_safe() {
        let text = "version: 1\nlisten: [{ addr: \"127.0.0.1:8080\", role: proxy }]\napps: [{ app: wiki, hosts: [\"wiki.localhost:8080\"], upstream: { urls: [\"http://127.0.0.1:9\"] } }]\n";
        let (snapshot, warnings) = from_text(text, Path::new("/etc/stepgate"), Purpose::Serve).unwrap();
        assert_eq!(snapshot.state, Path::new("/etc/stepgate/state"));
        let wiki = snapshot.routes.app("wiki").unwrap();
        assert!(
            matches!(&wiki.policy.default, crate::domain::policy::Outcome::Require { level, .. } if level.name.as_str() == "mfa")
        );
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].to_string().contains("portal.host"));
    }
}
