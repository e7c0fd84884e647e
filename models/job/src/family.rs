//! Families that can be trained, found in one table.
//!
//! A family is a room here, with what its jobs may say, and one in `kronos-training`, with what it learns from. Whoever queues
//! or runs jobs names none.

use crate::error::{JobError, Result};
use crate::limits::Counts;
use crate::{Job, chronos2, kronos, nbeats};

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

/// Every family that can be trained.
pub const FAMILIES: &[&Family] = &[&kronos::FAMILY, &chronos2::FAMILY, &nbeats::FAMILY];

/// The family of that name.
///
/// # Errors
/// [`JobError::UnknownFamily`].
pub fn family(name: &str) -> Result<&'static Family> {
    let found = FAMILIES.iter().find(|family| family.name == name).copied();
    found.ok_or_else(|| JobError::UnknownFamily { family: name.chars().take(80).collect() })
}

/// The names of all families, for people.
pub fn names() -> String {
    FAMILIES.iter().map(|family| family.name).collect::<Vec<_>>().join(", ")
}
