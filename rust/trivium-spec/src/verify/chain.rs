//! A chain of drafts with a row pair each, verified in the order given: what permuted, windowed and
//! pipelined decoding share.
//!
//! Position `i` of the chain carries a token drawn from `q_i`; `p_i` is the target law given the
//! tokens before it *in chain order*. Which places of the text these are does not matter to the
//! rules. There is no bonus row.

use super::Walk;
use super::kind::Verifier;
use super::row::ProbRows;
use super::walk::{Tree, Work, verify_tree};
use crate::tree::DraftLaw;
use trivium_core::error::{Error, Result};
use trivium_core::{Chance, TokenId};

/// Verifies a chain by [`Verifier::Token`] or [`Verifier::Block`]: the accepted tokens, and the
/// replacement of the first rejected one. `p` and `q` are weights `[tokens, vocab]`, row `i` for
/// token `i`.
///
/// # Errors
/// `InvalidInput` for shapes that do not fit or a token of draft probability 0, `Unsupported` for
/// other rules.
pub fn verify_chain(
    rule: Verifier,
    tokens: &[TokenId],
    (p, q): (&[f32], &[f32]),
    vocab: usize,
    start: u32,
    chance: &mut dyn Chance,
) -> Result<Walk> {
    if p.len() != tokens.len() * vocab || q.len() != p.len() {
        return Err(Error::input(
            "rows",
            format!("{} and {} entries for {} tokens of {vocab}", p.len(), q.len(), tokens.len()),
        ));
    }
    let mut nodes = vec![0];
    nodes.extend_from_slice(tokens);
    let parents: Vec<i32> = (-1..tokens.len() as i32).collect();
    let law = DraftLaw::IidQ;
    let tree = Tree { tokens: &nodes, parents: &parents, roles: &[], law, start, bonus: false };
    let mut rows = ProbRows::weights(p, Some(q), vocab)?;
    verify_tree(rule, &tree, &mut rows, chance, &mut Work::default())
}
