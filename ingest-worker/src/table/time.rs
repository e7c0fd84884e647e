//! The times of a file.
//!
//! A number is a time only in a reading that somebody names (`--time-format`, the name of the column) or that all numbers of the
//! column share and that is the only one: 20240102 is a day, and not a second of August 1970. Day and month of 01/02/2024 are
//! told apart in the same way, by a 25/02/2024 elsewhere in the file. What stays open is refused, with the readings it could have.

use chrono::{
    Datelike,
    format::{Item, Parsed, StrftimeItems, parse},
};
use chrono_tz::Tz;

use super::{
    instant::{self, Moment, shown},
    reading::{Reading, is_open, time_of_day},
};
use crate::kinds::Timestamp;

/// How times are written, as the user says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    Reading(Reading),
    /// A pattern of strftime.
    Pattern(String),
}

impl TimeFormat {
    /// Reads a name of a reading, or a pattern with `%`.
    ///
    /// # Errors
    /// A text that is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(reading) = Reading::of_name(text) {
            return Ok(TimeFormat::Reading(reading));
        }
        if text.contains('%') && !StrftimeItems::new(text).any(|item| matches!(item, Item::Error)) {
            return Ok(TimeFormat::Pattern(text.to_owned()));
        }
        let names: Vec<_> = Reading::names().collect();
        Err(format!("\"{text}\" is none of {}, and no pattern such as %d.%m.%Y", names.join(", ")))
    }
}

/// How the times of a column are read; what its rows so far leave open.
#[derive(Clone, Debug)]
pub(super) struct Times {
    told: Option<TimeFormat>,
    zone: Option<Tz>,
    /// The latest time that can be thought of is a year after this.
    now: Timestamp,
    /// Readings that the name of the column allows.
    allowed: u16,
    /// Those that the numbers so far have in common.
    open: u16,
    has_numbers: bool,
    /// Whether times of the day that are numbers, in a column of their own, count seconds, as far as it is known.
    clock_has_seconds: Option<bool>,
}

/// Names of columns that hold no times of the day.
const DATES: [&str; 7] = ["date", "day", "ds", "datetime", "timestamp", "timestamps", "ts"];

impl Times {
    /// For a column called `name`, in lower case.
    pub(super) fn new(told: Option<TimeFormat>, zone: Option<Tz>, name: &str, now: Timestamp) -> Self {
        let unix = [Reading::Unix, Reading::UnixMillis, Reading::UnixMicros, Reading::UnixNanos];
        let all = unix.iter().fold(0, |bits, reading| bits | reading.bit());
        let allowed = match name {
            _ if says_unix(name) => all,
            _ if DATES.contains(&name) => Reading::ALL & !Reading::Clock.bit(),
            _ => Reading::ALL,
        };
        let told = told.or_else(|| unit_of(name).map(TimeFormat::Reading));
        Times { told, zone, now, allowed, open: allowed, has_numbers: false, clock_has_seconds: None }
    }

    /// Takes notice of how `text` is written.
    pub(super) fn learn(&mut self, text: &str) {
        if self.told.is_none() && is_open(text) {
            let plausible = Reading::plausible(text, self.now) & self.allowed;
            // What is nothing in any reading says nothing of the others, and is refused alone.
            if plausible != 0 {
                self.open &= plausible;
                self.has_numbers = true;
            }
        }
    }

    /// Takes notice of a time of the day in a column of its own.
    pub(super) fn learn_clock(&mut self, text: &str) {
        if self.clock_has_seconds.is_none() {
            self.clock_has_seconds = match text.len() {
                _ if text.contains(':') => Some(false),
                4 if text.starts_with('0') => Some(false),
                5.. => Some(true),
                _ => None,
            };
        }
    }

    /// Whether more rows would tell nothing.
    pub(super) fn is_settled(&self, has_clock: bool) -> bool {
        let reads = self.told.is_some() || !self.has_numbers || self.open.count_ones() <= 1;
        reads && (!has_clock || self.clock_has_seconds.is_some())
    }

    /// The instant that `text` says, with the time of the day where that stands in a column of its own.
    ///
    /// # Errors
    /// Why it is none, or which it could be.
    pub(super) fn read(&self, text: &str, clock: Option<&str>) -> Result<Timestamp, String> {
        let moment = self.moment(text)?;
        let Some(clock) = clock else { return moment.at(self.zone) };
        let day = match moment {
            Moment::Day(day) => day,
            Moment::Local(local) if local.time() == chrono::NaiveTime::MIN => local.date(),
            _ => return Err(format!("\"{text}\" has a time of the day, and \"{clock}\" stands beside it")),
        };
        let followed = match time_of_day(clock, self.clock_has_seconds.unwrap_or(false)) {
            Some(time) => Some(Moment::Local(day.and_time(time))),
            None if clock.contains(':') => instant::followed(Some(day), &format!(" {clock}"))?,
            None => None,
        };
        followed.ok_or_else(|| format!("\"{clock}\" is not a time of the day"))?.at(self.zone)
    }

    /// What `text` says of a time.
    ///
    /// # Errors
    /// As [`Times::read`].
    pub(super) fn moment(&self, text: &str) -> Result<Moment, String> {
        if let Some(TimeFormat::Pattern(pattern)) = &self.told {
            return by_pattern(text, pattern).ok_or_else(|| format!("\"{text}\" is not a time as {pattern}"));
        }
        if let Some(moment) = instant::read(text)? {
            return Ok(moment);
        }
        if !is_open(text) {
            return Err(format!("\"{text}\" is not a time"));
        }
        if let Some(TimeFormat::Reading(reading)) = self.told {
            let wrong = || format!("\"{text}\" is not a time as {}", reading.name());
            return reading.moment(text).ok_or_else(wrong);
        }
        match Reading::alone_in(self.open).filter(|reading| reading.is_plausible(text, self.now)) {
            Some(Reading::Clock) => Err(format!(
                "\"{text}\" is a time without its day; name the column of the day with --column date=…"
            )),
            Some(reading) => reading.moment(text).ok_or_else(|| self.choice(text)),
            None => self.choice_or_same(text),
        }
    }

    /// 02/02/2024 is one day, whichever comes first.
    fn choice_or_same(&self, text: &str) -> Result<Moment, String> {
        match Reading::possible(text, self.now)[..] {
            [(Reading::DayFirst, one), (Reading::MonthFirst, other)] if one == other => Ok(one),
            _ => Err(self.choice(text)),
        }
    }

    /// What `text` could be, for whoever has to say it.
    fn choice(&self, text: &str) -> String {
        let spelled = |(reading, moment): (Reading, Moment)| {
            Some(format!("{} ({})", shown(moment.at(None).ok()?), reading.name()))
        };
        let mut readings: Vec<_> =
            Reading::possible(text, self.now).into_iter().filter_map(spelled).collect();
        if self.open & Reading::Clock.bit() != 0 && Reading::Clock.is_plausible(text, self.now) {
            readings.push("a time of the day".to_owned());
        }
        match readings.is_empty() {
            true => {
                format!("\"{text}\" is not a time; if it is one, say how it is written with --time-format")
            }
            false => format!(
                "\"{text}\" could be {}, and the column does not tell; say which with --time-format",
                readings.join(", ")
            ),
        }
    }
}

/// Whether a column's name, in lower case, says that it holds Unix times.
pub(super) fn says_unix(name: &str) -> bool {
    name.contains("unix") || name.contains("epoch")
}

/// The unit of Unix times that a column's name ends with: `timestamp_ms`.
fn unit_of(name: &str) -> Option<Reading> {
    let (_, unit) = name.rsplit_once('_')?;
    match unit {
        "s" | "sec" | "seconds" => Some(Reading::Unix),
        "ms" | "millis" | "milliseconds" => Some(Reading::UnixMillis),
        "us" | "micros" | "microseconds" => Some(Reading::UnixMicros),
        "ns" | "nanos" | "nanoseconds" => Some(Reading::UnixNanos),
        _ => None,
    }
}

/// A time by a pattern, in which the first of what it leaves out is meant: of the year, the month, the hour.
fn by_pattern(text: &str, pattern: &str) -> Option<Moment> {
    let mut parsed = Parsed::new();
    parse(&mut parsed, text, StrftimeItems::new(pattern)).ok()?;
    if parsed.timestamp().is_some() || parsed.offset().is_some() {
        return parsed.to_datetime().ok().map(|time| Moment::Instant(time.to_utc()));
    }
    let day = parsed.to_naive_date().or_else(|_| {
        if parsed.month().is_none() {
            parsed.set_month(1)?;
        }
        if parsed.day().is_none() {
            parsed.set_day(1)?;
        }
        parsed.to_naive_date()
    });
    let day = day.ok().filter(|day| day.year() > 0)?;
    if parsed.hour_mod_12().is_none() {
        return Some(Moment::Day(day));
    }
    if parsed.minute().is_none() {
        parsed.set_minute(0).ok()?;
    }
    parsed.to_naive_time().ok().map(|time| Moment::Local(day.and_time(time)))
}

/// Reads one time that stands alone, as an argument does.
///
/// # Errors
/// A text that is no time, or could be several.
pub fn parse_time(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let mut times = Times::new(None, None, "date", now);
    times.learn(text);
    times.read(text, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the texts of a column called `name` become, or why they do not.
    fn column(name: &str, told: Option<&str>, texts: &[&str]) -> Vec<Result<String, String>> {
        let now = "2026-11-30T00:00:00Z".parse().unwrap();
        let told = told.map(|told| TimeFormat::parse(told).unwrap());
        let mut times = Times::new(told, None, name, now);
        texts.iter().for_each(|text| times.learn(text));
        texts.iter().map(|text| times.read(text, None).map(shown)).collect()
    }

    fn read(name: &str, told: Option<&str>, texts: &[&str]) -> Vec<String> {
        column(name, told, texts)
            .into_iter()
            .map(|read| read.unwrap_or_else(|error| panic!("{error}")))
            .collect()
    }

    #[test]
    fn a_number_is_read_in_the_only_reading_that_all_of_its_column_have() {
        for (texts, expected) in [
            (["20240102", "20240103"], ["2024-01-02", "2024-01-03"]),
            (["20240102.0", "20240103.0"], ["2024-01-02", "2024-01-03"]),
            (["202401020930", "202401020931"], ["2024-01-02T09:30:00Z", "2024-01-02T09:31:00Z"]),
            (["20240102093000", "20240102093001"], ["2024-01-02T09:30:00Z", "2024-01-02T09:30:01Z"]),
            (["202401", "202402"], ["2024-01-01", "2024-02-01"]),
            (["1999", "2000"], ["1999-01-01", "2000-01-01"]),
            (["45293", "45294.395833333"], ["2024-01-02", "2024-01-03T09:30:00Z"]),
            (["45293.395833", "45293.5"], ["2024-01-02T09:30:00Z", "2024-01-02T12:00:00Z"]),
            (["1704153600", "1704240000.5"], ["2024-01-02", "2024-01-03T00:00:00.500Z"]),
            (["1704153600000", "1704240000123"], ["2024-01-02", "2024-01-03T00:00:00.123Z"]),
            (["1704153600000000", "1704240000000001"], ["2024-01-02", "2024-01-03T00:00:00.000001Z"]),
            (["1704153600000000000", "1704240000000000999"], ["2024-01-02", "2024-01-03"]),
            (["25/01/2024", "01/02/2024"], ["2024-01-25", "2024-02-01"]),
            (["01/25/2024", "01/02/2024 9:30 PM"], ["2024-01-25", "2024-01-02T21:30:00Z"]),
            (["01.02.2024", "31.1.2024"], ["2024-02-01", "2024-01-31"]),
            // What is read by itself tells nothing of the others.
            (["2024-01-02", "20240103"], ["2024-01-02", "2024-01-03"]),
            (["02/02/2024", "03/03/2024"], ["2024-02-02", "2024-03-03"]),
        ] {
            assert_eq!(read("date", None, &texts), expected, "{texts:?}");
        }
    }

    #[test]
    fn what_could_be_several_times_is_refused_with_what_it_could_be() {
        for (name, texts, parts) in [
            (
                "time",
                ["01/02/2024", "01/03/2024"],
                &["2024-02-01 (day-first)", "2024-01-02 (month-first)", "--time-format"][..],
            ),
            ("time", ["-86400", "0"], &["1969-12-31 (unix)", "(unix-ms)", "--time-format"]),
            ("time", ["93000", "93100"], &["time without its day", "--column date"]),
            // The 20th hour and 20 seconds, or a month; four in the morning, or a day of Excel.
            ("time", ["202401", "202402"], &["2024-01-01 (yyyymm), a time of the day"]),
            ("time", ["40000", "40500"], &["2009-07-06 (excel), a time of the day"]),
            // Two readings in one column.
            ("date", ["1704153600", "1704153600000"], &["2024-01-02 (unix", "--time-format"]),
            ("date", ["25/01/2024", "01/25/2024"], &["--time-format"]),
            ("date", ["19724", "19725"], &["1953-12-31 (excel)"]),
            ("date", ["123", "123"], &["(unix)", "(excel)"]),
            ("date", ["01/02/24", "01/03/24"], &["\"01/02/24\" is not a time"]),
        ] {
            let error = column(name, None, &texts)[0].clone().unwrap_err();
            assert!(parts.iter().all(|part| error.contains(part)), "{texts:?}: {error}");
        }
        // One bad value is refused alone.
        let [good, bad] = &column("date", None, &["20240102", "7"])[..] else { panic!() };
        assert!(good.is_ok() && bad.is_err());
    }

    #[test]
    fn what_is_told_is_not_guessed() {
        for (told, text, expected) in [
            ("unix", "-86400", "1969-12-31"),
            ("unix", "20240102", "1970-08-23T06:15:02Z"),
            ("unix-ms", "0", "1970-01-01"),
            ("excel", "19724", "1953-12-31"),
            ("yyyymmddhh", "2024010209", "2024-01-02T09:00:00Z"),
            ("day-first", "01/02/2024", "2024-02-01"),
            ("month-first", "01-02-2024 09:30", "2024-01-02T09:30:00Z"),
            ("%m/%d/%y", "01/02/24", "2024-01-02"),
            ("%Y%m%d%H", "2024010209", "2024-01-02T09:00:00Z"),
            ("%b-%y", "Jan-24", "2024-01-01"),
            ("%d.%m.%Y %H:%M %z", "02.01.2024 09:30 +0100", "2024-01-02T08:30:00Z"),
        ] {
            assert_eq!(read("time", Some(told), &[text]), [expected], "{told}");
        }
        assert!(column("time", Some("%Y%m%d"), &["2024-01-02x"])[0].is_err());
        // The name of a column tells, too.
        assert_eq!(read("ts_ms", None, &["0"]), ["1970-01-01"]);
        assert_eq!(read("unix_time", None, &["1704153600"]), ["2024-01-02"]);
        assert!(column("unix_time", None, &["20240102"])[0].is_err());
        for text in ["", "soon", "%", "%Q", "time of the day"] {
            assert!(TimeFormat::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_day_and_a_time_of_the_day_are_one_time() {
        let now = "2026-11-30T00:00:00Z".parse().unwrap();
        let new_york = Some(chrono_tz::America::New_York);
        for (clocks, expected) in [
            (["93000", "160000"], ["14:30:00", "21:00:00"]),
            (["093000", "0"], ["14:30:00", "05:00:00"]),
            (["930", "1600"], ["14:30:00", "21:00:00"]),
            (["0930", "1600"], ["14:30:00", "21:00:00"]),
            (["093000123", "160000"], ["14:30:00.123", "21:00:00"]),
            (["9:30", "16:00:00.5"], ["14:30:00", "21:00:00.500"]),
            (["9:30 AM", "4:00 PM"], ["14:30:00", "21:00:00"]),
        ] {
            let mut times = Times::new(None, new_york, "date", now);
            for clock in clocks {
                times.learn("20240102");
                times.learn_clock(clock);
            }
            let read = clocks.map(|clock| shown(times.read("20240102", Some(clock)).unwrap()));
            assert_eq!(read, expected.map(|time| format!("2024-01-02T{time}Z")), "{clocks:?}");
        }
        let times = Times::new(None, None, "date", now);
        assert!(times.read("2024-01-02", Some("2561")).is_err());
        assert!(times.read("2024-01-02 10:00", Some("0930")).is_err());
    }
}
