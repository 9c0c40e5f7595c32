//! L6: from a socket to a judged request: listeners, TLS, connections, dispatch.

pub mod client_addr;
pub mod conn;
pub mod limits;
pub mod listen;
pub mod target;
pub mod tls;
