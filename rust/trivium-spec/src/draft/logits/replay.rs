//! Online distillation: which positions a draft model should learn from, and when.
//!
//! Rejected positions teach most, so they are kept first; accepted ones fill what is left. Both
//! halves are reservoirs: every position offered has the same chance to be in its half. An update
//! is due every `interval` finished requests, or when the running acceptance has fallen below
//! `drop` of its best.
//!
//! "Online Speculative Decoding". Weights must not change between drafting and verifying a token:
//! hosts swap them between steps.

use trivium_core::rng::philox;

/// A position to learn from; the context lives with the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The host's handle of the text.
    pub context: u64,
    /// Position of the token within it.
    pub position: u32,
    /// Whether the draft was accepted there.
    pub accepted: bool,
}

/// Bounded buffer of samples.
#[derive(Debug, Clone)]
pub struct ReplayBuffer {
    capacity: usize,
    /// Rejected, accepted.
    halves: [(Vec<Sample>, u64); 2],
    interval: usize,
    drop: f64,
    finished: usize,
    rate: Option<f64>,
    best_rate: f64,
    key: [u32; 2],
}

/// Weight of the newest request in the running acceptance.
const NEWEST: f64 = 0.1;

impl ReplayBuffer {
    /// A buffer of `capacity` samples, half of them for accepted positions at most.
    pub fn new(capacity: usize, interval: usize, drop: f64, seed: u64) -> Self {
        Self {
            capacity: capacity.max(2),
            halves: [(Vec::new(), 0), (Vec::new(), 0)],
            interval: interval.max(1),
            drop,
            finished: 0,
            rate: None,
            best_rate: 0.0,
            key: [seed as u32, (seed >> 32) as u32],
        }
    }

    /// Offers a position: O(1). Gives the sample that is held no longer: another one, or this.
    pub fn push(&mut self, sample: Sample) -> Option<Sample> {
        let half = usize::from(sample.accepted);
        let room = if sample.accepted { self.capacity / 2 } else { self.capacity.div_ceil(2) };
        let (kept, seen) = &mut self.halves[half];
        *seen += 1;
        if kept.len() < room {
            kept.push(sample);
            return None;
        }
        let b = philox([*seen as u32, (*seen >> 32) as u32, half as u32, 8], self.key);
        let at = (u64::from(b[0]) << 32 | u64::from(b[1])) % *seen;
        Some(match kept.get_mut(at as usize) {
            Some(slot) => std::mem::replace(slot, sample),
            None => sample,
        })
    }

    /// A request ended with this share of its drafts accepted.
    pub fn finish(&mut self, acceptance: f64) {
        self.finished += 1;
        let rate = self.rate.map_or(acceptance, |r| r + NEWEST * (acceptance - r));
        self.rate = Some(rate);
        self.best_rate = self.best_rate.max(rate);
    }

    /// Whether the draft should be updated now.
    pub fn is_due(&self) -> bool {
        let some = self.halves.iter().any(|h| !h.0.is_empty());
        let fell = self.rate.is_some_and(|r| r < self.drop * self.best_rate);
        some && (self.finished >= self.interval || fell)
    }

    /// Samples held.
    pub fn len(&self) -> usize {
        self.halves.iter().map(|h| h.0.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes all samples, rejected ones first; counting starts anew.
    pub fn drain(&mut self) -> Vec<Sample> {
        self.finished = 0;
        self.best_rate = self.rate.unwrap_or(0.0);
        let mut out = Vec::with_capacity(self.len());
        for (kept, seen) in &mut self.halves {
            out.append(kept);
            *seen = 0;
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(i: u64, accepted: bool) -> Sample {
        Sample { context: i, position: 0, accepted }
    }

    #[test]
    fn rejected_positions_first_and_every_one_alike() {
        let mut kept = vec![0; 40];
        for seed in 0..2000 {
            let mut b = ReplayBuffer::new(10, 1, 0.5, seed);
            let gone: usize =
                (0..80).map(|i| usize::from(b.push(sample(i % 40, i >= 40)).is_some())).sum();
            assert_eq!((b.len(), gone), (10, 70), "what is not held is told");
            let all = b.drain();
            assert!(all[..5].iter().all(|s| !s.accepted) && all[5..].iter().all(|s| s.accepted));
            all[..5].iter().for_each(|s| kept[s.context as usize] += 1);
            assert!(b.is_empty());
        }
        // 2000 * 5 / 40 = 250 each, deviation 15.
        assert!(kept.iter().all(|&n| (170..330).contains(&n)), "{kept:?}");
    }

    #[test]
    fn updates_are_due_by_count_or_by_a_fall() {
        let mut b = ReplayBuffer::new(4, 100, 0.8, 0);
        b.finish(0.9);
        assert!(!b.is_due(), "nothing to learn from");
        b.push(sample(1, false));
        assert!(!b.is_due());
        for _ in 0..5 {
            b.finish(0.2);
        }
        assert!(b.is_due(), "acceptance fell");
        b.drain();
        b.push(sample(2, true));
        assert!(!b.is_due());
        (0..100).for_each(|_| b.finish(0.5));
        assert!(b.is_due());
    }
}
