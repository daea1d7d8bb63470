//! The shim itself: small kernels with barriers, shuffles, atomics and shared memory run right, and each
//! of them with one fault planted is caught, by the kind of finding that names the fault.
#![allow(unsafe_code, clippy::print_stderr, reason = "tests")]

mod common;

use std::ffi::c_void;
use trivium_cuda_shim::{BUILT, Buffers, Fault, VARIANTS, launch};

const N: usize = 300;

/// Runs one of the self-test kernels over [`input`] with blocks of 128.
fn run(kernel: &str, variant: &str, seed: u64) -> Result<Vec<u32>, Fault> {
    let input = input();
    let mut out = vec![0u32; N];
    let mut buffers = Buffers::new();
    let mut at_in = buffers.read_only(c"in", &input);
    let mut at_out = buffers.writable(c"out", &mut out);
    let mut n = N as u32;
    let mut params: [*mut c_void; 3] =
        [(&raw mut at_in).cast(), (&raw mut at_out).cast(), (&raw mut n).cast()];
    // SAFETY: all kernels of the self-test take two addresses and one 32-bit number.
    unsafe { launch(kernel, variant, [3, 1, 1], [128, 1, 1], seed, &buffers, &mut params) }?;
    Ok(out)
}

fn input() -> Vec<u32> {
    (0..N as u32).map(|i| i * i % 101).collect()
}

fn expected(kernel: &str) -> Vec<u32> {
    let input = input();
    let mut out = vec![0; N];
    match kernel {
        "block_sum" | "shuffle_sum" => {
            for (sum, block) in out.iter_mut().zip(input.chunks(128)) {
                *sum = block.iter().sum();
            }
        }
        "rotate" => {
            // The last warp of a partial block rotates zeros in.
            let at = |i: usize| input.get(i).copied().unwrap_or(0);
            for (i, x) in out.iter_mut().enumerate() {
                *x = at(i & !31 | (i + 1) & 31);
            }
        }
        _ => {
            for v in input {
                out[v as usize & 7] += 1;
            }
        }
    }
    out
}

fn skipped() -> bool {
    if !BUILT {
        common::skip("no C++ compiler with -fsanitize=thread");
    }
    !BUILT
}

#[test]
fn right_kernels_are_clean_under_every_schedule() {
    if skipped() {
        return;
    }
    for kernel in ["block_sum", "shuffle_sum", "rotate", "histogram"] {
        for seed in 0..20 {
            assert_eq!(run(kernel, "", seed), Ok(expected(kernel)), "{kernel}, seed {seed}");
        }
    }
}

#[test]
fn every_planted_bug_is_named() {
    if skipped() {
        return;
    }
    let mut planted = 0;
    // The kernels' own bugs: shim.rs, kernels.rs.
    let own = ["block_sum", "shuffle_sum", "rotate", "histogram"];
    for &(kernel, variant) in VARIANTS.iter().filter(|v| own.contains(&v.0)) {
        let kind = match variant {
            "" => continue,
            "no_barrier" | "no_syncwarp" | "plain_count" | "plain_total" => "race: ",
            "not_zeroed" => "uninitialised: ",
            "left_behind" => "deadlock: ",
            "wrong_lanes" => "warp: ",
            other => panic!("say here how {other} is to be found"),
        };
        planted += 1;
        for seed in 0..5 {
            let Err(Fault::Findings(text)) = run(kernel, variant, seed) else {
                panic!("{kernel}, {variant}, seed {seed}: not caught");
            };
            assert!(text.lines().any(|l| l.starts_with(kind)), "{kernel}, {variant}: {text}");
            if seed == 0 {
                eprintln!("{kernel}, {variant}: {}", text.lines().next().unwrap_or_default());
            }
        }
    }
    assert!(planted >= 8);
}

#[test]
fn a_schedule_is_a_function_of_its_seed() {
    if skipped() {
        return;
    }
    let of = |seed| run("block_sum", "no_barrier", seed);
    assert_eq!(of(1), of(1));
    assert!((2..30).any(|seed| of(seed) != of(1)));
}
