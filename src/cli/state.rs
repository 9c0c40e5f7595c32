//! The state that commands beside a running `serve` work on: configuration, key ring, store.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use arc_swap::ArcSwap;

use super::{Global, OUT_OF_REACH, REFUSED, USAGE, Usage};
use crate::app::{self, IfAbsent};
use crate::audit;
use crate::auth::Auth;
use crate::base::clock::{Clock, SharedClock, SystemClock};
use crate::base::rng::{SharedRng, SystemRng};
use crate::config::{self, Purpose, Snapshot};
use crate::crypto::{KeyRing, PasswordPool};
use crate::domain::audit::{Action, AuditEvent, Outcome};
use crate::notify::{Letters, RelayError};
use crate::pages::Pages;
use crate::store::{Store, StoreError};

/// Opened for one command.
pub struct State {
    pub snapshot: Arc<Snapshot>,
    /// Whether all of `snapshot` is what the files say; else only what leads to the state.
    pub settings_known: bool,
    pub store: Store,
    pub keys: Arc<KeyRing>,
    pub auth: Arc<Auth>,
    pub clock: SharedClock,
}

/// What a command needs besides the state itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: it must work at night, also while the configuration has a fault.
    State,
    /// What the configuration says about accounts and factors: every fault is a refusal.
    Settings,
    /// The same, and it may make the state: the first account is added before the first `serve`.
    SettingsAndMake,
}

/// Opens the state that the configuration names.
pub async fn open(global: &Global, needs: Needs) -> anyhow::Result<State> {
    let (snapshot, settings_known) = match needs {
        Needs::State => for_incident(global)?,
        Needs::Settings | Needs::SettingsAndMake => match config::load_for(&global.config, Purpose::State) {
            Ok((snapshot, _warnings)) => (snapshot, true),
            Err(faults) => return Err(app::StartError::Config(faults).into()),
        },
    };
    let snapshot = Arc::new(snapshot);
    let clock: SharedClock = Arc::new(SystemClock);
    let rng: SharedRng = Arc::new(SystemRng);
    let if_absent = match needs {
        Needs::SettingsAndMake => IfAbsent::Make,
        Needs::State | Needs::Settings => IfAbsent::Refuse,
    };
    let opened = app::open_state(&snapshot, if_absent, clock.now(), &*rng).await?;
    if opened.keys_created {
        let reason = "A new key ring was made in the state directory.";
        let event = AuditEvent::new(clock.now(), audit::operator(), Action::KeysCreate, Outcome::Success, reason);
        opened.store.audit_only(&[event]).await?;
    }
    // Whom a command changes is told like anybody else; `serve` sends it (S-ADM-2).
    let shared = Arc::new(ArcSwap::new(Arc::clone(&snapshot)));
    opened.store.tell_by(Letters::new(shared, Arc::clone(&opened.keys), Pages::new(), Arc::clone(&rng), None));
    let passwords = PasswordPool::new(1, Arc::clone(&opened.keys), Arc::clone(&rng));
    let auth = Auth::new(opened.store.clone(), Arc::clone(&opened.keys), passwords, None, rng);
    Ok(State { snapshot, settings_known, store: opened.store, keys: opened.keys, auth, clock })
}

/// The configuration as far as it leads to the state. Its other faults are one line of warning.
#[expect(clippy::print_stderr, reason = "the warning is for the person at the terminal")]
fn for_incident(global: &Global) -> anyhow::Result<(Snapshot, bool)> {
    match config::load_state(&global.config) {
        Ok((snapshot, faults)) => {
            if !faults.is_empty() {
                let those = if faults.len() == 1 { "a fault".to_owned() } else { format!("{} faults", faults.len()) };
                eprintln!(
                    "stepgate: warning: the configuration has {those}: a gate that runs keeps its old policy, and none \
                     would start. `stepgate check` says what; this command goes by `state` and `store` alone."
                );
            }
            Ok((snapshot, faults.is_empty()))
        }
        Err(faults) if global.config.exists() => {
            let error = app::StartError::Config(faults);
            bail!(
                "{error}\nUntil that is mended: a file that holds only the right `state:` (and `store:`) is enough for \
                 this command, --config FILE"
            )
        }
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
    if error.is::<Usage>() {
        return ExitCode::from(USAGE);
    }
    let out_of_reach = error.chain().any(|cause| {
        cause.downcast_ref::<StoreError>().is_some_and(app::is_out_of_reach)
            || cause.is::<crate::crypto::KeyRingError>()
            || cause.is::<app::ControlError>()
            || cause.downcast_ref::<RelayError>().is_some_and(RelayError::is_of_the_relay)
            || cause.downcast_ref::<app::StartError>().is_some_and(app::StartError::is_out_of_reach)
    });
    ExitCode::from(if out_of_reach { OUT_OF_REACH } else { REFUSED })
}
