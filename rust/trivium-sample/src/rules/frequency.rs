//! Frequency and presence penalties: `z -= count * f + [count > 0] * g`.
//!
//! The rule of OpenAI's API, vLLM and llama.cpp; no paper. Generated tokens count, as in the first
//! two; `scope = "all"` with a window is llama.cpp's.

use super::{Context, Phase, Processor, Row, Scratch, change, range};
use crate::history::Scope;
use serde::{Deserialize, Serialize};
use trivium_core::error::Result;

/// Parameters of the penalties.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frequency {
    /// f, a time.
    #[serde(default)]
    pub frequency: f32,
    /// g, once.
    #[serde(default)]
    pub presence: f32,
    /// Which tokens are counted.
    #[serde(default = "generated")]
    pub scope: Scope,
    /// Only the last so many of them.
    #[serde(default)]
    pub window: Option<usize>,
}

fn generated() -> Scope {
    Scope::Generated
}

impl Processor for Frequency {
    fn phase(&self) -> Phase {
        Phase::Edit
    }

    fn check(&self) -> Result<()> {
        range("frequency", self.frequency, self.frequency.is_finite(), "the finite numbers")?;
        range("presence", self.presence, self.presence.is_finite(), "the finite numbers")
    }

    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()> {
        if self.is_neutral() || context.history.is_empty() {
            return Ok(());
        }
        let (logits, Scratch { pairs, tokens, .. }) = row.edit();
        context.history.counts(self.scope, self.window, tokens, pairs);
        for &(token, count) in pairs.iter() {
            change(logits, token, |z| z - (count as f32 * self.frequency + self.presence));
        }
        Ok(())
    }

    fn is_neutral(&self) -> bool {
        self.frequency == 0.0 && self.presence == 0.0
    }
}
