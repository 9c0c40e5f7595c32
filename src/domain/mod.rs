//! L1: plain data and rules. No I/O, no async, no hyper; time is passed in, randomness never needed.

pub mod audit;
pub mod authn;
pub mod factor;
pub mod host;
pub mod level;
pub mod method;
pub mod notice;
pub mod path;
pub mod phone;
pub mod policy;
pub mod portal;
pub mod posture;
pub mod route;
pub mod upstream;
pub mod user;
