//! Laws of votes by the numbers of the specification's list (16.4).
//!
//! | law | where |
//! |---|---|
//! | P1, P2, P3, P4, P6, P10, P12, P14, P16, P17, P18, P21 | here |
//! | P5, P7, P8, P9, P11, P13, P15, P19, P20 | `tests/properties_of_parts.rs` |
//! | P4 exhaustively | `stops/locked.rs` |
//! | P9 with callbacks, P15 and P13 through Python | `tests/python/unit/test_vote_merging.py`, `tests/python/unit/test_vote_signals.py` |

#![allow(clippy::unwrap_used, reason = "a test may")]

use proptest::prelude::*;
use std::time::Instant;
use trivium_vote::calibrate::controlled_threshold;
use trivium_vote::game::play;
use trivium_vote::mbr::{Utility, mbr};
use trivium_vote::stops::{Rule, Stops};
use trivium_vote::weights::{BallotStats, Weight, sums};
use trivium_vote::{
    End, Fallback, Key, KeyOptions, Latency, OpenOptions, Outcome, Said, Tally, Voter, VoterConfig,
    vote,
};

fn names(keys: &[Option<u32>]) -> Vec<String> {
    keys.iter().map(|key| key.map_or(String::new(), |key| key.to_string())).collect()
}

fn elect(keys: &[Option<u32>]) -> Outcome {
    let names = names(keys);
    let said: Vec<_> = names.iter().map(|name| Said::Answer(name)).collect();
    vote(&said, VoterConfig::default()).unwrap()
}

/// A vote with a statistic a ballot, all counted or stopped by a rule.
fn weighted(
    weight: &str,
    stop: &str,
    keys: &[u32],
    end: impl Fn(usize) -> End<'static>,
) -> Outcome {
    let config = VoterConfig {
        weight: weight.into(),
        stop: vec![stop.into()],
        budget: keys.len() as u32,
        latency: Latency::Max,
        ..VoterConfig::default()
    };
    let mut voter = Voter::new(config).unwrap();
    let q = voter.open("q", OpenOptions::default()).unwrap() as i64;
    voter.launches();
    for (i, key) in keys.iter().enumerate() {
        let name = key.to_string();
        voter.finish(q, i as i64, End { said: Said::Answer(&name), ..end(i) }).unwrap();
    }
    voter.result(q).unwrap()
}

fn counts(outcome: &Outcome) -> Vec<(String, u32)> {
    let mut rows: Vec<_> = outcome.tally.iter().map(|row| (row.key.clone(), row.count)).collect();
    rows.sort();
    rows
}

prop_compose! {
    fn ballots(most: usize)(
        keys in prop::collection::vec(prop::option::weighted(0.85, 0u32..5), 1..most),
    ) -> Vec<Option<u32>> {
        keys
    }
}

/// xorshift; the same numbers every time.
fn random(state: &mut u64) -> f64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as f64 / (1u64 << 53) as f64
}

proptest! {
    #[test]
    fn p01_permuting_ballots_changes_ties_alone(keys in ballots(30), seed in any::<u64>()) {
        let mut shuffled = keys.clone();
        let mut state = seed | 1;
        for i in (1..shuffled.len()).rev() {
            let j = (random(&mut state) * (i + 1) as f64) as usize;
            shuffled.swap(i, j);
        }
        let (one, other) = (elect(&keys), elect(&shuffled));
        prop_assert_eq!(counts(&one), counts(&other));
        prop_assert_eq!((one.share, one.margin, one.num_tied), (other.share, other.margin, other.num_tied));
        prop_assert!(one.num_tied > 1 || one.winner == other.winner);
    }

    #[test]
    fn p02_abstentions_never_win(keys in ballots(30), at in any::<prop::sample::Index>()) {
        let mut more = keys.clone();
        more.insert(at.index(keys.len() + 1), None);
        let (one, other) = (elect(&keys), elect(&more));
        prop_assert_eq!((&one.winner, one.share), (&other.winner, other.share));
        prop_assert_eq!(one.num_none + 1, other.num_none);
        prop_assert!(elect(&vec![None; keys.len()]).winner.is_none());
        // Nor does one complete a unanimous window.
        let stops = Stops::new(&[Rule::Esc(3)], 40, true);
        let mut tally = Tally::default();
        tally.cast(0);
        tally.abstain();
        tally.cast(0);
        prop_assert!(stops.check(&tally, 9).is_none());
    }

    #[test]
    fn p03_doubling_all_ballots_keeps_shares(
        keys in prop::collection::vec(0u32..4, 1..12),
        stats in prop::collection::vec((0.05f64..1.0, 1u64..50, 0.1f64..2.0, 0.0f64..1.0), 12),
    ) {
        let row = |i: usize| BallotStats {
            sum_logprob: -stats[i].2 * stats[i].1 as f64,
            num_tokens: stats[i].1,
            confidence: Some(stats[i].0),
            entropy: Some(stats[i].2),
            reward: Some(stats[i].3),
            source: Some(i as u32 % 3),
            weight: Some(stats[i].0),
            path: i as u64,
            ln_branches: 0.0,
        };
        let once: Vec<_> = (0..keys.len()).map(row).collect();
        let twice = [once.clone(), once.clone()].concat();
        let both = [keys.clone(), keys.clone()].concat();
        let shares = |keys: &[u32], rows: &[BallotStats], weight: Weight| {
            let sums = sums(keys, &weight.weigh(keys, rows, &[0.5, 1.0, 2.0]).unwrap());
            let total: f64 = sums.iter().sum();
            sums.into_iter().map(|sum| sum / total.max(1e-300)).collect::<Vec<_>>()
        };
        for name in ["one", "normalised", "unnormalised", "inverse_entropy", "cisc:0.3", "log_odds",
            "length:1", "reward", "reward:0.2", "user", "pc"]
        {
            let weight = Weight::parse(name).unwrap();
            let (x, y) = (shares(&keys, &once, weight), shares(&both, &twice, weight));
            prop_assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() < 1e-9), "{name} {x:?} {y:?}");
        }
        // Paths that are counted already add nothing.
        let pc = |keys: &[u32], rows: &[BallotStats]| {
            sums(keys, &Weight::Paths(false).weigh(keys, rows, &[]).unwrap())
        };
        let (x, y) = (pc(&keys, &once), pc(&both, &twice));
        prop_assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() < 1e-12), "{x:?} {y:?}");
    }

    #[test]
    fn p04_locked_is_the_full_vote_under_bounded_weights(
        rows in prop::collection::vec((0u32..4, 0.01f64..3.0), 1..64),
    ) {
        let keys: Vec<u32> = rows.iter().map(|row| row.0).collect();
        let end = |i: usize| End {
            sum_logprob: Some(-rows[i].1),
            num_tokens: Some(1),
            ..End::new(Said::Nothing)
        };
        let full = weighted("normalised", "majority", &keys, end);
        let locked = weighted("normalised", "locked", &keys, end);
        prop_assert_eq!(full.winner, locked.winner);
    }

    #[test]
    fn p06_fewer_ballots_than_needed_never_stop(
        start in ballots(12),
        more in ballots(12),
        rule in prop::sample::select(vec![
            "beta:0.9", "dirichlet:0.9", "esc:3", "predictive:0.9", "ppr:0.2", "double:0.7",
            "share:0.9:5", "best", "locked",
        ]),
    ) {
        let budget = 30;
        let stops = Stops::new(&[Rule::parse(rule).unwrap()], budget, true);
        let mut tally = Tally::default();
        let add = |tally: &mut Tally, key: Option<u32>| match key {
            Some(key) => tally.cast(key),
            None => tally.abstain(),
        };
        start.iter().for_each(|&key| add(&mut tally, key));
        let seen = start.len() as u32;
        let need = stops.need(&tally, budget - seen);
        for (i, &key) in more.iter().enumerate() {
            add(&mut tally, key);
            let cast = i as u32 + 1;
            let stopped = stops.check(&tally, budget - seen - cast).is_some();
            prop_assert!(!stopped || cast >= need, "{rule}: {cast} of {need}");
            if stopped {
                break;
            }
        }
    }

    #[test]
    fn p10_a_common_factor_changes_the_sum_alone(
        rows in prop::collection::vec((0u32..4, 1u32..64), 1..20),
        power in -8i32..8,
    ) {
        let keys: Vec<u32> = rows.iter().map(|row| row.0).collect();
        let by = |factor: f64| {
            weighted("user", "beta:0.9", &keys, |i| End {
                weight: Some(f64::from(rows[i].1) * factor),
                ..End::new(Said::Nothing)
            })
        };
        // Powers of two scale without rounding.
        let (one, other) = (by(1.0), by(2f64.powi(power)));
        prop_assert_eq!((&one.winner, one.trace), (&other.winner, other.trace));
        prop_assert_eq!(&one.stop, &other.stop);
        prop_assert_eq!((one.share, one.margin, one.entropy), (other.share, other.margin, other.entropy));
        prop_assert_eq!(&one.tied, &other.tied);
    }

    #[test]
    fn p14_exact_utility_is_the_majority(keys in prop::collection::vec(0u32..4, 1..20)) {
        let names: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let texts: Vec<&str> = names.iter().map(String::as_str).collect();
        let (best, scores) = mbr(&texts, &[], Utility::Exact).unwrap();
        let some: Vec<_> = keys.iter().map(|&key| Some(key)).collect();
        let majority = elect(&some);
        prop_assert_eq!(Some(names[best].as_str()), majority.winner.as_deref());
        prop_assert!((scores[best] - majority.share).abs() < 1e-12);
    }

    #[test]
    fn p16_games_keep_laws_and_names(
        rows in prop::collection::vec((0.05f64..1.0, 0.05f64..1.0, 0.05f64..0.95), 2..5),
    ) {
        let column = |of: fn(&(f64, f64, f64)) -> f64| rows.iter().map(of).collect::<Vec<_>>();
        let (yes, no, judge) = (column(|r| r.0), column(|r| r.1), column(|r| r.2));
        let end = play(&yes, &no, &judge, 0.1, 0.1, 200);
        prop_assert!((end.generator.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        prop_assert!(end.discriminator.iter().all(|p| (0.0..=1.0).contains(p)));
        let turned = |mut values: Vec<f64>| {
            values.reverse();
            values
        };
        let back = play(&turned(yes), &turned(no), &turned(judge), 0.1, 0.1, 200);
        let again = turned(back.generator);
        prop_assert!(end.generator.iter().zip(&again).all(|(x, y)| (x - y).abs() < 1e-9));
    }

    #[test]
    fn p18_json_keys_ignore_order_spelling_and_listed_members(
        members in prop::collection::btree_map("[a-z]{1,3}", -1000i32..1000, 1..5),
        noise in any::<u32>(),
    ) {
        let options = KeyOptions { options: vec!["id_".into()], ..KeyOptions::default() };
        let key = Key::new("json", options).unwrap();
        let list: Vec<_> = members.iter().collect();
        let plain: Vec<_> = list.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
        let spelled: Vec<_> = list.iter().rev().map(|(k, v)| format!(" \"{k}\" : {v}.0e0")).collect();
        let one = format!("{{{}}}", plain.join(","));
        let other = format!("{{{},\"id_\":{noise}}}", spelled.join(","));
        prop_assert!(key.of(&one).is_some());
        prop_assert_eq!(key.of(&one), key.of(&other));
    }
}

/// Spec 2.10: a millisecond for 64 KiB of anything; without optimisation fifty times that.
#[test]
fn p12_keys_take_bounded_time_and_never_panic() {
    let limit = if cfg!(debug_assertions) { 0.05 } else { 0.001 };
    let pieces = [
        "\\frac{",
        "\\sqrt",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "^",
        "5^(",
        "1e9",
        "9999999999",
        ",",
        "\"",
        "\\u00e9",
        ":",
        "\\boxed{",
        "answer is ",
        "Answer: ",
        "####",
        "\n",
        " ",
        "-",
        "+",
        "/",
        ".",
        "x",
        "\\left",
        "\\pm",
        "é",
        "\u{1f600}",
        "\\text{",
        "%",
        "$",
        "and",
        "0x",
        "_",
        "1",
        "A",
        "set(",
    ];
    let mut state = 88_172_645_463_325_252u64;
    let cases = if cfg!(debug_assertions) { 12 } else { 400 };
    for case in 0..cases {
        let few = 1 + (random(&mut state) * pieces.len() as f64) as usize;
        let from = (random(&mut state) * pieces.len() as f64) as usize;
        let mut text = String::new();
        while text.len() < 65_536 {
            if case % 4 == 0 {
                let code = (random(&mut state) * 1280.0) as u32;
                text.extend(char::from_u32(code));
            } else {
                let i = (random(&mut state) * few as f64) as usize;
                text.push_str(pieces[(from + i) % pieces.len()]);
            }
        }
        for name in Key::NAMES {
            let options = KeyOptions { fallback: Fallback::Last, ..KeyOptions::default() };
            let key = Key::new(&name.replace("KEY", "latex"), options).unwrap();
            let slowest = |said: Said<'_>| {
                let run = |_| {
                    let start = Instant::now();
                    drop(key.read(said, false));
                    start.elapsed().as_secs_f64()
                };
                // The fastest of several, because other work may interrupt one.
                (0..5).map(run).fold(f64::INFINITY, f64::min)
            };
            for said in [Said::Text(&text), Said::Answer(&text)] {
                let seconds = slowest(said);
                assert!(
                    seconds < limit,
                    "{name}: {seconds} s for {:?}",
                    text.chars().take(40).collect::<String>()
                );
            }
        }
    }
}

#[test]
fn p17_risk_control_keeps_its_promise() {
    let (target, delta, runs) = (0.8, 0.1, 2000u32);
    let grid: Vec<f64> = (0..10).map(|i| f64::from(i) / 10.0).collect();
    let mut state = 12_345u64;
    let mut broken = 0;
    for _ in 0..runs {
        // A score `s` is right with probability 0.5 + 0.45 s.
        let labelled: Vec<(f64, bool)> = (0..200)
            .map(|_| {
                let score = random(&mut state);
                (score, random(&mut state) < 0.5 + 0.45 * score)
            })
            .collect();
        if let Some(threshold) = controlled_threshold(&labelled, &grid, target, delta) {
            let truth = 0.5 + 0.45 * (1.0 + threshold) / 2.0;
            broken += u32::from(truth < target);
        }
    }
    let expected = delta * f64::from(runs);
    assert!(f64::from(broken) <= expected + 3.0 * (expected * (1.0 - delta)).sqrt(), "{broken}");
}

#[test]
fn p21_peeking_is_paid_for_by_ppr_and_not_by_beta() {
    let runs = 4000;
    let rate = |rule: Rule| {
        let stops = Stops::new(&[rule], 200, true);
        let mut state = 987_654_321u64;
        let stopped = (0..runs).filter(|_| {
            let mut tally = Tally::default();
            (0..200u32).any(|i| {
                tally.cast(u32::from(tally.num_keys() > 0 && random(&mut state) >= 0.5));
                stops.check(&tally, 199 - i).is_some()
            })
        });
        stopped.count() as f64 / f64::from(runs)
    };
    let (ppr, beta) = (rate(Rule::Ppr(0.05)), rate(Rule::Beta(0.95)));
    assert!(ppr <= 0.05, "{ppr}");
    assert!((0.5..0.7).contains(&beta), "{beta}");
}
