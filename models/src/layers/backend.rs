//! What a network is written over: a way to compute, chosen when a model is loaded and compiled into its network.
//!
//! A network is written once, in layers and rows. A backend knows in which form weights lie, where, and by which operations
//! rows go through them; no layer asks which one it is. There are three: [`Packed`](super::packed::Packed), the kernels of
//! the CPU; [`Place`](super::accelerated::Place), candle's operations on a device; and in `kronos-training` candle's
//! operations with gradients.
//!
//! Rows are candle tensors [rows, width] in float32, several sequences one after the other without padding. What some
//! backend does in one pass over memory (a norm on the way into a product, a product added to a residual) is a method whose
//! default does one thing after the other.

use super::cpu::cache::HeadShape;
use super::rope::Rope;
use crate::artifact::Tensors;
use crate::error::Result;
use candle_core::Tensor;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

/// What becomes of the outputs of a linear map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// Negative ones become zero.
    Rectified,
}

/// Weights, as a backend holds them.
pub trait Held: Debug + Send + Sync {
    /// Bytes that they take.
    fn bytes(&self) -> usize;
}

/// The rows that look at their sequences, where not all do.
#[derive(Debug, Clone, Copy)]
pub struct Looking<'r> {
    /// Those rows, sequence after sequence.
    pub rows: &'r [usize],
    /// How many they are of each sequence.
    pub of_each: &'r [usize],
}

/// A constant basis, on each of several columns: numbers [function][column] become [point][column].
#[derive(Debug, Clone, Copy)]
pub struct Span<'b> {
    /// [function][point]
    pub functions: &'b [Vec<f64>],
    /// Columns.
    pub columns: usize,
}

/// A way to compute the layers of a network.
pub trait Backend: Debug + Clone + Send + Sync {
    /// A root-mean-square norm.
    type Norm: Held;
    /// A linear map with its activation.
    type Linear: Held;
    /// Attention over whole sequences without a scale factor, with its norm in front and its projections.
    type Attention: Held;
    /// Numbers of rows, for many look-ups.
    type Rows: Debug;
    /// Which rows look at which, for the layers of one pass.
    type Pattern: Debug;
    /// What is left out at random where a network is trained; nothing where it forecasts.
    type Dropout: Copy;

    /// Takes a norm: x / sqrt(mean(x²) + eps) · weight.
    fn norm(&self, weight: &Tensor, eps: f32) -> Result<Self::Norm>;

    /// Takes a map: x·Wᵀ + b for a weight [out, in] and a bias [out].
    fn linear(&self, weight: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Result<Self::Linear>;

    /// Takes two maps without bias as one, x·Fᵀ·Sᵀ: one matrix where weights do not change.
    fn chained(&self, first: &Tensor, second: &Tensor) -> Result<Self::Linear>;

    /// Takes a map whose outputs count functions of constant bases, span after span: one matrix, computed in float64, where
    /// weights do not change.
    fn spanning(&self, weight: &Tensor, bias: &Tensor, spans: &[Span<'_>]) -> Result<Self::Linear>;

    /// Takes the layer `{prefix}.layer_norm`, `{prefix}.{name}.{q,k,v,o}` of a prefix and a name.
    fn attention(
        &self,
        tensors: &Tensors,
        layer: (&str, &str),
        shape: HeadShape,
        eps: f32,
    ) -> Result<Self::Attention>;

    /// Takes rows that are looked up as they are.
    fn table(&self, rows: &Tensor) -> Result<Tensor>;

    /// A matrix of the given number of columns.
    fn matrix(&self, values: Vec<f32>, columns: usize) -> Result<Tensor>;

    /// The values of a matrix.
    fn values(x: &Tensor) -> Result<Vec<f32>>;

    /// Numbers of rows.
    fn rows(&self, rows: Vec<usize>) -> Result<Self::Rows>;

    /// Rows that look at the whole of their sequences, which are ranges of rows one after the other; queries and keys rotated to
    /// the positions of their rows where there are any.
    fn pattern(
        &self,
        sequences: &[Range<usize>],
        looking: Option<Looking<'_>>,
        rotation: Option<(&Rope, &[usize])>,
    ) -> Result<Self::Pattern>;

    /// The dropout of another place of the network.
    fn at(dropout: Self::Dropout, _place: u64) -> Self::Dropout {
        dropout
    }

    /// Leaves out what the dropout says.
    fn drop(x: Tensor, _dropout: Self::Dropout) -> Result<Tensor> {
        Ok(x)
    }

    /// Each row, normed.
    fn normed(norm: &Self::Norm, x: &Tensor) -> Result<Tensor>;

    /// Each row through the map.
    fn product(map: &Self::Linear, x: &Tensor) -> Result<Tensor>;

    /// [`Backend::product`] of rows that go through a norm first.
    fn normed_product(norm: &Self::Norm, map: &Self::Linear, x: &Tensor) -> Result<Tensor> {
        Self::product(map, &Self::normed(norm, x)?)
    }

    /// [`Backend::product`], with dropout, added to `residual`.
    fn product_onto(
        map: &Self::Linear,
        x: &Tensor,
        residual: &Tensor,
        dropout: Self::Dropout,
    ) -> Result<Tensor> {
        Ok((residual + Self::drop(Self::product(map, x)?, dropout)?)?)
    }

    /// [`Backend::product_onto`] of rows that go through a norm first.
    fn normed_product_onto(
        norm: &Self::Norm,
        map: &Self::Linear,
        x: &Tensor,
        residual: &Tensor,
        dropout: Self::Dropout,
    ) -> Result<Tensor> {
        Self::product_onto(map, &Self::normed(norm, x)?, residual, dropout)
    }

    /// The rows of `x` that look, each with what it finds added: x + O·attention(Q·n, K·n, V·n), n = norm(x).
    fn attend(
        layer: &Self::Attention,
        x: &Tensor,
        pattern: &Self::Pattern,
        dropout: Self::Dropout,
    ) -> Result<Tensor>;

    /// Rows of the parts, counted as if these lay one after the other.
    fn gather(parts: &[&Tensor], rows: &Self::Rows) -> Result<Tensor>;
}

/// What a network of an encoder and a decoder needs beside.
pub trait CrossAttention: Backend {
    /// Rows that look at the whole of their sequences, with something added to each score by how far apart, in `places`, two
    /// rows are.
    fn relative(
        &self,
        sequences: &[Range<usize>],
        bias: &Arc<DistanceBias>,
        places: &[i64],
    ) -> Result<Self::Pattern>;

    /// One row for each sequence of other rows, at which it looks.
    fn across(&self, sequences: &[Range<usize>]) -> Result<Self::Pattern>;

    /// Each row of `x` with what it finds in `seen`, which has been normed elsewhere, added.
    fn attend_across(
        layer: &Self::Attention,
        x: &Tensor,
        seen: &Tensor,
        pattern: &Self::Pattern,
    ) -> Result<Tensor>;
}

/// What is added to a score by the distance from key to query.
#[derive(Debug)]
pub struct DistanceBias {
    /// [head][distance + most]
    by_head: Vec<Vec<f32>>,
    most: i64,
}

impl DistanceBias {
    /// `of(head, distance)` for each head; what is further apart than `most` counts as that far.
    pub fn new(heads: usize, most: usize, of: impl Fn(usize, i64) -> f32) -> Self {
        let most = most as i64;
        let by_head = (0..heads).map(|head| (-most..=most).map(|distance| of(head, distance)).collect());
        Self { by_head: by_head.collect(), most }
    }

    /// Heads.
    pub fn heads(&self) -> usize {
        self.by_head.len()
    }

    /// Where in [`DistanceBias::of`] a distance lies.
    pub fn index(&self, distance: i64) -> usize {
        (distance.clamp(-self.most, self.most) + self.most) as usize
    }

    /// The values of a head, by [`DistanceBias::index`].
    pub fn of(&self, head: usize) -> &[f32] {
        &self.by_head[head]
    }

    /// Bytes of the values.
    pub fn bytes(&self) -> usize {
        self.by_head.iter().map(|values| size_of_val(values.as_slice())).sum()
    }
}

/// A network by the kernels of the CPU, or placed on a device.
#[derive(Debug)]
pub enum Loaded<P, D> {
    /// By the kernels.
    Packed(Box<P>),
    /// By candle's operations.
    Placed(Box<D>),
}

/// Evaluates an expression with the network of a [`Loaded`].
macro_rules! with_network {
    ($loaded:expr, $network:ident => $expression:expr) => {
        match &$loaded {
            $crate::layers::backend::Loaded::Packed($network) => $expression,
            $crate::layers::backend::Loaded::Placed($network) => $expression,
        }
    };
}
pub(crate) use with_network;

/// A map times constant bases, in float64: the weights [point][in] and the biases [point] of one map.
pub fn folded(weight: &Tensor, bias: &Tensor, spans: &[Span<'_>]) -> Result<(Tensor, Tensor)> {
    let width = weight.dim(1)?;
    let (weight, bias) = (weight.flatten_all()?.to_vec1::<f32>()?, bias.to_vec1::<f32>()?);
    let (mut weights, mut biases) = (Vec::new(), Vec::new());
    let mut start = 0;
    for &Span { functions, columns } in spans {
        let points = 0..functions.first().map_or(0, Vec::len);
        for (point, column) in points.flat_map(|point| (0..columns).map(move |column| (point, column))) {
            let theta = |function: usize| start + function * columns + column;
            let sum = |of: &dyn Fn(usize) -> f32| {
                let terms = functions.iter().enumerate();
                terms.map(|(f, points)| points[point] * f64::from(of(theta(f)))).sum::<f64>() as f32
            };
            weights.extend((0..width).map(|at| sum(&|theta| weight[theta * width + at])));
            biases.push(sum(&|theta| bias[theta]));
        }
        start += functions.len() * columns;
    }
    let (points, device) = (biases.len(), &candle_core::Device::Cpu);
    Ok((Tensor::from_vec(weights, (points, width), device)?, Tensor::from_vec(biases, points, device)?))
}
