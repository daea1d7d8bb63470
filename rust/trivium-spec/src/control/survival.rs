//! SpecDec++: stops once some pending token is probably wrong.
//!
//! ```text
//! include x_i; stop if 1 - Π_{j <= i} a_j > h      h = 0.7, and 2 <= i <= 20
//! ```
//!
//! "SpecDec++: Boosting Speculative Decoding via Adaptive Candidate Lengths". Drafting is a Markov
//! decision process whose optimal policy is a threshold on that probability. The paper trains a head
//! for `a_j`; here the draft probability goes through a calibrator that learns online, and stores
//! bring calibrated estimates of their own. With a head that scores the token before, `a_1 = 1`.

use super::{Calibrator, Controller, DraftCtx, Feedback, QSummary, StepCtx};

/// The threshold on the product of acceptance estimates.
#[derive(Debug, Clone, PartialEq)]
pub struct SpecDecPp {
    /// Most probability that a pending token is wrong.
    pub h: f64,
    /// Fewest tokens.
    pub min: usize,
    /// Most tokens.
    pub max: usize,
    calibrator: Calibrator,
}

impl SpecDecPp {
    /// Published: 0.7, 2, 20.
    pub fn new(h: f64, min: usize, max: usize) -> Self {
        Self { h, min, max, calibrator: Calibrator::new() }
    }
}

impl Controller for SpecDecPp {
    fn length(&self, _step: StepCtx<'_>) -> usize {
        self.max
    }

    fn after_include(&self, ctx: DraftCtx, _q: QSummary, _p: f64) -> bool {
        ctx.position < self.min || 1.0 - ctx.survival <= self.h
    }

    fn calibrated(&self, p: f64) -> f64 {
        self.calibrator.probability(p)
    }

    fn report(&mut self, feedback: &Feedback<'_>) {
        for r in feedback.path {
            self.calibrator.record(r.p, r.accepted);
        }
    }

    fn fork(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{at, q};
    use super::*;

    #[test]
    fn products_decide_within_bounds() {
        let s = SpecDecPp::new(0.7, 2, 20);
        // Logs and products agree: 0.9^i < 0.3 from the 12th token on.
        let mut log = 0.0f64;
        for i in 1..=20 {
            log += 0.9f64.ln();
            let goes = s.after_include(at(i, log.exp()), q(0.9, 0.3), 0.9);
            assert_eq!(goes, i < 2 || 0.9f64.powi(i as i32) >= 0.3, "{i}");
            assert_eq!(goes, i < 12);
        }
        assert!(s.after_include(at(1, 0.0), q(0.1, 3.0), 0.0), "never before two tokens");
        assert!(!s.after_include(at(2, 0.0), q(0.1, 3.0), 0.0));
        assert_eq!(s.length(StepCtx::alone(trivium_core::Address::new(0, 0, 0))), 20);
    }
}
