//! How honest the estimates were: predicted against observed acceptance.

/// Equal bins of the estimate over [0, 1].
pub const BINS: usize = 20;

/// Drafted nodes whose parent was reached, by estimate.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bin {
    /// Nodes.
    pub tried: u64,
    /// Sum of their estimates: acceptances expected.
    pub expected: f64,
    /// Acceptances seen.
    pub accepted: u64,
}

/// A reliability curve, filled online with each estimate as it was when the node was drafted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Calibration {
    bins: [Bin; BINS],
}

impl Calibration {
    /// Counts one node; estimates that are not numbers (host trees) are left out.
    pub fn record(&mut self, estimate: f32, accepted: bool) {
        if estimate.is_nan() {
            return;
        }
        let at = (f64::from(estimate) * BINS as f64) as usize;
        let bin = &mut self.bins[at.min(BINS - 1)];
        bin.tried += 1;
        bin.expected += f64::from(estimate);
        bin.accepted += u64::from(accepted);
    }

    /// The curve.
    pub fn bins(&self) -> &[Bin] {
        &self.bins
    }

    /// Expected calibration error: the distance of expected and seen frequency, averaged over nodes;
    /// 0 before any.
    pub fn error(&self) -> f64 {
        let tried: u64 = self.bins.iter().map(|b| b.tried).sum();
        let off: f64 = self.bins.iter().map(|b| (b.expected - b.accepted as f64).abs()).sum();
        if tried == 0 { 0.0 } else { off / tried as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_the_mean_distance_of_bins() {
        let mut c = Calibration::default();
        assert_eq!(c.error(), 0.0);
        for i in 0..10 {
            c.record(0.9, i < 9); // honest
            c.record(0.3, false); // 0.3 too high
        }
        c.record(f32::NAN, true);
        c.record(1.0, true);
        assert!((c.error() - 3.0 / 21.0).abs() < 1e-6, "{}", c.error());
        assert_eq!(c.bins().iter().map(|b| b.tried).sum::<u64>(), 21);
    }
}
