//! The state that commands beside a running `serve` work on: configuration, key ring, store.

use std::process::ExitCode;
use std::sync::Arc;

use super::{Global, OUT_OF_REACH, REFUSED};
use crate::app;
use crate::auth::Auth;
use crate::base::clock::{Clock, SharedClock, SystemClock};
use crate::base::rng::{SharedRng, SystemRng};
use crate::config::{self, Snapshot};
use crate::crypto::{KeyRing, PasswordPool};
use crate::store::Store;

/// Opened for one command.
pub struct State {
    pub snapshot: Arc<Snapshot>,
    pub store: Store,
    pub keys: Arc<KeyRing>,
    pub auth: Arc<Auth>,
    pub clock: SharedClock,
}

/// Opens the state that the configuration names; makes it where there is none yet, so that the
/// first account can be added before the first `serve`.
pub async fn open(global: &Global) -> anyhow::Result<State> {
    let snapshot = Arc::new(load(global)?);
    let clock: SharedClock = Arc::new(SystemClock);
    let rng: SharedRng = Arc::new(SystemRng);
    let opened = app::open_state(&snapshot, &clock, &rng).await?;
    let passwords = PasswordPool::new(1, Arc::clone(&opened.keys), Arc::clone(&rng));
    let auth = Auth::new(opened.store.clone(), Arc::clone(&opened.keys), passwords, None, rng);
    Ok(State { snapshot, store: opened.store, keys: opened.keys, auth, clock })
}

/// The configuration; every fault is printed.
pub fn load(global: &Global) -> anyhow::Result<Snapshot> {
    match config::load(&global.config) {
        Ok((snapshot, _warnings)) => Ok(snapshot),
        Err(faults) => Err(app::StartError::Config(faults).into()),
    }
}

/// `Clock::now` of this machine, for commands.
#[must_use]
pub fn now() -> crate::base::clock::Timestamp {
    SystemClock.now()
}

/// The exit code of an error (see [`super`]).
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let out_of_reach = error.chain().any(|cause| {
        cause.is::<crate::store::StoreError>()
            || cause.is::<crate::crypto::KeyRingError>()
            || cause.downcast_ref::<app::StartError>().is_some_and(app::StartError::is_out_of_reach)
    });
    ExitCode::from(if out_of_reach { OUT_OF_REACH } else { REFUSED })
}
