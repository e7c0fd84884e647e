//! The network of [`kronos_models::chronos2::network`] with weights that can change, and its loss.

use super::{Chronos2Training, Example};
use crate::layers::{Dropout, Initial, Parameters, Traced};
use candle_core::{Device, Tensor};
use kronos_models::artifact::{TensorSpec, Tensors};
use kronos_models::chronos2::Group;
use kronos_models::chronos2::config::Config;
use kronos_models::chronos2::network::Network;
use kronos_models::error::{ModelError, Result};
use kronos_models::interrupt::NeverInterrupt;
use std::sync::Arc;

/// A Chronos-2 model whose weights can change.
#[derive(Debug, Clone)]
pub struct TrainableChronos2 {
    config: Chronos2Training,
    parameters: Parameters,
    network: Arc<Network<Traced>>,
}

impl TrainableChronos2 {
    /// Random weights by the reference's rule.
    ///
    /// # Errors
    /// As [`Config::validate`].
    pub fn initialise(config: &Chronos2Training, key: u64, device: &Device) -> Result<Self> {
        let initial = |spec: &TensorSpec| initial(spec, config);
        let parameters = Parameters::initialise(&config.config.tensors()?, initial, key, device)?;
        Self::of(config, parameters, device)
    }

    /// The weights of a file, read by the list of [`Config::tensors`].
    ///
    /// # Errors
    /// As [`Config::validate`].
    pub fn from_tensors(config: &Chronos2Training, tensors: &Tensors, device: &Device) -> Result<Self> {
        Self::of(config, Parameters::from_tensors(tensors, device)?, device)
    }

    fn of(config: &Chronos2Training, parameters: Parameters, device: &Device) -> Result<Self> {
        let network = Network::load(&Traced::new(device), &config.config, &parameters.traced())?;
        Ok(Self { config: config.clone(), parameters, network: Arc::new(network) })
    }

    /// The configuration.
    pub fn config(&self) -> &Chronos2Training {
        &self.config
    }

    /// The weights.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Quantiles of the normalised future of every wanted variate; `key` of `None` switches dropout off.
    ///
    /// # Shapes
    /// [variates, patches, levels, patch].
    pub fn forward(&self, groups: &[Group], patches: usize, key: Option<u64>) -> Result<Tensor> {
        let dropout = key.map_or(Dropout::none(), |key| Dropout::new(self.config.dropout_rate, key));
        let quantiles = self.network.quantiles(groups, patches, dropout, &NeverInterrupt)?;
        let Config { chronos_config, .. } = &self.config.config;
        let shape = ((), patches, chronos_config.quantiles.len(), self.config.config.patch());
        Ok(quantiles.reshape(shape)?)
    }

    /// The quantile loss of examples that all ask for `patches` patches.
    ///
    /// Twice the pinball loss in the space of the network, summed over levels, with a mean over all steps of the patches
    /// and all variates; missing values, steps beyond the horizon, futures that are known and variates that nobody wants count as
    /// zeros in the mean.
    ///
    /// # Errors
    /// [`ModelError::ShapeMismatch`] when a future is longer than the patches.
    pub fn loss(&self, examples: &[Example], patches: usize, key: Option<u64>) -> Result<Tensor> {
        let (size, levels) = (self.config.config.patch(), &self.config.config.chronos_config.quantiles);
        let steps = patches * size;
        let mut actual = Vec::new();
        let mut weight = Vec::new();
        let mut variates = 0;
        for ((variate, future), &counting) in
            examples.iter().flat_map(|example| example.group.iter().zip(&example.actual).zip(&example.weight))
        {
            if future.len() > steps {
                let (got, expected) = (future.len(), steps);
                return Err(ModelError::ShapeMismatch { what: "steps of a future", got, expected });
            }
            variates += 1;
            if !variate.wanted {
                continue;
            }
            for step in 0..steps {
                let value = future.get(step).copied().unwrap_or(f32::NAN);
                let known = variate.future.get(step).is_some_and(|value| !value.is_nan());
                let counts = !value.is_nan() && !known;
                actual.push(if counts { value } else { 0.0 });
                weight.push(if counts { counting } else { 0.0 });
            }
        }
        let groups: Vec<Group> = examples.iter().map(|example| example.group.clone()).collect();
        let quantiles = self.forward(&groups, patches, key)?;
        let device = quantiles.device();
        let shape = (quantiles.dim(0)?, patches, 1, size);
        let actual = Tensor::from_vec(actual, shape, device)?;
        let weight = Tensor::from_vec(weight, shape, device)?;
        let taus: Vec<f32> = levels.iter().map(|&level| level as f32).collect();
        let taus = Tensor::from_vec(taus, (1, 1, levels.len(), 1), device)?;
        let error = actual.broadcast_sub(&quantiles)?;
        // max(τu, (τ − 1)u) = τu + max(−u, 0).
        let pinball = (error.broadcast_mul(&taus)? + error.neg()?.relu()?)?.broadcast_mul(&weight)?;
        Ok((pinball.sum_all()? * (2.0 / (variates * steps) as f64))?)
    }
}

/// The reference's rule, a standard deviation by the width that feeds a map.
fn initial(spec: &TensorSpec, config: &Chronos2Training) -> Initial {
    let Config { d_model, d_kv, .. } = config.config;
    let factor = config.initializer_factor;
    let name = spec.name.as_str();
    match spec.shape.as_slice() {
        [_] if name.ends_with("norm.weight") => Initial::Constant(factor),
        [_] => Initial::Constant(0.0),
        _ if name == "shared.weight" => Initial::Normal(factor),
        _ if name.ends_with(".q.weight") => Initial::Normal(factor / ((d_model * d_kv) as f32).sqrt()),
        [_, input] => Initial::Normal(factor / (*input as f32).sqrt()),
        _ => Initial::Constant(0.0),
    }
}
