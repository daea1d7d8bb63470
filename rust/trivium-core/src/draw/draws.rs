//! The two draws over a row: inverse CDF and race.

use super::{Draw, ScaledRow};
use crate::ids::TokenId;
use crate::numerics::{self, BLOCK};
use crate::rng::{Address, Purpose};

impl ScaledRow {
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
                let (weights, factor) = self.weights_of(b);
                let start = b * BLOCK;
                let len = BLOCK.min(self.scaled.len() - start);
                let mut cumulative = before;
                for (i, &w) in weights[..len].iter().enumerate().filter(|(_, w)| **w > 0.0) {
                    last = (start + i) as TokenId;
                    cumulative += f64::from(w) * factor;
                    if cumulative > target {
                        break;
                    }
                }
                // Without a break: the block's own order of summation came out an ulp higher.
                return last;
            }
            before += sum;
        }
        // u * total rounded up to the total: the last token with weight.
        for b in (0..self.blocks.len()).rev().filter(|&b| self.blocks[b] > 0.0) {
            if let Some(i) = self.weights_of(b).0.iter().rposition(|&w| w > 0.0) {
                return (b * BLOCK + i) as TokenId;
            }
        }
        last
    }

    /// Gumbel race with the words of `address`; removed tokens do not run.
    pub fn draw_race(&self, address: Address) -> TokenId {
        let mut best = (f32::NEG_INFINITY, self.argmax);
        if self.sparse {
            for &t in &self.kept {
                let x = self.scaled[t as usize];
                if x + 22.9 < best.0 {
                    continue;
                }
                let key = x + numerics::gumbel(address.race_word(t));
                if key > best.0 {
                    best = (key, t);
                }
            }
            return best.1;
        }
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
