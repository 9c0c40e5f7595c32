//! A client of HTTP/2 that sends whatever frames it is told to.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
/// Of PING and SETTINGS.
pub const ACK: u8 = 1;

/// In a RST_STREAM: nothing was done for the request.
pub const REFUSED_STREAM: u32 = 7;
/// ENHANCE_YOUR_CALM, in a GOAWAY.
pub const CALM: u32 = 11;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = vec![length[1], length[2], length[3], kind, flags];
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A header block of literals: not indexed, not compressed.
pub fn block(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            // A prefix of 7 bits (RFC 7541 section 5.1).
            let mut rest = text.len();
            if rest < 127 {
                out.push(u8::try_from(rest).unwrap());
            } else {
                out.push(127);
                rest -= 127;
                while rest >= 128 {
                    out.push(u8::try_from(rest % 128).unwrap() | 128);
                    rest /= 128;
                }
                out.push(u8::try_from(rest).unwrap());
            }
            out.extend_from_slice(text);
        }
    }
    out
}

/// The head of a plain request.
pub fn head(method: &str, path: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let field = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    vec![field(":method", method), field(":scheme", "https"), field(":authority", "a"), field(":path", path)]
}

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error of a GOAWAY or RST_STREAM.
    pub fn error(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// The status that a block of response fields begins with. The client said that it keeps no table, so
    /// it is in the static one or a literal.
    pub fn status(&self) -> u16 {
        let mut bytes = self.payload.as_slice();
        while bytes[0] & 0xe0 == 0x20 {
            bytes = &bytes[1..];
        }
        let known = [200, 204, 206, 304, 400, 404, 500];
        if (0x88..=0x8e).contains(&bytes[0]) {
            return known[usize::from(bytes[0] - 0x88)];
        }
        assert!(matches!(bytes[0], 0x08 | 0x18 | 0x48), "the status comes first: {bytes:?}");
        let text = &bytes[2..2 + usize::from(bytes[1] & 0x7f)];
        if bytes[1] & 0x80 == 0 {
            return String::from_utf8_lossy(text).parse().unwrap();
        }
        // Digits in the code of RFC 7541 appendix B: 0 to 2 in five bits, 3 to 9 in six.
        let bits: Vec<u16> = text.iter().flat_map(|b| (0..8).rev().map(move |n| u16::from(b >> n & 1))).collect();
        let (mut at, mut status) = (0, 0);
        for _ in 0..3 {
            let take = |n: usize| bits[at..at + n].iter().fold(0, |all, bit| all << 1 | bit);
            let (digit, used) = if take(5) < 3 { (take(5), 5) } else { (take(6) - 0x19 + 3, 6) };
            status = status * 10 + digit;
            at += used;
        }
        status
    }
}

pub struct Client {
    tls: StreamOwned<ClientConnection, TcpStream>,
}

impl Client {
    /// A connection whose preface and empty table are sent.
    pub fn open(addr: SocketAddr, trust: Arc<ClientConfig>) -> Self {
        Self::over(TcpStream::connect(addr).unwrap(), trust)
    }

    pub fn over(tcp: TcpStream, trust: Arc<ClientConfig>) -> Self {
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        let connection = ClientConnection::new(trust, ServerName::try_from("a").unwrap()).unwrap();
        let mut client = Self { tls: StreamOwned::new(connection, tcp) };
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // SETTINGS_HEADER_TABLE_SIZE = 0.
        hello.extend(frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]));
        client.write(&hello).unwrap();
        assert_eq!(client.tls.conn.alpn_protocol(), Some(&b"h2"[..]));
        client
    }

    pub fn tcp(&self) -> &TcpStream {
        &self.tls.sock
    }

    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.tls.write_all(bytes)?;
        self.tls.flush()
    }

    /// A request without a body.
    pub fn asks(&mut self, stream: u32, path: &str) -> std::io::Result<()> {
        self.write(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&head("GET", path))))
    }

    /// The next frame; `None` when the connection has ended.
    pub fn read(&mut self) -> Option<Frame> {
        let mut start = [0; 9];
        self.exactly(&mut start)?;
        let length = u32::from_be_bytes([0, start[0], start[1], start[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.exactly(&mut payload)?;
        let stream = u32::from_be_bytes([start[5], start[6], start[7], start[8]]);
        Some(Frame { kind: start[3], flags: start[4], stream, payload })
    }

    fn exactly(&mut self, into: &mut [u8]) -> Option<()> {
        match self.tls.read_exact(into) {
            Ok(()) => Some(()),
            Err(error) => {
                let kind = error.kind();
                let silent = matches!(kind, std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                assert!(!silent, "the gate says nothing");
                None
            }
        }
    }

    /// Reads on until a frame is the one that is looked for; `None` when the connection ended before.
    pub fn until(&mut self, mut is: impl FnMut(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.read()?;
            if is(&frame) {
                return Some(frame);
            }
        }
    }

    /// The status of a stream's answer; `None` for an end without one.
    pub fn answer(&mut self, stream: u32) -> Option<u16> {
        let about = |f: &Frame| f.kind == GOAWAY || (f.stream == stream && matches!(f.kind, HEADERS | RST_STREAM));
        self.until(about).filter(|f| f.kind == HEADERS).map(|f| f.status())
    }
}
