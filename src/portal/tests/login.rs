//! From a stranger to a session: name and password, and everything that must not help a stranger.

use std::sync::Arc;

use http::{Method, StatusCode};

use super::{Gate, LOGIN, PAYROLL};
use crate::auth::flow::FLOW_COOKIE;
use crate::auth::test_world::{PASSWORD, snapshot};
use crate::base::secret::Secret;

#[tokio::test]
async fn ann_signs_in_and_arrives_at_the_page_that_she_wanted() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let ann = gate.browser();
    ann.sent_from_payroll("nonce");
    let rd = gate.rd("/runs/7?view=all", "mfa", "nonce");
    let page = ann.get(&format!("{LOGIN}/.stepgate/login?rd={rd}")).await;
    assert!(page.says("payroll.corp.example"), "the app heads the page");
    let fields = [("username", "ann"), ("password", PASSWORD), ("fragment", "#part-2")];
    let page = ann.submit(&page, "/.stepgate/login", &fields).await;
    assert!(page.url.contains("/.stepgate/login/totp?flow="), "{}", page.url);
    let code = gate.world.code(&phone);
    let seen = ann.submit(&page, "/.stepgate/login/totp", &[("code", &code)]).await;
    assert_eq!(seen.location().as_deref(), Some("https://payroll.corp.example/runs/7?view=all#part-2"));
    assert!(ann.has_session("login.corp.example") && ann.has_session(PAYROLL));
    assert_ne!(
        ann.cookie("login.corp.example", crate::session::cookie::NAME),
        ann.cookie(PAYROLL, crate::session::cookie::NAME),
        "each host has an id of its own"
    );
    let trail = gate.world.trail().await.join("\n");
    for part in ["password_verify", "factor_verify", "sign_in", "\"app\":\"payroll\""] {
        assert!(trail.contains(part), "{part} is missing in the trail");
    }
    assert!(!trail.contains(&code) && !trail.contains(PASSWORD));
}

#[tokio::test]
async fn the_next_app_needs_no_question() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let ann = gate.browser();
    ann.signs_in("ann", &phone, None).await;
    ann.sent_from_payroll("nonce");
    let rd = gate.rd("/", "mfa", "nonce");
    let seen = ann.open(&format!("{LOGIN}/.stepgate/login?rd={rd}")).await;
    assert_eq!(seen.location().as_deref(), Some("https://payroll.corp.example/"));
    assert!(ann.has_session(PAYROLL));
}

#[tokio::test]
async fn parallel_tabs_of_one_browser_each_finish_their_own_way() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let ann = gate.browser();
    ann.sent_from_payroll("nonce");
    let first = ann.gives_password(Some(&gate.rd("/one", "mfa", "nonce")), "ann", PASSWORD).await;
    let second = ann.gives_password(Some(&gate.rd("/two", "mfa", "nonce")), "ann", PASSWORD).await;
    let seen = ann.submit(&second, "/.stepgate/login/totp", &[("code", &gate.world.code(&phone))]).await;
    assert_eq!(seen.location().as_deref(), Some("https://payroll.corp.example/two"));
    gate.world.later(30);
    let seen = ann.submit(&first, "/.stepgate/login/totp", &[("code", &gate.world.code(&phone))]).await;
    assert_eq!(seen.location().as_deref(), Some("https://payroll.corp.example/one"));
}

#[tokio::test]
async fn without_a_portal_the_app_host_serves_the_same_pages() {
    let gate = Gate::with(snapshot(false)).await;
    let (_, phone) = gate.ann().await;
    let ann = gate.browser();
    let rd = gate.rd("/runs/7", "mfa", "");
    let page = ann.get(&format!("https://{PAYROLL}/.stepgate/login?rd={rd}")).await;
    let page = ann.submit(&page, "/.stepgate/login", &[("username", "ann"), ("password", PASSWORD)]).await;
    let seen = ann.submit(&page, "/.stepgate/login/totp", &[("code", &gate.world.code(&phone))]).await;
    assert_eq!(seen.location().as_deref(), Some("https://payroll.corp.example/runs/7"));
    assert!(ann.has_session(PAYROLL));
}

#[tokio::test]
async fn s_login_1_every_no_looks_and_costs_the_same() {
    let gate = Gate::new().await;
    gate.ann().await;
    let off = gate.world.user("bob").await;
    gate.world.auth.set_enabled(&gate.world.operator(), &off, false).await.unwrap();
    let draft = crate::auth::users::Draft {
        name: crate::domain::user::UserName::parse("eve").unwrap(),
        display: String::new(),
        email: None,
        groups: Vec::new(),
    };
    let link = crate::auth::users::FirstPassword::ByLink;
    gate.world.auth.add_user(&gate.world.operator(), &gate.world.snapshot, draft, link).await.unwrap();
    let stranger = gate.browser();
    let page = stranger.get(&format!("{LOGIN}/.stepgate/login")).await;
    let mut answers = Vec::new();
    // Known and wrong, disabled and right, without a password, unknown, no name at all.
    for (name, password) in
        [("ann", "wrong wrong"), ("bob", PASSWORD), ("eve", PASSWORD), ("zoe", PASSWORD), ("a,b", "x")]
    {
        let before = gate.world.auth.passwords.hashes_run();
        let seen = stranger.send_form(&page, "/.stepgate/login", &[("username", name), ("password", password)]).await;
        assert_eq!(gate.world.auth.passwords.hashes_run(), before + 1, "{name}: another amount of work");
        answers.push((
            seen.status,
            format!("{:?}", seen.headers),
            seen.without_question().replace(&format!("\"{name}\""), "\"NAME\""),
        ));
    }
    assert_eq!(answers[0].0, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answers[0].2.contains("Name and password do not match"));
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:#?}");
}

#[tokio::test]
async fn s_login_1_a_pause_comes_for_names_that_nobody_has_just_as_for_real_ones() {
    let gate = Gate::new().await;
    gate.ann().await;
    let mut answers = Vec::new();
    for (name, address) in [("ann", "203.0.113.1"), ("zoe", "203.0.113.2")] {
        let mut stranger = gate.browser();
        stranger.address = address.to_owned();
        stranger.set_cookie("login.corp.example", FLOW_COOKIE, &"A".repeat(43));
        let page = stranger.get(&format!("{LOGIN}/.stepgate/login")).await;
        let mut statuses = Vec::new();
        for _ in 0..6 {
            let fields = [("username", name), ("password", "wrong wrong")];
            let seen = stranger.send_form(&page, "/.stepgate/login", &fields).await;
            statuses.push(seen.status.as_u16());
            if seen.status == StatusCode::TOO_MANY_REQUESTS {
                assert!(seen.says("Too many tries"));
                let body = seen.without_question().replace(&format!("\"{name}\""), "\"NAME\"");
                answers.push((format!("{:?}", seen.headers), body));
            }
        }
        assert_eq!(statuses, [422, 422, 422, 422, 422, 429]);
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn s_login_2_of_fifty_guesses_at_once_no_more_are_checked_than_the_limit() {
    let gate = Gate::new().await;
    gate.ann().await;
    let stranger = gate.browser();
    let page = stranger.get(&format!("{LOGIN}/.stepgate/login")).await;
    let csrf = page.hidden().remove(0).1;
    let before = gate.world.auth.passwords.hashes_run();
    let guesses = (0..50).map(|n| {
        let guess = format!("guess number {n}");
        let fields = [("csrf", csrf.as_str()), ("username", "ann"), ("password", guess.as_str())];
        let request = stranger.request(Method::POST, &format!("{LOGIN}/.stepgate/login"), &fields);
        tokio::spawn(Arc::clone(&gate.portal).handle(request))
    });
    let answers = futures_util::future::join_all(guesses).await;
    let checked = answers.iter().filter(|a| a.as_ref().unwrap().status() == StatusCode::UNPROCESSABLE_ENTITY).count();
    assert_eq!(gate.world.auth.passwords.hashes_run() - before, checked as u64);
    assert_eq!(checked, 5, "five are free, then each waits");
}

#[tokio::test]
async fn s_login_3_one_guess_on_each_of_forty_accounts_is_stopped_by_the_address() {
    let gate = Gate::new().await;
    let mut sprayer = gate.browser();
    sprayer.address = "2001:db8::1".to_owned();
    let page = sprayer.get(&format!("{LOGIN}/.stepgate/login")).await;
    let mut checked = 0;
    for n in 0..40 {
        // A subscriber has a whole /64 to choose from.
        sprayer.address = format!("2001:db8::{n:x}");
        let fields = [("username", format!("user{n}")), ("password", "Spring2026!".to_owned())];
        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let seen = sprayer.send_form(&page, "/.stepgate/login", &fields).await;
        checked += usize::from(seen.status == StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(checked, 30);
}

#[tokio::test]
async fn s_login_3_a_right_password_clears_its_own_counter_only() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let ann = gate.browser();
    for round in 0..4 {
        let page = ann.get(&format!("{LOGIN}/.stepgate/login")).await;
        for _ in 0..4 {
            let seen =
                ann.send_form(&page, "/.stepgate/login", &[("username", "ann"), ("password", "no no no no")]).await;
            assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY, "round {round}");
        }
        let page = ann.gives_password(None, "ann", PASSWORD).await;
        assert!(page.url.contains("/login/totp"), "round {round}: {}", page.url);
        let wrong = gate.world.wrong_code(&phone);
        let seen = ann.submit(&page, "/.stepgate/login/totp", &[("code", &wrong)]).await;
        assert_eq!(seen.status, StatusCode::UNPROCESSABLE_ENTITY, "the codes' budget is one for all rounds");
        assert!(seen.says(&format!("{} tries left", 4 - round)) || round == 3, "{}", seen.body);
    }
}

#[tokio::test]
async fn s_login_4_one_strangers_storm_closes_the_sign_in_to_nobody_else() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let mut stranger = gate.browser();
    stranger.address = "198.51.100.66".to_owned();
    let page = stranger.get(&format!("{LOGIN}/.stepgate/login")).await;
    let rows = gate.world.trail().await.len();
    for n in 0..700 {
        let name = format!("user{n}");
        stranger.send_form(&page, "/.stepgate/login", &[("username", &name), ("password", "wrong wrong")]).await;
    }
    let written = gate.world.trail().await.len() - rows;
    assert!(written <= 31, "{written} rows: thirty checks and one refusal (S-LIM-3)");
    let mut ann = gate.browser();
    ann.address = "203.0.113.77".to_owned();
    ann.signs_in("ann", &phone, None).await;
    assert!(ann.has_session("login.corp.example"), "from a device that the gate never saw");
}

#[tokio::test]
async fn s_login_4_one_line_with_many_addresses_is_stopped_before_everybody_is() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let mut line = gate.browser();
    let page = line.get(&format!("{LOGIN}/.stepgate/login")).await;
    let mut checked = 0;
    for n in 0..256 {
        // A home line holds a /56: 256 networks of the size that an address is counted by.
        line.address = format!("2001:db8:7:{n:x}::1");
        let name = format!("user{n}");
        let fields = [("username", name.as_str()), ("password", "wrong wrong")];
        let seen = line.send_form(&page, "/.stepgate/login", &fields).await;
        checked += usize::from(seen.status == StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(checked, 60, "a tenth of what all have together");
    let ann = gate.browser();
    ann.signs_in("ann", &phone, None).await;
    assert!(ann.has_session("login.corp.example"));
}

#[tokio::test]
async fn s_login_4_a_paused_account_does_not_use_up_its_office() {
    let gate = Gate::new().await;
    gate.ann().await;
    let (_, bobs) = gate.world.user_with_phone("bob").await;
    let office = gate.browser();
    let page = office.get(&format!("{LOGIN}/.stepgate/login")).await;
    for _ in 0..60 {
        office.send_form(&page, "/.stepgate/login", &[("username", "ann"), ("password", "wrong wrong")]).await;
    }
    let bob = gate.browser();
    bob.signs_in("bob", &bobs, None).await;
    assert!(bob.has_session("login.corp.example"));
}

#[tokio::test]
async fn s_login_1_every_spelling_of_a_name_has_one_counter_whether_somebody_has_it_or_not() {
    let gate = Gate::new().await;
    gate.world.user_with_phone("zo\u{eb}").await;
    let mut answers = Vec::new();
    for (composed, decomposed) in [("zo\u{eb}", "zoe\u{308}"), ("no\u{eb}", "noe\u{308}")] {
        let stranger = gate.browser();
        let page = stranger.get(&format!("{LOGIN}/.stepgate/login")).await;
        for _ in 0..5 {
            stranger.send_form(&page, "/.stepgate/login", &[("username", composed), ("password", "no no no")]).await;
        }
        let fields = [("username", decomposed), ("password", "no no no")];
        answers.push(stranger.send_form(&page, "/.stepgate/login", &fields).await.status);
    }
    assert_eq!(answers, [StatusCode::TOO_MANY_REQUESTS; 2]);
}

#[tokio::test]
async fn s_sess_5_an_old_password_that_was_right_a_moment_ago_opens_nothing() {
    let gate = Gate::new().await;
    let world = &gate.world;
    let (user, _) = gate.ann().await;
    let browser = gate.browser();
    browser.get(&format!("{LOGIN}/.stepgate/login")).await;
    let cookie = browser.cookie("login.corp.example", FLOW_COOKIE).unwrap();
    let held = crate::auth::flow::Browser::from_cookie(&cookie).unwrap();
    let old = Secret::new(PASSWORD.to_owned());
    let device = crate::auth::device::Device::default();
    let answer = world.auth.verify_password(&world.visit(), "ann", &old, &device).await.unwrap();
    let crate::auth::password::Answer::Right(proof) = answer else { panic!("it is right") };
    // Between the check and the commit.
    let new = Secret::new("another long password".to_owned());
    world.auth.set_password(&world.operator(), &world.snapshot, &user, &new).await.unwrap();
    let host = super::host("login.corp.example");
    let seat = crate::auth::sign_in::Seat {
        host: &host,
        replaces: None,
        browser: Some(held),
        device: None,
        put_off: false,
        remembered: None,
        remember: false,
    };
    let next = world.auth.after_password(&world.visit(), held, proof, Default::default(), seat).await;
    assert!(matches!(next, Err(crate::auth::AuthError::Raced)), "start over");
}

#[tokio::test]
async fn s_login_4_a_strangers_failures_do_not_lock_the_owner_out() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let ann = gate.browser();
    ann.signs_in("ann", &phone, None).await;
    let mut stranger = gate.browser();
    let page = stranger.get(&format!("{LOGIN}/.stepgate/login")).await;
    for n in 0..60_u32 {
        stranger.address = format!("198.51.100.{}", n % 250);
        stranger.send_form(&page, "/.stepgate/login", &[("username", "ann"), ("password", "wrong wrong")]).await;
        gate.world.later(if n < 12 { 120 } else { 1 });
    }
    let seen = stranger.send_form(&page, "/.stepgate/login", &[("username", "ann"), ("password", PASSWORD)]).await;
    assert_eq!(seen.status, StatusCode::TOO_MANY_REQUESTS, "from elsewhere the account is closed");
    ann.forget_cookie("login.corp.example", crate::session::cookie::NAME);
    let page = ann.gives_password(None, "ann", PASSWORD).await;
    assert!(page.url.contains("/login/totp"), "her own device goes on: {}", page.status);
}

#[tokio::test]
async fn s_login_5_a_form_counts_only_from_our_page_in_this_browser() {
    let gate = Gate::new().await;
    gate.ann().await;
    let url = format!("{LOGIN}/.stepgate/login");
    let mallory = gate.browser();
    let token = mallory.get(&url).await.hidden().remove(0).1;
    let victim = gate.browser();
    let credentials = [("username", "ann"), ("password", PASSWORD)];
    // Neither Origin nor Sec-Fetch-Site is sent in any of these.
    let seen = victim.post(&url, &credentials).await;
    assert_eq!(seen.status, StatusCode::BAD_REQUEST, "no cookie yet");
    let page = victim.get(&url).await;
    for csrf in ["", token.as_str(), "AAAA"] {
        let seen = victim.send_form(&page, "/.stepgate/login", &[credentials[0], credentials[1], ("csrf", csrf)]).await;
        assert_eq!(seen.status, StatusCode::BAD_REQUEST, "{csrf:?}");
        assert!(seen.headers.get("location").is_none());
    }
    for said in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site")]
    {
        let mut victim = gate.browser();
        let page = victim.get(&url).await;
        victim.extra.push(said);
        let seen = victim.send_form(&page, "/.stepgate/login", &credentials).await;
        assert_eq!(seen.status, StatusCode::FORBIDDEN, "{said:?}");
    }
    assert_eq!(gate.world.auth.passwords.hashes_run(), 1, "only the account's own; nothing was checked");
}

#[tokio::test]
async fn s_login_7_the_way_back_leads_only_to_what_the_gate_sealed() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let ann = gate.browser();
    ann.signs_in("ann", &phone, None).await;
    let long = "x".repeat(10_240);
    for evil in [
        "//evil.example",
        "/%5Cevil.example",
        "https:evil.example",
        "https://evil.example/",
        "/%0d%0aLocation:%20x",
        "javascript:alert(1)",
        "%09//evil.example",
        "https://login.corp.example@evil.example/",
        &long,
        "~evil",
    ] {
        for page in ["login", "step-up"] {
            let seen = ann.get(&format!("{LOGIN}/.stepgate/{page}?rd={evil}")).await;
            assert_eq!(seen.status, StatusCode::BAD_REQUEST, "{page} {evil:.40}");
            assert!(seen.headers.get("location").is_none());
        }
    }
}

#[tokio::test]
async fn s_login_9_app_hosts_serve_no_page_of_the_portal() {
    let gate = Gate::new().await;
    let browser = gate.browser();
    for page in
        ["login", "login/totp", "step-up", "account", "account/password", "enroll", "enroll/totp", "logout/everywhere"]
    {
        let seen = browser.get(&format!("https://{PAYROLL}/.stepgate/{page}")).await;
        assert_eq!(seen.status, StatusCode::NOT_FOUND, "{page}");
    }
    let mut script = gate.browser();
    script.extra.extend([("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")]);
    for page in ["handover?code=x", "logout", "signed-out"] {
        let seen = script.get(&format!("https://{PAYROLL}/.stepgate/{page}")).await;
        assert_eq!(seen.status, StatusCode::FORBIDDEN, "{page}");
    }
    assert_eq!(script.get(&format!("https://{PAYROLL}/.stepgate/jwks.json")).await.status, StatusCode::OK);
    assert_eq!(script.get(&format!("https://{PAYROLL}/.stepgate/static/app.css")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn s_login_11_a_full_hashing_pool_says_when_to_come_again() {
    let gate = Gate::new().await;
    let mut browser = gate.browser();
    let page = browser.get(&format!("{LOGIN}/.stepgate/login")).await;
    let csrf = page.hidden().remove(0).1;
    let mut requests = Vec::new();
    for n in 0..200 {
        browser.address = format!("198.18.{n}.1");
        let name = format!("user{n}");
        let fields = [("csrf", csrf.as_str()), ("username", name.as_str()), ("password", "wrong wrong")];
        requests.push(browser.request(Method::POST, &format!("{LOGIN}/.stepgate/login"), &fields));
    }
    let storm = requests.into_iter().map(|request| tokio::spawn(Arc::clone(&gate.portal).handle(request)));
    let answers = futures_util::future::join_all(storm).await;
    let mut busy = 0;
    for answer in answers {
        let answer = answer.unwrap();
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            busy += 1;
            assert!(answer.headers().contains_key("retry-after"));
        } else {
            assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
        }
    }
    assert!(busy > 0, "200 at once are more than the queue holds");
}

#[tokio::test]
async fn s_login_12_a_store_that_is_away_denies_every_step() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let ann = gate.browser();
    let code_page = ann.gives_password(None, "ann", PASSWORD).await;
    let login_page = ann.get(&format!("{LOGIN}/.stepgate/login?switch=1")).await;
    ann.sent_from_payroll("nonce");
    gate.world.auth.store.close().await;
    let code = gate.world.code(&phone);
    let seen = [
        ann.send_form(&login_page, "/.stepgate/login", &[("username", "ann"), ("password", PASSWORD)]).await,
        ann.send_form(&code_page, "/.stepgate/login/totp", &[("code", &code)]).await,
        ann.get(&code_page.url).await,
        ann.get(&format!("{LOGIN}/.stepgate/enroll?code=x")).await,
        ann.get(&format!("https://{PAYROLL}/.stepgate/handover?code=x")).await,
    ];
    for seen in seen {
        assert_eq!(seen.status, StatusCode::SERVICE_UNAVAILABLE, "{}", seen.url);
        assert!(seen.headers.contains_key("retry-after") && seen.says("Sign-in is not possible right now"));
    }
    assert!(!ann.has_session("login.corp.example") && !ann.has_session(PAYROLL));
}

#[tokio::test]
async fn the_pages_speak_the_language_that_the_browser_wishes() {
    let gate = Gate::new().await;
    gate.ann().await;
    let mut ann = gate.browser();
    ann.extra.push(("accept-language", "de, fr-CA;q=0.9, en;q=0.5"));
    let page = ann.get(&format!("{LOGIN}/.stepgate/login")).await;
    assert!(page.says("Nom d’utilisateur") && page.says("lang=\"fr\""), "{}", page.body);
    let code = ann.gives_password(None, "ann", PASSWORD).await;
    assert!(code.says("Saisissez le code de votre application"), "{}", code.body);
}

#[tokio::test]
async fn s_log_2_a_password_typed_as_a_name_is_not_in_the_trail() {
    let gate = Gate::new().await;
    let ann = gate.browser();
    ann.gives_password(None, "my-secret-passphrase", "ann").await;
    let trail = gate.world.trail().await.join("\n");
    assert!(trail.contains("name_hash") && !trail.contains("my-secret-passphrase"), "{trail}");
}

/// S-LOGIN-13: what the notice of a sign-in goes by.
#[tokio::test]
async fn s_login_13_a_new_browser_and_a_new_network_are_news_and_the_same_ones_are_not() {
    let gate = Gate::new().await;
    let (_, phone) = gate.ann().await;
    let mut laptop = gate.browser();
    for address in ["192.0.2.7", "192.0.2.200", "198.51.100.9", "198.51.100.9", "2001:db8:1:2::7", "2001:db8:1:9::7"] {
        laptop.address = address.to_owned();
        gate.world.later(30);
        laptop.signs_in("ann", &phone, None).await;
        laptop.forget_cookie("login.corp.example", crate::session::cookie::NAME);
    }
    let mut other = gate.browser();
    other.address = "192.0.2.7".to_owned();
    gate.world.later(30);
    other.signs_in("ann", &phone, None).await;
    let rows = gate.world.trail().await;
    let sign_ins: Vec<Option<String>> = rows
        .iter()
        .map(|row| serde_json::from_str::<serde_json::Value>(row).unwrap())
        .filter(|row| row["action"] == "sign_in")
        .map(|row| row["unfamiliar"].as_str().map(str::to_owned))
        .collect();
    let told: Vec<&str> = sign_ins.iter().map(|what| what.as_deref().unwrap_or("-")).collect();
    assert_eq!(told, ["device", "-", "place", "-", "place", "-", "device"]);
}
