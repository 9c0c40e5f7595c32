//! What does a byte stream say in HTTP/1, read without the gate's parser?
//!
//! One reader, two tempers. The strict one is for what the gate sends to an app: one form is right.
//! The other is for what a client sent: it takes what RFC 9112 lets a recipient take and hyper does
//! take, and stops where a message is none.

/// One message.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Message {
    pub method: String,
    pub target: Vec<u8>,
    /// Names as they came.
    pub fields: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// It came to its end.
    pub whole: bool,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} {}", self.method, self.target.escape_ascii())?;
        for (name, value) in &self.fields {
            writeln!(f, "  {name}: {}", value.escape_ascii())?;
        }
        write!(f, "  {} {}", self.body.escape_ascii(), if self.whole { "(whole)" } else { "(cut off)" })
    }
}

impl Message {
    pub fn values<'m>(&'m self, name: &str) -> Vec<&'m [u8]> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_slice()).collect()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Temper {
    Strict,
    Client,
}

/// What a stream begins with.
#[derive(Debug)]
pub enum Read {
    /// A message (perhaps cut off), and so many bytes.
    Message(Message, usize),
    /// The head is not there yet.
    More,
    Bad(&'static str),
}

/// A line without its end, and the bytes behind it.
fn line(bytes: &[u8], temper: Temper) -> Result<Option<(&[u8], &[u8])>, &'static str> {
    let Some(at) = bytes.iter().position(|b| *b == b'\n') else { return Ok(None) };
    let (line, rest) = (&bytes[..at], &bytes[at + 1..]);
    match (line.strip_suffix(b"\r"), temper) {
        (Some(line), _) if !line.contains(&b'\r') => Ok(Some((line, rest))),
        // S-FRAME-12: httparse takes a bare LF in a head.
        (None, Temper::Client) if !line.contains(&b'\r') => Ok(Some((line, rest))),
        _ => Err("a line that does not end in CRLF"),
    }
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

pub fn read(bytes: &[u8], temper: Temper) -> Read {
    match read_head(bytes, temper) {
        Ok(Some((mut message, rest))) => match read_body(&mut message, rest, temper) {
            Ok(rest) => {
                let used = bytes.len() - rest.len();
                Read::Message(message, used)
            }
            Err(why) => Read::Bad(why),
        },
        Ok(None) => Read::More,
        Err(why) => Read::Bad(why),
    }
}

fn read_head(mut bytes: &[u8], temper: Temper) -> Result<Option<(Message, &[u8])>, &'static str> {
    if temper == Temper::Client {
        // RFC 9112 section 2.2: empty lines before a request are no harm.
        while let Some(rest) = bytes.strip_prefix(b"\r\n").or_else(|| bytes.strip_prefix(b"\n")) {
            bytes = rest;
        }
    }
    let Some((first, mut bytes)) = line(bytes, temper)? else { return Ok(None) };
    let mut words = first.split(|b| *b == b' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("a request line of other than three words");
    };
    let version_fits = version == b"HTTP/1.1" || (temper == Temper::Client && version == b"HTTP/1.0");
    if !is_token(method) || target.is_empty() || !version_fits {
        return Err("a word of the request line");
    }
    // The query goes on as it came, and old browsers put raw UTF-8 there (S-PATH-7).
    let path = target.split(|b| *b == b'?').next().unwrap_or_default();
    let fits = path.iter().all(u8::is_ascii_graphic) && target.iter().all(|b| b.is_ascii_graphic() || *b >= 0x80);
    if temper == Temper::Strict && !fits {
        return Err("a byte of the target");
    }
    let mut message =
        Message { method: String::from_utf8_lossy(method).into_owned(), target: target.to_vec(), ..Message::default() };
    loop {
        let Some((field, rest)) = line(bytes, temper)? else { return Ok(None) };
        bytes = rest;
        if field.is_empty() {
            return Ok(Some((message, bytes)));
        }
        let at = field.iter().position(|b| *b == b':').ok_or("a field without a colon")?;
        let (name, value) = (&field[..at], field[at + 1..].trim_ascii());
        if !is_token(name) {
            return Err("a field's name");
        }
        if value.iter().any(|b| *b == 0 || (b.is_ascii_control() && *b != b'\t')) {
            return Err("a byte of a field");
        }
        message.fields.push((String::from_utf8_lossy(name).into_owned(), value.to_vec()));
    }
}

fn read_body<'b>(message: &mut Message, rest: &'b [u8], temper: Temper) -> Result<&'b [u8], &'static str> {
    let lengths: Vec<Vec<u8>> = message.values("content-length").iter().map(|v| v.to_vec()).collect();
    let codings: Vec<Vec<u8>> = message.values("transfer-encoding").iter().map(|v| v.to_vec()).collect();
    if temper == Temper::Strict && lengths.len() + codings.len() > 1 {
        return Err("more than one framing");
    }
    if codings.len() > 1 || codings.iter().any(|c| !c.eq_ignore_ascii_case(b"chunked")) {
        return Err("a coding other than chunked");
    }
    if !codings.is_empty() {
        return match read_chunks(message, rest, temper) {
            // What came before the fault is on its way to the app already; nothing follows.
            Err(_) if temper == Temper::Client => Ok(&[]),
            read => read,
        };
    }
    let mut length = None;
    for one in lengths.iter().flat_map(|l| l.split(|b| *b == b',')).map(<[u8]>::trim_ascii) {
        if one.is_empty() || !one.iter().all(u8::is_ascii_digit) || length.is_some_and(|l| l != one) {
            return Err("a length");
        }
        length = Some(one);
    }
    let Some(length) = length else {
        message.whole = true;
        return Ok(rest);
    };
    let length: u64 = String::from_utf8_lossy(length).parse().map_err(|_| "a length out of reach")?;
    let length = usize::try_from(length).map_err(|_| "a length out of reach")?;
    message.whole = rest.len() >= length;
    let (body, rest) = rest.split_at(length.min(rest.len()));
    message.body = body.to_vec();
    Ok(rest)
}

fn read_chunks<'b>(message: &mut Message, mut rest: &'b [u8], temper: Temper) -> Result<&'b [u8], &'static str> {
    loop {
        let Some(at) = rest.iter().position(|b| *b == b'\n') else { return Ok(&[]) };
        let size = rest[..at].strip_suffix(b"\r").ok_or("a chunk size without CRLF")?;
        let size = if temper == Temper::Client {
            // Extensions mean nothing (RFC 9112 section 7.1.1).
            size.split(|b| *b == b';').next().unwrap_or_default().trim_ascii_end()
        } else {
            size
        };
        if size.is_empty() || !size.iter().all(u8::is_ascii_hexdigit) {
            return Err("a chunk size");
        }
        let zeros = size.iter().take_while(|b| **b == b'0').count();
        let size = &size[zeros.min(size.len() - 1)..];
        let size = u64::from_str_radix(&String::from_utf8_lossy(size), 16).map_err(|_| "a chunk size")?;
        let size = usize::try_from(size).map_err(|_| "a chunk size")?;
        rest = &rest[at + 1..];
        if size == 0 {
            return end_of_chunks(message, rest, temper);
        }
        let data = &rest[..size.min(rest.len())];
        message.body.extend_from_slice(data);
        rest = &rest[data.len()..];
        match rest {
            [b'\r', b'\n', after @ ..] => rest = after,
            [] | [b'\r'] => return Ok(&[]),
            _ => return Err("a chunk longer than its size"),
        }
    }
}

fn end_of_chunks<'b>(message: &mut Message, mut rest: &'b [u8], temper: Temper) -> Result<&'b [u8], &'static str> {
    loop {
        // hyper takes a bare LF for a byte of a trailer. Nobody gets to see it: trailers are dropped.
        let Some(at) = rest.windows(2).position(|w| w == b"\r\n") else { return Ok(&[]) };
        let trailer = &rest[..at];
        rest = &rest[at + 2..];
        if trailer.is_empty() {
            message.whole = true;
            return Ok(rest);
        }
        if temper == Temper::Strict || trailer.contains(&b'\r') {
            return Err("a trailer");
        }
    }
}
