//! Where does the state stand, may it be made now, and is it open to this account?

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::build::StartError;
use crate::base::clock::Timestamp;
use crate::base::owner;
use crate::base::rng::Rng;
use crate::config::Snapshot;
use crate::config::snapshot::StoreSettings;
use crate::crypto::chain::ChainKey;
use crate::crypto::keyring::KeyRing;
use crate::store::{ServeLock, Store};

/// What the state directory holds, opened: for `serve` and for the commands beside it.
pub struct Opened {
    pub keys: Arc<KeyRing>,
    pub store: Store,
    pub keys_created: bool,
}

/// What to do where there is no state. A command that only looks must not make one: a mistyped
/// `state:` would answer "all is well" about nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfAbsent {
    Make,
    Refuse,
}

/// How long after a key ring was made its database may still be on its way: two processes that make the
/// state at once, or one that was killed between the two.
const JUST_MADE_MS: i64 = 600_000;

/// Opens the key ring and the store that `snapshot` names. Neither is made beside an old one of the
/// other: what is sealed in a database opens with its own ring alone, and a ring that has been in use
/// says that there were accounts, which an empty gate would let somebody make anew.
pub async fn open_state(
    snapshot: &Snapshot,
    if_absent: IfAbsent,
    now: Timestamp,
    rng: &dyn Rng,
) -> Result<Opened, StartError> {
    let state = &snapshot.state;
    if if_absent == IfAbsent::Make {
        make_directory(state)?;
    }
    let path = keys_path(snapshot);
    open_to_us(state, &path)?;
    // The database is looked for first: where two processes make the state at once, the other one
    // makes the ring before it.
    let database = Store::is_made(&snapshot.store, state).await?;
    let ring = path.exists();
    match (database, ring, if_absent) {
        (true, false, _) => return Err(StartError::KeysLost { path, state: state.clone() }),
        (false, true, _) => with_a_new_ring(snapshot, &KeyRing::load(&path)?, now)?,
        (true, true, _) | (false, false, _) => {}
    }
    if (database, if_absent) == (false, IfAbsent::Refuse) {
        return Err(StartError::NoState { path: state.clone() });
    }
    let (keys, keys_created) = match if_absent {
        IfAbsent::Make => KeyRing::load_or_create(&path, now, rng)?,
        IfAbsent::Refuse => (KeyRing::load(&path)?, false),
    };
    let keys = Arc::new(keys);
    let chain = ChainKey::from_ring(&keys);
    let store = Store::open(&snapshot.store, state, chain).await?;
    Ok(Opened { keys, store, keys_created })
}

/// The right to serve the state in this directory, which is made where it is not there: taken
/// before anything else is touched.
pub fn lock_state(store: &StoreSettings, state: &Path) -> Result<ServeLock, StartError> {
    make_directory(state)?;
    open_to_us(state, &state.join("keyring.json"))?;
    Ok(ServeLock::take(store, state)?)
}

/// Where the key ring stands: where the file says, or beside the store.
fn keys_path(snapshot: &Snapshot) -> PathBuf {
    snapshot.keys.clone().unwrap_or_else(|| snapshot.state.join("keyring.json"))
}

/// Refuses a ring that has had its database: that one is gone, or is looked for in the wrong place.
fn with_a_new_ring(snapshot: &Snapshot, keys: &KeyRing, now: Timestamp) -> Result<(), StartError> {
    let Some(made) = keys.key_infos().iter().map(|key| key.created).min() else { return Ok(()) };
    // A clock that went back made neither of them new.
    if (now.as_millis() - made.as_millis()).abs() <= JUST_MADE_MS {
        return Ok(());
    }
    let database = match snapshot.store {
        StoreSettings::Sqlite => snapshot.state.join("stepgate.db").display().to_string(),
        StoreSettings::Postgres { .. } => "`store.url`".to_owned(),
    };
    Err(StartError::DatabaseLost { path: keys_path(snapshot), made, database })
}

/// The state directory is nobody else's: it holds the key ring.
fn make_directory(state: &Path) -> Result<(), StartError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .map_err(|source| StartError::State { path: state.to_owned(), source })
}

/// The usual mistake with a state is the account: root made it, and the gate runs as another; or
/// the gate's own state is asked by a person. Said here, with the names of both.
fn open_to_us(state: &Path, keys: &Path) -> Result<(), StartError> {
    let closed = |path: &Path, tried: io::Result<()>| match tried {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let owner = path.metadata().map_or_else(|_| "another".to_owned(), |m| owner::account_name(m.uid()));
            Err(StartError::NotOurs { path: path.to_owned(), owner, we: owner::own_account() })
        }
        Ok(()) | Err(_) => Ok(()),
    };
    let database = state.join("stepgate.db");
    closed(state, std::fs::read_dir(state).map(drop))?;
    closed(keys, File::open(keys).map(drop))?;
    closed(&database, OpenOptions::new().read(true).write(true).open(&database).map(drop))
}

/// Whether `serve` could make or use this state directory; nothing is made.
pub fn could_serve(snapshot: &Snapshot, now: Timestamp) -> Result<(), StartError> {
    let state = &snapshot.state;
    let fail = |source| StartError::State { path: state.clone(), source };
    match state.metadata() {
        Ok(meta) if !meta.is_dir() => return Err(fail(io::ErrorKind::NotADirectory.into())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = state.ancestors().skip(1).find(|p| p.exists()).unwrap_or(Path::new("."));
            return match writable(above) {
                true => Ok(()),
                false => Err(fail(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!("it is not there, and {} may not make it in {}", owner::own_account(), above.display()),
                ))),
            };
        }
        Err(error) => return Err(fail(error)),
    }
    let keys = keys_path(snapshot);
    open_to_us(state, &keys)?;
    if !writable(state) {
        return Err(fail(io::ErrorKind::PermissionDenied.into()));
    }
    let sqlite = matches!(snapshot.store, StoreSettings::Sqlite);
    let database = sqlite && state.join("stepgate.db").metadata().is_ok_and(|m| m.len() > 0);
    match KeyRing::load(&keys) {
        Ok(keys) if sqlite && !database => with_a_new_ring(snapshot, &keys, now),
        Err(_) if !keys.exists() && database => Err(StartError::KeysLost { path: keys, state: state.clone() }),
        Err(_) if !keys.exists() => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(()),
    }
}

#[cfg(target_os = "linux")]
fn writable(directory: &Path) -> bool {
    use nix::unistd::{AccessFlags, access};
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    access(directory, AccessFlags::W_OK | AccessFlags::X_OK).is_ok() && directory.is_dir()
}

#[cfg(not(target_os = "linux"))]
fn writable(directory: &Path) -> bool {
    directory.metadata().is_ok_and(|m| m.is_dir() && !m.permissions().readonly())
}
