//! Posterior stop with known reliabilities.
//!
//! Own; the weights are those of Nitzan and Paroush, "Optimal Decision Rules in Uncertain
//! Dichotomous Choice Situations". With `s_k` the summed log-odds of the sources that voted for `k`
//!
//! ```text
//! p_k = exp(t s_k) / (1 + sum_j exp(t s_j))        the 1 stands for an unseen answer
//! ```
//!
//! and the vote stops at `max p >= C`. The temper `t` pays for correlated sources.

/// `max p` for the sums `s`.
pub fn confidence(sums: &[f64], temper: f64) -> f64 {
    let Some(best) = sums.iter().copied().reduce(f64::max) else { return 0.0 };
    let shift = (temper * best).max(0.0);
    let total: f64 = sums.iter().map(|s| (temper * s - shift).exp()).sum();
    (temper * best - shift).exp() / ((-shift).exp() + total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posteriors_have_their_published_values() {
        for (t, p) in [(0.3, 0.354_795_7), (0.5, 0.431_706_1), (1.0, 0.621_514_4)] {
            assert!((confidence(&[2.2, 1.1, 0.4], t) - p).abs() < 1e-7);
        }
        assert_eq!(confidence(&[1e6, 1.0], 1.0), 1.0);
        assert_eq!(confidence(&[], 1.0), 0.0);
    }
}
