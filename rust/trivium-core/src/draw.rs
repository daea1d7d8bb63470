//! The processed law of one row, and the two draws over it.
//!
//! `cdf`: the smallest token whose cumulative weight exceeds `u * total`, token-id order, one
//! scalar. `race`: the largest `scaled + gumbel`, one race word a token (Gumbel-max). Both are
//! frozen under `rng = 1`; which of them a request uses is part of its seeded text.
//!
//! A token's weight is `weight(scaled - top)` of [`numerics`](crate::numerics), `top` the largest
//! value of its block of [`BLOCK`]; a block's mass is the sum of its weights, in f64 and in the
//! order of `block_sum`, times `weight(top - max)`; masses are added in block order. So a draw is
//! one fixed function of (row, u) on every machine, one read of the row finds every mass, and
//! only the block that the draw falls into is touched again.

mod draws;
mod masses;
pub mod naive;

use crate::error::{Error, Result};
use crate::ids::TokenId;
use crate::logits::LogitsRow;
use crate::mask;
use crate::numerics::{BLOCK, exp_neg};
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

#[cfg(test)]
mod tests;
