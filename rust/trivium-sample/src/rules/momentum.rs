//! Momentum decoding: greedy, with a resistance against going round in circles.
//!
//! Lan et al., "Momentum Decoding: Open-ended Text Generation As Graph Exploration" (2022). The text is
//! a walk on a graph whose nodes are its distinct tokens.
//!
//! ```text
//! v* = argmax p; if v* is not in the text, v* is chosen
//! else of the k best: l(v) = longest suffix of text + v that occurred in the text, at most `cap`
//!      argmax p(v) - alpha R(l(v))
//! ```
//!
//! `R` is a table; lengths beyond it have infinite resistance. Equal scores go to the more likely
//! token, then to the lowest id. The rule keeps one token, so that every draw is the choice; with
//! `alpha = 0` or `k = 1` it is greedy. `l` is found by one scan of the text, and only where `v*` was
//! seen: O(k n), no state, hence nothing to fork or roll back.

use super::{Context, Phase, Processor, Row, Scratch, range, top_k};
use serde::{Deserialize, Serialize};
use trivium_core::TokenId;
use trivium_core::error::{Error, Result};

/// Parameters of momentum decoding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Momentum {
    /// Strength of the resistance.
    #[serde(default = "fifth")]
    pub alpha: f32,
    /// Candidates.
    #[serde(default = "five")]
    pub k: usize,
    /// R by length, from 0; infinite beyond.
    #[serde(default = "linear")]
    pub resistance: Vec<f32>,
    /// Longer repetitions count as this long.
    #[serde(default = "five")]
    pub cap: usize,
    /// Whether the prompt is part of the graph.
    #[serde(default = "yes")]
    pub include_prompt: bool,
}

fn fifth() -> f32 {
    0.2
}

fn five() -> usize {
    5
}

fn linear() -> Vec<f32> {
    vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
}

fn yes() -> bool {
    true
}

impl Default for Momentum {
    fn default() -> Self {
        Self { alpha: 0.2, k: 5, resistance: linear(), cap: 5, include_prompt: true }
    }
}

impl Processor for Momentum {
    fn phase(&self) -> Phase {
        Phase::Truncation
    }

    fn check(&self) -> Result<()> {
        range("alpha", self.alpha, (0.0..f32::INFINITY).contains(&self.alpha), "[0, inf)")?;
        range("k", self.k, self.k > 0, "1..")?;
        range("cap", self.cap, (1..=64).contains(&self.cap), "1..=64")?;
        if self.resistance.iter().all(|r| (0.0..f32::INFINITY).contains(r)) {
            return Ok(());
        }
        Err(Error::input("resistance", "holds a number outside [0, inf)"))
    }

    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()> {
        let (law, scratch) = row.law()?;
        let greedy = law.argmax();
        let history = context.history;
        let part = if self.include_prompt { history.len() } else { history.generated_len() };
        history.last(part, &mut scratch.tokens);
        if self.alpha == 0.0 || self.k == 1 || !scratch.tokens.contains(&greedy) {
            return law.keep(&[greedy]);
        }
        let log_total = f64::from(law.max()) + law.total().ln();
        top_k::apply(law, self.k, false, scratch)?;
        let Scratch { ids, tokens: text, pairs, .. } = scratch;
        ids.clear();
        law.collect_at_least(f32::MIN, ids);
        pairs.clear();
        pairs.extend(ids.iter().map(|&t| (t, 0)));
        lengths(text, self.cap, pairs);
        let logit = |t: TokenId| law.scaled()[t as usize];
        let score = |&(t, length): &(TokenId, u32)| match self.resistance.get(length as usize) {
            Some(&r) => {
                (f64::from(logit(t)) - log_total).exp() - f64::from(self.alpha) * f64::from(r)
            }
            None => f64::NEG_INFINITY,
        };
        // Ids ascend: of equals the first stays.
        let best = pairs.iter().copied().reduce(|a, b| {
            let better = score(&b).total_cmp(&score(&a)).then(logit(b.0).total_cmp(&logit(a.0)));
            if better.is_gt() { b } else { a }
        });
        law.keep(&[best.map_or(greedy, |b| b.0)])
    }
}

/// Writes to every candidate the length of the longest suffix of `text` + candidate that occurs in
/// `text`, at most `cap`.
fn lengths(text: &[TokenId], cap: usize, candidates: &mut [(TokenId, u32)]) {
    for (i, &token) in text.iter().enumerate() {
        let Some(candidate) = candidates.iter_mut().find(|c| c.0 == token) else { continue };
        let before = text[..i].iter().rev().zip(text.iter().rev());
        let common = before.take(cap - 1).take_while(|(a, b)| a == b).count();
        candidate.1 = candidate.1.max(1 + common as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The definition: every suffix, every place.
        #[test]
        fn lengths_equal_a_scan(
            text in prop::collection::vec(0u32..4, 0..40), cap in 1usize..7,
        ) {
            let mut found: Vec<(u32, u32)> = (0..5).map(|t| (t, 0)).collect();
            lengths(&text, cap, &mut found);
            for (token, length) in found {
                let mut whole = text.clone();
                whole.push(token);
                let want = (0..=cap.min(text.len()))
                    .rev()
                    .find(|&n| n == 0 || text.windows(n).any(|w| w == &whole[whole.len() - n..]));
                prop_assert_eq!(Some(length as usize), want);
            }
        }
    }
}
