//! Where does an answer's body end? Read strictly: what a lenient reader would take for the end of a
//! chunk, another takes for a part of it (S-FRAME-13).

use bytes::{Bytes, BytesMut};
use http_body::SizeHint;

use super::{Error, MAX_FIELDS, MAX_TRAILERS};

/// All extensions of the chunks of one answer. Nobody reads them.
const MAX_EXTENSIONS: usize = 16 * 1024;

/// What comes of the bytes at hand.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Data(Bytes),
    /// More is needed to say.
    More,
    End,
}

#[derive(Debug)]
pub(super) struct Decoder(Kind);

#[derive(Debug)]
enum Kind {
    /// So much is to come.
    Length(u64),
    Chunked(Chunk, Budget),
    UntilClose,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Size,
    /// So much of the chunk.
    Data(u64),
    /// The line end behind a chunk.
    DataEnd,
    Trailers,
}

/// What an answer may still have of what is only thrown away.
#[derive(Debug)]
struct Budget {
    extensions: usize,
}

impl Decoder {
    pub(super) fn none() -> Self {
        Self(Kind::Length(0))
    }

    pub(super) fn length(length: u64) -> Self {
        Self(Kind::Length(length))
    }

    pub(super) fn chunked() -> Self {
        Self(Kind::Chunked(Chunk::Size, Budget { extensions: MAX_EXTENSIONS }))
    }

    pub(super) fn until_close() -> Self {
        Self(Kind::UntilClose)
    }

    /// Whether it is known to have ended; of chunks and of an end by closing it is never known before
    /// [`Step::End`].
    pub(super) fn is_done(&self) -> bool {
        matches!(self.0, Kind::Length(0))
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self.0 {
            Kind::Length(left) => SizeHint::with_exact(left),
            Kind::Chunked(..) | Kind::UntilClose => SizeHint::new(),
        }
    }

    /// What the end of the connection means.
    pub(super) fn closed(&mut self) -> Result<(), Error> {
        match self.0 {
            Kind::UntilClose => {
                self.0 = Kind::Length(0);
                Ok(())
            }
            Kind::Length(_) | Kind::Chunked(..) => Err(Error::Closed),
        }
    }

    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Step, Error> {
        match &mut self.0 {
            Kind::Length(0) => Ok(Step::End),
            Kind::Length(left) => Ok(take(input, left)),
            Kind::UntilClose if input.is_empty() => Ok(Step::More),
            Kind::UntilClose => Ok(Step::Data(input.split().freeze())),
            Kind::Chunked(chunk, budget) => {
                let step = chunks(chunk, budget, input)?;
                if step == Step::End {
                    self.0 = Kind::Length(0);
                }
                Ok(step)
            }
        }
    }
}

fn take(input: &mut BytesMut, left: &mut u64) -> Step {
    if input.is_empty() {
        return Step::More;
    }
    let size = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    *left -= size as u64;
    Step::Data(input.split_to(size).freeze())
}

fn chunks(chunk: &mut Chunk, budget: &mut Budget, input: &mut BytesMut) -> Result<Step, Error> {
    loop {
        match chunk {
            Chunk::Size => {
                let Some(line) = line(input, MAX_EXTENSIONS, "a line of a size is too long")? else {
                    return Ok(Step::More);
                };
                let (size, extension) = size(&line)?;
                budget.extensions =
                    budget.extensions.checked_sub(extension).ok_or(Error::Chunks("too many extensions"))?;
                *chunk = if size == 0 { Chunk::Trailers } else { Chunk::Data(size) };
            }
            Chunk::Data(left) => {
                let step = take(input, left);
                if *left == 0 {
                    *chunk = Chunk::DataEnd;
                }
                return Ok(step);
            }
            Chunk::DataEnd => {
                match input.get(..2) {
                    Some(b"\r\n") => {}
                    None if matches!(&input[..], b"" | b"\r") => return Ok(Step::More),
                    _ => return Err(Error::Chunks("a chunk does not end where it says")),
                }
                drop(input.split_to(2));
                *chunk = Chunk::Size;
            }
            Chunk::Trailers => return trailers(input),
        }
    }
}

/// Takes a line and its end; `None` while it is not whole.
fn line(input: &mut BytesMut, most: usize, too_long: &'static str) -> Result<Option<BytesMut>, Error> {
    let end = input.iter().take(most).position(|b| *b == b'\n');
    let Some(end) = end else {
        return if input.len() < most { Ok(None) } else { Err(Error::Chunks(too_long)) };
    };
    let mut line = input.split_to(end + 1);
    // A bare LF ends a line for some readers and not for others, as does a bare CR.
    if !line.ends_with(b"\r\n") || line.iter().filter(|b| **b == b'\r').count() > 1 {
        return Err(Error::Chunks("a line does not end in CR LF"));
    }
    line.truncate(end - 1);
    Ok(Some(line))
}

/// The size of a chunk, and how long its extension is: hexadecimal digits, then blanks or `;` and anything.
fn size(line: &[u8]) -> Result<(u64, usize), Error> {
    let count = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (digits, rest) = line.split_at(count);
    if digits.is_empty() {
        return Err(Error::Chunks("no size"));
    }
    let size = digits.iter().try_fold(0_u64, |sum, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        sum.checked_mul(16)?.checked_add(u64::from(digit))
    });
    let size = size.ok_or(Error::Chunks("a size that is too large"))?;
    let blanks = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    match rest.get(blanks) {
        None | Some(b';') => Ok((size, rest.len())),
        Some(_) => Err(Error::Chunks("something behind a size")),
    }
}

/// Reads trailers to their end, and throws them away: no trailer passes from an app that speaks HTTP/1.1
/// (S-FRAME-5). They are whole before any is taken.
fn trailers(input: &mut BytesMut) -> Result<Step, Error> {
    let mut end = 0;
    for count in 0.. {
        let rest = input.get(end..).unwrap_or_default();
        let Some(length) = rest.iter().take(MAX_TRAILERS).position(|b| *b == b'\n') else {
            return if input.len() < MAX_TRAILERS { Ok(Step::More) } else { Err(Error::Chunks("too long trailers")) };
        };
        let line = rest.get(..=length).unwrap_or_default();
        if !line.ends_with(b"\r\n") || line.iter().filter(|b| **b == b'\r').count() > 1 {
            return Err(Error::Chunks("a line does not end in CR LF"));
        }
        end += line.len();
        if end > MAX_TRAILERS {
            return Err(Error::Chunks("too long trailers"));
        }
        if line == b"\r\n" {
            break;
        }
        if count >= MAX_FIELDS {
            return Err(Error::Chunks("too many trailers"));
        }
    }
    let trailers = input.split_to(end);
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    match httparse::parse_headers(&trailers, &mut fields) {
        Ok(httparse::Status::Complete(_)) => Ok(Step::End),
        Ok(httparse::Status::Partial) | Err(_) => Err(Error::Chunks("trailers that are no fields")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of `sent`, which comes in pieces of this size, and what is left of it.
    fn read(mut decoder: Decoder, sent: &[u8], piece: usize) -> Result<(Vec<u8>, bool, usize), String> {
        let (mut input, mut got, mut pieces) = (BytesMut::new(), Vec::new(), sent.chunks(piece));
        loop {
            match decoder.next(&mut input).map_err(|e| e.to_string())? {
                Step::Data(data) => {
                    assert!(!data.is_empty(), "an empty piece is none");
                    got.extend_from_slice(&data);
                }
                Step::End => return Ok((got, true, input.len() + pieces.map(<[u8]>::len).sum::<usize>())),
                Step::More => match pieces.next() {
                    Some(piece) => input.extend_from_slice(piece),
                    None => return Ok((got, decoder.closed().is_ok(), input.len())),
                },
            }
        }
    }

    #[test]
    fn a_body_ends_where_its_framing_says_however_it_arrives() {
        let chunks = b"5\r\nhello\r\n1;a=b\r\n \r\n00a \t;x\r\n0123456789\r\n0\r\nA: b\r\n\r\nsurplus";
        for piece in 1..=chunks.len() {
            assert_eq!(read(Decoder::chunked(), chunks, piece), Ok((b"hello 0123456789".to_vec(), true, 7)));
            assert_eq!(read(Decoder::length(5), b"helloHTTP/1.1", piece), Ok((b"hello".to_vec(), true, 8)));
            assert_eq!(read(Decoder::until_close(), b"hello", piece), Ok((b"hello".to_vec(), true, 0)));
        }
        assert_eq!(read(Decoder::none(), b"", 1), Ok((Vec::new(), true, 0)));
        assert_eq!(read(Decoder::length(6), b"hello", 9), Ok((b"hello".to_vec(), false, 0)), "less than was said");
    }

    #[test]
    fn s_frame_13_chunks_that_others_may_read_differently_are_refused() {
        for odd in [
            "\r\n",
            "x\r\n",
            "-1\r\nh\r\n",
            "+1\r\nh\r\n",
            "0x1\r\nh\r\n",
            " 1\r\nh\r\n",
            "1 1\r\nh\r\n",
            "1\nh\r\n0\r\n\r\n",
            "1\r\nh\n0\r\n\r\n",
            "1\r\nhh\r\n0\r\n\r\n",
            "1\r\nh0\r\n\r\n",
            "1;a\rb\r\nh\r\n0\r\n\r\n",
            "1;a\nb\r\nh\r\n0\r\n\r\n",
            "10000000000000000\r\nh\r\n",
            "0\r\nA: b\n\r\n",
            "0\r\nA: b\r\n\n",
            "0\r\nA\r\n\r\n",
            "0\r\nA : b\r\n\r\n",
            "0\r\nA: b\r\n c\r\n\r\n",
            "0\r\nA: b\rC: d\r\n\r\n",
            "0\nA: b\r\n\r\n",
        ] {
            for piece in 1..=odd.len() {
                assert!(read(Decoder::chunked(), odd.as_bytes(), piece).is_err(), "{odd:?} in pieces of {piece}");
            }
        }
        for cut in ["", "1", "1\r", "1\r\n", "1\r\nh", "1\r\nh\r", "1\r\nh\r\n", "0\r\n", "0\r\nA: b\r\n", "0\r\n\r"] {
            let (_, ended, _) = read(Decoder::chunked(), cut.as_bytes(), 9).unwrap();
            assert!(!ended, "{cut:?} is not whole");
        }
    }

    #[test]
    fn what_is_only_thrown_away_has_an_end() {
        let with = |extension: usize, count: usize| {
            let one = format!("1;{}\r\nh\r\n", "x".repeat(extension));
            read(Decoder::chunked(), format!("{}0\r\n\r\n", one.repeat(count)).as_bytes(), 4096).is_ok()
        };
        assert!(with(100, 100));
        assert!(!with(100, 200), "however many chunks they are spread over");
        assert!(!with(MAX_EXTENSIONS, 1));
        let trailers = |field: &str, count: usize| {
            read(Decoder::chunked(), format!("0\r\n{}\r\n", field.repeat(count)).as_bytes(), 4096).is_ok()
        };
        assert!(trailers("A: b\r\n", MAX_FIELDS));
        assert!(!trailers("A: b\r\n", MAX_FIELDS + 1));
        let of_1_kib = format!("A: {}\r\n", "b".repeat(1019));
        assert!(trailers(&of_1_kib, 15));
        assert!(!trailers(&of_1_kib, 16), "with the line that ends them");
        let endless = format!("0\r\nA: {}", "b".repeat(MAX_TRAILERS));
        assert!(read(Decoder::chunked(), endless.as_bytes(), 4096).is_err());
    }
}
