//! Proof that something was checked: the flows go on only with one of these in hand.

use crate::base::clock::Timestamp;
use crate::base::ids::CredentialId;
use crate::domain::factor::{FactorKind, FactorUse};
use crate::domain::user::User;

/// The password of this account was right just now, and the account may be used. Only
/// [`Auth::verify_password`](super::Auth::verify_password) and the setting of a new one make it.
#[derive(Debug)]
pub struct PasswordVerified {
    user: User,
    at: Timestamp,
}

/// A second factor of one account was right just now, and is spent. Only redeeming a
/// [`Candidate`](super::factor::Candidate) and a confirmed enrollment make it.
#[derive(Debug)]
pub struct FactorVerified {
    kind: FactorKind,
    credential: Option<CredentialId>,
    at: Timestamp,
    phishing_resistant: bool,
    user_verified: bool,
}

impl PasswordVerified {
    pub(super) fn new(user: User, at: Timestamp) -> Self {
        Self { user, at }
    }

    #[must_use]
    pub fn user(&self) -> &User {
        &self.user
    }

    /// What it is worth as evidence.
    #[must_use]
    pub fn evidence(&self) -> FactorUse {
        FactorUse {
            kind: FactorKind::Password,
            at: self.at,
            phishing_resistant: false,
            user_verified: false,
            credential: None,
            remembered: false,
        }
    }
}

impl FactorVerified {
    pub(super) fn new(kind: FactorKind, credential: Option<CredentialId>, at: Timestamp) -> Self {
        Self { kind, credential, at, phishing_resistant: false, user_verified: false }
    }

    /// A security key: it answers no site but ours, and its assertion says whether it checked who
    /// holds it (S-WA-1).
    pub(super) fn of_key(credential: CredentialId, at: Timestamp, user_verified: bool) -> Self {
        let (kind, credential) = (FactorKind::Webauthn, Some(credential));
        Self { kind, credential, at, phishing_resistant: true, user_verified }
    }

    /// What it is worth as evidence: codes are never phishing resistant (S-BACK-1).
    #[must_use]
    pub fn evidence(&self) -> FactorUse {
        FactorUse {
            kind: self.kind,
            at: self.at,
            phishing_resistant: self.phishing_resistant,
            user_verified: self.user_verified,
            credential: self.credential,
            remembered: false,
        }
    }
}
