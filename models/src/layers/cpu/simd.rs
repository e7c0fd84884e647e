//! Sixteen f32 lanes, one interface for AVX-512, AVX2 and everything else.
//!
//! Every kernel of this folder is written once against [`Lanes`] and instantiated per instruction set. All three
//! implementations perform the same IEEE operations on the same sixteen lanes (fused multiply-add included), so a
//! forecast is bitwise the same whichever one the machine picks. Horizontal sums use one fixed tree for the same
//! reason.

/// Lanes per vector; also the number of positions in a block of the key cache.
pub const WIDTH: usize = 16;

/// Sixteen f32 values in registers.
///
/// # Safety
/// The methods of an implementation may only be called where its instruction set is available; [`dispatch`] is the one
/// place that decides. Pointers must be valid for sixteen values; no alignment is needed.
#[allow(clippy::missing_safety_doc)]
pub trait Lanes: Copy {
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(p: *const f32) -> Self;
    unsafe fn store(self, p: *mut f32);
    /// Asks for the cache line of `p`, which may be anywhere, ahead of its use.
    unsafe fn prefetch(p: *const f32);
    /// `self * a + b`, rounded once.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    unsafe fn add(self, a: Self) -> Self;
    unsafe fn sub(self, a: Self) -> Self;
    unsafe fn mul(self, a: Self) -> Self;
    unsafe fn div(self, a: Self) -> Self;
    unsafe fn max(self, a: Self) -> Self;
    unsafe fn min(self, a: Self) -> Self;
    /// Nearest integer, ties to even.
    unsafe fn round(self) -> Self;
    /// 2 to the power of an integral value in [-126, 127].
    unsafe fn exp2_integral(self) -> Self;
    /// Lane-wise `self < a ? 0 : b`.
    unsafe fn zero_if_less(self, a: Self, b: Self) -> Self;

    /// Lane j of vector i becomes lane i of vector j.
    #[inline(always)]
    unsafe fn transpose(rows: [Self; WIDTH]) -> [Self; WIDTH] {
        let mut values = [[0f32; WIDTH]; WIDTH];
        // SAFETY: every row of `values` holds sixteen values.
        unsafe {
            for (row, values) in rows.into_iter().zip(&mut values) {
                row.store(values.as_mut_ptr());
            }
            std::array::from_fn(|j| {
                let column: [f32; WIDTH] = std::array::from_fn(|i| values[i][j]);
                Self::load(column.as_ptr())
            })
        }
    }

    /// Sum of all lanes in one fixed order: ((0+8)+(4+12)) + … as a binary tree over halves.
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let mut v = [0f32; WIDTH];
        // SAFETY: `v` holds sixteen values.
        unsafe { self.store(v.as_mut_ptr()) };
        let mut half = WIDTH / 2;
        while half > 0 {
            for i in 0..half {
                v[i] += v[i + half];
            }
            half /= 2;
        }
        v[0]
    }

    /// Largest lane.
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        let mut v = [0f32; WIDTH];
        // SAFETY: `v` holds sixteen values.
        unsafe { self.store(v.as_mut_ptr()) };
        v.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }
}

/// The instruction set chosen for this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

impl Isa {
    /// The best instruction set this machine has.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            // Cached by the standard library: an atomic load per feature.
            if is_x86_feature_detected!("avx512f") {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                return Self::Avx2;
            }
        }
        Self::Portable
    }

    /// All instruction sets this machine can run, for tests that compare them.
    #[cfg(test)]
    pub fn available() -> Vec<Self> {
        let mut all = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(Self::Avx2);
            }
            if is_x86_feature_detected!("avx512f") {
                all.push(Self::Avx512);
            }
        }
        all
    }
}

/// Defines `$name(isa, args…)`, which runs the generic kernel `$kernel::<L>(args…)` compiled for `isa`.
macro_rules! dispatch {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $kernel:ident) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As for the generic kernel; `isa` must come from `Isa::detect` or be known to be available.
        #[allow(clippy::too_many_arguments)]
        unsafe fn $name(isa: $crate::layers::cpu::simd::Isa, $($arg: $ty),*) {
            use $crate::layers::cpu::simd::{self, Isa};
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512($($arg: $ty),*) {
                // SAFETY: the caller vouches for the arguments, the attribute for the instructions.
                unsafe { $kernel::<simd::Avx512>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx2($($arg: $ty),*) {
                // SAFETY: as above.
                unsafe { $kernel::<simd::Avx2>($($arg),*) }
            }
            // SAFETY: `isa` is available on this machine.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => avx512($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => avx2($($arg),*),
                    Isa::Portable => $kernel::<simd::Portable>($($arg),*),
                }
            }
        }
    };
}
pub(super) use dispatch;

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use core::arch::x86_64::*;

    #[derive(Clone, Copy)]
    pub struct Avx512(__m512);

    #[expect(
        clippy::undocumented_unsafe_blocks,
        reason = "one reason for all: callers run under `target_feature(enable = \"avx512f\")`, see the trait"
    )]
    #[rustfmt::skip]
    impl Lanes for Avx512 {
        #[inline(always)] unsafe fn splat(x: f32) -> Self { unsafe { Self(_mm512_set1_ps(x)) } }
        #[inline(always)] unsafe fn load(p: *const f32) -> Self { unsafe { Self(_mm512_loadu_ps(p)) } }
        #[inline(always)] unsafe fn store(self, p: *mut f32) { unsafe { _mm512_storeu_ps(p, self.0) } }
        #[inline(always)] unsafe fn prefetch(p: *const f32) { unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) } }
        #[inline(always)] unsafe fn fma(self, a: Self, b: Self) -> Self { unsafe { Self(_mm512_fmadd_ps(self.0, a.0, b.0)) } }
        #[inline(always)] unsafe fn add(self, a: Self) -> Self { unsafe { Self(_mm512_add_ps(self.0, a.0)) } }
        #[inline(always)] unsafe fn sub(self, a: Self) -> Self { unsafe { Self(_mm512_sub_ps(self.0, a.0)) } }
        #[inline(always)] unsafe fn mul(self, a: Self) -> Self { unsafe { Self(_mm512_mul_ps(self.0, a.0)) } }
        #[inline(always)] unsafe fn div(self, a: Self) -> Self { unsafe { Self(_mm512_div_ps(self.0, a.0)) } }
        #[inline(always)] unsafe fn max(self, a: Self) -> Self { unsafe { Self(_mm512_max_ps(self.0, a.0)) } }
        #[inline(always)] unsafe fn min(self, a: Self) -> Self { unsafe { Self(_mm512_min_ps(self.0, a.0)) } }
        #[inline(always)] unsafe fn round(self) -> Self {
            unsafe { Self(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)) }
        }
        #[inline(always)] unsafe fn exp2_integral(self) -> Self {
            unsafe {
                let n = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
                Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(n)))
            }
        }
        #[inline(always)] unsafe fn transpose(rows: [Self; super::WIDTH]) -> [Self; super::WIDTH] {
            unsafe {
                // Single values within quarters, then pairs within quarters, then the quarters themselves.
                let mut a = [_mm512_setzero_ps(); 16];
                for i in 0..8 {
                    a[2 * i] = _mm512_unpacklo_ps(rows[2 * i].0, rows[2 * i + 1].0);
                    a[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i].0, rows[2 * i + 1].0);
                }
                let pair = |low: bool, x, y| {
                    let (x, y) = (_mm512_castps_pd(x), _mm512_castps_pd(y));
                    _mm512_castpd_ps(if low { _mm512_unpacklo_pd(x, y) } else { _mm512_unpackhi_pd(x, y) })
                };
                // b[4g + c]: column c of every quarter, rows 4g to 4g + 3.
                let mut b = [_mm512_setzero_ps(); 16];
                for g in 0..4 {
                    b[4 * g] = pair(true, a[4 * g], a[4 * g + 2]);
                    b[4 * g + 1] = pair(false, a[4 * g], a[4 * g + 2]);
                    b[4 * g + 2] = pair(true, a[4 * g + 1], a[4 * g + 3]);
                    b[4 * g + 3] = pair(false, a[4 * g + 1], a[4 * g + 3]);
                }
                let mut out = [Self(_mm512_setzero_ps()); 16];
                for c in 0..4 {
                    let even = _mm512_shuffle_f32x4::<0x88>(b[c], b[4 + c]);
                    let odd = _mm512_shuffle_f32x4::<0xdd>(b[c], b[4 + c]);
                    let even_below = _mm512_shuffle_f32x4::<0x88>(b[8 + c], b[12 + c]);
                    let odd_below = _mm512_shuffle_f32x4::<0xdd>(b[8 + c], b[12 + c]);
                    out[c] = Self(_mm512_shuffle_f32x4::<0x88>(even, even_below));
                    out[4 + c] = Self(_mm512_shuffle_f32x4::<0x88>(odd, odd_below));
                    out[8 + c] = Self(_mm512_shuffle_f32x4::<0xdd>(even, even_below));
                    out[12 + c] = Self(_mm512_shuffle_f32x4::<0xdd>(odd, odd_below));
                }
                out
            }
        }
        #[inline(always)] unsafe fn zero_if_less(self, a: Self, b: Self) -> Self {
            unsafe { Self(_mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(self.0, a.0), b.0)) }
        }
    }

    #[derive(Clone, Copy)]
    pub struct Avx2(__m256, __m256);

    /// Applies a two-operand intrinsic to both halves.
    macro_rules! both {
        ($f:ident, $a:expr, $b:expr) => {
            Avx2($f($a.0, $b.0), $f($a.1, $b.1))
        };
    }

    #[expect(
        clippy::undocumented_unsafe_blocks,
        reason = "one reason for all: callers run under `target_feature(enable = \"avx2,fma\")`, see the trait"
    )]
    #[rustfmt::skip]
    impl Lanes for Avx2 {
        #[inline(always)] unsafe fn splat(x: f32) -> Self { unsafe { Self(_mm256_set1_ps(x), _mm256_set1_ps(x)) } }
        #[inline(always)] unsafe fn load(p: *const f32) -> Self { unsafe { Self(_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))) } }
        #[inline(always)] unsafe fn store(self, p: *mut f32) { unsafe { _mm256_storeu_ps(p, self.0); _mm256_storeu_ps(p.add(8), self.1) } }
        #[inline(always)] unsafe fn prefetch(p: *const f32) { unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) } }
        #[inline(always)] unsafe fn fma(self, a: Self, b: Self) -> Self {
            unsafe { Self(_mm256_fmadd_ps(self.0, a.0, b.0), _mm256_fmadd_ps(self.1, a.1, b.1)) }
        }
        #[inline(always)] unsafe fn add(self, a: Self) -> Self { unsafe { both!(_mm256_add_ps, self, a) } }
        #[inline(always)] unsafe fn sub(self, a: Self) -> Self { unsafe { both!(_mm256_sub_ps, self, a) } }
        #[inline(always)] unsafe fn mul(self, a: Self) -> Self { unsafe { both!(_mm256_mul_ps, self, a) } }
        #[inline(always)] unsafe fn div(self, a: Self) -> Self { unsafe { both!(_mm256_div_ps, self, a) } }
        #[inline(always)] unsafe fn max(self, a: Self) -> Self { unsafe { both!(_mm256_max_ps, self, a) } }
        #[inline(always)] unsafe fn min(self, a: Self) -> Self { unsafe { both!(_mm256_min_ps, self, a) } }
        #[inline(always)] unsafe fn round(self) -> Self {
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            unsafe { Self(_mm256_round_ps::<NEAREST>(self.0), _mm256_round_ps::<NEAREST>(self.1)) }
        }
        #[inline(always)] unsafe fn exp2_integral(self) -> Self {
            unsafe {
                let half = |x| {
                    let n = _mm256_add_epi32(_mm256_cvtps_epi32(x), _mm256_set1_epi32(127));
                    _mm256_castsi256_ps(_mm256_slli_epi32::<23>(n))
                };
                Self(half(self.0), half(self.1))
            }
        }
        #[inline(always)] unsafe fn zero_if_less(self, a: Self, b: Self) -> Self {
            unsafe {
                let half = |x, y, z| _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(x, y), z);
                Self(half(self.0, a.0, b.0), half(self.1, a.1, b.1))
            }
        }
    }
}

/// Plain arrays; the compiler vectorises them where the target has vectors (NEON by default on 64-bit Arm).
#[derive(Clone, Copy)]
pub struct Portable([f32; WIDTH]);

impl Portable {
    #[inline(always)]
    fn zip(self, a: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], a.0[i])))
    }
}

#[expect(
    clippy::undocumented_unsafe_blocks,
    reason = "one reason for all: plain arithmetic; `load` and `store` rely on the trait's pointer contract"
)]
#[rustfmt::skip]
impl Lanes for Portable {
    #[inline(always)] unsafe fn splat(x: f32) -> Self { Self([x; WIDTH]) }
    #[inline(always)] unsafe fn load(p: *const f32) -> Self { unsafe { Self(p.cast::<[f32; WIDTH]>().read_unaligned()) } }
    #[inline(always)] unsafe fn store(self, p: *mut f32) { unsafe { p.cast::<[f32; WIDTH]>().write_unaligned(self.0) } }
    #[inline(always)] unsafe fn prefetch(_: *const f32) {}
    #[inline(always)] unsafe fn fma(self, a: Self, b: Self) -> Self { Self(std::array::from_fn(|i| self.0[i].mul_add(a.0[i], b.0[i]))) }
    #[inline(always)] unsafe fn add(self, a: Self) -> Self { self.zip(a, |x, y| x + y) }
    #[inline(always)] unsafe fn sub(self, a: Self) -> Self { self.zip(a, |x, y| x - y) }
    #[inline(always)] unsafe fn mul(self, a: Self) -> Self { self.zip(a, |x, y| x * y) }
    #[inline(always)] unsafe fn div(self, a: Self) -> Self { self.zip(a, |x, y| x / y) }
    // Written as the x86 instructions behave: the second operand when either is NaN.
    #[inline(always)] unsafe fn max(self, a: Self) -> Self { self.zip(a, |x, y| if x > y { x } else { y }) }
    #[inline(always)] unsafe fn min(self, a: Self) -> Self { self.zip(a, |x, y| if x < y { x } else { y }) }
    #[inline(always)] unsafe fn round(self) -> Self { Self(self.0.map(f32::round_ties_even)) }
    #[inline(always)] unsafe fn exp2_integral(self) -> Self { Self(self.0.map(|n| f32::from_bits(((n as i32).wrapping_add(127) as u32) << 23))) }
    #[inline(always)] unsafe fn zero_if_less(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|i| if self.0[i] < a.0[i] { 0.0 } else { b.0[i] }))
    }
}
