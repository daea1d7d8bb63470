//! Penalty decoding: a repetition penalty that forgets, and a length penalty against early ends.
//!
//! Zhu, Hao, Yang, "Penalty Decoding: Well Suppress the Self-Reinforcement Effect in Open-Ended Text
//! Generation" (EMNLP 2023). The released code lacks the forgetting window; our definition: the
//! repetition penalty over the last `window` generated tokens, and for the end tokens
//! `z -= l max(0, 1 - t / target)` at the t-th generated token.

use super::{Context, Phase, Processor, Row, change, range, repetition};
use crate::history::Scope;
use serde::{Deserialize, Serialize};
use trivium_core::TokenId;
use trivium_core::error::Result;

/// Parameters of penalty decoding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forgetting {
    /// r of the repetition penalty; 1 is neutral, 1.5 is usual.
    pub penalty: f32,
    /// Generated tokens remembered; 0 is neutral, 100 is usual.
    #[serde(default = "hundred")]
    pub window: usize,
    /// l, in nats.
    #[serde(default)]
    pub length: f32,
    /// Generated tokens after which the length penalty is gone.
    #[serde(default)]
    pub target: usize,
    /// End tokens.
    #[serde(default)]
    pub eos: Vec<TokenId>,
}

fn hundred() -> usize {
    100
}

impl Processor for Forgetting {
    fn phase(&self) -> Phase {
        Phase::Edit
    }

    fn check(&self) -> Result<()> {
        range("penalty", self.penalty, self.penalty > 0.0 && self.penalty.is_finite(), "(0, inf)")?;
        range("length", self.length, self.length.is_finite(), "the finite numbers")
    }

    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()> {
        if self.window > 0 {
            let window = Some(self.window);
            repetition::penalise(row, context, self.penalty, Scope::Generated, window);
        }
        let t = context.history.generated_len();
        if self.length != 0.0 && t < self.target {
            let early = self.length * (1.0 - t as f32 / self.target as f32);
            let (logits, _) = row.edit();
            for &token in &self.eos {
                change(logits, token, |z| z - early);
            }
        }
        Ok(())
    }

    fn max_token(&self) -> Option<TokenId> {
        self.eos.iter().copied().max()
    }

    fn is_neutral(&self) -> bool {
        (self.penalty == 1.0 || self.window == 0) && (self.length == 0.0 || self.target == 0)
    }
}
