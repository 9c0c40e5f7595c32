//! What is known of one signed-in browser at one host, ready for the hot path?

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use tokio_util::sync::CancellationToken;

use crate::base::clock::Timestamp;
use crate::base::ids::{SessionId, UserId};
use crate::domain::authn::AuthnContext;
use crate::domain::host::HostName;
use crate::store::SessionRow;

/// A token that verified, and the session behind it. Never changes: what changed in the store makes
/// a new one. Only `ended` and the last-seen time are shared by all that belong to one session.
pub struct LiveSession {
    pub authn: Arc<AuthnContext>,
    pub token_hash: [u8; 32],
    pub host: HostName,
    pub created_at: Timestamp,
    /// The maximum; by the file's limit of today, where that is shorter than at sign-in.
    pub expires_at: Timestamp,
    pub superseded_at: Option<Timestamp>,
    /// Fires when the session ends, for whatever reason: tunnels, streams and downloads wait on it.
    pub ended: CancellationToken,
    pub(super) pulse: Arc<Pulse>,
    prepared: ArcSwapOption<Prepared>,
}

type Prepared = Arc<dyn Any + Send + Sync>;

/// What all tokens of one session have in common.
pub(super) struct Pulse {
    pub(super) session: SessionId,
    pub(super) user: UserId,
    pub(super) created_at: Timestamp,
    /// As of the sign-in.
    pub(super) expires_at: Timestamp,
    last_seen: AtomicI64,
    /// Whether it stands in the list of those to flush.
    pub(super) dirty: AtomicBool,
    pub(super) ended: CancellationToken,
    tokens: Mutex<Vec<[u8; 16]>>,
}

impl LiveSession {
    pub(super) fn new(
        authn: AuthnContext,
        token_hash: [u8; 32],
        host: HostName,
        times: (Timestamp, Timestamp, Option<Timestamp>),
        pulse: Arc<Pulse>,
    ) -> Arc<Self> {
        let (created_at, expires_at, superseded_at) = times;
        Arc::new(Self {
            authn: Arc::new(authn),
            token_hash,
            host,
            created_at,
            expires_at,
            superseded_at,
            ended: pulse.ended.clone(),
            pulse,
            prepared: ArcSwapOption::empty(),
        })
    }

    #[must_use]
    pub fn last_seen(&self) -> Timestamp {
        self.pulse.last_seen()
    }

    /// What [`LiveSession::prepare`] kept last, if it is a `T`. The caller checks that it still
    /// fits: a reload may have changed what the app is told.
    #[must_use]
    pub fn prepared<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let kept = self.prepared.load();
        Arc::clone(kept.as_deref()?).downcast().ok()
    }

    /// Keeps something costly made from this session (header values, an assertion) for the next
    /// request; it is gone when the session is read anew.
    pub fn prepare<T: Any + Send + Sync>(&self, value: Arc<T>) {
        self.prepared.store(Some(Arc::new(value)));
    }
}

impl fmt::Debug for LiveSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveSession")
            .field("session", &self.authn.session)
            .field("user", &self.authn.name)
            .field("host", &self.host)
            .field("expires_at", &self.expires_at)
            .field("superseded_at", &self.superseded_at)
            .field("ended", &self.ended.is_cancelled())
            .finish_non_exhaustive()
    }
}

impl Pulse {
    pub(super) fn new(row: &SessionRow, last_seen: Timestamp) -> Arc<Self> {
        Arc::new(Self {
            session: row.id,
            user: row.user,
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_seen: AtomicI64::new(last_seen.as_millis()),
            dirty: AtomicBool::new(false),
            ended: CancellationToken::new(),
            tokens: Mutex::new(Vec::with_capacity(2)),
        })
    }

    pub(super) fn last_seen(&self) -> Timestamp {
        Timestamp::from_millis(self.last_seen.load(Ordering::Relaxed))
    }

    /// Only goes forward.
    pub(super) fn saw(&self, at: Timestamp) {
        self.last_seen.fetch_max(at.as_millis(), Ordering::Relaxed);
    }

    pub(super) fn add_token(&self, token: [u8; 16]) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if !tokens.contains(&token) {
            tokens.push(token);
        }
    }

    pub(super) fn remove_token(&self, token: &[u8; 16]) {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).retain(|t| t != token);
    }

    pub(super) fn take_tokens(&self) -> Vec<[u8; 16]> {
        std::mem::take(&mut self.tokens.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
