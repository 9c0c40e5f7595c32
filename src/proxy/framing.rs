//! Is the request one that can be carried at all, before anybody asks by whom it was sent?

use http::header::{EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, Method};
use http_body::Body;

use super::error::ProxyError;
use crate::domain::method;

/// Refuses what hyper accepts but two readers could take differently (S-FRAME-3, S-FRAME-6,
/// S-FRAME-7, S-FRAME-11).
pub fn check<B: Body>(method: &Method, headers: &HeaderMap, body: &B, get_body: bool) -> Result<(), ProxyError> {
    method::check(method).map_err(ProxyError::Method)?;
    coding(headers)?;
    if !expects_only_continue(headers) {
        return Err(ProxyError::Expect);
    }
    // A back end that ignores the body of a GET reads it as the next request (CL.0).
    if !get_body && matches!(*method, Method::GET | Method::HEAD) && !body.is_end_stream() {
        return Err(ProxyError::BodyOnGet);
    }
    Ok(())
}

/// One field whose whole value is `chunked`, or none. hyper takes `gzip, chunked`, `chunked,
/// chunked` and two lines, and a reader behind us may not.
fn coding(headers: &HeaderMap) -> Result<(), ProxyError> {
    let mut values = headers.get_all(TRANSFER_ENCODING).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(()),
        (Some(only), None) if only.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(()),
        (Some(_), _) => Err(ProxyError::Coding),
    }
}

fn expects_only_continue(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(EXPECT).iter();
    match (values.next(), values.next()) {
        (None, _) => true,
        (Some(only), None) => only.as_bytes().eq_ignore_ascii_case(b"100-continue"),
        (Some(_), Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderValue, Request};
    use http_body_util::Full;

    use super::*;
    use crate::domain::method::MethodError;

    fn checked(method: &str, fields: &[(&'static str, &'static str)], body: &'static str) -> Result<(), ProxyError> {
        let mut request = Request::new(());
        *request.method_mut() = method.parse().unwrap();
        for (name, value) in fields {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        check(request.method(), request.headers(), &Full::new(Bytes::from_static(body.as_bytes())), false)
    }

    #[test]
    fn s_frame_3_chunked_once_and_alone() {
        for good in ["chunked", "CHUNKED", " chunked "] {
            assert!(checked("POST", &[("transfer-encoding", good)], "x").is_ok(), "{good:?}");
        }
        for bad in [
            "xchunked",
            "chunked;a=b",
            "identity",
            "chunked, identity",
            "identity, chunked",
            "gzip, chunked",
            "chunked, chunked",
            ", chunked",
            "chunked,",
            "\"chunked\"",
            "",
        ] {
            let refused = checked("POST", &[("transfer-encoding", bad)], "x");
            assert!(matches!(refused, Err(ProxyError::Coding)), "{bad:?}");
        }
        let two = [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
        assert!(matches!(checked("POST", &two, "x"), Err(ProxyError::Coding)));
    }

    #[test]
    fn s_frame_6_a_get_carries_no_body() {
        assert!(matches!(checked("GET", &[], "GET /canary"), Err(ProxyError::BodyOnGet)));
        assert!(matches!(checked("HEAD", &[], "x"), Err(ProxyError::BodyOnGet)));
        assert!(checked("GET", &[], "").is_ok());
        assert!(checked("DELETE", &[], "x").is_ok());
    }

    #[test]
    fn s_frame_7_only_100_continue_may_be_expected() {
        assert!(checked("POST", &[("expect", "100-Continue")], "x").is_ok());
        for bad in ["100-continue, x", "x", ""] {
            assert!(matches!(checked("POST", &[("expect", bad)], "x"), Err(ProxyError::Expect)), "{bad:?}");
        }
    }

    #[test]
    fn s_frame_11_connect_and_trace_are_not_carried_in_any_letters() {
        for method in ["CONNECT", "TRACE", "connect", "Trace"] {
            assert!(matches!(checked(method, &[], ""), Err(ProxyError::Method(MethodError::NotCarried))), "{method}");
        }
        for method in ["get", "Head", "pOST", "put", "delete", "Options"] {
            let refused = checked(method, &[], "");
            assert!(matches!(refused, Err(ProxyError::Method(MethodError::NotInCapitals))), "{method}");
        }
        for method in ["patch", "Patch", "propfind", "OPTIONS", "M-SEARCH"] {
            assert!(checked(method, &[], "").is_ok(), "{method}");
        }
    }
}
