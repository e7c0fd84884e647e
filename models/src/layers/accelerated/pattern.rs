//! Attention of many sequences at once in products of one shape.

use super::{Place, Rotation};
use crate::error::Result;
use crate::layers::backend::{DistanceBias, Looking};
use crate::layers::cpu::cache::HeadShape;
use crate::layers::rope::Rope;
use candle_core::{DType, Tensor};
use std::collections::BTreeMap;
use std::ops::Range;

/// Which rows look at which, laid out for products of many sequences at once.
///
/// Sequences of similar length lie side by side, filled up to the longest of them, which is less than twice as long.
#[derive(Debug)]
pub struct Pattern {
    dtype: DType,
    /// The rows that look, where not all do.
    pub(super) looking: Option<Tensor>,
    rotation: Option<Rotations>,
    buckets: Vec<Bucket>,
    /// Where the answer to each query lies among those of all buckets.
    places: Tensor,
}

#[derive(Debug)]
struct Rotations {
    keys: Rotation,
    /// Absent where all rows look.
    queries: Option<Rotation>,
}

#[derive(Debug)]
struct Bucket {
    sequences: usize,
    queries: Tensor,
    keys: Tensor,
    /// Added to the scores [sequences, heads, queries, keys]: −∞ where a sequence has no key any more, and what depends on
    /// the distance; absent where all are of one length and nothing does.
    added: Option<Tensor>,
}

impl Pattern {
    /// `counts[s]` consecutive queries look at the range `sequences[s]` of keys, at least one; `relative` adds to each score by
    /// the places of its query and key.
    fn new(
        place: &Place,
        sequences: &[Range<usize>],
        counts: &[usize],
        relative: Option<(&DistanceBias, &[i64])>,
    ) -> Result<Self> {
        let starts: Vec<usize> = counts
            .iter()
            .scan(0, |end, n| {
                *end += n;
                Some(*end - n)
            })
            .collect();
        let mut alike: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
        for (sequence, (keys, &n)) in sequences.iter().zip(counts).enumerate() {
            if n > 0 {
                let size = (keys.len().next_power_of_two(), n.next_power_of_two());
                alike.entry(size).or_default().push(sequence);
            }
        }
        let mut places = vec![0u32; counts.iter().sum()];
        let mut answers = 0;
        let mut buckets = Vec::with_capacity(alike.len());
        for bucket in alike.into_values() {
            let most_keys = bucket.iter().map(|&s| sequences[s].len()).max().unwrap_or(0);
            let most_queries = bucket.iter().map(|&s| counts[s]).max().unwrap_or(0);
            let (mut key_rows, mut query_rows, mut mask) = (Vec::new(), Vec::new(), Vec::new());
            for &s in &bucket {
                for key in 0..most_keys {
                    let there = key < sequences[s].len();
                    key_rows.push((sequences[s].start + if there { key } else { 0 }) as u32);
                    mask.push(if there { 0.0 } else { f32::NEG_INFINITY });
                }
                for query in 0..most_queries {
                    let there = query < counts[s];
                    query_rows.push((starts[s] + if there { query } else { 0 }) as u32);
                    if there {
                        places[starts[s] + query] = answers;
                    }
                    answers += 1;
                }
            }
            let filled = mask.iter().any(|&value| value != 0.0);
            let n = bucket.len();
            let mut added = None;
            if filled {
                added = Some(place.matrix(mask, most_keys)?.reshape((n, 1, 1, most_keys))?);
            }
            if let Some((bias, at)) = relative {
                let (rows, keys) = (query_rows.chunks(most_queries), key_rows.chunks(most_keys));
                let distances = by_distance(place, bias, at, rows.zip(keys))?;
                let distances = distances.reshape((bias.heads(), n, most_queries, most_keys))?;
                let distances = distances.transpose(0, 1)?.contiguous()?;
                added = Some(match added {
                    Some(mask) => distances.broadcast_add(&mask)?,
                    None => distances,
                });
            }
            let (queries, keys) = (place.rows(query_rows)?, place.rows(key_rows)?);
            buckets.push(Bucket { sequences: n, queries, keys, added });
        }
        let places = place.rows(places)?;
        Ok(Self { dtype: place.dtype, looking: None, rotation: None, buckets, places })
    }

    pub(super) fn whole(
        place: &Place,
        sequences: &[Range<usize>],
        looking: Option<Looking<'_>>,
        rotation: Option<(&Rope, &[usize])>,
    ) -> Result<Self> {
        let rotations = |(rope, positions): (&Rope, &[usize])| -> Result<Rotations> {
            let of = |rows: &[usize]| {
                place.rotation(rope, &rows.iter().map(|&row| positions[row]).collect::<Vec<_>>())
            };
            let queries = looking.map(|looking| of(looking.rows)).transpose()?;
            Ok(Rotations { keys: place.rotation(rope, positions)?, queries })
        };
        let all: Vec<usize> = sequences.iter().map(Range::len).collect();
        let pattern = Self::new(place, sequences, looking.map_or(&all, |looking| looking.of_each), None)?;
        let rows = |looking: Looking<'_>| place.rows(looking.rows.iter().map(|&row| row as u32).collect());
        let (looking, rotation) = (looking.map(rows).transpose()?, rotation.map(rotations).transpose()?);
        Ok(Self { looking, rotation, ..pattern })
    }

    pub(super) fn relative(
        place: &Place,
        sequences: &[Range<usize>],
        bias: &DistanceBias,
        places: &[i64],
    ) -> Result<Self> {
        let all: Vec<usize> = sequences.iter().map(Range::len).collect();
        Self::new(place, sequences, &all, Some((bias, places)))
    }

    pub(super) fn across(place: &Place, sequences: &[Range<usize>]) -> Result<Self> {
        Self::new(place, sequences, &vec![1; sequences.len()], None)
    }

    /// What queries [queries, heads · dim] find among keys and values [keys, 2 · heads · dim] → [queries, heads · dim].
    pub(super) fn find(&self, queries: &Tensor, keys_values: &Tensor, shape: HeadShape) -> Result<Tensor> {
        let HeadShape { heads, dim } = shape;
        let by_head = |x: &Tensor, parts: usize| {
            let rows = x.reshape((x.dim(0)?, parts * heads, dim))?;
            rows.transpose(0, 1)?.contiguous()
        };
        let (mut queries, keys_values) = (by_head(queries, 1)?, by_head(keys_values, 2)?);
        let mut keys = keys_values.narrow(0, 0, heads)?.contiguous()?;
        let values = keys_values.narrow(0, heads, heads)?.contiguous()?;
        if let Some(rotations) = &self.rotation {
            queries = rotations.queries.as_ref().unwrap_or(&rotations.keys).apply(&queries)?;
            keys = rotations.keys.apply(&keys)?;
        }
        let factor = |x: Tensor| x.to_dtype(self.dtype);
        let (queries, keys, values) = (factor(queries)?, factor(keys)?, factor(values)?);
        let mut answers = Vec::with_capacity(self.buckets.len());
        for bucket in &self.buckets {
            let gather = |x: &Tensor, rows: &Tensor| {
                let rows = x.index_select(rows, 1)?.reshape((heads, bucket.sequences, (), dim))?;
                rows.transpose(0, 1)?.contiguous()
            };
            let (q, k) = (gather(&queries, &bucket.queries)?, gather(&keys, &bucket.keys)?);
            let mut scores = q.matmul(&k.transpose(2, 3)?)?.to_dtype(DType::F32)?;
            if let Some(added) = &bucket.added {
                scores = scores.broadcast_add(added)?;
            }
            let weights = candle_nn::ops::softmax_last_dim(&scores)?.to_dtype(self.dtype)?;
            let found = weights.matmul(&gather(&values, &bucket.keys)?)?.transpose(1, 2)?.contiguous()?;
            let (sequences, rows, heads, dim) = found.dims4()?;
            answers.push(found.reshape((sequences * rows, heads * dim))?);
        }
        Ok(Tensor::cat(&answers, 0)?.index_select(&self.places, 0)?.to_dtype(DType::F32)?)
    }
}

/// What is added to the scores of queries and keys by their distances, [heads, all pairs].
fn by_distance<'r>(
    place: &Place,
    bias: &DistanceBias,
    at: &[i64],
    sequences: impl Iterator<Item = (&'r [u32], &'r [u32])>,
) -> Result<Tensor> {
    let mut indices = Vec::new();
    for (queries, keys) in sequences {
        for &query in queries {
            let distance = |&key: &u32| at[query as usize] - at[key as usize];
            indices.extend(keys.iter().map(|key| bias.index(distance(key)) as u32));
        }
    }
    let table: Vec<f32> = (0..bias.heads()).flat_map(|head| bias.of(head).iter().copied()).collect();
    let width = table.len() / bias.heads();
    Ok(place.matrix(table, width)?.index_select(&place.rows(indices)?, 1)?)
}
