//! The pre-norm transformer block of Llama's kind: causal attention with rotary positions and a cache, then SwiGLU.

use super::cpu::attention::attend;
use super::cpu::cache::{Context, HeadShape, KvCache};
use super::cpu::threads;
use super::linear::{GatedLinear, Linear, linear, linear_specs, tensor};
use super::norm::RmsNorm;
use super::rope::{Rope, RopeTable};
use super::tensor::matrix;
use crate::artifact::{TensorSpec, Tensors};
use crate::error::Result;
use crate::interrupt::Interrupt;
use candle_core::Tensor;
use rayon::prelude::*;

/// Called with the name and value of every intermediate stage; parity tests compare them with a reference.
pub type Observer<'a> = dyn FnMut(&str, &Tensor) + 'a;

/// The caches of one sequence, one per layer.
#[derive(Debug, Clone)]
pub struct Sequence {
    layers: Vec<KvCache>,
}

/// A frozen sequence that several others continue.
#[derive(Debug, Clone)]
pub struct SequenceContext {
    layers: Vec<Context>,
}

impl Sequence {
    /// Positions seen so far.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, KvCache::len)
    }

    /// Whether no position has been seen.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The cache of one layer.
    pub fn layer(&self, layer: usize) -> &KvCache {
        &self.layers[layer]
    }

    /// The cache of one layer, to append to.
    pub fn layer_mut(&mut self, layer: usize) -> &mut KvCache {
        &mut self.layers[layer]
    }

    /// Ends this sequence as the common beginning of others.
    pub fn freeze(self) -> SequenceContext {
        SequenceContext { layers: self.layers.into_iter().map(KvCache::freeze).collect() }
    }
}

impl SequenceContext {
    /// A sequence that continues this one with room for `positions` more.
    pub fn branch(&self, positions: usize) -> Sequence {
        Sequence { layers: self.layers.iter().map(|context| context.branch(positions)).collect() }
    }
}

/// The shape of a stack of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackShape {
    /// Number of blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Attention heads; `width / heads` is even.
    pub heads: usize,
    /// Width of the gated unit.
    pub ff: usize,
}

impl StackShape {
    /// Heads and their width.
    pub fn head(self) -> HeadShape {
        HeadShape { heads: self.heads, dim: self.width / self.heads.max(1) }
    }

    /// Bytes of cache that `positions` positions of one sequence take over all layers.
    pub fn cache_bytes(self, positions: usize) -> u64 {
        self.layers as u64 * self.head().bytes(positions) as u64
    }

    /// The tensors of the blocks `{prefix}.0` … as upstream names them.
    pub fn specs(self, prefix: &str) -> Vec<TensorSpec> {
        (0..self.layers)
            .flat_map(|i| {
                let p = format!("{prefix}.{i}");
                let mut specs = vec![
                    TensorSpec::required(format!("{p}.norm1.weight"), [self.width]),
                    TensorSpec::required(format!("{p}.norm2.weight"), [self.width]),
                    TensorSpec::required(format!("{p}.ffn.w1.weight"), [self.ff, self.width]),
                    TensorSpec::required(format!("{p}.ffn.w3.weight"), [self.ff, self.width]),
                    TensorSpec::required(format!("{p}.ffn.w2.weight"), [self.width, self.ff]),
                    TensorSpec::ignored(format!("{p}.self_attn.rotary.inv_freq")),
                ];
                for name in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                    specs.extend(linear_specs(&format!("{p}.self_attn.{name}"), self.width, self.width));
                }
                specs
            })
            .collect()
    }
}

/// A stack of blocks.
#[derive(Debug)]
pub struct Stack {
    shape: StackShape,
    rope: Rope,
    blocks: Vec<Block>,
}

impl Stack {
    /// Packs the blocks `{prefix}.0` … of the given shape; rotary base 10000, norm epsilon 1e-5.
    pub fn new(shape: StackShape, tensors: &Tensors, prefix: &str) -> Result<Self> {
        let blocks = (0..shape.layers)
            .map(|i| Block::new(tensors, &format!("{prefix}.{i}")))
            .collect::<Result<_>>()?;
        Ok(Self { shape, rope: Rope::new(shape.head().dim, 10_000.0), blocks })
    }

    /// The stack's shape.
    pub fn shape(&self) -> StackShape {
        self.shape
    }

    /// A sequence without positions.
    pub fn sequence(&self) -> Sequence {
        Sequence { layers: vec![KvCache::new(self.shape.head()); self.shape.layers] }
    }

    /// Runs new positions of several sequences through all blocks and appends them to the caches.
    ///
    /// # Shapes
    /// `x`: [Σ rows, width], the `rows[0]` new positions of sequence 0 first → the same.
    /// # Errors
    /// [`crate::ModelError::Cancelled`] when `interrupt` says so between blocks; the caches are then half-filled and of no use.
    pub fn forward(
        &self,
        x: Tensor,
        sequences: &mut [&mut Sequence],
        rows: &[usize],
        interrupt: &dyn Interrupt,
        mut observe: Option<(&str, &mut Observer)>,
    ) -> Result<Tensor> {
        let positions = sequences.iter().zip(rows).map(|(sequence, n)| sequence.len() + n).max().unwrap_or(0);
        let rope = self.rope.table(positions);
        let mut x = x;
        for (layer, block) in self.blocks.iter().enumerate() {
            interrupt.check()?;
            let mut caches: Vec<&mut KvCache> = sequences.iter_mut().map(|s| &mut s.layers[layer]).collect();
            let prefix = observe.as_ref().map(|(prefix, _)| format!("{prefix}.{layer}"));
            let mut inner = observe
                .as_mut()
                .zip(prefix.as_deref())
                .map(|((_, observer), prefix)| (prefix, &mut **observer));
            x = block.forward(x, self.shape.head(), &mut caches, rows, &rope, inner.as_mut())?;
            if let Some((prefix, observer)) = inner {
                observer(prefix, &x);
            }
        }
        Ok(x)
    }

    /// Appends new positions of several sequences to the caches, for others to continue from; nobody looks at the rows
    /// themselves, so the last block computes no more of them than their keys and values.
    ///
    /// # Shapes
    /// As for [`Stack::forward`].
    /// # Errors
    /// As for [`Stack::forward`].
    pub fn fill(
        &self,
        x: Tensor,
        sequences: &mut [&mut Sequence],
        rows: &[usize],
        interrupt: &dyn Interrupt,
    ) -> Result<()> {
        let positions = sequences.iter().zip(rows).map(|(sequence, n)| sequence.len() + n).max().unwrap_or(0);
        let rope = self.rope.table(positions);
        let (mut x, shape) = (x, self.shape.head());
        for (layer, block) in self.blocks.iter().enumerate() {
            interrupt.check()?;
            let mut caches: Vec<&mut KvCache> = sequences.iter_mut().map(|s| &mut s.layers[layer]).collect();
            if layer + 1 < self.blocks.len() {
                x = block.forward(x, shape, &mut caches, rows, &rope, None)?;
            } else {
                block.remember(&x, shape, &mut caches, rows, &rope)?;
            }
        }
        Ok(())
    }

    /// Bytes of the packed weights.
    pub fn bytes(&self) -> usize {
        self.blocks.iter().map(Block::bytes).sum()
    }
}

#[derive(Debug)]
struct Block {
    norm1: RmsNorm,
    qkv: Linear,
    out: Linear,
    norm2: RmsNorm,
    gate_up: GatedLinear,
    down: Linear,
}

impl Block {
    fn new(tensors: &Tensors, prefix: &str) -> Result<Self> {
        let get = |name: &str| tensor(tensors, &format!("{prefix}.{name}"));
        let attn =
            |name: &str, part: &str| tensor(tensors, &format!("{prefix}.self_attn.{name}_proj.{part}"));
        Ok(Self {
            norm1: RmsNorm::new(get("norm1.weight")?, 1e-5)?,
            qkv: Linear::stacked(
                &[attn("q", "weight")?, attn("k", "weight")?, attn("v", "weight")?],
                &[attn("q", "bias")?, attn("k", "bias")?, attn("v", "bias")?],
            )?,
            out: linear(tensors, &format!("{prefix}.self_attn.out_proj"))?,
            norm2: RmsNorm::new(get("norm2.weight")?, 1e-5)?,
            gate_up: GatedLinear::new(get("ffn.w1.weight")?, get("ffn.w3.weight")?)?,
            down: linear(tensors, &format!("{prefix}.ffn.w2"))?,
        })
    }

    /// Appends the keys and values of rows to the caches.
    fn remember(
        &self,
        x: &Tensor,
        shape: HeadShape,
        caches: &mut [&mut KvCache],
        rows: &[usize],
        rope: &RopeTable,
    ) -> Result<()> {
        let qkv = self.qkv.values(Some(&self.norm1), x)?;
        rotate_and_cache(&qkv, shape, caches, rows, rope, false);
        Ok(())
    }

    fn forward(
        &self,
        x: Tensor,
        shape: HeadShape,
        caches: &mut [&mut KvCache],
        rows: &[usize],
        rope: &RopeTable,
        observe: Option<&mut (&str, &mut Observer)>,
    ) -> Result<Tensor> {
        let qkv = self.qkv.values(Some(&self.norm1), &x)?;
        let (q, k) = rotate_and_cache(&qkv, shape, caches, rows, rope, observe.is_some());
        let shared: Vec<&KvCache> = caches.iter().map(|cache| &**cache).collect();
        let attended = matrix(attend(&q, &shared, rows, shape), shape.width())?;
        let Some((prefix, observer)) = observe else {
            let x = self.out.forward_onto(&attended, &x)?;
            return self.down.forward_onto(&self.gate_up.forward_normed(&self.norm2, &x)?, &x);
        };
        // The same arithmetic with every stage in a tensor of its own.
        let mut see = |name: &str, x: &Tensor| observer(&format!("{prefix}.{name}"), x);
        see("norm1", &self.norm1.forward(&x)?);
        for (name, values) in [("q_rot", q), ("k_rot", k)] {
            let by_head =
                matrix(values, shape.width())?.reshape(((), shape.heads, shape.dim))?.transpose(0, 1)?;
            see(name, &by_head.contiguous()?);
        }
        let attn = self.out.forward(&attended)?;
        see("attn", &attn);
        let x = (x + attn)?;
        let normed = self.norm2.forward(&x)?;
        see("norm2", &normed);
        let ffn = self.down.forward(&self.gate_up.forward(&normed)?)?;
        see("ffn", &ffn);
        Ok((x + ffn)?)
    }

    fn bytes(&self) -> usize {
        self.norm1.bytes()
            + self.qkv.bytes()
            + self.out.bytes()
            + self.norm2.bytes()
            + self.gate_up.bytes()
            + self.down.bytes()
    }
}

/// Below this many values the calling thread does all.
const PARALLEL_WORK: usize = 1 << 13;

/// Splits rows of [q, k, v], rotates q and k, appends k and v to the caches; returns q, and k where `keep_keys`.
fn rotate_and_cache(
    qkv: &[f32],
    shape: HeadShape,
    caches: &mut [&mut KvCache],
    rows: &[usize],
    rope: &RopeTable,
    keep_keys: bool,
) -> (Vec<f32>, Vec<f32>) {
    let width = shape.width();
    let rotate = |part: usize, row: &[f32], position: usize, out: &mut [f32]| {
        out.copy_from_slice(&row[part * width..(part + 1) * width]);
        rope.rotate(out, position);
    };
    // The new rows of each sequence, the place of its queries, and its cache.
    let mut queries = vec![0.0; qkv.len() / 3];
    let (mut rest, mut places) = (qkv, queries.as_mut_slice());
    let mut sequences = Vec::with_capacity(rows.len());
    for (cache, &n) in caches.iter_mut().zip(rows) {
        let (own, others) = rest.split_at(n * 3 * width);
        let (place, later) = std::mem::take(&mut places).split_at_mut(n * width);
        (rest, places) = (others, later);
        sequences.push((own, place, &mut **cache));
    }
    let run = |(own, place, cache): (&[f32], &mut [f32], &mut KvCache)| {
        let first = cache.len();
        let mut rotate_queries = || {
            let rows = own.chunks_exact(3 * width).zip(place.chunks_exact_mut(width));
            rows.enumerate().for_each(|(row, (own, place))| rotate(0, own, first + row, place));
        };
        let mut append = || {
            let mut key = vec![0.0; width];
            cache.reserve(own.len() / (3 * width));
            for (row, own) in own.chunks_exact(3 * width).enumerate() {
                rotate(1, own, first + row, &mut key);
                cache.push(&key, &own[2 * width..]);
            }
        };
        if own.len() < PARALLEL_WORK || threads::available() == 1 {
            rotate_queries();
            append();
        } else {
            rayon::join(rotate_queries, append);
        }
    };
    if qkv.len() < PARALLEL_WORK || sequences.len() == 1 || threads::available() == 1 {
        sequences.into_iter().for_each(run);
    } else {
        let least = (PARALLEL_WORK * sequences.len()).div_ceil(qkv.len());
        sequences.into_par_iter().with_min_len(least).for_each(run);
    }
    let mut keys = Vec::new();
    if keep_keys {
        let mut own = qkv.chunks_exact(3 * width);
        keys = vec![0.0; qkv.len() / 3];
        let mut place = keys.chunks_exact_mut(width);
        for (cache, &n) in caches.iter().zip(rows) {
            for ((row, own), key) in own.by_ref().take(n).enumerate().zip(place.by_ref()) {
                rotate(1, own, cache.len() - n + row, key);
            }
        }
    }
    (queries, keys)
}
