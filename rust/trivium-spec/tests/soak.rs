//! Long use of one speculator: memory stays under its limit and no step becomes slower.

#![allow(clippy::unwrap_used)] // a failed step is a failed test
#![allow(missing_docs)]

use std::time::Instant;
use trivium_spec::{Policy, RequestOptions, Scope, Speculator, SpeculatorConfig};

/// Text with a working set: phrases of a pool that slowly changes, with noise between them.
struct Writer {
    state: u64,
    pool: Vec<Vec<u32>>,
    vocab: u32,
}

impl Writer {
    fn next(&mut self, below: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) as usize % below
    }

    fn text(&mut self, len: usize) -> Vec<u32> {
        let mut out = Vec::with_capacity(len + 16);
        while out.len() < len {
            if self.next(4) == 0 {
                out.push(self.next(self.vocab as usize) as u32);
            } else {
                let phrase = self.next(self.pool.len());
                if self.next(50) == 0 {
                    let (n, vocab) = (4 + self.next(12), self.vocab as usize);
                    self.pool[phrase] = (0..n).map(|_| self.next(vocab) as u32).collect();
                }
                out.extend_from_slice(&self.pool[phrase]);
            }
        }
        out.truncate(len);
        out
    }
}

/// Bytes of the process that are in memory, where the system tells.
fn resident() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split_whitespace().nth(1)?.parse::<usize>().ok()? * 4096)
}

fn soak(requests: usize, tokens: usize, limit: usize) {
    let spec = Speculator::new(SpeculatorConfig {
        vocab_size: 32_000,
        sources: vec!["suffix".into(), "recycle".into()],
        max_nodes: 17,
        max_depth: 16,
        policy: Policy::Full,
        seed: 1,
        max_bytes: limit,
    })
    .unwrap();
    let pool = (0..400u32).map(|i| (0..8).map(|j| (i * 79 + j * 31) % 32_000).collect()).collect();
    let mut writer = Writer { state: 7, pool, vocab: 32_000 };
    let mut windows = Vec::new();
    let mut resident_at = Vec::new();
    for window in 0..10 {
        let begun = Instant::now();
        for i in 0..requests / 10 {
            let text = writer.text(tokens / requests);
            let (prompt, output) = text.split_at(text.len() / 10);
            let group = (i % 4 == 0).then(|| format!("{window}/{}", i / 16));
            let options =
                RequestOptions { scope: Scope { tenant: None, group }, ..Default::default() };
            let mut request = spec.start(prompt, options).unwrap();
            let mut at = 0;
            while at < output.len() {
                let batch = spec.propose(&mut [&mut request], None).unwrap();
                // The recorded token after every node of the path, -1 elsewhere.
                let mut sampled = vec![-1i64; batch.num_nodes()];
                let (mut node, mut taken) = (0, 0);
                while let Some(&truth) = output.get(at + taken) {
                    sampled[node] = i64::from(truth);
                    taken += 1;
                    let child = (node + 1..batch.num_nodes()).find(|&c| {
                        batch.parents()[c] as usize == node && batch.tokens()[c] == truth
                    });
                    match child {
                        Some(child) => node = child,
                        None => break,
                    }
                }
                if sampled[node] == -1 {
                    request.commit(&output[at..]).unwrap(); // the text ends within the draft
                    break;
                }
                let out = spec.verify_ids(&batch, &[&mut request], &sampled, None).unwrap();
                spec.commit(&out, &mut [&mut request]).unwrap();
                at += out.tokens().len();
            }
            assert_eq!(request.len(), text.len());
            request.finish(true);
        }
        windows.push(begun.elapsed().as_secs_f64());
        resident_at.extend(resident());
        // Texts of the tenant and of its groups; recycling holds eight ids a token of the vocabulary.
        assert!(spec.memory()["suffix"] <= limit, "{:?}", spec.memory());
        assert!(spec.memory()["recycle"] <= 4 << 20, "{:?}", spec.memory());
    }
    let stats = spec.stats();
    assert_eq!(stats.steps, stats.tokens - stats.accepted);
    assert!(stats.accepted > stats.steps / 4, "the texts repeat, {stats:?}");
    let (early, late) = (windows[2..5].iter().copied(), windows[7..].iter().copied());
    let fastest = |w: &mut dyn Iterator<Item = f64>| w.fold(f64::INFINITY, f64::min);
    let (early, late) = (fastest(&mut { early }), fastest(&mut { late }));
    assert!(late < 3.0 * early, "windows of equal work took {windows:?} s");
    if let (Some(&middle), Some(&end)) = (resident_at.get(4), resident_at.last()) {
        assert!(end < middle + middle / 4 + (8 << 20), "resident: {resident_at:?}");
    }
    assert!(stats.calibration.error() < 0.03, "{}", stats.calibration.error());
}

/// The share of continuous integration: the limit is small, so that the ring turns over many times.
#[test]
fn memory_and_time_stay_flat() {
    soak(200, 60_000, 1 << 20);
}

#[test]
#[ignore = "about a minute"]
fn two_million_tokens_under_64_megabytes() {
    soak(2_000, 2_000_000, 64 << 20);
}
