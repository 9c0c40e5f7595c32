//! How much memory may be taken together for what is read before it can be judged or kept?

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many bytes for everybody, and a quarter of them for people who are not known: however slowly strangers send,
/// those who have signed in find room (S-KEEP-3, S-LIM-1).
#[derive(Debug)]
pub struct Budget {
    most: usize,
    taken: AtomicUsize,
    by_strangers: AtomicUsize,
}

/// A part of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub struct Share {
    of: Arc<Budget>,
    bytes: usize,
    stranger: bool,
}

impl Budget {
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: AtomicUsize::new(0), by_strangers: AtomicUsize::new(0) })
    }

    /// `None` when there is not so much left.
    #[must_use]
    pub fn take(self: &Arc<Self>, bytes: usize, stranger: bool) -> Option<Share> {
        let take = |from: &AtomicUsize, most: usize| {
            let more = |taken: usize| taken.checked_add(bytes).filter(|all| *all <= most);
            from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
        };
        if !take(&self.taken, self.most) {
            return None;
        }
        let mut share = Share { of: Arc::clone(self), bytes, stranger: false };
        if stranger && !take(&self.by_strangers, self.most / 4) {
            return None;
        }
        share.stranger = stranger;
        Some(share)
    }
}

impl Share {
    /// Gives back what it turned out not to need.
    pub fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.give_back(less);
        self.bytes -= less;
    }

    fn give_back(&self, bytes: usize) {
        self.of.taken.fetch_sub(bytes, Ordering::Relaxed);
        if self.stranger {
            self.of.by_strangers.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_lim_1_strangers_take_no_more_than_a_quarter_and_all_of_it_comes_back() {
        let budget = Budget::new(400);
        let mut first = budget.take(100, true).unwrap();
        assert!(budget.take(1, true).is_none(), "the quarter is taken");
        let known = budget.take(300, false).unwrap();
        assert!(budget.take(1, false).is_none(), "all of it is taken");
        first.shrink_to(40);
        assert!(budget.take(61, true).is_none());
        let second = budget.take(60, true).unwrap();
        drop((first, known, second));
        assert!(budget.take(400, false).is_some());
        assert!(budget.take(100, true).is_some());
        assert!(budget.take(usize::MAX, false).is_none());
    }
}
