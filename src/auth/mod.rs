//! The ceremonies, without HTTP: signing in, confirming, stepping up, enrolling, handing over.
//! Only this room decides that something was shown; what it is worth is `domain`'s to say.

pub mod account;
pub mod device;
pub mod enroll;
pub mod error;
pub mod factor;
pub mod factors;
pub mod flow;
pub mod handover;
pub mod import;
pub mod link;
pub mod not_me;
pub mod passkey;
pub mod password;
pub mod phone;
pub mod plan;
pub mod proof;
pub mod remembered;
pub mod return_to;
pub mod send;
pub mod sign_in;
pub mod step_up;
pub mod throttle;
pub mod users;

#[cfg(test)]
pub(crate) mod test_world;

use std::sync::{Arc, OnceLock};

pub use error::AuthError;
pub use return_to::ReturnTo;

use crate::base::clock::Timestamp;
use crate::base::ids::{RequestId, SessionId, UserId};
use crate::base::net::ClientIp;
use crate::base::rng::SharedRng;
use crate::config::snapshot::Snapshot;
use crate::crypto::{KeyRing, PasswordPool};
use crate::domain::audit::{Action, Actor, AuditEvent, Origin, Outcome};
use crate::domain::user::User;
use crate::notify::Letters;
use crate::session::Sessions;
use crate::store::Store;
use throttle::Pauses;

/// What every ceremony needs. One for the process.
pub struct Auth {
    pub store: Store,
    pub keys: Arc<KeyRing>,
    pub passwords: Arc<PasswordPool>,
    /// The session cache of this process; the command line has none.
    pub sessions: Option<Arc<Sessions>>,
    pub rng: SharedRng,
    pauses: Pauses,
    letters: OnceLock<Arc<Letters>>,
}

/// One request, as far as a ceremony may know it.
#[derive(Clone, Debug)]
pub struct Visit<'a> {
    pub now: Timestamp,
    pub client: ClientIp,
    pub user_agent: Option<String>,
    pub request: RequestId,
    pub snapshot: &'a Snapshot,
}

impl Visit<'_> {
    #[must_use]
    pub fn origin(&self) -> Origin {
        Origin {
            address: Some(self.client.to_string()),
            user_agent: self.user_agent.clone(),
            request: Some(self.request),
        }
    }

    /// An event of a known person, from here.
    #[must_use]
    pub fn event(&self, user: &User, action: Action, outcome: Outcome, reason: &str) -> AuditEvent {
        AuditEvent::new(self.now, actor(user), action, outcome, reason).from_origin(&self.origin())
    }
}

impl Auth {
    #[must_use]
    pub fn new(
        store: Store,
        keys: Arc<KeyRing>,
        passwords: Arc<PasswordPool>,
        sessions: Option<Arc<Sessions>>,
        rng: SharedRng,
    ) -> Arc<Self> {
        Arc::new(Self { store, keys, passwords, sessions, rng, pauses: Pauses::default(), letters: OnceLock::new() })
    }

    /// Who writes the mails of codes. The first caller counts; the command line has nobody to send one to.
    pub fn write_by(&self, letters: Arc<Letters>) {
        let _ = self.letters.set(letters);
    }

    fn letters(&self) -> Option<&Arc<Letters>> {
        self.letters.get()
    }

    /// A committed change bites in this process at once; elsewhere the revocation row carries it.
    fn forget(&self, session: SessionId) {
        if let Some(sessions) = &self.sessions {
            sessions.forget(session);
        }
    }

    fn forget_user(&self, user: UserId) {
        if let Some(sessions) = &self.sessions {
            sessions.forget_user(user);
        }
    }
}

fn actor(user: &User) -> Actor {
    Actor::User { id: user.id, name: user.name.as_str().to_owned() }
}
