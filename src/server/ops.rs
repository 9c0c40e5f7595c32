//! The operators' listener: `/livez`, `/readyz`, `/metrics`. Never on a public port: a health check
//! that answers 200 to whoever asks was a bypass elsewhere (GHSA-5hvv-m4w4-gf6v).

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::json;

use crate::base::clock::Timestamp;
use crate::base::version;
use crate::config::snapshot::Version;
use crate::telemetry::metrics::Metrics;

/// What `/readyz` says.
#[derive(Debug, Default)]
pub struct Readiness {
    draining: AtomicBool,
    store_up: AtomicBool,
    /// Why the store takes no writes, though it answers.
    writes_refused: Mutex<Option<String>>,
    /// The store's clock against ours, in milliseconds.
    clock_skew: AtomicI64,
    config: Mutex<ConfigState>,
    /// Which posture is in force, and until when.
    posture: Mutex<(&'static str, Option<Timestamp>)>,
    /// Why the newest certificates were not taken; the old ones are still shown.
    certificates_refused: Mutex<Option<String>>,
}

#[derive(Clone, Debug, Default)]
struct ConfigState {
    generation: u64,
    hash: String,
    loaded_at: Option<Timestamp>,
    /// Why the newest files were not taken; the policy of `generation` is still in force.
    refused: Option<String>,
    refused_at: Option<Timestamp>,
    /// The files, or a policy that was applied.
    source: Option<String>,
    /// When that is taken back, unless somebody confirms it.
    confirm_until: Option<Timestamp>,
}

impl Readiness {
    pub fn draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub fn store(&self, up: bool) {
        self.store_up.store(up, Ordering::Relaxed);
    }

    /// `refused`: why the last write to the store did not come through.
    pub fn writes(&self, refused: Option<String>) {
        *self.writes_refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }

    #[must_use]
    pub fn store_takes_writes(&self) -> bool {
        self.writes_refused.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    pub fn clock_skew(&self, millis: i64) {
        let before = self.clock_skew.swap(millis, Ordering::Relaxed);
        match (clocks_agree(before), clocks_agree(millis)) {
            (true, false) => {
                tracing::error!(
                    millis,
                    "the clocks of this machine and of the store disagree; not ready (is NTP running?)"
                );
            }
            (false, true) => tracing::info!("the clocks of this machine and of the store agree again"),
            (true, true) | (false, false) => {}
        }
    }

    #[must_use]
    pub fn store_is_up(&self) -> bool {
        self.store_up.load(Ordering::Relaxed)
    }

    pub fn config_taken(&self, generation: u64, hash: &str, at: Timestamp) {
        let mut state = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let (source, confirm_until) = (state.source.take(), state.confirm_until);
        let (hash, loaded_at) = (hash.to_owned(), Some(at));
        *state = ConfigState { generation, hash, loaded_at, source, confirm_until, refused: None, refused_at: None };
    }

    pub fn config_refused(&self, why: &str, at: Timestamp) {
        let mut state = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        (state.refused, state.refused_at) = (Some(why.to_owned()), Some(at));
    }

    /// Where the policy in force came from, and when it is taken back.
    pub fn policy_of(&self, source: String, confirm_until: Option<Timestamp>) {
        let mut state = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        (state.source, state.confirm_until) = (Some(source), confirm_until);
    }

    /// `refused`: why the certificates of the files are not those in force.
    pub fn certificates(&self, refused: Option<String>) {
        *self.certificates_refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }

    pub fn posture(&self, posture: &'static str, until: Option<Timestamp>) {
        *self.posture.lock().unwrap_or_else(PoisonError::into_inner) = (posture, until);
    }

    fn answer(&self) -> (StatusCode, serde_json::Value) {
        let draining = self.draining.load(Ordering::Relaxed);
        let store_up = self.store_is_up();
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let certificates = self.certificates_refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let skew = self.clock_skew.load(Ordering::Relaxed);
        let writes_refused = self.writes_refused.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (posture, until) = *self.posture.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = !draining && store_up && writes_refused.is_none() && clocks_agree(skew) && config.generation > 0;
        let detail = json!({
            "ready": ready,
            "version": version::full(),
            "draining": draining,
            "store": if !store_up { "away" } else if writes_refused.is_some() { "takes no writes" } else { "up" },
            "writes_refused": writes_refused,
            "clock_skew_ms": skew,
            "config": {
                "generation": config.generation,
                "hash": config.hash,
                "version": Version::of(&config.hash).map(|version| version.to_string()),
                "source": config.source,
                "confirm_until": config.confirm_until.map(|t| t.to_string()),
                "loaded_at": config.loaded_at.map(|t| t.to_string()),
                "refused": config.refused,
                "refused_at": config.refused_at.map(|t| t.to_string()),
            },
            "posture": { "in_force": posture, "until": until.map(|t| t.to_string()) },
            "certificates": { "refused": certificates },
        });
        (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, detail)
    }
}

/// Sessions, codes and locks are times: replicas that disagree by more judge one code differently
/// (S-STORE-4).
const MOST_SKEW_MS: i64 = 2000;

fn clocks_agree(skew_ms: i64) -> bool {
    skew_ms.saturating_abs() <= MOST_SKEW_MS
}

/// Answers one request on the ops listener.
#[must_use]
pub fn answer<B>(request: &Request<B>, readiness: &Readiness, metrics: &Arc<Metrics>) -> Response<Full<Bytes>> {
    let get = matches!(*request.method(), Method::GET | Method::HEAD);
    let (status, kind, body) = match request.uri().path() {
        _ if !get => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET and HEAD\n".to_owned()),
        "/livez" => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
        "/readyz" => {
            let (status, detail) = readiness.answer();
            (status, "application/json", format!("{detail}\n"))
        }
        "/metrics" => (StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", metrics.render()),
        _ => (StatusCode::NOT_FOUND, "text/plain", "/livez, /readyz and /metrics are here\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: Method, path: &str, readiness: &Readiness) -> StatusCode {
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        answer(&request, readiness, &Metrics::new()).status()
    }

    #[test]
    fn ready_means_configured_with_a_store_and_not_draining() {
        let readiness = Readiness::default();
        assert_eq!(ask(Method::GET, "/livez", &readiness), StatusCode::OK);
        assert_eq!(ask(Method::GET, "/readyz", &readiness), StatusCode::SERVICE_UNAVAILABLE);
        readiness.store(true);
        readiness.config_taken(1, "ab", Timestamp::from_secs(1));
        assert_eq!(ask(Method::GET, "/readyz", &readiness), StatusCode::OK);
        readiness.config_refused("stepgate.yaml:3:1: unknown key", Timestamp::from_secs(2));
        readiness.certificates(Some("/tls/a.key: is not the private key of /tls/a.crt".to_owned()));
        assert_eq!(ask(Method::GET, "/readyz", &readiness), StatusCode::OK, "the old policy still serves");
        for (skew, status) in [(2001, 503), (-2001, 503), (i64::MIN, 503), (2000, 200)] {
            readiness.clock_skew(skew);
            assert_eq!(ask(Method::GET, "/readyz", &readiness).as_u16(), status, "s_store_4: {skew} ms");
        }
        readiness.writes(Some("the disk is full".to_owned()));
        assert_eq!(ask(Method::GET, "/readyz", &readiness), StatusCode::SERVICE_UNAVAILABLE, "nobody can sign in");
        assert_eq!(readiness.answer().1["store"], "takes no writes");
        readiness.writes(None);
        assert_eq!(ask(Method::GET, "/readyz", &readiness), StatusCode::OK);
        readiness.draining();
        assert_eq!(ask(Method::GET, "/readyz", &readiness), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ask(Method::POST, "/livez", &readiness), StatusCode::METHOD_NOT_ALLOWED);
    }
}
