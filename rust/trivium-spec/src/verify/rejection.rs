//! Rejection sampling of one drafted token.
//!
//! ```text
//! accept x with probability min(1, p(x) / q(x)); otherwise draw y ~ (p - q)+ / Σ (p - q)+
//! ```
//!
//! "Fast Inference from Transformers via Speculative Decoding" and "Accelerating Large Language
//! Model Decoding with Speculative Sampling". The accepted and the residual mass of every token
//! add up to `min(p, q) + (p - q)+ = p`; the acceptance is `Σ min(p, q)`, the most a single draw
//! allows. No deviation from the papers. What would break it: a `q` that is not the law the token
//! was drawn from (argmax drafts, truncation after the fact), one uniform for the test and the
//! residual draw, a residual from the unprocessed target.

use super::fault::Faults;
use super::walk::{Choice, Site, Tests, Work};

pub(crate) fn decide<F: Faults>(
    site: &Site<'_>,
    tests: &mut Tests<'_, F>,
    work: &mut Work,
) -> Choice {
    let Some(&x) = site.draws.first() else { return Choice::Target };
    let r = site.p.at(x);
    if tests.accept(r, site.q.at(x)) {
        return Choice::Token(x);
    }
    tests.residual_draw(site, work)
}
