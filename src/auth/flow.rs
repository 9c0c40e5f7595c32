//! A ceremony in progress: what was shown so far, in which browser, by whom, and what comes next.

use std::time::Duration;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde::{Deserialize, Serialize};

use super::error::AuthError;
use super::{Auth, Visit};
use crate::base::clock::Timestamp;
use crate::base::ids::{FlowId, SessionId};
use crate::base::rng::{self, Rng};
use crate::base::secret::Secret;
use crate::crypto::{KeyRing, Place, ct_eq, sha256};
use crate::domain::factor::FactorUse;
use crate::domain::user::{User, UserStatus};
use crate::store::{FlowRow, Tx};

/// Binds our forms to one browser before anyone is known. Set on the first visit, kept for all tabs.
pub const FLOW_COOKIE: &str = "__Host-Http-stepgate-flow";
/// A half-done sign-in (SECURITY.md section 3).
pub const SIGN_IN_LIFE: Duration = Duration::from_secs(600);
/// Enrollment may need an app to be installed first; the key on the page has its own, shorter life.
pub const ENROLL_LIFE: Duration = Duration::from_secs(1800);

/// The browser that a ceremony runs in: the hash of its [`FLOW_COOKIE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Browser([u8; 32]);

impl Browser {
    /// A fresh cookie value.
    #[must_use]
    pub fn new_cookie(rng: &dyn Rng) -> String {
        BASE64URL_NOPAD.encode(&rng::bytes::<32>(rng))
    }

    /// `None` for what cannot be one of ours, so that nobody chooses a guessable one for another.
    #[must_use]
    pub fn from_cookie(value: &str) -> Option<Self> {
        let bytes = BASE64URL_NOPAD.decode(value.as_bytes()).ok()?;
        (bytes.len() == 32).then(|| Self(sha256(value.as_bytes())))
    }

    /// The browser that is about to get this value of [`new_cookie`](Self::new_cookie).
    #[must_use]
    pub fn of_value(value: &str) -> Self {
        Self(sha256(value.as_bytes()))
    }

    #[must_use]
    pub fn hash(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Where the person wants to get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goal {
    /// A sealed [`ReturnTo`](super::return_to::ReturnTo), or `~` and the name of an [`OwnPage`];
    /// without one the way ends at the account page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rd: Option<String>,
    /// The part after `#`, reported by a script; the server never sees one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fragment: Option<String>,
}

/// Pages of ours that may ask for a sign-in or a step-up: a closed list, never an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnPage {
    Account,
    AccountPassword,
    EnrollTotp,
    EnrollHotp,
    EnrollSms,
    EnrollKey,
    BackupCodes,
    Factors,
    /// Security keys, whose removal takes one.
    Keys,
}

impl OwnPage {
    const ALL: [Self; 9] = [
        Self::Account,
        Self::AccountPassword,
        Self::EnrollTotp,
        Self::EnrollHotp,
        Self::EnrollSms,
        Self::EnrollKey,
        Self::BackupCodes,
        Self::Factors,
        Self::Keys,
    ];

    /// How it stands in `rd`. `~` is in no sealed value.
    #[must_use]
    pub fn rd(self) -> &'static str {
        match self {
            Self::Account => "~account",
            Self::AccountPassword => "~password",
            Self::EnrollTotp => "~totp",
            Self::EnrollHotp => "~hotp",
            Self::EnrollSms => "~sms",
            Self::EnrollKey => "~key",
            Self::BackupCodes => "~backup-codes",
            Self::Factors => "~factors",
            Self::Keys => "~keys",
        }
    }

    #[must_use]
    pub fn from_rd(rd: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|page| page.rd() == rd)
    }
}

impl Goal {
    /// The page of ours that it leads to.
    #[must_use]
    pub fn own(&self) -> Option<OwnPage> {
        self.rd.as_deref().and_then(OwnPage::from_rd)
    }
}

/// Why this ceremony runs, which says what it may end in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlowKind {
    SignIn,
    /// A right password within the admin's window, and never a factor before (S-ENR-1).
    FirstLogin,
    /// A sign-up link was claimed.
    SignUp,
    /// An access pass was claimed: it opens enrollment and nothing else (S-REC-3).
    AccessPass,
    /// A signed-in person adds to their account.
    Account {
        session: SessionId,
    },
}

/// What comes next. One at a time: a step cannot be skipped (S-LOGIN-6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Show one more factor.
    Confirm,
    SetPassword,
    /// Set a factor up. `key` is that of an authenticator app, sealed; `None` before its page was opened.
    EnrollTotp {
        key: Option<PendingKey>,
    },
    /// Save the codes, which are sealed here until the person says so.
    BackupCodes {
        codes: String,
        enrolled: bool,
    },
}

/// A TOTP key that is on a page and not yet an authenticator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingKey {
    pub sealed: String,
    pub until: Timestamp,
}

/// What the row's `state` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowState {
    pub kind: FlowKind,
    pub step: Step,
    pub evidence: Vec<FactorUse>,
    pub goal: Goal,
    /// One ceremony spends at most one backup code (S-BACK-1).
    #[serde(default)]
    pub backup_spent: bool,
}

/// A flow of this browser that is alive, with its person.
#[derive(Debug)]
pub struct Flow {
    pub id: FlowId,
    pub user: User,
    pub state: FlowState,
    pub expires_at: Timestamp,
    version: i64,
    browser: Browser,
}

impl FlowState {
    fn encode(&self) -> String {
        // Enums, texts and numbers always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Flow {
    /// The browser that it runs in.
    #[must_use]
    pub fn browser(&self) -> Browser {
        self.browser
    }

    /// Writes the next state, or says that another request was first.
    pub async fn advance(&mut self, tx: &mut Tx, state: FlowState) -> Result<(), AuthError> {
        if !tx.update_flow(self.id, self.version, &state.encode()).await? {
            return Err(AuthError::Raced);
        }
        self.version += 1;
        self.state = state;
        Ok(())
    }

    /// Ends the flow. It is the verdict over two requests that both try to finish it.
    pub async fn consume(&self, tx: &mut Tx) -> Result<(), AuthError> {
        if tx.consume_flow(self.id, self.version).await? { Ok(()) } else { Err(AuthError::FlowGone) }
    }

    /// Seals a secret into this flow's state; it opens in no other row (S-KEY-1).
    #[must_use]
    pub fn seal(&self, plain: &[u8], keys: &KeyRing, rng: &dyn Rng) -> String {
        BASE64.encode(&keys.seal(&self.place(), plain, rng))
    }

    pub fn unseal(&self, sealed: &str, keys: &KeyRing) -> Result<Secret<Vec<u8>>, AuthError> {
        let bytes = BASE64.decode(sealed.as_bytes()).map_err(|_| AuthError::FlowGone)?;
        Ok(keys.open(&self.place(), &bytes)?)
    }

    fn place(&self) -> Place<'_> {
        Place::new("flows", self.id.as_bytes(), "state")
    }
}

impl Auth {
    /// Opens a flow within `tx`.
    pub async fn open_flow(
        &self,
        tx: &mut Tx,
        visit: &Visit<'_>,
        browser: Browser,
        user: User,
        state: FlowState,
    ) -> Result<Flow, AuthError> {
        let id = FlowId::new(visit.now, &*self.rng);
        let life = if state.kind == FlowKind::SignIn { SIGN_IN_LIFE } else { ENROLL_LIFE };
        let row = FlowRow {
            id,
            secret_hash: sha256(id.as_bytes()),
            browser_hash: browser.0,
            user: user.id,
            version: 0,
            state: state.encode(),
            created_at: visit.now,
            expires_at: visit.now.plus(life),
        };
        let held = tx.hold(user.id, user.epoch).await?;
        tx.insert_flow(held, &row).await?;
        Ok(Flow { id, user, state, expires_at: row.expires_at, version: 0, browser })
    }

    /// A flow by the id that its pages and forms carry. The id is no secret: only its own browser
    /// gets to it, and only while its person may sign in (S-LOGIN-6).
    pub async fn flow(&self, visit: &Visit<'_>, browser: Browser, id: &str) -> Result<Flow, AuthError> {
        let id: FlowId = id.parse().map_err(|_| AuthError::FlowGone)?;
        let row = self.store.flow(id, visit.now).await?.ok_or(AuthError::FlowGone)?;
        if !ct_eq(&row.browser_hash, &browser.0) || row.expires_at <= visit.now {
            return Err(AuthError::FlowGone);
        }
        let state: FlowState = serde_json::from_str(&row.state).map_err(|_| AuthError::FlowGone)?;
        let user = self.store.user_by_id(row.user).await?.ok_or(AuthError::FlowGone)?;
        if user.status != UserStatus::Active {
            return Err(AuthError::FlowGone);
        }
        Ok(Flow { id, user, state, expires_at: row.expires_at, version: row.version, browser })
    }
}
