//! The length that pays best, from measured acceptance by depth and the host's times.
//!
//! ```text
//! a_d = decayed share of drafts accepted at depth d, given that depth was reached
//! γ maximises (1 + Σ_{d <= γ} Π_{i <= d} a_i) / T(γ),   T(γ) from the host's timings, else 1 + c γ
//! with one a:  γ* solves the marginal token: a^{γ+1} target tokens against c target passes
//! ```
//!
//! Own controller ("adaptive best by cost model"). Depths are reached only where drafts go: an
//! unvisited depth believes the one above it, so longer drafts are tried while short ones succeed.

use super::{Controller, Feedback, StepCtx};

/// Decay of the counts a step.
const KEEP: f64 = 1.0 - 1.0 / 256.0;

/// Decayed counts by depth.
#[derive(Debug, Clone, PartialEq)]
pub struct BestLength {
    /// Cost of one drafted token in target passes, where the host reports no times.
    cost: f64,
    tried: Vec<f64>,
    accepted: Vec<f64>,
}

impl BestLength {
    /// Lengths from 0 to `max`.
    pub fn new(max: usize, cost: f64) -> Self {
        Self { cost: cost.max(0.0), tried: vec![0.0; max], accepted: vec![0.0; max] }
    }

    /// Acceptance at each depth, given that it is reached.
    pub fn acceptance(&self) -> Vec<f64> {
        let mut prior = 0.7;
        self.tried
            .iter()
            .zip(&self.accepted)
            .map(|(&n, &a)| {
                // Four observations' worth of the depth above.
                prior = (a + 4.0 * prior) / (n + 4.0);
                prior
            })
            .collect()
    }
}

/// The length of highest rate, and that rate: `acceptance[d]` at depth `d + 1`, `time(γ)` of a step.
pub fn best_length(acceptance: &[f64], time: impl Fn(usize) -> f64) -> (usize, f64) {
    let (mut expected, mut reach) = (1.0, 1.0);
    let mut best = (0, 1.0 / time(0));
    for (d, a) in acceptance.iter().enumerate() {
        reach *= a;
        expected += reach;
        let rate = expected / time(d + 1);
        if rate > best.1 {
            best = (d + 1, rate);
        }
    }
    best
}

/// Least-squares line through (ln x, y): slope and value at ln x = 0. Acceptance is log-linear in
/// draft size and training tokens, so two measured drafts say what a third would do; advice only.
pub fn log_linear(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let points: Vec<(f64, f64)> =
        points.iter().filter(|p| p.0 > 0.0).map(|&(x, y)| (x.ln(), y)).collect();
    let n = points.len() as f64;
    let (mx, my) = points.iter().fold((0.0, 0.0), |s, p| (s.0 + p.0 / n, s.1 + p.1 / n));
    let xx: f64 = points.iter().map(|p| (p.0 - mx) * (p.0 - mx)).sum();
    let xy: f64 = points.iter().map(|p| (p.0 - mx) * (p.1 - my)).sum();
    (xx > 0.0).then(|| (xy / xx, my - xy / xx * mx))
}

impl Controller for BestLength {
    fn length(&self, step: StepCtx<'_>) -> usize {
        let b = step.requests.max(1);
        let most = b * (self.tried.len() + 1);
        if let Some(n) = step.cost.and_then(|c| c.probe(b, most)) {
            return n / b - 1;
        }
        let time = |n: usize| {
            // The whole pass, every request drafting alike.
            let told = step.cost.and_then(|c| c.time(b * (n + 1)));
            told.unwrap_or(1.0 + self.cost * n as f64)
        };
        let (n, _) = best_length(&self.acceptance(), time);
        // Once in a while one token is drafted anyway, else being off could never end.
        if n == 0 && step.noise.index.is_multiple_of(16) { 1 } else { n }
    }

    fn report(&mut self, f: &Feedback<'_>) {
        for x in self.tried.iter_mut().chain(&mut self.accepted) {
            *x *= KEEP;
        }
        for d in 0..f.depth.min(self.tried.len()) {
            if d > f.accepted {
                break;
            }
            self.tried[d] += 1.0;
            self.accepted[d] += f64::from(u8::from(d < f.accepted));
        }
    }

    fn fork(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::told;
    use super::*;
    use crate::policy::CostModel;
    use trivium_core::Address;

    #[test]
    fn the_closed_form_for_one_acceptance() {
        // The marginal condition: γ grows while a^{γ+1} (1 + cγ) > c E(γ).
        for a in [0.5, 0.7, 0.9] {
            for c in [0.02, 0.05, 0.2] {
                let (n, _) = best_length(&[a; 64], |g| 1.0 + c * g as f64);
                let mut g = 0;
                let e = |g: usize| (0..=g).map(|i| f64::powi(a, i as i32)).sum::<f64>();
                while g < 64 && f64::powi(a, g as i32 + 1) * (1.0 + c * g as f64) > c * e(g) {
                    g += 1;
                }
                assert_eq!(n, g, "{a} {c}");
            }
        }
    }

    #[test]
    fn it_learns_the_depth_and_switches_off() {
        let step = |i: u32| StepCtx::alone(Address::new(0, 16 * i + 1, 0));
        let mut b = BestLength::new(12, 0.1);
        assert!(b.length(step(0)) >= 3);
        // Two tokens are always right, the third never.
        for i in 0..200 {
            let n = b.length(step(i));
            b.report(&told(n, n, n.min(2)));
        }
        assert_eq!(b.length(step(0)), 2);
        // Nothing is ever right.
        for i in 0..800 {
            let n = b.length(step(i));
            b.report(&told(n, n.max(1), 0));
        }
        assert_eq!(b.length(step(0)), 0);
        assert_eq!(b.length(StepCtx::alone(Address::new(0, 32, 0))), 1, "it looks again");
        // The host's times overrule the given cost.
        let mut cost = CostModel::default();
        [(1, 1.0), (2, 2.0), (16, 16.0)].iter().for_each(|&(n, t)| cost.observe(n, t));
        let fresh = BestLength::new(12, 0.0);
        assert_eq!(fresh.length(step(0)), 12);
        assert_eq!(fresh.length(StepCtx { cost: Some(&cost), ..step(0) }), 0);
    }

    #[test]
    fn two_drafts_say_what_a_third_would_do() {
        let (slope, at) = log_linear(&[(1e8, 0.6), (1e9, 0.7)]).unwrap();
        assert!((slope * 1e10f64.ln() + at - 0.8).abs() < 1e-9);
        assert!(log_linear(&[(1e8, 0.6)]).is_none());
    }
}
