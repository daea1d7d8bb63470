//! The processed law of one row, and the two draws over it.
//!
//! `cdf`: the smallest token whose cumulative weight exceeds `u * total`, token-id order, one
//! scalar. `race`: the largest `scaled + gumbel`, one race word a token (Gumbel-max). Both are
//! frozen under `rng = 1`; which of them a request uses is part of its seeded text.
//!
//! Weights are `exp(scaled - max)` in f32, sums f64 in the order of [`numerics::block_sum`], so a
//! draw is one fixed function of (row, u) on every machine.

use crate::error::{Error, Result};
use crate::ids::TokenId;
use crate::logits::LogitsRow;
use crate::mask;
use crate::numerics::{self, BLOCK, exp_neg};
use crate::rng::{Address, Purpose};

/// How a request turns a law and its noise into a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Draw {
    /// Inverse CDF over the kept tokens in token-id order, one scalar.
    #[default]
    Cdf,
    /// Gumbel race over the kept tokens.
    Race,
}

/// A processed law: logits over temperature, `-inf` where a token is removed.
///
/// Reused from row to row; after the first row of a width no call allocates.
#[derive(Debug, Clone, Default)]
pub struct ScaledRow {
    scaled: Vec<f32>,
    max: f32,
    argmax: TokenId,
    greedy: bool,
    /// Block sums and their total, filled on demand.
    blocks: Vec<f64>,
    total: f64,
}

/// Temperatures below this are greedy.
pub const GREEDY_TEMPERATURE: f32 = 1e-5;

/// NaN or +inf, in one comparison.
#[inline]
#[allow(clippy::neg_cmp_op_on_partial_ord)] // the negation is what catches NaN
fn is_bad(x: f32) -> bool {
    !(x < f32::INFINITY)
}

impl ScaledRow {
    /// An empty row, to be [`load`](Self::load)ed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a row of logits: mask, then temperature. Below [`GREEDY_TEMPERATURE`] the law is the
    /// point mass on the lowest arg-max.
    ///
    /// # Errors
    /// `InvalidInput` for NaN or `+inf` in an allowed logit, a negative or NaN temperature;
    /// `StateMismatch` when nothing is allowed.
    pub fn load(
        &mut self,
        logits: LogitsRow<'_>,
        allowed: Option<&[u32]>,
        temperature: f32,
    ) -> Result<()> {
        if !(0.0..f32::INFINITY).contains(&temperature) {
            return Err(Error::input(
                "temperature",
                format!("{temperature} is not a finite number from 0 up"),
            ));
        }
        self.scaled.clear();
        logits.extend_into(&mut self.scaled);
        if let Some(row) = allowed {
            mask::apply(row, &mut self.scaled);
        }
        self.greedy = temperature < GREEDY_TEMPERATURE;
        if !self.greedy && temperature != 1.0 {
            let inv = 1.0 / temperature;
            self.scaled.iter_mut().for_each(|x| *x *= inv);
        }
        self.settle()
    }

    /// Recomputes the maximum after the row was edited; checks it.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn settle(&mut self) -> Result<()> {
        self.blocks.clear();
        let mut max = f32::NEG_INFINITY;
        let mut bad = false;
        for &x in &self.scaled {
            bad |= is_bad(x);
            max = if x > max { x } else { max };
        }
        if bad {
            let (i, x) = self
                .scaled
                .iter()
                .enumerate()
                .find(|(_, x)| is_bad(**x))
                .map_or((0, f32::NAN), |(i, x)| (i, *x));
            return Err(Error::input(
                "logits",
                format!("logit {i} is {x}; logits must be finite or -inf"),
            ));
        }
        if max == f32::NEG_INFINITY {
            return Err(Error::state(
                "draw",
                "a row with at least one allowed token",
                "a row of all -inf",
            ));
        }
        self.max = max;
        self.argmax = self.scaled.iter().position(|&x| x == max).map_or(0, |i| i as TokenId);
        Ok(())
    }

    /// Logits over temperature; `-inf` where removed.
    pub fn scaled(&self) -> &[f32] {
        &self.scaled
    }

    /// The same, for truncation rules. Call [`settle`](Self::settle) after removing tokens unless
    /// the arg-max surely stayed.
    pub fn scaled_mut(&mut self) -> &mut [f32] {
        self.blocks.clear();
        &mut self.scaled
    }

    /// Largest scaled logit.
    pub fn max(&self) -> f32 {
        self.max
    }

    /// The lowest arg-max.
    pub fn argmax(&self) -> TokenId {
        self.argmax
    }

    /// Whether the law is the point mass on the arg-max.
    pub fn is_greedy(&self) -> bool {
        self.greedy
    }

    /// Σ exp(scaled - max), in the frozen order.
    pub fn total(&mut self) -> f64 {
        if self.blocks.is_empty() {
            let max = self.max;
            self.blocks.extend(self.scaled.chunks(BLOCK).map(|c| numerics::block_sum(c, max)));
            self.total = self.blocks.iter().sum();
        }
        self.total
    }

    /// Natural log-probability of a token under the law; `-inf` where removed.
    pub fn log_prob(&mut self, token: TokenId) -> f32 {
        if self.greedy {
            return if token == self.argmax { 0.0 } else { f32::NEG_INFINITY };
        }
        let total = self.total();
        match self.scaled.get(token as usize) {
            Some(&x) => (f64::from(x) - f64::from(self.max) - total.ln()) as f32,
            None => f32::NEG_INFINITY,
        }
    }

    /// The probabilities, in f64, for enumerators and reports: O(V), allocates.
    pub fn probabilities(&mut self) -> Vec<f64> {
        if self.greedy {
            let mut p = vec![0.0; self.scaled.len()];
            p[self.argmax as usize] = 1.0;
            return p;
        }
        let total = self.total();
        self.scaled.iter().map(|&x| f64::from(exp_neg(x - self.max)) / total).collect()
    }

    /// Draws the token at `address` by the request's draw.
    pub fn draw(&mut self, draw: Draw, address: Address) -> TokenId {
        if self.greedy {
            return self.argmax;
        }
        match draw {
            Draw::Cdf => self.draw_cdf(address.uniform(Purpose::Cdf, 0)),
            Draw::Race => self.draw_race(address),
        }
    }

    /// Inverse CDF at `u` in `[0, 1)`: finds the block, then the token in it.
    pub fn draw_cdf(&mut self, u: f64) -> TokenId {
        let total = self.total();
        let target = u * total;
        let mut before = 0.0;
        let mut last = self.argmax;
        for (b, &sum) in self.blocks.iter().enumerate() {
            if sum == 0.0 {
                continue;
            }
            if before + sum > target {
                let start = b * BLOCK;
                let end = self.scaled.len().min(start + BLOCK);
                let mut cumulative = before;
                for (i, &x) in self.scaled[start..end].iter().enumerate() {
                    let w = f64::from(exp_neg(x - self.max));
                    if w > 0.0 {
                        last = (start + i) as TokenId;
                        cumulative += w;
                        if cumulative > target {
                            return last;
                        }
                    }
                }
                // The block's own order of summation came out an ulp higher: its last token.
                return last;
            }
            before += sum;
        }
        // u * total rounded up to the total: the last token with weight.
        self.scaled
            .iter()
            .rposition(|&x| exp_neg(x - self.max) > 0.0)
            .map_or(last, |i| i as TokenId)
    }

    /// Gumbel race with the words of `address`; removed tokens do not run.
    pub fn draw_race(&self, address: Address) -> TokenId {
        let mut best = (f32::NEG_INFINITY, self.argmax);
        for (block, chunk) in self.scaled.chunks(4).enumerate() {
            // The noise is at most 22.88: skip blocks that cannot win.
            let top = chunk.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            if top + 22.9 < best.0 || top == f32::NEG_INFINITY {
                continue;
            }
            let words = address.block(Purpose::Race, block as u32);
            for (lane, (&x, &w)) in chunk.iter().zip(&words).enumerate() {
                let key = x + numerics::gumbel(w);
                if key > best.0 {
                    best = (key, (block * 4 + lane) as TokenId);
                }
            }
        }
        best.1
    }
}

/// Slow twins of the draws: one loop, no blocks, no skipping.
pub mod naive {
    use super::{Address, BLOCK, TokenId, exp_neg, numerics};

    /// Inverse CDF by the definition: cumulative weight, blocks summed first.
    pub fn draw_cdf(scaled: &[f32], u: f64) -> TokenId {
        let max = scaled.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sums: Vec<f64> = scaled.chunks(BLOCK).map(|c| numerics::block_sum(c, max)).collect();
        let target = u * sums.iter().sum::<f64>();
        let mut answer = None;
        let mut last = 0;
        for t in 0..scaled.len() {
            let w = f64::from(exp_neg(scaled[t] - max));
            let before: f64 = sums[..t / BLOCK].iter().sum();
            let block_hit = before + sums[t / BLOCK] > target;
            let inside: f64 = scaled[t / BLOCK * BLOCK..=t]
                .iter()
                .fold(before, |c, &x| c + f64::from(exp_neg(x - max)));
            if w > 0.0 {
                last = t;
                if block_hit && inside > target {
                    return t as TokenId;
                }
                if block_hit && answer.is_none_or(|a: usize| a / BLOCK == t / BLOCK) {
                    answer = Some(t);
                }
            }
        }
        answer.unwrap_or(last) as TokenId
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(logits: &[f32]) -> ScaledRow {
        let mut r = ScaledRow::new();
        r.load(logits.into(), None, 1.0).unwrap();
        r
    }

    fn logit() -> impl Strategy<Value = f32> {
        prop_oneof![8 => -20f32..20.0, 1 => Just(f32::NEG_INFINITY), 1 => Just(0.0)]
    }

    proptest! {
        #[test]
        fn draws_equal_their_twins(
            logits in prop::collection::vec(logit(), 1..700), seed: u64, index: u32, u in 0f64..1.0,
        ) {
            prop_assume!(logits.iter().any(|x| x.is_finite()));
            let mut r = row(&logits);
            for u in [u, 0.0, 1.0 - f64::EPSILON / 2.0] {
                let t = r.draw_cdf(u);
                prop_assert_eq!(t, naive::draw_cdf(&logits, u));
                prop_assert!(logits[t as usize] > f32::NEG_INFINITY);
            }
            let a = Address::new(seed, index, 0);
            prop_assert_eq!(r.draw_race(a), naive::draw_race(&logits, a));
        }
    }

    /// Chi-square on 5 tokens, both draws; 12.0 sigma of a chi-square with 4 degrees: p < 1e-9.
    #[test]
    fn draws_follow_the_law() {
        let p = [0.5f64, 0.25, 0.15, 0.07, 0.03];
        let logits: Vec<f32> = p.iter().map(|x| x.ln() as f32).collect();
        for draw in [Draw::Cdf, Draw::Race] {
            let mut r = row(&logits);
            let n = 40_000u32;
            let mut counts = [0u32; 5];
            for i in 0..n {
                counts[r.draw(draw, Address::new(11, i, 0)) as usize] += 1;
            }
            let chi: f64 = p
                .iter()
                .zip(counts)
                .map(|(p, c)| (f64::from(c) - p * f64::from(n)).powi(2) / (p * f64::from(n)))
                .sum();
            assert!(chi < 48.0, "{draw:?} {counts:?} {chi}");
        }
    }

    #[test]
    fn bad_rows_are_typed_errors() {
        let mut r = ScaledRow::new();
        for bad in [f32::NAN, f32::INFINITY] {
            let e = r.load((&[0.0, bad][..]).into(), None, 1.0).unwrap_err();
            assert!(matches!(e, Error::InvalidInput { .. }), "{e}");
        }
        let e = r.load((&[f32::NEG_INFINITY; 3][..]).into(), None, 1.0).unwrap_err();
        assert!(matches!(e, Error::StateMismatch { .. }));
        let e = r.load((&[1.0, 2.0][..]).into(), Some(&[0]), 0.0).unwrap_err();
        assert!(matches!(e, Error::StateMismatch { .. }));
        assert!(r.load((&[1.0][..]).into(), None, f32::NAN).is_err());
        assert!(r.load((&[1.0][..]).into(), None, -1.0).is_err());
        r.load((&[1.0, 5.0][..]).into(), Some(&[1]), 0.0).unwrap();
        assert_eq!((r.argmax(), r.log_prob(0), r.log_prob(1)), (0, 0.0, f32::NEG_INFINITY));
    }
}
