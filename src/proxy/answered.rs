//! How does the gate say what a rule answers in place of the app?

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response};

use crate::domain::path::CanonicalPath;
use crate::domain::policy::{Answer, Permit};

/// The answer of the deciding rule to an allowed request.
pub(super) fn answer(answer: &Answer, permit: &Permit, path: &CanonicalPath, query: Option<&str>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    match answer {
        Answer::Redirect(redirect) => {
            *response.status_mut() = redirect.status;
            // What hyper takes for a query holds bytes that a field value cannot (none today).
            if let Ok(location) = HeaderValue::try_from(redirect.location(path, query)) {
                response.headers_mut().insert(LOCATION, location);
            }
        }
        Answer::Respond(respond) => {
            *response.status_mut() = respond.status;
            response.body_mut().clone_from(&respond.body);
            let headers = response.headers_mut();
            if let Ok(kind) = HeaderValue::from_str(&respond.content_type) {
                headers.insert(CONTENT_TYPE, kind);
            }
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
    }
    // S-UP-5: what needed a sign-in is not for a cache in front of us.
    if permit.level().is_some() || permit.subject().is_some() {
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    }
    response
}
