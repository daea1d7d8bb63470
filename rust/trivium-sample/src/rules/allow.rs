//! Allowed ids: removes every token but those given.
//!
//! The mask of "(G)I-DLE: Generative Inference via Distribution-preserving Logit Exclusion": the law
//! on the set that is closest to the model's in `KL(Q || P)` is `Q = P / P(A)`, which is what masking
//! before temperature and truncation gives. `P(A)` is part of the kept mass that every draw reports.

use super::{Context, Phase, Processor, Row};
use crate::history::History;
use serde::{Deserialize, Serialize};
use trivium_core::TokenId;
use trivium_core::error::{Error, Result};

/// The allowed tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// Ids, at least one; kept sorted.
    pub tokens: Vec<TokenId>,
}

impl Processor for Allow {
    fn phase(&self) -> Phase {
        Phase::Mask
    }

    fn check(&self) -> Result<()> {
        if self.tokens.is_empty() {
            return Err(Error::input("allowed_tokens", "is empty; no token could be drawn"));
        }
        if !self.tokens.is_sorted() {
            return Err(Error::input("allowed_tokens", "must be in ascending order"));
        }
        Ok(())
    }

    fn forbids(&self, token: TokenId, _history: &History) -> bool {
        self.tokens.binary_search(&token).is_err()
    }

    fn run(&self, row: &mut Row<'_>, _context: &Context<'_>) -> Result<()> {
        let (logits, _) = row.edit();
        let mut start = 0;
        for &t in &self.tokens {
            let t = (t as usize).min(logits.len());
            if t >= start {
                logits[start..t].fill(f32::NEG_INFINITY);
                start = t + 1;
            }
        }
        if let Some(rest) = logits.get_mut(start..) {
            rest.fill(f32::NEG_INFINITY);
        }
        Ok(())
    }

    fn max_token(&self) -> Option<TokenId> {
        self.tokens.iter().copied().max()
    }
}
