//! How a request travels: one framing, the judged path, pooled connections, honest failures.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use stepgate::domain::upstream::Upstream;
use tokio::io::AsyncWriteExt;

use super::world::{App, Client, HOST, Reply, World, eventually, ok, soon, story, upstream};

#[test]
fn s_path_1_the_app_gets_the_bytes_that_were_judged() {
    story(async {
        let world = World::plain().await;
        for (sent, received) in [
            ("/pub/a?x=%2f&y#z", "/pub/a?x=%2f&y"),
            ("/pub/%61", "/pub/a"),
            ("/pub/%7euser/%c3%ab", "/pub/~user/%C3%AB"),
            ("/pub/a?", "/pub/a?"),
            ("/%70ub/a?q=1", "/pub/a?q=1"),
            ("http://app.example/pub/a?q", "/pub/a?q"),
        ] {
            assert_eq!(world.get(sent, "").await.status, 200, "{sent}");
            assert_eq!(world.app.last().line(), format!("GET {received} HTTP/1.1"));
        }
    });
}

#[test]
fn the_app_sees_the_public_host_and_who_asked() {
    story(async {
        let world = World::plain().await;
        world.get("/pub/x", "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n").await;
        let seen = world.app.last();
        assert_eq!(seen.values("host"), [HOST]);
        assert_eq!(seen.values("x-forwarded-proto"), ["https"]);
        assert_eq!(seen.values("x-forwarded-port"), ["443"]);
        assert_eq!(seen.values("x-real-ip"), ["127.0.0.1"]);
        assert!(seen.values("forwarded").is_empty());
        assert_eq!(seen.values("via").len(), 1);
        let app = App::start(|_| ok("ok")).await;
        let own = app.addr.to_string();
        let world = World::of(app, |route| {
            let upstream = (*route.upstream).clone();
            route.upstream = Arc::new(Upstream { preserve_host: false, ..upstream });
        })
        .await;
        world.get("/pub/x", "").await;
        assert_eq!(world.app.last().values("host"), [own.as_str()]);
    });
}

#[test]
fn s_frame_1_one_framing_and_the_same_body() {
    story(async {
        let world = World::plain().await;
        world.ask("POST /pub/x", "Content-Length: 5\r\n", "hello").await;
        let seen = world.app.last();
        assert_eq!((seen.values("content-length"), seen.body.as_slice()), (vec!["5"], &b"hello"[..]));
        assert!(seen.values("transfer-encoding").is_empty());

        world
            .ask("POST /pub/x", "Transfer-Encoding: chunked\r\n", "5;ext=1\r\nhello\r\n0\r\nRemote-User: x\r\n\r\n")
            .await;
        let seen = world.app.last();
        assert_eq!(
            (seen.values("transfer-encoding"), seen.body.as_slice()),
            (vec!["chunked"], &b"5\r\nhello\r\n0\r\n\r\n"[..])
        );
        assert!(seen.values("content-length").is_empty());

        world.ask("POST /pub/x", "Content-Length: 0\r\n", "").await;
        assert_eq!(world.app.last().values("content-length"), ["0"]);
        world.get("/pub/x", "").await;
        assert!(world.app.last().values("content-length").is_empty());
    });
}

#[test]
fn s_frame_3_6_7_what_can_be_read_in_two_ways_is_refused() {
    story(async {
        let world = World::plain().await;
        let chunks = "1\r\nx\r\n0\r\n\r\n";
        for (line, fields, body, status) in [
            ("POST /pub/x", "Transfer-Encoding: gzip, chunked\r\n", chunks, 501),
            ("POST /pub/x", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunks, 501),
            ("GET /pub/x", "Content-Length: 3\r\n", "abc", 400),
            ("GET /pub/x", "Transfer-Encoding: chunked\r\n", chunks, 400),
            ("POST /pub/x", "Expect: 100-continue, x\r\nContent-Length: 1\r\n", "x", 417),
            ("TRACE /pub/x", "", "", 405),
        ] {
            assert_eq!(world.ask(line, fields, body).await.status, status, "{line} {fields}");
        }
        assert!(world.app.seen().is_empty());
        assert_eq!(world.ask("POST /pub/x", "Expect: 100-continue\r\nContent-Length: 1\r\n", "x").await.status, 100);
        eventually(|| world.app.seen().len() == 1).await;
        assert!(world.app.last().values("expect").is_empty());
    });
}

/// An app that ignores the body of a GET reads it as the next request, and its answer would be the next
/// client's.
#[test]
fn s_frame_6_an_app_that_reads_bodies_of_gets_is_asked_each_on_a_connection_of_its_own() {
    story(async {
        let world = World::plain().await;
        world.reload(|route| {
            let upstream = (*route.upstream).clone();
            route.upstream = Arc::new(Upstream { get_body: true, ..upstream });
        });
        for (fields, body, framing) in [
            ("Content-Length: 34\r\n", "GET /canary HTTP/1.1\r\nHost: a\r\nX: ", "content-length"),
            ("Transfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n", "transfer-encoding"),
        ] {
            for method in ["GET", "HEAD"] {
                assert_eq!(world.ask(&format!("{method} /pub/x"), fields, body).await.status, 200);
                let seen = world.app.last();
                assert_eq!((seen.values(framing).len(), seen.body.as_slice()), (1, body.as_bytes()));
                assert_eq!(world.get("/pub/next", "").await.status, 200);
                let next = world.app.last();
                assert_eq!(next.line(), "GET /pub/next HTTP/1.1");
                assert_ne!(next.connection, seen.connection, "{method} {fields}");
            }
        }
    });
}

#[test]
fn s_frame_4_a_body_that_breaks_off_is_never_finished_for_the_app() {
    story(async {
        let world = World::plain().await;
        for (fields, part) in [
            ("Content-Length: 10\r\n", "hello"),
            ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n5x\r\nhello\r\n0\r\n\r\n"),
        ] {
            let mut client = world.connect().await;
            client.write(&format!("POST /pub/x HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n{part}")).await;
            let before = world.app.seen().len();
            client.stream.shutdown().await.unwrap();
            eventually(|| world.app.seen().len() > before).await;
            assert!(!world.app.last().whole, "{fields}");
        }
    });
}

#[test]
fn connections_are_used_again_and_s_frame_8_only_clean_ones() {
    story(async {
        let app = App::start(|_| ok("ok")).await;
        let world = World::of(app, |route| Arc::make_mut(&mut route.upstream).reads_bodies = true).await;
        for _ in 0..3 {
            world.get("/pub/x", "").await;
            world.ask("POST /pub/x", "Content-Length: 2\r\n", "hi").await;
        }
        assert_eq!(world.app.connections(), 1, "one connection served all six");

        // The answer to a poisoned request carries a second answer for whoever comes next.
        let app = App::start(|seen| {
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
            Reply::Say(if seen.line().contains("evil") { format!("{answer}{poison}") } else { answer.into() })
        })
        .await;
        let world = World::of(app, |_| {}).await;
        world.get("/pub/evil", "").await;
        let next = world.get("/pub/next", "").await;
        assert_eq!(next.text(), "ok");
        assert_eq!(world.app.last().connection, 1, "on a connection of its own");
    });
}

#[test]
fn s_frame_8_an_early_answer_leaves_its_connection_behind() {
    story(async {
        let app = App::start(|_| ok("ok")).await;
        // Answers each head at once, whatever body is still to come.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let early: SocketAddr = listener.local_addr().unwrap();
        let count = std::rc::Rc::new(Cell::new(0));
        let accepted = std::rc::Rc::clone(&count);
        let late = std::rc::Rc::new(Cell::new(0));
        let late_bytes = std::rc::Rc::clone(&late);
        tokio::task::spawn_local(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                accepted.set(accepted.get() + 1);
                let mut head = [0; 4096];
                let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut head).await;
                stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
                // What comes behind an answer, until nothing more can come.
                let late = std::rc::Rc::clone(&late_bytes);
                held.push(tokio::task::spawn_local(async move {
                    let mut rest = [0; 4096];
                    while let Ok(1..) = tokio::io::AsyncReadExt::read(&mut stream, &mut rest).await {
                        late.set(late.get() + 1);
                    }
                    late.set(late.get() + 1);
                }));
            }
        });
        let world = World::of(app, |route| route.upstream = Arc::new(upstream(&[early]))).await;
        let mut slow = world.connect().await;
        slow.write(&format!("POST /pub/x HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100\r\n\r\nbegin")).await;
        assert_eq!(slow.answer(true).await.status, 403);
        // Late, and whole: now the connection looks like any that is ready for the next request.
        let _ = slow.write(&"x".repeat(95)).await;
        eventually(|| late.get() > 0).await;
        assert_eq!(world.get("/pub/y", "").await.status, 403);
        assert_eq!(count.get(), 2, "nobody gets the connection whose app may take a body for a request");
    });
}

#[test]
fn s_frame_8_a_form_that_was_refused_leaves_its_connection_behind_too() {
    story(async {
        let app = App::start(|_| ok("ok")).await;
        // Refuses whatever comes, and reads of a body only what came with its head.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refuses: SocketAddr = listener.local_addr().unwrap();
        let count = std::rc::Rc::new(Cell::new(0));
        let accepted = std::rc::Rc::clone(&count);
        tokio::task::spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                accepted.set(accepted.get() + 1);
                tokio::task::spawn_local(async move {
                    let mut head = [0; 4096];
                    while let Ok(1..) = tokio::io::AsyncReadExt::read(&mut stream, &mut head).await {
                        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
                    }
                });
            }
        });
        let world = World::of(app, |route| {
            route.upstream = Arc::new(Upstream { reads_bodies: true, ..upstream(&[refuses]) });
        })
        .await;
        assert_eq!(world.get("/pub/a", "").await.status, 403);
        let form = "GET /pub/admin HTTP/1.1\r\nX: ";
        let fields = format!("Content-Length: {}\r\n", form.len());
        assert_eq!(world.ask("POST /pub/x", &fields, form).await.status, 403);
        assert_eq!(count.get(), 1, "without a body, any answer leaves the connection as it was");
        assert_eq!(world.get("/pub/y", "").await.status, 403);
        assert_eq!(count.get(), 2, "what was left of the form would be read before this request (CL.0)");
    });
}

#[test]
fn s_frame_8_what_an_app_leaves_unread_of_a_form_is_no_request() {
    story(async {
        // As Python's http.server: answers a form by its head, and takes what follows for the next request.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let careless: SocketAddr = listener.local_addr().unwrap();
        let lines = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let seen = std::rc::Rc::clone(&lines);
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = std::rc::Rc::clone(&seen);
                tokio::task::spawn_local(async move {
                    let mut stream = tokio::io::BufReader::new(stream);
                    loop {
                        let (mut head, mut close) = (Vec::new(), false);
                        loop {
                            let mut line = String::new();
                            if tokio::io::AsyncBufReadExt::read_line(&mut stream, &mut line).await.unwrap_or(0) == 0 {
                                return;
                            }
                            close |= line.eq_ignore_ascii_case("connection: close\r\n");
                            if line == "\r\n" {
                                break;
                            }
                            head.push(line);
                        }
                        seen.borrow_mut().push(head[0].trim_end().to_owned());
                        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                        if close {
                            return;
                        }
                    }
                });
            }
        });
        let app = App::start(|_| ok("ok")).await;
        let world = World::of(app, |route| {
            route.upstream = Arc::new(Upstream { get_body: true, ..upstream(&[careless]) });
        })
        .await;
        let forged = "GET /pub/secret HTTP/1.1\r\nRemote-User: root\r\nX: ";
        let whole = format!("{forged}\r\n\r\n");
        for (method, fields) in [
            ("POST", ""),
            ("POST", "Content-Type: application/octet-stream\r\n"),
            ("PUT", "Authorization: NTLM TlRMTVNTUAAB\r\n"),
            ("GET", ""),
            ("DELETE", ""),
        ] {
            for body in [forged, &whole] {
                let fields = format!("{fields}Content-Length: {}\r\n", body.len());
                assert_eq!(world.ask(&format!("{method} /pub/form"), &fields, body).await.status, 200);
                let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
                let answer =
                    world.ask(&format!("{method} /pub/form"), "Transfer-Encoding: chunked\r\n", &chunked).await;
                assert_eq!(answer.status, 200);
                assert_eq!(world.get("/pub/next", "").await.status, 200);
            }
        }
        let asked = lines.borrow();
        assert_eq!(asked.len(), 5 * 2 * 3);
        assert!(asked.iter().all(|line| line.contains(" /pub/form ") || line == "GET /pub/next HTTP/1.1"), "{asked:?}");
    });
}

#[test]
fn s_frame_9_only_a_bodyless_get_is_tried_again_and_only_once() {
    story(async {
        // Every connection answers once, and dies on its second request.
        let seen = std::rc::Rc::new(Cell::new((usize::MAX, 0)));
        let app = App::start(move |request| {
            let (connection, answered) = seen.get();
            let answered = if connection == request.connection { answered } else { 0 };
            seen.set((request.connection, answered + 1));
            if answered == 0 { ok("ok") } else { Reply::Vanish }
        })
        .await;
        let world = World::of(app, |route| Arc::make_mut(&mut route.upstream).reads_bodies = true).await;
        assert_eq!(world.get("/pub/1", "").await.status, 200);
        assert_eq!(world.get("/pub/2", "").await.status, 200, "tried again on a fresh connection");
        assert_eq!(world.app.seen().len(), 3);
        let post = world.ask("POST /pub/3", "Content-Length: 1\r\n", "x").await;
        assert_eq!(post.status, 502);
        assert_eq!(world.app.seen().len(), 4, "a POST arrives once, whatever became of it");
    });
}

#[test]
fn s_up_7_an_app_that_fails_is_named_honestly_and_without_its_address() {
    story(async {
        let answers_of = |reply: fn() -> Reply| async move {
            let app = App::start(move |_| reply()).await;
            let world = World::of(app, |route| {
                let mut upstream = (*route.upstream).clone();
                upstream.first_byte_timeout = Duration::from_millis(50);
                route.upstream = Arc::new(upstream);
            })
            .await;
            let port = world.app.addr.port().to_string();
            let problem = world.get("/pub/x", "").await;
            let page = world.get("/pub/x", "Sec-Fetch-Mode: navigate\r\n").await;
            assert_eq!(page.status, problem.status);
            for text in [problem.text(), page.text()] {
                assert!(!text.contains(&port) && !text.contains("127.0.0.1"), "{text}");
            }
            assert!(problem.json()["reference"].is_string());
            problem.status
        };
        assert_eq!(answers_of(|| Reply::Vanish).await, 502);
        assert_eq!(answers_of(|| Reply::Hang).await, 504);
        assert_eq!(answers_of(|| Reply::SayAndClose("no HTTP at all\r\n\r\n".into())).await, 502);
        const ODD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n";
        assert_eq!(answers_of(|| Reply::Say(ODD.into())).await, 502);
        const UNASKED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n";
        assert_eq!(answers_of(|| Reply::Say(UNASKED.into())).await, 502);

        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let app = App::start(|_| ok("ok")).await;
        let live = app.addr;
        let world = World::of(app, |route| route.upstream = Arc::new(upstream(&[closed]))).await;
        assert_eq!(world.get("/pub/x", "").await.status, 502);
        world.reload(|route| route.upstream = Arc::new(upstream(&[closed, live])));
        assert_eq!(world.get("/pub/x", "").await.status, 200, "the next address takes it");
    });
}

#[test]
fn s_lim_1_a_body_at_the_limit_passes_and_one_byte_more_does_not() {
    story(async {
        let app = App::start(|_| ok("ok")).await;
        let world = World::of(app, |route| route.limits.max_body = 100).await;
        let send = |fields: &'static str, body: String| {
            let world = &world;
            async move { world.ask("POST /pub/x", fields, &body).await.status }
        };
        assert_eq!(send("Content-Length: 100\r\n", "x".repeat(100)).await, 200);
        assert_eq!(send("Content-Length: 101\r\n", "x".repeat(101)).await, 413);
        let chunk = |n: usize| format!("{n:x}\r\n{}\r\n", "x".repeat(n));
        assert_eq!(send("Transfer-Encoding: chunked\r\n", format!("{}{}0\r\n\r\n", chunk(60), chunk(40))).await, 200);
        assert_eq!(send("Transfer-Encoding: chunked\r\n", format!("{}{}0\r\n\r\n", chunk(60), chunk(41))).await, 413);
    });
}

#[test]
fn a_gate_that_leads_to_itself_says_so() {
    story(async {
        let world = World::plain().await;
        let own = world.addr;
        world.reload(|route| route.upstream = Arc::new(upstream(&[own])));
        assert_eq!(world.get("/pub/x", "").await.status, 508);
    });
}

#[test]
fn a_slow_upload_is_streamed_and_held_back_by_a_slow_app() {
    story(async {
        let world = World::plain().await;
        let mut client: Client = world.connect().await;
        client.write(&format!("POST /pub/x HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n")).await;
        for _ in 0..100 {
            client.write(&format!("1000\r\n{}\r\n", "x".repeat(4096))).await;
        }
        client.write("0\r\n\r\n").await;
        assert_eq!(soon(client.answer(true)).await.status, 200);
        assert!(world.app.last().body.len() > 400 * 1024);
    });
}
