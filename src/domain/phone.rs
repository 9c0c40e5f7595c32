//! What is a telephone number that a message may be sent to (E.164), and how much of it does anybody see?

use std::fmt;

/// A number with its country code: `+4915123456789`. `Debug` and the log see no more of it than people do (S-LOG-1).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PhoneNumber(String);

/// Why a text is no number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoNumber {
    #[error("it does not begin with + and a country code, such as +49")]
    NoCountry,
    #[error("it holds something other than digits, spaces and the signs ( ) - . /")]
    Sign,
    #[error("it has fewer than 8 or more than 15 digits")]
    Length,
}

impl PhoneNumber {
    /// Reads what people write. Without the country code nobody knows whose number it is: `0151...` is
    /// one in Germany and another one in Italy.
    pub fn parse(text: &str) -> Result<Self, NoNumber> {
        let text = text.trim();
        if text.len() > 64 {
            return Err(NoNumber::Length);
        }
        let rest = text.strip_prefix('+').ok_or(NoNumber::NoCountry)?;
        let mut digits = String::from("+");
        for c in rest.chars() {
            match c {
                '0'..='9' => digits.push(c),
                ' ' | '(' | ')' | '-' | '.' | '/' | '\u{a0}' | '\u{202f}' => {}
                _ => return Err(NoNumber::Sign),
            }
        }
        if digits.starts_with("+0") {
            return Err(NoNumber::NoCountry);
        }
        // The shortest numbers in use with their country code have eight digits (Saint Helena, +290).
        (9..=16).contains(&digits.len()).then_some(Self(digits)).ok_or(NoNumber::Length)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `+49…89`: enough for its person to know which telephone to look at, too little to call it.
    #[must_use]
    pub fn masked(&self) -> String {
        let (first, last) = (self.0.get(..3).unwrap_or("+"), self.0.get(self.0.len() - 2..).unwrap_or_default());
        format!("{first}…{last}")
    }

    /// Whether it begins with one of these: the countries that messages may go to (S-OOB-3).
    #[must_use]
    pub fn begins_with_any(&self, prefixes: &[String]) -> bool {
        prefixes.iter().any(|prefix| self.0.starts_with(prefix.as_str()))
    }
}

impl fmt::Debug for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_as_people_write_it_and_kept_as_e_164() {
        for text in ["+4915123456789", " +49 151 2345-6789", "+49 (151) 234.567/89", "+49\u{a0}15123456789"] {
            assert_eq!(PhoneNumber::parse(text).unwrap().as_str(), "+4915123456789", "{text}");
        }
        assert_eq!(PhoneNumber::parse("+290 12345").unwrap().as_str(), "+29012345");
        for (text, why) in [
            ("015123456789", NoNumber::NoCountry),
            ("004915123456789", NoNumber::NoCountry),
            ("+0151234567", NoNumber::NoCountry),
            ("", NoNumber::NoCountry),
            ("+4915123", NoNumber::Length),
            ("+4915123456789012", NoNumber::Length),
            ("+49151abcdefg", NoNumber::Sign),
            ("+49151２３４５６７８", NoNumber::Sign),
            ("+4915123456789,+88213300900", NoNumber::Sign),
            ("+4915123456789\r\nTo: x", NoNumber::Sign),
            ("++4915123456789", NoNumber::Sign),
        ] {
            assert_eq!(PhoneNumber::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn s_log_1_a_number_is_shown_no_further_than_its_person_needs() {
        let number = PhoneNumber::parse("+4915123456789").unwrap();
        assert_eq!((number.masked(), format!("{number:?}")), ("+49…89".to_owned(), "+49…89".to_owned()));
    }

    #[test]
    fn s_oob_3_the_countries_are_told_by_how_a_number_begins() {
        let number = PhoneNumber::parse("+4915123456789").unwrap();
        let list = |prefixes: &[&str]| prefixes.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        assert!(number.begins_with_any(&list(&["+33", "+49"])));
        assert!(!number.begins_with_any(&list(&["+33", "+491600"])));
        assert!(!number.begins_with_any(&[]), "nowhere is allowed that is not named");
    }
}
