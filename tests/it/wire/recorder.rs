//! An app that keeps every byte and reads strictly: whatever a lenient reader could take in another way
//! is a fault.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How a body was framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length,
    Chunked,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub line: String,
    pub fields: Vec<(String, String)>,
    pub framing: Framing,
    /// Without its framing; `None` when it never came to its end.
    pub body: Option<Vec<u8>>,
}

impl Seen {
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }
}

/// What the app says, and when.
#[derive(Clone)]
pub enum Says {
    /// Once the request is whole.
    Whole(Vec<u8>),
    /// Once the head is there; then it says no more on this connection.
    Early(Vec<u8>),
    /// Once the request is whole, and it closes.
    Last(Vec<u8>),
    /// Nothing, until the other side goes.
    Nothing,
}

impl Says {
    pub fn ok() -> Self {
        Self::Whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec())
    }
}

type Script = Arc<dyn Fn(&Seen) -> Says + Send + Sync>;

#[derive(Clone)]
pub struct Recorder {
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    faults: Arc<Mutex<Vec<String>>>,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    script: Arc<Mutex<Script>>,
}

impl Recorder {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let it = Self {
            addr: listener.local_addr().unwrap(),
            seen: Arc::default(),
            faults: Arc::default(),
            open: Arc::default(),
            most: Arc::default(),
            script: Arc::new(Mutex::new(Arc::new(|_| Says::ok()))),
        };
        let app = it.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let app = app.clone();
                let open = app.open.fetch_add(1, Ordering::SeqCst) + 1;
                app.most.fetch_max(open, Ordering::SeqCst);
                std::thread::spawn(move || {
                    if let Err(fault) = app.serve(stream) {
                        app.faults.lock().unwrap().push(fault);
                    }
                    app.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        it
    }

    pub fn says(&self, script: impl Fn(&Seen) -> Says + Send + Sync + 'static) {
        *self.script.lock().unwrap() = Arc::new(script);
    }

    /// Everything so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Those that came to their end. Whether the head of one that did not was on its way already is the
    /// weather; that nothing was finished is not.
    pub fn whole(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.body.is_some()).collect()
    }

    pub fn faults(&self) -> Vec<String> {
        self.faults.lock().unwrap().clone()
    }

    /// Connections that nobody closed yet.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// The most connections that were open at a time.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    fn serve(&self, mut stream: TcpStream) -> Result<(), String> {
        let mut wire = Wire { stream: stream.try_clone().unwrap(), ahead: Vec::new() };
        loop {
            let Some(head) = wire.until(b"\r\n\r\n") else {
                return if wire.ahead.is_empty() { Ok(()) } else { Err(wire.odd("half a head")) };
            };
            let (line, fields) = head_of(&head)?;
            let mut seen = Seen { line, fields, framing: Framing::None, body: None };
            seen.framing = framing(&seen).map_err(|fault| format!("{fault}: {seen:?}"))?;
            let script = Arc::clone(&self.script.lock().unwrap());
            if let Says::Early(bytes) = script(&seen) {
                let _ = stream.write_all(&bytes);
                let body = wire.body(&seen).unwrap_or_default();
                self.seen.lock().unwrap().push(Seen { body, ..seen });
                let _ = stream.read_to_end(&mut Vec::new());
                return Ok(());
            }
            seen.body = wire.body(&seen)?;
            let whole = seen.body.is_some();
            self.seen.lock().unwrap().push(seen.clone());
            match script(&seen) {
                _ if !whole => return Ok(()),
                Says::Whole(bytes) | Says::Early(bytes) => {
                    let _ = stream.write_all(&bytes);
                }
                Says::Last(bytes) => {
                    let _ = stream.write_all(&bytes);
                    return Ok(());
                }
                Says::Nothing => {
                    let _ = stream.read(&mut [0; 64]);
                    return Ok(());
                }
            }
        }
    }
}

fn head_of(head: &[u8]) -> Result<(String, Vec<(String, String)>), String> {
    let text = String::from_utf8(head.to_vec()).map_err(|_| format!("no text: {head:?}"))?;
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default().to_owned();
    let words: Vec<&str> = line.split(' ').collect();
    if words.len() != 3 || words[2] != "HTTP/1.1" || !words[1].starts_with('/') {
        return Err(format!("no request line: {text:?}"));
    }
    let clean = |text: &str| text.bytes().all(|b| b == b'\t' || (0x20..0x7f).contains(&b));
    let mut fields = Vec::new();
    for field in lines {
        let Some((name, value)) = field.split_once(':') else { return Err(format!("no field: {text:?}")) };
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !plain || !clean(value) {
            return Err(format!("an odd field: {text:?}"));
        }
        fields.push((name.to_owned(), value.trim().to_owned()));
    }
    Ok((line, fields))
}

/// The one framing of a request, and nothing that concerns one connection only.
fn framing(seen: &Seen) -> Result<Framing, &'static str> {
    for name in ["keep-alive", "proxy-connection", "te", "trailer", "http2-settings", "expect", "proxy-authorization"] {
        if !seen.values(name).is_empty() {
            return Err("a field of one hop");
        }
    }
    let is_handshake = seen.values("upgrade") == ["websocket"] && seen.values("connection") == ["Upgrade"];
    let names_hop = !seen.values("upgrade").is_empty() || !seen.values("connection").is_empty();
    // The gate's own word: what is left unread of a body is not to be taken for a request (S-FRAME-8).
    let closes = seen.values("upgrade").is_empty() && seen.values("connection") == ["close"];
    if names_hop && !is_handshake && !closes {
        return Err("a field of one hop");
    }
    let is_empty =
        seen.values("transfer-encoding").is_empty() && matches!(seen.values("content-length")[..], [] | ["0"]);
    if !is_empty && !closes {
        return Err("a body after which the connection goes on");
    }
    if seen.values("host").len() != 1 {
        return Err("not one host");
    }
    match (seen.values("content-length").as_slice(), seen.values("transfer-encoding").as_slice()) {
        ([], []) => Ok(Framing::None),
        ([length], []) if length.bytes().all(|b| b.is_ascii_digit()) && !length.is_empty() => Ok(Framing::Length),
        ([], ["chunked"]) => Ok(Framing::Chunked),
        _ => Err("not one framing"),
    }
}

/// A connection, read strictly.
struct Wire {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Wire {
    fn odd(&self, what: &str) -> String {
        format!("{what}: {:?}", String::from_utf8_lossy(&self.ahead))
    }

    fn more(&mut self) -> Option<()> {
        let mut buffer = [0; 16 * 1024];
        let n = self.stream.read(&mut buffer).ok().filter(|n| *n > 0)?;
        self.ahead.extend_from_slice(&buffer[..n]);
        Some(())
    }

    fn until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.ahead.windows(mark.len()).position(|w| w == mark) {
                let found = self.ahead.drain(..at).collect();
                self.ahead.drain(..mark.len());
                return Some(found);
            }
            self.more()?;
        }
    }

    fn exactly(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.ahead.len() < n {
            self.more()?;
        }
        Some(self.ahead.drain(..n).collect())
    }

    /// `None` inside: the connection ended before the body did.
    fn body(&mut self, seen: &Seen) -> Result<Option<Vec<u8>>, String> {
        let length = seen.values("content-length").first().map(|l| l.parse().unwrap());
        match seen.framing {
            Framing::None => Ok(Some(Vec::new())),
            Framing::Length => Ok(self.exactly(length.unwrap_or(0))),
            Framing::Chunked => self.chunks(),
        }
    }

    fn chunks(&mut self) -> Result<Option<Vec<u8>>, String> {
        let mut body = Vec::new();
        loop {
            let Some(size) = self.until(b"\r\n") else { return Ok(None) };
            let text = String::from_utf8_lossy(&size).into_owned();
            let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
            let size = usize::from_str_radix(&text, 16).ok().filter(|_| is_plain);
            let Some(size) = size else { return Err(format!("a chunk of size {text:?}")) };
            let Some(data) = self.exactly(size + 2) else { return Ok(None) };
            if !data.ends_with(b"\r\n") {
                return Err(format!("behind a chunk: {:?}", &data[size..]));
            }
            body.extend_from_slice(&data[..size]);
            if size == 0 {
                return Ok(Some(body));
            }
        }
    }
}

/// Looks until it holds; fails when it does not come true. The look decides, not the time between two.
#[expect(clippy::disallowed_methods, reason = "between two looks, on a thread that runs nothing else")]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never came true: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
