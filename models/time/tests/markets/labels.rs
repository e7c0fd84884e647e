//! The next label, the end of a bar, the season.

use super::*;
use kronos_time::{Grid, Width, infer_width};

/// The next labels after the last of `starts`, none of which overlap or lack a neighbour, as `zone` shows them.
fn next(calendar: &Calendar, zone: Tz, starts: &[Instant], count: usize) -> Vec<String> {
    let width = infer_width(calendar, starts).unwrap();
    let grid = Grid::fit(calendar, width, starts);
    for pair in starts.windows(2) {
        assert!(!grid.overlap(pair[0], pair[1]), "{} overlaps", show(zone, pair[0]));
        let missing: Vec<String> = grid.missing(pair[0], pair[1]).map(|start| show(zone, start)).collect();
        assert!(missing.is_empty(), "after {}: {missing:?}", show(zone, pair[0]));
    }
    grid.after(starts[starts.len() - 1]).take(count).map(|start| show(zone, start)).collect()
}

/// The first of each month of some years.
fn firsts(first: i32, last: i32) -> Vec<NaiveDate> {
    let months = (first..=last).flat_map(|year| (1..=12).map(move |month| (year, month)));
    months.map(|(year, month)| NaiveDate::from_ymd_opt(year, month, 1).unwrap()).collect()
}

/// The last of its month.
fn last(first: NaiveDate) -> NaiveDate {
    first.iter_days().take_while(|day| day.month() == first.month()).last().unwrap()
}

fn last_weekday(first: NaiveDate) -> NaiveDate {
    std::iter::successors(Some(last(first)), NaiveDate::pred_opt).find(|day| is_weekday(*day)).unwrap()
}

#[test]
fn months_labelled_by_a_business_day_are_followed_by_the_next_month() {
    // The last business day of each month, as pandas' BME gives it.
    let labels: Vec<NaiveDate> = firsts(2018, 2023).into_iter().map(last_weekday).collect();
    for calendar in [always(), new_york()] {
        assert_eq!(
            next(&calendar, Tz::UTC, &labelled(Tz::UTC, &labels, "00:00"), 4),
            ["Wed 2024-01-31 00:00", "Thu 2024-02-29 00:00", "Fri 2024-03-29 00:00", "Tue 2024-04-30 00:00"]
        );
    }
    // Sessions of New York: Good Friday of 2018 and 2024 was the last weekday of March and no session.
    let traded = labels.iter().map(|day| if *day == date("2018-03-30") { date("2018-03-29") } else { *day });
    assert_eq!(
        next(&new_york(), Tz::UTC, &labelled(Tz::UTC, &traded.collect::<Vec<_>>(), "00:00"), 3),
        ["Wed 2024-01-31 00:00", "Thu 2024-02-29 00:00", "Thu 2024-03-28 00:00"]
    );
    // The first, BMS: 2024-06-01 was a Saturday.
    let business = |first: NaiveDate| first.iter_days().find(|day| is_weekday(*day)).unwrap();
    let labels: Vec<NaiveDate> = firsts(2018, 2023).into_iter().map(business).collect();
    assert_eq!(
        next(&always(), Tz::UTC, &labelled(Tz::UTC, &labels, "00:00"), 6)[3..],
        ["Mon 2024-04-01 00:00", "Wed 2024-05-01 00:00", "Mon 2024-06-03 00:00"]
    );
    // Quarters by their last business day.
    let labels: Vec<NaiveDate> =
        firsts(2010, 2019).into_iter().skip(2).step_by(3).map(last_weekday).collect();
    assert_eq!(
        next(&always(), Tz::UTC, &labelled(Tz::UTC, &labels, "00:00"), 3),
        ["Tue 2020-03-31 00:00", "Tue 2020-06-30 00:00", "Wed 2020-09-30 00:00"]
    );
}

#[test]
fn months_labelled_by_the_thirtieth_come_back_to_it() {
    let starts = labelled(Tz::UTC, &[date("2023-11-30"), date("2023-12-30"), date("2024-01-30")], "00:00");
    assert_eq!(next(&always(), Tz::UTC, &starts, 2), ["Thu 2024-02-29 00:00", "Sat 2024-03-30 00:00"]);
}

#[test]
fn a_month_is_known_at_its_end_wherever_its_label_lies() {
    let end = |calendar: &Calendar, labels: &[NaiveDate], months| {
        let starts = labelled(Tz::UTC, labels, "00:00");
        let grid = Grid::fit(calendar, Width::Months(months), &starts);
        show(Tz::UTC, grid.end(starts[starts.len() - 1]))
    };
    let first = firsts(2023, 2023);
    let ends: Vec<NaiveDate> = first.iter().copied().map(last).collect();
    let business: Vec<NaiveDate> = first.iter().copied().map(last_weekday).collect();
    assert_eq!(end(&always(), &first[..3], 1), "Sat 2023-04-01 00:00");
    let quarters: Vec<NaiveDate> = first.iter().copied().step_by(3).collect();
    assert_eq!(end(&always(), &quarters, 3), "Mon 2024-01-01 00:00");
    for labels in [&first, &ends, &business] {
        assert_eq!(end(&always(), labels, 1), "Mon 2024-01-01 00:00");
    }
    // In New York 2023 ended with the close of Friday, 29 December: 16:00 is 21:00 in UTC.
    for labels in [&first, &business] {
        assert_eq!(end(&new_york(), labels, 1), "Fri 2023-12-29 21:00");
    }
    // No row is known before its label, and 31 December was a Sunday.
    assert_eq!(end(&new_york(), &ends, 1), "Mon 2024-01-01 00:00");
}

#[test]
fn a_daily_bar_ends_at_the_close_of_its_session() {
    let calendar = new_york();
    let days = dates("2023-11-13", "2023-11-24", |day| calendar.is_trading_day(day));
    for (zone, time) in [(Tz::UTC, "00:00"), (America::New_York, "00:00"), (America::New_York, "09:30")] {
        let starts = labelled(zone, &days, time);
        let grid = Grid::fit(&calendar, Width::Days(1), &starts);
        let ends: Vec<String> =
            starts[7..].iter().map(|&start| show(America::New_York, grid.end(start))).collect();
        assert_eq!(ends, ["Wed 2023-11-22 16:00", "Fri 2023-11-24 13:00"], "{zone} {time}");
        // A row on a day without a session is known a day later.
        let saturday = at(zone, &format!("2023-11-25 {time}"));
        assert_eq!(grid.end(saturday), at(zone, &format!("2023-11-26 {time}")));
        assert_eq!(grid.nominal_end(starts[0]), starts[1], "a day later");
    }
    // A label after the close may be that of the session to come: it is known a day later.
    let starts = labelled(America::New_York, &days, "18:00");
    let grid = Grid::fit(&calendar, Width::Days(1), &starts);
    assert_eq!(show(America::New_York, grid.end(starts[0])), "Tue 2023-11-14 18:00");
    // Shanghai closes at 07:00 in UTC, long before the date is over there.
    let starts = labelled(Tz::UTC, &days, "00:00");
    let end = Grid::fit(&shanghai(), Width::Days(1), &starts).end(starts[0]);
    assert_eq!(show(Tz::UTC, end), "Mon 2023-11-13 07:00");
}

#[test]
fn foreign_exchange_has_five_days_from_evening_to_evening() {
    let (calendar, zone) = (fx(), America::New_York);
    let starts = labelled(zone, &dates("2024-01-07", "2024-03-28", is_eve), "17:00");
    assert_eq!(
        next(&calendar, zone, &starts, 3),
        ["Sun 2024-03-31 17:00", "Mon 2024-04-01 17:00", "Tue 2024-04-02 17:00"]
    );
    let grid = Grid::fit(&calendar, Width::Days(1), &starts);
    assert_eq!(show(zone, grid.end(at(zone, "2024-03-28 17:00"))), "Fri 2024-03-29 17:00");
    assert_eq!(grid.season(starts[9]), 5);
    // The same days by the date they trade for.
    let trade = labelled(Tz::UTC, &dates("2024-01-08", "2024-03-29", is_weekday), "00:00");
    assert_eq!(next(&calendar, Tz::UTC, &trade, 1), ["Mon 2024-04-01 00:00"]);
    let end = Grid::fit(&calendar, Width::Days(1), &trade).end(trade[0]);
    assert_eq!(show(zone, end), "Mon 2024-01-08 17:00");
    // Hours, over the weekend on which the clocks go forward.
    let hours = every(at(zone, "2024-03-07 00:00"), HOUR, 40);
    assert_eq!(next(&calendar, zone, &hours, 2), ["Fri 2024-03-08 16:00", "Sun 2024-03-10 17:00"]);
    assert_eq!(Grid::fit(&calendar, Width::Micros(HOUR), &hours).season(hours[0]), 24);
    // Christmas has no day; the next one opens on its evening.
    assert_eq!(calendar.trading_day(date("2023-12-25")), None);
    let (open, close) = calendar.trading_day(date("2023-12-26")).unwrap();
    assert_eq!([show(zone, open), show(zone, close)], ["Mon 2023-12-25 17:00", "Tue 2023-12-26 17:00"]);
}

#[test]
fn futures_are_labelled_by_the_evening_they_open_or_the_date_they_trade_for() {
    let (calendar, zone) = (globex(), America::Chicago);
    let starts = labelled(zone, &dates("2024-01-07", "2024-03-27", is_eve), "17:00");
    // No day for Good Friday: the next opens on Sunday evening.
    assert_eq!(next(&calendar, zone, &starts, 2), ["Sun 2024-03-31 17:00", "Mon 2024-04-01 17:00"]);
    let grid = Grid::fit(&calendar, Width::Days(1), &starts);
    assert_eq!(show(zone, grid.end(at(zone, "2024-03-24 17:00"))), "Mon 2024-03-25 16:00");
    for zone in [Tz::UTC, America::Chicago] {
        let trade = labelled(zone, &dates("2024-01-08", "2024-03-28", is_weekday), "00:00");
        assert_eq!(next(&calendar, zone, &trade, 2), ["Mon 2024-04-01 00:00", "Tue 2024-04-02 00:00"]);
        let end = Grid::fit(&calendar, Width::Days(1), &trade).end(trade[0]);
        assert_eq!(show(America::Chicago, end), "Mon 2024-01-08 16:00");
    }
    // A pause of an hour leaves 23.
    let hours = every(at(zone, "2024-03-20 00:00"), HOUR, 16);
    assert_eq!(Grid::fit(&calendar, Width::Micros(HOUR), &hours).season(hours[0]), 23);
}

#[test]
fn days_of_another_zone_on_a_market_that_never_closes() {
    let zone = America::New_York;
    // Over the change of the clocks in spring and in autumn.
    for (first, last, following) in [
        ("2024-01-15", "2024-03-20", ["Thu 2024-03-21 00:00", "Fri 2024-03-22 00:00"]),
        ("2024-09-01", "2024-11-20", ["Thu 2024-11-21 00:00", "Fri 2024-11-22 00:00"]),
    ] {
        let starts = labelled(zone, &dates(first, last, |_| true), "00:00");
        let calendar = always();
        assert_eq!(next(&calendar, zone, &starts, 2), following);
        let grid = Grid::fit(&calendar, Width::Days(1), &starts);
        assert_eq!(grid.end(starts[0]), starts[1]);
        assert_eq!(grid.wall_clock(starts[0]).format("%H:%M").to_string(), "00:00");
    }
    // A change that no zone listed has: the labels keep the time they had last.
    let mut starts = every(at(Tz::UTC, "2024-01-15 05:00"), 24 * HOUR, 20);
    starts.extend(every(at(Tz::UTC, "2024-02-04 04:00"), 24 * HOUR, 20));
    assert_eq!(next(&always(), Tz::UTC, &starts, 1), ["Sat 2024-02-24 04:00"]);
}

#[test]
fn weeks_are_counted_where_a_holiday_moves_their_label() {
    let calendar = new_york();
    let mondays = dates("2023-09-01", "2024-07-31", |day| day.weekday() == Weekday::Mon);
    // Each week by its first session: Tuesday after Labor Day, after Memorial Day, ….
    let first = |monday: &NaiveDate| monday.iter_days().find(|day| calendar.is_trading_day(*day)).unwrap();
    let weeks: Vec<NaiveDate> = mondays.iter().map(first).collect();
    let starts = labelled(Tz::UTC, &weeks, "00:00");
    assert_eq!(next(&calendar, Tz::UTC, &starts, 1), ["Mon 2024-08-05 00:00"]);
    let until_may = weeks.iter().filter(|day| **day < date("2024-05-27")).count();
    assert_eq!(
        next(&calendar, Tz::UTC, &starts[..until_may], 2),
        ["Tue 2024-05-28 00:00", "Mon 2024-06-03 00:00"]
    );
    // By its last: Thursday before Good Friday, known at that day's close, 16:00 in New York's summer.
    let last =
        |monday: &NaiveDate| monday.iter_days().take(5).filter(|day| calendar.is_trading_day(*day)).last();
    let weeks: Vec<NaiveDate> = mondays.iter().filter_map(last).collect();
    let starts = labelled(Tz::UTC, &weeks, "00:00");
    assert_eq!(next(&calendar, Tz::UTC, &starts, 1), ["Fri 2024-08-09 00:00"]);
    let grid = Grid::fit(&calendar, Width::Days(7), &starts);
    assert_eq!(show(Tz::UTC, grid.end(at(Tz::UTC, "2024-03-28 00:00"))), "Thu 2024-03-28 20:00");
    assert_eq!(grid.season(starts[0]), 52);
}

#[test]
fn two_sessions_are_two_sessions_over_a_weekend_too() {
    let calendar = new_york();
    let days = dates("2024-01-02", "2024-06-28", |day| calendar.is_trading_day(day));
    let every_nth =
        |sessions| labelled(Tz::UTC, &days.iter().copied().step_by(sessions).collect::<Vec<_>>(), "00:00");
    let starts = every_nth(2);
    assert_eq!(infer_width(&calendar, &starts), Some(Width::Days(2)));
    // Of the 123 days every other, the last of them Thursday; then 1, 3 and, after the holiday, 8 July.
    assert_eq!(show(Tz::UTC, starts[starts.len() - 1]), "Thu 2024-06-27 00:00");
    assert_eq!(
        next(&calendar, Tz::UTC, &starts, 3),
        ["Mon 2024-07-01 00:00", "Wed 2024-07-03 00:00", "Mon 2024-07-08 00:00"]
    );
    let end = Grid::fit(&calendar, Width::Days(2), &starts).end(starts[starts.len() - 1]);
    assert_eq!(show(America::New_York, end), "Fri 2024-06-28 16:00");
    // Four sessions, of which most stretches hold a weekend.
    assert_eq!(infer_width(&calendar, &every_nth(4)), Some(Width::Days(4)));
}

#[test]
fn a_season_is_a_trading_day_or_a_trading_week() {
    let season = |calendar: &Calendar, width, starts: &[Instant]| {
        Grid::fit(calendar, width, starts).season(starts[starts.len() - 1])
    };
    let half_hours = every(at(America::New_York, "2024-03-06 09:30"), HOUR / 2, 13);
    let days = labelled(Tz::UTC, &dates("2024-02-26", "2024-03-08", is_weekday), "00:00");
    assert_eq!(season(&new_york(), Width::Micros(HOUR / 2), &half_hours), 13);
    assert_eq!(season(&new_york(), Width::Days(1), &days), 5);
    assert_eq!(season(&new_york(), Width::Micros(13 * HOUR / 2), &half_hours[..1]), 5, "a bar is a day");
    // Hours by the clock: 09:00 to 15:00.
    let hours = every(at(America::New_York, "2024-03-06 09:00"), HOUR, 7);
    assert_eq!(season(&new_york(), Width::Micros(HOUR), &hours), 7);
    // Shanghai: 120 minutes before and 120 after lunch.
    let five = every(at(Asia::Shanghai, "2024-03-06 09:30"), HOUR / 12, 24);
    assert_eq!(season(&shanghai(), Width::Micros(HOUR / 12), &five), 48);
    assert_eq!(season(&always(), Width::Micros(HOUR / 2), &half_hours), 48);
    assert_eq!(season(&always(), Width::Days(1), &days), 7);
    assert_eq!(season(&always(), Width::Months(1), &days), 12);
}

#[test]
fn regular_hours_that_changed_hold_from_their_date_on() {
    // Tokyo trades until 15:30 since 2024-11-05.
    let before = weekdays(&[session(540, 690), session(750, 900)]);
    let after = weekdays(&[session(540, 690), session(750, 930)]);
    let weeks = vec![(date("2024-11-05"), after), (NaiveDate::MIN, before)];
    let tokyo = Calendar::with_weeks("XTKS", Asia::Tokyo, weeks, BTreeMap::new());
    let close = |day| show(Asia::Tokyo, tokyo.trading_day(date(day)).unwrap().1);
    assert_eq!(["2024-11-04", "2024-11-05"].map(close), ["Mon 2024-11-04 15:00", "Tue 2024-11-05 15:30"]);
    assert_eq!(tokyo.sessions_of_day(date("2024-11-05")).len(), 2);
}
