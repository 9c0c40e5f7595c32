//! Authenticators and backup codes: what works once, works once.

use stepgate::domain::audit::Action;
use stepgate::domain::factor::FactorKind;
use stepgate::store::{BackupSet, Credential, Removed};

use super::fixture::{Fixture, credential_id, event, later, new_credential, now};
use super::on_both;

on_both!(
    an_authenticator_reads_back_as_it_was_enrolled,
    s_totp_1_a_step_is_accepted_once_and_never_an_older_one,
    s_totp_1_of_fifty_at_once_with_the_same_code_one_succeeds,
    s_hotp_1_a_counter_only_goes_forward_and_of_fifty_at_once_one_moves_it,
    failures_in_a_row_are_counted_until_a_success,
    a_disabled_authenticator_accepts_nothing,
    an_account_removes_only_its_own,
    of_two_removals_at_once_one_authenticator_is_left,
    s_back_1_a_backup_code_is_spent_once,
    s_back_1_a_new_set_voids_the_old,
);

async fn an_authenticator_reads_back_as_it_was_enrolled(f: &Fixture) {
    let ann = f.user("ann").await;
    let first = f.credential(ann).await;
    let second = Credential {
        kind: FactorKind::Webauthn,
        label: "Schlüssel".into(),
        last_used_at: Some(later(1)),
        created_at: later(1),
        ..new_credential(ann)
    };
    let mut tx = f.store.begin().await.unwrap();
    tx.insert_credential(&second).await.unwrap();
    tx.commit(&[event(Action::FactorEnroll)]).await.unwrap();
    assert_eq!(f.store.credentials(ann).await.unwrap(), [first.clone(), second.clone()]);
    assert_eq!(f.store.credential(second.id).await.unwrap(), Some(second));
    assert_eq!(f.store.credential(credential_id()).await.unwrap(), None);
}

async fn s_totp_1_a_step_is_accepted_once_and_never_an_older_one(f: &Fixture) {
    let ann = f.user("ann").await;
    let phone = f.credential(ann).await;
    let mut tx = f.store.begin().await.unwrap();
    assert!(!tx.advance_step(phone.id, 100, now()).await.unwrap(), "the enrollment code counts as used");
    assert!(tx.advance_step(phone.id, 101, now()).await.unwrap());
    assert!(!tx.advance_step(phone.id, 101, now()).await.unwrap());
    assert!(!tx.advance_step(phone.id, 100, now()).await.unwrap());
    assert!(tx.advance_step(phone.id, 103, later(60)).await.unwrap());
    assert!(!tx.advance_step(phone.id, 102, later(60)).await.unwrap(), "skipped, and past");
    tx.commit(&[event(Action::FactorVerify)]).await.unwrap();
    let stored = f.store.credential(phone.id).await.unwrap().unwrap();
    assert_eq!((stored.last_step, stored.last_used_at), (103, Some(later(60))));
}

async fn of_two_removals_at_once_one_authenticator_is_left(f: &Fixture) {
    let ann = f.user("ann").await;
    let ids = [f.credential(ann).await.id, f.credential(ann).await.id];
    let removed = f
        .race(20, move |tx, n| {
            let id = ids[n % 2];
            Box::pin(async move { tx.remove_credential_but_last(ann, id).await.unwrap() == Removed::Yes })
        })
        .await;
    assert_eq!(removed, 1);
    let left = f.store.credentials(ann).await.unwrap();
    assert_eq!(left.len(), 1);

    // A disabled one is none to fall back on.
    let spare = f.credential(ann).await;
    let mut tx = f.store.begin().await.unwrap();
    tx.disable_credential(spare.id, now()).await.unwrap();
    assert_eq!(tx.remove_credential_but_last(ann, left[0].id).await.unwrap(), Removed::IsLast);
    assert_eq!(tx.remove_credential_but_last(ann, spare.id).await.unwrap(), Removed::Yes);
    assert_eq!(tx.remove_credential_but_last(ann, credential_id()).await.unwrap(), Removed::NotThere);
    tx.commit(&[event(Action::FactorRemove)]).await.unwrap();
}

async fn s_totp_1_of_fifty_at_once_with_the_same_code_one_succeeds(f: &Fixture) {
    let ann = f.user("ann").await;
    let phone = f.credential(ann).await.id;
    let accepted =
        f.race(50, move |tx, _| Box::pin(async move { tx.advance_step(phone, 101, now()).await.unwrap() })).await;
    assert_eq!(accepted, 1);
}

async fn s_hotp_1_a_counter_only_goes_forward_and_of_fifty_at_once_one_moves_it(f: &Fixture) {
    let ann = f.user("ann").await;
    let token = Credential { kind: FactorKind::Hotp, last_step: -1, ..new_credential(ann) };
    let id = token.id;
    let mut tx = f.store.begin().await.unwrap();
    tx.insert_credential(&token).await.unwrap();
    tx.commit(&[event(Action::FactorEnroll)]).await.unwrap();
    let moved = f.race(50, move |tx, _| Box::pin(async move { tx.advance_step(id, 0, now()).await.unwrap() })).await;
    assert_eq!(moved, 1, "counter 0 is the first of a new token");
    // Fifty with codes of their own at once, some by two in a row: each that wins is ahead of all that won before.
    let moved = f
        .race(50, move |tx, n| {
            let counter = 1 + i64::try_from(n % 10).unwrap();
            Box::pin(async move { tx.advance_step(id, counter, later(1)).await.unwrap() })
        })
        .await;
    assert!((1..=10).contains(&moved), "{moved} of ten codes");
    assert_eq!(f.store.credential(id).await.unwrap().unwrap().last_step, 10, "the furthest is where it stands");
    let mut tx = f.store.begin().await.unwrap();
    for behind in [-1, 0, 5, 10] {
        assert!(!tx.advance_step(id, behind, later(2)).await.unwrap(), "{behind}");
    }
    tx.rollback().await;
}

async fn failures_in_a_row_are_counted_until_a_success(f: &Fixture) {
    let ann = f.user("ann").await;
    let phone = f.credential(ann).await.id;
    f.race(20, move |tx, _| Box::pin(async move { tx.count_failure(phone).await.unwrap() > 0 })).await;
    let mut tx = f.store.begin().await.unwrap();
    assert_eq!(tx.count_failure(phone).await.unwrap(), 21, "none of twenty at once was lost");
    assert!(tx.advance_step(phone, 200, now()).await.unwrap());
    assert_eq!(tx.count_failure(phone).await.unwrap(), 1);
    assert_eq!(tx.count_failure(credential_id()).await.unwrap(), 0);
    tx.rollback().await;
}

async fn a_disabled_authenticator_accepts_nothing(f: &Fixture) {
    let ann = f.user("ann").await;
    let phone = f.credential(ann).await.id;
    let mut tx = f.store.begin().await.unwrap();
    assert!(tx.disable_credential(phone, later(5)).await.unwrap());
    assert!(!tx.disable_credential(phone, later(6)).await.unwrap());
    assert!(!tx.advance_step(phone, 500, now()).await.unwrap());
    tx.commit(&[event(Action::FactorDisable)]).await.unwrap();
    assert_eq!(f.store.credential(phone).await.unwrap().unwrap().disabled_at, Some(later(5)));
}

async fn an_account_removes_only_its_own(f: &Fixture) {
    let ann = f.user("ann").await;
    let bob = f.user("bob").await;
    let phone = f.credential(ann).await.id;
    f.credential(ann).await;
    f.credential(bob).await;
    let mut tx = f.store.begin().await.unwrap();
    assert!(!tx.remove_credential(bob, phone).await.unwrap());
    assert!(tx.remove_credential(ann, phone).await.unwrap());
    assert!(!tx.remove_credential(ann, phone).await.unwrap());
    tx.replace_backup_codes(ann, [1; 16], &[[1; 32]], now()).await.unwrap();
    assert_eq!(tx.remove_credentials(ann).await.unwrap(), 2, "one phone, one set of codes");
    tx.commit(&[event(Action::FactorReset)]).await.unwrap();
    assert_eq!(f.store.credentials(ann).await.unwrap(), []);
    assert_eq!(f.store.backup_codes(ann).await.unwrap(), None);
    assert_eq!(f.number("SELECT COUNT(*) FROM backup_codes").await, 0);
    assert_eq!(f.store.credentials(bob).await.unwrap().len(), 1);
}

async fn s_back_1_a_backup_code_is_spent_once(f: &Fixture) {
    let ann = f.user("ann").await;
    let bob = f.user("bob").await;
    let mut tx = f.store.begin().await.unwrap();
    let hashes: Vec<[u8; 32]> = (0..10).map(|n| [n; 32]).collect();
    tx.replace_backup_codes(ann, [7; 16], &hashes, now()).await.unwrap();
    tx.commit(&[event(Action::BackupCodesCreate)]).await.unwrap();
    let set = f.store.backup_codes(ann).await.unwrap();
    assert_eq!(set, Some(BackupSet { salt: [7; 16], left: 10, made: 10, created_at: now() }));

    let spent =
        f.race(50, move |tx, _| Box::pin(async move { tx.spend_backup_code(ann, &[3; 32]).await.unwrap() })).await;
    assert_eq!(spent, 1);
    let mut tx = f.store.begin().await.unwrap();
    assert!(!tx.spend_backup_code(bob, &[4; 32]).await.unwrap(), "another's code");
    assert!(!tx.spend_backup_code(ann, &[99; 32]).await.unwrap());
    tx.rollback().await;
    assert_eq!(f.store.backup_codes(ann).await.unwrap().unwrap().left, 9);
}

async fn s_back_1_a_new_set_voids_the_old(f: &Fixture) {
    let ann = f.user("ann").await;
    let mut tx = f.store.begin().await.unwrap();
    tx.replace_backup_codes(ann, [1; 16], &[[1; 32], [2; 32]], now()).await.unwrap();
    tx.replace_backup_codes(ann, [2; 16], &[[3; 32]], later(1)).await.unwrap();
    assert!(!tx.spend_backup_code(ann, &[1; 32]).await.unwrap());
    assert!(tx.spend_backup_code(ann, &[3; 32]).await.unwrap());
    tx.commit(&[event(Action::BackupCodesCreate)]).await.unwrap();
    let set = f.store.backup_codes(ann).await.unwrap();
    assert_eq!(set, Some(BackupSet { salt: [2; 16], left: 0, made: 1, created_at: later(1) }), "spent, not absent");

    // Two replacements at once end in one whole set, not in a mixture.
    f.race(8, move |tx, n| {
        Box::pin(async move {
            let n = u8::try_from(n).unwrap();
            tx.replace_backup_codes(ann, [n; 16], &[[10 + n; 32], [100 + n; 32]], now()).await.unwrap();
            true
        })
    })
    .await;
    let set = f.store.backup_codes(ann).await.unwrap().unwrap();
    assert_eq!(set.left, 2);
    let mut tx = f.store.begin().await.unwrap();
    assert!(tx.spend_backup_code(ann, &[10 + set.salt[0]; 32]).await.unwrap());
    assert!(tx.spend_backup_code(ann, &[100 + set.salt[0]; 32]).await.unwrap());
    tx.rollback().await;
}
