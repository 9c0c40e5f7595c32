//! The one integration-test binary: `mod` lines only.

mod architecture;
mod config;
mod enroll;
mod harness;
mod login;
mod main_path;
mod operate;
mod pages;
mod paths;
mod policy;
mod proxy;
mod server;
mod session;
mod step_up;
mod store;
