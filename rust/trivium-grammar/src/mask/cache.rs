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

impl Mask {
    pub(crate) fn new(row: Vec<u32>) -> Self {
        if mask::count(&row) <= row.len() / 8 {
            Self::Sparse(mask::iter(&row).collect())
        } else {
            Self::Dense(row.into())
        }
    }

    /// Writes the whole row; `row` may be longer than the mask.
    pub(crate) fn write(&self, row: &mut [u32]) {
        match self {
            Self::Dense(words) => {
                let (head, tail) = row.split_at_mut(words.len());
                head.copy_from_slice(words);
                tail.fill(0);
            }
            Self::Sparse(tokens) => {
                row.fill(0);
                tokens.iter().for_each(|&t| mask::set(row, t));
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
        let mut g = self.generations.write().map_err(|_| poisoned())?;
        let bytes = mask.memory();
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
