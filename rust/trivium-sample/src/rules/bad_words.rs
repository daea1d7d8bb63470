//! Bad words and sequence bias: acts on the last token of a sequence when the text ends with the
//! rest of it.
//!
//! transformers' rules; no paper. Bad words are removed, sequences get a finite bias; a sequence of one
//! token always applies.

use super::{Context, Phase, Processor, Row, change, range, remove};
use crate::history::History;
use serde::{Deserialize, Serialize};
use trivium_core::TokenId;
use trivium_core::error::{Error, Result};

/// Sequences that may not be completed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BadWords {
    /// The sequences, none empty.
    pub words: Vec<Vec<TokenId>>,
}

/// Sequences whose completion is made more or less likely.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SequenceBias {
    /// (sequence, number) pairs, none empty.
    pub bias: Vec<(Vec<TokenId>, f32)>,
}

/// The token that would complete a sequence now.
fn completes(history: &History, sequence: &[TokenId]) -> Option<TokenId> {
    let (&last, before) = sequence.split_last()?;
    history.ends_with(before).then_some(last)
}

fn not_empty(what: &str, empty: bool) -> Result<()> {
    if empty { Err(Error::input(what, "holds an empty sequence")) } else { Ok(()) }
}

impl Processor for BadWords {
    fn phase(&self) -> Phase {
        Phase::Mask
    }

    fn check(&self) -> Result<()> {
        not_empty("bad_words", self.words.iter().any(Vec::is_empty))
    }

    fn forbids(&self, token: TokenId, history: &History) -> bool {
        self.words.iter().any(|w| completes(history, w) == Some(token))
    }

    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()> {
        for token in self.words.iter().filter_map(|w| completes(context.history, w)) {
            remove(row.edit().0, token);
        }
        Ok(())
    }

    fn max_token(&self) -> Option<TokenId> {
        self.words.iter().flatten().copied().max()
    }

    fn is_neutral(&self) -> bool {
        self.words.is_empty()
    }
}

impl Processor for SequenceBias {
    fn phase(&self) -> Phase {
        Phase::Edit
    }

    fn check(&self) -> Result<()> {
        not_empty("sequence_bias", self.bias.iter().any(|b| b.0.is_empty()))?;
        self.bias
            .iter()
            .try_for_each(|(_, b)| range("sequence_bias", b, b.is_finite(), "the finite numbers"))
    }

    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()> {
        for (sequence, b) in &self.bias {
            if let Some(token) = completes(context.history, sequence) {
                change(row.edit().0, token, |z| z + b);
            }
        }
        Ok(())
    }

    fn max_token(&self) -> Option<TokenId> {
        self.bias.iter().flat_map(|b| &b.0).copied().max()
    }

    fn is_neutral(&self) -> bool {
        self.bias.iter().all(|b| b.1 == 0.0)
    }
}
