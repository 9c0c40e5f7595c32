//! A gateway for text messages over real sockets: it keeps every request as it came, and answers what the story wants.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub line: String,
    /// Names in small letters, in their order.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Asked {
    /// The only header of this name.
    pub fn header(&self, name: &str) -> &str {
        let mut found = self.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let one = found.next().unwrap_or_else(|| panic!("no {name} in {:?}", self.headers));
        assert!(found.next().is_none(), "{name} stands twice");
        one
    }

    pub fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(n, _)| n == name)
    }

    /// The fields of a form, in their order.
    pub fn fields(&self) -> Vec<(String, String)> {
        assert_eq!(self.header("content-type"), "application/x-www-form-urlencoded");
        form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }

    pub fn field(&self, name: &str) -> String {
        self.fields().into_iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no {name} in {}", self.body)).1
    }

    /// The six digits of a message.
    pub fn code(&self) -> String {
        let text = self.field("Body");
        let digits = |word: &&str| word.len() == 6 && word.bytes().all(|b| b.is_ascii_digit());
        text.split_whitespace().find(digits).unwrap_or_else(|| panic!("no code in {text}")).to_owned()
    }
}

pub struct Gateway {
    pub addr: SocketAddr,
    answer: Arc<Mutex<String>>,
    asked: Receiver<Asked>,
    _thread: JoinHandle<()>,
}

impl Gateway {
    pub fn start() -> Self {
        Self::over(None)
    }

    pub fn over(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (say, asked) = channel();
        let answer = Arc::new(Mutex::new("HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}".to_owned()));
        let shared = Arc::clone(&answer);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), shared, say, tls) = (stream, Arc::clone(&shared), say.clone(), tls.clone()) else {
                    return;
                };
                std::thread::spawn(move || {
                    let _ = match tls {
                        Some(tls) => {
                            serve(StreamOwned::new(ServerConnection::new(tls).unwrap(), stream), &shared, &say)
                        }
                        None => serve(stream, &shared, &say),
                    };
                });
            }
        });
        Self { addr, answer, asked, _thread: thread }
    }

    /// What it answers from now on: everything that it writes.
    pub fn answers(&self, answer: &str) {
        answer.clone_into(&mut self.answer.lock().unwrap());
    }

    /// The `sms:` and `factors:` of a file that sends by it, in Twilio's form.
    pub fn yaml(&self, more: &str) -> String {
        format!(
            "sms: {{ url: \"http://{}/send\", form: {{ To: \"{{to}}\", From: \"+15005550006\", Body: \"{{text}}\", Id: \"{{id}}\" }}, \
             allow_prefixes: [\"+49\", \"+33\"]{more} }}\nfactors: {{ first_login: 0s, sms: {{ codes: true }} }}",
            self.addr
        )
    }

    /// The next request, waited for.
    pub fn next(&self) -> Asked {
        self.asked.recv_timeout(std::time::Duration::from_secs(30)).unwrap_or_else(|_| panic!("no message came"))
    }

    pub fn so_far(&self) -> Vec<Asked> {
        self.asked.try_iter().collect()
    }
}

fn serve<S: Read + Write>(stream: S, answer: &Mutex<String>, say: &Sender<Asked>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        // `doctor` connects and asks nothing.
        return Ok(());
    }
    let mut headers = Vec::new();
    loop {
        let mut field = String::new();
        stream.read_line(&mut field)?;
        let Some((name, value)) = field.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(n, _)| n == "content-length").map_or(0, |(_, v)| v.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let answer = answer.lock().unwrap().clone();
    let asked = Asked { line: line.trim_end().to_owned(), headers, body: String::from_utf8(body).unwrap() };
    let _ = say.send(asked);
    stream.get_mut().write_all(answer.as_bytes())?;
    stream.get_mut().flush()
}
