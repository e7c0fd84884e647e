//! `kronos.chart()`: the picture is XML, its points are the numbers, and what is missing is seen to be missing.
//! The server's own XML reader is the witness.

mod looks;
mod pictures;

use kronos_tests::{Database, bars, rows};

/// Ten hourly bars of 100, 101, ... and a forecast of four steps from 110, the second of which came true.
fn database(db: Database) -> Database {
    db.run(
        "set timezone = 'UTC';
         create table prices (symbol text, ts timestamptz, close float8, primary key (symbol, ts));
         insert into prices select 'A', '2024-01-01 00:00+00'::timestamptz + g * interval '1 hour', 100 + g
         from generate_series(0, 9) g;
         create table said (series text, target text, ts timestamptz, step int, forecast float8, lower float8, upper float8,
           quantile_levels float8[], quantiles float8[], cutoff timestamptz, model_version text, level float8,
           raw_lower float8, raw_upper float8, calibration text, status text);
         insert into said select 'A', 'close', '2024-01-01 10:00+00'::timestamptz + g * interval '1 hour', g + 1, 110, 106, 114,
           '{0.25,0.5,0.75}', '{108,110,112}', '2024-01-01 10:00+00', 'm@1', 0.8, null, null, ''
         from generate_series(0, 3) g;",
    );
    db
}

/// What XPath finds in the chart of `call`.
fn find(db: &Database, call: &str, path: &str) -> Vec<String> {
    db.rows(&format!(
        "set timezone = 'UTC'; select x::text from unnest(xpath('{}', xmlparse(document {call}), '{{{{s,http://www.w3.org/2000/svg}}}}')) x",
        path.replace('\'', "''")
    ))
    .into_iter()
    .flatten()
    .flatten()
    .collect()
}

const FROM_ROWS: &str = "kronos.chart('prices', 'A', (select array_agg(s) from said s))";

/// Numbers of a path's `d`.
fn points(path: &str) -> Vec<(f64, f64)> {
    path.split(['M', 'L', 'Z'])
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (x, y) = pair.split_once(',').unwrap();
            (x.parse().unwrap(), y.trim_end_matches("h0").parse().unwrap())
        })
        .collect()
}

#[test]
fn points_lie_where_they_are_computed_by_hand() {
    let db = database(Database::new("chart_points"));
    db.run("insert into prices values ('A', '2024-01-01 11:00+00', 112)");
    // Values from 100 to 114 in a picture 420 high, with 4 % of 14 beyond them: ticks from 100 to 114, every 2. The plot goes
    // from x = 16 + 3 * 6.6 to 942 and from y = 70 to 360; fourteen bars share its width.
    let x = |slot: f64| 35.8 + (slot + 0.5) * (942.0 - 35.8) / 14.0;
    let y = |value: f64| 360.0 - (value - 99.44) / 15.12 * 290.0;
    let near = |found: (f64, f64), slot: usize, value: f64| {
        assert!(
            (found.0 - x(slot as f64)).abs() < 0.006 && (found.1 - y(value)).abs() < 0.006,
            "{found:?} {slot} {value}"
        );
    };
    let call = FROM_ROWS;
    let ticks = find(&db, call, "//s:text[@class=\"price\"]/text()");
    assert_eq!(ticks, ["100", "102", "104", "106", "108", "110", "112", "114"]);
    let history = points(&find(&db, call, "//s:path[@class=\"history\"]/@d")[0]);
    assert_eq!(history.len(), 10);
    for (slot, &point) in history.iter().enumerate() {
        near(point, slot, 100.0 + slot as f64);
    }
    // The forecast starts from the last bar, and the outcome of its second step is a dot.
    let forecast = points(&find(&db, call, "//s:path[@class=\"forecast f0\"]/@d")[0]);
    assert_eq!(forecast.len(), 5);
    near(forecast[0], 9, 109.0);
    near(forecast[4], 13, 110.0);
    let dots = find(&db, call, "//s:circle[@class=\"dot outcome\"]/@cy");
    assert_eq!(dots.len(), 2, "one in the legend, one in the plot: {dots:?}");
    near((x(11.0), dots[1].parse().unwrap()), 11, 112.0);
    // Two bands, the wide one first: each goes out along its upper and back along its lower bound.
    let bands = find(&db, call, "//s:path[@class=\"band f0\"]/@d");
    assert_eq!(bands.len(), 2);
    near(points(&bands[0])[1], 10, 114.0);
    near(points(&bands[0])[8], 10, 106.0);
    near(points(&bands[1])[1], 10, 112.0);
    assert_eq!(
        find(&db, call, "//s:text[@class=\"legend\"]/text()"),
        ["close", "forecast", "80 %", "50 %", "outcome"]
    );
    assert_eq!(find(&db, call, "//s:text[@class=\"time\"]/text()").last().map(String::as_str), Some("12:00"));
}

#[test]
fn what_is_missing_is_a_gap() {
    let db = database(Database::new("chart_gaps"));
    db.run(
        "update prices set close = case extract(hour from ts) when 3 then null when 4 then 'NaN'::float8 else close end;
         update said set forecast = null, lower = 'Infinity' where step = 2;",
    );
    let history = find(&db, FROM_ROWS, "//s:path[@class=\"history\"]/@d");
    assert_eq!(history.iter().map(|path| points(path).len()).collect::<Vec<_>>(), [3, 5]);
    // A row without a forecast is none; NaN bounds leave the step's room empty.
    let forecast = find(&db, FROM_ROWS, "//s:path[@class=\"forecast f0\"]/@d");
    assert_eq!(forecast.iter().map(|path| points(path).len()).collect::<Vec<_>>(), [4]);
    db.run("update said set forecast = 'NaN' where step = 2");
    let forecast = find(&db, FROM_ROWS, "//s:path[@class=\"forecast f0\"]/@d");
    assert_eq!(forecast.iter().map(|path| points(path).len()).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn a_calibrated_interval_is_drawn_beside_the_models_own() {
    let db = database(Database::new("chart_calibrated"));
    db.run("update said set calibration = 'close_80', raw_lower = 109, raw_upper = 111");
    assert_eq!(
        find(&db, FROM_ROWS, "//s:text[@class=\"legend\"]/text()"),
        ["close", "forecast", "80 %", "50 %", "80 %, calibrated by close_80"]
    );
    let edges = find(&db, FROM_ROWS, "//s:path[@class=\"calibrated f0\"]/@d");
    let band = &find(&db, FROM_ROWS, "//s:path[@class=\"band f0\"]/@d")[0];
    assert_eq!(edges.len(), 2);
    let last = |path: &str| points(path).last().unwrap().1;
    // Below is greater: 106 and 114 about 109 and 111.
    assert!(last(&edges[0]) > points(band)[5].1 && last(&edges[1]) < points(band)[4].1, "{edges:?} {band}");
}

#[test]
fn hostile_names_stay_text() {
    let db = database(Database::new("chart_hostile"));
    let name = "\"><script>alert('x')</script>&]]>\u{1b}[2J";
    let quoted = format!("'{}'", name.replace('\'', "''"));
    db.run(&format!(
        "update prices set symbol = {quoted}; update said set series = {quoted}, model_version = '<b>&'"
    ));
    let call = format!("kronos.chart('prices', {quoted}, (select array_agg(s) from said s))");
    let title = &find(&db, &call, "//s:text[@class=\"title\"]/text()")[0];
    assert_eq!(title, "\"&gt;&lt;script&gt;alert('x')&lt;/script&gt;&amp;]]&gt;\u{fffd}[2J · public.prices");
    assert!(find(&db, &call, "//s:script").is_empty() && find(&db, &call, "//s:b").is_empty());
    let text = db.value(&format!("select {}", call.replace("said s))", "said s), format => 'text')")));
    assert!(!text.contains('\u{1b}') && text.contains("script"), "{text}");
}

#[test]
fn nothing_gives_an_empty_chart_that_says_so() {
    let db = database(Database::new("chart_empty"));
    for call in [
        "kronos.chart('prices', 'B')",
        "kronos.chart('prices', 'B', '{}'::kronos.bar_forecast[], history => 0)",
    ] {
        assert_eq!(find(&db, call, "//s:text[@class=\"empty\"]/text()"), ["no data"], "{call}");
        assert_eq!(
            find(&db, call, "//s:text[not(@class)]/text()"),
            ["0 bars of history · no forecast · UTC"]
        );
    }
    // Without a forecast there is history; a series that could not be forecast says why.
    assert_eq!(find(&db, "kronos.chart('prices', 'A')", "//s:path/@class"), ["history"]);
    let call = "kronos.chart('prices', 'A', (select array_agg(f) from kronos.kronos_predict('short', 4, on => 'x') f))";
    db.run("create view short as select symbol, ts, close as open, close as high, close as low, close from prices");
    let call = call.replace(", on => 'x'", "");
    assert_eq!(
        find(&db, &call, "//s:text[not(@class)]/text()"),
        ["10 bars of history · no forecast: short_history · UTC"]
    );
}

#[test]
fn a_live_forecast_as_an_array_and_as_text() {
    let db = Database::new("chart_live");
    db.run(&bars("bars", &["ALPHA", "BETA"], 200));
    let call = "kronos.chart('bars', 'ALPHA', (select array_agg(f) from kronos.kronos_predict('bars', 12, \
                quantile_levels => '{0.1,0.9}') f), quantile_levels => '{0.1,0.9}', level => 0.9, history => 60";
    let svg = format!("{call})");
    assert_eq!(
        find(&db, &svg, "//s:text[@class=\"legend\"]/text()"),
        ["bar, hollow where it rose", "forecast", "90 %", "80 %"]
    );
    assert_eq!(points(&find(&db, &svg, "//s:path[@class=\"forecast f0\"]/@d")[0]).len(), 13);
    assert_eq!(db.value(&format!("select {svg}")), db.value(&format!("select {svg}")));
    let text = db
        .value(&format!("select {call}, format => 'text', options => '{{\"width\": 80, \"height\": 20}}')"));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 20, "{text}");
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.starts_with("ALPHA · public.bars\n60 bars of history · 12 bars of forecast"), "{text}");
    assert!(
        text.contains('┊')
            && text.contains('░')
            && text.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c))
    );
}

#[test]
fn the_newest_cutoff_up_to_as_of_is_drawn() {
    let db = database(Database::new("chart_newest"));
    db.run(
        "insert into said select series, target, ts - interval '3 hours', step, 104, 102, 106, null, null,
             cutoff - interval '3 hours', 'n@2', level from said",
    );
    let count = |arguments: &str| {
        let call = format!("kronos.chart('prices', 'A', (select array_agg(s) from said s), {arguments})");
        find(&db, &call, "//s:text[not(@class)]/text()")[0].clone()
    };
    assert!(
        count("history => 100")
            .contains("10 bars of history · 4 bars of forecast · cutoff 2024-01-01 10:00 UTC · m@1")
    );
    for arguments in ["as_of => '2024-01-01 09:00+00'", "model => 'n'", "model => 'n@2'"] {
        let line = count(arguments);
        assert!(
            line.contains("7 bars of history · 4 bars of forecast · cutoff 2024-01-01 07:00 UTC · n@2"),
            "{line}"
        );
    }
    assert!(count("history => 2").starts_with("2 bars of history"));
}

#[test]
fn without_rows_the_ledger_is_read() {
    let db = database(Database::installed("chart_ledger"));
    db.run(
        "insert into ledger.runs (relation, call, state) values ('prices', 'kronos_predict', 'done');
         insert into ledger.forecasts (run_id, kind, relation, series, target, ts, step, cutoff, forecast, lower, upper, level,
             quantile_levels, quantiles, raw_lower, raw_upper, model_version, calibration)
         select 1, v.kind, 'prices', 'A', 'close', ts - back, step, cutoff - back, forecast, 105, 115, 0.8, quantile_levels, quantiles,
                108, 112, model_version, v.calibration
         from said, (values ('live', '', interval '0'), ('live', 'close_80', '0'), ('live', '', '2 hours'), ('backtest', 'x', '0'))
                    as v (kind, calibration, back)",
    );
    let lines = |call: &str| {
        let subtitle = find(&db, call, "//s:text[not(@class)]/text()");
        (subtitle[0].clone(), find(&db, call, "//s:text[@class=\"legend\"]/text()"))
    };
    // The newest cutoff, calibrated where it is both ways; backtests are no forecasts of their time.
    let (subtitle, legend) = lines("kronos.chart('prices', 'A')");
    assert_eq!(subtitle, "10 bars of history · 4 bars of forecast · cutoff 2024-01-01 10:00 UTC · m@1");
    assert_eq!(legend, ["close", "forecast", "80 %", "50 %", "80 %, calibrated by close_80"]);
    let (subtitle, legend) = lines("kronos.chart('prices', 'A', as_of => '2024-01-01 09:00+00')");
    assert!(subtitle.contains("cutoff 2024-01-01 08:00"), "{subtitle}");
    assert_eq!(legend, ["close", "forecast", "80 %", "50 %", "outcome"]);
    let (subtitle, _) = lines("kronos.chart('prices', 'A', model => 'other')");
    assert_eq!(subtitle, "10 bars of history · no forecast · UTC");
    // An alias means the version behind it.
    db.run(
        "insert into ledger.forecasts (run_id, kind, relation, series, target, ts, step, cutoff, forecast, model_version)
         select 1, 'live', 'prices', 'A', 'close', ts, step, cutoff, forecast, version from said, kronos.models where 'kronos-default' = any(aliases)",
    );
    let (subtitle, _) = lines("kronos.chart('prices', 'A', model => 'kronos-default')");
    assert!(subtitle.contains("4 bars of forecast") && subtitle.contains(" · kronos-fixture@"), "{subtitle}");
}

#[test]
fn mistakes_are_told() {
    let db = database(Database::new("chart_mistakes"));
    db.error("select kronos.chart('prices')")
        .is("22023", "series must be a value of column \"symbol\", got NULL")
        .hint("series =>");
    db.error("select kronos.chart('prices', 'A', format => 'png')")
        .is("22023", "format must be \"svg\" or \"text\", got \"png\"");
    db.error("select kronos.chart('prices', 'A', options => '{\"widht\": 10}')")
        .is("22023", "unrecognized option \"widht\"")
        .hint("Did you mean \"width\"?");
    for (option, message) in [
        ("\"style\": \"bars\"", "option \"style\" must be \"candles\" or \"line\", got \"bars\""),
        ("\"theme\": \"blue\"", "option \"theme\" must be \"auto\", \"light\" or \"dark\", got \"blue\""),
        ("\"series\": [\"B\"]", "option \"series\" must be absent where series is given, got B"),
        (
            "\"models\": [\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\"]",
            "option \"models\" must be at most 6 names, got 7",
        ),
    ] {
        db.error(&format!("select kronos.chart('prices', 'A', options => '{{{option}}}')"))
            .is("22023", message);
    }
    db.error("select kronos.chart('prices', 'A', model => 'm', options => '{\"models\": [\"n\"]}')")
        .is("22023", "option \"models\" must be absent where model is given, got n");
    db.error("select kronos.chart('prices', 'A', target => 'px')")
        .is("42703", "column \"px\" of \"public.prices\" does not exist");
    db.error("select kronos.chart('prices', 'A', history => -1)")
        .is("22023", "history must be from 0 to 10000, got -1");
    db.run("alter table said drop column quantile_levels");
    db.error(&format!("select {FROM_ROWS}"))
        .is("22023", "quantile_levels must be as many as the rows have quantiles, 3, got 0")
        .hint("Pass the quantile_levels of the call");
    db.error("select kronos.chart('prices', 'A', '{1,2}'::int[])").is("22023", "array of objects");
}

#[test]
fn it_reads_as_the_caller_and_only_the_newest_rows() {
    let db = database(Database::new("chart_reader"));
    let role = db.role("chart_reader");
    db.run(&format!("select * from kronos.grant_access('{role}', 'use')"));
    let mut client = db.connect_as(&role);
    db.error_in(&mut client, "select kronos.chart('prices', 'A')").is("42501", "permission denied");
    db.run(&format!("grant select on prices to {role}"));
    client.simple_query("begin read only; select kronos.chart('prices', 'A'); commit").unwrap();
    // Bars that the chart has no room for are not looked at: three hundred thousand fill thousands of pages.
    db.run(
        "insert into prices select 'B', '2020-01-01 00:00+00'::timestamptz + g * interval '1 second', g from generate_series(1, 300000) g;
         analyze prices",
    );
    let mut client = db.connect();
    let mut pages = |sql: &str| -> u64 {
        // What a function reads is counted where it is called.
        let plan = rows(&mut client, &format!("explain (analyze, buffers, timing off, format json) {sql}"));
        let plan: serde_json::Value = serde_json::from_str(plan[0][0].as_deref().unwrap()).unwrap();
        ["Shared Hit Blocks", "Shared Read Blocks"]
            .map(|name| plan[0]["Plan"][name].as_u64().unwrap())
            .iter()
            .sum()
    };
    let chart = "select length(kronos.chart('prices', 'B')) > 0";
    // The first call reads the catalogue.
    pages(chart);
    let (whole, drawn) = (pages("select count(close) from prices where symbol = 'B'"), pages(chart));
    assert!(whole > 1000 && drawn < 200, "a chart read {drawn} pages, all bars take {whole}");
}
