//! What a book is said to be: its risk, cost and exposure, each by hand.
#![allow(clippy::unwrap_used)]

mod cases;

use cases::{name, solve};
use kronos_allocation::{CashFloor, FactorModel, Interval, Name, Problem, Scenarios};

fn close(got: f64, expected: f64) {
    assert!((got - expected).abs() < 1e-9, "{got} for {expected}");
}

/// A is bought from 0.1 to its cap of 0.3, B is sold short to its cap of 0.2.
#[test]
fn every_number_of_a_book_of_two_by_hand() {
    let long = Name { current_weight: 0.1, max_weight: Some(0.3), cost: 1e-3, ..name("A", 0.01) };
    let short = Name { min_weight: Some(-0.2), cost: 2e-3, borrow_fee: 5e-4, ..name("B", -0.02) };
    let risk = FactorModel::from_covariance(&[4e-4, 1e-4, 1e-4, 16e-4], 2).unwrap();
    let problem = Problem { names: vec![long, short], risk: Some(risk), ..Problem::default() };
    let answer = solve(&problem).unwrap();
    let [a, b] = answer.names.as_slice() else { unreachable!("two names") };
    assert_eq!((a.weight, a.previous_weight, b.weight, b.previous_weight), (0.3, 0.1, -0.2, 0.0));
    close(a.trade, 0.2);
    close(b.trade, -0.2);
    close(a.cost, 1e-3 * 0.2);
    close(b.cost, 2e-3 * 0.2 + 5e-4 * 0.2);
    close(answer.cost, 7e-4);
    close(answer.expected_return, 0.3 * 0.01 + 0.2 * 0.02);
    close(answer.gross, 0.5);
    close(answer.net, 0.1);
    close(answer.turnover, 0.5 * (0.2 + 0.2));
    assert_eq!(answer.held, 2);
    // Variance 0.09 · 4e-4 + 0.04 · 16e-4 − 2 · 0.06 · 1e-4; of A its weight times its covariance with the book.
    let variance: f64 = 8.8e-5;
    close(answer.volatility.unwrap(), variance.sqrt());
    close(a.risk_share, 0.3 * (0.3 * 4e-4 - 0.2 * 1e-4) / variance);
    close(b.risk_share, -0.2 * (0.3 * 1e-4 - 0.2 * 16e-4) / variance);
    close(answer.objective, 0.5 * 5.0 * variance - 0.007 + 7e-4);
}

#[test]
fn buying_power_pays_for_longs_in_full_and_for_shorts_by_their_margin() {
    let greatest = |expected_return: f64| {
        let risk = FactorModel::new(0, vec![], vec![1e-6]).unwrap();
        let mut one =
            Problem { names: vec![name("A", expected_return)], risk: Some(risk), ..Problem::default() };
        one.limits.cash = Some(CashFloor { reserve: 0.1, short_margin: 0.5 });
        solve(&one).unwrap().names[0].weight
    };
    let within = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-6, "{got} for {expected}");
    within(greatest(0.01), 0.9);
    within(greatest(-0.01), -1.8);
}

#[test]
fn a_limit_on_a_factor_counts_shorts_against_longs() {
    // Two units of beta a unit of weight: half a unit of it either way is a quarter of the book.
    let weight = |expected_return: f64| {
        let factors = [("factor_beta".to_owned(), 2.0)].into();
        let risk = FactorModel::new(0, vec![], vec![1e-4]).unwrap();
        let names = vec![Name { factors, ..name("A", expected_return) }];
        let mut one = Problem { names, risk: Some(risk), ..Problem::default() };
        one.limits.factors = [("factor_beta".to_owned(), Interval::new(-0.5, 0.5))].into();
        solve(&one).unwrap().names[0].weight
    };
    for (expected_return, expected) in [(0.01, 0.25), (-0.01, -0.25)] {
        let got = weight(expected_return);
        assert!((got - expected).abs() < 1e-6, "{got} for {expected}");
    }
    // A long and a short of one beta leave next to none of it, and so a limit of 0.01 leaves both as they are wanted:
    // expected return over γ = 5 times the variance, the short less its fee of 1e-6.
    let factors = || [("factor_beta".to_owned(), 1.0)].into();
    let names =
        [("A", 1e-4), ("B", -1e-4)].map(|(symbol, mu)| Name { factors: factors(), ..name(symbol, mu) });
    let risk = FactorModel::new(0, vec![], vec![1e-4; 2]).unwrap();
    let mut pair = Problem { names: names.into(), risk: Some(risk), ..Problem::default() };
    pair.limits.factors = [("factor_beta".to_owned(), Interval::new(-0.01, 0.01))].into();
    let answer = solve(&pair).unwrap();
    for (name, expected) in answer.names.iter().zip([0.2, -0.198]) {
        assert!((name.weight - expected).abs() < 1e-6, "{} for {expected}", name.weight);
    }
}

#[test]
fn the_worst_scenarios_count_in_part_where_their_share_is_not_whole() {
    // The worst three tenths of five scenarios: the worst and half of the second.
    let scenarios = Scenarios::new(1, vec![0.02, -0.03, 0.04, -0.06, 0.01]).unwrap();
    close(scenarios.cvar(&[1.0], 0.7), (0.06 + 0.5 * 0.03) / 1.5);
    // For a short the gains are the losses.
    close(scenarios.cvar(&[-2.0], 0.7), 2.0 * (0.04 + 0.5 * 0.02) / 1.5);
}

#[test]
fn factors_have_their_own_covariance_and_risk_grows_with_the_horizon() {
    let model =
        FactorModel::with_factor_covariance(&[4.0, 1.0, 1.0, 9.0], 2, &[1.0, 2.0, 0.0, 1.0], vec![0.5, 0.25]);
    let model = model.unwrap();
    // (1, 2) and (0, 1) by that covariance: 4 + 2·2·1 + 4·9 = 44, 1 + 2·9 = 19, and 9.
    let [of_first, of_second] = [[1.0, 0.0], [0.0, 1.0]].map(|book| model.covariance_with(&book));
    for (got, expected) in of_first.iter().chain(&of_second).zip([44.5, 19.0, 19.0, 9.25]) {
        close(*got, expected);
    }
    let month = model.clone().scaled(4.0);
    close(month.variance(&[1.0, -1.0]), 4.0 * model.variance(&[1.0, -1.0]));
    close(month.variance_of(1), 37.0);
}
