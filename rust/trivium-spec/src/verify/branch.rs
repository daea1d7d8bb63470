//! SpecBranch: branches at the likely rejection point, verified exactly.
//!
//! ```text
//! pending chain x_1..x_n, point b: while the target verifies, k - 1 more tokens are drawn at b from
//! q_b without replacement of x_b, each with a continuation of its own
//! k = max(1, ⌊k_max (1 - q(x_b))⌋)
//! ```
//!
//! "Speculative Decoding via Hybrid Drafting and Rollback-Aware Branch Parallelism". The release
//! takes the branch with the largest target probability, tests it alone and emits the arg-max of
//! the residual: exact for greedy text only. Here `x_b` and the branch tokens are siblings in draw
//! order under [`DraftLaw::WithoutReplacementQ`](crate::tree::DraftLaw), so recursive rejection or
//! traversal verifies the whole tree. The number of branches looks at `x_b` alone, which was drawn
//! before them: a legal shape. Where nothing is drawn at random, branches are chosen tokens and
//! sampled-verify decides.

use trivium_core::error::{Error, Result};
use trivium_core::{TokenId, ids};

/// How many siblings stand at a point whose first token has draft probability `q`.
pub fn branch_count(max: usize, q: f64) -> usize {
    ((max as f64 * (1.0 - q)).floor() as usize).max(1)
}

/// Where confidence first falls below `threshold`: the point to branch at, if any. Looks at draft
/// probabilities of tokens already drawn, none of which is dropped for it.
pub fn branch_point(confidence: &[f64], threshold: f64) -> Option<usize> {
    confidence.iter().position(|&c| c < threshold)
}

/// A chain with branches under construction; hand its arrays to
/// [`TreeBatch::from_arrays`](crate::TreeBatch::from_arrays).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchTree {
    tokens: Vec<TokenId>,
    parents: Vec<i32>,
    vocab: usize,
    /// Last node of the chain and of each branch.
    tips: Vec<usize>,
    fork: usize,
}

impl BranchTree {
    /// A pending chain behind the last committed token, which branches at its token `point`.
    ///
    /// # Errors
    /// `OutOfVocabulary`, or `InvalidInput` for a point outside the chain.
    pub fn new(last: TokenId, chain: &[TokenId], point: usize, vocab: usize) -> Result<Self> {
        if point >= chain.len() {
            return Err(Error::input(
                "point",
                format!("{point} is outside the chain of {}", chain.len()),
            ));
        }
        let mut tokens = vec![last];
        tokens.extend_from_slice(chain);
        ids::check_ids(&tokens, vocab)?;
        let parents = (-1..chain.len() as i32).collect();
        Ok(Self { tokens, parents, vocab, tips: vec![chain.len()], fork: point })
    }

    /// Adds a branch: a token at the point and its continuation. Branches come in draw order.
    ///
    /// # Errors
    /// `OutOfVocabulary`, or `InvalidInput` for an empty branch or one that repeats a sibling.
    pub fn branch(&mut self, tokens: &[TokenId]) -> Result<usize> {
        ids::check_ids(tokens, self.vocab)?;
        let Some(&first) = tokens.first() else {
            return Err(Error::input("branch", "is empty"));
        };
        let repeated = (1..self.tokens.len())
            .any(|n| self.parents[n] as usize == self.fork && self.tokens[n] == first);
        if repeated {
            return Err(Error::input("branch", format!("repeats token {first} at its point")));
        }
        let mut parent = self.fork;
        for &t in tokens {
            self.tokens.push(t);
            self.parents.push(parent as i32);
            parent = self.tokens.len() - 1;
        }
        self.tips.push(parent);
        Ok(self.tips.len() - 1)
    }

    /// Token of each node.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Parent of each node.
    pub fn parents(&self) -> &[i32] {
        &self.parents
    }

    /// After verification: the chain (0) or branch whose tip was accepted, with drafting free to go
    /// on behind it; `None` means rolling back to the committed text.
    pub fn survivor(&self, accepted: &[usize]) -> Option<usize> {
        accepted.last().and_then(|last| self.tips.iter().position(|t| t == last))
    }
}
