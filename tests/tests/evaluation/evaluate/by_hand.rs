//! Scores beyond the columns, in `extra`: against arithmetic by hand, and against their definitions in SQL.

use super::{BACKTEST, flat};
use kronos_tests::{Database, bars};

/// Three shares at 100 and four cutoffs of two steps; the book is held to the second, whatever the first foretold.
///
/// | cutoff | foretold A, B, C | came A, B, C | book | earned | traded |
/// |---|---|---|---|---|---|
/// | 1 | +3, 0, −2 % | +2, +5, +1 % | ½ A, −½ C | ½ · 2 − ½ · 1 = 0.5 % | ½ + ½ = 1 |
/// | 2 | +4, +1, −3 % | −2, 0, −4 % | ½ A, −½ C | −½ · 2 + ½ · 4 = 1 % | 0 |
/// | 3 | −1, −5, +2 % | −3, +1, −3 % | −½ B, ½ C | −½ · 1 − ½ · 3 = −2 % | A and B ½ each, C is turned = 2 |
/// | 4 | 0, −4, +1 % | +9, −1, +2 % | −½ B, ½ C | ½ · 1 + ½ · 2 = 1.5 % | 0 |
#[test]
fn the_long_short_book_earns_and_costs_what_hand_arithmetic_says() {
    let db = Database::new("evaluate_long_short");
    db.run(
        "create table b as
         select 'm@1' as model_version, s as series, timestamptz '2024-01-01 00:00+00' + day * interval '1 day' as cutoff,
                timestamptz '2024-01-01 00:00+00' + (day + step) * interval '1 day' as ts, step, 100.0 as last_value,
                100.0 + case step when 2 then foretold else -foretold end as forecast, 100.0 + case step when 2 then came else 9 end as actual
         from (values (1, 'A', 3, 2), (1, 'B', 0, 5), (1, 'C', -2, 1), (2, 'A', 4, -2), (2, 'B', 1, 0), (2, 'C', -3, -4),
                      (3, 'A', -1, -3), (3, 'B', -5, 1), (3, 'C', 2, -3), (4, 'A', 0, 9), (4, 'B', -4, -1), (4, 'C', 1, 2))
              v (day, s, foretold, came), generate_series(1, 2) step",
    );
    let told = |cost_bps: u32| {
        flat(db.rows(&format!(
            r#"select round((told ->> 'gross')::numeric, 9), round((told ->> 'net')::numeric, 9), round((told ->> 'turnover')::numeric, 9),
                      told -> 'periods', (told ->> 'cost_bps')::float8
               from kronos.evaluate('b', options => '{{"unit": "return", "cost_bps": {cost_bps}}}'),
                    lateral (select extra -> 'long_short' as told) x"#
        )))
    };
    // Gross (0.5 + 1 − 2 + 1.5) / 4 %; of the capital (1 + 0 + 2 + 0) / 4 change hands per period, at 30 basis points.
    assert_eq!(told(30), ["0.002500000 0.000250000 0.750000000 4 30"]);
    assert_eq!(told(0), ["0.002500000 0.002500000 0.750000000 4 0"]);
    assert_eq!(db.value("select extra ? 'long_short' from kronos.evaluate('b')"), "f");
    // Returns are fractions of capital in whatever unit errors are measured: prices of a thousandth, errors in points.
    db.run("update b set last_value = last_value / 1000, forecast = forecast / 1000, actual = actual / 1000");
    for unit in ["value", "return"] {
        let told = db.value(&format!(
            r#"select concat_ws(' ', round((extra #>> '{{long_short,gross}}')::numeric, 9), round((extra #>> '{{long_short,net}}')::numeric, 9))
               from kronos.evaluate('b', options => '{{"unit": "{unit}", "cost_bps": 30}}')"#
        ));
        assert_eq!(told, "0.002500000 0.000250000", "{unit}");
    }
}

/// Nine dates of one series that lose 1 against the naive forecast, by turns 0.9 and 1.1, and one date of ninety-one series that gain 1: of a
/// hundred forecasts the gain is 0.82 each, and a single date that makes it is no evidence.
#[test]
fn a_date_counts_for_as_many_forecasts_as_it_has() {
    let db = Database::new("evaluate_weights");
    db.run(
        "create table b as
         select 'm@1' as model_version, 'S' || s as series, timestamptz '2024-01-01 00:00+00' + day * interval '1 day' as cutoff,
                timestamptz '2024-01-01 12:00+00' + day * interval '1 day' as ts, 1 as step, 100.0 as last_value,
                case when day = 10 then 102.0 else 98.9 + 0.2 * (day % 2) end as forecast, case when day = 10 then 101.0 else 100.0 end as actual
         from generate_series(1, 10) day, generate_series(1, 91) s where day = 10 or s = 1;
         -- On the day of many: the naive error is 1, the model's 0.
         update b set forecast = 101.0 where cutoff = '2024-01-11 00:00+00'",
    );
    let told = flat(db.rows(
        "select round(((extra #>> '{dm,statistic}')::numeric), 6), (extra #>> '{dm,p_value}')::float8 > 0.3, round(skill_vs_naive::numeric, 6)
         from kronos.evaluate('b')",
    ));
    // The mean is -0.821; a date's part is n (d - mean) / 10 x 0.9 / (1 - n / 100): about 0.17 for each of the nine, -16.3 for the tenth.
    let mean = (5.0 * 0.9 + 4.0 * 1.1 - 91.0) / 100.0;
    let dates = (1..=9).map(|day| (if day % 2 == 1 { 0.9 } else { 1.1 }, 1.0)).chain([(-1.0, 91.0)]);
    let dated: Vec<f64> =
        dates.map(|(difference, n)| n / 10.0 * (difference - mean) * 0.9 / (1.0 - n / 100.0)).collect();
    let centre = dated.iter().sum::<f64>() / 10.0;
    let variance = dated.iter().map(|d| (d - centre).powi(2)).sum::<f64>() / 10.0;
    let statistic = (9.0_f64 / 10.0).sqrt() * mean / (variance / 10.0).sqrt();
    assert_eq!(told, [format!("{statistic:.6} t 0.902198")]);
}

#[test]
fn what_is_said_beside_the_columns_follows_its_definition() {
    let db = Database::new("evaluate_extra");
    db.run(&bars("bars", &["AAA", "BBB", "CCC"], 140));
    db.run(BACKTEST);
    // Wilson's interval at 95 %, of a share of hits among n.
    db.run(
        "create function wilson(share float8, n float8, side int) returns float8 language sql immutable as
           'select (share + z * z / (2 * n) + side * z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))) / (1 + z * z / n)
            from (select 1.959963984540054::float8) as quantile(z)';
         create function same(a jsonb, b float8) returns bool language sql immutable as 'select abs(a::text::float8 - b) < 1e-9'",
    );
    let scored = "with e as (select model_version, extra as x from kronos.evaluate('b'))";
    let intervals = format!(
        "{scored}, c as (select model_version, count(*) as n, avg((actual between lower and upper)::int) as share from b group by 1),
              t as (select model_version, ts, avg((actual between lower and upper)::int) as share from b group by 1, 2),
              r as (select model_version, avg(share) over w as share, count(*) over w as times from t
                    window w as (partition by model_version order by ts rows between 59 preceding and current row)),
              l as (select model_version, min(share) as worst from r where times = 60 group by 1)
         select count(*), bool_and(same(x -> 'coverage_interval' -> 0, wilson(share, n, -1)) and same(x -> 'coverage_interval' -> 1, wilson(share, n, 1))),
                bool_and(same(x -> 'worst_coverage_60', worst)), bool_or(worst < share), bool_and(x -> 'level' = '0.9')
         from e join c using (model_version) join l using (model_version)"
    );
    assert_eq!(flat(db.rows(&intervals)), ["3 t t t t"]);
    // The same moves turned upside down have the same hits and the same commoner sign.
    db.run("create table turned as select *, 2 * last_value - actual as a, 2 * last_value - forecast as f from b");
    db.run("alter table turned drop actual, drop forecast; alter table turned rename a to actual; alter table turned rename f to forecast");
    let moves = |table: &str| {
        flat(db.rows(&format!(
            "with e as (select model_version, extra as x from kronos.evaluate('{table}')),
                  m as (select model_version, sign(forecast - last_value) = sign(actual - last_value) as hit, actual > last_value as up
                        from {table} where forecast <> last_value and actual <> last_value),
                  d as (select model_version, count(*) as n, avg(hit::int) as share, avg(up::int) as up from m group by 1)
             select count(*), bool_and((x -> 'direction' -> 'n')::int = n and same(x -> 'direction' -> 'majority', greatest(up, 1 - up))
                      and same(x -> 'direction' -> 'low', wilson(share, n, -1)) and same(x -> 'direction' -> 'high', wilson(share, n, 1))),
                    bool_and(up > 0.5), bool_and(up < 0.5)
             from e join d using (model_version)"
        )))
    };
    // The naive forecast foretells no move.
    let (upright, turned) = (moves("b"), moves("turned"));
    assert!(
        [upright[0].as_str(), turned[0].as_str()].iter().all(|row| row.starts_with("2 t ")),
        "{upright:?} {turned:?}"
    );
    assert_ne!(upright, turned, "most moves go one way here and the other way there");
    // Losses beside those of the naive forecast of the same point.
    let losses = format!(
        "{scored}, l as (select model_version, series, ts, cutoff, crps, upper - lower + 20 * greatest(lower - actual, actual - upper, 0) as winkler,
                                (select avg(case when actual < q then (q - actual) * (1 - tau) else (actual - q) * tau end)
                                 from unnest(quantiles, quantile_levels) u(q, tau)) as pinball from b),
              s as (select l.model_version, 1 - avg(l.crps) / avg(n.crps) as crps, 1 - avg(l.winkler) / avg(n.winkler) as winkler,
                           1 - avg(l.pinball) / avg(n.pinball) as pinball
                    from l join l n using (series, ts, cutoff) where n.model_version = 'naive' group by 1)
         select count(*), bool_and(same(x -> 'skill_crps', crps)), bool_and(same(x -> 'skill_winkler', winkler)), bool_and(same(x -> 'skill_wql', pinball)),
                count(distinct round(pinball::numeric, 6))
         from e join s using (model_version)"
    );
    assert_eq!(flat(db.rows(&losses)), ["3 t t t 3"]);
    // Places in the distribution forecast, in the order of series, cutoff and time.
    let places = format!(
        "{scored}, p as (select model_version, pit, row_number() over w as i, lag(pit) over w as before,
                                row_number() over (partition by model_version order by pit) as rank, count(*) over (partition by model_version) as n,
                                avg(pit) over (partition by model_version) as centre
                         from b window w as (partition by model_version order by series collate \"C\", cutoff, ts)),
              d as (select model_version, max(n) as n, max(greatest(pit - (rank - 1.0) / n, 1.0 * rank / n - pit)) as ks,
                           sum((pit - centre) * (before - centre)) / sum((pit - centre) ^ 2) as autocorrelation from p group by 1)
         select count(*), bool_and((x -> 'pit' -> 'n')::int = n and same(x -> 'pit' -> 'statistic', ks)
                  and same(x -> 'pit' -> 'autocorrelation', autocorrelation))
         from e join d using (model_version)"
    );
    assert_eq!(flat(db.rows(&places)), ["3 t"]);
    // Outcomes in the gaps between nine quantiles, and χ² of them with the shares that the gaps should have.
    let gaps = format!(
        "{scored}, g as (select model_version, (select count(*) from unnest(quantiles) q where q < actual) as gap from b),
              f as (select model_version, gap, count(o.gap) as seen, count(*) filter (where o.gap is null) as none,
                           (array[0.05, 0.05, 0.1, 0.15, 0.15, 0.15, 0.15, 0.1, 0.05, 0.05])[gap + 1] as share
                    from (select distinct model_version from b) m cross join generate_series(0, 9) gap left join g o using (model_version, gap) group by 1, 2),
              d as (select model_version, jsonb_agg(seen order by gap) as counts, sum((seen - share * 270) ^ 2 / (share * 270)) as chi from f group by 1)
         select count(*), bool_and(x -> 'pit_bins' -> 'counts' = counts), bool_and(same(x -> 'pit_bins' -> 'statistic', chi)) from e join d using (model_version)"
    );
    assert_eq!(flat(db.rows(&gaps)), ["3 t t"]);
}

/// One forecast for each of ten hours, of 100 where 100 + n came; what counts as having come is what is known now.
#[test]
fn an_outcome_counts_once_it_is_known_in_its_last_version() {
    let db = Database::new("evaluate_known");
    db.run(
        "create table b as select 'm@1' as model_version, timestamptz '2024-01-01 00:00+00' as cutoff, timestamptz '2024-01-01 00:00+00' + n * interval '1 hour' as ts,
                n as step, 100.0::float8 as forecast from generate_series(1, 10) n;
         create table came as select ts, 100.0 + step as close, ts + interval '1 hour' as known_at from b
           union all select '2023-12-31 23:00+00', 99, '2024-01-01 00:00+00'",
    );
    let scored = || {
        flat(db.rows(
            r#"select n, mae, extra -> 'unscored', round(skill_vs_naive::numeric, 6) from kronos.evaluate('b', 'came', options => '{"known_at_col": "known_at"}')"#,
        ))
    };
    // Errors of 1 to 10, beside those of the last value before the cutoff, 99: of 2 to 11.
    assert_eq!(scored(), ["10 5.5 - 0.153846"]);
    // A correction that nobody can know yet, and two that are known: the last of them makes an error of 20 of the tenth.
    db.run(
        "insert into came select ts, 500, now() + interval '1 day' from b where step = 9;
         insert into came select ts, 100 + 10 * n, ts + n * interval '3 hours' from b, generate_series(1, 2) n where step = 10",
    );
    assert_eq!(scored(), ["10 6.5 - 0.133333"]);
    // Without its row an outcome has not come: the row before it is another hour's.
    db.run("delete from came where ts = '2024-01-01 09:00+00'");
    assert_eq!(scored(), ["9 6.222222222222222 1 0.138462"]);
}

/// The book of one cutoff, as the sum of its weights times 1, 2, 4, … per cent, by which alone each weight can be told.
#[test]
fn the_book_is_neutral_and_half_long() {
    let db = Database::new("evaluate_book");
    db.run("create table b (model_version text, series text, cutoff timestamptz, ts timestamptz, step int, last_value float8, forecast float8, actual float8)");
    for (foretold, earned, traded) in [
        // A quarter of each: long the first and the fourth, short the second and the fifth.
        ("{3,-1,0,2,-2,1}", 0.25 * (1.0 - 2.0 + 8.0 - 16.0), 1.0),
        // Nobody is foretold to do better than another.
        ("{1,1,1}", 0.0, 0.0),
        // Of fewer than three the sign decides.
        ("{1,-2}", 0.5 * (1.0 - 2.0), 1.0),
        ("{0}", 0.0, 0.0),
    ] {
        let told = db.rows(&format!(
            r#"truncate b;
               insert into b select 'm@1', n::text, '2024-01-01 00:00+00', '2024-01-02 00:00+00', 1, 100, 100 + foretold, 100 + 2 ^ (n - 1)
               from unnest('{foretold}'::int[]) with ordinality u(foretold, n);
               select (told ->> 'gross')::float8 * 100, (told ->> 'turnover')::float8
               from kronos.evaluate('b', options => '{{"unit": "return", "cost_bps": 1}}'), lateral (select extra -> 'long_short' as told) x"#
        ));
        let [gross, turnover] =
            [0, 1].map(|column| told[0][column].as_deref().unwrap().parse::<f64>().unwrap());
        assert!((gross - earned).abs() < 1e-9 && turnover == traded, "{foretold}: {gross}, {turnover}");
    }
}

#[test]
fn forecasts_overlap_while_a_later_cutoff_lies_before_their_last_time() {
    let db = Database::new("evaluate_overlap");
    // Forecasts of three hours from every cutoff: those of 10:00 are of 10:00, 11:00 and 12:00.
    let overlap = |apart: u32, actual: &str| {
        db.value(&format!(
            "drop table if exists b;
             create table b as select 'm@1' as model_version, start as cutoff, start + h * interval '1 hour' as ts, h + 1 as step,
               1.0::float8 as forecast, {actual}::float8 as actual
             from generate_series(timestamptz '2024-01-01 10:00+00', '2024-01-02 04:00+00', '{apart} hours') start, generate_series(0, 2) h;
             select extra -> 'overlap' from kronos.evaluate('b')"
        ))
    };
    assert_eq!([overlap(1, "2"), overlap(2, "2"), overlap(3, "2")], ["3", "2", "1"]);
    assert_eq!(overlap(1, "null"), "1", "nothing has come that could be shared");
}

#[test]
fn an_outcome_on_a_bound_is_inside_and_a_table_that_does_not_say_its_levels_is_told_them() {
    let db = Database::new("evaluate_levels");
    db.run(
        "create table b as select 'm@1' as model_version, timestamptz '2024-01-01 00:00+00' as cutoff, timestamptz '2024-01-01 00:00+00' + n * interval '1 hour' as ts,
                n as step, 100.0::float8 as forecast, 98.0::float8 as lower, 102.0::float8 as upper, 96.0::float8 + n as actual, '{98,100,102}'::float8[] as quantiles
         from generate_series(1, 7) n",
    );
    // Outcomes from 97 to 103: five of seven lie in [98, 102], and the two others are one off, which costs 2 / (1 − 0.8) each.
    let scored = |table: &str, options: &str| {
        flat(db.rows(&format!(
            "select round(coverage::numeric, 6), round(winkler::numeric, 6), round(wql::numeric, 6), extra -> 'level', extra -> 'wql_levels'
             from kronos.evaluate('{table}', options => '{options}')"
        )))
    };
    // Pinball losses at 0.1, 0.5 and 0.9, over 7 · 3, twice, over the mean outcome of 100.
    let at = |tau: f64, quantile: f64| -> f64 {
        (97..=103)
            .map(|actual| f64::from(actual) - quantile)
            .map(|over| if over < 0.0 { -over * (1.0 - tau) } else { over * tau })
            .sum()
    };
    let wql = 2.0 * (at(0.1, 98.0) + at(0.5, 100.0) + at(0.9, 102.0)) / 21.0 / 100.0;
    let expected = [format!("0.714286 {:.6} {wql:.6} 0.8 3", 4.0 + 2.0 / 0.2 * 2.0 / 7.0)];
    assert_eq!(scored("b", r#"{"level": 0.8, "quantile_levels": [0.1, 0.5, 0.9]}"#), expected);
    // Without levels there is neither interval nor quantile; what the rows say themselves goes before what is told.
    assert_eq!(scored("b", "{}"), ["- - - - -"]);
    db.run("create table said as select *, 0.8::float8 as level, '{0.1,0.5,0.9}'::float8[] as quantile_levels from b");
    assert_eq!(scored("said", r#"{"level": 0.5, "quantile_levels": [0.2, 0.5, 0.8]}"#), expected);
}
