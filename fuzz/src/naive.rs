//! How would some app read this? Simple on purpose, and sharing no line with the gate.

/// One round of percent-decoding; what is no escape stays. `plus`: `+` is a blank, as in forms.
pub fn decoded(text: &[u8], plus: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let hex = text.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok());
        let hex = hex.filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()));
        match (byte, hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(value)) => {
                out.push(value);
                at += 3;
            }
            _ => {
                out.push(if plus && byte == b'+' { b' ' } else { byte });
                at += 1;
            }
        }
    }
    out
}

/// The path without empty segments, `.` and `..`, as file systems and URL libraries resolve it.
pub fn resolved(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            name => kept.push(name),
        }
    }
    format!("/{}", kept.join("/"))
}

/// The name and value pairs of a query or form, for a reader that splits at `separators`.
pub fn pairs<'t>(text: &'t [u8], separators: &'t [u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + 't {
    text.split(move |b| separators.contains(b)).map(|pair| {
        let at = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
        let value = pair.get(at + 1..).unwrap_or_default();
        (decoded(&pair[..at], true), decoded(value, true))
    })
}

/// A field name as PHP makes a variable of it: blanks before it go, `.`, blank and a first `[`
/// become `_`, a NUL or the index of an array ends it.
pub fn php_name(name: &[u8]) -> Vec<u8> {
    let start = name.iter().position(|b| *b != b' ').unwrap_or(name.len());
    let name = name[start..].split(|b| *b == 0).next().unwrap_or_default();
    let end = name.iter().position(|b| *b == b'[').filter(|at| *at > 0).unwrap_or(name.len());
    name[..end].iter().map(|b| if matches!(b, b'.' | b' ' | b'[') { b'_' } else { *b }).collect()
}
