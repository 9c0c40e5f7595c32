//! How does a person get a second factor? A key on a page, a first code from the phone, backup codes
//! once; nothing counts until all of it is stored together.

use std::time::Duration;

use zeroize::Zeroizing;

use super::account::{FRESH, requirement_to_add};
use super::error::AuthError;
use super::factor::{Explain, Looked};
use super::factors::hotp::{self, HotpCodes};
use super::factors::totp::{Match, seed_place};
use super::factors::webauthn::{KeyAnswer, KeyTrouble, NewKey, Question, Rp};
use super::factors::{BackupCode, HotpKey, TotpCode, TotpKey};
use super::flow::{Flow, FlowKind, FlowState, PendingKey, Step};
use super::plan::with_evidence;
use super::proof::{FactorVerified, PasswordVerified};
use super::sign_in::{Seat, SignedIn, may_enroll_by_password};
use super::step_up::Current;
use super::throttle::{Charges, Verdict};
use super::{Auth, Visit};
use crate::base::clock::Timestamp;
use crate::base::ids::{CredentialId, SentCodeId, UserId};
use crate::base::rng::{self, Rng};
use crate::base::secret::Secret;
use crate::config::snapshot::FactorSettings;
use crate::crypto::{NewPassword, PasswordRule};
use crate::domain::audit::{Action, AuditEvent, Outcome};
use crate::domain::factor::FactorKind;
use crate::domain::host::HostName;
use crate::domain::phone::PhoneNumber;
use crate::domain::user::{User, display_text};
use crate::session::{SessionToken, issue};
use crate::store::{Credential, NewMail, Tx, Unaudited};

/// How long a key on a page is good for; after that the page makes a new one.
const KEY_LIFE: Duration = Duration::from_secs(600);

/// What the enrollment page of an app shows.
pub struct AppSetup {
    pub uri: Secret<String>,
    /// The seed in base32.
    pub key: Secret<String>,
    pub until: Timestamp,
}

/// A set of backup codes before it is stored: the readable form for the person, hashes for the store.
pub struct NewBackupCodes {
    pub shown: Vec<String>,
    salt: [u8; 16],
    hashes: Vec<[u8; 32]>,
}

/// The answer to the first code of a new entry.
#[derive(Debug)]
pub enum Enrolling {
    /// It is enrolled, durably. The codes are shown next; the id is set where a session was there.
    Done {
        flow: Flow,
        token: Option<SessionToken>,
    },
    Not {
        flow: Flow,
        looked: Looked,
    },
    /// The key on the page was older than ten minutes; the page shows a new one.
    KeyTooOld {
        flow: Flow,
    },
    /// The answer of a security key did not do.
    NotKey {
        flow: Flow,
        trouble: KeyTrouble,
    },
}

/// What is about to be enrolled.
pub(super) enum New<'a> {
    App {
        key: &'a AppKey,
        step: i64,
    },
    Key(&'a NewKey),
    /// A number, the code that proves it, and what the numbers before it are told.
    Phone {
        number: &'a PhoneNumber,
        code: SentCodeId,
        left_behind: &'a [NewMail],
    },
}

/// The key of an app that shows codes, by the clock or by counting.
pub(super) enum AppKey {
    Totp(TotpKey),
    Hotp(HotpKey),
}

impl AppKey {
    fn kind(&self) -> FactorKind {
        match self {
            Self::Totp(_) => FactorKind::Totp,
            Self::Hotp(_) => FactorKind::Hotp,
        }
    }

    fn generate(kind: FactorKind, settings: &FactorSettings, rng: &dyn Rng) -> Self {
        match kind {
            FactorKind::Hotp => Self::Hotp(HotpKey::generate(rng)),
            _ => Self::Totp(TotpKey::generate(settings, rng)),
        }
    }

    /// `None` for a key of the other kind too: the layouts differ.
    fn from_bytes(kind: FactorKind, bytes: &[u8]) -> Option<Self> {
        match kind {
            FactorKind::Hotp => HotpKey::from_bytes(bytes).map(Self::Hotp),
            _ => TotpKey::from_bytes(bytes).map(Self::Totp),
        }
    }

    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Totp(key) => key.to_bytes(),
            Self::Hotp(key) => key.to_bytes(),
        }
    }

    fn setup(&self, issuer: &str, account: &str, until: Timestamp) -> AppSetup {
        let (uri, key) = match self {
            Self::Totp(key) => (key.uri(issuer, account), key.base32()),
            Self::Hotp(key) => (key.uri(issuer, account, 0), key.base32()),
        };
        AppSetup { uri, key, until }
    }

    /// Looks the first code up: at which step, or why not.
    fn look(&self, typed: &str, settings: &FactorSettings, now: Timestamp) -> Result<i64, Explain> {
        match self {
            Self::Totp(key) => match TotpCode::parse(typed, key.digits())
                .map_or(Match::Wrong, |code| key.look(&code, 0, settings.totp_drift, now))
            {
                Match::Step(step) => Ok(step),
                Match::Clock { ahead_secs } => Err(Explain::Clock { ahead_secs }),
                Match::Used { next_in } => Err(Explain::Used { next_in }),
                Match::Wrong => Err(Explain::Wrong),
            },
            Self::Hotp(key) => {
                let code = TotpCode::parse(typed, key.digits()).ok_or(Explain::Wrong)?;
                match key.look(HotpCodes::One(&code), -1, settings.hotp_look_ahead) {
                    hotp::Match::Counter(step) => Ok(step),
                    hotp::Match::Used | hotp::Match::Wrong => Err(Explain::Wrong),
                }
            }
        }
    }
}

/// Tokens that count are set up by operators, and on the account page where the file lets people.
fn may_set_up(kind: FactorKind, visit: &Visit<'_>, flow: &Flow) -> Result<(), AuthError> {
    let account = matches!(flow.state.kind, FlowKind::Account { .. });
    let fine = kind != FactorKind::Hotp || (account && visit.snapshot.factors.hotp_enroll);
    fine.then_some(()).ok_or(AuthError::FlowGone)
}

impl New<'_> {
    fn kind(&self) -> FactorKind {
        match self {
            Self::App { key, .. } => key.kind(),
            Self::Key(_) => FactorKind::Webauthn,
            Self::Phone { .. } => FactorKind::Sms,
        }
    }
}

/// Where an enrollment ends.
#[derive(Debug)]
pub enum Finished {
    SignedIn(Box<SignedIn>),
    /// After an access pass: it opened enrollment and nothing else, so now sign in.
    SignInNow,
    Account,
}

impl Auth {
    /// The key to scan. The same one for ten minutes, so that a reload does not orphan the entry
    /// that the phone has just added.
    pub async fn app_setup(&self, visit: &Visit<'_>, flow: &mut Flow, kind: FactorKind) -> Result<AppSetup, AuthError> {
        may_set_up(kind, visit, flow)?;
        let Step::EnrollTotp { key } = &flow.state.step else { return Err(AuthError::FlowGone) };
        // Whoever adds to an account must end while what they showed for it is fresh (S-ENR-2).
        let fresh_until = match flow.state.kind {
            FlowKind::Account { .. } => flow.state.evidence.iter().map(|seen| seen.at.plus(FRESH)).max(),
            FlowKind::SignIn | FlowKind::FirstLogin | FlowKind::SignUp | FlowKind::AccessPass => None,
        };
        if fresh_until.is_some_and(|end| end <= visit.now) {
            return Err(AuthError::TooLittleShown);
        }
        let pending = match key.clone().filter(|pending| visit.now < pending.until) {
            Some(pending) => self.pending_key(flow, &pending, kind)?.map(|key| (key, pending.until)),
            None => None,
        };
        let (key, until) = match pending {
            Some(pending) => pending,
            None => {
                let key = AppKey::generate(kind, &visit.snapshot.factors, &*self.rng);
                let life = visit.now.plus(KEY_LIFE);
                let until = fresh_until.map_or(life, |end| end.min(life));
                let sealed = flow.seal(&key.to_bytes(), &self.keys, &*self.rng);
                let step = Step::EnrollTotp { key: Some(PendingKey { sealed, until }) };
                let mut tx = self.store.begin().await?;
                flow.advance(&mut tx, FlowState { step, ..flow.state.clone() }).await?;
                tx.commit_unaudited(Unaudited::FlowProgress).await?;
                (key, until)
            }
        };
        Ok(key.setup(&visit.snapshot.title, flow.user.name.as_str(), until))
    }

    /// Checks the first code and enrolls: entry, backup codes, the end of the window and the
    /// trail's rows are one transaction. `current` is the session of a person who adds to their account.
    pub async fn enroll_app(
        &self,
        visit: &Visit<'_>,
        flow: Flow,
        kind: FactorKind,
        typed: &str,
        label: &str,
        current: Option<Current<'_>>,
    ) -> Result<Enrolling, AuthError> {
        may_set_up(kind, visit, &flow)?;
        let Step::EnrollTotp { key } = &flow.state.step else { return Err(AuthError::FlowGone) };
        let Some(pending) = key.clone().filter(|pending| visit.now < pending.until) else {
            return Ok(Enrolling::KeyTooOld { flow });
        };
        // Another tab has begun the other kind meanwhile.
        let Some(key) = self.pending_key(&flow, &pending, kind)? else {
            return Ok(Enrolling::KeyTooOld { flow });
        };
        let charges = Charges::code(flow.user.id);
        let left = match charges.take(&self.store, visit.now).await? {
            Verdict::Go { left } => left,
            Verdict::Pause { until, .. } => return Ok(Enrolling::Not { flow, looked: Looked::Pause { until } }),
        };
        let step = match key.look(typed, &visit.snapshot.factors, visit.now) {
            Ok(step) => step,
            Err(explain) => {
                let event = visit
                    .event(&flow.user, Action::FactorEnroll, Outcome::Failure, "The first code was wrong.")
                    .with_factor(kind.as_str());
                self.store.audit_only(&[event]).await?;
                return Ok(Enrolling::Not { flow, looked: Looked::No { explain, left } });
            }
        };
        let user = flow.user.id;
        let done = self.store_enrollment(visit, flow, New::App { key: &key, step }, label, current).await?;
        self.code_succeeded(user).await;
        Ok(done)
    }

    /// The question for a new security key; `None` where there can be none. Its page makes a new one
    /// each time it is opened.
    pub async fn key_setup(
        &self,
        visit: &Visit<'_>,
        flow: &Flow,
        host: &HostName,
    ) -> Result<Option<Question>, AuthError> {
        let Step::EnrollTotp { .. } = &flow.state.step else { return Err(AuthError::FlowGone) };
        let Some(rp) = Rp::at(visit.snapshot, host) else { return Ok(None) };
        let enrolled = self.enrolled(flow.user.id).await?;
        Ok(Some(self.ask_new_key(visit, &rp, flow.id, &flow.user, &enrolled)?))
    }

    /// Checks a new security key and enrolls it, in one transaction as for an app.
    pub async fn enroll_key(
        &self,
        visit: &Visit<'_>,
        flow: Flow,
        host: &HostName,
        answer: KeyAnswer<'_>,
        label: &str,
        current: Option<Current<'_>>,
    ) -> Result<Enrolling, AuthError> {
        let Step::EnrollTotp { .. } = &flow.state.step else { return Err(AuthError::FlowGone) };
        let rp = Rp::at(visit.snapshot, host).ok_or(AuthError::FlowGone)?;
        match self.look_at_new_key(visit, &rp, flow.id, answer) {
            Ok(key) => self.store_enrollment(visit, flow, New::Key(&key), label, current).await,
            Err(trouble) => self.key_not_enrolled(visit, flow, trouble).await,
        }
    }

    async fn key_not_enrolled(
        &self,
        visit: &Visit<'_>,
        flow: Flow,
        trouble: KeyTrouble,
    ) -> Result<Enrolling, AuthError> {
        let event = visit.event(&flow.user, Action::FactorEnroll, Outcome::Failure, trouble.reason());
        self.store.audit_only(&[event.with_factor(FactorKind::Webauthn.as_str())]).await?;
        Ok(Enrolling::NotKey { flow, trouble })
    }

    pub(super) async fn store_enrollment(
        &self,
        visit: &Visit<'_>,
        mut flow: Flow,
        new: New<'_>,
        label: &str,
        current: Option<Current<'_>>,
    ) -> Result<Enrolling, AuthError> {
        let user = flow.user.clone();
        if let Some(current) = current {
            self.fresh_enough(visit, current, &requirement_to_add(new.kind(), &visit.snapshot.factors)).await?;
        }
        // An entry added beside others leaves the codes alone that the person has on paper.
        let keeps_codes = matches!(flow.state.kind, FlowKind::Account { .. })
            && self.store.backup_codes(user.id).await?.is_some_and(|set| set.left > 0);
        let codes = match keeps_codes {
            true => None,
            false => Some(self.new_backup_codes(user.id, visit.snapshot.factors.backup_codes).await?),
        };
        let label = display_text(label).ok().filter(|label| !label.is_empty()).unwrap_or_else(|| {
            match new.kind() {
                FactorKind::Totp => "Authenticator app",
                FactorKind::Hotp => "Code generator",
                _ => "Security key",
            }
            .to_owned()
        });
        let (credential, enrolled) = match new {
            New::App { key, step } => (
                self.new_credential(user.id, (key.kind(), &key.to_bytes()), step, label, visit.now),
                match key {
                    AppKey::Totp(_) => "An authenticator app was enrolled.",
                    AppKey::Hotp(_) => "A code generator was enrolled.",
                },
            ),
            New::Key(key) => (self.key_credential(user.id, key, label, visit.now)?, "A security key was enrolled."),
            New::Phone { number, .. } => {
                let key = (FactorKind::Sms, number.as_str().as_bytes());
                (self.new_credential(user.id, key, 0, number.masked(), visit.now), "A number for codes was set up.")
            }
        };
        let mut events =
            vec![visit.event(&user, Action::FactorEnroll, Outcome::Success, enrolled).with_factor(&credential.label)];
        let mut tx = self.store.begin().await?;
        tx.hold(user.id, user.epoch).await?;
        let first = tx.mark_enrolled(user.id).await?;
        match flow.state.kind {
            // Whoever came by a password or a sign-up link was let in because there was no factor.
            // Had one been enrolled meanwhile, this would be a second key to the house (S-ENR-1).
            FlowKind::FirstLogin if !first || !may_enroll_by_password(&user, visit.now) => {
                return Err(AuthError::FlowGone);
            }
            FlowKind::SignUp if !first => return Err(AuthError::FlowGone),
            FlowKind::SignIn => return Err(AuthError::FlowGone),
            FlowKind::FirstLogin | FlowKind::SignUp | FlowKind::AccessPass | FlowKind::Account { .. } => {}
        }
        tx.insert_credential(&credential).await?;
        if let New::Key(key) = new
            && let Err(trouble) = key.claim(&mut tx, credential.id).await?
        {
            tx.rollback().await;
            return self.key_not_enrolled(visit, flow, trouble).await;
        }
        if let New::Phone { code, left_behind, .. } = new {
            // Spending it is the verdict: of two requests with one code one gets here.
            if !tx.spend_sent_code(code, visit.now).await? {
                tx.rollback().await;
                return Ok(Enrolling::Not { flow, looked: Looked::No { explain: Explain::Sent { left: 0 }, left: 0 } });
            }
            for label in tx.remove_others_of_kind(user.id, FactorKind::Sms, credential.id).await? {
                let reason = "Another number took the place of this one.";
                events.push(visit.event(&user, Action::FactorRemove, Outcome::Success, reason).with_factor(&label));
            }
            if let Some(letters) = self.letters() {
                for mail in left_behind {
                    tx.insert_mail(mail, letters.share_of_mails()).await?;
                }
            }
        }
        let shown = match &codes {
            Some(codes) => {
                codes.store(&mut tx, user.id, visit.now).await?;
                events.push(visit.event(&user, Action::BackupCodesCreate, Outcome::Success, "Backup codes were made."));
                codes.shown.join("\n")
            }
            None => String::new(),
        };
        // What confirmed it was shown by its holder just now: that is evidence too.
        let proof = match new {
            New::App { key, .. } => FactorVerified::new(key.kind(), Some(credential.id), visit.now),
            New::Key(key) => key.proof(credential.id, visit.now),
            New::Phone { .. } => FactorVerified::new(FactorKind::Sms, Some(credential.id), visit.now),
        };
        let state = FlowState {
            step: Step::BackupCodes { codes: flow.seal(shown.as_bytes(), &self.keys, &*self.rng), enrolled: true },
            evidence: with_evidence(flow.state.evidence.clone(), proof.evidence()),
            ..flow.state.clone()
        };
        flow.advance(&mut tx, state).await?;
        let token = self.after_factor_change(&mut tx, visit, &user, current, &proof).await?;
        tx.keep_flow(flow.id).await?;
        tx.commit(&events).await?;
        self.forget_user(user.id);
        Ok(Enrolling::Done { flow, token })
    }

    /// A changed factor ends the person's other sessions and gives this one a new id (S-SESS-2, -5).
    async fn after_factor_change(
        &self,
        tx: &mut Tx,
        visit: &Visit<'_>,
        user: &User,
        current: Option<Current<'_>>,
        proof: &FactorVerified,
    ) -> Result<Option<SessionToken>, AuthError> {
        let keep = current.map(|current| current.live.authn.session);
        tx.end_sessions_of(user.id, keep, "a way to sign in was added", visit.now).await?;
        let Some(current) = current else { return Ok(None) };
        let evidence = with_evidence(current.live.authn.evidence.clone(), proof.evidence());
        let session = current.live.authn.session;
        let token =
            issue::add_evidence(tx, session, current.token, current.host, &evidence, visit.now, &*self.rng).await?;
        Ok(Some(token))
    }

    /// The codes on the page, until the person has said that they are saved.
    pub fn shown_codes(&self, flow: &Flow) -> Result<Vec<String>, AuthError> {
        let Step::BackupCodes { codes, .. } = &flow.state.step else { return Err(AuthError::FlowGone) };
        let plain = flow.unseal(codes, &self.keys)?;
        let text = std::str::from_utf8(plain.expose()).map_err(|_| AuthError::FlowGone)?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The person has saved the codes: the ceremony ends, and they are never shown again.
    pub async fn finish_enrollment(
        &self,
        visit: &Visit<'_>,
        flow: Flow,
        seat: Seat<'_>,
    ) -> Result<Finished, AuthError> {
        let Step::BackupCodes { .. } = flow.state.step else { return Err(AuthError::FlowGone) };
        let mut tx = self.store.begin().await?;
        tx.hold(flow.user.id, flow.user.epoch).await?;
        flow.consume(&mut tx).await?;
        match flow.state.kind {
            FlowKind::FirstLogin | FlowKind::SignUp => {
                let (user, state) = (flow.user.clone(), flow.state);
                // The mail about the way that was added a moment ago says it.
                let seat = Seat { device: None, ..seat };
                let done = self.sign_in(tx, visit, user, state.evidence, state.goal, seat, Vec::new()).await?;
                Ok(Finished::SignedIn(Box::new(done)))
            }
            FlowKind::AccessPass => {
                tx.commit_unaudited(Unaudited::FlowProgress).await?;
                Ok(Finished::SignInNow)
            }
            FlowKind::Account { .. } => {
                tx.commit_unaudited(Unaudited::FlowProgress).await?;
                Ok(Finished::Account)
            }
            FlowKind::SignIn => Err(AuthError::FlowGone),
        }
    }

    /// Sets the first password of a sign-up.
    pub async fn sign_up_password(
        &self,
        visit: &Visit<'_>,
        flow: &mut Flow,
        typed: &str,
    ) -> Result<Result<(), PasswordRule>, AuthError> {
        // As for the link itself: it is for someone who has no factor yet, and one may have come since.
        let for_newcomer = flow.state.kind == FlowKind::SignUp && !flow.user.ever_enrolled;
        if !for_newcomer || flow.state.step != Step::SetPassword {
            return Err(AuthError::FlowGone);
        }
        let password = match self.check_new_password(visit, &flow.user, typed) {
            Ok(password) => password,
            Err(rule) => return Ok(Err(rule)),
        };
        let hash = self.passwords.hash(password).await?;
        let proof = PasswordVerified::new(flow.user.clone(), visit.now);
        let event = visit.event(&flow.user, Action::PasswordChange, Outcome::Success, "The first password was set.");
        let state =
            FlowState { step: Step::EnrollTotp { key: None }, evidence: vec![proof.evidence()], ..flow.state.clone() };
        let mut tx = self.store.begin().await?;
        tx.hold(flow.user.id, flow.user.epoch).await?;
        flow.advance(&mut tx, state).await?;
        tx.set_password(flow.user.id, &hash, visit.now).await?;
        tx.keep_flow(flow.id).await?;
        tx.commit(&[event]).await?;
        Ok(Ok(()))
    }

    /// Whether a password may become one of this person (S-LOGIN-11).
    pub(super) fn check_new_password(
        &self,
        visit: &Visit<'_>,
        user: &User,
        typed: &str,
    ) -> Result<Secret<String>, PasswordRule> {
        let own = [user.name.as_str(), user.display.as_str(), visit.snapshot.title.as_str()];
        NewPassword::check(typed, visit.snapshot.factors.password_min, &own)
    }

    pub(super) async fn new_backup_codes(&self, user: UserId, count: u8) -> Result<NewBackupCodes, AuthError> {
        let salt = rng::bytes::<16>(&*self.rng);
        let mut shown = Vec::new();
        let mut hashes = Vec::new();
        for _ in 0..count {
            let code = BackupCode::generate(&*self.rng);
            hashes.push(code.hash(user, salt, &self.passwords).await?);
            shown.push(code.grouped());
        }
        Ok(NewBackupCodes { shown, salt, hashes })
    }

    pub(super) fn new_credential(
        &self,
        user: UserId,
        (kind, key): (FactorKind, &[u8]),
        last_step: i64,
        label: String,
        now: Timestamp,
    ) -> Credential {
        let id = CredentialId::new(now, &*self.rng);
        Credential {
            id,
            user,
            kind,
            label,
            secret: self.keys.seal(&seed_place(&id), key, &*self.rng),
            last_step,
            failures: 0,
            created_at: now,
            last_used_at: None,
            disabled_at: None,
        }
    }

    fn key_credential(
        &self,
        user: UserId,
        new: &NewKey,
        label: String,
        now: Timestamp,
    ) -> Result<Credential, AuthError> {
        let id = CredentialId::new(now, &*self.rng);
        Ok(Credential {
            id,
            user,
            kind: FactorKind::Webauthn,
            label,
            secret: self.keys.seal(&seed_place(&id), &new.plain()?, &*self.rng),
            last_step: new.counter(),
            failures: 0,
            created_at: now,
            last_used_at: None,
            disabled_at: None,
        })
    }

    /// The key that is on the page; `None` when it is of the other kind.
    fn pending_key(&self, flow: &Flow, pending: &PendingKey, kind: FactorKind) -> Result<Option<AppKey>, AuthError> {
        Ok(AppKey::from_bytes(kind, flow.unseal(&pending.sealed, &self.keys)?.expose()))
    }
}

impl NewBackupCodes {
    /// Stores the set in place of any older one.
    pub(super) async fn store(&self, tx: &mut Tx, user: UserId, now: Timestamp) -> Result<(), AuthError> {
        Ok(tx.replace_backup_codes(user, self.salt, &self.hashes, now).await?)
    }
}

/// For the trail: the event of codes made outside of an enrollment.
pub(super) fn codes_event(visit: &Visit<'_>, user: &User) -> AuditEvent {
    visit.event(user, Action::BackupCodesCreate, Outcome::Success, "New backup codes were made; the old ones ended.")
}
