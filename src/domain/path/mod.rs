//! The path that is judged is the path that is forwarded: parse or refuse.
//!
//! A path becomes a [`CanonicalPath`] once, at the edge. What it holds is the one text that goes
//! upstream and, beside it, every reading that a back end could make of that text; `decide()`
//! judges all of them and the strictest verdict wins (DESIGN "Canonical path", SECURITY 2.2, 4.2).

mod parse;
mod reading;

pub use reading::{Reading, Weight};

/// How an app reads paths: `paths: { like, allow }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PathForms {
    pub like: Option<Like>,
    pub allow_encoded_slash: bool,
    pub allow_path_params: bool,
    pub allow_double_slash: bool,
    pub allow_encoded_hash: bool,
}

/// The app's own reading of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Like {
    /// As written: letter case, a trailing slash and a suffix all tell paths apart.
    Unix,
    /// Letter case never tells paths apart; Windows file name forms are refused.
    Iis,
    /// `;parameters` are cut before anything else looks at the path.
    Tomcat,
    /// What follows `x.php/` is an argument of the script.
    Php,
}

/// A request path in the one form that is both judged and forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalPath {
    /// Escapes of unreserved bytes decoded (RFC 3986 section 6.2.2.2), other escapes kept with
    /// their hex in upper case.
    forwarded: Box<str>,
    /// The first reading; absent where it is `forwarded` itself.
    first: Option<Text>,
    /// Further readings. Those that count as much as the first come only with `paths: { allow }`,
    /// extra ones only where a segment begins or ends with a blank, or for a script in a folder.
    more: Vec<Text>,
    /// Letter case folded, of `forwarded`, where `first` is absent and the fold differs.
    folded: Option<Box<str>>,
    like: Option<Like>,
}

/// One full reading: fully decoded, `/` between segments and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Text {
    exact: Box<str>,
    /// Absent where folding changes nothing.
    folded: Option<Box<str>>,
    weight: Weight,
}

/// Why a path was refused; the answer is 400. Where the operator has a choice, the text says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("the path is empty")]
    Empty,
    #[error("the path does not start with a slash")]
    NoLeadingSlash,
    #[error("the path holds an empty segment (two slashes in a row), which `paths: {{ allow: [double_slash] }}` takes")]
    EmptySegment,
    #[error("the path holds a dot segment (`.` or `..`, also with blanks around it)")]
    DotSegment,
    #[error("the path holds a backslash")]
    Backslash,
    #[error(
        "the path holds `;` parameters, which `paths: {{ allow: [path_params] }}` takes and `like: tomcat` cuts off"
    )]
    PathParameters,
    #[error("the path holds an escaped slash (%2F), which `paths: {{ allow: [encoded_slash] }}` takes")]
    EncodedSlash,
    #[error("the path holds an escape of a delimiter (%5C, %3B or %3F), which nothing in `paths:` allows")]
    EncodedDelimiter,
    #[error("the path holds an escaped hash (%23), which `paths: {{ allow: [encoded_hash] }}` takes")]
    EncodedHash,
    #[error("the path holds a control character")]
    Control,
    #[error("the path holds a space or another character that must be escaped")]
    RawCharacter,
    #[error("the path holds a byte outside ASCII that is not escaped")]
    RawNonAscii,
    #[error("the path holds a broken escape: `%` needs two hexadecimal digits after it")]
    BrokenEscape,
    #[error("the path holds an escape of an escape (%25 and then hexadecimal digits)")]
    DoubleEscape,
    #[error("the escapes of the path are not UTF-8")]
    NotUtf8,
    #[error("a segment ends in a dot or a space, which Windows drops (refused by `like: iis` and `like: php`)")]
    TrailingDotOrSpace,
    #[error("a segment holds a colon (an alternate data stream or a drive; refused by `like: iis`)")]
    Colon,
    #[error("a segment looks like a short file name (`~1`; refused by `like: iis`)")]
    ShortName,
    #[error("a segment looks like a cookieless session (`(S(...))`; refused by `like: iis`)")]
    CookielessSession,
    #[error("the path holds a character that Windows maps to an ASCII one (refused by `like: iis`)")]
    BestFit,
    #[error("the path stands under the gate's own prefix")]
    Reserved,
}

impl PathError {
    /// A stable word for logs, metrics and the page (`path_holds` in `assets/text`).
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NoLeadingSlash => "no_leading_slash",
            Self::EmptySegment => "empty_segment",
            Self::DotSegment => "dot_segment",
            Self::Backslash => "backslash",
            Self::PathParameters => "path_parameters",
            Self::EncodedSlash => "encoded_slash",
            Self::EncodedDelimiter => "encoded_delimiter",
            Self::EncodedHash => "encoded_hash",
            Self::Control => "control",
            Self::RawCharacter => "raw_character",
            Self::RawNonAscii => "raw_non_ascii",
            Self::BrokenEscape => "broken_escape",
            Self::DoubleEscape => "double_escape",
            Self::NotUtf8 => "not_utf8",
            Self::Reserved => "reserved",
            Self::TrailingDotOrSpace => "trailing_dot_or_space",
            Self::Colon => "colon",
            Self::ShortName => "short_name",
            Self::CookielessSession => "cookieless_session",
            Self::BestFit => "best_fit",
        }
    }
}

impl CanonicalPath {
    /// The bytes that are forwarded, without the query.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.forwarded
    }

    /// The fully decoded path as the app reads it first: for logs and for people.
    #[must_use]
    pub fn decoded(&self) -> &str {
        self.first.as_ref().map_or(&*self.forwarded, |text| &*text.exact)
    }

    /// Reads a request's path, without its query. `forms` is what the app accepts.
    pub fn parse(path: &str, forms: PathForms) -> Result<Self, PathError> {
        parse::parse(path, forms)
    }
}

/// Letter case folded, upper then lower, so that letters that only one of the two directions
/// brings to ASCII (dotless i, long s, the Kelvin sign) fold too. Letter by letter: the whole text's
/// lower case has another sigma at the end of a word, and where a word ends changes with what is cut
/// from a path.
#[must_use]
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c.to_ascii_lowercase());
        } else {
            out.extend(c.to_uppercase().flat_map(char::to_lowercase));
        }
    }
    out
}
