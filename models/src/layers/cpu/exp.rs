//! The exponential on sixteen lanes, and what is built of it.

use super::simd::Lanes;

/// Below this the result would be denormal; it is 0, so that a masked score of −∞ weighs exactly nothing.
const UNDERFLOW: f32 = -87.336_55;
/// Above this the result would overflow; it saturates at e^88.
const OVERFLOW: f32 = 88.0;

/// e^x with a relative error below 2e-7 (about 1.5 units in the last place).
///
/// Range reduction to |r| ≤ ln 2 / 2 with ln 2 split in two parts (Cody and Waite), then the degree-6 minimax
/// polynomial of Cephes `expf`.
///
/// # Safety
/// See [`Lanes`].
#[inline(always)]
pub unsafe fn exp<L: Lanes>(x: L) -> L {
    // SAFETY: the caller runs on the instruction set of `L`; no memory is touched.
    unsafe {
        // The bounds first: a comparison with NaN yields the second operand, and NaN must come through.
        let clamped = L::splat(OVERFLOW).min(L::splat(UNDERFLOW).max(x));
        let n = clamped.mul(L::splat(std::f32::consts::LOG2_E)).round();
        let r = n.fma(L::splat(-0.693_359_4), clamped);
        let r = n.fma(L::splat(2.121_944_4e-4), r);
        let p = L::splat(1.987_569_1e-4);
        let p = p.fma(r, L::splat(1.398_199_9e-3));
        let p = p.fma(r, L::splat(8.333_452e-3));
        let p = p.fma(r, L::splat(4.166_579_6e-2));
        let p = p.fma(r, L::splat(1.666_666_5e-1));
        let p = p.fma(r, L::splat(0.5));
        let p = p.fma(r.mul(r), r.add(L::splat(1.0)));
        x.zero_if_less(L::splat(UNDERFLOW), p.mul(n.exp2_integral()))
    }
}

/// 1 / (1 + e^−x).
///
/// # Safety
/// See [`Lanes`].
#[inline(always)]
pub unsafe fn sigmoid<L: Lanes>(x: L) -> L {
    // SAFETY: as for `exp`.
    unsafe {
        let e = exp(L::splat(0.0).sub(x));
        L::splat(1.0).div(e.add(L::splat(1.0)))
    }
}

/// x · sigmoid(x).
///
/// # Safety
/// See [`Lanes`].
#[inline(always)]
pub unsafe fn silu<L: Lanes>(x: L) -> L {
    // SAFETY: as for `exp`.
    unsafe {
        let e = exp(L::splat(0.0).sub(x));
        x.div(e.add(L::splat(1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Isa, WIDTH, dispatch};
    use super::*;

    unsafe fn exp_kernel<L: Lanes>(x: &[f32; WIDTH], y: &mut [f32; WIDTH]) {
        // SAFETY: both arrays hold sixteen values.
        unsafe { exp::<L>(L::load(x.as_ptr())).store(y.as_mut_ptr()) }
    }
    dispatch! {
        /// Test entry.
        fn exp_lanes(x: &[f32; WIDTH], y: &mut [f32; WIDTH]) = exp_kernel
    }

    fn exp_of(isa: Isa, x: [f32; WIDTH]) -> [f32; WIDTH] {
        let mut y = [0.0; WIDTH];
        // SAFETY: `isa` is available.
        unsafe { exp_lanes(isa, &x, &mut y) };
        y
    }

    #[test]
    fn exp_agrees_with_f64_and_between_instruction_sets() {
        let mut worst = 0f64;
        for i in 0..20_000 {
            let x: [f32; WIDTH] =
                std::array::from_fn(|j| -87.0 + 175.0 * (i * WIDTH + j) as f32 / (20_000.0 * 16.0));
            let y = exp_of(Isa::Portable, x);
            for isa in Isa::available() {
                assert_eq!(exp_of(isa, x).map(f32::to_bits), y.map(f32::to_bits), "{isa:?}");
            }
            for (x, y) in x.iter().zip(y) {
                let truth = f64::from(*x).exp();
                worst = worst.max((f64::from(y) - truth).abs() / truth);
            }
        }
        assert!(worst < 2e-7, "relative error {worst:e}");
    }

    #[test]
    fn exp_at_the_edges() {
        let mut x = [0.0; WIDTH];
        x[..5].copy_from_slice(&[f32::NEG_INFINITY, -1000.0, 0.0, 1000.0, f32::NAN]);
        for isa in Isa::available() {
            let y = exp_of(isa, x);
            assert_eq!(y[..3], [0.0, 0.0, 1.0]);
            assert!(y[3].is_finite() && y[3] > 1e38);
            assert!(y[4].is_nan());
        }
    }
}
