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
//! masses, so pruning cannot bias the text); a forced token is a node with estimate 1, and the token
//! that spells text which the constraint forces is a candidate like those of sources.

use super::batch::TreeBatch;
use crate::draft::mixture::{Evidence, Mixture};
use crate::draft::{Candidate, Candidates};
use crate::policy::CostModel;
use crate::request::Request;
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
#[derive(Debug, Clone, Copy)]
struct Slot {
    score: f32,
    request: u32,
    parent: u32,
    token: TokenId,
    /// What was said of it, a range of [`Scratch::said`]; [`EXPAND`] marks a node of the tree
    /// (`parent`) whose continuations are still to be looked up.
    said: u32,
    pieces: u32,
}

const EXPAND: u32 = u32::MAX;

/// Share of the tokens that a constraint calls likely which are accepted, before any was tried.
const LIKELY: f32 = 0.9;

/// Slots by score, the first pushed first among equals.
#[derive(Debug, Default)]
struct Queue {
    slots: Vec<Slot>,
    /// Bits of the score, which order as scores of at least 0 do, above the slot's inverted index.
    heap: BinaryHeap<u64>,
}

impl Queue {
    fn clear(&mut self) {
        self.slots.clear();
        self.heap.clear();
    }

    fn push(&mut self, key: f32, slot: Slot) {
        let index = !(self.slots.len() as u32);
        self.heap.push(u64::from(key.to_bits()) << 32 | u64::from(index));
        self.slots.push(slot);
    }

    fn pop(&mut self) -> Option<Slot> {
        self.heap.pop().map(|top| self.slots[!(top as u32) as usize])
    }
}

/// A tree being grown.
#[derive(Debug)]
struct Growing {
    tokens: Vec<TokenId>,
    parents: Vec<i32>,
    depths: Vec<u16>,
    scores: Vec<f32>,
    /// What was said of each node, a range of [`Scratch::said`].
    said: Vec<(u32, u32)>,
    /// Nodes whose tokens the constraint has consumed.
    walked: Vec<usize>,
    best: Best,
}

/// Scores of the candidates pushed so far, in classes: those below the tree's budget of better ones
/// can never be taken.
#[derive(Debug)]
struct Best {
    classes: [u32; CLASSES],
    /// Candidates of the lowest class that counts and above.
    above: usize,
    lowest: usize,
    budget: usize,
}

/// Classes of a quarter of an octave from [`FLOOR`] to 1.
const CLASSES: usize = 56;
const CLASS_BITS: u32 = 21;

impl Best {
    fn new(budget: usize) -> Self {
        Self { classes: [0; CLASSES], above: 0, lowest: 0, budget }
    }

    fn class(score: f32) -> usize {
        let class = (score.to_bits() >> CLASS_BITS).saturating_sub(FLOOR.to_bits() >> CLASS_BITS);
        (class as usize).min(CLASSES - 1)
    }

    /// Whether a candidate of this score may still be taken.
    fn admits(&self, score: f32) -> bool {
        score >= FLOOR && Self::class(score) >= self.lowest
    }

    fn count(&mut self, score: f32) {
        let class = Self::class(score);
        self.classes[class] += 1;
        self.above += 1;
        while self.above - self.classes[self.lowest] as usize >= self.budget
            && self.lowest + 1 < CLASSES
        {
            self.above -= self.classes[self.lowest] as usize;
            self.lowest += 1;
        }
    }
}

impl Growing {
    /// A tree of at most `nodes`.
    fn new(nodes: usize) -> Self {
        let budget = nodes.saturating_sub(1);
        let nodes = nodes.min(256);
        Self {
            tokens: Vec::with_capacity(nodes),
            parents: Vec::with_capacity(nodes),
            depths: Vec::with_capacity(nodes),
            scores: Vec::with_capacity(nodes),
            said: Vec::with_capacity(nodes),
            walked: Vec::new(),
            best: Best::new(budget),
        }
    }

    fn push(&mut self, token: TokenId, parent: i32, depth: u16, score: f32, said: (u32, u32)) {
        self.tokens.push(token);
        self.parents.push(parent);
        self.depths.push(depth);
        self.scores.push(score);
        self.said.push(said);
    }

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
    cost: Option<(&CostModel, Option<usize>)>,
    scratch: &mut Scratch,
) -> Result<TreeBatch> {
    let mut trees: Vec<Growing> = Vec::with_capacity(requests.len());
    for r in requests.iter() {
        let last = r.tokens.last().copied().unwrap_or(0);
        let mut tree = Growing::new(limits.max_nodes.min(r.cap));
        tree.push(last, -1, 0, 1.0, (0, 0));
        trees.push(tree);
    }
    scratch.queue.clear();
    scratch.said.clear();
    let grown = pop_all(requests, &mut trees, learned, limits, cost, scratch);
    for (r, tree) in requests.iter_mut().zip(&trees) {
        if let Some(c) = &mut r.constraint {
            c.rollback(tree.walked.len())?;
        }
    }
    let keep = grown?;
    for ((r, tree), &keep) in requests.iter_mut().zip(&trees).zip(&keep) {
        let depth = tree.depths[..keep].iter().copied().max().unwrap_or(0);
        // A probe says nothing of whether drafts pay.
        let probing = cost.is_some_and(|c| c.1.is_some());
        let grown = if probing { 1 } else { tree.tokens.len() };
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
    cost: Option<(&CostModel, Option<usize>)>,
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
        let Some(slot) = scratch.queue.pop() else { break };
        let b = slot.request as usize;
        let tree = &mut trees[b];
        let most = limits.max_nodes.min(requests[b].cap);
        if tree.tokens.len() >= most {
            continue;
        }
        if slot.said == EXPAND {
            if !tree.best.admits(slot.score) {
                continue;
            }
            expand(requests[b], tree, (b, slot.parent as usize), learned, scratch)?;
            continue;
        }
        let node = tree.tokens.len();
        let depth = tree.depths[slot.parent as usize] + 1;
        tree.push(slot.token, slot.parent as i32, depth, slot.score, (slot.said, slot.pieces));
        order.push((slot.score, slot.request));
        total += 1;
        requests[b].sources.iter_mut().for_each(|s| s.node(slot.parent as usize, slot.token));
        let room = total < limits.max_total && tree.tokens.len() < most;
        let above = tree.scores[slot.parent as usize];
        if !requests[b].steering.goes_on(slot.parent as usize, depth.into(), slot.score, above) {
            requests[b].cap = tree.tokens.len();
        } else if room && usize::from(depth) < limits.max_depth {
            if largest <= EXACT {
                expand(requests[b], tree, (b, node), learned, scratch)?;
            } else {
                let later = Slot { parent: node as u32, said: EXPAND, ..slot };
                scratch.queue.push(slot.score * PATIENCE, later);
            }
        }
    }
    let kept = cost.map_or(order.len(), |(c, probe)| {
        let scores: Vec<f32> = order.iter().map(|o| o.0).collect();
        // A size to try is cut like any other.
        probe.map_or_else(|| c.best_prefix(trees.len(), &scores), |n| n.min(scores.len()))
    });
    let mut keep = vec![1; trees.len()];
    for &(_, b) in &order[..kept] {
        keep[b as usize] += 1;
    }
    Ok(keep)
}

/// Working memory of a call, kept between calls.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    queue: Queue,
    candidates: Candidates,
    estimates: Vec<f32>,
    order: Vec<usize>,
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
    let Scratch { queue, candidates, estimates, order, said } = scratch;
    let depth = usize::from(tree.depths[node]);
    candidates.clear();
    for (source, &first) in request.sources.iter_mut().zip(first_slots) {
        candidates.speaker(first);
        source.candidates(node, depth, candidates);
    }
    let mut forced = None;
    if let Some(constraint) = &mut request.constraint {
        tree.move_to(constraint.as_mut(), node)?;
        forced = constraint.forced();
        if let (None, Some(token), Some(&slot)) = (forced, constraint.likely(), first_slots.last())
        {
            candidates.speaker(slot);
            candidates.push(Candidate { token, slot: 0, feature: 0, prior: LIKELY });
        }
    }
    let named = candidates.tokens();
    mixture.estimates(candidates, estimates);
    if let Some(constraint) = &mut request.constraint {
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
    let above = tree.scores[node];
    let mut push = |token, score: f32, evidence: &[Evidence]| {
        if tree.best.admits(score) {
            tree.best.count(score);
            let (request, parent) = (b as u32, node as u32);
            let (start, pieces) = (said.len() as u32, evidence.len() as u32);
            queue.push(score, Slot { score, request, parent, token, said: start, pieces });
            said.extend_from_slice(evidence);
        }
    };
    // Siblings exclude each other: the likelier ones leave the others what remains of 1. (Scaling all
    // of them makes the best one, whose estimate is the surest, look worse than it is.)
    if estimates.iter().sum::<f32>() > 1.0 {
        order.clear();
        order.extend(0..estimates.len());
        order.sort_by(|&a, &b| estimates[b].total_cmp(&estimates[a]));
        let mut left = 1.0f32;
        for &at in order.iter() {
            estimates[at] = estimates[at].min(left);
            left -= estimates[at];
        }
    }
    let forced = forced.filter(|t| !named.contains(t));
    let possible = estimates.iter().copied().filter(|e| *e > 0.0);
    let all = possible.chain(forced.map(|_| 1.0));
    if !request.steering.expands(node, depth, tree.scores[node], all) {
        // A stop ends the tree: what is left in the heap is less likely still.
        request.cap = tree.tokens.len();
        return Ok(());
    }
    for (at, (&token, &estimate)) in named.iter().zip(estimates.iter()).enumerate() {
        push(token, above * estimate, candidates.evidence(at));
    }
    if let Some(token) = forced {
        push(token, above, &[]);
    }
    Ok(())
}
