//! What do the fuzz targets share? Input cut into pieces, a gate in this process, and readings of our
//! own to hold it against, written without any of its code.

pub mod app;
pub mod gate;
pub mod input;
pub mod naive;
pub mod wire;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use tokio::net::TcpStream;
use tokio::runtime::{Handle, LocalRuntime};

/// The first bytes of an input choose, the rest is the text.
pub fn split<const N: usize>(data: &[u8]) -> Option<([u8; N], &[u8])> {
    data.split_first_chunk().map(|(head, rest)| (*head, rest))
}

fn with_runtime<R>(f: impl FnOnce(&LocalRuntime) -> R) -> R {
    thread_local! {
        static RUNTIME: LocalRuntime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(Default::default())
            .expect("a runtime");
    }
    RUNTIME.with(f)
}

/// Runs on one thread, as a data thread of the gate runs; the runtime is made once.
pub fn on_a_data_thread<F: Future>(future: F) -> F::Output {
    with_runtime(|runtime| runtime.block_on(future))
}

/// For what the gate spawns: it runs on the data thread too, so that one input does one thing.
pub fn data_thread() -> Handle {
    with_runtime(|runtime| runtime.handle().clone())
}

/// The two ends of a connection. A pair of local sockets takes no port, so that a million
/// connections leave nothing behind; to the gate it is a stream like any other.
pub fn connection() -> (TcpStream, tokio::net::UnixStream) {
    let (gate, client) = UnixStream::pair().expect("a pair of sockets");
    gate.set_nonblocking(true).expect("a socket");
    client.set_nonblocking(true).expect("a socket");
    let gate = std::net::TcpStream::from(OwnedFd::from(gate));
    (TcpStream::from_std(gate).expect("a runtime"), tokio::net::UnixStream::from_std(client).expect("a runtime"))
}
