//! Requests that a rule is about, made up from what its `match` says: for whoever has to try rules that no
//! request has met yet.

use std::collections::HashSet;

use http::Method;
use regex_syntax::hir::{Class, Hir, HirKind};

use super::content::{Content, Media};
use super::matcher::Matcher;
use super::pattern::{PathPattern, Segment};
use crate::base::net::ClientIp;
use crate::domain::path::PathForms;

/// One request, as a client would send it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub method: Method,
    /// The path with its escapes, without a query.
    pub path: String,
    pub query: Option<String>,
    /// What it carries, and as what.
    pub body: Option<(Media, String)>,
    /// Where the rule asks for a network: an address of it.
    pub client: Option<ClientIp>,
    /// The pattern is a regular expression, of which a sample says little about the rest.
    pub by_regex: bool,
}

impl Sample {
    /// Its body as the gate reads it.
    #[must_use]
    pub fn content(&self) -> Content {
        self.body.as_ref().map_or(Content::Nothing, |(media, text)| Content::read(*media, text.as_bytes()))
    }
}

/// So many texts of one expression.
const BRANCHES: usize = 8;

/// What stands where a pattern takes anything.
const ANYTHING: &str = "x";

impl Matcher {
    /// Some requests that this selects, as far as path, method, query and network go: for each pattern the
    /// shortest path and longer ones. Whether a rule above takes them is for the caller to find out.
    #[must_use]
    pub fn samples(&self, forms: PathForms) -> Vec<Sample> {
        let usual = if self.reads_content() { Method::POST } else { Method::GET };
        let method = self.methods.first().cloned().unwrap_or(usual);
        let body = self.sample_body();
        let query = (!self.query.is_empty()).then(|| {
            let pairs = self.query.iter().map(|c| (c.written(), c.values().first().map_or("", String::as_str)));
            form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
        });
        let client = self.from.as_ref().and_then(|(_, set)| set.iter().next()).map(|net| ClientIp::new(net.addr()));
        let sample = |path: &str, by_regex| Sample {
            method: method.clone(),
            path: escaped(path, forms),
            query: query.clone(),
            body: body.clone(),
            client,
            by_regex,
        };
        if self.paths.is_empty() {
            return vec![sample("/", false), sample("/x", false)];
        }
        let all = self.paths.iter().flat_map(|p| p.samples().into_iter().map(move |path| (path, p.is_regex())));
        all.map(|(path, by_regex)| sample(&path, by_regex)).collect()
    }
}

impl Matcher {
    /// A body that its `form` or `json` surely takes.
    fn sample_body(&self) -> Option<(Media, String)> {
        fn first(values: &[String]) -> &str {
            values.first().map_or("", String::as_str)
        }
        if !self.form.is_empty() {
            let pairs = self.form.iter().map(|c| (c.name(), first(c.values())));
            let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
            return Some((Media::Form, text));
        }
        let mut document = serde_json::Value::Null;
        for condition in &self.json {
            let mut place = &mut document;
            for step in condition.name().split('.') {
                // A rule that asks for `a` and for `a.b` takes nothing surely.
                if place.is_string() {
                    return None;
                }
                place = &mut place[step];
            }
            *place = first(condition.values()).into();
        }
        (!self.json.is_empty()).then(|| (Media::Json, document.to_string()))
    }
}

impl PathPattern {
    /// Decoded paths that this surely matches.
    fn samples(&self) -> Vec<String> {
        let Some(segments) = self.segments(false) else {
            return regex_syntax::parse(self.as_str()).map(|hir| from_regex(&hir)).unwrap_or_default();
        };
        let deep = segments.contains(&Segment::Deep);
        let mut found: Vec<String> =
            [&[][..], &[ANYTHING], &[ANYTHING, ANYTHING]].map(|within| from_glob(segments, within)).into();
        found.truncate(if deep { 3 } else { 1 });
        found
    }
}

/// `within` stands where any number of segments may.
fn from_glob(segments: &[Segment], within: &[&str]) -> String {
    let mut path = String::new();
    for segment in segments {
        match segment {
            Segment::Literal(text) => path.extend(["/", text]),
            Segment::Any => path.extend(["/", ANYTHING]),
            Segment::Mixed(pieces) => path.extend(["/", &pieces.join(ANYTHING)]),
            Segment::Deep => within.iter().for_each(|text| path.extend(["/", text])),
        }
    }
    if path.is_empty() { "/".to_owned() } else { path }
}

/// Texts that the expression matches: one for each branch, with what may be left out and without it. Looking
/// around is not taken into account: the caller sees whether the rule takes it.
fn from_regex(hir: &Hir) -> Vec<String> {
    let mut found = match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => vec![String::new()],
        HirKind::Literal(literal) => vec![String::from_utf8_lossy(&literal.0).into_owned()],
        HirKind::Class(class) => vec![one_of(class).to_string()],
        HirKind::Repetition(repetition) => {
            let inner = from_regex(&repetition.sub);
            let more = repetition.max.map_or(repetition.min + 1, |most| most.min(repetition.min + 1));
            // A path may be 8 KiB long; what repeats so often says nothing more with every turn.
            let times = [repetition.min, more].map(|times| times.min(64) as usize);
            times.into_iter().flat_map(|times| inner.iter().map(move |text| text.repeat(times))).collect()
        }
        HirKind::Capture(capture) => from_regex(&capture.sub),
        HirKind::Alternation(all) => all.iter().flat_map(from_regex).collect(),
        HirKind::Concat(all) => all.iter().fold(vec![String::new()], |before, part| {
            let ends = from_regex(part);
            let both = before.iter().flat_map(|start| ends.iter().map(move |end| format!("{start}{end}")));
            both.take(BRANCHES).collect()
        }),
    };
    let mut seen = HashSet::new();
    found.retain(|text| seen.insert(text.clone()));
    found.truncate(BRANCHES);
    found
}

/// A character that any server takes as it is, where the class has one.
fn one_of(class: &Class) -> char {
    let usual = "x7aA0-_/".chars();
    match class {
        Class::Unicode(class) => {
            let has = |c: char| class.iter().any(|r| (r.start()..=r.end()).contains(&c));
            usual.into_iter().find(|c| has(*c)).or_else(|| class.iter().next().map(|r| r.start())).unwrap_or('x')
        }
        Class::Bytes(class) => {
            let has = |c: char| class.iter().any(|r| (r.start()..=r.end()).contains(&(c as u8)));
            usual.into_iter().find(|c| has(*c)).unwrap_or('x')
        }
    }
}

/// A decoded path as it stands in a request line (RFC 3986 section 3.3). What the app takes by name stays.
#[must_use]
pub fn escaped(path: &str, forms: PathForms) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(c) = rest.chars().next() {
        let kept = if forms.allow_encoded_slash && rest.starts_with("%2F") { 3 } else { c.len_utf8() };
        let (piece, after) = rest.split_at(kept);
        let plain = c.is_ascii_alphanumeric() || "/-._~!$&'()*+,=:@".contains(c);
        if kept == 3 && c == '%' || plain || (c == ';' && forms.allow_path_params) {
            out.push_str(piece);
        } else {
            out.extend(piece.bytes().map(|b| format!("%{b:02X}")));
        }
        rest = after;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::path::CanonicalPath;
    use crate::domain::policy::matcher::{FormCondition, JsonCondition};

    fn pattern(text: &str) -> PathPattern {
        match text.strip_prefix("regex:") {
            Some(text) => PathPattern::regex(text).unwrap(),
            None => PathPattern::glob(text, PathForms::default()).unwrap(),
        }
    }

    #[test]
    fn a_sample_carries_what_its_rule_asks_for() {
        let texts = |text: &str| vec![text.to_owned()];
        let form = vec![FormCondition::new("a b", texts("c&d")), FormCondition::new("e", texts("f"))];
        let body = Matcher { form, ..Matcher::default() }.sample_body();
        assert_eq!(body, Some((Media::Form, "a+b=c%26d&e=f".to_owned())));
        let json = |names: &[&str]| {
            let json = names.iter().map(|name| JsonCondition::new(name, texts("v"))).collect();
            Matcher { json, ..Matcher::default() }.sample_body()
        };
        assert_eq!(json(&["a.b", "a.c", "d"]), Some((Media::Json, r#"{"a":{"b":"v","c":"v"},"d":"v"}"#.to_owned())));
        assert_eq!(json(&["a", "a.b"]), None);
        assert_eq!(json(&[]), None);
    }

    #[test]
    fn every_sample_is_a_path_that_its_pattern_takes() {
        for text in [
            "/",
            "/**",
            "/admin",
            "/admin/",
            "/admin/**",
            "/*/runs/*/approve",
            "/**/x",
            "/a%20b/é/*.do",
            "/a*b*",
            "regex:/runs/[0-9]+/approve",
            "regex:/(a|b|c)+/x?.{2,3}",
            "regex:/[^a-z]/.*",
        ] {
            let matcher = Matcher { paths: vec![pattern(text)], ..Matcher::default() };
            let samples = matcher.samples(PathForms::default());
            assert!(!samples.is_empty(), "{text}");
            for sample in samples {
                let path = CanonicalPath::parse(&sample.path, PathForms::default()).unwrap();
                let mut takes = false;
                let _: std::ops::ControlFlow<()> = path.each_reading(false, |reading| {
                    takes |= matcher.has_path(&reading);
                    std::ops::ControlFlow::Continue(())
                });
                assert!(takes, "{text}: {sample:?}");
            }
        }
    }
    #[test]
    fn every_branch_of_an_expression_has_a_sample() {
        let paths = |regex: &str| PathPattern::regex(regex).unwrap().samples();
        assert_eq!(paths("/api(/.*)?"), ["/api", "/api/", "/api/x"]);
        assert_eq!(paths("/a|/b/c{2,}"), ["/a", "/b/cc", "/b/ccc"]);
    }
}
