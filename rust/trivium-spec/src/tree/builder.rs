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
use crate::draft::mixture::{Evidence, Mixture, RowCache};
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

/// Continuations whose share of the evidence is this much below what could still be taken are not
/// looked at: the mixture makes little more of so little.
const MARGIN: f32 = 2.0;

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
    /// The same for nodes to expand, descending: they come almost in order. The first `expanded` are
    /// done.
    later: Vec<u64>,
    expanded: usize,
}

impl Queue {
    fn clear(&mut self) {
        self.slots.clear();
        self.heap.clear();
        self.later.clear();
        self.expanded = 0;
    }

    #[inline]
    fn key(&mut self, score: f32, slot: Slot) -> u64 {
        let index = !(self.slots.len() as u32);
        self.slots.push(slot);
        u64::from(score.to_bits()) << 32 | u64::from(index)
    }

    #[inline]
    fn push(&mut self, slot: Slot) {
        let key = self.key(slot.score, slot);
        self.heap.push(key);
    }

    /// Expands a node when the best slot has fallen to `score`.
    #[inline]
    fn push_later(&mut self, score: f32, slot: Slot) {
        let key = self.key(score, slot);
        let mut at = self.later.len();
        self.later.push(key);
        while at > self.expanded && self.later[at - 1] < key {
            self.later[at] = self.later[at - 1];
            at -= 1;
        }
        self.later[at] = key;
    }

    #[inline]
    fn pop(&mut self) -> Option<Slot> {
        let (next, later) = (self.heap.peek(), self.later.get(self.expanded));
        let top = if later > next {
            self.expanded += 1;
            self.later.get(self.expanded - 1).copied()
        } else {
            self.heap.pop()
        };
        top.map(|top| self.slots[!(top as u32) as usize])
    }
}

/// A node of a tree being grown.
#[derive(Debug, Clone, Copy)]
struct Grown {
    token: TokenId,
    parent: i32,
    depth: u16,
    score: f32,
    /// What was said of it, a range of [`Scratch::said`].
    said: (u32, u32),
}

/// A tree being grown.
#[derive(Debug)]
struct Growing {
    nodes: Vec<Grown>,
    /// Most nodes that it may have.
    most: usize,
    /// Nodes whose tokens the constraint has consumed.
    walked: Vec<usize>,
    best: Best,
}

/// Scores of the candidates pushed so far, in classes: those below the tree's budget of better ones
/// can never be taken.
#[derive(Debug)]
struct Best {
    classes: [u32; CLASSES],
    /// Least score of a class that counts.
    least: f32,
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
        Self { classes: [0; CLASSES], least: FLOOR, above: 0, lowest: 0, budget }
    }

    fn class(score: f32) -> usize {
        let class = (score.to_bits() >> CLASS_BITS).saturating_sub(FLOOR.to_bits() >> CLASS_BITS);
        (class as usize).min(CLASSES - 1)
    }

    /// Whether a candidate of this score may still be taken.
    fn admits(&self, score: f32) -> bool {
        score >= self.least
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
            let class = (FLOOR.to_bits() >> CLASS_BITS) + self.lowest as u32;
            self.least = f32::from_bits(class << CLASS_BITS);
        }
    }
}

impl Default for Growing {
    fn default() -> Self {
        Self { nodes: Vec::new(), most: 1, walked: Vec::new(), best: Best::new(0) }
    }
}

impl Growing {
    /// Starts a tree of at most `most` nodes behind the token `last`.
    fn start(&mut self, last: TokenId, most: usize) {
        self.nodes.clear();
        self.nodes.push(Grown { token: last, parent: -1, depth: 0, score: 1.0, said: (0, 0) });
        self.most = most;
        self.walked.clear();
        self.best = Best::new(most.saturating_sub(1));
    }

    /// Nodes from below node 0 down to `node`.
    fn path(&self, node: usize) -> Vec<usize> {
        let mut path = Vec::with_capacity(usize::from(self.nodes[node].depth));
        let mut n = node;
        while n != 0 {
            path.push(n);
            n = self.nodes[n].parent as usize;
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
            constraint.commit(self.nodes[n].token)?;
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
    let mut trees = std::mem::take(&mut scratch.trees);
    if trees.len() < requests.len() {
        trees.resize_with(requests.len(), Growing::default);
    }
    for (r, tree) in requests.iter().zip(&mut trees) {
        let last = r.tokens.last().copied().unwrap_or(0);
        tree.start(last, limits.max_nodes.min(r.cap));
    }
    scratch.said.clear();
    scratch.order.clear();
    scratch.rows = RowCache::default();
    let grown = grow_all(requests, &mut trees, learned, limits, cost.is_some(), scratch);
    for (r, tree) in requests.iter_mut().zip(&trees) {
        if let Some(c) = &mut r.constraint {
            c.rollback(tree.walked.len())?;
        }
    }
    grown?;
    let keep = kept(requests.len(), &trees, cost, scratch);
    let mut batch = TreeBatch::new();
    batch.reserve(keep.iter().sum());
    for ((r, tree), keep) in requests.iter_mut().zip(&trees).zip(keep) {
        let first = batch.tokens.len();
        for n in &tree.nodes[..keep] {
            batch.tokens.push(n.token);
            batch.parents.push(n.parent);
            batch.depths.push(n.depth);
            batch.scores.push(n.score);
            let (start, pieces) = (n.said.0 as usize, n.said.1 as usize);
            batch.evidence.extend_from_slice(&scratch.said[start..start + pieces]);
            batch.evidence_ends.push(batch.evidence.len() as u32);
        }
        batch.cu_nodes.push(batch.tokens.len());
        batch.lens.push(r.tokens.len());
        batch.owners.push(r.id);
        // A probe says nothing of whether drafts pay.
        let probing = cost.is_some_and(|c| c.1.is_some());
        let grown = if probing { 1 } else { tree.nodes.len() };
        let depth = tree.nodes[..keep].iter().map(|n| n.depth).max().unwrap_or(0);
        let (parents, scores) = (&batch.parents[first..], &batch.scores[first..]);
        r.steering.grown(parents, scores, usize::from(depth), grown);
    }
    trees.truncate(KEPT_TREES);
    scratch.trees = trees;
    Ok(batch)
}

/// How many nodes of each tree pay: a cut through all of them in order of score.
fn kept(
    requests: usize,
    trees: &[Growing],
    cost: Option<(&CostModel, Option<usize>)>,
    scratch: &mut Scratch,
) -> Vec<usize> {
    let Some((cost, probe)) = cost else {
        return trees[..requests].iter().map(|t| t.nodes.len()).collect();
    };
    let order = &mut scratch.order;
    // Trees that grew one after the other; stable, so that a tree keeps its order.
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    // A size to try is cut like any other.
    let kept = if let Some(n) = probe {
        n.min(order.len())
    } else {
        let scores: Vec<f32> = order.iter().map(|o| o.0).collect();
        cost.best_prefix(requests, &scores)
    };
    let mut keep = vec![1; requests];
    for &(_, b) in &order[..kept] {
        keep[b as usize] += 1;
    }
    keep
}

/// Fills the trees. Where the total budget binds they grow together, else one after the other: the
/// same trees, and the memory of one request stays near.
fn grow_all(
    requests: &mut [&mut Request],
    trees: &mut [Growing],
    learned: (&Mixture, &[u8]),
    limits: Limits,
    ordered: bool,
    scratch: &mut Scratch,
) -> Result<()> {
    let batch = requests.len();
    let most = trees[..batch].iter().fold(0usize, |sum, t| sum.saturating_add(t.most));
    let together = most > limits.max_total;
    let step = if together { batch } else { 1 };
    for first in (0..batch).step_by(step.max(1)) {
        let room = if together { limits.max_total - batch } else { usize::MAX };
        let run = Run { learned, limits, room, ordered };
        scratch.queue.clear();
        for b in first..first + step {
            let (r, tree) = (&mut requests[b], &mut trees[b]);
            let last = tree.nodes[0].token;
            if tree.most > 1 && limits.max_depth > 0 && room > 0 {
                r.sources.iter_mut().for_each(|s| s.root(last));
                expand(r, tree, (b, 0), learned, scratch)?;
            } else {
                r.sources.iter_mut().for_each(|s| s.idle(last));
            }
        }
        run.pop_all(requests, trees, scratch)?;
    }
    Ok(())
}

/// Trees that grow in one queue.
struct Run<'a> {
    learned: (&'a Mixture, &'a [u8]),
    limits: Limits,
    /// Nodes that may be added.
    room: usize,
    /// Whether the order of the nodes matters.
    ordered: bool,
}

impl Run<'_> {
    fn pop_all(
        self,
        requests: &mut [&mut Request],
        trees: &mut [Growing],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let Self { learned, limits, mut room, .. } = self;
        let exact = (limits.max_nodes - 1).min(room) <= EXACT;
        // Scores in the order of a tree never rise: a cut at a score is a prefix.
        let mut level = 1.0f32;
        while room > 0 {
            let Some(slot) = scratch.queue.pop() else { break };
            let b = slot.request as usize;
            let (request, tree) = (&mut *requests[b], &mut trees[b]);
            let node = tree.nodes.len();
            if node >= tree.most {
                continue;
            }
            if slot.said == EXPAND {
                if tree.best.admits(slot.score) {
                    expand(request, tree, (b, slot.parent as usize), learned, scratch)?;
                }
                continue;
            }
            let parent = tree.nodes[slot.parent as usize];
            let depth = parent.depth + 1;
            tree.nodes.push(Grown {
                token: slot.token,
                parent: slot.parent as i32,
                depth,
                score: slot.score,
                said: (slot.said, slot.pieces),
            });
            if self.ordered {
                level = level.min(slot.score);
                scratch.order.push((level, slot.request));
            }
            room -= 1;
            for source in &mut request.sources {
                source.node(slot.parent as usize, slot.token);
            }
            let at = slot.parent as usize;
            if !request.steering.goes_on(at, depth.into(), slot.score, parent.score) {
                tree.most = node + 1;
            } else if room > 0 && node + 1 < tree.most && usize::from(depth) < limits.max_depth {
                if exact {
                    expand(request, tree, (b, node), learned, scratch)?;
                } else {
                    let later = Slot { parent: node as u32, said: EXPAND, ..slot };
                    scratch.queue.push_later(slot.score * PATIENCE, later);
                }
            }
        }
        Ok(())
    }
}

/// Trees whose memory is kept between calls.
const KEPT_TREES: usize = 64;

/// Working memory of a call, kept between calls.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    trees: Vec<Growing>,
    queue: Queue,
    candidates: Candidates,
    estimates: Vec<f32>,
    rows: RowCache,
    siblings: Vec<u64>,
    /// Nodes by falling score, and their requests.
    order: Vec<(f32, u32)>,
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
    let Scratch { queue, candidates, estimates, rows, siblings, said, .. } = scratch;
    let Grown { score: above, depth, .. } = tree.nodes[node];
    let depth = usize::from(depth);
    let floor = tree.best.least / (above * MARGIN);
    candidates.clear(if request.steering.is_free() { floor } else { 0.0 });
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
    mixture.estimates(candidates, rows, estimates);
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
        tree.path(node).iter().for_each(|&n| law.observe(tree.nodes[n].token));
        for (estimate, &token) in estimates.iter_mut().zip(named) {
            if law.forbids(token) {
                *estimate = 0.0;
            }
        }
        forced = forced.filter(|&t| !law.forbids(t));
    }
    share(estimates, siblings);
    let forced = forced.filter(|t| !named.contains(t));
    let possible = estimates.iter().copied().filter(|e| *e > 0.0);
    let all = possible.chain(forced.map(|_| 1.0));
    if !request.steering.expands(node, depth, above, all) {
        // A stop ends the tree: what is left in the heap is less likely still.
        tree.most = tree.nodes.len();
        return Ok(());
    }
    let (request, parent) = (b as u32, node as u32);
    let mut push = |token, score: f32, evidence: &[Evidence]| {
        if tree.best.admits(score) {
            tree.best.count(score);
            let (start, pieces) = (said.len() as u32, evidence.len() as u32);
            queue.push(Slot { score, request, parent, token, said: start, pieces });
            said.extend_from_slice(evidence);
        }
    };
    for ((&token, &estimate), said) in named.iter().zip(estimates.iter()).zip(candidates.said()) {
        push(token, above * estimate, said.pieces());
    }
    if let Some(token) = forced {
        push(token, above, &[]);
    }
    Ok(())
}

/// Siblings exclude each other: where estimates add up to more than 1, the likelier ones leave the
/// others what remains of it. (Scaling all of them makes the best one, whose estimate is the surest,
/// look worse than it is.)
fn share(estimates: &mut [f32], order: &mut Vec<u64>) {
    if estimates.iter().sum::<f32>() <= 1.0 {
        return;
    }
    // Largest first, among equals the one named first: bits order as numbers of at least 0 do.
    let key = |(at, p): (usize, &f32)| u64::from(p.to_bits()) << 32 | u64::from(!(at as u32));
    order.clear();
    order.extend(estimates.iter().enumerate().map(key));
    order.sort_unstable_by(|a, b| b.cmp(a));
    let mut left = 1.0f32;
    for &key in order.iter() {
        let p = &mut estimates[!(key as u32) as usize];
        *p = p.min(left);
        left -= *p;
    }
}
