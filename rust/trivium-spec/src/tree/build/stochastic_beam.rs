//! RSD-S: a stochastic beam, sequences drawn without replacement from the top down.
//!
//! ```text
//! φ_t = φ_v + log q(t | v),   g_t = φ_t + Gumbel,   Z = max g_t
//! G_t = -log(exp(-G_v) - exp(-Z) + exp(-g_t))              conditioned to have maximum G_v
//!     = G_v - max(0, s) - log1p(exp(-|s|)),   s = G_v - g_t + log(1 - exp(g_t - Z))
//! keep the W best (v, t) of a level by G; siblings in order of falling G
//! ```
//!
//! "Recursive Speculative Decoding: Accelerating LLM Inference via Sampling Without Replacement",
//! after "Stochastic Beams and Where to Find Them". A node's G is the latest arrival among all
//! sequences below it, so siblings by falling G are draws without replacement, and what is cut is
//! cut by arrival time, which says nothing of the identities: [`Pruning::Shape`]. The enumerator
//! proves it on the same law drawn differently (`trivium-oracle`): whole sequences one after the
//! other without replacement, each level keeping the first W distinct prefixes. Tokens of mass 0 do
//! not run. What would break it: handing siblings over by probability instead of arrival.
//!
//! Noise: words of [`Purpose::Draft`] at the step's first undecided position; node `i`'s row reads
//! the blocks from `i · ⌈vocab / 4⌉` on.
//!
//! [`Pruning::Shape`]: crate::tree::Pruning::Shape

use super::{Builder, DraftTree, TreeBuilder, budget, row, sums};
use crate::tree::Role;
use trivium_core::error::{Error, Result};
use trivium_core::{Address, Chance, Purpose, TokenId, numerics};

/// The builder.
#[derive(Debug)]
pub struct StochasticBeam {
    vocab: usize,
    width: usize,
    max_depth: usize,
    noise: Address,
    tree: DraftTree,
    /// Log-probability of the path to each node, and its perturbed score.
    phi: Vec<f64>,
    score: Vec<f64>,
    frontier: Vec<usize>,
    depth: usize,
    pushed: usize,
}

/// Perturbed log-probabilities of a node's children, conditioned on their maximum being `top`:
/// (token, φ, G) by falling G, at most `width`.
pub fn conditioned(
    log_probs: &[(TokenId, f64)],
    gumbels: impl Fn(TokenId) -> f64,
    top: f64,
    width: usize,
) -> Vec<(TokenId, f64, f64)> {
    let z = log_probs.iter().map(|&(t, p)| p + gumbels(t)).fold(f64::NEG_INFINITY, f64::max);
    let mut out: Vec<(TokenId, f64, f64)> = log_probs
        .iter()
        .map(|&(t, p)| {
            let g = p + gumbels(t);
            // The maximum itself: log(1 - 1) is minus infinity, and G is `top`.
            let s = top - g + (-(g - z).exp_m1()).ln();
            (t, p, top - s.max(0.0) - (-s.abs()).exp().ln_1p())
        })
        .collect();
    out.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
    out.truncate(width);
    out
}

impl StochasticBeam {
    /// A beam of `width` over `max_depth` levels. `noise` addresses the first undecided token of
    /// the request: its draws belong to this tree alone.
    ///
    /// # Errors
    /// `InvalidInput` for budgets out of range.
    pub fn new(
        last: TokenId,
        vocab: usize,
        width: usize,
        max_depth: usize,
        noise: Address,
    ) -> Result<Self> {
        budget("width, max_depth", width.saturating_mul(max_depth).saturating_add(1), 1)?;
        if width == 0 {
            return Err(Error::input("width", "is 0"));
        }
        Ok(Self {
            vocab,
            width,
            max_depth,
            noise,
            tree: DraftTree::root(last),
            phi: vec![0.0],
            score: vec![0.0],
            frontier: if max_depth > 0 { vec![0] } else { Vec::new() },
            depth: 0,
            pushed: 0,
        })
    }
}

impl TreeBuilder for StochasticBeam {
    fn kind(&self) -> Builder {
        Builder::RsdS
    }

    fn frontier(&self) -> &[usize] {
        &self.frontier
    }

    fn tree(&self) -> &DraftTree {
        &self.tree
    }

    fn push(&mut self, rows: &[f32], _chance: &mut dyn Chance) -> Result<()> {
        let sums = sums(rows, self.frontier.len(), self.vocab)?;
        // (G, parent, token, φ) of the level.
        let mut level: Vec<(f64, usize, TokenId, f64)> = Vec::new();
        for (i, &node) in self.frontier.iter().enumerate() {
            let q = row(rows, &sums, self.vocab, i);
            self.tree.rows[node] = (self.pushed + i) as i32;
            let phi = self.phi[node];
            let log_probs: Vec<(TokenId, f64)> = (0..self.vocab as TokenId)
                .filter(|&t| q.weights()[t as usize] > 0.0)
                .map(|t| (t, phi + q.at(t).ln()))
                .collect();
            let first = node as u32 * (self.vocab as u32).div_ceil(4);
            let noise = self.noise;
            let gumbel = |t: TokenId| {
                let words = noise.block(Purpose::Draft, first + (t >> 2));
                f64::from(numerics::gumbel(words[(t & 3) as usize]))
            };
            for (t, p, g) in conditioned(&log_probs, gumbel, self.score[node], self.width) {
                level.push((g, node, t, p));
            }
        }
        self.pushed += sums.len();
        level.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        level.truncate(self.width);
        let first = self.tree.len();
        // Falling G over the level keeps draw order among the siblings of every node.
        for (g, node, token, phi) in level {
            self.tree.add(node, token, phi.exp(), Role::Drawn);
            self.phi.push(phi);
            self.score.push(g);
        }
        self.depth += 1;
        let more = self.depth < self.max_depth;
        self.frontier = if more { (first..self.tree.len()).collect() } else { Vec::new() };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::beam::tests::run;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// The stable form is the definition.
        #[test]
        fn conditioned_scores_are_the_definition(
            p in prop::collection::vec(0.05f64..1.0, 2..6), top in -3.0f64..3.0, seed: u32,
        ) {
            let noise = Address::new(u64::from(seed), 0, 0);
            let gumbel = |t: TokenId| f64::from(numerics::gumbel(noise.race_word(t)));
            let total: f64 = p.iter().sum();
            let logs: Vec<(TokenId, f64)> =
                p.iter().enumerate().map(|(t, x)| (t as u32, (x / total).ln())).collect();
            let out = conditioned(&logs, gumbel, top, 10);
            prop_assert_eq!(out.len(), p.len());
            prop_assert!((out[0].2 - top).abs() < 1e-9, "the maximum is the condition");
            let z = logs.iter().map(|&(t, l)| l + gumbel(t)).fold(f64::MIN, f64::max);
            for &(t, l, g) in &out {
                let inner = (-top).exp() - (-z).exp() + (-(l + gumbel(t))).exp();
                prop_assert!((g + inner.ln()).abs() < 1e-6, "{} {}", g, -inner.ln());
            }
        }

        #[test]
        fn beams_have_their_width(seed: u32, w in 1usize..6, d in 1usize..4) {
            let b = StochasticBeam::new(0, 4, w, d, Address::new(u64::from(seed), 3, 0));
            let tree = run(&mut b.unwrap(), seed, 4);
            let mut sizes = vec![0; d + 1];
            tree.depths.iter().for_each(|&x| sizes[usize::from(x)] += 1);
            for (level, &n) in sizes.iter().enumerate().skip(1) {
                prop_assert_eq!(n, w.min(4usize.pow(level as u32)).min(4 * sizes[level - 1]));
            }
        }
    }

    /// Pairs of a level have the law of successive draws, `q_i q_j / (1 - q_i)`. 40,000 fixed seeds,
    /// 12 cells; each bound is 6.5 standard deviations, so a false alarm has probability below
    /// 12 * 8.1e-11 < 1e-9.
    #[test]
    fn the_first_level_is_drawn_without_replacement() {
        const N: usize = 40_000;
        let q = [0.5f32, 0.25, 0.15, 0.1];
        let mut counts: BTreeMap<(u32, u32), usize> = BTreeMap::new();
        for seed in 0..N as u64 {
            let mut b = StochasticBeam::new(0, 4, 2, 1, Address::new(seed, 9, 0)).unwrap();
            b.push(&q, &mut trivium_core::Keyed::new(0, 0)).unwrap();
            let t = &b.tree().tokens;
            *counts.entry((t[1], t[2])).or_default() += 1;
        }
        for i in 0..4u32 {
            for j in (0..4u32).filter(|&j| j != i) {
                let (a, b) = (f64::from(q[i as usize]), f64::from(q[j as usize]));
                let p = a * b / (1.0 - a);
                let got = counts.get(&(i, j)).copied().unwrap_or(0) as f64;
                let sd = (N as f64 * p * (1.0 - p)).sqrt();
                assert!(
                    (got - N as f64 * p).abs() < 6.5 * sd,
                    "{i} {j}: {got} of {}",
                    N as f64 * p
                );
            }
        }
    }
}
