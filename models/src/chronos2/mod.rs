//! Chronos-2, the foundation model for numbers of any kind (arXiv 2510.15821; reference implementation
//! amazon-science/chronos-forecasting at 95185d1).
//!
//! Each variate is normalised by itself, cut into patches, and read by an encoder whose blocks attend in turn along time
//! and across the variates of a group. The reference builds that second attention as a mask over its whole batch, so
//! its cost grows with the square of the batch. Here a group is computed by itself, whatever else is in the batch: cost
//! grows linearly with the number of series, and a series gives the same bits alone and in any company. A variate alone
//! in its group needs one matrix product there, and the last block runs on the future only ([`network`]).

pub mod config;
pub mod covariates;
pub mod encode;
pub mod family;
pub mod layout;
pub mod network;
pub mod normalise;
mod observe;
mod passes;
pub mod unroll;

pub use layout::{Group, Variate};

use crate::adapter::{self, Base};
use crate::artifact::{TensorSpec, Tensors, read_config, read_tensors};
use crate::device::Precision;
use crate::error::{ModelError, Result};
use crate::interrupt::Interrupt;
use crate::layers::accelerated::Place;
use crate::layers::backend::{Loaded, with_network};
use crate::layers::packed::Packed;
use crate::series::{QuantileForecast, SeriesRequest};
use candle_core::Device;
use config::Config;
use network::Network;
use passes::Ensemble;
use std::path::{Path, PathBuf};

/// Tokens run through the network together: enough to be bound by arithmetic, few enough to stay in fast memory and to
/// be interrupted within a moment.
const TOKENS_PER_PASS: usize = 2048;

/// Where a model lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chronos2Files {
    /// Directory with `config.json` and `model.safetensors`.
    pub model: PathBuf,
    /// Directory of a low-rank adapter to merge: `adapter_config.json` and `adapter_model.safetensors`.
    pub adapter: Option<PathBuf>,
}

/// How a call deviates from the model's defaults.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chronos2Options {
    /// Longest history used, at most the model's.
    pub context_length: Option<usize>,
    /// Lets consecutive series inform each other, as many as fill this number of variates; `None`: every series by itself.
    ///
    /// The numbers of a series then depend on the other series of the call and on their order.
    pub cross_learning: Option<usize>,
    /// Forecast patches of one pass, at most the model's.
    pub max_output_patches: Option<usize>,
    /// Levels of the paths that continue a forecast beyond one pass, out of the model's; `None`: its deciles.
    pub unrolled_levels: Option<Vec<f64>>,
}

/// A model, ready to forecast.
#[derive(Debug)]
pub struct Chronos2 {
    network: Loaded<Network, Network<Place>>,
}

impl Chronos2 {
    /// Reads a model, strictly: for the kernels on the CPU, for candle's operations in float32 on another device.
    ///
    /// # Errors
    /// What [`read_config`] and [`read_tensors`] say of the files; [`ModelError::ArtifactCorrupt`] for a configuration
    /// that cannot work; [`ModelError::OutOfMemory`] when the device has no room.
    pub fn load(files: &Chronos2Files, device: &Device) -> Result<Self> {
        if !device.is_cpu() {
            return Self::load_accelerated(files, &Place::new(device, Precision::F32));
        }
        let (config, tensors) = Self::read(files)?;
        Self::from_tensors(&config, &tensors)
    }

    /// Reads a model, strictly, and computes in candle's operations.
    ///
    /// # Errors
    /// As [`Chronos2::load`].
    pub fn load_accelerated(files: &Chronos2Files, place: &Place) -> Result<Self> {
        let (config, tensors) = Self::read(files)?;
        Self::accelerated(place, &config, &tensors)
    }

    /// A model of the tensors of [`Config::tensors`] that computes in candle's operations.
    pub fn accelerated(place: &Place, config: &Config, tensors: &Tensors) -> Result<Self> {
        Ok(Self { network: Loaded::Placed(Box::new(Network::load(place, config, tensors)?)) })
    }

    fn read(files: &Chronos2Files) -> Result<(Config, Tensors)> {
        let config: Config = read_config(&files.model.join("config.json"))?;
        let specs = checked(&files.model, config.tensors())?;
        let mut tensors = read_tensors(&files.model.join("model.safetensors"), &specs, &Device::Cpu)?;
        if let Some(adapter) = &files.adapter {
            let weights = &files.model.join("model.safetensors");
            adapter::merge(adapter, Base { weights, specs: &specs, tables: config::TABLES }, &mut tensors)?;
        }
        Ok((config, tensors))
    }

    /// A model of the tensors of [`Config::tensors`].
    pub fn from_tensors(config: &Config, tensors: &Tensors) -> Result<Self> {
        Ok(Self { network: Loaded::Packed(Box::new(Network::load(&Packed, config, tensors)?)) })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        with_network!(self.network, network => network.config())
    }

    /// The network of the kernels, for those who look at its stages.
    pub fn network(&self) -> Option<&Network> {
        match &self.network {
            Loaded::Packed(network) => Some(network),
            Loaded::Placed(_) => None,
        }
    }

    /// One pass over variates that are normalised; see [`Network::forward`].
    fn forward(&self, groups: &[Group], patches: usize, interrupt: &dyn Interrupt) -> Result<Vec<Vec<f32>>> {
        with_network!(self.network, network => network.forward(groups, patches, interrupt))
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
    /// Without cross-learning a series' numbers do not depend on the other series of the call, nor on their order, bit
    /// for bit. Quantiles may cross, as in the reference; [`QuantileForecast::at`] puts them in order.
    ///
    /// # Errors
    /// [`ModelError::Cancelled`], backend errors and [`ModelError::InvalidParameter`] for an option end the call. What
    /// is wrong with one series is in its place of the result: what [`SeriesRequest::validate`] says, and
    /// [`ModelError::NonFinite`] when its numbers leave the range of float64.
    pub fn forecast(
        &self,
        requests: &[SeriesRequest],
        options: &Chronos2Options,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<Result<QuantileForecast>>> {
        let plan = self.plan(options)?;
        let mut results: Vec<Result<QuantileForecast>> = Vec::with_capacity(requests.len());
        let mut ensembles: Vec<Ensemble> = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            // Replaced by the forecast, or by what went wrong on the way to it.
            results.push(
                request.validate().map(|()| QuantileForecast { levels: Vec::new(), values: Vec::new() }),
            );
            if results[index].is_err() {
                continue;
            }
            match ensembles.last_mut().filter(|last| last.admits(request, options.cross_learning)) {
                Some(last) => last.join(index, request, plan.context),
                None => ensembles.push(Ensemble::new(index, request, plan.context)),
            }
        }
        let mut rest = ensembles.as_mut_slice();
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at_mut(plan.chunk(rest));
            self.run(chunk, &plan, interrupt)?;
            for ensemble in chunk {
                for (index, forecast) in ensemble.take_forecasts(self.levels()) {
                    results[index] = forecast.check_finite().map(|()| forecast);
                }
            }
            rest = later;
        }
        Ok(results)
    }
}

/// Names the configuration file in what is wrong with it.
pub(crate) fn checked(directory: &Path, specs: Result<Vec<TensorSpec>>) -> Result<Vec<TensorSpec>> {
    specs.map_err(|error| ModelError::ArtifactCorrupt {
        path: directory.join("config.json"),
        reason: error.to_string(),
    })
}
