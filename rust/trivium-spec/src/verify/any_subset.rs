//! Any-subset decoding: a chain verifier over positions in an arbitrary order.
//!
//! ```text
//! K known positions, σ an order of the rest
//! one pass: d_i = p(x_σi | x_K) for the next k of σ, x_σi ~ d_i independently
//! one pass: o_i = p(x_σi | x_K, x_σ1 .. x_σ(i-1))
//! verify the chain x_σ1 .. x_σk with p = o, q = d; known positions grow by what came out
//! ```
//!
//! "Reviving Any-Subset Autoregressive Models with Principled Parallel Sampling and Speculative
//! Decoding". `d_1 = o_1`, so the first token is always accepted and a round of two passes commits
//! at least two tokens; the last remaining one needs no second pass. Exact for the joint law in the
//! order σ. Deviation: block verification may take the place of token-level rejection. What would
//! break it: choosing σ by looking at the tokens of this round.

use super::Walk;
use super::chain::verify_chain;
use super::kind::Verifier;
use trivium_core::error::{Error, Result};
use trivium_core::{Chance, TokenId};

/// One sequence being filled in.
#[derive(Debug, Clone)]
pub struct AnySubset {
    order: Vec<usize>,
    done: usize,
    rule: Verifier,
}

impl AnySubset {
    /// Fills the positions of `order`, in that order, by token or block verification.
    ///
    /// # Errors
    /// `InvalidInput` for repeated positions, `Unsupported` for another rule.
    pub fn new(order: &[usize], rule: Verifier) -> Result<Self> {
        let mut seen: Vec<usize> = order.to_vec();
        seen.sort_unstable();
        if seen.windows(2).any(|w| w[0] == w[1]) {
            return Err(Error::input("order", "names a position twice"));
        }
        if !matches!(rule, Verifier::Token | Verifier::Block) {
            return Err(Error::unsupported(
                format!("verifier {:?}", rule.name()),
                "for a permuted chain",
                "use token or block",
            ));
        }
        Ok(Self { order: order.to_vec(), done: 0, rule })
    }

    /// The next `k` positions to draft, fewer at the end; empty when all is known.
    pub fn next(&self, k: usize) -> &[usize] {
        &self.order[self.done..self.order.len().min(self.done + k)]
    }

    /// Verifies tokens drafted for the first positions of [`next`](Self::next): `d` are the rows
    /// they were drawn from, `o` the rows given the tokens before them, weights `[tokens, vocab]`.
    /// `start` is an index below which nothing was drawn in this sequence before, for example the
    /// number of known positions. Returns positions and tokens that are now known.
    ///
    /// # Errors
    /// `InvalidInput` for shapes, more tokens than positions, or a token of draft probability 0.
    pub fn verify(
        &mut self,
        tokens: &[TokenId],
        (o, d): (&[f32], &[f32]),
        vocab: usize,
        start: u32,
        chance: &mut dyn Chance,
    ) -> Result<Vec<(usize, TokenId)>> {
        let left = &self.order[self.done..];
        if tokens.len() > left.len() {
            return Err(Error::input(
                "tokens",
                format!("{} drafted for {} positions", tokens.len(), left.len()),
            ));
        }
        let Walk { tokens: out, .. } =
            verify_chain(self.rule, tokens, (o, d), vocab, start, chance)?;
        let known = left.iter().copied().zip(out.iter().copied()).collect();
        self.done += out.len();
        Ok(known)
    }
}
