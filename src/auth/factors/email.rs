//! Is this the code that was sent to the person's mailbox? Restricted: whoever reads the mailbox has it, so
//! it counts only where a level names it, and never as phishing resistant (S-OOB-1).

use zeroize::Zeroizing;

use super::super::factor::{Explain, Spend};
use super::super::plan::{Enrolled, Way};
use super::super::{Auth, AuthError, Visit};
use crate::base::clock::Timestamp;
use crate::base::ids::{CredentialId, SentCodeId, UserId};
use crate::base::rng::{self, Rng};
use crate::crypto::{KeyRing, Purpose};
use crate::domain::factor::FactorKind;

pub(in crate::auth) const DIGITS: usize = 6;

/// How it is listed: under the address, as far as its person needs it to know which mailbox to open.
pub(super) fn way(enrolled: &Enrolled) -> Option<Way> {
    let address = enrolled.email.as_deref()?;
    Some(Way {
        kind: FactorKind::Email,
        label: masked(address),
        elsewhere: false,
        last_used_at: None,
        left: None,
        unfit: None,
    })
}

/// `a…@corp.example`: whoever has only the password learns no address by it.
fn masked(address: &str) -> String {
    let (user, host) = address.rsplit_once('@').unwrap_or((address, ""));
    format!("{}…@{host}", user.chars().next().unwrap_or('…'))
}

/// Six digits, each of the million as likely as the others.
pub(in crate::auth) fn new_code(rng: &dyn Rng) -> Zeroizing<String> {
    const CODES: u32 = 1_000_000;
    // What lies beyond the last whole million would make the first codes likelier.
    const END: u32 = u32::MAX / CODES * CODES;
    loop {
        let drawn = u32::from_be_bytes(rng::bytes::<4>(rng));
        if drawn < END {
            return Zeroizing::new(format!("{:0DIGITS$}", drawn % CODES));
        }
    }
}

/// What is hashed under the ring's key: a row moved to another person or ceremony is worth nothing.
pub(in crate::auth) fn bound(
    id: SentCodeId,
    user: UserId,
    kind: FactorKind,
    scope: &str,
    code: &str,
) -> Zeroizing<Vec<u8>> {
    let mut input = Zeroizing::new(id.as_bytes().to_vec());
    input.extend_from_slice(user.as_bytes());
    for part in [kind.as_str(), scope, code] {
        input.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        input.extend_from_slice(part.as_bytes());
    }
    input
}

/// What was typed, if it can be a code at all: ASCII digits, spaces and hyphens dropped.
fn typed_code(typed: &str) -> Option<Zeroizing<String>> {
    if typed.len() > 64 {
        return None;
    }
    let text: Zeroizing<String> = Zeroizing::new(typed.chars().filter(|c| !matches!(c, ' ' | '-' | '\t')).collect());
    (text.len() == DIGITS && text.bytes().all(|b| b.is_ascii_digit())).then_some(text)
}

impl Auth {
    /// Looks at a code that was sent for this ceremony. The try is counted before the comparison, by a
    /// conditional write (S-OOB-2).
    pub(in crate::auth) async fn look_at_sent_code(
        &self,
        visit: &Visit<'_>,
        user: UserId,
        (kind, credential): (FactorKind, Option<CredentialId>),
        scope: &str,
        typed: &str,
    ) -> Result<Result<Spend, Explain>, AuthError> {
        let Some(code) = typed_code(typed) else { return Ok(Err(Explain::Wrong)) };
        let Some(taken) = self.store.try_sent_code(user, kind, scope, visit.now).await? else {
            return Ok(Err(Explain::Sent { left: 0 }));
        };
        let right = is_right(&self.keys, &bound(taken.id, user, kind, scope, &code), &taken.hash);
        Ok(if right {
            Ok(Spend::Sent { kind, id: taken.id, credential })
        } else {
            Err(Explain::Sent { left: taken.left })
        })
    }

    /// Until when a code that was sent for this ceremony works.
    pub async fn sent_code_until(
        &self,
        visit: &Visit<'_>,
        user: UserId,
        kind: FactorKind,
        scope: &str,
    ) -> Result<Option<Timestamp>, AuthError> {
        if kind != FactorKind::Sms {
            return Ok(self.store.sent_code(user, kind, scope, visit.now).await?);
        }
        let Some(phone) = self.phone_of(visit, &self.store.credentials(user).await?)? else { return Ok(None) };
        Ok(self.store.sent_code(user, kind, &phone.scope(scope), visit.now).await?)
    }
}

fn is_right(keys: &KeyRing, bound: &[u8], hash: &[u8; 32]) -> bool {
    keys.verify_mac(Purpose::SentCode, bound, hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::{SeededRng, SystemRng};

    #[test]
    fn s_oob_2_a_code_is_six_digits_and_all_are_drawn() {
        let rng = SeededRng::new(5);
        let codes: Vec<_> = (0..20_000).map(|_| new_code(&*rng)).collect();
        assert!(codes.iter().all(|code| code.len() == 6 && code.bytes().all(|b| b.is_ascii_digit())));
        for digit in '0'..='9' {
            let first = codes.iter().filter(|code| code.starts_with(digit)).count();
            assert!((1_700..2_300).contains(&first), "{first} begin with {digit}");
        }
    }

    #[test]
    fn s_oob_2_a_hash_is_of_one_person_one_ceremony_and_one_key() {
        let (keys, now) = (KeyRing::ephemeral(&SystemRng), Timestamp::from_secs(1_800_000_000));
        let (id, ann, bob) =
            (SentCodeId::new(now, &SystemRng), UserId::new(now, &SystemRng), UserId::new(now, &SystemRng));
        let hash = keys.mac(Purpose::SentCode, &bound(id, ann, FactorKind::Email, "flow", "123456"));
        let right =
            |id, user, kind, scope: &str, code: &str| is_right(&keys, &bound(id, user, kind, scope, code), &hash);
        assert!(right(id, ann, FactorKind::Email, "flow", "123456"));
        assert!(!right(id, ann, FactorKind::Email, "flow", "123457"));
        assert!(!right(id, bob, FactorKind::Email, "flow", "123456"));
        assert!(!right(id, ann, FactorKind::Sms, "flow", "123456"));
        assert!(!right(id, ann, FactorKind::Email, "flo", "w123456"));
        assert!(!right(id, ann, FactorKind::Email, "another", "123456"));
        assert!(!right(SentCodeId::new(now, &SystemRng), ann, FactorKind::Email, "flow", "123456"));
        let other = KeyRing::ephemeral(&SystemRng);
        assert!(
            !is_right(&other, &bound(id, ann, FactorKind::Email, "flow", "123456"), &hash),
            "a stolen database alone"
        );
    }

    #[test]
    fn an_address_is_told_no_further_than_its_person_needs() {
        assert_eq!(masked("ann.smith@corp.example"), "a…@corp.example");
    }
}
