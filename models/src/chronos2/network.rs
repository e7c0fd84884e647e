//! The network: patches in, quantiles of the normalised future out.

use super::config::{Config, FEED_FORWARD, SELF_ATTENTION};
use super::layout::{Group, Layout, Meetings, Patching};
use super::observe::Observed;
use crate::artifact::Tensors;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::layers::block::Observer;
use crate::layers::linear::tensor;
use crate::layers::norm::RmsNorm;
use crate::layers::rope::{Rope, RopeTable};
use crate::layers::t5::{Attention, FeedForward, ResidualBlock, SoloAttention};
use crate::layers::tensor::{matrix, with_values};
use candle_core::Tensor;
use std::ops::Range;

/// Row of the embedding table that separates history and future.
pub(super) const SEPARATOR: usize = 1;

/// The weights, packed.
#[derive(Debug)]
pub struct Network {
    config: Config,
    patching: Patching,
    rope: Rope,
    separator: Vec<f32>,
    embedding: ResidualBlock,
    blocks: Vec<Block>,
    norm: RmsNorm,
    head: ResidualBlock,
}

#[derive(Debug)]
struct Block {
    time: Attention,
    group: Attention,
    /// Group attention of a token without company.
    solo: SoloAttention,
    feed_forward: FeedForward,
}

/// Where stages are shown, in a pass that shows them.
type Seen<'a, 'o> = Option<&'a mut Observed<'o>>;

impl Network {
    /// Packs the tensors of [`Config::tensors`].
    pub fn new(config: &Config, tensors: &Tensors) -> Result<Self> {
        config.validate()?;
        let eps = config.layer_norm_epsilon;
        let block = |index: usize| -> Result<Block> {
            let layer = |layer: usize| format!("encoder.block.{index}.layer.{layer}");
            Ok(Block {
                time: Attention::new(tensors, &layer(0), SELF_ATTENTION, config.heads(), eps)?,
                group: Attention::new(tensors, &layer(1), SELF_ATTENTION, config.heads(), eps)?,
                solo: SoloAttention::new(tensors, &layer(1), SELF_ATTENTION, eps)?,
                feed_forward: FeedForward::new(tensors, &layer(2), FEED_FORWARD, eps)?,
            })
        };
        Ok(Self {
            config: config.clone(),
            patching: Patching::of(config),
            rope: Rope::new(config.d_kv, config.rope_theta),
            separator: tensor(tensors, "shared.weight")?.get(SEPARATOR)?.to_vec1()?,
            embedding: ResidualBlock::new(tensors, "input_patch_embedding")?,
            blocks: (0..config.num_layers).map(block).collect::<Result<_>>()?,
            norm: RmsNorm::new(tensor(tensors, "encoder.final_layer_norm.weight")?, eps)?,
            head: ResidualBlock::new(tensors, "output_patch_embedding")?,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Tokens that a group takes for a forecast of `patches` patches.
    pub fn tokens(&self, group: &Group, patches: usize) -> usize {
        group.iter().map(|variate| self.patching.span(&variate.context) + 1 + patches).sum()
    }

    /// Forecasts `patches` patches of every wanted variate of every group, in their order.
    ///
    /// A group's numbers do not depend on the other groups, bit for bit.
    ///
    /// # Shapes
    /// One vector per wanted variate, [level][step] with `patches · patch` steps, in the space of the network.
    /// # Errors
    /// [`crate::ModelError::Cancelled`] when `interrupt` says so between blocks.
    pub fn forward(
        &self,
        groups: &[Group],
        patches: usize,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<Vec<f32>>> {
        let layout = self.patching.lay_out(groups, patches);
        let (mut x, _) = self.embed(&layout)?;
        let table = self.table(&layout);
        let Some((last, blocks)) = self.blocks.split_last() else { return Ok(Vec::new()) };
        for block in blocks {
            interrupt.check()?;
            x = block.forward(&x, &layout, &table, None)?;
        }
        interrupt.check()?;
        let x = last.forward_ahead(&x, &layout, &table)?;
        let output = self.head.forward(&self.norm.forward(&x)?)?;
        Ok(with_values(&output, |output| by_variate(&self.config, output, patches))?)
    }

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
        let (mut x, future) = self.embed(&layout)?;
        observed.embedding(&layout, &x, &future, 3 * self.patching.size)?;
        let table = self.table(&layout);
        for (index, block) in self.blocks.iter().enumerate() {
            observed.enter(index);
            x = block.forward(&x, &layout, &table, Some(&mut observed))?;
        }
        let x = self.norm.forward(&x)?;
        observed.show("final_norm", &x);
        let output = self.head.forward(&gather(&x, &ahead(&layout))?)?;
        observed.show("output_raw", &output);
        Ok(with_values(&output, |output| by_variate(&self.config, output, patches))?)
    }

    fn table(&self, layout: &Layout) -> std::sync::Arc<RopeTable> {
        self.rope.table(layout.positions.iter().max().map_or(0, |last| last + 1))
    }

    /// Embeds patches and puts them in the order of the tokens; also returns the embedded futures.
    fn embed(&self, layout: &Layout) -> Result<(Tensor, Tensor)> {
        let d = self.config.d_model;
        let context = match layout.context.is_empty() {
            true => Vec::new(),
            false => {
                let patches = matrix(layout.context.clone(), 3 * self.patching.size)?;
                with_values(&self.embedding.forward(&patches)?, <[f32]>::to_vec)?
            }
        };
        let future = self.embedding.forward(&matrix(layout.future.clone(), 3 * self.patching.size)?)?;
        let mut x = Vec::with_capacity(layout.positions.len() * d);
        with_values(&future, |future| {
            let mut context = context.as_slice();
            for (row, &at) in layout.rows.iter().zip(&layout.future_of) {
                let (own, rest) = context.split_at((row.len() - 1 - layout.patches) * d);
                context = rest;
                x.extend_from_slice(own);
                x.extend_from_slice(&self.separator);
                x.extend_from_slice(&future[at * layout.patches * d..(at + 1) * layout.patches * d]);
            }
        })?;
        Ok((matrix(x, d)?, future))
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        let block = |block: &Block| {
            block.time.bytes() + block.group.bytes() + block.solo.bytes() + block.feed_forward.bytes()
        };
        self.embedding.bytes()
            + self.head.bytes()
            + self.norm.bytes()
            + size_of_val(self.separator.as_slice())
            + self.blocks.iter().map(block).sum::<usize>()
    }
}

impl Block {
    fn forward(&self, x: &Tensor, layout: &Layout, table: &RopeTable, mut seen: Seen) -> Result<Tensor> {
        let rotation = Some((table, layout.positions.as_slice()));
        let q = self.time.queries(x, rotation)?;
        let kv = self.time.keys_values(x, rotation)?;
        let rows: Vec<usize> = layout.rows.iter().map(Range::len).collect();
        let attended = self.time.attend(&q, &self.time.remember(&kv, &layout.rows), &rows, None)?;
        if let Some(seen) = &mut seen {
            seen.weights("attn_time", &self.time, &q, &kv, &layout.rows, &rows, None)?;
        }
        let x = self.time.project_onto(&attended, x)?;
        let y = self.exchange(&x, &layout.everywhere, seen.as_deref_mut())?;
        let z = self.feed_forward.forward(&y)?;
        if let Some(seen) = &mut seen {
            seen.stage("time", &x);
            seen.stage("group", &y);
            seen.stage("ff", &z);
        }
        Ok(z)
    }

    /// The last block: only the future of wanted variates is computed, from keys and values of everything.
    fn forward_ahead(&self, x: &Tensor, layout: &Layout, table: &RopeTable) -> Result<Tensor> {
        let kv = self.time.keys_values(x, Some((table, &layout.positions)))?;
        let tokens = ahead(layout);
        let positions: Vec<usize> = tokens.iter().map(|&token| layout.positions[token]).collect();
        let x = gather(x, &tokens)?;
        let q = self.time.queries(&x, Some((table, &positions)))?;
        let rows = vec![layout.patches; layout.rows.len()];
        let attended = self.time.attend(&q, &self.time.remember(&kv, &layout.rows), &rows, None)?;
        let x = self.time.project_onto(&attended, &x)?;
        let x = self.exchange(&x, &layout.ahead, None)?;
        let wanted: Vec<usize> =
            (0..tokens.len()).filter(|token| layout.wanted[token / layout.patches]).collect();
        let x = if wanted.len() == tokens.len() { x } else { gather(&x, &wanted)? };
        self.feed_forward.forward(&x)
    }

    /// Group attention; rows of `x` that neither listen nor are alone come back unchanged.
    fn exchange(&self, x: &Tensor, meetings: &Meetings, seen: Seen) -> Result<Tensor> {
        let tokens = x.dim(0)?;
        if meetings.alone.len() == tokens {
            if let Some(seen) = seen {
                seen.alone(self.group.shape(), tokens);
                seen.show_group(self.group.shape())?;
            }
            return self.solo.forward(x);
        }
        let mut out = with_values(x, <[f32]>::to_vec)?;
        if !meetings.alone.is_empty() {
            scatter(&self.solo.forward(&gather(x, &meetings.alone)?)?, &meetings.alone, &mut out)?;
        }
        let members: Vec<usize> =
            meetings.cells.iter().flat_map(|cell| cell.members.iter().copied()).collect();
        let listeners: Vec<usize> =
            meetings.cells.iter().flat_map(|cell| cell.listeners.iter().copied()).collect();
        let kv = self.group.keys_values(&gather(x, &members)?, None)?;
        let listening = gather(x, &listeners)?;
        let q = self.group.queries(&listening, None)?;
        let mut end = 0;
        let cells: Vec<Range<usize>> = meetings
            .cells
            .iter()
            .map(|cell| {
                end += cell.members.len();
                end - cell.members.len()..end
            })
            .collect();
        let rows: Vec<usize> = meetings.cells.iter().map(|cell| cell.listeners.len()).collect();
        let attended = self.group.attend(&q, &self.group.remember(&kv, &cells), &rows, None)?;
        scatter(&self.group.project_onto(&attended, &listening)?, &listeners, &mut out)?;
        if let Some(seen) = seen {
            seen.alone(self.group.shape(), tokens);
            seen.weights("attn_group", &self.group, &q, &kv, &cells, &rows, Some(&listeners))?;
        }
        Ok(matrix(out, x.dim(1)?)?)
    }
}

/// Splits [rows · patches, levels · patch] into [level][step] per row.
pub(super) fn by_variate(config: &Config, output: &[f32], patches: usize) -> Vec<Vec<f32>> {
    let (size, levels) = (config.patch(), config.chronos_config.quantiles.len());
    let row = |row: &[f32]| {
        (0..levels)
            .flat_map(|level| {
                row.chunks_exact(levels * size).flat_map(move |p| &p[level * size..(level + 1) * size])
            })
            .copied()
            .collect()
    };
    output.chunks_exact(patches * levels * size).map(row).collect()
}

/// Tokens of the future, row by row.
pub(super) fn ahead(layout: &Layout) -> Vec<usize> {
    layout.rows.iter().flat_map(|row| row.end - layout.patches..row.end).collect()
}

fn gather(x: &Tensor, rows: &[usize]) -> Result<Tensor> {
    let width = x.dim(1)?;
    let mut out = Vec::with_capacity(rows.len() * width);
    with_values(x, |x| {
        rows.iter().for_each(|&row| out.extend_from_slice(&x[row * width..(row + 1) * width]))
    })?;
    Ok(matrix(out, width)?)
}

fn scatter(x: &Tensor, rows: &[usize], out: &mut [f32]) -> Result<()> {
    let width = x.dim(1)?;
    with_values(x, |x| {
        for (row, values) in rows.iter().zip(x.chunks_exact(width)) {
            out[row * width..(row + 1) * width].copy_from_slice(values);
        }
    })?;
    Ok(())
}
