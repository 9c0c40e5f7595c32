//! What does the link of a notice show? A question first: mail scanners open links too (S-OOB-2).

use serde::{Serialize, Serializer};

use super::layout::Hidden;
use super::samples;
use crate::base::secret::Secret;

#[derive(Clone, Debug, Serialize)]
pub struct NotMe {
    pub state: NotMeState,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum NotMeState {
    /// Posts `link`.
    Ask {
        hidden: Hidden,
        #[serde(serialize_with = "exposed")]
        link: Secret<String>,
        user: String,
        /// What happened, and its circumstances, as the mail told them.
        what: String,
        facts: Vec<String>,
        /// A way to sign in, or codes, that this blocks too.
        blocks: bool,
    },
    Done {
        blocked: bool,
    },
    /// Used already, or too old.
    Gone,
}

fn exposed<S: Serializer>(secret: &Secret<String>, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(secret.expose())
}

impl NotMe {
    #[must_use]
    pub fn samples() -> Vec<(&'static str, Self)> {
        let ask = |what: &str, blocks| Self {
            state: NotMeState::Ask {
                hidden: Hidden { flow: None, rd: None, ..samples::hidden() },
                link: "sample-link".to_owned().into(),
                user: "ann".to_owned(),
                what: what.to_owned(),
                facts: vec![
                    "When: 24 November 2026, 14:28 UTC".to_owned(),
                    "From: 203.0.113.9".to_owned(),
                    "Device: Firefox, Windows".to_owned(),
                ],
                blocks,
            },
        };
        vec![
            ("sign-in", ask("Somebody signed in to your account with a device that never did so before.", false)),
            ("way-added", ask("\"My new phone\" was added to your account as a way to confirm a sign-in.", true)),
            ("done", Self { state: NotMeState::Done { blocked: false } }),
            ("done-blocked", Self { state: NotMeState::Done { blocked: true } }),
            ("gone", Self { state: NotMeState::Gone }),
        ]
    }
}
