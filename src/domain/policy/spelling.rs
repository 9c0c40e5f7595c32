//! Other ways to write a request, each of which some server takes for the request itself.
//!
//! The list is that of SECURITY.md 2.2 and 4.2 and of `tests/corpus/paths.txt`; what each is called here is
//! what people call the hole.

use http::Method;

use super::sample::Sample;
use crate::domain::path::{Like, PathForms};

/// What is done to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    Escapes,
    DoubleEscapes,
    Overlong,
    Control,
    Case,
    Dots,
    Slashes,
    Backslash,
    Params,
    Blanks,
    Windows,
    Width,
    Suffix,
    PathInfo,
    Method,
    Query,
    /// Names beside it, which few servers mix up: tried at an app alone.
    Beside,
}

impl Family {
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Escapes => "percent escapes",
            Self::DoubleEscapes => "escapes of escapes",
            Self::Overlong => "overlong UTF-8",
            Self::Control => "control characters",
            Self::Case => "letter case",
            Self::Dots => "dot segments",
            Self::Slashes => "doubled and escaped slashes",
            Self::Backslash => "backslashes",
            Self::Params => "`;` parameters",
            Self::Blanks => "blanks and a trailing slash",
            Self::Windows => "names of Windows",
            Self::Width => "Unicode width",
            Self::Suffix => "a format suffix",
            Self::PathInfo => "a script's argument",
            Self::Method => "another method",
            Self::Query => "the query",
            Self::Beside => "a name beside it",
        }
    }
}

/// One way to write a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spelling {
    pub family: Family,
    pub method: Method,
    /// Named by a field of the form that comes with it.
    pub form_method: Option<Method>,
    /// Path and query, as they stand in the request line.
    pub target: String,
    /// An app that reads paths as its file says may take it for the request itself. Of the others only an
    /// app that is asked can say.
    pub same: bool,
}

/// Which forms an app that is read so may take for one.
#[derive(Clone, Copy)]
struct Reads {
    case: bool,
    suffix: bool,
    scripts: bool,
    blanks: bool,
    slash: bool,
    windows: bool,
}

impl Reads {
    fn like(like: Option<Like>) -> Self {
        let of = |likes: &[Option<Like>]| likes.contains(&like);
        let (none, iis, tomcat, php) = (None, Some(Like::Iis), Some(Like::Tomcat), Some(Like::Php));
        Self {
            case: of(&[none, iis]),
            suffix: of(&[none, iis, tomcat]),
            scripts: of(&[none, iis, php]),
            blanks: of(&[none, iis, tomcat, php]),
            slash: of(&[none, iis, tomcat, php]),
            windows: of(&[iis, php]),
        }
    }
}

/// Every way to write it that is known. `open` are directories that others may come to by a weaker rule.
#[must_use]
pub fn spellings(sample: &Sample, forms: PathForms, open: &[String]) -> Vec<Spelling> {
    let mut out = Paths { reads: Reads::like(forms.like), like: forms.like, path: &sample.path, all: Vec::new() };
    out.letters();
    out.between(open);
    out.ends();
    out.scripts();
    out.beside();
    let query = sample.query.as_deref();
    let with_query = |path: String| query.map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
    let mut all: Vec<Spelling> = out
        .all
        .into_iter()
        .map(|(family, path, same)| Spelling {
            family,
            method: sample.method.clone(),
            form_method: None,
            target: with_query(path),
            same,
        })
        .collect();
    let target = with_query(sample.path.clone());
    all.extend(methods(&sample.method, &target));
    all.extend(queries(sample, forms.like).into_iter().map(|query| Spelling {
        family: Family::Query,
        method: sample.method.clone(),
        form_method: None,
        target: format!("{}?{query}", sample.path),
        same: true,
    }));
    let mut seen = std::collections::HashSet::new();
    all.retain(|s| {
        let itself = s.target == target && s.method == sample.method && s.form_method.is_none();
        !itself && seen.insert((s.method.clone(), s.form_method.clone(), s.target.clone()))
    });
    all
}

struct Paths<'a> {
    reads: Reads,
    like: Option<Like>,
    path: &'a str,
    all: Vec<(Family, String, bool)>,
}

impl Paths<'_> {
    fn add(&mut self, family: Family, path: String, same: bool) {
        self.all.push((family, path, same));
    }

    /// The path with one segment in another form, for each segment.
    fn each(&mut self, family: Family, same: bool, change: impl Fn(&str) -> Option<String>) {
        let segments: Vec<&str> = self.path.split('/').skip(1).collect();
        for at in 0..segments.len() {
            let Some(changed) = segments.get(at).filter(|s| !s.is_empty()).and_then(|s| change(s)) else { continue };
            let mut path = String::with_capacity(self.path.len() + changed.len());
            for (n, segment) in segments.iter().enumerate() {
                path.push('/');
                path.push_str(if n == at { &changed } else { segment });
            }
            self.add(family, path, same);
        }
    }

    fn letters(&mut self) {
        use Family as F;
        let one = |text: &str, write: &dyn Fn(u8) -> String| {
            let at = plain_letter(text)?;
            let (before, rest) = text.split_at(at);
            let (letter, after) = rest.split_at(1);
            Some(format!("{before}{}{after}", write(*letter.as_bytes().first()?)))
        };
        self.each(F::Escapes, true, |s| one(s, &|b| format!("%{b:02x}")));
        self.each(F::Escapes, true, |s| one(s, &|b| format!("%{b:02X}")));
        let whole = |s: &str| (!s.contains('%')).then(|| s.bytes().map(|b| format!("%{b:02x}")).collect::<String>());
        self.each(F::Escapes, true, whole);
        self.each(F::DoubleEscapes, true, |s| one(s, &|b| format!("%25{b:02x}")));
        self.each(F::DoubleEscapes, true, |s| one(s, &|b| format!("%2525{b:02x}")));
        self.each(F::DoubleEscapes, true, |s| {
            one(s, &|b| format!("%25{}", format!("{b:02x}").bytes().map(|d| format!("%{d:02x}")).collect::<String>()))
        });
        self.each(F::DoubleEscapes, true, |s| one(s, &|b| format!("%u00{b:02x}")));
        self.each(F::DoubleEscapes, true, |s| one(s, &|b| format!("%25u00{b:02x}")));
        self.each(F::Overlong, true, |s| one(s, &|b| format!("%c{:x}%{:02x}", b >> 6, 0x80 | (b & 0x3f))));
        self.each(F::Overlong, true, |s| one(s, &|b| format!("%e0%8{:x}%{:02x}", b >> 6, 0x80 | (b & 0x3f))));
        for text in ["%00", "%0a", "%0d%0a", "%09", "%0b", "%7f", "%c2%85", "\t"] {
            self.each(F::Control, true, |s| Some(format!("{s}{text}")));
            self.each(F::Control, true, |s| Some(format!("{text}{s}")));
        }
        let case = self.reads.case;
        let letters = |s: &str, change: &dyn Fn(char) -> String| {
            let mut escape = 0;
            let changed: String = s
                .chars()
                .map(|c| {
                    escape = if c == '%' { 3_i32 } else { escape } - 1;
                    if escape >= 0 { c.to_string() } else { change(c) }
                })
                .collect();
            (changed != s).then_some(changed)
        };
        self.each(F::Case, case, |s| letters(s, &|c| c.to_ascii_uppercase().to_string()));
        self.each(F::Case, case, |s| letters(s, &|c| c.to_ascii_lowercase().to_string()));
        self.each(F::Case, case, |s| {
            let at = plain_letter(s)?;
            let (before, rest) = s.split_at(at);
            let (letter, after) = rest.split_at(1);
            let other = if letter == letter.to_ascii_uppercase() {
                letter.to_ascii_lowercase()
            } else {
                letter.to_ascii_uppercase()
            };
            (other != letter).then(|| format!("{before}{other}{after}"))
        });
        let upper = letters(self.path, &|c| c.to_ascii_uppercase().to_string());
        self.all.extend(upper.map(|path| (F::Case, path, case)));
        for (from, to) in [('i', "%c4%b1"), ('s', "%c5%bf"), ('k', "%e2%84%aa")] {
            self.each(F::Case, case, |s| letters(s, &|c| if c == from { to.to_owned() } else { c.to_string() }));
        }
        // Fullwidth: Windows maps it back, and whoever brings names to one form of Unicode.
        let windows = self.like == Some(Like::Iis);
        self.each(F::Width, windows, |s| {
            letters(s, &|c| match c {
                '!'..='~' if c != '%' => escape_char(char::from_u32(c as u32 + 0xfee0).unwrap_or(c)),
                c => c.to_string(),
            })
        });
        self.each(F::Width, false, |s| one(s, &|b| format!("{}%cc%81", char::from(b))));
    }

    /// What stands between the segments, and before all of them.
    fn between(&mut self, open: &[String]) {
        use Family as F;
        let path = self.path;
        let slashes: Vec<usize> = path.match_indices('/').map(|(at, _)| at).collect();
        for &at in &slashes {
            let (before, after) = (&path[..at], &path[at + 1..]);
            let forms: [(F, &str, bool); 20] = [
                (F::Dots, "/./", true),
                (F::Dots, "/%2e/", true),
                (F::Dots, "/x/../", true),
                (F::Dots, "/x/%2e%2e/", true),
                (F::Dots, "/x/.%2E/", true),
                (F::Dots, "/x/..;/", true),
                (F::Dots, "/x/..%00/", true),
                (F::Dots, "/%20/", self.reads.blanks),
                (F::Overlong, "/x/%c0%ae%c0%ae/", true),
                (F::Slashes, "//", true),
                (F::Slashes, "///", true),
                (F::Slashes, "%2f", true),
                (F::Slashes, "%2F", true),
                (F::Slashes, "/%2f", true),
                (F::DoubleEscapes, "%252f", true),
                (F::DoubleEscapes, "%u002f", true),
                (F::Overlong, "%c0%af", true),
                (F::Backslash, "\\", true),
                (F::Backslash, "%5c", true),
                (F::Params, "/;/", true),
            ];
            for (family, text, same) in forms {
                // The first slash is not left out: what does not begin with one is no path.
                let text = if at == 0 && !text.starts_with('/') { format!("/{text}") } else { text.to_owned() };
                self.add(family, format!("{before}{text}{after}"), same);
            }
            for text in ["%ef%bc%8f", "%e2%88%95"] {
                if at > 0 {
                    self.add(F::Width, format!("{before}{text}{after}"), self.like == Some(Like::Iis));
                }
            }
        }
        for directory in open.iter().map(String::as_str).chain(["/x"]) {
            let up = |one: &str| one.repeat(directory.matches('/').count());
            let blanks = self.reads.blanks;
            for (family, one, same) in [
                (F::Dots, "/..", true),
                (F::Dots, "/%2e%2e", true),
                (F::Dots, "/.%2e", true),
                (F::Dots, "/..;", true),
                (F::Dots, "/..%20", blanks),
                (F::Dots, "/%20..", blanks),
                (F::Slashes, "%2f..", true),
                (F::Slashes, "/..%2f", true),
                (F::DoubleEscapes, "/%252e%252e", true),
                (F::DoubleEscapes, "%252f..", true),
                (F::Overlong, "/%c0%ae%c0%ae", true),
                (F::Backslash, "%5c..", true),
                (F::Backslash, "/..\\", true),
                (F::Params, ";/..", true),
            ] {
                self.add(family, format!("{directory}{}{path}", up(one)), same);
            }
        }
    }

    fn ends(&mut self) {
        use Family as F;
        let (path, reads) = (self.path, self.reads);
        let named = !path.ends_with('/');
        for (family, text, same) in [
            (F::Blanks, "/", reads.slash),
            (F::Dots, "/.", true),
            (F::Dots, "/%2e", true),
            (F::Dots, "/x/..", true),
            (F::Slashes, "//", true),
            (F::Slashes, "%2f", true),
            (F::Backslash, "%5c", true),
            (F::Backslash, "\\", true),
            (F::Query, "%3f.css", true),
            (F::Query, "%23.css", true),
            (F::Params, ";.css", true),
            // The path ends there for Fastify; for Tomcat the segment alone does.
            (F::Params, ";/x.css", self.like != Some(Like::Tomcat)),
            (F::Params, "%3b.css", true),
            (F::Control, "%00.css", true),
            (F::Control, "%0a.css", true),
        ] {
            self.add(family, format!("{path}{text}"), same && (named || family != F::Blanks));
        }
        for text in ["%20", "%20%20", "%c2%a0", "%e3%80%80", "%ef%bb%bf"] {
            self.each(F::Blanks, reads.blanks, |s| Some(format!("{s}{text}")));
            self.each(F::Blanks, reads.blanks, |s| Some(format!("{text}{s}")));
        }
        for text in [";", ";a=b", ";jsessionid=1", "%3b", "%3ba=b"] {
            self.each(F::Params, true, |s| Some(format!("{s}{text}")));
        }
        for text in [".", "..", ".%20", "%2e"] {
            self.each(F::Windows, reads.windows, |s| Some(format!("{s}{text}")));
        }
        for text in ["::$DATA", "%3a%3a$DATA", "~1", ":x"] {
            self.each(F::Windows, self.like == Some(Like::Iis), |s| Some(format!("{s}{text}")));
        }
        if !named {
            return;
        }
        for text in [".json", ".html", ".JSON", ".css", ".a.b.c", "%2ejson", ".json/"] {
            self.add(F::Suffix, format!("{path}{text}"), reads.suffix);
        }
        for text in ["%20.json", ".json%20"] {
            self.add(F::Suffix, format!("{path}{text}"), reads.suffix && reads.blanks && self.like != Some(Like::Iis));
        }
    }

    fn scripts(&mut self) {
        use Family as F;
        let (path, scripts) = (self.path, self.reads.scripts);
        let script = if self.like == Some(Like::Iis) { "index.aspx" } else { "index.php" };
        for before in [format!("/{script}"), format!("/%69{}", &script[1..]), format!("/a/{script}")] {
            // Behind a directory it is an argument all the same.
            self.add(F::PathInfo, format!("{before}{path}"), scripts);
        }
        self.add(F::PathInfo, format!("/a.php/b.php{path}"), scripts && self.like != Some(Like::Iis));
        self.add(F::PathInfo, format!("/INDEX.PHP{path}"), scripts && self.reads.case);
        if let Some((directory, name)) = path.rsplit_once('/').filter(|(directory, _)| !directory.is_empty()) {
            self.add(F::PathInfo, format!("{directory}/{script}/{name}"), scripts);
        }
        let last = path.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        let is_script = [".php", ".aspx", ".asp", ".jsp", ".cgi", ".pl"].iter().any(|ending| last.ends_with(ending));
        if is_script {
            for argument in ["/x", "/x.css", "/x/y.png"] {
                self.add(F::PathInfo, format!("{path}{argument}"), scripts);
            }
        }
    }

    /// For an app that is asked: whatever may lead to the same page, for whichever reason.
    fn beside(&mut self) {
        let path = self.path;
        for text in [
            "+",
            "*",
            "'",
            "\"",
            "~",
            ",",
            "!",
            "$",
            "@",
            "&",
            "=",
            "|",
            "^",
            "%7e",
            ".php",
            ".PHP",
            ".aspx",
            ".jsp",
            ".do",
            ".action",
            ".xml",
            ".bak",
            "/x.css",
            "/index.php",
            "/index.html",
            "/index.aspx",
            "/default.aspx",
            "%e2%80%8b",
            "%c2%ad",
        ] {
            self.add(Family::Beside, format!("{path}{text}"), false);
        }
        for text in ["/~", "/@", "/api", "/v1", "/app", "/en"] {
            self.add(Family::Beside, format!("{text}{path}"), false);
        }
    }
}

/// A letter or digit that is no part of an escape.
fn plain_letter(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let escaped = |at: usize| (1..=2).any(|back| at >= back && bytes.get(at - back) == Some(&b'%'));
    (0..bytes.len()).find(|at| bytes.get(*at).is_some_and(u8::is_ascii_alphanumeric) && !escaped(*at))
}

fn escape_char(c: char) -> String {
    c.encode_utf8(&mut [0; 4]).bytes().map(|b| format!("%{b:02x}")).collect()
}

/// Requests that an app may take for one with this method.
fn methods(method: &Method, target: &str) -> Vec<Spelling> {
    let spelling = |method: &Method, form_method: Option<&Method>, target: String| Spelling {
        family: Family::Method,
        method: method.clone(),
        form_method: form_method.cloned(),
        target,
        same: true,
    };
    let mut all = Vec::new();
    if *method == Method::GET {
        all.push(spelling(&Method::HEAD, None, target.to_owned()));
    }
    let small = method.as_str().to_ascii_lowercase();
    all.extend(Method::from_bytes(small.as_bytes()).ok().map(|small| spelling(&small, None, target.to_owned())));
    for by in [Method::POST, Method::GET].iter().filter(|by| *by != method) {
        all.push(spelling(by, Some(method), target.to_owned()));
        let joint = if target.contains('?') { '&' } else { '?' };
        for name in ["_method", "_METHOD", "%5fmethod", "+_method", "x-http-method-override"] {
            all.push(spelling(by, None, format!("{target}{joint}{name}={method}")));
        }
        all.push(spelling(by, None, format!("{target}{joint}a=b;_method={small}")));
    }
    all
}

/// Queries that an app may take for the one of the sample.
fn queries(sample: &Sample, like: Option<Like>) -> Vec<String> {
    let Some(query) = &sample.query else {
        return ["", "/static/", "x.css", "/../x"].map(str::to_owned).into();
    };
    let mut all = vec![format!("{query}&"), format!("&{query}"), format!("x=1&{query}"), format!("x=1;{query}")];
    for (n, pair) in query.split('&').enumerate() {
        let Some((name, value)) = pair.split_once('=') else { continue };
        let others: Vec<&str> = query.split('&').enumerate().filter(|(m, _)| *m != n).map(|(_, pair)| pair).collect();
        let mut add = |pair: String| all.push([&[pair.as_str()], others.as_slice()].concat().join("&"));
        let first = |text: &str| {
            let (at, letter) = text.char_indices().find(|(_, c)| c.is_ascii_alphanumeric())?;
            Some(format!("{}%{:02x}{}", &text[..at], letter as u32, &text[at + 1..]))
        };
        for name in [
            first(name),
            Some(name.to_ascii_uppercase()),
            Some(format!("{name}[]")),
            Some(format!("{name}[0]")),
            Some(format!("+{name}")),
            Some(format!("{name}%00x")),
        ]
        .into_iter()
        .flatten()
        {
            add(format!("{name}={value}"));
        }
        add(format!("{name}={value}&{name}=x"));
        add(format!("{name}=x&{name}={value}"));
        for value in [first(value), Some(format!("{value}%20")), Some(format!("+{value}"))].into_iter().flatten() {
            add(format!("{name}={value}"));
        }
        if matches!(like, None | Some(Like::Iis)) {
            add(format!("{name}={}", value.to_ascii_uppercase()));
        }
    }
    all
}
