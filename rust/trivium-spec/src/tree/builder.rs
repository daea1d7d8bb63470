//! One heap over all sources and requests grows the trees, most probable node first.
//!
//! DySpec's greedy expansion in its deterministic form (Xiong et al., arXiv 2410.11744): a node's
//! score is the product of calibrated acceptance estimates along its path; the heap pops the best
//! candidate anywhere in the batch, adds it, and asks every source for the candidates below it. A
//! child's score never exceeds its parent's, so the n nodes popped first are the n best the sources
//! know of, and every prefix of the order is closed under parents: cutting the trees to the size
//! that pays best is a truncation.
//!
//! Candidates that several sources name become one node, whose probability the
//! [mixture](crate::draft::mixture) makes of everything they say. Tokens that the request's constraint forbids are dropped (they are point
//! masses, so pruning cannot bias the text); a forced token is a node with estimate 1.

use super::batch::TreeBatch;
use crate::draft::Candidates;
use crate::draft::mixture::{Evidence, Mixture};
use crate::policy::CostModel;
use crate::request::Request;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use trivium_core::error::Result;
use trivium_core::{Constraint, TokenId};

/// Budgets of one call, node 0 counted.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_field_names)] // the names of the constructor
pub(crate) struct Limits {
    pub(crate) max_nodes: usize,
    pub(crate) max_depth: usize,
    pub(crate) max_total: usize,
}

/// Estimates below this are not worth a heap entry.
const FLOOR: f32 = 1e-4;

/// Trees up to this many drafted nodes are exactly the best ones. In larger trees the continuations
/// of a node are looked up when the heap's best falls below [`PATIENCE`] of its score: most nodes
/// are leaves, and their continuations would never be taken.
const EXACT: usize = 16;
const PATIENCE: f32 = 0.5;

/// A node that could be added.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Slot {
    score: f32,
    request: u32,
    parent: u32,
    order: u32,
    token: TokenId,
    /// What was said of it, a range of [`Scratch::said`]; [`EXPAND`] marks a node of the tree
    /// (`parent`) whose continuations are still to be looked up.
    said: u32,
    pieces: u32,
}

const EXPAND: u32 = u32::MAX;

impl Eq for Slot {}

impl Ord for Slot {
    fn cmp(&self, other: &Self) -> Ordering {
        // Highest score first, then a fixed order.
        self.score.total_cmp(&other.score).then_with(|| {
            (other.request, other.parent, other.order).cmp(&(self.request, self.parent, self.order))
        })
    }
}

impl PartialOrd for Slot {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A tree being grown.
#[derive(Debug, Default)]
struct Growing {
    tokens: Vec<TokenId>,
    parents: Vec<i32>,
    depths: Vec<u16>,
    scores: Vec<f32>,
    /// What was said of each node, a range of [`Scratch::said`].
    said: Vec<(u32, u32)>,
    /// Nodes whose tokens the constraint has consumed.
    walked: Vec<usize>,
}

impl Growing {
    /// Nodes from below node 0 down to `node`.
    fn path(&self, node: usize) -> Vec<usize> {
        let mut path = Vec::with_capacity(usize::from(self.depths[node]));
        let mut n = node;
        while n != 0 {
            path.push(n);
            n = self.parents[n] as usize;
        }
        path.reverse();
        path
    }

    /// Moves a constraint to a node: back to the common ancestor, then down.
    fn move_to(&mut self, constraint: &mut dyn Constraint, node: usize) -> Result<()> {
        let path = self.path(node);
        let shared = path.iter().zip(&self.walked).take_while(|(a, b)| a == b).count();
        let back = self.walked.len() - shared;
        constraint.rollback(back)?;
        self.walked.truncate(shared);
        for &n in &path[shared..] {
            // Every node was allowed when it was added.
            constraint.commit(self.tokens[n])?;
            self.walked.push(n);
        }
        Ok(())
    }
}

/// Grows the trees of a batch. Constraints are back at their state afterwards, on errors too.
pub(crate) fn grow(
    requests: &mut [&mut Request],
    learned: (&Mixture, &[u8]),
    limits: Limits,
    cost: Option<&CostModel>,
) -> Result<TreeBatch> {
    let mut trees: Vec<Growing> = Vec::with_capacity(requests.len());
    for r in requests.iter() {
        let last = r.tokens.last().copied().unwrap_or(0);
        trees.push(Growing {
            tokens: vec![last],
            parents: vec![-1],
            depths: vec![0],
            scores: vec![1.0],
            said: vec![(0, 0)],
            walked: Vec::new(),
        });
    }
    let mut scratch = Scratch::default();
    let grown = pop_all(requests, &mut trees, learned, limits, cost, &mut scratch);
    for (r, tree) in requests.iter_mut().zip(&trees) {
        if let Some(c) = &mut r.constraint {
            c.rollback(tree.walked.len())?;
        }
    }
    let keep = grown?;
    for ((r, tree), &keep) in requests.iter_mut().zip(&trees).zip(&keep) {
        let depth = tree.depths[..keep].iter().copied().max().unwrap_or(0);
        let grown = tree.tokens.len();
        r.steering.grown(&tree.parents[..keep], &tree.scores[..keep], usize::from(depth), grown);
    }
    let mut batch = TreeBatch::new();
    for ((r, tree), keep) in requests.iter().zip(trees).zip(keep) {
        batch.tokens.extend_from_slice(&tree.tokens[..keep]);
        batch.parents.extend_from_slice(&tree.parents[..keep]);
        batch.depths.extend_from_slice(&tree.depths[..keep]);
        batch.scores.extend_from_slice(&tree.scores[..keep]);
        for &(start, n) in &tree.said[..keep] {
            batch.evidence.extend_from_slice(&scratch.said[start as usize..][..n as usize]);
            batch.evidence_ends.push(batch.evidence.len() as u32);
        }
        batch.cu_nodes.push(batch.tokens.len());
        batch.lens.push(r.tokens.len());
        batch.owners.push(r.id);
    }
    Ok(batch)
}

/// Fills the trees; returns how many nodes of each to keep.
fn pop_all(
    requests: &mut [&mut Request],
    trees: &mut [Growing],
    learned: (&Mixture, &[u8]),
    limits: Limits,
    cost: Option<&CostModel>,
    scratch: &mut Scratch,
) -> Result<Vec<usize>> {
    let mut total = trees.len();
    let largest = (limits.max_nodes - 1).min(limits.max_total - total);
    let mut order: Vec<(f32, u32)> = Vec::new();
    for b in 0..trees.len() {
        let last = trees[b].tokens[0];
        let most = limits.max_nodes.min(requests[b].cap);
        if most > 1 && limits.max_depth > 0 && total < limits.max_total {
            requests[b].sources.iter_mut().for_each(|s| s.root(last));
            expand(requests[b], &mut trees[b], (b, 0), learned, scratch)?;
        } else {
            requests[b].sources.iter_mut().for_each(|s| s.idle(last));
        }
    }
    while total < limits.max_total {
        let Some(slot) = scratch.heap.pop() else { break };
        let b = slot.request as usize;
        let tree = &mut trees[b];
        let most = limits.max_nodes.min(requests[b].cap);
        if tree.tokens.len() >= most {
            continue;
        }
        if slot.said == EXPAND {
            expand(requests[b], tree, (b, slot.parent as usize), learned, scratch)?;
            continue;
        }
        let node = tree.tokens.len();
        let depth = tree.depths[slot.parent as usize] + 1;
        tree.tokens.push(slot.token);
        tree.parents.push(slot.parent as i32);
        tree.depths.push(depth);
        tree.scores.push(slot.score);
        tree.said.push((slot.said, slot.pieces));
        order.push((slot.score, slot.request));
        total += 1;
        requests[b].sources.iter_mut().for_each(|s| s.node(slot.parent as usize, slot.token));
        let room = total < limits.max_total && tree.tokens.len() < most;
        let above = tree.scores[slot.parent as usize];
        let on =
            || requests[b].steering.goes_on(slot.parent as usize, depth.into(), slot.score, above);
        if room && usize::from(depth) < limits.max_depth && on() {
            if largest <= EXACT {
                expand(requests[b], tree, (b, node), learned, scratch)?;
            } else {
                let score = slot.score * PATIENCE;
                let later = Slot { score, parent: node as u32, said: EXPAND, ..slot };
                scratch.heap.push(later);
            }
        }
    }
    let kept = cost.map_or(order.len(), |c| {
        let scores: Vec<f32> = order.iter().map(|o| o.0).collect();
        c.best_prefix(trees.len(), &scores)
    });
    let mut keep = vec![1; trees.len()];
    for &(_, b) in &order[..kept] {
        keep[b as usize] += 1;
    }
    Ok(keep)
}

#[derive(Default)]
struct Scratch {
    heap: BinaryHeap<Slot>,
    candidates: Candidates,
    estimates: Vec<f32>,
    /// Evidence of every slot pushed in this call.
    said: Vec<Evidence>,
}

/// Pushes the children of a node that the sources know of. `learned` is the mixture and each
/// source's first slot in it.
fn expand(
    request: &mut Request,
    tree: &mut Growing,
    (b, node): (usize, usize),
    (mixture, first_slots): (&Mixture, &[u8]),
    scratch: &mut Scratch,
) -> Result<()> {
    let Scratch { heap, candidates, estimates, said } = scratch;
    let depth = usize::from(tree.depths[node]);
    candidates.clear();
    for (source, &first) in request.sources.iter_mut().zip(first_slots) {
        candidates.speaker(first);
        source.candidates(node, depth, candidates);
    }
    let named = candidates.tokens();
    estimates.clear();
    estimates.extend((0..named.len()).map(|at| mixture.probability(candidates.evidence(at))));
    let mut forced = None;
    if let Some(constraint) = &mut request.constraint {
        tree.move_to(constraint.as_mut(), node)?;
        forced = constraint.forced();
        for (estimate, &token) in estimates.iter_mut().zip(named) {
            match forced {
                Some(only) => *estimate = f32::from(u8::from(token == only)),
                None if !constraint.allows(token)? => *estimate = 0.0,
                None => {}
            }
        }
    }
    if let Some(law) = request.law.as_ref().filter(|l| l.has_masks()) {
        let mut law = law.fork();
        tree.path(node).iter().for_each(|&n| law.observe(tree.tokens[n]));
        for (estimate, &token) in estimates.iter_mut().zip(named) {
            if law.forbids(token) {
                *estimate = 0.0;
            }
        }
        forced = forced.filter(|&t| !law.forbids(t));
    }
    let mut push = |token, score, order, evidence: &[Evidence]| {
        if score >= FLOOR {
            let (request, parent) = (b as u32, node as u32);
            let (start, pieces) = (said.len() as u32, evidence.len() as u32);
            heap.push(Slot { score, request, parent, order, token, said: start, pieces });
            said.extend_from_slice(evidence);
        }
    };
    // Siblings exclude each other: their estimates cannot add up to more than 1.
    let sum: f32 = estimates.iter().sum();
    let fair = if sum > 1.0 { 1.0 / sum } else { 1.0 };
    let forced = forced.filter(|t| !named.contains(t));
    let possible = estimates.iter().filter(|e| **e > 0.0).map(|e| e * fair);
    let all = possible.chain(forced.map(|_| 1.0));
    if !request.steering.expands(node, depth, tree.scores[node], all) {
        return Ok(());
    }
    let scale = tree.scores[node] * fair;
    for (at, (&token, &estimate)) in named.iter().zip(estimates.iter()).enumerate() {
        push(token, scale * estimate, at as u32, candidates.evidence(at));
    }
    if let Some(token) = forced {
        push(token, tree.scores[node], named.len() as u32, &[]);
    }
    Ok(())
}
