//! Stepgate, an authenticating reverse proxy: every request is intercepted, people sign in with a
//! password and then a second factor, rules per path demand a step-up where it matters, and the
//! app behind receives trusted identity headers.
//!
//! The rooms, lowest first; a room imports only from rooms above it in this list (ARCHITECTURE.md;
//! `tests/it/architecture.rs` holds it).

pub mod app;
pub mod audit;
pub mod auth;
pub mod base;
pub mod cli;
pub mod config;
pub mod crypto;
pub mod domain;
pub mod notify;
pub mod pages;
pub mod portal;
pub mod proxy;
pub mod server;
pub mod session;
pub mod store;
pub mod telemetry;
