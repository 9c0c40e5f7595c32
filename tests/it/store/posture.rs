//! What somebody said last of how careful all gates are, read by each of them.

use stepgate::domain::audit::Action;
use stepgate::domain::posture::Posture;
use stepgate::store::{PostureRow, StoreError};

use super::fixture::{Fixture, event, later, now};
use super::on_both;

on_both!(
    what_was_said_last_counts_for_every_process,
    a_word_that_this_version_does_not_know_closes,
    s_log_4_a_posture_without_its_audit_row_is_not_said,
);

fn row(posture: Posture, why: &str) -> PostureRow {
    PostureRow { posture, until: None, why: why.to_owned(), set_by: "ops".to_owned(), set_at: now() }
}

async fn say(f: &Fixture, row: &PostureRow) {
    let mut tx = f.store.begin().await.unwrap();
    tx.set_posture(row).await.unwrap();
    tx.commit(&[event(Action::PostureSet)]).await.unwrap();
}

async fn what_was_said_last_counts_for_every_process(f: &Fixture) {
    let other = f.other().await;
    assert_eq!(other.posture().await.unwrap(), None);
    say(f, &row(Posture::Lockdown, "stolen key")).await;
    assert_eq!(other.posture().await.unwrap(), Some(row(Posture::Lockdown, "stolen key")));
    let ends = PostureRow { until: Some(later(60)), ..row(Posture::Elevated, "odd sign-ins") };
    say(f, &ends).await;
    let read = other.posture().await.unwrap().unwrap();
    assert_eq!(read, ends);
    assert_eq!((read.at(later(59)), read.at(later(60))), (Posture::Elevated, Posture::Normal));
}

async fn a_word_that_this_version_does_not_know_closes(f: &Fixture) {
    say(f, &row(Posture::Elevated, "odd sign-ins")).await;
    f.by_hand("UPDATE posture SET posture = 'watchful'").await;
    assert_eq!(f.store.posture().await.unwrap().unwrap().posture, Posture::Lockdown);
}

async fn s_log_4_a_posture_without_its_audit_row_is_not_said(f: &Fixture) {
    let mut tx = f.store.begin().await.unwrap();
    tx.set_posture(&row(Posture::Normal, "it was nothing")).await.unwrap();
    assert_eq!(tx.commit(&[]).await, Err(StoreError::Unaudited));
    assert_eq!(f.store.posture().await.unwrap(), None);
}
