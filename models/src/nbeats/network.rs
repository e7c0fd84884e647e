//! The network for inference, on the kernels whose bits do not depend on the batch.

use super::basis::basis;
use super::config::Config;
use crate::artifact::Tensors;
use crate::error::{ModelError, Result};
use crate::interrupt::Interrupt;
use crate::layers::linear::{Linear, linear, tensor};
use crate::layers::tensor::{matrix, with_values};
use candle_core::{Device, Tensor};

/// Blocks in the order they are applied.
#[derive(Debug)]
pub struct Network {
    config: Config,
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    hidden: Vec<Linear>,
    /// The last layer with the basis multiplied in: backcast, then forecast [step][level].
    last: Linear,
    times: usize,
}

impl Network {
    /// Packs the tensors of [`Config::tensors`].
    pub fn new(config: &Config, tensors: &Tensors) -> Result<Self> {
        let block = |(name, stack, times): (String, &super::config::Stack, usize)| {
            let layer = |layer: usize| format!("{name}.layers.{layer}");
            let hidden = (0..stack.layers).map(|index| {
                let name = layer(index);
                Linear::rectified(
                    tensor(tensors, &format!("{name}.weight"))?,
                    tensors.get(&format!("{name}.bias")),
                )
            });
            let last = match basis(config, stack) {
                None => linear(tensors, &layer(stack.layers))?,
                Some(basis) => {
                    let values = |part: &str| -> Result<Vec<f32>> {
                        let name = format!("{}.{part}", layer(stack.layers));
                        Ok(tensor(tensors, &name)?.flatten_all()?.to_vec1()?)
                    };
                    projected(config, &basis, stack.width, &values("weight")?, &values("bias")?)?
                }
            };
            Ok(Block { hidden: hidden.collect::<Result<_>>()?, last, times })
        };
        let blocks = config.blocks().into_iter().map(block).collect::<Result<_>>()?;
        Ok(Self { config: config.clone(), blocks })
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        let layers =
            |block: &Block| block.hidden.iter().map(Linear::bytes).sum::<usize>() + block.last.bytes();
        self.blocks.iter().map(layers).sum()
    }

    /// Outputs of scaled contexts: one row per context, [step][level].
    ///
    /// # Shapes
    /// `inputs`: rows of [`Config::inputs`] numbers, newest first → rows of [`Config::outputs`] numbers.
    pub fn forward(&self, inputs: &[f32], interrupt: &dyn Interrupt) -> Result<Vec<f32>> {
        let (width, outputs) = (self.config.inputs(), self.config.outputs());
        let rows = inputs.len() / width;
        if inputs.len() != rows * width {
            return Err(ModelError::ShapeMismatch {
                what: "inputs",
                got: inputs.len(),
                expected: rows * width,
            });
        }
        let mut residual = inputs.to_vec();
        let mut forecast = vec![0f32; rows * outputs];
        for block in self.blocks.iter().flat_map(|block| std::iter::repeat_n(block, block.times)) {
            interrupt.check()?;
            let mut x = matrix(residual.clone(), width)?;
            for layer in &block.hidden {
                x = layer.forward(&x)?;
            }
            with_values(&block.last.forward(&x)?, |said| {
                for ((said, residual), forecast) in said
                    .chunks_exact(width + outputs)
                    .zip(residual.chunks_exact_mut(width))
                    .zip(forecast.chunks_exact_mut(outputs))
                {
                    residual.iter_mut().zip(said).for_each(|(left, said)| *left -= said);
                    forecast.iter_mut().zip(&said[width..]).for_each(|(sum, said)| *sum += said);
                }
            })?;
        }
        Ok(forecast)
    }
}

/// The last layer of an interpretable block times its basis, in f64, as one layer.
fn projected(
    config: &Config,
    basis: &super::basis::Basis,
    width: usize,
    weight: &[f32],
    bias: &[f32],
) -> Result<Linear> {
    let (functions, levels) = (basis.backcast.len(), config.quantile_levels.len());
    let rows = config.inputs() + config.outputs();
    let mut folded = Vec::with_capacity(rows * width);
    let mut offsets = Vec::with_capacity(rows);
    // Sums over the functions of the basis: θ of the backcast are the first, those of the forecast [function][level].
    let mut push = |point: &dyn Fn(usize) -> f64, theta: &dyn Fn(usize) -> usize| {
        let sum = |at: &dyn Fn(usize) -> f32| {
            (0..functions).map(|f| point(f) * f64::from(at(theta(f)))).sum::<f64>()
        };
        folded.extend((0..width).map(|column| sum(&|theta| weight[theta * width + column]) as f32));
        offsets.push(sum(&|theta| bias[theta]) as f32);
    };
    for input in 0..config.inputs() {
        push(&|f| basis.backcast[f][input], &|f| f);
    }
    for step in 0..config.horizon {
        for level in 0..levels {
            push(&|f| basis.forecast[f][step], &|f| functions + f * levels + level);
        }
    }
    let folded = Tensor::from_vec(folded, (rows, width), &Device::Cpu)?;
    Linear::new(&folded, Some(&Tensor::new(offsets, &Device::Cpu)?))
}
