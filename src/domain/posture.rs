//! How careful is the whole gate at the moment? A word that somebody says in an incident, and that rules may name.

use std::fmt;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Posture {
    #[default]
    Normal,
    /// Something is suspected: levels may ask for more, and rules may name it.
    Elevated,
    /// All is closed but what is marked.
    Lockdown,
}

impl Posture {
    pub const ALL: [Self; 3] = [Self::Normal, Self::Elevated, Self::Lockdown];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Elevated => "elevated",
            Self::Lockdown => "lockdown",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|posture| posture.as_str() == text)
    }
}

impl fmt::Display for Posture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
