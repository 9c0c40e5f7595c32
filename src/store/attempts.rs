//! May this be tried once more? The attempt is counted before the check, by one write whose answer
//! is the verdict (S-LOGIN-2).

use std::time::Duration;

use super::error::StoreError;
use super::query::{execute, fetch_optional};
use super::row;
use super::{Store, Tx};
use crate::base::clock::Timestamp;

/// How often something may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptRule {
    /// Attempts without any wait.
    pub free: u32,
    /// The wait after the last free attempt, doubling with each further one up to the second value.
    pub backoff: Option<(Duration, Duration)>,
    /// Attempts in one window; at least 1. The last one starts the lock.
    pub limit: u32,
    /// Counts from the first attempt; the count starts anew after it.
    pub window: Duration,
    /// How long nothing more is taken after the last one.
    pub lock: Duration,
}

/// The verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It is counted and may be made; `left` more may follow in this window.
    Taken { count: u32, left: u32 },
    /// It may not be made, and was not counted.
    Refused { until: Timestamp },
}

impl AttemptRule {
    /// How long nothing is taken after attempt number `count`.
    fn wait_after(&self, count: u32) -> Duration {
        if count >= self.limit {
            return self.lock;
        }
        match self.backoff {
            Some((first, most)) if count >= self.free => {
                let doublings = (count - self.free).min(20);
                first.saturating_mul(1 << doublings).min(most)
            }
            _ => Duration::ZERO,
        }
    }
}

impl Store {
    /// Takes one attempt under `key`, or refuses. However many callers on however many replicas
    /// ask at once, no more than the rule's limit is taken in a window.
    pub async fn take_attempt(&self, key: &str, rule: &AttemptRule, now: Timestamp) -> Result<Attempt, StoreError> {
        // The counter starts anew when its window has passed, or when a lock was sat out (only
        // then is a full counter not blocked). `$4` to `$9` are the rule in milliseconds.
        let sql = "INSERT INTO attempts (key, count, started_at, blocked_until, expires_at) \
            VALUES ($1, 1, $2, CASE WHEN $9 > 0 THEN $2 + $9 ELSE 0 END, $2 + $4 + $5) \
            ON CONFLICT (key) DO UPDATE SET \
              count = CASE WHEN attempts.started_at + $4 <= $2 OR attempts.count >= $3 THEN 1 \
                ELSE attempts.count + 1 END, \
              started_at = CASE WHEN attempts.started_at + $4 <= $2 OR attempts.count >= $3 THEN $2 \
                ELSE attempts.started_at END, \
              blocked_until = CASE \
                WHEN attempts.started_at + $4 <= $2 OR attempts.count >= $3 THEN \
                  CASE WHEN $9 > 0 THEN $2 + $9 ELSE 0 END \
                WHEN attempts.count + 1 >= $3 THEN $2 + $5 \
                WHEN $7 > 0 AND attempts.count + 1 >= $6 THEN $2 + (CASE \
                  WHEN attempts.count + 1 - $6 > 20 THEN $8 \
                  WHEN ($7 << CAST(attempts.count + 1 - $6 AS INTEGER)) > $8 THEN $8 \
                  ELSE ($7 << CAST(attempts.count + 1 - $6 AS INTEGER)) END) \
                ELSE 0 END, \
              expires_at = $2 + $4 + $5 \
            WHERE attempts.blocked_until <= $2 \
            RETURNING count";
        let (first, most) = rule.backoff.unwrap_or_default();
        let taken = fetch_optional!(
            self.write(),
            (i64,),
            sql,
            key,
            now.as_millis(),
            i64::from(rule.limit),
            millis(rule.window),
            millis(rule.lock),
            i64::from(rule.free),
            millis(first),
            millis(most),
            millis(rule.wait_after(1)),
        )?;
        if let Some((count,)) = taken {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            return Ok(Attempt::Taken { count, left: rule.limit.saturating_sub(count) });
        }
        let sql = "SELECT blocked_until FROM attempts WHERE key = $1";
        let until = fetch_optional!(self.read(), (i64,), sql, key)?.map_or(now, |(until,)| row::time(until));
        // Cleared in between: whoever is refused waits a moment all the same.
        Ok(Attempt::Refused { until: until.max(now.plus(Duration::from_secs(1))) })
    }

    /// Forgets the count, after a success of the very thing that was counted.
    pub async fn clear_attempts(&self, key: &str) -> Result<(), StoreError> {
        execute!(self.write(), "DELETE FROM attempts WHERE key = $1", key).map(|_| ())
    }

    /// Whether one of the counters that begin so refuses now, and until when the last of them does.
    pub async fn paused_until(&self, begin: &[String; 3], now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT MAX(blocked_until) FROM attempts WHERE blocked_until > $4 AND \
                   (key LIKE $1 || '%' OR key LIKE $2 || '%' OR key LIKE $3 || '%')";
        let [one, two, three] = begin;
        let until = fetch_optional!(
            self.read(),
            (Option<i64>,),
            sql,
            one.as_str(),
            two.as_str(),
            three.as_str(),
            now.as_millis()
        )?;
        Ok(until.and_then(|(until,)| until).map(row::time))
    }

    /// Takes an attempt off again that turned out to be no failure; a lock that it had started ends.
    /// Where a success must not wash the failures of others, this and not
    /// [`clear_attempts`](Self::clear_attempts) follows it.
    pub async fn return_attempt(&self, key: &str) -> Result<(), StoreError> {
        let sql = "UPDATE attempts SET count = count - 1, blocked_until = 0 WHERE key = $1 AND count > 0";
        execute!(self.write(), sql, key).map(|_| ())
    }

    /// How many were taken since the count started.
    pub async fn attempts(&self, key: &str) -> Result<u32, StoreError> {
        let sql = "SELECT count FROM attempts WHERE key = $1";
        Ok(fetch_optional!(self.read(), (i64,), sql, key)?
            .map_or(0, |(count,)| u32::try_from(count).unwrap_or(u32::MAX)))
    }
}

impl Tx {
    /// Forgets the counters that begin so: whoever was paused may try at once. Says how many there were.
    pub async fn clear_attempts_of(&mut self, begin: &[String; 3]) -> Result<u64, StoreError> {
        // Identifiers and our own words: none of them is a wildcard.
        let sql = "DELETE FROM attempts WHERE key LIKE $1 || '%' OR key LIKE $2 || '%' OR key LIKE $3 || '%'";
        let [one, two, three] = begin;
        execute!(self.db(), sql, one.as_str(), two.as_str(), three.as_str())
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_after_the_free_attempts_up_to_the_lock() {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        let rule = AttemptRule {
            free: 5,
            backoff: Some((Duration::from_secs(1), minutes(5))),
            limit: 10,
            window: minutes(30),
            lock: minutes(30),
        };
        let waits: Vec<u64> = (1..=10).map(|n| rule.wait_after(n).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 1, 2, 4, 8, 16, 1800]);
        assert_eq!(AttemptRule { limit: 100, ..rule }.wait_after(99), minutes(5));
    }
}
