//! What do the pages of a sign-in and a step-up show? Name and password, then one more proof.

use serde::Serialize;

use super::key::{KeyAsk, KeyProblem, KeyQuestion};
use super::layout::{Destination, Hidden};
use super::samples;
use crate::base::clock::Timestamp;
use crate::domain::factor::FactorKind;
use crate::domain::level::Unfit;

/// Name and password, in one form (pages/README 1.3). Posts `username`, `password`.
#[derive(Clone, Debug, Serialize)]
pub struct SignIn {
    pub hidden: Hidden,
    pub app: Option<Destination>,
    /// What was typed before, kept over a failed try.
    pub username: String,
    pub notice: Option<SignInNotice>,
    pub form: Option<FormNote>,
    /// A passkey may sign in without a name; needs the script.
    pub passkey: Option<KeyQuestion>,
    pub problem: Option<SignInProblem>,
}

/// What became of the form that was on its way to the app (pages/README 1.8).
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FormNote {
    Kept {
        until: Timestamp,
    },
    Lost,
    TooLarge {
        limit: String,
    },
    NoRoom,
    /// E11.
    Lapsed {
        until: Timestamp,
    },
    Sent {
        at: Timestamp,
    },
}

impl FormNote {
    /// `limit` in bytes; people read kB.
    #[must_use]
    pub fn too_large(limit: usize) -> Self {
        let limit = match limit {
            0..1024 => format!("{limit} B"),
            1024..1_048_576 => format!("{} kB", limit / 1024),
            _ => format!("{} MB", limit / 1_048_576),
        };
        Self::TooLarge { limit }
    }
}

/// A sentence above the form.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SignInNotice {
    /// The session ended because nobody was there.
    Idle { minutes: u64 },
    /// The session ended for another reason: its greatest age, an admin, another device.
    Ended,
    /// The attempt was older than ten minutes, or its step was done already.
    StartOver,
    /// A new password is in force.
    PasswordSet,
    /// A new way to sign in was set up behind an access pass; now it is used.
    Enrolled,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SignInProblem {
    /// E1, for every cause alike (S-LOGIN-1).
    Mismatch,
    /// E2.
    Throttled { until: Timestamp },
    /// The passkey did not do.
    Key { why: KeyProblem },
}

/// One code, after a right password. Posts `code`.
#[derive(Clone, Debug, Serialize)]
pub struct Code {
    pub hidden: Hidden,
    pub app: Option<Destination>,
    pub user: String,
    pub ask: CodeAsk,
    /// Days for which this browser may be remembered. Posts `remember=1`.
    pub remember: Option<u64>,
    pub form: Option<FormNote>,
    pub problem: Option<CodeProblem>,
}

/// Which code, from where.
#[derive(Clone, Debug, Serialize)]
pub struct CodeAsk {
    /// Any that is typed.
    pub kind: FactorKind,
    /// The person's own name for the device.
    pub device: Option<String>,
    /// What the authenticator app calls the entry, for instance `Example Corp (ann)`.
    pub entry: Option<String>,
    /// Backup codes left and made.
    pub left: Option<(u32, u32)>,
    /// More ways than this one: shows the link to the list.
    pub others: bool,
    /// Shown once a try failed.
    pub tries_left: Option<u32>,
    /// Of a code that is sent. Posts `send` for one; the field for it is there once one is on its way.
    pub sending: Option<Sending>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sending {
    /// Until when the code works that was sent; `None` before one was.
    pub until: Option<Timestamp>,
}

/// E2 to E6; only after a right password.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CodeProblem {
    Wrong,
    /// The phone's clock is off; the code was right for then.
    Clock {
        fast: bool,
        minutes: u64,
        seconds: u64,
    },
    /// This code did its work already; the next one comes in so many seconds.
    Used {
        next_in: u64,
    },
    OtherEntry {
        other: String,
    },
    Throttled {
        until: Timestamp,
    },
    /// The code that was sent works no more.
    Gone,
    /// Another one is not sent before then.
    SendPause {
        until: Timestamp,
    },
}

/// The ways this person has set up, last used first. Posts `factor`: a name of [`FactorKind`].
#[derive(Clone, Debug, Serialize)]
pub struct Choose {
    pub hidden: Hidden,
    pub app: Option<Destination>,
    pub user: String,
    pub ways: Vec<Way>,
}

/// One way to confirm. Those that cannot be used now stay listed, with the reason.
#[derive(Clone, Debug, Serialize)]
pub struct Way {
    pub kind: FactorKind,
    pub device: Option<String>,
    pub used_last: bool,
    /// Backup codes left and made.
    pub left: Option<(u32, u32)>,
    pub state: WayState,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum WayState {
    Ready,
    Paused {
        until: Timestamp,
    },
    /// It does not satisfy the level that is asked for.
    NotEnough {
        why: NotEnoughWhy,
    },
}

/// What the page asks for that a way cannot give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotEnoughWhy {
    /// Other kinds are named.
    Kind,
    /// Nothing that a copy of the page could ask for and pass on.
    PhishingResistant,
    /// A sign of who holds it.
    UserVerified,
}

impl From<Unfit> for NotEnoughWhy {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Kind => Self::Kind,
            Unfit::PhishingResistant => Self::PhishingResistant,
            Unfit::UserVerified => Self::UserVerified,
        }
    }
}

/// Nothing that the person has set up would be enough.
#[derive(Clone, Debug, Serialize)]
pub struct NotEnough {
    pub app: Option<Destination>,
    pub user: String,
    /// What is set up, each with the reason why it does not do here; may be empty.
    pub ways: Vec<Way>,
    /// A way may be added right here (the first sign-in); leads to enrollment.
    pub may_enroll: bool,
}

/// One more proof within a session. Posts `code`, or `password`.
#[derive(Clone, Debug, Serialize)]
pub struct StepUp {
    pub hidden: Hidden,
    /// `None` for a step-up of our own account pages.
    pub app: Option<Destination>,
    pub user: String,
    pub why: StepUpWhy,
    /// When the password was shown that still counts.
    pub password_counts: Option<Timestamp>,
    pub ask: StepUpAsk,
    pub form: Option<FormNote>,
    pub problem: Option<CodeProblem>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepUpWhy {
    /// The last proof is too old for this page.
    Stale,
    /// One proof more is needed than there was.
    More,
    /// Another kind of proof is needed.
    Stronger,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepUpAsk {
    Code(CodeAsk),
    Key(KeyAsk),
    /// `key`: a key that checks who holds it would do instead.
    Password {
        key: bool,
    },
}

/// The way goes on by itself, with a link for those who do not want to wait. Chromium holds a
/// form's `form-action` against every redirect that follows, also those of the app: an app whose
/// start page redirects to another host would leave people standing at the sign-in. This page is
/// an answer, not a redirect, so the chain ends here. For browsers (`Sec-Fetch-Mode: navigate`);
/// programs get the redirect.
#[derive(Clone, Debug, Serialize)]
pub struct GoOn {
    pub app: Destination,
    /// Where to: an absolute address on the app's origin, which the caller has opened from a
    /// sealed return-to.
    pub to: String,
}

/// Sends a kept form on: by itself, or by its button. On the app's host, to the address that was posted to.
#[derive(Clone, Debug, Serialize)]
pub struct SendForm {
    pub app: Destination,
    /// The address on this host that was posted to, whole.
    pub to: String,
    pub field: &'static str,
    pub ticket: String,
}

impl SendForm {
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        let ticket = "sample-ticket".to_owned();
        let to = "https://payroll.corp.example/records/delete?list=7".to_owned();
        vec![("plain", Self { app: samples::payroll(), to, field: "stepgate-form", ticket })]
    }
}

impl GoOn {
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        let to = "https://payroll.corp.example/reports?year=2026&month=10#top".to_owned();
        vec![("plain", Self { app: samples::payroll(), to })]
    }
}

impl SignIn {
    /// One of each state, for tests and for looking at.
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        let plain = || Self {
            hidden: samples::hidden(),
            app: Some(samples::payroll()),
            username: String::new(),
            notice: None,
            form: None,
            passkey: Some(KeyQuestion::sample()),
            problem: None,
        };
        let formed = |form| Self { form: Some(form), ..plain() };
        let noticed = |notice| Self { notice: Some(notice), ..plain() };
        vec![
            ("plain", plain()),
            ("no-app", Self { app: None, passkey: None, ..plain() }),
            ("key-unknown", Self { problem: Some(SignInProblem::Key { why: KeyProblem::NotTheirs }), ..plain() }),
            ("mismatch", Self { username: "ann".to_owned(), problem: Some(SignInProblem::Mismatch), ..plain() }),
            (
                "throttled",
                Self {
                    username: "ann".to_owned(),
                    problem: Some(SignInProblem::Throttled { until: samples::later(5) }),
                    ..plain()
                },
            ),
            ("idle", noticed(SignInNotice::Idle { minutes: 15 })),
            ("ended", noticed(SignInNotice::Ended)),
            ("form-kept", formed(FormNote::Kept { until: samples::later(5) })),
            ("form-lost", formed(FormNote::Lost)),
            ("form-too-large", formed(FormNote::too_large(262_144))),
            ("form-no-room", formed(FormNote::NoRoom)),
            ("form-lapsed", formed(FormNote::Lapsed { until: samples::earlier(1) })),
            ("form-sent", formed(FormNote::Sent { at: samples::earlier(1) })),
            ("start-over", noticed(SignInNotice::StartOver)),
            ("password-set", noticed(SignInNotice::PasswordSet)),
            ("enrolled", noticed(SignInNotice::Enrolled)),
        ]
    }
}

impl CodeAsk {
    pub(super) fn sample() -> Self {
        Self {
            kind: FactorKind::Totp,
            device: Some("Ann’s phone".to_owned()),
            entry: Some("Example Corp (ann)".to_owned()),
            left: None,
            others: true,
            tries_left: None,
            sending: None,
        }
    }

    pub(super) fn token() -> Self {
        Self { kind: FactorKind::Hotp, device: Some("Grey token".to_owned()), entry: None, ..Self::sample() }
    }

    pub(super) fn mail(until: Option<Timestamp>) -> Self {
        Self {
            kind: FactorKind::Email,
            device: Some("a…@corp.example".to_owned()),
            entry: None,
            sending: Some(Sending { until }),
            ..Self::sample()
        }
    }

    pub(super) fn text(until: Option<Timestamp>) -> Self {
        Self { kind: FactorKind::Sms, device: Some("+49…89".to_owned()), ..Self::mail(until) }
    }

    pub(super) fn backup() -> Self {
        Self { kind: FactorKind::BackupCodes, device: None, entry: None, left: Some((7, 10)), ..Self::sample() }
    }
}

impl Code {
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        let plain = || Self {
            hidden: samples::hidden(),
            app: Some(samples::payroll()),
            user: "ann".to_owned(),
            ask: CodeAsk::sample(),
            remember: None,
            form: None,
            problem: None,
        };
        let wrong = |problem| Self {
            problem: Some(problem),
            ask: CodeAsk { tries_left: Some(3), ..CodeAsk::sample() },
            ..plain()
        };
        let unnamed = CodeAsk { device: None, entry: None, others: false, tries_left: Some(1), ..CodeAsk::sample() };
        vec![
            ("plain", plain()),
            ("form-kept", Self { form: Some(FormNote::Kept { until: samples::later(5) }), ..plain() }),
            ("remember", Self { remember: Some(30), ..plain() }),
            ("remember-a-day", Self { remember: Some(1), ..plain() }),
            ("unnamed", Self { app: None, ask: unnamed, problem: Some(CodeProblem::Wrong), ..plain() }),
            ("wrong", wrong(CodeProblem::Wrong)),
            ("clock-fast", wrong(CodeProblem::Clock { fast: true, minutes: 3, seconds: 40 })),
            ("clock-slow", wrong(CodeProblem::Clock { fast: false, minutes: 1, seconds: 0 })),
            ("used", wrong(CodeProblem::Used { next_in: 14 })),
            ("other-entry", wrong(CodeProblem::OtherEntry { other: "Example Corp test".to_owned() })),
            ("throttled", wrong(CodeProblem::Throttled { until: samples::later(15) })),
            ("entry-of-another-system", Self { ask: CodeAsk { device: None, ..CodeAsk::sample() }, ..plain() }),
            ("no-entry", Self { ask: CodeAsk { entry: None, ..CodeAsk::sample() }, ..plain() }),
            ("token", Self { ask: CodeAsk::token(), ..plain() }),
            (
                "token-wrong",
                Self { ask: CodeAsk { tries_left: Some(3), ..CodeAsk::token() }, ..wrong(CodeProblem::Wrong) },
            ),
            ("token-unnamed", Self { ask: CodeAsk { device: None, ..CodeAsk::token() }, ..plain() }),
            ("backup", Self { ask: CodeAsk::backup(), ..plain() }),
            ("backup-uncounted", Self { ask: CodeAsk { left: None, ..CodeAsk::backup() }, ..plain() }),
            ("mail", Self { ask: CodeAsk::mail(None), ..plain() }),
            ("mail-sent", Self { ask: CodeAsk::mail(Some(samples::later(5))), ..plain() }),
            (
                "mail-wrong",
                Self {
                    ask: CodeAsk { tries_left: Some(1), ..CodeAsk::mail(Some(samples::later(3))) },
                    ..wrong(CodeProblem::Wrong)
                },
            ),
            ("sms", Self { ask: CodeAsk::text(None), ..plain() }),
            ("sms-sent", Self { ask: CodeAsk::text(Some(samples::later(5))), ..plain() }),
            (
                "sms-wrong",
                Self {
                    ask: CodeAsk { tries_left: Some(1), ..CodeAsk::text(Some(samples::later(3))) },
                    ..wrong(CodeProblem::Wrong)
                },
            ),
            ("mail-gone", Self { ask: CodeAsk::mail(None), problem: Some(CodeProblem::Gone), ..plain() }),
            (
                "mail-pause",
                Self {
                    ask: CodeAsk::mail(Some(samples::later(4))),
                    problem: Some(CodeProblem::SendPause { until: samples::later(1) }),
                    ..plain()
                },
            ),
            ("backup-wrong", Self { ask: CodeAsk::backup(), ..wrong(CodeProblem::Wrong) }),
        ]
    }
}

impl Choose {
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        let totp = Way {
            kind: FactorKind::Totp,
            device: Some("Ann’s phone".to_owned()),
            used_last: true,
            left: None,
            state: WayState::Ready,
        };
        let backup =
            Way { kind: FactorKind::BackupCodes, device: None, used_last: false, left: Some((7, 10)), ..totp.clone() };
        let choose = |app, ways| Self { hidden: samples::hidden(), app, user: "ann".to_owned(), ways };
        let paused = Way { state: WayState::Paused { until: samples::later(15) }, ..totp.clone() };
        let second = Way { device: None, used_last: false, ..totp.clone() };
        let mail = Way { kind: FactorKind::Email, device: Some("a…@corp.example".to_owned()), ..second.clone() };
        let text = Way { kind: FactorKind::Sms, device: Some("+49…89".to_owned()), ..second.clone() };
        let not = |why, way: &Way| Way { used_last: false, state: WayState::NotEnough { why }, ..way.clone() };
        let short = vec![
            not(NotEnoughWhy::PhishingResistant, &totp),
            not(NotEnoughWhy::UserVerified, &totp),
            not(NotEnoughWhy::Kind, &backup),
        ];
        let key = Way { kind: FactorKind::Webauthn, ..second.clone() };
        let token = Way { kind: FactorKind::Hotp, device: Some("Grey token".to_owned()), ..second.clone() };
        let bare_token = Way { kind: FactorKind::Hotp, ..second.clone() };
        let last = Way { used_last: true, left: None, ..backup.clone() };
        let totp_then = Way { used_last: false, ..totp.clone() };
        let backup_last = Way { used_last: true, ..backup.clone() };
        vec![
            ("plain", choose(Some(samples::payroll()), vec![key, totp, token, text, mail, backup])),
            ("paused", choose(None, vec![paused, second, bare_token, last])),
            ("backup-last", choose(Some(samples::payroll()), vec![backup_last, totp_then])),
            ("not-enough", choose(Some(samples::payroll()), short)),
        ]
    }
}

impl NotEnough {
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        let way = |kind, device: Option<&str>, why| Way {
            kind,
            device: device.map(str::to_owned),
            used_last: false,
            left: None,
            state: WayState::NotEnough { why },
        };
        let ways = vec![
            way(FactorKind::Totp, Some("Ann’s phone"), NotEnoughWhy::PhishingResistant),
            way(FactorKind::BackupCodes, None, NotEnoughWhy::Kind),
        ];
        let plain =
            || Self { app: Some(samples::payroll()), user: "ann".to_owned(), ways: Vec::new(), may_enroll: false };
        vec![
            ("plain", Self { ways, ..plain() }),
            ("nothing", plain()),
            ("may-enroll", Self { may_enroll: true, app: None, ..plain() }),
        ]
    }
}

impl StepUp {
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        let plain = || Self {
            hidden: samples::hidden(),
            app: Some(samples::payroll()),
            user: "ann".to_owned(),
            why: StepUpWhy::Stale,
            password_counts: Some(samples::earlier(319)),
            ask: StepUpAsk::Code(CodeAsk::sample()),
            form: None,
            problem: None,
        };
        let kept = || Some(FormNote::Kept { until: samples::later(5) });
        let wrong = Self {
            ask: StepUpAsk::Code(CodeAsk { tries_left: Some(2), ..CodeAsk::sample() }),
            problem: Some(CodeProblem::Wrong),
            ..plain()
        };
        vec![
            ("plain", plain()),
            ("form-kept", Self { form: Some(FormNote::Kept { until: samples::later(5) }), ..plain() }),
            ("form-lost", Self { form: Some(FormNote::Lost), ..plain() }),
            ("form-too-large", Self { form: Some(FormNote::too_large(262_144)), ..plain() }),
            ("form-lapsed", Self { form: Some(FormNote::Lapsed { until: samples::earlier(1) }), ..plain() }),
            ("more", Self { why: StepUpWhy::More, password_counts: None, app: None, ..plain() }),
            ("backup", Self { why: StepUpWhy::Stronger, ask: StepUpAsk::Code(CodeAsk::backup()), ..plain() }),
            ("password", Self { ask: StepUpAsk::Password { key: false }, password_counts: None, ..plain() }),
            ("password-wrong", Self { ask: StepUpAsk::Password { key: true }, password_counts: None, ..wrong.clone() }),
            ("key", Self { ask: StepUpAsk::Key(KeyAsk::sample()), ..plain() }),
            ("key-kept", Self { ask: StepUpAsk::Key(KeyAsk::sample()), form: kept(), ..plain() }),
            (
                "key-wrong",
                Self {
                    ask: StepUpAsk::Key(KeyAsk { problem: Some(KeyProblem::Wrong), ..KeyAsk::sample() }),
                    ..plain()
                },
            ),
            ("wrong", wrong),
            ("throttled", Self { problem: Some(CodeProblem::Throttled { until: samples::later(15) }), ..plain() }),
            ("token", Self { ask: StepUpAsk::Code(CodeAsk::token()), ..plain() }),
            (
                "token-wrong",
                Self {
                    ask: StepUpAsk::Code(CodeAsk { tries_left: Some(2), ..CodeAsk::token() }),
                    problem: Some(CodeProblem::Wrong),
                    ..plain()
                },
            ),
            ("mail", Self { ask: StepUpAsk::Code(CodeAsk::mail(None)), ..plain() }),
            ("mail-sent", Self { ask: StepUpAsk::Code(CodeAsk::mail(Some(samples::later(5)))), ..plain() }),
            ("sms", Self { ask: StepUpAsk::Code(CodeAsk::text(None)), ..plain() }),
            ("sms-sent", Self { ask: StepUpAsk::Code(CodeAsk::text(Some(samples::later(5)))), ..plain() }),
        ]
    }
}
