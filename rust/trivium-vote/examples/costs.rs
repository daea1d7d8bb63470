//! What the operations of a vote cost on this machine: `cargo run -p trivium-vote --example costs`,
//! with an optimised profile for figures worth quoting.

#![allow(clippy::print_stdout, reason = "an example shows what it measures")]

use std::hint::black_box;
use std::time::Instant;
use trivium_vote::mbr::{Utility, mbr};
use trivium_vote::stops::{Rule, Stops, dirichlet};
use trivium_vote::tally::Tally;
use trivium_vote::weights::conf::Groups;
use trivium_vote::weights::weibull::Mixture;

/// The fastest of many short runs: what else the machine does interrupts some of them, not all.
fn time(name: &str, units: usize, mut work: impl FnMut()) {
    let mut best = f64::INFINITY;
    let (begin, mut runs) = (Instant::now(), 0);
    while runs < 5 || begin.elapsed().as_secs_f64() < 0.5 {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed().as_secs_f64() / units as f64);
        runs += 1;
    }
    let (value, unit) = if best < 1e-6 { (best * 1e9, "ns") } else { (best * 1e6, "us") };
    println!("{name:48} {value:10.2} {unit}");
}

fn main() {
    let mut state = 1u64;
    let mut random = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let stops = Stops::new(&[Rule::Beta(0.95)], 40, false);
    let order: Vec<(usize, u32)> =
        (0..1_000_000).map(|_| (random(4096) as usize, random(3) as u32)).collect();
    let mut tallies = vec![Tally::default(); 4096];
    let block = 20_000;
    let mut blocks = order.chunks(block).cycle();
    time("ballot, tally and stop test, 4096 questions", block, || {
        for &(question, key) in blocks.next().unwrap_or_default() {
            let tally = &mut tallies[question];
            if tally.num_cast() >= 40 {
                *tally = Tally::default();
            }
            tally.cast(key);
            black_box(stops.check(tally, 40 - tally.num_cast()));
        }
    });
    time("Dirichlet, 5 keys", 100, || {
        for _ in 0..100 {
            black_box(dirichlet::confidence(black_box(&[9, 4, 3, 2, 1])));
        }
    });
    let paths: Vec<f64> = (0..64)
        .map(|i| (-0.1 - 0.4 * f64::from(i % 2) - 0.05 * random(1000) as f64 / 1000.0).exp())
        .collect();
    time("Weibull mixture, 64 paths", 1, || {
        black_box(Mixture::fit(black_box(&paths)));
    });
    let mut rings: Vec<Groups> = (0..1024).map(|_| Groups::new(2048)).collect();
    time("token confidence, 1024 live rings", 1024 * 8, || {
        for step in 0..8 {
            for (i, ring) in rings.iter_mut().enumerate() {
                black_box(ring.push((step + i) as f64 * 0.01));
            }
        }
    });
    let words = ["the", "cat", "sat", "on", "a", "mat", "while", "it", "was", "raining", "hard"];
    let texts: Vec<String> = (0..1024)
        .map(|_| (0..36).map(|_| words[random(11) as usize]).collect::<Vec<_>>().join(" "))
        .collect();
    let list: Vec<&str> = texts.iter().map(String::as_str).collect();
    time("chrF, 1024 random texts of 36 words, all pairs", 1, || {
        drop(black_box(mbr(&list, &[], Utility::ChrF)));
    });
}
