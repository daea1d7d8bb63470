//! k-SEQ: sequential selection among independent siblings with one division factor.
//!
//! ```text
//! β(ρ) = Σ min(q, p / ρ),  ρ* in [1, k]: 1 - (1 - β(ρ))^k = ρ β(ρ)
//! for each draw x: accept with min(1, p(x) / (ρ* q(x)))
//! at last y ~ p - min(q, p / ρ*) (1 - (1 - β)^k) / β
//! ```
//!
//! "SpecTr: Fast Speculative Decoding via Optimal Transport". Acceptance `1 - (1 - β)^k` is at
//! least `1 - 1/e` of the optimum. `k` is the number of drafts that are still consistent with the
//! accepted prefix. Bisection takes the upper end: any `ρ` from `ρ*` up is exact, a smaller one
//! has a negative residual. Deviation: `y` may be another child and the walk goes on. What would
//! break it: dropping repeated draws, or a `k` that counts them once.

use super::fault::{Faults, Mutation};
use super::row::Row;
use super::walk::{Choice, Site, Tests, Work};

/// `Σ min(q, p / ρ)`.
fn beta(p: Row<'_>, q: Row<'_>, rho: f64) -> f64 {
    // Σ min(q, p / ρ) = 1 - Σ (q - p / ρ)+, but the sum itself loses no digits near 0.
    let (ps, qs) = (p.scale() / rho, q.scale());
    p.weights()
        .iter()
        .zip(q.weights())
        .map(|(&a, &b)| (f64::from(a) * ps).min(f64::from(b) * qs))
        .sum()
}

/// The division factor `ρ*` and `β(ρ*)`: about 60 passes over the rows, for `k > 1`.
pub fn k_seq_factor(p: Row<'_>, q: Row<'_>, k: usize) -> (f64, f64) {
    let k = k.max(1) as f64;
    let gap = |rho: f64| {
        let b = beta(p, q, rho).min(1.0);
        -(k * (-b).ln_1p()).exp_m1() - rho * b
    };
    let (mut low, mut high) = (1.0, k);
    while high - low > 4.0 * f64::EPSILON * high {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        if gap(middle) > 0.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
    (high, beta(p, q, high).min(1.0))
}

pub(crate) fn decide<F: Faults>(
    site: &Site<'_>,
    tests: &mut Tests<'_, F>,
    work: &mut Work,
) -> Choice {
    let less = usize::from(tests.faults.has(Mutation::CountOneLess) && site.draws.len() > 1);
    let k = site.draws.len() - less;
    let (mut rho, mut b) = k_seq_factor(site.p, site.q, k);
    if tests.faults.has(Mutation::UnitRho) {
        (rho, b) = (1.0, beta(site.p, site.q, 1.0));
    }
    for (i, &x) in site.draws.iter().enumerate() {
        if tests.faults.has(Mutation::DropDuplicate) && site.draws[..i].contains(&x) {
            continue;
        }
        if tests.accept(site.p.at(x), rho * site.q.at(x)) {
            return Choice::Token(x);
        }
    }
    // (1 - (1 - β)^k) / β, which tends to k.
    let k = k as f64;
    let factor = if b > 0.0 { -(k * (-b.min(1.0)).ln_1p()).exp_m1() / b } else { k };
    let (ps, qs) = (site.p.scale(), site.q.scale());
    work.r.clear();
    let mut mass = 0.0;
    let mut largest = 0f64;
    for (&a, &c) in site.p.weights().iter().zip(site.q.weights()) {
        let p = f64::from(a) * ps;
        let r = (p - (f64::from(c) * qs).min(p / rho) * factor).max(0.0);
        // Where p / ρ is the smaller, ρ* makes p - p factor / ρ vanish up to rounding.
        let r = if r < 8.0 * f64::EPSILON * p { 0.0 } else { r };
        work.r.push(r);
        mass += r;
        largest = largest.max(r);
    }
    if tests.faults.has(Mutation::SwapResidual) {
        mass = tests.residual(site, work);
    }
    tests.finish(site, mass, work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_the_golden_ones() {
        let p = [5.0, 3.0, 2.0];
        for (q, rho, b) in [
            ([2.0, 3.0, 5.0], 1.456_776_436, 0.543_223_564),
            ([8.0, 7.0, 5.0], 1.174_165_739, 0.825_834_261),
        ] {
            let (r, got) = k_seq_factor(Row::of(&p), Row::of(&q), 2);
            assert!((r - rho).abs() < 5e-10 && (got - b).abs() < 5e-10, "{r} {got}");
        }
        let (r, b) = k_seq_factor(Row::of(&p), Row::of(&p), 1);
        assert_eq!((r, b), (1.0, 1.0));
        let (_, b) = k_seq_factor(Row::of(&[1.0, 0.0]), Row::of(&[0.0, 1.0]), 3);
        assert_eq!(b, 0.0);
    }
}
