//! What can be trained: weights under their names, a loss that leads back to them, and a look at data they have not seen.

use super::error::Result;
use super::noise::Noise;
use super::sampler::Pick;
use candle_core::{Tensor, Var};
use kronos_models::interrupt::Interrupt;

/// A weight of the network.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Key in the file.
    pub name: String,
    /// The weight, f32.
    pub var: Var,
    /// What the learning rate is multiplied with.
    pub rate: f64,
    /// What the weight decay is multiplied with.
    pub decay: f64,
}

impl Parameter {
    /// A weight with the full rate and decay.
    pub fn new(name: impl Into<String>, var: Var) -> Self {
        Self { name: name.into(), var, rate: 1.0, decay: 1.0 }
    }

    /// The same, not decayed: for biases, gains of norms and embeddings.
    pub fn without_decay(self) -> Self {
        Self { decay: 0.0, ..self }
    }
}

/// What the loop trains: a network with the windows it learns from.
pub trait Trainable {
    /// The weights that are trained, always in the same order, each under its own name.
    fn parameters(&self) -> &[Parameter];

    /// The mean loss of the training windows `picks`, a scalar that leads back to the weights.
    ///
    /// Whatever is random about it comes from `noise`, or from the number of a pick's draw.
    fn loss(&self, picks: &[Pick], noise: Noise) -> Result<Tensor>;

    /// The loss of all validation windows, the same whenever it is asked with the same weights.
    fn validate(&self, interrupt: &dyn Interrupt) -> Result<Validation>;

    /// What a checkpoint must have in common with this run beside the options and the names of the weights: the
    /// fingerprint of the data and the configuration of the network.
    fn identity(&self) -> String;
}

/// The outcome of one look at the validation windows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Validation {
    /// What the best weights are chosen by; lower is better.
    pub loss: f64,
    /// Other numbers worth seeing, by name.
    pub scores: Vec<(String, f64)>,
}

/// The values of every parameter.
pub(crate) fn weights(parameters: &[Parameter]) -> Result<Vec<Vec<f32>>> {
    parameters.iter().map(|parameter| Ok(parameter.var.flatten_all()?.to_vec1()?)).collect()
}

/// Sets every parameter.
pub(crate) fn set_weights(parameters: &[Parameter], values: &[Vec<f32>]) -> Result<()> {
    for (parameter, values) in parameters.iter().zip(values) {
        let device = parameter.var.device().clone();
        parameter.var.set(&Tensor::from_slice(values, parameter.var.shape(), &device)?)?;
    }
    Ok(())
}
