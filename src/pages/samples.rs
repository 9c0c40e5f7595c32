//! The same person, app and hour in every sample: ann, Payroll, 24 November 2026.

use std::time::Duration;

use super::language::Language;
use super::layout::{Destination, Hidden, Site};
use crate::base::clock::Timestamp;
use crate::base::ids::RequestId;
use crate::base::rng::SeededRng;

/// 24 November 2026, 14:31 UTC.
const NOW: Timestamp = Timestamp::from_secs(1_795_530_660);

impl Site {
    /// The site that samples are shown on.
    #[must_use]
    pub fn sample() -> Self {
        Self {
            title: "Example Corp".to_owned(),
            help: Some("Service desk, ext. 4000".to_owned()),
            portal_origin: None,
            https: true,
            code_digits: 6,
            language: Language::English,
            now: NOW,
        }
    }
}

pub(super) fn hidden() -> Hidden {
    Hidden { csrf: "sample-token".to_owned(), flow: Some("sample-flow".to_owned()), rd: Some("sample-rd".to_owned()) }
}

pub(super) fn payroll() -> Destination {
    Destination {
        title: "Payroll".to_owned(),
        host: "payroll.corp.example".to_owned(),
        origin: "https://payroll.corp.example".to_owned(),
    }
}

pub(super) fn later(minutes: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(minutes * 60))
}

pub(super) fn earlier(minutes: u64) -> Timestamp {
    NOW.minus(Duration::from_secs(minutes * 60))
}

pub(super) fn reference() -> RequestId {
    RequestId::new(NOW, &*SeededRng::new(7))
}
