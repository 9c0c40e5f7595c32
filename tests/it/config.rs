//! A file is good, or everything that is wrong with it is said at once, with its place.
#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stepgate::base::clock::Timestamp;
use stepgate::config::{
    Fault, Purpose, SchemaKind, Snapshot, Warning, from_text, load, load_for, markdown, run_tests, schema,
};
use stepgate::domain::policy::Outcome;
use stepgate::domain::route::IdentityValue;
use stepgate::domain::upstream::{HealthCheck, Protocol};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn check(text: &str) -> Result<(Snapshot, Vec<Warning>), Vec<Fault>> {
    from_text(text, Path::new("."), Purpose::Check)
}

fn faults(text: &str) -> Vec<String> {
    match check(text) {
        Ok(_) => panic!("no fault was found in:\n{text}"),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

const HEAD: &str = "version: 1\nlisten: [{ addr: \"127.0.0.1:8080\", role: proxy }]\n";

/// The head, and one app with `rest` in it.
fn with_app(rest: &str) -> String {
    let indented: String = rest.lines().map(|l| format!("  {l}\n")).collect();
    format!("{HEAD}apps:\n- app: a\n  hosts: [a.example]\n  upstream: {{ urls: [\"http://127.0.0.1:9\"] }}\n{indented}")
}

#[test]
fn every_example_loads_without_a_fault_and_its_tests_hold() {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(root().join("config/examples")).unwrap().map(|e| e.unwrap().path()).collect();
    files.push(root().join("config/stepgate.yaml"));
    assert!(files.len() >= 10);
    let now = Timestamp::parse_rfc3339("2026-11-24T10:00:00Z").unwrap();
    for file in files {
        let (snapshot, _) = load_for(&file, Purpose::Check).unwrap_or_else(|faults| panic!("{faults:#?}"));
        let failures: Vec<String> = run_tests(&snapshot, now).iter().map(ToString::to_string).collect();
        assert!(failures.is_empty(), "{failures:#?}");
        let first = std::fs::read_to_string(&file).unwrap().lines().next().unwrap().to_owned();
        let schema = first.strip_prefix("# yaml-language-server: $schema=").expect("the schema line");
        assert!(file.parent().unwrap().join(schema).exists(), "{} names {schema}", file.display());
    }
}

#[test]
fn an_upstream_is_asked_as_its_file_says() {
    let upstream = |keys: &str| {
        let text =
            with_app("").replace("upstream: { urls: [\"http://127.0.0.1:9\"] }", &format!("upstream: {{ {keys} }}"));
        check(&text).map(|(s, _)| Arc::clone(&s.routes.app("a").unwrap().upstream))
    };
    let one = "urls: [\"http://127.0.0.1:9\"]";
    assert_eq!(upstream(one).unwrap().health, None);
    assert_eq!(
        upstream(&format!("{one}, health: /ping?deep=1")).unwrap().health,
        Some(HealthCheck::of("/ping?deep=1"))
    );
    let whole =
        "health: { path: /ping, every: 1s, timeout: 500ms, healthy_after: 1, unhealthy_after: 5, expect: [200, 401] }";
    let expected = HealthCheck {
        path: "/ping".into(),
        every: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        healthy_after: 1,
        unhealthy_after: 5,
        expect: vec![200, 401],
    };
    let read = upstream(&format!("{one}, slow_start: 0s, {whole}")).unwrap();
    assert_eq!((read.health.as_ref(), read.slow_start), (Some(&expected), Duration::ZERO));
    let tls = "client_certificate: { certificate: gate.crt, key: { file: gate.key } }, server_name: payroll.internal";
    let read = upstream(&format!("urls: [\"https://127.0.0.1:9\"], idle_timeout: 5m, {tls}")).unwrap();
    assert_eq!(read.client_certificate.as_ref().map(|c| c.certificate.ends_with("gate.crt")), Some(true));
    assert_eq!(
        (read.server_name.as_deref(), read.idle_timeout),
        (Some("payroll.internal"), Some(Duration::from_secs(300)))
    );
    for (keys, protocol) in
        [("", Protocol::Http1), (", protocol: http2", Protocol::Http2), (", protocol: auto", Protocol::Auto)]
    {
        assert_eq!(upstream(&format!("{one}{keys}")).unwrap().protocol, protocol);
    }
    let many: Vec<String> = (1..=65).map(|n| format!("\"http://10.0.0.{n}:80\"")).collect();
    for (bad, said) in [
        (format!("{one}, client_certificate: {{ certificate: a, key: text }}"), "a secret stands here in clear"),
        (format!("{one}, protocol: h2"), "is not a protocol"),
        (format!("{one}, server_name: \"a b\""), "no name that a certificate can carry"),
        (format!("{one}, connect_timeout: 0s"), "no app answers in no time"),
        (format!("{one}, health: ping"), "no path of a request"),
        (format!("{one}, health: \"/a b\""), "no path of a request"),
        (format!("{one}, health: {{ every: 5s }}"), "needs the key `path`"),
        (format!("{one}, health: {{ path: /p, every: 10ms }}"), "`every` is from 100ms to 1h"),
        (format!("{one}, health: {{ path: /p, timeout: 0s }}"), "in no time"),
        (format!("{one}, health: {{ path: /p, expect: 100 }}"), "a status from 200 to 599"),
        ("urls: [\"http://127.0.0.1:9\", \"http://127.0.0.1:9\"]".to_owned(), "stands here twice"),
        (format!("urls: [{}]", many.join(", ")), "at most 64 addresses"),
    ] {
        let faults = upstream(&bad).unwrap_err();
        assert!(faults.iter().any(|f| f.to_string().contains(said)), "{bad}: {faults:?}");
    }
}

#[test]
fn the_page_of_all_options_says_what_the_code_takes() {
    let stored = std::fs::read_to_string(root().join("docs/OPTIONS.md")).unwrap();
    assert!(stored == markdown(), "write it anew: stepgate schema --markdown > docs/OPTIONS.md");
    // Every link leads to a heading of the page.
    let anchors: Vec<String> = stored
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|title| title.to_lowercase().replace(' ', "-").replace(['`', '.', '[', ']'], ""))
        .collect();
    let links: Vec<&str> = stored.split("](#").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() > 20, "{links:?}");
    for link in links {
        assert!(anchors.iter().any(|anchor| anchor == link), "{link} leads nowhere: {anchors:?}");
    }
}

#[test]
fn the_schema_files_say_what_the_code_takes() {
    for (kind, name) in [(SchemaKind::Main, "stepgate.json"), (SchemaKind::App, "app.json")] {
        let path = root().join("config/schema").join(name);
        let stored: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(stored, schema(kind), "write it anew: stepgate schema > config/schema/{name}");
    }
}

#[test]
fn s_conf_1_ten_mistakes_in_two_files_are_ten_faults() {
    let found = load_for(&root().join("tests/fixtures/broken/stepgate.yaml"), Purpose::Check).unwrap_err();
    let base = format!("{}/", root().join("tests/fixtures/broken").display());
    let text: Vec<String> = found.iter().map(|f| f.to_string().replace(&base, "")).collect();
    insta::assert_snapshot!(text.join("\n"), @r#"
    apps.d/payroll.yaml:3:20: "https://10.0.4.11:8443/base" is no upstream: nothing stands after the host and port; a path before every other goes into `path_prefix`
    apps.d/payroll.yaml:7:5: rule "approve-run" can never be reached: "all" (line 6) matches everything it does - the first rule that matches decides: move the narrower one above
    apps.d/payroll.yaml:7:71: unknown level "storng" in rule "approve-run" - did you mean "strong"?
    apps.d/payroll.yaml:8:36: a path pattern starts with a slash - did you mean "/export/**"?
    apps.d/payroll.yaml:8:54: the time zone is missing: name it, for instance Europe/Paris or UTC
    apps.d/payroll.yaml:9:5: rule "export" can never be reached: "all" (line 6) matches everything it does - the first rule that matches decides: move the narrower one above
    apps.d/payroll.yaml:9:13: another rule has the name "export" already (line 8)
    apps.d/payroll.yaml:9:42: unknown key "requires" in a rule - did you mean "require"?
    stepgate.yaml:3:5: the ops listener 0.0.0.0:9901 is open to everyone - listen on a loopback address, or say who may connect with `from: [NETWORK]`
    stepgate.yaml:4:44: unknown key "tsl" in a listener - did you mean "tls"?
    stepgate.yaml:5:19: expected a duration such as 15m, found the number 15 - the unit is missing: 15s, 15m or 15h
    stepgate.yaml:6:28: expected 6, 7 or 8, found the number 5
    stepgate.yaml:7:29: expected 1 or 2 (types of factor: knows, has), found the number 3
    stepgate.yaml:8:15: a secret stands here in clear - write a reference: { file: /run/secrets/NAME } or { env: NAME }
    stepgate.yaml:9:19: `trusted_proxies` holds every address: anybody could then say who they are - name the addresses of your load balancers
    stepgate.yaml:11:1: the key "include" stands here a second time (first in line 10)
    "#);
    assert!(found.len() >= 10, "{found:#?}");
}

#[test]
fn s_conf_1_each_mistake_has_its_place() {
    let cases: &[(&str, &str)] = &[
        // (the file, what must stand in one fault)
        ("", "stepgate.yaml:1:1: the file is empty"),
        (
            "version: 2\nlisten: []\n",
            "stepgate.yaml:1:10: expected version 1 of this language (this program reads no other), found the number 2",
        ),
        ("version: 1\n", "the main file needs the key `listen`"),
        ("version: 1\nlisten: [{ addr: \"[::]:443\", role: proxy, tls: {} }]\n", "`tls` needs the key `certificates`"),
        ("version: 1\nlisten: [{ addr: \"443\", role: proxy }]\n", "\"443\" is no address to listen on"),
        ("version: 1\nlisten: [{ addr: \"127.0.0.1:1\", role: prxy }]\n", "did you mean \"proxy\"?"),
        ("version: 1\nlisten: [{ addr: \"10.0.0.5:1\", role: forward_auth }]\n", "not supported yet in this version"),
        ("version: 1\nlisten: [{ addr: \"127.0.0.1:1\", role: ops }]\n", "no listener has the role `proxy`"),
        ("version: 1\nlisten:\n", "stepgate.yaml:2:7: expected a list"),
        ("version: 1\nversion: 1\nlisten: []\n", "stepgate.yaml:2:1: the key \"version\" stands here a second time"),
    ];
    for (text, wanted) in cases {
        let found = faults(text);
        assert!(found.iter().any(|f| f.contains(wanted)), "{wanted}\n{found:#?}");
    }
}

#[test]
fn s_conf_1_each_mistake_of_an_app_has_its_place() {
    let cases: &[(&str, &str)] = &[
        ("requier: mfa", "stepgate.yaml:7:3: unknown key \"requier\" in an app - did you mean \"require\"?"),
        ("require: storng", "stepgate.yaml:7:12: unknown level \"storng\" in the app - did you mean \"strong\"?"),
        ("require: token", "the level `token` is not supported yet in this version"),
        ("allow: []", "`allow` names nobody"),
        ("allow: [staff]", "\"staff\" is nobody: write anyone, user:NAME or group:NAME"),
        ("allow: [group:staff]\nrequire: none", "opens its paths to everyone"),
        ("title: 7", "expected a text, found the number 7"),
        ("max_body: 10", "expected a size such as 256KiB, found the number 10"),
        ("tunnel_idle: 10", "expected a duration such as 15m, found the number 10"),
        ("<<: { title: x }", "merge keys (`<<`) do not work here"),
        ("app_cookies: isolate", "\"isolate\" is not a way to treat the app's cookies - known: seal, none"),
        ("app_cookies: { seal: [a b] }", "\"a b\" is no name of a cookie"),
        ("app_cookies: { seal: [sid], pass: [sid] }", "this cookie stands under `seal` and under `pass`"),
        ("idle_ignores: [/ping]", "`idle_ignores` is not supported yet in this version"),
        ("rules:", "stepgate.yaml:7:8: expected a list"),
        ("rules: [{ name: a, require: mfa }]", "a rule needs the key `match`"),
        ("rules: [{ match: { path: admin } }]", "did you mean \"/admin\"?"),
        ("rules: [{ match: { path: '/a?b=c' } }]", "the query is no part of the path"),
        ("rules: [{ match: { path: '/*.{css,js}' } }]", "is no wildcard here"),
        ("rules: [{ match: { path: '/a/../b' } }]", "dot segments are refused"),
        ("rules: [{ match: { path: '/a//b' } }]", "an empty segment"),
        ("rules: [{ match: { path: '/a;b' } }]", "no path ever holds ';'"),
        ("rules: [{ match: { path: '/a%2fb' } }]", "no path ever holds '/'"),
        ("rules: [{ match: { path: '/a%zz' } }]", "two hexadecimal digits"),
        ("rules: [{ match: { path: '/foo**' } }]", "`**` stands alone"),
        ("rules: [{ match: { path: '/.stepgate/x' } }]", "Stepgate's own"),
        ("rules: [{ match: { path: { regex: '/a(' } } }]", "not a regular expression"),
        ("rules: [{ match: { path: { regex: 'a)(b' } } }]", "not a regular expression"),
        ("rules: [{ match: { path: [] } }]", "`path` is empty"),
        ("rules: [{ match: { path: /a, methods: [post] } }]", "write it in capitals"),
        ("rules: [{ match: { path: /a, from: [offcie] } }]", "unknown network \"offcie\""),
        ("rules: [{ match: { path: /a, from: [10.0.0.1/8] } }]", "the network is 10.0.0.0/8"),
        ("rules: [{ match: { path: /a, hours: 'Mon-Fri 07:00-19:00' } }]", "the time zone is missing"),
        ("rules: [{ match: { path: /a, form: [a] } }]", "a map"),
        ("rules: [{ match: { path: /a, json: { a..b: c } } }]", "names no member of a document"),
        ("rules: [{ match: { path: /a, form: { a: b }, json: { a: b } } }]", "could never surely hold"),
        ("judge_body: 2MiB", "1KiB to 1MiB"),
        ("tests: [{ post: /a, form: { a: b }, json: '{}', expect: allow }]", "a test sends one body"),
        ("tests: [{ get: /a, form: { a: b }, expect: allow }]", "a get has no body"),
        (
            "rules: [{ name: x, match: { path: /a, form: { a: b } } }, { name: y, match: { path: /a, form: { a: b, c: d } } }]",
            "rule \"y\" can never be reached: \"x\"",
        ),
        (
            "rules: [{ name: all, match: { path: /** } }, { name: new, match: { path: /a }, shadow: true }]",
            "rule \"new\" can never be reached: \"all\" (line 7)",
        ),
        (EXCEPTION_FOR_ALL, "an exception is for people by name or group"),
        (
            "rules: [{ name: r, match: { path: /a }, deny: No }]\nexceptions: [{ who: user:a, rules: r, require: mfa, until: 2026-12-31, approved_by: b, ticket: c }]",
            "rule \"r\" denies: an exception lets people off a level, never past a `deny`",
        ),
        (
            "rules: [{ name: r, match: { path: /a }, require: none }]\nexceptions: [{ who: user:a, rules: r, require: mfa, until: 2026-12-31, approved_by: b, ticket: c }]",
            "rule \"r\" asks for no level",
        ),
        (
            "rules: [{ name: read, match: { path: /a } }]\nexceptions: [{ who: user:a, rules: raed, require: mfa, until: 2026-12-31, approved_by: b, ticket: c }]",
            "this app has no rule \"raed\" - did you mean \"read\"?",
        ),
        (
            "exceptions: [{ who: user:a, rules: default, require: none, until: 2026-12-31, approved_by: b, ticket: c }]",
            "an exception lets nobody off signing in",
        ),
        (
            "exceptions: [{ who: user:a, rules: default, require: mfa, until: 31.12.2026, approved_by: b, ticket: c }]",
            "is no end: write a date such as 2026-12-31",
        ),
        (
            "exceptions: [{ who: user:a, rules: default, require: mfa, until: '2026-12-31T10:00', approved_by: b, ticket: c }]",
            "is no end: write a date such as 2026-12-31",
        ),
        (
            "exceptions: [{ who: user:a, rules: default, require: mfa, until: 2026-12-31, approved_by: b }]",
            "an exception needs the key `ticket`",
        ),
        ("rules: [{ match: { path: /a }, keep_body: 17MiB }]", "17MiB is more than is kept of a form: 16MiB at most"),
        (
            "rules: [{ match: { path: /a }, deny: Closed, require: mfa }]",
            "`require` beside `deny` would never be asked",
        ),
        ("rules: [{ match: { path: /a, who: [group:g] }, require: none }]", "nobody signs in"),
        (
            "rules: [{ name: x, match: { path: /a } }, { name: x, match: { path: /b } }]",
            "another rule has the name \"x\"",
        ),
        ("rules: [{ name: default, match: { path: /a } }]", "the name `default`"),
        (
            "rules: [{ name: r, match: { path: /a }, redirect: /b, respond: 404 }]",
            "has `redirect` and `respond`: a request gets one answer",
        ),
        ("rules: [{ match: { path: /a }, deny: No, respond: 404 }]", "`respond` beside `deny` would never be asked"),
        ("rules: [{ match: { path: /a }, redirect: //b }]", "name another host"),
        ("rules: [{ match: { path: /a }, redirect: 'javascript:x' }]", "write a path (/app/) or an address"),
        ("rules: [{ match: { path: /a }, redirect: { to: /b, status: 304 } }]", "301, 302, 303, 307 and 308"),
        ("rules: [{ match: { path: [/a/**, /b/**] }, redirect: /c/** }]", "has no single path to take it from"),
        ("rules: [{ match: { path: '/*/x/**' }, redirect: /c/** }]", "does not say where it begins"),
        ("rules: [{ name: r, match: { path: /a/** }, redirect: /a/b }]", "sends there again"),
        ("rules: [{ name: r, match: { path: /** }, redirect: /x/** }]", "sends there again"),
        ("paths: { like: iis }\nrules: [{ name: r, match: { path: /App }, redirect: /app }]", "sends there again"),
        (
            "rules: [{ name: r, match: { path: /a, methods: [POST] }, redirect: { to: /a, status: 308 } }]",
            "sends there again",
        ),
        ("rules: [{ match: { path: /a }, respond: 302 }]", "use `redirect`"),
        ("tests: [{ put: /a, destination: /b, expect: allow }]", "only `copy` and `move` have a `destination`"),
        ("rules: [{ match: { path: /a }, respond: 401 }]", "use `require`"),
        ("rules: [{ match: { path: /a }, respond: { status: 204, body: x } }]", "204 has no body"),
        ("rules: [{ match: { path: /a }, respond: { body: x, file: a.txt } }]", "one body: `body` or `file`"),
        ("rules: [{ match: { path: /a }, respond: { file: ../a.txt } }]", "leads out of the directory"),
        ("rules: [{ match: { path: /a }, respond: { file: /etc/hosts.txt } }]", "leads out of the directory"),
        ("rules: [{ match: { path: /a }, respond: { file: tls/app.key, type: text/plain } }]", "no kind of file"),
        ("rules: [{ match: { path: /a }, respond: { body: x, type: html } }]", "is no media type"),
        ("tests: [{ get: /, as: ann, at: mfa }]", "a test needs the key `expect`"),
        ("tests: [{ get: /, expect: alow }]", "\"alow\" is no expectation"),
        ("tests: [{ get: /, post: /, expect: deny }]", "a test makes one request"),
        ("tests: [{ get: /, at: mfa, expect: deny }]", "needs `as: NAME`"),
        ("tests: [{ get: /, expect: challenge mfaa }]", "did you mean \"mfa\"?"),
        ("identity: { headers: [remote-usr] }", "did you mean \"remote-user\"?"),
        ("identity: { headers: [remote-user, { Remote_User: user }] }", "is there already"),
        ("identity: { headers: [{ Host: user }] }", "a header of the protocol"),
        ("identity: { headers: [{ X-User: usr }] }", "did you mean \"user\"?"),
        ("identity: { headers: [{ X-A: { text: a, file: b } }] }", "has one key"),
        ("paths: { like: windows }", "known: unix, iis, tomcat, php"),
        ("websocket_origins: [other.example]", "is no origin"),
    ];
    for (rest, wanted) in cases {
        let found = faults(&with_app(rest));
        assert!(found.iter().any(|f| f.contains(wanted)), "{rest}\nwanted {wanted}\n{found:#?}");
    }
}

const EXCEPTION_FOR_ALL: &str =
    "exceptions: [{ who: anyone, rules: default, require: password, until: 2026-12-31, approved_by: b, ticket: c }]";

#[test]
fn a_shadow_rule_hides_no_rule_and_answers_nothing_in_the_apps_place() {
    let shadow = "{ name: new, match: { path: /** }, allow: [anyone], require: none, redirect: https://new.example/**, shadow: true }";
    let rest = format!("rules: [{shadow}, {{ name: old, match: {{ path: /a/** }}, redirect: /b/** }}]");
    check(&with_app(&rest)).unwrap();
    let found = faults(&with_app(&rest).replace("  upstream: { urls: [\"http://127.0.0.1:9\"] }\n", ""));
    assert!(found.iter().any(|f| f.contains("an app needs the key `upstream`")), "{found:#?}");
    // A circle of the rules in force is told at its own place, though a shadow rule stands before it.
    let found = faults(&with_app(&rest.replace("/b/**", "/a/b")));
    let column = with_app(&rest.replace("/b/**", "/a/b")).lines().find_map(|l| l.find("/a/b }")).unwrap() + 1;
    assert!(found.iter().any(|f| f.contains(&format!(":{column}: rule \"old\" sends to"))), "{found:#?}");
}

#[test]
fn a_regex_that_looks_open_at_one_end_is_warned_of() {
    let warned = |regex: &str| {
        let rest = format!("rules: [{{ match: {{ path: {{ regex: '{regex}' }} }}, require: mfa }}]");
        let (_, warnings) = check(&with_app(&rest)).unwrap();
        warnings.iter().any(|w| w.to_string().contains("is matched against the whole path"))
    };
    for open in ["^/admin", "/admin$", "^/a|/b$", "^/a|/b"] {
        assert!(warned(open), "{open}");
    }
    for meant in ["/v[12]/.*", "^/admin$", "^/admin/.*", "/a|/b", "^/(a|b)$", ".*/x$", "/[|]a"] {
        assert!(!warned(meant), "{meant}");
    }
}

#[test]
fn an_app_without_an_upstream_answers_everything_itself() {
    let app = |rest: &str| with_app(rest).replace("  upstream: { urls: [\"http://127.0.0.1:9\"] }\n", "");
    let moved =
        "{ name: moved, match: { path: /** }, allow: [anyone], require: none, redirect: https://new.example/** }";
    let (snapshot, _) = check(&app(&format!("rules: [{moved}]"))).unwrap();
    assert!(snapshot.routes.app("a").unwrap().upstream.urls.is_empty());
    for rest in [
        String::new(),
        "rules: [{ match: { path: /a/** }, redirect: https://new.example/** }]".to_owned(),
        "rules: [{ match: { path: /**, methods: [GET] }, respond: 410 }]".to_owned(),
        "rules: [{ match: { path: /** }, require: mfa }]".to_owned(),
        format!("rules: [{{ match: {{ path: /a }}, allow: [anyone], require: none }}, {moved}]"),
    ] {
        let found = faults(&app(&rest));
        assert!(found.iter().any(|f| f.contains("an app needs the key `upstream`")), "{rest}\n{found:#?}");
    }
}

#[test]
fn s_conf_3_an_answer_is_a_file_beside_the_policy_and_never_one_of_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("stepgate.yaml");
    let write = |path: &str, text: &str| std::fs::write(dir.path().join(path), text).unwrap();
    let load_with = |answer: &str| {
        let rule = format!(
            "rules: [{{ match: {{ path: /a }}, respond: {{ file: {answer} }} }}]\n\
             identity: {{ headers: [{{ X-Key: {{ file: key.txt }} }}] }}"
        );
        write("stepgate.yaml", &with_app(&rule));
        load(&file)
    };
    std::fs::create_dir(dir.path().join("state")).unwrap();
    std::fs::create_dir(dir.path().join("folder.txt")).unwrap();
    write("key.txt", "s3cret");
    write("page.html", "<p>one");
    write("state/keys.json", "{}");
    std::os::unix::fs::symlink("/etc/hostname", dir.path().join("link.txt")).unwrap();
    let (first, _) = load_with("page.html").unwrap();
    assert!(first.files.contains(&dir.path().join("page.html")), "a reload watches it");
    write("page.html", "<p>two");
    let (second, _) = load_with("page.html").unwrap();
    assert_ne!(first.hash, second.hash, "it is part of the policy");
    for (answer, wanted) in [
        ("state/keys.json", "is in the state directory, which holds the keys"),
        ("link.txt", "is a link that leads out"),
        ("missing.txt", "cannot be read"),
        ("folder.txt", "is no file"),
        ("key.txt", "holds a secret of the configuration"),
    ] {
        let found: Vec<String> = load_with(answer).unwrap_err().iter().map(ToString::to_string).collect();
        assert!(found.iter().any(|f| f.contains(wanted)), "{answer}: {found:#?}");
    }
}

#[test]
fn s_conf_1_a_literal_secret_is_refused_and_never_repeated() {
    for text in [
        format!("{HEAD}store: {{ url: postgres://u:hunter2@db/x }}\n"),
        format!("{HEAD}store: {{ url: [hunter2] }}\n"),
        with_app("identity: { headers: [{ X-Api-Key: { text: hunter2 } }] }"),
        with_app("identity: { headers: [{ Authorization: { text: 'Basic hunter2' } }] }"),
    ] {
        let found = faults(&text);
        assert!(
            found.iter().any(|f| f.contains("a secret stands here in clear") && f.contains("{ file:")),
            "{found:?}"
        );
        assert!(found.iter().all(|f| !f.contains("hunter2")), "{found:?}");
    }
}

#[test]
fn s_conf_1_a_rule_that_can_never_be_reached_is_a_fault() {
    let below = |first: &str, second: &str| {
        let text =
            with_app(&format!("rules:\n- {{ name: first, match: {first} }}\n- {{ name: second, match: {second} }}"));
        check(&text).err().map(|f| f[0].to_string())
    };
    let unreachable = [
        ("{ path: /** }", "{ path: /a/b }"),
        ("{ path: /a/** }", "{ path: /a }"),
        ("{ path: /a/** }", "{ path: [/a/b, /a/c/*] }"),
        ("{ path: /a/*/c }", "{ path: /a/b/c }"),
        ("{ path: '/a/x*' }", "{ path: /a/xyz }"),
        ("{ path: /a }", "{ path: /a, methods: [POST] }"),
        ("{ path: /a, methods: [GET] }", "{ path: /a, methods: [HEAD] }"),
        ("{ path: /a, from: [10.0.0.0/8] }", "{ path: /a, from: [10.1.0.0/16] }"),
        ("{}", "{ path: /a }"),
    ];
    for (first, second) in unreachable {
        let fault = below(first, second).unwrap_or_else(|| panic!("{first} over {second}"));
        assert_eq!(
            fault,
            "stepgate.yaml:9:5: rule \"second\" can never be reached: \"first\" (line 8) matches everything it does - the first rule that matches decides: move the narrower one above"
        );
    }
    let reachable = [
        ("{ path: /a/b }", "{ path: /a/** }"),
        ("{ path: /a/* }", "{ path: /a/** }"),
        ("{ path: /a, methods: [POST] }", "{ path: /a }"),
        ("{ path: /a, from: [10.1.0.0/16] }", "{ path: /a, from: [10.0.0.0/8] }"),
        ("{ path: /a, hours: 'Mon 07:00-19:00 UTC' }", "{ path: /a }"),
        ("{ path: /a, who: [group:g] }", "{ path: /a }"),
        ("{ path: /a, query: { x: y } }", "{ path: /a }"),
        ("{ path: /A }", "{ path: /a }"),
    ];
    for (first, second) in reachable {
        assert_eq!(below(first, second), None, "{first} over {second}");
    }
}

#[test]
fn one_host_belongs_to_one_app_and_none_to_the_portal_too() {
    let app = |name: &str, host: &str| {
        format!("- {{ app: {name}, hosts: [{host}], upstream: {{ urls: [\"http://127.0.0.1:9\"] }} }}\n")
    };
    let twice = faults(&format!("{HEAD}apps:\n{}{}", app("a", "x.example"), app("b", "X.example")));
    assert!(twice[0].contains("stepgate.yaml:5:") && twice[0].contains("belongs to the app a"), "{twice:?}");
    let portal = faults(&format!("{HEAD}portal: {{ host: x.example }}\napps:\n{}", app("a", "x.example")));
    assert!(portal[0].contains("belongs to the portal already"), "{portal:?}");
    let names = faults(&format!("{HEAD}apps:\n{}{}", app("a", "x.example"), app("a", "y.example")));
    assert!(names[0].contains("another app has the name a already"), "{names:?}");
}

#[test]
fn s_conf_3_listeners_off_loopback_need_a_guard() {
    let listen = |entry: &str| format!("version: 1\nlisten: [{{ addr: \"127.0.0.1:1\", role: proxy }}, {entry}]\n");
    let fault = |entry: &str| faults(&listen(entry)).join("\n");
    assert!(fault("{ addr: \"0.0.0.0:9901\", role: ops }").contains("open to everyone"));
    assert!(fault("{ addr: \"0.0.0.0:8080\", role: proxy }").contains("clear text"));
    assert!(fault("{ addr: \"[::]:8080\", role: proxy }").contains("clear text"));
    assert!(fault("{ addr: \"127.0.0.1:1\", role: redirect }").contains("another listener"));
    assert!(fault("{ addr: \"127.0.0.1:2\", role: proxy, proxy_protocol: true }").contains("name the load balancer"));
    assert!(fault("{ addr: \"127.0.0.1:2\", role: ops, proxy_protocol: true }").contains("takes no PROXY header"));
    for fine in [
        "{ addr: \"127.0.0.1:9901\", role: ops }",
        "{ addr: \"[::1]:9901\", role: ops }",
        "{ addr: \"0.0.0.0:9901\", role: ops, from: [10.0.0.0/8] }",
        "{ addr: \"0.0.0.0:80\", role: redirect }",
        "{ addr: \"0.0.0.0:443\", role: proxy, tls: { certificates: /nowhere } }",
    ] {
        assert!(check(&listen(fine)).is_ok(), "{fine}: {:?}", check(&listen(fine)).err());
    }
    let trusted = format!("{}trusted_proxies: [10.0.0.4]\n", listen("{ addr: \"0.0.0.0:8080\", role: proxy }"));
    assert!(check(&trusted).is_ok());
}

#[test]
fn s_net_4_nobody_trusts_all_the_world() {
    for all in ["0.0.0.0/0", "\"::/0\"", "everyone"] {
        let found = faults(&format!("{HEAD}networks: {{ everyone: [0.0.0.0/0] }}\ntrusted_proxies: [{all}]\n"));
        assert!(found[0].contains("holds every address"), "{found:?}");
    }
}

#[test]
fn a_rule_that_guards_one_level_and_leaves_the_deeper_ones_open_is_warned_of() {
    let warned = |rules: &str| {
        let (_, warnings) = check(&with_app(&format!("allow: [group:staff]\nrequire: mfa\nrules: [{rules}]"))).unwrap();
        warnings.iter().map(ToString::to_string).find(|w| w.contains("leaves"))
    };
    let admins = "allow: [group:admins]";
    let said = warned(&format!("{{ match: {{ path: /admin/* }}, {admins} }}")).unwrap();
    assert!(
        said.contains("leaves /admin/a/b to the app's own `allow` and `require`, which lets other people in"),
        "{said}"
    );
    assert!(said.contains("write /admin/** for any depth"), "{said}");
    let all = "{ name: rest, match: { path: /** }, allow: [anyone], require: none }";
    let said = warned(&format!("{{ match: {{ path: [/admin, /admin/*] }}, require: fresh }}, {all}")).unwrap();
    assert!(said.contains("to rule \"rest\"") && said.contains("asks for no sign-in"), "{said}");
    let said = warned("{ match: { path: /admin* }, deny: \"Closed.\" }").unwrap();
    assert!(said.contains("leaves /admin/a to") && said.contains("(and /admin for itself)"), "{said}");
    for fine in [
        // The default asks for as much.
        "{ match: { path: /admin/* }, require: mfa }".to_owned(),
        // It opens, and guards nothing.
        "{ match: { path: /static/* }, allow: [anyone], require: none }".to_owned(),
        // Somebody thought of what lies deeper.
        format!("{{ match: {{ path: /admin/* }}, {admins} }}, {{ match: {{ path: /admin/** }}, require: fresh }}"),
        format!("{{ match: {{ path: [/admin/*, /admin/**] }}, {admins} }}"),
        format!("{{ match: {{ path: /admin/** }}, {admins} }}"),
        format!("{{ match: {{ path: /* }}, {admins} }}"),
    ] {
        assert_eq!(warned(&fine), None, "{fine}");
    }
}

#[test]
fn levels_can_be_redefined_and_added_within_reason() {
    let fault = |levels: &str| faults(&format!("{HEAD}levels: {{ {levels} }}\n")).join("\n");
    assert!(fault("none: { factors: 1 }").contains("cannot be redefined"));
    assert!(fault("token: { factors: 1 }").contains("cannot be redefined"));
    assert!(fault("x: { factors: 3 }").contains("expected 1 or 2 (types of factor: knows, has), found the number 3"));
    assert!(fault("x: { max_age: 10m }").contains("needs the key `factors`"));
    assert!(fault("x: { factors: 2, kinds: [password] }").contains("nobody can ever meet"));
    assert!(fault("x: { factors: 2, phishing_resistant: true, kinds: [totp] }").contains("nobody can ever meet"));
    assert!(fault("x: { factors: 2, max_age: 0s }").contains("nobody can ever meet"));
    assert!(fault("x: { factors: 2, kinds: [totpp] }").contains("did you mean \"totp\"?"));
    let text =
        format!("{HEAD}levels: {{ mfa: {{ factors: 2, max_age: 1h }}, phone: {{ factors: 2, kinds: [totp] }} }}\n");
    let (snapshot, _) = check(&text).unwrap();
    assert_eq!(snapshot.level("mfa").unwrap().requirement.max_age.unwrap().as_secs(), 3600);
    assert!(snapshot.level("phone").is_some() && snapshot.level("strong").is_some());
}

#[test]
fn warnings_do_not_stop_anything() {
    let text = with_app("rules: [{ match: { path: /a }, require: card }]\nidentity: { pass_headers: [X-User] }")
        .replace("[\"http://127.0.0.1:9\"]", "[\"https://127.0.0.1:9\"], dangerously_insecure: true")
        + "levels: { card: { factors: 2, kinds: [client_certificate] } }\n";
    let warnings: Vec<String> = check(&text).unwrap().1.iter().map(ToString::to_string).collect();
    for wanted in ["portal.host", "dangerously_insecure", "nobody passes", "pass_headers"] {
        assert!(warnings.iter().any(|w| w.contains(wanted)), "{wanted}: {warnings:#?}");
    }
}

#[test]
fn identity_dialects_mix_with_ones_own_headers() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("key"), "s3cret\n").unwrap();
    let text = with_app(
        "identity: { headers: [remote-user, authentik, { X-WEBAUTH-USER: user }, { X-Key: { file: key } }, { X-Via: { text: gate } }], encoding: rfc8187, assertion: true }",
    );
    let (snapshot, _) = from_text(&text, dir.path(), Purpose::Serve).unwrap();
    let identity = &snapshot.routes.app("a").unwrap().identity;
    let find = |name: &str| &identity.headers.iter().find(|(n, _)| n == name).unwrap().1;
    assert!(matches!(find("remote-user"), IdentityValue::User));
    assert!(matches!(find("x-authentik-groups"), IdentityValue::Groups { separator: '|' }));
    assert!(matches!(find("x-webauth-user"), IdentityValue::User));
    assert!(matches!(find("x-key"), IdentityValue::FixedSecret(s) if s.expose() == "s3cret"));
    assert!(matches!(find("x-via"), IdentityValue::Fixed(t) if t == "gate"));
    let missing = text.replace("file: key", "file: gone");
    let found = from_text(&missing, dir.path(), Purpose::Serve).unwrap_err();
    assert!(found[0].message.contains("cannot be read"), "{found:?}");
    assert!(from_text(&missing, dir.path(), Purpose::Check).is_ok(), "check runs where the secrets are not");
}

#[test]
fn a_rule_without_an_outcome_says_what_the_app_says() {
    let (snapshot, _) =
        check(&with_app("allow: [group:staff]\nrequire: fresh\nrules: [{ match: { path: /a } }]")).unwrap();
    let policy = &snapshot.routes.app("a").unwrap().policy;
    assert_eq!(policy.rules[0].outcome, policy.default);
    assert!(matches!(&policy.default, Outcome::Require { level, .. } if level.name.as_str() == "fresh"));
    assert_eq!(policy.rules[0].name.as_str(), "rule-1");
}

#[test]
fn an_app_file_that_no_include_finds_is_not_lost_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let apps = dir.path().join("apps.d");
    std::fs::create_dir(&apps).unwrap();
    let app =
        |name: &str| format!("app: {name}\nhosts: [{name}.example]\nupstream: {{ urls: [\"http://127.0.0.1:9\"] }}\n");
    let main = dir.path().join("stepgate.yaml");
    std::fs::write(&main, format!("{HEAD}include: [apps.d/*.yaml]\n")).unwrap();
    let faults = load(&main).unwrap_err();
    assert!(faults.iter().any(|f| f.message == "\"apps.d/*.yaml\" names no file"), "{faults:?}");
    std::fs::write(apps.join("shop.yml"), app("shop")).unwrap();
    let fault = load(&main).unwrap_err().into_iter().find(|f| f.message.ends_with("names no file")).unwrap();
    assert_eq!(fault.hint, Some(format!("there is {}", apps.join("shop.yml").display())));

    std::fs::write(apps.join("wiki.yaml"), app("wiki")).unwrap();
    // What editors leave, and what is put aside on purpose.
    std::fs::write(apps.join(".#wiki.yml"), "").unwrap();
    std::fs::write(apps.join("old.yaml.off"), app("old")).unwrap();
    let not_included = || {
        let (_, warnings) = load(&main).unwrap();
        let said = warnings.iter().map(ToString::to_string).filter(|w| w.contains("is not included"));
        said.collect::<Vec<_>>()
    };
    let [said] = &not_included()[..] else { panic!("{:?}", not_included()) };
    assert!(said.contains(&format!("{} is not included: nothing in it counts", apps.join("shop.yml").display())));

    std::fs::remove_file(apps.join(".#wiki.yml")).unwrap();
    std::fs::write(&main, format!("{HEAD}include: [apps.d/wiki.yaml, apps.d/*.yml]\n")).unwrap();
    assert_eq!(not_included(), [""; 0], "another line includes it");
    // Beside the main file there is more than files of apps.
    std::fs::write(dir.path().join("docker-compose.yml"), "services: {}\n").unwrap();
    std::fs::write(dir.path().join("app-shop.yaml"), app("more")).unwrap();
    std::fs::write(&main, format!("{HEAD}include: [apps.d/*.y*ml, app-*.yaml]\n")).unwrap();
    assert_eq!(not_included(), [""; 0]);
    std::fs::write(dir.path().join("app-last.yml"), app("last")).unwrap();
    assert!(matches!(&not_included()[..], [said] if said.contains("app-last.yml is not included")));
}

#[test]
fn s_conf_1_includes_stay_in_the_directory_and_files_are_nobody_elses() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let dir = tempfile::tempdir().unwrap();
    let etc = dir.path().join("etc");
    std::fs::create_dir_all(etc.join("apps.d")).unwrap();
    let app = "app: a\nhosts: [a.example]\nupstream: { urls: [\"http://127.0.0.1:9\"] }\n";
    std::fs::write(etc.join("apps.d/a.yaml"), app).unwrap();
    std::fs::write(dir.path().join("evil.yaml"), app.replace("app: a", "app: evil")).unwrap();
    let main = etc.join("stepgate.yaml");
    let write = |include: &str| std::fs::write(&main, format!("{HEAD}include: [{include}]\n")).unwrap();

    write("apps.d/*.yaml");
    let (snapshot, _) = load(&main).unwrap();
    assert!(snapshot.routes.app("a").is_some());
    assert_eq!(snapshot.files.len(), 2);
    assert_eq!(snapshot.hash.len(), 64);

    for outside in ["../evil.yaml", "/etc/passwd"] {
        write(outside);
        assert!(load(&main).unwrap_err()[0].message.contains("leads out of the directory"), "{outside}");
    }
    write("missing.yaml");
    assert!(load(&main).unwrap_err()[0].message.contains("names no file"));
    symlink(dir.path().join("evil.yaml"), etc.join("apps.d/z.yaml")).unwrap();
    write("apps.d/*.yaml");
    assert!(load(&main).unwrap_err()[0].message.contains("leads out of the directory"));
    std::fs::remove_file(etc.join("apps.d/z.yaml")).unwrap();

    let open = |mode| std::fs::set_permissions(etc.join("apps.d/a.yaml"), PermissionsExt::from_mode(mode)).unwrap();
    open(0o646);
    assert!(load(&main).unwrap_err()[0].message.contains("anybody on this machine may write"));
    open(0o644);
    let apps = |mode| std::fs::set_permissions(etc.join("apps.d"), PermissionsExt::from_mode(mode)).unwrap();
    apps(0o777);
    assert!(load(&main).unwrap_err()[0].message.contains("anybody on this machine may put another file in its place"));
    apps(0o755);
    std::fs::write(etc.join("apps.d/b.yaml"), "app: b\nhosts: [a.example]\nupstream: { urls: [] }\n").unwrap();
    let found: Vec<String> = load(&main).unwrap_err().iter().map(ToString::to_string).collect();
    assert!(found.iter().all(|f| f.contains("apps.d/b.yaml:")), "{found:?}");
    assert_eq!(found.len(), 2, "the host and the empty list: {found:?}");
}

#[test]
fn a_missing_certificate_stops_serve_and_only_warns_check() {
    let text = "version: 1\nlisten: [{ addr: \"[::]:443\", role: proxy, tls: { certificates: /nowhere/tls } }]\n";
    let found = from_text(text, Path::new("."), Purpose::Serve).unwrap_err();
    assert_eq!(found[0].to_string(), "stepgate.yaml:2:64: the certificates /nowhere/tls are not there");
    let (_, warnings) = check(text).unwrap();
    assert!(warnings.iter().any(|w| w.0.message.contains("are not there")));
}

#[test]
fn a_listener_whose_port_no_host_has_is_warned_of() {
    let warned = |listen: &str, host: &str, more: &str| {
        let text = format!(
            "version: 1\nlisten: [{{ {listen} }}]\n{more}portal: {{ host: \"login.{host}\" }}\napps:\n- app: wiki\n  hosts: [\"wiki.{host}\"]\n  upstream: {{ urls: [\"http://127.0.0.1:9\"] }}\n"
        );
        let (_, warnings) = check(&text).unwrap();
        warnings.iter().any(|w| w.0.message.contains("no host has the port"))
    };
    let clear = "addr: \"127.0.0.1:9559\", role: proxy";
    let tls = "addr: \"[::]:9443\", role: proxy, tls: { certificates: tls }";
    assert!(warned(clear, "localhost", "") && warned(tls, "acme.test", ""));
    assert!(warned(clear, "localhost:8080", ""), "another port is no help");
    assert!(!warned(clear, "localhost:9559", "") && !warned(tls, "acme.test:9443", ""));
    for own in ["addr: \"127.0.0.1:80\", role: proxy", "addr: \"[::]:443\", role: proxy, tls: { certificates: tls }"] {
        assert!(!warned(own, "acme.test", ""), "{own}");
    }
    assert!(!warned("addr: \"127.0.0.1:0\", role: proxy", "acme.test", ""), "a test's port is not known");
    assert!(!warned(clear, "acme.test", "trusted_proxies: [10.0.0.4]\n"), "a load balancer has the public port");
}

#[test]
fn what_people_really_mistype_is_said_in_words_that_help() {
    let rule = |text: &str| with_app(&format!("rules: [{{ {text} }}]"));
    for (text, wanted) in [
        (rule("match: { path: **/x }"), "put the value in quotes"),
        (with_app("title: @x"), "cannot begin with `@`: put it in quotes"),
        (with_app("rules: [{ match: { path: /x }"), "is never closed"),
        (with_app("title: a: b"), "put the value in quotes"),
        (format!("{}---\nb: 1\n", with_app("require: mfa")), "one file holds one"),
        (with_app("<<: { require: mfa }"), "write the keys out"),
        (with_app("allow: [groups:staff]"), "did you mean \"group:staff\"?"),
        (with_app("tests: [{ get: /, expect: chalenge mfa }]"), "did you mean \"challenge\"?"),
        (with_app("allow: staff"), "write a list: [group:staff]"),
        (with_app("allow: anyone"), "write a list: [anyone]"),
        ("version: 1\nportal:\n  host: x\n\ttitle: y\n".to_owned(), "a tab stands at the start of the next line"),
        (with_app("allow: [staff]"), "did you mean \"group:staff\", or \"user:staff\" for one person?"),
        (rule("match: { path: \"*.css\" }"), "name the directory: \"/static/**/*.css\""),
        (rule("match: { path: \"**/a.css\" }"), "name the directory: \"/static/**/a.css\""),
        (rule("match: { path: x/y }"), "did you mean \"/x/y\"?"),
        (with_app("harden: true"), "expected one of off, report_only, enforce, found true"),
        (HEAD.replace("version: 1", "version: 2"), "this program reads no other), found the number 2"),
        (rule("match: { path: /x }, deny: no"), "is no switch"),
        (rule("match: { path: /x }, deny: false"), "to let people pass, leave `deny` out"),
        (
            with_app("require: mfa").replace("a.example", "https://a.example/x"),
            "leave out what stands around the host, \"a.example\"",
        ),
        (with_app("require: mfa").replace("a.example", "\"*.example\""), "wildcards are not supported"),
        (with_app("require: mfa").replace("[a.example]", "[a.example, a.example]"), "listed twice in this app"),
        (HEAD.replace("\"127.0.0.1:8080\"", "[::]:443"), "put the address in quotes, \"[::]:443\""),
        (
            "version: 1\nlisten:\n- addr: [2001:db8::1]:443\n  role: proxy\n".to_owned(),
            "in quotes, \"[2001:db8::1]:443\"",
        ),
        (HEAD.replace("\"127.0.0.1:8080\"", "[::]"), "stands in quotes"),
        (HEAD.replace("\"127.0.0.1:8080\"", "\":443\""), "write it like \"[::]:443\" (every address)"),
        (HEAD.replace("version: 1", "version: \"1\""), "write it without quotes: 1"),
        (with_app(" require: mfa"), "begins in column 4, a key above it in column 3, the `- ` of a list in column 1"),
        (
            with_app("rules:\n- match: { path: /x }\n   require: fresh"),
            "begins in column 6, a key above it in column 5",
        ),
        (with_app("require:mfa"), "a key ends with a colon and a blank"),
        (with_app("title: \"a\" b"), "is a quote missing"),
        (with_app("").replace("  upstream", "rules: []\n  upstream"), "column 1"),
        (with_app("allow: group: staff"), "no blank stands after the colon of `group:`: [group:NAME]"),
        (with_app("allow: [group: staff]"), "without the blank after the colon: group:staff"),
        (with_app("allow: group:staff, admins"), "write a list: [group:staff, group:admins]"),
        (with_app("allow: [everyone]"), "did you mean \"anyone\"?"),
        (rule("path: /x, require: fresh"), "it stands inside `match`: match: { path: ... }"),
        (rule("match: { path: /x }, methods: [POST]"), "it stands inside `match`: match: { methods: ... }"),
        (rule("match: { path: /x, require: fresh }"), "it is a key of a rule: take it out of `match`"),
        (rule("match: /x/**"), "write a map: { path: [\"/x/**\"] }"),
        (rule("match: { path: ^/x/.*$ }"), "a regular expression is written { regex: \"^/x/.*$\" }"),
        (rule("match: { path: /x }, require: [fresh]"), "write it without brackets: fresh"),
        (rule("match: { path: /x }, require: public"), "`require: none`"),
        (rule("match: { path: /x }, deny: all"), "a rule denies everybody whom it matches"),
        (rule("match: { path: /x, hours: \"Mon-Fry 7-19 Berlin\" }"), "\"7\" is no time of day"),
        (rule("match: { path: /x, hours: \"Mon-Fry 7-19 Berlin\" }"), "\"Berlin\" is no time zone"),
        (with_app("identity: remote-user"), "write a map: { headers: [\"remote-user\"] }"),
        (with_app("upstream: http://127.0.0.1:8"), "write a map: { urls: [\"http://127.0.0.1:8\"] }"),
        (
            with_app("title: \u{201c}Wiki\u{201d}").replace("a.example", "\u{201c}a.example\u{201d}"),
            "type the plain ones",
        ),
        (
            HEAD.replace("role: proxy", "role: proxy, tls: { cert: a.crt, key: a.key }"),
            "certificates: /etc/stepgate/tls, a directory",
        ),
        (HEAD.replace("role: proxy", "role: proxy, tls: /etc/tls"), "write a map: { certificates: \"/etc/tls\" }"),
        (format!("{HEAD}trusted_proxies: [nginx]\n"), "give it a name under `networks`"),
        (format!("{HEAD}sessions: {{ timeout: 15m }}\n"), "write idle: 15m"),
        (format!("{HEAD}rules: []\n"), "it is a key of an app: indent it further, below `apps`"),
    ] {
        let found: Vec<String> = check(&text).unwrap_err().iter().map(ToString::to_string).collect();
        assert!(found.iter().any(|f| f.contains(wanted)), "{wanted}: {found:#?}");
    }
    assert_eq!(faults(&with_app("allow: staff")).len(), 1, "and no second complaint that it names nobody");
    for once in [rule("path: /x"), rule("match: { path: /x }, allow: [everyone], require: none")] {
        assert_eq!(faults(&once).len(), 1, "one slip, one complaint: {once}");
    }
    // A condition that was mistyped is one fault, and no reason to call the rules below it dead.
    let typo = with_app("rules: [{ match: { pth: /x } }, { match: { path: /y } }, { match: { path: /z } }]");
    assert_eq!(check(&typo).unwrap_err().len(), 1);
    let warned = |method: &str| {
        let (_, warnings) =
            check(&rule(&format!("match: {{ path: /x, methods: [{method}] }}, require: fresh"))).unwrap();
        warnings.iter().any(|w| w.to_string().contains("did you mean \"GET\"?"))
    };
    assert!(warned("GTE") && !warned("GET") && !warned("PURGE-ALL"));
}

#[test]
fn redirects_that_lead_back_to_themselves_are_a_fault_however_many_rules_they_take() {
    let rules = |rules: &[&str]| {
        let list: String = rules.iter().map(|rule| format!("\n- {{ {rule} }}")).collect();
        format!("rules:{list}")
    };
    let a = "name: a, match: { path: /a }, redirect: /b";
    let back = "name: b, match: { path: /b }, redirect: /a";
    assert_eq!(
        faults(&with_app(&rules(&[a, back]))),
        [
            "stepgate.yaml:8:47: rule \"a\" sends to \"/b\", and rule \"b\" (line 9) from there back to it: browsers give up"
        ]
    );
    // Over its own address, with the rest of the path, and for a form that is sent on whole.
    for circle in [
        &["match: { path: /a }, redirect: http://a.example/a"][..],
        &["match: { path: /a }, redirect: http://a.example/b", back],
        &["match: { path: /x/** }, redirect: /y/**", "match: { path: /y/** }, redirect: http://a.example/x/**"],
        &["match: { path: /x/** }, redirect: /y/z/**", "match: { path: /y/** }, redirect: /x/**"],
        &[a, "match: { path: /b }, redirect: /c?q", "match: { path: /c }, redirect: /a"],
        &["match: { path: /a, methods: [POST] }, redirect: /b", "match: { path: /b, methods: [POST] }, redirect: /a"],
        &["match: { path: /a }, allow: [group:x], redirect: /b", back],
    ] {
        let found = faults(&with_app(&rules(circle)));
        assert!(found.len() == 1 && found[0].contains("browsers give up"), "{circle:?}: {found:#?}");
    }
    // Where something can end it, or it leads elsewhere, nothing is said.
    for fine in [
        &[a, "name: b, match: { path: /b }, redirect: /c"][..],
        &[a, "match: { path: /b, query: { x: y } }, redirect: /a"],
        &[a, "match: { path: /b, methods: [POST] }, redirect: { to: /a, status: 303 }"],
        &[a, "match: { path: /b, hours: Mon-Fri 07:00-19:00 UTC }, respond: 404", back],
        &[a, "match: { path: /b }, redirect: https://a.example/a"],
        &[a, "match: { path: /b }, redirect: http://other.example/a"],
        &["match: { path: /a }, allow: [group:x], redirect: /b", "match: { path: /b }, allow: [group:y], redirect: /a"],
        &["match: { path: /old/** }, redirect: /**"],
    ] {
        let text = with_app(&rules(fine));
        assert!(check(&text).is_ok(), "{fine:?}: {:#?}", check(&text).err());
    }
    // From one app to another one's host and back.
    let two = format!(
        "{}- app: b\n  hosts: [b.example]\n  rules: [{{ match: {{ path: /** }}, redirect: http://a.example/** }}]\n",
        with_app("rules: [{ match: { path: /** }, redirect: http://b.example/** }]")
    );
    assert_eq!(faults(&two).len(), 1, "{:#?}", faults(&two));
}

#[test]
fn a_policy_test_can_move_a_file() {
    let text = with_app(
        "rules: [{ name: shut, match: { path: /shut/** }, deny: \"Closed.\" }]\ntests:\n- { move: /a, destination: /b, as: ann, at: mfa, expect: allow }\n- { copy: /a, destination: http://a.example/shut/b, as: ann, at: mfa, expect: deny }\n- { move: /a, destination: http://b.example/b, as: ann, at: mfa, expect: reject }",
    );
    let (snapshot, _) = check(&text).unwrap();
    let now = Timestamp::parse_rfc3339("2026-11-24T10:00:00Z").unwrap();
    let failures: Vec<String> = run_tests(&snapshot, now).iter().map(ToString::to_string).collect();
    assert!(snapshot.tests.len() == 3 && failures.is_empty(), "{failures:#?}");
}

#[test]
fn an_upstream_that_is_the_gate_itself_is_a_fault() {
    let app = |addr: &str, url: &str| {
        let text = with_app("require: mfa").replace("127.0.0.1:8080", addr).replace("http://127.0.0.1:9", url);
        if addr.starts_with("127") { text } else { format!("{text}trusted_proxies: [10.0.0.4]\n") }
    };
    for (addr, url) in [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("127.0.0.1:8080", "http://localhost:8080"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("[::]:8080", "http://127.0.0.1:8080"),
        ("[::]:8080", "http://[::1]:8080"),
        ("10.0.0.9:8080", "http://10.0.0.9:8080"),
    ] {
        let found = faults(&app(addr, url));
        assert!(found[0].starts_with("stepgate.yaml:6:22: ") && found[0].contains("own listener"), "{found:#?}");
    }
    for (addr, url) in [
        ("127.0.0.1:8080", "http://127.0.0.1:8081"),
        ("127.0.0.1:8080", "http://127.0.0.2:8080"),
        ("0.0.0.0:8080", "http://[::1]:8080"),
        ("[::]:8080", "http://10.0.0.9:8080"),
        ("127.0.0.1:0", "http://127.0.0.1:80"),
    ] {
        assert!(check(&app(addr, url)).is_ok(), "{addr} {url}: {:#?}", check(&app(addr, url)).err());
    }
    // Where a name leads is another's to say.
    let (_, warnings) = check(&app("[::]:8080", "http://a.example:8080")).unwrap();
    assert!(warnings.iter().any(|w| w.0.message.contains("is a public name of this gate")), "{warnings:#?}");
}

#[test]
fn a_host_that_forgot_its_port_beside_others_that_have_it_is_warned_of() {
    let warned = |listen: &str, more: &str| {
        let text = format!("version: 1\nlisten: [{listen}]\nportal: {{ host: \"login.localhost:8080\" }}\n{more}")
            + "apps:\n- app: wiki\n  hosts: [wiki.localhost]\n  upstream: { urls: [\"http://127.0.0.1:9\"] }\n";
        let (_, warnings) = check(&text).unwrap();
        warnings.iter().map(ToString::to_string).find(|w| w.contains("nobody reaches the host"))
    };
    let clear = "{ addr: \"127.0.0.1:8080\", role: proxy }";
    assert_eq!(
        warned(clear, "").unwrap(),
        "stepgate.yaml:6:11: nobody reaches the host wiki.localhost: no proxy listener has the port 80 - write \"wiki.localhost:8080\""
    );
    assert_eq!(warned(&format!("{clear}, {{ addr: \"127.0.0.1:80\", role: proxy }}"), ""), None);
    assert_eq!(warned(clear, "trusted_proxies: [10.0.0.4]\n"), None);
}

#[test]
fn a_file_that_is_not_utf_8_names_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stepgate.yaml");
    std::fs::write(&path, b"version: 1\n# caf\xe9\n").unwrap();
    assert!(load(&path).unwrap_err()[0].to_string().contains("stepgate.yaml:2:1: this line is not UTF-8"));
}
