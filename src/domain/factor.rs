//! What kinds of evidence there are, and what each is worth.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::clock::Timestamp;
use crate::base::ids::CredentialId;

/// A kind of authenticator, by its name in the policy language (DESIGN section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactorKind {
    Password,
    Totp,
    Hotp,
    Webauthn,
    Push,
    Email,
    Sms,
    BackupCodes,
    ClientCertificate,
}

/// What `factors: n` counts: distinct types, never authenticators (S-FAC-1, PCI 8.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FactorType {
    Knows,
    Has,
    /// Known or inherent to the person and checked by the authenticator itself ("is"): what
    /// WebAuthn user verification adds. It may be a PIN, so it never stands beside `Knows` as a third.
    Is,
}

impl FactorKind {
    pub const ALL: [Self; 9] = [
        Self::Password,
        Self::Totp,
        Self::Hotp,
        Self::Webauthn,
        Self::Push,
        Self::Email,
        Self::Sms,
        Self::BackupCodes,
        Self::ClientCertificate,
    ];

    /// Whether somebody can really show it to this version; the policy language knows more.
    #[must_use]
    pub fn is_available(self) -> bool {
        matches!(
            self,
            Self::Password | Self::Totp | Self::Hotp | Self::Webauthn | Self::Email | Self::Sms | Self::BackupCodes
        )
    }

    /// Whether its codes are sent, by a press.
    #[must_use]
    pub fn is_sent(self) -> bool {
        matches!(self, Self::Email | Self::Sms)
    }

    /// The name in `factors:` and `kinds:`, and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Totp => "totp",
            Self::Hotp => "hotp",
            Self::Webauthn => "webauthn",
            Self::Push => "push",
            Self::Email => "email",
            Self::Sms => "sms",
            Self::BackupCodes => "backup_codes",
            Self::ClientCertificate => "client_certificate",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The name in URLs: `-` for `_`.
    #[must_use]
    pub fn url_name(self) -> &'static str {
        match self {
            Self::BackupCodes => "backup-codes",
            Self::ClientCertificate => "client-certificate",
            other => other.as_str(),
        }
    }

    /// The `amr` value of RFC 8176 (`kba`-like values are avoided: a backup code is an `otp`).
    #[must_use]
    pub fn amr(self) -> &'static str {
        match self {
            Self::Password => "pwd",
            Self::Totp | Self::Hotp | Self::Email | Self::BackupCodes => "otp",
            Self::Webauthn => "hwk",
            Self::Push => "swk",
            Self::Sms => "sms",
            Self::ClientCertificate => "sc",
        }
    }

    #[must_use]
    pub fn factor_type(self) -> FactorType {
        match self {
            Self::Password => FactorType::Knows,
            Self::Totp
            | Self::Hotp
            | Self::Webauthn
            | Self::Push
            | Self::Email
            | Self::Sms
            | Self::BackupCodes
            | Self::ClientCertificate => FactorType::Has,
        }
    }

    /// Counts towards `factors` only where a level's `kinds` names it (S-OOB-1: NIST 63B section
    /// 3.1.3.1 does not accept e-mail).
    #[must_use]
    pub fn counts_only_when_named(self) -> bool {
        matches!(self, Self::Email)
    }
}

impl fmt::Display for FactorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One success of one factor: evidence. It is stored; what it is worth is computed anew each time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactorUse {
    pub kind: FactorKind,
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub phishing_resistant: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub user_verified: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialId>,
    /// It was shown in an earlier session of this browser, which was remembered then: counts where a level says for
    /// how long, and nowhere else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub remembered: bool,
}
