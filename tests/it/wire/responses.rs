//! Answers that two readers could take differently: what of them reaches a client, and the next one?

use std::io::Read;

use super::corpus::{Case, cases};
use super::gate::in_front_of;
use super::recorder::{Framing, Recorder, Says};
use crate::harness::{World, send};

const CORPUS: &str = include_str!("../../corpus/smuggling/responses.txt");
const KEYS: [&str; 5] = ["ask", "app", "ends", "answer", "field"];

/// An answer as a client got it, on a connection that then ended.
#[derive(Debug)]
struct Got {
    status: String,
    fields: Vec<(String, String)>,
    framing: Framing,
    /// `None` when it broke off.
    body: Option<Vec<u8>>,
}

impl Got {
    fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(n, _)| n == name)
    }
}

/// Asks on a connection of its own, and reads strictly until its end.
fn ask(world: &World, method: &str, path: &str) -> Result<Got, String> {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let mut all = Vec::new();
    let mut stream = send(world.addr, request.as_bytes());
    if let Err(error) = stream.read_to_end(&mut all) {
        return Err(format!("no end came: {error}"));
    }
    read(&all, method == "HEAD").map_err(|fault| format!("{fault}: {:?}", String::from_utf8_lossy(&all)))
}

fn read(all: &[u8], is_head: bool) -> Result<Got, &'static str> {
    let end = all.windows(4).position(|w| w == b"\r\n\r\n").ok_or("no head")?;
    let (head, body) = (String::from_utf8_lossy(&all[..end]).into_owned(), &all[end + 4..]);
    let mut lines = head.split("\r\n");
    let line = lines.next().and_then(|l| l.strip_prefix("HTTP/1.1 ")).ok_or("no status line")?;
    let status = line.split(' ').next().unwrap_or_default().to_owned();
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("no field")?;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err("an odd name");
        }
        if !value.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            return Err("an odd value");
        }
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let values = |name: &str| fields.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>();
    let has_body = !is_head && !matches!(status.as_str(), "204" | "304");
    let (framing, body) = match (values("content-length").as_slice(), values("transfer-encoding").as_slice()) {
        (lengths, codings) if !has_body && lengths.len() <= 1 && codings.is_empty() => {
            if !body.is_empty() {
                return Err("a body where there is none");
            }
            (Framing::None, Some(Vec::new()))
        }
        ([length], []) => {
            let length = length.parse::<usize>().map_err(|_| "no length")?;
            if body.len() > length {
                return Err("more than the length");
            }
            (Framing::Length, (body.len() == length).then(|| body.to_vec()))
        }
        ([], ["chunked"]) => (Framing::Chunked, chunks(body)?),
        _ => return Err("not one framing"),
    };
    Ok(Got { status, fields, framing, body })
}

fn chunks(mut rest: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    let mut body = Vec::new();
    while let Some(at) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = std::str::from_utf8(&rest[..at]).ok().and_then(|t| usize::from_str_radix(t, 16).ok());
        let size = size.ok_or("no size of a chunk")?;
        let Some(chunk) = rest.get(at + 2..at + 4 + size) else { return Ok(None) };
        body.extend_from_slice(&chunk[..size]);
        rest = &rest[at + 4 + size..];
        if size == 0 {
            return if rest.is_empty() { Ok(Some(body)) } else { Err("more than the last chunk") };
        }
    }
    Ok(None)
}

fn run(world: &World, app: &Recorder, case: &Case) -> Result<(), String> {
    let (said, ends) = (case.bytes("app").unwrap(), case.has("ends"));
    app.says(move |seen| match seen.line.contains("/next") {
        true => Says::ok(),
        false if ends => Says::Last(said.clone()),
        false => Says::Whole(said.clone()),
    });
    let method = case.text("ask").unwrap_or("GET".into());
    let got = ask(world, &method, "/case")?;
    let expected = case.text("answer").unwrap();
    let fits = expected.split('|').any(|one| {
        let mut words = one.splitn(3, ' ');
        match (words.next().unwrap_or_default(), words.next(), words.next()) {
            ("cut", None, None) => got.status == "200" && got.body.is_none(),
            (status, None, None) => got.status == status && got.body.is_some(),
            (status, Some(framing), body) => {
                let framed = format!("{:?}", got.framing).to_ascii_lowercase();
                let body = body.unwrap_or_default().as_bytes();
                got.status == status && framed == framing && got.body.as_deref() == Some(body)
            }
            (_, None, Some(_)) => false,
        }
    });
    if !fits {
        return Err(format!("{got:?}, not {expected}"));
    }
    for field in case.all("field").map(|f| String::from_utf8_lossy(f).into_owned()) {
        let right = match (field.strip_prefix("no "), field.split_once(": ")) {
            (Some(name), _) => !got.has(name),
            (None, Some((name, value))) => got.fields.iter().any(|(n, v)| n == name && v == value),
            (None, None) => false,
        };
        if !right {
            return Err(format!("{field:?} does not hold: {got:?}"));
        }
    }
    // As often as the gate has threads, and once more: each has connections of its own.
    for n in 0..4 {
        let next = ask(world, "GET", &format!("/next/{n}"))?;
        if (next.status.as_str(), next.body.as_deref()) != ("200", Some(b"ok")) {
            return Err(format!("the next client got {next:?}"));
        }
    }
    Ok(())
}

#[test]
fn s_frame_13_an_answer_has_one_reading_and_the_next_client_its_own() {
    let app = Recorder::start();
    let world = in_front_of(&app);
    let mut wrong = Vec::new();
    for case in cases(CORPUS, &KEYS, &[]) {
        wrong.extend(run(&world, &app, &case).err().map(|why| format!("{}: {why}", case.name)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(app.faults().is_empty(), "{}", app.faults().join("\n"));
}
