//! How does the app answer? Bodies, status lines, and the dump of what it was sent.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

const FORM_LIMIT: usize = 64 * 1024;

pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

pub(super) fn page(html: &str) -> Response<Body> {
    with_status(StatusCode::OK, html)
}

pub(super) fn with_status(status: StatusCode, html: &str) -> Response<Body> {
    typed(status, "text/html; charset=utf-8", html.to_owned())
}

pub(super) fn text(status: StatusCode, text: &str) -> Response<Body> {
    typed(status, "text/plain; charset=utf-8", text.to_owned())
}

pub(super) fn json(value: &Value) -> Response<Body> {
    typed(StatusCode::OK, "application/json", value.to_string())
}

pub(super) fn see_other(to: &'static str) -> Response<Body> {
    let mut response = text(StatusCode::SEE_OTHER, "");
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(to));
    response
}

fn typed(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::SERVER, HeaderValue::from_static("LegacyApp/2.3"));
    response
}

/// The request as it stood on the wire: header order within a name and repeats are kept.
pub(super) fn what_arrived(request: &Request<Incoming>) -> Value {
    let headers: Vec<Value> =
        request.headers().iter().map(|(name, value)| json!([name.as_str(), lossy(value)])).collect();
    json!({
        "method": request.method().as_str(),
        "target": request.uri().to_string(),
        "version": format!("{:?}", request.version()),
        "headers": headers,
    })
}

/// A URL-encoded form of at most 64 KiB.
pub(super) async fn form(request: Request<Incoming>) -> Result<Vec<(String, String)>, StatusCode> {
    let body = Limited::new(request.into_body(), FORM_LIMIT).collect().await;
    let bytes = body.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?.to_bytes();
    Ok(form_urlencoded::parse(&bytes).into_owned().collect())
}

/// Header values may be bytes that are no text; old apps show something all the same.
pub(super) fn lossy(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
