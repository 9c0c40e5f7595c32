//! What makes the audit trail tamper-evident? Each row carries a keyed hash over the row before it.

use aws_lc_rs::hmac;

use super::ct_eq;
use super::keyring::{KeyRing, Purpose};

/// The key of the trail's hash chain. A writer of the database does not hold it, so a row that was
/// edited, removed, swapped or added by hand no longer fits its neighbours (S-LOG-4).
#[derive(Clone)]
pub struct ChainKey {
    current: hmac::Key,
    /// Of earlier ring keys: rows that were written under them still verify.
    older: Vec<hmac::Key>,
}

impl ChainKey {
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self { current: hmac::Key::new(hmac::HMAC_SHA256, &key), older: Vec::new() }
    }

    /// The chain's keys of a ring: the current one signs, each one verifies.
    #[must_use]
    pub fn from_ring(ring: &KeyRing) -> Self {
        let mut keys =
            ring.keys().map(|key| hmac::Key::new(hmac::HMAC_SHA256, &key.mac(Purpose::AuditChain, b"chain")));
        let current = keys.next();
        let older = keys.collect();
        match current {
            Some(current) => Self { current, older },
            None => Self::new(ring.mac(Purpose::AuditChain, b"chain")),
        }
    }

    /// What the first row links to. Keyed too, so that a trail made under another key is seen at
    /// its first row.
    #[must_use]
    pub fn genesis(&self) -> [u8; 32] {
        tag(&self.current, GENESIS)
    }

    /// The hash of row `seq`, whose payload stands in the trail exactly as given here.
    #[must_use]
    pub fn link(&self, prev: &[u8; 32], seq: i64, payload: &str) -> [u8; 32] {
        tag(&self.current, &row(prev, &seq.to_be_bytes(), payload))
    }

    /// The MAC of the head record: how many rows there are, and the hash of the last. Without it
    /// a trail that was cut off at its end would verify.
    #[must_use]
    pub fn head(&self, seq: i64, hash: &[u8; 32]) -> [u8; 32] {
        tag(&self.current, &head(hash, &seq.to_be_bytes()))
    }

    /// Whether `hash` is what the first row links to.
    #[must_use]
    pub fn is_genesis(&self, hash: &[u8]) -> bool {
        self.made(GENESIS, hash)
    }

    /// Whether `hash` is the hash of this row; in constant time.
    #[must_use]
    pub fn is_link(&self, prev: &[u8], seq: i64, payload: &str, hash: &[u8]) -> bool {
        self.made(&row(prev, &seq.to_be_bytes(), payload), hash)
    }

    /// Whether `mac` is the head's; in constant time.
    #[must_use]
    pub fn is_head(&self, seq: i64, hash: &[u8], mac: &[u8]) -> bool {
        self.made(&head(hash, &seq.to_be_bytes()), mac)
    }

    fn made(&self, parts: &[&[u8]], by: &[u8]) -> bool {
        std::iter::once(&self.current).chain(&self.older).any(|key| ct_eq(&tag(key, parts), by))
    }
}

// What is tagged begins with a word for what it is, and only its last part has an open length, so
// that no two inputs run together. (A `prev` of a wrong length comes from a row that was edited;
// it is compared with the row before, too.)
const GENESIS: &[&[u8]] = &[b"stepgate audit genesis 1"];

fn row<'a>(prev: &'a [u8], seq: &'a [u8; 8], payload: &'a str) -> [&'a [u8]; 4] {
    [b"row", prev, seq, payload.as_bytes()]
}

fn head<'a>(hash: &'a [u8], seq: &'a [u8; 8]) -> [&'a [u8]; 3] {
    [b"head", seq, hash]
}

fn tag(key: &hmac::Key, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    let mut out = [0_u8; 32];
    out.copy_from_slice(context.sign().as_ref());
    out
}

impl std::fmt::Debug for ChainKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChainKey([secret])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_log_4_a_row_fits_only_its_place_its_text_and_its_key() {
        let key = ChainKey::new([7; 32]);
        let genesis = key.genesis();
        let hash = key.link(&genesis, 1, "{\"a\":1}");
        assert!(key.is_link(&genesis, 1, "{\"a\":1}", &hash));
        assert!(!key.is_link(&genesis, 2, "{\"a\":1}", &hash), "another place");
        assert!(!key.is_link(&genesis, 1, "{\"a\":2}", &hash), "another text");
        assert!(!key.is_link(&hash, 1, "{\"a\":1}", &hash), "another row before it");
        assert!(!ChainKey::new([8; 32]).is_link(&genesis, 1, "{\"a\":1}", &hash), "another key");
        assert!(!key.is_link(&genesis, 1, "{\"a\":1}", &hash[..31]), "a cut hash");
        let mac = key.head(1, &hash);
        assert!(key.is_head(1, &hash, &mac));
        assert!(!key.is_head(0, &hash, &mac) && !key.is_head(1, &genesis, &mac));
    }
}
