//! The small cookies of our ceremonies (a sign-in under way, a hand-over, a kept form, a device): read strictly,
//! written in one form only. The session cookie has a room of its own.

use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

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

/// The same where the value is one of our secrets: 32 bytes in base64url.
#[must_use]
pub fn read_secret<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let fits = |v: &&str| v.len() == 43 && v.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    read(headers, name).filter(fits)
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
        assert_eq!(
            read_from(&["name=Zoë; __Host-Http-stepgate-flow=x"]).as_deref(),
            Some("x"),
            "nobody stays locked out"
        );
    }
}
