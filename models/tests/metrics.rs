//! Metrics equal those of independent packages to 1e-9, through values stored by `fixtures/metrics/make.py`.
#![allow(clippy::unwrap_used)] // also in what the tests share, which clippy does not take for a test

use kronos_models::metrics::*;
use serde_json::Value;
use std::path::Path;

fn golden(section: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/metrics/golden.json");
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    all[section].clone()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

#[track_caller]
fn equal(got: Option<f64>, expected: &Value) {
    let (got, expected) = (got.unwrap(), number(expected));
    assert!((got - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{got} instead of {expected}");
}

#[test]
fn point_errors_are_those_of_scikit_learn() {
    let case = golden("point");
    let season = case["season"].as_u64().unwrap() as usize;
    let scale = seasonal_scale(&numbers(&case["context"]), season);
    equal(scale, &case["scale"]);
    let mut errors = Errors::default();
    for (actual, forecast) in numbers(&case["actual"]).into_iter().zip(numbers(&case["forecast"])) {
        errors.add(actual, forecast, scale);
    }
    equal(errors.mae(), &case["mae"]);
    equal(errors.rmse(), &case["rmse"]);
    equal(errors.mase(), &case["mase"]);
}

#[test]
fn pinball_is_that_of_scikit_learn_and_its_mean_a_crps_as_of_scoringrules() {
    let case = golden("quantiles");
    let (levels, actual) = (numbers(&case["levels"]), numbers(&case["actual"]));
    let forecasts: Vec<Vec<f64>> = case["forecast"].as_array().unwrap().iter().map(numbers).collect();
    for (place, &level) in levels.iter().enumerate() {
        let losses = actual.iter().zip(&forecasts).map(|(&actual, row)| pinball(actual, row[place], level));
        equal(Some(losses.sum::<f64>() / actual.len() as f64), &case["mean_pinball_per_level"][place]);
    }
    for (place, (&actual, row)) in actual.iter().zip(&forecasts).enumerate() {
        equal(crps_quantiles(actual, row, &levels), &case["crps"][place]);
    }
}

#[test]
fn crps_of_paths_is_the_fair_one_of_scoringrules() {
    let case = golden("paths");
    for (place, actual) in numbers(&case["actual"]).into_iter().enumerate() {
        equal(crps_paths(actual, &numbers(&case["paths"][place])), &case["crps"][place]);
    }
}

#[test]
fn crps_of_distributions_is_that_of_properscoring_and_scoringrules() {
    let case = golden("distributions");
    let (mean, sd) = (numbers(&case["mean"]), numbers(&case["sd"]));
    for (place, (mean, sd)) in mean.into_iter().zip(sd).enumerate() {
        equal(crps_normal(number(&case["actual"][place]), mean, sd), &case["normal"][place]);
        equal(crps_lognormal(number(&case["positive"][place]), mean, sd), &case["lognormal"][place]);
    }
}

#[test]
fn the_interval_score_is_that_of_scoringrules() {
    let case = golden("intervals");
    let (lower, upper) = (numbers(&case["lower"]), numbers(&case["upper"]));
    for (place, actual) in numbers(&case["actual"]).into_iter().enumerate() {
        let score = interval_score(actual, lower[place], upper[place], number(&case["level"]));
        equal(Some(score), &case["score"][place]);
    }
}

#[test]
fn wilsons_interval_is_that_of_statsmodels() {
    for case in golden("wilson").as_array().unwrap() {
        let (low, high) = wilson(case["hits"].as_u64().unwrap(), case["count"].as_u64().unwrap()).unwrap();
        equal(Some(low), &case["low"]);
        equal(Some(high), &case["high"]);
    }
}

#[test]
fn tests_of_the_transform_are_those_of_scipy_and_statsmodels() {
    let case = golden("pit");
    let check = |values: &str, statistic: &str, p_value: &str| {
        let test = kolmogorov_smirnov(&numbers(&case[values])).unwrap();
        equal(Some(test.statistic), &case[statistic]);
        equal(Some(test.p_value), &case[p_value]);
    };
    check("values", "statistic", "p_value");
    check("few", "few_statistic", "few_p_value");
    equal(lag_one_autocorrelation(&numbers(&case["values"])), &case["autocorrelation"]);
    let counts: Vec<u64> = case["counts"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    let test = chi_squared_bins(&counts, &numbers(&case["shares"])).unwrap();
    equal(Some(test.statistic), &case["chi_squared"]);
    equal(Some(test.p_value), &case["chi_squared_p_value"]);
}

#[test]
fn comparisons_are_those_of_statsmodels_and_scipy() {
    let case = golden("compare");
    for case in case["diebold_mariano"].as_array().unwrap() {
        let horizon = case["horizon"].as_u64().unwrap() as usize;
        let test = diebold_mariano(&numbers(&case["differences"]), horizon).unwrap();
        equal(Some(test.statistic), &case["statistic"]);
        equal(Some(test.p_value), &case["p_value"]);
    }
    equal(spearman(&numbers(&case["x"]), &numbers(&case["y"])), &case["spearman"]);
}
