//! Votes along the denoising steps of a diffusion model.
//!
//! Wang et al., "Time Is a Feature: Exploiting Temporal Dynamics in Diffusion Language Models". Step
//! `s` of `S` reads the answer of the canvas as it would be now; the key with the largest sum of
//! `f(s)` wins, ties to the later step. Temporal semantic entropy is the entropy of the shares of
//! steps by answer, and `(ln T - TSE) / ln T` a confidence.

/// Weight of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StepWeight {
    /// 1.
    Fixed,
    /// `(s + 1) / S`.
    Linear,
    /// `exp(alpha s / S)`.
    Exponential(f64),
}

impl StepWeight {
    /// `f(s)`, scaled by the last step's for exponential weights, so that nothing overflows.
    fn at(self, step: usize, steps: usize) -> f64 {
        let (s, n) = (step as f64, steps.max(1) as f64);
        match self {
            Self::Fixed => 1.0,
            Self::Linear => (s + 1.0) / n,
            Self::Exponential(alpha) => (alpha * (s - n) / n).exp(),
        }
    }
}

/// Sums of step weights by key, in order of first appearance; exponential sums carry a factor
/// `exp(-alpha)`.
pub fn sums(keys: &[Option<u32>], steps: usize, weight: StepWeight) -> Vec<(u32, f64)> {
    let mut sums: Vec<(u32, f64)> = Vec::new();
    for (s, key) in keys.iter().enumerate() {
        let Some(key) = *key else { continue };
        match sums.iter_mut().find(|(known, _)| *known == key) {
            Some((_, sum)) => *sum += weight.at(s, steps),
            None => sums.push((key, weight.at(s, steps))),
        }
    }
    sums
}

/// The winner, and whether no remaining step can change it.
pub fn vote(keys: &[Option<u32>], steps: usize, weight: StepWeight) -> (Option<u32>, bool) {
    let sums = sums(keys, steps, weight);
    let best = sums.iter().map(|s| s.1).fold(f64::NEG_INFINITY, f64::max);
    let slack = 1e-12 * sums.iter().map(|s| s.1).sum::<f64>();
    let tied = |key: u32| sums.iter().any(|s| s.0 == key && s.1 >= best - slack);
    // Ties go to the key whose last step is later.
    let winner = keys.iter().rev().flatten().copied().find(|&key| tied(key));
    let second = sums.iter().filter(|s| Some(s.0) != winner).map(|s| s.1).fold(0.0, f64::max);
    let rest: f64 = (keys.len()..steps).map(|s| weight.at(s, steps)).sum();
    let decided = winner.is_some() && (best - second > rest || keys.len() >= steps);
    (winner, decided)
}

/// Temporal semantic entropy of the steps that have an answer, and the confidence it stands for.
pub fn entropy(keys: &[Option<u32>]) -> (f64, f64) {
    let counts = sums(keys, keys.len(), StepWeight::Fixed);
    let total: f64 = counts.iter().map(|c| c.1).sum();
    if total < 1.0 {
        return (0.0, 0.0);
    }
    let entropy: f64 = counts.iter().map(|c| c.1 / total).map(|p| -p * p.ln()).sum();
    let most = total.ln();
    (entropy, if most > 0.0 { (most - entropy) / most } else { 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(text: &str) -> Vec<Option<u32>> {
        text.bytes().map(|b| (b != b'.').then_some(u32::from(b))).collect()
    }

    #[test]
    fn sums_have_their_published_values() {
        let keys = steps("AAAAABBB");
        let close = |weight, a: f64, b: f64, factor: f64| {
            let found = sums(&keys, 8, weight);
            assert!((found[0].1 * factor - a).abs() < 1e-5, "{found:?}");
            assert!((found[1].1 * factor - b).abs() < 1e-5, "{found:?}");
        };
        close(StepWeight::Fixed, 5.0, 3.0, 1.0);
        close(StepWeight::Linear, 1.875, 2.625, 1.0);
        close(StepWeight::Exponential(5.0), 25.061_902, 144.720_817, 5f64.exp());
        assert_eq!(vote(&keys, 8, StepWeight::Fixed).0, Some(65));
        assert_eq!(vote(&keys, 8, StepWeight::Exponential(5.0)), (Some(66), true));
        assert_eq!(vote(&steps("AB"), 2, StepWeight::Fixed).0, Some(66));
        assert_eq!(vote(&steps("AAAAA..."), 8, StepWeight::Exponential(5000.0)).0, Some(65));
        assert_eq!(vote(&steps("..A"), 4, StepWeight::Fixed), (Some(65), false));
        assert_eq!(vote(&steps("AAA"), 5, StepWeight::Fixed), (Some(65), true));
        assert_eq!(vote(&steps("..."), 3, StepWeight::Linear), (None, false));
    }

    #[test]
    fn entropies_have_their_published_values() {
        let (tse, confidence) = entropy(&steps("AABBBBBB"));
        assert!(
            (tse - 0.562_335_144_6).abs() < 1e-9 && (confidence - 0.729_573_958_5).abs() < 1e-9
        );
        assert_eq!(entropy(&steps("AAAA")).1, 1.0);
        assert!(entropy(&steps("ABCD")).1.abs() < 1e-12);
        assert_eq!(entropy(&steps("..")), (0.0, 0.0));
    }
}
