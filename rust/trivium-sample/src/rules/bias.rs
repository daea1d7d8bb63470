//! Logit bias: adds a number to the logits of given tokens.
//!
//! The rule of OpenAI's API; no paper. Finite numbers only: to forbid or require tokens use
//! `suppress` and `allow`, which say so.

use super::{Context, Phase, Processor, Row, change, range};
use serde::{Deserialize, Serialize};
use trivium_core::TokenId;
use trivium_core::error::Result;

/// Parameters of the logit bias.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogitBias {
    /// (token, number) pairs; several for one token add up.
    pub bias: Vec<(TokenId, f32)>,
}

impl Processor for LogitBias {
    fn phase(&self) -> Phase {
        Phase::Edit
    }

    fn check(&self) -> Result<()> {
        self.bias.iter().try_for_each(|&(t, b)| {
            range(&format!("bias of token {t}"), b, b.is_finite(), "the finite numbers")
        })
    }

    fn run(&self, row: &mut Row<'_>, _context: &Context<'_>) -> Result<()> {
        if self.bias.is_empty() {
            return Ok(());
        }
        let (logits, _) = row.edit();
        for &(token, b) in &self.bias {
            change(logits, token, |z| z + b);
        }
        Ok(())
    }

    fn max_token(&self) -> Option<TokenId> {
        self.bias.iter().map(|b| b.0).max()
    }

    fn is_neutral(&self) -> bool {
        self.bias.iter().all(|b| b.1 == 0.0)
    }
}
