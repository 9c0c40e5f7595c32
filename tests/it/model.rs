//! `decide()` held against an evaluator too simple to be wrong in the same way: one walk from top to
//! bottom over one way of reading the request, for every way that an app may have.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use proptest::prelude::*;
use stepgate::base::clock::Timestamp;
use stepgate::base::ids::{SessionId, UserId};
use stepgate::base::net::{ClientIp, NetworkSet};
use stepgate::domain::authn::{Authn, AuthnContext};
use stepgate::domain::factor::{FactorKind, FactorUse};
use stepgate::domain::level::{Level, LevelName, Requirement};
use stepgate::domain::path::{CanonicalPath, Like, PathForms};
use stepgate::domain::policy::hours::Hours;
use stepgate::domain::policy::matcher::{FormCondition, JsonCondition, Matcher, QueryCondition};
use stepgate::domain::policy::pattern::PathPattern;
use stepgate::domain::policy::{
    Allow, Content, Decision, Exception, Facts, KEEP_BODY, Media, Outcome, Place, Policy, Rule, RuleName, Who, decide,
};
use stepgate::domain::user::{GroupName, UserName};

/// Requests to each policy. With 10,000 policies (`PROPTEST_CASES=10000`) a run judges a million; a
/// tenth of that is what every run of the tests has time for.
const REQUESTS: u64 = 100;
const POLICIES: u32 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Says {
    Deny,
    Public,
    /// A level by its place in [`LEVELS`], and whether only staff may pass.
    Require(usize, bool),
}

#[derive(Clone, Debug)]
struct SimpleRule {
    path: Option<Vec<&'static str>>,
    methods: Vec<&'static str>,
    /// The parameter of this name has this value.
    query: Option<(&'static str, &'static str)>,
    /// The field of this name has this value; or the member, where `true` stands beside it.
    body: Option<(&'static str, &'static str, bool)>,
    office: bool,
    /// From 8 to 18 UTC.
    day: bool,
    who: Option<&'static str>,
    says: Says,
    shadow: bool,
}

#[derive(Clone, Debug)]
struct SimpleException {
    who: &'static str,
    /// `None` is the app's default.
    rule: Option<usize>,
    level: usize,
    until_hour: u64,
}

#[derive(Clone, Debug)]
struct SimplePolicy {
    like: Option<Like>,
    rules: Vec<SimpleRule>,
    default: Says,
    exceptions: Vec<SimpleException>,
}

#[derive(Clone, Debug)]
struct SimpleRequest {
    method: &'static str,
    path: String,
    query: Vec<(&'static str, &'static str)>,
    body: SimpleBody,
    office: bool,
    person: Option<SimplePerson>,
    /// Minutes of a day that begins at midnight UTC.
    minute: u64,
}

#[derive(Clone, Debug)]
enum SimpleBody {
    Nothing,
    Form(Vec<(&'static str, &'static str)>),
    Json(Vec<(&'static str, SimpleJson)>),
    /// Such as a form with files, or one that is packed.
    Unreadable,
}

#[derive(Clone, Debug)]
enum SimpleJson {
    Text(&'static str),
    /// An app takes it for every text, or for none.
    True,
    Object(Vec<(&'static str, &'static str)>),
}

#[derive(Clone, Debug)]
struct SimplePerson {
    name: &'static str,
    staff: bool,
    /// What was shown, how many minutes ago.
    shown: Vec<(Shown, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shown {
    Password,
    Code,
    Key,
    VerifiedKey,
}

/// Factors, minutes, a key.
const LEVELS: [(u8, u64, bool); 4] = [(1, 600, false), (2, 600, false), (2, 10, false), (2, 10, true)];

// === the simple evaluator ===

fn met(level: usize, shown: &[(Shown, u64)]) -> bool {
    let (factors, minutes, key) = LEVELS[level];
    let is_key = |s: Shown| matches!(s, Shown::Key | Shown::VerifiedKey);
    if factors == 1 {
        return shown.iter().any(|(_, age)| *age < minutes);
    }
    let knows = shown.iter().any(|(s, _)| matches!(s, Shown::Password | Shown::VerifiedKey));
    let witness = shown.iter().any(|(s, age)| *s != Shown::Password && *age < minutes && (!key || is_key(*s)));
    knows && witness
}

fn fits(pattern: &[&str], segments: &[&str]) -> bool {
    match (pattern.split_first(), segments.split_first()) {
        (None, None) => true,
        (Some((&"**", rest)), _) => {
            fits(rest, segments) || segments.split_first().is_some_and(|(_, more)| fits(pattern, more))
        }
        (Some((&"*", rest)), Some((s, more))) => !s.is_empty() && fits(rest, more),
        (Some((p, rest)), Some((s, more))) => {
            let one = match p.strip_prefix('*') {
                Some(end) => s.ends_with(end) && !s.is_empty(),
                None => p == s,
            };
            one && fits(rest, more)
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// One way to read a request.
struct Way {
    segments: Vec<String>,
    folded: bool,
    method: String,
    /// What the app finds under the two names that rules ask for.
    values: Vec<(&'static str, String)>,
    /// What it takes for the fields of a form, and for the members of a document.
    form: Vec<(&'static str, String)>,
    json: Vec<(&'static str, String)>,
}

/// What an app makes of a query before it looks for a name.
#[derive(Clone, Copy)]
struct Reader {
    name: fn(&str) -> String,
    trims: bool,
    takes_the_last: bool,
}

/// `name[x]` is an element of `name`; without a bracket that closes it, it is the name `name_x`.
fn as_php(name: &str) -> String {
    match name.split_once('[') {
        Some((base, rest)) if rest.contains(']') => base.to_owned(),
        _ => name.replace('[', "_"),
    }
}

/// Names with their values.
type Fields = Vec<(&'static str, String)>;

impl Reader {
    fn all() -> Vec<Self> {
        let names: [fn(&str) -> String; 4] = [str::to_owned, str::to_ascii_lowercase, as_php, |name| {
            name.split('[').next().unwrap().to_ascii_lowercase()
        }];
        let mut all = Vec::new();
        for name in names {
            for (trims, takes_the_last) in [(false, false), (false, true), (true, false), (true, true)] {
                all.push(Self { name, trims, takes_the_last });
            }
        }
        all
    }

    fn read(self, query: &[(&str, &str)]) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        for wanted in NAMES {
            let mut values = query.iter().filter(|(name, _)| (self.name)(name) == wanted).map(|(_, value)| {
                let value = value.replace("%20", " ").replace('+', " ");
                if self.trims { value.trim().to_owned() } else { value }
            });
            let taken = if self.takes_the_last { values.next_back() } else { values.next() };
            found.extend(taken.map(|value| (wanted, value)));
        }
        found
    }

    /// What an app finds in a document; `any` stands where what is there may be every text to it.
    fn read_json(
        self,
        document: &[(&'static str, SimpleJson)],
        any: Option<&'static str>,
    ) -> Vec<(&'static str, String)> {
        let pick = |mut all: Vec<&'static str>| if self.takes_the_last { all.pop() } else { all.into_iter().next() };
        let trimmed = |text: &str| if self.trims { text.trim().to_owned() } else { text.to_owned() };
        let mut members = document.iter().filter(|(name, _)| (self.name)(name) == "q").map(|(_, value)| value);
        let member = if self.takes_the_last { members.next_back() } else { members.next() };
        let (name, text) = match member {
            None => return Vec::new(),
            Some(SimpleJson::Text(text)) => ("q", Some(*text)),
            Some(SimpleJson::True) => return MEMBERS.iter().filter_map(|m| Some((*m, any?.to_owned()))).collect(),
            Some(SimpleJson::Object(inner)) => {
                let inner = inner.iter().filter(|(name, _)| (self.name)(name) == "x").map(|(_, text)| *text);
                ("q.x", pick(inner.collect()))
            }
        };
        text.map(|text| (name, trimmed(text))).into_iter().collect()
    }

    /// Every way in which an app with this reader may take query and body together.
    fn read_bodies(self, request: &SimpleRequest) -> Vec<(Fields, Fields)> {
        const ANY: [Option<&str>; 3] = [None, Some("1"), Some("2")];
        // Of the second name rules ask for one value alone.
        let anything = |names: [&'static str; 2]| {
            let some = |name, value: Option<&str>| value.map(|value| (name, value.to_owned()));
            let second = [None, Some(if names == NAMES { "1" } else { "2" })];
            ANY.iter()
                .flat_map(|first| second.iter().map(move |second| (*first, *second)))
                .collect::<Vec<_>>()
                .into_iter()
                .map(|(a, b)| some(names[0], a).into_iter().chain(some(names[1], b)).collect::<Vec<_>>())
                .collect::<Vec<_>>()
        };
        let in_query = self.read(&request.query);
        // Of a query beside a document only what has the first name is looked at.
        let merged: Vec<_> = in_query.iter().filter(|(name, _)| *name == "q").cloned().collect();
        match &request.body {
            SimpleBody::Nothing => {
                // What an app takes for a form's fields, and what it takes for a document's members, are two questions.
                let fields = [Vec::new(), in_query];
                fields.iter().flat_map(|form| [(form.clone(), Vec::new()), (form.clone(), merged.clone())]).collect()
            }
            SimpleBody::Form(fields) => {
                let forwards = [request.query.as_slice(), fields].concat();
                let backwards = [fields.as_slice(), &request.query].concat();
                // One that looks at the query alone has no form.
                let forms = [self.read(fields), self.read(&forwards), self.read(&backwards)];
                let documents = anything(MEMBERS);
                let mut all = Vec::new();
                for (n, json) in documents.into_iter().enumerate() {
                    all.push((forms[n % 3].clone(), json));
                }
                all
            }
            SimpleBody::Json(document) => {
                let mut documents: Vec<_> = ANY.iter().map(|any| self.read_json(document, *any)).collect();
                documents.extend((!merged.is_empty()).then_some(merged));
                let forms = anything(NAMES);
                forms.into_iter().enumerate().map(|(n, form)| (form, documents[n % documents.len()].clone())).collect()
            }
            SimpleBody::Unreadable => anything(NAMES).into_iter().zip(anything(MEMBERS)).collect(),
        }
    }
}

impl SimplePerson {
    fn is(&self, who: &str) -> bool {
        match who {
            "staff" => self.staff,
            name => self.name == name,
        }
    }
}

impl SimplePolicy {
    /// The deciding rule, and whether the request passes.
    fn judge(&self, request: &SimpleRequest, way: &Way) -> (Option<usize>, bool) {
        let found = self.rules.iter().position(|rule| !rule.shadow && self.selects(rule, request, way));
        let says = found.map_or(self.default, |at| self.rules[at].says);
        let passes = match (says, &request.person) {
            (Says::Deny, _) | (Says::Require(..), None) => false,
            (Says::Public, _) => true,
            (Says::Require(_, true), Some(person)) if !person.staff => false,
            (Says::Require(level, _), Some(person)) => {
                let holds =
                    |e: &&SimpleException| e.rule == found && person.is(e.who) && request.minute < e.until_hour * 60;
                met(level, &person.shown) || self.exceptions.iter().filter(holds).any(|e| met(e.level, &person.shown))
            }
        };
        (found, passes)
    }

    fn selects(&self, rule: &SimpleRule, request: &SimpleRequest, way: &Way) -> bool {
        let path = rule.path.as_ref().is_none_or(|pattern| {
            let lower = |s: &str| if way.folded { s.to_ascii_lowercase() } else { s.to_owned() };
            let pattern: Vec<String> = pattern.iter().map(|s| lower(s)).collect();
            let segments: Vec<String> = way.segments.iter().map(|s| lower(s)).collect();
            let pattern: Vec<&str> = pattern.iter().map(String::as_str).collect();
            let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
            fits(&pattern, &segments)
        });
        let get_for_head = way.method == "HEAD" && rule.methods.contains(&"GET");
        let method = rule.methods.is_empty() || rule.methods.contains(&way.method.as_str()) || get_for_head;
        let query = rule.query.is_none_or(|(name, value)| way.values.iter().any(|(n, v)| *n == name && v == value));
        let body = rule.body.is_none_or(|(name, value, json)| {
            let found = if json { &way.json } else { &way.form };
            found.iter().any(|(n, v)| *n == name && v == value)
        });
        let hour = request.minute / 60;
        let who = rule.who.is_none_or(|who| request.person.as_ref().is_some_and(|p| p.is(who)));
        path && method
            && query
            && body
            && (!rule.office || request.office)
            && (!rule.day || (8..18).contains(&hour))
            && who
    }

    /// Every way to read a request that an app of this kind may have; `true` where the reading only
    /// counts when a rule is met by it.
    fn ways(&self, request: &SimpleRequest) -> Vec<(Way, bool)> {
        let decoded = request.path.replace("%61", "a").replace("%62", "b");
        let plain: Vec<String> = decoded.split('/').skip(1).map(str::to_owned).collect();
        let mut other_slash = plain.clone();
        if other_slash.last().is_some_and(String::is_empty) && other_slash.len() > 1 {
            other_slash.pop();
        } else if other_slash != [""] {
            other_slash.push(String::new());
        }
        let iis = self.like == Some(Like::Iis);
        let mut paths = vec![(plain.clone(), iis, false)];
        if self.like.is_none() {
            paths.push((plain, true, true));
            paths.push((other_slash.clone(), true, true));
        }
        if self.like != Some(Like::Unix) {
            paths.push((other_slash, iis, true));
        }
        let overrides = request.query.iter().filter(|(name, _)| *name == "_method").map(|(_, value)| *value);
        // Some apps make capitals of a method's letters.
        let capitals = request.method.to_ascii_uppercase();
        let methods: Vec<&str> = [request.method, &capitals].into_iter().chain(overrides).collect();
        // Most readers find the same: each finding once.
        let mut finds = Vec::new();
        for reader in Reader::all() {
            let values = reader.read(&request.query);
            for (form, json) in reader.read_bodies(request) {
                let find = (values.clone(), form, json);
                if !finds.contains(&find) {
                    finds.push(find);
                }
            }
        }
        let mut ways = Vec::new();
        for (segments, folded, extra) in paths {
            for method in &methods {
                for (values, form, json) in finds.iter().cloned() {
                    let (segments, method) = (segments.clone(), (*method).to_owned());
                    ways.push((Way { segments, folded, method, values, form, json }, extra));
                }
            }
        }
        ways
    }
}

// === the same policy and request for the real one ===

fn start() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-24T00:00:00Z").unwrap()
}

fn level(at: usize) -> Arc<Level> {
    let (factors, minutes, phishing_resistant) = LEVELS[at];
    let max_age = Some(Duration::from_secs(minutes * 60));
    let requirement =
        Requirement { factors, max_age, phishing_resistant, user_verified: false, kinds: None, remember: None };
    Arc::new(Level { name: LevelName::new(&format!("l{at}")), requirement, grace: None })
}

fn who(text: &str) -> Who {
    match text {
        "staff" => Who::Group(GroupName::parse("staff").unwrap()),
        name => Who::User(UserName::parse(name).unwrap()),
    }
}

fn outcome(says: Says) -> Outcome {
    match says {
        Says::Deny => Outcome::Deny { sentence: "no".into() },
        Says::Public => Outcome::Public { allow: Allow(vec![Who::Anyone]) },
        Says::Require(at, staff) => {
            let allow = Allow(vec![if staff { who("staff") } else { Who::Anyone }]);
            Outcome::Require { allow, level: level(at) }
        }
    }
}

impl SimplePolicy {
    fn real(&self) -> Policy {
        let place = || Place { file: "stepgate.yaml".into(), line: 1, column: 1 };
        let forms = PathForms { like: self.like, ..PathForms::default() };
        let name = |at: Option<usize>| RuleName::new(&at.map_or("default".to_owned(), |at| format!("r{at}")));
        let rules = self.rules.iter().enumerate().map(|(at, rule)| Rule {
            name: name(Some(at)),
            place: place(),
            matcher: Matcher {
                paths: rule
                    .path
                    .iter()
                    .map(|p| PathPattern::glob(&format!("/{}", p.join("/")), forms).unwrap())
                    .collect(),
                methods: rule.methods.iter().map(|m| m.parse().unwrap()).collect(),
                query: rule
                    .query
                    .iter()
                    .map(|(name, value)| QueryCondition::new(name, vec![(*value).to_owned()]))
                    .collect(),
                form: rule
                    .body
                    .iter()
                    .filter(|(.., json)| !json)
                    .map(|(name, value, _)| FormCondition::new(name, vec![(*value).to_owned()]))
                    .collect(),
                json: rule
                    .body
                    .iter()
                    .filter(|(.., json)| *json)
                    .map(|(name, value, _)| JsonCondition::new(name, vec![(*value).to_owned()]))
                    .collect(),
                from: rule
                    .office
                    .then(|| ("office".to_owned(), NetworkSet::new(vec!["198.51.100.0/24".parse().unwrap()]))),
                hours: rule.day.then(|| Hours::parse("daily 08:00-18:00 UTC").unwrap()),
                who: rule.who.iter().map(|w| who(w)).collect(),
                postures: Vec::new(),
            },
            outcome: outcome(rule.says),
            answer: None,
            shadow: rule.shadow,
            keep_body: KEEP_BODY,
            stays_open: false,
        });
        let exceptions = self.exceptions.iter().map(|e| {
            Arc::new(Exception {
                place: place(),
                who: vec![who(e.who)],
                rules: vec![name(e.rule)],
                level: level(e.level),
                until: start().plus(Duration::from_secs(e.until_hour * 3600)),
                approved_by: "dana".into(),
                ticket: "T-1".into(),
                reason: None,
            })
        });
        Policy::new(rules.collect(), outcome(self.default), place(), forms).with_exceptions(exceptions.collect())
    }
}

impl SimpleRequest {
    fn decided(&self, policy: &Policy) -> Option<bool> {
        let now = start().plus(Duration::from_secs(self.minute * 60));
        let path = CanonicalPath::parse(&self.path, policy.forms).ok()?;
        let query: Vec<String> = self.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let query = (!query.is_empty()).then(|| query.join("&"));
        let authn = self.person.as_ref().map_or(Authn::Anonymous, |p| Authn::Known(Arc::new(p.real(now))));
        let client: std::net::IpAddr = if self.office { [198, 51, 100, 7] } else { [203, 0, 113, 9] }.into();
        let method: Method = self.method.parse().unwrap();
        let content = self.body.real();
        let facts = Facts {
            method: &method,
            also_methods: &[],
            content: &content,
            path: &path,
            query: query.as_deref(),
            client: ClientIp::new(client),
            authn: &authn,
            now,
        };
        Some(matches!(decide(policy, &facts, &mut ()), Decision::Allow(_)))
    }
}

impl SimpleBody {
    /// As it would come over the wire.
    fn real(&self) -> Content {
        match self {
            Self::Nothing => Content::Nothing,
            Self::Unreadable => Content::Unread,
            Self::Form(fields) => {
                let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
                Content::read(Media::Form, fields.join("&").as_bytes())
            }
            Self::Json(members) => {
                let members = members.iter().map(|(name, value)| match value {
                    SimpleJson::Text(text) => format!("\"{name}\":\"{text}\""),
                    SimpleJson::True => format!("\"{name}\":true"),
                    SimpleJson::Object(inner) => {
                        let inner: Vec<String> = inner.iter().map(|(n, v)| format!("\"{n}\":\"{v}\"")).collect();
                        format!("\"{name}\":{{{}}}", inner.join(","))
                    }
                });
                Content::read(Media::Json, format!("{{{}}}", members.collect::<Vec<_>>().join(",")).as_bytes())
            }
        }
    }
}

impl SimplePerson {
    fn real(&self, now: Timestamp) -> AuthnContext {
        let evidence = self.shown.iter().map(|(shown, minutes)| FactorUse {
            kind: match shown {
                Shown::Password => FactorKind::Password,
                Shown::Code => FactorKind::Totp,
                Shown::Key | Shown::VerifiedKey => FactorKind::Webauthn,
            },
            at: now.minus(Duration::from_secs(minutes * 60)),
            phishing_resistant: matches!(shown, Shown::Key | Shown::VerifiedKey),
            user_verified: *shown == Shown::VerifiedKey,
            credential: None,
            remembered: false,
        });
        AuthnContext {
            user: UserId::nil(),
            name: UserName::parse(self.name).unwrap(),
            display: self.name.to_owned(),
            email: None,
            groups: if self.staff { vec![GroupName::parse("staff").unwrap()] } else { Vec::new() },
            session: SessionId::nil(),
            ever_enrolled: true,
            evidence: evidence.collect(),
        }
    }
}

// === at random ===

/// A few words of chance from one number, so that a request that fails is said by its seed.
struct Chance(u64);

impl Chance {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.next() % all.len() as u64).unwrap()]
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

/// The parameters that rules ask for.
const NAMES: [&str; 2] = ["q", "q_x"];
const MEMBERS: [&str; 2] = ["q", "q.x"];
const METHODS: [&str; 4] = ["GET", "POST", "DELETE", "HEAD"];

fn request(chance: &mut Chance) -> SimpleRequest {
    let segments = chance.of(&[0_usize, 1, 1, 2, 2, 3]);
    let mut path = String::new();
    for _ in 0..segments {
        path.push('/');
        path.push_str(chance.of(&["a", "b", "c", "a", "b", "A", "B", "%61", "%62", "x.php", "X.php"]));
    }
    if path.is_empty() || chance.one_in(5) {
        path.push('/');
    }
    let mut query = Vec::new();
    while !chance.one_in(3) && query.len() < 3 {
        query.push(match chance.one_in(4) {
            true => ("_method", chance.of(&["DELETE", "GET"])),
            false => {
                let name = chance.of(&["q", "q", "q", "q_x", "Q", "q[]", "q[x", "Q[X", "q[x]"]);
                (name, chance.of(&["1", "1", "2", "2", "3", "1%20", "+2"]))
            }
        });
    }
    let body = body(chance);
    let person = (!chance.one_in(5)).then(|| {
        let mut shown = vec![(Shown::Password, chance.of(&[0, 5, 9, 10, 599, 600]))];
        while chance.one_in(2) && shown.len() < 3 {
            let kind = chance.of(&[Shown::Code, Shown::Code, Shown::Key, Shown::VerifiedKey]);
            shown.push((kind, chance.of(&[0, 5, 9, 10, 11, 599, 600])));
        }
        SimplePerson { name: chance.of(&["ann", "bea"]), staff: chance.one_in(2), shown }
    });
    let minute = chance.of(&[0, 479, 480, 720, 1079, 1080, 1439]);
    let method = if chance.one_in(10) { chance.of(&["delete", "Delete", "patch"]) } else { chance.of(&METHODS) };
    SimpleRequest { method, path, query, body, office: chance.one_in(2), person, minute }
}

fn body(chance: &mut Chance) -> SimpleBody {
    let some = |chance: &mut Chance| chance.of(&[1_usize, 1, 2, 3]);
    match chance.of(&[0, 0, 1, 1, 1, 2, 2, 3]) {
        0 => SimpleBody::Nothing,
        1 => {
            let field = |chance: &mut Chance| {
                let name = chance.of(&["q", "q", "q_x", "Q", "q[]", "q[x", "Q[X"]);
                (name, chance.of(&["1", "1", "2", "2", "3", "1%20", "+2"]))
            };
            SimpleBody::Form((0..some(chance)).map(|_| field(chance)).collect())
        }
        2 => {
            let member = |chance: &mut Chance| {
                let name = chance.of(&["q", "q", "q", "Q", "other"]);
                let text = |chance: &mut Chance| chance.of(&["1", "2", "3", " 1", "2 "]);
                let value = match chance.of(&[0, 0, 0, 1, 2, 2]) {
                    0 => SimpleJson::Text(text(chance)),
                    1 => SimpleJson::True,
                    _ => {
                        let inner = (0..some(chance)).map(|_| (chance.of(&["x", "x", "X", "y"]), text(chance)));
                        SimpleJson::Object(inner.collect())
                    }
                };
                (name, value)
            };
            SimpleBody::Json((0..some(chance)).map(|_| member(chance)).collect())
        }
        _ => SimpleBody::Unreadable,
    }
}

fn says() -> impl Strategy<Value = Says> {
    prop_oneof![
        2 => Just(Says::Deny),
        2 => Just(Says::Public),
        5 => (0..LEVELS.len(), any::<bool>()).prop_map(|(level, staff)| Says::Require(level, staff)),
    ]
}

fn rule() -> impl Strategy<Value = SimpleRule> {
    let segment = prop::sample::select(vec!["a", "b", "A", "*", "**", "**", "x.php", "*.php"]);
    let path = prop::option::weighted(
        0.6,
        prop::collection::vec(segment, 1..4).prop_map(|mut path| {
            // Two `**` side by side are one, and the loader says nothing else of them.
            path.dedup_by(|a, b| a == b && *a == "**");
            path
        }),
    );
    let methods = prop::collection::vec(prop::sample::select(METHODS.to_vec()), 0..2);
    let some = |p: f64, of: &'static [&'static str]| prop::option::weighted(p, prop::sample::select(of.to_vec()));
    let value = prop::sample::select(&[("q", "1"), ("q", "2"), ("q_x", "1")][..]);
    let conditions = (prop::option::weighted(0.5, value), prop::bool::weighted(0.15), prop::bool::weighted(0.15));
    let member = prop::sample::select(
        &[("q", "1", false), ("q", "2", false), ("q_x", "1", false), ("q", "1", true), ("q.x", "2", true)][..],
    );
    let conditions = (conditions, prop::option::weighted(0.4, member));
    (path, methods, conditions, some(0.25, &["ann", "staff"]), says(), prop::bool::weighted(0.1)).prop_map(
        |(path, methods, ((query, office, day), body), who, says, shadow)| {
            // A public rule for some people is a fault of the file.
            let who = if says == Says::Public { None } else { who };
            SimpleRule { path, methods, query, body, office, day, who, says, shadow }
        },
    )
}

fn policy() -> impl Strategy<Value = SimplePolicy> {
    let like =
        prop::sample::select(vec![None, None, Some(Like::Unix), Some(Like::Iis), Some(Like::Tomcat), Some(Like::Php)]);
    let exception = (
        prop::sample::select(vec!["ann", "staff"]),
        prop::option::weighted(0.8, 0..4_usize),
        0..LEVELS.len(),
        prop::sample::select(vec![0, 8, 12, 24]),
    )
        .prop_map(|(who, rule, level, until_hour)| SimpleException { who, rule, level, until_hour });
    (like, prop::collection::vec(rule(), 0..6), says(), prop::collection::vec(exception, 0..3))
        .prop_map(|(like, rules, default, exceptions)| SimplePolicy { like, rules, default, exceptions })
}

/// Whether both said the same of every reading; what is wrong otherwise.
fn held_against(policy: &SimplePolicy, real: &Policy, request: &SimpleRequest) -> Result<(), String> {
    // What the gate refuses to read reaches no app.
    let Some(allowed) = request.decided(real) else { return Ok(()) };
    let ways = policy.ways(request);
    if allowed {
        for (way, extra) in &ways {
            let (rule, passes) = policy.judge(request, way);
            if !passes && (!extra || rule.is_some()) {
                return Err(format!(
                    "allowed, though rule {rule:?} refuses it read as {:?} {:?}",
                    way.method, way.segments
                ));
            }
        }
        return Ok(());
    }
    // Where there is one way to read it, what the simple one allows is not refused either.
    let as_written = |(name, value): &(&str, &str)| *name == "q" && value.len() == 1;
    // What is not a rule's own kind of body may be read as one or not, and each rule is judged by itself: two that ask
    // for the same may then be taken for met and not met.
    let asks = |of_json: bool| policy.rules.iter().any(|rule| rule.body.is_some_and(|(.., json)| json == of_json));
    let one_body = match &request.body {
        SimpleBody::Nothing => request.query.is_empty() || !(asks(true) || asks(false)),
        SimpleBody::Form(fields) => {
            request.query.is_empty() && !asks(true) && fields.len() < 2 && fields.iter().all(as_written)
        }
        SimpleBody::Json(members) => {
            let text = |(name, value): &(&str, SimpleJson)| {
                *name == "q" && matches!(value, SimpleJson::Text(text) if text.len() == 1)
            };
            // A text may be one more document, with the member `q.x` in it.
            let of_member = |rule: &SimpleRule| rule.body.is_some_and(|(name, _, json)| json && name.contains('.'));
            let nested = policy.rules.iter().any(of_member);
            request.query.is_empty() && !asks(false) && !nested && members.len() < 2 && members.iter().all(text)
        }
        SimpleBody::Unreadable => false,
    };
    let plain =
        policy.like == Some(Like::Unix) && request.query.len() < 2 && request.query.iter().all(as_written) && one_body;
    if plain && ways.iter().all(|(way, _)| policy.judge(request, way).1) {
        return Err("refused, though it has one reading and that passes".to_owned());
    }
    Ok(())
}

fn policies() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(POLICIES)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: policies(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_allowed_that_a_simple_walk_over_the_rules_refuses(policy in policy(), seed in any::<u64>()) {
        let real = policy.real();
        for n in 0..REQUESTS {
            let request = request(&mut Chance(seed.wrapping_add(n << 32)));
            let held = held_against(&policy, &real, &request);
            prop_assert!(held.is_ok(), "{}: {request:?}", held.unwrap_err());
        }
    }
}
