//! The network: scaled contexts in, outputs of every step and level.

use super::basis::{Basis, basis};
use super::config::{Config, Stack};
use crate::artifact::Tensors;
use crate::error::{ModelError, Result};
use crate::interrupt::Interrupt;
use crate::layers::backend::{Activation, Backend, Held, Span};
use crate::layers::linear::tensor;
use crate::layers::packed::Packed;
use candle_core::Tensor;

/// Blocks in the order they are applied.
#[derive(Debug)]
pub struct Network<B: Backend = Packed> {
    backend: B,
    config: Config,
    blocks: Vec<Block<B>>,
}

#[derive(Debug)]
struct Block<B: Backend> {
    hidden: Vec<B::Linear>,
    /// The last layer, through the basis: backcast, then forecast [step][level].
    last: B::Linear,
    times: usize,
}

impl<B: Backend> Network<B> {
    /// Takes the tensors of [`Config::tensors`].
    pub fn load(backend: &B, config: &Config, tensors: &Tensors) -> Result<Self> {
        let block = |(name, stack, times): (String, &Stack, usize)| {
            let layer = |layer: usize| -> Result<(&Tensor, &Tensor)> {
                let part = |part: &str| tensor(tensors, &format!("{name}.layers.{layer}.{part}"));
                Ok((part("weight")?, part("bias")?))
            };
            let hidden = (0..stack.layers).map(|index| {
                let (weight, bias) = layer(index)?;
                backend.linear(weight, Some(bias), Activation::Rectified)
            });
            let (weight, bias) = layer(stack.layers)?;
            let last = match basis(config, stack) {
                None => backend.linear(weight, Some(bias), Activation::Identity)?,
                Some(Basis { backcast, forecast }) => {
                    let levels = config.quantile_levels.len();
                    let backcast = Span { functions: &backcast, columns: 1 };
                    backend.spanning(
                        weight,
                        bias,
                        &[backcast, Span { functions: &forecast, columns: levels }],
                    )?
                }
            };
            Ok(Block { hidden: hidden.collect::<Result<_>>()?, last, times })
        };
        let blocks = config.blocks().into_iter().map(block).collect::<Result<_>>()?;
        Ok(Self { backend: backend.clone(), config: config.clone(), blocks })
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        let layers =
            |block: &Block<B>| block.hidden.iter().chain([&block.last]).map(Held::bytes).sum::<usize>();
        self.blocks.iter().map(layers).sum()
    }

    /// Outputs of scaled contexts: one row per context, [step][level].
    ///
    /// # Shapes
    /// `inputs`: rows of [`Config::inputs`] numbers, newest first → rows of [`Config::outputs`] numbers.
    /// # Errors
    /// [`ModelError::ShapeMismatch`] for a row that is not whole; [`ModelError::Cancelled`] when `interrupt` says so between
    /// blocks.
    pub fn forward(&self, inputs: &[f32], interrupt: &dyn Interrupt) -> Result<Vec<f32>>
    where
        B: Backend<Dropout = ()>,
    {
        let width = self.config.inputs();
        if !inputs.len().is_multiple_of(width) {
            let (got, expected) = (inputs.len(), inputs.len() / width * width);
            return Err(ModelError::ShapeMismatch { what: "inputs", got, expected });
        }
        B::values(&self.outputs(&self.backend.matrix(inputs.to_vec(), width)?, (), interrupt)?)
    }

    /// [`Network::forward`] with dropout, on tensors.
    ///
    /// # Shapes
    /// [rows, inputs] → [rows, outputs].
    pub fn outputs(&self, inputs: &Tensor, dropout: B::Dropout, interrupt: &dyn Interrupt) -> Result<Tensor> {
        let (width, outputs) = (self.config.inputs(), self.config.outputs());
        let mut residual = inputs.clone();
        let mut forecast = self.backend.matrix(vec![0.0; inputs.dim(0)? * outputs], outputs)?;
        let repeated = self.blocks.iter().flat_map(|block| std::iter::repeat_n(block, block.times));
        for (number, block) in repeated.enumerate() {
            interrupt.check()?;
            let mut x = residual.clone();
            for (layer, map) in block.hidden.iter().enumerate() {
                x = B::drop(B::product(map, &x)?, B::at(dropout, (number * 32 + layer) as u64))?;
            }
            let said = B::product(&block.last, &x)?;
            // Contiguous, because candle walks a part of a matrix value by value.
            residual = (residual - said.narrow(1, 0, width)?.contiguous()?)?;
            forecast = (forecast + said.narrow(1, width, outputs)?.contiguous()?)?;
        }
        Ok(forecast)
    }
}
