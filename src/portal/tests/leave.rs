//! The account page and the way out.

use http::StatusCode;

use super::{Gate, LOGIN, PAYROLL};
use crate::auth::test_world::PASSWORD;
use crate::session::cookie::NAME;

#[tokio::test]
async fn s_sess_5_signing_out_is_a_post_with_our_token_and_ends_the_session_everywhere() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let ann = gate.browser();
    ann.sent_from_payroll("nonce");
    ann.signs_in("ann", &phone, Some(&gate.rd("/", "mfa", "nonce"))).await;
    let url = format!("https://{PAYROLL}/.stepgate/logout");
    let page = ann.get(&url).await;
    assert_eq!((page.status, gate.live_sessions().await), (StatusCode::OK, 1), "a GET asks and ends nothing");
    let seen = ann.post(&url, &[("csrf", "AAAA")]).await;
    assert_eq!((seen.status, gate.live_sessions().await), (StatusCode::BAD_REQUEST, 1));
    let portals = ann.get(&format!("{LOGIN}/.stepgate/logout")).await;
    let seen = ann.post(&url, &[("csrf", &portals.hidden()[0].1)]).await;
    assert_eq!((seen.status, gate.live_sessions().await), (StatusCode::BAD_REQUEST, 1), "each host has its own token");
    let mut cross = gate.browser();
    cross.set_cookie(PAYROLL, NAME, &ann.cookie(PAYROLL, NAME).unwrap());
    cross.extra.push(("origin", "https://evil.example"));
    assert_eq!(cross.send_form(&page, "/.stepgate/logout", &[]).await.status, StatusCode::FORBIDDEN);
    let old = ann.cookie("login.corp.example", NAME).unwrap();
    let seen = ann.submit(&page, "/.stepgate/logout", &[]).await;
    assert!(seen.says("You are signed out"), "{}", seen.body);
    assert!(!ann.has_session(PAYROLL));
    assert_eq!(gate.live_sessions().await, 0);
    let thief = gate.browser();
    thief.set_cookie("login.corp.example", NAME, &old);
    let seen = thief.open(&format!("{LOGIN}/.stepgate/account")).await;
    assert!(seen.url.contains("/.stepgate/login"), "at once, on the portal too: {}", seen.url);
}

#[tokio::test]
async fn s_sess_5_a_new_password_ends_the_other_sessions() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let (ann, other) = (gate.browser(), gate.browser());
    ann.signs_in("ann", &phone, None).await;
    gate.world.later(30);
    other.signs_in("ann", &phone, None).await;
    let page = ann.get(&format!("{LOGIN}/.stepgate/account/password")).await;
    let new = "another horse battery";
    let fields = |old: &'static str, new: &'static str| [("old", old), ("new", new), ("end_others", "1")];
    let seen = ann.submit(&page, "/.stepgate/account/password", &fields("wrong wrong", new)).await;
    assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY);
    let seen = ann.submit(&page, "/.stepgate/account/password", &fields(PASSWORD, "password")).await;
    assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY);
    let seen = ann.submit(&page, "/.stepgate/account/password", &fields(PASSWORD, new)).await;
    assert!(seen.url.contains("/.stepgate/account?notice=password-changed"), "{}", seen.url);
    assert_eq!(gate.live_sessions().await, 1);
    assert!(other.open(&format!("{LOGIN}/.stepgate/account")).await.url.contains("/.stepgate/login"));
    let fresh = gate.browser();
    assert_eq!(fresh.gives_password(None, "ann", PASSWORD).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(fresh.gives_password(None, "ann", new).await.url.contains("/login/totp"));
}

#[tokio::test]
async fn the_account_page_shows_and_ends_ones_own_sessions_only() {
    let gate = Gate::new().await;
    let (user, phone) = gate.ann().await;
    let (_, bobs) = gate.world.user_with_phone("bob").await;
    let (ann, other, bob) = (gate.browser(), gate.browser(), gate.browser());
    ann.signs_in("ann", &phone, None).await;
    bob.signs_in("bob", &bobs, None).await;
    gate.world.later(30);
    other.signs_in("ann", &phone, None).await;
    let page = ann.get(&format!("{LOGIN}/.stepgate/account")).await;
    assert!(page.says("Authenticator app"));
    let all = gate.world.auth.store.sessions(gate.world.now()).await.unwrap();
    let bobs_session = all.iter().find(|(_, name)| name.as_str() == "bob").unwrap().0.id.to_string();
    ann.submit(&page, "/.stepgate/account/sessions", &[("end", &bobs_session)]).await;
    assert_eq!(gate.live_sessions().await, 3, "not hers to end");
    ann.submit(&page, "/.stepgate/account/sessions", &[("end", "others")]).await;
    assert_eq!(gate.world.auth.store.sessions_of(user.id, gate.world.now()).await.unwrap().len(), 1);
    assert_eq!(gate.live_sessions().await, 2);
}

#[tokio::test]
async fn the_account_page_tells_what_happened_to_this_person_and_to_no_predecessor() {
    let gate = Gate::new().await;
    let (user, phone) = gate.ann().await;
    let (ann, stranger) = (gate.browser(), gate.browser());
    stranger.gives_password(None, "ann", "wrong wrong").await;
    ann.signs_in("ann", &phone, None).await;
    let page = ann.get(&format!("{LOGIN}/.stepgate/account")).await;
    assert!(page.says("Wrong password"), "{}", page.body);
    gate.world.auth.remove_user(&gate.world.operator(), &user).await.unwrap();
    let (_, phone) = gate.ann().await;
    let heir = gate.browser();
    heir.signs_in("ann", &phone, None).await;
    let page = heir.get(&format!("{LOGIN}/.stepgate/account")).await;
    assert!(page.body.contains("id=\"history\"") && !page.says("Wrong password"), "{}", page.body);
}

#[tokio::test]
async fn s_cook_2_a_doubled_or_forged_session_cookie_is_refused_and_cleared() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let ann = gate.browser();
    ann.signs_in("ann", &phone, None).await;
    let forged = format!("{}x", ann.cookie("login.corp.example", NAME).unwrap());
    ann.set_cookie("login.corp.example", NAME, &forged);
    let seen = ann.get(&format!("{LOGIN}/.stepgate/account")).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST);
    assert!(!ann.has_session("login.corp.example"), "so that she is not locked out");
    assert_eq!(ann.get(&format!("{LOGIN}/.stepgate/login")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn whoever_was_away_too_long_is_told_so() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let ann = gate.browser();
    ann.signs_in("ann", &phone, None).await;
    gate.world.auth.sessions.as_ref().unwrap().flush().await;
    gate.world.later(16 * 60);
    let seen = ann.open(&format!("{LOGIN}/.stepgate/account")).await;
    assert!(seen.says("You were away for 15 min"), "{}", seen.body);
}
