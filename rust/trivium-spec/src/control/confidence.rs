//! Stops behind a token whose law was unsure: Kangaroo, SWIFT; Draft & Verify with a moving threshold.
//!
//! ```text
//! include x_i; if max q_i < θ stop        Kangaroo 0.6 and 6 tokens, SWIFT 0.8 and 25
//! Draft & Verify: m = m / 2 + accepted / (2 drafted);  θ' = θ + 0.01 if m <= 0.9 else θ - 0.01
//!                 θ = 0.9 θ + 0.1 θ';  from 0.5, at most 8 tokens
//! ```
//!
//! "Kangaroo: Lossless Self-Speculative Decoding via Double Early Exiting"; "SWIFT: On-the-Fly
//! Self-Speculative Decoding for LLM Inference Acceleration"; "Draft & Verify: Lossless Large
//! Language Model Acceleration via Self-Speculative Decoding". The unsure token stays in the draft:
//! its row is computed anyway, and discarding it would bias drawn drafts.

use super::{Controller, DraftCtx, Feedback, QSummary, StepCtx};

/// A fixed threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Confidence {
    /// Least top probability to go on.
    pub threshold: f64,
    /// Most tokens.
    pub max: usize,
}

impl Controller for Confidence {
    fn length(&self, _step: StepCtx<'_>) -> usize {
        self.max
    }

    fn after_include(&self, _ctx: DraftCtx, q: QSummary, _p: f64) -> bool {
        q.top >= self.threshold
    }

    fn fork(&self) -> Box<dyn Controller> {
        Box::new(*self)
    }
}

/// A threshold that follows the share of accepted drafts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DraftVerify {
    threshold: f64,
    matchness: f64,
    max: usize,
}

impl DraftVerify {
    /// Starts from a threshold; published 0.5 and 8.
    pub fn new(threshold: f64, max: usize) -> Self {
        Self { threshold, matchness: 1.0, max }
    }

    /// The threshold now.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }
}

impl Controller for DraftVerify {
    fn length(&self, _step: StepCtx<'_>) -> usize {
        self.max
    }

    fn after_include(&self, _ctx: DraftCtx, q: QSummary, _p: f64) -> bool {
        q.top >= self.threshold
    }

    fn report(&mut self, f: &Feedback<'_>) {
        if f.depth == 0 {
            return;
        }
        self.matchness = f64::midpoint(self.matchness, f.accepted as f64 / f.depth as f64);
        let step = if self.matchness <= 0.9 { 0.01 } else { -0.01 };
        self.threshold = (self.threshold + 0.1 * step).clamp(0.0, 1.0);
    }

    fn fork(&self) -> Box<dyn Controller> {
        Box::new(*self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{at, q, told};
    use super::*;

    #[test]
    fn kangaroo_keeps_the_unsure_token_and_stops_behind_it() {
        let c = Confidence { threshold: 0.6, max: 6 };
        assert!(c.before_sample(at(0, 1.0), q(0.1, 3.0)), "an unsure law is still drawn from");
        assert!(!c.after_include(at(1, 1.0), q(0.59, 1.0), 0.59));
        assert!(c.after_include(at(1, 1.0), q(0.6, 1.0), 0.01), "the law decides, not the token");
    }

    #[test]
    fn the_threshold_follows_the_matches() {
        let mut c = DraftVerify::new(0.5, 8);
        c.report(&told(8, 4, 4));
        assert!((c.threshold() - 0.499).abs() < 1e-12);
        c.report(&told(8, 4, 1));
        assert!((c.threshold() - 0.5).abs() < 1e-12);
        // By the published form: th = 0.9 th + 0.1 (th + 0.01).
        let th = c.threshold();
        c.report(&told(8, 4, 0));
        assert!((c.threshold() - (0.9 * th + 0.1 * (th + 0.01))).abs() < 1e-12);
    }
}
