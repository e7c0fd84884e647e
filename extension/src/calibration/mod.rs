//! Calibrations: what they are, how they learn from the ledger, and how they serve a forecast.
//!
//! The rules are `kronos_models::calibration`; here they meet tables. Everything is read and written as the caller, through
//! the views of schema `ledger` that compare owners.

mod definition;
mod described;
mod learn;
mod matured;
mod options;
mod serve;
mod slots;
mod starts;
mod store;

pub use definition::{Definition, New, create, lock};
pub use learn::calibrate;
pub use serve::{Calibrated, Serving};

use crate::error::{Error, Result};
use crate::statement::{self, Sight};

/// Fails where the set-up has not made the tables.
///
/// # Errors
/// 55000.
fn require_tables() -> Result<()> {
    let there = statement::value::<bool>(
        Sight::Query,
        "select exists (select from pg_catalog.pg_attribute a
           where a.attrelid operator(pg_catalog.=) pg_catalog.to_regclass('ledger.own_calibration_state')
             and a.attname operator(pg_catalog.=) 'score_all')",
        &[],
    )?;
    if there == Some(true) {
        return Ok(());
    }
    Err(Error::NotReady {
        what: "the ledger is not installed, or of an older version".into(),
        hint: "CALL kronos.install();".into(),
    })
}

/// The part of a version that its states are kept under: the name, unless the calibration is of one version.
fn model_key<'a>(model: Option<&'a str>, version: &'a str) -> &'a str {
    match model {
        Some(pinned) if pinned.contains('@') => version,
        _ => version.split('@').next().unwrap_or(version),
    }
}
