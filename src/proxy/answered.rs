//! How does the gate say what a rule answers in place of the app?

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response};

use super::gate::Inbound;
use super::harden;
use crate::domain::path::CanonicalPath;
use crate::domain::policy::{Answer, Permit};
use crate::domain::route::Harden;

/// The answer of the deciding rule to an allowed request.
pub(super) fn answer(
    inbound: &Inbound,
    answer: &Answer,
    permit: &Permit,
    path: &CanonicalPath,
    query: Option<&str>,
) -> Response<Bytes> {
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
    let personal = permit.level().is_some() || permit.subject().is_some();
    let kept = match answer {
        // S-UP-5: what needed a sign-in is not for a cache in front of us.
        _ if personal => "private, no-store",
        // Browsers keep a 301 or 308 for good, also where another rule decides once its person is known.
        Answer::Redirect(_) => "no-store",
        Answer::Respond(_) => "no-cache",
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(kept));
    if inbound.route.harden == Harden::Enforce {
        harden::answer(response.headers_mut(), inbound.scheme, personal);
    }
    response
}
