//! Normalisation and softmax over rows.

use super::exp::exp;
use super::simd::{Isa, Lanes, WIDTH, dispatch};
use super::threads;
use rayon::prelude::*;
use std::mem::MaybeUninit;

/// Rows handed to a thread at a time.
const ROWS: usize = 16;
/// Below this many values the calling thread does all.
const PARALLEL_WORK: usize = 1 << 15;

/// A root-mean-square norm: a row x becomes x / sqrt(mean(x²) + eps) · weight.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// As wide as a row.
    pub weight: &'a [f32],
    /// Added to the mean square.
    pub eps: f32,
}

/// Normalises each row of `x` [rows, width].
pub fn rms_norm(x: &[f32], norm: Norm<'_>) -> Vec<f32> {
    let width = norm.weight.len();
    assert!(width > 0 && x.len().is_multiple_of(width));
    let isa = Isa::detect();
    let mut out = Vec::<f32>::with_capacity(x.len());
    let rows = |(x, out): (&[f32], &mut [MaybeUninit<f32>])| {
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            // SAFETY: `isa` is available; both rows hold `width` values, as does the weight.
            unsafe { rms_norm_row(isa, x, norm, out.as_mut_ptr().cast()) };
        }
    };
    let target = &mut out.spare_capacity_mut()[..x.len()];
    if x.len() < PARALLEL_WORK || threads::available() == 1 {
        rows((x, target));
    } else {
        x.par_chunks(ROWS * width).zip(target.par_chunks_mut(ROWS * width)).for_each(rows);
    }
    // SAFETY: every row was written.
    unsafe { out.set_len(x.len()) };
    out
}

dispatch! {
    /// One row of [`rms_norm`].
    fn rms_norm_row(x: &[f32], norm: Norm<'_>, out: *mut f32) = rms_norm_kernel
}

/// # Safety
/// `x`, the weight and `out` hold the same number of values.
#[inline(always)]
unsafe fn rms_norm_kernel<L: Lanes>(x: &[f32], norm: Norm<'_>, out: *mut f32) {
    // SAFETY: all accesses stay below the width.
    unsafe {
        let (width, x, weight) = (x.len(), x.as_ptr(), norm.weight.as_ptr());
        let inverse = inverse_root::<L>(x, width, norm.eps);
        let whole = width - width % WIDTH;
        let scale = L::splat(inverse);
        for i in (0..whole).step_by(WIDTH) {
            L::load(x.add(i)).mul(scale).mul(L::load(weight.add(i))).store(out.add(i));
        }
        for i in whole..width {
            *out.add(i) = *x.add(i) * inverse * *weight.add(i);
        }
    }
}

/// 1 / sqrt(mean(x²) + eps).
///
/// # Safety
/// `x` holds `width` values; see [`Lanes`].
#[inline(always)]
pub(super) unsafe fn inverse_root<L: Lanes>(x: *const f32, width: usize, eps: f32) -> f32 {
    // SAFETY: all accesses stay below `width`.
    unsafe {
        let whole = width - width % WIDTH;
        let mut squares = L::splat(0.0);
        for i in (0..whole).step_by(WIDTH) {
            let v = L::load(x.add(i));
            squares = v.fma(v, squares);
        }
        let mut sum = squares.sum();
        for i in whole..width {
            sum += *x.add(i) * *x.add(i);
        }
        1.0 / (sum / width as f32 + eps).sqrt()
    }
}

/// Replaces `x` by exp((x − max) / temperature) in place: a softmax before its division.
///
/// −∞ becomes exactly 0; with a NaN among the values some results are NaN.
pub fn exp_shifted(x: &mut [f32], temperature: f32) {
    // SAFETY: the instruction set is available; the slice is what the kernel walks.
    unsafe { exp_shifted_lanes(Isa::detect(), x, temperature) };
}

dispatch! {
    /// [`exp_shifted`] on one instruction set.
    fn exp_shifted_lanes(x: &mut [f32], temperature: f32) = exp_shifted_kernel
}

#[inline(always)]
unsafe fn exp_shifted_kernel<L: Lanes>(x: &mut [f32], temperature: f32) {
    // SAFETY: whole chunks hold sixteen values; the rest goes through a buffer of sixteen.
    unsafe {
        let divisor = L::splat(temperature);
        let mut largest = L::splat(f32::NEG_INFINITY);
        let mut chunks = x.chunks_exact_mut(WIDTH);
        for chunk in &mut chunks {
            // Divided first, as the reference does: the order of equal logits must not depend on rounding.
            let scaled = L::load(chunk.as_ptr()).div(divisor);
            scaled.store(chunk.as_mut_ptr());
            largest = largest.max(scaled);
        }
        let rest = chunks.into_remainder();
        let mut lanes = [f32::NEG_INFINITY; WIDTH];
        lanes[..rest.len()].copy_from_slice(rest);
        let last = L::load(lanes.as_ptr()).div(divisor);
        let shift = L::splat(largest.max(last).largest());
        exp(last.sub(shift)).store(lanes.as_mut_ptr());
        rest.copy_from_slice(&lanes[..rest.len()]);
        for chunk in x.chunks_exact_mut(WIDTH) {
            exp(L::load(chunk.as_ptr()).sub(shift)).store(chunk.as_mut_ptr());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rms_norm_matches_its_formula() {
        for width in [1, 15, 16, 48, 52, 833] {
            let x: Vec<f32> = (0..2 * width).map(|i| ((i * 37 % 101) as f32 - 50.0) / 13.0).collect();
            let weight: Vec<f32> = (0..width).map(|i| 0.5 + i as f32 / 100.0).collect();
            let y = rms_norm(&x, Norm { weight: &weight, eps: 1e-5 });
            for (row, (x, y)) in x.chunks(width).zip(y.chunks(width)).enumerate() {
                let mean = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / width as f64;
                for i in 0..width {
                    let truth = f64::from(x[i]) / (mean + 1e-5).sqrt() * f64::from(weight[i]);
                    assert!((f64::from(y[i]) - truth).abs() < 1e-5, "width {width}, row {row}");
                }
            }
        }
    }

    #[test]
    fn shifted_exponentials_match_their_formula() {
        for n in [1, 4, 16, 37, 1024] {
            let x: Vec<f32> = (0..n).map(|i| ((i * 37 % 101) as f32 - 50.0) / 13.0).collect();
            let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut y = x.clone();
            exp_shifted(&mut y, 2.0);
            for (x, y) in x.iter().zip(y) {
                assert!((f64::from(y) - ((f64::from(*x) - f64::from(largest)) / 2.0).exp()).abs() < 1e-6);
            }
        }
        let mut masked = [1.0, f32::NEG_INFINITY, 3.0];
        exp_shifted(&mut masked, 1.0);
        assert_eq!(masked[1..], [0.0, 1.0]);
    }
}
