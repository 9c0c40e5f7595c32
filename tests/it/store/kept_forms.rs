//! Forms that wait: for one claim, within their share, and no longer than their session.

use stepgate::base::clock::Timestamp;
use stepgate::base::ids::{KeptFormId, SessionId, UserId};
use stepgate::base::rng::SystemRng;
use stepgate::domain::audit::Action;
use stepgate::store::{KeptFormRow, KeptFormShare, Unaudited};

use super::fixture::{Fixture, event, later, now};
use super::on_both;

on_both!(
    s_keep_2_a_form_is_claimed_once,
    s_keep_2_a_form_is_claimed_at_its_host_by_its_browser_and_its_person_in_time,
    s_keep_2_more_time_is_given_so_often_and_no_more,
    s_keep_3_nobody_takes_more_than_their_share,
    s_keep_3_a_form_ends_with_its_session_but_not_by_mere_expiry,
    what_was_put_back_is_claimed_again,
);

const SHARE: KeptFormShare = KeptFormShare { of_owner: 4, of_all: 1000, of_strangers: 250 };
const HOST: &str = "app.corp.example";

fn form(owner: &str, user: Option<UserId>, session: Option<SessionId>) -> KeptFormRow {
    KeptFormRow {
        id: KeptFormId::new(now(), &SystemRng),
        browser_hash: [7; 32],
        host: HOST.to_owned(),
        session,
        user,
        owner: owner.to_owned(),
        sealed: vec![1; 100],
        created_at: now(),
        expires_at: later(300),
        renewals: 0,
        sent_at: None,
    }
}

async fn keep(f: &Fixture, form: &KeptFormRow) -> bool {
    let mut tx = f.store.begin().await.unwrap();
    let kept = tx.insert_kept_form(form, SHARE).await.unwrap();
    tx.commit_unaudited(Unaudited::KeptForm).await.unwrap();
    kept
}

async fn claim(f: &Fixture, form: &KeptFormRow, user: Option<UserId>, at: Timestamp) -> Option<KeptFormRow> {
    let mut tx = f.store.begin().await.unwrap();
    let claimed = tx.claim_kept_form(form.id, &form.browser_hash, &form.host, user, at).await.unwrap();
    tx.commit_unaudited(Unaudited::KeptForm).await.unwrap();
    claimed
}

async fn s_keep_2_a_form_is_claimed_once(f: &Fixture) {
    let form = form("a:192.0.2.7", None, None);
    assert!(keep(f, &form).await);
    assert_eq!(f.store.kept_form(form.id).await.unwrap(), Some(form.clone()));
    let id = form.id;
    let won = f
        .race(50, move |tx, _| {
            Box::pin(async move { tx.claim_kept_form(id, &[7; 32], HOST, None, now()).await.unwrap().is_some() })
        })
        .await;
    assert_eq!(won, 1);
    let after = f.store.kept_form(form.id).await.unwrap().unwrap();
    assert_eq!((after.sent_at, after.sealed.len()), (Some(now()), 0), "that it was sent is remembered, and not what");
}

async fn s_keep_2_a_form_is_claimed_at_its_host_by_its_browser_and_its_person_in_time(f: &Fixture) {
    let (ann, bob) = (f.user("ann").await, f.user("bob").await);
    let form = form("u:ann", Some(ann), None);
    assert!(keep(f, &form).await);
    let elsewhere = KeptFormRow { host: "other.corp.example".to_owned(), ..form.clone() };
    assert!(claim(f, &elsewhere, Some(ann), now()).await.is_none());
    let another_browser = KeptFormRow { browser_hash: [8; 32], ..form.clone() };
    assert!(claim(f, &another_browser, Some(ann), now()).await.is_none());
    assert!(claim(f, &form, Some(bob), now()).await.is_none());
    assert!(claim(f, &form, Some(ann), form.expires_at).await.is_none());
    let last = Timestamp::from_millis(form.expires_at.as_millis() - 1);
    let claimed = claim(f, &form, Some(ann), last).await.unwrap();
    assert_eq!((claimed.sealed, claimed.user), (form.sealed, Some(ann)));
}

async fn s_keep_2_more_time_is_given_so_often_and_no_more(f: &Fixture) {
    let form = form("a:192.0.2.7", None, None);
    assert!(keep(f, &form).await);
    let mut tx = f.store.begin().await.unwrap();
    for _ in 0..10 {
        assert!(tx.renew_kept_form(form.id, later(600), 10, now()).await.unwrap());
    }
    assert!(!tx.renew_kept_form(form.id, later(900), 10, now()).await.unwrap());
    tx.commit_unaudited(Unaudited::KeptForm).await.unwrap();
    assert_eq!(f.store.kept_form(form.id).await.unwrap().unwrap().expires_at, later(600));
    assert!(claim(f, &form, None, later(599)).await.is_some());

    let lapsed = self::form("a:192.0.2.7", None, None);
    assert!(keep(f, &lapsed).await);
    let mut tx = f.store.begin().await.unwrap();
    assert!(!tx.renew_kept_form(lapsed.id, later(900), 10, later(300)).await.unwrap());
    assert!(!tx.renew_kept_form(form.id, later(900), 20, later(300)).await.unwrap(), "it was sent");
    tx.rollback().await;
}

async fn s_keep_3_nobody_takes_more_than_their_share(f: &Fixture) {
    let (ann, bob, eve) = (f.user("ann").await, f.user("bob").await, f.user("eve").await);
    for n in 0..5 {
        assert_eq!(keep(f, &form("u:ann", Some(ann), None)).await, n < 4, "the fifth of one owner");
    }
    // 400 of 1000 bytes. Strangers get 250 of them, however many addresses they have.
    for n in 0..3 {
        assert_eq!(keep(f, &form(&format!("a:{n}"), None, None)).await, n < 2, "what strangers may take");
    }
    for n in 0..4 {
        assert!(keep(f, &form("u:bob", Some(bob), None)).await, "{n}");
    }
    assert!(!keep(f, &form("u:eve", Some(eve), None)).await, "all of it is taken");
    // Whoever sent one has room for the next, and so has everybody once they lapse.
    let mut tx = f.store.begin().await.unwrap();
    tx.end_sessions_of(bob, None, "test", now()).await.unwrap();
    tx.commit(&[event(Action::SessionEnd)]).await.unwrap();
    assert!(keep(f, &form("u:eve", Some(eve), None)).await);
    let tomorrow = KeptFormRow { created_at: later(301), expires_at: later(600), ..form("u:ann", Some(ann), None) };
    assert!(keep(f, &tomorrow).await);
    assert_eq!(f.store.sweep(later(301)).await.unwrap().kept_forms, 7);
}

async fn s_keep_3_a_form_ends_with_its_session_but_not_by_mere_expiry(f: &Fixture) {
    let ann = f.user("ann").await;
    let (first, second) = (f.session(ann).await, f.session(ann).await);
    let of = |session: SessionId| form(&format!("s:{session}"), Some(ann), Some(session));
    let forms = [of(first.id), of(second.id), form("u:ann", Some(ann), None)];
    for form in &forms {
        assert!(keep(f, form).await);
    }
    let late = KeptFormRow { expires_at: first.expires_at.plus(std::time::Duration::from_secs(60)), ..of(first.id) };
    assert!(keep(f, &late).await);
    assert!(claim(f, &late, Some(ann), first.expires_at).await.is_some(), "the session is over, the form is not");

    let mut tx = f.store.begin().await.unwrap();
    tx.end_session(first.id, "sign_out", now()).await.unwrap();
    tx.commit(&[event(Action::SignOut)]).await.unwrap();
    assert_eq!(f.store.kept_form(forms[0].id).await.unwrap(), None);
    assert!(!keep(f, &of(first.id)).await, "nor is one kept for a session that has ended");

    let mut tx = f.store.begin().await.unwrap();
    tx.end_sessions_of(ann, Some(second.id), "test", now()).await.unwrap();
    tx.commit(&[event(Action::SessionEnd)]).await.unwrap();
    assert!(f.store.kept_form(forms[1].id).await.unwrap().is_some(), "that session goes on");
    assert_eq!(f.store.kept_form(forms[2].id).await.unwrap(), None);

    let mut tx = f.store.begin().await.unwrap();
    tx.end_all_sessions("test", now()).await.unwrap();
    tx.commit(&[event(Action::SessionEnd)]).await.unwrap();
    assert_eq!(f.store.kept_form(forms[1].id).await.unwrap(), None);
}

async fn what_was_put_back_is_claimed_again(f: &Fixture) {
    let form = form("a:192.0.2.7", None, None);
    assert!(keep(f, &form).await);
    let claimed = claim(f, &form, None, now()).await.unwrap();
    let mut tx = f.store.begin().await.unwrap();
    assert!(tx.put_back_kept_form(&claimed).await.unwrap());
    assert!(!tx.put_back_kept_form(&claimed).await.unwrap());
    tx.commit_unaudited(Unaudited::KeptForm).await.unwrap();
    assert_eq!(claim(f, &form, None, now()).await.unwrap().sealed, form.sealed);
    let mut tx = f.store.begin().await.unwrap();
    assert!(tx.drop_kept_form(form.id).await.unwrap() && !tx.drop_kept_form(form.id).await.unwrap());
    tx.commit_unaudited(Unaudited::KeptForm).await.unwrap();
}
