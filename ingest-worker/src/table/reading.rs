//! What a number, or a date such as 01/02/2024, can mean as a time.

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime};
use rust_decimal::Decimal;

use super::instant::{Moment, clock, digits, followed};
use crate::{
    exact::{decimal, micros},
    kinds::Timestamp,
};

/// One way of reading a text that does not say by itself which time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Unix,
    UnixMillis,
    UnixMicros,
    UnixNanos,
    /// Days as Excel counts them: 45293 is 2024-01-02.
    Excel,
    Year,
    Month,
    Date,
    Hour,
    Minute,
    Second,
    /// `93000`: no time, unless a day stands beside it.
    Clock,
    DayFirst,
    MonthFirst,
}

/// Every reading, in the order of [`Reading`], and its name in `--time-format` and in messages.
const READINGS: [(Reading, &str); 14] = [
    (Reading::Unix, "unix"),
    (Reading::UnixMillis, "unix-ms"),
    (Reading::UnixMicros, "unix-us"),
    (Reading::UnixNanos, "unix-ns"),
    (Reading::Excel, "excel"),
    (Reading::Year, "yyyy"),
    (Reading::Month, "yyyymm"),
    (Reading::Date, "yyyymmdd"),
    (Reading::Hour, "yyyymmddhh"),
    (Reading::Minute, "yyyymmddhhmm"),
    (Reading::Second, "yyyymmddhhmmss"),
    (Reading::Clock, "time of the day"),
    (Reading::DayFirst, "day-first"),
    (Reading::MonthFirst, "month-first"),
];

/// Years in which the labels of a file can lie.
const YEARS: std::ops::RangeInclusive<i32> = 1800..=2200;
/// The first instant that a number without a word about it can be by Unix or Excel: 1980-01-01, in seconds.
const FIRST: i64 = 315_532_800;
/// Excel's number of 1970-01-01.
const EXCEL_EPOCH: i64 = 25_569;

impl Reading {
    pub(super) fn name(self) -> &'static str {
        READINGS[self as usize].1
    }

    /// The reading of that name, for times that are told.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        let found = READINGS.iter().find(|(reading, known)| *known == name && *reading != Reading::Clock);
        found.map(|(reading, _)| *reading)
    }

    /// The names that can be told.
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        READINGS.iter().filter(|(reading, _)| *reading != Reading::Clock).map(|(_, name)| *name)
    }

    /// What `text` means in this reading; `None` where it cannot be read so.
    pub(super) fn moment(self, text: &str) -> Option<Moment> {
        let instant = |per_second| unix(text, per_second).map(Moment::Instant);
        let compact = |length, then: &str| {
            let text = whole(text).filter(|text| text.len() == length)?;
            let month = text.get(4..6).unwrap_or("01").parse().ok()?;
            let day = text.get(6..8).unwrap_or("01").parse().ok()?;
            let day = NaiveDate::from_ymd_opt(text[..4].parse().ok()?, month, day)?;
            match text.get(8..) {
                Some(time) if !time.is_empty() => {
                    let (time, _) = clock(&format!("{time}{then}"))?;
                    Some(Moment::Local(day.and_time(time)))
                }
                _ => Some(Moment::Day(day)),
            }
        };
        match self {
            Reading::Unix => instant(1),
            Reading::UnixMillis => instant(1_000),
            Reading::UnixMicros => instant(1_000_000),
            Reading::UnixNanos => instant(1_000_000_000),
            Reading::Excel => excel(text),
            Reading::Year => compact(4, ""),
            Reading::Month => compact(6, ""),
            Reading::Date => compact(8, ""),
            Reading::Hour => compact(10, "00"),
            Reading::Minute => compact(12, ""),
            Reading::Second => compact(14, ""),
            Reading::Clock => None,
            Reading::DayFirst => divided(text).and_then(|d| d.moment(d.second, d.first)),
            Reading::MonthFirst => divided(text).and_then(|d| d.moment(d.first, d.second)),
        }
    }

    /// Whether `text`, read so, is a time that a file loaded at `now` can be thought to have.
    pub(super) fn is_plausible(self, text: &str, now: Timestamp) -> bool {
        if self == Reading::Clock {
            return self::time_of_day(text, text.len() > 4).is_some();
        }
        match self.moment(text) {
            Some(Moment::Day(day)) if self != Reading::Excel => YEARS.contains(&day.year()),
            Some(Moment::Local(local)) if self != Reading::Excel => YEARS.contains(&local.year()),
            Some(moment) => {
                let last = now.checked_add_days(Days::new(366)).unwrap_or(Timestamp::MAX_UTC);
                moment.at(None).is_ok_and(|time| time.timestamp() >= FIRST && time <= last)
            }
            None => false,
        }
    }

    /// The readings, as bits, in which `text` is plausible.
    pub(super) fn plausible(text: &str, now: Timestamp) -> u16 {
        let fits = READINGS.iter().filter(|(reading, _)| reading.is_plausible(text, now));
        fits.fold(0, |bits, (reading, _)| bits | reading.bit())
    }

    /// Every reading as bits.
    pub(super) const ALL: u16 = (1 << READINGS.len()) - 1;

    pub(super) fn bit(self) -> u16 {
        1 << self as u16
    }

    /// The one reading that is in `bits`.
    pub(super) fn alone_in(bits: u16) -> Option<Self> {
        READINGS.iter().map(|(reading, _)| *reading).find(|reading| reading.bit() == bits)
    }

    /// The readings in which `text` is a time at all, the plausible ones where there are some.
    pub(super) fn possible(text: &str, now: Timestamp) -> Vec<(Self, Moment)> {
        let all: Vec<_> =
            READINGS.iter().filter_map(|(reading, _)| Some((*reading, reading.moment(text)?))).collect();
        let plausible: Vec<_> =
            all.iter().copied().filter(|(reading, _)| reading.is_plausible(text, now)).collect();
        if plausible.is_empty() { all } else { plausible }
    }
}

/// Whether a text is a number, or a date whose day and month cannot be told apart by its form.
pub(super) fn is_open(text: &str) -> bool {
    is_number(text) || divided(text).is_some()
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    !whole.is_empty() && [whole, fraction].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A number without a sign and without a fraction; programs that know no missing integer write 20240102.0.
fn whole(text: &str) -> Option<&str> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_whole =
        whole.bytes().all(|byte| byte.is_ascii_digit()) && fraction.bytes().all(|byte| byte == b'0');
    is_whole.then_some(whole)
}

fn unix(text: &str, per_second: i64) -> Option<Timestamp> {
    if let Ok(units) = text.parse::<i64>() {
        let whole = i128::from(units) * 1_000_000;
        return micros(i64::try_from(whole.div_euclid(i128::from(per_second))).ok()?);
    }
    let units = decimal(text).ok()?;
    let scaled = units.checked_mul(Decimal::from(1_000_000))?.checked_div(Decimal::from(per_second))?;
    micros(i64::try_from(scaled.floor()).ok()?)
}

/// A fraction of a day of seven digits or less is good to the second, of more to the millisecond.
fn excel(text: &str) -> Option<Moment> {
    let days = decimal(text).ok()?;
    let whole = i64::try_from(days.floor()).ok()?;
    let day = DateTime::from_timestamp(whole.checked_sub(EXCEL_EPOCH)?.checked_mul(86_400)?, 0)?.date_naive();
    let fraction = days.checked_sub(days.floor())?;
    if fraction.is_zero() {
        return Some(Moment::Day(day));
    }
    let unit = if days.scale() > 7 { 1 } else { 1_000 };
    let units = (fraction * Decimal::from(86_400_000 / unit)).round();
    let millis = i64::try_from(units).ok()? * unit;
    let midnight = day.and_time(NaiveTime::MIN);
    midnight.checked_add_signed(chrono::TimeDelta::milliseconds(millis)).map(Moment::Local)
}

/// A date of two numbers of one or two digits and a year: `01/02/2024 09:30`.
#[derive(Clone, Copy, Debug)]
struct Divided<'t> {
    first: u32,
    second: u32,
    year: i32,
    /// What follows the date.
    rest: &'t str,
}

impl Divided<'_> {
    fn moment(self, month: u32, day: u32) -> Option<Moment> {
        followed(NaiveDate::from_ymd_opt(self.year, month, day), self.rest).ok().flatten()
    }
}

fn divided(text: &str) -> Option<Divided<'_>> {
    let (first, rest) = digits(text);
    let separator = rest.chars().next().filter(|c| matches!(c, '/' | '-' | '.'))?;
    let (second, rest) = digits(&rest[1..]);
    let (year, rest) = digits(rest.strip_prefix(separator)?);
    let are_short = (1..=2).contains(&first.len()) && (1..=2).contains(&second.len());
    (are_short && year.len() == 4).then_some(Divided {
        first: first.parse().ok()?,
        second: second.parse().ok()?,
        year: year.parse().ok()?,
        rest,
    })
}

/// A time of the day as a number, of hours and minutes or of these and seconds, whose leading zeros may be gone.
pub(super) fn time_of_day(text: &str, has_seconds: bool) -> Option<NaiveTime> {
    let text = whole(text).filter(|text| !text.is_empty())?;
    let width = if has_seconds { 6 } else { 4 };
    match text.len() {
        9 => clock(text).map(|(time, _)| time),
        length if length <= width => clock(&format!("{text:0>width$}")).map(|(time, _)| time),
        _ => None,
    }
}
