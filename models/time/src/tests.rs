//! Dates and clock changes below are facts of the calendars named, written down by hand.

use super::*;
use chrono_tz::{America, Asia, Europe};

const HOUR: i64 = 3600 * SECOND;

/// An instant written in UTC, with or without the time of day.
fn utc(text: &str) -> Instant {
    let text = if text.len() == 10 { format!("{text} 00:00") } else { text.to_owned() };
    to_instant(Tz::UTC, NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M").unwrap())
}

fn show(at: Instant) -> String {
    to_local(Tz::UTC, at).format("%Y-%m-%d %H:%M").to_string()
}

fn next(grid: &Grid<'_>, after: &str, count: usize) -> Vec<String> {
    grid.after(utc(after)).take(count).map(show).collect()
}

fn session(open: &str, close: &str) -> Session {
    let seconds = |text: &str| {
        let (hour, minute) = text.split_once(':').unwrap();
        hour.parse::<i32>().unwrap() * 3600 + minute.parse::<i32>().unwrap() * 60
    };
    Session { open: seconds(open), close: seconds(close) }
}

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

/// New York with Thanksgiving 2024 closed and the Friday after it closing at 13:00.
fn new_york() -> Calendar {
    let day = vec![session("09:30", "16:00")];
    let weekly = [day.clone(), day.clone(), day.clone(), day.clone(), day, vec![], vec![]];
    let exceptions =
        BTreeMap::from([(date("2024-11-28"), vec![]), (date("2024-11-29"), vec![session("09:30", "13:00")])]);
    Calendar::with_sessions("XNYS", America::New_York, weekly, exceptions)
}

/// Shanghai, with its lunch break.
fn shanghai() -> Calendar {
    let day = vec![session("13:00", "15:00"), session("09:30", "11:30")];
    let weekly = [day.clone(), day.clone(), day.clone(), day.clone(), day, vec![], vec![]];
    Calendar::with_sessions("XSHG", Asia::Shanghai, weekly, BTreeMap::new())
}

/// A market open from Sunday 18:00 to Friday 17:00 with an hour's pause at 17:00, written as sessions of dates.
fn futures() -> Calendar {
    let day = || vec![session("00:00", "17:00"), session("18:00", "24:00")];
    let weekly = [
        day(),
        day(),
        day(),
        day(),
        vec![session("00:00", "17:00")],
        vec![],
        vec![session("18:00", "24:00")],
    ];
    Calendar::with_sessions("futures", America::Chicago, weekly, BTreeMap::new())
}

fn fitted<'a>(calendar: &'a Calendar, width: Width, starts: &[&str]) -> Grid<'a> {
    Grid::fit(calendar, width, &starts.iter().map(|text| utc(text)).collect::<Vec<_>>())
}

#[test]
fn hourly_bars_from_the_opening_follow_summer_time_both_ways() {
    let calendar = new_york();
    // In winter New York opens at 14:30 UTC. Clocks go forward on Sunday 2024-03-10.
    let grid =
        fitted(&calendar, Width::Micros(HOUR), &["2024-03-08 14:30", "2024-03-08 15:30", "2024-03-08 16:30"]);
    assert_eq!(
        next(&grid, "2024-03-08 19:30", 3),
        ["2024-03-08 20:30", "2024-03-11 13:30", "2024-03-11 14:30"]
    );
    // They go back on Sunday 2024-11-03.
    assert_eq!(next(&grid, "2024-11-01 19:30", 2), ["2024-11-04 14:30", "2024-11-04 15:30"]);
}

#[test]
fn holiday_and_half_day() {
    let calendar = new_york();
    let grid = fitted(&calendar, Width::Micros(HOUR), &["2024-11-27 14:30", "2024-11-27 15:30"]);
    assert_eq!(
        next(&grid, "2024-11-27 20:30", 5),
        ["2024-11-29 14:30", "2024-11-29 15:30", "2024-11-29 16:30", "2024-11-29 17:30", "2024-12-02 14:30"]
    );
    assert!(calendar.is_open(utc("2024-11-29 17:59")));
    assert!(!calendar.is_open(utc("2024-11-29 18:00")));
    assert!(!calendar.is_open(utc("2024-11-28 15:00")));
}

#[test]
fn bars_aligned_to_the_clock_include_the_one_the_market_opens_in() {
    let calendar = new_york();
    let grid =
        fitted(&calendar, Width::Micros(HOUR), &["2024-03-07 14:00", "2024-03-07 15:00", "2024-03-07 16:00"]);
    assert_eq!(next(&grid, "2024-03-07 20:00", 2), ["2024-03-08 14:00", "2024-03-08 15:00"]);
    assert_eq!(next(&grid, "2024-03-08 19:00", 2), ["2024-03-08 20:00", "2024-03-11 13:00"]);
    // A half day ends with the bar that starts before the close.
    assert_eq!(next(&grid, "2024-11-29 17:00", 1), ["2024-12-02 14:00"]);
}

#[test]
fn lunch_break_is_no_gap_and_a_missing_bar_is_one() {
    let calendar = shanghai();
    // Shanghai is UTC+8 all year: 01:30 to 03:30 and 05:00 to 07:00.
    let five = Width::Micros(300 * SECOND);
    let grid = fitted(&calendar, five, &["2024-06-18 01:30", "2024-06-18 01:35", "2024-06-18 05:00"]);
    assert_eq!(next(&grid, "2024-06-18 03:25", 2), ["2024-06-18 05:00", "2024-06-18 05:05"]);
    assert_eq!(next(&grid, "2024-06-18 06:55", 1), ["2024-06-19 01:30"]);
    assert_eq!(grid.missing(utc("2024-06-18 03:25"), utc("2024-06-18 05:00")).count(), 0);
    let missing: Vec<String> =
        grid.missing(utc("2024-06-18 03:20"), utc("2024-06-18 05:05")).map(show).collect();
    assert_eq!(missing, ["2024-06-18 03:25", "2024-06-18 05:00"]);
    // Hourly bars count from the opening of each session: 09:30, 10:30, 13:00, 14:00.
    let hourly =
        fitted(&calendar, Width::Micros(HOUR), &["2024-06-18 01:30", "2024-06-18 02:30", "2024-06-18 05:00"]);
    assert_eq!(
        next(&hourly, "2024-06-18 02:30", 3),
        ["2024-06-18 05:00", "2024-06-18 06:00", "2024-06-19 01:30"]
    );
}

#[test]
fn sessions_over_midnight_count_from_the_evening() {
    let calendar = futures();
    // Chicago in winter is UTC-6: the week opens on Monday 00:00 UTC and pauses from 23:00 to 24:00 UTC.
    let four = Width::Micros(4 * HOUR);
    let grid = fitted(&calendar, four, &["2024-01-15 00:00", "2024-01-15 04:00", "2024-01-15 08:00"]);
    assert_eq!(
        next(&grid, "2024-01-15 16:00", 3),
        ["2024-01-15 20:00", "2024-01-16 00:00", "2024-01-16 04:00"]
    );
    assert_eq!(next(&grid, "2024-01-19 20:00", 1), ["2024-01-22 00:00"]);
}

#[test]
fn daily_bars_step_over_weekends_and_holidays() {
    let calendar = new_york();
    // Midnight in New York: 05:00 UTC in winter, 04:00 in summer.
    let local = fitted(&calendar, Width::Days(1), &["2024-03-07 05:00", "2024-03-08 05:00"]);
    assert_eq!(next(&local, "2024-03-08 05:00", 2), ["2024-03-11 04:00", "2024-03-12 04:00"]);
    assert_eq!(show(local.end(utc("2024-03-10 05:00"))), "2024-03-11 04:00");
    // Plain dates, written as midnight UTC, stay plain dates.
    let plain = fitted(&calendar, Width::Days(1), &["2024-11-26", "2024-11-27"]);
    assert_eq!(next(&plain, "2024-11-27", 2), ["2024-11-29 00:00", "2024-12-02 00:00"]);
    assert_eq!(
        plain.wall_clock(utc("2024-11-29")).format("%a %Y-%m-%d %H:%M").to_string(),
        "Fri 2024-11-29 00:00"
    );
    assert_eq!(plain.missing(utc("2024-11-27"), utc("2024-11-29")).count(), 0);
    assert_eq!(plain.missing(utc("2024-11-26"), utc("2024-11-29")).count(), 1);
}

#[test]
fn weeks_and_months_are_calendar_units() {
    let always = Calendar::always("24x7", Tz::UTC);
    let week = fitted(&always, Width::Days(7), &["2024-02-19", "2024-02-26"]);
    assert_eq!(next(&week, "2024-02-26", 2), ["2024-03-04 00:00", "2024-03-11 00:00"]);
    let month = fitted(&always, Width::Months(1), &["2023-12-01", "2024-01-01"]);
    assert_eq!(next(&month, "2024-01-01", 2), ["2024-02-01 00:00", "2024-03-01 00:00"]);
    assert_eq!(show(month.end(utc("2024-02-01"))), "2024-03-01 00:00");
    // Labels at the end of months stay there; 2024 is a leap year.
    let ends = fitted(&always, Width::Months(1), &["2023-12-31", "2024-01-31"]);
    assert_eq!(next(&ends, "2024-01-31", 3), ["2024-02-29 00:00", "2024-03-31 00:00", "2024-04-30 00:00"]);
    // A month of Chicago crosses the change of its clocks: 06:00 UTC in winter, 05:00 in summer.
    let chicago = Calendar::always("chicago", America::Chicago);
    let local = fitted(&chicago, Width::Months(1), &["2024-02-01 06:00", "2024-03-01 06:00"]);
    assert_eq!(next(&local, "2024-03-01 06:00", 1), ["2024-04-01 05:00"]);
}

#[test]
fn a_market_that_never_closes_steps_evenly() {
    let always = Calendar::always("24x7", Tz::UTC);
    let grid = fitted(&always, Width::Micros(4 * HOUR), &["2024-02-28 20:00"]);
    assert_eq!(next(&grid, "2024-02-28 20:00", 2), ["2024-02-29 00:00", "2024-02-29 04:00"]);
    let missing = |next| grid.missing(utc("2024-02-28 20:00"), utc(next)).count();
    assert_eq!(["2024-02-29 00:00", "2024-02-29 04:00", "2024-02-29 08:00"].map(missing), [0, 1, 2]);
}

#[test]
fn a_bar_shows_the_local_wall_clock() {
    let calendar = new_york();
    let grid = fitted(&calendar, Width::Micros(HOUR), &["2024-07-04 13:30"]);
    // 13:30 UTC is 09:30 in New York's summer; the fourth of July 2024 was a Thursday.
    assert_eq!(
        grid.wall_clock(utc("2024-07-04 13:30")).format("%a %Y-%m-%d %H:%M").to_string(),
        "Thu 2024-07-04 09:30"
    );
}

#[test]
fn local_times_that_do_not_exist_or_exist_twice() {
    let local = |text| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M").unwrap();
    // In Berlin 2024-03-31 02:30 is skipped, and 2024-10-27 02:30 comes at 00:30 and 01:30 UTC.
    assert_eq!(show(to_instant(Europe::Berlin, local("2024-03-31 02:30"))), "2024-03-31 01:30");
    assert_eq!(show(to_instant(Europe::Berlin, local("2024-10-27 02:30"))), "2024-10-27 00:30");
}

#[test]
fn a_calendar_without_sessions_ends() {
    let closed = Calendar::with_sessions("closed", Tz::UTC, Default::default(), BTreeMap::new());
    assert!(fitted(&closed, Width::Micros(HOUR), &["2024-01-01"]).after(utc("2024-01-01")).next().is_none());
    assert!(fitted(&closed, Width::Days(1), &["2024-01-01"]).after(utc("2024-01-01")).next().is_none());
}

#[test]
fn widths_are_inferred_from_the_modal_spacing() {
    let every = |first: &str, step: i64, count: i64| -> Vec<Instant> {
        (0..count).map(|index| utc(first) + index * step).collect()
    };
    let cases: Vec<(&str, Tz, Vec<Instant>, Option<Width>)> = vec![
        ("hours", Tz::UTC, every("2024-01-01", HOUR, 40), Some(Width::Micros(HOUR))),
        ("one bar", Tz::UTC, every("2024-01-01", HOUR, 1), None),
        ("one start twice", Tz::UTC, vec![0, 0], None),
        ("days", Tz::UTC, every("2024-01-01", DAY, 40), Some(Width::Days(1))),
        ("weeks", Tz::UTC, every("2024-01-01", 7 * DAY, 40), Some(Width::Days(7))),
        (
            "days of New York across a change of its clocks",
            America::New_York,
            ["2024-03-07 05:00", "2024-03-08 05:00", "2024-03-11 04:00", "2024-03-12 04:00"]
                .map(utc)
                .to_vec(),
            Some(Width::Days(1)),
        ),
        (
            "two days of New York between which its clocks go forward",
            America::New_York,
            ["2024-03-10 05:00", "2024-03-11 04:00"].map(utc).to_vec(),
            Some(Width::Days(1)),
        ),
        (
            "two weeks of New York between which its clocks go forward",
            America::New_York,
            ["2024-03-04 05:00", "2024-03-11 04:00"].map(utc).to_vec(),
            Some(Width::Days(7)),
        ),
        (
            "two bars a session, as often four hours apart as twenty",
            Tz::UTC,
            [0, 4, 24, 28, 48].map(|hours| utc("2024-01-01") + hours * HOUR).to_vec(),
            Some(Width::Micros(4 * HOUR)),
        ),
        (
            "two bars a session",
            America::New_York,
            (0..20)
                .flat_map(|day| [0, 4 * HOUR].map(|at| utc("2024-01-01 14:30") + day * DAY + at))
                .collect(),
            Some(Width::Micros(4 * HOUR)),
        ),
        (
            "months",
            Tz::UTC,
            ["2024-01-01", "2024-02-01", "2024-03-01", "2024-04-01", "2024-05-01"].map(utc).to_vec(),
            Some(Width::Months(1)),
        ),
        (
            "ends of months",
            Tz::UTC,
            ["2024-01-31", "2024-02-29", "2024-03-31", "2024-04-30", "2024-05-31"].map(utc).to_vec(),
            Some(Width::Months(1)),
        ),
        (
            "quarters",
            Tz::UTC,
            ["2023-07-01", "2023-10-01", "2024-01-01", "2024-04-01"].map(utc).to_vec(),
            Some(Width::Months(3)),
        ),
        (
            "two months",
            Tz::UTC,
            ["2023-12-01", "2024-02-01", "2024-04-01", "2024-06-01"].map(utc).to_vec(),
            Some(Width::Months(2)),
        ),
        (
            "every other year",
            Tz::UTC,
            ["2018-06-30", "2020-06-30", "2022-06-30", "2024-06-30"].map(utc).to_vec(),
            Some(Width::Months(24)),
        ),
        (
            "sixty days, of which one is missing",
            Tz::UTC,
            [0, 60, 120, 240].map(|days| utc("2024-01-01") + days * DAY).to_vec(),
            Some(Width::Days(60)),
        ),
        ("four weeks", Tz::UTC, every("2024-01-01", 28 * DAY, 20), Some(Width::Days(28))),
    ];
    for (name, zone, starts, expected) in cases {
        assert_eq!(infer_width(&Calendar::always("always", zone), &starts), expected, "{name}");
    }
}
