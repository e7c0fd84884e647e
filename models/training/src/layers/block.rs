//! The pre-norm transformer block of [`kronos_models::layers::block`], differentiable.

use super::{Attention, Dropout, Parameters, gate, linear, rms_norm};
use candle_core::Tensor;
use kronos_models::error::Result;

/// Epsilon of the norms of Llama's kind of block.
const EPS: f32 = 1e-5;

/// One block, as a view of its parameters.
#[derive(Debug)]
pub struct Block<'p> {
    parameters: &'p Parameters,
    prefix: String,
}

/// Dropout inside a block.
#[derive(Debug, Clone, Copy)]
pub struct BlockDropout {
    /// Of what the attention adds to the stream.
    pub residual: Dropout,
    /// Of what the gated unit adds to the stream.
    pub feed_forward: Dropout,
}

impl<'p> Block<'p> {
    /// The block whose tensors begin with `prefix`.
    pub fn new(parameters: &'p Parameters, prefix: impl Into<String>) -> Self {
        Self { parameters, prefix: prefix.into() }
    }

    fn get(&self, name: &str) -> Result<&'p Tensor> {
        self.parameters.get(&format!("{}.{name}", self.prefix))
    }

    /// Runs rows through the block.
    ///
    /// # Shapes
    /// `x`: [rows, width] → the same.
    pub fn forward(&self, x: &Tensor, attention: &Attention, dropout: BlockDropout) -> Result<Tensor> {
        let projection = |name: &str, part: &str| self.get(&format!("self_attn.{name}_proj.{part}"));
        let stacked = |part: &str| -> Result<Tensor> {
            Ok(Tensor::cat(&[projection("q", part)?, projection("k", part)?, projection("v", part)?], 0)?)
        };
        let normed = rms_norm(x, self.get("norm1.weight")?, EPS)?;
        let qkv = linear(&normed, &stacked("weight")?, Some(&stacked("bias")?))?;
        let attended = attention.forward(&qkv)?;
        let out = linear(&attended, projection("out", "weight")?, Some(projection("out", "bias")?))?;
        let x = (x + dropout.residual.apply(&out)?)?;
        let normed = rms_norm(&x, self.get("norm2.weight")?, EPS)?;
        let gate_up = Tensor::cat(&[self.get("ffn.w1.weight")?, self.get("ffn.w3.weight")?], 0)?;
        let gated = gate(&linear(&normed, &gate_up, None)?)?;
        let out = linear(&gated, self.get("ffn.w2.weight")?, None)?;
        Ok((x + dropout.feed_forward.apply(&out)?)?)
    }
}
