//! Every builder with every verifier that may decide its trees, enumerated; and what happens when a
//! drawn tree is cut as a chosen one may be.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use trivium_core::{Address, TokenId};
use trivium_oracle::check::START;
use trivium_oracle::enumerate::Enumerator;
use trivium_oracle::grown::{distance, grow, stochastic_beam};
use trivium_oracle::pairs::{FAMILIES, Pair};
use trivium_spec::control::ControlSpec;
use trivium_spec::tree::build::dyspec::DySpecOptions;
use trivium_spec::tree::build::{
    Agreement, BUILDERS, Beam, Builder, Chain, DraftTree, DySpec, OptTree, PpdTables, Sequoia,
    StochasticBeam, Template, Templated, TreeBuilder, merge, prune_by_draft,
};
use trivium_spec::tree::{DraftLaw, Role};
use trivium_spec::verify::{Row, VERIFIERS, Verifier};

type Draft<'a> = Box<dyn Fn(&mut Enumerator) -> DraftTree + 'a>;

fn slots(max_nodes: usize, threshold: f64, drawn: bool) -> DySpecOptions {
    DySpecOptions { max_nodes, max_depth: 2, threshold, drawn }
}

/// What a store would retrieve: a fixed tree.
fn retrieved(vocab: usize) -> DraftTree {
    let mut t = DraftTree::root(0);
    let a = t.add(0, 0, 0.6, Role::Chosen);
    t.add(a, (vocab - 1) as TokenId, 0.5, Role::Chosen);
    t.add(0, 1, 0.3, Role::Chosen);
    t
}

/// Small drafts of a builder over a pair.
fn drafts(builder: Builder, pair: &Pair) -> Vec<Draft<'_>> {
    let v = pair.vocab;
    let run = move |mut b: Box<dyn TreeBuilder>, c: &mut Enumerator| grow(&mut *b, pair, c);
    let templated = |kind, shapes: Vec<Template>| -> Vec<Draft<'_>> {
        shapes
            .into_iter()
            .map(|t| -> Draft<'_> {
                Box::new(move |c| run(Box::new(Templated::new(kind, &t, 0, v, START).unwrap()), c))
            })
            .collect()
    };
    let widths = |w: &[usize]| Template::cartesian(w).unwrap();
    let dyspec = |options: Vec<DySpecOptions>| -> Vec<Draft<'_>> {
        options
            .into_iter()
            .map(|o| -> Draft<'_> {
                Box::new(move |c| run(Box::new(DySpec::new(0, v, START, o).unwrap()), c))
            })
            .collect()
    };
    match builder {
        Builder::Chain | Builder::ChainChosen => [
            "fixed:2",
            "kangaroo:0.6",
            "svip:0.3",
            "specdec++:0.5,min=1",
            "disco:0.5",
            "thompson:3",
            "adaptive:3",
        ]
        .into_iter()
        .enumerate()
        .map(|(i, policy)| -> Draft<'_> {
            let control: ControlSpec = policy.parse().unwrap();
            let noise = Address::new(i as u64, START, 0);
            Box::new(move |c| {
                let drawn = builder == Builder::Chain;
                run(Box::new(Chain::new(0, v, 3, noise, drawn, control.build())), c)
            })
        })
        .collect(),
        Builder::Template => templated(
            builder,
            vec![widths(&[2, 1]), Template::from_choices(&[vec![1], vec![0], vec![1, 1]]).unwrap()],
        ),
        Builder::Sequoia => {
            let s = Sequoia::solve(&[0.6, 0.2, 0.1], 5, 2).unwrap();
            templated(builder, vec![widths(&[2]), s.shape(4, 2), widths(&[3])])
        }
        Builder::RsdC => templated(builder, vec![widths(&[2, 1]), widths(&[1, 2])]),
        Builder::IidPaths => templated(builder, vec![widths(&[2, 1]), widths(&[1, 1])]),
        Builder::GreedyPlusOne => templated(builder, vec![widths(&[2, 2]), widths(&[2, 1])]),
        Builder::Ppd => {
            let table = vec![vec![0.6, 0.2], vec![0.5, 0.1]];
            let tables = PpdTables::solve(&table, 8).unwrap();
            let shapes = tables.states.into_iter().map(|s| s.template).collect();
            templated(Builder::Template, shapes)
        }
        Builder::OptTree => {
            vec![Box::new(move |c| run(Box::new(OptTree::new(0, v, 4, 2, 0.0).unwrap()), c))]
        }
        Builder::Eagle2 => {
            vec![Box::new(move |c| run(Box::new(Beam::eagle2(0, v, 2, 2, 4).unwrap()), c))]
        }
        Builder::LongSpec => {
            vec![Box::new(move |c| run(Box::new(Beam::longspec(0, v, &[2, 2]).unwrap()), c))]
        }
        Builder::DySpecChosen => dyspec(vec![slots(4, 0.0, false), slots(9, 0.2, false)]),
        Builder::DySpec => dyspec(vec![
            slots(3, 0.0, true),
            slots(4, 0.0, true),
            slots(5, 0.3, true),
            slots(4, 0.15, true),
        ]),
        Builder::RsdS => {
            vec![Box::new(move |c| stochastic_beam(pair, 2, 2, c))]
        }
        Builder::Rasd => vec![Box::new(move |c| {
            let base = run(Box::new(Beam::eagle2(0, v, 1, 2, 3).unwrap()), c);
            let q = pair.rows(&[]).1;
            let over = prune_by_draft(&retrieved(v), Row::of(&q), 2).unwrap();
            merge(&base, &over, Agreement::Max, 4).unwrap()
        })],
        Builder::RasdDrawn => vec![
            Box::new(move |c| {
                let base = run(Box::new(DySpec::new(0, v, START, slots(3, 0.0, true)).unwrap()), c);
                merge(&base, &retrieved(v), Agreement::NoisyOr, 4).unwrap()
            }),
            Box::new(move |c| {
                let t = Template::cartesian(&[2]).unwrap();
                let base =
                    run(Box::new(Templated::new(Builder::RsdC, &t, 0, v, START).unwrap()), c);
                merge(&base, &retrieved(v), Agreement::Max, 4).unwrap()
            }),
        ],
        // The speculator's own heap is enumerated with its stores in `lossless.rs`.
        Builder::Heap => vec![],
    }
}

/// Whether the verifier takes chains only and the builder makes trees.
fn chains_only(builder: Builder, verifier: Verifier) -> bool {
    !verifier.takes_siblings() && !matches!(builder, Builder::IidPaths | Builder::Chain)
}

#[test]
fn every_legal_pair_of_builder_and_verifier_is_lossless() {
    let (mut cases, mut worst, mut pairs) = (0, 0f64, 0);
    let mut accepted = 0.0;
    for builder in BUILDERS {
        for verifier in VERIFIERS {
            // A race is no enumeration; its text is the plain sampler's (`race.rs`).
            if !builder.suits(verifier)
                || verifier == Verifier::Race
                || chains_only(builder, verifier)
            {
                continue;
            }
            pairs += usize::from(builder != Builder::Heap);
            for family in FAMILIES {
                for (vocab, seed) in [(2, 1), (3, 2)] {
                    let pair = Pair::hashed(vocab, 4000 + seed, family);
                    for (i, draft) in drafts(builder, &pair).into_iter().enumerate() {
                        // Independent paths: chain verifiers take the one that is a chain.
                        let chain = !verifier.takes_siblings();
                        if builder == Builder::IidPaths && (chain != (i == 1)) {
                            continue;
                        }
                        let (tv, tau) = distance(&pair, builder.law(), verifier, &*draft);
                        assert!(tv < 1e-12, "{builder:?} {verifier:?} {family:?} {vocab}: {tv}");
                        worst = worst.max(tv);
                        accepted += tau;
                        cases += 1;
                    }
                }
            }
        }
    }
    assert!(pairs > 30 && cases > 800, "{pairs} pairs, {cases} cases, worst {worst}");
    assert!(accepted / f64::from(cases) > 0.3, "drafts must be accepted for this to mean anything");
}

/// A drawn tree cut by value is what [`Builder::check`] refuses: the enumeration shows why.
#[test]
fn cutting_a_drawn_tree_by_value_is_caught() {
    let mut seen = 0;
    for seed in 0..6 {
        let pair = Pair::hashed(3, 4100 + seed, trivium_oracle::pairs::Family::Dirichlet10);
        for verifier in [Verifier::Recursive, Verifier::Traversal, Verifier::Mixed] {
            let cut = |c: &mut Enumerator| {
                let t = Template::cartesian(&[3]).unwrap();
                let mut b = Templated::new(Builder::RsdC, &t, 0, 3, START).unwrap();
                let tree = grow(&mut b, &pair, c);
                // Rerank, as one would a chosen tree: the two most likely of the three drawn.
                let q = pair.q(&[]);
                let mut order: Vec<usize> = (1..tree.len()).collect();
                order.sort_by(|&a, &b| {
                    q[tree.tokens[b] as usize].total_cmp(&q[tree.tokens[a] as usize])
                });
                order.truncate(2);
                order.push(0);
                order.sort_unstable();
                let mut tree = tree.select(&order);
                tree.roles.fill(Role::Drawn);
                tree
            };
            let law = if verifier == Verifier::Mixed {
                DraftLaw::Mixed
            } else {
                DraftLaw::WithoutReplacementQ
            };
            let (tv, _) = distance(&pair, law, verifier, &cut);
            seen += usize::from(tv > 1e-3);
        }
    }
    assert!(seen > 9, "{seen} of 18");
}

/// The Gumbel form has the law of the twin: whole trees, 60,000 seeds. Each cell's bound is 6.5
/// standard deviations and half a count, a false alarm below 1e-8 over all cells together.
#[test]
fn the_stochastic_beam_has_the_law_of_its_twin() {
    const N: usize = 60_000;
    let pair = Pair::hashed(3, 4200, trivium_oracle::pairs::Family::Dirichlet10);
    let want = trivium_oracle::law_of(|c| {
        let t = stochastic_beam(&pair, 2, 2, c);
        (t.tokens, t.parents)
    });
    let mut got = std::collections::BTreeMap::new();
    for seed in 0..N as u64 {
        let noise = Address::new(seed, START, 0);
        let mut b = StochasticBeam::new(0, 3, 2, 2, noise).unwrap();
        let t = grow(&mut b, &pair, &mut trivium_core::Keyed::new(0, 0));
        // The twin lists a level in order of first appearance, which is falling G.
        *got.entry((t.tokens, t.parents)).or_insert(0usize) += 1;
    }
    assert!(want.len() > 20);
    for tree in got.keys() {
        assert!(want.contains_key(tree), "{tree:?} cannot happen");
    }
    for (tree, p) in want {
        let n = got.get(&tree).copied().unwrap_or(0) as f64;
        let (mean, sd) = (N as f64 * p, (N as f64 * p * (1.0 - p)).sqrt());
        assert!((n - mean).abs() < 6.5 * sd + 4.0, "{tree:?}: {n}, expected {mean}");
    }
}
