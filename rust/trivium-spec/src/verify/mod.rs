//! Verification: which drafted tokens the target itself would have chosen.

mod any_subset;
mod batch;
mod block;
mod branch;
mod chain;
mod density;
mod device;
mod fault;
mod gbv;
mod greedy_plus_one;
mod jacobi;
mod k_seq;
mod kind;
mod logits;
mod lossy;
mod mixed;
mod multi_round;
mod path;
mod pearl;
mod recursive;
mod rejection;
mod row;
pub(crate) mod sampled;
mod spechub;
mod transform;
mod traversal;
mod walk;

pub use any_subset::AnySubset;
pub use batch::{Rows, VerifierChoice};
pub use branch::{BranchTree, branch_count, branch_point};
pub use chain::verify_chain;
pub use density::{Density, Thinned, accept_density, verify_density};
pub use device::{DeviceRule, Drawn, NodeAsk};
pub use fault::{Exact, Faults, MUTATIONS, Mutation, Planted};
pub use jacobi::{FrozenWindow, JacobiWindow, Redraft};
pub use k_seq::k_seq_factor;
pub use kind::{Guarantee, VERIFIERS, Verifier};
pub use lossy::{EntropySwitch, LossyRule, LossyWalk, RewardGate};
pub use pearl::{Pearl, PearlMode, PearlStep};
pub use row::{Laws, ProbRows, Row, SUM_TOLERANCE};
pub use sampled::{RowSource, SampledIds};
pub use transform::{LawTransform, divergence};
pub use walk::{Tree, Work, verify_tree, verify_with_faults};

use crate::draft::TopIds;
use crate::draft::mixture::Evidence;
use crate::tree::TreeBatch;
use trivium_core::error::{Error, Result};
use trivium_core::{Constraint, TokenId};

/// A drafted node whose parent was reached.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Label {
    /// End of its evidence.
    pub(crate) end: u32,
    pub(crate) accepted: bool,
    /// Estimate of the acceptance when it was drafted.
    pub(crate) estimate: f32,
}

/// What a verification decided, for a batch. Committed tokens of request `b` are
/// `tokens[cu_tokens[b]..cu_tokens[b + 1]]`: the accepted drafts and one more.
#[derive(Debug, Clone, Default)]
pub struct Verified {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) cu_tokens: Vec<usize>,
    pub(crate) num_accepted: Vec<usize>,
    pub(crate) logprobs: Option<Vec<f32>>,
    pub(crate) kv_gather: Vec<i32>,
    pub(crate) lens: Vec<usize>,
    pub(crate) owners: Vec<u64>,
    /// Rows of the pass, a list a request: they feed recycling at commit.
    pub(crate) rows: Vec<Vec<TopIds>>,
    /// Every drafted node whose parent was reached.
    pub(crate) labels: Vec<Label>,
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) drafted: usize,
    pub(crate) accepted: usize,
    /// Bound on the total variation of each request's text, under a lossy rule.
    pub(crate) deviation: Option<Vec<f32>>,
}

impl Verified {
    /// Emitted tokens of all requests.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Offsets into [`tokens`](Self::tokens) and [`kv_gather`](Self::kv_gather).
    pub fn cu_tokens(&self) -> &[usize] {
        &self.cu_tokens
    }

    /// Accepted drafts of each request, as verified.
    pub fn num_accepted(&self) -> &[usize] {
        &self.num_accepted
    }

    /// Natural log-probability of each emitted token under the processed law, where rows of logits
    /// were verified.
    pub fn logprobs(&self) -> Option<&[f32]> {
        self.logprobs.as_deref()
    }

    /// Under a lossy rule, a bound on the total variation between each request's emitted text and
    /// the target's law. `None` otherwise: there is none.
    pub fn deviation(&self) -> Option<&[f32]> {
        self.deviation.as_deref()
    }

    /// Local node rows whose cache entries stay: node 0, then the accepted path.
    pub fn kv_gather(&self) -> &[i32] {
        &self.kv_gather
    }

    /// Number of requests.
    pub fn len(&self) -> usize {
        self.lens.len()
    }

    /// Whether the batch has no request.
    pub fn is_empty(&self) -> bool {
        self.lens.is_empty()
    }

    /// Emitted tokens of one request.
    pub fn tokens_of(&self, b: usize) -> &[TokenId] {
        &self.tokens[self.cu_tokens[b]..self.cu_tokens[b + 1]]
    }

    /// Log-probabilities of one request's emitted tokens, where known.
    pub(crate) fn logprobs_of(&self, b: usize) -> Option<&[f32]> {
        self.logprobs.as_ref().map(|l| &l[self.cu_tokens[b]..self.cu_tokens[b + 1]])
    }

    /// Keeps the first `n` tokens of request `b`, as hosts do at an end of sequence, a stop string
    /// or a length limit. Before `commit`.
    ///
    /// # Errors
    /// `InvalidInput` if the request does not exist or emitted fewer.
    pub fn truncate(&mut self, b: usize, n: usize) -> Result<()> {
        if b >= self.len() || n > self.tokens_of(b).len() {
            return Err(Error::input(
                "truncate",
                format!("request {b} of {} cannot be cut to {n} tokens", self.len()),
            ));
        }
        let cut = self.cu_tokens[b] + n..self.cu_tokens[b + 1];
        let gone = cut.len();
        self.tokens.drain(cut.clone());
        self.kv_gather.drain(cut.clone());
        if let Some(lp) = &mut self.logprobs {
            lp.drain(cut);
        }
        self.cu_tokens[b + 1..].iter_mut().for_each(|c| *c -= gone);
        Ok(())
    }
}

/// A walk down one tree: accepted nodes and emitted tokens.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Walk {
    /// Accepted nodes, local, from the root down.
    pub nodes: Vec<usize>,
    /// Emitted tokens: those of the accepted nodes, and one more unless the tree forbids it.
    pub tokens: Vec<TokenId>,
    /// Natural log-probability of each emitted token under the target's law.
    pub logprobs: Vec<f32>,
}

impl Walk {
    /// Ends the walk at the token that finishes the constraint, if one does: what a rule drew behind
    /// it is no text. The node of that token is not kept, since nothing will follow it.
    pub(crate) fn cut(&mut self, constraint: Option<&dyn Constraint>) -> Result<()> {
        let Some(constraint) = constraint else { return Ok(()) };
        if self.tokens.len() < 2 {
            return Ok(());
        }
        let mut along = constraint.fork();
        for (i, &token) in self.tokens.iter().enumerate() {
            // A token that the host sampled against the mask is refused at commit, not here.
            if !along.commit(token)? {
                break;
            }
            if along.is_finished() {
                self.tokens.truncate(i + 1);
                self.logprobs.truncate(i + 1);
                self.nodes.truncate(i);
                break;
            }
        }
        Ok(())
    }
}

impl Verified {
    pub(crate) fn new() -> Self {
        Self { cu_tokens: vec![0], ..Self::default() }
    }

    /// Adds the walk of request `b` of `batch`.
    pub(crate) fn push(&mut self, batch: &TreeBatch, b: usize, walk: Walk, rows: Vec<TopIds>) {
        let span = batch.span(b);
        // Labels: children of every reached node, accepted or not. The walk rises.
        let mut reached = vec![false; span.len()];
        reached[0] = true;
        for &node in &walk.nodes {
            reached[node] = true;
        }
        for node in span.start + 1..span.end {
            let parent = batch.parents[node] as usize;
            if reached[parent] {
                self.evidence.extend_from_slice(batch.evidence_of(node));
                self.labels.push(Label {
                    end: self.evidence.len() as u32,
                    accepted: reached[node - span.start],
                    estimate: batch.scores[node] / batch.scores[span.start + parent],
                });
            }
        }
        self.drafted += span.len() - 1;
        self.accepted += walk.nodes.len();
        self.num_accepted.push(walk.nodes.len());
        self.kv_gather.push(0);
        self.kv_gather.extend(walk.nodes.iter().map(|&n| n as i32));
        self.tokens.extend(walk.tokens);
        if let Some(lp) = &mut self.logprobs {
            lp.extend(walk.logprobs);
        }
        self.cu_tokens.push(self.tokens.len());
        self.lens.push(batch.lens[b]);
        self.owners.push(batch.owners[b]);
        self.rows.push(rows);
    }
}
