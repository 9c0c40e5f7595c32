//! How many connections, from whom, and for how long (SECURITY.md section 3).

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;

use super::room::{Queue, Room};
use crate::base::net::ClientIp;

pub const TLS_HANDSHAKE: Duration = Duration::from_secs(10);
pub const PROXY_HEADER: Duration = Duration::from_secs(3);
pub const REQUEST_HEAD: Duration = Duration::from_secs(10);
/// A client that takes nothing of its answer for this long.
pub const READER_STALL: Duration = Duration::from_secs(60);
pub const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(60);
/// After this long without a request, an HTTP/1 connection gives its buffers back.
pub const PARK_AFTER: Duration = Duration::from_secs(2);
/// What a drain leaves a connection without a request, new or kept: a request that is on its way to us
/// when we close is lost to its sender, and one on a new connection is tried again by no browser.
pub const DRAIN_LINGER: Duration = Duration::from_secs(1);
pub const REQUESTS_PER_CONNECTION: u32 = 10_000;
/// Buffered for a client that does not read: of the answer of an HTTP/1.1 connection, and of each stream's of one
/// over HTTP/2. hyper's own default is 400 KiB, and a thousand slow readers would hold it a thousand times.
pub const ANSWER_BUFFER: usize = 128 * 1024;
/// The same on a kept place: it is free again with the answer.
pub const REQUESTS_PER_KEPT: u32 = 1;
pub const HEADERS: usize = 100;
pub const REQUEST_LINE: usize = 8 * 1024;
pub const ONE_HEADER: usize = 16 * 1024;
pub const ALL_HEADERS: usize = 32 * 1024;
pub const PER_ADDRESS: u32 = 512;
/// What one page of an app may need at once.
const LEAST_REQUESTS: u32 = 16;
/// Places of the ops listener behind the limit of the process: whoever fills the gate must not blind those
/// who watch it (S-LIM-3).
pub const OPS_RESERVE: usize = 32;
/// One place in so many is kept for signing in: whoever fills the gate must not lock everybody else out of
/// it (S-LIM-3).
const SIGN_IN_SHARE: usize = 8;
/// When fewer than one ordinary place in so many is free, connections on which nothing is asked give way.
const ROOM_SHARE: usize = 16;
/// Kept places that one address has at a time: what a browser opens for a page.
const KEPT_PER_ADDRESS: u32 = 8;
/// A kept place is given back after this long, whatever its client does: handshake, head, form and answer
/// together. The flood that filled the others would sit on these too.
pub const KEPT_LIFE: Duration = Duration::from_secs(10);
/// Requests of one address under way at a time, over all its connections: over HTTP/2 each carries a
/// hundred. Fewer where the sockets to apps are few.
pub const REQUESTS_PER_ADDRESS: u32 = 2 * PER_ADDRESS;
/// A body for our own pages.
pub const OWN_BODY: usize = 64 * 1024;
pub const OWN_BODY_TIME: Duration = Duration::from_secs(30);

/// Counts open connections; a [`Slot`] gives its place back when dropped.
#[derive(Debug)]
pub struct Connections {
    open: AtomicUsize,
    most: usize,
    kept_open: AtomicUsize,
    most_kept: usize,
    per_address: DashMap<IpAddr, Address>,
    requests_per_address: u32,
    idle: Arc<Queue>,
}

/// What is open of one address.
#[derive(Debug, Default)]
struct Address {
    connections: u32,
    /// Those of them on a kept place.
    kept: u32,
    requests: Option<Arc<Requests>>,
}

/// The requests of one address that are under way.
#[derive(Debug)]
pub struct Requests {
    under_way: AtomicU32,
    most: u32,
}

/// One request under way; gives its place back when dropped.
#[derive(Debug)]
pub struct UnderWay(Arc<Requests>);

impl UnderWay {
    /// `None` when the address has as many under way as it may.
    pub fn of(requests: &Arc<Requests>) -> Option<Self> {
        let one_more = |n| (n < requests.most).then_some(n + 1);
        requests.under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self(Arc::clone(requests)))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a connection was closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Process,
    Address,
}

#[derive(Debug)]
pub struct Slot {
    of: Arc<Connections>,
    counted: Option<(IpAddr, Arc<Requests>)>,
    place: Place,
    holds_place: bool,
}

/// Which places a connection is counted among.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Ordinary,
    Kept,
}

impl Connections {
    /// `most`: half of the file descriptors that this process may open, the places kept for signing in
    /// among them. `to_apps`: how many sockets to apps it may have, of which one address takes no more than
    /// a quarter.
    #[must_use]
    pub fn new(most: usize, to_apps: usize) -> Arc<Self> {
        let requests_per_address =
            u32::try_from(to_apps / 4).unwrap_or(u32::MAX).clamp(LEAST_REQUESTS, REQUESTS_PER_ADDRESS);
        let most_kept = most / SIGN_IN_SHARE;
        Arc::new(Self {
            open: AtomicUsize::new(0),
            most: most - most_kept,
            kept_open: AtomicUsize::new(0),
            most_kept,
            per_address: DashMap::new(),
            requests_per_address,
            idle: Arc::default(),
        })
    }

    /// Takes a place. Loopback and trusted proxies are not counted per address: they speak for many.
    pub fn admit(self: &Arc<Self>, peer: ClientIp, exempt: bool) -> Result<Slot, Refused> {
        if self.most.saturating_sub(self.open.load(Ordering::Relaxed)) <= self.most / ROOM_SHARE {
            self.idle.next();
        }
        let slot = self.place(Place::Ordinary, self.most)?;
        if exempt || peer.addr().is_loopback() { Ok(slot) } else { self.count(slot, peer) }
    }

    /// Takes a place where people sign in: one of those kept for that when there is no other.
    pub fn admit_to_sign_in(self: &Arc<Self>, peer: ClientIp, exempt: bool) -> Result<Slot, Refused> {
        match self.admit(peer, exempt) {
            Err(Refused::Process) => {
                let slot = self.place(Place::Kept, self.most_kept)?;
                if exempt || peer.addr().is_loopback() { Ok(slot) } else { self.count(slot, peer) }
            }
            admitted => admitted,
        }
    }

    /// Takes a place for the ops listener, which has some left when nobody else has: nobody gives way to a
    /// monitor that looks every few seconds.
    pub fn admit_ops(self: &Arc<Self>) -> Result<Slot, Refused> {
        self.place(Place::Ordinary, self.most + OPS_RESERVE)
    }

    fn place(self: &Arc<Self>, place: Place, most: usize) -> Result<Slot, Refused> {
        let open = self.open_in(place);
        if open.fetch_add(1, Ordering::Relaxed) >= most {
            open.fetch_sub(1, Ordering::Relaxed);
            return Err(Refused::Process);
        }
        Ok(Slot { of: Arc::clone(self), counted: None, place, holds_place: true })
    }

    fn open_in(&self, place: Place) -> &AtomicUsize {
        match place {
            Place::Ordinary => &self.open,
            Place::Kept => &self.kept_open,
        }
    }

    /// Counts a client that a balancer named; the place is that of `balancer`, the connection it came by.
    pub fn admit_behind(self: &Arc<Self>, balancer: &Slot, client: ClientIp, exempt: bool) -> Result<Slot, Refused> {
        let slot = Slot { of: Arc::clone(self), counted: None, place: balancer.place, holds_place: false };
        if exempt || client.addr().is_loopback() { Ok(slot) } else { self.count(slot, client) }
    }

    fn count(&self, mut slot: Slot, client: ClientIp) -> Result<Slot, Refused> {
        let key = client.counter_key();
        let mut address = self.per_address.entry(key).or_default();
        let kept = u32::from(slot.is_kept());
        if address.connections >= PER_ADDRESS || address.kept + kept > KEPT_PER_ADDRESS {
            return Err(Refused::Address);
        }
        address.connections += 1;
        address.kept += kept;
        let most = self.requests_per_address;
        let requests =
            address.requests.get_or_insert_with(|| Arc::new(Requests { under_way: AtomicU32::new(0), most }));
        slot.counted = Some((key, Arc::clone(requests)));
        Ok(slot)
    }

    /// How a connection hears that its place is needed.
    #[must_use]
    pub fn room(&self) -> Room {
        Room::of(&self.idle)
    }

    /// Those on which nothing is asked, that would give way.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.idle.length()
    }

    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed) + self.kept_open.load(Ordering::Relaxed)
    }
}

impl Slot {
    /// Whether its place is one of those kept for signing in: it serves nothing else.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.place == Place::Kept
    }

    /// Where the requests of this connection's address are counted; `None` where they are not.
    #[must_use]
    pub fn requests(&self) -> Option<Arc<Requests>> {
        self.counted.as_ref().map(|(_, requests)| Arc::clone(requests))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.holds_place {
            self.of.open_in(self.place).fetch_sub(1, Ordering::Relaxed);
        }
        if let Some((key, _)) = &self.counted {
            let kept = u32::from(self.is_kept());
            // The map holds only addresses with an open connection, so it is bounded by them.
            self.of.per_address.remove_if_mut(key, |_, address| {
                address.connections = address.connections.saturating_sub(1);
                address.kept = address.kept.saturating_sub(kept);
                address.connections == 0
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_lim_1_the_512th_connection_of_an_address_passes_and_the_513th_does_not() {
        let all = Connections::new(10_000, 10_000);
        let one = ClientIp::new("192.0.2.1".parse().unwrap());
        let held: Vec<Slot> = (0..PER_ADDRESS).map(|_| all.admit(one, false).unwrap()).collect();
        assert_eq!(all.admit(one, false).unwrap_err(), Refused::Address);
        assert!(all.admit(ClientIp::new("192.0.2.2".parse().unwrap()), false).is_ok());
        assert!(all.admit(one, true).is_ok(), "a trusted proxy speaks for many");
        assert_eq!(all.admit_behind(&held[0], one, false).unwrap_err(), Refused::Address, "nor behind a balancer");
        drop(held);
        assert!(all.per_address.is_empty() && all.open() == 0);
        assert!(all.admit(one, false).is_ok());
    }

    #[test]
    fn s_lim_1_an_address_has_1024_requests_under_way_over_all_its_connections() {
        let all = Connections::new(10, 10_000);
        let one = ClientIp::new("192.0.2.1".parse().unwrap());
        let (first, second) = (all.admit(one, false).unwrap(), all.admit(one, false).unwrap());
        let (first, second) = (first.requests().unwrap(), second.requests().unwrap());
        let mut held: Vec<UnderWay> = (0..512).map(|_| UnderWay::of(&first).unwrap()).collect();
        held.extend((0..512).map(|_| UnderWay::of(&second).unwrap()));
        assert!(UnderWay::of(&first).is_none() && UnderWay::of(&second).is_none());
        held.pop();
        assert!(UnderWay::of(&first).is_some());
        assert!(all.admit(one, true).unwrap().requests().is_none(), "a trusted proxy speaks for many");

        // Where few sockets to apps may be open, nobody has them all.
        let few = Connections::new(10, 80);
        let requests = few.admit(one, false).unwrap().requests().unwrap();
        let held: Vec<UnderWay> = std::iter::from_fn(|| UnderWay::of(&requests)).take(80).collect();
        assert_eq!(held.len(), 20);
    }

    #[test]
    fn the_process_keeps_descriptors_for_itself() {
        let all = Connections::new(1, 10_000);
        let me = ClientIp::new([127, 0, 0, 1].into());
        let held = all.admit(me, false).unwrap();
        assert_eq!(all.admit(me, false).unwrap_err(), Refused::Process);
        drop(held);
        assert!(all.admit(me, false).is_ok());
    }

    #[test]
    fn s_lim_3_the_ops_listener_has_places_of_its_own_and_not_without_end() {
        let all = Connections::new(1, 10_000);
        let me = ClientIp::new([127, 0, 0, 1].into());
        let clients = all.admit(me, false).unwrap();
        let mut watchers: Vec<Slot> = (0..OPS_RESERVE).map(|_| all.admit_ops().unwrap()).collect();
        assert_eq!(all.admit_ops().unwrap_err(), Refused::Process);
        assert_eq!(all.admit(me, false).unwrap_err(), Refused::Process);
        drop(clients);
        assert_eq!(all.admit(me, false).unwrap_err(), Refused::Process, "those of the watchers are not the clients'");
        watchers.clear();
        assert!(all.admit(me, false).is_ok());
    }

    #[test]
    fn s_lim_3_one_place_in_eight_is_for_signing_in_and_no_address_has_them_all() {
        let all = Connections::new(128, 10_000);
        let client = |n: u8| ClientIp::new([192, 0, 2, n].into());
        let mut others: Vec<Slot> = std::iter::from_fn(|| all.admit(client(1), false).ok()).collect();
        assert_eq!(others.len(), 112);
        let taken = |n| std::iter::from_fn(|| all.admit_to_sign_in(client(n), false).ok()).collect::<Vec<_>>();
        let first = taken(2);
        assert!(first.len() == 8 && first.iter().all(Slot::is_kept), "{}", first.len());
        let second = taken(3);
        assert_eq!((second.len(), taken(4).len(), all.open()), (8, 0, 128), "and not without end");
        drop(second);
        // Behind a balancer the places are its connections', and the client's share is the same.
        let balancer = || all.admit_to_sign_in(client(9), true).unwrap();
        let came = balancer();
        assert!(came.is_kept() && all.admit_behind(&came, client(4), false).unwrap().is_kept());
        assert_eq!(all.admit_behind(&came, client(2), false).unwrap_err(), Refused::Address);
        drop(came);
        // What is free again for everybody is taken first.
        others.pop();
        let ordinary = taken(2);
        assert!(ordinary.len() == 1 && !ordinary[0].is_kept());
        drop((ordinary, first, others));
        assert!(all.per_address.is_empty() && all.open() == 0);
    }

    #[test]
    fn s_lim_3_of_a_million_addresses_only_those_with_an_open_connection_are_remembered() {
        let all = Connections::new(120, 10_000);
        let mut held = std::collections::VecDeque::new();
        for n in 0..1_000_000_u32 {
            if held.len() == 100 {
                held.pop_front();
            }
            held.push_back(all.admit(ClientIp::new(std::net::Ipv4Addr::from(n | 0x0a00_0000).into()), false).unwrap());
        }
        assert!(all.per_address.len() <= 100, "{}", all.per_address.len());
    }
}
