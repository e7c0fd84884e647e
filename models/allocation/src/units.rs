//! The unit of returns, of the risk model and of factors: a problem in unusual ones is solved in usual ones.
//!
//! The program has tolerances, a curvature that picks one answer among equals and a least fee. All are absolute: small beside
//! volatilities of 0.02 and forecasts of 0.004, and larger than everything else where returns are 1e-10. So where the typical
//! size of a problem's numbers is not [`USUAL`], they are divided by a power of two, which is exact, and what comes of them is
//! multiplied by it. One number far above all others makes the rest of the problem rounding: it is refused by name.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::problem::{Method, Problem};
use crate::rule::{Clause, Rule, Side};
use crate::{Allocation, AllocationError, FactorModel, Interval, Scenarios};

/// Typical sizes that need no other unit: from those of an hour to those of a year and far beyond. At the lower end, 2⁻¹¹, the least fee is
/// 0.2 % of a forecast.
const USUAL: Range<f64> = 0.00048828125..8.0;

/// Power of two that the typical size of any other problem is brought to.
const TYPICAL: i32 = -8;

/// Greatest exposures to a factor that need no other unit.
const USUAL_EXPOSURE: Range<f64> = 0.0009765625..1024.0;

/// How many times what is typical among the names one number of one name may be: beyond, the solver's rounding of it is no longer
/// small beside the others.
pub const GREATEST_PROPORTION: f64 = 1e5;

/// The first of some sizes, one of each name, that is more than [`GREATEST_PROPORTION`] times what is typical of them.
pub fn out_of_proportion(sizes: &[f64]) -> Option<usize> {
    let typical = typical(sizes);
    sizes.iter().position(|size| is_far_above(*size, typical))
}

fn is_far_above(value: f64, typical: f64) -> bool {
    value.abs() > GREATEST_PROPORTION * typical
}

/// What the numbers of a problem are divided by: powers of two.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Units {
    /// Volatilities and scenarios.
    risk: f64,
    /// Forecasts, costs, fees and the objective.
    objective: f64,
    /// Exposures to the factors of limits, where not 1.
    factors: BTreeMap<String, f64>,
}

impl Units {
    /// The units of a problem that was validated.
    ///
    /// # Errors
    /// [`AllocationError::OutOfProportion`] for a number that is too far above those of the other names.
    pub fn of(problem: &Problem) -> Result<Self, AllocationError> {
        let by_tail = problem.method == Method::Cvar;
        let deviations: Vec<f64> = match (&problem.risk, &problem.scenarios) {
            (_, Some(scenarios)) if by_tail => scenarios.deviations(),
            (Some(risk), _) => (0..problem.names.len()).map(|i| risk.variance_of(i).sqrt()).collect(),
            _ => vec![0.0; problem.names.len()],
        };
        let forecasts = matches!(problem.method, Method::MeanVariance | Method::Cvar);
        let price =
            |deviation: f64| problem.risk_aversion * if by_tail { deviation } else { deviation * deviation };
        let objective: Vec<f64> = problem
            .names
            .iter()
            .zip(&deviations)
            .map(|(name, &deviation)| {
                let forecast = if forecasts { name.expected_return.abs() } else { 0.0 };
                forecast + name.cost + name.borrow_fee + price(deviation)
            })
            .collect();
        let (risk, objective) = (typical(&deviations), typical(&objective));
        for (name, deviation) in problem.names.iter().zip(deviations) {
            let forecast = if forecasts { name.expected_return } else { 0.0 };
            let numbers = [
                ("risk", deviation, risk),
                ("expected_return", forecast, objective),
                ("cost", name.cost, objective),
                ("borrow_fee", name.borrow_fee, objective),
            ];
            let far = numbers.into_iter().find(|(_, value, typical)| is_far_above(*value, *typical));
            if let Some((field, value, _)) = far {
                let what = format!("{field} of \"{}\"", name.symbol);
                return Err(AllocationError::OutOfProportion { what, value, times: GREATEST_PROPORTION });
            }
        }
        Ok(Self {
            // Half of the exponents there are, for its square is taken.
            risk: unit(risk, USUAL, TYPICAL, 500),
            objective: unit(objective, USUAL, TYPICAL, 1000),
            factors: factor_units(problem),
        })
    }

    /// Whether the problem is solved as it is.
    pub fn are_usual(&self) -> bool {
        self.risk == 1.0 && self.objective == 1.0 && self.factors.is_empty()
    }

    /// The same problem in these units.
    pub fn state(&self, problem: &Problem) -> Problem {
        let mut stated = problem.clone();
        for name in &mut stated.names {
            for number in [&mut name.expected_return, &mut name.cost, &mut name.borrow_fee] {
                *number /= self.objective;
            }
            for (key, unit) in &self.factors {
                name.factors.entry(key.clone()).and_modify(|exposure| *exposure /= unit);
            }
        }
        for (key, unit) in &self.factors {
            let over = |end: Option<f64>| end.map(|end| end / unit);
            stated.limits.factors.entry(key.clone()).and_modify(|interval| {
                *interval = Interval { lower: over(interval.lower), upper: over(interval.upper) };
            });
        }
        let by_tail = problem.method == Method::Cvar;
        let of_risk = if by_tail { self.risk } else { self.risk * self.risk };
        stated.risk_aversion *= of_risk / self.objective;
        stated.risk = stated.risk.map(|risk: FactorModel| risk.scaled((self.risk * self.risk).recip()));
        stated.scenarios = stated.scenarios.map(|scenarios: Scenarios| scenarios.scaled(self.risk.recip()));
        stated.limits.target_vol = stated.limits.target_vol.map(|limit| limit / self.risk);
        stated.relaxation = stated.relaxation.scaled(self.objective.recip());
        stated
    }

    /// What came of the stated problem, in the units of the given one.
    pub fn restore(&self, mut book: Allocation) -> Allocation {
        for number in [&mut book.objective, &mut book.expected_return, &mut book.cost] {
            *number *= self.objective;
        }
        book.residuals.dual *= self.objective;
        book.residuals.gap *= self.objective;
        for risk in [&mut book.volatility, &mut book.cvar].into_iter().flatten() {
            *risk *= self.risk;
        }
        book.conflict = self.clauses(book.conflict);
        // A binding rule goes by its label.
        let mut prices = BTreeMap::new();
        for result in &mut book.rules {
            let unit = self.of_rule(&result.clause.rule);
            prices.insert(result.clause.rule.to_string(), self.objective / unit);
            result.clause = self.clause(result.clause.clone());
            for number in [&mut result.value, &mut result.slack, &mut result.violation] {
                *number *= unit;
            }
            result.shadow_price_bps *= self.objective / unit;
        }
        for name in &mut book.names {
            name.cost *= self.objective;
            for binding in &mut name.bindings {
                binding.shadow_price_bps *= prices.get(&binding.rule).unwrap_or(&self.objective);
            }
        }
        book
    }

    /// Rules with their bounds in the units of the given problem.
    pub fn clauses(&self, clauses: Vec<Clause>) -> Vec<Clause> {
        clauses.into_iter().map(|clause| self.clause(clause)).collect()
    }

    fn clause(&self, clause: Clause) -> Clause {
        let unit = self.of_rule(&clause.rule);
        let side = match clause.side {
            Side::Min(bound) => Side::Min(bound * unit),
            Side::Max(bound) => Side::Max(bound * unit),
            Side::Equal(bound) => Side::Equal(bound * unit),
            Side::Whole => Side::Whole,
        };
        Clause { side, ..clause }
    }

    /// The unit of what a rule limits.
    fn of_rule(&self, rule: &Rule) -> f64 {
        match rule {
            Rule::TargetVol => self.risk,
            Rule::Factor { key } => self.factors.get(key).copied().unwrap_or(1.0),
            _ => 1.0,
        }
    }
}

/// The upper median of what is not zero; 0 of nothing. Of two it is the larger: beside a stock, a peg is the one without risk.
fn typical(sizes: &[f64]) -> f64 {
    let mut sizes: Vec<f64> = sizes.iter().copied().filter(|size| *size > 0.0).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.get(sizes.len() / 2).copied().unwrap_or(0.0)
}

/// The power of two that brings a size to 2^`to`, at most 2^±`most`; 1 where it is usual or nothing.
fn unit(size: f64, usual: Range<f64>, to: i32, most: i32) -> f64 {
    if size == 0.0 || usual.contains(&size) {
        return 1.0;
    }
    // Its exponent, read off the bits of a number that is not subnormal: a logarithm is rounded.
    let exponent = (size.to_bits() >> 52) as i32 - 1023;
    2f64.powi((exponent - to).clamp(-most, most))
}

fn factor_units(problem: &Problem) -> BTreeMap<String, f64> {
    let mut units = BTreeMap::new();
    for key in problem.limits.factors.keys() {
        let exposures = problem.names.iter().filter_map(|name| name.factors.get(key));
        let unit =
            unit(exposures.fold(0.0, |most, exposure| exposure.abs().max(most)), USUAL_EXPOSURE, 0, 1000);
        if unit != 1.0 {
            units.insert(key.clone(), unit);
        }
    }
    units
}
