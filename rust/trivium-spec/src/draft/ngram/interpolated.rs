//! Superposed Decoding's filter: which of the target's candidates a history of n-grams supports.
//!
//! ```text
//! p(t | h) = sum over orders n = 2..7 of w_n c(h_n t) / c(h_n)         sum of w_n = 1
//! score(t) = (1 - α) log p_model(t) + α log p(t | h),   -200 for the second log where p = 0
//! ```
//!
//! Orders whose history was never seen give their weight to the others. The decoder that uses it
//! (one pass over a superposition of drafts) is lossy by design; the scorer itself also ranks nodes
//! of a draft tree. "Superposed Decoding: Multiple Generations from a Single Autoregressive
//! Inference Pass" (2024). The default weights are those of the released configuration.

use super::counts::{Counts, MAX_HISTORY};
use trivium_core::TokenId;
use trivium_core::error::{Error, Result};

/// Log-probability of a candidate that no order supports.
pub const UNSUPPORTED: f64 = -200.0;

/// Weights of orders 2 to 7 as released.
pub const WEIGHTS: [f64; MAX_HISTORY] = [0.01, 0.04, 0.15, 0.18, 0.12, 0.5];

/// Interpolated n-gram model of orders 2 to 7.
#[derive(Debug, Clone)]
pub struct NgramScorer {
    counts: Counts,
    weights: [f64; MAX_HISTORY],
    max_bytes: usize,
}

impl NgramScorer {
    /// A model of no text; `weights` of orders 2 to 7 are divided by their sum.
    ///
    /// # Errors
    /// `InvalidInput` for negative weights, or none above 0.
    pub fn new(weights: [f64; MAX_HISTORY], max_bytes: usize) -> Result<Self> {
        let sum: f64 = weights.iter().sum();
        if weights.iter().any(|w| *w < 0.0 || !w.is_finite()) || sum <= 0.0 {
            return Err(Error::input("weights", "must be finite, at least 0 and not all 0"));
        }
        let counts = Counts::new(1, MAX_HISTORY);
        Ok(Self { counts, weights: weights.map(|w| w / sum), max_bytes })
    }

    /// Counts a text.
    ///
    /// # Errors
    /// `InvalidInput` if the tables would hold more than their bytes; the text is not counted then.
    pub fn add(&mut self, text: &[TokenId]) -> Result<()> {
        for at in 0..text.len() {
            if self.counts.grown() > self.max_bytes {
                let held = self.counts.memory();
                self.counts.retract(&text[..at], 0);
                return Err(Error::input(
                    "texts",
                    format!("the tables hold {held} bytes, max_bytes is {}", self.max_bytes),
                ));
            }
            self.counts.extend(&text[..=at], at);
        }
        Ok(())
    }

    /// `p(t | h)`: a probability over tokens, or 0 for all where no order knows its history.
    pub fn probability(&self, history: &[TokenId], token: TokenId) -> f64 {
        let (mut p, mut weight) = (0.0, 0.0);
        for (n, w) in (1..).zip(self.weights).take(history.len().min(MAX_HISTORY)) {
            if let Some(row) = self.counts.get(&history[history.len() - n..]) {
                p += w * f64::from(row.count(token)) / f64::from(row.total);
                weight += w;
            }
        }
        if weight > 0.0 { p / weight } else { 0.0 }
    }

    /// Scores candidates with the target's log-probabilities.
    pub fn score(
        &self,
        history: &[TokenId],
        candidates: &[TokenId],
        log_probs: &[f64],
        alpha: f64,
    ) -> Vec<f64> {
        let one = |(&t, &lp): (&TokenId, &f64)| {
            let p = self.probability(history, t);
            let log_p = if p > 0.0 { p.ln() } else { UNSUPPORTED };
            (1.0 - alpha) * lp + alpha * log_p
        };
        candidates.iter().zip(log_probs).map(one).collect()
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.counts.memory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_scores() {
        let mut m = NgramScorer::new(WEIGHTS, 1 << 20).unwrap();
        assert!((m.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        m.add(&[1, 2, 3, 1, 2, 4]).unwrap();
        // h = (9, 1, 2): order 2 knows 2 -> {3, 4}, order 3 knows (1, 2) -> {3, 4}, order 4 nothing.
        assert!((m.probability(&[9, 1, 2], 3) - 0.5).abs() < 1e-12);
        // h = (3, 1, 2): order 4 knows it -> 4 for sure: (0.05 / 2 + 0.15) / 0.2.
        assert!((m.probability(&[3, 1, 2], 4) - 0.875).abs() < 1e-12);
        let s = m.score(&[3, 1, 2], &[4, 7], &[-1.0, -0.1], 0.5);
        assert!((s[0] - 0.5 * (-1.0 + 0.875f64.ln())).abs() < 1e-12);
        assert!((s[1] - 0.5 * (-0.1 - 200.0)).abs() < 1e-12);
        assert_eq!(m.probability(&[], 1), 0.0);
        assert_eq!(m.probability(&[8], 1), 0.0, "nothing to fall back on");
    }

    #[test]
    fn a_known_history_gives_a_law() {
        let mut m = NgramScorer::new([1.0; 6], 1 << 20).unwrap();
        let text: Vec<u32> = (0..200).map(|i| i * i % 7 % 4).collect();
        m.add(&text).unwrap();
        for end in 1..50 {
            let sum: f64 = (0..4).map(|t| m.probability(&text[..end], t)).sum();
            assert!((sum - 1.0).abs() < 1e-12);
        }
        assert!(NgramScorer::new([0.0; 6], 1).is_err());
        assert!(NgramScorer::new([-1.0, 3.0, 0.0, 0.0, 0.0, 0.0], 1).is_err());
        let mut tiny = NgramScorer::new([1.0; 6], 400_000).unwrap();
        let mut i = 0;
        loop {
            let before = tiny.counts.triples();
            let text: Vec<u32> = (0..30).map(|j| (i * 31 + j * j) % 97).collect();
            let added = tiny.add(&text);
            assert!(tiny.counts.memory() <= 400_000, "{}", tiny.counts.memory());
            if added.is_err() {
                assert_eq!(tiny.counts.triples(), before, "a refused text is not counted");
                break;
            }
            i += 1;
        }
        assert!(i > 2);
    }
}
