//! Codes on their way to people: the newest, for one ceremony, a few tries, one use (S-OOB-2).

use stepgate::base::ids::{SentCodeId, UserId};
use stepgate::base::rng::SystemRng;
use stepgate::domain::audit::Action;
use stepgate::domain::factor::FactorKind;
use stepgate::store::SentCode;

use super::fixture::{Fixture, event, later, now};
use super::on_both;

on_both!(
    s_oob_2_a_code_is_spent_once,
    s_oob_2_three_of_many_tries_are_taken,
    s_oob_2_the_newest_code_alone_works_for_its_ceremony_and_its_time,
);

async fn put(f: &Fixture, user: UserId, scope: &str, byte: u8) -> SentCode {
    let id = SentCodeId::new(now(), &SystemRng);
    let kind = FactorKind::Email;
    let new = SentCode {
        id,
        user,
        kind,
        scope: scope.to_owned(),
        hash: [byte; 32],
        created_at: now(),
        expires_at: later(300),
    };
    let mut tx = f.store.begin().await.unwrap();
    tx.put_sent_code(&new).await.unwrap();
    tx.commit(&[event(Action::CodeSend)]).await.unwrap();
    new
}

async fn s_oob_2_a_code_is_spent_once(f: &Fixture) {
    let ann = f.user("ann").await;
    let id = put(f, ann, "flow", 1).await.id;
    let spent =
        f.race(50, move |tx, _| Box::pin(async move { tx.spend_sent_code(id, later(299)).await.unwrap() })).await;
    assert_eq!(spent, 1);
    assert_eq!(f.store.sent_code(ann, FactorKind::Email, "flow", now()).await.unwrap(), None);
    let late = put(f, ann, "flow", 1).await.id;
    let mut tx = f.store.begin().await.unwrap();
    assert!(!tx.spend_sent_code(late, later(300)).await.unwrap());
    tx.rollback().await;
}

async fn s_oob_2_three_of_many_tries_are_taken(f: &Fixture) {
    let ann = f.user("ann").await;
    put(f, ann, "flow", 7).await;
    let other = f.other().await;
    let tasks: Vec<_> = (0..50)
        .map(|n| {
            let store = if n % 2 == 0 { f.store.clone() } else { other.clone() };
            tokio::spawn(async move { store.try_sent_code(ann, FactorKind::Email, "flow", now()).await.unwrap() })
        })
        .collect();
    let mut left = Vec::new();
    for task in tasks {
        left.extend(task.await.unwrap().inspect(|taken| assert_eq!(taken.hash, [7; 32])).map(|taken| taken.left));
    }
    other.close().await;
    left.sort_unstable();
    assert_eq!(left, [0, 1, 2]);
    assert_eq!(f.store.sent_code(ann, FactorKind::Email, "flow", now()).await.unwrap(), None, "it works no more");
}

async fn s_oob_2_the_newest_code_alone_works_for_its_ceremony_and_its_time(f: &Fixture) {
    let (ann, bob) = (f.user("ann").await, f.user("bob").await);
    let kind = FactorKind::Email;
    let old = put(f, ann, "one", 1).await;
    put(f, ann, "two", 2).await;
    let tried =
        |user, scope: &'static str, at| async move { f.store.try_sent_code(user, kind, scope, at).await.unwrap() };
    assert_eq!(tried(ann, "one", now()).await, None, "a newer one was sent");
    let mut tx = f.store.begin().await.unwrap();
    assert!(!tx.spend_sent_code(old.id, now()).await.unwrap());
    tx.rollback().await;
    assert_eq!(tried(bob, "two", now()).await, None);
    assert_eq!(tried(ann, "two", later(300)).await, None);
    assert_eq!(f.store.sent_code(ann, kind, "two", now()).await.unwrap(), Some(later(300)));
    assert_eq!(tried(ann, "two", later(299)).await.map(|taken| (taken.hash, taken.left)), Some(([2; 32], 2)));
}
