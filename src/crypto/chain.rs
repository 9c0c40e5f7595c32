//! What makes the audit trail tamper-evident? Each row carries a keyed hash over the row before it.

use aws_lc_rs::hmac;

use super::ct_eq;

/// The key of the trail's hash chain. A writer of the database does not hold it, so a row that was
/// edited, removed, swapped or added by hand no longer fits its neighbours (S-LOG-4).
#[derive(Clone)]
pub struct ChainKey(hmac::Key);

impl ChainKey {
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    /// What the first row links to. Keyed too, so that a trail made under another key is seen at
    /// its first row.
    #[must_use]
    pub fn genesis(&self) -> [u8; 32] {
        self.tag(&[b"stepgate audit genesis v1"])
    }

    /// The hash of row `seq`, whose payload stands in the trail exactly as given here.
    #[must_use]
    pub fn link(&self, prev: &[u8; 32], seq: i64, payload: &str) -> [u8; 32] {
        self.tag(&[b"row", prev, &seq.to_be_bytes(), payload.as_bytes()])
    }

    /// The MAC of the head record: how many rows there are, and the hash of the last. Without it
    /// a trail that was cut off at its end would verify.
    #[must_use]
    pub fn head(&self, seq: i64, hash: &[u8; 32]) -> [u8; 32] {
        self.tag(&[b"head", hash, &seq.to_be_bytes()])
    }

    /// Whether `hash` is the hash of this row; in constant time.
    #[must_use]
    pub fn is_link(&self, prev: &[u8; 32], seq: i64, payload: &str, hash: &[u8]) -> bool {
        ct_eq(&self.link(prev, seq, payload), hash)
    }

    /// Whether `mac` is the head's; in constant time.
    #[must_use]
    pub fn is_head(&self, seq: i64, hash: &[u8; 32], mac: &[u8]) -> bool {
        ct_eq(&self.head(seq, hash), mac)
    }

    /// The parts but the last have fixed lengths per first part, so that no two inputs run together.
    fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(part);
        }
        let mut out = [0_u8; 32];
        for (to, from) in out.iter_mut().zip(context.sign().as_ref()) {
            *to = *from;
        }
        out
    }
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
