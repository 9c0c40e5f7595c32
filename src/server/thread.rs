//! One thread: its runtime, its accept loops, its upstream pools.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::balance::{Desk, Passed, Seat};
use super::conn::{self, Answer, ConnInfo};
use super::dispatch::{Edge, EdgeShared};
use super::limits::{Requests, Slot};
use super::room::Room;
use super::stream::Stream;
use super::unexpected::Unexpected;
use super::{last_call, limits, ops, proxy_protocol, redirect};
use crate::base::net::{ClientIp, NetworkSet};
use crate::config::snapshot::Role;
use crate::domain::host::Scheme;
use crate::proxy::ConnMemory;
use crate::telemetry::metrics::Metrics;

/// Also the coarse clock of the thread: with a timer always near, hyper's per-request deadline
/// never makes tokio write to its eventfd (PERFORMANCE 3.2).
const TICK: Duration = Duration::from_millis(200);

/// A socket and what stands behind it.
#[derive(Debug)]
pub struct Door {
    pub socket: StdListener,
    pub local: SocketAddr,
    pub role: Role,
    pub tls: Option<Arc<ServerConfig>>,
    pub from: Option<NetworkSet>,
    pub proxy_protocol: bool,
    /// systemd holds the socket too, and gives it to the next process.
    pub handed_over: bool,
}

/// What a thread is given.
pub struct Work {
    pub edge: Arc<EdgeShared>,
    pub doors: Vec<Door>,
    /// Its part in the balance among the data threads; none for a thread beside them.
    pub desk: Option<(Desk, UnboundedReceiver<Passed>)>,
    /// No new connections; open ones end after their answer.
    pub drain: CancellationToken,
    /// End now.
    pub cut: CancellationToken,
}

/// Runs until drained or cut.
pub fn run(work: Work) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    match runtime {
        Ok(runtime) => runtime.block_on(serve(work)),
        Err(error) => tracing::error!(error = %error, "a thread could not start its runtime"),
    }
}

async fn serve(work: Work) {
    let edge = Rc::new(Edge::new(Arc::clone(&work.edge)));
    let connections = TaskTracker::new();
    let house = Rc::new(House { edge: Rc::clone(&edge), connections: connections.clone(), drain: work.drain.clone() });
    let (sockets, entrances): (Vec<_>, Vec<_>) =
        work.doors.into_iter().map(Door::opened).map(|(s, e)| (s, Rc::new(e))).unzip();
    let (desk, incoming) = work.desk.unzip();
    let desk = desk.map(Rc::new);
    for (number, (socket, entrance)) in sockets.into_iter().zip(&entrances).enumerate() {
        let (house, entrance, desk) = (Rc::clone(&house), Rc::clone(entrance), desk.clone());
        // Tracked: a drain waits for the last call.
        connections.spawn_local(accept(house, socket, number, entrance, desk));
    }
    if let Some(incoming) = incoming {
        // Tracked: what was passed on before the drain began is still served.
        connections.spawn_local(take_over(house, entrances, incoming));
    }
    let ticking = Rc::clone(&edge);
    let ticker = tokio::task::spawn_local(async move {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            ticking.tick();
        }
    });
    work.drain.cancelled().await;
    edge.shared.proxy.live.close_tunnels();
    connections.close();
    tokio::select! {
        () = connections.wait() => {}
        () = work.cut.cancelled() => {}
    }
    ticker.abort();
    edge.tick();
}

/// What all connections of a thread are served with.
struct House {
    edge: Rc<Edge>,
    connections: TaskTracker,
    drain: CancellationToken,
}

/// A [`Door`] whose socket is elsewhere.
struct Entrance {
    local: SocketAddr,
    role: Role,
    acceptor: Option<TlsAcceptor>,
    from: Option<NetworkSet>,
    proxy_protocol: bool,
    handed_over: bool,
}

impl Door {
    fn opened(self) -> (StdListener, Entrance) {
        let Self { socket, local, role, tls, from, proxy_protocol, handed_over } = self;
        (socket, Entrance { local, role, acceptor: tls.map(TlsAcceptor::from), from, proxy_protocol, handed_over })
    }
}

async fn accept(house: Rc<House>, socket: StdListener, number: usize, door: Rc<Entrance>, desk: Option<Rc<Desk>>) {
    let local = door.local;
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(addr = %local, error = %error, "a listener could not be used"),
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = house.drain.cancelled() => break,
        };
        match accepted {
            Ok((tcp, peer)) => house.receive(&door, number, desk.as_deref(), tcp, peer),
            Err(error) => {
                // Out of descriptors, most likely: waiting is the only thing that helps.
                tracing::warn!(addr = %local, error = %error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    if !door.handed_over {
        last_call::close_the_door(&listener);
        while let Some((tcp, peer)) = last_call::next(&listener).await {
            house.receive(&door, number, desk.as_deref(), tcp, peer);
        }
    }
}

/// Serves what other threads pass on, to the last that came before the drain.
async fn take_over(house: Rc<House>, doors: Vec<Rc<Entrance>>, mut incoming: UnboundedReceiver<Passed>) {
    let take = |passed: Passed| {
        if let Some(door) = doors.get(passed.door) {
            house.resume(door, passed);
        }
    };
    loop {
        tokio::select! {
            passed = incoming.recv() => match passed {
                Some(passed) => take(passed),
                None => return,
            },
            () = house.drain.cancelled() => break,
        }
    }
    incoming.close();
    while let Some(passed) = incoming.recv().await {
        take(passed);
    }
}

impl House {
    /// Lets a connection in, or not, and finds its thread.
    fn receive(&self, door: &Rc<Entrance>, number: usize, desk: Option<&Desk>, tcp: TcpStream, peer: SocketAddr) {
        let shared = &self.edge.shared;
        let Some(slot) = self.admit(door, peer) else {
            shared.metrics.connections_refused.fetch_add(1, Ordering::Relaxed);
            return;
        };
        shared.metrics.connections_accepted.fetch_add(1, Ordering::Relaxed);
        let _ = tcp.set_nodelay(true);
        let Some(desk) = desk else { return self.start(door, tcp, peer, slot, None) };
        let seat = desk.seat();
        if desk.is_here(&seat) {
            self.start(door, tcp, peer, slot, Some(seat));
        } else if let Ok(tcp) = tcp.into_std()
            && let Err(back) = desk.pass(Passed { tcp, peer, slot, door: number, seat })
        {
            self.resume(door, back);
        }
    }

    fn admit(&self, door: &Entrance, peer: SocketAddr) -> Option<Slot> {
        let (shared, client) = (&self.edge.shared, ClientIp::new(peer.ip()));
        if door.from.as_ref().is_some_and(|allowed| !allowed.contains(client)) {
            return None;
        }
        let trusted = shared.snapshot.load().trusted_proxies.contains(client);
        if door.proxy_protocol && !trusted {
            // Whoever connects past the balancer could name any client (S-NET-3).
            shared.notice(Unexpected::NotTrusted, door.local, peer);
            return None;
        }
        let admitted = match door.role {
            Role::Ops => shared.connections.admit_ops(),
            Role::Proxy => shared.connections.admit_to_sign_in(client, trusted),
            Role::Redirect => shared.connections.admit(client, trusted),
        };
        admitted.ok()
    }

    /// Serves a connection in a task of its own.
    fn start(&self, door: &Rc<Entrance>, tcp: TcpStream, peer: SocketAddr, slot: Slot, seat: Option<Seat>) {
        let open = Open::new(slot, seat, self.connections.token(), Arc::clone(&self.edge.shared.metrics));
        let (edge, door, drain) = (Rc::clone(&self.edge), Rc::clone(door), self.drain.clone());
        let kept = open.slot.is_kept();
        let served = async move {
            let came = Came { tcp, open, peer, local: door.local, over_tls: false, nameless: false };
            let came = match door.proxy_protocol {
                // Boxed: few listeners read one, and every idle connection would be as large.
                true => Box::pin(told_by_balancer(&edge, came)).await,
                false => Some(came),
            };
            if let Some(came) = came {
                connection(edge, came, door.acceptor.clone(), door.role, drain).await;
            }
        };
        if kept {
            self.connections.spawn_local(async move {
                let _ = tokio::time::timeout(limits::KEPT_LIFE, served).await;
            });
        } else {
            self.connections.spawn_local(served);
        }
    }

    /// The same for one that moved between threads.
    fn resume(&self, door: &Rc<Entrance>, passed: Passed) {
        let Passed { tcp, peer, slot, seat, .. } = passed;
        match TcpStream::from_std(tcp) {
            Ok(tcp) => self.start(door, tcp, peer, slot, Some(seat)),
            Err(error) => tracing::warn!(addr = %door.local, error = %error, "a connection could not be taken over"),
        }
    }
}

/// A connection as it is counted: against the limits, in the metrics, and by a drain that waits.
struct Open {
    slot: Slot,
    _seat: Option<Seat>,
    _waited_for: TaskTrackerToken,
    /// The place of the client that a balancer named.
    behind: Option<Slot>,
    metrics: Arc<Metrics>,
}

impl Open {
    fn new(slot: Slot, seat: Option<Seat>, waited_for: TaskTrackerToken, metrics: Arc<Metrics>) -> Self {
        metrics.connections_open.fetch_add(1, Ordering::Relaxed);
        Self { slot, _seat: seat, _waited_for: waited_for, behind: None, metrics }
    }

    fn requests(&self) -> Option<Arc<Requests>> {
        self.behind.as_ref().unwrap_or(&self.slot).requests()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.metrics.connections_open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection before anything of it was read.
struct Came {
    tcp: TcpStream,
    open: Open,
    /// The client, as far as the connection tells.
    peer: SocketAddr,
    local: SocketAddr,
    /// A balancer ended the client's TLS.
    over_tls: bool,
    /// A balancer passes on what a client says, and did not say which one.
    nameless: bool,
}

/// Reads the PROXY header; `None` when there is no believing it.
async fn told_by_balancer(edge: &Edge, mut came: Came) -> Option<Came> {
    let shared = &edge.shared;
    let told = match tokio::time::timeout(limits::PROXY_HEADER, proxy_protocol::read(&mut came.tcp)).await {
        Ok(Ok(told)) => told,
        Ok(Err(error)) => {
            tracing::debug!(balancer = %came.peer, error = %error, "a PROXY header was refused");
            shared.notice(Unexpected::NoProxyHeader, came.local, came.peer);
            shared.metrics.connections_refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Err(_late) => {
            shared.notice(Unexpected::NoProxyHeader, came.local, came.peer);
            shared.metrics.connections_refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
    };
    if let Some(client) = told.client {
        let ip = ClientIp::new(client.ip());
        let exempt = shared.snapshot.load().trusted_proxies.contains(ip);
        let Ok(place) = shared.connections.admit_behind(&came.open.slot, ip, exempt) else {
            shared.metrics.connections_refused.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        came.open.behind = Some(place);
        came.peer = client;
    } else {
        // A health check of its own, or a client on a socket without an address: whatever fields
        // come are the client's own words (S-NET-1).
        came.nameless = true;
    }
    came.over_tls = told.scheme == Some(Scheme::Https);
    Some(came)
}

async fn connection(edge: Rc<Edge>, came: Came, acceptor: Option<TlsAcceptor>, role: Role, drain: CancellationToken) {
    let Came { tcp, open, peer, local, over_tls, nameless } = came;
    let (requests, kept) = (open.requests(), open.slot.is_kept());
    let scheme = if acceptor.is_some() || over_tls { Scheme::Https } else { Scheme::Http };
    // Not those of the watchers, nor of a balancer that passes on many clients and would lose a request of one;
    // kept ones have an end of their own.
    let counts =
        role != Role::Ops && !kept && !edge.shared.snapshot.load().trusted_proxies.contains(ClientIp::new(peer.ip()));
    let room = if counts { edge.shared.connections.room() } else { Room::default() };
    let stream = match acceptor {
        None => Stream::plain(tcp, open),
        // Boxed: a handshake's state must not stay in the future of every idle connection.
        Some(acceptor) => match Box::pin(handshake(acceptor, tcp, &room)).await {
            Ok(tls) => Stream::tls(tls, open),
            Err(what) => {
                edge.shared.metrics.tls_failures.fetch_add(1, Ordering::Relaxed);
                if let Some(what) = what {
                    edge.shared.notice(what, local, peer);
                }
                return;
            }
        },
    };
    let info = ConnInfo {
        peer,
        local,
        scheme,
        fields_may_tell: !nameless,
        requests,
        kept,
        room,
        memory: ConnMemory::default(),
    };
    let shared = Arc::clone(&edge.shared);
    let unexpected = match role {
        Role::Proxy => {
            let answer: Answer<_> = Rc::new(move |conn, request| {
                let edge = Rc::clone(&edge);
                Box::pin(async move { edge.dispatch(&conn, request).await })
            });
            conn::serve(stream, info, answer, drain).await
        }
        Role::Ops | Role::Redirect => {
            let shared = Arc::clone(&shared);
            let answer: Answer<_> = Rc::new(move |_, request| {
                let response = if role == Role::Ops {
                    let idle = i64::try_from(shared.connections.idle()).unwrap_or(i64::MAX);
                    shared.metrics.connections_idle.store(idle, Ordering::Relaxed);
                    ops::answer(&request, &shared.readiness, &shared.metrics)
                } else {
                    redirect::answer(&request, &shared.snapshot.load())
                };
                Box::pin(std::future::ready(response))
            });
            conn::serve(stream, info, answer, drain).await
        }
    };
    if let Some(what) = unexpected {
        shared.notice(what, local, peer);
    }
}

/// The same within its time, or until its place is needed.
async fn handshake(
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    room: &Room,
) -> Result<TlsStream<TcpStream>, Option<Unexpected>> {
    tokio::select! {
        shaken = tokio::time::timeout(limits::TLS_HANDSHAKE, shake_hands(acceptor, tcp)) => shaken.unwrap_or(Err(None)),
        () = room.needed_later() => Err(None),
    }
}

/// A failure tells what came in place of TLS, where that shows.
async fn shake_hands(acceptor: TlsAcceptor, tcp: TcpStream) -> Result<TlsStream<TcpStream>, Option<Unexpected>> {
    // Looked at and not taken: rustls would keep it. One more system call beside a handshake is nothing.
    let mut first = [0; 16];
    let seen = tcp.peek(&mut first).await.unwrap_or(0);
    acceptor.accept(tcp).await.map_err(|_| Unexpected::on_tls(first.get(..seen).unwrap_or_default()))
}
