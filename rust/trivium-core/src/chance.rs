//! The only source of randomness that a decision procedure may use.
//!
//! Giving algorithms primitives instead of uniforms lets the oracle walk every outcome of a
//! verifier exactly (`trivium-oracle::enumerate`), while [`Keyed`] answers from counter-based noise.

use crate::draw::{Draw, ScaledRow};
use crate::ids::TokenId;
use crate::numerics;
use crate::rng::{Address, Purpose};

/// Random primitives at an absolute token index.
pub trait Chance {
    /// True with probability `min(1, num / den)`. `den` must be positive; `num = 0` is never true.
    fn bernoulli(&mut self, index: u32, purpose: Purpose, num: f64, den: f64) -> bool;

    /// An index with probability proportional to its weight (finite, not negative, sum positive).
    fn categorical(&mut self, index: u32, purpose: Purpose, weights: &[f64]) -> usize;

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

/// Sum of one block of weights: eight strided lanes.
fn block(weights: &[f64]) -> f64 {
    let mut lanes = [0f64; 8];
    for chunk in weights.chunks(8) {
        for (l, w) in lanes.iter_mut().zip(chunk) {
            *l += w;
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

impl Chance for Keyed {
    fn bernoulli(&mut self, index: u32, purpose: Purpose, num: f64, den: f64) -> bool {
        // Strict: u = 0 must not accept num = 0.
        self.uniform(index, purpose) * den < num
    }

    fn categorical(&mut self, index: u32, purpose: Purpose, weights: &[f64]) -> usize {
        // By blocks, so that neither pass is one long chain of additions.
        let sums = || weights.chunks(numerics::BLOCK).map(block);
        let target = self.uniform(index, purpose) * sums().sum::<f64>();
        let mut before = 0.0;
        let mut last = 0;
        for (b, sum) in sums().enumerate().filter(|(_, sum)| *sum > 0.0) {
            let start = b * numerics::BLOCK;
            let hit = before + sum > target;
            let mut cumulative = before;
            let end = weights.len().min(start + numerics::BLOCK);
            // Only the block that passes the target is walked; of the others the last token with
            // weight is known when it is needed.
            if hit {
                for (i, &w) in weights[start..end].iter().enumerate().filter(|(_, w)| **w > 0.0) {
                    cumulative += w;
                    last = start + i;
                    if cumulative > target {
                        break;
                    }
                }
                return last;
            }
            before += sum;
        }
        // u * total rounded up to the total.
        weights.iter().rposition(|&w| w > 0.0).unwrap_or(last)
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
