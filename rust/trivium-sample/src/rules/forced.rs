//! Forced tokens: at given places of the output only one token may come.
//!
//! transformers' forced first token, forced end and decoder prompts; no paper. A hard mask: the token
//! keeps its logit, so a token that something else forbids makes the row empty, which is an error and
//! not a silent resurrection (transformers writes 0 there).

use super::{Context, Phase, Processor, Row, remove_others};
use crate::history::History;
use serde::{Deserialize, Serialize};
use trivium_core::TokenId;
use trivium_core::error::Result;

/// The forced tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forced {
    /// (generated tokens so far, token) pairs; the first that fits counts.
    #[serde(default)]
    pub at: Vec<(usize, TokenId)>,
}

impl Processor for Forced {
    fn phase(&self) -> Phase {
        Phase::Mask
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn forbids(&self, token: TokenId, history: &History) -> bool {
        let t = history.generated_len();
        self.at.iter().find(|f| f.0 == t).is_some_and(|f| f.1 != token)
    }

    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()> {
        let t = context.history.generated_len();
        if let Some(&(_, token)) = self.at.iter().find(|f| f.0 == t) {
            remove_others(row.edit().0, |other| other == token);
        }
        Ok(())
    }

    fn max_token(&self) -> Option<TokenId> {
        self.at.iter().map(|f| f.1).max()
    }

    fn is_neutral(&self) -> bool {
        self.at.is_empty()
    }
}
