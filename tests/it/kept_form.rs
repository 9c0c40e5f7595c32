//! Nothing typed is lost: a form that met a challenge arrives once, whole, when its person has shown what was
//! missing, and nobody else's ever.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use stepgate::base::budget::Taker;
use stepgate::store::AuditFilter;

use crate::harness::{Browser, Page, Person, World};

const APP: &str = r#"
identity: { headers: [remote-user] }
allow: [group:staff]
require: mfa
rules:
  - { name: open, match: { path: /open/** }, allow: [anyone], require: none }
  - { name: small, match: { path: /small/** }, require: fresh, keep_body: 10B }
  - { name: none, match: { path: /none/** }, require: fresh, keep_body: 0B }
  - { name: save, match: { path: /save/** }, require: fresh }
  - { name: purge, match: { path: /one, form: { action: purge } }, require: fresh }
"#;
/// What a rule keeps of a form where it says nothing.
const KEEP_BODY: usize = 256 * 1024;
const UPLOAD: &str = "multipart/form-data; boundary=x";
const BODY: &[u8] =
    b"--x\r\nContent-Disposition: form-data; name=\"a\"; filename=\"\xc3\xa9\"\r\n\r\n\0\xff typed\r\n--x--\r\n";
const OWN: (&str, &str) = ("origin", "http://app.test");

/// A world, a person who signed in eleven minutes ago, and her browser.
fn stale() -> (World, Person, Browser) {
    let world = World::new().app(APP).start();
    let ann = world.add_person("ann", &["staff"]);
    let mut browser = world.browser();
    world.sign_in(&mut browser, &ann, "http://app.test/");
    world.wait_clock(Duration::from_secs(11 * 60));
    world.backend.received();
    (world, ann, browser)
}

/// Posts what was typed; the page that the browser is led to.
fn posts(browser: &mut Browser, url: &str, body: &[u8], fields: &[(&str, &str)]) -> Page {
    let fields: Vec<_> = [("content-type", UPLOAD)].into_iter().chain(fields.iter().copied()).collect();
    let reply = browser.request("POST", url, &fields, Some(body));
    assert_eq!(reply.status, 303, "{}", reply.text());
    browser.open(reply.location())
}

/// Sends a kept form on from its page, as the script of that page does.
fn sends(browser: &mut Browser, page: &Page) -> Page {
    assert!(page.url.contains("http://app.test/.stepgate/form?id="), "{}: {}", page.url, page.reply.text());
    browser.submit(page, &[("stepgate-form", &ticket(page))])
}

fn ticket(page: &Page) -> String {
    let html = page.reply.text();
    html.split("name=\"stepgate-form\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

#[test]
fn s_keep_2_a_form_that_meets_a_step_up_arrives_once_and_whole() {
    let (mut world, ann, mut browser) = stale();
    let referer = ("referer", "http://app.test/edit?id=7");
    let page = posts(&mut browser, "http://app.test/save/7?x=%C3%A9", BODY, &[OWN, referer]);
    assert!(page.url.contains("login.test/.stepgate/step-up"), "{}", page.url);
    assert!(page.reply.text().contains("Your form was kept."), "{}", page.reply.text());
    // Neither a restart nor a power cut loses it.
    world.restart();
    browser.gate = world.addr;
    let page = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    assert_eq!(page.reply.status, 200, "{}", page.reply.text());
    assert!(world.backend.received().is_empty(), "it is sent by a POST of the browser, not by going there");
    let form = page.clone();
    let sent = sends(&mut browser, &page);
    assert_eq!((sent.url.as_str(), sent.reply.text().as_str()), ("http://app.test/save/7?x=%C3%A9", "ok"));
    let got = world.backend.received_one();
    assert_eq!((got.line.as_str(), got.body.as_slice()), ("POST /save/7?x=%C3%A9 HTTP/1.1", BODY));
    assert_eq!((got.one("content-type"), got.one("content-length")), (UPLOAD, BODY.len().to_string().as_str()));
    assert_eq!((got.one("origin"), got.one("referer")), (OWN.1, referer.1), "apps check these against forgery");
    assert_eq!(got.one("remote-user"), "ann");
    assert!(!got.headers.iter().any(|(n, v)| n.eq_ignore_ascii_case("cookie") && v.contains("stepgate")), "{got:?}");

    let again = sends(&mut browser, &form);
    assert_eq!(again.reply.status, 410);
    assert!(again.reply.text().contains("It is not sent twice."), "{}", again.reply.text());
    assert_eq!(browser.open(&form.url).reply.status, 410, "nor by going back to the page that sent it");
    assert!(world.backend.received().is_empty());
}

#[test]
fn s_path_8_a_kept_form_is_judged_by_its_fields_when_it_is_kept_and_when_it_is_sent() {
    let (world, ann, mut browser) = stale();
    let form = [("content-type", "application/x-www-form-urlencoded"), OWN];
    let reply = browser.request("POST", "http://app.test/one", &form, Some(b"action=show"));
    assert_eq!((reply.status, reply.text().as_str()), (200, "ok"), "mfa is enough for this one");
    assert_eq!(world.backend.received_one().body, b"action=show");
    let purge = b"action=pur%67e&id=7&note=%C3%A9";
    let page = browser.request("POST", "http://app.test/one?x=1", &form, Some(purge));
    assert_eq!(page.status, 303);
    let page = browser.open(page.location());
    assert!(page.url.contains("login.test/.stepgate/step-up"), "{}", page.url);
    assert!(page.reply.text().contains("Your form was kept."), "{}", page.reply.text());
    assert!(world.backend.received().is_empty());
    let page = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    let sent = sends(&mut browser, &page);
    assert_eq!(sent.reply.text(), "ok", "{}", sent.url);
    let got = world.backend.received_one();
    assert_eq!((got.line.as_str(), got.body.as_slice()), ("POST /one?x=1 HTTP/1.1", &purge[..]));
    assert_eq!(got.one("content-type"), form[0].1);
    // With files it may hold anything, and is kept as well.
    world.wait_clock(Duration::from_secs(11 * 60));
    let page = posts(&mut browser, "http://app.test/one", BODY, &[OWN]);
    assert!(page.reply.text().contains("Your form was kept."), "{}", page.reply.text());
}

#[test]
fn s_keep_2_of_many_that_send_it_at_once_one_arrives() {
    let (world, ann, mut browser) = stale();
    let page = posts(&mut browser, "http://app.test/save/7", BODY, &[OWN]);
    let page = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let send = || scope.spawn(|| sends(&mut browser.clone(), &page).reply.status);
        let all: Vec<_> = (0..20).map(|_| send()).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    world.backend.received_one();
}

#[test]
fn a_form_survives_the_end_of_the_session_where_the_same_person_comes_back() {
    let world = World::new().app(APP).start();
    let (ann, bob) = (world.add_person("ann", &["staff"]), world.add_person("bob", &["staff"]));
    for (person, arrives) in [(&ann, true), (&bob, false)] {
        let mut browser = world.browser();
        world.sign_in(&mut browser, &ann, "http://app.test/");
        // She was away for longer than the idle limit.
        world.wait_clock(Duration::from_secs(16 * 60));
        world.backend.received();
        let page = posts(&mut browser, "http://app.test/save/7", BODY, &[OWN]);
        assert!(page.url.contains("login.test/.stepgate/login"), "{}", page.url);
        assert!(page.reply.text().contains("Your form was kept."), "{}", page.reply.text());
        let page = browser.submit(&page, &[("username", &person.name), ("password", &person.password)]);
        assert!(page.reply.text().contains("Your form was kept."), "{}", page.reply.text());
        let page = browser.submit(&page, &[("code", &world.next_code(person))]);
        if arrives {
            assert_eq!(sends(&mut browser, &page).reply.text(), "ok");
            assert_eq!(world.backend.received_one().body, BODY);
        } else {
            // S-STEP-2: he has a session of his own, and her form is nobody's any more.
            assert_eq!(page.reply.status, 410, "{}", page.reply.text());
            assert_eq!(browser.get("http://app.test/").status, 200);
            assert_eq!(world.backend.received_one().one("remote-user"), "bob");
        }
    }
}

#[test]
fn s_keep_1_without_proof_of_the_same_origin_nothing_is_kept() {
    let (world, ann, browser) = stale();
    for fields in [
        &[][..],
        &[("origin", "http://evil.test")],
        &[("origin", "null")],
        &[("sec-fetch-site", "cross-site"), OWN],
        &[("sec-fetch-site", "same-site"), OWN],
    ] {
        let mut browser = browser.clone();
        let page = posts(&mut browser, "http://app.test/save/7", BODY, fields);
        let text = page.reply.text();
        assert!(text.contains("was not kept") && !text.contains("Your form was kept"), "{fields:?}: {text}");
    }
    let mut browser = browser;
    let page = posts(&mut browser, "http://app.test/save/7", BODY, &[]);
    let page = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    assert_eq!(page.url, "http://app.test/", "she is led to the app, and nothing is sent");
    assert!(world.backend.received().iter().all(|r| r.line.starts_with("GET ")));
}

#[test]
fn s_keep_3_what_is_too_large_is_said_before_the_check() {
    let (world, _, mut browser) = stale();
    let page = posts(&mut browser, "http://app.test/small/1", b"0123456789", &[OWN]);
    assert!(page.reply.text().contains("Your form was kept."), "ten bytes of ten");
    let page = posts(&mut browser, "http://app.test/small/1", b"0123456789a", &[OWN]);
    assert!(page.reply.text().contains("too large to be kept: at most 10 B"), "{}", page.reply.text());
    let most = vec![b'a'; 256 * 1024];
    let page = posts(&mut browser, "http://app.test/save/1", &most, &[OWN]);
    assert!(page.reply.text().contains("Your form was kept."), "256 KiB unless a rule says otherwise");
    let page = posts(&mut browser, "http://app.test/save/1", &[&most[..], b"a"].concat(), &[OWN]);
    assert!(page.reply.text().contains("at most 256 kB"), "{}", page.reply.text());
    let page = posts(&mut browser, "http://app.test/none/1", b"a", &[OWN]);
    assert!(page.reply.text().contains("was not kept"), "{}", page.reply.text());
    // Four of one session, and the fifth is told before anything is asked.
    for n in 3..=5 {
        let page = posts(&mut browser, "http://app.test/save/1", b"a", &[OWN]);
        assert_eq!(page.reply.text().contains("Your form was kept."), n <= 4, "{n}: {}", page.reply.text());
    }
    assert!(world.backend.received().is_empty());
}

#[test]
fn s_keep_3_a_form_ends_with_a_sign_out_and_with_its_time() {
    let (world, ann, mut browser) = stale();
    let page = posts(&mut browser, "http://app.test/save/7", BODY, &[OWN]);
    let waiting = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    let mut later = browser.clone();
    let sign_out = browser.open("http://login.test/.stepgate/logout");
    browser.submit(&sign_out, &[]);
    let page = sends(&mut later, &waiting);
    assert_eq!(page.reply.status, 410, "{}", page.reply.text());

    let mut browser = world.browser();
    world.sign_in(&mut browser, &ann, "http://app.test/");
    world.wait_clock(Duration::from_secs(11 * 60));
    let page = posts(&mut browser, "http://app.test/save/7", BODY, &[OWN]);
    world.wait_clock(Duration::from_secs(4 * 60));
    // More time, by her press; without it five minutes would be over.
    let (url, body) = browser.fill(&page, &[("give_up", "")]);
    let renewed = browser.post(&url, &body.replace("give_up=", ""));
    assert_eq!(renewed.status, 303, "{}", renewed.text());
    let page = browser.open(&format!("http://login.test{}", renewed.location()));
    world.wait_clock(Duration::from_secs(4 * 60));
    let page = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    let waiting = page.clone();
    assert!(page.url.contains("/.stepgate/form?id="), "{}", page.url);
    world.wait_clock(Duration::from_secs(60));
    let late = sends(&mut browser, &waiting);
    assert_eq!(late.reply.status, 410);
    assert!(late.reply.text().contains("It was kept until"), "{}", late.reply.text());
    assert!(world.backend.received().iter().all(|r| r.line.starts_with("GET ")), "nothing was sent");
}

#[test]
fn a_form_is_given_up_by_its_persons_press() {
    let (world, ann, mut browser) = stale();
    let page = posts(&mut browser, "http://app.test/save/7", BODY, &[OWN, ("referer", "http://app.test/edit")]);
    let (url, body) = browser.fill(&page, &[("give_up", "1")]);
    let back = browser.post(&url, &body);
    assert_eq!((back.status, back.location()), (303, "http://app.test/edit"));
    let page = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    assert_eq!(page.reply.status, 410, "{}", page.reply.text());
    assert!(world.backend.received().is_empty());
}

#[test]
fn s_keep_2_a_kept_form_is_judged_again_by_the_policy_of_today() {
    let (world, ann, mut browser) = stale();
    let page = posts(&mut browser, "http://app.test/save/7", BODY, &[OWN]);
    let page = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    let text = std::fs::read_to_string(world.app_file()).unwrap();
    let closed =
        text.replace("match: { path: /save/** }, require: fresh", "match: { path: /save/** }, deny: \"Closed.\"");
    std::fs::write(world.app_file(), closed).unwrap();
    world.gate().reload().unwrap();
    let refused = sends(&mut browser, &page);
    assert_eq!(refused.reply.status, 403, "{}", refused.reply.text());
    assert!(world.backend.received().is_empty());
    // What no app has seen is not gone: once she may, a reload sends it.
    std::fs::write(world.app_file(), text).unwrap();
    world.gate().reload().unwrap();
    assert_eq!(sends(&mut browser, &page).reply.text(), "ok");
    assert_eq!(world.backend.received_one().body, BODY);
}

#[test]
fn a_form_that_is_challenged_again_is_kept_again() {
    let (world, ann, mut browser) = stale();
    let page = posts(&mut browser, "http://app.test/save/7", BODY, &[OWN]);
    let page = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    // More time, so that her code is stale before the form is sent.
    let id = page.url.split("id=").nth(1).unwrap().parse().unwrap();
    let (kept, now) = (std::sync::Arc::clone(&world.gate().core().proxy.kept), world.now());
    assert!(world.on_background(async move { kept.renew(id, now).await }).unwrap());
    for _ in 0..3 {
        world.wait_clock(Duration::from_secs(4 * 60));
        let (kept, now) = (std::sync::Arc::clone(&world.gate().core().proxy.kept), world.now());
        assert!(world.on_background(async move { kept.renew(id, now).await }).unwrap());
        assert_eq!(browser.get("http://app.test/").status, 200, "she is there");
    }
    world.backend.received();
    let page = sends(&mut browser, &page);
    assert!(page.url.contains("/.stepgate/step-up"), "{}", page.url);
    assert!(page.reply.text().contains("Your form was kept."), "{}", page.reply.text());
    let page = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    assert_eq!(sends(&mut browser, &page).reply.text(), "ok");
    assert_eq!(world.backend.received_one().body, BODY);
}

#[test]
fn a_form_for_an_app_that_is_down_is_not_lost() {
    let (world, ann, mut browser) = stale();
    let page = posts(&mut browser, "http://app.test/save/7", BODY, &[OWN]);
    let page = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    let text = std::fs::read_to_string(world.app_file()).unwrap();
    let nowhere = text.replace(&world.backend.addr.to_string(), "127.0.0.1:9");
    std::fs::write(world.app_file(), nowhere).unwrap();
    world.gate().reload().unwrap();
    assert_eq!(sends(&mut browser, &page).reply.status, 502);
    std::fs::write(world.app_file(), text).unwrap();
    world.gate().reload().unwrap();
    assert_eq!(sends(&mut browser, &page).reply.text(), "ok", "reloading the page sends it");
    assert_eq!(world.backend.received_one().body, BODY);
}

#[test]
fn s_keep_2_a_ticket_is_worth_nothing_in_another_browser_or_for_another_address() {
    let (world, ann, mut browser) = stale();
    let page = posts(&mut browser, "http://app.test/save/7", BODY, &[OWN]);
    let page = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    let body = format!("stepgate-form={}", ticket(&page));
    // Her session without the cookie of the form, and with another one: an ordinary form to the app.
    for other in [None, Some("A".repeat(43))] {
        let mut stolen = browser.clone();
        stolen.cookies.retain(|(_, name, _)| !name.starts_with("__Host-Http-stepgate-form"));
        stolen
            .cookies
            .extend(other.map(|value| ("app.test".to_owned(), "__Host-Http-stepgate-form".to_owned(), value)));
        assert_eq!(stolen.post("http://app.test/save/7", &body).status, 200);
        assert_eq!(world.backend.received_one().body, body.as_bytes());
        assert_eq!(stolen.open(&page.url).reply.status, 410);
    }
    assert_eq!(browser.post("http://app.test/save/8", &body).status, 410, "another address");
    assert!(world.backend.received().is_empty());
    assert_eq!(sends(&mut browser, &page).reply.text(), "ok", "none of it used the form up");
}

#[test]
fn what_a_script_sends_is_its_own_to_send_again() {
    let (world, _, browser) = stale();
    let mut script = browser;
    script.headers = vec![("accept".into(), "application/json".into())];
    let reply = script.request("POST", "http://app.test/save/7", &[OWN, ("content-type", UPLOAD)], Some(BODY));
    assert_eq!(reply.status, 401, "{}", reply.text());
    assert!(!script.cookies.iter().any(|(_, name, _)| name.starts_with("__Host-Http-stepgate-form")));
    assert!(world.backend.received().is_empty());
}

#[test]
fn s_log_1_a_kept_form_stands_in_no_log_and_in_no_trail_and_sealed_in_the_store() {
    let (world, ann, mut browser) = stale();
    let secret = b"note=the+sentinel+that+nobody+may+see";
    let page = posts(&mut browser, "http://app.test/save/7?token=sentinel-in-the-query", secret, &[OWN]);
    let store = world.gate().core().store.clone();
    let trail = world.on_background(async move { store.audit_tail(&AuditFilter::default(), 1000).await }).unwrap();
    assert!(!format!("{trail:?}").contains("sentinel"));
    let state = world.app_file().parent().unwrap().parent().unwrap().join("state");
    // Beside the files stands the socket of the commands.
    let entries = std::fs::read_dir(state).unwrap().flatten();
    for file in entries.filter(|entry| entry.file_type().unwrap().is_file()) {
        let bytes = std::fs::read(file.path()).unwrap();
        assert!(!bytes.windows(8).any(|w| w == b"sentinel"), "{:?}", file.path());
    }
    let page = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    assert_eq!(sends(&mut browser, &page).reply.text(), "ok");
    assert_eq!(world.backend.received_one().body, secret);
}

#[test]
fn s_keep_3_strangers_take_a_quarter_of_the_room_and_one_of_anybody_a_part_however_slowly_they_send() {
    let (world, _, _) = stale();
    let kept = &world.gate().core().proxy.kept;
    let address = |last: u8| std::net::IpAddr::from([192, 0, 2, last]);
    let fill = |taker| {
        let mut room = kept.room(taker, KEEP_BODY);
        let mut held = 0;
        while room.grow_to((held + 1) << 20) {
            held += 1;
        }
        (room, held)
    };
    let strangers: Vec<_> = (1..=5).map(|last| fill(Taker::Stranger(address(last)))).collect();
    assert_eq!(strangers.iter().map(|(_, held)| *held).collect::<Vec<_>>(), [4, 4, 4, 4, 0]);
    let returning: Vec<_> = (1..=13).map(|last| fill(Taker::Returning(address(last)))).collect();
    assert_eq!(returning.iter().map(|(_, held)| held).sum::<usize>(), 48);
    drop(returning);
    let large = 16 << 20;
    assert!(!kept.room(Taker::Stranger(address(9)), large).grow_to(1));
    assert!(kept.room(Taker::Returning(address(9)), large).grow_to(large), "a rule may keep larger ones");
    drop(strangers);
    assert!(kept.room(Taker::Stranger(address(9)), KEEP_BODY).grow_to(1));
}

#[test]
fn s_keep_3_who_announces_forms_and_does_not_send_them_costs_nobody_a_form() {
    let (world, _, _) = stale();
    // What strangers may have together, were it taken when it is announced; of each one byte has come.
    let announced: Vec<TcpStream> = (0..64)
        .map(|_| {
            let mut slow = TcpStream::connect(world.addr).unwrap();
            let head = "POST /save/1 HTTP/1.1\r\nHost: app.test\r\nAccept: text/html\r\nSec-Fetch-Mode: navigate\r\n\
                        Sec-Fetch-Dest: document\r\nSec-Fetch-Site: same-origin\r\nContent-Type: text/plain\r\n\
                        Expect: 100-continue\r\nContent-Length: 262144\r\n\r\n";
            slow.write_all(head.as_bytes()).unwrap();
            let mut asked = [0; 25];
            slow.read_exact(&mut asked).unwrap();
            assert!(asked.starts_with(b"HTTP/1.1 100 "), "it is being read: {asked:?}");
            slow.write_all(b"x").unwrap();
            slow
        })
        .collect();
    let page = posts(&mut world.browser(), "http://app.test/save/7", BODY, &[OWN]);
    assert!(page.reply.text().contains("Your form was kept."), "{}", page.reply.text());
    drop(announced);
}

#[test]
fn a_form_that_the_app_sends_on_by_307_follows_its_ticket() {
    let (world, ann, mut browser) = stale();
    let page = posts(&mut browser, "http://app.test/save/7?x=1", BODY, &[OWN]);
    let page = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    world.backend.answers_with("HTTP/1.1 307 T\r\nLocation: /save/7/?x=1\r\nContent-Length: 0\r\n\r\n");
    let body = format!("stepgate-form={}", ticket(&page));
    // A browser repeats what it sent.
    let on = browser.post("http://app.test/save/7?x=1", &body);
    assert_eq!((on.status, on.location()), (307, "/save/7/?x=1"));
    assert_eq!(world.backend.received_one().body, BODY);
    world.backend.answers_with("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(browser.post("http://app.test/save/7/?x=1", &body).text(), "ok");
    let got = world.backend.received_one();
    assert_eq!((got.line.as_str(), got.body.as_slice()), ("POST /save/7/?x=1 HTTP/1.1", BODY));
    assert_eq!(browser.post("http://app.test/save/7/?x=1", &body).status, 410);
}

#[test]
fn s_cook_2_a_cookie_in_another_charset_hides_none_of_ours() {
    let world = World::new().app(APP).start();
    let ann = world.add_person("ann", &["staff"]);
    let mut browser = world.browser();
    for host in ["app.test", "login.test"] {
        browser.cookies.push((host.into(), "name".into(), "Zo\u{eb}".into()));
    }
    world.sign_in(&mut browser, &ann, "http://app.test/");
    world.wait_clock(Duration::from_secs(11 * 60));
    world.backend.received();
    let page = posts(&mut browser, "http://app.test/save/7", BODY, &[OWN]);
    let page = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    assert_eq!(sends(&mut browser, &page).reply.text(), "ok");
    assert_eq!(world.backend.received_one().body, BODY);
}

#[test]
fn s_keep_3_a_form_of_a_stranger_is_theirs_who_came_for_it_and_ends_with_their_sign_out() {
    let world = World::new().app(APP).start();
    let (cy, dee) = (world.add_person("cy", &["staff"]), world.add_person("dee", &["staff"]));
    let mut browser = world.browser();
    let page = posts(&mut browser, "http://app.test/save/7", BODY, &[OWN]);
    let page = browser.submit(&page, &[("username", &cy.name), ("password", &cy.password)]);
    let waiting = browser.submit(&page, &[("code", &world.next_code(&cy))]);
    assert!(waiting.url.contains("/.stepgate/form?id="), "{}", waiting.url);
    let sign_out = browser.open("http://login.test/.stepgate/logout");
    browser.submit(&sign_out, &[]);
    world.sign_in(&mut browser, &dee, "http://app.test/");
    world.backend.received();
    assert_eq!(sends(&mut browser, &waiting).reply.status, 410);
    assert_eq!(browser.open(&waiting.url).reply.status, 410);
    assert!(world.backend.received().is_empty());
}

#[test]
fn a_target_that_begins_with_two_slashes_is_a_path_of_this_host() {
    let world = World::new().app(&format!("{APP}paths: {{ allow: [double_slash] }}\n")).start();
    let ann = world.add_person("ann", &["staff"]);
    let mut browser = world.browser();
    world.sign_in(&mut browser, &ann, "http://app.test/");
    world.wait_clock(Duration::from_secs(11 * 60));
    world.backend.received();
    let page = posts(&mut browser, "http://app.test//save/7", BODY, &[OWN]);
    let page = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    assert!(page.reply.text().contains("action=\"http://app.test//save/7\""), "{}", page.reply.text());
    assert_eq!(sends(&mut browser, &page).reply.text(), "ok");
    assert_eq!(world.backend.received_one().line, "POST //save/7 HTTP/1.1");
}

#[test]
fn a_form_whose_browser_leaves_before_the_app_could_be_reached_waits_on() {
    let (world, ann, mut browser) = stale();
    let page = posts(&mut browser, "http://app.test/save/7", BODY, &[OWN]);
    let page = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    // The app is a port that never says a word of TLS.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = std::fs::read_to_string(world.app_file()).unwrap();
    let app = format!("http://{}", world.backend.addr);
    let tls = text.replace(&app, &format!("https://{}", silent.local_addr().unwrap()));
    std::fs::write(world.app_file(), tls).unwrap();
    world.gate().reload().unwrap();
    let (url, body) = browser.fill(&page, &[("stepgate-form", &ticket(&page))]);
    let cookies: Vec<String> =
        browser.cookies.iter().filter(|c| c.0 == "app.test").map(|(_, n, v)| format!("{n}={v}")).collect();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: app.test\r\naccept: text/html\r\norigin: null\r\nsec-fetch-site: same-origin\r\ncookie: {}\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        url.strip_prefix("http://app.test").unwrap(),
        cookies.join("; "),
        body.len()
    );
    let leaving = crate::harness::send(world.addr, head.as_bytes());
    let _asked = silent.accept().unwrap();
    drop(leaving);
    std::fs::write(world.app_file(), text).unwrap();
    world.gate().reload().unwrap();
    // It is put back in the gate's own time.
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    let sent = loop {
        let sent = browser.post(&url, &body);
        if sent.status != 410 {
            break sent;
        }
        assert!(std::time::Instant::now() < deadline, "never put back");
        std::thread::yield_now();
    };
    assert_eq!(sent.text(), "ok");
    assert_eq!(world.backend.received_one().body, BODY);
}

#[test]
fn of_two_tabs_that_post_their_first_form_at_once_both_arrive() {
    let world = World::new().app(APP).start();
    let ann = world.add_person("ann", &["staff"]);
    let mut browser = world.browser();
    // Neither request has what the other's answer gives the browser.
    let tabs = [("/save/1", &b"one"[..]), ("/save/2", b"two")].map(|(path, body)| {
        let mut tab = world.browser();
        let page = posts(&mut tab, &format!("http://app.test{path}"), body, &[OWN]);
        assert!(page.reply.text().contains("Your form was kept."), "{}", page.reply.text());
        browser.cookies.retain(|(host, name, _)| !tab.cookies.iter().any(|(h, n, _)| h == host && n == name));
        browser.cookies.extend(tab.cookies);
        page
    });
    let [one, two] = tabs;
    // The portal's own cookie of the second tab took the first one's place; she reloads the first.
    let page = browser.open(&one.url);
    let page = browser.submit(&page, &[("username", &ann.name), ("password", &ann.password)]);
    let page = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    assert_eq!(sends(&mut browser, &page).reply.text(), "ok");
    let page = browser.open(&two.url);
    assert_eq!(sends(&mut browser, &page).reply.text(), "ok");
    let got: Vec<_> = world.backend.received().into_iter().map(|r| (r.line, r.body)).collect();
    let line = |n: u8| format!("POST /save/{n} HTTP/1.1");
    assert_eq!(got, [(line(1), b"one".to_vec()), (line(2), b"two".to_vec())]);
}

#[test]
fn s_keep_2_a_form_is_for_the_app_that_it_was_posted_to_and_not_for_the_next_one_on_its_host() {
    let (world, ann, mut browser) = stale();
    let page = posts(&mut browser, "http://app.test/save/7", BODY, &[OWN]);
    let waiting = browser.submit(&page, &[("code", &world.next_code(&ann))]);
    let text = std::fs::read_to_string(world.app_file()).unwrap();
    // No reload takes every app away.
    let other = text.replace("app: wiki", "app: other").replace("app.test", "other.test");
    std::fs::write(world.app_file().with_file_name("other.yaml"), other).unwrap();
    world.gate().reload().unwrap();
    std::fs::write(world.app_file(), text.replace("app: wiki", "app: shop")).unwrap();
    world.gate().reload().unwrap();
    assert_eq!(sends(&mut browser, &waiting).reply.status, 410);
    assert_eq!(browser.open(&waiting.url).reply.status, 410);
    assert!(world.backend.received().is_empty());
}

#[test]
fn a_form_waits_through_an_enrollment_and_for_a_backup_code() {
    let world = World::new().app(APP).start();
    let mut ann = world.add_user("ann", &["staff"]);
    let mut browser = world.browser();
    let page = posts(&mut browser, "http://app.test/save/1", BODY, &[OWN]);
    let page = browser.submit(&page, &[("username", &ann.name), ("password", &ann.password)]);
    assert!(page.url.contains("/.stepgate/enroll/totp"), "{}", page.url);
    let html = page.reply.text();
    ann.seed = Some(html.split("secret=").nth(1).unwrap().split(['&', '"']).next().unwrap().to_owned());
    let page = browser.submit(&page, &[("code", &world.code(&ann)), ("name", "Ann's phone")]);
    let html = page.reply.text();
    let list = html.split("id=\"codes\"").nth(1).unwrap_or_else(|| panic!("{html}"));
    let code = list.split("<li>").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let page = browser.submit(&page, &[("saved", "1")]);
    assert_eq!(sends(&mut browser, &page).reply.text(), "ok");
    assert_eq!(world.backend.received_one().body, BODY, "after the enrollment");

    world.wait_clock(Duration::from_secs(11 * 60));
    let page = posts(&mut browser, "http://app.test/save/2", b"again", &[OWN]);
    assert!(page.reply.text().contains("Your form was kept."), "{}", page.reply.text());
    let other = page.url.replacen("/step-up/totp", "/step-up", 1).replacen("/step-up", "/step-up/backup-codes", 1);
    let page = browser.open(&other);
    assert!(page.reply.text().contains("Your form was kept."), "{}: {}", page.url, page.reply.text());
    let page = browser.submit(&page, &[("code", &code)]);
    assert_eq!(sends(&mut browser, &page).reply.text(), "ok");
    assert_eq!(world.backend.received_one().body, b"again", "after a backup code");
}
