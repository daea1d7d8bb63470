//! Hedge: full information instead of a bandit.
//!
//! ```text
//! w_i ∝ exp(-η Σ loss_i),   η = sqrt(8 ln K / t),   losses in [0, 1]
//! ```
//!
//! One verification of a tree that several sources contributed to reveals how many tokens *each*
//! would have got alone: follow the emitted path as long as the source's own nodes carry it
//! ([`tokens_by_source`]). Nothing needs exploring then. Freund and Schapire, "A Decision-Theoretic
//! Generalization of On-Line Learning and an Application to Boosting".

use trivium_core::error::{Error, Result};

/// Weights over K experts.
#[derive(Debug, Clone, PartialEq)]
pub struct Hedge {
    losses: Vec<f64>,
    rounds: u32,
}

impl Hedge {
    /// Equal weights.
    ///
    /// # Errors
    /// `InvalidInput` for no experts.
    pub fn new(experts: usize) -> Result<Self> {
        if experts == 0 {
            return Err(Error::input("experts", "is 0"));
        }
        Ok(Self { losses: vec![0.0; experts], rounds: 0 })
    }

    /// Weights of the next round, which add up to 1.
    pub fn weights(&self) -> Vec<f64> {
        let k = self.losses.len() as f64;
        let eta = (8.0 * k.ln() / f64::from(self.rounds.max(1))).sqrt();
        let least = self.losses.iter().copied().fold(f64::INFINITY, f64::min);
        let w: Vec<f64> = self.losses.iter().map(|l| (-eta * (l - least)).exp()).collect();
        let total: f64 = w.iter().sum();
        w.into_iter().map(|x| x / total).collect()
    }

    /// Counts a round, a loss an expert.
    ///
    /// # Errors
    /// `InvalidInput` for another number of losses or losses outside [0, 1].
    pub fn update(&mut self, losses: &[f64]) -> Result<()> {
        if losses.len() != self.losses.len() || losses.iter().any(|l| !(0.0..=1.0).contains(l)) {
            return Err(Error::input(
                "losses",
                format!("need {} values in [0, 1]", self.losses.len()),
            ));
        }
        self.losses.iter_mut().zip(losses).for_each(|(a, b)| *a += b);
        self.rounds = self.rounds.saturating_add(1);
        Ok(())
    }
}

/// Accepted drafts that each source would have had alone: `sources[node]` are the bits of those
/// that proposed the node, `path` the accepted nodes from the root down.
pub fn tokens_by_source(sources: &[u64], path: &[usize], count: usize) -> Vec<usize> {
    (0..count.min(64))
        .map(|s| path.iter().take_while(|&&n| sources[n] >> s & 1 == 1).count())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_expert_takes_over_without_exploration() {
        let mut h = Hedge::new(3).unwrap();
        assert_eq!(h.weights(), [1.0 / 3.0; 3]);
        let (mut paid, mut best) = (0.0, [0.0; 3]);
        for t in 0..500 {
            let losses = [0.6, 0.2, if t % 2 == 0 { 0.0 } else { 0.9 }];
            paid += h.weights().iter().zip(&losses).map(|(w, l)| w * l).sum::<f64>();
            best.iter_mut().zip(&losses).for_each(|(b, l)| *b += l);
            h.update(&losses).unwrap();
        }
        assert!(h.weights()[1] > 0.95, "{:?}", h.weights());
        // The regret bound of a falling η: 2 sqrt(T ln K / 2) + sqrt(ln K / 8).
        let least = best.iter().copied().fold(f64::INFINITY, f64::min);
        let bound = 2.0 * (500.0 * 3f64.ln() / 2.0).sqrt() + (3f64.ln() / 8.0).sqrt();
        assert!(paid - least < bound, "{paid} {least} {bound}");
        assert!(h.update(&[0.0; 2]).is_err() && h.update(&[0.0, 2.0, 0.0]).is_err());
        assert!(Hedge::new(0).is_err());
    }

    #[test]
    fn each_source_gets_its_own_prefix() {
        // Node 1 by both, 2 by the first, 3 by the second.
        let sources = [0b11, 0b11, 0b01, 0b10];
        assert_eq!(tokens_by_source(&sources, &[1, 2, 3], 2), [2, 1]);
        assert_eq!(tokens_by_source(&sources, &[], 2), [0, 0]);
    }
}
