//! The layers of T5's kind that the Chronos models are built of: attention over a whole sequence without a scale factor,
//! a rectified feed-forward unit, and the two-layer block with a linear bypass around their tokens.

use super::cpu::attention::{ScoreBias, attend_all};
use super::cpu::cache::{HeadShape, KvCache};
use super::linear::{Linear, linear, linear_specs, tensor};
use super::norm::RmsNorm;
use super::rope::RopeTable;
use super::tensor::matrix;
use crate::artifact::{TensorSpec, Tensors};
use crate::error::Result;
use candle_core::Tensor;
use rayon::prelude::*;
use std::ops::Range;

/// Attention with its norm in front: x + O·attention(Q·n, K·n, V·n), n = norm(x).
#[derive(Debug)]
pub struct Attention {
    norm: RmsNorm,
    query: Linear,
    key_value: Linear,
    out: Linear,
    shape: HeadShape,
}

/// Keys and values of several sequences.
#[derive(Debug)]
pub struct Memory(Vec<KvCache>);

impl Attention {
    /// Packs the layer `{prefix}.layer_norm`, `{prefix}.{name}.{q,k,v,o}`.
    pub fn new(tensors: &Tensors, prefix: &str, name: &str, shape: HeadShape, eps: f32) -> Result<Self> {
        let part = |part: &str| tensor(tensors, &format!("{prefix}.{name}.{part}.weight"));
        Ok(Self {
            norm: RmsNorm::new(tensor(tensors, &format!("{prefix}.layer_norm.weight"))?, eps)?,
            query: Linear::new(part("q")?, None)?,
            key_value: Linear::stacked(&[part("k")?, part("v")?], &[])?,
            out: Linear::new(part("o")?, None)?,
            shape,
        })
    }

    /// The tensors of the layer on a stream of `width`.
    pub fn specs(prefix: &str, name: &str, shape: HeadShape, width: usize) -> Vec<TensorSpec> {
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

    /// Heads and their width.
    pub fn shape(&self) -> HeadShape {
        self.shape
    }

    /// Queries of rows, which go through the norm first, rotated to their positions where there are any.
    pub fn queries(&self, x: &Tensor, rotation: Option<(&RopeTable, &[usize])>) -> Result<Vec<f32>> {
        let mut q = self.query.values(Some(&self.norm), x)?;
        if let Some((table, positions)) = rotation {
            let rows = q.par_chunks_exact_mut(self.shape.width()).zip(positions);
            rows.for_each(|(row, &position)| table.rotate(row, position));
        }
        Ok(q)
    }

    /// Keys and values of what another layer has normed, [rows, 2 · inner].
    pub fn keys_values_of(&self, encoded: &Tensor) -> Result<Vec<f32>> {
        self.key_value.values(None, encoded)
    }

    /// Keys and values of rows, which go through the norm first, [rows, 2 · inner]; the keys rotated to their positions
    /// where there are any.
    pub fn keys_values(&self, x: &Tensor, rotation: Option<(&RopeTable, &[usize])>) -> Result<Vec<f32>> {
        let inner = self.shape.width();
        let mut rows = self.key_value.values(Some(&self.norm), x)?;
        if let Some((table, positions)) = rotation {
            let rows = rows.par_chunks_exact_mut(2 * inner).zip(positions);
            rows.for_each(|(row, &position)| table.rotate(&mut row[..inner], position));
        }
        Ok(rows)
    }

    /// Lays out the keys and values of each sequence, given as ranges of rows.
    pub fn remember(&self, keys_values: &[f32], sequences: &[Range<usize>]) -> Memory {
        let inner = self.shape.width();
        let cache = |range: &Range<usize>| {
            let mut cache = KvCache::new(self.shape);
            cache.reserve(range.len());
            for row in keys_values[range.start * 2 * inner..range.end * 2 * inner].chunks_exact(2 * inner) {
                cache.push(&row[..inner], &row[inner..]);
            }
            cache
        };
        Memory(sequences.par_iter().map(cache).collect())
    }

    /// Attends with `rows[s]` queries to the whole of sequence `s`.
    pub fn attend(
        &self,
        q: &[f32],
        memory: &Memory,
        rows: &[usize],
        bias: Option<&ScoreBias<'_>>,
    ) -> Result<Tensor> {
        let caches: Vec<&KvCache> = memory.0.iter().collect();
        Ok(matrix(attend_all(q, &caches, rows, self.shape, bias), self.shape.width())?)
    }

    /// The output projection, added to `x`.
    pub fn project_onto(&self, attended: &Tensor, x: &Tensor) -> Result<Tensor> {
        self.out.forward_onto(attended, x)
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        self.norm.bytes() + self.query.bytes() + self.key_value.bytes() + self.out.bytes()
    }
}

/// What [`Attention`] is for a row that sees nothing but itself: the softmax over one score is 1, so queries and keys do
/// not matter, and the two projections that are left are one square matrix.
#[derive(Debug)]
pub struct SoloAttention {
    norm: RmsNorm,
    map: Linear,
}

impl SoloAttention {
    /// Multiplies O·V of the layer `{prefix}.layer_norm`, `{prefix}.{name}.{v,o}` once.
    pub fn new(tensors: &Tensors, prefix: &str, name: &str, eps: f32) -> Result<Self> {
        let part = |part: &str| tensor(tensors, &format!("{prefix}.{name}.{part}.weight"));
        let product = Linear::new(&part("v")?.t()?.contiguous()?, None)?.forward(part("o")?)?;
        Ok(Self {
            norm: RmsNorm::new(tensor(tensors, &format!("{prefix}.layer_norm.weight"))?, eps)?,
            map: Linear::new(&product, None)?,
        })
    }

    /// x + O·V·norm(x).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.map.forward_normed_onto(&self.norm, x, x)
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        self.norm.bytes() + self.map.bytes()
    }
}

/// x + O·relu(I·norm(x)).
#[derive(Debug)]
pub struct FeedForward {
    norm: RmsNorm,
    hidden: Linear,
    out: Linear,
}

impl FeedForward {
    /// Packs the layer `{prefix}.layer_norm`, `{prefix}.{name}.{wi,wo}`.
    pub fn new(tensors: &Tensors, prefix: &str, name: &str, eps: f32) -> Result<Self> {
        Ok(Self {
            norm: RmsNorm::new(tensor(tensors, &format!("{prefix}.layer_norm.weight"))?, eps)?,
            hidden: Linear::rectified(tensor(tensors, &format!("{prefix}.{name}.wi.weight"))?, None)?,
            out: linear(tensors, &format!("{prefix}.{name}.wo"))?,
        })
    }

    /// The tensors of the layer on a stream of `width` with a hidden layer of `hidden`.
    pub fn specs(prefix: &str, name: &str, width: usize, hidden: usize) -> Vec<TensorSpec> {
        vec![
            TensorSpec::required(format!("{prefix}.layer_norm.weight"), [width]),
            TensorSpec::required(format!("{prefix}.{name}.wi.weight"), [hidden, width]),
            TensorSpec::required(format!("{prefix}.{name}.wo.weight"), [width, hidden]),
        ]
    }

    /// Applies the layer.
    ///
    /// # Shapes
    /// `x`: [rows, width] → the same.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.out.forward_onto(&self.hidden.forward_normed(&self.norm, x)?, x)
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        self.norm.bytes() + self.hidden.bytes() + self.out.bytes()
    }
}

/// O·relu(H·x + b) + R·x + c: from patches to tokens and back.
#[derive(Debug)]
pub struct ResidualBlock {
    hidden: Linear,
    output: Linear,
    residual: Linear,
}

impl ResidualBlock {
    /// Packs `{prefix}.{hidden,output,residual}_layer`.
    pub fn new(tensors: &Tensors, prefix: &str) -> Result<Self> {
        let hidden = format!("{prefix}.hidden_layer");
        Ok(Self {
            hidden: Linear::rectified(
                tensor(tensors, &format!("{hidden}.weight"))?,
                Some(tensor(tensors, &format!("{hidden}.bias"))?),
            )?,
            output: linear(tensors, &format!("{prefix}.output_layer"))?,
            residual: linear(tensors, &format!("{prefix}.residual_layer"))?,
        })
    }

    /// The tensors of a block from `input` over `hidden` to `output` values.
    pub fn specs(prefix: &str, input: usize, hidden: usize, output: usize) -> Vec<TensorSpec> {
        [("hidden", hidden, input), ("output", output, hidden), ("residual", output, input)]
            .into_iter()
            .flat_map(|(layer, rows, columns)| {
                linear_specs(&format!("{prefix}.{layer}_layer"), rows, columns)
            })
            .collect()
    }

    /// Applies the block.
    ///
    /// # Shapes
    /// `x`: [rows, input] → [rows, output].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.output.forward_onto(&self.hidden.forward(x)?, &self.residual.forward(x)?)
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        self.hidden.bytes() + self.output.bytes() + self.residual.bytes()
    }
}
