//! The one integration-test binary: `mod` lines only.

mod architecture;
mod harness;
mod main_path;
mod pages;
mod proxy;
mod session;
mod store;
