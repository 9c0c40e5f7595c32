//! How do people hear of us when they have no page of ours before them? By mail, over the relay of the
//! configuration.

pub mod smtp;

pub use smtp::{Mail, Receipt, Relay, RelayError};
