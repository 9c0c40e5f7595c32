//! The one integration-test binary: `mod` lines only.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod apply;
mod architecture;
mod cli;
mod config;
mod diff;
mod doctor;
mod enroll;
mod harness;
mod hotp;
mod import;
mod kept_form;
mod keys;
mod lints;
mod lockout;
mod login;
mod mail;
mod mail_codes;
mod main_path;
mod model;
mod notices;
mod onboarding;
mod operate;
mod overload;
mod pages;
mod paths;
mod policy;
mod posture;
mod prove;
mod proxy;
mod remembered;
mod replicas;
mod server;
mod session;
mod sms;
mod step_up;
mod store;
mod tls;
mod wire;
