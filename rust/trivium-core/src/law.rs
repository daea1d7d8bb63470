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

    /// An independent copy.
    fn fork(&self) -> Box<dyn TargetLaw>;
}
