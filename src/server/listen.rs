//! Opens the sockets: one per data thread and address (`SO_REUSEPORT`), or the one that systemd
//! passed, shared.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::config::snapshot::{Listener, Role};

/// PERFORMANCE 3.15: short accept queues drop connections in bursts.
const BACKLOG: i32 = 4096;
/// A connection on which nothing came for so long is asked whether its client is still there, and then so often.
const CLIENT_SILENT: Duration = Duration::from_secs(60);
const CLIENT_ASKED: Duration = Duration::from_secs(20);

/// An open listener.
#[derive(Debug)]
pub struct Bound {
    pub listener: Listener,
    /// The address actually bound (port 0 in the file means "any").
    pub addr: SocketAddr,
    /// One per thread that will accept on it.
    pub sockets: Vec<TcpListener>,
    /// systemd passed it, and holds it too.
    pub inherited: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr}: {cause}{hint}")]
pub struct BindError {
    addr: SocketAddr,
    hint: &'static str,
    cause: io::Error,
}

/// Sockets that systemd passed (`LISTEN_FDS`), each used by the listener with its address.
#[derive(Debug, Default)]
pub struct Inherited(Vec<TcpListener>);

impl Inherited {
    #[must_use]
    pub fn from_env() -> Self {
        let mut fds = listenfd::ListenFd::from_env();
        let taken = (0..fds.len()).filter_map(|at| fds.take_tcp_listener(at).ok().flatten()).collect();
        Self(taken)
    }

    /// The addresses of those that no listener took. Whoever connects there would wait for ever.
    pub fn left(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().filter_map(|socket| socket.local_addr().ok())
    }

    fn take(&mut self, addr: SocketAddr) -> Option<TcpListener> {
        let at = self.0.iter().position(|s| s.local_addr().is_ok_and(|a| a == addr))?;
        Some(self.0.swap_remove(at))
    }
}

/// Opens every listener of the file. Proxy listeners get `threads` sockets, the others one.
pub fn bind(listeners: &[Listener], threads: usize, inherited: &mut Inherited) -> Result<Vec<Bound>, BindError> {
    let bound: Vec<Bound> =
        listeners.iter().map(|listener| bind_one(listener, threads, inherited)).collect::<Result<_, _>>()?;
    for socket in bound.iter().flat_map(|bound| &bound.sockets) {
        ask_after_clients(socket);
    }
    Ok(bound)
}

/// A client whose machine is switched off says nothing, and an answer that waits for its app (an event stream) would
/// wait for it for ever. Accepted sockets have it from their listener, at no system call of their own.
fn ask_after_clients(socket: &TcpListener) {
    let every = TcpKeepalive::new().with_time(CLIENT_SILENT).with_interval(CLIENT_ASKED).with_retries(3);
    // Where the system knows no such thing its own patience holds.
    let _ = SockRef::from(socket).set_tcp_keepalive(&every);
}

fn bind_one(listener: &Listener, threads: usize, inherited: &mut Inherited) -> Result<Bound, BindError> {
    let fail = |cause: io::Error| {
        let hint = match cause.kind() {
            io::ErrorKind::AddrInUse => " (another program listens there: `ss -ltnp` names it)",
            io::ErrorKind::PermissionDenied => {
                " (ports below 1024 need CAP_NET_BIND_SERVICE: the packaged systemd unit gives it)"
            }
            io::ErrorKind::AddrNotAvailable => " (no interface of this machine has that address)",
            _ => "",
        };
        BindError { addr: listener.addr, hint, cause }
    };
    let count = if listener.role == Role::Proxy { threads.max(1) } else { 1 };
    let first = match inherited.take(listener.addr) {
        Some(socket) => {
            socket.set_nonblocking(true).map_err(fail)?;
            let addr = socket.local_addr().map_err(fail)?;
            // One queue, from which whichever thread is free takes: sockets of our own beside it would get
            // their share of the connections, and lose what waits in them when this process ends.
            let mut sockets = vec![socket];
            while sockets.len() < count {
                let Some(first) = sockets.first() else { break };
                sockets.push(first.try_clone().map_err(fail)?);
            }
            return Ok(Bound { listener: listener.clone(), addr, sockets, inherited: true });
        }
        // With SO_REUSEPORT a second `serve` of the same user could open the same address and take half of its
        // connections. It must fail loudly, so the address is tried without it first.
        None => {
            if listener.addr.port() != 0 {
                drop(open(listener.addr, false).map_err(fail)?);
            }
            open(listener.addr, true).map_err(fail)?
        }
    };
    let addr = first.local_addr().map_err(fail)?;
    let mut sockets = vec![first];
    while sockets.len() < count {
        sockets.push(open(addr, true).map_err(fail)?);
    }
    Ok(Bound { listener: listener.clone(), addr, sockets, inherited: false })
}

fn open(addr: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        // `[::]:443` serves IPv4 too, whatever the machine's default is.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(addr: SocketAddr) -> Listener {
        Listener { addr, role: Role::Proxy, tls: None, from: None, proxy_protocol: false }
    }

    #[test]
    fn port_zero_gives_every_thread_the_same_port() {
        let bound = bind(&[on("127.0.0.1:0".parse().unwrap())], 3, &mut Inherited::default()).unwrap();
        let ports: Vec<u16> = bound[0].sockets.iter().map(|s| s.local_addr().unwrap().port()).collect();
        assert_eq!(ports.len(), 3);
        assert!(ports.iter().all(|p| *p == bound[0].addr.port() && *p != 0));
    }

    #[test]
    fn a_second_gate_on_the_same_address_is_refused_with_a_hint() {
        let first = bind(&[on("127.0.0.1:0".parse().unwrap())], 2, &mut Inherited::default()).unwrap();
        let error = bind(&[on(first[0].addr)], 2, &mut Inherited::default()).unwrap_err();
        assert!(error.to_string().contains("another program listens there"), "{error}");
    }

    #[test]
    fn s_lim_2_a_client_that_was_switched_off_is_asked_after() {
        let bound = bind(&[on("127.0.0.1:0".parse().unwrap())], 1, &mut Inherited::default()).unwrap();
        let socket = &bound[0].sockets[0];
        socket.set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(bound[0].addr).unwrap();
        let accepted = socket.accept().unwrap().0;
        assert!(SockRef::from(&accepted).keepalive().unwrap());
        assert_eq!(SockRef::from(&accepted).tcp_keepalive_time().unwrap(), CLIENT_SILENT);
    }
}
