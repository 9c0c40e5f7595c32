//! What one `path:` entry matches: globs and named regular expressions, whole and anchored.

use std::borrow::Cow;

use regex::{Regex, RegexBuilder};

use crate::domain::path::{PathForms, Reading, fold};

/// One entry of `match: { path: }`, compiled for both letter cases.
#[derive(Clone, Debug)]
pub struct PathPattern {
    text: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Glob { exact: Vec<Segment>, folded: Vec<Segment> },
    Regex { exact: Box<Regex>, folded: Box<Regex> },
}

/// One segment of a glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// Compared whole. Empty for the slash at the end.
    Literal(Box<str>),
    /// `*`: one segment that is not empty.
    Any,
    /// `*` beside other text: the pieces between the stars.
    Mixed(Vec<Box<str>>),
    /// `**`: any number of segments, none included.
    Deep,
}

/// Why a pattern cannot stand; each text ends as a config fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error("a path pattern starts with a slash")]
    NoLeadingSlash,
    #[error("`**` stands alone between slashes")]
    DeepBesideText,
    #[error("{0:?} is no wildcard here: only `*` (one segment) and `**` (any depth) are; list the paths one by one")]
    NotAWildcard(char),
    #[error("the query is no part of the path: use `query:` beside `path:`")]
    Query,
    #[error("no path ever holds {0:?}: such requests are refused before any rule is asked")]
    NeverInAPath(char),
    #[error("an empty segment (`//`) is refused before any rule is asked, unless `paths: {{ allow: [double_slash] }}`")]
    EmptySegment,
    #[error("dot segments are refused before any rule is asked")]
    DotSegment,
    #[error("`%` needs two hexadecimal digits after it, and UTF-8 behind the escapes")]
    BrokenEscape,
    #[error("paths under /.stepgate/ are Stepgate's own and never reach an app")]
    OwnPrefix,
    #[error("not a regular expression: {0}")]
    Regex(String),
}

impl PathPattern {
    /// Reads a glob. `forms` decides which bytes a path of this app can hold at all.
    pub fn glob(text: &str, forms: PathForms) -> Result<Self, PatternError> {
        if !text.starts_with('/') {
            return Err(PatternError::NoLeadingSlash);
        }
        let decoded = decode(text, forms)?;
        if decoded == "/.stepgate" || decoded.starts_with("/.stepgate/") {
            return Err(PatternError::OwnPrefix);
        }
        let exact = segments(&decoded, forms)?;
        let folded = segments(&fold(&decoded), forms)?;
        Ok(Self { text: text.to_owned(), kind: Kind::Glob { exact, folded } })
    }

    /// Reads a regular expression over the decoded path; it matches whole paths only. The engine
    /// is linear in the path's length.
    pub fn regex(text: &str) -> Result<Self, PatternError> {
        let build = |fold: bool| {
            RegexBuilder::new(&format!("^(?:{text})$"))
                .case_insensitive(fold)
                .size_limit(1 << 20)
                .build()
                .map(Box::new)
                .map_err(|e| PatternError::Regex(last_line(&e.to_string())))
        };
        // Checked alone first: `a)(b` would close our group.
        regex_syntax_of(text)?;
        Ok(Self { text: text.to_owned(), kind: Kind::Regex { exact: build(false)?, folded: build(true)? } })
    }

    /// As the file gives it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    #[must_use]
    pub fn is_regex(&self) -> bool {
        matches!(self.kind, Kind::Regex { .. })
    }

    #[must_use]
    pub fn matches(&self, reading: &Reading<'_>) -> bool {
        match &self.kind {
            Kind::Glob { exact, folded } => {
                let pattern = if reading.folded { folded } else { exact };
                glob(pattern, reading.text.get(1..).unwrap_or_default(), reading.slash)
            }
            Kind::Regex { exact, folded } => {
                let regex = if reading.folded { folded } else { exact };
                let text = if reading.slash { Cow::Owned(reading.to_text()) } else { Cow::Borrowed(reading.text) };
                regex.is_match(&text)
            }
        }
    }

    /// Whether folding letter case changes what this matches.
    pub(super) fn folds(&self) -> bool {
        match &self.kind {
            Kind::Glob { exact, folded } => exact != folded,
            Kind::Regex { .. } => true,
        }
    }

    /// The segments before the first wildcard, of the exact or the folded form; `None` for a
    /// regular expression, which may match anywhere.
    pub(super) fn segments(&self, folded: bool) -> Option<&[Segment]> {
        match &self.kind {
            Kind::Glob { exact, folded: other } => Some(if folded { other } else { exact }),
            Kind::Regex { .. } => None,
        }
    }

    /// Whether this surely matches every path that `other` matches (used to find rules that can
    /// never be reached; `false` is always a safe answer).
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Glob { exact: ours, .. }, Kind::Glob { exact: theirs, .. }) => covers(ours, theirs),
            (Kind::Glob { exact, .. }, Kind::Regex { .. }) => exact.as_slice() == [Segment::Deep],
            (Kind::Regex { .. }, Kind::Regex { .. }) => self.text == other.text,
            (Kind::Regex { .. }, Kind::Glob { .. }) => false,
        }
    }

    /// How many segments stand before a `**` that ends it, where all of them are literal text.
    #[must_use]
    pub fn literal_root(&self) -> Option<usize> {
        let Kind::Glob { exact, .. } = &self.kind else { return None };
        let (Segment::Deep, root) = exact.split_last()? else { return None };
        root.iter().all(|s| matches!(s, Segment::Literal(_))).then_some(root.len())
    }

    /// Whether only the end of a path decides (`/**/*.css`, `/*.css`): an app that takes
    /// `/account.php/x.css` or `/account.css` for `/account` would be opened by it (S-PATH-9).
    #[must_use]
    pub fn by_suffix_alone(&self) -> bool {
        match &self.kind {
            Kind::Glob { exact, .. } => {
                let Some((last, before)) = exact.split_last() else { return false };
                let before_is_wild = before.iter().all(|s| matches!(s, Segment::Any | Segment::Deep));
                let last_narrows = match last {
                    Segment::Literal(_) => !before.is_empty(),
                    Segment::Mixed(pieces) => !before.is_empty() || pieces.first().is_some_and(|p| p.is_empty()),
                    Segment::Any | Segment::Deep => false,
                };
                before_is_wild && last_narrows
            }
            // What a regular expression demands first must be literal text after the slash.
            Kind::Regex { .. } => {
                let start = self.text.trim_start_matches('^').strip_prefix('/').unwrap_or_default();
                !start.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '-') || self.text.contains('|')
            }
        }
    }
}

/// Escapes in a pattern mean what they mean in a path: `/a%20b` is a rule for "a b".
fn decode(text: &str, forms: PathForms) -> Result<String, PatternError> {
    for c in text.chars() {
        match c {
            '?' => return Err(PatternError::Query),
            '[' | ']' | '{' | '}' => return Err(PatternError::NotAWildcard(c)),
            '#' | '\\' => return Err(PatternError::NeverInAPath(c)),
            ';' if !forms.allow_path_params => return Err(PatternError::NeverInAPath(c)),
            c if c.is_control() => return Err(PatternError::NeverInAPath(c)),
            _ => {}
        }
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let (before, escape) = rest.split_at(at);
        bytes.extend_from_slice(before.as_bytes());
        let digits = escape.get(1..3).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let value = digits.and_then(|d| u8::from_str_radix(d, 16).ok()).ok_or(PatternError::BrokenEscape)?;
        match value {
            // The reading "as written" keeps it so.
            b'/' if forms.allow_encoded_slash => bytes.extend_from_slice(b"%2F"),
            b'#' if forms.allow_encoded_hash => bytes.push(value),
            b'/' | b'\\' | b';' | b'?' | b'#' | 0..=0x1f | 0x7f => {
                return Err(PatternError::NeverInAPath(char::from(value)));
            }
            other => bytes.push(other),
        }
        rest = escape.get(3..).unwrap_or_default();
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).map_err(|_| PatternError::BrokenEscape)
}

fn segments(decoded: &str, forms: PathForms) -> Result<Vec<Segment>, PatternError> {
    let all: Vec<&str> = decoded.split('/').skip(1).collect();
    let count = all.len();
    let mut out = Vec::with_capacity(count);
    for (i, part) in all.into_iter().enumerate() {
        out.push(match part {
            "" if i + 1 < count && !forms.allow_double_slash => return Err(PatternError::EmptySegment),
            "." | ".." => return Err(PatternError::DotSegment),
            "*" => Segment::Any,
            "**" => Segment::Deep,
            _ if part.contains("**") => return Err(PatternError::DeepBesideText),
            _ if part.contains('*') => Segment::Mixed(part.split('*').map(Into::into).collect()),
            _ => Segment::Literal(part.into()),
        });
    }
    // `**/**` is `**`; without it the walk below would try the same splits again and again.
    out.dedup_by(|a, b| *a == Segment::Deep && *b == Segment::Deep);
    Ok(out)
}

/// Whole match of `pattern` against `path` (without its first slash) and an empty last segment
/// where `slash` says so. Only the last `**` is ever tried again, so the cost is bounded by
/// pattern times path.
fn glob(pattern: &[Segment], path: &str, slash: bool) -> bool {
    let mut segments = Walk { rest: Some(path), slash };
    let mut left = pattern;
    let mut retry: Option<(&[Segment], Walk<'_>)> = None;
    loop {
        let Some((head, tail)) = left.split_first() else {
            if segments.done() {
                return true;
            }
            match backtrack(&mut retry) {
                Some((pattern, walk)) => (left, segments) = (pattern, walk),
                None => return false,
            }
            continue;
        };
        if *head == Segment::Deep {
            if tail.is_empty() {
                return true;
            }
            retry = Some((tail, segments));
            left = tail;
            continue;
        }
        let mut next = segments;
        match next.next() {
            Some(segment) if head.matches(segment) => (left, segments) = (tail, next),
            _ => match backtrack(&mut retry) {
                Some((pattern, walk)) => (left, segments) = (pattern, walk),
                None => return false,
            },
        }
    }
}

/// Lets the last `**` swallow one segment more.
fn backtrack<'p, 'w>(retry: &mut Option<(&'p [Segment], Walk<'w>)>) -> Option<(&'p [Segment], Walk<'w>)> {
    let (_, walk) = retry.as_mut()?;
    walk.next()?;
    *retry
}

/// The segments of a path that are still ahead.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    rest: Option<&'a str>,
    slash: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn of(reading: &Reading<'a>) -> Self {
        Self { rest: Some(reading.text.get(1..).unwrap_or_default()), slash: reading.slash }
    }

    fn done(&self) -> bool {
        self.rest.is_none() && !self.slash
    }

    pub(super) fn next(&mut self) -> Option<&'a str> {
        match self.rest {
            Some(rest) => {
                // Segments are short: byte by byte beats the search that reads many at once.
                let (segment, rest) = match rest.bytes().position(|b| b == b'/') {
                    Some(at) => (&rest[..at], Some(&rest[at + 1..])),
                    None => (rest, None),
                };
                self.rest = rest;
                Some(segment)
            }
            None if self.slash => {
                self.slash = false;
                Some("")
            }
            None => None,
        }
    }
}

impl Segment {
    fn matches(&self, segment: &str) -> bool {
        match self {
            Self::Literal(text) => **text == *segment,
            Self::Any => !segment.is_empty(),
            Self::Mixed(pieces) => mixed(pieces, segment),
            Self::Deep => true,
        }
    }
}

/// `a*b*c`: the first piece at the start, the last at the end, the others in order between; taking
/// each at its first place loses nothing.
fn mixed(pieces: &[Box<str>], segment: &str) -> bool {
    let (Some((first, rest)), false) = (pieces.split_first(), segment.is_empty()) else { return false };
    let Some((last, middle)) = rest.split_last() else { return **first == *segment };
    let Some(mut left) = segment.strip_prefix(&**first).and_then(|s| s.strip_suffix(&**last)) else { return false };
    for piece in middle {
        let Some(at) = left.find(&**piece) else { return false };
        left = &left[at + piece.len()..];
    }
    true
}

fn covers(ours: &[Segment], theirs: &[Segment]) -> bool {
    match (ours.split_first(), theirs.split_first()) {
        (None, None) => true,
        (Some((Segment::Deep, ours)), None) => covers(ours, &[]),
        (Some((Segment::Deep, rest)), Some((_, theirs_rest))) => covers(rest, theirs) || covers(ours, theirs_rest),
        (None, Some(_)) | (Some(_), None) | (_, Some((Segment::Deep, _))) => false,
        (Some((a, ours)), Some((b, theirs))) => segment_covers(a, b) && covers(ours, theirs),
    }
}

fn segment_covers(ours: &Segment, theirs: &Segment) -> bool {
    match (ours, theirs) {
        (Segment::Any, Segment::Literal(text)) => !text.is_empty(),
        (Segment::Any, Segment::Any | Segment::Mixed(_)) => true,
        (Segment::Mixed(pieces), Segment::Literal(text)) => mixed(pieces, text),
        _ => ours == theirs,
    }
}

fn regex_syntax_of(text: &str) -> Result<(), PatternError> {
    Regex::new(text).map(|_| ()).map_err(|e| PatternError::Regex(last_line(&e.to_string())))
}

/// The regex crate draws the pattern over several lines; its last says what is wrong.
fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or(text).trim().trim_start_matches("error: ").to_owned()
}
