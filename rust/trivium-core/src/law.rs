//! How a request's processed law reaches a verifier.

use crate::draw::ScaledRow;
use crate::error::Result;
use crate::ids::TokenId;
use crate::logits::LogitsRow;

/// Turns raw logits into the law that tokens are drawn from, along one path of tokens.
///
/// Implementations with history (penalties) update it in [`observe`](Self::observe); a verifier
/// forks before it walks a draft path, so drafted tokens never leak into the committed history.
pub trait TargetLaw: Send + Sync {
    /// Processes one row; `allowed` is a packed mask, applied first.
    ///
    /// # Errors
    /// As [`ScaledRow::load`].
    fn process(
        &self,
        logits: LogitsRow<'_>,
        allowed: Option<&[u32]>,
        out: &mut ScaledRow,
    ) -> Result<()>;

    /// Counts a token of the path.
    fn observe(&mut self, token: TokenId);

    /// Counts a token that was drawn from this law with this natural log-probability (NaN where
    /// unknown). Laws that follow the surprise of their text need it; others take the token alone.
    fn observe_drawn(&mut self, token: TokenId, log_prob: f32) {
        let _ = log_prob;
        self.observe(token);
    }

    /// Whether [`observe`](Self::observe) changes nothing, so that one object serves a whole path.
    /// `false` is always a correct answer.
    fn is_stateless(&self) -> bool {
        false
    }

    /// Whether the law removes `token` here whatever the logits: what a proposer may prune. `false`
    /// is always a correct answer.
    fn forbids(&self, token: TokenId) -> bool {
        let _ = token;
        false
    }

    /// Whether [`forbids`](Self::forbids) may ever be true.
    fn has_masks(&self) -> bool {
        false
    }

    /// The law here in the form that device kernels apply; `None`, which is always a correct answer, where it has
    /// none. A row for which it applies gives the same token as [`process`](Self::process) and a draw.
    fn plain(&self) -> Option<PlainLaw> {
        None
    }

    /// An independent copy.
    fn fork(&self) -> Box<dyn TargetLaw>;
}

/// A law as numbers: penalties of a sparse history, temperature, top-k, top-p, min-p, in this order.
#[derive(Debug, Clone, PartialEq)]
pub struct PlainLaw {
    /// Below 1e-5: greedy, lowest id on ties.
    pub temperature: f32,
    /// Repetition penalty; 1 is none.
    pub repetition: f32,
    /// Frequency penalty; 0 is none.
    pub frequency: f32,
    /// Presence penalty; 0 is none.
    pub presence: f32,
    /// 0: off. Equals of the k-th stay.
    pub top_k: usize,
    /// 1: off.
    pub top_p: f32,
    /// 0: off.
    pub min_p: f32,
    /// What the penalties act on: ascending by token, each once.
    pub seen: Vec<SeenToken>,
}

/// A token of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenToken {
    /// The token.
    pub token: TokenId,
    /// How often the frequency penalty counts it; presence acts from 1 on.
    pub count: u32,
    /// Whether the repetition penalty acts on it.
    pub repeated: bool,
}

impl Default for PlainLaw {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            repetition: 1.0,
            frequency: 0.0,
            presence: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            seen: Vec::new(),
        }
    }
}
