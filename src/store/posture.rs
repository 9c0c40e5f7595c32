//! Which posture is in force, who said so, and until when? One row for all gates on this state.

use super::error::StoreError;
use super::query::{execute, fetch_optional};
use super::{Store, Tx};
use crate::base::clock::Timestamp;
use crate::domain::posture::Posture;

/// What somebody said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostureRow {
    pub posture: Posture,
    /// From then on it is `normal` again.
    pub until: Option<Timestamp>,
    pub why: String,
    pub set_by: String,
    pub set_at: Timestamp,
}

impl PostureRow {
    /// What is in force at this moment.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Posture {
        if self.until.is_some_and(|until| until <= now) { Posture::Normal } else { self.posture }
    }
}

type Columns = (String, Option<i64>, String, String, i64);

impl Store {
    /// `None` where nobody ever said one: `normal`.
    pub async fn posture(&self) -> Result<Option<PostureRow>, StoreError> {
        let sql = "SELECT posture, until_at, why, set_by, set_at FROM posture WHERE id = 1";
        let Some((posture, until, why, set_by, set_at)) = fetch_optional!(self.read(), Columns, sql)? else {
            return Ok(None);
        };
        // A word that this version does not know is of a newer one: the strictest is never too little.
        let posture = Posture::parse(&posture).unwrap_or(Posture::Lockdown);
        let (until, set_at) = (until.map(Timestamp::from_millis), Timestamp::from_millis(set_at));
        Ok(Some(PostureRow { posture, until, why, set_by, set_at }))
    }
}

impl Tx {
    pub async fn set_posture(&mut self, new: &PostureRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO posture (id, posture, until_at, why, set_by, set_at) VALUES (1, $1, $2, $3, $4, $5) \
                   ON CONFLICT (id) DO UPDATE SET posture = excluded.posture, until_at = excluded.until_at, \
                   why = excluded.why, set_by = excluded.set_by, set_at = excluded.set_at";
        let until = new.until.map(Timestamp::as_millis);
        execute!(
            self.db(),
            sql,
            new.posture.as_str(),
            until,
            new.why.as_str(),
            new.set_by.as_str(),
            new.set_at.as_millis()
        )
        .map(|_| ())
    }
}
