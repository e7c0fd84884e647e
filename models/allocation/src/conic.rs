//! The cone program as the solver sees it, and an independent check of what the solver returns.

use std::sync::Arc;

use clarabel::algebra::CscMatrix;
use clarabel::solver::{DefaultSettingsBuilder, DefaultSolver, IPSolver, SolverStatus, SupportedConeT};

use crate::AllocationError;

/// Returns true when the caller wants the computation to stop; asked once per interior-point iteration.
pub type CancelCheck = Arc<dyn Fn() -> bool + Send + Sync>;

/// Objectives are stated in basis points: better scaled for the solver, and its duals read as shadow prices.
pub(crate) const OBJECTIVE_SCALE: f64 = 1e4;

/// Largest residual, in units of return and weight, at which a reduced-accuracy answer is accepted.
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

/// Largest residuals of the optimality conditions, from the program's data and the solver's point alone.
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
        let (mut slack, mut px, mut atz) = (self.b.clone(), vec![0.0; x.len()], vec![0.0; x.len()]);
        for (row, col, value) in entries(&self.a) {
            slack[row] -= value * x[col];
            atz[col] += value * z[row];
        }
        for (row, col, value) in entries(&self.p) {
            px[row] += value * x[col];
            if row != col {
                px[col] += value * x[row];
            }
        }
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let gap = dot(&px, x) + dot(&self.q, x) + dot(&self.b, z);

        let (mut primal, mut dual_cone, mut row) = (0.0_f64, 0.0_f64, 0);
        for cone in &self.cones {
            let (size, outside): (usize, fn(&[f64]) -> f64) = match cone {
                SupportedConeT::ZeroConeT(size) => {
                    let rows = &slack[row..row + size];
                    primal = primal.max(rows.iter().fold(0.0, |m, s| s.abs().max(m)));
                    row += size;
                    continue;
                }
                SupportedConeT::SecondOrderConeT(size) => {
                    (*size, |v| v[1..].iter().map(|x| x * x).sum::<f64>().sqrt() - v[0])
                }
                cone => (cone_size(cone), |v| v.iter().fold(0.0, |m, s| (-s).max(m))),
            };
            primal = primal.max(outside(&slack[row..row + size]));
            dual_cone = dual_cone.max(outside(&z[row..row + size]));
            row += size;
        }
        let dual =
            px.iter().zip(&self.q).zip(&atz).fold(dual_cone, |m, ((px, q), atz)| (px + q + atz).abs().max(m));
        KktResiduals { primal, dual: dual / OBJECTIVE_SCALE, gap: gap.abs() / OBJECTIVE_SCALE }
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
