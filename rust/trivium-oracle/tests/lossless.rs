//! Losslessness, by enumeration and by bit equality.
//!
//! The whole loop (stores, builder, verifier, commit) is run over every random outcome on tiny
//! target models; the law of the emitted text must be the law of plain sampling to 1e-12. The same
//! loop with keyed noise must emit the same text as the plain loop, for both draws.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use proptest::prelude::*;
use trivium_core::logits::{LogitsBatch, LogitsData};
use trivium_core::{Chance, Draw, Keyed, LogitsRow, ScaledRow, TargetLaw, TokenId};
use trivium_oracle::toy::{SHAPES, ToyModel};
use trivium_oracle::{law_of, total_variation};
use trivium_sample::Params;
use trivium_spec::draft::SOURCES;
use trivium_spec::{
    DraftLaw, Policy, Request, RequestOptions, Speculator, SpeculatorConfig, TreeBatch,
};

fn speculator(vocab: usize, sources: &[&str], max_nodes: usize) -> Speculator {
    Speculator::new(SpeculatorConfig {
        vocab_size: vocab,
        sources: sources.iter().map(ToString::to_string).collect(),
        max_nodes,
        max_depth: 4,
        policy: Policy::Full,
        seed: 0,
        max_bytes: 1 << 16,
    })
    .unwrap()
}

/// Rows of a tree: the model's logits after the committed text and each node's path.
fn rows(model: &ToyModel, text: &[TokenId], batch: &TreeBatch) -> Vec<f32> {
    let mut out = Vec::new();
    for node in 0..batch.num_nodes() {
        let mut path = Vec::new();
        let mut n = node;
        while n != 0 {
            path.push(batch.tokens()[n]);
            n = batch.parents()[n] as usize;
        }
        path.reverse();
        out.extend(model.logits(&[text, &path].concat()));
    }
    out
}

/// Plain sampling: one draw a position.
fn plain(
    model: &ToyModel,
    prompt: &[TokenId],
    len: usize,
    law: &Params,
    draw: Draw,
    chance: &mut dyn Chance,
) -> Vec<TokenId> {
    let mut text = prompt.to_vec();
    let mut row = ScaledRow::new();
    while text.len() < prompt.len() + len {
        law.process(LogitsRow::F32(&model.logits(&text)), None, &mut row).unwrap();
        let token = chance.target(text.len() as u32, draw, &mut row);
        text.push(token);
    }
    text
}

/// One speculative step with `batch`.
fn step(
    spec: &Speculator,
    model: &ToyModel,
    request: &mut Request,
    batch: &TreeBatch,
    law: &Params,
    chance: &mut dyn Chance,
) {
    let data = rows(model, request.tokens(), batch);
    let logits =
        LogitsBatch::new(LogitsData::F32(&data), batch.num_nodes(), model.vocab, model.vocab)
            .unwrap();
    let laws: Vec<Box<dyn TargetLaw>> = vec![Box::new(*law)];
    let out = spec.verify_with(batch, &[&mut *request], logits, &laws, &mut [chance]).unwrap();
    spec.commit(&out, &mut [request]).unwrap();
}

/// The speculative loop; drafts come from the stores.
#[allow(clippy::too_many_arguments)] // one call a test, all of them differ
fn speculative(
    sources: &[&str],
    nodes: usize,
    model: &ToyModel,
    prompt: &[TokenId],
    len: usize,
    law: &Params,
    draw: Draw,
    chance: &mut dyn Chance,
) -> (Vec<TokenId>, u64) {
    let spec = speculator(model.vocab, sources, nodes);
    let mut request = spec.start(prompt, RequestOptions { draw, ..Default::default() }).unwrap();
    while request.len() < prompt.len() + len {
        let batch = spec.propose(&mut [&mut request], None).unwrap();
        step(&spec, model, &mut request, &batch, law, chance);
    }
    let mut text = request.tokens().to_vec();
    text.truncate(prompt.len() + len);
    (text, spec.stats().accepted)
}

fn laws() -> [Params; 5] {
    let n = Params::default();
    [
        n,
        Params { temperature: 0.0, ..n },
        Params { temperature: 0.7, top_p: 0.8, ..n },
        Params { temperature: 1.4, top_k: 2, ..n },
        Params { min_p: 0.3, ..n },
    ]
}

/// Enumerated: total variation of the text's law to plain sampling, whole loop, every shape.
#[test]
fn lossless_by_enumeration_of_the_whole_loop() {
    let mut accepted_somewhere = 0;
    let mut cases = 0;
    for (i, shape) in SHAPES.into_iter().enumerate() {
        for (j, law) in laws().iter().enumerate() {
            for vocab in [2usize, 3] {
                for sources in [&["suffix", "recycle"][..], &["recycle"], &["suffix"]] {
                    let model = ToyModel { vocab, seed: (i * 7 + j) as u32, shape };
                    let prompt = [0, 1, 0, 1, 0];
                    let len = 4;
                    let want = law_of(|c| plain(&model, &prompt, len, law, Draw::Cdf, c));
                    let got = law_of(|c| {
                        // Tokens past `len` are drawn too; they must not change the marginal.
                        let (text, accepted) =
                            speculative(sources, 6, &model, &prompt, len, law, Draw::Cdf, c);
                        accepted_somewhere += accepted;
                        text
                    });
                    let mass: f64 = got.values().sum();
                    let tv = total_variation(&want, &got);
                    assert!((mass - 1.0).abs() < 1e-12 && tv < 1e-12, "{model:?} {law:?}: tv {tv}");
                    cases += 1;
                }
            }
        }
    }
    assert!(
        cases == 180 && accepted_somewhere > 1000,
        "the drafts must be accepted for this to mean anything"
    );
}

/// Enumerated: every source, alone.
#[test]
fn lossless_by_enumeration_of_every_source() {
    for source in SOURCES {
        let mut accepted_somewhere = 0;
        for (shape, law) in [(0, 0), (2, 2), (3, 1), (4, 3)] {
            let model = ToyModel { vocab: 2, seed: 11 + shape as u32, shape: SHAPES[shape] };
            let law = laws()[law];
            let prompt = [0, 1, 0, 1, 0, 1, 0];
            let want = law_of(|c| plain(&model, &prompt, 4, &law, Draw::Cdf, c));
            let got = law_of(|c| {
                let (text, accepted) =
                    speculative(&[source], 6, &model, &prompt, 4, &law, Draw::Cdf, c);
                accepted_somewhere += accepted;
                text
            });
            let mass: f64 = got.values().sum();
            let tv = total_variation(&want, &got);
            assert!((mass - 1.0).abs() < 1e-12 && tv < 1e-12, "{source} {model:?}: tv {tv}");
        }
        assert!(accepted_somewhere > 0, "{source} must draft something that is accepted");
    }
}

/// Every tree over two tokens with up to four drafted nodes.
fn all_trees() -> Vec<(Vec<TokenId>, Vec<i32>)> {
    let mut out = vec![(vec![0], vec![-1])];
    let mut from = 0;
    for _ in 0..4 {
        let end = out.len();
        for i in from..end {
            let (tokens, parents) = out[i].clone();
            for parent in 0..tokens.len() as i32 {
                for token in 0..2 {
                    let taken =
                        (1..tokens.len()).any(|n| parents[n] == parent && tokens[n] == token);
                    if !taken {
                        let mut next = (tokens.clone(), parents.clone());
                        next.0.push(token);
                        next.1.push(parent);
                        out.push(next);
                    }
                }
            }
        }
        from = end;
    }
    out
}

/// Enumerated: one step over every host-made tree, then plain sampling.
#[test]
fn lossless_by_enumeration_of_every_small_tree() {
    let model = ToyModel { vocab: 2, seed: 3, shape: trivium_oracle::toy::Shape::Peaked };
    let law = Params::default();
    let prompt = [1, 0];
    let want = law_of(|c| plain(&model, &prompt, 4, &law, Draw::Cdf, c));
    let trees = all_trees();
    for (tokens, parents) in &trees {
        let got = law_of(|c| {
            let spec = speculator(2, &[], 8);
            let mut r = spec.start(&prompt, RequestOptions::default()).unwrap();
            let cu = [0, tokens.len()];
            let batch =
                TreeBatch::from_arrays(tokens, parents, &cu, &[r.len()], DraftLaw::PointMass, 2)
                    .unwrap();
            step(&spec, &model, &mut r, &batch, &law, c);
            let mut text = r.tokens().to_vec();
            let mut row = ScaledRow::new();
            while text.len() < 6 {
                law.process(LogitsRow::F32(&model.logits(&text)), None, &mut row).unwrap();
                text.push(c.target(text.len() as u32, Draw::Cdf, &mut row));
            }
            text.truncate(6);
            text
        });
        assert!(total_variation(&want, &got) < 1e-12, "{tokens:?} {parents:?}");
    }
    assert!(trees.len() > 100);
}

/// The check can fail: a verifier that reads its parent's row is caught.
#[test]
fn a_planted_off_by_one_row_is_caught() {
    let model = ToyModel { vocab: 2, seed: 3, shape: trivium_oracle::toy::Shape::Peaked };
    let law = Params::default();
    let prompt = [1, 0];
    let want = law_of(|c| plain(&model, &prompt, 3, &law, Draw::Cdf, c));
    let got = law_of(|c| {
        let spec = speculator(2, &[], 8);
        let mut r = spec.start(&prompt, RequestOptions::default()).unwrap();
        let tree = (vec![0, 0, 1], vec![-1, 0, 0]);
        let batch =
            TreeBatch::from_arrays(&tree.0, &tree.1, &[0, 3], &[r.len()], DraftLaw::PointMass, 2)
                .unwrap();
        let root = model.logits(r.tokens());
        let data = [root.clone(), root.clone(), root].concat();
        let logits = LogitsBatch::new(LogitsData::F32(&data), 3, 2, 2).unwrap();
        let laws: Vec<Box<dyn TargetLaw>> = vec![Box::new(law)];
        let out = spec.verify_with(&batch, &[&mut r], logits, &laws, &mut [c]).unwrap();
        spec.commit(&out, &mut [&mut r]).unwrap();
        let mut text = r.tokens().to_vec();
        let mut row = ScaledRow::new();
        while text.len() < 5 {
            law.process(LogitsRow::F32(&model.logits(&text)), None, &mut row).unwrap();
            text.push(c.target(text.len() as u32, Draw::Cdf, &mut row));
        }
        text.truncate(5);
        text
    });
    assert!(total_variation(&want, &got) > 1e-3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Path-lossless: the seeded text is the plain loop's, bit for bit, for both draws.
    #[test]
    fn lossless_by_equality_of_seeded_texts(
        seed: u64, model_seed: u32, shape in 0usize..6, law in 0usize..5, vocab in 2usize..9,
        nodes in 1usize..12, which in 0usize..SOURCES.len() + 4, race: bool, branch in 0u32..3,
        prompt in prop::collection::vec(0u32..2, 1..12),
    ) {
        let model = ToyModel { vocab, seed: model_seed, shape: SHAPES[shape] };
        let law = laws()[law];
        let draw = if race { Draw::Race } else { Draw::Cdf };
        let of = |which: usize| std::slice::from_ref(&SOURCES[which]);
        let pairs = [&["recycle", "suffix"][..], &["ngram", "jacobi"], &["ouroboros", "recycle"]];
        let sources: &[&str] = match which.checked_sub(SOURCES.len()) {
            None => of(which),
            Some(3) => &[],
            Some(i) => pairs[i],
        };
        let want = plain(&model, &prompt, 20, &law, draw, &mut Keyed::new(seed, branch));
        let (got, _) = speculative(
            sources, nodes, &model, &prompt, 20, &law, draw, &mut Keyed::new(seed, branch));
        prop_assert_eq!(got, want);
    }
}
