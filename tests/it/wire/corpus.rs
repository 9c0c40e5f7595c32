//! How is a corpus of cases read? Blocks of `== name`, then lines of a key and a value.

/// One case, its lines in order.
pub struct Case {
    pub name: String,
    lines: Vec<(String, Vec<u8>)>,
}

impl Case {
    /// Every value of a key.
    pub fn all<'c>(&'c self, key: &'c str) -> impl Iterator<Item = &'c [u8]> {
        self.lines.iter().filter(move |(k, _)| k == key).map(|(_, value)| value.as_slice())
    }

    /// All values of a key in one, if there is any.
    pub fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        let parts: Vec<_> = self.all(key).collect();
        (!parts.is_empty()).then(|| parts.concat())
    }

    pub fn has(&self, key: &str) -> bool {
        self.all(key).next().is_some()
    }

    pub fn text(&self, key: &str) -> Option<String> {
        self.bytes(key).map(|bytes| String::from_utf8(bytes).unwrap())
    }
}

/// The cases of a corpus. Its keys are given, so that a slip of the pen is no case that asks nothing.
pub fn cases(source: &str, keys: &[&str], texts: &[(&str, &str)]) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in source.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("== ") {
            assert!(cases.iter().all(|case| case.name != name), "{name} is there twice");
            cases.push(Case { name: name.to_owned(), lines: Vec::new() });
            continue;
        }
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        assert!(keys.contains(&key), "no key: {line}");
        let value = unescaped(value.trim_start(), texts);
        cases.last_mut().expect("a name comes first").lines.push((key.to_owned(), value));
    }
    cases
}

/// `\r \n \t \\ \xNN`, `<<name>>` for a text, `<<N*text>>` for N times the text, one within another too.
pub fn unescaped(text: &str, texts: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("<<") {
            let end = closing(after);
            let inner = &after[..end];
            rest = &after[end + 2..];
            match inner.split_once('*').map(|(n, text)| (n.parse::<usize>(), text)) {
                Some((Ok(times), text)) => out.extend(unescaped(text, texts).repeat(times)),
                _ => {
                    let (_, text) = texts.iter().find(|(name, _)| *name == inner).unwrap_or_else(|| panic!("{inner}"));
                    out.extend(unescaped(text, texts));
                }
            }
            continue;
        }
        let Some(escaped) = rest.strip_prefix('\\') else {
            out.extend_from_slice(next.to_string().as_bytes());
            rest = &rest[next.len_utf8()..];
            continue;
        };
        let (byte, length) = match escaped.as_bytes()[0] {
            b'r' => (b'\r', 1),
            b'n' => (b'\n', 1),
            b't' => (b'\t', 1),
            b'\\' => (b'\\', 1),
            b'x' => (u8::from_str_radix(&escaped[1..3], 16).unwrap(), 3),
            other => panic!("no escape: {}", other as char),
        };
        out.push(byte);
        rest = &escaped[length..];
    }
    out
}

/// Where the `>>` is that belongs to a `<<` before this text.
fn closing(text: &str) -> usize {
    let (mut open, mut at) = (1, 0);
    while let Some(rest) = text.as_bytes().get(at..).filter(|rest| !rest.is_empty()) {
        match rest {
            [b'<', b'<', ..] => open += 1,
            [b'>', b'>', ..] if open == 1 => return at,
            [b'>', b'>', ..] => open -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
    }
    panic!("not closed: {text}");
}

#[test]
fn a_corpus_is_read_as_it_says() {
    let texts = [("base", r"GET /\r\n")];
    assert_eq!(unescaped(r"<<base>>a\x00\\<<2*b\t<<3*c>>>>", &texts), b"GET /\r\na\0\\b\tcccb\tccc");
    let read = cases("# x\n== one\nsend  a\nsend <<2*b>>\nend\n\n== two\n", &["send", "end"], &[]);
    assert_eq!((read[0].bytes("send").unwrap(), read[0].has("end")), (b"abb".to_vec(), true));
    assert_eq!((read[1].name.as_str(), read[1].bytes("send")), ("two", None));
}
