//! Products of two matrices that both change between calls, as every step of a training consists of.
//!
//! The kernel is that of [`super::gemm`]; both factors are packed on the way. A long sum, such as that over all rows of a
//! batch in the gradient of a weight, is cut into blocks that stay in the second-level cache; blocks are added in their
//! order, so the bits do not depend on the number of threads.

use super::gemm::{PANEL, Packed};
use super::rows::{MAX_ROWS, group_start};
use super::simd::Isa;
use super::threads;
use rayon::prelude::*;

/// Terms of a sum that are added up in registers before the next block.
const DEPTH_BLOCK: usize = 512;

/// Below this many values the calling thread packs all.
const PARALLEL_COPY: usize = 1 << 17;

/// A matrix inside a slice.
#[derive(Debug, Clone, Copy)]
pub struct View<'v> {
    values: &'v [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'v> View<'v> {
    /// All of a row-major matrix [rows, columns].
    pub fn new(values: &'v [f32], rows: usize, columns: usize) -> Self {
        Self::strided(values, rows, columns, columns)
    }

    /// Rows of `columns` values that begin `stride` values apart; the first begins with `values`.
    pub fn strided(values: &'v [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(rows == 0 || columns == 0 || (rows - 1) * stride + columns <= values.len());
        Self { values, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// The same values with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    fn at(self, row: usize, column: usize) -> usize {
        row * self.row_stride + column * self.column_stride
    }
}

/// a·b, plus `bias` in every row: [a.rows, b.columns], row-major.
pub fn product(a: View<'_>, b: View<'_>, bias: Option<&[f32]>) -> Vec<f32> {
    assert_eq!(a.columns, b.rows);
    let (rows, columns, depth) = (a.rows, b.columns, a.columns);
    assert!(bias.is_none_or(|bias| bias.len() == columns));
    let mut first_bias = vec![0.0; columns.div_ceil(PANEL) * PANEL];
    if let Some(bias) = bias {
        first_bias[..columns].copy_from_slice(bias);
    }
    if depth == 0 {
        return (0..rows).flat_map(|_| &first_bias[..columns]).copied().collect();
    }
    let mut out = Vec::<f32>::with_capacity(rows * columns);
    let isa = Isa::detect();
    for start in (0..depth).step_by(DEPTH_BLOCK) {
        let end = (start + DEPTH_BLOCK).min(depth);
        let bias = std::mem::replace(&mut first_bias, vec![0.0; columns.div_ceil(PANEL) * PANEL]);
        let packed = Packed::from_panels(panels(b, start, end), bias, columns, end - start);
        let rows_of_a = row_groups(a, start, end);
        let residual = if start == 0 { std::ptr::null() } else { out.as_ptr() };
        // SAFETY: `out` has room for all rows, and the first block has written all of it before it is a residual.
        unsafe { packed.multiply_packed(isa, &rows_of_a, rows, residual, out.as_mut_ptr()) };
    }
    // SAFETY: there was at least one block, and every block writes every value.
    unsafe { out.set_len(rows * columns) };
    out
}

/// Rows `start..end` of the right factor in panels of 32 columns, row after row inside a panel.
fn panels(b: View<'_>, start: usize, end: usize) -> Vec<f32> {
    let depth = end - start;
    let mut data = vec![0.0; b.columns.div_ceil(PANEL) * PANEL * depth];
    let fill = |(panel, chunk): (usize, &mut [f32])| {
        let first = panel * PANEL;
        let lanes = PANEL.min(b.columns - first);
        if b.column_stride == 1 {
            for (row, slots) in (start..end).zip(chunk.chunks_exact_mut(PANEL)) {
                let at = b.at(row, first);
                slots[..lanes].copy_from_slice(&b.values[at..at + lanes]);
            }
        } else {
            for lane in 0..lanes {
                let column = b.values[b.at(start, first + lane)..].iter().step_by(b.row_stride);
                chunk[lane..].iter_mut().step_by(PANEL).zip(column).for_each(|(slot, v)| *slot = *v);
            }
        }
    };
    let chunks = depth * PANEL;
    if data.len() < PARALLEL_COPY || threads::available() == 1 {
        data.chunks_exact_mut(chunks).enumerate().for_each(fill);
    } else {
        data.par_chunks_exact_mut(chunks).enumerate().for_each(fill);
    }
    data
}

/// Columns `start..end` of the left factor, group of rows by group, column after column inside a group.
fn row_groups(a: View<'_>, start: usize, end: usize) -> Vec<f32> {
    let depth = end - start;
    let mut data = vec![0.0; a.rows * depth];
    let mut rest = data.as_mut_slice();
    let groups = a.rows.div_ceil(MAX_ROWS);
    let mut parts = Vec::with_capacity(groups);
    for group in 0..groups {
        let (first, last) = (group_start(group, a.rows), group_start(group + 1, a.rows));
        let (part, others) = rest.split_at_mut((last - first) * depth);
        parts.push((first, last - first, part));
        rest = others;
    }
    let fill = |(first, n, part): (usize, usize, &mut [f32])| {
        if a.row_stride == 1 {
            for (column, slots) in (start..end).zip(part.chunks_exact_mut(n)) {
                let at = a.at(first, column);
                slots.copy_from_slice(&a.values[at..at + n]);
            }
        } else {
            for row in 0..n {
                let values = a.values[a.at(first + row, start)..].iter().step_by(a.column_stride);
                part[row..].iter_mut().step_by(n).zip(values).for_each(|(slot, v)| *slot = *v);
            }
        }
    };
    if a.rows * depth < PARALLEL_COPY || threads::available() == 1 {
        parts.into_iter().for_each(fill);
    } else {
        parts.into_par_iter().for_each(fill);
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    fn values(n: usize, seed: u64) -> Vec<f32> {
        (0..n).map(|i| Stream::from_key(seed).uniform(i as u32, 0, 0) as f32 * 2.0 - 1.0).collect()
    }

    #[test]
    fn every_orientation_agrees_with_f64() {
        for (rows, columns, depth) in [(1, 1, 1), (15, 40, 7), (33, 250, 48), (64, 33, 1300)] {
            let (a, b, bias) = (values(rows * depth, 1), values(columns * depth, 2), values(columns, 3));
            for flip_a in [false, true] {
                for flip_b in [false, true] {
                    let view = |x, r: usize, c: usize, flip: bool| {
                        if flip { View::new(x, c, r).transposed() } else { View::new(x, r, c) }
                    };
                    let (a, b) = (view(&a, rows, depth, flip_a), view(&b, depth, columns, flip_b));
                    let out = product(a, b, Some(&bias));
                    for (i, got) in out.iter().enumerate() {
                        let (row, column) = (i / columns, i % columns);
                        let dot: f64 = (0..depth)
                            .map(|k| f64::from(a.values[a.at(row, k)]) * f64::from(b.values[b.at(k, column)]))
                            .sum();
                        let truth = dot + f64::from(bias[column]);
                        assert!(
                            (f64::from(*got) - truth).abs() < 2e-5 + 2e-6 * truth.abs(),
                            "{rows}x{columns}x{depth} {got} {truth}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_part_of_wider_rows_can_be_a_factor() {
        let wide = values(5 * 12, 4);
        let narrow: Vec<f32> = wide.chunks_exact(12).flat_map(|row| row[4..7].to_vec()).collect();
        let part = View::strided(&wide[4..], 5, 3, 12);
        let whole = View::new(&narrow, 5, 3);
        assert_eq!(product(part, part.transposed(), None), product(whole, whole.transposed(), None));
    }
}
