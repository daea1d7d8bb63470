//! Slices: the tokens that a loop over one class cannot tell apart, taken out of the walk.
//!
//! Where every text of at most `n` characters of a class `C` is a live continuation (a string body,
//! `.*`, a host name), all tokens of at most `n` characters of `C` are allowed. They are one row,
//! computed once per vocabulary, class and `n`, and what is left to walk is the trie of the *other*
//! tokens: 12,000 nodes instead of 267,000 for JSON strings in the Llama 3 vocabulary. Unlike fixed
//! slices chosen by hand, the classes come from the automata that are met.
//!
//! Longer tokens of `C` need no walk either where the automaton cannot tell the characters of `C`
//! apart: one text of each length decides for all.
//!
//! The same holds below a node of the trie: after `\w+` a blank may lead into another `\w+`, and
//! half of a vocabulary begins with a blank. A slice therefore belongs to a node; the root is one.

use super::flat::Flat;
use crate::automata::charset::Range;
use crate::automata::dfa::Automaton;
use crate::error::Result;
use crate::limits::CompileLimits;
use std::sync::{Arc, OnceLock};
use trivium_core::{TokenId, mask};

/// A slice must spare the walk this many tokens to be kept, unless the vocabulary is small.
const MIN_TOKENS: usize = 1024;

/// Lengths with a row of their own; between two of them tokens are listed.
const ROWS: [usize; 12] = [2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 32, usize::MAX];

/// See the module comment.
#[derive(Debug)]
pub(crate) struct Slice {
    /// The tokens of the slice by number of characters.
    tokens: Vec<TokenId>,
    /// `up_to[k]`: how many have at most `k` characters.
    up_to: Vec<u32>,
    rows: [OnceLock<Box<[u32]>>; ROWS.len()],
    words: usize,
    /// All other tokens below the node.
    pub(crate) rest: Flat,
}

impl Slice {
    /// The slice of a class below a node, whose path has `before` characters; `None` if it holds too
    /// few tokens to be worth keeping. `chars`: characters of each token.
    pub(crate) fn new(
        flat: &Flat,
        (node, before): (usize, u8),
        class: &Arc<[Range]>,
        chars: &[u8],
        words: usize,
    ) -> Result<Option<Self>> {
        let automaton = Automaton::of_class(class, CompileLimits::default())?;
        let least = MIN_TOKENS.min(flat.below(node) / 8 + 1);
        let mut found: Vec<TokenId> = Vec::new();
        let Some(rest) = flat.split(node, &automaton, least, |t| found.push(t))? else {
            return Ok(None);
        };
        let length = |t: TokenId| usize::from(chars[t as usize].saturating_sub(before));
        let longest = found.iter().map(|&t| length(t)).max().unwrap_or(0);
        let mut up_to = vec![0u32; longest + 1];
        for &t in &found {
            up_to[length(t)] += 1;
        }
        let mut sum = 0;
        for n in &mut up_to {
            sum += *n;
            *n = sum;
        }
        let mut next: Vec<u32> = std::iter::once(0).chain(up_to.iter().copied()).collect();
        let mut tokens = vec![0; found.len()];
        for t in found {
            let place = &mut next[length(t)];
            tokens[*place as usize] = t;
            *place += 1;
        }
        Ok(Some(Self { tokens, up_to, rows: Default::default(), words, rest }))
    }

    /// Characters of the longest token.
    pub(crate) fn longest(&self) -> usize {
        self.up_to.len() - 1
    }

    /// The tokens of `k` characters.
    pub(crate) fn of_length(&self, k: usize) -> &[TokenId] {
        let from = k.checked_sub(1).map_or(0, |j| self.up_to[j]);
        &self.tokens[from as usize..self.up_to[k] as usize]
    }

    /// The tokens of at most `n` characters: a row (by number, see [`row`](Self::row)) and others.
    pub(crate) fn up_to(&self, n: usize) -> (Option<usize>, &[TokenId]) {
        let n = n.min(self.longest());
        let count = self.up_to[n] as usize;
        if n == self.longest() {
            return (Some(ROWS.len() - 1), &[]);
        }
        match ROWS.iter().rposition(|&r| r <= n) {
            None => (None, &self.tokens[..count]),
            Some(row) => (Some(row), &self.tokens[self.up_to[ROWS[row]] as usize..count]),
        }
    }

    /// The row of the tokens with at most so many characters as row number `row` stands for.
    pub(crate) fn row(&self, row: usize) -> &[u32] {
        self.rows[row].get_or_init(|| {
            let mut words = vec![0; self.words];
            let n = ROWS[row].min(self.longest());
            for &t in &self.tokens[..self.up_to[n] as usize] {
                mask::set(&mut words, t);
            }
            words.into()
        })
    }

    /// Number of tokens in a row.
    pub(crate) fn count(&self, row: usize) -> usize {
        self.up_to[ROWS[row].min(self.longest())] as usize
    }

    /// Bytes held, rows to be made included.
    pub(crate) fn memory(&self) -> usize {
        // The rows of lengths that tokens have, and the one of all.
        let rows = 1 + ROWS.iter().filter(|&&r| r < self.longest()).count();
        (self.tokens.len() + self.up_to.len() + self.words * rows) * 4 + self.rest.memory()
    }
}
