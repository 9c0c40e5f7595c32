//! Sign-ins, tokens, revocations, and what the sweep takes away.

use std::time::Duration;

use stepgate::base::ids::SessionId;
use stepgate::domain::audit::Action;
use stepgate::store::{
    LinkKind, LinkRow, Revocation, RevocationCursor, SessionRow, StoreError, Swept, TokenRow, Unaudited,
};

use super::fixture::{Fixture, event, later, new_flow, new_handover, new_session, new_token, now, session_id};
use super::on_both;

on_both!(
    a_token_loads_with_its_session_and_its_account,
    a_token_is_superseded_once,
    an_ended_session_takes_no_more_tokens,
    of_many_tokens_for_one_host_the_newest_stay,
    a_session_ends_once_and_says_why,
    ending_the_others_spares_one,
    ending_everyone_leaves_nobody,
    the_oldest_sessions_beyond_the_limit_are_named,
    last_seen_goes_forward_only,
    a_revocation_that_commits_late_is_not_missed,
    a_revocation_that_cannot_be_read_empties_the_caches,
    what_has_outlived_its_use_is_swept,
    a_sweep_takes_more_than_one_batch,
);

async fn a_token_loads_with_its_session_and_its_account(f: &Fixture) {
    let ann = f.user("ann").await;
    let session = f.session(ann).await;
    let token = new_token(session.id, 1);
    let elsewhere = TokenRow { host: "wiki.corp.example".into(), evidence: vec![], ..new_token(session.id, 2) };
    let mut tx = f.store.begin().await.unwrap();
    tx.insert_token(&token).await.unwrap();
    tx.insert_token(&elsewhere).await.unwrap();
    tx.commit_unaudited(Unaudited::HostToken).await.unwrap();

    let (stored, of, who) = f.store.load_token(&[1; 32]).await.unwrap().unwrap();
    assert_eq!((&stored, &of, who.id), (&token, &session, ann));
    assert_eq!(f.store.load_token(&[9; 32]).await.unwrap(), None);
    assert_eq!(f.store.tokens_of(session.id).await.unwrap(), [token, elsewhere]);
    let all = f.store.sessions(now()).await.unwrap();
    assert_eq!(all.iter().map(|(s, name)| (s.id, name.as_str())).collect::<Vec<_>>(), [(session.id, "ann")]);
    assert_eq!(f.store.sessions(session.expires_at).await.unwrap(), [], "its maximum is reached");
    assert_eq!(f.store.sessions_of(ann, session.expires_at).await.unwrap(), []);

    let mut tx = f.store.begin().await.unwrap();
    tx.remove_user(ann, now()).await.unwrap();
    tx.commit(&[event(Action::UserRemove)]).await.unwrap();
    assert_eq!(f.store.load_token(&[1; 32]).await.unwrap(), None, "the account is gone");
}

async fn a_token_is_superseded_once(f: &Fixture) {
    let session = f.session(f.user("ann").await).await;
    let mut tx = f.store.begin().await.unwrap();
    tx.insert_token(&new_token(session.id, 1)).await.unwrap();
    tx.commit_unaudited(Unaudited::HostToken).await.unwrap();
    let won = f
        .race(50, |tx, n| {
            let at = later(u64::try_from(n).unwrap());
            Box::pin(async move { tx.supersede_token(&[1; 32], at).await.unwrap() })
        })
        .await;
    assert_eq!(won, 1);
    assert!(f.store.load_token(&[1; 32]).await.unwrap().unwrap().0.superseded_at.is_some());
    let (told, _) = f.store.revocations_after(RevocationCursor::default()).await.unwrap();
    assert_eq!(told, [Revocation::Session(session.id)], "caches elsewhere read it again");
}

async fn an_ended_session_takes_no_more_tokens(f: &Fixture) {
    let session = f.session(f.user("ann").await).await;
    let mut tx = f.store.begin().await.unwrap();
    tx.end_session(session.id, "signed out", now()).await.unwrap();
    assert_eq!(tx.insert_token(&new_token(session.id, 1)).await, Err(StoreError::Conflict));
    assert_eq!(tx.insert_token(&new_token(session_id(), 2)).await, Err(StoreError::Conflict));
    tx.rollback().await;
}

/// A browser that never shows the token it got is given another at each hand-over.
async fn of_many_tokens_for_one_host_the_newest_stay(f: &Fixture) {
    let (session, other) = (f.session(f.user("ann").await).await, f.session(f.user("bob").await).await);
    let mut tx = f.store.begin().await.unwrap();
    tx.insert_token(&new_token(other.id, 100)).await.unwrap();
    tx.insert_token(&TokenRow { host: "wiki.corp.example".into(), ..new_token(session.id, 101) }).await.unwrap();
    for byte in 1..=8 {
        tx.insert_token(&TokenRow { created_at: later(byte.into()), ..new_token(session.id, byte) }).await.unwrap();
    }
    tx.commit_unaudited(Unaudited::HostToken).await.unwrap();
    assert_eq!(f.store.revocations_after(RevocationCursor::default()).await.unwrap().0, []);

    // On a clock that was set back: the newest is what the browser has, whatever it says.
    let mut tx = f.store.begin().await.unwrap();
    tx.insert_token(&TokenRow { created_at: now(), ..new_token(session.id, 9) }).await.unwrap();
    tx.commit_unaudited(Unaudited::HostToken).await.unwrap();
    let mut left: Vec<u8> = f.store.tokens_of(session.id).await.unwrap().iter().map(|t| t.hash[0]).collect();
    left.sort_unstable();
    assert_eq!(left, [2, 3, 4, 5, 6, 7, 8, 9, 101]);
    assert!(f.store.load_token(&[100; 32]).await.unwrap().is_some(), "another session's");
    let (told, _) = f.store.revocations_after(RevocationCursor::default()).await.unwrap();
    assert_eq!(told, [Revocation::Session(session.id)], "what is held in memory goes too");
}

async fn a_session_ends_once_and_says_why(f: &Fixture) {
    let session = f.session(f.user("ann").await).await;
    let id = session.id;
    let mut tx = f.store.begin().await.unwrap();
    tx.insert_token(&new_token(id, 1)).await.unwrap();
    tx.commit_unaudited(Unaudited::HostToken).await.unwrap();
    let won = f
        .race(20, move |tx, _| Box::pin(async move { tx.end_session(id, "signed out", later(1)).await.unwrap() }))
        .await;
    assert_eq!(won, 1);
    let (_, ended, _) = f.store.load_token(&[1; 32]).await.unwrap().unwrap();
    assert_eq!((ended.ended_at, ended.end_reason.as_deref()), (Some(later(1)), Some("signed out")));
    let (told, _) = f.store.revocations_after(RevocationCursor::default()).await.unwrap();
    assert_eq!(told, [Revocation::Session(id)], "one row for one end");
}

async fn ending_the_others_spares_one(f: &Fixture) {
    let ann = f.user("ann").await;
    let bobs = f.session(f.user("bob").await).await;
    let keep = f.session(ann).await;
    let gone = [f.session(ann).await.id, f.session(ann).await.id];
    let mut tx = f.store.begin().await.unwrap();
    assert_eq!(tx.end_sessions_of(ann, Some(keep.id), "password changed", now()).await.unwrap(), 2);
    tx.commit(&[event(Action::PasswordChange)]).await.unwrap();
    assert_eq!(f.store.sessions_of(ann, now()).await.unwrap(), [keep]);
    assert_eq!(f.store.sessions_of(bobs.user, now()).await.unwrap(), [bobs]);
    let (told, _) = f.store.revocations_after(RevocationCursor::default()).await.unwrap();
    assert_eq!(told.len(), 2);
    assert!(gone.iter().all(|id| told.contains(&Revocation::Session(*id))));

    let mut tx = f.store.begin().await.unwrap();
    assert_eq!(tx.end_sessions_of(ann, None, "not me", now()).await.unwrap(), 1);
    assert_eq!(tx.end_sessions_of(ann, None, "not me", now()).await.unwrap(), 0);
    tx.rollback().await;
}

async fn ending_everyone_leaves_nobody(f: &Fixture) {
    for who in ["ann", "bob"] {
        f.session(f.user(who).await).await;
    }
    let mut tx = f.store.begin().await.unwrap();
    assert_eq!(tx.end_all_sessions("incident", now()).await.unwrap(), 2);
    tx.commit(&[event(Action::SessionEnd)]).await.unwrap();
    assert_eq!(f.store.sessions(now()).await.unwrap(), []);
    let (told, _) = f.store.revocations_after(RevocationCursor::default()).await.unwrap();
    assert_eq!(told, [Revocation::All]);
}

async fn the_oldest_sessions_beyond_the_limit_are_named(f: &Fixture) {
    let ann = f.user("ann").await;
    let mut ids: Vec<SessionId> = Vec::new();
    let mut tx = f.store.begin().await.unwrap();
    for n in 0..5 {
        let session = SessionRow { created_at: later(n), ..new_session(ann) };
        let held = tx.hold(ann, 0).await.unwrap();
        tx.insert_session(held, &session).await.unwrap();
        ids.push(session.id);
    }
    assert_eq!(tx.oldest_sessions_beyond(ann, 3, now()).await.unwrap(), [ids[1], ids[0]]);
    assert_eq!(tx.oldest_sessions_beyond(ann, 5, now()).await.unwrap(), []);
    tx.end_session(ids[0], "too many", now()).await.unwrap();
    assert_eq!(tx.oldest_sessions_beyond(ann, 3, now()).await.unwrap(), [ids[1]]);
    tx.rollback().await;
}

async fn last_seen_goes_forward_only(f: &Fixture) {
    let ann = f.user("ann").await;
    let (a, b) = (f.session(ann).await.id, f.session(ann).await.id);
    f.store.touch_sessions(&[(a, later(50)), (b, later(60)), (session_id(), later(70))]).await.unwrap();
    f.store.touch_sessions(&[(a, later(40)), (b, later(80))]).await.unwrap();
    f.store.touch_sessions(&[]).await.unwrap();
    let seen = async |id| f.store.session(id).await.unwrap().unwrap().last_seen_at;
    assert_eq!((seen(a).await, seen(b).await), (later(50), later(80)));

    let many: Vec<_> = (0..1200).map(|n| (if n == 1100 { a } else { session_id() }, later(500))).collect();
    f.store.touch_sessions(&many).await.unwrap();
    assert_eq!(seen(a).await, later(500));
}

/// What cannot be read stops nothing behind it: a newer replica may spell things differently.
async fn a_revocation_that_cannot_be_read_empties_the_caches(f: &Fixture) {
    let session = f.session(f.user("ann").await).await;
    f.by_hand("INSERT INTO revocations (kind, target, at) VALUES ('session', 'no id', 1)").await;
    let mut tx = f.store.begin().await.unwrap();
    tx.end_session(session.id, "x", now()).await.unwrap();
    tx.commit(&[event(Action::SignOut)]).await.unwrap();
    let (told, _) = f.store.revocations_after(RevocationCursor::default()).await.unwrap();
    assert_eq!(told, [Revocation::All, Revocation::Session(session.id)]);
}

/// On PostgreSQL a row with a lower number can appear after one with a higher: numbers are given
/// out when a transaction writes, rows are seen when it commits. (On SQLite writers queue.)
async fn a_revocation_that_commits_late_is_not_missed(f: &Fixture) {
    let ann = f.user("ann").await;
    let (slow, fast) = (f.session(ann).await.id, f.session(ann).await.id);
    let cursor = RevocationCursor::default();
    if !f.is_postgres() {
        let mut tx = f.store.begin().await.unwrap();
        tx.end_session(slow, "x", now()).await.unwrap();
        tx.end_session(fast, "x", now()).await.unwrap();
        tx.commit(&[event(Action::SignOut)]).await.unwrap();
        let (told, _) = f.store.revocations_after(cursor).await.unwrap();
        assert_eq!(told, [Revocation::Session(slow), Revocation::Session(fast)]);
        return;
    }
    let mut late = f.store.begin().await.unwrap();
    late.end_session(slow, "x", now()).await.unwrap();
    let mut early = f.store.begin().await.unwrap();
    early.end_session(fast, "x", now()).await.unwrap();
    early.commit(&[event(Action::SignOut)]).await.unwrap();
    let (told, cursor) = f.store.revocations_after(cursor).await.unwrap();
    assert_eq!(told, [Revocation::Session(fast)]);
    late.commit(&[event(Action::SignOut)]).await.unwrap();
    let (told, cursor) = f.store.revocations_after(cursor).await.unwrap();
    assert_eq!(told, [Revocation::Session(slow)], "the lower number came later and is told");
    // Once both are a minute old they are settled, and still told once.
    f.by_hand("UPDATE revocations SET at = at - 300000").await;
    let mut tx = f.store.begin().await.unwrap();
    tx.end_all_sessions("x", now()).await.unwrap();
    tx.commit(&[event(Action::SessionEnd)]).await.unwrap();
    let (told, cursor) = f.store.revocations_after(cursor).await.unwrap();
    assert_eq!(told, [Revocation::All]);
    assert_eq!(f.store.revocations_after(cursor).await.unwrap().0, []);
}

async fn what_has_outlived_its_use_is_swept(f: &Fixture) {
    let ann = f.user("ann").await;
    let (ended, live) = (f.session(ann).await, f.session(ann).await);
    let flow = new_flow(ann);
    let rule = stepgate::store::AttemptRule {
        free: 1,
        backoff: None,
        limit: 1,
        window: Duration::from_secs(60),
        lock: Duration::from_secs(60),
    };
    f.store.take_attempt("k", &rule, now()).await.unwrap();
    let mut tx = f.store.begin().await.unwrap();
    let held = tx.hold(ann, 0).await.unwrap();
    tx.insert_flow(held, &flow).await.unwrap();
    tx.insert_link(&LinkRow {
        hash: [1; 32],
        user: ann,
        kind: LinkKind::SignUp,
        created_at: now(),
        expires_at: later(900),
    })
    .await
    .unwrap();
    tx.insert_handover(&new_handover(live.id, 1)).await.unwrap();
    for (session, byte) in [(ended.id, 1), (live.id, 2), (live.id, 3)] {
        tx.insert_token(&new_token(session, byte)).await.unwrap();
    }
    tx.supersede_token(&[2; 32], now()).await.unwrap();
    tx.end_session(ended.id, "signed out", now()).await.unwrap();
    tx.commit(&[event(Action::SignOut)]).await.unwrap();

    assert_eq!(f.store.sweep(now()).await.unwrap(), Swept::default(), "nothing is due");
    let swept = f.store.sweep(later(3601)).await.unwrap();
    assert_eq!(swept, Swept { flows: 1, handovers: 1, links: 1, attempts: 1, tokens: 1, ..Swept::default() });
    assert!(f.store.load_token(&[2; 32]).await.unwrap().is_none());
    assert!(f.store.load_token(&[3; 32]).await.unwrap().is_some());
    f.by_hand("UPDATE revocations SET at = at - 601000").await;
    let month = 30 * 24 * 3600;
    let swept = f.store.sweep(later(month + 1)).await.unwrap();
    assert_eq!(swept, Swept { sessions: 1, revocations: 2, ..Swept::default() });
    assert!(f.store.session(ended.id).await.unwrap().is_none());
    assert!(f.store.load_token(&[1; 32]).await.unwrap().is_none(), "with its tokens");
    assert_eq!(f.store.sweep(later(month + 36_001)).await.unwrap().sessions, 1, "a month after its maximum");
}

async fn a_sweep_takes_more_than_one_batch(f: &Fixture) {
    let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200) ";
    f.by_hand(&format!(
        "INSERT INTO attempts (key, count, started_at, blocked_until, expires_at) \
         {numbers} SELECT 'k' || i, 1, 0, 0, 5 FROM n"
    ))
    .await;
    assert_eq!(f.store.sweep(now()).await.unwrap().attempts, 1200);
    assert_eq!(f.number("SELECT COUNT(*) FROM attempts").await, 0);
}
