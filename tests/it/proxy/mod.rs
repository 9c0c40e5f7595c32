//! The hot path over real sockets: what reaches the app, what comes back, what ends.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod answered;
mod answers;
mod app_cookies;
mod carried;
mod content;
mod exchange;
mod http2;
mod identity;
mod judged;
mod live;
mod pinned;
mod tls;
mod upstreams;
mod world;
