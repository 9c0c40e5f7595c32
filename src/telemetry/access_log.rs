//! One JSON line per request. Formatted into a buffer of the thread, handed over whole, written by
//! one writer thread: a slow disk never holds up a request, it costs lines, and those are counted.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::metrics::{AppMetrics, Metrics, Verdict};
use crate::base::clock::Timestamp;
use crate::base::ids::RequestId;
use crate::base::net::ClientIp;
use crate::base::unseen::{escape_in_json, is_unseen};
use crate::config::snapshot::Version;
use crate::domain::authn::AuthnContext;
use crate::domain::host::HostName;
use crate::domain::policy::RuleName;
use crate::domain::route::AppName;

/// A buffer is handed over when it is this full, and at each tick of its thread.
const HAND_OVER: usize = 64 * 1024;
/// Buffers that may wait for the writer; beyond it lines are dropped and counted.
const WAITING: usize = 64;

/// Of a path that was refused; the rest is cut.
pub const SENT_PATH_CHARS: usize = 256;
/// Of a client's `User-Agent`; the rest is cut.
const USER_AGENT_CHARS: usize = 256;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum AccessLogTarget {
    #[default]
    Stdout,
    File(PathBuf),
    Off,
}

/// What one line says. Query values, cookies and bodies have no field here (S-LOG-1).
#[derive(Debug)]
pub struct AccessRecord {
    pub at: Timestamp,
    pub started: Instant,
    pub id: RequestId,
    pub client: ClientIp,
    pub method: http::Method,
    pub host: Option<HostName>,
    /// The canonical path, as it was judged; empty where there is none.
    pub path: String,
    /// What was sent, where there is no canonical path: the first [`SENT_PATH_CHARS`] of it.
    pub sent_path: Option<String>,
    pub version: http::Version,
    pub app: Option<AppName>,
    pub metrics: Option<Arc<AppMetrics>>,
    pub verdict: Option<Verdict>,
    pub rule: Option<RuleName>,
    /// The policy that judged it, or would have.
    pub policy: Option<Version>,
    /// The ticket of the exception that let the person off the rule's level.
    pub exception: Option<Arc<str>>,
    /// It was let in by the grace of a level, without a second factor.
    pub grace: bool,
    /// A shadow rule would have decided, and what it would have said.
    pub shadow: Option<(RuleName, Verdict)>,
    pub user: Option<Arc<AuthnContext>>,
    pub status: u16,
    pub upstream_status: Option<u16>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub user_agent: Option<http::HeaderValue>,
    /// Why it was refused or failed, from a fixed set of words.
    pub why: Option<&'static str>,
}

impl AccessRecord {
    /// A request that has just begun; what becomes known of it is added to the fields.
    #[must_use]
    pub fn begin(begun: Begun, method: &http::Method, version: http::Version, headers: &http::HeaderMap) -> Self {
        Self {
            at: begun.at,
            started: begun.started,
            id: begun.id,
            client: begun.client,
            method: method.clone(),
            host: None,
            path: String::new(),
            sent_path: None,
            version,
            app: None,
            metrics: None,
            verdict: None,
            rule: None,
            policy: begun.policy,
            exception: None,
            grace: false,
            shadow: None,
            user: None,
            status: 0,
            upstream_status: None,
            bytes_in: 0,
            bytes_out: 0,
            user_agent: headers.get(http::header::USER_AGENT).cloned(),
            why: None,
        }
    }
}

/// When a request began, its id, who sent it, and the policy of that moment.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    pub at: Timestamp,
    pub started: Instant,
    pub id: RequestId,
    pub client: ClientIp,
    pub policy: Option<Version>,
}

/// The way in for request threads.
#[derive(Debug)]
pub struct AccessLog {
    to_writer: Option<SyncSender<Vec<u8>>>,
    metrics: Arc<Metrics>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

thread_local! {
    static BUFFER: RefCell<String> = const { RefCell::new(String::new()) };
}

impl AccessLog {
    /// Opens the target and starts the writer thread.
    pub fn open(target: &AccessLogTarget, metrics: Arc<Metrics>) -> std::io::Result<Arc<Self>> {
        let out = match target {
            AccessLogTarget::Off => {
                return Ok(Arc::new(Self { to_writer: None, metrics, writer: Mutex::default() }));
            }
            AccessLogTarget::Stdout => Out::Stdout(std::io::stdout()),
            AccessLogTarget::File(path) => Out::File(LogFile::open(path)?),
        };
        let (sender, receiver) = sync_channel(WAITING);
        let counted = Arc::clone(&metrics);
        let writer =
            std::thread::Builder::new().name("access-log".into()).spawn(move || write_all(&receiver, out, &counted))?;
        Ok(Arc::new(Self { to_writer: Some(sender), metrics, writer: Mutex::new(Some(writer)) }))
    }

    /// Waits until everything handed over is written. To be called when the request threads have
    /// ended; what is recorded later is dropped and counted.
    pub fn close(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(sender), Some(writer)) = (&self.to_writer, writer) else { return };
        // An empty buffer is the end. It waits for room; the writer is alive to make some.
        if sender.send(Vec::new()).is_ok() && writer.join().is_err() {
            tracing::error!("the writer of the access log had panicked");
        }
    }

    /// Counts the request and writes its line.
    pub fn record(&self, record: &AccessRecord) {
        let took = record.started.elapsed();
        if let Some(metrics) = &record.metrics {
            metrics.finished(record.status, took);
            metrics.bytes_in.fetch_add(record.bytes_in, Ordering::Relaxed);
            metrics.bytes_out.fetch_add(record.bytes_out, Ordering::Relaxed);
        }
        if self.to_writer.is_none() {
            return;
        }
        let full = BUFFER.with_borrow_mut(|buffer| {
            write_line(buffer, record, took);
            buffer.len() >= HAND_OVER
        });
        if full {
            self.flush();
        }
    }

    /// Hands the calling thread's lines to the writer; every thread calls it at its tick.
    pub fn flush(&self) {
        let Some(sender) = &self.to_writer else { return };
        let lines = BUFFER.with_borrow_mut(|buffer| {
            if buffer.is_empty() {
                return Vec::new();
            }
            std::mem::replace(buffer, String::with_capacity(buffer.len().min(HAND_OVER))).into_bytes()
        });
        if lines.is_empty() {
            return;
        }
        if let Err(TrySendError::Full(lines) | TrySendError::Disconnected(lines)) = sender.try_send(lines) {
            self.metrics.access_log_behind.fetch_add(count(&lines), Ordering::Relaxed);
        }
    }
}

fn write_all(receiver: &Receiver<Vec<u8>>, mut out: Out, metrics: &Metrics) {
    let mut failing = false;
    while let Ok(lines) = receiver.recv() {
        if lines.is_empty() {
            return;
        }
        // A full disk loses lines, never requests; the next buffer tries again.
        match out.write(&lines) {
            Ok(()) if failing => {
                failing = false;
                tracing::info!("the access log is written again");
            }
            Ok(()) => {}
            Err(error) => {
                metrics.access_log_unwritten.fetch_add(count(&lines), Ordering::Relaxed);
                if !failing {
                    tracing::error!(error = %error, "the access log cannot be written; its lines are lost");
                }
                failing = true;
            }
        }
    }
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|b| **b == b'\n').count() as u64
}

/// Where the writer writes.
#[derive(Debug)]
enum Out {
    Stdout(std::io::Stdout),
    File(LogFile),
}

impl Out {
    fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Stdout(out) => out.write_all(lines).and_then(|()| out.flush()),
            Self::File(file) => file.write(lines),
        }
    }
}

/// A file that somebody may rotate: moved away or removed, it is made anew, without a signal.
#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    /// Device and inode.
    is: (u64, u64),
}

impl LogFile {
    fn open(path: &Path) -> std::io::Result<Self> {
        // Addresses and names are personal data: the group may read them, others not.
        let file = File::options().create(true).append(true).mode(0o640).open(path)?;
        let meta = file.metadata()?;
        Ok(Self { path: path.to_owned(), file, is: (meta.dev(), meta.ino()) })
    }

    fn write(&mut self, lines: &[u8]) -> std::io::Result<()> {
        let there = std::fs::metadata(&self.path).map(|m| (m.dev(), m.ino()));
        if !there.is_ok_and(|is| is == self.is) {
            *self = Self::open(&self.path)?;
        }
        self.file.write_all(lines)
    }
}

fn write_line(out: &mut String, record: &AccessRecord, took: Duration) {
    // Pushed piece by piece: `write!` of the whole line cost a tenth of a proxied request.
    out.push_str("{\"time\":\"");
    time(out, record.at);
    out.push_str("\",\"id\":\"");
    out.push_str(record.id.encode(&mut [0; 36]));
    out.push_str("\",\"client\":\"");
    address(out, record.client);
    out.push_str("\",\"method\":\"");
    escape(out, record.method.as_str());
    // What is not known is not there: an empty path would look like one that was asked for.
    if let Some(host) = &record.host {
        out.push_str("\",\"host\":\"");
        escape(out, host.as_str());
    }
    if !record.path.is_empty() {
        out.push_str("\",\"path\":\"");
        escape(out, &record.path);
    }
    if let Some(sent) = &record.sent_path {
        out.push_str("\",\"sent_path\":\"");
        escape(out, sent);
    }
    out.push_str("\",\"version\":\"");
    out.push_str(version(record.version));
    out.push_str("\",\"status\":");
    number(out, record.status.into());
    if let Some(app) = &record.app {
        out.push_str(",\"app\":\"");
        out.push_str(app.as_str());
        out.push('"');
    }
    if let Some(verdict) = record.verdict {
        out.push_str(",\"verdict\":\"");
        out.push_str(verdict.as_str());
        out.push('"');
    }
    if let Some(rule) = &record.rule {
        out.push_str(",\"rule\":\"");
        escape(out, rule.as_str());
        out.push('"');
    }
    if let Some(policy) = &record.policy {
        out.push_str(",\"policy\":\"");
        out.push_str(policy.as_str());
        out.push('"');
    }
    if let Some(ticket) = &record.exception {
        out.push_str(",\"exception\":\"");
        escape(out, ticket);
        out.push('"');
    }
    if record.grace {
        out.push_str(",\"grace\":\"never_enrolled\"");
    }
    if let Some((rule, verdict)) = &record.shadow {
        out.push_str(",\"shadow_rule\":\"");
        escape(out, rule.as_str());
        out.push_str("\",\"shadow_verdict\":\"");
        out.push_str(verdict.as_str());
        out.push('"');
    }
    if let Some(user) = &record.user {
        out.push_str(",\"user\":\"");
        escape(out, user.name.as_str());
        out.push_str("\",\"session\":\"");
        out.push_str(user.session.encode(&mut [0; 36]));
        out.push('"');
    }
    if let Some(status) = record.upstream_status {
        out.push_str(",\"upstream_status\":");
        number(out, status.into());
    }
    if let Some(why) = record.why {
        out.push_str(",\"why\":\"");
        escape(out, why);
        out.push('"');
    }
    out.push_str(",\"bytes_in\":");
    number(out, record.bytes_in);
    out.push_str(",\"bytes_out\":");
    number(out, record.bytes_out);
    out.push_str(",\"duration_us\":");
    number(out, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    if let Some(agent) = record.user_agent.as_ref() {
        out.push_str(",\"user_agent\":\"");
        let text = match std::str::from_utf8(agent.as_bytes()) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(agent.as_bytes()),
        };
        // Nearly all are shorter, and then no character is counted.
        let cut = if text.len() <= USER_AGENT_CHARS {
            text.len()
        } else {
            text.char_indices().nth(USER_AGENT_CHARS).map_or(text.len(), |(at, _)| at)
        };
        escape(out, text.get(..cut).unwrap_or_default());
        out.push('"');
    }
    out.push_str("}\n");
}

/// The time as RFC 3339 in UTC with milliseconds. All but those stay the same for a second.
fn time(out: &mut String, at: Timestamp) {
    thread_local! {
        static SECOND: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
    }
    SECOND.with_borrow_mut(|(known, text)| {
        let second = at.as_secs();
        if *known != second {
            text.clear();
            // Writing to a String cannot fail.
            let _ = write!(text, "{}", Timestamp::from_secs(second));
            text.truncate(text.len() - "000Z".len());
            *known = second;
        }
        out.push_str(text);
    });
    let millis = at.as_millis().rem_euclid(1000);
    if millis < 100 {
        out.push('0');
    }
    if millis < 10 {
        out.push('0');
    }
    number(out, u64::try_from(millis).unwrap_or(0));
    out.push('Z');
}

fn address(out: &mut String, client: ClientIp) {
    match client.addr() {
        std::net::IpAddr::V4(v4) => {
            for (at, octet) in v4.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push('.');
                }
                number(out, octet.into());
            }
        }
        std::net::IpAddr::V6(v6) => {
            let _ = write!(out, "{v6}");
        }
    }
}

fn number(out: &mut String, number: u64) {
    out.push_str(itoa::Buffer::new().format(number));
}

fn version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_09 => "HTTP/0.9",
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2.0",
        http::Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// JSON string escaping; the common text without anything to escape is copied in one go. What nobody sees is
/// escaped too: terminals and log viewers act on it (S-LOG-3).
fn escape(out: &mut String, text: &str) {
    // Without an early end, so that the compiler looks at many bytes at once.
    let plain = |ok: bool, b: u8| ok & (0x20..0x7f).contains(&b) & (b != b'"') & (b != b'\\');
    if text.bytes().fold(true, plain) {
        out.push_str(text);
        return;
    }
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if is_unseen(c) => escape_in_json(out, c),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::SeededRng;

    #[test]
    fn s_log_3_a_line_stays_one_line_and_escapes_what_terminals_act_on() {
        let now = Timestamp::from_secs(1_800_000_000);
        let begun = Begun {
            at: now,
            started: Instant::now(),
            id: RequestId::new(now, &*SeededRng::new(1)),
            client: ClientIp::new([127, 0, 0, 1].into()),
            policy: Version::of("0123456789abcdef"),
        };
        let mut record =
            AccessRecord::begin(begun, &http::Method::GET, http::Version::HTTP_11, &http::HeaderMap::new());
        record.path = "/a\nlevel=info\u{1b}[2J\u{2028}\"x".into();
        record.sent_path = Some("/%2f\u{1b}".into());
        record.app = Some(AppName::new("wiki"));
        record.verdict = Some(Verdict::Deny);
        record.rule = Some(RuleName::new("say \"no\""));
        record.exception = Some("SEC-1\u{1b}".into());
        record.shadow = Some((RuleName::new("tried\n"), Verdict::Challenge));
        record.user_agent = http::HeaderValue::from_bytes("x\"\u{202e}\u{61c}\u{e0041}".as_bytes()).ok();
        let mut line = String::new();
        write_line(&mut line, &record, Duration::from_millis(1));
        assert_eq!(line.matches('\n').count(), 1);
        assert!(!line.trim_end().chars().any(is_unseen));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["policy"], "0123456789ab");
        assert_eq!(value["path"], "/a\nlevel=info\u{1b}[2J\u{2028}\"x");
        assert_eq!(value["rule"], "say \"no\"");
        assert_eq!(value["exception"], "SEC-1\u{1b}");
        assert_eq!((&value["shadow_rule"], &value["shadow_verdict"]), (&"tried\n".into(), &"challenge".into()));
        assert_eq!(value["id"], record.id.to_string());
        assert_eq!(value["version"], "HTTP/1.1");
    }

    #[test]
    fn each_field_stands_in_the_documentation_with_its_type() {
        let now = Timestamp::from_secs(1_800_000_000);
        let rng = SeededRng::new(1);
        let client = ClientIp::new([127, 0, 0, 1].into());
        let begun = |policy| {
            let id = RequestId::new(now, &*rng);
            Begun { at: now, started: Instant::now(), id, client, policy }
        };
        let agent = http::HeaderMap::from_iter([(http::header::USER_AGENT, http::HeaderValue::from_static("curl"))]);
        let bare =
            AccessRecord::begin(begun(None), &http::Method::GET, http::Version::HTTP_11, &http::HeaderMap::new());
        let mut full = AccessRecord::begin(
            begun(Version::of("0123456789abcdef")),
            &http::Method::GET,
            http::Version::HTTP_11,
            &agent,
        );
        full.host = HostName::parse(b"app.test", crate::domain::host::Scheme::Https).ok();
        full.path = "/x".into();
        full.sent_path = Some("/x".into());
        full.app = Some(AppName::new("wiki"));
        full.verdict = Some(Verdict::Allow);
        full.rule = Some(RuleName::new("r"));
        full.exception = Some("SEC-1".into());
        full.grace = true;
        full.shadow = Some((RuleName::new("s"), Verdict::Deny));
        full.user = Some(Arc::new(AuthnContext {
            user: crate::base::ids::UserId::nil(),
            name: crate::domain::user::UserName::parse("ann").unwrap(),
            display: String::new(),
            email: None,
            groups: Vec::new(),
            session: crate::base::ids::SessionId::nil(),
            ever_enrolled: true,
            evidence: Vec::new(),
        }));
        full.upstream_status = Some(200);
        full.why = Some("why");
        let fields = |record: &AccessRecord| -> Vec<(String, &'static str)> {
            let mut line = String::new();
            write_line(&mut line, record, Duration::from_millis(1));
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            let kind = |value: &serde_json::Value| if value.is_number() { "number" } else { "text" };
            value.as_object().unwrap().iter().map(|(name, value)| (name.clone(), kind(value))).collect()
        };
        // | `name` | type | always or not | what it says |
        let page = include_str!("../../docs/OPERATIONS.md");
        let table = page.split("### The fields of the access log").nth(1).unwrap().split("\n## ").next().unwrap();
        let cells = |line: &'static str| -> Option<[&str; 3]> {
            let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
            Some([cells.next()?.trim_end_matches('`'), cells.next()?, cells.next()?])
        };
        let documented: Vec<[&str; 3]> = table.lines().filter_map(cells).collect();
        let said = |always: bool| -> Vec<(String, &str)> {
            let mut all: Vec<_> = documented
                .iter()
                .filter(|[_, _, when]| !always || *when == "always")
                .map(|[name, kind, _]| ((*name).to_owned(), kind.split([',', ':']).next().unwrap_or_default()))
                .collect();
            all.sort();
            all
        };
        let sorted = |mut all: Vec<(String, &'static str)>| {
            all.sort();
            all
        };
        assert_eq!(said(false), sorted(fields(&full)));
        assert_eq!(said(true), sorted(fields(&bare)));
    }

    #[test]
    fn a_rotated_file_is_made_anew_and_nothing_handed_over_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
        let log = AccessLog::open(&AccessLogTarget::File(path.clone()), Metrics::new()).unwrap();
        let hand_over = |text: &str| {
            BUFFER.with_borrow_mut(|buffer| buffer.push_str(text));
            log.flush();
        };
        hand_over("one\n");
        // The writer has one thing after the other: the second is written when the third is taken.
        while std::fs::read_to_string(&path).unwrap() != "one\n" {
            std::thread::yield_now();
        }
        std::fs::rename(&path, &old).unwrap();
        hand_over("two\n");
        hand_over("three\n");
        log.close();
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "one\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\nthree\n");
    }

    #[test]
    fn lines_that_a_disk_does_not_take_are_counted() {
        let metrics = Metrics::new();
        let log = AccessLog::open(&AccessLogTarget::File("/dev/full".into()), Arc::clone(&metrics)).unwrap();
        BUFFER.with_borrow_mut(|buffer| buffer.push_str("one\ntwo\n"));
        log.flush();
        log.close();
        let said = metrics.render();
        assert!(said.contains("stepgate_access_log_dropped_total{reason=\"unwritten\"} 2"), "{said}");
        assert!(said.contains("stepgate_access_log_dropped_total{reason=\"behind\"} 0"), "{said}");
    }

    #[test]
    fn times_and_addresses_read_as_they_do_elsewhere() {
        for millis in
            [1_800_000_000_000, 1_800_000_000_001, 1_800_000_000_099, 1_800_000_000_999, 1_800_000_001_500, 7, -1]
        {
            let at = Timestamp::from_millis(millis);
            let mut text = String::new();
            time(&mut text, at);
            assert_eq!(text, at.to_string(), "{millis}");
        }
        for addr in ["127.0.0.1", "10.20.30.255", "2001:db8::1", "::ffff:192.0.2.9"] {
            let client = ClientIp::new(addr.parse().unwrap());
            let mut text = String::new();
            address(&mut text, client);
            assert_eq!(text, client.to_string());
        }
    }
}
