//! L7: puts the parts together, starts them, reloads them, ends them.

mod build;
mod lifecycle;
mod reload;
mod tasks;

pub use build::{Core, Opened, Options, StartError, open_state};
pub use lifecycle::{Gate, start};
