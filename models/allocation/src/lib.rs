//! Long/short portfolio allocation as a convex program: problem in, weights and duals out.
//!
//! One quadratic cone program holds forecasts, factor risk, costs, borrow fees and every limit; an interior-point solver
//! finds its optimum and its duals, and this crate re-checks both before it returns them. Three decisions shape the rest:
//!
//! * **What cannot be broken is a bound, what can is a row.** Halts, lost borrows and caps become boxes that contain the
//!   current weight ([`Halt`], [`Name`]), so a book that obeys them always exists. Everything else is a [`Rule`] that the
//!   elastic ladder can relax at a price and a conflict can name.
//! * **Infeasibility is an answer.** Rules that contradict each other are reported as an irreducible set, found without
//!   trusting the solver's status; a drifted book under a tight turnover limit meets this in ordinary life.
//! * **The order of names does not matter**, bit for bit: they are sorted before anything is computed.
//!
//! Rejected: solving for weights with one signed variable per name, which cannot price a borrow fee or short margin; and
//! a solver per method, since one program with different rewards covers all four.
//!
//! ```
//! use kronos_allocation::{FactorModel, Interval, Limits, Name, Problem, allocate};
//! use std::sync::Arc;
//!
//! let name = |symbol: &str, expected_return| Name { symbol: symbol.into(), expected_return, ..Name::default() };
//! let problem = Problem {
//!     names: vec![name("AAPL", 0.004), name("MSFT", -0.001)],
//!     risk: Some(FactorModel::from_covariance(&[4e-4, 1e-4, 1e-4, 4e-4], 2)?),
//!     limits: Limits { net: Interval::new(0.0, 0.0), gross: Some(0.5), ..Limits::default() },
//!     ..Problem::default()
//! };
//! let book = allocate(&problem, &(Arc::new(|| false) as kronos_allocation::CancelCheck))?;
//! assert!((book.names[0].weight - 0.25).abs() < 1e-7 && (book.names[1].weight + 0.25).abs() < 1e-7);
//! assert_eq!(book.names[0].bindings[0].rule, "net");
//! # Ok::<(), kronos_allocation::AllocationError>(())
//! ```
#![deny(missing_docs)]

mod allocate;
mod book;
mod bounds;
mod column_generation;
mod conflict;
mod conic;
mod covariance;
mod error;
mod explain;
mod name_block;
mod number;
mod orders;
mod prices;
mod problem;
mod program;
mod risk;
mod risk_parity;
mod rule;
mod soft;
mod units;
mod validate;

pub use allocate::{allocate, conic_program};
pub use conic::{CancelCheck, ConicProgram, KktResiduals};
pub use covariance::{Estimator, HistoryStatus, ReturnHistory, RiskEstimate};
pub use error::AllocationError;
pub use explain::{Allocation, Binding, NameResult, NameStatus, RuleResult, Status};
pub use prices::RelaxationPrices;
pub use problem::{
    CashFloor, GroupLimit, Halt, Interval, Limits, Method, Name, OnInfeasible, OrderRules, Problem,
};
pub use risk::{FactorModel, Scenarios};
pub use risk_parity::risk_parity_target;
pub use rule::{Clause, Rule, Side};
pub use units::{GREATEST_PROPORTION, out_of_proportion};
