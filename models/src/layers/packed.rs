//! The kernels of the CPU as a backend: packed weights, norms inside products, products onto residuals.

use super::backend::{Activation, Backend, CrossAttention, DistanceBias, Held, Looking, Span, folded};
use super::cpu::attention::attend_all;
use super::cpu::cache::{HeadShape, KvCache};
use super::linear::{Linear, tensor};
use super::norm::RmsNorm;
use super::rope::{Rope, RopeTable};
use super::tensor::{matrix, with_values};
use crate::artifact::Tensors;
use crate::error::Result;
use candle_core::Tensor;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// The kernels of [`super::cpu`]; the results for a row never depend on the other rows.
#[derive(Debug, Clone, Copy)]
pub struct Packed;

/// Attention with its norm in front and its projections, keys and values in one map.
#[derive(Debug)]
pub struct Attention {
    norm: RmsNorm,
    query: Linear,
    key_value: Linear,
    out: Linear,
    shape: HeadShape,
}

/// Which rows look at which.
#[derive(Debug)]
pub struct Pattern {
    sequences: Vec<Range<usize>>,
    /// Looking rows of each sequence.
    counts: Vec<usize>,
    /// The looking rows, where not all do.
    looking: Option<Vec<usize>>,
    rotation: Option<Rotation>,
    relative: Option<(Arc<DistanceBias>, Vec<i64>)>,
}

/// Positions of keys and of looking rows.
#[derive(Debug)]
struct Rotation {
    table: Arc<RopeTable>,
    keys: Vec<usize>,
    queries: Vec<usize>,
}

/// Keys and values of several sequences.
pub(crate) struct Memory(Vec<KvCache>);

/// Rotates the first `width` values of each row to its position.
fn rotate(rows: &mut [f32], stride: usize, width: usize, rotation: Option<(&RopeTable, &[usize])>) {
    if let Some((table, positions)) = rotation {
        let rows = rows.par_chunks_exact_mut(stride).zip(positions);
        rows.for_each(|(row, &position)| table.rotate(&mut row[..width], position));
    }
}

impl Attention {
    /// Heads and their width.
    pub(crate) fn shape(&self) -> HeadShape {
        self.shape
    }

    /// Queries of rows, which go through the norm first, rotated to their positions where there are any.
    pub(crate) fn queries(&self, x: &Tensor, rotation: Option<(&RopeTable, &[usize])>) -> Result<Vec<f32>> {
        let mut queries = self.query.values(Some(&self.norm), x)?;
        rotate(&mut queries, self.shape.width(), self.shape.width(), rotation);
        Ok(queries)
    }

    /// Keys and values of rows, which go through the norm first, [rows, 2 · inner]; the keys rotated.
    pub(crate) fn keys_values(
        &self,
        x: &Tensor,
        rotation: Option<(&RopeTable, &[usize])>,
    ) -> Result<Vec<f32>> {
        let mut rows = self.key_value.values(Some(&self.norm), x)?;
        rotate(&mut rows, 2 * self.shape.width(), self.shape.width(), rotation);
        Ok(rows)
    }

    /// Lays out the keys and values of each sequence.
    pub(crate) fn remember(&self, keys_values: &[f32], sequences: &[Range<usize>]) -> Memory {
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

    /// What `counts[s]` queries find in the whole of sequence `s`.
    pub(crate) fn find(
        &self,
        queries: &[f32],
        memory: &Memory,
        counts: &[usize],
        relative: Option<(&DistanceBias, &[i64])>,
    ) -> Result<Tensor> {
        let caches: Vec<&KvCache> = memory.0.iter().collect();
        let attended = match relative {
            None => attend_all(queries, &caches, counts, self.shape, None),
            Some((bias, places)) => {
                // All rows look, so queries and keys are counted alike.
                let mut end = 0;
                let sequence_of: Vec<Range<usize>> = counts
                    .iter()
                    .flat_map(|&n| {
                        end += n;
                        std::iter::repeat_n(end - n..end, n)
                    })
                    .collect();
                let add = |query: usize, head: usize, scores: &mut [f32]| {
                    let keys = &places[sequence_of[query].clone()];
                    for (score, key) in scores.iter_mut().zip(keys) {
                        *score += bias.of(head)[bias.index(places[query] - key)];
                    }
                };
                attend_all(queries, &caches, counts, self.shape, Some(&add))
            }
        };
        Ok(matrix(attended, self.shape.width())?)
    }
}

impl Held for RmsNorm {
    fn bytes(&self) -> usize {
        self.bytes()
    }
}

impl Held for Linear {
    fn bytes(&self) -> usize {
        self.bytes()
    }
}

impl Held for Attention {
    fn bytes(&self) -> usize {
        self.norm.bytes() + self.query.bytes() + self.key_value.bytes() + self.out.bytes()
    }
}

impl Backend for Packed {
    type Norm = RmsNorm;
    type Linear = Linear;
    type Attention = Attention;
    type Rows = Vec<usize>;
    type Pattern = Pattern;
    type Dropout = ();

    fn norm(&self, weight: &Tensor, eps: f32) -> Result<RmsNorm> {
        RmsNorm::new(weight, eps)
    }

    fn linear(&self, weight: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Result<Linear> {
        match activation {
            Activation::Identity => Linear::new(weight, bias),
            Activation::Rectified => Linear::rectified(weight, bias),
        }
    }

    fn chained(&self, first: &Tensor, second: &Tensor) -> Result<Linear> {
        Linear::new(&Linear::new(&first.t()?.contiguous()?, None)?.forward(second)?, None)
    }

    fn spanning(&self, weight: &Tensor, bias: &Tensor, spans: &[Span<'_>]) -> Result<Linear> {
        let (weight, bias) = folded(weight, bias, spans)?;
        Linear::new(&weight, Some(&bias))
    }

    fn attention(
        &self,
        tensors: &Tensors,
        (prefix, name): (&str, &str),
        shape: HeadShape,
        eps: f32,
    ) -> Result<Attention> {
        let part = |part: &str| tensor(tensors, &format!("{prefix}.{name}.{part}.weight"));
        Ok(Attention {
            norm: RmsNorm::new(tensor(tensors, &format!("{prefix}.layer_norm.weight"))?, eps)?,
            query: Linear::new(part("q")?, None)?,
            key_value: Linear::stacked(&[part("k")?, part("v")?], &[])?,
            out: Linear::new(part("o")?, None)?,
            shape,
        })
    }

    fn table(&self, rows: &Tensor) -> Result<Tensor> {
        Ok(rows.contiguous()?)
    }

    fn matrix(&self, values: Vec<f32>, columns: usize) -> Result<Tensor> {
        Ok(matrix(values, columns)?)
    }

    fn values(x: &Tensor) -> Result<Vec<f32>> {
        Ok(with_values(x, <[f32]>::to_vec)?)
    }

    fn rows(&self, rows: Vec<usize>) -> Result<Vec<usize>> {
        Ok(rows)
    }

    fn pattern(
        &self,
        sequences: &[Range<usize>],
        looking: Option<Looking<'_>>,
        rotation: Option<(&Rope, &[usize])>,
    ) -> Result<Pattern> {
        let rotation = rotation.map(|(rope, positions)| Rotation {
            table: rope.table(positions.iter().max().map_or(0, |last| last + 1)),
            keys: positions.to_vec(),
            queries: match looking {
                Some(Looking { rows, .. }) => rows.iter().map(|&row| positions[row]).collect(),
                None => positions.to_vec(),
            },
        });
        Ok(Pattern {
            sequences: sequences.to_vec(),
            counts: match looking {
                Some(Looking { of_each, .. }) => of_each.to_vec(),
                None => sequences.iter().map(Range::len).collect(),
            },
            looking: looking.map(|looking| looking.rows.to_vec()),
            rotation,
            relative: None,
        })
    }

    fn normed(norm: &RmsNorm, x: &Tensor) -> Result<Tensor> {
        norm.forward(x)
    }

    fn product(map: &Linear, x: &Tensor) -> Result<Tensor> {
        map.forward(x)
    }

    fn normed_product(norm: &RmsNorm, map: &Linear, x: &Tensor) -> Result<Tensor> {
        map.forward_normed(norm, x)
    }

    fn product_onto(map: &Linear, x: &Tensor, residual: &Tensor, (): ()) -> Result<Tensor> {
        map.forward_onto(x, residual)
    }

    fn normed_product_onto(
        norm: &RmsNorm,
        map: &Linear,
        x: &Tensor,
        residual: &Tensor,
        (): (),
    ) -> Result<Tensor> {
        map.forward_normed_onto(norm, x, residual)
    }

    fn attend(layer: &Attention, x: &Tensor, pattern: &Pattern, (): ()) -> Result<Tensor> {
        let rotation = pattern.rotation.as_ref();
        let keys = rotation.map(|rotation| (&*rotation.table, rotation.keys.as_slice()));
        let queries = rotation.map(|rotation| (&*rotation.table, rotation.queries.as_slice()));
        let memory = layer.remember(&layer.keys_values(x, keys)?, &pattern.sequences);
        let own = match &pattern.looking {
            Some(rows) => Self::gather(&[x], rows)?,
            None => x.clone(),
        };
        let relative = pattern.relative.as_ref().map(|(bias, places)| (&**bias, places.as_slice()));
        let found = layer.find(&layer.queries(&own, queries)?, &memory, &pattern.counts, relative)?;
        layer.out.forward_onto(&found, &own)
    }

    fn gather(parts: &[&Tensor], rows: &Vec<usize>) -> Result<Tensor> {
        let Some(width) = parts.first().map(|part| part.dim(1)).transpose()? else {
            return Ok(matrix(Vec::new(), 0)?);
        };
        let mut out = vec![0.0; rows.len() * width];
        let mut start = 0;
        for part in parts {
            let end = start + part.dim(0)?;
            with_values(part, |values| {
                for (out, row) in out.chunks_exact_mut(width).zip(rows) {
                    if (start..end).contains(row) {
                        out.copy_from_slice(&values[(row - start) * width..(row - start + 1) * width]);
                    }
                }
            })?;
            start = end;
        }
        Ok(matrix(out, width)?)
    }
}

impl CrossAttention for Packed {
    fn relative(
        &self,
        sequences: &[Range<usize>],
        bias: &Arc<DistanceBias>,
        places: &[i64],
    ) -> Result<Pattern> {
        let relative = Some((Arc::clone(bias), places.to_vec()));
        Ok(Pattern { relative, ..self.pattern(sequences, None, None)? })
    }

    fn across(&self, sequences: &[Range<usize>]) -> Result<Pattern> {
        Ok(Pattern { counts: vec![1; sequences.len()], ..self.pattern(sequences, None, None)? })
    }

    fn attend_across(layer: &Attention, x: &Tensor, seen: &Tensor, pattern: &Pattern) -> Result<Tensor> {
        let memory = layer.remember(&layer.key_value.values(None, seen)?, &pattern.sequences);
        let found = layer.find(&layer.queries(x, None)?, &memory, &pattern.counts, None)?;
        layer.out.forward_onto(&found, x)
    }
}
