//! Times that say by themselves what they are: `2024-01-02 09:30:00.5+01`, `2 Jan 2024`, `20240102T0930`, `2024-Q1`.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, TimeZone};
use chrono_tz::Tz;

use crate::kinds::Timestamp;

/// What a text says of a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Moment {
    /// A day, or the first day of a month, quarter or year: the label of a session or of several, in any zone.
    Day(NaiveDate),
    /// A time of some zone.
    Local(NaiveDateTime),
    Instant(Timestamp),
}

impl Moment {
    /// The instant; a day starts at 00:00 UTC.
    ///
    /// # Errors
    /// A local time that the zone skips.
    pub(super) fn at(self, zone: Option<Tz>) -> Result<Timestamp, String> {
        match self {
            Moment::Day(day) => Ok(day.and_time(NaiveTime::MIN).and_utc()),
            Moment::Local(local) => in_zone(local, zone.unwrap_or(Tz::UTC)),
            Moment::Instant(time) => Ok(time),
        }
    }
}

/// Of the two hours of an autumn night the earlier is meant; the skipped hour of spring does not exist.
fn in_zone(local: NaiveDateTime, zone: Tz) -> Result<Timestamp, String> {
    let time = zone.from_local_datetime(&local).earliest();
    time.map(|t| t.to_utc()).ok_or_else(|| format!("{local} does not exist in {zone}"))
}

/// Reads a text in which the year has four digits and either comes first or stands beside the name of a month; `None` where it
/// is none.
///
/// # Errors
/// A time that its zone skips.
pub(super) fn read(text: &str) -> Result<Option<Moment>, String> {
    let Some((day, rest)) = day(text) else { return Ok(None) };
    followed(day, rest)
}

/// `day` with what follows it in its text: nothing, or a time of the day.
///
/// # Errors
/// A time that its zone skips.
pub(super) fn followed(day: Option<NaiveDate>, rest: &str) -> Result<Option<Moment>, String> {
    let Some(day) = day else { return Ok(None) };
    if rest.is_empty() {
        return Ok(Some(Moment::Day(day)));
    }
    let rest = rest.strip_prefix(['T', 't', ' ']).map(str::trim_start);
    let Some((time, zone)) = rest.and_then(clock) else { return Ok(None) };
    let local = day.and_time(time);
    let zone = zone.trim_start();
    if zone.is_empty() {
        return Ok(Some(Moment::Local(local)));
    }
    if let Some(offset) = offset(zone) {
        return Ok(local.and_local_timezone(offset).single().map(|time| Moment::Instant(time.to_utc())));
    }
    match zone.trim_matches(['[', ']']).parse::<Tz>() {
        Ok(zone) => in_zone(local, zone).map(|time| Some(Moment::Instant(time))),
        Err(_) => Ok(None),
    }
}

/// The day at the beginning of a text, and what follows it.
fn day(text: &str) -> Option<(Option<NaiveDate>, &str)> {
    let (year, rest) = digits(text);
    if year.len() == 4 {
        let year: i32 = year.parse().ok()?;
        return after_year(year, rest);
    }
    if year.len() == 8 && rest.starts_with(['T', 't', ' ']) {
        return Some((NaiveDate::parse_from_str(year, "%Y%m%d").ok(), rest));
    }
    // `01/2024`.
    if let (1..=2, Some((of, ""))) = (year.len(), rest.strip_prefix(['/', '-']).map(digits))
        && of.len() == 4
    {
        return Some((date(of, year.parse().ok()?, "1"), ""));
    }
    quarter_first(text).or_else(|| named(text))
}

/// What stands after a year of four digits: month and day, a month, a quarter.
fn after_year(year: i32, rest: &str) -> Option<(Option<NaiveDate>, &str)> {
    let separator = rest.chars().next()?;
    let inner = rest.trim_start_matches(['-', ' ']);
    if let Some(quarter) = inner.strip_prefix(['Q', 'q']) {
        let (quarter, rest) = digits(quarter);
        return Some((of_quarter(year, quarter), rest));
    }
    if !matches!(separator, '-' | '/' | '.') {
        return None;
    }
    let (month, after) = digits(&rest[1..]);
    if month.is_empty() {
        return named_after_year(year, &rest[1..]);
    }
    let month_number = month.parse().ok()?;
    match after.strip_prefix(separator).map(digits) {
        Some((day, rest)) if (1..=2).contains(&month.len()) && (1..=2).contains(&day.len()) => {
            Some((NaiveDate::from_ymd_opt(year, month_number, day.parse().ok()?), rest))
        }
        // 2024.01 is a number, too.
        None if separator != '.' && month.len() == 2 && after.is_empty() => {
            Some((NaiveDate::from_ymd_opt(year, month_number, 1), ""))
        }
        _ => None,
    }
}

fn of_quarter(year: i32, quarter: &str) -> Option<NaiveDate> {
    let quarter: u32 = quarter.parse().ok().filter(|quarter| (1..=4).contains(quarter))?;
    NaiveDate::from_ymd_opt(year, 3 * quarter - 2, 1)
}

/// `Q1 2024`, `Q1-2024`.
fn quarter_first(text: &str) -> Option<(Option<NaiveDate>, &str)> {
    let (quarter, rest) = digits(text.strip_prefix(['Q', 'q'])?);
    let (year, rest) = digits(rest.trim_start_matches(['-', ' ', '/']));
    (year.len() == 4).then_some((of_quarter(year.parse().ok()?, quarter), rest))
}

/// `2024-Jan-02`, `2024-Jan`.
fn named_after_year(year: i32, text: &str) -> Option<(Option<NaiveDate>, &str)> {
    let (month, rest) = month_name(text)?;
    let (day, after) = digits(rest.trim_start_matches(SEPARATORS));
    if rest.is_empty() {
        return Some((NaiveDate::from_ymd_opt(year, month, 1), rest));
    }
    Some((NaiveDate::from_ymd_opt(year, month, day.parse().ok()?), after))
}

/// What can stand between day, month by its name, and year.
const SEPARATORS: [char; 5] = [' ', '-', '/', ',', '.'];

/// `2 Jan 2024`, `02-JAN-2024`, `02Jan2024`, `Jan 2, 2024`, `January 2024`, a day of the week before it aside.
fn named(text: &str) -> Option<(Option<NaiveDate>, &str)> {
    let text = match text.split_once([',', ' ']) {
        Some((first, rest)) if is_weekday(first) => rest.trim_start_matches(SEPARATORS),
        _ => text,
    };
    let (first, rest) = digits(text);
    let (month, rest) = month_name(rest.trim_start_matches(SEPARATORS))?;
    let (second, after) = digits(rest.trim_start_matches(SEPARATORS));
    if !first.is_empty() {
        let is_whole = first.len() <= 2 && second.len() == 4;
        return is_whole.then_some((date(second, month, first), after));
    }
    if second.len() == 4 {
        return Some((NaiveDate::from_ymd_opt(second.parse().ok()?, month, 1), after));
    }
    let (year, rest) = digits(after.trim_start_matches(SEPARATORS));
    (year.len() == 4 && second.len() <= 2).then_some((date(year, month, second), rest))
}

fn date(year: &str, month: u32, day: &str) -> Option<NaiveDate> {
    NaiveDate::from_ymd_opt(year.parse().ok()?, month, day.parse().ok()?)
}

fn is_weekday(text: &str) -> bool {
    text.parse::<chrono::Weekday>().is_ok()
}

/// The number of the month at the beginning of a text, by its English name or the first letters of it.
fn month_name(text: &str) -> Option<(u32, &str)> {
    let length = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (name, rest) = text.split_at(length);
    let month: chrono::Month = name.parse().ok()?;
    Some((month.number_from_month(), rest))
}

/// The digits at the beginning of a text, and the rest.
pub(super) fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// The time of the day at the beginning of a text, and the rest: `9:30`, `09:30:00.123`, `9:30 PM`, `0930`, `093000`,
/// `093000123`.
pub(super) fn clock(text: &str) -> Option<(NaiveTime, &str)> {
    let (first, rest) = digits(text);
    if let 4 | 6 | 9 = first.len() {
        let (fraction, rest) = fraction(rest)?;
        let nanos = if first.len() == 9 { first[6..].parse::<u32>().ok()? * 1_000_000 } else { fraction };
        let second = if first.len() == 4 { 0 } else { first[4..6].parse().ok()? };
        return Some((time(first[..2].parse().ok()?, first[2..4].parse().ok()?, second, nanos)?, rest));
    }
    let (minute, rest) = digits(rest.strip_prefix(':')?);
    let (second, rest) = rest.strip_prefix(':').map_or(("0", rest), digits);
    if first.is_empty() || first.len() > 2 || minute.len() != 2 || second.is_empty() || second.len() > 2 {
        return None;
    }
    let (nanos, rest) = fraction(rest)?;
    let (hour, rest) = of_half(first.parse().ok()?, rest)?;
    Some((time(hour, minute.parse().ok()?, second.parse().ok()?, nanos)?, rest))
}

/// The hour of the day, where the half of the day follows the time.
fn of_half(hour: u32, rest: &str) -> Option<(u32, &str)> {
    let half = rest.trim_start();
    let Some(after) = half.get(..2) else { return Some((hour, rest)) };
    let is_afternoon = match after {
        "AM" | "am" => false,
        "PM" | "pm" => true,
        _ => return Some((hour, rest)),
    };
    (1..=12).contains(&hour).then_some((hour % 12 + if is_afternoon { 12 } else { 0 }, &half[2..]))
}

/// Nanoseconds after a point or comma, and the rest.
fn fraction(text: &str) -> Option<(u32, &str)> {
    let Some(text) = text.strip_prefix(['.', ',']) else { return Some((0, text)) };
    let (digits, rest) = digits(text);
    let kept = &digits[..digits.len().min(9)];
    let nanos = kept.parse::<u32>().ok()? * 10u32.pow(9 - u32::try_from(kept.len()).ok()?);
    Some((nanos, rest))
}

/// Kept to the microsecond, as PostgreSQL does. The second 60 of a leap is the first of the next minute.
fn time(hour: u32, minute: u32, second: u32, nanos: u32) -> Option<NaiveTime> {
    let nanos = nanos / 1_000 * 1_000;
    match second {
        60 => NaiveTime::from_hms_nano_opt(hour, minute, 59, 1_000_000_000 + nanos),
        _ => NaiveTime::from_hms_nano_opt(hour, minute, second, nanos),
    }
}

/// `Z`, `+01`, `+0130`, `+01:30`.
fn offset(text: &str) -> Option<FixedOffset> {
    if let "Z" | "z" = text {
        return FixedOffset::east_opt(0);
    }
    let (is_west, rest) = match text.as_bytes().first()? {
        b'+' => (false, &text[1..]),
        b'-' => (true, &text[1..]),
        _ => return None,
    };
    let (hours, rest) = digits(rest);
    let (hours, minutes) = match (hours.len(), rest) {
        (2, "") => (hours, "0"),
        (4, "") => hours.split_at(2),
        (2, minutes) => (hours, minutes.strip_prefix(':').filter(|minutes| minutes.len() == 2)?),
        _ => return None,
    };
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let seconds = hours * 3_600 + minutes * 60;
    (minutes < 60).then(|| FixedOffset::east_opt(if is_west { -seconds } else { seconds }))?
}

/// `time` for people.
pub(super) fn shown(time: Timestamp) -> String {
    match time.time() == NaiveTime::MIN {
        true => time.date_naive().to_string(),
        false => DateTime::to_rfc3339_opts(&time, chrono::SecondsFormat::AutoSi, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<String> {
        let moment = read(text).ok().flatten()?;
        Some(shown(moment.at(Some(chrono_tz::America::New_York)).ok()?))
    }

    #[test]
    fn times_of_every_common_form_are_read() {
        for (text, expected) in [
            ("2024-01-02", "2024-01-02"),
            ("2024/1/2", "2024-01-02"),
            ("2024.01.02", "2024-01-02"),
            ("2024-01", "2024-01-01"),
            ("02/2024", "2024-02-01"),
            ("2024-Q2", "2024-04-01"),
            ("2024Q4", "2024-10-01"),
            ("Q1 2024", "2024-01-01"),
            ("2 Jan 2024", "2024-01-02"),
            ("02-JAN-2024", "2024-01-02"),
            ("02Jan2024", "2024-01-02"),
            ("January 2, 2024", "2024-01-02"),
            ("2024-Jan-02", "2024-01-02"),
            ("Jan 2024", "2024-01-01"),
            ("Tue, 02 Jan 2024 00:00:00 GMT", "2024-01-02"),
            // A time without a zone is one of the zone that the user names: here New York, in winter.
            ("2024-01-02 09:30", "2024-01-02T14:30:00Z"),
            ("2024.01.02 09:30:15.5", "2024-01-02T14:30:15.500Z"),
            ("2024-01-02 9:30:00 PM", "2024-01-03T02:30:00Z"),
            ("20240102 093000", "2024-01-02T14:30:00Z"),
            ("20240102 093000123", "2024-01-02T14:30:00.123Z"),
            ("2 Jan 2024 12:05 AM", "2024-01-02T05:05:00Z"),
            ("2024-01-02T09:30:00Z", "2024-01-02T09:30:00Z"),
            ("2024-01-02 09:30:00 UTC", "2024-01-02T09:30:00Z"),
            ("2024-01-02 09:30:00+00", "2024-01-02T09:30:00Z"),
            ("2024-01-02T09:30:00.123456789+0530", "2024-01-02T04:00:00.123456Z"),
            ("2024-01-02T09:30:00,123-05:00", "2024-01-02T14:30:00.123Z"),
            ("20240102T093000Z", "2024-01-02T09:30:00Z"),
            ("2024-07-01 09:30 Europe/Berlin", "2024-07-01T07:30:00Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:60Z"),
        ] {
            assert_eq!(at(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_or_could_be_two_is_none() {
        for text in [
            "",
            "soon",
            "20240102",
            "2024",
            "01/02/2024",
            "1.2.2024",
            "2024-13-01",
            "2024-02-30",
            "2024-1",
            "2024-Q5",
            "2024.01",
            "2024-01-02 25:00",
            "2024-01-02 09:30 13",
            "2024-01-02 13:30 PM",
            "2024-01-02 09:30 PST",
            "2024-01/02",
            "02-Jan-24",
            "2024-01-02 09:30:00+25:00",
            "2024-01-02x",
            "2024-01-02 09:3",
            "24-01-02",
            "Foo 2, 2024",
        ] {
            assert_eq!(read(text), Ok(None), "{text}");
        }
        // The clocks of New York go from 02:00 to 03:00 in March, and from 02:00 back to 01:00 in November.
        let new_york = Some(chrono_tz::America::New_York);
        let local = |text: &str| read(text).unwrap().unwrap().at(new_york);
        assert!(local("2024-03-10 02:30:00").is_err());
        let first = local("2024-11-03 01:30:00").unwrap();
        assert_eq!(shown(first), "2024-11-03T05:30:00Z", "of the two the earlier");
    }
}
