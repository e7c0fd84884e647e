//! Bars in time: when a market is open, where its bars start and end, and where the windows of a backtest lie among them.
//!
//! A calendar decides two things about a forecast: which timestamps the forecast bars bear, and which calendar fields
//! the model reads. Both change the numbers, so nothing here guesses: hours, holidays and half days are data, which
//! whoever makes a [`Calendar`] has from somewhere, and the arithmetic below is pure. The rules are those of ADR 4.
#![deny(missing_docs)]

mod days;
mod fit;
mod grid;
mod labels;
mod memo;
mod spacing;
mod width;
mod windows;

pub use fit::{Fit, Verdict, explains_all, infer};
pub use grid::Grid;
pub use labels::label_zone;
pub use spacing::infer_width;
pub use width::{Width, end};
pub use windows::{Keep, Origin, Windows};

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone};
use chrono_tz::Tz;
use memo::Memo;
use std::collections::BTreeMap;

/// An instant in microseconds since 2000-01-01 00:00 UTC, as PostgreSQL stores a `timestamptz`.
pub type Instant = i64;

/// Microseconds from 1970-01-01 to 2000-01-01.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Dates without any session after which a calendar counts as closed for good.
const LONGEST_CLOSURE: usize = 400;

/// One session of a date; a session over midnight is two that touch.
///
/// # Units
/// Seconds from local midnight, `close` at most 86,400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session {
    /// First second.
    pub open: i32,
    /// First second after it.
    pub close: i32,
}

/// The sessions of a week, Monday first.
pub type Week = [Vec<Session>; 7];

/// A market's hours.
#[derive(Debug, Clone)]
pub struct Calendar {
    name: String,
    zone: Tz,
    hours: Hours,
    /// The second of the day from which the market trades for the next date; `None` where a trading day is a date.
    evening: Option<i32>,
    memo: Memo,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hours {
    /// Open at every instant.
    Always,
    /// Sessions of a week from a date on, oldest first, replaced on the dates listed; an empty list is a holiday.
    Sessions { weeks: Vec<(NaiveDate, Week)>, exceptions: BTreeMap<NaiveDate, Vec<Session>> },
}

impl Calendar {
    /// A market that never closes.
    pub fn always(name: impl Into<String>, zone: Tz) -> Self {
        Self { name: name.into(), zone, hours: Hours::Always, evening: None, memo: Memo::default() }
    }

    /// A market with the sessions of a week and dates on which others rule.
    pub fn with_sessions(
        name: impl Into<String>,
        zone: Tz,
        week: Week,
        exceptions: BTreeMap<NaiveDate, Vec<Session>>,
    ) -> Self {
        Self::with_weeks(name, zone, vec![(NaiveDate::MIN, week)], exceptions)
    }

    /// A market whose regular sessions have changed: each week holds from its date until that of the next; before the first,
    /// the market was closed.
    pub fn with_weeks(
        name: impl Into<String>,
        zone: Tz,
        mut weeks: Vec<(NaiveDate, Week)>,
        mut exceptions: BTreeMap<NaiveDate, Vec<Session>>,
    ) -> Self {
        weeks.sort_by_key(|(since, _)| *since);
        let lists = weeks.iter_mut().flat_map(|(_, week)| week).chain(exceptions.values_mut());
        lists.for_each(|sessions| sessions.sort_unstable());
        let evening = weeks.last().and_then(|(_, week)| days::evening(week));
        let hours = Hours::Sessions { weeks, exceptions };
        Self { name: name.into(), zone, hours, evening, memo: Memo::default() }
    }

    /// Whether two names mean the same hours on all days.
    pub fn is_same_market(&self, other: &Self) -> bool {
        self.zone == other.zone && self.hours == other.hours
    }

    /// The name it was asked for by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The time zone its hours and calendar fields are in.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// Whether it is open at every instant.
    fn never_closes(&self) -> bool {
        matches!(self.hours, Hours::Always)
    }

    /// The sessions of a date; `None` when the market never closes.
    fn sessions(&self, date: NaiveDate) -> Option<&[Session]> {
        match &self.hours {
            Hours::Always => None,
            Hours::Sessions { weeks, exceptions } => Some(exceptions.get(&date).map_or_else(
                || {
                    let later = weeks.partition_point(|(since, _)| *since <= date);
                    let week = later.checked_sub(1).map(|at| &weeks[at].1);
                    week.map_or(&[][..], |week| &week[date.weekday().num_days_from_monday() as usize])
                },
                Vec::as_slice,
            )),
        }
    }

    /// Whether the market opens at all on a date.
    fn has_session(&self, date: NaiveDate) -> bool {
        self.sessions(date).is_none_or(|sessions| !sessions.is_empty())
    }

    /// The sessions of a date as instants.
    fn on_date(&self, date: NaiveDate) -> impl Iterator<Item = (Instant, Instant)> + '_ {
        let instant = move |seconds| self.at(date, seconds);
        self.sessions(date)
            .unwrap_or_default()
            .iter()
            .map(move |session| (instant(session.open), instant(session.close)))
    }

    /// When so many seconds of a date have passed on the market's wall clock.
    fn at(&self, date: NaiveDate, seconds: i32) -> Instant {
        let midnight = date.and_time(NaiveTime::MIN);
        let local = midnight.checked_add_signed(TimeDelta::seconds(seconds.into())).unwrap_or(midnight);
        to_instant(self.zone, local)
    }

    /// The sessions around and after an instant, in order, until the calendar stays closed for too long.
    fn sessions_from(&self, at: Instant) -> impl Iterator<Item = Span> + '_ {
        // A chain of touching sessions counts its bars from its first opening, which lies within a week.
        let date = to_local(self.zone, at).date();
        let mut dates = date.checked_sub_days(Days::new(8)).unwrap_or(date).iter_days();
        let mut closed = 0;
        let trading = std::iter::from_fn(move || {
            loop {
                let date = dates.next()?;
                if self.has_session(date) {
                    closed = 0;
                    return Some(date);
                }
                closed += 1;
                if closed > LONGEST_CLOSURE {
                    return None;
                }
            }
        });
        let mut before: Option<Span> = None;
        trading.flat_map(|date| self.on_date(date)).map(move |(open, close)| {
            let anchor = before.filter(|span| span.close == open).map_or(open, |span| span.anchor);
            *before.insert(Span { anchor, open, close })
        })
    }

    /// Whether an instant lies inside a session.
    pub fn is_open(&self, at: Instant) -> bool {
        self.overlaps(at, at.saturating_add(1))
    }

    /// Whether the market is open at some instant from `start` up to, not including, `end`.
    fn overlaps(&self, start: Instant, end: Instant) -> bool {
        self.never_closes()
            || self
                .sessions_from(start)
                .take_while(|span| span.open < end)
                .any(|span| start < span.close && span.open < end)
    }
}

/// One session in time.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// The opening its bars are counted from: its own, or that of the first of the sessions touching before it.
    anchor: Instant,
    open: Instant,
    close: Instant,
}

/// The wall clock of a zone at an instant.
fn to_local(zone: Tz, at: Instant) -> NaiveDateTime {
    DateTime::from_timestamp_micros(at.saturating_add(POSTGRES_EPOCH))
        .unwrap_or_default()
        .with_timezone(&zone)
        .naive_local()
}

/// The instant at which a zone's wall clock shows `local`.
///
/// A wall time that occurs twice means its first occurrence; one that is skipped is read with the offset before the
/// switch, as PostgreSQL reads it.
fn to_instant(zone: Tz, local: NaiveDateTime) -> Instant {
    let utc = match zone.from_local_datetime(&local).earliest() {
        Some(found) => found.naive_utc(),
        // No zone skips a whole day and has a valid wall time a day earlier, except where a date was dropped when
        // the date line moved; UTC serves there.
        None => local
            .checked_sub_days(Days::new(1))
            .and_then(|before| {
                let valid = zone.from_local_datetime(&before).earliest()?;
                let offset = before - valid.naive_utc();
                local.checked_sub_signed(offset)
            })
            .unwrap_or(local),
    };
    utc.and_utc().timestamp_micros().saturating_sub(POSTGRES_EPOCH)
}

#[cfg(test)]
mod tests;
