//! A validated problem and the programs solved for it.

use std::cell::Cell;
use std::sync::Arc;

use crate::bounds::{HardRules, WeightBox};
use crate::column_generation;
use crate::conic::{CancelCheck, ConicPoint, OBJECTIVE_SCALE, Outcome};
use crate::problem::{DEFAULT_CVAR_LEVEL, Method, Name, Problem};
use crate::program::{Goal, Objective, Parts, Program, assemble};
use crate::risk::{FactorModel, Scenarios};
use crate::risk_parity::risk_parity_target;
use crate::soft::{Body, SoftRow, one_way_turnover, soft_rows, weight_value};
use crate::{AllocationError, Rule};

/// Largest violation of any rule, in weight, that a returned book may have.
pub(crate) const RULE_TOLERANCE: f64 = 1e-6;

/// Added to every borrow fee where returns count, so that no name is held long and short at once. Where only risk counts,
/// the program's curvature alone does that, and a fee would bend the book away from equal or least risk.
const BORROW_EPSILON: f64 = 1e-6;

/// Distances below this, to the current weight, to zero or to a cap, are the solver's rounding.
pub(crate) const DUST: f64 = 1e-7;

/// Number of names with a weight.
pub(crate) fn held(weights: &[f64]) -> usize {
    weights.iter().filter(|w| **w != 0.0).count()
}

/// A validated problem in canonical order.
pub(crate) struct Book<'a> {
    pub problem: &'a Problem,
    /// Position in the problem of each canonical name.
    pub order: Vec<usize>,
    pub names: Vec<&'a Name>,
    pub boxes: Vec<WeightBox>,
    pub rows: Vec<SoftRow>,
    pub risk: Option<FactorModel>,
    pub scenarios: Option<Scenarios>,
    pub objective: Objective,
    pub cancel: CancelCheck,
    pub solves: Cell<u32>,
    pub iterations: Cell<u32>,
}

/// A solved program with its weights.
pub(crate) struct Solved {
    pub weights: Vec<f64>,
    pub program: Program,
    pub point: ConicPoint,
}

impl<'a> Book<'a> {
    /// Puts the names of a validated problem in order and lays out its rules.
    pub fn prepare(problem: &'a Problem, cancel: &CancelCheck) -> Result<Self, AllocationError> {
        let mut order: Vec<usize> = (0..problem.names.len()).collect();
        order.sort_by(|&a, &b| problem.names[a].symbol.cmp(&problem.names[b].symbol));
        let names: Vec<&Name> = order.iter().map(|&i| &problem.names[i]).collect();
        let boxes: Vec<WeightBox> =
            names.iter().map(|name| WeightBox::new(problem, name, HardRules::ALL)).collect();
        let risk = problem.risk.as_ref().map(|risk| risk.permuted(&order));
        let scenarios = problem.scenarios.as_ref().map(|scenarios| scenarios.permuted(&order));
        let objective = objective(problem, &names, &boxes, risk.as_ref(), cancel)?;
        Ok(Self {
            rows: soft_rows(problem, &names, &boxes),
            problem,
            order,
            names,
            boxes,
            risk,
            scenarios,
            objective,
            cancel: Arc::clone(cancel),
            solves: Cell::new(0),
            iterations: Cell::new(0),
        })
    }

    pub fn parts<'b>(&'b self, boxes: &'b [WeightBox]) -> Parts<'b> {
        Parts { boxes, rows: &self.rows, risk: self.risk.as_ref(), scenarios: self.scenarios.as_ref() }
    }

    /// The optimum with soft rules broken at their prices.
    pub fn relax(&self, boxes: &[WeightBox]) -> Result<Solved, AllocationError> {
        self.run(boxes, Goal::Elastic(&self.objective, self.price_factor()))?
            .map_err(|status| AllocationError::Solver { status })
    }

    /// Factor on all relaxation prices that keeps a unit of any soft rule dearer than the return it could buy.
    fn price_factor(&self) -> f64 {
        let held: Vec<f64> = self.boxes.iter().map(|b| b.current).collect();
        let risk = self.risk.as_ref().filter(|_| self.objective.cvar_level.is_none());
        let marginal_risk = risk.map_or_else(|| vec![0.0; held.len()], |risk| risk.covariance_with(&held));
        let o = &self.objective;
        let steepest = (0..held.len())
            .map(|i| (o.reward[i] - o.risk_aversion * marginal_risk[i]).abs() + o.costs[i] + o.borrow_fees[i])
            .fold(0.0, f64::max);
        let least_price =
            self.rows.iter().map(|row| row.price).filter(|p| *p > 0.0).fold(f64::INFINITY, f64::min);
        // A unit of turnover pays for a unit bought and a unit sold, each worth up to `steepest` either way.
        (4.0 * steepest * OBJECTIVE_SCALE / least_price).max(1.0)
    }

    /// Solves for `goal` in `boxes`; the inner error is the status of a solver that found no optimum.
    pub fn run(
        &self,
        boxes: &[WeightBox],
        goal: Goal<'_>,
    ) -> Result<Result<Solved, String>, AllocationError> {
        let program = assemble(self.parts(boxes), goal);
        self.solves.set(self.solves.get() + 1);
        let outcome = match goal {
            Goal::Optimise(_) => column_generation::solve(&program, boxes, &self.cancel)?,
            Goal::Elastic(..) | Goal::Feasibility => None,
        };
        match outcome.map_or_else(|| program.conic.solve(&self.cancel), Ok)? {
            Outcome::Optimal(point) => {
                self.iterations.set(self.iterations.get() + point.iterations);
                let raw = program.weights(&point.x, boxes);
                let clean = without_dust(&raw, boxes);
                // In a book of thousands the roundings could add up to a broken rule; the raw weights then stand.
                let keeps_rules = self.rows.iter().all(|row| {
                    let limit = row.violation(self.value(row, &raw)).max(0.5 * RULE_TOLERANCE);
                    row.violation(self.value(row, &clean)) <= limit
                });
                Ok(Ok(Solved { weights: if keeps_rules { clean } else { raw }, program, point }))
            }
            Outcome::Failed { status, iterations } => {
                self.iterations.set(self.iterations.get() + iterations);
                Ok(Err(status.to_string()))
            }
        }
    }

    /// Value of a soft row at the weights `w`.
    pub fn value(&self, row: &SoftRow, w: &[f64]) -> f64 {
        match &row.body {
            Body::Weights(entries) => weight_value(entries, w),
            Body::Trades => one_way_turnover(&self.boxes, w),
            Body::Volatility => self.risk.as_ref().map_or(0.0, |risk| risk.variance(w).sqrt()),
        }
    }

    /// Re-checks every rule at the weights about to be returned.
    pub fn verify(&self, w: &[f64], boxes: &[WeightBox], relaxed: bool) -> Result<(), AllocationError> {
        let broken = |rule: String, violation: f64| match violation {
            v if v > RULE_TOLERANCE => Err(AllocationError::Violation { rule, violation: v }),
            _ => Ok(()),
        };
        for ((b, name), &w) in boxes.iter().zip(&self.names).zip(w) {
            let of = |rule: Rule| format!("{rule} of {}", name.symbol);
            broken(of(Rule::WeightBounds), (w - b.long).max(-w - b.short).max(0.0))?;
            broken(of(Rule::AdvWeight), ((w - b.current).abs() - b.max_trade).max(0.0))?;
            broken(of(Rule::Halt), b.fixed.map_or(0.0, |fixed| (w - fixed).abs()))?;
        }
        if relaxed {
            return Ok(());
        }
        self.rows.iter().try_for_each(|row| broken(row.clause.to_string(), row.violation(self.value(row, w))))
    }
}

/// Takes the solver's rounding off: weights a hair from the current weight, from zero or from a cap are exactly there.
fn without_dust(weights: &[f64], boxes: &[WeightBox]) -> Vec<f64> {
    let clean = |(w, b): (&f64, &WeightBox)| {
        let exact = [b.current, 0.0, b.long, -b.short];
        let exact = exact.into_iter().find(|exact| (w - exact).abs() < DUST).map_or(*w, |exact| exact + 0.0);
        b.fixed.unwrap_or(exact)
    };
    weights.iter().zip(boxes).map(clean).collect()
}

fn objective(
    problem: &Problem,
    names: &[&Name],
    boxes: &[WeightBox],
    risk: Option<&FactorModel>,
    cancel: &CancelCheck,
) -> Result<Objective, AllocationError> {
    let expected = || names.iter().map(|name| name.expected_return).collect();
    let reward = match (problem.method, risk) {
        (Method::MeanVariance | Method::Cvar, _) => expected(),
        (Method::RiskParity, Some(risk)) => {
            let target = parity_book(problem, names, boxes, risk, cancel)?;
            // Tracking variance ½γ(w − w*)ᵀΣ(w − w*) is ½γwᵀΣw less the reward γΣw*, up to a constant.
            let pull = risk.covariance_with(&target);
            pull.iter().map(|covariance| problem.risk_aversion * covariance).collect()
        }
        (Method::MinVariance | Method::RiskParity, _) => vec![0.0; names.len()],
    };
    let epsilon = match problem.method {
        Method::MeanVariance | Method::Cvar => BORROW_EPSILON,
        Method::MinVariance | Method::RiskParity => 0.0,
    };
    Ok(Objective {
        reward,
        costs: names.iter().map(|name| name.cost).collect(),
        borrow_fees: names.iter().map(|name| name.borrow_fee + epsilon).collect(),
        risk_aversion: problem.risk_aversion,
        cvar_level: (problem.method == Method::Cvar)
            .then(|| problem.cvar_level.unwrap_or(DEFAULT_CVAR_LEVEL)),
    })
}

/// The equal-risk book: short where the forecast is negative, long elsewhere, absent where that side is closed; its
/// gross weight is the gross limit (one if there is none), less where the volatility limit is lower.
fn parity_book(
    problem: &Problem,
    names: &[&Name],
    boxes: &[WeightBox],
    risk: &FactorModel,
    cancel: &CancelCheck,
) -> Result<Vec<f64>, AllocationError> {
    let sign =
        |(name, b): (&&Name, &WeightBox)| match (name.expected_return < 0.0, b.long > 0.0, b.short > 0.0) {
            (true, _, true) => -1.0,
            (false, true, _) => 1.0,
            _ => 0.0,
        };
    let signs: Vec<f64> = names.iter().zip(boxes).map(sign).collect();
    let mut target = risk_parity_target(risk, &signs, cancel)?;
    let gross = problem.limits.gross.unwrap_or(1.0);
    let volatility = risk.variance(&target).sqrt();
    let scale =
        problem.limits.target_vol.map_or(gross, |limit| gross.min(limit / volatility.max(f64::MIN_POSITIVE)));
    target.iter_mut().for_each(|w| *w *= scale);
    Ok(target)
}
