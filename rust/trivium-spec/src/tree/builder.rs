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
use crate::draft::Candidate;
use crate::draft::mixture::{Evidence, MAX_SLOTS, Mixture};
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

/// Evidence for one candidate, at most one piece a slot.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Said {
    len: u8,
    pieces: [Evidence; MAX_SLOTS],
}

impl Said {
    const NONE: Self =
        Self { len: 0, pieces: [Evidence { slot: 0, feature: 0, prior: 0.0 }; MAX_SLOTS] };

    fn as_slice(&self) -> &[Evidence] {
        &self.pieces[..usize::from(self.len)]
    }

    /// Adds a piece; a slot that spoke keeps its first.
    fn add(&mut self, piece: Evidence) {
        let spoke = self.as_slice().iter().any(|e| e.slot == piece.slot);
        if !spoke && usize::from(self.len) < MAX_SLOTS {
            self.pieces[usize::from(self.len)] = piece;
            self.len += 1;
        }
    }
}

/// A node that could be added.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Slot {
    score: f32,
    request: u32,
    parent: u32,
    order: u32,
    token: TokenId,
    /// Index into [`Scratch::said`].
    said: u32,
}

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
    said: Vec<Said>,
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
            said: vec![Said::NONE],
            walked: Vec::new(),
        });
    }
    let grown = pop_all(requests, &mut trees, learned, limits, cost);
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
        for said in &tree.said[..keep] {
            batch.evidence.extend_from_slice(said.as_slice());
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
) -> Result<Vec<usize>> {
    let mut heap = BinaryHeap::new();
    let mut scratch = Scratch::default();
    let mut total = trees.len();
    let mut order: Vec<(f32, u32)> = Vec::new();
    for b in 0..trees.len() {
        let last = trees[b].tokens[0];
        let most = limits.max_nodes.min(requests[b].cap);
        if most > 1 && limits.max_depth > 0 && total < limits.max_total {
            requests[b].sources.iter_mut().for_each(|s| s.root(last));
            expand(requests[b], &mut trees[b], (b, 0), learned, &mut scratch, &mut heap)?;
        } else {
            requests[b].sources.iter_mut().for_each(|s| s.idle(last));
        }
    }
    while total < limits.max_total {
        let Some(slot) = heap.pop() else { break };
        let b = slot.request as usize;
        let tree = &mut trees[b];
        let most = limits.max_nodes.min(requests[b].cap);
        if tree.tokens.len() >= most {
            continue;
        }
        let node = tree.tokens.len();
        let depth = tree.depths[slot.parent as usize] + 1;
        tree.tokens.push(slot.token);
        tree.parents.push(slot.parent as i32);
        tree.depths.push(depth);
        tree.scores.push(slot.score);
        tree.said.push(scratch.said[slot.said as usize]);
        order.push((slot.score, slot.request));
        total += 1;
        requests[b].sources.iter_mut().for_each(|s| s.node(slot.parent as usize, slot.token));
        let room = total < limits.max_total && tree.tokens.len() < most;
        let above = tree.scores[slot.parent as usize];
        let on =
            || requests[b].steering.goes_on(slot.parent as usize, depth.into(), slot.score, above);
        if room && usize::from(depth) < limits.max_depth && on() {
            expand(requests[b], tree, (b, node), learned, &mut scratch, &mut heap)?;
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
    candidates: Vec<Candidate>,
    merged: Vec<(TokenId, f32, Said)>,
    /// Evidence of every slot pushed in this call.
    said: Vec<Said>,
}

/// Pushes the children of a node that the sources know of. `learned` is the mixture and each
/// source's first slot in it.
fn expand(
    request: &mut Request,
    tree: &mut Growing,
    (b, node): (usize, usize),
    (mixture, first_slots): (&Mixture, &[u8]),
    scratch: &mut Scratch,
    heap: &mut BinaryHeap<Slot>,
) -> Result<()> {
    let Scratch { candidates, merged, said: arena } = scratch;
    let depth = usize::from(tree.depths[node]);
    merged.clear();
    for (source, &first) in request.sources.iter().zip(first_slots) {
        candidates.clear();
        source.candidates(node, depth, candidates);
        for c in candidates.iter() {
            let piece = Evidence { slot: first + c.slot, feature: c.feature, prior: c.prior };
            let at = merged.iter().position(|m| m.0 == c.token).unwrap_or_else(|| {
                merged.push((c.token, 0.0, Said::NONE));
                merged.len() - 1
            });
            merged[at].2.add(piece);
        }
    }
    for (_, estimate, said) in merged.iter_mut() {
        *estimate = mixture.probability(said.as_slice());
    }
    if let Some(constraint) = &mut request.constraint {
        tree.move_to(constraint.as_mut(), node)?;
        if let Some(token) = constraint.forced() {
            merged.retain(|m| m.0 == token);
            match merged.first_mut() {
                Some(m) => m.1 = 1.0,
                None => merged.push((token, 1.0, Said::NONE)),
            }
        } else {
            let mut failed = None;
            merged.retain(|m| {
                constraint.allows(m.0).unwrap_or_else(|e| {
                    failed = Some(e);
                    false
                })
            });
            if let Some(e) = failed {
                return Err(e);
            }
        }
    }
    if let Some(law) = request.law.as_ref().filter(|l| l.has_masks()) {
        let mut law = law.fork();
        tree.path(node).iter().for_each(|&n| law.observe(tree.tokens[n]));
        merged.retain(|m| !law.forbids(m.0));
    }
    // Siblings exclude each other: their estimates cannot add up to more than 1.
    let sum: f32 = merged.iter().map(|m| m.1).sum();
    let scale = if sum > 1.0 { 1.0 / sum } else { 1.0 };
    let estimates = merged.iter().map(|m| m.1 * scale);
    if !request.steering.expands(node, depth, tree.scores[node], estimates) {
        return Ok(());
    }
    for (order, &(token, estimate, said)) in merged.iter().enumerate() {
        let score = tree.scores[node] * estimate * scale;
        if score >= FLOOR {
            heap.push(Slot {
                score,
                request: b as u32,
                parent: node as u32,
                order: order as u32,
                token,
                said: arena.len() as u32,
            });
            arena.push(said);
        }
    }
    Ok(())
}
