//! N-BEATS as a family: one directory with a scaler, passes over columns, each by itself.

use super::config::Config;
use super::{FAMILY, NBeats, ROWS_PER_PASS};
use crate::answer::{Forecast, of_each};
use crate::ask::{Ask, Terms};
use crate::error::Result;
use crate::family::{
    Capabilities, Description, Directory, Facts, Family, Files, MODEL, Misplaced, Settings, Takes,
};
use crate::interrupt::Interrupt;
use crate::layers::accelerated::Place;
use crate::model::{Model, Passing, Work};
use crate::series::{Between, SeriesRequest};
use candle_core::Device;
use serde_json::Value;

/// Quantiles of columns, each by itself.
#[derive(Debug)]
pub struct NBeatsFamily;

const FACTS: Facts = Facts {
    name: FAMILY,
    title: "an N-BEATS model",
    function: "nbeats_predict",
    subdirectory: None,
    directories: &[MODEL],
    parts: &[],
};

impl Family for NBeatsFamily {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn recognises(&self, config: &Value) -> bool {
        config.get("model_type").and_then(Value::as_str) == Some(FAMILY)
    }

    /// A network's input has a fixed length, in values that are there: twice as many rows leave room for days without any.
    fn describe(&self, directory: &Directory<'_>) -> Result<Description, Misplaced> {
        let config: Config = directory.config(directory.path)?;
        let rows = 2 * config.context_length;
        let mut described = Description::of_quantiles(directory.path, rows, &config.quantile_levels);
        described.settings.insert("max_horizon".into(), config.horizon.into());
        described.files.push((directory.path.join("scaler.json"), None));
        Ok(described)
    }

    fn capabilities(&self, settings: &Settings) -> Option<Capabilities> {
        Capabilities::of_quantiles(settings, Takes::Targets, true)
    }

    fn load(&self, files: &Files, place: Option<&Place>) -> Result<Box<dyn Model>> {
        let directory = files.directory(MODEL)?;
        Ok(Box::new(match place {
            Some(place) => NBeats::load_accelerated(directory, place)?,
            None => NBeats::load(directory, &Device::Cpu)?,
        }))
    }
}

impl Model for NBeats {
    fn memory_bytes(&self) -> u64 {
        self.memory_bytes()
    }

    fn work(&self) -> Work<'_> {
        Work::Passes(self)
    }
}

impl Passing for NBeats {
    /// Few levels, far apart, and a head whose outputs of zero are a normal distribution.
    fn between(&self) -> Between {
        Between::Scores
    }

    /// Inputs, outputs and two hidden layers.
    fn working_bytes(&self, asks: &[Ask]) -> u64 {
        let config = self.config();
        let widest = config.stacks.iter().map(|stack| stack.width).max().unwrap_or(0);
        let rows = asks.iter().map(|ask| ask.targets.len()).sum::<usize>().min(ROWS_PER_PASS);
        (rows * (4 * config.inputs() + 4 * config.outputs() + 4 * widest) * size_of::<f32>()) as u64
    }

    fn forecast(
        &self,
        asks: &[Ask],
        terms: &Terms,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<Result<Forecast>>> {
        let requests = asks.iter().map(|ask| SeriesRequest::of_targets(ask, terms.context, FAMILY));
        of_each(requests, |requests| self.forecast(requests, interrupt))
    }
}
