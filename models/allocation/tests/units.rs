//! The unit of returns, of prices and of exposures does not matter to the weights.
#![allow(clippy::unwrap_used, clippy::panic)]

mod cases;

use cases::{name, random_problem, solve, weights};
use kronos_allocation::{
    Allocation, AllocationError, Estimator, FactorModel, Interval, Limits, Method, Name, OnInfeasible,
    Problem, ReturnHistory, Scenarios, Status,
};
use std::collections::BTreeMap;

/// A problem with a limit of every kind that has a unit.
fn problem(seed: u64) -> Problem {
    let mut problem = random_problem(seed, 30);
    problem.limits.target_vol = Some(0.004);
    problem.limits.factors = BTreeMap::from([("factor_beta".into(), Interval::new(-0.1, 0.05))]);
    problem
}

/// The same with returns, costs and risk in another unit; what risk is worth is then worth as much less.
fn in_unit(problem: &Problem, unit: f64) -> Problem {
    let mut other = problem.clone();
    for name in &mut other.names {
        name.expected_return *= unit;
        name.cost *= unit;
        name.borrow_fee *= unit;
    }
    other.risk_aversion /= unit;
    other.risk = other.risk.map(|risk| risk.scaled(unit * unit));
    other.limits.target_vol = other.limits.target_vol.map(|limit| limit * unit);
    other
}

/// Greatest difference of two books' weights.
fn apart(a: &Allocation, b: &Allocation) -> f64 {
    weights(a).iter().zip(weights(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn near(got: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((got - expected).abs() <= tolerance * expected.abs().max(1e-3), "{what}: {got} {expected}");
}

/// Weights within a thousandth of the equity, everything in a unit in that unit within a thousandth, shadow prices within a hundredth.
#[test]
fn returns_in_any_unit_give_the_same_book() {
    for seed in 0..6 {
        let given = problem(seed);
        let expected = solve(&given).unwrap();
        for power in -12..=12 {
            let unit = 10f64.powi(power);
            let book = solve(&in_unit(&given, unit)).unwrap();
            let label = format!("seed {seed}, 1e{power}");
            assert_eq!(book.status, Status::Optimal, "{label}");
            assert!(apart(&book, &expected) < 1e-3, "{label}: {:e}", apart(&book, &expected));
            for (got, expected) in [
                (book.expected_return, expected.expected_return),
                (book.cost, expected.cost),
                (book.volatility.unwrap(), expected.volatility.unwrap()),
                (book.objective, expected.objective),
            ] {
                near(got / unit, expected, 1e-3, &label);
            }
            for (got, expected) in book.rules.iter().zip(&expected.rules) {
                let vol = got.clause.to_string().starts_with("target_vol");
                let own = if vol { unit } else { 1.0 };
                let room = if vol { 1e-5 } else { 1e-3 };
                assert!(
                    (got.value / own - expected.value).abs() < room,
                    "{label}, {}: {} {}",
                    got.clause,
                    got.value,
                    expected.value
                );
                let price = got.shadow_price_bps * own / unit;
                let room = 0.05 + 0.01 * expected.shadow_price_bps.abs();
                assert!(
                    (price - expected.shadow_price_bps).abs() < room,
                    "{label}, {}: {price} {}",
                    got.clause,
                    expected.shadow_price_bps
                );
                if vol {
                    near(bound(&got.clause) / unit, 0.004, 1e-12, &label);
                }
            }
        }
    }
}

fn bound(clause: &kronos_allocation::Clause) -> f64 {
    match clause.side {
        kronos_allocation::Side::Max(bound) => bound,
        _ => f64::NAN,
    }
}

#[test]
fn units_a_power_of_two_apart_give_the_same_bits_outside_of_the_usual() {
    let given = problem(3);
    let small = solve(&in_unit(&given, 2f64.powi(-30))).unwrap();
    for power in [-31, -40, -100, 30, 40] {
        let book = solve(&in_unit(&given, 2f64.powi(power))).unwrap();
        assert_eq!(weights(&book), weights(&small), "2^{power}");
    }
}

/// Methods without a forecast know no unit of risk at all; scenarios have that of returns.
#[test]
fn risk_in_any_unit_gives_the_same_book() {
    for method in [Method::MinVariance, Method::RiskParity, Method::Cvar] {
        let at = |unit: f64| {
            let mut given = random_problem(5, 8);
            for name in &mut given.names {
                *name = Name {
                    symbol: name.symbol.clone(),
                    expected_return: name.expected_return * unit,
                    ..Name::default()
                };
            }
            let returns: Vec<f64> =
                (0..60 * 8).map(|i| 0.02 * f64::sin(f64::from(i * i % 97)) * unit).collect();
            given.scenarios = Some(Scenarios::new(8, returns).unwrap());
            given.risk = given.risk.map(|risk| risk.scaled(unit * unit));
            given.method = method;
            given.limits = Limits {
                weight_bounds: Interval::new(0.0, 0.4),
                net: Interval::new(1.0, 1.0),
                ..Limits::default()
            };
            solve(&given).unwrap()
        };
        let expected = at(1.0);
        for power in -12..=12 {
            let book = at(10f64.powi(power));
            let apart = apart(&book, &expected);
            // The tail of scenarios is flat where two of them change places.
            assert!(
                apart < if method == Method::Cvar { 1e-3 } else { 1e-5 },
                "{method:?}, 1e{power}: {apart:e}"
            );
        }
    }
}

#[test]
fn exposures_to_a_factor_in_any_unit_are_limited_alike() {
    let at = |unit: f64| {
        let mut given = problem(2);
        for name in &mut given.names {
            name.factors.values_mut().for_each(|exposure| *exposure *= unit);
        }
        given.limits.factors =
            BTreeMap::from([("factor_beta".into(), Interval::new(-0.1 * unit, 0.05 * unit))]);
        solve(&given).unwrap()
    };
    let expected = at(1.0);
    for power in -12..=12 {
        let unit = 10f64.powi(power);
        let book = at(unit);
        assert!(apart(&book, &expected) < 1e-5, "1e{power}: {:e}", apart(&book, &expected));
        let value = |book: &Allocation| {
            book.rules.iter().find(|r| r.clause.to_string().starts_with("factor")).unwrap().value
        };
        near(value(&book) / unit, value(&expected), 1e-4, &format!("1e{power}"));
    }
}

/// Shares are what a weight buys, whatever the currency.
#[test]
fn prices_and_equity_in_any_currency_are_rounded_to_the_same_shares() {
    let at = |unit: f64| {
        let mut given = problem(1);
        given.names.iter_mut().for_each(|name| name.price = name.price.map(|price| price * unit));
        given.orders.equity = Some(1e6 * unit);
        given.orders.min_notional = Some(500.0 * unit);
        given.orders.whole_share_shorts = true;
        solve(&given).unwrap()
    };
    let expected = at(1.0);
    for power in -12..=12 {
        let book = at(10f64.powi(power));
        assert!(apart(&book, &expected) < 1e-9, "1e{power}: {:e}", apart(&book, &expected));
    }
}

#[test]
fn a_conflict_is_told_in_the_unit_it_was_asked_in() {
    let mut given = problem(0);
    given.names.iter_mut().for_each(|name| *name = cases::name(&name.symbol, name.expected_return));
    given.limits = Limits { target_vol: Some(1e-4), net: Interval::new(0.3, 0.3), ..Limits::default() };
    given = in_unit(&given, 1e-10);
    let Err(AllocationError::Infeasible { conflict }) = solve(&given) else { panic!("no conflict") };
    let told: Vec<String> = conflict.iter().map(ToString::to_string).collect();
    assert!(told.contains(&format!("target_vol {}", given.limits.target_vol.unwrap())), "{told:?}");
    given.on_infeasible = OnInfeasible::Report;
    assert_eq!(solve(&given).unwrap().conflict, conflict);
}

/// One forecast up to 100,000 times the others leaves them where they would be; beyond, it is named.
#[test]
fn one_number_far_above_the_others_is_taken_or_named() {
    // Without the first name, whose weight its bound decides: w = (r - λ)/(γ σ²) with the sum of 0.9 left over.
    let book = |forecast: f64| {
        let names = vec![name("A", forecast), name("B", 0.004), name("C", 0.006), name("D", 0.005)];
        let risk = FactorModel::new(0, vec![], vec![4e-4; 4]).unwrap();
        let limits = Limits {
            weight_bounds: Interval::new(0.0, 0.1),
            net: Interval::new(1.0, 1.0),
            ..Limits::default()
        };
        let mut given = Problem { names, risk: Some(risk), limits, risk_aversion: 5.0, ..Problem::default() };
        given.names[1..].iter_mut().for_each(|name| name.max_weight = Some(1.0));
        solve(&given)
    };
    for forecast in [0.01, 1.0, 100.0, 400.0] {
        let got = weights(&book(forecast).unwrap());
        for (got, expected) in got.into_iter().zip([0.1, 0.0, 0.7, 0.2]) {
            assert!((got - expected).abs() < 1e-4, "{forecast}: {got} {expected}");
        }
    }
    // All alike large: their ratio decides, and risk has no say.
    let names = [("A", 1e300), ("B", 2e300), ("C", -1e300)].map(|(symbol, forecast)| Name {
        max_weight: Some(0.75),
        min_weight: Some(0.0),
        ..name(symbol, forecast)
    });
    let risk = FactorModel::new(0, vec![], vec![4e-4; 3]).unwrap();
    let limits = Limits { net: Interval::new(1.0, 1.0), ..Limits::default() };
    let given = Problem { names: names.to_vec(), risk: Some(risk), limits, ..Problem::default() };
    for (got, expected) in weights(&solve(&given).unwrap()).into_iter().zip([0.25, 0.75, 0.0]) {
        assert!((got - expected).abs() < 1e-6, "{got} {expected}");
    }
    for forecast in [1e5, 1e8, -1e9, 1e300] {
        let error = book(forecast).unwrap_err().to_string();
        assert!(
            error.starts_with("expected_return of \"A\" is") && error.contains("more than 100000 times"),
            "{error}"
        );
    }
}

#[test]
fn one_volatility_far_above_the_others_is_taken_or_named() {
    // Inverse variance among names that are independent.
    let book = |deviation: f64| {
        let names = vec![name("A", 0.0), name("B", 0.0), name("C", 0.0)];
        let risk = FactorModel::new(0, vec![], vec![deviation * deviation, 1e-4, 3e-4]).unwrap();
        let limits = Limits {
            weight_bounds: Interval::new(0.0, 1.0),
            net: Interval::new(1.0, 1.0),
            ..Limits::default()
        };
        let method = Method::MinVariance;
        solve(&Problem { names, risk: Some(risk), limits, method, ..Problem::default() })
    };
    for deviation in [0.01, 1.0, 30.0, 900.0] {
        let inverse = [1.0 / (deviation * deviation), 1e4, 1e4 / 3.0];
        let got = weights(&book(deviation).unwrap());
        for (got, expected) in got.into_iter().zip(inverse.map(|own| own / inverse.iter().sum::<f64>())) {
            assert!((got - expected).abs() < 1e-4, "{deviation}: {got} {expected}");
        }
    }
    // A peg whose returns are rounding is the name without risk, not the measure of the other.
    let names = vec![name("PEG", 0.0), name("STOCK", 0.0)];
    let risk = FactorModel::new(0, vec![], vec![1e-36, 1e-4]).unwrap();
    let limits =
        Limits { weight_bounds: Interval::new(0.0, 1.0), net: Interval::new(1.0, 1.0), ..Limits::default() };
    let pair = Problem { names, risk: Some(risk), limits, method: Method::MinVariance, ..Problem::default() };
    let got = weights(&solve(&pair).unwrap());
    assert!((got[0] - 1.0).abs() < 1e-4 && got[1].abs() < 1e-4, "{got:?}");
    let error = book(1e4).unwrap_err().to_string();
    assert!(error.starts_with("risk of \"A\" is 1e4, more than 100000 times"), "{error}");
}

/// A coin from 1e-9 to 0.1 on one of sixty dates: every estimator either has weights or names it.
#[test]
fn one_return_among_sane_ones_ends_in_weights_or_in_its_name() {
    for estimator in [
        Estimator::LedoitWolf,
        Estimator::Exponential { half_life: 20.0, shrinkage: 0.1 },
        Estimator::Factors { count: None },
    ] {
        for outlier in [1.0, 1e2, 1e4, 1e6, 1e8] {
            let ret = |i: i32| Some(0.01 * f64::sin(f64::from(i * i % 89)));
            let mut returns: Vec<Option<f64>> = (0..180).map(ret).collect();
            returns[60] = Some(outlier);
            let risk = ReturnHistory::new(3, returns).unwrap().estimate(estimator).unwrap().model;
            for method in [Method::MinVariance, Method::RiskParity, Method::MeanVariance] {
                let names = vec![name("A", 0.001), name("B", 0.002), name("C", 0.001)];
                let limits = Limits {
                    weight_bounds: Interval::new(0.0, 1.0),
                    net: Interval::new(1.0, 1.0),
                    ..Limits::default()
                };
                let given = Problem { names, risk: Some(risk.clone()), limits, method, ..Problem::default() };
                match solve(&given) {
                    Ok(book) => assert!((book.net - 1.0).abs() < 1e-6, "{estimator:?} {outlier} {method:?}"),
                    Err(error) => {
                        let error = error.to_string();
                        assert!(
                            error.starts_with("risk of \"A\" is"),
                            "{estimator:?} {outlier} {method:?}: {error}"
                        );
                    }
                }
            }
        }
    }
}
