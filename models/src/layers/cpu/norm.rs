//! Normalisation and softmax over rows.

use super::exp::exp;
use super::simd::{Isa, Lanes, WIDTH, dispatch};

/// Scales each row of `x` [rows, width] by 1 / sqrt(mean(x²) + eps) and by `weight` [width].
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let width = weight.len();
    assert!(width > 0 && x.len().is_multiple_of(width));
    let mut out = Vec::<f32>::with_capacity(x.len());
    let isa = Isa::detect();
    for row in 0..x.len() / width {
        // SAFETY: `isa` is available; row `row` of x and of out holds `width` values, as does weight.
        unsafe {
            rms_norm_row(isa, x[row * width..].as_ptr(), weight.as_ptr(), out.as_mut_ptr().add(row * width), width, eps);
        }
    }
    // SAFETY: every row was written.
    unsafe { out.set_len(x.len()) };
    out
}

dispatch! {
    /// One row of [`rms_norm`].
    fn rms_norm_row(x: *const f32, weight: *const f32, out: *mut f32, width: usize, eps: f32) = rms_norm_kernel
}

/// # Safety
/// `x`, `weight` and `out` hold `width` values.
#[inline(always)]
unsafe fn rms_norm_kernel<L: Lanes>(x: *const f32, weight: *const f32, out: *mut f32, width: usize, eps: f32) {
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
        let inverse = 1.0 / (sum / width as f32 + eps).sqrt();
        let scale = L::splat(inverse);
        for i in (0..whole).step_by(WIDTH) {
            L::load(x.add(i)).mul(scale).mul(L::load(weight.add(i))).store(out.add(i));
        }
        for i in whole..width {
            *out.add(i) = *x.add(i) * inverse * *weight.add(i);
        }
    }
}

/// Replaces `x` by exp(x / temperature − max) in place and returns their sum in f64: a softmax before its division.
///
/// −∞ becomes exactly 0.
pub fn exp_shifted(x: &mut [f32], temperature: f32) -> f64 {
    let mut largest = f32::NEG_INFINITY;
    for v in x.iter_mut() {
        *v /= temperature;
        largest = largest.max(*v);
    }
    // SAFETY: the instruction set is available; the slice is what the kernel walks.
    unsafe { exp_minus(Isa::detect(), x, largest) };
    x.iter().map(|&v| f64::from(v)).sum()
}

dispatch! {
    /// x ← exp(x − shift).
    fn exp_minus(x: &mut [f32], shift: f32) = exp_minus_kernel
}

#[inline(always)]
unsafe fn exp_minus_kernel<L: Lanes>(x: &mut [f32], shift: f32) {
    // SAFETY: whole chunks hold sixteen values; the rest goes through a buffer of sixteen.
    unsafe {
        let shift = L::splat(shift);
        let mut chunks = x.chunks_exact_mut(WIDTH);
        for chunk in &mut chunks {
            exp(L::load(chunk.as_ptr()).sub(shift)).store(chunk.as_mut_ptr());
        }
        let rest = chunks.into_remainder();
        let mut lanes = [0f32; WIDTH];
        lanes[..rest.len()].copy_from_slice(rest);
        exp(L::load(lanes.as_ptr()).sub(shift)).store(lanes.as_mut_ptr());
        rest.copy_from_slice(&lanes[..rest.len()]);
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
            let y = rms_norm(&x, &weight, 1e-5);
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
    fn shifted_exponentials_sum_to_the_softmax_denominator() {
        let mut x = vec![1.0, f32::NEG_INFINITY, 3.0, 2.0];
        let sum = exp_shifted(&mut x, 2.0);
        assert_eq!(x[1], 0.0);
        assert_eq!(x[2], 1.0);
        assert!((sum - ((-1.0f64).exp() + 1.0 + (-0.5f64).exp())).abs() < 1e-6);
    }
}
