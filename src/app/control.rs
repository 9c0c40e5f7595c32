//! How commands beside a running gate ask it to put a policy in force: a socket in the state directory, for
//! the owner of the state alone. One request a connection, one document each way.

use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as Plain;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::applied::{Candidate, MOST_BYTES, Source};
use super::apply::{self, Applied, Findings, Refused};
use super::build::Core;
use crate::audit::operator;
use crate::base::owner;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    Check {
        candidate: Candidate,
    },
    Apply {
        candidate: Candidate,
        within_ms: u64,
        lockout_is_meant: bool,
        sudo_by: Option<String>,
    },
    /// `number`: which policy is meant.
    Confirm {
        number: Option<u32>,
        sudo_by: Option<String>,
    },
    RollBack {
        to: Option<Source>,
        sudo_by: Option<String>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Checked(Findings),
    Applied(Applied),
    Confirmed { number: u32, hash: String },
    RolledBack { source: Source, hash: String },
    Refused(Refused),
}

/// Why the gate could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("no gate serves the state {}: start it (`systemctl start stepgate`)", state.display())]
    NotRunning { state: PathBuf },
    #[error("the gate cannot be asked at {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("what answers at {} is no gate of this version", path.display())]
    NotUnderstood { path: PathBuf },
}

fn path_of(state: &Path) -> PathBuf {
    state.join("control.sock")
}

/// For a question, and for an answer. A policy of thousands of rules is judged in less.
const PATIENCE: Duration = Duration::from_secs(60);
/// Base64 and the names of the files come on top of the files.
const MOST: u64 = (MOST_BYTES as u64) * 3 / 2;

/// Asks the gate that serves this state.
pub fn ask(state: &Path, question: &Ask) -> Result<Answer, ControlError> {
    let path = path_of(state);
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            ControlError::NotRunning { state: state.to_owned() }
        }
        _ => ControlError::Io { path: path.clone(), source },
    };
    let mut answer = Vec::new();
    let mut work = || -> io::Result<()> {
        let mut stream = Plain::connect(&path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(&serde_json::to_vec(question)?)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        stream.read_to_end(&mut answer).map(drop)
    };
    work().map_err(failed)?;
    serde_json::from_slice(&answer).map_err(|_| ControlError::NotUnderstood { path: path.clone() })
}

/// Answers on the socket until `stop`. A gate that cannot make it serves all the same.
pub(super) fn listen(core: &Arc<Core>, stop: &CancellationToken) {
    let path = path_of(&core.snapshot.load().state);
    let _inside = core.background.enter();
    match bind(&path) {
        Ok(listener) => drop(core.background.spawn(serve(Arc::clone(core), listener, path, stop.clone()))),
        Err(error) => {
            tracing::warn!(path = %path.display(), error = %error, "`stepgate apply` and `rollback` cannot be used: no socket for them");
        }
    }
}

/// What is left of a process that was killed is taken away; what answers is another gate's.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match Plain::connect(path) {
        Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another gate answers there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    // The directory is closed to others already.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn serve(core: Arc<Core>, listener: UnixListener, path: PathBuf, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors: what is accepted next time is what waits now.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let core = Arc::clone(&core);
        tokio::spawn(async move {
            if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, answer(&core, stream)).await {
                tracing::debug!(error = %error, "a command went away");
            }
        });
    }
    let _ = std::fs::remove_file(path);
}

async fn answer(core: &Arc<Core>, mut stream: UnixStream) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    if !is_owner(core, peer) {
        tracing::warn!(uid = peer, "a command of an account that does not own the state was sent away");
        return Ok(());
    }
    let mut question = Vec::new();
    (&mut stream).take(MOST).read_to_end(&mut question).await?;
    let core = Arc::clone(core);
    let work = tokio::task::spawn_blocking(move || match serde_json::from_slice(&question) {
        Ok(ask) => act(&core, ask, peer),
        Err(error) => Answer::Refused(Refused::Other(format!("the gate does not understand that: {error}"))),
    });
    let answer = work.await.map_err(io::Error::other)?;
    stream.write_all(&serde_json::to_vec(&answer)?).await?;
    stream.shutdown().await
}

/// Root, the account that the gate runs as, and whoever the state belongs to.
fn is_owner(core: &Core, uid: u32) -> bool {
    let owner = std::fs::metadata(&core.snapshot.load().state).map(|meta| meta.uid());
    uid == 0 || uid == owner::own_uid() || owner.is_ok_and(|owner| owner == uid)
}

fn act(core: &Core, ask: Ask, peer: u32) -> Answer {
    let by = |sudo_by: Option<String>| operator::operator_at(peer, sudo_by);
    let done = match ask {
        Ask::Check { candidate } => apply::check(core, &candidate).map(Answer::Checked),
        Ask::Apply { candidate, within_ms, lockout_is_meant, sudo_by } => {
            let within = Duration::from_millis(within_ms);
            apply::apply(core, &candidate, within, lockout_is_meant, &by(sudo_by)).map(Answer::Applied)
        }
        Ask::Confirm { number, sudo_by } => {
            apply::confirm(core, number, &by(sudo_by)).map(|(number, hash)| Answer::Confirmed { number, hash })
        }
        Ask::RollBack { to, sudo_by } => {
            apply::roll_back(core, to, &by(sudo_by)).map(|(source, hash)| Answer::RolledBack { source, hash })
        }
    };
    done.unwrap_or_else(Answer::Refused)
}
