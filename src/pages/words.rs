//! Which words stand on the pages? Whole sentences by key, with named places for values.
//!
//! In a sentence `{name}` is a value, `**bold**` is bold, and `^text^` is read out but not seen.
//! A sentence with a number has two forms, `one` and `other`, chosen by the value `n`.

use std::collections::BTreeMap;

use minijinja::value::Kwargs;
use minijinja::{Error, ErrorKind, Value};

use super::language::Language;
use super::layout::escape;

#[derive(Debug, thiserror::Error)]
pub enum WordsError {
    #[error("the words are not readable: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0} is neither a sentence nor a pair of `one` and `other`")]
    Shape(String),
}

/// The sentences of one language.
#[derive(Debug)]
pub struct Words {
    language: Language,
    sentences: BTreeMap<String, Sentence>,
}

#[derive(Debug)]
enum Sentence {
    Plain(Vec<Piece>),
    Counted { one: Vec<Piece>, other: Vec<Piece> },
}

#[derive(Debug)]
enum Piece {
    Text {
        /// Escaped already.
        html: String,
        /// The same without marks, for mail.
        plain: String,
    },
    Slot(String),
}

impl Words {
    /// The words of ours.
    #[must_use]
    #[expect(clippy::expect_used, reason = "compiled in, and read by every test of a page; no peer is near")]
    pub fn of(language: Language) -> Self {
        let json = match language {
            Language::English => include_str!("../../assets/text/en.json"),
            Language::French => include_str!("../../assets/text/fr.json"),
        };
        Self::parse(json, language).expect("the words of ours are readable")
    }

    /// Reads a JSON object of objects: `{"sign_in": {"title": "Sign in"}}` gives `sign_in.title`.
    pub fn parse(json: &str, language: Language) -> Result<Self, WordsError> {
        let mut found = BTreeMap::new();
        collect("", &serde_json::from_str(json)?, &mut found)?;
        Ok(Self { language, sentences: found })
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.sentences.keys().map(String::as_str)
    }

    /// The sentence as HTML. A missing key, a missing value and a value that no place takes are
    /// errors, so that no half sentence is ever shown.
    pub(super) fn say(&self, key: &str, values: &Kwargs) -> Result<Value, Error> {
        let fault = |what: String| Error::new(ErrorKind::InvalidOperation, what);
        let sentence = self.sentences.get(key).ok_or_else(|| fault(format!("no words for {key}")))?;
        let pieces = match sentence {
            Sentence::Plain(pieces) => pieces,
            Sentence::Counted { one, other } => {
                if self.language.is_one(values.get("n")?) {
                    one
                } else {
                    other
                }
            }
        };
        let mut html = String::new();
        for piece in pieces {
            match piece {
                Piece::Text { html: text, .. } => html.push_str(text),
                Piece::Slot(name) => {
                    let value: Value = values.get(name).map_err(|_| fault(format!("{key} lacks {name}")))?;
                    if value.is_undefined() || value.is_none() {
                        return Err(fault(format!("{key} has no value for {name}")));
                    }
                    let text = value.to_string();
                    if value.is_safe() {
                        html.push_str(&text);
                    } else {
                        html.push_str(&escape(&text));
                    }
                }
            }
        }
        values.assert_all_used().map_err(|error| fault(format!("{key}: {error}")))?;
        Ok(Value::from_safe_string(html))
    }
}

impl Words {
    /// The sentence as plain text, for mail; as strict as [`say`](Self::say) about its values. `n` chooses
    /// the form of a sentence with a number.
    pub(super) fn plain(&self, key: &str, values: &[(&str, &str)]) -> Result<String, Error> {
        let fault = |what: String| Error::new(ErrorKind::InvalidOperation, what);
        let value = |name: &str| values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let one_of_them = value("n").and_then(|n| n.parse().ok()).is_some_and(|n| self.language.is_one(n));
        let pieces = match self.sentences.get(key).ok_or_else(|| fault(format!("no words for {key}")))? {
            Sentence::Plain(pieces) => pieces,
            Sentence::Counted { one, .. } if one_of_them => one,
            Sentence::Counted { other, .. } => other,
        };
        let mut text = String::new();
        let mut used = 0;
        for piece in pieces {
            match piece {
                Piece::Text { plain, .. } => text.push_str(plain),
                Piece::Slot(name) => {
                    used += 1;
                    text.push_str(value(name).ok_or_else(|| fault(format!("{key} lacks {name}")))?);
                }
            }
        }
        if used < values.len() {
            return Err(fault(format!("{key} has no place for all of its values")));
        }
        Ok(text)
    }
}

fn collect(at: &str, value: &serde_json::Value, into: &mut BTreeMap<String, Sentence>) -> Result<(), WordsError> {
    use serde_json::Value::{Object, String as Text};
    match value {
        Text(text) => {
            into.insert(at.to_owned(), Sentence::Plain(pieces(text)));
        }
        Object(map) => match (map.get("one"), map.get("other")) {
            (Some(Text(one)), Some(Text(other))) => {
                into.insert(at.to_owned(), Sentence::Counted { one: pieces(one), other: pieces(other) });
            }
            _ => {
                for (key, inner) in map {
                    let place = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                    collect(&place, inner, into)?;
                }
            }
        },
        _ => return Err(WordsError::Shape(at.to_owned())),
    }
    Ok(())
}

fn pieces(sentence: &str) -> Vec<Piece> {
    let mut found = Vec::new();
    let (mut html, mut plain) = (String::new(), String::new());
    let (mut bold, mut unseen) = (false, false);
    let mut rest = sentence;
    while let Some(next) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("**") {
            html.push_str(if bold { "</b>" } else { "<b>" });
            bold = !bold;
            rest = after;
        } else if let Some(after) = rest.strip_prefix('^') {
            html.push_str(if unseen { "</span>" } else { "<span class=\"vh\">" });
            unseen = !unseen;
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('{').and_then(|r| r.split_once('}')) {
            found.push(Piece::Text { html: std::mem::take(&mut html), plain: std::mem::take(&mut plain) });
            found.push(Piece::Slot(name.to_owned()));
            rest = after;
        } else {
            html.push_str(&escape(next.encode_utf8(&mut [0; 4])));
            plain.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    found.push(Piece::Text { html, plain });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(sentence: &str, values: &[(&str, Value)]) -> Result<String, Error> {
        let json = serde_json::json!({ "a": { "b": sentence } }).to_string();
        let words = Words::parse(&json, Language::English).expect("readable");
        words.say("a.b", &values.iter().cloned().collect()).map(|v| v.to_string())
    }

    #[test]
    fn values_are_escaped_and_marks_become_markup() {
        let said = say("On **{device}**, ^now^ & then", &[("device", Value::from("<i>Ann</i>"))]);
        assert_eq!(said.expect("said"), "On <b>&lt;i&gt;Ann&lt;/i&gt;</b>, <span class=\"vh\">now</span> &amp; then");
    }

    #[test]
    fn half_a_sentence_is_an_error() {
        assert!(say("Hello {name}", &[]).is_err(), "a missing value");
        assert!(say("Hello", &[("name", Value::from("ann"))]).is_err(), "a value without a place");
    }

    #[test]
    fn numbers_choose_their_form() {
        let json = r#"{"n": {"one": "{n} one", "other": "{n} other"}}"#;
        let said = |language, n: u64| {
            let words = Words::parse(json, language).expect("readable");
            words.say("n", &[("n", Value::from(n))].into_iter().collect()).expect("said").to_string()
        };
        let [english, french] = Language::ALL.map(|language| [0, 1, 2].map(|n| said(language, n)));
        assert_eq!(english, ["0 other", "1 one", "2 other"]);
        assert_eq!(french, ["0 one", "1 one", "2 other"]);
    }
}
