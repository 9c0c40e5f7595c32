//! What travels on the wire, byte by byte: the corpora of attacks on framing, run through a whole gate
//! into an app that keeps every byte.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod corpus;
mod elsewhere;
mod floods;
mod frames;
mod gate;
pub mod h2;
mod hop;
mod recorder;
mod requests;
mod responses;
