//! No spelling of a path reaches what a rule protects under a weaker one (SECURITY.md 2.2, 4.2).
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::ops::ControlFlow;
use std::path::Path;

use http::Method;
use proptest::prelude::*;
use stepgate::base::clock::Timestamp;
use stepgate::config::expect::{Question, ask, nowhere, somebody};
use stepgate::config::{Purpose, Snapshot, from_text};
use stepgate::domain::path::{CanonicalPath, Like, PathError, PathForms};
use stepgate::domain::policy::{Content, Decision, Facts, decide};
use stepgate::domain::user::UserName;

const CORPUS: &str = include_str!("../corpus/paths.txt");

fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-24T10:00:00Z").unwrap()
}

/// One app whose `paths:` and `rules:` are given; everything else asks `mfa`.
fn app(paths: &str, rules: &str) -> Snapshot {
    let text = format!(
        "version: 1\n\
         listen: [{{ addr: \"127.0.0.1:8080\", role: proxy }}]\n\
         apps:\n\
         - app: legacy\n\
        \x20 hosts: [legacy.example]\n\
        \x20 upstream: {{ urls: [\"http://127.0.0.1:9\"] }}\n\
        \x20 paths: {paths}\n\
        \x20 rules: {rules}\n"
    );
    from_text(&text, Path::new("."), Purpose::Serve).unwrap_or_else(|faults| panic!("{faults:?}\n{text}")).0
}

/// What ann, who has shown two factors, gets: the verdict and the rule, or the refusal.
fn ann_asks(snapshot: &Snapshot, method: &Method, target: &str) -> Result<(&'static str, String), PathError> {
    let route = snapshot.routes.app("legacy").unwrap();
    let authn = somebody(&UserName::parse("ann").unwrap(), &[], snapshot.level("mfa"), now());
    let question =
        Question { method, target, content: &Content::Nothing, client: nowhere(), authn: &authn, now: now() };
    ask(route, &question, &mut ()).map(|decision| match decision {
        Decision::Allow(permit) => ("allow", permit.rule().to_string()),
        Decision::Challenge(challenge) => ("challenge", challenge.rule.to_string()),
        Decision::Deny(deny) => ("deny", deny.rule.to_string()),
    })
}

fn get(snapshot: &Snapshot, target: &str) -> Result<(&'static str, String), PathError> {
    ann_asks(snapshot, &Method::GET, target)
}

fn forms_of(word: &str) -> &'static str {
    match word {
        "-" => "{}",
        "iis" => "{ like: iis }",
        "unix" => "{ like: unix }",
        "tomcat" => "{ like: tomcat }",
        "php" => "{ like: php }",
        "encoded_slash" => "{ allow: [encoded_slash] }",
        "path_params" => "{ allow: [path_params] }",
        "double_slash" => "{ allow: [double_slash] }",
        "encoded_hash" => "{ allow: [encoded_hash] }",
        other => panic!("forms {other:?}"),
    }
}

/// `\xNN` is one byte; what is no UTF-8 then never becomes a `str`, as it never becomes an `http::Uri`.
fn spelled(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let digits = rest.get(at + 2..at + 4).and_then(|d| u8::from_str_radix(d, 16).ok());
        match digits {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[at + 4..];
            }
            None => {
                bytes.extend_from_slice(b"\\x");
                rest = &rest[at + 2..];
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).unwrap()
}

fn corpus() -> impl Iterator<Item = (&'static str, &'static str, String)> {
    CORPUS.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).map(|line| {
        let (forms, rest) = line.split_once(char::is_whitespace).unwrap();
        let (verdict, spelling) = rest.trim_start().split_once("  ").unwrap_or((rest.trim(), ""));
        (forms, verdict, spelled(spelling.trim_start()))
    })
}

#[test]
fn s_path_2_every_spelling_of_the_corpus_is_refused_or_meets_its_rule() {
    let rules = "[{ name: assets, match: { path: /static/** }, require: none }, \
         { name: protected, match: { path: /admin/x }, require: strong }]";
    let mut wrong = Vec::new();
    let mut count = 0;
    for (forms, verdict, spelling) in corpus() {
        count += 1;
        let snapshot = app(forms_of(forms), rules);
        let got = get(&snapshot, &spelling);
        let fits = match verdict {
            "same" => matches!(&got, Ok((_, rule)) if rule == "protected"),
            "refuse" => got.is_err(),
            "other" => matches!(&got, Ok((_, rule)) if rule != "protected"),
            other => panic!("verdict {other:?}"),
        };
        if !fits {
            wrong.push(format!("{forms} {spelling:?}: wanted {verdict}, got {got:?}"));
        }
    }
    assert!(count > 100, "the corpus was not read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn s_path_2_at_every_segment_of_every_rule() {
    type Spell = fn(&str) -> String;
    let segment_spellings: [(&str, Spell); 19] = [
        ("first letter escaped", |s| format!("%{:02x}{}", s.as_bytes()[0], &s[1..])),
        ("upper case", str::to_uppercase),
        ("parameter", |s| format!("{s};a=b")),
        ("escaped parameter", |s| format!("{s}%3bx")),
        ("backslash before", |s| format!("\\{s}")),
        ("slash before", |s| format!("/{s}")),
        ("escaped slash before", |s| format!("%2f{s}")),
        ("dot before", |s| format!("./{s}")),
        ("escaped dot before", |s| format!("%2e/{s}")),
        ("up and down", |s| format!("a/../{s}")),
        ("up and down escaped", |s| format!("a/%2e%2e/{s}")),
        ("parameter up", |s| format!("a/..;/{s}")),
        ("NUL after", |s| format!("{s}%00")),
        ("double escape", |s| format!("%25{:02x}{}", s.as_bytes()[0], &s[1..])),
        ("overlong slash before", |s| format!("%c0%af{s}")),
        ("space after", |s| format!("{s} ")),
        ("escaped space after", |s| format!("{s}%20")),
        ("escaped space before", |s| format!("%20{s}")),
        ("no-break space after", |s| format!("{s}%C2%A0")),
    ];
    let whole_spellings: [(&str, Spell); 9] = [
        ("script before", |p| format!("/index.php{p}")),
        ("script before, slash after", |p| format!("/index.php{p}/")),
        ("script before, suffix", |p| format!("/Index.PHP{p}.json")),
        ("two scripts before, suffix and slash after", |p| format!("/a.php/b.cgi{p}.json/")),
        ("slash after", |p| format!("{p}/")),
        ("suffix", |p| format!("{p}.json")),
        ("question mark escaped", |p| format!("{p}%3f.css")),
        ("hash escaped", |p| format!("{p}%23.css")),
        ("query", |p| format!("{p}?/static/")),
    ];
    let protected = ["/admin", "/runs/7/approve", "/a/b/c/d/e/f", "/@a b/x", "/Mixed/Case.do"];
    for rule_path in protected {
        let rules = format!(
            "[{{ name: assets, match: {{ path: /static/** }}, require: none }}, \
              {{ name: protected, match: {{ path: {rule_path:?} }}, require: strong }}]"
        );
        let snapshot = app("{}", &rules);
        let raw = rule_path.replace('@', "%40").replace(' ', "%20");
        assert_eq!(get(&snapshot, &raw).unwrap(), ("challenge", "protected".to_owned()), "{raw}");
        let segments: Vec<&str> = raw.split('/').skip(1).collect();
        for at in 0..segments.len() {
            for (how, spell) in segment_spellings {
                if segments[at].starts_with('%') && ["first letter escaped", "double escape"].contains(&how) {
                    continue;
                }
                let mut spelled: Vec<String> = segments.iter().map(ToString::to_string).collect();
                spelled[at] = spell(segments[at]);
                let target = format!("/{}", spelled.join("/"));
                let got = get(&snapshot, &target);
                let safe = got.as_ref().map_or(true, |(_, rule)| rule == "protected");
                assert!(safe, "{how}: {target} went to {got:?}");
            }
        }
        for (how, spell) in whole_spellings {
            let got = get(&snapshot, &spell(&raw));
            assert!(got.as_ref().map_or(true, |(_, rule)| rule == "protected"), "{how}: {got:?}");
        }
    }
}

#[test]
fn s_path_1_escapes_of_a_rule_path_meet_it_and_the_judged_bytes_are_forwarded() {
    let snapshot = app("{}", "[{ name: protected, match: { path: \"/@a b/x\" }, require: strong }]");
    for spelling in ["/%40a%20b/x", "/@a%20b/x", "/%40%61%20b/%78"] {
        assert_eq!(get(&snapshot, spelling).unwrap().1, "protected", "{spelling}");
    }
    let forwarded = |raw: &str| CanonicalPath::parse(raw, PathForms::default()).unwrap().as_str().to_owned();
    assert_eq!(forwarded("/%61dmin/%7Ex"), "/admin/~x", "unreserved bytes are decoded");
    assert_eq!(forwarded("/%e2%82%ac%c3%a9"), "/%E2%82%AC%C3%A9", "others are kept, in upper case");
    assert_eq!(forwarded("/a%20b/%40"), "/a%20b/%40");
}

#[test]
fn s_path_4_an_extra_reading_only_raises_and_only_by_a_rule() {
    let rules = "[{ name: open, match: { path: [/favicon.ico, /static/**] }, require: none }, \
         { name: approve, match: { path: \"/runs/*/approve\" }, require: strong }, \
         { name: folder, match: { path: /reports/ }, require: strong }, \
         { name: upper, match: { path: /Secret/Area }, require: strong }, \
         { name: shared, match: { path: /shared.json }, require: none }]";
    let snapshot = app("{}", rules);
    for public in ["/favicon.ico", "/static/app.css", "/shared.json"] {
        assert_eq!(get(&snapshot, public).unwrap().0, "allow", "{public}");
    }
    for spelling in ["/Runs/7/Approve/", "/runs/7/approve.json", "/RUNS/7/APPROVE.JSON/", "/runs/7/approve.a.b.c"] {
        assert_eq!(get(&snapshot, spelling).unwrap().1, "approve", "{spelling}");
    }
    assert_eq!(get(&snapshot, "/reports").unwrap().1, "folder", "the app may answer both forms");
    assert_eq!(get(&snapshot, "/secret/area").unwrap().1, "upper", "a rule in capitals covers small letters");
    // A spelling of a public path is not public: loosening takes the exact words.
    assert_eq!(get(&snapshot, "/Favicon.ICO").unwrap(), ("allow", "default".to_owned()));
    let stranger = |target: &str| {
        let route = snapshot.routes.app("legacy").unwrap();
        let authn = stepgate::domain::authn::Authn::Anonymous;
        let question = Question {
            method: &Method::GET,
            target,
            content: &Content::Nothing,
            client: nowhere(),
            authn: &authn,
            now: now(),
        };
        ask(route, &question, &mut ()).unwrap()
    };
    assert!(matches!(stranger("/Static/app.css"), Decision::Challenge(_)));
    assert!(matches!(stranger("/static/app.css"), Decision::Allow(_)));
}

#[test]
fn s_path_2_scripts_are_met_behind_a_front_controller_too() {
    let rules = "[{ name: no, match: { path: [/run/x, /adm.php] }, require: strong }]";
    let snapshot = app("{}", rules);
    for spelling in [
        "/run/x/",
        "/index.php/run/x",
        "/index.php/run/x/",
        "/index.php/run/x.json",
        "/INDEX.PHP/Run/X.json/",
        "/adm.php/",
        "/adm.php/x.css",
        "/index.php/adm.php",
        "/index.php/adm.php/",
        "/index.php/adm.php/x.css",
        "/index.php/ADM.php/x.css/",
    ] {
        assert_eq!(get(&snapshot, spelling).unwrap(), ("challenge", "no".to_owned()), "{spelling}");
    }
    assert_eq!(get(&snapshot, "/index.php/runx").unwrap(), ("allow", "default".to_owned()));
}

#[test]
fn s_path_4_no_path_costs_thousands_of_readings() {
    let full = |piece: &str| format!("/{}", piece.repeat(8191 / piece.len()));
    let mut forms = vec![PathForms::default()];
    for like in [Like::Unix, Like::Iis, Like::Tomcat, Like::Php] {
        forms.push(PathForms { like: Some(like), ..PathForms::default() });
    }
    let all = PathForms {
        like: None,
        allow_encoded_slash: true,
        allow_path_params: true,
        allow_double_slash: true,
        allow_encoded_hash: true,
    };
    let count = |raw: &str, forms: PathForms| {
        let mut readings = 0;
        if let Ok(path) = CanonicalPath::parse(raw, forms) {
            let _ = path.each_reading(true, |_| {
                readings += 1;
                ControlFlow::<()>::Continue(())
            });
        }
        readings
    };
    for piece in [".a", "a.php/", "a.a.php/", "A.php/.a.B", "x/", "%20a.PHP/", "a.b%20/", ".php/a.b.c.d.e.f.g.h.i"] {
        for forms in &forms {
            let readings = count(&full(piece), *forms);
            assert!(readings <= 320, "{piece}: {readings} under {forms:?}");
        }
    }
    assert!(count(&full("A.php/.a.b%20"), PathForms::default()) > 100, "the paths above are read at all");
    let worst = ["A.php//a%2Fb;c/a.a.a.a.a.a.a.a.a.a%20/", "%20A.php%2F/;b%20/c.php/"].map(full);
    let readings = worst.map(|raw| count(&raw, all));
    assert!(readings.iter().all(|n| (100..2000).contains(n)), "{readings:?}");
    // And an ordinary one costs what it did: itself, a slash more, both without letter case.
    assert_eq!(count("/area/page/view", PathForms::default()), 4);
    assert_eq!(count("/static/app.css", PathForms::default()), 8, "and each of them without the suffix");
    assert_eq!(count("/copyparty/my%20music/01%20-%20intro.flac", PathForms::default()), 8);
}

#[test]
fn s_path_3_a_blank_at_the_end_of_a_name_opens_nothing_and_closes_nothing_else() {
    let rules = "[{ name: no, match: { path: /run/x }, require: strong }, \
         { name: blank, match: { path: \"/notes/a%20\" }, require: fresh }, \
         { name: open, match: { path: /open/x }, require: none }]";
    let snapshot = app("{}", rules);
    for spelling in ["/run/x%20", "/run/%20x", "/run%20/x", "/run/x%C2%A0", "/Run/X%E3%80%80.json/"] {
        assert_eq!(get(&snapshot, spelling).unwrap().1, "no", "{spelling}");
        let tomcat = get(&app("{ like: tomcat }", rules), &spelling.to_lowercase());
        assert_eq!(tomcat.unwrap().1, "no", "{spelling}");
    }
    // Names with blanks are files like others, also where they end in one.
    for name in ["/files/my%20music/a%20b.flac", "/files/draft%20", "/files/%20draft%20/x"] {
        assert_eq!(get(&snapshot, name).unwrap(), ("allow", "default".to_owned()), "{name}");
        let path = CanonicalPath::parse(name, PathForms::default()).unwrap();
        assert_eq!(path.as_str(), name, "forwarded as it came");
    }
    assert_eq!(get(&snapshot, "/notes/a%20").unwrap().1, "blank", "a rule may name one");
    // A spelling of a public path is not public.
    assert_eq!(get(&snapshot, "/open/x%20").unwrap(), ("allow", "default".to_owned()));
}

#[test]
fn s_path_4_like_narrows_the_readings() {
    let rules = "[{ name: protected, match: { path: /admin/x }, require: strong }]";
    let rule = |like: &str, target: &str| get(&app(like, rules), target).unwrap().1;
    assert_eq!(rule("{ like: unix }", "/admin/x.json"), "default");
    assert_eq!(rule("{ like: iis }", "/ADMIN/X"), "protected");
    let open = "[{ name: open, match: { path: /Public/** }, require: none }]";
    let snapshot = app("{ like: iis }", open);
    assert_eq!(get(&snapshot, "/public/a").unwrap().1, "open", "IIS knows no letter case");
    // PHP: a script with an argument stays the script.
    let php = app("{ like: php }", "[{ name: script, match: { path: /admin.php }, require: strong }]");
    for spelling in ["/admin.php", "/admin.php/x.css", "/admin.php/"] {
        assert_eq!(get(&php, spelling).unwrap().1, "script", "{spelling}");
    }
    for refused in ["/admin.php%20", "/admin.php."] {
        assert!(get(&php, refused).is_err(), "{refused}");
    }
}

#[test]
fn s_path_4_a_file_that_a_rule_names_is_met_with_an_argument_whatever_its_ending() {
    let rules = "[{ name: open, match: { path: /pub/** }, require: none }, \
         { name: file, match: { path: [/run/pay.html, /old/db.Inc] }, require: strong }, \
         { name: pages, match: { path: \"/intern/*.page\" }, require: strong }, \
         { name: api, match: { path: [/api/v1.2, /.htaccess] }, require: strong }]";
    let snapshot = app("{}", rules);
    for spelling in [
        "/run/pay.html/x",
        "/run/pay.html/x/y.css",
        "/run/pay%2Ehtml/",
        "/RUN/Pay.HTML/x",
        "/run/pay.html%20/x",
        "/index.php/run/pay.html/x",
        "/old/db.inc/x",
    ] {
        assert_eq!(get(&snapshot, spelling).unwrap(), ("challenge", "file".to_owned()), "{spelling}");
    }
    assert_eq!(get(&snapshot, "/intern/a.page/x").unwrap().1, "pages");
    // What only looks like a file, and a file of the same name elsewhere, have pages of their own below them.
    for other in ["/api/v1.2/users", "/.htaccess/x", "/run/pay.htmlx/x", "/x/run/pay.html/x", "/run/x/pay.html"] {
        assert_eq!(get(&snapshot, other).unwrap(), ("allow", "default".to_owned()), "{other}");
    }
    assert_eq!(get(&snapshot, "/pub/run/pay.html/x").unwrap(), ("allow", "open".to_owned()));
    for (like, rule) in [("iis", "file"), ("php", "file"), ("unix", "default"), ("tomcat", "default")] {
        assert_eq!(get(&app(&format!("{{ like: {like} }}"), rules), "/run/pay.html/x").unwrap().1, rule, "{like}");
    }
    // However many there are, the first and the last of them count.
    let deep = app("{}", "[{ name: deep, match: { path: /a/**/b/pay.inc }, require: strong }]");
    for spelling in
        [format!("/a/b/pay.inc{}/x", "/pay.inc".repeat(900)), format!("/a{}/b/pay.inc/x", "/pay.inc".repeat(900))]
    {
        assert_eq!(get(&deep, &spelling).unwrap().1, "deep");
    }
}

#[test]
fn s_path_4_a_file_that_a_rule_names_is_met_where_the_path_leaves_its_name_out() {
    let rules = "[{ name: open, match: { path: [/, /about, /run/logo] }, require: none }, \
         { name: folder, match: { path: [/admin/index.php, /Old/Default.aspx] }, require: strong }, \
         { name: file, match: { path: [/run/pay.html, /top.php] }, require: strong }, \
         { name: scripts, match: { path: \"/*.php\" }, require: strong }]";
    let snapshot = app("{}", rules);
    for spelling in ["/admin", "/admin/", "/%61dmin/", "/ADMIN/", "/admin/index", "/old/", "/Old", "/admin%20/"] {
        assert_eq!(get(&snapshot, spelling).unwrap().1, "folder", "{spelling}");
    }
    for spelling in ["/run/pay", "/run/pay/", "/RUN/Pay", "/top", "/top.php"] {
        assert_eq!(get(&snapshot, spelling).unwrap().1, "file", "{spelling}");
    }
    // A pattern for all scripts names none, so that what is public stays so.
    for public in ["/", "/about", "/run/logo"] {
        assert_eq!(get(&snapshot, public).unwrap(), ("allow", "open".to_owned()), "{public}");
    }
    // What may come to the file by a rule above may come to its folder.
    let admins = "[{ name: ann, match: { path: /admin/**, who: [\"user:ann\"] }, require: mfa }, \
         { name: no, match: { path: /admin/index.php }, deny: \"Not you.\" }]";
    assert_eq!(get(&app("{}", admins), "/admin/").unwrap(), ("allow", "ann".to_owned()));
    // Where nothing but the path as written counts, it does here too.
    assert_eq!(get(&app("{ like: unix }", rules), "/admin/").unwrap(), ("allow", "default".to_owned()));
    for like in ["php", "tomcat"] {
        let snapshot = app(&format!("{{ like: {like} }}"), rules);
        assert_eq!(get(&snapshot, "/admin/").unwrap().1, "folder", "{like}");
        assert_eq!(get(&snapshot, "/ADMIN/").unwrap().1, "default", "{like}");
    }
    assert_eq!(get(&app("{ like: iis }", rules), "/OLD").unwrap().1, "folder");
}

#[test]
fn s_path_5_nothing_is_decoded_twice() {
    let parse = |raw: &str| CanonicalPath::parse(raw, PathForms::default());
    for raw in ["/%2541", "/%25%34%31", "/a%25%61%62", "/%25u0041"] {
        assert_eq!(parse(raw), Err(PathError::DoubleEscape), "{raw}");
    }
    let kept = parse("/100%25/x").unwrap();
    assert_eq!((kept.as_str(), kept.decoded()), ("/100%25/x", "/100%/x"));
    let wide = parse("/admin%ef%bc%8fx").unwrap();
    assert_eq!(wide.as_str(), "/admin%EF%BC%8Fx", "never normalised to a slash");
}

#[test]
fn s_path_7_the_query_never_makes_a_path() {
    let rules = "[{ name: assets, match: { path: [/static/**, /x.css] }, require: none }, \
         { name: protected, match: { path: /admin }, require: strong }]";
    let snapshot = app("{}", rules);
    for target in ["/admin?/static/", "/admin?x=/static/a.css", "/admin?", "/admin?/x.css"] {
        assert_eq!(get(&snapshot, target).unwrap().1, "protected", "{target}");
    }
}

#[test]
fn s_path_9_a_public_rule_by_suffix_alone_is_a_fault() {
    for path in ["/**/*.css", "/*.css", "/**/x.css", "/*/*.js", "/**/favicon.ico"] {
        let text = format!(
            "version: 1\nlisten: [{{ addr: \"127.0.0.1:1\", role: proxy }}]\napps: [{{ app: a, hosts: [a.example], \
             upstream: {{ urls: [\"http://127.0.0.1:9\"] }}, rules: [{{ match: {{ path: {path:?} }}, require: none }}] }}]"
        );
        let faults = from_text(&text, Path::new("."), Purpose::Check).unwrap_err();
        assert!(faults[0].message.contains("by the end of the path alone"), "{path}: {faults:?}");
    }
    for fine in ["/static/**/*.css", "/favicon.ico", "/robots*", "/**"] {
        app("{}", &format!("[{{ match: {{ path: {fine:?} }}, require: none }}]"));
    }
}

#[test]
fn allowed_forms_are_judged_under_every_reading() {
    // As written the segment is `admin%2Fx` of /open; decoded it is below /open/admin.
    let rules = "[{ name: protected, match: { path: /open/admin/** }, require: strong }, \
         { name: open, match: { path: /open/** }, require: none }]";
    let snapshot = app("{ allow: [encoded_slash, path_params, double_slash] }", rules);
    for target in ["/open%2Fadmin%2Fx", "/open/admin%2fx", "/open;a/admin;b/x", "/open//admin/x", "//open//admin;q%2fx"]
    {
        assert_eq!(get(&snapshot, target).unwrap(), ("challenge", "protected".to_owned()), "{target}");
    }
    // Tomcat cuts parameters before it undoes escapes: the first slash goes with its parameter, the second is one.
    for forms in ["{ like: tomcat, allow: [encoded_slash] }", "{ allow: [encoded_slash, path_params] }"] {
        let verdict = get(&app(forms, rules), "/open;a%2Fb/admin%2Fx").unwrap();
        assert_eq!(verdict, ("challenge", "protected".to_owned()), "{forms}");
    }
    // Public only if public under every reading.
    assert_eq!(get(&snapshot, "/open/a%2Fb").unwrap().1, "open");
    assert_eq!(get(&snapshot, "/open%2Fa").unwrap(), ("allow", "default".to_owned()));
}

#[test]
fn s_path_1_a_hash_in_a_name_is_judged_and_forwarded_as_one_and_hides_no_protected_page() {
    let rules = "[{ name: protected, match: { path: /open/admin/** }, require: strong }, \
         { name: sharp, match: { path: /open/C%23/** }, require: none }, \
         { name: open, match: { path: /open/** }, require: none }]";
    let snapshot = app("{ allow: [encoded_hash] }", rules);
    assert_eq!(get(&snapshot, "/open/C%23/a").unwrap(), ("allow", "sharp".to_owned()));
    // An app that decodes before it takes an address apart stops at the hash.
    for target in ["/open/admin/x%23.css", "/open/admin/%23/y", "/open/admin/%2523"] {
        let verdict = get(&snapshot, target);
        assert!(verdict.is_err() || verdict.unwrap().1 == "protected", "{target}");
    }
    let forms = PathForms { allow_encoded_hash: true, ..PathForms::default() };
    assert_eq!(CanonicalPath::parse("/a%23b", forms).unwrap().as_str(), "/a%23b", "never a raw one");
    for hides in ["/open/..%23/admin/x", "/open/admin/x%3Fy"] {
        assert!(get(&snapshot, hides).is_err(), "{hides}");
    }
}

fn any_forms() -> impl Strategy<Value = PathForms> {
    let like = prop_oneof![
        Just(None),
        Just(Some(Like::Unix)),
        Just(Some(Like::Iis)),
        Just(Some(Like::Tomcat)),
        Just(Some(Like::Php)),
    ];
    (like, any::<[bool; 4]>()).prop_map(|(like, [a, b, c, d])| PathForms {
        like,
        allow_encoded_slash: a,
        allow_path_params: b,
        allow_double_slash: c,
        allow_encoded_hash: d,
    })
}

/// Paths made of what is dangerous in them.
fn any_path() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("/".to_owned()),
        Just("admin".to_owned()),
        Just("ADMIN".to_owned()),
        Just("x".to_owned()),
        Just("static".to_owned()),
        Just(".".to_owned()),
        Just("..".to_owned()),
        Just(";a=b".to_owned()),
        Just("%2f".to_owned()),
        Just("%2e".to_owned()),
        Just("%25".to_owned()),
        Just("%23".to_owned()),
        Just("%c4%b1".to_owned()),
        Just(".php".to_owned()),
        Just(".json".to_owned()),
        Just("%20".to_owned()),
        "%[0-9a-fA-F]{2}",
        "[ -~]",
        any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #[test]
    fn s_path_1_what_is_judged_renders_to_the_same_bytes(raw in any_path(), forms in any_forms()) {
        if let Ok(path) = CanonicalPath::parse(&raw, forms) {
            let again = CanonicalPath::parse(path.as_str(), forms);
            prop_assert_eq!(again.as_ref(), Ok(&path), "parsing what is forwarded changes nothing");
            prop_assert!(path.as_str().starts_with('/'));
            prop_assert!(path.as_str().bytes().all(|b| (0x21..0x7f).contains(&b)), "clean on the wire");
            let decoded = percent_encoding::percent_decode_str(path.as_str()).decode_utf8().expect("UTF-8");
            let dots = |s: &str| s == "." || s == "..";
            prop_assert!(!decoded.split('/').any(dots), "no reading escapes: {}", decoded);
            prop_assert!(!decoded.chars().any(|c| c.is_control() || c == '\\'));
        }
    }

    #[test]
    fn s_path_2_no_reading_escapes_a_rule_for_everything(raw in any_path(), forms in any_forms()) {
        let rules = "[{ name: all, match: { path: /** }, require: strong }]";
        let snapshot = app("{}", rules);
        if let Ok(path) = CanonicalPath::parse(&raw, forms) {
            let authn = somebody(&UserName::parse("ann").unwrap(), &[], snapshot.level("mfa"), now());
            let facts = Facts {
                method: &Method::GET, also_methods: &[], content: &Content::Nothing, path: &path, query: None,
                client: nowhere(), authn: &authn, now: now(),
            };
            let policy = &snapshot.routes.app("legacy").unwrap().policy;
            prop_assert!(matches!(decide(policy, &facts, &mut ()), Decision::Challenge(_)));
        }
    }

    #[test]
    fn s_path_4_lax_readings_never_lower_a_verdict(raw in any_path()) {
        let rules = "[{ name: open, match: { path: [/static/**, /x.json] }, require: none }, \
             { name: protected, match: { path: [/admin/**, /x/admin] }, require: strong }]";
        let strict = get(&app("{ like: unix }", rules), &raw);
        let lax = get(&app("{}", rules), &raw);
        let rank = |verdict: &str| if verdict == "allow" { 0 } else { 1 };
        if let (Ok(strict), Ok(lax)) = (&strict, &lax) {
            prop_assert!(rank(lax.0) >= rank(strict.0), "{} {:?} {:?}", raw, strict, lax);
        }
        prop_assert!(lax.is_err() || strict.is_ok(), "{} {:?} {:?}", raw, strict, lax);
    }
}
