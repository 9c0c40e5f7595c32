//! Can the way back after sign-in lead anywhere but to an app of ours?
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use stepgate::auth::return_to::{ReturnTo, fragment, is_target};
use stepgate::base::clock::Timestamp;
use stepgate::base::rng::SeededRng;
use stepgate::config::{Purpose as For, Snapshot, from_text};
use stepgate::crypto::{KeyRing, Purpose};
use stepgate_fuzz::split;

const NOW: i64 = 1_795_000_000;
static KEYS: LazyLock<KeyRing> = LazyLock::new(|| KeyRing::ephemeral(&*SeededRng::new(7)));
static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let text = "version: 1\nlisten: [{ addr: \"127.0.0.1:8080\", role: proxy }]\nportal: { host: login.example, title: T }\n\
                apps: [{ app: wiki, hosts: [app.example, \"app.example:8443\"], upstream: { urls: [\"http://127.0.0.1:9\"] } }]\n";
    from_text(text, Path::new("."), For::Check).expect("a configuration").0
});

/// Host and target of somebody's making, in the form of today.
fn wire(host: &str, target: &str) -> String {
    let wire = serde_json::json!({
        "h": host, "s": true, "p": target, "a": "wiki", "r": "default", "l": "mfa", "f": "none",
        "n": "A".repeat(43), "t": Timestamp::from_secs(NOW),
    });
    KEYS.seal_token(Purpose::ReturnTo, wire.to_string().as_bytes())
}

/// A form of yesterday is refused whatever it says: then nothing here would be tried.
static IS_OF_TODAY: LazyLock<bool> = LazyLock::new(|| {
    let sealed = wire("app.example", "/x?y");
    ReturnTo::open(&KEYS, &sealed, Timestamp::from_secs(NOW), &SNAPSHOT.routes).is_ok()
});

fuzz_target!(|data: &[u8]| {
    assert!(*IS_OF_TODAY);
    let Some(([how], text)) = split(data) else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    match how % 4 {
        0 => check(text),
        // Under the seal may stand whatever an older or newer gate wrote there.
        1 => check(&KEYS.seal_token(Purpose::ReturnTo, text.as_bytes())),
        2 => {
            let (host, target) = text.split_once('\n').unwrap_or(("app.example", text));
            check(&wire(host, target));
        }
        _ => {
            if let Some(end) = fragment(text) {
                let location = format!("https://app.example/x#{end}");
                let location = http::HeaderValue::from_str(&location).expect("a field's value");
                assert!(location.as_bytes().iter().all(|b| b.is_ascii_graphic()));
            }
            assert!(!is_target(text) || text.starts_with('/'));
        }
    }
});

fn check(sealed: &str) {
    let now = Timestamp::from_secs(NOW);
    let Ok(back) = ReturnTo::open(&KEYS, sealed, now, &SNAPSHOT.routes) else { return };
    assert!(matches!(back.host.as_str(), "app.example" | "app.example:8443"));
    let target = back.path_and_query.as_str();
    assert!(target.starts_with('/') && !target.starts_with("//") && !target.starts_with("/\\"), "{target:?}");
    assert!(target.bytes().all(|b| b.is_ascii_graphic()), "{target:?}");
    // A browser ends the authority at any of these, and finds no userinfo before it.
    let address = format!("{}{target}", back.origin());
    let (_, behind) = address.split_once("://").expect("an origin");
    let authority = behind.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    assert_eq!(authority, back.host.as_str());
    // Sealed again it says the same.
    assert_eq!(ReturnTo::open(&KEYS, &back.seal(&KEYS), now, &SNAPSHOT.routes).as_ref(), Ok(&back));
}
