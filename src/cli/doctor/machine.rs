//! State, key ring, certificates, clock, and what this process may open.

use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Finding;
use crate::app::{self, IfAbsent};
use crate::base::clock::{Clock, SystemClock, Timestamp};
use crate::base::rng::SystemRng;
use crate::config::Snapshot;
use crate::crypto::KeyRing;
use crate::store::{Channel, Store};

/// Warned of from this many days before the end: time for whoever renews by hand.
const DAYS_LEFT: i64 = 21;
/// Fewer descriptors than this are used up by an ordinary day.
const FEW_FILES: u64 = 4096;
/// What a code of an authenticator app still bears.
const CLOCK_MS: i64 = 2000;

/// The key ring, where the state can be opened.
pub(super) async fn state(snapshot: &Snapshot, findings: &mut Vec<Finding>) -> Option<Arc<KeyRing>> {
    let now = SystemClock.now();
    let state = snapshot.state.display().to_string();
    writable_by_others(snapshot, findings);
    let opened = match app::open_state(snapshot, IfAbsent::Refuse, now, &SystemRng).await {
        Ok(opened) => opened,
        Err(app::StartError::NoState { .. }) => {
            findings.push(Finding::warning(
                state,
                "there is no state yet",
                "`stepgate user add NAME` or `serve` makes it",
            ));
            return None;
        }
        Err(error) => {
            let what = format!("{:#}", anyhow::Error::from(error));
            findings.push(Finding::problem(state, what, "the gate needs it; run the doctor as the gate's own account"));
            return None;
        }
    };
    match opened.store.clock_skew(now).await {
        Ok(skew) if skew.abs() > CLOCK_MS => findings.push(Finding::problem(
            "the clock",
            format!("this machine and the database differ by {skew} ms"),
            "run NTP on both: codes and sessions are times",
        )),
        Ok(_) => findings.push(match opened.store.takes_writes().await {
            Ok(()) => Finding::fine(state, "the store answers and takes a write, the key ring opens"),
            Err(error) => Finding::problem(
                state,
                format!("the store can be read and takes no write ({error}): nobody can sign in"),
                "make room on its disk; where it is busy, see who holds it: fuser -v on the database file",
            ),
        }),
        Err(error) => findings.push(Finding::problem(state, error.to_string(), "look at the database")),
    }
    if let Ok(users) = opened.store.users().await
        && users.is_empty()
    {
        findings.push(Finding::warning("accounts", "there is none", "`stepgate user add NAME --link`"));
    }
    notices(snapshot, &opened.store, now, findings).await;
    opened.store.close().await;
    Some(opened.keys)
}

/// Whether people can be told, and what they said.
async fn notices(snapshot: &Snapshot, store: &Store, now: Timestamp, findings: &mut Vec<Finding>) {
    /// A relay that is well takes a mail within seconds.
    const LATE_MS: i64 = 3_600_000;
    if let Ok(open) = store.open_incidents().await
        && open > 0
    {
        let what = format!("{open} open: people said that something was not them");
        findings.push(Finding::warning("incidents", what, "`stepgate incident list`, and close what was looked into"));
    }
    if snapshot.smtp.is_none() {
        return;
    }
    if let Ok(users) = store.users().await {
        let without = users.iter().filter(|user| user.email.is_none()).count();
        if without > 0 {
            let what = format!("{without} of {} have no e-mail address and are told of nothing", users.len());
            findings.push(Finding::warning("accounts", what, "`stepgate user change NAME --email ADDRESS`"));
        }
    }
    if let Ok(waiting) = store.waiting_mails(Channel::Mail, now).await
        && waiting.oldest.is_some_and(|oldest| now.as_millis() - oldest.as_millis() > LATE_MS)
    {
        let what = format!("{} wait, the oldest for more than an hour", waiting.mails);
        findings.push(Finding::problem("mail", what, "see what `doctor` says of the relay, and the log of `serve`"));
    }
}

/// Whoever may write in the state directory may put another key ring or database in place of ours.
fn writable_by_others(snapshot: &Snapshot, findings: &mut Vec<Finding>) {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).map_or(0, |about| about.permissions().mode());
    if mode(&snapshot.state) & 0o002 != 0 {
        let what = "anybody on this machine may write in it: the key ring and the accounts can be swapped";
        findings.push(Finding::problem(snapshot.state.display().to_string(), what, "chmod 700 it"));
    }
    let database = snapshot.state.join("stepgate.db");
    if mode(&snapshot.state) & 0o001 != 0 && mode(&database) & 0o004 != 0 {
        let what = "anybody on this machine may read it, names and password hashes included";
        findings.push(Finding::problem(database.display().to_string(), what, "chmod 600 it"));
    }
}

pub(super) fn certificates(snapshot: &Snapshot, findings: &mut Vec<Finding>) {
    let now = SystemClock.now();
    let mut sources: Vec<_> =
        snapshot.listeners.iter().filter_map(|l| l.tls.as_ref()).map(|t| &t.certificates).collect();
    sources.sort();
    sources.dedup();
    for source in sources {
        let mut paths = vec![source.clone()];
        if let Ok(entries) = std::fs::read_dir(source) {
            paths = entries.flatten().map(|e| e.path()).collect();
        }
        paths.sort();
        for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "crt" || e == "pem")) {
            let Ok(leaf) = CertificateDer::from_pem_file(path) else { continue };
            let Ok((_, certificate)) = X509Certificate::from_der(&leaf) else { continue };
            let about = path.display().to_string();
            let until = certificate.validity().not_after.timestamp();
            let days = (until - now.as_secs()).div_euclid(86_400);
            let end = Timestamp::from_secs(until);
            if certificate.validity().not_before.timestamp() > now.as_secs() {
                let todo = "look at the clock of this machine and at the certificate";
                findings.push(Finding::problem(about, "the certificate is not valid yet", todo));
            } else if days < 0 {
                let todo = "renew it: the gate reads new files by itself";
                findings.push(Finding::problem(about, format!("the certificate ended at {end}"), todo));
            } else if days < DAYS_LEFT {
                let todo = "renew it: the gate reads new files by itself";
                findings.push(Finding::warning(about, format!("the certificate ends in {days} days, at {end}"), todo));
            } else {
                findings.push(Finding::fine(about, format!("the certificate is good for {days} days")));
            }
        }
    }
}

pub(super) fn files(findings: &mut Vec<Finding>) {
    use nix::sys::resource::{Resource, getrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    // `serve` raises the soft limit to the hard one.
    let may = soft.max(hard);
    if may < FEW_FILES {
        let what = format!("a process of this account may open {may} files: that many connections, both sides counted");
        findings.push(Finding::warning("open files", what, "LimitNOFILE=65536 in the unit, or ulimit -n"));
    }
}
