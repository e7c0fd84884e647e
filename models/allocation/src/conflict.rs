//! Which rules contradict each other.
//!
//! A set of rules conflicts if the least total violation of its soft rows is positive. That program is always feasible, so
//! the answer never rests on a solver's infeasibility status. Rows without a multiplier at its optimum cannot be part of the
//! contradiction it found (Farkas); among the rest, a deletion filter drops every rule whose absence leaves the contradiction
//! standing. What remains is irreducible: without any one of its members the others can be met together.

use crate::AllocationError;
use crate::book::Book;
use crate::bounds::{HardRules, WeightBox};
use crate::conic::{OBJECTIVE_SCALE, Outcome};
use crate::program::{Goal, Parts, assemble};
use crate::rule::{Clause, Rule, Side};
use crate::soft::{Body, SoftRow, weight_value};

/// Total violation, in weight, up to which rules count as compatible.
const COMPATIBLE: f64 = 1e-6;

/// Multiplier, on the scale where violating a row by one unit costs one, below which a row is not part of a contradiction.
const SUPPORT: f64 = 1e-6;

const HARD_RULES: [Rule; 4] = [Rule::AdvWeight, Rule::Halt, Rule::Shortable, Rule::WeightBounds];

/// An irreducible conflicting set, or none if all rules can be met together.
pub(crate) fn irreducible_conflict(book: &Book<'_>) -> Result<Option<Vec<Clause>>, AllocationError> {
    let mut hard = HardRules::ALL;
    let mut rows = book.rows.clone();
    let unreachable = rows.iter().find(|row| !reachable(row, book)).cloned();
    let support = match unreachable {
        // The pre-check names one impossible row; turnover is the only other soft row its proof uses.
        Some(row) => {
            let turnover = rows.iter().filter(|r| matches!(r.body, Body::Trades)).cloned();
            turnover.chain([row]).collect()
        }
        None => match conflicting(book, &rows, hard)? {
            Some(support) => support,
            None => return Ok(None),
        },
    };
    if conflicting(book, &support, hard)?.is_some() {
        rows = support;
    } else if conflicting(book, &rows, hard)?.is_none() {
        return Ok(None);
    }
    let mut conflict = Vec::new();
    for rule in HARD_RULES {
        hard.set(&rule, false);
        if conflicting(book, &rows, hard)?.is_none() {
            hard.set(&rule, true);
            conflict.push(Clause { rule, side: Side::Whole });
        }
    }
    let mut i = 0;
    while i < rows.len() {
        let mut others = rows.clone();
        let row = others.remove(i);
        if conflicting(book, &others, hard)?.is_some() {
            rows = others;
        } else {
            conflict.insert(i, row.clause);
            i += 1;
        }
    }
    Ok(Some(conflict))
}

/// The rows with a multiplier if the rows conflict under the hard rules in force.
fn conflicting(
    book: &Book<'_>,
    rows: &[SoftRow],
    hard: HardRules,
) -> Result<Option<Vec<SoftRow>>, AllocationError> {
    if rows.is_empty() {
        return Ok(None);
    }
    let boxes: Vec<WeightBox> =
        book.names.iter().map(|name| WeightBox::new(book.problem, name, hard)).collect();
    let parts = Parts { boxes: &boxes, rows, ..book.parts(&boxes) };
    let program = assemble(parts, Goal::Feasibility);
    match program.conic.solve(&book.cancel)? {
        Outcome::Optimal(point) => {
            let total: f64 =
                point.x.iter().zip(&program.conic.q).map(|(x, q)| x * q).sum::<f64>() / OBJECTIVE_SCALE;
            let in_support = |place: &usize| point.z[*place].abs() > SUPPORT * OBJECTIVE_SCALE;
            let support = rows
                .iter()
                .zip(&program.soft)
                .filter(|(_, place)| in_support(place))
                .map(|(row, _)| row.clone());
            Ok((total > COMPATIBLE).then(|| support.collect()))
        }
        Outcome::Failed { status, .. } => Err(AllocationError::Solver { status: status.to_string() }),
    }
}

/// Whether the boxes and the turnover limit allow the row at all: an outer bound in one pass over the names.
pub(crate) fn reachable(row: &SoftRow, book: &Book<'_>) -> bool {
    let Body::Weights(entries) = &row.body else { return true };
    let held: Vec<f64> = book.boxes.iter().map(|b| b.current).collect();
    let (mut least, mut greatest, mut steepest) = (0.0, 0.0, 0.0_f64);
    for e in entries.iter() {
        let (low, high) = book.boxes[e.name].reach();
        let at = |w: f64| e.long * w.max(0.0) + e.short * (-w).max(0.0);
        let ends = [at(low), at(high), at(low.max(0.0).min(high))];
        least += ends.iter().copied().fold(f64::INFINITY, f64::min);
        greatest += ends.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        steepest = steepest.max(e.long.abs()).max(e.short.abs());
    }
    if let Some(turnover) = book.problem.limits.max_turnover {
        let here = weight_value(entries, &held);
        least = least.max(here - 2.0 * turnover * steepest);
        greatest = greatest.min(here + 2.0 * turnover * steepest);
    }
    match row.clause.side {
        Side::Min(bound) => greatest >= bound - COMPATIBLE,
        Side::Max(bound) => least <= bound + COMPATIBLE,
        Side::Equal(bound) => least <= bound + COMPATIBLE && greatest >= bound - COMPATIBLE,
        Side::Whole => true,
    }
}
