//! Is this code right, and if not, what should the person know about it?

use std::time::Duration;

use super::error::AuthError;
use super::factors::webauthn::{Bound, KeyAnswer, KeyTrouble, KeyUse, Rp};
use super::plan::Enrolled;
use super::proof::FactorVerified;
use super::throttle::{Charges, FAILURES_IN_A_ROW, REFUSED, Verdict};
use super::{Auth, Visit};
use crate::base::clock::Timestamp;
use crate::base::ids::{CredentialId, SentCodeId, UserId};
use crate::domain::audit::{Action, Outcome};
use crate::domain::factor::FactorKind;
use crate::domain::host::HostName;
use crate::domain::user::User;
use crate::store::{StoreError, Tx};

/// A code that looks right. It becomes a proof only by winning the conditional write that spends
/// it: two requests, two replicas and a restart cannot both win (S-TOTP-1, S-BACK-1).
#[derive(Debug)]
pub struct Candidate {
    user: UserId,
    what: Spend,
    /// Tries left if it turns out to be none.
    left: u32,
}

/// What is written to spend a code.
#[derive(Debug)]
pub(super) enum Spend {
    Step {
        credential: CredentialId,
        step: i64,
    },
    /// A counting token moves to this counter.
    Counter {
        credential: CredentialId,
        step: i64,
    },
    BackupCode([u8; 32]),
    Key(KeyUse),
    /// A code that was sent; `credential` is the entry of the number that it went to.
    Sent {
        kind: FactorKind,
        id: SentCodeId,
        credential: Option<CredentialId>,
    },
}

/// What somebody shows beside the password.
#[derive(Clone, Copy)]
pub enum Shown<'a> {
    Code {
        kind: FactorKind,
        typed: &'a str,
    },
    /// Two codes that a counting token gave one after the other.
    Pair {
        first: &'a str,
        second: &'a str,
    },
    Key(KeyAnswer<'a>),
}

impl Shown<'_> {
    #[must_use]
    pub fn kind(&self) -> FactorKind {
        match self {
            Self::Code { kind, .. } => *kind,
            Self::Pair { .. } => FactorKind::Hotp,
            Self::Key(_) => FactorKind::Webauthn,
        }
    }

    /// For the trail.
    #[must_use]
    pub(super) fn was_right(&self) -> &'static str {
        match self {
            Self::Code { .. } => "The code was right.",
            Self::Pair { .. } => "Two codes in a row were right: the code generator was brought back into step.",
            Self::Key(_) => "The answer of the key was right.",
        }
    }
}

/// What stands in the fields of a form.
#[derive(Clone, Copy)]
pub struct Typed<'a> {
    pub code: &'a str,
    /// The code that a counting token gave next.
    pub second: Option<&'a str>,
}

impl<'a> From<&'a str> for Typed<'a> {
    fn from(code: &'a str) -> Self {
        Self { code, second: None }
    }
}

/// Why a code was not accepted; shown only after a right password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Explain {
    Wrong,
    /// Accepted once already; the next code comes in so long.
    Used {
        next_in: Duration,
    },
    /// The phone's clock is ahead by so many seconds (negative: behind).
    Clock {
        ahead_secs: i64,
    },
    Key(KeyTrouble),
    /// Not the code that was sent; so many tries at it are left. Of none: it works no more.
    Sent {
        left: u32,
    },
}

/// The answer to a code.
#[derive(Debug)]
pub enum Looked {
    Candidate(Candidate),
    No { explain: Explain, left: u32 },
    Pause { until: Timestamp },
}

impl Candidate {
    #[must_use]
    pub fn user(&self) -> UserId {
        self.user
    }

    #[must_use]
    pub fn kind(&self) -> FactorKind {
        match self.what {
            Spend::Step { .. } => FactorKind::Totp,
            Spend::Counter { .. } => FactorKind::Hotp,
            Spend::BackupCode(_) => FactorKind::BackupCodes,
            Spend::Key(_) => FactorKind::Webauthn,
            Spend::Sent { kind, .. } => kind,
        }
    }

    /// Spends the code within `tx`. `None` when another request spent it first.
    pub async fn redeem(&self, tx: &mut Tx, now: Timestamp) -> Result<Option<FactorVerified>, StoreError> {
        let (won, kind, credential) = match &self.what {
            Spend::Step { credential, step } => {
                (tx.advance_step(*credential, *step, now).await?, FactorKind::Totp, Some(*credential))
            }
            Spend::Counter { credential, step } => {
                (tx.advance_step(*credential, *step, now).await?, FactorKind::Hotp, Some(*credential))
            }
            Spend::Key(key) => return key.redeem(tx, now).await,
            Spend::BackupCode(hash) => (tx.spend_backup_code(self.user, hash).await?, FactorKind::BackupCodes, None),
            Spend::Sent { kind, id, credential } => {
                let mut won = tx.spend_sent_code(*id, now).await?;
                if let (true, Some(number)) = (won, credential) {
                    won = tx.use_credential(*number, now).await?;
                }
                (won, *kind, *credential)
            }
        };
        Ok(won.then(|| FactorVerified::new(kind, credential, now)))
    }
}

impl Auth {
    /// What a person has enrolled.
    pub async fn enrolled(&self, user: UserId) -> Result<Enrolled, AuthError> {
        let (credentials, backup) = (self.store.credentials(user).await?, self.store.backup_codes(user).await?);
        let totp = credentials.iter().filter(|c| c.kind == FactorKind::Totp);
        // One that does not open is told where its code is looked at.
        let elsewhere = totp.filter(|c| self.totp_key(c).is_ok_and(|key| key.is_from_elsewhere()));
        let elsewhere = elsewhere.map(|c| c.id).collect();
        Ok(Enrolled { credentials, elsewhere, backup, email: None, phone: None })
    }

    /// Looks at what is shown on a page of `host`; an answer of a key must be to a question that is
    /// `bound` so.
    pub(super) async fn look(
        &self,
        visit: &Visit<'_>,
        user: &User,
        enrolled: &Enrolled,
        shown: Shown<'_>,
        host: &HostName,
        bound: Bound,
    ) -> Result<Looked, AuthError> {
        let typed = match shown {
            Shown::Code { typed, .. } => Typed { code: typed, second: None },
            Shown::Pair { first, second } => Typed { code: first, second: Some(second) },
            Shown::Key(answer) => return self.look_at_answer(visit, user, enrolled, answer, host, bound).await,
        };
        // A code that was sent is for one ceremony or session (S-OOB-2).
        let scope = match bound {
            Bound::SignIn(flow) => flow.to_string(),
            Bound::StepUp(session) => session.to_string(),
            Bound::Enroll(_) | Bound::Browser(_) => return Err(AuthError::FlowGone),
        };
        self.look_at_code(visit, user, enrolled, shown.kind(), typed, &scope).await
    }

    async fn look_at_answer(
        &self,
        visit: &Visit<'_>,
        user: &User,
        enrolled: &Enrolled,
        answer: KeyAnswer<'_>,
        host: &HostName,
        bound: Bound,
    ) -> Result<Looked, AuthError> {
        let rp = Rp::at(visit.snapshot, host).ok_or(AuthError::FlowGone)?;
        match self.look_at_key(visit, &rp, user.id, enrolled, bound, answer).await? {
            Ok(what) => Ok(Looked::Candidate(Candidate { user: user.id, what, left: 0 })),
            Err(trouble) => self.key_refused(visit, user, trouble).await,
        }
    }

    async fn key_refused(&self, visit: &Visit<'_>, user: &User, trouble: KeyTrouble) -> Result<Looked, AuthError> {
        self.key_failed(visit, user, trouble, Outcome::Failure).await?;
        Ok(Looked::No { explain: Explain::Key(trouble), left: 0 })
    }

    /// Writes down that a key did not do. There is nothing to guess, so no counter refuses a try; one
    /// keeps a stranger who knows somebody's key by its id from filling the trail. A failure is one behind
    /// a right password, of which the person is told; without one it is `outcome: Refused`. Of a key that may have been
    /// copied they are told in any case.
    pub(super) async fn key_failed(
        &self,
        visit: &Visit<'_>,
        user: &User,
        trouble: KeyTrouble,
        outcome: Outcome,
    ) -> Result<(), AuthError> {
        let copied = trouble == KeyTrouble::Copied;
        let outcome = if copied { Outcome::Refused } else { outcome };
        let charges = if copied { Charges::copied_key(user.id) } else { Charges::key(user.id) };
        if matches!(charges.take(&self.store, visit.now).await?, Verdict::Go { .. }) {
            let event = visit.event(user, Action::FactorVerify, outcome, trouble.reason());
            self.store.audit_only(&[event.with_factor(FactorKind::Webauthn.as_str())]).await?;
        }
        Ok(())
    }

    /// Looks at a code of `kind`, shown in the ceremony or session `scope`. Charged to the person's one
    /// budget for all codes before anything is compared (S-TOTP-3).
    pub async fn look_at_code(
        &self,
        visit: &Visit<'_>,
        user: &User,
        enrolled: &Enrolled,
        kind: FactorKind,
        typed: Typed<'_>,
        scope: &str,
    ) -> Result<Looked, AuthError> {
        let charges = Charges::code(user.id);
        let left = match charges.take(&self.store, visit.now).await? {
            Verdict::Go { left } => left,
            Verdict::Pause { until, counter } => {
                if self.pauses.is_first(&counter, until, visit.now) {
                    let event =
                        visit.event(user, Action::FactorVerify, Outcome::Refused, REFUSED).with_factor(kind.as_str());
                    self.store.audit_only(&[event]).await?;
                }
                return Ok(Looked::Pause { until });
            }
        };
        let looked = match kind {
            FactorKind::Totp => self.look_at_totp(visit, enrolled, typed.code)?,
            FactorKind::Hotp => self.look_at_hotp(visit, enrolled, typed.code, typed.second)?,
            FactorKind::BackupCodes => self.look_at_backup_code(user, enrolled, typed.code).await?,
            FactorKind::Email => self.look_at_sent_code(visit, user.id, (kind, None), scope, typed.code).await?,
            FactorKind::Sms => match &enrolled.phone {
                Some(phone) => {
                    let number = (kind, Some(phone.credential));
                    self.look_at_sent_code(visit, user.id, number, &phone.scope(scope), typed.code).await?
                }
                None => Err(Explain::Wrong),
            },
            FactorKind::Password | FactorKind::Webauthn | FactorKind::Push | FactorKind::ClientCertificate => {
                Err(Explain::Wrong)
            }
        };
        match looked {
            Ok(what) => Ok(Looked::Candidate(Candidate { user: user.id, what, left })),
            Err(explain) => {
                self.code_failed(visit, user, enrolled, kind, explain).await?;
                Ok(Looked::No { explain, left })
            }
        }
    }

    /// After what was shown was spent and all of it committed.
    pub(super) async fn succeeded(&self, candidate: &Candidate) {
        if !matches!(candidate.what, Spend::Key(_)) {
            self.code_succeeded(candidate.user).await;
        }
    }

    /// After the code was spent and all of it committed: the tries before it are given back, as a right password
    /// gives back its own. Whoever guesses gains no more than a further budget each time that the person confirms,
    /// and neither a new flow nor a password alone gives any (S-TOTP-3). What is committed stays so if this fails;
    /// the person has fewer tries for a while.
    pub async fn code_succeeded(&self, user: UserId) {
        if let Err(error) = Charges::code(user).succeed(&self.store).await {
            tracing::warn!(%error, user.id = %user, "tries before a code that was right stay counted");
        }
    }

    /// The code could not be spent: another request was first, or it is no code of the set.
    pub async fn code_not_spent(
        &self,
        visit: &Visit<'_>,
        user: &User,
        candidate: &Candidate,
    ) -> Result<Looked, AuthError> {
        let explain = match candidate.what {
            Spend::Step { .. } | Spend::Counter { .. } => Explain::Used { next_in: Duration::ZERO },
            Spend::BackupCode(_) => Explain::Wrong,
            Spend::Key(_) => return self.key_refused(visit, user, KeyTrouble::Used).await,
            Spend::Sent { .. } => Explain::Sent { left: 0 },
        };
        self.code_failed(visit, user, &Enrolled::default(), candidate.kind(), explain).await?;
        Ok(Looked::No { explain, left: candidate.left })
    }

    /// Counts the failure on the entries that were tried, ends those that failed too often in a row
    /// and writes the row, all in one.
    async fn code_failed(
        &self,
        visit: &Visit<'_>,
        user: &User,
        enrolled: &Enrolled,
        kind: FactorKind,
        explain: Explain,
    ) -> Result<(), AuthError> {
        let reason = match explain {
            Explain::Wrong | Explain::Sent { left: 1.. } => "The code was wrong.",
            Explain::Sent { left: 0 } => "The code was wrong, and no other try at it is left.",
            Explain::Used { .. } => "The code was already used.",
            Explain::Clock { .. } => "The code was of another time: the device's clock is off.",
            Explain::Key(trouble) => trouble.reason(),
        };
        let mut events =
            vec![visit.event(user, Action::FactorVerify, Outcome::Failure, reason).with_factor(kind.as_str())];
        let mut tx = self.store.begin().await?;
        if matches!(kind, FactorKind::Totp | FactorKind::Hotp | FactorKind::Sms) {
            for credential in enrolled.of_kind(kind) {
                if tx.count_failure(credential.id).await? >= FAILURES_IN_A_ROW {
                    tx.disable_credential(credential.id, visit.now).await?;
                    let reason = "100 failures in a row: it must be enrolled anew.";
                    events.push(
                        visit
                            .event(user, Action::FactorDisable, Outcome::Success, reason)
                            .with_factor(&credential.label),
                    );
                }
            }
        }
        tx.commit(&events).await?;
        Ok(())
    }
}
