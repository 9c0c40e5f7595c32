//! Keys and what is done with them: the ring, sealing, MACs, signed tokens, password hashing.

pub mod assertion;
pub mod chain;
pub mod hs256;
pub mod imported;
pub mod keyring;
pub mod new_password;
pub mod password;
mod ringfile;

pub use assertion::{AssertionClaims, AssertionSigner};
pub use imported::{NotTaken, Scheme};
pub use keyring::{KeyInfo, KeyRing, Place, Purpose, SealError};
pub use new_password::{NewPassword, PasswordRule};
pub use password::{PasswordPool, PoolError, is_own};
pub use ringfile::KeyRingError;

/// Whether two byte strings are equal, in a time that depends on their lengths only.
#[must_use]
pub fn ct_eq(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

/// SHA-256, for what the store may hold in place of a secret of 128 random bits or more. Never for
/// passwords or codes: those can be guessed, and a fast hash helps the guesser.
#[must_use]
pub fn sha256(data: &[u8]) -> [u8; 32] {
    let mut out = [0_u8; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data).as_ref());
    out
}
