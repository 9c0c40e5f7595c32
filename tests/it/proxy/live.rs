//! What runs on after its request was judged: event streams, downloads, WebSockets, and their end.

use std::sync::Arc;
use std::time::Duration;

use stepgate::domain::upstream::Upstream;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

use super::world::{App, Client, HOST, Person, Reply, World, eventually, level, needs, ok, policy, rule, soon, story};

const KEY: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

const NAVIGATES: &str = "Sec-Fetch-Mode: navigate\r\nAccept: text/html\r\n";

async fn echoing() -> World {
    World::of(
        App::start(|seen| if seen.values("upgrade").is_empty() { ok("plain") } else { Reply::Echo }).await,
        |_| {},
    )
    .await
}

async fn opens(world: &World, fields: &str) -> (u16, Client) {
    let mut client = world.connect().await;
    client.write(&format!("GET /socket HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n")).await;
    let head = client.head().await;
    (head.split(' ').nth(1).unwrap().parse().unwrap(), client)
}

fn socket(person: &Person, origin: &str) -> String {
    format!("{KEY}Cookie: {}\r\n{origin}", person.cookie)
}

const OWN: &str = "Origin: https://app.example\r\n";

#[test]
fn s_ws_1_a_socket_opens_only_for_pages_of_this_host() {
    story(async {
        let world = echoing().await;
        let ann = world.signs_in("ann").await;
        assert_eq!(opens(&world, &socket(&ann, OWN)).await.0, 101);
        for other in [
            "",
            "Origin: https://evil.example\r\n",
            "Origin: https://sibling.example\r\n",
            "Origin: http://app.example\r\n",
            "Origin: https://app.example:8443\r\n",
            "Origin: https://APP.example\r\n",
            "Origin: null\r\n",
            "Origin: https://app.example\r\nOrigin: https://evil.example\r\n",
        ] {
            assert_eq!(opens(&world, &socket(&ann, other)).await.0, 403, "{other}");
        }
        assert_eq!(opens(&world, &format!("{KEY}{OWN}")).await.0, 401, "nobody is signed in");
        world.reload(|route| {
            route.websocket_origins = vec!["https://sibling.example".into()];
            route.policy = policy(vec![rule("open", "/socket", &[], super::world::public())]);
        });
        assert_eq!(opens(&world, &socket(&ann, "Origin: https://sibling.example\r\n")).await.0, 101);
        assert_eq!(opens(&world, KEY).await.0, 101, "a public socket, no cookie, no browser");
    });
}

#[test]
fn s_frame_11_no_other_upgrade_and_no_other_version() {
    story(async {
        let world = echoing().await;
        let ann = world.signs_in("ann").await;
        let fields = socket(&ann, OWN);
        assert_eq!(opens(&world, &fields.replace("Version: 13", "Version: 12")).await.0, 426);
        assert_eq!(opens(&world, &fields.replace("dGhlIHNhbXBsZSBub25jZQ==", "short")).await.0, 400);
        let before = world.app.seen().len();
        for named in ["Upgrade, Sec-WebSocket-Key", "sec-websocket-version, upgrade"] {
            let named = fields.replace("Connection: Upgrade", &format!("Connection: {named}"));
            assert_eq!(opens(&world, &named).await.0, 400, "the app would get a handshake without it");
        }
        assert_eq!(world.app.seen().len(), before);
        let h2c = fields.replace("Upgrade: websocket", "Upgrade: h2c") + "HTTP2-Settings: AAMAAABk\r\n";
        assert_eq!(opens(&world, &h2c).await.0, 200, "carried as the plain request that it also is");
        let seen = world.app.last();
        assert_eq!(world.app.seen().len(), before + 1);
        assert!(seen.values("upgrade").is_empty() && seen.values("http2-settings").is_empty());
        assert!(seen.values("connection").is_empty());
    });
}

#[test]
fn s_frame_11_a_handshake_with_a_body_opens_nothing() {
    story(async {
        let world = World::of(App::start(|_| Reply::Echo).await, |route| {
            route.upstream = Arc::new(Upstream { get_body: true, ..(*route.upstream).clone() });
        })
        .await;
        let ann = world.signs_in("ann").await;
        for body in ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"] {
            let mut client = world.connect().await;
            let fields = socket(&ann, OWN);
            client.write(&format!("GET /socket HTTP/1.1\r\nHost: {HOST}\r\n{fields}{body}")).await;
            let refused = String::from_utf8(client.until_closed().await).unwrap();
            assert!(
                refused.starts_with("HTTP/1.1 400 "),
                "what stands behind the head would be in the tunnel: {refused}"
            );
        }
        assert!(world.app.seen().is_empty());
    });
}

#[test]
fn s_frame_11_a_101_that_does_not_match_opens_nothing() {
    story(async {
        let app = App::start(|_| {
            Reply::Say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n".into())
        })
        .await;
        let world = World::of(app, |_| {}).await;
        let ann = world.signs_in("ann").await;
        assert_eq!(opens(&world, &socket(&ann, OWN)).await.0, 502);
    });
}

/// A frame of a client, mask of zeros.
fn frame(text: &str) -> Vec<u8> {
    let mut out = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0];
    out.extend_from_slice(text.as_bytes());
    out
}

async fn echoes(client: &mut Client, text: &str) {
    client.stream.write_all(&frame(text)).await.unwrap();
    let expected = frame(text);
    soon(async {
        while client.buffer.len() < expected.len() {
            tokio::io::AsyncReadExt::read_buf(&mut client.stream, &mut client.buffer).await.unwrap();
        }
    })
    .await;
    assert_eq!(client.buffer.drain(..).collect::<Vec<u8>>(), expected);
}

#[test]
fn s_ws_2_a_socket_ends_with_its_session_and_says_why() {
    story(async {
        let world = echoing().await;
        let ann = world.signs_in("ann").await;
        let (status, mut client) = opens(&world, &socket(&ann, OWN)).await;
        assert_eq!(status, 101);
        echoes(&mut client, "hello").await;
        eventually(|| world.metrics.render().contains("tunnels_open{app=\"wiki\"} 1")).await;
        world.ends(&ann).await;
        // A close frame, two bytes: 1008, policy violation.
        assert_eq!(client.until_closed().await, [0x88, 2, 0x03, 0xf0]);
        eventually(|| world.metrics.render().contains("tunnels_open{app=\"wiki\"} 0")).await;
        assert_eq!(world.shared.live.count(), 0);
    });
}

#[test]
fn s_ws_2_a_reload_that_would_deny_ends_what_runs_and_nothing_else() {
    story(async {
        let world = echoing().await;
        let ann = world.signs_in("ann").await;
        let (_, mut client) = opens(&world, &socket(&ann, OWN)).await;
        echoes(&mut client, "before").await;
        // Old evidence alone is no reason: the policy is the same as when the socket was opened.
        world.clock.advance(Duration::from_secs(11 * 3600));
        world.reload(|route| route.title = "Another title".into());
        echoes(&mut client, "after").await;
        world.reload(|route| route.policy = policy(vec![rule("now", "/socket", &[], needs(&level("fresh", 2, 10)))]));
        assert_eq!(client.until_closed().await, [0x88, 2, 0x03, 0xf0]);
    });
}

#[test]
fn a_stopping_gate_sends_sockets_away_kindly() {
    story(async {
        let world = echoing().await;
        let ann = world.signs_in("ann").await;
        let (_, mut client) = opens(&world, &socket(&ann, OWN)).await;
        echoes(&mut client, "hello").await;
        world.shared.live.close_tunnels();
        assert_eq!(client.until_closed().await, [0x88, 2, 0x03, 0xe9]);
        let (status, mut late) = opens(&world, &socket(&ann, OWN)).await;
        assert_eq!(status, 101);
        assert_eq!(late.until_closed().await, [0x88, 2, 0x03, 0xe9], "its handshake was under way");
    });
}

#[test]
fn s_lim_1_the_32nd_socket_of_a_session_opens_and_the_33rd_does_not() {
    story(async {
        let world = echoing().await;
        let ann = world.signs_in("ann").await;
        let mut held = Vec::new();
        for _ in 0..32 {
            let (status, client) = opens(&world, &socket(&ann, OWN)).await;
            assert_eq!(status, 101);
            held.push(client);
        }
        assert_eq!(opens(&world, &socket(&ann, OWN)).await.0, 429);
        let bob = world.signs_in("bob").await;
        assert_eq!(opens(&world, &socket(&bob, OWN)).await.0, 101, "another session has its own");
        held.pop();
        // Bob's is closed again as well.
        eventually(|| world.shared.live.count() == 31).await;
        assert_eq!(opens(&world, &socket(&ann, OWN)).await.0, 101);
    });
}

#[test]
fn s_lim_1_a_silent_socket_ends_at_its_idle_limit() {
    story(async {
        let app = App::start(|_| Reply::Echo).await;
        let world = World::of(app, |route| route.tunnel_idle = Duration::from_millis(50)).await;
        let ann = world.signs_in("ann").await;
        let (_, mut client) = opens(&world, &socket(&ann, OWN)).await;
        assert_eq!(client.until_closed().await, [0x88, 2, 0x03, 0xe9]);
    });
}

fn streaming() -> (impl Fn() -> mpsc::UnboundedSender<Vec<u8>>, impl Future<Output = App>) {
    let slot = std::rc::Rc::new(std::cell::RefCell::new(None));
    let given = std::rc::Rc::clone(&slot);
    let app = App::start(move |_| {
        let (sender, receiver) = mpsc::unbounded_channel();
        *given.borrow_mut() = Some(sender);
        Reply::Stream(receiver)
    });
    (move || slot.borrow_mut().take().expect("the app was asked"), app)
}

const EVENTS: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";

#[test]
fn s_ws_2_an_event_stream_flows_at_once_and_ends_with_its_session() {
    story(async {
        let (sender, app) = streaming();
        let world = World::of(app.await, |_| {}).await;
        let ann = world.signs_in("ann").await;
        let mut client = world.connect().await;
        client.write(&format!("GET /events HTTP/1.1\r\nHost: {HOST}\r\nCookie: {}\r\n\r\n", ann.cookie)).await;
        eventually(|| !world.app.seen().is_empty()).await;
        let sender = sender();
        sender.send(EVENTS.to_vec()).unwrap();
        assert!(client.head().await.contains("text/event-stream"));
        for piece in ["data: 2\n\n", "data: 3\n\n"] {
            sender.send(format!("9\r\n{piece}\r\n").into_bytes()).unwrap();
            soon(async {
                while !String::from_utf8_lossy(&client.buffer).contains(piece) {
                    tokio::io::AsyncReadExt::read_buf(&mut client.stream, &mut client.buffer).await.unwrap();
                }
            })
            .await;
        }
        assert_eq!(world.shared.live.count(), 1);
        world.ends(&ann).await;
        let rest = client.until_closed().await;
        assert!(!rest.ends_with(b"0\r\n\r\n"), "cut, not finished");
        // The app's side is closed as well.
        eventually(|| sender.send(b"9\r\ndata: 4\n\n\r\n".to_vec()).is_err()).await;
        assert_eq!(world.shared.live.count(), 0);
    });
}

#[test]
fn s_ws_2_a_stream_that_begins_after_a_reload_is_judged_by_the_new_policy() {
    story(async {
        let (sender, app) = streaming();
        let world = World::of(app.await, |_| {}).await;
        let ann = world.signs_in("ann").await;
        let mut client = world.connect().await;
        client
            .write(&format!("GET /events HTTP/1.1\r\nHost: {HOST}\r\n{NAVIGATES}Cookie: {}\r\n\r\n", ann.cookie))
            .await;
        eventually(|| !world.app.seen().is_empty()).await;
        world.reload(|route| route.policy = policy(vec![rule("now", "/events", &[], needs(&level("fresh", 2, 10)))]));
        let sender = sender();
        sender.send(EVENTS.to_vec()).unwrap();
        let answer = client.answer(true).await;
        assert_eq!(answer.status, 403);
        assert!(answer.text().contains("The rules of this app were changed"), "{}", answer.text());
        assert!(!answer.text().contains("data: 1"));
        eventually(|| sender.send(b"9\r\ndata: 4\n\n\r\n".to_vec()).is_err()).await;
    });
}

#[test]
fn s_ws_2_a_download_ends_with_its_session_however_fast_it_is() {
    story(async {
        let (sender, app) = streaming();
        let world = World::of(app.await, |_| {}).await;
        let ann = world.signs_in("ann").await;
        let mut client = world.connect().await;
        client.write(&format!("GET /iso HTTP/1.1\r\nHost: {HOST}\r\nCookie: {}\r\n\r\n", ann.cookie)).await;
        eventually(|| !world.app.seen().is_empty()).await;
        let sender = sender();
        sender.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n".to_vec()).unwrap();
        sender.send(vec![b'x'; 1 << 20]).unwrap();
        client.head().await;
        world.ends(&ann).await;
        for _ in 0..20 {
            let _ = sender.send(vec![b'x'; 1 << 20]);
        }
        let got = client.until_closed().await.len();
        assert!(got < 20 << 20, "{got} bytes came after the end");
    });
}

#[test]
fn an_answer_that_comes_after_the_session_ended_is_not_shown() {
    story(async {
        let (sender, app) = streaming();
        let world = World::of(app.await, |_| {}).await;
        let ann = world.signs_in("ann").await;
        let mut client = world.connect().await;
        client.write(&format!("GET /poll HTTP/1.1\r\nHost: {HOST}\r\n{NAVIGATES}Cookie: {}\r\n\r\n", ann.cookie)).await;
        eventually(|| !world.app.seen().is_empty()).await;
        world.ends(&ann).await;
        sender().send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret".to_vec()).unwrap();
        let answer = client.answer(true).await;
        assert_eq!(answer.status, 401);
        assert!(!answer.text().contains("secret"));
        assert!(answer.text().contains("Your sign-in ended while the app was still at work"), "{}", answer.text());
    });
}

#[test]
fn s_ws_2_an_upload_ends_with_its_session_also_while_the_client_is_silent() {
    story(async {
        let world = World::plain().await;
        let ann = world.signs_in("ann").await;
        let mut client = world.connect().await;
        let head = format!(
            "POST /upload HTTP/1.1\r\nHost: {HOST}\r\nCookie: {}\r\nContent-Length: 1000000\r\n\r\nfirst",
            ann.cookie
        );
        client.write(&head).await;
        // Connected to, so judged; the app waits for the rest of the body.
        eventually(|| world.app.connections() == 1).await;
        world.ends(&ann).await;
        let answer = client.answer(true).await;
        assert_eq!(answer.status, 401);
        eventually(|| !world.app.seen().is_empty()).await;
        assert!(!world.app.last().whole, "the app never takes it for whole");
    });
}

#[test]
fn s_ws_2_a_request_that_the_app_holds_ends_with_its_session_and_with_a_reload_that_would_deny() {
    story(async {
        let world = World::of(App::start(|_| Reply::Hang).await, |_| {}).await;
        let ann = world.signs_in("ann").await;
        let poll = format!("GET /poll HTTP/1.1\r\nHost: {HOST}\r\nCookie: {}\r\n\r\n", ann.cookie);
        for by_reload in [true, false] {
            let mut client = world.connect().await;
            client.write(&poll).await;
            eventually(|| world.app.open() == 1).await;
            if by_reload {
                world.reload(|route| {
                    route.policy = policy(vec![rule("now", "/poll", &[], needs(&level("fresh", 2, 10)))]);
                });
                assert_eq!(client.answer(true).await.status, 403);
                world.reload(|_| {});
            } else {
                world.ends(&ann).await;
                assert_eq!(client.answer(true).await.status, 401);
            }
            // The app's side is closed as well.
            eventually(|| world.app.open() == 0).await;
            assert_eq!(world.shared.live.count(), 0);
        }
    });
}
