//! Token trees: what a request asks its target to score in one forward pass.
//!
//! Node 0 is the last committed token; its key/value entry is not computed yet, so it is fed along
//! with the drafts. Nodes are in topological order (`parents[i] < i`, `parents[0] = -1`), and row `i`
//! of the target's logits predicts the children of node `i`.

mod batch;
pub mod build;
pub(crate) mod builder;
mod export;
mod graft;
pub(crate) mod laws;
mod select;

pub use batch::{Origin, TreeBatch};
pub use export::{Links, ancestors, links, mask_words, parents_from_ancestors, root_paths};
pub use graft::Paths;
pub use laws::{DRAFT_LAWS, DraftLaw, Drafter, PRUNINGS, Pruning, Role, race_arrivals};

use trivium_core::error::{Error, Result};
use trivium_core::{TokenId, ids};

/// Checks one tree given as arrays: parents before children, distinct siblings, ids in range.
///
/// # Errors
/// `InvalidInput` naming the node, or `OutOfVocabulary`.
pub fn validate(tokens: &[TokenId], parents: &[i32], vocab: usize) -> Result<Vec<u16>> {
    validate_siblings(tokens, parents, vocab, false)
}

/// As [`validate`]; with `repeats`, siblings may carry one token several times (independent draws).
pub(crate) fn validate_siblings(
    tokens: &[TokenId],
    parents: &[i32],
    vocab: usize,
    repeats: bool,
) -> Result<Vec<u16>> {
    if tokens.len() != parents.len() || tokens.is_empty() {
        return Err(Error::input(
            "tree",
            format!("{} tokens and {} parents; both need node 0", tokens.len(), parents.len()),
        ));
    }
    ids::check_ids(tokens, vocab)?;
    let mut depths = vec![0u16; tokens.len()];
    let mut seen = rustc_hash::FxHashSet::default();
    for (i, (&t, &p)) in tokens.iter().zip(parents).enumerate() {
        if i == 0 {
            if p != -1 {
                return Err(Error::input(
                    "parents",
                    format!("node 0 has parent {p}; it is the root, -1"),
                ));
            }
            continue;
        }
        if p < 0 || p as usize >= i {
            return Err(Error::input(
                "parents",
                format!("node {i} has parent {p}; parents come before children, from 0"),
            ));
        }
        if !seen.insert((p, t)) && !repeats {
            return Err(Error::input(
                "tokens",
                format!("node {i} repeats token {t} under parent {p}; siblings are distinct"),
            ));
        }
        depths[i] = depths[p as usize]
            .checked_add(1)
            .ok_or_else(|| Error::input("parents", "the tree is deeper than 65535"))?;
    }
    Ok(depths)
}
