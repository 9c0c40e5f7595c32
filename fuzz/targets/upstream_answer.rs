//! Do the connections to apps read any bytes as hyper's client reads them, or more strictly? What ours takes
//! for an answer is one, with this body and this end, and the connection is kept only where it may be.
#![no_main]

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::{Body, Frame};
use hyper::client::conn::http1;
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use stepgate::domain::route::AppName;
use stepgate::proxy::body::RequestBody;
use stepgate::proxy::upstream::connect::{Placed, UpstreamIo};
use stepgate::proxy::upstream::h1;
use stepgate::proxy::upstream::places::Places;
use stepgate_fuzz::{connection, on_a_data_thread, split};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

/// So many looks when the app has said everything, and nothing new will come.
const QUIET: usize = 12;

/// What a client made of the bytes.
#[derive(Debug, PartialEq)]
enum Got {
    /// Still waiting for the head.
    Nothing,
    NoAnswer(String),
    Answer {
        status: StatusCode,
        fields: HeaderMap,
        reason: Option<Vec<u8>>,
        body: Vec<u8>,
        end: End,
    },
}

#[derive(Debug, PartialEq)]
enum End {
    /// `kept`: the connection may carry another request.
    Whole {
        kept: bool,
    },
    Waiting,
    Broken(String),
    /// 101, and these bytes behind it.
    Switched(Vec<u8>),
}

/// The app: reads a head, says its pieces, and ends the connection or not.
struct App(JoinHandle<UnixStream>);

impl App {
    fn start(mut stream: UnixStream, pieces: [&[u8]; 3], closes: bool) -> Self {
        let pieces = pieces.map(<[u8]>::to_vec);
        Self(tokio::task::spawn_local(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                    return stream;
                }
            }
            for piece in pieces {
                if stream.write_all(&piece).await.is_err() {
                    return stream;
                }
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                }
            }
            if closes {
                let _ = stream.shutdown().await;
            }
            stream
        }))
    }

    /// `None` when the future has nothing to say any more, however often it is asked.
    async fn quiet<F: Future + Unpin>(&self, future: &mut F) -> Option<F::Output> {
        let mut looks = 0;
        while looks < QUIET {
            looks = if self.0.is_finished() { looks + 1 } else { 0 };
            let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await;
            if let Poll::Ready(output) = polled {
                return Some(output);
            }
            tokio::task::yield_now().await;
        }
        None
    }

    async fn says_no_more(&self) {
        self.quiet(&mut std::future::pending::<()>()).await;
    }

    /// Reads a body to its end, its data and how it ended.
    async fn body<B: Body<Data = Bytes> + Unpin>(&self, body: &mut B) -> (Vec<u8>, Option<Result<(), String>>)
    where
        B::Error: std::fmt::Display,
    {
        let mut all = Vec::new();
        loop {
            let mut next = pin!(poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)));
            match self.quiet(&mut next).await {
                None => return (all, None),
                Some(None) => return (all, Some(Ok(()))),
                Some(Some(Err(error))) => return (all, Some(Err(error.to_string()))),
                Some(Some(Ok(frame))) => all.extend_from_slice(frame.data_ref().map_or(b"", |data| data)),
            }
        }
    }

    async fn rest(&self, stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
        let mut left = Vec::new();
        loop {
            let mut read = Box::pin(stream.read_buf(&mut left));
            match self.quiet(&mut read).await {
                Some(Ok(1..)) => {}
                Some(Ok(0) | Err(_)) | None => break,
            }
        }
        left
    }
}

fn request(method: &Method) -> Request<()> {
    Request::builder().method(method).uri("/").header("host", "app.example").body(()).expect("a request")
}

fn answer<B>(response: Response<B>, body: Vec<u8>, end: End) -> Got {
    let (parts, _) = response.into_parts();
    let reason = parts.extensions.get::<ReasonPhrase>().map(|r| r.as_bytes().to_vec());
    Got::Answer { status: parts.status, fields: parts.headers, reason, body, end }
}

/// One of ours, as hyper would have it.
struct Ours(h1::Answer);

impl Body for Ours {
    type Data = Bytes;
    type Error = h1::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h1::Error>>> {
        self.get_mut().0.poll_data(cx).map(|data| data.map(|data| data.map(Frame::data)))
    }
}

async fn ours(method: &Method, pieces: [&[u8]; 3], closes: bool) -> Got {
    let (gate, stream) = connection();
    let app = App::start(stream, pieces, closes);
    let place = Places::new(9).take(&AppName::new("app")).expect("a place");
    let connection =
        h1::Connection::new(Placed::new(UpstreamIo::Plain(gate), place), std::time::Duration::from_secs(30));
    let mut sent = Box::pin(connection.send(request(method).map(|()| RequestBody::Empty)));
    let mut response = match app.quiet(&mut sent).await {
        None => return Got::Nothing,
        Some(Err(failed)) => return Got::NoAnswer(format!("{:?}", failed.error)),
        Some(Ok(response)) => response.map(Ours),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let left = app.rest(&mut connection.raw()).await;
        assert!(!connection.is_clean(), "what follows a 101 is no answer");
        return answer(response, Vec::new(), End::Switched(left));
    }
    let (data, ended) = app.body(response.body_mut()).await;
    app.says_no_more().await;
    let end = match ended {
        None => End::Waiting,
        Some(Err(error)) => End::Broken(error),
        Some(Ok(())) => End::Whole { kept: connection.is_clean() && connection.is_idle() },
    };
    let is_whole = matches!(end, End::Whole { .. });
    assert_eq!(response.body().0.is_end(), is_whole);
    assert!(is_whole || !connection.is_clean(), "an answer that did not end leaves no connection");
    answer(response, data, end)
}

async fn hypers(method: &Method, pieces: [&[u8]; 3], closes: bool) -> Got {
    let (gate, stream) = connection();
    let app = App::start(stream, pieces, closes);
    let mut builder = http1::Builder::new();
    builder.max_buf_size(128 * 1024).max_header_size(64 * 1024);
    let (mut sender, driver) = builder.handshake(TokioIo::new(gate)).await.expect("a handshake");
    let driver = AbortOnDrop(tokio::task::spawn_local(driver.with_upgrades()));
    let mut sent = Box::pin(sender.send_request(request(method).map(|()| Empty::<Bytes>::new())));
    let mut response = match app.quiet(&mut sent).await {
        None => return Got::Nothing,
        Some(Err(error)) => return Got::NoAnswer(format!("{error:?}")),
        Some(Ok(response)) => response,
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let mut upgraded = Box::pin(hyper::upgrade::on(&mut response));
        let left = match app.quiet(&mut upgraded).await {
            Some(Ok(upgraded)) => app.rest(&mut TokioIo::new(upgraded)).await,
            Some(Err(_)) | None => Vec::new(),
        };
        return answer(response, Vec::new(), End::Switched(left));
    }
    let (data, ended) = app.body(response.body_mut()).await;
    app.says_no_more().await;
    let end = match ended {
        None => End::Waiting,
        Some(Err(error)) => End::Broken(error),
        Some(Ok(())) => {
            let mut ready = Box::pin(sender.ready());
            End::Whole { kept: matches!(app.quiet(&mut ready).await, Some(Ok(()))) }
        }
    };
    drop(driver);
    answer(response, data, end)
}

struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where we refuse a head that hyper takes: a coding that is not undone leaves no end that could be told (hyper
/// reads on until the connection ends), and HTTP/1.0 has none.
const CODING: &str = "Coding";
/// Where we refuse chunks that hyper takes: among trailers it lets a bare LF stand in a line.
const BARE_LF: &str = "a line does not end in CR LF";

fuzz_target!(|data: &[u8]| {
    let Some(([choice, first, second], sent)) = split(data) else { return };
    let method = [Method::GET, Method::HEAD, Method::POST][usize::from(choice & 0b11) % 3].clone();
    let closes = choice & 0b100 != 0;
    let (first, second) = (usize::from(first).min(sent.len()), usize::from(second));
    let (before, rest) = sent.split_at(first);
    let (middle, after) = rest.split_at(second.min(rest.len()));
    let pieces = [before, middle, after];
    let (ours, hypers) =
        on_a_data_thread(async { (ours(&method, pieces, closes).await, hypers(&method, pieces, closes).await) });
    match (&ours, &hypers) {
        (Got::NoAnswer(why), _) if why == CODING => {}
        // Who sees first that a head will be none, before it has come to its end, is all the same.
        (Got::NoAnswer(_) | Got::Nothing, Got::NoAnswer(_) | Got::Nothing) => {}
        (
            Got::Answer { status, fields, reason, body, end },
            Got::Answer { status: status2, fields: fields2, reason: reason2, body: body2, end: end2 },
        ) => {
            assert_eq!((status, fields, reason), (status2, fields2, reason2));
            match (end, end2) {
                (End::Broken(why), End::Whole { .. }) if why.ends_with(BARE_LF) => assert_eq!(body, body2),
                // Kept by us and closed by hyper would be laxer.
                (End::Whole { kept: true }, End::Whole { kept: false }) => panic!("{ours:?} but {hypers:?}"),
                (End::Whole { .. }, End::Whole { .. }) => assert_eq!(body, body2),
                (End::Switched(left), End::Switched(left2)) => {
                    assert_eq!(left, left2);
                    assert!(sent.ends_with(left));
                }
                // Who sees first that it will not end well, and which pieces come before that, is all the same.
                (End::Broken(_) | End::Waiting, End::Broken(_) | End::Waiting) => {
                    assert!(body.starts_with(body2) || body2.starts_with(body), "{ours:?} but {hypers:?}");
                }
                _ => panic!("{ours:?} but {hypers:?}"),
            }
        }
        _ => panic!("{ours:?} but {hypers:?}"),
    }
});
