//! What the `model` of a Chronos-2 job may say.

use crate::error::Result;
use crate::limits::{self, Counts, between, numbers, probability};
use crate::regime::{Options as Loop, invalid};
use crate::{Family, Job};
use kronos_models::chronos2::config::Config;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What a job must know of the family.
pub const FAMILY: Family = Family {
    name: "chronos2",
    counts: |job, columns| Options::of(job, columns)?.counts(&job.train),
    goes_on: true,
    ranks: false,
    tables: kronos_models::chronos2::config::TABLES,
    parts: &[],
};

/// `config.json` with the keys that matter in training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chronos2Training {
    /// The keys that inference reads.
    #[serde(flatten)]
    pub config: Config,
    /// Dropout everywhere.
    #[serde(default = "defaults::dropout_rate")]
    pub dropout_rate: f32,
    /// What the standard deviations of random weights, and the gains of norms, are multiplied with.
    #[serde(default = "defaults::initializer_factor")]
    pub initializer_factor: f32,
}

mod defaults {
    pub fn dropout_rate() -> f32 {
        0.1
    }
    pub fn initializer_factor() -> f32 {
        0.05
    }
}

/// How examples are made of windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExampleRule {
    /// Longest history.
    pub context: usize,
    /// Shortest history; lengths between are drawn evenly in their logarithm.
    pub least_context: usize,
    /// Longest forecast; every batch has its own, drawn evenly.
    pub horizon: usize,
    /// Columns that can be a target alone, by position; drawn evenly.
    pub targets: Vec<usize>,
    /// Columns that a group is made of.
    pub grouped: Vec<usize>,
    /// Share of examples that are groups; each other column of such a group is a target, a covariate of the past or a
    /// covariate whose future is known, with equal chances.
    pub groups: f64,
    /// Share of examples of which a tenth of the history is missing.
    pub gaps: f64,
    /// Whether losses count in units of the variate's own moves of late. Without it they count in standard deviations of
    /// the history, in which the moves of a series that has gone far are small, and so is what is learnt of them.
    #[serde(default)]
    pub per_move: bool,
}

impl ExampleRule {
    /// Checks the numbers against each other and against the columns of a panel.
    ///
    /// # Errors
    /// [`ModelError::InvalidParameter`](kronos_models::ModelError::InvalidParameter).
    pub fn validate(&self, columns: usize) -> kronos_models::Result<()> {
        if !(2..=self.context).contains(&self.least_context) || self.horizon == 0 {
            let got = format!("{}, {}, {}", self.least_context, self.context, self.horizon);
            return Err(invalid("windows", "2 ≤ least_context ≤ context and a horizon", got));
        }
        let named = self.targets.iter().chain(&self.grouped);
        if self.targets.is_empty()
            || self.grouped.is_empty()
            || named.clone().any(|&column| column >= columns)
        {
            return Err(invalid("targets, grouped", format!("columns below {columns}"), self.targets.len()));
        }
        match (0.0..=1.0).contains(&self.groups) && (0.0..=1.0).contains(&self.gaps) {
            true => Ok(()),
            false => Err(invalid("groups, gaps", "shares", self.groups)),
        }
    }
}

/// The options; each has a default.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// How examples are made of windows; columns are the targets of the job, by position.
    pub examples: ExampleRule,
    /// Architecture; that of the checkpoint where training goes on from one.
    pub network: Chronos2Training,
    /// Steps of the forecasts that weights are chosen by.
    pub scored: usize,
    /// Windows of each source that weights are chosen by.
    pub scored_windows: usize,
    /// Windows of each source that are scored at the end; absent: as many as weights are chosen by.
    pub tested_windows: Option<usize>,
    /// Rows after which a pattern returns, for the seasonal baseline.
    pub season: usize,
}

impl Options {
    /// Those of a job whose sources have so many columns, checked.
    ///
    /// # Errors
    /// [`JobError`](crate::JobError) naming what is wrong.
    pub fn of(job: &Job, columns: usize) -> Result<Self> {
        let all: Vec<usize> = (0..columns).collect();
        let default = json!({
            "examples": {
                "context": 256, "least_context": 32, "horizon": 32, "targets": all, "grouped": all,
                "groups": if columns > 1 { 0.1 } else { 0.0 }, "gaps": 0.05, "per_move": true,
            },
            "network": {
                "architectures": ["Chronos2Model"], "model_type": "t5", "d_model": 128, "d_kv": 32, "d_ff": 256,
                "num_layers": 3, "num_heads": 4, "layer_norm_epsilon": 1e-6, "feed_forward_proj": "relu",
                "rope_theta": 10000.0, "dropout_rate": 0.0, "initializer_factor": 1.0,
                "chronos_config": {
                    "context_length": 256, "input_patch_size": 16, "input_patch_stride": 16, "output_patch_size": 16,
                    "max_output_patches": 2,
                    "quantiles": [0.01, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7,
                                  0.75, 0.8, 0.85, 0.9, 0.95, 0.99],
                    "use_arcsinh": true, "use_reg_token": true, "time_encoding_scale": 256.0,
                },
            },
            "scored": 12, "scored_windows": 40, "tested_windows": null, "season": 5,
        });
        let options: Self = job.merged(default)?;
        options.check(columns)?;
        Ok(options)
    }

    /// Windows of each source that are scored at the end.
    pub fn tested(&self) -> usize {
        self.tested_windows.unwrap_or(self.scored_windows)
    }

    fn check(&self, columns: usize) -> Result<()> {
        let rule = &self.examples;
        between("model.examples.context", rule.context as u64, limits::WINDOW)?;
        between("model.examples.horizon", rule.horizon as u64, limits::WINDOW)?;
        between("columns of model.examples.targets", rule.targets.len() as u64, limits::COLUMNS)?;
        between("columns of model.examples.grouped", rule.grouped.len() as u64, limits::COLUMNS)?;
        rule.validate(columns)?;
        between("model.scored", self.scored as u64, limits::WINDOW)?;
        between("model.scored_windows", self.scored_windows as u64, limits::SCORED)?;
        between("model.tested_windows", self.tested() as u64, limits::SCORED)?;
        between("model.season", self.season as u64, limits::SEASON)?;
        self.network.config.validate()?;
        probability("model.network.dropout_rate", self.network.dropout_rate)
    }

    /// What training holds in memory: of every block what enters its three layers and the hidden units, for the shortest examples
    /// without groups.
    ///
    /// # Errors
    /// What the architecture is refused for.
    pub fn counts(&self, train: &Loop) -> Result<Counts> {
        let config = &self.network.config;
        let tokens = self.examples.least_context.div_ceil(config.patch()) + 2;
        let block = 3.0 * config.d_model as f64 + config.d_ff as f64;
        let rows = train.batch as f64 * tokens as f64;
        Ok(Counts { weights: numbers(&config.tensors()?), step: rows * block * config.num_layers as f64 })
    }
}
