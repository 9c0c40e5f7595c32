//! How is a text shown as a QR code, on a page and in a terminal?

use std::fmt::Write as _;

use qrcodegen::{QrCode, QrCodeEcc};

/// Blank modules around the code; ISO 18004 asks for four.
const QUIET: i32 = 4;

/// An SVG for a page: black on white also in dark mode, because many readers cannot read the
/// reverse. It is hidden from screen readers; the key stands beside it as text. Empty when the
/// text is too long for a code.
#[must_use]
pub fn svg(text: &str) -> String {
    let Ok(code) = QrCode::encode_text(text, QrCodeEcc::Medium) else { return String::new() };
    let side = code.size() + 2 * QUIET;
    let mut path = String::new();
    for y in 0..code.size() {
        let mut x = 0;
        while x < code.size() {
            let from = x;
            while x < code.size() && code.get_module(x, y) {
                x += 1;
            }
            if x > from {
                let run = x - from;
                // One rectangle for each run of dark modules: a third of the size of one for each module.
                let _ = write!(path, "M{} {}h{run}v1h-{run}z", from + QUIET, y + QUIET);
            }
            x += 1;
        }
    }
    format!(
        "<svg class=\"qr\" viewBox=\"0 0 {side} {side}\" aria-hidden=\"true\" shape-rendering=\"crispEdges\">\
         <path fill=\"#fff\" d=\"M0 0h{side}v{side}H0z\"/><path fill=\"#000\" d=\"{path}\"/></svg>"
    )
}

/// Two modules a character, for a terminal. Light modules are drawn as blocks, so that the code
/// is right on a dark ground, which most terminals have; phones read the reverse too. Empty when
/// the text is too long.
#[must_use]
pub fn terminal(text: &str) -> String {
    let Ok(code) = QrCode::encode_text(text, QrCodeEcc::Low) else { return String::new() };
    let mut out = String::new();
    for y in (-QUIET..code.size() + QUIET).step_by(2) {
        for x in -QUIET..code.size() + QUIET {
            let light = (!code.get_module(x, y), !code.get_module(x, y + 1));
            out.push(match light {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_has_its_quiet_zone_and_its_white_ground() {
        let svg = svg("otpauth://totp/Example:ann?secret=MZXW6YTBOI2DKNRX&issuer=Example");
        assert!(svg.contains("fill=\"#fff\" d=\"M0 0h"));
        // The finder pattern's first run stands four modules in.
        assert!(svg.contains("d=\"M4 4h7v1h-7z"), "{svg}");
        assert!(!svg.contains("style"));
    }

    #[test]
    fn a_terminal_code_is_square_and_framed() {
        let text = terminal("hello");
        let lines: Vec<_> = text.lines().collect();
        // Version 1: 21 modules and the quiet zone, two rows a line.
        assert_eq!(lines.len(), 15);
        assert!(lines.iter().all(|l| l.chars().count() == 29));
        assert_eq!(lines[0].replace('█', ""), "");
    }

    #[test]
    fn too_long_a_text_gives_nothing() {
        assert!(svg(&"x".repeat(5000)).is_empty() && terminal(&"x".repeat(5000)).is_empty());
    }
}
