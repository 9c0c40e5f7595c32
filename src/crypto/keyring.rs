//! Which keys does this gate hold, and what may each be used for?
//!
//! One random master per ring key; from it HKDF-SHA256 (RFC 5869) derives one key per purpose and
//! use, so that a tag made for a form never passes as a cookie (S-KEY-2). What was made with an
//! older key of the ring is still read; new things are made with the current one.

use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac};
use data_encoding::BASE64URL_NOPAD;

use super::ringfile::{self, KeyRingError, StoredKey};
use crate::base::clock::Timestamp;
use crate::base::rng::{self, Rng, SystemRng};
use crate::base::secret::Secret;

/// What a derived key is for. The names below go into the derivation: never change one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    Cookie,
    Assertion,
    Seal,
    Pepper,
    FormToken,
    Handover,
    Device,
    AuditChain,
    NameHash,
    ReturnTo,
    Doctor,
    AppCookie,
    KeyQuestion,
    SentCode,
    Remembered,
}

impl Purpose {
    const ALL: [Self; 15] = [
        Self::Cookie,
        Self::Assertion,
        Self::Seal,
        Self::Pepper,
        Self::FormToken,
        Self::Handover,
        Self::Device,
        Self::AuditChain,
        Self::NameHash,
        Self::ReturnTo,
        Self::Doctor,
        Self::AppCookie,
        Self::KeyQuestion,
        Self::SentCode,
        Self::Remembered,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Cookie => "cookie",
            Self::Assertion => "assertion",
            Self::Seal => "seal",
            Self::Pepper => "pepper",
            Self::FormToken => "form-token",
            Self::Handover => "handover",
            Self::Device => "device",
            Self::AuditChain => "audit-chain",
            Self::NameHash => "name-hash",
            Self::ReturnTo => "return-to",
            Self::Doctor => "doctor",
            Self::AppCookie => "app-cookie",
            Self::KeyQuestion => "key-question",
            Self::SentCode => "sent-code",
            Self::Remembered => "remembered",
        }
    }
}

/// The name of a ring key in records, 8 characters of base32: as long as an argon2 `keyid` may be.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; KEY_ID_LEN]);

pub(super) const KEY_ID_LEN: usize = 8;

impl KeyId {
    pub(super) fn generate(rng: &dyn Rng) -> Self {
        let mut id = [0; KEY_ID_LEN];
        data_encoding::BASE32_NOPAD.encode_mut(&rng::bytes::<5>(rng), &mut id);
        id.make_ascii_lowercase();
        Self(id)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let id: [u8; KEY_ID_LEN] = text.as_bytes().try_into().ok()?;
        id.iter().all(u8::is_ascii_alphanumeric).then_some(Self(id))
    }

    pub(super) fn as_bytes(&self) -> &[u8; KEY_ID_LEN] {
        &self.0
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::fmt::Debug for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The keys of this gate. Every replica holds the same ring.
pub struct KeyRing {
    /// Index 0 is the current key.
    keys: Vec<RingKey>,
}

/// One key of the ring with everything derived from it, ready to use.
pub(super) struct RingKey {
    pub(super) id: KeyId,
    created: Timestamp,
    uses: Vec<Derived>,
    /// The encoded header of every session token under this key, and the dot behind it.
    pub(super) session_header: String,
    /// PKCS#8 of the assertion key: a key of its own, not derived from the master.
    pub(super) assertion: Secret<Vec<u8>>,
}

struct Derived {
    mac: hmac::Key,
    aead: LessSafeKey,
}

/// What `keys list` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    pub id: String,
    pub created: Timestamp,
    pub current: bool,
}

/// Where a sealed value stands. It is authenticated with the value: a row swapped by someone who
/// can write to the database does not open (S-KEY-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    pub table: &'a str,
    pub row: &'a [u8],
    pub column: &'a str,
}

impl<'a> Place<'a> {
    #[must_use]
    pub fn new(table: &'a str, row: &'a [u8], column: &'a str) -> Self {
        Self { table, row, column }
    }
}

/// Why a sealed value did not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the value is sealed with key {0}, which is not in the key ring")]
    UnknownKey(String),
    #[error("the sealed value is damaged, was altered, or stands in another place than it was made for")]
    Damaged,
}

impl KeyRing {
    /// The ring at `path`; where there is none, makes one (mode 0600, on disk before this
    /// returns). The flag says whether it was made now. Of several processes that start at once,
    /// all end with the same ring.
    pub fn load_or_create(path: &Path, now: Timestamp, rng: &dyn Rng) -> Result<(Self, bool), KeyRingError> {
        let (stored, created) = ringfile::load_or_create(path, now, rng)?;
        Ok((Self::build(stored), created))
    }

    /// The ring at `path`. Refused: a file that group or others can open (S-KEY-3), or that does
    /// not parse.
    pub fn load(path: &Path) -> Result<Self, KeyRingError> {
        Ok(Self::build(ringfile::load(path)?))
    }

    /// A ring that lives in memory only: tests, and commands that need no state.
    #[must_use]
    pub fn ephemeral(rng: &dyn Rng) -> Self {
        Self::build(vec![StoredKey::generate(Timestamp::from_millis(0), rng)])
    }

    /// The first of `stored` is the current one.
    fn build(stored: Vec<StoredKey>) -> Self {
        Self { keys: stored.into_iter().map(RingKey::derive).collect() }
    }

    /// The keyed tag (HMAC-SHA256) of `data` under the current key.
    #[must_use]
    pub fn mac(&self, purpose: Purpose, data: &[u8]) -> [u8; 32] {
        self.current().mac(purpose, data)
    }

    /// Whether `tag` is the tag of `data` under any key of the ring; compared in constant time.
    #[must_use]
    pub fn verify_mac(&self, purpose: Purpose, data: &[u8], tag: &[u8]) -> bool {
        self.keys.iter().any(|key| key.verify_mac(purpose, data, tag))
    }

    /// Seals a value for one place in the store. The record names its key.
    #[must_use]
    pub fn seal(&self, place: &Place<'_>, plain: &[u8], rng: &dyn Rng) -> Vec<u8> {
        self.current().seal(Purpose::Seal, &place.associated_data(), plain, rng::bytes(rng))
    }

    /// Opens what [`KeyRing::seal`] made for the same place.
    pub fn open(&self, place: &Place<'_>, sealed: &[u8]) -> Result<Secret<Vec<u8>>, SealError> {
        self.open_record(Purpose::Seal, &place.associated_data(), sealed).map(Secret::new)
    }

    /// Seals a value that travels through a browser (a form, a link, a cookie): base64url, safe in
    /// each of them. It opens for the same purpose only. It does not hide the length, and it can be
    /// shown again: put a time in it.
    #[must_use]
    pub fn seal_token(&self, purpose: Purpose, plain: &[u8]) -> String {
        let sealed = self.current().seal(purpose, TOKEN_PLACE, plain, rng::bytes(&SystemRng));
        BASE64URL_NOPAD.encode(&sealed)
    }

    pub fn open_token(&self, purpose: Purpose, token: &str) -> Result<Vec<u8>, SealError> {
        let sealed = BASE64URL_NOPAD.decode(token.as_bytes()).map_err(|_| SealError::Damaged)?;
        self.open_record(purpose, TOKEN_PLACE, &sealed)
    }

    /// The same for one owner only: it opens for who names the same bytes, and for nobody else.
    #[must_use]
    pub fn seal_token_for(&self, purpose: Purpose, owner: &[u8], plain: &[u8]) -> String {
        let sealed = self.current().seal(purpose, &owned_place(owner), plain, rng::bytes(&SystemRng));
        BASE64URL_NOPAD.encode(&sealed)
    }

    pub fn open_token_for(&self, purpose: Purpose, owner: &[u8], token: &[u8]) -> Result<Vec<u8>, SealError> {
        let sealed = BASE64URL_NOPAD.decode(token).map_err(|_| SealError::Damaged)?;
        self.open_record(purpose, &owned_place(owner), &sealed)
    }

    /// The current key first.
    #[must_use]
    pub fn key_infos(&self) -> Vec<KeyInfo> {
        let info = |(n, key): (usize, &RingKey)| KeyInfo {
            id: key.id.as_str().to_owned(),
            created: key.created,
            current: n == 0,
        };
        self.keys.iter().enumerate().map(info).collect()
    }

    #[expect(clippy::indexing_slicing, reason = "ringfile makes and loads no ring without a key")]
    pub(super) fn current(&self) -> &RingKey {
        &self.keys[0]
    }

    /// The current key first.
    pub(super) fn keys(&self) -> impl Iterator<Item = &RingKey> {
        self.keys.iter()
    }

    fn open_record(&self, purpose: Purpose, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (id, body) = split_record(sealed).ok_or(SealError::Damaged)?;
        let key = self
            .keys
            .iter()
            .find(|key| key.id.as_bytes() == id)
            .ok_or_else(|| SealError::UnknownKey(String::from_utf8_lossy(id).escape_debug().to_string()))?;
        key.open(purpose, place, body).ok_or(SealError::Damaged)
    }
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRing").field("keys", &self.keys.iter().map(|k| k.id).collect::<Vec<_>>()).finish()
    }
}

impl RingKey {
    fn derive(stored: StoredKey) -> Self {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"stepgate ring 1").extract(stored.master.expose());
        let uses = Purpose::ALL.into_iter().map(|purpose| Derived::from(&prk, purpose)).collect();
        Self {
            id: stored.id,
            created: stored.created,
            uses,
            session_header: super::hs256::header(stored.id),
            assertion: stored.assertion,
        }
    }

    pub(super) fn mac(&self, purpose: Purpose, data: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(hmac::sign(&self.derived(purpose).mac, data).as_ref());
        out
    }

    pub(super) fn verify_mac(&self, purpose: Purpose, data: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.derived(purpose).mac, data, tag).is_ok()
    }

    /// format byte, key id, nonce, ciphertext and tag.
    #[expect(clippy::expect_used, reason = "fails only beyond 2^36 bytes, which no caller can have in memory")]
    fn seal(&self, purpose: Purpose, place: &[u8], plain: &[u8], nonce: [u8; NONCE_LEN]) -> Vec<u8> {
        let mut body = plain.to_vec();
        self.derived(purpose)
            .aead
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut body)
            .expect("AES-GCM-SIV seals a value that fits in memory");
        [&[FORMAT], self.id.as_bytes().as_slice(), &nonce, &body].concat()
    }

    fn open(&self, purpose: Purpose, place: &[u8], body: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = body.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = sealed.to_vec();
        let len = self.derived(purpose).aead.open_in_place(nonce, Aad::from(place), &mut plain).ok()?.len();
        plain.truncate(len);
        Some(plain)
    }

    #[expect(clippy::indexing_slicing, reason = "`uses` holds one entry for each of Purpose::ALL, in its order")]
    fn derived(&self, purpose: Purpose) -> &Derived {
        &self.uses[purpose as usize]
    }
}

impl Derived {
    #[expect(clippy::expect_used, reason = "HKDF-Expand fails only for outputs over 8160 bytes; these are 32")]
    fn from(prk: &hkdf::Prk, purpose: Purpose) -> Self {
        let label = purpose.label().as_bytes();
        // No label holds a slash, so no two of these are equal when concatenated.
        let mac_info: [&[u8]; 2] = [label, b"/mac"];
        let aead_info: [&[u8]; 2] = [label, b"/aead"];
        let mac = prk.expand(&mac_info, hmac::HMAC_SHA256).expect("32 bytes can be derived").into();
        let aead: UnboundKey = prk.expand(&aead_info, &AES_256_GCM_SIV).expect("32 bytes can be derived").into();
        Self { mac, aead: LessSafeKey::new(aead) }
    }
}

impl Place<'_> {
    /// Each part behind its length: `("ab", "c")` and `("a", "bc")` are two places.
    fn associated_data(&self) -> Vec<u8> {
        let mut out = b"place".to_vec();
        for part in [self.table.as_bytes(), self.row, self.column.as_bytes()] {
            out.extend_from_slice(&(part.len() as u64).to_be_bytes());
            out.extend_from_slice(part);
        }
        out
    }
}

const FORMAT: u8 = 1;
const TOKEN_PLACE: &[u8] = b"token";

/// No owner's place is [`TOKEN_PLACE`], not even that of an empty one.
fn owned_place(owner: &[u8]) -> Vec<u8> {
    [b"token of ", owner].concat()
}

fn split_record(sealed: &[u8]) -> Option<(&[u8], &[u8])> {
    let (format, rest) = sealed.split_first()?;
    if *format != FORMAT {
        return None;
    }
    rest.split_at_checked(KEY_ID_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::SeededRng;

    fn ring(seed: u64) -> KeyRing {
        KeyRing::ephemeral(&*SeededRng::new(seed))
    }

    #[test]
    fn s_key_1_a_sealed_value_opens_in_its_own_place_only() {
        let ring = ring(1);
        let place = Place::new("credentials", b"row-of-ann", "secret");
        let sealed = ring.seal(&place, b"seed of ann", &SystemRng);
        assert_eq!(ring.open(&place, &sealed).expect("opens").expose(), b"seed of ann");
        for other in [
            Place::new("credentials", b"row-of-bob", "secret"),
            Place::new("backup_codes", b"row-of-ann", "secret"),
            Place::new("credentials", b"row-of-ann", "label"),
            Place::new("credentialsr", b"ow-of-ann", "secret"),
        ] {
            assert_eq!(ring.open(&other, &sealed).map(|_| ()), Err(SealError::Damaged), "{other:?}");
        }
    }

    #[test]
    fn s_key_1_every_altered_byte_is_noticed() {
        let ring = ring(1);
        let place = Place::new("t", b"r", "c");
        let sealed = ring.seal(&place, b"x", &SystemRng);
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(ring.open(&place, &altered).is_err(), "byte {at}");
        }
        for len in 0..sealed.len() {
            assert!(ring.open(&place, &sealed[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn s_key_3_a_value_of_another_ring_names_the_missing_key() {
        let place = Place::new("t", b"r", "c");
        let sealed = ring(1).seal(&place, b"x", &SystemRng);
        let id = ring(1).key_infos()[0].id.clone();
        assert_eq!(ring(2).open(&place, &sealed).map(|_| ()), Err(SealError::UnknownKey(id)));
    }

    #[test]
    fn s_key_2_purposes_do_not_mix() {
        let ring = ring(1);
        let tag = ring.mac(Purpose::FormToken, b"data");
        assert!(ring.verify_mac(Purpose::FormToken, b"data", &tag));
        assert!(!ring.verify_mac(Purpose::Cookie, b"data", &tag));
        let token = ring.seal_token(Purpose::ReturnTo, b"data");
        assert_eq!(ring.open_token(Purpose::ReturnTo, &token).as_deref(), Ok(&b"data"[..]));
        assert_eq!(ring.open_token(Purpose::Handover, &token), Err(SealError::Damaged));
    }

    #[test]
    fn s_key_2_what_an_older_key_made_is_still_read_and_new_things_use_the_current_one() {
        let stored = |seed| StoredKey::generate(Timestamp::from_secs(1), &*SeededRng::new(seed));
        let before = KeyRing::build(vec![stored(1)]);
        let after = KeyRing::build(vec![stored(2), stored(1)]);
        let place = Place::new("t", b"r", "c");
        assert!(after.open(&place, &before.seal(&place, b"x", &SystemRng)).is_ok());
        assert!(after.verify_mac(Purpose::Device, b"d", &before.mac(Purpose::Device, b"d")));
        assert!(before.open(&place, &after.seal(&place, b"x", &SystemRng)).is_err());
    }

    #[test]
    fn every_purpose_has_its_own_slot_and_label() {
        for (slot, purpose) in Purpose::ALL.into_iter().enumerate() {
            assert_eq!(purpose as usize, slot);
        }
        let mut labels: Vec<_> = Purpose::ALL.iter().map(|p| p.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Purpose::ALL.len());
    }

    #[test]
    fn s_key_3_nothing_of_a_ring_is_shown_by_debug() {
        let ring = ring(1);
        assert_eq!(format!("{ring:?}"), format!("KeyRing {{ keys: [{}] }}", ring.key_infos()[0].id));
    }
}
