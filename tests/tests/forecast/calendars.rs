//! Trading calendars: what comes with the extension, and what people add.

use kronos_tests::{Database, shared_folder};
use std::process::Command;

/// Opening and close.
type Hours = (&'static str, &'static str);

/// What the exchange did on a day: `None` = closed, else opening and close; `Some` of regular hours where it traded
/// as always.
const NEW_YORK: [(&str, Option<Hours>, &str); 64] = [
    // Holidays by rule, on their own day and moved from weekends.
    ("1970-02-23", None, "Washington's Birthday, Sunday kept on Monday"),
    ("1970-05-29", Some(REGULAR), "Memorial Day 1970 was a Saturday; Friday ended the month"),
    ("1970-07-03", None, "Independence Day, Saturday kept on Friday"),
    ("1972-11-07", None, "Election Day"),
    ("1980-11-04", None, "Election Day, the last one"),
    ("1984-11-06", Some(REGULAR), "Election Day, no longer a holiday"),
    ("1997-01-20", Some(REGULAR), "Martin Luther King Jr. Day before 1998"),
    ("1998-01-19", None, "Martin Luther King Jr. Day"),
    ("2011-12-30", Some(REGULAR), "Friday before a New Year's Day on Sunday"),
    ("2012-01-02", None, "New Year's Day, Sunday kept on Monday"),
    ("2010-12-31", Some(REGULAR), "Friday before a New Year's Day on Saturday"),
    ("2021-12-31", Some(REGULAR), "Friday before a New Year's Day on Saturday"),
    ("2024-01-15", None, "Martin Luther King Jr. Day"),
    ("2024-02-19", None, "Washington's Birthday"),
    ("2024-03-29", None, "Good Friday"),
    ("2019-04-19", None, "Good Friday"),
    ("2008-03-21", None, "Good Friday, nearly as early as it can be"),
    ("2038-04-23", None, "Good Friday, as late as it can be"),
    ("2024-04-01", Some(REGULAR), "Easter Monday"),
    ("2024-05-27", None, "Memorial Day"),
    ("2021-06-18", Some(REGULAR), "Juneteenth, not yet a holiday of the exchange"),
    ("2022-06-20", None, "Juneteenth, Sunday kept on Monday"),
    ("2027-06-18", None, "Juneteenth, Saturday kept on Friday"),
    ("2020-07-03", None, "Independence Day, Saturday kept on Friday"),
    ("2020-07-02", Some(REGULAR), "Thursday before it"),
    ("2021-07-05", None, "Independence Day, Sunday kept on Monday"),
    ("2021-07-02", Some(REGULAR), "Friday before it"),
    ("2024-09-02", None, "Labor Day"),
    ("2023-11-23", None, "Thanksgiving Day"),
    ("2021-12-24", None, "Christmas Day, Saturday kept on Friday"),
    ("2022-12-26", None, "Christmas Day, Sunday kept on Monday"),
    ("2024-10-14", Some(REGULAR), "Columbus Day"),
    ("2024-11-11", Some(REGULAR), "Veterans Day"),
    // Early closes by rule.
    ("1992-11-27", Some(REGULAR), "day after Thanksgiving before 1993; not listed"),
    ("1993-11-26", Some(EARLY), "day after Thanksgiving"),
    ("2024-11-29", Some(EARLY), "day after Thanksgiving"),
    ("2024-12-24", Some(EARLY), "Christmas Eve"),
    ("2023-12-22", Some(REGULAR), "Friday before Christmas on Monday"),
    ("1995-07-03", Some(EARLY), "Monday before Independence Day"),
    ("2001-07-03", Some(EARLY), "Tuesday before Independence Day"),
    ("2002-07-03", Some(REGULAR), "Wednesday before Independence Day, before 2013"),
    ("2002-07-05", Some(EARLY), "Friday after Independence Day, before 2013"),
    ("2013-07-03", Some(EARLY), "Wednesday before Independence Day"),
    ("2013-07-05", Some(REGULAR), "Friday after Independence Day, from 2013"),
    ("2019-07-03", Some(EARLY), "Wednesday before Independence Day"),
    ("2022-07-01", Some(REGULAR), "Friday before an Independence Day on Monday"),
    ("2023-07-03", Some(EARLY), "Monday before Independence Day"),
    // Once only.
    ("1977-07-14", None, "blackout"),
    ("1985-09-27", None, "Hurricane Gloria"),
    ("1994-02-11", Some(("09:30", "14:30")), "snowstorm"),
    ("1994-04-27", None, "mourning for Nixon"),
    ("1996-01-08", Some(("11:00", "14:00")), "blizzard"),
    ("1999-12-31", Some(EARLY), "eve of 2000"),
    ("2001-09-11", None, "attacks"),
    ("2001-09-14", None, "attacks"),
    ("2001-09-17", Some(REGULAR), "reopening"),
    ("2003-12-26", Some(EARLY), "day after Christmas"),
    ("2004-06-11", None, "mourning for Reagan"),
    ("2007-01-02", None, "mourning for Ford"),
    ("2012-10-29", None, "Hurricane Sandy"),
    ("2012-10-30", None, "Hurricane Sandy"),
    ("2012-10-31", Some(REGULAR), "reopening"),
    ("2018-12-05", None, "mourning for Bush"),
    ("2025-01-09", None, "mourning for Carter"),
];
const REGULAR: Hours = ("09:30", "16:00");
const EARLY: Hours = ("09:30", "13:00");

#[test]
fn new_york_keeps_its_days() {
    let db = Database::new("new_york_keeps_its_days");
    for (day, hours, why) in NEW_YORK {
        let got = db.rows(&format!(
            "select left(s.opens::text, 5), left(s.closes::text, 5)
             from (select d.day, coalesce(e.opens, case when e.day is null then w.opens end) as opens,
                          coalesce(e.closes, case when e.day is null then w.closes end) as closes
                   from (select date '{day}' as day) d
                   left join kronos.calendar_exceptions e on e.calendar = 'XNYS' and e.day = d.day
                   left join kronos.calendar_sessions w
                     on w.calendar = 'XNYS' and w.weekday = extract(isodow from d.day)) s"
        ));
        let wanted =
            vec![hours.map(|(opens, _)| opens.to_owned()), hours.map(|(_, closes)| closes.to_owned())];
        assert_eq!(got, [wanted], "{day}: {why}");
    }
}

/// Ten holidays a year make about 252 trading days; the published counts of the exchange are the witness.
#[test]
fn years_have_as_many_sessions_as_the_exchange_published() {
    let db = Database::new("years_have_as_many_sessions");
    for (year, sessions) in [
        (1999, 252),
        (2001, 248),
        (2012, 250),
        (2018, 251),
        (2020, 253),
        (2022, 251),
        (2023, 250),
        (2024, 252),
        (2025, 250),
    ] {
        let got = db.value(&format!(
            "select count(*) from generate_series(date '{year}-01-01', '{year}-12-31', interval '1 day') d(day)
             where extract(isodow from day) < 6 and not exists (
               select from kronos.calendar_exceptions e
               where e.calendar = 'XNYS' and e.day = d.day::date and e.opens is null)"
        ));
        assert_eq!(got, sessions.to_string(), "{year}");
    }
    assert_eq!(
        db.rows("select first_day, last_day, builtin from kronos.calendars where name = 'XNYS'")[0],
        ["1970-01-01", "2100-12-24", "t"].map(|value| Some(value.to_owned()))
    );
    assert_eq!(
        db.value("select count(*) from kronos.calendar_exceptions where calendar = 'XNYS' and extract(isodow from day) > 5"),
        "0",
        "an exception on a weekend means a rule has moved to the wrong day"
    );
}

/// Real daily bars of American shares know every day on which the exchange traded.
#[test]
fn new_york_agrees_with_real_daily_bars() {
    let Some(folder) = shared_folder("data/daily") else { return };
    let unpacked = Command::new("gzip").arg("-dc").arg(folder.join("us_equities_daily_1.csv.gz")).output();
    let text = String::from_utf8(unpacked.expect("gzip can be run").stdout).unwrap();
    let column =
        text.lines().next().unwrap().split(',').position(|name| ["date", "ds"].contains(&name)).unwrap();
    let mut days: Vec<&str> =
        text.lines().skip(1).map(|line| &line.split(',').nth(column).unwrap()[..10]).collect();
    days.sort_unstable();
    days.dedup();

    let db = Database::new("new_york_agrees");
    let listed = days.iter().map(|day| format!("('{day}'::date)")).collect::<Vec<_>>().join(",");
    let differing = db.rows(&format!(
        "with traded(day) as (values {listed}),
              span as (select greatest(min(day), '1970-01-01') as first, max(day) as last from traded),
              expected as (
                select d::date as day from span, generate_series(span.first, span.last, interval '1 day') d
                where extract(isodow from d) < 6 and not exists (
                  select from kronos.calendar_exceptions e
                  where e.calendar = 'XNYS' and e.day = d::date and e.opens is null))
         select coalesce(t.day, e.day), t.day is null
         from (select traded.day from traded, span where traded.day >= span.first) t
         full join expected e on e.day = t.day
         where t.day is null or e.day is null order by 1"
    ));
    assert!(differing.is_empty(), "{} days differ: {differing:?}", differing.len());
}

/// Each session of each day from 2000 to 2030 is that of exchange_calendars, which tests/calendars/facts.py counted.
#[test]
fn exchanges_keep_the_days_and_hours_of_exchange_calendars() {
    let db = Database::new("exchanges_keep_the_days");
    let counted = include_str!("../../calendars/digests.txt");
    for line in counted.lines() {
        let mut words = line.split_ascii_whitespace();
        let mut word = || words.next().unwrap();
        let (name, year, days, digest) = (word(), word(), word(), word());
        let got = db.rows(&format!(
            "select count(*), md5(string_agg(line || chr(10), '' order by day)) from (
               select d.day, d.day || ' ' || string_agg(
                        to_char(d.opens at time zone c.timezone, 'MM-DD HH24:MI') || '-' ||
                        to_char(d.closes at time zone c.timezone, 'HH24:MI'), ' ' order by d.opens) as line
               from kronos.calendars c, kronos.calendar_days(c.name, '2000-01-01', '{year}-12-31') d
               where c.name = '{name}' group by d.day) sessions"
        ));
        assert_eq!(
            got,
            [[days, digest].map(|value| Some(value.to_owned()))],
            "{name}: compare kronos.calendar_days() with `facts.py days {name}`"
        );
    }
    assert_eq!(counted.lines().count(), 11);
}

#[test]
fn the_days_of_a_calendar_are_told() {
    let db = Database::new("the_days_of_a_calendar");
    let days = |calendar: &str, first: &str, last: &str, zone: &str| -> Vec<String> {
        let rows = db.rows(&format!(
            "select to_char(day, 'Dy') || to_char(opens at time zone '{zone}', ' Dy HH24:MI') || to_char(closes at time zone '{zone}', '-HH24:MI')
             from kronos.calendar_days('{calendar}', '{first}', '{last}') order by day, opens"
        ));
        rows.into_iter().map(|mut row| row.remove(0).unwrap()).collect()
    };
    // Thanksgiving and the Friday after it.
    assert_eq!(days("XNYS", "2024-11-28", "2024-12-01", "America/New_York"), ["Fri Fri 09:30-13:00"]);
    assert_eq!(
        days("XTKS", "2024-11-04", "2024-11-06", "Asia/Tokyo"),
        ["Tue Tue 09:00-11:30", "Tue Tue 12:30-15:30", "Wed Wed 09:00-11:30", "Wed Wed 12:30-15:30"],
        "Monday was Culture Day observed; since Tuesday the exchange closes half an hour later"
    );
    assert_eq!(
        days("GLBX", "2024-03-28", "2024-04-01", "America/Chicago"),
        ["Thu Wed 17:00-16:00", "Mon Sun 17:00-16:00"],
        "no day for Good Friday"
    );
    assert_eq!(
        days("FX", "2024-12-24", "2024-12-27", "America/New_York"),
        ["Tue Mon 17:00-17:00", "Thu Wed 17:00-17:00", "Fri Thu 17:00-17:00"]
    );
    assert_eq!(days("24x7", "2024-01-06", "2024-01-06", "UTC"), ["Sat Sat 00:00-00:00"]);
    db.error("select * from kronos.calendar_days('X', '2024-01-01', '2024-01-02')")
        .is("42704", "calendar \"X\" does not exist");
    db.error("select * from kronos.calendar_days('FX', null, '2024-01-02')")
        .is("22004", "first must not be null");
    db.error("select * from kronos.calendar_days('FX', '2024-01-01', 'infinity')")
        .is("22023", "last must be a date between the years 1900 and 2200");
}

#[test]
fn a_market_with_a_lunch_break() {
    let db = Database::new("a_market_with_a_lunch_break");
    db.run(
        "select kronos.add_calendar('LUNCH', 'Asia/Shanghai', '{\"1-5\":[[\"09:30\",\"11:30\"],[\"13:00\",\"15:00\"]]}');
         select kronos.add_calendar_exception('LUNCH', '2024-10-01');
         select kronos.add_calendar_exception('LUNCH', '2024-10-01')",
    );
    assert_eq!(
        db.value("select sessions -> '1' from kronos.calendars where name = 'LUNCH'"),
        r#"[["09:30", "11:30"], ["13:00", "15:00"]]"#
    );
    // Eight half-hour bars a day, none on the holiday: 30 September is a Monday.
    let bars = db.rows(
        "select to_char(time at time zone 'Asia/Shanghai', 'MM-DD HH24:MI')
         from kronos.simulate_bars('{A}', 16, '30 minutes', '2024-09-30 00:00+08', calendar => 'LUNCH')",
    );
    let bars: Vec<_> = bars.into_iter().map(|mut row| row.remove(0).unwrap()).collect();
    let times = ["09:30", "10:00", "10:30", "11:00", "13:00", "13:30", "14:00", "14:30"];
    let wanted: Vec<_> =
        ["09-30", "10-02"].iter().flat_map(|day| times.map(|time| format!("{day} {time}"))).collect();
    assert_eq!(bars, wanted);
}

#[test]
fn a_users_day_replaces_the_extensions() {
    let db = Database::new("a_users_day_replaces");
    let christmas_eve = "select opens, closes, builtin from kronos.calendar_exceptions
                         where calendar = 'XNYS' and day = '2024-12-24'";
    let days = "select count(*) from kronos.calendar_exceptions where calendar = 'XNYS' and day between '2024-01-01' and '2024-12-31'";
    // Ten holidays of 2024 and three early closes.
    assert_eq!(db.value(days), "13");
    db.run("select kronos.add_calendar_exception('XNYS', '2024-12-24', '09:30', '11:00', 'storm')");
    assert_eq!(db.value(days), "13", "the other days stay as they are");
    assert_eq!(db.rows(christmas_eve), [["09:30:00", "11:00:00", "f"].map(|value| Some(value.to_owned()))]);
    db.error("select kronos.add_calendar_exception('XNYS', '2024-12-24')")
        .is("42710", "already has another exception on 2024-12-24")
        .hint("drop_calendar_exception");
    db.run("select kronos.add_calendar_exception('XNYS', '2024-12-24', '12:00', '13:00', 'after the storm')");
    assert_eq!(db.rows(christmas_eve).len(), 2);
    db.run("select kronos.drop_calendar_exception('XNYS', '2024-12-24')");
    assert_eq!(db.rows(christmas_eve), [["09:30:00", "13:00:00", "t"].map(|value| Some(value.to_owned()))]);
    db.error("select kronos.drop_calendar_exception('XNYS', '2024-12-25')")
        .is("42704", "no exception of its own");
    db.error("select kronos.drop_calendar('XNYS')").is("2BP01", "because the extension provides it");
}

#[test]
fn a_calendar_says_what_is_wrong_with_it() {
    let db = Database::new("a_calendar_says");
    for (arguments, code, message) in [
        ("'x', 'Europe/Berlin', NULL", "22004", "must not be null"),
        ("'x', 'Berlin', '{\"1\":[]}'", "22023", "time zone \"Berlin\" does not exist"),
        ("'x', 'EST', '{\"1\":[]}'", "22023", "time zone \"EST\" does not exist"),
        ("'x y', 'Europe/Berlin', '{\"1\":[]}'", "22023", "calendar name \"x y\" is not valid"),
        ("'x', 'Europe/Berlin', '[]'", "22023", "sessions must be an object"),
        ("'x', 'Europe/Berlin', '{\"8\":[[\"09:00\",\"17:00\"]]}'", "22023", "unrecognized weekday \"8\""),
        ("'x', 'Europe/Berlin', '{\"1\":[[\"17:00\",\"09:00\"]]}'", "22023", "sessions of weekday \"1\""),
        ("'x', 'Europe/Berlin', '{\"1\":[[\"9:00\",\"17:00\"]]}'", "22023", "sessions of weekday \"1\""),
        ("'x', 'Europe/Berlin', '{\"1\":\"09:00\"}'", "22023", "sessions of weekday \"1\""),
        ("'x', 'Europe/Berlin', '{\"1\":[[\"09:00\",\"12:00\"],[\"11:00\",\"17:00\"]]}'", "22023", "overlap"),
        (
            "'x', 'Europe/Berlin', '{\"1-2\":[[\"09:00\",\"12:00\"]],\"2\":[[\"09:00\",\"12:00\"]]}'",
            "22023",
            "overlap",
        ),
        ("'XNYS', 'America/New_York', '{\"1\":[[\"09:00\",\"17:00\"]]}'", "42710", "already exists"),
    ] {
        db.error(&format!("select kronos.add_calendar({arguments})")).is(code, message);
    }
    assert_eq!(db.value("select count(*) from kronos.calendars where not builtin"), "0");
    db.run(
        "select kronos.add_calendar('XNYS', 'America/New_York', '{\"1\":[[\"09:00\",\"17:00\"]]}', if_not_exists => true);
         select kronos.add_calendar('NIGHT', 'America/Chicago', '{\"7\":[[\"17:00\",\"24:00\"]],\"1-4\":[[\"00:00\",\"16:00\"],[\"17:00\",\"24:00\"]],\"5\":[[\"00:00\",\"16:00\"]]}');
         select kronos.drop_calendar('NIGHT'); select kronos.drop_calendar('NIGHT', if_exists => true)",
    );
    for (arguments, code, message) in [
        ("'NIGHT', '2024-01-01'", "42704", "calendar \"NIGHT\" does not exist"),
        ("'XNYS', '2024-01-02', '09:00'", "22023", "opens before it closes"),
        ("'XNYS', '2024-01-02', '12:00', '09:00'", "22023", "opens before it closes"),
        ("'XNYS', 'infinity'", "22023", "an exception needs a day"),
    ] {
        db.error(&format!("select kronos.add_calendar_exception({arguments})")).is(code, message);
    }
}
