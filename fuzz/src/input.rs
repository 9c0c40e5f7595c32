//! How is an input written that is sent to the gate? As the bytes themselves, so that a corpus can be
//! read; two marks stand for what a text cannot hold.

/// Stands for the cookie of somebody who is signed in.
const COOKIE: &[u8] = b"@C@";
/// What follows is sent when the gate has no more to say to what came before.
const THEN: &[u8] = b"@|@";

/// More pieces and cookies than these make an input slow and nothing else.
const MOST: usize = 8;

pub fn pieces(text: &[u8], cookie: &str) -> Vec<Vec<u8>> {
    cut(text, THEN).into_iter().map(|piece| cut(piece, COOKIE).join(cookie.as_bytes())).collect()
}

fn cut<'t>(text: &'t [u8], mark: &[u8]) -> Vec<&'t [u8]> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(mark.len()).position(|w| w == mark) {
        out.push(&rest[..at]);
        rest = &rest[at + mark.len()..];
        if out.len() == MOST {
            break;
        }
    }
    out.push(rest);
    out
}
