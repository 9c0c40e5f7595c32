//! Listeners: who may speak clear text, and where the ops endpoints may stand.

use std::net::SocketAddr;

use super::{Context, Source};
use crate::base::net::NetworkSet;
use crate::config::snapshot::{Listener, Role, TlsFiles};
use crate::config::values;
use crate::config::yaml::Node;

pub(super) fn listeners(context: &mut Context<'_>, main: &Source, trusted: &NetworkSet) -> Vec<Listener> {
    let Some(list) = main.root.get("listen") else { return Vec::new() };
    let file = &main.name;
    let mut listeners: Vec<Listener> = Vec::new();
    let mut any_proxy = false;
    for node in list.items() {
        let addr = node.get("addr").and_then(Node::text).and_then(|t| values::socket(t).ok());
        let role_node = node.get("role");
        let role = match role_node.and_then(Node::text) {
            Some("proxy") => Role::Proxy,
            Some("redirect") => Role::Redirect,
            Some("ops") => Role::Ops,
            Some("forward_auth") => {
                let at = role_node.map_or(node.at, |n| n.at);
                context.report.fault(file, at, "the role `forward_auth` is not supported yet in this version");
                continue;
            }
            _ => continue,
        };
        any_proxy |= role == Role::Proxy;
        let from = node.get("from").map(|n| context.network_set(file, n));
        let tls = node.get("tls").and_then(|tls| tls.get("certificates")).and_then(|certificates| {
            let path = context.path(certificates)?;
            if !path.exists() {
                let message = format!("the certificates {} are not there", path.display());
                context.missing_here(file, certificates.at, message);
            }
            Some(TlsFiles { certificates: path })
        });
        if role != Role::Proxy
            && let Some(tls) = node.get("tls")
        {
            context.report.fault(file, tls.at, "only a proxy listener speaks TLS");
        }
        let Some(addr) = addr else { continue };
        let loopback = addr.ip().to_canonical().is_loopback();
        if role == Role::Proxy && !node.has("tls") && !loopback && trusted.is_empty() {
            context.report.fault_with(
                file,
                node.at,
                format!("the proxy listener {addr} speaks clear text where others can read it"),
                "add `tls`, listen on a loopback address, or name the load balancer in `trusted_proxies`".to_owned(),
            );
        }
        if role == Role::Ops && !loopback && from.is_none() {
            context.report.fault_with(
                file,
                node.at,
                format!("the ops listener {addr} is open to everyone"),
                "listen on a loopback address, or say who may connect with `from: [NETWORK]`".to_owned(),
            );
        }
        let proxy_protocol = node.get("proxy_protocol").and_then(Node::bool) == Some(true);
        if proxy_protocol && role == Role::Ops {
            context.report.fault(
                file,
                node.at,
                "an ops listener takes no PROXY header: nothing there asks for a client",
            );
        }
        if proxy_protocol && trusted.is_empty() {
            context.report.fault_with(
                file,
                node.at,
                format!("nobody could connect to {addr}: a PROXY header counts only from `trusted_proxies`, and there are none"),
                "name the load balancer in `trusted_proxies`".to_owned(),
            );
        }
        match listeners.iter().find(|l| clash(l.addr, addr)) {
            Some(other) if other.addr == addr => {
                context.report.fault(file, node.at, format!("another listener has the address {addr} already"));
            }
            Some(other) => {
                let wide = if other.addr.ip().is_unspecified() { other.addr } else { addr };
                context.report.fault_with(
                    file,
                    node.at,
                    format!(
                        "{addr} and {} cannot both be listened on: {wide} takes every address of this machine",
                        other.addr
                    ),
                    "give one of them another port, or name each address".to_owned(),
                );
            }
            None => {}
        }
        listeners.push(Listener { addr, role, tls, from, proxy_protocol });
    }
    if !any_proxy && context.report.faults.is_empty() {
        context.report.fault(file, list.at, "no listener has the role `proxy`: nobody could reach an app");
    }
    listeners
}

/// Whether the system would refuse the second of them. It gives every listener on port 0 a port of its own; `[::]`
/// takes IPv4 as well.
fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let takes = |wide: SocketAddr, other: SocketAddr| wide.ip().is_unspecified() && (wide.is_ipv6() || other.is_ipv4());
    a.port() == b.port() && a.port() != 0 && (a == b || takes(a, b) || takes(b, a))
}
