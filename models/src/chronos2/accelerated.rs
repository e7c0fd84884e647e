//! The network in candle's own operations, for GPUs; see [`super::network`] and [`crate::layers::accelerated`].

use super::config::{Config, FEED_FORWARD, SELF_ATTENTION};
use super::layout::{Group, Layout, Meetings, Patching};
use super::network::{SEPARATOR, ahead, by_variate};
use crate::artifact::Tensors;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::layers::accelerated::t5::{Attention, Encounters, FeedForward, ResidualBlock, SoloAttention};
use crate::layers::accelerated::{Place, RmsNorm, Rotation, bytes, fetch};
use crate::layers::linear::tensor;
use crate::layers::rope::Rope;
use candle_core::Tensor;
use std::ops::Range;

/// The weights, placed.
#[derive(Debug)]
pub(super) struct Network {
    place: Place,
    config: Config,
    patching: Patching,
    rope: Rope,
    /// [1, width].
    separator: Tensor,
    embedding: ResidualBlock,
    blocks: Vec<Block>,
    norm: RmsNorm,
    head: ResidualBlock,
}

#[derive(Debug)]
struct Block {
    time: Attention,
    group: Attention,
    solo: SoloAttention,
    feed_forward: FeedForward,
}

/// Group attention of one pass: who is alone, who looks at whom, and where the answers go.
struct Exchange {
    /// No token has company.
    all_alone: bool,
    alone: Option<Tensor>,
    company: Option<Company>,
    /// Which of [tokens, answers of those alone, answers of listeners] each token becomes.
    places: Tensor,
}

struct Company {
    members: Tensor,
    listeners: Tensor,
    encounters: Encounters,
}

impl Network {
    /// Places the tensors of [`Config::tensors`].
    pub fn load(place: &Place, config: &Config, tensors: &Tensors) -> Result<Self> {
        config.validate()?;
        let eps = config.layer_norm_epsilon;
        let block = |index: usize| -> Result<Block> {
            let layer = |layer: usize| format!("encoder.block.{index}.layer.{layer}");
            let attention =
                |at: usize| Attention::load(place, tensors, &layer(at), SELF_ATTENTION, config.heads(), eps);
            Ok(Block {
                time: attention(0)?,
                group: attention(1)?,
                solo: SoloAttention::load(place, tensors, &layer(1), SELF_ATTENTION, eps)?,
                feed_forward: FeedForward::load(place, tensors, &layer(2), FEED_FORWARD, eps)?,
            })
        };
        Ok(Self {
            place: place.clone(),
            config: config.clone(),
            patching: Patching::of(config),
            rope: Rope::new(config.d_kv, config.rope_theta),
            separator: place.exact(&tensor(tensors, "shared.weight")?.narrow(0, SEPARATOR, 1)?)?,
            embedding: ResidualBlock::load(place, tensors, "input_patch_embedding")?,
            blocks: (0..config.num_layers).map(block).collect::<Result<_>>()?,
            norm: RmsNorm::load(place, tensors, "encoder.final_layer_norm.weight", eps)?,
            head: ResidualBlock::load(place, tensors, "output_patch_embedding")?,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// As [`super::network::Network::forward`].
    pub fn forward(
        &self,
        groups: &[Group],
        patches: usize,
        interrupt: &dyn Interrupt,
    ) -> Result<Vec<Vec<f32>>> {
        let layout = self.patching.lay_out(groups, patches);
        let Some((last, blocks)) = self.blocks.split_last() else { return Ok(Vec::new()) };
        let mut x = self.embed(&layout)?;
        let rotation = self.place.rotation(&self.rope, &layout.positions)?;
        if !blocks.is_empty() {
            let rows: Vec<usize> = layout.rows.iter().map(Range::len).collect();
            let encounters = Encounters::new(&self.place, &layout.rows, &rows)?;
            let exchange = self.exchange(&layout.everywhere, layout.positions.len())?;
            for block in blocks {
                interrupt.check()?;
                x = block.time.forward(&x, &x, Some((&rotation, &rotation)), &encounters)?;
                x = block.feed_forward.forward(&exchange.forward(block, &x)?)?;
            }
        }
        interrupt.check()?;
        let x = self.forward_ahead(last, &x, &layout, &rotation)?;
        let output = self.head.forward(&self.norm.forward(&x)?)?;
        Ok(by_variate(&self.config, &fetch(&output)?, patches))
    }

    /// The last block: only the future of wanted variates is computed.
    fn forward_ahead(&self, block: &Block, x: &Tensor, layout: &Layout, keys: &Rotation) -> Result<Tensor> {
        let tokens = ahead(layout);
        let positions: Vec<usize> = tokens.iter().map(|&token| layout.positions[token]).collect();
        let queries = self.place.rotation(&self.rope, &positions)?;
        let rows = vec![layout.patches; layout.rows.len()];
        let encounters = Encounters::new(&self.place, &layout.rows, &rows)?;
        let own = x.index_select(&self.indices(&tokens)?, 0)?;
        let y = block.time.forward(&own, x, Some((&queries, keys)), &encounters)?;
        let y = self.exchange(&layout.ahead, tokens.len())?.forward(block, &y)?;
        let wanted: Vec<usize> =
            (0..tokens.len()).filter(|token| layout.wanted[token / layout.patches]).collect();
        block.feed_forward.forward(&y.index_select(&self.indices(&wanted)?, 0)?)
    }

    /// Embeds patches and puts them in the order of the tokens.
    fn embed(&self, layout: &Layout) -> Result<Tensor> {
        let columns = 3 * self.patching.size;
        let known = layout.context.len() / columns;
        let future = self.embedding.forward(&self.place.matrix(layout.future.clone(), columns)?)?;
        let mut parts = Vec::with_capacity(3);
        if known > 0 {
            parts.push(self.embedding.forward(&self.place.matrix(layout.context.clone(), columns)?)?);
        }
        parts.extend([self.separator.clone(), future]);
        let mut order = Vec::with_capacity(layout.positions.len());
        let mut context = 0..known;
        for (row, &at) in layout.rows.iter().zip(&layout.future_of) {
            order.extend(context.by_ref().take(row.len() - 1 - layout.patches));
            order.push(known);
            order.extend((0..layout.patches).map(|patch| known + 1 + at * layout.patches + patch));
        }
        Ok(Tensor::cat(&parts, 0)?.index_select(&self.indices(&order)?, 0)?)
    }

    fn indices(&self, rows: &[usize]) -> Result<Tensor> {
        self.place.rows(rows.iter().map(|&row| row as u32).collect())
    }

    fn exchange(&self, meetings: &Meetings, tokens: usize) -> Result<Exchange> {
        let mut places: Vec<usize> = (0..tokens).collect();
        let listeners: Vec<usize> =
            meetings.cells.iter().flat_map(|cell| cell.listeners.iter().copied()).collect();
        for (answer, &token) in (tokens..).zip(meetings.alone.iter().chain(&listeners)) {
            places[token] = answer;
        }
        let mut members = Vec::new();
        let mut cells = Vec::with_capacity(meetings.cells.len());
        for cell in &meetings.cells {
            cells.push(members.len()..members.len() + cell.members.len());
            members.extend_from_slice(&cell.members);
        }
        let rows: Vec<usize> = meetings.cells.iter().map(|cell| cell.listeners.len()).collect();
        let company = match listeners.is_empty() {
            true => None,
            false => Some(Company {
                members: self.indices(&members)?,
                listeners: self.indices(&listeners)?,
                encounters: Encounters::new(&self.place, &cells, &rows)?,
            }),
        };
        let alone = match meetings.alone.is_empty() {
            true => None,
            false => Some(self.indices(&meetings.alone)?),
        };
        let all_alone = meetings.alone.len() == tokens;
        Ok(Exchange { all_alone, alone, company, places: self.indices(&places)? })
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        let block = |block: &Block| {
            block.time.bytes() + block.group.bytes() + block.solo.bytes() + block.feed_forward.bytes()
        };
        self.embedding.bytes()
            + self.head.bytes()
            + self.norm.bytes()
            + bytes(&self.separator)
            + self.blocks.iter().map(block).sum::<usize>()
    }
}

impl Exchange {
    /// Rows of `x` that neither listen nor are alone come back unchanged.
    fn forward(&self, block: &Block, x: &Tensor) -> Result<Tensor> {
        if self.all_alone {
            return block.solo.forward(x);
        }
        let mut parts = vec![x.clone()];
        if let Some(alone) = &self.alone {
            parts.push(block.solo.forward(&x.index_select(alone, 0)?)?);
        }
        if let Some(Company { members, listeners, encounters }) = &self.company {
            let (listening, seen) = (x.index_select(listeners, 0)?, x.index_select(members, 0)?);
            parts.push(block.group.forward(&listening, &seen, None, encounters)?);
        }
        Ok(Tensor::cat(&parts, 0)?.index_select(&self.places, 0)?)
    }
}
