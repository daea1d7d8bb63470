//! Race rules: the seeded text must be the plain race's, whatever is drafted.

use trivium_core::logits::{LogitsBatch, LogitsData};
use trivium_core::rng::philox;
use trivium_core::{Address, Draw, LogitsRow, ScaledRow, TargetLaw, TokenId};
use trivium_spec::tree::{DraftLaw, race_arrivals};
use trivium_spec::{Policy, RequestOptions, Speculator, SpeculatorConfig, TreeBatch};

use crate::toy::{SHAPES, ToyModel};

/// The law of plain logits.
#[derive(Debug, Clone, Copy)]
struct Plain;

impl TargetLaw for Plain {
    fn process(
        &self,
        logits: LogitsRow<'_>,
        allowed: Option<&[u32]>,
        out: &mut ScaledRow,
    ) -> trivium_core::Result<()> {
        out.load(logits, allowed, 1.0)
    }

    fn observe(&mut self, _token: TokenId) {}

    fn fork(&self) -> Box<dyn TargetLaw> {
        Box::new(*self)
    }
}

/// A tree of first arrivals of the race over another model's logits, `n` children a node.
pub fn race_tree(
    draft: &ToyModel,
    text: &[TokenId],
    levels: &[usize],
    seed: u64,
) -> (Vec<TokenId>, Vec<i32>) {
    let mut tokens = vec![*text.last().unwrap_or(&0)];
    let mut parents = vec![-1];
    let mut paths: Vec<Vec<TokenId>> = vec![Vec::new()];
    let mut level = vec![0usize];
    let mut arrivals = Vec::new();
    for &n in levels {
        let mut next = Vec::new();
        for node in level {
            let prefix = [text, &paths[node]].concat();
            let address = Address::new(seed, prefix.len() as u32, 0);
            race_arrivals(&draft.logits(&prefix), address, n, &mut arrivals);
            for &t in &arrivals {
                next.push(tokens.len());
                tokens.push(t);
                parents.push(node as i32);
                paths.push([&paths[node][..], &[t]].concat());
            }
        }
        level = next;
    }
    (tokens, parents)
}

/// Compares seeded texts; returns how many and the share that differed.
///
/// # Panics
/// If a call is refused.
pub fn check(cases: usize) -> (usize, f64) {
    let mut wrong = 0;
    for case in 0..cases {
        let [a, b, c, _] = philox([case as u32, 0, 0, 1], [3, 5]);
        let vocab = 2 + a as usize % 9;
        let model = ToyModel { vocab, seed: b, shape: SHAPES[case % SHAPES.len()] };
        let draft = ToyModel { vocab, seed: c, shape: SHAPES[(case / 6) % SHAPES.len()] };
        let seed = u64::from(c) << 20 | u64::from(a);
        let levels: &[usize] = [&[1, 1, 1][..], &[2, 2], &[3], &[4, 1, 1]][case % 4];
        if step(&model, &draft, seed, levels) != plain(&model, seed, 10) {
            wrong += 1;
        }
    }
    (cases, f64::from(wrong) / cases as f64)
}

fn plain(model: &ToyModel, seed: u64, len: usize) -> Vec<TokenId> {
    let mut text = vec![0];
    let mut row = ScaledRow::new();
    while text.len() < len {
        row.load((&model.logits(&text)[..]).into(), None, 1.0).unwrap_or_else(|e| panic!("{e}"));
        text.push(row.draw(Draw::Race, Address::new(seed, text.len() as u32, 0)));
    }
    text
}

fn step(model: &ToyModel, draft: &ToyModel, seed: u64, levels: &[usize]) -> Vec<TokenId> {
    let run = || -> trivium_core::Result<Vec<TokenId>> {
        let spec = Speculator::new(SpeculatorConfig {
            vocab_size: model.vocab,
            sources: Vec::new(),
            max_nodes: 64,
            max_depth: 4,
            policy: Policy::Full,
            seed,
            max_bytes: 1 << 16,
        })?;
        let options = RequestOptions { draw: Draw::Race, ..Default::default() };
        let mut request = spec.start(&[0], options)?;
        while request.len() < 10 {
            let (tokens, parents) = race_tree(draft, request.tokens(), levels, seed);
            let cu = [0, tokens.len()];
            let batch = TreeBatch::from_arrays(
                &tokens,
                &parents,
                &cu,
                &[request.len()],
                DraftLaw::Race,
                model.vocab,
            )?;
            let mut rows = Vec::new();
            for node in 0..tokens.len() {
                let mut path = Vec::new();
                let mut n = node;
                while n != 0 {
                    path.push(tokens[n]);
                    n = parents[n] as usize;
                }
                path.reverse();
                rows.extend(model.logits(&[request.tokens(), &path].concat()));
            }
            let logits =
                LogitsBatch::new(LogitsData::F32(&rows), tokens.len(), model.vocab, model.vocab)?;
            let laws: Vec<Box<dyn TargetLaw>> = vec![Box::new(Plain)];
            let out = spec.verify_logits(&batch, &[&mut request], logits, &laws)?;
            spec.commit(&out, &mut [&mut request])?;
        }
        Ok(request.tokens()[..10].to_vec())
    };
    run().unwrap_or_else(|e| panic!("{e}"))
}
