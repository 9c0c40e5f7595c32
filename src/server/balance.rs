//! Which data thread takes a new connection: the one with the fewest open.
//!
//! The kernel spreads connections over the threads' sockets by a hash. With thousands of them that is
//! fair; a balancer in front holds a handful for hours, and a hash leaves threads idle beside full ones
//! (docs/PERFORMANCE.md has the shares). So the thread that accepted looks at the others' counts, and
//! passes the connection on where another has clearly fewer. Nothing of it was read by then, so only the
//! socket moves. Rejected: one accepting thread for all, which makes every connection move.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::limits::Slot;

/// A connection on its way to another thread.
#[derive(Debug)]
pub struct Passed {
    pub tcp: TcpStream,
    pub peer: SocketAddr,
    pub slot: Slot,
    /// The number of the listener that it came in by; every data thread has the same ones.
    pub door: usize,
    pub seat: Seat,
}

/// One thread's part in the balance.
#[derive(Debug)]
pub struct Desk {
    me: usize,
    all: Arc<[Counter]>,
}

#[derive(Debug)]
struct Counter {
    open: AtomicUsize,
    passed: UnboundedSender<Passed>,
}

/// A connection as its thread counts it.
#[derive(Debug)]
pub struct Seat {
    all: Arc<[Counter]>,
    thread: usize,
}

/// A desk for each data thread, and what the others pass on to it: not bounded, for each of those
/// connections holds a [`Slot`].
#[must_use]
pub fn desks(threads: usize) -> Vec<(Desk, UnboundedReceiver<Passed>)> {
    let (counters, incoming): (Vec<_>, Vec<_>) = (0..threads)
        .map(|_| {
            let (passed, incoming) = unbounded_channel();
            (Counter { open: AtomicUsize::new(0), passed }, incoming)
        })
        .unzip();
    let all: Arc<[Counter]> = counters.into();
    incoming.into_iter().enumerate().map(|(me, incoming)| (Desk { me, all: Arc::clone(&all) }, incoming)).collect()
}

impl Desk {
    /// A seat for a new connection: here, or with the thread that has clearly fewer.
    #[must_use]
    pub fn seat(&self) -> Seat {
        let open = |at: usize| self.all.get(at).map_or(usize::MAX, |c| c.open.load(Ordering::Relaxed));
        let mine = open(self.me);
        let (least, thread) = (0..self.all.len()).map(|at| (open(at), at)).min().unwrap_or((mine, self.me));
        // An eighth of unevenness is worth less than moving every second connection.
        Seat::take(&self.all, if mine > least + least / 8 { thread } else { self.me })
    }

    #[must_use]
    pub fn is_here(&self, seat: &Seat) -> bool {
        seat.thread == self.me
    }

    /// Gives a connection to the thread that its seat is with. Back it comes, with a seat here, when
    /// that thread takes none any more.
    pub fn pass(&self, passed: Passed) -> Result<(), Passed> {
        let Some(counter) = self.all.get(passed.seat.thread) else { return Err(passed) };
        counter.passed.send(passed).map_err(|refused| {
            let mut back = refused.0;
            back.seat = Seat::take(&self.all, self.me);
            back
        })
    }
}

impl Seat {
    fn take(all: &Arc<[Counter]>, thread: usize) -> Self {
        if let Some(counter) = all.get(thread) {
            counter.open.fetch_add(1, Ordering::Relaxed);
        }
        Self { all: Arc::clone(all), thread }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(counter) = self.all.get(self.thread) {
            counter.open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wherever_the_kernel_puts_them_connections_spread_evenly() {
        let (desks, _incoming): (Vec<_>, Vec<_>) = desks(4).into_iter().unzip();
        let mut seats: Vec<Seat> = (0..64).map(|_| desks[0].seat()).collect();
        let counts = || -> Vec<usize> { desks[0].all.iter().map(|c| c.open.load(Ordering::Relaxed)).collect() };
        assert!(counts().iter().all(|open| (14..=18).contains(open)), "{:?}", counts());
        seats.truncate(1);
        assert_eq!(counts().iter().sum::<usize>(), 1, "who leaves is not counted");
        let first: Vec<bool> = (0..4).map(|_| desks[3].seat()).map(|seat| desks[3].is_here(&seat)).collect();
        assert!(first[0], "where nobody has fewer, it stays");
    }

    #[test]
    fn a_few_connections_use_every_thread() {
        let (desks, _incoming): (Vec<_>, Vec<_>) = desks(4).into_iter().unzip();
        let seats: Vec<Seat> = (0..4).map(|_| desks[2].seat()).collect();
        let mut threads: Vec<usize> = seats.iter().map(|seat| seat.thread).collect();
        threads.sort_unstable();
        assert_eq!(threads, [0, 1, 2, 3]);
    }
}
