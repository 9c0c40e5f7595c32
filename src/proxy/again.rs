//! What does it take to send a request once more, should its connection prove to be closed?

use http::{HeaderName, HeaderValue, Method, Request, Uri, Version, request};

use super::body::RequestBody;

/// What sending a request without a body once more takes. Few are sent again, and nearly all may have
/// to be: the fields are one text, for a copy of the map and its end cost four times as much.
pub(super) struct Again {
    method: Method,
    uri: Uri,
    version: Version,
    /// For each `name:`, whether it is sensitive, its value and a line feed, which no value holds.
    fields: Vec<u8>,
}

const SENSITIVE: u8 = b'!';

impl Again {
    pub(super) fn of(parts: &request::Parts) -> Self {
        let mut fields = Vec::with_capacity(1000);
        for (name, value) in &parts.headers {
            fields.extend_from_slice(name.as_str().as_bytes());
            fields.extend_from_slice(if value.is_sensitive() { b":!" } else { b":." });
            fields.extend_from_slice(value.as_bytes());
            fields.push(b'\n');
        }
        Self { method: parts.method.clone(), uri: parts.uri.clone(), version: parts.version, fields }
    }

    pub(super) fn request(&self) -> Request<RequestBody> {
        let mut request = Request::new(RequestBody::Empty);
        request.method_mut().clone_from(&self.method);
        request.uri_mut().clone_from(&self.uri);
        *request.version_mut() = self.version;
        for line in self.fields.split_inclusive(|b| *b == b'\n') {
            let at = line.iter().position(|b| *b == b':').unwrap_or(line.len());
            let (name, rest) = line.split_at(at);
            let Some(([_colon, mark], [value @ .., _end])) = rest.split_first_chunk::<2>() else { continue };
            if let (Ok(name), Ok(mut value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                value.set_sensitive(*mark == SENSITIVE);
                request.headers_mut().append(name, value);
            }
        }
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_frame_9_what_is_sent_again_is_what_was_sent() {
        let secret = {
            let mut value = HeaderValue::from_static("tok:en!");
            value.set_sensitive(true);
            value
        };
        let sent = Request::get("/a?b=c")
            .header("host", "a.test")
            .header("x-list", "one")
            .header("x-list", ":two: ")
            .header("x-empty", "")
            .header("x-odd", HeaderValue::from_bytes(b"!\xff\t.").unwrap())
            .header("authorization", secret)
            .body(())
            .unwrap();
        let (parts, ()) = sent.into_parts();
        let again = Again::of(&parts).request();
        assert_eq!((again.method(), again.uri(), again.version()), (&parts.method, &parts.uri, parts.version));
        assert_eq!(again.headers(), &parts.headers);
        let sensitive: Vec<_> = again.headers().iter().filter(|(_, v)| v.is_sensitive()).map(|(n, _)| n).collect();
        assert_eq!(sensitive, ["authorization"]);
    }
}
