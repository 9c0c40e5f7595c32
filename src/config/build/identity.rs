//! Identity headers: dialects that apps know, and headers of one's own.

use std::sync::Arc;

use http::HeaderName;

use super::Context;
use crate::config::yaml::{Mark, Node};
use crate::domain::route::{HeaderEncoding, Identity, IdentityValue};

const COMMA: IdentityValue = IdentityValue::Groups { separator: ',' };

/// The headers of a dialect, as its apps expect them (PEERS.md 3.1).
fn dialect(name: &str) -> &'static [(&'static str, IdentityValue)] {
    use IdentityValue::{Email, Name, Subject, User};
    match name {
        "remote-user" => {
            &[("remote-user", User), ("remote-groups", COMMA), ("remote-name", Name), ("remote-email", Email)]
        }
        "oauth2-proxy" => &[
            ("x-forwarded-user", User),
            ("x-forwarded-email", Email),
            ("x-forwarded-groups", COMMA),
            ("x-forwarded-preferred-username", User),
        ],
        "x-auth-request" => &[
            ("x-auth-request-user", User),
            ("x-auth-request-email", Email),
            ("x-auth-request-groups", COMMA),
            ("x-auth-request-preferred-username", User),
        ],
        "authentik" => &[
            ("x-authentik-username", User),
            ("x-authentik-groups", IdentityValue::Groups { separator: '|' }),
            ("x-authentik-email", Email),
            ("x-authentik-name", Name),
            ("x-authentik-uid", Subject),
        ],
        "pomerium" => &[
            ("x-pomerium-claim-user", User),
            ("x-pomerium-claim-email", Email),
            ("x-pomerium-claim-groups", COMMA),
            ("x-pomerium-claim-name", Name),
            ("x-pomerium-claim-sub", Subject),
        ],
        "cloudflare" => &[("cf-access-authenticated-user-email", Email)],
        "caddy-security" => &[
            ("x-token-subject", User),
            ("x-token-user-name", Name),
            ("x-token-user-email", Email),
            ("x-token-user-roles", IdentityValue::Groups { separator: ' ' }),
        ],
        _ => &[],
    }
}

/// Names that are ours or the protocol's: an identity header cannot take them.
const TAKEN: [&str; 16] = [
    "host",
    "connection",
    "content-length",
    "content-type",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "cookie",
    "set-cookie",
    "forwarded",
    "via",
    "expect",
    "origin",
    "x-stepgate-assertion",
    "keep-alive",
];

pub(super) fn identity(context: &mut Context<'_>, file: &Arc<str>, node: Option<&Node>) -> Identity {
    let Some(node) = node else { return Identity::default() };
    let mut headers: Vec<(HeaderName, IdentityValue)> = Vec::new();
    for item in node.get("headers").map(Node::one_or_many).unwrap_or_default() {
        if let Some(name) = item.text() {
            for (header, value) in dialect(name) {
                add(context, file, item.at, HeaderName::from_static(header), value.clone(), &mut headers);
            }
            continue;
        }
        for entry in item.entries() {
            let Ok(name) = HeaderName::from_bytes(entry.key.as_bytes()) else { continue };
            if TAKEN.contains(&name.as_str()) || name.as_str().starts_with("x-forwarded-for") {
                let message = format!("`{}` is a header of the protocol or of Stepgate itself", entry.key);
                context.report.fault(file, entry.key_at, message);
                continue;
            }
            if let Some(value) = value(context, file, &name, &entry.node) {
                add(context, file, entry.key_at, name, value, &mut headers);
            }
        }
    }
    let encoding = match node.get("encoding").and_then(Node::text) {
        Some("rfc8187") => HeaderEncoding::Rfc8187,
        Some("percent") => HeaderEncoding::Percent,
        _ => HeaderEncoding::Utf8,
    };
    let pass = node.get("pass_headers");
    let pass_headers: Vec<String> =
        pass.map(Node::items).unwrap_or_default().iter().filter_map(Node::text).map(str::to_ascii_lowercase).collect();
    if let Some(pass) = pass.filter(|_| !pass_headers.is_empty()) {
        context.report.warn(
            file,
            pass.at,
            "`pass_headers` lets anyone set these headers: the app must not read an identity from them",
        );
    }
    for (node, name) in pass.map(Node::items).unwrap_or_default().iter().zip(&pass_headers) {
        if headers.iter().any(|(header, _)| fold(header.as_str()) == fold(name)) {
            context.report.fault(
                file,
                node.at,
                format!("{name:?} carries the identity: it cannot be passed from clients"),
            );
        }
    }
    Identity { headers, assertion: node.get("assertion").and_then(Node::bool).unwrap_or(false), encoding, pass_headers }
}

fn add(
    context: &mut Context<'_>,
    file: &Arc<str>,
    at: Mark,
    name: HeaderName,
    value: IdentityValue,
    headers: &mut Vec<(HeaderName, IdentityValue)>,
) {
    // Apps fold `-` and `_`: two such names are one header to them (S-ID-4).
    if headers.iter().any(|(known, _)| fold(known.as_str()) == fold(name.as_str())) {
        context.report.fault(file, at, format!("the header `{name}` is there already: an app must get it once"));
    } else {
        headers.push((name, value));
    }
}

fn value(context: &mut Context<'_>, file: &Arc<str>, name: &HeaderName, node: &Node) -> Option<IdentityValue> {
    if let Some(word) = node.text() {
        return match word {
            "user" => Some(IdentityValue::User),
            "groups" => Some(COMMA),
            "name" => Some(IdentityValue::Name),
            "email" => Some(IdentityValue::Email),
            "subject" => Some(IdentityValue::Subject),
            _ => None,
        };
    }
    match node.entries() {
        [entry] if entry.key == "groups" => {
            let mut chars = entry.node.text()?.chars();
            match (chars.next(), chars.next()) {
                (Some(separator), None) if separator == ' ' || separator.is_ascii_graphic() => {
                    Some(IdentityValue::Groups { separator })
                }
                _ => {
                    context.report.fault(file, entry.node.at, "groups are joined by one character of ASCII");
                    None
                }
            }
        }
        [entry] if entry.key == "text" => {
            let text = entry.node.text()?;
            if looks_secret(name.as_str()) {
                context.report.fault_with(
                    file,
                    entry.node.at,
                    format!("a secret stands here in clear: `{name}` is a name for secrets"),
                    "write a reference: { file: /run/secrets/NAME } or { env: NAME }".to_owned(),
                );
                return None;
            }
            if http::HeaderValue::from_str(text).is_err() {
                context.report.fault(file, entry.node.at, "a header value is visible ASCII in one line");
                return None;
            }
            Some(IdentityValue::Fixed(text.to_owned()))
        }
        [entry] if matches!(entry.key.as_str(), "file" | "env") => {
            let secret = context.secret(file, node)?;
            if http::HeaderValue::from_str(secret.expose()).is_err() {
                context.report.fault(file, node.at, "the secret is no header value: visible ASCII in one line");
                return None;
            }
            Some(IdentityValue::FixedSecret(secret))
        }
        _ => {
            context.report.fault(file, node.at, "a header's value has one key: `file`, `env`, `text` or `groups`");
            None
        }
    }
}

fn looks_secret(name: &str) -> bool {
    ["authorization", "key", "token", "secret", "password", "credential"].iter().any(|word| name.contains(word))
}

fn fold(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}
