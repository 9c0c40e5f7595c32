//! What in the files has run out, or never seems to: the only warnings that the day decides.

use std::time::Duration;

use super::expect::changes_with_the_clock;
use super::fault::{Fault, Warning};
use super::snapshot::Snapshot;
use crate::base::clock::Timestamp;
use crate::domain::level::{Grace, Level};
use crate::domain::policy::{Exception, Place};

/// An exception that is longer is a rule that nobody wrote down (PCI DSS 8.5.1: "time-limited").
const LONGEST: Duration = Duration::from_secs(90 * 86_400);

/// Exceptions that have ended and those that end too late; tests that say one thing today and another tomorrow.
#[must_use]
pub fn due(snapshot: &Snapshot, now: Timestamp) -> Vec<Warning> {
    let all = snapshot.routes.iter().flat_map(|route| route.policy.exceptions());
    let mut found: Vec<Warning> = all.filter_map(|exception| about(exception, now)).collect();
    found.extend(snapshot.levels.iter().filter_map(|level| grace(snapshot, level, now)));
    let unsteady = snapshot.tests.iter().filter(|test| changes_with_the_clock(snapshot, test, now));
    found.extend(unsteady.map(|test| {
        let message = format!("the result of the test of {} {} changes with the clock", test.method, test.target);
        warning(&test.place, message, "give it a `time:`, or it fails one day without an edit")
    }));
    found.sort();
    found
}

/// The grace of a level that has ended, or seems never to.
fn grace(snapshot: &Snapshot, level: &Level, now: Timestamp) -> Option<Warning> {
    let Grace { until, .. } = level.grace.as_ref()?;
    let file = snapshot.files.first().map(|file| file.display().to_string()).unwrap_or_default();
    let name = &level.name;
    let (message, hint) = if now >= *until {
        (format!("the grace of the level {name} has ended ({until}): it lets nobody pass any more"), "take it out")
    } else if *until > now.plus(LONGEST) {
        let days = (until.as_secs() - now.as_secs()) / 86_400;
        let message = format!("the grace of the level {name} ends in {days} days: so long a password is enough");
        (message, "let it end within 90 days")
    } else {
        return None;
    };
    Some(Warning(Fault { hint: Some(hint.to_owned()), ..Fault::of_file(&file, message) }))
}

fn about(exception: &Exception, now: Timestamp) -> Option<Warning> {
    let Exception { ticket, until, place, .. } = exception;
    if exception.has_ended(now) {
        let message = format!("the exception {ticket} has ended ({until}): it lets nobody off any more");
        return Some(warning(place, message, "take it out"));
    }
    if *until > now.plus(LONGEST) {
        let days = (until.as_secs() - now.as_secs()) / 86_400;
        let message = format!("the exception {ticket} ends in {days} days: over 90 it is no exception any more");
        return Some(warning(place, message, "let it end earlier and renew it, or change the rule"));
    }
    None
}

fn warning(place: &Place, message: String, hint: &str) -> Warning {
    Warning(Fault {
        file: place.file.clone(),
        line: place.line,
        column: place.column,
        message,
        hint: Some(hint.to_owned()),
    })
}
