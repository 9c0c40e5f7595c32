//! Floods of HTTP/2: each ends its connection or stays within bounds, and holds up nobody else.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::gate::OverTls;
use super::h2::{
    ACK, CALM, CONTINUATION, Client, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, frame, head,
};
use super::recorder::{Recorder, Says, eventually};
use crate::harness::exchange;

/// An app that holds every request but `/quick`.
fn holding() -> (Recorder, OverTls) {
    let app = Recorder::start();
    app.says(|seen| if seen.line.contains("/quick") { Says::ok() } else { Says::Nothing });
    let gate = OverTls::in_front_of(&app);
    (app, gate)
}

/// Somebody else is served, on every thread of the gate.
fn others_are_served(addr: SocketAddr) {
    for _ in 0..16 {
        let reply = exchange(addr, b"GET /quick HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(reply.map(|r| r.status), Some(200));
    }
}

fn request(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&head("GET", "/hold")))
}

/// What is sent to the gate ends the connection; the app is let go of, and others are served.
fn ends_the_connection(flood: &[u8]) {
    let (app, gate) = holding();
    let mut client = Client::open(gate.addr, gate.trust());
    // The gate may have had enough before all is written.
    let _ = client.write(flood);
    // The gate says why, but its reset may overtake that: it does not read on.
    if let Some(end) = client.until(|frame| frame.kind == GOAWAY) {
        assert_eq!(end.error(), CALM);
    }
    assert!(client.until(|_| false).is_none(), "it is closed");
    // Of the flood alone: those who are served next are more.
    let most = app.most();
    others_are_served(gate.world.addr);
    eventually("the app is let go of", || app.seen().len() >= 16 && app.open() <= 2);
    eventually("the gate holds no connection", || open(&gate) == 0);
    assert!(most <= 100 + 2, "{most} at once");
}

fn open(gate: &OverTls) -> usize {
    gate.world.gate().core().edge.connections.open()
}

/// CVE-2023-44487.
#[test]
fn s_lim_2_a_rapid_reset_ends_the_connection() {
    let flood: Vec<u8> = (0..1000)
        .map(|n| 2 * n + 1)
        .flat_map(|stream| [request(stream), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat())
        .collect();
    ends_the_connection(&flood);
}

/// CVE-2025-8671: what the gate resets itself counts too.
#[test]
fn s_lim_2_whoever_makes_the_gate_reset_its_streams_loses_the_connection() {
    let flood: Vec<u8> = (0..1000)
        .map(|n| 2 * n + 1)
        .flat_map(|stream| [request(stream), frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff])].concat())
        .collect();
    ends_the_connection(&flood);
}

/// CVE-2024-27316.
#[test]
fn s_lim_2_a_head_that_never_ends_ends_the_connection() {
    for piece in [vec![], block(&[(b"x-y".to_vec(), vec![b'y'; 1000])])] {
        let first = frame(HEADERS, END_STREAM, 1, &block(&head("GET", "/hold")));
        ends_the_connection(&[first, frame(CONTINUATION, 0, 1, &piece).repeat(2000)].concat());
    }
}

#[test]
fn s_lim_2_tiny_frames_of_data_end_the_connection() {
    for (data, times) in [(&b""[..], 2000), (b"x", 20_000)] {
        let post = frame(HEADERS, END_HEADERS, 1, &block(&head("POST", "/hold")));
        ends_the_connection(&[post, frame(DATA, 0, 1, data).repeat(times)].concat());
    }
}

#[test]
fn s_lim_1_the_100th_stream_is_taken_and_the_101st_is_not() {
    let (app, gate) = holding();
    let mut client = Client::open(gate.addr, gate.trust());
    let all: Vec<u8> = (0..101).flat_map(|n| request(2 * n + 1)).collect();
    client.write(&all).unwrap();
    let refused = client.until(|frame| frame.kind == RST_STREAM).unwrap();
    assert_eq!((refused.stream, refused.error()), (201, 7), "REFUSED_STREAM");
    eventually("the app has them", || app.seen().len() == 100);
    drop(client);
    eventually("all are let go of", || app.open() == 0);
}

/// Whoever goes away, or takes back what was asked, leaves nothing behind.
#[test]
fn s_lim_2_work_that_was_cancelled_stops_at_the_app() {
    let (app, gate) = holding();
    let mut client = Client::open(gate.addr, gate.trust());
    for n in 0..50 {
        client.asks(2 * n + 1, "/hold").unwrap();
        let came = usize::try_from(n).unwrap() + 1;
        eventually("it arrives", || app.seen().len() == came && app.open() == 1);
        client.write(&frame(RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8])).unwrap();
        eventually("it is let go of", || app.open() == 0);
    }
    client.asks(201, "/quick").unwrap();
    assert_eq!(client.answer(201), Some(200), "the connection itself did nothing wrong");
}

/// The same over HTTP/1.1, whatever stands behind the request: the gate holds nothing for nobody.
#[test]
fn s_lim_2_a_byte_behind_a_request_does_not_keep_it_when_its_client_goes() {
    let (app, gate) = holding();
    let plain = gate.world.addr;
    let get = "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST /hold HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    let next = "GET /quick HTTP/1.1\r\nHost: a\r\n\r\n";
    for (n, (request, behind)) in [(get, ""), (get, "G"), (post, "\r\n"), (post, next)].into_iter().enumerate() {
        let mut client = TcpStream::connect(plain).unwrap();
        client.write_all(format!("{request}{behind}").as_bytes()).unwrap();
        eventually("it arrives", || app.seen().len() == n + 1 && app.open() == 1);
        drop(client);
        eventually("it is let go of", || app.open() == 0);
    }
    eventually("the gate holds no connection", || open(&gate) == 0);
    others_are_served(plain);
}

/// h2 answers each before it reads the next, so a sender who reads nothing is soon read no more.
#[test]
fn s_lim_2_pings_and_settings_that_nobody_reads_the_answers_of_fill_no_memory() {
    // As much as sockets and buffers may hold, and less than a flood.
    const MOST: usize = 32 << 20;
    for one in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])] {
        let (_app, gate) = holding();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.set_send_buffer_size(64 * 1024).unwrap();
        socket.connect(&gate.addr.into()).unwrap();
        let mut client = Client::over(socket.into(), gate.trust());
        client.tcp().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let many = one.repeat(1000);
        let mut sent = 0;
        while sent < MOST && client.write(&many).is_ok() {
            sent += many.len();
        }
        assert!(sent < MOST, "all was taken, and the answers are somewhere");
        others_are_served(gate.world.addr);
    }
}

#[test]
fn a_ping_is_answered() {
    let (_app, gate) = holding();
    let mut client = Client::open(gate.addr, gate.trust());
    client.write(&frame(PING, 0, 0, b"are you?")).unwrap();
    let pong = client.until(|frame| frame.kind == PING).unwrap();
    assert_eq!((pong.flags, pong.payload.as_slice()), (ACK, &b"are you?"[..]));
}
