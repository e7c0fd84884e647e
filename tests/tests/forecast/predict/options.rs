//! One set of options for every model, and arguments of the types that clients send.

use super::flat;
use kronos_tests::{Database, FixtureModels, bars};

/// A model of bars, one of several columns, one of a column by itself, a baseline.
const MODELS: [&str; 4] = ["kronos-fixture", "tiny-b", "tiny-bolt", "naive"];

/// All options that concern no covariate, with values that no model has by default.
const ALL: &str = r#"{"bucket_width": "1 hour", "calendar": "24x7", "columns": {"close": "px", "volume": null}, "context": 64,
    "cross_learning": false, "include_partial": true, "known_at_col": "seen", "max_gap": 2, "on_error": "error", "point_level": 0.3,
    "samples": 5, "season": 12, "seed": 7, "slide": true, "temperature": 0.9, "top_k": 40, "top_p": 0.9}"#;

fn database(name: &str) -> (Database, FixtureModels) {
    let db = Database::new(name);
    let models = FixtureModels::register(&db, &["tiny-b", "tiny-bolt"]);
    db.run(&bars("bars", &["AAA", "BBB"], 100));
    db.run(
        "create table renamed as select symbol, ts, ts + interval '1 hour' as seen, open, high, low, close as px, 7.0 as close from bars",
    );
    (db, models)
}

#[test]
fn one_call_is_right_for_every_model() {
    let (db, _models) = database("options_one_call");
    for model in MODELS {
        let forecast = format!(
            "forecast('{model}', 'renamed', '{{close}}', 2, time_col => 'ts', level => 0.8, options => '{ALL}')"
        );
        let rows =
            flat(db.rows(&format!("select series, target, step, forecast > 50, status from {forecast}")));
        assert_eq!(
            rows,
            ["AAA close 1 t -", "AAA close 2 t -", "BBB close 1 t -", "BBB close 2 t -"],
            "{model}"
        );
        let kept = ALL.replace("\"include_partial\": true,", "").replace("\"cross_learning\": false,", "");
        let backtest = format!(
            "backtest('{model}', 'renamed', 2, time_col => 'ts', num_windows => 2, level => 0.8, baselines => '{{}}', options => '{kept}')"
        );
        assert_eq!(
            db.value(&format!("select count(forecast) from {backtest} where forecast > 50")),
            "8",
            "{model}"
        );
    }
    db.error("select * from forecast('naive', 'bars', '{close}', 2, options => '{\"cross_lerning\": true}')")
        .is("22023", "unrecognized option \"cross_lerning\"")
        .hint("Did you mean \"cross_learning\"?");
}

/// The columns that an option names are those that a model reads, whatever it is.
#[test]
fn a_column_under_another_name_is_the_same_column() {
    let (db, _models) = database("options_columns");
    for model in MODELS {
        let call = |table: &str, options: &str| {
            flat(db.rows(&format!(
                "select series, step, forecast, lower, upper from forecast('{model}', '{table}', '{{close}}', 3, time_col => 'ts', level => 0.8,
                   options => '{options}')"
            )))
        };
        let renamed = call("renamed", r#"{"columns": {"close": "px", "volume": null}}"#);
        assert_eq!(renamed, call("bars", r#"{"columns": {"volume": null}}"#), "{model}");
        assert_ne!(renamed, call("renamed", "{}"), "{model}");
    }
}

#[test]
fn draws_are_chosen_by_options_where_there_is_no_argument_for_them() {
    let (db, _models) = database("options_draws");
    let differing = "select count(*) from forecast('kronos-fixture', 'bars', '{close}', 3, options => '{\"samples\": 9, \"seed\": 4, \"point_level\": 0.25}') a
        join kronos_predict('bars', 3, samples => 9, seed => 4, quantile_levels => '{0.25}') b using (series, step)
        where (a.forecast, a.lower, a.upper) is distinct from (b.quantiles[1], b.lower, b.upper)";
    assert_eq!(db.value(differing), "0");
    db.error(
        "select * from forecast('kronos-fixture', 'bars', '{close}', 3, options => '{\"samples\": 1001}')",
    )
    .is("54000", "option \"samples\" of 1001 exceeds the limit")
    .hint("kronos.max_samples");
    // Where nothing is drawn, their number is nobody's concern.
    let quantiles =
        "select count(*) from forecast('tiny-b', 'bars', '{close}', 3, options => '{\"samples\": 1001}')";
    assert_eq!(db.value(quantiles), "6");
    // The functions of bars have arguments for them.
    db.error("select * from kronos_predict('bars', 3, options => '{\"samples\": 9}')")
        .is("22023", "unrecognized option \"samples\"");
}

#[test]
fn what_would_change_the_numbers_and_cannot_be_served_is_refused() {
    let (db, _models) = database("options_refused");
    for model in ["kronos-fixture", "tiny-bolt"] {
        let error = |more: &str| {
            db.error(&format!(
                "select * from forecast('{model}', 'bars', '{{close}}', 2, level => 0.8 {more})"
            ))
        };
        let version = db.value(&format!("select version from kronos.models where name = '{model}'"));
        let refused = |what: &str| format!("{what} with model \"{version}\" is not supported");
        error(", past_covariates => '{volume}'").is("0A000", &refused("covariates"));
        error(", options => '{\"static\": [\"symbol\"]}'").is("0A000", &refused("covariates"));
        error(", options => '{\"cross_learning\": true}'").is("0A000", &refused("cross-learning"));
    }
    // A model of bars needs 32 of them, one of columns takes what there is.
    let short = |model: &str| {
        format!(
            "select count(forecast) from forecast('{model}', 'bars', '{{close}}', 2, options => '{{\"context\": 20}}')"
        )
    };
    db.error(&short("kronos-fixture"))
        .is("22023", "option \"context\" must be an integer from 32 to 65536, got 20");
    assert_eq!(db.value(&short("tiny-b")), "4");
    db.error("select * from kronos_predict('bars', 2, model => 'tiny-b')")
        .is("0A000", "forecasting bars with model \"tiny-b@")
        .hint("It is a Chronos model: use kronos.chronos_predict(), or kronos.forecast() for any model.");
    for call in [
        "kronos_predict('bars', 2, model => 'naive')",
        "chronos_predict('bars', '{close}', 2, model => 'naive')",
    ] {
        db.error(&format!("select * from {call}"))
            .is("42704", "model \"naive\" does not exist")
            .hint("It is a baseline, which needs no weights: kronos.forecast('naive', ...).");
    }
    for call in [
        "forecast('naive', 'bars', '{}', 2)",
        "chronos_predict('bars', '{}', 2)",
        "backtest('naive', 'bars', 2, targets => '{}')",
    ] {
        db.error(&format!("select * from {call}"))
            .is("22023", "targets must be the names of one or more columns, got '{}'")
            .hint("targets => '{close}'");
    }
}

#[test]
fn a_gap_leads_to_the_calendar() {
    let (db, _models) = database("options_gap");
    db.run("delete from bars where symbol = 'AAA' and extract(hour from ts) = 3");
    let said = db.psql("select count(*) from kronos_predict('bars', 2, samples => 1);");
    let notice = "NOTICE:  1 series lack bars that calendar \"24x7\" has\nHINT:  Name the calendar of the market with options => '{\"calendar\":\"XNYS\"}'";
    assert!(said.contains(notice), "{said}");
    db.error("select * from kronos_predict('bars', 2, options => '{\"on_error\":\"error\"}')")
        .is("22023", "series \"AAA\" cannot be forecast: gap")
        .hint("Name the calendar of the market with options => '{\"calendar\":\"XNYS\"}', or let up to n missing bars");
    let quiet = db.psql("select count(*) from forecast('naive', 'bars', '{close}', 2);");
    assert!(!quiet.contains("NOTICE"), "a missing row is a missing value of a column: {quiet}");
}

/// JDBC's setLong sends bigint, setObject sends text or nothing, drivers of documents send json.
#[test]
fn numbers_and_options_are_taken_in_the_types_that_clients_send() {
    let (db, _models) = database("options_types");
    let functions = [
        "kronos_predict('bars', HORIZON, samples => 2, options => OPTIONS)",
        "chronos_predict('bars', '{close}', HORIZON, model => 'tiny-b', options => OPTIONS)",
        "forecast('naive', 'bars', '{close}', HORIZON, options => OPTIONS)",
        "kronos_paths('bars', HORIZON, 1, options => OPTIONS)",
        "backtest('naive', 'bars', HORIZON, num_windows => 1, options => OPTIONS)",
        "kronos_predict_bars((select array_agg((ts, open, high, low, close, volume, amount)::kronos.bar) from bars where symbol = 'AAA'),
           HORIZON, options => OPTIONS)",
    ];
    for function in functions {
        let call = |horizon: &str, options: &str| {
            flat(db.rows(&format!(
                "select * from {}",
                function.replace("HORIZON", horizon).replace("OPTIONS", options)
            )))
        };
        let plain = call("2", "'{\"context\": 50}'");
        assert_ne!(plain, call("2", "null"), "{function}: the options are read");
        for horizon in ["2::bigint", "2::smallint", "'2'"] {
            for type_of in ["jsonb", "json", "text", "varchar(20)"] {
                assert_eq!(
                    call(horizon, &format!("'{{\"context\": 50}}'::{type_of}")),
                    plain,
                    "{function} {type_of}"
                );
            }
        }
        // What a driver leaves open is decided by the server, and there is one function to decide for.
        let open = function.replace("HORIZON", "$1").replace("OPTIONS", "$2");
        let prepared = format!("prepare p as select * from {open}; execute p(2, '{{\"context\": 50}}')");
        assert_eq!(flat(db.rows(&prepared)), plain, "{function}");
        let error = |options: &str| {
            db.error(&format!(
                "select * from {}",
                function.replace("HORIZON", "2").replace("OPTIONS", options)
            ))
        };
        error("'{\"context\": 50'::text").is("22P02", "invalid input syntax for type json");
        error("5").is("42804", "options have type integer, expected jsonb, json or text");
    }
}
