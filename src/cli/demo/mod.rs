//! What can I try in a minute, without a file of my own?

pub mod legacy_app;
