//! Suppressed ids: removes given tokens, always or at the first generated token only.
//!
//! transformers' `suppress_tokens` and `begin_suppress_tokens`; no paper.

use super::{Context, Phase, Processor, Row, remove};
use crate::history::History;
use serde::{Deserialize, Serialize};
use trivium_core::TokenId;
use trivium_core::error::Result;

/// The suppressed tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suppress {
    /// Ids.
    pub tokens: Vec<TokenId>,
    /// Only where nothing is generated yet.
    #[serde(default)]
    pub begin_only: bool,
}

impl Processor for Suppress {
    fn phase(&self) -> Phase {
        Phase::Mask
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn forbids(&self, token: TokenId, history: &History) -> bool {
        (!self.begin_only || history.generated_len() == 0) && self.tokens.contains(&token)
    }

    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()> {
        if self.tokens.is_empty() || (self.begin_only && context.history.generated_len() > 0) {
            return Ok(());
        }
        let (logits, _) = row.edit();
        self.tokens.iter().for_each(|&t| remove(logits, t));
        Ok(())
    }

    fn max_token(&self) -> Option<TokenId> {
        self.tokens.iter().copied().max()
    }

    fn is_neutral(&self) -> bool {
        self.tokens.is_empty()
    }
}
