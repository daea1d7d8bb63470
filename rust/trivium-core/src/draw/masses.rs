//! Masses of a row by blocks, in the frozen order, and what is read off them.

use super::{ScaledRow, for_blocks};
use crate::ids::TokenId;
use crate::numerics::{self, BLOCK, PARTS};
use crate::simd;

impl ScaledRow {
    /// Σ weight(scaled - max), by blocks in the frozen order.
    pub fn total(&mut self) -> f64 {
        if self.blocks.is_empty() {
            if self.sparse {
                self.weigh_kept();
            } else {
                simd::weigh(&self.scaled, &mut self.tops, &mut self.blocks);
            }
            self.settle_blocks();
        }
        self.total
    }

    /// Sums and maxima of the blocks of a sparse row. Removed tokens would add zeros to the partial
    /// sums: leaving them out changes no bit.
    fn weigh_kept(&mut self) {
        let Self { scaled, tops, blocks, kept, .. } = self;
        let len = scaled.len().div_ceil(BLOCK);
        tops.resize(len, f32::NEG_INFINITY);
        blocks.resize(len, 0.0);
        let (mut values, mut weights) = ([0f32; BLOCK], [0f32; BLOCK]);
        for_blocks(kept, |b, ids| {
            let values = &mut values[..ids.len()];
            let mut top = f32::NEG_INFINITY;
            for (v, &t) in values.iter_mut().zip(ids) {
                *v = scaled[t as usize];
                top = if *v > top { *v } else { top };
            }
            simd::weights(values, top, &mut weights);
            let mut parts = [0f64; PARTS];
            for (&w, &t) in weights.iter().zip(ids) {
                parts[t as usize % PARTS] += f64::from(w);
            }
            tops[b] = top;
            blocks[b] = numerics::halve(parts);
        });
    }

    /// Turns the blocks' sums into masses relative to the row's maximum, and adds them.
    pub(super) fn settle_blocks(&mut self) {
        let mut factors = [0f32; BLOCK];
        self.total = 0.0;
        for (tops, sums) in self.tops.chunks(BLOCK).zip(self.blocks.chunks_mut(BLOCK)) {
            simd::weights(tops, self.max, &mut factors);
            for (sum, &factor) in sums.iter_mut().zip(&factors) {
                *sum *= f64::from(factor);
                self.total += *sum;
            }
        }
    }

    /// Natural log-probability of a token under the law; `-inf` where removed.
    pub fn log_prob(&mut self, token: TokenId) -> f32 {
        if self.greedy {
            return if token == self.argmax { 0.0 } else { f32::NEG_INFINITY };
        }
        let total = match self.mass {
            Some(mass) if self.blocks.is_empty() => mass,
            _ => self.total(),
        };
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
        let mut p = Vec::with_capacity(self.scaled.len());
        for (b, block) in self.scaled.chunks(BLOCK).enumerate() {
            let (weights, factor) = self.weights_of(b);
            p.extend(weights[..block.len()].iter().map(|&w| f64::from(w) * factor / total));
        }
        p
    }

    /// Weights of the tokens of a weighed block, and the factor that makes them relative to the
    /// row's maximum.
    pub(super) fn weights_of(&self, block: usize) -> ([f32; BLOCK], f64) {
        let start = block * BLOCK;
        let end = self.scaled.len().min(start + BLOCK);
        let mut weights = [0f32; BLOCK];
        simd::weights(&self.scaled[start..end], self.tops[block], &mut weights);
        (weights, f64::from(numerics::weight(self.tops[block] - self.max)))
    }

    /// The weights `weight(scaled - max)` of every token, for verifiers that compare laws; returns
    /// their sum, which is [`total`](Self::total) up to rounding. One weight of 1 where the law is
    /// greedy.
    pub fn weights_into(&mut self, out: &mut Vec<f32>) -> f64 {
        out.clear();
        if self.greedy {
            out.resize(self.scaled.len(), 0.0);
            out[self.argmax as usize] = 1.0;
            return 1.0;
        }
        let total = simd::weigh_row(&self.scaled, self.max, out);
        self.mass = Some(total);
        total
    }
}
