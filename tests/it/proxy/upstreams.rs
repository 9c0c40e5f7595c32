//! Several addresses of one app: which takes a request, which is passed over, and for how long.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stepgate::domain::host::Scheme;
use stepgate::domain::upstream::{HealthCheck, Upstream};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use stepgate::domain::route::AppName;

use super::world::{App, HOST, Reply, World, eventually, ok, soon, story, upstream};

/// A gate in front of apps with these addresses; the first is `world.app`.
async fn in_front_of(app: App, others: &[SocketAddr], change: impl Fn(&mut Upstream)) -> World {
    let all: Vec<SocketAddr> = [&[app.addr], others].concat();
    World::of(app, |route| {
        let mut upstream = upstream(&all);
        change(&mut upstream);
        route.upstream = Arc::new(upstream);
    })
    .await
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn shown(world: &World, metric: &str, address: SocketAddr) -> String {
    let line = format!("stepgate_{metric}{{app=\"wiki\",address=\"http://{address}\"}} ");
    let text = world.metrics.render();
    text.lines().find_map(|l| l.strip_prefix(&line)).unwrap_or("not shown").to_owned()
}

#[test]
fn equals_take_turns_and_a_busy_address_gets_fewer() {
    story(async {
        let second = App::start(|_| ok("two")).await;
        let world = in_front_of(App::start(|_| ok("one")).await, &[second.addr], |_| {}).await;
        for _ in 0..6 {
            assert_eq!(world.get("/pub/x", "").await.status, 200);
        }
        assert_eq!((world.app.seen().len(), second.seen().len()), (3, 3));

        let (_held, pieces) = mpsc::unbounded_channel();
        let pieces = Cell::new(Some(pieces));
        let slow = App::start(move |_| pieces.take().map_or_else(|| ok("slow"), Reply::Stream)).await;
        let second = App::start(|_| ok("two")).await;
        let world = in_front_of(slow, &[second.addr], |_| {}).await;
        let mut waiting = world.connect().await;
        waiting.write(&format!("GET /pub/x HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        eventually(|| world.app.seen().len() == 1).await;
        for _ in 0..6 {
            assert_eq!(world.get("/pub/x", "").await.text(), "two");
        }
        assert_eq!(world.app.seen().len(), 1, "it has one in hand already");
    });
}

#[test]
fn an_address_that_takes_no_connection_costs_no_request_and_is_soon_left_alone() {
    story(async {
        let dead = nobody().await;
        let world = in_front_of(App::start(|_| ok("ok")).await, &[dead], |_| {}).await;
        for _ in 0..12 {
            assert_eq!(world.ask("POST /pub/x", "Content-Length: 2\r\n", "hi").await.status, 200);
        }
        assert_eq!(world.app.seen().len(), 12);
        assert_eq!(shown(&world, "upstream_faults_total", dead), "3", "three tries, and no more");
        assert_eq!(shown(&world, "upstream_ejections_total", dead), "1");
        assert_eq!(shown(&world, "upstream_healthy", dead), "0");
        assert_eq!(shown(&world, "upstream_healthy", world.app.addr), "1");
    });
}

#[test]
fn an_address_that_breaks_off_is_ejected_but_never_the_last_one() {
    story(async {
        let broken = App::start(|_| Reply::Vanish).await;
        let world = in_front_of(App::start(|_| ok("ok")).await, &[broken.addr], |_| {}).await;
        let mut statuses = Vec::new();
        for _ in 0..12 {
            statuses.push(world.ask("POST /pub/x", "Content-Length: 2\r\n", "hi").await.status);
        }
        assert_eq!(statuses.iter().filter(|s| **s == 502).count(), 3, "{statuses:?}");
        assert_eq!(broken.seen().len(), 3, "and no request was sent twice (S-FRAME-9)");

        let world = World::of(App::start(|_| Reply::Vanish).await, |_| {}).await;
        for _ in 0..6 {
            assert_eq!(world.ask("POST /pub/x", "Content-Length: 2\r\n", "hi").await.status, 502);
        }
        assert_eq!(world.app.seen().len(), 6, "an only address is asked each time");
        assert_eq!(shown(&world, "upstream_healthy", world.app.addr), "1");
    });
}

/// What the gate logs while this lives, on the thread of a story.
fn logged() -> (Lines, tracing::subscriber::DefaultGuard) {
    // While there is one dispatcher, tracing asks the thread that comes to a line first whether anybody wants it, and
    // remembers the answer; another test's thread has none and says no for all.
    static SECOND: std::sync::OnceLock<tracing::Dispatch> = std::sync::OnceLock::new();
    SECOND.get_or_init(|| tracing::Dispatch::new(tracing_subscriber::registry()));
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    (lines, tracing::subscriber::set_default(log))
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_app_that_is_down_is_said_once_with_its_address_and_counted_each_time() {
    story(async {
        let (log, _logging) = logged();
        let dead = nobody().await;
        let world = World::of(App::start(|_| ok("ok")).await, |route| {
            route.upstream = Arc::new(upstream(&[dead]));
        })
        .await;
        for _ in 0..20 {
            assert_eq!(world.get("/pub/x", "").await.status, 502);
        }
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let warned: Vec<&str> = text.lines().filter(|line| line.contains(" WARN ")).collect();
        assert_eq!(warned.len(), 2, "{text}");
        let connection = format!("no connection to an app app=wiki upstream.address=http://{dead}");
        assert!(warned[0].contains(&connection) && warned[0].contains("refused"), "{text}");
        assert!(warned[1].contains("a request was not carried") && warned[1].contains("request.id="), "{text}");
        assert_eq!(shown(&world, "upstream_faults_total", dead), "20");
        assert!(world.metrics.render().contains("stepgate_upstream_errors_total{app=\"wiki\"} 20"));
    });
}

#[test]
fn s_frame_9_what_only_reads_is_asked_of_one_other_address_and_nothing_else_is() {
    story(async {
        let broken = App::start(|_| Reply::Vanish).await;
        let world = in_front_of(App::start(|_| ok("ok")).await, &[broken.addr], |_| {}).await;
        for line in ["GET /pub/x", "HEAD /pub/x"].repeat(6) {
            assert_eq!(world.ask(line, "", "").await.status, 200, "{line}");
        }
        assert_eq!((world.app.seen().len(), broken.seen().len()), (12, 3), "ejected after three");
        assert_eq!(shown(&world, "upstream_faults_total", broken.addr), "3", "and blamed for each");

        let vanish = async || App::start(|_| Reply::Vanish).await;
        let (second, third) = (vanish().await, vanish().await);
        let world = in_front_of(vanish().await, &[second.addr, third.addr], |_| {}).await;
        let arrived = || world.app.seen().len() + second.seen().len() + third.seen().len();
        assert_eq!(world.get("/pub/x", "").await.status, 502);
        assert_eq!(arrived(), 2, "what ends one app does not go through all of them");
        for (line, fields, body) in [("POST /pub/x", "Content-Length: 2\r\n", "hi"), ("DELETE /pub/x", "", "")] {
            let before = arrived();
            assert_eq!(world.ask(line, fields, body).await.status, 502);
            assert_eq!(arrived(), before + 1, "{line}");
        }

        // An answer that makes no sense is an answer: it was read, and what it did is done.
        let garbled = App::start(|_| Reply::SayAndClose("HTTP/1.1 2OO OK\r\n\r\n".into())).await;
        let other = App::start(|_| ok("ok")).await;
        let world = in_front_of(garbled, &[other.addr], |_| {}).await;
        let statuses = [world.get("/pub/x", "").await.status, world.get("/pub/x", "").await.status];
        assert!(statuses.contains(&502) && other.seen().len() == 1, "{statuses:?}");
    });
}

#[test]
fn an_answer_of_the_app_is_no_fault_whatever_its_status() {
    story(async {
        let unavailable = || Reply::Say("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".into());
        let other = App::start(move |_| unavailable()).await;
        let world = in_front_of(App::start(|_| ok("ok")).await, &[other.addr], |_| {}).await;
        for _ in 0..12 {
            world.get("/pub/x", "").await;
        }
        assert_eq!(other.seen().len(), 6);
        assert_eq!(shown(&world, "upstream_faults_total", other.addr), "0");
    });
}

/// An app whose `/ping` says what the cell says.
async fn pinged(well: &Rc<Cell<bool>>) -> App {
    let well = Rc::clone(well);
    App::start(move |seen| {
        if seen.line().starts_with("GET /ping ") && !well.get() {
            return Reply::SayAndClose("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".into());
        }
        ok("ok")
    })
    .await
}

fn requests(app: &App) -> usize {
    app.seen().iter().filter(|seen| !seen.line().starts_with("GET /ping ")).count()
}

#[test]
fn an_address_that_fails_its_checks_gets_nothing_until_it_passes_them_again() {
    story(async {
        let (one, two) = (Rc::new(Cell::new(true)), Rc::new(Cell::new(true)));
        let second = pinged(&two).await;
        let world = in_front_of(pinged(&one).await, &[second.addr], |upstream| {
            upstream.health = Some(HealthCheck { every: Duration::from_millis(20), ..HealthCheck::of("/ping") });
            upstream.slow_start = Duration::ZERO;
        })
        .await;
        eventually(|| !world.app.seen().is_empty() && !second.seen().is_empty()).await;
        let ping = world.app.last();
        assert_eq!((ping.line(), ping.values("host")), ("GET /ping HTTP/1.1", vec![HOST]));
        assert_eq!(ping.values("user-agent"), ["stepgate-health"]);

        two.set(false);
        eventually(|| shown(&world, "upstream_healthy", second.addr) == "0").await;
        for _ in 0..6 {
            assert_eq!(world.get("/pub/x", "").await.status, 200);
        }
        assert_eq!((requests(&world.app), requests(&second)), (6, 0));

        one.set(false);
        eventually(|| shown(&world, "upstream_healthy", world.app.addr) == "0").await;
        let answer = world.get("/pub/x", "").await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.json()["type"].as_str().unwrap().rsplit(['/', ':']).next(), Some("no-upstream"));
        let page = world.get("/pub/x", "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\n").await;
        assert_eq!((page.status, page.values("content-type")), (503, vec!["text/html; charset=utf-8"]));
        let fields = "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\nAccept-Language: fr,en;q=0.5\r\n";
        let page = world.get("/pub/x", fields).await;
        assert!(page.text().contains("L’application est arrêtée"), "{}", page.text());
        assert_eq!((requests(&world.app), requests(&second)), (6, 0), "nothing was connected");

        two.set(true);
        eventually(|| shown(&world, "upstream_healthy", second.addr) == "1").await;
        assert_eq!(world.get("/pub/x", "").await.status, 200);
        assert_eq!((requests(&world.app), requests(&second)), (6, 1));
    });
}

#[test]
fn the_page_after_a_connection_that_came_too_late_says_that_nothing_was_sent() {
    story(async {
        // Its port never says a word of TLS.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = silent.local_addr().unwrap();
        let world = World::of(App::start(|_| ok("unused")).await, |route| {
            let mut one = upstream(&[addr]);
            one.urls[0].scheme = Scheme::Https;
            (one.insecure, one.connect_timeout) = (true, Duration::from_millis(50));
            route.upstream = Arc::new(one);
        })
        .await;
        let page = world.get("/pub/x", "Accept: text/html\r\nSec-Fetch-Mode: navigate\r\n").await;
        assert_eq!(page.status, 504);
        assert!(page.text().contains("Nothing that you sent has reached it."), "{}", page.text());
    });
}

#[test]
fn an_address_whose_answers_nobody_could_get_is_not_well_to_its_checks() {
    story(async {
        let app = App::start(|_| {
            Reply::SayAndClose("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n".into())
        });
        let world = in_front_of(app.await, &[], |upstream| {
            upstream.health = Some(HealthCheck { every: Duration::from_millis(20), ..HealthCheck::of("/ping") });
        })
        .await;
        eventually(|| shown(&world, "upstream_healthy", world.app.addr) == "0").await;
        assert_eq!(world.get("/pub/x", "").await.status, 503);
    });
}

#[test]
fn an_address_that_a_reload_removed_finishes_what_it_has_and_gets_nothing_new() {
    story(async {
        let (send, pieces) = mpsc::unbounded_channel();
        let pieces = Cell::new(Some(pieces));
        let old = App::start(move |_| pieces.take().map_or_else(|| ok("old"), Reply::Stream)).await;
        let new = App::start(|_| ok("new")).await;
        let old_addr = old.addr;
        let world = in_front_of(old, &[], |_| {}).await;
        let mut download = world.connect().await;
        download.write(&format!("GET /pub/iso HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
        send.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf".to_vec()).unwrap();
        assert!(download.head().await.starts_with("HTTP/1.1 200"));

        world.reload(|route| route.upstream = Arc::new(upstream(&[new.addr])));
        assert_eq!(world.get("/pub/x", "").await.text(), "new");
        assert_eq!(shown(&world, "upstream_healthy", old_addr), "not shown");
        send.send(b"half".to_vec()).unwrap();
        drop(send);
        soon(async {
            while download.buffer.len() < 8 {
                AsyncReadExt::read_buf(&mut download.stream, &mut download.buffer).await.unwrap();
            }
        })
        .await;
        assert_eq!(download.buffer, b"halfhalf");
        for _ in 0..4 {
            assert_eq!(world.get("/pub/x", "").await.text(), "new");
        }
        assert_eq!(world.app.seen().len(), 1);
    });
}

#[test]
fn an_answer_that_falls_silent_ends_where_the_file_says_so_and_only_there() {
    story(async {
        let ask = async |idle_timeout: Option<Duration>| {
            let (send, pieces) = mpsc::unbounded_channel();
            let pieces = Cell::new(Some(pieces));
            let app = App::start(move |_| pieces.take().map_or(Reply::Vanish, Reply::Stream)).await;
            let world = in_front_of(app, &[], |upstream| upstream.idle_timeout = idle_timeout).await;
            let mut client = world.connect().await;
            client.write(&format!("GET /pub/x HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
            send.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf".to_vec()).unwrap();
            client.head().await;
            (send, client, world)
        };
        let (_silent, mut client, _world) = ask(Some(Duration::from_millis(50))).await;
        assert_eq!(client.until_closed().await, b"half", "the app never went on");
        let (send, mut client, _world) = ask(None).await;
        send.send(b"half".to_vec()).unwrap();
        while client.buffer.len() < 8 {
            soon(AsyncReadExt::read_buf(&mut client.stream, &mut client.buffer)).await.unwrap();
        }
    });
}

#[test]
fn s_lim_3_with_every_socket_in_use_a_request_is_told_so_and_no_address_is_blamed() {
    story(async {
        let world = World::plain().await;
        let held: Vec<_> = std::iter::from_fn(|| world.shared.places.take(&AppName::new("wiki"))).collect();
        for _ in 0..5 {
            let refused = world.get("/pub/x", "").await;
            assert_eq!(refused.status, 503);
            assert_eq!(refused.json()["type"], "urn:stepgate:problem:overloaded");
        }
        assert!(world.app.seen().is_empty());
        drop(held);
        assert_eq!(world.get("/pub/x", "").await.status, 200);
    });
}

#[test]
fn a_connection_that_only_waits_makes_room_for_one_that_is_needed() {
    story(async {
        let world = World::of(App::start(|_| ok("ok")).await, |_| {}).await;
        assert_eq!(world.get("/pub/x", "").await.status, 200);
        assert_eq!((world.shared.places.taken(), world.app.connections()), (1, 1), "it waits for the next request");
        let _held: Vec<_> = std::iter::from_fn(|| world.shared.places.take(&AppName::new("wiki"))).collect();
        // A handshake never takes a connection that was used before.
        let handshake = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://app.example\r\n";
        assert_eq!(world.get("/pub/socket", handshake).await.status, 200, "the app's answer");
        assert_eq!(world.app.connections(), 2);
    });
}

#[test]
fn an_upload_that_its_client_leaves_unfinished_is_not_held_against_the_address() {
    story(async {
        let app = App::start(|_| ok("ok")).await;
        let addr = app.addr;
        let world = in_front_of(app, &[], |u| u.first_byte_timeout = Duration::from_millis(50)).await;
        for _ in 0..4 {
            let mut client = world.connect().await;
            client.write(&format!("POST /pub/x HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100\r\n\r\nbegin")).await;
            assert_eq!(client.answer(true).await.status, 504);
        }
        assert_eq!(shown(&world, "upstream_faults_total", addr), "0", "the app was waiting for the client");
    });
}

#[test]
fn an_app_that_closes_on_an_unfinished_upload_is_not_ejected_for_it() {
    story(async {
        // Closes without a word as soon as it has the head, whatever comes behind it.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closing = listener.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
            }
        });
        let unused = App::start(|_| ok("unused")).await;
        let world = World::of(unused, |route| route.upstream = Arc::new(upstream(&[closing]))).await;
        for _ in 0..4 {
            let mut client = world.connect().await;
            client.write(&format!("POST /pub/x HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100\r\n\r\nbegin")).await;
            assert_eq!(client.answer(true).await.status, 502);
        }
        assert_eq!(shown(&world, "upstream_faults_total", closing), "0", "anybody may begin an upload");
        assert_eq!(world.ask("POST /pub/x", "Content-Length: 2\r\n", "hi").await.status, 502);
        assert_eq!(shown(&world, "upstream_faults_total", closing), "1", "a whole request was left unanswered");
    });
}
