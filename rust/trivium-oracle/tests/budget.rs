//! The heap over the batch against exhaustion: under a total budget it finds the best trees.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

use trivium_core::rng::philox;
use trivium_spec::{Policy, Request, RequestOptions, Speculator, SpeculatorConfig, TreeBatch};

/// Best sum of scores of `k` drafted nodes for every `k`, over all subsets closed under parents.
fn best_of_one(parents: &[i32], scores: &[f32]) -> Vec<f64> {
    let n = parents.len() - 1;
    let mut best = vec![f64::NEG_INFINITY; n + 1];
    for subset in 0u32..1 << n {
        let has = |node: i32| node == 0 || subset >> (node - 1) & 1 == 1;
        if (1..=n as i32).all(|c| !has(c) || has(parents[c as usize])) {
            let sum: f64 = (1..=n).filter(|&c| has(c as i32)).map(|c| f64::from(scores[c])).sum();
            let k = subset.count_ones() as usize;
            best[k] = best[k].max(sum);
        }
    }
    best
}

fn drafted(batch: &TreeBatch) -> f64 {
    (0..batch.len()).flat_map(|b| batch.span(b).skip(1)).map(|i| f64::from(batch.scores()[i])).sum()
}

/// Every split of every total budget, over requests whose whole candidate trees are small enough to
/// try all closed subsets.
#[test]
fn the_heap_splits_a_total_budget_best() {
    let mut checked = 0;
    for seed in 0..24u32 {
        let spec = Speculator::new(SpeculatorConfig {
            vocab_size: 4,
            sources: vec!["suffix".into(), "recycle".into()],
            max_nodes: 13,
            max_depth: 2,
            policy: Policy::Full,
            seed: 0,
            max_bytes: 1 << 16,
        })
        .unwrap();
        let mut requests: Vec<Request> = (0..3u32)
            .map(|r| {
                let text: Vec<u32> =
                    (0..30 + 7 * r).map(|i| philox([i, r, 0, 0], [seed, 1])[0] % (2 + r)).collect();
                spec.start(&text, RequestOptions::default()).unwrap()
            })
            .collect();
        let mut views: Vec<&mut Request> = requests.iter_mut().collect();
        let whole = spec.propose(&mut views, None).unwrap();
        let each: Vec<Vec<f64>> = (0..3)
            .map(|b| best_of_one(&whole.parents()[whole.span(b)], &whole.scores()[whole.span(b)]))
            .collect();
        for total in 3..=whole.num_nodes() {
            let got = spec.propose(&mut views, Some(total)).unwrap();
            assert!(got.num_nodes() <= total);
            let mut want = 0f64;
            for (i, a) in each[0].iter().enumerate() {
                for (j, b) in each[1].iter().enumerate() {
                    for (k, c) in each[2].iter().enumerate() {
                        if i + j + k + 3 <= total {
                            want = want.max(a + b + c);
                        }
                    }
                }
            }
            assert!(
                (drafted(&got) - want).abs() < 1e-5,
                "{seed} {total}: {} {want}",
                drafted(&got)
            );
            checked += 1;
        }
    }
    assert!(checked > 300, "{checked}");
}
