//! Layers of the best nodes by the product of draft probabilities: EAGLE-2, LongSpec, OPT-Tree.
//!
//! ```text
//! value(v) = product of q along the path to v
//! layer:  every kept node of the last layer is expanded by its most likely tokens; the best of the
//!         new layer are kept
//! EAGLE-2   beam of top_k nodes a layer, top_k tokens each; at the end the best nodes of all layers
//! LongSpec  widths[l] nodes in layer l, all of them in the tree
//! OPT-Tree  n nodes a layer, n tokens each; the tree is the best n of all layers; another layer is
//!           asked for while the last one raised the expected tokens by more than δ
//! ```
//!
//! "EAGLE-2: Faster Inference of Language Models with Dynamic Draft Trees"; "LongSpec: Long-Context
//! Lossless Speculative Decoding with Efficient Drafting and Verification" (widths 4 16 16 16 16);
//! "OPT-Tree: Speculative Decoding with Adaptive Draft Tree Structure" (δ = 0.5, depth 10). Tokens
//! are chosen and cut by their own value: point masses with [`Pruning::Identity`], for which
//! sampled-verify is optimal. Ties go to the earlier node, so that parents win and every cut is
//! closed. What would break it: handing these trees to a ratio test against `q`.
//!
//! [`Pruning::Identity`]: crate::tree::Pruning::Identity

use super::{Builder, DraftTree, TreeBuilder, budget, row, sums};
use crate::tree::Role;
use crate::tree::laws::most_likely;
use trivium_core::error::Result;
use trivium_core::{Chance, TokenId};

/// Adds the `width` most likely children of every frontier node; the new nodes.
fn expand(
    tree: &mut DraftTree,
    frontier: &[usize],
    rows: &[f32],
    vocab: usize,
    (width, pushed): (usize, usize),
) -> Result<Vec<usize>> {
    let sums = sums(rows, frontier.len(), vocab)?;
    let mut top = Vec::new();
    let mut new = Vec::new();
    for (i, &node) in frontier.iter().enumerate() {
        let q = row(rows, &sums, vocab, i);
        tree.rows[node] = (pushed + i) as i32;
        most_likely(q.weights(), width, &mut top);
        for &t in &top {
            new.push(tree.add(node, t, tree.values[node] * q.at(t), Role::Chosen));
        }
    }
    Ok(new)
}

/// The `n` best of some nodes, in order of their numbers.
fn best_of(tree: &DraftTree, nodes: &[usize], n: usize) -> Vec<usize> {
    let mut order = nodes.to_vec();
    order.sort_by(|&a, &b| tree.values[b].total_cmp(&tree.values[a]).then(a.cmp(&b)));
    order.truncate(n);
    order.sort_unstable();
    order
}

/// EAGLE-2's beam with its final rerank, or LongSpec's level widths without one.
#[derive(Debug)]
pub struct Beam {
    kind: Builder,
    vocab: usize,
    /// Beam of each layer.
    widths: Vec<usize>,
    /// Children of an expanded node.
    top_k: usize,
    max_nodes: usize,
    tree: DraftTree,
    /// Nodes that some layer kept.
    kept: Vec<bool>,
    frontier: Vec<usize>,
    layer: usize,
    pushed: usize,
}

impl Beam {
    /// EAGLE-2: beam and branching `top_k`, `depth` layers, then the best `max_nodes` (node 0
    /// counted). Published: 10, 7, 61.
    ///
    /// # Errors
    /// `InvalidInput` for budgets out of range.
    pub fn eagle2(
        last: TokenId,
        vocab: usize,
        top_k: usize,
        depth: usize,
        max_nodes: usize,
    ) -> Result<Self> {
        let top_k = budget("top_k", top_k, 1)?;
        budget("max_nodes", max_nodes, 1)?;
        budget("top_k, depth", top_k.saturating_mul(top_k).saturating_mul(depth), 0)?;
        Ok(Self::new(Builder::Eagle2, last, vocab, vec![top_k; depth], top_k, max_nodes))
    }

    /// LongSpec: `widths[l]` nodes in layer `l`, all kept.
    ///
    /// # Errors
    /// `InvalidInput` for budgets out of range.
    pub fn longspec(last: TokenId, vocab: usize, widths: &[usize]) -> Result<Self> {
        let total = widths.iter().fold(1usize, |a, &w| a.saturating_add(w));
        budget("widths", total, 1)?;
        let widest = widths.iter().copied().max().unwrap_or(0);
        Ok(Self::new(Builder::LongSpec, last, vocab, widths.to_vec(), widest, total))
    }

    fn new(
        kind: Builder,
        last: TokenId,
        vocab: usize,
        widths: Vec<usize>,
        top_k: usize,
        max_nodes: usize,
    ) -> Self {
        let frontier = if widths.is_empty() { Vec::new() } else { vec![0] };
        let tree = DraftTree::root(last);
        Self {
            kind,
            vocab,
            widths,
            top_k,
            max_nodes,
            tree,
            kept: vec![true],
            frontier,
            layer: 0,
            pushed: 0,
        }
    }
}

impl TreeBuilder for Beam {
    fn kind(&self) -> Builder {
        self.kind
    }

    fn frontier(&self) -> &[usize] {
        &self.frontier
    }

    fn tree(&self) -> &DraftTree {
        &self.tree
    }

    fn push(&mut self, rows: &[f32], _chance: &mut dyn Chance) -> Result<()> {
        let width = if self.kind == Builder::LongSpec {
            // No more of a node's children than the layer holds.
            self.widths.get(self.layer).copied().unwrap_or(0)
        } else {
            self.top_k
        };
        let at = (width, self.pushed);
        let new = expand(&mut self.tree, &self.frontier, rows, self.vocab, at)?;
        self.pushed += self.frontier.len();
        self.kept.resize(self.tree.len(), false);
        let beam = best_of(&self.tree, &new, self.widths[self.layer]);
        beam.iter().for_each(|&n| self.kept[n] = true);
        self.layer += 1;
        self.frontier = if self.layer < self.widths.len() { beam } else { Vec::new() };
        Ok(())
    }

    fn finish(&self) -> DraftTree {
        if self.kind == Builder::LongSpec {
            let keep: Vec<usize> = (0..self.tree.len()).filter(|&n| self.kept[n]).collect();
            return self.tree.select(&keep);
        }
        self.tree.select(&self.tree.best(self.max_nodes))
    }
}

/// OPT-Tree.
#[derive(Debug)]
pub struct OptTree {
    vocab: usize,
    max_nodes: usize,
    max_depth: usize,
    delta: f64,
    tree: DraftTree,
    frontier: Vec<usize>,
    expected: f64,
    depth: usize,
    pushed: usize,
}

impl OptTree {
    /// Trees of `max_nodes` nodes (node 0 counted) and at most `max_depth` layers; another layer is
    /// asked for while the last raised the expected tokens by more than `delta`. Published: 51 to
    /// 61, 10, 0.5.
    ///
    /// # Errors
    /// `InvalidInput` for budgets out of range or a `delta` that is no number.
    pub fn new(
        last: TokenId,
        vocab: usize,
        max_nodes: usize,
        max_depth: usize,
        delta: f64,
    ) -> Result<Self> {
        budget("max_nodes", max_nodes, 1)?;
        if delta.is_nan() {
            return Err(trivium_core::Error::input("delta", "is not a number"));
        }
        let frontier = if max_nodes > 1 && max_depth > 0 { vec![0] } else { Vec::new() };
        let tree = DraftTree::root(last);
        Ok(Self {
            vocab,
            max_nodes,
            max_depth,
            delta,
            tree,
            frontier,
            expected: 1.0,
            depth: 0,
            pushed: 0,
        })
    }
}

impl TreeBuilder for OptTree {
    fn kind(&self) -> Builder {
        Builder::OptTree
    }

    fn frontier(&self) -> &[usize] {
        &self.frontier
    }

    fn tree(&self) -> &DraftTree {
        &self.tree
    }

    fn push(&mut self, rows: &[f32], _chance: &mut dyn Chance) -> Result<()> {
        let n = self.max_nodes - 1;
        let at = (n, self.pushed);
        let new = expand(&mut self.tree, &self.frontier, rows, self.vocab, at)?;
        self.pushed += self.frontier.len();
        // Nodes of a layer beyond its n best can be in no best set: the layer alone fills it.
        let layer = best_of(&self.tree, &new, n);
        let mut keep: Vec<usize> = (0..new.first().copied().unwrap_or(self.tree.len())).collect();
        keep.extend(&layer);
        self.tree = self.tree.select(&keep);
        let first = self.tree.len() - layer.len();
        self.depth += 1;
        let expected: f64 =
            self.tree.best(self.max_nodes).iter().map(|&v| self.tree.values[v]).sum();
        let gain = expected - self.expected;
        self.expected = expected;
        let more = self.depth < self.max_depth && gain > self.delta;
        self.frontier = if more { (first..self.tree.len()).collect() } else { Vec::new() };
        Ok(())
    }

    fn finish(&self) -> DraftTree {
        self.tree.select(&self.tree.best(self.max_nodes))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::tree::build::Builder;
    use proptest::prelude::*;
    use trivium_core::Keyed;
    use trivium_core::rng::philox;

    /// Draft weights after a path: a hash of it.
    pub(crate) fn toy(seed: u32, vocab: usize, path: &[TokenId]) -> Vec<f32> {
        let key = path.iter().fold([seed, 11], |key, &t| {
            let [a, b, ..] = philox([t, 1, 2, 3], key);
            [a, b]
        });
        let unit = |t: usize| f64::from(philox([t as u32, 4, 5, 6], key)[0]) / 4_294_967_296.0;
        (0..vocab).map(|t| (unit(t).powi(3) + 1e-3) as f32).collect()
    }

    /// Runs a builder on the toy drafter.
    pub(crate) fn run(builder: &mut dyn TreeBuilder, seed: u32, vocab: usize) -> DraftTree {
        let mut chance = Keyed::new(u64::from(seed), 0);
        while !builder.frontier().is_empty() {
            let rows: Vec<f32> = builder
                .frontier()
                .iter()
                .flat_map(|&n| toy(seed, vocab, &builder.tree().path(n)))
                .collect();
            builder.push(&rows, &mut chance).unwrap();
        }
        builder.finish()
    }

    /// Value of a path, multiplied in the order of the builders.
    fn value(seed: u32, vocab: usize, path: &[TokenId]) -> f64 {
        (0..path.len()).fold(1.0, |v, i| {
            let row = toy(seed, vocab, &path[..i]);
            v * crate::verify::Row::of(&row).at(path[i])
        })
    }

    /// Every path up to a depth, with its value, best first.
    pub(crate) fn all_paths(seed: u32, vocab: usize, depth: usize) -> Vec<(f64, Vec<TokenId>)> {
        let mut out: Vec<(f64, Vec<TokenId>)> = vec![(1.0, vec![])];
        let mut from = 0;
        for _ in 0..depth {
            let end = out.len();
            for i in from..end {
                for t in 0..vocab as u32 {
                    let path = [&out[i].1[..], &[t]].concat();
                    out.push((value(seed, vocab, &path), path));
                }
            }
            from = end;
        }
        out.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.len().cmp(&b.1.len())));
        out
    }

    pub(crate) fn paths(tree: &DraftTree) -> Vec<Vec<TokenId>> {
        let mut out: Vec<_> = (0..tree.len()).map(|n| tree.path(n)).collect();
        out.sort();
        out
    }

    /// Best sum over all subsets closed under parents, by exhaustion.
    fn best_closed_sum(all: &[(f64, Vec<TokenId>)], n: usize) -> f64 {
        fn rec(
            all: &[(f64, Vec<TokenId>)],
            i: usize,
            n: usize,
            taken: &mut Vec<Vec<TokenId>>,
        ) -> f64 {
            if n == 0 || i == all.len() {
                return 0.0;
            }
            let without = rec(all, i + 1, n, taken);
            let (v, path) = &all[i];
            if !path.is_empty() && !taken.contains(&path[..path.len() - 1].to_vec()) {
                return without;
            }
            taken.push(path.clone());
            let with = v + rec(all, i + 1, n - 1, taken);
            taken.pop();
            with.max(without)
        }
        rec(all, 0, n, &mut Vec::new())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn opt_tree_is_the_best_closed_set(seed: u32, n in 1usize..9, depth in 1usize..4) {
            let mut b = OptTree::new(0, 3, n, depth, f64::NEG_INFINITY).unwrap();
            let got = run(&mut b, seed, 3);
            let all = all_paths(seed, 3, depth);
            let want: f64 = all.iter().take(n).map(|p| p.0).sum();
            prop_assert!((got.expected() - want).abs() < 1e-12);
            prop_assert_eq!(got.len(), n.min(all.len()));
        }

        #[test]
        fn the_best_closed_set_is_the_best_set(seed: u32, n in 1usize..6) {
            let all = all_paths(seed, 2, 3);
            let want: f64 = all.iter().take(n).map(|p| p.0).sum();
            prop_assert!((best_closed_sum(&all, n) - want).abs() < 1e-12);
        }

        /// EAGLE-2 as its release does it: lists of (score, path), sorted level by level.
        #[test]
        fn eagle2_is_its_slow_twin(seed: u32, k in 1usize..4, depth in 1usize..4, n in 1usize..12) {
            let vocab = 5;
            let got = run(&mut Beam::eagle2(0, vocab, k, depth, n).unwrap(), seed, vocab);
            let mut pool: Vec<(f64, Vec<TokenId>)> = Vec::new();
            let mut beam: Vec<Vec<TokenId>> = vec![vec![]];
            for _ in 0..depth {
                let mut level = Vec::new();
                for path in &beam {
                    let row = toy(seed, vocab, path);
                    let mut ids: Vec<u32> = (0..vocab as u32).collect();
                    ids.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]));
                    for &t in &ids[..k] {
                        let path = [&path[..], &[t]].concat();
                        level.push((value(seed, vocab, &path), path));
                    }
                }
                pool.extend(level.clone());
                level.sort_by(|a, b| b.0.total_cmp(&a.0));
                beam = level.into_iter().take(k).map(|x| x.1).collect();
            }
            pool.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.len().cmp(&b.1.len())));
            let mut want: Vec<_> = pool.into_iter().take(n - 1).map(|x| x.1).collect();
            want.push(vec![]);
            want.sort();
            prop_assert_eq!(paths(&got), want);
        }

        #[test]
        fn longspec_keeps_its_widths(seed: u32) {
            let got = run(&mut Beam::longspec(0, 8, &[4, 6, 6]).unwrap(), seed, 8);
            let mut sizes = [0; 4];
            got.depths.iter().for_each(|&d| sizes[usize::from(d)] += 1);
            prop_assert_eq!(sizes, [1, 4, 6, 6]);
            // Level by level the best of what the kept level above allows.
            for d in 1..4u16 {
                let at = |d: u16| -> Vec<usize> {
                    (0..got.len()).filter(|&n| got.depths[n] == d).collect()
                };
                let worst = at(d).iter().map(|&n| got.values[n]).fold(1.0, f64::min);
                let mut better = 0;
                for parent in at(d - 1) {
                    for t in 0..8 {
                        let path = [&got.path(parent)[..], &[t]].concat();
                        better += usize::from(value(seed, 8, &path) > worst);
                    }
                }
                prop_assert!(better < at(d).len());
            }
        }
    }

    #[test]
    fn ties_go_to_parents_and_gains_stop_layers() {
        // One token has everything: every node has value 1.
        let one = [1.0f32, 0.0, 0.0];
        let mut b = OptTree::new(2, 3, 4, 10, 0.5).unwrap();
        let mut chance = Keyed::new(0, 0);
        while !b.frontier().is_empty() {
            let rows = one.repeat(b.frontier().len());
            b.push(&rows, &mut chance).unwrap();
        }
        let tree = b.finish();
        assert_eq!(tree.parents, [-1, 0, 1, 2]);
        assert_eq!(tree.values, [1.0; 4]);
        // Once three drafted nodes are there, a fourth layer gains nothing and none follows.
        assert_eq!(b.depth, 4);
        assert_eq!(b.kind(), Builder::OptTree);
        // Errors leave the builder as it was.
        let mut b = OptTree::new(2, 3, 4, 10, 0.5).unwrap();
        for bad in [&[1.0f32][..], &[f32::NAN, 1.0, 1.0], &[0.0; 3], &[-1.0, 2.0, 0.0]] {
            assert!(b.push(bad, &mut chance).is_err());
            assert_eq!((b.frontier(), b.tree().len()), (&[0usize][..], 1));
        }
    }
}
