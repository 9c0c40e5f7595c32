//! How does one and the same request head look in HTTP/1.1 and in HTTP/2?
//!
//! It is built for HTTP/1.1 and shaped when its connection is known; a request that comes back unsent
//! may next meet a connection of the other kind.

use http::header::{CONNECTION, HOST, TE, TRANSFER_ENCODING};
use http::uri::{Authority, Parts, PathAndQuery, Scheme as UriScheme};
use http::{HeaderValue, Request, Uri, Version};

use super::headers::trailers;
use crate::domain::host::Scheme;

/// `Host` becomes `:authority` (RFC 9113 section 8.3.1), and nothing of the connection stays.
pub fn http2<B>(request: &mut Request<B>, scheme: Scheme) {
    let Some(host) = request.headers_mut().remove(HOST) else { return };
    let mut parts = Parts::default();
    parts.scheme = Some(match scheme {
        Scheme::Http => UriScheme::HTTP,
        Scheme::Https => UriScheme::HTTPS,
    });
    // A host of the configuration: always an authority.
    parts.authority = Authority::try_from(host.as_bytes()).ok();
    parts.path_and_query = request.uri().path_and_query().cloned().or(Some(PathAndQuery::from_static("/")));
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    *request.version_mut() = Version::HTTP_2;
    let is_grpc = trailers::is_grpc(request.headers());
    let headers = request.headers_mut();
    headers.remove(TRANSFER_ENCODING);
    headers.remove(CONNECTION);
    // The client's own went with the fields of its hop; servers of gRPC look for it.
    if is_grpc {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Undoes [`http2`].
pub fn http1<B>(request: &mut Request<B>) {
    let Some(authority) = request.uri().authority() else { return };
    if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
        request.headers_mut().insert(HOST, host);
    }
    request.headers_mut().remove(TE);
    *request.uri_mut() = request.uri().path_and_query().cloned().map(Uri::from).unwrap_or_default();
    *request.version_mut() = Version::HTTP_11;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_becomes_the_authority_and_back() {
        let mut request = Request::post("/svc/Call?x=%2f").header("host", "app.example:8443");
        request = request.header("content-type", "application/grpc").header("transfer-encoding", "chunked");
        let mut request = request.body(()).unwrap();
        http2(&mut request, Scheme::Https);
        assert_eq!(request.uri(), "https://app.example:8443/svc/Call?x=%2f");
        assert_eq!((request.version(), request.headers().len()), (Version::HTTP_2, 2));
        assert_eq!(request.headers()["te"], "trailers");
        http1(&mut request);
        assert_eq!((request.uri().to_string().as_str(), request.version()), ("/svc/Call?x=%2f", Version::HTTP_11));
        assert_eq!(request.headers()["host"], "app.example:8443");
        assert!(!request.headers().contains_key("te"));
    }

    #[test]
    fn a_page_asks_for_no_trailers() {
        let mut request = Request::get("/").header("host", "app.example").body(()).unwrap();
        http2(&mut request, Scheme::Http);
        assert!(request.headers().is_empty());
        assert_eq!(request.uri(), "http://app.example/");
    }
}
