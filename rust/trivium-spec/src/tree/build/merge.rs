//! Trees laid over each other: RASD's pruning and fusion, hybrid trees of several sources.
//!
//! ```text
//! prune:  of a retrieved tree keep the branches whose first token is among the drafter's top k;
//!         score = score times q(first token)
//! merge:  one trie keyed by (parent, token); a path walks down while tokens agree and hangs the
//!         rest below; score of a shared node = max, or 1 - Π (1 - s); then children never above
//!         parents
//! cut:    the best nodes, closed under parents; drawn nodes are never cut
//! ```
//!
//! "RASD: Retrieval-Augmented Speculative Decoding". If every node was chosen the merged tree is a
//! tree of point masses. A node that one side drew stays drawn, whoever else names it, and stays:
//! the rule of mixed trees tests drawn siblings first and then walks to any child, so chosen ones
//! may come and go by anything already drawn. What would break it: cutting a drawn node by its
//! score, or testing a retrieved one against `q`.

use super::{Builder, DraftTree};
use crate::tree::Role;
use crate::tree::laws::most_likely;
use crate::verify::Row;
use trivium_core::TokenId;
use trivium_core::error::{Error, Result};

/// Score of a node that both trees name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Agreement {
    /// The larger one.
    #[default]
    Max,
    /// `1 - (1 - a)(1 - b)`: as if independent.
    NoisyOr,
}

/// RASD's pruning: keeps the branches of a retrieved tree whose first token is among the `top_k`
/// most likely of the drafter's row at node 0, and multiplies their scores with its probability.
///
/// # Errors
/// `InvalidInput` if a root child lies outside the row, or the tree holds drawn nodes.
pub fn prune_by_draft(retrieved: &DraftTree, q: Row<'_>, top_k: usize) -> Result<DraftTree> {
    if retrieved.roles.contains(&Role::Drawn) {
        return Err(Error::unsupported(
            "pruning by the drafter's row",
            "a tree with drawn nodes",
            "dropping a drawn token by what it is would bias the text; prune before drawing",
        ));
    }
    let mut top = Vec::new();
    most_likely(q.weights(), top_k, &mut top);
    let mut branch = vec![0usize; retrieved.len()];
    let mut keep = vec![0];
    for n in 1..retrieved.len() {
        let parent = retrieved.parents[n] as usize;
        branch[n] = if parent == 0 { n } else { branch[parent] };
        let first = retrieved.tokens[branch[n]];
        if first as usize >= q.weights().len() {
            return Err(Error::OutOfVocabulary {
                token: i64::from(first),
                vocab: q.weights().len(),
            });
        }
        if top.contains(&first) {
            keep.push(n);
        }
    }
    let mut out = retrieved.select(&keep);
    for (at, &n) in keep.iter().enumerate().skip(1) {
        out.values[at] *= q.at(retrieved.tokens[branch[n]]);
    }
    Ok(out)
}

/// What a merged tree is, by what the base was built with.
///
/// # Errors
/// `Unsupported` for bases whose drawn siblings are neither alone nor drawn without replacement: the
/// rule of mixed trees does not fit them.
pub fn merged_kind(base: Builder) -> Result<Builder> {
    match base {
        Builder::Chain | Builder::RsdC | Builder::DySpec | Builder::RsdS | Builder::RasdDrawn => {
            Ok(Builder::RasdDrawn)
        }
        b if !b.law().is_sampled() => Ok(Builder::Rasd),
        b => Err(Error::unsupported(
            format!("merging into a tree of builder {:?}", b.name()),
            format!("drafts of law {:?}", b.law().name()),
            "merge into chosen trees, or into draws without replacement (rsd_c, rsd_s, dyspec, chain)",
        )),
    }
}

/// Lays `over` onto `base` below one node 0 and keeps the best `max_nodes` (node 0 counted), every
/// drawn node among them whatever its score. The rows of `base` keep their numbers; nodes of `over`
/// have none. O((n + m) log(n + m)).
///
/// # Errors
/// `InvalidInput` if the trees hang off different tokens, if `over` holds drawn nodes, or if the
/// drawn nodes alone pass the budget.
pub fn merge(
    base: &DraftTree,
    over: &DraftTree,
    agreement: Agreement,
    max_nodes: usize,
) -> Result<DraftTree> {
    super::budget("max_nodes", max_nodes, 1)?;
    if base.tokens[0] != over.tokens[0] {
        return Err(Error::input(
            "trees",
            format!("hang off tokens {} and {}", base.tokens[0], over.tokens[0]),
        ));
    }
    if over.roles.contains(&Role::Drawn) {
        return Err(Error::input(
            "over",
            "holds drawn nodes; draw one tree and lay stores over it",
        ));
    }
    let mut out = base.clone();
    let mut at: rustc_hash::FxHashMap<(usize, TokenId), usize> =
        (1..base.len()).map(|n| ((base.parents[n] as usize, base.tokens[n]), n)).collect();
    let mut place = vec![0; over.len()];
    for n in 1..over.len() {
        let parent = place[over.parents[n] as usize];
        let node = *at.entry((parent, over.tokens[n])).or_insert_with(|| {
            let node = out.add(parent, over.tokens[n], 1.0, Role::Chosen);
            out.values[node] = 0.0;
            node
        });
        // Against a score of 0 either rule gives the other's.
        let (a, b) = (out.values[node], over.values[n]);
        out.values[node] = match agreement {
            Agreement::Max => a.max(b),
            Agreement::NoisyOr => 1.0 - (1.0 - a) * (1.0 - b),
        };
        place[n] = node;
    }
    for n in 1..out.len() {
        out.values[n] = out.values[n].min(out.values[out.parents[n] as usize]);
    }
    // Drawn nodes and their ancestors stay.
    let mut stays = vec![false; out.len()];
    stays[0] = true;
    for n in (1..out.len()).rev() {
        stays[n] |= out.roles[n] == Role::Drawn;
        if stays[n] {
            stays[out.parents[n] as usize] = true;
        }
    }
    let fixed = stays.iter().filter(|s| **s).count();
    if fixed > max_nodes {
        return Err(Error::input(
            "max_nodes",
            format!("{max_nodes} nodes, but {fixed} were drawn and must stay"),
        ));
    }
    let mut order: Vec<usize> = (0..out.len()).filter(|&n| !stays[n]).collect();
    order.sort_by(|&a, &b| out.values[b].total_cmp(&out.values[a]).then(a.cmp(&b)));
    let mut keep: Vec<usize> = (0..out.len()).filter(|&n| stays[n]).collect();
    // A parent comes earlier and is worth no less: a prefix of the order is closed.
    keep.extend(order.into_iter().take(max_nodes - fixed));
    keep.sort_unstable();
    Ok(out.select(&keep))
}

#[cfg(test)]
mod tests {
    use super::super::beam::tests::paths;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn tree(parents: &[(usize, u32, f64)]) -> DraftTree {
        let mut t = DraftTree::root(9);
        for &(p, token, value) in parents {
            let p = p.min(t.len() - 1);
            let twin = (1..t.len()).any(|n| t.parents[n] as usize == p && t.tokens[n] == token);
            if !twin {
                t.add(p, token, value, Role::Chosen);
            }
        }
        t
    }

    fn sets(t: &DraftTree) -> BTreeSet<Vec<u32>> {
        paths(t).into_iter().collect()
    }

    proptest! {
        #[test]
        fn merging_is_the_union(
            a in prop::collection::vec((0usize..6, 0u32..3, 0.0f64..1.0), 0..8),
            b in prop::collection::vec((0usize..6, 0u32..3, 0.0f64..1.0), 0..8),
            or: bool,
        ) {
            let (a, b) = (tree(&a), tree(&b));
            let rule = if or { Agreement::NoisyOr } else { Agreement::Max };
            let ab = merge(&a, &b, rule, 100).unwrap();
            let ba = merge(&b, &a, rule, 100).unwrap();
            let union: BTreeSet<_> = sets(&a).union(&sets(&b)).cloned().collect();
            prop_assert_eq!(&sets(&ab), &union);
            prop_assert_eq!(&sets(&ba), &union, "commutative up to order");
            prop_assert_eq!(sets(&merge(&a, &a, rule, 100).unwrap()), sets(&a), "idempotent");
            for n in 1..ab.len() {
                prop_assert!((ab.parents[n] as usize) < n);
                prop_assert!(ab.values[n] <= ab.values[ab.parents[n] as usize]);
            }
            // The cut keeps the best, brute force: the n largest values.
            for n in 1..=ab.len() {
                let cut = merge(&a, &b, rule, n).unwrap();
                let mut v = ab.values.clone();
                v.sort_by(|x, y| y.total_cmp(x));
                let want: f64 = v.iter().take(n).sum();
                prop_assert!(cut.len() == n && (cut.expected() - want).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn bases_that_no_rule_fits_are_refused() {
        use super::super::BUILDERS;
        for b in BUILDERS {
            match merged_kind(b) {
                Ok(k) => assert_eq!(k == Builder::Rasd, !b.law().is_sampled()),
                Err(e) => assert!(e.to_string().contains(b.name())),
            }
        }
        assert!(merged_kind(Builder::IidPaths).is_err() && merged_kind(Builder::Sequoia).is_err());
    }

    #[test]
    fn drawn_nodes_stay_and_win() {
        let mut drawn = DraftTree::root(9);
        drawn.add(0, 1, 0.001, Role::Drawn);
        let store = tree(&[(0, 1, 0.9), (0, 2, 0.8), (1, 3, 0.7)]);
        let m = merge(&drawn, &store, Agreement::Max, 2).unwrap();
        assert_eq!((m.tokens, m.roles), (vec![9, 1], vec![Role::Chosen, Role::Drawn]));
        let m = merge(&drawn, &store, Agreement::Max, 3).unwrap();
        assert_eq!(m.tokens, [9, 1, 2]);
        assert!(merge(&drawn, &store, Agreement::Max, 1).is_err());
        assert!(merge(&store, &drawn, Agreement::Max, 9).is_err());
        let q = [0.1f32, 0.2, 0.7];
        assert!(prune_by_draft(&drawn, Row::of(&q), 1).is_err());
    }

    #[test]
    fn retrieved_branches_outside_the_top_go() {
        let store = tree(&[(0, 1, 0.9), (0, 2, 0.8), (1, 0, 0.7), (2, 2, 0.5)]);
        let q = [0.1f32, 0.2, 0.7];
        let got = prune_by_draft(&store, Row::of(&q), 1).unwrap();
        assert_eq!(paths(&got), [vec![], vec![2], vec![2, 2]]);
        assert!((got.values[1] - 0.56).abs() < 1e-6 && (got.values[2] - 0.35).abs() < 1e-6);
        assert_eq!(prune_by_draft(&store, Row::of(&q), 3).unwrap().len(), 5);
    }
}
