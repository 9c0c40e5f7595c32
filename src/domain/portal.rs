//! Every page and endpoint of ours, as an enum: links are built from it, requests are read into it.

use super::factor::FactorKind;

/// Nothing under this prefix ever reaches an app.
pub const PREFIX: &str = "/.stepgate/";

/// A page or endpoint of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortalRoute {
    /// `/` on the portal host.
    Root,
    Login,
    /// The list of ways to confirm.
    LoginChoose,
    LoginFactor(FactorKind),
    /// A sign-in with a passkey alone, without a name.
    LoginPasskey,
    StepUp,
    StepUpFactor(FactorKind),
    /// More time for a kept form, or its end.
    StepUpKeep,
    /// On the app's host: sends a kept form on.
    KeptForm,
    Handover,
    /// A one-time link: sign-up or access pass; the code stands in the form, not in a log.
    EnrollLink,
    EnrollPassword,
    EnrollTotp,
    EnrollHotp,
    EnrollSms,
    EnrollKey,
    EnrollBackupCodes,
    EnrollBackupCodesFile,
    /// Time is left to set up a second factor: go on without.
    EnrollLater,
    /// The link of a notice: it was not me.
    NotMe,
    Account,
    AccountPassword,
    AccountSessions,
    AccountFactors,
    AccountRemembered,
    Logout,
    LogoutEverywhere,
    SignedOut,
    /// Whether it is still the same person, for the script of pages that stay open.
    Person,
    Jwks,
    Static(String),
}

/// Where a page of ours may be served (S-LOGIN-9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Realm {
    /// The portal host, or the app's host where there is no portal.
    Portal,
    /// App hosts as well: hand-over, kept form and sign-out, to top-level navigations alone.
    AnyNavigation,
    /// App hosts as well, to scripts of the host itself: tells them apart, and not who they are.
    OwnScript,
    /// Holds nothing of anyone: JWKS and static files.
    Anyone,
}

impl PortalRoute {
    /// Reads a path that starts with [`PREFIX`] (or is `/` on the portal host).
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        if path == "/" {
            return Some(Self::Root);
        }
        let rest = path.strip_prefix(PREFIX)?;
        Some(match rest {
            "login" => Self::Login,
            "login/choose" => Self::LoginChoose,
            "login/passkey" => Self::LoginPasskey,
            "step-up" => Self::StepUp,
            "step-up/keep" => Self::StepUpKeep,
            "form" => Self::KeptForm,
            "handover" => Self::Handover,
            "enroll" => Self::EnrollLink,
            "enroll/password" => Self::EnrollPassword,
            "enroll/totp" => Self::EnrollTotp,
            "enroll/hotp" => Self::EnrollHotp,
            "enroll/sms" => Self::EnrollSms,
            "enroll/webauthn" => Self::EnrollKey,
            "enroll/backup-codes" => Self::EnrollBackupCodes,
            "enroll/backup-codes/file" => Self::EnrollBackupCodesFile,
            "enroll/later" => Self::EnrollLater,
            "not-me" => Self::NotMe,
            "account" => Self::Account,
            "account/password" => Self::AccountPassword,
            "account/sessions" => Self::AccountSessions,
            "account/factors" => Self::AccountFactors,
            "account/remembered" => Self::AccountRemembered,
            "logout" => Self::Logout,
            "logout/everywhere" => Self::LogoutEverywhere,
            "signed-out" => Self::SignedOut,
            "person" => Self::Person,
            "jwks.json" => Self::Jwks,
            other => {
                if let Some(name) = other.strip_prefix("static/") {
                    return Some(Self::Static(name.to_owned()));
                }
                let factor = |name: &str| FactorKind::ALL.into_iter().find(|k| k.url_name() == name);
                if let Some(name) = other.strip_prefix("login/") {
                    return factor(name).map(Self::LoginFactor);
                }
                let name = other.strip_prefix("step-up/")?;
                return factor(name).map(Self::StepUpFactor);
            }
        })
    }

    /// The path of this page, for links and form actions.
    #[must_use]
    pub fn path(&self) -> String {
        let rest = match self {
            Self::Root => return "/".to_owned(),
            Self::Login => "login",
            Self::LoginChoose => "login/choose",
            Self::LoginPasskey => "login/passkey",
            Self::LoginFactor(kind) => return format!("{PREFIX}login/{}", kind.url_name()),
            Self::StepUp => "step-up",
            Self::StepUpFactor(kind) => return format!("{PREFIX}step-up/{}", kind.url_name()),
            Self::StepUpKeep => "step-up/keep",
            Self::KeptForm => "form",
            Self::Handover => "handover",
            Self::EnrollLink => "enroll",
            Self::EnrollPassword => "enroll/password",
            Self::EnrollTotp => "enroll/totp",
            Self::EnrollHotp => "enroll/hotp",
            Self::EnrollSms => "enroll/sms",
            Self::EnrollKey => "enroll/webauthn",
            Self::EnrollBackupCodes => "enroll/backup-codes",
            Self::EnrollBackupCodesFile => "enroll/backup-codes/file",
            Self::EnrollLater => "enroll/later",
            Self::NotMe => "not-me",
            Self::Account => "account",
            Self::AccountPassword => "account/password",
            Self::AccountSessions => "account/sessions",
            Self::AccountFactors => "account/factors",
            Self::AccountRemembered => "account/remembered",
            Self::Logout => "logout",
            Self::LogoutEverywhere => "logout/everywhere",
            Self::SignedOut => "signed-out",
            Self::Person => "person",
            Self::Jwks => "jwks.json",
            Self::Static(name) => return format!("{PREFIX}static/{name}"),
        };
        format!("{PREFIX}{rest}")
    }

    #[must_use]
    pub fn realm(&self) -> Realm {
        match self {
            Self::Jwks | Self::Static(_) => Realm::Anyone,
            Self::Person => Realm::OwnScript,
            Self::Handover | Self::KeptForm | Self::Logout | Self::SignedOut => Realm::AnyNavigation,
            Self::Root
            | Self::Login
            | Self::LoginChoose
            | Self::LoginFactor(_)
            | Self::LoginPasskey
            | Self::StepUp
            | Self::StepUpFactor(_)
            | Self::StepUpKeep
            | Self::EnrollLink
            | Self::EnrollPassword
            | Self::EnrollTotp
            | Self::EnrollHotp
            | Self::EnrollSms
            | Self::EnrollKey
            | Self::EnrollBackupCodes
            | Self::EnrollBackupCodesFile
            | Self::EnrollLater
            | Self::NotMe
            | Self::Account
            | Self::AccountPassword
            | Self::AccountSessions
            | Self::AccountFactors
            | Self::AccountRemembered
            | Self::LogoutEverywhere => Realm::Portal,
        }
    }
}
