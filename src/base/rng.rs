//! Where randomness comes from. Everything that needs some is handed an `Rng`.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::rand::SecureRandom;

/// A source of random bytes.
pub trait Rng: Send + Sync + 'static {
    /// Fills the whole of `out`.
    fn fill(&self, out: &mut [u8]);
}

pub type SharedRng = Arc<dyn Rng>;

/// `N` random bytes.
pub fn bytes<const N: usize>(rng: &dyn Rng) -> [u8; N] {
    let mut out = [0_u8; N];
    rng.fill(&mut out);
    out
}

/// The CSPRNG of aws-lc.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    #[expect(clippy::expect_used, reason = "without randomness nothing safe can follow; no peer can cause it")]
    fn fill(&self, out: &mut [u8]) {
        aws_lc_rs::rand::SystemRandom::new().fill(out).expect("the system's random source answers");
    }
}

/// Takes from another source in larger pieces: one call of a CSPRNG costs as much as a whole path
/// check. For one thread (its lock is never waited for), and for identifiers alone: what waits in the buffer is no place for keys.
pub struct Pieces {
    from: SharedRng,
    waiting: Mutex<(usize, [u8; PIECE])>,
}

const PIECE: usize = 1024;

impl Pieces {
    #[must_use]
    pub fn new(from: SharedRng) -> Self {
        Self { from, waiting: Mutex::new((PIECE, [0; PIECE])) }
    }
}

impl Rng for Pieces {
    fn fill(&self, out: &mut [u8]) {
        let (used, bytes) = &mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if *used + out.len() > PIECE {
            self.from.fill(bytes);
            *used = 0;
        }
        // Larger than a piece: straight from the source.
        let Some(ready) = bytes.get_mut(*used..*used + out.len()) else { return self.from.fill(out) };
        out.copy_from_slice(ready);
        // Nothing is handed out twice, and nothing handed out stays here.
        ready.fill(0);
        *used += out.len();
    }
}

/// The same bytes for the same seed, for tests whose output is compared. Never a real source.
#[derive(Debug)]
pub struct SeededRng(Mutex<u64>);

impl SeededRng {
    #[must_use]
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(seed)))
    }
}

impl Rng for SeededRng {
    fn fill(&self, out: &mut [u8]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for byte in out {
            // SplitMix64 (Steele, Lea, Flood 2014): good enough to be different, and repeatable.
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *byte = (z ^ (z >> 31)).to_le_bytes()[0];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_bytes_of_the_source_and_never_the_same_twice() {
        let pieces = Pieces::new(SeededRng::new(3));
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1000 {
            assert!(seen.insert(bytes::<10>(&pieces)));
        }
        let large = bytes::<{ PIECE + 1 }>(&pieces);
        assert!(large.iter().any(|b| *b != 0));
    }
}
