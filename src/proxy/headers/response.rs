//! What of an app's answer does not reach the browser, and what is made safe on the way?
//!
//! Status and body are never touched; only fields that work on the connection, around the gate
//! or on the gate's own cookies (S-UP-4, S-UP-5, S-COOK-3).

use std::borrow::Cow;

use http::header::{
    ALT_SVC, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_LOCATION, LOCATION, REFRESH, SET_COOKIE,
    TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::hop;
use crate::domain::host::{HostName, Scheme};
use crate::domain::route::{Harden, Route};
use crate::domain::upstream::UpstreamUrl;
use crate::proxy::harden;

/// What cleaning an answer needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub route: &'a Route,
    /// The address that answered.
    pub upstream: &'a UpstreamUrl,
    pub scheme: Scheme,
    pub host: &'a HostName,
    /// Whether somebody's identity stood in the request, or the rule asked for a sign-in.
    pub personal: bool,
    /// HEAD and 304: `Content-Length` speaks of a body that is not here, and stays.
    pub length_only: bool,
}

/// The app's answer cannot be passed on as it is framed (S-FRAME-13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream answered with a transfer coding other than chunked")]
pub struct BadFraming;

/// Not among the names of `http`.
const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");

/// Cleans the fields of an answer; says how many `Set-Cookie` of ours were dropped.
pub fn clean(headers: &mut HeaderMap, seen: Seen<'_>) -> Result<u64, BadFraming> {
    check_coding(headers)?;
    let mut gone: Vec<HeaderName> = Vec::new();
    let (mut cookies, mut targets, mut length, mut clears) = (false, false, false, false);
    for name in headers.keys() {
        let text = name.as_str();
        if hop::is_hop_by_hop(text) || leaves(text, seen.personal) {
            gone.push(name.clone());
        } else if *name == CONTENT_LENGTH {
            // hyper frames anew from the body; a copy could only disagree.
            length = !seen.length_only || !one_length(headers);
        } else {
            cookies |= *name == SET_COOKIE;
            clears |= *name == CLEAR_SITE_DATA;
            targets |= *name == LOCATION || *name == CONTENT_LOCATION || *name == REFRESH;
        }
    }
    for value in headers.get_all(CONNECTION) {
        hop::named(value, &mut gone);
    }
    for name in gone {
        headers.remove(&name);
    }
    if length {
        headers.remove(CONTENT_LENGTH);
    }
    if targets {
        own_origin(headers, seen);
    }
    if clears {
        spare_cookies(headers);
    }
    if seen.personal {
        keep_private(headers);
    }
    if seen.route.harden == Harden::Enforce {
        harden::answer(headers, seen.scheme, seen.personal);
    }
    Ok(if cookies { clean_cookies(headers, seen) } else { 0 })
}

/// Fields that would lead around the gate or speak to a web server in front of it.
fn leaves(name: &str, personal: bool) -> bool {
    name == ALT_SVC.as_str()
        || name == "x-sendfile"
        || name.starts_with("x-accel-")
        // Targeted cache fields (RFC 9213) would overrule `Cache-Control: private` at a CDN.
        || (personal && (name.ends_with("cdn-cache-control") || name == "surrogate-control"))
}

/// A coding that we do not undo would reach the client unlabelled.
fn check_coding(headers: &HeaderMap) -> Result<(), BadFraming> {
    let mut values = headers.get_all(TRANSFER_ENCODING).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(()),
        (Some(one), None) if one.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(BadFraming),
    }
}

fn one_length(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let digits = |v: &HeaderValue| !v.is_empty() && v.as_bytes().iter().all(u8::is_ascii_digit);
    values.next().is_some_and(digits) && values.next().is_none()
}

/// `Clear-Site-Data` without the cookies: browsers clear those of the whole registered domain, the gate's on the
/// portal and on every other app among them, and an app would sign its people out everywhere. What else it clears
/// is the app's own. `"*"` is all of that; it may mean more some day, which the gate then knows no better.
fn spare_cookies(headers: &mut HeaderMap) {
    let all: Vec<HeaderValue> = headers.get_all(CLEAR_SITE_DATA).iter().cloned().collect();
    let mut kept: Vec<&[u8]> = Vec::new();
    for item in all.iter().flat_map(|value| value.as_bytes().split(|b| *b == b',')) {
        let item = item.trim_ascii();
        let word = item.strip_prefix(b"\"").unwrap_or(item);
        let word = word.strip_suffix(b"\"").unwrap_or(word).trim_ascii();
        let items: &[&[u8]] = match word {
            b"" => &[],
            word if word.eq_ignore_ascii_case(b"cookies") => &[],
            b"*" => &[b"\"cache\"", b"\"storage\"", b"\"executionContexts\""],
            _ => &[item],
        };
        for item in items {
            if !kept.contains(item) {
                kept.push(item);
            }
        }
    }
    headers.remove(CLEAR_SITE_DATA);
    if let (false, Ok(value)) = (kept.is_empty(), HeaderValue::from_bytes(&kept.join(&b", "[..]))) {
        headers.insert(CLEAR_SITE_DATA, value);
    }
}

/// `Location`, `Content-Location` and `Refresh`: the upstream's own origin becomes the public one, and
/// its prefix goes.
fn own_origin(headers: &mut HeaderMap, seen: Seen<'_>) {
    for name in [LOCATION, CONTENT_LOCATION] {
        if let Some(new) = headers.get(&name).and_then(|v| public_url(v.to_str().ok()?, seen)) {
            headers.insert(name, new);
        }
    }
    let refresh = headers.get(REFRESH).and_then(|value| {
        let text = value.to_str().ok()?;
        let at = text.to_ascii_lowercase().find("url=")? + 4;
        let (before, url) = text.split_at_checked(at)?;
        let quote = url.chars().next().filter(|c| matches!(c, '"' | '\''));
        let bare = quote.map_or(url, |q| url.trim_matches(q));
        let new = public_url(bare.trim(), seen)?;
        HeaderValue::from_str(&format!("{before}{}", new.to_str().ok()?)).ok()
    });
    if let Some(new) = refresh {
        headers.insert(REFRESH, new);
    }
}

/// The same URL at the public origin, when its origin is the app's: the configured upstream
/// address, or the public host under the scheme or port that the app believes in. `None` when nothing
/// is to change.
fn public_url(url: &str, seen: Seen<'_>) -> Option<HeaderValue> {
    let outside = |tail| match seen.route.upstream.without_prefix(tail)? {
        "" => Some(Cow::Borrowed("/")),
        rest if rest.starts_with('/') => Some(Cow::Borrowed(rest)),
        rest => Some(Cow::Owned(format!("/{rest}"))),
    };
    let has_prefix = !seen.route.upstream.path_prefix.is_empty();
    let at_origin = |tail: &str| HeaderValue::from_str(&format!("{}://{}{tail}", seen.scheme.as_str(), seen.host)).ok();
    if url.starts_with('/') && !url.starts_with("//") {
        // With its origin always: what is left of `/legacy//host`, and of all that browsers read like it
        // (`/legacy/\\host`, a tab between the slashes), would name a host.
        return at_origin(&outside(url).filter(|_| has_prefix)?);
    }
    let (scheme, rest) = match url.split_once("//") {
        Some(("", rest)) => (None, rest),
        Some((scheme, rest)) => (Some(scheme.strip_suffix(':')?), rest),
        None => return None,
    };
    let scheme = match scheme {
        None => seen.upstream.scheme,
        Some(s) if s.eq_ignore_ascii_case("http") => Scheme::Http,
        Some(s) if s.eq_ignore_ascii_case("https") => Scheme::Https,
        Some(_) => return None,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let host = HostName::parse(authority.as_bytes(), scheme).ok()?;
    let port = port_of(&host).unwrap_or(scheme.default_port());
    let upstream_name = seen.upstream.host.trim_matches(['[', ']']);
    let at_upstream = host.name().trim_matches(['[', ']']).eq_ignore_ascii_case(upstream_name)
        && port == seen.upstream.port
        && scheme == seen.upstream.scheme;
    let at_public = host.name() == seen.host.name()
        && (&host == seen.host || port == seen.upstream.port || port == scheme.default_port());
    let tail_outside = outside(tail).filter(|_| has_prefix);
    let stays = &host == seen.host && scheme == seen.scheme && tail_outside.is_none();
    if stays || !(at_upstream || at_public) {
        return None;
    }
    at_origin(tail_outside.as_deref().unwrap_or(tail))
}

fn port_of(host: &HostName) -> Option<u16> {
    host.as_str().strip_prefix(host.name())?.strip_prefix(':')?.parse().ok()
}

/// `Cache-Control: private` at least: no shared cache in front may keep a signed-in answer.
fn keep_private(headers: &mut HeaderMap) {
    // A value that cannot be read cannot be trusted to be private: it reads as empty.
    let parts = || {
        let each = headers.get_all(CACHE_CONTROL).iter().flat_map(|v| v.to_str().unwrap_or_default().split(','));
        each.map(str::trim).filter(|part| !part.is_empty())
    };
    let is = |part: &str, word: &str| part.eq_ignore_ascii_case(word);
    let closed = parts().any(|part| is(part, "private") || is(part, "no-store"));
    if closed && !parts().any(shared_directive) {
        return;
    }
    let mut kept = vec!["private"];
    kept.extend(parts().filter(|part| !shared_directive(part) && !is(part, "private")));
    let value = HeaderValue::from_str(&kept.join(", ")).unwrap_or(HeaderValue::from_static("private"));
    headers.insert(CACHE_CONTROL, value);
}

/// `public` and `s-maxage` speak to shared caches; the qualified `private="field"` leaves the
/// rest of the answer to them.
fn shared_directive(part: &str) -> bool {
    let name = part.split('=').next().unwrap_or_default().trim();
    name.eq_ignore_ascii_case("public")
        || name.eq_ignore_ascii_case("s-maxage")
        || (name.eq_ignore_ascii_case("private") && part.contains('='))
}

/// Drops `Set-Cookie` for names of ours, cuts a `Domain` that is wider than the app, and takes the app's
/// prefix off a `Path`.
fn clean_cookies(headers: &mut HeaderMap, seen: Seen<'_>) -> u64 {
    let fine = |v: &HeaderValue| !sets_ours(v.as_bytes()) && attributes(v.as_bytes(), seen).is_none();
    if headers.get_all(SET_COOKIE).iter().all(fine) {
        return 0;
    }
    let mut dropped = 0;
    let all: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().cloned().collect();
    headers.remove(SET_COOKIE);
    for value in all {
        if sets_ours(value.as_bytes()) {
            dropped += 1;
            continue;
        }
        let value = attributes(value.as_bytes(), seen).and_then(|v| HeaderValue::from_bytes(&v).ok()).unwrap_or(value);
        headers.append(SET_COOKIE, value);
    }
    dropped
}

/// Whether a browser that takes this `Set-Cookie` would send back what some reader takes for a
/// cookie of ours: its name, a nameless cookie's value (`=name=v`, or no `=` at all), or what
/// stands after a comma (`a=1,name=v`).
fn sets_ours(set_cookie: &[u8]) -> bool {
    crate::session::carries_ours(set_cookie.split(|b| *b == b';').next().unwrap_or_default())
}

/// The value without its `Domain` attributes when one of them reaches past the app's own hosts and is
/// not allowed, and with its `Path` as browsers see it; `None` when nothing is to change.
fn attributes(set_cookie: &[u8], seen: Seen<'_>) -> Option<Vec<u8>> {
    let mut parts = set_cookie.split(|b| *b == b';');
    let pair = parts.next().unwrap_or_default();
    let wide = parts.clone().filter_map(domain).any(|d| too_wide(&d, seen));
    if !wide && !parts.clone().any(|part| path_outside(part, seen).is_some()) {
        return None;
    }
    let mut out = pair.to_vec();
    for part in parts.filter(|part| !wide || domain(part).is_none()) {
        out.push(b';');
        match path_outside(part, seen) {
            Some(path) => out.extend_from_slice(format!(" Path={path}").as_bytes()),
            None => out.extend_from_slice(part),
        }
    }
    Some(out)
}

/// The host that a `Domain` attribute names, in lower case and without the dot before it.
fn domain(part: &[u8]) -> Option<String> {
    let (name, value) = split_attribute(part);
    name.eq_ignore_ascii_case(b"domain").then(|| {
        let text = String::from_utf8_lossy(value).trim().to_ascii_lowercase();
        text.trim_start_matches('.').to_owned()
    })
}

fn too_wide(domain: &str, seen: Seen<'_>) -> bool {
    !domain.is_empty()
        && !seen.route.hosts.iter().any(|h| h.name() == domain)
        && !seen.route.cookie_domains.iter().any(|d| d.trim_start_matches('.').eq_ignore_ascii_case(domain))
}

/// What a `Path` attribute under the app's prefix is for a browser, which never sees the prefix.
fn path_outside<'p>(part: &'p [u8], seen: Seen<'_>) -> Option<&'p str> {
    let (name, value) = split_attribute(part);
    if seen.route.upstream.path_prefix.is_empty() || !name.eq_ignore_ascii_case(b"path") {
        return None;
    }
    let rest = seen.route.upstream.without_prefix(std::str::from_utf8(value.trim_ascii()).ok()?)?;
    Some(if rest.is_empty() { "/" } else { rest })
}

fn split_attribute(part: &[u8]) -> (&[u8], &[u8]) {
    match part.iter().position(|b| *b == b'=') {
        Some(at) => {
            let (name, value) = part.split_at(at);
            (name.trim_ascii(), value.get(1..).unwrap_or_default())
        }
        None => (part.trim_ascii(), b""),
    }
}
