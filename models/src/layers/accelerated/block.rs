//! The pre-norm transformer block of Llama's kind; see [`crate::layers::block`].

use super::attention::{Paths, Shared};
use super::{Linear, Place, RmsNorm, Rotation};
use crate::artifact::Tensors;
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::layers::block::StackShape;
use crate::layers::cpu::cache::HeadShape;
use crate::layers::rope::Rope;
use candle_core::Tensor;

/// A stack of blocks.
#[derive(Debug)]
pub struct Stack {
    place: Place,
    shape: StackShape,
    rope: Rope,
    blocks: Vec<Block>,
}

/// What a stack remembers of paths of one length, layer by layer.
#[derive(Debug)]
pub struct Memory(Vec<Paths>);

/// The memory of one path, that others continue.
#[derive(Debug, Clone)]
pub struct SharedMemory(Vec<Shared>);

impl Memory {
    /// Paths.
    pub fn paths(&self) -> usize {
        self.0.first().map_or(0, Paths::paths)
    }

    fn positions(&self) -> usize {
        self.0.first().map_or(0, Paths::positions)
    }

    /// Ends a single path; see [`Stack::branch`].
    ///
    /// # Errors
    /// As [`Paths::freeze`].
    pub fn freeze(self) -> Result<SharedMemory> {
        Ok(SharedMemory(self.0.into_iter().map(Paths::freeze).collect::<Result<_>>()?))
    }
}

impl Stack {
    /// Places the blocks `{prefix}.0` … of the given shape; rotary base 10000, norm epsilon 1e-5.
    pub fn load(place: &Place, shape: StackShape, tensors: &Tensors, prefix: &str) -> Result<Self> {
        let blocks = (0..shape.layers)
            .map(|i| Block::load(place, tensors, &format!("{prefix}.{i}")))
            .collect::<Result<_>>()?;
        Ok(Self { place: place.clone(), shape, rope: Rope::new(shape.head().dim, 10_000.0), blocks })
    }

    /// Paths without positions, with room for `capacity`.
    pub fn memory(&self, paths: usize, capacity: usize) -> Memory {
        let layer = |_| Paths::new(&self.place, self.shape.head(), paths, capacity, None);
        Memory((0..self.shape.layers).map(layer).collect())
    }

    /// Paths that continue another with room for `capacity` more positions.
    pub fn branch(&self, shared: &SharedMemory, paths: usize, capacity: usize) -> Memory {
        let layer = |shared: &Shared| {
            Paths::new(&self.place, self.shape.head(), paths, capacity, Some(shared.clone()))
        };
        Memory(shared.0.iter().map(layer).collect())
    }

    /// Runs new positions of several memories through all blocks and appends them.
    ///
    /// # Shapes
    /// `x`: [Σ paths · rows, width], `rows[m]` new positions of each path of memory m, path after path → the same.
    /// # Errors
    /// [`crate::ModelError::Cancelled`] when `interrupt` says so between blocks; the memories are then half-filled and
    /// of no use.
    pub fn forward(
        &self,
        x: Tensor,
        memories: &mut [&mut Memory],
        rows: &[usize],
        interrupt: &dyn Interrupt,
    ) -> Result<Tensor> {
        let of_memory = |(memory, &n): (&&mut Memory, &usize)| {
            let first = memory.positions();
            (0..memory.paths()).flat_map(move |_| first..first + n)
        };
        let positions: Vec<usize> = memories.iter().zip(rows).flat_map(of_memory).collect();
        let rotation = self.place.rotation(&self.rope, &positions)?;
        let mut x = x;
        for (layer, block) in self.blocks.iter().enumerate() {
            interrupt.check()?;
            let mut paths: Vec<&mut Paths> = memories.iter_mut().map(|memory| &mut memory.0[layer]).collect();
            x = block.forward(x, self.shape.head(), &mut paths, rows, &rotation)?;
        }
        Ok(x)
    }

    /// The stack's shape.
    pub fn shape(&self) -> StackShape {
        self.shape
    }

    /// Bytes of the weights.
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
    gate_up: Linear,
    down: Linear,
}

impl Block {
    fn load(place: &Place, tensors: &Tensors, prefix: &str) -> Result<Self> {
        let norm = |name: &str| RmsNorm::load(place, tensors, &format!("{prefix}.{name}.weight"), 1e-5);
        let of = |names: &[&str]| names.iter().map(|name| format!("{prefix}.{name}")).collect::<Vec<_>>();
        let attention = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];
        Ok(Self {
            norm1: norm("norm1")?,
            qkv: Linear::stacked(place, tensors, &of(&attention))?,
            out: Linear::load(place, tensors, &format!("{prefix}.self_attn.out_proj"))?,
            norm2: norm("norm2")?,
            gate_up: Linear::stacked(place, tensors, &of(&["ffn.w1", "ffn.w3"]))?,
            down: Linear::load(place, tensors, &format!("{prefix}.ffn.w2"))?,
        })
    }

    fn forward(
        &self,
        x: Tensor,
        shape: HeadShape,
        memories: &mut [&mut Paths],
        rows: &[usize],
        rotation: &Rotation,
    ) -> Result<Tensor> {
        let HeadShape { heads, dim } = shape;
        let (n, width) = (x.dim(0)?, shape.width());
        let qkv = self.qkv.forward(&self.norm1.forward(&x)?)?;
        // Queries and keys of all rows turn together, [2 · heads, rows, dim].
        let by_head = |from: usize, parts: usize| {
            let part = qkv.narrow(1, from * width, parts * width)?;
            part.reshape((n, parts * heads, dim))?.transpose(0, 1)?.contiguous()
        };
        let turned = rotation.apply(&by_head(0, 2)?)?;
        let queries = (turned.narrow(0, 0, heads)? * (1.0 / (dim as f64).sqrt()))?;
        let keys = turned.narrow(0, heads, heads)?;
        let values = by_head(2, 1)?;
        let mut attended = Vec::with_capacity(memories.len());
        let mut start = 0;
        for (paths, &rows) in memories.iter_mut().zip(rows) {
            let n = paths.paths() * rows;
            let own = |x: &Tensor| x.narrow(1, start, n);
            paths.append(&own(&keys)?, &own(&values)?)?;
            attended.push(paths.attend(&own(&queries)?)?);
            start += n;
        }
        let x = (x + self.out.forward(&Tensor::cat(&attended, 0)?)?)?;
        let gate_up = self.gate_up.forward(&self.norm2.forward(&x)?)?.chunk(2, 1)?;
        let gated = (gate_up[0].silu()? * &gate_up[1])?;
        Ok((x + self.down.forward(&gated)?)?)
    }

    fn bytes(&self) -> usize {
        let linears = [&self.qkv, &self.out, &self.gate_up, &self.down];
        linears.iter().map(|linear| linear.bytes()).sum::<usize>() + self.norm1.bytes() + self.norm2.bytes()
    }
}
