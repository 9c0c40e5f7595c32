//! L2: raw YAML in, a typed [`Snapshot`] out; every fault at once, with file:line:column and a hint.
//!
//! A file becomes a tree in which everything keeps its place (`yaml`), the tree is held against one
//! description of the language (`shape`, `keys`), and what passes is put together (`build`).

mod build;
mod changes;
mod due;
pub mod expect;
pub mod fault;
mod keys;
mod load;
mod lockout;
mod misread;
pub mod prove;
mod reference;
mod shape;
mod slips;
pub mod snapshot;
mod values;
pub mod yaml;

pub use changes::{Change, What, changes, level_said};
pub use due::due;
pub use expect::{fail_by_the_clock, run_tests, untried};
pub use fault::{Fault, Warning, did_you_mean};
pub use load::{
    Examined, Fingerprint, Origin, Purpose, USUAL, examine, fingerprint, from_text, load, load_for, load_from,
    load_state,
};
pub use lockout::{Account, lockouts};
pub use reference::markdown;
pub use snapshot::Snapshot;
pub use values::{duration, gateway_url, upstream_url};

/// The JSON Schemas of the main file and of a file with one app, for editors.
#[must_use]
pub fn schema(kind: SchemaKind) -> serde_json::Value {
    match kind {
        SchemaKind::Main => shape::json_schema("Stepgate: the main file", &keys::MAIN),
        SchemaKind::App => shape::json_schema("Stepgate: a file with one app", &keys::APP),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaKind {
    Main,
    App,
}
