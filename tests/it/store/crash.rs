//! S-STORE-3: a process that is killed at any moment loses nothing that it had acknowledged.
//!
//! The parent starts this test binary again as a child that writes to a store from several tasks
//! and prints one line after each commit: the journal of a client that was told "done". The parent
//! kills it (SIGKILL) at a random moment, opens the store and compares.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stepgate::base::ids::{CredentialId, SessionId, UserId};
use stepgate::base::rng::{self, SystemRng};
use stepgate::base::secret::Secret;
use stepgate::config::snapshot::StoreSettings;
use stepgate::domain::audit::Action;
use stepgate::store::{AuditFilter, Store};

use super::fixture::{Fixture, chain, event, new_credential, new_session, new_token, new_user, now};

const CHILD: &str = "store::crash::the_child_that_is_killed";
const STATE: &str = "STEPGATE_TEST_CRASH_STATE";
const URL: &str = "STEPGATE_TEST_CRASH_URL";
/// Fresh stores keep the check of each round short; every one is also killed while it is made.
const ROUNDS_PER_STORE: usize = 20;

#[test]
#[ignore = "is started, and killed, by the tests below"]
fn the_child_that_is_killed() {
    let Ok(state) = std::env::var(STATE) else { return };
    let settings = match std::env::var(URL) {
        Ok(url) => StoreSettings::Postgres { url: Arc::new(Secret::new(url)) },
        Err(_) => StoreSettings::Sqlite,
    };
    let work = async move {
        let store = Store::open(&settings, state.as_ref(), chain()).await.unwrap();
        let tasks: Vec<_> = (0..3).map(|_| tokio::spawn(write_for_ever(store.clone()))).collect();
        for task in tasks {
            task.await.unwrap();
        }
    };
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work);
}

/// Four kinds of change, each in one transaction with its row in the trail; printed once committed.
async fn write_for_ever(store: Store) {
    loop {
        let user = new_user(&format!("u{}", u64::from_le_bytes(rng::bytes(&SystemRng))));
        let (phone, session) = (new_credential(user.id), new_session(user.id));
        let code: [u8; 32] = rng::bytes(&SystemRng);
        let mut tx = store.begin().await.unwrap();
        assert!(tx.insert_user(&user).await.unwrap());
        tx.insert_credential(&phone).await.unwrap();
        tx.replace_backup_codes(user.id, [0; 16], &[code, [0; 32]], now()).await.unwrap();
        let held = tx.hold(user.id, 0).await.unwrap();
        tx.insert_session(held, &session).await.unwrap();
        tx.insert_token(&stepgate::store::TokenRow { hash: code, ..new_token(session.id, 0) }).await.unwrap();
        tx.commit(&[event(Action::UserAdd)]).await.unwrap();
        acknowledge(&format!("enrolled {} {} {}", user.id, phone.id, session.id));

        for step in 101..104 {
            let mut tx = store.begin().await.unwrap();
            assert!(tx.advance_step(phone.id, step, now()).await.unwrap());
            tx.commit(&[event(Action::FactorVerify)]).await.unwrap();
            acknowledge(&format!("used {} {step}", phone.id));
        }
        let mut tx = store.begin().await.unwrap();
        assert!(tx.spend_backup_code(user.id, &code).await.unwrap());
        tx.commit(&[event(Action::BackupCodesCreate)]).await.unwrap();
        acknowledge(&format!("spent {}", user.id));

        let mut tx = store.begin().await.unwrap();
        assert!(tx.end_session(session.id, "signed out", now()).await.unwrap());
        tx.commit(&[event(Action::SessionEnd)]).await.unwrap();
        acknowledge(&format!("ended {}", session.id));
    }
}

/// One write of one whole line; the line break in front ends whatever the test harness printed.
fn acknowledge(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\nack {line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

#[test]
fn s_store_3_two_hundred_kills_lose_nothing_on_sqlite() {
    let lanes: Vec<_> = (0..2)
        .map(|_| {
            std::thread::spawn(|| {
                let mut told = 0;
                for _ in 0..5 {
                    let dir = tempfile::tempdir().unwrap();
                    let settings = StoreSettings::Sqlite;
                    told += kill_again_and_again(&settings, dir.path(), ROUNDS_PER_STORE);
                }
                told
            })
        })
        .collect();
    let told: usize = lanes.into_iter().map(|lane| lane.join().unwrap()).sum();
    assert!(told > 500, "the children hardly worked: {told} acknowledgements");
}

#[test]
fn on_postgres_s_store_3_forty_kills_lose_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let Some(f) = runtime.block_on(Fixture::postgres()) else { return };
    let told = kill_again_and_again(&f.settings, &f.state, 2 * ROUNDS_PER_STORE);
    assert!(told > 100, "the children hardly worked: {told} acknowledgements");
    runtime.block_on(f.close());
}

/// Kills `rounds` children on one store and compares after each; how many acknowledgements came.
fn kill_again_and_again(settings: &StoreSettings, state: &std::path::Path, rounds: usize) -> usize {
    let mut journal = Vec::new();
    for round in 0..rounds {
        journal.extend(run_and_kill(settings, state, round));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(compare(settings, state, &journal, round));
    }
    journal.len()
}

fn run_and_kill(settings: &StoreSettings, state: &std::path::Path, round: usize) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([CHILD, "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(STATE, state).stdout(Stdio::piped()).stderr(Stdio::inherit());
    if let StoreSettings::Postgres { url } = settings {
        command.env(URL, url.expose());
    }
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = Vec::new();
    let [amount, fine, coarse] = rng::bytes::<3>(&SystemRng);
    if round.is_multiple_of(5) {
        // While it starts, opens and migrates.
        pause(Duration::from_micros(u64::from(coarse) * 400));
    } else {
        let wanted = usize::from(amount % 24) + 1;
        while acknowledged.len() < wanted {
            assert!(read_one(&mut lines, &mut acknowledged), "the child ended by itself after {acknowledged:?}");
        }
        pause(Duration::from_micros(u64::from(fine) * 16));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    while read_one(&mut lines, &mut acknowledged) {}
    acknowledged
}

/// Takes one line; `false` at the end. A line without its end was not received.
fn read_one(lines: &mut impl BufRead, into: &mut Vec<String>) -> bool {
    let mut line = String::new();
    if lines.read_line(&mut line).unwrap() == 0 {
        return false;
    }
    if let Some(done) = line.strip_suffix('\n').and_then(|line| line.strip_prefix("ack ")) {
        into.push(done.to_owned());
    }
    true
}

/// Chooses the moment of the kill; nothing waits for it to be right.
fn pause(length: Duration) {
    let start = Instant::now();
    while start.elapsed() < length {
        std::hint::spin_loop();
    }
}

async fn compare(settings: &StoreSettings, state: &std::path::Path, journal: &[String], round: usize) {
    let store = Store::open(settings, state, chain()).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    for line in journal {
        let mut words = line.split(' ');
        match (words.next().unwrap(), words.next().unwrap()) {
            ("enrolled", user) => {
                let user: UserId = user.parse().unwrap();
                let phone: CredentialId = words.next().unwrap().parse().unwrap();
                let session: SessionId = words.next().unwrap().parse().unwrap();
                assert!(store.user_by_id(user).await.unwrap().is_some(), "round {round}: lost: {line}");
                assert!(store.credential(phone).await.unwrap().is_some(), "round {round}: lost: {line}");
                assert!(store.session(session).await.unwrap().is_some(), "round {round}: lost: {line}");
            }
            ("used", phone) => {
                let step: i64 = words.next().unwrap().parse().unwrap();
                let again = tx.advance_step(phone.parse().unwrap(), step, now()).await.unwrap();
                assert!(!again, "round {round}: a used code works again: {line}");
            }
            ("spent", user) => {
                let left = store.backup_codes(user.parse().unwrap()).await.unwrap().unwrap().left;
                assert_eq!(left, 1, "round {round}: a spent code is back: {line}");
            }
            ("ended", session) => {
                let ended = store.session(session.parse().unwrap()).await.unwrap().unwrap().ended_at;
                assert!(ended.is_some(), "round {round}: an ended session lives: {line}");
            }
            other => panic!("unknown line {other:?}"),
        }
    }
    tx.rollback().await;

    // No half transaction: the trail counts exactly what the tables hold, acknowledged or not.
    let report = stepgate::audit::verify(&store, None).await.unwrap();
    assert_eq!(report.findings, [], "round {round}");
    let rows = store.audit_rows(&AuditFilter::default(), 0, 100_000).await.unwrap();
    let count = |action: Action| rows.iter().filter(|row| row.action == action.name()).count();
    let users = store.users().await.unwrap();
    assert_eq!(users.len(), count(Action::UserAdd), "round {round}");
    let (mut steps, mut spent, mut ended) = (0, 0, 0);
    let live = store.sessions(now()).await.unwrap();
    for user in &users {
        let phones = store.credentials(user.id).await.unwrap();
        assert_eq!(phones.len(), 1, "round {round}: a half enrollment");
        steps += usize::try_from(phones[0].last_step - 100).unwrap();
        spent += usize::try_from(2 - store.backup_codes(user.id).await.unwrap().unwrap().left).unwrap();
        ended += usize::from(!live.iter().any(|(session, _)| session.user == user.id));
    }
    assert_eq!(steps, count(Action::FactorVerify), "round {round}");
    assert_eq!(spent, count(Action::BackupCodesCreate), "round {round}");
    assert_eq!(ended, count(Action::SessionEnd), "round {round}");
    store.close().await;
}
