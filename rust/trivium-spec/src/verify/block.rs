//! Block verification of a chain.
//!
//! ```text
//! P_0 = 1,  P_i = min(1, P_{i-1} p(x_i) / q(x_i))
//! Z_i = Σ (P_i p(t | X^i) - q(t | X^i))+,  h_i = Z_i / (Z_i + 1 - P_i) for i < γ,  h_γ = P_γ
//! u_1..u_γ independent;  τ = the largest i with u_i < h_i, or 0
//! next token: p(. | X^γ) if τ = γ, else ∝ (P_τ p(. | X^τ) - q(. | X^τ))+
//! ```
//!
//! "Block Verification Accelerates Speculative Decoding". `E[τ] = Σ E_q[P_i]`, at least that of
//! token-level rejection and equal to it for γ = 1. The chain may end where its own prefix or rows
//! of `q` say so (a stop before the draw, or after including the token). No deviation; the tests'
//! noise is addressed as [`path`](super::path) explains. Since `Z_i <= P_i`, `h_i <= P_i`: the test
//! is made as `P_i` and then `h_i / P_i`, with a number each, and `Z_i` is summed only where the
//! first passes and `P_i < 1`. One pass over each row for its sum, at most one more for `Z_i`, one
//! more over row τ. What would break it: stopping at the first failed test, an uncapped final
//! ratio ("Hierarchical Speculative Decoding" as released), a residual without `P_τ`.

use super::Walk;
use super::fault::{Faults, Mutation};
use super::path::PathTests;
use super::row::{self, Laws, Row};
use super::walk::{Tree, Work, no_mass};
use trivium_core::error::Result;
use trivium_core::{Chance, Purpose, TokenId};

pub(crate) fn verify<F: Faults>(
    tree: &Tree<'_>,
    laws: &mut dyn Laws,
    chance: &mut dyn Chance,
    work: &mut Work,
    faults: &F,
) -> Result<Walk> {
    let chain = &tree.tokens[1..];
    let len = chain.len();
    let mut walk = Walk::default();
    let logs = &mut work.path.logs;
    logs.clear();
    let row_of = |i: usize| {
        if faults.has(Mutation::ParentRow) { i.saturating_sub(1) } else { i }
    };
    let (mut tau, mut kept) = (0, 1.0);
    let (mut weight, mut uncapped) = (1.0, 1.0);
    let mut tests = PathTests::new(tree.start, faults);
    for i in 0..len {
        let (p, q) = laws.both(row_of(i), &chain[..i])?;
        if i > 0 {
            let keep = tests.keep(chance, weight, || row::excess(weight, p, q))
                || (i == 1 && faults.has(Mutation::SkipFirstTest));
            if keep {
                (tau, kept) = (i, weight);
            } else if faults.has(Mutation::FirstFailureStops) {
                break;
            }
        }
        let x = chain[i];
        let (px, qx) = (p.at(x), q.at(x));
        if qx <= 0.0 {
            return Err(no_mass(i + 1, x));
        }
        logs.push(p.log(x));
        weight = tests.weight(weight, px, qx);
        uncapped *= px / qx;
        // A forbidden token: nothing from here on can be kept, and its rows may not exist.
        if weight <= 0.0 {
            break;
        }
    }
    if logs.len() == len && len > 0 && weight > 0.0 {
        let last = if faults.has(Mutation::Uncapped) { uncapped } else { weight };
        if tests.accept(chance, last, 1.0) {
            (tau, kept) = (len, weight);
        }
    }
    let factor = tests.factor(kept);
    walk.nodes.extend(1..=tau);
    walk.tokens.extend_from_slice(&chain[..tau]);
    walk.logprobs.extend_from_slice(&logs[..tau]);
    let index = tree.start + tau as u32;
    if tau == len {
        if tree.bonus {
            push(&mut walk, laws.target(row_of(tau), &chain[..tau], index, chance)?);
        }
        return Ok(walk);
    }
    let (p, q) = laws.both(row_of(tau), &chain[..tau])?;
    let drawn = draw(factor, p, q, index, chance, work, faults);
    let last = match drawn {
        Some(t) => (t, p.log(t)),
        None => laws.target(row_of(tau), &chain[..tau], index, chance)?,
    };
    push(&mut walk, last);
    Ok(walk)
}

fn push(walk: &mut Walk, (token, log_prob): (TokenId, f32)) {
    walk.tokens.push(token);
    walk.logprobs.push(log_prob);
}

/// A draw from `(a p - q)+`; `None` where it has no mass (p = q up to rounding).
fn draw<F: Faults>(
    a: f64,
    p: Row<'_>,
    q: Row<'_>,
    index: u32,
    chance: &mut dyn Chance,
    work: &mut Work,
    faults: &F,
) -> Option<TokenId> {
    let mass = if faults.has(Mutation::SwapResidual) {
        row::residual(&mut work.r, a, q, p)
    } else if faults.has(Mutation::DraftResidual) {
        row::widen(&mut work.r, q)
    } else if faults.has(Mutation::TargetResidual) {
        row::widen(&mut work.r, p)
    } else {
        return row::draw_excess(a, p, q, index, chance, &mut work.r);
    };
    (mass > 0.0).then(|| chance.categorical(index, Purpose::Residual, &work.r) as TokenId)
}
