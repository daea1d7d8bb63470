//! Multi-round rejection of independent siblings.
//!
//! ```text
//! r = p
//! for each draw x, repetitions included: accept with min(1, r(x) / q(x)); else r = norm((r - q)+)
//! at last y ~ r
//! ```
//!
//! "SpecInfer: Accelerating Large Language Model Serving with Tree-based Speculative Inference and
//! Verification". Each round is single-draft rejection against the residual of the one before.
//! Deviation: `y` may be another child, and then the walk goes on (the released code stops). A
//! repeated draw is tested again, fails (its residual is 0) and still takes its share of `r`;
//! dropping it would test the rest against a law they do not have.

use super::fault::{Faults, Mutation};
use super::row;
use super::walk::{Choice, Site, Tests, Work};

pub(crate) fn decide<F: Faults>(
    site: &Site<'_>,
    tests: &mut Tests<'_, F>,
    work: &mut Work,
) -> Choice {
    // Sum of the residual in `work.r`; none yet: the residual is p itself.
    let mut mass: Option<f64> = None;
    for (i, &x) in site.draws.iter().enumerate() {
        if tests.faults.has(Mutation::DropDuplicate) && site.draws[..i].contains(&x) {
            continue;
        }
        let kept = tests.faults.has(Mutation::KeepMass);
        let r = match mass {
            None => site.p.at(x),
            Some(m) => work.r[x as usize] / if kept { 1.0 } else { m },
        };
        if tests.accept(r, site.q.at(x)) {
            return Choice::Token(x);
        }
        let m = match mass {
            None => tests.residual(site, work),
            Some(m) => row::subtract_row(&mut work.r, if kept { 1.0 } else { 1.0 / m }, site.q),
        };
        if m <= 0.0 {
            // r = q up to rounding: the rejection was rounding too.
            return if r > 0.0 { Choice::Token(x) } else { Choice::Target };
        }
        mass = Some(m);
    }
    match mass {
        None => Choice::Target,
        Some(m) => tests.finish(site, m, work),
    }
}
