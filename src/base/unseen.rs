//! Which characters does nobody see, or a terminal act on? One list for names, logs and what is printed: what a
//! name may not hold, a line may not show (S-LOG-3).

use std::fmt::Write as _;

/// Control, bidi and zero-width characters, line separators, and what tags other characters.
#[must_use]
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Writes one as JSON escapes it.
pub fn escape_in_json(out: &mut String, c: char) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        let _ = write!(out, "\\u{unit:04x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_log_3_what_is_escaped_is_what_json_readers_read() {
        for c in ['\0', '\n', '\u{7f}', '\u{9b}', '\u{61c}', '\u{202e}', '\u{2066}', '\u{feff}', '\u{e0041}'] {
            assert!(is_unseen(c), "{c:?}");
            let mut text = String::from('"');
            escape_in_json(&mut text, c);
            text.push('"');
            assert!(text.is_ascii());
            assert_eq!(serde_json::from_str::<String>(&text).ok(), Some(c.to_string()));
        }
        assert!(!"a Zoë 名 🙂".chars().any(is_unseen));
    }
}
