//! Agreement with other solvers and libraries on stored problems; `make_fixtures.py` writes and documents them.
#![allow(clippy::unwrap_used)]

mod cases;

use std::sync::LazyLock;

use cases::{solve, weights};
use kronos_allocation::{Estimator, Method, Problem, ReturnHistory, Status};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixtures {
    cases: Vec<Case>,
    ledoit_wolf: Vec<Covariance>,
}

#[derive(Deserialize)]
struct Case {
    problem: Problem,
    objective: f64,
    weights: Vec<f64>,
    strictly_convex: bool,
}

#[derive(Deserialize)]
struct Covariance {
    names: usize,
    returns: Vec<f64>,
    covariance: Vec<f64>,
}

static FIXTURES: LazyLock<Fixtures> =
    LazyLock::new(|| serde_json::from_str(include_str!("fixtures.json")).unwrap());

#[test]
fn fifty_problems_agree_with_cvxpy() {
    assert_eq!(FIXTURES.cases.len(), 50);
    let (mut worst_objective, mut worst_weight) = (0.0_f64, 0.0_f64);
    for (k, case) in FIXTURES.cases.iter().enumerate() {
        let answer = solve(&case.problem).unwrap_or_else(|error| panic!("case {k}: {error}"));
        assert_eq!(answer.status, Status::Optimal, "case {k}");
        let difference = (answer.objective - case.objective).abs() / case.objective.abs().max(1e-4);
        assert!(difference <= 1e-6, "case {k}: objective {} for {}", answer.objective, case.objective);
        worst_objective = worst_objective.max(difference);
        if case.strictly_convex {
            for (name, (ours, theirs)) in weights(&answer).iter().zip(&case.weights).enumerate() {
                assert!((ours - theirs).abs() <= 1e-4, "case {k}, name {name}: {ours} for {theirs}");
                worst_weight = worst_weight.max((ours - theirs).abs());
            }
        }
    }
    println!("objective within {worst_objective:.1e} relative, weights within {worst_weight:.1e}");
}

#[test]
fn cases_cover_every_method() {
    for method in [Method::MeanVariance, Method::MinVariance, Method::RiskParity, Method::Cvar] {
        assert!(FIXTURES.cases.iter().any(|case| case.problem.method == method), "{method:?}");
    }
}

#[test]
fn ledoit_wolf_agrees_with_scikit_learn() {
    for case in &FIXTURES.ledoit_wolf {
        let history =
            ReturnHistory::new(case.names, case.returns.iter().map(|&r| Some(r)).collect()).unwrap();
        let model = history.estimate(Estimator::LedoitWolf).unwrap().model;
        for i in 0..case.names {
            let mut unit = vec![0.0; case.names];
            unit[i] = 1.0;
            for (j, ours) in model.covariance_with(&unit).iter().enumerate() {
                let theirs = case.covariance[i * case.names + j];
                assert!(
                    (ours - theirs).abs() <= 1e-9 * case.covariance[0],
                    "({i}, {j}): {ours} for {theirs}"
                );
            }
        }
    }
}
