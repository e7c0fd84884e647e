//! Where the bars of one series must start: its width, its alignment and the market's sessions.

use super::{Calendar, DAY, Instant, LONGEST_CLOSURE, SECOND, to_instant, to_local};
use chrono::{Datelike, Days, Months, NaiveDate, NaiveDateTime, NaiveTime};
use chrono_tz::Tz;
use std::collections::HashMap;
use std::hash::Hash;

/// Newest bars whose majority decides how a series is aligned to its sessions.
const ALIGNED: usize = 64;

/// Days of a month of the Gregorian calendar, on average.
const MONTH: f64 = 30.436_875;

/// The time one bar covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// A fixed number of microseconds, within a day.
    Micros(i64),
    /// Whole local dates, whatever a change of the clocks makes of their length.
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
/// `None` with fewer than two distinct starts. Spacings of about a day or more become dates or months, so that they
/// survive changes of the clocks. A tie goes to the smaller spacing, which is the one within a session.
pub fn infer_width(zone: Tz, starts: &[Instant]) -> Option<Width> {
    let spacing = mode(starts.windows(2).map(|pair| pair[1] - pair[0]).filter(|&spacing| spacing > 0))?;
    const HOUR: i64 = 3600 * SECOND;
    if spacing < 23 * HOUR {
        return Some(Width::Micros(spacing));
    }
    let days = (spacing + DAY / 2) / DAY;
    if (spacing - days * DAY).abs() > HOUR {
        return Some(Width::Micros(spacing));
    }
    // Months differ in length, and their bars start on the same day of the month, or on the last where there is none.
    let months = (days as f64 / MONTH).round();
    if days >= 28 && (days as f64 - months * MONTH).abs() < 2.5 {
        let zone = label_zone(zone, starts);
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
fn mode<T: Copy + Ord + Hash>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: HashMap<T, usize> = HashMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    counts.into_iter().max_by_key(|&(value, count)| (count, std::cmp::Reverse(value))).map(|(value, _)| value)
}

/// The zone in which labels of daily and longer bars are dates: the market's, unless most of them are midnight in
/// UTC and not in the market's zone, as feeds write plain dates.
pub fn label_zone(zone: Tz, starts: &[Instant]) -> Tz {
    let midnights =
        |zone| starts.iter().filter(|&&start| to_local(zone, start).time() == NaiveTime::MIN).count();
    let local = midnights(zone);
    if 2 * local <= starts.len() && 2 * midnights(Tz::UTC) > starts.len() { Tz::UTC } else { zone }
}

/// How the starts of one series are aligned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alignment {
    /// Evenly from the last bar on: a market that never closes.
    Even,
    /// From the opening of each session: 09:30, 10:30, …
    Opening,
    /// To the clock: 09:00, 10:00, … as `time_bucket` makes them; a bar belongs to the market if it overlaps a
    /// session.
    Clock {
        /// Remainder of every start modulo the width.
        phase: i64,
    },
    /// By local date.
    Date {
        zone: Tz,
        /// Time of day of the labels.
        time: NaiveTime,
        /// Day of the month that months step from; later than 28 only for labels at the end of months.
        day: u32,
    },
}

/// All that tells the grids of one calendar apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    width: Width,
    alignment: Alignment,
}

/// The starts a market's bars of one width can have.
#[derive(Debug, Clone)]
pub struct Grid<'a> {
    calendar: &'a Calendar,
    width: Width,
    alignment: Alignment,
}

impl<'a> Grid<'a> {
    /// Finds how the bars starting at `starts` (ascending, not empty) are aligned in a calendar.
    pub fn fit(calendar: &'a Calendar, width: Width, starts: &[Instant]) -> Self {
        let alignment = match width {
            Width::Days(_) | Width::Months(_) => {
                let zone = label_zone(calendar.zone(), starts);
                let labels = || starts.iter().map(|&start| to_local(zone, start));
                Alignment::Date {
                    zone,
                    time: labels().next_back().unwrap_or_default().time(),
                    day: labels().map(|label| label.day()).max().unwrap_or(1),
                }
            }
            Width::Micros(_) if calendar.never_closes() => Alignment::Even,
            Width::Micros(length) => {
                let grid = Self { calendar, width, alignment: Alignment::Opening };
                let newest = &starts[starts.len().saturating_sub(ALIGNED)..];
                let at_opening = newest.iter().filter(|&&start| grid.is_at_opening(length, start)).count();
                if 2 * at_opening > newest.len() {
                    Alignment::Opening
                } else {
                    let phase = mode(newest.iter().map(|start| start.rem_euclid(length))).unwrap_or(0);
                    Alignment::Clock { phase }
                }
            }
        };
        Self { calendar, width, alignment }
    }

    /// The end of a bar: when it is known.
    pub fn end(&self, start: Instant) -> Instant {
        let end = || end(self.width, self.date_zone(), start);
        match self.width {
            Width::Micros(_) => end(),
            Width::Days(_) | Width::Months(_) => {
                self.calendar.memo.fact(self.shape(), start, |facts| &mut facts.end, end)
            }
        }
    }

    /// The starts after a bar's, in order; ends only where the calendar stays closed for more than a year.
    pub fn after(&self, start: Instant) -> Box<dyn Iterator<Item = Instant> + '_> {
        match (self.alignment, self.width) {
            (Alignment::Date { zone, time, day }, width) => {
                let first = to_local(zone, start).date();
                let dates = std::iter::successors(Some(first), move |&date| next_date(width, date, day));
                Box::new(
                    dates
                        .skip(1)
                        .take_while(move |&date| self.opens_within_reach(date))
                        .filter(move |&date| self.opens_within(date))
                        .map(move |date| to_instant(zone, date.and_time(time))),
                )
            }
            (Alignment::Opening | Alignment::Clock { .. }, Width::Micros(width)) => {
                Box::new(self.session_starts(width, start))
            }
            (_, Width::Micros(width)) => {
                Box::new(std::iter::successors(start.checked_add(width), move |at| at.checked_add(width)))
            }
            // A width in dates always has the alignment by date.
            (_, Width::Days(_) | Width::Months(_)) => Box::new(std::iter::empty()),
        }
    }

    /// The starts missing between two consecutive bars.
    pub fn missing(&self, before: Instant, next: Instant) -> impl Iterator<Item = Instant> + '_ {
        let adjacent = match (self.alignment, self.width) {
            (_, Width::Micros(width)) if next - before <= width => true,
            (Alignment::Even, _) => false,
            _ => {
                let first = || self.after(before).next();
                let first = self.calendar.memo.fact(self.shape(), before, |facts| &mut facts.next, first);
                first.is_none_or(|first| first >= next)
            }
        };
        (!adjacent).then(|| self.after(before)).into_iter().flatten().take_while(move |&start| start < next)
    }

    /// What the market's wall clock shows when a bar starts.
    pub fn wall_clock(&self, start: Instant) -> NaiveDateTime {
        to_local(self.date_zone(), start)
    }

    /// Whether the market is open during some of the bar that starts then.
    pub fn overlaps_session(&self, start: Instant) -> bool {
        let overlaps = || match self.alignment {
            Alignment::Even => true,
            Alignment::Opening => self.calendar.is_open(start),
            Alignment::Clock { .. } => self.calendar.overlaps(start, self.end(start)),
            Alignment::Date { zone, .. } => self.opens_within(to_local(zone, start).date()),
        };
        if self.calendar.never_closes() {
            return overlaps();
        }
        self.calendar.memo.fact(self.shape(), start, |facts| &mut facts.in_session, overlaps)
    }

    fn shape(&self) -> Shape {
        Shape { width: self.width, alignment: self.alignment }
    }

    /// The zone in which starts are dates.
    fn date_zone(&self) -> Tz {
        match self.alignment {
            Alignment::Date { zone, .. } => zone,
            _ => self.calendar.zone(),
        }
    }

    /// Whether the market opens on any date of the bar that starts on `date`.
    fn opens_within(&self, date: NaiveDate) -> bool {
        let days = match self.width {
            Width::Days(days) => days.into(),
            _ => next_date(self.width, date, date.day())
                .map_or(1, |next| next.signed_duration_since(date).num_days().unsigned_abs()),
        };
        date.iter_days().take(days as usize).any(|date| self.calendar.is_trading_date(date))
    }

    /// Whether the market opens at all soon after a date.
    fn opens_within_reach(&self, date: NaiveDate) -> bool {
        date.iter_days().take(LONGEST_CLOSURE).any(|date| self.calendar.is_trading_date(date))
    }

    /// Whether a start is counted from the opening of its session.
    fn is_at_opening(&self, width: i64, start: Instant) -> bool {
        self.calendar
            .sessions_from(start)
            .take_while(|span| span.open <= start)
            .any(|span| start < span.close && (start - span.anchor) % width == 0)
    }

    /// The starts within sessions that lie after an instant.
    fn session_starts(&self, width: i64, after: Instant) -> impl Iterator<Item = Instant> + '_ {
        let mut last = after;
        self.calendar
            .sessions_from(after)
            .skip_while(move |span| span.close <= after)
            .flat_map(move |span| {
                let origin = match self.alignment {
                    Alignment::Clock { phase } => phase,
                    _ => span.anchor,
                };
                // The first bar of the session: for bars aligned to the clock the one the opening falls into.
                let into = (span.open - origin).rem_euclid(width);
                let first = match self.alignment {
                    Alignment::Clock { .. } => span.open - into,
                    _ => span.open + (width - into) % width,
                };
                let skipped = if after >= first { (after - first) / width + 1 } else { 0 };
                std::iter::successors(Some(first + skipped * width), move |at| at.checked_add(width))
                    .take_while(move |&at| at < span.close)
            })
            // Neighbouring sessions can share a bar that is aligned to the clock.
            .filter(move |&at| {
                let before = last;
                last = before.max(at);
                at > before
            })
    }
}

/// The end of a bar of a width; dates and months are counted on the wall clock of `zone`.
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
fn next_date(width: Width, date: NaiveDate, day: u32) -> Option<NaiveDate> {
    match width {
        Width::Micros(_) => None,
        Width::Days(days) => date.checked_add_days(Days::new(days.into())),
        Width::Months(months) => {
            let first = date.with_day(1)?.checked_add_months(Months::new(months))?;
            let length = first.checked_add_months(Months::new(1))?.signed_duration_since(first).num_days();
            first.with_day(day.min(u32::try_from(length).ok()?))
        }
    }
}
