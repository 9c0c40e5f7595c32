//! From the bytes of the request line to a [`CanonicalPath`], or a refusal with its cause.

use unicode_normalization::UnicodeNormalization;

use super::{CanonicalPath, Like, PathError, PathForms, Text, Weight, fold, reading};
use crate::domain::portal::PREFIX;

/// What the fast pass needs to know of a byte.
const PLAIN: u8 = 0;
const UPPER: u8 = 1;
const DOT: u8 = 2;
const SLASH: u8 = 3;
/// Refused, or needs the slow pass.
const SLOW: u8 = 4;

/// RFC 3986 `pchar` without `;` and `%`, with `|`, `^`, `[` and `]`: browsers send those raw.
static CLASS: [u8; 256] = {
    let mut table = [SLOW; 256];
    let plain = b"abcdefghijklmnopqrstuvwxyz0123456789-_~!$&'()*+,=:@|^[]";
    let mut i = 0;
    while i < plain.len() {
        table[plain[i] as usize] = PLAIN;
        i += 1;
    }
    let mut upper = b'A';
    while upper <= b'Z' {
        table[upper as usize] = UPPER;
        upper += 1;
    }
    table[b'.' as usize] = DOT;
    table[b'/' as usize] = SLASH;
    table
};

pub(super) fn parse(path: &str, forms: PathForms) -> Result<CanonicalPath, PathError> {
    let has_rules_of_its_own = matches!(forms.like, Some(Like::Iis | Like::Php));
    match already_canonical(path) {
        Some(seen) if !has_rules_of_its_own && !has_script_in_a_folder(path, &seen, forms) => Ok(CanonicalPath {
            forwarded: path.into(),
            first: None,
            more: Vec::new(),
            folded: seen.upper.then(|| fold(path).into()),
            like: forms.like,
        }),
        Some(_) | None => slow(path, forms),
    }
}

/// Whether there is a reading more, which only the slow pass makes.
fn has_script_in_a_folder(path: &str, seen: &Seen, forms: PathForms) -> bool {
    seen.dot && reading::without_script(path, forms.like).is_some()
}

/// What a path holds that is its own canonical form.
struct Seen {
    upper: bool,
    dot: bool,
}

/// One pass over the bytes (PERFORMANCE.md 3 point 9). `Some` when the path is its own canonical
/// form; a segment that starts with a dot is left to the slow pass.
fn already_canonical(path: &str) -> Option<Seen> {
    let (mut upper, mut dot) = (false, false);
    let mut after_slash = false;
    if !path.starts_with('/') {
        return None;
    }
    for byte in path.bytes() {
        match CLASS[usize::from(byte)] {
            PLAIN => after_slash = false,
            UPPER => {
                upper = true;
                after_slash = false;
            }
            DOT if !after_slash => dot = true,
            SLASH if !after_slash => after_slash = true,
            _ => return None,
        }
    }
    Some(Seen { upper, dot })
}

fn slow(path: &str, forms: PathForms) -> Result<CanonicalPath, PathError> {
    if path.is_empty() {
        return Err(PathError::Empty);
    }
    if !path.starts_with('/') {
        return Err(PathError::NoLeadingSlash);
    }
    let scanned = scan(path, forms)?;

    // Every way to read what was allowed: as written or decoded, with parameters or without, with
    // empty segments or merged. Tomcat's own reading is the one without parameters, alone.
    let tomcat = forms.like == Some(Like::Tomcat);
    let params: &[Params] = match (scanned.params, tomcat) {
        (false, _) => &[Params::Kept],
        (true, true) => &[Params::Cut, Params::CutAsWritten],
        (true, false) => &[Params::Kept, Params::Cut, Params::CutAsWritten, Params::End],
    };
    let slashes: &[bool] = if scanned.encoded_slash { &[false, true] } else { &[false] };
    // An app that decodes before it takes an address apart has the path end there, as at a raw `#`.
    let ends: &[bool] = if scanned.hash { &[false, true] } else { &[false] };
    let mut texts: Vec<Text> = Vec::with_capacity(1);
    for &params in params {
        for (open, at_hash) in slashes.iter().flat_map(|open| ends.iter().map(move |end| (*open, *end))) {
            let written = read(&scanned, params, open, at_hash);
            check_dots(&written)?;
            let empty = written.as_bytes().windows(2).any(|w| w == b"//");
            if empty && !forms.allow_double_slash {
                return Err(PathError::EmptySegment);
            }
            let merged = empty.then(|| merge(&written));
            for exact in [Some(written), merged].into_iter().flatten() {
                hold(&mut texts, exact, Weight::Full, forms.like)?;
            }
        }
    }
    // Apps trim what they look up (a segment, a name, the whole path), and file systems what they
    // open; a name with a blank at its end is a file's all the same, so it is only one reading more.
    if forms.like != Some(Like::Unix) {
        let trimmed: Vec<String> = texts.iter().filter_map(|text| trim(&text.exact)).collect();
        for exact in trimmed {
            hold(&mut texts, exact, Weight::Extra, forms.like)?;
        }
    }
    let beside: Vec<String> =
        texts.iter().filter_map(|text| reading::without_script(&text.exact, forms.like)).collect();
    for exact in beside {
        hold(&mut texts, exact, Weight::Extra, forms.like)?;
    }
    let mut texts = texts.into_iter();
    let (mut first, mut folded) = (texts.next(), None);
    // One form for one path: equal paths are equal values, however they were spelled.
    if first.as_ref().is_some_and(|text| *text.exact == *scanned.forwarded) {
        folded = first.take().and_then(|text| text.folded);
    }
    Ok(CanonicalPath { forwarded: scanned.forwarded.into(), first, more: texts.collect(), folded, like: forms.like })
}

/// Checks one reading and takes it up where it is a new one.
fn hold(texts: &mut Vec<Text>, exact: String, weight: Weight, like: Option<Like>) -> Result<(), PathError> {
    // Merging and trimming can bring out what the written form hid.
    check_dots(&exact)?;
    check_prefix(&exact)?;
    if matches!(like, Some(Like::Iis | Like::Php)) {
        check_windows(&exact, like == Some(Like::Iis))?;
    }
    if !texts.iter().any(|t| *t.exact == *exact) {
        let folded = changed_by_folding(&exact);
        texts.push(Text { exact: exact.into(), folded, weight });
    }
    Ok(())
}

fn changed_by_folding(text: &str) -> Option<Box<str>> {
    // The common text needs no second one to be seen to be the same.
    if text.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
        return None;
    }
    let folded = fold(text);
    (folded != text).then(|| folded.into())
}

/// Nothing under the gate's prefix reaches an app (DESIGN section 4), in whatever spelling:
/// plain ones were answered by the gate before, so what is left is escaped or in other letters.
fn check_prefix(text: &str) -> Result<(), PathError> {
    let first = text.split('/').find(|segment| !segment.is_empty());
    let reserved = PREFIX.trim_matches('/');
    // Only a dot folds to a dot.
    if first.is_some_and(|segment| segment.starts_with('.') && fold(segment) == reserved) {
        Err(PathError::Reserved)
    } else {
        Ok(())
    }
}

/// A path taken apart: its decoded text, and where in it the app may read something in two ways.
struct Scanned {
    /// Decoded, but for an escaped slash, which stands there as `%2F`.
    written: String,
    marks: Vec<(usize, Mark)>,
    forwarded: String,
    encoded_slash: bool,
    params: bool,
    hash: bool,
}

/// What a `;` is to an app.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Params {
    /// A character.
    Kept,
    /// It and what follows are cut from the segment, up to a slash however it is written.
    Cut,
    /// The same before escapes are undone, as Tomcat does: an escaped slash in a parameter is a part of it.
    CutAsWritten,
    /// The path ends at the first one, as at a `?` (Fastify up to its version 4, and by choice).
    End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// `%2F`, allowed by name.
    EncodedSlash,
    /// A raw `;`, allowed by name.
    Semicolon,
    /// `%23`, allowed by name. It stands decoded: no raw one is ever in a path.
    Hash,
}

impl Mark {
    /// How it is forwarded.
    fn sent(self) -> &'static str {
        if self == Self::Hash { "%23" } else { self.text() }
    }

    /// How it stands in [`Scanned::written`].
    fn text(self) -> &'static str {
        match self {
            Self::EncodedSlash => "%2F",
            Self::Semicolon => ";",
            Self::Hash => "#",
        }
    }
}

fn scan(path: &str, forms: PathForms) -> Result<Scanned, PathError> {
    let mut forwarded = String::with_capacity(path.len());
    let mut decoded: Vec<u8> = Vec::with_capacity(path.len());
    let mut marks: Vec<(usize, Mark)> = Vec::new();
    let params_allowed = forms.allow_path_params || forms.like == Some(Like::Tomcat);
    let mut rest = path;
    loop {
        // What stands for itself goes over in runs; every byte before the end of one is ASCII.
        let run = rest.bytes().position(|b| CLASS[usize::from(b)] == SLOW).unwrap_or(rest.len());
        let (literal, tail) = rest.split_at(run);
        forwarded.push_str(literal);
        decoded.extend_from_slice(literal.as_bytes());
        let Some(&byte) = tail.as_bytes().first() else { break };
        let mark = match byte {
            b'%' => {
                let Some(value) = tail.as_bytes().get(1..3).and_then(hex_pair) else {
                    return Err(PathError::BrokenEscape);
                };
                rest = tail.get(3..).unwrap_or_default();
                match value {
                    b'/' if forms.allow_encoded_slash => Mark::EncodedSlash,
                    b'/' => return Err(PathError::EncodedSlash),
                    b'#' if forms.allow_encoded_hash => Mark::Hash,
                    b'#' => return Err(PathError::EncodedHash),
                    b'\\' | b';' | b'?' => return Err(PathError::EncodedDelimiter),
                    0..=0x1f | 0x7f => return Err(PathError::Control),
                    _ => {
                        decoded.push(value);
                        if value.is_ascii_alphanumeric() || b"-._~".contains(&value) {
                            forwarded.push(char::from(value));
                        } else {
                            forwarded.push('%');
                            forwarded.push(upper_hex(value >> 4));
                            forwarded.push(upper_hex(value & 0xf));
                        }
                        continue;
                    }
                }
            }
            b';' if params_allowed => {
                rest = tail.get(1..).unwrap_or_default();
                Mark::Semicolon
            }
            b';' => return Err(PathError::PathParameters),
            b'\\' => return Err(PathError::Backslash),
            0..=0x1f | 0x7f => return Err(PathError::Control),
            0x80.. => return Err(PathError::RawNonAscii),
            _ => return Err(PathError::RawCharacter),
        };
        marks.push((decoded.len(), mark));
        decoded.extend_from_slice(mark.text().as_bytes());
        forwarded.push_str(mark.sent());
    }
    // Overlong forms and lone surrogates are not UTF-8 to Rust, so they end here.
    let written = String::from_utf8(decoded).map_err(|_| PathError::NotUtf8)?;
    check_decoded(&written, &marks)?;
    let has = |kind| marks.iter().any(|(_, mark)| *mark == kind);
    let (encoded_slash, params, hash) = (has(Mark::EncodedSlash), has(Mark::Semicolon), has(Mark::Hash));
    Ok(Scanned { written, marks, forwarded, encoded_slash, params, hash })
}

/// What escapes may not hide.
fn check_decoded(text: &str, marks: &[(usize, Mark)]) -> Result<(), PathError> {
    // Those of ASCII were refused as bytes.
    if !text.is_ascii() && text.chars().any(char::is_control) {
        return Err(PathError::Control);
    }
    // Whoever decodes twice would see another path. It is looked for in the decoded text, for
    // `%25%32%66` says the same as `%252f` (S-PATH-5).
    for (at, _) in text.match_indices('%') {
        // The slash that was allowed by name.
        if marks.binary_search_by_key(&at, |(mark, _)| *mark).is_ok() {
            continue;
        }
        let from = &text[at + 1..];
        let hex = |n: usize, s: &str| s.len() >= n && s.bytes().take(n).all(|b| b.is_ascii_hexdigit());
        let unicode = from.strip_prefix(['u', 'U']).is_some_and(|s| hex(4, s));
        if hex(2, from) || unicode {
            return Err(PathError::DoubleEscape);
        }
    }
    Ok(())
}

/// One reading of what was scanned, as text.
fn read(scanned: &Scanned, params: Params, open_slashes: bool, ends_at_hash: bool) -> String {
    let mut out = String::with_capacity(scanned.written.len());
    let (mut from, mut cutting) = (0, false);
    let end = (scanned.written.len(), None);
    for (at, mark) in scanned.marks.iter().map(|(at, mark)| (*at, Some(*mark))).chain([end]) {
        let literal = &scanned.written[from..at];
        // A parameter ends with its segment.
        let kept = if cutting { literal.find('/').map(|slash| &literal[slash..]) } else { Some(literal) };
        cutting = kept.is_none();
        out.push_str(kept.unwrap_or_default());
        let Some(mark) = mark else { break };
        from = at + mark.text().len();
        match mark {
            Mark::EncodedSlash if open_slashes && !(cutting && params == Params::CutAsWritten) => {
                cutting = false;
                out.push('/');
            }
            Mark::Hash if ends_at_hash => break,
            Mark::Semicolon if params == Params::End => break,
            Mark::Semicolon if matches!(params, Params::Cut | Params::CutAsWritten) => cutting = true,
            _ if cutting => {}
            Mark::EncodedSlash | Mark::Semicolon | Mark::Hash => out.push_str(mark.text()),
        }
    }
    out
}

fn merge(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !out.ends_with('/') {
            out.push(c);
        }
    }
    out
}

/// The path without blanks at the ends of its segments and beside their dots (`/x%20.json` cut is
/// `/x%20`), and without the empty segments that this leaves; `None` where there are none.
fn trim(path: &str) -> Option<String> {
    if !has_blank_at_an_edge(path) {
        return None;
    }
    let mut out = String::with_capacity(path.len());
    let mut blanks = String::new();
    for c in path.chars() {
        if is_blank(c) {
            blanks.push(c);
            continue;
        }
        let inside = !out.ends_with(['/', '.']) && !matches!(c, '/' | '.');
        if inside {
            out.push_str(&blanks);
        }
        blanks.clear();
        if c != '/' || !out.ends_with('/') {
            out.push(c);
        }
    }
    (out != path).then_some(out)
}

/// Whether [`trim`] finds something: most blanks stand between two words.
fn has_blank_at_an_edge(path: &str) -> bool {
    let (mut last, mut after_blank) = ('/', false);
    let (mut blanks, mut doubled) = (false, false);
    for c in path.chars().skip(1) {
        if is_blank(c) {
            (blanks, after_blank) = (true, true);
            continue;
        }
        if after_blank && (matches!(last, '/' | '.') || matches!(c, '/' | '.')) {
            return true;
        }
        doubled |= c == '/' && last == '/';
        (last, after_blank) = (c, false);
    }
    after_blank || (blanks && doubled)
}

/// What some language's `trim` takes away: white space, and what Unicode or ECMAScript once or
/// still count as such (a Mongolian separator, the byte order mark).
fn is_blank(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{180e}' | '\u{feff}')
}

/// `.` and `..`, also before a parameter: `/static/..;/admin` is `/admin` to Tomcat.
fn check_dots(path: &str) -> Result<(), PathError> {
    // A segment begins behind a slash or the F of an escaped one, and most paths have no dot there.
    if !path.as_bytes().contains(&b'.') {
        return Ok(());
    }
    if !path.starts_with('.') && !path.as_bytes().windows(2).any(|w| matches!(w, b"/." | b"F.")) {
        return Ok(());
    }
    let dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    // An escaped slash in the text (`..%2F`) counts as a separator here whatever the reading.
    if path.split('/').flat_map(|s| s.split("%2F")).any(dots) { Err(PathError::DotSegment) } else { Ok(()) }
}

/// Forms that Windows file systems and IIS read as another name.
fn check_windows(path: &str, iis: bool) -> Result<(), PathError> {
    for segment in path.split('/') {
        if segment.ends_with(['.', ' ']) {
            return Err(PathError::TrailingDotOrSpace);
        }
        if !iis {
            continue;
        }
        if segment.contains(':') {
            return Err(PathError::Colon);
        }
        let mut chars = segment.chars();
        while chars.by_ref().any(|c| c == '~') {
            if chars.as_str().starts_with(|c: char| c.is_ascii_digit()) {
                return Err(PathError::ShortName);
            }
        }
        // `(S(id))`, `(A(..)F(..))`: ASP.NET cuts the segment out.
        let inner = segment.strip_prefix('(').unwrap_or_default();
        if inner.starts_with(|c: char| c.is_ascii_alphabetic()) && inner[1..].starts_with('(') {
            return Err(PathError::CookielessSession);
        }
        if segment.chars().any(best_fit) {
            return Err(PathError::BestFit);
        }
    }
    Ok(())
}

/// Whether a character outside ASCII turns into an ASCII one by compatibility mapping, by letter
/// case, or by the best-fit tables of Windows code pages.
fn best_fit(c: char) -> bool {
    /// Slashes, backslashes and dots of the best-fit tables that NFKC leaves alone.
    const LOOKALIKE: [char; 8] =
        ['\u{2044}', '\u{2215}', '\u{2216}', '\u{29f5}', '\u{29f8}', '\u{00a5}', '\u{20a9}', '\u{2024}'];
    !c.is_ascii()
        && (LOOKALIKE.contains(&c)
            || std::iter::once(c).nfkc().any(|n| n.is_ascii())
            || c.to_uppercase().chain(c.to_lowercase()).any(|n| n.is_ascii()))
}

fn hex_pair(pair: &[u8]) -> Option<u8> {
    let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?)
}

fn upper_hex(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase()
}
