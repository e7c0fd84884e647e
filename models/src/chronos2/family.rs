//! Chronos-2 as a family: one directory, an adapter where one is named, passes over asks with covariates of any kind.

use super::config::Config;
use super::encode::encode;
use super::{Chronos2, Chronos2Files, Chronos2Options};
use crate::adapter;
use crate::answer::{Forecast, of_each};
use crate::ask::{Ask, Terms};
use crate::error::Result;
use crate::family::{
    Capabilities, Description, Directory, Facts, Family, Files, MODEL, Misplaced, Part, Settings, Takes,
};
use crate::interrupt::Interrupt;
use crate::layers::accelerated::Place;
use crate::model::{Model, Passing, Work};
use candle_core::Device;
use serde_json::Value;
use std::path::Path;

/// Name of the family, also as the configuration may give it.
const NAME: &str = "chronos2";

/// The directory of an adapter, in settings and as an option of a registration.
const ADAPTER: &str = "adapter";

/// Floats that a pass keeps per token and unit of width, beside the hidden layer: stream, norm, queries, keys, values
/// in two layouts, attention and gathered copies.
const FLOATS_PER_WIDTH: usize = 16;

/// Tokens of a pass; what is beyond is one group that is larger by itself.
const TOKENS: usize = 4096;

/// Quantiles of any columns, with covariates.
#[derive(Debug)]
pub struct Chronos2Family;

const FACTS: Facts = Facts {
    name: NAME,
    title: "a Chronos model",
    function: "chronos_predict",
    subdirectory: None,
    directories: &[MODEL, ADAPTER],
    parts: &[Part { option: ADAPTER, digest: None }],
};

impl Family for Chronos2Family {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn recognises(&self, config: &Value) -> bool {
        is_architecture(config, "Chronos2Model")
            || config.get("model_type").and_then(Value::as_str) == Some(NAME)
    }

    fn describe(&self, directory: &Directory<'_>) -> Result<Description, Misplaced> {
        let config: Config = directory.config(directory.path)?;
        let chronos = &config.chronos_config;
        let mut described =
            Description::of_quantiles(directory.path, chronos.context_length, &chronos.quantiles);
        if let Some(adapter) = directory.parts.get(ADAPTER) {
            described.directories.push((ADAPTER, adapter.clone()));
            let files = [adapter::CONFIG, adapter::WEIGHTS];
            described.files.extend(files.map(|file| (adapter.join(file), None)));
        }
        Ok(described)
    }

    fn capabilities(&self, settings: &Settings) -> Option<Capabilities> {
        Capabilities::of_quantiles(settings, Takes::Covariates, true)
    }

    fn load(&self, files: &Files, place: Option<&Place>) -> Result<Box<dyn Model>> {
        let files = Chronos2Files {
            model: files.directory(MODEL)?.to_path_buf(),
            adapter: files.directory(ADAPTER).ok().map(Path::to_path_buf),
        };
        Ok(Box::new(match place {
            Some(place) => Chronos2::load_accelerated(&files, place)?,
            None => Chronos2::load(&files, &Device::Cpu)?,
        }))
    }
}

/// Whether the first class name of a configuration is `name`.
pub(crate) fn is_architecture(config: &Value, name: &str) -> bool {
    config.pointer("/architectures/0").and_then(Value::as_str) == Some(name)
}

/// Bytes of a pass over asks through blocks of such a width, hidden width and patch, about.
pub(crate) fn pass_bytes(asks: &[Ask], width: usize, hidden: usize, patch: usize) -> u64 {
    let tokens = |ask: &Ask| ask.variates() * ((ask.context_len() + ask.horizon) / patch + 2);
    let tokens = asks.iter().map(tokens).max().unwrap_or(0).max(TOKENS);
    (tokens * (hidden + FLOATS_PER_WIDTH * width) * size_of::<f32>()) as u64
}

impl Model for Chronos2 {
    fn memory_bytes(&self) -> u64 {
        self.memory_bytes()
    }

    fn work(&self) -> Work<'_> {
        Work::Passes(self)
    }
}

impl Passing for Chronos2 {
    fn working_bytes(&self, asks: &[Ask]) -> u64 {
        let config = self.config();
        pass_bytes(asks, config.d_model.max(config.num_heads * config.d_kv), config.d_ff, config.patch())
    }

    fn forecast(
        &self,
        asks: &[Ask],
        terms: &Terms,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<Result<Forecast>>> {
        let options = Chronos2Options {
            context_length: Some(terms.context.min(self.config().chronos_config.context_length)),
            cross_learning: terms.cross_learning,
            ..Chronos2Options::default()
        };
        let requests = asks.iter().map(|ask| Ok(encode(ask)));
        of_each(requests, |requests| self.forecast(requests, &options, interrupt))
    }
}
