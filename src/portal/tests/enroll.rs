//! Getting a factor: behind a link, in the admin's window, or with fresh evidence. Never by a
//! password alone.

use http::StatusCode;

use super::browser::{Browser, Seen};
use super::{Gate, LOGIN};
use crate::auth::factors::TotpKey;
use crate::auth::test_world::PASSWORD;
use crate::auth::users::{Draft, FirstPassword};
use crate::base::secret::Secret;
use crate::domain::user::{User, UserName};
use crate::session::cookie::NAME;

const ENROLL: &str = "/.stepgate/enroll/totp";
const CODES: &str = "/.stepgate/enroll/backup-codes";

async fn link_of(gate: &Gate, user: &User) -> String {
    let link = gate.world.auth.link(&gate.world.operator(), user).await.unwrap();
    format!("{LOGIN}{}", *link.path)
}

/// Types the first code of the key that the page shows.
async fn scans_and_types(gate: &Gate, browser: &Browser<'_>, page: &Seen) -> (Seen, TotpKey) {
    let phone = scanned(page);
    let seen = browser.submit(page, ENROLL, &[("code", &gate.world.code(&phone)), ("name", "Ann's phone")]).await;
    (seen, phone)
}

/// The key on the page, as an authenticator app reads it.
fn scanned(page: &Seen) -> TotpKey {
    let secret = page.body.split("secret=").nth(1).expect("an address").split(['&', '"']).next().unwrap();
    let seed = data_encoding::BASE32_NOPAD.decode(secret.as_bytes()).expect("base32");
    let mut bytes = vec![1, 6, 0, 30];
    bytes.extend_from_slice(&seed);
    TotpKey::from_bytes(&bytes).expect("a key")
}

#[tokio::test]
async fn a_sign_up_link_leads_to_password_app_codes_and_a_session() {
    let gate = Gate::new().await;
    let draft =
        Draft { name: UserName::parse("ann").unwrap(), display: String::new(), email: None, groups: Vec::new() };
    let operator = gate.world.operator();
    let added = gate.world.auth.add_user(&operator, &gate.world.snapshot, draft, FirstPassword::ByLink);
    let (user, link) = added.await.unwrap();
    let url = format!("{LOGIN}{}", *link.unwrap().path);
    let ann = gate.browser();
    // Mail scanners look, three times.
    for _ in 0..3 {
        assert_eq!(gate.browser().get(&url).await.status, StatusCode::OK);
    }
    let page = ann.get(&url).await;
    let page = ann.submit(&page, "/.stepgate/enroll", &[]).await;
    assert!(page.url.contains("/enroll/password"), "{}", page.url);
    let page_again = ann.submit(&page, "/.stepgate/enroll/password", &[("password", "short")]).await;
    assert_eq!(page_again.status, StatusCode::UNPROCESSABLE_ENTITY);
    let page = ann.submit(&page, "/.stepgate/enroll/password", &[("password", PASSWORD)]).await;
    assert!(page.url.contains("/enroll/totp"), "{}", page.url);
    let wrong = gate.world.wrong_code(&scanned(&page));
    let seen = ann.submit(&page, ENROLL, &[("code", &wrong)]).await;
    assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(!gate.world.auth.enrolled(user.id).await.unwrap().has_second(), "nothing counts before a right code");
    let (codes, phone) = scans_and_types(&gate, &ann, &page).await;
    assert!(codes.url.contains("/enroll/backup-codes") && codes.says("Save your backup codes"), "{}", codes.url);
    assert_eq!(codes.headers["cache-control"], "no-store");
    let file = ann.send_form(&codes, "/.stepgate/enroll/backup-codes/file", &[]).await;
    assert!(file.headers["content-disposition"].to_str().unwrap().starts_with("attachment"));
    assert_eq!(file.body.lines().filter(|line| line.len() == 19).count(), 10, "{}", file.body);
    let seen = ann.submit(&codes, CODES, &[]).await;
    assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY, "not ticked");
    let seen = ann.submit(&codes, CODES, &[("saved", "1")]).await;
    assert!(seen.url.ends_with("/.stepgate/account"), "{}", seen.url);
    assert!(ann.has_session("login.corp.example"));
    // The code that confirmed the key was used by that (S-TOTP-1).
    let thief = gate.browser();
    let page = thief.gives_password(None, "ann", PASSWORD).await;
    let seen = thief.submit(&page, "/.stepgate/login/totp", &[("code", &gate.world.code(&phone))]).await;
    assert!(seen.says("already used"));
    // Back to the secret page: not shown again.
    let seen = ann.open(&page_url(&codes)).await;
    assert!(!seen.says("secret=") && !seen.body.contains(file.body.lines().nth(5).unwrap()), "{}", seen.url);
    assert!(gate.world.again(&user).await.ever_enrolled);
}

fn page_url(codes: &Seen) -> String {
    codes.url.replace("/backup-codes", "/totp")
}

#[tokio::test]
async fn a_link_is_used_once_by_a_post_and_a_newer_one_ends_the_older() {
    let gate = Gate::new().await;
    let user = gate.world.user("ann").await;
    let older = link_of(&gate, &user).await;
    let newer = link_of(&gate, &user).await;
    let ann = gate.browser();
    assert_eq!(ann.get(&older).await.status, StatusCode::GONE);
    let page = ann.get(&newer).await;
    let seen = ann.submit(&page, "/.stepgate/enroll", &[]).await;
    assert!(seen.url.contains("/enroll/password"));
    let thief = gate.browser();
    assert_eq!(thief.get(&newer).await.status, StatusCode::GONE);
    let seen = ann.submit(&page, "/.stepgate/enroll", &[]).await;
    assert_eq!(seen.status, StatusCode::GONE);
    let late = link_of(&gate, &user).await;
    gate.world.later(72 * 3600 + 1);
    assert_eq!(ann.get(&late).await.status, StatusCode::GONE);
}

#[tokio::test]
async fn s_enr_1_within_the_window_a_first_sign_in_enrolls() {
    let gate = Gate::new().await;
    let user = gate.world.user("ann").await;
    let ann = gate.browser();
    ann.sent_from_payroll("nonce");
    let page = ann.gives_password(Some(&gate.rd("/runs", "mfa", "nonce")), "ann", PASSWORD).await;
    assert!(page.url.contains("/enroll/totp"), "{}", page.url);
    let (codes, _) = scans_and_types(&gate, &ann, &page).await;
    let seen = ann.submit(&codes, CODES, &[("saved", "1")]).await;
    assert_eq!(seen.location().as_deref(), Some("https://payroll.corp.example/runs"));
    let user = gate.world.again(&user).await;
    assert!(user.ever_enrolled && user.first_login_until.is_none(), "closed for ever");
}

#[tokio::test]
async fn what_nobody_named_is_named_in_the_language_of_the_page() {
    let gate = Gate::new().await;
    let user = gate.world.user("ann").await;
    let mut ann = gate.browser();
    ann.extra.push(("accept-language", "fr"));
    let page = ann.gives_password(None, "ann", PASSWORD).await;
    assert!(page.says("value=\"Mon téléphone\""), "{}", page.body);
    let phone = scanned(&page);
    let codes = ann.submit(&page, ENROLL, &[("code", &gate.world.code(&phone)), ("name", "")]).await;
    let credentials = gate.world.auth.store.credentials(user.id).await.unwrap();
    assert_eq!(credentials.iter().map(|c| c.label.as_str()).collect::<Vec<_>>(), ["Mon téléphone"]);
    let file = ann.submit(&codes, "/.stepgate/enroll/backup-codes/file", &[]).await;
    assert!(file.body.contains("Compte : ann. Chaque code sert une seule fois."), "{}", file.body);
}

#[tokio::test]
async fn s_enr_1_a_password_alone_enrolls_nothing_after_the_window_or_a_reset() {
    let gate = Gate::new().await;
    let world = &gate.world;
    world.user("late").await;
    let (reset, _) = gate.ann().await;
    world.auth.reset_factors(&world.operator(), &reset).await.unwrap();
    let thief = gate.browser();
    let seen = thief.gives_password(Some(&gate.rd("/", "mfa", "nonce")), "ann", PASSWORD).await;
    assert_eq!(seen.status, StatusCode::FORBIDDEN, "after a reset: {}", seen.url);
    world.later(86_401);
    let seen = thief.gives_password(Some(&gate.rd("/", "mfa", "nonce")), "late", PASSWORD).await;
    assert_eq!(seen.status, StatusCode::FORBIDDEN, "after the window: {}", seen.url);
    // A session that the password alone opens does not get there either.
    thief.gives_password(None, "late", PASSWORD).await;
    assert!(thief.has_session("login.corp.example"));
    for path in ["enroll/totp", "enroll/backup-codes"] {
        let seen = thief.open(&format!("{LOGIN}/.stepgate/{path}")).await;
        assert_eq!(seen.status, StatusCode::FORBIDDEN, "{path}: {}", seen.url);
    }
}

#[tokio::test]
async fn s_enr_1_a_flow_begun_in_the_window_ends_when_a_factor_was_enrolled_meanwhile() {
    let gate = Gate::new().await;
    let user = gate.world.user("ann").await;
    let (ann, thief) = (gate.browser(), gate.browser());
    let thiefs = thief.gives_password(None, "ann", PASSWORD).await;
    let page = ann.gives_password(None, "ann", PASSWORD).await;
    let (codes, _) = scans_and_types(&gate, &ann, &page).await;
    ann.submit(&codes, CODES, &[("saved", "1")]).await;
    let (seen, _) = scans_and_types(&gate, &thief, &thiefs).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST);
    assert_eq!(gate.world.auth.enrolled(user.id).await.unwrap().credentials.len(), 1);
}

#[tokio::test]
async fn s_enr_1_a_flow_begun_with_an_older_password_or_link_ends_with_it() {
    let gate = Gate::new().await;
    let world = &gate.world;
    let user = world.user("ann").await;
    let thief = gate.browser();
    let page = thief.gives_password(None, "ann", PASSWORD).await;
    assert!(page.url.contains("/enroll/totp"), "{}", page.url);
    let new = Secret::new("quite another passphrase".to_owned());
    world.auth.set_password(&world.operator(), &world.snapshot, &user, &new).await.unwrap();
    let (seen, _) = scans_and_types(&gate, &thief, &page).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST);
    // The same with a link that was claimed, and a newer one.
    let old = link_of(&gate, &user).await;
    let page = thief.submit(&thief.get(&old).await, "/.stepgate/enroll", &[]).await;
    link_of(&gate, &user).await;
    let seen = thief.submit(&page, "/.stepgate/enroll/password", &[("password", PASSWORD)]).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST);
    assert!(world.auth.enrolled(user.id).await.unwrap().credentials.is_empty());
}

#[tokio::test]
async fn s_enr_1_a_claimed_sign_up_link_sets_no_password_once_there_is_a_factor() {
    let gate = Gate::new().await;
    let world = &gate.world;
    let user = world.user("ann").await;
    let thief = gate.browser();
    let page = thief.submit(&thief.get(&link_of(&gate, &user).await).await, "/.stepgate/enroll", &[]).await;
    assert!(page.url.contains("/enroll/password"), "{}", page.url);
    world.auth.operator_adds_totp(&world.operator(), &world.snapshot, &user, None).await.unwrap();
    let before = world.auth.store.password_hash(user.id).await.unwrap();
    let seen = thief.submit(&page, "/.stepgate/enroll/password", &[("password", "of the thief's choice")]).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST);
    assert_eq!(world.auth.store.password_hash(user.id).await.unwrap(), before);
}

#[tokio::test]
async fn s_rec_3_an_access_pass_opens_enrollment_and_nothing_else() {
    let gate = Gate::new().await;
    let (user, _) = gate.ann().await;
    gate.world.auth.reset_factors(&gate.world.operator(), &user).await.unwrap();
    let user = gate.world.again(&user).await;
    let url = link_of(&gate, &user).await;
    let ann = gate.browser();
    let page = ann.get(&url).await;
    let page = ann.submit(&page, "/.stepgate/enroll", &[]).await;
    assert!(page.url.contains("/enroll/totp"), "no password is set by it: {}", page.url);
    let seen = ann.open(&format!("{LOGIN}/.stepgate/account")).await;
    assert!(seen.url.contains("/.stepgate/login"), "it is no session");
    let (codes, phone) = scans_and_types(&gate, &ann, &page).await;
    let seen = ann.submit(&codes, CODES, &[("saved", "1")]).await;
    assert!(seen.url.contains("/.stepgate/login") && !ann.has_session("login.corp.example"), "{}", seen.url);
    gate.world.later(30);
    ann.signs_in("ann", &phone, None).await;
    assert!(ann.has_session("login.corp.example"));
    let late = link_of(&gate, &user).await;
    gate.world.later(8 * 3600 + 1);
    assert_eq!(gate.browser().get(&late).await.status, StatusCode::GONE);
}

#[tokio::test]
async fn s_enr_2_changing_factors_needs_evidence_of_the_last_ten_minutes() {
    let gate = Gate::new().await;
    let (user, phone) = gate.ann().await;
    let ann = gate.browser();
    ann.signs_in("ann", &phone, None).await;
    gate.world.later(600);
    for path in ["enroll/totp", "enroll/backup-codes"] {
        let seen = ann.open(&format!("{LOGIN}/.stepgate/{path}")).await;
        assert!(seen.url.contains("/.stepgate/step-up"), "{path}: {}", seen.url);
    }
    let account = ann.get(&format!("{LOGIN}/.stepgate/account")).await;
    let id = gate.world.auth.enrolled(user.id).await.unwrap().credentials[0].id.to_string();
    let seen = ann.submit(&account, "/.stepgate/account/factors", &[("remove", &id)]).await;
    assert!(seen.url.contains("/.stepgate/step-up"), "{}", seen.url);
    let seen = ann.submit(&account, CODES, &[("make", "1")]).await;
    assert!(seen.url.contains("/.stepgate/step-up"), "{}", seen.url);
    assert!(gate.world.auth.enrolled(user.id).await.unwrap().backup.is_none());
    // After the step-up it goes on where she was.
    let page = ann.open(&format!("{LOGIN}/.stepgate/enroll/totp")).await;
    let page = ann.submit(&page, "/.stepgate/step-up/totp", &[("code", &gate.world.code(&phone))]).await;
    assert!(page.url.contains("/.stepgate/enroll/totp?flow="), "{}", page.url);
    let other = gate.browser();
    gate.world.later(30);
    other.signs_in("ann", &phone, None).await;
    let before = ann.cookie("login.corp.example", NAME);
    let (seen, _) = scans_and_types(&gate, &ann, &page).await;
    assert!(seen.says("Save your backup codes"), "{}", seen.url);
    assert_ne!(ann.cookie("login.corp.example", NAME), before, "a new id (S-SESS-2)");
    let seen = other.open(&format!("{LOGIN}/.stepgate/account")).await;
    assert!(seen.url.contains("/.stepgate/login"), "her other sessions ended");
    assert_eq!(gate.world.auth.enrolled(user.id).await.unwrap().credentials.len(), 2);
}

#[tokio::test]
async fn s_enr_2_an_enrollment_ends_while_what_was_shown_for_it_is_fresh() {
    let gate = Gate::new().await;
    let (user, phone) = gate.ann().await;
    let ann = gate.browser();
    ann.signs_in("ann", &phone, None).await;
    gate.world.later(299);
    let page = ann.open(&format!("{LOGIN}/.stepgate/enroll/totp")).await;
    assert!(page.url.contains("flow="), "{}", page.url);
    gate.world.later(301);
    let (seen, _) = scans_and_types(&gate, &ann, &page).await;
    assert!(seen.url.contains("/.stepgate/step-up"), "{}", seen.url);
    let seen = ann.open(&page.url).await;
    assert!(seen.url.contains("/.stepgate/step-up"), "a reload buys no time: {}", seen.url);
    assert_eq!(gate.world.auth.enrolled(user.id).await.unwrap().credentials.len(), 1);
    gate.world.later(30);
    let eve = gate.browser();
    eve.signs_in("ann", &phone, None).await;
    gate.world.later(301);
    let seen = eve.open(&format!("{LOGIN}/.stepgate/enroll/totp")).await;
    assert!(seen.url.contains("/.stepgate/step-up"), "too late to begin: {}", seen.url);
}

#[tokio::test]
async fn s_sess_5_keys_and_codes_of_an_account_are_not_in_the_history_after_a_sign_out() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let browser = gate.browser();
    browser.signs_in("ann", &phone, None).await;
    let page = browser.get(&format!("{LOGIN}{CODES}")).await;
    let codes = browser.submit(&page, CODES, &[("make", "1")]).await;
    assert!(codes.says("Save your backup codes"), "{}", codes.url);
    let key = browser.open(&format!("{LOGIN}/.stepgate/enroll/totp")).await;
    let secret = scanned(&key).base32().expose().clone();
    let out = browser.get(&format!("{LOGIN}/.stepgate/logout")).await;
    browser.submit(&out, "/.stepgate/logout", &[]).await;
    let reads_nothing = async |who: &str| {
        for url in [&codes.url, &key.url] {
            let seen = browser.open(url).await;
            assert!(!seen.says("Save your backup codes") && !seen.body.contains(&secret), "{who} at {url}");
        }
    };
    reads_nothing("nobody").await;
    gate.world.later(30);
    browser.signs_in("ann", &phone, None).await;
    reads_nothing("ann, in another session").await;
    let out = browser.get(&format!("{LOGIN}/.stepgate/logout")).await;
    browser.submit(&out, "/.stepgate/logout", &[]).await;
    let (_, bobs) = gate.world.user_with_phone("bob").await;
    browser.signs_in("bob", &bobs, None).await;
    reads_nothing("bob").await;
}

#[tokio::test]
async fn s_sess_5_what_another_person_left_half_done_in_this_browser_ends_with_a_sign_in() {
    let gate = Gate::new().await;
    gate.world.user("ann").await;
    let browser = gate.browser();
    let page = browser.gives_password(None, "ann", PASSWORD).await;
    let (codes, _) = scans_and_types(&gate, &browser, &page).await;
    assert!(codes.says("Save your backup codes"), "{}", codes.url);
    let (_, bobs) = gate.world.user_with_phone("bob").await;
    browser.signs_in("bob", &bobs, None).await;
    let seen = browser.open(&codes.url).await;
    assert!(!seen.says("Save your backup codes"), "{}", seen.url);
}

#[tokio::test]
async fn s_sess_5_ending_all_sessions_ends_what_would_lead_to_a_new_one() {
    let gate = Gate::new().await;
    let user = gate.world.user("ann").await;
    let browser = gate.browser();
    let page = browser.gives_password(None, "ann", PASSWORD).await;
    let (codes, _) = scans_and_types(&gate, &browser, &page).await;
    gate.world.auth.end_other_sessions(&gate.world.visit(), &user, None).await.unwrap();
    let seen = browser.submit(&codes, CODES, &[("saved", "1")]).await;
    assert!(!browser.has_session("login.corp.example"), "{}", seen.url);
    assert_eq!(gate.live_sessions().await, 0);
}

#[tokio::test]
async fn the_last_way_to_sign_in_stays() {
    let gate = Gate::new().await;
    let (user, phone) = gate.ann().await;
    let ann = gate.browser();
    ann.signs_in("ann", &phone, None).await;
    let account = ann.get(&format!("{LOGIN}/.stepgate/account")).await;
    let id = gate.world.auth.enrolled(user.id).await.unwrap().credentials[0].id.to_string();
    ann.submit(&account, "/.stepgate/account/factors", &[("remove", &id)]).await;
    assert_eq!(gate.world.auth.enrolled(user.id).await.unwrap().credentials.len(), 1);
    gate.world.auth.operator_adds_totp(&gate.world.operator(), &gate.world.snapshot, &user, None).await.unwrap();
    let account = ann.get(&format!("{LOGIN}/.stepgate/account")).await;
    ann.submit(&account, "/.stepgate/account/factors", &[("remove", &id)]).await;
    let left = gate.world.auth.enrolled(user.id).await.unwrap().credentials;
    assert!(left.len() == 1 && left[0].id.to_string() != id);
}

#[tokio::test]
async fn a_key_that_lay_open_for_ten_minutes_is_replaced() {
    let gate = Gate::new().await;
    gate.world.user("ann").await;
    let ann = gate.browser();
    let page = ann.gives_password(None, "ann", PASSWORD).await;
    let again = ann.get(&page.url).await;
    assert_eq!(scanned(&page).to_bytes(), scanned(&again).to_bytes(), "a reload does not orphan the phone's entry");
    gate.world.later(601);
    let (seen, _) = scans_and_types(&gate, &ann, &page).await;
    assert!(seen.url.contains("/enroll/totp"), "{}", seen.url);
    assert_ne!(scanned(&seen).to_bytes(), scanned(&page).to_bytes());
}

#[tokio::test]
async fn s_enr_1_of_two_first_enrollments_at_once_the_first_to_commit_is_the_only_one() {
    let gate = Gate::new().await;
    let world = &gate.world;
    let user = world.user("ann").await;
    let (ann, thief) = (gate.browser(), gate.browser());
    let mut flows = Vec::new();
    for browser in [&ann, &thief] {
        let page = browser.gives_password(None, "ann", PASSWORD).await;
        let id = page.url.split("flow=").nth(1).unwrap().to_owned();
        let cookie = browser.cookie("login.corp.example", crate::auth::flow::FLOW_COOKIE).unwrap();
        let held = crate::auth::flow::Browser::from_cookie(&cookie).unwrap();
        // Both requests have read the account before either commits.
        flows.push((world.auth.flow(&world.visit(), held, &id).await.unwrap(), scanned(&page)));
    }
    let mut enrolled = Vec::new();
    for (flow, phone) in flows {
        let code = world.code(&phone);
        enrolled.push(
            world
                .auth
                .enroll_app(&world.visit(), flow, crate::domain::factor::FactorKind::Totp, &code, "phone", None)
                .await
                .is_ok(),
        );
    }
    assert_eq!(enrolled, [true, false]);
    assert_eq!(world.auth.enrolled(user.id).await.unwrap().credentials.len(), 1);
}

#[tokio::test]
async fn an_old_sign_up_link_is_worth_nothing_once_a_factor_is_enrolled() {
    let gate = Gate::new().await;
    let user = gate.world.user("ann").await;
    let url = link_of(&gate, &user).await;
    let ann = gate.browser();
    let page = ann.gives_password(None, "ann", PASSWORD).await;
    scans_and_types(&gate, &ann, &page).await;
    assert_eq!(gate.browser().get(&url).await.status, StatusCode::GONE);
}
