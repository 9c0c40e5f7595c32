//! Where YAML stumbled, in words for whoever wrote the file: the library names what its grammar had
//! hoped for, and people want to know which character to type.

use super::yaml::Mark;

/// Our words for `message`; what is not known here stays as it is.
pub(super) fn in_our_words(message: &str, text: &str, at: Mark) -> String {
    let line = usize::try_from(at.line).ok().and_then(|n| text.lines().nth(n.checked_sub(1)?)).unwrap_or_default();
    if message.contains("did not find expected")
        && let Some(address) = unquoted_address(line)
    {
        return format!("YAML takes `[` for the start of a list: put the address in quotes, \"{address}\"");
    }
    if message.contains("did not find expected key") || message.contains("did not find expected '-' indicator") {
        return indented_wrongly(text, line, at).unwrap_or_else(|| {
            "this does not belong to what stands before it: does the value need quotes, or the line another indent?"
                .to_owned()
        });
    }
    if message.contains("did not find expected ',' or") {
        return "a comma or the closing bracket was expected here: is a comma missing, or do quotes around a value?"
            .to_owned();
    }
    if message.contains("reference to unknown value") {
        return "YAML takes a `*` at the start for an alias: put the value in quotes, such as \"**/x\"".to_owned();
    }
    if message.contains("Documents {") {
        return "a second document begins here (`---`): one file holds one".to_owned();
    }
    if message.contains("limits breached") {
        return "the file is too large, too deep or repeats too much by aliases".to_owned();
    }
    if let Some(c) = message.strip_prefix("unexpected character: `") {
        let c = c.trim_end_matches('\'');
        return format!("a value cannot begin with `{c}`: put it in quotes");
    }
    if let Some(bracket) = message.strip_prefix("unclosed bracket '") {
        return format!("this `{}` is never closed", bracket.trim_end_matches('\''));
    }
    if message.contains("mapping values are not allowed") {
        let who = ["group: ", "user: "].into_iter().find(|who| line.contains(who));
        return match who {
            Some(who) => format!(
                "no blank stands after the colon of `{}`: [{}:NAME]",
                who.trim_end(),
                who.trim_end_matches(": ")
            ),
            None => "a second `: ` in one value: put the value in quotes, or begin a new line".to_owned(),
        };
    }
    if message.contains("tabs disallowed") || message.contains("found a tab") {
        // Of a line that seems to go on, the place is where it begins.
        let here = line.contains('\t');
        let place = if here { "here" } else { "at the start of the next line" };
        return format!("a tab stands {place}: YAML indents with spaces");
    }
    if message.contains("trailing content after") {
        return "more stands here behind a value in quotes: is a quote missing, in this line or at the end of one above?"
            .to_owned();
    }
    if message.contains("simple key expected ':'") {
        return "a key ends with a colon and a blank: `key: value`".to_owned();
    }
    message.to_owned()
}

/// `[::]:443` without its quotes.
fn unquoted_address(line: &str) -> Option<&str> {
    let (start, _) = line.match_indices('[').find(|(start, _)| {
        let inside = line.get(start + 1..).unwrap_or_default();
        let ends = inside.find(']').unwrap_or(0);
        let quoted = line.get(..*start).is_some_and(|before| before.ends_with(['"', '\'']));
        !quoted
            && inside.get(..ends).is_some_and(|ip| {
                ip.contains(':') && ip.bytes().all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.')
            })
            && inside.get(ends..).is_some_and(|rest| rest.starts_with("]:"))
    })?;
    let rest = line.get(start..)?;
    let port = rest.find("]:")? + 2;
    let digits = rest.get(port..)?.bytes().take_while(u8::is_ascii_digit).count();
    rest.get(..port + digits)
}

/// Says in which columns the lines above begin, where the line at `at` begins in none of them.
fn indented_wrongly(text: &str, line: &str, at: Mark) -> Option<String> {
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let own = indent(line) + 1;
    if usize::try_from(at.column).ok()? != own {
        return None;
    }
    let (mut items, mut keys) = (Vec::new(), Vec::new());
    let mut inner = usize::MAX;
    let above: Vec<&str> = text.lines().take(usize::try_from(at.line).ok()?.checked_sub(1)?).collect();
    for line in above.into_iter().rev() {
        let content = line.trim_start_matches(' ');
        let column = indent(line) + 1;
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if let Some(item) = content.strip_prefix("- ") {
            let key = column + 2 + indent(item);
            if key < inner && !item.starts_with(['{', '[']) {
                keys.push(key);
            }
            if column < inner {
                items.push(column);
            }
        } else if column < inner {
            keys.push(column);
        }
        inner = inner.min(column);
        if column == 1 {
            break;
        }
    }
    let nearest = |columns: &[usize]| columns.iter().copied().min_by_key(|column| column.abs_diff(own));
    let begins = match (nearest(&keys), nearest(&items)) {
        (Some(key), Some(item)) => format!("a key above it in column {key}, the `- ` of a list in column {item}"),
        (Some(key), None) => format!("a key above it in column {key}"),
        (None, Some(item)) => format!("the `- ` of the list above it in column {item}"),
        (None, None) => return None,
    };
    Some(format!("this line is indented wrongly: it begins in column {own}, {begins}"))
}
