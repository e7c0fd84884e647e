//! The time one bar covers.

use super::{Instant, to_instant, to_local};
use chrono::{Datelike, Days, Months, NaiveDate};
use chrono_tz::Tz;
use std::collections::HashMap;
use std::hash::Hash;

/// The time one bar covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// A fixed number of microseconds, within a day.
    Micros(i64),
    /// Whole days: fewer than seven are sessions of a market that closes, multiples of seven weeks, others local dates.
    Days(u32),
    /// Whole calendar months.
    Months(u32),
}

impl Width {
    /// What [`Width::from_parts`] accepts, in words.
    pub const DOMAIN: &'static str =
        "one positive number of months, days or hours such as 1 hour, a second at least";

    /// The parts of an interval as the width of a bar: either months, or days, or a time; `None` for any other.
    pub fn from_parts(months: i32, days: i32, micros: i64) -> Option<Self> {
        match (months, days, micros) {
            (months @ 1..=1200, 0, 0) => Some(Self::Months(months.unsigned_abs())),
            (0, days @ 1..=3660, 0) => Some(Self::Days(days.unsigned_abs())),
            (0, 0, micros @ 1_000_000..=86_400_000_000) => Some(Self::Micros(micros)),
            _ => None,
        }
    }
}

/// The most frequent value, the smallest of several.
pub(crate) fn mode<T: Copy + Ord + Hash>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: HashMap<T, usize> = HashMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    counts.into_iter().max_by_key(|&(value, count)| (count, std::cmp::Reverse(value))).map(|(value, _)| value)
}

/// The start of a bar of a width plus that width, whatever the market does meanwhile; dates and months are counted on the wall
/// clock of `zone`.
pub fn end(width: Width, zone: Tz, start: Instant) -> Instant {
    if let Width::Micros(width) = width {
        return start.saturating_add(width);
    }
    let local = to_local(zone, start);
    match next_date(width, local.date(), local.day()) {
        Some(date) => to_instant(zone, date.and_time(local.time())),
        None => Instant::MAX,
    }
}

/// The date one width later.
pub(crate) fn next_date(width: Width, date: NaiveDate, day: u32) -> Option<NaiveDate> {
    match width {
        Width::Micros(_) => None,
        Width::Days(days) => date.checked_add_days(Days::new(days.into())),
        Width::Months(months) => {
            let first = date.with_day(1)?.checked_add_months(Months::new(months))?;
            first.with_day(day.min(days_of_month(first)?))
        }
    }
}

/// How many days the month of a date has.
pub(crate) fn days_of_month(date: NaiveDate) -> Option<u32> {
    let first = date.with_day(1)?;
    let length = first.checked_add_months(Months::new(1))?.signed_duration_since(first).num_days();
    u32::try_from(length).ok()
}
