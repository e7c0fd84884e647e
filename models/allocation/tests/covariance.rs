//! Covariance estimates: known answers, gaps, positive definiteness.
#![allow(clippy::unwrap_used)]

mod cases;

use cases::Random;
use kronos_allocation::{AllocationError, Estimator, FactorModel, HistoryStatus, ReturnHistory};

const ALL: [Estimator; 3] = [
    Estimator::LedoitWolf,
    Estimator::Exponential { half_life: 30.0, shrinkage: 0.1 },
    Estimator::Factors { count: None },
];

/// One market and own noise; `gap` decides which returns are missing.
fn history(dates: usize, names: usize, gap: impl Fn(usize, usize) -> bool) -> ReturnHistory {
    let r = &mut Random(42);
    let mut returns = Vec::new();
    for date in 0..dates {
        let market = 0.01 * r.normal();
        for name in 0..names {
            let own = 0.005 * (1.0 + name as f64 / names as f64) * r.normal();
            returns.push((!gap(date, name)).then_some(market + own));
        }
    }
    ReturnHistory::new(names, returns).unwrap()
}

fn covariance(model: &FactorModel, names: usize) -> Vec<Vec<f64>> {
    let unit = |i: usize| (0..names).map(|j| f64::from(u8::from(i == j))).collect::<Vec<f64>>();
    (0..names).map(|i| model.covariance_with(&unit(i))).collect()
}

#[test]
fn every_estimate_is_positive_definite_and_near_the_truth() {
    for (dates, names) in [(250, 20), (60, 100), (21, 40)] {
        for estimator in ALL {
            let model = history(dates, names, |_, _| false).estimate(estimator).unwrap().model;
            let dense: Vec<f64> = covariance(&model, names).concat();
            assert!(FactorModel::from_covariance(&dense, names).is_ok(), "{estimator:?} {dates}x{names}");
            // An equal-weight book holds the market's 1 % volatility and little else.
            let volatility = model.variance(&vec![1.0 / names as f64; names]).sqrt();
            assert!((0.006..0.014).contains(&volatility), "{estimator:?} {dates}x{names}: {volatility}");
        }
    }
}

#[test]
fn exponential_weights_and_factors_keep_each_variance() {
    let names = 8;
    let full = history(200, names, |_, _| false);
    let factors = covariance(&full.estimate(Estimator::Factors { count: Some(2) }).unwrap().model, names);
    // With equal weights (an endless half-life) the diagonal is the plain variance, which factors keep too.
    let equal = Estimator::Exponential { half_life: 1e12, shrinkage: 0.5 };
    let equal = covariance(&full.estimate(equal).unwrap().model, names);
    for i in 0..names {
        assert!((factors[i][i] / equal[i][i] - 1.0).abs() < 1e-9);
        assert!(factors[i][(i + 1) % names] > 0.5 * equal[i][i] * 0.5);
    }
}

#[test]
fn a_volatile_spell_weighs_more_while_it_is_recent() {
    let returns = |recent: bool| {
        let r = &mut Random(7);
        let loud = |date: usize| if (date >= 150) == recent { 0.03 } else { 0.01 };
        (0..200).map(|date| Some(loud(date) * r.normal())).collect()
    };
    let estimate = |recent| {
        let history = ReturnHistory::new(1, returns(recent)).unwrap();
        let estimator = Estimator::Exponential { half_life: 20.0, shrinkage: 0.1 };
        history.estimate(estimator).unwrap().model.variance_of(0).sqrt()
    };
    // The last 50 dates carry 1 - 2^-2.5 = 82 % of the weight: 2.8 % and 1.6 %, give or take a tenth by chance.
    assert!((0.024..0.032).contains(&estimate(true)) && (0.013..0.019).contains(&estimate(false)));
}

#[test]
fn gaps_keep_the_variance_and_shrink_the_correlation() {
    // The second name misses every other date; the third is new; the fourth never moves; the fifth has nothing.
    let gap = |date: usize, name: usize| match name {
        1 => date.is_multiple_of(2),
        2 => date < 235,
        4 => true,
        _ => false,
    };
    let mut sparse = history(250, 6, gap);
    let flat: Vec<Option<f64>> = {
        let json = serde_json::to_value(&sparse).unwrap();
        let values: Vec<Option<f64>> = serde_json::from_value(json["returns"].clone()).unwrap();
        values.iter().enumerate().map(|(k, r)| if k % 6 == 3 { Some(0.0) } else { *r }).collect()
    };
    sparse = ReturnHistory::new(6, flat).unwrap();
    for estimator in ALL {
        let estimate = sparse.estimate(estimator).unwrap();
        assert_eq!(
            estimate.history,
            [
                HistoryStatus::Full,
                HistoryStatus::Partial { dates: 125 },
                HistoryStatus::Borrowed { dates: 15 },
                HistoryStatus::Constant { dates: 250 },
                HistoryStatus::Borrowed { dates: 0 },
                HistoryStatus::Full,
            ]
        );
        let c = covariance(&estimate.model, 6);
        assert!(FactorModel::from_covariance(&c.concat(), 6).is_ok(), "{estimator:?}");
        let correlation = |i: usize, j: usize| c[i][j] / (c[i][i] * c[j][j]).sqrt();
        assert!((0.6..1.6).contains(&(c[1][1] / c[0][0])), "{estimator:?}");
        assert!(correlation(0, 1) < correlation(0, 5) && correlation(0, 1) > 0.2, "{estimator:?}");
        // A borrowed risk is never less than that of the names it is borrowed from.
        assert!(c[2][2] >= c[0][0].min(c[5][5]) && correlation(2, 0) > 0.2, "{estimator:?}");
    }
}

#[test]
fn nothing_to_estimate_from_is_an_error() {
    let short = history(10, 3, |_, _| false);
    for estimator in ALL {
        assert_eq!(
            short.estimate(estimator).unwrap_err(),
            AllocationError::ShortHistory { needed: 20, got: 10 }
        );
    }
    assert!(ReturnHistory::new(3, vec![Some(0.0); 7]).is_err());
    let bad = Estimator::Exponential { half_life: 0.0, shrinkage: 0.1 };
    assert!(history(30, 2, |_, _| false).estimate(bad).is_err());
}

#[test]
fn scenarios_fill_gaps_with_the_mean_of_the_date() {
    let history = ReturnHistory::new(
        3,
        vec![Some(0.01), None, Some(0.03), None, None, None, Some(1.0), Some(2.0), Some(3.0)],
    );
    let scenarios = history.unwrap().scenarios(1).unwrap();
    let rows: Vec<Vec<f64>> = scenarios.rows().map(<[f64]>::to_vec).collect();
    assert_eq!(rows, [vec![0.01, 0.02, 0.03], vec![1.0, 2.0, 3.0]]);
}

/// Of returns of 10 %, -50 % and 100 % two windows of two dates remain: 1.1 x 0.5 - 1 and 0.5 x 2 - 1.
#[test]
fn scenarios_over_several_dates_are_compounded() {
    let history = ReturnHistory::new(1, [0.1, -0.5, 1.0].map(Some).to_vec()).unwrap();
    let returns: Vec<f64> = history.scenarios(2).unwrap().rows().flatten().copied().collect();
    assert_eq!(returns, [1.1 * 0.5 - 1.0, 0.5 * 2.0 - 1.0]);
    assert_eq!(history.scenarios(4).unwrap_err(), AllocationError::ShortHistory { needed: 4, got: 3 });
    assert!(matches!(history.scenarios(0), Err(AllocationError::OutOfRange { .. })));
}

#[test]
fn returns_that_never_vary_are_told_from_few() {
    let flat = ReturnHistory::new(1, vec![Some(0.0); 60]).unwrap();
    assert_eq!(
        flat.estimate(Estimator::LedoitWolf).unwrap_err(),
        AllocationError::ConstantHistory { dates: 60 }
    );
    let returns = (0..60).flat_map(|date| [Some(0.0), Some(0.01 * f64::from(date).sin())]).collect();
    let history = ReturnHistory::new(2, returns).unwrap().estimate(Estimator::LedoitWolf).unwrap().history;
    assert_eq!(history, [HistoryStatus::Constant { dates: 60 }, HistoryStatus::Full]);
}

/// Nothing ever moves but one date: with the weight w of that date the variance is w·(1 − w) times its square.
#[test]
fn weights_halve_with_every_half_life_into_the_past() {
    let variance = |moved: usize, half_life: f64| {
        let returns = (0..20).map(|date| Some(if date == moved { 0.01 } else { 0.0 })).collect();
        let history = ReturnHistory::new(1, returns).unwrap();
        let estimator = Estimator::Exponential { half_life, shrinkage: 0.5 };
        history.estimate(estimator).unwrap().model.variance_of(0)
    };
    let all = 2.0 * (1.0 - 0.5_f64.powi(20));
    for (moved, age) in [(19, 0), (18, 1), (10, 9)] {
        let weight = 0.5_f64.powi(age) / all;
        let expected = weight * (1.0 - weight) * 1e-4;
        assert!((variance(moved, 1.0) / expected - 1.0).abs() < 1e-9, "{moved}");
    }
    let equal = 0.05 * 0.95 * 1e-4;
    assert!((variance(0, 1e12) / equal - 1.0).abs() < 1e-9);
}

/// Five names that vary by 1 to 5, and one without any history: it moves with a fifth of each, a variance of 15/25, and by
/// the upper quartile of them on its own.
#[test]
fn a_name_without_history_is_taken_for_a_risky_one() {
    let estimator = Estimator::Exponential { half_life: 1e12, shrinkage: 1.0 };
    let mut returns = Vec::new();
    for date in 0..20 {
        let sign = if date % 2 == 0 { 0.01 } else { -0.01 };
        returns.push(None);
        returns.extend([3.0_f64, 1.0, 5.0, 2.0, 4.0].map(|variance| Some(sign * variance.sqrt())));
    }
    let estimate = ReturnHistory::new(6, returns).unwrap().estimate(estimator).unwrap();
    assert_eq!(estimate.history[0], HistoryStatus::Borrowed { dates: 0 });
    for (name, expected) in [4.0 + 0.6, 3.0, 1.0, 5.0, 2.0, 4.0].into_iter().enumerate() {
        let got = estimate.model.variance_of(name);
        assert!((got / (expected * 1e-4) - 1.0).abs() < 1e-9, "{name}: {got}");
    }
}
