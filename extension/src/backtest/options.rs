//! The options of `kronos.backtest()`: its own, and those that it hands on to the model.

use crate::call::{Options, Reader, quantile_levels};
use crate::error::Result;
use crate::json::JsonB;
use crate::options::Given;
use kronos_models::quantile::QuantileLevels;

/// The key that is read here; the forecast functions have an argument for it.
const OWN: &str = "quantile_levels";

/// The options of one call.
#[derive(Debug)]
pub struct BacktestOptions {
    /// Levels of the column `quantiles`.
    pub quantile_levels: QuantileLevels,
    /// Those that the model and the baselines are asked with.
    pub of_model: Options,
}

impl BacktestOptions {
    /// Checks the options of one call.
    ///
    /// # Errors
    /// 22023 for an unknown key, a value of another type, or one out of range.
    pub fn parse(options: Option<JsonB>) -> Result<Self> {
        let mut valid = Reader::Backtest.keys();
        valid.push(OWN);
        valid.sort_unstable();
        let given = Given::options(options, &valid)?;
        let levels = given.numbers(OWN)?.map(|levels| levels.into_iter().map(Some).collect());
        Ok(Self { quantile_levels: quantile_levels(levels)?, of_model: Options::of(&given)? })
    }

    /// Seed of the sample paths.
    pub fn seed(&self) -> i64 {
        self.of_model.seed.unwrap_or(0)
    }
}
