//! What of all that happens to an account is its person told of (S-LOGIN-13)?
//!
//! Read off the trail's own events: what changes an account has an event, so no change can forget
//! to tell its person.

use super::audit::{Action, AuditEvent, KEY_COPIED, Outcome, Unfamiliar};
use super::factor::FactorKind;

/// What a notice is about. The names stand in the store: never rename one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoticeKind {
    NewDevice,
    NewPlace,
    /// The password was right, and codes after it were not.
    WrongCodes,
    /// There may be two of a security key.
    KeyCopied,
    BackupCodeUsed,
    FactorAdded,
    FactorRemoved,
    /// Too many failures in a row ended it.
    FactorEnded,
    FactorsReset,
    CodesMade,
    PasswordChanged,
    /// A link that sets up a way to sign in.
    LinkMade,
    LinkUsed,
    /// A second factor is still to be set up.
    EnrollReminder,
    /// A browser is asked for no second factor for a while.
    DeviceRemembered,
    /// What such a browser held was used twice.
    DeviceCopied,
    /// Goes to the old address.
    EmailChanged,
}

impl NoticeKind {
    pub const ALL: [Self; 17] = [
        Self::NewDevice,
        Self::NewPlace,
        Self::WrongCodes,
        Self::KeyCopied,
        Self::BackupCodeUsed,
        Self::FactorAdded,
        Self::FactorRemoved,
        Self::FactorEnded,
        Self::FactorsReset,
        Self::CodesMade,
        Self::PasswordChanged,
        Self::LinkMade,
        Self::LinkUsed,
        Self::EnrollReminder,
        Self::DeviceRemembered,
        Self::DeviceCopied,
        Self::EmailChanged,
    ];

    /// What this event means to the person of the account; `None` for what is no news. A wrong code is
    /// news only from the third on, and a copied key once an hour, which the store knows; that the e-mail address was among the changes
    /// of an account, it knows too.
    #[must_use]
    pub fn of(event: &AuditEvent) -> Option<Self> {
        let backup_code = event.factor.as_deref() == Some(FactorKind::BackupCodes.as_str());
        match (event.action, event.outcome) {
            (Action::SignIn, Outcome::Success) => match event.unfamiliar? {
                Unfamiliar::Device => Some(Self::NewDevice),
                Unfamiliar::Place => Some(Self::NewPlace),
            },
            (Action::FactorVerify, Outcome::Failure) => Some(Self::WrongCodes),
            (Action::FactorVerify, Outcome::Refused) => (event.reason == KEY_COPIED).then_some(Self::KeyCopied),
            (Action::FactorVerify, Outcome::Success) => backup_code.then_some(Self::BackupCodeUsed),
            (Action::FactorEnroll, Outcome::Success) => Some(Self::FactorAdded),
            (Action::FactorRemove, Outcome::Success) => Some(Self::FactorRemoved),
            (Action::FactorDisable, Outcome::Success) => Some(Self::FactorEnded),
            (Action::FactorReset, Outcome::Success) => Some(Self::FactorsReset),
            (Action::BackupCodesCreate, Outcome::Success) => Some(Self::CodesMade),
            (Action::PasswordChange, Outcome::Success) => Some(Self::PasswordChanged),
            (Action::LinkCreate, Outcome::Success) => Some(Self::LinkMade),
            (Action::LinkUse, Outcome::Success) => Some(Self::LinkUsed),
            (Action::EnrollRemind, Outcome::Success) => Some(Self::EnrollReminder),
            (Action::DeviceRemember, Outcome::Success) => Some(Self::DeviceRemembered),
            (Action::DeviceCopied, Outcome::Refused) => Some(Self::DeviceCopied),
            (Action::UserChange, Outcome::Success) => Some(Self::EmailChanged),
            (
                Action::PasswordVerify
                | Action::SignIn
                | Action::StepUp
                | Action::SignOut
                | Action::SessionEnd
                | Action::Handover
                | Action::LinkCreate
                | Action::LinkUse
                | Action::EnrollRemind
                | Action::EnrollPutOff
                | Action::DeviceRemember
                | Action::DeviceForget
                | Action::DeviceCopied
                | Action::FactorEnroll
                | Action::FactorRemove
                | Action::FactorReset
                | Action::FactorDisable
                | Action::BackupCodesCreate
                | Action::PasswordChange
                | Action::PasswordRehash
                | Action::FactorImport
                | Action::UserAdd
                | Action::UserChange
                | Action::UserDisable
                | Action::UserEnable
                | Action::UserRemove
                | Action::UserUnpause
                | Action::AccessDeny
                | Action::Reload
                | Action::KeysCreate
                | Action::PostureSet
                | Action::PolicyApply
                | Action::PolicyConfirm
                | Action::PolicyRevert
                | Action::PolicyRollback
                | Action::CodeSend
                | Action::MailGiveUp
                | Action::IncidentOpen
                | Action::IncidentClose
                | Action::Start
                | Action::Stop,
                Outcome::Success | Outcome::Failure | Outcome::Refused,
            ) => None,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NewDevice => "new_device",
            Self::NewPlace => "new_place",
            Self::WrongCodes => "wrong_codes",
            Self::KeyCopied => "key_copied",
            Self::BackupCodeUsed => "backup_code_used",
            Self::FactorAdded => "factor_added",
            Self::FactorRemoved => "factor_removed",
            Self::FactorEnded => "factor_ended",
            Self::FactorsReset => "factors_reset",
            Self::CodesMade => "codes_made",
            Self::PasswordChanged => "password_changed",
            Self::LinkMade => "link_made",
            Self::LinkUsed => "link_used",
            Self::EnrollReminder => "enroll_reminder",
            Self::DeviceRemembered => "device_remembered",
            Self::DeviceCopied => "device_copied",
            Self::EmailChanged => "email_changed",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}
