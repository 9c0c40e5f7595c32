//! "Was it you?": who is told of what, once, whatever becomes of relay and gate meanwhile (S-LOGIN-13).

use std::time::{Duration, Instant};

use stepgate::auth::users::Operator;
use stepgate::domain::audit::Action;
use stepgate::store::AuditFilter;

use crate::harness::smtp::{Caught, Manners, SmtpCatcher};
use crate::harness::soft_key::SoftKey;
use crate::harness::{Browser, Page, Person, World, exchange};

const WIKI: &str = "http://app.test/";

fn world(relay: &SmtpCatcher) -> World {
    World::new().main(&relay.yaml()).start()
}

/// Ann, with her authenticator; the mail about it is taken out of the way.
fn ann(world: &World, relay: &SmtpCatcher) -> Person {
    let ann = world.add_person("ann", &[]);
    assert!(relay.next().header("Subject").contains("a way to sign in was added"));
    ann
}

/// Opens the link of a mail, and presses the button behind it.
fn deny(browser: &mut Browser, mail: &Caught) -> Page {
    let page = browser.open(&mail.link());
    assert_eq!(page.reply.status, 200, "{}", page.reply.text());
    browser.submit(&page, &[("link", code_of(mail).as_str())])
}

fn code_of(mail: &Caught) -> String {
    mail.link().split_once("code=").unwrap().1.to_owned()
}

fn rows(world: &World, action: Action) -> Vec<String> {
    let store = world.gate().core().store.clone();
    let filter = AuditFilter { action: Some(action), ..AuditFilter::default() };
    let rows = world.on_background(async move { store.audit_rows(&filter, 0, 100).await }).unwrap();
    rows.into_iter().map(|row| row.payload).collect()
}

fn metrics(world: &World) -> String {
    exchange(world.ops(), b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap().text()
}

/// The value of a metric without labels.
fn metric(world: &World, name: &str) -> f64 {
    let text = metrics(world);
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).split(' ').nth(1).unwrap().parse().unwrap()
}

/// Looks until it is so: the postman makes a round each second of the machine. The look decides.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "it never came that {what}");
        std::thread::yield_now();
    }
}

#[test]
fn s_login_13_a_new_device_is_told_and_the_no_link_ends_every_session_once() {
    let relay = SmtpCatcher::plain();
    let mut world = world(&relay);
    let ann = ann(&world, &relay);
    let mut thief = world.browser();
    assert_eq!(world.sign_in(&mut thief, &ann, WIKI).reply.status, 200);

    let mail = relay.next();
    assert_eq!(
        (mail.to.as_str(), mail.header("From").as_str()),
        ("ann@corp.example", "\"Example Corp\" <gate@corp.example>")
    );
    assert!(mail.header("Subject").contains("a new device signed in"), "{}", mail.raw);
    let text = mail.text();
    assert!(text.contains("Hello ann,") && text.contains("From: 127.0.0.1") && text.contains("Firefox"), "{text}");
    // The one link in it leads to a question, and signs nobody in (S-OOB-2).
    assert_eq!(text.matches("http").count(), 1, "{text}");
    assert!(mail.link().starts_with("http://login.test/.stepgate/not-me?code="));

    // A mail scanner opens every link, with GET and HEAD: nothing happens.
    let mut scanner = world.browser();
    for method in ["GET", "HEAD", "GET"] {
        assert_eq!(scanner.request(method, &mail.link(), &[], None).status, 200);
    }
    assert_eq!(thief.open(WIKI).reply.status, 200, "the session goes on");
    // Nor does a POST that no page of ours led to.
    let forged = scanner.post("http://login.test/.stepgate/not-me", &format!("link={}", code_of(&mail)));
    assert_ne!(forged.status, 303);
    assert_eq!(thief.open(WIKI).reply.status, 200, "the session goes on");

    let mut phone = world.browser();
    let done = deny(&mut phone, &mail);
    assert!(done.reply.text().contains("Every device is signed out"), "{}", done.reply.text());
    assert!(thief.open(WIKI).url.contains("/login"), "the session is over");
    let opened = rows(&world, Action::IncidentOpen);
    assert_eq!(opened.len(), 1);
    assert!(opened[0].contains("\"name\":\"ann\"") && opened[0].contains("new_device"), "{}", opened[0]);

    // It works once, also after a restart.
    world.restart();
    let mut again = world.browser();
    let page = again.open(&mail.link());
    assert_eq!(page.reply.status, 410);
    assert!(page.reply.text().contains("does not work any more"));
    assert_eq!(rows(&world, Action::IncidentOpen).len(), 1);
    eventually("the open incident shows", || metric(&world, "stepgate_incidents_open") == 1.0);
    assert!(relay.so_far().is_empty(), "nothing is told twice");
}

#[test]
fn s_login_13_wrong_codes_after_a_right_password_are_told_once_an_hour() {
    let relay = SmtpCatcher::plain();
    let world = world(&relay);
    let ann = ann(&world, &relay);
    let mut browser = world.browser();
    let page = browser.open(WIKI);
    let mut page = browser.submit(&page, &[("username", &ann.name), ("password", &ann.password)]);
    let right = world.code(&ann);
    let wrong = if right == "000000" { "111111" } else { "000000" };
    for _ in 0..4 {
        page = browser.submit(&page, &[("code", wrong)]);
    }
    let mail = relay.next();
    assert!(mail.header("Subject").contains("wrong codes after your password"), "{}", mail.raw);
    assert!(mail.text().contains("at least three wrong codes"));
    // The fourth, and those of the next quarter of an hour, are no further mail.
    world.wait_clock(Duration::from_secs(16 * 60));
    let mut later = world.browser();
    let page = later.open(WIKI);
    let mut page = later.submit(&page, &[("username", &ann.name), ("password", &ann.password)]);
    for _ in 0..4 {
        page = later.submit(&page, &[("code", wrong)]);
    }
    world.wait_clock(Duration::from_secs(16 * 60));
    world.sign_in(&mut later, &ann, WIKI);
    assert!(relay.next().header("Subject").contains("a new device"), "the next mail is about something else");
}

/// S-WA-2: whoever has a copy of a key can use it again and again, and fills neither mailbox nor trail.
#[test]
fn s_login_13_a_key_that_may_have_been_copied_is_told_once_an_hour() {
    let relay = SmtpCatcher::plain();
    let world = world(&relay);
    let ann = world.add_user("ann", &[]);
    let mut key = SoftKey::new(1, "http://login.test");
    let mut browser = world.browser();
    let page = browser.open(WIKI);
    let page = browser.submit(&page, &[("username", &ann.name), ("password", &ann.password)]);
    let page = browser.open(&page.url.replace("/enroll/totp", "/enroll/webauthn"));
    let made = key.created(&page.reply.text());
    let page = browser.submit(&page, &[("answer", &made), ("name", "Blue key")]);
    assert!(page.reply.text().contains("Save your backup codes"), "{}", page.reply.text());
    let mut thief = world.browser();
    for _ in 0..40 {
        let page = thief.open(WIKI);
        key.counter.set(Some(0));
        let (url, body) = thief.fill(&page, &[("answer", &key.answers(&page.reply.text()))]);
        assert_eq!(thief.post(&url, &body).status, 422);
    }
    // Beside them are the mails of the set-up.
    let subject = |mail: &Caught| mail.header("Subject");
    let is_of_the_key = |mail: &Caught| subject(mail).contains("a security key may have been copied");
    let mail = std::iter::repeat_with(|| relay.next()).find(is_of_the_key).unwrap();
    assert!(mail.text().contains("there may be two of it"), "{}", mail.text());
    let copied = rows(&world, Action::FactorVerify).iter().filter(|row| row.contains("may have been copied")).count();
    assert_eq!(copied, 30, "no rows without bound");
    let (operator, user) = (world.operator(), world.user("ann"));
    world.on_background(world.gate().core().auth.link(&operator, &user)).unwrap();
    let of_the_link = |mail: &Caught| subject(mail).contains("a link to your account was made");
    let between: Vec<Caught> = std::iter::repeat_with(|| relay.next()).take_while(|mail| !of_the_link(mail)).collect();
    assert!(!between.iter().any(is_of_the_key), "no further mail of the key");
}

#[test]
fn s_login_13_each_change_of_how_one_signs_in_is_told_and_so_is_what_an_operator_does() {
    let relay = SmtpCatcher::plain();
    let world = world(&relay);
    ann(&world, &relay);
    let core = world.gate().core();
    let (operator, snapshot): (Operator, _) = (world.operator(), core.snapshot.load_full());
    let mut user = world.user("ann");
    let told = |subject: &str, text: &str| {
        let mail = relay.next();
        assert!(mail.header("Subject").contains(subject), "{subject}: {}", mail.raw);
        assert!(
            mail.text().contains(text) && mail.text().contains("By: the people who run Example Corp"),
            "{}",
            mail.text()
        );
        mail
    };

    world.on_background(core.auth.operator_makes_codes(&operator, &snapshot, &user)).unwrap();
    told("new backup codes", "The old ones no longer work");
    let new = stepgate::base::secret::Secret::new("walks home by another road".to_owned());
    world.on_background(core.auth.set_password(&operator, &snapshot, &user, &new)).unwrap();
    told("your password was changed", "Your password was changed");
    user = world.user("ann");
    world.on_background(core.auth.link(&operator, &user)).unwrap();
    told("a link to your account was made", "sets up how you sign in");
    let address = Some(Some("other@corp.example".to_owned()));
    world.on_background(core.auth.set_profile(&operator, &mut user, None, address)).unwrap();
    let mail = told("your e-mail address was changed", "the last mail to the old one");
    assert_eq!(mail.to, "ann@corp.example", "the old address is told");
    // A display name alone is no news.
    world.on_background(core.auth.set_profile(&operator, &mut user, Some("Ann".into()), None)).unwrap();
    world.on_background(core.auth.reset_factors(&operator, &user)).unwrap();
    assert_eq!(told("your ways to sign in were reset", "were removed").to, "other@corp.example");
    assert!(relay.so_far().is_empty());
}

#[test]
fn s_login_13_a_way_that_its_person_did_not_add_is_blocked_by_the_link() {
    let relay = SmtpCatcher::plain();
    let world = world(&relay);
    let mut ann = world.add_user("ann", &[]);
    let core = world.gate().core();
    let (operator, snapshot, user) = (world.operator(), core.snapshot.load_full(), world.user("ann"));
    let (_, uri) = world.on_background(core.auth.operator_adds_totp(&operator, &snapshot, &user, None)).unwrap();
    ann.seed = Some(crate::harness::seed_of(uri.expose()));
    let mail = relay.next();
    assert!(mail.text().contains("\"Authenticator app\" was added"), "{}", mail.text());
    let mut browser = world.browser();
    let page = deny(&mut browser, &mail);
    assert!(page.reply.text().contains("what was set up no longer works"), "{}", page.reply.text());
    let mut thief = world.browser();
    let page = thief.open(WIKI);
    let page = thief.submit(&page, &[("username", &ann.name), ("password", &ann.password)]);
    assert_ne!(page.url, WIKI);
    assert!(!page.reply.text().contains("name=\"code\""), "that phone confirms nothing: {}", page.reply.text());
}

#[test]
fn s_back_1_a_used_backup_code_is_told_with_how_many_are_left() {
    let relay = SmtpCatcher::plain();
    let world = world(&relay);
    let ann = ann(&world, &relay);
    let core = world.gate().core();
    let (operator, snapshot, user) = (world.operator(), core.snapshot.load_full(), world.user("ann"));
    let codes = world.on_background(core.auth.operator_makes_codes(&operator, &snapshot, &user)).unwrap();
    relay.next();
    let mut browser = world.browser();
    let page = browser.open(WIKI);
    let page = browser.submit(&page, &[("username", &ann.name), ("password", &ann.password)]);
    let choose = browser.open(&format!("http://login.test{}", way_to_backup_codes(&page)));
    let page = browser.submit(&choose, &[("code", &codes.shown[0])]);
    assert_eq!(page.reply.status, 200, "{}", page.reply.text());
    let (first, second) = (relay.next(), relay.next());
    let used = [&first, &second].into_iter().find(|m| m.header("Subject").contains("a backup code was used")).unwrap();
    assert!(used.text().contains("9 are left"), "{}", used.text());
}

/// The page for a backup code, of the flow that this page belongs to.
fn way_to_backup_codes(page: &Page) -> String {
    let flow = page.url.split_once("flow=").unwrap().1.split('&').next().unwrap();
    format!("/.stepgate/login/backup-codes?flow={flow}")
}

#[test]
fn s_login_13_a_mail_waits_for_a_relay_that_is_away_and_for_a_gate_that_is() {
    let relay = SmtpCatcher::start(Manners { after_data: Some("451 4.3.0 come back later"), ..Manners::default() });
    let mut world = world(&relay);
    world.add_person("ann", &[]);
    eventually("it was tried", || metric(&world, "stepgate_mail_failed_total") >= 1.0);
    world.restart();
    assert!(relay.so_far().is_empty());
    relay.manners.lock().unwrap().after_data = None;
    eventually("it waits", || metric(&world, "stepgate_mail_waiting") == 1.0);
    assert!(relay.so_far().is_empty(), "not before its pause is over");
    world.wait_clock(Duration::from_secs(60));
    let mail = relay.next();
    assert!(mail.header("Subject").contains("a way to sign in was added"));
    eventually("it is gone", || metric(&world, "stepgate_mail_waiting") == 0.0);
    world.restart();
    world.wait_clock(Duration::from_secs(3600));
    eventually("a round was made", || metrics(&world).contains("stepgate_mail_waiting 0"));
    assert!(relay.so_far().is_empty(), "nothing is sent twice");
}

#[test]
fn s_login_13_a_mail_whose_fate_nobody_knows_is_sent_again_under_the_same_name() {
    let relay = SmtpCatcher::start(Manners { hang_up_after_data: true, ..Manners::default() });
    let world = world(&relay);
    world.add_person("ann", &[]);
    let first = relay.next();
    relay.manners.lock().unwrap().hang_up_after_data = false;
    eventually("the failure was counted", || metric(&world, "stepgate_mail_failed_total") >= 1.0);
    world.wait_clock(Duration::from_secs(60));
    let second = relay.next();
    assert_eq!(first.header("Message-ID"), second.header("Message-ID"), "mailboxes show it once");
    assert_eq!(first.raw, second.raw);
}

#[test]
fn a_mail_that_can_never_arrive_is_given_up_with_a_row_in_the_trail() {
    let refuse = Some(("ann".to_owned(), "550 5.1.1 no such mailbox"));
    let relay = SmtpCatcher::start(Manners { refuse, ..Manners::default() });
    let world = world(&relay);
    world.add_person("ann", &[]);
    eventually("it is given up", || metric(&world, "stepgate_mail_given_up_total") == 1.0);
    let given_up = rows(&world, Action::MailGiveUp);
    assert!(
        given_up[0].contains("refused its recipient") && given_up[0].contains("\"subject_name\":\"ann\""),
        "{}",
        given_up[0]
    );

    // And one that the relay never takes, when it is too old to be of use.
    *relay.manners.lock().unwrap() = Manners { after_data: Some("452 4.2.2 full"), ..Manners::default() };
    world.add_person("bob", &[]);
    eventually("it was tried", || metric(&world, "stepgate_mail_failed_total") >= 2.0);
    world.wait_clock(Duration::from_secs(3 * 24 * 3600 + 60));
    eventually("it is given up", || metric(&world, "stepgate_mail_given_up_total") == 2.0);
    assert!(rows(&world, Action::MailGiveUp)[1].contains("did not take it in time"));
    eventually("none waits", || metric(&world, "stepgate_mail_waiting") == 0.0);
}

#[test]
fn what_happens_to_an_account_happens_without_a_mail_where_there_is_no_relay_or_no_address() {
    let relay = SmtpCatcher::plain();
    let world = world(&relay);
    let mut user = world.user({
        world.add_user("ann", &[]);
        "ann"
    });
    let core = world.gate().core();
    world.on_background(core.auth.set_profile(&world.operator(), &mut user, None, Some(None))).unwrap();
    assert!(relay.next().header("Subject").contains("e-mail address was changed"), "the address that was taken away");
    let (operator, snapshot) = (world.operator(), core.snapshot.load_full());
    world.on_background(core.auth.operator_adds_totp(&operator, &snapshot, &user, None)).unwrap();
    assert_eq!(rows(&world, Action::FactorEnroll).len(), 1);
    assert!(relay.so_far().is_empty());
}

#[test]
fn s_oob_2_a_reminder_to_set_up_a_second_factor_leads_nowhere() {
    let relay = SmtpCatcher::plain();
    let world = world(&relay);
    world.add_user("bob", &[]);
    let bob = world.user("bob");
    let auth = world.gate().core().auth.clone();
    let operator = Operator { account: "root".to_owned(), now: world.now() };
    world.on_background(async move { auth.remind(&operator, &[bob]).await }).unwrap();
    let mail = relay.next();
    assert!(mail.header("Subject").contains("set up a second way"), "{}", mail.header("Subject"));
    assert!(!mail.text().contains("http"), "{}", mail.text());
    assert_eq!(rows(&world, Action::EnrollRemind).len(), 1);
}
