//! Perturbed children under a perturbed parent: Gumbel noise conditioned on its maximum.
//!
//! Kool, van Hoof, Welling (ICML 2019), appendix B. Children have log-probabilities `phi_i` that add up
//! to the parent's; independent `G_i ~ Gumbel(phi_i)`, whose maximum `Z` is to be the parent's `T`:
//!
//! ```text
//! v_i  = T - G_i + ln(1 - exp(G_i - Z))
//! G'_i = T - max(0, v_i) - ln(1 + exp(-|v_i|))
//! ```
//!
//! The largest `G'_i` equals `T` bit for bit, and the order stays. With `T ~ Gumbel(phi)` the `G'_i` are
//! independent `Gumbel(phi_i)`: a tree perturbed top-down has the law of all its leaves perturbed at
//! once, which is what a beam that samples without replacement needs.

use trivium_core::numerics::gumbel;
use trivium_core::{Address, TokenId};

/// Writes the perturbed log-probability of every child: `log_probs` of the children (the parent's
/// included), `maximum` the parent's perturbed one. Children of `-inf` stay. The noise is the race's.
/// Nothing is left if every child is `-inf`. O(n).
pub fn conditional(log_probs: &[f64], maximum: f64, address: Address, out: &mut Vec<f64>) {
    out.clear();
    out.extend(log_probs.iter().enumerate().map(|(i, &phi)| {
        if phi == f64::NEG_INFINITY {
            return phi;
        }
        phi + f64::from(gumbel(address.race_word(i as TokenId)))
    }));
    condition(out, maximum);
}

/// Conditions perturbed values on their maximum.
fn condition(keys: &mut [f64], maximum: f64) {
    let z = keys.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for g in keys.iter_mut().filter(|g| **g > f64::NEG_INFINITY) {
        let v = maximum - *g + (-(*g - z).exp()).ln_1p();
        *g = maximum - v.max(0.0) - (-v.abs()).exp().ln_1p();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const P: [f64; 4] = [0.5, 0.3, 0.15, 0.05];

    proptest! {
        #[test]
        fn the_maximum_is_kept_to_the_bit(
            keys in prop::collection::vec(-40f64..30.0, 1..20), maximum in -60f64..60.0,
        ) {
            let mut got = keys.clone();
            condition(&mut got, maximum);
            let best = got.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert_eq!(best.to_bits(), maximum.to_bits());
            for i in 0..keys.len() {
                for j in 0..keys.len() {
                    prop_assert!(keys[i] >= keys[j] || got[i] <= got[j]);
                }
            }
        }
    }

    /// Largest distance of two empirical distribution functions.
    fn ks(a: &mut [f64], b: &mut [f64]) -> f64 {
        a.sort_unstable_by(f64::total_cmp);
        b.sort_unstable_by(f64::total_cmp);
        let below = |s: &[f64], x: f64| s.partition_point(|&y| y <= x) as f64 / s.len() as f64;
        a.iter().chain(b.iter()).map(|&x| (below(a, x) - below(b, x)).abs()).fold(0.0, f64::max)
    }

    /// Given the maximum: the law of rejection sampling. Free maximum: the law of no conditioning.
    #[test]
    fn the_law_is_that_of_rejection_and_of_independent_children() {
        const N: usize = 6000;
        let phi: Vec<f64> = P.iter().map(|p| p.ln()).collect();
        let noise = |i: usize, lane: u32, seed: u64| {
            f64::from(gumbel(Address::new(seed, i as u32, 0).race_word(lane)))
        };
        // Both sides: each child, and all of them through a sum (ties at T are part of the law).
        let mut sides = [const { [const { Vec::new() }; 5] }; 4];
        let record = |side: &mut [Vec<f64>; 5], keys: &[f64]| {
            keys.iter().enumerate().for_each(|(j, &g)| side[j].push(g));
            side[4].push(keys.iter().sum());
        };
        let (fixed, mut keys) = (0.7, Vec::new());
        for i in 0..N {
            conditional(&phi, fixed, Address::new(1, i as u32, 0), &mut keys);
            record(&mut sides[0], &keys);
            // Which child is the largest does not depend on the maximum; the others lie below it.
            let u = Address::new(2, i as u32, 0).uniform(trivium_core::Purpose::Cdf, 0);
            let mut sum = 0.0;
            let best = P
                .iter()
                .position(|p| {
                    sum += p;
                    sum > u
                })
                .unwrap_or(3);
            let keys: Vec<f64> = (0..4)
                .map(|j| {
                    let drawn = (0..).map(|r| phi[j] + noise(i, 4 * r + j as u32, 3));
                    if j == best { fixed } else { drawn.into_iter().find(|&g| g < fixed).unwrap() }
                })
                .collect();
            record(&mut sides[1], &keys);
            let mut free = Vec::new();
            conditional(&phi, noise(i, 0, 4), Address::new(5, i as u32, 0), &mut free);
            record(&mut sides[2], &free);
            let independent: Vec<f64> = (0..4).map(|j| phi[j as usize] + noise(i, j, 6)).collect();
            record(&mut sides[3], &independent);
        }
        // Two samples of N: P(D > bound) < 1e-9 each.
        let bound = ((2e9f64).ln() / N as f64).sqrt();
        for pair in sides.chunks_mut(2) {
            let [a, b] = pair else { unreachable!() };
            for (x, y) in a.iter_mut().zip(b.iter_mut()) {
                let d = ks(x, y);
                assert!(d < bound, "{d} {bound}");
            }
        }
        // The test can fail: without conditioning the law is another.
        let mut plain: Vec<f64> = (0..N).map(|i| phi[0] + noise(i, 0, 7)).collect();
        assert!(ks(&mut sides[0][0], &mut plain) > bound);
    }

    #[test]
    fn children_that_cannot_be_stay_so() {
        let mut out = vec![1.0];
        let phi = [0.25f64.ln(), f64::NEG_INFINITY, 0.75f64.ln()];
        conditional(&phi, -2.0, Address::new(1, 2, 3), &mut out);
        assert_eq!(out[1], f64::NEG_INFINITY);
        assert_eq!(out[0].max(out[2]), -2.0);
        conditional(&[f64::NEG_INFINITY; 2], -2.0, Address::new(1, 2, 3), &mut out);
        assert_eq!(out, [f64::NEG_INFINITY; 2]);
        conditional(&[], -2.0, Address::new(1, 2, 3), &mut out);
        assert!(out.is_empty());
    }
}
