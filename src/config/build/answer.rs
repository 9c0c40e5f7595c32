//! What the gate says in place of the app: the keys `redirect` and `respond` of a rule.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;

use super::{Context, below};
use crate::config::yaml::{Mark, Node, Value};
use crate::domain::host::{HostName, Scheme};
use crate::domain::path::{CanonicalPath, PathForms};
use crate::domain::policy::matcher::Matcher;
use crate::domain::policy::{Answer, Redirect, Respond, Rule};

/// Answers live in memory: a gate is no file server.
const MAX_FILE: u64 = 1 << 20;

/// RFC 9110 section 15.4, without those that are no redirects.
const REDIRECTS: [i64; 5] = [301, 302, 303, 307, 308];
/// What a file is by its name. No other file is sent, whatever `type` says: keys, databases and
/// policy files may lie in the same directory.
const TYPES: [(&str, &str); 18] = [
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("txt", "text/plain; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("xml", "application/xml"),
    ("webmanifest", "application/manifest+json"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("ico", "image/x-icon"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("pdf", "application/pdf"),
];

pub(super) fn answer(
    context: &mut Context<'_>,
    file: &Arc<str>,
    rule: &Node,
    label: &str,
    matcher: &Matcher,
) -> Option<Arc<Answer>> {
    let (redirect, respond) = (rule.get("redirect"), rule.get("respond"));
    if let (Some(_), Some(other)) = (redirect, respond) {
        let message = format!("{label} has `redirect` and `respond`: a request gets one answer");
        context.report.fault(file, other.at, message);
    }
    if let Some(node) = redirect {
        return self::redirect(context, file, node, label, matcher).map(|r| Arc::new(Answer::Redirect(r)));
    }
    self::respond(context, file, respond?).map(|r| Arc::new(Answer::Respond(r)))
}

fn redirect(
    context: &mut Context<'_>,
    file: &Arc<str>,
    node: &Node,
    label: &str,
    matcher: &Matcher,
) -> Option<Redirect> {
    let to = if matches!(node.value, Value::Map(_)) { node.get("to")? } else { node };
    if let Some(n) = node.get("status").filter(|n| n.int().is_some_and(|code| !REDIRECTS.contains(&code))) {
        context.report.fault(file, n.at, "a redirect has one of the statuses 301, 302, 303, 307 and 308");
    }
    let text = to.text().filter(|t| redirect_target(t).is_ok())?;
    let status = node.get("status").and_then(Node::int).and_then(|n| StatusCode::from_u16(u16::try_from(n).ok()?).ok());
    // 307 and not 302: a form that meets it is sent on whole.
    let status = status.unwrap_or(StatusCode::TEMPORARY_REDIRECT);
    let Some(root) = text.strip_suffix("**") else {
        return Some(Redirect::to(status, text));
    };
    let [pattern] = matcher.paths.as_slice() else {
        context.report.fault_with(
            file,
            to.at,
            format!("{label} keeps the rest of the path (`**`), but has no single path to take it from"),
            "give the rule one path that ends in /**, and each other path a rule of its own".to_owned(),
        );
        return None;
    };
    let Some(segments) = pattern.literal_root() else {
        context.report.fault_with(
            file,
            to.at,
            format!(
                "{label} keeps the rest of the path (`**`), but {:?} does not say where it begins",
                pattern.as_str()
            ),
            "write the path as a root without wildcards, then /**: /old/**".to_owned(),
        );
        return None;
    };
    Some(Redirect::under(status, root, segments))
}

/// Where a redirect may lead: a path of the app, or an http(s) address; `/**` at the end keeps the rest.
pub(in crate::config) fn redirect_target(text: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{text:?} is no target of a redirect: {why}"));
    let plain = match text.strip_suffix("/**") {
        Some(root) => format!("{root}/"),
        None => text.to_owned(),
    };
    if plain.contains('*') {
        return wrong("`**` stands alone at its end: /new/**");
    }
    if text.ends_with("/**") && text.contains(['?', '#']) {
        return wrong("what comes after `?` or `#` cannot stand before the rest of a path");
    }
    if !plain.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
        return wrong("write blanks and letters outside ASCII as escapes: %20");
    }
    if plain.starts_with("//") {
        return wrong("two slashes at its start name another host: write the scheme too");
    }
    if plain.starts_with('/') {
        let end = plain.find(['?', '#']).unwrap_or(plain.len());
        let (path, _) = plain.split_at(end);
        return match CanonicalPath::parse(path, PathForms { allow_path_params: true, ..PathForms::default() }) {
            Ok(_) => Ok(()),
            Err(why) => wrong(&why.to_string()),
        };
    }
    let Ok(uri) = plain.split('#').next().unwrap_or_default().parse::<http::Uri>() else {
        return wrong("write a path (/app/) or an address (https://new.example/)");
    };
    let scheme = match uri.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        _ => return wrong("write a path (/app/) or an address (https://new.example/)"),
    };
    let host = uri.authority().map(|a| a.as_str()).unwrap_or_default();
    HostName::parse(host.as_bytes(), scheme).map(drop).or_else(|error| wrong(&error.to_string()))
}

fn respond(context: &mut Context<'_>, file: &Arc<str>, node: &Node) -> Option<Respond> {
    let number = if matches!(node.value, Value::Map(_)) { node.get("status") } else { Some(node) };
    let code = number.and_then(Node::int).and_then(|n| u16::try_from(n).ok()).unwrap_or(200);
    let status = StatusCode::from_u16(code).ok()?;
    let at = number.map_or(node.at, |n| n.at);
    if status.is_redirection() {
        context.report.fault(file, at, format!("{code} leads elsewhere: use `redirect`"));
    }
    if status == StatusCode::UNAUTHORIZED {
        context.report.fault(file, at, "401 asks for a sign-in: use `require`");
    }
    let (body, source) = (node.get("body"), node.get("file"));
    if let (Some(_), Some(other)) = (body, source) {
        context.report.fault(file, other.at, "an answer has one body: `body` or `file`");
    }
    let given = node.get("type").and_then(Node::text);
    let (body, kind) = match (source, body.and_then(Node::text)) {
        (Some(source), _) => from_file(context, file, source)?,
        (None, Some(text)) => (Bytes::from(text.to_owned()), "text/plain; charset=utf-8"),
        // An empty page helps nobody: its status in words.
        (None, None) if status != StatusCode::OK && status != StatusCode::NO_CONTENT => (
            Bytes::from(format!("{}\n", status.canonical_reason().unwrap_or("No answer"))),
            "text/plain; charset=utf-8",
        ),
        (None, None) => (Bytes::new(), "text/plain; charset=utf-8"),
    };
    if status == StatusCode::NO_CONTENT && !body.is_empty() {
        context.report.fault(file, at, "204 has no body");
    }
    Some(Respond { status, content_type: given.unwrap_or(kind).into(), body })
}

/// A file beside the policy: whoever edits rules must not be able to publish the machine.
fn from_file(context: &mut Context<'_>, file: &Arc<str>, node: &Node) -> Option<(Bytes, &'static str)> {
    let text = node.text()?;
    let relative = Path::new(text);
    if !relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir)) {
        context.report.fault(file, node.at, format!("{text:?} leads out of the directory of the main file"));
        return None;
    }
    let ending = relative.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    let Some((_, kind)) = TYPES.iter().find(|(known, _)| *known == ending) else {
        let known: Vec<&str> = TYPES.iter().map(|(known, _)| *known).collect();
        context.report.fault_with(
            file,
            node.at,
            format!("{text:?} is no kind of file that is sent"),
            format!("kinds: {}", known.join(", ")),
        );
        return None;
    };
    let path = below(context.home, text);
    match read(&path, context) {
        Ok(body) => {
            context.answers.push(AnswerFile { file: Arc::clone(file), at: node.at, path, body: body.clone() });
            Some((body, kind))
        }
        Err(why) => {
            // In every purpose: it is part of the policy, and lies beside it.
            context.report.fault(file, node.at, why);
            None
        }
    }
}

/// A file that a rule answers with, as it was read.
pub(in crate::config) struct AnswerFile {
    pub(in crate::config) file: Arc<str>,
    pub(in crate::config) at: Mark,
    pub(in crate::config) path: PathBuf,
    pub(in crate::config) body: Bytes,
}

/// An answer that is also a secret of the files: whoever may edit rules must not be able to publish it.
pub(super) fn are_no_secrets(context: &mut Context<'_>) {
    let secrets: Vec<PathBuf> = context.secrets.iter().filter_map(|path| path.canonicalize().ok()).collect();
    for answer in &context.answers {
        if answer.path.canonicalize().is_ok_and(|path| secrets.contains(&path)) {
            let message = format!("the file {} holds a secret of the configuration", answer.path.display());
            context.report.fault(&answer.file, answer.at, message);
        }
    }
}

fn read(path: &Path, context: &Context<'_>) -> Result<Bytes, String> {
    let cannot = |e: std::io::Error| format!("the file {} cannot be read: {e}", path.display());
    let real = path.canonicalize().map_err(cannot)?;
    let within = |directory: &PathBuf| directory.canonicalize().is_ok_and(|d| real.starts_with(d));
    if !within(&context.home.to_owned()) {
        return Err(format!("{} is a link that leads out of the directory of the main file", path.display()));
    }
    // A policy that was applied has its own directory there, and this file came with it.
    if context.home == context.directory && within(&context.state) {
        return Err(format!("{} is in the state directory, which holds the keys", path.display()));
    }
    let about = std::fs::metadata(&real).map_err(cannot)?;
    if !about.is_file() {
        return Err(format!("{} is no file", path.display()));
    }
    let length = about.len();
    if length > MAX_FILE {
        return Err(format!("the file {} has {length} bytes: at most 1 MiB is sent", path.display()));
    }
    std::fs::read(&real).map(Bytes::from).map_err(cannot)
}

/// Whether every request of an app is answered or refused by a rule, so that it needs no upstream.
pub(super) fn answers_everything(app: &Node, rules: &[Rule]) -> bool {
    let everything = Matcher::default();
    let nodes = app.get("rules").map(Node::items).unwrap_or_default();
    let mut enforced = nodes.iter().filter(|node| !node.get("shadow").and_then(Node::bool).unwrap_or(false));
    let answers = |node: &Node| ["redirect", "respond", "deny"].into_iter().any(|key| node.has(key));
    let last = rules.iter().position(|rule| rule.matcher.covers(&everything));
    last.is_some_and(|last| enforced.by_ref().take(last + 1).all(answers))
}

/// A media type as a `Content-Type` field has it.
pub(in crate::config) fn media_type(text: &str) -> Result<(), String> {
    let fine = text.is_ascii()
        && http::HeaderValue::from_str(text).is_ok()
        && text.split(';').next().is_some_and(|kind| kind.trim().split('/').filter(|p| !p.is_empty()).count() == 2);
    if fine { Ok(()) } else { Err(format!("{text:?} is no media type: write it like text/html; charset=utf-8")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_leads_to_a_path_or_an_address_and_nowhere_else() {
        for fine in ["/", "/app/", "/app/?a=b#c", "/new/**", "https://new.example/**", "http://h:81/x", "/a;v=1"] {
            assert_eq!(redirect_target(fine), Ok(()), "{fine}");
        }
        for wrong in [
            "",
            "app",
            "//evil.example/",
            "/\\evil.example/",
            "/a/*/b",
            "/new**",
            "/x?y/**",
            "ftp://h/",
            "https:///x",
            "https://u@h/",
            "javascript:alert(1)",
            "/a b",
            "/a/../b",
            "/ä",
        ] {
            assert!(redirect_target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_media_type_is_one() {
        for fine in ["text/html", "text/html; charset=utf-8"] {
            assert_eq!(media_type(fine), Ok(()));
        }
        for wrong in ["", "html", "text/", "text/html\r\nX: y", "ä/b"] {
            assert!(media_type(wrong).is_err(), "{wrong}");
        }
    }
}
