//! Outcomes outside of what was forecast before them: from the ledger by hand arithmetic, and made for the call.

use kronos_tests::{Database, bars};

/// Hourly closes of one series from 2024-01-01, with when each was known, and a live run in the ledger.
fn hours(name: &str) -> Database {
    let db = Database::installed(name);
    db.run(
        "create table prices (time timestamptz, symbol text, close float8, known_at timestamptz);
         insert into prices
         select timestamptz '2024-01-01 00:00+00' + i * interval '1 hour', 'AAA', 100.0, timestamptz '2024-01-01 01:00+00' + i * interval '1 hour'
         from generate_series(0, 30) i;
         select ledger.open_run('live', 'prices', 'forecast', 1, 'm')",
    );
    db
}

/// A forecast of an hour, made at its start: the point 100, the interval from 96 to 102 at 95 %. The owner of the ledger can say when.
fn forecast(db: &Database, hour: u32, issued_after_minutes: i32, but: &str) {
    db.run(&format!(
        "insert into ledger.forecasts (run_id, kind, relation, series, target, ts, step, cutoff, forecast, lower, upper, level, model_version,
           calibration, issued_at)
         select run_id, kind, relation, series, target, ts, step, cutoff, forecast, lower, upper, level, model_version, calibration, issued_at from (
           select r.run_id, 'live' as kind, r.relation, 'AAA' as series, 'close' as target, t as ts, 1 as step, t as cutoff, 100.0 as forecast,
                  96.0 as lower, 102.0 as upper, 0.95 as level, 'm@1' as model_version, '' as calibration,
                  t + {issued_after_minutes} * interval '1 minute' as issued_at
           from ledger.runs r, (select timestamptz '2024-01-01 00:00+00' + {hour} * interval '1 hour' as t) x) f {but}"
    ));
}

fn outcome(db: &Database, hour: u32, close: f64) {
    db.run(&format!(
        "update prices set close = {close} where time = timestamptz '2024-01-01 00:00+00' + {hour} * interval '1 hour'"
    ));
}

fn found(db: &Database, arguments: &str) -> Vec<String> {
    let rows = db.rows(&format!(
        "select concat_ws(' ', extract(hour from ts at time zone 'UTC'), actual, is_anomaly, round(score::numeric, 4),
                          round(probability::numeric, 6), level, coalesce(calibration, '-'))
         from kronos.detect_anomalies('prices', time_col => 'time' {arguments}) order by ts, level, calibration"
    ));
    rows.into_iter().flatten().flatten().collect()
}

/// One and a half standard deviations of 1.959964 reach from 100 to 103, on the upper side of a width of 2; the lower side is twice as wide.
#[test]
fn outcomes_are_measured_by_the_interval_that_was_served_for_them() {
    let db = hours("anomalies_by_hand");
    for (hour, close) in [(2, 100.0), (3, 103.0), (4, 98.0), (5, 90.0), (6, 102.0)] {
        outcome(&db, hour, close);
        forecast(&db, hour, 10, "");
    }
    assert_eq!(
        found(&db, ""),
        [
            "2 100 f 0.0000 0.000000 0.95 -",
            "3 103 t 2.9399 0.996717 0.95 -",
            "4 98 f -0.9800 0.672905 0.95 -",
            "5 90 t -4.8999 0.999999 0.95 -",
            // On the edge is inside.
            "6 102 f 1.9600 0.950000 0.95 -",
        ]
    );
}

#[test]
fn only_live_forecasts_that_were_written_before_their_row_had_ended_count() {
    let db = hours("anomalies_in_time");
    forecast(&db, 3, 59, "");
    forecast(&db, 4, 61, "");
    db.run("update prices set close = null where symbol = 'AAA' and time = '2024-01-01 05:00+00'");
    forecast(&db, 5, 10, "");
    forecast(&db, 40, 10, "");
    db.run(
        "insert into ledger.forecasts (run_id, kind, relation, series, target, ts, step, cutoff, forecast, lower, upper, level, model_version,
           calibration, issued_at)
         select run_id, 'manual', relation, series, target, ts, step, cutoff, forecast, lower, upper, level, model_version, calibration, issued_at
         from ledger.forecasts where ts = '2024-01-01 03:00+00'
         union all
         select run_id, kind, relation, series, target, ts, 2, cutoff - interval '1 hour', forecast, 99, 101, 0.9, model_version, 'c', issued_at
         from ledger.forecasts where ts = '2024-01-01 03:00+00'",
    );
    assert_eq!(found(&db, ""), ["3 100 f 0.0000 0.000000 0.95 -"]);
    assert_eq!(found(&db, ", step => 2"), ["3 100 f 0.0000 0.000000 0.9 c"]);
    assert_eq!(found(&db, ", step => 2, level => 0.95"), Vec::<String>::new());
    assert_eq!(found(&db, ", since => '2024-01-01 04:00+00'"), Vec::<String>::new());
    assert_eq!(found(&db, ", only_series => '{BBB}'"), Vec::<String>::new());
}

/// A row that has not ended at that moment, one revised after it, and a forecast that nobody had written yet.
#[test]
fn as_of_a_moment_is_what_a_table_cut_at_that_moment_gives() {
    let db = hours("anomalies_as_of");
    for hour in 2..12 {
        forecast(&db, hour, 10, "");
    }
    outcome(&db, 6, 110.0);
    // The outlier is taken back at noon.
    db.run("insert into prices values ('2024-01-01 06:00+00', 'AAA', 101, '2024-01-01 12:00+00')");
    let known = r#", options => '{"known_at_col": "known_at"}'"#;
    for (moment, rows, anomalies) in
        [("06:59", 4, 0), ("07:00", 5, 1), ("11:30", 9, 1), ("12:00", 10, 0), ("23:00", 10, 0)]
    {
        let moment = format!("timestamptz '2024-01-01 {moment}+00'");
        let then = found(&db, &format!("{known}, as_of => {moment}"));
        assert_eq!(then.len(), rows, "{moment}");
        assert_eq!(then.iter().filter(|row| row.contains(" t ")).count(), anomalies, "{moment}");
        let cut = db.value(&format!(
            "begin; delete from prices where known_at > {moment};
             select count(*) || ' ' || count(*) filter (where is_anomaly) from kronos.detect_anomalies('prices', time_col => 'time' {known}, as_of => {moment});
             rollback"
        ));
        assert_eq!(cut, format!("{rows} {anomalies}"), "{moment}");
    }
    for setting in ["DateStyle = 'SQL, DMY'", "TimeZone = 'Asia/Kolkata'", "extra_float_digits = -3"] {
        let told = db.value(&format!(
            "set {setting}; select count(*) || ' ' || count(*) filter (where is_anomaly)
             from kronos.detect_anomalies('prices', time_col => 'time' {known}, as_of => '2024-01-01 11:30+00')"
        ));
        assert_eq!(told, "9 1", "{setting}");
    }
}

#[test]
fn a_model_is_asked_at_each_cutoff_as_a_backtest_asks_it() {
    let db = Database::new("anomalies_made");
    db.run(&bars("bars", &["AAA", "BBB"], 120));
    // One close jumps by half.
    db.run(
        "update bars set close = close * 1.5, high = high * 1.5 where symbol = 'BBB' and ts = (
           select ts from bars where symbol = 'BBB' order by ts desc offset 9 limit 1)",
    );
    let call = "kronos.detect_anomalies('bars', 'hist_vol', num_windows => 20)";
    assert_eq!(db.value(&format!("select count(*) || ' ' || count(is_anomaly) from {call}")), "40 40");
    // The jump, and the way back from it.
    let jumps = db.value(&format!(
        "select string_agg(series || ' ' || sign(score), ', ' order by ts) from (
           select *, (select count(*) from bars b where b.symbol = a.series and b.ts > a.ts) as after from {call} a) a
         where is_anomaly and after in (8, 9) and series = 'BBB'"
    ));
    assert_eq!(jumps, "BBB 1, BBB -1");
    let differing = db.value(&format!(
        "select count(*) from {call} a full join kronos.backtest('hist_vol', 'bars', 1, num_windows => 20, window_step => 1, baselines => '{{}}',
           level => 0.95) b using (series, ts)
         where (a.actual, a.forecast, a.lower, a.upper, a.is_anomaly, a.cutoff)
           is distinct from (b.actual, b.forecast, b.lower, b.upper, b.actual not between b.lower and b.upper, b.cutoff)"
    ));
    assert_eq!(differing, "0");
    assert_eq!(
        db.value("select count(*) from kronos.detect_anomalies('bars', 'hist_vol', step => 3, level => 0.8, num_windows => 5) where step = 3 and level = 0.8"),
        "10"
    );
}

#[test]
fn wrong_calls_have_one_clear_error() {
    let db = hours("anomalies_errors");
    let error = |call: &str| db.error(&format!("select * from kronos.detect_anomalies({call})"));
    for (call, state, message) in [
        ("'prices', step => 0", "22023", "step must be at least 1, got 0"),
        ("'prices', level => 1.5", "22023", "level must be between 0 and 1, got 1.5"),
        ("'prices', options => '{\"unit\": \"return\"}'", "22023", "unrecognized option \"unit\""),
        ("'prices', 'nobody'", "42704", "model \"nobody\" does not exist"),
        ("null", "22004", "relation must not be null"),
    ] {
        let error = error(call);
        assert_eq!((error.code.as_str(), error.message.as_str()), (state, message), "{call}");
    }
    let bare = Database::new("anomalies_no_ledger");
    bare.run(&bars("bars", &["AAA"], 60));
    let error = bare.error("select * from kronos.detect_anomalies('bars')");
    assert_eq!(error.code, "42P01", "{}", error.message);
}
