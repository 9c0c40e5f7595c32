//! One suite for both stores: what holds on SQLite holds on PostgreSQL.
//!
//! Every test runs in a module `on_sqlite`. With `STEPGATE_TEST_POSTGRES` (the URL of a scratch server;
//! `scripts/postgres` starts one) it also runs in `on_postgres`, each on a database of its own.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it cannot run"
)]

mod attempts;
mod audit;
mod ceremonies;
mod crash;
mod credentials;
mod faults;
mod fixture;
mod kept_forms;
mod made;
mod notices;
mod posture;
mod remembered;
mod sent_codes;
mod sessions;
mod users;

pub(crate) use fixture::{Fixture, drop_database, scratch_database};

/// Makes of each async test two: one for each database.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod on_sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let fixture = crate::store::Fixture::sqlite().await;
                    super::$test(&fixture).await;
                    fixture.close().await;
                }
            )*
        }
        mod on_postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let Some(fixture) = crate::store::Fixture::postgres().await else { return };
                    super::$test(&fixture).await;
                    fixture.close().await;
                }
            )*
        }
    };
}
pub(crate) use on_both;
