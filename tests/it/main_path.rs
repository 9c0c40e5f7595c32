//! The main job: meet the gate, sign in with password and code, reach the app that knows who it
//! is, be asked for more where the policy says so.

use std::process::Command;
use std::time::Duration;

use stepgate::domain::audit::Action;
use stepgate::store::AuditFilter;

use crate::harness::World;

const RULES: &str = r#"
identity: { headers: [remote-user], assertion: true }
allow: [group:staff]
require: mfa
rules:
  - { name: assets, match: { path: /static/** }, allow: [anyone], require: none }
  - { name: payments, match: { path: /payments/** }, require: fresh }
  - { name: closed, match: { path: /closed/** }, deny: "Closed for stocktaking." }
"#;

#[test]
fn a_person_signs_in_and_the_app_knows_who_it_is() {
    let world = World::new().app(RULES).start();
    let ann = world.add_person("ann", &["staff"]);
    let mut browser = world.browser();

    let page = browser.open("http://app.test/page/7?tab=2");
    assert!(page.url.starts_with("http://login.test/.stepgate/login"), "{}", page.url);
    assert!(world.backend.received().is_empty(), "a stranger's request reached the app");

    let page = world.sign_in(&mut browser, &ann, "http://app.test/page/7?tab=2");
    assert_eq!((page.url.as_str(), page.reply.status), ("http://app.test/page/7?tab=2", 200), "{}", page.reply.text());
    let got = world.backend.received_one();
    assert_eq!(got.line, "GET /page/7?tab=2 HTTP/1.1");
    assert_eq!(got.one("remote-user"), "ann");
    assert_eq!(got.one("remote-groups"), "staff");
    assert_eq!(got.one("remote-email"), "ann@corp.example");
    assert_eq!(got.one("host"), "app.test");
    assert!(!got.one("x-stepgate-assertion").is_empty());
}

#[test]
fn a_program_gets_401_and_never_a_redirect() {
    let world = World::new().app(RULES).start();
    let reply = world.program().get("http://app.test/api");
    assert_eq!(reply.status, 401);
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    assert!(reply.json()["login_url"].as_str().unwrap().starts_with("http://login.test/.stepgate/login"));
    assert!(reply.header("www-authenticate").is_some() && reply.header("location").is_none());
}

#[test]
fn a_public_path_needs_nobody_and_a_closed_one_says_why() {
    let world = World::new().app(RULES).start();
    let mut browser = world.browser();
    assert_eq!(browser.get("http://app.test/static/app.css").status, 200);
    assert_eq!(world.backend.received_one().one("remote-user"), "");

    let reply = browser.get("http://app.test/closed/x");
    assert_eq!(reply.status, 403);
    assert!(reply.text().contains("Closed for stocktaking."), "{}", reply.text());
}

#[test]
fn the_reference_on_the_page_of_a_refusal_tells_the_service_desk_what_it_was() {
    let world = World::new().app(RULES).start();
    let ann = world.add_person("ann", &["staff"]);
    let mut browser = world.browser();
    world.sign_in(&mut browser, &ann, "http://app.test/page/7");
    let reply = browser.get("http://app.test/closed/2026%20list?for=somebody");
    assert_eq!(reply.status, 403);
    let text = reply.text();
    let reference = text.split_once("id=\"ref\">").unwrap().1.split('<').next().unwrap();

    // Rows are written behind the answer.
    let store = world.gate().core().store.clone();
    let filter = AuditFilter { action: Some(Action::AccessDeny), ..AuditFilter::default() };
    let written = async {
        while store.audit_tail(&filter, 1).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    world.on_background(async { tokio::time::timeout(Duration::from_secs(20), written).await.unwrap() });

    let config = world.app_file().with_file_name("../stepgate.yaml");
    for asked in [reference.to_owned(), reference[..8].to_uppercase()] {
        let mut desk = Command::new(env!("CARGO_BIN_EXE_stepgate"));
        let out = desk.args(["audit", "tail", "--request", &asked, "--config"]).arg(&config).output().unwrap();
        let shown = String::from_utf8(out.stdout).unwrap();
        let facts = [
            "who        ann",
            "asked for  GET /closed/2026%20list",
            "app        wiki",
            "rule       closed",
            "was told   Closed for stocktaking.",
            &format!("reference  {reference}"),
        ];
        for fact in facts {
            assert!(shown.lines().any(|line| line.trim() == fact), "{fact} is missing: {shown}");
        }
        assert!(!shown.contains("somebody"), "values of a query are nobody's to read (S-LOG-1): {shown}");
    }
}

/// Chromium and WebKit hold the sign-in page's `form-action` against the whole chain of redirects.
#[test]
fn the_chain_of_redirects_behind_the_sign_in_ends_before_the_app() {
    let world = World::new().app(RULES).start();
    let ann = world.add_person("ann", &["staff"]);
    let mut browser = world.browser();
    browser.headers.push(("sec-fetch-mode".into(), "navigate".into()));
    let page = world.sign_in(&mut browser, &ann, "http://app.test/page/7?tab=2");
    assert!(page.url.starts_with("http://app.test/.stepgate/handover?"), "{}", page.url);
    assert_eq!(page.reply.status, 200);
    assert!(page.reply.text().contains("content=\"0; url=http://app.test/page/7?tab=2\""), "{}", page.reply.text());
    assert_eq!(browser.get("http://app.test/page/7?tab=2").status, 200, "the cookie came with it");
}

#[test]
fn a_hardened_app_takes_changes_from_its_own_pages_alone() {
    let public = "rules: [{ match: { path: /** }, allow: [anyone], require: none }]";
    let cross = [("sec-fetch-site", "cross-site"), ("origin", "http://evil.test")];
    let own = [("sec-fetch-site", "same-origin"), ("origin", "http://app.test")];
    for (harden, status) in [("off", 200), ("report_only", 200), ("enforce", 403)] {
        let world = World::new().app(&format!("harden: {harden}\n{public}")).start();
        let mut browser = world.browser();
        let form = Some(&b"a=1"[..]);
        assert_eq!(browser.request("POST", "http://app.test/save", &cross, form).status, status, "{harden}");
        assert_eq!(browser.request("POST", "http://app.test/save", &own, form).status, 200, "{harden}");
        for site in ["cross-site", "same-site"] {
            let at_odds = [("sec-fetch-site", site), ("origin", "http://app.test")];
            let reply = browser.request("POST", "http://app.test/save", &at_odds, form);
            assert_eq!(reply.status, status, "{harden}: {site} is the browser's own word, whatever Origin says");
        }
        let page = browser.request("GET", "http://app.test/", &cross, None);
        assert_eq!(page.status, 200, "{harden}: a link from elsewhere is no harm");
        let hardened = page.header("x-content-type-options") == Some("nosniff");
        assert_eq!(hardened, harden == "enforce", "{harden}: {:?}", page.headers);
        assert_eq!(world.backend.received().len(), if status == 403 { 2 } else { 5 }, "{harden}");
    }
}
