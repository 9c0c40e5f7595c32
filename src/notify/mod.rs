//! How do people hear of us when they have no page of ours before them? By mail, over the relay of the
//! configuration, or by a text message, over its gateway: written in the transaction that it tells of, sent by a task
//! in the background.

mod letters;
mod postman;
pub mod sms;
pub mod smtp;

pub use letters::{Destination, LINK_LIFE, Letters};
pub use postman::Postman;
pub use smtp::{Mail, Receipt, Relay, RelayError};
