//! L0: small things everyone may use: time, randomness, identifiers, secrets, addresses.

pub mod clock;
pub mod ids;
pub mod net;
pub mod rng;
pub mod secret;
