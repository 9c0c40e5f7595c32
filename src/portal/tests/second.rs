//! Codes: each works once, guessing ends early, and a flow belongs to one browser and one person.

use std::sync::Arc;

use http::{Method, StatusCode};

use super::{Gate, LOGIN, PAYROLL};
use crate::auth::return_to::NONCE_COOKIE;
use crate::auth::test_world::{PASSWORD, host, snapshot};
use crate::base::clock::Timestamp;
use crate::domain::policy::{Exception, Who};
use crate::domain::route::RouteTable;
use crate::domain::user::UserName;
use crate::session::cookie::NAME;

const TOTP: &str = "/.stepgate/login/totp";
const BACKUP: &str = "/.stepgate/login/backup-codes";

#[tokio::test]
async fn s_totp_1_a_code_that_worked_once_never_works_again() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let code = gate.world.code(&phone);
    let ann = gate.browser();
    let page = ann.gives_password(None, "ann", PASSWORD).await;
    ann.submit(&page, TOTP, &[("code", &code)]).await;
    assert!(ann.has_session("login.corp.example"));
    let thief = gate.browser();
    let page = thief.gives_password(None, "ann", PASSWORD).await;
    let seen = thief.submit(&page, TOTP, &[("code", &code)]).await;
    assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(seen.says("This code was already used"), "{}", seen.body);
    assert!(!thief.has_session("login.corp.example"));
}

#[tokio::test]
async fn s_totp_1_of_two_requests_with_one_code_at_once_one_wins() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let code = gate.world.code(&phone);
    let mut requests = Vec::new();
    for _ in 0..4 {
        let browser = gate.browser();
        let page = browser.gives_password(None, "ann", PASSWORD).await;
        let mut fields = page.hidden();
        fields.push(("code".to_owned(), code.clone()));
        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        requests.push(browser.request(Method::POST, &format!("{LOGIN}{TOTP}"), &fields));
    }
    let sent = requests.into_iter().map(|request| tokio::spawn(Arc::clone(&gate.portal).handle(request)));
    let answers = futures_util::future::join_all(sent).await;
    let won = answers.iter().filter(|a| a.as_ref().unwrap().status() == StatusCode::SEE_OTHER).count();
    assert_eq!((won, gate.live_sessions().await), (1, 1));
}

#[tokio::test]
async fn s_totp_2_a_wrong_clock_is_explained_and_never_accepted() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let ann = gate.browser();
    let page = ann.gives_password(None, "ann", PASSWORD).await;
    let fast = phone.code(phone.step_at(gate.world.now()) + 7).to_string();
    let seen = ann.submit(&page, TOTP, &[("code", &fast)]).await;
    assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(seen.says("clock is 3 min"), "{}", seen.body);
    assert!(!ann.has_session("login.corp.example"));
    let seen = ann.submit(&page, TOTP, &[("code", "１２３４５６")]).await;
    assert!(seen.says("This code is not right"));
    let spaced = gate.world.code(&phone);
    let spaced = format!(" {} - {} ", &spaced[..3], &spaced[3..]);
    ann.submit(&page, TOTP, &[("code", &spaced)]).await;
    assert!(ann.has_session("login.corp.example"));
}

#[tokio::test]
async fn s_totp_3_neither_new_flows_nor_the_password_buy_more_guesses() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    for guess in 0..5 {
        let thief = gate.browser();
        let page = thief.gives_password(None, "ann", PASSWORD).await;
        let seen = thief.submit(&page, TOTP, &[("code", &gate.world.wrong_code(&phone))]).await;
        assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY, "guess {guess}");
    }
    let thief = gate.browser();
    let page = thief.gives_password(None, "ann", PASSWORD).await;
    let right = gate.world.code(&phone);
    let seen = thief.submit(&page, TOTP, &[("code", &right)]).await;
    assert_eq!(seen.status, StatusCode::TOO_MANY_REQUESTS, "the 6th is not looked at, right or wrong");
    thief.submit(&page, BACKUP, &[("code", "aaaa bbbb cccc dddd")]).await;
    assert!(!thief.has_session("login.corp.example"));
    gate.world.later(15 * 60 + 1);
    let ann = gate.browser();
    ann.signs_in("ann", &phone, None).await;
    assert!(ann.has_session("login.corp.example"), "the pause ends");
}

#[tokio::test]
async fn successes_do_not_use_up_the_budget_of_codes() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    for _ in 0..8 {
        let ann = gate.browser();
        ann.signs_in("ann", &phone, None).await;
        assert!(ann.has_session("login.corp.example"));
        gate.world.later(30);
    }
}

#[tokio::test]
async fn a_hundred_failures_in_a_row_end_the_authenticator() {
    let gate = Gate::new().await;
    let (user, phone) = gate.ann().await;
    let world = &gate.world;
    for n in 1..=100 {
        let enrolled = world.auth.enrolled(user.id).await.unwrap();
        let wrong = world.wrong_code(&phone);
        let kind = crate::domain::factor::FactorKind::Totp;
        world.auth.look_at_code(&world.visit(), &user, &enrolled, kind, wrong.as_str().into(), "").await.unwrap();
        // The budget of codes lets five through each quarter of an hour.
        world.later(if n % 5 == 0 { 901 } else { 1 });
    }
    assert!(!world.auth.enrolled(user.id).await.unwrap().has_second());
    assert!(world.trail().await.iter().any(|row| row.contains("factor_disable")));
}

#[tokio::test]
async fn s_back_1_a_backup_code_works_once_and_a_new_set_ends_the_old() {
    let gate = Gate::new().await;
    let (user, _) = gate.ann().await;
    let world = &gate.world;
    let old = world.auth.operator_makes_codes(&world.operator(), &world.snapshot, &user).await.unwrap().shown;
    let set = world.auth.operator_makes_codes(&world.operator(), &world.snapshot, &user).await.unwrap().shown;
    assert_eq!(set.len(), 10);
    for (code, works) in [(&old[0], false), (&set[0], true), (&set[0], false), (&set[1], true)] {
        let ann = gate.browser();
        let page = ann.gives_password(None, "ann", PASSWORD).await;
        let page = ann.open(&page.url.replace("/login/totp", "/login/backup-codes")).await;
        let seen = ann.submit(&page, BACKUP, &[("code", &code.to_uppercase())]).await;
        assert_eq!(ann.has_session("login.corp.example"), works, "{code}: {}", seen.status);
        if !works {
            assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY);
        }
    }
    assert_eq!(world.auth.enrolled(user.id).await.unwrap().backup.unwrap().left, 8);
}

#[tokio::test]
async fn s_back_1_of_two_requests_with_one_backup_code_one_wins() {
    let gate = Gate::new().await;
    let (user, _) = gate.ann().await;
    let world = &gate.world;
    let set = world.auth.operator_makes_codes(&world.operator(), &world.snapshot, &user).await.unwrap().shown;
    let mut requests = Vec::new();
    for _ in 0..3 {
        let browser = gate.browser();
        let page = browser.gives_password(None, "ann", PASSWORD).await;
        let mut fields = page.hidden();
        fields.push(("code".to_owned(), set[0].clone()));
        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        requests.push(browser.request(Method::POST, &format!("{LOGIN}{BACKUP}"), &fields));
    }
    let sent = requests.into_iter().map(|request| tokio::spawn(Arc::clone(&gate.portal).handle(request)));
    futures_util::future::join_all(sent).await;
    assert_eq!(gate.live_sessions().await, 1);
}

#[tokio::test]
async fn s_back_1_no_code_of_any_kind_is_phishing_resistant() {
    let gate = Gate::new().await;
    let (user, phone) = gate.ann().await;
    let world = &gate.world;
    world.auth.operator_makes_codes(&world.operator(), &world.snapshot, &user).await.unwrap();
    let ann = gate.browser();
    let seen = ann.gives_password(Some(&gate.rd("/", "strong", "nonce")), "ann", PASSWORD).await;
    assert_eq!(seen.status, StatusCode::FORBIDDEN, "{}", seen.url);
    assert!(!ann.has_session("login.corp.example"));
    ann.signs_in("ann", &phone, None).await;
    let seen = ann.open(&format!("{LOGIN}/.stepgate/step-up?rd={}", gate.rd("/", "strong", "nonce"))).await;
    assert_eq!(seen.status, StatusCode::FORBIDDEN, "an honest page, not a question in vain");
    assert!(seen.says("a copied page could ask for it too"), "and it says why: {}", seen.body);
}

#[tokio::test]
async fn who_is_let_off_a_level_is_not_asked_for_it_at_the_sign_in() {
    let mut snapshot = snapshot(true);
    let fresh = Arc::clone(snapshot.level("fresh").unwrap());
    let mut route = (**snapshot.routes.find(&host(PAYROLL)).unwrap()).clone();
    let until = Timestamp::from_secs(1_800_000_000 + 600);
    let place = route.policy.default_place.clone();
    let exception = Exception {
        place,
        who: vec![Who::User(UserName::parse("ann").unwrap())],
        rules: vec![route.policy.default_name.clone()],
        level: fresh,
        until,
        approved_by: "dana".into(),
        ticket: "SEC-412".into(),
        reason: None,
    };
    route.policy = route.policy.with_exceptions(vec![Arc::new(exception)]);
    snapshot.routes = RouteTable::new(vec![Arc::new(route)]);
    let gate = Gate::with(snapshot).await;
    let (_, phone) = gate.ann().await;
    gate.world.user_with_phone("bea").await;
    // The page asks for a key, which neither has.
    let bea = gate.browser();
    let seen = bea.gives_password(Some(&gate.rd("/", "strong", "nonce")), "bea", PASSWORD).await;
    assert_eq!(seen.status, StatusCode::FORBIDDEN, "{}", seen.url);
    let ann = gate.browser();
    let page = ann.gives_password(Some(&gate.rd("/", "strong", "nonce")), "ann", PASSWORD).await;
    ann.submit(&page, TOTP, &[("code", &gate.world.code(&phone))]).await;
    assert!(ann.has_session("login.corp.example"));
    // Ten minutes later it has ended, for steps up too.
    gate.world.later(600);
    let again = ann.open(&format!("{LOGIN}/.stepgate/step-up?rd={}", gate.rd("/", "strong", "nonce"))).await;
    assert_eq!(again.status, StatusCode::FORBIDDEN, "{}", again.body);
}

#[tokio::test]
async fn s_login_6_a_flow_belongs_to_one_browser_and_half_done_is_nobody() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let (_, bobs) = gate.world.user_with_phone("bob").await;
    let ann = gate.browser();
    let page = ann.gives_password(None, "ann", PASSWORD).await;
    for path in ["account", "account/password", "step-up", "enroll/totp", "enroll/backup-codes"] {
        let seen = ann.open(&format!("{LOGIN}/.stepgate/{path}")).await;
        assert!(seen.url.contains("/.stepgate/login"), "{path}: a half-done flow got {}", seen.url);
    }
    // Another browser with the address and the form of this flow.
    let thief = gate.browser();
    thief.get(&format!("{LOGIN}/.stepgate/login")).await;
    assert_eq!(thief.get(&page.url).await.status, StatusCode::BAD_REQUEST);
    let seen = thief.submit(&page, TOTP, &[("code", &gate.world.code(&phone))]).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST);
    // Bob's flow in Ann's browser takes Bob's code, never Ann's.
    let bobs_page = ann.gives_password(None, "bob", PASSWORD).await;
    let seen = ann.submit(&bobs_page, TOTP, &[("code", &gate.world.code(&phone))]).await;
    assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY);
    let _ = bobs;
    // A step cannot be skipped: enrollment pages do not take a sign-in's flow.
    let flow = page.hidden().into_iter().find(|(n, _)| n == "flow").unwrap().1;
    for path in ["enroll/totp", "enroll/backup-codes", "enroll/password"] {
        let seen = ann.get(&format!("{LOGIN}/.stepgate/{path}?flow={flow}")).await;
        assert_eq!(seen.status, StatusCode::BAD_REQUEST, "{path}");
    }
    assert_eq!(gate.live_sessions().await, 0);
}

#[tokio::test]
async fn a_flow_ends_after_ten_minutes_and_when_it_is_finished() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let ann = gate.browser();
    let page = ann.gives_password(None, "ann", PASSWORD).await;
    gate.world.later(601);
    let seen = ann.submit(&page, TOTP, &[("code", &gate.world.code(&phone))]).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST);
    let page = ann.gives_password(None, "ann", PASSWORD).await;
    ann.submit(&page, TOTP, &[("code", &gate.world.code(&phone))]).await;
    gate.world.later(30);
    let seen = ann.submit(&page, TOTP, &[("code", &gate.world.code(&phone))]).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST, "a flow is finished once");
    assert_eq!(gate.live_sessions().await, 1);
}

#[tokio::test]
async fn s_login_8_a_hand_over_works_once_for_one_host_in_the_browser_that_was_sent() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let ann = gate.browser();
    ann.sent_from_payroll("nonce");
    ann.signs_in("ann", &phone, None).await;
    let rd = gate.rd("/", "mfa", "nonce");
    let offer = || async { ann.get(&format!("{LOGIN}/.stepgate/step-up?rd={rd}")).await.location().unwrap() };
    // A link with a code, opened by somebody else: no nonce, or one of their own. Each time the code
    // is used up: whoever began, and may have read it from an address bar, comes too late.
    let other = gate.browser();
    let location = offer().await;
    assert!(location.starts_with("https://payroll.corp.example/.stepgate/handover?code="));
    assert_eq!(other.get(&location).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(ann.get(&location).await.status, StatusCode::BAD_REQUEST);
    other.set_cookie(PAYROLL, NONCE_COOKIE, "mine");
    let location = offer().await;
    assert_eq!(other.get(&location).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(ann.get(&location).await.status, StatusCode::BAD_REQUEST);
    // Another host of the same gate.
    ann.set_cookie("wiki.corp.example", NONCE_COOKIE, "nonce");
    let elsewhere = offer().await.replace(PAYROLL, "wiki.corp.example");
    assert_eq!(ann.get(&elsewhere).await.status, StatusCode::BAD_REQUEST);
    assert!(!other.has_session(PAYROLL) && !ann.has_session("wiki.corp.example") && !ann.has_session(PAYROLL));
    // The right browser: once.
    let location = offer().await;
    let seen = ann.get(&location).await;
    assert_eq!(seen.location().as_deref(), Some("https://payroll.corp.example/"));
    ann.forget_cookie(PAYROLL, NAME);
    assert_eq!(ann.get(&location).await.status, StatusCode::BAD_REQUEST);
    // A minute later.
    let location = offer().await;
    gate.world.later(61);
    assert_eq!(ann.get(&location).await.status, StatusCode::BAD_REQUEST);
    assert!(!ann.has_session(PAYROLL));
}

#[tokio::test]
async fn a_new_sign_in_ends_the_session_that_the_browser_had() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let ann = gate.browser();
    ann.signs_in("ann", &phone, None).await;
    let old = ann.cookie("login.corp.example", NAME).unwrap();
    gate.world.later(30);
    let page = ann.get(&format!("{LOGIN}/.stepgate/login?switch=1")).await;
    let page = ann.submit(&page, "/.stepgate/login", &[("username", "ann"), ("password", PASSWORD)]).await;
    ann.submit(&page, TOTP, &[("code", &gate.world.code(&phone))]).await;
    assert_ne!(ann.cookie("login.corp.example", NAME).unwrap(), old);
    assert_eq!(gate.live_sessions().await, 1);
    let thief = gate.browser();
    thief.set_cookie("login.corp.example", NAME, &old);
    let seen = thief.open(&format!("{LOGIN}/.stepgate/account")).await;
    assert!(seen.url.contains("/.stepgate/login"), "the old id is worth nothing");
}
