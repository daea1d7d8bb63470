//! Which sub-layers a model skips when it drafts for itself: a search over bit sets.
//!
//! A model of L layers has 2L sub-layers, attention of layer i at bit 2i and its feed-forward part
//! at 2i + 1. First and last layer stay; exactly `⌊2(L - 2) ratio⌋` of the others are skipped. The
//! caller scores a set ("matchness": the share of recent tokens that the skipped model would have
//! chosen, or tokens a second) and asks for the next one:
//!
//! - most candidates are random sets (SWIFT's inner loop);
//! - every `period`-th is chosen by Bayesian optimisation: a Gaussian process with kernel
//!   `exp(-hamming / L)` over the scored sets, and the candidate of highest `mean + κ deviation`
//!   among random sets and swaps of the best one.
//!
//! The search ends after `max_iterations`, `patience` iterations without a better set, or a score of
//! `target`. SWIFT: ratio 0.45, period 25, κ 2.5, noise 0.01, 1000, 300, 0.95. Draft & Verify searches
//! offline: `period = 1`.
//!
//! "SWIFT: On-the-Fly Self-Speculative Decoding for LLM Inference Acceleration"; "Draft & Verify:
//! Lossless Large Language Model Acceleration via Self-Speculative Decoding". Cost: O(L) a random
//! candidate, O(N³) a Bayesian one with N scored sets, of which the newest `OBSERVED` count.

use trivium_core::error::{Error, Result};
use trivium_core::rng::philox;

/// Scored sets that the Gaussian process is fitted to.
const OBSERVED: usize = 200;
/// Candidates that a Bayesian step compares.
const POOL: usize = 128;
const NOISE: f64 = 1e-2;
const KAPPA: f64 = 2.5;

/// State of a search.
#[derive(Debug, Clone)]
pub struct LayerSetSearch {
    layers: usize,
    skipped: usize,
    period: usize,
    max_iterations: usize,
    patience: usize,
    target: f64,
    key: [u32; 2],
    draws: u32,
    iterations: usize,
    since_better: usize,
    pending: Option<Vec<bool>>,
    observed: Vec<(Vec<bool>, f64)>,
    best: Option<(Vec<bool>, f64)>,
}

impl LayerSetSearch {
    /// A search over the sub-layers of `layers` layers, SWIFT's limits.
    ///
    /// # Errors
    /// `InvalidInput` for fewer than three layers, a ratio outside 0..=1 or a period of 0.
    pub fn new(layers: usize, ratio: f64, period: usize, seed: u64) -> Result<Self> {
        if layers < 3 || !(0.0..=1.0).contains(&ratio) || period == 0 {
            return Err(Error::input(
                "layers, ratio, period",
                "need three layers, a share in 0..=1 and a period from 1 on",
            ));
        }
        Ok(Self {
            layers,
            skipped: (2.0 * (layers - 2) as f64 * ratio).floor() as usize,
            period,
            max_iterations: 1000,
            patience: 300,
            target: 0.95,
            key: [seed as u32, (seed >> 32) as u32],
            draws: 0,
            iterations: 0,
            since_better: 0,
            pending: None,
            observed: Vec::new(),
            best: None,
        })
    }

    /// Other limits than SWIFT's.
    #[must_use]
    pub fn with_limits(mut self, max_iterations: usize, patience: usize, target: f64) -> Self {
        (self.max_iterations, self.patience, self.target) = (max_iterations, patience, target);
        self
    }

    /// Whether the search has ended.
    pub fn is_done(&self) -> bool {
        self.iterations >= self.max_iterations
            || self.since_better >= self.patience
            || self.best.as_ref().is_some_and(|b| b.1 > self.target)
    }

    /// The best set so far and its score.
    pub fn best(&self) -> Option<(&[bool], f64)> {
        self.best.as_ref().map(|(s, v)| (&s[..], *v))
    }

    /// Candidates scored.
    pub fn iterations(&self) -> usize {
        self.iterations
    }

    /// The set to score next, `2 * layers` bits, true = skipped; `None` once the search has ended.
    pub fn next_candidate(&mut self) -> Option<&[bool]> {
        if self.is_done() {
            return None;
        }
        if self.pending.is_none() {
            let bayesian = (self.iterations + 1).is_multiple_of(self.period);
            let set = if bayesian && self.observed.len() >= 2 { self.bayes() } else { None };
            let set = set.unwrap_or_else(|| self.random());
            self.pending = Some(set);
        }
        self.pending.as_deref()
    }

    /// The score of the last candidate.
    ///
    /// # Errors
    /// `StateMismatch` without a candidate, `InvalidInput` for a score that is not finite.
    pub fn report(&mut self, score: f64) -> Result<()> {
        if !score.is_finite() {
            return Err(Error::input("score", format!("{score} is not finite")));
        }
        let Some(set) = self.pending.take() else {
            return Err(Error::state("report", "a candidate of next_candidate", "none"));
        };
        self.iterations += 1;
        self.since_better += 1;
        if self.best.as_ref().is_none_or(|b| score > b.1) {
            self.best = Some((set.clone(), score));
            self.since_better = 0;
        }
        if self.observed.len() == OBSERVED {
            self.observed.remove(0);
        }
        self.observed.push((set, score));
        Ok(())
    }

    fn below(&mut self, n: usize) -> usize {
        self.draws += 1;
        philox([self.draws, 0, 8, 1], self.key)[0] as usize % n
    }

    fn random(&mut self) -> Vec<bool> {
        let free = 2 * (self.layers - 2);
        let mut order: Vec<usize> = (2..2 + free).collect();
        let mut set = vec![false; 2 * self.layers];
        for i in 0..self.skipped {
            let j = i + self.below(free - i);
            order.swap(i, j);
            set[order[i]] = true;
        }
        set
    }

    /// The best set with one skipped sub-layer exchanged for another.
    fn swapped(&mut self, set: &[bool]) -> Vec<bool> {
        let of = |wanted: bool| -> Vec<usize> {
            (2..2 * self.layers - 2).filter(|&i| set[i] == wanted).collect()
        };
        let (on, off) = (of(true), of(false));
        let mut out = set.to_vec();
        if !on.is_empty() && !off.is_empty() {
            let (a, b) = (self.below(on.len()), self.below(off.len()));
            out[on[a]] = false;
            out[off[b]] = true;
        }
        out
    }

    fn bayes(&mut self) -> Option<Vec<bool>> {
        let best = self.best.clone()?.0;
        let pool: Vec<Vec<bool>> = (0..POOL)
            .map(|i| if i % 2 == 0 { self.random() } else { self.swapped(&best) })
            .collect();
        let process = Process::fit(&self.observed, self.layers as f64)?;
        let mut top: Option<(f64, Vec<bool>)> = None;
        for set in pool {
            if self.observed.iter().any(|o| o.0 == set) {
                continue;
            }
            let (mean, deviation) = process.predict(&set);
            let bound = mean + KAPPA * deviation;
            if top.as_ref().is_none_or(|t| bound > t.0) {
                top = Some((bound, set));
            }
        }
        top.map(|t| t.1)
    }
}

/// A Gaussian process over scored sets, with their mean as its prior mean.
struct Process<'a> {
    observed: &'a [(Vec<bool>, f64)],
    scale: f64,
    mean: f64,
    /// Lower triangular factor of the kernel matrix.
    factor: Vec<Vec<f64>>,
    weights: Vec<f64>,
}

impl<'a> Process<'a> {
    fn fit(observed: &'a [(Vec<bool>, f64)], scale: f64) -> Option<Self> {
        let n = observed.len();
        let mean = observed.iter().map(|o| o.1).sum::<f64>() / n as f64;
        let mut factor = vec![vec![0.0; n]; n];
        for i in 0..n {
            for j in 0..=i {
                let mut sum = kernel(&observed[i].0, &observed[j].0, scale);
                if i == j {
                    sum += NOISE;
                }
                sum -= (0..j).map(|k| factor[i][k] * factor[j][k]).sum::<f64>();
                if i == j {
                    (sum > 0.0).then_some(())?;
                    factor[i][i] = sum.sqrt();
                } else {
                    factor[i][j] = sum / factor[j][j];
                }
            }
        }
        let centred: Vec<f64> = observed.iter().map(|o| o.1 - mean).collect();
        let mut weights = forward(&factor, &centred);
        for i in (0..n).rev() {
            let later: f64 = (i + 1..n).map(|k| factor[k][i] * weights[k]).sum();
            weights[i] = (weights[i] - later) / factor[i][i];
        }
        Some(Self { observed, scale, mean, factor, weights })
    }

    fn predict(&self, set: &[bool]) -> (f64, f64) {
        let k: Vec<f64> = self.observed.iter().map(|o| kernel(&o.0, set, self.scale)).collect();
        let mean = self.mean + k.iter().zip(&self.weights).map(|(a, b)| a * b).sum::<f64>();
        let v = forward(&self.factor, &k);
        let variance = 1.0 - v.iter().map(|x| x * x).sum::<f64>();
        (mean, variance.max(0.0).sqrt())
    }
}

fn forward(factor: &[Vec<f64>], y: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; y.len()];
    for i in 0..y.len() {
        let before: f64 = (0..i).map(|k| factor[i][k] * out[k]).sum();
        out[i] = (y[i] - before) / factor[i][i];
    }
    out
}

fn kernel(a: &[bool], b: &[bool], scale: f64) -> f64 {
    let apart = a.iter().zip(b).filter(|(x, y)| x != y).count();
    (-(apart as f64) / scale).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Score with a planted optimum: the share of the right sub-layers that are skipped.
    fn planted(set: &[bool], good: &[usize]) -> f64 {
        good.iter().filter(|&&g| set[g]).count() as f64 / good.len() as f64
    }

    #[test]
    fn candidates_keep_the_ends_and_the_count_and_repeat_with_the_seed() {
        let run = |seed| {
            let mut s = LayerSetSearch::new(8, 0.45, 5, seed).unwrap();
            let mut all = Vec::new();
            for i in 0..40 {
                let c = s.next_candidate().unwrap().to_vec();
                assert_eq!(c, s.next_candidate().unwrap(), "until it is scored");
                assert_eq!(c.len(), 16);
                assert_eq!(c.iter().filter(|x| **x).count(), 5);
                assert!(!c[0] && !c[1] && !c[14] && !c[15]);
                s.report(f64::from(i % 7) / 10.0).unwrap();
                all.push(c);
            }
            all
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }

    #[test]
    fn bayesian_search_finds_a_planted_set_sooner() {
        let good = [3, 6, 9, 10, 12];
        let scores = |period: usize| -> f64 {
            (0..12)
                .map(|seed| {
                    let s = LayerSetSearch::new(8, 0.45, period, seed).unwrap();
                    let mut s = s.with_limits(60, 1000, 2.0);
                    while let Some(c) = s.next_candidate() {
                        let score = planted(c, &good);
                        s.report(score).unwrap();
                    }
                    s.best().unwrap().1
                })
                .sum::<f64>()
                / 12.0
        };
        let (bayesian, random) = (scores(1), scores(1000));
        assert!(bayesian > random + 0.05, "{bayesian} against {random}");
        assert!(bayesian > 0.95);
    }

    #[test]
    fn the_process_interpolates() {
        let of = |bits: u32| (0..8).map(|i| bits >> i & 1 == 1).collect::<Vec<_>>();
        let observed: Vec<_> = [(3, 0.2), (12, 0.9), (48, 0.4)].map(|(b, y)| (of(b), y)).into();
        let p = Process::fit(&observed, 4.0).unwrap();
        for (set, y) in &observed {
            let (mean, deviation) = p.predict(set);
            assert!((mean - y).abs() < 0.02 && deviation < 0.15);
        }
        assert!(p.predict(&of(0b1100_0000)).1 > 0.3, "unsure where nothing was scored");
    }

    #[test]
    fn the_search_ends() {
        let mut s = LayerSetSearch::new(4, 0.5, 25, 0).unwrap().with_limits(10, 3, 0.95);
        s.next_candidate();
        s.report(0.5).unwrap();
        assert!(s.report(0.5).is_err(), "no candidate");
        for _ in 0..3 {
            s.next_candidate();
            s.report(0.4).unwrap();
        }
        assert!(s.is_done() && s.next_candidate().is_none());
        let mut s = LayerSetSearch::new(4, 0.5, 25, 0).unwrap();
        s.next_candidate();
        assert!(s.report(f64::NAN).is_err());
        s.report(0.96).unwrap();
        assert!(s.is_done());
        assert!(LayerSetSearch::new(2, 0.5, 1, 0).is_err());
    }
}
