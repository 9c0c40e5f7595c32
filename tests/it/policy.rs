//! What the rules of a file decide, asked the way the gate asks.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use http::Method;
use stepgate::base::clock::Timestamp;
use stepgate::base::net::ClientIp;
use stepgate::config::expect::{Question, ask, nowhere, run_tests, shadow_of, somebody};
use stepgate::config::{Purpose, Snapshot, due, from_text, untried};
use stepgate::domain::authn::Authn;
use stepgate::domain::level::{LevelName, Why};
use stepgate::domain::path::CanonicalPath;
use stepgate::domain::policy::matcher::Miss;
use stepgate::domain::policy::{Content, Decision, DenyReason, Facts, Seen, Shadow, ShadowVerdict, TraceTable, decide};
use stepgate::domain::user::{GroupName, UserName};

/// A Tuesday, 11:00 in Paris.
fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-24T10:00:00Z").unwrap()
}

fn app(rest: &str) -> Snapshot {
    let indented: String = rest.lines().map(|l| format!("  {l}\n")).collect();
    let text = format!(
        "version: 1\n\
         listen: [{{ addr: \"127.0.0.1:8080\", role: proxy }}]\n\
         networks: {{ office: [198.51.100.0/24] }}\n\
         apps:\n\
         - app: payroll\n\
        \x20 hosts: [payroll.example]\n\
        \x20 upstream: {{ urls: [\"http://127.0.0.1:9\"] }}\n{indented}"
    );
    from_text(&text, Path::new("."), Purpose::Serve).unwrap_or_else(|faults| panic!("{faults:#?}\n{text}")).0
}

struct Asking<'a> {
    snapshot: &'a Snapshot,
    authn: Authn,
    client: ClientIp,
    at: Timestamp,
}

impl<'a> Asking<'a> {
    fn nobody(snapshot: &'a Snapshot) -> Self {
        Self { snapshot, authn: Authn::Anonymous, client: nowhere(), at: now() }
    }

    fn person(snapshot: &'a Snapshot, name: &str, groups: &[&str], level: &str) -> Self {
        let groups: Vec<GroupName> = groups.iter().map(|g| GroupName::parse(g).unwrap()).collect();
        let authn = somebody(&UserName::parse(name).unwrap(), &groups, snapshot.level(level), now());
        Self { authn, ..Self::nobody(snapshot) }
    }

    fn from(mut self, ip: &str) -> Self {
        self.client = ClientIp::new(ip.parse().unwrap());
        self
    }

    fn asks(&self, method: Method, target: &str) -> Decision {
        self.traced(method, target).0
    }

    /// What a rule would have said that is not enforced.
    fn shadow(&self, method: Method, target: &str) -> Option<String> {
        let route = self.snapshot.routes.app("payroll").unwrap();
        let question = Question {
            method: &method,
            target,
            content: &Content::Nothing,
            client: self.client,
            authn: &self.authn,
            now: self.at,
        };
        let Shadow { rule, verdict } = shadow_of(route, &question, None)?;
        Some(match verdict {
            ShadowVerdict::Allow => format!("allow by {rule}"),
            ShadowVerdict::Challenge(level) => format!("challenge {level} by {rule}"),
            ShadowVerdict::Deny => format!("deny by {rule}"),
        })
    }

    fn traced(&self, method: Method, target: &str) -> (Decision, TraceTable) {
        let route = self.snapshot.routes.app("payroll").unwrap();
        let mut trace = TraceTable::default();
        let question = Question {
            method: &method,
            target,
            content: &Content::Nothing,
            client: self.client,
            authn: &self.authn,
            now: self.at,
        };
        let decision = ask(route, &question, &mut trace).unwrap();
        (decision, trace)
    }
}

/// `allow by RULE`, `challenge LEVEL by RULE`, `deny by RULE`.
fn said(decision: &Decision) -> String {
    match decision {
        Decision::Allow(permit) => format!("allow by {}", permit.rule()),
        Decision::Challenge(challenge) => format!("challenge {} by {}", challenge.level.name, challenge.rule),
        Decision::Deny(deny) => format!("deny by {}", deny.rule),
    }
}

const PAYROLL: &str = r#"
allow: [group:staff]
rules:
- { name: assets, match: { path: [/static/**, /favicon.ico], methods: [GET] }, allow: [anyone], require: none }
- { name: approve-run, match: { path: "/runs/*/approve", methods: [POST] }, allow: [group:payroll-leads], require: strong }
- { name: export, match: { path: /export/**, from: [office], hours: "Mon-Fri 07:00-19:00 Europe/Paris" }, require: fresh }
- { name: export-else, match: { path: /export/** }, deny: "Exports work from the office, weekdays 7 to 19 h." }
- { name: boss, match: { path: /plans/**, who: [group:board] }, require: fresh }
- { name: plans, match: { path: /plans/** }, deny: "Not published yet." }
- { name: danger, match: { path: /do, query: { action: [delete, purge] } }, require: strong }
"#;

#[test]
fn a_stranger_passes_on_public_paths_and_is_asked_to_sign_in_elsewhere() {
    let snapshot = app(PAYROLL);
    let stranger = Asking::nobody(&snapshot);
    assert_eq!(said(&stranger.asks(Method::GET, "/static/app.css")), "allow by assets");
    let Decision::Challenge(challenge) = stranger.asks(Method::GET, "/") else { panic!("not asked") };
    assert_eq!((challenge.level.name.as_str(), challenge.missing.why), ("mfa", Why::Login));
    assert!(challenge.missing.password);
}

#[test]
fn the_first_match_decides_and_a_failed_allow_is_deny_never_the_next_rule() {
    let snapshot = app(PAYROLL);
    let ann = Asking::person(&snapshot, "ann", &["staff"], "strong");
    assert_eq!(said(&ann.asks(Method::POST, "/runs/7/approve")), "deny by approve-run");
    let lee = Asking::person(&snapshot, "lee", &["staff", "payroll-leads"], "strong");
    assert_eq!(said(&lee.asks(Method::POST, "/runs/7/approve")), "allow by approve-run");
    let guest = Asking::person(&snapshot, "guest", &[], "mfa");
    assert_eq!(said(&guest.asks(Method::GET, "/")), "deny by default", "the app's allow holds everywhere");
}

#[test]
fn only_what_is_missing_is_asked_for() {
    let snapshot = app(PAYROLL);
    let lee = Asking::person(&snapshot, "lee", &["staff", "payroll-leads"], "mfa");
    let Decision::Challenge(challenge) = lee.asks(Method::POST, "/runs/7/approve") else { panic!("not asked") };
    assert_eq!(challenge.missing.why, Why::Stronger);
    assert!(!challenge.missing.password);
}

#[test]
fn networks_and_hours_select() {
    let snapshot = app(PAYROLL);
    let mut ann = Asking::person(&snapshot, "ann", &["staff"], "fresh").from("198.51.100.7");
    assert_eq!(said(&ann.asks(Method::GET, "/export/all")), "allow by export");
    ann.at = Timestamp::parse_rfc3339("2026-11-24T18:30:00Z").unwrap();
    let Decision::Deny(deny) = ann.asks(Method::GET, "/export/all") else { panic!("not denied") };
    assert_eq!(deny.reason, DenyReason::Rule { sentence: "Exports work from the office, weekdays 7 to 19 h.".into() });
    let outside = Asking::person(&snapshot, "ann", &["staff"], "fresh").from("203.0.113.9");
    assert_eq!(said(&outside.asks(Method::GET, "/export/all")), "deny by export-else");
    let mapped = Asking::person(&snapshot, "ann", &["staff"], "fresh").from("::ffff:198.51.100.7");
    assert_eq!(said(&mapped.asks(Method::GET, "/export/all")), "allow by export");
}

#[test]
fn a_rule_for_somebody_makes_a_stranger_sign_in_before_a_no() {
    let snapshot = app(PAYROLL);
    assert_eq!(said(&Asking::nobody(&snapshot).asks(Method::GET, "/plans/a")), "challenge fresh by boss");
    let ann = Asking::person(&snapshot, "ann", &["staff"], "fresh");
    assert_eq!(said(&ann.asks(Method::GET, "/plans/a")), "deny by plans");
    let bea = Asking::person(&snapshot, "bea", &["staff", "board"], "fresh");
    assert_eq!(said(&bea.asks(Method::GET, "/plans/a")), "allow by boss");
    // Where the stranger would be asked anyway, nothing changes.
    assert_eq!(said(&Asking::nobody(&snapshot).asks(Method::GET, "/x")), "challenge mfa by default");
}

#[test]
fn a_stranger_is_asked_who_they_are_though_the_first_rule_for_somebody_denies() {
    let snapshot = app("require: mfa\nrules:\n\
         - { name: not-them, match: { path: /m/**, who: [group:temps] }, deny: \"Not for temps.\" }\n\
         - { name: staff, match: { path: /m/**, who: [group:staff] }, require: mfa }\n\
         - { name: nobody-else, match: { path: /m/** }, deny: \"Closed.\" }\n");
    assert_eq!(said(&Asking::nobody(&snapshot).asks(Method::GET, "/m/a")), "challenge mfa by staff");
    for (groups, expected) in
        [(&["staff"][..], "allow by staff"), (&["staff", "temps"], "deny by not-them"), (&[], "deny by nobody-else")]
    {
        assert_eq!(said(&Asking::person(&snapshot, "ann", groups, "mfa").asks(Method::GET, "/m/a")), expected);
    }
}

#[test]
fn s_path_6_get_rules_cover_head_and_options_passes_only_by_a_rule() {
    let snapshot = app(PAYROLL);
    let stranger = Asking::nobody(&snapshot);
    assert_eq!(said(&stranger.asks(Method::HEAD, "/static/app.css")), "allow by assets");
    assert_eq!(said(&stranger.asks(Method::OPTIONS, "/static/app.css")), "challenge mfa by default");
    assert_eq!(said(&stranger.asks(Method::POST, "/static/app.css")), "challenge mfa by default");
}

#[test]
fn the_tests_of_a_file_say_what_a_request_carries() {
    let policy = "rules:\n\
         - { name: remove, match: { path: /index.do, methods: [DELETE] }, deny: Never. }\n\
         - { name: purge, match: { path: /index.do, form: { action: [purge, delete] } }, require: fresh }\n\
         - { name: role, match: { path: /api, json: { user.role: admin } }, deny: Never. }\n\
         - { name: trial, match: { path: /try, form: { a: b } }, require: strong, shadow: true }\n\
         tests:\n\
         - { post: /index.do, as: ann, at: mfa, expect: allow }\n\
         - { post: /index.do, form: { action: show }, as: ann, at: mfa, expect: allow }\n\
         - { post: /index.do, form: { action: purge }, as: ann, at: mfa, expect: challenge fresh }\n\
         - { post: /index.do, form: { action: [show, purge] }, as: ann, at: mfa, expect: challenge fresh }\n\
         - { post: /INDEX.do, form: { ACTION: Purge }, as: ann, at: mfa, expect: challenge fresh }\n\
         - { post: /index.do, form: { action: show, _method: delete }, as: ann, at: mfa, expect: deny }\n\
         - { post: /index.do, unreadable: true, as: ann, at: mfa, expect: deny }\n\
         - { put: /index.do, unreadable: true, as: ann, at: mfa, expect: challenge fresh }\n\
         - { post: /index.do, json: '{\"action\": \"show\"}', as: ann, at: mfa, expect: challenge fresh }\n\
         - { post: /api, json: '{\"user\": {\"role\": \"x\"}}', as: ann, at: mfa, expect: allow }\n\
         - { post: /api, json: '{\"user\": {\"role\": \"admin\"}}', as: ann, at: mfa, expect: deny }\n\
         - { post: /api, json: '{\"user\":', as: ann, at: mfa, expect: deny }\n\
         - { post: /api, form: { user: x }, as: ann, at: mfa, expect: deny }\n\
         - { post: /try, form: { a: b }, as: ann, at: mfa, expect: allow }\n";
    let snapshot = app(policy);
    let failures: Vec<String> = run_tests(&snapshot, now()).iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(untried(&snapshot, now()).is_empty(), "the shadow rule too was tried");
}

/// Rails' ParamsWrapper puts the members of a document into one by the name of the controller; and a server that
/// tells letters apart in paths says nothing of what its app makes of values.
#[test]
fn s_path_8_a_document_without_its_wrapping_and_values_in_other_letters_pass_no_rule() {
    let snapshot = app("paths: { like: unix }\nrules:\n\
         - { name: purge, match: { path: /index.do, form: { action: delete } }, deny: Never. }\n\
         - { name: role, match: { path: /api, json: { user.role: admin } }, deny: Never. }\n\
         - { name: list, match: { path: /list, query: { mode: raw } }, deny: Never. }\n\
         tests:\n\
         - { post: /index.do, form: { action: show }, as: ann, at: mfa, expect: allow }\n\
         - { post: /index.do, form: { action: DELETE }, as: ann, at: mfa, expect: deny }\n\
         - { get: /list?mode=RAW, as: ann, at: mfa, expect: deny }\n\
         - { post: /api, json: '{\"role\": \"x\"}', as: ann, at: mfa, expect: allow }\n\
         - { post: /api, json: '{\"role\": \"admin\"}', as: ann, at: mfa, expect: deny }\n\
         - { post: /api, json: '{\"user\": {\"role\": \"ADMIN\"}}', as: ann, at: mfa, expect: deny }\n");
    let failures: Vec<String> = run_tests(&snapshot, now()).iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn s_path_8_a_body_is_asked_for_only_where_a_rule_could_decide_by_it() {
    let snapshot = app("rules:\n\
         - { name: closed, match: { path: /closed/** }, deny: Never. }\n\
         - { name: late, match: { path: /closed/x, hours: 'daily 00:00-01:00 UTC', form: { a: b } }, deny: Never. }\n\
         - { name: put, match: { path: /put, methods: [PUT], json: { a: b } }, deny: Never. }\n\
         - { name: office, match: { path: /office, from: [office], form: { a: b } }, deny: Never. }\n\
         - { name: ann, match: { path: /ann, who: [user:ann], form: { a: b } }, deny: Never. }\n\
         - { name: choice, match: { path: /choice, query: { a: b } }, require: none }\n\
         - { name: chosen, match: { path: /choice, form: { a: b } }, deny: Never. }\n\
         - { name: trial, match: { path: /try, form: { a: b } }, deny: Never., shadow: true }\n"
        .replace("path: /closed/x,", "path: [/closed/x, /late],")
        .as_str());
    let policy = &snapshot.routes.app("payroll").unwrap().policy;
    let asks = |asking: &Asking<'_>, method: &Method, path: &str, query: Option<&str>| {
        policy.asks_for_content(&Facts {
            method,
            also_methods: &[],
            content: &Content::Unread,
            path: &CanonicalPath::parse(path, policy.forms).unwrap(),
            query,
            client: asking.client,
            authn: &asking.authn,
            now: asking.at,
        })
    };
    let nobody = Asking::nobody(&snapshot);
    let here = |path: &str| asks(&nobody, &Method::POST, path, None);
    for never in ["/closed/x", "/late", "/put", "/office", "/other"] {
        assert!(!here(never), "{never}");
    }
    assert!(asks(&nobody, &Method::PUT, "/put", None));
    assert!(asks(&Asking::nobody(&snapshot).from("198.51.100.7"), &Method::POST, "/office", None));
    assert!(here("/ann"), "it may be ann's when she has signed in");
    assert!(!asks(&Asking::person(&snapshot, "bob", &[], "mfa"), &Method::POST, "/ann", None));
    assert!(here("/choice") && !asks(&nobody, &Method::POST, "/choice", Some("a=b")));
    assert!(asks(&nobody, &Method::POST, "/choice", Some("a=b&a=c")));
    assert!(here("/try") && here("/CHOICE"));
}

#[test]
fn s_path_6_an_overridden_method_is_judged_too() {
    let snapshot = app("rules:\n\
         - { name: remove, match: { path: /items/*, methods: [DELETE] }, require: strong }\n\
         - { name: add, match: { path: /items/*, methods: [POST] }, require: none }\n");
    let stranger = Asking::nobody(&snapshot);
    assert_eq!(said(&stranger.asks(Method::POST, "/items/7")), "allow by add");
    for query in [
        "_method=DELETE",
        "_METHOD=delete",
        "a=1&%5fmethod=DELETE",
        "_method=POST&_method=DELETE",
        "_method[]=DELETE",
        "x-tunneled-method=DELETE",
        "X-HTTP-Method=DELETE",
        "x-method-override=DELETE",
        "+[method=DELETE",
        // Rack 2 and Python before 3.9.2 split at `;` too.
        "a=1;_method=DELETE",
        "a=1; _method=DELETE",
        "_method=DELETE;a=1",
        "a=1;b=2&c;%5Fmethod=delete&d",
        "_method[;]=DELETE",
    ] {
        assert_eq!(
            said(&stranger.asks(Method::POST, &format!("/items/7?{query}"))),
            "challenge strong by remove",
            "{query}"
        );
    }
    // In a form the proxy finds it, when a rule for the path tells methods apart.
    let policy = &snapshot.routes.app("payroll").unwrap().policy;
    let parse = |raw: &str| CanonicalPath::parse(raw, policy.forms).unwrap();
    assert_eq!(policy.methods_told_apart(&parse("/items/7")), [Method::DELETE, Method::POST]);
    assert_eq!(policy.methods_told_apart(&parse("/ITEMS/7/")), [Method::DELETE, Method::POST]);
    assert!(policy.methods_told_apart(&parse("/other")).is_empty());
    let path = parse("/items/7");
    let facts = Facts {
        method: &Method::POST,
        also_methods: &[Method::DELETE],
        content: &Content::Nothing,
        path: &path,
        query: None,
        client: nowhere(),
        authn: &Authn::Anonymous,
        now: now(),
    };
    assert_eq!(said(&decide(policy, &facts, &mut ())), "challenge strong by remove");
}

#[test]
fn s_path_6_a_method_with_small_letters_is_judged_in_capitals_too() {
    let snapshot = app("rules:\n\
         - { name: edit, match: { path: /items/*, methods: [PATCH] }, require: strong }\n\
         - { name: find, match: { path: /items/*, methods: [PROPFIND] }, allow: [anyone], require: none }\n");
    let stranger = Asking::nobody(&snapshot);
    let said_of = |method: &str| said(&stranger.asks(method.parse().unwrap(), "/items/7"));
    for method in ["PATCH", "patch", "Patch", "pATCH"] {
        assert_eq!(said_of(method), "challenge strong by edit", "{method}");
    }
    assert_eq!(said_of("PROPFIND"), "allow by find");
    // An app that tells letter case apart has no such rule for it.
    assert_eq!(said_of("propfind"), "challenge mfa by default");
}

#[test]
fn a_query_condition_holds_at_every_duplicate_and_spelling() {
    let snapshot = app(PAYROLL);
    let ann = Asking::person(&snapshot, "ann", &["staff"], "mfa");
    for query in [
        "action=delete",
        "action=list&action=delete",
        "action=delete&action=list",
        "a=1&%61ction=%64elete",
        "ACTION=Delete",
        "action[]=purge",
        "action[0]=delete",
    ] {
        assert_eq!(said(&ann.asks(Method::GET, &format!("/do?{query}"))), "challenge strong by danger", "{query}");
    }
    assert_eq!(said(&ann.asks(Method::GET, "/do?action=list")), "allow by default");
    assert_eq!(said(&ann.asks(Method::GET, "/do")), "allow by default");
}

#[test]
fn s_path_8_a_name_or_value_that_an_app_may_read_otherwise_is_judged_both_ways() {
    let snapshot = app("rules:\n\
         - { name: closed, match: { path: /do, query: { do_it: ['1'], action: [delete] } }, deny: Closed. }\n\
         - { name: other, match: { path: /do, query: { do_it: ['1'] } }, require: strong }\n\
         - { name: away, match: { path: /do, query: { action: [delete] } }, require: strong }\n\
         - { name: open, match: { path: /do, query: { mode: [view] } }, allow: [anyone], require: none }\n");
    let ann = Asking::person(&snapshot, "ann", &[], "mfa");
    let said_of = |query: &str| said(&ann.asks(Method::GET, &format!("/do?{query}")));
    // Without a bracket that closes it, PHP makes `do_it` of it.
    for name in ["do_it", "do.it", "do%20it", "do+it", "do[it", "do%5Bit", "DO%5bit", "do_it[", "do_it[x"] {
        assert_eq!(said_of(&format!("{name}=1")), "challenge strong by other", "{name}");
        assert_eq!(said_of(&format!("{name}=1&action=delete")), "deny by closed", "{name}");
    }
    for value in ["delete%20", "+delete", "%09delete%0d%0a", "delete%00", "%c2%a0delete", "delete%e2%80%83", "+Delete+"]
    {
        assert_eq!(said_of(&format!("action={value}")), "challenge strong by away", "{value}");
    }
    assert_eq!(said_of("do%5Bit%5D=1"), "allow by default", "an element of `do`");
    assert_eq!(said_of("action=de%20lete"), "allow by default");
    // What opens holds only where it is read in one way.
    let stranger = Asking::nobody(&snapshot);
    let said_of = |query: &str| said(&stranger.asks(Method::GET, &format!("/do?{query}")));
    assert_eq!(said_of("mode=view"), "allow by open");
    for query in ["mode=view%20", "mode[=view", "mode[]=view", "Mode=view", "mode=view&MODE=edit"] {
        assert_eq!(said_of(query), "challenge mfa by default", "{query}");
    }
}

#[test]
fn a_query_condition_opens_nothing_that_a_duplicate_closes() {
    let snapshot = app("rules: [{ name: preview, match: { path: /p, query: { mode: preview } }, require: none }]");
    let stranger = Asking::nobody(&snapshot);
    assert_eq!(said(&stranger.asks(Method::GET, "/p?mode=preview")), "allow by preview");
    assert_eq!(said(&stranger.asks(Method::GET, "/p?mode=preview&mode=edit")), "challenge mfa by default");
}

#[test]
fn s_path_8_a_query_is_taken_apart_at_semicolons_too_and_the_stricter_reading_wins() {
    let snapshot = app(PAYROLL);
    let ann = Asking::person(&snapshot, "ann", &["staff"], "mfa");
    for query in [
        "a=1;action=delete",
        "action=delete;a=1",
        "a=1; %61ction=purge",
        "a=1;b&action=list;action=delete",
        ";action=delete",
        // PHP ends a name at a NUL.
        "action%00=delete",
        "action=list&action%00x=delete",
    ] {
        assert_eq!(said(&ann.asks(Method::GET, &format!("/do?{query}"))), "challenge strong by danger", "{query}");
    }
    // An escaped one separates nothing for anybody.
    for query in ["a=1;action=list", "a=1%3Baction=delete", "action=list;b=delete"] {
        assert_eq!(said(&ann.asks(Method::GET, &format!("/do?{query}"))), "allow by default", "{query}");
    }

    let open = app("rules: [{ name: preview, match: { path: /p, query: { mode: preview } }, require: none }]");
    let stranger = Asking::nobody(&open);
    for query in ["mode=preview;a=1", "a=1;mode=preview", "mode=preview&a=1;mode=edit", "mode=preview;mode=preview"] {
        assert_eq!(said(&stranger.asks(Method::GET, &format!("/p?{query}"))), "challenge mfa by default", "{query}");
    }
    assert_eq!(said(&stranger.asks(Method::GET, "/p?mode=preview&a=1;b=2")), "allow by preview", "both read it so");

    // The two conditions of one rule are held against the same reading.
    let two = app("rules: [{ name: both, match: { query: { a: '1', b: '2' } }, require: strong }]");
    let ann = Asking::person(&two, "ann", &[], "mfa");
    assert_eq!(said(&ann.asks(Method::GET, "/?a=1;b=2")), "challenge strong by both");
    assert_eq!(said(&ann.asks(Method::GET, "/?a=1;c&b=2")), "challenge strong by both");
}

#[test]
fn a_regex_is_whole_and_anchored() {
    let snapshot = app("rules:\n\
         - { name: api, match: { path: { regex: '/v[12]/.*' } }, require: strong }\n\
         - { name: old, match: { path: \"regex:/old/(a|b)\" }, require: fresh }\n");
    let ann = Asking::person(&snapshot, "ann", &[], "mfa");
    let rule = |target: &str| said(&ann.asks(Method::GET, target));
    assert_eq!(rule("/v1/x"), "challenge strong by api");
    assert_eq!(rule("/V1/x"), "challenge strong by api", "read without letter case too");
    assert_eq!(rule("/x/v1/x"), "allow by default");
    assert_eq!(rule("/v3/x"), "allow by default");
    assert_eq!(rule("/old/a"), said(&ann.asks(Method::GET, "/old/a/")));
}

#[test]
fn a_trace_names_every_rule_and_its_first_miss() {
    let snapshot = app(PAYROLL);
    let ann = Asking::person(&snapshot, "ann", &["staff"], "mfa").from("203.0.113.9");
    let (_, trace) = ann.traced(Method::GET, "/export/all");
    let seen: Vec<(&str, Seen)> = trace.rows.iter().map(|r| (r.rule.as_str(), r.seen)).collect();
    assert_eq!(
        seen,
        [
            ("assets", Seen::Missed(Miss::Path)),
            ("approve-run", Seen::Missed(Miss::Method)),
            ("export", Seen::Missed(Miss::From)),
            ("export-else", Seen::Matched),
            ("boss", Seen::NotReached),
            ("plans", Seen::NotReached),
            ("danger", Seen::NotReached),
        ]
    );
}

#[test]
fn five_hundred_rules_decide_as_a_walk_from_top_to_bottom_would() {
    let mut rules = String::from("rules:\n");
    for i in 0..500 {
        let path = match i % 5 {
            0 => format!("/a/b{i}/**"),
            1 => format!("/a/*/c{i}"),
            2 => format!("/x{i}"),
            3 => format!("/x{i}/y/z/w/v"),
            _ => format!("/**/end{i}"),
        };
        rules.push_str(&format!("- {{ name: r{i}, match: {{ path: {path:?} }}, deny: Closed }}\n"));
    }
    let snapshot = app(&rules);
    let ann = Asking::person(&snapshot, "ann", &[], "mfa");
    for (target, rule) in [
        ("/a/b100/anything/c101", "r100"),
        ("/a/b100", "r100"),
        ("/a/q/c101", "r101"),
        ("/a/b300/c101", "r101"),
        ("/x102", "r102"),
        ("/x103/y/z/w/v", "r103"),
        ("/x103/y/z/w", "default"),
        ("/deep/er/end104", "r104"),
        ("/a/b400/end104", "r104"),
        ("/nothing", "default"),
    ] {
        let decision = said(&ann.asks(Method::GET, target));
        assert!(decision.ends_with(&format!("by {rule}")), "{target}: {decision}");
    }
}

#[test]
fn a_files_own_tests_say_where_they_fail() {
    let snapshot = app("rules: [{ name: secret, match: { path: /secret/** }, require: strong }]\n\
         tests:\n\
         - { get: /secret/x, as: ann, at: mfa, expect: challenge strong }\n\
         - { get: /secret/x, as: ann, at: strong, expect: allow }\n\
         - { get: \"/secret%2fx\", as: ann, at: strong, expect: reject }\n\
         - { get: /, as: ann, at: password, expect: challenge }\n\
         - { get: /, expect: deny }\n");
    let failures = run_tests(&snapshot, now());
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(
        failures[0].to_string(),
        "stepgate.yaml:14:5: GET / by nobody: expected deny, got challenge mfa (rule default)"
    );
}

/// The rules of `PAYROLL` under new ones that are only tried.
const TRIED: &str = r#"
allow: [group:staff]
rules:
- { name: lock, match: { path: [/static/admin.php, "/runs/**"], methods: [GET, DELETE] }, deny: "Not any more.", shadow: true }
- { name: wide, match: { path: /export/**, query: { all: ["1"] } }, allow: [anyone], require: none, shadow: true }
- { name: assets, match: { path: [/static/**, /favicon.ico], methods: [GET] }, allow: [anyone], require: none }
- { name: runs, match: { path: "/runs/**" }, require: fresh }
- { name: export, match: { path: /export/** }, deny: "Closed." }
- { name: late, match: { path: /late/** }, require: strong, shadow: true }
"#;

#[test]
fn a_shadow_rule_is_told_and_decides_nothing_under_any_reading() {
    let tried = app(TRIED);
    let enforced: String =
        TRIED.lines().filter(|line| !line.contains("shadow: true")).map(|l| format!("{l}\n")).collect();
    let enforced = app(&enforced);
    for (method, target) in [
        (Method::GET, "/static/admin.php"),
        (Method::GET, "/static/admin"),
        (Method::GET, "/STATIC/Admin.php"),
        (Method::GET, "/runs/7"),
        (Method::POST, "/runs/7?_method=DELETE"),
        (Method::GET, "/export/a?all=1"),
        (Method::GET, "/late/x"),
        (Method::GET, "/"),
    ] {
        for at in ["password", "mfa", "strong"] {
            let groups: &[&str] = if at == "mfa" { &[] } else { &["staff"] };
            let with = Asking::person(&tried, "ann", groups, at).asks(method.clone(), target);
            let without = Asking::person(&enforced, "ann", groups, at).asks(method.clone(), target);
            assert_eq!(said(&with), said(&without), "{method} {target} at {at}");
        }
        let (with, without) = (Asking::nobody(&tried), Asking::nobody(&enforced));
        assert_eq!(said(&with.asks(method.clone(), target)), said(&without.asks(method.clone(), target)), "{target}");
    }
}

#[test]
fn what_a_shadow_rule_would_have_said_is_known_for_every_request() {
    let snapshot = app(TRIED);
    let ann = Asking::person(&snapshot, "ann", &["staff"], "fresh");
    assert_eq!(ann.shadow(Method::GET, "/runs/7").as_deref(), Some("deny by lock"));
    assert_eq!(ann.shadow(Method::GET, "/static/admin").as_deref(), Some("deny by lock"), "the file behind it");
    assert_eq!(ann.shadow(Method::POST, "/runs/7"), None, "a rule in force decides it");
    assert_eq!(ann.shadow(Method::POST, "/runs/7?_method=delete").as_deref(), Some("deny by lock"));
    assert_eq!(ann.shadow(Method::GET, "/export/a?all=1").as_deref(), Some("allow by wide"));
    assert_eq!(ann.shadow(Method::GET, "/late/x").as_deref(), Some("challenge strong by late"));
    let (decision, trace) = ann.traced(Method::GET, "/runs/7");
    assert_eq!(said(&decision), "allow by runs");
    let seen: Vec<(&str, Seen)> = trace.rows.iter().map(|row| (row.rule.as_str(), row.seen)).collect();
    assert_eq!(seen[0], ("lock", Seen::Shadow));
    assert_eq!(seen[3], ("runs", Seen::Matched));
    assert_eq!(
        Asking::nobody(&app(PAYROLL)).shadow(Method::GET, "/runs/7"),
        None,
        "without such rules nothing is asked"
    );
}

const EXCEPTED: &str = r#"
allow: [group:staff]
rules:
- { name: approve, match: { path: /approve/** }, allow: [group:leads], require: strong }
- { name: closed, match: { path: /closed/** }, deny: "Closed." }
- { name: keys, match: { path: /keys/** }, require: strong }
exceptions:
- { who: user:lee, rules: [approve, keys, default], require: password, until: 2026-12-01, approved_by: dana, ticket: SEC-412, reason: key lost }
- { who: [group:leads], rules: keys, require: mfa, until: "2026-11-24T10:00:00+01:00", approved_by: dana, ticket: SEC-1 }
"#;

#[test]
fn an_exception_stands_in_for_the_level_of_its_rules_and_for_its_people_alone() {
    let snapshot = app(EXCEPTED);
    let lee = Asking::person(&snapshot, "lee", &["staff", "leads"], "password");
    let Decision::Allow(permit) = lee.asks(Method::POST, "/approve/7") else { panic!("not let off") };
    assert_eq!(permit.level().map(LevelName::as_str), Some("password"), "the app is told what really held");
    assert_eq!(permit.exception().map(|e| &*e.ticket), Some("SEC-412"));
    assert_eq!(said(&lee.asks(Method::GET, "/other")), "allow by default");
    let bea = Asking::person(&snapshot, "bea", &["staff", "leads"], "password");
    assert_eq!(said(&bea.asks(Method::POST, "/approve/7")), "challenge strong by approve");
    // Whoever shows what the rule asks for needs no exception.
    let lee = Asking::person(&snapshot, "lee", &["staff", "leads"], "strong");
    let Decision::Allow(permit) = lee.asks(Method::POST, "/approve/7") else { panic!("not allowed") };
    assert_eq!((permit.level().map(LevelName::as_str), permit.exception()), (Some("strong"), None));
}

#[test]
fn an_exception_opens_no_deny_no_allow_and_no_sign_in() {
    let snapshot = app(EXCEPTED);
    let lee = Asking::person(&snapshot, "lee", &["staff"], "password");
    assert_eq!(said(&lee.asks(Method::POST, "/approve/7")), "deny by approve", "`allow` names leads alone");
    assert_eq!(said(&lee.asks(Method::GET, "/closed/x")), "deny by closed");
    let outsider = Asking::person(&snapshot, "lee", &[], "password");
    assert_eq!(said(&outsider.asks(Method::GET, "/other")), "deny by default");
    assert_eq!(said(&Asking::nobody(&snapshot).asks(Method::GET, "/keys/1")), "challenge strong by keys");
}

#[test]
fn an_exception_stops_working_the_second_it_ends() {
    let snapshot = app(EXCEPTED);
    let end = Timestamp::parse_rfc3339("2026-12-02T00:00:00Z").unwrap();
    let mut lee = Asking::person(&snapshot, "lee", &["staff"], "password");
    for (at, verdict) in [
        (end.minus(Duration::from_millis(1)), "allow by keys"),
        (end, "challenge strong by keys"),
        (end.plus(Duration::from_secs(1)), "challenge strong by keys"),
    ] {
        lee.at = at;
        lee.authn = somebody(&UserName::parse("lee").unwrap(), &[GroupName::parse("staff").unwrap()], None, at);
        assert_eq!(said(&lee.asks(Method::GET, "/keys/1")), verdict, "a date is over with its day, UTC: {at}");
    }
    // A time in another zone is the moment that it means: 09:00 UTC is over at ten.
    let bea = Asking::person(&snapshot, "bea", &["staff", "leads"], "mfa");
    assert_eq!(said(&bea.asks(Method::GET, "/keys/1")), "challenge strong by keys");
}

#[test]
fn check_names_exceptions_that_have_ended_and_those_beyond_ninety_days() {
    let snapshot = app(EXCEPTED);
    let told = |now: &str| -> Vec<String> {
        due(&snapshot, Timestamp::parse_rfc3339(now).unwrap()).iter().map(ToString::to_string).collect()
    };
    let ended = told("2026-11-24T10:00:00Z");
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert!(ended[0].contains("the exception SEC-1 has ended (2026-11-24T09:00:00.000Z)"), "{ended:?}");
    let long = told("2026-08-01T00:00:00Z");
    assert!(long.iter().any(|w| w.contains("the exception SEC-412 ends in 123 days")), "{long:?}");
    assert!(told("2026-10-01T00:00:00Z").is_empty());
}

#[test]
fn s_path_8_no_rule_that_one_of_two_values_meets_is_passed_by_the_other() {
    let snapshot = app("allow: [anyone]\nrequire: password\nrules:\n\
         - { name: list, match: { path: /do, query: { action: [list] } }, allow: [anyone], require: none }\n\
         - { name: delete, match: { path: /do, query: { action: [delete] } }, deny: Closed. }\n");
    let ann = Asking::person(&snapshot, "ann", &[], "password");
    assert_eq!(said(&ann.asks(Method::GET, "/do?action=list")), "allow by list");
    // The app takes one of them, and nobody knows which.
    for query in ["action=list&action=delete", "action=delete&action=list", "action=delete;action=list&action=x"] {
        assert_eq!(said(&ann.asks(Method::GET, &format!("/do?{query}"))), "deny by delete", "{query}");
    }
}

#[test]
fn rules_that_no_test_tries_are_named() {
    let told =
        |rest: &str| -> Vec<String> { untried(&app(rest), now()).iter().map(|note| note.message.clone()).collect() };
    let rules = "rules:\n\
         - { name: assets, match: { path: /static/** }, allow: [anyone], require: none }\n\
         - { name: admin, match: { path: /admin/** }, require: strong, shadow: true }\n\
         - { name: export, match: { path: /export/** }, deny: Closed. }\n";
    assert_eq!(told(rules), ["none of the 3 rules of payroll is tried by any test"]);
    let tests =
        format!("{rules}tests:\n- {{ get: /static/a, expect: allow }}\n- {{ get: /admin, expect: challenge }}\n");
    assert_eq!(told(&tests), ["rule \"export\" is not tried by any test"]);
    let all = format!("{tests}- {{ get: /export/a, expect: deny }}\n");
    assert!(told(&all).is_empty());
    assert!(told("require: mfa").is_empty(), "without rules there is nothing to try");
}
