//! Exponential length decay: after `start` generated tokens the end gains
//! `z_eos += |z_eos| (f^(t - start) - 1)`.
//!
//! transformers' `exponential_decay_length_penalty`; no paper.

use super::{Context, Phase, Processor, Row, change, range};
use serde::{Deserialize, Serialize};
use trivium_core::TokenId;
use trivium_core::error::Result;

/// Parameters of the length decay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LengthDecay {
    /// Generated tokens before it acts.
    pub start: usize,
    /// f; 1 is neutral.
    pub factor: f32,
    /// End tokens.
    pub eos: Vec<TokenId>,
}

impl Processor for LengthDecay {
    fn phase(&self) -> Phase {
        Phase::Edit
    }

    fn check(&self) -> Result<()> {
        range("factor", self.factor, self.factor > 0.0 && self.factor.is_finite(), "(0, inf)")
    }

    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()> {
        let t = context.history.generated_len();
        if t > self.start && self.factor != 1.0 {
            let gain = f64::from(self.factor).powf((t - self.start) as f64) - 1.0;
            let (logits, _) = row.edit();
            for &token in &self.eos {
                change(logits, token, |z| (f64::from(z) + f64::from(z).abs() * gain) as f32);
            }
        }
        Ok(())
    }

    fn max_token(&self) -> Option<TokenId> {
        self.eos.iter().copied().max()
    }

    fn is_neutral(&self) -> bool {
        self.factor == 1.0 || self.eos.is_empty()
    }
}
