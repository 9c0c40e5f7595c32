//! Getting a first factor over real sockets, from the account that an operator added to the app.

use crate::harness::World;

const APP: &str = "\nidentity: { headers: [remote-user] }\nallow: [group:staff]\nrequire: mfa\n";

#[test]
fn s_enr_1_a_new_account_enrolls_in_its_window_and_reaches_the_app() {
    let world = World::new().app(APP).start();
    let mut ann = world.add_user("ann", &["staff"]);
    let mut browser = world.browser();
    let page = browser.open("http://app.test/page");
    let page = browser.submit(&page, &[("username", &ann.name), ("password", &ann.password)]);
    assert!(page.url.contains("/.stepgate/enroll/totp"), "{}", page.url);
    let html = page.reply.text();
    // What the phone reads from the picture.
    ann.seed = Some(html.split("secret=").nth(1).unwrap().split(['&', '"']).next().unwrap().to_owned());
    let code = world.code(&ann);
    let page = browser.submit(&page, &[("code", &code), ("name", "Ann's phone")]);
    assert!(page.reply.text().contains("Save your backup codes"), "{}", page.reply.text());
    assert_eq!(page.reply.header("cache-control"), Some("no-store"));
    let page = browser.submit(&page, &[("saved", "1")]);
    assert_eq!((page.url.as_str(), page.reply.status), ("http://app.test/page", 200));
    assert_eq!(world.backend.received_one().one("remote-user"), "ann");
    // The window is closed for ever, and the code that confirmed the key is used.
    let mut thief = world.browser();
    let page = thief.open("http://app.test/page");
    let page = thief.submit(&page, &[("username", &ann.name), ("password", &ann.password)]);
    assert!(page.url.contains("/.stepgate/login/totp"), "{}", page.url);
    let seen = thief.submit(&page, &[("code", &code)]);
    assert!(seen.reply.text().contains("already used"), "{}", seen.reply.text());
}

#[test]
fn s_rec_3_an_access_pass_is_good_for_enrollment_once_and_for_no_app() {
    let world = World::new().app(APP).start();
    let ann = world.add_person("ann", &["staff"]);
    let core = world.gate().core();
    let user = world.user("ann");
    let operator = world.operator();
    world.on_background(core.auth.reset_factors(&operator, &user)).unwrap();
    let user = world.user("ann");
    let link = world.on_background(core.auth.link(&operator, &user)).unwrap();
    let url = format!("http://login.test{}", *link.path);
    let mut browser = world.browser();
    browser.open(&url);
    let page = browser.open(&url);
    assert_eq!(page.reply.status, 200, "looking does not use it up");
    let page = browser.submit(&page, &[("link", url.split("code=").nth(1).unwrap())]);
    assert!(page.url.contains("/.stepgate/enroll/totp"), "{}", page.url);
    assert_eq!(world.browser().open(&url).reply.status, 410);
    let seen = browser.open("http://app.test/");
    assert!(seen.url.contains("/.stepgate/login"), "{}", seen.url);
    assert!(world.backend.received().is_empty());
    let _ = ann;
}
