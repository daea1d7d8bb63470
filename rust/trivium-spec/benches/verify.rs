//! Verification against the bandwidth it needs: `cargo bench -p trivium-spec --bench verify`.
//!
//! 64-node trees over 128k tokens. Two yardsticks, measured over the same rows: a plain sum as any
//! program for the baseline CPU reads them, and the same sum compiled for AVX-512 where there is
//! one, which is what the caches or the memory can give. `warm` rows lie in the last-level cache;
//! `cold` ones are read from memory, from a set of trees larger than it. Allocations of a warm call
//! are counted.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a program, not a library

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use trivium_core::logits::{LogitsBatch, LogitsData};
use trivium_core::rng::philox;
use trivium_core::{Keyed, TargetLaw, TokenId};
use trivium_sample::Params;
use trivium_spec::tree::DraftLaw;
use trivium_spec::verify::{ProbRows, Rows, Tree, Verifier, VerifierChoice, Work, verify_tree};
use trivium_spec::{Policy, RequestOptions, Speculator, SpeculatorConfig, TreeBatch};

struct Counting;
static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed to the system allocator unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const VOCAB: usize = 128_000;
const NODES: usize = 64;
/// Rows of the walk: seven accepted and one more.
const READ: usize = 8;

/// Median of microseconds, and bytes that a warm call allocates.
fn time(mut f: impl FnMut()) -> (f64, usize) {
    f();
    let before = BYTES.load(Ordering::Relaxed);
    f();
    let bytes = BYTES.load(Ordering::Relaxed) - before;
    let mut runs: Vec<f64> = (0..41)
        .map(|_| {
            let t = Instant::now();
            f();
            t.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    (runs[20], bytes)
}

/// A sum over rows: what reading them costs.
#[inline(always)] // into its wide copy
#[allow(clippy::inline_always)]
fn read(rows: &[f32]) {
    let mut acc = [0f32; 64];
    for chunk in black_box(rows).chunks_exact(64) {
        for (a, x) in acc.iter_mut().zip(chunk) {
            *a += x;
        }
    }
    black_box(acc);
}

/// The same with the widest registers.
fn read_wide(rows: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f")]
        fn wide(rows: &[f32]) {
            read(rows);
        }
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the line above.
            #[allow(unsafe_code)]
            return unsafe { wide(rows) };
        }
    }
    read(rows);
}

fn noise(n: usize) -> Vec<f32> {
    (0..n as u32).map(|i| (philox([i, 0, 0, 0], [1, 2])[0] >> 8) as f32 / 1_677_721.6).collect()
}

fn main() {
    let logits = noise(NODES * VOCAB);
    // A chain that the seeded text follows for seven tokens, padded with siblings of its root.
    let spec = Speculator::new(SpeculatorConfig {
        vocab_size: VOCAB,
        sources: Vec::new(),
        max_nodes: NODES,
        max_depth: 16,
        policy: Policy::Full,
        seed: 1,
        max_bytes: 1 << 20,
    })
    .unwrap();
    let mut request = spec.start(&[1], RequestOptions::default()).unwrap();
    let batch = LogitsBatch::new(LogitsData::F32(&logits), NODES, VOCAB, VOCAB).unwrap();
    let laws: Vec<Box<dyn TargetLaw>> = vec![Box::new(Params::default())];
    let rows = Rows { logits: batch, q: None, laws: &laws };
    let (mut tokens, mut parents): (Vec<TokenId>, Vec<i32>) = (vec![1], vec![-1]);
    for node in 0..7 {
        let view = TreeBatch::from_arrays(
            &tokens,
            &parents,
            &[0, tokens.len()],
            &[1],
            DraftLaw::PointMass,
            VOCAB,
        )
        .unwrap();
        let part = LogitsBatch::new(LogitsData::F32(&logits), tokens.len(), VOCAB, VOCAB).unwrap();
        let out = spec
            .verify_rows(
                &view,
                &[&mut request],
                Rows { logits: part, ..rows },
                VerifierChoice::Auto,
            )
            .unwrap();
        tokens.push(*out.tokens().last().unwrap());
        parents.push(node);
    }
    while tokens.len() < NODES {
        tokens.push(tokens.len() as TokenId + 100);
        parents.push(0);
    }
    let tree =
        TreeBatch::from_arrays(&tokens, &parents, &[0, NODES], &[1], DraftLaw::PointMass, VOCAB)
            .unwrap();
    // Copies of the tree's rows: one stays in the cache, all together do not.
    let sets: Vec<Vec<f32>> = (0..5).map(|_| logits.clone()).collect();
    for (name, used) in [("warm", 1), ("cold", sets.len())] {
        let mut turn = 0;
        let mut next = || {
            turn = (turn + 1) % used;
            turn
        };
        let (floor, _) = time(|| {
            let rows = &sets[next()][..READ * VOCAB];
            read(rows);
            read(rows);
        });
        let (wide, _) = time(|| {
            let rows = &sets[next()][..READ * VOCAB];
            read_wide(rows);
            read_wide(rows);
        });
        for (what, temperature) in [("cdf", 1.0), ("cdf at T = 0.8", 0.8), ("greedy", 0.0)] {
            let laws: Vec<Box<dyn TargetLaw>> =
                vec![Box::new(Params { temperature, ..Params::default() })];
            let mut accepted = 0;
            let (sampled, bytes) = time(|| {
                let data = LogitsData::F32(&sets[next()]);
                let logits = LogitsBatch::new(data, NODES, VOCAB, VOCAB).unwrap();
                let rows = Rows { logits, q: None, laws: &laws };
                let out =
                    spec.verify_rows(&tree, &[&mut request], rows, VerifierChoice::Auto).unwrap();
                accepted = out.num_accepted()[0];
                black_box(out);
            });
            let share = READ as f64 / (accepted + 1) as f64;
            println!(
                "sampled-verify, {name} logits, {what}, {accepted} accepted: {sampled:.0} us; two reads of {} rows: {:.0} us plain, {:.0} us wide; ratio {:.2} plain, {:.2} wide; {bytes} bytes allocated",
                accepted + 1,
                floor / share,
                wide / share,
                sampled / floor * share,
                sampled / wide * share,
            );
        }
    }
    let ids: Vec<i64> =
        (0..NODES).map(|n| tokens.get(n + 1).map_or(0, |&t| i64::from(t))).collect();
    let (by_ids, bytes) = time(|| {
        black_box(spec.verify_ids(&tree, &[&mut request], &ids, None).unwrap());
    });
    println!("sampled-verify, ids: {by_ids:.2} us a request, {bytes} bytes allocated");

    // Block verification of a chain of seven over probability rows.
    let (p, q) = (noise(8 * VOCAB), noise(9 * VOCAB));
    let q = &q[VOCAB..];
    let chain: Vec<TokenId> = (0..8).map(|i| i * 1000).collect();
    let up: Vec<i32> = (-1..7).collect();
    let view = Tree {
        tokens: &chain,
        parents: &up,
        roles: &[],
        law: DraftLaw::IidQ,
        start: 1,
        bonus: true,
    };
    let mut work = Work::default();
    let (floor, _) = time(|| {
        read(&p[..7 * VOCAB]);
        read(&q[..7 * VOCAB]);
    });
    let (wide, _) = time(|| {
        read_wide(&p[..7 * VOCAB]);
        read_wide(&q[..7 * VOCAB]);
    });
    for rule in [Verifier::Block, Verifier::Token, Verifier::Traversal, Verifier::Recursive] {
        let (us, bytes) = time(|| {
            let mut laws = ProbRows::weights(&p, Some(q), VOCAB).unwrap();
            black_box(
                verify_tree(rule, &view, &mut laws, &mut Keyed::new(3, 0), &mut work).unwrap(),
            );
        });
        println!(
            "{}, 7 drafts: {us:.0} us; one read of 7 + 7 rows: {floor:.0} us plain, {wide:.0} us wide; ratio {:.2} plain, {:.2} wide; {bytes} bytes allocated",
            rule.name(),
            us / floor,
            us / wide
        );
    }
}
