//! Which calendar a series has, and what follows: the next labels, the end of a bar, the season. Holidays and changes of the
//! clocks are facts of the markets named.

use kronos_tests::{Database, FixtureModels, Row};

fn flat(rows: Vec<Row>) -> Vec<String> {
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    rows.into_iter().map(|row| row.into_iter().map(text).collect::<Vec<_>>().join(" ")).collect()
}

/// Daily bars of the trading days of a calendar, with a price that moves.
fn daily(table: &str, calendar: &str, first: &str, last: &str) -> String {
    format!(
        "create table {table} as
         select day, 100.0 + n as open, 104.0 + n as high, 98.0 + n as low, 100.0 + n + (n % 3) as close, 1000.0 + n as volume
         from (select day, row_number() over (order by day) as n
               from kronos.calendar_days('{calendar}', '{first}', '{last}') group by day) s;"
    )
}

/// How each function forecasts three rows of a relation of bars.
const CALLS: [(&str, &str); 4] = [
    ("forecast", "forecast('naive', '%', '{close}', 3"),
    ("kronos_predict", "kronos_predict('%', 3, samples => 2"),
    ("chronos_predict", "chronos_predict('%', '{close}', 3, model => 'tiny-b'"),
    ("nbeats_predict", "nbeats_predict('%', '{close}', 3"),
];

/// Labels and cutoffs of a call, in UTC, or its status.
fn labels(db: &Database, call: &str, more: &str) -> Vec<String> {
    flat(db.rows(&format!(
        "set timezone = 'UTC'; select coalesce(status, to_char(ts, 'Dy MM-DD HH24:MI') || to_char(cutoff, ' from MM-DD HH24:MI')) from {call}{more})"
    )))
}

#[test]
fn daily_stocks_without_a_calendar_step_over_weekends_and_holidays() {
    let db = Database::new("daily_stocks_without_a_calendar");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    db.run(&daily("stock", "XNYS", "2023-09-01", "2024-08-30"));
    for (name, call) in CALLS {
        // Monday is Labor Day; Friday's session closed at 16:00 in New York, 20:00 UTC.
        assert_eq!(
            labels(&db, &call.replace('%', "stock"), ""),
            ["Tue 09-03", "Wed 09-04", "Thu 09-05"].map(|day| format!("{day} 00:00 from 08-30 20:00")),
            "{name}"
        );
    }
    // Every row of a backtest has its actual, and none lies on a weekend.
    assert_eq!(
        db.value(
            "select count(*) || ' ' || count(actual) || ' ' || count(*) filter (where extract(isodow from ts at time zone 'UTC') > 5)
             from kronos.backtest('naive', 'stock', 5, num_windows => 10, baselines => '{hist_vol}')"
        ),
        "100 100 0"
    );
    assert_eq!(
        flat(db.rows("select calendar, fits::text from kronos.infer_calendar('stock')")),
        ["XNYS {XNYS}"]
    );
}

#[test]
fn an_inferred_calendar_knows_nothing_of_later_rows() {
    let db = Database::new("an_inferred_calendar_knows_nothing");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    // What comes later is of another market: it trades on every day.
    db.run(&daily("whole", "XNYS", "2023-09-01", "2024-03-15"));
    db.run("create table cut as select * from whole;
            insert into whole select d, 1, 2, 0.5, 1, 1 from generate_series(date '2024-03-16', '2024-08-30', '1 day') d");
    for (name, call) in CALLS {
        let at = |table: &str, as_of: &str| {
            flat(db.rows(&format!(
                "set timezone = 'UTC'; set extra_float_digits = 1; select * from {}, as_of => '{as_of}'{})",
                call.replace('%', table),
                if name == "kronos_predict" { ", seed => 7" } else { "" }
            )))
        };
        for as_of in ["2024-03-15 19:59+00", "2024-03-15 20:00+00", "2024-03-16 12:00+00"] {
            let rows = at("whole", as_of);
            assert_eq!(rows, at("cut", as_of), "{name} {as_of}");
            assert!(rows[0].contains("2024-03-1"), "{name} {as_of}: {}", rows[0]);
        }
    }
    // A bar of the day is known when its session has closed, 16:00 in New York's summer: not at half past three, at half past four.
    let call = CALLS[0].1.replace('%', "whole");
    assert_eq!(labels(&db, &call, ", as_of => '2024-03-15 19:30+00'")[0], "Fri 03-15 00:00 from 03-14 20:00");
    assert_eq!(labels(&db, &call, ", as_of => '2024-03-15 20:30+00'")[0], "Mon 03-18 00:00 from 03-15 20:00");
}

#[test]
fn the_instruments_calendar_counts_before_the_bars_and_after_the_call() {
    let db = Database::installed("the_instruments_calendar");
    // A spring in which New York, London and others kept the same days.
    db.run(&daily("spring", "XNYS", "2024-04-02", "2024-05-03"));
    db.run(
        "create table bars as select symbol, spring.* from spring, unnest('{UK,US,ANY}'::text[]) symbol;
         insert into market.instruments (symbol, calendar) values ('UK', 'XLON'), ('US', 'XNYS')",
    );
    let first = |options: &str| {
        flat(db.rows(&format!(
            "set timezone = 'UTC';
             select series, to_char(ts, 'Dy MM-DD') from forecast('naive', 'bars', '{{close}}', 1, options => '{options}') order by 1"
        )))
    };
    // London keeps the Monday of 6 May.
    assert_eq!(first("{}"), ["ANY Sat 05-04", "UK Tue 05-07", "US Mon 05-06"]);
    assert_eq!(first(r#"{"calendar": "FX"}"#), ["ANY Mon 05-06", "UK Mon 05-06", "US Mon 05-06"]);
    // One that nobody defined is told of.
    db.run("update market.instruments set calendar = 'NYSE' where symbol = 'US'");
    let (mut client, notices) = db.connect_with_notices();
    kronos_tests::rows(
        &mut client,
        "select * from kronos.forecast('naive', 'bars', '{close}', 1, only_series => '{US}')",
    );
    let told = notices.lock().unwrap().drain(..).collect::<Vec<_>>().join("\n");
    assert!(told.contains("calendar \"NYSE\" of market.instruments does not exist"), "{told}");
    // Who may not read the instruments goes without them.
    let stranger = db.role("stranger");
    db.run(&format!("select kronos.grant_access('{stranger}', 'use'); grant select on bars to {stranger}"));
    let call = "set timezone = 'UTC';
                select series, to_char(ts, 'Dy MM-DD') from kronos.forecast('naive', 'bars', '{close}', 1) order by 1";
    let rows = kronos_tests::rows(&mut db.connect_as(&stranger), call);
    assert_eq!(flat(rows), ["ANY Sat 05-04", "UK Sat 05-04", "US Sat 05-04"]);
}

/// Whoever may make a schema may call it market: nothing of theirs runs in the calls of others.
#[test]
fn instruments_are_read_from_a_plain_table_alone() {
    let db = Database::new("instruments_are_read_from_a_plain_table");
    db.run(&daily("days", "XNYS", "2024-04-02", "2024-05-03"));
    db.run(
        "create table bars as select 'A'::text as symbol, days.* from days;
         create schema market;
         create function market.trap() returns text language plpgsql as $$ begin raise exception 'trapped'; end $$;
         create view market.instruments as select 'A'::text as symbol, market.trap() as calendar",
    );
    let next = "set timezone = 'UTC'; select to_char(ts, 'Dy MM-DD') from kronos.forecast('naive', 'bars', '{close}', 1)";
    assert_eq!(db.value(next), "Sat 05-04");
    // A cast or a policy of theirs would run too.
    db.run(
        "drop view market.instruments; create type market.name as enum ('A', 'XNYS');
         create function market.text_of(market.name) returns text language plpgsql as $$ begin raise exception 'trapped'; end $$;
         create cast (market.name as text) with function market.text_of(market.name);
         create table market.instruments (symbol market.name, calendar market.name);
         insert into market.instruments values ('A', 'XNYS')",
    );
    assert_eq!(db.value(next), "Sat 05-04");
    db.run(
        "drop table market.instruments; create table market.instruments (symbol text, calendar text);
         insert into market.instruments values ('A', 'XNYS')",
    );
    assert_eq!(db.value(next), "Mon 05-06");
    db.run("alter table market.instruments enable row level security");
    assert_eq!(db.value(next), "Sat 05-04");
}

#[test]
fn a_calendar_that_does_not_fit_is_told_once() {
    let db = Database::new("a_calendar_that_does_not_fit");
    db.run(&daily("coin", "24x7", "2024-01-01", "2024-03-01"));
    db.run(&daily("stock", "XNYS", "2024-04-02", "2024-05-24"));
    let said = |call: &str| {
        let (mut client, notices) = db.connect_with_notices();
        kronos_tests::rows(&mut client, &format!("select * from kronos.{call}"));
        notices.lock().unwrap().drain(..).collect::<Vec<_>>()
    };
    let off = |noun: &str| {
        [format!("NOTICE: calendar \"XNYS\" does not fit 1 of 1 series: {noun}s lie outside of its sessions")]
    };
    let xnys = r#"options => '{"calendar":"XNYS"}')"#;
    assert_eq!(said(&format!("kronos_predict('coin', 3, samples => 2, {xnys}")), off("bar"));
    assert_eq!(said(&format!("forecast('naive', 'coin', '{{close}}', 3, {xnys}")), off("row"));
    assert_eq!(said(&format!("backtest('naive', 'coin', 3, {xnys}")), off("row"));
    assert_eq!(said("kronos_predict('coin', 3, samples => 2)"), [""; 0]);
    assert_eq!(said(&format!("kronos_predict('stock', 3, samples => 2, {xnys}")), [""; 0]);
    // Nothing tells whose weekdays these are, so the default stands; that it does not fit is said.
    let missing = |noun: &str| {
        [format!(
            "NOTICE: calendar \"24x7\" does not fit 1 of 1 series: many of its sessions have no {noun}s"
        )]
    };
    assert_eq!(said("forecast('naive', 'stock', '{close}', 3)"), missing("row"));
    assert_eq!(said("kronos_predict('stock', 3, samples => 2)"), missing("bar"));
    // London keeps 6 May, Frankfurt the first.
    assert_eq!(
        db.value("select (calendar is null) || ' ' || (fits @> '{XNYS,FX}' and not fits && '{XLON,XETR}') from kronos.infer_calendar('stock')"),
        "true true"
    );
}

/// Months that pandas calls BME, BMS, ME and BQE.
#[test]
fn months_and_quarters_are_followed_by_the_next_wherever_their_label_lies() {
    let db = Database::new("months_and_quarters");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    let months = |table: &str, label: &str, step: &str| {
        format!(
            "create table {table} as
             select ({label})::date as day, 100.0 + n as open, 104.0 + n as high, 98.0 + n as low, 100.0 + n + (n % 3) as close, 1000.0 + n as volume
             from (select n, (date '2018-01-01' + n * interval '{step}')::date as first,
                          (date '2018-01-01' + (n + 1) * interval '{step}' - interval '1 day')::date as last
                   from generate_series(0, 71) n) s;"
        )
    };
    let back = "last - greatest(extract(isodow from last)::int - 5, 0)";
    let on = "first + case extract(isodow from first)::int when 6 then 2 when 7 then 1 else 0 end";
    db.run(&months("me", "last", "1 month"));
    db.run(&months("bme", back, "1 month"));
    db.run(&months("bms", on, "1 month"));
    db.run(&months("bqe", back, "3 months"));
    for (table, expected) in [
        (
            "me",
            [
                "Wed 01-31 00:00 from 01-01 00:00",
                "Thu 02-29 00:00 from 01-01 00:00",
                "Sun 03-31 00:00 from 01-01 00:00",
            ],
        ),
        (
            "bme",
            [
                "Wed 01-31 00:00 from 01-01 00:00",
                "Thu 02-29 00:00 from 01-01 00:00",
                "Fri 03-29 00:00 from 01-01 00:00",
            ],
        ),
        (
            "bms",
            [
                "Mon 01-01 00:00 from 01-01 00:00",
                "Thu 02-01 00:00 from 01-01 00:00",
                "Fri 03-01 00:00 from 01-01 00:00",
            ],
        ),
    ] {
        for (name, call) in &CALLS[..3] {
            let got = labels(&db, &call.replace('%', table), ", as_of => '2024-01-15 00:00+00'");
            assert_eq!(got, expected, "{name} {table}");
        }
    }
    assert_eq!(
        labels(&db, "forecast('naive', 'bqe', '{close}', 3", ", as_of => '2020-01-15 00:00+00'"),
        [
            "Tue 03-31 00:00 from 01-01 00:00",
            "Tue 06-30 00:00 from 01-01 00:00",
            "Wed 09-30 00:00 from 01-01 00:00"
        ]
    );
    // With New York's sessions the month ends with its last: 29 December 2023, 16:00.
    assert_eq!(
        labels(
            &db,
            "kronos_predict('bme', 3, samples => 2",
            r#", as_of => '2024-01-15 00:00+00', options => '{"calendar":"XNYS"}'"#
        ),
        [
            "Wed 01-31 05:00 from 12-29 21:00",
            "Thu 02-29 05:00 from 12-29 21:00",
            "Fri 03-29 04:00 from 12-29 21:00"
        ]
    );
}

#[test]
fn days_from_evening_to_evening_have_no_gap_over_the_weekend() {
    let db = Database::new("days_from_evening_to_evening");
    // Labelled by the start, in the local time of the market; and by the date that the day trades for.
    db.run(
        "create table fx as
         select opens as time, 1.08 as open, 1.09 as high, 1.07 as low, 1.08 + 0.0001 * extract(day from day) as close, 1000.0 as volume
         from kronos.calendar_days('FX', '2024-01-08', '2024-03-29');
         create table es as
         select opens as time, 5000.0 as open, 5010.0 as high, 4990.0 as low, 5000 + extract(day from day) as close, 1000.0 as volume
         from kronos.calendar_days('GLBX', '2024-01-08', '2024-03-28');
         create table es_date as
         select day, 5000.0 as open, 5010.0 as high, 4990.0 as low, 5000 + extract(day from day) as close, 1000.0 as volume
         from kronos.calendar_days('GLBX', '2024-01-08', '2024-03-28')",
    );
    let next = |table: &str, options: &str, zone: &str| {
        flat(db.rows(&format!(
            "select to_char(ts at time zone '{zone}', 'Dy MM-DD HH24:MI') || to_char(cutoff at time zone '{zone}', ' from Dy HH24:MI')
             from kronos.kronos_predict('{table}', 2, samples => 2, options => '{options}')
             union all
             select to_char(ts at time zone '{zone}', 'Dy MM-DD HH24:MI') || to_char(cutoff at time zone '{zone}', ' from Dy HH24:MI')
             from kronos.forecast('naive', '{table}', '{{close}}', 2, options => '{options}')"
        )))
    };
    let twice = |rows: [&'static str; 2]| [rows, rows].concat();
    // Only foreign exchange has days that begin at 17:00 in New York.
    for options in ["{}", r#"{"calendar": "FX"}"#] {
        assert_eq!(
            next("fx", options, "America/New_York"),
            twice(["Sun 03-31 17:00 from Fri 17:00", "Mon 04-01 17:00 from Fri 17:00"])
        );
    }
    for options in ["{}", r#"{"calendar": "GLBX"}"#] {
        // Good Friday, the 29th, has no day.
        assert_eq!(
            next("es", options, "America/Chicago"),
            twice(["Sun 03-31 17:00 from Thu 16:00", "Mon 04-01 17:00 from Thu 16:00"])
        );
    }
    assert_eq!(
        next("es_date", r#"{"calendar": "GLBX"}"#, "America/Chicago"),
        twice(["Mon 04-01 00:00 from Thu 16:00", "Tue 04-02 00:00 from Thu 16:00"])
    );
    // A week of five days.
    db.run("create table trading_week as select opens as time, extract(isodow from day)::float8 as y from kronos.calendar_days('FX', '2024-02-05', '2024-03-29')");
    assert_eq!(
        flat(db.rows("select forecast from kronos.forecast('seasonal_naive', 'trading_week', '{y}', 5)")),
        ["1", "2", "3", "4", "5"]
    );
}

#[test]
fn days_from_local_midnight_pass_a_change_of_the_clocks_on_the_default_calendar() {
    let db = Database::new("days_from_local_midnight");
    for (table, first, last) in
        [("spring", "2024-01-15", "2024-03-20"), ("autumn", "2024-09-01", "2024-11-20")]
    {
        db.run(&format!(
            "create table {table} as
             select d at time zone 'America/New_York' as time, 100.0 as open, 102.0 as high, 98.0 as low,
                    100.0 + sin(extract(doy from d)::float8) as close, 5.0 as volume
             from generate_series(timestamp '{first}', '{last}', '1 day') d"
        ));
        let expected = match table {
            "spring" => ["Thu 03-21 04:00 from 03-21 04:00", "Fri 03-22 04:00 from 03-21 04:00"],
            _ => ["Thu 11-21 05:00 from 11-21 05:00", "Fri 11-22 05:00 from 11-21 05:00"],
        };
        assert_eq!(labels(&db, &format!("kronos_predict('{table}', 2, samples => 2"), ""), expected);
        assert_eq!(labels(&db, &format!("forecast('naive', '{table}', '{{close}}', 2"), ""), expected);
    }
}

#[test]
fn a_season_is_a_day_or_a_week_of_the_market() {
    let db = Database::new("a_season_is_a_day_or_a_week");
    db.run(
        "create table days as select day, extract(isodow from day)::float8 as y, 10 * extract(isodow from day)::float8 + row_number() over (order by day) as close
         from kronos.calendar_days('XNYS', '2024-04-01', '2024-05-24');
         create table half_hours as
         select opens + t * interval '30 minutes' as time, t::float8 as y
         from kronos.calendar_days('XNYS', '2024-04-01', '2024-05-24'), generate_series(0, 12) t",
    );
    let seasonal = |table: &str, steps: usize, options: &str| {
        flat(db.rows(&format!(
            "select forecast from kronos.forecast('seasonal_naive', '{table}', '{{y}}', {steps}, options => '{options}')"
        )))
    };
    // After Friday 24 May and Memorial Day comes Tuesday: the season is counted in rows.
    assert_eq!(seasonal("days", 5, r#"{"calendar": "XNYS"}"#), ["1", "2", "3", "4", "5"]);
    assert_eq!(seasonal("half_hours", 4, r#"{"calendar": "XNYS"}"#), ["0", "1", "2", "3"]);
    assert_eq!(
        seasonal("half_hours", 4, "{}"),
        ["0", "1", "2", "3"],
        "its hours are those of New York alone"
    );
    // The unit of mase: rows a week apart differ by five, rows seven apart by more.
    assert_eq!(
        db.value(
            r#"select string_agg(distinct scale::text, ' ') from kronos.backtest('naive', 'days', 2, targets => '{close}', num_windows => 3,
                 baselines => '{}', options => '{"calendar": "XNYS"}')"#
        ),
        "5"
    );
}
