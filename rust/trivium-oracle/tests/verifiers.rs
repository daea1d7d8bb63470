//! Every verifier, enumerated; every mutant, killed; closed forms, dominance and golden values.

use trivium_oracle::check::{self, enumerate};
use trivium_oracle::closed;
use trivium_oracle::pairs::{FAMILIES, Family, Pair};
use trivium_oracle::protocol::{Protocol, Shape};
use trivium_spec::tree::DraftLaw;
use trivium_spec::verify::{Exact, VERIFIERS, Verifier};

fn lossless(verifier: Verifier) {
    let report = check::check_verifier(verifier, false);
    assert!(report.worst_tv < 1e-12 && report.cases > 20, "{report:?}");
}

#[test]
fn sampled_is_lossless() {
    lossless(Verifier::Sampled);
}

#[test]
fn race_is_lossless() {
    lossless(Verifier::Race);
}

#[test]
fn token_is_lossless() {
    lossless(Verifier::Token);
}

#[test]
fn block_is_lossless() {
    lossless(Verifier::Block);
}

#[test]
fn multi_round_is_lossless() {
    lossless(Verifier::MultiRound);
}

#[test]
fn k_seq_is_lossless() {
    lossless(Verifier::KSeq);
}

#[test]
fn recursive_is_lossless() {
    lossless(Verifier::Recursive);
}

#[test]
fn sequoia_is_lossless() {
    lossless(Verifier::Sequoia);
}

#[test]
fn greedy_plus_one_is_lossless() {
    lossless(Verifier::GreedyPlusOne);
}

#[test]
fn spechub_is_lossless() {
    lossless(Verifier::SpecHub);
}

#[test]
fn traversal_is_lossless() {
    lossless(Verifier::Traversal);
}

#[test]
fn gbv_is_lossless() {
    lossless(Verifier::Gbv);
}

#[test]
fn mixed_is_lossless() {
    lossless(Verifier::Mixed);
}

#[test]
fn every_mutant_is_killed() {
    let mutants = check::check_mutants();
    assert!(mutants.survived.is_empty(), "{:?}", mutants.survived);
    assert!(mutants.made > 100);
}

fn accepted(verifier: Verifier, law: DraftLaw, shape: Shape, pair: &Pair) -> f64 {
    let out = enumerate(verifier, &Protocol::new(law, shape), pair, &Exact, true);
    assert!(out.tv < 1e-12, "{verifier:?} {}", out.tv);
    out.accepted
}

fn chain(n: usize) -> Shape {
    Shape::Branching(vec![1; n])
}

/// Weights whose sums are exact, so that golden values hold to their last digit.
fn golden_pairs() -> [Pair; 3] {
    [
        Pair::constant(&[1.0, 2.0], &[2.0, 1.0]),
        Pair::constant(&[5.0, 3.0, 2.0], &[2.0, 3.0, 5.0]),
        Pair::constant(&[10.0, 6.0, 4.0], &[8.0, 7.0, 5.0]),
    ]
}

#[test]
fn golden_chains() {
    let token = [[2.0 / 3.0, 10.0 / 9.0, 38.0 / 27.0], [0.7, 1.19, 1.533], [0.9, 1.71, 2.439]];
    let block = [[2.0 / 3.0, 11.0 / 9.0, 5.0 / 3.0], [0.7, 1.25, 1.695], [0.9, 1.75, 2.556]];
    for (i, pair) in golden_pairs().iter().enumerate() {
        let (p, q) = (pair.p(&[]), pair.q(&[]));
        for n in 1..=3 {
            let t = accepted(Verifier::Token, DraftLaw::IidQ, chain(n), pair);
            let b = accepted(Verifier::Block, DraftLaw::IidQ, chain(n), pair);
            let v = accepted(Verifier::Traversal, DraftLaw::IidQ, chain(n), pair);
            assert!((t - token[i][n - 1]).abs() < 5e-4, "token {i} {n}: {t}");
            assert!((b - block[i][n - 1]).abs() < 5e-4, "block {i} {n}: {b}");
            assert!((v - b).abs() < 1e-12, "traversal of a path is block");
            assert!((b - closed::block_expectation(&p, &q, n)).abs() < 1e-12);
            assert!(b <= closed::chain_bound(&p, &q, n) + 1e-12);
        }
        let member = accepted(Verifier::Sampled, DraftLaw::IidQ, chain(1), pair);
        let want: f64 = p.iter().zip(&q).map(|(a, b)| a * b).sum();
        assert!((member - want).abs() < 1e-12);
    }
    let toy = &golden_pairs()[0];
    let (p, q) = (toy.p(&[]), toy.q(&[]));
    assert!((closed::chain_bound(&p, &q, 2) - 12.0 / 9.0).abs() < 1e-12);
}

#[test]
fn golden_two_paths() {
    let table = [
        [
            [0.666_667, 0.777_778, 0.811_420, 0.777_778, 0.888_889],
            [1.012_346, 1.333_333, 1.405_487, 1.419_753, 1.617_284],
            [1.176_955, 1.716_049, 1.821_025, 1.941_015, 2.223_594],
        ],
        [
            [0.483, 0.76, 0.791_355, 0.76, 0.86],
            [0.641_791, 1.305_8, 1.367_192, 1.359_8, 1.550_8],
            [0.689_656, 1.691_034, 1.775_522, 1.844_874, 2.108_704],
        ],
        [
            [0.580_75, 0.94, 0.969_666, 0.94, 0.86],
            [0.816_094, 1.798_6, 1.865_337, 1.834_835, 1.702_806],
            [0.903_413, 2.575_309, 2.679_014, 2.685_629, 2.528_057],
        ],
    ];
    let rules = [
        Verifier::Sampled,
        Verifier::MultiRound,
        Verifier::KSeq,
        Verifier::Traversal,
        Verifier::Gbv,
    ];
    for (i, pair) in golden_pairs().iter().enumerate() {
        for len in 1..=if i == 0 { 3 } else { 2 } {
            for (j, &rule) in rules.iter().enumerate() {
                let got = accepted(rule, DraftLaw::IidQ, Shape::Paths(2, len), pair);
                let want = table[i][len - 1][j];
                assert!((got - want).abs() < 6e-7, "{rule:?} {i} {len}: {got} {want}");
            }
        }
    }
    // The deepest rows of three tokens for two rules: the others take minutes.
    for (i, pair) in golden_pairs().iter().enumerate().skip(1) {
        for (j, rule) in [(1, Verifier::MultiRound), (4, Verifier::Gbv)] {
            let got = accepted(rule, DraftLaw::IidQ, Shape::Paths(2, 3), pair);
            assert!((got - table[i][2][j]).abs() < 6e-7, "{rule:?} {i} 3: {got}");
        }
    }
}

#[test]
fn golden_nodes() {
    let want = [
        [0.5, 0.76, 0.791_355_287, 0.82, 0.9, 0.9],
        [0.8, 0.94, 0.969_666_295, 0.957_435_897, 1.0, 1.0],
    ];
    for (pair, want) in golden_pairs()[1..].iter().zip(want) {
        let two = || Shape::Branching(vec![2]);
        // The two most likely tokens of the *target*, as the table counts them.
        let (p, q) = (pair.p(&[]), pair.q(&[]));
        assert!((p[0] + p[1] - 0.8).abs() < 1e-12);
        let mut order = [0, 1, 2];
        order.sort_by(|&a, &b| q[b].total_cmp(&q[a]));
        let top2 = accepted(Verifier::Sampled, DraftLaw::PointMass, two(), pair);
        assert!((top2 - p[order[0]] - p[order[1]]).abs() < 1e-12 && (top2 - want[0]).abs() < 1e-9);
        let got = [
            top2,
            accepted(Verifier::MultiRound, DraftLaw::IidQ, two(), pair),
            accepted(Verifier::KSeq, DraftLaw::IidQ, two(), pair),
            accepted(Verifier::Recursive, DraftLaw::WithoutReplacementQ, two(), pair),
            accepted(Verifier::GreedyPlusOne, DraftLaw::GreedyPlusOne, two(), pair),
            accepted(Verifier::SpecHub, DraftLaw::SpecHub, two(), pair),
        ];
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            assert!((got - want).abs() < 6e-10, "{i}: {got} {want}");
        }
    }
}

/// Relations that must hold exactly, on every family.
#[test]
fn dominance_and_optima() {
    for seed in 0..6 {
        for family in FAMILIES {
            let pair = Pair::hashed(3, 500 + seed, family);
            let (p, q) = (pair.p(&[]), pair.q(&[]));
            let at = |v, law, shape| accepted(v, law, shape, &pair);
            let e = 1e-12;
            let one = at(Verifier::Token, DraftLaw::IidQ, chain(1));
            assert!((one - closed::sum_min(&p, &q)).abs() < e, "one draw accepts Σ min");
            let (t2, b2) = (
                at(Verifier::Token, DraftLaw::IidQ, chain(2)),
                at(Verifier::Block, DraftLaw::IidQ, chain(2)),
            );
            assert!(b2 >= t2 - e, "{family:?} block {b2} token {t2}");
            let v2 = at(Verifier::Traversal, DraftLaw::IidQ, chain(2));
            assert!((v2 - b2).abs() < e, "traversal of a path is block");
            for n in [2, 3] {
                let shape = || Shape::Branching(vec![n]);
                let iid = closed::transport_by_cut(&p, &closed::iid_sets(&q, n));
                let k_seq = at(Verifier::KSeq, DraftLaw::IidQ, shape());
                let rounds = at(Verifier::MultiRound, DraftLaw::IidQ, shape());
                assert!(k_seq <= iid + e && rounds <= iid + e, "nothing beats transport");
                let floor = (1.0 - (-1f64).exp()) * iid;
                assert!(k_seq >= floor - e, "{family:?} k-SEQ {k_seq} floor {floor}");
                let without =
                    closed::transport_by_cut(&p, &closed::without_replacement_sets(&q, n));
                for rule in [Verifier::Recursive, Verifier::Sequoia, Verifier::Traversal] {
                    let got = at(rule, DraftLaw::WithoutReplacementQ, shape());
                    assert!(got <= without + e, "nothing beats transport");
                }
                let plus = closed::transport_by_cut(&p, &closed::greedy_plus_one_sets(&q, n));
                let got = at(Verifier::GreedyPlusOne, DraftLaw::GreedyPlusOne, shape());
                assert!((got - plus).abs() < e, "{family:?} greedy+1 {got} is optimal {plus}");
                let top = at(Verifier::Sampled, DraftLaw::PointMass, shape());
                let mut order: Vec<usize> = (0..3).filter(|&t| q[t] > 0.0).collect();
                order.sort_by(|&a, &b| q[b].total_cmp(&q[a]).then(a.cmp(&b)));
                let mass: f64 = order.iter().take(n).map(|&t| p[t]).sum();
                assert!((top - mass).abs() < e, "point masses accept p(C)");
            }
            let hub = closed::transport_by_cut(&p, &closed::spechub_sets(&q));
            let got = at(Verifier::SpecHub, DraftLaw::SpecHub, Shape::Branching(vec![2]));
            assert!((got - hub).abs() < e, "{family:?} SpecHub {got} is optimal {hub}");
        }
    }
    assert_eq!(VERIFIERS.len(), 13);
}

/// Where `verifier="law"` takes GBV over traversal: by the share of a path that is accepted. Two
/// independent paths, enumerated, drafters from wrong to right.
#[test]
fn the_choice_between_path_rules_gains() {
    let (mut chosen, mut left) = ((0.0, 0), (0.0, 0));
    for seed in 0..16 {
        let (p, other) = Pair::hashed(3, 4000 + seed, Family::Dirichlet10).rows(&[]);
        for blend in [0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.97] {
            let q: Vec<f32> =
                p.iter().zip(&*other).map(|(p, o)| blend * p + (1.0 - blend) * o).collect();
            let pair = Pair::constant(&p, &q);
            for len in [1usize, 2] {
                let of = |v| {
                    let protocol = Protocol::new(DraftLaw::IidQ, Shape::Paths(2, len));
                    enumerate(v, &protocol, &pair, &Exact, true).accepted
                };
                let (gbv, traversal) = (of(Verifier::Gbv), of(Verifier::Traversal));
                let gain = (gbv - traversal) / len as f64;
                let share = traversal / len as f64;
                println!("{len} {share:.3} {gain:.4}");
                let rule = Verifier::choose(DraftLaw::IidQ, true, Some(2), share);
                let side = if rule == Verifier::Gbv { &mut chosen } else { &mut left };
                *side = (side.0 + gain, side.1 + 1);
            }
        }
    }
    assert!(chosen.1 > 30 && left.1 > 30, "{chosen:?} {left:?}");
    assert!(chosen.0 > 0.0, "GBV gains where it is chosen: {chosen:?}");
    assert!(left.0 < 0.0, "and would lose where it is not: {left:?}");
}
