//! From the ledger to share deltas: skill, expected returns, signals and `trading.rebalance`, on cases worked by hand.

use kronos_tests::{Database, rows};

/// Daily bars of no symbol yet, and `said`, which records what a model said of a symbol on the evening of day `d` for the
/// day after: a logarithmic return, with an interval at 0.9 of a given volatility.
fn installed(test: &str) -> Database {
    installed_with(test, "timestamptz")
}

/// The same with another type of the column of times.
fn installed_with(test: &str, time: &str) -> Database {
    let db = Database::installed(test);
    db.run(&format!(
        "create table bars (symbol text, time {time}, close float8, primary key (symbol, time))"
    ));
    db.run(
        "
         insert into ledger.runs (relation, call, state) values ('bars', 'kronos_predict', 'done');
         create function day(d int) returns timestamptz language sql immutable
           as $$ select '2024-01-01 00:00+00'::timestamptz + d * interval '1 day' $$;
         create function price(s text, d int) returns float8 language sql stable
           as $$ select close from bars where symbol = s and time = day(d) $$;
         create function said(model text, s text, d int, x float8, sigma float8 default 0.02, kind text default 'live', calibration text default '',
                              issued timestamptz default null)
         returns void language sql as $$
           insert into ledger.forecasts (run_id, kind, relation, series, target, ts, step, issued_at, cutoff, forecast, lower, upper, level,
             model_version, calibration)
           select 1, kind, 'bars', s, 'close', day(d + 1), 1, coalesce(issued, case when kind = 'backtest' then now() else day(d + 1) end), day(d + 1),
                  price(s, d) * exp(x), price(s, d) * exp(x - 1.6448536269514722 * sigma), price(s, d) * exp(x + 1.6448536269514722 * sigma),
                  0.9, model, calibration $$",
    );
    db
}

/// Closes of `symbol` from day 0, from their logarithmic returns.
fn closes(db: &Database, symbol: &str, returns: &[f64]) {
    let mut log = 100f64.ln();
    for day in 0..=returns.len() {
        if day > 0 {
            log += returns[day - 1];
        }
        db.run(&format!("insert into bars values ('{symbol}', day({day}), exp({log}))"));
    }
}

fn number(db: &Database, sql: &str) -> f64 {
    db.value(sql).parse().unwrap_or_else(|error| panic!("{sql}: {error}"))
}

#[track_caller]
fn near(got: f64, expected: f64) {
    assert!((got - expected).abs() < 1e-9, "{got}, expected {expected}");
}

/// Returns said of .01, .02, .03 and come of .01, .01, .025: about their means -.01, 0, .01 and -.005, -.005, .01, so the
/// slope is (.00005 + 0 + .0001) / (.0001 + 0 + .0001) = 0.75, and the line goes through the origin. It misses by .0025,
/// -.005, .0025: the scores -.01 x .0025, 0, .01 x .0025 have the variance 2 x .000025^2 x 3 / 2, so the slope has the
/// standard error sqrt(3) x .000025 / .0002 = sqrt(3) / 8, and what remains of it is 0.75 x (1 - 3 / 64 / 0.75^2) = 0.6875.
fn three_points(db: &Database) {
    closes(db, "A", &[0.01, 0.01, 0.025]);
    db.run("select said('m@1', 'A', 0, 0.01); select said('m@1', 'A', 1, 0.02); select said('m@1', 'A', 2, 0.03)");
    db.run(
        "insert into trading.policy_knobs (knob, valid_from, value) values ('skill_least', '2020-01-01', 3)",
    );
}

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

/// A forecast of a column of dates is labelled by midnight in its calendar's zone, and known at the close of the session.
#[test]
fn dates_are_those_of_the_calendars_zone() {
    let slopes = [("UTC", "00:00"), ("America/New_York", "16:00"), ("Asia/Tokyo", "15:30"), ("Australia/Sydney", "16:00")]
        .map(|(zone, close)| {
            let db = installed_with(&format!("dates_of_{}", zone.to_lowercase().replace('/', "_")), "date");
            three_points(&db);
            if zone != "UTC" {
                db.run(&format!(
                    "set session_replication_role = replica;
                     create table local as select * from ledger.forecasts;
                     delete from ledger.forecasts;
                     update local set ts = timezone('{zone}', timezone('UTC', ts)),
                       cutoff = timezone('{zone}', timezone('UTC', cutoff) - interval '1 day' + time '{close}');
                     insert into ledger.forecasts select * from local"
                ));
            }
            db.value("select n || ' ' || round(slope::numeric, 6) from trading.forecast_skill('bars', 1, day(5))")
        });
    assert_eq!(slopes, ["3 0.750000"; 4]);
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
fn only_the_newest_pages_of_a_long_ledger_are_read() {
    let db = installed("signals_plan");
    closes(&db, "A", &[0.01; 3]);
    db.run(
        "insert into ledger.forecasts (run_id, kind, relation, series, target, ts, step, issued_at, cutoff, forecast, lower, upper, level,
           model_version)
         select 1, 'live', 'bars', 'S' || s, 'close', day(d), 1, day(d), day(d), 100, 99, 101, 0.9, 'old@1'
         from generate_series(-2000, -20) d, generate_series(1, 40) s order by d;
         select said('m@1', 'A', 2, 0.01)",
    );
    db.run("vacuum analyze ledger.forecasts");
    let output = db
        .program("psql")
        .args(["-X", "-q", "-c", "load 'auto_explain'", "-c"])
        .arg(
            "set auto_explain.log_nested_statements = on; set auto_explain.log_min_duration = 0; set auto_explain.log_analyze = on;
             set auto_explain.log_timing = off; set auto_explain.log_level = 'notice'",
        )
        .args(["-c", "select * from trading.expected_returns('bars', 1, day(3))"])
        .output()
        .unwrap();
    let plans = String::from_utf8_lossy(&output.stderr);
    let plan = plans
        .split("Query Text:")
        .find(|plan| plan.contains("with latest as"))
        .unwrap_or_else(|| panic!("{plans}"));
    // The newest ranges of ts lead to the rows, not the whole table: pages by the index, or chunks of a hypertable.
    let of_forecasts = plan.split("latest").last().unwrap_or_default();
    let excluded = of_forecasts.split("Chunks excluded during startup: ").nth(1);
    let excluded = excluded.and_then(|rest| rest.split_whitespace().next()?.parse::<u32>().ok());
    let few = of_forecasts.contains("forecasts_brin") || excluded.is_some_and(|chunks| chunks > 50);
    assert!(few && of_forecasts.contains("(ts > "), "{plan}");
}

#[test]
fn widths_of_months_and_clock_changes_lose_no_forecast() {
    let db = installed("signals_widths");
    closes(&db, "A", &[0.01; 95]);
    db.run("select said('m@1', 'A', d, 0.01) from generate_series(0, 94) d");
    // Every day from January to March, through the change of clocks, for widths whose ends depend on where they start.
    let differing = "select count(*) from generate_series(10, 95) d, unnest('{1 month,1 day,23:00,1 month 2 days,3 months}'::interval[]) w
        where (select count(*) from ledger.forecasts f where f.ts + w > day(d)) <>
              (select count(*) from ledger.forecasts f where f.ts + w > day(d) and f.ts > day(d) - w - interval '4 days')";
    let mut client = db.connect();
    client.batch_execute("set timezone = 'America/New_York'").unwrap();
    assert_eq!(rows(&mut client, differing)[0][0].as_deref(), Some("0"));
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

#[test]
fn volatility_is_that_of_the_interval_and_has_a_floor() {
    let db = installed("volatility");
    for (p, z) in [
        (0.5, 0.0),
        (0.95, 1.644_853_626_951_472_2),
        (0.975, 1.959_963_984_540_054),
        (0.9999, 3.719_016_485_455_709),
    ] {
        near(number(&db, &format!("select trading.normal_quantile({p})")), z);
        near(number(&db, &format!("select trading.normal_quantile({})", 1.0 - p)), -z);
    }
    db.error("select trading.normal_quantile(1)").is("22023", "probability must be between 0 and 1, got 1");
    near(
        number(&db, "select trading.band_volatility(exp(-0.0329), exp(0.0329), 0.9)"),
        0.0329 / 1.644_853_626_951_472_2,
    );
    for bounds in ["0, 1, 0.9", "2, 1, 0.9", "1, null, 0.9", "1, 'nan', 0.9", "1, 2, null"] {
        assert_eq!(db.value(&format!("select trading.band_volatility({bounds})")), "", "{bounds}");
    }
    closes(&db, "A", &[0.01]);
    db.run("select said('m@1', 'A', 1, 0.01, 0.0001)");
    let volatility = |arguments: &str| {
        number(&db, &format!("select volatility from trading.expected_returns('bars', 1, day(2){arguments})"))
    };
    near(volatility(""), 0.25 / 252f64.sqrt());
    near(volatility(", bars_per_year => 365"), 0.25 / 365f64.sqrt());
}

/// Eleven names in two sectors and one without terms, a model of known skill, an account that holds three of them and one
/// that nobody forecasts.
fn book(db: &Database) {
    db.run(
        "insert into bars select 'N' || n, day(d), 50 * exp(0.02 * sin(n + 0.8 * d)) from generate_series(10, 21) n, generate_series(0, 40) d;
         insert into bars select 'X', day(d), 20 from generate_series(0, 40) d;
         -- Half of what came: a slope of 2, trusted as it is said.
         select said('m@1', 'N' || n, d, 0.5 * ln(price('N' || n, d + 1) / price('N' || n, d)))
         from generate_series(10, 21) n, generate_series(0, 39) d;
         select said('m@1', 'N' || n, 40, 0.01 * sin(n * 2.0)) from generate_series(10, 21) n;
         insert into trading.terms (symbol, known_at, sector, shortable, cost_bps, borrow_bps_year, adv_usd)
         select 'N' || n, day(0), case when n % 2 = 0 then 'tech' else 'util' end, n % 3 <> 0, 2, 25.2, 1e8 from generate_series(10, 20) n;
         insert into trading.accounts (account, equity_usd) values ('paper', 100000);
         insert into trading.positions (account, symbol, quantity, price_usd)
         values ('paper', 'N10', 60, 50), ('paper', 'N12', -40, 50), ('paper', 'N13', 20, 50), ('paper', 'X', 100, 20);",
    );
}

const CHAIN: &str = "chain => jsonb_build_object('as_of', day(41))";

#[test]
fn the_whole_chain_from_the_ledger_to_share_deltas() {
    let db = installed("whole_chain");
    book(&db);
    let run = db.value(&format!("call trading.rebalance('bars', 1, account => 'paper', {CHAIN})"));
    assert_eq!(run, "1");
    assert_eq!(
        db.rows("select status, issued_by = current_user, equity_usd, arguments #>> '{group_limits,group_sector,*}' from trading.allocation_runs"),
        [["optimal", "t", "100000", r#"{"net": [-0.15, 0.15], "gross": 0.3}"#].map(|value| Some(value.to_owned())).to_vec()]
    );
    // Every name forecast or held; what nobody forecasts may only shrink; what has no borrow is not shorted.
    assert_eq!(db.value("select count(*) from trading.allocation_weights"), "13");
    assert_eq!(db.value("select weight between 0 and prev_weight + 1e-9 and status like '%reduce_only%' from trading.allocation_weights where symbol = 'X'"), "t");
    assert_eq!(
        db.value("select string_agg(symbol, ' ' order by symbol) from trading.allocation_weights w left join trading.terms t using (symbol)
                  where not coalesce(t.shortable, false) and w.expected_return < -0.009"),
        "N12 N15 N18 N21",
        "three without borrow and one without terms would be shorted"
    );
    assert_eq!(
        db.value(
            "select count(*) from trading.allocation_weights w left join trading.terms t using (symbol)
                  where not coalesce(t.shortable, false) and w.weight < least(0, w.prev_weight) - 1e-9"
        ),
        "0"
    );
    for (rule, query) in [
        ("sector net", "select max(abs(net)) <= 0.15 + 1e-6 from (select sum(weight) as net from trading.allocation_weights join trading.terms using (symbol) group by sector) s"),
        ("gross", "select sum(abs(weight)) <= 1.5 + 1e-6 from trading.allocation_weights"),
        ("turnover", "select sum(abs(trade)) / 2 <= 0.15 + 1e-6 from trading.allocation_weights"),
        ("net", "select sum(weight) between -0.1 - 1e-6 and 0.3 + 1e-6 from trading.allocation_weights"),
        ("caps", "select bool_and(weight between least(-0.03, prev_weight) - 1e-6 and greatest(0.05, prev_weight) + 1e-6) from trading.allocation_weights"),
        ("something is traded", "select count(*) > 3 from trading.order_proposals where run_id = 1"),
        ("share deltas are the trades", "select bool_and(abs(shares - trade * 100000 / price_usd) < 1e-6) from trading.allocation_weights
            join (select symbol, sum(quantity) as shares from trading.order_proposals where run_id = 1 group by 1) o using (symbol)"),
        ("what is held and what is proposed add up to the weight, at today's price", "select bool_and(abs((coalesce(h.quantity, 0) + coalesce(o.shares, 0)) * w.price_usd / 100000 - w.weight) < 1e-9)
            from trading.allocation_weights w left join trading.positions h using (symbol)
            left join (select symbol, sum(quantity) as shares from trading.order_proposals where run_id = 1 group by 1) o using (symbol)"),
        ("expected returns are those of the chain", "select bool_and(w.expected_return = s.expected_return) from trading.allocation_weights w
            join trading.signals('bars', 1, account => 'paper', as_of => day(41)) s using (symbol)"),
        ("the model is trusted as far as it says", "select bool_and(abs(expected_return - 0.01 * sin(substr(symbol, 2)::int * 2.0)) < 1e-9)
            from trading.allocation_weights where symbol <> 'X'"),
    ] {
        assert_eq!(db.value(query), "t", "{rule}");
    }
    // What is recorded can be run again, on the same inputs.
    db.run("select trading.run_allocation(signals, risk, account, arguments, regime) from trading.allocation_runs where run_id = 1");
    assert_eq!(
        db.value("select count(distinct inputs_sha256) || ' ' || count(distinct (figures->>'objective')) from trading.allocation_runs"),
        "1 1"
    );
}

#[test]
fn only_what_can_be_borrowed_is_sold_short() {
    let db = installed("chain_borrow");
    book(&db);
    // Three names that are alike but for their terms: with borrow, without it, and without terms.
    db.run(
        "insert into bars select s, day(d), 50 from unnest('{LENT,KEPT,BARE}'::text[]) s, generate_series(0, 40) d;
         select said('m@1', s, 40, -0.02) from unnest('{LENT,KEPT,BARE}'::text[]) s;
         insert into trading.terms (symbol, known_at, shortable, cost_bps, borrow_bps_year, adv_usd)
         values ('LENT', day(0), true, 2, 25.2, 1e8), ('KEPT', day(0), false, 2, 25.2, 1e8)",
    );
    let signals = "trading.signals('bars', 1, account => 'paper', as_of => day(41)) where symbol in ('LENT', 'KEPT', 'BARE')";
    assert_eq!(
        db.value(&format!(
            "select string_agg(symbol || ' ' || shortable, ', ' order by symbol) from {signals}"
        )),
        "BARE false, KEPT false, LENT true"
    );
    // A day of 252 costs a tenth of a basis point to borrow; 1e8 dollars are a thousand times the equity.
    assert_eq!(
        db.value("select concat_ws(' ', round(borrow_bps::numeric, 12)::float8, adv_weight, cost_bps)
                  from trading.signals('bars', 1, account => 'paper', as_of => day(41)) where symbol = 'LENT'"),
        "0.1 1000 2"
    );
    db.run(&format!("call trading.rebalance('bars', 1, account => 'paper', {CHAIN})"));
    let weight = |symbol: &str| {
        number(&db, &format!("select weight from trading.allocation_weights where symbol = '{symbol}'"))
    };
    assert!(weight("LENT") < -0.01, "{}", weight("LENT"));
    assert!(weight("KEPT") >= -1e-9 && weight("BARE") >= -1e-9, "{} {}", weight("KEPT"), weight("BARE"));
}

#[test]
fn returns_halts_regimes_and_mistakes() {
    let db = installed("chain_halts");
    book(&db);
    let rebalance =
        |more: &str| format!("call trading.rebalance('bars', 1, account => 'paper', {CHAIN}{more})");
    // A history of returns takes the place of uncorrelated volatilities.
    let risk = "risk => 'select symbol, time as ts, ln(close / lag(close) over (partition by symbol order by time)) as ret from bars where symbol <> ''X'''";
    db.run(&rebalance(&format!(", {risk}")));
    assert!(
        db.value("select status from trading.allocation_weights where symbol = 'X'")
            .contains("short_history")
    );
    // Regimes have their own knobs.
    db.run("insert into trading.policy_knobs (knob, regime, value) values ('gross', 'risk_off', 0.1)");
    db.run("insert into trading.policy_knobs (knob, regime, value) values ('max_turnover', 'risk_off', 1)");
    db.run(&rebalance(", regime => 'risk_off'"));
    assert_eq!(
        db.value("select sum(abs(weight)) <= 0.1 + 1e-6 from trading.allocation_weights where run_id = 2"),
        "t"
    );
    // A sector's breaker closes its entries, the global one the desk.
    db.run("insert into trading.circuit_breakers (scope, key, mode, reason, expires_at) values ('sector', 'util', 'reduce_only', 'news', now() + interval '1 day')");
    db.run(&rebalance(""));
    assert_eq!(
        db.value("select count(*) from trading.allocation_weights join trading.terms using (symbol) where run_id = 3 and sector = 'util' and abs(weight) > abs(prev_weight) + 1e-9"),
        "0"
    );
    db.run("insert into trading.circuit_breakers (scope, key, mode, reason, expires_at) values ('global', '*', 'flatten', 'drawdown', now() + interval '1 day')");
    db.error(&rebalance(""))
        .is("55000", "trading is halted by circuit breaker 2")
        .detail("flatten because of drawdown")
        .hint("clear_breaker(2");
    db.run("select trading.clear_breaker(2, 'over')");
    db.error(&rebalance(", account => 'nobody'").replacen("account => 'paper', ", "", 1))
        .is("42704", "account \"nobody\" does not exist");
    db.error("call trading.rebalance('bars', 1, chain => '{\"step\":2}')")
        .is("22023", "unrecognized key \"step\" of chain")
        .hint("bar_width");
    db.error("call trading.rebalance('bars', 1, chain => '{\"as_of\":\"2020-01-01\"}')")
        .is("22023", "at least one name");
    for table in ["terms", "scores"] {
        db.error(&format!("delete from trading.{table}")).is("55000", "append-only");
    }
}

/// What is recorded can be run again later, so a chain that names no instant is of the one at which it runs.
#[test]
fn a_run_records_the_instant_that_it_is_of() {
    let db = installed("chain_instant");
    book(&db);
    db.run(
        "begin; call trading.rebalance('bars', 1, account => 'paper');
         create table recorded as
         select position('as_of => ' || quote_literal(to_jsonb(now()) #>> '{}') in signals) > 0 as instant from trading.allocation_runs;
         commit",
    );
    assert_eq!(db.value("select instant from recorded"), "t");
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
    for (estimate, error, expected) in [
        ("0.5", "0.1", 0.48),
        ("0.5", "0.5", 0.0),
        ("-1", "0.1", 0.0),
        ("3", "0.1", 1.0),
        ("0.5", "null", 0.0),
    ] {
        near(number(&db, &format!("select trading.shrunk({estimate}, {error})")), expected);
    }
    // The same numbers said of three days ahead: each date overlaps the next two, which makes an error larger than of one day ahead.
    closes(&db, "A", &(0..60).map(|d| 0.01 * (f64::from(d / 6)).cos()).collect::<Vec<_>>());
    db.run(
        "insert into trading.policy_knobs (knob, valid_from, value) values ('skill_least', '2020-01-01', 20);
         insert into ledger.forecasts (run_id, kind, relation, series, target, ts, step, issued_at, cutoff, forecast, model_version)
         select 1, 'live', 'bars', 'A', 'close', day(d + step), step, day(d + 1), day(d + 1), price('A', d) * exp(0.01 * cos(d / 6)), 'm' || step
         from generate_series(0, 56) d, unnest('{1,3}'::int[]) step",
    );
    let error = |step: u32| {
        number(&db, &format!("select standard_error * sqrt(n) / stddev_samp(missed) from (
            select k.standard_error, k.n, m.forecast_return, m.realised_return - k.intercept - k.slope * m.forecast_return as missed
            from trading.forecast_skill('bars', {step}, day(60)) k, trading.matured_forecasts('bars', {step}, day(60)) m) q
            group by standard_error, n"))
    };
    assert!(error(3) > 1.2 * error(1), "{} {}", error(3), error(1));
}

/// A forecast of five days says less and less of what is to come: 105 from 100 is 5 % on its first day, and nothing once it is reached.
#[test]
fn what_is_left_of_a_forecast_is_measured_from_todays_price() {
    let db = installed("what_is_left");
    closes(&db, "A", &[0.01; 40]);
    db.run(
        "update bars set close = exp(4.6 + 0.003 * extract(day from time) * sin(extract(day from time))) where symbol = 'A';
         insert into ledger.forecasts (run_id, kind, relation, series, target, ts, step, issued_at, cutoff, forecast, lower, upper, level, model_version)
         select 1, 'live', 'bars', 'A', 'close', day(d + 5), 5, day(d + 1), day(d + 1), price('A', d + 5), 1, 1000, 0.9, 'm@1'
         from generate_series(0, 31) d",
    );
    for day in 32..=36 {
        near(
            number(
                &db,
                &format!("select forecast_return from trading.expected_returns('bars', 5, day({day}))"),
            ),
            number(&db, &format!("select ln(price('A', 36) / price('A', {}))", day - 1)),
        );
    }
    assert_eq!(db.value("select count(*) from trading.expected_returns('bars', 5, day(37))"), "0");
}

/// A book of a past date is made of what backtests say of it, by whoever may trade, and what comes later changes nothing.
#[test]
fn a_book_is_replayed_over_past_dates_from_backtests() {
    let db = installed("replayed");
    book(&db);
    let replay = |kinds: &str, day: u32| {
        db.value(&format!(
            "select coalesce(string_agg(symbol || ' ' || expected_return, ', ' order by symbol), '')
             from trading.expected_returns('bars', 1, day({day}), kinds => '{kinds}')"
        ))
    };
    let live = replay("{live}", 35);
    db.run(
        "insert into ledger.forecasts (run_id, kind, relation, series, target, ts, step, issued_at, cutoff, forecast, lower, upper, level, model_version)
         select run_id, 'backtest', relation, series, target, ts, step, now(), cutoff, forecast, lower, upper, level, model_version from ledger.forecasts;
         delete from bars where time > day(34)",
    );
    assert_eq!(replay("{backtest}", 35), live, "the same forecasts are the same book");
    assert!(live.starts_with("N10 0.0"), "{live}");
    let trader = db.role("trader");
    db.run(&format!("grant market_operator to {trader}; select kronos.grant_access('{trader}', 'use'); grant select on bars to {trader}"));
    let mut session = db.connect_as(&trader);
    let seen = rows(
        &mut session,
        "select count(*) from trading.expected_returns('bars', 1, day(35), kinds => '{backtest}')",
    );
    assert_eq!(seen, [[Some("12".to_owned())]]);
}

/// A daily history under forecasts of five days: the stated risk is that of five days, by scenarios as well.
#[test]
fn risk_is_of_the_horizon_of_the_forecasts() {
    let db = installed("horizon");
    book(&db);
    db.run("update ledger.forecasts set step = 5, ts = ts + interval '4 days'; delete from ledger.forecasts where cutoff < day(41)");
    let risk = "risk => 'select symbol, time as ts, close / lag(close) over (partition by symbol order by time) - 1 as ret from bars'";
    let figure = |more: &str| {
        let run = db.value(&format!(
            "call trading.rebalance('bars', 5, account => 'paper', {risk}, {CHAIN}, arguments => '{{\"net\": \"[0,0]\", \"gross\": 1{more}}}')"
        ));
        number(
            &db,
            &format!(
                "select (figures ->> 'volatility')::float8 / (figures ->> 'gross')::float8 from trading.allocation_runs where run_id = {run}"
            ),
        )
    };
    let (daily, weekly) = (
        figure(", \"options\": {\"horizon\": 1}, \"method\": \"min_variance\""),
        figure(", \"method\": \"min_variance\""),
    );
    assert!((weekly / daily - 5f64.sqrt()).abs() < 1e-3, "{weekly} {daily}");
    assert_eq!(
        db.value("select arguments #>> '{options,horizon}' from trading.allocation_runs order by run_id desc limit 1"),
        "5"
    );
    db.error("select * from propose_weights('select ''N10'' as symbol, 0.01 as expected_return', 'select symbol, time as ts, 0.01 as ret from bars', method => 'cvar', options => '{\"horizon\": 2.5}')")
        .is("22023", "option \"horizon\" must be a whole number of dates");
}

/// 130/30: the net of one leaves no buying power, so the reserve of the knobs gives way, and says so; an option does not.
#[test]
fn a_knob_gives_way_to_what_the_caller_says() {
    let db = installed("knob_gives_way");
    book(&db);
    let call = |options: &str| {
        format!("call trading.rebalance('bars', 1, account => 'paper', {CHAIN}, arguments => '{{\"net\": \"[1,1]\", \"gross\": 1.6, \"max_turnover\": 3,
            \"weight_bounds\": \"[-0.3,0.3]\", \"group_limits\": {{}}{options}}}')")
    };
    let (mut client, notices) = db.connect_with_notices();
    client.batch_execute(&call("")).unwrap();
    let said = notices.lock().unwrap().join("\n");
    assert!(
        said.contains("NOTICE: the knob cash_reserve, 0.05, is left out: net [1,1] leaves no room for it"),
        "{said}"
    );
    assert_eq!(
        db.value("select status || ' ' || round(sum(weight)::numeric, 4) || ' ' || (min(weight) < -0.01) from trading.allocation_runs join trading.allocation_weights using (run_id)
                  group by run_id, allocation_runs.status"),
        "optimal 1.0000 true"
    );
    client.batch_execute(&call(", \"options\": {\"cash_reserve\": 0.05}")).unwrap();
    let said = notices.lock().unwrap().join("\n");
    assert!(said.contains("WARNING: allocation run 2 broke limits that contradict each other"), "{said}");
}

#[test]
fn an_operator_can_run_it() {
    let db = installed("chain_operator");
    book(&db);
    let role = db.role("operator");
    db.run(&format!("grant market_operator to {role}; select kronos.grant_access('{role}', 'use'); grant select on bars to {role}"));
    let mut operator = db.connect_as(&role);
    assert_eq!(
        rows(&mut operator, &format!("call trading.rebalance('bars', 1, account => 'paper', {CHAIN})")),
        [[Some("1".to_owned())]]
    );
    // Without the bars there are no forecasts to see.
    db.run(&format!("revoke select on bars from {role}"));
    db.error_in(&mut operator, "select * from trading.expected_returns('bars', 1)")
        .is("42501", "permission denied for table bars");
}
