//! A policy that would lock everybody out is not put in the place of one that does not.

use std::path::Path;

use stepgate::base::clock::Timestamp;
use stepgate::config::{Account, Purpose, Snapshot, from_text, lockouts};
use stepgate::domain::factor::FactorKind;
use stepgate::domain::user::{GroupName, UserName};

fn now() -> Timestamp {
    // A Tuesday, 10:00 UTC.
    Timestamp::parse_rfc3339("2026-11-24T10:00:00Z").unwrap()
}

fn policy(main: &str, app: &str) -> Snapshot {
    let text = format!(
        "version: 1\nlisten: [{{ addr: \"127.0.0.1:8080\", role: proxy }}]\nportal: {{ host: login.test }}\ntrusted_proxies: [10.0.0.4]\n{main}apps:\n- app: wiki\n  hosts: [app.test]\n  upstream: {{ urls: [\"http://127.0.0.1:9\"] }}\n{app}"
    );
    from_text(&text, Path::new("."), Purpose::Check).unwrap_or_else(|faults| panic!("{faults:#?}\n{text}")).0
}

fn account(name: &str, groups: &[&str], kinds: &[FactorKind]) -> Account {
    let groups = groups.iter().map(|group| GroupName::parse(group).unwrap()).collect();
    Account { name: UserName::parse(name).unwrap(), groups, kinds: kinds.to_vec() }
}

fn staff() -> Vec<Account> {
    vec![account("ann", &["staff"], &[FactorKind::Totp]), account("lee", &["staff", "leads"], &[FactorKind::Totp])]
}

#[track_caller]
fn found(old: &str, new: &str) -> Vec<String> {
    lockouts(&policy("", old), &policy("", new), &staff(), now())
}

#[test]
fn a_group_that_nobody_is_in_locks_an_app() {
    let found = found("  allow: [group:staff]\n", "  allow: [group:stafff]\n");
    assert_eq!(
        found,
        [
            "wiki: no account could reach any page of it any more (GET /: the `allow` of rule default names nobody who has an account)"
        ]
    );
}

/// Whoever comes into a corner of the app all the same is no comfort to those who lose the rest of it.
#[test]
fn a_place_that_some_lose_and_nobody_keeps_is_locked() {
    let app = |group: &str| {
        format!(
            "  allow: [group:{group}]\n  rules: [{{ name: admin, match: {{ path: /admin/** }}, allow: [group:leads] }}]\n"
        )
    };
    let other = account("guest", &[], &[]);
    let accounts: Vec<Account> = staff().into_iter().chain([other]).collect();
    let found = lockouts(&policy("", &app("staff")), &policy("", &app("stafff")), &accounts, now());
    assert_eq!(
        found,
        [
            "wiki: no account could reach GET / any more, and ann can now (the `allow` of rule default names nobody who has an account)"
        ]
    );
}

#[test]
fn a_level_that_nobody_has_a_factor_for_locks_what_all_could_reach() {
    let rule =
        |level: &str| format!("  rules: [{{ name: reports, match: {{ path: /reports/** }}, require: {level} }}]\n");
    let told = found(&rule("mfa"), &rule("strong"));
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(
        told[0],
        "wiki: no account could reach GET /reports any more, and ann can now (rule reports asks for `strong`, which nobody who may come has a factor for)"
    );
    let other_way = found(&rule("strong"), &rule("mfa"));
    assert!(other_way.is_empty(), "{other_way:?}");
}

#[test]
fn what_is_denied_with_a_sentence_or_left_to_somebody_is_meant() {
    let open = "  rules: [{ name: reports, match: { path: /reports/** }, require: mfa }]\n";
    for new in [
        "  rules: [{ name: reports, match: { path: /reports/** }, deny: \"Closed until Monday.\" }]\n",
        "  rules: [{ name: all, match: { path: /** }, deny: \"Closed until Monday.\" }]\n",
        "  rules: [{ name: reports, match: { path: /reports/** }, allow: [group:leads] }]\n",
        "  rules: [{ name: reports, match: { path: /reports/** }, allow: [user:ann] }]\n",
        "  rules: [{ name: reports, match: { path: /reports/**, who: [user:ann] }, require: mfa }, { name: no, match: { path: /reports/** }, deny: \"No.\" }]\n",
    ] {
        let found = found(open, new);
        assert!(found.is_empty(), "{new}: {found:?}");
    }
    // What nobody could do before is no loss.
    let none = found("  allow: [group:nobody]\n", "  allow: [group:others]\n");
    assert!(none.is_empty(), "{none:?}");
    // Without accounts nobody is locked out.
    assert!(lockouts(&policy("", ""), &policy("", "  allow: [group:x]\n"), &[], now()).is_empty());
}

#[test]
fn another_hour_and_another_network_are_ways_in() {
    let closed = "{ name: else, match: { path: /reports/** }, allow: [group:nobody] }";
    let open = format!("  rules: [{{ name: reports, match: {{ path: /reports/** }}, require: mfa }}, {closed}]\n")
        .replace(&format!(", {closed}"), "");
    let rule = |condition: &str| {
        format!("  rules: [{{ name: reports, match: {{ path: /reports/**, {condition} }}, require: mfa }}, {closed}]\n")
    };
    for condition in ["hours: \"Sat-Sun 07:00-19:00 Europe/Paris\"", "from: [198.51.100.0/24]"] {
        let told = found(&open, &rule(condition));
        assert!(told.is_empty(), "{condition}: {told:?}");
    }
    // With nobody who is let in by it, the hours help nobody.
    let told =
        found(&open, &rule("hours: \"Sat-Sun 07:00-19:00 Europe/Paris\"").replace("require: mfa", "allow: [group:x]"));
    assert_eq!(told.len(), 3, "{told:?}");
}

#[test]
fn the_last_app_and_the_last_admin_stay() {
    let renamed = policy("", "");
    let text =
        "version: 1\nlisten: [{ addr: \"127.0.0.1:8080\", role: proxy }]\nportal: { host: login.test }\napps: []\n";
    let (empty, _) = from_text(text, Path::new("."), Purpose::Check).unwrap();
    assert_eq!(
        lockouts(&renamed, &empty, &staff(), now()),
        ["none of the apps that are served now would be served any more"]
    );

    let admins = |who: &str, more: &str| policy(&format!("admin: {{ allow: [{who}] }}\n{more}"), "");
    let strong = "levels: { strong: { factors: 2, max_age: 10m } }\n";
    let told = |old: &Snapshot, new: &Snapshot| lockouts(old, new, &staff(), now());
    let nobody = ["no account would be an admin any more: `admin.allow` names none that can sign in"];
    assert_eq!(told(&admins("group:leads", ""), &admins("group:lead", "")), nobody);
    assert_eq!(told(&admins("group:leads", ""), &policy("", "")), nobody);
    assert!(told(&admins("group:leads", ""), &admins("user:ann", "")).is_empty());
    assert_eq!(
        told(&admins("group:leads", strong), &admins("group:leads", "")),
        ["no admin could meet the level `strong` any more, which the console asks for"]
    );
    // Nobody could meet it before either.
    assert!(told(&admins("group:leads", ""), &admins("group:staff", "")).is_empty());
}
