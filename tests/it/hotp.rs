//! Confirming by a code generator that counts its presses (S-HOTP-1): forward alone, a few presses on, back into step by two
//! codes in a row.

use std::collections::HashSet;
use std::time::Duration;

use stepgate::auth::factors::HotpToken;
use stepgate::base::clock::Timestamp;
use stepgate::base::ids::CredentialId;
use stepgate::store::AuditFilter;

use crate::harness::smtp::SmtpCatcher;
use crate::harness::{Browser, Page, Person, World, code_at, seed_of};

const WIKI: &str = "http://app.test/";
const ACCOUNT: &str = "http://login.test/.stepgate/account";
const MFA: &str = "require: mfa";

/// The code at a counter: RFC 6238 is RFC 4226 with the number of the step for a counter.
fn press(seed: &str, counter: i64) -> String {
    code_at(seed, Timestamp::from_secs(counter * 30))
}

/// Gives somebody a generator whose next code is that of `next`; the address is what an operator sees.
fn give(world: &World, name: &str, next: i64) -> (CredentialId, String) {
    let core = world.gate().core();
    let (user, operator, snapshot) = (world.user(name), world.operator(), core.snapshot.load_full());
    let made = world.on_background(core.auth.operator_adds_hotp(&operator, &snapshot, &user, None, None)).unwrap();
    if next == 0 {
        return (made.0, seed_of(made.1.expose()));
    }
    let token = HotpToken::read(&seed_of(made.1.expose()), u64::try_from(next).unwrap(), 6).unwrap();
    world.on_background(core.auth.operator_removes_factor(&operator, &user, made.0)).unwrap();
    let adding = core.auth.operator_adds_hotp(&operator, &snapshot, &user, Some(token), None);
    let (id, uri) = world.on_background(adding).unwrap();
    (id, seed_of(uri.expose()))
}

fn with_password(browser: &mut Browser, person: &Person) -> Page {
    let page = browser.open(WIKI);
    browser.submit(&page, &[("username", &person.name), ("password", &person.password)])
}

/// Signs in from a browser that was never here, with one code.
fn sign_in(world: &World, person: &Person, code: &str) -> Page {
    let mut browser = world.browser();
    let page = with_password(&mut browser, person);
    assert!(page.url.contains("/.stepgate/login/hotp?flow="), "{}", page.url);
    browser.submit(&page, &[("code", code)])
}

fn is_in(page: &Page) -> bool {
    (page.url.as_str(), page.reply.status) == (WIKI, 200)
}

fn counter_of(world: &World, id: CredentialId) -> i64 {
    let store = world.gate().core().store.clone();
    world.on_background(async move { store.credential(id).await }).unwrap().unwrap().last_step
}

fn trail(world: &World) -> String {
    let store = world.gate().core().store.clone();
    let rows = world.on_background(async move { store.audit_rows(&AuditFilter::default(), 0, 1000).await }).unwrap();
    rows.into_iter().map(|row| row.payload + "\n").collect()
}

#[test]
fn s_hotp_1_a_code_works_once_and_none_before_it_ever_again() {
    let mut world = World::new().app(MFA).start();
    let ann = world.add_user("ann", &[]);
    let (id, seed) = give(&world, "ann", 0);
    assert!(is_in(&sign_in(&world, &ann, &press(&seed, 0))));
    let again = sign_in(&world, &ann, &press(&seed, 0));
    assert_eq!(again.reply.status, 422);
    assert!(again.reply.text().contains("This code is not right"), "{}", again.reply.text());
    assert!(again.reply.text().contains("Press its button again"), "{}", again.reply.text());
    // Two presses that nobody typed are passed over, and with the third they are past.
    assert!(is_in(&sign_in(&world, &ann, &press(&seed, 3))));
    for behind in [1, 2, 3] {
        assert!(!is_in(&sign_in(&world, &ann, &press(&seed, behind))), "counter {behind}");
    }
    world.restart();
    assert_eq!(counter_of(&world, id), 3, "no restart takes it back");
    assert!(!is_in(&sign_in(&world, &ann, &press(&seed, 3))));
    let trail = trail(&world);
    assert!(trail.contains("The code was already used."), "the trail tells a used code from a wrong one");
    assert!(!trail.contains(&press(&seed, 3)), "no code stands in the trail");
}

#[test]
fn s_hotp_1_five_presses_are_passed_over_and_a_sixth_takes_two_codes_in_a_row() {
    let world = World::new().app(MFA).start();
    let ann = world.add_user("ann", &[]);
    let (id, seed) = give(&world, "ann", 10);
    assert!(is_in(&sign_in(&world, &ann, &press(&seed, 15))), "five ahead of ten");
    // Sixteen comes next: six ahead of it is too far for one code.
    let mut browser = world.browser();
    let page = with_password(&mut browser, &ann);
    let far = browser.submit(&page, &[("code", &press(&seed, 22))]);
    assert!(!is_in(&far) && far.reply.text().contains("None of its codes is accepted?"), "{}", far.reply.text());
    assert_eq!(counter_of(&world, id), 15, "a wrong code moves nothing");
    let far = browser.submit(&far, &[("code", &press(&seed, 40)), ("second", &press(&seed, 42))]);
    assert_eq!(far.reply.status, 422, "not in a row");
    let landed = browser.submit(&far, &[("code", &press(&seed, 40)), ("second", &press(&seed, 41))]);
    assert!(is_in(&landed), "{}", landed.reply.text());
    assert_eq!(counter_of(&world, id), 41, "both are used");
    assert!(trail(&world).contains("the code generator was brought back into step."));
    assert!(!is_in(&sign_in(&world, &ann, &press(&seed, 41))));
    assert!(is_in(&sign_in(&world, &ann, &press(&seed, 42))));
}

#[test]
fn s_hotp_1_two_codes_in_a_row_are_looked_for_among_fifty_and_count_as_a_try() {
    let world = World::new().app(MFA).start();
    let ann = world.add_user("ann", &[]);
    let (_, seed) = give(&world, "ann", 0);
    let mut browser = world.browser();
    let page = with_password(&mut browser, &ann);
    let pair = |browser: &mut Browser, at: i64| {
        browser.submit(&page, &[("code", &press(&seed, at)), ("second", &press(&seed, at + 1))])
    };
    for _ in 0..5 {
        assert_eq!(pair(&mut browser, 49).reply.status, 422, "the second is the fifty-first");
    }
    // The budget of all codes is spent, so the right ones are not looked at either (S-TOTP-3).
    assert_eq!(pair(&mut browser, 48).reply.status, 429);
    world.wait_clock(Duration::from_secs(901));
    let page = with_password(&mut browser, &ann);
    let landed = browser.submit(&page, &[("code", &press(&seed, 48)), ("second", &press(&seed, 49))]);
    assert!(is_in(&landed), "{}", landed.reply.text());
}

#[test]
fn s_hotp_1_of_fifty_requests_with_one_code_at_once_one_wins() {
    let world = World::new().app(MFA).start();
    let ann = world.add_user("ann", &[]);
    let (id, seed) = give(&world, "ann", 0);
    let mut browser = world.browser();
    let page = with_password(&mut browser, &ann);
    let (url, body) = browser.fill(&page, &[("code", &press(&seed, 2))]);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let posts: Vec<_> = (0..50)
            .map(|_| {
                let mut tab = browser.clone();
                let (url, body) = (url.as_str(), body.as_str());
                scope.spawn(move || tab.post(url, body).status)
            })
            .collect();
        posts.into_iter().map(|post| post.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 303).count(), 1, "{statuses:?}");
    assert_eq!(counter_of(&world, id), 2);
}

#[test]
fn s_hotp_1_codes_of_another_persons_generator_are_wrong_ones() {
    let world = World::new().app(MFA).start();
    let ann = world.add_user("ann", &[]);
    let (anns, _) = give(&world, "ann", 0);
    world.add_user("bob", &[]);
    let (bobs, seed) = give(&world, "bob", 0);
    let mut browser = world.browser();
    let page = with_password(&mut browser, &ann);
    let refused = browser.submit(&page, &[("code", &press(&seed, 0))]);
    assert!(!is_in(&refused));
    let refused = browser.submit(&refused, &[("code", &press(&seed, 0)), ("second", &press(&seed, 1))]);
    assert!(!is_in(&refused));
    assert_eq!((counter_of(&world, anns), counter_of(&world, bobs)), (-1, -1), "and nothing of Bob's is spent");
}

#[test]
fn s_fac_1_a_code_generator_is_something_one_has_and_no_key() {
    let app = "identity: { headers: [remote-user] }\nrequire: mfa\nrules: [{ name: vault, match: { path: /vault }, require: strong }]";
    let levels = "levels: { strong: { factors: 2, max_age: 10m, phishing_resistant: true } }";
    let world = World::new().main(levels).app(app).start();
    let ann = world.add_user("ann", &[]);
    let (_, seed) = give(&world, "ann", 0);
    let mut browser = world.browser();
    let page = with_password(&mut browser, &ann);
    let page = browser.submit(&page, &[("code", &press(&seed, 0))]);
    assert!(is_in(&page), "{}", page.reply.text());
    assert_eq!(world.backend.received().last().unwrap().one("remote-user"), "ann");
    let vault = browser.open("http://app.test/vault");
    let text = vault.reply.text();
    assert!(
        text.contains("Code from your code generator") && text.contains("a copied page could ask for it"),
        "{text}"
    );
}

#[test]
fn s_enr_2_ann_sets_up_a_code_generator_where_the_file_lets_her_and_is_told_of_it() {
    let relay = SmtpCatcher::plain();
    let main = format!("{}\nfactors: {{ hotp: {{ enroll: true }} }}", relay.yaml());
    let world = World::new().main(&main).app(MFA).start();
    let ann = world.add_person("ann", &[]);
    let mut browser = world.browser();
    let next = world.sign_in(&mut browser, &ann, ACCOUNT);
    assert!(next.reply.text().contains("Add a code generator"), "{}", next.reply.text());
    let page = browser.open("http://login.test/.stepgate/enroll/hotp");
    let html = page.reply.text();
    assert!(html.contains("otpauth://hotp/") && html.contains("counter=0"), "{html}");
    let seed = html.split("secret=").nth(1).unwrap().split(['&', '"']).next().unwrap().to_owned();
    let wrong = browser.submit(&page, &[("code", &press(&seed, 6)), ("name", "Grey fob")]);
    assert_eq!(wrong.reply.status, 422);
    let done = browser.submit(&wrong, &[("code", &press(&seed, 1)), ("name", "Grey fob")]);
    assert!(done.reply.text().contains("Save your backup codes"), "{}", done.reply.text());
    let done = browser.submit(&done, &[("saved", "1")]);
    assert!(done.reply.text().contains("Grey fob"), "{}", done.reply.text());
    let subjects: HashSet<String> = (0..3).map(|_| relay.next().header("Subject").to_owned()).collect();
    assert!(subjects.iter().any(|subject| subject.contains("a way to sign in was added")), "{subjects:?}");

    // The code that confirmed it is used; the next one signs in.
    let mut other = world.browser();
    let page = with_password(&mut other, &ann);
    let flow = page.url.split_once("flow=").unwrap().1.to_owned();
    let page = other.open(&format!("http://login.test/.stepgate/login/hotp?flow={flow}"));
    let again = other.submit(&page, &[("code", &press(&seed, 1))]);
    assert!(!is_in(&again));
    let landed = other.submit(&again, &[("code", &press(&seed, 2))]);
    assert!(is_in(&landed), "{}", landed.reply.text());
}

#[test]
fn where_the_file_says_nothing_operators_alone_hand_out_code_generators() {
    let world = World::new().app(MFA).start();
    let ann = world.add_person("ann", &[]);
    let mut browser = world.browser();
    let page = world.sign_in(&mut browser, &ann, ACCOUNT);
    assert!(!page.reply.text().contains("code generator"), "{}", page.reply.text());
    assert_eq!(browser.open("http://login.test/.stepgate/enroll/hotp").reply.status, 404);
    // Nor by way of a ceremony that was begun for an app.
    let page = browser.open("http://login.test/.stepgate/enroll/totp");
    let flow = page.url.split_once("flow=").unwrap().1.to_owned();
    let (_, body) = browser.fill(&page, &[("code", "123456"), ("name", "x")]);
    let refused = browser.post(&format!("http://login.test/.stepgate/enroll/hotp?flow={flow}"), &body);
    assert!(refused.status >= 400, "{} {}", refused.status, refused.text());
}
