//! What a rule's `match` selects.

use std::borrow::Cow;
use std::cell::RefCell;

use http::Method;

use super::content::{ALLOCATION, Content, Json, is_plain};
use super::hours::Hours;
use super::pattern::PathPattern;
use super::rule::Who;
use crate::base::clock::Timestamp;
use crate::base::net::{ClientIp, NetworkSet};
use crate::domain::authn::{Authn, AuthnContext};
use crate::domain::path::{Reading, fold};
use crate::domain::posture::Posture;
use crate::domain::user::{GroupName, UserName};

/// All conditions of one `match`; every one that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    /// Any of these; every path when empty.
    pub paths: Vec<PathPattern>,
    /// Any of these; GET covers HEAD (S-PATH-6). Every method when empty.
    pub methods: Vec<Method>,
    pub query: Vec<QueryCondition>,
    pub form: Vec<FormCondition>,
    pub json: Vec<JsonCondition>,
    /// The names as the file gives them stand beside, for a trace.
    pub from: Option<(String, NetworkSet)>,
    pub hours: Option<Hours>,
    /// Any of these; a stranger is none of them.
    pub who: Vec<Who>,
    /// Any of these; whichever is in force when empty.
    pub postures: Vec<Posture>,
}

/// `query: { NAME: [VALUE, ...] }`: the parameter has one of the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryCondition {
    name: Name,
    values: Values,
}

/// `form: { NAME: [VALUE, ...] }`: the field of the form has one of the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormCondition {
    name: Name,
    values: Values,
}

/// `json: { a.b: [VALUE, ...] }`: the member `b` of the member `a` of the document is one of the texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonCondition {
    written: String,
    /// `a` and `b`; beside each, what is left from it on as one name.
    steps: Vec<(Name, Name)>,
    values: Values,
}

/// A name that a rule looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    written: String,
    /// As the laxest app has it.
    folded: String,
}

/// The values that a rule looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Values {
    written: Vec<String>,
    folded: Vec<String>,
}

/// Where one parameter ends and the next begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Separators {
    /// `&` alone, as the URL standard has it.
    #[default]
    Ampersand,
    /// `;` too, as HTML 4 advised (appendix B.2.2): Rack 2, Python before 3.9.2, Perl's CGI.
    SemicolonToo,
}

impl Separators {
    /// The ways that differ for this query and form.
    fn of(query: &str, content: &Content) -> &'static [Self] {
        if query.contains(';') || has_semicolons(content) {
            &[Self::Ampersand, Self::SemicolonToo]
        } else {
            &[Self::Ampersand]
        }
    }
}

/// The parameters of a query, in one way of reading it. Taken apart once: it is held against many rules, for
/// every reading of the path, and may have thousands of parameters.
#[derive(Debug, Default)]
pub(super) struct Query<'a> {
    fields: Vec<Field<'a>>,
    separators: Separators,
    /// It holds escapes that are none: what an app makes of them only it knows.
    is_odd: bool,
    /// How far it, and the body beside it, meets a condition; the path and the method have no part in that.
    met: RefCell<Vec<(*const (), Meets)>>,
}

/// One parameter of a query, or field of a form.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field<'a> {
    /// Its place among the pieces.
    pub(super) at: usize,
    pub(super) name: Cow<'a, str>,
    /// The name as the laxest apps have it.
    pub(super) readings: Vec<String>,
    pub(super) value: Cow<'a, str>,
}

impl Field<'_> {
    /// Bytes of memory that it takes, about.
    pub(super) fn size(&self) -> usize {
        let texts = [self.name.len(), self.value.len()].into_iter().chain(self.readings.iter().map(String::len));
        texts.map(|length| length + ALLOCATION).sum()
    }

    pub(super) fn into_owned(self) -> Field<'static> {
        let Self { at, name, readings, value } = self;
        Field { at, name: Cow::Owned(name.into_owned()), readings, value: Cow::Owned(value.into_owned()) }
    }
}

/// What stands in a query or form.
pub(super) fn parameters(text: &str, separators: Separators) -> impl Iterator<Item = Field<'_>> {
    fields(text, separators).map(|(at, (name, value))| Field { at, readings: readings(&name).collect(), name, value })
}

fn has_semicolons(content: &Content) -> bool {
    matches!(content, Content::Form(form) if form.has_semicolons())
}

impl<'a> Query<'a> {
    /// Whether a rule about fields could be met by either of them.
    pub(super) fn may_differ(text: Option<&str>, content: &Content) -> bool {
        text.is_some() || has_semicolons(content)
    }

    /// Every way to read it that differs from the others, the form beside it included.
    pub(super) fn each_way(text: &'a str, content: &Content) -> Vec<Self> {
        let read = |separators: &Separators| Self {
            fields: parameters(text, *separators).collect(),
            separators: *separators,
            is_odd: !is_plain(text),
            met: RefCell::default(),
        };
        Separators::of(text, content).iter().map(read).collect()
    }

    /// What `meets` says of a condition, which is asked once: a document has thousands of members too, and a path
    /// more than a hundred readings.
    fn once<C>(&self, condition: &C, meets: impl FnOnce() -> Meets) -> Meets {
        let place: *const () = std::ptr::from_ref(condition).cast();
        let known = self.met.borrow().iter().find(|met| met.0 == place).map(|met| met.1);
        known.unwrap_or_else(|| {
            let meets = meets();
            self.met.borrow_mut().push((place, meets));
            meets
        })
    }
}

/// How far a request meets a condition. Of a parameter that stands there more than once an app may take
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
    pub(super) content: &'a Content,
    pub(super) client: ClientIp,
    pub(super) authn: &'a Authn,
    pub(super) now: Timestamp,
    pub(super) posture: Posture,
}

/// The first condition that did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    Posture,
    Path,
    Method,
    Query,
    Form,
    Json,
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
        if !self.postures.is_empty() && !self.postures.contains(&view.posture) {
            return Err(Miss::Posture);
        }
        if !self.takes(view.method) {
            return Err(Miss::Method);
        }
        if !self.has_path(&view.reading) {
            return Err(Miss::Path);
        }
        if self.meets_query(view) == Meets::No {
            return Err(Miss::Query);
        }
        if self.meets_form(view) == Meets::No {
            return Err(Miss::Form);
        }
        if self.meets_json(view) == Meets::No {
            return Err(Miss::Json);
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
        let each = [self.meets_query(view), self.meets_form(view), self.meets_json(view)];
        each.contains(&Meets::ByChoice)
    }

    fn meets_query(&self, view: &View<'_>) -> Meets {
        let query = view.query;
        let each = self.query.iter().map(|c| query.once(c, || c.meets(&query.fields)));
        each.min().unwrap_or(Meets::Surely)
    }

    fn meets_form(&self, view: &View<'_>) -> Meets {
        let each = self.form.iter().map(|c| view.query.once(c, || c.meets(view)));
        each.min().unwrap_or(Meets::Surely)
    }

    fn meets_json(&self, view: &View<'_>) -> Meets {
        let each = self.json.iter().map(|c| view.query.once(c, || c.meets(view)));
        each.min().unwrap_or(Meets::Surely)
    }

    /// Whether it depends on what the request carries.
    #[must_use]
    pub fn reads_content(&self) -> bool {
        !self.form.is_empty() || !self.json.is_empty()
    }

    /// Whether it depends on a query, or on what stands for one in a body.
    pub(super) fn reads_fields(&self) -> bool {
        !self.query.is_empty() || self.reads_content()
    }

    pub(super) fn has_path(&self, reading: &Reading<'_>) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|p| p.matches(reading))
    }

    fn has_method(&self, method: &Method) -> bool {
        self.methods.iter().any(|m| m == method || (*m == Method::GET && *method == Method::HEAD))
    }

    /// Whether this method is meant.
    #[must_use]
    pub fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.has_method(method)
    }

    /// Whether more than path and method must hold.
    #[must_use]
    pub fn has_further_conditions(&self) -> bool {
        self.reads_fields()
            || self.from.is_some()
            || self.hours.is_some()
            || !self.who.is_empty()
            || !self.postures.is_empty()
    }

    /// Whether folding letter case changes what this selects.
    pub(super) fn folds(&self) -> bool {
        self.reads_fields() || self.paths.iter().any(PathPattern::folds)
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
        let form = self.form.iter().all(|c| other.form.contains(c));
        let json = self.json.iter().all(|c| other.json.contains(c));
        let who = self.who.is_empty() || (!other.who.is_empty() && other.who.iter().all(|w| self.who.contains(w)));
        let subset = !other.postures.is_empty() && other.postures.iter().all(|p| self.postures.contains(p));
        let posture = self.postures.is_empty() || subset;
        posture && paths && methods && from && hours && query && form && json && who
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
        Self { name: Name::new(name), values: Values::new(values) }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name.folded
    }

    /// As the file has it.
    #[must_use]
    pub fn written(&self) -> &str {
        &self.name.written
    }

    #[must_use]
    pub fn values(&self) -> &[String] {
        &self.values.written
    }

    /// Only what stands as the rule has it surely meets it: whatever else PHP and others may make of a
    /// name or a value, a folded reading included, they may as well leave as it is.
    fn meets(&self, fields: &[Field<'_>]) -> Meets {
        // Twice it is a list to some apps, of one value too.
        let (mut some, mut all, mut count) = (false, true, 0_usize);
        for field in fields {
            let named = self.name.is_field(field);
            if named == Meets::No {
                continue;
            }
            let seen = if field.at < SURELY_READ { Meets::Surely } else { Meets::ByChoice };
            let fit = named.min(self.values.have(&field.value)).min(seen);
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

impl FormCondition {
    #[must_use]
    pub fn new(name: &str, values: Vec<String>) -> Self {
        Self { name: Name::new(name), values: Values::new(values) }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name.written
    }

    #[must_use]
    pub fn values(&self) -> &[String] {
        &self.values.written
    }

    /// Surely where one field of the form, and no parameter of the query beside it, is what the rule has. Some
    /// apps take a parameter for a field (`$_REQUEST`, `getParameter`), of two that are equal classic ASP and
    /// Express make a list.
    fn meets(&self, view: &View<'_>) -> Meets {
        let fields = match view.content {
            Content::Nothing => &[],
            Content::Form(form) => form.fields(view.query.separators),
            Content::Unread | Content::Json(_) => return Meets::ByChoice,
        };
        let mut found = Found::in_query(&self.name, &self.values, view);
        for field in fields {
            let named = self.name.is_field(field);
            if named > Meets::No {
                found.add(named.min(self.values.have(&field.value)));
            }
        }
        found.meets()
    }
}

impl JsonCondition {
    #[must_use]
    pub fn new(name: &str, values: Vec<String>) -> Self {
        let starts = std::iter::once(0).chain(name.match_indices('.').map(|(at, _)| at + 1));
        let rest = starts.filter_map(|at| name.get(at..));
        let steps = rest.map(|rest| (Name::new(rest.split('.').next().unwrap_or(rest)), Name::new(rest))).collect();
        Self { written: name.to_owned(), steps, values: Values::new(values) }
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.written
    }

    #[must_use]
    pub fn values(&self) -> &[String] {
        &self.values.written
    }

    fn meets(&self, view: &View<'_>) -> Meets {
        let Some((first, _)) = self.steps.first() else { return Meets::ByChoice };
        // Rails and Laravel put a document and the query together; of `user[role]` no value is looked at.
        let mut found = match self.steps.len() {
            1 => Found::in_query(first, &self.values, view),
            _ => Found::named_in_query(first, view),
        };
        match view.content {
            Content::Nothing => {}
            Content::Json(document) => {
                self.look(&self.steps, document, Meets::Surely, &mut found);
                // Rails wraps a document that has no `user` in one: its `role` is then `user.role` (ParamsWrapper).
                for at in 1..self.steps.len() {
                    self.look(self.steps.get(at..).unwrap_or_default(), document, Meets::ByChoice, &mut found);
                }
            }
            Content::Unread | Content::Form(_) => return Meets::ByChoice,
        }
        found.meets()
    }

    fn look(&self, steps: &[(Name, Name)], at: &Json, sure: Meets, found: &mut Found) {
        let Some(((step, rest), further)) = steps.split_first() else {
            found.add(sure.min(match at {
                Json::Text(text) => self.values.have(text),
                Json::Null => Meets::No,
                Json::Other | Json::Object(_) => Meets::ByChoice,
            }));
            return;
        };
        let members = match at {
            Json::Object(members) => members,
            Json::Null => return,
            // A list of such objects, or one more document in a text.
            Json::Other | Json::Text(_) => return found.add(Meets::ByChoice),
        };
        let mut named = 0;
        for (name, value) in members {
            let is = step.is(name);
            if is > Meets::No {
                named += 1;
                self.look(further, value, sure.min(is), found);
            } else if rest.is(name) > Meets::No {
                // Laravel looks for the whole name first.
                found.add(Meets::ByChoice);
            }
        }
        if named > 1 {
            found.doubled = true;
        }
    }
}

/// What was found under a name.
#[derive(Default)]
struct Found {
    most: Option<Meets>,
    /// Which of several an app takes, or whether it looks here at all, only it knows.
    doubled: bool,
}

impl Found {
    /// What a query has under a name, for a rule that is about a body.
    fn in_query(name: &Name, values: &Values, view: &View<'_>) -> Self {
        let mut found = Self::default();
        for field in view.query.fields.iter().filter(|field| name.is_field(field) > Meets::No) {
            found.add(values.have(&field.value));
            found.doubled = true;
        }
        found.or_odd(view.query)
    }

    /// Any value of such a parameter may meet the rule.
    fn named_in_query(name: &Name, view: &View<'_>) -> Self {
        let is_named = view.query.fields.iter().any(|field| name.is_field(field) > Meets::No);
        Self { most: is_named.then_some(Meets::ByChoice), doubled: false }.or_odd(view.query)
    }

    fn or_odd(mut self, query: &Query<'_>) -> Self {
        if query.is_odd {
            self.add(Meets::ByChoice);
        }
        self
    }

    fn add(&mut self, meets: Meets) {
        self.doubled |= self.most.is_some();
        self.most = self.most.max(Some(meets));
    }

    fn meets(&self) -> Meets {
        match self.most {
            None | Some(Meets::No) => Meets::No,
            Some(Meets::Surely) if !self.doubled => Meets::Surely,
            Some(Meets::Surely | Meets::ByChoice) => Meets::ByChoice,
        }
    }
}

impl Name {
    fn new(name: &str) -> Self {
        Self { written: name.to_owned(), folded: fold_name(name) }
    }

    fn is(&self, name: &str) -> Meets {
        if name == self.written {
            return Meets::Surely;
        }
        if readings(name).any(|name| name == self.folded) { Meets::ByChoice } else { Meets::No }
    }

    /// As [`Name::is`], for a field whose readings were made before.
    fn is_field(&self, field: &Field<'_>) -> Meets {
        if field.name == self.written {
            return Meets::Surely;
        }
        if field.readings.contains(&self.folded) { Meets::ByChoice } else { Meets::No }
    }
}

impl Values {
    fn new(values: Vec<String>) -> Self {
        let folded = values.iter().map(|v| fold(v)).collect();
        Self { written: values, folded }
    }

    /// A value in other letters may be the same to an app, whatever its server makes of paths.
    fn have(&self, value: &str) -> Meets {
        if self.written.iter().any(|v| v == value) {
            return Meets::Surely;
        }
        let trimmed = trimmed(value);
        let (value, trimmed) = (fold(value), fold(trimmed));
        let fits = self.folded.iter().any(|v| *v == value || *v == trimmed);
        if fits { Meets::ByChoice } else { Meets::No }
    }
}

/// So many pieces of a query every app reads: PHP, Tomcat, ASP.NET and Express look at the first 1000, empty
/// ones too, and say nothing of the rest.
pub(super) const SURELY_READ: usize = 256;

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
pub(super) fn fold_name(name: &str) -> String {
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
    // Rack, Rails, Laravel and others; Plack::Middleware::HttpMethodTunnel and ::MethodOverride.
    const NAMES: [&str; 5] =
        ["_method", "x-http-method-override", "x-http-method", "x-method-override", "x-tunneled-method"];
    readings(name).any(|name| NAMES.contains(&name.as_str()))
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
