//! Requests of HTTP/2 that would be two in HTTP/1: what of them reaches an app?

use super::corpus::{Case, cases};
use super::gate::{Expected, OverTls};
use super::h2::{Client, DATA, END_HEADERS, END_STREAM, HEADERS, block, frame, head};
use super::recorder::{Recorder, eventually};

const CORPUS: &str = include_str!("../../corpus/smuggling/frames.txt");
const KEYS: [&str; 7] = ["set", "drop", "field", "data", "answer", "sees", "cookie"];

fn pair(said: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let at = said.windows(2).position(|w| w == b"= ").unwrap();
    (said[..at].trim_ascii_end().to_vec(), said[at + 2..].to_vec())
}

fn frames(case: &Case) -> Vec<u8> {
    let mut fields = head("POST", "/");
    for (name, value) in case.all("set").map(pair) {
        fields.iter_mut().find(|(n, _)| *n == name).unwrap().1 = value;
    }
    fields.retain(|(name, _)| case.all("drop").all(|dropped| dropped != name));
    fields.extend(case.all("field").map(pair));
    let data: Vec<&[u8]> = case.all("data").collect();
    let ends = if data.is_empty() { END_STREAM } else { 0 };
    let mut out = frame(HEADERS, END_HEADERS | ends, 1, &block(&fields));
    for (n, piece) in data.iter().enumerate() {
        out.extend(frame(DATA, if n + 1 == data.len() { END_STREAM } else { 0 }, 1, piece));
    }
    out
}

fn run(gate: &OverTls, app: &Recorder, case: &Case) -> Result<(), String> {
    let before = app.whole().len();
    let mut client = Client::open(gate.addr, gate.trust());
    client.write(&frames(case)).unwrap();
    let got = client.answer(1).map_or("reset".to_owned(), |status| status.to_string());
    let expected = case.text("answer").unwrap();
    if !expected.split('|').any(|one| one == got) {
        return Err(format!("answered {got}, not {expected}"));
    }
    let wanted = Expected::all(case.all("sees"));
    eventually(&case.name, || app.whole().len() >= before + wanted.len() || !app.faults().is_empty());
    let seen = app.whole()[before..].to_vec();
    let right = wanted.len() == seen.len() && wanted.iter().zip(&seen).all(|(expected, seen)| expected.is(seen));
    let cookie = case.text("cookie");
    let cookies = seen.first().filter(|_| cookie.is_some()).map(|s| s.values("cookie").join("\n"));
    if right && cookies == cookie { Ok(()) } else { Err(format!("the app saw {seen:?}")) }
}

#[test]
fn s_frame_10_nothing_of_http_2_becomes_two_requests_of_http_1() {
    let app = Recorder::start();
    let gate = OverTls::in_front_of(&app);
    let (mut wrong, mut finished, mut may_be_cut) = (Vec::new(), 0, 0);
    for case in cases(CORPUS, &KEYS, &[]) {
        finished += Expected::all(case.all("sees")).len();
        may_be_cut += case.all("sees").filter(|said| said == b"cut").count();
        wrong.extend(run(&gate, &app, &case).err().map(|why| format!("{}: {why}", case.name)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(app.faults().is_empty(), "{}", app.faults().join("\n"));
    // Nor did anything come late.
    assert_eq!(app.whole().len(), finished);
    assert!(app.seen().len() <= finished + may_be_cut);
}
