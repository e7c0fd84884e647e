//! The layers of T5's kind that the Chronos models are built of, over any backend: a rectified feed-forward unit, attention of
//! a row without company, and the two-layer block with a linear bypass around their tokens.

use super::backend::{Activation, Backend, Held};
use super::cpu::cache::HeadShape;
use super::linear::{linear_specs, tensor};
use crate::artifact::{TensorSpec, Tensors};
use crate::error::Result;
use candle_core::Tensor;

/// The tensors of [`Backend::attention`] on a stream of `width`.
pub fn attention_specs(prefix: &str, name: &str, shape: HeadShape, width: usize) -> Vec<TensorSpec> {
    let inner = shape.width();
    let weight = |part: &str, rows: usize, columns: usize| {
        TensorSpec::required(format!("{prefix}.{name}.{part}.weight"), [rows, columns])
    };
    vec![
        TensorSpec::required(format!("{prefix}.layer_norm.weight"), [width]),
        weight("q", inner, width),
        weight("k", inner, width),
        weight("v", inner, width),
        weight("o", width, inner),
    ]
}

/// What attention is for a row that sees nothing but itself: the softmax over one score is 1, so queries and keys do not
/// matter, and the two projections that are left are one square matrix.
#[derive(Debug)]
pub struct SoloAttention<B: Backend> {
    norm: B::Norm,
    map: B::Linear,
}

impl<B: Backend> SoloAttention<B> {
    /// Takes V and O of the layer `{prefix}.layer_norm`, `{prefix}.{name}.{v,o}`.
    pub fn load(backend: &B, tensors: &Tensors, prefix: &str, name: &str, eps: f32) -> Result<Self> {
        let part = |part: &str| tensor(tensors, &format!("{prefix}.{name}.{part}.weight"));
        Ok(Self {
            norm: backend.norm(tensor(tensors, &format!("{prefix}.layer_norm.weight"))?, eps)?,
            map: backend.chained(part("v")?, part("o")?)?,
        })
    }

    /// x + O·V·norm(x).
    pub fn forward(&self, x: &Tensor, dropout: B::Dropout) -> Result<Tensor> {
        B::normed_product_onto(&self.norm, &self.map, x, x, dropout)
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        self.norm.bytes() + self.map.bytes()
    }
}

/// x + O·relu(I·norm(x)).
#[derive(Debug)]
pub struct FeedForward<B: Backend> {
    norm: B::Norm,
    hidden: B::Linear,
    out: B::Linear,
}

/// The tensors of a [`FeedForward`] on a stream of `width` with a hidden layer of `hidden`.
pub fn feed_forward_specs(prefix: &str, name: &str, width: usize, hidden: usize) -> Vec<TensorSpec> {
    vec![
        TensorSpec::required(format!("{prefix}.layer_norm.weight"), [width]),
        TensorSpec::required(format!("{prefix}.{name}.wi.weight"), [hidden, width]),
        TensorSpec::required(format!("{prefix}.{name}.wo.weight"), [width, hidden]),
    ]
}

impl<B: Backend> FeedForward<B> {
    /// Takes the layer `{prefix}.layer_norm`, `{prefix}.{name}.{wi,wo}`.
    pub fn load(backend: &B, tensors: &Tensors, prefix: &str, name: &str, eps: f32) -> Result<Self> {
        let weight = |part: &str| tensor(tensors, &format!("{prefix}.{name}.{part}.weight"));
        Ok(Self {
            norm: backend.norm(tensor(tensors, &format!("{prefix}.layer_norm.weight"))?, eps)?,
            hidden: backend.linear(weight("wi")?, None, Activation::Rectified)?,
            out: backend.linear(weight("wo")?, None, Activation::Identity)?,
        })
    }

    /// Applies the layer to rows.
    pub fn forward(&self, x: &Tensor, dropout: B::Dropout) -> Result<Tensor> {
        let hidden = B::drop(B::normed_product(&self.norm, &self.hidden, x)?, B::at(dropout, 0))?;
        B::product_onto(&self.out, &hidden, x, B::at(dropout, 1))
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        self.norm.bytes() + self.hidden.bytes() + self.out.bytes()
    }
}

/// O·relu(H·x + b) + R·x + c: from patches to tokens and back.
#[derive(Debug)]
pub struct ResidualBlock<B: Backend> {
    hidden: B::Linear,
    output: B::Linear,
    residual: B::Linear,
}

/// The tensors of a [`ResidualBlock`] from `input` over `hidden` to `output` values.
pub fn residual_block_specs(prefix: &str, input: usize, hidden: usize, output: usize) -> Vec<TensorSpec> {
    [("hidden", hidden, input), ("output", output, hidden), ("residual", output, input)]
        .into_iter()
        .flat_map(|(layer, rows, columns)| linear_specs(&format!("{prefix}.{layer}_layer"), rows, columns))
        .collect()
}

impl<B: Backend> ResidualBlock<B> {
    /// Takes `{prefix}.{hidden,output,residual}_layer`.
    pub fn load(backend: &B, tensors: &Tensors, prefix: &str) -> Result<Self> {
        let layer = |name: &str, activation| {
            let part = |part: &str| tensor(tensors, &format!("{prefix}.{name}_layer.{part}"));
            backend.linear(part("weight")?, Some(part("bias")?), activation)
        };
        Ok(Self {
            hidden: layer("hidden", Activation::Rectified)?,
            output: layer("output", Activation::Identity)?,
            residual: layer("residual", Activation::Identity)?,
        })
    }

    /// Applies the block to rows.
    ///
    /// # Shapes
    /// `x`: [rows, input] → [rows, output].
    pub fn forward(&self, x: &Tensor, dropout: B::Dropout) -> Result<Tensor> {
        let bypass = B::product(&self.residual, x)?;
        B::product_onto(&self.output, &B::product(&self.hidden, x)?, &bypass, dropout)
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        self.hidden.bytes() + self.output.bytes() + self.residual.bytes()
    }
}
