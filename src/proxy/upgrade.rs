//! When may a connection stop being HTTP, and how does it end?
//!
//! Only as a WebSocket: `GET`, version 13, opened by a page of an allowed origin, and only once
//! the app agreed with a matching 101. Anything else that asks for an upgrade is carried as the
//! plain request that it also is (S-FRAME-11, S-WS-1).

use aws_lc_rs::digest;
use data_encoding::BASE64;
use http::header::{
    CONNECTION, HeaderName, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, request, response};

use super::error::ProxyError;
use crate::domain::host::{HostName, Scheme};
use crate::domain::route::Route;

/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A handshake that may be carried: what its 101 must answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handshake {
    accept: String,
}

/// Whether a request is a WebSocket handshake, and a proper one. `None`: carry it as plain HTTP,
/// its `Upgrade` removed.
pub fn handshake(parts: &request::Parts) -> Result<Option<Handshake>, ProxyError> {
    let headers = &parts.headers;
    let asks = parts.version == Version::HTTP_11
        && parts.method == Method::GET
        && one(headers, &UPGRADE).is_some_and(|v| v.eq_ignore_ascii_case(b"websocket"))
        && names_upgrade(headers);
    if !asks {
        return Ok(None);
    }
    if one(headers, &SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Err(ProxyError::WebSocketVersion);
    }
    // Such a field would be taken out on the way, and the app could not answer what is left.
    if names(headers, |name| name.get(..14).is_some_and(|start| start.eq_ignore_ascii_case(b"sec-websocket-"))) {
        return Err(ProxyError::WebSocketHandshake);
    }
    let key = one(headers, &SEC_WEBSOCKET_KEY).ok_or(ProxyError::WebSocketHandshake)?;
    match BASE64.decode(key) {
        Ok(nonce) if nonce.len() == 16 => {}
        Ok(_) | Err(_) => return Err(ProxyError::WebSocketHandshake),
    }
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(GUID);
    Ok(Some(Handshake { accept: BASE64.encode(hash.finish().as_ref()) }))
}

/// A page of another origin must not open a socket with this person's cookie (CSWSH). Browsers
/// always send `Origin`; absent it is taken only from a client that shows no session.
pub fn check_origin(
    headers: &HeaderMap,
    scheme: Scheme,
    host: &HostName,
    route: &Route,
    has_session_cookie: bool,
) -> Result<(), ProxyError> {
    if !headers.contains_key(ORIGIN) {
        return if has_session_cookie { Err(ProxyError::Origin) } else { Ok(()) };
    }
    // Compared as serialised (RFC 6454 section 6.1): browsers write it in one way only, and
    // whatever is written in another way did not come from one.
    let origin = one(headers, &ORIGIN).ok_or(ProxyError::Origin)?;
    let own = format!("{}://{host}", scheme.as_str());
    let listed = || route.websocket_origins.iter().any(|allowed| allowed.as_bytes() == origin);
    if origin == own.as_bytes() || listed() { Ok(()) } else { Err(ProxyError::Origin) }
}

/// The fields of the upstream handshake that hop-by-hop removal took.
pub fn ask(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

impl Handshake {
    /// Whether the app's 101 answers this handshake; a tunnel opens on nothing less.
    pub fn check(&self, parts: &response::Parts) -> Result<(), ProxyError> {
        let headers = &parts.headers;
        let fits = parts.status == StatusCode::SWITCHING_PROTOCOLS
            && one(headers, &UPGRADE).is_some_and(|v| v.eq_ignore_ascii_case(b"websocket"))
            && names_upgrade(headers)
            && one(headers, &SEC_WEBSOCKET_ACCEPT) == Some(self.accept.as_bytes());
        if fits { Ok(()) } else { Err(ProxyError::UpstreamUpgrade) }
    }
}

fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then(|| first.as_bytes().trim_ascii())
}

fn names_upgrade(headers: &HeaderMap) -> bool {
    names(headers, |name| name.eq_ignore_ascii_case(b"upgrade"))
}

/// Whether `Connection` names such a field.
fn names(headers: &HeaderMap, such: impl Fn(&[u8]) -> bool) -> bool {
    let named = headers.get_all(CONNECTION).iter().flat_map(|v| v.as_bytes().split(|b| *b == b','));
    named.map(<[u8]>::trim_ascii).any(such)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(fields: &[(&'static str, &'static str)]) -> request::Parts {
        let mut request = Request::new(());
        for (name, value) in fields {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        request.into_parts().0
    }

    const GOOD: [(&str, &str); 4] = [
        ("upgrade", "websocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn s_frame_11_the_101_must_answer_this_very_handshake() {
        let handshake = handshake(&parts(&GOOD)).unwrap().expect("a handshake");
        let answer = |status: u16, accept: &'static str| {
            let mut response = http::Response::new(());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            ask(response.headers_mut());
            response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static(accept));
            handshake.check(&response.into_parts().0).is_ok()
        };
        // The example of RFC 6455 section 1.3.
        assert!(answer(101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(!answer(101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOO="));
        assert!(!answer(200, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    }

    #[test]
    fn s_frame_11_everything_else_is_plain_http_or_refused() {
        for upgrade in ["h2c", "websocket, h2c", "h2c, websocket"] {
            let mut fields = GOOD;
            fields[0].1 = upgrade;
            assert!(handshake(&parts(&fields)).unwrap().is_none(), "{upgrade}");
        }
        let mut post = parts(&GOOD);
        post.method = Method::POST;
        assert!(handshake(&post).unwrap().is_none());
        for (at, value) in [(2, "12"), (2, "13, 8"), (3, "short"), (3, "dGhlIHNhbXBsZSBub25jZQ")] {
            let mut fields = GOOD;
            fields[at].1 = value;
            assert!(handshake(&parts(&fields)).is_err(), "{value}");
        }
    }
}
