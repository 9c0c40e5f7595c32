//! Which cookies of a request are ours, in whatever spelling somebody would read them?
//!
//! Browsers, proxies and apps disagree about cookie names: PHP turns `.` and blanks into `_` and
//! once decoded `%`, Python trims U+2000, RFC 2109 parsers split at `,` and heed `$Version` and
//! quotes, and a nameless cookie `=name=v` prints as `name=v`. So a name is folded before it is
//! compared: what folds to a name of ours is never given to an app (S-ID-8) and never taken for
//! the real one (S-COOK-2).

use http::HeaderMap;
use http::header::{COOKIE, HeaderValue};

/// Every cookie name of ours begins so, folded: the session's is this very name, and those of
/// sign-in flow, nonce and device go on with a dash.
const FOLDED: &str = "__host-http-stepgate";

/// One piece between semicolons that is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ours<'h> {
    /// The session cookie in its one right spelling.
    Session(&'h [u8]),
    /// What some reader would take for the session cookie.
    SessionMisspelt,
    /// Another cookie of ours, in any spelling.
    Other,
}

/// Whether a cookie that a browser keeps as this `name=value` comes back as one of ours to some
/// reader, what stands after a comma and what a nameless cookie holds included: an app may not set
/// it (S-COOK-3), and never sees it.
#[must_use]
pub fn carries_ours(pair: &[u8]) -> bool {
    classify(pair).is_some()
}

/// Takes our cookies out of what an app will see, and joins several fields into one with `; `
/// (HTTP/2 clients split them, HTTP/1 apps expect one). The other cookies keep every byte.
pub fn strip_ours(headers: &mut HeaderMap) {
    let mut fields = headers.get_all(COOKIE).iter();
    let (first, second) = (fields.next(), fields.next());
    match (first, second) {
        (None, _) => return,
        // The common case of a public asset: nothing to do, nothing allocated.
        (Some(only), None) if pieces(only.as_bytes()).all(|piece| classify(piece).is_none()) => return,
        _ => {}
    }
    let mut kept: Vec<u8> = Vec::with_capacity(first.map_or(0, HeaderValue::len));
    for field in headers.get_all(COOKIE) {
        let mut separator: &[u8] = b"; ";
        for piece in pieces(field.as_bytes()) {
            if classify(piece).is_some() {
                continue;
            }
            if kept.is_empty() {
                kept.extend_from_slice(piece.trim_ascii_start());
            } else {
                kept.extend_from_slice(separator);
                kept.extend_from_slice(if separator == b"; " { piece.trim_ascii_start() } else { piece });
            }
            separator = b";";
        }
    }
    headers.remove(COOKIE);
    // Bytes of header values stay header values when cut and joined by `; `.
    if let (false, Ok(value)) = (kept.is_empty(), HeaderValue::from_maybe_shared(bytes::Bytes::from(kept))) {
        headers.insert(COOKIE, value);
    }
}

/// The pieces of all Cookie fields that are ours.
pub(super) fn ours(headers: &HeaderMap) -> impl Iterator<Item = Ours<'_>> {
    headers.get_all(COOKIE).iter().flat_map(|field| pieces(field.as_bytes())).filter_map(classify)
}

fn pieces(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    // Quotes do not protect a semicolon here: browsers send none, and a reader that heeds them
    // sees fewer cookies than we do, never more.
    field.split(|b| *b == b';')
}

/// One walk over the piece: a comma starts a cookie to RFC 2109 readers, and so does the value of a
/// nameless one. Every byte is looked at a bounded number of times, for a field of 16 KiB of commas
/// costs its sender nothing.
fn classify(piece: &[u8]) -> Option<Ours<'_>> {
    let piece = piece.trim_ascii();
    let mut parts = piece.split(|b| *b == b',').peekable();
    let mut first = true;
    while let Some(part) = parts.next() {
        let at_start = std::mem::replace(&mut first, false);
        let inner = nameless(part);
        let name = name_of(inner);
        let valued = name.len() < inner.len();
        match classify_name(name) {
            Some(Name::Session) if at_start && valued && piece.starts_with(super::cookie::NAME_EQUALS) => {
                return piece.get(super::cookie::NAME_EQUALS.len()..).map(Ours::Session);
            }
            // `name,x=1`: the comma stands in the name, which makes it another one.
            Some(Name::Session) if !valued && parts.peek().is_some() => return Some(Ours::Other),
            Some(Name::Session) => return Some(Ours::SessionMisspelt),
            Some(Name::Other) => return Some(Ours::Other),
            None => {}
        }
    }
    None
}

/// What is left without the `=` and blanks that a nameless cookie begins with.
fn nameless(part: &[u8]) -> &[u8] {
    let start = part.iter().position(|b| *b != b'=' && !b.is_ascii_whitespace()).unwrap_or(part.len());
    part.get(start..).unwrap_or_default()
}

/// The names under which a browser keeps what some reader takes for the session cookie: clearing
/// the cookie takes naming its carrier (`theme` for `theme=1,__Host-Http-stepgate=x`). Empty for a
/// nameless cookie.
pub(super) fn carriers(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let is_session = |piece: &&[u8]| matches!(classify(piece), Some(Ours::Session(_) | Ours::SessionMisspelt));
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|field| pieces(field.as_bytes()))
        .filter(is_session)
        .map(|piece| name_of(piece.trim_ascii()).trim_ascii_end())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Session,
    Other,
}

fn name_of(piece: &[u8]) -> &[u8] {
    let end = piece.iter().position(|b| *b == b'=').unwrap_or(piece.len());
    piece.get(..end).unwrap_or_default()
}

fn classify_name(name: &[u8]) -> Option<Name> {
    // Folding takes away and never adds: what is shorter folds to no name of ours.
    if name.len() < FOLDED.len() {
        return None;
    }
    if name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
        // Nothing to fold but case: nearly every cookie there is.
        let (head, rest) = name.split_at_checked(FOLDED.len())?;
        return head.eq_ignore_ascii_case(FOLDED.as_bytes()).then(|| kind(rest.is_empty()));
    }
    let found = |blank| fold(name, blank).strip_prefix(FOLDED).map(|rest| kind(rest.is_empty()));
    // `_ Host-Http-stepgate` is the session cookie to PHP.
    found(None).or_else(|| found(Some('_')))
}

/// A cookie's name as the most forgiving of readers sees it.
pub(super) fn folded(name: &[u8]) -> String {
    fold(name, None)
}

/// Whether some reader finds a cookie in this piece whose folded name is one that `wanted` says: PHP makes
/// `_` of a blank, Python begins a cookie behind any blank, readers of RFC 2109 behind a comma, Tomcat's
/// old one skips separators before a name, and WebOb takes up where a value may not go on. What stands
/// before each `=` is looked at a bounded number of times.
pub(super) fn names_any(piece: &[u8], wanted: impl Fn(&str) -> bool) -> bool {
    let is = |name: &[u8]| {
        let may_blank = name.iter().any(|b| matches!(b, b' ' | b'+' | b'%'));
        wanted(&fold(name, None)) || (may_blank && wanted(&fold(name.trim_ascii_end(), Some('_'))))
    };
    let begins_odd = |part: &[u8]| part.first().is_some_and(|b| !is_token(*b));
    piece
        .split(|b| *b == b',')
        .map(nameless)
        .any(|part| is(name_of(part)) || (begins_odd(part) && is(from(part, is_token))))
        || piece.split_inclusive(|b| *b == b'=').filter_map(|text| text.strip_suffix(b"=")).any(|text| {
            let end = text.iter().rposition(|b| is_token(*b)).map_or(0, |last| last + 1);
            let text = text.get(..end).unwrap_or_default();
            let after = |is: fn(u8) -> bool| text.iter().rposition(|b| is(*b)).and_then(|at| text.get(at + 1..));
            after(begins).into_iter().chain(after(begins_anew)).any(is)
        })
}

/// RFC 9110 section 5.6.2.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// What some reader begins a cookie behind, in the middle of another's value. Not what addresses are made
/// of: no reader does, and apps keep `/page?sid=1` in cookies.
fn begins(b: u8) -> bool {
    !is_token(b) && !b"/?:@".contains(&b)
}

/// Those that readers do not also skip within a name.
fn begins_anew(b: u8) -> bool {
    begins(b) && !b.is_ascii_whitespace() && b != b'"'
}

/// From the first byte that is one of these up to the next `=`.
fn from(part: &[u8], first: fn(u8) -> bool) -> &[u8] {
    let start = part.iter().position(|b| first(*b)).unwrap_or(part.len());
    name_of(part.get(start..).unwrap_or_default())
}

fn kind(whole: bool) -> Name {
    if whole { Name::Session } else { Name::Other }
}

/// Percent-decoded, without controls, quotes and invisible characters of any kind, in lower case, with
/// `.` and `[` as `_`. Blanks go too, or become `blank` but at the start. A `+` is one: PHP decoded
/// names as it does those of a form until CVE-2020-7070.
fn fold(name: &[u8], blank: Option<char>) -> String {
    let decoded: Vec<u8> = percent_encoding::percent_decode(name).collect();
    let mut out = String::with_capacity(decoded.len());
    for chunk in decoded.utf8_chunks() {
        for c in chunk.valid().chars() {
            if matches!(c, ' ' | '+') {
                out.extend(blank.filter(|_| !out.is_empty()));
                continue;
            }
            let invisible = c.is_whitespace()
                || c.is_control()
                || matches!(c, '\u{00ad}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                    | '\u{2060}'..='\u{206f}' | '\u{feff}');
            if !invisible && !matches!(c, '"' | '\'') {
                out.push(if matches!(c, '.' | '[') { '_' } else { c.to_ascii_lowercase() });
            }
        }
        // Bytes that are no UTF-8: 0x85 and 0xA0 are blanks in Latin-1, others make another name.
        if chunk.invalid().iter().any(|b| !matches!(b, 0x80..=0xa0)) {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(COOKIE, HeaderValue::from_bytes(field).unwrap());
        }
        headers
    }

    fn stripped(fields: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut headers = headers(fields);
        strip_ours(&mut headers);
        headers.get_all(COOKIE).iter().map(|v| v.as_bytes().to_vec()).collect()
    }

    /// Spellings that some browser, parser or framework reads as the session cookie.
    const SPELLINGS: [&[u8]; 27] = [
        b"__Host-Http-stepgate=T",
        b"__host-http-stepgate=T",
        b"__HOST-HTTP-STEPGATE=T",
        b"  __Host-Http-stepgate=T",
        b"\t__Host-Http-stepgate =T",
        b"__Host-Http-stepgate = T",
        b"\xe2\x80\x80__Host-Http-stepgate=T",
        b"__Host-Http-stepgate\xe2\x80\x8b=T",
        b"\xc2\xa0__Host-Http-stepgate=T",
        b"\xa0__Host-Http-stepgate=T",
        b"\x85__Host-Http-stepgate=T",
        b"\"__Host-Http-stepgate\"=T",
        b"__Host-Http-stepgate=\"T\"",
        b"=__Host-Http-stepgate=T",
        b"==__Host-Http-stepgate=T",
        b"= __Host-Http-stepgate=T",
        b"__Host-Http-stepgate",
        b"..Host-Http-stepgate=T",
        b"_.Host-Http-stepgate=T",
        b"%5f%5FHost-Http-stepgat%65=T",
        b"+__Host-Http-stepgate=T",
        b"+ %2B__Host-Http-stepgate+=T",
        b"_ Host-Http-stepgate=T",
        b"_+Host-Http-stepgate=T",
        b"%20%5f%20Host-Http-stepgate=T",
        b"a=b, __Host-Http-stepgate=T",
        b"a=\"x, __Host-Http-stepgate=T\"",
    ];

    #[test]
    fn s_id_8_our_cookies_reach_no_app_in_any_spelling() {
        for spelling in SPELLINGS {
            let line = [b"$Version=1; theme=dark; ", spelling, b"; $Path=/; lang=de"].concat();
            let left = stripped(&[&line]);
            assert_eq!(
                left,
                [b"$Version=1; theme=dark; $Path=/; lang=de".to_vec()],
                "{}",
                String::from_utf8_lossy(spelling)
            );
        }
        for other in ["__Host-Http-stepgate-flow", "__Host-Http-stepgate-nonce", "__HOST-http-stepgate-device"] {
            assert!(stripped(&[format!("{other}=x").as_bytes()]).is_empty(), "{other}");
            assert!(carries_ours(other.as_bytes()));
        }
    }

    #[test]
    fn the_other_cookies_keep_every_byte() {
        let odd: &[u8] = b"a=\"1; 2\";b==x; c; \xff=\xfe;d=__Host-Http-stepgate; stepgate=1;  e=f=g ";
        assert_eq!(stripped(&[odd]), [odd.to_vec()]);
        assert_eq!(stripped(&[b"a=1;__Host-Http-stepgate=T;b=2; c=3"]), [b"a=1;b=2; c=3".to_vec()]);
        assert_eq!(stripped(&[b"__Host-Http-stepgate=T; a=1"]), [b"a=1".to_vec()]);
        assert_eq!(stripped(&[b"a=1; __Host-Http-stepgate=T"]), [b"a=1".to_vec()]);
        assert!(stripped(&[b"__Host-Http-stepgate=T"]).is_empty());
        assert!(stripped(&[]).is_empty());
    }

    #[test]
    fn several_fields_become_one_line() {
        assert_eq!(stripped(&[b"a=1", b"__Host-Http-stepgate=T", b"b=2;c=3"]), [b"a=1; b=2;c=3".to_vec()]);
        assert_eq!(stripped(&[b"a=1", b"b=2"]), [b"a=1; b=2".to_vec()]);
        assert_eq!(stripped(&[b"__Host-Http-stepgate=T", b" a=1"]), [b"a=1".to_vec()]);
    }

    #[test]
    fn a_field_of_commas_is_read_in_one_walk() {
        // Once quadratic and one stack frame for each: 16 KiB took the thread down.
        for line in [b",".repeat(16_000), b"=".repeat(16_000), b"\xa0,".repeat(8_000), b"=,".repeat(8_000)] {
            assert_eq!(classify(&line), None);
            let ours = [line.as_slice(), b",__Host-Http-stepgate=x"].concat();
            assert_eq!(classify(&ours), Some(Ours::SessionMisspelt));
        }
    }

    #[test]
    fn a_comma_in_the_name_makes_another_name_that_is_still_kept_from_apps() {
        for piece in [&b"__Host-Http-stepgate,x=1"[..], b"a=1,__Host-Http-stepgate,b=2"] {
            assert_eq!(classify(piece), Some(Ours::Other), "{}", String::from_utf8_lossy(piece));
        }
        assert_eq!(classify(b"a=1,b=2,c"), None);
    }

    #[test]
    fn names_that_only_resemble_ours_are_the_apps_own() {
        for name in
            ["stepgate", "__Host-stepgate", "__Host-Http-stepgat", "x__Host-Http-stepgate", "Host-Http-stepgate"]
        {
            assert!(!carries_ours(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn only_one_spelling_is_the_real_one() {
        for spelling in SPELLINGS {
            let map = headers(&[spelling]);
            let found: Vec<_> = ours(&map).collect();
            let real = [&b"T"[..], b"\"T\"", b" T"];
            match found.as_slice() {
                [Ours::Session(value)] => {
                    assert!(real.contains(value) && spelling.trim_ascii().starts_with(b"__Host-Http-stepgate="));
                }
                [Ours::SessionMisspelt] => {}
                other => panic!("{}: {other:?}", String::from_utf8_lossy(spelling)),
            }
        }
    }
}
