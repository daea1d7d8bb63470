//! How a grammar mask reaches a verifier without either crate knowing the other.

use crate::error::Result;
use crate::ids::TokenId;
use crate::mask;

/// A per-sequence object that says which tokens may come next.
///
/// The laws are those of every per-sequence object: `commit` then `rollback` of as many tokens is
/// the identity, and a fork shares nothing mutable.
pub trait Constraint: Send + Sync {
    /// Logits width: bits of a mask row.
    fn num_rows(&self) -> usize;

    /// Writes the whole packed row of allowed next tokens.
    ///
    /// # Errors
    /// Only for limits; the row is then unspecified and the state unchanged.
    fn fill(&self, row: &mut [u32]) -> Result<()>;

    /// Advances by one token; `false` (and no change) if it is not allowed.
    ///
    /// # Errors
    /// Only for limits.
    fn commit(&mut self, token: TokenId) -> Result<bool>;

    /// Takes back the last `n` tokens.
    ///
    /// # Errors
    /// `StateMismatch` if fewer were committed; nothing changes.
    fn rollback(&mut self, n: usize) -> Result<()>;

    /// Whether `token` may come next; the state is the same afterwards.
    ///
    /// # Errors
    /// Only for limits.
    fn allows(&mut self, token: TokenId) -> Result<bool> {
        let ok = self.commit(token)?;
        if ok {
            self.rollback(1)?;
        }
        Ok(ok)
    }

    /// The only token that may come next, where the constraint knows it cheaply. `None` is always
    /// a correct answer.
    fn forced(&self) -> Option<TokenId> {
        None
    }

    /// A token that spells text the constraint leaves no choice about, where it knows one cheaply.
    /// Other tokens may spell the same text: it is a good draft, no more. `None` is always correct.
    fn likely(&self) -> Option<TokenId> {
        None
    }

    /// Whether nothing may follow: the text has ended, as after an end of sequence.
    fn is_finished(&self) -> bool {
        false
    }

    /// Number of committed tokens.
    fn len(&self) -> usize;

    /// Whether no token is committed.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An independent copy.
    fn fork(&self) -> Box<dyn Constraint>;
}

/// The constraint that allows everything.
#[derive(Debug, Clone)]
pub struct Unconstrained {
    num_rows: usize,
    len: usize,
}

impl Unconstrained {
    /// Allows `num_rows` tokens at every position.
    pub fn new(num_rows: usize) -> Self {
        Self { num_rows, len: 0 }
    }
}

impl Constraint for Unconstrained {
    fn num_rows(&self) -> usize {
        self.num_rows
    }

    fn fill(&self, row: &mut [u32]) -> Result<()> {
        mask::fill_ones(row, self.num_rows);
        Ok(())
    }

    fn commit(&mut self, token: TokenId) -> Result<bool> {
        let ok = (token as usize) < self.num_rows;
        self.len += usize::from(ok);
        Ok(ok)
    }

    fn rollback(&mut self, n: usize) -> Result<()> {
        self.len = self.len.checked_sub(n).ok_or_else(|| {
            crate::Error::state("rollback", format!("at least {n} tokens"), self.len.to_string())
        })?;
        Ok(())
    }

    fn len(&self) -> usize {
        self.len
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}
