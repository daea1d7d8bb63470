//! Builders under enumeration: their trees over a pair of laws, verified, against the target law.

use crate::check::{START, extend, target};
use crate::enumerate::{Enumerator, law_of, total_variation};
use crate::pairs::Pair;
use trivium_core::{Chance, Purpose, TokenId};
use trivium_spec::tree::build::{DraftTree, TreeBuilder};
use trivium_spec::tree::{DraftLaw, Role};
use trivium_spec::verify::{ProbRows, Tree, Verifier, Work, verify_tree};

/// Runs a builder to its end on the drafter of a pair.
///
/// # Panics
/// If it refuses a row.
pub fn grow(builder: &mut dyn TreeBuilder, pair: &Pair, chance: &mut dyn Chance) -> DraftTree {
    while !builder.frontier().is_empty() {
        let rows: Vec<f32> = builder
            .frontier()
            .iter()
            .flat_map(|&n| pair.rows(&builder.tree().path(n)).1.to_vec())
            .collect();
        builder.push(&rows, chance).unwrap_or_else(|e| panic!("{e}"));
    }
    builder.finish()
}

/// Total variation to the target law of the text that `verifier` makes of the trees of `draft`,
/// over every outcome of drafting and verifying; and the expected number of accepted drafts.
///
/// # Panics
/// If the verifier refuses a tree.
pub fn distance(
    pair: &Pair,
    law: DraftLaw,
    verifier: Verifier,
    draft: &dyn Fn(&mut Enumerator) -> DraftTree,
) -> (f64, f64) {
    let mut work = Work::default();
    let mut deepest = 0;
    let outcomes = law_of(|chance| {
        let tree = draft(chance);
        let (mut p, mut q) = (Vec::new(), Vec::new());
        for n in 0..tree.len() {
            let (a, b) = pair.rows(&tree.path(n));
            p.extend_from_slice(&a);
            q.extend_from_slice(&b);
        }
        deepest = deepest.max(tree.depths.iter().copied().max().unwrap_or(0));
        let view = Tree {
            tokens: &tree.tokens,
            parents: &tree.parents,
            roles: if law == DraftLaw::Mixed { &tree.roles } else { &[] },
            law,
            start: START,
            bonus: true,
        };
        let walk = ProbRows::weights(&p, Some(&q), pair.vocab)
            .and_then(|mut rows| verify_tree(verifier, &view, &mut rows, chance, &mut work))
            .unwrap_or_else(|e| panic!("{verifier:?} {law:?}: {e}"));
        (walk.tokens, walk.nodes.len())
    });
    let accepted = outcomes.iter().map(|((_, n), m)| *n as f64 * m).sum();
    let mut texts = crate::Law::new();
    for ((text, _), m) in outcomes {
        *texts.entry(text).or_insert(0.0) += m;
    }
    let len = usize::from(deepest) + 1;
    (total_variation(&target(pair, len), &extend(pair, texts, len)), accepted)
}

/// RSD-S by another road with the same law: whole sequences of `depth` tokens drawn from `q` one
/// after the other without replacement; each level keeps the first `width` distinct prefixes, in
/// order of appearance.
pub fn stochastic_beam(
    pair: &Pair,
    width: usize,
    depth: usize,
    chance: &mut dyn Chance,
) -> DraftTree {
    let mut rest: Vec<(Vec<TokenId>, f64)> = vec![(Vec::new(), 1.0)];
    for _ in 0..depth {
        rest = rest
            .iter()
            .flat_map(|(path, m)| {
                let q = pair.q(path);
                (0..pair.vocab)
                    .filter(|&t| q[t] > 0.0)
                    .map(|t| ([&path[..], &[t as TokenId]].concat(), m * q[t]))
                    .collect::<Vec<_>>()
            })
            .collect();
    }
    // How many prefixes each level can have at all: children of kept prefixes only.
    let mut beams: Vec<Vec<Vec<TokenId>>> = vec![Vec::new(); depth + 1];
    beams[0].push(Vec::new());
    let full = |beams: &[Vec<Vec<TokenId>>], rest: &[(Vec<TokenId>, f64)]| {
        (1..=depth).all(|d| {
            beams[d].len() == width
                || rest.iter().all(|(s, _)| {
                    beams[d].contains(&s[..d].to_vec())
                        || !beams[d - 1].contains(&s[..d - 1].to_vec())
                })
        })
    };
    while !rest.is_empty() && !full(&beams, &rest) {
        let weights: Vec<f64> = rest.iter().map(|x| x.1).collect();
        let (path, _) = rest.remove(chance.categorical(START, Purpose::Draft, &weights));
        for d in 1..=depth {
            // A level holds children of the level above.
            let new = path[..d].to_vec();
            if beams[d].len() < width
                && beams[d - 1].contains(&path[..d - 1].to_vec())
                && !beams[d].contains(&new)
            {
                beams[d].push(new);
            }
        }
    }
    let mut tree = DraftTree::root(0);
    let mut place = std::collections::BTreeMap::from([(Vec::new(), 0)]);
    for path in beams.iter().skip(1).flatten() {
        if let Some(&parent) = place.get(&path[..path.len() - 1]) {
            let node = tree.add(parent, path[path.len() - 1], 1.0, Role::Drawn);
            place.insert(path.clone(), node);
        }
    }
    tree
}
