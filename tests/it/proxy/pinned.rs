//! Apps that sign in the connection (NTLM, Negotiate), as IIS does.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use super::world::{Answer, App, Client, HOST, Reply, World, eventually, ok, story, upstream};

/// Signs in a connection in three messages, and knows its person for as long as it lasts.
async fn iis(scheme: &'static str) -> App {
    let signed_in = RefCell::new(HashSet::new());
    App::start(move |seen| {
        let shown = seen.values("authorization").first().map(ToString::to_string);
        let challenge = |value: String| {
            Reply::Say(format!("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {value}\r\nContent-Length: 0\r\n\r\n"))
        };
        match shown.as_deref().and_then(|value| value.strip_prefix(scheme)) {
            Some(" one") => challenge(format!("{scheme} two")),
            Some(" three") => {
                signed_in.borrow_mut().insert(seen.connection);
                ok("hello alice")
            }
            _ if signed_in.borrow().contains(&seen.connection) => ok("hello alice"),
            _ => challenge(scheme.to_owned()),
        }
    })
    .await
}

async fn asks(client: &mut Client, fields: &str) -> Answer {
    client.write(&format!("GET /pub/x HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n")).await;
    client.answer(true).await
}

async fn signs_in(client: &mut Client, scheme: &str, fields: &str) {
    assert_eq!(asks(client, fields).await.values("www-authenticate"), [scheme]);
    let second = asks(client, &format!("Authorization: {scheme} one\r\n{fields}")).await;
    assert_eq!(second.values("www-authenticate"), [format!("{scheme} two")]);
    let third = asks(client, &format!("Authorization: {scheme} three\r\n{fields}")).await;
    assert_eq!((third.status, third.text().as_str()), (200, "hello alice"));
}

#[test]
fn s_up_6_a_connection_that_was_signed_in_serves_only_the_client_who_did() {
    story(async {
        for scheme in ["NTLM", "Negotiate"] {
            let world = World::of(iis(scheme).await, |_| {}).await;
            let mut alice = world.connect().await;
            signs_in(&mut alice, scheme, "").await;
            for _ in 0..3 {
                assert_eq!(asks(&mut alice, "").await.text(), "hello alice");
                assert_eq!(world.get("/pub/x", "").await.status, 401, "a stranger stays one");
            }
            let hers: HashSet<usize> = world
                .app
                .seen()
                .iter()
                .filter(|s| !s.values("authorization").is_empty())
                .map(|s| s.connection)
                .collect();
            assert_eq!(hers.len(), 1, "all three messages went over one connection");

            let mut bob = world.connect().await;
            signs_in(&mut bob, scheme, "").await;
            assert_eq!(asks(&mut alice, "").await.text(), "hello alice");
            assert_eq!(asks(&mut bob, "").await.text(), "hello alice");

            eventually(|| world.app.open() == 2).await;
            drop(alice);
            eventually(|| world.app.open() == 1).await;
            drop(bob);
            eventually(|| world.app.open() == 0).await;
            assert_eq!(world.get("/pub/x", "").await.status, 401);
        }
    });
}

#[test]
fn s_up_6_what_one_session_signed_in_is_not_the_next_ones_on_the_same_client_connection() {
    story(async {
        let world = World::of(iis("NTLM").await, |_| {}).await;
        let (ann, lee) = (world.signs_in("ann").await, world.signs_in("lee").await);
        let with = |cookie: &str| format!("Cookie: {cookie}\r\n");
        let mut balancer = world.connect().await;
        signs_in(&mut balancer, "NTLM", &with(&ann.cookie)).await;
        assert_eq!(asks(&mut balancer, &with(&ann.cookie)).await.status, 200);
        assert_eq!(asks(&mut balancer, &with(&lee.cookie)).await.status, 401);
        assert_eq!(asks(&mut balancer, &with(&ann.cookie)).await.status, 401, "it was closed");
        signs_in(&mut balancer, "NTLM", &with(&ann.cookie)).await;
        assert_eq!(asks(&mut balancer, "").await.status, 401, "nobody is not ann");
        signs_in(&mut balancer, "NTLM", &with(&ann.cookie)).await;
        world.ends(&ann).await;
        assert_eq!(asks(&mut balancer, &with(&ann.cookie)).await.status, 401);
    });
}

#[test]
fn s_up_6_a_reload_that_moves_the_app_leaves_the_old_connection_behind() {
    story(async {
        let world = World::of(iis("NTLM").await, |_| {}).await;
        let moved = App::start(|_| ok("moved")).await;
        let mut alice = world.connect().await;
        signs_in(&mut alice, "NTLM", "").await;
        world.reload(|route| route.upstream = Arc::new(upstream(&[moved.addr])));
        assert_eq!(asks(&mut alice, "").await.text(), "moved");
        eventually(|| world.app.open() == 0).await;
    });
}

#[test]
fn s_up_6_the_messages_of_one_sign_in_go_to_one_address_of_several() {
    story(async {
        let second = iis("NTLM").await;
        let first = iis("NTLM").await;
        let addrs = [first.addr, second.addr];
        let world = World::of(first, |route| route.upstream = Arc::new(upstream(&addrs))).await;
        for _ in 0..4 {
            let mut client = world.connect().await;
            signs_in(&mut client, "NTLM", "").await;
            assert_eq!(asks(&mut client, "").await.status, 200);
        }
        assert!(!world.app.seen().is_empty() && !second.seen().is_empty());
    });
}
