//! What did the person send? Fields come out only after the form token was right.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::csrf::Binding;
use crate::base::secret::Secret;
use crate::crypto::KeyRing;

/// Fields of one form of ours.
const MAX_FIELDS: usize = 32;

/// A posted form whose token nobody has looked at yet.
pub(super) struct Posted(Vec<(String, Secret<String>)>);

/// A form that came from a page of ours.
pub(super) struct Form(Vec<(String, Secret<String>)>);

impl Posted {
    /// Reads `application/x-www-form-urlencoded`. `None` for any other type (a cross-site form can
    /// send text/plain or multipart without a preflight), too many fields, or a field twice.
    pub(super) fn parse(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return None;
        }
        let mut fields: Vec<(String, Secret<String>)> = Vec::new();
        for (name, value) in form_urlencoded::parse(body) {
            if fields.len() == MAX_FIELDS || fields.iter().any(|(seen, _)| *seen == name) {
                return None;
            }
            fields.push((name.into_owned(), Secret::new(value.into_owned())));
        }
        Some(Self(fields))
    }

    /// A field of a form that nobody vouches for.
    pub(super) fn unverified(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.expose().clone())
    }

    /// The form, if its token holds for any of `bindings`.
    pub(super) fn verified(self, bindings: &[Binding<'_>], keys: &KeyRing) -> Option<Form> {
        let token = self.0.iter().find(|(name, _)| name == "csrf").map(|(_, value)| value)?;
        let fine = bindings.iter().any(|binding| binding.accepts(token.expose(), keys));
        fine.then_some(Form(self.0))
    }
}

impl Form {
    /// A field's text; empty when it is absent.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value.expose().as_str())
    }

    /// A field that is a secret.
    pub(super) fn secret(&self, name: &str) -> Secret<String> {
        Secret::new(self.text(name).to_owned())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(field, _)| field == name)
    }

    /// A field's text, if there is any.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn parse(kind: &'static str, body: &str) -> Option<Posted> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        Posted::parse(&headers, body.as_bytes())
    }

    #[test]
    fn only_plain_forms_with_each_field_once_are_read() {
        assert!(parse("application/x-www-form-urlencoded; charset=UTF-8", "a=1&b=2").is_some());
        assert!(parse("application/x-www-form-urlencoded", "a=1&a=2").is_none(), "which one would count?");
        assert!(parse("text/plain", "a=1").is_none());
        assert!(parse("application/json", "{}").is_none());
        let many: Vec<String> = (0..40).map(|n| format!("f{n}=1")).collect();
        assert!(parse("application/x-www-form-urlencoded", &many.join("&")).is_none());
    }
}
