//! The one integration-test binary: `mod` lines only.

mod architecture;
mod harness;
mod main_path;
mod operate;
mod pages;
mod proxy;
mod server;
mod session;
mod store;
