//! One connection to an app: what is still under way when its answer begins, what it says unasked, and when
//! it serves another request.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use stepgate::domain::upstream::Upstream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::world::{App, HOST, Reply, World, eventually, ok, soon, story, upstream};

/// A gate in front of an app that takes each connection as a bare stream; with the number of connections.
async fn in_front_of<F: Future<Output = ()> + 'static>(
    serves: impl Fn(TcpStream, usize) -> F + 'static,
    change: impl FnOnce(&mut Upstream),
) -> (World, Rc<Cell<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr: SocketAddr = listener.local_addr().unwrap();
    let count: Rc<Cell<usize>> = Rc::default();
    let accepted = Rc::clone(&count);
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let number = accepted.replace(accepted.get() + 1);
            tokio::task::spawn_local(serves(stream, number));
        }
    });
    let mut one = upstream(&[addr]);
    change(&mut one);
    let world = World::of(App::start(|_| ok("unused")).await, |route| {
        route.upstream = Arc::new(one);
        route.limits.max_body = 1 << 30;
    })
    .await;
    (world, count)
}

/// Reads to the end of a head; `None` when nothing comes any more. What follows it stays unread.
async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn s_frame_8_what_an_app_says_unasked_is_nobodys_answer() {
    story(async {
        for unasked in
            ["HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", "HTTP/1.1 408 Request Timeout\r\n\r\n", "\n"]
        {
            let said: Rc<Cell<bool>> = Rc::default();
            let told = Rc::clone(&said);
            let serves = move |mut stream: TcpStream, number| {
                let said = Rc::clone(&told);
                async move {
                    while head(&mut stream).await.is_some() {
                        stream.write_all(OK).await.unwrap();
                        if number == 0 {
                            // Long after the answer, as far as a gate can tell: it is in the pool by then.
                            tokio::task::yield_now().await;
                            stream.write_all(unasked.as_bytes()).await.unwrap();
                            said.set(true);
                        }
                    }
                }
            };
            let (world, connections) = in_front_of(serves, |_| {}).await;
            assert_eq!(world.get("/pub/a", "").await.text(), "ok");
            eventually(|| said.get()).await;
            for _ in 0..3 {
                assert_eq!(world.get("/pub/b", "").await.text(), "ok", "{unasked:?}");
            }
            assert_eq!(connections.get(), 2, "{unasked:?}");
            eventually(|| world.shared.places.taken() == 1).await;
        }
    });
}

#[test]
fn s_frame_9_an_app_that_closed_a_waiting_connection_gets_any_request_on_a_new_one() {
    story(async {
        // Without a word of closing.
        let world = World::of(
            App::start(|_| Reply::SayAndClose("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".into())).await,
            |route| {
                Arc::make_mut(&mut route.upstream).reads_bodies = true;
            },
        )
        .await;
        for (line, fields, body) in [
            ("GET /pub/a", "", ""),
            ("DELETE /pub/a", "", ""),
            ("POST /pub/a", "Content-Length: 2\r\n", "hi"),
            ("POST /pub/a", "Transfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n"),
            ("GET /pub/a", "", ""),
        ] {
            assert_eq!(world.ask(line, fields, body).await.status, 200, "{line}");
            eventually(|| world.app.open() == 0).await;
        }
        assert_eq!((world.app.seen().len(), world.app.connections()), (5, 5), "each arrived once");
    });
}

#[test]
fn s_frame_9_a_request_that_is_sent_again_is_the_same_whatever_came_before_the_end() {
    story(async {
        let heads: Rc<RefCell<Vec<String>>> = Rc::default();
        let seen = Rc::clone(&heads);
        let serves = move |mut stream: TcpStream, number| {
            let heads = Rc::clone(&seen);
            async move {
                while let Some(head) = head(&mut stream).await {
                    heads.borrow_mut().push(head);
                    if number == 0 && heads.borrow().len() == 2 {
                        let interim = b"HTTP/1.1 103 Early Hints\r\nHost: evil\r\nRemote-User: root\r\n\r\nHTTP/1.1 200 OK\r\nX: y\r\n";
                        return stream.write_all(interim).await.unwrap();
                    }
                    stream.write_all(OK).await.unwrap();
                }
            }
        };
        let (world, _) = in_front_of(serves, |_| {}).await;
        for _ in 0..2 {
            assert_eq!(world.get("/pub/a", "X-Own: 1\r\n").await.text(), "ok");
        }
        let heads = heads.borrow();
        assert_eq!(heads.len(), 3);
        assert_eq!(heads[1], heads[2]);
        assert!(heads[2].contains("x-own: 1\r\n") && !heads[2].contains("evil"), "{}", heads[2]);
    });
}

#[test]
fn s_frame_14_an_app_that_never_comes_to_its_answer_is_given_up() {
    story(async {
        let serves = |mut stream: TcpStream, _| async move {
            while let Some(head) = head(&mut stream).await {
                let hints = if head.contains("/many") { 32 } else { usize::MAX };
                for _ in 0..hints {
                    if stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err() {
                        return;
                    }
                }
                stream.write_all(OK).await.unwrap();
            }
        };
        let (world, _) = in_front_of(serves, |_| {}).await;
        assert_eq!(world.get("/pub/many", "").await.text(), "ok");
        assert_eq!(world.get("/pub/endless", "").await.status, 502);
        assert_eq!(world.get("/pub/many", "").await.text(), "ok");
        eventually(|| world.shared.places.taken() <= 1).await;
    });
}

#[test]
fn an_answer_may_come_byte_by_byte() {
    story(async {
        let answer = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                      5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n";
        let serves = move |mut stream: TcpStream, _| async move {
            stream.set_nodelay(true).unwrap();
            while head(&mut stream).await.is_some() {
                for byte in answer.bytes() {
                    stream.write_all(&[byte]).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        };
        let (world, connections) = in_front_of(serves, |_| {}).await;
        for _ in 0..2 {
            let got = world.get("/pub/a", "").await;
            assert_eq!((got.status, got.text().as_str(), got.whole), (200, "hello!", true));
        }
        assert_eq!(connections.get(), 1);
    });
}

/// As a simple client does: everything is written before anything is read.
#[test]
fn a_client_that_reads_nothing_before_it_has_sent_everything_waits_for_nobody() {
    story(async {
        const SIZE: usize = 24 << 20;
        let serves = |mut stream: TcpStream, _| async move {
            head(&mut stream).await.unwrap();
            let (mut read, mut write) = stream.split();
            let answer = async {
                write.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes()).await.unwrap();
                write.write_all(&vec![b'y'; SIZE]).await.unwrap();
            };
            let upload = async {
                let mut got = vec![0; SIZE];
                read.read_exact(&mut got).await.unwrap();
                assert!(got.iter().all(|b| *b == b'x'));
            };
            tokio::join!(answer, upload);
        };
        let (world, _) = in_front_of(serves, |_| {}).await;
        let mut client = world.connect().await;
        client.write(&format!("POST /pub/x HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {SIZE}\r\n\r\n")).await;
        soon(client.stream.write_all(&vec![b'x'; SIZE])).await.unwrap();
        let answer = client.answer(true).await;
        assert_eq!((answer.status, answer.body.len()), (200, SIZE));
        eventually(|| world.shared.places.taken() == 0).await;
    });
}

#[test]
fn what_is_still_to_be_sent_reaches_an_app_that_has_answered_and_reads_on() {
    story(async {
        let got: Rc<Cell<usize>> = Rc::default();
        let read = Rc::clone(&got);
        let serves = move |mut stream: TcpStream, _| {
            let got = Rc::clone(&read);
            async move {
                head(&mut stream).await.unwrap();
                stream.write_all(OK).await.unwrap();
                let mut piece = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut piece).await {
                    got.set(got.get() + n);
                }
            }
        };
        let (world, _) = in_front_of(serves, |_| {}).await;
        let mut client = world.connect().await;
        client.write(&format!("POST /pub/x HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100005\r\n\r\nbegin")).await;
        assert_eq!(client.answer(true).await.text(), "ok");
        client.write(&"x".repeat(100_000)).await;
        eventually(|| got.get() == 100_005).await;
        // And then the connection serves nobody any more.
        eventually(|| world.shared.places.taken() == 0).await;
    });
}

#[test]
fn s_frame_14_an_app_that_answers_early_and_goes_leaves_nothing_behind() {
    story(async {
        let serves = |mut stream: TcpStream, _| async move {
            head(&mut stream).await.unwrap();
            stream.write_all(OK).await.unwrap();
        };
        let (world, _) = in_front_of(serves, |_| {}).await;
        let mut client = world.connect().await;
        client.write(&format!("POST /pub/x HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100\r\n\r\nbegin")).await;
        assert_eq!(client.answer(true).await.text(), "ok");
        // The client neither goes on nor goes away.
        eventually(|| world.shared.places.taken() == 0).await;
        drop(client);
    });
}

/// More than the buffers between client and app hold.
const ENDLESS: usize = 1 << 30;

/// Sends a request with a body that the app will not take, and reads the answer.
async fn stuck_upload(world: &World) -> (tokio::net::tcp::OwnedReadHalf, tokio::task::JoinHandle<()>) {
    let mut client = world.connect().await;
    client.write(&format!("POST /pub/x HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {ENDLESS}\r\n\r\n")).await;
    let (mut read, mut write) = client.stream.into_split();
    let sends = tokio::task::spawn_local(async move {
        let piece = vec![b'x'; 1 << 16];
        while write.write_all(&piece).await.is_ok() {}
    });
    let mut got = [0; 12];
    soon(read.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"HTTP/1.1 200");
    (read, sends)
}

/// An app that says this much, and then neither reads nor writes, holds nothing, whether its client waits or is gone:
/// the gate cannot tell, for that stands behind bytes that nobody takes.
async fn holds_nothing_after(said: &'static [u8], limit: impl Fn(&mut Upstream)) {
    for stays in [true, false] {
        let serves = move |mut stream: TcpStream, _| async move {
            head(&mut stream).await.unwrap();
            stream.write_all(said).await.unwrap();
            std::future::pending::<()>().await;
        };
        let (world, _) = in_front_of(serves, &limit).await;
        let (read, sends) = stuck_upload(&world).await;
        let client = stays.then_some(read);
        if !stays {
            sends.abort();
        }
        eventually(|| world.shared.places.taken() == 0).await;
        if stays {
            // Its connection is closed as well.
            soon(sends).await.unwrap();
        }
        drop(client);
    }
}

#[test]
fn s_frame_14_an_app_that_answers_early_and_stays_without_reading_holds_nothing() {
    story(holds_nothing_after(OK, |u| u.upload_silence = Duration::from_millis(100)));
}

#[test]
fn s_frame_14_an_app_that_begins_an_answer_and_then_neither_reads_nor_writes_holds_nothing() {
    let begun = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin";
    // No `idle_timeout`.
    story(holds_nothing_after(begun, |u| u.first_byte_timeout = Duration::from_millis(200)));
}

#[test]
fn an_app_that_begins_an_answer_and_waits_for_more_of_the_upload_may_be_silent_for_as_long() {
    story(async {
        let serves = |mut stream: TcpStream, _| async move {
            if head(&mut stream).await.unwrap().contains("/hang") {
                return std::future::pending().await;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegin").await.unwrap();
            stream.read_exact(&mut [0; 15]).await.unwrap();
            stream.write_all(b"ended").await.unwrap();
        };
        let (world, _) = in_front_of(serves, |u| u.first_byte_timeout = Duration::from_millis(50)).await;
        let mut client = world.connect().await;
        client.write(&format!("POST /pub/x HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 15\r\n\r\nbegin")).await;
        for piece in ["going", "ended"] {
            // Another request, given up after 50 ms, is the clock.
            for _ in 0..3 {
                assert_eq!(world.get("/pub/hang", "").await.status, 504);
            }
            client.write(piece).await;
        }
        assert_eq!(client.answer(true).await.text(), "beginended");
    });
}

#[test]
fn an_upload_whose_client_pauses_reaches_an_app_that_has_answered_whatever_the_apps_limit_is() {
    story(async {
        let got: Rc<Cell<usize>> = Rc::default();
        let read = Rc::clone(&got);
        let serves = move |mut stream: TcpStream, _| {
            let got = Rc::clone(&read);
            async move {
                if head(&mut stream).await.unwrap().contains("/hang") {
                    return std::future::pending().await;
                }
                stream.write_all(OK).await.unwrap();
                let mut piece = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut piece).await {
                    got.set(got.get() + n);
                }
            }
        };
        let change = |u: &mut Upstream| {
            (u.upload_silence, u.first_byte_timeout) = (Duration::from_millis(10), Duration::from_millis(50));
        };
        let (world, _) = in_front_of(serves, change).await;
        let mut client = world.connect().await;
        client.write(&format!("POST /pub/x HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 15\r\n\r\nbegin")).await;
        assert_eq!(client.answer(true).await.text(), "ok");
        for piece in ["going", "ended"] {
            // Another request, given up after 50 ms, is the clock.
            assert_eq!(world.get("/pub/hang", "").await.status, 504);
            client.write(piece).await;
        }
        eventually(|| got.get() == 15).await;
        eventually(|| world.shared.places.taken() == 0).await;
    });
}

#[test]
fn s_frame_4_an_upload_that_breaks_off_takes_an_answer_with_it_that_began_early() {
    story(async {
        let ends: Rc<RefCell<Vec<u8>>> = Rc::default();
        let read = Rc::clone(&ends);
        let serves = move |mut stream: TcpStream, _| {
            let ends = Rc::clone(&read);
            async move {
                head(&mut stream).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nbegin").await.unwrap();
                let mut got = Vec::new();
                let _ = stream.read_to_end(&mut got).await;
                got.push(b'|');
                ends.borrow_mut().extend(got);
            }
        };
        let (world, _) = in_front_of(serves, |_| {}).await;
        let mut client = world.connect().await;
        client
            .write(&format!("POST /pub/x HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"))
            .await;
        assert!(client.head().await.starts_with("HTTP/1.1 200"));
        client.write("no size\r\n").await;
        let rest = client.until_closed().await;
        assert!(!rest.ends_with(b"0\r\n\r\n"), "the client must not take it for whole");
        eventually(|| !ends.borrow().is_empty()).await;
        assert_eq!(*ends.borrow(), b"2\r\nhi\r\n|", "nor the app what it got");
    });
}

#[test]
fn s_frame_8_a_client_that_leaves_in_the_middle_of_an_answer_closes_its_connection() {
    story(async {
        let app = App::start(|seen| {
            if seen.line().contains("next") {
                return ok("ok");
            }
            Reply::Say(format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}", "x".repeat(500)))
        })
        .await;
        let world = World::of(app, |_| {}).await;
        let mut client = world.connect().await;
        client.write(&format!("GET /pub/half HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        client.head().await;
        drop(client);
        eventually(|| world.app.open() == 0).await;
        assert_eq!(world.get("/pub/next", "").await.text(), "ok");
        assert_eq!(world.app.connections(), 2);
    });
}

#[test]
fn an_answer_that_was_said_before_its_app_stopped_reading_is_passed_on() {
    story(async {
        const SIZE: usize = 24 << 20;
        let serves = |mut stream: TcpStream, _| async move {
            head(&mut stream).await.unwrap();
            stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
            // Closed with much unread, which is a reset: the gate cannot write any more.
        };
        let (world, _) = in_front_of(serves, |_| {}).await;
        let mut client = world.connect().await;
        client.write(&format!("POST /pub/x HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {SIZE}\r\n\r\n")).await;
        let (mut read, mut write) = client.stream.into_split();
        tokio::task::spawn_local(async move { write.write_all(&vec![b'x'; SIZE]).await });
        let mut got = [0; 12];
        soon(read.read_exact(&mut got)).await.unwrap();
        assert_eq!(&got, b"HTTP/1.1 413");
    });
}

#[test]
fn s_frame_8_an_app_that_would_close_is_taken_at_its_word() {
    story(async {
        for (answer, kept) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", true),
            ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", false),
            ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", false),
            // Whoever says two framings may mean the other one.
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false),
        ] {
            // It says so, and stays.
            let world = World::of(App::start(move |_| Reply::Say(answer.into())).await, |_| {}).await;
            for _ in 0..3 {
                assert_eq!(world.get("/pub/a", "").await.text(), "ok");
            }
            assert_eq!(world.app.connections(), if kept { 1 } else { 3 }, "{answer}");
            eventually(|| world.app.open() == usize::from(kept)).await;
        }
    });
}

#[test]
fn what_an_app_says_right_behind_its_101_reaches_the_page() {
    story(async {
        let serves = |mut stream: TcpStream, _| async move {
            head(&mut stream).await.unwrap();
            let hello = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\u{1}\u{5}hello";
            stream.write_all(hello.as_bytes()).await.unwrap();
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        };
        let (world, _) = in_front_of(serves, |_| {}).await;
        let mut client = world.connect().await;
        let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://app.example\r\n";
        client.write(&format!("GET /pub/socket HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101"));
        client.write("\u{1}\u{4}back").await;
        soon(async {
            while client.buffer.len() < 13 {
                client.stream.read_buf(&mut client.buffer).await.unwrap();
            }
        })
        .await;
        assert_eq!(client.buffer, b"\x01\x05hello\x01\x04back");
        drop(client);
        eventually(|| world.shared.places.taken() == 0).await;
    });
}
