//! Online calibration: how often a candidate of a given situation was accepted.
//!
//! After each verification every drafted node whose parent was reached is a labelled example. A
//! bucket keeps decayed counts; the estimate is their posterior mean under a Beta prior centred at
//! the source's own guess, so a fresh table trusts the source and a used one trusts the record.

/// Weight of the source's own guess, in examples.
const PRIOR_WEIGHT: f32 = 6.0;

/// Examples after which a bucket's counts are halved.
const HORIZON: f32 = 4096.0;

/// Acceptance counts of one source, a bucket a situation.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibrator {
    buckets: Vec<(f32, f32)>,
}

impl Calibrator {
    /// All buckets empty.
    pub fn new(num_features: usize) -> Self {
        Self { buckets: vec![(0.0, 0.0); num_features] }
    }

    /// Estimated acceptance of a candidate in situation `feature` that its source gives `prior`.
    #[inline]
    pub fn estimate(&self, feature: u16, prior: f32) -> f32 {
        let (tried, accepted) = self.buckets.get(feature as usize).copied().unwrap_or_default();
        (accepted + PRIOR_WEIGHT * prior) / (tried + PRIOR_WEIGHT)
    }

    /// Counts one labelled example.
    pub fn record(&mut self, feature: u16, accepted: bool) {
        if let Some(b) = self.buckets.get_mut(feature as usize) {
            b.0 += 1.0;
            b.1 += f32::from(u8::from(accepted));
            if b.0 > HORIZON {
                *b = (b.0 * 0.5, b.1 * 0.5);
            }
        }
    }

    /// (tried, accepted) of every bucket, as bits for a file.
    pub(crate) fn save(&self) -> Vec<u32> {
        self.buckets.iter().flat_map(|b| [b.0.to_bits(), b.1.to_bits()]).collect()
    }

    /// Restores [`save`](Self::save); `None` if it does not fit this table.
    pub(crate) fn restore(num_features: usize, bits: &[u32]) -> Option<Self> {
        let buckets: Vec<(f32, f32)> =
            bits.chunks_exact(2).map(|c| (f32::from_bits(c[0]), f32::from_bits(c[1]))).collect();
        let sound = |b: &(f32, f32)| b.0 >= 0.0 && b.1 >= 0.0 && b.1 <= b.0 && b.0 <= HORIZON;
        (bits.len() == 2 * num_features && buckets.iter().all(sound)).then_some(Self { buckets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_move_from_the_prior_to_the_record() {
        let mut c = Calibrator::new(2);
        assert!((c.estimate(0, 0.3) - 0.3).abs() < 1e-6);
        for i in 0..4000 {
            c.record(0, i % 4 == 0);
        }
        assert!((c.estimate(0, 0.9) - 0.25).abs() < 0.01);
        assert!((c.estimate(1, 0.9) - 0.9).abs() < 1e-6);
        for _ in 0..100_000 {
            c.record(0, true);
        }
        assert!(c.estimate(0, 0.0) > 0.99, "old examples fade");
        let saved = c.save();
        assert_eq!(Calibrator::restore(2, &saved), Some(c));
        assert_eq!(Calibrator::restore(3, &saved), None);
        assert_eq!(Calibrator::restore(1, &[f32::NAN.to_bits(), 0]), None);
    }
}
