//! Labels of daily and longer bars: which day, week or month of the market each belongs to, and the label of the next.
//!
//! Vendors label the same month by its first day, its first or its last business day or its last day, the same session by its
//! date, its opening or the midnight before it. So a label is matched to a unit of the calendar, and units are counted; a rule
//! found in the labels themselves says where in its unit the next one lies.

use super::width::{days_of_month, mode, next_date};
use super::{Calendar, Instant, LONGEST_CLOSURE, Width, to_instant, to_local};
use chrono::{Datelike, Days, NaiveDate, NaiveTime, Timelike, Weekday};
use chrono_tz::{America, Australia, Europe, Pacific, Tz};

/// Zones whose local midnights are tried for labels that are midnight neither in the market's zone nor in UTC: those with
/// changes of the clocks, which labels over such a change give away.
const ZONES: [Tz; 8] = [
    America::New_York,
    America::Chicago,
    America::Los_Angeles,
    Europe::London,
    Europe::Berlin,
    Europe::Athens,
    Australia::Sydney,
    Pacific::Auckland,
];

/// The zone in which labels of daily and longer bars are dates: the market's, unless most of them are midnight in UTC and not
/// in the market's zone, as feeds write plain dates, or all of them midnight in another zone over a change of its clocks.
pub fn label_zone(zone: Tz, starts: &[Instant]) -> Tz {
    let midnights =
        |zone| starts.iter().filter(|&&start| to_local(zone, start).time() == NaiveTime::MIN).count();
    if 2 * midnights(zone) > starts.len() {
        return zone;
    }
    if 2 * midnights(Tz::UTC) > starts.len() {
        return Tz::UTC;
    }
    let varies = |zone| {
        let mut times = starts.iter().map(|&start| to_local(zone, start).time());
        let first = times.next();
        times.any(|time| Some(time) != first)
    };
    if !varies(zone) || !varies(Tz::UTC) {
        return zone;
    }
    ZONES.into_iter().find(|&zone| midnights(zone) == starts.len()).unwrap_or(zone)
}

/// Where a label lies in its week, on days on which the usual weekday has no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shift {
    None,
    Later,
    Earlier,
}

/// Which days a label of a month is counted among.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Among {
    TradingDays,
    Weekdays,
}

/// Where a label lies in its month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    /// On a day of the month, or its last where it has none.
    Day(u32),
    /// On its last day.
    End,
    First(Among),
    Last(Among),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Days(u32),
    /// Weeks, a usual label of which lies on `anchor`.
    Weeks {
        count: u32,
        anchor: NaiveDate,
        shift: Shift,
    },
    /// Months, one of which has the number `anchor`, counted from the year 0.
    Months {
        count: u32,
        anchor: i32,
        on: On,
    },
}

/// How the labels of one series are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Labels {
    zone: Tz,
    /// Time of day of the labels.
    time: NaiveTime,
    unit: Unit,
}

impl Labels {
    /// Finds how the labels of `starts` (ascending) of bars of days or months are made.
    pub fn fit(calendar: &Calendar, width: Width, starts: &[Instant]) -> Self {
        let zone = label_zone(calendar.zone(), starts);
        let time = starts.last().map_or(NaiveTime::MIN, |&start| to_local(zone, start).time());
        let mut labels = Self { zone, time, unit: Unit::Days(1) };
        let dates: Vec<NaiveDate> = starts.iter().map(|&start| labels.date(calendar, start)).collect();
        labels.unit = match width {
            Width::Days(days) if days % 7 == 0 => weeks(days / 7, &dates),
            Width::Days(days) => Unit::Days(days),
            Width::Months(count) => Unit::Months {
                count,
                anchor: dates.last().map_or(0, |&date| month(date)),
                on: on(calendar, &dates),
            },
            Width::Micros(_) => labels.unit,
        };
        labels
    }

    /// The zone in which the labels are dates.
    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The date of the trading day that a label means.
    pub fn date(&self, calendar: &Calendar, start: Instant) -> NaiveDate {
        let local = to_local(self.zone, start);
        if self.zone == calendar.zone() { calendar.date_of(local) } else { local.date() }
    }

    /// The label of the unit that is labelled on a date.
    fn label(&self, calendar: &Calendar, date: NaiveDate) -> Instant {
        let evening = i64::from(calendar.evening().unwrap_or(i32::MAX));
        let is_before =
            self.zone == calendar.zone() && i64::from(self.time.num_seconds_from_midnight()) >= evening;
        let date = if is_before { date.pred_opt().unwrap_or(date) } else { date };
        to_instant(self.zone, date.and_time(self.time))
    }

    /// The label after one; `None` where the market stays closed.
    pub fn after(&self, calendar: &Calendar, start: Instant) -> Option<Instant> {
        self.next(calendar, self.date(calendar, start)).map(|date| self.label(calendar, date))
    }

    /// Whether the bar that starts at `next` starts before the one at `start`, the bar before it, has ended.
    pub fn overlap(&self, calendar: &Calendar, start: Instant, next: Instant) -> bool {
        let (date, next) = (self.date(calendar, start), self.date(calendar, next));
        let least = if let Unit::Days(days) = self.unit { i64::from(days) } else { 1 };
        self.number(next) - self.number(date) < least
    }

    /// Whether a label belongs to a later unit than another.
    pub fn is_later(&self, calendar: &Calendar, start: Instant, than: Instant) -> bool {
        self.number(self.date(calendar, start)) > self.number(self.date(calendar, than))
    }

    /// The end of a bar: the close of its last session, or where it has none its label one width later.
    pub fn end(&self, calendar: &Calendar, start: Instant) -> Instant {
        let last = self.last_date(calendar, self.date(calendar, start));
        let closes = || {
            let mut back = std::iter::successors(Some(last), NaiveDate::pred_opt).take(LONGEST_CLOSURE);
            back.find_map(|date| calendar.trading_day(date)).map(|(_, close)| close)
        };
        if !calendar.never_closes()
            && let Some(close) = closes().filter(|&close| close > start)
        {
            return close;
        }
        let local = to_local(self.zone, start);
        // A label in the evening bears the date after its own.
        let ahead = self.date(calendar, start).signed_duration_since(local.date());
        let date = last.succ_opt().and_then(|date| date.checked_sub_signed(ahead));
        date.map_or(Instant::MAX, |date| to_instant(self.zone, date.and_time(local.time())))
    }

    /// Whether the market opens at all during the bar.
    pub fn is_open(&self, calendar: &Calendar, start: Instant) -> bool {
        let date = self.date(calendar, start);
        match self.unit {
            Unit::Days(days) => opens(calendar, date, days),
            Unit::Weeks { .. } | Unit::Months { .. } => self.is_open_unit(calendar, self.number(date)),
        }
    }

    /// The number of the unit that a date belongs to.
    fn number(&self, date: NaiveDate) -> i64 {
        match self.unit {
            Unit::Days(_) => date.num_days_from_ce().into(),
            Unit::Weeks { count, anchor, .. } => {
                let weeks = (days_between(anchor, date) + 3).div_euclid(7);
                (weeks + i64::from(count / 2)).div_euclid(count.into())
            }
            Unit::Months { count, anchor, .. } => {
                let months = i64::from(month(date) - anchor);
                (months + i64::from(count / 2)).div_euclid(count.into())
            }
        }
    }

    /// The date after which a bar labelled on a date is complete.
    fn last_date(&self, calendar: &Calendar, date: NaiveDate) -> NaiveDate {
        let before = |date: Option<NaiveDate>| date.and_then(|date| date.pred_opt());
        let found = match self.unit {
            Unit::Days(days @ 2..=6) if !calendar.never_closes() => {
                let sessions =
                    date.iter_days().take(LONGEST_CLOSURE).filter(|&date| calendar.is_trading_day(date));
                sessions.take(days as usize).last()
            }
            Unit::Days(days) => date.checked_add_days(Days::new(u64::from(days) - 1)),
            Unit::Weeks { shift: Shift::Earlier, .. } => self.usual(self.number(date)),
            Unit::Weeks { .. } => before(self.usual(self.number(date) + 1)),
            Unit::Months { on: On::End | On::Last(_), .. } => {
                days_of_month(date).and_then(|length| date.with_day(length))
            }
            Unit::Months { .. } => before(self.place(calendar, self.number(date) + 1)),
        };
        found.unwrap_or(date)
    }

    /// The date on which the first unit is labelled after that of `date` in which the market opens.
    fn next(&self, calendar: &Calendar, date: NaiveDate) -> Option<NaiveDate> {
        let later = date.iter_days().skip(1).take(LONGEST_CLOSURE);
        match self.unit {
            Unit::Days(days @ 1..=6) if !calendar.never_closes() => {
                let mut next = date;
                for _ in 0..days {
                    let mut later = next.iter_days().skip(1).take(LONGEST_CLOSURE);
                    next = later.find(|&date| calendar.is_trading_day(date))?;
                }
                Some(next)
            }
            Unit::Days(days) => {
                let mut steps = later.skip(days as usize - 1).step_by(days as usize);
                steps.find(|&date| opens(calendar, date, days)).or_else(|| {
                    // Bars of more than a year.
                    next_date(Width::Days(days), date, 1).filter(|&date| opens(calendar, date, days))
                })
            }
            Unit::Weeks { .. } | Unit::Months { .. } => {
                let number = self.number(date);
                let next = (number + 1..)
                    .take(LONGEST_CLOSURE / 7)
                    .find(|&number| self.is_open_unit(calendar, number))?;
                self.place(calendar, next)
            }
        }
    }

    /// Whether the market opens in a week or month.
    fn is_open_unit(&self, calendar: &Calendar, number: i64) -> bool {
        let Some(usual) = self.usual(number) else { return false };
        match self.unit {
            Unit::Days(_) => opens(calendar, usual, 1),
            Unit::Weeks { count, shift, .. } => {
                let back = if shift == Shift::Earlier { 7 * count - 1 } else { 0 };
                let first = usual.checked_sub_days(Days::new(back.into()));
                first.is_some_and(|first| opens(calendar, first, 7 * count))
            }
            Unit::Months { count, on, .. } => {
                // A label at the end is that of the last of its months.
                let back = if matches!(on, On::End | On::Last(_)) { count - 1 } else { 0 };
                let first =
                    usual.with_day(1).and_then(|first| first.checked_sub_months(chrono::Months::new(back)));
                let end = first.and_then(|first| first.checked_add_months(chrono::Months::new(count)));
                first.zip(end).is_some_and(|(first, end)| {
                    opens(calendar, first, u32::try_from(days_between(first, end)).unwrap_or(1))
                })
            }
        }
    }

    /// The date of a unit's label on a market that opens every day.
    fn usual(&self, number: i64) -> Option<NaiveDate> {
        match self.unit {
            Unit::Days(_) => NaiveDate::from_num_days_from_ce_opt(i32::try_from(number).ok()?),
            Unit::Weeks { count, anchor, .. } => {
                anchor.checked_add_signed(chrono::TimeDelta::try_days(7 * i64::from(count) * number)?)
            }
            Unit::Months { count, anchor, on } => {
                let months = i64::from(anchor) + i64::from(count) * number;
                let (year, month) = (months.div_euclid(12), months.rem_euclid(12));
                let first =
                    NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, u32::try_from(month).ok()? + 1, 1)?;
                let length = days_of_month(first)?;
                first.with_day(match on {
                    On::Day(day) => day.min(length),
                    On::End | On::Last(_) => length,
                    On::First(_) => 1,
                })
            }
        }
    }

    /// The date of a unit's label.
    fn place(&self, calendar: &Calendar, number: i64) -> Option<NaiveDate> {
        let usual = self.usual(number)?;
        let (among, forward) = match self.unit {
            Unit::Weeks { shift: Shift::Later, .. } => (Among::TradingDays, true),
            Unit::Weeks { shift: Shift::Earlier, .. } => (Among::TradingDays, false),
            Unit::Months { on: On::First(among), .. } => (among, true),
            Unit::Months { on: On::Last(among), .. } => (among, false),
            _ => return Some(usual),
        };
        let most = if matches!(self.unit, Unit::Weeks { .. }) { 7 } else { days_of_month(usual)? };
        Some(nearest(calendar, usual, among, forward, most).unwrap_or(usual))
    }
}

/// The first of so many dates from one on, forward or back, that is among the trading days or weekdays.
fn nearest(
    calendar: &Calendar,
    date: NaiveDate,
    among: Among,
    forward: bool,
    most: u32,
) -> Option<NaiveDate> {
    let is_one = |date: &NaiveDate| match among {
        Among::TradingDays => calendar.is_trading_day(*date),
        Among::Weekdays => !matches!(date.weekday(), Weekday::Sat | Weekday::Sun),
    };
    let step = |&date: &NaiveDate| if forward { date.succ_opt() } else { date.pred_opt() };
    std::iter::successors(Some(date), step).take(most as usize).find(is_one)
}

/// Whether the market opens on any of so many dates from one on.
fn opens(calendar: &Calendar, first: NaiveDate, dates: u32) -> bool {
    first.iter_days().take(dates as usize).any(|date| calendar.is_trading_day(date))
}

fn days_between(first: NaiveDate, last: NaiveDate) -> i64 {
    last.signed_duration_since(first).num_days()
}

/// The number of a month, counted from the year 0.
fn month(date: NaiveDate) -> i32 {
    date.year() * 12 + i32::try_from(date.month0()).unwrap_or(0)
}

/// Weeks, from the weekday of most labels; those on other days are of the nearest week.
fn weeks(count: u32, dates: &[NaiveDate]) -> Unit {
    let usual = mode(dates.iter().map(|date| date.weekday().num_days_from_monday())).unwrap_or(0);
    let distance = |date: NaiveDate| {
        (i64::from(date.weekday().num_days_from_monday()) - i64::from(usual) + 3).rem_euclid(7) - 3
    };
    let (later, earlier) = dates.iter().fold((0, 0), |(later, earlier), &date| {
        (later + usize::from(distance(date) > 0), earlier + usize::from(distance(date) < 0))
    });
    let shift = match later.cmp(&earlier) {
        std::cmp::Ordering::Greater => Shift::Later,
        std::cmp::Ordering::Less => Shift::Earlier,
        std::cmp::Ordering::Equal => Shift::None,
    };
    let last = dates.last().copied().unwrap_or_default();
    let anchor = last.checked_sub_signed(chrono::TimeDelta::days(distance(last))).unwrap_or(last);
    Unit::Weeks { count: count.max(1), anchor, shift }
}

/// Where labels lie in their months: on one day of the month if they all do, else where most of them do.
fn on(calendar: &Calendar, dates: &[NaiveDate]) -> On {
    let day = dates.iter().map(|date| date.day()).max().unwrap_or(1);
    let is_last = |date: &NaiveDate| days_of_month(*date) == Some(date.day());
    if dates.len() > 1 && dates.iter().all(is_last) {
        return On::End;
    }
    if dates.iter().all(|&date| next_date(Width::Months(0), date, day) == Some(date)) {
        return On::Day(day);
    }
    let matches = |on: &On| {
        let matching = |&&date: &&NaiveDate| {
            let (among, forward) = match on {
                On::First(among) => (*among, true),
                On::Last(among) => (*among, false),
                On::Day(_) | On::End => return false,
            };
            let Some(length) = days_of_month(date) else { return false };
            let edge = date.with_day(if forward { 1 } else { length });
            edge.and_then(|edge| nearest(calendar, edge, among, forward, length)) == Some(date)
        };
        dates.iter().filter(matching).count()
    };
    let mut rules = vec![On::First(Among::Weekdays), On::Last(Among::Weekdays)];
    if !calendar.never_closes() {
        // The last of equals is taken.
        rules.extend([On::First(Among::TradingDays), On::Last(Among::TradingDays)]);
    }
    let best = rules.into_iter().max_by_key(matches);
    best.filter(|best| 2 * matches(best) > dates.len()).unwrap_or(On::Day(day))
}
