//! One speculator, many threads: proposals run while others commit and finish, and no text depends
//! on it.

#![allow(clippy::unwrap_used)] // a failed step is a failed test
#![allow(missing_docs)]

use std::sync::Barrier;
use std::thread;
use trivium_spec::{Policy, RequestOptions, Scope, Speculator, SpeculatorConfig};

const VOCAB: u32 = 50;

/// The token that the model would sample after a text: repetitive, with a seed's own noise.
fn model(text: &[u32], seed: u32) -> u32 {
    let hash = text.iter().rev().take(2).fold(seed % 3, |h, &t| h.wrapping_mul(31).wrapping_add(t));
    (hash.wrapping_mul(2_654_435_761) >> 8) % VOCAB
}

fn plain(prompt: &[u32], seed: u32, len: usize) -> Vec<u32> {
    let mut text = prompt.to_vec();
    while text.len() < len {
        text.push(model(&text, seed));
    }
    text
}

#[test]
fn texts_do_not_depend_on_what_other_threads_do() {
    const LEN: usize = 300;
    let spec = Speculator::new(SpeculatorConfig {
        vocab_size: VOCAB as usize,
        sources: vec!["suffix".into(), "recycle".into()],
        max_nodes: 12,
        max_depth: 8,
        policy: Policy::Full,
        seed: 1,
        max_bytes: 1 << 17, // small: generations come and go meanwhile
    })
    .unwrap();
    let barrier = Barrier::new(6);
    thread::scope(|scope| {
        for worker in 0..6u32 {
            let (spec, barrier) = (&spec, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for round in 0..6u32 {
                    let seeds = [worker * 7 + round, worker + round];
                    let prompt = [worker % 4, round % 4];
                    let group = (worker % 2 == 0).then(|| format!("{round}"));
                    let mut requests: Vec<_> = seeds
                        .iter()
                        .map(|_| {
                            let scope = Scope { tenant: None, group: group.clone() };
                            let options = RequestOptions { scope, ..Default::default() };
                            spec.start(&prompt, options).unwrap()
                        })
                        .collect();
                    while requests.iter().any(|r| r.len() < LEN) {
                        let mut views: Vec<_> = requests.iter_mut().collect();
                        let batch = spec.propose(&mut views, None).unwrap();
                        let mut sampled = Vec::new();
                        for (b, seed) in seeds.iter().enumerate() {
                            let span = batch.span(b);
                            let parents = &batch.parents()[span.clone()];
                            let tokens = &batch.tokens()[span];
                            let mut texts: Vec<Vec<u32>> = Vec::new();
                            for node in 0..tokens.len() {
                                let mut text = match parents[node] {
                                    -1 => views[b].tokens()[..views[b].len() - 1].to_vec(),
                                    p => texts[p as usize].clone(),
                                };
                                text.push(tokens[node]);
                                sampled.push(i64::from(model(&text, *seed)));
                                texts.push(text);
                            }
                        }
                        let out = spec.verify_ids(&batch, &views, &sampled, None).unwrap();
                        spec.commit(&out, &mut views).unwrap();
                    }
                    for (request, seed) in requests.iter_mut().zip(seeds) {
                        let want = plain(&prompt, seed, request.len());
                        assert_eq!(request.tokens(), want);
                        request.finish(true);
                    }
                }
            });
        }
    });
    let stats = spec.stats();
    assert!(stats.accepted > 0, "{stats:?}");
    assert!(spec.memory()["suffix"] <= 1 << 18);
}
