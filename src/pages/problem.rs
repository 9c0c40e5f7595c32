//! What does a program get instead of a page? RFC 9457 problem documents.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::Value;

use super::response;
use crate::base::ids::RequestId;

/// Types are URNs: nothing has to stand behind them, and no domain has to stay ours.
pub const TYPE_PREFIX: &str = "urn:stepgate:problem:";

/// One refusal for a program. `detail` is for the person who runs it: never a secret, never
/// more than the page would say.
#[derive(Clone, Debug)]
pub struct Problem {
    pub status: StatusCode,
    /// The end of the type, for instance `step-up-required`.
    pub kind: &'static str,
    pub title: String,
    pub detail: String,
    pub reference: RequestId,
    /// Further members, such as `step_up_url` and `level`; the five own ones cannot be replaced.
    pub extra: Vec<(&'static str, Value)>,
}

impl Problem {
    #[must_use]
    pub fn into_response(self) -> Response<Bytes> {
        let mut members: serde_json::Map<String, Value> =
            self.extra.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        members.insert("type".to_owned(), format!("{TYPE_PREFIX}{}", self.kind).into());
        members.insert("title".to_owned(), self.title.into());
        members.insert("status".to_owned(), self.status.as_u16().into());
        members.insert("detail".to_owned(), self.detail.into());
        members.insert("reference".to_owned(), self.reference.to_string().into());
        let mut answer = Response::new(Bytes::from(Value::Object(members).to_string()));
        *answer.status_mut() = self.status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response::always(headers);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Timestamp;
    use crate::base::rng::SeededRng;

    #[test]
    fn a_problem_holds_its_five_members_and_the_extras() {
        let reference = RequestId::new(Timestamp::from_secs(1_800_000_000), &*SeededRng::new(1));
        let answer = Problem {
            status: StatusCode::UNAUTHORIZED,
            kind: "step-up-required",
            title: "Confirm it is you".to_owned(),
            detail: "This path needs the level `fresh`.".to_owned(),
            reference,
            extra: vec![("level", "fresh".into()), ("status", 200.into())],
        }
        .into_response();
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
        let body: Value = serde_json::from_slice(answer.body()).expect("json");
        assert_eq!(body["type"], "urn:stepgate:problem:step-up-required");
        assert_eq!((&body["status"], &body["level"]), (&401.into(), &"fresh".into()));
        assert_eq!(body["reference"], reference.to_string());
    }
}
