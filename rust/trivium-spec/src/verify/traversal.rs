//! Traversal verification: from the leaves up, whole paths at a time.
//!
//! ```text
//! w(root) = 1, w(child) = min(1, w(parent) p(c) / q(c))
//! loop: v = leftmost remaining leaf; with probability w(v) (root: 1) emit the path to v and y ~ p_v
//!       else delete v; u = its parent, c its token
//!            z = (w(u) p_u - q_u)+, S = Σ z;  w(u) = S / (S + 1 - w(u)), p_u = norm(z)
//!            q_u(c) = 0, q_u = norm(q_u)
//! ```
//!
//! "Traversal Verification for Speculative Tree Decoding". Siblings in draw order, without
//! replacement, or independent with repeated draws merged at their first appearance. On a single
//! path it is block verification. If `S = 0`: `p = q` up to rounding, the law stays and the weight
//! becomes 0 unless it was 1. Deviation: a node of weight 0 is deleted with everything below it at
//! once. Only laws on the current path are held: two rows of f64 a level that lost a child. What
//! would break it: another order of siblings, a deleted token that keeps its draft mass.

use super::Walk;
use super::fault::{Faults, Mutation};
use super::path::PathTests;
use super::row::{self, Laws};
use super::walk::{Tree, Work, no_mass};
use trivium_core::error::Result;
use trivium_core::{Chance, Purpose, TokenId};

/// A node on the current path.
struct Frame {
    /// Nodes at this place (repeated draws are one place).
    group: Vec<usize>,
    /// Distinct tokens of the children, in order of first appearance.
    tokens: Vec<TokenId>,
    /// Children before this were deleted.
    cursor: usize,
    weight: f64,
    /// Log-probability of the token that leads here.
    log_prob: f32,
    /// The target law after deletions, unnormalised, and its sum.
    p: Option<(Vec<f64>, f64)>,
    /// The law of the next sibling, unnormalised, and its sum.
    q: Option<(Vec<f64>, f64)>,
}

impl Frame {
    fn new(tree: &Tree<'_>, group: Vec<usize>, weight: f64, log_prob: f32) -> Self {
        let mut tokens = Vec::new();
        for node in group[0] + 1..tree.tokens.len() {
            let token = tree.tokens[node];
            if group.contains(&(tree.parents[node] as usize)) && !tokens.contains(&token) {
                tokens.push(token);
            }
        }
        Self { group, tokens, cursor: 0, weight, log_prob, p: None, q: None }
    }

    /// The nodes that carry `token` below this place.
    fn below(&self, tree: &Tree<'_>, token: TokenId) -> Vec<usize> {
        (self.group[0] + 1..tree.tokens.len())
            .filter(|&n| {
                tree.tokens[n] == token && self.group.contains(&(tree.parents[n] as usize))
            })
            .collect()
    }

    fn release(self, pool: &mut Vec<Vec<f64>>) {
        pool.extend(self.p.into_iter().chain(self.q).map(|x| x.0));
    }
}

pub(crate) fn verify<F: Faults>(
    tree: &Tree<'_>,
    laws: &mut dyn Laws,
    chance: &mut dyn Chance,
    work: &mut Work,
    faults: &F,
) -> Result<Walk> {
    let mut path: Vec<TokenId> = Vec::new();
    let mut frames = vec![Frame::new(tree, vec![0], 1.0, 0.0)];
    if faults.has(Mutation::ReverseOrder) {
        frames[0].tokens.reverse();
    }
    let row_of = |frames: &[Frame]| {
        let at = frames.len() - 1;
        frames[if faults.has(Mutation::ParentRow) { at.saturating_sub(1) } else { at }].group[0]
    };
    let mut first = true;
    let mut tests = PathTests::new(tree.start, faults);
    loop {
        let depth = frames.len() - 1;
        let row = row_of(&frames);
        let top = &mut frames[depth];
        if top.weight > 0.0
            && let Some(&token) = top.tokens.get(top.cursor)
        {
            let (p, q) = laws.both(row, &path)?;
            if q.at(token) <= 0.0 {
                return Err(no_mass(top.below(tree, token)[0], token));
            }
            let pc = top.p.as_ref().map_or(p.at(token), |(r, m)| r[token as usize] / m);
            let qc = top.q.as_ref().map_or(q.at(token), |(s, l)| s[token as usize] / l);
            let weight = tests.weight(top.weight, pc, qc);
            let log_prob = p.log(token);
            let group = top.below(tree, token);
            path.push(token);
            frames.push(Frame::new(tree, group, weight, log_prob));
            if faults.has(Mutation::ReverseOrder)
                && let Some(f) = frames.last_mut()
            {
                f.tokens.reverse();
            }
            continue;
        }
        let free = std::mem::take(&mut first) && faults.has(Mutation::SkipFirstTest);
        if depth == 0 || free || tests.accept(chance, top.weight, 1.0) {
            break;
        }
        // Delete the leaf and settle the books of its parent.
        let Some(leaf) = frames.pop() else { break };
        leaf.release(&mut work.path.pool);
        path.pop();
        let row = row_of(&frames);
        let parent = &mut frames[depth - 1];
        let (p, q) = laws.both(row, &path)?;
        if parent.q.is_none() {
            let mut s = work.path.pool.pop().unwrap_or_default();
            let l = row::widen(&mut s, q);
            parent.q = Some((s, l));
        }
        let Some((s, l)) = &mut parent.q else { continue };
        let factor = tests.factor(parent.weight);
        let mut r = work.path.pool.pop().unwrap_or_default();
        match &parent.p {
            None => {
                row::widen(&mut r, p);
            }
            Some((old, m)) => {
                r.clear();
                r.extend(old.iter().map(|x| x / m));
            }
        }
        let excess = row::subtract(&mut r, factor, s, 1.0 / *l);
        if !faults.has(Mutation::StaleWeight) {
            parent.weight = if excess > 0.0 {
                let w = if faults.has(Mutation::ForgetDeficit) { 0.0 } else { parent.weight };
                excess / (excess + 1.0 - w)
            } else if parent.weight < 1.0 {
                0.0
            } else {
                1.0
            };
        }
        if excess > 0.0 && !faults.has(Mutation::StaleLaw) {
            if let Some((old, _)) = parent.p.replace((r, excess)) {
                work.path.pool.push(old);
            }
        } else {
            work.path.pool.push(r);
        }
        let gone = parent.tokens[parent.cursor];
        if !faults.has(Mutation::KeepRemoved) {
            s[gone as usize] = 0.0;
        }
        *l = row::sum64(s);
        parent.cursor += 1;
        if *l <= 0.0 {
            // The draft support is exhausted; there can be no further sibling.
            parent.cursor = parent.tokens.len();
        }
    }
    let row = row_of(&frames);
    let depth = frames.len() - 1;
    let mut walk = Walk { nodes: Vec::new(), tokens: path, logprobs: Vec::new() };
    walk.nodes.extend(frames[1..].iter().map(|f| f.group[0]));
    walk.logprobs.extend(frames[1..].iter().map(|f| f.log_prob));
    let top = &frames[depth];
    let index = tree.start + depth as u32;
    let last = match &top.p {
        Some((r, m)) if *m > 0.0 && !faults.has(Mutation::TargetResidual) => {
            let t = chance.categorical(index, Purpose::Residual, r) as TokenId;
            Some((t, laws.p(row, &walk.tokens)?.log(t)))
        }
        None if top.tokens.is_empty() && !tree.bonus => None,
        _ => Some(laws.target(row, &walk.tokens, index, chance)?),
    };
    for frame in frames {
        frame.release(&mut work.path.pool);
    }
    if let Some((t, lp)) = last {
        walk.tokens.push(t);
        walk.logprobs.push(lp);
    }
    Ok(walk)
}
