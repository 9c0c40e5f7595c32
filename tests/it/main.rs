//! The one integration-test binary: `mod` lines only.

mod pages;
mod session;
mod store;
