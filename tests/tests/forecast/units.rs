//! The same market quoted in another unit is forecast the same, by every function that forecasts.

use kronos_tests::Database;

/// Powers of ten that prices and volumes are quoted in; the first is the unit.
const UNITS: [(i32, i32); 9] =
    [(0, 0), (-11, 0), (-9, 9), (-6, 3), (-5, 0), (4, -6), (11, -11), (0, 17), (11, 17)];

/// What each function says of the close in five steps, over the last close: point, lower and upper end.
const FORECASTS: [(&str, &str); 8] = [
    ("kronos_predict", "select close, lower, upper from kronos.kronos_predict('{t}', 5) where step = 5"),
    (
        "kronos_paths",
        "select avg(close), min(low), max(high) from kronos.kronos_paths('{t}', 5, paths => 30) where step = 5",
    ),
    (
        "kronos_predict_bars",
        "select p.close, p.lower, p.upper from (select array_agg((time, open, high, low, close, volume, null)::kronos.bar
           order by time) as bars from {t}) b, kronos.kronos_predict_bars(b.bars, 5) p where p.step = 5",
    ),
    (
        "chronos_predict",
        "select forecast, lower, upper from kronos.chronos_predict('{t}', '{close}', 5,
           past_covariates => '{volume}') where step = 5",
    ),
    ("nbeats_predict", "select forecast, lower, upper from kronos.nbeats_predict('{t}', '{close}', 5) where step = 5"),
    ("naive", "select forecast, lower, upper from kronos.forecast('naive', '{t}', '{close}', 5) where step = 5"),
    ("hist_vol", "select forecast, lower, upper from kronos.forecast('hist_vol', '{t}', '{close}', 5) where step = 5"),
    (
        "seasonal_naive",
        "select forecast, lower, upper from kronos.forecast('seasonal_naive', '{t}', '{close}', 5) where step = 5",
    ),
];

/// The name of the table in a unit, which is no part of the forecast: a series without a key has none.
fn table((prices, volumes): (i32, i32)) -> String {
    format!("p{prices}_v{volumes}").replace('-', "m")
}

/// A market in every unit, forecast by what comes with the extension.
fn markets(name: &str) -> Database {
    let db = Database::new(name);
    db.run("select kronos.set_alias('kronos-default', null)");
    for (prices, volumes) in UNITS {
        let name = table((prices, volumes));
        db.run(&format!(
            "create table {name} as
               select time, open * p as open, high * p as high, low * p as low, close * p as close, volume * v as volume
               from kronos.simulate_bars(n => 200, seed => 11, bucket_width => '1 hour'),
                 (values (1e{prices}::float8, 1e{volumes}::float8)) u (p, v)"
        ));
    }
    db
}

fn number(cell: Option<&str>) -> f64 {
    cell.unwrap().parse().unwrap()
}

fn told(db: &Database, sql: &str, unit: (i32, i32)) -> Vec<f64> {
    let name = table(unit);
    let last: f64 =
        db.value(&format!("select close from {name} order by time desc limit 1")).parse().unwrap();
    let row = &db.rows(&sql.replace("{t}", &name))[0];
    row.iter().map(|cell| number(cell.as_deref()) / last).collect()
}

/// Shares of the last price; Kronos may draw other paths where a rounding of the unit turns the sign of a token.
#[test]
fn prices_and_volumes_in_any_unit_are_forecast_alike() {
    let db = markets("units_forecast");
    for (function, sql) in FORECASTS {
        let expected = told(&db, sql, UNITS[0]);
        let width = expected[2] - expected[1];
        let room = width * if function.starts_with("kronos") { 0.25 } else { 1e-3 };
        for unit in &UNITS[1..] {
            let got = told(&db, sql, *unit);
            for (got, expected) in got.iter().zip(&expected) {
                assert!((got - expected).abs() <= room, "{function} at {unit:?}: {got}, expected {expected}");
            }
        }
    }
}

#[test]
fn backtests_score_alike_in_any_unit() {
    let db = markets("units_backtest");
    let scores = |unit| {
        let rows = db.rows(&format!(
            "select baseline, avg(abs(forecast / actual - 1))::float8, avg((upper - lower) / actual)::float8
             from (select split_part(model_version, '@', 1) as baseline, * from kronos.backtest('chronos-nano', '{}', 2,
               targets => '{{close}}', num_windows => 6, baselines => '{{naive,hist_vol}}')) b group by 1 order by 1",
            table(unit)
        ));
        rows.iter()
            .map(|row| (row[0].clone(), number(row[1].as_deref()), number(row[2].as_deref())))
            .collect::<Vec<_>>()
    };
    let expected = scores(UNITS[0]);
    assert_eq!(expected.len(), 3);
    for unit in &UNITS[1..] {
        for (got, expected) in scores(*unit).iter().zip(&expected) {
            assert_eq!(got.0, expected.0);
            let alike = |got: f64, expected: f64| (got / expected - 1.0).abs() < 1e-3;
            assert!(
                alike(got.1, expected.1) && alike(got.2, expected.2),
                "{unit:?}: {got:?}, expected {expected:?}"
            );
        }
    }
}

/// The axis of a chart tells its ticks apart and spans the prices, however small or large.
#[test]
fn charts_are_drawn_alike_in_any_unit() {
    let db = markets("units_chart");
    let drawn = |unit| {
        let name = table(unit);
        db.value(&format!(
            "select kronos.chart('{name}', null,
               (select array_agg(f) from kronos.forecast('hist_vol', '{name}', '{{close}}', 12) f), history => 40, format => 'text')"
        ))
    };
    // Without what is written: labels have the unit, the picture has not.
    let marks = |text: &str| text.matches(['█', '│', '┃', '─', '▄', '▀']).count();
    let expected = marks(&drawn(UNITS[0]));
    assert!(expected > 40);
    for unit in &UNITS[1..] {
        let text = drawn(*unit);
        let got = marks(&text);
        assert!(got.abs_diff(expected) * 4 < expected, "{unit:?}: {got} marks, expected {expected}\n{text}");
    }
}

#[test]
fn a_value_whose_square_is_no_number_is_too_large() {
    let db = markets("units_too_large");
    let name = table(UNITS[0]);
    db.run(&format!(
        "update {name} set volume = 1e200 where time = (select max(time) - interval '3 hours' from {name})"
    ));
    let status =
        |sql: &str| db.value(&format!("select distinct status from kronos.{}", sql.replace("{t}", &name)));
    assert_eq!(status("kronos_predict('{t}', 3)"), "nan");
    assert_eq!(status("chronos_predict('{t}', '{volume}', 3)"), "nan");
    db.error(&format!(
        "select * from kronos.kronos_predict('{name}', 3, options => '{{\"on_error\": \"error\"}}')"
    ))
    .detail("too large");
}
