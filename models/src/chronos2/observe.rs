//! Intermediate stages for parity tests.

use super::layout::Layout;
use crate::error::Result;
use crate::layers::block::Observer;
use crate::layers::cpu::cache::HeadShape;
use crate::layers::t5::Attention;
use crate::layers::tensor::matrix;
use candle_core::{Device, Tensor};
use std::ops::Range;

/// Hands stages to an observer under their golden names.
pub(super) struct Observed<'o> {
    see: &'o mut Observer<'o>,
    block: usize,
    /// Group attention weights of the block, [token][head][member].
    group: Vec<Vec<f32>>,
}

impl<'o> Observed<'o> {
    /// Shows which rows of all later stages are which tokens.
    pub fn new(see: &'o mut Observer<'_>, layout: &Layout) -> Result<Self> {
        // The observer lives as long as the borrow; a shorter trait-object lifetime says so.
        let see: &'o mut Observer<'o> = see;
        let row: Vec<i64> =
            layout.rows.iter().enumerate().flat_map(|(row, tokens)| vec![row as i64; tokens.len()]).collect();
        let separator =
            |row: i64| layout.positions[layout.rows[row as usize].end - 1 - layout.patches] as i64;
        let offset: Vec<i64> = row
            .iter()
            .zip(&layout.positions)
            .map(|(&row, &position)| position as i64 - separator(row))
            .collect();
        see("token.row", &Tensor::new(row, &Device::Cpu)?);
        see("token.offset", &Tensor::new(offset, &Device::Cpu)?);
        Ok(Self { see, block: 0, group: Vec::new() })
    }

    pub fn embedding(&mut self, layout: &Layout, x: &Tensor, future: &Tensor, patch: usize) -> Result<()> {
        if !layout.context.is_empty() {
            self.show("patched_context", &matrix(layout.context.clone(), patch)?);
        }
        // One row of patches per variate, as the reference has them.
        let rows = |values: &[f32], width: usize| -> Vec<f32> {
            let span = layout.patches * width;
            layout.future_of.iter().flat_map(|&at| &values[at * span..(at + 1) * span]).copied().collect()
        };
        self.show("patched_future", &matrix(rows(&layout.future, patch), patch)?);
        let width = future.dim(1)?;
        self.show("embed_future", &matrix(rows(&future.flatten_all()?.to_vec1::<f32>()?, width), width)?);
        self.show("input_embeds", x);
        Ok(())
    }

    pub fn enter(&mut self, block: usize) {
        self.block = block;
    }

    pub fn show(&mut self, name: &str, x: &Tensor) {
        (self.see)(name, x);
    }

    pub fn stage(&mut self, name: &str, x: &Tensor) {
        let name = format!("block{}.{name}", self.block);
        self.show(&name, x);
    }

    /// Tokens without company give themselves all their attention.
    pub fn alone(&mut self, shape: HeadShape, tokens: usize) {
        self.group = vec![vec![1.0; shape.heads]; tokens];
    }

    /// The attention weights [token, head, longest sequence], zero beyond a token's own sequence.
    ///
    /// They come from the kernel itself: with unit vectors for values, its output is its weights.
    #[allow(clippy::too_many_arguments)] // As many as the attention has.
    pub fn weights(
        &mut self,
        name: &str,
        attention: &Attention,
        q: &[f32],
        kv: &[f32],
        sequences: &[Range<usize>],
        rows: &[usize],
        tokens: Option<&[usize]>,
    ) -> Result<()> {
        let shape = attention.shape();
        let longest = sequences.iter().map(Range::len).max().unwrap_or(0);
        let count: usize = rows.iter().sum();
        let mut weights = vec![vec![0.0; shape.heads * longest]; count];
        for first in (0..longest).step_by(shape.dim) {
            let mut units = kv.to_vec();
            for range in sequences {
                for (index, row) in units[range.start * 2 * shape.width()..range.end * 2 * shape.width()]
                    .chunks_exact_mut(2 * shape.width())
                    .enumerate()
                {
                    let values = &mut row[shape.width()..];
                    values.fill(0.0);
                    if (first..first + shape.dim).contains(&index) {
                        values
                            .iter_mut()
                            .skip(index - first)
                            .step_by(shape.dim)
                            .for_each(|value| *value = 1.0);
                    }
                }
            }
            let part = attention.attend(q, &attention.remember(&units, sequences), rows, None)?;
            for (weights, part) in weights.iter_mut().zip(part.to_vec2::<f32>()?) {
                for head in 0..shape.heads {
                    let n = shape.dim.min(longest - first);
                    weights[head * longest + first..][..n].copy_from_slice(&part[head * shape.dim..][..n]);
                }
            }
        }
        match tokens {
            Some(tokens) => {
                for (&token, weights) in tokens.iter().zip(weights) {
                    self.group[token] = weights;
                }
                self.show_group(shape)
            }
            None => {
                let tensor = Tensor::from_vec(weights.concat(), (count, shape.heads, longest), &Device::Cpu)?;
                let name = format!("{name}_block{}", self.block);
                self.show(&name, &tensor);
                Ok(())
            }
        }
    }

    /// Shows the weights of group attention, [token, head, most members], zero beyond a token's own company.
    pub fn show_group(&mut self, shape: HeadShape) -> Result<()> {
        let longest = self.group.iter().map(|weights| weights.len() / shape.heads).max().unwrap_or(0);
        let mut all = vec![0.0; self.group.len() * shape.heads * longest];
        for (weights, out) in self.group.iter().zip(all.chunks_exact_mut((shape.heads * longest).max(1))) {
            let members = weights.len() / shape.heads;
            for head in 0..shape.heads {
                out[head * longest..][..members].copy_from_slice(&weights[head * members..][..members]);
            }
        }
        let tensor = Tensor::from_vec(all, (self.group.len(), shape.heads, longest), &Device::Cpu)?;
        let name = format!("attn_group_block{}", self.block);
        self.show(&name, &tensor);
        Ok(())
    }
}
