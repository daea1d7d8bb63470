//! PEARL: the target verifies while the draft model goes on drafting.
//!
//! ```text
//! pre:  while γ tokens are drafted the target evaluates the row of the first; test it alone.
//!       accepted: the other γ - 1 are pending, go to post.  rejected: emit the residual, stay in pre
//! post: while the next γ are drafted the target evaluates the pending rows; test them in order.
//!       all accepted: the new γ are pending, stay in post.  a rejection: emit the residual, drop
//!       the rest and the new ones, go to pre
//! ```
//!
//! "PEARL: Parallel Speculative Decoding with Adaptive Draft Length". Every token is tested once, by
//! [`rejection`](super::rejection) against the law it was drawn from, before anything that depends
//! on its outcome: law-lossless. Deviation: the release seeds every position by hand and so tests
//! with the uniforms that drew; here purposes are disjoint and tests are addressed by the step's
//! first undecided position. What would break it: keeping drafts made behind a rejected token.

use super::chain::verify_chain;
use super::kind::Verifier;
use trivium_core::error::{Error, Result};
use trivium_core::{Chance, TokenId};

/// Which rows the target evaluates while the draft model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PearlMode {
    /// The row of the next token, whatever is drafted for it.
    Pre,
    /// The rows of the pending tokens.
    Post,
}

/// What a step decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PearlStep {
    /// Tokens to commit.
    pub emitted: Vec<TokenId>,
    /// Drafts discarded, pending ones and the new: both caches roll back to the committed text.
    pub discarded: usize,
    /// The mode of the next step.
    pub mode: PearlMode,
}

/// The schedule of one request.
#[derive(Debug, Clone)]
pub struct Pearl {
    vocab: usize,
    mode: PearlMode,
    pending: Vec<TokenId>,
    q: Vec<f32>,
}

impl Pearl {
    /// Starts in pre mode with nothing pending.
    pub fn new(vocab: usize) -> Self {
        Self { vocab, mode: PearlMode::Pre, pending: Vec::new(), q: Vec::new() }
    }

    /// The mode of the next step.
    pub fn mode(&self) -> PearlMode {
        self.mode
    }

    /// Tokens that the target evaluates next; the draft model continues behind them.
    pub fn pending(&self) -> &[TokenId] {
        &self.pending
    }

    /// Ends a step: `drafted` were drawn meanwhile behind the pending tokens from the rows `q`;
    /// `p` are the target's rows, one in pre mode (of the first drafted token), one a pending token
    /// in post mode. All rows are weights.
    ///
    /// # Errors
    /// `InvalidInput` for shapes that do not fit or a token of draft probability 0; the schedule is
    /// then as before.
    pub fn step(
        &mut self,
        drafted: &[TokenId],
        q: &[f32],
        p: &[f32],
        start: u32,
        chance: &mut dyn Chance,
    ) -> Result<PearlStep> {
        let v = self.vocab;
        if q.len() != drafted.len() * v || (self.mode == PearlMode::Pre && drafted.is_empty()) {
            return Err(Error::input(
                "q",
                format!("{} entries for {} drafted tokens of {v}", q.len(), drafted.len()),
            ));
        }
        let rule = Verifier::Token;
        let (tested, rest) = match self.mode {
            PearlMode::Pre => {
                let walk = verify_chain(rule, &drafted[..1], (p, &q[..v]), v, start, chance)?;
                (walk, 1)
            }
            PearlMode::Post => {
                (verify_chain(rule, &self.pending, (p, &self.q), v, start, chance)?, 0)
            }
        };
        let asked = if self.mode == PearlMode::Pre { 1 } else { self.pending.len() };
        let all = tested.nodes.len() == asked;
        let before = self.pending.len();
        self.pending.clear();
        self.q.clear();
        let mut discarded = 0;
        if all {
            self.pending.extend_from_slice(&drafted[rest..]);
            self.q.extend_from_slice(&q[rest * v..]);
        } else {
            discarded = before.max(rest) - tested.nodes.len() + drafted.len() - rest;
        }
        // With nothing pending there is nothing to evaluate in post mode.
        self.mode = if all && !self.pending.is_empty() { PearlMode::Post } else { PearlMode::Pre };
        Ok(PearlStep { emitted: tested.tokens, discarded, mode: self.mode })
    }
}
