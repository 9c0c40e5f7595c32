//! What the app is told about the person, and that nobody else can tell it.

use stepgate::domain::route::{HeaderEncoding, IdentityValue};

use super::world::{App, HOST, World, ok, remote_user, story};

const CORPUS: &str = include_str!("../../corpus/identity-headers.txt");

fn listed() -> Vec<String> {
    let lines = CORPUS.lines().filter(|l| !l.is_empty() && !l.starts_with(['#', '[']));
    lines.map(|l| l.replace('*', "x")).collect()
}

#[test]
fn s_id_1_no_listed_field_of_a_client_reaches_the_app() {
    story(async {
        let world = World::plain().await;
        let ann = world.signs_in("ann").await;
        let signed_in = format!("Cookie: {}\r\n", ann.cookie);
        let socket = "Origin: https://app.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        for (path, cookie) in
            [("/pub/x", String::new()), ("/page", signed_in.clone()), ("/socket", format!("{signed_in}{socket}"))]
        {
            for names in listed().chunks(20) {
                for spell in
                    [str::to_owned, |n: &str| n.replace('-', "_"), |n: &str| n.replace('-', "."), str::to_uppercase]
                {
                    let fields: String = names.iter().map(|n| format!("{}: mallory\r\n", spell(n))).collect();
                    assert_eq!(world.get(path, &format!("{cookie}{fields}{fields}")).await.status, 200);
                    let head = world.app.last().head;
                    assert!(!head.contains("mallory"), "{head}");
                }
            }
        }
    });
}

#[test]
fn s_id_2_names_that_back_ends_fold_do_not_reach_the_app() {
    story(async {
        let world = World::plain().await;
        world.get("/pub/x", "Remote_User: mallory\r\nRemote.User: mallory\r\nX~User: mallory\r\nApi_Key: 1\r\n").await;
        let head = world.app.last().head.to_ascii_lowercase();
        assert!(!head.contains("mallory") && !head.contains("api_key"), "{head}");
    });
}

#[test]
fn s_id_3_an_injected_field_cannot_be_named_away() {
    story(async {
        let world = World::plain().await;
        let ann = world.signs_in("ann").await;
        let named = "Connection: close, Remote-User, X-Forwarded-For, X-Forwarded-Host, Cookie, X-Odd\r\nX-Odd: 1\r\n";
        world.get("/page", &format!("{named}Cookie: a=1; {}\r\n", ann.cookie)).await;
        let seen = world.app.last();
        assert_eq!(seen.values("remote-user"), ["ann"]);
        assert_eq!(seen.values("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(seen.values("x-forwarded-host"), [HOST]);
        assert_eq!(seen.values("cookie"), ["a=1"]);
        assert!(seen.values("x-odd").is_empty());
    });
}

#[test]
fn s_id_4_every_field_exactly_once_and_empty_where_nothing_is_known() {
    story(async {
        let world = World::plain().await;
        let ann = world.signs_in_as("ann", &["staff", "leads"], None).await;
        let said = "Remote-User: root\r\nRemote-Email: root@x\r\nRemote-Email: root@y\r\n";
        world.get("/page", &format!("{said}Cookie: {}\r\n", ann.cookie)).await;
        let seen = world.app.last();
        assert_eq!(seen.values("remote-user"), ["ann"]);
        assert_eq!(seen.values("remote-groups"), ["staff,leads"]);
        assert_eq!(seen.values("remote-name"), ["ann Example"]);
        assert_eq!(seen.values("remote-email"), [""]);
        world.get("/pub/x", said).await;
        for name in ["remote-user", "remote-groups", "remote-name", "remote-email"] {
            assert_eq!(world.app.last().values(name), [""], "{name}");
        }
        world.get("/pub/x", &format!("Cookie: {}\r\n", ann.cookie)).await;
        assert_eq!(world.app.last().values("remote-user"), ["ann"], "known on a public path");
    });
}

#[test]
fn s_id_5_names_are_written_as_the_app_reads_them() {
    story(async {
        for (encoding, expected) in [
            (HeaderEncoding::Utf8, "Zoë"),
            (HeaderEncoding::Percent, "Zo%C3%AB"),
            (HeaderEncoding::Rfc8187, "UTF-8''Zo%C3%AB"),
        ] {
            let app = App::start(|_| ok("ok")).await;
            let world = World::of(app, |route| route.identity.encoding = encoding).await;
            let zoe = world.signs_in("Zoë").await;
            world.get_as(&zoe, "/page").await;
            assert_eq!(world.app.last().values("remote-user"), [expected]);
        }
    });
}

/// Where groups are given, a comma is refused; a dialect may have a separator of its own.
#[test]
fn s_id_5_a_group_that_would_read_as_two_is_left_out() {
    story(async {
        let app = App::start(|_| ok("ok")).await;
        let world = World::of(app, |route| {
            let header = http::HeaderName::from_static("x-groups-of-app");
            route.identity.headers = vec![(header, IdentityValue::Groups { separator: ' ' })];
        })
        .await;
        let ann = world.signs_in_as("ann", &["staff", "x admin", "leads"], None).await;
        world.get_as(&ann, "/page").await;
        assert_eq!(world.app.last().values("x-groups-of-app"), ["staff leads"]);
    });
}

#[test]
fn s_id_6_the_assertion_is_ours_signed_for_this_app_and_minted_anew_at_half_its_life() {
    story(async {
        let app = App::start(|_| ok("ok")).await;
        let world = World::of(app, |route| {
            route.identity = remote_user();
            route.identity.assertion = true;
        })
        .await;
        let ann = world.signs_in("ann").await;
        let mut tokens = Vec::new();
        for advance in [0, 29, 1] {
            world.clock.advance(std::time::Duration::from_secs(advance));
            world.get("/page", &format!("X-Stepgate-Assertion: forged\r\nCookie: {}\r\n", ann.cookie)).await;
            let sent = world.app.last().values("x-stepgate-assertion").join("|");
            tokens.push(sent);
        }
        assert_eq!(tokens[0], tokens[1]);
        assert_ne!(tokens[1], tokens[2]);
        let payload = tokens[0].split('.').nth(1).unwrap();
        let claims: serde_json::Value =
            serde_json::from_slice(&data_encoding::BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap()).unwrap();
        assert_eq!((claims["aud"].as_str(), claims["acr"].as_str()), (Some("wiki"), Some("password")));
        assert_eq!(
            (claims["iss"].as_str(), claims["sub"].as_str()),
            (Some("https://login.example"), Some(&*ann.user.to_string()))
        );
        assert!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap() <= 60);
        world.get("/pub/x", "X-Stepgate-Assertion: forged\r\n").await;
        assert!(world.app.last().values("x-stepgate-assertion").is_empty());
    });
}

#[test]
fn s_id_8_our_cookies_reach_no_app() {
    story(async {
        let world = World::plain().await;
        let ann = world.signs_in("ann").await;
        let fields = format!(
            "Cookie: theme=dark; {}; __HOST-HTTP-stepgate-nonce=n\r\nCookie: lang=de; __Host-Http-stepgate-device=d\r\n",
            ann.cookie
        );
        assert_eq!(world.get("/page", &fields).await.status, 200);
        let seen = world.app.last();
        assert_eq!(seen.values("cookie"), ["theme=dark; lang=de"]);
        assert!(!seen.head.to_ascii_lowercase().contains("stepgate"), "{}", seen.head);
    });
}
