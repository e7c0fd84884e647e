//! Which forecasts of the ledger a calibration learns from, and what it makes of whole bars.

use super::{compare, forecast_hours, market};
use kronos_tests::Database;

/// Records a forecast of the next hour at every hour in `[from, to)`, moved by a factor; a calibrated one has the model's own numbers
/// beside it.
fn record(db: &Database, (from, to): (usize, usize), columns: &str, moved: f64) {
    db.run(&format!(
        "do $$
         declare run bigint := ledger.open_run('live', 'prices', 'forecast', 1);
         begin
           perform ledger.record(run, $q$
             select r.*, raw * {moved} as forecast, raw * 0.992 * {moved} as lower, raw * 1.008 * {moved} as upper, {columns}
             from (select symbol as series, time + interval '1 hour' as ts, 1 as step, time + interval '1 hour' as cutoff, close * 1.001 as raw,
                          row_number() over (order by time) - 1 as hour from prices) r
             where hour >= {from} and hour < {to} $q$);
           perform ledger.close_run(run);
         end $$"
    ));
}

#[test]
fn each_forecast_is_learnt_once_from_what_the_model_itself_said() {
    let db = market("cal_learnt", &["AAA"], 100);
    let columns = |target: &str, level: f64, model: &str, calibration: &str| {
        let raw = match calibration {
            "" => "null::float8 as raw_forecast",
            _ => "raw as raw_forecast, raw * 0.992 as raw_lower, raw * 1.008 as raw_upper",
        };
        format!(
            "'{target}' as target, {level}::float8 as level, '{model}' as model_version, '{calibration}' as calibration, {raw}"
        )
    };
    let plain = columns("close", 0.9, "naive", "");
    // The model's own numbers for sixty of ninety hours, and for the last fifty those that the calibration made of them.
    record(&db, (0, 60), &plain, 1.0);
    record(&db, (40, 90), &columns("close", 0.9, "naive", "c"), 1.05);
    // None of these are its business: another calibration's, another level's, another column's, another model's.
    record(&db, (0, 100), &columns("close", 0.9, "naive", "other"), 1.1);
    record(&db, (60, 100), &columns("close", 0.8, "naive", ""), 1.2);
    record(&db, (0, 100), &columns("open", 0.9, "naive", ""), 1.3);
    record(&db, (0, 100), &columns("close", 0.9, "drift", ""), 1.4);
    db.run("select create_calibration('c', 'prices', model => 'naive'); select calibrate('c')");
    assert_eq!(
        db.rows("select model, step, n from kronos.stat_calibration where name = 'c'"),
        [["naive", "1", "90"].map(|value| Some(value.to_owned()))]
    );
    // The same as of the model's own numbers alone.
    db.run(
        "create table alone as table prices;
         create index on alone (symbol, time);
         do $$
         declare run bigint := ledger.open_run('live', 'alone', 'forecast', 1);
         begin
           perform ledger.record(run, $q$
             select symbol as series, 'close' as target, time + interval '1 hour' as ts, 1 as step, time + interval '1 hour' as cutoff, close * 1.001 as forecast,
                    close * 1.001 * 0.992 as lower, close * 1.001 * 1.008 as upper, 0.9::float8 as level, 'naive' as model_version from (select * from alone order by time limit 90) a $q$);
           perform ledger.close_run(run);
         end $$;
         select create_calibration('alone', 'alone', model => 'naive'); select calibrate('alone')",
    );
    assert_eq!(compare(&db, "c", "alone"), "2 states, 0 differ");
}

#[test]
fn money_moves_with_the_close_and_volume_stays() {
    let db = market("cal_amounts", &["AAA"], 300);
    db.run(
        "alter table prices add open float8, add high float8, add low float8, add volume float8, add amount float8;
         update prices set open = close, high = close * 1.001, low = close * 0.999, volume = 100, amount = 100 * close",
    );
    let version = db.value("select version from kronos.models where name = 'kronos-nano' and built_in");
    forecast_hours(&db, &version, "live", 0, 300, "true");
    db.run("select create_calibration('c', 'prices'); select calibrate('c')");
    let bars = |more: &str| format!("kronos_predict('prices', 3, model => '{version}', samples => 8{more})");
    assert_eq!(
        db.value(&format!(
            "select count(*) || ' ' || bool_and(abs(c.amount / r.amount / (c.close / r.close) - 1) < 1e-12 and c.volume = r.volume and c.close <> r.close)
             from {} c join {} r using (series, step)",
            bars(", calibration => 'c'"),
            bars("")
        )),
        "3 true"
    );
}
