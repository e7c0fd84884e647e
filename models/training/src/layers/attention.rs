//! Attention within sequences of rows.

use super::{Dropout, fused, values, with_contiguous};
use candle_core::{CpuStorage, CustomOp1, D, Layout, Result, Shape, Tensor};
use kronos_models::layers::cpu::cache::HeadShape;
use kronos_models::layers::cpu::gradient::{softmax, softmax_gradient};
use kronos_models::layers::cpu::product::{View, product};
use kronos_models::layers::rope::RopeTable;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which rows attend to each other: every row is in exactly one sequence.
#[derive(Debug, Clone)]
pub struct Sequences {
    members: Vec<Vec<u32>>,
    rows: usize,
}

impl Sequences {
    /// Sequences of rows, oldest first, that are a partition of the first `rows` rows.
    ///
    /// # Errors
    /// When a row is in no sequence, or in two.
    pub fn new(members: Vec<Vec<u32>>, rows: usize) -> Result<Self> {
        let mut seen = vec![false; rows];
        for &row in members.iter().flatten() {
            match seen.get_mut(row as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => candle_core::bail!("row {row} of {rows} is out of range or in two sequences"),
            }
        }
        if seen.contains(&false) {
            candle_core::bail!("a row of {rows} is in no sequence");
        }
        Ok(Self { members, rows })
    }

    /// `count` sequences of `length` rows, one after the other.
    pub fn equal(count: usize, length: usize) -> Self {
        let members =
            (0..count).map(|s| (s * length..(s + 1) * length).map(|row| row as u32).collect()).collect();
        Self { members, rows: count * length }
    }
}

/// Attention of the rows of each sequence to the rows of the same sequence.
#[derive(Debug, Clone)]
pub struct Attention {
    /// Heads and their width.
    pub shape: HeadShape,
    /// Factor of the scores.
    pub scale: f32,
    /// Whether a row sees only itself and those before it in its sequence.
    pub causal: bool,
    /// Rotations of queries and keys, and the position of each row; the table covers all of them.
    pub rotation: Option<(Arc<RopeTable>, Arc<[u32]>)>,
    /// Who attends to whom.
    pub sequences: Arc<Sequences>,
    /// Dropout of the probabilities.
    pub dropout: Dropout,
}

impl Attention {
    /// Applies the layer to rows that hold query, key and value one after the other.
    ///
    /// # Shapes
    /// `qkv`: [rows, 3 · inner] → [rows, inner].
    /// # Errors
    /// When rows or widths are not those of the layer.
    pub fn forward(&self, qkv: &Tensor) -> Result<Tensor> {
        let (rows, columns) = qkv.dims2()?;
        let inner = self.shape.width();
        let positions = self.rotation.as_ref().map_or(rows, |(_, positions)| positions.len());
        if rows != self.sequences.rows || columns != 3 * inner || positions != rows {
            candle_core::bail!(
                "attention over {} rows of width {inner} got {rows} rows of {columns}",
                self.sequences.rows
            );
        }
        if fused(qkv) { qkv.contiguous()?.apply_op1(self.clone()) } else { self.composed(qkv) }
    }

    /// [`Attention::forward`] by candle's own operations, sequences of one length at a time.
    fn composed(&self, qkv: &Tensor) -> Result<Tensor> {
        let device = qkv.device();
        let HeadShape { heads, dim } = self.shape;
        let mut by_length: BTreeMap<usize, Vec<(usize, &[u32])>> = BTreeMap::new();
        for (index, members) in self.sequences.members.iter().enumerate() {
            by_length.entry(members.len()).or_default().push((index, members));
        }
        let mut place = vec![0u32; self.sequences.rows];
        let mut parts = Vec::new();
        let mut done = 0;
        for (length, sequences) in by_length {
            let n = sequences.len();
            let order: Vec<u32> = sequences.iter().flat_map(|(_, members)| members.iter().copied()).collect();
            order.iter().enumerate().for_each(|(i, &row)| place[row as usize] = (done + i) as u32);
            done += order.len();
            let rows = qkv.index_select(&Tensor::from_slice(&order, order.len(), device)?, 0)?;
            let part = |i: usize| {
                rows.narrow(1, i * heads * dim, heads * dim)?
                    .reshape((n, length, heads, dim))?
                    .transpose(1, 2)
            };
            let (mut q, mut k, v) = (part(0)?, part(1)?, part(2)?.contiguous()?);
            if let Some((table, positions)) = &self.rotation {
                let angles = |sine: bool| {
                    let values = order.iter().flat_map(|&row| {
                        let (cos, sin) = table.angles(positions[row as usize] as usize);
                        if sine { sin } else { cos }.iter().copied()
                    });
                    Tensor::from_vec(values.collect(), (n, 1, length, dim / 2), device)?.to_dtype(qkv.dtype())
                };
                let (cos, sin) = (angles(false)?, angles(true)?);
                let rotate = |x: &Tensor| -> Result<Tensor> {
                    let (a, b) = (x.narrow(3, 0, dim / 2)?, x.narrow(3, dim / 2, dim / 2)?);
                    let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
                    Tensor::cat(&[first, (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?], 3)
                };
                (q, k) = (rotate(&q)?, rotate(&k)?);
            }
            let mut scores = (q.contiguous()?.matmul(&k.t()?.contiguous()?)? * f64::from(self.scale))?;
            if self.causal {
                let mask: Vec<f32> = (0..length * length)
                    .map(|at| if at % length > at / length { f32::NEG_INFINITY } else { 0.0 })
                    .collect();
                let mask = Tensor::from_vec(mask, (1, 1, length, length), device)?.to_dtype(qkv.dtype())?;
                scores = scores.broadcast_add(&mask)?;
            }
            let mut weights = candle_nn::ops::softmax(&scores, D::Minus1)?;
            if !self.dropout.is_none() {
                let factors = sequences.iter().flat_map(|&(index, _)| {
                    let dropout = self.dropout.at(index as u64);
                    (0..heads * length * length).map(move |at| dropout.factor(at as u64))
                });
                let factors = Tensor::from_vec(factors.collect::<Vec<f32>>(), weights.shape(), device)?;
                weights = weights.mul(&factors.to_dtype(weights.dtype())?)?;
            }
            parts.push(weights.matmul(&v)?.transpose(1, 2)?.reshape((n * length, heads * dim))?);
        }
        Tensor::cat(&parts, 0)?.index_select(&Tensor::from_vec(place, self.sequences.rows, device)?, 0)
    }

    /// Query, key and value of one sequence, [length, 3 · inner], rotated.
    fn gather(&self, qkv: &[f32], members: &[u32]) -> Vec<f32> {
        let inner = self.shape.width();
        let mut rows = Vec::with_capacity(members.len() * 3 * inner);
        for &row in members {
            let start = rows.len();
            rows.extend_from_slice(&qkv[row as usize * 3 * inner..(row as usize + 1) * 3 * inner]);
            if let Some((table, positions)) = &self.rotation {
                let position = positions[row as usize] as usize;
                table.rotate(&mut rows[start..start + 2 * inner], position);
            }
        }
        rows
    }

    /// Probabilities of one head, [length, length], before dropout.
    fn probabilities(&self, q: View<'_>, k: View<'_>, length: usize) -> Vec<f32> {
        let mut scores = product(q, k.transposed(), None);
        for (i, row) in scores.chunks_exact_mut(length).enumerate() {
            let (seen, unseen) = row.split_at_mut(if self.causal { i + 1 } else { length });
            seen.iter_mut().for_each(|score| *score *= self.scale);
            softmax(seen);
            unseen.fill(0.0);
        }
        scores
    }

    /// Masks the probabilities, or their gradient, of one head of one sequence.
    fn drop(&self, values: &mut [f32], sequence: usize, head: usize) {
        if !self.dropout.is_none() {
            let dropout = self.dropout.at(sequence as u64);
            let first = (head * values.len()) as u64;
            values.iter_mut().zip(first..).for_each(|(v, index)| *v *= dropout.factor(index));
        }
    }

    fn attend(&self, qkv: &[f32], sequence: usize, members: &[u32]) -> Vec<f32> {
        let HeadShape { heads, dim } = self.shape;
        let (inner, length) = (heads * dim, members.len());
        let rows = self.gather(qkv, members);
        if length == 1 && self.dropout.is_none() {
            return rows[2 * inner..].to_vec();
        }
        let mut out = vec![0.0; length * inner];
        for head in 0..heads {
            let part = |i: usize| View::strided(&rows[i * inner + head * dim..], length, dim, 3 * inner);
            let mut weights = self.probabilities(part(0), part(1), length);
            self.drop(&mut weights, sequence, head);
            let attended = product(View::new(&weights, length, length), part(2), None);
            write_head(&mut out, &attended, inner, head, dim);
        }
        out
    }

    /// Gradient of one sequence with respect to its [length, 3 · inner] rows.
    fn attend_backward(&self, qkv: &[f32], sequence: usize, members: &[u32], grad: &[f32]) -> Vec<f32> {
        let HeadShape { heads, dim } = self.shape;
        let (inner, length) = (heads * dim, members.len());
        let mut out = vec![0.0; length * 3 * inner];
        let grad: Vec<f32> = members
            .iter()
            .flat_map(|&row| &grad[row as usize * inner..(row as usize + 1) * inner])
            .copied()
            .collect();
        if length == 1 && self.dropout.is_none() {
            out[2 * inner..].copy_from_slice(&grad);
            return out;
        }
        let rows = self.gather(qkv, members);
        for head in 0..heads {
            let part = |i: usize| View::strided(&rows[i * inner + head * dim..], length, dim, 3 * inner);
            let grad = View::strided(&grad[head * dim..], length, dim, inner);
            let weights = self.probabilities(part(0), part(1), length);
            let mut of_scores = product(grad, part(2).transposed(), None);
            let of_value = if self.dropout.is_none() {
                product(View::new(&weights, length, length).transposed(), grad, None)
            } else {
                let mut dropped = weights.clone();
                self.drop(&mut dropped, sequence, head);
                self.drop(&mut of_scores, sequence, head);
                product(View::new(&dropped, length, length).transposed(), grad, None)
            };
            for (weights, grad) in weights.chunks_exact(length).zip(of_scores.chunks_exact_mut(length)) {
                softmax_gradient(weights, grad, self.scale);
            }
            let of_scores = View::new(&of_scores, length, length);
            write_head(&mut out, &product(of_scores, part(1), None), 3 * inner, head, dim);
            write_head(
                &mut out[inner..],
                &product(of_scores.transposed(), part(0), None),
                3 * inner,
                head,
                dim,
            );
            write_head(&mut out[2 * inner..], &of_value, 3 * inner, head, dim);
        }
        if let Some((table, positions)) = &self.rotation {
            for (row, &member) in out.chunks_exact_mut(3 * inner).zip(members) {
                table.rotate_back(&mut row[..2 * inner], positions[member as usize] as usize);
            }
        }
        out
    }

    /// Runs `f` for every sequence and puts its rows of `width` values into their places.
    fn for_each_sequence(&self, width: usize, f: impl Fn(usize, &[u32]) -> Vec<f32> + Sync) -> Vec<f32> {
        let mut out = vec![0.0; self.sequences.rows * width];
        // A few sequences at a time, so that their rows are put into place while they are in fast memory.
        for (chunk, sequences) in self.sequences.members.chunks(CHUNK).enumerate() {
            let parts: Vec<Vec<f32>> = sequences
                .par_iter()
                .enumerate()
                .with_min_len(1)
                .map(|(index, members)| f(chunk * CHUNK + index, members))
                .collect();
            for (members, rows) in sequences.iter().zip(parts) {
                for (&row, values) in members.iter().zip(rows.chunks_exact(width)) {
                    out[row as usize * width..(row as usize + 1) * width].copy_from_slice(values);
                }
            }
        }
        out
    }
}

/// Sequences in flight at a time.
const CHUNK: usize = 256;

/// Writes [rows, dim] into the columns of a head of rows of `stride` values.
fn write_head(out: &mut [f32], values: &[f32], stride: usize, head: usize, dim: usize) {
    for (row, values) in out.chunks_mut(stride).zip(values.chunks_exact(dim)) {
        row[head * dim..(head + 1) * dim].copy_from_slice(values);
    }
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let qkv = values(qkv, layout)?;
        let inner = self.shape.width();
        let out = self.for_each_sequence(inner, |index, members| self.attend(qkv, index, members));
        Ok((CpuStorage::F32(out), (self.sequences.rows, inner).into()))
    }

    fn bwd(&self, qkv: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let width = 3 * self.shape.width();
        let of_qkv = with_contiguous(qkv, |qkv| {
            with_contiguous(grad, |grad| {
                self.for_each_sequence(width, |index, members| {
                    self.attend_backward(qkv, index, members, grad)
                })
            })
        })??;
        Ok(Some(Tensor::from_vec(of_qkv, qkv.shape(), qkv.device())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use kronos_models::layers::rope::Rope;
    use kronos_models::random::Stream;

    fn values(shape: (usize, usize), seed: u64) -> Tensor {
        let draw = |i: usize| (Stream::from_key(seed).uniform(i as u32, 0, 0) * 2.0 - 1.0) as f32;
        Tensor::from_vec((0..shape.0 * shape.1).map(draw).collect(), shape, &Device::Cpu).unwrap()
    }

    /// The two ways to compute the layer, forward and backward, agree; the composed one is differentiated by candle.
    #[test]
    fn fused_and_composed_agree() {
        let table = Rope::new(6, 100.0).table(40);
        for (causal, rotated, dropout) in
            [(true, true, 0.0), (false, true, 0.0), (false, false, 0.3), (true, true, 0.2)]
        {
            let members = vec![vec![4, 0, 7], vec![2], (8..40).collect(), vec![1, 3, 5, 6]];
            let rows = 40;
            let attention = Attention {
                shape: HeadShape { heads: 3, dim: 6 },
                scale: 0.7,
                causal,
                rotation: rotated.then(|| (table.clone(), (0..rows as u32).map(|row| row % 37).collect())),
                sequences: Arc::new(Sequences::new(members, rows).unwrap()),
                dropout: Dropout::new(dropout, 5),
            };
            let x = Var::from_tensor(&values((rows, 54), 1).affine(2.0, 0.0).unwrap()).unwrap();
            let pull = values((rows, 18), 2);
            let results = [attention.forward(&x).unwrap(), attention.composed(&x).unwrap()].map(|y| {
                let grads = (&y * &pull).unwrap().sum_all().unwrap().backward().unwrap();
                [y, grads.get(&x).unwrap().clone()]
            });
            let [fused, composed] = results;
            for (a, b) in fused.iter().zip(&composed) {
                let worst = (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
                assert!(worst < 2e-6, "causal {causal}, rotated {rotated}, dropout {dropout}: {worst:e}");
            }
        }
    }

    #[test]
    fn sequences_are_a_partition() {
        assert!(Sequences::new(vec![vec![0, 1]], 3).is_err());
        assert!(Sequences::new(vec![vec![0, 1], vec![1, 2]], 3).is_err());
        assert!(Sequences::new(vec![vec![0, 3]], 2).is_err());
        assert!(Sequences::new(vec![vec![2, 0], vec![1]], 3).is_ok());
    }
}
