//! Greedy multi-path block verification.
//!
//! K independent paths; at each node the walk takes the drafted child with the largest `p / q`. The
//! path it ends with has a skewed law q̃, known in closed form, and block verification runs on it.
//!
//! ```text
//! tokens in ascending p / q (ties: lower id first); F(t) = Σ q before t
//! A = probability, under q, of a path below the walked one in that order; J = of the walked one
//! y = J F(t), z = J q(t)
//! q̃(t) = [(A + y + z)^K - (A + y)^K] / [(A + J)^K - A^K]
//! then A += J F(c), J *= q(c)
//! ```
//!
//! "Greedy Multi-Path Block Verification for Faster Decoding in Speculative Sampling". Deviation:
//! differences of powers are taken as `z Σ (A + y + z)^i (A + y)^{K-1-i}`, and `A`, `J` are
//! rescaled by their sum, so no digit cancels at any K or depth. Paths must be of one length and
//! unmerged: K is part of the law. What would break it: choosing the path by anything but the
//! ratio, or verifying it against `q` as if it had not been selected.

use super::Walk;
use super::fault::{Faults, Mutation};
use super::path::PathTests;
use super::row::{self, Laws, Row};
use super::walk::{Tree, Work, no_mass};
use trivium_core::error::{Error, Result};
use trivium_core::{Chance, Purpose, TokenId};

/// `(b + z)^k - b^k` over `z`.
fn quotient(b: f64, z: f64, k: u32) -> f64 {
    (0..k).map(|i| (b + z).powi(i as i32) * b.powi((k - 1 - i) as i32)).sum()
}

/// Tokens by ascending `p / q`, ties by id; tokens that `q` never draws are left out.
fn ascending(p: Row<'_>, q: Row<'_>, order: &mut Vec<u32>) {
    order.clear();
    order.extend((0..q.weights().len() as u32).filter(|&t| q.at(t) > 0.0));
    order.sort_unstable_by(|&a, &b| {
        (p.at(a) / q.at(a)).total_cmp(&(p.at(b) / q.at(b))).then(a.cmp(&b))
    });
}

/// Fills `out` with q̃, and `place` of each token in the order; returns nothing else.
fn skewed(q: Row<'_>, order: &[u32], (a, j): (f64, f64), k: u32, out: &mut Vec<f64>) {
    out.clear();
    out.resize(q.weights().len(), 0.0);
    let den = quotient(a, j, k);
    let mut below = 0.0;
    for &t in order {
        let (y, q) = (j * below, q.at(t));
        out[t as usize] = q * quotient(a + y, j * q, k) / den;
        below += q;
    }
}

/// The paths of a bundle as node lists, all of one length; `None` if the tree is none.
pub(crate) fn paths(parents: &[i32]) -> Option<Vec<Vec<usize>>> {
    let mut child = vec![0usize; parents.len()];
    let mut out: Vec<Vec<usize>> = Vec::new();
    for (node, &parent) in parents.iter().enumerate().skip(1) {
        if parent == 0 {
            out.push(vec![node]);
        } else if std::mem::replace(&mut child[parent as usize], node) != 0 {
            return None;
        }
    }
    for path in &mut out {
        while let Some(&last) = path.last()
            && child[last] != 0
        {
            path.push(child[last]);
        }
    }
    let even = out.windows(2).all(|w| w[0].len() == w[1].len());
    even.then_some(out)
}

pub(crate) fn verify<F: Faults>(
    tree: &Tree<'_>,
    laws: &mut dyn Laws,
    chance: &mut dyn Chance,
    work: &mut Work,
    faults: &F,
) -> Result<Walk> {
    let Some(mut paths) = paths(tree.parents) else {
        return Err(Error::unsupported(
            "verifier \"gbv\"",
            format!("for drafts of law {:?} whose paths are merged or uneven", tree.law.name()),
            "pass each path as its own chain from node 0, all of one length; or use traversal",
        ));
    };
    let mut walk = Walk::default();
    let count = paths.len() as u32;
    let k = if faults.has(Mutation::CountOneLess) { count.max(2) - 1 } else { count };
    let len = paths.first().map_or(0, Vec::len);
    let (mut a, mut j) = (0.0, 1.0);
    let (mut node, mut weight) = (0, 1.0);
    let (mut tau, mut mass) = (0, 0.0);
    let logs = &mut work.path.logs;
    logs.clear();
    let mut path: Vec<TokenId> = Vec::with_capacity(len);
    let mut nodes = Vec::with_capacity(len);
    let mut whole = true;
    let mut before = 0;
    let mut tests = PathTests::new(tree.start, faults);
    for i in 0..len {
        let wrong = if faults.has(Mutation::ParentRow) {
            laws.p(before, &path)?.weights().to_vec()
        } else {
            Vec::new()
        };
        let (mut p, q) = laws.both(node, &path)?;
        if !wrong.is_empty() {
            p = Row::of(&wrong);
        }
        ascending(p, q, &mut work.path.order);
        let order = &work.path.order;
        if faults.has(Mutation::PlainDraft) {
            row::widen(&mut work.s, q);
        } else {
            skewed(q, order, (a, j), k, &mut work.s);
        }
        if i == 0 || tests.keep(chance, weight, || row::excess64(weight, p, &work.s)) {
            let factor = tests.factor(weight);
            tau = i;
            row::widen(&mut work.r, p);
            mass = row::subtract(&mut work.r, factor, &work.s, 1.0);
            if faults.has(Mutation::TargetResidual) {
                mass = row::widen(&mut work.r, p);
            }
            std::mem::swap(&mut work.r, &mut work.path.kept);
        }
        // The drafted child that comes last in the order.
        let mut chosen: Option<(TokenId, f64)> = None;
        let mut below = 0.0;
        for &t in order {
            if paths.iter().any(|path| tree.tokens[path[i]] == t) {
                chosen = Some((t, below));
            }
            below += q.at(t);
        }
        if let Some(bad) = paths.iter().find(|path| q.at(tree.tokens[path[i]]) <= 0.0) {
            return Err(no_mass(bad[i], tree.tokens[bad[i]]));
        }
        let Some((c, below)) = chosen else { break };
        logs.push(p.log(c));
        weight = tests.weight(weight, p.at(c), work.s[c as usize]);
        (a, j) = (a + j * below, j * q.at(c));
        let scale = a + j;
        (a, j) = (a / scale, j / scale);
        paths.retain(|path| tree.tokens[path[i]] == c);
        path.push(c);
        (before, node) = (node, paths[0][i]);
        nodes.push(node);
        if weight <= 0.0 {
            whole = false;
            break;
        }
    }
    let all = len > 0 && whole && path.len() == len && tests.accept(chance, weight, 1.0);
    if all {
        tau = len;
    }
    walk.nodes.extend_from_slice(&nodes[..tau]);
    walk.tokens.extend_from_slice(&path[..tau]);
    walk.logprobs.extend_from_slice(&logs[..tau]);
    let index = tree.start + tau as u32;
    let row = if tau == 0 { 0 } else { nodes[tau - 1] };
    if tau == len && !tree.bonus {
        return Ok(walk);
    }
    let (token, log_prob) = if tau == len || mass <= 0.0 {
        laws.target(row, &path[..tau], index, chance)?
    } else {
        let t = chance.categorical(index, Purpose::Residual, &work.path.kept) as TokenId;
        (t, laws.p(row, &path[..tau])?.log(t))
    };
    walk.tokens.push(token);
    walk.logprobs.push(log_prob);
    Ok(walk)
}
