//! How is the head of a request written, and that of an answer read?

use std::mem::MaybeUninit;

use bytes::{Buf, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use hyper::ext::ReasonPhrase;

use super::decode::Decoder;
use super::{Error, MAX_FIELDS, MAX_HEAD, MAX_INTERIM};

/// How a request is framed. Decided by its body, whatever its fields say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// Writes a head; says whether the gate would go on with the connection after this request.
pub(super) fn write(out: &mut Vec<u8>, request: &Parts, framing: Framing) -> bool {
    let Parts { method, uri, headers, .. } = request;
    // Once, for nearly every head: it is kept from request to request.
    out.reserve(1024);
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(uri.path_and_query().map_or("/", |target| target.as_str()).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let mut keeps = true;
    for (name, value) in headers {
        if *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING {
            continue;
        }
        keeps &= *name != CONNECTION || !names(value, b"close");
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    match framing {
        // Apps answer 411 to a POST without a length.
        Framing::None if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => length(out, 0),
        Framing::None => {}
        Framing::Length(size) => length(out, size),
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
    keeps
}

fn length(out: &mut Vec<u8>, size: u64) {
    out.extend_from_slice(b"content-length: ");
    out.extend_from_slice(itoa::Buffer::new().format(size).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The head of an answer, and how its body is to be read.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    /// Where it is not the usual one of the status.
    pub(super) reason: Option<ReasonPhrase>,
    pub(super) body: Decoder,
    /// The app would go on with the connection.
    pub(super) keeps: bool,
}

/// Takes the head of the answer to `method`; `None` while it is not whole. Then its fields take the place of
/// those in `headers`: a map that was there for the request is large enough. Interim answers are passed over
/// and counted in `interim`, but for 101, behind which comes no other.
pub(super) fn read(
    input: &mut BytesMut,
    method: &Method,
    headers: &mut HeaderMap,
    interim: &mut usize,
) -> Result<Option<Head>, Error> {
    let mut places = [Place::default(); MAX_FIELDS];
    let (size, count, code, reason, is_http11) = loop {
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let parsed = config.parse_response_with_uninit_headers(&mut response, input, &mut fields);
        let size = match parsed.map_err(Error::Head)? {
            httparse::Status::Complete(size) if size <= MAX_HEAD => size,
            httparse::Status::Partial if input.len() < MAX_HEAD => return Ok(None),
            httparse::Status::Complete(_) | httparse::Status::Partial => return Err(Error::HeadTooLarge),
        };
        let code = response.code.unwrap_or(0);
        if matches!(code, 100 | 102..=199) {
            *interim += 1;
            if *interim > MAX_INTERIM {
                return Err(Error::Interim);
            }
            input.advance(size);
            continue;
        }
        let start = input.as_ptr().addr();
        for (place, field) in places.iter_mut().zip(response.headers.iter()) {
            let of = |part: &[u8]| {
                let from = part.as_ptr().addr().wrapping_sub(start);
                (from, from.wrapping_add(part.len()))
            };
            *place = Place { name: of(field.name.as_bytes()), value: of(field.value) };
        }
        let usual = StatusCode::from_u16(code).ok().and_then(|status| status.canonical_reason());
        let reason = response.reason.filter(|said| Some(*said) != usual);
        let reason = reason.and_then(|said| ReasonPhrase::try_from(said.as_bytes()).ok());
        break (size, response.headers.len(), code, reason, response.version == Some(1));
    };
    let status = StatusCode::from_u16(code).map_err(|e| Error::Field(e.into()))?;
    // Values are parts of what was read, not copies.
    let head = input.split_to(size).freeze();
    headers.clear();
    headers.reserve(count);
    let mut seen = Seen { is_http11, closes: !is_http11, length: Ok(None), coding: None };
    for &Place { name, value } in places.iter().take(count) {
        let name = HeaderName::from_bytes(head.get(name.0..name.1).unwrap_or_default());
        let name = name.map_err(|e| Error::Field(e.into()))?;
        if value.0 > value.1 || value.1 > head.len() {
            return Err(Error::Head(httparse::Error::HeaderValue));
        }
        let value = HeaderValue::from_maybe_shared(head.slice(value.0..value.1));
        let value = value.map_err(|e| Error::Field(e.into()))?;
        seen.note(&name, &value);
        headers.append(name, value);
    }
    let (body, keeps) = seen.body(status, method)?;
    Ok(Some(Head { status, reason, body, keeps }))
}

/// Where name and value of a field stand in a head.
#[derive(Clone, Copy, Default)]
struct Place {
    name: (usize, usize),
    value: (usize, usize),
}

/// What the fields of an answer say of its framing.
struct Seen {
    is_http11: bool,
    closes: bool,
    length: Result<Option<u64>, Error>,
    /// Whether it is one `chunked`, alone.
    coding: Option<bool>,
}

impl Seen {
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) {
        if *name == CONTENT_LENGTH {
            // The same length said twice has one reading (RFC 9112 section 6.3).
            for one in value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                self.length = match (digits(one), &self.length) {
                    (Some(new), Ok(None)) => Ok(Some(new)),
                    (Some(new), Ok(Some(old))) if new == *old => continue,
                    _ => Err(Error::Length),
                };
            }
        } else if *name == TRANSFER_ENCODING {
            let is_chunked = value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
            self.coding = Some(is_chunked && self.coding.is_none());
        } else if *name == CONNECTION {
            self.closes |= names(value, b"close");
        }
    }

    /// RFC 9112 section 6.3, and whether the connection may go on.
    fn body(self, status: StatusCode, method: &Method) -> Result<(Decoder, bool), Error> {
        let keeps = !self.closes;
        if status.is_informational() {
            return Ok((Decoder::none(), keeps && status != StatusCode::SWITCHING_PROTOCOLS));
        }
        if *method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            return Ok((Decoder::none(), keeps));
        }
        match (self.coding, self.length) {
            (Some(true), length) if self.is_http11 => {
                // The coding counts; but whoever says two things may mean the other (section 6.3, 3).
                Ok((Decoder::chunked(), keeps && matches!(length, Ok(None))))
            }
            (Some(_), _) => Err(Error::Coding),
            (None, Ok(Some(length))) => Ok((Decoder::length(length), keeps)),
            (None, Ok(None)) => Ok((Decoder::until_close(), false)),
            (None, Err(error)) => Err(error),
        }
    }
}

fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

fn names(value: &HeaderValue, word: &[u8]) -> bool {
    value.as_bytes().split(|b| *b == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn written(request: &Request<()>, framing: Framing) -> (String, bool) {
        let mut out = Vec::new();
        let keeps = write(&mut out, &request.clone().into_parts().0, framing);
        (String::from_utf8(out).unwrap(), keeps)
    }

    #[test]
    fn s_frame_1_the_framing_is_the_bodys_whatever_the_fields_say() {
        let request = Request::get("/a?b=%2f")
            .header("host", "app.example")
            .header("content-length", "7")
            .header("transfer-encoding", "gzip")
            .header("x-a", "1")
            .header("x-a", "2")
            .body(())
            .unwrap();
        let head = "GET /a?b=%2f HTTP/1.1\r\nhost: app.example\r\nx-a: 1\r\nx-a: 2\r\n";
        assert_eq!(written(&request, Framing::None), (format!("{head}\r\n"), true));
        assert_eq!(written(&request, Framing::Length(12)), (format!("{head}content-length: 12\r\n\r\n"), true));
        assert_eq!(written(&request, Framing::Chunked), (format!("{head}transfer-encoding: chunked\r\n\r\n"), true));
        let empty = Request::post("/").header("connection", "x, Close").body(()).unwrap();
        let head = "POST / HTTP/1.1\r\nconnection: x, Close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(written(&empty, Framing::None), (head.to_owned(), false));
    }

    fn read_as(method: &Method, sent: &str) -> Result<Option<Head>, Error> {
        read(&mut BytesMut::from(sent), method, &mut HeaderMap::new(), &mut 0)
    }

    /// How the body is read, and whether the connection may go on.
    fn framed(method: &Method, fields: &str) -> Result<(String, bool), String> {
        let head = read_as(method, &format!("HTTP/{fields}\r\n\r\n")).map_err(|e| format!("{e:?}"))?.unwrap();
        Ok((format!("{:?}", head.body), head.keeps))
    }

    #[test]
    fn s_frame_13_a_body_has_one_framing_or_the_answer_is_none() {
        let of = |decoder: Decoder, keeps| Ok((format!("{decoder:?}"), keeps));
        let get = |fields: &str| framed(&Method::GET, fields);
        assert_eq!(get("1.1 200 OK\r\nContent-Length: 5"), of(Decoder::length(5), true));
        assert_eq!(get("1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5, 5"), of(Decoder::length(5), true));
        assert_eq!(get("1.1 200 OK\r\nTransfer-Encoding: Chunked"), of(Decoder::chunked(), true));
        assert_eq!(get("1.1 200 OK\r\nX: y"), of(Decoder::until_close(), false));
        for both in
            ["Content-Length: 3\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: x"]
        {
            assert_eq!(get(&format!("1.1 200 OK\r\n{both}")), of(Decoder::chunked(), false), "{both}");
        }
        for length in
            ["", "-1", "+5", "5x", "0x5", "5 5", "5,6", "5,", "99999999999999999999", "5\r\nContent-Length: 6"]
        {
            let fields = format!("1.1 200 OK\r\nContent-Length: {length}");
            assert_eq!(get(&fields), Err("Length".into()), "{length:?}");
        }
        for coding in
            ["", "gzip", "gzip, chunked", "chunked, chunked", "xchunked", "chunked\r\nTransfer-Encoding: chunked"]
        {
            let fields = format!("1.1 200 OK\r\nTransfer-Encoding: {coding}");
            assert_eq!(get(&fields), Err("Coding".into()), "{coding:?}");
        }
        assert_eq!(get("1.0 200 OK\r\nTransfer-Encoding: chunked"), Err("Coding".into()));
        for none in ["1.1 204 N\r\nContent-Length: 5", "1.1 304 N\r\nTransfer-Encoding: chunked"] {
            assert_eq!(get(none), of(Decoder::none(), true));
        }
        assert_eq!(framed(&Method::HEAD, "1.1 200 OK\r\nContent-Length: 5"), of(Decoder::none(), true));
    }

    #[test]
    fn a_connection_goes_on_unless_the_app_would_close_it() {
        let keeps = |version: &str, fields: &str| {
            framed(&Method::GET, &format!("{version} 200 OK\r\nContent-Length: 0{fields}")).unwrap().1
        };
        assert!(keeps("1.1", ""));
        assert!(keeps("1.1", "\r\nConnection: Keep-Alive"));
        assert!(!keeps("1.1", "\r\nConnection: x, CLOSE"));
        assert!(!keeps("1.1", "\r\nConnection: close\r\nConnection: keep-alive"));
        assert!(!keeps("1.0", "\r\nConnection: keep-alive"));
    }

    #[test]
    fn a_head_is_read_when_it_is_whole_and_what_came_before_it_is_passed_over() {
        let sent = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
                    HTTP/1.1 200 All fine\r\nA: 1\r\na: é\r\nContent-Length: 2\r\n\r\nokrest";
        let (mut input, mut headers, mut interim) = (BytesMut::new(), HeaderMap::new(), 0);
        headers.insert("x-request", HeaderValue::from_static("a field of the request"));
        for (at, byte) in sent.bytes().enumerate() {
            input.extend_from_slice(&[byte]);
            let read = read(&mut input, &Method::GET, &mut headers, &mut interim).unwrap();
            let Some(head) = read else { continue };
            assert_eq!(&sent[at + 1..], "okrest");
            assert_eq!((head.status, headers.len(), headers.get_all("a").iter().count()), (StatusCode::OK, 3, 2));
            assert_eq!(head.reason.unwrap().as_bytes(), b"All fine");
            return;
        }
        panic!("no head");
    }

    #[test]
    fn s_frame_14_an_app_that_says_only_that_it_will_answer_is_heard_out_so_often() {
        let (hint, answer) = ("HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n");
        let after = |hints: usize| {
            let (mut headers, mut interim) = (HeaderMap::new(), 0);
            let mut read = |sent: &str| read(&mut BytesMut::from(sent), &Method::GET, &mut headers, &mut interim);
            // Some of them came with an earlier read.
            read(&hint.repeat(5)).and_then(|_| read(&(hint.repeat(hints - 5) + answer)))
        };
        assert!(after(MAX_INTERIM).is_ok_and(|head| head.is_some()));
        assert!(matches!(after(MAX_INTERIM + 1), Err(Error::Interim)));
    }

    #[test]
    fn a_head_that_is_none_or_too_large_is_refused() {
        for odd in [
            "hello\r\n\r\n",
            "HTTP/1.2 200 OK\r\n\r\n",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 000 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\rC: d\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n",
        ] {
            assert!(read_as(&Method::GET, odd).is_err(), "{odd:?}");
        }
        let field = format!("A: {}\r\n", "b".repeat(1000));
        let large = format!("HTTP/1.1 200 OK\r\n{}", field.repeat(66));
        assert!(matches!(read_as(&Method::GET, &large), Err(Error::HeadTooLarge)), "and it does not even end");
        assert!(matches!(read_as(&Method::GET, &format!("{large}\r\n")), Err(Error::HeadTooLarge)));
        let many = |count| read_as(&Method::GET, &format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(count)));
        assert!(many(MAX_FIELDS).is_ok_and(|head| head.is_some()));
        assert!(many(MAX_FIELDS + 1).is_err());
    }
}
