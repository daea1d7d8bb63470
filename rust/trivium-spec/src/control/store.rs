//! Length policies of stores, as their papers and releases have them.
//!
//! ```text
//! suffix decoding   ⌊α match + offset⌋ tokens, paths of probability >= 0.1
//! SAM decoding      min(40, 1 + ⌊4 match⌋)
//! llama.cpp         a continuation needs so many counts and such a share of them
//! small counts      c / (N + 2), or Wilson's lower bound
//! unified           extend while score >= κ = t'(n) E / t(n)
//! ```
//!
//! The speculator's own trees use the unified rule: [`CostModel`](crate::policy::CostModel) cuts the
//! order of scores where the rate of tokens is highest, which is where the marginal score falls
//! below κ.

/// Nodes for a match of a length in a suffix store.
pub fn suffix_budget(matched: usize, alpha: f64, offset: f64) -> usize {
    // A negative or absurd budget is none.
    let n = (alpha * matched as f64 + offset).floor();
    if n.is_finite() { n.clamp(0.0, crate::MAX_NODES as f64) as usize } else { 0 }
}

/// Least probability of a drafted path in suffix decoding.
pub const SUFFIX_FLOOR: f64 = 0.1;

/// Tokens for a match of a length in SAM decoding.
pub fn sam_length(matched: usize) -> usize {
    40.min(1 + matched.saturating_mul(4))
}

/// llama.cpp's gate: enough counts, and enough of them for this token.
pub fn count_gate(count: u32, total: u32, least_total: u32, least_percent: u32) -> bool {
    total >= least_total && u64::from(count) * 100 >= u64::from(least_percent) * u64::from(total)
}

/// Shrunk share of `count` in `total`: `c / (N + 2)`.
pub fn shrunk(count: f64, total: f64) -> f64 {
    count / (total + 2.0)
}

/// Wilson's lower bound of a share at `z` standard deviations; 0 without observations.
pub fn wilson(share: f64, total: f64, z: f64) -> f64 {
    if total <= 0.0 {
        return 0.0;
    }
    let z2 = z * z;
    let spread = (share * (1.0 - share) / total + z2 / (4.0 * total * total)).sqrt();
    ((share + z2 / (2.0 * total) - z * spread) / (1.0 + z2 / total)).clamp(0.0, 1.0)
}

/// Least score worth another node: `κ = t'(n) E / t(n)`, from the time of `n` nodes, the slope there
/// and the expected tokens of the step.
pub fn marginal_score(time: f64, slope: f64, expected: f64) -> f64 {
    if time > 0.0 { (slope * expected / time).max(0.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_follow_matches() {
        assert_eq!((suffix_budget(5, 2.0, 1.5), suffix_budget(0, 1.0, -3.0)), (11, 0));
        assert_eq!((sam_length(0), sam_length(3), sam_length(1000)), (1, 13, 40));
        assert!(count_gate(2, 3, 2, 66) && !count_gate(1, 3, 2, 66) && !count_gate(1, 1, 2, 1));
    }

    #[test]
    fn bounds_grow_with_evidence() {
        assert_eq!(wilson(0.9, 0.0, 1.0), 0.0);
        let mut last = 0.0;
        for n in [1.0, 2.0, 5.0, 20.0, 1e3, 1e6] {
            let w = wilson(0.8, n, 1.0);
            assert!(w > last && w < 0.8);
            last = w;
        }
        assert!((last - 0.8).abs() < 1e-3);
        // Solves (p - w)² = z² w (1 - w) / N.
        let w = wilson(0.8, 7.0, 1.3);
        assert!(((0.8 - w).powi(2) - 1.69 * w * (1.0 - w) / 7.0).abs() < 1e-12);
        assert!((shrunk(1.0, 2.0) - 0.25).abs() < 1e-12);
    }

    /// κ is where the rate stops rising: the unified rule is the best prefix.
    #[test]
    fn the_marginal_rule_is_the_best_prefix() {
        let (t, slope) = (|n: f64| 1.0 + 0.1 * n, 0.1);
        let scores = [0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05];
        let mut expected = 1.0;
        let mut kept = 0;
        for (n, s) in scores.iter().enumerate() {
            if *s < marginal_score(t(n as f64), slope, expected) {
                break;
            }
            expected += s;
            kept = n + 1;
        }
        let rate = |k: usize| (1.0 + scores[..k].iter().sum::<f64>()) / t(k as f64);
        let best = (0..=scores.len()).max_by(|&a, &b| rate(a).total_cmp(&rate(b))).unwrap();
        assert_eq!(kept, best);
        assert_eq!(marginal_score(0.0, 1.0, 1.0), 0.0);
    }
}
