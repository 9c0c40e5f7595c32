//! The small cookies of our ceremonies (a sign-in under way, a hand-over, a kept form, a device): read strictly,
//! written in one form only. The session cookie has a room of its own.

use std::time::Duration;

use data_encoding::HEXLOWER;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use crate::crypto::sha256;

/// The value of our cookie `name`. `None` when it is absent, or there more than once under any
/// spelling: of two, none is picked (S-COOK-2). Read as bytes: what another cookie of the browser holds must hide
/// none of ours.
#[must_use]
pub fn read<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut found = None;
    for pair in headers.get_all(COOKIE).iter().flat_map(|v| v.as_bytes().split(|b| *b == b';')) {
        let Some((key, value)) = pair.iter().position(|b| *b == b'=').and_then(|at| pair.split_at_checked(at)) else {
            continue;
        };
        if key.trim_ascii().eq_ignore_ascii_case(name.as_bytes()) {
            if found.is_some() {
                return None;
            }
            found = Some((key.trim_ascii(), value.strip_prefix(b"=").unwrap_or_default().trim_ascii()));
        }
    }
    // A browser enforces the prefix rules only for the exact spelling.
    let (_, value) = found.filter(|(key, _)| *key == name.as_bytes())?;
    std::str::from_utf8(value).ok()
}

/// Of a browser that shows more, the first count.
const MOST: usize = 16;

/// What browsers were given by [`set_one_of`] under this name, where it is one of our secrets; without a tag too.
#[must_use]
pub fn read_secrets<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let mut found: Vec<(&[u8], &'a str)> = Vec::new();
    let mut twice: Vec<&[u8]> = Vec::new();
    for pair in headers.get_all(COOKIE).iter().flat_map(|v| v.as_bytes().split(|b| *b == b';')) {
        let Some((key, value)) = pair.iter().position(|b| *b == b'=').and_then(|at| pair.split_at_checked(at)) else {
            continue;
        };
        let (key, value) = (key.trim_ascii(), value.strip_prefix(b"=").unwrap_or_default().trim_ascii());
        let Some((start, tag)) = key.split_at_checked(name.len()) else { continue };
        if !start.eq_ignore_ascii_case(name.as_bytes()) {
            continue;
        }
        if found.iter().any(|(other, _)| other.eq_ignore_ascii_case(key)) {
            twice.push(key);
        }
        let Ok(value) = std::str::from_utf8(value) else { continue };
        // A browser enforces the prefix rules only for the exact spelling.
        let fits = start == name.as_bytes() && (tag.is_empty() || tag == tag_of(value).as_bytes());
        if fits && is_secret(value) && found.len() < MOST {
            found.push((key, value));
        }
    }
    found.retain(|(key, _)| !twice.iter().any(|other| other.eq_ignore_ascii_case(key)));
    found.into_iter().map(|(_, value)| value).collect()
}

/// A `Set-Cookie` as [`set`] makes it, under a name that belongs to its secret: of two answers at once, to two tabs
/// of one browser, neither replaces what the other gave.
#[must_use]
pub fn set_one_of(name: &str, secret: &str, life: Option<Duration>) -> Option<HeaderValue> {
    set(&format!("{name}{}", tag_of(secret)), secret, life)
}

fn tag_of(secret: &str) -> String {
    let [a, b, c, d, ..] = sha256(format!("cookie name\0{secret}").as_bytes());
    format!("-{}", HEXLOWER.encode(&[a, b, c, d]))
}

/// 32 bytes in base64url.
fn is_secret(value: &str) -> bool {
    value.len() == 43 && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// A `Set-Cookie` for one of our names: host-only, not for scripts, kept until the browser closes
/// where no life is given. The values are our own base64url. Lax, not Strict: browsers come from the portal to an
/// app's host, which may be another site.
#[must_use]
pub fn set(name: &str, value: &str, life: Option<Duration>) -> Option<HeaderValue> {
    let age = life.map(|life| format!("; Max-Age={}", life.as_secs())).unwrap_or_default();
    let text = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax{age}");
    let mut set = HeaderValue::try_from(text).ok()?;
    set.set_sensitive(true);
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_from(lines: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_bytes(line.as_bytes()).expect("a value"));
        }
        read(&headers, "__Host-Http-stepgate-flow").map(str::to_owned)
    }

    #[test]
    fn s_cook_2_of_two_cookies_none_is_picked() {
        assert_eq!(read_from(&["a=b; __Host-Http-stepgate-flow=x"]).as_deref(), Some("x"));
        assert_eq!(read_from(&["__Host-Http-stepgate-flow=x; __Host-Http-stepgate-flow=y"]), None);
        assert_eq!(read_from(&["__Host-Http-stepgate-flow=x", "__HOST-http-stepgate-flow=y"]), None);
        assert_eq!(read_from(&["__host-http-stepgate-flow=y"]), None, "no browser guards that spelling");
        assert_eq!(read_from(&["a=b"]), None);
        let secrets = ["a".repeat(43), "b".repeat(43)];
        let [one, other] = secrets.each_ref().map(|secret| {
            let set = set_one_of("__Host-Http-stepgate-flow", secret, None).expect("a value");
            set.to_str().expect("text").split(';').next().expect("a pair").to_owned()
        });
        let all = |text: String| {
            let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(text).expect("a value"))]);
            read_secrets(&headers, "__Host-Http-stepgate-flow").into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(all(format!("{one}; a=b; {other}")), secrets, "each has a name of its own");
        assert_eq!(all(format!("{one}; {other}; {one}")), secrets[1..]);
        assert_eq!(all(format!("{}; {other}", one.to_uppercase())), secrets[1..]);
        assert!(all(one.replace("aaa", "ccc")).is_empty(), "the name of another secret");
        assert_eq!(
            read_from(&["name=Zoë; __Host-Http-stepgate-flow=x"]).as_deref(),
            Some("x"),
            "nobody stays locked out"
        );
    }
}
