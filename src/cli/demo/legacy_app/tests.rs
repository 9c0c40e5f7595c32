//! Is the app good enough to judge the gate by? Each part is asked over a real socket.

use std::io::Write as _;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;

struct Running {
    addr: std::net::SocketAddr,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<io::Result<()>>,
}

impl Running {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(serve(listener, shutdown.clone()));
        Self { addr, shutdown, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// One request on a connection of its own; the whole answer, head and body.
    async fn ask(&self, request: impl AsRef<[u8]>) -> Vec<u8> {
        let mut stream = self.connect().await;
        stream.write_all(request.as_ref()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        answer
    }

    async fn get(&self, path: &str, more: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{more}\r\n");
        String::from_utf8(self.ask(request).await).unwrap()
    }
}

fn body(answer: &[u8]) -> &[u8] {
    let at = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    &answer[at + 4..]
}

#[tokio::test]
async fn it_greets_whom_the_header_names_and_leads_to_every_part() {
    let app = Running::start().await;
    let home = app.get("/", "Remote-User: ann\r\nRemote-Groups: <staff>\r\n").await;
    assert!(home.contains("Hello, ann"), "{home}");
    assert!(home.contains("&lt;staff&gt;"), "{home}");
    assert_eq!(home.matches("set-cookie:").count(), 2, "{home}");
    for path in ["/staff", "/upload", "/live", "/chat", "/reports", "/admin", "/headers"] {
        assert!(home.contains(&format!("href=\"{path}\"")), "{path}");
        assert!(app.get(path, "").await.starts_with("HTTP/1.1 200"), "{path}");
    }
    assert!(app.get("/", "Cookie: a=b; legacyvisits=6\r\n").await.contains("id=\"visits\">7<"));
    assert!(app.get("/nowhere", "").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_posted_row_stands_in_the_list() {
    let app = Running::start().await;
    let form = "name=Bo%20%26%20Co&room=9";
    let request = format!(
        "POST /staff HTTP/1.1\r\nHost: a\r\nConnection: close\r\nRemote-User: lee\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    let answer = String::from_utf8(app.ask(request).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 303") && answer.contains("location: /staff"), "{answer}");
    assert!(app.get("/staff", "").await.contains("<td>Bo &amp; Co</td><td>9</td><td></td><td>lee</td>"));
}

#[tokio::test]
async fn an_upload_is_measured_whatever_pieces_it_comes_in() {
    let app = Running::start().await;
    let file: Vec<u8> = [b"\r\n--x\r\n".as_slice(), &[7; 300_000], b"\r\n-"].concat();
    let mut form = b"--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"r.bin\"\r\n\r\n".to_vec();
    form.extend_from_slice(&file);
    form.extend_from_slice(b"\r\n--xyz--\r\n");
    let mut request = Vec::new();
    write!(
        request,
        "POST /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept: application/json\r\n\
         Content-Type: multipart/form-data; boundary=xyz\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    .unwrap();
    for piece in form.chunks(4093) {
        write!(request, "{:x}\r\n", piece.len()).unwrap();
        request.extend_from_slice(piece);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    let answer = app.ask(request).await;
    let said: serde_json::Value = serde_json::from_slice(body(&answer)).unwrap();
    let sha256 = data_encoding::HEXLOWER.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &file).as_ref());
    assert_eq!(said, serde_json::json!({ "name": "r.bin", "size": file.len(), "sha256": sha256 }));
}

#[tokio::test]
async fn a_download_can_be_measured_and_resumed() {
    let app = Running::start().await;
    let ask = |method: &str, more: &str| {
        format!("{method} /download?bytes=150000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{more}\r\n")
    };
    let whole = app.ask(ask("GET", "")).await;
    assert_eq!(body(&whole).len(), 150_000);
    let head = String::from_utf8(app.ask(ask("HEAD", "")).await).unwrap();
    assert!(head.contains("content-length: 150000") && head.ends_with("\r\n\r\n"), "{head}");
    let part = app.ask(ask("GET", "Range: bytes=70000-139999\r\n")).await;
    assert!(part.starts_with(b"HTTP/1.1 206"));
    assert_eq!(body(&part), &body(&whole)[70_000..140_000]);
    let tail = app.ask(ask("GET", "Range: bytes=-10\r\n")).await;
    assert_eq!(body(&tail), &body(&whole)[149_990..]);
    let beyond = String::from_utf8(app.ask(ask("GET", "Range: bytes=150000-\r\n")).await).unwrap();
    assert!(beyond.starts_with("HTTP/1.1 416") && beyond.contains("bytes */150000"), "{beyond}");
    let changed = app.ask(ask("GET", "Range: bytes=0-9\r\nIf-Range: \"other\"\r\n")).await;
    assert!(changed.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn headers_are_told_as_they_came() {
    let app = Running::start().await;
    let request =
        "PROPFIND /headers/a%20b?c=d HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Two: 1\r\nX-Two: 2\r\n\r\n";
    let said: serde_json::Value = serde_json::from_slice(body(&app.ask(request).await)).unwrap();
    assert_eq!(said["method"], "PROPFIND");
    assert_eq!(said["target"], "/headers/a%20b?c=d");
    let twos: Vec<_> = said["headers"].as_array().unwrap().iter().filter(|h| h[0] == "x-two").collect();
    assert_eq!(twos, [&serde_json::json!(["x-two", "1"]), &serde_json::json!(["x-two", "2"])]);
}

#[tokio::test]
async fn events_count_and_end_with_the_app() {
    let app = Running::start().await;
    let mut stream = BufReader::new(app.connect().await);
    stream.write_all(b"GET /live/events HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut lines = Vec::new();
    while lines.iter().filter(|l: &&String| l.starts_with("data: ")).count() < 2 {
        let mut line = String::new();
        assert_ne!(stream.read_line(&mut line).await.unwrap(), 0);
        lines.push(line);
    }
    assert!(lines.iter().any(|l| l.starts_with("data: {\"count\":1,")), "{lines:?}");
    app.shutdown.cancel();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "the stream is ended, not cut");
    app.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_socket_sends_back_what_it_hears() {
    let app = Running::start().await;
    let mut stream = BufReader::new(app.connect().await);
    stream
        .write_all(
            b"GET /chat/socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await
        .unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).await.unwrap(), 0);
    }
    // The key and its answer are those of RFC 6455 1.3.
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    for message in [Message::text("hello"), Message::binary(vec![0_u8; 70_000])] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    app.shutdown.cancel();
    assert!(socket.next().await.unwrap().unwrap().is_close());
}
