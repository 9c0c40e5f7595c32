//! Confirming once more: only what is missing, a new id for it, and each person for themselves.

use http::StatusCode;

use super::{Gate, LOGIN, PAYROLL};
use crate::auth::test_world::PASSWORD;
use crate::session::cookie::NAME;

const STEP_UP: &str = "/.stepgate/step-up/totp";

#[tokio::test]
async fn ann_confirms_with_a_code_alone_and_her_password_still_counts() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let ann = gate.browser();
    ann.sent_from_payroll("nonce");
    ann.signs_in("ann", &phone, Some(&gate.rd("/", "mfa", "nonce"))).await;
    let (portal, app) = (ann.cookie("login.corp.example", NAME).unwrap(), ann.cookie(PAYROLL, NAME).unwrap());
    gate.world.later(11 * 60);
    let page = ann.open(&format!("{LOGIN}/.stepgate/login?rd={}", gate.rd("/approve", "fresh", "nonce"))).await;
    assert!(page.url.contains("/.stepgate/step-up"), "{}", page.url);
    assert!(page.says("still counts") && !page.says("name=\"password\""), "{}", page.body);
    let seen = ann.submit(&page, STEP_UP, &[("code", &gate.world.code(&phone))]).await;
    assert_eq!(seen.location().as_deref(), Some("https://payroll.corp.example/approve"));
    assert_ne!(ann.cookie("login.corp.example", NAME).unwrap(), portal, "a new id for the portal");
    assert_ne!(ann.cookie(PAYROLL, NAME).unwrap(), app, "and for the asking host");
    assert_eq!(gate.live_sessions().await, 1, "it is the same session");
    assert!(gate.world.trail().await.iter().any(|row| row.contains("\"step_up\"")));
}

#[tokio::test]
async fn s_sess_2_the_old_id_reads_for_ten_seconds_and_changes_nothing() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let ann = gate.browser();
    ann.signs_in("ann", &phone, None).await;
    let other_tab = gate.browser();
    let account = other_tab_with_cookies(&ann, &other_tab).await;
    gate.world.later(30);
    gate.browser().signs_in("ann", &phone, None).await;
    gate.world.later(11 * 60);
    let page = ann.open(&format!("{LOGIN}/.stepgate/step-up?rd={}", gate.rd("/", "fresh", "nonce"))).await;
    ann.send_form(&page, STEP_UP, &[("code", &gate.world.code(&phone))]).await;
    let page = other_tab.get(&account).await;
    assert_eq!(page.status, StatusCode::OK, "a read in the grace");
    let seen = other_tab.send_form(&page, "/.stepgate/account/sessions", &[("end", "others")]).await;
    assert!(seen.location().unwrap().contains("/.stepgate/login"), "a change is not obeyed");
    assert_eq!(gate.live_sessions().await, 2);
    gate.world.later(11);
    let seen = other_tab.open(&account).await;
    assert!(seen.url.contains("/.stepgate/login"), "{}", seen.url);
}

async fn other_tab_with_cookies(from: &super::Browser<'_>, to: &super::Browser<'_>) -> String {
    for name in [NAME, crate::auth::flow::FLOW_COOKIE] {
        to.set_cookie("login.corp.example", name, &from.cookie("login.corp.example", name).unwrap());
    }
    format!("{LOGIN}/.stepgate/account")
}

#[tokio::test]
async fn an_old_password_is_asked_too_where_a_level_wants_one_factor() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let ann = gate.browser();
    ann.sent_from_payroll("nonce");
    ann.signs_in("ann", &phone, None).await;
    let rd = gate.rd("/", "password", "nonce");
    let seen = ann.open(&format!("{LOGIN}/.stepgate/step-up?rd={rd}")).await;
    assert_eq!(seen.location().as_deref(), Some("https://payroll.corp.example/"), "ten hours are not over");
}

#[tokio::test]
async fn a_wrong_code_in_a_step_up_leaves_the_session_as_it_was() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let ann = gate.browser();
    ann.signs_in("ann", &phone, None).await;
    gate.world.later(11 * 60);
    let page = ann.open(&format!("{LOGIN}/.stepgate/step-up?rd={}", gate.rd("/", "fresh", "nonce"))).await;
    let before = ann.cookie("login.corp.example", NAME);
    let seen = ann.submit(&page, STEP_UP, &[("code", &gate.world.wrong_code(&phone))]).await;
    assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(ann.cookie("login.corp.example", NAME), before);
    let seen = ann.submit(&seen, STEP_UP, &[("code", &gate.world.code(&phone))]).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST, "the hand-over page of payroll wants its nonce: {}", seen.url);
    assert!(seen.url.starts_with("https://payroll.corp.example/.stepgate/handover"));
}

#[tokio::test]
async fn s_step_2_bob_at_anns_question_gets_his_own_session() {
    let gate = Gate::new().await;
    let (_, anns) = gate.ann().await;
    let (_, bobs) = gate.world.user_with_phone("bob").await;
    let shared = gate.browser();
    shared.sent_from_payroll("nonce");
    shared.signs_in("ann", &anns, None).await;
    gate.world.later(11 * 60);
    let rd = gate.rd("/approve", "fresh", "nonce");
    let question = shared.open(&format!("{LOGIN}/.stepgate/step-up?rd={rd}")).await;
    // His code is worth nothing in her session.
    let seen = shared.submit(&question, STEP_UP, &[("code", &gate.world.code(&bobs))]).await;
    assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY);
    // "Not you?" leads to the sign-in, with the same way back.
    assert!(seen.says("switch=1"), "{}", seen.body);
    let page = shared.get(&format!("{LOGIN}/.stepgate/login?switch=1&rd={rd}")).await;
    let page = shared.submit(&page, "/.stepgate/login", &[("username", "bob"), ("password", PASSWORD)]).await;
    let seen = shared.submit(&page, "/.stepgate/login/totp", &[("code", &gate.world.code(&bobs))]).await;
    assert_eq!(seen.location().as_deref(), Some("https://payroll.corp.example/approve"));
    let sessions = gate.world.auth.store.sessions(gate.world.now()).await.unwrap();
    let names: Vec<String> = sessions.iter().map(|(_, name)| name.to_string()).collect();
    assert_eq!(names, ["bob"], "hers ended in this browser; his is his own");
    // Her form, still open in another tab, is of a session that is gone.
    gate.world.later(30);
    let seen = shared.submit(&question, STEP_UP, &[("code", &gate.world.code(&anns))]).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST);
}
