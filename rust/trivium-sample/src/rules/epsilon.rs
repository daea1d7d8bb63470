//! Epsilon sampling: keep tokens with `p >= eps`, and the most probable one.
//!
//! Hewitt, Manning, Liang, "Truncation Sampling as Language Model Desmoothing" (Findings of EMNLP
//! 2022).

use super::min_p::keep_from;
use super::{Context, Phase, Processor, Row, range};
use serde::{Deserialize, Serialize};
use trivium_core::error::Result;

/// Parameters of epsilon sampling.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Epsilon {
    /// eps; 0 is neutral, 3e-4 to 9e-4 are usual.
    pub epsilon: f32,
}

impl Processor for Epsilon {
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
        // p = e^(z - max) / total.
        let floor = f64::from(law.max()) + law.total().ln() + f64::from(self.epsilon).ln();
        keep_from(law, floor as f32, scratch)
    }

    fn is_neutral(&self) -> bool {
        self.epsilon == 0.0
    }
}
