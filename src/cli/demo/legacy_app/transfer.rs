//! What do large bodies look like to an old app? A generated download with ranges, and an upload
//! that is hashed as it streams past.

use std::convert::Infallible;
use std::ops::Range;

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use data_encoding::HEXLOWER;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};

use super::respond::{self, Body};

const DEFAULT_LENGTH: u64 = 200 * 1024 * 1024;
const LONGEST: u64 = 4 * 1024 * 1024 * 1024;
const CHUNK: u64 = 64 * 1024;
/// Part headers longer than this are no upload form of ours.
const PART_HEAD_LIMIT: usize = 8 * 1024;

/// `/download?bytes=N`: the same bytes each time, so that a resumed download can be compared.
pub(super) fn download(headers: &HeaderMap, method: &Method, query: Option<&str>) -> Response<Body> {
    let length = query
        .and_then(|q| form_urlencoded::parse(q.as_bytes()).find(|(name, _)| name == "bytes")?.1.parse().ok())
        .unwrap_or(DEFAULT_LENGTH)
        .min(LONGEST);
    let etag = format!("\"legacy-{length}\"");
    let if_range_holds = headers.get(header::IF_RANGE).is_none_or(|value| value.as_bytes() == etag.as_bytes());
    let asked = headers.get(header::RANGE).filter(|_| if_range_holds).and_then(|value| value.to_str().ok());
    let (status, range) = match asked.map(|text| parse_range(text, length)) {
        None | Some(Asked::Ignored) => (StatusCode::OK, 0..length),
        Some(Asked::Part(range)) => (StatusCode::PARTIAL_CONTENT, range),
        Some(Asked::Outside) => {
            let mut response = respond::text(StatusCode::RANGE_NOT_SATISFIABLE, "No such range");
            set(response.headers_mut(), header::CONTENT_RANGE, format!("bytes */{length}"));
            return response;
        }
    };
    let sent = range.end.saturating_sub(range.start);
    let mut response = Response::new(if method == Method::HEAD { respond::full("") } else { generated(range.clone()) });
    *response.status_mut() = status;
    let out = response.headers_mut();
    if status == StatusCode::PARTIAL_CONTENT {
        let content_range = format!("bytes {}-{}/{length}", range.start, range.end.saturating_sub(1));
        set(out, header::CONTENT_RANGE, content_range);
    }
    set(out, header::CONTENT_LENGTH, sent.to_string());
    set(out, header::ETAG, etag);
    out.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    out.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"archive.bin\""));
    response
}

fn set(headers: &mut HeaderMap, name: header::HeaderName, value: String) {
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) {
        headers.insert(name, value);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// Not in bytes, unreadable, or several at once: RFC 9110 14.2 lets a server send the whole.
    Ignored,
    Part(Range<u64>),
    Outside,
}

fn parse_range(text: &str, length: u64) -> Asked {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|spec| spec.split_once('-')) else {
        return Asked::Ignored;
    };
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(length),
        (Ok(first), Err(_)) if last.is_empty() => first..length,
        (Err(_), Ok(suffix)) if first.is_empty() => length.saturating_sub(suffix)..length,
        _ => return Asked::Ignored,
    };
    if range.start < range.end { Asked::Part(range) } else { Asked::Outside }
}

fn generated(range: Range<u64>) -> Body {
    let chunks = stream::unfold(range, |left| async move {
        if left.is_empty() {
            return None;
        }
        let end = left.end.min(left.start.saturating_add(CHUNK));
        let chunk: BytesMut = (left.start..end).map(byte_at).collect();
        Some((Ok::<_, Infallible>(Frame::data(chunk.freeze())), end..left.end))
    });
    StreamBody::new(chunks).boxed_unsync()
}

/// The byte of the archive at this place: cheap, and different enough that a shifted range shows.
fn byte_at(offset: u64) -> u8 {
    let mixed = offset.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed.to_be_bytes()[0]
}

/// What arrived in an upload.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) sha256: String,
}

impl Received {
    pub(super) fn to_json(&self) -> Value {
        json!({ "name": self.name, "size": self.size, "sha256": self.sha256 })
    }
}

/// The first file of a multipart form, or the whole of any other body. Nothing is kept.
pub(super) async fn receive(request: Request<Incoming>) -> Result<Received, &'static str> {
    let boundary = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).and_then(boundary_of);
    let mut part = Part::new(boundary.as_deref());
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| "The upload broke off")?;
        if let Ok(data) = frame.into_data() {
            part.take(&data)?;
        }
    }
    part.finish()
}

fn boundary_of(content_type: &str) -> Option<String> {
    let parameters = content_type.strip_prefix("multipart/form-data")?;
    let value = parameters.split(';').find_map(|p| p.trim().strip_prefix("boundary="))?;
    Some(value.trim_matches('"').to_owned())
}

/// One part being read, with no more held back than a boundary could hide in.
struct Part {
    /// `\r\n--boundary`; `None` for a body that is the file itself.
    delimiter: Option<Vec<u8>>,
    state: State,
    held: BytesMut,
    name: String,
    size: u64,
    hash: digest::Context,
}

#[derive(PartialEq, Eq)]
enum State {
    Head,
    Data,
    Done,
}

impl Part {
    fn new(boundary: Option<&str>) -> Self {
        Self {
            delimiter: boundary.map(|b| format!("\r\n--{b}").into_bytes()),
            state: if boundary.is_some() { State::Head } else { State::Data },
            held: BytesMut::new(),
            name: String::new(),
            size: 0,
            hash: digest::Context::new(&digest::SHA256),
        }
    }

    fn take(&mut self, data: &[u8]) -> Result<(), &'static str> {
        if self.state == State::Done {
            return Ok(());
        }
        self.held.extend_from_slice(data);
        if self.state == State::Head {
            let Some(end) = find(&self.held, b"\r\n\r\n") else {
                return if self.held.len() > PART_HEAD_LIMIT { Err("The upload has no file") } else { Ok(()) };
            };
            let head = self.held.split_to(end.saturating_add(4));
            self.name = file_name(&String::from_utf8_lossy(&head));
            self.state = State::Data;
        }
        let Some(delimiter) = &self.delimiter else {
            let all = self.held.split();
            self.count(&all);
            return Ok(());
        };
        let (ready, done) = match find(&self.held, delimiter) {
            Some(at) => (at, true),
            None => (self.held.len().saturating_sub(delimiter.len()), false),
        };
        let ready = self.held.split_to(ready);
        self.count(&ready);
        if done {
            self.state = State::Done;
        }
        Ok(())
    }

    fn count(&mut self, bytes: &[u8]) {
        self.size = self.size.saturating_add(bytes.len() as u64);
        self.hash.update(bytes);
    }

    fn finish(self) -> Result<Received, &'static str> {
        if self.delimiter.is_some() && self.state != State::Done {
            return Err("The upload has no end");
        }
        Ok(Received { name: self.name, size: self.size, sha256: HEXLOWER.encode(self.hash.finish().as_ref()) })
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn file_name(head: &str) -> String {
    let after = head.split_once("filename=\"").map_or("", |(_, rest)| rest);
    after.split('"').next().unwrap_or_default().to_owned()
}
