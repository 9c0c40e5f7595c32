//! Could `serve` start with this? Everything that can be known without opening a port or a
//! database, and without making anything.

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::build::StartError;
use super::state;
use crate::base::clock::Timestamp;
use crate::config::Snapshot;
use crate::config::snapshot::Role;
use crate::domain::host::HostName;
use crate::proxy::upstream::tls::TlsConfigs;
use crate::server::tls::{Certificates, TlsError};

/// Those who renew by themselves do so with a third of 90 days left, or at half of a short life: what
/// comes nearer than this was forgotten, or its renewal fails.
const ENDS_SOON_DAYS: i64 = 14;

/// What `check --serve` says beyond the files.
#[derive(Debug, Default)]
pub struct Rehearsal {
    pub faults: Vec<StartError>,
    pub warnings: Vec<String>,
    /// Of certificates that have ended or soon will; `doctor` has its own words for those.
    pub ends: Vec<String>,
}

/// Tries certificates, those of upstreams and the state directory, as this account.
#[must_use]
pub fn rehearse(snapshot: &Snapshot, now: Timestamp, background: &Handle) -> Rehearsal {
    let mut found = Rehearsal::default();
    let mut certificates = Vec::new();
    for source in sources(snapshot) {
        match Certificates::load(source) {
            Ok(loaded) => certificates.push(loaded),
            Err(error) => found.faults.push(error.into()),
        }
    }
    // A certificate that could not be read may be the one for any name.
    if found.faults.is_empty() {
        found.warnings = names_without_certificate(snapshot, &certificates);
        found.warnings.extend(keys_open_to_all(&certificates));
        found.ends = certificates.iter().flat_map(|c| not_good(c, now)).map(|found| found.what).collect();
    }
    if let Err(error) = TlsConfigs::new(background.clone()).prepare(snapshot) {
        found.faults.push(error.into());
    }
    if let Err(error) = state::could_serve(snapshot, now) {
        found.faults.push(error);
    }
    found
}

/// One sentence for each private key that any account of this machine may read, and with it be this host.
fn keys_open_to_all(certificates: &[Arc<Certificates>]) -> Vec<String> {
    use std::os::unix::fs::PermissionsExt;
    let may = |path: &Path, bits: u32| std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & bits != 0);
    let mut keys: Vec<_> = certificates.iter().flat_map(|c| c.keys()).collect();
    keys.sort();
    keys.dedup();
    // A closed directory keeps everybody out, whatever the file says.
    let open = |key: &Path| {
        may(key, 0o004) && key.ancestors().skip(1).all(|dir| dir.as_os_str().is_empty() || may(dir, 0o001))
    };
    let shown = keys.iter().filter(|key| open(key));
    shown
        .map(|key| format!("any account of this machine may read the private key {0}: chmod o-rwx {0}", key.display()))
        .collect()
}

pub(super) fn warn_of_open_keys(certificates: &[Arc<Certificates>]) {
    for warning in keys_open_to_all(certificates) {
        tracing::warn!("{warning}");
    }
}

/// A certificate that browsers refuse, or will soon.
struct NotGood {
    refused: bool,
    what: String,
}

fn not_good(certificates: &Certificates, now: Timestamp) -> Vec<NotGood> {
    const RENEW: &str = "renew it: the gate takes new files by itself within seconds";
    let mut found = Vec::new();
    for life in certificates.lives() {
        let about = format!("the certificate of {} ({})", life.name, life.file.display());
        let left = life.end.as_secs() - now.as_secs();
        if left < 0 {
            let what = format!("{about} ended at {}, and browsers refuse it: {RENEW}", life.end);
            found.push(NotGood { refused: true, what });
        } else if life.start > now {
            let todo = "look at the clock of this machine, or put the one before it back";
            let what = format!("{about} is not good before {}, and browsers refuse it: {todo}", life.start);
            found.push(NotGood { refused: true, what });
        } else if left < ENDS_SOON_DAYS * 86_400 && left * 2 < life.end.as_secs() - life.start.as_secs() {
            let what = format!("{about} ends within {ENDS_SOON_DAYS} days, at {}: {RENEW}", life.end);
            found.push(NotGood { refused: false, what });
        }
    }
    found
}

/// Says of those just taken which of them browsers refuse, or will soon. They are taken all the same:
/// the files say what is shown, and nothing else does.
pub(super) fn warn_of_ends(certificates: &Certificates, now: Timestamp) {
    for NotGood { refused, what } in not_good(certificates, now) {
        if refused { tracing::error!("{what}") } else { tracing::warn!("{what}") }
    }
}

/// The certificates of all listeners; each directory once.
pub(super) fn certificates(snapshot: &Snapshot) -> Result<Vec<Arc<Certificates>>, TlsError> {
    sources(snapshot).into_iter().map(Certificates::load).collect()
}

fn sources(snapshot: &Snapshot) -> Vec<&Path> {
    let mut sources: Vec<&Path> =
        snapshot.listeners.iter().filter_map(|l| l.tls.as_ref()).map(|t| t.certificates.as_path()).collect();
    sources.sort();
    sources.dedup();
    sources
}

/// One sentence for each host that a browser would meet with another name's certificate.
pub(super) fn names_without_certificate(snapshot: &Snapshot, certificates: &[Arc<Certificates>]) -> Vec<String> {
    let all_tls = snapshot.listeners.iter().filter(|l| l.role == Role::Proxy).all(|l| l.tls.is_some());
    // Behind a proxy the name may stand in its certificate alone.
    if certificates.is_empty() || !all_tls || !snapshot.trusted_proxies.is_empty() {
        return Vec::new();
    }
    let held: Vec<String> = certificates.iter().flat_map(|c| c.names()).collect();
    let covered = |name: &str| {
        let wildcard = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        held.iter().any(|h| h == name || wildcard.as_ref() == Some(h))
    };
    let portal = snapshot.portal.iter().map(|p| &p.host);
    let mut names: Vec<&str> =
        portal.chain(snapshot.routes.iter().flat_map(|r| &r.hosts)).map(HostName::name).collect();
    names.sort_unstable();
    names.dedup();
    // An address stands in a certificate as an address: those are not looked through.
    let is_name = |name: &&str| !name.starts_with('[') && name.parse::<std::net::IpAddr>().is_err();
    let held = if held.is_empty() { "no name".to_owned() } else { held.join(", ") };
    names
        .into_iter()
        .filter(is_name)
        .filter(|name| !covered(name))
        .map(|name| format!("no certificate is for {name}: browsers will refuse it (the certificates are for {held})"))
        .collect()
}
