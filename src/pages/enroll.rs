//! What do the pages of an enrollment show? The link, the password, the app, the backup codes.

use serde::{Serialize, Serializer};

use super::layout::{Destination, Hidden};
use super::samples;
use super::sign_in::CodeProblem;
use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::crypto::PasswordRule;

/// What a one-time link opens. Opening it by GET uses nothing up, because mail scanners and
/// previews open links too (S-OOB-2); the button does. Posts `link`.
#[derive(Clone, Debug, Serialize)]
pub struct EnrollLink {
    pub hidden: Hidden,
    /// The link's own code.
    #[serde(serialize_with = "exposed")]
    pub link: Secret<String>,
    pub user: String,
    /// An access pass (the account had a way before) rather than a sign-up.
    pub access_pass: bool,
}

/// A first password, or one after a reset. Posts `password`.
#[derive(Clone, Debug, Serialize)]
pub struct SetPassword {
    pub hidden: Hidden,
    pub user: String,
    pub step: Option<Step>,
    pub min: usize,
    pub problem: Option<NewPasswordProblem>,
}

/// Another password, from the account page. Posts `old`, `new`, `end_others`.
#[derive(Clone, Debug, Serialize)]
pub struct NewPassword {
    pub hidden: Hidden,
    pub user: String,
    pub min: usize,
    /// Other devices that are signed in.
    pub others: u32,
    pub problem: Option<NewPasswordProblem>,
}

/// E12, and what else may be wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NewPasswordProblem {
    OldWrong,
    TooShort { min: usize },
    TooLong,
    TooCommon,
    OwnWord,
    Throttled { until: Timestamp },
}

impl From<PasswordRule> for NewPasswordProblem {
    fn from(rule: PasswordRule) -> Self {
        match rule {
            PasswordRule::TooShort { min } => Self::TooShort { min },
            PasswordRule::TooLong => Self::TooLong,
            PasswordRule::TooCommon => Self::TooCommon,
            PasswordRule::OwnWord => Self::OwnWord,
        }
    }
}

/// Where in a row of pages this one stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    pub this: u8,
    pub of: u8,
}

/// An authenticator app is set up; nothing counts until a code is right. Posts `code`, `name`.
#[derive(Clone, Debug, Serialize)]
pub struct EnrollTotp {
    /// Its codes come by counting, not by the clock (HOTP).
    pub counts: bool,
    pub hidden: Hidden,
    pub user: String,
    pub step: Option<Step>,
    /// `otpauth://totp/…`, for the picture and the button on a phone.
    #[serde(serialize_with = "exposed")]
    pub uri: Secret<String>,
    /// The key in base32, for typing.
    #[serde(serialize_with = "exposed")]
    pub key: Secret<String>,
    /// A name for the device: what was typed before, or a proposal.
    pub name: String,
    pub problem: Option<CodeProblem>,
    /// Until when this key may be used.
    pub until: Timestamp,
    /// A security key would do as well; leads there.
    pub key_instead: bool,
    /// It need not be now. Posts `flow`, to `enroll/later`.
    pub later: Option<Later>,
}

/// Until when somebody may go on without a second factor.
#[derive(Clone, Debug, Serialize)]
pub struct Later {
    pub until: Timestamp,
    /// Days that are left; the last one is 1.
    pub days: u64,
    pub app: Option<Destination>,
}

/// A second factor is to be set up, and there is time. Posts `rd`.
#[derive(Clone, Debug, Serialize)]
pub struct EnrollLater {
    pub hidden: Hidden,
    pub user: String,
    pub later: Later,
}

/// A number that codes go to; a first code proves it. Posts `number`, then `code`, or `send` for another code.
#[derive(Clone, Debug, Serialize)]
pub struct EnrollSms {
    pub hidden: Hidden,
    pub user: String,
    /// How the numbers begin that messages go to.
    pub prefixes: Vec<String>,
    /// What was typed before, kept over a failed try.
    pub typed: String,
    /// Set once a code is on its way.
    pub sent: Option<NumberSent>,
    pub problem: Option<NumberProblem>,
}

#[derive(Clone, Debug, Serialize)]
pub struct NumberSent {
    /// Masked.
    pub number: String,
    /// Until when the code works.
    pub until: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NumberProblem {
    NoCountry,
    NoNumber,
    /// Messages go to other countries.
    Country,
    SendPause {
        until: Timestamp,
    },
    Wrong,
    Gone,
    Throttled {
        until: Timestamp,
    },
}

/// Backup codes: shown once, kept by the person.
#[derive(Clone, Debug, Serialize)]
pub struct BackupCodes {
    pub hidden: Hidden,
    pub user: String,
    pub step: Option<Step>,
    pub state: BackupState,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BackupState {
    /// Just made. Posts `saved=1`.
    Fresh {
        #[serde(serialize_with = "all_exposed")]
        codes: Vec<Secret<String>>,
        made_at: Timestamp,
        /// Where one signs in with them; stands on the printed sheet.
        host: String,
        /// Where the way leads next; the account without one.
        next: Option<Destination>,
        /// The box was not ticked.
        not_ticked: bool,
    },
    /// They were shown and will not be again. Posts `make=1`.
    Seen,
    /// There never were any. Posts `make=1`.
    First,
    /// New ones would end the old ones, so we ask first. Posts `make=1`.
    Replace { left: u32, made: u32 },
}

fn exposed<S: Serializer>(secret: &Secret<String>, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(secret.expose())
}

fn all_exposed<S: Serializer>(secrets: &[Secret<String>], out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(secrets.iter().map(|s| s.expose().as_str()))
}

impl EnrollLink {
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        let plain = |access_pass| Self {
            hidden: Hidden { flow: None, rd: None, ..samples::hidden() },
            link: "sample-link".to_owned().into(),
            user: "ann".to_owned(),
            access_pass,
        };
        vec![("sign-up", plain(false)), ("access-pass", plain(true))]
    }
}

impl SetPassword {
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        let plain = || Self {
            hidden: samples::hidden(),
            user: "ann".to_owned(),
            step: Some(Step { this: 1, of: 3 }),
            min: 8,
            problem: None,
        };
        vec![
            ("plain", plain()),
            ("short", Self { problem: Some(NewPasswordProblem::TooShort { min: 8 }), step: None, ..plain() }),
        ]
    }
}

impl NewPassword {
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        let plain = || Self {
            hidden: Hidden { flow: None, rd: None, ..samples::hidden() },
            user: "ann".to_owned(),
            min: 8,
            others: 2,
            problem: None,
        };
        let bad = |problem| Self { problem: Some(problem), ..plain() };
        vec![
            ("plain", plain()),
            ("one-other", Self { others: 1, ..plain() }),
            ("no-others", Self { others: 0, ..plain() }),
            ("old-wrong", bad(NewPasswordProblem::OldWrong)),
            ("too-short", Self { min: 12, ..bad(NewPasswordProblem::TooShort { min: 12 }) }),
            ("too-long", bad(NewPasswordProblem::TooLong)),
            ("too-common", bad(NewPasswordProblem::TooCommon)),
            ("own-word", bad(NewPasswordProblem::OwnWord)),
            ("throttled", bad(NewPasswordProblem::Throttled { until: samples::later(5) })),
        ]
    }
}

impl EnrollTotp {
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        let key = "MZXW6YTBOI2DKNRXHA4SAZ3BORSXG5DF";
        let plain = || Self {
            counts: false,
            hidden: samples::hidden(),
            user: "ann".to_owned(),
            step: Some(Step { this: 1, of: 2 }),
            uri: format!("otpauth://totp/Example%20Corp:ann?secret={key}&issuer=Example%20Corp").into(),
            key: key.to_owned().into(),
            name: "My phone".to_owned(),
            problem: None,
            until: samples::later(10),
            key_instead: true,
            later: None,
        };
        let later = Later { until: samples::later(12 * 24 * 60), days: 12, app: Some(samples::payroll()) };
        vec![
            ("plain", plain()),
            ("wrong", Self { problem: Some(CodeProblem::Wrong), step: None, key_instead: false, ..plain() }),
            (
                "counts",
                Self {
                    counts: true,
                    uri: format!("otpauth://hotp/Example%20Corp:ann?secret={key}&counter=0&issuer=Example%20Corp")
                        .into(),
                    name: "My code generator".to_owned(),
                    step: None,
                    key_instead: false,
                    ..plain()
                },
            ),
            (
                "counts-wrong",
                Self { counts: true, problem: Some(CodeProblem::Wrong), step: None, key_instead: false, ..plain() },
            ),
            ("later", Self { later: Some(later), ..plain() }),
            ("clock", Self { problem: Some(CodeProblem::Clock { fast: false, minutes: 0, seconds: 55 }), ..plain() }),
            ("throttled", Self { problem: Some(CodeProblem::Throttled { until: samples::later(15) }), ..plain() }),
        ]
    }
}

impl EnrollSms {
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        let plain = || Self {
            hidden: Hidden { rd: None, ..samples::hidden() },
            user: "ann".to_owned(),
            prefixes: vec!["+33".to_owned(), "+49".to_owned()],
            typed: String::new(),
            sent: None,
            problem: None,
        };
        let sent =
            || Self { sent: Some(NumberSent { number: "+49…89".to_owned(), until: samples::later(5) }), ..plain() };
        let bad = |problem| Self { typed: "0151 23456789".to_owned(), problem: Some(problem), ..plain() };
        let wrong = |problem| Self { problem: Some(problem), ..sent() };
        vec![
            ("plain", plain()),
            ("no-country", bad(NumberProblem::NoCountry)),
            ("no-number", bad(NumberProblem::NoNumber)),
            ("country", bad(NumberProblem::Country)),
            ("sent", sent()),
            ("pause", wrong(NumberProblem::SendPause { until: samples::later(1) })),
            ("wrong", wrong(NumberProblem::Wrong)),
            ("gone", Self { problem: Some(NumberProblem::Gone), ..plain() }),
            ("throttled", wrong(NumberProblem::Throttled { until: samples::later(15) })),
        ]
    }
}

impl EnrollLater {
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        let page = |days: u64, app| Self {
            hidden: Hidden { flow: None, ..samples::hidden() },
            user: "ann".to_owned(),
            later: Later { until: samples::later(days * 24 * 60), days, app },
        };
        vec![("days", page(12, Some(samples::payroll()))), ("last-day", page(1, None))]
    }
}

impl BackupCodes {
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        let codes = [
            "hvue-n8ws-xvcw-a85s",
            "juhg-zsu5-uspx-6ehx",
            "e68t-p2ay-3cf3-9vbk",
            "3a56-jsw2-87pz-48qp",
            "24vr-98e7-ndbe-sgj9",
            "yq3x-6kqt-5pvn-uvqv",
            "h7my-88a6-jwyz-fz6m",
            "9u7v-vdzx-gx5v-jkdc",
            "s6xs-cn4c-q7ea-kq3q",
            "6dbw-w3bp-zvmu-78jt",
        ];
        let page = |state| Self {
            hidden: samples::hidden(),
            user: "ann".to_owned(),
            step: Some(Step { this: 2, of: 2 }),
            state,
        };
        let fresh = |next, not_ticked| BackupState::Fresh {
            codes: codes.iter().map(|c| Secret::new((*c).to_owned())).collect(),
            made_at: samples::earlier(0),
            host: "login.corp.example".to_owned(),
            next,
            not_ticked,
        };
        vec![
            ("fresh", page(fresh(Some(samples::payroll()), false))),
            ("not-ticked", Self { step: None, ..page(fresh(None, true)) }),
            ("seen", page(BackupState::Seen)),
            ("first", Self { step: None, ..page(BackupState::First) }),
            ("replace", Self { step: None, ..page(BackupState::Replace { left: 2, made: 10 }) }),
            ("all-used", Self { step: None, ..page(BackupState::Replace { left: 0, made: 10 }) }),
        ]
    }
}
