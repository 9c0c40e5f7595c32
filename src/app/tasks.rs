//! What has to happen again and again in the background: revocations, idle ends, sweeping,
//! certificates. Each failure is said once, not at every turn.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::apply;
use super::build::Core;
use super::posture;
use crate::server::tls::Certificates;
use crate::store::StoreError;
use crate::telemetry::metrics::Metrics;

/// Under a second, so that what a command changed bites within one (S-SESS-3).
const REVOCATIONS: Duration = Duration::from_millis(400);
/// Likewise.
const POSTURE: Duration = Duration::from_millis(400);
const EXPIRY: Duration = Duration::from_millis(500);
const TOUCHES: Duration = Duration::from_secs(10);
const SWEEP: Duration = Duration::from_secs(60);
/// How late a policy that nobody confirmed may be taken back.
const CONFIRMED: Duration = Duration::from_millis(250);
/// A one-time code is waited for.
const MAIL: Duration = Duration::from_secs(1);
const CERTIFICATES: Duration = Duration::from_secs(10);
const STORE_LOOK: Duration = Duration::from_secs(2);
/// Less often: each is a write to the disk. Once one failed, [`STORE_LOOK`] tries until one comes through.
const WRITE_LOOK: Duration = Duration::from_secs(30);

/// Starts all of them on the background runtime; they end with `stop`.
pub fn start(core: &Arc<Core>, stop: &CancellationToken) {
    let every = |period, name, work: fn(Arc<Core>) -> BoxFuture<'static, Result<(), String>>| {
        core.background.spawn(repeat(Arc::clone(core), period, name, work, stop.clone()));
    };
    every(REVOCATIONS, "read revocations", |core| done(async move { core.sessions.poll_revocations().await }));
    every(POSTURE, "read the posture", |core| Box::pin(async move { text(posture::look(&core).await) }));
    every(EXPIRY, "end idle sessions", |core| {
        done(async move {
            core.sessions.expire_idle(core.clock.now()).await;
            let held = i64::try_from(core.sessions.cached_tokens()).unwrap_or(i64::MAX);
            core.metrics.sessions_cached.store(held, Ordering::Relaxed);
        })
    });
    every(TOUCHES, "write down activity", |core| done(async move { core.sessions.flush().await }));
    every(SWEEP, "sweep the store", |core| {
        Box::pin(async move { text(core.store.sweep(core.clock.now()).await.map(drop)) })
    });
    every(STORE_LOOK, "reach the store", |core| {
        Box::pin(async move {
            // Said first: what SQLite makes of a file that is gone from its place says nothing of the kind.
            let place = core.store.in_its_place().map_err(|error| error.to_string());
            let answer = core.store.clock_skew(core.clock.now()).await;
            core.readiness.store(answer.is_ok());
            if let Ok(skew) = &answer {
                core.readiness.clock_skew(*skew);
            }
            let answer = match (place, answer) {
                (Err(error), _) => {
                    core.readiness.writes(Some(error.clone()));
                    Err(error)
                }
                (Ok(()), Ok(_)) if !core.readiness.store_takes_writes() => try_write(&core).await,
                (Ok(()), answer) => text(answer.map(drop)),
            };
            core.metrics.store_up.store(i64::from(answer.is_ok()), Ordering::Relaxed);
            answer
        })
    });
    every(WRITE_LOOK, "write to the store", |core| {
        Box::pin(async move {
            let answer = try_write(&core).await;
            if !core.readiness.store_takes_writes() {
                core.metrics.store_up.store(0, Ordering::Relaxed);
            }
            answer
        })
    });
    every(CONFIRMED, "take back a policy", |core| {
        Box::pin(async move {
            tokio::task::spawn_blocking(move || apply::take_back_overdue(&core))
                .await
                .unwrap_or_else(|e| Err(e.to_string()))
        })
    });
    every(MAIL, "send mail", |core| {
        Box::pin(async move {
            let snapshot = core.snapshot.load_full();
            Box::pin(core.postman.round(&snapshot)).await
        })
    });
    every(CERTIFICATES, "read certificates", |core| {
        Box::pin(async move {
            tokio::task::spawn_blocking(move || read_certificates(&core)).await.unwrap_or_else(|e| Err(e.to_string()))
        })
    });
}

/// Nobody can sign in, and nothing is recorded, where the store is only read. One that is busy is no such store:
/// a storm of sign-ins must not take the gate out of its balancer.
async fn try_write(core: &Core) -> Result<(), String> {
    let answer = core.store.takes_writes().await;
    let refused = answer.as_ref().err().filter(|error| !matches!(error, StoreError::Busy));
    core.readiness.writes(refused.map(ToString::to_string));
    text(answer)
}

/// Takes new certificates. A file that cannot be used keeps the old ones of its listener, and must not
/// keep the others from being renewed. Blocks.
pub(super) fn read_certificates(core: &Core) -> Result<(), String> {
    let mut failed = Vec::new();
    for certificates in &core.certificates {
        match certificates.refresh() {
            Ok(true) => {
                say_certificates(certificates, "new certificates are in force");
                super::rehearse::warn_of_ends(certificates, core.clock.now());
                super::rehearse::warn_of_open_keys(std::slice::from_ref(certificates));
            }
            Ok(false) => {}
            Err(error) => failed.push(error.to_string()),
        }
    }
    show_ends(&core.metrics, &core.certificates);
    let refused = (!failed.is_empty()).then(|| failed.join("\n"));
    core.metrics.last_certificate_reload_success.store(i64::from(refused.is_none()), Ordering::Relaxed);
    core.metrics.certificate_reloads_failed.fetch_add(u64::from(refused.is_some()), Ordering::Relaxed);
    core.readiness.certificates(refused.clone());
    refused.map_or(Ok(()), Err)
}

/// One line for whoever looks whether a renewal arrived.
pub(super) fn say_certificates(certificates: &Certificates, what: &str) {
    let end = certificates.lives().iter().map(|life| life.end).min().map(|end| end.to_string());
    tracing::info!(names = certificates.names().join(", "), ends = end, source = %certificates.source().display(), "{what}");
}

pub(super) fn show_ends(metrics: &Metrics, certificates: &[Arc<Certificates>]) {
    let lives = certificates.iter().flat_map(|c| c.lives());
    metrics.show_certificates(lives.map(|life| (life.name, life.end.as_secs())));
}

/// For what says itself when it fails.
fn done(work: impl Future<Output = ()> + Send + 'static) -> BoxFuture<'static, Result<(), String>> {
    Box::pin(async move {
        work.await;
        Ok(())
    })
}

fn text<E: std::fmt::Display>(result: Result<(), E>) -> Result<(), String> {
    result.map_err(|e| e.to_string())
}

async fn repeat<C, F>(
    core: Arc<C>,
    period: Duration,
    name: &'static str,
    work: fn(Arc<C>) -> F,
    stop: CancellationToken,
) where
    F: Future<Output = Result<(), String>>,
{
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        // A fault of ours in one turn must not end the reading of revocations for good.
        let turn = AssertUnwindSafe(work(Arc::clone(&core))).catch_unwind();
        match turn.await.unwrap_or_else(|_| Err("it ended early".to_owned())) {
            Ok(()) if failing => {
                failing = false;
                tracing::info!(task = name, "works again");
            }
            Ok(()) => {}
            Err(error) => {
                if !failing {
                    tracing::warn!(task = name, error, "does not work; it is tried again and again");
                }
                failing = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[tokio::test]
    async fn s_sess_3_work_that_ended_early_is_done_again() {
        let (turns, stop) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let work = |turns: Arc<AtomicUsize>| async move {
            assert!(turns.fetch_add(1, Ordering::Relaxed) > 0, "on purpose");
            Ok(())
        };
        let task = tokio::spawn(repeat(Arc::clone(&turns), Duration::from_millis(1), "try", work, stop.clone()));
        while turns.load(Ordering::Relaxed) < 2 {
            assert!(!task.is_finished());
            tokio::task::yield_now().await;
        }
        stop.cancel();
        task.await.unwrap();
    }
}
