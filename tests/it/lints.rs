//! What `check` says of rules beside each other, beside the accounts and beside a standard.

use crate::cli::{Desk, GOOD};

fn warnings(desk: &Desk, line: &str) -> Vec<String> {
    let said = desk.run(line);
    said.out.lines().filter(|line| line.starts_with("warning:")).map(str::to_owned).collect()
}

#[test]
fn a_conditional_rule_without_an_else_is_warned_of_where_the_others_come_to_less() {
    let warned = |rules: &str| {
        let desk = Desk::with(&format!("{GOOD}\x20 rules:\n{rules}"));
        warnings(&desk, "check").into_iter().find(|line| line.contains("holds only"))
    };
    let office = "\x20 - { name: e, match: { path: /e/**, from: 10.0.0.0/8 }, require: fresh }\n";
    let said = warned(office).unwrap();
    assert!(said.contains("rule \"e\" holds only from 10.0.0.0/8") && said.contains("asks for less"), "{said}");
    let open = "\x20 - { name: o, match: { path: /** }, allow: [anyone], require: none }\n";
    let said = warned(&format!("{office}{open}")).unwrap();
    assert!(said.contains("rule \"o\" (line 11)") && said.contains("asks for no sign-in"), "{said}");
    let hours = "\x20 - { name: h, match: { path: /h, hours: \"Mon-Fri 07:00-19:00 UTC\" }, deny: \"By day.\" }\n";
    assert!(warned(hours).unwrap().contains("at Mon-Fri 07:00-19:00 UTC"));
    for fine in [
        // The others are denied, are asked for as much, or were thought of.
        format!("{office}\x20 - {{ name: else, match: {{ path: /e/** }}, deny: \"No.\" }}\n"),
        format!("{office}\x20 - {{ name: else, match: {{ path: /e/** }}, require: mfa }}\n"),
        "\x20 - { name: e, match: { path: /e/**, from: 10.0.0.0/8 }, require: password }\n".to_owned(),
        "\x20 - { name: w, match: { who: [group:guests] }, require: fresh }\n".to_owned(),
        office.replace("require: fresh", "require: fresh, shadow: true"),
    ] {
        assert_eq!(warned(&fine), None, "{fine}");
    }
}

#[test]
fn an_exception_that_asks_for_more_than_its_rule_is_warned_of() {
    let warned = |level: &str| {
        let exception = format!(
            "\x20 exceptions: [{{ who: [user:ann], rules: [default], require: {level}, until: 2099-12-31, approved_by: dana, ticket: T-1 }}]\n"
        );
        let desk = Desk::with(&format!("{GOOD}{exception}"));
        warnings(&desk, "check").into_iter().any(|line| line.contains("it lets nobody off"))
    };
    assert!(warned("fresh") && warned("strong"));
    assert!(!warned("password") && !warned("mfa"));
}

#[test]
fn check_with_the_store_names_who_has_nothing_for_a_rule_and_rules_that_let_nobody_in() {
    let rules = "\x20 allow: [group:staff]\n\x20 rules:\n\
         \x20 - { name: fresh, match: { path: /f }, require: fresh }\n\
         \x20 - { name: none, match: { path: /n }, allow: [group:nobody], require: mfa }\n\
         \x20 - { name: open, match: { path: /o }, require: password }\n";
    let desk = Desk::with(&format!("{GOOD}{rules}admin: {{ allow: [user:ann] }}\n"));
    let said = desk.run("check --with-store");
    assert_eq!(said.code, 3, "there is no store yet: {}{}", said.out, said.err);
    for name in ["ann", "bea", "cid"] {
        desk.add(name);
        desk.ok(&format!("user groups {name} --add staff"));
    }
    desk.ok("factor add ann totp");
    desk.ok("user disable cid");
    let said = warnings(&desk, "check --with-store").join("\n");
    for part in [
        "rule \"fresh\" of wiki asks for fresh, which 1 of 2 accounts that it lets in have nothing for: bea",
        "wiki itself asks for mfa, which 1 of 2 accounts",
        "rule \"none\" of wiki lets in nobody",
        "nobody whom `admin.allow` names has what the level strong takes",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("\"open\"") && !said.contains("cid"), "{said}");
    assert!(warnings(&desk, "check").iter().all(|line| !line.contains("accounts that it lets in")));
    desk.ok("factor add bea totp");
    assert!(!warnings(&desk, "check --with-store").join("\n").contains("bea"));
}

#[test]
fn a_profile_warns_of_what_the_files_say_otherwise_and_names_the_clause() {
    let with = |profile: &str, rest: &str| {
        let desk = Desk::with(&format!("{GOOD}{rest}compliance: {{ profile: {profile} }}\n"));
        let said = desk.run("check");
        assert_eq!(said.code, 0, "a mapping is no fault: {}", said.out);
        said.out
    };
    let weak = "\x20 require: password\nsessions: { idle: 2h, max: 2d }\n";
    for (profile, clauses) in [
        ("nist-aal2", ["AAL2 2.2.1", "AAL2 2.2.3", "AAL2 3.1.1.2"]),
        ("nist-aal3", ["AAL3 2.3.1", "AAL3 2.3.3", "AAL3 3.1.1.2"]),
        ("pci-dss-4", ["PCI DSS 4.0.1 8.4.2", "PCI DSS 4.0.1 8.2.8", "PCI DSS 4.0.1 8.3.6"]),
        ("owasp-asvs-5", ["OWASP ASVS 5.0 6.3.3", "OWASP ASVS 5.0 7.1.1, 7.3.1", "OWASP ASVS 5.0 6.5.5"]),
    ] {
        let said = with(profile, weak);
        for clause in clauses {
            assert!(said.contains(clause), "{clause}: {said}");
        }
    }
    let good = "factors: { totp: { drift: 0 }, password: { min: 15 } }\n";
    for profile in ["nist-aal2", "pci-dss-4", "owasp-asvs-5"] {
        let said = with(profile, good);
        for name in ["NIST", "PCI", "OWASP"] {
            assert!(!said.contains(name), "{profile}: {said}");
        }
    }
    assert!(
        with("nist-aal3", good)
            .contains("AAL3 2.3.2: rule \"default\" of wiki asks for mfa, which takes factors that can be phished")
    );
    let desk = Desk::with(&format!("{GOOD}compliance: {{ profile: iso }}\n"));
    assert!(desk.run("check").out.contains("known: nist-aal2"));
}

#[test]
fn a_pattern_of_another_program_is_told_with_how_it_is_written_here() {
    let warned = |path: &str, outcome: &str| {
        let rule = format!("\x20 rules: [{{ match: {{ path: {path:?} }}, {outcome} }}]\n");
        warnings(&Desk::with(&format!("{GOOD}{rule}")), "check")
            .into_iter()
            .find(|line| line.contains("stands for itself"))
    };
    for (path, ours) in [
        ("/g/:id", "/g/*"),
        ("/g/:id/edit", "/g/*/edit"),
        ("/files/:rest*", "/files/**"),
        ("/<id>", "/*"),
        ("/u/<int:id>/x", "/u/*/x"),
        ("/f/<path:rest>", "/f/**"),
        ("/.*", "/**"),
        ("/path/(.*)", "/path/**"),
        ("/a/(.+)/b", "/a/*/b"),
        ("/admin$", "/admin"),
    ] {
        let said = warned(path, "require: password").unwrap_or_else(|| panic!("{path} is told"));
        assert!(said.contains(&format!("write {ours:?};")) && said.contains("stepgate.yaml:9:28"), "{path}: {said}");
    }
    // Names that begin with a dot, a colon inside a name, and what is a glob of ours.
    for (path, outcome) in [
        ("/.*", "deny: \"No.\""),
        ("/**/.*", "deny: \"No.\""),
        ("/wiki/Special:Export", "require: fresh"),
        ("/a.*", "require: fresh"),
        ("/*.do", "require: fresh"),
        ("/a/:", "require: fresh"),
    ] {
        assert_eq!(warned(path, outcome), None, "{path}");
    }
}

#[test]
fn a_rule_that_opens_widely_without_saying_for_whom_is_warned_of() {
    let warned = |rest: &str| {
        let said = warnings(&Desk::with(&format!("{GOOD}{rest}")), "check");
        said.into_iter().find(|line| line.contains("to everybody, without a sign-in"))
    };
    let rule = |rule: &str| format!("\x20 rules: [{{ name: r, {rule} }}]\n");
    for (rest, what) in [
        (rule("match: { path: /** }, require: none"), "rule \"r\" opens every path of the app"),
        (rule("match: { path: [/static/**, /admin/**] }, require: none"), "opens /admin/**"),
        (rule("match: { path: /Internal/x }, require: none"), "opens /Internal/x"),
    ] {
        let said = warned(&rest).unwrap_or_else(|| panic!("{rest} is told"));
        assert!(said.contains(what) && said.contains("write `allow: [anyone]` beside it"), "{said}");
    }
    for quiet in [
        rule("match: { path: /** }, allow: [anyone], require: none"),
        // Narrow words mean what they say.
        rule("match: { path: [/, /static/**, /healthz, /favicon.ico] }, require: none"),
        rule("match: { path: /** , from: 10.0.0.0/8 }, require: none"),
        rule("match: { methods: [OPTIONS] }, require: none"),
        rule("match: { path: /** }, require: none, redirect: https://new.example/** "),
        format!("\x20 require: none\n{}", rule("match: { path: /admin/** }, require: none")),
    ] {
        assert_eq!(warned(&quiet), None, "{quiet}");
    }
}

#[test]
fn a_profile_advises_only_a_level_that_somebody_can_show() {
    let said = |rest: &str| {
        let desk = Desk::with(&format!("{GOOD}{rest}compliance: {{ profile: nist-aal3 }}\n"));
        warnings(&desk, "check").into_iter().find(|line| line.contains("2.3.2: rule \"default\"")).unwrap()
    };
    assert!(said("").contains("such as strong"));
    let weak = "levels: { strong: { factors: 2, kinds: [totp] } }\n";
    let hint = said(weak);
    assert!(!hint.contains("such as strong") && hint.contains("security keys and passkeys can"), "{hint}");
    let named = "levels: { strong: { factors: 2, phishing_resistant: true, kinds: [client_certificate] }, \
                 key: { factors: 2, phishing_resistant: true, kinds: [webauthn] } }\n";
    assert!(said(named).contains("such as key"), "{}", said(named));
}

#[test]
fn a_slip_is_told_in_one_sentence_at_its_place() {
    for (rest, place, says) in [
        ("sessions: { idle: 15 }\n", "9:19", "the unit is missing: 15s, 15m or 15h"),
        ("\x20 max_body: 15\n", "9:13", "the unit is missing, as in 15KiB"),
        (
            "- app: wiki\n\x20 hosts: [\"wiki.localhost:8080\"]\n\x20 upstream: { urls: [\"http://127.0.0.1:9\"] }\n",
            "9:8",
            "another app has the name wiki already",
        ),
        (
            "\x20 rules: [{ match: { path: /x, form: [action] }, require: fresh }]\n",
            "9:38",
            "write each name with its values: { action: [VALUE] }",
        ),
        (
            "\x20 rules: [{ match: { path: /x, form: action }, require: fresh }]\n",
            "9:38",
            "write a name with its values: { action: [VALUE] }",
        ),
        (
            "\x20 rules: [{ match: { path: /x, query: { id: 1 } }, require: fresh }]\n",
            "9:45",
            "write it in quotes: \"1\"",
        ),
    ] {
        let said = Desk::with(&format!("{GOOD}{rest}")).run("check");
        let faults: Vec<&str> = said.out.lines().filter(|line| !line.ends_with("1 fault")).collect();
        let [fault] = faults.as_slice() else { panic!("{rest}: {}", said.out) };
        assert!(fault.starts_with(&format!("stepgate.yaml:{place}: ")) && fault.contains(says), "{rest}: {fault}");
    }
    let all = Desk::with(&format!("{GOOD}\x20 rules: [{{ match: {{}}, require: fresh }}]\n"));
    let said = warnings(&all, "check");
    let empty =
        |line: &&String| line.contains("stepgate.yaml:9:20: `match` is empty: the rule holds for every request");
    assert_eq!(said.iter().filter(empty).count(), 1, "{said:?}");
}

/// `check`, `check --serve`, the doctor and `serve` say the same of two listeners of which the system takes one.
#[test]
fn listeners_that_take_each_others_address_are_a_fault() {
    for (one, other, clash) in [
        ("[::]:8080", "127.0.0.1:8080", true),
        ("127.0.0.1:8080", "[::]:8080", true),
        ("[::]:8080", "0.0.0.0:8080", true),
        ("0.0.0.0:8080", "127.0.0.1:8080", true),
        ("[::]:8080", "[::1]:8080", true),
        ("0.0.0.0:8080", "[::1]:8080", false),
        ("127.0.0.1:8080", "[::1]:8080", false),
        ("[::]:8080", "127.0.0.1:8081", false),
        ("[::]:0", "127.0.0.1:0", false),
    ] {
        let listen = format!(
            "listen: [{{ addr: \"{one}\", role: proxy }}, {{ addr: \"{other}\", role: redirect }}]\ntrusted_proxies: [10.0.0.1]"
        );
        let desk = Desk::with(&GOOD.replace("listen: [{ addr: \"127.0.0.1:8080\", role: proxy }]", &listen));
        for line in ["check", "check --serve", "doctor"] {
            let said = desk.run(line);
            assert_eq!(
                said.out.contains("cannot both be listened on"),
                clash,
                "{line}: {one} and {other}: {}",
                said.out
            );
        }
    }
}
