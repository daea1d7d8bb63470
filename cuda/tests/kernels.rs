//! The kernels' own sources, run on the CPU: equal to their twins, no access astray, every planted bug caught.
//!
//! Planted bugs: `cuda/shim/build.rs`. The cases that catch them are the ones that the sources pass.
#![allow(unsafe_code, clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

mod common;

use common::cdf::{CdfJob, Choice, cdf_jobs, floor_jobs, large_cdf_jobs};
use common::job::{Job, catch_all, on_cpu};
use common::race::{RaceJob, large_race_jobs, race_jobs};
use common::reject::{ChainJob, chain_jobs};
use common::row_stat::{StatJob, stat_jobs};
use common::rows::Rows;
use common::tree::{Forest, MaskJob, WalkJob, pack_jobs, tree_jobs};
use proptest::prelude::*;
use trivium_cuda::{ChainRule, Dtype};
use trivium_cuda_shim::BUILT;

fn skipped() -> bool {
    if !BUILT {
        common::skip("no C++ compiler with -fsanitize=thread");
    }
    !BUILT
}

fn all_pass<J: Job>(jobs: &[J]) {
    for job in jobs {
        assert_eq!(on_cpu(job, ""), Ok(()), "{job:?}");
    }
}

fn dynamic<J: Job>(jobs: &[J]) -> Vec<&dyn Job> {
    jobs.iter().map(|j| j as &dyn Job).collect()
}

fn all_caught(family: &str, jobs: &[&dyn Job], at_least: usize) {
    let how = catch_all(family, jobs);
    assert!(how.len() >= at_least, "only {} planted bugs", how.len());
    for line in how {
        eprintln!("{family}: {line}");
    }
}

#[test]
fn races_equal_their_twin() {
    if !skipped() {
        all_pass(&race_jobs());
        all_pass(&large_race_jobs());
    }
}

#[test]
fn every_planted_bug_of_the_race_is_caught() {
    if !skipped() {
        let (races, floors) = (race_jobs(), floor_jobs());
        let jobs: Vec<&dyn Job> = dynamic(&races).into_iter().chain(dynamic(&floors)).collect();
        all_caught("race", &jobs, 20);
    }
}

#[test]
fn draws_by_cdf_equal_their_twin() {
    if !skipped() {
        all_pass(&cdf_jobs());
        all_pass(&large_cdf_jobs());
    }
}

#[test]
fn every_planted_bug_of_the_draws_by_cdf_is_caught() {
    if !skipped() {
        all_caught("cdf", &dynamic(&cdf_jobs()), 20);
    }
}

#[test]
fn statistics_equal_their_twin() {
    if !skipped() {
        all_pass(&stat_jobs());
    }
}

#[test]
fn every_planted_bug_of_the_statistics_is_caught() {
    if !skipped() {
        all_caught("row_stat", &dynamic(&stat_jobs()), 10);
    }
}

#[test]
fn trees_equal_their_twin() {
    if !skipped() {
        let (walks, masks) = tree_jobs();
        all_pass(&walks);
        all_pass(&masks);
        all_pass(&pack_jobs());
    }
}

#[test]
fn every_planted_bug_of_the_trees_is_caught() {
    if !skipped() {
        let ((walks, masks), packs) = (tree_jobs(), pack_jobs());
        let jobs = dynamic(&walks).into_iter().chain(dynamic(&masks)).chain(dynamic(&packs));
        let jobs: Vec<&dyn Job> = jobs.collect();
        all_caught("tree", &jobs, 10);
    }
}

#[test]
fn chains_equal_their_twin() {
    if !skipped() {
        let jobs = chain_jobs();
        all_pass(&jobs);
        let large = ChainJob::large();
        all_pass(&large);
    }
}

#[test]
fn every_planted_bug_of_the_chains_is_caught() {
    if !skipped() {
        all_caught("reject", &dynamic(&chain_jobs()), 20);
    }
}

fn dtype() -> impl Strategy<Value = Dtype> {
    prop::sample::select(vec![Dtype::F32, Dtype::F16, Dtype::Bf16])
}

fn vocab() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 1usize..400, 2 => 4_000usize..9_000, 1 => 16_380usize..16_400]
}

prop_compose! {
    fn any_rows()(
        (dtype, vocab, padding, lead) in (dtype(), vocab(), 0usize..9, 0usize..9),
        logits_rows in 1usize..4,
        (indices, masked) in (prop::option::of(prop::collection::vec(-1i32..4, 1..4)), -2i32..3),
        seen in prop::option::of(0usize..60),
        (spread, broken, seed) in (1i32..50, prop::bool::weighted(0.2), any::<u64>()),
    ) -> Rows {
        // From two words too few to one too many; -2: no mask.
        let words = trivium_core::mask::words(vocab) as i32;
        let mask_words = (masked > -2).then_some((words + masked - 1).max(0) as usize);
        Rows {
            dtype, vocab, padding, lead, logits_rows, indices, mask_words, seen, spread, broken, seed,
        }
    }
}

prop_compose! {
    fn any_stat()(
        (dtype, vocab, padding, lead) in (dtype(), vocab(), 0usize..9, 0usize..9),
        rows in 1usize..4,
        masked in prop::option::of(0usize..3),
        (factors, spread, broken, one_block, seed) in (
            any::<bool>(), prop_oneof![Just(0f32), 0.1f32..60.0], prop::bool::weighted(0.2),
            any::<bool>(), any::<u64>(),
        ),
    ) -> StatJob {
        let mask_words = masked.map(|m| (trivium_core::mask::words(vocab) + m).saturating_sub(1));
        StatJob { dtype, vocab, padding, lead, rows, mask_words, factors, spread, broken, one_block, seed }
    }
}

/// Mostly small; borders of the blocks of 256 tokens, whose tails the chains sum by themselves.
fn chain_vocab() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 1usize..300,
        3 => prop::sample::select(vec![1usize, 32, 255, 256, 257, 511, 513]),
        1 => 2_040usize..2_060,
    ]
}

prop_compose! {
    fn any_chain()(sizes in prop::collection::vec(1usize..9, 1..4))(
        (dtype, vocab, padding, lead) in (dtype(), chain_vocab(), 0usize..9, 0usize..9),
        indices in prop::option::weighted(
            0.3, prop::collection::vec(0..sizes.iter().sum::<usize>() as i32, sizes.iter().sum::<usize>()),
        ),
        masked in prop::option::of(0usize..3),
        seen in prop::option::of(0usize..60),
        (spread, broken, seed) in (1i32..20, prop::bool::weighted(0.2), any::<u64>()),
        (truncate, race, block, broken_q, one_block) in (
            any::<bool>(), any::<bool>(), any::<bool>(), prop::bool::weighted(0.15), any::<bool>(),
        ),
        sizes in Just(sizes),
    ) -> ChainJob {
        let mask_words = masked.map(|m| (trivium_core::mask::words(vocab) + m).saturating_sub(1));
        let logits_rows = sizes.iter().sum();
        let rows = Rows {
            dtype, vocab, padding, lead, logits_rows, indices, mask_words, seen, spread, broken, seed,
        };
        let choice = if race { Choice::Race } else { Choice::Cdf };
        ChainJob {
            draw: CdfJob { rows, truncate, choice, one_block: false },
            sizes,
            rule: if block { ChainRule::Block } else { ChainRule::Token },
            broken_q,
            one_block,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_race_equals_its_twin(
        rows in any_rows(), winners in prop_oneof![Just(1usize), 2usize..=8], one_block: bool,
    ) {
        if BUILT {
            let job = RaceJob { rows, winners, one_block };
            prop_assert_eq!(on_cpu(&job, ""), Ok(()));
        }
    }

    #[test]
    fn any_draw_equals_its_twin(
        rows in any_rows(), truncate: bool, one_block: bool,
        choice in prop::sample::select(vec![Choice::Cdf, Choice::Race, Choice::Given]),
    ) {
        if BUILT {
            let job = CdfJob { rows, truncate, choice, one_block };
            prop_assert_eq!(on_cpu(&job, ""), Ok(()));
        }
    }

    #[test]
    fn any_statistics_equal_their_twin(job in any_stat()) {
        if BUILT {
            prop_assert_eq!(on_cpu(&job, ""), Ok(()));
        }
    }

    #[test]
    fn any_chains_equal_their_twin(job in any_chain()) {
        if BUILT {
            prop_assert_eq!(on_cpu(&job, ""), Ok(()));
        }
    }

    #[test]
    fn any_forest_equals_its_twin(
        sizes in prop::collection::vec(1usize..70, 1..5), unsampled: bool, width in 1usize..80, seed: u64,
    ) {
        if BUILT {
            let forest = Forest::new(&sizes, unsampled, seed);
            prop_assert_eq!(on_cpu(&WalkJob(forest.clone(), seed), ""), Ok(()));
            prop_assert_eq!(on_cpu(&MaskJob(forest, width, seed), ""), Ok(()));
        }
    }
}
