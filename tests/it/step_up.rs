//! Confirming once more over real sockets: only what is missing, and each person for themselves.

use std::time::Duration;

use crate::harness::World;

const APP: &str = r#"
identity: { headers: [remote-user] }
allow: [group:staff]
require: mfa
rules:
  - { name: payments, match: { path: /payments/** }, require: fresh }
  - { name: vault, match: { path: /vault/** }, require: strong }
"#;

#[test]
fn a_fresh_code_alone_opens_what_needs_one() {
    let world = World::new().app(APP).start();
    let ann = world.add_person("ann", &["staff"]);
    let mut browser = world.browser();
    world.sign_in(&mut browser, &ann, "http://app.test/");
    world.wait_clock(Duration::from_secs(11 * 60));
    assert_eq!(browser.get("http://app.test/").status, 200, "ten hours are not over");
    let page = browser.open("http://app.test/payments/7?x=1");
    assert!(page.url.contains("/.stepgate/step-up"), "{}", page.url);
    assert!(page.reply.text().contains("still counts"), "{}", page.reply.text());
    let before = browser.clone();
    let page = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    assert_eq!((page.url.as_str(), page.reply.status), ("http://app.test/payments/7?x=1", 200));
    // The id from before never grows: it is as stale as it was (S-SESS-2).
    let mut thief = before;
    let seen = thief.get("http://app.test/payments/7");
    assert_ne!(seen.status, 200);
    world.wait_clock(Duration::from_secs(11));
    let seen = thief.open("http://app.test/");
    assert!(seen.url.contains("/.stepgate/login"), "{}", seen.url);
}

#[test]
fn what_nobody_can_show_is_said_on_an_honest_page() {
    let world = World::new().app(APP).start();
    let ann = world.add_person("ann", &["staff"]);
    let mut browser = world.browser();
    world.sign_in(&mut browser, &ann, "http://app.test/");
    let page = browser.open("http://app.test/vault/1");
    assert_eq!(page.reply.status, 403, "{}", page.url);
    assert_eq!(browser.get("http://app.test/").status, 200, "she goes on elsewhere");
}

#[test]
fn s_step_2_another_person_at_the_question_gets_their_own_session() {
    let world = World::new().app(APP).start();
    let ann = world.add_person("ann", &["staff"]);
    let bob = world.add_person("bob", &["staff"]);
    let mut shared = world.browser();
    world.sign_in(&mut shared, &ann, "http://app.test/");
    world.wait_clock(Duration::from_secs(11 * 60));
    let question = shared.open("http://app.test/payments/7");
    let page = shared.submit(&question, &[("code", &world.next_code(&bob))]);
    assert_eq!(page.reply.status, 422, "his code is worth nothing in her session");
    let html = page.reply.text();
    let other = html.split("href=\"").find(|part| part.contains("switch=1")).unwrap().split('"').next().unwrap();
    let page = shared.open(&format!("http://login.test{}", other.replace("&amp;", "&").replace("&#x2f;", "/")));
    let page = shared.submit(&page, &[("username", &bob.name), ("password", &bob.password)]);
    world.backend.received();
    let page = shared.submit(&page, &[("code", &world.next_code(&bob))]);
    assert_eq!(page.url, "http://app.test/payments/7");
    assert_eq!(world.backend.received().last().unwrap().one("remote-user"), "bob");
}
