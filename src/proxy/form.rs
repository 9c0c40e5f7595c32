//! What does a body say that its request must be judged by? The fields that rules ask for (S-PATH-8), and which
//! other methods the app may read out of a POST: Rails, Laravel, Symfony and others turn one with
//! `_method=DELETE` in its form into a DELETE; it is judged as that too (S-PATH-6).

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};

use super::body::{ClientFault, Looked, RequestBody};
use crate::base::budget::Share;
use crate::domain::policy::{Content, Media, any_method, is_override_name, override_method, override_methods};

/// Most of a body that is read for its methods before it is judged.
const LIMIT: usize = 64 * 1024;

/// What is asked of a body.
pub struct Question {
    /// Methods that the rules for its path tell apart; where there are any, and it is a POST, it may turn into one.
    pub told_apart: Vec<Method>,
    /// A rule that may decide depends on what it holds, as far as this many bytes.
    pub content: Option<usize>,
}

/// What a body says about its request. It stands in the future of each, where nearly all say nothing.
#[derive(Debug)]
pub enum Said {
    Nothing,
    /// Nobody asked.
    Unread,
    Read(Box<Answer>),
}

#[derive(Debug)]
pub struct Answer {
    also_methods: Vec<Method>,
    content: Content,
    no_room: bool,
    /// What of the process's memory the body and its values take.
    _shares: (Option<Arc<Share>>, Share),
}

impl Said {
    #[must_use]
    pub fn unasked(body: &RequestBody) -> Self {
        if matches!(body, RequestBody::Empty) { Self::Nothing } else { Self::Unread }
    }

    #[must_use]
    pub fn also_methods(&self) -> &[Method] {
        match self {
            Self::Nothing | Self::Unread => &[],
            Self::Read(answer) => &answer.also_methods,
        }
    }

    /// Whether it was not read because too much else is: it might be judged otherwise in a moment.
    #[must_use]
    pub fn found_no_room(&self) -> bool {
        matches!(self, Self::Read(answer) if answer.no_room)
    }

    #[must_use]
    pub fn content(&self) -> &Content {
        static NOTHING: Content = Content::Nothing;
        static UNREAD: Content = Content::Unread;
        match self {
            Self::Nothing => &NOTHING,
            Self::Unread => &UNREAD,
            Self::Read(answer) => &answer.content,
        }
    }
}

/// Reads the body as far as the question needs it, and no further than there is `room` in the process. The
/// body that comes back holds every byte.
///
/// What cannot be read (a coding, another charset, more than 64 KiB, a kind that some framework
/// takes for a form and we do not) is judged as every method that the rules for its path tell apart, and as
/// one that none of them names: Rack and Symfony make a GET of a POST as well, and a rule may ask more of
/// who reads than of who writes. For a rule about fields it is [`Content::Unread`].
pub async fn read(
    headers: &HeaderMap,
    body: RequestBody,
    question: Question,
    room: Share,
) -> Result<(Said, RequestBody), ClientFault> {
    let Question { told_apart, content } = question;
    let kind = if told_apart.is_empty() { Kind::NoForm } else { kind(headers) };
    let media = if content.is_none() { Media::Other } else { Media::of(headers) };
    let for_methods = matches!(kind, Kind::Urlencoded | Kind::Json).then_some(LIMIT);
    let for_content = content.filter(|_| media != Media::Other);
    let limit = for_methods.max(for_content).unwrap_or(0);
    let mut no_room = false;
    let mut for_values = room.another();
    let (bytes, share, body) = match body {
        RequestBody::Client(body) if limit > 0 && !body.is_longer_than(limit) => {
            let (body, looked) = body.look(limit, room).await?;
            no_room = matches!(looked, Looked::NoRoom);
            let (bytes, share) = match looked {
                Looked::Whole(bytes, share) => (Some(bytes), Some(share)),
                Looked::TooLong | Looked::NoRoom => (None, None),
            };
            (bytes, share, RequestBody::Client(body))
        }
        RequestBody::Full(bytes) => (bytes.clone(), None, RequestBody::Full(bytes)),
        RequestBody::Empty => return Ok((Said::Nothing, RequestBody::Empty)),
        body @ RequestBody::Client(_) => (None, None, body),
    };
    let within = |limit: Option<usize>| bytes.as_ref().filter(|bytes| limit.is_some_and(|limit| bytes.len() <= limit));
    let also_methods = match kind {
        Kind::NoForm => Vec::new(),
        _ => within(for_methods).and_then(|bytes| in_body(kind, bytes)).unwrap_or_else(|| any_method(told_apart)),
    };
    let content = match (content, within(for_content)) {
        // Its values are held until the answer ends, and may take many times the body (S-LIM-3).
        (Some(_), Some(bytes)) => match Content::read(media, bytes) {
            content if for_values.grow_to(content.size()) => content,
            _ => {
                no_room = true;
                Content::Unread
            }
        },
        _ if bytes.as_ref().is_some_and(Bytes::is_empty) => Content::Nothing,
        _ => Content::Unread,
    };
    Ok((Said::Read(Box::new(Answer { also_methods, content, no_room, _shares: (share, for_values) })), body))
}

/// How a framework may take a body apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Urlencoded,
    Json,
    /// No framework looks for fields in it.
    NoForm,
    Unreadable,
}

/// What a body is read as, by the fields before it.
#[must_use]
pub fn kind(headers: &HeaderMap) -> Kind {
    let coded = |v: &HeaderValue| !v.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    if headers.get_all(CONTENT_ENCODING).iter().any(coded) {
        return Kind::Unreadable;
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let text = match (types.next(), types.next()) {
        // Rack reads a POST without a type as a form.
        (None, _) => return Kind::Urlencoded,
        (Some(only), None) => only.to_str().unwrap_or_default().to_ascii_lowercase(),
        (Some(_), Some(_)) => return Kind::Unreadable,
    };
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let other_charset = |p: &str| {
        let charset = p.strip_prefix("charset").map(|rest| rest.trim_matches([' ', '=', '"', '\'']));
        charset.is_some_and(|c| !matches!(c, "utf-8" | "utf8" | "us-ascii" | "ascii" | "iso-8859-1"))
    };
    if parts.any(other_charset) {
        return Kind::Unreadable;
    }
    // Laravel takes every type for JSON in which one of these stands anywhere, parameters included.
    let names_json = text.contains("/json") || text.contains("+json");
    match essence {
        // PHP reads one thing in it, and Laravel the other.
        "application/x-www-form-urlencoded" if names_json => Kind::Unreadable,
        "application/x-www-form-urlencoded" => Kind::Urlencoded,
        // Forms whose parts we do not take apart, and what is no type: a lax reader may see one in it.
        _ if essence.starts_with("multipart/") || essence.contains("form") || !essence.contains('/') => {
            Kind::Unreadable
        }
        _ if names_json => Kind::Json,
        // Rack, Symfony, Laravel, PHP and ASP.NET look for fields in no other type (text/plain of a
        // long poll, application/x-git-... of a push).
        _ => Kind::NoForm,
    }
}

/// The methods that stand in a whole body; `None` when it cannot be read, and so may hold any.
#[must_use]
pub fn in_body(kind: Kind, bytes: &Bytes) -> Option<Vec<Method>> {
    match kind {
        Kind::Urlencoded => std::str::from_utf8(bytes).ok().map(|text| override_methods(Some(text))),
        Kind::Json => match serde_json::from_slice::<Members>(bytes) {
            Ok(Members(members)) => Some(
                members
                    .iter()
                    .filter(|(name, _)| is_override_name(name))
                    .filter_map(|(_, value)| override_method(value.as_str()?))
                    .collect(),
            ),
            // An array or a scalar has no members.
            Err(error) if error.is_data() => Some(Vec::new()),
            Err(_) => None,
        },
        Kind::NoForm => Some(Vec::new()),
        Kind::Unreadable => None,
    }
}

/// The members of an object, each of them: of a name that stands twice some readers take the first
/// and some the last.
struct Members(Vec<(String, serde_json::Value)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(fields: &[(&'static str, &'static str)]) -> Kind {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        kind(&headers)
    }

    #[test]
    fn s_path_6_what_cannot_be_read_may_be_any_method() {
        for unreadable in [
            "multipart/form-data; boundary=x",
            "multipart/mixed; boundary=x",
            "application/form",
            "form",
            "application/x-www-form-urlencoded; charset=ibm037",
            "application/x-www-form-urlencoded;charset=\"utf-16\"",
            "application/x-www-form-urlencoded; a=/json",
        ] {
            assert_eq!(kind_of(&[("content-type", unreadable)]), Kind::Unreadable, "{unreadable}");
        }
        let form = ("content-type", "application/x-www-form-urlencoded");
        assert_eq!(kind_of(&[form, ("content-encoding", "gzip")]), Kind::Unreadable);
        assert_eq!(kind_of(&[form, form]), Kind::Unreadable);
        assert_eq!(kind_of(&[form]), Kind::Urlencoded);
        assert_eq!(kind_of(&[]), Kind::Urlencoded);
        for json in
            ["application/json", "Text/JSON", "application/json/", "application/a+json;b", "text/plain; a=x/json"]
        {
            assert_eq!(kind_of(&[("content-type", json)]), Kind::Json, "{json}");
        }
        for no_form in
            ["image/png", "text/plain;charset=UTF-8", "application/x-git-receive-pack-request", "application/x-ndjson"]
        {
            assert_eq!(kind_of(&[("content-type", no_form)]), Kind::NoForm, "{no_form}");
        }
    }

    #[test]
    fn s_path_6_the_override_is_found_in_every_spelling() {
        for form in [
            "a=1&_method=delete",
            "%5Fmethod=DELETE",
            ".method=DELETE",
            "_Method=Delete&x",
            "_method[]=DELETE",
            "[_method]=DELETE",
            "%5B_method%5d=DELETE",
            "]_method=DELETE",
            "_method]=DELETE",
            "?_method=DELETE",
            "_method=%01DELETE%ef%bb%bf",
            "_method=%u0044ELETE",
            "X-HTTP-Method-%u004fverride=DELETE",
            "a=1&+[method=DELETE",
            "_method%00x=DELETE",
            "x=1;_method=DELETE",
            "_method=DELETE;x=1",
        ] {
            let found = in_body(Kind::Urlencoded, &Bytes::from_static(form.as_bytes())).unwrap();
            assert!(found.contains(&Method::DELETE), "{form}");
        }
        let json = Bytes::from_static(b"{\"\\u005fmethod\":\"delete\",\"a\":1}");
        let found = |kind, text| in_body(kind, &Bytes::from_static(text));
        assert_eq!(in_body(Kind::Json, &json).unwrap(), [Method::DELETE]);
        let twice = Bytes::from_static(b"{\"_method\":\"delete\",\"_method\":\"get\"}");
        assert_eq!(in_body(Kind::Json, &twice).unwrap(), [Method::DELETE, Method::GET], "whichever the app takes");
        assert_eq!(found(Kind::Json, b"[1]"), Some(Vec::new()));
        assert_eq!(found(Kind::Json, b"{\"method\":\"delete\"}"), Some(Vec::new()));
        assert_eq!(found(Kind::Json, b"{\"a\":"), None);
        assert_eq!(found(Kind::Urlencoded, b"a=1&method=DELETE"), Some(Vec::new()));
        assert_eq!(found(Kind::Urlencoded, b"\xff=1"), None);
    }
}
