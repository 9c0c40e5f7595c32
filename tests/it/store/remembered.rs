//! Remembered browsers: one secret for one use, a copy that shows, and an end with whatever voids a sign-in.

use stepgate::base::ids::{RememberedId, UserId};
use stepgate::base::rng::SystemRng;
use stepgate::domain::audit::Action;
use stepgate::domain::factor::{FactorKind, FactorUse};
use stepgate::store::{RememberedRow, RememberedSecret, RememberedUse, Store};

use super::fixture::{Fixture, credential_id, event, later, now};
use super::on_both;

on_both!(
    of_fifty_uses_of_one_secret_at_once_one_makes_the_next_and_the_others_are_tabs_of_it,
    of_fifty_copies_at_once_one_is_told_and_the_series_is_gone,
    a_remembered_browser_is_of_one_person_for_its_time,
    a_remembered_browser_ends_with_a_password_and_with_all_sessions,
);

async fn remember(f: &Fixture, user: UserId) -> RememberedRow {
    let evidence = FactorUse {
        kind: FactorKind::Totp,
        at: now(),
        phishing_resistant: false,
        user_verified: false,
        credential: Some(credential_id()),
        remembered: false,
    };
    let row = RememberedRow {
        id: RememberedId::new(now(), &SystemRng),
        user,
        evidence,
        created_at: now(),
        used_at: now(),
        expires_at: later(86_400),
        address: "192.0.2.7".to_owned(),
        user_agent: "Test/1 (Zo\u{eb})".to_owned(),
    };
    let mut tx = f.store.begin().await.unwrap();
    let epoch = f.store.user_by_id(user).await;
    let held = tx.hold(user, epoch.unwrap().unwrap().epoch).await.unwrap();
    tx.remember_device(held, &row, &[1; 32]).await.unwrap();
    tx.commit(&[event(Action::DeviceRemember)]).await.unwrap();
    row
}

fn first(row: &RememberedRow) -> RememberedSecret {
    RememberedSecret { id: row.id, counter: 1, hash: [1; 32] }
}

async fn used(store: &Store, user: UserId, shown: RememberedSecret, next: u8, secs: u64) -> RememberedUse {
    let mut tx = store.begin().await.unwrap();
    let came_to = tx.use_remembered(user, &shown, &[next; 32], later(secs)).await.unwrap();
    tx.commit(&[event(Action::SignIn)]).await.unwrap();
    came_to
}

async fn at_once(f: &Fixture, user: UserId, shown: RememberedSecret, secs: u64) -> Vec<RememberedUse> {
    let other = f.other().await;
    let tasks: Vec<_> = (0..50)
        .map(|n: u8| {
            let store = if n.is_multiple_of(2) { f.store.clone() } else { other.clone() };
            tokio::spawn(async move { used(&store, user, shown, n + 2, secs).await })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.push(task.await.unwrap());
    }
    other.close().await;
    all
}

fn count(all: &[RememberedUse], what: RememberedUse) -> usize {
    all.iter().filter(|one| **one == what).count()
}

async fn of_fifty_uses_of_one_secret_at_once_one_makes_the_next_and_the_others_are_tabs_of_it(f: &Fixture) {
    let ann = f.user("ann").await;
    let row = remember(f, ann).await;
    let all = at_once(f, ann, first(&row), 60).await;
    assert_eq!((count(&all, RememberedUse::Rotated), count(&all, RememberedUse::Parallel)), (1, 49), "{all:?}");
    assert_eq!(f.store.remembered_of(ann, later(60)).await.unwrap()[0].used_at, later(60));
    assert_eq!(used(&f.store, ann, first(&row), 99, 69).await, RememberedUse::Parallel, "a slow tab");
    assert_eq!(used(&f.store, ann, first(&row), 99, 70).await, RememberedUse::Copied, "and no slower one");
}

async fn of_fifty_copies_at_once_one_is_told_and_the_series_is_gone(f: &Fixture) {
    let ann = f.user("ann").await;
    let row = remember(f, ann).await;
    assert_eq!(used(&f.store, ann, first(&row), 2, 60).await, RememberedUse::Rotated);
    let second = RememberedSecret { counter: 2, hash: [2; 32], ..first(&row) };
    let all = at_once(f, ann, first(&row), 3600).await;
    assert_eq!((count(&all, RememberedUse::Copied), count(&all, RememberedUse::Gone)), (1, 49), "{all:?}");
    assert_eq!(used(&f.store, ann, second, 3, 3600).await, RememberedUse::Gone, "the newest is void too");
    assert!(f.store.remembered_of(ann, later(60)).await.unwrap().is_empty());
}

async fn a_remembered_browser_is_of_one_person_for_its_time(f: &Fixture) {
    let (ann, bob) = (f.user("ann").await, f.user("bob").await);
    let row = remember(f, ann).await;
    assert_eq!(f.store.remembered(ann, row.id, now()).await.unwrap(), Some(row.clone()));
    assert_eq!(f.store.remembered(bob, row.id, now()).await.unwrap(), None);
    assert_eq!(used(&f.store, bob, first(&row), 2, 1).await, RememberedUse::Gone);
    let mut tx = f.store.begin().await.unwrap();
    assert!(!tx.forget_remembered(bob, row.id).await.unwrap());
    tx.rollback().await;
    assert_eq!(used(&f.store, ann, first(&row), 2, 86_400).await, RememberedUse::Gone, "its time is over");
    assert_eq!(f.store.remembered(ann, row.id, later(86_400)).await.unwrap(), None);
    assert_eq!(used(&f.store, ann, first(&row), 2, 86_399).await, RememberedUse::Rotated);
    assert_eq!(f.store.all_remembered(now()).await.unwrap()[0].1.as_str(), "ann");
    let mut tx = f.store.begin().await.unwrap();
    assert!(tx.forget_remembered(ann, row.id).await.unwrap());
    tx.commit(&[event(Action::DeviceForget)]).await.unwrap();
    assert!(f.store.all_remembered(now()).await.unwrap().is_empty());
    remember(f, ann).await;
    assert_eq!(f.store.sweep(later(86_399)).await.unwrap().remembered, 0);
    assert_eq!(f.store.sweep(later(86_400)).await.unwrap().remembered, 1);
}

async fn a_remembered_browser_ends_with_a_password_and_with_all_sessions(f: &Fixture) {
    let ann = f.user("ann").await;
    let mut tx = f.store.begin().await.unwrap();
    tx.set_password(ann, "$argon2id$one", now()).await.unwrap();
    tx.commit(&[event(Action::PasswordChange)]).await.unwrap();
    for ends in ["password", "sessions", "everyone", "disabled"] {
        let row = remember(f, ann).await;
        let mut tx = f.store.begin().await.unwrap();
        match ends {
            "password" => drop(tx.set_password(ann, "$argon2id$two", now()).await.unwrap()),
            "sessions" => drop(tx.end_sessions_of(ann, None, "a test", now()).await.unwrap()),
            "everyone" => drop(tx.end_all_sessions("a test", now()).await.unwrap()),
            _ => drop(tx.set_status(ann, stepgate::domain::user::UserStatus::Disabled, now()).await.unwrap()),
        }
        tx.commit(&[event(Action::SessionEnd)]).await.unwrap();
        assert_eq!(f.store.remembered(ann, row.id, now()).await.unwrap(), None, "{ends}");
        assert_eq!(used(&f.store, ann, first(&row), 2, 1).await, RememberedUse::Gone, "{ends}: and no theft");
        assert!(f.store.sweep(now()).await.unwrap().remembered >= 1, "{ends}");
    }
}
