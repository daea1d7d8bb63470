//! Anytime-valid stop by the prior-posterior ratio.
//!
//! Waudby-Smith and Ramdas, "Confidence sequences for sampling without replacement" (2020):
//! the ratio of prior to posterior density at the true parameter is a martingale, so that it exceeds
//! `1 / alpha` ever with probability at most `alpha`. For the split of two answers under a flat
//! prior the hypothesis "neither is preferred" is 1/2, and the rule stops when the leader leads and
//!
//! ```text
//! density of Beta(a + 1, b + 1) at 1/2  =  (a + b + 1) C(a + b, a) 2^-(a + b)  <=  alpha
//! ```
//!
//! For a fixed pair of answers the wrong one is ever declared with probability at most `alpha`,
//! however often one looks; `K` answers need `alpha / (K - 1)`.

/// Smallest leading counts at which the rule fires, by count of the runner-up.
#[derive(Debug, Clone, PartialEq)]
pub struct PprTable {
    need: Vec<u32>,
}

impl PprTable {
    /// The table for a level in (0, 1) and a budget. Time quadratic in the budget up to 4,096 and
    /// constant beyond.
    pub fn new(alpha: f64, budget: u32) -> Self {
        let bound = alpha.ln();
        let mut need = Vec::new();
        let (mut a, mut b) = (1u32, 0u32);
        while a + b <= budget {
            if a > b && log_density(a, b) <= bound {
                need.push(a);
                b += 1;
            } else {
                a += 1;
            }
        }
        Self { need }
    }

    /// Whether counts `a >= b` stop.
    pub fn stops(&self, a: u32, b: u32) -> bool {
        self.need.get(b as usize).is_some_and(|&need| a >= need)
    }

    /// Least number of further ballots until the rule can fire; `u32::MAX` if it cannot.
    pub fn need(&self, a: u32, b: u32) -> u32 {
        self.need.get(b as usize).map_or(u32::MAX, |need| need.saturating_sub(a).max(1))
    }

    /// The table itself.
    pub fn rows(&self) -> &[u32] {
        &self.need
    }
}

/// Logarithm of the posterior density at 1/2.
pub fn log_density(a: u32, b: u32) -> f64 {
    use crate::numeric::ln_gamma;
    let (a, b) = (f64::from(a), f64::from(b));
    ln_gamma(a + b + 2.0) - ln_gamma(a + 1.0) - ln_gamma(b + 1.0) - (a + b) * 2f64.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_its_published_rows() {
        let table = PprTable::new(0.05, 60);
        assert_eq!(table.rows()[..13], [8, 11, 14, 16, 18, 20, 22, 24, 26, 28, 29, 31, 33]);
        for (a, b, density) in [(8, 0, 0.035_156), (7, 0, 0.062_5), (11, 1, 0.038_086)] {
            assert!((log_density(a, b).exp() - density).abs() < 1e-6);
        }
    }

    /// Two equally likely answers and 200 looks: the rule ever stops in at most 5 % of the runs,
    /// where `beta:0.95` stops in more than half of them.
    #[test]
    fn peeking_is_paid_for() {
        let (ppr, beta) = (PprTable::new(0.05, 200), super::super::beta::BetaTable::new(0.95, 200));
        let (mut state, mut wrong) = (1u64, [0, 0]);
        for _ in 0..4000 {
            let (mut heads, mut tails, mut stopped) = (0u32, 0u32, [false, false]);
            for _ in 0..200 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if state >> 63 == 0 {
                    heads += 1;
                } else {
                    tails += 1;
                }
                let (a, b) = (heads.max(tails), heads.min(tails));
                stopped[0] |= ppr.stops(a, b);
                stopped[1] |= beta.stops(a, b);
            }
            wrong[0] += i32::from(stopped[0]);
            wrong[1] += i32::from(stopped[1]);
        }
        assert!(wrong[0] < 200, "{wrong:?}");
        assert!(wrong[1] > 2000, "{wrong:?}");
    }
}
