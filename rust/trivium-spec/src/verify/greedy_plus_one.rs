//! The most likely tokens of `q` and one draw from the rest.
//!
//! ```text
//! T = the first n - 1 siblings, x = the last, q' = norm(q off T)
//! accept x with min(1, p(x) / q'(x)); else y ~ norm((p - q')+); walk if y is in T
//! acceptance: p(T) + Σ over tokens off T of min(p, q')
//! ```
//!
//! "Towards Optimal Multi-draft Speculative Decoding". `T` has no randomness, so this is
//! single-draft rejection with `q'` and a membership check; it reaches the optimum of its draft
//! law. Any deterministic `T` is legal. What would break it: testing `x` against the unrestricted
//! `q`.

use super::fault::{Faults, Mutation};
use super::row;
use super::walk::{Choice, Site, Tests, Work};

pub(crate) fn decide<F: Faults>(
    site: &Site<'_>,
    tests: &mut Tests<'_, F>,
    work: &mut Work,
) -> Choice {
    let Some((&x, top)) = site.draws.split_last() else { return Choice::Target };
    row::widen(&mut work.s, site.q);
    if !tests.faults.has(Mutation::PlainDraft) {
        for &t in top {
            work.s[t as usize] = 0.0;
        }
    }
    let left = row::sum64(&work.s);
    let (r, s) = (site.p.at(x), work.s[x as usize] / left);
    // A last sibling without mass repeats a top one: nothing was drawn here.
    if left <= 0.0 || s <= 0.0 {
        return Choice::Target;
    }
    if tests.accept(r, s) {
        return Choice::Token(x);
    }
    let mass = if tests.faults.has(Mutation::SwapResidual) {
        let law: Vec<f64> = work.s.iter().map(|s| s / left).collect();
        row::widen(&mut work.r, site.p);
        let p = std::mem::replace(&mut work.r, law);
        row::subtract(&mut work.r, 1.0, &p, 1.0)
    } else {
        row::widen(&mut work.r, site.p);
        row::subtract(&mut work.r, 1.0, &work.s, 1.0 / left)
    };
    tests.finish(site, mass, work)
}
