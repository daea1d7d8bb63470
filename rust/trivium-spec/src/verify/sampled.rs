//! Sampled-verify: draw the target's token at a row, walk to the child that carries it.
//!
//! ```text
//! node = 0
//! loop: y = ordinary draw of row `node` at its absolute position
//!       emit y; if some child of `node` carries y: node = that child, else stop
//! ```
//!
//! `y` depends on the committed text, the walked path and the noise of its position, never on what
//! was drafted, so the emitted text is that of the plain loop: path-lossless, for any draft law and
//! any pruning. For point-mass drafts the acceptance, the mass of the children, is also the most
//! any verifier can reach (speculative decoding by optimal transport: Sun et al., arXiv 2310.15141).
//! What would break it: drawing with noise that depends on the tree, or reusing a position's noise
//! for something else.

use super::{Verified, Walk};
use crate::draft::{RANKS, TopIds};
use crate::request::Request;
use crate::tree::TreeBatch;
use trivium_core::error::{Error, Result};
use trivium_core::logits::LogitsBatch;
use trivium_core::{Constraint, TokenId, ids};

/// Rows times vocabulary up to which every row of the pass feeds recycling; beyond, only rows on
/// the walked path, which were read anyway.
pub(crate) const RECYCLE_ALL: usize = 1 << 19;

/// Where the target's token of a row comes from.
pub trait RowSource {
    /// The token at `row` (global index) chosen for absolute index `index`, and its log-probability
    /// where known. `path` are the drafted tokens from node 0 to the row.
    ///
    /// # Errors
    /// As documented by the implementation.
    fn choose(&mut self, row: usize, index: usize, path: &[TokenId]) -> Result<(TokenId, f32)>;
}

/// Ids that the host sampled, one a row; -1 where it did not.
#[derive(Debug)]
pub struct SampledIds<'a> {
    /// One id a row.
    pub ids: &'a [i64],
    /// Logits width.
    pub vocab: usize,
}

impl RowSource for SampledIds<'_> {
    fn choose(&mut self, row: usize, _index: usize, _path: &[TokenId]) -> Result<(TokenId, f32)> {
        match self.ids[row] {
            -1 => Err(Error::state(
                "verify",
                format!("a sampled id at row {row}, which the walk reached"),
                "-1 (not computed)",
            )),
            id => Ok((ids::check_id(id, self.vocab)?, f32::NAN)),
        }
    }
}

/// Walks the tree of request `b`; nothing follows a token that finishes the constraint.
pub(crate) fn walk(
    batch: &TreeBatch,
    b: usize,
    rows: &mut dyn RowSource,
    constraint: Option<&dyn Constraint>,
) -> Result<Walk> {
    let span = batch.span(b);
    let (tokens, parents) = (&batch.tokens[span.clone()], &batch.parents[span.clone()]);
    let mut walk = Walk::default();
    let mut along: Option<Box<dyn Constraint>> = None;
    let mut node = 0;
    loop {
        let path = &walk.tokens[..];
        let index = batch.lens[b] + path.len();
        let (token, log_prob) = rows.choose(span.start + node, index, path)?;
        walk.tokens.push(token);
        walk.logprobs.push(log_prob);
        let child =
            (node + 1..tokens.len()).find(|&c| parents[c] as usize == node && tokens[c] == token);
        let Some(child) = child else { return Ok(walk) };
        if let Some(constraint) = constraint {
            let along = along.get_or_insert_with(|| constraint.fork());
            // A token that the host sampled against the mask is refused at commit, not here.
            if !along.commit(token)? || along.is_finished() {
                return Ok(walk);
            }
        }
        walk.nodes.push(child);
        node = child;
    }
}

/// Best ids of the rows that recycling learns from.
pub(crate) fn top_ids(
    batch: &TreeBatch,
    b: usize,
    nodes: &[usize],
    logits: &LogitsBatch<'_>,
    scratch: &mut (Vec<f32>, Vec<TokenId>),
) -> Vec<TopIds> {
    let all = batch.span(b).len() * logits.vocab() <= RECYCLE_ALL;
    to_top_ids(batch, b, nodes, all, |row| {
        scratch.0.clear();
        logits.row(row).extend_into(&mut scratch.0);
        trivium_core::numerics::top_k(&scratch.0, RANKS, &mut scratch.1);
        scratch.1.clone()
    })
}

/// The same from any source of best ids: of all rows, or of those on the walked path.
pub(crate) fn to_top_ids(
    batch: &TreeBatch,
    b: usize,
    nodes: &[usize],
    all: bool,
    mut best: impl FnMut(usize) -> Vec<TokenId>,
) -> Vec<TopIds> {
    let span = batch.span(b);
    (0..span.len())
        .filter_map(|node| {
            let row = span.start + node;
            let accepted = node == 0 || nodes.contains(&node);
            (all || accepted).then(|| TopIds { token: batch.tokens[row], accepted, ids: best(row) })
        })
        .collect()
}

/// Verifies one request and adds it to `out`.
pub(crate) fn verify_request(
    batch: &TreeBatch,
    b: usize,
    rows: &mut dyn RowSource,
    tops: impl FnOnce(&[usize]) -> Vec<TopIds>,
    constraint: Option<&dyn Constraint>,
    out: &mut Verified,
) -> Result<()> {
    let walk = walk(batch, b, rows, constraint)?;
    let tops = tops(&walk.nodes);
    out.push(batch, b, walk, tops);
    Ok(())
}

/// The request a tree was built for, unchanged since.
pub(crate) fn check_owner(batch_len: usize, owner: u64, request: &Request) -> Result<()> {
    request.check_open()?;
    if owner != 0 && owner != request.id {
        return Err(Error::state("tree", "the request it was proposed for", "another request"));
    }
    if batch_len != request.tokens.len() {
        return Err(Error::state(
            "tree",
            format!("a request of {batch_len} tokens, as when it was proposed"),
            format!("{} tokens", request.tokens.len()),
        ));
    }
    Ok(())
}
