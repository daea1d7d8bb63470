//! Confidence pruning: most candidates are out after a few references.
//!
//! Cheng and Vlachos, "Faster Minimum Bayes Risk Decoding with Confidence-based Pruning". References
//! are looked at in rounds of 8, 16, 32, ...; after each, the references are resampled, and a
//! candidate whose win rate against the current best (ties count as wins) is not above `1 - alpha`
//! is dropped. With `alpha` = 1 nothing is ever dropped and the answer is exact. Own: candidates
//! that are left at the end are scored on all references.

use super::Prepared;

/// How to prune.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pruning {
    /// Confidence.
    pub alpha: f64,
    /// Number of resamples.
    pub resamples: u32,
    /// Number of references; all of them where it is 0.
    pub references: usize,
    /// Seed of the order of references and of resampling.
    pub seed: u64,
}

impl Default for Pruning {
    fn default() -> Self {
        Self { alpha: 0.99, resamples: 500, references: 256, seed: 0 }
    }
}

/// What pruning found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pruned {
    /// Index of the best text.
    pub best: usize,
    /// Its mean utility on the references looked at.
    pub score: f64,
    /// Utilities that were evaluated.
    pub calls: usize,
    /// Distinct candidates times references: what an exact answer on them costs.
    pub all: usize,
}

struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * n as u128) >> 64) as usize
    }
}

/// The best text, probably.
pub fn prune(texts: &Prepared, how: Pruning) -> Pruned {
    let n = texts.num_distinct();
    let mut rng = SplitMix(how.seed);
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, rng.below(i + 1));
    }
    if how.references > 0 {
        order.truncate(how.references);
    }
    let mut alive: Vec<usize> = (0..n).collect();
    let mut columns: Vec<Vec<f64>> = vec![Vec::new(); n];
    let (mut calls, mut seen, mut round) = (0, 0, 8);
    loop {
        let upto = round.min(order.len());
        for &r in &order[seen..upto] {
            for &h in &alive {
                columns[h].push(texts.both(h, r).0);
            }
            calls += alive.len();
        }
        seen = upto;
        if seen == order.len() || alive.len() == 1 {
            break;
        }
        let weights: Vec<f64> = order[..seen].iter().map(|&r| texts.weight(r)).collect();
        let best = leader(&alive, &columns, &weights);
        let mut wins = vec![0u32; alive.len()];
        let mut counts = vec![0.0; seen];
        for _ in 0..how.resamples {
            counts.fill(0.0);
            (0..seen).for_each(|_| counts[rng.below(seen)] += 1.0);
            let sum = |h: usize| {
                let terms = columns[h].iter().zip(&counts).zip(&weights);
                terms.map(|((u, c), w)| u * c * w).sum::<f64>()
            };
            let mark = sum(best);
            for (win, &h) in wins.iter_mut().zip(&alive) {
                *win += u32::from(sum(h) >= mark);
            }
        }
        let least = (1.0 - how.alpha) * f64::from(how.resamples);
        let kept: Vec<usize> = (alive.iter().zip(&wins))
            .filter(|&(&h, &win)| h == best || how.alpha >= 1.0 || f64::from(win) > least)
            .map(|(&h, _)| h)
            .collect();
        alive = kept;
        round *= 2;
    }
    let weights: Vec<f64> = order[..seen].iter().map(|&r| texts.weight(r)).collect();
    let best = leader(&alive, &columns, &weights);
    let total: f64 = weights.iter().sum();
    let score =
        columns[best].iter().zip(&weights).map(|(u, w)| u * w).sum::<f64>() / total.max(1e-300);
    Pruned { best: texts.first(best), score, calls, all: n * order.len() }
}

fn leader(alive: &[usize], columns: &[Vec<f64>], weights: &[f64]) -> usize {
    let score = |h: usize| columns[h].iter().zip(weights).map(|(u, w)| u * w).sum::<f64>();
    let scores: Vec<f64> = alive.iter().map(|&h| score(h)).collect();
    let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    alive[scores.iter().position(|&s| s == best).unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mbr::{Utility, mbr};

    #[test]
    fn pruning_finds_the_exact_winner_with_fewer_calls() {
        // Candidates cluster around one text, some are noise.
        let texts: Vec<String> = (0..120)
            .map(|i| match i % 4 {
                0 => format!("{i} nothing in common {}", i * 7919),
                1 => format!("the small cat sat on the mat {}", i % 7),
                2 => "the small cat sat on the mat".to_owned() + &"!".repeat(i % 5),
                _ => format!("the cat sat down on the mat {}", i % 11),
            })
            .collect();
        let list: Vec<&str> = texts.iter().map(String::as_str).collect();
        let (exact, _) = mbr(&list, &[], Utility::ChrF).unwrap();
        let prepared = Prepared::new(&list, &[], Utility::ChrF).unwrap();
        let all = Pruning { references: 0, ..Pruning::default() };
        let found = prune(&prepared, all);
        assert_eq!(list[found.best], list[exact]);
        assert!(found.calls < found.all, "{found:?}");
        let never = prune(&prepared, Pruning { alpha: 1.0, ..all });
        assert_eq!((list[never.best], never.calls), (list[exact], never.all));
        assert_eq!(prune(&prepared, all), found);
    }
}
