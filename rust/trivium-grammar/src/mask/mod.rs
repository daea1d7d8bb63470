//! From an automaton state to the packed row of allowed tokens.
//!
//! ```text
//! M(s) = { t : δ*(s, t) is live } ∪ (eos if s accepts)
//! ```
//!
//! A mask that is cached is copied. Otherwise the trie is walked, one pass in depth-first order that
//! jumps over a subtree when the automaton dies ([`flat`]); where the state loops over a class of
//! characters, at the root or at a node with many tokens below, a [`slice`] sets most of them at
//! once and only the others are walked.

pub(crate) mod cache;
pub(crate) mod flat;
pub(crate) mod index;
pub(crate) mod slice;
pub(crate) mod words;

use crate::automata::dfa::Automaton;
use crate::automata::table::{DEAD, StateId};
use crate::error::Result;
use cache::{Layer, Mask, Op};
use flat::Visit;
use index::TokenIndex;
use slice::Slice;
use std::sync::Arc;
use trivium_core::TokenId;
use trivium_core::mask::set;

/// What a slice says of a state: its row, and tokens beside it.
pub(crate) struct Sliced {
    pub(crate) slice: Arc<Slice>,
    pub(crate) row: Option<usize>,
    pub(crate) tokens: Vec<TokenId>,
}

/// The tokens of the slice at a node and state; `None` if there is none, or if a lexeme may be complete
/// within one of its tokens that is not allowed as a whole.
pub(crate) fn sliced(
    index: &TokenIndex,
    automaton: &Automaton,
    node: usize,
    state: StateId,
) -> Result<Option<Sliced>> {
    let Some(run) = automaton.run(state)? else { return Ok(None) };
    let Some(slice) = index.slice(node as u32, run)? else { return Ok(None) };
    let live = run.max as usize;
    let (row, first) = slice.up_to(live);
    let mut tokens = first.to_vec();
    let mut complete = false;
    let mut refused = false;
    let mut here = state;
    for k in 1..=slice.longest() {
        if live >= slice.longest() {
            break;
        }
        if let Some(to) = automaton.uniform(here, &run.class)? {
            here = to;
            if here == DEAD {
                refused = true;
                break;
            }
            complete |= !automaton.markers(here)?.is_empty();
            if k > live {
                tokens.extend_from_slice(slice.of_length(k));
            }
            continue;
        }
        // The characters differ from here on: longer tokens one by one.
        let skip = index.depth(node);
        for k in k.max(live + 1)..=slice.longest() {
            for &t in slice.of_length(k) {
                if automaton.walk(state, &index.vocab.token(t)[skip..])? == DEAD {
                    refused = true;
                } else {
                    tokens.push(t);
                }
            }
        }
        // Nobody looked for complete lexemes on the way.
        complete |= automaton.has_markers();
        break;
    }
    Ok((!(complete && refused)).then_some(Sliced { slice, row, tokens }))
}

/// Computes the mask of a state, without any cache but the slices.
pub(crate) fn compute(index: &TokenIndex, automaton: &Automaton, state: StateId) -> Result<Mask> {
    let mut walk = Walk { index, automaton, slices: Vec::new(), tokens: Vec::new() };
    if !walk.shortcut(0, state)? {
        index.flat.scan(&index.flat, 0, (automaton, state), &mut walk)?;
    }
    let Walk { slices, mut tokens, .. } = walk;
    if automaton.accepting(state)? {
        tokens.extend_from_slice(index.vocab.eos());
    }
    let layer = Layer::new(slices, tokens, index.words());
    Ok(Mask::steps(vec![Op::Layer(Arc::new(layer))], index.words()))
}

struct Walk<'a> {
    index: &'a TokenIndex,
    automaton: &'a Automaton,
    slices: Vec<(Arc<Slice>, usize)>,
    tokens: Vec<TokenId>,
}

impl Visit for Walk<'_> {
    fn token(&mut self, token: TokenId, _: StateId) {
        self.tokens.push(token);
    }

    fn inner(&mut self, _: usize, _: StateId) -> Result<()> {
        Ok(())
    }

    fn shortcut(&mut self, node: usize, state: StateId) -> Result<bool> {
        let Some(found) = sliced(self.index, self.automaton, node, state)? else {
            return Ok(false);
        };
        self.tokens.extend_from_slice(&found.tokens);
        if let Some(row) = found.row {
            self.slices.push((Arc::clone(&found.slice), row));
        }
        let whole = &self.index.flat;
        found.slice.rest.scan(whole, 0, (self.automaton, state), self)?;
        Ok(true)
    }
}

/// The same by definition: every token alone, no trie, no slices.
pub(crate) fn compute_slow(
    index: &TokenIndex,
    automaton: &Automaton,
    state: StateId,
) -> Result<Vec<u32>> {
    let mut row = vec![0; index.words()];
    for token in 0..index.vocab.len() as u32 {
        let bytes = index.vocab.token(token);
        let allowed = if index.vocab.is_eos(token) {
            automaton.accepting(state)?
        } else {
            !bytes.is_empty() && automaton.walk(state, bytes)? != DEAD
        };
        if allowed {
            set(&mut row, token);
        }
    }
    Ok(row)
}
