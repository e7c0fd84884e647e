//! Random problems of realistic scale, reproducible from their seed.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use kronos_allocation::{
    Allocation, AllocationError, CancelCheck, CashFloor, FactorModel, GroupLimit, Halt, Interval, Limits,
    Name, Problem, allocate,
};

/// SplitMix64 (Steele, Lea and Flood 2014).
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [low, high).
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Approximately standard normal: the sum of twelve uniforms less six.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform(0.0, 1.0)).sum::<f64>() - 6.0
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.uniform(0.0, 1.0) < probability
    }
}

pub fn never() -> CancelCheck {
    Arc::new(|| false)
}

pub fn solve(problem: &Problem) -> Result<Allocation, AllocationError> {
    allocate(problem, &never())
}

pub const SECTORS: [&str; 11] =
    ["comm", "disc", "energy", "fin", "health", "ind", "mat", "reit", "stap", "tech", "util"];

/// `n` names with a factor model of a market and six styles, a drifted book, and the default limits of the product.
pub fn random_problem(seed: u64, n: usize) -> Problem {
    let r = &mut Random(seed);
    let factors = 7;
    let mut exposures = Vec::new();
    let mut names = Vec::new();
    let held = (40.0 / n as f64).min(0.6);
    for i in 0..n {
        exposures.push(0.01 * (1.0 + 0.3 * r.normal()));
        exposures.extend((1..factors).map(|_| 0.003 * r.normal()));
        let shortable = r.chance(0.8);
        let current = if r.chance(held) { 0.02 * r.normal().clamp(-1.5, 2.0) } else { 0.0 };
        names.push(Name {
            symbol: format!("S{i:04}"),
            expected_return: 0.004 * r.normal(),
            current_weight: current,
            shortable: Some(shortable),
            halt: if r.chance(0.02) {
                Halt::Frozen
            } else if r.chance(0.02) {
                Halt::ReduceOnly
            } else {
                Halt::None
            },
            cost: r.uniform(2e-4, 2e-3),
            borrow_fee: r.uniform(0.0, 5e-4),
            max_trade: Some(r.uniform(0.005, 0.2)),
            groups: BTreeMap::from([("group_sector".into(), SECTORS[(r.bits() % 11) as usize].into())]),
            factors: BTreeMap::from([("factor_beta".into(), 1.0 + 0.3 * r.normal())]),
            price: Some(r.uniform(5.0, 500.0)),
            ..Name::default()
        });
    }
    let specific = (0..n).map(|_| r.uniform(0.008, 0.03).powi(2)).collect();
    let sector = GroupLimit { net: Interval::new(-0.15, 0.15), gross: Some(0.30) };
    Problem {
        names,
        risk: Some(FactorModel::new(factors, exposures, specific).unwrap()),
        limits: Limits {
            weight_bounds: Interval::new(-0.03, 0.05),
            gross: Some(1.5),
            net: Interval::new(-0.10, 0.30),
            cash: Some(CashFloor { reserve: 0.05, short_margin: 0.5 }),
            max_turnover: Some(0.15),
            groups: BTreeMap::from([("group_sector".into(), BTreeMap::from([("*".into(), sector)]))]),
            ..Limits::default()
        },
        ..Problem::default()
    }
}

/// A name with a forecast and nothing else.
pub fn name(symbol: &str, expected_return: f64) -> Name {
    Name { symbol: symbol.into(), expected_return, ..Name::default() }
}

pub fn weights(allocation: &Allocation) -> Vec<f64> {
    allocation.names.iter().map(|name| name.weight).collect()
}
