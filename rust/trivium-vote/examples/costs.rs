//! What the operations of a vote cost on this machine: `cargo run -p trivium-vote --example costs`,
//! with an optimised profile for figures worth quoting. `benches/vote_costs.py` runs it beside the
//! same operations through Python, and beside peers.

#![allow(clippy::print_stdout, reason = "an example shows what it measures")]

use std::hint::black_box;
use std::time::Instant;
use trivium_vote::mbr::{Utility, mbr};
use trivium_vote::stops::{Rule, Stops, dirichlet};
use trivium_vote::tally::Tally;
use trivium_vote::weights::conf::Groups;
use trivium_vote::weights::weibull::Mixture;
use trivium_vote::worth;
use trivium_vote::{
    End, Key, KeyOptions, Latency, OpenOptions, Said, TokenBatch, Voter, VoterConfig,
};

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

/// Whole events: answer to key, tally, rule, launch control and log, over 4,096 open questions.
fn ballots(log: bool, block: usize, order: &[(usize, u32)]) {
    let config = VoterConfig {
        key: "text".into(),
        budget: 60_000,
        stop: vec!["majority".into()],
        bare: true,
        log,
        ..VoterConfig::default()
    };
    let Ok(mut voter) = Voter::new(config) else { return };
    let mut open = |i: usize| voter.open(&format!("q{i}"), OpenOptions::default());
    let handles: Vec<i64> = (0..4096).filter_map(|i| open(i).ok()).map(|h| h as i64).collect();
    voter.launches();
    let mut next = vec![0i64; handles.len()];
    let names = ["14", "15", "7/2"];
    let mut blocks = order.chunks(block).cycle();
    let name = format!("ballot as an event, log {}", if log { "kept" } else { "off" });
    time(&name, block, || {
        for &(question, key) in blocks.next().unwrap_or_default() {
            let end = End::new(Said::Answer(names[key as usize]));
            drop(black_box(voter.finish(handles[question], next[question], end)));
            next[question] += 1;
        }
    });
}

/// One engine step for 1,024 running traces: sums, group ring and floor.
fn token_events() {
    for (name, prune, stop) in [
        ("token event, blocks of 1024 traces, sums", None, "beta:0.95"),
        ("token event, blocks of 1024 traces, floor", Some("conf_floor:10"), "share:0.95"),
    ] {
        let config = VoterConfig {
            budget: 64,
            stop: vec![stop.into()],
            latency: Latency::Max,
            prune: prune.map(str::to_owned).into_iter().collect(),
            ..VoterConfig::default()
        };
        let Ok(mut voter) = Voter::new(config) else { continue };
        let mut open = |i: usize| voter.open(&format!("q{i}"), OpenOptions::default());
        let handles: Vec<i64> = (0..16).filter_map(|i| open(i).ok()).map(|h| h as i64).collect();
        voter.launches();
        let questions: Vec<i64> = handles.iter().flat_map(|&q| [q; 64]).collect();
        let traces: Vec<i64> = (0..16).flat_map(|_| 0..64).collect();
        let values: Vec<f64> = (0..1024).map(|i| f64::from(i % 17) * 0.1).collect();
        let batch = TokenBatch {
            logprobs: &values,
            confs: &values,
            ..TokenBatch::new(&questions, &traces)
        };
        time(name, 1024 * 8, || {
            for _ in 0..8 {
                drop(black_box(voter.tokens(batch)));
            }
        });
    }
}

fn keys() {
    for (name, answer) in [
        ("number", "$1,234.50"),
        ("latex", r"\frac{3\sqrt{12}}{4}"),
        ("choice", "**(B)**"),
        ("json", r#"{"b": 1.0, "a": [1, 2]}"#),
    ] {
        let Ok(key) = Key::new(name, KeyOptions::default()) else { continue };
        time(&format!("{name} key of {answer}"), 100, || {
            for _ in 0..100 {
                black_box(key.of(black_box(answer)));
            }
        });
    }
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
    for log in [true, false] {
        ballots(log, block, &order);
    }
    token_events();
    keys();
    let mut gaps = (0..64u32).cycle();
    time("worth of ballots, 40 traces left", 100, || {
        for _ in 0..100 {
            let a = gaps.next().unwrap_or_default() % 9;
            black_box(worth::next_ballot(black_box(a + 2), a, 40, 0));
        }
    });
    time("consensus game, 10 candidates, 5000 rounds", 1, || {
        let rising: Vec<f64> = (1..=10).map(|i| f64::from(i) / 55.0).collect();
        let judge: Vec<f64> = (0..10).map(|i| 0.9 - 0.08 * f64::from(i * 7 % 10)).collect();
        let equal = [0.1; 10];
        black_box(trivium_vote::game::play(black_box(&rising), &equal, &judge, 0.1, 0.1, 5000));
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
