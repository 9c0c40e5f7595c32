//! S-LOG-4: a change and its row are one, and no hand in the trail goes unnoticed.

use stepgate::audit::{Anchor, Finding, Format, Report, export, verify};
use stepgate::base::ids::RequestId;
use stepgate::base::rng::SystemRng;
use stepgate::crypto::chain::ChainKey;
use stepgate::domain::audit::{Action, Actor, AuditEvent, Origin, Outcome};
use stepgate::store::{AuditFilter, Store, StoreError};

use super::fixture::{Fixture, event, later, name, new_user, now};
use super::on_both;

on_both!(
    s_log_4_fifty_writers_make_one_unbroken_chain,
    s_log_4_no_event_no_change,
    s_log_4_a_row_that_cannot_be_written_undoes_the_change,
    s_log_4_an_edited_row_is_found,
    s_log_4_an_edited_search_column_is_found,
    s_log_4_a_removed_row_is_found,
    s_log_4_a_trail_cut_off_at_its_end_is_found,
    s_log_4_swapped_rows_are_found,
    s_log_4_an_added_row_is_found,
    s_log_4_a_changed_or_removed_head_is_found_and_not_written_on,
    s_log_4_an_older_copy_of_the_whole_trail_is_found_by_a_note_of_its_end,
    s_log_4_a_trail_under_another_key_is_not_believed,
    rows_are_found_by_who_what_and_when,
    the_trail_is_exported_whole,
);

async fn rows(f: &Fixture, count: u64) {
    for n in 0..count {
        let event = AuditEvent { at: later(n), ..event(Action::SignIn) };
        f.store.audit_only(&[event]).await.unwrap();
    }
}

async fn findings(f: &Fixture) -> Vec<Finding> {
    verify(&f.store, None).await.unwrap().findings
}

async fn s_log_4_fifty_writers_make_one_unbroken_chain(f: &Fixture) {
    f.race(50, |tx, n| Box::pin(async move { tx.insert_user(&new_user(&format!("user{n}"))).await.unwrap() })).await;
    f.store.audit_only(&[event(Action::Start), event(Action::Reload)]).await.unwrap();
    let report = verify(&f.store, None).await.unwrap();
    assert_eq!((report.rows, report.findings), (52, vec![]));
    let head = f.store.audit_head().await.unwrap().unwrap();
    assert_eq!(report.last, Some(Anchor { seq: 52, hash: head.hash }));
    assert_eq!(f.store.users().await.unwrap().len(), 50);
}

async fn s_log_4_no_event_no_change(f: &Fixture) {
    let mut tx = f.store.begin().await.unwrap();
    tx.insert_user(&new_user("ann")).await.unwrap();
    assert_eq!(tx.commit(&[]).await, Err(StoreError::Unaudited));
    assert_eq!(f.store.user_by_name(&name("ann")).await.unwrap(), None);
    assert_eq!(f.store.audit_only(&[]).await, Err(StoreError::Unaudited));
}

async fn s_log_4_a_row_that_cannot_be_written_undoes_the_change(f: &Fixture) {
    let ann = f.user("ann").await;
    let phone = f.credential(ann).await.id;
    f.by_hand("ALTER TABLE audit_log RENAME TO elsewhere").await;
    let mut tx = f.store.begin().await.unwrap();
    assert!(tx.insert_user(&new_user("bob")).await.unwrap());
    assert!(tx.advance_step(phone, 500, now()).await.unwrap());
    assert!(tx.commit(&[event(Action::UserAdd)]).await.is_err());
    assert_eq!(f.store.user_by_name(&name("bob")).await.unwrap(), None);
    assert_eq!(f.store.credential(phone).await.unwrap().unwrap().last_step, 100);
    f.by_hand("ALTER TABLE elsewhere RENAME TO audit_log").await;
    f.user("bob").await;
    assert_eq!(findings(f).await, []);
}

async fn s_log_4_an_edited_row_is_found(f: &Fixture) {
    rows(f, 5).await;
    f.by_hand("UPDATE audit_log SET payload = replace(payload, 'success', 'failure') WHERE seq = 3").await;
    assert_eq!(findings(f).await, [Finding::Edited { seq: 3 }]);
    f.by_hand("UPDATE audit_log SET payload = replace(payload, 'failure', 'success') WHERE seq = 3").await;
    assert_eq!(findings(f).await, []);
    f.by_hand("UPDATE audit_log SET hash = prev WHERE seq = 3").await;
    assert_eq!(findings(f).await, [Finding::Edited { seq: 3 }, Finding::Unlinked { seq: 4 }]);
}

async fn s_log_4_an_edited_search_column_is_found(f: &Fixture) {
    rows(f, 3).await;
    for hiding in ["at = at + 1", "action = 'start'", "actor = 'x'", "subject = 'x'"] {
        f.by_hand(&format!("UPDATE audit_log SET {hiding} WHERE seq = 2")).await;
        assert_eq!(findings(f).await, [Finding::Edited { seq: 2 }], "{hiding}");
        f.by_hand(
            "UPDATE audit_log SET at = (SELECT at + 1000 FROM audit_log WHERE seq = 1), action = 'sign_in', \
                   actor = NULL, subject = NULL WHERE seq = 2",
        )
        .await;
        assert_eq!(findings(f).await, []);
    }
}

async fn s_log_4_a_removed_row_is_found(f: &Fixture) {
    rows(f, 6).await;
    f.by_hand("DELETE FROM audit_log WHERE seq IN (2, 3)").await;
    assert_eq!(findings(f).await, [Finding::Missing { first: 2, last: 3 }]);
    f.by_hand("UPDATE audit_log SET seq = seq - 2 WHERE seq = 4").await;
    f.by_hand("UPDATE audit_log SET seq = seq - 2 WHERE seq = 5").await;
    f.by_hand("UPDATE audit_log SET seq = seq - 2 WHERE seq = 6").await;
    let found = findings(f).await;
    assert!(found.contains(&Finding::Unlinked { seq: 2 }), "closing the gap does not help: {found:?}");
    f.by_hand("DELETE FROM audit_log").await;
    assert_eq!(findings(f).await, [Finding::CutOff { first: 1, last: 6 }]);
}

async fn s_log_4_a_trail_cut_off_at_its_end_is_found(f: &Fixture) {
    rows(f, 6).await;
    f.by_hand("DELETE FROM audit_log WHERE seq > 4").await;
    assert_eq!(findings(f).await, [Finding::CutOff { first: 5, last: 6 }]);
    f.by_hand("UPDATE audit_head SET seq = 4, hash = (SELECT hash FROM audit_log WHERE seq = 4)").await;
    assert_eq!(findings(f).await, [Finding::HeadChanged], "nobody else can sign the shorter end");
}

async fn s_log_4_swapped_rows_are_found(f: &Fixture) {
    rows(f, 5).await;
    f.by_hand("UPDATE audit_log SET seq = 99 WHERE seq = 2").await;
    f.by_hand("UPDATE audit_log SET seq = 2 WHERE seq = 3").await;
    f.by_hand("UPDATE audit_log SET seq = 3 WHERE seq = 99").await;
    let found = findings(f).await;
    for seq in [2, 3] {
        assert!(found.contains(&Finding::Edited { seq }), "{found:?}");
        assert!(found.contains(&Finding::Unlinked { seq }), "{found:?}");
    }
}

async fn s_log_4_an_added_row_is_found(f: &Fixture) {
    rows(f, 3).await;
    f.by_hand(
        "INSERT INTO audit_log (seq, at, action, actor, subject, payload, prev, hash) \
               SELECT 4, at, action, actor, subject, payload, hash, hash FROM audit_log WHERE seq = 3",
    )
    .await;
    assert_eq!(findings(f).await, [Finding::Edited { seq: 4 }, Finding::Added { first: 4, last: 4 }]);
    f.by_hand(
        "INSERT INTO audit_log (seq, at, action, actor, subject, payload, prev, hash) \
               SELECT -1, at, action, actor, subject, payload, prev, hash FROM audit_log WHERE seq = 1",
    )
    .await;
    assert!(findings(f).await.contains(&Finding::Added { first: -1, last: -1 }));
}

async fn s_log_4_a_changed_or_removed_head_is_found_and_not_written_on(f: &Fixture) {
    rows(f, 3).await;
    f.by_hand("UPDATE audit_head SET seq = 2, hash = (SELECT hash FROM audit_log WHERE seq = 2)").await;
    f.by_hand("DELETE FROM audit_log WHERE seq = 3").await;
    let mut tx = f.store.begin().await.unwrap();
    tx.insert_user(&new_user("ann")).await.unwrap();
    // Going on would sign the shortened trail as a whole one.
    assert!(matches!(tx.commit(&[event(Action::UserAdd)]).await, Err(StoreError::Corrupt(_))));
    assert_eq!(f.store.user_by_name(&name("ann")).await.unwrap(), None);
    assert_eq!(findings(f).await, [Finding::HeadChanged]);

    f.by_hand("DELETE FROM audit_head").await;
    assert_eq!(findings(f).await, [Finding::HeadMissing]);
    assert!(matches!(f.store.audit_only(&[event(Action::Start)]).await, Err(StoreError::Corrupt(_))));
    f.other().await.close().await;
    assert_eq!(findings(f).await, [Finding::HeadMissing], "opening the store again makes no new one");
}

async fn s_log_4_an_older_copy_of_the_whole_trail_is_found_by_a_note_of_its_end(f: &Fixture) {
    rows(f, 3).await;
    f.by_hand("CREATE TABLE old_head AS SELECT * FROM audit_head").await;
    rows(f, 3).await;
    let noted = verify(&f.store, None).await.unwrap().last.unwrap();
    f.by_hand("DELETE FROM audit_log WHERE seq > 3").await;
    f.by_hand("DELETE FROM audit_head").await;
    f.by_hand("INSERT INTO audit_head SELECT * FROM old_head").await;
    assert_eq!(findings(f).await, [], "without a note kept elsewhere an old copy is a whole trail");
    let report = verify(&f.store, Some(&noted)).await.unwrap();
    assert_eq!(report.findings, [Finding::OtherTrail { seq: 6 }]);
    f.store.audit_only(&[event(Action::Stop), event(Action::Start), event(Action::Stop)]).await.unwrap();
    let report = verify(&f.store, Some(&noted)).await.unwrap();
    assert_eq!(report.findings, [Finding::OtherTrail { seq: 6 }], "and growing it again hides nothing");
}

async fn s_log_4_a_trail_under_another_key_is_not_believed(f: &Fixture) {
    rows(f, 2).await;
    let stranger = Store::open(&f.settings, &f.state, ChainKey::new([7; 32])).await.unwrap();
    let found = verify(&stranger, None).await.unwrap().findings;
    assert!(found.contains(&Finding::HeadChanged) && found.contains(&Finding::Edited { seq: 1 }), "{found:?}");
    assert!(matches!(stranger.audit_only(&[event(Action::Start)]).await, Err(StoreError::Corrupt(_))));
    stranger.close().await;
}

async fn rows_are_found_by_who_what_and_when(f: &Fixture) {
    let ann = f.user("ann").await;
    let by_ann = Actor::User { id: ann, name: "ann".into() };
    let by_root = Actor::Operator { account: "root".into() };
    let at = |n: u64, actor: &Actor, action| AuditEvent {
        at: later(n),
        actor: actor.clone(),
        outcome: Outcome::Failure,
        ..event(action)
    };
    let events = [
        at(10, &by_ann, Action::PasswordVerify),
        at(20, &by_ann, Action::SignIn).about(ann, "ann"),
        at(30, &by_root, Action::FactorReset).about(ann, "ann"),
        at(40, &by_root, Action::Reload),
    ];
    f.store.audit_only(&events).await.unwrap();
    let found = async |filter: AuditFilter| {
        let rows = f.store.audit_rows(&filter, 1, 100).await.unwrap();
        rows.iter().map(|row| row.seq).collect::<Vec<_>>()
    };
    let all = AuditFilter::default();
    assert_eq!(found(all.clone()).await, [2, 3, 4, 5]);
    assert_eq!(found(AuditFilter { user: Some("ann".into()), ..all.clone() }).await, [2, 3, 4]);
    assert_eq!(found(AuditFilter { user: Some("root".into()), ..all.clone() }).await, [4, 5]);
    assert_eq!(found(AuditFilter { action: Some(Action::SignIn), ..all.clone() }).await, [3]);
    let asked = RequestId::new(now(), &SystemRng);
    let like_it = format!("x\",\"request\":\"{asked}\"");
    let from = |request, agent: &str| Origin { request, user_agent: Some(agent.to_owned()), ..Origin::default() };
    let refused = [
        at(50, &by_ann, Action::AccessDeny).from_origin(&from(Some(asked), "browser")),
        at(60, &by_ann, Action::AccessDeny).from_origin(&from(Some(RequestId::new(now(), &SystemRng)), &like_it)),
    ];
    let request = AuditFilter { request: Some(asked.into()), ..all.clone() };
    assert_eq!(found(request.clone()).await, Vec::<i64>::new());
    f.store.audit_only(&refused).await.unwrap();
    assert_eq!(found(request).await, [6], "and no client can put a row under another's reference");
    let read_out = asked.to_string().to_uppercase().replace('-', "");
    let begins = AuditFilter { request: Some(read_out[..20].parse().unwrap()), ..all.clone() };
    assert_eq!(found(begins).await, [6], "its beginning is enough, however it was written down");
    let span = AuditFilter { since: Some(later(20)), until: Some(later(40)), ..all.clone() };
    assert_eq!(found(span).await, [3, 4]);
    let tail = f.store.audit_tail(&all, 2).await.unwrap();
    assert_eq!(tail.iter().map(|row| row.seq).collect::<Vec<_>>(), [6, 7]);
    let of_ann = AuditFilter { user: Some("ann".into()), until: Some(later(40)), ..all.clone() };
    let tail = f.store.audit_tail(&of_ann, 2).await.unwrap();
    assert_eq!(tail.iter().map(|row| row.seq).collect::<Vec<_>>(), [3, 4], "what she did and what was done to her");
    let page = f.store.audit_rows(&all, 2, 2).await.unwrap();
    assert_eq!(page.iter().map(|row| row.seq).collect::<Vec<_>>(), [3, 4]);
    let read: AuditEvent = serde_json::from_str(&page[0].payload).unwrap();
    assert_eq!(read, events[1], "what was said is what is read");
}

async fn the_trail_is_exported_whole(f: &Fixture) {
    let many: Vec<AuditEvent> = (0..1100).map(|n| AuditEvent { at: later(n), ..event(Action::SignIn) }).collect();
    f.store.audit_only(&many).await.unwrap();
    for (format, lines) in [(Format::JsonLines, 1100), (Format::Csv, 1101), (Format::Lines, 1100)] {
        let mut out = Vec::new();
        export(&f.store, &AuditFilter::default(), format, &mut out).await.unwrap();
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), lines, "{format:?}");
    }
    let Report { rows, findings, .. } = verify(&f.store, None).await.unwrap();
    assert_eq!((rows, findings), (1100, vec![]), "more than one page is walked");
}
