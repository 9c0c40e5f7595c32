//! Connections to apps: which address, opening them, keeping them, verifying who answers.

pub mod answer;
mod check;
pub mod connect;
pub mod dial;
pub mod h1;
pub mod health;
mod load;
pub mod pin;
pub mod places;
pub mod pool;
pub mod tls;
