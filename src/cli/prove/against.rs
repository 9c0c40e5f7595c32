//! The same spellings, sent to the app past the gate: where does it answer as for the protected page, though
//! the policy lets people through?
//!
//! Sent is only what the gate would let through: what it refuses never reaches the app. A page is told by its
//! status, its `Location`, and its body without the words of the request, against a page that is not there.

use std::collections::HashSet;
use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::Method;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_rustls::TlsConnector;

use super::super::check::{exit, say};
use super::super::{OUT_OF_REACH, Usage};
use super::{Hole, ProveArgs, place, routes, spelled};
use crate::base::clock::{Clock, SystemClock};
use crate::base::rng::{self, SystemRng};
use crate::config::prove::{Base, Fate, Prover};
use crate::config::{Snapshot, upstream_url};
use crate::domain::audit::printable;
use crate::domain::host::Scheme;
use crate::domain::path::CanonicalPath;
use crate::domain::policy::spelling::Family;
use crate::domain::route::Route;
use crate::domain::upstream::UpstreamUrl;
use crate::proxy::upstream::tls::{Offer, TlsConfigs};

/// For a whole exchange.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of an answer; what is longer is compared so far.
const MOST: usize = 1 << 20;

/// What came of one protected page.
struct Page {
    request: String,
    /// How it looks, or why it cannot be told.
    seen: Result<String, String>,
    sent: usize,
    /// Spellings that the app did not answer.
    silent: usize,
}

pub(super) async fn run(args: &ProveArgs, snapshot: &Snapshot) -> anyhow::Result<ExitCode> {
    let (route, url) = target(args, snapshot)?;
    let mut app = App::reach(route, &url, args.rate).await?;
    let prover = Prover::new(snapshot, route, &args.pages, SystemClock.now());
    let (mut pages, mut holes) = (Vec::new(), Vec::new());
    let get = prover.bases.iter().filter(|base| base.sample.method == Method::GET);
    let others = prover.bases.iter().filter(|base| base.sample.method != Method::GET).count();
    for base in get {
        match page(&mut app, &prover, route, base, &mut holes).await {
            Ok(page) => pages.push(page),
            Err(error) if pages.is_empty() => {
                say(&format!("{url} does not answer: {error:#}"))?;
                return Ok(ExitCode::from(OUT_OF_REACH));
            }
            Err(error) => pages.push(Page {
                request: base.target.clone(),
                seen: Err(format!("the app does not answer: {error:#}")),
                sent: 0,
                silent: 0,
            }),
        }
    }
    progress("");
    let told_apart = pages.iter().filter(|page| page.seen.is_ok()).count();
    let good = holes.is_empty() && told_apart > 0;
    if args.json {
        let shown = pages.iter().map(|page| {
            json!({
                "page": page.request, "told_apart": page.seen.is_ok(), "seen": page.seen.as_ref().ok(),
                "why": page.seen.as_ref().err(), "sent": page.sent, "not_answered": page.silent,
            })
        });
        let document = json!({
            "ok": good, "app": route.app.as_str(), "url": url.to_string(), "pages": shown.collect::<Vec<_>>(),
            "not_tried_for_their_method": others, "holes": holes.iter().map(Hole::json).collect::<Vec<_>>(),
        });
        say(&format!("{document:#}"))?;
        return Ok(exit(good));
    }
    say(&format!("{} at {url}, asked past the gate:", route.app))?;
    for Page { request, seen, sent, silent } in &pages {
        let request = printable(request);
        say(&match seen {
            Ok(seen) => {
                let silent = if *silent > 0 { format!(", {silent} of them without an answer") } else { String::new() };
                format!("  {request}  ({seen}): {sent} spellings sent that the policy lets through{silent}")
            }
            Err(why) => format!("  {request}  not tried: {why}"),
        })?;
    }
    if others > 0 {
        say(&format!("  {others} requests of other methods than GET were not tried: they might change something"))?;
    }
    for hole in &holes {
        say(&hole.text())?;
    }
    say(&match (holes.len(), told_apart) {
        (0, 0) => "Nothing is shown: no protected page could be told from one that is not there. Name some that are, with --page.".to_owned(),
        (0, n) => format!("None of these is answered as the protected page is ({n} pages)."),
        (n, _) => format!(
            "{n} spellings reach a protected page by a weaker rule: say under `paths: {{ like: }}` how the app reads paths \
             (or leave it out), or give these a rule."
        ),
    })?;
    Ok(exit(good))
}

fn target<'a>(args: &ProveArgs, snapshot: &'a Snapshot) -> anyhow::Result<(&'a Route, UpstreamUrl)> {
    let against = args.against.as_deref().unwrap_or_default();
    if against.contains("://") {
        let url = upstream_url(against).map_err(Usage)?;
        return match routes(snapshot, args.app.as_deref())?.as_slice() {
            [route] => Ok((route, url)),
            _ => Err(Usage("whose rules are these? There is more than one app: say --app".to_owned()).into()),
        };
    }
    let routes = routes(snapshot, Some(against))?;
    let Some(route) = routes.first() else { bail!("there is no app {against}") };
    match route.upstream.urls.first() {
        Some(url) => Ok((route, url.clone())),
        None => Err(Usage(format!("{against} has no upstream: all is answered by the gate")).into()),
    }
}

async fn page(
    app: &mut App<'_>,
    prover: &Prover<'_>,
    route: &Route,
    base: &Base,
    holes: &mut Vec<Hole>,
) -> anyhow::Result<Page> {
    let mut page = Page { request: base.target.clone(), seen: Ok(String::new()), sent: 0, silent: 0 };
    progress(&format!("{} ...", base.target));
    let protected = [app.get(&base.target, base).await?, app.get(&base.target, base).await?];
    let directory = base.sample.path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let nowhere = || format!("{directory}/none-{}", data_encoding::HEXLOWER.encode(&rng::bytes::<6>(&SystemRng)));
    let absent = [app.get(&nowhere(), base).await?, app.get(&nowhere(), base).await?];
    let [first, _] = &protected;
    if first.is_like(&absent) || matches!(first.status, 404 | 410) {
        let why = format!("the app answers it ({}) as it does a page that is not there", first.status);
        page.seen = Err(why);
        return Ok(page);
    }
    page.seen = Ok(format!("{}, {} bytes; one that is not there: {}", first.status, first.length, absent[0].status));
    let mut asked = HashSet::new();
    for spelling in prover.spellings(base) {
        let sendable = spelling.target.bytes().all(|b| (0x21..0x7f).contains(&b));
        let asks_by_get = spelling.method == Method::GET && spelling.form_method.is_none();
        if !sendable || !asks_by_get || spelling.family == Family::Query || !asked.insert(spelling.target.clone()) {
            continue;
        }
        let Fate::Passed { rule, observer } = prover.fate(base, &spelling) else { continue };
        page.sent += 1;
        let Ok(answer) = app.get(&spelling.target, base).await else {
            page.silent += 1;
            continue;
        };
        if answer.is_like(&protected) && !answer.is_like(&absent) {
            holes.push(Hole {
                app: route.app.to_string(),
                rule: base.rule.to_string(),
                place: place(route, base.rule.as_str()),
                request: format!("GET {}", base.target),
                spelled: spelled(&spelling),
                family: spelling.family.words(),
                observer: prover.observers.get(observer).map(|o| o.name.clone()).unwrap_or_default(),
                by: rule.to_string(),
                answered: Some(format!("as for that page ({}, {} bytes)", answer.status, answer.length)),
            });
        }
    }
    Ok(page)
}

/// What an answer is told by.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: u16,
    length: usize,
    /// Of `Location` and the body, without the words of the request.
    hash: Vec<u8>,
}

impl Seen {
    /// Whether it is one of these two, which are the same page. Where that never comes twice alike (a time, a
    /// number in a form) its length says it.
    fn is_like(&self, page: &[Self; 2]) -> bool {
        let [first, second] = page;
        if self.status != first.status {
            return false;
        }
        if first.hash == second.hash {
            return self.hash == first.hash;
        }
        let spread = first.length.abs_diff(second.length) + 16;
        self.length.abs_diff(first.length) <= spread
    }
}

/// The app, at one address.
struct App<'a> {
    addr: SocketAddr,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    host: String,
    prefix: &'a str,
    pace: Interval,
}

impl<'a> App<'a> {
    async fn reach(route: &'a Route, url: &UpstreamUrl, rate: u32) -> anyhow::Result<Self> {
        let unknown = || format!("{} does not resolve", url.host);
        let addr =
            lookup_host((url.host.as_str(), url.port)).await.with_context(unknown)?.next().with_context(unknown)?;
        let tls = match url.scheme {
            Scheme::Http => None,
            Scheme::Https => {
                let name = route.upstream.server_name.as_deref().unwrap_or(&url.host);
                let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned())?;
                let configs = TlsConfigs::new(tokio::runtime::Handle::current());
                Some((configs.config(&route.upstream, Offer::Http1).await?, name))
            }
        };
        let public = route.hosts.first().filter(|_| route.upstream.preserve_host);
        let host = public.map_or_else(|| url.authority(), |host| host.as_str().to_owned());
        let mut pace = tokio::time::interval(Duration::from_secs(1) / rate);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { addr, tls, host, prefix: &route.upstream.path_prefix, pace })
    }

    async fn get(&mut self, target: &str, base: &Base) -> anyhow::Result<Seen> {
        self.pace.tick().await;
        let head = format!(
            "GET {}{target} HTTP/1.1\r\nHost: {}\r\nUser-Agent: stepgate-prove\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            self.prefix, self.host
        );
        let work = async {
            let tcp = TcpStream::connect(self.addr).await?;
            match &self.tls {
                None => exchange(tcp, &head).await,
                Some((config, name)) => {
                    let tls = TlsConnector::from(Arc::clone(config)).connect(name.clone(), tcp).await?;
                    exchange(tls, &head).await
                }
            }
        };
        let bytes = tokio::time::timeout(PATIENCE, work).await.context("no answer in time")??;
        read(&bytes, &[target, &base.target])
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, head: &str) -> anyhow::Result<Vec<u8>> {
    stream.write_all(head.as_bytes()).await?;
    let mut bytes = Vec::new();
    let mut piece = vec![0; 16 * 1024];
    while bytes.len() < MOST && !is_whole(&bytes) {
        match stream.read(&mut piece).await {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(piece.get(..n).unwrap_or_default()),
            // TLS that ends without saying so; what came counts.
            Err(_) if !bytes.is_empty() => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}

/// Where the body begins, the status, and the fields that matter.
struct Head {
    end: usize,
    status: u16,
    location: Vec<u8>,
    length: Option<usize>,
    chunked: bool,
}

fn head(bytes: &[u8]) -> Option<Head> {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut parsed = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(end) = parsed.parse(bytes).ok()? else { return None };
    let field =
        |name: &str| parsed.headers.iter().find(|f| f.name.eq_ignore_ascii_case(name)).map(|f| f.value.to_vec());
    let length = field("content-length").and_then(|v| String::from_utf8(v).ok()?.trim().parse().ok());
    let chunked = field("transfer-encoding").is_some_and(|v| v.to_ascii_lowercase().ends_with(b"chunked"));
    Some(Head { end, status: parsed.code?, location: field("location").unwrap_or_default(), length, chunked })
}

/// An app that does not close says by its length where an answer ends.
fn is_whole(bytes: &[u8]) -> bool {
    match head(bytes) {
        Some(Head { end, length: Some(length), chunked: false, .. }) => bytes.len() >= end + length,
        Some(Head { chunked: true, .. }) => bytes.ends_with(b"\r\n0\r\n\r\n"),
        Some(Head { status: 204 | 304, .. }) => true,
        Some(_) | None => false,
    }
}

fn read(bytes: &[u8], words: &[&str]) -> anyhow::Result<Seen> {
    let head = head(bytes).context("what it answers is no HTTP/1.1")?;
    let body = bytes.get(head.end..).unwrap_or_default();
    let body = if head.chunked { unchunked(body) } else { body.to_vec() };
    let text = without(&String::from_utf8_lossy(&body), words);
    let location = without(&String::from_utf8_lossy(&head.location), words);
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    digest.update(location.as_bytes());
    digest.update(&[0]);
    digest.update(text.as_bytes());
    Ok(Seen { status: head.status, length: text.len(), hash: digest.finish().as_ref().to_vec() })
}

/// A page often repeats the address it was asked by, as it stood or decoded.
fn without(text: &str, targets: &[&str]) -> String {
    let mut words: Vec<String> = Vec::new();
    for target in targets {
        let path = target.split('?').next().unwrap_or(target);
        let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned();
        let canonical = CanonicalPath::parse(path, Default::default()).ok().map(|p| p.as_str().to_owned());
        words.extend([(*target).to_owned(), path.to_owned(), decoded].into_iter().chain(canonical));
    }
    words.retain(|word| word.len() > 1);
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    words.iter().fold(text.to_owned(), |text, word| text.replace(word.as_str(), ""))
}

/// The pieces of a body together; what is cut off counts as far as it came.
fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
        let line = rest.get(..end).unwrap_or_default();
        let digits = line.split(|b| *b == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(digits).ok().and_then(|d| usize::from_str_radix(d.trim(), 16).ok()).unwrap_or(0);
        let from = end + 2;
        let to = (from + size).min(rest.len());
        body.extend_from_slice(rest.get(from..to).unwrap_or_default());
        if size == 0 {
            break;
        }
        rest = rest.get(to + 2..).unwrap_or_default();
    }
    body
}

/// How far it is, on a terminal alone.
fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        let _ = write!(std::io::stderr(), "\r\x1b[K{}", printable(what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_known_by_what_does_not_change_with_its_address() {
        let answer =
            |status: u16, body: &str| format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let seen = |text: &str, target: &str| read(text.as_bytes(), &[target, "/admin/x"]).unwrap();
        let page = || seen(&answer(200, "protected\n/admin/x"), "/admin/x");
        let pages = [page(), page()];
        assert!(seen(&answer(200, "protected\n/ADMIN/x"), "/ADMIN/x").is_like(&pages));
        assert!(seen(&answer(200, "protected\n/admin/x y"), "/admin/x%20y").is_like(&pages));
        assert!(!seen(&answer(200, "other\n/ADMIN/x"), "/ADMIN/x").is_like(&pages));
        assert!(!seen(&answer(404, "protected\n/ADMIN/x"), "/ADMIN/x").is_like(&pages));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nprote\r\n5;a=b\r\ncted\n\r\n0\r\n\r\n";
        assert!(is_whole(chunked.as_bytes()) && seen(chunked, "/ADMIN/x").is_like(&pages));
        // One that never comes twice alike is known by how long it is.
        let changing = |n: u32| seen(&answer(200, &format!("{}{n}", "x".repeat(500))), "/admin/x");
        assert!(changing(3).is_like(&[changing(1), changing(2)]));
        assert!(!seen(&answer(200, "short"), "/y").is_like(&[changing(1), changing(2)]));
    }
}
