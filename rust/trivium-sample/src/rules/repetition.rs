//! Repetition penalty: each distinct token seen, once: `z < 0 -> z r`, else `z / r`.
//!
//! Keskar et al., "CTRL: A Conditional Transformer Language Model for Controllable Generation" (2019),
//! with the sign rule of transformers. `window` restricts it to the last tokens, as llama.cpp does.

use super::{Context, Phase, Processor, Row, Scratch, change, range};
use crate::history::Scope;
use serde::{Deserialize, Serialize};
use trivium_core::error::Result;

/// Parameters of the repetition penalty.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repetition {
    /// r; 1 is neutral.
    pub penalty: f32,
    /// Which tokens count as seen.
    #[serde(default)]
    pub scope: Scope,
    /// Only the last so many of them.
    #[serde(default)]
    pub window: Option<usize>,
}

impl Processor for Repetition {
    fn phase(&self) -> Phase {
        Phase::Edit
    }

    fn check(&self) -> Result<()> {
        let r = self.penalty;
        range("repetition_penalty", r, r > 0.0 && r < f32::INFINITY, "(0, inf)")
    }

    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()> {
        penalise(row, context, self.penalty, self.scope, self.window);
        Ok(())
    }

    fn is_neutral(&self) -> bool {
        self.penalty == 1.0
    }
}

pub(crate) fn penalise(
    row: &mut Row<'_>,
    context: &Context<'_>,
    penalty: f32,
    scope: Scope,
    window: Option<usize>,
) {
    if penalty == 1.0 || context.history.is_empty() {
        return;
    }
    let (logits, Scratch { pairs, tokens, .. }) = row.edit();
    context.history.counts(scope, window, tokens, pairs);
    for &(token, _) in pairs.iter() {
        change(logits, token, |z| if z < 0.0 { z * penalty } else { z / penalty });
    }
}
