//! How much of what models say comes true, from outcomes that are known, on cases worked by hand.

use super::desk::{closes, installed, installed_with, near, number, three_points};
use kronos_tests::rows;

/// The session's settings change no number: neither what a date means nor how long a day is.
#[test]
fn skill_and_returns_are_the_same_in_every_session() {
    let found = ["timestamptz", "date", "timestamp"].map(|time| {
        let db = installed_with(&format!("same_everywhere_{time}"), time);
        three_points(&db);
        db.run("select said('m@1', 'A', 3, 0.02)");
        let mut answers = std::collections::BTreeSet::new();
        for session in [
            "set timezone = 'UTC'",
            "set timezone = 'America/New_York'",
            "set timezone = 'Asia/Tokyo'",
            "set timezone = 'Pacific/Kiritimati'; set datestyle = 'SQL, DMY'; set intervalstyle = 'sql_standard'",
            "set extra_float_digits = -15; set timezone = 'Europe/Berlin'",
        ] {
            let mut client = db.connect();
            client.batch_execute(session).unwrap();
            let answer = rows(
                &mut client,
                "select md5(string_agg(float8send(slope)::text || n || dates || float8send(beta), ' '))
                        || (select md5(string_agg(symbol || float8send(expected_return)::text || float8send(price), ' '))
                            from trading.expected_returns('bars', 1, day(4)))
                 from trading.forecast_skill('bars', 1, day(4))",
            );
            assert!(answer[0][0].is_some(), "{time}: {session}");
            answers.insert(answer);
        }
        assert_eq!(answers.len(), 1, "{time}: {answers:?}");
        answers
    });
    assert!(found[0] == found[1] && found[1] == found[2], "{found:?}");
}

#[test]
fn beta_of_three_points() {
    let db = installed("beta_of_three_points");
    three_points(&db);
    let skill = |column: &str, arguments: &str| {
        number(
            &db,
            &format!(
                "select {column} from trading.forecast_skill('bars', 1, {arguments}) where model_version = 'm@1'"
            ),
        )
    };
    for (column, expected) in [
        ("n", 3.0),
        ("dates", 3.0),
        ("slope", 0.75),
        ("intercept", 0.0),
        ("standard_error", 3f64.sqrt() / 8.0),
        ("beta", 0.6875),
    ] {
        near(skill(column, "day(4)"), expected);
    }
    // A slope below nothing is no skill; one that is above one after what is taken off is trusted as it is said.
    db.run(
        "select said('inverse@1', 'A', d, -x), said('timid@1', 'A', d, x / 4), said('constant@1', 'A', d, 0.013)
         from (values (0, 0.01), (1, 0.02), (2, 0.03)) v (d, x)",
    );
    let betas = db.rows("select model_version, round(slope::numeric, 6), beta from trading.forecast_skill('bars', 1, day(4)) order by 1");
    let betas: Vec<Vec<String>> =
        betas.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()).collect();
    assert_eq!(betas[0], ["constant@1", "", "0"]);
    assert_eq!(betas[1][..2], ["inverse@1", "-0.750000"]);
    assert_eq!(betas[1][2], "0");
    assert_eq!(betas[3], ["timid@1", "3.000000", "1"]);
    // Too few dates are no measurement.
    near(skill("beta", "day(3)"), 0.0);
    near(skill("n", "day(3)"), 2.0);
    db.run(
        "insert into trading.policy_knobs (knob, valid_from, value) values ('skill_dates', '2020-01-01', 2)",
    );
    near(skill("n", "day(4)"), 2.0);
}

#[test]
fn skill_knows_nothing_of_what_comes_later() {
    let db = installed("skill_no_lookahead");
    let returns =
        |seed: f64, count: usize| (0..count).map(|i| 0.01 * (seed * i as f64).sin()).collect::<Vec<_>>();
    for (number, symbol) in ["A", "B", "C"].into_iter().enumerate() {
        closes(&db, symbol, &returns(1.3 + number as f64, 40));
    }
    db.run(
        "select said(m, s, d, 0.01 * sin(d * 1.7 + length(m) + ascii(s))) from unnest('{m@1,other@2}'::text[]) m,
           unnest('{A,B,C}'::text[]) s, generate_series(0, 30) d;
         insert into trading.scores (symbol, known_at, score) select s, day(d), sin(d + ascii(s)) from unnest('{A,B,C}'::text[]) s, generate_series(0, 30) d",
    );
    let answer = || {
        [
            "trading.forecast_skill('bars', 1, day(31))",
            "trading.score_skill('bars', 1, day(31))",
            "trading.expected_returns('bars', 1, day(31))",
            "trading.signals('bars', 1, as_of => day(31))",
        ]
        .map(|call| db.value(&format!("select string_agg(t::text, ' ' order by t::text) from {call} t")))
    };
    db.run("delete from bars where time > day(30)");
    let before = answer();
    assert!(before.iter().all(|text| !text.is_empty()) && before[0].contains(",90,30,"), "{before:?}");
    // What is known later: bars, forecasts, outcomes of the forecasts of day 30, scores, terms.
    db.run(
        "insert into bars select s, day(d), 1000 * d from unnest('{A,B,C}'::text[]) s, generate_series(31, 45) d;
         select said(m, s, d, 5) from unnest('{m@1,other@2}'::text[]) m, unnest('{A,B,C,D}'::text[]) s, generate_series(31, 44) d;
         -- Of cutoffs that have passed, by a model that spoke later: outcomes that are known would be learnt from hindsight.
         select said('late@3', s, d, 3, issued => day(31) + interval '1 s') from unnest('{A,B,C}'::text[]) s, generate_series(0, 30) d;
         insert into trading.scores (symbol, known_at, score) select s, day(31) + interval '1 s', 9 from unnest('{A,B,C}'::text[]) s;
         insert into trading.terms (symbol, known_at, shortable) values ('A', day(32), true);
         insert into trading.policy_knobs (knob, valid_from, value) values ('volatility_floor', day(32), 3)",
    );
    assert_eq!(answer(), before);
    assert_ne!(
        db.value("select string_agg(t::text, ' ') from trading.forecast_skill('bars', 1, day(45)) t"),
        before[0]
    );
}

#[test]
fn a_forecast_counts_from_when_it_was_issued() {
    let db = installed("issued_later");
    three_points(&db);
    // A run of the evening of day 3 that came to its end six hours late.
    db.run("select said('m@1', 'A', 3, 0.04, issued => day(4) + interval '6 hours')");
    let seen = |at: &str| {
        db.value(&format!("select string_agg(forecast_return::numeric(6, 4)::text, ' ') from trading.expected_returns('bars', 1, day(4) + interval '{at}')"))
    };
    // Between cutoff and issue the moment makes no difference.
    assert_eq!([seen("0"), seen("1 hour"), seen("5:59:59")], [""; 3]);
    assert_eq!([seen("6 hours"), seen("7 hours")], ["0.0400"; 2]);
    // Its outcome is known at the end of day 4, and so it counts then; said after that it counts from when it was said.
    db.run("insert into bars values ('A', day(4), 100); select said('slow@1', 'A', d, 0.01 * d, issued => day(9)) from generate_series(0, 3) d");
    let outcomes = |model: &str, at: &str| {
        db.value(&format!("select coalesce(max(n), 0) from trading.forecast_skill('bars', 1, {at}) where model_version = '{model}'"))
    };
    assert_eq!([outcomes("m@1", "day(4)"), outcomes("m@1", "day(5)")], ["3", "4"]);
    assert_eq!([outcomes("slow@1", "day(9) - interval '1 s'"), outcomes("slow@1", "day(9)")], ["0", "4"]);
}

#[test]
fn a_model_without_skill_drops_out() {
    let db = installed("without_skill");
    three_points(&db);
    db.run(
        "select said('inverse@1', 'A', d, -x) from (values (0, 0.01), (1, 0.02), (2, 0.03)) v (d, x);
         select said('m@1', 'A', 3, 0.04), said('inverse@1', 'A', 3, -0.9), said('new@1', 'A', 3, 0.5)",
    );
    let row =
        |sql: &str| db.rows(sql)[0].iter().map(|value| value.clone().unwrap_or_default()).collect::<Vec<_>>();
    let value = |column: &str| format!("select {column} from trading.expected_returns('bars', 1, day(4))");
    assert_eq!(row(&value("symbol, models")), ["A", "{m@1}"]);
    near(number(&db, &value("expected_return")), 0.6875 * 0.04);
    near(number(&db, &value("forecast_return")), (0.04 - 0.9 + 0.5) / 3.0);
    near(number(&db, &value("volatility")), 0.02);
    near(number(&db, &value("price")), (100f64.ln() + 0.045).exp());
    // Alone, a model without skill leaves an expected return of nothing.
    for model in ["inverse", "new@1"] {
        let sql = format!(
            "select expected_return from trading.expected_returns('bars', 1, day(4), model => '{model}')"
        );
        near(number(&db, &sql), 0.0);
    }
    // Two models with skill have one voice each.
    db.run(
        "select said('bold@1', 'A', d, x) from (values (0, 0.01), (1, 0.02), (2, 0.03), (3, 0.02)) v (d, x)",
    );
    near(number(&db, &value("expected_return")), (0.6875 * 0.04 + 0.6875 * 0.02) / 2.0);
    // A calibrated forecast of the same cutoff comes first, with the skill of calibrated ones: none yet.
    db.run("select said('m@1', 'A', 3, 0.08, calibration => 'c')");
    near(number(&db, &value("expected_return")), 0.6875 * 0.02);
}

#[test]
fn backtests_count_where_they_are_asked_for() {
    let db = installed("backtests_count");
    closes(&db, "A", &[0.01, 0.01, 0.025]);
    db.run(
        "insert into trading.policy_knobs (knob, valid_from, value) values ('skill_least', '2020-01-01', 2);
         select said(v, 'A', d, x, kind => 'backtest')
         from (select version as v from kronos.models where not built_in union select 'other@1') m, (values (0, 0.01), (1, 0.02), (2, 0.03)) p (d, x)",
    );
    let n = |kinds: &str| {
        db.rows(&format!("select model_version like 'kronos%', n from trading.forecast_skill('bars', 1, day(4), kinds => '{kinds}') order by 1"))
    };
    let row = |fixture: &str, n: &str| vec![Some(fixture.to_owned()), Some(n.to_owned())];
    assert!(n("{live,manual}").is_empty());
    assert_eq!(n("{live,backtest}"), [row("f", "3"), row("t", "3")]);
    // A cutoff within what the model has seen in training is no test of it: that of January 2nd at 00:00.
    db.run("update _kronos.model set train_cutoff = '2024-01-02'");
    assert_eq!(n("{live,backtest}"), [row("f", "3"), row("t", "2")]);
}

#[test]
fn scores_count_by_their_information_coefficient() {
    let db = installed("scores");
    // Three names with scores -1, 0, 1. On nine days the outcomes are in that order, on one in the opposite: the mean of
    // the correlations is 0.8, its standard error sqrt((9 x 0.2^2 + 1.8^2) / (10 x 9)) = 0.2, and 0.8 x (1 - 1 / 16) remains.
    for (symbol, sign) in [("A", -1.0), ("B", 0.0), ("C", 1.0)] {
        let mut returns = [0.01 * sign; 10];
        returns[6] = -returns[6];
        closes(&db, symbol, &returns);
    }
    db.run(
        "insert into trading.policy_knobs (knob, valid_from, value) values ('skill_least', '2020-01-01', 10);
         insert into trading.scores (symbol, known_at, score) values ('A', day(0), -1), ('B', day(0), 0), ('C', day(0), 1);
         select said('m@1', s, d, 0.01) from unnest('{A,B,C}'::text[]) s, generate_series(0, 10) d",
    );
    let skill = |column: &str, day: u32| {
        number(&db, &format!("select {column} from trading.score_skill('bars', 1, day({day}))"))
    };
    for (column, expected) in
        [("kappa", 0.75), ("ic", 0.8), ("standard_error", 0.2), ("dates", 10.0), ("n", 30.0)]
    {
        near(skill(column, 11), expected);
    }
    near(skill("kappa", 10), 0.0);
    // A score is judged by what came after it was known: the opposite one of the last day had no part in these.
    db.run("insert into trading.scores (symbol, known_at, score) values ('A', day(10) + interval '1 hour', 1), ('C', day(10) + interval '1 hour', -1)");
    near(skill("kappa", 11), 0.75);
    db.run("insert into trading.scores (symbol, known_at, score) values ('A', day(10) + interval '2 hours', -1), ('C', day(10) + interval '2 hours', 1)");
    let expected =
        db.rows("select expected_return from trading.expected_returns('bars', 1, day(11)) order by symbol");
    for (row, score) in expected.iter().zip([-1.0, 0.0, 1.0]) {
        near(row[0].as_deref().unwrap().parse().unwrap(), score * 0.02 * 0.75);
    }
}

/// Eighty names of one date are one observation: whatever line goes through them, nothing is known of it. Ten names that move and
/// are forecast as one add nothing to the one.
#[test]
fn names_of_one_date_are_one_observation() {
    let db = installed("skill_clusters");
    three_points(&db);
    let at = |model: &str, column: &str, day: u32| {
        db.value(&format!("select {column} from trading.forecast_skill('bars', 1, day({day})) where model_version = '{model}'"))
    };
    db.run(
        "insert into bars select 'Z' || n, day(d), 50 * exp(0.01 * d * sin(n)) from generate_series(1, 80) n, generate_series(0, 1) d;
         select said('lucky@1', 'Z' || n, 0, 0.01 * sin(n) + 0.001 * cos(n * 7)) from generate_series(1, 80) n",
    );
    assert_eq!([at("lucky@1", "slope > 0.9", 4), at("lucky@1", "n || ' ' || dates", 4)], ["t", "80 1"]);
    assert_eq!([at("lucky@1", "standard_error is null", 4), at("lucky@1", "beta", 4)], ["t", "0"]);
    db.run(
        "insert into bars select 'A' || n, time, close from bars, generate_series(1, 9) n where symbol = 'A';
         select said('m@1', 'A' || n, d, x) from generate_series(1, 9) n, (values (0, 0.01), (1, 0.02), (2, 0.03)) v (d, x)",
    );
    assert_eq!(at("m@1", "n || ' ' || dates", 4), "30 3");
    near(at("m@1", "standard_error", 4).parse().unwrap(), 3f64.sqrt() / 8.0);
}

/// Forecasts of several steps share shocks with those of the next dates. Of 1, 2, 3 with a neighbour each: the squares are 14, the
/// products of neighbours 2 + 6 with the weight 2 x 1/2, and the factor 3 / 2 makes 33.
#[test]
fn dates_that_overlap_are_correlated() {
    let db = installed("skill_overlap");
    near(number(&db, "select trading.long_run_variance('{1,2,3}', 1)"), 33.0);
    near(number(&db, "select trading.long_run_variance('{1,2,3}', 0)"), 21.0);
    assert_eq!(db.value("select trading.long_run_variance('{1}', 0)"), "");
    // From the first to the third of the month there are two later cutoffs, one of them at its end.
    let (cutoffs, ends) = ("{2024-01-01,2024-01-02,2024-01-03}", "{2024-01-03,2024-01-03,2024-01-05}");
    assert_eq!(db.value(&format!("select trading.overlap('{cutoffs}', '{ends}')")), "2");
    for (estimate, error, expected) in [
        ("0.5", "0.1", 0.48),
        ("0.5", "0.5", 0.0),
        ("-1", "0.1", 0.0),
        ("3", "0.1", 1.0),
        ("0.5", "null", 0.0),
    ] {
        near(number(&db, &format!("select trading.shrunk({estimate}, {error})")), expected);
    }
    // The same numbers said of one day and of three days ahead, where each date shares days with the next two.
    closes(&db, "A", &(0..60).map(|d| 0.01 * (f64::from(d / 6)).cos()).collect::<Vec<_>>());
    db.run(
        "insert into trading.policy_knobs (knob, valid_from, value) values ('skill_least', '2020-01-01', 20);
         insert into ledger.forecasts (run_id, kind, relation, series, target, ts, step, issued_at, cutoff, forecast, model_version)
         select 1, 'live', 'bars', 'A', 'close', day(d + step), step, day(d + 1), day(d + 1), price('A', d) * exp(0.01 * cos(d / 6)), 'm' || step
         from generate_series(0, 56) d, unnest('{1,3}'::int[]) step",
    );
    // One day ahead no later date lies within the stretch, three days ahead two do.
    for (step, overlap) in [(1, 0), (3, 2)] {
        let by_hand = format!(
            "select sqrt(trading.long_run_variance(array_agg(x * missed order by cutoff), {overlap})) / sum(x * x)
             from (select cutoff, forecast_return - avg(forecast_return) over () as x,
                          realised_return - intercept - slope * forecast_return as missed
                   from trading.matured_forecasts('bars', {step}, day(60)), trading.forecast_skill('bars', {step}, day(60))) q"
        );
        let told = format!("select standard_error from trading.forecast_skill('bars', {step}, day(60))");
        near(number(&db, &told), number(&db, &by_hand));
    }
}
