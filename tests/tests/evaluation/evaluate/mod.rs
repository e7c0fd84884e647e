//! `kronos.evaluate` and `kronos.record_backtest`: scores against their definitions in SQL, on backtests and on the ledger.

mod by_hand;
mod side_by_side;

use kronos_tests::{Database, FixtureModels, Row, bars, rows};

const BACKTEST: &str = "create table b as select * from kronos.backtest('kronos-fixture', 'bars', 3, num_windows => 30, window_step => 2,
    baselines => '{naive,drift}', options => '{\"samples\": 16, \"quantile_levels\": [0.05,0.1,0.2,0.35,0.5,0.65,0.8,0.9,0.95]}')";

fn flat(rows: Vec<Row>) -> Vec<String> {
    let text = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    rows.into_iter().map(|row| row.into_iter().map(text).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn scores_are_those_of_their_definitions() {
    let db = Database::new("evaluate_definitions");
    db.run(&bars("bars", &["AAA", "BBB", "CCC", "DDD"], 140));
    db.run(BACKTEST);
    // Each score beside the same from SQL: the largest difference, relative to the score.
    let differences = db.rows(
        "with e as (select * from kronos.evaluate('b', by => '{model_version,step}')),
              q as (select model_version, step, ts, cutoff, series, actual, tau, value,
                      case when actual < value then (value - actual) * (1 - tau) else (actual - value) * tau end as loss
                    from b cross join lateral unnest(quantiles, quantile_levels) as u(value, tau)),
              w as (select model_version, step, sum(loss) / 9 as loss from q group by 1, 2),
              d as (select model_version, step, count(*) as n, avg(abs(actual - forecast)) as mae, sqrt(avg((actual - forecast) ^ 2)) as rmse,
                      avg(abs(actual - forecast) / scale) as mase, sum(abs(actual)) as total, avg(crps) as crps,
                      avg((actual between lower and upper)::int) as coverage, avg(upper - lower) as width,
                      avg(upper - lower + 20 * greatest(lower - actual, actual - upper, 0)) as winkler,
                      avg((sign(forecast - last_value) = sign(actual - last_value))::int) filter (where forecast <> last_value and actual <> last_value) as direction,
                      1 - avg(abs(actual - forecast)) / avg(abs(actual - last_value)) as skill
                    from b where status is null group by 1, 2),
              r as (select model_version, step, avg(c) as ic from (
                      select model_version, step, cutoff, corr(f, a) as c from (
                        select model_version, step, cutoff,
                          rank() over (partition by model_version, step, cutoff order by forecast - last_value) as f,
                          rank() over (partition by model_version, step, cutoff order by actual - last_value) as a
                        from b) x group by 1, 2, 3) y group by 1, 2)
         select count(*), bool_and(e.n = d.n and e.n = 120), max(abs(e.mae - d.mae)) < 1e-9, max(abs(e.rmse - d.rmse)) < 1e-9,
                max(abs(e.mase - d.mase)) < 1e-9, max(abs(e.wql - 2 * w.loss / d.total)) < 1e-9, max(abs(e.crps - d.crps)) < 1e-9,
                max(abs(e.coverage - d.coverage)) < 1e-9, max(abs(e.mean_width - d.width)) < 1e-9, max(abs(e.winkler - d.winkler)) < 1e-9,
                bool_and(e.dir_acc is not distinct from d.direction or abs(e.dir_acc - d.direction) < 1e-9), max(abs(e.skill_vs_naive - d.skill)) < 1e-9,
                max(abs(e.rank_ic - r.ic)) filter (where e.model_version <> 'naive') < 1e-9
         from e join d using (model_version, step) join w using (model_version, step) join r using (model_version, step)",
    );
    assert_eq!(flat(differences), ["9 t t t t t t t t t t t t"]);
    // The naive forecast against itself.
    assert_eq!(
        flat(db.rows("select skill_vs_naive, dir_acc, rank_ic, extra ? 'dm' from kronos.evaluate('b') where model_version = 'naive'")),
        ["0 - - f"]
    );
}

#[test]
fn diebold_mariano_takes_the_mean_over_series_of_each_cutoff_and_knows_overlap() {
    let db = Database::new("evaluate_dm");
    db.run(&bars("bars", &["AAA", "BBB", "CCC"], 140));
    db.run(BACKTEST);
    db.run(
        "create function loss(actual float8, quantiles float8[], levels float8[]) returns float8 language sql immutable as
           'select avg(case when actual < q then (q - actual) * (1 - tau) else (actual - q) * tau end) from unnest(quantiles, levels) u(q, tau)'",
    );
    // Cutoffs two bars apart, forecasts of three: the third step is shared with the next cutoff.
    let test = |name: &str, difference: &str| {
        flat(db.rows(&format!(
            "with d as (select b.cutoff, avg({difference}) as d from b join b n using (series, cutoff, ts)
                  where b.model_version = 'drift' and n.model_version = 'naive' group by 1),
                c as (select cutoff, d - avg(d) over () as c, count(*) over () as n, avg(d) over () as mean from d),
                l as (select *, lag(c) over (order by cutoff) as before from c),
                v as (select max(n) as n, max(mean) as mean, sum(c * c) / max(n) + 2 * 0.5 * sum(c * before) / max(n) as lrv from l)
             select abs((told ->> 'statistic')::float8 - sqrt((v.n + 1 - 4 + 2.0 / v.n) / v.n) * v.mean / sqrt(v.lrv / v.n)) < 1e-9, told ->> 'horizon',
                   (told ->> 'n')::int = v.n, e.extra -> 'overlap'
             from v, kronos.evaluate('b', by => '{{model_version}}') e, lateral (select extra -> '{name}' as told) t where e.model_version = 'drift'"
        )))
    };
    assert_eq!(test("dm", "abs(b.actual - b.forecast) - abs(b.actual - b.last_value)"), ["t 2 t 2"]);
    let pinball =
        "loss(b.actual, b.quantiles, b.quantile_levels) - loss(n.actual, n.quantiles, n.quantile_levels)";
    assert_eq!(test("dm_wql", pinball), ["t 2 t 2"]);
    assert_eq!(
        db.value("select max((extra ->> 'overlap')::int) from kronos.evaluate('b', by => '{model_version,step}') where step < 3"),
        "1"
    );
}

#[test]
fn groups_units_and_filters() {
    let db = Database::new("evaluate_groups");
    let _models = FixtureModels::register_as(&db, &[("tiny-b", "schooled")], Some("2024-01-05"));
    db.run(&bars("bars", &["AAA", "BBB", "CCC", "DDD"], 140));
    db.run("create table b as select * from kronos.backtest('schooled', 'bars', 2, '{close,volume}', num_windows => 20, options => '{\"quantile_levels\": [0.1,0.5,0.9]}')");
    let call = |sql: &str| flat(db.rows(sql));
    assert_eq!(
        call(
            "select series, target, step, n, model_version from kronos.evaluate('b', by => '{series,target,step}') where target = 'close' and step = 2"
        ),
        ["AAA close 2 60 -", "BBB close 2 60 -", "CCC close 2 60 -", "DDD close 2 60 -"]
    );
    assert_eq!(
        call(
            "select n, extra -> 'series', extra -> 'cutoffs', extra -> 'wql_levels', crps is not null from kronos.evaluate('b', by => '{}', options => '{\"target\": \"close\"}')"
        ),
        ["480 4 20 3 t"]
    );
    assert_eq!(
        call("select count(*), min(extra ->> 'window_id') from kronos.evaluate('b', by => '{window_id}')"),
        ["20 1"]
    );
    // What the model may have been trained on can be left out, and is counted where it is not.
    let contaminated = db.value("select count(*) from b where contaminated");
    assert!(contaminated.parse::<u32>().unwrap() > 0);
    assert_eq!(
        db.value(
            "select extra ->> 'contaminated' from kronos.evaluate('b') where model_version like 'schooled@%'"
        ),
        contaminated
    );
    assert_eq!(
        db.value("select n = (select count(*) from b where not contaminated and model_version like 'schooled@%')
            and not extra ? 'contaminated' from kronos.evaluate('b', options => '{\"contaminated\": false}') where model_version like 'schooled@%'"),
        "t"
    );
    // In returns no series weighs more than another.
    let scaled = "create table big as select * from b;
        update big set actual = actual * 1000, forecast = forecast * 1000, lower = lower * 1000, upper = upper * 1000, last_value = last_value * 1000,
            quantiles = (select array_agg(q * 1000 order by q) from unnest(quantiles) q) where series = 'AAA'";
    db.run(scaled);
    let returns = |table: &str| {
        call(&format!(
            "select model_version, round(mae::numeric, 9), round(winkler::numeric, 9), round(wql::numeric, 9), round(skill_vs_naive::numeric, 9), extra ->> 'unit'
             from kronos.evaluate('{table}', options => '{{\"unit\": \"return\", \"target\": \"close\"}}')"
        ))
    };
    assert_eq!(returns("big"), returns("b"));
    assert_eq!(
        db.value("select abs(e.mae - d.mae) < 1e-12 from kronos.evaluate('b', options => '{\"unit\": \"return\", \"target\": \"close\"}') e
            join (select model_version, avg(abs(ln(actual / last_value) - ln(forecast / last_value))) as mae from b where target = 'close' group by 1) d
            using (model_version) where model_version = 'naive'"),
        "t"
    );
    assert_eq!(
        call(
            "select sum(n) from kronos.evaluate('b', options => '{\"since\": \"2024-01-05 12:00+00\", \"until\": \"2024-01-05 14:00+00\"}')"
        ),
        [db.value("select count(*) from b where ts in ('2024-01-05 12:00+00', '2024-01-05 13:00+00')")]
    );
    // Four series: the best against the worst, half of the capital each; what changes hands costs 10 basis points.
    let book = "with x as (select cutoff, series, forecast / last_value as f, actual / last_value - 1 as a from b
                  where model_version like 'schooled@%' and target = 'close' and step = 2),
            o as (select *, case row_number() over (partition by cutoff order by f) when 4 then 0.5 when 1 then -0.5 else 0 end as w from x),
            t as (select *, abs(w - lag(w, 1, 0) over (partition by series order by cutoff)) as traded from o),
            p as (select avg(r) as gross, avg(traded) as turnover from (select sum(w * a) as r, sum(traded) as traded from t group by cutoff) y),
            e as (select extra -> 'long_short' as told from kronos.evaluate('b', options => '{\"unit\": \"return\", \"target\": \"close\", \"cost_bps\": 10}')
                  where model_version like 'schooled@%')
        select abs((told ->> 'gross')::float8 - gross) < 1e-12, abs((told ->> 'turnover')::float8 - turnover) < 1e-12,
               abs((told ->> 'net')::float8 - (gross - turnover * 10 / 1e4)) < 1e-12, told -> 'periods', (told ->> 'cost_bps')::float8 from p, e";
    assert_eq!(call(book), ["t t t 20 10"]);
}

#[test]
fn rows_of_the_ledger_are_scored_beside_what_came() {
    let db = Database::new("evaluate_ledger");
    db.run(&bars("bars", &["AAA", "BBB"], 140));
    db.run(BACKTEST);
    db.run("call kronos.install(parts => '{market,ledger}')");
    let recorded = "select model_version ~ '@', n_series, n_failed, n_new, state from kronos.record_backtest('b', 'bars', '{\"horizon\": 3}')";
    assert_eq!(flat(db.rows(recorded)), ["f 2 0 180 done", "t 2 0 180 done", "f 2 0 180 done"]);
    // A second time nothing is new.
    assert_eq!(db.value("select sum(n_new) from kronos.record_backtest('b', 'bars')"), "0");
    let lost = "select count(*) from b full join (select series, model_version, cutoff, ts, step, forecast, lower, upper, quantiles, quantile_levels, level
            from kronos.forecasts where kind = 'backtest') f using (series, model_version, cutoff, ts)
        where (f.step, f.forecast, f.lower, f.upper, f.quantiles, f.quantile_levels, f.level)
            is distinct from (b.step, b.forecast, b.lower, b.upper, b.quantiles, b.quantile_levels, b.level)";
    assert_eq!(db.value(lost), "0");
    // The ledger knows neither scale nor whole distributions; all else is the same as of the rows themselves.
    let scores = |call: &str| {
        flat(db.rows(&format!(
            "select model_version, step, n, mae, rmse, wql, coverage, mean_width, winkler, dir_acc, rank_ic, skill_vs_naive, extra -> 'dm' ->> 'statistic'
             from kronos.evaluate({call}, by => '{{model_version,step}}')"
        )))
    };
    assert_eq!(scores("actuals => 'bars'"), scores("'b'"));
    assert_eq!(scores("'kronos.forecasts', 'bars'"), scores("'b'"));
    db.run("alter table b drop column actual, drop column last_value");
    assert_eq!(scores("'b', 'bars'"), scores("actuals => 'bars'"));
    // Forecasts of another input are not those of this one.
    db.run("create view other as select * from bars");
    assert_eq!(scores("actuals => 'other'"), Vec::<String>::new());
    assert_eq!(
        flat(db.rows("select count(*), sum(n) from kronos.evaluate(actuals => 'other', options => '{\"input\": \"bars\"}')")),
        ["3 540"]
    );
}

#[test]
fn places_are_uniform_where_the_forecasts_are_right_and_not_where_they_are_too_sure() {
    let db = Database::new("evaluate_places");
    // A random walk with a step of one each hour; the naive forecast knows its spread.
    db.run(
        "create table walk as
         select s as symbol, timestamptz '2024-01-01 00:00+00' + i * interval '1 hour' as ts,
                100 + sum(sqrt(-2 * ln(1 - hashfloat8extended(i::float8, s) / 2.0 ^ 64 - 0.5)) * cos(2 * pi() * hashfloat8extended(i + 0.5, s) / 2.0 ^ 64))
                  over (partition by s order by i) as close
         from generate_series(1, 4) s, generate_series(1, 900) i;
         create table b as select * from kronos.backtest('naive', 'walk', 1, series_col => 'symbol', num_windows => 700, baselines => '{}',
            options => '{\"quantile_levels\": [0.05, 0.5, 0.95]}');
         create table sure as select * from b;
         update sure set lower = forecast + (lower - forecast) / 3, upper = forecast + (upper - forecast) / 3, pit = greatest(0, least(1, 0.5 + 3 * (pit - 0.5))),
            quantiles = array[quantiles[2] + (quantiles[1] - quantiles[2]) / 3, quantiles[2], quantiles[2] + (quantiles[3] - quantiles[2]) / 3]",
    );
    let told = |table: &str| {
        flat(db.rows(&format!(
            "select abs(coverage - 0.9) < 0.02, (extra -> 'pit' ->> 'p_value')::float8 > 0.01, (extra -> 'pit_bins' ->> 'p_value')::float8 > 0.01,
                    abs((extra -> 'pit' ->> 'autocorrelation')::float8) < 0.06, extra -> 'pit' ->> 'n'
             from kronos.evaluate('{table}')"
        )))
    };
    assert_eq!(told("b"), ["t t t t 2800"]);
    assert_eq!(told("sure"), ["f f f t 2800"]);
}

#[test]
fn what_cannot_be_scored_is_refused() {
    let db = Database::new("evaluate_errors");
    db.run(&bars("bars", &["AAA"], 60));
    db.run("create table b as select * from kronos.backtest('naive', 'bars', 2)");
    let error = |call: &str| db.error(&format!("select * from kronos.evaluate({call})"));
    db.error("select * from kronos.evaluate()").is("42P01", "kronos.forecasts");
    error("'bars'")
        .is("42703", "column \"model_version\" of \"public.bars\" does not exist")
        .hint("kronos.backtest()");
    error("'b', by => '{sector}'").is("42703", "column \"sector\" of \"public.b\" does not exist");
    error("'b', options => '{\"cost\": 3}'").is("22023", "unrecognized option \"cost\"").hint("cost_bps");
    error("'b', options => '{\"unit\": \"percent\"}'")
        .is("22023", "option \"unit\" must be \"value\" or \"return\"");
    error("'b', options => '{\"since\": \"someday\"}'").is("22007", "invalid input syntax");
    error("'b', options => '{\"input\": \"nothing\"}'").is("42P01", "\"nothing\" does not exist");
    error("'b', 'bars', options => '{\"time_col\": \"clock\"}'").is("42703", "column \"clock\"");
    db.run("create view without as select series, target, model_version, cutoff, ts, step, forecast from b");
    error("'without'")
        .is("22004", "actuals must be given, since \"public.without\" has no column \"actual\"")
        .hint("actuals =>");
    db.run("create table none as select * from b limit 0");
    assert_eq!(db.value("select count(*) from kronos.evaluate('none')"), "0");
    // What has not come yet is counted and not scored.
    db.run("update b set actual = null where window_id = 10");
    assert_eq!(
        flat(
            db.rows("select n, extra ->> 'unscored' from kronos.evaluate('b') where model_version = 'naive'")
        ),
        ["18 2"]
    );
    db.error("select * from kronos.record_backtest('b', 'bars')")
        .is("55000", "the ledger is not installed")
        .hint("kronos.install");
    let role = db.role("outsider");
    let mut client = db.connect_as(&role);
    db.error_in(&mut client, "select * from kronos.evaluate('b')").is("42501", "permission denied");
    db.run(&format!("select kronos.grant_access('{role}', 'use')"));
    db.error_in(&mut client, "select * from kronos.evaluate('b')")
        .is("42501", "permission denied for table b");
    db.run(&format!("grant select on b to {role}"));
    assert_eq!(rows(&mut client, "begin read only; select * from kronos.evaluate('b')").len(), 2);
}
