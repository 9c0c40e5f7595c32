//! What a rule's `match` selects.

use std::borrow::Cow;
use std::cell::RefCell;

use http::Method;

use super::hours::Hours;
use super::pattern::PathPattern;
use super::rule::Who;
use crate::base::clock::Timestamp;
use crate::base::net::{ClientIp, NetworkSet};
use crate::domain::authn::{Authn, AuthnContext};
use crate::domain::path::{Reading, fold};
use crate::domain::user::{GroupName, UserName};

/// All conditions of one `match`; every one that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    /// Any of these; every path when empty.
    pub paths: Vec<PathPattern>,
    /// Any of these; GET covers HEAD (S-PATH-6). Every method when empty.
    pub methods: Vec<Method>,
    pub query: Vec<QueryCondition>,
    /// The names as the file gives them stand beside, for a trace.
    pub from: Option<(String, NetworkSet)>,
    pub hours: Option<Hours>,
    /// Any of these; a stranger is none of them.
    pub who: Vec<Who>,
}

/// `query: { NAME: [VALUE, ...] }`: the parameter has one of the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryCondition {
    written: String,
    /// As the laxest app has it.
    name: String,
    values: Vec<String>,
    folded_values: Vec<String>,
}

/// Where one parameter ends and the next begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separators {
    /// `&` alone, as the URL standard has it.
    Ampersand,
    /// `;` too, as HTML 4 advised (appendix B.2.2): Rack 2, Python before 3.9.2, Perl's CGI.
    SemicolonToo,
}

impl Separators {
    /// The ways that differ for this query.
    fn of(query: &str) -> &'static [Self] {
        if query.contains(';') { &[Self::Ampersand, Self::SemicolonToo] } else { &[Self::Ampersand] }
    }
}

/// The parameters of a query, in one way of reading it. Taken apart once: it is held against many rules, for
/// every reading of the path, and may have thousands of parameters.
#[derive(Debug, Default)]
pub(super) struct Query<'a> {
    fields: Vec<Field<'a>>,
    /// How far it meets a condition, if an app folds or not; the path has no part in that.
    met: RefCell<Vec<(*const QueryCondition, bool, Meets)>>,
}

#[derive(Debug)]
struct Field<'a> {
    /// Its place among the pieces.
    at: usize,
    name: Cow<'a, str>,
    /// The name as the laxest apps have it.
    readings: Vec<String>,
    value: Cow<'a, str>,
}

impl<'a> Query<'a> {
    /// Every way to read it that differs from the others.
    pub(super) fn each_way(text: &'a str) -> Vec<Self> {
        let read = |separators: &Separators| {
            let fields = fields(text, *separators).map(|(at, (name, value))| Field {
                at,
                readings: readings(&name).collect(),
                name,
                value,
            });
            Self { fields: fields.collect(), met: RefCell::default() }
        };
        Separators::of(text).iter().map(read).collect()
    }

    fn meets(&self, condition: &QueryCondition, folded: bool) -> Meets {
        let mut met = self.met.borrow_mut();
        let known = met.iter().find(|(one, fold, _)| std::ptr::eq(*one, condition) && *fold == folded);
        if let Some((_, _, meets)) = known {
            return *meets;
        }
        let meets = condition.meets(&self.fields, folded);
        met.push((condition, folded, meets));
        meets
    }
}

/// How far a query meets a condition. Of a parameter that stands there more than once an app may take
/// the first, the last, or each in turn; it may fold a name or not, and trim a value or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Meets {
    No,
    /// Whichever value the app takes, or not: that depends on it.
    ByChoice,
    Surely,
}

/// What a rule is held against.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) reading: Reading<'a>,
    pub(super) method: &'a Method,
    pub(super) query: &'a Query<'a>,
    pub(super) client: ClientIp,
    pub(super) authn: &'a Authn,
    pub(super) now: Timestamp,
}

/// The first condition that did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    Path,
    Method,
    Query,
    From,
    Hours,
    /// Somebody is signed in and is none of `who`.
    Who,
    /// Nobody is signed in, so `who` cannot hold; everything else does.
    WhoUnknown,
}

impl Matcher {
    /// `Ok` when every condition holds. `who` comes last: a stranger who misses by it alone is
    /// asked to sign in.
    pub(super) fn check(&self, view: &View<'_>) -> Result<(), Miss> {
        if !self.takes(view.method) {
            return Err(Miss::Method);
        }
        if !self.has_path(&view.reading) {
            return Err(Miss::Path);
        }
        if self.meets_query(view) == Meets::No {
            return Err(Miss::Query);
        }
        if self.from.as_ref().is_some_and(|(_, set)| !set.contains(view.client)) {
            return Err(Miss::From);
        }
        if self.hours.as_ref().is_some_and(|hours| !hours.holds(view.now)) {
            return Err(Miss::Hours);
        }
        if self.who.is_empty() {
            return Ok(());
        }
        match view.authn {
            Authn::Anonymous => Err(Miss::WhoUnknown),
            Authn::Known(context) if self.who.iter().any(|who| who.is(context)) => Ok(()),
            Authn::Known(_) => Err(Miss::Who),
        }
    }

    /// Whether it holds only if the app takes one value of a parameter and not another: then the rules
    /// below may decide as well (S-PATH-8).
    pub(super) fn is_one_choice(&self, view: &View<'_>) -> bool {
        self.meets_query(view) == Meets::ByChoice
    }

    fn meets_query(&self, view: &View<'_>) -> Meets {
        let each = self.query.iter().map(|c| view.query.meets(c, view.reading.folded));
        each.min().unwrap_or(Meets::Surely)
    }

    pub(super) fn has_path(&self, reading: &Reading<'_>) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|p| p.matches(reading))
    }

    fn has_method(&self, method: &Method) -> bool {
        self.methods.iter().any(|m| m == method || (*m == Method::GET && *method == Method::HEAD))
    }

    /// Whether this method is meant.
    pub(super) fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.has_method(method)
    }

    /// Whether more than path and method must hold.
    #[must_use]
    pub fn has_further_conditions(&self) -> bool {
        !self.query.is_empty() || self.from.is_some() || self.hours.is_some() || !self.who.is_empty()
    }

    /// Whether folding letter case changes what this selects.
    pub(super) fn folds(&self) -> bool {
        !self.query.is_empty() || self.paths.iter().any(PathPattern::folds)
    }

    /// Whether this surely selects everything that `other` selects; `false` is always safe to say.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let paths = self.paths.is_empty()
            || (!other.paths.is_empty() && other.paths.iter().all(|p| self.paths.iter().any(|q| q.covers(p))))
            || self.paths.iter().any(|q| q.as_str() == "/**");
        let methods =
            self.methods.is_empty() || (!other.methods.is_empty() && other.methods.iter().all(|m| self.has_method(m)));
        let from = match (&self.from, &other.from) {
            (None, _) => true,
            (Some((_, ours)), Some((_, theirs))) => theirs.iter().all(|t| ours.iter().any(|o| o.contains(t))),
            (Some(_), None) => false,
        };
        let hours = self.hours.is_none() || self.hours == other.hours;
        let query = self.query.iter().all(|c| other.query.contains(c));
        let who = self.who.is_empty() || (!other.who.is_empty() && other.who.iter().all(|w| self.who.contains(w)));
        paths && methods && from && hours && query && who
    }
}

impl Who {
    /// Whether a signed-in person is meant.
    #[must_use]
    pub fn is(&self, context: &AuthnContext) -> bool {
        self.names(&context.name, &context.groups)
    }

    /// Whether the account with this name and these groups is meant.
    #[must_use]
    pub fn names(&self, name: &UserName, groups: &[GroupName]) -> bool {
        match self {
            Self::Anyone => true,
            Self::User(user) => user == name,
            Self::Group(group) => groups.contains(group),
        }
    }
}

impl QueryCondition {
    #[must_use]
    pub fn new(name: &str, values: Vec<String>) -> Self {
        let folded_values = values.iter().map(|v| fold(v)).collect();
        Self { written: name.to_owned(), name: fold_name(name), values, folded_values }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As the file has it.
    #[must_use]
    pub fn written(&self) -> &str {
        &self.written
    }

    #[must_use]
    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// Only what stands as the rule has it surely meets it: whatever else PHP and others may make of a
    /// name or a value, a folded reading included, they may as well leave as it is.
    fn meets(&self, fields: &[Field<'_>], folded: bool) -> Meets {
        // Twice it is a list to some apps, of one value too.
        let (mut some, mut all, mut count) = (false, true, 0_usize);
        for field in fields {
            let named = self.is_named(field);
            if named == Meets::No {
                continue;
            }
            let seen = if field.at < SURELY_READ { Meets::Surely } else { Meets::ByChoice };
            let fit = named.min(self.has_value(&field.value, folded)).min(seen);
            (some, all) = (some | (fit > Meets::No), all & (fit == Meets::Surely));
            count += 1;
        }
        match (some, all && count == 1) {
            (false, _) => Meets::No,
            (true, false) => Meets::ByChoice,
            (true, true) => Meets::Surely,
        }
    }
}

impl QueryCondition {
    fn is_named(&self, field: &Field<'_>) -> Meets {
        if field.name == self.written {
            return Meets::Surely;
        }
        if field.readings.contains(&self.name) { Meets::ByChoice } else { Meets::No }
    }

    fn has_value(&self, value: &str, folded: bool) -> Meets {
        if self.values.iter().any(|v| v == value) {
            return Meets::Surely;
        }
        let trimmed = trimmed(value);
        let fits = if folded {
            let (value, trimmed) = (fold(value), fold(trimmed));
            self.folded_values.iter().any(|v| *v == value || *v == trimmed)
        } else {
            self.values.iter().any(|v| v == trimmed)
        };
        if fits { Meets::ByChoice } else { Meets::No }
    }
}

/// So many pieces of a query every app reads: PHP, Tomcat, ASP.NET and Express look at the first 1000, empty
/// ones too, and say nothing of the rest.
const SURELY_READ: usize = 256;

/// The decoded names and values of a query or form, each with its place among the pieces.
fn fields(text: &str, separators: Separators) -> impl Iterator<Item = (usize, (Cow<'_, str>, Cow<'_, str>))> {
    let semicolons = separators == Separators::SemicolonToo;
    let pieces = text.split(move |c| c == '&' || (semicolons && c == ';')).enumerate();
    pieces.flat_map(|(at, piece)| {
        // Not every app reads it so: its place is behind those that are surely read.
        let by_unicode = without_unicode_escapes(piece).and_then(|piece| {
            let (name, value) = form_urlencoded::parse(piece.as_bytes()).next()?;
            Some((SURELY_READ, (Cow::Owned(name.into_owned()), Cow::Owned(value.into_owned()))))
        });
        form_urlencoded::parse(piece.as_bytes()).map(move |field| (at, field)).chain(by_unicode)
    })
}

/// `%u0064` is a `d` to ASP, ASP.NET and Jetty before its version 10.
fn without_unicode_escapes(piece: &str) -> Option<String> {
    let mut parts = piece.split("%u").flat_map(|part| part.split("%U"));
    let mut out = parts.next()?.to_owned();
    let mut any = false;
    for part in parts {
        let code = part.get(..4).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match code.and_then(|hex| char::from_u32(u32::from_str_radix(hex, 16).ok()?)) {
            Some(c) => {
                any = true;
                out.extend(form_urlencoded::byte_serialize(c.encode_utf8(&mut [0; 4]).as_bytes()));
                out.push_str(part.get(4..).unwrap_or_default());
            }
            None => {
                out.push_str("%u");
                out.push_str(part);
            }
        }
    }
    any.then_some(out)
}

/// A parameter's name as the laxest apps have it, each in its own way.
fn readings(name: &str) -> impl Iterator<Item = String> {
    let bare = bare_name(name);
    let has_signs = bare.contains(['[', ']', '?']);
    // In `do[it` no element is named: PHP makes it `do_it`, others cut it all the same.
    let as_a_sign = has_signs.then(|| fold_signs(bare));
    // To Rack 2 and qs (Express 4) `[do]` is `do`, to Rack `]do` and `do]` are, and `?do` is to
    // `URLSearchParams`.
    let passed_over = has_signs.then(|| {
        let inner = bare.trim_start_matches(['[', ']', '?']);
        fold_signs(inner.split(['[', ']']).next().unwrap_or_default())
    });
    std::iter::once(fold_name(name)).chain(as_a_sign).chain(passed_over)
}

/// A value as an app has it that trims what it is given: Java takes controls for blanks, JavaScript U+FEFF.
fn trimmed(value: &str) -> &str {
    value.trim_matches(|c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}')
}

/// Parameter names as the laxest app folds them: letter case, and `.`, space and `[` as `_`; what
/// follows `[` says which element of an array is meant, so it is cut (S-PATH-8). PHP ends a name at
/// a NUL.
fn fold_name(name: &str) -> String {
    let name = bare_name(name);
    fold_signs(match name.find('[') {
        Some(at) if at > 0 => name.get(..at).unwrap_or(name),
        _ => name,
    })
}

/// Blanks go before anything is cut: in ` [method` the bracket is what the name begins with.
fn bare_name(name: &str) -> &str {
    name.split('\0').next().unwrap_or_default().trim_start()
}

fn fold_signs(name: &str) -> String {
    fold(name).replace(['.', ' ', '['], "_")
}

/// Methods that `_method` in a query or form may turn a request into (Rack, Laravel, Symfony); an
/// app may take the first or the last, and split at `;` or not, so all of them are judged (S-PATH-6).
#[must_use]
pub fn override_methods(query: Option<&str>) -> Vec<Method> {
    let Some(query) = query else { return Vec::new() };
    // Nearly every query has none: say so without decoding it.
    if !may_name_a_method(query.as_bytes()) {
        return Vec::new();
    }
    let split_further = query.contains(';').then(|| fields(query, Separators::SemicolonToo));
    fields(query, Separators::Ampersand)
        .chain(split_further.into_iter().flatten())
        .map(|(_, field)| field)
        .filter(|(name, _)| is_override_name(name))
        .filter_map(|(_, value)| override_method(&value))
        .collect()
}

/// The method that a field of such a name turns a request into.
#[must_use]
pub fn override_method(value: &str) -> Option<Method> {
    Method::from_bytes(trimmed(value).to_ascii_uppercase().as_bytes()).ok()
}

/// Whether a form field of this name, as some framework folds it, turns a request's method.
#[must_use]
pub fn is_override_name(name: &str) -> bool {
    readings(name).any(|name| matches!(name.as_str(), "_method" | "x-http-method-override"))
}

/// Whether an escape, a `+` or the word `method` stands in it. A body of 64 KiB is asked too: the blocks
/// become a few wide comparisons each, and only where `m` and `h` stand as in the word it is looked for.
fn may_name_a_method(text: &[u8]) -> bool {
    const WORD: &[u8] = b"method";
    const BLOCK: usize = 64;
    /// A word that begins in a block ends here.
    const REACH: usize = BLOCK + WORD.len() - 1;
    let holds = |part: &[u8]| {
        part.iter().any(|b| matches!(b, b'%' | b'+')) || part.windows(WORD.len()).any(|w| w.eq_ignore_ascii_case(WORD))
    };
    let mut rest = text;
    while let Some(part) = rest.first_chunk::<REACH>() {
        let (block, ahead) = (&part[..BLOCK], &part[3..BLOCK + 3]);
        let hint = block.iter().zip(ahead).fold(false, |hint, (b, three_on)| {
            hint | (*b == b'%') | (*b == b'+') | ((*b | 32 == b'm') & (*three_on | 32 == b'h'))
        });
        if hint && holds(part) {
            return true;
        }
        rest = &rest[BLOCK..];
    }
    holds(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_path_6_the_word_is_found_wherever_it_stands_in_a_long_body() {
        let deletes = |text: &str| override_methods(Some(text)) == [Method::DELETE];
        for at in 0..200 {
            for behind in [0, 1, 63, 64, 65, 200] {
                for name in ["_method", "_METHOD", "_meTHod", "%5fm%65thod", "+_method"] {
                    // Letters of the word stand before it and behind it as well.
                    let text = format!("{}&{name}=DELETE&{}", "hm".repeat(at), "m".repeat(behind));
                    assert!(deletes(&text), "{text}");
                }
            }
        }
        assert!(!may_name_a_method("metho dmethxd MmetHo".repeat(50).as_bytes()));
    }
}
