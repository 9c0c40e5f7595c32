//! Which sessions should be looked at now? Buckets of one second, so that nobody walks over all
//! sessions to find the few that ran out.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::base::clock::Timestamp;
use crate::base::ids::SessionId;

#[derive(Default)]
pub(super) struct Due {
    buckets: Mutex<BTreeMap<i64, Vec<SessionId>>>,
}

impl Due {
    pub(super) fn put(&self, at: Timestamp, session: SessionId) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.entry(at.as_secs()).or_default().push(session);
    }

    /// Everything due at `now` or before. Each is handed out once: whoever takes it puts it back
    /// under its next moment, or ends it.
    pub(super) fn take(&self, now: Timestamp) -> Vec<SessionId> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let later = buckets.split_off(&now.as_secs().saturating_add(1));
        std::mem::replace(&mut *buckets, later).into_values().flatten().collect()
    }

    /// Everything, when the limits themselves changed.
    pub(super) fn take_all(&self) -> Vec<SessionId> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *buckets).into_values().flatten().collect()
    }
}
