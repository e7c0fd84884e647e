//! Families of models that can be trained, found in one table.

mod nbeats;

use crate::error::{Error, Result};
use crate::job::{Job, SourceOptions};
use candle_core::Device;
use kronos_models::interrupt::Interrupt;
use kronos_models::train::{Checkpoints, Event, Panel};
use serde_json::Value;

/// One source as it was read.
pub struct SourceData {
    /// What was asked for.
    pub options: SourceOptions,
    /// The rows; columns are the targets.
    pub panel: Panel,
}

/// What a family gets beside the job and the data.
pub struct Context<'a> {
    /// Where the run keeps its state.
    pub checkpoints: &'a Checkpoints,
    /// Asked between steps.
    pub interrupt: &'a dyn Interrupt,
    /// Takes the events of the loop.
    pub observe: &'a mut dyn FnMut(&Event),
    /// The device.
    pub device: Device,
}

/// What a family gives back.
pub struct Trained {
    /// Files of the model by their paths within the artifact.
    pub files: Vec<(String, Vec<u8>)>,
    /// Path of the file whose digest names the version.
    pub weights: String,
    /// Scores on validation and test windows, baselines beside them.
    pub metrics: Value,
    /// Latest time of any row that a weight was fitted to, in microseconds since 1970.
    pub train_cutoff: Option<i64>,
}

/// A family.
pub struct Family {
    /// Name, as in SQL.
    pub name: &'static str,
    /// Trains a model of it.
    pub train: fn(&Job, Vec<SourceData>, &mut Context<'_>) -> Result<Trained>,
}

/// Every family that can be trained.
pub const FAMILIES: &[Family] = &[Family { name: "nbeats", train: nbeats::train }];

/// The family of that name.
///
/// # Errors
/// [`Error::Job`] with the names there are.
pub fn family(name: &str) -> Result<&'static Family> {
    FAMILIES.iter().find(|family| family.name == name).ok_or_else(|| {
        let names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
        Error::Job(format!("family \"{name}\" cannot be trained; there are {}", names.join(", ")))
    })
}
