//! Requests that two readers could take differently: what of them reaches an app?

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use super::corpus::{Case, cases};
use super::gate::{Expected, in_front_of};
use super::recorder::{Recorder, Says, eventually};
use crate::harness::{World, send};

const CORPUS: &str = include_str!("../../corpus/smuggling/requests.txt");
const KEYS: [&str; 7] = ["send", "alone", "end", "early", "app", "answer", "sees"];
const BASE: (&str, &str) = ("base", r"POST / HTTP/1.1\r\nHost: a\r\n");
const CANARY: &[u8] = b"GET /canary HTTP/1.1\r\nHost: a\r\n\r\n";

/// Runs a case and says what is wrong with it.
fn run(world: &World, app: &Recorder, case: &Case) -> Result<(), String> {
    let answer = case.bytes("app").unwrap_or(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec());
    let early = case.has("early");
    app.says(move |_| if early { Says::Early(answer.clone()) } else { Says::Whole(answer.clone()) });
    let before = app.whole().len();
    let sent = case.bytes("send").unwrap();
    let mut stream = send(world.addr, &sent);
    // The gate may have closed already.
    if !case.has("alone") {
        let _ = stream.write_all(CANARY);
    }
    if case.has("end") {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let may_go_on = case.all("sees").any(|said| said == b"canary");
    let answers = case.text("answer").unwrap();
    let expected: Vec<&str> = answers.split(' ').collect();
    let got = statuses(&mut stream, expected.len(), may_go_on, sent.starts_with(b"HEAD "));
    let fits = |pattern: &[&str]| {
        pattern.len() == got.len() && pattern.iter().zip(&got).all(|(may, is)| may.split('|').any(|m| m == is))
    };
    let none = got.is_empty() && expected.len() == 1 && expected[0].split('|').any(|m| m == "-");
    if !fits(&expected) && !none {
        return Err(format!("answered {got:?}, not {answers:?}"));
    }
    let wanted = Expected::all(case.all("sees"));
    eventually(&case.name, || app.whole().len() >= before + wanted.len() || !app.faults().is_empty());
    let seen = app.whole()[before..].to_vec();
    let right = wanted.len() == seen.len() && wanted.iter().zip(&seen).all(|(expected, seen)| expected.is(seen));
    if right { Ok(()) } else { Err(format!("the app saw {seen:?}")) }
}

/// The statuses of the answers on a connection: so many, and then those that come before its end.
fn statuses(stream: &mut TcpStream, count: usize, may_go_on: bool, head_only: bool) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut bytes = Vec::new();
    let mut at = 0;
    loop {
        while let Some(end) = bytes[at..].windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[at..at + end]).to_ascii_lowercase();
            let status = head.split([' ', '\r']).nth(1).unwrap_or_default().to_owned();
            let length = head.split("\r\n").find_map(|l| l.strip_prefix("content-length: ")?.parse::<usize>().ok());
            let has_body = !status.starts_with('1') && status != "204" && !(head_only && found.is_empty());
            let next = at + end + 4 + if has_body { length.unwrap_or(0) } else { 0 };
            if bytes.len() < next {
                break;
            }
            found.push(status);
            at = next;
        }
        if may_go_on && found.len() >= count {
            return found;
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(0) => return found,
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            // A reset is an end too; silence is none.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return found,
            Err(_) => {
                found.push("and the connection stays".to_owned());
                return found;
            }
        }
    }
}

fn run_classes(classes: &[&str]) {
    let app = Recorder::start();
    let world = in_front_of(&app);
    let (mut count, mut may_be_cut, mut finished) = (0, 0, 0);
    let mut wrong = Vec::new();
    for case in cases(CORPUS, &KEYS, &[BASE]) {
        if classes.iter().any(|class| case.name.split(' ').next() == Some(class)) {
            count += 1;
            may_be_cut += case.all("sees").filter(|said| said == b"cut").count();
            finished += Expected::all(case.all("sees")).len();
            wrong.extend(run(&world, &app, &case).err().map(|why| format!("{}: {why}", case.name)));
        }
    }
    assert!(count >= classes.len(), "the corpus was read");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(app.faults().is_empty(), "{}", app.faults().join("\n"));
    // Nor did anything come late.
    assert_eq!(app.whole().len(), finished);
    assert!(app.seen().len() <= finished + may_be_cut);
}

#[test]
fn s_frame_2_a_coding_beside_a_length_is_read_as_chunked_and_the_connection_ends() {
    run_classes(&["C1", "C2"]);
}

#[test]
fn s_frame_3_no_coding_but_chunked_alone() {
    run_classes(&["C3"]);
}

#[test]
fn s_frame_1_lengths_and_versions_have_one_reading() {
    run_classes(&["C4", "C5"]);
}

#[test]
fn s_frame_4_a_broken_chunk_never_ends_well() {
    run_classes(&["C6"]);
}

#[test]
fn s_frame_6_a_body_is_no_request_of_its_own() {
    run_classes(&["C7"]);
}

#[test]
fn s_frame_7_the_gate_alone_says_continue() {
    run_classes(&["C8"]);
}

#[test]
fn s_frame_5_what_stands_behind_a_body_is_dropped() {
    run_classes(&["C9"]);
}

#[test]
fn s_frame_12_a_head_that_is_not_clean_is_refused() {
    run_classes(&["C10"]);
}

#[test]
fn s_frame_11_nothing_is_upgraded_by_accident() {
    run_classes(&["C11"]);
}
