//! `simulate_bars`: the same market every time.

use kronos_tests::Database;

#[test]
fn same_seed_same_rows_and_symbols_are_independent() {
    let db = Database::new("same_seed_same_rows");
    let digest = |call: &str, symbol: &str| {
        db.value(&format!(
            "select md5(string_agg(b::text, ',' order by b.time)) from kronos.simulate_bars({call}) b where symbol = '{symbol}'"
        ))
    };
    let alone = digest("'{AAA}', 500", "AAA");
    assert_eq!(digest("'{AAA}', 500", "AAA"), alone);
    assert_eq!(digest("'{BBB,AAA,CCC}', 500", "AAA"), alone);
    assert_ne!(digest("'{AAA}', 500, seed => 1", "AAA"), alone);
    assert_ne!(digest("'{BBB,AAA}', 500", "BBB"), alone.replace("AAA", "BBB"));
    assert_eq!(
        db.value(
            "select count(*) from kronos.simulate_bars('{AAA}', 100) a
             join kronos.simulate_bars('{AAA}', 500) b using (symbol, time, open, high, low, close, volume, amount)"
        ),
        "100"
    );
}

#[test]
fn bars_are_coherent_and_lie_on_the_grid() {
    let db = Database::new("bars_are_coherent");
    assert_eq!(
        db.value(
            "select count(*) from kronos.simulate_bars('{A,B}', 2000)
             where not (low > 0 and low <= least(open, close) and high >= greatest(open, close) and volume >= 0 and amount >= 0)"
        ),
        "0"
    );
    let expected = "select min(time) || ' ' || max(time) || ' ' || count(*) from kronos.simulate_bars";
    assert_eq!(
        db.value(&format!("set timezone = 'UTC'; {expected}('{{A}}', 48)")),
        "2024-01-01 00:00:00+00 2024-01-02 23:00:00+00 48"
    );
    // Six and a half hours: the last hourly bar of a session is half as long. 29 November closes early.
    let new_york = db.rows(
        "select to_char(time at time zone 'America/New_York', 'DD HH24:MI')
         from kronos.simulate_bars('{A}', 12, '1 hour', '2024-11-27 12:00-05', calendar => 'XNYS')",
    );
    let wanted = [
        "27 12:30", "27 13:30", "27 14:30", "27 15:30", "29 09:30", "29 10:30", "29 11:30", "29 12:30",
        "02 09:30", "02 10:30", "02 11:30", "02 12:30",
    ];
    assert_eq!(new_york, wanted.map(|time| vec![Some(time.to_owned())]));
    // Daily bars are labelled by midnight on the market's clock, through the change of the clocks of 10 March.
    let days = db.rows(
        "set timezone = 'UTC'; select time from kronos.simulate_bars('{A}', 3, '1 day', '2024-03-08 00:00-05', calendar => 'XNYS')",
    );
    let wanted = ["2024-03-08 05:00:00+00", "2024-03-11 04:00:00+00", "2024-03-12 04:00:00+00"];
    assert_eq!(days, wanted.map(|time| vec![Some(time.to_owned())]));
}

#[test]
fn the_market_is_as_asked() {
    let db = Database::new("the_market_is_as_asked");
    let statistic = |expression: &str, options: &str| -> f64 {
        db.value(&format!(
            "with r as (
               select a.time, ln(a.close / a.open) as a, ln(b.close / b.open) as b
               from kronos.simulate_bars('{{A}}', 20000, options => '{options}') a
               join kronos.simulate_bars('{{B}}', 20000, options => '{options}') b using (time))
             select {expression} from r"
        ))
        .parse()
        .unwrap()
    };
    // 20 000 hours; the errors of these estimates are given where the same is measured in the library's own tests.
    let volatility = statistic("stddev(a) * sqrt(8766)", r#"{"volatility":0.8}"#);
    assert!((volatility - 0.8).abs() < 0.12, "{volatility}");
    // A year has 365.25 days, and New York some 1761 bars of an hour: 251.6 sessions of seven.
    for (per_year, width, calendar) in [(365.25, "1 day", "24x7"), (1761.0, "1 hour", "XNYS")] {
        let volatility: f64 = db
            .value(&format!(
                "select stddev(ln(close / open)) * sqrt({per_year}) from kronos.simulate_bars('{{A}}', 20000, '{width}', calendar => '{calendar}',
                   options => '{{\"volatility\":0.8}}')"
            ))
            .parse()
            .unwrap();
        assert!((volatility - 0.8).abs() < 0.12, "{width} of {calendar}: {volatility}");
    }
    let correlation = statistic("corr(a, b)", r#"{"correlation":0.8}"#);
    assert!((correlation - 0.8).abs() < 0.05, "{correlation}");
    let kurtosis = statistic("avg(a ^ 4) / avg(a ^ 2) ^ 2", "{}");
    assert!(kurtosis > 4.0, "{kurtosis}");
    assert_eq!(
        db.value("select open from kronos.simulate_bars('{A}', 1, options => '{\"price\":250}')"),
        "250"
    );
}

#[test]
fn wrong_arguments_are_named() {
    let db = Database::new("simulate_wrong_arguments");
    for (call, code, message, hint) in [
        ("'{A}', 0", "22023", "n must be between 1 and", ""),
        ("'{A,NULL}', 5", "22004", "symbol must not be null", ""),
        ("'{A,B,A}', 5", "22023", "symbols must be distinct, got \"A\" twice", ""),
        ("NULL, 5", "22004", "symbols must not be null", ""),
        ("'{A}', 5, '0 hours'", "22023", "bucket_width must be", ""),
        ("'{A}', 5, '1 day 1 hour'", "22023", "bucket_width must be", ""),
        ("'{A}', 5, start => 'infinity'", "22023", "start must be between", ""),
        ("'{A}', 5, calendar => 'XNY'", "42704", "calendar \"XNY\" does not exist", "Did you mean \"XNYS\"?"),
        (
            "'{A}', 5, options => '{\"volatilty\":1}'",
            "22023",
            "unrecognized option",
            "Did you mean \"volatility\"?",
        ),
        ("'{A}', 5, options => '{\"volatility\":\"x\"}'", "22023", "must be a number", ""),
        (
            "'{A}', 5, options => '{\"correlation\":2}'",
            "22023",
            "correlation must be between 0 and 1, got 2",
            "",
        ),
    ] {
        db.error(&format!("select * from kronos.simulate_bars({call})")).is(code, message).hint(hint);
    }
    db.error("set kronos.max_series_per_call = 1; select * from kronos.simulate_bars('{A,B}', 5)")
        .is("54000", "number of symbols of 2 exceeds the limit of 1")
        .hint("kronos.max_series_per_call");
}
