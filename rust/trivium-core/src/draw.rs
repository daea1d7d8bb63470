//! The processed law of one row, and the two draws over it.
//!
//! `cdf`: the smallest token whose cumulative weight exceeds `u * total`, token-id order, one
//! scalar. `race`: the largest `scaled + gumbel`, one race word a token (Gumbel-max). Both are
//! frozen under `rng = 1`; which of them a request uses is part of its seeded text.
//!
//! A token's weight is [`numerics::weight`]`(scaled - top)`, `top` the largest value of its block of
//! [`BLOCK`]; a block's mass is the sum of its weights, in f64 and in the order of
//! [`numerics::block_sum`], times `weight(top - max)`; masses are added in block order. So a draw is
//! one fixed function of (row, u) on every machine, one read of the row finds every mass, and
//! only the block that the draw falls into is touched again.

use crate::error::{Error, Result};
use crate::ids::TokenId;
use crate::logits::LogitsRow;
use crate::mask;
use crate::numerics::{self, BLOCK, PARTS, exp_neg};
use crate::rng::{Address, Purpose};
use crate::simd::{self, Moments};

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
    /// Largest value and mass of each block, filled on demand; and the sum of the masses.
    tops: Vec<f32>,
    blocks: Vec<f64>,
    total: f64,
    /// Σ weight(scaled - max), where [`weights_into`](Self::weights_into) came before the blocks.
    mass: Option<f64>,
    /// Nothing will be drawn: do not weigh ahead.
    undrawn: bool,
    /// Largest value of each chunk of [`simd::CHUNK`]; removed tokens may leave it too large. Empty
    /// where unknown.
    maxima: Vec<f32>,
    /// Ascending ids; where `sparse`, every other token is removed.
    kept: Vec<TokenId>,
    sparse: bool,
    /// Values of `kept` while the row around them is cleared.
    saved: Vec<f32>,
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
    /// point mass on the lowest arg-max. Finite logits that a small temperature would carry beyond
    /// f32 are shifted by their maximum first.
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
        self.take(logits, allowed, temperature, false)
    }

    /// As [`load`](Self::load) for a law that nothing will be removed from: the same pass weighs
    /// the row, so that a draw reads no more than one block of it.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_whole(
        &mut self,
        logits: LogitsRow<'_>,
        allowed: Option<&[u32]>,
        temperature: f32,
    ) -> Result<()> {
        self.take(logits, allowed, temperature, true)
    }

    /// Says whether the rows to come are drawn from. Where they are not, because a verifier asks
    /// for [`weights_into`](Self::weights_into), [`load_whole`](Self::load_whole) weighs nothing.
    /// Results are the same.
    pub fn will_draw(&mut self, yes: bool) {
        self.undrawn = !yes;
    }

    fn take(
        &mut self,
        logits: LogitsRow<'_>,
        allowed: Option<&[u32]>,
        temperature: f32,
        whole: bool,
    ) -> Result<()> {
        if !(0.0..f32::INFINITY).contains(&temperature) {
            return Err(Error::input(
                "temperature",
                format!("{temperature} is not a finite number from 0 up"),
            ));
        }
        let greedy = temperature < GREEDY_TEMPERATURE;
        let factor = if greedy || temperature == 1.0 { 1.0 } else { 1.0 / temperature };
        if let (LogitsRow::F32(values), None) = (logits, allowed) {
            self.greedy = greedy;
            let weighed = whole && !greedy && !self.undrawn;
            let bad = if weighed {
                let Self { scaled, tops, blocks, maxima, .. } = self;
                (self.sparse, self.mass) = (false, None);
                maxima.clear();
                simd::load_weighed(values, factor, scaled, tops, blocks);
                blocks.iter().any(|b| b.is_nan())
            } else {
                self.forget_sums();
                self.sparse = false;
                simd::load(values, factor, &mut self.scaled, &mut self.maxima)
            };
            if bad && factor > 1.0 {
                self.load_raw(logits, None);
                self.settle()?;
                return self.rescale(temperature);
            }
            return if weighed { self.finish_weighed(bad) } else { self.finish(bad) };
        }
        self.load_raw(logits, allowed);
        self.greedy = greedy;
        if factor > 1.0 {
            self.settle()?;
            return self.rescale(temperature);
        }
        if factor != 1.0 {
            self.scaled.iter_mut().for_each(|x| *x *= factor);
        }
        self.settle()
    }

    /// Maximum, arg-max and masses from the blocks.
    fn finish_weighed(&mut self, bad: bool) -> Result<()> {
        if bad {
            return Err(self.bad());
        }
        let Some((max, start)) = best(&self.tops) else { return Err(Self::empty()) };
        self.max = max;
        self.argmax = self.find(max, start * BLOCK);
        self.settle_blocks();
        Ok(())
    }

    /// Takes a row of logits and a mask as they are: for laws that edit the row before its first
    /// [`settle`](Self::settle), which must follow.
    pub fn load_raw(&mut self, logits: LogitsRow<'_>, allowed: Option<&[u32]>) {
        self.clear();
        self.greedy = false;
        logits.extend_into(&mut self.scaled);
        if let Some(row) = allowed {
            mask::apply(row, &mut self.scaled);
        }
    }

    fn clear(&mut self) {
        self.scaled.clear();
        self.maxima.clear();
        self.forget_sums();
        self.sparse = false;
    }

    fn forget_sums(&mut self) {
        self.tops.clear();
        self.blocks.clear();
        self.mass = None;
    }

    /// Divides a settled row by a temperature, as [`load`](Self::load) does.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn rescale(&mut self, temperature: f32) -> Result<()> {
        if !(0.0..f32::INFINITY).contains(&temperature) {
            return Err(Error::input(
                "temperature",
                format!("{temperature} is not a finite number from 0 up"),
            ));
        }
        if self.greedy || temperature < GREEDY_TEMPERATURE {
            self.greedy = true;
            return Ok(());
        }
        if temperature == 1.0 {
            return Ok(());
        }
        let factor = 1.0 / temperature;
        // A shift changes no law; it keeps the product finite.
        let shift = if is_bad(self.max.abs() * factor) { self.max } else { 0.0 };
        self.forget_sums();
        if self.sparse {
            for &t in &self.kept {
                let x = &mut self.scaled[t as usize];
                *x = (*x - shift) * factor;
            }
            return self.settle_kept();
        }
        if shift == 0.0 {
            self.scaled.iter_mut().for_each(|x| *x *= factor);
        } else {
            self.scaled.iter_mut().for_each(|x| *x = (*x - shift) * factor);
        }
        self.settle()
    }

    /// Recomputes the maximum after the row was edited; checks it.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn settle(&mut self) -> Result<()> {
        self.forget_sums();
        self.sparse = false;
        self.maxima.clear();
        let bad = simd::chunk_maxima(&self.scaled, &mut self.maxima);
        self.finish(bad)
    }

    /// Maximum and arg-max from the maxima of the chunks.
    fn finish(&mut self, bad: bool) -> Result<()> {
        if bad {
            return Err(self.bad());
        }
        let Some((max, start)) = best(&self.maxima) else { return Err(Self::empty()) };
        self.max = max;
        self.argmax = self.find(max, start * simd::CHUNK);
        Ok(())
    }

    /// The first place of a value from `start` on.
    fn find(&self, value: f32, start: usize) -> TokenId {
        let place = self.scaled[start..].iter().position(|&x| x == value).unwrap_or(0);
        (start + place) as TokenId
    }

    /// Names the value that is no logit.
    fn bad(&self) -> Error {
        let (i, x) = self
            .scaled
            .iter()
            .enumerate()
            .find(|(_, x)| is_bad(**x))
            .map_or((0, f32::NAN), |(i, x)| (i, *x));
        Error::input("logits", format!("logit {i} is {x}; logits must be finite or -inf"))
    }

    fn empty() -> Error {
        Error::state("draw", "a row with at least one allowed token", "a row of all -inf")
    }

    /// Maximum and arg-max of a sparse row.
    fn settle_kept(&mut self) -> Result<()> {
        self.forget_sums();
        let mut best = (f32::NEG_INFINITY, self.argmax);
        for &t in &self.kept {
            let x = self.scaled[t as usize];
            if is_bad(x) {
                return Err(Error::input("logits", format!("logit {t} is {x}")));
            }
            if x > best.0 {
                best = (x, t);
            }
        }
        if best.0 == f32::NEG_INFINITY {
            return Err(Self::empty());
        }
        (self.max, self.argmax) = best;
        Ok(())
    }

    /// Removes every token but `ids` (ascending, in range); the arg-max stays where `ids` names no
    /// token that is left. Where `ids` are few, the row is sparse from then on: sums and draws touch
    /// them alone, with the same bits. One fill of the row, or O(kept) where it was sparse before.
    ///
    /// # Errors
    /// Never for a settled row.
    pub fn keep(&mut self, ids: &[TokenId]) -> Result<()> {
        debug_assert!(ids.windows(2).all(|w| w[0] < w[1]));
        if ids.iter().all(|&t| self.scaled[t as usize] == f32::NEG_INFINITY) {
            let (argmax, max) = (self.argmax, self.max);
            self.scaled.fill(f32::NEG_INFINITY);
            self.scaled[argmax as usize] = max;
            self.kept.clear();
            self.kept.push(argmax);
            self.sparse = true;
            return self.settle_kept();
        }
        self.saved.clear();
        self.saved.extend(ids.iter().map(|&t| self.scaled[t as usize]));
        if self.sparse {
            for &t in &self.kept {
                self.scaled[t as usize] = f32::NEG_INFINITY;
            }
        } else {
            self.scaled.fill(f32::NEG_INFINITY);
        }
        self.kept.clear();
        if !self.sparse && ids.len() > self.scaled.len() / 8 {
            // Too many for a list to pay.
            for (&t, &x) in ids.iter().zip(&self.saved) {
                self.scaled[t as usize] = x;
            }
            return self.settle();
        }
        for (&t, &x) in ids.iter().zip(&self.saved) {
            if x > f32::NEG_INFINITY {
                self.scaled[t as usize] = x;
                self.kept.push(t);
            }
        }
        self.sparse = true;
        self.settle_kept()
    }

    /// The ids that are left, where the row is sparse.
    pub fn kept(&self) -> Option<&[TokenId]> {
        self.sparse.then_some(&self.kept[..])
    }

    /// Appends the ids at or above `floor` (which is above `-inf`), ascending. Chunks whose maximum
    /// is below it are skipped.
    pub fn collect_at_least(&self, floor: f32, out: &mut Vec<TokenId>) {
        if self.sparse {
            out.extend(self.kept.iter().copied().filter(|&t| self.scaled[t as usize] >= floor));
            return;
        }
        // Written without a branch: on a flat row half of them would be guessed wrong.
        let mut take = |start: usize, values: &[f32]| {
            let mut found = [0; simd::CHUNK];
            for (c, chunk) in values.chunks(simd::CHUNK).enumerate() {
                let mut n = 0;
                for (i, &x) in chunk.iter().enumerate() {
                    found[n] = (start + c * simd::CHUNK + i) as TokenId;
                    n += usize::from(x >= floor);
                }
                out.extend_from_slice(&found[..n]);
            }
        };
        if self.maxima.is_empty() {
            take(0, &self.scaled);
            return;
        }
        for (c, &m) in self.maxima.iter().enumerate() {
            if m >= floor {
                let start = c * simd::CHUNK;
                take(start, &self.scaled[start..self.scaled.len().min(start + simd::CHUNK)]);
            }
        }
    }

    /// An upper bound of each chunk of [`simd::CHUNK`] values, where known: at least as many values
    /// as there are bounds at or above any of them.
    pub fn chunk_maxima(&self) -> Option<&[f32]> {
        (!self.sparse && !self.maxima.is_empty()).then_some(&self.maxima[..])
    }

    /// Σ w, Σ w d and the number of tokens left, `w = e^d`, `d = scaled - max`: one pass.
    pub fn moments(&self) -> Moments {
        if !self.sparse {
            return simd::moments(&self.scaled, self.max);
        }
        let mut all = Moments { count: self.kept.len(), ..Moments::default() };
        for_blocks(&self.kept, |_, ids| {
            let (mut mass, mut weighted) = ([0f64; 8], [0f64; 8]);
            for &t in ids {
                let d = self.scaled[t as usize] - self.max;
                let w = f64::from(exp_neg(d));
                mass[t as usize & 7] += w;
                weighted[t as usize & 7] += w * f64::from(if d > -128.0 { d } else { -128.0 });
            }
            all.mass += simd::pairwise(mass);
            all.weighted += simd::pairwise(weighted);
        });
        all
    }

    /// Makes the law the point mass on the arg-max.
    pub fn make_greedy(&mut self) {
        self.greedy = true;
    }

    /// Logits over temperature; `-inf` where removed.
    pub fn scaled(&self) -> &[f32] {
        &self.scaled
    }

    /// The same, for truncation rules. Call [`settle`](Self::settle) after removing tokens unless
    /// the arg-max surely stayed.
    pub fn scaled_mut(&mut self) -> &mut [f32] {
        self.forget_sums();
        self.maxima.clear();
        self.sparse = false;
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
    fn settle_blocks(&mut self) {
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
    fn weights_of(&self, block: usize) -> ([f32; BLOCK], f64) {
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

/// The largest value and its first place; `None` where all are `-inf`.
fn best(values: &[f32]) -> Option<(f32, usize)> {
    let mut best = (f32::NEG_INFINITY, None);
    for (i, &x) in values.iter().enumerate() {
        if x > best.0 {
            best = (x, Some(i));
        }
    }
    best.1.map(|i| (best.0, i))
}

/// Calls `f` with the index of each block of [`BLOCK`] that holds ids, and its ids.
fn for_blocks(ids: &[TokenId], mut f: impl FnMut(usize, &[TokenId])) {
    let mut rest = ids;
    while let Some(&first) = rest.first() {
        let block = first as usize / BLOCK;
        let end = rest.partition_point(|&t| t as usize / BLOCK == block);
        f(block, &rest[..end]);
        rest = &rest[end..];
    }
}

/// Slow twins of the draws: one loop, no blocks, no skipping.
pub mod naive {
    use super::{Address, BLOCK, TokenId, numerics};
    use crate::numerics::weight;

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

    proptest! {
        /// A sparse row is its dense twin in every sum and draw, bit for bit.
        #[test]
        fn sparse_rows_equal_dense_ones(
            logits in prop::collection::vec(logit(), 1..900), keep in prop::collection::vec(0u8..6, 900),
            again in prop::collection::vec(0u8..12, 900), seed: u64, u in 0f64..1.0,
            temperature in 0.2f32..3.0,
        ) {
            prop_assume!(logits.iter().any(|x| x.is_finite()));
            let mut r = row(&logits);
            let mut dense = logits.clone();
            for chosen in [keep, again] {
                let ids: Vec<u32> = (0..logits.len() as u32)
                    .filter(|&t| chosen[t as usize] == 0 && r.scaled()[t as usize] > f32::NEG_INFINITY)
                    .collect();
                prop_assume!(!ids.is_empty());
                r.keep(&ids).unwrap();
                for (t, x) in dense.iter_mut().enumerate() {
                    if !ids.contains(&(t as u32)) {
                        *x = f32::NEG_INFINITY;
                    }
                }
                if let Some(kept) = r.kept() {
                    prop_assert_eq!(kept, &ids[..]);
                }
            }
            let mut d = row(&dense);
            r.rescale(temperature).unwrap();
            d.rescale(temperature).unwrap();
            prop_assert_eq!(r.scaled(), d.scaled());
            prop_assert_eq!((r.max(), r.argmax()), (d.max(), d.argmax()));
            prop_assert_eq!(r.total().to_bits(), d.total().to_bits());
            prop_assert_eq!(r.moments(), d.moments());
            prop_assert_eq!(r.draw_cdf(u), d.draw_cdf(u));
            let a = Address::new(seed, 3, 1);
            prop_assert_eq!(r.draw_race(a), d.draw_race(a));
            let (mut a, mut b) = (vec![], vec![]);
            r.collect_at_least(-2.0, &mut a);
            d.collect_at_least(-2.0, &mut b);
            prop_assert_eq!(a, b);
        }
    }

    #[test]
    fn temperatures_do_not_overflow() {
        let mut r = ScaledRow::new();
        for allowed in [None, Some(&[7u32][..])] {
            r.load((&[1e38f32, 1e38, -1e38][..]).into(), allowed, 1e-3).unwrap();
            assert_eq!(r.probabilities(), [0.5, 0.5, 0.0]);
        }
        r.load((&[1e38f32, f32::NAN][..]).into(), None, 0.1).unwrap_err();
        r.load((&[f32::INFINITY, 0.0][..]).into(), None, 0.1).unwrap_err();
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
