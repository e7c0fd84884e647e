//! What `kronos_predict` says about bad input: SQLSTATE and HINT for a call, a status for a series.

use kronos_tests::{Database, Row, bars};

fn flat(rows: Vec<Row>) -> Vec<String> {
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    rows.into_iter().map(|row| row.into_iter().map(text).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn wrong_arguments() {
    let db = Database::new("wrong_arguments");
    db.run(&bars("bars", &["AAA"], 100));
    let error = |call: &str| db.error(&format!("select * from {call}"));
    error("kronos_predict('nowhere', 2)").is("42P01", "relation \"nowhere\" does not exist");
    error("kronos_predict(null, 2)").is("22004", "relation must not be null");
    error("kronos_predict('bars')")
        .is("22023", "horizon or until must be given")
        .hint("horizon => 24 (bars)");
    error("kronos_predict('bars', 2, until => now())")
        .is("22023", "horizon and until must not both be given");
    error("kronos_predict('bars', 0)").is("22023", "horizon must be at least 1, got 0");
    error("kronos_predict('bars', -3)").is("22023", "horizon must be at least 1, got -3");
    error("kronos_predict('bars', 2, level => 90)")
        .is("22023", "level must be between 0 and 1, got 90")
        .hint("did you mean 0.9?");
    for level in ["0", "1", "'nan'", "-0.5"] {
        error(&format!("kronos_predict('bars', 2, level => {level})"))
            .is("22023", "level must be between 0 and 1");
    }
    error("kronos_predict('bars', 2, quantile_levels => '{0.1,90}')")
        .is("22023", "quantile_levels must be between 0 and 1, got 90")
        .hint("did you mean 0.9?");
    error("kronos_predict('bars', 2, quantile_levels => '{0.9,0.1}')").is("22023", "ascending");
    error("kronos_predict('bars', 2, quantile_levels => '{0.9,null}')").is("22004", "quantile level");
    error("kronos_predict('bars', 2, samples => 0)").is("22023", "samples must be at least 1, got 0");
    error("kronos_paths('bars', 2, paths => -1)").is("22023", "paths must be at least 1, got -1");
    error("kronos_predict('bars', 2, calibration => 'close_90')")
        .is("55000", "the ledger is not installed")
        .hint("CALL kronos.install();");
    error("kronos_predict('bars', 2, model => 'kronos-fixtur')")
        .is("42704", "model \"kronos-fixtur\" does not exist")
        .hint("Did you mean \"kronos-fixture\"? See kronos.models.");
    error("kronos_predict('bars', 2, options => '{\"calendar\":\"XNYX\"}')")
        .is("42704", "calendar \"XNYX\" does not exist")
        .hint("Did you mean \"XNYS\"?");
}

#[test]
fn wrong_options() {
    let db = Database::new("wrong_options");
    db.run(&bars("bars", &["AAA"], 100));
    let error =
        |options: &str| db.error(&format!("select * from kronos_predict('bars', 2, options => '{options}')"));
    error("{\"smples\":5}")
        .is("22023", "unrecognized option \"smples\"")
        .hint("Valid options: \"bucket_width\"");
    error("{\"contxt\":50}").is("22023", "unrecognized option \"contxt\"").hint("Did you mean \"context\"?");
    // Two letters of eleven are missing; what is like nothing is like nothing.
    error("{\"tempertre\":1}").hint("Did you mean \"temperature\"?");
    assert!(error("{\"zzzzzzz\":1}").hint.starts_with("Valid options: "));
    error("[1]").is("22023", "options must be a JSON object");
    error("{\"context\":12}").is("22023", "option \"context\" must be an integer from 32");
    error("{\"context\":\"64\"}").is("22023", "got \"64\"");
    error("{\"context\":512}")
        .is("22023", "option \"context\" must be at most 511 with a horizon of 2, got 512")
        .hint("slide");
    error("{\"temperature\":0}").is("22023", "option \"temperature\" must be a number greater than 0");
    error("{\"top_p\":1.5}").is("22023", "option \"top_p\" must be");
    error("{\"top_k\":-1}").is("22023", "option \"top_k\" must be");
    error("{\"include_partial\":\"yes\"}").is("22023", "option \"include_partial\" must be true or false");
    error("{\"on_error\":\"ignore\"}").is("22023", "option \"on_error\" must be \"status\" or \"error\"");
    error("{\"max_gap\":-1}").is("22023", "option \"max_gap\" must be");
    error("{\"bucket_width\":\"one hour\"}").is("22007", "invalid input syntax for type interval");
    error("{\"bucket_width\":\"-1 hour\"}").is("22023", "option \"bucket_width\" must be");
    error("{\"bucket_width\":\"1 mon 3 days\"}").is("22023", "option \"bucket_width\" must be");
    error("{\"columns\":\"close\"}").is("22023", "option \"columns\" must be an object");
    error("{\"columns\":{\"clos\":\"x\"}}")
        .is("22023", "unrecognized option \"clos\"")
        .hint("Did you mean \"close\"?");
    // Bars in an array have no columns to name.
    db.error("select * from kronos_predict_bars('{}', 2, options => '{\"columns\":{}}')")
        .is("22023", "unrecognized option \"columns\"");
}

#[test]
fn wrong_columns() {
    let db = Database::new("wrong_columns");
    db.run(&bars("bars", &["AAA"], 100));
    let error = |call: &str| db.error(&format!("select * from {call}"));
    error("kronos_predict('bars', 2, options => '{\"columns\":{\"close\":\"px\"}}')")
        .is("42703", "column \"px\" of \"public.bars\" does not exist")
        .hint("{\"columns\":{\"close\":\"px_last\"}}");
    error("kronos_predict('bars', 2, series_col => 'sym')")
        .is("42703", "column \"sym\" of \"public.bars\" does not exist");
    error("kronos_predict('bars', 2, series_col => 'close')").is("42804", "column \"close\"");
    error("kronos_predict('bars', 2, time_col => 'symbol')").is("42804", "column \"symbol\"");
    error("kronos_predict('bars', 2, options => '{\"known_at_col\":\"symbol\"}')")
        .is("42804", "column \"symbol\"");
    db.run(
        "create view no_time as select symbol, open, high, low, close from bars;
         create view two_times as select *, ts as other from bars;
         create view two_keys as select *, 'x'::text as venue from bars;
         create view words as select symbol, ts, open, high, low, close::text as close from bars;
         create view plain as select ts, open, high, low, close, volume from bars;",
    );
    error("kronos_predict('no_time', 2)")
        .is("42P18", "cannot tell the time column of \"public.no_time\"")
        .detail("No column is a timestamp with time zone, timestamp or date.");
    error("kronos_predict('two_times', 2)")
        .is("42P18", "cannot tell the time column")
        .detail("\"ts\", \"other\"");
    error("kronos_predict('two_keys', 2)")
        .is("42P18", "cannot tell the series column of \"public.two_keys\"")
        .hint("Pass series_col => '...'.");
    error("kronos_predict('words', 2)").is("42804", "column \"close\" of \"public.words\" has type text");
    error("kronos_predict('plain', 2, only_series => '{AAA}')")
        .is("22023", "only_series needs a series column");
}

#[test]
fn guards_name_their_setting() {
    let db = Database::new("guards_name_their_setting");
    db.run(&bars("bars", &["AAA", "BBB", "CCC"], 100));
    let error = |call: &str| db.error(&format!("select * from {call}"));
    error("kronos_predict('bars', 2049)")
        .is("54000", "horizon of 2049 exceeds the limit of 2048")
        .hint("kronos.max_horizon");
    error("kronos_predict('bars', 2147483647)")
        .is("54000", "horizon of 2147483647")
        .hint("kronos.max_horizon");
    error("kronos_predict('bars', 2, samples => 1001)")
        .is("54000", "samples of 1001")
        .hint("kronos.max_samples");
    error("kronos_paths('bars', 2, paths => 1001)").is("54000", "paths of 1001").hint("kronos.max_samples");
    db.error("set kronos.max_series_per_call = 2; select * from kronos_predict('bars', 2)")
        .is("54000", "number of series of 3 exceeds the limit of 2")
        .hint("kronos.max_series_per_call");
    // Beside a horizon of 500 a window of 512 leaves 13 bars of context.
    error("kronos_predict('bars', 500)")
        .is("22023", "horizon of 500 steps does not fit")
        .hint("at most 481 bars");
}

#[test]
fn a_bad_series_has_a_status_and_the_others_a_forecast() {
    let db = Database::new("a_bad_series_has_a_status");
    db.run(&bars("bars", &["dup", "gap", "good", "inf", "long", "nan", "none", "short"], 100));
    db.run(
        "alter table bars drop constraint bars_pkey;
         insert into bars select * from bars where symbol = 'dup' and ts = '2024-01-03 05:00+00';
         delete from bars where symbol = 'gap' and ts in ('2024-01-02 03:00+00', '2024-01-02 04:00+00');
         update bars set high = 'infinity' where symbol = 'inf' and ts = '2024-01-02 10:00+00';
         update bars set close = 'nan' where symbol = 'nan' and ts = '2024-01-02 11:00+00';
         update bars set open = null where symbol = 'none' and ts = '2024-01-02 12:00+00';
         update bars set volume = 1e200 where symbol = 'long' and ts = '2024-01-02 13:00+00';
         delete from bars where symbol = 'short' and ts < '2024-01-04 16:00+00';",
    );
    let rows = flat(db.rows(
        "set timezone = 'UTC';
         select series, status, ts, close, count(*) from kronos_predict('bars', 2, samples => 1)
         where series <> 'good' group by 1, 2, 3, 4 order by 1",
    ));
    assert_eq!(
        rows,
        [
            "dup duplicate_ts 2024-01-03 05:00:00+00 - 1",
            "gap gap 2024-01-02 03:00:00+00 - 1",
            "inf nan 2024-01-02 10:00:00+00 - 1",
            "long nan 2024-01-02 13:00:00+00 - 1",
            "nan nan 2024-01-02 11:00:00+00 - 1",
            "none nan 2024-01-02 12:00:00+00 - 1",
            "short short_history - - 1",
        ]
    );
    assert_eq!(
        db.value("select count(*) from kronos_predict('bars', 2) where series = 'good' and status is null"),
        "2"
    );
    let (mut client, notices) = db.connect_with_notices();
    let paths =
        kronos_tests::rows(&mut client, "select distinct series from kronos_paths('bars', 2, paths => 2)");
    assert_eq!(flat(paths), ["good"]);
    let told = notices.lock().unwrap().join("\n");
    assert!(told.contains("WARNING: 7 series have no paths"), "{told}");
    assert!(told.contains("NOTICE: 1 series lack bars that calendar \"24x7\" has"), "{told}");
}

#[test]
fn a_horizon_that_cannot_be_reached_has_a_status_and_a_wrong_calendar_is_told() {
    let db = Database::new("a_horizon_that_cannot_be_reached");
    db.run(&bars("bars", &["AAA", "BBB"], 100));
    let statuses = |set_up: &str, call: &str| {
        flat(db.rows(&format!(
            "set timezone = 'UTC'; {set_up} select series, status, cutoff from {call} where step is null order by series"
        )))
    };
    let both =
        |status: &str| ["AAA", "BBB"].map(|series| format!("{series} {status} 2024-01-05 04:00:00+00"));
    // 100 hours from 1 January end at 04:00 on the fifth; six more reach 10:00.
    let six = "kronos.max_horizon = 6;";
    for (call, more) in
        [("kronos_predict('bars'", ", samples => 1"), ("forecast('naive', 'bars', '{close}'", "")]
    {
        let until = |until: &str| format!("{call}, until => '2024-01-05 {until}+00'{more})");
        assert_eq!(statuses(&format!("set {six}"), &until("10:00")), both("horizon_limit"));
        assert_eq!(statuses(&format!("set {six}"), &until("09:59")), Vec::<String>::new());
        // A market that closes on the sixth for more than a year has twenty hours left.
        let closed = "begin; select kronos.add_calendar('CLOSED', 'UTC', '{\"1-7\":[[\"00:00\",\"24:00\"]]}');
            select kronos.add_calendar_exception('CLOSED', d::date) from generate_series(timestamp '2024-01-06', '2025-03-01', '1 day') d;";
        let closing =
            |horizon: u32| format!("{call}, {horizon}{more}, options => '{{\"calendar\":\"CLOSED\"}}')");
        assert_eq!(statuses(closed, &closing(21)), both("no_session"));
        assert_eq!(statuses(closed, &closing(20)), Vec::<String>::new());
    }
    // Bars of every hour are not those of a market that is open for seven.
    let (mut client, notices) = db.connect_with_notices();
    let call =
        "select count(*) from kronos_predict('bars', 1, samples => 1, options => '{\"calendar\":\"%\"}')";
    kronos_tests::rows(&mut client, &call.replace('%', "XNYS"));
    assert_eq!(
        notices.lock().unwrap().drain(..).collect::<Vec<_>>(),
        ["NOTICE: calendar \"XNYS\" does not fit 2 of 2 series: bars lie outside of its sessions"]
    );
    kronos_tests::rows(&mut client, &call.replace('%', "24x7"));
    assert_eq!(*notices.lock().unwrap(), Vec::<String>::new());
}

#[test]
fn a_bad_series_is_an_error_where_asked_for() {
    let db = Database::new("a_bad_series_is_an_error");
    db.run(&bars("bars", &["AAA"], 12));
    let error = |more: &str| {
        db.error(&format!(
            "set timezone = 'UTC'; select * from kronos_predict('bars', 2, options => '{{\"on_error\":\"error\"{more}}}')"
        ))
    };
    error("").is("22023", "series \"AAA\"").detail("Series \"AAA\" has 12 bars, the model needs 32.");
    db.run("drop table bars");
    db.run(&bars("bars", &["AAA"], 100));
    db.run("delete from bars where ts in ('2024-01-02 03:00+00', '2024-01-02 04:00+00')");
    error("").is("22023", "gap").detail("Bars are missing from 2024-01-02 03:00:00+00 on, 2 in this place.");
    error(",\"max_gap\":1").is("22023", "gap");
}

#[test]
fn gaps_are_carried_forward_where_asked_for() {
    let db = Database::new("gaps_are_carried_forward");
    db.run(&bars("bars", &["AAA"], 100));
    db.run("delete from bars where ts in ('2024-01-02 03:00+00', '2024-01-02 04:00+00')");
    // The same bars with the gap filled by hand: the close carried forward, nothing traded.
    db.run(
        "create table filled as table bars;
         insert into filled select 'AAA', missing, b.close, b.close, b.close, b.close, 0, 0
         from bars b, unnest(array['2024-01-02 03:00+00', '2024-01-02 04:00+00']::timestamptz[]) missing
         where b.ts = '2024-01-02 02:00+00'",
    );
    let call = |relation: &str, options: &str| {
        flat(db.rows(&format!(
            "select step, close, volume, status from kronos_predict('{relation}', 2, options => '{options}')"
        )))
    };
    let carried = call("bars", "{\"max_gap\":2}");
    assert_eq!(carried, call("filled", "{}"));
    assert!(carried[0].ends_with(" -"), "{carried:?}");
}

#[test]
fn no_rows_and_no_bars() {
    let db = Database::new("no_rows_and_no_bars");
    db.run(&bars("bars", &["AAA"], 100));
    db.run(
        "create table empty (like bars);
         create table lonely (ts timestamptz, open float8, high float8, low float8, close float8);
         insert into bars select null, ts, open, high, low, close, volume, amount from bars limit 0;",
    );
    assert!(db.rows("select * from kronos_predict('empty', 2)").is_empty());
    assert_eq!(flat(db.rows("select series, status from kronos_predict('lonely', 2)")), ["- short_history"]);
    assert_eq!(
        flat(db.rows("select series, status from kronos_predict('bars', 1, only_series => '{ZZZ,AAA,YYY}', samples => 1)")),
        ["AAA -", "ZZZ no_rows", "YYY no_rows"]
    );
    assert!(db.rows("select * from kronos_predict('bars', 1, only_series => '{}')").is_empty());
    for none in ["null", "'{}'"] {
        assert_eq!(
            flat(db.rows(&format!("select step, status from kronos_predict_bars({none}, 2)"))),
            ["- short_history"]
        );
    }
    db.error("select * from kronos_predict_bars(array[null]::kronos.bar[], 2)")
        .is("22004", "ts of a bar must not be null");
    // Bars without a key belong to no series.
    db.run(
        "alter table bars drop constraint bars_pkey; alter table bars alter symbol drop not null;
            insert into bars select null, ts, open, high, low, close, volume, amount from bars;",
    );
    assert_eq!(
        flat(db.rows("select series, status from kronos_predict('bars', 1, samples => 1) order by 1")),
        ["AAA -", "- null_series"]
    );
}

#[test]
fn bars_that_overlap_are_irregular() {
    let db = Database::new("bars_that_overlap");
    db.run(&bars("bars", &["AAA"], 100));
    db.run(
        "insert into bars select symbol, ts + interval '30 minutes', open, high, low, close, volume, amount
            from bars where ts = '2024-01-03 05:00+00'",
    );
    assert_eq!(
        flat(db.rows("set timezone = 'UTC'; select status, ts from kronos_predict('bars', 2)")),
        ["irregular 2024-01-03 05:30:00+00"]
    );
}

/// Every function of the library that takes JSON, found in the catalogue.
#[test]
fn json_that_no_double_holds_or_that_lies_too_deep_is_one_clear_error() {
    let db = Database::new("json_beyond");
    let functions = db.rows(
        "select p.oid::regproc::text, string_agg(format('%s => %s', quote_ident(n), case when t in ('jsonb'::regtype, 'anycompatible'::regtype) then '@' else 'null::' || format_type(t, null) end), ', ')
         from pg_proc p cross join lateral unnest(p.proargtypes::oid[], p.proargnames[1:p.pronargs]) a (t, n)
         where p.pronamespace = 'kronos'::regnamespace and p.prolang = (select oid from pg_language where lanname = 'c')
           and array['jsonb', 'anycompatible']::regtype[]::oid[] && p.proargtypes::oid[] and not 'anyarray'::regtype = any (p.proargtypes)
         group by p.oid order by 1",
    );
    assert!(functions.len() >= 12, "{functions:?}");
    let deep = format!("'{}{}'", "[".repeat(200), "]".repeat(200));
    for row in functions {
        let (name, arguments) = (row[0].clone().unwrap(), row[1].clone().unwrap());
        for (json, reason) in
            [("'{\"samples\": 1e400}'", "number out of range"), (deep.as_str(), "recursion limit")]
        {
            let failure = db.error(&format!("select * from {name}({})", arguments.replace('@', json)));
            let null = failure.code == "22004";
            assert!(
                null || failure.code == "22023" && failure.message.contains(reason),
                "{name}: {failure:?}"
            );
            assert!(!null || name == "train_model", "{name}: {failure:?}");
        }
    }
    // Numbers within the range stay what they are.
    db.error("select * from simulate_bars(options => '{\"annual_vol\": 1e308}')").is("22023", "");
}
