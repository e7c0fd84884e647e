//! Chronos-Bolt as a family: one directory, passes over single columns.

use super::config::Config;
use super::{ChronosBolt, FAMILY};
use crate::answer::{Forecast, of_each};
use crate::ask::{Ask, Terms};
use crate::chronos2::family::{is_architecture, pass_bytes};
use crate::error::Result;
use crate::family::{
    Capabilities, Description, Directory, Facts, Family, Files, MODEL, Misplaced, Settings, Takes,
};
use crate::interrupt::Interrupt;
use crate::layers::accelerated::Place;
use crate::model::{Model, Passing, Work};
use crate::series::SeriesRequest;
use candle_core::Device;
use serde_json::Value;

/// Quantiles of one column.
#[derive(Debug)]
pub struct ChronosBoltFamily;

const FACTS: Facts = Facts {
    name: FAMILY,
    title: "a Chronos model",
    function: "chronos_predict",
    subdirectory: None,
    directories: &[MODEL],
    parts: &[],
};

impl Family for ChronosBoltFamily {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn recognises(&self, config: &Value) -> bool {
        is_architecture(config, "ChronosBoltModelForForecasting")
    }

    fn describe(&self, directory: &Directory<'_>) -> Result<Description, Misplaced> {
        let config: Config = directory.config(directory.path)?;
        let chronos = &config.chronos_config;
        Ok(Description::of_quantiles(directory.path, chronos.context_length, &chronos.quantiles))
    }

    fn capabilities(&self, settings: &Settings) -> Option<Capabilities> {
        Capabilities::of_quantiles(settings, Takes::OneTarget, true)
    }

    fn load(&self, files: &Files, place: Option<&Place>) -> Result<Box<dyn Model>> {
        let directory = files.directory(MODEL)?;
        Ok(Box::new(match place {
            Some(place) => ChronosBolt::load_accelerated(directory, place)?,
            None => ChronosBolt::load(directory, &Device::Cpu)?,
        }))
    }
}

impl Model for ChronosBolt {
    fn memory_bytes(&self) -> u64 {
        self.memory_bytes()
    }

    fn work(&self) -> Work<'_> {
        Work::Passes(self)
    }
}

impl Passing for ChronosBolt {
    fn working_bytes(&self, asks: &[Ask]) -> u64 {
        let config = self.config();
        let patch = config.chronos_config.input_patch_size;
        pass_bytes(asks, config.d_model.max(config.num_heads * config.d_kv), config.d_ff, patch)
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
