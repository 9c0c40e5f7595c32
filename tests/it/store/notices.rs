//! The outbox and the links of notices: each mail for one sender, each link for one caller.

use std::sync::Arc;
use std::time::Duration;

use stepgate::base::clock::Timestamp;
use stepgate::base::ids::{IncidentId, MailId, NoticeId, UserId};
use stepgate::base::rng::SystemRng;
use stepgate::domain::audit::{Action, Actor, AuditEvent, Outcome};
use stepgate::domain::notice::NoticeKind;
use stepgate::store::{Channel, Letter, MailRow, NewMail, Notice, OutboxShare, Store, Teller, Unaudited};

use super::fixture::{Fixture, event, later, now};
use super::on_both;

on_both!(
    s_login_13_a_mail_and_what_it_tells_of_are_one_commit,
    s_login_13_one_of_many_senders_gets_a_mail,
    s_login_13_a_lease_that_ended_is_nobodys_and_its_mail_is_sent_by_another,
    s_login_13_the_link_of_a_notice_works_once,
    the_outbox_is_bounded_for_a_person_and_for_all,
    a_message_waits_for_its_own_channel_alone,
    a_mail_that_is_too_old_is_given_up_by_one,
    s_login_13_the_third_failure_is_told_and_the_next_ones_are_not,
    an_incident_is_closed_once,
);

/// Writes a mail for everything, with the user's number of tries as its text.
#[derive(Debug)]
struct Scribe;

impl Teller for Scribe {
    fn is_on(&self) -> bool {
        true
    }

    fn share(&self) -> OutboxShare {
        OutboxShare { of_user: 50, of_all: 100 }
    }

    fn letter(&self, notice: &Notice<'_>) -> Option<Letter> {
        let mut mail = mail(notice.user);
        mail.kind = notice.kind.as_str();
        mail.created_at = notice.event.at;
        let mut hash = [0; 32];
        hash[..16].copy_from_slice(mail.id.as_bytes());
        Some(Letter { mail, notice: NoticeId::new(now(), &SystemRng), hash, link_until: later(600) })
    }

    fn no_room(&self) {}
}

fn mail(user: UserId) -> NewMail {
    NewMail {
        id: MailId::new(now(), &SystemRng),
        user,
        channel: Channel::Mail,
        kind: "factor_added",
        sealed: vec![1, 2, 3],
        created_at: now(),
        give_up_at: later(3600),
    }
}

async fn put(f: &Fixture, new: &NewMail) -> bool {
    let mut tx = f.store.begin().await.unwrap();
    let put = tx.insert_mail(new, OutboxShare { of_user: 3, of_all: 5 }).await.unwrap();
    tx.commit_unaudited(Unaudited::Housekeeping).await.unwrap();
    put
}

fn of(user: UserId, action: Action, outcome: Outcome, at: Timestamp) -> AuditEvent {
    AuditEvent::new(at, Actor::User { id: user, name: "ann".into() }, action, outcome, "A test did this.")
}

async fn waiting(f: &Fixture) -> i64 {
    f.store.waiting_mails(Channel::Mail, now()).await.unwrap().mails
}

async fn s_login_13_a_mail_and_what_it_tells_of_are_one_commit(f: &Fixture) {
    let ann = f.user("ann").await;
    f.store.tell_by(Arc::new(Scribe));
    let enrolled = of(ann, Action::FactorEnroll, Outcome::Success, now());
    f.store.begin().await.unwrap().rollback().await;
    assert_eq!(waiting(f).await, 0);
    f.store.audit_only(&[enrolled.clone(), of(ann, Action::StepUp, Outcome::Success, now())]).await.unwrap();
    assert_eq!(waiting(f).await, 1, "of two events one is news");
    // A commit that fails leaves neither the row nor the mail.
    f.by_hand("DELETE FROM audit_head").await;
    assert!(f.store.audit_only(&[enrolled]).await.is_err());
    assert_eq!(waiting(f).await, 1);
}

async fn claim_all(store: Store, lease: &'static str) -> Vec<MailRow> {
    let mut got = Vec::new();
    while let Some(row) = store.claim_mail(Channel::Mail, lease, now()).await.unwrap() {
        got.push(row);
        assert!(got.len() <= 1, "a mail was claimed twice");
    }
    got
}

async fn s_login_13_one_of_many_senders_gets_a_mail(f: &Fixture) {
    let ann = f.user("ann").await;
    assert!(put(f, &mail(ann)).await);
    let other = f.other().await;
    let tasks: Vec<_> = (0..50)
        .map(|n| {
            let store = if n % 2 == 0 { f.store.clone() } else { other.clone() };
            tokio::spawn(claim_all(store, if n % 2 == 0 { "one" } else { "two" }))
        })
        .collect();
    let mut got = Vec::new();
    for task in tasks {
        got.extend(task.await.unwrap());
    }
    other.close().await;
    assert_eq!(got.len(), 1);
    assert_eq!((got[0].tries, got[0].sealed.as_slice()), (1, [1, 2, 3].as_slice()));
    assert!(f.store.mail_sent(&got[0]).await.unwrap());
    assert!(!f.store.mail_sent(&got[0]).await.unwrap());
    assert_eq!(waiting(f).await, 0);
}

async fn s_login_13_a_lease_that_ended_is_nobodys_and_its_mail_is_sent_by_another(f: &Fixture) {
    let ann = f.user("ann").await;
    put(f, &mail(ann)).await;
    let dead = f.store.claim_mail(Channel::Mail, "dead", now()).await.unwrap().unwrap();
    assert!(f.store.claim_mail(Channel::Mail, "living", later(149)).await.unwrap().is_none());
    let living = f.store.claim_mail(Channel::Mail, "living", later(150)).await.unwrap().unwrap();
    assert_eq!((living.id, living.tries), (dead.id, 2));
    // Whoever comes back from the dead changes nothing.
    assert!(!f.store.mail_sent(&dead).await.unwrap());
    assert!(!f.store.mail_failed(&dead, later(151)).await.unwrap());
    let mut tx = f.store.begin().await.unwrap();
    assert_eq!(tx.give_up_mail(&dead).await.unwrap(), None);
    tx.rollback().await;
    // Not taken: another try, later.
    assert!(f.store.mail_failed(&living, later(200)).await.unwrap());
    assert!(f.store.claim_mail(Channel::Mail, "living", later(199)).await.unwrap().is_none());
    assert!(f.store.claim_mail(Channel::Mail, "living", later(200)).await.unwrap().is_some());
}

async fn s_login_13_the_link_of_a_notice_works_once(f: &Fixture) {
    let ann = f.user("ann").await;
    f.store.tell_by(Arc::new(Scribe));
    f.store.audit_only(&[of(ann, Action::PasswordChange, Outcome::Success, now())]).await.unwrap();
    let mail = f.store.claim_mail(Channel::Mail, "a", now()).await.unwrap().unwrap();
    let mut hash = [0; 32];
    hash[..16].copy_from_slice(mail.id.as_bytes());
    for _ in 0..3 {
        let seen = f.store.peek_notice(&hash, now()).await.unwrap().unwrap();
        assert_eq!(
            (seen.user, seen.kind, seen.event.action),
            (ann, NoticeKind::PasswordChanged, Action::PasswordChange)
        );
    }
    assert!(f.store.peek_notice(&hash, later(600)).await.unwrap().is_none(), "it has lapsed");
    let denied =
        f.race(50, move |tx, _| Box::pin(async move { tx.deny_notice(&hash, now()).await.unwrap().is_some() })).await;
    assert_eq!(denied, 1);
    assert!(f.store.peek_notice(&hash, now()).await.unwrap().is_none());
    let mut tx = f.store.begin().await.unwrap();
    assert!(tx.deny_notice(&[9; 32], now()).await.unwrap().is_none());
    tx.rollback().await;
}

async fn the_outbox_is_bounded_for_a_person_and_for_all(f: &Fixture) {
    let (ann, bob) = (f.user("ann").await, f.user("bob").await);
    for n in 0..4 {
        assert_eq!(put(f, &mail(ann)).await, n < 3, "{n}");
    }
    for n in 0..3 {
        assert_eq!(put(f, &mail(bob)).await, n < 2, "{n}");
    }
    assert_eq!(waiting(f).await, 5);
}

async fn a_mail_that_is_too_old_is_given_up_by_one(f: &Fixture) {
    let ann = f.user("ann").await;
    put(f, &mail(ann)).await;
    let leased = f.store.claim_mail(Channel::Mail, "a", later(3599)).await.unwrap().unwrap();
    let mut tx = f.store.begin().await.unwrap();
    assert!(tx.give_up_old_mails(later(3600)).await.unwrap().is_empty(), "it is being sent");
    tx.rollback().await;
    f.store.mail_failed(&leased, later(3600)).await.unwrap();
    assert!(f.store.claim_mail(Channel::Mail, "a", later(3600)).await.unwrap().is_none(), "it is of no more use");
    let given_up = f
        .race(50, |tx, _| {
            Box::pin(async move {
                let gone = tx.give_up_old_mails(later(3600)).await.unwrap();
                gone.iter()
                    .for_each(|mail| assert_eq!((mail.name.as_str(), mail.kind.as_str()), ("ann", "factor_added")));
                !gone.is_empty()
            })
        })
        .await;
    assert_eq!(given_up, 1);
}

async fn s_login_13_the_third_failure_is_told_and_the_next_ones_are_not(f: &Fixture) {
    let ann = f.user("ann").await;
    f.store.tell_by(Arc::new(Scribe));
    let fails = |at| of(ann, Action::FactorVerify, Outcome::Failure, at);
    for (after, told) in [(0, 0), (1, 0), (2, 1), (3, 1), (1000, 1), (3601, 1), (3602, 1), (3603, 2)] {
        // Whoever has the password may write any number of other rows in between.
        let others = vec![of(ann, Action::SignIn, Outcome::Success, later(after)); 100];
        f.store.audit_only(&others).await.unwrap();
        f.store.audit_only(&[fails(later(after))]).await.unwrap();
        assert_eq!(waiting(f).await, told, "after {after} s");
    }
    let bob = f.user("bob").await;
    f.store
        .audit_only(&[AuditEvent { actor: Actor::User { id: bob, name: "bob".into() }, ..fails(later(4000)) }])
        .await
        .unwrap();
    assert_eq!(waiting(f).await, 2, "somebody else's failures are not bob's");
}

async fn an_incident_is_closed_once(f: &Fixture) {
    let ann = f.user("ann").await;
    f.store.tell_by(Arc::new(Scribe));
    f.store.audit_only(&[of(ann, Action::FactorEnroll, Outcome::Success, now())]).await.unwrap();
    let mail = f.store.claim_mail(Channel::Mail, "a", now()).await.unwrap().unwrap();
    let mut hash = [0; 32];
    hash[..16].copy_from_slice(mail.id.as_bytes());
    let id = IncidentId::new(now(), &SystemRng);
    let mut tx = f.store.begin().await.unwrap();
    let notice = tx.deny_notice(&hash, now()).await.unwrap().unwrap();
    tx.open_incident(id, &notice, now()).await.unwrap();
    tx.commit(&[event(Action::IncidentOpen)]).await.unwrap();
    assert_eq!(f.store.open_incidents().await.unwrap(), 1);
    let closed = f
        .race(50, move |tx, _| {
            Box::pin(async move { tx.close_incident(id, "root", Some("a holiday"), now()).await.unwrap() == Some(ann) })
        })
        .await;
    assert_eq!(closed, 1);
    assert!(f.store.incidents(false).await.unwrap().is_empty());
    let all = f.store.incidents(true).await.unwrap();
    assert_eq!((all.len(), all[0].note.as_deref(), all[0].name.as_deref()), (1, Some("a holiday"), Some("ann")));
    assert_eq!(all[0].closed_at.map(|at| at.until(now())), Some(Duration::ZERO));
}

async fn a_message_waits_for_its_own_channel_alone(f: &Fixture) {
    let ann = f.user("ann").await;
    let text = NewMail { channel: Channel::Sms, kind: "sms_code", ..mail(ann) };
    assert!(put(f, &text).await && put(f, &mail(ann)).await);
    for (channel, kind) in [(Channel::Sms, "sms_code"), (Channel::Mail, "factor_added")] {
        assert_eq!(f.store.waiting_mails(channel, now()).await.unwrap().mails, 1);
        let row = f.store.claim_mail(channel, "a", now()).await.unwrap().unwrap();
        assert_eq!(row.kind, kind);
        assert!(f.store.claim_mail(channel, "b", now()).await.unwrap().is_none(), "the other channel's is not ours");
    }
}
