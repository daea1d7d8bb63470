//! DISCO: a classifier says whether the next token will be accepted.
//!
//! ```text
//! P(accept) = squash(w · x),   x = (1, stretch(top), entropy, ln(1 + position))
//! before drawing: stop if P < θ, from the second token on
//! after a step:   w += 0.02 (accepted - P) x   for each reached place, from the root down
//! ```
//!
//! "Accelerating Speculative Decoding using Dynamic Speculation Length". The paper trains a small
//! network before use; this is its features with a logistic model that learns from accept flags in
//! a fixed order, starting from `P = top`. It sees the law of the next token, never the token.

use super::{Controller, DraftCtx, Feedback, QSummary, StepCtx};

/// Step size of the online descent.
const RATE: f64 = 0.02;

/// The classifier and its threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Disco {
    threshold: f64,
    max: usize,
    weights: [f64; 4],
}

fn features(q: QSummary, position: usize) -> [f64; 4] {
    let top = q.top.clamp(1e-4, 1.0 - 1e-4);
    [1.0, (top / (1.0 - top)).ln(), q.entropy.min(20.0), (position as f64).ln_1p()]
}

impl Disco {
    /// Stops below `threshold`.
    pub fn new(threshold: f64, max: usize) -> Self {
        Self { threshold, max, weights: [0.0, 1.0, 0.0, 0.0] }
    }

    /// Probability that the next token is accepted.
    pub fn probability(&self, q: QSummary, position: usize) -> f64 {
        let x = features(q, position);
        let z: f64 = x.iter().zip(&self.weights).map(|(a, b)| a * b).sum();
        1.0 / (1.0 + (-z).exp())
    }
}

impl Controller for Disco {
    fn length(&self, _step: StepCtx<'_>) -> usize {
        self.max
    }

    fn before_sample(&self, ctx: DraftCtx, q: QSummary) -> bool {
        // The first token is always tried: a classifier that never drafts never learns.
        ctx.position == 0 || self.probability(q, ctx.position) >= self.threshold
    }

    fn report(&mut self, feedback: &Feedback<'_>) {
        for (i, r) in feedback.path.iter().enumerate() {
            let x = features(r.q, i);
            let error = f64::from(u8::from(r.accepted)) - self.probability(r.q, i);
            self.weights.iter_mut().zip(x).for_each(|(w, x)| *w += RATE * error * x);
        }
    }

    fn fork(&self) -> Box<dyn Controller> {
        Box::new(*self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{at, q};
    use super::super::{Feedback, Reached};
    use super::*;

    #[test]
    fn it_starts_from_the_top_probability_and_learns_a_decay_by_position() {
        let mut d = Disco::new(0.4, 10);
        assert!((d.probability(q(0.7, 1.0), 0) - 0.7).abs() < 1e-9);
        assert!(d.before_sample(at(3, 1.0), q(0.41, 0.0)));
        assert!(!d.before_sample(at(3, 1.0), q(0.39, 0.0)));
        // The first place is always right, the third never.
        let path: Vec<Reached> =
            (0..3).map(|i| Reached { q: q(0.5, 0.7), p: 0.5, accepted: i < 2 }).collect();
        for _ in 0..2000 {
            d.report(&Feedback {
                allowed: 10,
                drafted: 3,
                depth: 3,
                accepted: 2,
                cost: None,
                path: &path,
            });
        }
        let p = |i| d.probability(q(0.5, 0.7), i);
        assert!(
            p(0) > 0.9 && p(2) < 0.35 && p(0) > p(1) && p(1) > p(2),
            "{} {} {}",
            p(0),
            p(1),
            p(2)
        );
        assert!(!d.before_sample(at(2, 1.0), q(0.5, 0.7)));
    }
}
