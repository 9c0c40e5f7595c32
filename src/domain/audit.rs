//! What happened, who did it, with which outcome. Holds no secret by construction: there is no
//! field that could take one (S-LOG-1).

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;
use crate::base::ids::{RequestId, SessionId, UserId};
use crate::base::unseen::is_unseen;

/// Who acted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// A known account.
    User { id: UserId, name: String },
    /// A name that matches no account, as a keyed hash only: people type passwords there (S-LOG-2).
    UnknownUser { name_hash: String },
    /// The command line on the gate's machine, with the operating system's account.
    Operator { account: String },
    /// The gate itself: expiry, reload, housekeeping.
    System,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Success,
    Failure,
    Refused,
}

impl Outcome {
    /// The name in the trail, as serde writes it.
    #[must_use]
    pub fn name(self) -> String {
        name(&self)
    }
}

/// What happened. The text form stands in the trail and in exports: never rename one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    PasswordVerify,
    FactorVerify,
    SignIn,
    StepUp,
    SignOut,
    SessionEnd,
    Handover,
    LinkCreate,
    LinkUse,
    /// Somebody was asked to set up a second factor.
    EnrollRemind,
    /// Let in without a second factor, within the grace of a level.
    EnrollPutOff,
    /// A browser is asked for no second factor for a while.
    DeviceRemember,
    DeviceForget,
    /// A copy of what a remembered browser holds was used.
    DeviceCopied,
    FactorEnroll,
    FactorRemove,
    FactorReset,
    FactorDisable,
    BackupCodesCreate,
    PasswordChange,
    /// The hash of an imported password became one of ours.
    PasswordRehash,
    /// An authenticator that somebody had elsewhere goes on here: no news to them.
    FactorImport,
    UserAdd,
    UserChange,
    UserDisable,
    UserEnable,
    UserUnpause,
    UserRemove,
    AccessDeny,
    Reload,
    PolicyApply,
    PolicyConfirm,
    PolicyRevert,
    PolicyRollback,
    KeysCreate,
    /// A one-time code went out, or was not sent for there were too many.
    CodeSend,
    PostureSet,
    /// A mail that was never taken by the relay.
    MailGiveUp,
    /// A person said that something was not them.
    IncidentOpen,
    IncidentClose,
    Start,
    Stop,
}

impl Action {
    /// The name in the trail, as serde writes it.
    #[must_use]
    pub fn name(self) -> String {
        name(&self)
    }
}

/// What was new about a sign-in to the account that it was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unfamiliar {
    /// This browser never signed in to it.
    Device,
    /// The browser did, and nobody from this network.
    Place,
}

fn name<T: Serialize>(word: &T) -> String {
    serde_json::to_value(word).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The reason of an event that its person is told of (`domain::notice`).
pub const KEY_COPIED: &str = "The counter of the key went back: it may have been copied.";

/// One row of the trail. Optional fields are absent where they mean nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    pub at: Timestamp,
    pub actor: Actor,
    pub action: Action,
    pub outcome: Outcome,
    /// A complete sentence for an auditor, from a fixed set: never text of a client.
    pub reason: String,
    /// What the rule of the file had to say to the person, as it was then; or what an operator gave as a reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// As it was judged, without its query (S-LOG-1); at most 256 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Whom it was done to, where that is not the actor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<UserId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_name: Option<String>,
    /// Factor kind or credential label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// At most 256 characters, control bytes escaped (S-LOG-3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfamiliar: Option<Unfamiliar>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestId>,
}

/// Where an act came from: the same on every event of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub address: Option<String>,
    pub user_agent: Option<String>,
    pub request: Option<RequestId>,
}

impl AuditEvent {
    #[must_use]
    pub fn new(at: Timestamp, actor: Actor, action: Action, outcome: Outcome, reason: &str) -> Self {
        Self {
            at,
            actor,
            action,
            outcome,
            reason: reason.to_owned(),
            told: None,
            method: None,
            path: None,
            subject: None,
            subject_name: None,
            factor: None,
            app: None,
            rule: None,
            address: None,
            user_agent: None,
            unfamiliar: None,
            session: None,
            request: None,
        }
    }

    #[must_use]
    pub fn from_origin(mut self, origin: &Origin) -> Self {
        self.address.clone_from(&origin.address);
        self.user_agent = origin.user_agent.as_deref().map(printable);
        self.request = origin.request;
        self
    }

    #[must_use]
    pub fn about(mut self, user: UserId, name: &str) -> Self {
        self.subject = Some(user);
        self.subject_name = Some(name.to_owned());
        self
    }

    #[must_use]
    pub fn with_factor(mut self, factor: &str) -> Self {
        self.factor = Some(factor.to_owned());
        self
    }

    #[must_use]
    pub fn with_session(mut self, session: SessionId) -> Self {
        self.session = Some(session);
        self
    }

    /// What was asked for, and what the rule says to whoever must not have it.
    #[must_use]
    pub fn with_request(mut self, method: &str, path: &str, told: Option<&str>) -> Self {
        self.method = Some(printable(method));
        self.path = Some(printable(path));
        self.told = told.map(printable);
        self
    }

    /// What an operator said of it.
    #[must_use]
    pub fn with_words(mut self, words: &str) -> Self {
        self.told = Some(printable(words));
        self
    }

    #[must_use]
    pub fn with_rule(mut self, app: &str, rule: &str) -> Self {
        self.app = Some(app.to_owned());
        self.rule = Some(rule.to_owned());
        self
    }
}

/// A reference as somebody reads it out: the id of a request, or how it begins, in either case and with its
/// dashes or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference(String);

impl Reference {
    const DIGITS: usize = 32;
    /// The first group. Fewer would be those of hours: an id begins with the time.
    const LEAST: usize = 8;

    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0.len() == Self::DIGITS + 4
    }

    /// As the id is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<RequestId> for Reference {
    fn from(id: RequestId) -> Self {
        Self(id.to_string())
    }
}

impl FromStr for Reference {
    type Err = NoReference;

    fn from_str(text: &str) -> Result<Self, NoReference> {
        let mut written = String::with_capacity(Self::DIGITS + 4);
        let mut digits = 0;
        for c in text.trim().chars().filter(|c| *c != '-') {
            if !c.is_ascii_hexdigit() || digits == Self::DIGITS {
                return Err(NoReference);
            }
            if matches!(digits, 8 | 12 | 16 | 20) {
                written.push('-');
            }
            written.push(c.to_ascii_lowercase());
            digits += 1;
        }
        if digits < Self::LEAST { Err(NoReference) } else { Ok(Self(written)) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a reference looks like 019aa2f4-6b1c-7c3e-9d2a-5f0b8c7d6e5f, as the page shows it; 8 digits of it at least")]
pub struct NoReference;

/// Text from outside made harmless for logs and terminals: what nobody sees is escaped, and it is cut at 256
/// characters (S-LOG-3).
#[must_use]
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(256));
    for c in text.chars().take(256) {
        if is_unseen(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}
