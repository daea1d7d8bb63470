//! Masks of states met before, bounded in bytes, shared by all matchers of a grammar.
//!
//! Two generations: when the young one holds half of the budget it becomes the old one and what was
//! old goes. A mask asked for again moves to the young generation, so what is in use stays.

use super::slice::Slice;
use crate::automata::table::StateId;
use crate::error::{Error, Result};
use rustc_hash::FxHashMap;
use std::sync::{Arc, RwLock};
use trivium_core::{TokenId, mask};

/// An immutable mask.
#[derive(Debug)]
pub(crate) enum Mask {
    /// The allowed tokens: a row this empty is cheaper to write than to copy.
    Sparse(Box<[TokenId]>),
    /// What to do to an empty row, in order; whether any token remains.
    Steps(Box<[Op]>, bool),
}

/// A step of a mask that is put together from shared parts.
#[derive(Debug)]
pub(crate) enum Op {
    /// Allow the tokens of a layer.
    Layer(Arc<Layer>),
    /// Allow these.
    Set(Box<[TokenId]>),
    /// Forbid these.
    Clear(Box<[TokenId]>),
}

/// A set of tokens that many masks share: rows of slices, and others.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Slices and the numbers of their rows.
    slices: Vec<(Arc<Slice>, usize)>,
    dense: Option<Box<[u32]>>,
    /// Sorted.
    tokens: Box<[TokenId]>,
    /// It holds at least so many.
    least: usize,
}

impl Layer {
    pub(crate) fn new(
        slices: Vec<(Arc<Slice>, usize)>,
        mut tokens: Vec<TokenId>,
        words: usize,
    ) -> Self {
        if tokens.len() <= words / 2 {
            tokens.sort_unstable();
            tokens.dedup();
            let sliced = slices.iter().map(|s| s.0.count(s.1)).max().unwrap_or(0);
            let least = tokens.len().max(sliced);
            return Self { slices, dense: None, tokens: tokens.into(), least };
        }
        let mut row = vec![0; words];
        for &t in &tokens {
            mask::set(&mut row, t);
        }
        let least = mask::count(&row);
        Self { slices, dense: Some(row.into()), tokens: Box::default(), least }
    }

    /// Whether a token is in it.
    pub(crate) fn holds(&self, token: TokenId) -> bool {
        let set = |row: &[u32]| row[token as usize >> 5] >> (token & 31) & 1 == 1;
        self.tokens.binary_search(&token).is_ok()
            || self.dense.as_deref().is_some_and(set)
            || self.slices.iter().any(|s| set(s.0.row(s.1)))
    }

    /// Whether no token is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.slices.is_empty() && self.dense.is_none() && self.tokens.is_empty()
    }

    /// Whether writing it touches most words of a row.
    fn is_wide(&self) -> bool {
        !self.slices.is_empty() || self.dense.is_some()
    }

    /// Allows its tokens in a row; in a fresh one no others.
    pub(crate) fn write<W: Word>(&self, row: &mut [W], fresh: bool) {
        let mut fresh = fresh;
        for words in self.slices.iter().map(|s| s.0.row(s.1)).chain(self.dense.as_deref()) {
            if fresh {
                copy(words, row);
            } else {
                for (to, &bits) in row.iter_mut().zip(words) {
                    *to = W::from_bits(to.bits() | bits);
                }
            }
            fresh = false;
        }
        if fresh {
            row.fill(W::from_bits(0));
        }
        set_all(row, &self.tokens);
    }

    /// Bytes held beside the slices.
    pub(crate) fn memory(&self) -> usize {
        96 + 4 * (self.tokens.len() + self.dense.as_ref().map_or(0, |d| d.len()))
    }
}

fn copy<W: Word>(words: &[u32], row: &mut [W]) {
    let (head, tail) = row.split_at_mut(words.len());
    for (to, &bits) in head.iter_mut().zip(words) {
        *to = W::from_bits(bits);
    }
    tail.fill(W::from_bits(0));
}

fn set_all<W: Word>(row: &mut [W], tokens: &[TokenId]) {
    for &t in tokens {
        let word = &mut row[t as usize >> 5];
        *word = W::from_bits(word.bits() | 1 << (t & 31));
    }
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
        match self {
            Self::Sparse(tokens) => tokens.is_empty(),
            Self::Steps(_, any) => !any,
        }
    }

    /// The mask of a row.
    pub(crate) fn of_row(row: &[u32]) -> Self {
        let tokens = mask::iter(row).collect();
        Self::steps(vec![Op::Layer(Arc::new(Layer::new(Vec::new(), tokens, row.len())))], row.len())
    }

    /// The mask of several steps on rows of `words` words.
    pub(crate) fn steps(mut ops: Vec<Op>, words: usize) -> Self {
        // A wide layer first is a copy; without anything to forbid the order is free.
        if !ops.iter().any(|o| matches!(o, Op::Clear(_))) {
            ops.sort_by_key(|o| !matches!(o, Op::Layer(l) if l.is_wide()));
            let any = ops.iter().any(|o| match o {
                Op::Layer(layer) => !layer.is_empty(),
                Op::Set(tokens) => !tokens.is_empty(),
                Op::Clear(_) => false,
            });
            return Self::Steps(ops.into(), any);
        }
        let cleared: usize =
            ops.iter().map(|o| if let Op::Clear(tokens) = o { tokens.len() } else { 0 }).sum();
        if ops.iter().any(|o| matches!(o, Op::Layer(l) if l.least > cleared)) {
            return Self::Steps(ops.into(), true);
        }
        let mut row = vec![0u32; words];
        let this = Self::Steps(ops.into(), true);
        this.write(&mut row);
        if row.iter().all(|&w| w == 0) { Self::Sparse(Box::default()) } else { this }
    }

    /// Writes the whole row; `row` may be longer than the mask.
    pub(crate) fn write<W: Word>(&self, row: &mut [W]) {
        match self {
            Self::Sparse(tokens) => {
                row.fill(W::from_bits(0));
                set_all(row, tokens);
            }
            Self::Steps(ops, _) => {
                let mut fresh = true;
                for op in ops {
                    match op {
                        Op::Layer(layer) => layer.write(row, fresh),
                        _ if fresh => row.fill(W::from_bits(0)),
                        _ => {}
                    }
                    fresh = false;
                    match op {
                        Op::Layer(_) => {}
                        Op::Set(tokens) => set_all(row, tokens),
                        Op::Clear(tokens) => {
                            for &t in tokens {
                                let word = &mut row[t as usize >> 5];
                                *word = W::from_bits(word.bits() & !(1 << (t & 31)));
                            }
                        }
                    }
                }
                if fresh {
                    row.fill(W::from_bits(0));
                }
            }
        }
    }

    /// Bytes held beside shared layers.
    pub(crate) fn memory(&self) -> usize {
        64 + match self {
            Self::Sparse(x) => x.len() * 4,
            Self::Steps(ops, _) => ops
                .iter()
                .map(|o| match o {
                    Op::Layer(_) => 24,
                    Op::Set(tokens) | Op::Clear(tokens) => 24 + tokens.len() * 4,
                })
                .sum(),
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
