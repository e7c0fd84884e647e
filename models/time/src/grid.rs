//! Where the bars of one series must start: its width, its alignment and the market's sessions.

use super::labels::Labels;
use super::width::{Width, end, mode};
use super::{Calendar, DAY, Instant, to_local};
use chrono::NaiveDateTime;
use chrono_tz::Tz;

/// Newest bars whose majority decides how a series is aligned to its sessions.
const ALIGNED: usize = 64;

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
    /// By trading day, week or month.
    Labels(Labels),
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
            Width::Days(_) | Width::Months(_) => Alignment::Labels(Labels::fit(calendar, width, starts)),
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

    /// The end of a bar: when it is known. That of a day, week or month is the close of its last session.
    pub fn end(&self, start: Instant) -> Instant {
        match self.alignment {
            Alignment::Labels(labels) => {
                let end = || labels.end(self.calendar, start);
                self.calendar.memo.fact(self.shape(), start, |facts| &mut facts.end, end)
            }
            _ => self.nominal_end(start),
        }
    }

    /// The start of a bar plus its width, whatever the market does meanwhile.
    pub fn nominal_end(&self, start: Instant) -> Instant {
        end(self.width, self.date_zone(), start)
    }

    /// The starts after a bar's, in order; ends only where the calendar stays closed for more than a year.
    pub fn after(&self, start: Instant) -> Box<dyn Iterator<Item = Instant> + '_> {
        match (self.alignment, self.width) {
            (Alignment::Labels(labels), _) => {
                let next = move |&start: &Instant| labels.after(self.calendar, start);
                Box::new(std::iter::successors(next(&start), next))
            }
            (Alignment::Opening | Alignment::Clock { .. }, Width::Micros(width)) => {
                Box::new(self.session_starts(width, start))
            }
            (_, Width::Micros(width)) => {
                Box::new(std::iter::successors(start.checked_add(width), move |at| at.checked_add(width)))
            }
            // A width in dates always has labels.
            (_, Width::Days(_) | Width::Months(_)) => Box::new(std::iter::empty()),
        }
    }

    /// The starts missing between two consecutive bars.
    pub fn missing(&self, before: Instant, next: Instant) -> impl Iterator<Item = Instant> + '_ {
        let precedes = move |start: Instant| match self.alignment {
            // A bar that is labelled on another day of its week or month is there all the same.
            Alignment::Labels(labels) => labels.is_later(self.calendar, next, start),
            _ => start < next,
        };
        let adjacent = match (self.alignment, self.width) {
            (_, Width::Micros(width)) if next - before <= width => true,
            (Alignment::Even, _) => false,
            _ => {
                let first = || self.after(before).next();
                let first = self.calendar.memo.fact(self.shape(), before, |facts| &mut facts.next, first);
                !first.is_some_and(precedes)
            }
        };
        (!adjacent)
            .then(|| self.after(before))
            .into_iter()
            .flatten()
            .take_while(move |&start| precedes(start))
    }

    /// Whether the bar that starts at `next` starts before the one at `before` has ended.
    pub fn overlap(&self, before: Instant, next: Instant) -> bool {
        match self.alignment {
            Alignment::Labels(labels) => labels.overlap(self.calendar, before, next),
            _ => self.nominal_end(before) > next,
        }
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
            Alignment::Labels(labels) => labels.is_open(self.calendar, start),
        };
        if self.calendar.never_closes() {
            return overlaps();
        }
        self.calendar.memo.fact(self.shape(), start, |facts| &mut facts.in_session, overlaps)
    }

    /// Bars after which a pattern usually returns, around a bar: those of a trading day, the trading days of a week, a year of
    /// weeks or months.
    pub fn season(&self, around: Instant) -> usize {
        let date = self.calendar.date_of(to_local(self.calendar.zone(), around));
        match self.width {
            Width::Micros(width) if self.calendar.never_closes() => {
                usize::try_from(DAY / width.max(1)).unwrap_or(1).max(1)
            }
            Width::Micros(width) => {
                let back = std::iter::successors(Some(date), |date| date.pred_opt()).take(ALIGNED);
                let days = back.filter(|&date| self.calendar.is_trading_day(date)).take(5);
                let bars = days.map(|date| self.bars(width, &self.calendar.sessions_of_day(date))).max();
                bars.filter(|&bars| bars > 1).unwrap_or_else(|| self.calendar.days_of_week(date)).max(1)
            }
            Width::Days(days @ 1..=6) => (self.calendar.days_of_week(date) / days as usize).max(1),
            Width::Days(days) => (365 / days as usize).max(1),
            Width::Months(months) => (12 / months as usize).max(1),
        }
    }

    /// Bars of the sessions of one trading day.
    fn bars(&self, width: i64, sessions: &[(Instant, Instant)]) -> usize {
        let bars = sessions.iter().map(|&(open, close)| match self.alignment {
            Alignment::Clock { phase } => {
                (close - 1 - phase).div_euclid(width) - (open - phase).div_euclid(width) + 1
            }
            _ => (close - open + width - 1) / width,
        });
        usize::try_from(bars.sum::<i64>()).unwrap_or(0)
    }

    fn shape(&self) -> Shape {
        Shape { width: self.width, alignment: self.alignment }
    }

    /// The zone in which starts are dates.
    fn date_zone(&self) -> Tz {
        match self.alignment {
            Alignment::Labels(labels) => labels.zone(),
            _ => self.calendar.zone(),
        }
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
