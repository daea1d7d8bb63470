//! Rules over the input of an encoder: a bonus for its tokens, and a ban on copying its n-grams.
//!
//! transformers' `encoder_repetition_penalty` and `encoder_no_repeat_ngram_size`; no paper. The input
//! is plain data of the rule, because it stays as it is along the text.

use super::{Context, Phase, Processor, Row, change, range, remove};
use crate::history::History;
use serde::{Deserialize, Serialize};
use trivium_core::TokenId;
use trivium_core::error::{Error, Result};

/// Makes the tokens of an encoder's input more likely: the inverse of a repetition penalty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderRepetition {
    /// r; above 1: `z < 0 -> z / r`, else `z r`. 1 is neutral.
    pub penalty: f32,
    /// Distinct tokens of the input, ascending.
    pub tokens: Vec<TokenId>,
}

/// Forbids to complete an n-gram of an encoder's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderNgram {
    /// n; 1 forbids every token of the input.
    pub n: usize,
    /// The input.
    pub tokens: Vec<TokenId>,
}

impl Processor for EncoderRepetition {
    fn phase(&self) -> Phase {
        Phase::Edit
    }

    fn check(&self) -> Result<()> {
        let r = self.penalty;
        range("encoder_repetition", r, r > 0.0 && r < f32::INFINITY, "(0, inf)")?;
        if self.tokens.windows(2).all(|w| w[0] < w[1]) {
            return Ok(());
        }
        Err(Error::input("encoder_repetition", "tokens must ascend and be distinct"))
    }

    fn run(&self, row: &mut Row<'_>, _context: &Context<'_>) -> Result<()> {
        if self.is_neutral() {
            return Ok(());
        }
        let (logits, _) = row.edit();
        let r = 1.0 / self.penalty;
        for &t in &self.tokens {
            change(logits, t, |z| if z < 0.0 { z * r } else { z / r });
        }
        Ok(())
    }

    fn is_neutral(&self) -> bool {
        self.penalty == 1.0 || self.tokens.is_empty()
    }
}

impl EncoderNgram {
    /// The tokens that would complete an n-gram now, with repetitions.
    fn completions(&self, history: &History) -> impl Iterator<Item = TokenId> {
        self.tokens.windows(self.n).filter_map(|gram| {
            let (&last, before) = gram.split_last()?;
            history.ends_with(before).then_some(last)
        })
    }
}

impl Processor for EncoderNgram {
    fn phase(&self) -> Phase {
        Phase::Mask
    }

    fn check(&self) -> Result<()> {
        range("n", self.n, (1..=64).contains(&self.n), "1..=64")
    }

    fn forbids(&self, token: TokenId, history: &History) -> bool {
        self.completions(history).any(|t| t == token)
    }

    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()> {
        for t in self.completions(context.history) {
            remove(row.edit().0, t);
        }
        Ok(())
    }

    fn is_neutral(&self) -> bool {
        self.tokens.len() < self.n
    }
}
