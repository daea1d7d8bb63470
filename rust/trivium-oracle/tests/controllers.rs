//! Controllers: law-lossless whatever they decide, over several rounds of learning; a stop that
//! looks at a token and drops it is caught; and the speculator under every policy keeps its promise.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use trivium_core::logits::{LogitsBatch, LogitsData};
use trivium_core::{
    Address, Chance, Draw, Keyed, LogitsRow, Purpose, ScaledRow, TargetLaw, TokenId,
};
use trivium_oracle::check::{START, target};
use trivium_oracle::enumerate::Enumerator;
use trivium_oracle::grown::{distance, grow};
use trivium_oracle::pairs::{Family, Pair};
use trivium_oracle::toy::{SHAPES, ToyModel};
use trivium_oracle::{law_of, total_variation};
use trivium_sample::Params;
use trivium_spec::control::{CONTROLS, ControlSpec, Feedback, QSummary, Reached, StepCtx};
use trivium_spec::tree::build::{Chain, DraftTree, TreeBuilder};
use trivium_spec::tree::{DraftLaw, Role};
use trivium_spec::verify::{ProbRows, Tree, Verifier, Work, verify_tree};
use trivium_spec::{Policy, RequestOptions, Speculator, SpeculatorConfig};

/// Two or more whole rounds with a controller that learns between them: the length of the second
/// round follows from what the first accepted, and the text keeps the target's law.
#[test]
fn choices_from_past_rounds_are_lossless() {
    let policies = [
        "heuristic:1,max=2",
        "kangaroo:0.6,max=2",
        "draft_verify:0.5,max=2",
        "svip:0.2,max=2",
        "specdec++:0.4,min=1,max=2",
        "disco:0.5,max=2",
        "ucb:1/2",
        "ucb_rate:2/1",
        "exp3:1/2",
        "thompson:2",
        "pearl:1,max=2",
        "adaptive:2",
    ];
    for policy in policies {
        let control: ControlSpec = policy.parse().unwrap();
        for verifier in [Verifier::Token, Verifier::Block] {
            for seed in 0..2 {
                let pair = Pair::hashed(2, 5000 + seed, Family::Dirichlet10);
                let law = law_of(|c| {
                    let mut controller = control.build();
                    let mut text: Vec<TokenId> = Vec::new();
                    while text.len() < 3 {
                        round(&pair, verifier, &mut *controller, &mut text, c);
                    }
                    text.truncate(3);
                    text
                });
                let tv = total_variation(&target(&pair, 3), &law);
                assert!(tv < 1e-12, "{policy} {verifier:?}: {tv}");
            }
        }
    }
}

/// Drafts a chain behind `text`, verifies it, reports.
fn round(
    pair: &Pair,
    verifier: Verifier,
    controller: &mut dyn trivium_spec::control::Controller,
    text: &mut Vec<TokenId>,
    c: &mut Enumerator,
) {
    let noise = Address::new(3, text.len() as u32, 0);
    let mut chain = Chain::new(0, pair.vocab, 2, noise, true, controller.fork());
    while !chain.frontier().is_empty() {
        let path = chain.tree().path(chain.frontier()[0]);
        let row = pair.rows(&[&text[..], &path].concat()).1;
        chain.push(&row, c).unwrap();
    }
    let tree = chain.finish();
    let (mut p, mut q) = (Vec::new(), Vec::new());
    for n in 0..tree.len() {
        let (a, b) = pair.rows(&[&text[..], &tree.path(n)].concat());
        p.extend_from_slice(&a);
        q.extend_from_slice(&b);
    }
    let view = Tree {
        tokens: &tree.tokens,
        parents: &tree.parents,
        roles: &[],
        law: DraftLaw::IidQ,
        start: text.len() as u32,
        bonus: true,
    };
    let mut rows = ProbRows::weights(&p, Some(&q), pair.vocab).unwrap();
    let walk = verify_tree(verifier, &view, &mut rows, c, &mut Work::default()).unwrap();
    let drafted = tree.len() - 1;
    let path: Vec<Reached> = (0..drafted.min(walk.nodes.len() + 1))
        .map(|i| Reached { q: chain.laws()[i], p: 0.5, accepted: i < walk.nodes.len() })
        .collect();
    controller.report(&Feedback {
        allowed: controller.length(StepCtx::alone(noise)),
        drafted,
        depth: drafted,
        accepted: walk.nodes.len(),
        cost: None,
        path: &path,
    });
    text.extend(walk.tokens);
}

/// What the two hooks cannot express: drop a drawn token because it is unlikely.
#[test]
fn a_stop_that_drops_the_token_is_caught() {
    let mut caught = 0;
    for seed in 0..6 {
        let pair = Pair::hashed(3, 5100 + seed, Family::Dirichlet10);
        for verifier in [Verifier::Token, Verifier::Block] {
            let dropping = |c: &mut Enumerator| {
                let mut tree = DraftTree::root(0);
                for depth in 0..2 {
                    let q = pair.q(&tree.path(depth));
                    let t = c.categorical(START, Purpose::Draft, &q);
                    if q[t] < 0.4 {
                        break;
                    }
                    tree.add(depth, t as TokenId, 1.0, Role::Drawn);
                }
                tree
            };
            caught += usize::from(distance(&pair, DraftLaw::IidQ, verifier, &dropping).0 > 1e-3);
        }
    }
    assert!(caught >= 10, "{caught} of 12");
    // The legal rule of the same threshold, by the same road, is exact.
    let pair = Pair::hashed(3, 5100, Family::Dirichlet10);
    let legal = |c: &mut Enumerator| {
        let rule = trivium_spec::control::Confidence { threshold: 0.4, max: 2 };
        let noise = Address::new(0, START, 0);
        grow(&mut Chain::new(0, 3, 2, noise, true, Box::new(rule)), &pair, c)
    };
    assert!(distance(&pair, DraftLaw::IidQ, Verifier::Block, &legal).0 < 1e-12);
}

/// Node logits of a proposed tree.
fn rows(model: &ToyModel, text: &[TokenId], batch: &trivium_spec::TreeBatch) -> Vec<f32> {
    (0..batch.num_nodes())
        .flat_map(|node| {
            let (mut path, mut n) = (Vec::new(), node);
            while n != 0 {
                path.push(batch.tokens()[n]);
                n = batch.parents()[n] as usize;
            }
            path.reverse();
            model.logits(&[text, &path].concat())
        })
        .collect()
}

/// Every policy of the speculator, end to end: the seeded text is the plain loop's, budgets hold,
/// and the controllers do decide.
#[test]
fn every_policy_keeps_the_seeded_text() {
    let mut sizes = std::collections::BTreeSet::new();
    for name in CONTROLS.into_iter().chain(["auto", "full", "fixed:0", "svip:0.01", "ucb:0/3"]) {
        let policy: Policy = name.parse().unwrap();
        for (i, shape) in SHAPES.into_iter().enumerate() {
            let model = ToyModel { vocab: 5, seed: i as u32, shape };
            let prompt = [0, 1, 2, 0, 1, 2, 0];
            let law = Params { temperature: 0.6, ..Params::default() };
            let mut want = prompt.to_vec();
            let mut noise = Keyed::new(9, 0);
            let mut row = ScaledRow::new();
            while want.len() < 60 {
                law.process(LogitsRow::F32(&model.logits(&want)), None, &mut row).unwrap();
                let t = noise.target(want.len() as u32, Draw::Cdf, &mut row);
                want.push(t);
            }
            let spec = Speculator::new(SpeculatorConfig {
                vocab_size: 5,
                sources: vec!["suffix".into(), "recycle".into()],
                max_nodes: 12,
                max_depth: 5,
                policy,
                seed: 9,
                max_bytes: 1 << 16,
            })
            .unwrap();
            let mut r = spec.start(&prompt, RequestOptions::default()).unwrap();
            let mut nodes = 0;
            while r.len() < 60 {
                let batch = spec.propose(&mut [&mut r], None).unwrap();
                let again = spec.propose(&mut [&mut r], None).unwrap();
                assert_eq!(batch.tokens(), again.tokens(), "{name}: a proposal is repeatable");
                assert!(batch.num_nodes() <= 12);
                nodes += batch.num_nodes() - 1;
                let data = rows(&model, r.tokens(), &batch);
                let n = batch.num_nodes();
                let logits = LogitsBatch::new(LogitsData::F32(&data), n, 5, 5).unwrap();
                let laws: Vec<Box<dyn TargetLaw>> = vec![Box::new(law)];
                let out = spec.verify_logits(&batch, &[&mut r], logits, &laws).unwrap();
                spec.observe_forward(n, 1.0 + 0.1 * n as f64);
                spec.commit(&out, &mut [&mut r]).unwrap();
            }
            assert_eq!(&r.tokens()[..60], &want[..], "{name} {shape:?}");
            if name == "fixed:0" {
                assert_eq!(nodes, 0);
            }
            sizes.insert((i, nodes));
        }
    }
    assert!(sizes.len() > 30, "policies that all draft alike decide nothing: {}", sizes.len());
}

/// A drafting that cannot pay is switched off and then costs no tree; cheap times switch it on.
#[test]
fn the_switch_sleeps_and_wakes() {
    let config = SpeculatorConfig {
        vocab_size: 5,
        sources: vec!["suffix".into()],
        max_nodes: 12,
        max_depth: 5,
        policy: Policy::Auto,
        seed: 9,
        max_bytes: 1 << 16,
    };
    let spec = Speculator::new(config).unwrap();
    let mut r = spec.start(&[0, 1, 2, 0, 1, 2, 0, 1], RequestOptions::default()).unwrap();
    for n in [1usize, 2, 4, 8, 16] {
        (0..9).for_each(|_| spec.observe_forward(n, n as f64));
    }
    let step = |r: &mut trivium_spec::Request| {
        let batch = spec.propose(&mut [&mut *r], None).unwrap();
        let ids = vec![4i64; batch.num_nodes()];
        let out = spec.verify_ids(&batch, &[&mut *r], &ids, None).unwrap();
        spec.commit(&out, &mut [r]).unwrap();
        batch.num_nodes() - 1
    };
    assert_eq!((0..40).map(|_| step(&mut r)).sum::<usize>(), 0, "a node costs a pass");
    for n in [1usize, 2, 4, 8, 16] {
        (0..9).for_each(|_| spec.observe_forward(n, 1.0));
    }
    // The longest sleep is 64 steps.
    assert!((0..80).map(|_| step(&mut r)).sum::<usize>() > 0, "cheap nodes wake it");
}

#[test]
fn summaries_of_rows_and_candidates_agree() {
    let q = [0.5f32, 0.3, 0.2];
    let a = QSummary::of_weights(&q).unwrap();
    let b = QSummary::of_candidates(q.iter().map(|&x| f64::from(x)));
    assert!((a.top - b.top).abs() < 1e-7 && (a.entropy - b.entropy).abs() < 1e-6);
}
