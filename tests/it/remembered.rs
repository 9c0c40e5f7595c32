//! Remembered browsers, over real sockets: a password alone for a while, and what ends it.

use std::time::Duration;

use stepgate::auth::remembered::REMEMBERED_COOKIE;
use stepgate::base::secret::Secret;
use stepgate::domain::audit::Action;
use stepgate::store::{AuditFilter, RememberedRow};

use crate::harness::smtp::SmtpCatcher;
use crate::harness::{Browser, Page, Person, World};

const PORTAL: &str = "login.test";
const DAY: Duration = Duration::from_secs(86_400);
const LEVELS: &str = "levels: { mfa: { factors: 2, max_age: 10h, remember: 30d } }";
const APP: &str = "identity: { headers: [remote-user], assertion: true }\nrequire: mfa\nrules:\n\
                   - { name: keys, match: { path: /keys }, require: strong }\n\
                   - { name: fresh, match: { path: /fresh }, require: fresh }\n";

fn world() -> World {
    World::new().main(LEVELS).app(APP).start()
}

fn with_password(world: &World, browser: &mut Browser, person: &Person) -> Page {
    // Whoever sat here has gone home.
    world.wait_clock(Duration::from_secs(11 * 3600));
    let page = browser.open("http://app.test/page");
    browser.submit(&page, &[("username", &person.name), ("password", &person.password)])
}

/// Ann signs in and has this browser remembered.
fn remembered(world: &World, person: &Person) -> Browser {
    let mut browser = world.browser();
    let page = with_password(world, &mut browser, person);
    assert!(page.reply.text().contains("Do not ask again on this device for 30 days"), "{}", page.reply.text());
    let code = world.next_code(person);
    let page = browser.submit(&page, &[("code", &code), ("remember", "1")]);
    assert_eq!((page.url.as_str(), page.reply.status), ("http://app.test/page", 200));
    assert!(browser.cookie(PORTAL, REMEMBERED_COOKIE).is_some());
    browser
}

fn is_in(page: &Page) -> bool {
    page.url == "http://app.test/page" && page.reply.status == 200
}

fn is_asked(page: &Page) -> bool {
    page.url.contains("/.stepgate/login/totp")
}

fn rows(world: &World, name: &str) -> Vec<RememberedRow> {
    let (store, user, now) = (world.gate().core().store.clone(), world.user(name).id, world.now());
    world.on_background(async move { store.remembered_of(user, now).await }).unwrap()
}

fn events(world: &World, action: Action) -> usize {
    let store = world.gate().core().store.clone();
    let filter = AuditFilter { action: Some(action), ..AuditFilter::default() };
    world.on_background(async move { store.audit_rows(&filter, 0, 100).await }).unwrap().len()
}

#[test]
fn a_remembered_browser_is_asked_for_the_password_alone_until_its_time_is_over() {
    let world = world();
    let ann = world.add_person("ann", &[]);
    let mut browser = remembered(&world, &ann);
    let first = browser.cookie(PORTAL, REMEMBERED_COOKIE).unwrap().to_owned();
    assert!(is_in(&with_password(&world, &mut browser, &ann)));
    assert_ne!(browser.cookie(PORTAL, REMEMBERED_COOKIE), Some(first.as_str()), "each use makes another");
    assert!(is_in(&with_password(&world, &mut browser, &ann)));
    let app = browser.cookie("app.test", REMEMBERED_COOKIE);
    assert!(app.is_none(), "it is of the host where people sign in alone");
    let received = world.backend.received();
    let cookies = received.iter().flat_map(|request| request.all("cookie"));
    assert!(!cookies.into_iter().any(|line| line.contains("stepgate-remembered")), "and no app sees it");
    // Never what cannot be phished, and no level that does not say so.
    let strong = browser.open("http://app.test/keys");
    assert_eq!(strong.reply.status, 403, "{}", strong.url);
    let fresh = browser.open("http://app.test/fresh");
    assert!(fresh.url.contains("/.stepgate/step-up"), "{}", fresh.url);
    // Another browser knows nothing of it, and nobody who has not the password.
    assert!(is_asked(&with_password(&world, &mut world.browser(), &ann)));
    let wrong = Person { password: "not her password".to_owned(), ..ann.clone() };
    let page = with_password(&world, &mut browser, &wrong);
    assert!(page.url.contains("/.stepgate/login") && page.reply.status == 422, "{}", page.url);
    assert!(is_in(&with_password(&world, &mut browser, &ann)), "and nothing was used up");
    world.wait_clock(DAY * 28);
    assert!(is_asked(&with_password(&world, &mut browser, &ann)), "it was 30 days, from the code on");
}

#[test]
fn s_sess_2_a_copy_that_is_used_ends_it_and_its_person_is_told_once() {
    let relay = SmtpCatcher::plain();
    let world = World::new().main(LEVELS).main(&relay.yaml()).app(APP).start();
    let ann = world.add_person("ann", &[]);
    assert!(relay.next().header("Subject").contains("a way to sign in was added"));
    let mut browser = remembered(&world, &ann);
    let subjects = [relay.next(), relay.next()].map(|mail| mail.header("Subject"));
    assert!(subjects.iter().any(|subject| subject.contains("a device is remembered")), "{subjects:?}");
    let copy = browser.cookie(PORTAL, REMEMBERED_COOKIE).unwrap().to_owned();
    assert!(is_in(&with_password(&world, &mut browser, &ann)));

    let mut thief = world.browser();
    thief.give(PORTAL, REMEMBERED_COOKIE, &copy);
    assert!(is_asked(&with_password(&world, &mut thief, &ann)));
    assert!(is_asked(&with_password(&world, &mut thief, &ann)));
    assert!(is_asked(&with_password(&world, &mut browser, &ann)), "whose copy it was nobody can tell");
    assert!(rows(&world, "ann").is_empty());
    assert_eq!(events(&world, Action::DeviceCopied), 1);
    assert!(relay.next().header("Subject").contains("a copy of your remembered device"));
}

#[test]
fn s_sess_2_two_tabs_that_sign_in_at_once_are_no_theft() {
    let world = world();
    let ann = world.add_person("ann", &[]);
    let mut browser = remembered(&world, &ann);
    let before = browser.cookie(PORTAL, REMEMBERED_COOKIE).unwrap().to_owned();
    assert!(is_in(&with_password(&world, &mut browser, &ann)));
    let newest = browser.cookie(PORTAL, REMEMBERED_COOKIE).unwrap().to_owned();
    let mut tab = world.browser();
    tab.give(PORTAL, REMEMBERED_COOKIE, &before);
    world.wait_clock(Duration::from_secs(9));
    let page = tab.open("http://app.test/page");
    assert!(is_in(&tab.submit(&page, &[("username", &ann.name), ("password", &ann.password)])));
    assert_eq!(tab.cookie(PORTAL, REMEMBERED_COOKIE), Some(before.as_str()), "the newest of its browser stays");
    browser.give(PORTAL, REMEMBERED_COOKIE, &newest);
    assert!(is_in(&with_password(&world, &mut browser, &ann)));
    assert_eq!(events(&world, Action::DeviceCopied), 0);
}

#[test]
fn s_cook_4_a_remembered_browser_is_of_its_person_and_a_forged_one_is_none() {
    let world = world();
    let (ann, bob) = (world.add_person("ann", &[]), world.add_person("bob", &[]));
    let mut browser = remembered(&world, &ann);
    let cookie = browser.cookie(PORTAL, REMEMBERED_COOKIE).unwrap().to_owned();
    assert!(is_asked(&with_password(&world, &mut browser, &bob)), "another person at this browser");
    assert!(is_in(&with_password(&world, &mut browser, &ann)), "whose visit used nothing up");
    for forged in ["x", &cookie[..cookie.len() - 2], &cookie.chars().rev().collect::<String>()] {
        let mut other = world.browser();
        other.give(PORTAL, REMEMBERED_COOKIE, forged);
        assert!(is_asked(&with_password(&world, &mut other, &ann)), "{forged}");
    }
    assert_eq!((rows(&world, "ann").len(), events(&world, Action::DeviceCopied)), (1, 0), "nobody ends it by guessing");
    // Of two, none is picked (S-COOK-2).
    let newest = browser.cookie(PORTAL, REMEMBERED_COOKIE).unwrap().to_owned();
    browser.give(PORTAL, "__HOST-Http-stepgate-remembered", &newest);
    assert!(is_asked(&with_password(&world, &mut browser, &ann)));
}

#[test]
fn s_sess_5_a_changed_password_a_removed_factor_and_the_end_of_all_sessions_forget_it() {
    let world = world();
    let core = world.gate().core();
    let mut ann = world.add_person("ann", &[]);
    let snapshot = core.snapshot.load_full();

    let mut browser = remembered(&world, &ann);
    ann.password = "ann walks quickly home".to_owned();
    let password = Secret::new(ann.password.clone());
    world.on_background(core.auth.set_password(&world.operator(), &snapshot, &world.user("ann"), &password)).unwrap();
    assert!(is_asked(&with_password(&world, &mut browser, &ann)));

    let mut browser = remembered(&world, &ann);
    let (store, user, now) = (core.store.clone(), world.user("ann").id, world.now());
    world
        .on_background(async move {
            let mut tx = store.begin().await?;
            tx.end_sessions_of(user, None, "a test", now).await?;
            tx.commit_unaudited(stepgate::store::Unaudited::FlowProgress).await
        })
        .unwrap();
    assert!(is_asked(&with_password(&world, &mut browser, &ann)));

    let mut browser = remembered(&world, &ann);
    let (operator, user) = (world.operator(), world.user("ann"));
    let other = core.auth.operator_adds_totp(&operator, &snapshot, &user, Some("Tablet".into()));
    world.on_background(other).unwrap();
    let (store, user) = (core.store.clone(), world.user("ann"));
    let phone = world.on_background(async move { store.credentials(user.id).await }).unwrap();
    let phone = phone.iter().find(|credential| credential.label != "Tablet").unwrap().id;
    world.on_background(core.auth.operator_removes_factor(&world.operator(), &world.user("ann"), phone)).unwrap();
    assert!(is_asked(&with_password(&world, &mut browser, &ann)), "the way that it stood for is gone");
    assert_eq!(events(&world, Action::DeviceCopied), 0);
}

#[test]
fn remembered_browsers_are_listed_and_forgotten_on_the_account_page() {
    let world = world();
    let (ann, bob) = (world.add_person("ann", &[]), world.add_person("bob", &[]));
    remembered(&world, &bob);
    let mut browser = remembered(&world, &ann);
    let (of_ann, of_bob) = (rows(&world, "ann")[0].id.to_string(), rows(&world, "bob")[0].id.to_string());
    let page = browser.open("http://login.test/.stepgate/account");
    let html = page.reply.text();
    assert!(html.contains("Remembered devices") && html.contains(&of_ann) && !html.contains(&of_bob), "{html}");
    browser.submit(&page, &[("forget", &of_bob)]);
    assert_eq!(rows(&world, "bob").len(), 1, "nobody else's");
    let done = browser.submit(&page, &[("forget", &of_ann)]);
    assert!(done.reply.text().contains("asked for there again"), "{}", done.reply.text());
    assert!(rows(&world, "ann").is_empty());
    assert_eq!(events(&world, Action::DeviceForget), 1);
    assert!(is_asked(&with_password(&world, &mut browser, &ann)));
}

#[test]
fn without_the_tick_or_where_no_level_says_so_nothing_is_remembered() {
    let world = world();
    let ann = world.add_person("ann", &[]);
    let mut browser = world.browser();
    let page = with_password(&world, &mut browser, &ann);
    let code = world.next_code(&ann);
    assert!(is_in(&browser.submit(&page, &[("code", &code)])));
    assert!(rows(&world, "ann").is_empty());
    let plain = World::new().app(APP).start();
    let bob = plain.add_person("bob", &[]);
    let mut browser = plain.browser();
    let page = with_password(&plain, &mut browser, &bob);
    assert!(!page.reply.text().contains("Do not ask again"), "{}", page.reply.text());
    let (url, body) = browser.fill(&page, &[("code", &plain.next_code(&bob))]);
    browser.post(&url, &format!("{body}&remember=1"));
    assert!(rows(&plain, "bob").is_empty(), "and a form of one's own changes nothing");
}
