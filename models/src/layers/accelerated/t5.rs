//! The layers of T5's kind that Chronos-2 is built of; see [`crate::layers::t5`].

use super::{Linear, Place, RmsNorm, Rotation};
use crate::artifact::Tensors;
use crate::error::Result;
use crate::layers::cpu::cache::HeadShape;
use crate::layers::linear::tensor;
use candle_core::{DType, Tensor};
use std::collections::BTreeMap;
use std::ops::Range;

/// Attention with its norm in front: x + O·attention(Q·n, K·n, V·n), n = norm(x).
#[derive(Debug)]
pub struct Attention {
    norm: RmsNorm,
    query: Linear,
    key_value: Linear,
    out: Linear,
    shape: HeadShape,
}

/// Which queries look at which keys, laid out for products of many sequences at once.
///
/// Sequences of similar length lie side by side, filled up to the longest of them, which is less than twice as long.
#[derive(Debug)]
pub struct Encounters {
    dtype: DType,
    buckets: Vec<Bucket>,
    /// Where the answer to each query lies among those of all buckets.
    places: Tensor,
}

#[derive(Debug)]
struct Bucket {
    sequences: usize,
    queries: Tensor,
    keys: Tensor,
    /// −∞ where a sequence has no key any more, [sequences, 1, 1, keys]; absent where all are of one length.
    mask: Option<Tensor>,
}

impl Encounters {
    /// `queries[s]` consecutive queries look at the range `keys[s]` of keys, at least one.
    pub fn new(place: &Place, keys: &[Range<usize>], queries: &[usize]) -> Result<Self> {
        let starts: Vec<usize> = queries
            .iter()
            .scan(0, |end, n| {
                *end += n;
                Some(*end - n)
            })
            .collect();
        let mut alike: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for (sequence, (keys, &n)) in keys.iter().zip(queries).enumerate() {
            if n > 0 {
                let size = (keys.len().next_power_of_two(), n.next_power_of_two());
                alike.entry(size).or_default().push(sequence);
            }
        }
        let mut places = vec![0u32; queries.iter().sum()];
        let mut answers = 0;
        let mut buckets = Vec::with_capacity(alike.len());
        for sequences in alike.into_values() {
            let most_keys = sequences.iter().map(|&s| keys[s].len()).max().unwrap_or(0);
            let most_queries = sequences.iter().map(|&s| queries[s]).max().unwrap_or(0);
            let (mut key_rows, mut query_rows, mut mask) = (Vec::new(), Vec::new(), Vec::new());
            for &s in &sequences {
                for key in 0..most_keys {
                    let there = key < keys[s].len();
                    key_rows.push((keys[s].start + if there { key } else { 0 }) as u32);
                    mask.push(if there { 0.0 } else { f32::NEG_INFINITY });
                }
                for query in 0..most_queries {
                    let there = query < queries[s];
                    query_rows.push((starts[s] + if there { query } else { 0 }) as u32);
                    if there {
                        places[starts[s] + query] = answers;
                    }
                    answers += 1;
                }
            }
            let filled = mask.iter().any(|&value| value != 0.0);
            let shape = (sequences.len(), 1, 1, most_keys);
            buckets.push(Bucket {
                sequences: sequences.len(),
                queries: place.rows(query_rows)?,
                keys: place.rows(key_rows)?,
                mask: if filled { Some(place.matrix(mask, most_keys)?.reshape(shape)?) } else { None },
            });
        }
        Ok(Self { dtype: place.dtype, buckets, places: place.rows(places)? })
    }

    /// Attention of [heads, queries, dim] to [heads, keys, dim] → [queries, heads · dim].
    fn attend(&self, queries: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Tensor> {
        let mut answers = Vec::with_capacity(self.buckets.len());
        for bucket in &self.buckets {
            let gather = |x: &Tensor, rows: &Tensor| {
                let (heads, _, dim) = x.dims3()?;
                let rows = x.index_select(rows, 1)?.reshape((heads, bucket.sequences, (), dim))?;
                rows.transpose(0, 1)?.contiguous()
            };
            let (q, k) = (gather(queries, &bucket.queries)?, gather(keys, &bucket.keys)?);
            let mut scores = q.matmul(&k.transpose(2, 3)?)?.to_dtype(DType::F32)?;
            if let Some(mask) = &bucket.mask {
                scores = scores.broadcast_add(mask)?;
            }
            let weights = candle_nn::ops::softmax_last_dim(&scores)?.to_dtype(self.dtype)?;
            let attended = weights.matmul(&gather(values, &bucket.keys)?)?.transpose(1, 2)?.contiguous()?;
            let (sequences, rows, heads, dim) = attended.dims4()?;
            answers.push(attended.reshape((sequences * rows, heads * dim))?);
        }
        Ok(Tensor::cat(&answers, 0)?.index_select(&self.places, 0)?.to_dtype(DType::F32)?)
    }
}

impl Attention {
    /// Places the layer `{prefix}.layer_norm`, `{prefix}.{name}.{q,k,v,o}`.
    pub fn load(
        place: &Place,
        tensors: &Tensors,
        prefix: &str,
        name: &str,
        shape: HeadShape,
        eps: f32,
    ) -> Result<Self> {
        let part = |part: &str| format!("{prefix}.{name}.{part}");
        Ok(Self {
            norm: RmsNorm::load(place, tensors, &format!("{prefix}.layer_norm.weight"), eps)?,
            query: Linear::load(place, tensors, &part("q"))?,
            key_value: Linear::stacked(place, tensors, &[part("k"), part("v")])?,
            out: Linear::load(place, tensors, &part("o"))?,
            shape,
        })
    }

    /// Lets rows `x` look at rows `seen`, each with its rotations where there are any, and adds what they find.
    pub fn forward(
        &self,
        x: &Tensor,
        seen: &Tensor,
        rotations: Option<(&Rotation, &Rotation)>,
        encounters: &Encounters,
    ) -> Result<Tensor> {
        let HeadShape { heads, dim } = self.shape;
        let by_head = |x: &Tensor, parts: usize| {
            let rows = x.reshape((x.dim(0)?, parts * heads, dim))?;
            Ok::<_, crate::ModelError>(rows.transpose(0, 1)?.contiguous()?)
        };
        let mut queries = by_head(&self.query.forward(&self.norm.forward(x)?)?, 1)?;
        let key_value = by_head(&self.key_value.forward(&self.norm.forward(seen)?)?, 2)?;
        let mut keys = key_value.narrow(0, 0, heads)?.contiguous()?;
        let values = key_value.narrow(0, heads, heads)?.contiguous()?;
        if let Some((of_queries, of_keys)) = rotations {
            (queries, keys) = (of_queries.apply(&queries)?, of_keys.apply(&keys)?);
        }
        let factor = |x: Tensor| x.to_dtype(encounters.dtype);
        let attended = encounters.attend(&factor(queries)?, &factor(keys)?, &factor(values)?)?;
        Ok((x + self.out.forward(&attended)?)?)
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        self.norm.bytes() + self.query.bytes() + self.key_value.bytes() + self.out.bytes()
    }
}

/// What [`Attention`] is for a row that sees nothing but itself; see [`crate::layers::t5::SoloAttention`].
#[derive(Debug)]
pub struct SoloAttention {
    norm: RmsNorm,
    map: Linear,
}

impl SoloAttention {
    /// Multiplies O·V of the layer `{prefix}.layer_norm`, `{prefix}.{name}.{v,o}` once, in float32.
    pub fn load(place: &Place, tensors: &Tensors, prefix: &str, name: &str, eps: f32) -> Result<Self> {
        let part = |part: &str| place.exact(tensor(tensors, &format!("{prefix}.{name}.{part}.weight"))?);
        Ok(Self {
            norm: RmsNorm::load(place, tensors, &format!("{prefix}.layer_norm.weight"), eps)?,
            map: Linear::new(place, &part("o")?.matmul(&part("v")?)?, None)?,
        })
    }

    /// x + O·V·norm(x).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok((x + self.map.forward(&self.norm.forward(x)?)?)?)
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        self.norm.bytes() + self.map.bytes()
    }
}

/// x + O·relu(I·norm(x)).
#[derive(Debug)]
pub struct FeedForward {
    norm: RmsNorm,
    hidden: Linear,
    out: Linear,
}

impl FeedForward {
    /// Places the layer `{prefix}.layer_norm`, `{prefix}.{name}.{wi,wo}`.
    pub fn load(place: &Place, tensors: &Tensors, prefix: &str, name: &str, eps: f32) -> Result<Self> {
        Ok(Self {
            norm: RmsNorm::load(place, tensors, &format!("{prefix}.layer_norm.weight"), eps)?,
            hidden: Linear::load(place, tensors, &format!("{prefix}.{name}.wi"))?,
            out: Linear::load(place, tensors, &format!("{prefix}.{name}.wo"))?,
        })
    }

    /// Applies the layer to rows.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = self.hidden.forward(&self.norm.forward(x)?)?.relu()?;
        Ok((x + self.out.forward(&hidden)?)?)
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        self.norm.bytes() + self.hidden.bytes() + self.out.bytes()
    }
}

/// O·relu(H·x + b) + R·x + c: from patches to tokens and back.
#[derive(Debug)]
pub struct ResidualBlock {
    hidden: Linear,
    output: Linear,
    residual: Linear,
}

impl ResidualBlock {
    /// Places `{prefix}.{hidden,output,residual}_layer`.
    pub fn load(place: &Place, tensors: &Tensors, prefix: &str) -> Result<Self> {
        let layer = |name: &str| Linear::load(place, tensors, &format!("{prefix}.{name}_layer"));
        Ok(Self { hidden: layer("hidden")?, output: layer("output")?, residual: layer("residual")? })
    }

    /// Applies the block to rows.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let through = self.output.forward(&self.hidden.forward(x)?.relu()?)?;
        Ok((through + self.residual.forward(x)?)?)
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        self.hidden.bytes() + self.output.bytes() + self.residual.bytes()
    }
}
