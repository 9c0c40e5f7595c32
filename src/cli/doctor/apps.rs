//! Does each app answer the gate, and nobody else (S-UP-9)?

use std::net::{IpAddr, SocketAddr};

use http::StatusCode;
use tokio::net::lookup_host;

use super::Finding;
use super::fetch::{self, FetchError, Spoken};
use crate::config::Snapshot;
use crate::domain::host::Scheme;
use crate::domain::route::Route;
use crate::domain::upstream::{HealthCheck, Protocol, UpstreamUrl};
use crate::proxy::upstream::tls::{Offer, TlsConfigs};

pub(super) async fn examine(snapshot: &Snapshot, findings: &mut Vec<Finding>) {
    let tls = TlsConfigs::new(tokio::runtime::Handle::current());
    let here = own_addresses();
    for route in snapshot.routes.iter() {
        let mut asked = Vec::new();
        for url in &route.upstream.urls {
            asked.push((url, find(route, url, &tls).await));
        }
        let others =
            asked.iter().any(|(_, found)| matches!(found, Found::Answers { status, .. } if is_good(route, *status)));
        for (url, found) in asked {
            one(route, url, found, others, &tls, &here, findings).await;
        }
    }
}

/// What came of asking an address.
enum Found {
    NoSuchName(std::io::Error),
    Silent(FetchError),
    Answers { status: StatusCode, resolved: Vec<SocketAddr> },
}

async fn find(route: &Route, url: &UpstreamUrl, tls: &TlsConfigs) -> Found {
    let resolved: Vec<SocketAddr> = match lookup_host((url.host.as_str(), url.port)).await {
        Ok(found) => found.collect(),
        Err(error) => return Found::NoSuchName(error),
    };
    let Some(first) = resolved.first() else {
        return Found::NoSuchName(std::io::Error::other("it has no address"));
    };
    match ask(route, url, *first, &url.host, tls).await {
        Ok(status) => Found::Answers { status, resolved },
        Err(error) => Found::Silent(error),
    }
}

fn is_good(route: &Route, status: StatusCode) -> bool {
    route.upstream.health.as_ref().is_none_or(|check| check.is_good(status.as_u16()))
}

/// What people meet while an address is as it is. `others`: another address of the app is well.
fn people_get(route: &Route, others: bool, late: bool) -> &'static str {
    match (others, route.upstream.health.is_some(), late) {
        (true, ..) => "its other addresses carry the requests meanwhile",
        (false, true, _) => "people get 503 now",
        (false, false, true) => "people get 504 now",
        (false, false, false) => "people get 502 now",
    }
}

async fn one(
    route: &Route,
    url: &UpstreamUrl,
    found: Found,
    others: bool,
    tls: &TlsConfigs,
    here: &[IpAddr],
    findings: &mut Vec<Finding>,
) {
    let about = format!("app {}", route.app);
    let at = format!("{}:{}", url.host, url.port);
    let (status, resolved) = match found {
        Found::Answers { status, resolved } => (status, resolved),
        Found::NoSuchName(error) => {
            let what = format!("its upstream {at} does not resolve: {error}");
            let todo = format!("mend the name in `upstream.urls`, or DNS: {}", people_get(route, others, false));
            return findings.push(Finding::problem(about, what, todo));
        }
        Found::Silent(error) => {
            let help = match (&error, url.scheme) {
                (FetchError::Tls(error), _) => super::tls::of_an_app(error),
                (FetchError::Answer(error), _) if error.is_nonsense() => {
                    "the gate cannot pass on such answers: mend the app"
                }
                (FetchError::Answer(_) | FetchError::Http(_), Scheme::Http) => {
                    "it may speak TLS (write https://) or HTTP/2 only (`protocol: http2`)"
                }
                (FetchError::Answer(_) | FetchError::Http(_), Scheme::Https) => {
                    "it may speak HTTP/2 only (`protocol: auto`)"
                }
                (FetchError::Late, _) => "look why the app is so slow",
                _ => "start the app, or mend `upstream.urls`",
            };
            let todo = format!("{help}: {}", people_get(route, others, matches!(error, FetchError::Late)));
            return findings.push(Finding::problem(about, format!("its upstream {at} does not answer: {error}"), todo));
        }
    };
    if let Some(check) = route.upstream.health.as_ref().filter(|check| !check.is_good(status.as_u16())) {
        let what = format!("its upstream {at} answers {} with {status}: it counts as down", asked(route, check));
        let todo = format!("mend `health`, or the app: {}", people_get(route, others, false));
        findings.push(Finding::problem(about.clone(), what, todo));
    }
    let local = resolved.iter().all(|a| a.ip().is_loopback() || here.contains(&a.ip()));
    if !local {
        // It has to answer this machine; what others get, only they can see.
        findings.push(Finding::fine(about.clone(), format!("answers at {at}")));
        let what = format!("whether {at} answers others than the gate, this machine cannot see");
        return findings.push(Finding::untried(about, what));
    }
    // From outside this machine one of these would be the way.
    let mut around = Vec::new();
    for ip in here.iter().filter(|ip| !ip.is_loopback()) {
        if ask(route, url, SocketAddr::new(*ip, url.port), &url.host, tls).await.is_ok() {
            around.push(SocketAddr::new(*ip, url.port).to_string());
        }
    }
    match around.as_slice() {
        [] => findings.push(Finding::fine(about, format!("answers at {at}, and at no address that others reach"))),
        open => findings.push(Finding::problem(
            about,
            format!("answers without the gate at {}: whoever reaches this machine is in", open.join(" and ")),
            format!(
                "let it listen on 127.0.0.1:{} alone (or close the port in the firewall); an app that cannot may \
                 check X-Stepgate-Assertion",
                url.port
            ),
        )),
    }
}

/// The path by which an address is asked whether it is well.
fn asked(route: &Route, check: &HealthCheck) -> String {
    format!("{}{}", route.upstream.path_prefix, check.path)
}

async fn ask(
    route: &Route,
    url: &UpstreamUrl,
    addr: SocketAddr,
    name: &str,
    tls: &TlsConfigs,
) -> Result<StatusCode, FetchError> {
    let host = route.hosts.first().map_or(name, |h| h.as_str());
    let (spoken, offer) = match route.upstream.protocol {
        Protocol::Http2 => (Spoken::Http2, Offer::Http2),
        Protocol::Http1 | Protocol::Auto => (Spoken::Http1, Offer::Http1),
    };
    let tls = match url.scheme {
        Scheme::Http => None,
        Scheme::Https => match tls.config(&route.upstream, offer).await {
            Ok(config) => Some((config, route.upstream.server_name.as_deref().unwrap_or(name))),
            Err(error) => return Err(FetchError::Tls(std::io::Error::other(error.to_string()))),
        },
    };
    let path = route.upstream.health.as_ref().map_or_else(|| "/".to_owned(), |check| asked(route, check));
    // Any answer says that the app is there, also a refusal.
    match spoken {
        Spoken::Http1 => fetch::status_of_app(addr, tls, host, &path).await,
        Spoken::Http2 => fetch::get_by(spoken, addr, None, tls, host, &path).await.map(|answer| answer.status),
    }
}

/// The addresses of this machine, loopback ones among them.
pub(super) fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let mut all: Vec<IpAddr> = interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            let v6 = || address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip()));
            v4.or_else(v6)
        })
        // Link-local ones need a scope to be reached by.
        .filter(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .collect();
    all.sort();
    all.dedup();
    all
}
