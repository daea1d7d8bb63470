//! The mask kernel's own source, run on the CPU: equal to its twin, and no access astray.
//!
//! Planted bugs: `cuda/shim/build.rs` compiles variants of the source with one fault each. Every variant
//! found there must be caught by the same cases that the source passes; so a bug added to the list is
//! tested without a change here.
#![allow(unsafe_code, clippy::print_stderr, reason = "tests")]

mod common;

use common::{Case, Data, Element, any_case, difference, fixed_cases, large_cases};
use half::{bf16, f16};
use proptest::prelude::*;
use std::collections::BTreeSet;
use trivium_cuda::Kernel as _;
use trivium_cuda_shim::{BUILT, Buffers, Fault, VARIANTS, launch};

/// What went wrong with this case, if anything.
fn run<T: Element>(variant: &str, case: &Case) -> Result<(), String> {
    let Data { mut logits, mask, expected } = case.data::<T>();
    let indices = case.indices.clone().unwrap_or_default();
    let mut buffers = Buffers::new();
    let at_logits = buffers.writable(c"logits", &mut logits);
    let at_mask = buffers.read_only(c"mask", &mask);
    let at_indices = buffers.read_only(c"row_indices", &indices);
    let has_indices = case.indices.is_some() && !indices.is_empty();
    let args = case.args(T::DTYPE, at_logits, at_mask, has_indices.then_some(at_indices));
    // A mask row for each of no indices is no mask row at all.
    let plan = args.plan().map_err(|e| e.to_string())?;
    for mut plan in plan {
        let grid = if case.one_block { [1, 1, 1] } else { plan.grid };
        let (entry, block) = (plan.entry.to_string_lossy(), plan.block);
        // SAFETY: the parameters are those that the driver would get for this entry.
        plan.with_params(|params| unsafe {
            launch(&entry, variant, grid, block, case.seed, &buffers, params)
        })
        .map_err(|fault| format!("{fault:?}"))?;
    }
    match difference(&logits, &expected) {
        Some(difference) => Err(difference),
        None => Ok(()),
    }
}

fn run_all(variant: &str, case: &Case) -> Result<(), String> {
    run::<f32>(variant, case).map_err(|e| format!("f32: {e}"))?;
    run::<f16>(variant, case).map_err(|e| format!("f16: {e}"))?;
    run::<bf16>(variant, case).map_err(|e| format!("bf16: {e}"))
}

fn skipped() -> bool {
    if !BUILT {
        common::skip("no C++ compiler with -fsanitize=thread");
    }
    !BUILT
}

#[test]
fn equals_twin_at_every_border() {
    if skipped() {
        return;
    }
    for case in fixed_cases().iter().chain(&large_cases()) {
        assert_eq!(run_all("", case), Ok(()), "{case:?}");
    }
}

#[test]
fn every_planted_bug_is_caught() {
    if skipped() {
        return;
    }
    let variants: BTreeSet<&str> = VARIANTS
        .iter()
        .filter(|(kernel, variant)| kernel.starts_with("apply_mask") && !variant.is_empty())
        .map(|&(_, variant)| variant)
        .collect();
    assert!(variants.len() >= 10);
    let cases = fixed_cases();
    for variant in variants {
        let caught = cases.iter().find_map(|case| run_all(variant, case).err());
        let how = caught.unwrap_or_else(|| panic!("{variant} is not caught"));
        eprintln!("{variant}: {}", how.trim_end());
    }
}

#[test]
fn unknown_kernels_and_wrong_parameters_are_refused() {
    if skipped() {
        return;
    }
    for (kernel, params) in [("no_such_kernel", 8), ("apply_mask_f32", 7)] {
        let mut params = vec![std::ptr::null_mut(); params];
        // SAFETY: nothing is run, so no parameter is read.
        let found = unsafe { launch(kernel, "", [1; 3], [1; 3], 0, &Buffers::new(), &mut params) };
        assert_eq!(found, Err(Fault::NoSuchKernel));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..Default::default() })]
    #[test]
    fn equals_twin(case in any_case()) {
        if BUILT {
            prop_assert_eq!(run_all("", &case), Ok(()));
        }
    }
}
