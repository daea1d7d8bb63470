//! Dynamic temperature: `T = low + (high - low) (H / ln V')^e`, `H` the entropy and `V'` the number of
//! tokens left.
//!
//! llama.cpp's rule, after Zhang et al., "EDT: Improving Large Language Models' Generation by
//! Entropy-based Dynamic Temperature Sampling" (which uses another curve of the entropy). A single
//! candidate is left alone.

use super::{Context, Phase, Processor, Row, range};
use serde::{Deserialize, Serialize};
use trivium_core::error::Result;

/// Parameters of the dynamic temperature.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dynatemp {
    /// Temperature of a point mass.
    pub low: f32,
    /// Temperature of the flat law.
    pub high: f32,
    /// e, the bend of the curve.
    #[serde(default = "one")]
    pub exponent: f32,
}

fn one() -> f32 {
    1.0
}

impl Processor for Dynatemp {
    fn phase(&self) -> Phase {
        Phase::Temperature
    }

    fn check(&self) -> Result<()> {
        range("low", self.low, (0.0..f32::INFINITY).contains(&self.low), "[0, inf)")?;
        range("high", self.high, (self.low..f32::INFINITY).contains(&self.high), "[low, inf)")?;
        range("exponent", self.exponent, (0.0..f32::INFINITY).contains(&self.exponent), "[0, inf)")
    }

    fn run(&self, row: &mut Row<'_>, _context: &Context<'_>) -> Result<()> {
        let (law, _) = row.law()?;
        let m = law.moments();
        if m.count < 2 {
            return Ok(());
        }
        let entropy = m.mass.ln() - m.weighted / m.mass;
        let share = (entropy / (m.count as f64).ln()).clamp(0.0, 1.0);
        let curve = share.powf(f64::from(self.exponent));
        let t = f64::from(self.low) + f64::from(self.high - self.low) * curve;
        law.rescale(t as f32)?;
        if !law.is_greedy() {
            row.exponent /= f64::from(t as f32);
        }
        Ok(())
    }

    fn is_neutral(&self) -> bool {
        self.low == 1.0 && self.high == 1.0
    }
}
