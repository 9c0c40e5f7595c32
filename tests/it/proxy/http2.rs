//! Apps that speak HTTP/2, and calls of gRPC through the gate.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version, request};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::server::conn::http2::Builder;
use hyper_util::rt::TokioIo;
use stepgate::auth::return_to::{Form, ReturnTo};
use stepgate::base::clock::Clock;
use stepgate::domain::upstream::{HealthCheck, Protocol, Upstream};
use stepgate::session::kept::browser_hash;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::world::{App, HOST, LocalExecutor, Reply, World, eventually, ok, soon, story, upstream};

/// A body that the story sends piece by piece; its end is the sender's. Counts what was taken of it.
struct Pieces(UnboundedReceiver<Frame<Bytes>>, Rc<Cell<usize>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = self.0.poll_recv(cx);
        self.1.set(self.1.get() + usize::from(polled.is_ready()));
        polled.map(|frame| frame.map(Ok))
    }
}

fn pieces() -> (UnboundedSender<Frame<Bytes>>, Pieces) {
    let (send, receive) = unbounded_channel();
    (send, Pieces(receive, Rc::default()))
}

fn text(text: &str) -> Pieces {
    let (send, body) = pieces();
    send.send(Frame::data(Bytes::copy_from_slice(text.as_bytes()))).unwrap();
    body
}

fn fields(list: &[(&'static str, &'static str)]) -> HeaderMap {
    list.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
}

/// A request as an HTTP/2 app received it.
struct Asked {
    head: request::Parts,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

struct H2App {
    addr: SocketAddr,
    asked: Rc<RefCell<Vec<Asked>>>,
    /// Heads that came, whether or not their bodies did.
    heads: Rc<Cell<usize>>,
    connections: Rc<Cell<usize>>,
}

impl H2App {
    /// Answers once the request is here whole.
    async fn start(
        set: impl Fn(&mut Builder<LocalExecutor>) + 'static,
        answer: impl Fn(&str) -> Response<Pieces> + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let it = Self { addr, asked: Rc::default(), heads: Rc::default(), connections: Rc::default() };
        let (asked, heads, connections) = (Rc::clone(&it.asked), Rc::clone(&it.heads), Rc::clone(&it.connections));
        let answer = Rc::new(answer);
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.set(connections.get() + 1);
                let (asked, heads, answer) = (Rc::clone(&asked), Rc::clone(&heads), Rc::clone(&answer));
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let (asked, heads, answer) = (Rc::clone(&asked), Rc::clone(&heads), Rc::clone(&answer));
                    async move {
                        heads.set(heads.get() + 1);
                        let (head, body) = request.into_parts();
                        let body = body.collect().await?;
                        let trailers = body.trailers().cloned();
                        let response = answer(head.uri.path());
                        asked.borrow_mut().push(Asked { head, body: body.to_bytes().to_vec(), trailers });
                        Ok::<_, hyper::Error>(response)
                    }
                });
                let mut builder = Builder::new(LocalExecutor);
                set(&mut builder);
                tokio::task::spawn_local(builder.serve_connection(TokioIo::new(stream), service));
            }
        });
        it
    }

    fn paths(&self) -> Vec<String> {
        self.asked.borrow().iter().map(|a| a.head.uri.path().to_owned()).collect()
    }
}

/// A gate in front of an app that is known to speak HTTP/2.
async fn in_front_of(addr: SocketAddr, change: impl Fn(&mut Upstream)) -> World {
    let unused = App::start(|_| ok("nobody asks here")).await;
    World::of(unused, |route| {
        let mut upstream = Upstream { protocol: Protocol::Http2, ..upstream(&[addr]) };
        change(&mut upstream);
        route.upstream = Arc::new(upstream);
    })
    .await
}

/// An HTTP/2 client of the gate.
async fn h2_client(world: &World) -> SendRequest<Pieces> {
    let stream = TcpStream::connect(world.h2_addr).await.unwrap();
    let (sender, driver) = hyper::client::conn::http2::handshake(LocalExecutor, TokioIo::new(stream)).await.unwrap();
    tokio::task::spawn_local(driver);
    sender
}

fn call(path: &str, kind: &str, body: Pieces) -> Request<Pieces> {
    let request = Request::post(format!("https://{HOST}{path}")).version(Version::HTTP_2);
    request.header("content-type", kind).header("te", "trailers").body(body).unwrap()
}

/// Asks as a browser would, without waiting for the answer.
async fn asks(world: &World, path: &str) -> super::world::Client {
    let mut client = world.connect().await;
    client.write(&format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
    client
}

#[test]
fn a_browser_of_http_1_reaches_an_app_of_http_2() {
    story(async {
        let app = H2App::start(|_| {}, |path| Response::new(text(path))).await;
        let world = in_front_of(app.addr, |_| {}).await;
        let fields =
            "Content-Length: 5\r\nConnection: close, X-Debug\r\nX-Debug: 1\r\nTE: trailers\r\nX-Real-IP: 6.6.6.6\r\n";
        let answer = world.ask("POST /pub/a?x=%2f", fields, "hello").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "/pub/a"));
        let answer = world
            .ask("POST /pub/b", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nRemote-User: x\r\n\r\n")
            .await;
        assert_eq!(answer.status, 200);
        let asked = app.asked.borrow();
        let head = &asked[0].head;
        assert_eq!(head.uri.to_string(), format!("http://{HOST}/pub/a?x=%2f"));
        assert_eq!(head.headers.get_all("x-real-ip").iter().collect::<Vec<_>>(), ["127.0.0.1"]);
        assert_eq!(head.headers["x-forwarded-proto"], "https");
        for gone in ["connection", "x-debug", "te", "host", "transfer-encoding"] {
            assert!(!head.headers.contains_key(gone), "{gone}");
        }
        assert!(asked.iter().all(|a| a.body == b"hello" && a.trailers.is_none()));
        assert_eq!(app.connections.get(), 1, "one connection for all");
    });
}

#[test]
fn a_form_that_comes_over_http_2_is_kept_and_arrives_over_it() {
    story(async {
        let world = World::of(App::start(|_| ok("saved")).await, |_| {}).await;
        let mut client = h2_client(&world).await;
        let form = |body: &str, cookie: &str| {
            let request = Request::post(format!("https://{HOST}/page?id=7")).version(Version::HTTP_2);
            let request = request.header("content-type", "application/x-www-form-urlencoded").header("cookie", cookie);
            let request = request.header("origin", format!("https://{HOST}")).header("content-length", body.len());
            request.header("accept", "text/html").header("sec-fetch-mode", "navigate").body(text(body)).unwrap()
        };
        let answer = soon(client.send_request(form("typed=1", ""))).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let sets = answer.headers().get_all("set-cookie").iter().map(|set| set.to_str().unwrap());
        let cookie =
            sets.filter(|set| set.contains("-form-")).map(|set| set.split(';').next().unwrap()).next().unwrap();
        let rd = answer.headers()["location"].to_str().unwrap().split("rd=").nth(1).unwrap();
        let snapshot = world.snapshot.load_full();
        let now = world.clock.now();
        let back = ReturnTo::open(&world.shared.keys, rd, now, &snapshot.routes).unwrap();
        let Form::Kept(id) = back.form else { panic!("{:?}", back.form) };

        let ann = world.signs_in("ann").await;
        let browser = browser_hash(cookie.split_once('=').unwrap().1);
        let (route, who) = (snapshot.routes.find(&back.host).unwrap(), Some((ann.user, ann.session)));
        let ticket = world.shared.kept.ticket(id, &browser, (&back.host, &route.app), who, now).await.unwrap();
        let (to, ticket) = ticket.unwrap();
        assert_eq!(to, "/page?id=7");
        let sends = form(&format!("stepgate-form={ticket}"), &format!("{}; {cookie}", ann.cookie));
        let answer = soon(client.send_request(sends)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(world.app.last().body, b"typed=1");
    });
}

#[test]
fn s_frame_9_an_answer_over_http_2_whose_body_fails_at_once_begins_all_the_same() {
    story(async {
        let answer =
            |_: &str| Response::builder().status(201).header("content-length", "100").body(text("some")).unwrap();
        let app = H2App::start(|_| {}, answer).await;
        let world = in_front_of(app.addr, |_| {}).await;
        let mut client = world.connect().await;
        client.write(&format!("POST /pub/x HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 2\r\n\r\nhi")).await;
        let got = String::from_utf8(client.until_closed().await).unwrap();
        assert!(got.starts_with("HTTP/1.1 201 "), "{got:?}");
    });
}

#[test]
fn a_burst_shares_one_connection_and_the_apps_own_limit_opens_another() {
    story(async {
        for (limit, expected) in [(100, 1), (4, 3)] {
            let held = Rc::new(RefCell::new(Vec::new()));
            let holding = Rc::clone(&held);
            let app = H2App::start(
                move |builder| {
                    builder.max_concurrent_streams(limit);
                },
                move |_| {
                    let (send, body) = pieces();
                    holding.borrow_mut().push(send);
                    Response::new(body)
                },
            )
            .await;
            let world = in_front_of(app.addr, |_| {}).await;
            let mut clients = Vec::new();
            for _ in 0..12 {
                clients.push(world.connect().await);
            }
            // Written in one go: the gate sees them all before it has a connection.
            for client in &mut clients {
                client.write(&format!("GET /pub/x HTTP/1.1\r\nHost: {HOST}\r\n\r\n")).await;
            }
            eventually(|| held.borrow().len() == 12).await;
            assert_eq!(app.connections.get(), expected, "12 requests, {limit} on a connection");
            held.borrow_mut().clear();
            for client in &mut clients {
                assert!(client.head().await.starts_with("HTTP/1.1 200"));
            }
        }
    });
}

#[test]
fn a_reader_that_takes_its_time_holds_up_nobody_on_the_same_connection() {
    story(async {
        let taken: Rc<RefCell<Vec<Rc<Cell<usize>>>>> = Rc::default();
        let counting = Rc::clone(&taken);
        let app = H2App::start(
            |_| {},
            move |path| {
                if path == "/pub/small" {
                    return Response::new(text("small"));
                }
                let (send, body) = pieces();
                for _ in 0..512 {
                    send.send(Frame::data(Bytes::from_static(&[b'x'; 64 * 1024]))).unwrap();
                }
                counting.borrow_mut().push(Rc::clone(&body.1));
                Response::new(body)
            },
        )
        .await;
        let world = in_front_of(app.addr, |_| {}).await;
        let mut sleepers = Vec::new();
        for _ in 0..3 {
            sleepers.push(asks(&world, "/pub/big").await);
        }
        eventually(|| taken.borrow().len() == 3).await;
        // Until they have what sockets hold, and take nothing more for a while.
        let (mut before, mut still) = (0, 0);
        while still < 30 {
            assert_eq!(soon(world.get("/pub/small", "")).await.text(), "small");
            let now = taken.borrow().iter().map(|n| n.get()).sum();
            still = if now == before { still + 1 } else { 0 };
            before = now;
        }
        assert!(before < 3 * 512, "they did stop, with {before} pieces taken");
        assert_eq!(app.connections.get(), 1);
    });
}

#[test]
fn s_ws_2_a_session_that_ends_takes_its_stream_with_it_and_no_other() {
    story(async {
        let (first, body) = pieces();
        let bodies = RefCell::new(vec![body]);
        let app =
            H2App::start(|_| {}, move |_| Response::new(bodies.borrow_mut().pop().unwrap_or_else(|| text("x")))).await;
        let world = in_front_of(app.addr, |_| {}).await;
        let alice = world.signs_in("alice").await;
        let mut stream = world.connect().await;
        stream.write(&format!("GET /feed HTTP/1.1\r\nHost: {HOST}\r\nCookie: {}\r\n\r\n", alice.cookie)).await;
        stream.head().await;
        world.ends(&alice).await;
        stream.until_closed().await;
        soon(first.closed()).await;
        assert_eq!(world.get("/pub/x", "").await.text(), "x");
        assert_eq!(app.connections.get(), 1);
    });
}

#[test]
fn s_frame_5_the_trailers_of_a_call_reach_its_client_and_no_others() {
    story(async {
        let app = H2App::start(
            |_| {},
            |path| {
                let (send, body) = pieces();
                send.send(Frame::data(Bytes::from_static(b"\0\0\0\0\x02hi"))).unwrap();
                let trailers = [("grpc-status", "0"), ("x-cost", "3"), ("remote-user", "root"), ("set-cookie", "a=b")];
                send.send(Frame::trailers(fields(&trailers))).unwrap();
                let kind = if path == "/pub/page" { "text/plain" } else { "application/grpc+proto" };
                Response::builder().header("content-type", kind).body(body).unwrap()
            },
        )
        .await;
        let world = in_front_of(app.addr, |_| {}).await;
        let mut client = h2_client(&world).await;
        let mut ask = async |path: &str, kind: &str| {
            let (send, body) = pieces();
            send.send(Frame::data(Bytes::from_static(b"\0\0\0\0\0"))).unwrap();
            send.send(Frame::trailers(fields(&[("remote-user", "root"), ("x-late", "1")]))).unwrap();
            drop(send);
            let response = soon(client.send_request(call(path, kind, body))).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            let body = soon(response.into_body().collect()).await.unwrap();
            let trailers = body.trailers().cloned();
            assert_eq!(body.to_bytes(), "\0\0\0\0\x02hi");
            trailers
        };
        assert_eq!(
            ask("/pub/Svc/Call", "application/grpc").await,
            Some(fields(&[("grpc-status", "0"), ("x-cost", "3")]))
        );
        assert_eq!(ask("/pub/page", "application/grpc").await, None, "only gRPC has any");
        assert_eq!(app.asked.borrow()[0].head.headers["te"], "trailers");
        assert!(app.asked.borrow().iter().all(|a| a.trailers.is_none()), "those of clients are dropped");
        // HTTP/1.1 has no place for them that every reader takes alike.
        let answer =
            world.ask("POST /pub/Svc/Call", "Content-Type: application/grpc\r\nContent-Length: 1\r\n", "x").await;
        assert!(answer.whole && !answer.head.to_ascii_lowercase().contains("grpc-status"));
    });
}

#[test]
fn s_frame_5_trailers_of_a_call_are_no_larger_than_a_head_may_be() {
    story(async {
        let app = H2App::start(
            |_| {},
            |path| {
                let kib = path.rsplit('/').next().unwrap().parse().unwrap();
                let (send, body) = pieces();
                send.send(Frame::data(Bytes::from_static(b"\0\0\0\0\x02hi"))).unwrap();
                let mut late = fields(&[("grpc-status", "0")]);
                for _ in 0..kib {
                    late.append("x-late", HeaderValue::from_str(&"x".repeat(1000)).unwrap());
                }
                send.send(Frame::trailers(late)).unwrap();
                Response::builder().header("content-type", "application/grpc").body(body).unwrap()
            },
        )
        .await;
        let world = in_front_of(app.addr, |_| {}).await;
        let stream = TcpStream::connect(world.h2_addr).await.unwrap();
        let mut builder = hyper::client::conn::http2::Builder::new(LocalExecutor);
        builder.max_header_list_size(1 << 20);
        let (mut client, driver) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        tokio::task::spawn_local(driver);
        let mut late = async |path: &str| {
            let request = call(path, "application/grpc", text("\0\0\0\0\0"));
            let response = soon(client.send_request(request)).await?;
            let answer = soon(response.into_body().collect()).await?;
            let trailers = answer.trailers().unwrap();
            assert_eq!(trailers["grpc-status"], "0");
            Ok::<_, hyper::Error>(trailers.get_all("x-late").iter().count())
        };
        assert_eq!(late("/pub/Svc/40").await.unwrap(), 40);
        let kept = late("/pub/Svc/70").await.unwrap();
        assert!(kept * 1000 < 64 * 1024, "h2 forgets what is more: {kept}");
        assert!(late("/pub/Svc/400").await.is_err(), "and much more ends the call");
        assert_eq!(late("/pub/Svc/1").await.unwrap(), 1, "which takes no other one with it");
    });
}

#[test]
fn both_sides_of_a_call_speak_when_they_like() {
    story(async {
        let (send, answer) = pieces();
        let answer = Cell::new(Some(answer));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let heard: Rc<RefCell<Vec<u8>>> = Rc::default();
        let hearing = Rc::clone(&heard);
        tokio::task::spawn_local(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let (hearing, answer) = (Rc::clone(&hearing), answer.take().unwrap());
                tokio::task::spawn_local(async move {
                    let mut body = request.into_body();
                    while let Some(Ok(frame)) = body.frame().await {
                        hearing.borrow_mut().extend_from_slice(frame.data_ref().unwrap());
                    }
                });
                let response = Response::builder().header("content-type", "application/grpc").body(answer);
                async move { Ok::<_, Infallible>(response.unwrap()) }
            });
            Builder::new(LocalExecutor).serve_connection(TokioIo::new(stream), service).await
        });
        let world = in_front_of(addr, |_| {}).await;
        let (say, body) = pieces();
        let mut client = h2_client(&world).await;
        say.send(Frame::data(Bytes::from_static(b"one"))).unwrap();
        let response = soon(client.send_request(call("/pub/Svc/Talk", "application/grpc", body))).await.unwrap();
        let mut answers = response.into_body();
        for word in ["two", "four", "six"] {
            send.send(Frame::data(Bytes::from_static(word.as_bytes()))).unwrap();
            let frame = soon(answers.frame()).await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), word);
            let so_far = heard.borrow().len();
            say.send(Frame::data(Bytes::from_static(b"odd"))).unwrap();
            eventually(|| heard.borrow().len() > so_far).await;
        }
        send.send(Frame::trailers(fields(&[("grpc-status", "0")]))).unwrap();
        drop(send);
        let frame = soon(answers.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_trailers().unwrap()["grpc-status"], "0");
    });
}

/// An app that answers as frames allow it to: the first request of each connection with 200, the
/// second with what the story says.
async fn refusing(
    how: impl Fn(&mut h2::server::Connection<TcpStream, Bytes>, h2::server::SendResponse<Bytes>) + 'static,
) -> (SocketAddr, Rc<Cell<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let arrived = Rc::new(Cell::new(0));
    let (count, how) = (Rc::clone(&arrived), Rc::new(how));
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (count, how) = (Rc::clone(&count), Rc::clone(&how));
            tokio::task::spawn_local(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let mut here = 0;
                while let Some(Ok((_request, mut respond))) = connection.accept().await {
                    count.set(count.get() + 1);
                    here += 1;
                    if here == 2 {
                        how(&mut connection, respond);
                    } else {
                        respond.send_response(Response::new(()), true).unwrap();
                    }
                }
            });
        }
    });
    (addr, arrived)
}

#[test]
fn s_frame_9_a_request_that_the_app_says_it_refused_is_sent_again_once_unless_its_body_is_gone() {
    story(async {
        let (addr, arrived) = refusing(|_, mut respond| respond.send_reset(h2::Reason::REFUSED_STREAM)).await;
        for (line, fields, body, status, count) in [
            ("GET /pub/x", "", "", 200, 3),
            ("POST /pub/x", "Content-Length: 0\r\n", "", 200, 3),
            ("POST /pub/x", "Content-Length: 2\r\n", "hi", 502, 2),
        ] {
            let world = in_front_of(addr, |_| {}).await;
            arrived.set(0);
            assert_eq!(world.get("/pub/warm", "").await.status, 200);
            assert_eq!(world.ask(line, fields, body).await.status, status, "{line} {fields}");
            assert_eq!(arrived.get(), count, "{line} {fields}");
        }
    });
}

#[test]
fn s_frame_9_a_request_that_the_app_may_have_seen_is_sent_again_only_as_get() {
    story(async {
        let (addr, arrived) = refusing(|_, mut respond| respond.send_reset(h2::Reason::CANCEL)).await;
        let world = in_front_of(addr, |_| {}).await;
        assert_eq!(world.get("/pub/warm", "").await.status, 200);
        for n in 1..=4 {
            assert_eq!(
                world.ask("POST /pub/x", "Content-Length: 0\r\n", "").await.status,
                if n == 1 { 502 } else { 200 }
            );
        }
        assert_eq!(arrived.get(), 5, "each once");
        let text = world.metrics.render();
        assert!(text.contains(&format!("upstream_faults_total{{app=\"wiki\",address=\"http://{addr}\"}} 0")), "{text}");
    });
}

#[test]
fn s_frame_9_an_app_that_goes_away_finishes_what_it_took_and_new_requests_go_elsewhere() {
    story(async {
        let (addr, arrived) = refusing(|connection, mut respond| {
            connection.graceful_shutdown();
            respond.send_response(Response::new(()), true).unwrap();
        })
        .await;
        let world = in_front_of(addr, |_| {}).await;
        for _ in 0..8 {
            assert_eq!(world.ask("POST /pub/x", "Content-Length: 2\r\n", "hi").await.status, 200);
        }
        assert_eq!(arrived.get(), 8, "each once");
    });
}

#[test]
fn an_app_of_http_2_alone_is_checked_in_its_own_tongue() {
    story(async {
        let status = Rc::new(Cell::new(200));
        let said = Rc::clone(&status);
        let answer = move |_: &str| Response::builder().status(said.get()).body(text("")).unwrap();
        let app = H2App::start(|_| {}, answer).await;
        let world = in_front_of(app.addr, |upstream| {
            upstream.health = Some(HealthCheck { every: Duration::from_millis(20), ..HealthCheck::of("/ping") });
        })
        .await;
        eventually(|| app.paths().iter().any(|p| p == "/ping")).await;
        assert_eq!(app.asked.borrow()[0].head.uri.to_string(), format!("http://{HOST}/ping"));
        assert_eq!(world.get("/pub/x", "").await.status, 200);
        status.set(500);
        eventually(|| {
            world.metrics.render().contains("stepgate_upstream_healthy{app=\"wiki\",address=\"http://127.0.0.1:")
                && world.metrics.render().contains("\"} 0")
        })
        .await;
        soon(async { while world.get("/pub/x", "").await.status != 503 {} }).await;
    });
}

#[test]
fn s_up_6_nothing_is_signed_in_over_a_connection_of_http_2_where_requests_run_side_by_side() {
    story(async {
        let app = App::start(|seen| match seen.values("authorization").is_empty() {
            true => Reply::Say("HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n".into()),
            false => ok("signed in"),
        })
        .await;
        let world = World::of(app, |_| {}).await;
        let mut client = h2_client(&world).await;
        for n in 0..3 {
            let request = Request::post(format!("https://{HOST}/pub/{n}")).version(Version::HTTP_2);
            let request = request.header("authorization", "NTLM three").body(text("")).unwrap();
            let response = soon(client.send_request(request)).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            let _ = response.into_body().collect().await;
        }
        let connections: Vec<usize> = world.app.seen().iter().map(|s| s.connection).collect();
        assert_eq!(connections, [0, 1, 2], "each its own, and none twice");
    });
}
