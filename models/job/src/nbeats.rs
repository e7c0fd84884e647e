//! What the `model` of an N-BEATS job may say.

use crate::error::{JobError, Result};
use crate::limits::{self, Counts, between, numbers, probability};
use crate::regime::Options as Loop;
use crate::{Family, Job};
use kronos_models::nbeats::config::{Config, Input, Kind, MODEL_TYPE, Stack, Transform};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a job must know of the family.
pub const FAMILY: Family = Family {
    name: "nbeats",
    counts: |job, _| Options::of(job)?.counts(&job.train),
    goes_on: false,
    ranks: true,
    tables: &[],
    parts: &[],
};

/// The options; each has a default.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Rows of context.
    pub context_length: usize,
    /// Steps of a forecast.
    pub horizon: usize,
    /// Quantile levels, ascending.
    pub quantile_levels: Vec<f64>,
    /// What the first block sees.
    pub input: Input,
    /// Quantiles of step h are in units of scale · h^growth.
    pub growth: f64,
    /// What is done with values before they are scaled.
    pub transform: Transform,
    /// Dropout of hidden layers.
    pub dropout: f64,
    /// The stacks, in order.
    pub stacks: Vec<Stack>,
    /// Rows from one training window to the next.
    pub stride: usize,
    /// Rows from one validation or test window to the next.
    pub holdout_stride: usize,
    /// Rows after which a pattern returns, for the seasonal baseline.
    pub season: usize,
}

impl Default for Options {
    fn default() -> Self {
        let generic = Stack {
            kind: Kind::Generic,
            blocks: 3,
            layers: 4,
            width: 256,
            shared: false,
            degree: None,
            harmonics: None,
        };
        Self {
            context_length: 90,
            horizon: 20,
            quantile_levels: vec![0.05, 0.5, 0.95],
            input: Input::Level,
            growth: 0.5,
            transform: Transform::Log,
            dropout: 0.0,
            stacks: vec![generic; 3],
            stride: 1,
            holdout_stride: 5,
            season: 5,
        }
    }
}

impl Options {
    /// Those of a job, checked.
    ///
    /// # Errors
    /// [`JobError`] naming what is wrong.
    pub fn of(job: &Job) -> Result<Self> {
        let value = Value::Object(job.model.clone());
        let options: Self =
            serde_json::from_value(value).map_err(|error| JobError::Invalid(format!("model: {error}")))?;
        options.config().validate()?;
        probability("model.dropout", options.dropout as f32)?;
        between("model.stride", options.stride as u64, limits::ROWS)?;
        between("model.holdout_stride", options.holdout_stride as u64, limits::ROWS)?;
        between("model.season", options.season as u64, limits::SEASON)?;
        Ok(options)
    }

    /// The architecture.
    pub fn config(&self) -> Config {
        Config {
            model_type: MODEL_TYPE.into(),
            context_length: self.context_length,
            horizon: self.horizon,
            quantile_levels: self.quantile_levels.clone(),
            input: self.input,
            growth: self.growth,
            stacks: self.stacks.clone(),
        }
    }

    /// What training holds in memory: of every layer its output.
    ///
    /// # Errors
    /// What the architecture is refused for.
    pub fn counts(&self, train: &Loop) -> Result<Counts> {
        let config = self.config();
        let of_block = |(_, stack, times): &(String, &Stack, usize)| {
            let outputs: f64 = config.shapes(stack).iter().map(|&(out, _)| out as f64).sum();
            outputs * *times as f64
        };
        let row: f64 = config.blocks().iter().map(of_block).sum();
        Ok(Counts { weights: numbers(&config.tensors()?), step: train.batch as f64 * row })
    }
}
