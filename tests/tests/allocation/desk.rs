//! Bars, a ledger and a book that the tests of the chain share.

use kronos_tests::Database;

/// Daily bars of no symbol yet, and `said`, which records what a model said of a symbol on the evening of day `d` for the
/// day after: a logarithmic return, with an interval at 0.9 of a given volatility.
pub fn installed(test: &str) -> Database {
    installed_with(test, "timestamptz")
}

/// The same with another type of the column of times.
pub fn installed_with(test: &str, time: &str) -> Database {
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
pub fn closes(db: &Database, symbol: &str, returns: &[f64]) {
    let mut log = 100f64.ln();
    for day in 0..=returns.len() {
        if day > 0 {
            log += returns[day - 1];
        }
        db.run(&format!("insert into bars values ('{symbol}', day({day}), exp({log}))"));
    }
}

pub fn number(db: &Database, sql: &str) -> f64 {
    db.value(sql).parse().unwrap_or_else(|error| panic!("{sql}: {error}"))
}

#[track_caller]
pub fn near(got: f64, expected: f64) {
    assert!((got - expected).abs() < 1e-9, "{got}, expected {expected}");
}

/// Returns said of .01, .02, .03 and come of .01, .01, .025: about their means -.01, 0, .01 and -.005, -.005, .01, so the
/// slope is (.00005 + 0 + .0001) / (.0001 + 0 + .0001) = 0.75, and the line goes through the origin. It misses by .0025,
/// -.005, .0025: the scores -.01 x .0025, 0, .01 x .0025 have the variance 2 x .000025^2 x 3 / 2, so the slope has the
/// standard error sqrt(3) x .000025 / .0002 = sqrt(3) / 8, and what remains of it is 0.75 x (1 - 3 / 64 / 0.75^2) = 0.6875.
pub fn three_points(db: &Database) {
    closes(db, "A", &[0.01, 0.01, 0.025]);
    db.run("select said('m@1', 'A', 0, 0.01); select said('m@1', 'A', 1, 0.02); select said('m@1', 'A', 2, 0.03)");
    db.run(
        "insert into trading.policy_knobs (knob, valid_from, value) values ('skill_least', '2020-01-01', 3)",
    );
}

/// Eleven names in two sectors and one without terms, a model of known skill, an account that holds three of them and one
/// that nobody forecasts.
pub fn book(db: &Database) {
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

pub const CHAIN: &str = "chain => jsonb_build_object('as_of', day(41))";
