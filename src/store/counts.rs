//! How many events of each kind did this process commit? For metrics: every sign-in, failure and
//! change passes one place on its way into the trail, so nothing can be forgotten to be counted.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::domain::audit::{Action, AuditEvent, Outcome};

#[derive(Debug, Default)]
pub struct EventCounts(Mutex<HashMap<(Action, Outcome), u64>>);

impl EventCounts {
    pub(super) fn committed(&self, events: &[AuditEvent]) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            *counts.entry((event.action, event.outcome)).or_default() += 1;
        }
    }

    /// Names of action and outcome as the trail spells them, and how many; sorted.
    #[must_use]
    pub fn all(&self) -> Vec<(String, String, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = counts.iter().map(|((action, outcome), n)| (action.name(), outcome.name(), *n)).collect();
        all.sort_unstable();
        all
    }
}
