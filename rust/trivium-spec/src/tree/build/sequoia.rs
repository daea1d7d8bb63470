//! Sequoia's programme: the best shape for an acceptance vector, and the size that the hardware pays.
//!
//! Under positional acceptance (the b-th child of any node is the accepted one with probability
//! `a_b`) the most tokens that a tree of m nodes and ℓ levels (the root's counted) can be expected
//! to yield is
//!
//! ```text
//! T[1][ℓ][0] = 1
//! T[m][ℓ][b] = max over 1 <= y < m of T[y][ℓ][b-1] + a_b F[m-y][ℓ-1]
//! F[m][ℓ]    = max over b of T[m][ℓ][b]
//! ```
//!
//! "Sequoia: Scalable, Robust, and Hardware-aware Speculative Decoding". O(m² ℓ b). Where `a` does
//! not increase with rank the heap of [`Template::from_acceptance`] gives the same optimum in
//! O(m log m); the programme serves measured vectors that are not monotone, where rank b may only
//! be taken together with all ranks before it (draws have an order), and is the heap's oracle.

use super::budget;
use super::template::{Template, probability};
use trivium_core::error::{Error, Result};

/// Solved programme; reads of any size up to the one solved for.
#[derive(Debug, Clone)]
pub struct Sequoia {
    /// `best[l][m]`: expected tokens and number of root children; levels from 1, nodes from 1.
    best: Vec<Vec<(f64, usize)>>,
    /// `split[l][m][b]`: nodes of everything but the last child's subtree.
    split: Vec<Vec<Vec<usize>>>,
}

/// A size that pays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HardwareSize {
    /// Nodes, node 0 counted.
    pub nodes: usize,
    /// Drafted levels.
    pub depth: usize,
    /// Expected tokens of a step.
    pub expected: f64,
    /// Time of a step over expected tokens, in the unit of the given times.
    pub time_per_token: f64,
}

/// Entries of the programme's table: node counts squared times levels times ranks.
const MAX_WORK: usize = 1 << 30;

impl Sequoia {
    /// Solves for trees of up to `max_nodes` nodes (node 0 counted) and `max_depth` drafted levels.
    ///
    /// # Errors
    /// `InvalidInput` for entries that are no probabilities, an empty vector or budgets out of
    /// range; `LimitExceeded` for a table of more than 2^30 steps.
    pub fn solve(acceptance: &[f64], max_nodes: usize, max_depth: usize) -> Result<Self> {
        budget("max_nodes", max_nodes, 1)?;
        acceptance.iter().try_for_each(|&x| probability("acceptance", x).map(drop))?;
        if acceptance.is_empty() {
            return Err(Error::input("acceptance", "is empty"));
        }
        let levels = max_depth.min(max_nodes - 1) + 1;
        let ranks = acceptance.len().min(max_nodes - 1);
        let work = max_nodes * max_nodes / 2;
        if work.saturating_mul(levels).saturating_mul(ranks.max(1)) > MAX_WORK {
            return Err(Error::input(
                "acceptance",
                format!("{max_nodes} nodes, {levels} levels, {ranks} ranks are too many to solve"),
            ));
        }
        let mut best: Vec<Vec<(f64, usize)>> = Vec::with_capacity(levels);
        let mut split = Vec::with_capacity(levels);
        for level in 1..=levels {
            // Sizes that cannot be reached are worth minus infinity: a level of 1 has one node.
            let mut t = vec![vec![f64::NEG_INFINITY; ranks + 1]; max_nodes + 1];
            let mut from = vec![vec![0; ranks + 1]; max_nodes + 1];
            t[1][0] = 1.0;
            if level > 1 {
                let below = &best[level - 2];
                for b in 1..=ranks {
                    for m in b + 1..=max_nodes {
                        for y in 1..m {
                            let value = t[y][b - 1] + acceptance[b - 1] * below[m - y].0;
                            if value > t[m][b] {
                                t[m][b] = value;
                                from[m][b] = y;
                            }
                        }
                    }
                }
            }
            let f = t.iter().map(|row| {
                let b = (0..row.len()).fold(0, |best, b| if row[b] > row[best] { b } else { best });
                (row[b], b)
            });
            best.push(f.collect());
            split.push(from);
        }
        Ok(Self { best, split })
    }

    /// Expected tokens of the best tree of exactly `nodes` nodes and at most `depth` drafted
    /// levels; minus infinity where none has that many.
    pub fn expected(&self, nodes: usize, depth: usize) -> f64 {
        let level = (depth + 1).min(self.best.len());
        self.best[level - 1].get(nodes).map_or(f64::NEG_INFINITY, |x| x.0)
    }

    /// The best tree of at most `nodes` nodes and `depth` drafted levels.
    pub fn shape(&self, nodes: usize, depth: usize) -> Template {
        let level = (depth + 1).min(self.best.len());
        let top = nodes.min(self.best[0].len() - 1);
        let m = (1..=top).fold(1, |best, m| {
            if self.best[level - 1][m].0 > self.best[level - 1][best].0 { m } else { best }
        });
        // Breadth first, so that levels are contiguous: (nodes, level) of each place.
        let mut out = vec![(-1i32, 0u16, m, level)];
        let mut at = 0;
        while at < out.len() {
            let (_, _, m, level) = out[at];
            let mut sizes = Vec::new();
            let (mut rest, mut b) = (m, self.best[level - 1][m].1);
            while b > 0 {
                let y = self.split[level - 1][rest][b];
                sizes.push(rest - y);
                (rest, b) = (y, b - 1);
            }
            for (rank, size) in sizes.into_iter().rev().enumerate() {
                out.push((at as i32, rank as u16, size, level - 1));
            }
            at += 1;
        }
        let parents: Vec<i32> = out.iter().map(|x| x.0).collect();
        let ranks: Vec<u16> = out.iter().map(|x| x.1).collect();
        // A solved shape is well formed by construction.
        Template::new(&parents, &ranks).unwrap_or_else(|_| Template::root())
    }

    /// The size that minimises `(depth t_draft + t_target(nodes)) / expected(nodes, depth)` over the
    /// timed numbers of nodes; `costs` are (nodes, time of one target pass), the size of one node
    /// among them if switching drafting off shall compete.
    ///
    /// # Errors
    /// `InvalidInput` for no usable timing.
    pub fn best_size(&self, costs: &[(usize, f64)], draft_time: f64) -> Result<HardwareSize> {
        let mut out: Option<HardwareSize> = None;
        let ok = draft_time >= 0.0 && costs.iter().all(|c| c.1 > 0.0 && c.1.is_finite());
        for &(nodes, time) in if ok { costs } else { &[] } {
            if nodes == 0 || nodes >= self.best[0].len() {
                continue;
            }
            for depth in 0..self.best.len() {
                let expected = self.expected(nodes, depth);
                if expected == f64::NEG_INFINITY {
                    continue;
                }
                let per = (depth as f64 * draft_time + time) / expected;
                if out.is_none_or(|o| per < o.time_per_token) {
                    out = Some(HardwareSize { nodes, depth, expected, time_per_token: per });
                }
            }
        }
        out.ok_or_else(|| Error::input("costs", "holds no positive time of a solved size"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Golden values of the paper's programme for (.6, .2, .1).
    #[test]
    fn golden_values() {
        let s = Sequoia::solve(&[0.6, 0.2, 0.1], 16, 16).unwrap();
        let free = [
            1.0, 1.6, 1.96, 2.176, 2.376, 2.5056, 2.6256, 2.7456, 2.8456, 2.92336, 2.99536,
            3.06736, 3.13936, 3.19936, 3.25936, 3.306_016,
        ];
        let three = [1.0, 1.6, 1.96, 2.16, 2.28, 2.4, 2.5, 2.56, 2.62, 2.66, 2.68, 2.70, 2.71];
        for (m, want) in free.iter().enumerate() {
            assert!((s.expected(m + 1, 15) - want).abs() < 1e-9, "{m}");
        }
        for (m, want) in three.iter().enumerate() {
            assert!((s.expected(m + 1, 2) - want).abs() < 1e-9, "{m}");
        }
        assert_eq!(s.expected(14, 2), f64::NEG_INFINITY, "13 nodes fill three levels");
        assert_eq!(s.shape(16, 2).len(), 13);
    }

    #[test]
    fn the_size_follows_the_hardware() {
        let s = Sequoia::solve(&[0.7, 0.15, 0.05, 0.02], 32, 10).unwrap();
        let t = [10.0, 10.0, 10.0, 12.0, 14.0, 18.0];
        let costs: Vec<(usize, f64)> = [1, 2, 4, 8, 16, 32].into_iter().zip(t).collect();
        let best = s.best_size(&costs, 0.3).unwrap();
        // A full scan says the same.
        let mut want = f64::INFINITY;
        for &(n, t) in &costs {
            for d in 0..=10 {
                if s.expected(n, d).is_finite() {
                    want = want.min((d as f64 * 0.3 + t) / s.expected(n, d));
                }
            }
        }
        assert!((best.time_per_token - want).abs() < 1e-12);
        assert!(best.nodes > 4);
        // Where every node costs as much as a pass, drafting is off.
        let steep: Vec<(usize, f64)> = [1, 2, 4].into_iter().map(|n| (n, n as f64)).collect();
        assert_eq!(s.best_size(&steep, 0.3).unwrap().nodes, 1);
        assert!(s.best_size(&[], 0.3).is_err() && s.best_size(&[(4, f64::NAN)], 0.3).is_err());
    }

    /// Best value of a tree of exactly `m` nodes by trying every split into ordered subtrees.
    fn brute(a: &[f64], m: usize, levels: usize) -> f64 {
        fn forest(a: &[f64], rank: usize, m: usize, levels: usize) -> f64 {
            if m == 0 {
                return 0.0;
            }
            if rank == a.len() || levels == 0 {
                return f64::NEG_INFINITY;
            }
            (1..=m).fold(f64::NEG_INFINITY, |best, first| {
                best.max(a[rank] * brute(a, first, levels) + forest(a, rank + 1, m - first, levels))
            })
        }
        if levels == 0 { f64::NEG_INFINITY } else { 1.0 + forest(a, 0, m - 1, levels - 1) }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn the_programme_is_the_brute_force_best(
            a in prop::collection::vec(0.0f64..0.5, 1..4), levels in 1usize..5, monotone: bool,
        ) {
            let mut a = a;
            if monotone {
                a.sort_by(|x, y| y.total_cmp(x));
            }
            let s = Sequoia::solve(&a, 8, levels - 1).unwrap();
            for m in 1..=8 {
                let want = brute(&a, m, levels);
                let got = s.expected(m, levels - 1);
                prop_assert!(want == got || (want - got).abs() < 1e-12, "{m} {want} {got}");
                let table = vec![a.clone(); levels - 1];
                let shape = s.shape(m, levels - 1);
                let sum: f64 = shape.values(&table).iter().sum();
                let most = (1..=m).map(|m| s.expected(m, levels - 1)).fold(0.0, f64::max);
                prop_assert!((sum - most).abs() < 1e-12);
                if monotone {
                    let heap = Template::from_acceptance(&table, m).unwrap();
                    let sum: f64 = heap.values(&table).iter().sum();
                    prop_assert!((sum - most).abs() < 1e-12, "the heap gives the same optimum");
                }
            }
        }
    }
}
