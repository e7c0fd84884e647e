//! Chronos-Bolt, the T5-style patch model before Chronos-2: one variate, encoder and decoder, all steps at once.
//!
//! It shares normalisation, attention, feed-forward unit and patch embedding with Chronos-2. A patch without any value is
//! seen by nothing and has no token; positions enter by relative distance only, so what is in front of a history changes
//! no bit of its forecast.

pub mod config;
pub mod family;
mod network;

use crate::artifact::{Tensors, read_config, read_tensors};
use crate::chronos2::checked;
use crate::chronos2::normalise::Scaling;
use crate::device::Precision;
use crate::error::{ModelError, Result};
use crate::interrupt::Interrupt;
use crate::layers::accelerated::Place;
use crate::layers::backend::{Loaded, with_network};
use crate::layers::block::Observer;
use crate::layers::packed::Packed;
use crate::quantile::quantile;
use crate::series::{QuantileForecast, SeriesRequest};
use candle_core::Device;
use config::Config;
pub use network::{Network, bucket};
use std::path::Path;

/// Name of the family in messages.
const FAMILY: &str = "chronos_bolt";

/// Tokens run through the network together.
const TOKENS_PER_PASS: usize = 2048;

/// A model, ready to forecast.
#[derive(Debug)]
pub struct ChronosBolt {
    network: Loaded<Network, Network<Place>>,
}

impl ChronosBolt {
    /// Reads a model directory, strictly, `config.json` and `model.safetensors`: for the kernels on the CPU, for candle's
    /// operations in float32 on another device.
    ///
    /// # Errors
    /// What [`read_config`] and [`read_tensors`] say of the files; [`ModelError::ArtifactCorrupt`] for a configuration
    /// that cannot work; [`ModelError::OutOfMemory`] when the device has no room.
    pub fn load(directory: &Path, device: &Device) -> Result<Self> {
        if !device.is_cpu() {
            return Self::load_accelerated(directory, &Place::new(device, Precision::F32));
        }
        let (config, tensors) = Self::read(directory)?;
        Self::from_tensors(&config, &tensors)
    }

    /// Reads a model directory, strictly, and computes in candle's operations.
    ///
    /// # Errors
    /// As [`ChronosBolt::load`].
    pub fn load_accelerated(directory: &Path, place: &Place) -> Result<Self> {
        let (config, tensors) = Self::read(directory)?;
        Self::accelerated(place, &config, &tensors)
    }

    fn read(directory: &Path) -> Result<(Config, Tensors)> {
        let config: Config = read_config(&directory.join("config.json"))?;
        let specs = checked(directory, config.tensors())?;
        let tensors = read_tensors(&directory.join("model.safetensors"), &specs, &Device::Cpu)?;
        Ok((config, tensors))
    }

    /// A model of the tensors of [`Config::tensors`].
    pub fn from_tensors(config: &Config, tensors: &Tensors) -> Result<Self> {
        Ok(Self { network: Loaded::Packed(Box::new(Network::load(&Packed, config, tensors)?)) })
    }

    /// A model of the tensors of [`Config::tensors`] that computes in candle's operations.
    pub fn accelerated(place: &Place, config: &Config, tensors: &Tensors) -> Result<Self> {
        Ok(Self { network: Loaded::Placed(Box::new(Network::load(place, config, tensors)?)) })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        with_network!(self.network, network => network.config())
    }

    /// One pass over normalised histories, which shows its stages; see [`Network::forward_observed`].
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn forward_observed(
        &self,
        histories: &[Vec<f32>],
        interrupt: &dyn Interrupt,
        see: &mut Observer,
    ) -> Result<Vec<Vec<f32>>> {
        with_network!(self.network, network => network.forward_observed(histories, interrupt, see))
    }

    /// The model's quantile levels, ascending.
    pub fn levels(&self) -> &[f64] {
        &self.config().chronos_config.quantiles
    }

    /// Bytes the weights take.
    pub fn memory_bytes(&self) -> u64 {
        with_network!(self.network, network => network.bytes()) as u64
    }

    /// Forecasts every series of `requests` at the model's levels; one failing series does not stop the others.
    ///
    /// By the kernels a series' numbers do not depend on the other series of the call, nor on their order, bit for bit.
    ///
    /// # Errors
    /// [`ModelError::Cancelled`] and backend errors end the call. What is wrong with one series is in its place of the
    /// result: what [`SeriesRequest::validate`] says, [`ModelError::Unsupported`] for more than one target or any
    /// covariate, and [`ModelError::NonFinite`] when its numbers leave the range of float64.
    pub fn forecast(
        &self,
        requests: &[SeriesRequest],
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<Result<QuantileForecast>>> {
        let chronos = &self.config().chronos_config;
        let mut results: Vec<Result<QuantileForecast>> = Vec::with_capacity(requests.len());
        let mut waiting: Vec<(usize, &[f64])> = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            let empty = QuantileForecast { levels: self.levels().to_vec(), values: Vec::new() };
            results.push(univariate(request).map(|()| empty));
            if results[index].is_ok() {
                let history = &request.targets[0];
                waiting.push((index, &history[history.len().saturating_sub(chronos.context_length)..]));
            }
        }
        let per_pass =
            TOKENS_PER_PASS.div_ceil(chronos.context_length.div_ceil(chronos.input_patch_size) + 1);
        for chunk in waiting.chunks(per_pass) {
            let histories: Vec<Vec<f64>> = chunk.iter().map(|(_, history)| history.to_vec()).collect();
            for ((index, history), mut values) in chunk.iter().zip(self.pass(&histories, interrupt)?) {
                let horizon = requests[*index].horizon;
                self.unroll(history, &mut values, horizon, interrupt)?;
                values.iter_mut().for_each(|values| values.truncate(horizon));
                let forecast = QuantileForecast { levels: self.levels().to_vec(), values: vec![values] };
                results[*index] = forecast.check_finite().map(|()| forecast);
            }
        }
        Ok(results)
    }

    /// One pass: [level][step] of each history, in its unit.
    fn pass(&self, histories: &[Vec<f64>], interrupt: &dyn Interrupt) -> Result<Vec<Vec<Vec<f64>>>> {
        let scalings: Vec<Scaling> = histories.iter().map(|history| Scaling::of(history, false)).collect();
        let normalised: Vec<Vec<f32>> = histories
            .iter()
            .zip(&scalings)
            .map(|(history, scaling)| history.iter().map(|&value| scaling.apply(value)).collect())
            .collect();
        let outputs = with_network!(self.network, network => network.forward(&normalised, interrupt))?;
        let steps = self.config().chronos_config.prediction_length;
        let invert = |(output, scaling): (Vec<f32>, &Scaling)| {
            output.chunks_exact(steps).map(|z| z.iter().map(|&z| scaling.invert(z)).collect()).collect()
        };
        Ok(outputs.into_iter().zip(&scalings).map(invert).collect())
    }

    /// Continues a forecast to the horizon: one path per level, continued by what was last forecast at that level; all
    /// samples of a step are condensed to the levels by sample quantiles.
    fn unroll(
        &self,
        history: &[f64],
        values: &mut [Vec<f64>],
        horizon: usize,
        interrupt: &dyn Interrupt,
    ) -> Result<()> {
        let chronos = &self.config().chronos_config;
        let mut paths = vec![history.to_vec(); values.len()];
        let mut taken = 0;
        while values[0].len() < horizon {
            for (path, values) in paths.iter_mut().zip(values.iter()) {
                path.extend_from_slice(&values[taken..]);
                path.drain(..path.len().saturating_sub(chronos.context_length));
            }
            taken = values[0].len();
            let samples = self.pass(&paths, interrupt)?;
            for step in 0..chronos.prediction_length {
                let mut column: Vec<f64> = samples.iter().flatten().map(|values| values[step]).collect();
                column.sort_by(f64::total_cmp);
                for (values, &level) in values.iter_mut().zip(self.levels()) {
                    values.push(quantile(&column, level));
                }
            }
        }
        Ok(())
    }
}

/// Checks that a request asks for one target and brings nothing else.
fn univariate(request: &SeriesRequest) -> Result<()> {
    request.validate()?;
    let unsupported =
        |capability: &str| Err(ModelError::Unsupported { family: FAMILY, capability: capability.into() });
    match request {
        SeriesRequest { targets, .. } if targets.len() > 1 => unsupported("more than one target"),
        SeriesRequest { past_covariates: past, known_covariates: known, .. }
            if past.len() + known.len() > 0 =>
        {
            unsupported("covariates")
        }
        _ => Ok(()),
    }
}
