//! From a drafter's probability to the probability of acceptance: 16 bins, decayed counts, made
//! monotone.
//!
//! ```text
//! bin b: tried, accepted, decayed by 1 - 1/512 an observation of that bin
//! a_b = (accepted + 4 centre_b) / (tried + 4)      the drafter is believed until it is measured
//! pool adjacent violators over the bins, then linear between centres
//! ```
//!
//! It replaces the trained head of SpecDec++ and puts scores of different drafters on one scale.

/// Bins over [0, 1].
pub const BINS: usize = 16;

/// Counts by bin.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibrator {
    tried: [f64; BINS],
    accepted: [f64; BINS],
    /// The monotone map at the centres.
    map: [f64; BINS],
}

fn centre(bin: usize) -> f64 {
    (bin as f64 + 0.5) / BINS as f64
}

fn bin_of(p: f64) -> usize {
    // NaN goes to bin 0.
    ((p.clamp(0.0, 1.0) * BINS as f64) as usize).min(BINS - 1)
}

impl Default for Calibrator {
    fn default() -> Self {
        Self::new()
    }
}

impl Calibrator {
    /// The identity.
    pub fn new() -> Self {
        Self { tried: [0.0; BINS], accepted: [0.0; BINS], map: std::array::from_fn(centre) }
    }

    /// Acceptance of a draft of probability `p`: O(1).
    pub fn probability(&self, p: f64) -> f64 {
        let x = (p.clamp(0.0, 1.0) * BINS as f64 - 0.5).clamp(0.0, (BINS - 1) as f64);
        let at = (x as usize).min(BINS - 2);
        let share = x - at as f64;
        // The ends of the scale are its own: a certain token is certain until measured otherwise.
        let inner = self.map[at] * (1.0 - share) + self.map[at + 1] * share;
        let edge = (p.clamp(0.0, 1.0) - centre(BINS - 1)) * BINS as f64 * 2.0;
        if edge > 0.0 && self.tried[BINS - 1] == 0.0 { inner + edge * (1.0 - inner) } else { inner }
    }

    /// Counts one tested draft: O(bins).
    pub fn record(&mut self, p: f64, accepted: bool) {
        let b = bin_of(p);
        let keep = 1.0 - 1.0 / 512.0;
        self.tried[b] = self.tried[b] * keep + 1.0;
        self.accepted[b] = self.accepted[b] * keep + f64::from(u8::from(accepted));
        self.project();
    }

    fn project(&mut self) {
        let mut blocks: Vec<(f64, f64, usize)> = Vec::with_capacity(BINS);
        for b in 0..BINS {
            let weight = self.tried[b] + 4.0;
            blocks.push(((self.accepted[b] + 4.0 * centre(b)) / weight, weight, 1));
            while let [.., x, y] = blocks[..] {
                if x.0 <= y.0 {
                    break;
                }
                let w = x.1 + y.1;
                blocks.truncate(blocks.len() - 2);
                blocks.push(((x.0 * x.1 + y.0 * y.1) / w, w, x.2 + y.2));
            }
        }
        let flat = blocks.iter().flat_map(|&(v, _, n)| std::iter::repeat_n(v, n));
        for (m, v) in self.map.iter_mut().zip(flat) {
            *m = v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_new_calibrator_believes() {
        let c = Calibrator::new();
        for p in [0.04, 0.3, 0.5, 0.77, 0.97, 1.0] {
            assert!((c.probability(p) - p).abs() < 0.03, "{p} {}", c.probability(p));
        }
    }

    #[test]
    fn what_happens_is_learned() {
        // The drafter is overconfident: p is accepted with probability p².
        let mut c = Calibrator::new();
        for i in 0..40_000u32 {
            let u = |s: u32| {
                f64::from(trivium_core::rng::philox([i, s, 0, 0], [1, 2])[0]) / 4_294_967_296.0
            };
            let p = u(0);
            c.record(p, u(1) < p * p);
        }
        for p in [0.2, 0.4, 0.6, 0.8, 0.95] {
            assert!((c.probability(p) - p * p).abs() < 0.06, "{p}: {}", c.probability(p));
        }
    }

    proptest! {
        #[test]
        fn the_map_is_monotone_and_a_probability(
            seen in prop::collection::vec((0.0f64..1.0, prop::bool::ANY), 0..200),
        ) {
            let mut c = Calibrator::new();
            seen.iter().for_each(|&(p, a)| c.record(p, a));
            let mut last = 0.0;
            for i in 0..=100 {
                let a = c.probability(f64::from(i) / 100.0);
                prop_assert!((0.0..=1.0).contains(&a) && a >= last - 1e-12);
                last = a;
            }
        }
    }
}
