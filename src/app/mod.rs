//! L7: puts the parts together, starts them, reloads them, ends them.

mod build;
mod lifecycle;
mod rehearse;
mod reload;
mod state;
mod tasks;

pub use build::{Core, Options, StartError, is_out_of_reach};
pub use lifecycle::{Gate, start};
pub use rehearse::{Rehearsal, rehearse};
pub use state::{IfAbsent, Opened, could_serve, lock_state, open_state};
