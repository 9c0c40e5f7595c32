//! What do the pages show that ask for a security key or passkey? One button; the rest is the browser's.

use serde::Serialize;

use super::enroll::Step;
use super::layout::{Destination, Hidden};
use super::samples;
use super::sign_in::FormNote;

/// A question to a key: the options that the script hands to the browser, and the sealed rest, which
/// comes back with the answer. Posts `question`, `answer`.
#[derive(Clone, Debug, Serialize)]
pub struct KeyQuestion {
    pub options: String,
    pub sealed: String,
}

/// A key that is set up is asked.
#[derive(Clone, Debug, Serialize)]
pub struct KeyAsk {
    /// The person's own name for it.
    pub device: Option<String>,
    /// More ways than this one: shows the link to the list.
    pub others: bool,
    #[serde(flatten)]
    pub question: KeyQuestion,
    pub problem: Option<KeyProblem>,
}

/// E9 is the script's to say: the server never hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyProblem {
    TooOld,
    Used,
    /// The new key is set up already.
    Taken,
    /// E10.
    NotTheirs,
    NotVerified,
    Copied,
    Wrong,
}

/// A key after a right password.
#[derive(Clone, Debug, Serialize)]
pub struct Key {
    pub hidden: Hidden,
    pub app: Option<Destination>,
    pub user: String,
    pub ask: KeyAsk,
    /// Days for which this browser may be remembered. Posts `remember=1`.
    pub remember: Option<u64>,
    pub form: Option<FormNote>,
}

/// A key is set up. Posts `name` too.
#[derive(Clone, Debug, Serialize)]
pub struct EnrollKey {
    pub hidden: Hidden,
    pub user: String,
    pub step: Option<Step>,
    #[serde(flatten)]
    pub question: KeyQuestion,
    /// A name for it: what was typed before, or a proposal.
    pub name: String,
    pub problem: Option<KeyProblem>,
    /// An authenticator app would do as well; leads there.
    pub totp: bool,
}

impl KeyProblem {
    const ALL: [(&'static str, Self); 7] = [
        ("too-old", Self::TooOld),
        ("used", Self::Used),
        ("taken", Self::Taken),
        ("not-theirs", Self::NotTheirs),
        ("not-verified", Self::NotVerified),
        ("copied", Self::Copied),
        ("wrong", Self::Wrong),
    ];
}

impl KeyQuestion {
    pub(super) fn sample() -> Self {
        let options = r#"{"challenge":"c2FtcGxl","rpId":"login.corp.example","allowCredentials":[]}"#;
        Self { options: options.to_owned(), sealed: "sample-question".to_owned() }
    }
}

impl KeyAsk {
    pub(super) fn sample() -> Self {
        let device = Some("Blue key".to_owned());
        Self { device, others: true, question: KeyQuestion::sample(), problem: None }
    }
}

impl Key {
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        let plain = || Self {
            hidden: samples::hidden(),
            app: Some(samples::payroll()),
            user: "ann".to_owned(),
            ask: KeyAsk::sample(),
            remember: None,
            form: None,
        };
        let alone = KeyAsk { others: false, device: None, ..KeyAsk::sample() };
        let mut all = vec![
            ("plain", plain()),
            ("remember", Self { remember: Some(30), ..plain() }),
            ("alone", Self { ask: alone, app: None, ..plain() }),
            ("form-kept", Self { form: Some(FormNote::Kept { until: samples::later(5) }), ..plain() }),
        ];
        all.extend(KeyProblem::ALL.map(|(name, problem)| {
            (name, Self { ask: KeyAsk { problem: Some(problem), ..KeyAsk::sample() }, ..plain() })
        }));
        all
    }
}

impl EnrollKey {
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        let plain = || Self {
            hidden: samples::hidden(),
            user: "ann".to_owned(),
            step: Some(Step { this: 2, of: 3 }),
            question: KeyQuestion::sample(),
            name: "My key".to_owned(),
            problem: None,
            totp: true,
        };
        vec![
            ("plain", plain()),
            ("account", Self { step: None, totp: false, ..plain() }),
            ("taken", Self { problem: Some(KeyProblem::Taken), ..plain() }),
        ]
    }
}
