//! Labels of markets as vendors write them, and the sessions they mean. Dates, holidays and changes of the clocks are facts of
//! the calendars named, written down by hand.
#![allow(clippy::unwrap_used)]

mod inference;
mod labels;

use chrono::{Datelike, NaiveDate, NaiveDateTime, TimeZone, Weekday};
use chrono_tz::{America, Asia, Europe, Tz};
use kronos_time::{Calendar, Instant, Session, Week};
use std::collections::BTreeMap;

const HOUR: i64 = 3_600_000_000;
const EPOCH: i64 = 946_684_800_000_000;

fn at(zone: Tz, text: &str) -> Instant {
    let local = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap();
    zone.from_local_datetime(&local).single().unwrap().timestamp_micros() - EPOCH
}

fn show(zone: Tz, at: Instant) -> String {
    let at = chrono::DateTime::from_timestamp_micros(at + EPOCH).unwrap().with_timezone(&zone);
    at.format("%a %Y-%m-%d %H:%M").to_string()
}

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

/// Every date from one to another for which `keep` holds.
fn dates(first: &str, last: &str, keep: impl Fn(NaiveDate) -> bool) -> Vec<NaiveDate> {
    date(first).iter_days().take_while(|day| *day <= date(last)).filter(|day| keep(*day)).collect()
}

/// The dates as labels at a time of day.
fn labelled(zone: Tz, dates: &[NaiveDate], time: &str) -> Vec<Instant> {
    dates.iter().map(|date| at(zone, &format!("{date} {time}"))).collect()
}

/// Starts at even distances.
fn every(first: Instant, step: i64, count: i64) -> Vec<Instant> {
    (0..count).map(|place| first + place * step).collect()
}

fn is_weekday(date: NaiveDate) -> bool {
    !matches!(date.weekday(), Weekday::Sat | Weekday::Sun)
}

/// The dates on whose evening a day of the week from Monday to Friday opens.
fn is_eve(date: NaiveDate) -> bool {
    !matches!(date.weekday(), Weekday::Fri | Weekday::Sat)
}

/// A session in minutes of the day.
fn session(open: i32, close: i32) -> Session {
    Session { open: open * 60, close: close * 60 }
}

fn weekdays(sessions: &[Session]) -> Week {
    let day = || sessions.to_vec();
    [day(), day(), day(), day(), day(), vec![], vec![]]
}

fn closed(days: &[&str]) -> BTreeMap<NaiveDate, Vec<Session>> {
    days.iter().map(|day| (date(day), Vec::new())).collect()
}

/// From September 2023 to August 2024.
fn new_york() -> Calendar {
    let mut exceptions = closed(&[
        "2018-03-30",
        "2023-09-04",
        "2023-11-23",
        "2023-12-25",
        "2024-01-01",
        "2024-01-15",
        "2024-02-19",
        "2024-03-29",
        "2024-05-27",
        "2024-06-19",
        "2024-07-04",
    ]);
    exceptions.insert(date("2023-11-24"), vec![session(570, 780)]);
    Calendar::with_sessions("XNYS", America::New_York, weekdays(&[session(570, 960)]), exceptions)
}

fn london() -> Calendar {
    let exceptions = closed(&[
        "2023-12-25",
        "2023-12-26",
        "2024-01-01",
        "2024-03-29",
        "2024-04-01",
        "2024-05-06",
        "2024-05-27",
        "2024-08-26",
    ]);
    Calendar::with_sessions("XLON", Europe::London, weekdays(&[session(480, 990)]), exceptions)
}

fn paris() -> Calendar {
    let days = ["2023-12-25", "2023-12-26", "2024-01-01", "2024-03-29", "2024-04-01", "2024-05-01"];
    Calendar::with_sessions("XPAR", Europe::Paris, weekdays(&[session(540, 1050)]), closed(&days))
}

fn shanghai() -> Calendar {
    let day = [session(570, 690), session(780, 900)];
    Calendar::with_sessions("XSHG", Asia::Shanghai, weekdays(&day), BTreeMap::new())
}

/// Foreign exchange: one chain of sessions from Sunday to Friday, 17:00 New York, but for Christmas and New Year.
fn fx() -> Calendar {
    let all = || vec![session(0, 1440)];
    let week = [all(), all(), all(), all(), vec![session(0, 1020)], vec![], vec![session(1020, 1440)]];
    let holidays = BTreeMap::from([
        (date("2023-12-24"), vec![]),
        (date("2023-12-25"), vec![session(1020, 1440)]),
        (date("2023-12-31"), vec![]),
        (date("2024-01-01"), vec![session(1020, 1440)]),
    ]);
    Calendar::with_sessions("FX", America::New_York, week, holidays)
}

/// CME Globex: from 17:00 of the evening before to 16:00, Chicago; Good Friday has neither Thursday's evening nor Friday.
fn globex() -> Calendar {
    let day = || vec![session(0, 960), session(1020, 1440)];
    let week = [day(), day(), day(), day(), vec![session(0, 960)], vec![], vec![session(1020, 1440)]];
    let easter =
        BTreeMap::from([(date("2024-03-28"), vec![session(0, 960)]), (date("2024-03-29"), Vec::new())]);
    Calendar::with_sessions("GLBX", America::Chicago, week, easter)
}

fn always() -> Calendar {
    Calendar::always("24x7", Tz::UTC)
}
