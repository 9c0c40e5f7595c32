//! How much memory may be taken together for what is read before it can be judged or kept?

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use super::ids::UserId;
use super::net::ClientIp;

/// So many bytes for everybody, and a quarter of them for people who are not known: however slowly strangers send,
/// those who have signed in find room (S-KEEP-3, S-LIM-1). Of one [`Taker`] at most a sixteenth, or as much as one body of
/// theirs may need.
#[derive(Debug)]
pub struct Budget {
    most: usize,
    taken: AtomicUsize,
    by_strangers: AtomicUsize,
    by_one: DashMap<Taker, usize>,
}

/// One of those who must not take the room of all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Taker {
    Person(UserId),
    /// Shows a session that has ended; whose it was is not looked up yet.
    Returning(IpAddr),
    Stranger(IpAddr),
}

/// A part of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub struct Share {
    of: Arc<Budget>,
    bytes: usize,
    stranger: bool,
    taker: Option<(Taker, usize)>,
}

impl Taker {
    #[must_use]
    pub fn new(user: Option<UserId>, address: ClientIp) -> Self {
        user.map_or_else(|| Self::Stranger(address.counter_key()), Self::Person)
    }
}

impl Budget {
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        let (taken, by_strangers) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { most, taken, by_strangers, by_one: DashMap::new() })
    }

    /// For what comes piece by piece: nothing yet.
    #[must_use]
    pub fn begin(self: &Arc<Self>, taker: Taker) -> Share {
        self.begin_one(taker, 0)
    }

    /// The same, where a single body may be larger than what is one taker's otherwise.
    #[must_use]
    pub fn begin_one(self: &Arc<Self>, taker: Taker, largest: usize) -> Share {
        let stranger = matches!(taker, Taker::Stranger(_));
        let most = largest.max(self.most / 16);
        Share { of: Arc::clone(self), bytes: 0, stranger, taker: Some((taker, most)) }
    }

    /// `None` when there is not so much left. Whose it is counts elsewhere.
    #[must_use]
    pub fn take(self: &Arc<Self>, bytes: usize, stranger: bool) -> Option<Share> {
        let mut share = Share { of: Arc::clone(self), bytes: 0, stranger, taker: None };
        share.grow_to(bytes).then_some(share)
    }

    fn take_for(&self, taker: Taker, bytes: usize, most: usize) -> bool {
        let mut held = self.by_one.entry(taker).or_default();
        let more = held.checked_add(bytes).filter(|all| *all <= most);
        *held = more.unwrap_or(*held);
        let none = *held == 0;
        drop(held);
        if none {
            self.give_back_of(taker, 0);
        }
        more.is_some()
    }

    /// Who holds nothing is not remembered.
    fn give_back_of(&self, taker: Taker, bytes: usize) {
        if let Entry::Occupied(mut held) = self.by_one.entry(taker) {
            *held.get_mut() = held.get().saturating_sub(bytes);
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

impl Share {
    /// One more for the same taker: nothing yet.
    #[must_use]
    pub fn another(&self) -> Self {
        Self { of: Arc::clone(&self.of), bytes: 0, ..*self }
    }

    /// `false` when there is not so much left: it stays as large as it is.
    #[must_use]
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let take = |from: &AtomicUsize, most: usize| {
            let all = |taken: usize| taken.checked_add(more).filter(|all| *all <= most);
            from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, all).is_ok()
        };
        let of = &self.of;
        if self.taker.is_some_and(|(taker, most)| !of.take_for(taker, more, most)) {
            return false;
        }
        let strangers = !self.stranger || take(&of.by_strangers, of.most / 4);
        if strangers && take(&of.taken, of.most) {
            self.bytes += more;
            return true;
        }
        if self.stranger && strangers {
            of.by_strangers.fetch_sub(more, Ordering::Relaxed);
        }
        if let Some((taker, _)) = self.taker {
            of.give_back_of(taker, more);
        }
        false
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.taken.fetch_sub(self.bytes, Ordering::Relaxed);
        if self.stranger {
            self.of.by_strangers.fetch_sub(self.bytes, Ordering::Relaxed);
        }
        if let Some((taker, _)) = self.taker {
            self.of.give_back_of(taker, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn s_lim_1_strangers_take_no_more_than_a_quarter_and_all_of_it_comes_back() {
        let budget = Budget::new(400);
        let first = budget.take(40, true).unwrap();
        assert!(budget.take(61, true).is_none(), "the quarter");
        let second = budget.take(60, true).unwrap();
        assert!(budget.take(1, true).is_none(), "the quarter is taken");
        let known = budget.take(300, false).unwrap();
        assert!(budget.take(1, false).is_none(), "all of it is taken");
        drop((first, known, second));
        assert!(budget.take(400, false).is_some());
        assert!(budget.take(100, true).is_some());
        assert!(budget.take(usize::MAX, false).is_none());
    }

    #[test]
    fn s_lim_1_one_takes_no_more_than_a_sixteenth_as_it_comes_and_all_of_it_comes_back() {
        let budget = Budget::new(1600);
        let address = |last| Taker::Stranger(Ipv4Addr::new(192, 0, 2, last).into());
        let (mut first, mut second) = (budget.begin(address(1)), budget.begin(address(1)));
        assert!(first.grow_to(30) && second.grow_to(70) && first.grow_to(30));
        assert!(!first.grow_to(31) && !first.grow_to(usize::MAX), "the sixteenth is taken");
        let mut others: Vec<Share> = (2..=4).map(|last| budget.begin(address(last))).collect();
        assert!(others.iter_mut().all(|other| other.grow_to(100)), "others find room");
        let mut late = budget.begin(address(5));
        assert!(!late.grow_to(1), "the quarter is taken");
        assert_eq!(budget.by_one.len(), 4, "who holds nothing is not remembered");
        let known = budget.take(1200, false).unwrap();
        drop((first, others));
        let rest = budget.take(330, false).unwrap();
        assert!(!second.grow_to(71), "all of it is taken");
        drop((second, known, rest));
        assert!(budget.by_one.is_empty());
        assert!(budget.take(400, true).is_some() && budget.take(1600, false).is_some());
    }
}
