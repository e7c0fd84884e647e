//! The options of `kronos.backtest()`: its own, and those that it hands on to the model.

use crate::error::Result;
use crate::forecast::quantile_levels;
use crate::json::JsonB;
use crate::options::{Given, OnError, on_error};
use crate::series::SeriesOptions;
use kronos_models::quantile::QuantileLevels;
use serde_json::{Map, Value};

/// Keys every model is asked with.
const SHARED: &[&str] = &["bucket_width", "calendar", "context", "known_at_col", "on_error"];

/// Keys of models that draw paths of bars.
const OF_BARS: &[&str] = &["columns", "max_gap", "slide", "temperature", "top_k", "top_p"];

/// Keys of models of numbers.
const OF_NUMBERS: &[&str] = &["point_level"];

/// Keys that are read here; samples and seed concern no model but those that draw.
const OWN: &[&str] = &["quantile_levels", "samples", "season", "seed"];

/// The options of one call.
#[derive(Debug)]
pub struct BacktestOptions {
    /// Levels of the column `quantiles`.
    pub quantile_levels: QuantileLevels,
    /// Sample paths per window; `None` for the default.
    pub samples: Option<i32>,
    /// Seed of the sample paths.
    pub seed: i64,
    /// What to do about a window that cannot be forecast.
    pub on_error: OnError,
    given: Map<String, Value>,
}

impl BacktestOptions {
    /// Checks the options of one call, for a model of bars or of numbers.
    ///
    /// # Errors
    /// 22023 for an unknown key, a value of another type, or one out of range.
    pub fn parse(options: Option<JsonB>, bars: bool) -> Result<Self> {
        let mut valid: Vec<&str> = [SHARED, OWN, if bars { OF_BARS } else { OF_NUMBERS }].concat();
        valid.sort_unstable();
        let map = match &options {
            Some(JsonB(Value::Object(map))) => map.clone(),
            _ => Map::new(),
        };
        let given = Given::options(options, &valid)?;
        let levels = given.numbers("quantile_levels")?.map(|levels| levels.into_iter().map(Some).collect());
        let samples = given.integer("samples", 1, i32::MAX as usize)?;
        Ok(Self {
            quantile_levels: quantile_levels(levels)?,
            samples: samples.and_then(|samples| i32::try_from(samples).ok()),
            seed: given
                .integer("seed", 0, i64::MAX as usize)?
                .and_then(|seed| i64::try_from(seed).ok())
                .unwrap_or(0),
            on_error: on_error(&given)?,
            given: map,
        })
    }

    /// Those that a model of bars is called with.
    pub fn for_bars(&self) -> JsonB {
        self.only(&[SHARED, OF_BARS])
    }

    /// Those that a model of numbers is called with.
    ///
    /// # Errors
    /// 22023 for a value of another type, or one out of range.
    pub fn for_numbers(&self) -> Result<SeriesOptions> {
        SeriesOptions::parse(Some(self.only(&[SHARED, OF_NUMBERS, &["season"]])))
    }

    fn only(&self, keys: &[&[&str]]) -> JsonB {
        let wanted = |key: &String| keys.iter().any(|keys| keys.contains(&key.as_str()));
        let given = self.given.iter().filter(|(key, _)| wanted(key));
        JsonB(Value::Object(given.map(|(key, value)| (key.clone(), value.clone())).collect()))
    }
}
