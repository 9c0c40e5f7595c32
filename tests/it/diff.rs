//! `stepgate diff`: what changes between two configurations, and for whom.

use crate::cli::{Desk, GOOD};

const RULES: &str = "\x20 allow: [group:staff]\n\x20 rules:\n\
     \x20 - { name: assets, match: { path: /static/** }, allow: [anyone], require: none }\n\
     \x20 - { name: approve, match: { path: \"/runs/*/approve\", methods: [POST] }, allow: [group:leads], require: fresh }\n\
     \x20 - { name: export, match: { path: { regex: \"/v[12]/export(/.*)?\" }, from: 198.51.100.0/24 }, require: fresh }\n\
     \x20 - { name: export-else, match: { path: { regex: \"/v[12]/export(/.*)?\" } }, deny: \"From the office.\" }\n";

fn desk(old: &str, new: &str) -> Desk {
    let desk = Desk::with(GOOD);
    desk.write("old.yaml", &format!("{GOOD}{old}"));
    desk.write("new.yaml", &format!("{GOOD}{new}"));
    desk
}

#[test]
fn nothing_that_changes_is_exit_0_and_faults_are_exit_2() {
    let desk = desk(RULES, RULES);
    let said = desk.run("diff old.yaml new.yaml");
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(said.out.contains("Nothing that the files say is different."), "{}", said.out);
    assert!(
        said.out.contains("No verdict changes.") && said.out.contains("questions were asked of both"),
        "{}",
        said.out
    );
    desk.write("new.yaml", "version: 2\n");
    assert_eq!(desk.run("diff old.yaml new.yaml").code, 2);
    assert_eq!(desk.run("diff old.yaml gone.yaml").code, 2);
}

/// "No difference" must hold for what no verdict hangs on too.
#[test]
fn settings_that_differ_are_named() {
    for (more, says) in [
        ("sessions: { idle: 20m }\n", "-: `sessions` is different"),
        ("\x20 harden: enforce\n", "wiki: `harden` is different"),
        ("\x20 app_cookies: none\n", "wiki: `app_cookies` is different"),
        ("\x20 paths: { like: unix }\n", "wiki: `paths` is different"),
    ] {
        let said = desk("", more).run("diff old.yaml new.yaml");
        assert!(said.code == 1 && said.out.contains(says), "{says}: {} {}{}", said.code, said.out, said.err);
    }
    let desk = desk("", "");
    std::fs::create_dir(desk.path("candidate")).unwrap();
    desk.write("candidate/stepgate.yaml", GOOD);
    let said = desk.run("diff old.yaml candidate/stepgate.yaml");
    assert_eq!(said.code, 0, "a copy elsewhere is the same: {}{}", said.out, said.err);
    let said = desk.run("diff . candidate");
    assert_eq!(said.code, 0, "a directory stands for its stepgate.yaml: {}{}", said.out, said.err);
    std::fs::create_dir(desk.path("bare")).unwrap();
    let said = desk.run("diff . bare");
    assert!(said.code == 2 && said.out.contains("bare/stepgate.yaml"), "{}{}", said.out, said.err);
}

#[test]
fn each_change_of_a_rule_is_told_with_what_it_changes_for_whom() {
    // What is changed, what is said of the rules, and a line of verdicts: who, before, after, a request.
    let changed = RULES.replace("allow: [group:leads], require: fresh", "allow: [group:leads], require: mfa");
    let lines: Vec<&str> = RULES.lines().collect();
    let moved = format!("{}\n", [lines[0], lines[1], lines[2], lines[3], lines[5], lines[4]].join("\n"));
    let removed = RULES.replace(&format!("{}\n", lines[2]), "");
    let added = RULES.replace("rules:\n", "rules:\n  - { name: shop, match: { path: /shop/** }, deny: \"Closed.\" }\n");
    let wider = RULES.replace("allow: [group:staff]", "allow: [group:staff, user:guest]");
    for (new, what, verdict) in [
        (&changed, "wiki: rule approve changed", Some(["group:leads", "fresh", "mfa", "POST /runs/x/approve"])),
        (&removed, "wiki: rule assets removed", Some(["group:staff", "no sign-in", "mfa", "GET /static"])),
        (&added, "wiki: rule shop added", Some(["a stranger", "mfa", "denied", "GET /shop"])),
        (&wider, "wiki: default", Some(["user:guest", "denied", "mfa", "GET /"])),
    ] {
        let said = desk(RULES, new).run("diff old.yaml new.yaml");
        assert_eq!(said.code, 1, "{}{}", said.out, said.err);
        assert!(said.out.contains(what), "{what}: {}", said.out);
        for part in verdict.into_iter().flatten() {
            assert!(said.out.contains(part), "{part}: {}", said.out);
        }
    }
    // One that hides another when it is moved is a fault.
    assert_eq!(desk(RULES, &moved).run("diff old.yaml new.yaml").code, 2);
    let harmless = format!("{}\n", [lines[0], lines[1], lines[3], lines[2], lines[4], lines[5]].join("\n"));
    let said = desk(RULES, &harmless).run("diff old.yaml new.yaml");
    assert!(said.code == 1 && said.out.contains("moved") && said.out.contains("No verdict changes."), "{}", said.out);
}

#[test]
fn a_level_that_means_something_else_changes_the_verdicts_that_name_it() {
    let new = format!("{RULES}levels: {{ fresh: {{ factors: 2, max_age: 5m }} }}\n");
    let desk = desk(RULES, &new);
    let said = desk.run("diff old.yaml new.yaml --json");
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.code, &json["same"]), (1, &false.into()), "{json:#}");
    assert_eq!(json["changes"][0]["what"], "level");
    assert_eq!(json["changes"][0]["after"], "fresh: factors 2, max_age 300s");
    let verdict = &json["verdicts"][0];
    assert!(verdict["before"].as_str().unwrap().contains("max_age 600s"), "{verdict}");
    assert!(verdict["after"].as_str().unwrap().contains("max_age 300s"), "{verdict}");
    let requests = verdict["requests"].as_array().unwrap();
    assert!(requests.iter().any(|r| r.as_str().unwrap().contains("/runs/x/approve")), "{requests:?}");
}

/// Hours are tried when they hold and when they do not, whenever the command runs.
#[test]
fn a_change_that_bites_at_night_alone_is_found_by_day() {
    let rule = |hours: &str| {
        format!(
            "\x20 rules:\n\x20 - {{ name: day, match: {{ path: /x, hours: \"{hours}\" }}, require: password }}\n\
             \x20 - {{ name: night, match: {{ path: /x }}, deny: \"At night.\" }}\n"
        )
    };
    let desk = desk(&rule("Mon-Sun 08:00-20:00 UTC"), &rule("Mon-Sun 08:00-22:00 UTC"));
    for time in ["2026-11-24T10:00:00Z", "2026-11-24T23:00:00Z"] {
        let said = desk.run(&format!("diff old.yaml new.yaml --time {time}"));
        assert!(said.out.contains("denied") && said.out.contains("password"), "{time}: {}", said.out);
    }
}

/// A line of the access log of that moment.
fn line(time: &str, path: &str, user: Option<(&str, &str)>) -> String {
    let who = user.map(|(name, session)| format!(",\"user\":\"{name}\",\"session\":\"{session}\"")).unwrap_or_default();
    format!(
        "{{\"time\":\"{time}\",\"id\":\"x\",\"client\":\"203.0.113.9\",\"method\":\"GET\",\"host\":\"wiki.localhost:8080\",\"path\":\"{path}\",\
         \"version\":\"1.1\",\"status\":200,\"app\":\"wiki\",\"verdict\":\"allow\",\"rule\":\"default\"{who},\"bytes_in\":0}}\n"
    )
}

#[test]
fn a_replay_of_the_log_counts_requests_people_and_prompts() {
    let old = "\x20 allow: [group:staff]\n\x20 require: password\n\x20 rules: [{ name: open, match: { path: /open }, allow: [anyone], require: none }]\n";
    let new = "\x20 allow: [group:staff]\n\x20 require: mfa\n\x20 rules: [{ name: fresh, match: { path: /f/** }, require: fresh }]\n";
    let desk = desk(old, new);
    desk.add("ann");
    desk.ok("user groups ann --add staff");
    let mut log = line("2026-11-24T10:00:00.000Z", "/", Some(("ann", "s1")));
    log += &line("2026-11-24T10:01:00.000Z", "/f/a", Some(("ann", "s1")));
    log += &line("2026-11-24T10:20:00.000Z", "/f/b", Some(("ann", "s1")));
    log += &line("2026-11-24T10:30:00.000Z", "/open", None);
    log += "{\"time\":\"2026-11-24T10:31:00.000Z\",\"client\":\"203.0.113.9\",\"method\":\"GET\",\"path\":\"/\",\"status\":421}\nnonsense\n";
    log += &line("2026-11-01T10:00:00.000Z", "/f/old", Some(("ann", "s0")));
    desk.write("access.log", &log);
    let all = "diff old.yaml new.yaml --replay access.log --time 2026-11-24T12:00:00Z";
    let said = desk.run(&format!("{all} --since 7d --json"));
    let json: serde_json::Value =
        serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}{}", said.out, said.err));
    let replay = &json["replay"];
    assert_eq!((&replay["requests"], &replay["changed_requests"]), (&4.into(), &4.into()), "{replay:#}");
    assert_eq!((&replay["changed_people"], &replay["person_days"]), (&1.into(), &1.into()), "{replay:#}");
    assert_eq!((&replay["unread"], &replay["passed_over"]), (&1.into(), &2.into()), "{replay:#}");
    // By password once; then by two factors, and again for a code that is 20 minutes old.
    assert_eq!((&replay["prompts"]["before"], &replay["prompts"]["after"]), (&1.into(), &2.into()), "{replay:#}");
    let open = replay["changed"].as_array().unwrap().iter().find(|c| c["rule_before"] == "open").unwrap();
    assert_eq!((&open["before"], &open["after"]), (&"no sign-in".into(), &"mfa".into()), "{open}");
    let said = desk.run(all);
    for part in
        ["5 of 5 requests", "strangers", "Prompts per person and day: 1.00 before, 1.50 after (+0.50), over 2 days"]
    {
        assert!(said.out.contains(part), "{part}: {}{}", said.out, said.err);
    }
    assert_eq!(desk.run("diff old.yaml new.yaml --since 7d").code, 2);
}
