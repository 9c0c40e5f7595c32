//! What does a request carry, as far as rules may depend on it? A form or a JSON document that can be read in
//! one way, nothing at all, or something that may hold anything.
//!
//! Apps take bodies apart in a hundred ways. What two of them could read differently is not guessed at: it is
//! [`Content::Unread`], every rule that asks for a field may then hold or not, and the strictest verdict wins
//! (S-PATH-8).

use std::fmt;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Method};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::matcher::{Field, SURELY_READ, Separators, is_override_name, override_method, parameters};

/// What a request carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Not a byte.
    Nothing,
    /// Not read, or not to be read in one way alone: whatever a rule asks for may stand in it or not.
    Unread,
    Form(Form),
    Json(Json),
}

/// How a body can be read, by the fields before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Media {
    Form,
    Json,
    Other,
}

impl Media {
    /// Only what browsers and libraries write is a form or a document. Of another spelling (capitals, a second
    /// field, a parameter more, a charset that is not UTF-8) some app makes something else, and of one that is
    /// missing Rack makes a form.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        if headers.contains_key(CONTENT_ENCODING) {
            return Self::Other;
        }
        let mut types = headers.get_all(CONTENT_TYPE).iter();
        let (Some(Ok(text)), None) = (types.next().map(|value| value.to_str()), types.next()) else {
            return Self::Other;
        };
        let mut parts = text.split(';');
        let essence = parts.next().unwrap_or_default().trim_end();
        let is_utf8 = |parameter: &str| {
            let (name, value) = parameter.split_once('=').unwrap_or_default();
            let bare = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
            name.trim_start().eq_ignore_ascii_case("charset") && bare.trim_end().eq_ignore_ascii_case("utf-8")
        };
        if !parts.next().is_none_or(is_utf8) || parts.next().is_some() {
            return Self::Other;
        }
        match essence {
            "application/x-www-form-urlencoded" => Self::Form,
            "application/json" => Self::Json,
            _ => Self::Other,
        }
    }
}

impl Content {
    /// Reads a whole body.
    #[must_use]
    pub fn read(media: Media, body: &[u8]) -> Self {
        if body.is_empty() {
            return Self::Nothing;
        }
        match media {
            Media::Form => Form::read(body).map_or(Self::Unread, Self::Form),
            Media::Json => Json::read(body).map_or(Self::Unread, Self::Json),
            Media::Other => Self::Unread,
        }
    }
}

impl Content {
    /// Bytes of memory that it takes, about: a document of small objects is many times its text.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Nothing | Self::Unread => 0,
            Self::Form(form) => form.fields.iter().chain(form.split_further.iter().flatten()).map(Field::size).sum(),
            Self::Json(json) => json.size(),
        }
    }
}

/// What a body that cannot be read may turn a POST into, whatever the rules name.
const USUAL: [Method; 3] = [Method::PUT, Method::PATCH, Method::DELETE];
/// Stands for the methods that no rule names; Rack takes this one from a form.
const UNNAMED: &[u8] = b"LINK";

/// Every method that a POST whose body is not read may turn into, as far as these, which rules tell apart, show it.
#[must_use]
pub fn any_method(mut told_apart: Vec<Method>) -> Vec<Method> {
    for method in USUAL.into_iter().chain(Method::from_bytes(UNNAMED)) {
        if !told_apart.contains(&method) {
            told_apart.push(method);
        }
    }
    told_apart
}

impl Content {
    /// What it may turn a POST into, of the methods that rules tell apart (S-PATH-6).
    #[must_use]
    pub fn methods(&self, told_apart: Vec<Method>) -> Vec<Method> {
        match self {
            Self::Form(form) => {
                let fields = form.fields.iter().chain(form.split_further.iter().flatten());
                fields
                    .filter(|field| is_override_name(&field.name))
                    .filter_map(|field| override_method(&field.value))
                    .collect()
            }
            Self::Json(Json::Object(members)) => {
                let named = members.iter().filter(|(name, _)| is_override_name(name));
                named
                    .filter_map(|(_, value)| if let Json::Text(text) = value { override_method(text) } else { None })
                    .collect()
            }
            Self::Nothing | Self::Json(_) => Vec::new(),
            Self::Unread if told_apart.is_empty() => Vec::new(),
            Self::Unread => any_method(told_apart),
        }
    }
}

/// What a value takes beside its text: its place in a list, and the allocator's part.
pub(super) const ALLOCATION: usize = 64;

/// A form as `application/x-www-form-urlencoded`.
#[derive(Clone, Debug, PartialEq)]
pub struct Form {
    fields: Vec<Field<'static>>,
    /// As an app has them that ends a field at `;` too, where that makes a difference.
    split_further: Option<Vec<Field<'static>>>,
}

impl Form {
    /// `None` where apps could differ: a charset of its own (`_charset_`), bytes that are not UTF-8, NULs, escapes
    /// that are none (classic ASP reads `%u0064`), a byte order mark, more fields than every app reads. What begins
    /// as a document does is one for an app that looks at no type; browsers escape these signs in a name.
    fn read(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        if text.trim_start().starts_with(['{', '[', '"']) {
            return None;
        }
        if !is_plain(text) || text.starts_with('\u{feff}') {
            return None;
        }
        let whole = |separators| {
            let mut all = Vec::new();
            for field in parameters(text, separators) {
                let is_charset = field.readings.iter().any(|name| name == "_charset_");
                if field.at >= SURELY_READ || is_charset || !is_sound(&field.name) || !is_sound(&field.value) {
                    return None;
                }
                all.push(field.into_owned());
            }
            Some(all)
        };
        let fields = whole(Separators::Ampersand)?;
        let split_further = match text.contains(';') {
            true => Some(whole(Separators::SemicolonToo)?),
            false => None,
        };
        Some(Self { fields, split_further })
    }

    pub(super) fn fields(&self, separators: Separators) -> &[Field<'static>] {
        match (separators, &self.split_further) {
            (Separators::SemicolonToo, Some(fields)) => fields,
            (Separators::SemicolonToo | Separators::Ampersand, _) => &self.fields,
        }
    }

    pub(super) fn has_semicolons(&self) -> bool {
        self.split_further.is_some()
    }
}

/// Whether every `%` in it begins an escape, and none stands for a NUL.
pub(super) fn is_plain(text: &str) -> bool {
    let mut rest = text.as_bytes();
    loop {
        match rest {
            [] => return true,
            [b'%', high, low, ..] if !high.is_ascii_hexdigit() || !low.is_ascii_hexdigit() => return false,
            [b'%', b'0', b'0', ..] | [0, ..] | [b'%'] | [b'%', _] => return false,
            [b'%', _, _, more @ ..] | [_, more @ ..] => rest = more,
        }
    }
}

/// What is not UTF-8 was replaced when it was decoded; some apps drop it, and `de%fflete` is `delete`.
fn is_sound(text: &str) -> bool {
    !text.contains('\u{fffd}')
}

/// A JSON document, with every member that stands in it: of a name that stands twice some apps take the first
/// and some the last.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Object(Vec<(String, Json)>),
    Text(String),
    Null,
    /// A number, a truth value or an array: PHP holds `true` for equal to every text, and what an app makes of
    /// an array where a text should stand only it knows.
    Other,
}

impl Json {
    fn size(&self) -> usize {
        match self {
            Self::Object(members) => members.iter().map(|(name, value)| name.len() + ALLOCATION + value.size()).sum(),
            Self::Text(text) => text.len() + ALLOCATION,
            Self::Null | Self::Other => ALLOCATION,
        }
    }

    /// `None` for all but one whole document as RFC 8259 has it, and where a text of it holds a NUL.
    fn read(body: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(body).ok()?;
        if text.contains("\\u0000") {
            return None;
        }
        serde_json::from_str(text).ok()
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON document")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                // A vector begins with room for four: of objects in objects that is the most of them.
                members.shrink_to_fit();
                Ok(Json::Object(members))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Json::Other)
            }

            fn visit_str<E>(self, text: &str) -> Result<Json, E> {
                Ok(Json::Text(text.to_owned()))
            }

            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
                Ok(Json::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
                Ok(Json::Other)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Json, E> {
                Ok(Json::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
                Ok(Json::Other)
            }
        }
        from.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn media(fields: &[(&'static str, &'static str)]) -> Media {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Media::of(&headers)
    }

    #[test]
    fn s_path_8_only_the_usual_spelling_of_a_type_is_a_form_or_a_document() {
        let form = ("content-type", "application/x-www-form-urlencoded");
        let json = ("content-type", "application/json");
        for fine in ["", "; charset=UTF-8", ";charset=utf-8", "; charset=\"utf-8\"", " ;CHARSET=utf-8 "] {
            let text: &'static str = format!("{}{fine}", form.1).leak();
            assert_eq!(media(&[("content-type", text)]), Media::Form, "{text}");
            let text: &'static str = format!("{}{fine}", json.1).leak();
            assert_eq!(media(&[("content-type", text)]), Media::Json, "{text}");
        }
        for other in [
            "application/x-www-form-urlencoded; charset=utf-16",
            "application/x-www-form-urlencoded; charset=iso-8859-1",
            "application/x-www-form-urlencoded; charset=utf-8; charset=utf-7",
            "application/x-www-form-urlencoded; a=/json",
            "application/x-www-form-urlencoded; charset",
            "application/x-www-form-urlencoded, application/json",
            "Application/X-WWW-Form-Urlencoded",
            "application/x-www-form-urlencoded ; charset=ibm037",
            "multipart/form-data; boundary=x",
            "application/vnd.api+json",
            "text/json",
            "text/plain",
            "json",
            "",
        ] {
            assert_eq!(media(&[("content-type", other)]), Media::Other, "{other}");
        }
        assert_eq!(media(&[]), Media::Other);
        assert_eq!(media(&[form, form]), Media::Other);
        assert_eq!(media(&[json, form]), Media::Other);
        assert_eq!(media(&[form, ("content-encoding", "gzip")]), Media::Other);
        assert_eq!(media(&[form, ("content-encoding", "identity")]), Media::Other);
    }

    #[test]
    fn s_path_8_what_apps_could_read_in_two_ways_is_not_read() {
        for form in [
            &b"a=%ff"[..],
            b"a=\xff",
            b"%ff=a",
            b"a=%",
            b"a=%4",
            b"a=%zz",
            b"a=%u0064elete",
            b"a=%00",
            b"a=\0",
            b"\xef\xbb\xbfa=1",
            b"_charset_=utf-7&a=1",
            b"{\"a\":1}",
            b" \n[1]",
            b"a=1&_Charset_=utf-8",
            b"x=1;_charset_=utf-7",
            "a=&".repeat(SURELY_READ + 1).as_bytes(),
            ["x=", &"a;".repeat(SURELY_READ + 1)].concat().as_bytes(),
        ] {
            assert_eq!(Content::read(Media::Form, form), Content::Unread, "{}", form.escape_ascii());
        }
        for json in [
            &b"{\"a\":1} x"[..],
            b"{\"a\":1}{\"a\":2}",
            b"\xef\xbb\xbf{\"a\":1}",
            b"{\"a\":\"\\u0000\"}",
            b"{\"a\\u0000b\":1}",
            b"{\"a\":\"\xff\"}",
            b"{\"a\":\"\\ud800\"}",
            b"{\"a\":\"\n\"}",
            b"{'a':1}",
            b"{a:1}",
            b"{\"a\":1,}",
            b"{\"a\":01}",
            b"{\"a\":NaN}",
            b"/* */{\"a\":1}",
            b"{\"a\":",
            b"a=1",
            "[".repeat(4000).as_bytes(),
        ] {
            assert_eq!(Content::read(Media::Json, json), Content::Unread, "{}", json.escape_ascii());
        }
        assert_eq!(Content::read(Media::Other, b"a=1"), Content::Unread);
        for media in [Media::Form, Media::Json, Media::Other] {
            assert_eq!(Content::read(media, b""), Content::Nothing);
        }
    }
}
