//! Confirming by a code in a mail: only where a level names it, one code, one ceremony, few tries (S-OOB-1 to 3).

use std::time::Duration;

use stepgate::domain::audit::Action;
use stepgate::store::AuditFilter;

use crate::harness::smtp::{Caught, SmtpCatcher};
use crate::harness::{Browser, Page, Person, World};

const WIKI: &str = "http://app.test/";
const MAILED: &str = "levels: { mailed: { factors: 2, max_age: 10m, kinds: [totp, email] } }";
const CODES: &str = "factors: { first_login: 0s, email: { codes: true } }";

fn world(relay: &SmtpCatcher, app: &str) -> World {
    World::new().main(&relay.yaml()).main(MAILED).main(CODES).app(app).start()
}

fn with_password(browser: &mut Browser, person: &Person, url: &str) -> Page {
    let page = browser.open(url);
    browser.submit(&page, &[("username", &person.name), ("password", &person.password)])
}

/// Presses "Send the code" and reads the mail.
fn send(relay: &SmtpCatcher, browser: &mut Browser, page: &Page) -> (Page, String) {
    let page = browser.submit(page, &[("send", "1")]);
    assert_eq!(page.reply.status, 200, "{}", page.reply.text());
    // After wrong codes a notice is on its way too.
    let mail = std::iter::repeat_with(|| relay.next()).find(|mail| mail.header("Subject").contains("your code"));
    (page, code_of(&mail.unwrap()))
}

fn code_of(mail: &Caught) -> String {
    let text = mail.text();
    let code = text.split_whitespace().find(|word| word.len() == 6 && word.bytes().all(|b| b.is_ascii_digit()));
    code.unwrap_or_else(|| panic!("no code in {text}")).to_owned()
}

/// Another code than this one.
fn wrong(code: &str) -> String {
    if code == "000000" { "111111".to_owned() } else { "000000".to_owned() }
}

fn trail(world: &World) -> String {
    let store = world.gate().core().store.clone();
    let rows = world.on_background(async move { store.audit_rows(&AuditFilter::default(), 0, 1000).await }).unwrap();
    rows.into_iter().map(|row| row.payload + "\n").collect()
}

#[test]
fn s_oob_2_bob_signs_in_with_a_code_that_works_once_and_here_alone() {
    let relay = SmtpCatcher::plain();
    let world = world(&relay, "require: mailed");
    let bob = world.add_user("bob", &[]);
    let mut browser = world.browser();
    let page = with_password(&mut browser, &bob, WIKI);
    assert!(page.url.contains("/.stepgate/login/email?flow="), "{}", page.url);
    assert!(
        page.reply.text().contains("b…@corp.example") && !page.reply.text().contains("bob@corp"),
        "{}",
        page.reply.text()
    );
    // Opening the page sends nothing, however often.
    for _ in 0..3 {
        browser.open(&page.url);
    }
    assert!(relay.so_far().is_empty());
    let (page, code) = send(&relay, &mut browser, &page);
    browser.open(&page.url);

    // In another ceremony of the same person the code is nothing.
    let mut other = world.browser();
    let elsewhere = with_password(&mut other, &bob, WIKI);
    let (url, body) = browser.fill(&page, &[("code", &code)]);
    let flow = |page: &Page| page.url.split_once("flow=").unwrap().1.to_owned();
    let body_elsewhere = form_with(&elsewhere, &other, &code);
    let refused = other.post(&url, &body_elsewhere);
    assert_ne!(refused.status, 303, "{} is not {}", flow(&page), flow(&elsewhere));

    let reply = browser.post(&url, &body);
    assert_eq!(reply.status, 303);
    assert_eq!(browser.open(WIKI).reply.status, 200);
    let told = relay.next();
    assert!(told.header("Subject").contains("a new device"), "{}", told.raw);
    // A second time it is nothing, in this browser or another.
    let again = browser.post(&url, &body);
    assert_ne!(again.status, 303);
    let trail = trail(&world);
    assert!(trail.contains("\"code_send\"") && trail.contains("\"factor\":\"email\""));
    assert!(!trail.contains(&code), "no code stands in the trail");
}

/// The fields of the send form of a page, with a code in place of the wish for one.
fn form_with(page: &Page, browser: &Browser, code: &str) -> String {
    browser.fill(page, &[("send", "1")]).1.replace("send=1", &format!("code={code}"))
}

#[test]
fn s_oob_1_codes_by_mail_are_no_second_factor_unless_a_level_names_them() {
    let relay = SmtpCatcher::plain();
    let world = world(&relay, "require: mfa");
    let bob = world.add_user("bob", &[]);
    let mut browser = world.browser();
    let page = with_password(&mut browser, &bob, WIKI);
    assert!(page.reply.text().contains("You have no second way to sign in yet"), "{}", page.reply.text());
    assert!(!page.reply.text().contains("e-mail"));
    assert!(relay.so_far().is_empty());
    assert_ne!(browser.open(WIKI).url, WIKI);
}

#[test]
fn s_oob_2_only_the_newest_code_works_for_three_tries_and_five_minutes() {
    let relay = SmtpCatcher::plain();
    let world = world(&relay, "require: mailed");
    let bob = world.add_user("bob", &[]);
    let mut browser = world.browser();
    let page = with_password(&mut browser, &bob, WIKI);
    let (page, old) = send(&relay, &mut browser, &page);
    world.wait_clock(Duration::from_secs(31));
    let (page, new) = send(&relay, &mut browser, &page);
    if old != new {
        let refused = browser.submit(&page, &[("code", &old)]);
        assert!(refused.reply.text().contains("This code is not right"), "{}", refused.reply.text());
    }
    let refused = browser.submit(&page, &[("code", &wrong(&new))]);
    assert_eq!(refused.reply.status, 422);
    let refused = browser.submit(&page, &[("code", &wrong(&new))]);
    let refused = if old == new { browser.submit(&refused, &[("code", &wrong(&new))]) } else { refused };
    assert!(refused.reply.text().contains("This code no longer works"), "{}", refused.reply.text());
    // The right one comes too late now.
    let (url, body) = browser.fill(&page, &[("code", &new)]);
    assert_ne!(browser.post(&url, &body).status, 303);

    // And one that is five minutes old.
    world.wait_clock(Duration::from_secs(16 * 60));
    let page = with_password(&mut browser, &bob, WIKI);
    let (page, code) = send(&relay, &mut browser, &page);
    world.wait_clock(Duration::from_secs(300));
    let (url, body) = browser.fill(&page, &[("code", &code)]);
    let late = browser.post(&url, &body);
    assert_ne!(late.status, 303, "{}", late.text());
}

#[test]
fn s_oob_3_codes_are_sent_half_a_minute_apart_and_five_times_an_hour() {
    let relay = SmtpCatcher::plain();
    let world = world(&relay, "require: mailed");
    let bob = world.add_user("bob", &[]);
    let mut browser = world.browser();
    let mut sent = 0;
    let mut page = with_password(&mut browser, &bob, WIKI);
    for _ in 0..5 {
        page = send(&relay, &mut browser, &page).0;
        sent += 1;
        let refused = browser.submit(&page, &[("send", "1")]);
        assert_eq!(refused.reply.status, 429, "{}", refused.reply.text());
        assert!(refused.reply.text().contains("Another code can be sent at"), "{}", refused.reply.text());
        world.wait_clock(Duration::from_secs(31));
    }
    assert_eq!(sent, 5);
    let refused = browser.submit(&page, &[("send", "1")]);
    assert_eq!(refused.reply.status, 429, "the sixth in an hour");
    // A new sign-in has no budget of its own.
    let mut other = world.browser();
    let page = with_password(&mut other, &bob, WIKI);
    assert_eq!(other.submit(&page, &[("send", "1")]).reply.status, 429);
    assert!(relay.so_far().is_empty());
    world.wait_clock(Duration::from_secs(3600));
    let page = with_password(&mut other, &bob, WIKI);
    send(&relay, &mut other, &page);
}

#[test]
fn s_oob_2_a_session_steps_up_by_a_code_of_its_own() {
    let relay = SmtpCatcher::plain();
    let app = "require: password\nrules: [{ name: runs, match: { path: /runs/** }, require: mailed }]";
    let world = world(&relay, app);
    let bob = world.add_user("bob", &[]);
    let mut browser = world.browser();
    let page = with_password(&mut browser, &bob, WIKI);
    assert_eq!(page.reply.status, 200, "{}", page.url);
    assert!(relay.next().header("Subject").contains("a new device"));
    let page = browser.open("http://app.test/runs/7");
    assert!(page.url.contains("/.stepgate/step-up"), "{}", page.url);
    let (page, code) = send(&relay, &mut browser, &page);
    let page = browser.submit(&page, &[("code", &code)]);
    assert_eq!((page.url.as_str(), page.reply.status), ("http://app.test/runs/7", 200), "{}", page.reply.text());
    let rows: Vec<String> = trail(&world).lines().map(str::to_owned).collect();
    let name = Action::StepUp.name();
    assert!(rows.iter().any(|row| row.contains(&name) && row.contains("\"factor\":\"email\"")));
}
