//! A person who may sign in.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

use crate::base::clock::Timestamp;
use crate::base::ids::UserId;
use crate::base::unseen::is_unseen;

/// A sign-in name: NFC, 1 to 128 characters, no control, bidi, zero-width or white-space
/// characters, and none of `,;|:"\`, which separate groups and fields in apps (S-ID-5).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct UserName(Arc<str>);

/// A group name, held to the same rules as [`UserName`] (spaces inside are allowed).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct GroupName(Arc<str>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name cannot be empty")]
    Empty,
    #[error("a name has at most 128 characters")]
    TooLong,
    #[error("a name cannot hold U+{0:04X}")]
    BadCharacter(u32),
}

impl UserName {
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check(text, false).map(Self)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl GroupName {
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check(text, true).map(Self)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Text for people (a display name, a label): NFC, trimmed, no control, bidi or zero-width
/// characters, at most 256 characters; empty is fine.
pub fn display_text(text: &str) -> Result<String, NameError> {
    let nfc: String = text.trim().nfc().collect();
    if nfc.chars().count() > 256 {
        return Err(NameError::TooLong);
    }
    match nfc.chars().find(|c| is_unseen(*c)) {
        Some(c) => Err(NameError::BadCharacter(c.into())),
        None => Ok(nfc),
    }
}

fn check(text: &str, spaces: bool) -> Result<Arc<str>, NameError> {
    let nfc: String = text.nfc().collect();
    if nfc.trim().is_empty() || nfc.trim() != nfc {
        return Err(if nfc.trim().is_empty() { NameError::Empty } else { NameError::BadCharacter(0x20) });
    }
    if nfc.chars().count() > 128 {
        return Err(NameError::TooLong);
    }
    let bad = |c: &char| is_unseen(*c) || ",;|:\"\\".contains(*c) || (c.is_whitespace() && !(spaces && *c == ' '));
    match nfc.chars().find(bad) {
        Some(c) => Err(NameError::BadCharacter(c.into())),
        None => Ok(nfc.into()),
    }
}

macro_rules! text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}
text!(UserName);
text!(GroupName);

/// Whether an account may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserStatus {
    Active,
    Disabled,
}

/// An account as the store holds it, without its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    pub name: UserName,
    pub display: String,
    pub email: Option<String>,
    pub groups: Vec<GroupName>,
    pub status: UserStatus,
    pub created_at: Timestamp,
    /// Until when a correct password alone may enroll a first factor; `None` once one was
    /// enrolled, for ever (S-ENR-1).
    pub first_login_until: Option<Timestamp>,
    /// Whether a factor was ever enrolled, also one that was removed since.
    pub ever_enrolled: bool,
    /// Counts what voids all that was shown before: a changed password, a removed factor, the end of
    /// all sessions. A sign-in that began at one count ends in no session at another (S-SESS-5).
    pub epoch: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_id_5_a_name_holds_nothing_that_ends_a_field_or_begins_another_group() {
        for bad in [
            "a\r\nRemote-User: root",
            "a\nb",
            "a\0b",
            "a\tb",
            "x,admin",
            "x;admin",
            "x|admin",
            "x:admin",
            "a\"b",
            "a\\b",
            " a",
            "a ",
            "",
            " ",
            "a\u{202e}b",
            "a\u{200b}b",
            "a\u{feff}b",
            "a\u{85}b",
        ] {
            assert!(UserName::parse(bad).is_err() && GroupName::parse(bad).is_err(), "{bad:?}");
        }
        for bad in ["a\r\nRemote-User: root", "a\0b", "a\u{202e}b", "a\u{200b}b"] {
            assert!(display_text(bad).is_err(), "{bad:?}");
        }
        assert!(UserName::parse("ann lee").is_err(), "and a user's name no blank");
        assert_eq!(GroupName::parse("night shift").unwrap().as_str(), "night shift");
    }

    #[test]
    fn s_id_5_two_spellings_of_one_name_are_one_name() {
        assert_eq!(UserName::parse("Zoe\u{308}").unwrap(), UserName::parse("Zo\u{eb}").unwrap());
    }
}
