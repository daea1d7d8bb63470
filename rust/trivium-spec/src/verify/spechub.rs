//! SpecHub: two siblings over a sparse set of pairs, by a closed-form transport.
//!
//! ```text
//! a = argmax q; a draw i ~ q gives the pair (i, a), or (a, j) with j ~ norm(q off a) if i = a
//! D(i, a) = q(i),  D(a, i) = q(a) q(i) / (1 - q(a))
//! 1. i from (i, a): m1 = min(p(i), D(i, a))         2. i from (a, i): m2 = min(p(i) - m1, D(a, i))
//! 3. a from what (a, ·) left over                    4. a from what (·, a) left over
//! the rest draws y ~ p minus the masses moved
//! ```
//!
//! "SpecHub: Provable Acceleration to Multi-Draft Speculative Decoding". Amounts are conditional
//! acceptance probabilities after division by `D`; the total reaches the optimum of this draft
//! law. No deviation. One O(V) pass a node.

use super::fault::{Faults, Mutation};
use super::row::Row;
use super::walk::{Choice, Site, Tests, Work};
use trivium_core::TokenId;

/// The token that stands in every pair: the lowest arg-max.
fn hub(q: Row<'_>) -> TokenId {
    let mut best = 0;
    for (t, w) in q.weights().iter().enumerate() {
        if *w > q.weights()[best] {
            best = t;
        }
    }
    best as TokenId
}

pub(crate) fn decide<F: Faults>(
    site: &Site<'_>,
    tests: &mut Tests<'_, F>,
    work: &mut Work,
) -> Choice {
    let Some(&first) = site.draws.first() else { return Choice::Target };
    let a = hub(site.q);
    let qa = site.q.at(a);
    // Mass of q off the hub, summed rather than subtracted.
    let mut off = 0.0;
    for (t, &w) in site.q.weights().iter().enumerate() {
        if t != a as usize {
            off += f64::from(w) * site.q.scale();
        }
    }
    let lift = if off > 0.0 { qa / off } else { 0.0 };
    // Left-over mass of the pairs (a, ·) and (·, a); residual of every token.
    let (mut over_a, mut over_i, mut mass) = (0.0, 0.0, 0.0);
    work.r.clear();
    for t in 0..site.p.weights().len() {
        let token = t as TokenId;
        let p = site.p.at(token);
        if token == a {
            work.r.push(p);
            continue;
        }
        let (d1, d2) = (site.q.at(token), lift * site.q.at(token));
        let m1 = p.min(d1);
        let m2 = (p - m1).min(d2);
        over_i += d1 - m1;
        over_a += d2 - m2;
        work.r.push(p - m1 - m2);
    }
    if off <= 0.0 {
        // The only draft is (a): all of its mass is left over.
        over_a = 1.0;
    }
    let pa = work.r[a as usize];
    let third = pa.min(over_a);
    let fourth = if tests.faults.has(Mutation::DoubleTop) { pa } else { pa - third }.min(over_i);
    work.r[a as usize] = pa - third - fourth;
    mass += work.r.iter().sum::<f64>();
    let hub_first = first == a;
    let other = if hub_first { site.draws.get(1).copied() } else { Some(first) };
    if let Some(i) = other {
        let (d1, d2) = (site.q.at(i), lift * site.q.at(i));
        let m1 = site.p.at(i).min(d1);
        let (m, d) = if hub_first { ((site.p.at(i) - m1).min(d2), d2) } else { (m1, d1) };
        if d > 0.0 && tests.accept(m, d) {
            return Choice::Token(i);
        }
    }
    let (m, d) = if hub_first { (third, over_a) } else { (fourth, over_i) };
    if d > 0.0 && tests.accept(m, d) {
        return Choice::Token(a);
    }
    tests.finish(site, mass, work)
}
