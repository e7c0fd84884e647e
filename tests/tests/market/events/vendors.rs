//! Events as vendors tell of them.

use super::{said, tell, utc};
use kronos_tests::Database;

/// An entry of FMP's economic calendar of the United States.
fn calendar(db: &Database, event: &str, due: &str, received_at: &str, values: &str) {
    let payload = format!(r#"{{"country": "US", "event": "{event}", "date": "{due}"{values}}}"#);
    tell(db, "fmp_economic_calendar", &format!("US/{event}/{due}"), None, received_at, &payload);
}

fn report(db: &Database, symbol: &str, day: &str, received_at: &str, values: &str) {
    let payload = format!(r#"{{"symbol": "{symbol}", "date": "{day}"{values}}}"#);
    tell(db, "fmp_earnings", &format!("{symbol}/{day}"), Some(symbol), received_at, &payload);
}

/// Rows in force of a kind at an instant: event, when it is due, actual and when it was known, consensus and when it was taken.
fn in_force(db: &Database, kind: &str, as_of: &str) -> Vec<String> {
    let query = format!(
        "select event_key, {}, actual, {}, consensus, {} from market.events('{as_of}', '{{{kind}}}') where superseded_by is null order by 1",
        utc("scheduled_ts"),
        utc("actual_known_at"),
        utc("consensus_asof")
    );
    said(db, &query)
}

#[test]
fn a_calendar_that_is_watched_says_what_was_expected_and_what_came_first() {
    let db = Database::installed("events_watched");
    let (event, due) = ("Inflation Rate MoM (Aug)", "2026-09-11 12:30:00");
    let seen = |at: &str, values: &str| calendar(&db, event, due, at, values);
    seen("2026-07-01 06:00+00", r#", "previous": 0.1, "estimate": null, "actual": null"#);
    seen("2026-09-01 06:00+00", r#", "previous": 0.1, "estimate": 0.3, "actual": null"#);
    // When it is due, somebody knows already.
    seen("2026-09-11 12:30:00+00", r#", "previous": 0.1, "estimate": 0.4, "actual": null"#);
    seen("2026-09-11 12:30:20+00", r#", "previous": "0.2", "estimate": 0.4, "actual": "0.4""#);
    seen("2026-09-11 13:30:00+00", r#", "previous": 0.1, "estimate": 0.4, "actual": 0.6"#);
    // What has no figure of a kind is no event.
    calendar(&db, "Inflation Rate YoY (Aug)", due, "2026-07-01 06:00+00", r#", "estimate": 3.1"#);
    assert_eq!(
        in_force(&db, "CPI", "2026-12-01 00:00+00"),
        ["CPI:2026-09-11 2026-09-11 12:30:00 0.4 2026-09-11 12:30:20 0.3 2026-09-01 06:00:00"]
    );
    assert_eq!(in_force(&db, "CPI", "2026-08-01 00:00+00"), ["CPI:2026-09-11 2026-09-11 12:30:00 - - - -"]);
    assert_eq!(
        said(&db, "select previous, surprise, unit, source from market.econ_events"),
        ["0.2 0.1 percentage_points fmp".replace('_', " ")]
    );
}

#[test]
fn the_hour_of_a_publisher_is_that_of_its_clock() {
    let db = Database::installed("events_hours");
    for (event, due) in [
        // Summer and winter in New York.
        ("Inflation Rate MoM (Jun)", "2026-07-14 12:30:00"),
        ("Inflation Rate MoM (Nov)", "2026-12-10 13:30:00"),
        // The clock of New York where that of UTC is promised, and a day without an hour.
        ("Inflation Rate MoM (Jul)", "2026-08-12 08:30:00"),
        ("Inflation Rate MoM (Dec)", "2027-01-13"),
        ("Fed Interest Rate Decision", "2026-07-29 18:00:00"),
        ("Fed Interest Rate Decision", "2026-12-09 19:00:00"),
    ] {
        calendar(&db, event, due, "2026-06-01 00:00+00", "");
    }
    let due = |kind: &str| {
        said(
            &db,
            &format!(
                "select {} from market.events('2026-06-02', '{{{kind}}}') order by 1",
                utc("scheduled_ts")
            ),
        )
    };
    assert_eq!(
        due("CPI"),
        ["2026-07-14 12:30:00", "2026-08-12 12:30:00", "2026-12-10 13:30:00", "2027-01-13 13:30:00"]
    );
    assert_eq!(due("FOMC"), ["2026-07-29 18:00:00", "2026-12-09 19:00:00"]);
    // Who has no hour of its own is taken at the vendor's word.
    let bank = r#"{"country": "EU", "event": "ECB Interest Rate Decision", "date": "2026-10-29 13:15:00"}"#;
    tell(&db, "fmp_economic_calendar", "EU/ECB", None, "2026-06-01 00:00+00", bank);
    assert_eq!(
        said(
            &db,
            &format!(
                "select event_key, publisher, {} from market.events('2026-06-02', '{{RATE_DECISION}}')",
                utc("scheduled_ts")
            )
        ),
        ["RATE_DECISION:ECB:2026-10-29 ECB 2026-10-29 13:15:00"]
    );
}

#[test]
fn a_calendar_of_the_past_was_known_when_it_was_due() {
    let db = Database::installed("events_past");
    let read = "2026-11-20 10:00+00";
    // A cut by a quarter of a point that nobody had expected.
    calendar(
        &db,
        "Fed Interest Rate Decision",
        "2026-03-18 18:00:00",
        read,
        r#", "previous": 3.75, "estimate": 3.75, "actual": 3.5"#,
    );
    assert_eq!(in_force(&db, "FOMC", "2026-03-18 18:00:59+00"), [""; 0]);
    let expected = "FOMC:2026-03-18 2026-03-18 18:00:00 -25.00 2026-03-18 18:01:00 0.00 2026-03-18 04:00:00";
    assert_eq!(in_force(&db, "FOMC", "2026-03-18 18:01+00"), [expected]);
    assert_eq!(in_force(&db, "FOMC", "2026-12-01 00:00+00"), [expected]);
    assert_eq!(
        said(&db, "select surprise, hawkish from market.events('2026-12-01', '{FOMC}')"),
        ["-25.00 -0.5"]
    );
    // Written by the clock of New York, as UTC it would have been known before it was due.
    calendar(
        &db,
        "Inflation Rate MoM (Jul)",
        "2026-08-12 08:30:00",
        read,
        r#", "estimate": 0.1, "actual": 0.2"#,
    );
    assert_eq!(
        in_force(&db, "CPI", "2026-12-01 00:00+00"),
        ["CPI:2026-08-12 2026-08-12 12:30:00 0.2 2026-08-12 12:31:00 0.1 2026-08-12 04:00:00"]
    );
    // A report by its day alone: when the day was over in New York. What was seen before it is known when it came.
    report(&db, "ACME", "2026-04-28", read, r#", "epsActual": 1.10, "epsEstimated": 1.05"#);
    report(&db, "ACME", "2027-01-26", read, r#", "epsActual": null, "epsEstimated": 1.3"#);
    assert_eq!(
        in_force(&db, "EARNINGS", "2026-12-01 00:00+00"),
        [
            "EARNINGS:ACME:2026-04-28 2026-04-28 13:30:00 1.1 2026-04-29 04:00:00 1.05 2026-04-28 04:00:00",
            "EARNINGS:ACME:2027-01-26 2027-01-26 14:30:00 - - 1.3 2026-11-20 10:00:00"
        ]
    );
    assert_eq!(in_force(&db, "EARNINGS", "2026-11-20 09:59+00").len(), 1);
    // After the close, before the open: the formerly known hours.
    report(&db, "LATE", "2026-10-29", read, r#", "eps": 2, "epsEstimated": 1, "time": "amc""#);
    report(&db, "SOON", "2026-10-29", read, r#", "eps": 2, "epsEstimated": 1, "time": "bmo""#);
    assert_eq!(
        said(
            &db,
            &format!(
                "select symbol, {}, {}, is_day_only from market.econ_events where symbol in ('LATE', 'SOON') order by 1",
                utc("scheduled_ts"),
                utc("actual_known_at")
            )
        ),
        ["LATE 2026-10-29 20:05:00 2026-10-29 20:06:00 f", "SOON 2026-10-29 11:00:00 2026-10-29 11:01:00 f"]
    );
}

#[test]
fn figures_that_move_by_weeks_stay_those_of_their_month() {
    let db = Database::installed("events_shutdown");
    // A government that is shut publishes September after October was due.
    let jobs = |month: &str, due: &str, seen: &str, values: &str| {
        calendar(&db, &format!("Non Farm Payrolls ({month})"), due, seen, values)
    };
    jobs("Sep", "2026-10-02 12:30:00", "2026-08-01 00:00+00", r#", "estimate": 50"#);
    jobs("Oct", "2026-11-06 13:30:00", "2026-08-20 00:00+00", "");
    jobs("Sep", "2026-11-20 13:30:00", "2026-10-20 00:00+00", r#", "estimate": 53"#);
    jobs("Sep", "2026-11-20 13:30:00", "2026-11-20 13:30:12+00", r#", "estimate": 53, "actual": 119"#);
    let moved = "NFP:2026-10-02 2026-11-20 13:30:00 119 2026-11-20 13:30:12 53 2026-10-20 00:00:00";
    assert_eq!(
        in_force(&db, "NFP", "2026-11-21 00:00+00"),
        [moved, "NFP:2026-11-06 2026-11-06 13:30:00 - - - -"]
    );
    assert_eq!(
        in_force(&db, "NFP", "2026-10-01 00:00+00")[0],
        "NFP:2026-10-02 2026-10-02 12:30:00 - - 50 2026-08-01 00:00:00"
    );
    // December comes out in January; that of the next year is another.
    jobs("Dec", "2027-01-08 13:30:00", "2026-11-22 00:00+00", "");
    jobs("Dec", "2027-12-31 13:30:00", "2026-11-23 00:00+00", "");
    jobs("Dec", "2026-12-31 13:30:00", "2026-11-24 00:00+00", "");
    assert_eq!(
        in_force(&db, "NFP", "2026-12-01 00:00+00")[2..],
        ["NFP:2027-01-08 2026-12-31 13:30:00 - - - -", "NFP:2027-12-31 2027-12-31 13:30:00 - - - -"]
    );
}

#[test]
fn a_report_that_moves_is_one_event_and_the_next_quarter_another() {
    let db = Database::installed("events_reports");
    report(&db, "ACME", "2026-07-21", "2026-06-01 12:00+00", r#", "epsEstimated": 1.55"#);
    // Brought forward on a Friday evening, reported, and the next quarter is set.
    report(&db, "ACME", "2026-07-14", "2026-07-10 22:00+00", r#", "epsEstimated": 1.6"#);
    report(&db, "ACME", "2026-07-14", "2026-07-14 20:10+00", r#", "epsEstimated": 1.6, "epsActual": 1.65"#);
    report(&db, "ACME", "2026-10-20", "2026-07-20 12:00+00", r#", "epsEstimated": 1.7"#);
    // Put off twice.
    report(&db, "ACME", "2026-10-28", "2026-10-15 12:00+00", "");
    report(&db, "ACME", "2026-11-16", "2026-10-26 12:00+00", r#", "epsEstimated": 1.4"#);
    assert_eq!(
        in_force(&db, "EARNINGS", "2026-12-01 00:00+00"),
        [
            "EARNINGS:ACME:2026-07-21 2026-07-14 13:30:00 1.65 2026-07-14 20:10:00 1.6 2026-07-10 22:00:00",
            "EARNINGS:ACME:2026-10-20 2026-11-16 14:30:00 - - 1.4 2026-10-26 12:00:00"
        ]
    );
    assert_eq!(
        in_force(&db, "EARNINGS", "2026-07-10 21:00+00"),
        ["EARNINGS:ACME:2026-07-21 2026-07-21 13:30:00 - - 1.55 2026-06-01 12:00:00"]
    );
    // A company that is late with its year and in time with the quarter after it.
    report(&db, "SLOW", "2026-04-20", "2026-04-01 12:00+00", "");
    report(&db, "SLOW", "2026-04-20", "2026-04-20 21:00+00", r#", "epsActual": 3"#);
    report(&db, "SLOW", "2026-05-11", "2026-04-22 12:00+00", "");
    assert_eq!(
        db.value("select count(distinct event_key) from market.events('2026-12-01', '{EARNINGS}', '{SLOW}')"),
        "2"
    );
}

#[test]
fn earnings_are_measured_by_the_reports_before_or_a_share_of_the_price() {
    let db = Database::installed("events_sue");
    for (i, day) in ["2025-07-22", "2025-10-21", "2026-01-27", "2026-04-28", "2026-07-21"].iter().enumerate()
    {
        let values =
            format!(r#", "epsEstimated": 1.00, "epsActual": {}"#, 1.0 + [0.05, -0.05, 0.05, -0.05, 0.10][i]);
        report(&db, "ACME", day, "2026-11-20 10:00+00", &values);
    }
    let z = |day: &str| {
        db.value(&format!(
            "select surprise_z from market.econ_events where event_key = 'EARNINGS:ACME:{day}'"
        ))
    };
    assert_eq!(z("2026-04-28"), "", "three before it, and no price");
    // 0.10 over 0.05·√(4/3).
    assert_eq!(
        z("2026-07-21").parse::<f64>().map(|z| (z * 1e9).round()),
        Ok((2.0 * 0.75_f64.sqrt() * 1e9).round())
    );
    // A price of 500 makes 0.10 of a share of 0.02 %, one of 1,000 makes 0.20; that of the day after is not known yet.
    db.run(
        "insert into market.bars (symbol, source, bar_width, time, open, high, low, close, known_at)
         select 'ACME', 'file', '1 day', d, 1, 1, 1, p, d + interval '1 day'
         from (values (timestamptz '2026-04-27 00:00+00', 500), ('2026-07-20 00:00+00', 1000), ('2026-07-22 00:00+00', 9000)) v (d, p)",
    );
    assert_eq!(z("2026-04-28").parse::<f64>().map(|z| (z * 1e9).round()), Ok(-0.5e9));
    assert_eq!(z("2026-07-21").parse::<f64>().map(|z| (z * 1e9).round()), Ok(0.5e9));
}

#[test]
fn fred_tells_the_days_ahead_and_the_figure_when_the_day_is_over() {
    let db = Database::installed("events_fred");
    let read = "2026-11-20 10:00+00";
    for day in ["2026-09-11", "2026-10-14", "2026-12-10"] {
        let payload =
            format!(r#"{{"release_id": 10, "release_name": "Consumer Price Index", "date": "{day}"}}"#);
        tell(&db, "fred_release_date", &format!("10/{day}"), None, read, &payload);
    }
    let level = |month: &str, vintage: &str, known: &str, value: &str| {
        db.run(&format!(
            "insert into market.fred_observation (source, kind, key, symbol, known_at, received_at, payload, digest)
             select 'fred', 'fred_observation', 'CPIAUCSL/{month}-01', 'CPIAUCSL', '{known}', '{read}', p, sha256(p::text::bytea)
             from (select jsonb '{{\"date\": \"{month}-01\", \"realtime_start\": \"{vintage}\", \"value\": \"{value}\"}}' as p) x"
        ));
    };
    level("2026-07", "2026-08-12", "2026-08-13 04:00+00", "328.0");
    // With August came a new July: 330 over 329 is 0.3 %, over the first 328 it would be 0.6.
    level("2026-08", "2026-09-11", "2026-09-12 04:00+00", "330.0");
    level("2026-07", "2026-09-11", "2026-09-12 04:00+00", "329.0");
    level("2026-08", "2026-10-14", "2026-10-15 04:00+00", "333.3");
    level("2026-09", "2026-10-14", "2026-10-15 04:00+00", ".");
    // Records of vintages begin long after the figure came.
    level("1950-01", "1972-07-21", "1972-07-22 04:00+00", "23.5");
    let announced = format!(
        "select event_key, {}, {} from market.econ_events where scheduled_ts is not null order by 1",
        utc("scheduled_ts"),
        utc("schedule_known_at")
    );
    assert_eq!(
        said(&db, &announced).into_iter().filter(|row| row.starts_with("CPI:")).collect::<Vec<_>>(),
        [
            // In November of the year before, at ten in New York; one to come when it was seen.
            "CPI:2026-09-11 2026-09-11 12:30:00 2025-11-01 14:00:00",
            "CPI:2026-10-14 2026-10-14 12:30:00 2025-11-01 14:00:00",
            "CPI:2026-12-10 2026-12-10 13:30:00 2026-11-20 10:00:00",
        ]
    );
    let figures = format!(
        "select event_key, actual, {} from market.events('2026-12-01', '{{CPI}}') where actual is not null",
        utc("actual_known_at")
    );
    assert_eq!(said(&db, &figures), ["CPI:2026-09-11 0.3 2026-09-12 04:00:00"]);
    // Whoever saw it come is first.
    calendar(
        &db,
        "Inflation Rate MoM (Aug)",
        "2026-09-11 12:30:00",
        "2026-09-01 00:00+00",
        r#", "estimate": 0.2"#,
    );
    calendar(
        &db,
        "Inflation Rate MoM (Aug)",
        "2026-09-11 12:30:00",
        "2026-09-11 12:30:15+00",
        r#", "estimate": 0.2, "actual": 0.4"#,
    );
    assert_eq!(said(&db, &figures), ["CPI:2026-09-11 0.4 2026-09-11 12:30:15"]);
    assert_eq!(db.value("select surprise from market.econ_events where event_key = 'CPI:2026-09-11'"), "0.2");
}

#[test]
fn what_no_vendor_should_say_breaks_no_answer() {
    let db = Database::installed("events_hostile");
    for (n, actual) in ["1e250", "-1e250", "\"1e299\"", "\"NaN\"", "0.2"].iter().enumerate() {
        let due = format!("2026-0{}-11 12:30:00", n + 1);
        let (before, after) =
            (format!("2026-0{}-01 00:00+00", n + 1), format!("2026-0{}-12 00:00+00", n + 1));
        calendar(&db, "Inflation Rate MoM", &due, &before, r#", "estimate": 0.1"#);
        calendar(
            &db,
            "Inflation Rate MoM",
            &due,
            &after,
            &format!(r#", "estimate": 0.1, "actual": {actual}"#),
        );
    }
    for due in ["soon", "2026-02-31 25:61:00", "0000-00-00", ""] {
        calendar(&db, "Inflation Rate MoM (Feb)", due, "2026-03-01 00:00+00", r#", "actual": 1"#);
    }
    report(&db, "ACME", "2026-07-21", "2026-07-01 00:00+00", r#", "epsEstimated": 1"#);
    report(&db, "ACME", "2026-07-21", "2026-07-22 00:00+00", r#", "epsEstimated": 1, "epsActual": 2"#);
    db.run(
        "insert into market.bars (symbol, source, bar_width, time, open, high, low, close, known_at)
         select 'ACME', 'file', '1 day', d, 1, 1, 1, p, d + interval '1 day'
         from (values (timestamptz '2026-07-18 00:00+00', float8 '50'), ('2026-07-19 00:00+00', 'Infinity'), ('2026-07-20 00:00+00', 'NaN')) v (d, p)",
    );
    // The figure that can be measured has nothing before it that can.
    assert_eq!(
        said(
            &db,
            "select event_key, round(surprise, 1), n_before, z > 0 from market.surprises('2026-12-01 00:00+00') order by 1"
        ),
        ["CPI:2026-05-11 0.1 0 t", "EARNINGS:ACME:2026-07-21 1.0 0 t"]
    );
    for (column, value) in
        [("zone", "'Mars/Olympus'"), ("announced", "'02-30 10:00'"), ("floor", "'NaN'"), ("min_sigma", "0")]
    {
        let change = format!("update market.event_kinds set {column} = {value} where kind = 'CPI'");
        let error = db.connect().simple_query(&change).unwrap_err();
        let code = error.code().map(|code| code.code());
        assert!(matches!(code, Some("22023" | "23514")), "{column}: {error}");
    }
}
