//! From votes to decisions: exact maj@k, risk control, calibration, allocation of a shared budget.
//!
//! | function | method |
//! |---|---|
//! | [`majority_at`] | own: exact expected accuracy of a vote over `k` of `n` samples |
//! | [`pass_at`] | Chen et al., "Evaluating Large Language Models Trained on Code" |
//! | [`lower_bound`], [`controlled_threshold`] | Clopper and Pearson; fixed-sequence testing |
//! | [`isotonic`] | pool-adjacent-violators |
//! | [`allocate`] | Damani et al., "Learning How Hard to Think: Input-Adaptive Allocation of LM Computation" |

use crate::numeric::{inverse_beta, ln_gamma};

fn ln_choose(n: u32, k: u32) -> f64 {
    if k > n {
        return f64::NEG_INFINITY;
    }
    let ln = |x: u32| ln_gamma(f64::from(x) + 1.0);
    ln(n) - ln(k) - ln(n - k)
}

fn choose(n: u32, k: u32) -> f64 {
    let log = ln_choose(n, k);
    if log < 34.0 { log.exp().round() } else { log.exp() }
}

/// Probability that the right key wins a vote over a uniformly random subset of `k` samples; a tie of
/// `m` keys counts `1/m`. `gold` counts the right key, `others` each other key, `none` the samples
/// without a ballot. Exact up to rounding; time `k^2` times the number of keys squared.
pub fn majority_at(gold: u32, others: &[u32], none: u32, k: u32) -> f64 {
    let n = gold + others.iter().sum::<u32>() + none;
    let k = k.min(n) as usize;
    let keys = others.len();
    let mut total = 0.0;
    for t in 1..=k.min(gold as usize) {
        // Coefficients of x^i z^y: i samples taken from the others, y of them tied at t.
        let room = k - t;
        let mut table = vec![vec![0.0; keys + 1]; room + 1];
        for (i, row) in table.iter_mut().enumerate() {
            row[0] = choose(none, i as u32);
        }
        for &count in others {
            let mut next = vec![vec![0.0; keys + 1]; room + 1];
            for i in 0..=room {
                for y in 0..=keys {
                    let have = table[i][y];
                    if have == 0.0 {
                        continue;
                    }
                    for s in 0..=t.min(count as usize).min(room - i) {
                        let tied = usize::from(s == t);
                        if y + tied <= keys {
                            next[i + s][y + tied] += have * choose(count, s as u32);
                        }
                    }
                }
            }
            table = next;
        }
        let wins: f64 = (0..=keys).map(|y| table[room][y] / (y as f64 + 1.0)).sum();
        total += choose(gold, t as u32) * wins;
    }
    total / choose(n, k as u32)
}

/// Probability that at least one of `k` random samples of `n` is right.
pub fn pass_at(n: u32, gold: u32, k: u32) -> f64 {
    1.0 - (ln_choose(n.saturating_sub(gold), k) - ln_choose(n, k)).exp()
}

/// Lower confidence bound of an accuracy, exact: `right` of `answered`, error `delta`.
pub fn lower_bound(right: u32, answered: u32, delta: f64) -> f64 {
    if right == 0 {
        return 0.0;
    }
    inverse_beta(delta, f64::from(right), f64::from(answered - right.min(answered)) + 1.0)
}

/// The loosest threshold on a score at which the accuracy of what is answered is at least `target`
/// with confidence `1 - delta`. Thresholds are tried from strict to loose and the first failure
/// stops, so that `delta` holds for all looks together. None if even the strictest fails.
pub fn controlled_threshold(
    labelled: &[(f64, bool)],
    candidates: &[f64],
    target: f64,
    delta: f64,
) -> Option<f64> {
    let mut strict: Vec<f64> = candidates.to_vec();
    strict.sort_unstable_by(|x, y| y.total_cmp(x));
    let mut found = None;
    for threshold in strict {
        let answered = labelled.iter().filter(|(score, _)| *score >= threshold);
        let (mut all, mut right) = (0, 0);
        for (_, ok) in answered {
            all += 1;
            right += u32::from(*ok);
        }
        if all == 0 && target > 0.0 {
            continue;
        }
        if lower_bound(right, all, delta) < target {
            break;
        }
        found = Some(threshold);
    }
    found
}

/// Isotonic fit: for scores in rising order, the non-decreasing values closest to the labels.
/// Returns the fitted value of each input, in the input's order; equal scores are pooled.
pub fn isotonic(scores: &[f64], labels: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..scores.len().min(labels.len())).collect();
    order.sort_by(|&x, &y| scores[x].total_cmp(&scores[y]));
    // Blocks: (sum, how many, score of the last).
    let mut blocks: Vec<(f64, usize, f64)> = Vec::new();
    for &i in &order {
        blocks.push((labels[i], 1, scores[i]));
        while let [.., before, last] = &blocks[..] {
            let falls = before.0 / before.1 as f64 > last.0 / last.1 as f64;
            if !falls && before.2 != last.2 {
                break;
            }
            let joined = (before.0 + last.0, before.1 + last.1, last.2);
            blocks.truncate(blocks.len() - 2);
            blocks.push(joined);
        }
    }
    let mut fitted = vec![0.0; order.len()];
    let mut at = 0;
    for (sum, num, _) in blocks {
        for &i in &order[at..at + num] {
            fitted[i] = sum / num as f64;
        }
        at += num;
    }
    fitted
}

/// Shares `budget` samples among questions with success probabilities `lambda` of one sample: the
/// largest marginal values `lambda (1 - lambda)^(k-1)` first, the lower index on ties.
pub fn allocate(lambda: &[f64], budget: u32) -> Vec<u32> {
    let mut given = vec![0u32; lambda.len()];
    let mut marginal: Vec<f64> = lambda.to_vec();
    for _ in 0..budget {
        let best = marginal.iter().copied().fold(0.0, f64::max);
        if best <= 0.0 {
            break;
        }
        let Some(i) = marginal.iter().position(|m| *m == best) else { break };
        given[i] += 1;
        marginal[i] *= 1.0 - lambda[i];
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn majorities_at_k_have_their_published_values() {
        for (k, p) in [0.5, 0.5, 0.6, 0.7, 0.75, 1.0].into_iter().enumerate() {
            let found = majority_at(3, &[2, 1], 0, k as u32 + 1);
            assert!((found - p).abs() < 1e-9, "{k} {found}");
        }
        for (k, p) in [(1, 0.363_636), (3, 0.391_919), (5, 0.450_216), (8, 0.5), (11, 0.5)] {
            assert!((majority_at(4, &[4, 2, 1], 0, k) - p).abs() < 1e-6, "{k}");
        }
        assert!((pass_at(10, 3, 5) - 0.916_666_666_7).abs() < 1e-9);
        assert_eq!(majority_at(0, &[2], 3, 2), 0.0);
    }

    /// Every subset of up to twelve samples.
    #[test]
    fn majorities_at_k_agree_with_enumeration() {
        for (gold, others, none) in [(3, vec![2, 2], 1), (2, vec![3, 1, 1], 2), (4, vec![4], 0)] {
            let mut samples = vec![Some(0usize); gold as usize];
            for (i, &count) in others.iter().enumerate() {
                samples.extend(vec![Some(i + 1); count as usize]);
            }
            samples.extend(vec![None; none as usize]);
            for k in 1..=samples.len() as u32 {
                let (mut sum, mut num) = (0.0, 0.0);
                for set in 0u32..1 << samples.len() {
                    if set.count_ones() != k {
                        continue;
                    }
                    let mut counts = vec![0u32; others.len() + 1];
                    for (i, key) in samples.iter().enumerate() {
                        if let (1, Some(key)) = (set >> i & 1, key) {
                            counts[*key] += 1;
                        }
                    }
                    let best = counts.iter().copied().max().unwrap_or(0);
                    if best > 0 && counts[0] == best {
                        sum += 1.0 / counts.iter().filter(|c| **c == best).count() as f64;
                    }
                    num += 1.0;
                }
                let found = majority_at(gold, &others, none, k);
                assert!((found - sum / num).abs() < 1e-9, "{gold} {others:?} {k}: {found}");
            }
        }
    }

    #[test]
    fn bounds_and_fits_have_their_published_values() {
        assert!((lower_bound(8, 10, 0.05) - 0.493_098_699_0).abs() < 1e-9);
        assert_eq!(isotonic(&[0.2, 0.4, 0.6, 0.8], &[0.0, 1.0, 0.0, 1.0]), [0.0, 0.5, 0.5, 1.0]);
        let labelled: Vec<(f64, bool)> =
            (0..400).map(|i| (f64::from(i) / 400.0, i >= 100 || i % 2 == 0)).collect();
        let grid = [0.0, 0.25, 0.5, 0.75];
        let found = controlled_threshold(&labelled, &grid, 0.95, 0.05);
        assert_eq!(found, Some(0.25));
        assert_eq!(controlled_threshold(&labelled, &grid, 0.0, 0.05), Some(0.0));
        assert_eq!(controlled_threshold(&labelled, &grid, 0.999, 0.05), None);
    }

    #[test]
    fn budgets_go_where_they_pay() {
        let lambda = [0.9, 0.5, 0.1, 0.02];
        let given = allocate(&lambda, 10);
        assert_eq!(given, [2, 3, 5, 0]);
        let value: f64 =
            lambda.iter().zip(&given).map(|(l, &k)| 1.0 - (1.0f64 - l).powi(k as i32)).sum();
        assert!((value - 2.274_51).abs() < 1e-5);
        assert_eq!(allocate(&[0.5; 3], 4), [2, 1, 1]);
        assert_eq!(allocate(&lambda, 0), [0; 4]);
    }
}
