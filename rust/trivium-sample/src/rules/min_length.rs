//! Minimum length: removes the end tokens while the text is too short.
//!
//! transformers' `min_length` (prompt included) and `min_new_tokens`; no paper.

use super::{Context, Phase, Processor, Row, remove};
use crate::history::History;
use serde::{Deserialize, Serialize};
use trivium_core::TokenId;
use trivium_core::error::Result;

/// Parameters of the minimum length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinLength {
    /// Tokens to generate before an end.
    #[serde(default)]
    pub new_tokens: usize,
    /// Tokens of the whole text before an end, prompt included.
    #[serde(default)]
    pub total: usize,
    /// End tokens.
    pub eos: Vec<TokenId>,
}

impl MinLength {
    fn too_short(&self, history: &History) -> bool {
        history.generated_len() < self.new_tokens || history.len() < self.total
    }
}

impl Processor for MinLength {
    fn phase(&self) -> Phase {
        Phase::Mask
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn forbids(&self, token: TokenId, history: &History) -> bool {
        self.too_short(history) && self.eos.contains(&token)
    }

    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()> {
        if self.too_short(context.history) {
            let (logits, _) = row.edit();
            self.eos.iter().for_each(|&t| remove(logits, t));
        }
        Ok(())
    }

    fn max_token(&self) -> Option<TokenId> {
        self.eos.iter().copied().max()
    }

    fn is_neutral(&self) -> bool {
        self.eos.is_empty() || (self.new_tokens == 0 && self.total == 0)
    }
}
