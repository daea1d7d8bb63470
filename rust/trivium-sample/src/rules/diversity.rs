//! Hamming diversity: lowers tokens that siblings chose at this step.
//!
//! Vijayakumar et al., "Diverse Beam Search: Decoding Diverse Solutions from Neural Sequence Models"
//! (AAAI 2018): `z_v -= lambda count(v)` over the tokens that earlier groups chose. These come from the
//! host with every call (`peers`); without any the rule is the identity. A verifier knows no siblings
//! and refuses a pipeline with this rule.

use super::{Context, Phase, Processor, Row, Scratch, change, range};
use serde::{Deserialize, Serialize};
use trivium_core::error::Result;

/// Parameters of Hamming diversity.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Diversity {
    /// lambda, in nats; 0 is neutral.
    #[serde(default = "half")]
    pub penalty: f32,
}

fn half() -> f32 {
    0.5
}

impl Processor for Diversity {
    fn phase(&self) -> Phase {
        Phase::Edit
    }

    fn check(&self) -> Result<()> {
        let ok = (0.0..f32::INFINITY).contains(&self.penalty);
        range("diversity", self.penalty, ok, "[0, inf)")
    }

    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()> {
        if self.penalty == 0.0 || context.peers.is_empty() {
            return Ok(());
        }
        let (logits, Scratch { tokens, .. }) = row.edit();
        tokens.clear();
        tokens.extend_from_slice(context.peers);
        tokens.sort_unstable();
        for same in tokens.chunk_by(|a, b| a == b) {
            change(logits, same[0], |z| z - self.penalty * same.len() as f32);
        }
        Ok(())
    }

    fn is_neutral(&self) -> bool {
        self.penalty == 0.0
    }
}
