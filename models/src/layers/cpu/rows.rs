//! Rows on their way into a product: normalised where asked, and laid out as the kernel reads them.

use super::norm::{Norm, inverse_root};
use super::simd::{Isa, Lanes, WIDTH, dispatch};
use std::ops::Range;

/// Rows per micro-kernel: 28 accumulators, 2 weights and 1 broadcast fill the 32 registers of AVX-512.
pub(super) const MAX_ROWS: usize = 14;

/// First row of a group when `rows` rows are cut into the fewest groups of equal size, give or take a row: a small last
/// group would leave most of the kernel's registers idle.
pub(super) fn group_start(group: usize, rows: usize) -> usize {
    group * rows / rows.div_ceil(MAX_ROWS).max(1)
}

/// The rows of a product.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// [rows, depth].
    pub values: &'a [f32],
    /// What each row goes through first.
    pub norm: Option<Norm<'a>>,
}

impl<'a> From<&'a [f32]> for Rows<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self { values, norm: None }
    }
}

impl Rows<'_> {
    /// The rows of `groups` out of `rows` rows, depth-major inside a group, so that the kernel reads one contiguous
    /// stream: rows a power of two apart would all fall into the same cache set.
    pub(super) fn pack(&self, isa: Isa, rows: usize, depth: usize, groups: Range<usize>) -> Vec<f32> {
        let (first, last) = (group_start(groups.start, rows), group_start(groups.end, rows));
        let mut packed = Vec::<f32>::with_capacity((last - first) * depth);
        for group in groups {
            let (from, to) = (group_start(group, rows), group_start(group + 1, rows));
            let source = &self.values[from * depth..to * depth];
            // SAFETY: `isa` is available; a group has at most MAX_ROWS rows, and `packed` has room for all of them
            // from (from − first) · depth on.
            unsafe {
                let out = packed.as_mut_ptr().add((from - first) * depth);
                pack_group(isa, source, to - from, depth, self.norm, out);
            }
        }
        // SAFETY: the groups cover every row between `first` and `last`.
        unsafe { packed.set_len((last - first) * depth) };
        packed
    }
}

dispatch! {
    /// Writes `rows` rows of `source` depth-major at `out`.
    fn pack_group(source: &[f32], rows: usize, depth: usize, norm: Option<Norm<'_>>, out: *mut f32) = pack_group_kernel
}

/// # Safety
/// `source` holds rows · depth values and `out` has room for as many; rows ≤ MAX_ROWS; a norm has `depth` weights.
#[inline(always)]
unsafe fn pack_group_kernel<L: Lanes>(
    source: &[f32],
    rows: usize,
    depth: usize,
    norm: Option<Norm<'_>>,
    out: *mut f32,
) {
    assert!(rows <= MAX_ROWS && source.len() == rows * depth);
    assert!(norm.is_none_or(|norm| norm.weight.len() == depth));
    // SAFETY: reads stay below rows · depth of `source` and `depth` of the weights; writes below rows · depth of `out`.
    unsafe {
        let x = source.as_ptr();
        let mut inverse = [1f32; MAX_ROWS];
        if let Some(norm) = norm {
            for (row, inverse) in inverse.iter_mut().enumerate().take(rows) {
                *inverse = inverse_root::<L>(x.add(row * depth), depth, norm.eps);
            }
        }
        let whole = depth - depth % WIDTH;
        for first in (0..whole).step_by(WIDTH) {
            let mut block = [L::splat(0.0); WIDTH];
            for (row, lanes) in block.iter_mut().enumerate().take(rows) {
                let value = L::load(x.add(row * depth + first));
                *lanes = match norm {
                    Some(norm) => {
                        value.mul(L::splat(inverse[row])).mul(L::load(norm.weight.as_ptr().add(first)))
                    }
                    None => value,
                };
            }
            for (k, column) in L::transpose(block).into_iter().enumerate() {
                let at = (first + k) * rows;
                if at + WIDTH <= rows * depth {
                    // Beyond this column lies what the next one overwrites.
                    column.store(out.add(at));
                } else {
                    let mut lanes = [0f32; WIDTH];
                    column.store(lanes.as_mut_ptr());
                    std::ptr::copy_nonoverlapping(lanes.as_ptr(), out.add(at), rows);
                }
            }
        }
        for k in whole..depth {
            for (row, inverse) in inverse.iter().enumerate().take(rows) {
                let value = *x.add(row * depth + k);
                *out.add(k * rows + row) = norm.map_or(value, |norm| value * inverse * norm.weight[k]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::norm::rms_norm;
    use super::*;

    #[test]
    fn every_row_arrives_once_and_normalised_on_every_instruction_set() {
        for (rows, depth) in [(1usize, 5usize), (1, 48), (3, 16), (14, 33), (29, 64), (57, 40)] {
            let x: Vec<f32> = (0..rows * depth).map(|i| ((i * 37 % 101) as f32 - 50.0) / 13.0).collect();
            let weight: Vec<f32> = (0..depth).map(|i| 0.5 + i as f32 / 100.0).collect();
            let groups = rows.div_ceil(MAX_ROWS);
            for norm in [None, Some(Norm { weight: &weight, eps: 1e-5 })] {
                let plain = norm.map_or_else(|| x.clone(), |norm| rms_norm(&x, norm));
                for isa in Isa::available() {
                    let packed = Rows { values: &x, norm }.pack(isa, rows, depth, 0..groups);
                    for group in 0..groups {
                        let (from, to) = (group_start(group, rows), group_start(group + 1, rows));
                        for (row, k) in (from..to).flat_map(|row| (0..depth).map(move |k| (row, k))) {
                            let got = packed[from * depth + k * (to - from) + row - from];
                            assert_eq!(got, plain[row * depth + k], "{isa:?} {rows}x{depth}: {row}, {k}");
                        }
                    }
                }
            }
        }
    }
}
