//! Is this the right name and password? Every "no" looks and costs the same (S-LOGIN-1).

use super::device::Device;
use super::error::AuthError;
use super::proof::PasswordVerified;
use super::throttle::{self, Charges, Verdict};
use super::{Auth, Visit, actor};
use crate::base::clock::Timestamp;
use crate::base::secret::Secret;
use crate::crypto::is_own;
use crate::domain::audit::{Action, Actor, AuditEvent, Outcome};
use crate::domain::user::{User, UserName, UserStatus};

/// The answer to a name and a password.
#[derive(Debug)]
pub enum Answer {
    Right(PasswordVerified),
    /// Unknown, disabled or wrong: which one stands in the trail, never on a page.
    Wrong,
    /// Nothing was checked. It comes for names that nobody has just as for real ones.
    Pause {
        until: Timestamp,
    },
}

impl Auth {
    /// Checks a name and a password. The attempt is charged before the check; a full hashing pool
    /// gives it back, for then nothing was checked.
    pub async fn verify_password(
        &self,
        visit: &Visit<'_>,
        name: &str,
        password: &Secret<String>,
        device: &Device,
    ) -> Result<Answer, AuthError> {
        let user = match UserName::parse(name) {
            Ok(name) => self.store.user_by_name(&name).await?,
            Err(_) => None,
        };
        let device = user.as_ref().and_then(|user| device.name_for(user.id).map(|device| (user.id, device)));
        let charges = match device {
            Some((user, device)) => Charges::known_device(user, device),
            None => Charges::password(user.as_ref().map(|u| u.id), name, visit.client, &self.keys),
        };
        if let Verdict::Pause { until, counter } = charges.take(&self.store, visit.now).await? {
            if self.pauses.is_first(&counter, until, visit.now) {
                self.record(visit, user.as_ref(), name, Outcome::Refused, throttle::REFUSED).await?;
            }
            return Ok(Answer::Pause { until });
        }
        // Nobody has no hash: the pool does the same work on a decoy.
        let stored = match &user {
            Some(user) => self.store.password_hash(user.id).await?,
            None => None,
        };
        let has_password = stored.is_some();
        // While anybody's hash is still that of another system, everybody's check costs that too.
        let schemes = self.store.imported_schemes().await?;
        let imported = stored.clone().filter(|hash| !is_own(hash));
        let right = match self.passwords.verify(stored, &schemes, password.clone()).await {
            Ok(right) => right,
            Err(busy) => {
                charges.give_back(&self.store).await?;
                return Err(busy.into());
            }
        };
        match user {
            Some(user) if right && user.status == UserStatus::Active => {
                charges.succeed_password(&self.store).await?;
                if let Some(imported) = imported {
                    self.renew(visit, &user, &imported, password).await;
                }
                Ok(Answer::Right(PasswordVerified::new(user, visit.now)))
            }
            user => {
                let reason = match &user {
                    None => "No account has this name.",
                    Some(user) if user.status != UserStatus::Active => "The account is disabled.",
                    Some(_) if !has_password => "The account has no password.",
                    Some(_) => "The password was wrong.",
                };
                self.record(visit, user.as_ref(), name, Outcome::Failure, reason).await?;
                Ok(Answer::Wrong)
            }
        }
    }

    /// Makes a hash of ours of a password that was right by an imported one. Where that fails, the sign-in
    /// goes on and the next one tries again.
    async fn renew(&self, visit: &Visit<'_>, user: &User, imported: &str, password: &Secret<String>) {
        let renewed = async {
            let hash = self.passwords.hash(password.clone()).await?;
            let mut tx = self.store.begin().await?;
            if !tx.renew_password(user.id, imported, &hash).await? {
                tx.rollback().await;
                return Ok(());
            }
            let reason = "The hash of the imported password was replaced by one of this gate.";
            tx.commit(&[visit.event(user, Action::PasswordRehash, Outcome::Success, reason)]).await?;
            Ok::<_, AuthError>(())
        };
        if let Err(error) = Box::pin(renewed).await {
            tracing::warn!(%error, "the hash of an imported password stays as it was until the next sign-in");
        }
    }

    async fn record(
        &self,
        visit: &Visit<'_>,
        user: Option<&User>,
        name: &str,
        outcome: Outcome,
        reason: &str,
    ) -> Result<(), AuthError> {
        let who = match user {
            Some(user) => actor(user),
            None => Actor::UnknownUser { name_hash: throttle::name_hash(name, &self.keys) },
        };
        let event =
            AuditEvent::new(visit.now, who, Action::PasswordVerify, outcome, reason).from_origin(&visit.origin());
        Ok(self.store.audit_only(&[event]).await?)
    }
}
