//! L0: small things everyone may use: time, randomness, identifiers, secrets, addresses,
//! owners of files, characters that nobody sees, the version of the program.

pub mod budget;
pub mod clock;
pub mod ids;
pub mod net;
pub mod owner;
pub mod rng;
pub mod secret;
pub mod unseen;
pub mod version;
