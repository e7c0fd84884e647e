//! Keys and values of past positions, laid out for the attention kernel and shared between sample paths.
//!
//! Positions come in blocks of sixteen. Inside a block keys lie transposed ([head][dim][position]), so that sixteen scores
//! are computed side by side without a horizontal sum; values lie as [head][position][dim], padded to whole vectors.
//! A path that continues a context shares the context's whole blocks and owns a copy of its unfinished one: position p
//! is always lane p mod 16 of block p / 16, however the sequence came about, and so are the bits of every result.

use super::simd::WIDTH;
use std::sync::Arc;

/// Heads and their width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadShape {
    /// Number of heads.
    pub heads: usize,
    /// Values per head.
    pub dim: usize,
}

impl HeadShape {
    /// Values of one position over all heads.
    pub fn width(self) -> usize {
        self.heads * self.dim
    }

    /// `dim` rounded up to whole vectors.
    pub(super) fn padded_dim(self) -> usize {
        self.dim.next_multiple_of(WIDTH)
    }

    /// Floats of one block: (keys, values).
    pub(super) fn block_sizes(self) -> (usize, usize) {
        (self.heads * self.dim * WIDTH, self.heads * self.padded_dim() * WIDTH)
    }

    /// Bytes that `positions` positions take in a cache.
    pub fn bytes(self, positions: usize) -> usize {
        let (keys, values) = self.block_sizes();
        positions.div_ceil(WIDTH) * (keys + values) * size_of::<f32>()
    }
}

/// A run of positions, beginning at a block boundary.
#[derive(Debug, Clone)]
pub struct Run {
    pub(super) shape: HeadShape,
    /// First position, a multiple of sixteen.
    pub(super) start: usize,
    /// One past the last position.
    pub(super) end: usize,
    pub(super) keys: Vec<f32>,
    pub(super) values: Vec<f32>,
}

impl Run {
    fn new(shape: HeadShape, start: usize) -> Self {
        Self { shape, start, end: start, keys: Vec::new(), values: Vec::new() }
    }

    pub(super) fn blocks(&self) -> usize {
        (self.end - self.start).div_ceil(WIDTH)
    }

    fn reserve(&mut self, positions: usize) {
        let blocks = (self.end - self.start + positions).div_ceil(WIDTH);
        let (keys, values) = self.shape.block_sizes();
        self.keys.reserve_exact((blocks * keys).saturating_sub(self.keys.len()));
        self.values.reserve_exact((blocks * values).saturating_sub(self.values.len()));
    }

    fn push(&mut self, key: &[f32], value: &[f32]) {
        let HeadShape { heads, dim } = self.shape;
        let (key_block, value_block) = self.shape.block_sizes();
        let (block, lane) = ((self.end - self.start) / WIDTH, self.end % WIDTH);
        if lane == 0 {
            // Zeros, so that lanes not yet filled are finite: they are masked by weight, not skipped.
            self.keys.resize((block + 1) * key_block, 0.0);
            self.values.resize((block + 1) * value_block, 0.0);
        }
        let keys = &mut self.keys[block * key_block..];
        for (slot, &k) in keys.iter_mut().skip(lane).step_by(WIDTH).zip(key) {
            *slot = k;
        }
        let padded = self.shape.padded_dim();
        for head in 0..heads {
            let at = block * value_block + (head * WIDTH + lane) * padded;
            self.values[at..at + dim].copy_from_slice(&value[head * dim..(head + 1) * dim]);
        }
        self.end += 1;
    }
}

/// The cache of one sequence in one layer: a shared context, possibly, and what follows it.
#[derive(Debug, Clone)]
pub struct KvCache {
    pub(super) context: Option<Arc<Run>>,
    pub(super) own: Run,
}

impl KvCache {
    /// An empty cache.
    pub fn new(shape: HeadShape) -> Self {
        Self { context: None, own: Run::new(shape, 0) }
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.own.end
    }

    /// Whether no position is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes room for `positions` more, exactly.
    pub fn reserve(&mut self, positions: usize) {
        self.own.reserve(positions);
    }

    /// Appends one position: `key` and `value` of all heads, [heads · dim] each.
    pub fn push(&mut self, key: &[f32], value: &[f32]) {
        debug_assert_eq!((key.len(), value.len()), (self.own.shape.width(), self.own.shape.width()));
        self.own.push(key, value);
    }

    /// Whether both continue the same frozen context.
    pub(super) fn shares_context(&self, other: &Self) -> bool {
        matches!((&self.context, &other.context), (Some(a), Some(b)) if Arc::ptr_eq(a, b))
    }

    /// Freezes the cache and returns the root of any number of continuations; see [`Context::branch`].
    pub fn freeze(self) -> Context {
        debug_assert!(self.context.is_none(), "only a cache that owns all its positions can be shared");
        Context(Arc::new(self.own))
    }
}

/// A frozen cache that several sequences continue.
#[derive(Debug, Clone)]
pub struct Context(Arc<Run>);

impl Context {
    /// A cache that continues this context with room for `positions` more, sharing all whole blocks.
    pub fn branch(&self, positions: usize) -> KvCache {
        let run = &self.0;
        let whole = run.end / WIDTH * WIDTH;
        let mut own = Run::new(run.shape, whole);
        own.reserve(run.end - whole + positions);
        if run.end > whole {
            let (keys, values) = run.shape.block_sizes();
            let block = whole / WIDTH;
            own.keys.extend_from_slice(&run.keys[block * keys..]);
            own.values.extend_from_slice(&run.values[block * values..]);
            own.end = run.end;
        }
        KvCache { context: Some(Arc::clone(run)), own }
    }
}
