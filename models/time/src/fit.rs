//! Which calendar the bars of a series come from, and whether a calendar that was given fits them.

use super::labels::{Labels, label_zone};
use super::{Calendar, DAY, Instant, Width, to_local};
use chrono::{Days, NaiveDate, NaiveTime};

/// Bars below which nothing can be told.
const LEAST: usize = 20;

/// Errors that the best calendar must have fewer than any other.
const MARGIN: usize = 2;

/// How bars lie in a calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// Bars counted.
    pub bars: usize,
    /// Those of them outside of the sessions.
    pub off: usize,
    /// Bars of sessions that are missing between the first and the last.
    pub missing: usize,
}

impl Fit {
    /// How the bars that start at `starts` (ascending, at least two) lie in a calendar.
    pub fn of(calendar: &Calendar, width: Width, starts: &[Instant]) -> Self {
        let bars = starts.len();
        let (off, missing) = match (width, starts) {
            (Width::Micros(width), [first, .., last]) if calendar.never_closes() => {
                (0, at_least_zero((last - first) / width + 1, bars))
            }
            (Width::Micros(width), [first, .., last]) => {
                let sessions = sessions(calendar, *first, last.saturating_add(width));
                let inside = sessions.iter().map(|&(open, close)| {
                    (close.min(last.saturating_add(width)) - open.max(*first) + width - 1)
                        .div_euclid(width)
                        .max(0)
                });
                let expected: i64 = inside.sum();
                let off = off(&sessions, width, starts);
                (off, at_least_zero(expected, bars - off))
            }
            (Width::Days(1), [_, .., _])
                if calendar.never_closes() && starts.windows(2).all(|pair| pair[1] - pair[0] == DAY) =>
            {
                (0, 0)
            }
            (Width::Days(1), [_, .., _]) => {
                let labels = Labels::fit(calendar, width, starts);
                days(calendar, starts.iter().map(|&start| labels.date(calendar, start)), usize::MAX)
            }
            // Weeks and months have sessions in every market.
            _ => (0, 0),
        };
        Self { bars, off, missing }
    }

    /// Bars and places that contradict the calendar.
    fn errors(&self) -> usize {
        self.off + self.missing
    }

    /// Whether nothing contradicts the calendar.
    pub fn is_exact(&self) -> bool {
        self.errors() == 0
    }

    /// Whether people should be told that the bars are not of this market: more of them lie outside of its sessions, or are
    /// missing from them, than errors and pauses of trade explain.
    pub fn is_doubtful(&self, width: Width) -> bool {
        let most = if matches!(width, Width::Micros(_)) { 2 } else { 10 };
        self.bars >= LEAST && (20 * self.off > self.bars || most * self.missing > self.bars + self.missing)
    }

    /// Whether it could be the calendar of the bars.
    fn is_good(&self, width: Width) -> bool {
        match width {
            Width::Micros(_) => 100 * self.off <= self.bars && 10 * self.missing <= self.bars + self.missing,
            _ => 200 * self.off <= self.bars && 100 * self.missing <= self.bars + self.missing,
        }
    }
}

/// What bars say of their calendar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// One of the candidates, by its place among them.
    Certain(usize),
    /// No one, or several between which they do not decide.
    Uncertain(Vec<usize>),
}

/// Whether bars of a width are many and short enough to tell their calendar.
fn tells(width: Width, starts: &[Instant]) -> bool {
    matches!(width, Width::Micros(_) | Width::Days(1)) && starts.len() >= LEAST
}

/// Whether bars tell a calendar, and nothing contradicts this one.
pub fn explains_all(calendar: &Calendar, width: Width, starts: &[Instant]) -> bool {
    tells(width, starts) && Fit::of(calendar, width, starts).is_exact()
}

/// The calendar that bars come from, of several candidates, the first of which counts where they do not contradict it.
///
/// Only daily bars and shorter ones tell: weeks and months have sessions in every market. A candidate must explain nearly every
/// bar and nearly every place without one, and better than any other by [`MARGIN`] errors; of two with the same hours the first counts.
pub fn infer(candidates: &[&Calendar], width: Width, starts: &[Instant]) -> Verdict {
    if !tells(width, starts) {
        return Verdict::Uncertain(Vec::new());
    }
    if candidates.first().is_some_and(|default| explains_all(default, width, starts)) {
        return Verdict::Certain(0);
    }
    let plain = (width == Width::Days(1)).then(|| plain_dates(starts)).flatten();
    let mut good: Vec<(usize, usize)> = Vec::new();
    for (place, calendar) in candidates.iter().enumerate() {
        let (off, missing) = match &plain {
            // More errors than one bar in fifty no fit allows.
            Some(dates) => days(calendar, dates.iter().copied(), dates.len() / 50),
            None if width == Width::Days(1) && !labels_fit(calendar, starts) => continue,
            None => {
                let fit = Fit::of(calendar, width, starts);
                (fit.off, fit.missing)
            }
        };
        let fit = Fit { bars: starts.len(), off, missing };
        let is_twin = || good.iter().any(|&(_, other)| candidates[other].is_same_market(calendar));
        if fit.is_good(width) && !is_twin() {
            good.push((fit.errors(), place));
        }
    }
    good.sort_unstable();
    match good.as_slice() {
        [] => Verdict::Uncertain(Vec::new()),
        [(_, only)] => Verdict::Certain(*only),
        [(best, place), (second, _), ..] if best + MARGIN <= *second => Verdict::Certain(*place),
        // No other is better than the default.
        [(_, 0), ..] => Verdict::Certain(0),
        several => {
            let near = several.iter().take_while(|(errors, _)| *errors < several[0].0 + MARGIN);
            Verdict::Uncertain(near.map(|&(_, place)| place).collect())
        }
    }
}

/// Whether labels are dates, openings or local midnights, as those of the market's days are.
fn labels_fit(calendar: &Calendar, starts: &[Instant]) -> bool {
    let zone = label_zone(calendar.zone(), starts);
    let times = |zone| starts.iter().map(move |&start| to_local(zone, start).time());
    let most = |time: NaiveTime| 2 * times(zone).filter(|&other| other == time).count() > starts.len();
    if most(NaiveTime::MIN) && (zone == calendar.zone() || zone == chrono_tz::Tz::UTC) {
        return true;
    }
    let last = starts.last().map(|&start| to_local(calendar.zone(), start));
    let opening = last.and_then(|last| calendar.trading_day(calendar.date_of(last)));
    let opening = opening.map(|(open, _)| to_local(calendar.zone(), open).time());
    calendar.never_closes() || (zone == calendar.zone() && opening.is_some_and(most))
}

/// The dates of labels most of which are midnight in UTC, as feeds write dates: they are the same in every market.
fn plain_dates(starts: &[Instant]) -> Option<Vec<NaiveDate>> {
    let plain = starts.iter().filter(|start| start.rem_euclid(DAY) == 0).count();
    let dates = || starts.iter().map(|&start| to_local(chrono_tz::Tz::UTC, start).date()).collect();
    (2 * plain > starts.len()).then(dates)
}

/// Daily bars outside of the trading days, and trading days without one; counted until there are more than `most`.
fn days(calendar: &Calendar, dates: impl Iterator<Item = NaiveDate>, most: usize) -> (usize, usize) {
    let (mut off, mut missing) = (0, 0);
    let mut next: Option<NaiveDate> = None;
    for date in dates {
        off += usize::from(!calendar.is_trading_day(date));
        if let Some(next) = next {
            let skipped = next.iter_days().take_while(|&day| day < date);
            missing += skipped.filter(|&day| calendar.is_trading_day(day)).count();
        }
        if off + missing > most {
            break;
        }
        next = date.succ_opt();
    }
    (off, missing)
}

/// The sessions that an interval touches, in order.
fn sessions(calendar: &Calendar, from: Instant, until: Instant) -> Vec<(Instant, Instant)> {
    let date = |at| to_local(calendar.zone(), at).date();
    let first = date(from).checked_sub_days(Days::new(1)).unwrap_or_else(|| date(from));
    let last = date(until).checked_add_days(Days::new(1)).unwrap_or_else(|| date(until));
    let days = first.iter_days().take_while(|&date| date <= last);
    let mut found: Vec<(Instant, Instant)> = Vec::new();
    for date in days {
        let sessions = calendar.sessions_of_day(date);
        found.extend(sessions.iter().filter(|&&(open, close)| open < until && from < close));
    }
    found
}

/// Bars that touch none of the sessions, which are in order.
fn off(sessions: &[(Instant, Instant)], width: i64, starts: &[Instant]) -> usize {
    let mut rest = sessions.iter().peekable();
    let is_off = |&&start: &&Instant| {
        while rest.next_if(|(_, close)| *close <= start).is_some() {}
        rest.peek().is_none_or(|(open, _)| *open >= start.saturating_add(width))
    };
    starts.iter().filter(is_off).count()
}

fn at_least_zero(expected: i64, bars: usize) -> usize {
    usize::try_from(expected).unwrap_or(0).saturating_sub(bars)
}
