//! Backup codes: how one is made, read and turned into what the store keeps.

use data_encoding::BASE32_NOPAD;
use zeroize::Zeroizing;

use super::super::factor::{Explain, Spend};
use super::super::plan::{Enrolled, Way};
use super::super::{Auth, AuthError};
use crate::base::ids::UserId;
use crate::base::rng::{self, Rng};
use crate::crypto::{PasswordPool, PoolError};
use crate::domain::factor::FactorKind;
use crate::domain::user::User;

/// 80 bits (NIST SP 800-63B section 4.2.1.1 asks for 64) are 16 characters of base32.
const CODE_BYTES: usize = 10;
const CODE_CHARS: usize = 16;

/// One backup code, in its canonical spelling: 16 lower-case base32 characters.
pub struct BackupCode(Zeroizing<String>);

impl BackupCode {
    #[must_use]
    pub fn generate(rng: &dyn Rng) -> Self {
        let bits = Zeroizing::new(rng::bytes::<CODE_BYTES>(rng));
        Self(Zeroizing::new(BASE32_NOPAD.encode(&*bits).to_ascii_lowercase()))
    }

    /// Reads what was typed: case, spaces and hyphens do not matter, and the digits that base32
    /// does not have are read as the letters they are mistaken for.
    #[must_use]
    pub fn parse(typed: &str) -> Option<Self> {
        if typed.len() > 128 {
            return None;
        }
        let mut text = Zeroizing::new(String::with_capacity(CODE_CHARS));
        for c in typed.chars().filter(|c| !c.is_whitespace() && *c != '-') {
            let c = match c.to_ascii_lowercase() {
                '0' => 'o',
                '1' => 'l',
                '8' => 'b',
                other => other,
            };
            if !matches!(c, 'a'..='z' | '2'..='7') {
                return None;
            }
            text.push(c);
        }
        (text.len() == CODE_CHARS).then_some(Self(text))
    }

    /// As people read it: `hvue n2ws xvcw a75s`.
    #[must_use]
    pub fn grouped(&self) -> String {
        let groups: Vec<&str> = self.0.as_bytes().chunks(4).filter_map(|c| std::str::from_utf8(c).ok()).collect();
        groups.join(" ")
    }

    /// What the store keeps: argon2id with the set's salt under the pool's keyed pepper, so that a
    /// stolen database alone cannot be searched (S-BACK-1). The person stands in it: a row moved to
    /// another account is worth nothing.
    pub async fn hash(&self, user: UserId, salt: [u8; 16], pool: &PasswordPool) -> Result<[u8; 32], PoolError> {
        let mut input = user.as_bytes().to_vec();
        input.extend_from_slice(self.0.as_bytes());
        pool.derive(input, salt).await
    }
}

/// How the set is listed, with what is left of it.
pub(super) fn way(enrolled: &Enrolled) -> Option<Way> {
    let set = enrolled.backup.as_ref().filter(|set| set.left > 0)?;
    Some(Way {
        kind: FactorKind::BackupCodes,
        label: String::new(),
        last_used_at: None,
        left: Some((set.left, set.made)),
        elsewhere: false,
        unfit: None,
    })
}

impl Auth {
    pub(in crate::auth) async fn look_at_backup_code(
        &self,
        user: &User,
        enrolled: &Enrolled,
        typed: &str,
    ) -> Result<Result<Spend, Explain>, AuthError> {
        let (Some(code), Some(set)) = (BackupCode::parse(typed), &enrolled.backup) else {
            return Ok(Err(Explain::Wrong));
        };
        // Whether the set holds it shows when it is spent: the delete is the only look (S-BACK-1).
        Ok(Ok(Spend::BackupCode(code.hash(user.id, set.salt, &self.passwords).await?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::SeededRng;

    #[test]
    fn a_code_is_read_however_it_is_typed() {
        let code = BackupCode::generate(&*SeededRng::new(3));
        let shown = code.grouped();
        assert_eq!(shown.len(), 19);
        for typed in [shown.clone(), shown.to_uppercase(), shown.replace(' ', "-"), shown.replace(' ', "")] {
            assert_eq!(*BackupCode::parse(&typed).expect("reads").0, *code.0);
        }
        for bad in
            ["", "abcd", "hvue n2ws xvcw a75", "hvue n2ws xvcw a75s2", "hvüe n2ws xvcw a75s", "hvue n2ws xvcw a75!"]
        {
            assert!(BackupCode::parse(bad).is_none(), "{bad:?} was taken");
        }
    }

    #[test]
    fn codes_of_one_set_differ() {
        let rng = SeededRng::new(3);
        let set: std::collections::HashSet<String> = (0..10).map(|_| BackupCode::generate(&*rng).grouped()).collect();
        assert_eq!(set.len(), 10);
    }
}
