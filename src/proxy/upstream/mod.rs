//! Connections to apps: opening them, keeping them, verifying who answers.

pub mod connect;
pub mod pool;
pub mod tls;
