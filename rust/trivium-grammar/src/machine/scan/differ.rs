//! The tokens that tell two states apart, one of them a part of the other.
//!
//! "Any string but these" is "any string" except along the few texts that are refused: the trie is
//! walked with both states at once, and left where they are the same.

use super::is_greedy;
use crate::automata::dfa::Automaton;
use crate::automata::table::{DEAD, StateId};
use crate::error::Result;
use crate::mask::index::TokenIndex;
use trivium_core::TokenId;

/// Nodes where the states differ; beyond it a scan of its own is as good.
const MOST_NODES: usize = 2048;
/// Tokens that differ.
const MOST_TOKENS: usize = 8192;
/// Tokens that have to be tried.
const MOST_OPEN: usize = 32;

/// Tokens that may behave otherwise, and those of them that have to be tried; the others are dead.
pub(super) type Differing = (Vec<TokenId>, Vec<TokenId>);

/// What tells `part` from `whole`, whose texts include its own; `None` if that is too much.
pub(super) fn differ(
    index: &TokenIndex,
    automaton: &Automaton,
    part: StateId,
    whole: StateId,
) -> Result<Option<Differing>> {
    let flat = &index.flat;
    let (mut late, mut open) = (Vec::new(), Vec::new());
    // The states at each depth, and whether a lexeme was complete on the way.
    let mut path = vec![(part, whole, false); 257];
    let mut nodes = 0;
    let mut i = 1;
    while i < flat.end(0) {
        let (byte, depth, _, end) = flat.at(i);
        let (a, b, complete) = path[usize::from(depth) - 1];
        let a = automaton.row(a)?[usize::from(byte)];
        let b = automaton.row(b)?[usize::from(byte)];
        if a == b {
            i = end;
            continue;
        }
        nodes += 1;
        let (left, right) = (automaton.markers(a)?, automaton.markers(b)?);
        let lost = b == DEAD || is_greedy(right);
        if nodes > MOST_NODES || late.len() > MOST_TOKENS || open.len() > MOST_OPEN || lost {
            return Ok(None);
        }
        if a == DEAD {
            let from = late.len();
            (i..end).for_each(|n| flat.tokens_into(n, &mut late));
            if complete {
                open.extend_from_slice(&late[from..]);
            }
            i = end;
        } else if left == right {
            path[usize::from(depth)] = (a, b, complete || !left.is_empty());
            i += 1;
        } else {
            let from = late.len();
            (i + 1..end).for_each(|n| flat.tokens_into(n, &mut late));
            open.extend_from_slice(&late[from..]);
            i = end;
        }
    }
    Ok((late.len() <= MOST_TOKENS && open.len() <= MOST_OPEN).then_some((late, open)))
}
