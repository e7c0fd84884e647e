//! N-BEATS: stacks of fully connected blocks, each explaining a part of the context and adding to the forecast.
//!
//! One network serves all series: a context is scaled by its own last value and volatility, so a share of 3 and one of 3000
//! look alike. Quantiles cannot cross (see [`scaling::Head`]). The paper's two architectures differ only in the stacks of
//! the configuration: generic ones say anything, trend and seasonality only what their basis can.

pub mod basis;
pub mod config;
pub mod family;
pub mod network;
pub mod scaling;

use crate::artifact::{Tensors, read_config, read_tensors};
use crate::device::Precision;
use crate::error::{ModelError, Result};
use crate::interrupt::Interrupt;
use crate::layers::accelerated::Place;
use crate::layers::backend::{Loaded, with_network};
use crate::layers::packed::Packed;
use crate::series::{QuantileForecast, SeriesRequest};
use candle_core::Device;
use config::{Config, ScalerConfig};
use network::Network;
use scaling::{Scaled, Scaler};
use std::path::Path;

/// Name of the family in messages.
const FAMILY: &str = config::MODEL_TYPE;

/// Contexts run through the network together.
const ROWS_PER_PASS: usize = 512;

/// A model, ready to forecast.
#[derive(Debug)]
pub struct NBeats {
    network: Loaded<Network, Network<Place>>,
    scaler: Scaler,
}

impl NBeats {
    /// Reads a model directory, strictly, `config.json`, `scaler.json` and `model.safetensors`: for the kernels on the CPU, for
    /// candle's operations in float32 on another device.
    ///
    /// # Errors
    /// What [`read_config`] and [`read_tensors`] say of the files; [`ModelError::ArtifactCorrupt`] for a configuration that
    /// cannot work; [`ModelError::OutOfMemory`] when the device has no room.
    pub fn load(directory: &Path, device: &Device) -> Result<Self> {
        if !device.is_cpu() {
            return Self::load_accelerated(directory, &Place::new(device, Precision::F32));
        }
        let (config, scaler, tensors) = Self::read(directory)?;
        Self::from_tensors(&config, &scaler, &tensors)
    }

    /// Reads a model directory, strictly, and computes in candle's operations.
    ///
    /// # Errors
    /// As [`NBeats::load`].
    pub fn load_accelerated(directory: &Path, place: &Place) -> Result<Self> {
        let (config, scaler, tensors) = Self::read(directory)?;
        Self::accelerated(place, &config, &scaler, &tensors)
    }

    fn read(directory: &Path) -> Result<(Config, ScalerConfig, Tensors)> {
        let config: Config = read_config(&directory.join("config.json"))?;
        let scaler: ScalerConfig = read_config(&directory.join("scaler.json"))?;
        let refuse = |file: &str, error: ModelError| ModelError::ArtifactCorrupt {
            path: directory.join(file),
            reason: error.to_string(),
        };
        scaler.validate().map_err(|error| refuse("scaler.json", error))?;
        let specs = config.tensors().map_err(|error| refuse("config.json", error))?;
        let tensors = read_tensors(&directory.join("model.safetensors"), &specs, &Device::Cpu)?;
        Ok((config, scaler, tensors))
    }

    /// A model of the tensors of [`Config::tensors`].
    pub fn from_tensors(config: &Config, scaler: &ScalerConfig, tensors: &Tensors) -> Result<Self> {
        let network = Loaded::Packed(Box::new(Network::load(&Packed, config, tensors)?));
        Ok(Self { network, scaler: Scaler::new(config, scaler) })
    }

    /// A model of the tensors of [`Config::tensors`] that computes in candle's operations.
    pub fn accelerated(
        place: &Place,
        config: &Config,
        scaler: &ScalerConfig,
        tensors: &Tensors,
    ) -> Result<Self> {
        let network = Loaded::Placed(Box::new(Network::load(place, config, tensors)?));
        Ok(Self { network, scaler: Scaler::new(config, scaler) })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        with_network!(self.network, network => network.config())
    }

    /// Outputs of contexts that somebody else has scaled; see [`Network::forward`].
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn forward(&self, inputs: &[f32], interrupt: &dyn Interrupt) -> Result<Vec<f32>> {
        with_network!(self.network, network => network.forward(inputs, interrupt))
    }

    /// The model's quantile levels, ascending.
    pub fn levels(&self) -> &[f64] {
        &self.config().quantile_levels
    }

    /// Bytes the weights take.
    pub fn memory_bytes(&self) -> u64 {
        with_network!(self.network, network => network.bytes()) as u64
    }

    /// Forecasts every series of `requests` at the model's levels; one failing series does not stop the others.
    ///
    /// By the kernels a series' numbers do not depend on the other series of the call, nor on their order, bit for bit. Several targets
    /// are forecast one by one.
    ///
    /// # Errors
    /// [`ModelError::Cancelled`] and backend errors end the call. What is wrong with one series is in its place of the
    /// result: what [`SeriesRequest::validate`] and [`Scaler::scale`] say, [`ModelError::InvalidParameter`] for a horizon
    /// beyond the model's, [`ModelError::Unsupported`] for covariates, and [`ModelError::NonFinite`].
    pub fn forecast(
        &self,
        requests: &[SeriesRequest],
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<Result<QuantileForecast>>> {
        let mut results: Vec<Result<QuantileForecast>> = Vec::with_capacity(requests.len());
        let mut waiting: Vec<(usize, Scaled)> = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            let scaled = self.check(request).and_then(|()| {
                request.targets.iter().map(|target| self.scaler.scale(target)).collect::<Result<Vec<_>>>()
            });
            results.push(scaled.map(|scaled| {
                waiting.extend(scaled.into_iter().map(|scaled| (index, scaled)));
                QuantileForecast { levels: self.levels().to_vec(), values: Vec::new() }
            }));
        }
        for chunk in waiting.chunks(ROWS_PER_PASS) {
            let inputs: Vec<f32> = chunk.iter().flat_map(|(_, scaled)| &scaled.inputs).copied().collect();
            let outputs = self.forward(&inputs, interrupt)?;
            for ((index, scaled), outputs) in chunk.iter().zip(outputs.chunks_exact(self.config().outputs()))
            {
                if let Ok(forecast) = &mut results[*index] {
                    let steps = requests[*index].horizon;
                    forecast.values.push(self.scaler.quantiles(scaled, outputs, steps));
                }
            }
        }
        let finite = |forecast: QuantileForecast| forecast.check_finite().map(|()| forecast);
        Ok(results.into_iter().map(|result| result.and_then(finite)).collect())
    }

    fn check(&self, request: &SeriesRequest) -> Result<()> {
        request.validate()?;
        if request.past_covariates.len() + request.known_covariates.len() > 0 {
            return Err(ModelError::Unsupported { family: FAMILY, capability: "covariates".into() });
        }
        let most = self.config().horizon;
        if request.horizon > most {
            return Err(ModelError::InvalidParameter {
                name: "horizon",
                expected: format!("at most {most}, what the model was trained for"),
                got: request.horizon.to_string(),
            });
        }
        Ok(())
    }
}
