//! People of another system: their names, their old passwords and their authenticator apps, all in one transaction.

use std::collections::HashMap;

use super::Auth;
use super::error::AuthError;
use super::factors::TotpKey;
use super::link::Link;
use super::users::{Draft, Operator, UserError};
use crate::base::ids::UserId;
use crate::base::secret::Secret;
use crate::config::snapshot::Snapshot;
use crate::crypto::Scheme;
use crate::domain::audit::{Action, AuditEvent};
use crate::domain::factor::FactorKind;
use crate::domain::user::{User, UserName, UserStatus};
use crate::store::{NewUser, StoreError, Tx};

/// Somebody who is to have an account here, as the other system has them.
pub struct Newcomer {
    pub draft: Draft,
    pub disabled: bool,
    /// Without a password that goes on they get a sign-up link, and set up everything anew.
    pub old: Option<OldPassword>,
}

/// A hash that the other system made, and the authenticator apps beside it.
pub struct OldPassword {
    pub hash: Secret<String>,
    pub scheme: Scheme,
    pub phones: Vec<OldPhone>,
}

/// An authenticator app that shows the codes of this key already.
pub struct OldPhone {
    pub key: TotpKey,
    pub label: String,
}

/// An account that was made.
pub struct Arrival {
    pub user: User,
    pub link: Option<Link>,
}

/// Nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{name}: {source}")]
    Person { name: UserName, source: UserError },
    #[error(transparent)]
    Auth(#[from] AuthError),
}

impl From<StoreError> for ImportError {
    fn from(error: StoreError) -> Self {
        Self::Auth(error.into())
    }
}

impl Auth {
    /// Makes all of these accounts, or none. `phones` are those of people who have an account here, and never had
    /// a factor.
    pub async fn import(
        &self,
        operator: &Operator,
        snapshot: &Snapshot,
        people: Vec<Newcomer>,
        phones: Vec<(User, OldPhone)>,
    ) -> Result<Vec<Arrival>, ImportError> {
        let mut tx = self.store.begin().await?;
        let mut events = Vec::new();
        // Whatever ends this before the commit undoes it all.
        let arrivals = Box::pin(self.bring_in(&mut tx, operator, snapshot, people, &mut events)).await?;
        for (user, phone) in phones {
            self.give_phone(&mut tx, operator, &user, phone, &mut events).await?;
        }
        if events.is_empty() {
            tx.rollback().await;
        } else {
            tx.commit(&events).await?;
        }
        Ok(arrivals)
    }

    async fn bring_in(
        &self,
        tx: &mut Tx,
        operator: &Operator,
        snapshot: &Snapshot,
        people: Vec<Newcomer>,
        events: &mut Vec<AuditEvent>,
    ) -> Result<Vec<Arrival>, ImportError> {
        let names = tx.names().await?;
        let mut taken: HashMap<String, UserName> = names.into_iter().map(|n| (n.as_str().to_lowercase(), n)).collect();
        let mut arrivals = Vec::with_capacity(people.len());
        for person in people {
            let Newcomer { draft, disabled, old } = person;
            let refused = |source| ImportError::Person { name: draft.name.clone(), source };
            // Apps fold letter case in `Remote-User`: "BOB" would be "bob" there.
            match taken.insert(draft.name.as_str().to_lowercase(), draft.name.clone()) {
                Some(other) if other == draft.name => return Err(refused(UserError::NameTaken)),
                Some(other) => return Err(refused(UserError::NameTooNear(other))),
                None => {}
            }
            let user = User {
                id: UserId::new(operator.now, &*self.rng),
                name: draft.name,
                display: draft.display,
                email: draft.email,
                groups: draft.groups,
                status: UserStatus::Active,
                created_at: operator.now,
                first_login_until: old.as_ref().map(|_| operator.now.plus(snapshot.factors.first_login)),
                ever_enrolled: false,
                epoch: 0,
            };
            let new = NewUser {
                id: user.id,
                name: user.name.clone(),
                display: user.display.clone(),
                email: user.email.clone(),
                groups: user.groups.clone(),
                first_login_until: user.first_login_until,
                now: operator.now,
            };
            tx.insert_user(&new).await?;
            events.push(operator.event(&user, Action::UserAdd, "An account was imported."));
            let mut link = None;
            match old {
                Some(OldPassword { hash, scheme, phones }) => {
                    tx.import_password(user.id, hash.expose(), scheme, operator.now).await?;
                    for phone in phones {
                        self.give_phone(tx, operator, &user, phone, events).await?;
                    }
                }
                None if disabled => {}
                None => {
                    events.push(operator.event(&user, Action::LinkCreate, "A sign-up link was made."));
                    link = Some(self.new_link(tx, &user, operator.now).await?);
                }
            }
            if disabled {
                tx.set_status(user.id, UserStatus::Disabled, operator.now).await?;
                events.push(operator.event(&user, Action::UserDisable, "The account was disabled where it came from."));
            }
            arrivals.push(Arrival { user, link });
        }
        Ok(arrivals)
    }

    async fn give_phone(
        &self,
        tx: &mut Tx,
        operator: &Operator,
        user: &User,
        phone: OldPhone,
        events: &mut Vec<AuditEvent>,
    ) -> Result<(), ImportError> {
        // What the phone shows at this moment may have been used where it came from (S-TOTP-1).
        let last_step = phone.key.step_at(operator.now);
        let credential = self.new_credential(
            user.id,
            (FactorKind::Totp, &phone.key.to_bytes()),
            last_step,
            phone.label,
            operator.now,
        );
        tx.mark_enrolled(user.id).await?;
        tx.insert_credential(&credential).await?;
        let event = operator.event(user, Action::FactorImport, "An authenticator app was imported.");
        events.push(event.with_factor(&credential.label));
        Ok(())
    }
}
