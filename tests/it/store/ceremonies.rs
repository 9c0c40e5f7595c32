//! Flows and hand-overs: each step, and each code, for one caller.

use stepgate::base::clock::Timestamp;
use stepgate::domain::audit::Action;
use stepgate::store::{FlowRow, StoreError, Unaudited};

use super::fixture::{Fixture, event, later, new_flow, new_handover, now, session_id};
use super::on_both;

on_both!(
    a_step_names_the_version_it_was_shown,
    a_ceremony_ends_once_and_at_its_hour,
    what_others_began_in_a_browser_ends_and_ones_own_goes_on,
    s_login_8_a_hand_over_code_works_once,
    s_login_8_a_hand_over_code_works_at_its_host_with_its_nonce_in_time,
    a_hand_over_dies_with_its_session,
);

async fn a_step_names_the_version_it_was_shown(f: &Fixture) {
    let ann = f.user("ann").await;
    let flow = new_flow(ann);
    let mut tx = f.store.begin().await.unwrap();
    let held = tx.hold(ann, 0).await.unwrap();
    tx.insert_flow(held, &flow).await.unwrap();
    tx.commit_unaudited(Unaudited::FlowProgress).await.unwrap();
    assert_eq!(f.store.flow(flow.id, now()).await.unwrap(), Some(flow.clone()));

    let id = flow.id;
    let stepped =
        f.race(50, move |tx, n| Box::pin(async move { tx.update_flow(id, 1, &n.to_string()).await.unwrap() })).await;
    assert_eq!(stepped, 1);
    let mut tx = f.store.begin().await.unwrap();
    assert!(!tx.update_flow(id, 1, "old").await.unwrap());
    assert!(!tx.consume_flow(id, 1).await.unwrap());
    assert!(tx.update_flow(id, 2, "new").await.unwrap());
    tx.commit_unaudited(Unaudited::FlowProgress).await.unwrap();
    let stored = f.store.flow(id, now()).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.state.as_str()), (3, "new"));
}

async fn a_ceremony_ends_once_and_at_its_hour(f: &Fixture) {
    let ann = f.user("ann").await;
    let flow = new_flow(ann);
    let mut tx = f.store.begin().await.unwrap();
    let held = tx.hold(ann, 0).await.unwrap();
    tx.insert_flow(held, &flow).await.unwrap();
    tx.commit_unaudited(Unaudited::FlowProgress).await.unwrap();
    let last = Timestamp::from_millis(flow.expires_at.as_millis() - 1);
    assert!(f.store.flow(flow.id, last).await.unwrap().is_some());
    assert_eq!(f.store.flow(flow.id, flow.expires_at).await.unwrap(), None);
    let id = flow.id;
    let ended = f.race(50, move |tx, _| Box::pin(async move { tx.consume_flow(id, 1).await.unwrap() })).await;
    assert_eq!(ended, 1);
    assert_eq!(f.store.flow(id, now()).await.unwrap(), None);
}

async fn what_others_began_in_a_browser_ends_and_ones_own_goes_on(f: &Fixture) {
    let (ann, bob) = (f.user("ann").await, f.user("bob").await);
    let elsewhere = FlowRow { browser_hash: [3; 32], ..new_flow(bob) };
    let flows = [new_flow(ann), new_flow(bob), elsewhere];
    let mut tx = f.store.begin().await.unwrap();
    for flow in &flows {
        let held = tx.hold(flow.user, 0).await.unwrap();
        tx.insert_flow(held, flow).await.unwrap();
    }
    assert_eq!(tx.end_flows_of_others(&[2; 32], ann).await.unwrap(), 1);
    tx.commit_unaudited(Unaudited::FlowProgress).await.unwrap();
    for (flow, left) in flows.iter().zip([true, false, true]) {
        assert_eq!(f.store.flow(flow.id, now()).await.unwrap().is_some(), left);
    }
}

async fn s_login_8_a_hand_over_code_works_once(f: &Fixture) {
    let session = f.session(f.user("ann").await).await;
    let new = new_handover(session.id, 1);
    let mut tx = f.store.begin().await.unwrap();
    tx.insert_handover(&new).await.unwrap();
    tx.commit(&[event(Action::Handover)]).await.unwrap();
    let expected = new.clone();
    let claimed = f
        .race(50, move |tx, _| {
            let expected = expected.clone();
            Box::pin(async move {
                let got = tx.claim_handover(&[1; 32], "app.corp.example", &[[9; 32]], now()).await.unwrap();
                got.inspect(|got| assert_eq!(*got, expected)).is_some()
            })
        })
        .await;
    assert_eq!(claimed, 1);
}

async fn s_login_8_a_hand_over_code_works_at_its_host_with_its_nonce_in_time(f: &Fixture) {
    let session = f.session(f.user("ann").await).await;
    let last = Timestamp::from_millis(later(60).as_millis() - 1);
    for (n, host, nonce, at, works) in [
        (1, "other.corp.example", [9; 32], now(), false),
        (2, "app.corp.example", [8; 32], now(), false),
        (3, "app.corp.example", [9; 32], later(60), false),
        (4, "app.corp.example", [9; 32], last, true),
    ] {
        let new = new_handover(session.id, n);
        let mut tx = f.store.begin().await.unwrap();
        tx.insert_handover(&new).await.unwrap();
        assert_eq!(tx.claim_handover(&[77; 32], host, &[nonce], at).await.unwrap(), None, "a code of nobody");
        assert_eq!(tx.claim_handover(&[n; 32], host, &[nonce], at).await.unwrap(), works.then_some(new), "{n}");
        // A claim uses it up, whoever made it: the one who waits for it comes too late.
        assert_eq!(tx.claim_handover(&[n; 32], "app.corp.example", &[[9; 32]], now()).await.unwrap(), None, "{n}");
        tx.commit(&[event(Action::Handover)]).await.unwrap();
    }
}

async fn a_hand_over_dies_with_its_session(f: &Fixture) {
    let session = f.session(f.user("ann").await).await;
    let mut tx = f.store.begin().await.unwrap();
    tx.insert_handover(&new_handover(session.id, 1)).await.unwrap();
    assert!(tx.end_session(session.id, "signed out", now()).await.unwrap());
    assert_eq!(tx.claim_handover(&[1; 32], "app.corp.example", &[[9; 32]], now()).await.unwrap(), None);
    assert_eq!(tx.insert_handover(&new_handover(session.id, 2)).await, Err(StoreError::Conflict));
    assert_eq!(tx.insert_handover(&new_handover(session_id(), 3)).await, Err(StoreError::Conflict));
    tx.rollback().await;
}
