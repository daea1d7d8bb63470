//! What the path-level rules (block, traversal, greedy multi-path) share.
//!
//! They weigh whole paths by `Π p / q` instead of deciding node by node, so a test made for a
//! position may be overruled and the text may end before it. All tests of a step therefore read
//! the noise of the step's *first* undecided position, counting up: a test addressed by its own
//! position would be repeated with the same uniform by the next step, which is biased. That first
//! position is decided in this step, so no later step comes back to it.

use super::fault::{Faults, Mutation};
use trivium_core::{Chance, Purpose, TokenId};

/// Buffers of the path-level rules.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) logs: Vec<f32>,
    pub(crate) order: Vec<u32>,
    /// The residual of the last path that was kept.
    pub(crate) kept: Vec<f64>,
    /// Rows of the traversal's frames, handed out and returned.
    pub(crate) pool: Vec<Vec<f64>>,
}

/// The tests of one step.
pub(crate) struct PathTests<'a, F> {
    start: u32,
    faults: &'a F,
    /// What earlier tests said of the uniform, for the planted reuse of noise.
    known: (f64, f64),
}

impl<'a, F: Faults> PathTests<'a, F> {
    pub(crate) fn new(start: u32, faults: &'a F) -> Self {
        Self { start, faults, known: (0.0, 1.0) }
    }

    /// True with probability `num / den`, capped at 1; `0 / 0` is true.
    pub(crate) fn accept(&mut self, chance: &mut dyn Chance, num: f64, den: f64) -> bool {
        if den <= 0.0 {
            return true;
        }
        if self.faults.has(Mutation::ReuseNoise) {
            let (low, high) = self.known;
            let h = (num / den).clamp(low, high);
            let yes = chance.bernoulli(self.start, Purpose::Accept, h - low, high - low);
            self.known = if yes { (low, h) } else { (h, high) };
            return yes;
        }
        chance.bernoulli(self.start, Purpose::Accept, num, den)
    }

    /// The path weight after a token of probabilities `p` and `q`.
    pub(crate) fn weight(&self, before: f64, p: f64, q: f64) -> f64 {
        let ratio = if self.faults.has(Mutation::SwapTest) { q / p.max(1e-300) } else { p / q };
        let ratio = if self.faults.has(Mutation::SoftTest) { ratio.sqrt() } else { ratio };
        (before * ratio).min(1.0)
    }

    /// Whether a path of weight `w` with excess `z = Σ (w p - q)+` beyond its end is kept: with
    /// probability `h = z / (z + 1 - w)`, which is at most `w` and 1 where `w` is. So a test of `w`
    /// comes first, and only where it passes is `z` summed, for a test of `h / w`.
    pub(crate) fn keep(
        &mut self,
        chance: &mut dyn Chance,
        w: f64,
        z: impl FnOnce() -> f64,
    ) -> bool {
        if self.faults.has(Mutation::ForgetDeficit) {
            let z = z();
            return self.accept(chance, z, z + 1.0);
        }
        if w >= 1.0 {
            return true;
        }
        if !self.accept(chance, w, 1.0) {
            return false;
        }
        let z = z();
        self.accept(chance, z, (z + (1.0 - w)) * w)
    }

    /// The factor of `p` in a path residual.
    pub(crate) fn factor(&self, w: f64) -> f64 {
        if self.faults.has(Mutation::PlainResidual) { 1.0 } else { w }
    }
}
