//! Is this the answer of a security key or passkey of this person to a question of ours
//! (WebAuthn level 3, section 7)?
//!
//! A question is a random challenge with what was asked. It stands sealed in the page that asks, for
//! ten minutes, and opens only for the ceremony that it was made for; a row is written when its
//! answer is accepted. So it serves once, over all replicas, and a stranger who only looks at the
//! sign-in page leaves nothing behind in the store: no counter has to keep strangers from passkeys,
//! and so none can close them to their owners (S-LOGIN-4).
//!
//! `webauthn-rs-core` checks challenge, origin, rpId, flags, counter and signature. The crate above
//! it knows passkeys and security keys as two kinds, each with one wish for user verification; here
//! one kind serves both, and what a use was worth is what its own assertion says (S-WA-1). What that
//! crate adds is done here: whose the key is, that the id is unique, that a question serves once.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;
use webauthn_rs_core::WebauthnCore;
use webauthn_rs_core::error::WebauthnError;
use webauthn_rs_core::proto::{
    AttestationConveyancePreference, AuthenticationState, Credential as Key, PublicKeyCredential,
    RegisterPublicKeyCredential, RegistrationState, ResidentKeyRequirement, UserVerificationPolicy,
};

use super::super::factor::Spend;
use super::super::flow::Browser;
use super::super::plan::{Enrolled, Way};
use super::super::proof::FactorVerified;
use super::super::{Auth, AuthError, Visit};
use super::totp::seed_place;
use crate::base::clock::Timestamp;
use crate::base::ids::{CredentialId, FlowId, SessionId, UserId};
use crate::config::snapshot::Snapshot;
use crate::crypto::{Purpose, sha256};
use crate::domain::audit::KEY_COPIED;
use crate::domain::factor::FactorKind;
use crate::domain::host::HostName;
use crate::domain::user::User;
use crate::store::{Credential, StoreError, Tx};

/// How long a question may be answered (SECURITY.md section 3: a sign-in flow).
const QUESTION_LIFE: Duration = Duration::from_secs(600);
/// What was answered is remembered longer, for replicas whose clock is behind.
const SPENT_SLACK: Duration = Duration::from_secs(120);
/// Answers are a few kB; certificates of attestation, which we do not ask for, would be more.
const MAX_ANSWER: usize = 32 * 1024;

/// The site that keys are for: the host of our pages, never a domain above it, and its one origin
/// (S-WA-1). An app on a sibling host asks in vain.
pub struct Rp(WebauthnCore);

/// What a question is for. Its answer counts nowhere else (S-LOGIN-6).
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    Enroll(FlowId),
    SignIn(FlowId),
    StepUp(SessionId),
    /// A sign-in without a name: this browser, whoever sits there.
    Browser(Browser),
}

/// A question for a page: what its script hands to the browser, and the sealed rest.
#[derive(Clone, Debug)]
pub struct Question {
    pub options: String,
    pub sealed: String,
}

/// What a page sent back.
#[derive(Clone, Copy)]
pub struct KeyAnswer<'a> {
    pub sealed: &'a str,
    pub answer: &'a str,
}

/// Why an answer does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyTrouble {
    /// The question is over ten minutes old, or is of another ceremony.
    TooOld,
    /// This very answer counted before.
    Used,
    /// The new key is set up already, here or for somebody else.
    Taken,
    /// A key that this person has not set up.
    NotTheirs,
    /// The page asks for PIN, finger or face, and the key checked none.
    NotVerified,
    /// Its counter went back: there are two of it (WebAuthn section 6.1.1).
    Copied,
    /// Not an answer to this question: another site, another challenge, a wrong signature.
    Wrong,
}

impl KeyTrouble {
    /// For the trail.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooOld => "The answer of the key came too late, or belongs to another sign-in.",
            Self::Used => "The answer of the key was already used.",
            Self::Taken => "The key is set up already.",
            Self::NotTheirs => "The key is not set up for this account.",
            Self::NotVerified => "The key did not check who holds it.",
            Self::Copied => KEY_COPIED,
            Self::Wrong => "The answer of the key was not right.",
        }
    }
}

/// An answer that is right. It becomes a proof only by winning the writes that spend it.
#[derive(Debug)]
pub struct KeyUse {
    credential: CredentialId,
    counter: u32,
    user_verified: bool,
    /// Set where the key's state changed (it is backed up now).
    resealed: Option<Vec<u8>>,
    question: Opened,
}

/// A key that may be enrolled.
pub struct NewKey {
    key: Key,
    question: Opened,
}

/// The row that spends a question.
#[derive(Clone, Copy, Debug)]
struct Opened {
    hash: [u8; 32],
    until: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Sealed<T> {
    until: Timestamp,
    state: T,
}

impl Rp {
    /// `None` at an IP address: browsers have no WebAuthn there.
    #[must_use]
    pub fn at(snapshot: &Snapshot, host: &HostName) -> Option<Self> {
        let name = host.name();
        if name.starts_with('[') || name.parse::<std::net::Ipv4Addr>().is_ok() {
            return None;
        }
        let origin = Url::parse(&format!("{}://{host}", snapshot.public_scheme().as_str())).ok()?;
        let (subdomains, any_port) = (Some(false), Some(false));
        let core = WebauthnCore::new_unsafe_experts_only(
            &snapshot.title,
            name,
            vec![origin],
            QUESTION_LIFE,
            subdomains,
            any_port,
        );
        Some(Self(core))
    }
}

impl Bound {
    fn owner(self) -> Vec<u8> {
        let (what, id): (&[u8], &[u8]) = match &self {
            Self::Enroll(flow) => (b"enroll\0", flow.as_bytes()),
            Self::SignIn(flow) => (b"sign-in\0", flow.as_bytes()),
            Self::StepUp(session) => (b"step-up\0", session.as_bytes()),
            Self::Browser(browser) => (b"browser\0", browser.hash()),
        };
        [what, id].concat()
    }
}

impl Opened {
    async fn spend(&self, tx: &mut Tx) -> Result<bool, StoreError> {
        tx.spend_question(&self.hash, self.until.plus(SPENT_SLACK)).await
    }
}

impl KeyUse {
    #[must_use]
    pub fn credential(&self) -> CredentialId {
        self.credential
    }

    /// Spends question and counter within `tx`. `None` when another request was first.
    pub(in crate::auth) async fn redeem(
        &self,
        tx: &mut Tx,
        now: Timestamp,
    ) -> Result<Option<FactorVerified>, StoreError> {
        if !self.question.spend(tx).await? || !tx.use_key(self.credential, self.counter.into(), now).await? {
            return Ok(None);
        }
        if let Some(secret) = &self.resealed {
            tx.reseal_credential(self.credential, secret).await?;
        }
        Ok(Some(FactorVerified::of_key(self.credential, now, self.user_verified)))
    }
}

impl NewKey {
    /// What is sealed of it.
    pub(in crate::auth) fn plain(&self) -> Result<Vec<u8>, AuthError> {
        serde_json::to_vec(&self.key).map_err(|_| AuthError::Store(StoreError::Corrupt("a security key")))
    }

    pub(in crate::auth) fn counter(&self) -> i64 {
        self.key.counter.into()
    }

    pub(in crate::auth) fn proof(&self, id: CredentialId, now: Timestamp) -> FactorVerified {
        FactorVerified::of_key(id, now, self.key.user_verified)
    }

    /// Spends the question and takes the id, which nobody may have (S-WA-2).
    pub(in crate::auth) async fn claim(
        &self,
        tx: &mut Tx,
        id: CredentialId,
    ) -> Result<Result<(), KeyTrouble>, StoreError> {
        if !self.question.spend(tx).await? {
            return Ok(Err(KeyTrouble::Used));
        }
        match tx.name_external(id, &sha256(self.key.cred_id.as_slice())).await {
            Ok(()) => Ok(Ok(())),
            Err(StoreError::Conflict) => Ok(Err(KeyTrouble::Taken)),
            Err(other) => Err(other),
        }
    }
}

/// How the keys are listed: as one way, under the name of the one that was used last. The browser
/// lets the person choose among them.
pub(super) fn way(enrolled: &Enrolled) -> Option<Way> {
    let last = enrolled.keys().max_by_key(|c| (c.last_used_at, c.created_at))?;
    Some(Way {
        kind: FactorKind::Webauthn,
        label: last.label.clone(),
        last_used_at: last.last_used_at,
        left: None,
        elsewhere: false,
        unfit: None,
    })
}

impl Auth {
    /// A question to the keys that `enrolled` has. With `verified` the key must check who holds it;
    /// else it should where it can, and the assertion says whether it did.
    pub(in crate::auth) fn ask_key(
        &self,
        visit: &Visit<'_>,
        rp: &Rp,
        bound: Bound,
        enrolled: &Enrolled,
        verified: bool,
    ) -> Result<Question, AuthError> {
        let keys: Vec<Key> = enrolled.keys().map(|credential| self.open_key(credential)).collect::<Result<_, _>>()?;
        self.ask(visit, rp, bound, keys, verified)
    }

    /// A question to whatever passkey there is in this browser; it must check who holds it.
    pub(in crate::auth) fn ask_any_key(
        &self,
        visit: &Visit<'_>,
        rp: &Rp,
        browser: Browser,
    ) -> Result<Question, AuthError> {
        self.ask(visit, rp, Bound::Browser(browser), Vec::new(), true)
    }

    fn ask(
        &self,
        visit: &Visit<'_>,
        rp: &Rp,
        bound: Bound,
        keys: Vec<Key>,
        verified: bool,
    ) -> Result<Question, AuthError> {
        let policy = if verified { UserVerificationPolicy::Required } else { UserVerificationPolicy::Preferred };
        let builder = rp.0.new_challenge_authenticate_builder(keys, Some(policy)).map_err(broken)?;
        let (options, mut state) = rp.0.generate_challenge_authenticate(builder).map_err(broken)?;
        // Which keys are allowed is asked anew of the store when the answer comes.
        state.set_allowed_credentials(Vec::new());
        self.sealed_question(visit, bound, &options.public_key, state)
    }

    /// A question for a new key. Those that the person has are excluded, so that one key is not
    /// enrolled twice; it may become a passkey, which signs in without a name.
    pub(in crate::auth) fn ask_new_key(
        &self,
        visit: &Visit<'_>,
        rp: &Rp,
        flow: FlowId,
        user: &User,
        enrolled: &Enrolled,
    ) -> Result<Question, AuthError> {
        let known = enrolled.keys().map(|credential| Ok(self.open_key(credential)?.cred_id));
        let known = known.collect::<Result<Vec<_>, AuthError>>()?;
        let shown = if user.display.is_empty() { user.name.as_str() } else { &user.display };
        let builder =
            rp.0.new_challenge_register_builder(user.id.as_bytes(), user.name.as_str(), shown)
                .map_err(broken)?
                .attestation(AttestationConveyancePreference::None)
                .user_verification_policy(UserVerificationPolicy::Preferred)
                .exclude_credentials(Some(known));
        let (mut options, state) = rp.0.generate_challenge_register(builder).map_err(broken)?;
        if let Some(selection) = &mut options.public_key.authenticator_selection {
            selection.resident_key = Some(ResidentKeyRequirement::Preferred);
        }
        self.sealed_question(visit, Bound::Enroll(flow), &options.public_key, state)
    }

    /// Looks at an answer of a known person.
    pub(in crate::auth) async fn look_at_key(
        &self,
        visit: &Visit<'_>,
        rp: &Rp,
        user: UserId,
        enrolled: &Enrolled,
        bound: Bound,
        answer: KeyAnswer<'_>,
    ) -> Result<Result<Spend, KeyTrouble>, AuthError> {
        let opened = self.opened::<AuthenticationState, PublicKeyCredential>(visit, bound, answer);
        let (state, answered, question) = match opened {
            Ok(opened) => opened,
            Err(trouble) => return Ok(Err(trouble)),
        };
        if self.store.is_spent(&question.hash).await? {
            return Ok(Err(KeyTrouble::Used));
        }
        // Whose the key is decides the store, by the id that the answer names; an answer with
        // another person's key is refused before anything of it is looked at (S-WA-2).
        let found = self.store.credential_by_external(&sha256(answered.get_credential_id())).await?;
        let Some(credential) = found.and_then(|c| enrolled.keys().find(|own| own.id == c.id)) else {
            return Ok(Err(KeyTrouble::NotTheirs));
        };
        if answered.get_user_unique_id().is_some_and(|named| named != user.as_bytes()) {
            return Ok(Err(KeyTrouble::NotTheirs));
        }
        Ok(self.verified(rp, &state, &answered, credential, question)?.map(Spend::Key))
    }

    /// Looks at an answer that has to say itself whose it is: the key's owner, and the proof to spend.
    pub(in crate::auth) async fn look_at_any_key(
        &self,
        visit: &Visit<'_>,
        rp: &Rp,
        browser: Browser,
        answer: KeyAnswer<'_>,
    ) -> Result<Result<(UserId, KeyUse), (Option<UserId>, KeyTrouble)>, AuthError> {
        let bound = Bound::Browser(browser);
        let opened = self.opened::<AuthenticationState, PublicKeyCredential>(visit, bound, answer);
        let (state, answered, question) = match opened {
            Ok(opened) => opened,
            Err(trouble) => return Ok(Err((None, trouble))),
        };
        if self.store.is_spent(&question.hash).await? {
            return Ok(Err((None, KeyTrouble::Used)));
        }
        let found = self.store.credential_by_external(&sha256(answered.get_credential_id())).await?;
        let Some(credential) = found.filter(|c| c.disabled_at.is_none()) else {
            return Ok(Err((None, KeyTrouble::NotTheirs)));
        };
        // WebAuthn section 7.2 step 6: the handle must be there, and be that of the key's owner.
        if answered.get_user_unique_id() != Some(credential.user.as_bytes().as_slice()) {
            return Ok(Err((None, KeyTrouble::NotTheirs)));
        }
        Ok(match self.verified(rp, &state, &answered, &credential, question)? {
            Ok(used) if used.user_verified => Ok((credential.user, used)),
            Ok(_) => Err((Some(credential.user), KeyTrouble::NotVerified)),
            Err(trouble) => Err((Some(credential.user), trouble)),
        })
    }

    /// Looks at a new key.
    pub(in crate::auth) fn look_at_new_key(
        &self,
        visit: &Visit<'_>,
        rp: &Rp,
        flow: FlowId,
        answer: KeyAnswer<'_>,
    ) -> Result<NewKey, KeyTrouble> {
        let bound = Bound::Enroll(flow);
        let (state, answered, question) =
            self.opened::<RegistrationState, RegisterPublicKeyCredential>(visit, bound, answer)?;
        match rp.0.register_credential(&answered, &state, None) {
            Ok(key) => Ok(NewKey { key, question }),
            Err(error) => {
                tracing::debug!(%error, "a new security key was refused");
                Err(KeyTrouble::Wrong)
            }
        }
    }

    fn verified(
        &self,
        rp: &Rp,
        state: &AuthenticationState,
        answered: &PublicKeyCredential,
        credential: &Credential,
        question: Opened,
    ) -> Result<Result<KeyUse, KeyTrouble>, AuthError> {
        if is_framed(answered.response.client_data_json.as_ref()) {
            tracing::debug!("an answer of a security key was refused: it was asked in another site's frame");
            return Ok(Err(KeyTrouble::Wrong));
        }
        let mut key = self.open_key(credential)?;
        match rp.0.authenticate_single_credential(answered, state, &key) {
            Ok(result) => {
                let resealed = if result.backup_state() == key.backup_state {
                    None
                } else {
                    key.backup_state = result.backup_state();
                    Some(self.seal_key(&credential.id, &key)?)
                };
                Ok(Ok(KeyUse {
                    credential: credential.id,
                    counter: result.counter(),
                    user_verified: result.user_verified(),
                    resealed,
                    question,
                }))
            }
            Err(WebauthnError::CredentialPossibleCompromise) => Ok(Err(KeyTrouble::Copied)),
            Err(WebauthnError::UserNotVerified) => Ok(Err(KeyTrouble::NotVerified)),
            Err(error) => {
                tracing::debug!(%error, "an answer of a security key was refused");
                Ok(Err(KeyTrouble::Wrong))
            }
        }
    }

    /// The key of a row, with the counter of the row: there it is written by a condition.
    fn open_key(&self, credential: &Credential) -> Result<Key, AuthError> {
        let plain = self.keys.open(&seed_place(&credential.id), &credential.secret)?;
        let mut key: Key = serde_json::from_slice(plain.expose())
            .map_err(|_| AuthError::Store(StoreError::Corrupt("a security key")))?;
        key.counter = u32::try_from(credential.last_step).unwrap_or(u32::MAX);
        Ok(key)
    }

    fn seal_key(&self, id: &CredentialId, key: &Key) -> Result<Vec<u8>, AuthError> {
        let plain = serde_json::to_vec(key).map_err(|_| AuthError::Store(StoreError::Corrupt("a security key")))?;
        Ok(self.keys.seal(&seed_place(id), &plain, &*self.rng))
    }

    fn sealed_question<T: Serialize>(
        &self,
        visit: &Visit<'_>,
        bound: Bound,
        options: &impl Serialize,
        state: T,
    ) -> Result<Question, AuthError> {
        let text = |error| {
            AuthError::Store({
                tracing::error!(%error, "a question to a security key cannot be written");
                StoreError::Corrupt("a question to a security key")
            })
        };
        let options = serde_json::to_string(options).map_err(text)?;
        let plain = serde_json::to_vec(&Sealed { until: visit.now.plus(QUESTION_LIFE), state }).map_err(text)?;
        Ok(Question { options, sealed: self.keys.seal_token_for(Purpose::KeyQuestion, &bound.owner(), &plain) })
    }

    /// The question behind an answer, if it is of this ceremony and not too old, and the answer.
    fn opened<T: DeserializeOwned, A: DeserializeOwned>(
        &self,
        visit: &Visit<'_>,
        bound: Bound,
        answer: KeyAnswer<'_>,
    ) -> Result<(T, A, Opened), KeyTrouble> {
        let plain = self
            .keys
            .open_token_for(Purpose::KeyQuestion, &bound.owner(), answer.sealed.as_bytes())
            .map_err(|_| KeyTrouble::TooOld)?;
        let sealed: Sealed<T> = serde_json::from_slice(&plain).map_err(|_| KeyTrouble::TooOld)?;
        if sealed.until <= visit.now {
            return Err(KeyTrouble::TooOld);
        }
        if answer.answer.len() > MAX_ANSWER {
            return Err(KeyTrouble::Wrong);
        }
        let answered: A = serde_json::from_str(answer.answer).map_err(|_| KeyTrouble::Wrong)?;
        Ok((sealed.state, answered, Opened { hash: sha256(&plain), until: sealed.until }))
    }
}

/// The library refuses to ask: only values of ours can be at fault.
fn broken(error: WebauthnError) -> AuthError {
    tracing::error!(%error, "a security key cannot be asked");
    AuthError::Store(StoreError::Corrupt("a security key"))
}

/// Whether the browser says that another site's page asked, with ours in a frame (WebAuthn Level 3, section 7.2):
/// our pages are in none, and the library looks only where a key is made.
fn is_framed(client_data: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Said {
        cross_origin: Option<bool>,
        top_origin: Option<serde_json::Value>,
    }
    serde_json::from_slice(client_data)
        .map_or(true, |said: Said| said.cross_origin == Some(true) || said.top_origin.is_some())
}
