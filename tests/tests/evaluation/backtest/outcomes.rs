//! What a backtest says of outcomes: which bars have come at its moment, and how the forecasts fared beside them.

use super::forecasts;
use kronos_tests::{Database, FixtureModels, bars};

#[test]
fn a_bar_that_has_not_ended_is_no_outcome() {
    let db = Database::new("backtest_half_past");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    db.run(&bars("bars", &["AAA", "BBB"], 150));
    let at = |model: &str, as_of: &str| {
        let call = format!("'{model}', 'bars', 3, num_windows => 4, as_of => '2024-01-06 {as_of}+00'");
        let outcomes =
            format!("select series, window_id, cutoff, ts, actual, crps, pit from kronos.backtest({call})");
        (forecasts(&db, &call), db.rows(&outcomes))
    };
    for model in ["kronos-fixture", "tiny-b", "naive"] {
        let on_the_hour = at(model, "10:00");
        assert_eq!(at(model, "10:30"), on_the_hour, "{model}");
        assert_eq!(at(model, "10:59:59.999999"), on_the_hour, "{model}");
        assert_ne!(at(model, "11:00"), on_the_hour, "{model}");
    }
    // The bar of 10:00 has begun at half past; the last that has ended is that of 09:00.
    assert_eq!(
        db.value(
            "select to_char(max(ts), 'DD HH24:MI') from kronos.backtest('naive', 'bars', 3, as_of => '2024-01-06 10:30+00')"
        ),
        "06 09:00"
    );
    // A day of New York ends when its exchange closes, 21:00 UTC in winter.
    db.run(
        "create table days as select day::date, extract(day from day) as close
         from generate_series(timestamp '2024-01-16', '2024-02-09', '1 day') day where extract(isodow from day) < 6",
    );
    let last = |as_of: &str| {
        db.value(&format!(
            r#"select max(ts at time zone 'America/New_York')::date from kronos.backtest('naive', 'days', 2, num_windows => 2, baselines => '{{}}',
                 as_of => '{as_of}', options => '{{"calendar": "XNYS"}}')"#
        ))
    };
    assert_eq!([last("2024-02-01 20:59+00"), last("2024-02-01 21:00+00")], ["2024-01-31", "2024-02-01"]);
}

#[test]
fn the_probability_of_a_rise_is_that_of_the_forecast_at_that_moment() {
    let db = Database::new("backtest_prob_up");
    db.run(&bars("bars", &["AAA", "BBB"], 120));
    let compared = db.value(
        "with b as materialized (select * from kronos.backtest('kronos-fixture', 'bars', 3, num_windows => 3, baselines => '{}', embargo => 1)),
              w as (select distinct as_of from b)
         select count(*) || ' ' || count(*) filter (where b.prob_up is distinct from f.prob_up) || ' ' || (count(distinct b.prob_up) > 3)
         from w cross join lateral kronos.kronos_predict('bars', 4, as_of => w.as_of) f join b using (as_of, series, step)",
    );
    assert_eq!(compared, "18 0 true");
}

/// Ninety-nine quantiles tell a distribution well enough to check what is said of it.
#[test]
fn places_and_scores_of_baselines_are_those_of_their_distributions() {
    let db = Database::new("backtest_baselines");
    db.run(&bars("bars", &["AAA"], 130));
    let levels: Vec<String> = (1..100).map(|percent| format!("{:.2}", f64::from(percent) / 100.0)).collect();
    db.run(&format!(
        "create table b as select * from kronos.backtest('naive', 'bars', 3, num_windows => 20, window_step => 1,
           baselines => '{{hist_vol,drift,seasonal_naive}}', options => '{{\"season\": 4, \"quantile_levels\": [{}]}}')",
        levels.join(",")
    ));
    // The outcome lies above a quantile exactly where its place lies above the quantile's level.
    let places = "select count(distinct model_version) || ' ' || count(*) || ' ' || count(*) filter (where (actual > q) <> (pit > tau))
                  from b cross join lateral unnest(quantiles, quantile_levels) u(q, tau) where abs(actual - q) > 1e-9";
    assert_eq!(db.value(places), format!("4 {} 0", 4 * 60 * 99));
    // Twice the mean pinball loss over the levels; what lies beyond the outermost of them is the difference.
    let scores = "select model_version || ' ' || (abs(avg(crps) / avg(kronos.crps(actual, quantiles, quantile_levels)) - 1) < 0.03)
                  from b group by model_version order by 1";
    let rows: Vec<String> = db.rows(scores).into_iter().flatten().flatten().collect();
    assert_eq!(rows, ["drift true", "hist_vol true", "naive true", "seasonal_naive true"]);
}

#[test]
fn models_of_quantiles_are_scored_at_all_their_own_levels() {
    let db = Database::new("backtest_own_levels");
    let _models = FixtureModels::register(&db, &["tiny-b"]);
    db.run(&bars("bars", &["AAA"], 130));
    let own = db.value(
        "select string_agg(value, ',' order by value::float8) from kronos.models, jsonb_array_elements_text(settings -> 'quantiles')
         where name = 'tiny-b'",
    );
    assert!(own.split(',').count() >= 9, "{own}");
    // Whatever levels are asked for, the score is that of the whole distribution.
    let compared = db.value(&format!(
        "select count(*) || ' ' || bool_and(abs(few.crps - kronos.crps(own.actual, own.quantiles, own.quantile_levels)) < 1e-12)
         from kronos.backtest('tiny-b', 'bars', 2, num_windows => 5, baselines => '{{}}', options => '{{\"quantile_levels\": [0.3]}}') few
         join kronos.backtest('tiny-b', 'bars', 2, num_windows => 5, baselines => '{{}}', options => '{{\"quantile_levels\": [{own}]}}') own
           using (window_id, step)"
    ));
    assert_eq!(compared, "10 true");
}
