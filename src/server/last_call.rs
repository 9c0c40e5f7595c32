//! A listener's last call: nobody who is connected is left standing when the gate ends.
//!
//! The kernel finishes handshakes on its own. Closing a socket resets whoever waits in its queue, with the
//! request that they may have sent already; no browser tries that again. So from the drain on a socket of ours
//! takes no new handshake (a dropped SYN is sent again a second later, and meets the next process, or a refusal),
//! and is closed when its queue has been empty for a while. Rejected: `shutdown(2)` on the listener, which resets
//! the queue as `close(2)` does; `net.ipv4.tcp_migrate_req`, which needs a second process and root.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// What the last segment of a handshake may take to us after a drain began.
const HANDSHAKE: Duration = Duration::from_millis(250);

/// Lets no new handshake begin on a socket. Not for one that systemd holds too: the filter would stay on it,
/// and its queue is the next process's.
pub(super) fn close_the_door(socket: &TcpListener) {
    #[cfg(target_os = "linux")]
    if let Err(error) = socket2::SockRef::from(socket).attach_filter(&no_new_handshake()) {
        tracing::debug!(error = %error, "new handshakes go on until the listener closes");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = socket;
}

/// A classic BPF program over a TCP segment: a SYN without an ACK is dropped, everything else passes.
#[cfg(target_os = "linux")]
fn no_new_handshake() -> [socket2::SockFilter; 5] {
    const FLAGS: u32 = 13;
    const SYN_AND_ACK: u32 = 0x12;
    const SYN: u32 = 0x02;
    // linux/bpf_common.h: BPF_LD|BPF_B|BPF_ABS, BPF_ALU|BPF_AND|BPF_K, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
    let op = socket2::SockFilter::new;
    [
        op(0x30, 0, 0, FLAGS),
        op(0x54, 0, 0, SYN_AND_ACK),
        op(0x15, 0, 1, SYN),
        op(0x06, 0, 0, 0),
        op(0x06, 0, 0, u32::MAX),
    ]
}

/// The next of those who were connected before the door closed; `None` when there is nobody left.
pub(super) async fn next(listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    let end = Instant::now() + HANDSHAKE;
    tokio::time::timeout_at(end, listener.accept()).await.ok()?.ok()
}
