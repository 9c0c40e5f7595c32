//! Many people at once: from a spreadsheet to accounts with links, and the time that they have for a second factor.

use std::time::{Duration, Instant};

use serde_json::Value;
use stepgate::domain::audit::Action;
use stepgate::store::AuditFilter;

use crate::cli::{Desk, GOOD};
use crate::harness::{Page, Person, World};

/// As a spreadsheet in a country with a decimal comma writes it.
const PEOPLE: &str = "\u{feff}Name;Display name;Email;Groups\r\nann;Ann Lee;ann@corp.example;staff|leads\r\n\
                      \"bob\";=HYPERLINK(\"http://evil\");;staff\r\n;;;\r\n";

fn staffed() -> String {
    format!("{GOOD}  allow: [group:staff, group:leads]\n")
}

#[test]
fn everybody_of_a_spreadsheet_gets_an_account_and_a_link_once() {
    let desk = Desk::with(&staffed());
    desk.write("people.csv", PEOPLE);
    let dry = desk.run("user import people.csv --dry-run");
    assert_eq!(dry.code, 0, "{}{}", dry.out, dry.err);
    assert!(dry.err.contains("2 would be added, 0 have an account already; nothing was written"), "{}", dry.err);
    assert!(desk.ok("user list").lines().count() <= 1, "a dry run adds nobody");

    let made = desk.run("user import people.csv");
    assert_eq!(made.code, 0, "{}{}", made.out, made.err);
    let lines: Vec<&str> = made.out.split_terminator("\r\n").collect();
    assert_eq!(lines[0], "name,display,email,groups,status,link,expires_at");
    assert!(lines[1].starts_with("ann,Ann Lee,ann@corp.example,leads|staff,added,http"), "{}", lines[1]);
    assert!(lines[2].starts_with("bob,\"'=HYPERLINK(\"\"http://evil\"\")\",,staff,added,http"), "inert: {}", lines[2]);
    assert_eq!(made.out.matches("/.stepgate/enroll?code=").count(), 2);
    assert!(desk.ok("user show ann").contains("sign-up link, not used yet"));
    assert!(desk.ok("audit tail").contains("A sign-up link was made."));

    let ids = desk.ok("user list --json");
    let again = desk.run("user import people.csv --json");
    let said: Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!(again.code, 0, "{}", again.err);
    assert_eq!(said["people"].as_array().unwrap().len(), 2);
    assert!(
        said["people"].as_array().unwrap().iter().all(|p| p["status"] == "exists" && p["link"].is_null()),
        "{said}"
    );
    assert_eq!(desk.ok("user list --json"), ids, "nobody twice, and no link of the first run ended");
}

#[test]
fn one_mistake_adds_nobody_and_every_mistake_is_told_with_its_place() {
    let desk = Desk::with(&staffed());
    desk.add("Mia");
    desk.ok("user change Mia --email mia@corp.example");
    desk.write(
        "people.csv",
        "name,email,groups\nann,,staff\nmia,,\nlee,,stafff\nkim,MIA@corp.example,\nANN,,\nb b,,\n",
    );
    let before = desk.ok("user list");
    let refused = desk.run("user import people.csv");
    assert_eq!(refused.code, 1);
    for told in [
        "people.csv:3:1: only letter case tells mia from the account Mia",
        "people.csv:4:6: no rule and no account names the group \"stafff\" - did you mean \"staff\"?",
        "people.csv:5:5: the account Mia has this address",
        "people.csv:6:1: ANN stands at line 2 already",
        "people.csv:7:1: a name cannot hold U+0020",
        "nobody was added: 5 faults to mend",
    ] {
        assert!(refused.err.contains(told), "{told}: {}", refused.err);
    }
    assert!(!refused.out.contains("enroll?code="), "{}", refused.out);
    assert_eq!(desk.ok("user list"), before, "all or nothing");

    let partly = desk.run("user import people.csv --partial --json");
    let said: Value = serde_json::from_str(&partly.out).unwrap();
    assert_eq!((partly.code, said["written"].as_bool()), (1, Some(true)), "{said}");
    let names: Vec<&str> = said["people"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["ann"], "only the row without a fault");
    assert_eq!(said["faults"][1]["line"], 4);
    assert!(desk.ok("user list").contains("ann") && !desk.ok("user list").contains("lee"));
    assert_eq!(desk.run("user import nowhere.csv").code, 1);
}

#[test]
fn a_group_that_nobody_named_is_taken_when_it_is_meant() {
    let desk = Desk::with(&staffed());
    desk.write("people.csv", "name,groups\nann,night shift\n");
    assert!(desk.run("user import people.csv").err.contains("--new-groups takes it"));
    assert_eq!(desk.run("user import people.csv --new-groups").code, 0);
    desk.write("more.csv", "name,groups\nlee,night shift\n");
    assert_eq!(desk.run("user import more.csv").code, 0, "an account has it now");
}

#[test]
fn a_progress_report_says_who_is_left_and_what_each_of_them_waits_for() {
    let desk = Desk::with(&staffed());
    desk.write("people.csv", "name,groups\nann,staff\nlee,leads\n");
    desk.ok("user import people.csv");
    desk.add("kim");
    desk.add("mia");
    desk.add("zoe");
    desk.ok("factor add mia totp");
    desk.ok("factor add zoe totp");
    desk.ok("factor reset zoe");
    desk.add("gone");
    desk.ok("user disable gone");

    let report = desk.run("user progress --json");
    assert_eq!(report.code, 1, "somebody has none: {}", report.err);
    let said: Value = serde_json::from_str(&report.out).unwrap();
    assert_eq!((said["accounts"].as_u64(), said["enrolled"].as_u64()), (Some(5), Some(1)), "{said}");
    let waits = |name: &str| {
        let missing = said["missing"].as_array().unwrap();
        missing.iter().find(|m| m["name"] == name).map(|m| m["waits_for"].as_str().unwrap().to_owned())
    };
    assert_eq!(waits("ann").as_deref(), Some("link_pending"));
    assert_eq!(waits("kim").as_deref(), Some("first_login"));
    assert_eq!(waits("zoe").as_deref(), Some("factor_removed"));
    assert_eq!((waits("mia"), waits("gone")), (None, None));
    let ann = said["missing"].as_array().unwrap().iter().find(|m| m["name"] == "ann").unwrap();
    assert!(ann["reminded_at"].is_string() && ann["until"].is_string() && ann["link"] == "sign_up", "{ann}");

    let leads = desk.run("user progress --group leads");
    assert!(leads.out.contains("lee") && !leads.out.contains("ann"), "{}", leads.out);
    assert!(leads.out.contains("0 of 1 have a second factor; 1 have none: 1 with a link that waits"), "{}", leads.out);

    let mia = Desk::with(GOOD);
    mia.add("mia");
    mia.ok("factor add mia totp");
    let whole = mia.run("user progress");
    assert_eq!(
        (whole.code, whole.out.trim()),
        (0, "1 of 1 have a second factor; 0 have none: 0 with a link that waits, 0 with one that ended.")
    );

    // An account of an old name begins anew.
    desk.ok("user remove ann");
    desk.add("ann");
    let said: Value = serde_json::from_str(&desk.run("user progress --json").out).unwrap();
    let ann = said["missing"].as_array().unwrap().iter().find(|m| m["name"] == "ann").unwrap().clone();
    assert!(ann["reminded_at"].is_null() && ann["waits_for"] == "first_login", "{ann}");
    assert!(desk.run("user remind --all").err.contains("no mail relay"));
}

// --- the time that they have

/// Until the last moment of 1 December, UTC; it is noon of 20 November.
const GRACE: &str = "levels: { mfa: { factors: 2, max_age: 10h, grace: { until: 2026-12-01, require: password } } }";
const APP: &str = "identity: { headers: [remote-user] }\nrequire: mfa\nrules:\n- { name: keys, match: { path: /keys }, \
                   require: strong }\n";

fn in_grace() -> World {
    World::new().main(GRACE).app(APP).start()
}

/// With a password alone, a day after the account was made: it enrolls nothing any more (S-ENR-1).
fn ann(world: &World) -> Person {
    let ann = world.add_user("ann", &[]);
    world.wait_clock(Duration::from_secs(25 * 3600));
    ann
}

fn with_password(world: &World, person: &Person, url: &str) -> (crate::harness::Browser, Page) {
    let mut browser = world.browser();
    let page = browser.open(url);
    let page = browser.submit(&page, &[("username", &person.name), ("password", &person.password)]);
    (browser, page)
}

fn put_off(world: &World) -> usize {
    let store = world.gate().core().store.clone();
    let filter = AuditFilter { action: Some(Action::EnrollPutOff), ..AuditFilter::default() };
    world.on_background(async move { store.audit_rows(&filter, 0, 100).await }).unwrap().len()
}

#[test]
fn s_enr_1_a_grace_lets_whoever_never_had_a_factor_pass_with_a_notice_until_its_end() {
    let world = in_grace();
    let ann = ann(&world);
    let (mut browser, page) = with_password(&world, &ann, "http://app.test/page");
    assert!(page.url.contains("/.stepgate/enroll/later"), "{}", page.url);
    assert!(page.reply.text().contains("11 days are left"), "{}", page.reply.text());
    assert_eq!((world.backend.received().len(), put_off(&world)), (0, 0), "told before she goes on");
    let page = browser.submit(&page, &[]);
    assert_eq!((page.url.as_str(), page.reply.status), ("http://app.test/page", 200));
    assert_eq!(world.backend.received_one().one("remote-user"), "ann");
    assert_eq!(put_off(&world), 1, "in the trail");
    let account = browser.open("http://login.test/.stepgate/account");
    assert!(account.reply.text().contains("11 days are left"), "{}", account.reply.text());
    let strong = browser.open("http://app.test/keys");
    assert_eq!(strong.reply.status, 403, "another level has no grace: {}", strong.url);

    // The last day, and the moment after it.
    world.wait_clock(Duration::from_secs(10 * 86_400 + 11 * 3600 - 60));
    let (mut browser, page) = with_password(&world, &ann, "http://app.test/page");
    assert!(page.reply.text().contains("This is the last day"), "{}", page.reply.text());
    assert_eq!(browser.submit(&page, &[]).reply.status, 200);
    let (mut late, told) = with_password(&world, &ann, "http://app.test/page");
    world.wait_clock(Duration::from_secs(60));
    assert_eq!(browser.get("http://app.test/page").status, 302, "a session of before is asked too");
    let page = late.submit(&told, &[]);
    assert_eq!(page.reply.status, 403, "and a page of before leads nowhere: {}", page.url);
    let (_, page) = with_password(&world, &ann, "http://app.test/page");
    assert!(page.reply.text().contains("You have no second way to sign in yet"), "{}", page.reply.text());
}

#[test]
fn s_enr_1_whoever_has_or_had_a_second_factor_never_skips_it_by_a_grace() {
    let world = in_grace();
    let bob = world.add_person("bob", &[]);
    let (mut browser, page) = with_password(&world, &bob, "http://app.test/page");
    assert!(page.url.contains("/.stepgate/login/totp"), "{}", page.url);
    let later = browser.open("http://login.test/.stepgate/enroll/later");
    assert!(later.url.contains("/.stepgate/login"), "{}", later.url);
    // Half-way in, he asks for the way on that others have.
    let (url, body) = browser.fill(&page, &[("code", "000000")]);
    let reply = browser.post(&url.replace("login/totp", "enroll/later"), &body);
    assert!(reply.status >= 400, "{}", reply.status);
    let core = world.gate().core();
    world.on_background(core.auth.reset_factors(&world.operator(), &world.user("bob"))).unwrap();
    let (_, page) = with_password(&world, &bob, "http://app.test/page");
    assert_eq!(page.reply.status, 403, "one that was lost was one: {}", page.url);

    // One that comes while the page is open, and while a session goes on.
    let ann = ann(&world);
    let (mut told, page) = with_password(&world, &ann, "http://app.test/page");
    let (mut inside, through) = with_password(&world, &ann, "http://app.test/page");
    assert_eq!(inside.submit(&through, &[]).reply.status, 200);
    let snapshot = core.snapshot.load_full();
    world.on_background(core.auth.operator_adds_totp(&world.operator(), &snapshot, &world.user("ann"), None)).unwrap();
    let page = told.submit(&page, &[]);
    assert!(page.url.contains("/.stepgate/step-up"), "{}", page.url);
    let deadline = Instant::now() + Duration::from_secs(30);
    while inside.get("http://app.test/page").status != 302 {
        assert!(Instant::now() < deadline, "a change of her account never bit");
    }
    assert_eq!(put_off(&world), 1);
}

#[test]
fn who_may_enroll_at_the_sign_in_may_put_it_off_while_the_grace_lasts() {
    let world = in_grace();
    let ann = world.add_user("ann", &[]);
    let (mut browser, page) = with_password(&world, &ann, "http://app.test/page");
    assert!(page.url.contains("/.stepgate/enroll/totp"), "{}", page.url);
    assert!(page.reply.text().contains("12 days are left"), "{}", page.reply.text());
    let page = browser.submit(&page, &[("later", "1")]);
    assert_eq!((page.url.as_str(), page.reply.status), ("http://app.test/page", 200));
    assert_eq!(put_off(&world), 1);

    // Somebody else has enrolled her meanwhile.
    let (mut other, page) = with_password(&world, &ann, "http://app.test/page");
    let core = world.gate().core();
    let snapshot = core.snapshot.load_full();
    world.on_background(core.auth.operator_adds_totp(&world.operator(), &snapshot, &world.user("ann"), None)).unwrap();
    let page = other.submit(&page, &[("later", "1")]);
    assert!(!page.url.starts_with("http://app.test/"), "{}", page.url);
    assert_eq!(put_off(&world), 1);
}
