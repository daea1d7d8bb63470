//! Token set cover: prune running traces whose tokens the others cover.
//!
//! Our reading of "Confidence-Weighted Token Set Cover for Early Hypothesis Pruning in
//! Self-Consistency", whose abstract alone was at hand. At intervals each running trace has a set of
//! tokens and a confidence; greedily the trace with the largest `confidence * newly covered` is kept
//! (ties to the lower index) until the share `gamma` of all tokens is covered and `k_min` are kept.
//! The others are cancelled. Gains only shrink, so the greedy choice re-evaluates the top of a heap.

use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BinaryHeap;

#[derive(PartialEq)]
struct Gain(f64, std::cmp::Reverse<usize>);

impl Eq for Gain {}
impl PartialOrd for Gain {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Gain {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

/// Drops tokens that at least this share of the sets holds: they say nothing.
pub(crate) fn drop_common(sets: &mut [Vec<u32>], share: f64) {
    let mut counts: FxHashMap<u32, u32> = FxHashMap::default();
    sets.iter().flatten().for_each(|&token| *counts.entry(token).or_default() += 1);
    let most = share * sets.len() as f64;
    for set in sets {
        set.retain(|token| f64::from(counts[token]) < most);
    }
}

/// The traces to keep, ascending.
pub fn keep(sets: &[Vec<u32>], confidence: &[f64], gamma: f64, k_min: usize) -> Vec<usize> {
    let unique: Vec<FxHashSet<u32>> = sets.iter().map(|s| s.iter().copied().collect()).collect();
    let universe: FxHashSet<u32> = sets.iter().flatten().copied().collect();
    let need = gamma * universe.len() as f64;
    let weight = |i: usize| confidence.get(i).copied().unwrap_or(1.0).max(0.0);
    let mut covered: FxHashSet<u32> = FxHashSet::default();
    let mut heap: BinaryHeap<Gain> = (0..sets.len())
        .map(|i| Gain(weight(i) * unique[i].len() as f64, std::cmp::Reverse(i)))
        .collect();
    let mut kept = Vec::new();
    while (covered.len() as f64) < need || kept.len() < k_min {
        let Some(Gain(stale, index)) = heap.pop() else { break };
        let i = index.0;
        let fresh = sets[i].iter().collect::<FxHashSet<_>>().into_iter();
        let gain = weight(i) * fresh.filter(|t| !covered.contains(t)).count() as f64;
        if gain < stale {
            heap.push(Gain(gain, index));
            continue;
        }
        covered.extend(sets[i].iter().copied());
        kept.push(i);
    }
    kept.sort_unstable();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_published_instance() {
        let sets = [vec![1, 2, 3, 4], vec![3, 4, 5], vec![1, 2], vec![5, 6]];
        assert_eq!(keep(&sets, &[0.9, 0.8, 0.95, 0.5], 0.95, 1), [0, 3]);
        assert_eq!(keep(&vec![vec![1, 2]; 4], &[1.0; 4], 1.0, 1), [0]);
        assert_eq!(keep(&[], &[], 1.0, 1), [0usize; 0]);
    }

    proptest! {
        #[test]
        fn lazy_greedy_is_naive_greedy(
            sets in prop::collection::vec(prop::collection::vec(0u32..12, 0..6), 1..8),
            conf in prop::collection::vec(0.1f64..1.0, 8),
            k_min in 1usize..4,
        ) {
            let universe: FxHashSet<u32> = sets.iter().flatten().copied().collect();
            let mut covered: FxHashSet<u32> = FxHashSet::default();
            let mut naive = Vec::new();
            while (covered.len() as f64) < 0.9 * universe.len() as f64 || naive.len() < k_min {
                let gain = |i: usize| {
                    let set: FxHashSet<u32> = sets[i].iter().copied().collect();
                    conf[i] * set.difference(&covered).count() as f64
                };
                let left = (0..sets.len()).filter(|i| !naive.contains(i));
                let mut best: Option<usize> = None;
                for i in left {
                    if best.is_none_or(|b| gain(i) > gain(b)) {
                        best = Some(i);
                    }
                }
                let Some(best) = best else { break };
                covered.extend(sets[best].iter().copied());
                naive.push(best);
            }
            naive.sort_unstable();
            let lazy = keep(&sets, &conf, 0.9, k_min);
            prop_assert!(lazy.len() >= k_min.min(sets.len()));
            prop_assert_eq!(lazy, naive);
        }
    }
}
