//! The small cookies of our ceremonies: read strictly, written in one form only. The session cookie
//! has its own room.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

/// The value of our cookie `name`. `None` when it is absent, or there more than once under any
/// spelling: of two, none is picked (S-COOK-2).
pub(super) fn read<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    crate::session::small(headers, name)
}

/// A `Set-Cookie` for one of our names: host-only, not for scripts, kept until the browser closes
/// where no life is given. The values are our own base64url.
pub(super) fn set(name: &str, value: &str, life: Option<Duration>) -> Option<HeaderValue> {
    let age = life.map(|life| format!("; Max-Age={}", life.as_secs())).unwrap_or_default();
    HeaderValue::from_str(&format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax{age}")).ok()
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;

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
