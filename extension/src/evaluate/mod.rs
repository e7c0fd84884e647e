//! How good forecasts were: rows of a backtest, or rows of the ledger beside what came.
//!
//! Rows are read once, in an order that brings what all models said of one cell together, so that each is compared with
//! the benchmark's forecast of the very same cell, and models are scored side by side by the cells that all of them have. Sums take constant memory per group; what needs all values (tests over time,
//! rank correlations, the transform) takes some tens of bytes per row.

mod actuals;
mod anomalies;
mod benchmark;
mod cells;
mod forecast;
mod group;
mod options;
mod report;
mod rows;

pub use anomalies::{Anomaly, Outcomes, measured};
pub use report::Score;

use crate::error::{Error, Result};
use crate::json::JsonB;
use crate::relation::Relation;
use actuals::Actuals;
use benchmark::Benchmark;
use cells::Cells;
use forecast::Forecast;
use options::EvaluateOptions;
use pgrx::check_for_interrupts;
use pgrx::pg_sys::Oid;
use rows::{Columns, read};

/// The arguments of `kronos.evaluate()`.
pub struct Arguments {
    /// Rows with forecasts.
    pub relation: Option<Oid>,
    /// Where what came is, unless the rows have it.
    pub actuals: Option<Oid>,
    /// Columns of the rows by which they are scored apart.
    pub by: Vec<String>,
    /// Option object.
    pub options: Option<JsonB>,
}

/// Scores each group of rows, in the order of their keys.
///
/// # Errors
/// 22023 for an option or a grouping that does not serve, 42703 for a column that is missing, and what the server raises.
pub fn evaluate(arguments: Arguments) -> Result<Vec<Score>> {
    let options = EvaluateOptions::parse(arguments.options)?;
    let relation = Relation::open(arguments.relation)?;
    let columns = Columns::of(&relation, &arguments.by, &options, arguments.actuals)?;
    let mut actuals = match arguments.actuals {
        Some(oid) => Some(Actuals::open(oid, &relation, &columns, &options)?),
        None => None,
    };
    let benchmark = Benchmark::choose(&relation, &columns, &options, actuals.as_ref())?;
    if let Some(actuals) = &mut actuals {
        actuals.benchmark = benchmark.returns();
    }
    let mut cells = Cells::new(&columns.by, &options, &benchmark);
    let mut cell: Vec<Forecast> = Vec::new();
    let mut count = 0u64;
    read(&relation, &columns, &options, |mut forecast| {
        count += 1;
        if count.is_multiple_of(4096) {
            check_for_interrupts!();
        }
        if let Some(actuals) = &mut actuals {
            actuals.complete(&mut forecast)?;
        }
        if cell.first().is_some_and(|first| !first.is_of_one_cell(&forecast)) {
            cells.add(&mut cell);
        }
        cell.push(forecast);
        Ok(())
    })?;
    cells.add(&mut cell);
    Ok(cells.report())
}

/// A column that a relation of forecasts must have.
fn missing(relation: &Relation, column: &str) -> Error {
    Error::UndefinedColumn {
        relation: relation.display(),
        column: column.to_owned(),
        role: "score",
        known: Vec::new(),
    }
}
