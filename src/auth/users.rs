//! Accounts as the command line changes them. It holds the key ring and stands outside of every
//! ceremony; what it does is on the trail with the operating system's account (S-ADM-2).

use super::Auth;
use super::enroll::NewBackupCodes;
use super::error::AuthError;
use super::factors::{HotpKey, HotpToken, TotpKey};
use super::link::Link;
use super::plan::Enrolled;
use super::throttle::Charges;
use crate::base::clock::Timestamp;
use crate::base::ids::{CredentialId, UserId};
use crate::base::secret::Secret;
use crate::config::snapshot::Snapshot;
use crate::crypto::{NewPassword, PasswordRule};
use crate::domain::audit::{Action, Actor, AuditEvent, Outcome};
use crate::domain::factor::FactorKind;
use crate::domain::phone::PhoneNumber;
use crate::domain::user::{GroupName, User, UserName, UserStatus};
use crate::store::{Credential, NewUser, StoreError};

/// Who acts at the gate's machine, and when.
#[derive(Clone, Debug)]
pub struct Operator {
    pub account: String,
    pub now: Timestamp,
}

/// A new account, as asked for.
#[derive(Clone, Debug)]
pub struct Draft {
    pub name: UserName,
    pub display: String,
    pub email: Option<String>,
    pub groups: Vec<GroupName>,
}

/// How the new account gets its password.
#[derive(Debug)]
pub enum FirstPassword {
    /// Given now. A first factor may be enrolled after it, within the file's `first_login` window.
    Given(Secret<String>),
    /// Chosen by the person, behind a sign-up link.
    ByLink,
}

/// Why an account was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    #[error("there is an account of this name already")]
    NameTaken,
    #[error("the account {0} differs from this name only in letter case, and many apps take the two for one person")]
    NameTooNear(UserName),
    #[error("{0}")]
    Password(PasswordRule),
    #[error(transparent)]
    Auth(#[from] AuthError),
}

impl From<StoreError> for UserError {
    fn from(error: StoreError) -> Self {
        Self::Auth(error.into())
    }
}

impl Operator {
    /// An act on `user`, for the trail.
    #[must_use]
    pub fn event(&self, user: &User, action: Action, reason: &str) -> AuditEvent {
        let actor = Actor::Operator { account: self.account.clone() };
        AuditEvent::new(self.now, actor, action, Outcome::Success, reason).about(user.id, user.name.as_str())
    }
}

impl Auth {
    /// Adds an account. With a link, nobody but its holder can set the password; with a password,
    /// the dated window opens in which a first factor may be enrolled (S-ENR-1).
    pub async fn add_user(
        &self,
        operator: &Operator,
        snapshot: &Snapshot,
        draft: Draft,
        password: FirstPassword,
    ) -> Result<(User, Option<Link>), UserError> {
        let user = User {
            id: UserId::new(operator.now, &*self.rng),
            name: draft.name,
            display: draft.display,
            email: draft.email,
            groups: draft.groups,
            status: UserStatus::Active,
            created_at: operator.now,
            first_login_until: match &password {
                FirstPassword::Given(_) => Some(operator.now.plus(snapshot.factors.first_login)),
                FirstPassword::ByLink => None,
            },
            ever_enrolled: false,
            epoch: 0,
        };
        let hash = match password {
            FirstPassword::Given(password) => Some(self.hash_new(snapshot, &user, &password).await?),
            FirstPassword::ByLink => None,
        };
        let mut tx = self.store.begin().await?;
        let new = NewUser {
            id: user.id,
            name: user.name.clone(),
            display: user.display.clone(),
            email: user.email.clone(),
            groups: user.groups.clone(),
            first_login_until: user.first_login_until,
            now: operator.now,
        };
        // Apps fold letter case in `Remote-User`: "BOB" would be "bob" there.
        if let Some(other) = tx.name_near(&user.name).await? {
            tx.rollback().await;
            return Err(UserError::NameTooNear(other));
        }
        if !tx.insert_user(&new).await? {
            tx.rollback().await;
            return Err(UserError::NameTaken);
        }
        let mut events = vec![operator.event(&user, Action::UserAdd, "An account was added.")];
        let link = match &hash {
            Some(hash) => {
                tx.set_password(user.id, hash, operator.now).await?;
                None
            }
            None => {
                events.push(operator.event(&user, Action::LinkCreate, "A sign-up link was made."));
                Some(self.new_link(&mut tx, &user, operator.now).await?)
            }
        };
        tx.commit(&events).await?;
        Ok((user, link))
    }

    /// Sets a password and ends the person's sessions and ceremonies. Factors stay as they are (S-REC-1).
    pub async fn set_password(
        &self,
        operator: &Operator,
        snapshot: &Snapshot,
        user: &User,
        password: &Secret<String>,
    ) -> Result<(), UserError> {
        let hash = self.hash_new(snapshot, user, password).await?;
        let mut tx = self.store.begin().await?;
        tx.set_password(user.id, &hash, operator.now).await?;
        tx.end_sessions_of(user.id, None, "the password was set by an operator", operator.now).await?;
        // Whoever knew the old one may be half-way in.
        tx.end_flows_of(user.id).await?;
        tx.commit(&[operator.event(user, Action::PasswordChange, "The password was set.")]).await?;
        self.forget_user(user.id);
        Ok(())
    }

    /// Changes what people and apps read beside the name; `None` leaves it, `Some(None)` takes the address away.
    pub async fn set_profile(
        &self,
        operator: &Operator,
        user: &mut User,
        display: Option<String>,
        email: Option<Option<String>>,
    ) -> Result<(), AuthError> {
        let reason = match (&display, &email) {
            (Some(_), Some(_)) => "The display name and the e-mail address were changed.",
            (Some(_), None) => "The display name was changed.",
            (None, Some(_)) => "The e-mail address was changed.",
            (None, None) => return Ok(()),
        };
        user.display = display.unwrap_or_else(|| std::mem::take(&mut user.display));
        user.email = email.unwrap_or_else(|| user.email.take());
        let mut tx = self.store.begin().await?;
        if !tx.set_profile(user.id, &user.display, user.email.as_deref()).await? {
            tx.rollback().await;
            return Err(AuthError::Raced);
        }
        tx.commit(&[operator.event(user, Action::UserChange, reason)]).await?;
        self.forget_user(user.id);
        Ok(())
    }

    /// Asks people to set up a second factor; the mail is written with the trail's rows.
    pub async fn remind(&self, operator: &Operator, users: &[User]) -> Result<(), AuthError> {
        let reason = "The person was asked to set up a second factor.";
        let events: Vec<_> = users.iter().map(|user| operator.event(user, Action::EnrollRemind, reason)).collect();
        if !events.is_empty() {
            self.store.audit_only(&events).await?;
        }
        Ok(())
    }

    pub async fn set_groups(&self, operator: &Operator, user: &User, groups: &[GroupName]) -> Result<(), AuthError> {
        let mut tx = self.store.begin().await?;
        tx.set_groups(user.id, groups).await?;
        tx.commit(&[operator.event(user, Action::UserChange, "The groups were changed.")]).await?;
        self.forget_user(user.id);
        Ok(())
    }

    /// Disabling ends every session at once; enabling opens nothing by itself.
    pub async fn set_enabled(&self, operator: &Operator, user: &User, enabled: bool) -> Result<(), AuthError> {
        let (status, action, reason) = match enabled {
            true => (UserStatus::Active, Action::UserEnable, "The account was enabled."),
            false => (UserStatus::Disabled, Action::UserDisable, "The account was disabled."),
        };
        let mut tx = self.store.begin().await?;
        tx.set_status(user.id, status, operator.now).await?;
        tx.commit(&[operator.event(user, action, reason)]).await?;
        self.forget_user(user.id);
        Ok(())
    }

    /// Ends the pauses of an account: tries for its password and its codes begin anew. `false` where none were counted.
    pub async fn unpause(&self, operator: &Operator, user: &User) -> Result<bool, AuthError> {
        let mut tx = self.store.begin().await?;
        if tx.clear_attempts_of(&Charges::counters_of(user.id)).await? == 0 {
            tx.rollback().await;
            return Ok(false);
        }
        tx.commit(&[operator.event(user, Action::UserUnpause, "The tries that were counted were forgotten.")]).await?;
        Ok(true)
    }

    /// Until when tries of this account are refused, by counters of its own.
    pub async fn paused_until(&self, user: &User, now: Timestamp) -> Result<Option<Timestamp>, AuthError> {
        Ok(self.store.paused_until(&Charges::counters_of(user.id), now).await?)
    }

    /// Removes an account. Its name is free again, its id never is (S-ID-7).
    pub async fn remove_user(&self, operator: &Operator, user: &User) -> Result<(), AuthError> {
        let mut tx = self.store.begin().await?;
        tx.remove_user(user.id, operator.now).await?;
        tx.commit(&[operator.event(user, Action::UserRemove, "The account was removed.")]).await?;
        self.forget_user(user.id);
        Ok(())
    }

    /// Enrolls an authenticator app without its first code: the operator hands the address over.
    pub async fn operator_adds_totp(
        &self,
        operator: &Operator,
        snapshot: &Snapshot,
        user: &User,
        label: Option<String>,
    ) -> Result<(CredentialId, Secret<String>), AuthError> {
        let key = TotpKey::generate(&snapshot.factors, &*self.rng);
        let label = label.unwrap_or_else(|| "Authenticator app".to_owned());
        let credential = self.new_credential(user.id, (FactorKind::Totp, &key.to_bytes()), 0, label, operator.now);
        self.operator_enrolls(operator, user, &credential, "An authenticator app was enrolled by an operator.").await?;
        Ok((credential.id, key.uri(&snapshot.title, user.name.as_str())))
    }

    /// Enrolls a token that counts: one that was handed over with its secret, or one that is yet to be written,
    /// for an app or a blank token.
    pub async fn operator_adds_hotp(
        &self,
        operator: &Operator,
        snapshot: &Snapshot,
        user: &User,
        token: Option<HotpToken>,
        label: Option<String>,
    ) -> Result<(CredentialId, Secret<String>), AuthError> {
        let token = token.unwrap_or_else(|| HotpToken { key: HotpKey::generate(&*self.rng), next: 0 });
        let label = label.unwrap_or_else(|| "Code generator".to_owned());
        let plain = token.key.to_bytes();
        // The last counter that was used is the one before the next.
        let credential = self.new_credential(user.id, (FactorKind::Hotp, &plain), token.next - 1, label, operator.now);
        self.operator_enrolls(operator, user, &credential, "A code generator was enrolled by an operator.").await?;
        Ok((credential.id, token.key.uri(&snapshot.title, user.name.as_str(), token.next)))
    }

    /// Sets the number that an account's codes go to; the operator vouches for it. It takes the place of an older one.
    pub async fn operator_adds_number(
        &self,
        operator: &Operator,
        user: &User,
        number: &PhoneNumber,
    ) -> Result<CredentialId, AuthError> {
        let key = (FactorKind::Sms, number.as_str().as_bytes());
        let credential = self.new_credential(user.id, key, 0, number.masked(), operator.now);
        let mut tx = self.store.begin().await?;
        tx.mark_enrolled(user.id).await?;
        tx.insert_credential(&credential).await?;
        let reason = "A number for codes was set up by an operator.";
        let mut events = vec![operator.event(user, Action::FactorEnroll, reason).with_factor(&credential.label)];
        for label in tx.remove_others_of_kind(user.id, FactorKind::Sms, credential.id).await? {
            let reason = "Another number took the place of this one.";
            events.push(operator.event(user, Action::FactorRemove, reason).with_factor(&label));
        }
        tx.commit(&events).await?;
        Ok(credential.id)
    }

    async fn operator_enrolls(
        &self,
        operator: &Operator,
        user: &User,
        credential: &Credential,
        reason: &str,
    ) -> Result<(), AuthError> {
        let mut tx = self.store.begin().await?;
        tx.mark_enrolled(user.id).await?;
        tx.insert_credential(credential).await?;
        let event = operator.event(user, Action::FactorEnroll, reason).with_factor(&credential.label);
        tx.commit(&[event]).await?;
        Ok(())
    }

    /// Makes new backup codes; they are shown once, the old ones end.
    pub async fn operator_makes_codes(
        &self,
        operator: &Operator,
        snapshot: &Snapshot,
        user: &User,
    ) -> Result<NewBackupCodes, AuthError> {
        let codes = self.new_backup_codes(user.id, snapshot.factors.backup_codes).await?;
        let mut tx = self.store.begin().await?;
        // Codes are a way to confirm, so from now on the account is one that had a factor.
        tx.mark_enrolled(user.id).await?;
        codes.store(&mut tx, user.id, operator.now).await?;
        tx.commit(&[operator.event(user, Action::BackupCodesCreate, "Backup codes were made by an operator.")]).await?;
        Ok(codes)
    }

    /// Removes one way to sign in and ends the person's sessions. `false` if there is no such one.
    pub async fn operator_removes_factor(
        &self,
        operator: &Operator,
        user: &User,
        id: CredentialId,
    ) -> Result<bool, AuthError> {
        let label = self.store.credential(id).await?.map(|credential| credential.label).unwrap_or_default();
        let mut tx = self.store.begin().await?;
        if !tx.remove_credential(user.id, id).await? {
            tx.rollback().await;
            return Ok(false);
        }
        tx.end_sessions_of(user.id, None, "a way to sign in was removed", operator.now).await?;
        let event = operator.event(user, Action::FactorRemove, "A way to sign in was removed by an operator.");
        tx.commit(&[event.with_factor(&label)]).await?;
        self.forget_user(user.id);
        Ok(true)
    }

    /// Removes every second factor and ends the person's sessions and ceremonies. The way back is an access pass:
    /// the password alone enrolls nothing any more (S-ENR-1).
    pub async fn reset_factors(&self, operator: &Operator, user: &User) -> Result<u64, AuthError> {
        let mut tx = self.store.begin().await?;
        let removed = tx.remove_credentials(user.id).await?;
        tx.end_sessions_of(user.id, None, "the ways to sign in were reset", operator.now).await?;
        tx.end_flows_of(user.id).await?;
        tx.commit(&[operator.event(user, Action::FactorReset, "All second factors were removed.")]).await?;
        self.forget_user(user.id);
        Ok(removed)
    }

    /// What an account has enrolled, for `factor list`.
    pub async fn factors_of(&self, user: &User) -> Result<Enrolled, AuthError> {
        self.enrolled(user.id).await
    }

    async fn hash_new(&self, snapshot: &Snapshot, user: &User, password: &Secret<String>) -> Result<String, UserError> {
        let own = [user.name.as_str(), user.display.as_str(), snapshot.title.as_str()];
        let password =
            NewPassword::check(password.expose(), snapshot.factors.password_min, &own).map_err(UserError::Password)?;
        Ok(self.passwords.hash(password).await.map_err(AuthError::from)?)
    }
}
