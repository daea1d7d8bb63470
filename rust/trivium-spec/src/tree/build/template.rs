//! Fixed shapes: which rank of its parent's candidates each node is.
//!
//! A template is built once; from step to step only tokens change. Medusa writes one as a list of
//! rank paths ("choices"). From a table of acceptance `a[depth][rank]` (the probability that the
//! child of that rank is the accepted one, given its parent is) the best template of n nodes is the
//! n largest products along paths: a child's value never exceeds its parent's, and with rows of the
//! table non-increasing a heap finds them in O(n log n). Rows that are not monotone are served by
//! pushing all ranks of a node at once.

use super::{DraftTree, budget};
use crate::tree::Role;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use trivium_core::TokenId;
use trivium_core::error::{Error, Result};

/// A shape in topological order, node 0 first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parents: Vec<i32>,
    ranks: Vec<u16>,
    depths: Vec<u16>,
}

/// A node that a heap could add.
#[derive(PartialEq)]
struct Open {
    value: f64,
    parent: usize,
    rank: u16,
}

impl Eq for Open {}

impl Ord for Open {
    fn cmp(&self, other: &Self) -> Ordering {
        self.value
            .total_cmp(&other.value)
            .then_with(|| (other.parent, other.rank).cmp(&(self.parent, self.rank)))
    }
}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Checks a probability of a table.
pub(crate) fn probability(what: &'static str, x: f64) -> Result<f64> {
    if (0.0..=1.0).contains(&x) {
        Ok(x)
    } else {
        Err(Error::input(what, format!("{x} is no probability")))
    }
}

impl Template {
    /// Node 0 alone.
    pub fn root() -> Self {
        Self { parents: vec![-1], ranks: vec![0], depths: vec![0] }
    }

    /// A shape from arrays: the parent and the rank of each node, node 0 first (parent -1, any rank).
    ///
    /// # Errors
    /// `InvalidInput` for parents out of order or siblings of one rank.
    pub fn new(parents: &[i32], ranks: &[u16]) -> Result<Self> {
        budget("template", parents.len(), 1)?;
        if ranks.len() != parents.len() || parents[0] != -1 {
            return Err(Error::input("template", "needs one parent and rank a node, node 0 first"));
        }
        let mut out = Self::root();
        let mut seen = rustc_hash::FxHashSet::default();
        for (i, (&p, &r)) in parents.iter().zip(ranks).enumerate().skip(1) {
            if p < 0 || p as usize >= i || !seen.insert((p, r)) {
                return Err(Error::input(
                    "template",
                    format!("node {i}: parent {p}, rank {r}; parents come first, ranks once"),
                ));
            }
            out.add(p as usize, r);
        }
        Ok(out)
    }

    fn add(&mut self, parent: usize, rank: u16) -> usize {
        self.parents.push(parent as i32);
        self.ranks.push(rank);
        self.depths.push(self.depths[parent] + 1);
        self.parents.len() - 1
    }

    /// Medusa's form: rank paths from the root, in any order; every prefix of a path is a path too.
    ///
    /// # Errors
    /// `InvalidInput` for a path whose prefix is missing, an empty or repeated path.
    pub fn from_choices(choices: &[Vec<u16>]) -> Result<Self> {
        budget("choices", choices.len() + 1, 1)?;
        let mut sorted: Vec<&Vec<u16>> = choices.iter().collect();
        sorted.sort_by(|a, b| a.len().cmp(&b.len()).then(a.cmp(b)));
        let mut out = Self::root();
        let mut at = rustc_hash::FxHashMap::default();
        at.insert(&[][..], 0);
        for path in sorted {
            let Some((&rank, prefix)) = path.split_last() else {
                return Err(Error::input("choices", "holds an empty path; node 0 is implied"));
            };
            let Some(&parent) = at.get(prefix) else {
                return Err(Error::input("choices", format!("{path:?} has no node {prefix:?}")));
            };
            let node = out.add(parent, rank);
            if at.insert(&path[..], node).is_some() {
                return Err(Error::input("choices", format!("{path:?} is there twice")));
            }
        }
        Ok(out)
    }

    /// `n` drafted nodes in a row.
    ///
    /// # Errors
    /// `InvalidInput` beyond the node limit.
    pub fn chain(n: usize) -> Result<Self> {
        Self::cartesian(&vec![1; n])
    }

    /// Every combination of the first `widths[level]` ranks.
    ///
    /// # Errors
    /// `InvalidInput` beyond the node limit.
    pub fn cartesian(widths: &[usize]) -> Result<Self> {
        let mut out = Self::root();
        let mut level = vec![0];
        for &w in widths {
            budget("widths", out.len() + level.len().saturating_mul(w), 1)?;
            let mut next = Vec::with_capacity(level.len() * w);
            for parent in level {
                next.extend((0..w).map(|r| out.add(parent, r as u16)));
            }
            level = next;
        }
        Ok(out)
    }

    /// A shape from the number of children of each node, breadth first, as Token Recycling lists
    /// its 81; the sum of the counts is the number of drafted nodes.
    ///
    /// # Errors
    /// `InvalidInput` if a count has no node or the limit is passed.
    pub fn from_child_counts(counts: &[usize]) -> Result<Self> {
        let mut out = Self::root();
        for (node, &n) in counts.iter().enumerate() {
            if n > 0 && node >= out.len() {
                return Err(Error::input("counts", format!("entry {node} has no node")));
            }
            budget("counts", out.len() + n, 1)?;
            for r in 0..n {
                out.add(node, r as u16);
            }
        }
        Ok(out)
    }

    /// The best shape of `max_nodes` nodes (node 0 counted) for a table of acceptance: row `d` is
    /// for children of depth `d + 1`, and no node is deeper than the table.
    ///
    /// # Errors
    /// `InvalidInput` for entries that are no probabilities or a budget out of range.
    pub fn from_acceptance(table: &[Vec<f64>], max_nodes: usize) -> Result<Self> {
        budget("max_nodes", max_nodes, 1)?;
        for row in table {
            row.iter().try_for_each(|&x| probability("acceptance", x).map(drop))?;
        }
        let mut out = Self::root();
        let mut heap = BinaryHeap::new();
        let push = |heap: &mut BinaryHeap<Open>, parent: usize, depth: usize, value: f64| {
            for (rank, &a) in table.get(depth).map_or(&[][..], |r| r).iter().enumerate() {
                if value * a > 0.0 {
                    heap.push(Open { value: value * a, parent, rank: rank as u16 });
                }
            }
        };
        push(&mut heap, 0, 0, 1.0);
        while out.len() < max_nodes {
            let Some(Open { value, parent, rank }) = heap.pop() else { break };
            let node = out.add(parent, rank);
            push(&mut heap, node, usize::from(out.depths[node]), value);
        }
        Ok(out)
    }

    /// Number of nodes, node 0 counted.
    pub fn len(&self) -> usize {
        self.parents.len()
    }

    /// Never true: node 0 is there.
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }

    /// Parent of each node.
    pub fn parents(&self) -> &[i32] {
        &self.parents
    }

    /// Rank of each node among its parent's candidates, 0 the best.
    pub fn ranks(&self) -> &[u16] {
        &self.ranks
    }

    /// Depth of each node.
    pub fn depths(&self) -> &[u16] {
        &self.depths
    }

    /// Nodes of each depth.
    pub fn level_sizes(&self) -> Vec<usize> {
        let mut out = Vec::new();
        for &d in &self.depths {
            let d = usize::from(d);
            out.resize(out.len().max(d + 1), 0);
            out[d] += 1;
        }
        out
    }

    /// Value of each node under a table of acceptance: the product along its path.
    pub fn values(&self, table: &[Vec<f64>]) -> Vec<f64> {
        let mut out = vec![1.0; self.len()];
        for i in 1..self.len() {
            let depth = usize::from(self.depths[i]) - 1;
            let a = table.get(depth).and_then(|r| r.get(usize::from(self.ranks[i])));
            out[i] = out[self.parents[i] as usize] * a.copied().unwrap_or(0.0);
        }
        out
    }

    /// Children of each node as (node, rank), in order.
    pub(crate) fn children(&self) -> Vec<Vec<(usize, u16)>> {
        let mut out = vec![Vec::new(); self.len()];
        for i in 1..self.len() {
            out[self.parents[i] as usize].push((i, self.ranks[i]));
        }
        out
    }

    /// Fills the shape where all nodes of a level share a ranking, as Medusa's heads do: row `d` is
    /// for depth `d + 1`, best first. Nodes whose rank the ranking does not reach are left out with
    /// everything below them.
    pub fn by_level(&self, last: TokenId, levels: &[Vec<TokenId>]) -> DraftTree {
        let mut out = DraftTree::root(last);
        let mut at = vec![-1; self.len()];
        at[0] = 0;
        for i in 1..self.len() {
            let level = levels.get(usize::from(self.depths[i]) - 1);
            let token = level.and_then(|l| l.get(usize::from(self.ranks[i])));
            if let (Some(&t), Ok(parent)) = (token, usize::try_from(at[self.parents[i] as usize])) {
                at[i] = out.add(parent, t, 1.0, Role::Chosen) as i32;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn choices_become_a_shape() {
        let c = |p: &[u16]| p.to_vec();
        let t = Template::from_choices(&[c(&[0, 1]), c(&[1]), c(&[0]), c(&[0, 0])]).unwrap();
        assert_eq!(t.parents(), [-1, 0, 0, 1, 1]);
        assert_eq!(t.ranks(), [0, 0, 1, 0, 1]);
        assert_eq!(t.level_sizes(), [1, 2, 2]);
        for bad in [vec![c(&[0, 1])], vec![c(&[])], vec![c(&[0]), c(&[0])]] {
            assert!(Template::from_choices(&bad).is_err());
        }
    }

    /// The Cartesian template against explicit nested loops.
    #[test]
    fn cartesian_is_the_nested_loop() {
        let t = Template::cartesian(&[2, 3]).unwrap();
        let levels = vec![vec![10, 11], vec![20, 21, 22]];
        let tree = t.by_level(5, &levels);
        let mut want = Vec::new();
        for a in &levels[0] {
            want.push(vec![*a]);
        }
        for a in &levels[0] {
            for b in &levels[1] {
                want.push(vec![*a, *b]);
            }
        }
        let got: Vec<_> = (1..tree.len()).map(|n| tree.path(n)).collect();
        assert_eq!(got, want);
        // A ranking that is too short loses nodes and all below them.
        assert_eq!(t.by_level(5, &[vec![10], vec![20]]).len(), 3);
        assert_eq!(Template::chain(3).unwrap().parents(), [-1, 0, 1, 2]);
        assert!(Template::cartesian(&[5000]).is_err());
    }

    /// Token Recycling's published template: its child counts, breadth first, and level sizes.
    #[test]
    fn golden_child_counts() {
        let counts = [
            &[8][..],
            &[8, 4, 3, 2, 1, 1, 1, 1],
            &[8, 3, 2, 1, 1, 1, 1, 1, 2, 1, 0, 0, 1, 0, 0, 1, 0, 1, 1, 0, 0],
            &[5, 2, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0],
            &[3, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0],
            &[2, 0, 0, 1, 0, 0, 0, 0],
            &[0, 0, 0],
        ]
        .concat();
        assert_eq!(counts.len(), 81);
        let t = Template::from_child_counts(&counts).unwrap();
        assert_eq!(t.level_sizes(), [1, 8, 21, 25, 15, 8, 3]);
        assert_eq!((1..t.len()).filter(|n| !t.parents.contains(&(*n as i32))).count(), 40);
        assert!(Template::from_child_counts(&[1, 0, 1]).is_err());
    }

    /// All shapes of at most `n` nodes over `ranks` ranks and `depth` levels, by growth.
    fn shapes(n: usize, ranks: u16, depth: u16) -> Vec<Template> {
        let mut all = vec![Template::root()];
        let mut from = 0;
        for _ in 1..n {
            let end = all.len();
            for i in from..end {
                let t = all[i].clone();
                for parent in 0..t.len() {
                    for rank in 0..ranks {
                        // One order of insertion a set of nodes.
                        let key = |p: i32, r: u16| (p, r);
                        let last = key(t.parents[t.len() - 1], t.ranks[t.len() - 1]);
                        let new = key(parent as i32, rank);
                        if t.depths[parent] < depth && (t.len() == 1 || new > last) {
                            let mut t = t.clone();
                            t.add(parent, rank);
                            all.push(t);
                        }
                    }
                }
            }
            from = end;
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn the_heap_finds_the_best_shape(
            table in prop::collection::vec(prop::collection::vec(0.0f64..0.6, 1..4), 1..4),
            n in 1usize..6,
        ) {
            let sum = |t: &Template| t.values(&table).iter().sum::<f64>();
            let got = Template::from_acceptance(&table, n).unwrap();
            let best = shapes(n, 3, 3).iter().map(sum).fold(0.0, f64::max);
            prop_assert!((sum(&got) - best).abs() < 1e-12, "{} {best}", sum(&got));
        }
    }
}
