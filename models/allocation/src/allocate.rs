//! The life of one allocation: prepare, solve, relax or name the conflict, obey the order rules, check, explain.

use std::sync::Arc;

use crate::AllocationError;
use crate::book::{Book, Solved, held};
use crate::bounds::WeightBox;
use crate::conflict::{irreducible_conflict, reachable};
use crate::conic::{CancelCheck, ConicProgram};
use crate::explain::{Allocation, Status, explain};
use crate::orders;
use crate::problem::{OnInfeasible, Problem};
use crate::program::{Goal, assemble};
use crate::rule::Clause;
use crate::units::Units;

/// Solves `problem`; `cancel` is asked once per iteration of the solver.
///
/// The answer does not depend on the order of the names: they are sorted by symbol before anything is computed.
///
/// # Errors
/// Invalid data, a conflict under [`OnInfeasible::Error`], cancellation, or a failure of the solver.
pub fn allocate(problem: &Problem, cancel: &CancelCheck) -> Result<Allocation, AllocationError> {
    problem.validate()?;
    let units = Units::of(problem)?;
    if units.are_usual() {
        return solve(problem, cancel);
    }
    match solve(&units.state(problem), cancel) {
        Ok(book) => Ok(units.restore(book)),
        Err(AllocationError::Infeasible { conflict }) => {
            Err(AllocationError::Infeasible { conflict: units.clauses(conflict) })
        }
        Err(error) => Err(error),
    }
}

/// Solves a problem whose numbers are of usual size.
fn solve(problem: &Problem, cancel: &CancelCheck) -> Result<Allocation, AllocationError> {
    let book = Book::prepare(problem, cancel)?;
    let (first, status, conflict) = match optimise(&book, &book.boxes)? {
        Some(solved) => (Some(solved), Status::Optimal, Vec::new()),
        None => resolve_conflict(&book)?,
    };
    let Some(first) = first else {
        return Ok(explain(&book, None, Vec::new(), status, conflict));
    };
    let settled = orders::obey(&book, first, |boxes| match status {
        Status::Relaxed => book.relax(boxes).map(Some),
        _ => optimise(&book, boxes),
    })?;
    let names_limit = problem.orders.max_names.filter(|&limit| held(&settled.solved.weights) > limit);
    let status = match names_limit {
        Some(limit) if problem.on_infeasible == OnInfeasible::Error => {
            return Err(AllocationError::TooManyNames { limit, held: held(&settled.solved.weights) });
        }
        Some(_) => Status::Relaxed,
        None => status,
    };
    book.verify(&settled.solved.weights, &settled.boxes, status == Status::Relaxed)?;
    Ok(explain(&book, Some(&settled.solved), settled.notes, status, conflict))
}

/// The cone program that [`allocate`] solves first for a problem of usual size, for comparison with other solvers.
///
/// # Errors
/// As [`Problem::validate`], and those of the risk parity target.
pub fn conic_program(problem: &Problem) -> Result<ConicProgram, AllocationError> {
    problem.validate()?;
    let book = Book::prepare(problem, &(Arc::new(|| false) as CancelCheck))?;
    Ok(assemble(book.parts(&book.boxes), Goal::Optimise(&book.objective)).conic)
}

/// The optimum under every rule, or none if there is none.
fn optimise(book: &Book<'_>, boxes: &[WeightBox]) -> Result<Option<Solved>, AllocationError> {
    if !book.rows.iter().all(|row| reachable(row, book)) {
        return Ok(None);
    }
    book.run(boxes, Goal::Optimise(&book.objective)).map(Result::ok)
}

/// What follows when the hard program has no optimum: error, relaxed book, or the held book with the conflict named.
fn resolve_conflict(book: &Book<'_>) -> Result<(Option<Solved>, Status, Vec<Clause>), AllocationError> {
    let conflict = irreducible_conflict(book)?;
    let mode = book.problem.on_infeasible;
    match (conflict, mode) {
        (Some(conflict), OnInfeasible::Error) => Err(AllocationError::Infeasible { conflict }),
        (Some(conflict), OnInfeasible::Report) => Ok((None, Status::Held, conflict)),
        (Some(conflict), OnInfeasible::Relax) => match book.relax(&book.boxes) {
            Ok(solved) => Ok((Some(solved), Status::Relaxed, conflict)),
            Err(AllocationError::Solver { .. }) => Ok((None, Status::Held, conflict)),
            Err(error) => Err(error),
        },
        // The rules are compatible and the solver failed for numerical reasons: the elastic program has an
        // interior and its prices keep the rules.
        (None, _) => {
            let solved = book.relax(&book.boxes)?;
            book.verify(&solved.weights, &book.boxes, false)?;
            Ok((Some(solved), Status::Optimal, Vec::new()))
        }
    }
}
