//! L2: raw YAML in, a typed [`Snapshot`] out; every fault at once, with file:line:column and a hint.

pub mod snapshot;

pub use snapshot::Snapshot;
