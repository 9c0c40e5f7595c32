//! The cast of the stories: a gate in this process over real sockets, an app that records what it
//! got, people with browsers, and a clock that moves when told.

pub mod app;
mod browser;
pub mod gateway;
mod http;
pub mod program;
pub mod smtp;
pub mod soft_key;
pub mod tls;
mod world;

pub use browser::{Browser, Page, Person};
pub use http::{exchange, read_reply, send};
pub use world::{World, code_at, seed_of};
