//! DEL: which layer to leave at and how far to draft, from the verified tokens themselves.
//!
//! During verification the exit logits of every candidate layer are compared with the final tokens:
//! shadow drafts that cost no draft pass. A hit rate a layer forgets exponentially, and
//!
//! ```text
//! tokens a loaded layer:  TPL(ℓ, d) = (1 - α_ℓ^(d+1)) / ((1 - α_ℓ) (ℓ d + L))
//! ```
//!
//! is maximised over exit layers ℓ and draft lengths d; d = 0, plain decoding, is 1 / L. The
//! confidence below which a draft also ends is the midpoint of the mean confidences of hits and
//! misses at the chosen layer (our reading of "dynamic threshold").
//!
//! "DEL: Context-Aware Dynamic Exit Layer for Efficient Self-Speculative Decoding".

use trivium_core::error::{Error, Result};

/// Records of the candidate exit layers of one model.
#[derive(Debug, Clone)]
pub struct ExitChooser {
    layers: usize,
    exits: Vec<usize>,
    max_depth: usize,
    decay: f64,
    /// By exit: weight of trials and of hits.
    tried: Vec<f64>,
    hits: Vec<f64>,
    /// By exit: weight and sum of the confidences of misses and of hits.
    confidence: Vec<[(f64, f64); 2]>,
}

impl ExitChooser {
    /// A model of `layers` layers with candidate `exits` (layers that ran, ascending); `decay` is
    /// what a record weighs a verification later.
    ///
    /// # Errors
    /// `InvalidInput` for exits out of order or range, no depth, or a decay outside 0..=1.
    pub fn new(layers: usize, exits: &[usize], max_depth: usize, decay: f64) -> Result<Self> {
        let ordered = exits.windows(2).all(|w| w[0] < w[1]);
        let range = exits.first().is_some_and(|&e| e >= 1) && exits.last() < Some(&layers);
        if !ordered || !range || max_depth == 0 || !(0.0..=1.0).contains(&decay) {
            return Err(Error::input(
                "exits",
                format!("need ascending layers in 1..{layers}, a depth and a decay in 0..=1"),
            ));
        }
        let n = exits.len();
        Ok(Self {
            layers,
            exits: exits.to_vec(),
            max_depth,
            decay,
            tried: vec![0.0; n],
            hits: vec![0.0; n],
            confidence: vec![[(0.0, 0.0); 2]; n],
        })
    }

    /// One verification: `hit[e][i]` whether exit e would have drafted verified token i, and its
    /// `confidence[e][i]` (empty: unknown).
    ///
    /// # Errors
    /// `InvalidInput` for another number of exits or ragged rows; nothing changes.
    pub fn observe(&mut self, hit: &[Vec<bool>], confidence: &[Vec<f64>]) -> Result<()> {
        let n = self.exits.len();
        let ragged = hit.windows(2).any(|w| w[0].len() != w[1].len());
        let fits = confidence.is_empty()
            || (confidence.len() == n
                && confidence.iter().zip(hit).all(|(c, h)| c.len() == h.len()));
        if hit.len() != n || ragged || !fits {
            return Err(Error::input("hit", format!("need one row of each of {n} exits")));
        }
        for (e, row) in hit.iter().enumerate() {
            self.tried[e] = self.tried[e] * self.decay + row.len() as f64;
            self.hits[e] = self.hits[e] * self.decay + row.iter().filter(|h| **h).count() as f64;
            for c in &mut self.confidence[e] {
                *c = (c.0 * self.decay, c.1 * self.decay);
            }
            for (i, &h) in row.iter().enumerate() {
                if let Some(&x) = confidence.get(e).and_then(|c| c.get(i)) {
                    let c = &mut self.confidence[e][usize::from(h)];
                    *c = (c.0 + 1.0, c.1 + x);
                }
            }
        }
        Ok(())
    }

    /// Estimated acceptance at an exit: hits under a Beta(1, 1) prior.
    pub fn acceptance(&self, exit: usize) -> f64 {
        (self.hits[exit] + 1.0) / (self.tried[exit] + 2.0)
    }

    /// Exit layer, draft length and confidence threshold for the next draft; length 0: do not draft.
    pub fn choose(&self) -> (usize, usize, f64) {
        let mut best = (1.0 / self.layers as f64, self.exits[0], 0, 0.0);
        for (e, &exit) in self.exits.iter().enumerate() {
            let a = self.acceptance(e);
            for d in 1..=self.max_depth {
                let tokens: f64 = (0..=d).map(|i| a.powi(i as i32)).sum();
                let rate = tokens / (exit * d + self.layers) as f64;
                if rate > best.0 {
                    best = (rate, exit, d, self.threshold(e));
                }
            }
        }
        (best.1, best.2, best.3)
    }

    fn threshold(&self, e: usize) -> f64 {
        match self.confidence[e] {
            [(m, miss), (h, hit)] if m > 0.0 && h > 0.0 => f64::midpoint(miss / m, hit / h),
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_the_best_of_a_full_scan() {
        for code in 0..200u32 {
            let noise = |i: u32| trivium_core::rng::philox([i, code, 0, 0], [1, 2])[0] % 100;
            let mut c = ExitChooser::new(12, &[2, 4, 8], 6, 0.9).unwrap();
            for _ in 0..5 {
                let hit = (0..3).map(|e| (0..8).map(|i| noise(e * 8 + i) < 20 + 25 * e).collect());
                c.observe(&hit.collect::<Vec<_>>(), &[]).unwrap();
            }
            let (exit, d, _) = c.choose();
            let tpl = |e: usize, exit: usize, d: usize| {
                let a = c.acceptance(e);
                (1.0 - a.powi(d as i32 + 1)) / ((1.0 - a) * (exit * d + 12) as f64)
            };
            let mut want = (1.0 / 12.0, 2, 0);
            for (e, exit) in [2, 4, 8].into_iter().enumerate() {
                for d in 0..=6 {
                    if tpl(e, exit, d) > want.0 + 1e-15 {
                        want = (tpl(e, exit, d), exit, d);
                    }
                }
            }
            assert_eq!((exit, d), (want.1, want.2));
        }
    }

    #[test]
    fn old_records_fade_and_thresholds_part_hits_from_misses() {
        let mut c = ExitChooser::new(8, &[2], 4, 0.5).unwrap();
        for _ in 0..10 {
            c.observe(&[vec![true; 8]], &[vec![0.9; 8]]).unwrap();
        }
        assert!(c.choose().1 > 0 && c.choose().2 == 0.0);
        for _ in 0..10 {
            c.observe(&[vec![false; 8]], &[vec![0.3; 8]]).unwrap();
        }
        assert_eq!(c.choose().1, 0, "drafting no longer pays");
        assert!(c.acceptance(0) < 0.1);
        c.observe(&[vec![true; 40]], &[vec![0.9; 40]]).unwrap();
        let t = c.choose().2;
        assert!((t - 0.6).abs() < 1e-9, "{t}");
        assert!(c.observe(&[], &[]).is_err());
        assert!(ExitChooser::new(8, &[8], 4, 0.5).is_err());
    }
}
