//! Windows, permutations, pipelines and branches: whole texts enumerated; continuous tokens by
//! statistics; noise read once.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use std::collections::BTreeSet;
use trivium_core::{Address, Chance, Draw, Keyed, Purpose, ScaledRow, TokenId};
use trivium_oracle::check::{extend, target};
use trivium_oracle::pairs::{Family, Pair};
use trivium_oracle::protocol::{Protocol, Shape};
use trivium_oracle::toy::{Shape as RowShape, ToyModel};
use trivium_oracle::{check, law_of, total_variation};
use trivium_spec::tree::DraftLaw;
use trivium_spec::verify::{
    AnySubset, BranchTree, Density, FrozenWindow, JacobiWindow, LawTransform, LossyRule, Pearl,
    PearlMode, ProbRows, Redraft, Tree, Verifier, Work, branch_count, divergence, verify_chain,
    verify_density, verify_tree,
};

const SEEDS: u32 = 4;

/// Texts of three tokens by a Jacobi window of three.
fn jacobi(redraft: Redraft, seed: u32) -> f64 {
    let pair = Pair::hashed(2, seed, Family::Dirichlet10);
    let law = law_of(|c| {
        let mut text: Vec<TokenId> = Vec::new();
        let mut window = JacobiWindow::new(2, redraft);
        while text.len() < 3 {
            let start = text.len() as u32;
            while window.tokens().len() < 3 - text.len() {
                window.extend(&[0.6, 0.4], start, c).unwrap();
            }
            let mut p = Vec::new();
            for i in 0..window.tokens().len() {
                p.extend_from_slice(&pair.rows(&[&text, &window.tokens()[..i]].concat()).0);
            }
            text.extend(window.iterate(&p, start, c).unwrap());
        }
        text
    });
    total_variation(&target(&pair, 3), &law)
}

#[test]
fn jacobi_windows_are_exact_and_a_claimed_law_is_not() {
    for seed in 0..SEEDS {
        for redraft in [Redraft::Independent, Redraft::Coupled, Redraft::Kept] {
            assert!(jacobi(redraft, seed) < 1e-12, "{redraft:?}");
        }
        assert!(jacobi(Redraft::Claimed, seed) > 1e-3);
    }
}

#[test]
fn frozen_noise_gives_the_plain_race() {
    for seed in 0..200u64 {
        let model = ToyModel { vocab: 6, seed: seed as u32, shape: RowShape::Peaked };
        let race = |text: &[TokenId]| {
            let mut row = ScaledRow::new();
            row.load((&model.logits(text)[..]).into(), None, 1.0).unwrap();
            row.draw(Draw::Race, Address::new(seed, text.len() as u32, 0))
        };
        let mut plain: Vec<TokenId> = Vec::new();
        while plain.len() < 24 {
            plain.push(race(&plain));
        }
        let (mut text, mut calls) = (Vec::new(), 0);
        let mut window = FrozenWindow::new(&[0; 8]);
        while text.len() < 24 {
            let winners: Vec<TokenId> = (0..window.tokens().len())
                .map(|i| race(&[&text[..], &window.tokens()[..i]].concat()))
                .collect();
            text.extend(window.iterate(&winners).unwrap());
            calls += 1;
            while window.tokens().len() < 8 {
                window.push(0);
            }
        }
        assert_eq!(text[..24], plain[..]);
        assert!(calls <= 24);
    }
}

/// A joint law of three bits by a table, and its conditionals on any set of known positions.
struct Joint([f64; 8]);

impl Joint {
    fn conditional(&self, known: &[(usize, TokenId)], at: usize) -> [f32; 2] {
        let mut w = [0.0; 2];
        for (x, m) in self.0.iter().enumerate() {
            if known.iter().all(|&(i, t)| (x >> i & 1) as u32 == t) {
                w[x >> at & 1] += m;
            }
        }
        [w[0] as f32, w[1] as f32]
    }
}

#[test]
fn any_subset_decoding_fills_every_order_exactly() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for seed in 0..SEEDS {
        let row = Pair::hashed(8, seed, Family::Dirichlet10).rows(&[]).0;
        // Weights that f32 sums keep exact.
        let joint = Joint(std::array::from_fn(|i| f64::from((row[i] * 4096.0).ceil())));
        let total: f64 = joint.0.iter().sum();
        for order in orders {
            for rule in [Verifier::Token, Verifier::Block] {
                for k in [2, 3] {
                    let law = law_of(|c| {
                        let mut known: Vec<(usize, TokenId)> = Vec::new();
                        let mut fill = AnySubset::new(&order, rule).unwrap();
                        while known.len() < 3 {
                            let places = fill.next(k).to_vec();
                            let (mut d, mut o, mut drafted) = (Vec::new(), Vec::new(), Vec::new());
                            let mut seen = known.clone();
                            for &at in &places {
                                let row = joint.conditional(&known, at);
                                let w = [f64::from(row[0]), f64::from(row[1])];
                                let t = c.categorical(0, Purpose::Draft, &w) as TokenId;
                                o.extend(joint.conditional(&seen, at));
                                d.extend(row);
                                drafted.push(t);
                                seen.push((at, t));
                            }
                            let start = known.len() as u32;
                            let out = fill.verify(&drafted, (&o, &d), 2, start, c).unwrap();
                            assert!(out.len() >= 2.min(places.len()), "two tokens a round");
                            known.extend(out);
                        }
                        known.iter().map(|&(i, t)| (t as usize) << i).sum::<usize>()
                    });
                    let tv: f64 = (0..8)
                        .map(|x| (law.get(&x).unwrap_or(&0.0) - joint.0[x] / total).abs())
                        .sum();
                    assert!(tv < 2e-12, "{order:?} {rule:?} {k}: {tv}");
                }
            }
        }
    }
}

#[test]
fn pearl_is_exact() {
    for seed in 0..SEEDS {
        let pair = Pair::hashed(2, 40 + seed, Family::Dirichlet10);
        for gamma in [1, 2] {
            let law = law_of(|c| {
                let mut text: Vec<TokenId> = Vec::new();
                let mut pearl = Pearl::new(2);
                while text.len() < 4 {
                    let start = text.len() as u32;
                    let base = [&text, pearl.pending()].concat();
                    let (mut drafted, mut q) = (Vec::new(), Vec::new());
                    for _ in 0..gamma {
                        let row = pair.rows(&[&base[..], &drafted].concat()).1;
                        let w: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
                        drafted.push(c.categorical(start, Purpose::Draft, &w) as TokenId);
                        q.extend_from_slice(&row);
                    }
                    let mut p = Vec::new();
                    let asked = match pearl.mode() {
                        PearlMode::Pre => 1,
                        PearlMode::Post => pearl.pending().len(),
                    };
                    for i in 0..asked {
                        p.extend_from_slice(&pair.rows(&base[..text.len() + i]).0);
                    }
                    text.extend(pearl.step(&drafted, &q, &p, start, c).unwrap().emitted);
                }
                text.truncate(4);
                text
            });
            let tv = total_variation(&target(&pair, 4), &law);
            assert!(tv < 1e-12, "gamma {gamma}: {tv}");
        }
    }
}

#[test]
fn branches_as_siblings_are_exact() {
    for seed in 0..SEEDS {
        let pair = Pair::hashed(3, 60 + seed, Family::Dirichlet10);
        for rule in [Verifier::Recursive, Verifier::Traversal] {
            let law = law_of(|c| {
                let draw = |c: &mut dyn Chance, path: &[TokenId], gone: Option<TokenId>| {
                    let mut w = pair.q(path);
                    if let Some(t) = gone {
                        w[t as usize] = 0.0;
                    }
                    c.categorical(0, Purpose::Draft, &w) as TokenId
                };
                let a = draw(c, &[], None);
                let b = draw(c, &[a], None);
                let mut tree = BranchTree::new(0, &[a, b], 0, 3).unwrap();
                // The number of branches looks at the token drawn before them.
                if branch_count(4, pair.q(&[])[a as usize]) > 1 {
                    let x = draw(c, &[], Some(a));
                    let y = draw(c, &[x], None);
                    assert_eq!(tree.branch(&[x, y]).unwrap(), 1);
                }
                let mut paths: Vec<Vec<TokenId>> = vec![vec![]];
                for n in 1..tree.tokens().len() {
                    let parent = tree.parents()[n] as usize;
                    paths.push([&paths[parent][..], &[tree.tokens()[n]]].concat());
                }
                let rows = |q: bool| -> Vec<f32> {
                    paths
                        .iter()
                        .flat_map(|path| {
                            let (a, b) = pair.rows(path);
                            if q { b.to_vec() } else { a.to_vec() }
                        })
                        .collect()
                };
                let (p, q) = (rows(false), rows(true));
                let view = Tree {
                    tokens: tree.tokens(),
                    parents: tree.parents(),
                    roles: &[],
                    law: DraftLaw::WithoutReplacementQ,
                    start: 0,
                    bonus: true,
                };
                let mut laws = ProbRows::weights(&p, Some(&q), 3).unwrap();
                let walk = verify_tree(rule, &view, &mut laws, c, &mut Work::default()).unwrap();
                if walk.nodes.len() == 2 {
                    assert!(tree.survivor(&walk.nodes).is_some());
                }
                walk.tokens
            });
            let tv = total_variation(&target(&pair, 3), &extend(&pair, law, 3));
            assert!(tv < 1e-12, "{rule:?}: {tv}");
        }
    }
}

/// Other target laws: exact with respect to π, no bonus where the second row is missing.
#[test]
fn transformed_laws_are_served_exactly() {
    let transforms = [
        LawTransform::Contrastive { beta: 0.5, alpha: 0.1 },
        LawTransform::Cascade { share: 0.3 },
        LawTransform::Defer { below: 0.6 },
        LawTransform::Reflective { weight: 0.4 },
    ];
    for transform in transforms {
        for seed in 0..SEEDS {
            let base = Pair::hashed(3, 80 + seed, Family::Dirichlet10);
            let pi = |path: &[TokenId]| {
                let (p, q) = base.rows(path);
                let mut out = Vec::new();
                transform.apply(&p, &q, &mut out).unwrap();
                out
            };
            let law = law_of(|c| {
                let (mut text, mut p, mut q) = (Vec::new(), Vec::new(), Vec::new());
                for _ in 0..2 {
                    let row = base.rows(&text).1;
                    p.extend(pi(&text));
                    q.extend_from_slice(&row);
                    let w: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
                    text.push(c.categorical(0, Purpose::Draft, &w) as TokenId);
                }
                verify_chain(Verifier::Block, &text, (&p, &q), 3, 0, c).unwrap().tokens
            });
            // Compare the first token, then the second given the first.
            let mut want = trivium_oracle::Law::new();
            for a in 0..3u32 {
                for b in 0..3u32 {
                    let m = trivium_oracle::pairs::normalised(&pi(&[]))[a as usize]
                        * trivium_oracle::pairs::normalised(&pi(&[a]))[b as usize];
                    want.insert(vec![a, b], m);
                }
            }
            let mut got = trivium_oracle::Law::new();
            for (text, m) in law {
                if text.len() == 2 {
                    *got.entry(text).or_insert(0.0) += m;
                } else {
                    for (b, w) in
                        trivium_oracle::pairs::normalised(&pi(&text)).into_iter().enumerate()
                    {
                        *got.entry(vec![text[0], b as TokenId]).or_insert(0.0) += m * w;
                    }
                }
            }
            let tv = total_variation(&want, &got);
            assert!(tv < 1e-12, "{transform:?}: {tv}");
        }
    }
    assert!((divergence(&[1.0, 3.0], &[2.0, 2.0]) - 0.25).abs() < 1e-12);
}

/// A lossy rule's report bounds what the enumeration measures.
#[test]
fn lossy_rules_report_their_error() {
    for rule in [
        LossyRule::Typical { epsilon: 0.3, alpha: 0.09 },
        LossyRule::Threshold { single: 0.5, acc: 0.9 },
        LossyRule::TopK { k: 2 },
    ] {
        let mut visible = 0;
        for seed in 0..30 {
            let pair = Pair::hashed(3, 300 + seed, Family::Dirichlet10);
            let protocol = Protocol::new(DraftLaw::PointMass, Shape::Branching(vec![2, 1]));
            let mut reported = 0f64;
            let law = law_of(|c| {
                let d = protocol.draft(&pair, 0, c);
                let tree = Tree {
                    tokens: &d.tokens,
                    parents: &d.parents,
                    roles: &[],
                    law: DraftLaw::PointMass,
                    start: 0,
                    bonus: true,
                };
                let mut rows = ProbRows::weights(&d.p, None, 3).unwrap();
                let out = rule.verify(&tree, &mut rows, c).unwrap();
                reported = reported.max(out.deviation);
                out.walk.tokens
            });
            let tv = total_variation(&target(&pair, 3), &extend(&pair, law, 3));
            assert!(tv <= reported + 1e-12, "{rule:?}: {tv} reported {reported}");
            visible += u32::from(tv > 1e-3);
        }
        assert!(visible > 10, "the rule is lossy, and the enumeration sees it");
    }
}

struct Gaussians;

impl Density for Gaussians {
    type Token = f64;

    fn log_densities(&self, x: &f64) -> (f64, f64) {
        (-0.5 * x * x, -0.5 * (x - 0.8) * (x - 0.8))
    }

    fn draw(&mut self, chance: &mut dyn Chance) -> f64 {
        normal(chance)
    }
}

/// A normal variate out of bits, so that it goes through `Chance`.
fn normal(chance: &mut dyn Chance) -> f64 {
    let mut bits = || {
        (1..=32).fold(0.0, |u, i| {
            u + f64::from(u8::from(chance.bernoulli(0, Purpose::Draft, 1.0, 2.0))) * 0.5f64.powi(i)
        }) + 0.5f64.powi(33)
    };
    let (u, v) = (bits(), bits());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// Kolmogorov-Smirnov against the standard normal. Error probability of the bound: 2 exp(-2 n D²)
/// is 1e-9 at D = 3.27 / sqrt(n).
#[test]
fn continuous_tokens_have_the_targets_law() {
    const N: usize = 20_000;
    let (mut xs, mut accepted) = (Vec::with_capacity(N), 0);
    for i in 0..N {
        let mut c = Keyed::new(i as u64, 1);
        let draft = normal(&mut c) + 0.8;
        let out = verify_density(draft, &mut Gaussians, 10_000, 0, &mut c);
        assert!(!out.capped);
        accepted += usize::from(out.accepted);
        xs.push(out.value);
    }
    xs.sort_by(f64::total_cmp);
    // Φ by its series, good to 1e-12 here.
    let phi = |x: f64| {
        let (mut term, mut sum) = (x, x);
        for k in 1..200 {
            term *= x * x / f64::from(2 * k + 1);
            sum += term;
        }
        0.5 + sum * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
    };
    let d =
        xs.iter().enumerate().fold(0f64, |d, (i, &x)| d.max((phi(x) - i as f64 / N as f64).abs()));
    assert!(d < 3.27 / (N as f64).sqrt() + 1.0 / N as f64, "{d}");
    // 1 - TV = 2 Φ(-0.4).
    let want = 2.0 * phi(-0.4);
    let rate = accepted as f64 / N as f64;
    assert!((rate - want).abs() < 6.2 * (want * (1.0 - want) / N as f64).sqrt(), "{rate} {want}");
}

/// Records every address that scalar draws read, numbered as [`Keyed`] numbers them.
struct Audit {
    keyed: Keyed,
    index: u32,
    counts: [u32; Purpose::COUNT],
    seen: BTreeSet<(u32, u32, u32)>,
    repeated: usize,
}

impl Audit {
    fn note(&mut self, index: u32, purpose: Purpose) {
        if index != self.index {
            self.index = index;
            self.counts = [0; Purpose::COUNT];
        }
        let draw = self.counts[purpose as usize];
        self.counts[purpose as usize] += 1;
        self.repeated += usize::from(!self.seen.insert((index, purpose as u32, draw)));
    }
}

impl Chance for Audit {
    fn bernoulli(&mut self, index: u32, purpose: Purpose, num: f64, den: f64) -> bool {
        self.note(index, purpose);
        self.keyed.bernoulli(index, purpose, num, den)
    }

    fn categorical(&mut self, index: u32, purpose: Purpose, weights: &[f64]) -> usize {
        self.note(index, purpose);
        self.keyed.categorical(index, purpose, weights)
    }

    fn row(&mut self, index: u32) -> Address {
        self.keyed.row(index)
    }
}

/// Over whole texts no verifier and no drafter reads one random number twice: steps are
/// independent, and the enumeration of one step is a proof for all of them.
#[test]
fn noise_is_read_once() {
    for verifier in trivium_spec::verify::VERIFIERS {
        for protocol in check::protocols(verifier, false) {
            if protocol.depth() == 0 {
                continue;
            }
            for seed in 0..4 {
                let pair = Pair::hashed(4, 900 + seed, Family::Dirichlet10);
                let mut seen = BTreeSet::new();
                let mut text: Vec<TokenId> = Vec::new();
                while text.len() < 12 {
                    // A fresh counter every step, as production has.
                    let mut audit = Audit {
                        keyed: Keyed::new(u64::from(seed), 0),
                        index: 0,
                        counts: [0; Purpose::COUNT],
                        seen: std::mem::take(&mut seen),
                        repeated: 0,
                    };
                    let start = text.len() as u32;
                    let d = protocol.draft(&pair, start, &mut audit);
                    let tree = Tree {
                        tokens: &d.tokens,
                        parents: &d.parents,
                        roles: if protocol.law == DraftLaw::Mixed { &d.roles } else { &[] },
                        law: protocol.law,
                        start,
                        bonus: true,
                    };
                    let mut rows = ProbRows::weights(&d.p, Some(&d.q), 4).unwrap();
                    let mut work = Work::default();
                    let walk =
                        verify_tree(verifier, &tree, &mut rows, &mut audit, &mut work).unwrap();
                    assert_eq!(audit.repeated, 0, "{verifier:?} {protocol:?}");
                    seen = audit.seen;
                    text.extend(walk.tokens);
                }
            }
        }
    }
}
