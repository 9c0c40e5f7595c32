//! L6: from a socket to a judged request: listeners, TLS, connections, dispatch.

pub mod balance;
pub mod client_addr;
pub mod conn;
pub mod dispatch;
mod in_flight;
mod last_call;
pub mod limits;
mod linger;
pub mod listen;
pub mod ops;
pub mod proxy_protocol;
mod redirect;
pub mod refuse;
pub mod room;
mod stream;
pub mod target;
pub mod thread;
pub mod tls;
mod together;
pub mod unexpected;
pub mod wiring;
