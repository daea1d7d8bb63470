//! Slow twins of the draws: one loop, no blocks, no skipping.

use crate::ids::TokenId;
use crate::numerics::{self, BLOCK, weight};
use crate::rng::Address;

/// Inverse CDF by the definition: cumulative weight, blocks summed first.
pub fn draw_cdf(scaled: &[f32], u: f64) -> TokenId {
    let largest = |x: &[f32]| x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let max = largest(scaled);
    let tops: Vec<f32> = scaled.chunks(BLOCK).map(largest).collect();
    let factor = |b: usize| f64::from(weight(tops[b] - max));
    let masses: Vec<f64> = scaled
        .chunks(BLOCK)
        .enumerate()
        .map(|(b, block)| numerics::block_sum(block, tops[b]) * factor(b))
        .collect();
    let target = u * masses.iter().sum::<f64>();
    let (mut before, mut last) = (0.0, 0);
    for (b, mass) in masses.iter().enumerate() {
        let mut cumulative = before;
        let end = scaled.len().min((b + 1) * BLOCK);
        for (t, x) in scaled.iter().enumerate().take(end).skip(b * BLOCK) {
            let w = if tops[b].is_finite() { weight(x - tops[b]) } else { 0.0 };
            if w > 0.0 && *mass > 0.0 {
                last = t;
                cumulative += f64::from(w) * factor(b);
                if before + mass > target && cumulative > target {
                    return t as TokenId;
                }
            }
        }
        // The first block that passes the target decides, even if its own order of summation
        // comes out an ulp short.
        if before + mass > target {
            return last as TokenId;
        }
        before += mass;
    }
    last as TokenId
}

/// Gumbel race by the definition.
pub fn draw_race(scaled: &[f32], address: Address) -> TokenId {
    let mut best = (f32::NEG_INFINITY, 0);
    for (t, &x) in scaled.iter().enumerate() {
        let key = x + numerics::gumbel(address.race_word(t as TokenId));
        if x > f32::NEG_INFINITY && key > best.0 {
            best = (key, t as TokenId);
        }
    }
    best.1
}
