//! Which fields may stand behind an answer's body?
//!
//! Trailers pass for gRPC alone, whose status is one (S-FRAME-5). A field that means something to a
//! reader of the head means nothing good there (RFC 9110 section 6.5.1), and none of the names that
//! the gate guards may come in by the back door.

use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};

use super::{hop, strip};
use crate::domain::route::Identity;

/// `application/grpc`, with a format or parameters or without.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE).map(|v| v.as_bytes()) else { return false };
    let name = b"application/grpc";
    kind.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
        && matches!(kind.get(name.len()), None | Some(b'+' | b';' | b' '))
}

/// Removes what must not stand in the trailers of an answer.
pub fn clean(trailers: &mut HeaderMap) {
    strip::client(trailers, &Identity::default());
    let gone: Vec<HeaderName> = trailers.keys().filter(|name| !passes(name)).cloned().collect();
    for name in gone {
        trailers.remove(&name);
    }
}

fn passes(name: &HeaderName) -> bool {
    let text = name.as_str();
    let guarded = text == AUTHORIZATION.as_str()
        || text.starts_with("content-")
        || text.starts_with("x-accel-")
        || text.starts_with("access-control-")
        || matches!(
            text,
            "age"
                | "alt-svc"
                | "cache-control"
                | "clear-site-data"
                | "cookie"
                | "date"
                | "expect"
                | "expires"
                | "host"
                | "location"
                | "refresh"
                | "retry-after"
                | "set-cookie"
                | "strict-transport-security"
                | "vary"
                | "www-authenticate"
                | "x-sendfile"
        );
    !guarded && !hop::is_hop_by_hop(text)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn s_frame_5_the_status_of_a_call_passes_and_what_the_gate_guards_does_not() {
        let mut trailers = HeaderMap::new();
        for name in [
            "grpc-status",
            "grpc-message",
            "grpc-status-details-bin",
            "x-request-cost",
            "remote-user",
            "remote-groups",
            "x-forwarded-for",
            "x-stepgate-assertion",
            "set-cookie",
            "connection",
            "transfer-encoding",
            "content-length",
            "location",
            "www-authenticate",
            "odd_name",
        ] {
            trailers.insert(HeaderName::from_static(name), HeaderValue::from_static("0"));
        }
        clean(&mut trailers);
        let mut left: Vec<&str> = trailers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["grpc-message", "grpc-status", "grpc-status-details-bin", "x-request-cost"]);
    }

    #[test]
    fn a_type_that_only_begins_alike_is_no_grpc() {
        let is = |kind: &'static str| is_grpc(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]));
        assert!(["application/grpc", "application/grpc+proto", "Application/gRPC; x=y"].into_iter().all(is));
        assert!(!["application/grpc-web", "application/grpcx", "text/plain", ""].into_iter().any(is));
        assert!(!is_grpc(&HeaderMap::new()));
    }
}
