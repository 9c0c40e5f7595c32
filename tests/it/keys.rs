//! Security keys over real sockets: from the first sign-in to the app, with a key in software.

use crate::harness::World;
use crate::harness::soft_key::SoftKey;

const APP: &str = "\nidentity: { headers: [remote-user] }\nallow: [group:staff]\nrequire: strong\n";

#[test]
fn s_wa_1_a_key_opens_what_asks_for_one_and_its_answer_serves_once() {
    let world = World::new().app(APP).start();
    let ann = world.add_user("ann", &["staff"]);
    let mut browser = world.browser();
    let mut key = SoftKey::new(1, "http://login.test");
    let page = browser.open("http://app.test/page");
    let page = browser.submit(&page, &[("username", &ann.name), ("password", &ann.password)]);
    let page = browser.open(&page.url.replace("/enroll/totp", "/enroll/webauthn"));
    let made = key.created(&page.reply.text());
    let page = browser.submit(&page, &[("answer", &made), ("name", "Blue key")]);
    assert!(page.reply.text().contains("Save your backup codes"), "{}", page.reply.text());
    let page = browser.submit(&page, &[("saved", "1")]);
    assert_eq!((page.url.as_str(), page.reply.status), ("http://app.test/page", 200));
    assert_eq!(world.backend.received_one().one("remote-user"), "ann");

    // Behind the password.
    let mut desk = world.browser();
    let page = desk.open("http://app.test/page");
    let page = desk.submit(&page, &[("username", &ann.name), ("password", &ann.password)]);
    assert!(page.url.contains("/.stepgate/login/webauthn"), "{}", page.url);
    let page = desk.submit(&page, &[("answer", &key.answers(&page.reply.text()))]);
    assert_eq!((page.url.as_str(), page.reply.status), ("http://app.test/page", 200));

    // Without a name; and the very same bytes once more.
    let mut phone = world.browser();
    let page = phone.open("http://app.test/page");
    let (url, body) = phone.fill(&page, &[("answer", &key.answers(&page.reply.text()))]);
    let first = phone.post(&url, &body);
    assert_eq!(first.status, 303, "{}", first.text());
    let again = phone.post(&url, &body);
    assert_eq!(again.status, 422, "{}", again.text());
    let mut thief = world.browser();
    thief.cookies.clone_from(&phone.cookies);
    thief.cookies.retain(|(_, name, _)| name.ends_with("-flow"));
    assert_eq!(thief.post(&url, &body).status, 422);
    assert!(thief.cookie("login.test", "__Host-Http-stepgate").is_none());
}
