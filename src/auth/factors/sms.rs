//! To which number do a person's codes go by text message? Restricted (NIST SP 800-63B section 3.2.9): whoever takes the
//! number over, by a new SIM or at the network, has the code, so it never counts as phishing resistant (S-OOB-1).

use super::super::plan::{Enrolled, Way};
use super::super::{Auth, AuthError, Visit};
use super::totp::seed_place;
use crate::base::clock::Timestamp;
use crate::base::ids::CredentialId;
use crate::domain::factor::FactorKind;
use crate::domain::phone::PhoneNumber;
use crate::store::{Credential, StoreError};

/// The number that codes go to, and the entry that holds it.
#[derive(Clone, Debug)]
pub struct Phone {
    pub credential: CredentialId,
    pub number: PhoneNumber,
    pub last_used_at: Option<Timestamp>,
}

impl Phone {
    /// A code that was sent to this number is for this ceremony or session, and dead once the number is another one.
    #[must_use]
    pub(in crate::auth) fn scope(&self, scope: &str) -> String {
        format!("{scope}:{}", self.credential)
    }
}

/// How it is listed: masked, for whoever has only the password learns no number by it.
pub(super) fn way(enrolled: &Enrolled) -> Option<Way> {
    let phone = enrolled.phone.as_ref()?;
    Some(Way {
        kind: FactorKind::Sms,
        label: phone.number.masked(),
        elsewhere: false,
        last_used_at: phone.last_used_at,
        left: None,
        unfit: None,
    })
}

impl Auth {
    /// The number of a person, where the file lets people confirm by text message and messages may go there (S-OOB-3).
    pub(in crate::auth) fn phone_of(
        &self,
        visit: &Visit<'_>,
        credentials: &[Credential],
    ) -> Result<Option<Phone>, AuthError> {
        let Some(settings) = visit.snapshot.sms.as_ref().filter(|_| visit.snapshot.codes_by_sms()) else {
            return Ok(None);
        };
        let mut numbers = credentials.iter().filter(|c| c.kind == FactorKind::Sms && c.disabled_at.is_none());
        let Some(credential) = numbers.next_back() else { return Ok(None) };
        let number = self.number_of(credential)?;
        // The list may have become shorter since the number was set up.
        let allowed = number.begins_with_any(&settings.allow_prefixes);
        Ok(allowed.then_some(Phone { credential: credential.id, number, last_used_at: credential.last_used_at }))
    }

    pub(in crate::auth) fn number_of(&self, credential: &Credential) -> Result<PhoneNumber, AuthError> {
        let plain = self.keys.open(&seed_place(&credential.id), &credential.secret)?;
        let text = std::str::from_utf8(plain.expose()).ok();
        text.and_then(|text| PhoneNumber::parse(text).ok()).ok_or(AuthError::Store(StoreError::Corrupt("a number")))
    }
}
