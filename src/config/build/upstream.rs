//! Where an app lives and how it is asked: the keys of `upstream:`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Context, duration_of};
use crate::config::values;
use crate::config::yaml::{Node, Value};
use crate::domain::host::Scheme;
use crate::domain::upstream::{ClientCertificate, HealthCheck, MAX_ADDRESSES, Protocol, Upstream, UpstreamUrl};

pub(super) fn upstream(context: &mut Context<'_>, file: &Arc<str>, node: Option<&Node>) -> Option<Upstream> {
    let node = node?;
    let default = Upstream::at(urls(context, file, node.get("urls")));
    let flag = |key: &str, default: bool| node.get(key).and_then(Node::bool).unwrap_or(default);
    let time = |key: &str, default: Duration| duration_of(node.get(key)).unwrap_or(default);
    let https = default.urls.iter().any(|u| u.scheme == Scheme::Https);
    let ca = node.get("ca").and_then(|n| existing(context, file, n));
    for key in ["ca", "client_certificate", "server_name"] {
        if let Some(n) = node.get(key).filter(|_| !https && !default.urls.is_empty()) {
            context.report.warn(file, n.at, format!("`{key}` does nothing: no address of the app is https"));
        }
    }
    if let Some(n) = node.get("protocol").filter(|n| n.text() == Some("auto") && !https && !default.urls.is_empty()) {
        let message = "`protocol: auto` is http1 here: without https there is nothing to agree on it by";
        context.report.warn(file, n.at, message);
    }
    if let Some(n) = node.get("dangerously_insecure").filter(|n| n.bool() == Some(true)) {
        context.report.warn(
            file,
            n.at,
            "`dangerously_insecure`: anybody between Stepgate and the app can read and change everything",
        );
    }
    for key in ["connect_timeout", "first_byte_timeout", "idle_timeout"] {
        if let Some(n) = node.get(key).filter(|n| duration_of(Some(n)).is_some_and(|d| d.is_zero())) {
            context.report.fault(file, n.at, format!("`{key}` is 0: no app answers in no time"));
        }
    }
    Some(Upstream {
        ca,
        client_certificate: node.get("client_certificate").and_then(|n| client_certificate(context, file, n)),
        server_name: node.get("server_name").and_then(Node::text).map(str::to_owned),
        insecure: flag("dangerously_insecure", default.insecure),
        protocol: match node.get("protocol").and_then(Node::text) {
            Some("http2") => Protocol::Http2,
            Some("auto") => Protocol::Auto,
            _ => Protocol::Http1,
        },
        path_prefix: node.get("path_prefix").and_then(Node::text).unwrap_or_default().to_owned(),
        preserve_host: flag("preserve_host", default.preserve_host),
        reads_bodies: flag("reads_bodies", default.reads_bodies),
        get_body: flag("get_body", default.get_body),
        connect_timeout: time("connect_timeout", default.connect_timeout),
        first_byte_timeout: time("first_byte_timeout", default.first_byte_timeout),
        idle_timeout: duration_of(node.get("idle_timeout")),
        health: node.get("health").and_then(|n| health(context, file, n)),
        slow_start: time("slow_start", default.slow_start),
        ..default
    })
}

/// A file that must be there to serve.
pub(super) fn existing(context: &mut Context<'_>, file: &Arc<str>, node: &Node) -> Option<PathBuf> {
    let path = context.path(node)?;
    if !path.exists() {
        context.missing_here(file, node.at, format!("the file {} is not there", path.display()));
    }
    Some(path)
}

fn client_certificate(context: &mut Context<'_>, file: &Arc<str>, node: &Node) -> Option<ClientCertificate> {
    let certificate = existing(context, file, node.get("certificate")?)?;
    let key = context.secret(file, node.get("key")?)?;
    Some(ClientCertificate { certificate, key })
}

fn urls(context: &mut Context<'_>, file: &Arc<str>, node: Option<&Node>) -> Vec<UpstreamUrl> {
    let mut urls: Vec<UpstreamUrl> = Vec::new();
    let Some(node) = node else { return urls };
    let items = node.one_or_many();
    for item in items {
        let Some(url) = item.text().and_then(|t| values::upstream_url(t).ok()) else { continue };
        if urls.contains(&url) {
            context.report.fault(file, item.at, format!("the address {url} stands here twice"));
        } else {
            urls.push(url);
        }
    }
    if items.is_empty() {
        context.report.fault(file, node.at, "an app needs at least one address");
    }
    if urls.len() > MAX_ADDRESSES {
        context.report.fault(file, node.at, format!("an app has at most {MAX_ADDRESSES} addresses"));
    }
    urls
}

/// A path, or a map with one.
fn health(context: &mut Context<'_>, file: &Arc<str>, node: &Node) -> Option<HealthCheck> {
    if !matches!(node.value, Value::Map(_)) {
        return node.text().map(HealthCheck::of);
    }
    let default = HealthCheck::of(node.get("path").and_then(Node::text)?);
    let time = |key: &str, default: Duration| duration_of(node.get(key)).unwrap_or(default);
    let count = |key: &str, default: u32| {
        node.get(key).and_then(Node::int).and_then(|n| u32::try_from(n).ok()).unwrap_or(default)
    };
    let every = time("every", default.every);
    if let Some(n) =
        node.get("every").filter(|_| !(Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&every))
    {
        context.report.fault(file, n.at, "`every` is from 100ms to 1h");
    }
    let timeout = time("timeout", default.timeout);
    if let Some(n) = node.get("timeout").filter(|_| timeout.is_zero()) {
        context.report.fault(file, n.at, "no address answers in no time");
    }
    let expect = node.get("expect").map(Node::one_or_many).unwrap_or_default();
    Some(HealthCheck {
        every,
        timeout,
        healthy_after: count("healthy_after", default.healthy_after),
        unhealthy_after: count("unhealthy_after", default.unhealthy_after),
        expect: expect.iter().filter_map(Node::int).filter_map(|n| u16::try_from(n).ok()).collect(),
        ..default
    })
}
