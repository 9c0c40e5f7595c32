//! Counters for Prometheus. Labels never hold client input (S-LOG-3): apps come from the
//! configuration, everything else from a fixed set.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::base::version;
use crate::config::snapshot::Version;
use crate::domain::posture::Posture;
use crate::domain::route::AppName;
use crate::store::EventCounts;

/// Upper bounds of the duration histogram, in seconds.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// A directory may hold one for each of thousands of customers; who watches wants the nearest ends.
const MAX_CERTIFICATES: usize = 200;

/// What was decided about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    Allow,
    Challenge,
    Deny,
    Reject,
}

impl Verdict {
    pub const ALL: [Self; 4] = [Self::Allow, Self::Challenge, Self::Deny, Self::Reject];

    fn slot(self) -> usize {
        match self {
            Self::Allow => 0,
            Self::Challenge => 1,
            Self::Deny => 2,
            Self::Reject => 3,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Challenge => "challenge",
            Self::Deny => "deny",
            Self::Reject => "reject",
        }
    }
}

/// The counters of one app: plain atomics, so that a request pays for no look-up and no lock.
#[derive(Debug, Default)]
pub struct AppMetrics {
    verdicts: [AtomicU64; 4],
    /// Where a shadow rule would have decided: by what was enforced, and by what it would have said.
    shadows: [[AtomicU64; 3]; 3],
    /// By first digit of the status, 1xx to 5xx.
    statuses: [AtomicU64; 5],
    durations: [AtomicU64; BUCKETS.len() + 1],
    duration_sum_micros: AtomicU64,
    pub upstream_errors: AtomicU64,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
    /// `Set-Cookie` of an app for a name of ours, dropped (S-COOK-3).
    pub cookies_dropped: AtomicU64,
    /// Cookies of an app shown by another session than received them (S-COOK-5).
    pub cookies_of_others: AtomicU64,
    pub tunnels_open: AtomicI64,
}

impl AppMetrics {
    pub fn verdict(&self, verdict: Verdict) {
        if let Some(counter) = self.verdicts.get(verdict.slot()) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A shadow rule would have decided. What is refused before a rule is asked has none.
    pub fn shadow(&self, enforced: Verdict, shadow: Verdict) {
        if let Some(counter) = self.shadows.get(enforced.slot()).and_then(|row| row.get(shadow.slot())) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn finished(&self, status: u16, took: Duration) {
        if let Some(counter) = self.statuses.get(usize::from(status / 100).wrapping_sub(1)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        let seconds = took.as_secs_f64();
        let slot = BUCKETS.partition_point(|bound| *bound < seconds);
        if let Some(counter) = self.durations.get(slot) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.duration_sum_micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// The counters of one address of an app, by the configuration's own words.
#[derive(Debug, Default)]
pub struct AddressMetrics {
    /// 1 while it gets requests, 0 while it is ejected or fails its checks.
    pub healthy: AtomicI64,
    pub faults: AtomicU64,
    pub ejections: AtomicU64,
}

/// All counters of the process.
#[derive(Debug, Default)]
pub struct Metrics {
    apps: DashMap<AppName, Arc<AppMetrics>>,
    addresses: DashMap<(AppName, String), Arc<AddressMetrics>>,
    /// The apps of the policy in force; all that are known before there is one.
    served: Mutex<Option<HashSet<AppName>>>,
    /// When the certificates in force end, by their names.
    certificates: Mutex<BTreeMap<String, i64>>,
    /// The policy in force.
    policy: Mutex<Option<Version>>,
    pub connections_open: AtomicI64,
    /// As of the last look at the metrics.
    pub connections_idle: AtomicI64,
    pub connections_accepted: AtomicU64,
    /// Refused for a limit (per address, per process, `from`).
    pub connections_refused: AtomicU64,
    pub tls_failures: AtomicU64,
    /// Connections that did not speak what their listener does: a PROXY header, none, one of a stranger,
    /// plain HTTP, TLS.
    pub unexpected: [AtomicU64; 5],
    pub sessions_cached: AtomicI64,
    pub reloads: AtomicU64,
    pub reloads_failed: AtomicU64,
    pub last_reload_success: AtomicI64,
    pub last_reload_at_secs: AtomicI64,
    pub config_generation: AtomicI64,
    posture: Mutex<Posture>,
    pub certificate_reloads_failed: AtomicU64,
    pub last_certificate_reload_success: AtomicI64,
    /// The writer was behind.
    pub access_log_behind: AtomicU64,
    /// The writer could not write (a full disk).
    pub access_log_unwritten: AtomicU64,
    pub audit_dropped: AtomicU64,
    pub session_reads_failed: AtomicU64,
    pub store_up: AtomicI64,
    pub mail_sent: AtomicU64,
    /// Tries that the relay did not take.
    pub mail_failed: AtomicU64,
    pub mail_given_up: AtomicU64,
    /// Not written, for too many waited.
    pub mail_dropped: AtomicU64,
    pub mail_waiting: AtomicI64,
    pub mail_oldest_at_secs: AtomicI64,
    pub mail_relay_up: AtomicI64,
    pub sms_sent: AtomicU64,
    /// Tries.
    pub sms_failed: AtomicU64,
    pub sms_gateway_up: AtomicI64,
    pub incidents_open: AtomicI64,
    events: OnceLock<Arc<EventCounts>>,
}

impl Metrics {
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Takes the counts of a store's events into what is shown; the first store counts.
    pub fn show_events(&self, counts: &Arc<EventCounts>) {
        let _ = self.events.set(Arc::clone(counts));
    }

    /// The counters of an app; the caller keeps the handle (each thread has a small map of them).
    #[must_use]
    pub fn app(&self, app: &AppName) -> Arc<AppMetrics> {
        if let Some(found) = self.apps.get(app) {
            return Arc::clone(&found);
        }
        Arc::clone(&self.apps.entry(app.clone()).or_default())
    }

    /// The counters of an app's address.
    #[must_use]
    pub fn address(&self, app: &AppName, url: &str) -> Arc<AddressMetrics> {
        Arc::clone(&self.addresses.entry((app.clone(), url.to_owned())).or_default())
    }

    /// An address that is in no file any more is shown no more.
    pub fn forget_address(&self, app: &AppName, url: &str) {
        self.addresses.remove(&(app.clone(), url.to_owned()));
    }

    /// Shows these apps and no others. What is hidden is kept: threads hold handles to it, and an app
    /// that comes back goes on counting where it was.
    pub fn show_apps(&self, apps: impl Iterator<Item = AppName>) {
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = Some(apps.collect());
    }

    pub fn show_posture(&self, posture: Posture) {
        *self.posture.lock().unwrap_or_else(PoisonError::into_inner) = posture;
    }

    /// Shows the ends of these certificates and of no others. Of two by one name (RSA beside ECDSA) it is
    /// the nearer one; of more than [`MAX_CERTIFICATES`] those that end first.
    pub fn show_certificates(&self, ends: impl Iterator<Item = (String, i64)>) {
        let mut ends: Vec<_> = ends.collect();
        ends.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        let mut shown = BTreeMap::new();
        for (name, end) in ends {
            if shown.len() < MAX_CERTIFICATES {
                shown.entry(name).or_insert(end);
            }
        }
        *self.certificates.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    /// Names the policy in force.
    pub fn show_policy(&self, version: Option<Version>) {
        *self.policy.lock().unwrap_or_else(PoisonError::into_inner) = version;
    }

    fn is_shown(&self, app: &AppName) -> bool {
        self.served.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_none_or(|served| served.contains(app))
    }

    /// The text exposition format (OpenMetrics 1.0).
    #[must_use]
    pub fn render(self: &Arc<Self>) -> String {
        let mut registry = Registry::with_prefix("stepgate");
        registry.register_collector(Box::new(Snapshot(Arc::clone(self))));
        let mut out = String::with_capacity(8192);
        if prometheus_client::encoding::text::encode(&mut out, &registry).is_err() {
            out.clear();
        }
        out
    }
}

/// Hands the atomics to the encoder when somebody asks.
#[derive(Debug)]
struct Snapshot(Arc<Metrics>);

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let metrics = &self.0;
        let load = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let gauge = |c: &AtomicI64| c.load(Ordering::Relaxed);
        for (name, help, value) in [
            ("connections_accepted", "Client connections accepted.", load(&metrics.connections_accepted)),
            (
                "connections_refused",
                "Client connections refused for a limit or an address.",
                load(&metrics.connections_refused),
            ),
            ("tls_failures", "TLS handshakes that failed.", load(&metrics.tls_failures)),
            ("config_reloads", "Configuration loads that took effect.", load(&metrics.reloads)),
            ("config_reloads_failed", "Configuration loads that kept the old policy.", load(&metrics.reloads_failed)),
            (
                "certificate_reloads_failed",
                "Times that new certificates could not be used; the old ones stay in force.",
                load(&metrics.certificate_reloads_failed),
            ),
            (
                "audit_dropped",
                "Refusals not written to the audit trail because its queue was full.",
                load(&metrics.audit_dropped),
            ),
            ("mail_sent", "Mails that the relay took.", load(&metrics.mail_sent)),
            ("mail_failed", "Tries of a mail that the relay did not take.", load(&metrics.mail_failed)),
            ("mail_given_up", "Mails given up: refused, or too old.", load(&metrics.mail_given_up)),
            ("mail_dropped", "Notices not written, because too many mails waited.", load(&metrics.mail_dropped)),
            ("sms_sent", "Text messages that the gateway took.", load(&metrics.sms_sent)),
            ("sms_failed", "Tries of a text message that the gateway did not take.", load(&metrics.sms_failed)),
            (
                "session_reads_failed",
                "Sessions that the store could not be asked for; their requests got 503.",
                load(&metrics.session_reads_failed),
            ),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        for (name, help, value) in [
            ("connections_open", "Client connections open now.", gauge(&metrics.connections_open)),
            (
                "connections_idle",
                "Those on which nothing was asked for 2 s or more: they give way when places become scarce.",
                gauge(&metrics.connections_idle),
            ),
            ("sessions_cached", "Session cookies held in memory.", gauge(&metrics.sessions_cached)),
            ("store_up", "1 when the store answers and takes writes (tried each 30 s).", gauge(&metrics.store_up)),
            (
                "config_last_reload_success",
                "1 when the last load of the configuration took effect.",
                gauge(&metrics.last_reload_success),
            ),
            (
                "config_last_reload_timestamp_seconds",
                "When the configuration was last loaded.",
                gauge(&metrics.last_reload_at_secs),
            ),
            ("mail_waiting", "Mails that wait to be sent, of all replicas.", gauge(&metrics.mail_waiting)),
            (
                "mail_oldest_timestamp_seconds",
                "When the oldest of them was written; 0 when none waits.",
                gauge(&metrics.mail_oldest_at_secs),
            ),
            (
                "mail_relay_up",
                "1 when this process last reached the mail relay, 0 when it did not or had nothing to send yet.",
                gauge(&metrics.mail_relay_up),
            ),
            (
                "sms_gateway_up",
                "1 when this process last reached the gateway for text messages, 0 when it did not or had nothing to send yet.",
                gauge(&metrics.sms_gateway_up),
            ),
            (
                "incidents_open",
                "Notices whose person said that it was not them, and that nobody has closed.",
                gauge(&metrics.incidents_open),
            ),
            ("config_generation", "Counts the loads of the configuration.", gauge(&metrics.config_generation)),
            (
                "certificate_last_reload_success",
                "1 while the certificates in force are those of the files.",
                gauge(&metrics.last_certificate_reload_success),
            ),
        ] {
            let value = ConstGauge::new(value);
            value.encode(encoder.encode_descriptor(name, help, None, value.metric_type())?)?;
        }
        let gauge = ConstGauge::new(1_i64);
        let help = "1; the labels say which program this is.";
        let mut family = encoder.encode_descriptor("build_info", help, None, gauge.metric_type())?;
        gauge.encode(family.encode_family(&[("version", version::VERSION), ("commit", version::COMMIT)])?)?;
        if let Some(policy) = *metrics.policy.lock().unwrap_or_else(PoisonError::into_inner) {
            let help = "1; the label is the beginning of the hash of the policy in force, as in /readyz.";
            let mut family = encoder.encode_descriptor("config_info", help, None, gauge.metric_type())?;
            gauge.encode(family.encode_family(&[("version", policy.as_str())])?)?;
        }
        let help = "When a certificate in force ends, in Unix time, by the first name that it is for.";
        let mut family = encoder.encode_descriptor("certificate_end_seconds", help, None, gauge.metric_type())?;
        for (name, end) in &*metrics.certificates.lock().unwrap_or_else(PoisonError::into_inner) {
            ConstGauge::new(*end).encode(family.encode_family(&[("certificate", name.as_str())])?)?;
        }
        let help = "1 for the posture in force.";
        let mut family = encoder.encode_descriptor("posture", help, None, gauge.metric_type())?;
        let in_force = *metrics.posture.lock().unwrap_or_else(PoisonError::into_inner);
        for posture in Posture::ALL {
            let value = ConstGauge::new(i64::from(posture == in_force));
            value.encode(family.encode_family(&[("posture", posture.as_str())])?)?;
        }
        let kind = ConstCounter::new(0_u64).metric_type();
        let help = "Connections that did not speak what their listener does, by what came instead.";
        let mut family = encoder.encode_descriptor("connections_unexpected", help, None, kind)?;
        let came = ["proxy_header", "no_proxy_header", "not_a_trusted_proxy", "plain_http", "tls"];
        for (came, count) in came.iter().zip(&metrics.unexpected) {
            ConstCounter::new(load(count)).encode(family.encode_family(&[("came", *came)])?)?;
        }
        let help = "Access log lines that were lost: the writer was behind, or could not write them (a full disk).";
        let mut family = encoder.encode_descriptor("access_log_dropped", help, None, kind)?;
        for (reason, count) in [("behind", &metrics.access_log_behind), ("unwritten", &metrics.access_log_unwritten)] {
            ConstCounter::new(load(count)).encode(family.encode_family(&[("reason", reason)])?)?;
        }
        self.encode_events(&mut encoder)?;
        self.encode_addresses(&mut encoder)?;
        self.encode_apps(&mut encoder)
    }
}

impl Snapshot {
    fn encode_events(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let kind = ConstCounter::new(0_u64).metric_type();
        let help = "Events written to the audit trail by this process: sign-ins, codes, changes of accounts.";
        let mut family = encoder.encode_descriptor("audit_events", help, None, kind)?;
        for (action, outcome, count) in self.0.events.get().map(|counts| counts.all()).unwrap_or_default() {
            let labels = [("action", action.as_str()), ("outcome", outcome.as_str())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn encode_addresses(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let addresses = &self.0.addresses;
        let shown = addresses.iter().filter(|e| self.0.is_shown(&e.key().0));
        let mut all: Vec<_> = shown.map(|e| (e.key().clone(), Arc::clone(e.value()))).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let gauge = ConstGauge::new(0_i64).metric_type();
        let help = "1 while an address of an app gets requests, 0 while it is ejected or fails its checks.";
        let mut family = encoder.encode_descriptor("upstream_healthy", help, None, gauge)?;
        for ((app, address), m) in &all {
            let labels = [("app", app.as_str()), ("address", address.as_str())];
            ConstGauge::new(m.healthy.load(Ordering::Relaxed)).encode(family.encode_family(&labels)?)?;
        }
        let counter = ConstCounter::new(0_u64).metric_type();
        for (name, help, pick) in [
            (
                "upstream_faults",
                "Requests and connections that an address did not answer, or not validly.",
                (|m| &m.faults) as fn(&AddressMetrics) -> &AtomicU64,
            ),
            ("upstream_ejections", "Times that an address was passed over for its faults.", |m| &m.ejections),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, counter)?;
            for ((app, address), m) in &all {
                let labels = [("app", app.as_str()), ("address", address.as_str())];
                ConstCounter::new(pick(m).load(Ordering::Relaxed)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn encode_apps(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let shown = self.0.apps.iter().filter(|e| self.0.is_shown(e.key()));
        let mut apps: Vec<(String, Arc<AppMetrics>)> =
            shown.map(|e| (e.key().as_str().to_owned(), Arc::clone(e.value()))).collect();
        apps.sort_by(|a, b| a.0.cmp(&b.0));
        let kind = ConstCounter::new(0_u64).metric_type();
        let mut family = encoder.encode_descriptor("decisions", "Requests by verdict.", None, kind)?;
        for (app, m) in &apps {
            for (verdict, count) in Verdict::ALL.iter().zip(&m.verdicts) {
                let labels = [("app", app.as_str()), ("verdict", verdict.as_str())];
                ConstCounter::new(count.load(Ordering::Relaxed)).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Requests that a shadow rule would have decided, by the verdict in force and its own.";
        let mut family = encoder.encode_descriptor("shadow_decisions", help, None, kind)?;
        for (app, m) in &apps {
            for (enforced, row) in Verdict::ALL.iter().zip(&m.shadows) {
                for (shadow, count) in Verdict::ALL.iter().zip(row) {
                    // Most apps have no such rule: only what happened is shown.
                    let count = count.load(Ordering::Relaxed);
                    if count > 0 {
                        let labels =
                            [("app", app.as_str()), ("enforced", enforced.as_str()), ("shadow", shadow.as_str())];
                        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
                    }
                }
            }
        }
        let mut family = encoder.encode_descriptor("requests", "Requests answered, by class of status.", None, kind)?;
        for (app, m) in &apps {
            for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].iter().zip(&m.statuses) {
                let labels = [("app", app.as_str()), ("status", *class)];
                ConstCounter::new(count.load(Ordering::Relaxed)).encode(family.encode_family(&labels)?)?;
            }
        }
        let histogram = prometheus_client::metrics::MetricType::Histogram;
        let mut family =
            encoder.encode_descriptor("request_duration_seconds", "Time from head to last byte.", None, histogram)?;
        for (app, m) in &apps {
            let labels = [("app", app.as_str())];
            let bounds = BUCKETS.iter().copied().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> =
                bounds.zip(&m.durations).map(|(b, c)| (b, c.load(Ordering::Relaxed))).collect();
            let count = buckets.iter().map(|(_, c)| c).sum();
            #[expect(clippy::cast_precision_loss, reason = "a sum of durations needs no exact microseconds")]
            let sum = m.duration_sum_micros.load(Ordering::Relaxed) as f64 / 1e6;
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        for (name, help, pick) in [
            (
                "upstream_errors",
                "Requests that the upstream did not answer.",
                (|m| &m.upstream_errors) as fn(&AppMetrics) -> &AtomicU64,
            ),
            ("bytes_received", "Request body bytes.", |m| &m.bytes_in),
            ("bytes_sent", "Response body bytes.", |m| &m.bytes_out),
            (
                "cookies_dropped",
                "Set-Cookie fields of apps for a name of the gate, or too long to be sealed, dropped.",
                |m| &m.cookies_dropped,
            ),
            ("cookies_of_others", "Cookies of apps that another session received, or that no app set; dropped.", |m| {
                &m.cookies_of_others
            }),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (app, m) in &apps {
                let labels = [("app", app.as_str())];
                ConstCounter::new(pick(m).load(Ordering::Relaxed)).encode(family.encode_family(&labels)?)?;
            }
        }
        let gauge = ConstGauge::new(0_i64).metric_type();
        let mut family = encoder.encode_descriptor("tunnels_open", "WebSockets open now.", None, gauge)?;
        for (app, m) in &apps {
            let labels = [("app", app.as_str())];
            ConstGauge::new(m.tunnels_open.load(Ordering::Relaxed)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_shows_up_with_its_counts() {
        let metrics = Metrics::new();
        let app = metrics.app(&AppName::new("wiki"));
        app.verdict(Verdict::Allow);
        app.finished(200, Duration::from_millis(3));
        let address = metrics.address(&AppName::new("wiki"), "http://10.0.4.11:8080");
        address.healthy.store(1, Ordering::Relaxed);
        let _ = metrics.address(&AppName::new("wiki"), "http://10.0.4.12:8080");
        metrics.forget_address(&AppName::new("wiki"), "http://10.0.4.12:8080");
        let text = metrics.render();
        let shown = "stepgate_upstream_healthy{app=\"wiki\",address=\"http://10.0.4.11:8080\"} 1";
        assert!(text.contains(shown) && !text.contains("10.0.4.12"), "{text}");
        assert!(text.contains("stepgate_decisions_total{app=\"wiki\",verdict=\"allow\"} 1"), "{text}");
        assert!(text.contains("stepgate_request_duration_seconds_bucket{le=\"0.005\",app=\"wiki\"} 1"), "{text}");
        assert!(text.contains("stepgate_config_last_reload_success 0"), "{text}");
    }

    #[test]
    fn of_many_certificates_the_nearest_ends_are_shown_once_for_each_name() {
        let metrics = Metrics::new();
        let many = (0..250).map(|n| (format!("{n}.test"), 1000 + n));
        metrics.show_certificates(many.chain([("a.test".to_owned(), 9), ("a.test".to_owned(), 7)]));
        let text = metrics.render();
        assert!(text.contains("stepgate_certificate_end_seconds{certificate=\"a.test\"} 7\n"), "{text}");
        assert_eq!(text.matches("stepgate_certificate_end_seconds{").count(), MAX_CERTIFICATES);
        assert!(text.contains("\"198.test\"") && !text.contains("\"199.test\""), "{text}");
    }

    #[test]
    fn an_app_that_a_reload_removed_is_shown_no_more_and_goes_on_when_it_comes_back() {
        let metrics = Metrics::new();
        let (wiki, shop) = (AppName::new("wiki"), AppName::new("shop"));
        let held = metrics.app(&wiki);
        held.verdict(Verdict::Allow);
        let _ = (metrics.app(&shop), metrics.address(&wiki, "http://10.0.4.11:8080"));
        metrics.show_apps([shop.clone()].into_iter());
        // A request that began before the reload ends after it.
        held.verdict(Verdict::Allow);
        let _ = metrics.app(&wiki);
        let text = metrics.render();
        assert!(!text.contains("wiki") && text.contains("app=\"shop\""), "{text}");
        metrics.show_apps([shop, wiki].into_iter());
        held.verdict(Verdict::Allow);
        let text = metrics.render();
        assert!(text.contains("stepgate_decisions_total{app=\"wiki\",verdict=\"allow\"} 3"), "{text}");
    }
}
