//! What a chart looks like: candlesticks, several series and models, smooth bands, grounds, numbers of any size.

use super::{FROM_ROWS, database, find, points};
use kronos_tests::{Database, rows};

/// Ten bars whose open, high and low say how they came to their close.
const CANDLES: &str = "create table candles as select symbol, ts, close - 0.5 as open, close + 1 as high, close - 1 as low, close from prices;
     alter table candles add primary key (symbol, ts);";

#[test]
fn bars_are_candlesticks_where_the_relation_has_them() {
    let db = database(Database::new("chart_candles"));
    db.run(CANDLES);
    let classes = |call: &str| find(&db, call, "//s:path[contains(@class, \"history\")]/@class");
    // One mark in the legend each, then all wicks, then the bodies: every bar closes above its open.
    let marks = |call: &str| classes(call).into_iter().filter(|class| class.contains("wick")).count();
    assert_eq!(marks("kronos.chart('candles', 'A')"), 3, "{:?}", classes("kronos.chart('candles', 'A')"));
    assert_eq!(classes("kronos.chart('candles', 'A')").last().map(String::as_str), Some("body up history"));
    let wicks = &find(&db, "kronos.chart('candles', 'A')", "//s:path[@class=\"wick history\"]/@d")[2];
    assert_eq!(wicks.matches('V').count(), 10, "{wicks}");
    for line in ["options => '{\"style\": \"line\"}'", "target => 'high'"] {
        assert_eq!(classes(&format!("kronos.chart('candles', 'A', {line})")), ["history"], "{line}");
    }
    db.error("select kronos.chart('prices', 'A', options => '{\"style\": \"candles\"}')")
        .is("42703", "column \"open\" of \"public.prices\" does not exist");
    // Prices that the reader may not see are not asked for.
    let role = db.role("chart_close");
    db.run(&format!(
        "select kronos.grant_access('{role}', 'use'); grant select (symbol, ts, close) on candles to {role}"
    ));
    let chart = rows(&mut db.connect_as(&role), "select kronos.chart('candles', 'A')");
    assert!(chart[0][0].as_deref().unwrap().contains("class=\"history\""), "{chart:?}");
}

#[test]
fn several_models_lie_over_each_other_and_several_series_side_by_side() {
    let db = database(Database::new("chart_several"));
    db.run(
        "insert into prices select 'B', ts, 1000 * close from prices;
         insert into said select series, target, ts - interval '2 hours', step, 104, 102, 106, null, null,
             cutoff - interval '2 hours', 'n@2', level from said;
         insert into said select series, target, ts, step, 104, 102, 106, null, null, cutoff, 'm@3', level from said where model_version = 'm@1';
         insert into said (series, status) values ('B', 'gap');",
    );
    let call = |series: &str, arguments: &str| {
        format!("kronos.chart('prices', {series}, (select array_agg(s) from said s), {arguments})")
    };
    let models = call("'A'", "options => '{\"models\": [\"n\", \"m@1\", \"m@3\", \"other\"]}'");
    let legend = find(&db, &models, "//s:text[@class=\"legend\"]/text()");
    assert_eq!(
        legend,
        ["close", "n", "n, 80 %", "m@1", "m@1, 80 %", "m@3", "m@3, 80 %"],
        "a version where two have one name"
    );
    let lines = |index: usize| {
        find(&db, &models, &format!("//s:path[@class=\"forecast f{index}\"]/@d"))
            .iter()
            .map(|path| points(path))
            .next()
            .unwrap()
    };
    // The older one starts two bars before the cutoff of the others.
    let bar = lines(1)[1].0 - lines(1)[0].0;
    assert!((lines(1)[0].0 - lines(0)[0].0 - 2.0 * bar).abs() < 0.05, "{:?} {:?}", lines(0), lines(1));
    assert_eq!(
        find(&db, &models, "//s:text[not(@class)]/text()"),
        [
            "10 bars of history · 4 bars of forecast · newest cutoff 2024-01-01 10:00 UTC · no forecast of other"
        ]
    );
    let series = call("null", "options => '{\"series\": [\"A\", \"B\", \"A\"]}'");
    assert_eq!(find(&db, &series, "//s:text[@class=\"title\"]/text()"), ["public.prices"]);
    assert_eq!(find(&db, &series, "//s:text[@class=\"panel\"]/text()"), ["A", "B · no forecast: gap"]);
    assert_eq!(find(&db, &series, "//s:path[@class=\"history\"]/@d").len(), 2);
    let ticks = find(&db, &series, "//s:text[@class=\"price\"]/text()");
    assert!(ticks.contains(&"104".to_owned()) && ticks.contains(&"104,000".to_owned()), "{ticks:?}");
    // In characters each has a chart of its own.
    let text = db.value(&format!("select {}", models.replace("options", "format => 'text', options")));
    assert_eq!(text.matches("┊ forecast").count(), 3, "{text}");
}

#[test]
fn bands_are_smooth_unless_the_numbers_themselves_are_wanted() {
    let db = database(Database::new("chart_smooth"));
    db.run(
        "update said set quantiles = null, quantile_levels = null;
         insert into said select series, target, ts + interval '4 hours', step + 4, forecast, lower, upper, null, null, cutoff, model_version, level from said;
         update said set upper = 124 where step = 4",
    );
    let band = |options: &str| {
        let call = FROM_ROWS.replace("from said s)", &format!("from said s), options => '{options}'"));
        let note = find(&db, &call, "//s:text[@class=\"note\"]/text()");
        (points(&find(&db, &call, "//s:path[@class=\"band f0\"]/@d")[0]), note)
    };
    let (smooth, note) = band("{}");
    assert_eq!(note, ["Research estimate, no advice or offer. Bands are smoothed over neighbouring steps."]);
    let (raw, note) = band("{\"smooth\": false}");
    assert_eq!(note, ["Research estimate, no advice or offer."]);
    // The origin, then eight steps along the upper bound: 4 above the forecast but for the fourth.
    assert!((raw[3].1 - raw[5].1).abs() < 0.01 && raw[3].1 - raw[4].1 > 100.0, "{raw:?}");
    assert!(smooth[3].1 - smooth[4].1 < 50.0 && raw[3].1 > smooth[3].1, "{smooth:?}");
    // What a calibration gave out is never smoothed.
    db.run("update said set calibration = 'c', raw_lower = lower, raw_upper = upper");
    let edge = |options: &str| {
        let call = FROM_ROWS.replace("from said s)", &format!("from said s), options => '{options}'"));
        points(&find(&db, &call, "//s:path[@class=\"calibrated f0\"]/@d")[1])
    };
    let heights = |edge: &[(f64, f64)]| (edge[3].1 - edge[4].1) / (edge[3].1 - edge[5].1 + 1.0);
    assert!((heights(&edge("{}")) - heights(&edge("{\"smooth\": false}"))).abs() < 0.01);
    db.run("insert into said select series, target, ts, step, 104, 102, 106, null, null, cutoff, 'n@2', level from said");
    let (given_out, _) = band("{\"models\": [\"m\", \"n\"]}");
    assert!(given_out[3].1 - given_out[4].1 > 100.0, "{given_out:?}");
}

#[test]
fn a_chart_is_drawn_for_the_ground_that_it_is_to_lie_on() {
    let db = database(Database::new("chart_theme"));
    let style = |theme: &str| {
        let call = format!("kronos.chart('prices', 'A', options => '{{\"theme\": \"{theme}\"}}')");
        find(&db, &call, "//s:style/text()").concat()
    };
    assert!(style("auto").contains("@media(prefers-color-scheme:dark)"));
    assert!(!style("light").contains("@media") && !style("dark").contains("@media"));
    assert_ne!(style("light"), style("dark"));
}

#[test]
fn numbers_of_any_size_are_drawn_or_left_out() {
    let db = database(Database::new("chart_extremes"));
    db.run(
        "create table odd as
         select s.symbol, timestamptz '2024-01-01' + n * interval '1 day' as time, case when n = 20 then s.odd else 1 + n * 0.01 end as close
         from generate_series(0, 39) n, (values ('plus', 'Infinity'::float8), ('minus', '-Infinity'), ('none', 'NaN'), ('big', 1e308), ('neg', -1e308),
              ('denormal', 5e-324), ('null', null)) s (symbol, odd);
         insert into odd select 'all', timestamptz '2024-01-01' + n * interval '1 day', 1e308 * (1 - 2 * (n % 2)) from generate_series(0, 9) n;
         insert into odd select 'tiny', timestamptz '2024-01-01' + n * interval '1 day', 1e-12 * (2 + sin(n)) from generate_series(0, 9) n;
         insert into odd select 'huge', timestamptz '2024-01-01' + n * interval '1 day', 1e12 * (2 + sin(n)) from generate_series(0, 9) n;
         insert into odd select 'flat', timestamptz '2024-01-01' + n * interval '1 day', 7 from generate_series(0, 9) n;
         create table one as select timestamptz '2024-01-01' as time, 5.0::float8 as close",
    );
    let paths = |symbol: &str| {
        let call = format!("kronos.chart('odd', '{symbol}')");
        assert_eq!(db.value(&format!("select {call} ~ '(NaN|[^a-z]inf[^a-z])'")), "f", "{symbol}");
        let text = db.value(&format!("select {}", call.replace("')", "', format => 'text')")));
        assert!(!text.contains("NaN") && text.lines().count() > 1, "{text}");
        find(&db, &call, "//s:path[@class=\"history\"]/@d").len()
    };
    // What is no number, or beyond 1e300, is a gap between twenty bars and nineteen.
    for symbol in ["plus", "minus", "none", "big", "neg", "null"] {
        assert_eq!(paths(symbol), 2, "{symbol}");
    }
    for symbol in ["denormal", "tiny", "huge", "flat"] {
        assert_eq!(paths(symbol), 1, "{symbol}");
    }
    assert_eq!(find(&db, "kronos.chart('odd', 'all')", "//s:text[@class=\"empty\"]/text()"), ["no data"]);
    let ticks = |symbol: &str| {
        find(&db, &format!("kronos.chart('odd', '{symbol}')"), "//s:text[@class=\"price\"]/text()")
    };
    assert!(ticks("tiny").iter().all(|tick| tick.ends_with("e-12")), "{:?}", ticks("tiny"));
    assert!(ticks("huge").iter().all(|tick| tick.ends_with("e12")), "{:?}", ticks("huge"));
    // One bar is a dot that can be seen.
    assert_eq!(find(&db, "kronos.chart('one', null)", "//s:circle[@class=\"dot history\"]/@r"), ["3"]);
}
