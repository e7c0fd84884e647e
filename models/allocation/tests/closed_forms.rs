//! Books of one and two names, whose optimum is known by hand.
#![allow(clippy::unwrap_used)]

mod cases;

use cases::{name, never, solve, weights};
use kronos_allocation::{
    FactorModel, Interval, Limits, Method, Name, Problem, Scenarios, risk_parity_target,
};

const GAMMA: f64 = 5.0;

fn problem(names: Vec<Name>, covariance: &[f64]) -> Problem {
    let risk = FactorModel::from_covariance(covariance, names.len()).unwrap();
    Problem { names, risk: Some(risk), risk_aversion: GAMMA, ..Problem::default() }
}

fn assert_weights(problem: &Problem, expected: &[f64]) {
    assert_weights_within(2e-6, problem, expected);
}

fn assert_weights_within(tolerance: f64, problem: &Problem, expected: &[f64]) {
    let got = weights(&solve(problem).unwrap());
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() <= tolerance, "{got} for {expected}");
    }
}

#[test]
fn one_name_buys_until_marginal_risk_and_cost_eat_the_forecast() {
    let variance = 0.02_f64.powi(2);
    let one = |expected_return, current_weight| {
        let asset = Name { cost: 2e-4, borrow_fee: 3e-4, current_weight, ..name("A", expected_return) };
        problem(vec![asset], &[variance])
    };
    let price_of_risk = GAMMA * variance;
    assert_weights(&one(0.001, 0.0), &[(0.001 - 2e-4) / price_of_risk]);
    // A short pays the cost and the fee; the fee carries the model's 1e-6.
    assert_weights(&one(-0.001, 0.0), &[-(0.001 - 2e-4 - 3e-4 - 1e-6) / price_of_risk]);
    // Inside the no-trade zone the position stays, bit for bit.
    assert_eq!(weights(&solve(&one(1e-4, 0.0)).unwrap()), [0.0]);
    assert_eq!(weights(&solve(&one(0.001, 0.45)).unwrap()), [0.45]);
    assert_weights(&one(0.001, 0.8), &[(0.001 + 2e-4) / price_of_risk]);
}

#[test]
fn a_cap_costs_the_forgone_marginal_return() {
    let variance = 0.02_f64.powi(2);
    let mut one = problem(vec![name("A", 0.001)], &[variance]);
    one.limits.weight_bounds = Interval::new(-0.1, 0.1);
    let answer = solve(&one).unwrap();
    let [result] = answer.names.as_slice() else { panic!("one name") };
    assert!((result.weight - 0.1).abs() < 1e-8);
    let expected_bps = 1e4 * (0.001 - GAMMA * variance * 0.1);
    assert_eq!(result.bindings[0].rule, "max_weight");
    assert!((result.bindings[0].shadow_price_bps - expected_bps).abs() < 1e-4);
    assert!((result.risk_share - 1.0).abs() < 1e-12);

    one.limits = Limits { gross: Some(0.1), ..Limits::default() };
    let answer = solve(&one).unwrap();
    assert!((answer.rules[0].shadow_price_bps - expected_bps).abs() < 1e-4);
    assert_eq!(answer.names[0].bindings[0].rule, "gross");
}

#[test]
fn two_names_are_the_inverse_covariance_times_the_forecast() {
    let (a, b, c) = (4e-4, 9e-4, 1.2e-4);
    let free = problem(vec![name("A", 0.001), name("B", 0.0005)], &[a, c, c, b]);
    let determinant = a * b - c * c;
    let expected =
        [(b * 0.001 - c * 0.0005) / determinant / GAMMA, (a * 0.0005 - c * 0.001) / determinant / GAMMA];
    assert_weights(&free, &expected);
}

#[test]
fn a_dollar_neutral_pair_trades_the_spread() {
    let (a, b, c) = (4e-4, 9e-4, 1.2e-4);
    let fee = 1e-4;
    let short = Name { borrow_fee: fee, ..name("B", -0.0005) };
    let mut pair = problem(vec![name("A", 0.001), short], &[a, c, c, b]);
    pair.limits.net = Interval::new(0.0, 0.0);
    let spread = (0.001 + 0.0005 - fee - 1e-6) / (GAMMA * (a + b - 2.0 * c));
    assert_weights(&pair, &[spread, -spread]);
    assert!(solve(&pair).unwrap().net.abs() < 1e-9);
}

#[test]
fn minimum_variance_weighs_by_the_other_ones_variance() {
    let (a, b, c) = (4e-4, 9e-4, 1.2e-4);
    let mut full = problem(vec![name("A", 9.9), name("B", -9.9)], &[a, c, c, b]);
    full.method = Method::MinVariance;
    full.limits.net = Interval::new(1.0, 1.0);
    assert_weights(&full, &[(b - c) / (a + b - 2.0 * c), (a - c) / (a + b - 2.0 * c)]);
}

#[test]
fn risk_parity_of_two_names_ignores_their_correlation() {
    for c in [-3e-4, 0.0, 3e-4] {
        let mut parity = problem(vec![name("A", 0.0), name("B", 0.0)], &[4e-4, c, c, 9e-4]);
        parity.method = Method::RiskParity;
        parity.limits.gross = Some(1.0);
        let answer = solve(&parity).unwrap();
        // The program's own curvature, 1e-5 beside a variance of 20 basis points, leaves the fifth digit open.
        assert_weights_within(1e-4, &parity, &[0.6, 0.4]);
        assert!(answer.names.iter().all(|name| (name.risk_share - 0.5).abs() < 1e-4));
    }
}

#[test]
fn risk_parity_goes_short_where_the_forecast_is_negative() {
    let mut parity = problem(vec![name("A", 0.001), name("B", -0.001)], &[4e-4, 1e-4, 1e-4, 9e-4]);
    parity.method = Method::RiskParity;
    parity.limits.gross = Some(2.0);
    assert_weights_within(1e-4, &parity, &[1.2, -0.8]);
}

#[test]
fn risk_parity_of_many_names_has_equal_contributions() {
    let model = cases::random_problem(3, 400).risk.unwrap();
    let signs: Vec<f64> = (0..400).map(|i| if i % 5 == 0 { -1.0 } else { 1.0 }).collect();
    let book = risk_parity_target(&model, &signs, &never()).unwrap();
    let contributions: Vec<f64> =
        model.covariance_with(&book).iter().zip(&book).map(|(c, w)| c * w).collect();
    let mean = contributions.iter().sum::<f64>() / 400.0;
    assert!(contributions.iter().all(|c| (c / mean - 1.0).abs() < 1e-8));
    assert!(book.iter().zip(&signs).all(|(w, s)| w * s > 0.0));
}

#[test]
fn a_volatility_limit_caps_the_position() {
    let mut one = problem(vec![name("A", 0.01)], &[0.02_f64.powi(2)]);
    one.limits.target_vol = Some(0.005);
    assert_weights(&one, &[0.25]);
    let answer = solve(&one).unwrap();
    assert!((answer.volatility.unwrap() - 0.005).abs() < 1e-9);
    // One more unit of volatility buys 1/0.02 of weight at the marginal utility of the position.
    let expected_bps = 1e4 * (0.01 - GAMMA * 4e-4 * 0.25) / 0.02;
    assert!((answer.rules[0].shadow_price_bps / expected_bps - 1.0).abs() < 1e-5);
}

#[test]
fn conditional_value_at_risk_weighs_tail_losses_against_the_forecast() {
    // Worst quarter of four scenarios: a loss of 4 % per unit, priced at 0.02; the forecast pays 0.1 %.
    let scenarios = Scenarios::new(1, vec![-0.04, 0.01, 0.02, 0.03]).unwrap();
    let mut one = Problem {
        names: vec![name("A", 0.001)],
        method: Method::Cvar,
        cvar_level: Some(0.75),
        risk_aversion: 0.02,
        scenarios: Some(scenarios),
        ..Problem::default()
    };
    one.limits.weight_bounds = Interval::new(0.0, 1.0);
    assert_weights(&one, &[1.0]);
    assert!((solve(&one).unwrap().cvar.unwrap() - 0.04).abs() < 1e-8);
    one.risk_aversion = 0.03;
    assert_weights(&one, &[0.0]);
}
