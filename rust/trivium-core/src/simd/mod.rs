//! Passes over a whole row, compiled for several instruction sets and chosen at run time.
//!
//! Passes that the compiler vectorises are the same Rust source under
//! `#[target_feature(enable = ...)]` (`copies!`); the weighing of rows, on which every draw waits, is
//! written over sixteen lanes with explicit operations (`weigh`, `lanes`). No reassociation is
//! enabled and no operation is fused that is not written so: all copies execute the same IEEE
//! operations on the same lanes and give the same bits. The tests hold them to that, and the slow
//! twins of `draw` and of the truncation rules hold them to the definition.
//!
//! Invariants of this module, the only one of the crate with `unsafe`:
//! 1. Functions compiled for an instruction set are called behind `is_x86_feature_detected!` of it,
//!    in the same block.
//! 2. `Lanes` other than the plain ones are named only in such functions.
//! 3. Vectors are loaded from and stored to arrays of their length; the only other pointers are
//!    prefetched, which reads nothing.

#![allow(unsafe_code)] // see the invariants above
#![allow(clippy::inline_always)] // each copy must contain its body

use crate::numerics::{BLOCK, PARTS, exp_neg, halve};

mod lanes;
mod weigh;

pub use weigh::{load, load_weighed, sum_weights, weigh, weigh_row, weights};

/// Values per entry of the maxima that [`load`] and [`chunk_maxima`] keep.
pub const CHUNK: usize = 64;

/// Moments of a row of weights `w = e^d`, `d = x - max`: see [`moments`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moments {
    /// Σ w.
    pub mass: f64,
    /// Σ w d, removed values counting nothing.
    pub weighted: f64,
    /// Number of values that are not removed.
    pub count: usize,
}

macro_rules! copies {
    ($(#[$doc:meta])* $name:ident, $body:ident, ($($arg:ident: $ty:ty),*) $(-> $ret:ty)?) => {
        $(#[$doc])*
        #[inline]
        pub fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl")]
                fn wide($($arg: $ty),*) $(-> $ret)? {
                    $body($($arg),*)
                }
                #[target_feature(enable = "avx2")]
                fn fast($($arg: $ty),*) $(-> $ret)? {
                    $body($($arg),*)
                }
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                {
                    // SAFETY: the CPU has them, as the lines above established (invariant 1).
                    return unsafe { wide($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the CPU has AVX2, as the line above established (invariant 1).
                    return unsafe { fast($($arg),*) };
                }
            }
            $body($($arg),*)
        }
    };
}

copies! {
    /// The largest value of each [`CHUNK`], appended to `maxima`; true if a value is NaN or `+inf`.
    chunk_maxima, chunk_maxima_body, (values: &[f32], maxima: &mut Vec<f32>) -> bool
}

copies! {
    /// Σ w of a row, 32 strided partial sums; `None` if an entry is negative or no number.
    row_sum, row_sum_body, (weights: &[f32]) -> Option<f64>
}

copies! {
    /// `Σ (p a - q b)+` over two rows of one width, 32 strided partial sums.
    row_excess, row_excess_body, (p: &[f32], a: f64, q: &[f32], b: f64) -> f64
}

copies! {
    /// Appends [`row_excess`] of every [`BLOCK`] to `sums`.
    excess_sums, excess_sums_body, (p: &[f32], a: f64, q: &[f32], b: f64, sums: &mut Vec<f64>)
}

copies! {
    /// Appends Σ w of every [`BLOCK`] to `sums`.
    block_totals, block_totals_body, (weights: &[f32], sums: &mut Vec<f64>)
}

copies! {
    /// Mass, weighted mass and count of a row, in the order of [`block_sum`].
    moments, moments_body, (values: &[f32], max: f32) -> Moments
}

/// Maximum of a chunk and whether it holds NaN or `+inf`.
#[inline(always)]
#[allow(clippy::neg_cmp_op_on_partial_ord)] // the negation is what catches NaN
fn scan(chunk: &[f32]) -> (f32, bool) {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let mut bad = [false; 16];
    let groups = chunk.chunks_exact(16);
    let rest = groups.remainder();
    for g in groups {
        for i in 0..16 {
            lanes[i] = if g[i] > lanes[i] { g[i] } else { lanes[i] };
            bad[i] |= !(g[i] < f32::INFINITY);
        }
    }
    for (i, &x) in rest.iter().enumerate() {
        lanes[i] = if x > lanes[i] { x } else { lanes[i] };
        bad[i] |= !(x < f32::INFINITY);
    }
    let mut max = f32::NEG_INFINITY;
    for x in lanes {
        max = if x > max { x } else { max };
    }
    (max, bad.iter().any(|&b| b))
}

#[inline(always)]
fn chunk_maxima_body(values: &[f32], maxima: &mut Vec<f32>) -> bool {
    let mut bad = false;
    for chunk in values.chunks(CHUNK) {
        let (max, b) = scan(chunk);
        maxima.push(max);
        bad |= b;
    }
    bad
}

#[inline(always)]
fn row_sum_body(weights: &[f32]) -> Option<f64> {
    let mut sums = [0f64; PARTS];
    let mut least = [0f32; PARTS];
    let (groups, rest) = weights.as_chunks::<PARTS>();
    for group in groups {
        for i in 0..PARTS {
            sums[i] += f64::from(group[i]);
            least[i] = if group[i] < least[i] { group[i] } else { least[i] };
        }
    }
    for (i, &w) in rest.iter().enumerate() {
        sums[i] += f64::from(w);
        least[i] = if w < least[i] { w } else { least[i] };
    }
    let total = halve(sums);
    // A NaN makes the sum one.
    (least.iter().all(|m| *m == 0.0) && !total.is_nan()).then_some(total)
}

/// `(p a - q b)+`.
#[inline(always)]
fn term(p: f32, a: f64, q: f32, b: f64) -> f64 {
    let x = f64::from(p) * a - f64::from(q) * b;
    if x > 0.0 { x } else { 0.0 }
}

#[inline(always)]
fn row_excess_body(p: &[f32], a: f64, q: &[f32], b: f64) -> f64 {
    let n = p.len().min(q.len());
    let mut sums = [0f64; PARTS];
    let ((p, p_rest), (q, q_rest)) = (p[..n].as_chunks::<PARTS>(), q[..n].as_chunks::<PARTS>());
    for (p, q) in p.iter().zip(q) {
        for i in 0..PARTS {
            sums[i] += term(p[i], a, q[i], b);
        }
    }
    for (i, (&p, &q)) in p_rest.iter().zip(q_rest).enumerate() {
        sums[i] += term(p, a, q, b);
    }
    halve(sums)
}

#[inline(always)]
fn excess_sums_body(p: &[f32], a: f64, q: &[f32], b: f64, sums: &mut Vec<f64>) {
    for (p, q) in p.chunks(BLOCK).zip(q.chunks(BLOCK)) {
        sums.push(row_excess_body(p, a, q, b));
    }
}

#[inline(always)]
fn block_totals_body(weights: &[f32], sums: &mut Vec<f64>) {
    for block in weights.chunks(BLOCK) {
        let mut parts = [0f64; PARTS];
        let (groups, rest) = block.as_chunks::<PARTS>();
        for group in groups {
            for i in 0..PARTS {
                parts[i] += f64::from(group[i]);
            }
        }
        for (part, &w) in parts.iter_mut().zip(rest) {
            *part += f64::from(w);
        }
        sums.push(halve(parts));
    }
}

#[inline(always)]
fn moments_body(values: &[f32], max: f32) -> Moments {
    let mut all = Moments::default();
    for block in values.chunks(BLOCK) {
        let (mut w, mut d) = ([0f32; BLOCK], [0f32; BLOCK]);
        let mut count = 0u32;
        for ((w, d), &x) in w.iter_mut().zip(&mut d).zip(block) {
            let distance = x - max;
            *w = exp_neg(distance);
            // Where the distance is -inf the weight is 0; the clamp keeps 0 * inf away.
            *d = if distance > -128.0 { distance } else { -128.0 };
            count += u32::from(x > f32::NEG_INFINITY);
        }
        let (mut mass, mut weighted) = ([0f64; 8], [0f64; 8]);
        let groups = block.len().div_ceil(8) * 8;
        for (w, d) in w[..groups].chunks_exact(8).zip(d[..groups].chunks_exact(8)) {
            for i in 0..8 {
                mass[i] += f64::from(w[i]);
                weighted[i] += f64::from(w[i]) * f64::from(d[i]);
            }
        }
        all.mass += pairwise(mass);
        all.weighted += pairwise(weighted);
        all.count += count as usize;
    }
    all
}

/// Eight lanes in the order of [`block_sum`].
#[inline(always)]
pub(crate) fn pairwise([a, b, c, d, e, f, g, h]: [f64; 8]) -> f64 {
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values() -> impl Strategy<Value = Vec<f32>> {
        let value = prop_oneof![
            12 => -90f32..20.0,
            1 => Just(f32::NEG_INFINITY),
            1 => Just(1e-42),
            1 => Just(3e38),
        ];
        prop::collection::vec(value, 1..900)
    }

    proptest! {
        /// The copies give the same bits (on a machine without AVX2 they are one).
        #[test]
        fn copies_agree(values in values(), factor in 0.1f32..3.0, spoil: Option<prop::sample::Index>) {
            let mut values = values;
            if let Some(at) = spoil {
                let n = values.len();
                values[at.index(n)] = f32::NAN;
            }
            let (mut scaled, mut maxima) = (vec![], vec![]);
            let bad = load(&values, factor, &mut scaled, &mut maxima);
            prop_assert_eq!(bad, scaled.iter().any(|x| x.is_nan() || *x == f32::INFINITY));
            let (mut again, mut plain) = (vec![], vec![]);
            prop_assert_eq!(chunk_maxima(&scaled, &mut again), bad);
            prop_assert_eq!(chunk_maxima_body(&scaled, &mut plain), bad);
            let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&again), bits(&plain));
            if !bad {
                prop_assert_eq!(again, maxima);
            }
            let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            if max.is_finite() && spoil.is_none() {
                let (m, n) = (moments(&values, max), moments_body(&values, max));
                prop_assert_eq!(m, n);
                let mass = crate::numerics::sum_exp(&values, max);
                prop_assert!((m.mass - mass).abs() < 1e-6 * mass);
                prop_assert_eq!(m.count, values.iter().filter(|x| **x > f32::NEG_INFINITY).count());
            }
        }
    }
}
