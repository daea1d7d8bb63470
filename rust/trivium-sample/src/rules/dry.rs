//! DRY (don't repeat yourself): penalises the token that would extend a verbatim repetition.
//!
//! Weidmann, "DRY: A modern repetition penalty that reliably prevents looping".
//!
//! ```text
//! h = the last `window` tokens; limit = tokens after the most recent breaker
//! z[i] = longest common suffix of h[..i] and h[..end], cut at limit, for every i < end
//! for i with z[i] >= allowed:  best[h[i]] = max(best[h[i]], z[i])
//! for each candidate:          z_cand -= multiplier * base ^ min(best - allowed, cap)
//! ```
//!
//! All suffix lengths come from one Z-function of the reversed window, O(window). `cap` keeps the
//! power finite: `floor(ln(f32::MAX) / ln(base))`.

use super::{Context, Phase, Processor, Row, Scratch, change, range};
use serde::{Deserialize, Serialize};
use trivium_core::TokenId;
use trivium_core::error::Result;

/// Parameters of DRY.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dry {
    /// Strength; 0 is neutral, 0.8 is usual.
    pub multiplier: f32,
    /// Growth a token of repetition.
    #[serde(default = "base")]
    pub base: f32,
    /// Repetitions shorter than this are free.
    #[serde(default = "two")]
    pub allowed: usize,
    /// Tokens looked back at, prompt included.
    #[serde(default = "window")]
    pub window: usize,
    /// Tokens over which no repetition reaches.
    #[serde(default)]
    pub breakers: Vec<TokenId>,
}

fn base() -> f32 {
    1.75
}

fn two() -> usize {
    2
}

fn window() -> usize {
    1024
}

impl Processor for Dry {
    fn phase(&self) -> Phase {
        Phase::Edit
    }

    fn check(&self) -> Result<()> {
        let m = self.multiplier;
        range("multiplier", m, (0.0..f32::INFINITY).contains(&m), "[0, inf)")?;
        range("base", self.base, (1.0..f32::INFINITY).contains(&self.base), "[1, inf)")?;
        range("allowed", self.allowed, self.allowed > 0, "1..")
    }

    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()> {
        if self.multiplier == 0.0 {
            return Ok(());
        }
        let Scratch { tokens, lengths, pairs, .. } = &mut *row.scratch;
        context.history.last(self.window, tokens);
        let end = tokens.len();
        tokens.reverse();
        let limit = tokens.iter().position(|t| self.breakers.contains(t)).unwrap_or(end).min(end);
        if limit < self.allowed {
            return Ok(());
        }
        z_function(tokens, lengths);
        pairs.clear();
        for back in 1..end {
            // h[..i] with i = end - back; the token that followed it is h[i].
            let length = (lengths[back] as usize).min(limit);
            if length >= self.allowed {
                pairs.push((tokens[back - 1], length as u32));
            }
        }
        if pairs.is_empty() {
            return Ok(());
        }
        pairs.sort_unstable();
        let cap = self.cap();
        let (logits, Scratch { pairs, .. }) = row.edit();
        for group in pairs.chunk_by(|a, b| a.0 == b.0) {
            // Sorted: the last of a group is the longest.
            let Some(&(token, length)) = group.last() else { continue };
            let power = (length as usize - self.allowed).min(cap) as f64;
            let penalty = f64::from(self.multiplier) * f64::from(self.base).powf(power);
            change(logits, token, |z| (f64::from(z) - penalty) as f32);
        }
        Ok(())
    }

    fn is_neutral(&self) -> bool {
        self.multiplier == 0.0
    }
}

impl Dry {
    fn cap(&self) -> usize {
        if self.base <= 1.000_001 {
            return usize::MAX;
        }
        (f32::MAX.ln() / self.base.ln()).floor() as usize
    }
}

/// Longest common prefix of a sequence with each of its suffixes, in linear time.
pub(crate) fn z_function(s: &[TokenId], z: &mut Vec<u32>) {
    z.clear();
    z.resize(s.len(), 0);
    let (mut left, mut right) = (0, 0);
    for i in 1..s.len() {
        let mut k = if i < right { (z[i - left] as usize).min(right - i) } else { 0 };
        while i + k < s.len() && s[k] == s[i + k] {
            k += 1;
        }
        z[i] = k as u32;
        if i + k > right {
            (left, right) = (i, i + k);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn z_equals_a_scan(s in prop::collection::vec(0u32..3, 0..60)) {
            let mut z = vec![9];
            z_function(&s, &mut z);
            for i in 1..s.len() {
                let want = s[i..].iter().zip(&s).take_while(|(a, b)| a == b).count();
                prop_assert_eq!(z[i] as usize, want);
            }
        }
    }
}
