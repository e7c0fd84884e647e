//! Order rules on books known by hand: whole-share shorts, the least notional, the number of names.
#![allow(clippy::unwrap_used)]

mod cases;

use cases::{name, solve, weights};
use kronos_allocation::{FactorModel, Name, NameStatus, Problem};

/// What a unit of weight costs in marginal risk: γ = 5 times the variance of 2 % volatility.
const PRICE_OF_RISK: f64 = 5.0 * 4e-4;

/// Added to the fee of a short by the program.
const BORROW_EPSILON: f64 = 1e-6;

/// A name that by itself would get that weight.
fn wants(symbol: &str, weight: f64) -> Name {
    let fee = if weight < 0.0 { BORROW_EPSILON } else { 0.0 };
    name(symbol, weight * PRICE_OF_RISK - fee)
}

/// Uncorrelated names of 2 % volatility.
fn book(names: Vec<Name>, equity: f64) -> Problem {
    let risk = FactorModel::new(0, vec![], vec![4e-4; names.len()]).unwrap();
    let mut problem = Problem { names, risk: Some(risk), ..Problem::default() };
    problem.orders.equity = Some(equity);
    problem
}

fn short(symbol: &str, weight: f64, price: f64) -> Name {
    Name { price: Some(price), ..wants(symbol, weight) }
}

fn rounded(name: Name) -> (f64, Option<NameStatus>) {
    let mut problem = book(vec![name], 1e4);
    problem.orders.whole_share_shorts = true;
    let result = solve(&problem).unwrap().names.remove(0);
    (result.weight, result.status)
}

#[test]
fn a_short_is_rounded_to_the_fewer_shares_and_a_long_stays_as_it_is() {
    // Of 10,000 the short wants 1,240 and the long 1,000, in shares of 300: 4.13 and 3.33 of them.
    let mut problem = book(vec![short("A", -0.124, 300.0), short("B", 0.1, 300.0)], 1e4);
    problem.orders.whole_share_shorts = true;
    let answer = solve(&problem).unwrap();
    assert_eq!(answer.names[0].weight, -0.12, "four shares, not five");
    assert_eq!(answer.names[0].status, Some(NameStatus::RoundedToShares));
    assert!((answer.names[1].weight - 0.1).abs() < 1e-6 && answer.names[1].status.is_none());
    // Less than one share is none.
    assert_eq!(rounded(short("A", -0.029, 300.0)), (0.0, Some(NameStatus::RoundedToShares)));
}

#[test]
fn a_whole_number_of_shares_loses_none_to_the_arithmetic() {
    // 0.0169 · 10,000 / 13 is 12.999999999999998 in binary.
    let (shares, price): (f64, f64) = (13.0, 13.0);
    let cap = shares * price / 1e4;
    assert!(cap * 1e4 / price < shares);
    let at_its_cap = Name { min_weight: Some(-cap), ..short("A", -0.2, price) };
    assert_eq!(rounded(at_its_cap.clone()), (-cap, None));
    // Nor where another name is rounded, and the book is solved again.
    let mut problem = book(vec![at_its_cap, short("B", -0.124, 300.0)], 1e4);
    problem.orders.whole_share_shorts = true;
    let answer = solve(&problem).unwrap();
    assert_eq!((answer.names[0].weight, answer.names[1].weight), (-cap, -0.12));
}

#[test]
fn a_short_that_may_not_shrink_that_far_is_rounded_away_from_zero_or_said_to_be_fractional() {
    let held = |wanted: f64, max_trade: f64| Name {
        current_weight: -0.2,
        max_trade: Some(max_trade),
        ..short("A", wanted, 300.0)
    };
    // 6.83 shares; six of them, 0.18, are out of reach and seven, 0.21, are not.
    assert_eq!(rounded(held(-0.205, 0.011)), (-0.21, Some(NameStatus::RoundedToShares)));
    // Neither six nor seven: the order stays as it is, and says so.
    let (weight, status) = rounded(held(-0.203, 0.005));
    assert!((weight + 0.203).abs() < 1e-6, "{weight}");
    assert_eq!(status, Some(NameStatus::FractionalShort));
    // A short that is held at two thirds of a share and not traded is no order at all.
    assert_eq!(rounded(held(-0.2, 0.005)), (-0.2, None));
}

#[test]
fn an_order_below_the_least_notional_is_not_made_and_one_of_it_is() {
    // 500 of 100,000: half a per cent.
    let names = vec![
        wants("SMALL", 0.0049),
        wants("LARGE", 0.0051),
        Name { max_weight: Some(0.005), ..wants("EXACT", 0.1) },
        Name { current_weight: 0.1, ..wants("HELD", 0.104) },
        Name { current_weight: 0.1, ..wants("SOLD", 0.094) },
    ];
    let mut problem = book(names, 1e5);
    problem.orders.min_notional = Some(500.0);
    let answer = solve(&problem).unwrap();
    for (got, expected) in weights(&answer).into_iter().zip([0.0, 0.0051, 0.005, 0.1, 0.094]) {
        assert!((got - expected).abs() < 1e-6, "{got} for {expected}");
    }
    let held = Some(NameStatus::HeldBelowMinNotional);
    let statuses: Vec<_> = answer.names.iter().map(|name| name.status).collect();
    assert_eq!(statuses, [held, None, None, held, None]);
}

#[test]
fn the_smallest_positions_go_where_there_are_too_many_names() {
    let four = || vec![wants("A", 0.2), short("B", -0.4, 1.0), wants("C", 0.1), wants("D", 0.3)];
    for (limit, expected) in [
        (4, [0.2, -0.4, 0.1, 0.3]),
        (3, [0.2, -0.4, 0.0, 0.3]),
        (2, [0.0, -0.4, 0.0, 0.3]),
        (1, [0.0, -0.4, 0.0, 0.0]),
    ] {
        let mut problem = book(four(), 1e5);
        problem.orders.max_names = Some(limit);
        let answer = solve(&problem).unwrap();
        assert_eq!(answer.held, limit);
        for (name, expected) in answer.names.iter().zip(expected) {
            assert!((name.weight - expected).abs() < 1e-6, "{limit}: {} {}", name.symbol, name.weight);
            let emptied = (expected == 0.0).then_some(NameStatus::MaxNames);
            assert_eq!(name.status, emptied, "{limit}: {}", name.symbol);
        }
    }
}
