//! Sixteen f32 lanes: what the weighing of a row is written in, once for every instruction set.
//!
//! Each operation is one IEEE operation a lane, so an implementation has no freedom: [`Plain`],
//! which the compiler lowers to whatever the target has, is the definition, and the others are held
//! to its bits. Implementations are marked inline and called only from functions compiled for their
//! instruction set, which is what makes them single instructions. A closure in between would be a
//! function without that set, a call to each instruction: there is none.

use crate::numerics::PARTS;

/// Lanes of a vector.
pub(super) const LANES: usize = 16;

/// Sixteen f32.
///
/// # Safety
/// Every function requires a CPU with the implementation's instruction set.
pub(super) trait Lanes: Copy {
    /// Thirty-two f64 sums: two vectors of lanes, widened.
    type Parts: Copy;

    unsafe fn load(x: &[f32; LANES]) -> Self;
    unsafe fn store(self, out: &mut [f32; LANES]);
    unsafe fn splat(x: f32) -> Self;
    /// The larger; `other` where either is NaN.
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// `self * a + b`, rounded once.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    /// The bits shifted up by 23: the low nine bits become sign and exponent.
    unsafe fn to_exponent(self) -> Self;
    /// The largest lane.
    unsafe fn largest(self) -> f32;

    unsafe fn no_parts() -> Self::Parts;
    /// Adds lane `i` of `low` to part `i` and lane `i` of `high` to part `16 + i`.
    unsafe fn add(parts: Self::Parts, low: Self, high: Self) -> Self::Parts;
    /// The upper half of the parts added to the lower until one is left.
    unsafe fn total(parts: Self::Parts) -> f64;
}

/// The definition.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; LANES]);

impl Plain {
    #[inline(always)]
    fn map(self, f: impl Fn(usize, f32) -> f32) -> Self {
        let mut out = self.0;
        for (i, x) in out.iter_mut().enumerate() {
            *x = f(i, *x);
        }
        Self(out)
    }
}

impl Lanes for Plain {
    type Parts = [f64; PARTS];

    #[inline(always)]
    unsafe fn load(x: &[f32; LANES]) -> Self {
        Self(*x)
    }
    #[inline(always)]
    unsafe fn store(self, out: &mut [f32; LANES]) {
        *out = self.0;
    }
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; LANES])
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.map(|i, x| if x > other.0[i] { x } else { other.0[i] })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.map(|i, x| x - other.0[i])
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.map(|i, x| x * other.0[i])
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        self.map(|i, x| x.mul_add(a.0[i], b.0[i]))
    }
    #[inline(always)]
    unsafe fn to_exponent(self) -> Self {
        self.map(|_, x| f32::from_bits(x.to_bits() << 23))
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        self.0.into_iter().fold(f32::NEG_INFINITY, |m, x| if x > m { x } else { m })
    }

    #[inline(always)]
    unsafe fn no_parts() -> Self::Parts {
        [0.0; PARTS]
    }
    #[inline(always)]
    unsafe fn add(mut parts: Self::Parts, low: Self, high: Self) -> Self::Parts {
        for i in 0..LANES {
            parts[i] += f64::from(low.0[i]);
            parts[LANES + i] += f64::from(high.0[i]);
        }
        parts
    }
    #[inline(always)]
    unsafe fn total(parts: Self::Parts) -> f64 {
        crate::numerics::halve(parts)
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    #![allow(clippy::wildcard_imports)] // intrinsics
    use super::{LANES, Lanes};
    use std::arch::x86_64::*;

    /// One 512-bit register: AVX-512 F and DQ.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512(__m512);

    // SAFETY, for every block below: the trait's functions require AVX-512 F and DQ; the pointers
    // come from arrays of sixteen f32.
    impl Lanes for Avx512 {
        type Parts = [__m512d; 4];

        #[inline(always)]
        unsafe fn load(x: &[f32; LANES]) -> Self {
            Self(unsafe { _mm512_loadu_ps(x.as_ptr()) })
        }
        #[inline(always)]
        unsafe fn store(self, out: &mut [f32; LANES]) {
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), self.0) }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            Self(unsafe { _mm512_set1_ps(x) })
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            Self(unsafe { _mm512_max_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            Self(unsafe { _mm512_sub_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            Self(unsafe { _mm512_mul_ps(self.0, other.0) })
        }
        #[inline(always)]
        unsafe fn fma(self, a: Self, b: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(self.0, a.0, b.0) })
        }
        #[inline(always)]
        unsafe fn to_exponent(self) -> Self {
            Self(unsafe {
                _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(self.0)))
            })
        }
        #[inline(always)]
        unsafe fn largest(self) -> f32 {
            unsafe { _mm512_reduce_max_ps(self.0) }
        }

        #[inline(always)]
        unsafe fn no_parts() -> Self::Parts {
            [unsafe { _mm512_setzero_pd() }; 4]
        }
        #[inline(always)]
        unsafe fn add([a, b, c, d]: Self::Parts, low: Self, high: Self) -> Self::Parts {
            unsafe {
                let (w, x) = widen512(low.0);
                let (y, z) = widen512(high.0);
                [_mm512_add_pd(a, w), _mm512_add_pd(b, x), _mm512_add_pd(c, y), _mm512_add_pd(d, z)]
            }
        }
        #[inline(always)]
        unsafe fn total([a, b, c, d]: Self::Parts) -> f64 {
            unsafe {
                let x = _mm512_add_pd(_mm512_add_pd(a, c), _mm512_add_pd(b, d));
                let x = _mm256_add_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd::<1>(x));
                last_four(x)
            }
        }
    }

    /// Two 256-bit registers: AVX2 and FMA.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2(__m256, __m256);

    // SAFETY, for every block below: the trait's functions require AVX2 and FMA; the pointers come
    // from arrays of sixteen f32, of which the second half begins at 8.
    impl Lanes for Avx2 {
        type Parts = [__m256d; 8];

        #[inline(always)]
        unsafe fn load(x: &[f32; LANES]) -> Self {
            unsafe { Self(_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))) }
        }
        #[inline(always)]
        unsafe fn store(self, out: &mut [f32; LANES]) {
            unsafe {
                _mm256_storeu_ps(out.as_mut_ptr(), self.0);
                _mm256_storeu_ps(out.as_mut_ptr().add(8), self.1);
            }
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            let x = unsafe { _mm256_set1_ps(x) };
            Self(x, x)
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            unsafe { Self(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            unsafe { Self(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn fma(self, a: Self, b: Self) -> Self {
            unsafe { Self(_mm256_fmadd_ps(self.0, a.0, b.0), _mm256_fmadd_ps(self.1, a.1, b.1)) }
        }
        #[inline(always)]
        unsafe fn to_exponent(self) -> Self {
            unsafe {
                let low = _mm256_slli_epi32::<23>(_mm256_castps_si256(self.0));
                let high = _mm256_slli_epi32::<23>(_mm256_castps_si256(self.1));
                Self(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high))
            }
        }
        #[inline(always)]
        unsafe fn largest(self) -> f32 {
            unsafe {
                let x = _mm256_max_ps(self.0, self.1);
                let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
                let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
                _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
            }
        }

        #[inline(always)]
        unsafe fn no_parts() -> Self::Parts {
            [unsafe { _mm256_setzero_pd() }; 8]
        }
        #[inline(always)]
        unsafe fn add(parts: Self::Parts, low: Self, high: Self) -> Self::Parts {
            unsafe {
                let [a, b, c, d, e, f, g, h] = parts;
                let (s, t) = widen256(low.0);
                let (u, v) = widen256(low.1);
                let (w, x) = widen256(high.0);
                let (y, z) = widen256(high.1);
                [
                    _mm256_add_pd(a, s),
                    _mm256_add_pd(b, t),
                    _mm256_add_pd(c, u),
                    _mm256_add_pd(d, v),
                    _mm256_add_pd(e, w),
                    _mm256_add_pd(f, x),
                    _mm256_add_pd(g, y),
                    _mm256_add_pd(h, z),
                ]
            }
        }
        #[inline(always)]
        unsafe fn total([a, b, c, d, e, f, g, h]: Self::Parts) -> f64 {
            unsafe {
                let (a, b) = (_mm256_add_pd(a, e), _mm256_add_pd(b, f));
                let (c, d) = (_mm256_add_pd(c, g), _mm256_add_pd(d, h));
                last_four(_mm256_add_pd(_mm256_add_pd(a, c), _mm256_add_pd(b, d)))
            }
        }
    }

    /// Lower and upper half in f64.
    ///
    /// # Safety
    /// Requires AVX-512 F and DQ.
    #[inline(always)]
    unsafe fn widen512(x: __m512) -> (__m512d, __m512d) {
        // SAFETY: the caller's promise.
        unsafe {
            let high = _mm512_extractf32x8_ps::<1>(x);
            (_mm512_cvtps_pd(_mm512_castps512_ps256(x)), _mm512_cvtps_pd(high))
        }
    }

    /// Lower and upper half in f64.
    ///
    /// # Safety
    /// Requires AVX.
    #[inline(always)]
    unsafe fn widen256(x: __m256) -> (__m256d, __m256d) {
        // SAFETY: the caller's promise.
        unsafe {
            let high = _mm256_extractf128_ps::<1>(x);
            (_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(high))
        }
    }

    /// The last two halvings.
    ///
    /// # Safety
    /// Requires AVX.
    #[inline(always)]
    unsafe fn last_four(x: __m256d) -> f64 {
        // SAFETY: the caller's promise.
        unsafe {
            let x = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd::<1>(x));
            _mm_cvtsd_f64(_mm_add_sd(x, _mm_unpackhi_pd(x, x)))
        }
    }
}
