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

use crate::automata::dfa::Automaton;
use crate::automata::table::StateId;
use crate::error::Result;
use cache::Mask;
use index::TokenIndex;
use trivium_core::mask::set;

/// Computes the mask of a state, without any cache but the slices.
pub(crate) fn compute(index: &TokenIndex, automaton: &Automaton, state: StateId) -> Result<Mask> {
    let mut row = vec![0; index.words()];
    if !sliced(index, automaton, 0, state, &mut row)? {
        let mut shortcut = |node, to, row: &mut [u32]| sliced(index, automaton, node, to, row);
        index.flat.walk(automaton, state, &mut row, &mut shortcut)?;
    }
    if automaton.accepting(state)? {
        index.vocab.eos().iter().for_each(|&t| set(&mut row, t));
    }
    Ok(Mask::new(row))
}

/// Sets the tokens below a node of the trie by its slice and a walk of the rest; `false` (and
/// nothing set) if there is no slice for the loop at `state`.
fn sliced(
    index: &TokenIndex,
    automaton: &Automaton,
    node: u32,
    state: StateId,
    row: &mut [u32],
) -> Result<bool> {
    let Some(run) = automaton.run(state)? else { return Ok(false) };
    let Some(slice) = index.slice(node, run)? else { return Ok(false) };
    for (to, &bits) in row.iter_mut().zip(&slice.row) {
        *to |= bits;
    }
    let mut shortcut = |node, to, row: &mut [u32]| sliced(index, automaton, node, to, row);
    slice.rest.walk(automaton, state, row, &mut shortcut)?;
    Ok(true)
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
