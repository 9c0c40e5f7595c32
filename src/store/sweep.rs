//! What has outlived its use? Taken away in small batches, so that no sign-in waits for a cleaning.

use std::time::Duration;

use super::Store;
use super::error::StoreError;
use super::query::execute;
use crate::base::clock::Timestamp;

/// How many rows each kind lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub flows: u64,
    pub handovers: u64,
    pub links: u64,
    pub attempts: u64,
    pub revocations: u64,
    pub tokens: u64,
    pub sessions: u64,
    pub kept_forms: u64,
    pub notices: u64,
    pub questions: u64,
    pub sent_codes: u64,
    pub remembered: u64,
}

/// Ended sessions are kept this long for "where was I signed in?".
const ENDED_SESSIONS: Duration = Duration::from_secs(30 * 24 * 3600);
/// A superseded token is good for 10 s; the rest of the hour is for other clocks.
const SUPERSEDED_TOKENS: Duration = Duration::from_secs(3600);
/// One sweep takes at most this many batches of a kind; the next goes on.
const BATCHES: u32 = 20;

macro_rules! in_batches {
    ($store:expr, $sql:expr $(, $bind:expr)*) => {{
        let mut gone = 0;
        for _ in 0..BATCHES {
            let batch = execute!($store.write(), $sql $(, $bind)*)?;
            gone += batch;
            if batch < 500 {
                break;
            }
        }
        gone
    }};
}

impl Store {
    /// Removes what has expired. Meant to run every minute or so on any number of replicas.
    pub async fn sweep(&self, now: Timestamp) -> Result<Swept, StoreError> {
        let at = now.as_millis();
        let flows = in_batches!(
            self,
            "DELETE FROM flows WHERE id IN (SELECT id FROM flows WHERE expires_at <= $1 LIMIT 500)",
            at
        );
        let handovers = in_batches!(
            self,
            "DELETE FROM handovers WHERE code_hash IN \
             (SELECT code_hash FROM handovers WHERE expires_at <= $1 LIMIT 500)",
            at
        );
        let links = in_batches!(
            self,
            "DELETE FROM links WHERE hash IN (SELECT hash FROM links WHERE expires_at <= $1 LIMIT 500)",
            at
        );
        // Asked again outside: a counter that was taken from meanwhile lives on.
        let attempts = in_batches!(
            self,
            "DELETE FROM attempts WHERE expires_at <= $1 AND key IN \
             (SELECT key FROM attempts WHERE expires_at <= $1 LIMIT 500)",
            at
        );
        // Ten minutes, by the clock that dated them.
        let sql = self.write().pick(
            "DELETE FROM revocations WHERE seq IN (SELECT seq FROM revocations \
             WHERE at < CAST(unixepoch('subsec') * 1000 AS INTEGER) - 600000 LIMIT 500)",
            "DELETE FROM revocations WHERE seq IN (SELECT seq FROM revocations \
             WHERE at < CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) - 600000 LIMIT 500)",
        );
        let revocations = in_batches!(self, sql);
        let tokens = in_batches!(
            self,
            "DELETE FROM tokens WHERE hash IN (SELECT hash FROM tokens WHERE superseded_at < $1 LIMIT 500)",
            now.minus(SUPERSEDED_TOKENS).as_millis()
        );
        let sessions = in_batches!(
            self,
            "DELETE FROM sessions WHERE id IN \
             (SELECT id FROM sessions WHERE ended_at < $1 OR expires_at < $1 LIMIT 500)",
            now.minus(ENDED_SESSIONS).as_millis()
        );
        let kept_forms = in_batches!(
            self,
            "DELETE FROM kept_forms WHERE id IN (SELECT id FROM kept_forms WHERE expires_at <= $1 LIMIT 500)",
            at
        );
        let notices = in_batches!(
            self,
            "DELETE FROM notices WHERE id IN (SELECT id FROM notices WHERE expires_at <= $1 LIMIT 500)",
            at
        );
        let questions = in_batches!(
            self,
            "DELETE FROM spent_questions WHERE hash IN \
             (SELECT hash FROM spent_questions WHERE expires_at <= $1 LIMIT 500)",
            at
        );
        let sent_codes = in_batches!(
            self,
            "DELETE FROM sent_codes WHERE id IN (SELECT id FROM sent_codes WHERE expires_at <= $1 LIMIT 500)",
            at
        );
        // Also those that a changed password or factor has voided.
        let remembered = in_batches!(
            self,
            "DELETE FROM remembered_devices WHERE id IN (SELECT r.id FROM remembered_devices r \
             JOIN users u ON u.id = r.user_id WHERE r.expires_at <= $1 OR r.epoch <> u.epoch LIMIT 500)",
            at
        );
        Ok(Swept {
            remembered,
            kept_forms,
            notices,
            questions,
            sent_codes,
            flows,
            handovers,
            links,
            attempts,
            revocations,
            tokens,
            sessions,
        })
    }
}
