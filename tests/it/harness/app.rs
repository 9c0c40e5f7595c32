//! An app that records the bytes it got and answers 200 with what it was told to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub line: String,
    /// Names as they came, in order.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Recorded {
    /// Every value of a header, whatever the letters of its name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// The one value of a header that must be there once.
    pub fn one(&self, name: &str) -> &str {
        let all = self.all(name);
        assert_eq!(all.len(), 1, "{name} came {} times: {self:?}", all.len());
        all[0]
    }
}

type Answer = Arc<dyn Fn(&Recorded) -> Vec<u8> + Send + Sync>;

/// A server on loopback. It ends with the process; its threads hold nothing else.
pub struct RecordingApp {
    pub addr: SocketAddr,
    seen: Arc<Mutex<Vec<Recorded>>>,
    answer: Arc<Mutex<Answer>>,
}

impl RecordingApp {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Recorded>>> = Arc::default();
        let plain: Answer =
            Arc::new(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok".to_vec());
        let answer = Arc::new(Mutex::new(plain));
        let (to, with) = (Arc::clone(&seen), Arc::clone(&answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (to, with) = (Arc::clone(&to), Arc::clone(&with));
                std::thread::spawn(move || serve(stream, &to, &with));
            }
        });
        Self { addr, seen, answer }
    }

    /// What it answers from now on: whole responses, as bytes.
    pub fn answers(&self, with: impl Fn(&Recorded) -> Vec<u8> + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Arc::new(with);
    }

    pub fn answers_with(&self, response: &str) {
        let bytes = response.as_bytes().to_vec();
        self.answers(move |_| bytes.clone());
    }

    /// Everything that arrived since the last call.
    pub fn received(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// The one request that arrived since the last call.
    pub fn received_one(&self) -> Recorded {
        let mut all = self.received();
        assert_eq!(all.len(), 1, "the app got {all:?}");
        all.remove(0)
    }
}

fn serve(stream: TcpStream, seen: &Mutex<Vec<Recorded>>, answer: &Mutex<Answer>) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader) {
        let with = Arc::clone(&answer.lock().unwrap());
        let bytes = with(&request);
        seen.lock().unwrap().push(request);
        if writer.write_all(&bytes).is_err() {
            return;
        }
        // An answer without a length ends with the connection.
        let head = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if !head.contains("content-length:")
            && !head.contains("transfer-encoding:")
            && !head.starts_with("http/1.1 204")
        {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Recorded> {
    let line = read_line(reader)?;
    let mut headers = Vec::new();
    loop {
        let field = read_line(reader)?;
        if field.is_empty() {
            break;
        }
        let (name, value) = field.split_once(':')?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut request = Recorded { line, headers, body: Vec::new() };
    if let Some(length) = request.all("content-length").first() {
        let mut body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        request.body = body;
    } else if !request.all("transfer-encoding").is_empty() {
        loop {
            let size = usize::from_str_radix(read_line(reader)?.split(';').next()?.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            if size == 0 {
                break;
            }
            request.body.extend_from_slice(&chunk[..size]);
        }
    }
    Some(request)
}

fn read_line(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    Some(line.trim_end_matches(['\r', '\n']).to_owned())
}
