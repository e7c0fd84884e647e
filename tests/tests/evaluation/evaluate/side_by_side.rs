//! Models beside each other and beside a benchmark: by the cells that all of them have, and against what is named.

use super::flat;
use kronos_tests::{Database, bars};

/// Two models on windows that overlap by a half: `a` errs by 1 on its first five days and by 2 on the others, `b` by 3 and then by 0.
const HALVES: &str = "create table b as
    select model_version, 'S' as series, timestamptz '2024-01-01 00:00+00' + day * interval '1 day' as cutoff,
           timestamptz '2024-01-01 00:00+00' + (day + step) * interval '1 day' as ts, step, 100.0::float8 as last_value, 100.0::float8 as actual,
           100.0 + case model_version when 'a@1' then case when day <= 5 then 1 else 2 end else case when day <= 10 then 3 else 0 end end as forecast
    from (values ('a@1', 1, 10, 1), ('b@1', 6, 15, 2)) m(model_version, first, last, steps),
         lateral generate_series(first, last) day, lateral generate_series(1, steps) step";

#[test]
fn models_are_scored_by_the_cells_that_all_of_them_have() {
    let db = Database::new("evaluate_common");
    db.run(HALVES);
    let scored = |call: &str| {
        flat(db.rows(&format!(
            "select model_version, step, n, mae, extra -> 'dropped' from kronos.evaluate({call}) order by 1, 2"
        )))
    };
    assert_eq!(scored("'b'"), ["a@1 - 5 2 5", "b@1 - 5 3 15"]);
    // Nobody else has the second step, so there is nobody to be compared with.
    assert_eq!(scored("'b', by => '{model_version,step}'"), ["a@1 1 5 2 5", "b@1 1 5 3 5", "b@1 2 10 1.5 -"]);
    assert_eq!(scored("'b', options => '{\"windows\": \"own\"}'"), ["a@1 - 10 1.5 -", "b@1 - 20 1.5 -"]);
    // Of all models together everything counts.
    assert_eq!(scored("'b', by => '{step}'"), ["- 1 20 1.5 -", "- 2 10 1.5 -"]);
    // What has not come is in no cell, and is no reason to leave others out.
    db.run("update b set actual = null where model_version = 'a@1' and step = 1 and cutoff < '2024-01-04'");
    assert_eq!(
        flat(db.rows("select n, extra -> 'unscored', extra -> 'dropped' from kronos.evaluate('b') where model_version = 'a@1'")),
        ["5 2 3"]
    );
    let said = db.psql("select from kronos.evaluate('b');");
    assert!(
        said.contains("NOTICE:  18 rows are of cells that not all of 2 models have, and are left out"),
        "{said}"
    );
    assert_eq!(said.matches("NOTICE").count(), 1, "{said}");
    assert!(!db.psql("select from kronos.evaluate('b', by => '{}');").contains("NOTICE"));
    // A model without a single outcome is compared with nobody.
    db.run("insert into b select 'c@1', series, cutoff, ts, step, last_value, null, forecast from b where model_version = 'a@1'");
    assert_eq!(
        flat(db.rows("select model_version, n from kronos.evaluate('b') order by 1")),
        ["a@1 5", "b@1 5", "c@1 0"]
    );
    db.error("select from kronos.evaluate('b', options => '{\"windows\": \"all\"}')")
        .is("22023", "option \"windows\" must be \"common\" or \"own\", got \"all\"");
}

#[test]
fn two_runs_of_one_model_do_not_make_a_cell_of_two_models() {
    let db = Database::new("evaluate_variants");
    db.run(HALVES);
    // Live rows of one model and backtests of the other are of the same cells.
    db.run(
        "alter table b add kind text, add calibration text default '';
         update b set kind = case model_version when 'a@1' then 'live' else 'backtest' end",
    );
    assert_eq!(
        flat(db.rows("select model_version, n, mae from kronos.evaluate('b') order by 1")),
        ["a@1 5 2", "b@1 5 3"]
    );
}

#[test]
fn losses_are_compared_with_the_benchmark_that_is_named() {
    let db = Database::new("evaluate_benchmark");
    db.run(&bars("bars", &["AAA", "BBB"], 140));
    db.run("create table b as select * from kronos.backtest('drift', 'bars', 3, num_windows => 30, window_step => 3,
        baselines => '{naive,hist_vol}', options => '{\"quantile_levels\": [0.05,0.1,0.2,0.35,0.5,0.65,0.8,0.9,0.95]}')");
    let told = |table: &str, options: &str| {
        flat(db.rows(&format!(
            "select extra ->> 'benchmark', extra ->> 'benchmark_window', round((extra ->> 'skill')::numeric, 9),
                    round((extra ->> 'skill_wql')::numeric, 9), round((extra ->> 'skill_winkler')::numeric, 9),
                    round((extra ->> 'skill_crps')::numeric, 9), round((extra -> 'dm_wql' ->> 'statistic')::numeric, 6)
             from kronos.evaluate('{table}'{options}) where model_version = 'drift'"
        )))
    };
    let by_hand = |benchmark: &str| {
        flat(db.rows(&format!(
            "with l as (select d.*, n.forecast as other, n.lower as other_lower, n.upper as other_upper, n.crps as other_crps,
                  (select avg(case when d.actual < q then (q - d.actual) * (1 - tau) else (d.actual - q) * tau end) from unnest(d.quantiles, d.quantile_levels) u(q, tau)) as own_loss,
                  (select avg(case when d.actual < q then (q - d.actual) * (1 - tau) else (d.actual - q) * tau end) from unnest(n.quantiles, n.quantile_levels) u(q, tau)) as other_loss
                from b d join b n using (series, cutoff, ts) where d.model_version = 'drift' and n.model_version = '{benchmark}')
             select round((1 - avg(abs(actual - forecast)) / avg(abs(actual - other)))::numeric, 9), round((1 - avg(own_loss) / avg(other_loss))::numeric, 9),
                    round((1 - avg(kronos.winkler(actual, lower, upper, level)) / avg(kronos.winkler(actual, other_lower, other_upper, level)))::numeric, 9),
                    round((1 - avg(crps) / avg(other_crps))::numeric, 9)
             from l"
        )))
        .remove(0)
    };
    let recorded = told("b", "").remove(0);
    assert!(
        recorded.starts_with(&format!("hist_vol - {} ", by_hand("hist_vol"))),
        "{recorded} {}",
        by_hand("hist_vol")
    );
    let naive = told("b", ", options => '{\"benchmark\": \"naive\"}'").remove(0);
    assert!(naive.starts_with(&format!("naive - {} ", by_hand("naive"))), "{naive} {}", by_hand("naive"));
    assert_ne!(recorded, naive);
    // Rows without it: computed from what was known at each cutoff, it is what the backtest recorded, to the bit of the ninth digit.
    db.run("create table few as select * from b where model_version = 'drift'");
    assert_eq!(told("few", ", 'bars'"), [recorded.replace("hist_vol -", "hist_vol 20")]);
    // And it knows nothing that came later: five returns before each cutoff, by hand.
    db.run(
        "create table later as select symbol, ts, close from bars; create view seen as select * from later",
    );
    let five = told("few", ", 'later', options => '{\"benchmark_window\": 5}'");
    assert_ne!(five, std::slice::from_ref(&recorded));
    let sigma = "select round((1 - avg(kronos.winkler(actual, lower, upper, level)) /
           avg(kronos.winkler(actual, last_value * exp(-1.6448536269514722 * sigma * sqrt(step)), last_value * exp(1.6448536269514722 * sigma * sqrt(step)), level)))::numeric, 9)
         from few f cross join lateral (
           select sqrt(avg(r * r)) as sigma from (
             select ln(close / lag(close) over (order by ts)) as r, row_number() over (order by ts desc) as age from later l
             where l.symbol = f.series and l.ts < f.cutoff) x where age <= 5) s";
    assert_eq!(five[0].split(' ').nth(4), Some(db.value(sigma).as_str()), "{five:?}");
    // Where nothing tells it the naive forecast is the benchmark, and the row says so; who asks for it hears what is missing.
    assert!(told("few", "")[0].starts_with("naive - "), "{:?}", told("few", ""));
    db.error("select from kronos.evaluate('few', options => '{\"benchmark\": \"hist_vol\"}')")
        .is(
            "22023",
            "option \"benchmark\" must be one that the rows hold, or actuals to compute \"hist_vol\" from",
        )
        .hint("actuals");
    db.error("select from kronos.evaluate('b', options => '{\"benchmark\": \"oracle\"}')")
        .is("22023", "option \"benchmark\" must be naive, hist_vol or one of drift, hist_vol, naive");
}
