//! Signing in over real sockets: what a half-done sign-in opens (nothing), whom a hand-over serves
//! (one browser), and how one leaves again.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use stepgate::domain::audit::Action;
use stepgate::store::AuditFilter;

use crate::harness::{Browser, World};

const APP: &str = r#"
allow: [group:staff]
require: mfa
rules:
  - { name: assets, match: { path: /static/** }, allow: [anyone], require: none }
"#;

#[test]
fn s_login_6_a_half_done_sign_in_is_nobody_on_every_route() {
    let world = World::new().app(APP).start();
    let ann = world.add_person("ann", &["staff"]);
    let mut browser = world.browser();
    let page = browser.open("http://app.test/");
    let page = browser.submit(&page, &[("username", &ann.name), ("password", &ann.password)]);
    assert!(page.url.contains("/.stepgate/login/totp"), "{}", page.url);
    for url in [
        "http://app.test/",
        "http://app.test/any/page",
        "http://login.test/.stepgate/account",
        "http://login.test/.stepgate/account/password",
        "http://login.test/.stepgate/enroll/totp",
        "http://login.test/.stepgate/enroll/backup-codes",
        "http://login.test/.stepgate/step-up",
    ] {
        let seen = browser.open(url);
        assert!(seen.url.contains("/.stepgate/login"), "{url} led to {}", seen.url);
    }
    assert!(world.backend.received().is_empty());
    let seen = browser.open("http://app.test/static/app.css");
    assert_eq!(seen.reply.status, 200);
    assert!(world.backend.received_one().all("cookie").is_empty(), "public, and still without a name");
}

#[test]
fn s_totp_2_a_code_is_of_the_moment_in_which_it_has_come_however_early_its_head_was() {
    let world = World::new().app(APP).start();
    let ann = world.add_person("ann", &["staff"]);
    let mut browser = world.browser();
    let page = browser.open("http://app.test/");
    let page = browser.submit(&page, &[("username", &ann.name), ("password", &ann.password)]);
    let (url, body) = browser.fill(&page, &[("code", &world.next_code(&ann))]);
    let jar = browser.cookies.iter().filter(|(host, ..)| host == "login.test");
    let jar: Vec<String> = jar.map(|(_, name, value)| format!("{name}={value}")).collect();
    let target = url.strip_prefix("http://login.test").unwrap();
    let mut client = TcpStream::connect(world.addr).unwrap();
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: login.test\r\nOrigin: http://login.test\r\nAccept: text/html\r\n\
         Cookie: {}\r\nContent-Type: application/x-www-form-urlencoded\r\nExpect: 100-continue\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n",
        jar.join("; "),
        body.len()
    );
    client.write_all(head.as_bytes()).unwrap();
    let mut asked = [0; 25];
    client.read_exact(&mut asked).unwrap();
    assert!(asked.starts_with(b"HTTP/1.1 100 "), "{asked:?}");
    world.wait_clock(Duration::from_secs(120));
    client.write_all(body.as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 422 "), "{answer}");
}

#[test]
fn s_login_8_a_hand_over_link_is_worth_nothing_in_another_browser() {
    let world = World::new().app(APP).start();
    let mallory = world.add_person("mallory", &["staff"]);
    let mut attacker = world.browser();
    world.sign_in(&mut attacker, &mallory, "http://app.test/");
    // A hand-over of the attacker's own session, not followed but sent to the victim.
    attacker.cookies.retain(|(host, name, _)| host != "app.test" || name.contains("-nonce-"));
    let challenge = attacker.get("http://app.test/");
    let to_login = challenge.location().to_owned();
    let to_step_up = attacker.get(&to_login).location().to_owned();
    let to_step_up = if to_step_up.starts_with('/') { format!("http://login.test{to_step_up}") } else { to_step_up };
    let link = attacker.get(&to_step_up).location().to_owned();
    assert!(link.starts_with("http://app.test/.stepgate/handover?code="), "{link}");
    let mut victim = world.browser();
    victim.get("http://app.test/");
    let seen = victim.get(&link);
    assert_eq!(seen.status, 400, "{}", seen.text());
    assert!(victim.cookie("app.test", "__Host-Http-stepgate").is_none(), "nobody rides another's session");
    // And it is used up: had the link been the victim's own, whoever began it would come too late.
    assert_eq!(attacker.get(&link).status, 400);
}

#[test]
fn s_login_9_a_script_of_the_app_gets_nothing_of_ours() {
    let world = World::new().app(APP).start();
    let ann = world.add_person("ann", &["staff"]);
    let mut browser = world.browser();
    world.sign_in(&mut browser, &ann, "http://app.test/");
    let script = [("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty"), ("sec-fetch-site", "same-origin")];
    for path in ["logout", "handover?code=x", "signed-out"] {
        let seen = browser.request("GET", &format!("http://app.test/.stepgate/{path}"), &script, None);
        assert_eq!(seen.status, 403, "{path}");
    }
    for path in ["account", "login", "enroll/totp", "step-up"] {
        let seen = browser.request("GET", &format!("http://app.test/.stepgate/{path}"), &[], None);
        assert_eq!(seen.status, 404, "{path}");
    }
}

#[test]
fn s_login_9_a_script_of_the_app_hears_whether_it_is_the_same_person_and_nothing_else() {
    let world = World::new().app(APP).start();
    let (ann, bob) = (world.add_person("ann", &["staff"]), world.add_person("bob", &["staff"]));
    let script = [("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty"), ("sec-fetch-site", "same-origin")];
    let url = "http://app.test/.stepgate/person";
    let person = |browser: &mut Browser| {
        let reply = browser.request("GET", url, &script, None);
        assert_eq!((reply.status, reply.header("cache-control")), (200, Some("no-store")));
        reply.json()["person"].as_str().map(str::to_owned)
    };
    let signed_in = |who| {
        let mut browser = world.browser();
        world.sign_in(&mut browser, who, "http://app.test/");
        browser
    };
    assert_eq!(person(&mut world.browser()), None);
    let (mut first, mut again, mut other) = (signed_in(&ann), signed_in(&ann), signed_in(&bob));
    let known = person(&mut first).unwrap();
    assert_eq!(person(&mut again).as_deref(), Some(&*known), "another session of the same person");
    assert_ne!(person(&mut other).as_deref(), Some(&*known));

    // A page of another site, a frame, a program: none of theirs.
    for (name, value) in [
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "none"),
        ("sec-fetch-mode", "navigate"),
        ("sec-fetch-dest", "iframe"),
    ] {
        let asked = script.map(|field| if field.0 == name { (name, value) } else { field });
        assert_eq!(first.request("GET", url, &asked, None).status, 403, "{name}: {value}");
    }
    assert_eq!(first.request("GET", url, &[], None).status, 403);

    // And a page that is left open keeps nobody signed in (S-SESS-4).
    for _ in 0..3 {
        world.wait_clock(Duration::from_secs(6 * 60));
        person(&mut first);
    }
    assert_eq!(person(&mut first), None, "15 minutes without a request");
}

#[test]
fn s_sess_5_signing_out_at_the_app_ends_the_session_everywhere() {
    let world = World::new().app(APP).start();
    let ann = world.add_person("ann", &["staff"]);
    let mut browser = world.browser();
    world.sign_in(&mut browser, &ann, "http://app.test/");
    let kept = browser.clone();
    let page = browser.open("http://app.test/.stepgate/logout");
    assert_eq!(kept.clone().get("http://app.test/").status, 200, "asking ends nothing");
    let page = browser.submit(&page, &[("csrf", &hidden(&page.reply.text(), "csrf"))]);
    assert!(page.reply.text().contains("You are signed out"), "{}", page.reply.text());
    for url in ["http://app.test/", "http://login.test/.stepgate/account"] {
        let mut thief = kept.clone();
        let seen = thief.open(url);
        assert!(seen.url.contains("/.stepgate/login"), "the old cookies opened {}", seen.url);
    }
}

/// Browsers escape neither a backslash in a query nor many a sign that is long where it is sealed.
#[test]
fn a_link_leads_into_the_app_whatever_its_query_holds() {
    let world = World::new().start();
    let ann = world.add_person("ann", &[]);
    let windows = r"http://app.test/files?in=C:\Users\ann";
    let long = format!("http://app.test/search?q={}", r"\".repeat(4000));
    for (link, page) in [(windows, windows), (long.as_str(), "http://app.test/search")] {
        let landed = world.sign_in(&mut world.browser(), &ann, link);
        assert_eq!((landed.url.as_str(), landed.reply.status), (page, 200));
    }
    assert_eq!(world.backend.received()[0].line, r"GET /files?in=C:\Users\ann HTTP/1.1");
}

#[test]
fn a_sign_in_survives_a_restart_of_the_gate() {
    let mut world = World::new().app(APP).start();
    let ann = world.add_person("ann", &["staff"]);
    let mut browser = world.browser();
    world.sign_in(&mut browser, &ann, "http://app.test/");
    let code = world.code(&ann);
    world.restart();
    browser.gate = world.addr;
    assert_eq!(browser.get("http://app.test/").status, 200);
    // And the code that was used before stays used (S-TOTP-1).
    let mut thief = world.browser();
    let page = thief.open("http://app.test/");
    let page = thief.submit(&page, &[("username", &ann.name), ("password", &ann.password)]);
    let seen = thief.submit(&page, &[("code", &code)]);
    assert!(seen.reply.text().contains("already used"), "{}", seen.reply.text());
}

#[test]
fn s_totp_3_a_right_code_gives_back_the_tries_before_it_and_a_pause_ends_by_a_command() {
    let world = World::new().app(APP).start();
    let ann = world.add_person("ann", &["staff"]);
    let tries = |browser: &mut Browser, times: usize| {
        let page = browser.open("http://app.test/");
        let page = browser.submit(&page, &[("username", &ann.name), ("password", &ann.password)]);
        for _ in 0..times {
            browser.submit(&page, &[("code", "000000")]);
        }
        page
    };
    for _ in 0..2 {
        let mut browser = world.browser();
        let page = tries(&mut browser, 4);
        let seen = browser.submit(&page, &[("code", &world.next_code(&ann))]);
        assert_eq!((seen.url.as_str(), seen.reply.status), ("http://app.test/", 200), "the fifth of five is right");
    }
    // A right password alone gives nothing back.
    let mut browser = world.browser();
    tries(&mut browser, 3);
    let page = tries(&mut browser, 2);
    let seen = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    assert_eq!(seen.reply.status, 429, "{}", seen.reply.text());

    let (core, user, operator) = (world.gate().core(), world.user("ann"), world.operator());
    let until = world.on_background(core.auth.paused_until(&user, world.now())).unwrap();
    assert!(until.is_some_and(|until| until > world.now()));
    assert!(world.on_background(core.auth.unpause(&operator, &user)).unwrap());
    assert_eq!(world.on_background(core.auth.paused_until(&user, world.now())).unwrap(), None);
    assert!(!world.on_background(core.auth.unpause(&operator, &user)).unwrap(), "and there is nothing left to end");
    let seen = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    assert_eq!(seen.url, "http://app.test/", "{}", seen.reply.text());
    let filter = AuditFilter { action: Some(Action::UserUnpause), ..AuditFilter::default() };
    let rows = world.on_background(core.store.audit_tail(&filter, 9)).unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
}

#[test]
fn the_account_page_lists_the_apps_that_the_person_may_open() {
    let world = World::new().app(APP).start();
    let [ann, guest] = [("ann", "staff"), ("guest", "visitors")].map(|(name, group)| world.add_person(name, &[group]));
    let link = "<a href=\"http://app.test/\">";
    for (person, opens) in [(&ann, true), (&guest, false)] {
        let mut browser = world.browser();
        let page = world.sign_in(&mut browser, person, "http://login.test/.stepgate/account");
        assert_eq!(page.reply.status, 200, "{}", page.url);
        let html = page.reply.text().replace("&#x2f;", "/");
        assert_eq!(html.contains(link), opens, "{}: {html}", person.name);
    }
}

fn hidden(html: &str, name: &str) -> String {
    let at = html.split(&format!("name=\"{name}\" value=\"")).nth(1).unwrap();
    at.split('"').next().unwrap().to_owned()
}
