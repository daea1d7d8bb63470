//! Arithmetic whose result is fixed: no libm, no fused operation that is not written, ties to the
//! lowest token id.
//!
//! `exp` and the race noise are polynomials over plain f32 operations, so every build of this
//! library (and the CUDA kernels, which write the same operations) gives the same bits.

use crate::ids::TokenId;

/// e^x for `x <= 0`, in f32, within 2 units in the last place; 0 below -87.
///
/// Cody-Waite reduction by ln 2 and a polynomial of degree 6; branch-free, so the compiler
/// vectorises loops over it. `-inf` gives 0. Values above 0 are outside the contract.
#[inline(always)] // into the copies of `simd`
#[allow(clippy::inline_always)]
pub fn exp_neg(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to the nearest integer
    let y = if x > -88.0 { x } else { -88.0 };
    let shifted = y * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = (y - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let p = 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    // The low bits of `shifted` are n: no conversion to an integer is needed.
    let scale = f32::from_bits(shifted.to_bits().wrapping_sub(MAGIC.to_bits() - 127) << 23);
    if x < -87.0 { 0.0 } else { p * scale }
}

/// ln x for a positive normal f32, within 2 units in the last place away from 1.
///
/// `x = 2^e f` with `f` in `[sqrt(1/2), sqrt(2))`; `ln f = 2 atanh(s)`, `s = (f - 1) / (f + 1)`.
#[inline]
pub fn ln_positive(x: f32) -> f32 {
    const SQRT_HALF_BITS: u32 = 0x3f35_04f3;
    let bits = x.to_bits().wrapping_sub(SQRT_HALF_BITS);
    let e = (bits as i32) >> 23;
    let f = f32::from_bits((bits & 0x007f_ffff).wrapping_add(SQRT_HALF_BITS));
    let s = (f - 1.0) / (f + 1.0);
    let lnf = atanh2(s);
    let e = e as f32;
    e * -2.121_944_4e-4 + lnf + e * 0.693_359_4
}

/// 2 atanh(s) for |s| <= 1/3: the odd series to s^13.
#[inline]
fn atanh2(s: f32) -> f32 {
    let w = s * s;
    let p = 2.0 / 13.0;
    let p = p * w + 2.0 / 11.0;
    let p = p * w + 2.0 / 9.0;
    let p = p * w + 2.0 / 7.0;
    let p = p * w + 2.0 / 5.0;
    let p = p * w + 2.0 / 3.0;
    s * (w * p) + 2.0 * s
}

/// Gumbel noise of a race word: `-ln(-ln u)` with `u = (word + 0.5) 2^-32`, as f32.
///
/// The one map from integers to keys: Rust, the kernels and their CPU shim write these operations
/// in this order. `-ln u` is taken from whichever of `u` and `1 - u` is below one half, so that
/// neither end loses digits; the range is [-3.14, 22.88].
#[inline]
pub fn gumbel(word: u32) -> f32 {
    // u = m 2^-33 with m odd; 1 - u = c 2^-33 with c = 2^33 - m, odd too. Both products are exact
    // after the rounding of the integer to f32.
    const SCALE: f32 = 1.0 / 8_589_934_592.0;
    let e = if word < 1 << 31 {
        -ln_positive((2 * word + 1) as f32 * SCALE)
    } else {
        let x = (2 * (u32::MAX - word) + 1) as f32 * SCALE;
        atanh2(x / (2.0 - x))
    };
    -ln_positive(e)
}

/// Index of the largest value, lowest index on ties; `None` when empty or all `-inf`.
pub fn argmax(values: &[f32]) -> Option<TokenId> {
    let mut best = (f32::NEG_INFINITY, None);
    for (i, &x) in values.iter().enumerate() {
        if x > best.0 {
            best = (x, Some(i as TokenId));
        }
    }
    best.1
}

/// ln of the sum of exponentials, in f64; `-inf` when empty or all `-inf`.
pub fn log_sum_exp(values: &[f32]) -> f64 {
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if max == f32::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    f64::from(max) + sum_exp(values, max).ln()
}

/// Σ weight(v - max) in f64: [`block_sum`] of every block, blocks in order.
pub fn sum_exp(values: &[f32], max: f32) -> f64 {
    crate::simd::sum_weights(values, max)
}

/// Tokens a partial sum covers. Frozen: the draws depend on the order of summation.
pub const BLOCK: usize = 256;

/// Partial sums of a block or a row: token `i` goes to sum `i % 32`. Frozen, as [`BLOCK`] is.
pub const PARTS: usize = 32;

/// Distances below this weigh nothing.
pub(crate) const WEIGHT_FLOOR: f32 = -88.0;

/// 1.5 * 2^23, which rounds what it is added to to an integer, plus the bias of f32 exponents: the
/// low bits of the sum are the exponent of the result.
pub(crate) const MAGIC: f32 = 12_582_912.0 + 127.0;

/// e^r for |r| <= ln 2 / 2, highest power first: minimax for the relative error (1.1e-7) with the
/// two lowest coefficients held at 1, so that e^0 is exactly 1.
pub(crate) const EXP: [f32; 6] =
    [0.008_312_467, 0.041_890_65, 0.166_671_17, 0.499_992_28, 1.0, 1.0];

/// The weight `e^d` of a token at distance `d <= 0` from a reference: within 4e-7 of it, 0 below
/// -88, NaN for NaN.
///
/// Frozen under `rng = 1`: these operations, each `mul_add` rounded once, are what every build, the
/// CUDA kernels and their CPU shim execute, so a weight has the same bits everywhere. One fused
/// step reduces by ln 2: its error grows by 2e-9 an octave, 2.4e-7 at the far end.
///
/// This scalar form is for definitions and tests: without FMA in the build it calls libm. Rows go
/// through [`crate::simd`].
#[inline]
pub fn weight(d: f32) -> f32 {
    let y = if WEIGHT_FLOOR > d { WEIGHT_FLOOR } else { d };
    let shifted = y.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = n.mul_add(-std::f32::consts::LN_2, y);
    let p = EXP[1..].iter().fold(EXP[0], |p, &c| p.mul_add(r, c));
    p * f32::from_bits(shifted.to_bits() << 23)
}

/// Σ weight(v - reference) of one block, by the definition: token `i` goes to partial sum `i % 32`,
/// then the upper half of the sums is added to the lower until one is left.
pub fn block_sum(block: &[f32], reference: f32) -> f64 {
    let reference = if reference == f32::NEG_INFINITY { 0.0 } else { reference };
    let mut parts = [0f64; PARTS];
    for (i, &x) in block.iter().enumerate() {
        parts[i % PARTS] += f64::from(weight(x - reference));
    }
    halve(parts)
}

/// The upper half added to the lower until one is left: the order that registers add in.
#[inline(always)] // into the copies of `simd`
#[allow(clippy::inline_always)]
pub fn halve(mut parts: [f64; PARTS]) -> f64 {
    let mut n = PARTS / 2;
    while n > 0 {
        for i in 0..n {
            parts[i] += parts[n + i];
        }
        n /= 2;
    }
    parts[0]
}

/// The `k` largest values' indices, best first, lowest index on ties; `-inf` never enters.
///
/// O(n) while few values beat the k-th best so far. `out` is overwritten and may be shorter.
pub fn top_k(values: &[f32], k: usize, out: &mut Vec<TokenId>) {
    out.clear();
    if k == 0 {
        return;
    }
    let mut floor = f32::NEG_INFINITY;
    for (i, &x) in values.iter().enumerate() {
        // NaN and -inf fail this comparison; an equal later value stays behind.
        if x > floor {
            let at = out.partition_point(|&j| values[j as usize] >= x);
            if out.len() == k {
                out.pop();
            }
            out.insert(at, i as TokenId);
            if out.len() == k {
                floor = values[out[k - 1] as usize];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ulps(a: f32, b: f64) -> f64 {
        (f64::from(a) - b).abs() / (f64::from(f32::EPSILON) * b.abs().max(f64::MIN_POSITIVE))
    }

    #[test]
    fn exp_neg_is_close_to_exp() {
        let mut x = 0.0f32;
        while x > -86.9 {
            assert!(ulps(exp_neg(x), f64::from(x).exp()) < 2.0, "{x}");
            x -= 0.003_7;
        }
        assert_eq!(exp_neg(0.0), 1.0);
        assert_eq!(exp_neg(-0.0), 1.0);
        assert_eq!(exp_neg(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp_neg(-1e30), 0.0);
    }

    #[test]
    fn weights_are_close_to_exp() {
        let mut x = 0.0f32;
        while x > -87.2 {
            let want = f64::from(x).exp();
            assert!((f64::from(weight(x)) - want).abs() < 4e-7 * want, "{x}");
            x -= 0.003_7;
        }
        assert_eq!((weight(0.0), weight(-0.0)), (1.0, 1.0));
        assert_eq!((weight(f32::NEG_INFINITY), weight(-1e30), weight(-88.0)), (0.0, 0.0, 0.0));
        assert!(weight(f32::NAN).is_nan());
    }

    /// Frozen under `rng = 1`: the kernels are held to the same bits.
    #[test]
    fn weight_bits_are_frozen() {
        let bits: Vec<u32> =
            [-0.1f32, -1.0, -3.3, -17.25, -80.0].map(|d| weight(d).to_bits()).into();
        assert_eq!(bits, GOLDEN_WEIGHT);
    }
    const GOLDEN_WEIGHT: [u32; 5] =
        [1_063_756_652, 1_052_531_379, 1_024_922_318, 856_324_687, 96_464_062];

    #[test]
    fn gumbel_is_close_everywhere() {
        let check = |word: u32| {
            let u = (f64::from(word) + 0.5) / 4_294_967_296.0;
            let e = if word < 1 << 31 {
                -u.ln()
            } else {
                -(-((f64::from(u32::MAX - word) + 0.5) / 4_294_967_296.0)).ln_1p()
            };
            let want = -e.ln();
            assert!((f64::from(gumbel(word)) - want).abs() < 1e-6 + 2e-7 * want.abs(), "{word}");
        };
        for i in 0..32 {
            for d in 0..5u32 {
                check((1u32 << i).wrapping_add(d).wrapping_sub(2));
                check(u32::MAX - (1u32 << i).wrapping_add(d).wrapping_sub(2));
            }
        }
        for i in 0..100_000u32 {
            check(i.wrapping_mul(2_654_435_761));
        }
        assert!(gumbel(0) < -3.1 && gumbel(u32::MAX) > 22.8);
    }

    /// Frozen under `rng = 1`: the kernels are held to the same bits.
    #[test]
    fn gumbel_bits_are_frozen() {
        let bits: Vec<u32> = [0, 1, 12345, 1 << 31, (1 << 31) - 1, 2_747_578_971, u32::MAX]
            .into_iter()
            .map(|w| gumbel(w).to_bits())
            .collect();
        assert_eq!(bits, GOLDEN_GUMBEL);
    }
    const GOLDEN_GUMBEL: [u32; 7] = [
        3_225_965_013,
        3_225_758_566,
        3_223_516_773,
        1_052_485_525,
        1_052_485_525,
        1_062_095_329,
        1_102_511_529,
    ];

    #[test]
    fn ties_go_to_the_lowest_id() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(argmax(&[f32::NEG_INFINITY; 3]), None);
        let mut out = Vec::new();
        top_k(&[1.0, 3.0, 3.0, f32::NEG_INFINITY, 2.0], 4, &mut out);
        assert_eq!(out, [1, 2, 4, 0]);
        top_k(&[1.0, 3.0, 3.0, f32::NEG_INFINITY, 2.0], 9, &mut out);
        assert_eq!(out, [1, 2, 4, 0]);
    }

    proptest! {
        #[test]
        fn top_k_equals_a_stable_sort(
            values in prop::collection::vec((-3i8..4).prop_map(f32::from), 0..60), k in 0usize..70,
        ) {
            let mut want: Vec<u32> = (0..values.len() as u32).collect();
            want.sort_by(|&a, &b| values[b as usize].total_cmp(&values[a as usize]));
            want.truncate(k);
            let mut got = Vec::new();
            top_k(&values, k, &mut got);
            prop_assert_eq!(got, want);
        }

        #[test]
        fn log_sum_exp_is_stable(values in prop::collection::vec(-50f32..50.0, 1..700), shift in -1e3f32..1e3) {
            let max = values.iter().copied().fold(f32::MIN, f32::max);
            let want = f64::from(max)
                + values.iter().map(|&v| (f64::from(v) - f64::from(max)).exp()).sum::<f64>().ln();
            prop_assert!((log_sum_exp(&values) - want).abs() < 1e-6);
            let moved: Vec<f32> = values.iter().map(|v| v + shift).collect();
            prop_assert!((log_sum_exp(&moved) - want - f64::from(shift)).abs() < 1e-3);
        }
    }
}
