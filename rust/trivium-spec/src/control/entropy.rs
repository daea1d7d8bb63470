//! SVIP: stops where the draft law is too flat to be accepted.
//!
//! ```text
//! β = 1 - TV(p, q) >= 1 - sqrt(KL(q, p) / 2)     and the cross-entropy is taken as proportional to H(q)
//! include x_i; stop if sqrt(c H(q_i)) > h          c = 0.15, h = 0.3: H > 0.6 nats; at most 40
//! ```
//!
//! "Draft Model Knows When to Stop: A Self-Verification Length Policy for Speculative Decoding".

use super::{Controller, DraftCtx, QSummary, StepCtx};

/// The entropy bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Svip {
    /// Scale of the entropy.
    pub c: f64,
    /// Threshold.
    pub h: f64,
    /// Most tokens.
    pub max: usize,
}

impl Default for Svip {
    fn default() -> Self {
        Self { c: 0.15, h: 0.3, max: 40 }
    }
}

impl Controller for Svip {
    fn length(&self, _step: StepCtx<'_>) -> usize {
        self.max
    }

    fn after_include(&self, _ctx: DraftCtx, q: QSummary, _p: f64) -> bool {
        (self.c * q.entropy).sqrt() <= self.h
    }

    fn fork(&self) -> Box<dyn Controller> {
        Box::new(*self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{at, q};
    use super::*;

    #[test]
    fn the_threshold_is_six_tenths_of_a_nat() {
        let s = Svip::default();
        let goes = |s: &Svip, h: f64| s.after_include(at(1, 1.0), q(0.5, h), 0.5);
        assert!(goes(&s, 0.0) && goes(&s, 0.599_999) && !goes(&s, 0.600_001));
        // Monotone in h, and a certain law never stops.
        for h in [0.0, 0.1, 0.2, 0.5] {
            let tighter = Svip { h, ..s };
            assert!(goes(&tighter, 0.0));
            for entropy in [0.01, 0.1, 0.3, 0.6, 1.0, 3.0] {
                let wider = Svip { h: h + 0.1, ..s };
                assert!(goes(&wider, entropy) || !goes(&tighter, entropy));
            }
        }
    }
}
