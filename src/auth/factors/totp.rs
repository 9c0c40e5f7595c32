//! Is this the code that the person's authenticator app shows (RFC 6238)? And if not, why not?

use std::time::Duration;

use data_encoding::BASE32_NOPAD;
use totp_rs::{Algorithm, Builder, Totp};
use zeroize::Zeroizing;

use super::super::factor::{Explain, Spend};
use super::super::plan::{Enrolled, Way};
use super::super::{Auth, AuthError, Visit};
use crate::base::clock::Timestamp;
use crate::base::ids::CredentialId;
use crate::base::rng::{self, Rng};
use crate::base::secret::Secret;
use crate::config::snapshot::FactorSettings;
use crate::crypto::{Place, ct_eq};
use crate::domain::factor::FactorKind;
use crate::store::{Credential, StoreError};

/// How far from now the search goes that explains a wrong clock: 20 steps are 10 minutes. It never
/// accepts (S-TOTP-2).
const EXPLAIN_STEPS: i64 = 20;
/// First byte of a sealed key. Keys of ours go by SHA-1, the one digest that every authenticator app knows.
const LAYOUT: u8 = 1;
/// One that was imported, with its digest in the second byte: 1, 2, 3. Those of SHA-1 once had the other layout.
const WITH_DIGEST: u8 = 2;
/// RFC 4226 section 4, R6: 128 bits at least.
pub(super) const SHORTEST_SEED: usize = 16;

/// A TOTP seed with the parameters it was enrolled with. They travel with the seed: a file that
/// changes `digits` or `period` later must not break the entries that people already have.
pub struct TotpKey {
    seed: Secret<Vec<u8>>,
    digits: u8,
    period: u16,
    digest: Digest,
    /// Enrolled at another system, by whose name the entry in the app goes.
    elsewhere: bool,
}

/// What the codes are made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Digest {
    Sha1,
    Sha256,
    Sha512,
}

impl Digest {
    pub(super) fn named(name: &str) -> Result<Self, NotTakenOver> {
        match name.to_ascii_uppercase().as_str() {
            "SHA1" => Ok(Self::Sha1),
            "SHA256" => Ok(Self::Sha256),
            "SHA512" => Ok(Self::Sha512),
            _ => Err(NotTakenOver::Digest),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
        }
    }

    /// How it stands in a sealed key.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Sha1 => 1,
            Self::Sha256 => 2,
            Self::Sha512 => 3,
        }
    }

    pub(super) fn of_number(number: u8) -> Option<Self> {
        [Self::Sha1, Self::Sha256, Self::Sha512].into_iter().find(|digest| digest.number() == number)
    }

    pub(super) fn algorithm(self) -> Algorithm {
        match self {
            Self::Sha1 => Algorithm::SHA1,
            Self::Sha256 => Algorithm::SHA256,
            Self::Sha512 => Algorithm::SHA512,
        }
    }
}

/// Why an authenticator of another system cannot be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTakenOver {
    #[error("its seed has under 128 bits")]
    ShortSeed,
    #[error("its codes have neither 6, 7 nor 8 digits")]
    Digits,
    #[error("its codes change in under 15 s or over 120 s")]
    Period,
    #[error("its digest is neither SHA1, SHA256 nor SHA512")]
    Digest,
}

/// What a person typed as a code: ASCII digits alone, spaces and hyphens dropped.
pub struct TotpCode(Zeroizing<String>);

/// What a code is to a key at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// Right, for this step. Only the conditional write of the step makes it a success (S-TOTP-1).
    Step(i64),
    /// Right, but this step or a later one was accepted before; the next code comes in so long.
    Used {
        next_in: Duration,
    },
    /// The code of another time: the phone's clock is so many seconds ahead (negative: behind).
    Clock {
        ahead_secs: i64,
    },
    Wrong,
}

impl TotpKey {
    /// A new seed of 160 bits (RFC 4226 section 4, R6).
    #[must_use]
    pub fn generate(settings: &FactorSettings, rng: &dyn Rng) -> Self {
        Self {
            seed: Secret::new(rng::bytes::<20>(rng).to_vec()),
            digits: u8::try_from(settings.totp_digits).unwrap_or(6).clamp(6, 8),
            period: u16::try_from(settings.totp_period.as_secs()).unwrap_or(30).max(1),
            digest: Digest::Sha1,
            elsewhere: false,
        }
    }

    /// The key of an authenticator that was enrolled elsewhere, with the parameters it has there.
    pub fn imported(seed: Vec<u8>, digits: u32, period: u64, digest: &str) -> Result<Self, NotTakenOver> {
        let digest = Digest::named(digest)?;
        if seed.len() < SHORTEST_SEED {
            return Err(NotTakenOver::ShortSeed);
        }
        let digits = u8::try_from(digits).ok().filter(|n| (6..=8).contains(n)).ok_or(NotTakenOver::Digits)?;
        let period = u16::try_from(period).ok().filter(|n| (15..=120).contains(n)).ok_or(NotTakenOver::Period)?;
        Ok(Self { seed: Secret::new(seed), digits, period, digest, elsewhere: true })
    }

    /// Whether the entry in the app has the name of another system, and not ours.
    #[must_use]
    pub fn is_from_elsewhere(&self) -> bool {
        self.elsewhere
    }

    /// The form that is sealed and stored.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(match self.digest {
            Digest::Sha1 if !self.elsewhere => vec![LAYOUT, self.digits],
            digest => vec![WITH_DIGEST, digest.number(), self.digits],
        });
        out.extend_from_slice(&self.period.to_be_bytes());
        out.extend_from_slice(self.seed.expose());
        out
    }

    /// Reads [`to_bytes`](Self::to_bytes); `None` for anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let elsewhere = bytes.first() == Some(&WITH_DIGEST);
        let (digest, rest) = match bytes {
            [LAYOUT, rest @ ..] => (Digest::Sha1, rest),
            [WITH_DIGEST, number, rest @ ..] => (Digest::of_number(*number)?, rest),
            _ => return None,
        };
        let [digits @ 6..=8, p0, p1, seed @ ..] = rest else { return None };
        let period = u16::from_be_bytes([*p0, *p1]);
        if period == 0 || seed.len() < SHORTEST_SEED {
            return None;
        }
        Some(Self { seed: Secret::new(seed.to_vec()), digits: *digits, period, digest, elsewhere })
    }

    #[must_use]
    pub fn digits(&self) -> u8 {
        self.digits
    }

    /// The step that `now` falls in.
    #[must_use]
    pub fn step_at(&self, now: Timestamp) -> i64 {
        now.as_secs().div_euclid(i64::from(self.period))
    }

    /// The code of a step; for tests, and for the comparison below.
    #[must_use]
    pub fn code(&self, step: i64) -> Zeroizing<String> {
        let secs = u64::try_from(step.saturating_mul(i64::from(self.period))).unwrap_or(0);
        Zeroizing::new(self.totp().generate(secs).to_string())
    }

    /// The seed in base32, for people who type it.
    #[must_use]
    pub fn base32(&self) -> Secret<String> {
        Secret::new(BASE32_NOPAD.encode(self.seed.expose()))
    }

    /// The `otpauth://` address that authenticator apps read. `:` separates its two names, so it
    /// is dropped from them.
    #[must_use]
    pub fn uri(&self, issuer: &str, account: &str) -> Secret<String> {
        let clean = |text: &str| text.replace(':', " ").trim().to_owned();
        let totp =
            self.builder().with_issuer(Some(clean(issuer))).with_account_name(clean(account)).build_noncompliant();
        Secret::new(totp.to_url().unwrap_or_default())
    }

    /// Looks a code up: accepted are now ± `drift` steps after `last_step`; everything beyond only
    /// explains. Every step is computed and compared in constant time, whatever matched before, so
    /// that the time taken says nothing about which one did.
    #[must_use]
    pub fn look(&self, code: &TotpCode, last_step: i64, drift: u8, now: Timestamp) -> Match {
        let here = self.step_at(now);
        let drift = i64::from(drift);
        let totp = self.totp();
        let mut fresh = None;
        let mut used = None;
        let mut elsewhere: Option<i64> = None;
        for offset in -EXPLAIN_STEPS.max(drift)..=EXPLAIN_STEPS.max(drift) {
            let step = here + offset;
            let secs = u64::try_from(step.saturating_mul(i64::from(self.period))).unwrap_or(0);
            let right = Zeroizing::new(totp.generate(secs).to_string());
            if !ct_eq(right.as_bytes(), code.0.as_bytes()) {
                continue;
            }
            if offset.abs() > drift {
                // The nearest one is the likeliest explanation.
                if elsewhere.is_none_or(|other| offset.abs() < (other - here).abs()) {
                    elsewhere = Some(step);
                }
            } else if step > last_step {
                fresh = fresh.or(Some(step));
            } else {
                used = Some(step);
            }
        }
        let period = i64::from(self.period);
        match (fresh, used, elsewhere) {
            (Some(step), _, _) => Match::Step(step),
            (None, Some(_), _) => {
                let next = Timestamp::from_secs((last_step + 1).saturating_mul(period));
                Match::Used { next_in: next.until(now) }
            }
            // A code that was accepted once was right then: an old one typed again is no clock error.
            (None, None, Some(step)) if step > last_step => {
                Match::Clock { ahead_secs: step * period + period / 2 - now.as_secs() }
            }
            (None, None, Some(_) | None) => Match::Wrong,
        }
    }

    fn builder(&self) -> Builder {
        Builder::new()
            .with_algorithm(self.digest.algorithm())
            .with_digits(self.digits)
            .with_step_duration(u64::from(self.period))
            .with_secret(self.seed.expose().clone().into_boxed_slice())
    }

    fn totp(&self) -> Totp {
        // `build` refuses short seeds and odd digits; both were checked when the key was made.
        self.builder().build_noncompliant()
    }
}

impl TotpCode {
    /// Reads what was typed. `None` when it cannot be a code of so many digits, whatever the key:
    /// other digits than ASCII are no digits here (S-TOTP-2).
    #[must_use]
    pub fn parse(typed: &str, digits: u8) -> Option<Self> {
        if typed.len() > 64 {
            return None;
        }
        let text: Zeroizing<String> =
            Zeroizing::new(typed.chars().filter(|c| !matches!(c, ' ' | '-' | '\t')).collect());
        (text.len() == usize::from(digits) && text.bytes().all(|b| b.is_ascii_digit())).then_some(Self(text))
    }

    pub(super) fn digits(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// How the entries are listed: as one way, under the name of the one that was used last.
pub(super) fn way(enrolled: &Enrolled) -> Option<Way> {
    let last = enrolled.totp().max_by_key(|c| (c.last_used_at, c.created_at))?;
    Some(Way {
        kind: FactorKind::Totp,
        label: last.label.clone(),
        elsewhere: enrolled.elsewhere.contains(&last.id),
        last_used_at: last.last_used_at,
        left: None,
        unfit: None,
    })
}

impl Auth {
    /// Looks for an entry of the person that shows this code.
    pub(in crate::auth) fn look_at_totp(
        &self,
        visit: &Visit<'_>,
        enrolled: &Enrolled,
        typed: &str,
    ) -> Result<Result<Spend, Explain>, AuthError> {
        let mut explain = Explain::Wrong;
        for credential in enrolled.totp() {
            let key = self.totp_key(credential)?;
            let Some(code) = TotpCode::parse(typed, key.digits()) else { continue };
            match key.look(&code, credential.last_step, visit.snapshot.factors.totp_drift, visit.now) {
                Match::Step(step) => return Ok(Ok(Spend::Step { credential: credential.id, step })),
                Match::Used { next_in } => explain = Explain::Used { next_in },
                Match::Clock { ahead_secs } if explain == Explain::Wrong => explain = Explain::Clock { ahead_secs },
                Match::Clock { .. } | Match::Wrong => {}
            }
        }
        Ok(Err(explain))
    }

    /// Opens the seed of an entry.
    pub(in crate::auth) fn totp_key(&self, credential: &Credential) -> Result<TotpKey, AuthError> {
        let plain = self.keys.open(&seed_place(&credential.id), &credential.secret)?;
        TotpKey::from_bytes(plain.expose()).ok_or(AuthError::Store(StoreError::Corrupt("a TOTP key")))
    }
}

/// Where a seed stands: it opens nowhere else (S-KEY-1).
pub(in crate::auth) fn seed_place(id: &CredentialId) -> Place<'_> {
    Place::new("credentials", id.as_bytes(), "secret")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::SeededRng;

    fn settings() -> FactorSettings {
        FactorSettings {
            totp_digits: 6,
            totp_period: Duration::from_secs(30),
            totp_drift: 1,
            hotp_look_ahead: 5,
            hotp_enroll: false,
            backup_codes: 10,
            email_codes: false,
            sms_codes: false,
            sms_enroll: false,
            first_login: Duration::from_secs(86_400),
            password_min: 8,
            passkeys: true,
            key_after_code: false,
        }
    }

    fn key() -> TotpKey {
        TotpKey::generate(&settings(), &*SeededRng::new(7))
    }

    fn noon() -> Timestamp {
        Timestamp::from_secs(1_800_000_000 + 10)
    }

    fn typed(text: &str) -> TotpCode {
        TotpCode::parse(text, 6).expect("six digits")
    }

    #[test]
    fn the_codes_are_those_of_rfc_6238_appendix_b() {
        let mut bytes = vec![LAYOUT, 8, 0, 30];
        bytes.extend_from_slice(b"12345678901234567890");
        let key = TotpKey::from_bytes(&bytes).expect("reads");
        for (time, code) in [(59, "94287082"), (1_111_111_109, "07081804"), (20_000_000_000, "65353130")] {
            assert_eq!(key.code(key.step_at(Timestamp::from_secs(time))).as_str(), code);
        }
    }

    #[test]
    fn s_totp_2_only_now_and_the_drift_around_it_are_accepted_the_rest_explains() {
        let key = key();
        let here = key.step_at(noon());
        for offset in -25..=25 {
            let code = typed(&key.code(here + offset));
            let seen = key.look(&code, 0, 1, noon());
            match offset {
                -1..=1 => assert_eq!(seen, Match::Step(here + offset), "offset {offset}"),
                -20..=20 => {
                    let Match::Clock { ahead_secs } = seen else { panic!("offset {offset}: {seen:?}") };
                    assert!((ahead_secs - offset * 30).abs() <= 30, "offset {offset}: {ahead_secs} s");
                }
                _ => assert_eq!(seen, Match::Wrong, "offset {offset}"),
            }
        }
    }

    #[test]
    fn s_totp_2_only_ascii_digits_are_digits() {
        for good in ["123456", " 123 456 ", "123-456", "1 2 3 4 5 6"] {
            assert!(TotpCode::parse(good, 6).is_some(), "{good:?} was refused");
        }
        for bad in ["", "12345", "1234567", "１２３４５６", "١٢٣٤٥٦", "12345a", "+12345", "123456\u{a0}", "0x1234"]
        {
            assert!(TotpCode::parse(bad, 6).is_none(), "{bad:?} was taken");
        }
    }

    #[test]
    fn s_totp_1_a_used_step_says_when_the_next_code_comes() {
        let key = key();
        let here = key.step_at(noon());
        let code = typed(&key.code(here));
        assert_eq!(key.look(&code, here, 1, noon()), Match::Used { next_in: Duration::from_secs(20) });
        let older = typed(&key.code(here - 1));
        assert!(matches!(key.look(&older, here, 1, noon()), Match::Used { .. }), "an older step dies with a newer one");
        assert_eq!(key.look(&typed(&key.code(here + 1)), here, 1, noon()), Match::Step(here + 1));
        assert_eq!(
            key.look(&typed(&key.code(here - 9)), here, 1, noon()),
            Match::Wrong,
            "an old code is no clock error"
        );
    }

    #[test]
    fn the_stored_form_keeps_the_parameters_of_the_enrollment() {
        let key = key();
        let again = TotpKey::from_bytes(&key.to_bytes()).expect("reads");
        assert_eq!(*again.code(1234), *key.code(1234));
        assert!(!again.is_from_elsewhere());
        for bad in [&[][..], &[2, 6, 0, 30], &[1, 6, 0, 0, 1, 2, 3], &[1, 9, 0, 30]] {
            assert!(TotpKey::from_bytes(bad).is_none());
        }
    }

    /// RFC 6238 appendix B: the seeds of the longer digests are longer.
    #[test]
    fn an_authenticator_of_another_system_goes_on_with_its_digest_digits_and_period() {
        let seed = |length: usize| b"1234567890".iter().copied().cycle().take(length).collect::<Vec<u8>>();
        for (digest, length, codes) in [
            ("sha1", 20, ["94287082", "07081804"]),
            ("SHA256", 32, ["46119246", "68084774"]),
            ("SHA512", 64, ["90693936", "25091201"]),
        ] {
            let key = TotpKey::imported(seed(length), 8, 30, digest).expect("is taken");
            let key = TotpKey::from_bytes(&key.to_bytes()).expect("reads");
            assert!(key.is_from_elsewhere());
            for (time, code) in [59, 1_111_111_109].into_iter().zip(codes) {
                assert_eq!(key.code(key.step_at(Timestamp::from_secs(time))).as_str(), code, "{digest}");
            }
        }
        let refused = |length, digits, period, digest| TotpKey::imported(seed(length), digits, period, digest).err();
        assert_eq!(refused(10, 6, 30, "SHA1"), Some(NotTakenOver::ShortSeed));
        assert_eq!(refused(20, 5, 30, "SHA1"), Some(NotTakenOver::Digits));
        assert_eq!(refused(20, 6, 3600, "SHA1"), Some(NotTakenOver::Period));
        assert_eq!(refused(20, 6, 30, "MD5"), Some(NotTakenOver::Digest));
    }

    #[test]
    fn the_address_for_the_app_names_issuer_and_account() {
        let uri = key().uri("Example: Corp", "zoë");
        assert!(uri.expose().starts_with("otpauth://totp/Example%20%20Corp:zo%C3%AB?secret="), "{}", uri.expose());
        assert!(uri.expose().contains("issuer=Example%20%20Corp"));
        assert_eq!(key().base32().expose().len(), 32);
    }
}
