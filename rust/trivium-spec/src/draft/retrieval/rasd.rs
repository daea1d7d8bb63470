//! RASD: retrieved continuations, pruned by a draft model and fused with its tree.
//!
//! 1. *Prune*: the draft model's law of the first token is known; a retrieved branch whose first
//!    token is not among its `top` most likely, or below `floor`, is dropped.
//! 2. *Score*: what is left is scored on the scale of the draft tree, the probability that the whole
//!    path is accepted: `q(first) * count(path) / count(first)`.
//! 3. *Fuse by longest prefix*: from the root, walk while tokens coincide and hang the rest below
//!    the deepest common node. One node carries one token; the better score stays.
//! 4. Keep the `budget` nodes of highest score; ancestors never score below descendants.
//!
//! "RASD: Retrieval-Augmented Speculative Decoding". Retrieved nodes are point masses: with a
//! draft tree of most likely tokens the fused tree is one, and every verifier of point masses is
//! lossless. Drawn draft trees keep their drawn nodes whole ([`fuse`] never drops a node of the
//! draft tree), and verification by the mixed rule.

use trivium_core::TokenId;

/// A trie with counts; node 0 is the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retrieved {
    /// Token of each node; the root's is 0.
    pub tokens: Vec<TokenId>,
    /// Parent of each node; the root's is 0.
    pub parents: Vec<u32>,
    /// How often each node's path was seen.
    pub counts: Vec<u32>,
    /// How often the root was.
    pub total: u32,
}

impl Default for Retrieved {
    fn default() -> Self {
        Self { tokens: vec![0], parents: vec![0], counts: vec![0], total: 0 }
    }
}

impl Retrieved {
    /// Nodes below the root.
    pub fn len(&self) -> usize {
        self.tokens.len() - 1
    }

    /// Whether nothing was retrieved.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a node; parents first.
    pub fn push(&mut self, parent: u32, token: TokenId, count: u32) -> u32 {
        self.tokens.push(token);
        self.parents.push(parent);
        self.counts.push(count);
        self.tokens.len() as u32 - 1
    }

    /// Tokens from below the root down to a node.
    pub fn path(&self, mut node: usize) -> Vec<TokenId> {
        let mut path = Vec::new();
        while node != 0 {
            path.push(self.tokens[node]);
            node = self.parents[node] as usize;
        }
        path.reverse();
        path
    }

    /// Child of the root above (or at) a node.
    fn first(&self, mut node: usize) -> usize {
        while self.parents[node] != 0 {
            node = self.parents[node] as usize;
        }
        node
    }
}

/// A tree with scores; node 0 is the root.
#[derive(Debug, Clone, PartialEq)]
pub struct Fused {
    /// Token of each node.
    pub tokens: Vec<TokenId>,
    /// Parent of each node, -1 for the root; parents come first.
    pub parents: Vec<i32>,
    /// Probability that the path to the node is accepted.
    pub scores: Vec<f32>,
    /// Whether the node stands in the draft tree.
    pub drafted: Vec<bool>,
}

impl Fused {
    /// A draft tree as it is.
    pub fn new(tokens: &[TokenId], parents: &[i32], scores: &[f32]) -> Self {
        Self {
            tokens: tokens.to_vec(),
            parents: parents.to_vec(),
            scores: scores.to_vec(),
            drafted: vec![true; tokens.len()],
        }
    }

    fn child(&self, node: usize, token: TokenId) -> Option<usize> {
        (node + 1..self.tokens.len())
            .find(|&c| self.parents[c] == node as i32 && self.tokens[c] == token)
    }
}

/// Drops branches that the draft model does not expect and scores the others: (path, score),
/// parents first. `q` is the draft model's law at the root.
pub fn prune(found: &Retrieved, q: &[f32], top: usize, floor: f32) -> Vec<(Vec<TokenId>, f32)> {
    let likely = |t: TokenId| {
        let p = q.get(t as usize).copied().unwrap_or(0.0);
        let better = q.iter().filter(|x| **x > p).count();
        (p > 0.0 && p >= floor && better < top).then_some(p)
    };
    (1..=found.len())
        .filter_map(|node| {
            let first = found.first(node);
            let p = likely(found.tokens[first])?;
            let share = found.counts[node] as f32 / found.counts[first].max(1) as f32;
            Some((found.path(node), p * share))
        })
        .collect()
}

/// Hangs paths into a tree and keeps the draft tree and the best of the rest: at most `budget`
/// nodes, root counted, unless the draft tree alone has more.
pub fn fuse(draft: &Fused, paths: &[(Vec<TokenId>, f32)], budget: usize) -> Fused {
    let mut all = draft.clone();
    for (path, score) in paths {
        let mut at = 0;
        for (depth, &token) in path.iter().enumerate() {
            at = if let Some(c) = all.child(at, token) {
                c
            } else {
                all.tokens.push(token);
                all.parents.push(at as i32);
                all.scores.push(0.0);
                all.drafted.push(false);
                all.tokens.len() - 1
            };
            if depth + 1 == path.len() || all.scores[at] < *score {
                all.scores[at] = all.scores[at].max(*score);
            }
        }
    }
    // Retrieved nodes by score; on ties the earlier, which is the ancestor.
    let mut extra: Vec<usize> = (0..all.tokens.len()).filter(|&i| !all.drafted[i]).collect();
    extra.sort_by(|&a, &b| all.scores[b].total_cmp(&all.scores[a]).then(a.cmp(&b)));
    let drafted = all.drafted.iter().filter(|d| **d).count();
    extra.truncate(budget.saturating_sub(drafted));
    extra.sort_unstable();
    let keep: Vec<usize> = (0..all.tokens.len())
        .filter(|i| all.drafted[*i] || extra.binary_search(i).is_ok())
        .collect();
    let renumber = |p: i32| {
        usize::try_from(p).ok().and_then(|p| keep.binary_search(&p).ok()).map_or(-1, |i| i as i32)
    };
    Fused {
        tokens: keep.iter().map(|&i| all.tokens[i]).collect(),
        parents: keep.iter().map(|&i| renumber(all.parents[i])).collect(),
        scores: keep.iter().map(|&i| all.scores[i]).collect(),
        drafted: keep.iter().map(|&i| all.drafted[i]).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn paths_of(t: &Fused) -> BTreeSet<Vec<u32>> {
        (1..t.tokens.len())
            .map(|mut n| {
                let mut path = Vec::new();
                while n != 0 {
                    path.push(t.tokens[n]);
                    n = t.parents[n] as usize;
                }
                path.reverse();
                path
            })
            .collect()
    }

    fn root() -> Fused {
        Fused::new(&[9], &[-1], &[1.0])
    }

    fn prefixes(paths: &[(Vec<u32>, f32)]) -> BTreeSet<Vec<u32>> {
        paths.iter().flat_map(|(p, _)| (1..=p.len()).map(|n| p[..n].to_vec())).collect()
    }

    fn paths() -> impl Strategy<Value = Vec<(Vec<u32>, f32)>> {
        prop::collection::vec((prop::collection::vec(0u32..3, 1..5), 0.01f32..1.0), 0..8)
    }

    proptest! {
        /// Nodes are the union of the paths, fusing twice is fusing once, order does not matter,
        /// parents come first, and what is kept scores at least what is dropped.
        #[test]
        fn fusion_is_a_union(a in paths(), b in paths(), budget in 1usize..20) {
            let ab = fuse(&fuse(&root(), &a, 1000), &b, 1000);
            let ba = fuse(&fuse(&root(), &b, 1000), &a, 1000);
            let want: BTreeSet<_> = prefixes(&a).union(&prefixes(&b)).cloned().collect();
            prop_assert_eq!(&paths_of(&ab), &want);
            prop_assert_eq!(&paths_of(&ba), &want);
            prop_assert_eq!(paths_of(&fuse(&ab, &b, 1000)), want);
            for t in [&ab, &ba] {
                prop_assert!((1..t.tokens.len()).all(|n| (t.parents[n] as usize) < n));
            }
            let both = [a, b].concat();
            let whole = fuse(&root(), &both, 1000);
            let cut = fuse(&root(), &both, budget);
            prop_assert_eq!(cut.tokens.len(), whole.tokens.len().min(budget));
            let kept = paths_of(&cut);
            prop_assert!(kept.is_subset(&paths_of(&whole)));
            prop_assert!((1..cut.tokens.len()).all(|n| (cut.parents[n] as usize) < n));
            let mut scores: Vec<f32> = whole.scores[1..].to_vec();
            scores.sort_by(|x, y| y.total_cmp(x));
            let mut have: Vec<f32> = cut.scores[1..].to_vec();
            have.sort_by(|x, y| y.total_cmp(x));
            prop_assert_eq!(&have[..], &scores[..have.len()]);
        }
    }

    #[test]
    fn pruning_asks_the_draft_model_and_the_draft_tree_stays_whole() {
        let mut found = Retrieved { total: 10, ..Retrieved::default() };
        let one = found.push(0, 1, 6);
        found.push(one, 2, 3);
        let two = found.push(0, 2, 4);
        found.push(two, 0, 4);
        let q = [0.7, 0.2, 0.1];
        assert_eq!(prune(&found, &q, 2, 0.0), [(vec![1], 0.2), (vec![1, 2], 0.1)]);
        assert_eq!(prune(&found, &q, 3, 0.15).len(), 2);
        assert_eq!(prune(&found, &q, 3, 0.0).len(), 4);
        let draft = Fused::new(&[9, 0, 1], &[-1, 0, 0], &[1.0, 0.7, 0.05]);
        let fused = fuse(&draft, &prune(&found, &q, 2, 0.0), 3);
        assert_eq!(fused.tokens, [9, 0, 1], "no node of the draft tree is dropped");
        assert_eq!(fused.scores[2], 0.2, "the better score stays");
        let fused = fuse(&draft, &prune(&found, &q, 2, 0.0), 4);
        assert_eq!((fused.tokens[3], fused.parents[3], fused.drafted[3]), (2, 2, false));
    }
}
