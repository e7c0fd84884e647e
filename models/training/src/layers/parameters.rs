//! The weights of a model in training, by the names of its file.

use candle_core::{Device, Tensor, Var};
use kronos_models::artifact::{TensorRole, TensorSpec, Tensors};
use kronos_models::error::{ModelError, Result};
use kronos_models::random::Stream;
use std::collections::BTreeMap;

/// How a tensor starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initial {
    /// Every value the same.
    Constant(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
    /// Uniform between minus and plus this bound.
    Uniform(f32),
}

/// Named variables in the order of their names, which optimisers and checkpoints rely on.
#[derive(Debug, Clone)]
pub struct Parameters {
    variables: BTreeMap<String, Var>,
}

impl Parameters {
    /// Draws every tensor of `specs` that a model reads; the same key gives the same weights.
    pub fn initialise(
        specs: &[TensorSpec],
        initial: impl Fn(&TensorSpec) -> Initial,
        key: u64,
        device: &Device,
    ) -> Result<Self> {
        let variable = |spec: &TensorSpec| {
            let n: usize = spec.shape.iter().product();
            // A stream per name, so that adding a tensor leaves the others as they are.
            let stream = Stream::new(key as i64, &spec.name, 0, "parameters");
            let uniform = |i: usize, draw: u32| stream.uniform(i as u32, (i >> 32) as u32, draw);
            let values: Vec<f32> = match initial(spec) {
                Initial::Constant(value) => vec![value; n],
                Initial::Uniform(bound) => {
                    (0..n).map(|i| ((uniform(i, 0) * 2.0 - 1.0) * f64::from(bound)) as f32).collect()
                }
                Initial::Normal(deviation) => (0..n)
                    .map(|i| {
                        // Box and Muller; 1 − u is never 0.
                        let radius = (-2.0 * (1.0 - uniform(i, 0)).ln()).sqrt();
                        let angle = std::f64::consts::TAU * uniform(i, 1);
                        (radius * angle.cos() * f64::from(deviation)) as f32
                    })
                    .collect(),
            };
            let tensor = Tensor::from_vec(values, spec.shape.as_slice(), device)?;
            Ok((spec.name.clone(), Var::from_tensor(&tensor)?))
        };
        let read = specs.iter().filter(|spec| spec.role != TensorRole::Ignored);
        Ok(Self { variables: read.map(variable).collect::<Result<_>>()? })
    }

    /// Copies tensors that were read from a file.
    pub fn from_tensors(tensors: &Tensors, device: &Device) -> Result<Self> {
        let variable = |(name, tensor): (&String, &Tensor)| {
            Ok((name.clone(), Var::from_tensor(&tensor.to_device(device)?)?))
        };
        Ok(Self { variables: tensors.iter().map(variable).collect::<Result<_>>()? })
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// A backend error when there is none, which the caller's list of tensors rules out.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        self.variables.get(name).map(Var::as_tensor).ok_or_else(|| {
            ModelError::Backend(candle_core::Error::CannotFindTensor { path: name.into() }.bt())
        })
    }

    /// The tensor of that name, where the file may lack it.
    pub fn find(&self, name: &str) -> Option<&Tensor> {
        self.variables.get(name).map(Var::as_tensor)
    }

    /// The variables as a network over [`Traced`](super::Traced) takes them.
    pub fn traced(&self) -> Tensors {
        self.variables.iter().map(|(name, variable)| (name.clone(), variable.as_tensor().clone())).collect()
    }

    /// All variables, by name.
    pub fn variables(&self) -> &BTreeMap<String, Var> {
        &self.variables
    }

    /// Number of weights.
    pub fn count(&self) -> usize {
        self.variables.values().map(|variable| variable.elem_count()).sum()
    }

    /// The tensors as a model for inference takes them.
    pub fn tensors(&self) -> Tensors {
        self.variables.iter().map(|(name, variable)| (name.clone(), variable.as_tensor().detach())).collect()
    }
}
