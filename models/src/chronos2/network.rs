//! The network: patches in, quantiles of the normalised future out.

use super::config::{Config, FEED_FORWARD, SELF_ATTENTION};
use super::layout::{Cell, Group, GroupAttention, Layout, Patching};
use crate::artifact::Tensors;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::layers::backend::{Backend, Held, Looking};
use crate::layers::linear::tensor;
use crate::layers::packed::Packed;
use crate::layers::rope::Rope;
use crate::layers::t5::{FeedForward, ResidualBlock, SoloAttention};
use candle_core::Tensor;
use std::ops::Range;

/// Row of the embedding table that separates history and future.
const SEPARATOR: usize = 1;

/// The weights, as a backend holds them.
#[derive(Debug)]
pub struct Network<B: Backend = Packed> {
    backend: B,
    pub(super) config: Config,
    pub(super) patching: Patching,
    pub(super) rope: Rope,
    table: Tensor,
    embedding: ResidualBlock<B>,
    pub(super) blocks: Vec<Block<B>>,
    pub(super) norm: B::Norm,
    pub(super) head: ResidualBlock<B>,
}

/// One block: attention along time, attention across the group, feed-forward unit.
#[derive(Debug)]
pub(super) struct Block<B: Backend> {
    pub time: B::Attention,
    pub group: B::Attention,
    /// Group attention of a token without others.
    pub solo: SoloAttention<B>,
    pub feed_forward: FeedForward<B>,
}

/// Group attention of one pass: who is alone, who looks at whom, and where the answers go.
pub(super) struct Exchange<B: Backend> {
    /// No token is with others.
    all_alone: bool,
    alone: Option<B::Rows>,
    gathered: Option<(B::Rows, B::Pattern)>,
    /// Which of [tokens, answers of those alone, answers of those with others] each token becomes.
    places: B::Rows,
}

/// Places of dropout outside of the blocks.
const EMBEDDED: u64 = 0;
const NORMED: u64 = 1;
const HEAD: u64 = 2;
const PATCHES: u64 = 3;

impl<B: Backend> Network<B> {
    /// Takes the tensors of [`Config::tensors`].
    pub fn load(backend: &B, config: &Config, tensors: &Tensors) -> Result<Self> {
        config.validate()?;
        let (eps, heads) = (config.layer_norm_epsilon, config.heads());
        let block = |index: usize| -> Result<Block<B>> {
            let layer = |layer: usize| format!("encoder.block.{index}.layer.{layer}");
            Ok(Block {
                time: backend.attention(tensors, (&layer(0), SELF_ATTENTION), heads, eps)?,
                group: backend.attention(tensors, (&layer(1), SELF_ATTENTION), heads, eps)?,
                solo: SoloAttention::load(backend, tensors, &layer(1), SELF_ATTENTION, eps)?,
                feed_forward: FeedForward::load(backend, tensors, &layer(2), FEED_FORWARD, eps)?,
            })
        };
        Ok(Self {
            backend: backend.clone(),
            config: config.clone(),
            patching: Patching::of(config),
            rope: Rope::new(config.d_kv, config.rope_theta),
            table: backend.table(tensor(tensors, "shared.weight")?)?,
            embedding: ResidualBlock::load(backend, tensors, "input_patch_embedding")?,
            blocks: (0..config.num_layers).map(block).collect::<Result<_>>()?,
            norm: backend.norm(tensor(tensors, "encoder.final_layer_norm.weight")?, eps)?,
            head: ResidualBlock::load(backend, tensors, "output_patch_embedding")?,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Forecasts `patches` patches of every wanted variate of every group, in their order.
    ///
    /// By the kernels a group's numbers do not depend on the other groups, bit for bit.
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
    ) -> Result<Vec<Vec<f32>>>
    where
        B: Backend<Dropout = ()>,
    {
        let output = self.quantiles(groups, patches, (), interrupt)?;
        Ok(by_variate(&self.config, &B::values(&output)?, patches))
    }

    /// [`Network::forward`] with dropout, as a tensor.
    ///
    /// # Shapes
    /// [wanted variates · patches, levels · patch].
    pub fn quantiles(
        &self,
        groups: &[Group],
        patches: usize,
        dropout: B::Dropout,
        interrupt: &dyn Interrupt,
    ) -> Result<Tensor> {
        let layout = self.patching.lay_out(groups, patches);
        let mut x = B::drop(self.embed(&layout, dropout)?, B::at(dropout, EMBEDDED))?;
        let at = |block: usize| move |place: u64| B::at(dropout, 16 * (block as u64 + 1) + place);
        if let Some((last, blocks)) = self.blocks.split_last() {
            if !blocks.is_empty() {
                let time = self.along_time(&layout, None)?;
                let exchange = self.exchange(&layout.everywhere, layout.positions.len())?;
                for (index, block) in blocks.iter().enumerate() {
                    interrupt.check()?;
                    x = B::attend(&block.time, &x, &time, at(index)(0))?;
                    x = exchange.forward(block, &x, at(index)(2))?;
                    x = block.feed_forward.forward(&x, at(index)(4))?;
                }
            }
            interrupt.check()?;
            x = self.forward_ahead(last, &x, &layout, at(blocks.len()))?;
        }
        let x = B::drop(B::normed(&self.norm, &x)?, B::at(dropout, NORMED))?;
        self.head.forward(&x, B::at(dropout, HEAD))
    }

    /// The last block: only the future of wanted variates is computed, from keys and values of everything.
    fn forward_ahead(
        &self,
        block: &Block<B>,
        x: &Tensor,
        layout: &Layout,
        at: impl Fn(u64) -> B::Dropout,
    ) -> Result<Tensor> {
        let tokens = ahead(layout);
        let of_each = vec![layout.patches; layout.rows.len()];
        let time = self.along_time(layout, Some(Looking { rows: &tokens, of_each: &of_each }))?;
        let x = B::attend(&block.time, x, &time, at(0))?;
        let mut x = self.exchange(&layout.ahead, tokens.len())?.forward(block, &x, at(2))?;
        let wanted: Vec<usize> =
            (0..tokens.len()).filter(|token| layout.wanted[token / layout.patches]).collect();
        if wanted.len() < tokens.len() {
            x = B::gather(&[&x], &self.backend.rows(wanted)?)?;
        }
        block.feed_forward.forward(&x, at(4))
    }

    /// Attention along time, of all tokens or of some.
    pub(super) fn along_time(&self, layout: &Layout, looking: Option<Looking<'_>>) -> Result<B::Pattern> {
        self.backend.pattern(&layout.rows, looking, Some((&self.rope, &layout.positions)))
    }

    /// Embeds patches and puts them in the order of the tokens.
    pub(super) fn embed(&self, layout: &Layout, dropout: B::Dropout) -> Result<Tensor> {
        let embedded = self.embed_patches(layout, B::at(dropout, PATCHES))?;
        let known = layout.context.len() / (3 * self.patching.size);
        let separator = embedded.dim(0)? + SEPARATOR;
        let mut order = Vec::with_capacity(layout.positions.len());
        let mut context = 0..known;
        for (row, &at) in layout.rows.iter().zip(&layout.future_of) {
            order.extend(context.by_ref().take(row.len() - 1 - layout.patches));
            order.push(separator);
            order.extend((0..layout.patches).map(|patch| known + at * layout.patches + patch));
        }
        B::gather(&[&embedded, &self.table], &self.backend.rows(order)?)
    }

    /// Embedded patches, those of histories before those of futures: they share the weights.
    pub(super) fn embed_patches(&self, layout: &Layout, dropout: B::Dropout) -> Result<Tensor> {
        let patches = [layout.context.as_slice(), &layout.future].concat();
        self.embedding.forward(&self.backend.matrix(patches, 3 * self.patching.size)?, dropout)
    }

    /// Who exchanges what with whom in a pass over so many tokens.
    pub(super) fn exchange(&self, attention: &GroupAttention, tokens: usize) -> Result<Exchange<B>> {
        let GroupTokens { members, cells, listeners, of_each } = GroupTokens::of(attention);
        let mut places: Vec<usize> = (0..tokens).collect();
        let listening = listeners.iter().map(|&member| members[member]);
        for (answer, token) in (tokens..).zip(attention.alone.iter().copied().chain(listening)) {
            places[token] = answer;
        }
        let looking = Looking { rows: &listeners, of_each: &of_each };
        let looking = Some(looking).filter(|_| listeners.len() < members.len());
        let gathered = match listeners.is_empty() {
            true => None,
            false => Some((self.backend.rows(members)?, self.backend.pattern(&cells, looking, None)?)),
        };
        let alone = match attention.alone.is_empty() {
            true => None,
            false => Some(self.backend.rows(attention.alone.clone())?),
        };
        let all_alone = attention.alone.len() == tokens;
        Ok(Exchange { all_alone, alone, gathered, places: self.backend.rows(places)? })
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        let block = |block: &Block<B>| {
            block.time.bytes() + block.group.bytes() + block.solo.bytes() + block.feed_forward.bytes()
        };
        self.embedding.bytes()
            + self.head.bytes()
            + self.norm.bytes()
            + self.table.elem_count() * size_of::<f32>()
            + self.blocks.iter().map(block).sum::<usize>()
    }
}

/// The tokens that are not alone, gathered.
#[derive(Default)]
pub(super) struct GroupTokens {
    /// Tokens, cell after cell.
    pub members: Vec<usize>,
    /// The cells as ranges of members.
    pub cells: Vec<Range<usize>>,
    /// Which members look.
    pub listeners: Vec<usize>,
    /// How many they are of each cell.
    pub of_each: Vec<usize>,
}

impl GroupTokens {
    pub fn of(attention: &GroupAttention) -> Self {
        let mut gathered = Self::default();
        for Cell { members, listeners } in &attention.cells {
            let start = gathered.members.len();
            gathered.members.extend_from_slice(members);
            gathered.cells.push(start..gathered.members.len());
            let mut looking = listeners.iter().peekable();
            let own = (start..).zip(members).filter(|(_, token)| looking.next_if_eq(token).is_some());
            gathered.listeners.extend(own.map(|(member, _)| member));
            gathered.of_each.push(listeners.len());
        }
        gathered
    }
}

impl<B: Backend> Exchange<B> {
    /// Group attention; rows of `x` that neither listen nor are alone come back unchanged.
    pub fn forward(&self, block: &Block<B>, x: &Tensor, dropout: B::Dropout) -> Result<Tensor> {
        if self.all_alone {
            return block.solo.forward(x, dropout);
        }
        let alone = match &self.alone {
            Some(alone) => Some(block.solo.forward(&B::gather(&[x], alone)?, dropout)?),
            None => None,
        };
        let gathered = match &self.gathered {
            Some((members, pattern)) => {
                Some(B::attend(&block.group, &B::gather(&[x], members)?, pattern, dropout)?)
            }
            None => None,
        };
        let parts: Vec<&Tensor> =
            [Some(x), alone.as_ref(), gathered.as_ref()].into_iter().flatten().collect();
        B::gather(&parts, &self.places)
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
