//! Is this the next code of a token that counts its presses (RFC 4226)? It has no clock: it moves on whenever it is
//! pressed, also when nobody types the code.

use data_encoding::{BASE32_NOPAD, HEXLOWER_PERMISSIVE};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use totp_rs::{Builder, Totp};
use url::Url;
use zeroize::Zeroizing;

use super::super::factor::{Explain, Spend};
use super::super::plan::{Enrolled, Way};
use super::super::{Auth, AuthError, Visit};
use super::totp::{Digest, NotTakenOver, SHORTEST_SEED, TotpCode, seed_place};
use crate::base::rng::{self, Rng};
use crate::base::secret::Secret;
use crate::crypto::ct_eq;
use crate::domain::factor::FactorKind;
use crate::store::{Credential, StoreError};

/// Two codes in a row are looked for among so many: RFC 4226 section 7.4 asks for a bound, S-HOTP-1 names it.
pub const RESYNC_WITHIN: i64 = 50;
/// How far behind the search goes that tells a used code from a wrong one. It never accepts.
const EXPLAIN_USED: i64 = 5;
/// First byte of a sealed key: none of `totp`, so neither is ever read as the other.
const LAYOUT: u8 = 3;
/// A counter of eight bytes, without the part that no token reaches and additions would overflow in.
const LAST_COUNTER: u64 = 1 << 48;

/// The secret of a counting token, with what it makes its codes by. The counter stands beside it in
/// the clear, for a conditional write moves it.
pub struct HotpKey {
    seed: Secret<Vec<u8>>,
    digits: u8,
    digest: Digest,
}

/// A token as somebody hands it over: its key, and the counter of its next code.
pub struct HotpToken {
    pub key: HotpKey,
    pub next: i64,
}

/// Why what was handed over is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    #[error("it is no otpauth://hotp/ address")]
    Address,
    #[error("its secret is neither base32 nor hexadecimal")]
    Secret,
    #[error("its counter is no number from 0 to 2^48")]
    Counter,
    #[error(transparent)]
    Key(#[from] NotTakenOver),
}

/// What was shown: one code, or two that the token gave one after the other.
#[derive(Clone, Copy)]
pub enum HotpCodes<'a> {
    One(&'a TotpCode),
    Pair(&'a TotpCode, &'a TotpCode),
}

/// What the codes are to a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// Right, at this counter. Only the conditional write that moves the token there makes it a success (S-HOTP-1).
    Counter(i64),
    /// Right once: the token is past it.
    Used,
    Wrong,
}

impl HotpKey {
    /// A new secret of 160 bits (RFC 4226 section 4, R6).
    #[must_use]
    pub fn generate(rng: &dyn Rng) -> Self {
        Self { seed: Secret::new(rng::bytes::<20>(rng).to_vec()), digits: 6, digest: Digest::Sha1 }
    }

    fn of(seed: Vec<u8>, digits: u32, digest: &str) -> Result<Self, NotTakenOver> {
        if seed.len() < SHORTEST_SEED {
            return Err(NotTakenOver::ShortSeed);
        }
        let digits = u8::try_from(digits).ok().filter(|n| (6..=8).contains(n)).ok_or(NotTakenOver::Digits)?;
        Ok(Self { seed: Secret::new(seed), digits, digest: Digest::named(digest)? })
    }

    /// The form that is sealed and stored.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(vec![LAYOUT, self.digest.number(), self.digits]);
        out.extend_from_slice(self.seed.expose());
        out
    }

    /// Reads [`to_bytes`](Self::to_bytes); `None` for anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let [LAYOUT, digest, digits @ 6..=8, seed @ ..] = bytes else { return None };
        let digest = Digest::of_number(*digest)?;
        (seed.len() >= SHORTEST_SEED).then(|| Self { seed: Secret::new(seed.to_vec()), digits: *digits, digest })
    }

    #[must_use]
    pub fn digits(&self) -> u8 {
        self.digits
    }

    /// The code at a counter.
    #[must_use]
    pub fn code(&self, counter: i64) -> Zeroizing<String> {
        Zeroizing::new(self.hotp().generate(u64::try_from(counter).unwrap_or(0)).to_string())
    }

    /// The secret in base32, for people who type it.
    #[must_use]
    pub fn base32(&self) -> Secret<String> {
        Secret::new(BASE32_NOPAD.encode(self.seed.expose()))
    }

    /// The `otpauth://` address that apps and token writers read. `:` separates its two names, so it is
    /// dropped from them.
    #[must_use]
    pub fn uri(&self, issuer: &str, account: &str, next: i64) -> Secret<String> {
        let clean = |text: &str| utf8_percent_encode(text.replace(':', " ").trim(), NON_ALPHANUMERIC).to_string();
        let (issuer, account, secret) = (clean(issuer), clean(account), self.base32());
        let (secret, digits, digest) = (secret.expose(), self.digits, self.digest.name());
        let mut uri = format!("otpauth://hotp/{issuer}:{account}?secret={secret}&counter={next}&issuer={issuer}");
        if digits != 6 {
            uri.push_str(&format!("&digits={digits}"));
        }
        if self.digest != Digest::Sha1 {
            uri.push_str(&format!("&algorithm={digest}"));
        }
        Secret::new(uri)
    }

    /// Looks codes up; `last` is the counter of the last one that was accepted, -1 before any. One code is accepted
    /// up to `look_ahead` presses on; a pair within [`RESYNC_WITHIN`]. Every counter is computed and compared
    /// in constant time, whatever matched before.
    #[must_use]
    pub fn look(&self, shown: HotpCodes<'_>, last: i64, look_ahead: u8) -> Match {
        let is = |counter: i64, code: &TotpCode| ct_eq(self.code(counter).as_bytes(), code.digits());
        let next = last + 1;
        let mut fresh = None;
        let mut used = false;
        match shown {
            HotpCodes::One(code) => {
                for counter in next..=next + i64::from(look_ahead) {
                    let right = is(counter, code);
                    fresh = fresh.or(right.then_some(counter));
                }
                for counter in (next - EXPLAIN_USED).max(0)..next {
                    used |= is(counter, code);
                }
            }
            HotpCodes::Pair(first, second) => {
                for counter in next..next + RESYNC_WITHIN - 1 {
                    let right = is(counter, first) & is(counter + 1, second);
                    fresh = fresh.or(right.then_some(counter + 1));
                }
            }
        }
        match (fresh, used) {
            (Some(counter), _) => Match::Counter(counter),
            (None, true) => Match::Used,
            (None, false) => Match::Wrong,
        }
    }

    /// RFC 6238 is RFC 4226 with the time for a counter: with steps of one second, a time is the counter.
    fn hotp(&self) -> Totp {
        Builder::new()
            .with_algorithm(self.digest.algorithm())
            .with_digits(self.digits)
            .with_step_duration(1)
            .with_secret(self.seed.expose().clone().into_boxed_slice())
            .build_noncompliant()
    }
}

impl HotpToken {
    /// Reads what a vendor or another system hands over: an `otpauth://hotp/` address, or the bare secret in
    /// base32 or hexadecimal. `counter` and `digits` are of a bare secret; an address has its own.
    pub fn read(text: &str, counter: u64, digits: u32) -> Result<Self, NoToken> {
        let text = text.trim();
        if text.contains("://") {
            return Self::of_address(text);
        }
        Ok(Self { key: HotpKey::of(secret_of(text)?, digits, "SHA1")?, next: counter_of(counter)? })
    }

    fn of_address(text: &str) -> Result<Self, NoToken> {
        let url = Url::parse(text).map_err(|_| NoToken::Address)?;
        if url.scheme() != "otpauth" || url.host_str() != Some("hotp") {
            return Err(NoToken::Address);
        }
        let field = |name: &str| url.query_pairs().find(|(n, _)| n == name).map(|(_, value)| value);
        // Without it the token may be anywhere: the format asks for it.
        let counter = field("counter").and_then(|text| text.parse().ok()).ok_or(NoToken::Counter)?;
        let secret = Secret::new(field("secret").ok_or(NoToken::Secret)?.into_owned());
        let seed = base32(secret.expose()).ok_or(NoToken::Secret)?;
        let digits = field("digits").map_or(Ok(6), |text| text.parse()).map_err(|_| NotTakenOver::Digits)?;
        let digest = field("algorithm").unwrap_or_else(|| "SHA1".into());
        Ok(Self { key: HotpKey::of(seed, digits, &digest)?, next: counter_of(counter)? })
    }
}

fn counter_of(counter: u64) -> Result<i64, NoToken> {
    i64::try_from(counter).ok().filter(|_| counter <= LAST_COUNTER).ok_or(NoToken::Counter)
}

/// Vendors' lists have hexadecimal (40 characters for 20 bytes), apps base32. What can be read as both has a length that
/// tells: 160 bits are 40 characters of the one and 32 of the other.
fn secret_of(text: &str) -> Result<Vec<u8>, NoToken> {
    let bare = Zeroizing::new(text.chars().filter(|c| !matches!(c, ' ' | '-')).collect::<String>());
    let hex = || HEXLOWER_PERMISSIVE.decode(bare.as_bytes()).ok();
    let found = if bare.len() == 32 { base32(&bare).or_else(hex) } else { hex().or_else(|| base32(&bare)) };
    found.ok_or(NoToken::Secret)
}

fn base32(text: &str) -> Option<Vec<u8>> {
    BASE32_NOPAD.decode(text.trim_end_matches('=').to_ascii_uppercase().as_bytes()).ok()
}

/// How the tokens are listed: as one way, under the name of the one that was used last.
pub(super) fn way(enrolled: &Enrolled) -> Option<Way> {
    let last = enrolled.hotp().max_by_key(|c| (c.last_used_at, c.created_at))?;
    Some(Way {
        kind: FactorKind::Hotp,
        label: last.label.clone(),
        elsewhere: false,
        last_used_at: last.last_used_at,
        left: None,
        unfit: None,
    })
}

impl Auth {
    /// Looks for a token of the person that shows this code; with a second one, for one that shows both in a row.
    pub(in crate::auth) fn look_at_hotp(
        &self,
        visit: &Visit<'_>,
        enrolled: &Enrolled,
        typed: &str,
        second: Option<&str>,
    ) -> Result<Result<Spend, Explain>, AuthError> {
        let mut explain = Explain::Wrong;
        for credential in enrolled.hotp() {
            let key = self.hotp_key(credential)?;
            let Some(first) = TotpCode::parse(typed, key.digits()) else { continue };
            let second = match second.map(|second| TotpCode::parse(second, key.digits())) {
                None => None,
                Some(Some(second)) => Some(second),
                Some(None) => continue,
            };
            let shown = second.as_ref().map_or(HotpCodes::One(&first), |second| HotpCodes::Pair(&first, second));
            match key.look(shown, credential.last_step, visit.snapshot.factors.hotp_look_ahead) {
                Match::Counter(step) => return Ok(Ok(Spend::Counter { credential: credential.id, step })),
                Match::Used => explain = Explain::Used { next_in: std::time::Duration::ZERO },
                Match::Wrong => {}
            }
        }
        Ok(Err(explain))
    }

    /// Opens the secret of a token.
    fn hotp_key(&self, credential: &Credential) -> Result<HotpKey, AuthError> {
        let plain = self.keys.open(&seed_place(&credential.id), &credential.secret)?;
        HotpKey::from_bytes(plain.expose()).ok_or(AuthError::Store(StoreError::Corrupt("a HOTP key")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::SeededRng;

    fn key() -> HotpKey {
        HotpKey::generate(&*SeededRng::new(7))
    }

    fn typed(text: &str) -> TotpCode {
        TotpCode::parse(text, 6).expect("six digits")
    }

    fn one(key: &HotpKey, at: i64, last: i64) -> Match {
        key.look(HotpCodes::One(&typed(&key.code(at))), last, 5)
    }

    fn pair(key: &HotpKey, at: [i64; 2], last: i64) -> Match {
        key.look(HotpCodes::Pair(&typed(&key.code(at[0])), &typed(&key.code(at[1]))), last, 5)
    }

    #[test]
    fn the_codes_are_those_of_rfc_4226_appendix_d() {
        let token = HotpToken::read("3132333435363738393031323334353637383930", 0, 6).expect("reads");
        let codes =
            ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"];
        for (counter, code) in (0..).zip(codes) {
            assert_eq!(token.key.code(counter).as_str(), code, "counter {counter}");
        }
    }

    #[test]
    fn s_hotp_1_a_code_is_taken_at_most_five_presses_on_and_never_behind() {
        let key = key();
        for last in [-1, 0, 41, 1 << 48] {
            for ahead in 0..=5 {
                assert_eq!(one(&key, last + 1 + ahead, last), Match::Counter(last + 1 + ahead));
            }
            for ahead in 6..60 {
                assert_eq!(one(&key, last + 1 + ahead, last), Match::Wrong, "{ahead} ahead of {last}");
            }
        }
        for behind in 0..5 {
            assert_eq!(one(&key, 41 - behind, 41), Match::Used, "{behind} behind");
        }
        assert_eq!(one(&key, 30, 41), Match::Wrong);
        assert_eq!(key.look(HotpCodes::One(&typed(&key.code(43))), 41, 0), Match::Wrong, "no look-ahead, none taken");
    }

    #[test]
    fn s_hotp_1_two_codes_in_a_row_within_fifty_bring_it_into_step() {
        let key = key();
        // The next one is 42; the fiftieth from there is 91.
        assert_eq!(pair(&key, [42, 43], 41), Match::Counter(43));
        assert_eq!(pair(&key, [90, 91], 41), Match::Counter(91));
        assert_eq!(pair(&key, [91, 92], 41), Match::Wrong, "beyond fifty");
        assert_eq!(pair(&key, [60, 62], 41), Match::Wrong, "not in a row");
        assert_eq!(pair(&key, [61, 60], 41), Match::Wrong, "the wrong way round");
        assert_eq!(pair(&key, [60, 60], 41), Match::Wrong, "one code twice");
        assert_eq!(pair(&key, [41, 42], 41), Match::Wrong, "the first was used");
        assert_eq!(pair(&key, [20, 21], 41), Match::Wrong, "behind");
    }

    #[test]
    fn the_stored_form_is_read_back_and_never_as_a_totp_key() {
        let key = key();
        let again = HotpKey::from_bytes(&key.to_bytes()).expect("reads");
        assert_eq!(*again.code(1234), *key.code(1234));
        assert!(super::super::TotpKey::from_bytes(&key.to_bytes()).is_none());
        for bad in [&[][..], &[3, 1, 6], &[3, 9, 6, 0, 0], &[1, 6, 0, 30], &[3, 1, 9]] {
            assert!(HotpKey::from_bytes(bad).is_none());
        }
    }

    #[test]
    fn a_token_is_handed_over_as_an_address_or_as_a_bare_secret() {
        let seed = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        let address = format!("otpauth://hotp/Example:ann?secret={seed}&counter=7&digits=8&issuer=Example");
        let token = HotpToken::read(&address, 0, 6).unwrap();
        assert_eq!((token.next, token.key.digits(), token.key.code(0).as_str()), (7, 8, "84755224"));
        for bare in [seed, "gezdgnbvgy3tqojqgezdgnbvgy3tqojq", "3132 3334 3536 3738 3930 3132 3334 3536 3738 3930\n"] {
            let token = HotpToken::read(bare, 3, 6).unwrap();
            assert_eq!((token.next, token.key.code(0).as_str()), (3, "755224"), "{bare}");
        }
        let refused = |text: &str| HotpToken::read(text, 0, 6).err().unwrap();
        assert_eq!(refused(&format!("otpauth://totp/ann?secret={seed}&counter=0")), NoToken::Address);
        assert_eq!(refused(&format!("otpauth://hotp/ann?secret={seed}")), NoToken::Counter);
        assert_eq!(refused(&format!("otpauth://hotp/ann?secret={seed}&counter=-1")), NoToken::Counter);
        assert_eq!(refused("otpauth://hotp/ann?counter=0"), NoToken::Secret);
        assert_eq!(refused(&format!("otpauth://hotp/a?secret={seed}&counter=0&digits=5")), NotTakenOver::Digits.into());
        assert_eq!(refused("MZXW6YTB"), NotTakenOver::ShortSeed.into());
        assert_eq!(refused("not a secret"), NoToken::Secret);
        assert_eq!(HotpToken::read(seed, u64::MAX, 6).err(), Some(NoToken::Counter));
    }

    #[test]
    fn its_own_address_is_read_back() {
        let key = key();
        let uri = key.uri("Example: Corp", "zoë", 9);
        assert!(uri.expose().starts_with("otpauth://hotp/Example%20%20Corp:zo%C3%AB?secret="), "{}", uri.expose());
        let token = HotpToken::read(uri.expose(), 0, 6).unwrap();
        assert_eq!((token.next, token.key.code(4)), (9, key.code(4)));
    }
}
