//! The cone program as the solver sees it, and an independent check of what the solver returns.

use std::sync::Arc;

use clarabel::algebra::CscMatrix;
use clarabel::solver::{DefaultSettingsBuilder, DefaultSolver, IPSolver, SolverStatus, SupportedConeT};

use crate::AllocationError;

/// Returns true when the caller wants the computation to stop; asked once per interior-point iteration.
pub type CancelCheck = Arc<dyn Fn() -> bool + Send + Sync>;

/// Objectives are stated in basis points: better scaled for the solver, and its duals read as shadow prices.
pub(crate) const OBJECTIVE_SCALE: f64 = 1e4;

/// Largest residual, in units of return and weight, at which a reduced-accuracy answer is accepted; relative to the largest term of a
/// condition where that is more than one.
const ACCEPT_RESIDUAL: f64 = 1e-6;

/// Interior-point iterations; the largest problem measured (3,400 names) needs 54.
const MAX_ITERATIONS: u32 = 200;

/// minimise ½xᵀPx + qᵀx subject to Ax + s = b, s in the cones.
#[derive(Clone, Debug)]
pub struct ConicProgram {
    /// Quadratic objective, upper triangle.
    pub p: CscMatrix<f64>,
    /// Linear objective.
    pub q: Vec<f64>,
    /// Constraint matrix.
    pub a: CscMatrix<f64>,
    /// Right-hand side.
    pub b: Vec<f64>,
    /// Cones of the rows, in order.
    pub cones: Vec<SupportedConeT<f64>>,
}

/// Largest residuals of the optimality conditions, from the program's data and the solver's point alone, each relative to its
/// largest term where that is more than one.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct KktResiduals {
    /// Greatest violation of a constraint, in weight.
    pub primal: f64,
    /// Greatest stationarity residual, in return per unit of weight.
    pub dual: f64,
    /// Gap between primal and dual objective, in return.
    pub gap: f64,
}

impl KktResiduals {
    /// The greatest of the three.
    pub fn max(&self) -> f64 {
        self.primal.max(self.dual).max(self.gap)
    }
}

/// A primal-dual point.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConicPoint {
    pub x: Vec<f64>,
    pub z: Vec<f64>,
    pub residuals: KktResiduals,
    pub iterations: u32,
}

/// What became of a solve: a checked optimum, or the solver's reason for having none.
pub(crate) enum Outcome {
    Optimal(ConicPoint),
    Failed { status: SolverStatus, iterations: u32 },
}

impl ConicProgram {
    /// Solves and checks; a status alone is never believed.
    pub(crate) fn solve(&self, cancel: &CancelCheck) -> Result<Outcome, AllocationError> {
        // Every name fixed at zero: the solver wants a column.
        if self.q.is_empty() {
            let nothing = ConicPoint { z: vec![0.0; self.b.len()], ..ConicPoint::default() };
            let failed = Outcome::Failed { status: SolverStatus::PrimalInfeasible, iterations: 0 };
            return Ok(self.checked(nothing).map_or(failed, Outcome::Optimal));
        }
        let failed = |status: String| AllocationError::Solver { status };
        let settings = DefaultSettingsBuilder::default()
            .verbose(false)
            .max_iter(MAX_ITERATIONS)
            .tol_gap_abs(1e-9)
            .tol_gap_rel(1e-9)
            .direct_solve_method("qdldl".to_owned())
            .presolve_enable(false)
            .build()
            .map_err(|e| failed(e.to_string()))?;
        let mut solver = DefaultSolver::new(&self.p, &self.q, &self.a, &self.b, &self.cones, settings)
            .map_err(|e| failed(e.to_string()))?;
        let check = Arc::clone(cancel);
        solver.set_termination_callback(move |_| check());
        solver.solve();
        let solution = solver.solution;
        let (status, iterations) = (solution.status, solution.iterations);
        let accept = match status {
            SolverStatus::CallbackTerminated => return Err(AllocationError::Cancelled),
            // The last three stop for accuracy's sake at points that are often good enough; the residuals decide.
            SolverStatus::Solved
            | SolverStatus::AlmostSolved
            | SolverStatus::InsufficientProgress
            | SolverStatus::MaxIterations
            | SolverStatus::NumericalError => true,
            _ => false,
        };
        let point = ConicPoint { x: solution.x, z: solution.z, iterations, ..ConicPoint::default() };
        let checked = Some(point).filter(|_| accept).and_then(|point| self.checked(point));
        Ok(checked.map_or(Outcome::Failed { status, iterations }, Outcome::Optimal))
    }

    /// The point with its residuals, if they are those of an optimum.
    pub(crate) fn checked(&self, point: ConicPoint) -> Option<ConicPoint> {
        let residuals = self.residuals(&point.x, &point.z);
        (residuals.max() <= ACCEPT_RESIDUAL).then_some(ConicPoint { residuals, ..point })
    }

    /// Px + q + Aᵀz.
    pub(crate) fn gradient(&self, x: &[f64], z: &[f64]) -> Vec<f64> {
        let mut gradient = self.q.clone();
        for (row, col, value) in entries(&self.a) {
            gradient[col] += value * z[row];
        }
        for (row, col, value) in entries(&self.p) {
            gradient[row] += value * x[col];
            if row != col {
                gradient[col] += value * x[row];
            }
        }
        gradient
    }

    /// Residuals of the optimality conditions at `x`, `z`, recomputed from the data.
    pub fn residuals(&self, x: &[f64], z: &[f64]) -> KktResiduals {
        let mut slack: Vec<Sum> = self.b.iter().map(|&b| Sum::of(b)).collect();
        let mut gradient: Vec<Sum> = self.q.iter().map(|&q| Sum::of(q)).collect();
        let mut gap = Sum::default();
        for (row, col, value) in entries(&self.a) {
            slack[row].add(-value * x[col]);
            gradient[col].add(value * z[row]);
        }
        for (row, col, value) in entries(&self.p) {
            gradient[row].add(value * x[col]);
            gap.add(value * x[row] * x[col]);
            if row != col {
                gradient[col].add(value * x[row]);
                gap.add(value * x[row] * x[col]);
            }
        }
        let pairs = self.q.iter().zip(x).chain(self.b.iter().zip(z));
        pairs.for_each(|(a, b)| gap.add(a * b));

        let (mut primal, mut dual, mut row) = (0.0_f64, 0.0_f64, 0);
        for cone in &self.cones {
            match cone {
                SupportedConeT::ZeroConeT(size) => {
                    primal = slack[row..row + size].iter().fold(primal, |m, s| s.share(1.0).abs().max(m));
                    row += size;
                }
                SupportedConeT::SecondOrderConeT(size) => {
                    let outside = |v: &mut dyn Iterator<Item = f64>| {
                        let first = v.next().unwrap_or(0.0);
                        v.map(|x| x * x).sum::<f64>().sqrt() - first
                    };
                    let rows = &slack[row..row + size];
                    let largest = rows.iter().fold(1.0, |m: f64, s| m.max(s.largest));
                    primal = primal.max(outside(&mut rows.iter().map(|s| s.total)) / largest);
                    dual = dual.max(outside(&mut z[row..row + size].iter().copied()));
                    row += size;
                }
                cone => {
                    let size = cone_size(cone);
                    primal = slack[row..row + size].iter().fold(primal, |m, s| (-s.share(1.0)).max(m));
                    dual = z[row..row + size].iter().fold(dual, |m, z| (-z).max(m));
                    row += size;
                }
            }
        }
        let of_return = |sum: &Sum| sum.share(OBJECTIVE_SCALE).abs();
        let dual = gradient.iter().map(of_return).fold(dual, f64::max);
        KktResiduals { primal, dual: dual / OBJECTIVE_SCALE, gap: of_return(&gap) / OBJECTIVE_SCALE }
    }
}

/// A sum that should vanish, and its largest term.
#[derive(Clone, Copy, Default)]
struct Sum {
    total: f64,
    largest: f64,
}

impl Sum {
    fn of(term: f64) -> Self {
        Self { total: term, largest: term.abs() }
    }

    fn add(&mut self, term: f64) {
        self.total += term;
        self.largest = self.largest.max(term.abs());
    }

    /// The sum over its largest term in units of `one`, where that is more than one.
    fn share(&self, one: f64) -> f64 {
        self.total / (self.largest / one).max(1.0)
    }
}

fn entries(matrix: &CscMatrix<f64>) -> impl Iterator<Item = (usize, usize, f64)> {
    (0..matrix.n).flat_map(move |col| {
        (matrix.colptr[col]..matrix.colptr[col + 1]).map(move |k| (matrix.rowval[k], col, matrix.nzval[k]))
    })
}

/// Rows of a cone of the kinds that programs here have.
pub(crate) fn cone_size(cone: &SupportedConeT<f64>) -> usize {
    match cone {
        SupportedConeT::ZeroConeT(size)
        | SupportedConeT::NonnegativeConeT(size)
        | SupportedConeT::SecondOrderConeT(size) => *size,
        _ => 0,
    }
}
