//! Accounts and one-time links.

use stepgate::base::ids::UserId;
use stepgate::domain::audit::Action;
use stepgate::domain::user::{GroupName, UserStatus};
use stepgate::store::{LinkKind, LinkRow, Revocation, RevocationCursor, StoreError, Tx, Unaudited};

use super::fixture::{Fixture, event, later, name, new_credential, new_flow, new_session, new_user, now, user_id};
use super::on_both;

on_both!(
    an_account_reads_back_as_it_was_made,
    a_name_is_given_once,
    names_that_differ_in_letter_case_alone_are_given_once_however_many_ask,
    s_id_7_a_removed_account_leaves_a_free_name_and_a_taken_id,
    s_enr_1_the_first_login_window_never_opens_again_after_a_factor,
    disabling_ends_sessions_ceremonies_and_links,
    a_disabled_account_gets_nothing_new,
    s_sess_5_what_was_shown_before_a_change_begins_no_session_after_it,
    s_rec_3_a_link_is_claimed_once_however_many_ask,
    a_link_ends_at_its_hour_and_with_a_newer_one,
    changes_that_must_bite_are_told_to_every_cache,
);

async fn an_account_reads_back_as_it_was_made(f: &Fixture) {
    let mut new = new_user("zoë");
    new.groups = vec![GroupName::parse("staff").unwrap(), GroupName::parse("payroll leads").unwrap()];
    new.first_login_until = Some(later(86_400));
    let mut tx = f.store.begin().await.unwrap();
    assert!(tx.insert_user(&new).await.unwrap());
    assert!(tx.set_password(new.id, "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$aGFzaA", now()).await.unwrap());
    tx.commit(&[event(Action::UserAdd)]).await.unwrap();

    let user = f.store.user_by_name(&name("zoë")).await.unwrap().unwrap();
    assert_eq!(Some(&user), f.store.user_by_id(new.id).await.unwrap().as_ref());
    assert_eq!((user.id, &user.name, &user.display), (new.id, &new.name, &new.display));
    assert_eq!((&user.email, &user.groups), (&new.email, &new.groups));
    assert_eq!((user.status, user.created_at), (UserStatus::Active, now()));
    assert_eq!((user.first_login_until, user.ever_enrolled), (new.first_login_until, false));
    assert!(f.store.password_hash(new.id).await.unwrap().unwrap().starts_with("$argon2id$"));
    assert!(!format!("{user:?}").contains("argon2"), "no reader of accounts holds a hash");

    assert_eq!(f.store.user_by_name(&name("Zoë")).await.unwrap(), None);
    assert_eq!(f.store.user_by_id(user_id()).await.unwrap(), None);
    assert_eq!(f.store.password_hash(user_id()).await.unwrap(), None);
    f.user("Bob").await;
    f.user("ann").await;
    let names: Vec<String> = f.store.users().await.unwrap().iter().map(|u| u.name.to_string()).collect();
    assert_eq!(names, ["Bob", "ann", "zoë"]);
    let with_password = f.store.with_password().await.unwrap();
    assert_eq!(with_password.into_iter().collect::<Vec<_>>(), [new.id], "and who has a password, without any");
}

async fn a_name_is_given_once(f: &Fixture) {
    let first = f.user("ann").await;
    let mut tx = f.store.begin().await.unwrap();
    assert!(!tx.insert_user(&new_user("ann")).await.unwrap());
    tx.rollback().await;
    assert_eq!(f.store.user_by_name(&name("ann")).await.unwrap().unwrap().id, first);

    let made = f.race(20, |tx, _| Box::pin(async move { tx.insert_user(&new_user("lee")).await.unwrap() })).await;
    assert_eq!(made, 1);
}

async fn names_that_differ_in_letter_case_alone_are_given_once_however_many_ask(f: &Fixture) {
    let spelled = ["zoë", "Zoë", "ZOË", "zOë", "zoË"];
    let made = f
        .race(20, move |tx, at| {
            Box::pin(async move {
                let new = new_user(spelled[at % spelled.len()]);
                tx.name_near(&new.name).await.unwrap().is_none() && tx.insert_user(&new).await.unwrap()
            })
        })
        .await;
    assert_eq!(made, 1);
    let mut tx = f.store.begin().await.unwrap();
    assert_eq!(tx.name_near(&name("zoé")).await.unwrap(), None, "another letter is another name");
    tx.rollback().await;
}

async fn s_id_7_a_removed_account_leaves_a_free_name_and_a_taken_id(f: &Fixture) {
    let old = f.user("ann").await;
    let session = f.session(old).await;
    f.credential(old).await;
    let mut tx = f.store.begin().await.unwrap();
    tx.set_password(old, "$argon2id$x", now()).await.unwrap();
    tx.replace_backup_codes(old, [1; 16], &[[2; 32]], now()).await.unwrap();
    assert!(tx.remove_user(old, now()).await.unwrap());
    assert!(!tx.remove_user(old, now()).await.unwrap(), "once");
    tx.commit(&[event(Action::UserRemove)]).await.unwrap();

    assert_eq!(f.store.user_by_id(old).await.unwrap(), None);
    assert_eq!(f.store.user_by_name(&name("ann")).await.unwrap(), None);
    assert_eq!(f.store.password_hash(old).await.unwrap(), None);
    assert_eq!(f.store.credentials(old).await.unwrap(), []);
    assert_eq!(f.store.backup_codes(old).await.unwrap(), None);
    assert!(f.store.session(session.id).await.unwrap().unwrap().ended_at.is_some());
    assert!(f.store.users().await.unwrap().is_empty());
    assert!(f.store.with_password().await.unwrap().is_empty());

    let new = f.user("ann").await;
    assert_ne!(new, old);
    assert!(f.store.sessions_of(new, now()).await.unwrap().is_empty(), "the new ann inherits nothing");
    let mut tx = f.store.begin().await.unwrap();
    let again = tx.insert_user(&stepgate::store::NewUser { id: old, ..new_user("third") }).await;
    assert_eq!(again, Err(StoreError::Conflict), "an id is never given again");
    drop(tx);
    let mut tx = f.store.begin().await.unwrap();
    assert!(!tx.set_password(old, "x", now()).await.unwrap());
    assert!(!tx.set_status(old, UserStatus::Active, now()).await.unwrap(), "nothing wakes it");
    assert!(!tx.set_groups(old, &[]).await.unwrap());
    tx.rollback().await;
}

async fn s_enr_1_the_first_login_window_never_opens_again_after_a_factor(f: &Fixture) {
    let ann = f.user("ann").await;
    let mut tx = f.store.begin().await.unwrap();
    assert!(tx.set_first_login(ann, Some(later(60))).await.unwrap());
    tx.mark_enrolled(ann).await.unwrap();
    assert!(!tx.set_first_login(ann, Some(later(60))).await.unwrap());
    tx.remove_credentials(ann).await.unwrap();
    assert!(!tx.set_first_login(ann, Some(later(60))).await.unwrap(), "not after a reset either");
    tx.commit(&[event(Action::FactorEnroll)]).await.unwrap();
    let user = f.store.user_by_id(ann).await.unwrap().unwrap();
    assert_eq!((user.first_login_until, user.ever_enrolled), (None, true));
}

async fn disabling_ends_sessions_ceremonies_and_links(f: &Fixture) {
    let ann = f.user("ann").await;
    let bob = f.user("bob").await;
    f.session(ann).await;
    let bobs = f.session(bob).await;
    let flow = new_flow(ann);
    let mut tx = f.store.begin().await.unwrap();
    let held = tx.hold(ann, 0).await.unwrap();
    tx.insert_flow(held, &flow).await.unwrap();
    tx.insert_link(&link(ann, 1)).await.unwrap();
    assert!(tx.set_status(ann, UserStatus::Disabled, now()).await.unwrap());
    assert!(!tx.set_status(ann, UserStatus::Disabled, now()).await.unwrap(), "nothing changed");
    tx.commit(&[event(Action::UserDisable)]).await.unwrap();

    assert_eq!(f.store.user_by_id(ann).await.unwrap().unwrap().status, UserStatus::Disabled);
    let mut tx = f.store.begin().await.unwrap();
    assert!(tx.set_status(ann, UserStatus::Active, now()).await.unwrap());
    tx.commit(&[event(Action::UserEnable)]).await.unwrap();
    assert!(f.store.sessions_of(ann, now()).await.unwrap().is_empty(), "enabling brings nothing back");
    assert_eq!(f.store.flow(flow.id, now()).await.unwrap(), None);
    assert_eq!(f.store.peek_link(&[1; 32], now()).await.unwrap(), None);
    assert_eq!(f.store.sessions_of(bob, now()).await.unwrap(), [bobs]);
}

async fn a_disabled_account_gets_nothing_new(f: &Fixture) {
    let ann = f.user("ann").await;
    let mut tx = f.store.begin().await.unwrap();
    tx.set_status(ann, UserStatus::Disabled, now()).await.unwrap();
    tx.insert_link(&link(ann, 1)).await.unwrap();
    tx.commit(&[event(Action::UserDisable)]).await.unwrap();

    let mut tx = f.store.begin().await.unwrap();
    let epoch = f.store.user_by_id(ann).await.unwrap().unwrap().epoch;
    assert_eq!(tx.hold(ann, epoch).await.unwrap_err(), StoreError::Conflict, "no session and no ceremony");
    assert_eq!(tx.insert_credential(&new_credential(ann)).await, Err(StoreError::Conflict));
    assert_eq!(tx.claim_link(&[1; 32], now()).await.unwrap(), None);
    tx.rollback().await;
    assert_eq!(f.store.peek_link(&[1; 32], now()).await.unwrap(), None);

    // Sign-ins that were under way while it happened: whoever is first, no session stays.
    let bob = f.user("bob").await;
    let store = f.store.clone();
    let disable = tokio::spawn(async move {
        let mut tx = store.begin().await.unwrap();
        tx.set_status(bob, UserStatus::Disabled, now()).await.unwrap();
        tx.commit(&[event(Action::UserDisable)]).await.unwrap();
    });
    f.race(20, move |tx, _| Box::pin(async move { signs_in(tx, bob, 0).await })).await;
    disable.await.unwrap();
    assert_eq!(f.store.sessions_of(bob, now()).await.unwrap(), []);
}

async fn signs_in(tx: &mut Tx, user: UserId, epoch: i64) -> bool {
    match tx.hold(user, epoch).await {
        Ok(held) => tx.insert_session(held, &new_session(user)).await.is_ok(),
        Err(error) => {
            assert_eq!(error, StoreError::Conflict);
            false
        }
    }
}

/// A password is checked outside of the transaction that begins the session: between the two it may
/// be changed, a factor may be removed, all sessions may be ended.
async fn s_sess_5_what_was_shown_before_a_change_begins_no_session_after_it(f: &Fixture) {
    let bob = f.user("bob").await;
    let flow = new_flow(bob);
    let mut tx = f.store.begin().await.unwrap();
    let held = tx.hold(bob, 0).await.unwrap();
    tx.insert_flow(held, &flow).await.unwrap();
    tx.set_password(bob, "first", now()).await.unwrap();
    tx.commit(&[event(Action::PasswordChange)]).await.unwrap();
    assert!(f.store.flow(flow.id, now()).await.unwrap().is_some(), "a first password voids nothing");

    for change in ["set_password", "end_sessions_of", "end_all_sessions"] {
        let seen = f.store.user_by_id(bob).await.unwrap().unwrap().epoch;
        let store = f.store.clone();
        let changing = tokio::spawn(async move {
            let mut tx = store.begin().await.unwrap();
            match change {
                "set_password" => {
                    tx.set_password(bob, "second", now()).await.unwrap();
                    tx.end_sessions_of(bob, None, "x", now()).await.unwrap();
                }
                "end_sessions_of" => drop(tx.end_sessions_of(bob, None, "x", now()).await.unwrap()),
                _ => drop(tx.end_all_sessions("x", now()).await.unwrap()),
            }
            tx.commit(&[event(Action::PasswordChange)]).await.unwrap();
        });
        f.race(20, move |tx, _| Box::pin(async move { signs_in(tx, bob, seen).await })).await;
        changing.await.unwrap();
        assert_eq!(f.store.sessions_of(bob, now()).await.unwrap(), [], "{change}");
        assert_eq!(f.store.flow(flow.id, now()).await.unwrap(), None, "{change}: ceremonies are void");
        let mut tx = f.store.begin().await.unwrap();
        assert!(!tx.update_flow(flow.id, 1, "on").await.unwrap() && !tx.consume_flow(flow.id, 1).await.unwrap());
        // The ceremony that made the change goes on.
        tx.keep_flow(flow.id).await.unwrap();
        assert!(tx.update_flow(flow.id, 1, "on").await.unwrap());
        tx.rollback().await;
    }
}

async fn s_rec_3_a_link_is_claimed_once_however_many_ask(f: &Fixture) {
    let ann = f.user("ann").await;
    let mut tx = f.store.begin().await.unwrap();
    tx.insert_link(&link(ann, 1)).await.unwrap();
    tx.commit(&[event(Action::LinkCreate)]).await.unwrap();
    for _ in 0..3 {
        let seen = f.store.peek_link(&[1; 32], now()).await.unwrap();
        assert_eq!(seen, Some((ann, LinkKind::SignUp)), "looking at it (a mail scanner) does not use it");
    }
    let claimed =
        f.race(50, |tx, _| Box::pin(async move { tx.claim_link(&[1; 32], now()).await.unwrap().is_some() })).await;
    assert_eq!(claimed, 1);
    assert_eq!(f.store.peek_link(&[1; 32], now()).await.unwrap(), None);

    // A claim that was not committed was none.
    let mut tx = f.store.begin().await.unwrap();
    tx.insert_link(&LinkRow { kind: LinkKind::AccessPass, ..link(ann, 2) }).await.unwrap();
    tx.commit(&[event(Action::LinkCreate)]).await.unwrap();
    let mut tx = f.store.begin().await.unwrap();
    assert_eq!(tx.claim_link(&[2; 32], now()).await.unwrap(), Some((ann, LinkKind::AccessPass)));
    tx.rollback().await;
    assert!(f.store.peek_link(&[2; 32], now()).await.unwrap().is_some());
}

async fn a_link_ends_at_its_hour_and_with_a_newer_one(f: &Fixture) {
    let ann = f.user("ann").await;
    let bob = f.user("bob").await;
    let mut tx = f.store.begin().await.unwrap();
    tx.insert_link(&link(bob, 3)).await.unwrap();
    tx.commit(&[event(Action::LinkCreate)]).await.unwrap();
    let pending = (bob, link(bob, 3).kind, link(bob, 3).expires_at);
    assert_eq!(f.store.links(now()).await.unwrap(), [pending]);
    assert!(f.store.links(pending.2).await.unwrap().is_empty(), "its hour has come");
    let mut tx = f.store.begin().await.unwrap();
    tx.insert_link(&link(ann, 1)).await.unwrap();
    tx.insert_link(&link(ann, 2)).await.unwrap();
    assert_eq!(tx.claim_link(&[1; 32], now()).await.unwrap(), None, "a newer one was made");
    assert_eq!(tx.claim_link(&[2; 32], link(ann, 2).expires_at).await.unwrap(), None, "its hour has come");
    let last = stepgate::base::clock::Timestamp::from_millis(link(ann, 2).expires_at.as_millis() - 1);
    assert!(tx.claim_link(&[2; 32], last).await.unwrap().is_some());
    assert!(tx.claim_link(&[3; 32], now()).await.unwrap().is_some(), "bob's is his own");
    tx.commit(&[event(Action::LinkUse)]).await.unwrap();
}

async fn changes_that_must_bite_are_told_to_every_cache(f: &Fixture) {
    let ann = f.user("ann").await;
    let (first, mut cursor) = f.store.revocations_after(RevocationCursor::default()).await.unwrap();
    assert_eq!(first, []);
    let other = f.other().await;
    let mut told = async |expected: &[Revocation]| {
        let (fresh, next) = other.revocations_after(cursor.clone()).await.unwrap();
        cursor = next;
        assert_eq!(fresh, expected);
    };
    let session = f.session(ann).await;
    told(&[]).await;

    let mut tx = f.store.begin().await.unwrap();
    tx.set_groups(ann, &[GroupName::parse("staff").unwrap()]).await.unwrap();
    tx.commit(&[event(Action::UserChange)]).await.unwrap();
    told(&[Revocation::User(ann)]).await;
    told(&[]).await;

    let mut tx = f.store.begin().await.unwrap();
    tx.remove_credentials(ann).await.unwrap();
    tx.rollback().await;
    told(&[]).await;

    let mut tx = f.store.begin().await.unwrap();
    tx.remove_credentials(ann).await.unwrap();
    tx.commit_unaudited(Unaudited::Housekeeping).await.unwrap();
    told(&[Revocation::User(ann)]).await;

    let mut tx = f.store.begin().await.unwrap();
    tx.set_status(ann, UserStatus::Disabled, now()).await.unwrap();
    tx.commit(&[event(Action::UserDisable)]).await.unwrap();
    told(&[Revocation::Session(session.id), Revocation::User(ann)]).await;

    let mut tx = f.store.begin().await.unwrap();
    tx.end_all_sessions("incident", now()).await.unwrap();
    tx.remove_user(ann, now()).await.unwrap();
    tx.commit(&[event(Action::SessionEnd)]).await.unwrap();
    told(&[Revocation::All, Revocation::User(ann), Revocation::User(ann)]).await;
    other.close().await;
}

fn link(user: UserId, byte: u8) -> LinkRow {
    LinkRow { hash: [byte; 32], user, kind: LinkKind::SignUp, created_at: now(), expires_at: later(3600) }
}
