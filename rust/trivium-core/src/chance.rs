//! The only source of randomness that a decision procedure may use.
//!
//! Giving algorithms primitives instead of uniforms lets the oracle walk every outcome of a
//! verifier exactly (`trivium-oracle::enumerate`), while [`Keyed`] answers from counter-based noise.

use crate::draw::{Draw, ScaledRow};
use crate::ids::TokenId;
use crate::numerics::{self, BLOCK, PARTS};
use crate::rng::{Address, Purpose};

/// Random primitives at an absolute token index.
pub trait Chance {
    /// True with probability `min(1, num / den)`. `den` must be positive; `num = 0` is never true.
    fn bernoulli(&mut self, index: u32, purpose: Purpose, num: f64, den: f64) -> bool;

    /// An index with probability proportional to its weight (finite, not negative, sum positive).
    fn categorical(&mut self, index: u32, purpose: Purpose, weights: &[f64]) -> usize;

    /// As [`categorical`](Self::categorical) over weights that exist only when asked for: the sums
    /// of their blocks of [`BLOCK`], by the order of [`numerics::halve`], and `fill`, which writes
    /// the weights of one block and returns how many they are.
    fn categorical_blocks(
        &mut self,
        index: u32,
        purpose: Purpose,
        sums: &[f64],
        fill: &mut dyn FnMut(usize, &mut [f64; BLOCK]) -> usize,
    ) -> usize {
        let mut weights = Vec::with_capacity(sums.len() * BLOCK);
        let mut block = [0.0; BLOCK];
        for b in 0..sums.len() {
            let len = fill(b, &mut block);
            weights.extend_from_slice(&block[..len]);
        }
        self.categorical(index, purpose, &weights)
    }

    /// The race noise of a position.
    fn row(&mut self, index: u32) -> Address;

    /// The target token of a row by the request's draw.
    ///
    /// The default reduces `cdf` to [`categorical`](Self::categorical) over the probabilities.
    fn target(&mut self, index: u32, draw: Draw, row: &mut ScaledRow) -> TokenId {
        if row.is_greedy() {
            return row.argmax();
        }
        match draw {
            Draw::Cdf => {
                let p = row.probabilities();
                self.categorical(index, Purpose::Cdf, &p) as TokenId
            }
            Draw::Race => row.draw_race(self.row(index)),
        }
    }
}

/// [`Chance`] from counter-based noise: seed and branch of one request.
#[derive(Debug, Clone, Copy)]
pub struct Keyed {
    seed: u64,
    branch: u32,
    /// Position of the last scalar.
    index: u32,
    /// Scalars drawn there, by purpose: purposes may alternate at a position.
    counts: [u32; Purpose::COUNT],
}

impl Keyed {
    /// The noise of one request.
    pub fn new(seed: u64, branch: u32) -> Self {
        Self { seed, branch, index: 0, counts: [0; Purpose::COUNT] }
    }

    /// The next scalar of a purpose at a position; several tests at one position count up.
    fn uniform(&mut self, index: u32, purpose: Purpose) -> f64 {
        if index != self.index {
            self.index = index;
            self.counts = [0; Purpose::COUNT];
        }
        let count = &mut self.counts[purpose as usize];
        let draw = *count;
        *count += 1;
        Address::new(self.seed, index, self.branch).uniform(purpose, draw)
    }
}

/// Sum of one block of weights, in the order of every block.
fn block(weights: &[f64]) -> f64 {
    let mut parts = [0f64; PARTS];
    for group in weights.chunks(PARTS) {
        for (p, w) in parts.iter_mut().zip(group) {
            *p += w;
        }
    }
    numerics::halve(parts)
}

/// The block in which the cumulative sum passes `u` times the total, with the sum before it and the
/// target; the last block with weight where rounding lets none pass.
fn locate(u: f64, sums: impl Iterator<Item = f64> + Clone) -> (usize, f64, f64) {
    let target = u * sums.clone().sum::<f64>();
    let (mut before, mut last) = (0.0, (0, 0.0));
    for (b, sum) in sums.enumerate().filter(|(_, sum)| *sum > 0.0) {
        last = (b, before);
        if before + sum > target {
            break;
        }
        before += sum;
    }
    (last.0, last.1, target)
}

/// The first weight of a block that carries the cumulative sum past the target, else its last one.
fn inside(weights: &[f64], before: f64, target: f64) -> usize {
    let (mut cumulative, mut last) = (before, 0);
    for (i, &w) in weights.iter().enumerate().filter(|(_, w)| **w > 0.0) {
        cumulative += w;
        last = i;
        if cumulative > target {
            break;
        }
    }
    last
}

impl Chance for Keyed {
    fn bernoulli(&mut self, index: u32, purpose: Purpose, num: f64, den: f64) -> bool {
        // Strict: u = 0 must not accept num = 0.
        self.uniform(index, purpose) * den < num
    }

    fn categorical(&mut self, index: u32, purpose: Purpose, weights: &[f64]) -> usize {
        // By blocks, so that neither pass is one long chain of additions.
        let u = self.uniform(index, purpose);
        let (b, before, target) = locate(u, weights.chunks(BLOCK).map(block));
        let start = b * BLOCK;
        let end = weights.len().min(start + BLOCK);
        start + inside(&weights[start..end], before, target)
    }

    fn categorical_blocks(
        &mut self,
        index: u32,
        purpose: Purpose,
        sums: &[f64],
        fill: &mut dyn FnMut(usize, &mut [f64; BLOCK]) -> usize,
    ) -> usize {
        let u = self.uniform(index, purpose);
        let (b, before, target) = locate(u, sums.iter().copied());
        let mut weights = [0.0; BLOCK];
        let len = fill(b, &mut weights);
        b * BLOCK + inside(&weights[..len], before, target)
    }

    fn row(&mut self, index: u32) -> Address {
        Address::new(self.seed, index, self.branch)
    }

    fn target(&mut self, index: u32, draw: Draw, row: &mut ScaledRow) -> TokenId {
        row.draw(draw, Address::new(self.seed, index, self.branch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_of_one_position_count_up() {
        let mut a = Keyed::new(42, 3);
        let address = Address::new(42, 7, 3);
        for draw in 0..6 {
            let u = address.uniform(Purpose::Accept, draw);
            assert!(a.bernoulli(7, Purpose::Accept, u + 1e-12, 1.0));
        }
        let mut a = Keyed::new(42, 3);
        for draw in 0..6 {
            let u = address.uniform(Purpose::Accept, draw);
            assert!(!a.bernoulli(7, Purpose::Accept, u, 1.0));
        }
    }

    /// A second purpose in between must not bring the first one's numbers back.
    #[test]
    fn regression_alternating_purposes_read_no_number_twice() {
        let address = Address::new(9, 4, 0);
        let mut c = Keyed::new(9, 0);
        for draw in 0..4 {
            let u = address.uniform(Purpose::Accept, draw);
            assert!(c.bernoulli(4, Purpose::Accept, u + 1e-12, 1.0));
            let v = address.uniform(Purpose::Draft, draw);
            assert!(!c.bernoulli(4, Purpose::Draft, v, 1.0));
        }
    }

    /// Against the definition: the first index whose cumulative weight passes `u` times the sum.
    #[test]
    fn categorical_inverts_the_cumulative_weights() {
        for n in [1usize, 7, 255, 256, 257, 1000] {
            for seed in 0..40 {
                let weights: Vec<f64> = (0..n)
                    .map(|i| f64::from(Address::new(seed, i as u32, 1).race_word(0) % 5))
                    .collect();
                if weights.iter().all(|&w| w == 0.0) {
                    continue;
                }
                // Whole numbers: every order of summation is exact.
                let total: f64 = weights.iter().sum();
                let u = Address::new(seed, 3, 0).uniform(Purpose::Residual, 0);
                let mut sum = 0.0;
                let want = weights.iter().position(|w| {
                    sum += w;
                    sum > u * total
                });
                let got = Keyed::new(seed, 0).categorical(3, Purpose::Residual, &weights);
                assert_eq!(Some(got), want);
                let sums: Vec<f64> = weights.chunks(BLOCK).map(block).collect();
                let mut fill = |b: usize, out: &mut [f64; BLOCK]| {
                    let end = weights.len().min((b + 1) * BLOCK);
                    out[..end - b * BLOCK].copy_from_slice(&weights[b * BLOCK..end]);
                    end - b * BLOCK
                };
                let mut keyed = Keyed::new(seed, 0);
                let by_blocks = keyed.categorical_blocks(3, Purpose::Residual, &sums, &mut fill);
                assert_eq!(by_blocks, got);
            }
        }
    }

    #[test]
    fn impossible_outcomes_never_happen() {
        let mut c = Keyed::new(0, 0);
        for i in 0..2000 {
            assert!(!c.bernoulli(i, Purpose::Accept, 0.0, 1.0));
            assert!(c.bernoulli(i, Purpose::Accept, 1.0, 1.0));
            assert_eq!(c.categorical(i, Purpose::Residual, &[0.0, 2.0, 0.0]), 1);
        }
    }
}
