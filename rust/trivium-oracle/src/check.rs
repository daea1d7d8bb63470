//! Every verifier against the target law: one step over every draft, every test and every residual
//! draw, then the plain loop; total variation of the text, which must vanish.
//!
//! One step from any state is enough: the drafts of the next step look only at committed text, and
//! no noise is read twice (`tests/noise.rs`), so steps compose.

use crate::enumerate::{Law, law_of, total_variation};
use crate::pairs::{FAMILIES, Family, Pair};
use crate::protocol::{Drafted, Protocol, Shape, Stop};
use std::collections::BTreeMap;
use trivium_core::{Chance, TokenId};
use trivium_spec::tree::DraftLaw;
use trivium_spec::verify::{
    Exact, Faults, MUTATIONS, Mutation, Planted, ProbRows, Tree, VERIFIERS, Verifier, Walk, Work,
    verify_with_faults,
};

/// Absolute index of the first undecided token in every case.
pub const START: u32 = 7;

/// Verifies a drawn tree.
///
/// # Panics
/// If the verifier refuses it.
pub fn verify<F: Faults>(
    verifier: Verifier,
    law: DraftLaw,
    drafted: &Drafted,
    vocab: usize,
    chance: &mut dyn Chance,
    work: &mut Work,
    faults: &F,
) -> Walk {
    let tree = Tree {
        tokens: &drafted.tokens,
        parents: &drafted.parents,
        roles: if law == DraftLaw::Mixed { &drafted.roles } else { &[] },
        law,
        start: START,
        bonus: true,
    };
    ProbRows::weights(&drafted.p, Some(&drafted.q), vocab)
        .and_then(|mut rows| verify_with_faults(verifier, &tree, &mut rows, chance, work, faults))
        .unwrap_or_else(|e| panic!("{verifier:?} {law:?}: {e}"))
}

/// What one enumeration says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Total variation of the text to the target law.
    pub tv: f64,
    /// Expected number of accepted drafts.
    pub accepted: f64,
    /// |1 - total probability|.
    pub leak: f64,
}

/// Extends texts to one length by the target law.
pub fn extend(pair: &Pair, law: Law<Vec<TokenId>>, len: usize) -> Law<Vec<TokenId>> {
    let mut out = Law::new();
    let mut todo: Vec<(Vec<TokenId>, f64)> = law.into_iter().collect();
    while let Some((text, m)) = todo.pop() {
        if text.len() >= len {
            *out.entry(text[..len].to_vec()).or_insert(0.0) += m;
            continue;
        }
        for (t, w) in pair.p(&text).into_iter().enumerate().filter(|(_, w)| *w > 0.0) {
            todo.push(([&text[..], &[t as TokenId]].concat(), m * w));
        }
    }
    out
}

/// The target law of texts of a length.
pub fn target(pair: &Pair, len: usize) -> Law<Vec<TokenId>> {
    extend(pair, Law::from([(Vec::new(), 1.0)]), len)
}

/// Enumerates one step.
///
/// # Panics
/// If a walk is inconsistent: nodes that do not carry its tokens, wrong log-probabilities.
pub fn enumerate<F: Faults>(
    verifier: Verifier,
    protocol: &Protocol,
    pair: &Pair,
    faults: &F,
    exact: bool,
) -> Outcome {
    let mut work = Work::default();
    let law = law_of(|chance| {
        let drafted = protocol.draft(pair, START, chance);
        let walk = verify(verifier, protocol.law, &drafted, pair.vocab, chance, &mut work, faults);
        if exact {
            consistent(&drafted, &walk, pair);
        }
        (walk.tokens, walk.nodes.len())
    });
    let mut texts = Law::new();
    let (mut mass, mut accepted) = (0.0, 0.0);
    for ((text, tau), m) in law {
        mass += m;
        accepted += m * tau as f64;
        *texts.entry(text).or_insert(0.0) += m;
    }
    let len = protocol.depth() + 1;
    let got = extend(pair, texts, len);
    Outcome { tv: total_variation(&target(pair, len), &got), accepted, leak: (mass - 1.0).abs() }
}

fn consistent(drafted: &Drafted, walk: &Walk, pair: &Pair) {
    assert_eq!(walk.tokens.len(), walk.nodes.len() + 1);
    assert_eq!(walk.tokens.len(), walk.logprobs.len());
    let mut at = 0;
    for (&node, &token) in walk.nodes.iter().zip(&walk.tokens) {
        assert_eq!(drafted.tokens[node], token);
        // Repeated draws are one place: the parent carries the same path, not the same number.
        assert!(node > at && drafted.parents[node] >= 0);
        at = node;
    }
    for (i, (&token, &lp)) in walk.tokens.iter().zip(&walk.logprobs).enumerate() {
        let p = pair.p(&walk.tokens[..i])[token as usize];
        assert!(p > 0.0, "a token of probability 0 was emitted");
        assert!((f64::from(lp) - p.ln()).abs() < 1e-4 * (1.0 + p.ln().abs()), "{lp} {}", p.ln());
    }
}

/// The protocols that a verifier is checked under.
pub fn protocols(verifier: Verifier, quick: bool) -> Vec<Protocol> {
    let mut out = Vec::new();
    let chains: &[usize] = if quick { &[1, 2] } else { &[0, 1, 2, 3] };
    let trees: Vec<Vec<usize>> = if quick {
        vec![vec![2], vec![2, 1]]
    } else {
        vec![vec![2], vec![3], vec![2, 1], vec![1, 2], vec![2, 2], vec![3, 1]]
    };
    for law in trivium_spec::tree::DRAFT_LAWS {
        if law == DraftLaw::Race || !verifier.takes(law, trivium_spec::tree::Pruning::None) {
            continue;
        }
        if verifier == Verifier::Gbv {
            for &(k, len) in if quick {
                &[(2, 1), (2, 2)][..]
            } else {
                &[(1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]
            } {
                out.push(Protocol::new(law, Shape::Paths(k, len)));
            }
            continue;
        }
        let stops: &[Stop] = if quick {
            &[Stop::Never, Stop::After(0.3)]
        } else {
            &[Stop::Never, Stop::Before(0.5), Stop::After(0.3)]
        };
        let mut shapes: Vec<Shape> = Vec::new();
        if law != DraftLaw::SpecHub {
            shapes.extend(chains.iter().map(|&n| Shape::Branching(vec![1; n])));
        }
        if verifier.takes_siblings() {
            shapes.extend(trees.iter().cloned().map(Shape::Branching));
            if law == DraftLaw::IidQ {
                shapes.push(Shape::Paths(2, 2));
            }
        }
        for shape in shapes {
            for &stop in stops {
                let offs: &[bool] = if law == DraftLaw::Mixed { &[false, true] } else { &[false] };
                for &off in offs {
                    out.push(Protocol { law, shape: shape.clone(), stop, off });
                }
            }
        }
    }
    out
}

/// Runs the cost of an enumeration: drafts times outcomes, roughly.
fn affordable(protocol: &Protocol, vocab: usize, limit: f64) -> bool {
    let draws: f64 = match &protocol.shape {
        Shape::Branching(levels) => {
            let mut nodes = 1.0;
            let mut total = 0.0;
            for &n in levels {
                nodes *= n as f64;
                total += nodes;
            }
            total
        }
        Shape::Paths(k, len) => (k * len) as f64,
    };
    let drawn = if protocol.law == DraftLaw::PointMass { 0.0 } else { draws };
    (vocab as f64).powf(drawn) * 6.0 < limit
}

/// What a verifier's enumerations say together.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The verifier.
    pub name: &'static str,
    /// "path" or "law".
    pub guarantee: &'static str,
    /// Enumerations (for the race: seeded texts compared).
    pub cases: usize,
    /// The largest total variation (for the race: share of texts that differed).
    pub worst_tv: f64,
}

/// Enumerates every verifier under every legal protocol and family.
pub fn check_verifiers(quick: bool) -> Vec<Report> {
    VERIFIERS.into_iter().map(|v| check_verifier(v, quick)).collect()
}

/// Enumerates one verifier.
pub fn check_verifier(verifier: Verifier, quick: bool) -> Report {
    let mut report = Report {
        name: verifier.name(),
        guarantee: verifier.guarantee().name(),
        cases: 0,
        worst_tv: 0.0,
    };
    if verifier == Verifier::Race {
        (report.cases, report.worst_tv) = crate::race::check(if quick { 300 } else { 3000 });
        return report;
    }
    let limit = if quick { 3e3 } else { 1e4 };
    for protocol in protocols(verifier, quick) {
        for (i, family) in FAMILIES.into_iter().enumerate() {
            for vocab in [2usize, 3, 4] {
                let seeds =
                    if matches!(family, Family::Dirichlet03 | Family::Dirichlet10) { 3 } else { 1 };
                for seed in 0..if quick { 1 } else { seeds } {
                    if !affordable(&protocol, vocab, limit) {
                        continue;
                    }
                    let pair = Pair::hashed(vocab, (i * 17 + vocab) as u32 + 1000 * seed, family);
                    let out = enumerate(verifier, &protocol, &pair, &Exact, true);
                    report.worst_tv = report.worst_tv.max(out.tv).max(out.leak);
                    report.cases += 1;
                }
            }
        }
    }
    report
}

/// The faults that make sense in a verifier: each of them biases it.
pub fn mutations_of(verifier: Verifier) -> Vec<Mutation> {
    use Mutation as M;
    let list: &[M] = match verifier {
        Verifier::Sampled => &[M::ParentRow, M::SkipFirstTest, M::FreshDraw],
        Verifier::Race => &[],
        Verifier::Token => &[
            M::SwapTest,
            M::SoftTest,
            M::SwapResidual,
            M::TargetResidual,
            M::DraftResidual,
            M::ParentRow,
            M::SkipFirstTest,
        ],
        Verifier::Block => &[
            M::SwapTest,
            M::SoftTest,
            M::SwapResidual,
            M::TargetResidual,
            M::DraftResidual,
            M::ParentRow,
            M::SkipFirstTest,
            M::Uncapped,
            M::FirstFailureStops,
            M::PlainResidual,
            M::ForgetDeficit,
            M::ReuseNoise,
        ],
        Verifier::MultiRound => &[
            M::SwapTest,
            M::SoftTest,
            M::SwapResidual,
            M::TargetResidual,
            M::DraftResidual,
            M::KeepMass,
            M::ReuseNoise,
            M::PruneByIdentity,
            M::DropDuplicate,
            M::ParentRow,
            M::SkipFirstTest,
            M::BestSibling,
        ],
        Verifier::KSeq => &[
            M::SwapTest,
            M::SoftTest,
            M::SwapResidual,
            M::TargetResidual,
            M::DraftResidual,
            M::ReuseNoise,
            M::PruneByIdentity,
            M::DropDuplicate,
            M::ParentRow,
            M::SkipFirstTest,
            M::BestSibling,
            M::CountOneLess,
            M::UnitRho,
        ],
        Verifier::Recursive | Verifier::Sequoia => &[
            M::SwapTest,
            M::SoftTest,
            M::SwapResidual,
            M::TargetResidual,
            M::DraftResidual,
            M::KeepMass,
            M::KeepRemoved,
            M::KeepDraftMass,
            M::ReuseNoise,
            M::PruneByIdentity,
            M::ReverseOrder,
            M::ParentRow,
            M::SkipFirstTest,
            M::BestSibling,
        ],
        Verifier::GreedyPlusOne => &[
            M::SwapTest,
            M::SoftTest,
            M::SwapResidual,
            M::TargetResidual,
            M::DraftResidual,
            M::PlainDraft,
            M::PruneByIdentity,
            M::ReverseOrder,
            M::ParentRow,
            M::SkipFirstTest,
        ],
        Verifier::SpecHub => &[
            M::SwapTest,
            M::SoftTest,
            M::TargetResidual,
            M::DraftResidual,
            M::DoubleTop,
            M::ParentRow,
            M::SkipFirstTest,
            M::ReverseOrder,
            M::ReuseNoise,
        ],
        Verifier::Traversal => &[
            M::SwapTest,
            M::SoftTest,
            M::TargetResidual,
            M::ReuseNoise,
            M::KeepRemoved,
            M::ReverseOrder,
            M::ParentRow,
            M::SkipFirstTest,
            M::PlainResidual,
            M::ForgetDeficit,
            M::StaleWeight,
            M::StaleLaw,
        ],
        Verifier::Gbv => &[
            M::SwapTest,
            M::SoftTest,
            M::TargetResidual,
            M::ReuseNoise,
            M::ParentRow,
            M::PlainResidual,
            M::ForgetDeficit,
            M::PlainDraft,
            M::CountOneLess,
        ],
        Verifier::Mixed => &[
            M::SwapTest,
            M::SoftTest,
            M::SwapResidual,
            M::TargetResidual,
            M::DraftResidual,
            M::KeepMass,
            M::KeepRemoved,
            M::KeepDraftMass,
            M::ReuseNoise,
            M::ParentRow,
            M::SkipFirstTest,
            M::ChosenAsDrawn,
            M::DrawnAsChosen,
        ],
    };
    debug_assert!(list.iter().all(|m| MUTATIONS.contains(m)));
    list.to_vec()
}

/// Mutants made and left alive.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mutants {
    /// How many were made.
    pub made: usize,
    /// Names of those that no enumeration told from the exact rule.
    pub survived: Vec<String>,
    /// The distance at which each was caught, by name.
    pub caught: BTreeMap<String, f64>,
}

/// A mutant whose law moves by less is counted as alive.
pub const VISIBLE: f64 = 1e-3;

/// Plants every fault into every verifier it applies to and looks for a case that shows it.
pub fn check_mutants() -> Mutants {
    let mut out = Mutants::default();
    for verifier in VERIFIERS {
        for mutation in mutations_of(verifier) {
            let name = format!("{}:{mutation:?}", verifier.name());
            out.made += 1;
            match hunt(verifier, mutation) {
                Some(tv) => drop(out.caught.insert(name, tv)),
                None => out.survived.push(name),
            }
        }
    }
    out
}

fn hunt(verifier: Verifier, mutation: Mutation) -> Option<f64> {
    let mut list = protocols(verifier, false);
    list.retain(|p| p.stop == Stop::Never && p.depth() > 0);
    for vocab in [3, 4] {
        for protocol in &list {
            if !affordable(protocol, vocab, 2e4) {
                continue;
            }
            for seed in 0..2 {
                for family in [Family::Dirichlet10, Family::HolesInQ] {
                    let pair = Pair::hashed(vocab, 77 + seed, family);
                    let tv = enumerate(verifier, protocol, &pair, &Planted(mutation), false).tv;
                    if tv > VISIBLE {
                        return Some(tv);
                    }
                }
            }
        }
    }
    None
}
