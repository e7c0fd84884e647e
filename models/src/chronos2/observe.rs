//! Intermediate stages for parity tests.

use super::layout::{Group, GroupAttention, Layout};
use super::network::{Block, GroupTokens, Network, ahead, by_variate};
use crate::error::Result;
use crate::layers::backend::Backend;
use crate::layers::block::Observer;
use crate::layers::cpu::cache::HeadShape;
use crate::layers::packed::{Attention, Packed};
use crate::layers::rope::RopeTable;
use crate::layers::tensor::{matrix, with_values};
use candle_core::{Device, Tensor};
use std::ops::Range;

impl Network<Packed> {
    /// As [`Network::forward`], for all variates, showing every stage by its golden name.
    ///
    /// Rows are tokens; `token.row` and `token.offset` say which: the variate, and the position counted from the separator.
    pub fn forward_observed(
        &self,
        groups: &[Group],
        patches: usize,
        see: &mut Observer,
    ) -> Result<Vec<Vec<f32>>> {
        let layout = self.patching.lay_out(groups, patches);
        let mut observed = Observed::new(see, &layout)?;
        let mut x = self.embed(&layout, ())?;
        observed.embedding(&layout, &x, &self.embed_patches(&layout, ())?, 3 * self.patching.size)?;
        let time = self.along_time(&layout, None)?;
        let exchange = self.exchange(&layout.everywhere, layout.positions.len())?;
        let table = self.rope.table(layout.positions.iter().max().map_or(0, |last| last + 1));
        for (index, block) in self.blocks.iter().enumerate() {
            observed.block = index;
            observed.along_time(block, &x, &layout, &table)?;
            x = Packed::attend(&block.time, &x, &time, ())?;
            observed.stage("time", &x);
            observed.across_group(block, &x, &layout.everywhere)?;
            x = exchange.forward(block, &x, ())?;
            observed.stage("group", &x);
            x = block.feed_forward.forward(&x, ())?;
            observed.stage("ff", &x);
        }
        let x = self.norm.forward(&x)?;
        observed.show("final_norm", &x);
        let output = self.head.forward(&Packed::gather(&[&x], &ahead(&layout))?, ())?;
        observed.show("output_raw", &output);
        Ok(with_values(&output, |output| by_variate(&self.config, output, patches))?)
    }
}

/// Hands stages to an observer under their golden names.
struct Observed<'o> {
    see: &'o mut Observer<'o>,
    block: usize,
}

impl<'o> Observed<'o> {
    /// Shows which rows of all later stages are which tokens.
    fn new(see: &'o mut Observer<'_>, layout: &Layout) -> Result<Self> {
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
        Ok(Self { see, block: 0 })
    }

    /// `embedded`: the patches of histories before those of futures.
    fn embedding(&mut self, layout: &Layout, x: &Tensor, embedded: &Tensor, patch: usize) -> Result<()> {
        if !layout.context.is_empty() {
            self.show("patched_context", &matrix(layout.context.clone(), patch)?);
        }
        // One row of patches per variate, as the reference has them.
        let rows = |values: &[f32], width: usize| -> Vec<f32> {
            let span = layout.patches * width;
            layout.future_of.iter().flat_map(|&at| &values[at * span..(at + 1) * span]).copied().collect()
        };
        self.show("patched_future", &matrix(rows(&layout.future, patch), patch)?);
        let (known, width) = (layout.context.len() / patch, embedded.dim(1)?);
        let future = with_values(embedded, |values| rows(&values[known * width..], width))?;
        self.show("embed_future", &matrix(future, width)?);
        self.show("input_embeds", x);
        Ok(())
    }

    fn show(&mut self, name: &str, x: &Tensor) {
        (self.see)(name, x);
    }

    fn stage(&mut self, name: &str, x: &Tensor) {
        let name = format!("block{}.{name}", self.block);
        self.show(&name, x);
    }

    /// Shows the weights of attention along time.
    fn along_time(
        &mut self,
        block: &Block<Packed>,
        x: &Tensor,
        layout: &Layout,
        table: &RopeTable,
    ) -> Result<()> {
        let (rotation, shape) = (Some((table, layout.positions.as_slice())), block.time.shape());
        let (queries, keys_values) = (block.time.queries(x, rotation)?, block.time.keys_values(x, rotation)?);
        let weights = weights(&block.time, &queries, &keys_values, &layout.rows)?;
        let longest = layout.rows.iter().map(Range::len).max().unwrap_or(0);
        let shape = (weights.len(), shape.heads, longest);
        let tensor = Tensor::from_vec(weights.concat(), shape, &Device::Cpu)?;
        self.show(&format!("attn_time_block{}", self.block), &tensor);
        Ok(())
    }

    /// Shows the weights of group attention, [token, head, most members], zero beyond a token's own group; tokens without any
    /// give themselves all their attention.
    fn across_group(&mut self, block: &Block<Packed>, x: &Tensor, attention: &GroupAttention) -> Result<()> {
        let HeadShape { heads, .. } = block.group.shape();
        let GroupTokens { members, cells, .. } = GroupTokens::of(attention);
        let mut group = vec![vec![1.0; heads]; x.dim(0)?];
        if !members.is_empty() {
            let seen = Packed::gather(&[x], &members)?;
            let (queries, keys_values) =
                (block.group.queries(&seen, None)?, block.group.keys_values(&seen, None)?);
            let weights = weights(&block.group, &queries, &keys_values, &cells)?;
            members.iter().zip(weights).for_each(|(&token, weights)| group[token] = weights);
        }
        let longest = group.iter().map(|weights| weights.len() / heads).max().unwrap_or(0);
        let mut all = vec![0.0; group.len() * heads * longest];
        for (weights, out) in group.iter().zip(all.chunks_exact_mut((heads * longest).max(1))) {
            let members = weights.len() / heads;
            for head in 0..heads {
                out[head * longest..][..members].copy_from_slice(&weights[head * members..][..members]);
            }
        }
        let tensor = Tensor::from_vec(all, (group.len(), heads, longest), &Device::Cpu)?;
        self.show(&format!("attn_group_block{}", self.block), &tensor);
        Ok(())
    }
}

/// The attention weights of each row over its sequence, [head, longest sequence], zero beyond its own.
///
/// They come from the kernel itself: with unit vectors for values, its output is its weights.
fn weights(
    attention: &Attention,
    queries: &[f32],
    keys_values: &[f32],
    sequences: &[Range<usize>],
) -> Result<Vec<Vec<f32>>> {
    let shape = attention.shape();
    let counts: Vec<usize> = sequences.iter().map(Range::len).collect();
    let longest = counts.iter().copied().max().unwrap_or(0);
    let mut weights = vec![vec![0.0; shape.heads * longest]; counts.iter().sum()];
    for first in (0..longest).step_by(shape.dim) {
        let mut units = keys_values.to_vec();
        for range in sequences {
            let rows = &mut units[range.start * 2 * shape.width()..range.end * 2 * shape.width()];
            for (index, row) in rows.chunks_exact_mut(2 * shape.width()).enumerate() {
                let values = &mut row[shape.width()..];
                values.fill(0.0);
                if (first..first + shape.dim).contains(&index) {
                    let own = values.iter_mut().skip(index - first).step_by(shape.dim);
                    own.for_each(|value| *value = 1.0);
                }
            }
        }
        let found = attention.find(queries, &attention.remember(&units, sequences), &counts, None)?;
        for (weights, found) in weights.iter_mut().zip(found.to_vec2::<f32>()?) {
            for head in 0..shape.heads {
                let n = shape.dim.min(longest - first);
                weights[head * longest + first..][..n].copy_from_slice(&found[head * shape.dim..][..n]);
            }
        }
    }
    Ok(weights)
}
