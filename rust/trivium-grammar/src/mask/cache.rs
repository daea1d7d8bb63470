//! Masks of states met before, bounded in bytes, shared by all matchers of a grammar.
//!
//! Two generations: when the young one holds half of the budget it becomes the old one and what was
//! old goes. A mask asked for again moves to the young generation, so what is in use stays.

use crate::automata::table::StateId;
use crate::error::{Error, Result};
use rustc_hash::FxHashMap;
use std::sync::{Arc, RwLock};
use trivium_core::{TokenId, mask};

/// An immutable mask.
#[derive(Debug)]
pub(crate) enum Mask {
    /// The packed row.
    Dense(Box<[u32]>),
    /// The allowed tokens: a row this empty is cheaper to write than to copy.
    Sparse(Box<[TokenId]>),
}

/// A word of a mask row: 32 bits, which arrays from Python call int32.
pub trait Word: Copy {
    /// The word with these bits.
    fn from_bits(bits: u32) -> Self;
    /// The bits of the word.
    fn bits(self) -> u32;
}

impl Word for u32 {
    fn from_bits(bits: u32) -> Self {
        bits
    }
    fn bits(self) -> u32 {
        self
    }
}

impl Word for i32 {
    fn from_bits(bits: u32) -> Self {
        bits.cast_signed()
    }
    fn bits(self) -> u32 {
        self.cast_unsigned()
    }
}

impl Mask {
    /// Whether no token is allowed.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Sparse(tokens) if tokens.is_empty())
    }

    pub(crate) fn new(row: Vec<u32>) -> Self {
        if mask::count(&row) <= row.len() / 8 {
            Self::Sparse(mask::iter(&row).collect())
        } else {
            Self::Dense(row.into())
        }
    }

    /// Writes the whole row; `row` may be longer than the mask.
    pub(crate) fn write<W: Word>(&self, row: &mut [W]) {
        match self {
            Self::Dense(words) => {
                let (head, tail) = row.split_at_mut(words.len());
                for (to, &bits) in head.iter_mut().zip(words) {
                    *to = W::from_bits(bits);
                }
                tail.fill(W::from_bits(0));
            }
            Self::Sparse(tokens) => {
                row.fill(W::from_bits(0));
                for &t in tokens {
                    let word = &mut row[t as usize >> 5];
                    *word = W::from_bits(word.bits() | 1 << (t & 31));
                }
            }
        }
    }

    fn memory(&self) -> usize {
        64 + 4 * match self {
            Self::Dense(x) | Self::Sparse(x) => x.len(),
        }
    }
}

#[derive(Debug, Default)]
struct Generations {
    young: FxHashMap<StateId, Arc<Mask>>,
    old: FxHashMap<StateId, Arc<Mask>>,
    young_bytes: usize,
    old_bytes: usize,
}

/// See the module comment.
#[derive(Debug)]
pub(crate) struct MaskCache {
    generations: RwLock<Generations>,
    budget: usize,
}

impl MaskCache {
    pub(crate) fn new(budget: usize) -> Self {
        Self { generations: RwLock::default(), budget }
    }

    pub(crate) fn get(&self, state: StateId) -> Result<Option<Arc<Mask>>> {
        let old = {
            let g = self.generations.read().map_err(|_| poisoned())?;
            if let Some(mask) = g.young.get(&state) {
                return Ok(Some(Arc::clone(mask)));
            }
            g.old.get(&state).cloned()
        };
        if let Some(mask) = &old {
            self.put(state, Arc::clone(mask))?;
        }
        Ok(old)
    }

    pub(crate) fn put(&self, state: StateId, mask: Arc<Mask>) -> Result<()> {
        let bytes = mask.memory();
        if bytes > self.budget / 2 {
            return Ok(());
        }
        let mut g = self.generations.write().map_err(|_| poisoned())?;
        if g.young_bytes + bytes > self.budget / 2 {
            g.old = std::mem::take(&mut g.young);
            g.old_bytes = std::mem::take(&mut g.young_bytes);
        }
        if g.young.insert(state, mask).is_none() {
            g.young_bytes += bytes;
        }
        Ok(())
    }

    /// Number and bytes of the masks kept.
    pub(crate) fn size(&self) -> (usize, usize) {
        self.generations
            .read()
            .map_or((0, 0), |g| (g.young.len() + g.old.len(), g.young_bytes + g.old_bytes))
    }
}

fn poisoned() -> Error {
    Error::internal("an earlier call panicked while caching a mask")
}
