//! What a job must know of a family of models.

use crate::Job;
use crate::error::Result;
use crate::limits::Counts;

/// What a job must know of a family.
#[derive(Debug)]
pub struct Family {
    /// Its name, as in SQL.
    pub name: &'static str,
    /// Checks what a job whose sources have so many columns says of the model, and counts what a step holds in memory, at the
    /// least, by the architecture that the job itself asks for.
    pub counts: fn(&Job, usize) -> Result<Counts>,
    /// Whether training can go on from a model.
    pub goes_on: bool,
    /// Whether the series that a model forecasts best can be listed.
    pub ranks: bool,
    /// Ends of the names of matrices that are tables, which no adapter changes.
    pub tables: &'static [&'static str],
    /// Parts of a model that training goes on from which may lie elsewhere.
    pub parts: &'static [Part],
}

/// A part of a model in a directory of its own.
#[derive(Debug)]
pub struct Part {
    /// Its name among the directories of a registered model.
    pub directory: &'static str,
    /// The key of a job's `model` that says where it lies; no option of `train_model()`.
    pub option: &'static str,
}
