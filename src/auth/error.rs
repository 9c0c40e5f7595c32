//! What can go wrong in a ceremony that is nobody's wrong answer.

use std::time::Duration;

use crate::crypto::{PoolError, SealError};
use crate::store::StoreError;

/// Ends a ceremony without a verdict. Every variant denies (S-LOGIN-12).
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The store did not answer, or what it holds cannot be believed.
    #[error("the store failed")]
    Store(#[source] StoreError),
    /// All hashing threads are taken and the queue is full (S-LOGIN-11).
    #[error("the password hashing pool is full")]
    Busy,
    /// The hashing threads have stopped, or memory for a hash ran out.
    #[error("a password could not be hashed")]
    Hashing,
    /// A sealed value of ours does not open: moved, edited, or under a key that is gone.
    #[error("a sealed value does not open")]
    Seal(#[from] SealError),
    /// The attempt is over: older than its limit, finished, or of another browser or person.
    #[error("the flow is gone")]
    FlowGone,
    /// The session has not shown enough, or too long ago (S-ENR-2).
    #[error("the session has not shown enough for this")]
    TooLittleShown,
    /// Something else changed the same thing first.
    #[error("it was changed at the same time")]
    Raced,
}

impl AuthError {
    /// When to try again, for `Retry-After`.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Store(_) | Self::Hashing => Some(Duration::from_secs(5)),
            Self::Busy => Some(Duration::from_secs(2)),
            Self::Seal(_) | Self::FlowGone | Self::TooLittleShown | Self::Raced => None,
        }
    }
}

impl From<StoreError> for AuthError {
    fn from(error: StoreError) -> Self {
        match error {
            // Somebody was first, or the account or session ended under this ceremony.
            StoreError::Conflict => Self::Raced,
            other => Self::Store(other),
        }
    }
}

impl From<PoolError> for AuthError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Busy => Self::Busy,
            PoolError::Failed => Self::Hashing,
        }
    }
}
