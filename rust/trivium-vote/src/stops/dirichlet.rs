//! Adaptive-Consistency, Dirichlet criterion, exact: stop when the leader is the mode of the sampler
//! among all answers seen, with posterior probability at least `C`.
//!
//! Aggarwal et al., "Let's Sample Step by Step: Adaptive-Consistency for Efficient Reasoning and
//! Coding with LLMs" (EMNLP 2023), who estimate it by random draws. Exact here: independent
//! `Gamma(c_i + 1)` variables have the order of the Dirichlet coordinates, so
//!
//! ```text
//! P = int_0^inf f(x; c_1 + 1) prod_{i > 1} F(x; c_i + 1) dx,    F(x; m) = 1 - e^-x sum_{j < m} x^j / j!
//! ```
//!
//! by 96-point Gauss-Legendre quadrature over `m +- 12 sqrt m` and some more, `m = c_1 + 1`; error
//! below 1e-13. All `F` of a node come from one run over the terms `x^j / j!`, so the cost is
//! 96 times the largest count. `P` never exceeds the Beta posterior of the two best, which screens.

use crate::numeric::{gauss_legendre_96, ln_gamma};

/// Probability that the first of `counts` is the mode; a second answer with no ballot is added
/// where only one was seen. The counts may stand in any order: the largest is the leader.
pub fn confidence(counts: &[u32]) -> f64 {
    let mut sorted: Vec<u32> = counts.to_vec();
    sorted.sort_unstable_by(|x, y| y.cmp(x));
    let Some((&lead, rivals)) = sorted.split_first() else { return 0.0 };
    let rivals = if rivals.is_empty() { &[0][..] } else { rivals };
    // Equal rivals share a factor: (count, how many).
    let mut groups: Vec<(u32, i32)> = Vec::new();
    for &count in rivals.iter().rev() {
        match groups.last_mut() {
            Some((known, times)) if *known == count => *times += 1,
            _ => groups.push((count, 1)),
        }
    }
    let m = f64::from(lead) + 1.0;
    let low = (m - 12.0 * m.sqrt() - 12.0).max(0.0);
    let high = m + 12.0 * m.sqrt() + 30.0;
    let (half, middle) = (0.5 * (high - low), 0.5 * (high + low));
    let norm = ln_gamma(m);
    let mut sum = 0.0;
    for &(node, weight) in gauss_legendre_96() {
        let x = half * node + middle;
        let density = ((m - 1.0) * x.ln() - x - norm).exp();
        // Poisson terms e^-x x^j / j!: up to a count c they sum to 1 - F(x; c + 1).
        let (mut j, mut term, mut below, mut product) = (0u32, (-x).exp(), 0.0, 1.0);
        if term == 0.0 {
            // Far right of every count that matters unless the counts are in the hundreds.
            for &(count, times) in &groups {
                product *= upper(count, x).powi(times);
            }
        } else {
            for &(count, times) in &groups {
                while j <= count {
                    below += term;
                    j += 1;
                    term *= x / f64::from(j);
                }
                product *= (1.0f64 - below).max(0.0).powi(times);
            }
        }
        sum += weight * density * product;
    }
    (half * sum).clamp(0.0, 1.0)
}

/// `F(x; count + 1)` where `e^-x` is below the range of doubles.
fn upper(count: u32, x: f64) -> f64 {
    let mut below = 0.0;
    let mut j = f64::from(count);
    let mut log = j * x.ln() - x - ln_gamma(j + 1.0);
    for _ in 0..=count {
        below += log.exp();
        log += j.ln() - x.ln();
        j -= 1.0;
        if log < -745.0 {
            break;
        }
    }
    (1.0 - below).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stops::beta::posterior;

    #[test]
    fn probabilities_have_their_published_values() {
        for (counts, p) in [
            (&[8, 1, 1][..], 0.979_379_314_5),
            (&[4, 4, 2], 0.444_956_069_3),
            (&[7, 4, 3, 2], 0.724_199_448_6),
            (&[5, 1, 1, 1, 1, 1], 0.783_655_597_1),
            (&[2, 7, 3, 4], 0.724_199_448_6),
        ] {
            assert!((confidence(counts) - p).abs() < 1e-9, "{counts:?} {}", confidence(counts));
        }
    }

    #[test]
    fn two_keys_are_the_beta_rule_and_more_are_below_it() {
        for a in 1..30 {
            assert!((confidence(&[a]) - posterior(a, 0)).abs() < 1e-9);
            for b in 0..=a {
                let two = confidence(&[a, b]);
                assert!((two - posterior(a, b)).abs() < 1e-9, "({a}, {b}) {two}");
                assert!(confidence(&[a, b, b]) <= two);
            }
        }
        assert!((confidence(&[900, 850]) - posterior(900, 850)).abs() < 1e-9);
    }
}
