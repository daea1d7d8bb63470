//! Slices: the tokens that a loop over one class cannot tell apart, taken out of the walk.
//!
//! Where every text of at most `n` characters of a class `C` is a live continuation (a string body,
//! `.*`, a host name), all tokens of at most `n` characters of `C` are allowed. They are one mask,
//! computed once per vocabulary and class, and what is left to walk is the trie of the *other*
//! tokens: 12,000 nodes instead of 267,000 for JSON strings in the Llama 3 vocabulary. Unlike fixed
//! slices chosen by hand, the classes come from the automata that are met.
//!
//! The same holds below a node of the trie: after `\w+` a blank may lead into another `\w+`, and
//! half of a vocabulary begins with a blank. A slice therefore belongs to a node; the root is one.
//!
//! Bounded loops use the slice of the next lower bound in [`BOUNDS`]; the tokens in between are
//! walked like the rest, so the mask is exact for every `n`.

use super::flat::Flat;
use crate::automata::charset::Range;
use crate::automata::dfa::Automaton;
use crate::error::Result;
use crate::limits::CompileLimits;
use std::sync::Arc;
use trivium_core::Vocabulary;

/// Character counts that slices are made for; the last stands for "any".
const BOUNDS: [u32; 10] = [4, 6, 8, 12, 16, 24, 32, 48, 64, u32::MAX];

/// A slice must spare the walk this many tokens to be kept, unless the vocabulary is small.
const MIN_TOKENS: usize = 1024;

/// The bound to use for a loop of at most `max` characters; `None` if walking is as good.
pub(crate) fn bound(max: u32, max_token_bytes: usize) -> Option<u32> {
    if max as usize >= max_token_bytes {
        return Some(u32::MAX);
    }
    BOUNDS.iter().rev().copied().find(|&b| b <= max)
}

/// See the module comment.
#[derive(Debug)]
pub(crate) struct Slice {
    /// The tokens of the slice.
    pub(crate) row: Vec<u32>,
    /// All other tokens below the node.
    pub(crate) rest: Flat,
}

impl Slice {
    /// The slice of a class below a node at `depth`; `None` if it holds too few tokens to be worth
    /// keeping.
    pub(crate) fn new(
        vocab: &Vocabulary,
        flat: &Flat,
        (node, depth): (usize, usize),
        class: &Arc<[Range]>,
        bound: u32,
        words: usize,
    ) -> Result<Option<Self>> {
        let automaton = Automaton::of_class(class, CompileLimits::default())?;
        let short = |token| {
            let chars = vocab.token(token)[depth..].iter().filter(|&&b| b & 0xc0 != 0x80);
            bound == u32::MAX || chars.count() <= bound as usize
        };
        let least = MIN_TOKENS.min(flat.below(node) / 8 + 1);
        let parts = flat.split(node, &automaton, words, least, short)?;
        Ok(parts.map(|(row, rest)| Self { row, rest }))
    }

    /// Bytes held.
    pub(crate) fn memory(&self) -> usize {
        self.row.len() * 4 + self.rest.memory()
    }
}
