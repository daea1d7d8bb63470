//! N-gram blocking: no n tokens in a row twice.
//!
//! Paulus, Xiong, Socher, "A Deep Reinforced Model for Abstractive Summarization" (ICLR 2018). The
//! followers of the last n - 1 tokens are found through an index of the history (see
//! [`History`](crate::History)), every hit verified token by token. The prompt counts, as in
//! transformers, unless `include_prompt` is false.

use super::{Context, Phase, Processor, Row, Scratch, range, remove};
use crate::history::History;
use serde::{Deserialize, Serialize};
use trivium_core::TokenId;
use trivium_core::error::Result;

/// Parameters of n-gram blocking.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NgramBlock {
    /// n; 1 forbids every token that was seen.
    pub n: usize,
    /// Whether n-grams of the prompt count.
    #[serde(default = "yes")]
    pub include_prompt: bool,
}

fn yes() -> bool {
    true
}

impl Processor for NgramBlock {
    fn phase(&self) -> Phase {
        Phase::Mask
    }

    fn check(&self) -> Result<()> {
        range("n", self.n, (1..=64).contains(&self.n), "1..=64")
    }

    fn forbids(&self, token: TokenId, history: &History) -> bool {
        let (mut prefix, mut followers) = (Vec::new(), Vec::new());
        history.followers(self.n, self.include_prompt, &mut prefix, &mut followers);
        followers.contains(&token)
    }

    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()> {
        let Scratch { tokens, ids, .. } = &mut *row.scratch;
        ids.clear();
        context.history.followers(self.n, self.include_prompt, tokens, ids);
        if ids.is_empty() {
            return Ok(());
        }
        let (logits, Scratch { ids, .. }) = row.edit();
        for &t in ids.iter() {
            remove(logits, t);
        }
        Ok(())
    }
}
