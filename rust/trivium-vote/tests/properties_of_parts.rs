//! The laws of the specification's list (16.4) that concern parts of a vote or its events; the others
//! are in `properties.rs`.

#![allow(clippy::unwrap_used, reason = "a test may")]

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use trivium_vote::calibrate::majority_at;
use trivium_vote::cover;
use trivium_vote::mbr::{Utility, mbr};
use trivium_vote::stops::{Rule, Stops};
use trivium_vote::temporal::{StepWeight, vote as temporal_vote};
use trivium_vote::weights::sums;
use trivium_vote::{
    Action, End, Latency, OpenOptions, Outcome, Reason, Said, Tally, TokenBatch, Voter, VoterConfig,
};

/// The direct formula: character n-grams without white space, clipped matches, orders 1 to 6.
fn chrf(hyp: &str, reference: &str) -> f64 {
    let chars = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<Vec<_>>();
    let grams = |text: &[char], n: usize| {
        let mut counts: BTreeMap<Vec<char>, usize> = BTreeMap::new();
        text.windows(n).for_each(|gram| *counts.entry(gram.to_vec()).or_default() += 1);
        counts
    };
    let (h, r) = (chars(hyp), chars(reference));
    let (mut precision, mut recall, mut orders) = (0.0, 0.0, 0.0);
    for n in 1..=6 {
        let (hs, rs) = (grams(&h, n), grams(&r, n));
        let (ht, rt): (usize, usize) = (hs.values().sum(), rs.values().sum());
        if ht == 0 || rt == 0 {
            continue;
        }
        let matches: usize =
            hs.iter().map(|(gram, count)| *count.min(rs.get(gram).unwrap_or(&0))).sum();
        precision += matches as f64 / ht as f64;
        recall += matches as f64 / rt as f64;
        orders += 1.0;
    }
    if orders == 0.0 || precision + recall == 0.0 {
        return 0.0;
    }
    let (p, r) = (precision / orders, recall / orders);
    100.0 * 5.0 * p * r / (4.0 * p + r)
}

/// Accuracy over all subsets of `k` ballots, ties shared.
fn enumerated(gold: u32, others: &[u32], none: u32, k: u32) -> f64 {
    let mut ballots = vec![Some(0usize); gold as usize];
    for (i, &num) in others.iter().enumerate() {
        ballots.extend(std::iter::repeat_n(Some(i + 1), num as usize));
    }
    ballots.extend(std::iter::repeat_n(None, none as usize));
    let (mut right, mut sets) = (0.0, 0.0);
    for set in 0u32..1 << ballots.len() {
        if set.count_ones() != k {
            continue;
        }
        sets += 1.0;
        let mut counts = vec![0; others.len() + 1];
        for (i, ballot) in ballots.iter().enumerate() {
            if set >> i & 1 == 1
                && let Some(key) = ballot
            {
                counts[*key] += 1;
            }
        }
        let best = *counts.iter().max().unwrap();
        if counts[0] == best && best > 0 {
            right += 1.0 / counts.iter().filter(|&&count| count == best).count() as f64;
        }
    }
    right / sets
}

fn timeless(mut outcome: Outcome) -> Outcome {
    outcome.cost = trivium_vote::Cost { samples: outcome.cost.samples, ..Default::default() };
    outcome
}

/// One event of a random life.
#[derive(Debug, Clone)]
enum Event {
    Tokens(Vec<(usize, i64, f64)>),
    Text(usize, &'static str),
    Probe(usize, &'static str),
    Segment(usize, f64),
    Fork(usize, u32),
    Finish(usize, &'static str, usize),
}

fn event() -> impl Strategy<Value = Event> {
    let answer = prop::sample::select(vec!["1", "2", "no number", "The answer is 1. "]);
    let row = (0usize..8, 0i64..3, -3.0f64..0.0);
    prop_oneof![
        2 => prop::collection::vec(row, 0..20).prop_map(Event::Tokens),
        1 => (0usize..8, prop::sample::select(vec!["so ", "answer: 1\n", "\\boxed{2}", "x"]))
            .prop_map(|(t, text)| Event::Text(t, text)),
        1 => (0usize..8, answer.clone()).prop_map(|(t, text)| Event::Probe(t, text)),
        1 => (0usize..8, 0.0f64..1.0).prop_map(|(t, r)| Event::Segment(t, r)),
        1 => (0usize..8, 1u32..3).prop_map(|(t, n)| Event::Fork(t, n)),
        4 => (0usize..8, answer, 0usize..4).prop_map(|(t, text, r)| Event::Finish(t, text, r)),
    ]
}

fn running(actions: &[Action], list: &mut Vec<i64>) {
    for action in actions {
        match action {
            Action::Launch { first, num, .. } | Action::Fork { first, num, .. } => {
                list.extend((*first..first + num).map(i64::from));
            }
            Action::Cancel { traces, .. } => list.retain(|t| !traces.contains(&(*t as u32))),
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn p05_stops_are_monotone_in_their_level(
        keys in prop::collection::vec(0u32..3, 1..60),
        levels in (0.5f64..0.9999, 0.5f64..0.9999),
    ) {
        let (low, high) = (levels.0.min(levels.1), levels.0.max(levels.1));
        for rule in [Rule::Beta, Rule::Dirichlet, |level| Rule::Predictive(level, 1.0)] {
            let stops = |level| Stops::new(&[rule(level)], 60, true);
            let (loose, strict) = (stops(low), stops(high));
            let mut tally = Tally::default();
            for (i, &key) in keys.iter().enumerate() {
                tally.cast(key);
                let rest = 59 - i as u32;
                let stopped = strict.check(&tally, rest).is_some();
                prop_assert!(!stopped || loose.check(&tally, rest).is_some());
            }
        }
    }

    /// Any life of a question, pruned, finished early, forked or not, replays from its log.
    #[test]
    fn p07_a_log_replays_every_life(
        events in prop::collection::vec(event(), 0..60),
        which in 0usize..7,
        late in any::<bool>(),
        tokens in prop::option::of(1u64..200),
        pool in prop::sample::select(vec!["free", "fifo", "marginal"]),
        close in any::<bool>(),
    ) {
        let (weight, prune, probe, early) = [
            ("one", "loop:2:6", None, false),
            ("leaf", "cover:0.9:4", Some("provisional:0.5:2"), false),
            ("reward", "loop:3:9", None, false),
            ("rpc", "loop:2:8", None, false),
            ("cisc", "conf_floor:50", Some("temporal:linear"), false),
            ("one", "cover:1", None, true),
            ("deepconf:50:tail", "conf_floor:10", None, true),
        ][which];
        let mut voter = Voter::new(VoterConfig {
            weight: weight.into(),
            prune: vec![prune.into()],
            probe: probe.map(str::to_owned),
            finish_on_answer: early,
            stop: vec!["majority".into()],
            accept: Some(0.3),
            count_late: late,
            max_tokens: tokens,
            pool: pool.into(),
            window: 3,
            budget: 12,
            ..VoterConfig::default()
        })
        .unwrap();
        let q = voter.open("q", OpenOptions::default()).unwrap() as i64;
        let mut list: Vec<i64> = Vec::new();
        running(&voter.launches(), &mut list);
        for event in events {
            if list.is_empty() {
                break;
            }
            let at = |t: usize| list[t % list.len()];
            // Some are refused, such as a ballot without what its weight reads: nothing happens then.
            let done = match event {
                Event::Tokens(rows) => {
                    let traces: Vec<i64> = rows.iter().map(|row| at(row.0)).collect();
                    let ids: Vec<i64> = rows.iter().map(|row| row.1).collect();
                    let logprobs: Vec<f64> = rows.iter().map(|row| row.2).collect();
                    let confs: Vec<f64> = logprobs.iter().map(|lp| -lp).collect();
                    voter.tokens(TokenBatch {
                        ids: &ids,
                        logprobs: &logprobs,
                        confs: &confs,
                        ..TokenBatch::new(&vec![q; traces.len()], &traces)
                    })
                }
                Event::Text(t, text) => voter.text(q, at(t), text),
                Event::Probe(t, text) => voter.probe(q, at(t), Said::Text(text)),
                Event::Segment(t, reward) => voter.segment(q, at(t), reward),
                Event::Fork(t, num) => voter.fork(q, at(t), num),
                Event::Finish(t, text, reason) => {
                    let trace = at(t);
                    let reason = Reason::ALL[reason].1;
                    let done =
                        voter.finish(q, trace, End { reason, ..End::new(Said::Text(text)) });
                    if done.is_ok() {
                        list.retain(|t| *t != trace);
                    }
                    done
                }
            };
            if let Ok(actions) = done {
                running(&actions, &mut list);
            }
        }
        if close {
            voter.close(q).unwrap();
        }
        let mut said = voter.result(q).unwrap();
        let mut again = Voter::replay(&voter.log(q).unwrap()).unwrap();
        // Of traces that never ended a log holds nothing.
        (said.cost.tokens, again.cost.tokens) = (0, 0);
        (said.provisional, again.provisional) = (Vec::new(), Vec::new());
        prop_assert_eq!(again, said);
    }

    /// Under launch order no schedule of finishing changes a result, whatever weighs the ballots.
    #[test]
    fn p08_arrival_changes_nothing_under_launch_order(
        rows in prop::collection::vec((0u32..3, 0.1f64..1.0, 1u64..40), 12),
        weight in prop::sample::select(vec![
            "one", "normalised", "unnormalised:mean", "cisc:0.2", "borda:2", "reward:0.5", "ppl", "pc",
            "rpc", "length:1", "soft:min", "user",
        ]),
        order in prop::collection::vec(any::<prop::sample::Index>(), 12),
    ) {
        let run = |pick: &dyn Fn(usize, usize) -> usize| {
            let mut voter = Voter::new(VoterConfig {
                weight: weight.into(),
                stop: vec![if weight == "user" { "beta:0.9" } else { "share:0.8:6" }.into()],
                latency: Latency::Max,
                budget: 12,
                ..VoterConfig::default()
            })
            .unwrap();
            let q = voter.open("q", OpenOptions::default()).unwrap() as i64;
            voter.launches();
            let mut left: Vec<usize> = (0..12).collect();
            for i in 0..12 {
                let trace = left.remove(pick(i, left.len()));
                let (key, value, tokens) = rows[trace];
                let name = key.to_string();
                let end = End {
                    sum_logprob: Some(-value * tokens as f64),
                    num_tokens: Some(tokens),
                    confidence: Some(value),
                    reward: Some(value),
                    weight: Some(value),
                    ..End::new(Said::Answer(&name))
                };
                if voter.result(q).unwrap().stop.is_none() {
                    voter.finish(q, trace as i64, end).unwrap();
                }
            }
            timeless(voter.result(q).unwrap())
        };
        let shuffled = run(&|i, left| order[i].index(left));
        prop_assert_eq!(run(&|_, _| 0), shuffled);
    }

    #[test]
    fn p09_merged_clusters_are_those_of_merged_keys(
        keys in prop::collection::vec(0u32..6, 1..40),
        into in 0u32..6,
        from in 0u32..6,
    ) {
        let run = |keys: &mut dyn Iterator<Item = u32>| {
            let mut names: Vec<u32> = Vec::new();
            let mut tally = Tally::default();
            for key in keys {
                let id = names.iter().position(|name| *name == key).unwrap_or_else(|| {
                    names.push(key);
                    names.len() - 1
                });
                tally.cast(id as u32);
            }
            (tally, names)
        };
        let (mut late, names) = run(&mut keys.iter().copied());
        let id = |key: u32| names.iter().position(|name| *name == key).map(|id| id as u32);
        prop_assume!(id(into).is_some() && id(from).is_some());
        late.merge(id(into).unwrap(), id(from).unwrap());
        let (early, joined) = run(&mut keys.iter().map(|&key| if key == from { into } else { key }));
        prop_assert_eq!(late.top_two(), early.top_two());
        prop_assert_eq!(late.num_cast(), early.num_cast());
        let name = late.leader().map(|id| names[id as usize]);
        let name = name.map(|key| if key == from { into } else { key });
        prop_assert_eq!(name, early.leader().map(|id| joined[id as usize]));
    }

    #[test]
    fn p13_pruning_leaves_enough_traces(
        sets in prop::collection::vec(prop::collection::vec(0u32..12, 0..8), 1..10),
        keep in 1usize..6,
        gamma in 0.0f64..=1.0,
    ) {
        let kept = cover::keep(&sets, &vec![1.0; sets.len()], gamma, keep);
        prop_assert!(kept.len() >= keep.min(sets.len()));
        let of = |list: &mut dyn Iterator<Item = usize>| -> BTreeSet<u32> {
            list.flat_map(|i| sets[i].iter().copied()).collect()
        };
        let (all, left) = (of(&mut (0..sets.len())), of(&mut kept.iter().copied()));
        prop_assert!(left.len() as f64 >= gamma * all.len() as f64);
        // Inside a vote: each sweep leaves at least so many running.
        let config = VoterConfig {
            prune: vec![format!("cover:{gamma}:2:{keep}")],
            stop: vec!["majority".into()],
            latency: Latency::Max,
            budget: sets.len() as u32,
            bare: true,
            ..VoterConfig::default()
        };
        let mut voter = Voter::new(config).unwrap();
        let q = voter.open("q", OpenOptions::default()).unwrap() as i64;
        let mut list = Vec::new();
        running(&voter.launches(), &mut list);
        for at in 0..8 {
            for trace in list.clone() {
                if !list.contains(&trace) {
                    continue;
                }
                let Some(&id) = sets[trace as usize].get(at) else { continue };
                let (ids, questions, traces) = ([i64::from(id)], [q], [trace]);
                let batch = TokenBatch { ids: &ids, ..TokenBatch::new(&questions, &traces) };
                running(&voter.tokens(batch).unwrap(), &mut list);
            }
            prop_assert!(list.len() >= keep.min(sets.len()));
        }
    }

    #[test]
    fn p15_weight_on_the_last_step_alone_is_the_last_answer(
        keys in prop::collection::vec(prop::option::weighted(0.8, 0u32..4), 1..20),
    ) {
        let (winner, _) = temporal_vote(&keys, keys.len(), StepWeight::Exponential(690.0));
        prop_assert_eq!(winner, keys.iter().rev().flatten().copied().next());
    }

    #[test]
    fn p19_planes_are_the_direct_formula(
        texts in prop::collection::vec("[ab\u{e9}\u{1f600} ]{0,9}|[a-c ]{0,30}", 1..7),
    ) {
        let list: Vec<&str> = texts.iter().map(String::as_str).collect();
        let (_, scores) = mbr(&list, &[], Utility::ChrF).unwrap();
        for (h, score) in list.iter().zip(scores) {
            let direct: f64 = list.iter().map(|r| chrf(h, r)).sum::<f64>() / list.len() as f64;
            prop_assert!((score - direct).abs() < 1e-9, "{h:?}: {score} {direct}");
        }
    }

    #[test]
    fn p20_majorities_at_k_are_those_of_all_subsets(
        gold in 0u32..5,
        others in prop::collection::vec(1u32..4, 0..3),
        none in 0u32..3,
    ) {
        let n = gold + others.iter().sum::<u32>() + none;
        for k in 1..=n.min(12) {
            let (found, all) = (majority_at(gold, &others, none, k), enumerated(gold, &others, none, k));
            prop_assert!((found - all).abs() < 1e-9, "{k}: {found} {all}");
        }
    }
}

#[test]
fn p11_compensated_and_naive_sums_agree() {
    let weights: Vec<f64> =
        (0..1_000_000u32).map(|i| f64::from(i % 1009 * 7919 % 1000 + 1) / 997.0).collect();
    let keys: Vec<u32> = (0..1_000_000u32).map(|i| i % 3).collect();
    let found = sums(&keys, &weights);
    let mut naive = [0.0; 3];
    keys.iter().zip(&weights).for_each(|(&key, w)| naive[key as usize] += w);
    for (x, y) in found.iter().zip(naive) {
        assert!((x / y - 1.0).abs() < 1e-12, "{x} {y}");
    }
}
