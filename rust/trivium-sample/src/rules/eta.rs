//! Eta sampling: keep tokens with `p >= min(eps, sqrt(eps) e^-H)`, and the most probable one.
//!
//! Hewitt, Manning, Liang, "Truncation Sampling as Language Model Desmoothing" (Findings of EMNLP
//! 2022), with the formula of transformers.

use super::min_p::keep_from;
use super::{Context, Phase, Processor, Row, range};
use serde::{Deserialize, Serialize};
use trivium_core::error::Result;

/// Parameters of eta sampling.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Eta {
    /// eps; 0 is neutral, 3e-4 to 4e-3 are usual.
    pub epsilon: f32,
}

impl Processor for Eta {
    fn phase(&self) -> Phase {
        Phase::Truncation
    }

    fn check(&self) -> Result<()> {
        range("epsilon", self.epsilon, (0.0..1.0).contains(&self.epsilon), "[0, 1)")
    }

    fn run(&self, row: &mut Row<'_>, _context: &Context<'_>) -> Result<()> {
        if self.is_neutral() {
            return Ok(());
        }
        let (law, scratch) = row.law()?;
        let m = law.moments();
        let ln_total = m.mass.ln();
        let entropy = ln_total - m.weighted / m.mass;
        let ln_eps = f64::from(self.epsilon).ln();
        let ln_eta = ln_eps.min(0.5 * ln_eps - entropy);
        keep_from(law, (f64::from(law.max()) + ln_total + ln_eta) as f32, scratch)
    }

    fn is_neutral(&self) -> bool {
        self.epsilon == 0.0
    }
}
