//! Does each public name lead to this gate, and does the gate learn on the way who the client is?

use std::net::{IpAddr, SocketAddr};

use tokio::net::lookup_host;

use super::fetch::{self, Answer, FetchError};
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
    for host in hosts {
        one(snapshot, host, scheme, keys, &here, findings).await;
    }
}

async fn one(
    snapshot: &Snapshot,
    host: &HostName,
    scheme: Scheme,
    keys: Option<&KeyRing>,
    here: &[IpAddr],
    findings: &mut Vec<Finding>,
) {
    let about = format!("{}://{host}", scheme.as_str());
    let Some(addr) = address(host, scheme, here, &about, findings).await else { return };
    let Some(keys) = keys else { return };
    let path = format!("{}?token={}", wiring::PATH, wiring::token(keys, host.as_str(), SystemClock.now()));
    let header = if wants_proxy_header(snapshot, addr, here) {
        // We would come from the address that we go to.
        if !snapshot.trusted_proxies.contains(ClientIp::new(addr.ip())) {
            let what = format!(
                "leads to {addr}, which takes connections of `trusted_proxies` alone, and this machine is none: it cannot \
                 be tried from here"
            );
            return findings.push(Finding::fine(about, what));
        }
        Some(proxy_header(addr))
    } else {
        None
    };
    let tls = (scheme == Scheme::Https).then(|| (fetch::trusting_the_machine(), host.name()));
    match fetch::get(addr, header.as_deref(), tls, host.as_str(), &path).await {
        Ok(answer) => judge(snapshot, &about, scheme, &answer, findings),
        Err(FetchError::Connect(error)) => findings.push(Finding::problem(
            about,
            format!("nothing takes connections at {addr}: {error}"),
            "is the gate running (`systemctl status stepgate`), and does the name lead to it?",
        )),
        Err(error @ FetchError::Tls(_)) => findings.push(Finding::problem(
            about,
            format!("browsers will warn: {error}"),
            "a certificate for this name, by an authority that browsers know",
        )),
        Err(error) => findings.push(Finding::problem(about, error.to_string(), "look at what listens there")),
    }
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
    let port = host.as_str().strip_prefix(host.name()).and_then(|rest| rest.strip_prefix(':'));
    let port = port.and_then(|p| p.parse().ok()).unwrap_or(scheme.default_port());
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
    if answer.status.is_success()
        && let Some(wiring) = serde_json::from_slice::<Wiring>(&answer.body).ok().filter(Wiring::is_plausible)
    {
        return judge_wiring(snapshot, about, scheme, &wiring, findings);
    }
    // Our own refusals are problem documents, and their type says what went wrong.
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let kind = problem["type"].as_str().and_then(|t| t.rsplit([':', '/']).next()).unwrap_or_default();
    let (what, todo) = match kind {
        "no-such-host" => (
            "the gate answers, but was asked for another host: a proxy in front replaces Host",
            "let it pass Host on (nginx: proxy_set_header Host $host; Apache: ProxyPreserveHost On)",
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
        findings.push(Finding::problem(about, what, format!("add {} to `trusted_proxies`", wiring.peer)));
    } else if wiring.scheme != scheme.as_str() {
        let what = format!("the gate takes its requests for {}", wiring.scheme);
        let todo = "let the proxy in front send X-Forwarded-Proto";
        findings.push(Finding::problem(about, what, todo));
    } else if wiring.peer_is_trusted && wiring.client == wiring.peer && !snapshot.trusted_proxies.is_empty() {
        let what =
            format!("the proxy at {} does not say who its client is: everyone seems to come from there", wiring.peer);
        findings.push(Finding::warning(
            about,
            what,
            "let it send X-Forwarded-For (fine when this machine is the proxy)",
        ));
    } else {
        let what = match wiring.client.as_str() {
            NOBODY_V4 | NOBODY_V6 => "leads to this gate, which takes its client from the PROXY header".to_owned(),
            client => format!("leads to this gate, which sees {client} as the client"),
        };
        findings.push(Finding::fine(about, what));
    }
}
