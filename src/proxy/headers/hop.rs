//! Which fields concern one connection only and are never passed on (RFC 9110 section 7.6.1)?

use http::header::CONNECTION;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Removes the fields of one hop, and those that `Connection` names, except names that no client
/// and no app may take out of a message that way (S-ID-3; CVE-2024-45410, CVE-2022-31813).
///
/// Runs before anything is injected, so an injected field cannot be named away.
pub fn remove(headers: &mut HeaderMap) {
    let mut gone: Vec<HeaderName> = Vec::new();
    for name in headers.keys() {
        if is_hop_by_hop(name.as_str()) {
            gone.push(name.clone());
        }
    }
    for value in headers.get_all(CONNECTION) {
        named(value, &mut gone);
    }
    for name in gone {
        headers.remove(&name);
    }
}

/// The fixed list of SECURITY.md 4.4; `name` in lower case.
#[must_use]
pub fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-authentication-info"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Names in a `Connection` field that are to go. A name that is no token names nothing.
pub fn named(value: &HeaderValue, gone: &mut Vec<HeaderName>) {
    for token in value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii) {
        // The three words that nearly every `Connection` consists of.
        if token.eq_ignore_ascii_case(b"keep-alive")
            || token.eq_ignore_ascii_case(b"close")
            || token.eq_ignore_ascii_case(b"upgrade")
        {
            continue;
        }
        if let Ok(name) = HeaderName::from_bytes(token)
            && !protected(name.as_str())
        {
            gone.push(name);
        }
    }
}

/// End-to-end by nature: taking one of these out changes what the message means. `Destination` and `Overwrite`
/// were judged: without its `Overwrite: F` a COPY deletes what stood there (RFC 4918 section 10.6).
fn protected(name: &str) -> bool {
    matches!(
        name,
        "host" | "authorization" | "cookie" | "origin" | "set-cookie" | "cache-control" | "destination" | "overwrite"
    ) || name.starts_with("content-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    fn left(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn the_fields_of_one_hop_go() {
        let mut headers = fields(&[
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authorization", "Basic x"),
            ("proxy-authentication-info", "x"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
            ("accept", "*/*"),
        ]);
        remove(&mut headers);
        assert_eq!(left(&headers), ["accept"]);
    }

    #[test]
    fn s_id_3_connection_names_what_goes_but_not_what_carries_meaning() {
        let mut headers = fields(&[
            ("connection", "close, X-Debug ,cookie, Host,content-type,, authorization, origin, not a token"),
            ("x-debug", "1"),
            ("cookie", "a=1"),
            ("host", "a"),
            ("content-type", "text/plain"),
            ("authorization", "Basic x"),
            ("origin", "https://a"),
        ]);
        headers.append("connection", HeaderValue::from_static("x-second-line"));
        headers.insert("x-second-line", HeaderValue::from_static("1"));
        remove(&mut headers);
        assert_eq!(left(&headers), ["authorization", "content-type", "cookie", "host", "origin"]);
    }
}
