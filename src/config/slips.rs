//! What was probably meant by a word or a value that does not stand here: the slips of people who know
//! other programs, or YAML a little.

use super::shape::{Leaf, MapShape, Shape, Takes};
use super::yaml::{Node, Value};

/// A key of `map` that goes by another name elsewhere, and what to write.
pub(super) fn other_name(map: &MapShape, key: &str) -> Option<(&'static str, &'static str)> {
    const KEY: &str = "certificates: /etc/stepgate/tls, a directory of NAME.crt with its key beside it in NAME.key (or one \
                       NAME.pem with both)";
    let meant = match (map.what, key.to_ascii_lowercase().as_str()) {
        (
            "`tls`",
            "cert" | "key" | "crt" | "pem" | "cert_file" | "key_file" | "certfile" | "keyfile" | "certificate"
            | "certificate_key" | "private_key" | "dir" | "directory" | "path",
        ) => ("certificates", KEY),
        ("a listener", "cert" | "key" | "crt" | "ssl" | "certificate" | "cert_file" | "key_file") => {
            ("tls", "tls: { certificates: /etc/stepgate/tls }, a directory of NAME.crt with NAME.key beside it")
        }
        ("a listener", "address" | "bind" | "port" | "host" | "listen") => ("addr", "addr: \"[::]:443\""),
        ("an app", "name" | "id") => ("app", "app: NAME"),
        ("an app", "domain" | "domains" | "server_name" | "hostname" | "fqdn") => {
            ("hosts", "hosts: [app.corp.example]")
        }
        ("an app", "backend" | "target" | "proxy_pass" | "url" | "urls" | "to" | "upstreams" | "servers") => {
            ("upstream", "upstream: { urls: [\"http://127.0.0.1:8080\"] }")
        }
        ("an app", "headers") => ("identity", "identity: { headers: [remote-user] }"),
        ("an app", "policy" | "policies" | "access") => ("rules", "rules: [...]"),
        ("`upstream`", "address" | "addr" | "host" | "server" | "servers" | "backend" | "target") => {
            ("urls", "urls: [\"http://127.0.0.1:8080\"]")
        }
        ("`upstream`", "insecure" | "insecure_skip_verify" | "tls_skip_verify" | "verify") => {
            ("ca", "ca: FILE, the authority of the app's certificate (or `dangerously_insecure: true`)")
        }
        ("`smtp`", "server" | "address" | "url" | "relay" | "hostname") => ("host", "host: smtp.corp.example"),
        ("`smtp`", "sender" | "from_address" | "mail_from") => ("from", "from: no-reply@corp.example"),
        ("`smtp`", "user" | "login") => ("username", "username: NAME"),
        ("`smtp`", "pass" | "secret" | "api_key" | "apikey") => ("password", "password: { file: /run/secrets/smtp }"),
        ("`smtp`", "starttls" | "ssl" | "encryption" | "secure") => ("tls", "tls: starttls (or implicit)"),
        ("`sessions`", "timeout" | "inactivity" | "idle_timeout") => ("idle", "idle: 15m"),
        ("`sessions`", "ttl" | "lifetime" | "max_age" | "expiration" | "expires" | "duration") => ("max", "max: 10h"),
        ("a rule", "paths" | "url" | "urls" | "resources") => ("match", "match: { path: /admin/** }"),
        ("a rule", "level" | "policy" | "factors") => ("require", "require: mfa"),
        ("a rule", "groups" | "group" | "users" | "user" | "subject") => ("allow", "allow: [group:NAME, user:NAME]"),
        ("`match`", "paths" | "url" | "urls" | "resources" | "prefix") => ("path", "path: /admin/**"),
        ("`match`", "networks" | "network" | "ip" | "ips" | "client") => ("from", "from: [office]"),
        ("`match`", "time" | "times" | "when") => ("hours", "hours: \"Mon-Fri 07:00-19:00 Europe/Paris\""),
        ("`match`", "groups" | "group" | "users" | "user" | "subject") => ("who", "who: [group:NAME]"),
        _ => return None,
    };
    Some(meant)
}

/// The keys of `map` in whose values a key of this name stands, and how to write it there.
pub(super) fn further_in(map: &'static MapShape, key: &str) -> Vec<(&'static str, String)> {
    let holds = |shape: &Shape| inner(shape).into_iter().find(|m| m.keys.iter().any(|k| k.name == key));
    map.keys
        .iter()
        .filter_map(|k| {
            let what = holds(&k.shape)?.what;
            let write = match k.shape {
                Shape::List(_) | Shape::Names(..) => {
                    format!("it is a key of {what}: indent it further, below `{}`", k.name)
                }
                _ => format!("it stands inside `{0}`: {0}: {{ {key}: ... }}", k.name),
            };
            Some((k.name, write))
        })
        .collect()
}

fn inner(shape: &Shape) -> Vec<&'static MapShape> {
    match shape {
        Shape::Map(map) => vec![map],
        Shape::List(shape) | Shape::OneOrMany(shape) | Shape::Names(_, shape) => inner(shape),
        Shape::Either(shapes) => shapes.iter().flat_map(inner).collect(),
        Shape::Leaf(_) | Shape::Secret(_) => Vec::new(),
    }
}

/// What to write where a value of another kind stands.
pub(super) fn other_kind(shape: &Shape, value: &Value) -> Option<String> {
    match (shape, value) {
        (Shape::List(Shape::Leaf(Leaf { takes: Takes::Text(check), .. })), Value::Text(text)) => {
            // Whoever names one mostly forgets the brackets, and before a group what it is.
            let entry = |text: &str| {
                let entries = [text.to_owned(), format!("group:{text}")];
                entries.into_iter().find(|entry| check(entry).is_ok())
            };
            let list: Option<Vec<String>> = text.split(',').map(|one| entry(one.trim())).collect();
            list.map(|list| format!("write a list: [{}]", list.join(", ")))
        }
        // `form: [action]`: the names alone.
        (Shape::Names(..), Value::List(items)) => {
            let names: Option<Vec<&str>> = items.iter().map(Node::text).collect();
            let list = names.filter(|names| !names.is_empty())?.join(": [VALUE], ");
            Some(format!("write each name with its values: {{ {list}: [VALUE] }}"))
        }
        (Shape::Names(..), Value::Text(name)) => Some(format!("write a name with its values: {{ {name}: [VALUE] }}")),
        (Shape::List(Shape::Map(_)), Value::Map(_)) => Some("each item of the list begins with `- `".to_owned()),
        (Shape::Map(map), Value::Text(text)) => {
            // The first key of a map is what it is about.
            let first = map.keys.first()?;
            let (leaf, many) = match &first.shape {
                Shape::Leaf(leaf) => (leaf, false),
                Shape::OneOrMany(Shape::Leaf(leaf)) => (leaf, true),
                Shape::OneOrMany(Shape::Either(shapes)) => match shapes.first() {
                    Some(Shape::Leaf(leaf)) => (leaf, true),
                    _ => return None,
                },
                _ => return None,
            };
            let fits = match &leaf.takes {
                Takes::Text(check) => check(text).is_ok(),
                Takes::OneOf(words) => words.contains(&text.as_str()),
                Takes::Bool | Takes::Int { .. } => false,
            };
            let value = if many { format!("[{text:?}]") } else { format!("{text:?}") };
            fits.then(|| format!("write a map: {{ {}: {value} }}", first.name))
        }
        (Shape::Map(map), Value::Bool(_)) => {
            Some(format!("write a map: {{ {}: ... }}", map.keys.first().map(|k| k.name)?))
        }
        _ => None,
    }
}

/// The same for a single value.
pub(super) fn other_leaf(leaf: &Leaf, value: &Value) -> Option<String> {
    match (&leaf.takes, value) {
        // `addr: [::]`.
        (Takes::Text(_), Value::List(_)) if leaf.what.contains("\"[") => {
            Some("a value that begins with `[` stands in quotes".to_owned())
        }
        (Takes::Text(check), Value::List(items)) => match items.as_slice() {
            [Node { value: Value::Text(text), .. }] if check(text).is_ok() => {
                Some(format!("write it without brackets: {text}"))
            }
            _ => Some("one value stands here, not a list".to_owned()),
        },
        // `[group: staff]`.
        (Takes::Text(check), Value::Map(entries)) => match entries.as_slice() {
            [entry] => {
                let whole = format!("{}:{}", entry.key, entry.node.text()?);
                check(&whole).is_ok().then(|| format!("write it without the blank after the colon: {whole}"))
            }
            _ => None,
        },
        (Takes::Int { least, most }, Value::Text(text)) => {
            let number: i64 = text.parse().ok()?;
            (*least..=*most).contains(&number).then(|| format!("write it without quotes: {number}"))
        }
        (Takes::Text(check), Value::Int(n)) => {
            let fits = |unit: &str| check(&format!("{n}{unit}")).is_ok();
            match () {
                () if fits("") => Some(format!("write it in quotes: \"{n}\"")),
                () if fits("s") => Some(format!("the unit is missing: {n}s, {n}m or {n}h")),
                () if fits("KiB") => Some(format!("the unit is missing, as in {n}KiB")),
                () => None,
            }
        }
        (Takes::Text(check), Value::Bool(word)) => {
            check(&word.to_string()).is_ok().then(|| format!("write it in quotes: \"{word}\""))
        }
        (Takes::Bool, Value::Text(text)) => match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "true" => Some("write true, without quotes".to_owned()),
            "no" | "off" | "false" => Some("write false, without quotes".to_owned()),
            _ => None,
        },
        _ => None,
    }
}

/// Quotes that a word processor made: YAML takes them for letters.
pub(super) fn curly_quotes(value: &Value) -> Option<String> {
    let curly = |text: &str| text.contains(['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}']);
    matches!(value, Value::Text(text) if curly(text))
        .then(|| "quotes of a word processor stand here: type the plain ones, \" or '".to_owned())
}
