//! Top-n-sigma: keep tokens with `z >= z_max - n std(z)`, over the logits that are left.
//!
//! Tang et al., "Top-nσ: Not All Logits Are You Need". The standard deviation is the population's, in
//! two passes in f64. Temperature scales both sides, so the set does not depend on it.

use super::min_p::keep_from;
use super::{Context, Phase, Processor, Row, range};
use serde::{Deserialize, Serialize};
use trivium_core::ScaledRow;
use trivium_core::error::Result;

/// Parameters of top-n-sigma.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopNSigma {
    /// n; 1 is usual.
    pub n: f32,
}

impl Processor for TopNSigma {
    fn phase(&self) -> Phase {
        Phase::Truncation
    }

    fn check(&self) -> Result<()> {
        range("top_n_sigma", self.n, (0.0..f32::INFINITY).contains(&self.n), "[0, inf)")
    }

    fn run(&self, row: &mut Row<'_>, _context: &Context<'_>) -> Result<()> {
        let (law, scratch) = row.law()?;
        let floor = f64::from(law.max()) - f64::from(self.n) * deviation(law);
        keep_from(law, floor as f32, scratch)
    }
}

/// Population standard deviation of the logits left.
fn deviation(row: &ScaledRow) -> f64 {
    // Distances from the maximum: large common offsets cost no digits.
    let max = row.max();
    let pass = |f: &dyn Fn(f64) -> f64| {
        let (mut sum, mut n) = (0.0, 0u32);
        for &x in row.scaled() {
            if x > f32::NEG_INFINITY {
                sum += f(f64::from(x) - f64::from(max));
                n += 1;
            }
        }
        sum / f64::from(n.max(1))
    };
    let mean = pass(&|d| d);
    pass(&|d| (d - mean) * (d - mean)).sqrt()
}
