//! Temperature: `z / T`. Below 1e-5 the law is the point mass on the lowest arg-max.
//!
//! Ackley, Hinton, Sejnowski, "A Learning Algorithm for Boltzmann Machines" (Cognitive Science
//! 1985). Computed as `z * (1 / T)` in f32; logits that would overflow are shifted by their maximum.
//! A row may bring its own T, as AutoDeco's temperature head predicts one a token ("The End of Manual
//! Decoding: Towards Truly End-to-End Language Models").

use super::{Context, Phase, Processor, Row, range};
use serde::{Deserialize, Serialize};
use trivium_core::draw::GREEDY_TEMPERATURE;
use trivium_core::error::Result;

/// Parameters of the temperature.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Temperature {
    /// T; 1 is neutral.
    pub temperature: f32,
}

impl Processor for Temperature {
    fn phase(&self) -> Phase {
        Phase::Temperature
    }

    fn check(&self) -> Result<()> {
        let t = self.temperature;
        range("temperature", t, (0.0..f32::INFINITY).contains(&t), "[0, inf)")
    }

    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()> {
        let t = context.hyper.temperature.unwrap_or(self.temperature);
        row.law()?.0.rescale(t)?;
        if t >= GREEDY_TEMPERATURE {
            row.exponent /= f64::from(t);
        }
        Ok(())
    }

    fn is_neutral(&self) -> bool {
        self.temperature == 1.0
    }
}
