//! The hot path over real sockets: what reaches the app, what comes back, what ends.

mod answers;
mod carried;
mod identity;
mod judged;
mod live;
mod world;
