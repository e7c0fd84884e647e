//! What the `model` of a Kronos job may say.

use crate::error::{JobError, Result};
use crate::limits::{self, Counts, between, numbers, probability};
use crate::regime::{Options as Loop, invalid};
use crate::{Family, Job, Part};
use chrono_tz::Tz;
use kronos_models::bars::CHANNELS;
use kronos_models::kronos::config::{PredictorConfig, TokenizerConfig};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::PathBuf;

/// What a job must know of the family.
pub const FAMILY: Family = Family {
    name: "kronos",
    counts: |job, columns| Options::of(job, columns)?.counts(&job.train),
    goes_on: true,
    ranks: false,
    tables: kronos_models::kronos::config::TABLES,
    parts: &[Part { directory: "tokenizer", option: "tokenizer_from" }],
};

/// Columns that a target may be, in the order that targets must have.
pub const COLUMNS: [&str; CHANNELS] = ["open", "high", "low", "close", "volume", "amount"];

/// How windows are cut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowRule {
    /// Bars of a window, context and future together.
    pub bars: usize,
    /// Least number of bars before the cut; where the cut is, is drawn anew for every use of a window.
    pub least_context: usize,
    /// Largest number of bars before the cut.
    pub most_context: usize,
    /// Weight of a prediction before the cut, relative to one after it.
    ///
    /// Before the cut the statistics that a bar is standardised by know bars after it, so that what is learnt there is not
    /// what a forecast needs; a little of it steadies the training.
    pub weight_before_cut: f32,
    /// Share of windows that are shown without volume and amount, as many tables come.
    pub without_volume: f64,
}

/// `config.json` of a tokenizer with the keys that matter in training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenizerTraining {
    /// The keys that inference reads.
    #[serde(flatten)]
    pub config: TokenizerConfig,
    /// Weight of the distance between codes and latents.
    #[serde(default = "defaults::beta")]
    pub beta: f64,
    /// Weight of the entropy of each code, which should be small.
    #[serde(default = "defaults::gamma0")]
    pub gamma0: f64,
    /// Weight of the entropy over all codes, which should be large.
    #[serde(default = "defaults::gamma")]
    pub gamma: f64,
    /// Weight of both entropies.
    #[serde(default = "defaults::zeta")]
    pub zeta: f64,
    /// Bits whose codes the reference counts together; plays no role in the losses.
    #[serde(default = "defaults::group_size")]
    pub group_size: usize,
    /// Dropout of attention probabilities.
    #[serde(default)]
    pub attn_dropout_p: f32,
    /// Dropout of what the gated unit adds.
    #[serde(default)]
    pub ffn_dropout_p: f32,
    /// Dropout of what the attention adds.
    #[serde(default)]
    pub resid_dropout_p: f32,
}

/// The published values.
mod defaults {
    pub fn beta() -> f64 {
        0.05
    }
    pub fn gamma0() -> f64 {
        1.0
    }
    pub fn gamma() -> f64 {
        1.1
    }
    pub fn zeta() -> f64 {
        0.05
    }
    pub fn group_size() -> usize {
        4
    }
}

/// `config.json` of a predictor with the keys that matter in training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictorTraining {
    /// The keys that inference reads.
    #[serde(flatten)]
    pub config: PredictorConfig,
    /// Dropout of attention probabilities.
    #[serde(default)]
    pub attn_dropout_p: f32,
    /// Dropout of what the gated unit adds.
    #[serde(default)]
    pub ffn_dropout_p: f32,
    /// Dropout of what the attention adds.
    #[serde(default)]
    pub resid_dropout_p: f32,
    /// Dropout of embedded bars.
    #[serde(default)]
    pub token_dropout_p: f32,
}

/// What the head of the fine token is told of the coarse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// A draw from the model's own distribution, as the reference's fine-tuning does; the fine token is then learnt almost
    /// without regard to the coarse one.
    Sampled,
    /// The true one, by the chain rule of probability, with the rotation of the reference's training, which its
    /// inference leaves out.
    TrueRotated,
    /// The true one, without rotation: what inference computes.
    True,
}

/// How the predictor is scored while it trains: it forecasts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForecastRule {
    /// Steps.
    pub horizon: usize,
    /// Paths per window.
    pub paths: usize,
    /// Softmax temperature.
    pub temperature: f32,
}

impl WindowRule {
    /// Checks the numbers against each other.
    ///
    /// # Errors
    /// [`ModelError::InvalidParameter`](kronos_models::ModelError::InvalidParameter).
    pub fn validate(&self) -> kronos_models::Result<()> {
        if !(2..=self.most_context).contains(&self.least_context) || self.most_context >= self.bars {
            let expected = "2 ≤ least_context ≤ most_context < bars".to_owned();
            let got = format!("{}, {}, {}", self.least_context, self.most_context, self.bars);
            return Err(invalid("windows", expected, got));
        }
        if !(self.weight_before_cut >= 0.0 && (0.0..=1.0).contains(&self.without_volume)) {
            return Err(invalid("weight_before_cut, without_volume", "shares", self.without_volume));
        }
        Ok(())
    }
}

/// The options; each has a default.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// How windows are cut; their length is the window of the model.
    pub windows: WindowRule,
    /// Architecture of the tokenizer; that of the checkpoint where training goes on from one.
    pub tokenizer: TokenizerTraining,
    /// Weight of each channel's squared error in the training of the tokenizer.
    pub channel_weights: [f32; CHANNELS],
    /// Training of the tokenizer; without it that of a checkpoint stays as it is.
    pub tokenizer_train: Option<Loop>,
    /// Directory of the tokenizer to go on from, where it does not lie beside the predictor; no option of `train_model()`.
    pub tokenizer_from: Option<PathBuf>,
    /// Architecture of the predictor; that of the checkpoint where training goes on from one.
    pub predictor: PredictorTraining,
    /// What the head of the fine token is told.
    pub condition: Condition,
    /// The forecasts that weights are chosen by; their temperature is the model's own.
    pub forecasts: ForecastRule,
    /// Windows of each source that weights are chosen by.
    pub scored_windows: usize,
    /// Windows of each source that are scored at the end; absent: as many as weights are chosen by.
    pub tested_windows: Option<usize>,
    /// Zone of the market, whose wall clock the model sees; days have none.
    pub timezone: Tz,
    /// Rows after which a pattern returns, for the seasonal baseline.
    pub season: usize,
}

/// Checks the number of targets.
///
/// # Errors
/// [`JobError::Invalid`].
pub fn check_targets(count: usize) -> Result<()> {
    if (4..=CHANNELS).contains(&count) {
        return Ok(());
    }
    Err(JobError::Invalid(format!(
        "targets of a Kronos model are {} columns, the last two of which may be left out; got {count}",
        COLUMNS.join(", "),
    )))
}

impl Options {
    /// Those of a job whose sources have so many columns, checked.
    ///
    /// # Errors
    /// [`JobError`] naming what is wrong.
    pub fn of(job: &Job, columns: usize) -> Result<Self> {
        check_targets(columns)?;
        let tokenizer_train = job.from.is_none().then(|| {
            json!({
                "seed": job.train.seed, "steps": 5000, "batch": 24, "clip": 2.0, "evaluate_every": 1000, "patience": null,
                "average": 0.998,
                "optimiser": {"learning_rate": 0.002, "weight_decay": 0.05},
                "schedule": {"kind": "cosine", "warmup": 0.03, "minimum": 2e-5},
            })
        });
        let default = json!({
            "windows": {
                "bars": 144, "least_context": 56, "most_context": 120, "weight_before_cut": 0.1,
                "without_volume": 0.15,
            },
            "tokenizer": {
                "d_in": 6, "d_model": 64, "n_heads": 4, "ff_dim": 128, "n_enc_layers": 3, "n_dec_layers": 3,
                "s1_bits": 8, "s2_bits": 8, "beta": 0.05, "gamma0": 1.0, "gamma": 1.1, "zeta": 1.0, "group_size": 4,
                "attn_dropout_p": 0.0, "ffn_dropout_p": 0.0, "resid_dropout_p": 0.0,
            },
            "channel_weights": [1.0, 1.0, 1.0, 2.4, 0.15, 0.15],
            "tokenizer_train": tokenizer_train,
            "tokenizer_from": null,
            "predictor": {
                "d_model": 128, "n_heads": 4, "ff_dim": 256, "n_layers": 3, "s1_bits": 8, "s2_bits": 8, "learn_te": true,
                "attn_dropout_p": 0.0, "ffn_dropout_p": 0.0, "resid_dropout_p": 0.0, "token_dropout_p": 0.0,
            },
            "condition": "true",
            "forecasts": {"horizon": 12, "paths": 64, "temperature": 1.0},
            "scored_windows": 40, "tested_windows": null, "timezone": "UTC", "season": 5,
        });
        let options: Self = job.merged(default)?;
        options.check(job.from.is_some())?;
        Ok(options)
    }

    /// Windows of each source that are scored at the end.
    pub fn tested(&self) -> usize {
        self.tested_windows.unwrap_or(self.scored_windows)
    }

    fn check(&self, goes_on: bool) -> Result<()> {
        let (rule, forecasts) = (&self.windows, self.forecasts);
        between("model.windows.bars", rule.bars as u64, limits::WINDOW)?;
        rule.validate()?;
        between(
            "model.forecasts.horizon (bars after windows.most_context)",
            forecasts.horizon as u64,
            (1, (rule.bars - rule.most_context) as u64),
        )?;
        between("model.forecasts.paths", forecasts.paths as u64, limits::PATHS)?;
        between("model.scored_windows", self.scored_windows as u64, limits::SCORED)?;
        between("model.tested_windows", self.tested() as u64, limits::SCORED)?;
        between("model.season", self.season as u64, limits::SEASON)?;
        match &self.tokenizer_train {
            Some(train) => limits::training("model.tokenizer_train", train)?,
            None if goes_on => {}
            None => {
                let text = "model.tokenizer_train must be given without a model to go on from";
                return Err(JobError::Invalid(text.into()));
            }
        }
        let (tokenizer, predictor) = (&self.tokenizer, &self.predictor);
        tokenizer.config.validate()?;
        predictor.config.validate()?;
        let bits = |s1: usize, s2: usize| (s1, s2);
        if bits(tokenizer.config.s1_bits, tokenizer.config.s2_bits)
            != bits(predictor.config.s1_bits, predictor.config.s2_bits)
            && !goes_on
        {
            let text = "model.tokenizer and model.predictor must have the same s1_bits and s2_bits";
            return Err(JobError::Invalid(text.into()));
        }
        for (what, got) in [
            ("model.tokenizer.attn_dropout_p", tokenizer.attn_dropout_p),
            ("model.tokenizer.ffn_dropout_p", tokenizer.ffn_dropout_p),
            ("model.tokenizer.resid_dropout_p", tokenizer.resid_dropout_p),
            ("model.predictor.attn_dropout_p", predictor.attn_dropout_p),
            ("model.predictor.ffn_dropout_p", predictor.ffn_dropout_p),
            ("model.predictor.resid_dropout_p", predictor.resid_dropout_p),
            ("model.predictor.token_dropout_p", predictor.token_dropout_p),
        ] {
            probability(what, got)?;
        }
        Ok(())
    }

    /// What training holds in memory: of every block what enters its two layers and the gated units, of the predictor the scores
    /// of every token beside.
    ///
    /// # Errors
    /// What the architecture is refused for.
    pub fn counts(&self, train: &Loop) -> Result<Counts> {
        let (t, p) = (&self.tokenizer.config, &self.predictor.config);
        let row = |width: usize, gate: usize, blocks: usize| (2 * width + gate) as f64 * blocks as f64;
        let bars = self.windows.bars as f64;
        let batch = self.tokenizer_train.as_ref().map_or(0, |train| train.batch) as f64;
        let blocks = (t.n_enc_layers - 1) + 2 * (t.n_dec_layers - 1);
        let tokenizer = batch * bars * row(t.d_model, t.ff_dim, blocks);
        let scores = f64::from(1u32 << p.s1_bits) + f64::from(1u32 << p.s2_bits);
        let predictor = train.batch as f64 * (bars - 1.0) * (row(p.d_model, p.ff_dim, p.n_layers) + scores);
        // Keys and values of the steps of all paths of one window.
        let paths = self.forecasts.paths as f64 * self.forecasts.horizon as f64;
        let forecasts = paths * (2 * p.d_model * p.n_layers) as f64;
        Ok(Counts {
            weights: numbers(&t.tensors()?) + numbers(&p.tensors()?),
            step: tokenizer.max(predictor).max(forecasts),
        })
    }
}
