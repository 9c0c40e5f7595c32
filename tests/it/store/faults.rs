//! What the store does when it cannot, and what it refuses to start on.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use stepgate::base::secret::Secret;
use stepgate::config::snapshot::StoreSettings;
use stepgate::domain::audit::Action;
use stepgate::store::{Refusal, ServeLock, Store, StoreError, Unaudited};

use super::fixture::{Fixture, chain, event, name, new_user, now};
use super::on_both;

on_both!(
    what_was_not_committed_did_not_happen,
    a_commit_is_seen_by_every_other_process_at_once,
    s_store_2_a_wait_that_runs_out_is_busy_not_a_hang,
    s_store_4_many_may_start_at_once,
    s_store_4_a_newer_schema_is_refused,
    a_failed_statement_is_never_committed_silently,
    the_database_answers,
    s_store_2_a_store_that_takes_no_writes_says_so,
);

/// A full disk lets everybody read: here SQLite refuses the write in its place.
async fn s_store_2_a_store_that_takes_no_writes_says_so(f: &Fixture) {
    assert_eq!(f.store.takes_writes().await, Ok(()));
    if f.is_postgres() {
        return;
    }
    f.by_hand("CREATE TRIGGER full BEFORE UPDATE ON schema_version BEGIN SELECT RAISE(ABORT, 'full'); END").await;
    assert!(f.store.takes_writes().await.is_err());
    assert_eq!(f.store.clock_skew(now()).await.map(|_| ()), Ok(()), "it can be read");
    f.by_hand("DROP TRIGGER full").await;
    assert_eq!(f.store.takes_writes().await, Ok(()));
}

async fn what_was_not_committed_did_not_happen(f: &Fixture) {
    for ended in ["dropped", "rolled back"] {
        let mut tx = f.store.begin().await.unwrap();
        tx.insert_user(&new_user("ann")).await.unwrap();
        if ended == "dropped" {
            drop(tx)
        } else {
            tx.rollback().await
        }
        f.user("bob").await;
        assert_eq!(f.store.user_by_name(&name("ann")).await.unwrap(), None, "{ended}");
        f.by_hand("DELETE FROM users").await;
    }
}

async fn a_commit_is_seen_by_every_other_process_at_once(f: &Fixture) {
    let other = f.other().await;
    for n in 0..20 {
        let who = format!("user{n}");
        let (writer, reader) = if n % 2 == 0 { (&f.store, &other) } else { (&other, &f.store) };
        let mut tx = writer.begin().await.unwrap();
        tx.insert_user(&new_user(&who)).await.unwrap();
        assert_eq!(reader.user_by_name(&name(&who)).await.unwrap(), None, "not before");
        tx.commit(&[event(Action::UserAdd)]).await.unwrap();
        assert!(reader.user_by_name(&name(&who)).await.unwrap().is_some());
    }
    other.close().await;
}

async fn s_store_2_a_wait_that_runs_out_is_busy_not_a_hang(f: &Fixture) {
    // As many transactions as there are connections are held, and nobody lets go.
    let mut held = Vec::new();
    let refused = loop {
        match f.store.begin().await {
            Ok(tx) => held.push(tx),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, StoreError::Busy);
    assert!(refused.is_outage());
    // Another process can still read; for the one writer of SQLite it, too, waits no longer.
    let other = f.other().await;
    assert_eq!(other.users().await.unwrap(), []);
    if !f.is_postgres() {
        assert_eq!(other.audit_only(&[event(Action::Start)]).await, Err(StoreError::Busy));
    }
    other.close().await;
    drop(held);
    f.user("ann").await;
}

async fn s_store_4_many_may_start_at_once(f: &Fixture) {
    f.by_hand("DELETE FROM schema_version").await;
    for table in [
        "posture",
        "kept_forms",
        "outbox",
        "sent_codes",
        "remembered_devices",
        "notices",
        "incidents",
        "spent_questions",
        "tokens",
        "handovers",
        "sessions",
        "flows",
        "links",
        "credentials",
        "backup_codes",
        "backup_sets",
        "attempts",
        "revocations",
        "audit_log",
        "audit_head",
        "users",
    ] {
        f.by_hand(&format!("DROP TABLE {table}")).await;
    }
    let opening: Vec<_> = (0..8)
        .map(|_| {
            let (settings, state) = (f.settings.clone(), f.state.clone());
            tokio::spawn(async move { Store::open(&settings, &state, chain()).await })
        })
        .collect();
    for opened in opening {
        let store = opened.await.unwrap().unwrap();
        store.audit_only(&[event(Action::Start)]).await.unwrap();
        store.close().await;
    }
    let steps = f.number("SELECT MAX(version) FROM schema_version").await;
    assert_eq!(f.number("SELECT COUNT(*) FROM schema_version").await, steps, "each step once");
    assert_eq!(f.number("SELECT seq FROM audit_head").await, 8);
}

async fn s_store_4_a_newer_schema_is_refused(f: &Fixture) {
    f.by_hand("INSERT INTO schema_version (version) VALUES (999)").await;
    let refused = Store::open(&f.settings, &f.state, chain()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(Refusal::NewerSchema { found: 999, .. })), "{refused}");
}

/// PostgreSQL answers COMMIT with success after a statement has failed, and rolls back.
async fn a_failed_statement_is_never_committed_silently(f: &Fixture) {
    let ann = f.user("ann").await;
    let session = f.session(ann).await;
    let mut tx = f.store.begin().await.unwrap();
    tx.insert_user(&new_user("bob")).await.unwrap();
    let held = tx.hold(ann, 0).await.unwrap();
    assert_eq!(tx.insert_session(held, &session).await, Err(StoreError::Conflict), "the same id again");
    let outcome = tx.commit_unaudited(Unaudited::Housekeeping).await;
    let there = f.store.user_by_name(&name("bob")).await.unwrap().is_some();
    assert_eq!(outcome.is_ok(), there, "what was answered is what is so");
}

async fn the_database_answers(f: &Fixture) {
    if f.is_postgres() {
        let real = stepgate::base::clock::Clock::now(&stepgate::base::clock::SystemClock);
        assert!(f.store.clock_skew(real).await.unwrap().abs() < 1000, "one machine, one clock");
        let ahead = f.store.clock_skew(real.minus(Duration::from_secs(5))).await.unwrap();
        assert!((4000..7000).contains(&ahead), "{ahead}");
    } else {
        assert_eq!(f.store.clock_skew(now()).await.unwrap(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_file_is_its_owners_alone() {
    let f = Fixture::sqlite().await;
    f.user("ann").await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&f.state), 0o700);
    for file in ["stepgate.db", "stepgate.db-wal", "stepgate.db-shm"] {
        assert_eq!(mode(&f.state.join(file)), 0o600, "{file}");
    }
    let file = f.state.join("stepgate.db");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    f.other().await.close().await;
    assert_eq!(mode(&file), 0o600, "opening it closes it to others");
    f.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s_store_4_a_second_serve_on_one_sqlite_state_is_refused() {
    let f = Fixture::sqlite().await;
    let first = ServeLock::take(&f.settings, &f.state).unwrap();
    let other = f.other().await;
    let second = ServeLock::take(&f.settings, &f.state).unwrap_err();
    assert_eq!(second, StoreError::Refused(Refusal::AlreadyServed));
    other.audit_only(&[event(Action::UserAdd)]).await.unwrap();
    drop(first);
    ServeLock::take(&f.settings, &f.state).unwrap();
    other.close().await;
    f.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s_log_1_no_error_repeats_the_database_url() {
    let dir = tempfile::tempdir().unwrap();
    for url in [
        "postgres://gate:hunter2@[bad",
        "postgres://gate:hunter2@localhost:99999/x",
        "http://gate:hunter2@localhost/x",
        "postgres://gate:hunter2@localhost/x?sslmode=nonsense",
        "postgres://gate:hunter2@/x?host=/nowhere",
    ] {
        let settings = StoreSettings::Postgres { url: Arc::new(Secret::new(url.to_owned())) };
        let error = Store::open(&settings, dir.path(), chain()).await.unwrap_err();
        let text = format!("{error} {error:?} {settings:?}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s_store_1_a_server_that_is_away_is_an_outage() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let url = format!("postgres://gate:hunter2@127.0.0.1:{port}/x");
    let settings = StoreSettings::Postgres { url: Arc::new(Secret::new(url)) };
    let error = Store::open(&settings, std::path::Path::new("/"), chain()).await.unwrap_err();
    assert!(error.is_outage(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_s_store_3_asynchronous_commit_is_refused() {
    let Some(f) = Fixture::postgres().await else { return };
    f.by_hand(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$",
    )
    .await;
    let refused = Store::open(&f.settings, &f.state, chain()).await.unwrap_err();
    assert_eq!(refused, StoreError::Refused(Refusal::AsynchronousCommit));
    f.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_s_store_1_a_broken_connection_heals_by_itself() {
    let Some(f) = Fixture::postgres().await else { return };
    f.user("ann").await;
    f.by_hand(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .await;
    f.user("bob").await;
    let mut tx = f.store.begin().await.unwrap();
    tx.insert_user(&new_user("lee")).await.unwrap();
    f.by_hand(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .await;
    let lost = tx.commit(&[event(Action::UserAdd)]).await.unwrap_err();
    assert!(lost.is_outage(), "{lost}");
    assert_eq!(f.store.user_by_name(&name("lee")).await.unwrap(), None);
    f.user("lee").await;
    f.close().await;
}
