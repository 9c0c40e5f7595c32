//! Security keys and passkeys: an answer serves once, for one question, one person and one site.

use std::sync::Arc;

use http::{Method, StatusCode};

use super::browser::{Browser, Seen};
use super::soft_key::{SoftKey, question};
use super::{Gate, LOGIN};
use crate::auth::test_world::{PASSWORD, snapshot};
use crate::domain::factor::FactorKind;
use crate::domain::user::User;

const KEY: &str = "/.stepgate/login/webauthn";
const ENROLL: &str = "/.stepgate/enroll/webauthn";
const PASSKEY: &str = "/.stepgate/login/passkey";
const HERE: &str = "login.corp.example";

/// Enrolls `key` as the first way of a new account, within its window; the browser is signed in then.
async fn enrolls<'a>(gate: &'a Gate, name: &str, key: &mut SoftKey) -> (User, Browser<'a>) {
    let user = gate.world.user(name).await;
    let browser = gate.browser();
    let page = browser.gives_password(None, name, PASSWORD).await;
    let page = browser.open(&page.url.replace("/enroll/totp", "/enroll/webauthn")).await;
    let made = key.created(&page.body);
    let seen = browser.submit(&page, ENROLL, &[("answer", &made), ("name", "Blue key")]).await;
    assert!(seen.says("Save your backup codes"), "{} {}", seen.url, seen.body);
    browser.submit(&seen, "/.stepgate/enroll/backup-codes", &[("saved", "1")]).await;
    assert!(browser.has_session(HERE), "the way that she just showed is enough");
    (gate.world.again(&user).await, browser)
}

/// Password, and the page that asks for the key.
async fn asked<'a>(gate: &'a Gate, name: &str, rd: Option<&str>) -> (Browser<'a>, Seen) {
    let browser = gate.browser();
    let page = browser.gives_password(rd, name, PASSWORD).await;
    assert!(page.url.contains(KEY), "{} {}", page.url, page.status);
    (browser, page)
}

#[tokio::test]
async fn a_key_is_enrolled_at_the_first_sign_in_and_opens_what_asks_for_one() {
    let gate = Gate::new().await;
    let mut key = SoftKey::new(1, LOGIN);
    let (user, _) = enrolls(&gate, "ann", &mut key).await;
    let enrolled = gate.world.auth.enrolled(user.id).await.unwrap();
    assert_eq!(
        (enrolled.credentials[0].kind, enrolled.credentials[0].label.as_str()),
        (FactorKind::Webauthn, "Blue key")
    );
    let strong = gate.rd("/", "strong", "nonce");
    let (ann, page) = asked(&gate, "ann", Some(&strong)).await;
    ann.sent_from_payroll("nonce");
    let seen = ann.submit(&page, KEY, &[("answer", &key.answers(&page.body))]).await;
    assert!(ann.has_session(HERE), "{} {}", seen.status, seen.body);
    let row = gate.world.trail().await.into_iter().rfind(|row| row.contains("factor_verify")).unwrap();
    assert!(row.contains("webauthn") && row.contains("success"), "{row}");
    let used = gate.world.auth.store.sessions(gate.world.now()).await.unwrap();
    assert_eq!(used.len(), 2);
}

#[tokio::test]
async fn s_wa_1_an_answer_serves_once_and_in_its_own_sign_in_alone() {
    let gate = Gate::new().await;
    let mut key = SoftKey::new(1, LOGIN);
    enrolls(&gate, "ann", &mut key).await;
    let before = gate.live_sessions().await;
    let (ann, page) = asked(&gate, "ann", None).await;
    let answer = key.answers(&page.body);
    // The answer of this sign-in in another one, with its own question and with the first one's.
    let (thief, theirs) = asked(&gate, "ann", None).await;
    let seen = thief.submit(&theirs, KEY, &[("answer", &answer)]).await;
    assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY);
    let sealed = page.hidden().into_iter().find(|(n, _)| n == "question").unwrap().1;
    let seen = thief.submit(&theirs, KEY, &[("question", &sealed), ("answer", &answer)]).await;
    assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(gate.live_sessions().await, before);
    ann.submit(&page, KEY, &[("answer", &answer)]).await;
    assert!(ann.has_session(HERE));
    assert_eq!(gate.live_sessions().await, before + 1);
    let seen = ann.submit(&page, KEY, &[("answer", &answer)]).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST, "the sign-in is over");
    assert_eq!(gate.live_sessions().await, before + 1);
}

#[tokio::test]
async fn s_wa_1_of_fifty_requests_with_one_answer_at_once_one_wins() {
    let gate = Gate::new().await;
    let mut key = SoftKey::new(1, LOGIN);
    // Without a counter nothing but the question tells them apart.
    key.counter.set(None);
    enrolls(&gate, "ann", &mut key).await;
    let before = gate.live_sessions().await;
    let browser = gate.browser();
    let page = browser.get(&format!("{LOGIN}/.stepgate/login")).await;
    let answer = key.answers(&page.body);
    let mut fields = page.hidden();
    fields.retain(|(name, _)| name != "answer");
    fields.push(("answer".to_owned(), answer));
    let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let requests: Vec<_> =
        (0..50).map(|_| browser.request(Method::POST, &format!("{LOGIN}{PASSKEY}"), &fields)).collect();
    let sent = requests.into_iter().map(|request| tokio::spawn(Arc::clone(&gate.portal).handle(request)));
    let answers = futures_util::future::join_all(sent).await;
    let won = answers.iter().filter(|a| a.as_ref().unwrap().status() == StatusCode::SEE_OTHER).count();
    assert_eq!((won, gate.live_sessions().await), (1, before + 1));
}

#[tokio::test]
async fn s_wa_1_another_site_gets_nothing_with_a_right_signature() {
    let gate = Gate::new().await;
    let mut key = SoftKey::new(1, LOGIN);
    enrolls(&gate, "ann", &mut key).await;
    let before = gate.live_sessions().await;
    type Lie = fn(&mut SoftKey);
    let lies: [(&str, Lie); 6] = [
        ("a sibling", |key| key.origin = "https://payroll.corp.example".to_owned()),
        ("below us", |key| key.origin = "https://x.login.corp.example".to_owned()),
        ("another port", |key| key.origin = "https://login.corp.example:8443".to_owned()),
        ("in clear", |key| key.origin = "http://login.corp.example".to_owned()),
        ("the domain above", |key| key.rp_id = "corp.example".to_owned()),
        ("in a frame of another site", |key| key.framed = true),
    ];
    for (what, lie) in lies {
        let (ann, page) = asked(&gate, "ann", None).await;
        lie(&mut key);
        let seen = ann.submit(&page, KEY, &[("answer", &key.answers(&page.body))]).await;
        assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY, "{what}");
        (key.origin, key.rp_id, key.framed) = (LOGIN.to_owned(), HERE.to_owned(), false);
    }
    assert_eq!(gate.live_sessions().await, before);
    let (ann, page) = asked(&gate, "ann", None).await;
    ann.submit(&page, KEY, &[("answer", &key.answers(&page.body))]).await;
    assert!(ann.has_session(HERE), "the honest one still goes in");
}

#[tokio::test]
async fn s_wa_1_a_question_ends_after_ten_minutes() {
    let gate = Gate::new().await;
    let mut key = SoftKey::new(1, LOGIN);
    enrolls(&gate, "ann", &mut key).await;
    let browser = gate.browser();
    let page = browser.get(&format!("{LOGIN}/.stepgate/login")).await;
    gate.world.later(600);
    let seen = browser.submit(&page, PASSKEY, &[("answer", &key.answers(&page.body))]).await;
    assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(!browser.has_session(HERE));
    let seen = browser.submit(&seen, PASSKEY, &[("answer", &key.answers(&seen.body))]).await;
    assert!(browser.has_session(HERE), "the page asks anew at once: {}", seen.body);
}

#[tokio::test]
async fn s_wa_1_a_passkey_that_checked_nobody_signs_nobody_in() {
    let gate = Gate::new().await;
    let mut key = SoftKey::new(1, LOGIN);
    key.verifies = false;
    enrolls(&gate, "ann", &mut key).await;
    let browser = gate.browser();
    let page = browser.get(&format!("{LOGIN}/.stepgate/login")).await;
    assert_eq!(question(&page.body)["userVerification"], "required");
    let seen = browser.submit(&page, PASSKEY, &[("answer", &key.answers(&page.body))]).await;
    assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(!browser.has_session(HERE));
    // Behind the password a touch is enough.
    let (ann, page) = asked(&gate, "ann", None).await;
    assert_eq!(question(&page.body)["userVerification"], "preferred");
    ann.submit(&page, KEY, &[("answer", &key.answers(&page.body))]).await;
    assert!(ann.has_session(HERE));
}

#[tokio::test]
async fn s_wa_2_a_counter_that_goes_back_is_refused_and_in_the_trail() {
    let gate = Gate::new().await;
    let mut key = SoftKey::new(1, LOGIN);
    enrolls(&gate, "ann", &mut key).await;
    let (ann, page) = asked(&gate, "ann", None).await;
    ann.submit(&page, KEY, &[("answer", &key.answers(&page.body))]).await;
    assert!(ann.has_session(HERE));
    for again in [0, 1] {
        key.counter.set(Some(again));
        let (thief, page) = asked(&gate, "ann", None).await;
        let seen = thief.submit(&page, KEY, &[("answer", &key.answers(&page.body))]).await;
        assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY, "{again}");
        assert!(!thief.has_session(HERE));
    }
    let rows = gate.world.trail().await;
    let told = rows.iter().filter(|row| row.contains("may have been copied") && row.contains("refused")).count();
    assert_eq!(told, 2);
}

#[tokio::test]
async fn s_wa_2_a_key_of_somebody_else_is_worth_nothing() {
    let gate = Gate::new().await;
    let (mut anns, mut bobs) = (SoftKey::new(1, LOGIN), SoftKey::new(2, LOGIN));
    let (ann, _) = enrolls(&gate, "ann", &mut anns).await;
    enrolls(&gate, "bob", &mut bobs).await;
    let before = gate.live_sessions().await;
    // Bob's key behind Ann's password, saying whose it is, saying nothing, and saying that it is hers.
    for handle in [bobs.handle.clone(), None, Some(ann.id.as_bytes().to_vec())] {
        bobs.handle = handle;
        let (thief, page) = asked(&gate, "ann", None).await;
        let seen = thief.submit(&page, KEY, &[("answer", &bobs.answers(&page.body))]).await;
        assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    // As a passkey that says that it is hers.
    let thief = gate.browser();
    let page = thief.get(&format!("{LOGIN}/.stepgate/login")).await;
    let seen = thief.submit(&page, PASSKEY, &[("answer", &bobs.answers(&page.body))]).await;
    assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY);
    // Another key under her key's id.
    let mut copy = SoftKey::new(1, LOGIN);
    copy.handle = anns.handle.clone();
    copy.counter.set(Some(100));
    let page = thief.get(&format!("{LOGIN}/.stepgate/login")).await;
    let seen = thief.submit(&page, PASSKEY, &[("answer", &copy.answers(&page.body))]).await;
    assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(gate.live_sessions().await, before);
}

#[tokio::test]
async fn s_wa_2_an_id_is_one_persons_alone() {
    let gate = Gate::new().await;
    enrolls(&gate, "ann", &mut SoftKey::new(1, LOGIN)).await;
    let eve = gate.world.user("eve").await;
    let browser = gate.browser();
    let page = browser.gives_password(None, "eve", PASSWORD).await;
    let page = browser.open(&page.url.replace("/enroll/totp", "/enroll/webauthn")).await;
    let made = SoftKey::new(1, LOGIN).created(&page.body);
    let seen = browser.submit(&page, ENROLL, &[("answer", &made), ("name", "Mine")]).await;
    assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", seen.body);
    assert!(gate.world.auth.enrolled(eve.id).await.unwrap().credentials.is_empty());
    assert!(!gate.world.again(&eve).await.ever_enrolled, "and she may still enroll one of her own");
}

#[tokio::test]
async fn s_fac_1_a_passkey_alone_is_two_types() {
    let gate = Gate::new().await;
    let mut key = SoftKey::new(1, LOGIN);
    enrolls(&gate, "ann", &mut key).await;
    let browser = gate.browser();
    browser.sent_from_payroll("nonce");
    let rd = gate.rd("/", "strong", "nonce");
    let page = browser.get(&format!("{LOGIN}/.stepgate/login?rd={rd}")).await;
    let asked = question(&page.body);
    assert_eq!((asked["allowCredentials"].as_array().map(Vec::len), &asked["rpId"]), (Some(0), &HERE.into()));
    let seen = browser.submit(&page, PASSKEY, &[("answer", &key.answers(&page.body))]).await;
    assert_eq!(seen.location().as_deref(), Some("https://payroll.corp.example/"), "{} {}", seen.url, seen.body);
    assert!(browser.has_session(HERE) && browser.has_session(super::PAYROLL));
    let row = gate.world.trail().await.into_iter().rfind(|row| row.contains("sign_in")).unwrap();
    assert!(row.contains("Signed in with webauthn."), "{row}");
}

#[tokio::test]
async fn s_wa_2_an_unknown_key_and_a_disabled_account_get_one_answer() {
    let gate = Gate::new().await;
    let mut key = SoftKey::new(1, LOGIN);
    let (ann, _) = enrolls(&gate, "ann", &mut key).await;
    let mut stranger = SoftKey::new(7, LOGIN);
    stranger.handle = Some(vec![7; 16]);
    gate.world.auth.set_enabled(&gate.world.operator(), &ann, false).await.unwrap();
    let browser = gate.browser();
    let mut bodies = Vec::new();
    for key in [&stranger, &key] {
        let page = browser.get(&format!("{LOGIN}/.stepgate/login")).await;
        let seen = browser.submit(&page, PASSKEY, &[("answer", &key.answers(&page.body))]).await;
        assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY);
        let problem = seen.body.split("id=\"problem\"").nth(1).unwrap().split("</div>").next().unwrap().to_owned();
        bodies.push(problem);
    }
    assert_eq!(bodies[0], bodies[1]);
    assert!(!browser.has_session(HERE));
}

#[tokio::test]
async fn s_login_4_what_strangers_use_up_does_not_close_passkeys() {
    let gate = Gate::new().await;
    let mut key = SoftKey::new(1, LOGIN);
    enrolls(&gate, "ann", &mut key).await;
    let stranger = gate.browser();
    for _ in 0..40 {
        let page = stranger.get(&format!("{LOGIN}/.stepgate/login")).await;
        let fields = [("username", "ann"), ("password", "wrong wrong wrong")];
        stranger.submit(&page, "/.stepgate/login", &fields).await;
        let mut other = SoftKey::new(9, LOGIN);
        other.handle = key.handle.clone();
        other.id = key.id.clone();
        other.counter.set(Some(500));
        let page = stranger.get(&format!("{LOGIN}/.stepgate/login")).await;
        stranger.submit(&page, PASSKEY, &[("answer", &other.answers(&page.body))]).await;
    }
    let browser = gate.browser();
    let page = browser.get(&format!("{LOGIN}/.stepgate/login")).await;
    browser.submit(&page, PASSKEY, &[("answer", &key.answers(&page.body))]).await;
    assert!(browser.has_session(HERE));
    let rows = gate.world.trail().await;
    let told = rows.iter().filter(|row| row.contains("factor_verify") && row.contains("refused")).count();
    assert_eq!(told, 30, "a stranger does not fill the trail");
}

#[tokio::test]
async fn s_enr_2_a_code_adds_no_key_and_removes_none() {
    let gate = Gate::new().await;
    let mut key = SoftKey::new(1, LOGIN);
    let (user, ann) = enrolls(&gate, "ann", &mut key).await;
    // With the key of a moment ago she adds an app, and then a second key.
    let page = ann.open(&format!("{LOGIN}{ENROLL}")).await;
    assert!(page.url.contains("/enroll/webauthn?flow="), "{}", page.url);
    assert_eq!(question(&page.body)["excludeCredentials"].as_array().map(Vec::len), Some(1));
    let mut second = SoftKey::new(2, LOGIN);
    let seen = ann.submit(&page, ENROLL, &[("answer", &second.created(&page.body)), ("name", "Spare")]).await;
    assert!(seen.url.contains("/.stepgate/account"), "{} {}", seen.url, seen.body);
    // The phone is the youngest of what she has.
    gate.world.later(1);
    gate.world.auth.operator_adds_totp(&gate.world.operator(), &gate.world.snapshot, &user, None).await.unwrap();
    let phone = gate.world.phone_of(&user).await;
    // Whoever has the password and a code of hers.
    let thief = gate.browser();
    let page = thief.gives_password(None, "ann", PASSWORD).await;
    let page = thief.open(&page.url.replace("/login/webauthn", "/login/totp")).await;
    thief.submit(&page, "/.stepgate/login/totp", &[("code", &gate.world.code(&phone))]).await;
    assert!(thief.has_session(HERE));
    let seen = thief.open(&format!("{LOGIN}{ENROLL}")).await;
    assert!(seen.url.contains("/.stepgate/step-up") && seen.body.contains("data-key=\"get\""), "{}", seen.url);
    // A flow that was begun for an app does not take a key either.
    let app = thief.open(&format!("{LOGIN}/.stepgate/enroll/totp")).await;
    let seen = thief.open(&app.url.replace("/enroll/totp", "/enroll/webauthn")).await;
    assert!(seen.url.contains("/.stepgate/step-up"), "{}", seen.url);
    let account = thief.get(&format!("{LOGIN}/.stepgate/account")).await;
    let enrolled = gate.world.auth.enrolled(user.id).await.unwrap();
    let keys: Vec<String> = enrolled.keys().map(|c| c.id.to_string()).collect();
    let seen = thief.submit(&account, "/.stepgate/account/factors", &[("remove", &keys[0])]).await;
    assert!(seen.url.contains("/.stepgate/step-up"), "{}", seen.url);
    assert_eq!(gate.world.auth.enrolled(user.id).await.unwrap().keys().count(), 2);
}

#[tokio::test]
async fn a_first_key_may_follow_a_code_where_the_file_says_so() {
    let mut open = snapshot(true);
    open.factors.key_after_code = true;
    for (file, added) in [(snapshot(true), false), (open, true)] {
        let gate = Gate::with(file).await;
        let (user, phone) = gate.ann().await;
        let ann = gate.browser();
        ann.signs_in("ann", &phone, None).await;
        let page = ann.open(&format!("{LOGIN}{ENROLL}")).await;
        if added {
            let mut key = SoftKey::new(1, LOGIN);
            ann.submit(&page, ENROLL, &[("answer", &key.created(&page.body)), ("name", "Blue key")]).await;
        } else {
            assert_eq!(page.status, StatusCode::FORBIDDEN, "{}", page.url);
            assert!(page.says("a copied page could ask for it too"), "{}", page.body);
        }
        assert_eq!(gate.world.auth.enrolled(user.id).await.unwrap().keys().count(), usize::from(added));
    }
}

#[tokio::test]
async fn s_step_2_a_step_up_takes_the_key_of_its_person_alone() {
    let gate = Gate::new().await;
    let (mut anns, mut bobs) = (SoftKey::new(1, LOGIN), SoftKey::new(2, LOGIN));
    let (_, ann) = enrolls(&gate, "ann", &mut anns).await;
    enrolls(&gate, "bob", &mut bobs).await;
    gate.world.later(11 * 60);
    let step_up = format!("{LOGIN}/.stepgate/step-up?rd={}", gate.rd("/", "strong", "nonce"));
    let page = ann.open(&step_up).await;
    assert!(page.body.contains("data-key=\"get\"") && page.says("still counts"), "{}", page.body);
    let seen = ann.submit(&page, "/.stepgate/step-up/webauthn", &[("answer", &bobs.answers(&page.body))]).await;
    assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY);
    ann.sent_from_payroll("nonce");
    let seen = ann.submit(&page, "/.stepgate/step-up/webauthn", &[("answer", &anns.answers(&page.body))]).await;
    assert_eq!(seen.location().as_deref(), Some("https://payroll.corp.example/"), "{} {}", seen.url, seen.body);
}
