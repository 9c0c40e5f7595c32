//! L7: puts the parts together, starts them, reloads them, ends them.

mod applied;
mod apply;
mod build;
mod control;
mod lifecycle;
mod posture;
mod rehearse;
mod reload;
mod state;
mod tasks;

pub use applied::{Candidate, Event, Kept, MOST_BYTES, Record, Source, name as source_name};
pub use apply::{Applied, Findings, Refused, roll_back_at_rest};
pub use build::{Core, Options, StartError, is_out_of_reach};
pub use control::{Answer, Ask, ControlError, ask};
pub use lifecycle::{Gate, start};
pub use rehearse::{Rehearsal, rehearse};
pub use state::{IfAbsent, Opened, could_serve, lock_state, open_state};
