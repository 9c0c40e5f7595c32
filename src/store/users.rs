//! Who may sign in? Accounts, and the changes of them that must bite within a second.

use std::collections::{HashMap, HashSet};

use super::error::StoreError;
use super::query::{Db, execute, fetch_all, fetch_optional};
use super::revocations::Revocation;
use super::row;
use super::{Store, Tx};
use crate::base::clock::Timestamp;
use crate::base::ids::UserId;
use crate::crypto::Scheme;
use crate::domain::factor::FactorKind;
use crate::domain::user::{GroupName, User, UserName, UserStatus};

/// An account to be made; active from the start.
#[derive(Clone, Debug)]
pub struct NewUser {
    pub id: UserId,
    pub name: UserName,
    pub display: String,
    pub email: Option<String>,
    pub groups: Vec<GroupName>,
    /// Until when the password alone may enroll the first factor (S-ENR-1).
    pub first_login_until: Option<Timestamp>,
    pub now: Timestamp,
}

/// Proof that an account is held by this transaction ([`Tx::hold`]): only then do sessions and
/// ceremonies begin.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub(super) user: UserId,
    pub(super) epoch: i64,
}

/// Columns of a `User`; the password is not among them, so no reader of accounts ever holds it.
type Columns = (String, String, String, Option<String>, String, String, i64, Option<i64>, i64, i64);

impl Store {
    pub async fn user_by_name(&self, name: &UserName) -> Result<Option<User>, StoreError> {
        let sql = "SELECT id, name, display, email, groups_json, status, created_at, first_login_until, ever_enrolled, epoch \
                   FROM users WHERE name = $1 AND removed_at IS NULL";
        fetch_optional!(self.read(), Columns, sql, name.as_str())?.map(user).transpose()
    }

    /// `None` for an account that was removed.
    pub async fn user_by_id(&self, id: UserId) -> Result<Option<User>, StoreError> {
        let sql = "SELECT id, name, display, email, groups_json, status, created_at, first_login_until, ever_enrolled, epoch \
                   FROM users WHERE id = $1 AND removed_at IS NULL";
        fetch_optional!(self.read(), Columns, sql, id.to_string())?.map(user).transpose()
    }

    /// All accounts, by name.
    pub async fn users(&self) -> Result<Vec<User>, StoreError> {
        let sql = "SELECT id, name, display, email, groups_json, status, created_at, first_login_until, ever_enrolled, epoch \
                   FROM users WHERE removed_at IS NULL";
        let mut users: Vec<User> =
            fetch_all!(self.read(), Columns, sql)?.into_iter().map(user).collect::<Result<_, _>>()?;
        // Sorted here: the two databases have different ideas of order.
        users.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(users)
    }

    /// The kinds of second factors that each account has now and that work; accounts without any are
    /// not in it.
    pub async fn factor_kinds(&self) -> Result<HashMap<UserId, Vec<FactorKind>>, StoreError> {
        let sql = "SELECT DISTINCT user_id, kind FROM credentials WHERE disabled_at IS NULL \
                   UNION SELECT DISTINCT user_id, 'backup_codes' FROM backup_codes";
        let mut all: HashMap<UserId, Vec<FactorKind>> = HashMap::new();
        for (user, kind) in fetch_all!(self.read(), (String, String), sql)? {
            let kind = FactorKind::parse(&kind).ok_or(StoreError::Corrupt("a kind of factor"))?;
            all.entry(row::id(&user)?).or_default().push(kind);
        }
        for kinds in all.values_mut() {
            kinds.sort();
        }
        Ok(all)
    }

    /// The accounts that have a password.
    pub async fn with_password(&self) -> Result<HashSet<UserId>, StoreError> {
        let sql = "SELECT id FROM users WHERE password IS NOT NULL AND removed_at IS NULL";
        fetch_all!(self.read(), (String,), sql)?.into_iter().map(|(id,)| row::id(&id)).collect()
    }

    /// The PHC string to verify a password against; the only way to it.
    pub async fn password_hash(&self, id: UserId) -> Result<Option<String>, StoreError> {
        let sql = "SELECT password FROM users WHERE id = $1 AND removed_at IS NULL";
        Ok(fetch_optional!(self.read(), (Option<String>,), sql, id.to_string())?.and_then(|(hash,)| hash))
    }
}

impl Store {
    /// How the passwords of people who were imported are hashed, each way once; empty when all hashes are ours.
    pub async fn imported_schemes(&self) -> Result<Vec<Scheme>, StoreError> {
        let sql = "SELECT DISTINCT password_scheme FROM users WHERE password_scheme IS NOT NULL";
        let rows = fetch_all!(self.read(), (String,), sql)?;
        // One that cannot be read is nobody's: its people are told no whatever they type.
        Ok(rows.into_iter().filter_map(|(text,)| text.parse().ok()).collect())
    }

    /// How the password of this account was hashed where it was imported from; `None` once the hash is ours.
    pub async fn imported_scheme(&self, id: UserId) -> Result<Option<Scheme>, StoreError> {
        let sql = "SELECT password_scheme FROM users WHERE id = $1 AND removed_at IS NULL";
        let row = fetch_optional!(self.read(), (Option<String>,), sql, id.to_string())?;
        Ok(row.and_then(|(text,)| text?.parse().ok()))
    }

    /// When the account got its present password; `None` where it has none.
    pub async fn password_set_at(&self, id: UserId) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT password_at FROM users WHERE id = $1 AND removed_at IS NULL";
        Ok(fetch_optional!(self.read(), (Option<i64>,), sql, id.to_string())?.and_then(|(at,)| row::maybe_time(at)))
    }
}

impl Tx {
    /// An account whose name differs from this one in letter case alone. Nobody adds one before this
    /// transaction ends: the database's own idea of letter case is not ours, so no index can say it.
    pub async fn name_near(&mut self, name: &UserName) -> Result<Option<UserName>, StoreError> {
        let folded = name.as_str().to_lowercase();
        Ok(self.names().await?.into_iter().find(|other| other != name && other.as_str().to_lowercase() == folded))
    }

    /// Every name that is taken. Nobody takes another before this transaction ends.
    pub async fn names(&mut self) -> Result<Vec<UserName>, StoreError> {
        if matches!(self.on.db(), Db::Postgres(_)) {
            self.on.raw("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE").await?;
        }
        let names = fetch_all!(self.db(), (String,), "SELECT name FROM users WHERE name IS NOT NULL")?;
        names.into_iter().map(|(name,)| UserName::parse(&name).map_err(|_| StoreError::Corrupt("a name"))).collect()
    }

    /// `false` when the name is taken.
    pub async fn insert_user(&mut self, new: &NewUser) -> Result<bool, StoreError> {
        let sql = "INSERT INTO users (id, name, display, email, groups_json, status, created_at, first_login_until) \
                   VALUES ($1, $2, $3, $4, $5, 'active', $6, $7) ON CONFLICT (name) DO NOTHING";
        let done = execute!(
            self.db(),
            sql,
            new.id.to_string(),
            new.name.as_str(),
            new.display.as_str(),
            new.email.as_deref(),
            row::to_json(&new.groups)?,
            new.now.as_millis(),
            row::millis(new.first_login_until),
        )?;
        Ok(done == 1)
    }

    /// `false` when there is no such account. Where it replaces another, ceremonies that began before
    /// are void; sessions are the caller's to end.
    pub async fn set_password(&mut self, id: UserId, phc: &str, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE users SET password = $2, password_at = $3, password_scheme = NULL, \
                   epoch = epoch + CASE WHEN password IS NULL THEN 0 ELSE 1 END WHERE id = $1 AND removed_at IS NULL";
        Ok(execute!(self.db(), sql, id.to_string(), phc, now.as_millis())? == 1)
    }

    /// Gives a new account the password that it had elsewhere; `false` for one that has a password.
    pub async fn import_password(
        &mut self,
        id: UserId,
        hash: &str,
        scheme: Scheme,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE users SET password = $2, password_at = $3, password_scheme = $4 \
                   WHERE id = $1 AND removed_at IS NULL AND password IS NULL";
        Ok(execute!(self.db(), sql, id.to_string(), hash, now.as_millis(), scheme.to_string())? == 1)
    }

    /// Puts a hash of ours in the place of an imported one of the same password; nothing that was shown is void.
    /// `false` where it is another by now.
    pub async fn renew_password(&mut self, id: UserId, imported: &str, phc: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE users SET password = $3, password_scheme = NULL \
                   WHERE id = $1 AND removed_at IS NULL AND password = $2 AND password_scheme IS NOT NULL";
        Ok(execute!(self.db(), sql, id.to_string(), imported, phc)? == 1)
    }

    /// Replaces all groups. Every cache reads the account again within a second.
    pub async fn set_groups(&mut self, id: UserId, groups: &[GroupName]) -> Result<bool, StoreError> {
        let sql = "UPDATE users SET groups_json = $2 WHERE id = $1 AND removed_at IS NULL";
        let done = execute!(self.db(), sql, id.to_string(), row::to_json(groups)?)? == 1;
        if done {
            self.revoke(Revocation::User(id)).await?;
        }
        Ok(done)
    }

    /// Replaces display name and e-mail address. Every cache reads the account again within a second.
    pub async fn set_profile(&mut self, id: UserId, display: &str, email: Option<&str>) -> Result<bool, StoreError> {
        let sql = "SELECT email FROM users WHERE id = $1 AND removed_at IS NULL";
        let before = fetch_optional!(self.db(), (Option<String>,), sql, id.to_string())?.and_then(|(email,)| email);
        if let Some(before) = before.filter(|before| Some(before.as_str()) != email) {
            self.replaces_email(id, before);
        }
        let sql = "UPDATE users SET display = $2, email = $3 WHERE id = $1 AND removed_at IS NULL";
        let done = execute!(self.db(), sql, id.to_string(), display, email)? == 1;
        if done {
            self.revoke(Revocation::User(id)).await?;
        }
        Ok(done)
    }

    /// Enables or disables; `false` when nothing changed. Disabling also ends the account's
    /// sessions, ceremonies and one-time links, so that enabling it later brings none of them back.
    pub async fn set_status(&mut self, id: UserId, status: UserStatus, now: Timestamp) -> Result<bool, StoreError> {
        let text = match status {
            UserStatus::Active => "active",
            UserStatus::Disabled => "disabled",
        };
        let sql = "UPDATE users SET status = $2 WHERE id = $1 AND removed_at IS NULL AND status <> $2";
        let done = execute!(self.db(), sql, id.to_string(), text)? == 1;
        if done {
            if status == UserStatus::Disabled {
                self.end_all_of(id, "account disabled", now).await?;
            }
            self.revoke(Revocation::User(id)).await?;
        }
        Ok(done)
    }

    /// Takes the account away with all its secrets. Its name is free again; its id stays taken for
    /// ever, so that nobody inherits what apps keep under it (S-ID-7).
    pub async fn remove_user(&mut self, id: UserId, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE users SET name = NULL, display = '', email = NULL, groups_json = '[]', status = 'removed', \
                   password = NULL, password_at = NULL, password_scheme = NULL, first_login_until = NULL, removed_at = $2 \
                   WHERE id = $1 AND removed_at IS NULL";
        if execute!(self.db(), sql, id.to_string(), now.as_millis())? == 0 {
            return Ok(false);
        }
        self.remove_credentials(id).await?;
        self.drop_mails_of(id).await?;
        self.end_all_of(id, "account removed", now).await?;
        self.revoke(Revocation::User(id)).await?;
        Ok(true)
    }

    /// Notes that a factor was enrolled; the `first_login` window is closed for ever (S-ENR-1).
    /// `true` for exactly one caller: the one whose factor is the account's first.
    pub async fn mark_enrolled(&mut self, id: UserId) -> Result<bool, StoreError> {
        let sql = "UPDATE users SET ever_enrolled = 1, first_login_until = NULL WHERE id = $1 AND ever_enrolled = 0";
        let first = execute!(self.db(), sql, id.to_string())? == 1;
        if first {
            // Who is signed in with a password alone, within a grace, is asked for it from now on.
            self.revoke(Revocation::User(id)).await?;
        }
        Ok(first)
    }

    /// Opens or closes the `first_login` window; `false` for an account that ever had a factor.
    pub async fn set_first_login(&mut self, id: UserId, until: Option<Timestamp>) -> Result<bool, StoreError> {
        let sql = "UPDATE users SET first_login_until = $2 WHERE id = $1 AND ever_enrolled = 0 AND removed_at IS NULL";
        Ok(execute!(self.db(), sql, id.to_string(), row::millis(until))? == 1)
    }

    /// Voids what was shown for this account until now, in ceremonies and in checks under way.
    pub(super) async fn advance_epoch(&mut self, id: UserId) -> Result<(), StoreError> {
        execute!(self.db(), "UPDATE users SET epoch = epoch + 1 WHERE id = $1", id.to_string()).map(|_| ())
    }

    /// Holds the account as it was when somebody looked at it: active, and with nothing voided
    /// since. Until the commit nobody changes that. [`StoreError::Conflict`] otherwise.
    ///
    /// A password is checked outside of any transaction, for a hash takes long; this is what ties
    /// its answer to the moment of the commit.
    pub async fn hold(&mut self, user: UserId, epoch: i64) -> Result<Held, StoreError> {
        let sql = self.on.db().pick(
            "SELECT 1 FROM users WHERE id = $1 AND status = 'active' AND epoch = $2",
            "SELECT 1::bigint FROM users WHERE id = $1 AND status = 'active' AND epoch = $2 FOR NO KEY UPDATE",
        );
        let there = fetch_optional!(self.db(), (i64,), sql, user.to_string(), epoch)?;
        there.map(|_| Held { user, epoch }).ok_or(StoreError::Conflict)
    }

    /// Ends an account's sessions, ceremonies and one-time links.
    pub async fn end_all_of(&mut self, id: UserId, reason: &str, now: Timestamp) -> Result<(), StoreError> {
        self.end_sessions_of(id, None, reason, now).await?;
        self.end_flows_of(id).await?;
        execute!(self.db(), "DELETE FROM links WHERE user_id = $1", id.to_string())?;
        Ok(())
    }
}

fn user(columns: Columns) -> Result<User, StoreError> {
    let (id, name, display, email, groups, status, created_at, first_login_until, ever_enrolled, epoch) = columns;
    Ok(User {
        id: row::id(&id)?,
        name: UserName::parse(&name).map_err(|_| StoreError::Corrupt("a user name"))?,
        display,
        email,
        groups: row::from_json(&groups, "a list of groups")?,
        status: match status.as_str() {
            "active" => UserStatus::Active,
            "disabled" => UserStatus::Disabled,
            _ => return Err(StoreError::Corrupt("a user status")),
        },
        created_at: row::time(created_at),
        first_login_until: row::maybe_time(first_login_until),
        ever_enrolled: ever_enrolled != 0,
        epoch,
    })
}
