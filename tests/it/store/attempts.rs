//! The throttle: counted before the check, by one write.

use std::time::Duration;

use stepgate::base::clock::Timestamp;
use stepgate::domain::audit::Action;
use stepgate::store::{Attempt, AttemptRule};

use super::fixture::{Fixture, event, later, now};
use super::on_both;

on_both!(
    s_login_2_fifty_at_once_never_get_past_the_limit,
    waits_double_and_end_in_a_lock,
    a_refused_attempt_counts_for_nothing,
    a_window_starts_anew_after_its_end,
    a_success_forgets_its_own_key_only,
    an_account_is_unpaused_with_all_its_counters_and_nobody_elses,
    s_login_2_an_attempt_that_could_not_be_counted_is_not_taken,
);

fn codes() -> AttemptRule {
    let quarter = Duration::from_secs(900);
    AttemptRule { free: 5, backoff: None, limit: 5, window: quarter, lock: quarter }
}

fn passwords() -> AttemptRule {
    let half_hour = Duration::from_secs(1800);
    let backoff = Some((Duration::from_secs(1), Duration::from_secs(300)));
    AttemptRule { free: 5, backoff, limit: 10, window: half_hour, lock: half_hour }
}

fn millis_later(millis: i64) -> Timestamp {
    Timestamp::from_millis(now().as_millis() + millis)
}

async fn s_login_2_fifty_at_once_never_get_past_the_limit(f: &Fixture) {
    let other = f.other().await;
    let tasks: Vec<_> = (0..50)
        .map(|n| {
            let store = if n % 2 == 0 { f.store.clone() } else { other.clone() };
            tokio::spawn(async move { store.take_attempt("code:ann", &codes(), now()).await.unwrap() })
        })
        .collect();
    let mut counts = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Attempt::Taken { count, left } => {
                assert_eq!(count + left, 5);
                counts.push(count);
            }
            Attempt::Refused { until } => assert_eq!(until, later(900)),
        }
    }
    counts.sort_unstable();
    assert_eq!(counts, [1, 2, 3, 4, 5]);
    other.close().await;
}

async fn waits_double_and_end_in_a_lock(f: &Fixture) {
    let take = async |at| f.store.take_attempt("pw:ann", &passwords(), at).await.unwrap();
    for count in 1..=5 {
        assert_eq!(take(now()).await, Attempt::Taken { count, left: 10 - count });
    }
    let mut at = 0;
    for (count, wait) in [(6, 1000), (7, 2000), (8, 4000), (9, 8000), (10, 16_000)] {
        let until = millis_later(at + wait);
        let early = millis_later(at + wait - 1);
        let refused = take(early).await;
        assert_eq!(refused, Attempt::Refused { until: until.max(early.plus(Duration::from_secs(1))) });
        assert_eq!(take(until).await, Attempt::Taken { count, left: 10 - count });
        at += wait;
    }
    let unlocked = millis_later(at + 1_800_000);
    assert_eq!(take(millis_later(at + 1)).await, Attempt::Refused { until: unlocked });
    assert!(matches!(take(millis_later(at + 1_799_999)).await, Attempt::Refused { .. }), "the last millisecond");
    assert_eq!(take(unlocked).await, Attempt::Taken { count: 1, left: 9 });
}

async fn a_refused_attempt_counts_for_nothing(f: &Fixture) {
    let rule = AttemptRule { lock: Duration::from_secs(10), ..codes() };
    for _ in 0..20 {
        f.store.take_attempt("k", &rule, now()).await.unwrap();
    }
    assert_eq!(f.store.attempts("k").await.unwrap(), 5);
    let taken = f.store.take_attempt("k", &rule, later(10)).await.unwrap();
    assert_eq!(taken, Attempt::Taken { count: 1, left: 4 }, "refusals did not lengthen the lock");
}

async fn a_window_starts_anew_after_its_end(f: &Fixture) {
    for _ in 0..4 {
        f.store.take_attempt("k", &codes(), now()).await.unwrap();
    }
    let last = f.store.take_attempt("k", &codes(), millis_later(899_999)).await.unwrap();
    assert_eq!(last, Attempt::Taken { count: 5, left: 0 });
    for _ in 0..4 {
        f.store.take_attempt("other", &codes(), now()).await.unwrap();
    }
    let fresh = f.store.take_attempt("other", &codes(), later(900)).await.unwrap();
    assert_eq!(fresh, Attempt::Taken { count: 1, left: 4 });
    let set_back = f.store.take_attempt("other", &codes(), now()).await.unwrap();
    assert_eq!(set_back, Attempt::Taken { count: 2, left: 3 }, "a clock set back opens no window");
}

async fn a_success_forgets_its_own_key_only(f: &Fixture) {
    for key in ["pw:ann", "code:ann"] {
        f.store.take_attempt(key, &codes(), now()).await.unwrap();
    }
    f.store.clear_attempts("pw:ann").await.unwrap();
    assert_eq!(f.store.attempts("pw:ann").await.unwrap(), 0);
    assert_eq!(f.store.attempts("code:ann").await.unwrap(), 1, "S-LOGIN-3");
    assert_eq!(f.store.attempts("nobody").await.unwrap(), 0);
}

/// The row is returned before the write is committed. A commit that then fails (here by a deferred
/// constraint, in life by a full disk) must not pass for an attempt that was counted.
async fn s_login_2_an_attempt_that_could_not_be_counted_is_not_taken(f: &Fixture) {
    f.by_hand("DROP TABLE attempts").await;
    f.by_hand(
        "CREATE TABLE attempts (key TEXT NOT NULL PRIMARY KEY REFERENCES users (id) DEFERRABLE INITIALLY DEFERRED, \
         count BIGINT NOT NULL, started_at BIGINT NOT NULL, blocked_until BIGINT NOT NULL, expires_at BIGINT NOT NULL)",
    )
    .await;
    assert!(f.store.take_attempt("nobody", &codes(), now()).await.is_err());
    assert_eq!(f.store.attempts("nobody").await.unwrap(), 0);
}

async fn an_account_is_unpaused_with_all_its_counters_and_nobody_elses(f: &Fixture) {
    let own = ["password:user:ann", "password:device:ann:", "code:user:ann"].map(str::to_owned);
    let theirs = ["password:user:ann", "password:device:ann:laptop", "code:user:ann"];
    for key in theirs.into_iter().chain(["code:user:bob", "password:address:ann"]) {
        for _ in 0..5 {
            f.store.take_attempt(key, &codes(), now()).await.unwrap();
        }
    }
    assert_eq!(f.store.paused_until(&own, now()).await.unwrap(), Some(later(900)));
    assert_eq!(f.store.paused_until(&own, later(900)).await.unwrap(), None, "it ended by itself");
    let mut tx = f.store.begin().await.unwrap();
    assert_eq!(tx.clear_attempts_of(&own).await.unwrap(), 3);
    tx.commit(&[event(Action::UserUnpause)]).await.unwrap();
    assert_eq!(f.store.paused_until(&own, now()).await.unwrap(), None);
    for key in theirs {
        assert_eq!(f.store.attempts(key).await.unwrap(), 0, "{key}");
    }
    for key in ["code:user:bob", "password:address:ann"] {
        assert_eq!(f.store.attempts(key).await.unwrap(), 5, "{key}");
    }
}
