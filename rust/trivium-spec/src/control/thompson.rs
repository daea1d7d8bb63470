//! EESD's Thompson sampling: go on with a probability drawn from what is known of acceptance.
//!
//! ```text
//! before each token: θ ~ Beta(a, b); go on with probability θ
//! after a step:      a += accepted; b += 1 if a draft was refused       (both decayed first)
//! with the drafter's confidence as prior: θ ~ Beta(a + w top, b + w (1 - top))
//! ```
//!
//! "Speculative Decoding via Early-exiting for Faster LLM Inference with Thompson Sampling Control
//! Mechanism". Posteriors may be kept depth by depth; the last depth stands for all deeper ones.
//! Noise is of [`Purpose::Control`](trivium_core::Purpose), 256 draws a position.

use super::gamma::Uniforms;
use super::{Controller, DraftCtx, Feedback, QSummary, StepCtx};

/// Posterior of acceptance.
#[derive(Debug, Clone, PartialEq)]
pub struct Thompson {
    max: usize,
    forget: f64,
    prior_weight: f64,
    /// One posterior, or one a depth.
    counts: Vec<(f64, f64)>,
}

impl Thompson {
    /// Starts from Beta(1, 1). `forget` in (0, 1] multiplies old counts a step; `depths` posteriors
    /// (1: one for all); `prior_weight` is how many observations the drafter's confidence counts.
    pub fn new(max: usize, forget: f64, depths: usize, prior_weight: f64) -> Self {
        Self {
            max,
            forget: forget.clamp(0.0, 1.0),
            prior_weight: prior_weight.max(0.0),
            counts: vec![(1.0, 1.0); depths.max(1)],
        }
    }

    /// The posterior at a depth: (a, b).
    pub fn posterior(&self, position: usize) -> (f64, f64) {
        self.counts[position.min(self.counts.len() - 1)]
    }
}

impl Controller for Thompson {
    fn length(&self, _step: StepCtx<'_>) -> usize {
        self.max
    }

    fn before_sample(&self, ctx: DraftCtx, q: QSummary) -> bool {
        let mut u = Uniforms::new(ctx.noise, (ctx.position as u32 + 1) << 8);
        let (a, b) = self.posterior(ctx.position);
        let w = self.prior_weight;
        let theta = u.beta(a + w * q.top, b + w * (1.0 - q.top));
        u.uniform() < theta
    }

    fn report(&mut self, feedback: &Feedback<'_>) {
        let depths = self.counts.len();
        for (a, b) in &mut self.counts {
            // Towards the prior, so that nothing is ever certain.
            *a = 1.0 + (*a - 1.0) * self.forget;
            *b = 1.0 + (*b - 1.0) * self.forget;
        }
        for i in 0..feedback.accepted {
            self.counts[i.min(depths - 1)].0 += 1.0;
        }
        if feedback.rejected() {
            self.counts[feedback.accepted.min(depths - 1)].1 += 1.0;
        }
    }

    fn fork(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{q, told};
    use super::*;
    use trivium_core::Address;

    #[test]
    fn posteriors_count() {
        let mut t = Thompson::new(8, 1.0, 1, 0.0);
        t.report(&told(8, 4, 3));
        t.report(&told(8, 2, 2));
        assert_eq!(t.posterior(0), (6.0, 2.0));
        let mut t = Thompson::new(8, 0.5, 3, 0.0);
        t.report(&told(8, 5, 4));
        assert_eq!(
            [t.posterior(0), t.posterior(1), t.posterior(2)],
            [(2.0, 1.0), (2.0, 1.0), (3.0, 2.0)]
        );
        t.report(&told(8, 0, 0));
        assert_eq!(t.posterior(9), (2.0, 1.5));
    }

    /// E[length] = Σ m^i with m = a / (a + b), since each token draws its own θ. 20,000 fixed
    /// positions; lengths lie in 0..=6, so 6.5 standard errors are at most 6.5 * 3 / sqrt(n).
    #[test]
    fn lengths_have_their_expectation() {
        const N: u32 = 20_000;
        let mut t = Thompson::new(6, 1.0, 1, 0.0);
        for _ in 0..3 {
            t.report(&told(6, 3, 2));
        }
        let (a, b) = t.posterior(0);
        let m = a / (a + b);
        let want: f64 = (1..=6).map(|i| m.powi(i)).sum();
        let mut total = 0usize;
        for index in 0..N {
            let noise = Address::new(11, index, 0);
            total += (0..6)
                .take_while(|&position| {
                    t.before_sample(DraftCtx { position, survival: 1.0, noise }, q(0.5, 0.7))
                })
                .count();
        }
        let mean = total as f64 / f64::from(N);
        assert!((mean - want).abs() < 6.5 * 3.0 / f64::from(N).sqrt(), "{mean} {want}");
    }

    #[test]
    fn confidence_moves_the_prior() {
        let t = Thompson::new(6, 1.0, 1, 50.0);
        let goes = |top: f64| {
            (0..2000u32)
                .filter(|&i| {
                    let noise = Address::new(2, i, 0);
                    t.before_sample(DraftCtx { position: 0, survival: 1.0, noise }, q(top, 0.0))
                })
                .count()
        };
        assert!(goes(0.95) > 1700 && goes(0.05) < 300);
    }
}
