//! Is this JWT one that we signed (HS256) to name a session? Checked by hand on the hot path.
//!
//! The header is compared as bytes with the few that we ever write, so `alg: none`, `RS256`,
//! `jku`, `jwk`, `x5u` or another `typ` are never looked at, let alone obeyed (RFC 8725 sections
//! 3.1, 3.10, 3.11). Then comes the HMAC; only what passed is decoded. jsonwebtoken does the same
//! job in three times the time (PERFORMANCE.md section 3).

use data_encoding::BASE64URL_NOPAD;

use super::keyring::{KeyId, KeyRing, Purpose};

/// Why a token is not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token does not have the form of ours")]
    Malformed,
    #[error("the token carries no signature of ours")]
    Forged,
}

const TAG_LEN: usize = 32;
const TAG_TEXT: usize = 43;

/// The encoded header under one key, with the dot behind it.
pub(super) fn header(key: KeyId) -> String {
    let json = format!(r#"{{"alg":"HS256","typ":"stepgate-session+jwt","kid":"{key}"}}"#);
    BASE64URL_NOPAD.encode(json.as_bytes()) + "."
}

impl KeyRing {
    /// A compact JWS over `payload` with the session header, under the current key.
    #[must_use]
    pub fn sign_session_jwt(&self, payload: &[u8]) -> String {
        let key = self.current();
        let mut token = key.session_header.clone();
        BASE64URL_NOPAD.encode_append(payload, &mut token);
        let tag = key.mac(Purpose::Cookie, token.as_bytes());
        token.push('.');
        BASE64URL_NOPAD.encode_append(&tag, &mut token);
        token
    }

    /// The payload of a token that [`KeyRing::sign_session_jwt`] made. What it says is for the
    /// caller to check.
    pub fn open_session_jwt(&self, token: &[u8]) -> Result<Vec<u8>, TokenError> {
        let dot = token.len().checked_sub(TAG_TEXT + 1).ok_or(TokenError::Malformed)?;
        let (signed, tag) = token.split_at(dot);
        let tag = tag.strip_prefix(b".").ok_or(TokenError::Malformed)?;
        // Decoded in the strict form only: a tag has one spelling.
        let mut decoded = [0_u8; TAG_LEN];
        match BASE64URL_NOPAD.decode_mut(tag, &mut decoded) {
            Ok(TAG_LEN) => {}
            Ok(_) | Err(_) => return Err(TokenError::Malformed),
        }
        let header = |key: &&super::keyring::RingKey| signed.starts_with(key.session_header.as_bytes());
        let key = self.keys().find(header).ok_or(TokenError::Forged)?;
        if !key.verify_mac(Purpose::Cookie, signed, &decoded) {
            return Err(TokenError::Forged);
        }
        let payload = signed.get(key.session_header.len()..).ok_or(TokenError::Malformed)?;
        BASE64URL_NOPAD.decode(payload).map_err(|_| TokenError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::SeededRng;

    fn ring(seed: u64) -> KeyRing {
        KeyRing::ephemeral(&*SeededRng::new(seed))
    }

    #[test]
    fn what_was_signed_comes_back() {
        let token = ring(1).sign_session_jwt(b"{\"sid\":\"x\"}");
        assert_eq!(token.split('.').count(), 3);
        assert_eq!(ring(1).open_session_jwt(token.as_bytes()).as_deref(), Ok(&b"{\"sid\":\"x\"}"[..]));
        assert_eq!(ring(2).open_session_jwt(token.as_bytes()), Err(TokenError::Forged));
    }

    #[test]
    fn a_stock_library_reads_it_with_the_same_secret() {
        // The form is RFC 7519's: nothing private in it but the key.
        let token = ring(1).sign_session_jwt(b"{\"sid\":\"x\",\"aud\":\"a\",\"exp\":1}");
        let header = jsonwebtoken::decode_header(&token).unwrap();
        assert_eq!(header.alg, jsonwebtoken::Algorithm::HS256);
        assert_eq!(header.typ.as_deref(), Some("stepgate-session+jwt"));
        assert_eq!(header.kid.as_deref(), Some(ring(1).key_infos()[0].id.as_str()));
    }

    #[test]
    fn every_other_byte_is_refused() {
        let token = ring(1).sign_session_jwt(b"{\"sid\":\"x\"}");
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert!(ring(1).open_session_jwt(&bytes).is_err(), "byte {at}");
        }
        for len in 0..token.len() {
            assert!(ring(1).open_session_jwt(&token.as_bytes()[..len]).is_err(), "cut at {len}");
        }
        for tail in ["=", ".", "A", "\n"] {
            assert!(ring(1).open_session_jwt(format!("{token}{tail}").as_bytes()).is_err(), "{tail:?}");
        }
    }
}
