//! Confirming by a code in a text message: one HTTP call to the operator's gateway, one number a person, few messages
//! (S-OOB-1 to 3, S-UP-3).

use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use stepgate::auth::factors::sms::Phone;
use stepgate::base::ids::CredentialId;
use stepgate::domain::phone::PhoneNumber;
use stepgate::store::{AuditFilter, Channel};

use crate::harness::gateway::{Asked, Gateway};
use crate::harness::smtp::SmtpCatcher;
use crate::harness::{Browser, Page, Person, World};

const WIKI: &str = "http://app.test/";
const ENROLL: &str = "http://login.test/.stepgate/enroll/sms";
const ANNS: &str = "+4915123456789";
const MFA: &str = "require: mfa";

fn world(gateway: &Gateway, app: &str) -> World {
    World::new().main(&gateway.yaml("")).app(app).start()
}

/// An account whose number an operator has set.
fn with_number(world: &World, name: &str, number: &str) -> (Person, CredentialId) {
    let person = world.add_user(name, &[]);
    let core = world.gate().core();
    let (user, operator, number) = (world.user(name), world.operator(), PhoneNumber::parse(number).unwrap());
    let id = world.on_background(core.auth.operator_adds_number(&operator, &user, &number)).unwrap();
    (person, id)
}

fn with_password(browser: &mut Browser, person: &Person) -> Page {
    let page = browser.open(WIKI);
    browser.submit(&page, &[("username", &person.name), ("password", &person.password)])
}

/// Presses "Send the code" and waits for the message.
fn send(gateway: &Gateway, browser: &mut Browser, page: &Page) -> (Page, Asked) {
    let page = browser.submit(page, &[("send", "1")]);
    assert_eq!(page.reply.status, 200, "{}", page.reply.text());
    (page, gateway.next())
}

fn is_in(page: &Page) -> bool {
    (page.url.as_str(), page.reply.status) == (WIKI, 200)
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

/// Waits until so many tries have failed, and all is written that follows from it.
fn has_failed(world: &World, times: u64) {
    let failed = &world.gate().core().metrics.sms_failed;
    while failed.load(Ordering::Relaxed) < times {
        std::thread::yield_now();
    }
}

fn waiting(world: &World) -> i64 {
    let (store, now) = (world.gate().core().store.clone(), world.now());
    world.on_background(async move { store.waiting_mails(Channel::Sms, now).await }).unwrap().mails
}

#[test]
fn s_oob_2_ann_signs_in_with_a_code_that_names_the_site_and_its_purpose_and_works_once() {
    let gateway = Gateway::start();
    let world = world(&gateway, MFA);
    let (ann, _) = with_number(&world, "ann", ANNS);
    let mut browser = world.browser();
    let page = with_password(&mut browser, &ann);
    assert!(page.url.contains("/.stepgate/login/sms?flow="), "{}", page.url);
    let html = page.reply.text();
    assert!(html.contains("+49…89") && !html.contains("15123456789"), "{html}");
    // Opening the page sends nothing, however often.
    for _ in 0..3 {
        browser.open(&page.url);
    }
    assert!(gateway.so_far().is_empty());
    let (page, asked) = send(&gateway, &mut browser, &page);
    browser.open(&page.url);
    assert_eq!(asked.line, "POST /send HTTP/1.1");
    assert_eq!(asked.header("host"), gateway.addr.to_string());
    assert!(!asked.has("authorization") && !asked.has("stepgate-signature"));
    let (code, text) = (asked.code(), asked.field("Body"));
    assert_eq!(
        text,
        format!("Example Corp: {code} is your code to sign in. It works until 12:05 UTC. Never tell it to anybody.")
    );
    assert!(!text.contains("http") && !text.contains("://") && !text.contains("login.test"), "no link: {text}");
    assert_eq!((asked.field("To").as_str(), asked.field("From").as_str()), (ANNS, "+15005550006"));

    // In another ceremony of the same person the code is nothing.
    let mut other = world.browser();
    let elsewhere = with_password(&mut other, &ann);
    let body = other.fill(&elsewhere, &[("send", "1")]).1.replace("send=1", &format!("code={code}"));
    assert_ne!(other.post(elsewhere.url.split('?').next().unwrap(), &body).status, 303);

    let (url, body) = browser.fill(&page, &[("code", &code)]);
    assert_eq!(browser.post(&url, &body).status, 303);
    assert!(is_in(&browser.open(WIKI)));
    assert_ne!(browser.post(&url, &body).status, 303, "a second time it is nothing");
    assert!(gateway.so_far().is_empty(), "one press, one message");
    let trail = trail(&world);
    assert!(trail.contains("A one-time code was sent by text message to +49…89."), "{trail}");
    assert!(!trail.contains(&code) && !trail.contains("15123456789"), "neither code nor number stand in the trail");
}

#[test]
fn s_oob_2_only_the_newest_code_works_for_three_tries_and_five_minutes() {
    let gateway = Gateway::start();
    let world = world(&gateway, MFA);
    let (ann, _) = with_number(&world, "ann", ANNS);
    let mut browser = world.browser();
    let page = with_password(&mut browser, &ann);
    let (page, old) = send(&gateway, &mut browser, &page);
    world.wait_clock(Duration::from_secs(31));
    let (page, new) = send(&gateway, &mut browser, &page);
    let (old, new) = (old.code(), new.code());
    let first = if old == new { wrong(&new) } else { old };
    assert_eq!(browser.submit(&page, &[("code", &first)]).reply.status, 422);
    assert_eq!(browser.submit(&page, &[("code", &wrong(&new))]).reply.status, 422);
    let refused = browser.submit(&page, &[("code", &wrong(&new))]);
    assert!(refused.reply.text().contains("This code no longer works"), "{}", refused.reply.text());
    let (url, body) = browser.fill(&page, &[("code", &new)]);
    assert_ne!(browser.post(&url, &body).status, 303, "the right one comes too late");
    world.wait_clock(Duration::from_secs(16 * 60));
    let page = with_password(&mut browser, &ann);
    let (page, asked) = send(&gateway, &mut browser, &page);
    world.wait_clock(Duration::from_secs(300));
    let (url, body) = browser.fill(&page, &[("code", &asked.code())]);
    assert_ne!(browser.post(&url, &body).status, 303, "five minutes old");
}

#[test]
fn s_oob_1_a_text_message_is_something_one_has_and_never_phishing_resistant() {
    let gateway = Gateway::start();
    let app = "require: mfa\nrules: [{ name: vault, match: { path: /vault }, require: strong }]";
    let world = world(&gateway, app);
    let (ann, _) = with_number(&world, "ann", ANNS);
    let mut browser = world.browser();
    let page = with_password(&mut browser, &ann);
    let (page, asked) = send(&gateway, &mut browser, &page);
    assert!(is_in(&browser.submit(&page, &[("code", &asked.code())])));
    let text = browser.open("http://app.test/vault").reply.text();
    assert!(text.contains("Code by text message") && text.contains("a copied page could ask for it"), "{text}");
    let rows = trail(&world);
    assert!(rows.contains("\"factor\":\"sms\""), "{rows}");
}

#[test]
fn s_oob_3_messages_are_half_a_minute_apart_five_an_hour_for_a_person_and_for_a_number() {
    let gateway = Gateway::start();
    let world = world(&gateway, MFA);
    let (ann, _) = with_number(&world, "ann", ANNS);
    let (bob, _) = with_number(&world, "bob", ANNS);
    let mut browser = world.browser();
    let mut page = with_password(&mut browser, &ann);
    for _ in 0..3 {
        page = send(&gateway, &mut browser, &page).0;
        let refused = browser.submit(&page, &[("send", "1")]);
        assert_eq!(refused.reply.status, 429, "{}", refused.reply.text());
        world.wait_clock(Duration::from_secs(31));
    }
    // Bob has the same number, and what is left of its budget.
    let mut others = world.browser();
    let mut theirs = with_password(&mut others, &bob);
    for _ in 0..2 {
        theirs = send(&gateway, &mut others, &theirs).0;
        world.wait_clock(Duration::from_secs(31));
    }
    assert_eq!(others.submit(&theirs, &[("send", "1")]).reply.status, 429, "the sixth to one number");
    assert_eq!(browser.submit(&page, &[("send", "1")]).reply.status, 429, "whoever asks");
    assert!(gateway.so_far().is_empty());
    assert!(trail(&world).contains("Too many tries"));
}

#[test]
fn s_oob_3_all_messages_together_are_bounded_by_the_hour() {
    let gateway = Gateway::start();
    let world = World::new().main(&gateway.yaml(", per_hour: 2")).app(MFA).start();
    let mut pages = Vec::new();
    for (name, number) in [("ann", ANNS), ("bob", "+33612345678"), ("cid", "+4915123456780")] {
        let (person, _) = with_number(&world, name, number);
        let mut browser = world.browser();
        let page = with_password(&mut browser, &person);
        pages.push((browser, page));
    }
    for (browser, page) in pages.iter_mut().take(2) {
        send(&gateway, browser, page);
    }
    let (browser, page) = &mut pages[2];
    assert_eq!(browser.submit(page, &[("send", "1")]).reply.status, 429);
    world.wait_clock(Duration::from_secs(3601));
    let cid = Person { name: "cid".into(), password: "cid walks slowly home".into(), seed: None };
    let page = with_password(browser, &cid);
    send(&gateway, browser, &page);
}

#[test]
fn s_oob_3_no_message_goes_to_a_country_that_the_file_does_not_name() {
    let gateway = Gateway::start();
    let world = world(&gateway, MFA);
    // Set up before the list became shorter, or by a hand in the database: it is looked at when a code is to be sent.
    let (ann, _) = with_number(&world, "ann", "+882133009000");
    let mut browser = world.browser();
    let page = with_password(&mut browser, &ann);
    assert!(!page.reply.text().contains("Send the code"), "{}", page.reply.text());
    let person = world.add_person("bob", &[]);
    let mut browser = world.browser();
    world.sign_in(&mut browser, &person, "http://login.test/.stepgate/account");
    let page = browser.open(ENROLL);
    for (number, why) in [
        ("+882 1330 09000", "No messages go to this country"),
        ("0151 23456789", "The country code is missing"),
        ("+49 151", "This is no phone number"),
        ("+4915123456789,+88213300900", "This is no phone number"),
    ] {
        let refused = browser.submit(&page, &[("number", number)]);
        assert_eq!(refused.reply.status, 422, "{number}");
        assert!(refused.reply.text().contains(why), "{number}: {}", refused.reply.text());
    }
    assert!(gateway.so_far().is_empty() && waiting(&world) == 0);
}

#[test]
fn s_enr_2_bob_sets_his_number_by_a_code_that_proves_it_and_the_old_one_is_told() {
    let (gateway, relay) = (Gateway::start(), SmtpCatcher::plain());
    let main = format!("{}\n{}", gateway.yaml(""), relay.yaml());
    let world = World::new().main(&main).app(MFA).start();
    let bob = world.add_person("bob", &[]);
    let mut browser = world.browser();
    let page = world.sign_in(&mut browser, &bob, "http://login.test/.stepgate/account");
    assert!(page.reply.text().contains("Set the number for text messages"), "{}", page.reply.text());
    let page = browser.open(ENROLL);
    let page = browser.submit(&page, &[("number", "+49 (151) 2345-6789")]);
    let asked = gateway.next();
    assert_eq!(asked.field("To"), ANNS);
    let code = asked.code();
    assert!(asked.field("Body").contains("is your code to set this number for your account"), "{}", asked.body);
    // It proves a number, and signs nobody in.
    let mut thief = world.browser();
    let theirs = with_password(&mut thief, &bob);
    let flow = theirs.url.split_once("flow=").unwrap().1.to_owned();
    let body = thief.fill(&theirs, &[("code", &code)]).1;
    let reply = thief.post(&format!("http://login.test/.stepgate/login/sms?flow={flow}"), &body);
    assert!(reply.location().contains("/.stepgate/login/choose"), "{}", reply.location());
    assert!(!is_in(&thief.open(WIKI)));

    let refused = browser.submit(&page, &[("code", &wrong(&code))]);
    assert_eq!(refused.reply.status, 422);
    let done = browser.submit(&refused, &[("code", &code)]);
    assert!(done.reply.text().contains("Save your backup codes"), "{}", done.reply.text());
    let account = browser.submit(&done, &[("saved", "1")]);
    assert!(
        account.reply.text().contains("+49…89") && !account.reply.text().contains("2345"),
        "{}",
        account.reply.text()
    );

    // Another number takes its place: the old one is told, and nothing goes there any more.
    world.wait_clock(Duration::from_secs(31));
    let page = browser.open(ENROLL);
    let page = browser.submit(&page, &[("number", "+33612345678")]);
    let asked = gateway.next();
    assert_eq!(asked.field("To"), "+33612345678");
    let account = browser.submit(&page, &[("code", &asked.code())]);
    let html = account.reply.text();
    assert!(html.contains("+33…78") && !html.contains("+49…89"), "{html}");
    let told = gateway.next();
    assert_eq!(told.field("To"), ANNS);
    assert!(told.field("Body").contains("your codes no longer go to this number"), "{}", told.body);
    let mut told = [false, false];
    while told != [true, true] {
        let subject = relay.next().header("Subject");
        told[0] |= subject.contains("a way to sign in was added");
        told[1] |= subject.contains("a way to sign in was removed");
    }
    let trail = trail(&world);
    assert!(trail.contains("Another number took the place of this one.") && !trail.contains("15123456789"), "{trail}");
}

#[test]
fn s_oob_2_a_code_to_a_number_that_is_another_one_by_then_is_nothing() {
    let gateway = Gateway::start();
    let world = world(&gateway, MFA);
    let (ann, _) = with_number(&world, "ann", ANNS);
    let mut browser = world.browser();
    let page = with_password(&mut browser, &ann);
    let (page, asked) = send(&gateway, &mut browser, &page);
    let (url, body) = browser.fill(&page, &[("code", &asked.code())]);
    let core = world.gate().core();
    let (user, operator, number) = (world.user("ann"), world.operator(), PhoneNumber::parse("+33612345678").unwrap());
    world.on_background(core.auth.operator_adds_number(&operator, &user, &number)).unwrap();
    assert_ne!(browser.post(&url, &body).status, 303);
}

#[test]
fn s_up_3_what_the_gateway_does_not_take_is_tried_again_and_given_up_when_its_code_is_dead() {
    let gateway = Gateway::start();
    let world = world(&gateway, MFA);
    let (ann, _) = with_number(&world, "ann", ANNS);
    let mut browser = world.browser();
    let page = with_password(&mut browser, &ann);
    gateway.answers("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
    let (page, first) = send(&gateway, &mut browser, &page);
    has_failed(&world, 1);
    world.wait_clock(Duration::from_secs(11));
    let again = gateway.next();
    assert_eq!(
        (again.body.as_str(), again.field("Id")),
        (first.body.as_str(), first.field("Id")),
        "the same, by its id"
    );
    has_failed(&world, 2);
    gateway.answers("HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n");
    world.wait_clock(Duration::from_secs(21));
    assert_eq!(gateway.next().field("Id"), first.field("Id"));
    assert!(is_in(&browser.submit(&page, &[("code", &first.code())])));

    // One that is never taken goes no more once its code is dead.
    gateway.answers("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
    let mut other = world.browser();
    let page = with_password(&mut other, &ann);
    send(&gateway, &mut other, &page);
    has_failed(&world, 3);
    world.wait_clock(Duration::from_secs(301));
    while waiting(&world) > 0 {
        std::thread::yield_now();
    }
    assert!(gateway.so_far().is_empty());
    assert!(trail(&world).contains("A text message was given up: the gateway did not take it in time."));
}

#[test]
fn s_up_3_a_redirect_is_not_followed_and_a_refusal_is_not_tried_again() {
    let (gateway, elsewhere) = (Gateway::start(), Gateway::start());
    let world = world(&gateway, MFA);
    let (ann, _) = with_number(&world, "ann", ANNS);
    let mut browser = world.browser();
    let page = with_password(&mut browser, &ann);
    let away = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{}/send\r\ncontent-length: 0\r\n\r\n",
        elsewhere.addr
    );
    gateway.answers(&away);
    send(&gateway, &mut browser, &page);
    has_failed(&world, 1);
    world.wait_clock(Duration::from_secs(31));
    gateway.answers("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    gateway.next();
    assert!(elsewhere.so_far().is_empty(), "the operator named one address");
    // Refused for good: it waits no more, and the trail has it.
    has_failed(&world, 2);
    assert!(trail(&world).contains("A text message was given up: the gateway refused it."));
    assert_eq!(waiting(&world), 0);
}

#[test]
fn the_example_for_twilio_sends_each_field_as_its_api_has_it() {
    let gateway = Gateway::start();
    let (dir, said) = by_example("sms-twilio.yaml", &gateway, &[("/run/secrets/twilio", "auth-token-of-twilio")]);
    let asked = gateway.next();
    assert!(said.contains("took it, in clear: 201 Created"), "{said}");
    assert_eq!(asked.line, "POST /2010-04-01/Accounts/ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/Messages.json HTTP/1.1");
    let login = data_encoding::BASE64.encode(b"ACaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:auth-token-of-twilio");
    assert_eq!(asked.header("authorization"), format!("Basic {login}"));
    let names: Vec<String> = asked.fields().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["To", "From", "Body"], "these three and no others");
    assert_eq!((asked.field("To").as_str(), asked.field("From").as_str()), (ANNS, "+15005550006"));
    assert_eq!(asked.field("Body"), "Example Corp: a test from the command line. There is nothing to do.");
    assert!(!said.contains("auth-token-of-twilio"));
    // Twilio says 201; what says anything else has not taken it.
    gateway.answers("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let out = run(&dir, &["sms", "test", ANNS]);
    assert!(!out.status.success() && told(&out).contains("it did not take the message (200 OK)"), "{}", told(&out));
}

#[test]
fn the_example_for_a_webhook_of_ones_own_signs_time_and_body() {
    let gateway = Gateway::start();
    gateway.answers("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n");
    let (_dir, said) =
        by_example("sms-webhook.yaml", &gateway, &[("/run/secrets/sms-signing-key", "signing key of ours")]);
    let asked = gateway.next();
    assert!(said.contains("took it"), "{said}");
    assert_eq!(asked.line, "POST /send HTTP/1.1");
    assert_eq!(asked.header("content-type"), "application/json");
    let document: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
    let text = "Example Corp: a test from the command line. There is nothing to do.";
    let id = document["id"].as_str().unwrap();
    assert_eq!(id.len(), 36);
    assert_eq!(
        document,
        serde_json::json!({ "id": id, "recipients": [ANNS], "message": { "text": text, "kind": "one-time code" } })
    );
    let at = asked.header("stepgate-timestamp");
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"signing key of ours");
    let sign = |at: &str, body: &str| {
        format!("v1={}", HEXLOWER.encode(hmac::sign(&key, format!("{at}.{body}").as_bytes()).as_ref()))
    };
    assert_eq!(asked.header("stepgate-signature"), sign(at, &asked.body));
    assert_ne!(asked.header("stepgate-signature"), sign(at, &asked.body.replace("+49", "+33")), "the body is signed");
    assert_ne!(asked.header("stepgate-signature"), sign("1", &asked.body), "and so is the time");
}

#[test]
fn the_gateway_is_spoken_to_over_tls_with_its_certificate_checked() {
    let dir = tempfile::tempdir().unwrap();
    crate::harness::tls::certificate(dir.path(), "sms", &["localhost"]);
    let gateway = Gateway::over(Some(crate::harness::smtp::server_tls(dir.path(), "sms")));
    std::fs::write(dir.path().join("key"), "a key of ours\n").unwrap();
    let write = |more: &str| {
        let text = format!(
            "version: 1\nlisten: [{{ addr: \"127.0.0.1:8080\", role: proxy }}]\nstate: state\n\
             portal: {{ host: \"login.localhost:8080\", title: Example Corp }}\n\
             sms: {{ url: \"https://localhost:{}/\", bearer: {{ file: key }}, form: {{ a: \"{{to}} {{text}}\" }}, allow_prefixes: \"+49\"{more} }}\n",
            gateway.addr.port()
        );
        std::fs::write(dir.path().join("stepgate.yaml"), text).unwrap();
    };
    write("");
    let out = run(&dir, &["sms", "test", ANNS]);
    assert!(!out.status.success() && told(&out).contains("TLS with it failed"), "{}", told(&out));
    assert!(gateway.so_far().is_empty());
    write(", ca: sms.crt");
    let out = run(&dir, &["sms", "test", ANNS]);
    assert!(out.status.success() && told(&out).contains("over TLS: 201 Created"), "{}", told(&out));
    assert_eq!(gateway.next().header("authorization"), "Bearer a key of ours");
    let out = run(&dir, &["sms", "test", "+33612345678"]);
    assert!(!out.status.success() && told(&out).contains("allow_prefixes"), "{}", told(&out));
    assert!(gateway.so_far().is_empty());
}

#[test]
fn a_file_that_would_send_codes_in_clear_or_nowhere_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let check = |keys: &str| {
        let text = format!(
            "version: 1\nlisten: [{{ addr: \"127.0.0.1:8080\", role: proxy }}]\nstate: state\n\
             portal: {{ host: \"login.localhost:8080\", title: Example Corp }}\nsms: {{ {keys} }}\n"
        );
        std::fs::write(dir.path().join("stepgate.yaml"), text).unwrap();
        let out = run(&dir, &["check"]);
        (out.status.success(), told(&out))
    };
    let form = "form: { To: \"{to}\", Body: \"{text}\" }, allow_prefixes: [\"+49\"]";
    for (keys, why) in [
        (format!("url: \"http://sms.corp.example/\", {form}"), "a gateway elsewhere is spoken to by https"),
        (format!("url: \"https://ann:secret@sms.corp.example/\", {form}"), "a login has no place in the address"),
        (format!("url: \"ftp://sms.corp.example/\", {form}"), "https:// or http://"),
        (
            "url: \"https://sms.corp.example/\", form: { To: \"{to}\" }, allow_prefixes: [\"+49\"]".to_owned(),
            "write {text}",
        ),
        (
            "url: \"https://sms.corp.example/\", json: \"{ to\", allow_prefixes: [\"+49\"]".to_owned(),
            "no JSON document",
        ),
        ("url: \"https://sms.corp.example/\", form: { A: \"{to}{text}\" }".to_owned(), "allow_prefixes"),
        (
            "url: \"https://sms.corp.example/\", form: { A: \"{to}{text}\" }, allow_prefixes: [\"49\"]".to_owned(),
            "no beginning of a number",
        ),
        (
            format!("url: \"https://sms.corp.example/\", bearer: very-secret-key, {form}"),
            "a secret stands here in clear",
        ),
    ] {
        let (fine, said) = check(&keys);
        assert!(!fine && said.contains(why), "{keys}: {said}");
        assert!(!said.contains("ann:secret") && !said.contains("very-secret-key"), "{said}");
    }
    let (fine, said) = check(&format!("url: \"http://127.0.0.1:9/\", {form}"));
    assert!(fine, "{said}");
}

/// Runs `sms test` with an example file whose gateway is this one and whose secrets are these.
fn by_example(name: &str, gateway: &Gateway, secrets: &[(&str, &str)]) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples").join(name);
    let mut text = std::fs::read_to_string(path).unwrap();
    for (place, secret) in secrets {
        let file = dir.path().join("secret");
        std::fs::write(&file, format!("{secret}\n")).unwrap();
        text = text.replace(place, &file.display().to_string());
    }
    let url = text.split("url: ").nth(1).unwrap().lines().next().unwrap().to_owned();
    let target = url.splitn(4, '/').nth(3).unwrap();
    let text = text.replace(&url, &format!("http://{}/{target}", gateway.addr)).replace("/etc/stepgate/tls", "tls");
    std::fs::create_dir(dir.path().join("tls")).unwrap();
    crate::harness::tls::certificate(&dir.path().join("tls"), "gate", &["login.corp.example", "wiki.corp.example"]);
    std::fs::write(dir.path().join("stepgate.yaml"), text).unwrap();
    let out = run(&dir, &["sms", "test", ANNS]);
    assert!(out.status.success(), "{}", told(&out));
    (dir, told(&out))
}

fn run(dir: &tempfile::TempDir, words: &[&str]) -> std::process::Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_stepgate"))
        .args(words)
        .current_dir(dir.path())
        .env("STEPGATE_CONFIG", "stepgate.yaml")
        .output()
        .unwrap()
}

fn told(out: &std::process::Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// A number is debugged masked wherever it goes.
#[test]
fn s_log_1_what_holds_a_number_prints_no_more_than_people_see() {
    let gateway = Gateway::start();
    let world = world(&gateway, MFA);
    let (_, credential) = with_number(&world, "ann", ANNS);
    let phone = Phone { credential, number: PhoneNumber::parse(ANNS).unwrap(), last_used_at: None };
    assert!(!format!("{phone:?}").contains("15123456789"));
}
