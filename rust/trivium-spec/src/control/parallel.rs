//! Lengths of the two parallel schedules: PEARL and SpecBranch.
//!
//! ```text
//! PEARL       γ ≈ t_target / t_draft; all accepted: the draft goes on, so γ times the number of such
//!             rounds in a row is the effective length
//! SpecBranch  T(γ) = 2 max(γ t, c t) / ((1 + α^γ) α (1 - α^γ) / (1 - α)),  c = t_target / t_draft, t = t_draft
//!             k = max(1, ⌊k_max (1 - q(x_b))⌋) branches: verify::branch_count
//! ```
//!
//! "PEARL: Parallel Speculative Decoding with Adaptive Draft Length"; "Speculative Decoding via
//! Hybrid Drafting and Rollback-Aware Branch Parallelism". The schedules themselves are
//! [`verify::Pearl`](crate::verify::Pearl) and [`verify::BranchTree`](crate::verify::BranchTree).

use super::{Controller, Feedback, StepCtx};

/// PEARL's chunk: as many drafts as fit into one target pass, at least one.
pub fn pearl_gamma(target_time: f64, draft_time: f64) -> usize {
    let ratio = target_time / draft_time;
    // Absurd or missing times draft one token.
    if ratio.is_finite() { (ratio.round() as usize).clamp(1, crate::MAX_NODES) } else { 1 }
}

/// SpecBranch's time a step in units of one draft pass: γ drafts, acceptance α, `c` drafts a target
/// pass.
pub fn spec_branch_time(gamma: usize, alpha: f64, c: f64) -> f64 {
    let g = gamma as f64;
    let power = alpha.powi(gamma as i32);
    // α (1 - α^γ) / (1 - α) = Σ α^i, also at α = 1.
    let accepted: f64 = (1..=gamma).map(|i| alpha.powi(i as i32)).sum();
    2.0 * g.max(c) / ((1.0 + power) * accepted)
}

/// The γ up to `max` of least SpecBranch time.
pub fn spec_branch_gamma(alpha: f64, c: f64, max: usize) -> usize {
    (1..=max.max(1)).fold(1, |best, g| {
        if spec_branch_time(g, alpha, c) < spec_branch_time(best, alpha, c) { g } else { best }
    })
}

/// PEARL's effective length for hosts that draft and verify in turn: γ more for every round that was
/// accepted whole, γ after a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PearlLength {
    gamma: usize,
    max: usize,
    run: usize,
}

impl PearlLength {
    /// Chunks of `gamma`, at most `max` tokens.
    pub fn new(gamma: usize, max: usize) -> Self {
        Self { gamma: gamma.max(1), max: max.max(1), run: 0 }
    }
}

impl Controller for PearlLength {
    fn length(&self, _step: StepCtx<'_>) -> usize {
        self.gamma.saturating_mul(self.run + 1).min(self.max)
    }

    fn report(&mut self, f: &Feedback<'_>) {
        if f.depth > 0 {
            self.run = if f.rejected() { 0 } else { self.run.saturating_add(1) };
        }
    }

    fn fork(&self) -> Box<dyn Controller> {
        Box::new(*self)
    }

    fn fresh(&self) -> Box<dyn Controller> {
        Box::new(Self::new(self.gamma, self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::told;
    use super::*;
    use trivium_core::Address;

    #[test]
    fn pearl_grows_by_chunks() {
        let step = StepCtx::alone(Address::new(0, 0, 0));
        let mut p = PearlLength::new(4, 11);
        let mut seen = vec![p.length(step)];
        for accepted in [4, 8, 11, 3] {
            let n = p.length(step);
            p.report(&told(n, n, accepted));
            seen.push(p.length(step));
        }
        assert_eq!(seen, [4, 8, 11, 11, 4]);
        assert_eq!(
            (pearl_gamma(12.0, 3.1), pearl_gamma(1.0, 9.0), pearl_gamma(1.0, 0.0)),
            (4, 1, 1)
        );
    }

    #[test]
    fn spec_branch_balances_the_devices() {
        // By hand: γ = 2, α = 1/2, c = 4: 2 · 4 / (1.25 · 0.75).
        assert!((spec_branch_time(2, 0.5, 4.0) - 8.0 / 0.9375).abs() < 1e-12);
        // A better drafter drafts longer, up to what a target pass covers and beyond.
        assert!(spec_branch_gamma(0.5, 6.0, 32) <= spec_branch_gamma(0.9, 6.0, 32));
        assert!(spec_branch_gamma(0.9, 6.0, 32) >= 6);
        let scan = (1..=32)
            .min_by(|&a, &b| {
                spec_branch_time(a, 0.8, 5.0).total_cmp(&spec_branch_time(b, 0.8, 5.0))
            })
            .unwrap();
        assert_eq!(spec_branch_gamma(0.8, 5.0, 32), scan);
    }
}
