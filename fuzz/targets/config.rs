//! Is every text either a configuration or a list of faults that a person can read?
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use stepgate::base::clock::Timestamp;
use stepgate::config::{Purpose, from_text, run_tests};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // `Check`: certificates and secrets need not be there. An answer is read from this directory alone,
    // which holds nothing.
    let read = || from_text(text, Path::new("/nonexistent"), Purpose::Check);
    let lines = u32::try_from(text.split(['\n', '\r']).count()).expect("a small text");
    match (read(), read()) {
        (Ok((snapshot, _)), Ok((again, _))) => {
            assert_eq!(snapshot.hash, again.hash);
            for failure in run_tests(&snapshot, Timestamp::from_secs(1_795_000_000)) {
                assert!(!failure.to_string().is_empty());
            }
        }
        (Err(faults), Err(again)) => {
            assert_eq!(faults, again);
            assert!(!faults.is_empty(), "refused, and nobody says why");
            for fault in faults {
                assert!(fault.line <= lines + 1, "{fault} of {lines} lines");
                assert!(!fault.message.is_empty());
            }
        }
        (first, second) => panic!("{} and {}", first.is_ok(), second.is_ok()),
    }
});
