//! When a rule holds: weekdays and a span of the day, in a zone that must be named.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;

use crate::base::clock::Timestamp;

/// `hours: "Mon-Fri 07:00-19:00 Europe/Paris"`.
#[derive(Clone, Debug)]
pub struct Hours {
    text: String,
    /// Monday first.
    days: [bool; 7],
    /// Minutes of the day; the end is not part of the span. An end at or before the start means
    /// the next day: `Fri 22:00-06:00` holds on Saturday morning.
    start: u16,
    end: u16,
    zone: TimeZone,
}

/// Why a text is no such span.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HoursError {
    #[error("hours are written like \"Mon-Fri 07:00-19:00 Europe/Paris\": days, times, zone, no blank around a `-`")]
    Shape,
    #[error("the time zone is missing: name it, for instance Europe/Paris or UTC")]
    NoZone,
    #[error("{0:?} is no weekday: Mon, Tue, Wed, Thu, Fri, Sat, Sun, or `daily`")]
    Day(String),
    #[error("{0:?} is no time of day from 00:00 to 24:00, with two digits each")]
    Time(String),
    #[error("{0:?} is no time zone of the IANA database, such as Europe/Paris")]
    Zone(String),
    #[error("{}", lines(.0))]
    Several(Vec<HoursError>),
}

impl HoursError {
    /// All of them at once, so that nobody mends one to be told the next.
    fn of(found: [Option<Self>; 4]) -> Self {
        let mut found: Vec<Self> = found.into_iter().flatten().collect();
        match found.pop() {
            Some(only) if found.is_empty() => only,
            last => {
                found.extend(last);
                Self::Several(found)
            }
        }
    }
}

fn lines(errors: &[HoursError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Hours {
    pub fn parse(text: &str) -> Result<Self, HoursError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (days, times, zone) = match words.as_slice() {
            [days, times, zone] => (*days, *times, *zone),
            [_, times] if times.contains(':') => return Err(HoursError::NoZone),
            [times, zone] if times.contains(':') => ("daily", *times, *zone),
            _ => return Err(HoursError::Shape),
        };
        let (start, end) = times.split_once('-').ok_or(HoursError::Shape)?;
        let no_start = |minute: &u16| *minute != 24 * 60;
        let start =
            minutes(start).and_then(|m| Some(m).filter(no_start).ok_or_else(|| HoursError::Time(start.to_owned())));
        let zone = TimeZone::get(zone).map_err(|_| HoursError::Zone(zone.to_owned()));
        match (weekdays(days), start, minutes(end), zone) {
            (Ok(days), Ok(start), Ok(end), Ok(zone)) => Ok(Self { text: text.to_owned(), days, start, end, zone }),
            (days, start, end, zone) => Err(HoursError::of([days.err(), start.err(), end.err(), zone.err()])),
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        let local = jiff::ZonedDateTime::new(now.to_jiff(), self.zone.clone());
        let minute = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        let today = day_index(local.weekday());
        let yesterday = (today + 6) % 7;
        let on = |day: usize| self.days.get(day).copied().unwrap_or(false);
        if self.start < self.end {
            on(today) && (self.start..self.end).contains(&minute)
        } else {
            (on(today) && minute >= self.start) || (on(yesterday) && minute < self.end)
        }
    }

    /// The moment as this zone's clocks show it, for a trace.
    #[must_use]
    pub fn local(&self, now: Timestamp) -> String {
        let local = jiff::ZonedDateTime::new(now.to_jiff(), self.zone.clone());
        local.strftime("%a %H:%M %Z").to_string()
    }
}

/// Two spans are the same when they say the same.
impl PartialEq for Hours {
    fn eq(&self, other: &Self) -> bool {
        (self.days, self.start, self.end, &self.zone) == (other.days, other.start, other.end, &other.zone)
    }
}

fn day_index(day: Weekday) -> usize {
    usize::from(day.to_monday_zero_offset().unsigned_abs())
}

fn weekdays(text: &str) -> Result<[bool; 7], HoursError> {
    let mut days = [false; 7];
    if text.eq_ignore_ascii_case("daily") {
        return Ok([true; 7]);
    }
    let index = |name: &str| {
        let low = name.to_ascii_lowercase();
        DAYS.iter().position(|d| *d == low).ok_or_else(|| HoursError::Day(name.to_owned()))
    };
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (index(from)?, index(to)?);
        // `Sat-Mon` goes over the weekend.
        let length = (to + 7 - from) % 7;
        for (i, day) in days.iter_mut().enumerate() {
            *day |= (i + 7 - from) % 7 <= length;
        }
    }
    Ok(days)
}

fn minutes(text: &str) -> Result<u16, HoursError> {
    let bad = || HoursError::Time(text.to_owned());
    let (hour, minute) = text.split_once(':').ok_or_else(bad)?;
    let number = |s: &str| {
        let digits = s.len() == 2 && s.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| s.parse::<u16>().ok()).flatten().ok_or_else(bad)
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    if minute > 59 || hour > 24 || (hour == 24 && minute > 0) { Err(bad()) } else { Ok(hour * 60 + minute) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn the_zone_decides_not_the_machine() {
        let hours = Hours::parse("Mon-Fri 07:00-19:00 Europe/Paris").unwrap();
        assert!(hours.holds(at("2026-11-24T06:00:00Z")), "07:00 in Paris in winter");
        assert!(!hours.holds(at("2026-11-24T05:59:59Z")));
        assert!(hours.holds(at("2026-07-01T05:00:00Z")), "summer time is an hour earlier");
        assert!(!hours.holds(at("2026-11-24T18:00:00Z")), "19:00 is not part of it");
        assert!(!hours.holds(at("2026-11-28T12:00:00Z")), "a Saturday");
    }

    #[test]
    fn a_span_may_go_over_midnight_and_over_the_weekend() {
        let night = Hours::parse("Fri 22:00-06:00 UTC").unwrap();
        assert!(night.holds(at("2026-11-27T23:00:00Z")) && night.holds(at("2026-11-28T05:59:00Z")));
        assert!(!night.holds(at("2026-11-27T05:00:00Z")) && !night.holds(at("2026-11-28T23:00:00Z")));
        let long = Hours::parse("Sat-Mon 00:00-24:00 UTC").unwrap();
        assert!(long.holds(at("2026-11-30T12:00:00Z")) && !long.holds(at("2026-12-01T00:00:00Z")));
    }

    #[test]
    fn what_is_no_span_says_why() {
        assert_eq!(Hours::parse("Mon-Fri 07:00-19:00").unwrap_err(), HoursError::NoZone);
        assert_eq!(Hours::parse("Mon-Fry 07:00-19:00 UTC").unwrap_err(), HoursError::Day("Fry".to_owned()));
        assert_eq!(Hours::parse("Mon 7:00-19:00 UTC").unwrap_err(), HoursError::Time("7:00".to_owned()));
        assert_eq!(Hours::parse("Mon 07:00-25:00 UTC").unwrap_err(), HoursError::Time("25:00".to_owned()));
        assert_eq!(
            Hours::parse("Mon 07:00-19:00 Europe/Pariss").unwrap_err(),
            HoursError::Zone("Europe/Pariss".to_owned())
        );
        assert_eq!(Hours::parse("always").unwrap_err(), HoursError::Shape);
        let all = Hours::parse("Mon-Fry 7:00-25:00 Europe/Pariss").unwrap_err().to_string();
        assert!(["Fry", "7:00", "25:00", "Europe/Pariss"].iter().all(|one| all.contains(&format!("{one:?}"))), "{all}");
    }
}
