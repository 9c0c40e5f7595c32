//! Does each public name lead to this gate, and does the gate learn on the way who the client is?

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{StatusCode, header};
use tokio::net::lookup_host;

use super::fetch::{self, Answer, FetchError};
use super::tls::{self, Machine};
use super::{Finding, apps};
use crate::base::clock::{Clock, SystemClock};
use crate::base::net::ClientIp;
use crate::config::Snapshot;
use crate::config::snapshot::Role;
use crate::crypto::KeyRing;
use crate::domain::host::{HostName, Scheme};
use crate::server::wiring::{self, Wiring};

pub(super) async fn examine(snapshot: &Snapshot, keys: Option<&KeyRing>, findings: &mut Vec<Finding>) {
    let scheme = snapshot.public_scheme();
    let portal = snapshot.portal.iter().map(|p| &p.host);
    let mut hosts: Vec<&HostName> = portal.chain(snapshot.routes.iter().flat_map(|r| &r.hosts)).collect();
    hosts.sort();
    hosts.dedup();
    let here = apps::own_addresses();
    let Some(keys) = keys else {
        for host in &hosts {
            address(host, scheme, &here, &about(scheme, host), findings).await;
        }
        // The question is sealed with the key ring.
        let what = "whether they lead to this gate was not tried: there is no key ring to ask it with (the line about the \
                    state says why)";
        return findings.push(Finding::untried("names", what));
    };
    for host in hosts {
        one(snapshot, host, scheme, keys, &here, findings).await;
    }
}

fn about(scheme: Scheme, host: &HostName) -> String {
    format!("{}://{host}", scheme.as_str())
}

async fn one(
    snapshot: &Snapshot,
    host: &HostName,
    scheme: Scheme,
    keys: &KeyRing,
    here: &[IpAddr],
    findings: &mut Vec<Finding>,
) {
    let about = about(scheme, host);
    let Some(addr) = address(host, scheme, here, &about, findings).await else { return };
    let header = if wants_proxy_header(snapshot, addr, here) {
        // We would come from the address that we go to.
        if !snapshot.trusted_proxies.contains(ClientIp::new(addr.ip())) {
            let what = format!(
                "leads to {addr}, which takes connections of `trusted_proxies` alone, and this machine is none: it cannot \
                 be tried from here"
            );
            return findings.push(Finding::untried(about, what));
        }
        Some(proxy_header(addr))
    } else {
        None
    };
    let machine = Machine::new();
    let asked = ask(addr, header.as_deref(), scheme, host, keys, &machine).await;
    // All that the files know of is clear text; that a proxy in front ends TLS only shows by trying.
    if scheme == Scheme::Http && header.is_none() && may_be_https(&asked) {
        let port = port_of(host).unwrap_or(Scheme::Https.default_port());
        let secure = ask(SocketAddr::new(addr.ip(), port), None, Scheme::Https, host, keys, &machine).await;
        if let Some((what, todo)) = machine.complaint() {
            findings.push(Finding::problem(self::about(Scheme::Https, host), what, todo));
        }
        if let Some(wiring) = secure.as_ref().ok().and_then(wiring_in) {
            let todo = format!("{}{}", trust(snapshot, &wiring.peer), LET_IT_SAY);
            let what = format!(
                "browsers come by https, and a proxy at {} that ends their TLS is not in `trusted_proxies`: the gate \
                 takes everybody for {0}, over http",
                wiring.peer
            );
            return findings.push(Finding::problem(about, what, todo));
        }
    }
    if let Some((what, todo)) = machine.complaint() {
        findings.push(Finding::problem(&about, what, todo));
    }
    match asked {
        Ok(answer) => judge(snapshot, &about, scheme, &answer, findings),
        Err(FetchError::Connect(error)) => findings.push(Finding::problem(
            about,
            format!("nothing takes connections at {addr}: {error}"),
            "is the gate running (`systemctl status stepgate`), and does the name lead to it?",
        )),
        Err(FetchError::Tls(error)) => {
            let (what, todo) = tls::no_tls(&error);
            findings.push(Finding::problem(about, what, todo));
        }
        Err(error) => findings.push(Finding::problem(about, error.to_string(), "look at what listens there")),
    }
}

async fn ask(
    addr: SocketAddr,
    header: Option<&str>,
    scheme: Scheme,
    host: &HostName,
    keys: &KeyRing,
    machine: &Machine,
) -> Result<Answer, FetchError> {
    let path = format!("{}?token={}", wiring::PATH, wiring::token(keys, host.as_str(), SystemClock.now()));
    let tls = (scheme == Scheme::Https).then(|| (Arc::clone(&machine.config), host.name()));
    fetch::get(addr, header, tls, host.as_str(), &path).await
}

/// Whether something in front may have sent us to https, or speaks nothing else.
fn may_be_https(asked: &Result<Answer, FetchError>) -> bool {
    match asked {
        Ok(answer) => {
            let to = answer.headers.get(header::LOCATION).and_then(|to| to.to_str().ok());
            // nginx answers 400 in clear text at its port for TLS.
            to.is_some_and(|to| to.starts_with("https://"))
                || (answer.status == StatusCode::BAD_REQUEST && !answer.headers.contains_key("x-frame-options"))
        }
        Err(error) => matches!(error, FetchError::Connect(_) | FetchError::Http(_)),
    }
}

/// What the gate saw, where it was the gate that answered.
fn wiring_in(answer: &Answer) -> Option<Wiring> {
    let told = serde_json::from_slice::<Wiring>(&answer.body).ok();
    told.filter(|_| answer.status.is_success()).filter(Wiring::is_plausible)
}

const LET_IT_SAY: &str = ", and let it send X-Forwarded-For and X-Forwarded-Proto (docs/OPERATIONS.md, \"Behind a load \
                          balancer\")";

/// The line that makes a proxy one whose word counts.
fn trust(snapshot: &Snapshot, peer: &str) -> String {
    if snapshot.trusted_proxies.is_empty() {
        format!("add the line `trusted_proxies: [\"{peer}\"]` to the main file")
    } else {
        format!("add \"{peer}\" to `trusted_proxies`")
    }
}

fn port_of(host: &HostName) -> Option<u16> {
    host.as_str().strip_prefix(host.name())?.strip_prefix(':')?.parse().ok()
}

/// An address that nobody has (RFC 5737, RFC 3849): what the gate sees of it, it has from the header.
const NOBODY_V4: &str = "192.0.2.1";
const NOBODY_V6: &str = "2001:db8::1";

/// Whether a listener of ours that is reached at `addr` waits for the word of a balancer.
fn wants_proxy_header(snapshot: &Snapshot, addr: SocketAddr, here: &[IpAddr]) -> bool {
    let ip = addr.ip().to_canonical();
    let ours = |listener: SocketAddr| {
        listener.port() == addr.port()
            && (listener.ip().to_canonical() == ip
                || (listener.ip().is_unspecified() && (listener.is_ipv6() || ip.is_ipv4())))
    };
    (ip.is_loopback() || here.contains(&ip))
        && snapshot.listeners.iter().any(|l| l.role == Role::Proxy && l.proxy_protocol && ours(l.addr))
}

/// Whether the client is told by a PROXY header wherever people come in: then this machine is one of the
/// trusted addresses itself, and was named.
fn all_told_by_header(snapshot: &Snapshot) -> bool {
    snapshot.listeners.iter().filter(|l| l.role == Role::Proxy).all(|l| l.proxy_protocol)
}

/// What a balancer would say first, version 1.
fn proxy_header(addr: SocketAddr) -> String {
    let (family, client) = if addr.is_ipv4() { ("TCP4", NOBODY_V4) } else { ("TCP6", NOBODY_V6) };
    format!("PROXY {family} {client} {} 1 {}\r\n", addr.ip(), addr.port())
}

/// Where browsers go for this name.
async fn address(
    host: &HostName,
    scheme: Scheme,
    here: &[IpAddr],
    about: &str,
    findings: &mut Vec<Finding>,
) -> Option<SocketAddr> {
    let name = host.name().trim_matches(['[', ']']);
    let port = port_of(host).unwrap_or(scheme.default_port());
    // Browsers resolve these by themselves (RFC 6761), resolvers need not.
    if name == "localhost" || name.ends_with(".localhost") {
        return Some(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    let found: Vec<SocketAddr> = match lookup_host((name, port)).await {
        Ok(found) => found.collect(),
        Err(error) => {
            let what = format!("the name does not resolve here: {error}");
            findings.push(Finding::problem(about, what, "an entry in DNS (or in /etc/hosts, to try)"));
            return None;
        }
    };
    if !found.iter().any(|a| here.contains(&a.ip())) {
        let to: Vec<String> = found.iter().map(|a| a.ip().to_string()).collect();
        let what = format!("the name leads to {}, which is not this machine", to.join(" and "));
        findings.push(Finding::warning(
            about,
            what,
            "right where a balancer or a router stands in front; wrong elsewhere",
        ));
    }
    found.into_iter().next()
}

fn judge(snapshot: &Snapshot, about: &str, scheme: Scheme, answer: &Answer, findings: &mut Vec<Finding>) {
    if let Some(wiring) = wiring_in(answer) {
        return judge_wiring(snapshot, about, scheme, &wiring, findings);
    }
    // Our own refusals are problem documents, and their type says what went wrong.
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let kind = problem["type"].as_str().and_then(|t| t.rsplit([':', '/']).next()).unwrap_or_default();
    let (what, todo) = match kind {
        "no-such-host" => (
            "the gate answers, but was asked for another host: a proxy in front replaces Host",
            "let it pass Host on (nginx: proxy_set_header Host $http_host; Apache: ProxyPreserveHost On)",
        ),
        "clear-text" => (
            "the gate refuses clear text: no trusted proxy said that the browser came over https",
            "name the proxy in `trusted_proxies`, and let it send X-Forwarded-Proto: https",
        ),
        "unreadable-address" => (
            "a trusted proxy sends an X-Forwarded-For or -Proto that cannot be read",
            "let it send its client's address alone, and http or https",
        ),
        "not-found" => (
            "another gate answers: it does not know this key ring",
            "is `state:` (or `store.keys`) that of the gate that runs?",
        ),
        _ if answer.headers.contains_key("x-frame-options") && !kind.is_empty() => {
            ("the gate answers in a way that the doctor does not know", "are this program and the gate of one version?")
        }
        _ => (
            "something else answers here, not the gate",
            "lead the name to the gate; the app must not be reached around it",
        ),
    };
    findings.push(Finding::problem(about, format!("{what} ({})", answer.status), todo));
}

fn judge_wiring(snapshot: &Snapshot, about: &str, scheme: Scheme, wiring: &Wiring, findings: &mut Vec<Finding>) {
    if !wiring.peer_is_trusted && !wiring.forwarded.is_empty() {
        let what = format!(
            "a proxy at {} sends {}, and the gate does not trust it: everyone seems to come from there",
            wiring.peer,
            wiring.forwarded.join(", ")
        );
        findings.push(Finding::problem(about, what, trust(snapshot, &wiring.peer)));
    } else if wiring.scheme != scheme.as_str() {
        let what = format!("the gate takes its requests for {}", wiring.scheme);
        let todo = "let the proxy in front send X-Forwarded-Proto";
        findings.push(Finding::problem(about, what, todo));
    } else if wiring.peer_is_trusted
        && wiring.client == wiring.peer
        // One that says so names this machine, where it stands on it.
        && !wiring.forwarded.iter().any(|field| field == "x-forwarded-for")
        && !all_told_by_header(snapshot)
    {
        let what =
            format!("the proxy at {} does not say who its client is: everyone seems to come from there", wiring.peer);
        // One that ends no TLS passes bytes on, and can write no field into them.
        let ends_tls_here = snapshot.listeners.iter().any(|l| l.role == Role::Proxy && l.tls.is_some());
        let todo = if ends_tls_here && wiring.forwarded.is_empty() {
            "where it passes TCP on, let it send a PROXY header (`proxy_protocol: true` on the listener); where it speaks \
             HTTP, X-Forwarded-For; fine when this machine is the proxy"
        } else {
            "let it send X-Forwarded-For (fine when this machine is the proxy)"
        };
        findings.push(Finding::warning(about, what, todo));
    } else {
        let what = match wiring.client.as_str() {
            NOBODY_V4 | NOBODY_V6 => "leads to this gate, which takes its client from the PROXY header".to_owned(),
            client => format!("leads to this gate, which sees {client} as the client"),
        };
        findings.push(Finding::fine(about, what));
    }
}
