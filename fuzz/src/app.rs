//! What did the app get? Every byte of every connection, and answers that keep to the protocol.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::wire::{self, Message, Read, Temper};

/// An app on loopback, on the data thread.
#[derive(Default)]
pub struct App {
    state: Rc<RefCell<State>>,
}

#[derive(Default)]
struct State {
    arrived: Vec<Message>,
    /// Connections that are not closed yet.
    open: usize,
    /// Counts whatever happens, so that somebody can wait until nothing does.
    steps: u64,
}

impl App {
    pub fn socket() -> (StdListener, SocketAddr) {
        let socket = StdListener::bind("127.0.0.1:0").expect("loopback");
        socket.set_nonblocking(true).expect("a socket");
        let addr = socket.local_addr().expect("a socket");
        (socket, addr)
    }

    /// To be called on the data thread.
    pub fn start(socket: StdListener) -> Self {
        let app = Self::default();
        let state = Rc::clone(&app.state);
        let listener = TcpListener::from_std(socket).expect("a runtime");
        tokio::task::spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a socket");
                let state = Rc::clone(&state);
                state.borrow_mut().open += 1;
                tokio::task::spawn_local(async move {
                    serve(stream, &state).await;
                    state.borrow_mut().open -= 1;
                });
            }
        });
        app
    }

    pub fn steps(&self) -> u64 {
        self.state.borrow().steps
    }

    pub fn open(&self) -> usize {
        self.state.borrow().open
    }

    /// What arrived since the last call. A message that was cut off is among it.
    pub fn take(&self) -> Vec<Message> {
        std::mem::take(&mut self.state.borrow_mut().arrived)
    }
}

async fn serve(mut stream: TcpStream, state: &RefCell<State>) {
    let mut bytes = Vec::new();
    let mut ended = false;
    // Where in `arrived` the message stands that is still coming.
    let mut current: Option<usize> = None;
    loop {
        while !bytes.is_empty() {
            match wire::read(&bytes, Temper::Strict) {
                Read::More => break,
                Read::Bad(why) => panic!("the app got {why}: {}", bytes.escape_ascii()),
                Read::Message(message, used) => {
                    let whole = message.whole;
                    let answer = answer(&message);
                    {
                        let arrived = &mut state.borrow_mut().arrived;
                        match current {
                            Some(at) => arrived[at] = message,
                            None => {
                                current = Some(arrived.len());
                                arrived.push(message);
                            }
                        }
                    }
                    if !whole {
                        break;
                    }
                    current = None;
                    bytes.drain(..used);
                    let tunnel = answer.starts_with(b"HTTP/1.1 101");
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                    if tunnel {
                        let (mut read, mut write) = stream.split();
                        let _ = tokio::io::copy(&mut read, &mut write).await;
                        return;
                    }
                }
            }
        }
        if ended {
            return;
        }
        ended = stream.read_buf(&mut bytes).await.unwrap_or(0) == 0;
        state.borrow_mut().steps += 1;
    }
}

/// By the last letter of the path, so that an input can choose.
fn answer(message: &Message) -> Vec<u8> {
    let path = message.target.split(|b| *b == b'?').next().unwrap_or_default();
    // For the example key of RFC 6455 section 1.3.
    let key = message.values("sec-websocket-key");
    if !message.values("upgrade").is_empty() && key == [b"dGhlIHNhbXBsZSBub25jZQ=="] {
        return b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
            .to_vec();
    }
    let text: &[u8] = match (path.last(), message.method.as_str()) {
        (_, "HEAD") => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        (Some(b'c'), _) => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        (Some(b'n'), _) => b"HTTP/1.1 204 No Content\r\n\r\n",
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    };
    text.to_vec()
}
