//! `kronos.chronos_predict` and the front door `kronos.forecast`: numbers, time, covariates, odd series, errors.

use candle_core::Device;
use kronos_models::chronos2::covariates::target_means;
use kronos_models::chronos2::{Chronos2, Chronos2Files, Chronos2Options};
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::series::{Between, KnownCovariate, SeriesRequest};
use kronos_tests::{Cluster, Database, FixtureModels, Row, shared_folder};

/// `table (symbol, ts, y, z, x, w)`: hourly rows from 2024-01-01 00:00 UTC, a weekday as text in `w`.
fn table(name: &str, symbols: &[&str], count: usize) -> String {
    let symbols = symbols.iter().map(|symbol| format!("'{symbol}'")).collect::<Vec<_>>().join(", ");
    format!(
        "create table {name} (symbol text, ts timestamptz, y numeric, z real, x int, w text, primary key (symbol, ts));
         insert into {name}
         select s.symbol, timestamptz '2024-01-01 00:00+00' + i * interval '1 hour',
                round((50 + 5 * sin(i * 0.3 * s.n) + i * 0.05)::numeric, 3), (100 - 3 * cos(i * 0.2 * s.n))::real,
                i % 5, (array['sun', 'rain', 'fog'])[1 + i * s.n % 3]
         from unnest(array[{symbols}]) with ordinality s(symbol, n), generate_series(0, {count} - 1) i;"
    )
}

fn flat(rows: Vec<Row>) -> Vec<String> {
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    rows.into_iter().map(|row| row.into_iter().map(text).collect::<Vec<_>>().join(" ")).collect()
}

fn numbers(db: &Database, sql: &str) -> Vec<f64> {
    let number = |value: Option<String>| value.map_or(f64::NAN, |text| text.parse().unwrap());
    db.rows(sql).into_iter().flatten().map(number).collect()
}

#[test]
fn the_numbers_are_those_of_the_library() {
    let db = Database::new("numbers_of_the_library");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    db.run(&table("t", &["A", "B"], 60));
    db.run("update t set y = null where symbol = 'B' and extract(hour from ts) = 7");
    db.run("update t set y = null, z = null where ts >= '2024-01-03 06:00+00'");
    let got = numbers(
        &db,
        "select lower, forecast, upper, quantiles[1] from kronos.chronos_predict('t', '{y}', 6, level => 0.8,
            quantile_levels => '{0.3}', past_covariates => '{z}', future_covariates => '{x, w}')",
    );
    let model = Chronos2::load(
        &Chronos2Files { model: FixtureModels::folder("tiny-b"), adapter: None },
        &Device::Cpu,
    )
    .unwrap();
    let request = |symbol: &str| {
        let column = |name: &str, rows: &str| {
            let sql = format!("select {name}::float8 from t where symbol = '{symbol}' order by ts {rows}");
            numbers(&db, &sql)
        };
        let words = |rows: &str| {
            flat(db.rows(&format!("select w from t where symbol = '{symbol}' order by ts {rows}")))
        };
        let (past, future) = (words("limit 54"), words("offset 54"));
        let past: Vec<_> = past.iter().map(|word| Some(word.as_str())).collect();
        let future: Vec<_> = future.iter().map(|word| Some(word.as_str())).collect();
        let target = column("y", "limit 54");
        let (w_past, w_future) = target_means(&target, &past, &future);
        SeriesRequest {
            targets: vec![target],
            past_covariates: vec![column("z", "limit 54")],
            known_covariates: vec![
                KnownCovariate { past: column("x", "limit 54"), future: column("x", "offset 54") },
                KnownCovariate { past: w_past, future: w_future },
            ],
            horizon: 6,
        }
    };
    let forecasts =
        model.forecast(&[request("A"), request("B")], &Chronos2Options::default(), &NeverInterrupt).unwrap();
    let mut expected = Vec::new();
    for forecast in forecasts {
        let read = forecast.unwrap().at(&[0.1, 0.5, 0.9, 0.3], Between::Levels).unwrap();
        for step in 0..6 {
            expected.extend(read.values[0].iter().map(|values| values[step]));
        }
    }
    assert_eq!(got, expected);
}

#[test]
fn rows_are_labelled_by_series_target_and_step() {
    let db = Database::new("labelled_by_series_target");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    db.run(&table("t", &["A", "B"], 50));
    let rows = flat(db.rows(
        "select series, target, step, ts, cutoff, status, model_version = (select version from kronos.models where name = 'tiny-b'),
                lower <= forecast and forecast <= upper
         from kronos.chronos_predict('t', '{z,y}', 2)",
    ));
    let row = |series: &str, target: &str, step: u32| {
        format!("{series} {target} {step} 2024-01-03 0{}:00:00+00 2024-01-03 02:00:00+00 - t t", 1 + step)
    };
    let mut expected = Vec::new();
    for series in ["A", "B"] {
        for target in ["z", "y"] {
            expected.extend([row(series, target, 1), row(series, target, 2)]);
        }
    }
    assert_eq!(rows, expected);
}

#[test]
fn as_of_sees_nothing_that_came_later_but_the_known_future() {
    let db = Database::new("as_of_sees_nothing");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    db.run(&table("t", &["A", "B"], 80));
    let call = |more: &str| {
        flat(db.rows(&format!(
            "select series, ts, forecast, lower, upper from kronos.chronos_predict('t', '{{y}}', 5,
                as_of => '2024-01-03 00:00+00' {more})"
        )))
    };
    let (plain, known) = (call(""), call(", future_covariates => '{x}'"));
    assert_eq!(plain[0].split(' ').nth(1), Some("2024-01-03"));
    assert_ne!(plain, known);
    db.run("update t set y = y * 3, z = 0 where ts >= '2024-01-03 00:00+00'");
    assert_eq!((call(""), call(", future_covariates => '{x}'")), (plain.clone(), known.clone()));
    db.run("update t set x = 99 where ts = '2024-01-03 02:00+00'");
    assert_eq!(call(""), plain);
    assert_ne!(call(", future_covariates => '{x}'"), known);
    // The row of 23:00 ends at midnight; a minute earlier it has not ended.
    let cutoff = |as_of: &str| {
        db.value(&format!(
            "select cutoff from kronos.chronos_predict('t', '{{y}}', 1, as_of => '{as_of}', only_series => '{{A}}')"
        ))
    };
    assert_eq!(cutoff("2024-01-03 00:00+00"), "2024-01-03 00:00:00+00");
    assert_eq!(cutoff("2024-01-02 23:59+00"), "2024-01-02 23:00:00+00");
    let partial = "select cutoff from kronos.chronos_predict('t', '{y}', 1, as_of => '2024-01-02 23:59+00', only_series => '{A}',
        options => '{\"include_partial\": true}')";
    db.error(partial).is("22023", "option \"include_partial\" must be false where as_of is in the past");
}

#[test]
fn a_missing_row_is_a_missing_value_and_not_a_shift() {
    let db = Database::new("missing_row");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    db.run(&table("whole", &["A"], 60));
    db.run("update whole set y = null where extract(hour from ts) in (3, 4, 17)");
    db.run("create table sparse as select * from whole where y is not null");
    let call = |table: &str| {
        flat(db.rows(&format!(
            "select ts, forecast, upper from kronos.chronos_predict('{table}', '{{y}}', 30, 'symbol')"
        )))
    };
    assert_eq!(call("whole"), call("sparse"));
    db.run("insert into sparse values ('A', '2024-01-01 05:20+00', 1, 1, 1, 'sun')");
    let status = "select status, ts from kronos.chronos_predict('sparse', '{y}', 3, 'symbol')";
    assert_eq!(flat(db.rows(status)), ["irregular 2024-01-01 05:20:00+00"]);
}

#[test]
fn a_series_gives_the_same_numbers_alone_and_among_others_unless_they_shall_learn_from_each_other() {
    let db = Database::new("alone_and_among_others");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    db.run(&table("t", &["A", "B", "C", "D", "E"], 70));
    let call = |more: &str| {
        flat(db.rows(&format!(
            "select series, step, forecast, upper from kronos.chronos_predict('t', '{{y}}', 26 {more})
             where series = 'C' order by step"
        )))
    };
    let among = call("");
    assert_eq!(among, call(", only_series => '{C}'"));
    assert_eq!(among, call(", only_series => '{E,C}'"));
    let learnt = call(", options => '{\"cross_learning\": true}'");
    assert_ne!(among, learnt);
    assert_eq!(learnt, call(", options => '{\"cross_learning\": true}'"));
}

#[test]
fn cross_learning_groups_series_by_the_model_and_not_by_how_they_are_read() {
    let db = Database::new("cross_learning_groups");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    db.run(
        "create table t as select lpad(s::text, 3, '0') as symbol, timestamptz '2024-01-01 00:00+00' + i * interval '1 hour' as ts,
                sin(i * 0.3 + s) as y, cos(i * 0.1 * s) as z
         from generate_series(1, 300) s, generate_series(0, 23) i",
    );
    let got = numbers(
        &db,
        "select forecast from kronos.chronos_predict('t', '{y}', 2, past_covariates => '{z}',
            options => '{\"cross_learning\": true}')",
    );
    let model = Chronos2::load(
        &Chronos2Files { model: FixtureModels::folder("tiny-b"), adapter: None },
        &Device::Cpu,
    )
    .unwrap();
    let (y, z) = (
        numbers(&db, "select y from t order by symbol, ts"),
        numbers(&db, "select z from t order by symbol, ts"),
    );
    let requests: Vec<SeriesRequest> = y
        .chunks(24)
        .zip(z.chunks(24))
        .map(|(y, z)| SeriesRequest {
            past_covariates: vec![z.to_vec()],
            ..SeriesRequest::univariate(y.to_vec(), 2)
        })
        .collect();
    let options = Chronos2Options { cross_learning: Some(256), ..Chronos2Options::default() };
    let forecasts = model.forecast(&requests, &options, &NeverInterrupt).unwrap();
    let expected: Vec<f64> = forecasts
        .into_iter()
        .flat_map(|forecast| forecast.unwrap().at(&[0.5], Between::Levels).unwrap().values[0][0].clone())
        .collect();
    assert_eq!(got, expected);
}

#[test]
fn frequencies_and_keys_of_all_kinds() {
    let db = Database::new("frequencies_and_keys");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    // Forty rows of years that are over, so that all of them are known.
    for (step, next) in [
        ("1 minute", "1970-01-01 00:40:00"),
        ("15 minutes", "1970-01-01 10:00:00"),
        ("1 day", "1970-02-10 00:00:00"),
        ("1 week", "1970-10-08 00:00:00"),
        ("1 month", "1973-05-01 00:00:00"),
        ("3 months", "1980-01-01 00:00:00"),
        ("1 year", "2010-01-01 00:00:00"),
    ] {
        db.run(&format!(
            "drop table if exists t;
             create table t as select k::bigint as key, timestamp '1970-01-01' + i * interval '{step}' as at,
                    (k + sin(i))::float4 as v from generate_series(0, 39) i, generate_series(9, 11) k"
        ));
        let rows = flat(db.rows(
            "select series, ts at time zone 'UTC', status from kronos.chronos_predict('t', '{v}', 1, 'key', 'at')",
        ));
        let expected: Vec<String> = ["9", "10", "11"].iter().map(|key| format!("{key} {next} -")).collect();
        assert_eq!(rows, expected, "{step}");
    }
}

#[test]
fn odd_series_say_what_is_wrong_with_them() {
    let db = Database::new("odd_series");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    db.run(&table("t", &["good"], 40));
    db.run(
        "insert into t select 'constant', ts, 5, 5, 1, 'sun' from t where symbol = 'good';
         insert into t select 'empty', ts, null, null, 1, 'sun' from t where symbol = 'good';
         insert into t select 'point', max(ts), 7, 7, 1, 'sun' from t where symbol = 'good';
         insert into t select 'infinite', ts, 'Infinity', 1, 1, 'sun' from t where symbol = 'good'",
    );
    let call = |more: &str| {
        flat(db.rows(&format!(
            "select series, status, count(forecast) filter (where forecast not in ('Infinity', '-Infinity', 'NaN')),
                    max(abs(forecast - 5)) < 1
             from kronos.chronos_predict('t', '{{y}}', 3 {more}) group by 1, 2 order by 1"
        )))
    };
    assert_eq!(
        call(""),
        ["constant - 3 t", "empty nan 0 -", "good - 3 f", "infinite nan 0 -", "point short_history 0 -"]
    );
    let given = call(", options => '{\"bucket_width\": \"1 hour\"}'");
    assert_eq!(given[4], "point - 3 f");
    db.error(
        "select * from kronos.chronos_predict('t', '{y}', 3, only_series => '{empty}', options => '{\"on_error\": \"error\"}')",
    )
    .is("22023", "series \"empty\" cannot be forecast: nan");
    assert_eq!(
        flat(db.rows(
            "select series, status from kronos.chronos_predict('t', '{y}', 3, only_series => '{nobody}')"
        )),
        ["nobody no_rows"]
    );
}

#[test]
fn long_contexts_and_long_horizons() {
    let db = Database::new("long_contexts_and_horizons");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    db.run(&table("t", &["A"], 10_000));
    assert_eq!(
        db.value(
            "select count(*) || ' ' || max(step) || ' ' || bool_and(lower <= forecast and forecast <= upper)
             from kronos.chronos_predict('t', '{y}', 1000)"
        ),
        "1000 1000 true"
    );
    // The model reads 96 rows; those before change nothing.
    let call = "select forecast from kronos.chronos_predict('t', '{y}', 5)";
    let before = flat(db.rows(call));
    db.run("delete from t where ts < (select max(ts) from t) - interval '95 hours'");
    assert_eq!(flat(db.rows(call)), before);
    assert_eq!(
        db.value("select count(*) from kronos.chronos_predict('t', '{y}', until => (select max(ts) + interval '7 hours' from t))"),
        "7"
    );
}

#[test]
fn an_incomplete_future_names_series_column_and_time() {
    let db = Database::new("incomplete_future");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    db.run(&table("t", &["A", "B"], 60));
    db.run("update t set y = null where ts >= '2024-01-03 06:00+00'");
    let call = |horizon: usize| {
        format!(
            "select * from kronos.chronos_predict('t', '{{y}}', {horizon}, future_covariates => '{{x,w}}')"
        )
    };
    assert_eq!(db.rows(&call(6)).len(), 12);
    db.error(&call(7))
        .is("22004", "future covariate \"x\" of series \"A\" has no value at 2024-01-03 12:00:00+00");
    db.run("update t set w = null where symbol = 'B' and ts = '2024-01-03 08:00+00'");
    db.error(&call(6))
        .is("22004", "future covariate \"w\" of series \"B\" has no value at 2024-01-03 08:00:00+00");
    db.run("delete from t where symbol = 'A' and ts = '2024-01-03 07:00+00'");
    db.error(&call(6))
        .is("22004", "future covariate \"x\" of series \"A\" has no value at 2024-01-03 07:00:00+00");
}

#[test]
fn static_and_categorical_covariates_by_option() {
    let db = Database::new("static_and_categorical");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    db.run(&table("t", &["A", "B"], 60));
    db.run("alter table t add sector text; update t set sector = symbol");
    let call = |more: &str| {
        flat(db.rows(&format!("select forecast from kronos.chronos_predict('t', '{{y}}', 4 {more})")))
    };
    let number = call(", past_covariates => '{x}'");
    let category = call(", past_covariates => '{x}', options => '{\"categorical\": [\"x\"]}'");
    assert_ne!(number, category);
    // What does not change informs too: the same as a column whose future is known, and other than nothing.
    let fixed = call(", options => '{\"static\": [\"sector\"]}'");
    assert_ne!(fixed, call(""));
    db.run(
        "insert into t (symbol, ts, sector) select symbol, max(ts) + step * interval '1 hour', symbol from t, generate_series(1, 4) step group by 1, step",
    );
    assert_eq!(fixed, call(", future_covariates => '{sector}'"));
    db.error("select * from kronos.chronos_predict('t', '{y}', 4, options => '{\"categorical\": [\"x\"]}')")
        .is("22023", "option \"categorical\" must be names of covariates, got \"x\"");
}

#[test]
fn the_point_is_the_quantile_asked_for() {
    let db = Database::new("the_point_is_the_quantile");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    db.run(&table("t", &["A", "B"], 60));
    for model in ["tiny-b", "hist_vol"] {
        let differing = |options: &str| {
            db.value(&format!(
                "select count(*) || ' ' || count(*) filter (where forecast <> quantiles[1]) || ' ' || count(*) filter (where forecast <> quantiles[2])
                 from kronos.forecast('{model}', 't', '{{y}}', 4, quantile_levels => '{{0.3,0.5}}', options => '{options}')"
            ))
        };
        assert_eq!(differing("{}"), "8 8 0", "{model}");
        assert_eq!(differing("{\"point_level\": 0.3}"), "8 0 8", "{model}");
    }
}

#[test]
fn wrong_arguments_are_refused() {
    let db = Database::new("chronos_wrong_arguments");
    let _models = FixtureModels::register(&db, &["tiny-b", "tiny-bolt"]);
    db.run(&table("t", &["A"], 60));
    let call = |arguments: &str| {
        db.error(&format!("select * from kronos.chronos_predict('t', {arguments}, model => 'tiny-b')"))
    };
    call("'{nothing}', 3").is("42703", "column \"nothing\" of \"public.t\" does not exist");
    call("'{y}', 3, past_covariates => '{u}'").is("42703", "column \"u\" of \"public.t\" does not exist");
    call("'{w}', 3").is("42804", "column \"w\" of \"public.t\" has type text, expected a number");
    call("null, 3").is("22004", "targets must not be null");
    call("'{y,y}', 3").is("22023", "targets and covariates must be different columns, got \"y\" twice");
    call("'{y}'").is("22023", "horizon or until must be given");
    call("'{y}', 0").is("22023", "horizon must be at least 1, got 0");
    call("'{y}', 3, level => 90").is("22023", "level must be between 0 and 1, got 90");
    call("'{y}', 3, level => 0.999").hint("level can be at most 0.98");
    call("'{y}', 3, quantile_levels => '{0.001}'").is(
        "22023",
        &format!(
            "a quantile level must be from 0.01 to 0.99, the outermost levels of model \"{}\", got 0.001",
            db.value("select version from kronos.models where name = 'tiny-b'")
        ),
    );
    call("'{y}', 3, options => '{\"smples\": 1}'").is("22023", "unrecognized option \"smples\"");
    call("'{y}', 3, options => '{\"static\": 1}'")
        .is("22023", "option \"static\" must be an array of strings, got 1");
    db.error("select * from kronos.chronos_predict('t', '{y}', 3, model => 'kronos-default')")
        .hint("kronos_predict");
    db.error("select * from kronos.chronos_predict('t', '{y}', 3)")
        .is("42704", "model \"chronos-default\" does not exist");
    db.error("select * from kronos.forecast('tiny-bolt', 't', '{y,z}', 3)").hint("Chronos-2");
    db.error("select * from kronos.forecast('kronos-default', 't', '{y}', 3)").hint("'{close}'");
    db.error("select * from kronos.forecast('naiv', 't', '{y}', 3)")
        .is("42704", "model \"naiv\" does not exist");
    db.run("select kronos.set_alias('chronos-default', 'tiny-bolt')");
    assert_eq!(
        db.value("select count(forecast) from kronos.chronos_predict('t', '{y}', 40, level => 0.8)"),
        "40"
    );
}

#[test]
fn the_front_door_serves_every_family_and_the_baselines() {
    let db = Database::new("front_door");
    let _models = FixtureModels::register(&db, &["tiny-b", "tiny-bolt"]);
    assert_eq!(
        flat(db.rows("select family from kronos.models where name like 'tiny%' order by name")),
        ["chronos2", "chronos_bolt"]
    );
    db.run(&kronos_tests::bars("bars", &["AAA", "BBB"], 100));
    let call = |model: &str, more: &str| {
        flat(db.rows(&format!(
            "select series, target, step, round(forecast::numeric, 6), lower < forecast and forecast < upper, model_version
             from kronos.forecast('{model}', 'bars', '{{close}}', 2 {more}) where series = 'AAA'"
        )))
    };
    let last =
        db.value("select round(close::numeric, 6) from bars where symbol = 'AAA' order by ts desc limit 1");
    for model in ["naive", "hist_vol"] {
        let row = |step: u32| format!("AAA close {step} {last} t {model}");
        assert_eq!(call(model, ""), [row(1), row(2)]);
    }
    let day_before = db.value(
        "select round(close::numeric, 6) from bars where symbol = 'AAA' order by ts desc offset 23 limit 1",
    );
    assert_eq!(call("seasonal_naive", "")[0], format!("AAA close 1 {day_before} t seasonal_naive"));
    let two = db.value(
        "select round(close::numeric, 6) from bars where symbol = 'AAA' order by ts desc offset 1 limit 1",
    );
    assert_eq!(
        call("seasonal_naive", ", options => '{\"season\": 2}'")[0],
        format!("AAA close 1 {two} t seasonal_naive")
    );
    let drift = db.value(
        "select round((l + (l - f) / 99)::numeric, 6) from (select
            (select close from bars where symbol = 'AAA' order by ts limit 1) f,
            (select close from bars where symbol = 'AAA' order by ts desc limit 1) l) x",
    );
    assert_eq!(call("drift", "")[0], format!("AAA close 1 {drift} t drift"));
    // Chronos-Bolt has no levels beyond 0.1 and 0.9.
    for model in ["tiny-b", "tiny-bolt", "kronos-fixture"] {
        assert_eq!(call(model, ", level => 0.8").len(), 2, "{model}");
    }
    // Kronos through the front door is Kronos: the median of the paths beside their mean, the same interval.
    let differing = "select count(*) from kronos.forecast('kronos-fixture', 'bars', '{close}', 3) a
        join kronos.kronos_predict('bars', 3, model => 'kronos-fixture', quantile_levels => '{0.5}') b using (series, step)
        where (a.forecast, a.lower, a.upper) is distinct from (b.quantiles[1], b.lower, b.upper)";
    assert_eq!(db.value(differing), "0");
}

#[test]
fn forecasts_are_served_counted_and_cancelled() {
    let db = Database::new("served_counted_cancelled");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    db.run(&table("t", &["A", "B", "C"], 96));
    db.run("select count(*) from kronos.chronos_predict('t', '{y}', 24)");
    let version = db.value("select version from kronos.models where name = 'tiny-b'");
    let counted = db.value(&format!(
        "select calls >= 1 and series >= 3 and state = 'loaded' from kronos.stat_models where model_version = '{version}'"
    ));
    assert_eq!(counted, "t");
    db.run("create view many as select symbol || n as symbol, ts, y from t, generate_series(1, 400) n");
    db.error("set statement_timeout = '300ms'; select count(*) from kronos.chronos_predict('many', '{y}', 2000, 'symbol')")
        .is("57014", "canceling statement due to statement timeout");
    assert_eq!(db.value("select count(*) from kronos.chronos_predict('t', '{y}', 1)"), "3");
}

#[test]
fn real_series_run_from_psql_end_to_end() {
    let Some(data) = shared_folder("data") else { return };
    let db = Database::new("chronos_real_series");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    let script = format!(
        "create table air (symbol text, ds date, y float8);
         \\copy air from '{}' csv header
         create table daily (symbol text, ds date, open float8, high float8, low float8, close float8, volume float8);
         \\copy daily from program 'gzip -dc {}' csv header
         create view ten as select * from daily where symbol in
           (select symbol from daily group by 1 having count(*) > 500 order by 1 limit 10);
         select 'air', count(*), min(ts at time zone 'UTC'), max(ts at time zone 'UTC'), bool_and(lower <= forecast and forecast <= upper)
           from kronos.chronos_predict('air', '{{y}}', 24);
         select 'daily', count(*), count(distinct series), count(status), bool_and(lower <= forecast and forecast <= upper),
                bool_and(extract(isodow from ts at time zone 'America/New_York') < 6)
           from kronos.chronos_predict('ten', '{{close,volume}}', 5, options => '{{\"calendar\": \"XNYS\"}}');",
        data.join("benchmarks/air_passengers.csv").display(),
        data.join("daily/us_equities_daily_1.csv.gz").display(),
    );
    let output = Cluster::get()
        .program("psql", db.name())
        .args(["-XqAt", "-v", "ON_ERROR_STOP=1"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .and_then(|mut psql| {
            use std::io::Write;
            psql.stdin.take().unwrap().write_all(script.as_bytes())?;
            psql.wait_with_output()
        })
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).lines().collect::<Vec<_>>(),
        ["air|24|1961-01-01 00:00:00|1962-12-01 00:00:00|t", "daily|100|10|0|t|t"]
    );
}
