//! `kronos.backtest`: the numbers are those of the forecast functions at that moment, and nothing later moves them.

mod outcomes;

use kronos_tests::{Database, FixtureModels, bars, rows, until};
use std::time::Instant;

/// Every row of a backtest as text, without what is measured by outcomes.
fn forecasts(db: &Database, call: &str) -> Vec<String> {
    let rows = db.rows(&format!(
        "select concat_ws('|', series, target, model_version, window_id, cutoff, ts, step, forecast, lower, upper, quantiles,
                contaminated, status, as_of, level, quantile_levels, last_value, scale, prob_up)
         from kronos.backtest({call})"
    ));
    assert!(!rows.is_empty(), "{call}");
    rows.into_iter().map(|row| row[0].clone().unwrap()).collect()
}

/// How many rows of a backtest there are, and how many differ from `kronos.forecast` asked at their moment.
fn differing(db: &Database, model: &str, backtest: &str, forecast: &str) -> String {
    db.value(&format!(
        "with b as materialized (select * from kronos.backtest('{model}', 'bars', {backtest})),
              w as (select distinct as_of from b)
         select count(*) || ' ' || count(*) filter (where
           (b.ts, b.forecast, b.lower, b.upper, b.quantiles, b.cutoff) is distinct from (f.ts, f.forecast, f.lower, f.upper, f.quantiles, f.cutoff))
         from w cross join lateral kronos.forecast('{model}', 'bars', {forecast}, as_of => w.as_of) f
         join b using (as_of, series, target, step, model_version)"
    ))
}

#[test]
fn rows_are_bit_for_bit_those_of_forecast_as_of_their_moment() {
    let db = Database::new("backtest_bit_for_bit");
    let _models = FixtureModels::register(&db, &["tiny-b", "tiny-bolt"]);
    db.run(&bars("bars", &["AAA", "BBB", "CCC"], 150));
    for model in ["kronos-fixture", "tiny-b", "hist_vol", "naive", "drift", "seasonal_naive"] {
        let got = differing(
            &db,
            model,
            "3, num_windows => 5, window_step => 2, embargo => 1, level => 0.8, options => '{\"quantile_levels\": [0.25, 0.6], \"context\": 60}'",
            "'{close}', 4, level => 0.8, quantile_levels => '{0.25,0.6}', options => '{\"context\": 60}'",
        );
        // Three series, five windows, three scored steps of four.
        assert_eq!(got, "45 0", "{model}");
    }
    let several = differing(&db, "tiny-b", "2, '{close,volume}', num_windows => 3", "'{close,volume}', 2");
    assert_eq!(several, "36 0");
    // Chronos-Bolt says nothing beyond its levels of 0.1 and 0.9.
    assert_eq!(differing(&db, "tiny-bolt", "2, level => 0.8", "'{close}', 2, level => 0.8"), "60 0");
}

#[test]
fn each_moment_knows_the_versions_of_rows_that_were_known_then() {
    let db = Database::new("backtest_restated");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    db.run(&bars("bars", &["AAA", "BBB"], 120));
    // Every fifth bar is known half an hour late, and every third is restated after four hours.
    db.run(
        "alter table bars drop constraint bars_pkey, add known_at timestamptz;
         update bars set known_at = ts + interval '1 hour' + case when extract(hour from ts)::int % 5 = 0 then interval '30 minutes' else '0' end;
         insert into bars select symbol, ts, open, high * 1.1, low, close * 1.05, volume, amount, ts + interval '5 hours' from bars
           where extract(hour from ts)::int % 3 = 0;",
    );
    for model in ["kronos-fixture", "tiny-b", "naive"] {
        let got = differing(
            &db,
            model,
            "2, series_col => 'symbol', time_col => 'ts', num_windows => 20, window_step => 1, options => '{\"known_at_col\": \"known_at\"}'",
            "'{close}', 2, series_col => 'symbol', time_col => 'ts', options => '{\"known_at_col\": \"known_at\"}'",
        );
        assert!(got.ends_with(" 0") && !got.starts_with("0 "), "{model}: {got}");
    }
    // What came is the last version.
    assert_eq!(
        db.value(
            "select count(*) || ' ' || count(*) filter (where b.actual is distinct from
                (select close from bars where symbol = b.series and ts = b.ts order by known_at desc limit 1))
             from kronos.backtest('naive', 'bars', 2, series_col => 'symbol', time_col => 'ts', baselines => '{}',
                options => '{\"known_at_col\": \"known_at\"}') b"
        ),
        "40 0"
    );
}

#[test]
fn a_table_cut_off_at_an_instant_gives_what_the_whole_one_gives_as_of_it() {
    let db = Database::new("backtest_truncated");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    db.run(&bars("bars", &["AAA", "BBB"], 160));
    db.run("create table early as select * from bars where ts + interval '1 hour' <= '2024-01-06 00:00+00'");
    db.run("alter table early add primary key (symbol, ts)");
    for model in ["kronos-fixture", "tiny-b", "hist_vol"] {
        for window in [
            "num_windows => 4",
            "num_windows => null, window_step => 11, initial_cutoff => '2024-01-04 12:00+00'",
        ] {
            let call = |table: &str, more: &str| {
                format!(
                    "'{model}', '{table}', 3, {window} {more}, options => '{{\"quantile_levels\": [0.3]}}'"
                )
            };
            let whole = call("bars", ", as_of => '2024-01-06 00:00+00'");
            assert_eq!(forecasts(&db, &whole), forecasts(&db, &call("early", "")), "{model} {window}");
            // Outcomes too are those known then.
            let outcomes =
                |call: &str| db.rows(&format!("select actual, crps, pit from kronos.backtest({call})"));
            assert_eq!(outcomes(&whole), outcomes(&call("early", "")), "{model} {window}");
        }
    }
}

#[test]
fn nothing_after_the_cutoff_of_a_window_moves_it() {
    let db = Database::new("backtest_unmoved");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    db.run(&bars("bars", &["AAA", "BBB"], 150));
    let call =
        |model: &str| format!("'{model}', 'bars', 3, num_windows => 6, options => '{{\"samples\": 8}}'");
    // The cutoff of the third window.
    let cutoff = "2024-01-06 18:00:00+00";
    let until = |model: &str| -> Vec<String> {
        let known = db.rows(&format!(
            "select concat_ws('|', series, model_version, window_id, cutoff, ts, step, forecast, lower, upper, status, last_value, scale)
             from kronos.backtest({}) where as_of <= '{cutoff}'",
            call(model)
        ));
        known.into_iter().map(|row| row[0].clone().unwrap()).collect()
    };
    for model in ["kronos-fixture", "tiny-b"] {
        let (before, all) = (until(model), forecasts(&db, &call(model)));
        // Two series, three models, three windows, three steps.
        assert_eq!(before.len(), 54, "{before:#?}");
        db.run(&format!(
            "update bars set open = open * 3, high = high * 3, low = low * 3, close = close * 3, volume = 1 where ts >= '{cutoff}'"
        ));
        assert_eq!(until(model), before, "{model}");
        assert_ne!(forecasts(&db, &call(model)), all, "{model}");
        db.run(&format!(
            "update bars set open = open / 3, high = high / 3, low = low / 3, close = close / 3 where ts >= '{cutoff}'"
        ));
    }
}

#[test]
fn windows_lie_where_they_are_said_to_and_outcomes_beside_them() {
    let db = Database::new("backtest_windows");
    db.run(&bars("bars", &["AAA"], 50));
    let windows = |more: &str| -> Vec<String> {
        let sql = format!(
            "select window_id || ' ' || to_char(min(cutoff), 'DD HH24') || ' ' || min(step) || '-' || max(step) || ' ' || to_char(max(ts), 'DD HH24')
             from kronos.backtest('naive', 'bars', 2, baselines => '{{}}', {more}) group by window_id order by window_id"
        );
        db.rows(&sql).into_iter().map(|row| row[0].clone().unwrap()).collect()
    };
    // 50 bars from the 1st 00:00: the last starts on the 3rd at 01:00.
    assert_eq!(windows("num_windows => 2"), ["1 02 22 1-2 02 23", "2 03 00 1-2 03 01"]);
    assert_eq!(windows("num_windows => 2, window_step => 5"), ["1 02 19 1-2 02 20", "2 03 00 1-2 03 01"]);
    assert_eq!(windows("num_windows => 2, embargo => 3"), ["1 02 19 4-5 02 23", "2 02 21 4-5 03 01"]);
    assert_eq!(
        windows("num_windows => 3, initial_cutoff => '2024-01-01 10:30+00', window_step => 10"),
        ["1 01 10 1-2 01 11", "2 01 20 1-2 01 21", "3 02 06 1-2 02 07"]
    );
    assert_eq!(
        windows("num_windows => null, window_step => 20, initial_cutoff => '2024-01-02 00:00+00'").len(),
        2
    );
    assert_eq!(
        db.value(
            "select count(*) || ' ' || bool_and(actual = (select close from bars where bars.ts = b.ts))
                || ' ' || bool_and(last_value = (select close from bars where bars.ts = b.cutoff - interval '1 hour') and forecast = last_value)
             from kronos.backtest('naive', 'bars', 3, baselines => '{}') b"
        ),
        "30 true true"
    );
    // Without weights nothing was trained; the model comes before its baselines, each once.
    let versions = db.rows(
        "select model_version, bool_or(contaminated) from kronos.backtest('hist_vol', 'bars', 2, num_windows => 1,
            baselines => '{naive,hist_vol,drift,naive}') with ordinality group by 1 order by min(ordinality)",
    );
    let versions: Vec<String> = versions.into_iter().flatten().flatten().collect();
    assert_eq!(versions, ["hist_vol", "f", "naive", "f", "drift", "f"]);
}

#[test]
fn scale_score_and_place_are_those_of_their_definitions() {
    let db = Database::new("backtest_scores");
    db.run(&bars("bars", &["AAA"], 80));
    // The unit of the scaled error: mean absolute difference over a season of 24 hours, here of 3 rows.
    let scale = "with c as (select ts, abs(close - lag(close, 3) over (order by ts)) d from bars)
        select max(abs(b.scale - (select avg(d) from c where c.ts < b.cutoff))) < 1e-12
        from kronos.backtest('naive', 'bars', 2, baselines => '{}', options => '{\"season\": 3}') b";
    assert_eq!(db.value(scale), "t");
    // Places and scores of paths against the paths themselves: ranks by counting, the score by its double sum.
    let drawn = "with b as materialized (select * from kronos.backtest('kronos-fixture', 'bars', 2, num_windows => 1,
                    baselines => '{}', options => '{\"samples\": 9}')),
            p as (select p.step, p.close from kronos.kronos_paths('bars', 2, 9, as_of => (select min(as_of) from b)) p),
            s as (select b.step, b.actual, b.crps, b.pit, avg(abs(p.close - b.actual)) as distance,
                    (select sum(abs(x.close - y.close)) / (2 * 9 * 8) from p x, p y where x.step = b.step and y.step = b.step) as pairs,
                    count(*) filter (where p.close < b.actual) as below
                  from b join p using (step) group by b.step, b.actual, b.crps, b.pit)
        select count(*) || ' ' || bool_and(abs(crps - (distance - pairs)) < 1e-9) || ' ' || bool_and(pit between below / 10.0 and (below + 1) / 10.0) from s";
    assert_eq!(db.value(drawn), "2 true true");
}

#[test]
fn windows_that_reach_into_the_training_data_are_marked_and_warned_of() {
    let db = Database::new("backtest_contaminated");
    let _models = FixtureModels::register_as(&db, &[("tiny-b", "schooled")], Some("2024-01-03"));
    db.run(&bars("bars", &["AAA"], 90));
    let (mut client, notices) = db.connect_with_notices();
    let call = |more: &str| {
        format!(
            "select string_agg(distinct window_id || contaminated::text, ' ') from kronos.backtest('schooled', 'bars', 2,
                num_windows => 4, window_step => 4, baselines => '{{}}', initial_cutoff => '2024-01-03 18:00+00' {more})"
        )
    };
    let marked = rows(&mut client, &call(""))[0][0].clone().unwrap();
    // Scored are the bars from 18:00, 22:00, 02:00 and 06:00 on; the model knows all of the 3rd.
    assert_eq!(marked, "1true 2true 3false 4false");
    let version = db.value("select version from kronos.models where name = 'schooled'");
    assert_eq!(
        notices.lock().unwrap().drain(..).collect::<Vec<_>>(),
        [format!("WARNING: 2 of 4 windows of model \"{version}\" are contaminated")]
    );
    // With an embargo what is scored begins later.
    assert_eq!(
        rows(&mut client, &call(", embargo => 3"))[0][0].as_deref(),
        Some("1true 2false 3false 4false")
    );
    notices.lock().unwrap().clear();
    rows(
        &mut client,
        &call(", as_of => '2024-01-04 04:00+00'")
            .replace("2024-01-03 18:00", "2024-01-04 00:00")
            .replace("num_windows => 4", "num_windows => 1"),
    );
    assert_eq!(notices.lock().unwrap().len(), 0);
    rows(&mut client, "select count(*) from kronos.backtest('kronos-fixture', 'bars', 2, num_windows => 1)");
    let unknown = notices.lock().unwrap().join("\n");
    assert!(
        unknown.contains("training cutoff of model") && unknown.contains("is not registered"),
        "{unknown}"
    );
}

/// A date contaminates the series that a model was trained on, where it says which, and no other.
#[test]
fn series_that_a_model_has_not_seen_are_not_contaminated() {
    let db = Database::new("backtest_unseen");
    let _models = FixtureModels::register_as(&db, &[("tiny-b", "schooled")], Some("2024-01-03"));
    db.run(&bars("bars", &["AAA", "BBB", "aaa"], 90));
    let marked = || {
        db.value(
            "select string_agg(distinct series || ' ' || window_id || contaminated::text, ', ') from kronos.backtest('schooled', 'bars', 2,
                num_windows => 2, window_step => 12, baselines => '{}', initial_cutoff => '2024-01-03 18:00+00')",
        )
    };
    assert_eq!(marked(), "AAA 1true, AAA 2false, BBB 1true, BBB 2false, aaa 1true, aaa 2false");
    let again = |keys: &str| {
        format!(
            "select kronos.register_model(name, family, uri, train_cutoff => train_cutoff, options => '{{\"trained_on\": {keys}}}')
             from kronos.models where name = 'schooled'"
        )
    };
    db.run(&again("[\"BBB\", \"AAA\", \"AAA\"]"));
    assert_eq!(db.value("select trained_on from kronos.models where name = 'schooled'"), "{AAA,BBB}");
    assert_eq!(marked(), "AAA 1true, AAA 2false, BBB 1true, BBB 2false, aaa 1false, aaa 2false");
    // What a backtest calls contaminated does not change behind people's backs.
    db.run(&again("[\"AAA\", \"BBB\"]"));
    let version = db.value("select version from kronos.models where name = 'schooled'");
    db.error(&again("[\"AAA\"]"))
        .is("42710", &format!("model version \"{version}\" is registered already, with another trained_on"));
}

#[test]
fn what_cannot_be_forecast_says_why_and_what_cannot_be_asked_is_refused() {
    let db = Database::new("backtest_errors");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    db.run(&bars("bars", &["AAA", "BBB"], 60));
    let statuses = |call: &str| -> Vec<String> {
        let sql = format!(
            "select concat_ws(' ', series, model_version, coalesce(status, 'good'), count(*), count(window_id)) from kronos.backtest({call})
             where model_version !~ '@' or status is not null group by series, model_version, status order by 1"
        );
        db.rows(&sql).into_iter().map(|row| row[0].clone().unwrap()).collect()
    };
    let version = db.value("select version from kronos.models where name = 'kronos-fixture'");
    // More windows than there is data for: those there are, and one row that says so.
    assert_eq!(
        statuses("'naive', 'bars', 5, num_windows => 100, baselines => '{}', only_series => '{AAA}'"),
        ["AAA naive good 55 55", "AAA naive short_history 1 0"]
    );
    // The oldest windows leave the model too little history; the baseline has its numbers all the same.
    assert_eq!(
        statuses(
            "'kronos-fixture', 'bars', 5, num_windows => 8, baselines => '{naive}', only_series => '{AAA}'"
        ),
        [format!("AAA {version} short_history 3 3"), "AAA naive good 40 40".to_owned()]
    );
    db.run("update bars set close = 'nan' where symbol = 'BBB' and ts = '2024-01-03 01:00+00'");
    assert_eq!(
        statuses("'kronos-fixture', 'bars', 2, num_windows => 3, baselines => '{}'"),
        [format!("BBB {version} nan 3 3")]
    );
    db.run("create table empty (like bars including all); insert into bars select 'CCC', ts, open, high, low, close, volume, amount from bars limit 3");
    assert_eq!(db.value("select count(*) from kronos.backtest('naive', 'empty', 2)"), "0");
    assert_eq!(
        statuses("'naive', 'bars', 5, only_series => '{CCC,nobody}', baselines => '{}'"),
        ["CCC naive short_history 1 0", "nobody naive no_rows 1 0"]
    );
    let error = |call: &str| db.error(&format!("select * from kronos.backtest({call})"));
    error("'hist_vol', 'bars', 5, only_series => '{CCC}', options => '{\"on_error\": \"error\"}'")
        .is("22023", "series \"CCC\" cannot be forecast: short_history")
        .detail("leaves no room for 10 of the windows of 5 rows");
    error("'kronos-fixture', 'bars', 2, num_windows => 3, options => '{\"on_error\": \"error\"}'")
        .is("22023", "series \"BBB\" cannot be forecast: nan");
    error("'kronoz-fixture', 'bars', 2")
        .is("42704", "model \"kronoz-fixture\" does not exist")
        .hint("kronos-fixture");
    error("'kronos-fixture', 'bars', 500").is("22023", "horizon of 500 steps does not fit");
    error("'naive', 'bars', 1000000").is("54000", "horizon with embargo of 1000000 exceeds the limit");
    error("'naive', 'bars', 0").is("22023", "horizon must be at least 1, got 0");
    error("'naive', 'bars', null").is("22004", "horizon must not be null");
    error("'naive', null, 2").is("22004", "relation must not be null");
    error("'naive', 'bars', 2, num_windows => 0").is("22023", "num_windows must be at least 1, got 0");
    error("'naive', 'bars', 2, window_step => -1").is("22023", "window_step must be at least 1");
    error("'naive', 'bars', 2, embargo => -1").is("22023", "embargo must be at least 0, got -1");
    error("'naive', 'bars', 2, level => 90").is("22023", "level must be between 0 and 1, got 90");
    error("'naive', 'bars', 2, baselines => '{naif}'")
        .is("22023", "baselines must be among naive, seasonal_naive");
    error("'naive', 'bars', 2, targets => '{clos}'").is("42703", "column \"clos\"");
    error("'naive', 'bars', 2, options => '{\"smples\": 3}'")
        .is("22023", "unrecognized option \"smples\"")
        .hint("samples");
    error("'tiny-b', 'bars', 2, options => '{\"cross_learning\": true}'").is("22023", "unrecognized option");
    error("'kronos-fixture', 'bars', 2, targets => '{volume}'").is("0A000", "forecasting these columns");
    error("'tiny-b', 'bars', 2, level => 0.999").is("22023", "a quantile level must be from 0.01 to 0.99");
}

#[test]
fn it_reads_as_the_caller_and_never_writes() {
    let db = Database::new("backtest_reads");
    db.run(&bars("bars", &["AAA"], 60));
    assert_eq!(
        db.value(
            "begin read only; select count(*) from kronos.backtest('kronos-fixture', 'bars', 2, num_windows => 2)"
        ),
        "12"
    );
    let role = db.role("analyst");
    db.run(&format!("select kronos.grant_access('{role}', 'use')"));
    let mut client = db.connect_as(&role);
    db.error_in(&mut client, "select * from kronos.backtest('naive', 'bars', 2)")
        .is("42501", "permission denied");
    db.run(&format!("grant select on bars to {role}"));
    assert_eq!(
        rows(&mut client, "select * from kronos.backtest('naive', 'bars', 2, num_windows => 1)").len(),
        4
    );
}

#[test]
fn thousands_of_windows_show_their_progress_and_can_be_stopped() {
    let db = Database::new("backtest_cancelled");
    let symbols: Vec<String> = (0..60).map(|number| format!("S{number}")).collect();
    let symbols: Vec<&str> = symbols.iter().map(String::as_str).collect();
    db.run(&bars("bars", &symbols, 120));
    // The engine counts by version, and a version of this database is nobody else's.
    let version =
        db.value(&format!("select kronos.register_model('{}', 'kronos', 'kronos-fixture')", db.name()));
    let call = format!(
        "select count(*) from kronos.backtest('{version}', 'bars', 24, num_windows => 60, window_step => 1,
           options => '{{\"samples\": 24}}')"
    );
    let mut client = db.connect();
    // What ends a hang, and says so.
    rows(&mut client, "set statement_timeout = '150s'");
    let pid = rows(&mut client, "select pg_backend_pid()")[0][0].clone().unwrap();
    let mut watcher = db.connect();
    let served = db.value("show kronos.service") == "on";
    std::thread::scope(|scope| {
        let call = scope.spawn(|| db.error_in(&mut client, &call));
        let at_work = if served {
            // Far more windows than a series has: they travel together.
            format!(
                "select 1 from kronos.stat_activity where pid = {pid} and series > 200 and steps_total > 0 and steps_done > 0"
            )
        } else {
            format!("select 1 from pg_stat_activity where pid = {pid} and wait_event_type = 'Extension'")
        };
        until("the model is at work", || !rows(&mut watcher, &at_work).is_empty());
        rows(&mut watcher, &format!("select pg_cancel_backend({pid})"));
        call.join().unwrap().is("57014", "canceling statement due to user request");
    });
    if served {
        until("the engine lets go of it", || {
            rows(&mut watcher, &format!("select 1 from kronos.stat_activity where pid = {pid}")).is_empty()
        });
        // A request that had been waited for to its end would have been counted.
        let counted = format!(
            "select coalesce(sum(calls), 0) from kronos.stat_models where model_version = '{version}'"
        );
        assert_eq!(rows(&mut watcher, &counted)[0][0].as_deref(), Some("0"));
    }
    assert_eq!(
        rows(
            &mut client,
            "select * from kronos.kronos_predict('bars', 1, model => 'kronos-fixture', only_series => '{S1}')"
        )
        .len(),
        1
    );
    db.run(&format!("select kronos.unload_model('{version}')"));
}

/// Depends on the machine and on who else uses it, so it runs on request: `KRONOS_BENCH=1`.
#[test]
fn windows_per_second_beside_as_many_single_calls() {
    if !kronos_skip::requested("KRONOS_BENCH", "the speed of backtests is measured", "make bench") {
        return;
    }
    let db = Database::new("backtest_speed");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    db.run(&bars("bars", &["AAA", "BBB", "CCC", "DDD", "EEE", "FFF", "GGG", "HHH"], 400));
    let mut client = db.connect();
    for model in ["kronos-fixture", "tiny-b", "hist_vol"] {
        let backtest = format!(
            "select distinct series, as_of from kronos.backtest('{model}', 'bars', 4, num_windows => 50, window_step => 1, baselines => '{{}}')"
        );
        rows(&mut client, &backtest);
        let began = Instant::now();
        let windows = rows(&mut client, &backtest);
        let together = windows.len() as f64 / began.elapsed().as_secs_f64();
        let began = Instant::now();
        for window in &windows {
            let [Some(series), Some(as_of)] = window.as_slice() else { panic!("{window:?}") };
            rows(
                &mut client,
                &format!(
                    "select * from kronos.forecast('{model}', 'bars', '{{close}}', 4, only_series => '{{{series}}}', as_of => '{as_of}')"
                ),
            );
        }
        let alone = windows.len() as f64 / began.elapsed().as_secs_f64();
        println!(
            "{model}: {together:.0} windows/s by backtest, {alone:.0} by single calls, {:.1} times",
            together / alone
        );
        assert!(together > alone, "{model}");
    }
}
