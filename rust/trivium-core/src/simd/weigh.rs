//! Weights `e^(x - reference)` of a row and their sums: the passes behind every draw by `cdf`.
//!
//! Written over [`Lanes`] and compiled for the baseline, for AVX2 with FMA, and for AVX-512. The
//! order of every sum is part of the definition ([`crate::numerics::block_sum`]), so the three give
//! the same bits. One read of the row yields, for each [`BLOCK`] of tokens, its maximum and the sum
//! of its weights relative to that maximum: no pass for the row's maximum comes first, the block is
//! in the first-level cache when it is read again, and nothing can overflow.

use super::CHUNK;
use super::lanes::{LANES, Lanes, Plain};
use crate::numerics::{BLOCK, EXP, MAGIC, WEIGHT_FLOOR};

/// A full block.
type Block = [f32; BLOCK];

macro_rules! thrice {
    ($(#[$doc:meta])* $name:ident, $body:ident, ($($arg:ident: $ty:ty),*) $(-> $ret:ty)?) => {
        $(#[$doc])*
        #[inline]
        pub fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512dq")]
                fn wide($($arg: $ty),*) $(-> $ret)? {
                    // SAFETY: this function runs only on CPUs with AVX-512 F and DQ.
                    unsafe { $body::<super::lanes::Avx512>($($arg),*) }
                }
                #[target_feature(enable = "avx2,fma")]
                fn fast($($arg: $ty),*) $(-> $ret)? {
                    // SAFETY: this function runs only on CPUs with AVX2 and FMA.
                    unsafe { $body::<super::lanes::Avx2>($($arg),*) }
                }
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
                    // SAFETY: the line above.
                    return unsafe { wide($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the line above.
                    return unsafe { fast($($arg),*) };
                }
            }
            // SAFETY: plain lanes need nothing.
            unsafe { $body::<Plain>($($arg),*) }
        }
    };
}

thrice! {
    /// Sets `out` to `x * factor` for every value, and for each [`BLOCK`] of them `tops` to its
    /// maximum and `sums` to the sum of `weight(x - maximum)`: NaN where a value is NaN or `+inf`.
    /// One read, one write.
    load_weighed, load_body,
    (values: &[f32], factor: f32, out: &mut Vec<f32>, tops: &mut Vec<f32>, sums: &mut Vec<f64>)
}

thrice! {
    /// Sets `out` to `x * factor` for every value and `maxima` to the largest of each [`CHUNK`];
    /// true if a result is NaN or `+inf`. One read, one write; a factor of 1 copies.
    load, load_maxima_body,
    (values: &[f32], factor: f32, out: &mut Vec<f32>, maxima: &mut Vec<f32>) -> bool
}

thrice! {
    /// As [`load_weighed`] for values that are in place: appends to `tops` and `sums`. One read.
    weigh, weigh_body, (values: &[f32], tops: &mut Vec<f32>, sums: &mut Vec<f64>)
}

thrice! {
    /// Writes `weight(x - reference)` of at most [`BLOCK`] values to `out`; what lies behind is
    /// unspecified.
    weights, weights_body, (values: &[f32], reference: f32, out: &mut [f32; BLOCK])
}

thrice! {
    /// Appends `weight(x - reference)` of every value to `out`; returns their sum, in the order of
    /// [`crate::numerics::block_sum`], blocks in order.
    weigh_row, row_body, (values: &[f32], reference: f32, out: &mut Vec<f32>) -> f64
}

thrice! {
    /// Σ `weight(x - reference)`, as [`weigh_row`] sums it.
    sum_weights, sum_body, (values: &[f32], reference: f32) -> f64
}

/// How many blocks ahead memory is asked for: rows come from memory as often as from a cache, and
/// the hardware's own prefetching stops at every page, which is four blocks.
const AHEAD: usize = 8;

/// Asks for block `b + AHEAD`, which may lie behind the end of `values`: a hint, not a read.
#[inline(always)]
fn prefetch(values: &[f32], b: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..BLOCK).step_by(16) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let place = values.as_ptr().wrapping_add((b + AHEAD) * BLOCK + line);
        // SAFETY: SSE is part of x86-64, and a prefetch of any address faults never.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, b);
}

/// [`crate::numerics::weight`] of sixteen distances.
#[inline(always)]
unsafe fn weight<L: Lanes>(distance: L) -> L {
    // SAFETY: the caller's promise, here and below.
    unsafe {
        let y = L::splat(WEIGHT_FLOOR).max(distance);
        let shifted = y.fma(L::splat(std::f32::consts::LOG2_E), L::splat(MAGIC));
        let n = shifted.sub(L::splat(MAGIC));
        let r = n.fma(L::splat(-std::f32::consts::LN_2), y);
        let mut p = L::splat(EXP[0]);
        for c in &EXP[1..] {
            p = p.fma(r, L::splat(*c));
        }
        p.mul(shifted.to_exponent())
    }
}

/// The vectors of a block; no remainder by its type.
#[inline(always)]
fn vectors(block: &Block) -> &[[f32; LANES]] {
    block.as_chunks().0
}

#[inline(always)]
unsafe fn top<L: Lanes>(block: &Block) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        // Four chains: one would wait for itself.
        let mut m = [L::splat(f32::NEG_INFINITY); 4];
        for four in vectors(block).chunks_exact(4) {
            for (m, x) in m.iter_mut().zip(four) {
                *m = m.max(L::load(x));
            }
        }
        m[0].max(m[1]).max(m[2].max(m[3])).largest()
    }
}

/// Σ weight(x - reference) of a block; with `KEEP` the weights go to `out`.
#[inline(always)]
unsafe fn block_sum<L: Lanes, const KEEP: bool>(
    block: &Block,
    reference: f32,
    out: &mut Block,
) -> f64 {
    // SAFETY: the caller's promise.
    unsafe {
        // A block of removed tokens has no maximum to measure from.
        let reference = L::splat(if reference == f32::NEG_INFINITY { 0.0 } else { reference });
        let mut parts = L::no_parts();
        let pairs = block.as_chunks::<LANES>().0.as_chunks::<2>().0;
        let slots = out.as_chunks_mut::<LANES>().0.as_chunks_mut::<2>().0;
        for ([low, high], [low_out, high_out]) in pairs.iter().zip(slots) {
            let low = weight(L::load(low).sub(reference));
            let high = weight(L::load(high).sub(reference));
            parts = L::add(parts, low, high);
            if KEEP {
                low.store(low_out);
                high.store(high_out);
            }
        }
        L::total(parts)
    }
}

/// A short block, filled up with removed tokens.
#[inline(always)]
fn padded(rest: &[f32]) -> Block {
    let mut block = [f32::NEG_INFINITY; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    block
}

#[inline(always)]
unsafe fn load_body<L: Lanes>(
    values: &[f32],
    factor: f32,
    out: &mut Vec<f32>,
    tops: &mut Vec<f32>,
    sums: &mut Vec<f64>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        // Buffers of the last row's width are written over as they are.
        out.resize(values.len(), 0.0);
        tops.resize(values.len().div_ceil(BLOCK), 0.0);
        sums.resize(tops.len(), 0.0);
        let (blocks, rest) = values.as_chunks::<BLOCK>();
        let (slots, rest_slots) = out.as_chunks_mut::<BLOCK>();
        let factors = L::splat(factor);
        let mut unused = [0f32; BLOCK];
        let sites = blocks.iter().zip(slots).zip(tops.iter_mut().zip(sums.iter_mut()));
        for (b, ((block, slot), (m, sum))) in sites.enumerate() {
            prefetch(values, b);
            let four_slots = slot.as_chunks_mut::<LANES>().0.as_chunks_mut::<4>().0;
            let mut max = [L::splat(f32::NEG_INFINITY); 4];
            for (four, slots) in vectors(block).as_chunks::<4>().0.iter().zip(four_slots) {
                for i in 0..4 {
                    let x = L::load(&four[i]).mul(factors);
                    x.store(&mut slots[i]);
                    max[i] = max[i].max(x);
                }
            }
            *m = max[0].max(max[1]).max(max[2].max(max[3])).largest();
            *sum = block_sum::<L, false>(slot, *m, &mut unused);
        }
        if !rest.is_empty() {
            for (o, x) in rest_slots.iter_mut().zip(rest) {
                *o = x * factor;
            }
            let block = padded(rest_slots);
            let last = tops.len() - 1;
            tops[last] = top::<L>(&block);
            sums[last] = block_sum::<L, false>(&block, tops[last], &mut unused);
        }
    }
}

#[inline(always)]
unsafe fn load_maxima_body<L: Lanes>(
    values: &[f32],
    factor: f32,
    out: &mut Vec<f32>,
    maxima: &mut Vec<f32>,
) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        out.resize(values.len(), 0.0);
        maxima.resize(values.len().div_ceil(CHUNK), 0.0);
        let (chunks, rest) = values.as_chunks::<CHUNK>();
        let (slots, rest_slots) = out.as_chunks_mut::<CHUNK>();
        let (factors, zero) = (L::splat(factor), L::splat(0.0));
        // Zero times a number adds nothing; times NaN or infinity, NaN. `-inf` is lifted first.
        let (mut bad, low) = (zero, L::splat(f32::MIN));
        let sites = chunks.iter().zip(slots).zip(maxima.iter_mut());
        for (c, ((chunk, slot), m)) in sites.enumerate() {
            if c.is_multiple_of(BLOCK / CHUNK) {
                prefetch(values, c / (BLOCK / CHUNK));
            }
            let (chunk, slot) = (chunk.as_chunks::<LANES>().0, slot.as_chunks_mut::<LANES>().0);
            let mut max = L::splat(f32::NEG_INFINITY);
            for (x, o) in chunk.iter().zip(slot) {
                let x = L::load(x).mul(factors);
                x.store(o);
                max = max.max(x);
                bad = low.max(x).fma(zero, bad);
            }
            *m = max.largest();
        }
        let mut lanes = [0f32; LANES];
        bad.store(&mut lanes);
        let mut any = lanes.iter().any(|x| x.is_nan());
        if let Some(last) = maxima.last_mut().filter(|_| !rest.is_empty()) {
            *last = f32::NEG_INFINITY;
            for (o, x) in rest_slots.iter_mut().zip(rest) {
                *o = x * factor;
                *last = if *o > *last { *o } else { *last };
                any |= o.is_nan() || *o == f32::INFINITY;
            }
        }
        any
    }
}

#[inline(always)]
unsafe fn weigh_body<L: Lanes>(values: &[f32], tops: &mut Vec<f32>, sums: &mut Vec<f64>) {
    let (blocks, rest) = values.as_chunks::<BLOCK>();
    let mut unused = [0f32; BLOCK];
    // SAFETY: the caller's promise.
    unsafe {
        for (b, block) in blocks.iter().enumerate() {
            prefetch(values, b);
            let m = top::<L>(block);
            tops.push(m);
            sums.push(block_sum::<L, false>(block, m, &mut unused));
        }
        if !rest.is_empty() {
            let block = padded(rest);
            let m = top::<L>(&block);
            tops.push(m);
            sums.push(block_sum::<L, false>(&block, m, &mut unused));
        }
    }
}

#[inline(always)]
unsafe fn weights_body<L: Lanes>(values: &[f32], reference: f32, out: &mut Block) {
    let (whole, rest) = values[..values.len().min(BLOCK)].as_chunks::<LANES>();
    let (slots, _) = out.as_chunks_mut::<LANES>();
    // SAFETY: the caller's promise.
    unsafe {
        let reference = L::splat(if reference == f32::NEG_INFINITY { 0.0 } else { reference });
        for (o, x) in slots.iter_mut().zip(whole) {
            weight(L::load(x).sub(reference)).store(o);
        }
        if !rest.is_empty() {
            let mut last = [f32::NEG_INFINITY; LANES];
            last[..rest.len()].copy_from_slice(rest);
            weight(L::load(&last).sub(reference)).store(&mut slots[whole.len()]);
        }
    }
}

#[inline(always)]
unsafe fn row_body<L: Lanes>(values: &[f32], reference: f32, out: &mut Vec<f32>) -> f64 {
    out.reserve(values.len());
    let (blocks, rest) = values.as_chunks::<BLOCK>();
    let mut buffer = [0f32; BLOCK];
    let mut total = 0.0;
    // SAFETY: the caller's promise.
    unsafe {
        for block in blocks {
            total += block_sum::<L, true>(block, reference, &mut buffer);
            out.extend_from_slice(&buffer);
        }
        if !rest.is_empty() {
            total += block_sum::<L, true>(&padded(rest), reference, &mut buffer);
            out.extend_from_slice(&buffer[..rest.len()]);
        }
    }
    total
}

#[inline(always)]
unsafe fn sum_body<L: Lanes>(values: &[f32], reference: f32) -> f64 {
    let (blocks, rest) = values.as_chunks::<BLOCK>();
    let mut unused = [0f32; BLOCK];
    let mut total = 0.0;
    // SAFETY: the caller's promise.
    unsafe {
        for block in blocks {
            total += block_sum::<L, false>(block, reference, &mut unused);
        }
        if !rest.is_empty() {
            total += block_sum::<L, false>(&padded(rest), reference, &mut unused);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::super::lanes::Plain;
    use super::*;
    use crate::numerics;
    use proptest::prelude::*;

    fn values() -> impl Strategy<Value = Vec<f32>> {
        let value = prop_oneof![
            12 => -90f32..20.0,
            2 => Just(f32::NEG_INFINITY),
            1 => Just(1e-42),
            1 => Just(3e38),
            1 => Just(-3e38),
        ];
        prop::collection::vec(value, 1..900)
    }

    fn bits(x: &[f32]) -> Vec<u32> {
        x.iter().map(|x| x.to_bits()).collect()
    }

    fn bits64(x: &[f64]) -> Vec<u64> {
        x.iter().map(|x| x.to_bits()).collect()
    }

    #[derive(Debug, PartialEq)]
    struct All {
        scaled: Vec<u32>,
        tops: Vec<f32>,
        sums: Vec<u64>,
        again: Vec<u64>,
        row: Vec<u32>,
        total: u64,
        sum: u64,
        few: Vec<u32>,
        maxima: (bool, Vec<u32>, Vec<f32>),
    }

    /// Every pass by one implementation.
    ///
    /// # Safety
    /// The CPU has its instruction set.
    #[inline(always)]
    unsafe fn all<L: Lanes>(values: &[f32], factor: f32) -> All {
        let (mut scaled, mut tops, mut sums, mut again) = (vec![], vec![], vec![], vec![]);
        let mut row = vec![];
        let mut few = [0f32; BLOCK];
        let mut maxima = (false, vec![7.0; 3], vec![7.0; 3]);
        // SAFETY: the caller's promise.
        let (total, sum) = unsafe {
            maxima.0 = load_maxima_body::<L>(values, factor, &mut maxima.1, &mut maxima.2);
            load_body::<L>(values, factor, &mut scaled, &mut tops, &mut sums);
            weigh_body::<L>(&scaled, &mut vec![], &mut again);
            let max = tops.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            weights_body::<L>(&scaled, max, &mut few);
            (row_body::<L>(&scaled, max, &mut row), sum_body::<L>(&scaled, max))
        };
        All {
            maxima: (maxima.0, bits(&maxima.1), maxima.2),
            few: bits(&few[..scaled.len().min(BLOCK)]),
            scaled: bits(&scaled),
            tops,
            sums: bits64(&sums),
            again: bits64(&again),
            row: bits(&row),
            total: total.to_bits(),
            sum: sum.to_bits(),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn all_avx2(values: &[f32], factor: f32) -> All {
        // SAFETY: by the attribute.
        unsafe { all::<super::super::lanes::Avx2>(values, factor) }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512dq")]
    fn all_avx512(values: &[f32], factor: f32) -> All {
        // SAFETY: by the attribute.
        unsafe { all::<super::super::lanes::Avx512>(values, factor) }
    }

    proptest! {
        /// Every instruction set that this machine has gives the bits of the plain definition, and
        /// that is the scalar one of `numerics`.
        #[test]
        fn instruction_sets_agree(values in values(), factor in 0.1f32..1.0) {
            // SAFETY: plain lanes need nothing.
            let want = unsafe { all::<Plain>(&values, factor) };
            #[cfg(target_arch = "x86_64")]
            {
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the line above.
                    prop_assert_eq!(&unsafe { all_avx2(&values, factor) }, &want);
                }
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
                    // SAFETY: the line above.
                    prop_assert_eq!(&unsafe { all_avx512(&values, factor) }, &want);
                }
            }
            let scaled: Vec<f32> = values.iter().map(|x| x * factor).collect();
            prop_assert_eq!(&bits(&scaled), &want.scaled);
            let largest = |b: &[f32]| b.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let maxima: Vec<f32> = scaled.chunks(CHUNK).map(largest).collect();
            prop_assert_eq!(&want.maxima, &(false, bits(&scaled), maxima));
            let max = scaled.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let tops: Vec<f32> = scaled.chunks(BLOCK)
                .map(|b| b.iter().copied().fold(f32::NEG_INFINITY, f32::max)).collect();
            let sums: Vec<f64> = scaled.chunks(BLOCK).zip(&tops)
                .map(|(b, &m)| numerics::block_sum(b, m)).collect();
            prop_assert_eq!(&want.tops, &tops);
            prop_assert_eq!(&want.sums, &bits64(&sums));
            prop_assert_eq!(&want.again, &want.sums);
            if max > f32::NEG_INFINITY {
                let row: Vec<f32> = scaled.iter().map(|x| numerics::weight(x - max)).collect();
                prop_assert_eq!(&want.row, &bits(&row));
                prop_assert_eq!(&want.few[..], &want.row[..want.few.len()]);
                let total: f64 = scaled.chunks(BLOCK).map(|b| numerics::block_sum(b, max)).sum();
                prop_assert_eq!(want.total, total.to_bits());
                prop_assert_eq!(want.sum, want.total);
            }
        }

        /// NaN and `+inf` are seen wherever they stand; other values never look like them.
        #[test]
        fn bad_values_make_a_sum_nan(
            values in values(), at: prop::sample::Index, bad in prop::sample::select(vec![f32::NAN, f32::INFINITY]),
        ) {
            let mut values = values;
            let (mut tops, mut sums) = (vec![], vec![]);
            weigh(&values, &mut tops, &mut sums);
            prop_assert!(sums.iter().all(|s| s.is_finite()));
            let at = at.index(values.len());
            let (mut out, mut maxima) = (vec![], vec![]);
            prop_assert!(!load(&values, 0.5, &mut out, &mut maxima));
            values[at] = bad;
            prop_assert!(load(&values, 0.5, &mut out, &mut maxima));
            sums.clear();
            weigh(&values, &mut tops, &mut sums);
            prop_assert!(sums[at / BLOCK].is_nan());
        }
    }
}
