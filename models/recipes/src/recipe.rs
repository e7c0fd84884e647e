//! What a recipe says.

use crate::error::{Error, Result};
use kronos_training::Options;
use kronos_training::chronos2::{Chronos2Training, ExampleRule};
use kronos_training::kronos::{Condition, ForecastRule, PredictorTraining, TokenizerTraining, WindowRule};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A model and everything it takes to train it again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the artifact.
    pub name: String,
    /// Licence of the weights.
    pub licence: String,
    /// Where the data come from and under which licences.
    pub data: String,
    /// Last day, as YYYY-MM-DD, of which the weights or the choice of them may have seen anything; checked.
    pub train_cutoff: String,
    /// The data.
    pub sources: Vec<SourceRecipe>,
    /// The model.
    pub model: ModelRecipe,
}

/// A set of series.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceRecipe {
    /// Name, for scores.
    pub name: String,
    /// Share of the draws, relative to the other sources.
    pub weight: f64,
    /// Windows that weights are chosen by.
    pub validation: usize,
    /// Where the bars come from.
    pub bars: BarsRecipe,
    /// Least share of each series' rows that is held out.
    pub holdout: f64,
    /// Least number of days that is held out.
    #[serde(default)]
    pub holdout_days: Option<i64>,
    /// Day, as YYYY-MM-DD, from which on rows are neither trained on nor chosen by; absent: the later half of the hold-out.
    #[serde(default)]
    pub test_from: Option<String>,
}

/// Where bars come from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum BarsRecipe {
    /// Gzipped CSV files with the columns symbol, ds, open, high, low, close, volume; ds is a day, or the start of a bar in UTC.
    Files {
        /// Paths below the folder of the data.
        paths: Vec<String>,
        /// Zone of the market, whose wall clock the model sees.
        zone: String,
        /// Symbols that are left out.
        #[serde(default)]
        except: Vec<String>,
    },
    /// The market simulator.
    Simulated {
        /// Number of markets; each has its own volatility, and its own symbols.
        markets: usize,
        /// Symbols of a market.
        symbols: usize,
        /// Bars of a symbol.
        bars: usize,
        /// Width of a bar in minutes; bars never pause.
        minutes: i64,
        /// Least and largest volatility a year.
        volatility: (f64, f64),
        /// Seed.
        seed: i64,
    },
}

/// The model.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ModelRecipe {
    /// A tokenizer, then a predictor of its tokens.
    Kronos(Box<KronosRecipe>),
    /// A network of Chronos-2's kind.
    Chronos2(Box<Chronos2Recipe>),
}

/// Both halves of a Kronos model.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KronosRecipe {
    /// How windows are cut; their length is the window of the model.
    pub windows: WindowRule,
    /// Architecture of the tokenizer.
    pub tokenizer: TokenizerTraining,
    /// Weight of each channel's squared error in the training of the tokenizer.
    pub channel_weights: [f32; 6],
    /// Training of the tokenizer.
    pub tokenizer_options: Options,
    /// Architecture of the predictor.
    pub predictor: PredictorTraining,
    /// Training of the predictor.
    pub predictor_options: Options,
    /// What the head of the fine token is told.
    pub condition: Condition,
    /// The forecasts that weights are chosen by; their temperature is the model's own.
    pub forecasts: ForecastRule,
}

/// A model of Chronos-2's kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chronos2Recipe {
    /// How examples are made.
    pub examples: ExampleRule,
    /// Architecture.
    pub network: Chronos2Training,
    /// Training.
    pub options: Options,
    /// Steps of the forecasts that weights are chosen by.
    pub scored: usize,
}

impl Recipe {
    /// Reads a recipe.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::file(path, error))?;
        serde_json::from_str(&text).map_err(|error| Error::content(path, error))
    }
}
