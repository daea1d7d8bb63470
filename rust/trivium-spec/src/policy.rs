//! How many nodes to verify: the tree is cut where the expected tokens per second are highest.
//!
//! With nodes in order of score, `E(n) = requests + sum of the first n scores` tokens are expected
//! from a step of `n` drafted nodes, and the host's own timings give the step's cost `t(n)`. The
//! best prefix maximises `E(n) / t(n)`; where that is `n = 0`, drafting does not pay and is off for
//! the step. Without timings the whole budget is used. A host that only ever runs one size would never
//! learn the others: [`CostModel::probe`] names sizes to try once.

use std::collections::{BTreeMap, VecDeque};

/// Step times of the host by number of nodes: medians over buckets of sizes, so that one slow step
/// neither switches drafting off nor hides a size for ever.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CostModel {
    /// By bucket, ascending: the newest [`KEPT`] timings (nodes, seconds).
    buckets: Vec<(u32, VecDeque<(usize, f64)>)>,
    /// When each bucket was last timed, by key; timings so far.
    last: BTreeMap<u32, u64>,
    clock: u64,
}

/// Timings of a bucket that count.
const KEPT: usize = 9;

/// Timings between two probes of a size that is not in use.
const PROBE_EVERY: u64 = 64;

/// Sizes 1, 2, 3-4, 5-8, 9-16, ...
fn bucket_of(nodes: usize) -> u32 {
    nodes.max(1).next_power_of_two().trailing_zeros()
}

impl CostModel {
    /// Counts one timing of a step over `nodes` nodes, node 0s included. Timings that are not
    /// positive and finite are ignored.
    pub fn observe(&mut self, nodes: usize, seconds: f64) {
        if !(seconds > 0.0 && seconds.is_finite()) {
            return;
        }
        let key = bucket_of(nodes);
        self.clock += 1;
        self.last.insert(key, self.clock);
        let at = match self.buckets.binary_search_by_key(&key, |b| b.0) {
            Ok(at) => at,
            Err(at) => {
                self.buckets.insert(at, (key, VecDeque::with_capacity(KEPT)));
                at
            }
        };
        let timings = &mut self.buckets[at].1;
        if timings.len() == KEPT {
            timings.pop_front();
        }
        timings.push_back((nodes, seconds));
    }

    /// Mean size, median seconds (the lower one of two) and number of timings of each bucket.
    fn points(&self) -> Vec<(f64, f64, f64)> {
        let point = |timings: &VecDeque<(usize, f64)>| {
            let n = timings.len();
            let mut seconds: Vec<f64> = timings.iter().map(|t| t.1).collect();
            seconds.sort_by(f64::total_cmp);
            let size = timings.iter().map(|t| t.0 as f64).sum::<f64>() / n as f64;
            (size, seconds[(n - 1) / 2], n as f64)
        };
        self.buckets.iter().map(|b| point(&b.1)).collect()
    }

    /// Whether two sizes or more were timed.
    pub fn is_known(&self) -> bool {
        self.buckets.len() >= 2
    }

    /// Timed sizes and their non-decreasing fit (pool adjacent violators).
    fn fit(&self) -> Vec<(f64, f64)> {
        let points = self.points();
        let mut blocks: Vec<(f64, f64, usize)> = Vec::new(); // value, weight, points
        for &(_, t, w) in &points {
            blocks.push((t, w, 1));
            while let [.., a, b] = blocks[..] {
                if a.0 <= b.0 {
                    break;
                }
                let w = a.1 + b.1;
                blocks.truncate(blocks.len() - 2);
                blocks.push(((a.0 * a.1 + b.0 * b.1) / w, w, a.2 + b.2));
            }
        }
        let values = blocks.iter().flat_map(|&(t, _, n)| std::iter::repeat_n(t, n));
        points.iter().map(|p| p.0).zip(values).collect()
    }

    /// A size in `smallest..=largest` that should be timed in the next step, if any: the smallest
    /// while only one was, and now and then the one that was not timed for longest. `None` for hosts
    /// that report no times.
    pub fn probe(&self, smallest: usize, largest: usize) -> Option<usize> {
        let due = self.clock.is_multiple_of(PROBE_EVERY);
        if self.clock == 0 || smallest >= largest || (self.is_known() && !due) {
            return None;
        }
        let keys = bucket_of(smallest)..=bucket_of(largest);
        let key = keys.min_by_key(|k| self.last.get(k).copied().unwrap_or(0))?;
        Some((1usize << key).clamp(smallest, largest))
    }

    /// Expected time of a pass over `nodes` nodes; `None` until two sizes were timed.
    pub fn time(&self, nodes: usize) -> Option<f64> {
        self.is_known().then(|| interpolate(&self.fit(), &mut 0, nodes as f64))
    }

    /// How many of the nodes, in order of their scores, to keep: `scores` are those of drafted
    /// nodes over all `requests`, descending.
    pub fn best_prefix(&self, requests: usize, scores: &[f32]) -> usize {
        if scores.is_empty() || !self.is_known() {
            return scores.len();
        }
        let fit = self.fit();
        let mut at = 0;
        let mut cost = |n: f64| interpolate(&fit, &mut at, n);
        let mut expected = requests as f64;
        let mut best = (expected / cost(requests as f64), 0);
        for (i, &s) in scores.iter().enumerate() {
            expected += f64::from(s);
            let rate = expected / cost((requests + i + 1) as f64);
            if rate > best.0 {
                best = (rate, i + 1);
            }
        }
        best.1
    }
}

/// Time of `n` nodes on a fit of two points or more: linear between them, flat before the first,
/// beyond the last with the slope of the whole. `at` is where the last look-up ended; sizes ascend.
fn interpolate(fit: &[(f64, f64)], at: &mut usize, n: f64) -> f64 {
    let (first, last) = (fit[0], fit[fit.len() - 1]);
    if n <= first.0 {
        return first.1;
    }
    if n > last.0 {
        return last.1 + (last.1 - first.1) / (last.0 - first.0) * (n - last.0);
    }
    while *at + 2 < fit.len() && fit[*at + 1].0 < n {
        *at += 1;
    }
    let (a, b) = (fit[*at], fit[*at + 1]);
    a.1 + (b.1 - a.1) * (n - a.0) / (b.0 - a.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(points: &[(usize, f64)]) -> CostModel {
        let mut m = CostModel::default();
        points.iter().for_each(|&(n, t)| m.observe(n, t));
        m
    }

    #[test]
    fn an_unknown_cost_keeps_everything() {
        assert_eq!(CostModel::default().best_prefix(1, &[0.9, 0.1]), 2);
        assert_eq!(model(&[(1, 1.0)]).best_prefix(1, &[0.9, 0.1]), 2);
    }

    #[test]
    fn the_prefix_is_the_brute_force_best() {
        let m = model(&[(1, 1.0), (9, 1.4), (17, 3.0)]);
        let scores = [0.9f32, 0.8, 0.5, 0.3, 0.1, 0.05, 0.01, 0.01, 0.01, 0.01];
        let t = |n: usize| match n {
            1..=9 => 1.0 + 0.4 * (n as f64 - 1.0) / 8.0,
            _ => 1.4 + 1.6 * (n as f64 - 9.0) / 8.0,
        };
        let rate =
            |k: usize| (1.0 + scores[..k].iter().map(|s| f64::from(*s)).sum::<f64>()) / t(k + 1);
        let want = (0..=scores.len()).max_by(|&a, &b| rate(a).total_cmp(&rate(b))).unwrap();
        assert_eq!(m.best_prefix(1, &scores), want);
    }

    #[test]
    fn one_slow_step_changes_nothing() {
        let fair = [(1, 1.0), (1, 1.1), (8, 1.3), (8, 1.4), (32, 2.0), (32, 2.1)];
        let mut m = model(&fair);
        let scores = [0.9f32, 0.8, 0.7, 0.6, 0.5, 0.4];
        let before = m.best_prefix(1, &scores);
        m.observe(7, 50.0);
        m.observe(30, 50.0);
        m.observe(1, 1.0);
        assert!(before >= 5 && m.best_prefix(1, &scores) == before);
    }

    #[test]
    fn drafting_switches_off_where_it_does_not_pay() {
        let m = model(&[(1, 1.0), (2, 2.0), (8, 8.0)]);
        assert_eq!(m.best_prefix(1, &[0.9, 0.8]), 0);
        assert_eq!(model(&[(1, 1.0), (64, 1.0)]).best_prefix(1, &[0.5, 0.01, 0.0]), 2);
    }

    #[test]
    fn sizes_not_in_use_are_timed_now_and_then() {
        let mut m = CostModel::default();
        assert_eq!(m.probe(1, 33), None, "a host that reports no times is left alone");
        m.observe(33, 2.0);
        assert_eq!(m.probe(1, 33), Some(1));
        m.observe(1, 1.0);
        let mut probed = Vec::new();
        for _ in 0..6 * PROBE_EVERY {
            let n = m.probe(1, 33);
            probed.extend(n);
            m.observe(n.unwrap_or(33), 1.0);
        }
        assert_eq!(probed, [2, 4, 8, 16, 32, 1]);
        assert_eq!(m.probe(1, 1), None);
    }

    #[test]
    fn timings_are_projected_to_be_monotone_and_bad_ones_ignored() {
        let mut m = model(&[(1, 2.0), (4, 1.0), (8, 3.0)]);
        m.observe(8, f64::NAN);
        m.observe(8, -1.0);
        assert_eq!(m.fit(), [(1.0, 1.5), (4.0, 1.5), (8.0, 3.0)]);
    }
}
