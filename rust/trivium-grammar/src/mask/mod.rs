//! From an automaton state to the packed row of allowed tokens.
//!
//! ```text
//! M(s) = { t : δ*(s, t) is live } ∪ (eos if s accepts)
//! ```
//!
//! Three ways, in order: the mask is cached; the state loops over a class and a [`slice`] covers
//! most tokens, so only the others are walked; all tokens are walked. The walk is one pass over a
//! depth-first trie that jumps over a subtree when the automaton dies ([`flat`]).

pub(crate) mod cache;
pub(crate) mod flat;
pub(crate) mod index;
pub(crate) mod slice;

use crate::automata::dfa::Automaton;
use crate::automata::table::StateId;
use crate::error::Result;
use cache::Mask;
use index::TokenIndex;
use trivium_core::mask::set;

/// Computes the mask of a state, without any cache but the slices.
pub(crate) fn compute(index: &TokenIndex, automaton: &Automaton, state: StateId) -> Result<Mask> {
    let slice = match automaton.run(state)? {
        Some(run) => index.slice(run)?,
        None => None,
    };
    let mut row = match &slice {
        Some(s) => s.row.clone(),
        None => vec![0; index.words()],
    };
    let rest = slice.as_ref().map_or(&index.flat, |s| &s.rest);
    rest.walk(automaton, state, &mut row)?;
    if automaton.accepting(state)? {
        index.vocab.eos().iter().for_each(|&t| set(&mut row, t));
    }
    Ok(Mask::new(row))
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
            !bytes.is_empty() && automaton.walk(state, bytes)? != crate::automata::table::DEAD
        };
        if allowed {
            set(&mut row, token);
        }
    }
    Ok(row)
}
