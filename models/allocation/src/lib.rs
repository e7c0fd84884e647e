//! Long/short portfolio allocation as a convex program: problem in, weights and duals out.
#![deny(missing_docs)]

mod book;
mod bounds;
mod conflict;
mod conic;
mod covariance;
mod error;
mod explain;
mod orders;
mod problem;
mod program;
mod risk;
mod risk_parity;
mod rule;
mod soft;

pub use book::{allocate, conic_program};
pub use conic::{CancelCheck, ConicProgram, KktResiduals};
pub use covariance::{Estimator, HistoryStatus, ReturnHistory, RiskEstimate};
pub use error::AllocationError;
pub use explain::{Allocation, Binding, NameResult, NameStatus, RuleResult, Status};
pub use problem::{
    CashFloor, GroupLimit, Halt, Interval, Limits, Method, Name, OnInfeasible, OrderRules, Problem,
};
pub use risk::{FactorModel, Scenarios};
pub use risk_parity::risk_parity_target;
pub use rule::{Clause, RelaxationPrices, Rule, Side};
