//! Inverse-entropy weights.
//!
//! Sharma and Chopra, "The Sequential Edge: Inverse-Entropy Voting Beats Parallel Self-Consistency
//! at Matched Compute": a chain weighs `1 / max(H, 1e-10)`, `H` the mean entropy of its token
//! distributions. From a truncated list of log-probabilities the entropy is renormalised, or the
//! missing tail counts as one symbol. Chains read the answers before them, so ballots are not
//! exchangeable and sequential tests are refused.

/// What to do with the mass that a truncated list leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tail {
    /// One symbol of the missing mass.
    #[default]
    Lump,
    /// Renormalise what is there.
    Renormalise,
}

/// Entropy of a distribution given by its largest log-probabilities.
pub fn entropy(logprobs: &[f64], tail: Tail) -> f64 {
    let term = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
    let mass: f64 = logprobs.iter().map(|lp| lp.exp()).sum();
    match tail {
        Tail::Lump => {
            logprobs.iter().map(|lp| term(lp.exp())).sum::<f64>() + term((1.0 - mass).max(0.0))
        }
        Tail::Renormalise if mass > 0.0 => logprobs.iter().map(|lp| term(lp.exp() / mass)).sum(),
        Tail::Renormalise => 0.0,
    }
}

/// The weight of a chain with mean entropy `h`.
pub fn inverse(h: f64) -> f64 {
    1.0 / h.max(1e-10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropies_and_weights_have_their_published_values() {
        let logs = [0.7f64, 0.2, 0.05, 0.05].map(f64::ln);
        assert!((entropy(&logs, Tail::Lump) - 0.871_133_27).abs() < 1e-8);
        assert!((entropy(&logs, Tail::Renormalise) - 0.871_133_27).abs() < 1e-8);
        assert!(entropy(&logs[..2], Tail::Lump) < entropy(&logs, Tail::Lump));
        let w = [0.2, 0.5, 0.4].map(inverse);
        assert_eq!(w, [5.0, 2.0, 2.5]);
        assert!(w[0] > w[1] + w[2]);
        assert!(inverse(0.0).is_finite());
    }
}
