//! Recursive rejection of siblings drawn without replacement.
//!
//! ```text
//! r = p, s = q
//! for each distinct sibling x in draw order:
//!     accept with min(1, r(x) / s(x)); else r = norm((r - s)+), s(x) = 0, s = norm(s)
//! at last y ~ r
//! ```
//!
//! "Recursive Speculative Decoding: Accelerating LLM Inference via Sampling Without Replacement",
//! also the rule of "Sequoia: Scalable, Robust, and Hardware-aware Speculative Decoding" and of
//! DySpec. `s` is the law of the next sibling given the ones before, so every round is
//! single-draft rejection. Independent draws may be merged at their first appearance: the order of
//! first appearances is a draw without replacement.
//!
//! When the draft support is exhausted the rest of the tree is unused ([`DraftLaw::
//! WithoutReplacementQ`](crate::tree::DraftLaw)); Sequoia goes on uniformly over the unseen
//! tokens, and then `s` is that uniform law. Deviation from Sequoia's release: a residual without
//! mass accepts instead of ending the text. What would break it: siblings dropped or reordered
//! after they were drawn, `s` that keeps rejected tokens.

use super::fault::{Faults, Mutation};
use super::row;
use super::walk::{Choice, Site, Tests, Work};
use trivium_core::TokenId;

/// Rejection of the draws of a site; `uniform`: what follows an exhausted support.
pub(crate) fn decide<F: Faults>(
    site: &Site<'_>,
    uniform: bool,
    tests: &mut Tests<'_, F>,
    work: &mut Work,
) -> Choice {
    let mut mass: Option<f64> = None;
    // Sum of the draft law in `work.s`; none yet: it is q itself.
    let mut left: Option<f64> = None;
    for (i, &x) in site.draws.iter().enumerate() {
        if site.draws[..i].contains(&x) {
            continue;
        }
        let (r, s) = match (mass, left) {
            (Some(m), Some(l)) => {
                let keep = (
                    tests.faults.has(Mutation::KeepMass),
                    tests.faults.has(Mutation::KeepDraftMass),
                );
                (
                    work.r[x as usize] / if keep.0 { 1.0 } else { m },
                    work.s[x as usize] / if keep.1 { 1.0 } else { l },
                )
            }
            _ => (site.p.at(x), site.q.at(x)),
        };
        if s <= 0.0 {
            // Drawn from an exhausted support: not this law's doing.
            break;
        }
        if tests.accept(r, s) {
            return Choice::Token(x);
        }
        let m = match (mass, left) {
            (Some(m), Some(l)) => row::subtract(&mut work.r, 1.0 / m, &work.s, 1.0 / l),
            _ => tests.residual(site, work),
        };
        if m <= 0.0 {
            return if r > 0.0 { Choice::Token(x) } else { Choice::Target };
        }
        mass = Some(m);
        if site.draws[i + 1..].iter().all(|y| site.draws[..=i].contains(y)) {
            break;
        }
        if left.is_none() {
            row::widen(&mut work.s, site.q);
        }
        if !tests.faults.has(Mutation::KeepRemoved) {
            work.s[x as usize] = 0.0;
        }
        let mut rest = row::sum64(&work.s);
        if rest <= 0.0 && uniform {
            rest = unseen(&mut work.s, &site.draws[..=i]);
        }
        if rest <= 0.0 {
            break;
        }
        left = Some(rest);
    }
    match mass {
        None => Choice::Target,
        Some(m) => tests.finish(site, m, work),
    }
}

/// Weight one for every token not among `seen`; their number.
fn unseen(s: &mut [f64], seen: &[TokenId]) -> f64 {
    s.fill(1.0);
    for &t in seen {
        s[t as usize] = 0.0;
    }
    row::sum64(s)
}
