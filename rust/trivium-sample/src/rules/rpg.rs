//! RPG: the more often the text has repeated its end, the less likely it repeats it again.
//!
//! Dong et al., "Rethinking Repetition Problems of LLMs in Code Generation" (ACL 2025). When the last
//! symbols are `n >= least` copies of one pattern:
//!
//! ```text
//! z_v   += n ln factor        for every v whose symbol would continue the pattern
//! z_eos -= n ln eos_factor
//! ```
//!
//! The paper multiplies a logit-space weight; a factor on a signed logit is ill-defined, so we add to
//! log-probabilities. Its symbols are those of an incremental parser. Here a symbol is the token, or its
//! class in `symbols`; a host with a parser counts with [`repeats`](crate::repeat::repeats) and sets a
//! logit bias.

use super::{Context, Phase, Processor, Row, Scratch, change, range, within};
use crate::repeat::of_reversed;
use serde::{Deserialize, Serialize};
use trivium_core::TokenId;
use trivium_core::error::Result;

/// Parameters of RPG.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rpg {
    /// Factor a copy of what continues the pattern; 1 is neutral.
    #[serde(default = "nine_tenths")]
    pub factor: f32,
    /// Inverse factor a copy of the end tokens; 1 is neutral.
    #[serde(default = "four_fifths")]
    pub eos_factor: f32,
    /// End tokens.
    #[serde(default)]
    pub eos: Vec<TokenId>,
    /// Fewer copies are free.
    #[serde(default = "two")]
    pub least: usize,
    /// Tokens looked back at.
    #[serde(default = "window")]
    pub window: usize,
    /// Whether the prompt counts.
    #[serde(default)]
    pub include_prompt: bool,
    /// Symbol of each token; empty: the token itself.
    #[serde(default)]
    pub symbols: Vec<u32>,
}

fn nine_tenths() -> f32 {
    0.9
}

fn four_fifths() -> f32 {
    0.8
}

fn two() -> usize {
    2
}

fn window() -> usize {
    1024
}

impl Default for Rpg {
    fn default() -> Self {
        Self {
            factor: 0.9,
            eos_factor: 0.8,
            eos: Vec::new(),
            least: 2,
            window: 1024,
            include_prompt: false,
            symbols: Vec::new(),
        }
    }
}

/// Symbol of tokens beyond the table.
const NONE: u32 = u32::MAX;

impl Rpg {
    fn symbol(&self, token: TokenId) -> u32 {
        if self.symbols.is_empty() {
            return token;
        }
        self.symbols.get(token as usize).copied().unwrap_or(NONE)
    }
}

impl Processor for Rpg {
    fn phase(&self) -> Phase {
        Phase::Edit
    }

    fn check(&self) -> Result<()> {
        let ok = |x: f32| x > 0.0 && within(x, 0.0, 1.0);
        range("factor", self.factor, ok(self.factor), "(0, 1]")?;
        range("eos_factor", self.eos_factor, ok(self.eos_factor), "(0, 1]")?;
        range("least", self.least, self.least >= 2, "2..")
    }

    fn run(&self, row: &mut Row<'_>, context: &Context<'_>) -> Result<()> {
        if self.is_neutral() {
            return Ok(());
        }
        let Scratch { tokens, lengths, .. } = &mut *row.scratch;
        let history = context.history;
        let part = if self.include_prompt { history.len() } else { history.generated_len() };
        history.last(part.min(self.window), tokens);
        tokens.reverse();
        tokens.iter_mut().for_each(|t| *t = self.symbol(*t));
        let found = of_reversed(tokens, lengths);
        if found.count < self.least {
            return Ok(());
        }
        // One period back from the symbol to come.
        let next = tokens[found.period - 1];
        let n = found.count as f32;
        let (less, more) = (n * self.factor.ln(), -n * self.eos_factor.ln());
        let (logits, _) = row.edit();
        if self.symbols.is_empty() {
            change(logits, next, |z| z + less);
        } else {
            for (t, _) in self.symbols.iter().enumerate().filter(|&(_, &s)| s == next) {
                change(logits, t as TokenId, |z| z + less);
            }
        }
        for &t in &self.eos {
            change(logits, t, |z| z + more);
        }
        Ok(())
    }

    fn max_token(&self) -> Option<TokenId> {
        self.eos.iter().copied().max()
    }

    fn is_neutral(&self) -> bool {
        self.factor == 1.0 && (self.eos_factor == 1.0 || self.eos.is_empty())
    }
}
