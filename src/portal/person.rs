//! Is it still the same person? Asked by the script for pages that stay open (`keepalive.js`): what was
//! typed into one of them is sent again after a sign-in, and must not be when somebody else signed in. A
//! shared machine is where sessions end with pages open.
//!
//! The answer tells people apart at this one host and says nothing else of them; the app knows more. It is
//! no activity: a page left open must not keep a session (S-SESS-4).

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response};

use super::Answer;
use super::ask::{Ask, Who};
use super::error::Refusal;
use crate::crypto::Purpose;

pub(super) async fn tell(ask: &Ask<'_>) -> Result<Answer, Refusal> {
    let person = match ask.who_without_activity().await? {
        Who::Nobody => None,
        Who::Known { live, .. } => {
            let mut data = b"person\0".to_vec();
            data.extend_from_slice(live.authn.user.as_bytes());
            data.extend_from_slice(ask.request.host.as_str().as_bytes());
            Some(BASE64URL_NOPAD.encode(&ask.keys().mac(Purpose::FormToken, &data)))
        }
    };
    let text = serde_json::json!({ "person": person }).to_string();
    let mut answer = Response::new(Bytes::from(text));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(answer)
}
