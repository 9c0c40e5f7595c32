//! Is an address well, by its own word? Asked now and then on the background runtime, on a
//! connection of its own, so that no request ever waits for it. The answer is read as that of any request: an
//! address whose answers nobody could get is not well.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{Request, Response, StatusCode, Version};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::{Instant, MissedTickBehavior};

use super::connect::{self, ConnectError, Spoken};
use super::h1;
use super::health::Address;
use super::tls::TlsConfigs;
use crate::domain::upstream::{HealthCheck, Protocol, Upstream};
use crate::proxy::forward::error_chain;

/// What is asked, and how.
pub(super) struct Asked {
    pub(super) check: HealthCheck,
    /// The `Host` that the app is asked for, as with requests.
    pub(super) host: String,
    pub(super) upstream: Arc<Upstream>,
}

#[derive(Debug, thiserror::Error)]
enum Bad {
    #[error("no answer in time")]
    TimedOut,
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("no answer that could be passed on")]
    Http1(#[from] h1::Error),
    #[error("no answer")]
    Http2(#[from] hyper::Error),
    #[error("the check cannot be asked")]
    Request(#[from] http::Error),
    #[error("status {0}")]
    Status(StatusCode),
}

/// Asks again and again until aborted. The first answer comes at once; till then the address counts
/// as well, for a gate that starts must not refuse everything first.
pub(super) async fn run(asked: Asked, address: Arc<Address>, tls: Arc<TlsConfigs>, began: Instant) {
    let mut ticks = tokio::time::interval(asked.check.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut streak = Streak::default();
    loop {
        ticks.tick().await;
        let answer = tokio::time::timeout(asked.check.timeout, ask(&asked, &address, &tls)).await;
        let answer = answer.unwrap_or(Err(Bad::TimedOut));
        if let Some(well) = streak.note(answer.is_ok(), &asked.check) {
            let why = answer.err().map(|error| error_chain(&error)).unwrap_or_default();
            let now = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
            address.checked(well, &why, now);
        }
    }
}

async fn ask(asked: &Asked, address: &Address, tls: &TlsConfigs) -> Result<(), Bad> {
    let Asked { check, host, upstream } = asked;
    let url = address.url();
    // Only where the app speaks nothing else: one question needs no more than HTTP/1.1.
    let protocol = if upstream.protocol == Protocol::Http2 { Protocol::Http2 } else { Protocol::Http1 };
    let (io, spoken) = connect::open_io(url, upstream, protocol, tls).await?;
    let path = format!("{}{}", upstream.path_prefix, check.path);
    let request = Request::get(&path).header(USER_AGENT, "stepgate-health");
    let status = match spoken {
        Spoken::Http1 => h1::probe(io, request.header(HOST, host).header(CONNECTION, "close").body(())?).await?,
        Spoken::Http2 => {
            let target = format!("{}://{host}{}", url.scheme.as_str(), path);
            let request = request.uri(target).version(Version::HTTP_2).body(Empty::<Bytes>::new())?;
            let (mut sender, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await?;
            answer(sender.send_request(request), driver).await?
        }
    };
    if check.is_good(status.as_u16()) { Ok(()) } else { Err(Bad::Status(status)) }
}

/// The status of the answer, for which the connection must be driven.
async fn answer(
    answer: impl Future<Output = hyper::Result<Response<Incoming>>>,
    driver: impl Future<Output = hyper::Result<()>>,
) -> hyper::Result<StatusCode> {
    let mut answer = std::pin::pin!(answer);
    let response = tokio::select! {
        biased;
        response = &mut answer => response?,
        _ = driver => answer.await?,
    };
    Ok(response.status())
}

/// Answers of one kind in a row.
#[derive(Debug, Default)]
struct Streak {
    good: u32,
    bad: u32,
}

impl Streak {
    /// `Some` once enough of a kind came in a row: what the address is by now.
    fn note(&mut self, good: bool, check: &HealthCheck) -> Option<bool> {
        (self.good, self.bad) = if good { (self.good.saturating_add(1), 0) } else { (0, self.bad.saturating_add(1)) };
        if good {
            (self.good >= check.healthy_after).then_some(true)
        } else {
            (self.bad >= check.unhealthy_after).then_some(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_takes_several_answers_of_a_kind_in_a_row() {
        let check = HealthCheck { healthy_after: 2, unhealthy_after: 3, ..HealthCheck::of("/ping") };
        let mut streak = Streak::default();
        let said: Vec<_> =
            [false, false, true, false, false, false, true, true].map(|good| streak.note(good, &check)).into();
        assert_eq!(said, [None, None, None, None, None, Some(false), None, Some(true)]);
    }

    #[test]
    fn a_good_status_is_any_of_200_to_399_or_what_the_file_names() {
        let check = HealthCheck::of("/ping");
        assert!([200, 204, 302, 399].iter().all(|s| check.is_good(*s)));
        assert!([199, 400, 401, 503].iter().all(|s| !check.is_good(*s)));
        let check = HealthCheck { expect: vec![401], every: Duration::from_secs(1), ..check };
        assert!(check.is_good(401) && !check.is_good(200));
    }
}
