//! The time one bar covers.

use super::labels::{Labels, label_zone};
use super::{Calendar, DAY, Instant, SECOND, to_instant, to_local};
use chrono::{Datelike, Days, Months, NaiveDate};
use chrono_tz::Tz;
use std::collections::HashMap;
use std::hash::Hash;

/// Days of a month of the Gregorian calendar, on average.
const MONTH: f64 = 30.436_875;

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

/// The width of the bars that start at `starts` (ascending): their modal spacing.
///
/// `None` with fewer than two distinct starts. Spacings of about a day or more become sessions, dates or months, so that they
/// survive changes of the clocks and holidays. A tie goes to the smaller spacing, which is the one within a session.
pub fn infer_width(calendar: &Calendar, starts: &[Instant]) -> Option<Width> {
    let spacing = mode(starts.windows(2).map(|pair| pair[1] - pair[0]).filter(|&spacing| spacing > 0))?;
    const HOUR: i64 = 3600 * SECOND;
    if spacing < 23 * HOUR {
        return Some(Width::Micros(spacing));
    }
    let days = (spacing + DAY / 2) / DAY;
    if (spacing - days * DAY).abs() > HOUR {
        return Some(Width::Micros(spacing));
    }
    if (2..=6).contains(&days) && !calendar.never_closes() {
        // Two sessions are two days or, over a weekend, four.
        let labels = Labels::fit(calendar, Width::Days(1), starts);
        let dates: Vec<NaiveDate> = starts.iter().map(|&start| labels.date(calendar, start)).collect();
        let sessions = |pair: &[NaiveDate]| {
            pair[0]
                .iter_days()
                .skip(1)
                .take_while(|&date| date <= pair[1])
                .filter(|&date| calendar.is_trading_day(date))
                .count()
        };
        let count = mode(dates.windows(2).map(sessions).filter(|&count| count > 0));
        return Some(Width::Days(count.and_then(|count| u32::try_from(count).ok()).unwrap_or(1)));
    }
    // Months differ in length, and their bars start on the same day of the month, or on the last where there is none.
    let months = (days as f64 / MONTH).round();
    if days >= 28 && (days as f64 - months * MONTH).abs() < 2.5 {
        let zone = label_zone(calendar.zone(), starts);
        let dates = || starts.iter().map(|&start| to_local(zone, start).date());
        let day = dates().map(|date| date.day()).max().unwrap_or(1);
        let uniform = dates().all(|date| next_date(Width::Months(0), date, day) == Some(date));
        // Labels such as the first weekday of a month vary.
        let usual = [1.0, 3.0, 6.0, 12.0].contains(&months);
        let even = starts.windows(2).all(|pair| pair[1] - pair[0] == spacing);
        if uniform || (usual && !even) {
            return Some(Width::Months(months as u32));
        }
    }
    u32::try_from(days).ok().map(Width::Days)
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
