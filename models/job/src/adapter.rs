//! Low-rank adapters, as a job asks for one.

use crate::error::{JobError, Result};
use crate::limits::{self, between};
use serde::{Deserialize, Serialize};

/// A low-rank adapter that is trained in place of the weights of the model that training goes on from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterOptions {
    /// Rank.
    pub rank: usize,
    /// Numerator of the scale; its denominator is the rank.
    pub alpha: f64,
    /// Ends of the names of the linear maps that are adapted.
    pub targets: Vec<String>,
}

impl AdapterOptions {
    /// Checks what can be told without the model.
    pub(crate) fn check(&self) -> Result<()> {
        between("adapter.rank", self.rank as u64, (1, limits::RANK))?;
        between("number of adapter.targets", self.targets.len() as u64, limits::COLUMNS)?;
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return Err(JobError::Invalid(format!("adapter.alpha must be above 0, got {}", self.alpha)));
        }
        Ok(())
    }
}
