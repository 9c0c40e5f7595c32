//! Does each app answer the gate, and nobody else (S-UP-9)?

use std::net::{IpAddr, SocketAddr};

use tokio::net::lookup_host;

use super::Finding;
use super::fetch::{self, FetchError};
use crate::config::Snapshot;
use crate::domain::host::Scheme;
use crate::domain::route::Route;
use crate::domain::upstream::UpstreamUrl;
use crate::proxy::upstream::tls::{Offer, TlsConfigs};

pub(super) async fn examine(snapshot: &Snapshot, findings: &mut Vec<Finding>) {
    let tls = TlsConfigs::new(tokio::runtime::Handle::current());
    let here = own_addresses();
    for route in snapshot.routes.iter() {
        for url in &route.upstream.urls {
            one(route, url, &tls, &here, findings).await;
        }
    }
}

async fn one(route: &Route, url: &UpstreamUrl, tls: &TlsConfigs, here: &[IpAddr], findings: &mut Vec<Finding>) {
    let about = format!("app {}", route.app);
    let at = format!("{}:{}", url.host, url.port);
    let resolved: Vec<SocketAddr> = match lookup_host((url.host.as_str(), url.port)).await {
        Ok(found) => found.collect(),
        Err(error) => {
            let what = format!("its upstream {at} does not resolve: {error}");
            return findings.push(Finding::problem(about, what, "mend the name in `upstream.urls`, or DNS"));
        }
    };
    let Some(first) = resolved.first() else { return };
    if let Err(error) = ask(route, url, *first, &url.host, tls).await {
        let todo = match error {
            FetchError::Tls(_) => "its certificate must be for that name and by a known authority: `upstream.ca`",
            _ => "start the app, or mend `upstream.urls`: people get 502 now",
        };
        return findings.push(Finding::problem(about, format!("its upstream {at} does not answer: {error}"), todo));
    }
    let local = resolved.iter().all(|a| a.ip().is_loopback() || here.contains(&a.ip()));
    if !local {
        // It has to answer this machine; what others get, only they can see.
        let what = format!("answers at {at}; whether it answers others than the gate, this machine cannot see");
        return findings.push(Finding::fine(about, what));
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

async fn ask(
    route: &Route,
    url: &UpstreamUrl,
    addr: SocketAddr,
    name: &str,
    tls: &TlsConfigs,
) -> Result<(), FetchError> {
    let host = route.hosts.first().map_or(name, |h| h.as_str());
    let tls = match url.scheme {
        Scheme::Http => None,
        Scheme::Https => match tls.config(&route.upstream, Offer::Http1).await {
            Ok(config) => Some((config, route.upstream.server_name.as_deref().unwrap_or(name))),
            Err(error) => return Err(FetchError::Tls(std::io::Error::other(error.to_string()))),
        },
    };
    // Any answer will do, also a refusal: it is the app's.
    fetch::get(addr, tls, host, "/").await.map(|_| ())
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
